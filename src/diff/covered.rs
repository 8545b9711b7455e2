//! Entries that allow which a block list now covers as a whole, and none did before.

use super::Covered;
use crate::contents::{About, Entry, Near};
use crate::covering::List;
use crate::networks::{Cover, Interval, Intervals, Number, covering};
use crate::ruleset::Ruleset;
use crate::shown;
use crate::verdict::Decider;
use ipnet::IpNet;
use std::cell::OnceCell;

/// Covered entries of allow lists that are named; the rest are counted.
const NAMED: usize = 3;

/// A block list, and of what its networks come to as much as entries that allow have a part in: all of it would take as much
/// memory as the list.
struct Block<'a> {
    list: &'a List,
    intervals: OnceCell<Intervals>,
}

impl<'a> Block<'a> {
    fn all(ruleset: &'a Ruleset) -> Vec<Block<'a>> {
        let blocks = ruleset.lists.iter().filter(|list| list.role == Decider::Block);
        blocks.map(|list| Block { list, intervals: OnceCell::new() }).collect()
    }

    fn intervals(&self, near: &Near<'_>) -> &Intervals {
        self.intervals.get_or_init(|| self.list.contents.flatten_some(|entry| near.meets(&self.list.contents, entry)))
    }

    /// Whether it covers all addresses of a network. What expires counts as long as it stands in the list.
    fn covers(&self, network: &IpNet, near: &Near<'_>) -> bool {
        let intervals = self.intervals(near);
        match network {
            IpNet::V4(net) => self.everywhere(intervals, &intervals.v4, net.network().to_bits(), net.broadcast().to_bits()),
            IpNet::V6(net) => self.everywhere(intervals, &intervals.v6, net.network().to_bits(), net.broadcast().to_bits()),
        }
    }

    fn everywhere<N: Number>(&self, all: &Intervals, intervals: &[Interval<N>], first: N, last: N) -> bool {
        let contents = &self.list.contents;
        let covers = |cover: Cover| all.chains.entries(cover).any(|entry| contents.entry(entry).is_some_and(|entry| !entry.is_hole()));
        let from = intervals.partition_point(|interval| interval.start() <= first);
        let to = intervals.partition_point(|interval| interval.start() <= last);
        covers(covering(intervals, first)) && intervals.get(from..to).unwrap_or(&[]).iter().all(|interval| covers(interval.cover))
    }
}

/// The first few of them, and how many.
pub(super) fn newly_covered(old: &Ruleset, new: &Ruleset) -> (Vec<Covered>, usize) {
    let (before, now) = (Block::all(old), Block::all(new));
    let allowed: Vec<(&List, Entry, IpNet)> = new.lists.iter().filter(|list| list.role != Decider::Block).flat_map(entries).collect();
    let networks = Intervals::of(allowed.iter().map(|(.., network)| *network));
    let near = Near::to(&networks);
    let (mut covered, mut count) = (Vec::new(), 0);
    for (list, entry, network) in &allowed {
        let covers = |block: &&Block<'_>| block.covers(network, &near);
        let Some(by) = now.iter().find(covers).filter(|_| !before.iter().any(|block| covers(&block))) else { continue };
        count += 1;
        if covered.len() < NAMED {
            let (contents, intervals) = (&by.list.contents, by.intervals(&near));
            let first = intervals.chains.entries(intervals.covering(network.network())).next().and_then(|first| contents.entry(first));
            covered.push(Covered {
                entry: shown::entry(&list.contents, *entry),
                list: list.name.to_string(),
                by_list: by.list.name.to_string(),
                by_entry: first.map_or_else(String::new, |first| shown::entry(contents, first)),
            });
        }
    }
    (covered, count)
}

/// The networks of a list, but for its holes.
fn entries(list: &List) -> impl Iterator<Item = (&List, Entry, IpNet)> {
    let entries = list.contents.live().filter(|entry| !entry.is_hole());
    entries.filter_map(move |entry| match list.contents.about(entry)? {
        About::Network(network) => Some((list, entry, network)),
        About::Domain(..) | About::Mailbox(_) => None,
    })
}
