//! The network table: which entry decides about an address, many lists in one table.
//!
//! Who wins is settled when the table is built, in two sweeps: [`flatten`] turns the networks of one list into
//! disjoint intervals (the most specific entry wins, a hole covers nothing), [`overlay`] lays the lists over each
//! other (the first list that covers an address wins). A look-up then is "the last interval that starts at or before
//! the address": one read of an index over the leading bits, and a binary search in what is left. Ten lists cost the
//! same as one.
//!
//! ```text
//!   index[leading bits] --> starts |0.0.0.0|192.0.2.0|192.0.2.7|192.0.2.8|192.0.3.0|
//!                           covers |   -   |    A    |    B    |    A    |    -    |
//! ```
//!
//! Where the winner may cease to count (it expires, its list is only watched, or does not concern some clients), the
//! cover is a chain: the winner and those that follow it, in order. Most covers are one entry.

use crate::memory::{Watch, room, with_room};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::IpAddr;

/// Number of an entry, from 1.
pub(crate) type EntryId = u32;

/// What covers an address: nothing, one entry, or a chain of entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Cover(u32);

/// What a cover stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// The chain ends.
    End,
    /// An entry, and what follows if it does not count.
    Entry(EntryId, Cover),
}

impl Cover {
    /// Nothing.
    pub(crate) const NONE: Cover = Cover(0);
    const CHAIN: u32 = 1 << 31;
    /// Most entries that can be told apart.
    pub(crate) const MAX_ENTRY: u32 = Cover::CHAIN - 1;

    /// One entry.
    pub(crate) fn entry(entry: EntryId) -> Cover {
        Cover(entry & Cover::MAX_ENTRY)
    }

    /// As it stands in a table.
    pub(crate) fn bits(self) -> u32 {
        self.0
    }

    /// What stood in a table.
    pub(crate) fn from_bits(bits: u32) -> Cover {
        Cover(bits)
    }

    /// The entry, if it is one that always counts.
    pub(crate) fn single(self) -> Option<EntryId> {
        (self.chain().is_none() && !self.is_none()).then_some(self.0)
    }

    /// Whether nothing covers the address.
    pub(crate) fn is_none(self) -> bool {
        self == Cover::NONE
    }

    fn chain(self) -> Option<usize> {
        (self.0 & Cover::CHAIN != 0).then_some((self.0 & !Cover::CHAIN) as usize)
    }
}

/// The chains of a table: an entry, and what follows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chains(Vec<(EntryId, Cover)>);

impl Chains {
    /// The first entry of a cover, and the rest of it.
    pub(crate) fn first(&self, cover: Cover) -> Link {
        match cover.chain() {
            None if cover.is_none() => Link::End,
            None => Link::Entry(cover.0, Cover::NONE),
            Some(at) => self.0.get(at).map_or(Link::End, |(entry, rest)| Link::Entry(*entry, *rest)),
        }
    }

    /// Whether the last entry of a cover may cease to count too.
    pub(crate) fn is_open(&self, mut cover: Cover) -> bool {
        while let Some(at) = cover.chain() {
            match self.0.get(at) {
                Some((_, rest)) => cover = *rest,
                None => return true,
            }
        }
        cover.is_none()
    }

    /// All entries of a cover, in order.
    pub(crate) fn entries(&self, mut cover: Cover) -> impl Iterator<Item = EntryId> {
        std::iter::from_fn(move || match self.first(cover) {
            Link::End => None,
            Link::Entry(entry, rest) => {
                cover = rest;
                Some(entry)
            }
        })
    }
}

/// Makes chains, each of them once.
#[derive(Debug, Default)]
pub(crate) struct ChainMaker {
    pub chains: Chains,
    known: HashMap<(EntryId, Cover), Cover>,
}

impl ChainMaker {
    /// An entry, and what follows it if it does not count.
    pub(crate) fn link(&mut self, entry: EntryId, rest: Cover) -> Cover {
        let chains = &mut self.chains.0;
        *self.known.entry((entry, rest)).or_insert_with(|| {
            chains.push((entry, rest));
            // There are fewer chains than boundaries, and fewer boundaries than Cover::MAX_ENTRY.
            Cover(Cover::CHAIN | u32::try_from(chains.len() - 1).unwrap_or(0))
        })
    }

