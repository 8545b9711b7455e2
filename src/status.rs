//! The state of a gate at a glance: for people as an SMTP reply 211 (RFC 5321 section 4.2.3), for programs as JSON.

use crate::gate::{Counts, Gate};
use crate::mode::Mode;
use crate::shown;
use serde_json::{Value, json};
use std::fmt;

/// Most lists that a reply names; an SMTP client would not read on.
const MAX_SHOWN: usize = 50;

/// The state of a gate.
#[derive(Clone, Debug)]
pub struct Status {
    /// Name of this host; empty before the first load.
    pub hostname: String,
    /// The mode in force.
    pub mode: Mode,
    /// When the rules in force were loaded: seconds since 1970-01-01 UTC; 0 before the first load.
    pub loaded: u64,
    /// What the gate has done and has in force.
    pub counts: Counts,
    /// The lists in the order in which they decide.
    pub lists: Vec<ListStatus>,
}

/// A list in force.
#[derive(Clone, Debug)]
pub struct ListStatus {
    /// Its name in the policy.
    pub name: String,
    /// What it is: `allow list`, `watched block list`, ...
    pub kind: String,
    /// How many entries it has.
    pub entries: usize,
    /// How often it decided, or would have.
    pub hits: u64,
}

impl Status {
    /// The state of a gate now.
    pub fn of(gate: &Gate) -> Status {
        let ruleset = gate.ruleset();
        let lists = ruleset.lists().filter(|list| list.is_of_policy()).map(|list| ListStatus {
            name: list.name.to_string(),
            kind: shown::kind(list),
            entries: list.len(),
            hits: list.hits(),
        });
        Status {
            hostname: ruleset.hostname().to_owned(),
            mode: gate.mode(),
            loaded: gate.loaded(),
            counts: gate.counts(),
            lists: lists.collect(),
        }
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        let Status { hostname, mode, loaded, counts, lists } = self;
        let lists = lists.iter().map(|list| json!({"name": list.name, "kind": list.kind, "entries": list.entries, "hits": list.hits}));
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "hostname": hostname,
            "mode": mode.name(),
            "generation": counts.generation,
            "loaded": (*loaded != 0).then(|| shown::time(*loaded)),
            "failed_loads": counts.failed_loads,
            "networks": counts.networks,
            "domains": counts.domains,
            "bans": counts.bans,
            "checks": counts.checks,
            "rejected": counts.rejected,
            "deferred": counts.deferred,
            "would_refuse": counts.would_refuse,
            "lists": lists.collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Status {
    /// Lines of a reply 211, with CR LF between them and none behind the last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Status { hostname, mode, loaded, counts, lists } = self;
        let host = if hostname.is_empty() { "localhost" } else { hostname };
        write!(f, "211-{host} mxgate {}, mode {mode}\r\n", env!("CARGO_PKG_VERSION"))?;
        match *loaded {
            0 => f.write_str("211-No rules are loaded: everybody goes on\r\n")?,
            loaded => write!(f, "211-Rules of load {}, {}\r\n", counts.generation, shown::time(loaded))?,
        }
        let Counts { networks, domains, bans, checks, rejected, deferred, would_refuse, failed_loads, .. } = counts;
        write!(f, "211-{networks} networks, {domains} domains, {bans} bans; {failed_loads} loads failed\r\n")?;
        write!(f, "211-{checks} checks: {rejected} rejected, {deferred} deferred, {would_refuse} would have been refused\r\n")?;
        for list in lists.iter().take(MAX_SHOWN) {
            write!(f, "211-{} {}: {} entries, {} hits\r\n", list.kind, list.name, list.entries, list.hits)?;
        }
        if let Some(more) = lists.len().checked_sub(MAX_SHOWN).filter(|more| *more > 0) {
            write!(f, "211-and {more} more lists\r\n")?;
        }
        f.write_str("211 End of status")
    }
}
