//! What changes in the sections of a policy that are no lists: `[relay]` and `[authentication]`.

use super::{Change, What, compare_entries};
use crate::policy::AuthRule;
use crate::rules::authentication::AUTHENTICATION;
use crate::ruleset::Ruleset;
use serde_json::{Value, json};

/// Its name in the policy.
const RELAY: &str = "relay";

/// A section that is not the same.
#[derive(Clone, Debug)]
pub struct Section {
    /// Its name: `relay` or `authentication`.
    pub name: &'static str,
    /// Whether its rule is new, gone, or another one. `[relay]` without `local` and `relay` has no rule.
    pub what: What,
    /// Keys that have other values; of `[authentication]` that is new or gone those that do something.
    pub settings: Vec<&'static str>,
    /// `local`, `relay` and `trusted` of `[relay]`, as far as they are not the same.
    pub lists: Vec<Change>,
}

/// The sections that are not the same.
pub(super) fn changed(old: &Ruleset, new: &Ruleset) -> Vec<Section> {
    let sections = [relay(old, new), authentication(old, new)];
    let differs = |section: &Section| section.what != What::Changed || !section.settings.is_empty() || !section.lists.is_empty();
    sections.into_iter().filter(differs).collect()
}

fn relay(old: &Ruleset, new: &Ruleset) -> Section {
    let (old, new) = (&old.relay, &new.relay);
    let domains = old.domains.lists.iter().zip(&new.domains.lists).map(|(old, new)| (new.name.as_str(), &old.contents, &new.contents));
    let lists = domains.chain([("trusted", &old.trusted, &new.trusted)]);
    let lists = lists.map(|(name, old, new)| compare_entries(RELAY, name, old, new)).filter(Change::has_other_entries);
    let settings = match (&old.reply, &new.reply) {
        (Some(one), Some(other)) => differing(&[("routing", old.routing != new.routing), ("reply", one != other)]),
        _ => Vec::new(),
    };
    Section { name: RELAY, what: what(old.reply.is_some(), new.reply.is_some()), settings, lists: lists.collect() }
}

fn authentication(old: &Ruleset, new: &Ruleset) -> Section {
    let (old, new) = (&old.authentication.policy, &new.authentication.policy);
    let what = what(!old.rules.is_empty(), !new.rules.is_empty());
    let lacks = |rules: &[AuthRule], rule: &AuthRule| !rules.contains(rule);
    let gone = old.rules.iter().filter(|rule| lacks(&new.rules, rule));
    let came = new.rules.iter().filter(|rule| lacks(&old.rules, rule));
    let mut settings: Vec<&str> = Vec::new();
    for rule in gone.chain(came) {
        // One with another reply is gone and has come.
        if !settings.contains(&rule.key) {
            settings.push(rule.key);
        }
    }
    if what == What::Changed && !new.rules.is_empty() {
        settings.extend(differing(&[
            ("several_fail", old.several != new.several),
            ("enforce", old.shadow != new.shadow),
            ("exempt", old.exempt != new.exempt),
        ]));
    }
    Section { name: AUTHENTICATION, what, settings, lists: Vec::new() }
}

fn what(before: bool, now: bool) -> What {
    match (before, now) {
        (false, true) => What::Added,
        (true, false) => What::Removed,
        (true, true) | (false, false) => What::Changed,
    }
}

/// The keys that have other values.
fn differing(keys: &[(&'static str, bool)]) -> Vec<&'static str> {
    keys.iter().filter(|(_, differs)| *differs).map(|(key, _)| *key).collect()
}

impl Section {
    /// What happened, a line for the section and one for each of its lists.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.head().into_iter().chain(self.lists.iter().map(Change::to_string))
    }

    /// What happened to the section besides its lists.
    pub(super) fn head(&self) -> Option<String> {
        let (name, keys) = (self.name, self.settings.join(", "));
        match (self.what, self.settings.is_empty()) {
            (What::Changed | What::Kept, true) => None,
            (What::Changed | What::Kept, false) => Some(format!("{name}: {keys} changed")),
            (What::Added | What::Removed, true) => Some(format!("{name}: {}", self.what.name())),
            (What::Added | What::Removed, false) => Some(format!("{name}: {} ({keys})", self.what.name())),
        }
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "what": self.what.name(),
            "settings": self.settings,
            "lists": self.lists.iter().map(Change::to_json).collect::<Vec<_>>(),
        })
    }
}
