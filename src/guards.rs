//! What a list has to pass before it comes into force: a feed that was cut off, emptied, turned into a web page or grown
//! to the whole world must not refuse anybody who was not refused before.

use crate::contents::{About, Contents, Entry, Near};
use crate::diagnostic::Fault;
use crate::list::Seconds;
use crate::networks::{Interval, Intervals, Number};
use crate::policy::Guards;
use crate::shown::span;
use std::net::IpAddr;

/// Lists below this size may shrink and grow freely.
const SMALL: u64 = 100;
/// Entries that are named in a message; the rest are counted.
const NAMED: usize = 3;

/// Why a list is refused, and the line that shows it (1 for the list as a whole).
pub(crate) type Refusal = (u32, Fault);

/// Checks a list against what is demanded of it, against what it says about itself, and against the one in force.
pub(crate) fn check(contents: &Contents, guards: &Guards, made: Option<Seconds>, previous: Option<&Contents>) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let mut refuse = |line, cause: String, remedy: String| refusals.push((line, Fault::new(cause, remedy)));
    let (statement, lines) = (&contents.statement, contents.lines);

    if statement.complete == Some(false) {
        refuse(1, "the list lacks the mark at its end: the download broke off".into(), "download it again".into());
    }
    if let Some(stated) = statement.entries.filter(|stated| *stated != lines) {
        refuse(1, format!("the list says that it has {stated} entries, and has {lines}"), "download it again".into());
    }
    if lines < guards.min_entries {
        refuse(1, format!("the list has {lines} entries"), format!("give at least {}, or change min_entries", guards.min_entries));
    }
    if lines > guards.max_entries {
        refuse(1, format!("the list has {lines} entries"), format!("give at most {}, or change max_entries", guards.max_entries));
    }
    if let (Some(age), Some(made)) = (guards.max_age, made)
        && contents.read.saturating_sub(made) > age
    {
        let age = span(contents.read.saturating_sub(made));
        refuse(1, format!("the list is {age} old"), "find out why it is no longer renewed, or change max_age".into());
    }
    if let Some(before) = previous.map(|previous| previous.lines).filter(|before| *before >= SMALL) {
        let ratio = |of: u64, to: u64| f64_of(of) / f64_of(to.max(1));
        if ratio(before, lines) > guards.max_shrink {
            refuse(
                1,
                format!("the list has shrunk from {before} entries to {lines}"),
                "check it; if it is right, change max_shrink".into(),
            );
        }
        if ratio(lines, before) > guards.max_grow {
            refuse(1, format!("the list has grown from {before} entries to {lines}"), "check it; if it is right, change max_grow".into());
        }
    }
    for (number, (entry, text)) in wide(contents, guards).enumerate() {
        if number >= NAMED {
            refuse(contents.line(entry), "more entries are wider than the limit".into(), "see above".into());
            break;
        }
        let remedy = "name smaller networks, or change widest_v4 or widest_v6";
        refuse(contents.line(entry), format!("{text} is wider than the limit"), remedy.into());
    }
    let covered = |address: &IpAddr| !contents.covering(*address).is_none();
    for address in guards.must_not_match.iter().filter(|address| covered(address)) {
        let line = contents.intervals().chains.entries(contents.covering(*address)).next().and_then(|entry| contents.entry(entry));
        let remedy = "the list is wrong, or change must_not_match";
        refuse(line.map_or(1, |entry| contents.line(entry)), format!("the list covers {address}, which it must not"), remedy.into());
    }
    for address in guards.must_match.iter().filter(|address| !covered(address)) {
        refuse(1, format!("the list does not cover {address}, which it must"), "the list is not whole, or change must_match".into());
    }
    refusals
}

/// Entries whose prefix is shorter than the policy or the list itself allows.
fn wide<'a>(contents: &'a Contents, guards: &'a Guards) -> impl Iterator<Item = (Entry, String)> {
    let widest = [guards.widest_v4.max(contents.statement.widest_v4.unwrap_or(0)), guards.widest_v6];
    // Lists without any, which is nearly all of them, are not searched entry by entry.
    let some = contents.intervals().shortest.iter().zip(widest).any(|(shortest, widest)| *shortest < widest);
    let entries = some.then(|| contents.live().filter(|entry| !entry.is_hole()));
    entries.into_iter().flatten().filter_map(move |entry| match contents.about(entry)? {
        About::Network(network) => {
            let [widest_v4, widest_v6] = widest;
            let widest = if network.addr().is_ipv4() { widest_v4 } else { widest_v6 };
            (network.prefix_len() < widest).then(|| (entry, format!("{network}")))
        }
        About::Domain(..) | About::Mailbox(_) => None,
    })
}

/// The entries of a list, with what they come to, that cover addresses of another one, which wins over it: how many, and the
/// first few.
pub(crate) fn covering(contents: &Contents, intervals: &Intervals, protected: &Intervals) -> Option<(usize, u32, String)> {
    // Lists that do not meet at all, which is nearly all of them, are not searched entry by entry.
    if !meet(&intervals.v4, &protected.v4) && !meet(&intervals.v6, &protected.v6) {
        return None;
    }
    let near = Near::to(protected);
    let mut found = contents.live().filter(|entry| !entry.is_hole() && near.meets(contents, *entry));
    let first = found.next()?;
    let mut named = vec![first];
    let mut count = 1;
    for entry in found {
        count += 1;
        if named.len() < NAMED {
            named.push(entry);
        }
    }
    let show = |entry: &Entry| match contents.about(*entry) {
        Some(About::Network(network)) => network.to_string(),
        _ => String::new(),
    };
    let names: Vec<String> = named.iter().map(show).collect();
    let more = if count > NAMED { ", ..." } else { "" };
    Some((count, contents.line(first), format!("{}{more}", names.join(", "))))
}

/// Whether something is covered by both. The second list is the shorter one.
fn meet<N: Number>(intervals: &[Interval<N>], others: &[Interval<N>]) -> bool {
    let ends = others.iter().skip(1).map(|next| Some(next.start)).chain([None]);
    others.iter().zip(ends).filter(|(interval, _)| !interval.cover.is_none()).any(|(interval, end)| {
        let from = intervals.partition_point(|other| other.start() <= interval.start());
        let to = end.map_or(intervals.len(), |end| intervals.partition_point(|other| other.start() < end));
        let inside = intervals.get(from..to).unwrap_or(&[]).iter().any(|other| !other.cover.is_none());
        inside || !crate::networks::covering(intervals, interval.start).is_none()
    })
}

#[expect(clippy::cast_precision_loss, reason = "a ratio of counts")]
fn f64_of(count: u64) -> f64 {
    count as f64
}
