//! The lists of a ruleset, one a row: size, age, expiry, hits, and what each of them is worth: the share of its addresses
//! that no other enforced block list covers. For the control plane: it goes through all lists.
//!
//! Shares count addresses, IPv4 and IPv6 apart, because one IPv6 network would outweigh all of IPv4. Holes and expired
//! entries cover nothing. A list that is only watched is compared with those that are enforced: that is what it would
//! add to them.

use crate::compile::seconds;
use crate::covering::List;
use crate::list::Seconds;
use crate::networks::{Cover, Interval, Intervals, Number, overlaid};
use crate::ruleset::Ruleset;
use crate::shown;
use crate::verdict::Decider;
use serde_json::{Value, json};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::SystemTime;

/// The lists of a ruleset.
#[derive(Clone, Debug)]
pub struct Overview {
    /// In the order in which they decide; domain lists last.
    pub rows: Vec<Row>,
    /// Whether hits are shown. They are those of the gate that was asked.
    pub hits_known: bool,
    now: u64,
}

/// One list.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its name in the policy.
    pub name: String,
    /// What it is: `allow list`, `watched block list`, ...
    pub kind: String,
    /// How many entries it has, holes and expired ones included.
    pub entries: usize,
    /// How many of them have expired.
    pub expired: usize,
    /// When it was made, as far as that is known.
    pub made: Option<u64>,
    /// When it was read, seconds since 1970-01-01 UTC: the last load that it passed.
    pub read: u64,
    /// When it is to be replaced by its own words, or else when its last entry ceases to count.
    pub expires: Option<u64>,
    /// The files that it was read from; for inline entries the policy file.
    pub files: Vec<String>,
    /// How many IPv4 addresses it covers.
    pub v4_addresses: u128,
    /// How many IPv6 addresses it covers; all of them count as one less.
    pub v6_addresses: u128,
    /// The share of its IPv4 addresses that no other enforced block list covers; `None` if it covers none, or is no block
    /// list.
    pub v4_unique: Option<f64>,
    /// The same for IPv6.
    pub v6_unique: Option<f64>,
    /// How often it decided, or would have.
    pub hits: u64,
}

/// The lists of a ruleset, as they are at a time.
pub fn overview(ruleset: &Ruleset, now: SystemTime) -> Overview {
    let now = seconds(now);
    let lists: Vec<Flat<'_>> = ruleset.lists.iter().map(|list| Flat { list, intervals: list.contents.flatten() }).collect();
    let v4 = sizes(&lists, now, Ipv4Addr::BITS, |intervals| &intervals.v4, |address| address.into());
    let v6 = sizes(&lists, now, Ipv6Addr::BITS, |intervals| &intervals.v6, |address| address);
    let sizes = v4.into_iter().zip(v6).map(Some).chain(std::iter::repeat(None));
    let lists = ruleset.lists().zip(sizes);
    let rows = lists.map(|(list, sizes)| row(list, sizes.unwrap_or_default(), now)).collect();
    Overview { rows, hits_known: true, now }
}

/// A list, and what its networks come to: as much memory as its entries, and for this alone.
struct Flat<'a> {
    list: &'a List,
    intervals: Intervals,
}

fn row(list: &List, (v4, v6): (Size, Size), now: Seconds) -> Row {
    let contents = &list.contents;
    let live = || contents.live();
    // One entry that stays keeps the list in force.
    let last = live().map(|entry| contents.expires(entry)).try_fold(0, |last, expires| Some(last.max(expires?)));
    let unique = |size: &Size| (list.role == Decider::Block && size.all > 0).then(|| ratio(size.unique, size.all));
    Row {
        name: list.name.to_string(),
        kind: shown::kind(list),
        entries: live().count(),
        expired: live().filter(|entry| contents.is_over(*entry, now)).count(),
        made: contents.made,
        read: contents.read,
        expires: contents.statement.expires.or(last.filter(|last| *last > 0)),
        files: contents.files.iter().map(ToString::to_string).collect(),
        v4_addresses: v4.all,
        v6_addresses: v6.all,
        v4_unique: unique(&v4),
        v6_unique: unique(&v6),
        hits: list.hits(),
    }
}

/// How many addresses of a family a list covers, and how many of them no other enforced block list does.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    all: u128,
    unique: u128,
}

