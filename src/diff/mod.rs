//! What changes from one ruleset to another, list by list: entries that come and go, and entries of allow lists that block
//! lists now cover; and in the sections that are no lists, key by key. For the control plane: it sorts the entries of lists
//! that are not the same.
//!
//! Entries are compared by what they are about and whether they are holes; how often a list repeats one, and what it says
//! about it, is no difference.

mod covered;
mod sections;

use crate::contents::{About, Contents, Entry};
use crate::covering::List;
use crate::domain::Form;
use crate::networks::EntryId;
use crate::policy::ListName;
use crate::ruleset::Ruleset;
use crate::shown;
use covered::newly_covered;
use ipnet::IpNet;
pub use sections::Section;
use serde_json::{Value, json};
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// What a list is, in messages.
const LIST: &str = "list";

/// What changes from one ruleset to another.
#[derive(Clone, Debug)]
pub struct Diff {
    /// Keys of the policy that are not about one list: `hostname`, `mode`, `limits`, `escalation`, `overload`, `maintenance`, `order of lists`.
    pub settings: Vec<&'static str>,
    /// The lists that are not the same, in the order of the new ruleset; those that are gone come last.
    pub changes: Vec<Change>,
    /// `[relay]` and `[authentication]`, as far as they are not the same.
    pub sections: Vec<Section>,
    /// Entries of the never-block set and of allow lists that a block list now covers and none did before: the first few.
    pub covered: Vec<Covered>,
    /// How many such entries there are.
    pub covered_count: usize,
}

/// What happened to a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// Its entries or its keys in the policy are others.
    Changed,
    /// It could not be loaded, and stays as it was.
    Kept,
}

/// A list that is not the same.
#[derive(Clone, Debug)]
pub struct Change {
    /// What it is: a list of its own, or one of those in `[relay]`.
    kind: &'static str,
    /// Its name.
    pub name: String,
    /// What happened to it.
    pub what: What,
    /// How many different entries it has now, or had if it is gone.
    pub entries: usize,
    /// Keys of the list that have other values: `reply`, `enforce`, ...
    pub settings: Vec<&'static str>,
    added: Entries,
    removed: Entries,
}

/// An entry of an allow list that a block list covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Covered {
    /// The entry.
    pub entry: String,
    /// The list in which it stands.
    pub list: String,
    /// The block list.
    pub by_list: String,
    /// The entry of that list.
    pub by_entry: String,
}

/// Entries of a list. Kept as their numbers: they may be many.
#[derive(Clone, Debug, Default)]
struct Entries {
    contents: Arc<Contents>,
    numbers: Vec<EntryId>,
}

/// What changes from one ruleset to another.
pub fn diff(old: &Ruleset, new: &Ruleset) -> Diff {
    let (old_lists, new_lists) = (named(old), named(new));
    let find = |lists: &[(Name, usize)], name| lists.binary_search_by_key(&name, |(name, _)| *name).ok();
    let mut changes = Vec::new();
    for (place, list) in all(new).enumerate() {
        let before = find(&old_lists, name_of(place, list)).and_then(|at| all(old).nth(old_lists.get(at)?.1));
        changes.extend(match before {
            Some(before) => compare((old, before), (new, list)),
            None => Some(whole(list, What::Added)),
        });
    }
    let gone = all(old).enumerate().filter(|(place, list)| find(&new_lists, name_of(*place, list)).is_none());
    changes.extend(gone.map(|(_, list)| whole(list, What::Removed)));
    let (covered, covered_count) = newly_covered(old, new);
    let settings = [
        ("hostname", old.hostname != new.hostname),
        ("mode", old.mode != new.mode),
        ("bans", old.bans != new.bans),
        ("limits", old.limits != new.limits),
        ("escalation", old.escalation != new.escalation),
        ("overload", old.overload != new.overload),
        ("maintenance", old.maintenance != new.maintenance),
        ("order of lists", !same_order(old, new)),
    ];
    let settings = settings.iter().filter(|(_, differs)| *differs).map(|(key, _)| *key).collect();
    Diff { settings, changes, sections: sections::changed(old, new), covered, covered_count }
}

