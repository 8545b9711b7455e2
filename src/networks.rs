//! The network table: which entry decides about an address, many lists in one table.
//!
//! Who wins is settled when the table is built, in two sweeps: [`flatten`] turns the networks of one list into
//! disjoint intervals (the most specific entry wins, `!entry` makes a hole), [`overlay`] lays the lists over
//! each other (the first list that covers an address wins). A look-up then is "the last interval that starts
//! at or before the address": one read of an index over the leading bits, and a binary search in what is left.
//! Ten lists cost the same as one.
//!
//! ```text
//!   index[leading bits] --> starts  |0.0.0.0|192.0.2.0|192.0.2.7|192.0.2.8|192.0.3.0|
//!                           entries |   -   |    A    |    B    |    A    |    -    |
//! ```

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::net::IpAddr;

/// Number of an entry, from 1; 0 is "none".
pub(crate) type EntryId = u32;

/// An address as a number: IPv4 in 32 bits, IPv6 in 128.
pub(crate) trait Number: Copy + Ord + std::fmt::Debug {
    /// The first `bits` bits.
    fn leading(self, bits: u32) -> usize;
    /// The last address of the network that starts here.
    fn last(self, prefix_len: u8) -> Self;
    /// The address after this one.
    fn next(self) -> Option<Self>;
}

macro_rules! number {
    ($type:ty) => {
        impl Number for $type {
            fn leading(self, bits: u32) -> usize {
                // At most MAX_INDEX_BITS bits are asked for.
                self.checked_shr(<$type>::BITS - bits).and_then(|n| n.try_into().ok()).unwrap_or(0)
            }
            fn last(self, prefix_len: u8) -> Self {
                self | <$type>::MAX.checked_shr(prefix_len.into()).unwrap_or(0)
            }
            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }
        }
    };
}
number!(u32);
number!(u128);

/// One network of a list. The order of the fields is the order of [`flatten`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Network<N> {
    /// First address.
    pub start: N,
    /// Length of the prefix.
    pub prefix_len: u8,
    /// The entry; `NONE` for a hole, so that of two entries for one network the hole counts, else the first.
    pub entry: EntryId,
}

/// From `start` on, until the next interval, `entry` decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Interval<N> {
    pub start: N,
    pub entry: EntryId,
}

/// Appends an interval, unless it changes nothing; one that starts where the last one does replaces it.
fn put<N: Number>(intervals: &mut Vec<Interval<N>>, start: N, entry: EntryId) {
    if intervals.last().is_some_and(|last| last.start == start) {
        intervals.pop();
    }
    if intervals.last().map_or(0, |last| last.entry) != entry {
        intervals.push(Interval { start, entry });
    }
}

/// Turns the networks of one list into disjoint intervals: inside a list the most specific entry wins.
pub(crate) fn flatten<N: Number>(mut networks: Vec<Network<N>>) -> Vec<Interval<N>> {
    networks.sort_unstable();
    // Networks nest or are disjoint. `open` holds those that enclose the current one: last address and entry.
    let mut open: Vec<(N, EntryId)> = Vec::new();
    let mut intervals = Vec::with_capacity(networks.len());
    let mut previous = None;
    for Network { start, prefix_len, entry } in networks {
        if previous == Some((start, prefix_len)) {
            continue;
        }
        previous = Some((start, prefix_len));
        close(&mut open, &mut intervals, |last| last < start);
        put(&mut intervals, start, entry);
        open.push((start.last(prefix_len), entry));
    }
    close(&mut open, &mut intervals, |_| true);
    intervals
}

/// Ends the innermost networks as long as they are `over`: what encloses them decides from there on.
fn close<N: Number>(open: &mut Vec<(N, EntryId)>, intervals: &mut Vec<Interval<N>>, over: impl Fn(N) -> bool) {
    while let Some((last, _)) = open.pop_if(|(last, _)| over(*last)) {
        if let Some(next) = last.next() {
            put(intervals, next, open.last().map_or(0, |(_, entry)| *entry));
        }
    }
}

