//! The ruleset: a compiled policy, immutable, asked by any number of threads. The order of decision stands here.

use crate::compile::seconds;
use crate::contents::{About, Contents, Entry as ListEntry};
use crate::domain::{DomainTable, Folded, fold};
use crate::facts::Facts;
use crate::list::Seconds;
use crate::mailbox::Mailbox;
use crate::networks::{Chains, Cover, EntryId, Link, NetworkTable};
use crate::policy::{Conduct, Exempt, ListName, RESERVED};
use crate::reply::{Reply, Values};
use crate::verdict::{Decider, Entry, Rejection, Verdict};
use arrayvec::ArrayString;
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// A compiled policy.
#[derive(Debug)]
pub struct Ruleset {
    pub(crate) generation: u64,
    pub(crate) hostname: Folded,
    /// The reply to everybody; `None` in mode open.
    pub(crate) mode: Option<Reply>,
    /// Never-block set, allow lists, block lists: the order in which they decide.
    pub(crate) lists: Vec<List>,
    pub(crate) networks: NetworkTable,
    pub(crate) address_chains: Chains,
    pub(crate) domain_lists: Vec<List>,
    pub(crate) domains: DomainTable,
    pub(crate) domain_chains: Chains,
}

/// A list in force.
#[derive(Debug)]
pub struct List {
    /// Its name in the policy.
    pub name: ListName,
    pub(crate) role: Decider,
    pub(crate) conduct: Conduct,
    pub(crate) contents: Arc<Contents>,
    /// Number before that of its first entry.
    pub(crate) base: EntryId,
    /// How often it decided, or would have. Goes on where the list of that name before a load stopped.
    pub(crate) hits: Arc<AtomicU64>,
}

/// What a mail server has to tell us for a ruleset to work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stages {
    /// The client's address.
    pub connect: bool,
    /// Each recipient.
    pub rcpt: bool,
}

/// An entry that matched, as far as a reply needs it.
pub(crate) struct Match<'a> {
    pub list: &'a List,
    pub entry: &'a ListEntry,
    /// What the client or recipient is, cut to the entry.
    pub about: Entry,
}

/// The lists that cover something, in the order in which they decide.
struct Covering<'a> {
    lists: &'a [List],
    chains: &'a Chains,
    cover: Cover,
    /// Whether what is decided counts as a hit of the list.
    counted: bool,
}

impl<'a> Covering<'a> {
    /// The list and the entry with a number.
    fn locate(&self, entry: EntryId) -> Option<(&'a List, &'a ListEntry)> {
        let at = self.lists.partition_point(|list| list.base < entry).checked_sub(1)?;
        let list = self.lists.get(at)?;
        Some((list, list.contents.entry(entry - list.base)?))
    }