    /// A chain of these entries; one alone needs none.
    pub(crate) fn sequence(&mut self, entries: &[EntryId]) -> Cover {
        let Some((last, before)) = entries.split_last() else { return Cover::NONE };
        before.iter().rev().fold(Cover::entry(*last), |rest, entry| self.link(*entry, rest))
    }
}

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

/// One network of a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Network<N> {
    /// First address.
    pub start: N,
    /// Length of the prefix.
    pub prefix_len: u8,
    pub entry: EntryId,
    pub hole: bool,
    /// It will cease to count; then what is below it decides.
    pub expires: bool,
}

/// Which entry of a list wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// The most specific one; of two for the same network a hole, else the first.
    MostSpecific,
    /// The first one (Postfix tables).
    First,
}

/// From `start` on, until the next interval, `cover` decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interval<N> {
    pub start: N,
    pub cover: Cover,
}

/// Appends an interval, unless it changes nothing; one that starts where the last one does replaces it.
fn put<N: Number>(intervals: &mut Vec<Interval<N>>, start: N, cover: Cover) {
    if intervals.last().is_some_and(|last| last.start == start) {
        intervals.pop();
    }
    // Without room the load fails.
    if intervals.last().map_or(Cover::NONE, |last| last.cover) != cover && room(intervals, 1) {
        intervals.push(Interval { start, cover });
    }
}

/// A network that encloses the current one.
#[derive(Clone, Copy)]
struct Open<N> {
    last: N,
    cover: Cover,
    /// The entry that decides in it; that of a hole too.
    decider: EntryId,
}

/// Turns the networks of one list into disjoint intervals.
pub(crate) fn flatten<N: Number>(mut networks: Vec<Network<N>>, order: Order, maker: &mut ChainMaker) -> Vec<Interval<N>> {
    // What comes later lies on top: of entries for the same network holes last, else the first one last.
    networks.sort_unstable_by_key(|n| (n.start, n.prefix_len, n.hole && order == Order::MostSpecific, Reverse(n.entry)));
    // Networks nest or are disjoint. `open` holds those that enclose the current one.
    let mut open: Vec<Open<N>> = Vec::new();
    let watch = Watch::begin();
    let mut intervals = with_room(networks.len());
    for Network { start, prefix_len, entry, hole, expires } in networks {
        if watch.is_short() {
            break;
        }
        close(&mut open, &mut intervals, |last| last < start);
        let below = open.last().copied();
        let last = start.last(prefix_len);
        let earlier = below.filter(|below| order == Order::First && below.decider < entry);
        let (cover, decider) = match earlier {
            Some(below) => (below.cover, below.decider),
            None if expires => {
                let rest = if order == Order::First { Cover::NONE } else { below.map_or(Cover::NONE, |below| below.cover) };
                (maker.link(entry, rest), entry)
            }
            None if hole => (Cover::NONE, entry),
            None => (Cover::entry(entry), entry),
        };
        put(&mut intervals, start, cover);
        open.push(Open { last, cover, decider });
    }
    close(&mut open, &mut intervals, |_| true);
    intervals
}

/// Ends the innermost networks as long as they are `over`: what encloses them decides from there on.
fn close<N: Number>(open: &mut Vec<Open<N>>, intervals: &mut Vec<Interval<N>>, over: impl Fn(N) -> bool) {
    while let Some(ended) = open.pop_if(|network| over(network.last)) {
        if let Some(next) = ended.last.next() {
            put(intervals, next, open.last().map_or(Cover::NONE, |network| network.cover));
        }
    }
}

/// Which lists cover the current address of a merge, each with what covers it in that list.
#[derive(Debug)]
pub(crate) struct Covering {
    covers: Vec<Cover>,
    /// A bit for each list that covers the address, so that the first of a thousand is found fast.
    bits: Vec<u64>,
}

impl Covering {
    fn new(lists: usize) -> Covering {
        Covering { covers: vec![Cover::NONE; lists], bits: vec![0; lists.div_ceil(64)] }
    }

    fn set(&mut self, list: usize, cover: Cover) {
        if let (Some(place), Some(word)) = (self.covers.get_mut(list), self.bits.get_mut(list / 64)) {
            *place = cover;
            let bit = 1 << (list % 64);
            *word = if cover.is_none() { *word & !bit } else { *word | bit };
        }
    }