/// Lays lists over each other: the first list that covers an address wins.
pub(crate) fn overlay<N: Number>(lists: &[Vec<Interval<N>>]) -> Vec<Interval<N>> {
    // A merge of all lists by address. `covering` holds the lists that cover the current address, in order.
    let mut heads: BinaryHeap<Reverse<(N, usize)>> = BinaryHeap::new();
    let mut rest: Vec<_> = lists.iter().map(|list| list.iter().copied().peekable()).collect();
    for (number, list) in rest.iter_mut().enumerate() {
        heads.extend(list.peek().map(|head| Reverse((head.start, number))));
    }
    let mut current: Vec<EntryId> = vec![0; lists.len()];
    let mut covering: BTreeSet<usize> = BTreeSet::new();
    let mut intervals = Vec::with_capacity(lists.iter().map(Vec::len).sum());
    while let Some(Reverse((start, number))) = heads.pop() {
        let (Some(list), Some(entry)) = (rest.get_mut(number), current.get_mut(number)) else { break };
        let Some(interval) = list.next() else { break };
        *entry = interval.entry;
        if interval.entry == 0 {
            covering.remove(&number);
        } else {
            covering.insert(number);
        }
        heads.extend(list.peek().map(|head| Reverse((head.start, number))));
        let winner = covering.first().and_then(|first| current.get(*first));
        put(&mut intervals, start, winner.copied().unwrap_or(0));
    }
    intervals
}

/// Most leading bits that the index goes by; it then has 65,537 slots.
const MAX_INDEX_BITS: u32 = 16;

/// Intervals of one address family, ready to be asked.
#[derive(Clone, Debug)]
struct Family<N> {
    /// How many leading bits of an address the index goes by; small tables need none.
    index_bits: u32,
    /// For each value of the leading bits the number of intervals that start before them; one more at the end.
    index: Vec<u32>,
    starts: Vec<N>,
    entries: Vec<EntryId>,
}

impl<N: Number> Family<N> {
    fn new(intervals: &[Interval<N>]) -> Family<N> {
        // About eight intervals a slot, if they were spread evenly.
        let index_bits = intervals.len().max(8).ilog2().saturating_sub(3).min(MAX_INDEX_BITS);
        let mut index = vec![0; (1 << index_bits) + 1];
        let mut next = intervals.iter().map(|interval| interval.start.leading(index_bits)).peekable();
        let mut before = 0;
        for (slot, count) in index.iter_mut().enumerate() {
            while next.next_if(|leading| *leading < slot).is_some() {
                before += 1;
            }
            *count = before;
        }
        Family {
            index_bits,
            index,
            starts: intervals.iter().map(|interval| interval.start).collect(),
            entries: intervals.iter().map(|interval| interval.entry).collect(),
        }
    }

    fn get(&self, address: N) -> EntryId {
        let slot = address.leading(self.index_bits);
        let (Some(from), Some(to)) = (self.index.get(slot), self.index.get(slot + 1)) else { return 0 };
        let starts = self.starts.get(*from as usize..*to as usize).unwrap_or(&[]);
        // The last interval that starts at or before the address may stand in an earlier slot.
        let after = *from as usize + starts.partition_point(|start| *start <= address);
        after.checked_sub(1).and_then(|at| self.entries.get(at)).copied().unwrap_or(0)
    }
}

/// All address rules, ready to be asked.
#[derive(Clone, Debug)]
pub(crate) struct NetworkTable {
    v4: Family<u32>,
    v6: Family<u128>,
}

impl NetworkTable {
    /// Makes the table from the intervals of both families.
    pub(crate) fn new(v4: &[Interval<u32>], v6: &[Interval<u128>]) -> NetworkTable {
        NetworkTable { v4: Family::new(v4), v6: Family::new(v6) }
    }