    fn count(&self, list: &List) {
        if self.counted {
            list.hits.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The entry that decides, and the first list that would have refused if it were not only watched.
    fn decide(&self, situation: Exempt, facts: &Facts<'_>) -> (Option<(&'a List, &'a ListEntry)>, Option<&'a List>) {
        let (mut cover, mut watched, mut over) = (self.cover, None, None);
        // The clock is read if an entry depends on it, and not before.
        let mut now: Option<Seconds> = facts.now;
        while let Link::Entry(number, rest) = self.chains.first(cover) {
            cover = rest;
            let Some((list, entry)) = self.locate(number) else { break };
            let passed = over.is_some_and(|over| std::ptr::eq(over, list)) || list.conduct.exempt.meets(situation);
            if passed || entry.expires != 0 && entry.is_over(*now.get_or_insert_with(|| seconds(SystemTime::now()))) {
                continue;
            }
            if entry.hole {
                over = Some(list);
            } else if list.conduct.shadow {
                self.count(list);
                watched = watched.or(Some(list));
                over = Some(list);
            } else {
                self.count(list);
                return (Some((list, entry)), watched);
            }
        }
        (None, watched)
    }
}

impl Ruleset {
    /// Decides about a client that has just connected.
    pub fn connect(&self, facts: &Facts<'_>) -> Verdict {
        self.at_connect(facts, true)
    }

    /// Decides about one recipient, the client's address included.
    pub fn rcpt(&self, facts: &Facts<'_>) -> Verdict {
        self.at_rcpt(facts, true)
    }

    /// The same; `counted` says whether it is a hit of the list that decides.
    pub(crate) fn at_connect(&self, facts: &Facts<'_>, counted: bool) -> Verdict {
        if let Some(reply) = &self.mode {
            return self.by_mode(reply, facts);
        }
        self.by_address(connecting(facts), facts, None, counted)
    }

    /// The same; `counted` says whether it is a hit of the list that decides.
    pub(crate) fn at_rcpt(&self, facts: &Facts<'_>, counted: bool) -> Verdict {
        if let Some(reply) = &self.mode {
            return self.by_mode(reply, facts);
        }
        let mailbox = Mailbox::parse(facts.recipient.unwrap_or_default());
        let domain = mailbox.domain.and_then(fold);
        let by_address = self.by_address(situation(facts, &mailbox), facts, domain.as_ref(), counted);
        if by_address.decider == Decider::NeverBlock || !by_address.is_accept() {
            return by_address;
        }
        let Some(mut by_domain) = domain.and_then(|domain| self.by_domain(facts, &domain, counted)) else { return by_address };
        by_domain.shadow = by_address.shadow;
        by_domain
    }

    /// What a mail server has to tell for this ruleset to work.
    pub fn stages(&self) -> Stages {
        Stages { connect: !self.networks.is_empty(), rcpt: true }
    }

    /// Number of the load that this ruleset came from.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The list with that name.
    pub fn list(&self, name: &str) -> Option<&List> {
        self.lists.iter().chain(&self.domain_lists).find(|list| list.name.as_str() == name)
    }

    /// All lists in the order in which they decide: never-block set, allow lists, block lists, domain lists.
    pub fn lists(&self) -> impl Iterator<Item = &List> {
        self.lists.iter().chain(&self.domain_lists)
    }

    /// The reply to everybody; `None` in mode open.
    pub fn mode_reply(&self) -> Option<&Reply> {
        self.mode.as_ref()
    }

    /// Name of this host, for its greeting.
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// How many entries the address lists of the policy have.
    pub fn network_count(&self) -> usize {
        self.lists.iter().filter(|list| !RESERVED.contains(&list.name.as_str())).map(List::len).sum()
    }

    /// How many names the domain lists name.
    pub fn domain_count(&self) -> usize {
        self.domain_lists.iter().map(List::len).sum()
    }

    pub(crate) fn accept(&self) -> Verdict {
        Verdict::accept(self.generation)
    }

    pub(crate) fn by_mode(&self, reply: &Reply, facts: &Facts<'_>) -> Verdict {
        let rejection = self.rejection(reply, facts, &Values::default());
        Verdict { rejection: Some(rejection), decider: Decider::Mode, ..self.accept() }
    }

    fn by_address(&self, situation: Exempt, facts: &Facts<'_>, domain: Option<&Folded>, counted: bool) -> Verdict {
        let Some(address) = facts.address.map(|address| address.to_canonical()) else { return self.accept() };
        let covering = Covering { lists: &self.lists, chains: &self.address_chains, cover: self.networks.get(address), counted };
        let (decided, watched) = covering.decide(situation, facts);
        let mut verdict = match decided {
            None => self.accept(),
            Some((list, entry)) => {
                let connect = situation.meets(Exempt::CONNECTION);
                self.verdict(&Match { list, entry, about: list.about(entry) }, connect, facts, domain)
            }
        };
        if let Some(list) = watched {
            verdict.shadow = list.name;
        }
        verdict
    }

    fn by_domain(&self, facts: &Facts<'_>, domain: &Folded, counted: bool) -> Option<Verdict> {
        let cover = self.domains.get(domain);
        if cover.is_none() {
            return None;
        }
        let covering = Covering { lists: &self.domain_lists, chains: &self.domain_chains, cover, counted };
        let (list, entry) = covering.decide(Exempt::default(), facts).0?;
        Some(self.verdict(&Match { list, entry, about: list.about(entry) }, false, facts, Some(domain)))
    }

    pub(crate) fn verdict(&self, matched: &Match<'_>, connect: bool, facts: &Facts<'_>, domain: Option<&Folded>) -> Verdict {
        let Match { list, entry, about } = *matched;
        let reason = list.contents.reason(entry);
        let values = Values { list: &list.name, reason, domain: domain.map_or("", |domain| domain), ..Values::default() };
        let rejection = list.reply(entry, connect).map(|reply| self.rejection(reply, facts, &values));
        Verdict {
            rejection,
            decider: list.role,
            list: list.name,
            entry: about,
            line: entry.line,
            reason: ArrayString::from(reason).unwrap_or_default(),
            ..self.accept()
        }
    }

    /// Fills in a reply. What is not known reads as a word, so that no reply has a gap.
    fn rejection(&self, reply: &Reply, facts: &Facts<'_>, values: &Values<'_>) -> Rejection {
        let ip = facts.address.map_or_else(|| ArrayString::from("unknown").unwrap_or_default(), show_address);
        let values = Values {
            ip: &ip,
            list: or(values.list, "local policy"),
            reason: or(values.reason, "no reason given"),
            domain: or(values.domain, &self.hostname),
            hostname: &self.hostname,
        };
        Rejection { code: reply.code, status: reply.status, hang_up: reply.hang_up, text: reply.fill(&values), host: self.hostname }
    }
}

impl List {
    /// What kind of rule its entries are.
    pub fn role(&self) -> Decider {
        self.role
    }

    /// What it refuses with; `None` if it refuses nobody. A line of a list may ask for another reply.
    pub fn refusal(&self) -> Option<&Reply> {
        self.conduct.reply.as_ref()
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.contents.entries.len()
    }

    /// Whether it has no entry.
    pub fn is_empty(&self) -> bool {
        self.contents.entries.is_empty()
    }

    /// How often it decided, or would have refused if it were enforced: once for each question, a connection or a
    /// recipient. Goes on over loads as long as the policy has a list of that name.
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// Counts on where the list of that name stopped.
    pub(crate) fn continue_counting(&mut self, previous: &Ruleset) {
        if let Some(list) = previous.list(&self.name) {
            self.hits = Arc::clone(&list.hits);
        }
    }

    /// An entry as a verdict names it.
    pub(crate) fn about(&self, entry: &ListEntry) -> Entry {
        match self.contents.about(entry) {
            Some(About::Network(network)) => Entry::Network(network),
            Some(About::Domain(form, name)) => Entry::Domain(form, Folded::from(name).unwrap_or_default()),
            Some(About::Mailbox(_)) | None => Entry::None,
        }
    }

    /// The file in which the entry that decided stands.
    pub fn file(&self, verdict: &Verdict) -> &str {
        // Lines count from 1 in each file; where a list has several, the entry tells which.
        let found = self.contents.live().find(|(_, entry)| entry.line == verdict.line && self.is_about(entry, verdict));
        found.map_or("", |(_, entry)| self.contents.file(entry))
    }

    fn is_about(&self, entry: &ListEntry, verdict: &Verdict) -> bool {
        match (self.contents.about(entry), &verdict.entry) {
            (Some(About::Network(one)), Entry::Network(other)) => one == *other,
            (Some(About::Domain(form, name)), Entry::Domain(other, other_name)) => form == *other && name == other_name.as_str(),
            _ => false,
        }
    }

    /// What it answers: that of the line first, then that of the stage.
    fn reply(&self, entry: &ListEntry, connect: bool) -> Option<&Reply> {
        if !matches!(self.role, Decider::Block | Decider::Domain) {
            return None;
        }
        let of_stage = if connect { self.conduct.connect_reply.as_ref() } else { None };
        self.contents.reply(entry).or(of_stage).or(self.conduct.reply.as_ref())
    }
}

/// The situation of a connection.
pub(crate) fn connecting(facts: &Facts<'_>) -> Exempt {
    let authenticated = if facts.authenticated { Exempt::AUTHENTICATED } else { Exempt::default() };
    authenticated.and(Exempt::CONNECTION)
}

/// Who asks, as far as lists pass somebody over for it.
pub(crate) fn situation(facts: &Facts<'_>, mailbox: &Mailbox<'_>) -> Exempt {
    let mut situation = Exempt::default();
    for (holds, bit) in
        [(facts.authenticated, Exempt::AUTHENTICATED), (mailbox.is_postmaster(), Exempt::POSTMASTER), (mailbox.is_abuse(), Exempt::ABUSE)]
    {
        if holds {
            situation = situation.and(bit);
        }
    }
    situation
}

/// A value, or what stands for it where there is none.
fn or<'a>(value: &'a str, default: &'a str) -> &'a str {
    if value.is_empty() { default } else { value }
}

/// An address as text without allocating; 45 bytes hold the longest one.
fn show_address(address: IpAddr) -> ArrayString<45> {
    let mut text = ArrayString::new();
    // Cannot fail: the text of every address fits.
    let _ = write!(text, "{}", address.to_canonical());
    text
}