    /// The lists, in order, and their covers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, Cover)> {
        let lists = self.bits.iter().enumerate().flat_map(|(at, word)| {
            let rest = |word: &u64| Some(word & word.wrapping_sub(1)).filter(|rest| *rest != 0);
            let bits = std::iter::successors(Some(*word).filter(|word| *word != 0), rest);
            bits.map(move |word| at * 64 + word.trailing_zeros() as usize)
        });
        lists.filter_map(|list| Some((list, *self.covers.get(list)?)))
    }
}

/// Lays lists over each other. `winner` is told which lists cover an address, and says what covers it in all of them.
pub(crate) fn overlay<N: Number>(lists: &[&[Interval<N>]], mut winner: impl FnMut(&Covering) -> Cover) -> Vec<Interval<N>> {
    // A merge of all lists by address.
    let mut rest: Vec<_> = lists.iter().map(|list| list.iter().copied().peekable()).collect();
    let first = |(number, list): (usize, &mut std::iter::Peekable<_>)| list.peek().map(|head: &Interval<N>| Reverse((head.start, number)));
    let mut heads: BinaryHeap<Reverse<(N, usize)>> = rest.iter_mut().enumerate().filter_map(first).collect();
    let mut covering = Covering::new(lists.len());
    let watch = Watch::begin();
    let mut intervals = with_room(lists.iter().map(|list| list.len()).sum());
    while let Some(Reverse((_, number))) = heads.pop() {
        let Some(list) = rest.get_mut(number) else { break };
        let other = heads.peek().map(|Reverse((start, _))| *start);
        // As long as no other list changes before, without the heap: most of a long list is read like this.
        while let Some(interval) = list.next_if(|interval| other.is_none_or(|other| interval.start <= other)) {
            if watch.is_short() {
                return intervals;
            }
            covering.set(number, interval.cover);
            // Others may change at the same address: their last word is the one that stays.
            if other != Some(interval.start) {
                put(&mut intervals, interval.start, winner(&covering));
            }
        }
        heads.extend(list.peek().map(|head| Reverse((head.start, number))));
    }
    intervals
}