/// What tells a list from all others: its name, and whether it is built in, because a policy may use the names of those.
type Name = (bool, ListName);

/// The never-block set, and the addresses that no list means.
const BUILT_IN: usize = 2;

fn name_of(place: usize, list: &List) -> Name {
    (place < BUILT_IN, list.name)
}

fn all(ruleset: &Ruleset) -> impl Iterator<Item = &List> {
    // A list of recipients that have opted out may refuse them as well.
    let refuses = |list: &&List| ruleset.recipients.lists.iter().any(|other| other.name == list.name);
    ruleset.lists().chain(ruleset.opt_outs.lists.iter().filter(move |list| !refuses(list)))
}

/// The lists that recipients have opted out of.
fn opted_out(ruleset: &Ruleset, recipients: &List) -> Vec<ListName> {
    ruleset.lists().filter(|list| list.conduct.exempt.meets(recipients.opt_out)).map(|list| list.name).collect()
}

/// The lists by name, each with its place.
fn named(ruleset: &Ruleset) -> Vec<(Name, usize)> {
    let mut names: Vec<(Name, usize)> = all(ruleset).enumerate().map(|(place, list)| (name_of(place, list), place)).collect();
    names.sort_unstable();
    names
}

/// Whether the lists that both have follow each other in the same order.
fn same_order(old: &Ruleset, new: &Ruleset) -> bool {
    let names = |ruleset, other| {
        let others = named(other);
        let known = move |name: &Name| others.binary_search_by_key(name, |(name, _)| *name).is_ok();
        all(ruleset).enumerate().map(|(place, list)| name_of(place, list)).filter(known)
    };
    names(old, new).eq(names(new, old))
}

/// A list that only one of the rulesets has.
fn whole(list: &List, what: What) -> Change {
    let entries = Entries { contents: Arc::clone(&list.contents), numbers: distinct(&list.contents) };
    let (count, none) = (entries.numbers.len(), Entries::default());
    let (added, removed) = if what == What::Removed { (none, entries) } else { (entries, none) };
    Change { kind: LIST, name: list.name.to_string(), what, entries: count, settings: Vec::new(), added, removed }
}

/// A list that both have; `None` if it is the same.
fn compare((old_ruleset, old): (&Ruleset, &List), (new_ruleset, new): (&Ruleset, &List)) -> Option<Change> {
    let mut settings = settings(old, new);
    if opted_out(old_ruleset, old) != opted_out(new_ruleset, new) {
        settings.push("opt_out");
    }
    let change = Change { settings, ..compare_entries(LIST, &new.name, &old.contents, &new.contents) };
    if Arc::ptr_eq(&old.contents, &new.contents) {
        // Nothing is read twice and found the same: this is what the load before this one read.
        let what = if change.settings.is_empty() { What::Kept } else { What::Changed };
        return Some(Change { what, ..change });
    }
    let differs = !change.settings.is_empty() || change.has_other_entries();
    differs.then_some(change)
}

/// The entries that come and go.
fn compare_entries(kind: &'static str, name: &str, old: &Arc<Contents>, new: &Arc<Contents>) -> Change {
    let mut change = Change {
        kind,
        name: name.into(),
        what: What::Changed,
        entries: new.entries.len(),
        settings: Vec::new(),
        added: Entries { contents: Arc::clone(new), numbers: Vec::new() },
        removed: Entries { contents: Arc::clone(old), numbers: Vec::new() },
    };
    // Most lists are the same line by line; then nothing has to be sorted.
    if !Arc::ptr_eq(old, new) && !keys(old).eq(keys(new)) {
        let (before, now) = (distinct(old), distinct(new));
        change.entries = now.len();
        (change.removed.numbers, change.added.numbers) = unmatched(old, &before, new, &now);
    }
    change
}

