//! The ruleset: a compiled policy, immutable, asked by any number of threads. The order of decision stands here.

use crate::domain::{DomainTable, Folded, Form, fold};
use crate::facts::Facts;
use crate::mailbox::Mailbox;
use crate::networks::NetworkTable;
use crate::policy::ListName;
use crate::reply::{Reply, Values};
use crate::verdict::{Decider, Entry, Rejection, Verdict};
use arrayvec::ArrayString;
use ipnet::IpNet;
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

/// A compiled policy.
#[derive(Clone, Debug)]
pub struct Ruleset {
    pub(crate) generation: u64,
    pub(crate) hostname: Folded,
    /// The reply to everybody; `None` in mode open.
    pub(crate) mode: Option<Reply>,
    /// Never-block set, allow lists, block lists: the order in which they decide.
    pub(crate) lists: Vec<ListInfo>,
    /// Entries of the address lists; number 1 of the network table is the first.
    pub(crate) entries: Vec<NetworkEntry>,
    pub(crate) networks: NetworkTable,
    pub(crate) domain_lists: Vec<ListInfo>,
    /// Entries of the domain lists; number 1 of the domain table is the first.
    pub(crate) domain_entries: Vec<DomainEntry>,
    pub(crate) domains: DomainTable,
    /// All reasons, one behind the other.
    pub(crate) reasons: String,
}

/// What is known about a list.
#[derive(Clone, Debug)]
pub struct ListInfo {
    /// Its name in the policy.
    pub name: ListName,
    /// The file that its entries stand in; for inline entries the policy file.
    pub file: Arc<str>,
    pub(crate) role: Decider,
    /// Only what refuses has one.
    pub(crate) reply: Option<Reply>,
}

impl ListInfo {
    /// What kind of rule its entries are.
    pub fn role(&self) -> Decider {
        self.role
    }

    /// What it refuses with; `None` if it refuses nobody.
    pub fn reply(&self) -> Option<&Reply> {
        self.reply.as_ref()
    }
}

/// Place of a reason in [`Ruleset::reasons`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reason {
    pub start: u32,
    pub length: u8,
}

/// An entry of an address list. Its address is not kept: it is the client's, cut to the length of the prefix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NetworkEntry {
    pub line: u32,
    pub list: u16,
    pub prefix_len: u8,
    pub reason: Reason,
}

/// An entry of a domain list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DomainEntry {
    pub line: u32,
    pub list: u16,
    pub form: Form,
    /// Number of the name in the table.
    pub name: u32,
    pub reason: Reason,
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
struct Match<'a> {
    list: &'a ListInfo,
    entry: Entry,
    line: u32,
    reason: &'a str,
}

impl Ruleset {
    /// Decides about a client that has just connected.
    pub fn connect(&self, facts: &Facts<'_>) -> Verdict {
        if let Some(reply) = &self.mode {
            return self.by_mode(reply, facts);
        }
        if facts.authenticated { self.accept() } else { self.by_address(facts, &Folded::new()) }
    }

    /// Decides about one recipient, the client's address included.
    pub fn rcpt(&self, facts: &Facts<'_>) -> Verdict {
        if let Some(reply) = &self.mode {
            return self.by_mode(reply, facts);
        }
        let mailbox = Mailbox::parse(facts.recipient.unwrap_or_default());
        let domain = mailbox.domain.and_then(fold).unwrap_or_default();
        let by_address = self.by_address(facts, &domain);
        let exempt = facts.authenticated || mailbox.is_postmaster_or_abuse();
        if by_address.decider == Decider::NeverBlock || !(by_address.is_accept() || exempt) {
            return by_address;
        }
        match self.by_domain(facts, &domain) {
            Some(refused) => refused,
            None if by_address.is_accept() => by_address,
            None => self.accept(),
        }
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
    pub fn list(&self, name: &str) -> Option<&ListInfo> {
        self.lists.iter().chain(&self.domain_lists).find(|list| list.name.as_str() == name)
    }

    /// All lists in the order in which they decide: never-block set, allow lists, block lists, domain lists.
    pub fn lists(&self) -> impl Iterator<Item = &ListInfo> {
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

    /// How many networks the address lists name, holes not counted.
    pub fn network_count(&self) -> usize {
        self.entries.len()
    }

    /// How many entries the domain lists have.
    pub fn domain_count(&self) -> usize {
        self.domain_entries.len()
    }

    fn accept(&self) -> Verdict {
        Verdict::accept(self.generation)
    }

    fn by_mode(&self, reply: &Reply, facts: &Facts<'_>) -> Verdict {
        let rejection = self.rejection(reply, facts, &Values::default());
        Verdict { rejection: Some(rejection), decider: Decider::Mode, ..self.accept() }
    }

    fn by_address(&self, facts: &Facts<'_>, domain: &Folded) -> Verdict {
        let Some(address) = facts.address.map(|address| address.to_canonical()) else { return self.accept() };
        let number = self.networks.get(address);
        let Some(entry) = numbered(&self.entries, number) else { return self.accept() };
        let Some(list) = self.lists.get(usize::from(entry.list)) else { return self.accept() };
        let network = IpNet::new(address, entry.prefix_len).map_or(Entry::None, |network| Entry::Network(network.trunc()));
        let matched = Match { list, entry: network, line: entry.line, reason: self.reason(entry.reason) };
        self.verdict(&matched, facts, domain)
    }

    fn by_domain(&self, facts: &Facts<'_>, domain: &Folded) -> Option<Verdict> {
        let entry = numbered(&self.domain_entries, self.domains.get(domain))?;
        let list = self.domain_lists.get(usize::from(entry.list))?;
        let name = Folded::from(self.domains.name(entry.name)).unwrap_or_default();
        let matched = Match { list, entry: Entry::Domain(entry.form, name), line: entry.line, reason: self.reason(entry.reason) };
        Some(self.verdict(&matched, facts, domain))
    }

    fn verdict(&self, matched: &Match<'_>, facts: &Facts<'_>, domain: &Folded) -> Verdict {
        let Match { list, entry, line, reason } = *matched;
        let values = Values { list: &list.name, reason, domain, ..Values::default() };
        let rejection = list.reply.as_ref().map(|reply| self.rejection(reply, facts, &values));
        let reason = ArrayString::from(reason).unwrap_or_default();
        Verdict { rejection, decider: list.role, list: list.name, entry, line, reason, generation: self.generation }
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

    fn reason(&self, reason: Reason) -> &str {
        let start = reason.start as usize;
        self.reasons.get(start..start + usize::from(reason.length)).unwrap_or("")
    }
}

/// A value, or what stands for it where there is none.
fn or<'a>(value: &'a str, default: &'a str) -> &'a str {
    if value.is_empty() { default } else { value }
}

/// Looks up an entry by its number from 1.
fn numbered<T>(entries: &[T], number: u32) -> Option<&T> {
    entries.get(usize::try_from(number).ok()?.checked_sub(1)?)
}

/// An address as text without allocating; 45 bytes hold the longest one.
fn show_address(address: IpAddr) -> ArrayString<45> {
    let mut text = ArrayString::new();
    // Cannot fail: the text of every address fits.
    let _ = write!(text, "{}", address.to_canonical());
    text
}