/// The interval that an address lies in.
pub(crate) fn covering<N: Number>(intervals: &[Interval<N>], address: N) -> Cover {
    let after = intervals.partition_point(|interval| interval.start <= address);
    after.checked_sub(1).and_then(|at| intervals.get(at)).map_or(Cover::NONE, |interval| interval.cover)
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
    covers: Vec<Cover>,
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
        let (mut starts, mut covers) = (with_room(intervals.len()), with_room(intervals.len()));
        // Without room for both the load fails.
        if starts.capacity().min(covers.capacity()) >= intervals.len() {
            starts.extend(intervals.iter().map(|interval| interval.start));
            covers.extend(intervals.iter().map(|interval| interval.cover));
        }
        Family { index_bits, index, starts, covers }
    }

    fn get(&self, address: N) -> Cover {
        let slot = address.leading(self.index_bits);
        let (Some(from), Some(to)) = (self.index.get(slot), self.index.get(slot + 1)) else { return Cover::NONE };
        let starts = self.starts.get(*from as usize..*to as usize).unwrap_or(&[]);
        // The last interval that starts at or before the address may stand in an earlier slot.
        let after = *from as usize + starts.partition_point(|start| *start <= address);
        after.checked_sub(1).and_then(|at| self.covers.get(at)).copied().unwrap_or_default()
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

    /// What covers an address.
    pub(crate) fn get(&self, address: IpAddr) -> Cover {
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

    /// A network in an 8-bit corner of the number space, so that random networks collide and nest.
    fn network<N: Number>(bits: impl Fn(u32) -> N, (byte, len, hole, expires): (u8, u8, bool, bool), entry: EntryId) -> Network<N> {
        let mask = u8::MAX.checked_shl(u32::from(8 - len)).unwrap_or(0);
        Network { start: bits(u32::from(byte & mask)), prefix_len: len, entry, hole, expires }
    }

    /// The definition, word by word: the entries of a list that cover an address, the winner first, up to the first one
    /// that always counts. A hole that always counts ends the list.
    fn scan_list<N: Number>(list: &[Network<N>], address: N, order: Order) -> Vec<EntryId> {
        let mut covering: Vec<&Network<N>> = list.iter().filter(|n| n.start <= address && address <= n.start.last(n.prefix_len)).collect();
        match order {
            Order::MostSpecific => covering.sort_by_key(|n| (Reverse(n.prefix_len), !n.hole, n.entry)),
            Order::First => covering.sort_by_key(|n| n.entry),
        }
        if order == Order::First {
            covering.truncate(1);
        }
        let mut chain = Vec::new();
        for network in covering {
            if !network.hole || network.expires {
                chain.push(network.entry);
            }
            if !network.expires {
                break;
            }
        }
        chain
    }

    type Shape = Vec<Vec<(u8, u8, bool, bool)>>;

    fn check<N: Number>(shape: &Shape, place: impl Fn(u32) -> N + Copy, order: Order) {
        let mut id = 0;
        let mut next = || {
            id += 1;
            id
        };
        let lists: Vec<Vec<Network<N>>> = shape.iter().map(|list| list.iter().map(|n| network(place, *n, next())).collect()).collect();
        let mut maker = ChainMaker::default();
        let flat: Vec<_> = lists.iter().map(|list| flatten(list.clone(), order, &mut maker)).collect();
        // Here every list may be passed over, so that all lists that cover an address follow each other.
        let slices: Vec<&[Interval<N>]> = flat.iter().map(Vec::as_slice).collect();
        let whole = overlay(&slices, |covering| {
            let all: Vec<EntryId> = covering.iter().flat_map(|(_, cover)| maker.chains.entries(cover).collect::<Vec<_>>()).collect();
            maker.sequence(&all)
        });
        let family = Family::new(&whole);
        for byte in 0..=255 {
            let first = place(byte);
            for address in [first, first.last(8)] {
                let want: Vec<EntryId> = lists.iter().flat_map(|list| scan_list(list, address, order)).collect();
                let given: Vec<EntryId> = maker.chains.entries(family.get(address)).collect();
                assert_eq!(given, want, "{address:?} in {lists:?}");
                assert_eq!(family.get(address), covering(&whole, address));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn tables_answer_as_the_definition_says(
            shape in prop::collection::vec(prop::collection::vec((any::<u8>(), 0u8..=8, prop::bool::weighted(0.2), prop::bool::weighted(0.2)), 0..40), 0..5),
        ) {
            for order in [Order::MostSpecific, Order::First] {
                check(&shape, |byte| byte << 24, order);
                check(&shape, |byte| u128::from(byte) << 120, order);
            }
        }
    }

    fn plain(start: u32, prefix_len: u8, entry: EntryId) -> Network<u32> {
        Network { start, prefix_len, entry, hole: false, expires: false }
    }

    #[test]
    fn both_ends_of_the_number_space() {
        let networks = vec![plain(0, 32, 1), plain(u32::MAX, 32, 2), plain(0x8000_0000, 1, 3)];
        let family = Family::new(&flatten(networks, Order::MostSpecific, &mut ChainMaker::default()));
        for (address, entry) in [(0, 1), (1, 0), (0x7fff_ffff, 0), (0x8000_0000, 3), (u32::MAX - 1, 3), (u32::MAX, 2)] {
            assert_eq!(family.get(address), Cover::entry(entry), "{address:x}");
        }
        let empty: Family<u128> = Family::new(&[]);
        assert!(empty.get(u128::MAX).is_none());
    }

    #[test]
    fn large_tables_use_the_whole_index() {
        let networks: Vec<Network<u32>> = (0..300_000u32).map(|n| plain(n.wrapping_mul(2_654_435_761) & !0xff, 24, n + 1)).collect();
        let family = Family::new(&flatten(networks.clone(), Order::MostSpecific, &mut ChainMaker::default()));
        assert_eq!(family.index_bits, MAX_INDEX_BITS);
        let mut first = HashMap::new();
        for network in &networks {
            first.entry(network.start).or_insert(network.entry);
        }
        for network in &networks {
            assert_eq!(family.get(network.start | 9), Cover::entry(first[&network.start]));
        }
    }
}