    /// The entry that decides about an address; 0 if none does.
    pub(crate) fn get(&self, address: IpAddr) -> EntryId {
        match address {
            IpAddr::V4(v4) => self.v4.get(v4.to_bits()),
            IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
                Some(v4) => self.v4.get(v4.to_bits()),
                None => self.v6.get(v6.to_bits()),
            },
        }
    }

    /// Whether no address is covered.
    pub(crate) fn is_empty(&self) -> bool {
        self.v4.starts.is_empty() && self.v6.starts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A network for 8-bit-ish corner of the number space, so that random networks collide and nest.
    fn network<N: Number>(bits: impl Fn(u32) -> N, byte: u8, len: u8, entry: EntryId) -> Network<N> {
        let len = len.min(8);
        let mask = u8::MAX.checked_shl(u32::from(8 - len)).unwrap_or(0);
        Network { start: bits(u32::from(byte & mask)), prefix_len: len, entry }
    }

    /// The definition, word by word: first list that covers, inside it the most specific, a hole is no cover.
    fn scan<N: Number>(lists: &[Vec<Network<N>>], address: N) -> EntryId {
        for list in lists {
            let covering = list.iter().filter(|n| n.start <= address && address <= n.start.last(n.prefix_len));
            let best = covering.max_by_key(|n| (n.prefix_len, Reverse(n.entry)));
            if let Some(entry) = best.map(|n| n.entry).filter(|entry| *entry != 0) {
                return entry;
            }
        }
        0
    }

    fn check<N: Number>(lists: &[Vec<(u8, u8, bool)>], place: impl Fn(u32) -> N + Copy) {
        let mut id = 0;
        let lists: Vec<Vec<Network<N>>> = lists
            .iter()
            .map(|list| {
                list.iter()
                    .map(|(byte, len, hole)| {
                        id += 1;
                        network(place, *byte, *len, if *hole { 0 } else { id })
                    })
                    .collect()
            })
            .collect();
        let flat: Vec<_> = lists.iter().cloned().map(flatten).collect();
        let family = Family::new(&overlay(&flat));
        for byte in 0..=255 {
            let first = place(byte);
            for address in [first, first.last(8)] {
                assert_eq!(family.get(address), scan(&lists, address), "{address:?} in {lists:?}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn tables_answer_as_the_definition_says(lists in prop::collection::vec(prop::collection::vec((any::<u8>(), 0u8..=8, prop::bool::weighted(0.2)), 0..40), 0..5)) {
            check(&lists, |byte| byte << 24);
            check(&lists, |byte| u128::from(byte) << 120);
        }
    }

    #[test]
    fn both_ends_of_the_number_space() {
        let networks = vec![
            Network { start: 0u32, prefix_len: 32, entry: 1 },
            Network { start: u32::MAX, prefix_len: 32, entry: 2 },
            Network { start: 0x8000_0000, prefix_len: 1, entry: 3 },
        ];
        let family = Family::new(&flatten(networks));
        for (address, entry) in [(0, 1), (1, 0), (0x7fff_ffff, 0), (0x8000_0000, 3), (u32::MAX - 1, 3), (u32::MAX, 2)] {
            assert_eq!(family.get(address), entry, "{address:x}");
        }
        let empty: Family<u128> = Family::new(&[]);
        assert_eq!(empty.get(u128::MAX), 0);
    }

    #[test]
    fn large_tables_use_the_whole_index() {
        let networks: Vec<Network<u32>> =
            (0..300_000u32).map(|n| Network { start: n.wrapping_mul(2_654_435_761) & !0xff, prefix_len: 24, entry: n + 1 }).collect();
        let family = Family::new(&flatten(networks.clone()));
        assert_eq!(family.index_bits, MAX_INDEX_BITS);
        for network in networks.iter().step_by(97) {
            let found = networks.iter().step_by(97).find(|other| other.entry == family.get(network.start | 9));
            assert!(found.is_none_or(|found| found.start == network.start));
            assert_ne!(family.get(network.start), 0);
        }
    }
}