fn sizes<N: Number>(
    lists: &[Flat<'_>],
    now: Seconds,
    bits: u32,
    intervals: impl Fn(&Intervals) -> &Vec<Interval<N>>,
    number: impl Fn(N) -> u128 + Copy,
) -> Vec<Size> {
    let end = 1u128.checked_shl(bits).unwrap_or(u128::MAX);
    let mut sizes: Vec<Size> = lists
        .iter()
        .map(|list| {
            let covered = |cover| list.counts(cover, now);
            Size {
                all: lengths(intervals(&list.intervals), end, number).filter(|(cover, _)| covered(*cover)).map(|(_, length)| length).sum(),
                unique: 0,
            }
        })
        .collect();
    let enforced: Vec<usize> = places(lists, |list| list.role == Decider::Block && !list.conduct.shadow);
    let watched: Vec<usize> = places(lists, |list| list.role == Decider::Block && list.conduct.shadow);
    // The enforced lists together, and each list that is only watched with them.
    for with in std::iter::once(None).chain(watched.into_iter().map(Some)) {
        let together: Vec<(usize, &Flat<'_>)> =
            enforced.iter().chain(&with).filter_map(|place| Some((*place, lists.get(*place)?))).collect();
        let slices: Vec<&[Interval<N>]> = together.iter().map(|(_, list)| intervals(&list.intervals).as_slice()).collect();
        let counting = |number: usize, cover| {
            let (place, list) = together.get(number)?;
            list.counts(cover, now).then_some(*place)
        };
        // There are at most a thousand lists.
        let only =
            |place: Option<usize>| place.and_then(|place| u32::try_from(place).ok()).map_or(Cover::NONE, |place| Cover::entry(place + 1));
        let one = |number, entry| only(counting(number, Cover::entry(entry)));
        let alone = overlaid(&slices, one, |covering| {
            let mut covering = covering.iter().filter_map(|(number, cover)| counting(number, cover));
            let first = covering.next();
            only(first.filter(|_| covering.next().is_none()))
        });
        for (cover, length) in lengths(&alone, end, number) {
            let place = cover.single().and_then(|place| usize::try_from(place).ok()?.checked_sub(1));
            if let Some(place) = place.filter(|place| with.is_none_or(|with| with == *place))
                && let Some(size) = sizes.get_mut(place)
            {
                size.unique += length;
            }
        }
    }
    sizes
}

fn places(lists: &[Flat<'_>], wanted: impl Fn(&List) -> bool) -> Vec<usize> {
    lists.iter().enumerate().filter(|(_, flat)| wanted(flat.list)).map(|(place, _)| place).collect()
}

impl Flat<'_> {
    /// Whether a cover covers anything at a time.
    fn counts(&self, cover: Cover, now: Seconds) -> bool {
        let contents = &self.list.contents;
        let mut entries = self.intervals.chains.entries(cover).filter_map(|entry| contents.entry(entry));
        entries.find(|entry| !contents.is_over(*entry, now)).is_some_and(|entry| !entry.is_hole())
    }
}

/// The lengths of intervals that cover something.
fn lengths<N: Number>(intervals: &[Interval<N>], end: u128, number: impl Fn(N) -> u128 + Copy) -> impl Iterator<Item = (Cover, u128)> {
    let ends = intervals.iter().skip(1).map(move |next| number(next.start)).chain([end]);
    let lengths = intervals.iter().zip(ends).map(move |(interval, end)| (interval.cover, end.saturating_sub(number(interval.start))));
    lengths.filter(|(cover, _)| !cover.is_none())
}

#[expect(clippy::cast_precision_loss, reason = "a share, shown with one digit")]
fn ratio(part: u128, whole: u128) -> f64 {
    part as f64 / whole as f64
}

impl Overview {
    /// All of it. The keys stay what they are; there may come more.
    pub fn to_json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            json!({
                "name": row.name,
                "kind": row.kind,
                "entries": row.entries,
                "expired": row.expired,
                "made": row.made.map(shown::time),
                "age_seconds": self.age(row),
                "expires": row.expires.map(shown::time),
                "files": row.files,
                "ipv4_addresses": row.v4_addresses.to_string(),
                "ipv6_addresses": row.v6_addresses.to_string(),
                "ipv4_unique": row.v4_unique,
                "ipv6_unique": row.v6_unique,
                "hits": self.hits_known.then_some(row.hits),
            })
        });
        Value::Array(rows.collect())
    }

    fn age(&self, row: &Row) -> Option<u64> {
        row.made.map(|made| self.now.saturating_sub(made))
    }

    fn cells(&self, row: &Row) -> [String; COLUMNS] {
        let none = || "-".to_owned();
        let expired = if row.expired > 0 { format!(" ({} expired)", row.expired) } else { String::new() };
        let expires = row.expires.map_or_else(none, |at| match at.checked_sub(self.now) {
            None | Some(0) => "expired".into(),
            Some(left) => format!("in {}", shown::span(left)),
        });
        let files = match row.files.as_slice() {
            [] => none(),
            [file] => file.clone(),
            [file, more @ ..] => format!("{file} and {} more", more.len()),
        };
        [
            row.name.clone(),
            row.kind.clone(),
            format!("{}{expired}", row.entries),
            self.age(row).map_or_else(none, shown::span),
            expires,
            row.v4_unique.map_or_else(none, shown::percent),
            row.v6_unique.map_or_else(none, shown::percent),
            if self.hits_known { row.hits.to_string() } else { none() },
            files,
        ]
    }
}

const COLUMNS: usize = 9;
const HEAD: [&str; COLUMNS] = ["NAME", "KIND", "ENTRIES", "AGE", "EXPIRES", "UNIQUE-V4", "UNIQUE-V6", "HITS", "FILES"];

impl fmt::Display for Overview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<[String; COLUMNS]> =
            std::iter::once(HEAD.map(str::to_owned)).chain(self.rows.iter().map(|row| self.cells(row))).collect();
        let mut widths = [0; COLUMNS];
        for line in &lines {
            widths.iter_mut().zip(line).for_each(|(width, cell)| *width = cell.len().max(*width));
        }
        for line in &lines {
            let cells: Vec<String> = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            writeln!(f, "{}", cells.join("  ").trim_end())?;
        }
        Ok(())
    }
}