/// Keys of a list that have other values.
fn settings(old: &List, new: &List) -> Vec<&'static str> {
    let (one, other) = (&old.conduct, &new.conduct);
    let keys = [
        ("allow", old.role != new.role),
        ("reply", one.reply != other.reply || one.connect_reply != other.connect_reply),
        ("at", one.at != other.at),
        ("enforce", one.shadow != other.shadow),
        ("exempt", one.exempt.of_all_lists() != other.exempt.of_all_lists()),
        ("contact", one.contact != other.contact),
        ("delisting", one.delisting != other.delisting),
    ];
    keys.iter().filter(|(_, differs)| *differs).map(|(key, _)| *key).collect()
}

/// What an entry is about, in an order.
type Key<'a> = (u8, u128, u8, &'a [u8], bool);

fn key(contents: &Contents, number: EntryId) -> Option<Key<'_>> {
    let entry = contents.entry(number)?;
    Some(match contents.about(entry)? {
        About::Network(IpNet::V4(net)) => (0, net.network().to_bits().into(), net.prefix_len(), b"", entry.is_hole()),
        About::Network(IpNet::V6(net)) => (1, net.network().to_bits(), net.prefix_len(), b"", entry.is_hole()),
        About::Domain(Form::Exact, name) => (2, 0, 0, name, entry.is_hole()),
        About::Domain(Form::Below, name) => (3, 0, 0, name, entry.is_hole()),
        About::Domain(Form::Both, name) => (4, 0, 0, name, entry.is_hole()),
        About::Mailbox(mailbox) => (5, 0, 0, mailbox, entry.is_hole()),
    })
}

/// What the entries that count are about, in the order of the list.
fn keys(contents: &Contents) -> impl Iterator<Item = Option<Key<'_>>> {
    contents.live().map(|entry| key(contents, entry.number()))
}

/// The numbers of the entries that count, in the order of their keys, none twice.
fn distinct(contents: &Contents) -> Vec<EntryId> {
    let mut numbers: Vec<EntryId> = contents.live().map(Entry::number).collect();
    numbers.sort_unstable_by(|one, other| key(contents, *one).cmp(&key(contents, *other)).then(one.cmp(other)));
    numbers.dedup_by(|one, other| key(contents, *one) == key(contents, *other));
    numbers
}

/// What only the first has, and what only the second has.
fn unmatched(old: &Contents, old_numbers: &[EntryId], new: &Contents, new_numbers: &[EntryId]) -> (Vec<EntryId>, Vec<EntryId>) {
    let (mut gone, mut came) = (Vec::new(), Vec::new());
    let (mut old_rest, mut new_rest) = (old_numbers.iter().peekable(), new_numbers.iter().peekable());
    loop {
        let order = match (old_rest.peek(), new_rest.peek()) {
            (None, None) => return (gone, came),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(one), Some(other)) => key(old, **one).cmp(&key(new, **other)),
        };
        match order {
            Ordering::Less => gone.extend(old_rest.next()),
            Ordering::Greater => came.extend(new_rest.next()),
            Ordering::Equal => {
                old_rest.next();
                new_rest.next();
            }
        }
    }
}

impl Entries {
    fn iter(&self) -> impl Iterator<Item = String> {
        self.numbers.iter().filter_map(|number| self.contents.entry(*number)).map(|entry| shown::entry(&self.contents, entry))
    }
}

impl Change {
    /// How many entries came.
    pub fn added_count(&self) -> usize {
        self.added.numbers.len()
    }

    /// How many entries went.
    pub fn removed_count(&self) -> usize {
        self.removed.numbers.len()
    }

    /// A line; with `{:#}` the entries too.
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{self}")?;
        if f.alternate() {
            self.removed().try_for_each(|entry| writeln!(f, "  -{entry}"))?;
            self.added().try_for_each(|entry| writeln!(f, "  +{entry}"))?;
        }
        Ok(())
    }

    fn has_other_entries(&self) -> bool {
        self.added_count() + self.removed_count() > 0
    }

    fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "what": self.what.name(),
            "entries": self.entries,
            "settings": self.settings,
            "added": self.added().collect::<Vec<_>>(),
            "removed": self.removed().collect::<Vec<_>>(),
        })
    }

    /// The entries that came, as a list has them, in order.
    pub fn added(&self) -> impl Iterator<Item = String> {
        self.added.iter()
    }

    /// The entries that went, as a list has them, in order.
    pub fn removed(&self) -> impl Iterator<Item = String> {
        self.removed.iter()
    }
}

impl Diff {
    /// Whether nothing changes.
    pub fn is_same(&self) -> bool {
        let settings = self.settings.is_empty() && self.sections.is_empty();
        settings && self.covered_count == 0 && self.changes.iter().all(|change| change.what == What::Kept)
    }

    /// All of it, each entry included. The keys stay what they are; there may come more.
    pub fn to_json(&self) -> Value {
        let covered = self.covered.iter().map(|covered| {
            json!({
                "entry": covered.entry,
                "list": covered.list,
                "by_list": covered.by_list,
                "by_entry": covered.by_entry,
            })
        });
        json!({
            "same": self.is_same(),
            "settings": self.settings,
            "lists": self.changes.iter().map(Change::to_json).collect::<Vec<_>>(),
            "sections": self.sections.iter().map(Section::to_json).collect::<Vec<_>>(),
            "covered": { "count": self.covered_count, "first": covered.collect::<Vec<_>>() },
        })
    }

    /// Which allow entries block lists now cover, in one line; `None` if there is none.
    pub fn covered_line(&self) -> Option<String> {
        let (entries, are) = if self.covered_count == 1 { ("entry", "is") } else { ("entries", "are") };
        let named: Vec<String> = self
            .covered
            .iter()
            .map(|Covered { entry, list, by_list, by_entry }| format!("{entry} of {list} by {by_entry} of {by_list}"))
            .collect();
        let more = if self.covered_count > self.covered.len() { ", ..." } else { "" };
        (self.covered_count > 0).then(|| format!("{} allow {entries} {are} now covered: {}{more}", self.covered_count, named.join(", ")))
    }
}

impl What {
    /// The name that programs go by.
    pub fn name(self) -> &'static str {
        match self {
            What::Added => "added",
            What::Removed => "removed",
            What::Changed => "changed",
            What::Kept => "kept",
        }
    }
}

/// `list feed: +12 -3 (200 entries)`
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (added, removed) = (self.added_count(), self.removed_count());
        write!(f, "{} {}: ", self.kind, self.name)?;
        match self.what {
            What::Added => f.write_str("added")?,
            What::Removed => f.write_str("removed")?,
            What::Kept => f.write_str("kept as it was")?,
            What::Changed if added + removed > 0 => write!(f, "+{added} -{removed}")?,
            What::Changed => return write!(f, "{} changed", self.settings.join(", ")),
        }
        write!(f, " ({} {})", self.entries, if self.entries == 1 { "entry" } else { "entries" })?;
        if self.settings.is_empty() { Ok(()) } else { write!(f, "; {} changed", self.settings.join(", ")) }
    }
}

/// A line for each list and section; with `{:#}` the entries too.
impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for key in &self.settings {
            writeln!(f, "{key} changed")?;
        }
        self.changes.iter().try_for_each(|change| change.show(f))?;
        for section in &self.sections {
            section.head().map_or(Ok(()), |line| writeln!(f, "{line}"))?;
            section.lists.iter().try_for_each(|change| change.show(f))?;
        }
        self.covered_line().map_or(Ok(()), |line| writeln!(f, "{line}"))
    }
}
