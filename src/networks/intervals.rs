//! From networks to disjoint intervals: who decides is settled here, when a table is built.
//!
//! [`flatten`] turns the networks of one list into disjoint intervals (the most specific entry wins, a hole covers
//! nothing), [`overlay`] lays the lists over each other (the first list that covers an address wins).
//!
//! ```text
//!   A 192.0.2.0/24, B 192.0.2.7   -->   192.0.2.0 A | 192.0.2.7 B | 192.0.2.8 A | 192.0.3.0 -
//! ```

use super::cover::{ChainMaker, Chains, Cover, EntryId};
use super::sort::{Key, Whole, sorted};
use crate::memory::{Watch, with_room};
use ipnet::IpNet;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;

/// After how many networks the room of those that are done is given back.
const DONE: usize = 1 << 16;

/// An address as a number: IPv4 in 32 bits, IPv6 in 128.
pub(crate) trait Number: Copy + Default + Ord + std::fmt::Debug {
    /// The last address of the network that starts here.
    fn last(self, prefix_len: u8) -> Self;
    /// The address after this one.
    fn next(self) -> Option<Self>;
    /// Its first octet.
    fn octet(self) -> u8;
    /// The number that its first bits are.
    fn bucket(self, bits: u32) -> usize;
    /// How networks are sorted that have entries below `KEY_ENTRIES`.
    type Key: Key<Self>;
    const KEY_ENTRIES: EntryId;
}

impl Number for u32 {
    fn last(self, prefix_len: u8) -> u32 {
        self | u32::MAX.checked_shr(prefix_len.into()).unwrap_or(0)
    }

    fn next(self) -> Option<u32> {
        self.checked_add(1)
    }

    fn octet(self) -> u8 {
        self.to_be_bytes()[0]
    }

    fn bucket(self, bits: u32) -> usize {
        (self >> (32 - bits)) as usize
    }

    type Key = u64;
    const KEY_ENTRIES: EntryId = 1 << 24;
}

impl Number for u128 {
    fn last(self, prefix_len: u8) -> u128 {
        self | u128::MAX.checked_shr(prefix_len.into()).unwrap_or(0)
    }

    fn next(self) -> Option<u128> {
        self.checked_add(1)
    }

    fn octet(self) -> u8 {
        self.to_be_bytes()[0]
    }

    fn bucket(self, bits: u32) -> usize {
        (self >> (128 - bits)) as usize
    }

    type Key = Whole<u128>;
    const KEY_ENTRIES: EntryId = EntryId::MAX;
}

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

impl<N> Network<N> {
    /// A network that is no hole and always counts.
    pub(crate) fn plain(start: N, prefix_len: u8, entry: EntryId) -> Network<N> {
        Network { start, prefix_len, entry, hole: false, expires: false }
    }
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
/// Without gaps: there are two for each network of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, packed(4))]
pub(crate) struct Interval<N: Copy> {
    pub start: N,
    pub cover: Cover,
}

impl<N: Number> Interval<N> {
    /// Where it begins; a field without gaps cannot be compared in its place.
    pub(crate) fn start(self) -> N {
        self.start
    }
}

/// Appends an interval, unless it changes nothing; one that starts where the last one does replaces it.
fn put<N: Number>(intervals: &mut Vec<Interval<N>>, start: N, cover: Cover) {
    if intervals.last().is_some_and(|last| last.start() == start) {
        intervals.pop();
    }
    // There is room for all, or the load fails.
    if intervals.last().map_or(Cover::NONE, |last| last.cover) != cover && intervals.len() < intervals.capacity() {
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

/// What the networks of a list come to: who decides where.
#[derive(Debug, Default)]
pub(crate) struct Intervals {
    pub v4: Vec<Interval<u32>>,
    pub v6: Vec<Interval<u128>>,
    pub chains: Chains,
    /// The shortest prefixes of entries that are not holes, IPv4 and IPv6.
    pub shortest: [u8; 2],
}

impl Intervals {
    /// What these networks come to, which are entries from 1 in their order: the longest prefix wins.
    pub(crate) fn of(networks: impl ExactSizeIterator<Item = IpNet> + Clone) -> Intervals {
        let last = EntryId::try_from(networks.len()).unwrap_or(EntryId::MAX);
        let of_v4 = (1..).zip(networks.clone()).filter_map(|(entry, net)| match net {
            IpNet::V4(net) => Some(Network::plain(net.network().to_bits(), net.prefix_len(), entry)),
            IpNet::V6(_) => None,
        });
        let v4_count = of_v4.clone().count();
        let v6_count = networks.len() - v4_count;
        let of_v6 = (1..).zip(networks).filter_map(|(entry, net)| match net {
            IpNet::V6(net) => Some(Network::plain(net.network().to_bits(), net.prefix_len(), entry)),
            IpNet::V4(_) => None,
        });
        Intervals::flatten((of_v4, v4_count), (of_v6, v6_count), last, Order::MostSpecific)
    }

    /// What the networks of one list come to, at most so many of each family, with entries up to `last`.
    pub(crate) fn flatten(
        (v4, most_v4): (impl Iterator<Item = Network<u32>> + Clone, usize),
        (v6, most_v6): (impl Iterator<Item = Network<u128>> + Clone, usize),
        last: EntryId,
        order: Order,
    ) -> Intervals {
        let mut maker = ChainMaker::default();
        let (v4, shortest_v4) = flatten(v4, most_v4, last, order, &mut maker);
        let (v6, shortest_v6) = flatten(v6, most_v6, last, order, &mut maker);
        Intervals { v4, v6, chains: maker.into_chains(), shortest: [shortest_v4, shortest_v6] }
    }

    /// What covers an address.
    pub(crate) fn covering(&self, address: IpAddr) -> Cover {
        match address.to_canonical() {
            IpAddr::V4(v4) => covering(&self.v4, v4.to_bits()),
            IpAddr::V6(v6) => covering(&self.v6, v6.to_bits()),
        }
    }
}

/// Turns the networks of one list, at most `most` of them with entries up to `last`, into disjoint intervals. Says too how
/// short the shortest prefix is that is not that of a hole.
pub(super) fn flatten<N: Number>(
    networks: impl Iterator<Item = Network<N>> + Clone,
    most: usize,
    last: EntryId,
    order: Order,
    maker: &mut ChainMaker,
) -> (Vec<Interval<N>>, u8) {
    if last < N::KEY_ENTRIES {
        sweep(sorted::<N, N::Key>(networks, most, order), order, maker)
    } else {
        sweep(sorted::<N, Whole<N>>(networks, most, order), order, maker)
    }
}

/// Turns sorted networks into intervals.
fn sweep<N: Number, K: Key<N>>(mut networks: Vec<K>, order: Order, maker: &mut ChainMaker) -> (Vec<Interval<N>>, u8) {
    // Networks nest or are disjoint. `open` holds those that enclose the current one.
    let mut open: Vec<Open<N>> = Vec::new();
    let watch = Watch::begin();
    // Each network begins once and ends once.
    let mut intervals = with_room(2 * networks.len());
    let mut shortest = u8::MAX;
    // Taken from the end, so that the room of those that are done is given back while the intervals take theirs.
    networks.reverse();
    while let Some(key) = networks.pop() {
        if networks.len().is_multiple_of(DONE) {
            networks.shrink_to_fit();
        }
        if watch.is_short() {
            break;
        }
        let Network { start, prefix_len, entry, hole, expires } = key.network(order);
        shortest = if hole { shortest } else { shortest.min(prefix_len) };
        close(&mut open, &mut intervals, |last| last < start);
        let below = open.last().copied();
        let last = start.last(prefix_len);
        let earlier = below.filter(|below| order == Order::First && below.decider < entry);
        let (cover, decider) = match earlier {
            Some(below) => (below.cover, below.decider),
            None if expires => {
                let rest = if order == Order::First { Cover::NONE } else { below.map_or(Cover::NONE, |below| below.cover) };
                // Each entry comes once.
                (maker.push(entry, rest), entry)
            }
            None if hole => (Cover::NONE, entry),
            None => (Cover::entry(entry), entry),
        };
        put(&mut intervals, start, cover);
        open.push(Open { last, cover, decider });
    }
    close(&mut open, &mut intervals, |_| true);
    intervals.shrink_to_fit();
    (intervals, shortest)
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

    /// The first list, and its cover.
    #[inline]
    pub(crate) fn first(&self) -> Option<(usize, Cover)> {
        let (at, word) = self.bits.iter().enumerate().find(|(_, word)| **word != 0)?;
        let list = at * 64 + word.trailing_zeros() as usize;
        Some((list, *self.covers.get(list)?))
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

/// The intervals of a list that are still to come in a merge.
pub(crate) trait Rest<N: Copy> {
    fn first(&self) -> Option<Interval<N>>;
    /// How many of them begin up to there.
    fn up_to(&self, last: N) -> usize;
    fn len(&self) -> usize;
    /// Takes the first one.
    fn take(&mut self) -> Option<Interval<N>>;
}

impl<N: Number> Rest<N> for &[Interval<N>] {
    fn first(&self) -> Option<Interval<N>> {
        <[_]>::first(self).copied()
    }

    fn up_to(&self, last: N) -> usize {
        self.partition_point(|interval| interval.start() <= last)
    }

    fn len(&self) -> usize {
        <[_]>::len(self)
    }

    #[inline]
    fn take(&mut self) -> Option<Interval<N>> {
        self.split_off_first().copied()
    }
}

/// Intervals of which the room of those that are done is given back.
#[derive(Debug)]
pub(crate) struct GivenUp<N: Copy> {
    /// The last one first.
    intervals: Vec<Interval<N>>,
}

impl<N: Copy> GivenUp<N> {
    pub(crate) fn of(mut intervals: Vec<Interval<N>>) -> GivenUp<N> {
        intervals.reverse();
        GivenUp { intervals }
    }
}

impl<N: Number> Rest<N> for GivenUp<N> {
    fn first(&self) -> Option<Interval<N>> {
        self.intervals.last().copied()
    }

    fn up_to(&self, last: N) -> usize {
        self.intervals.len() - self.intervals.partition_point(|interval| interval.start() > last)
    }

    fn len(&self) -> usize {
        self.intervals.len()
    }

    #[inline]
    fn take(&mut self) -> Option<Interval<N>> {
        if self.intervals.len().is_multiple_of(DONE) {
            self.intervals.shrink_to_fit();
        }
        self.intervals.pop()
    }
}

/// Lays lists over each other. `winner` is told which lists cover an address, and says what covers it in all of them; `alone`
/// is told a list and its entry where no other list covers anything, which is nearly everywhere. What it comes to is handed
/// over in order: it need not be kept beside the lists.
pub(crate) fn overlay<N: Number>(
    mut lists: Vec<impl Rest<N>>,
    alone: impl Fn(usize, EntryId) -> Cover,
    mut winner: impl FnMut(&Covering) -> Cover,
    mut each: impl FnMut(Interval<N>),
) {
    // A merge of all lists by address.
    let head = |number: usize, first: Option<Interval<N>>| first.map(|head| Reverse((head.start, number)));
    let begins = lists.iter().enumerate().filter_map(|(number, list)| head(number, list.first()));
    let mut heads: BinaryHeap<Reverse<(N, usize)>> = begins.collect();
    let mut covering = Covering::new(lists.len());
    let watch = Watch::begin();
    let mut before = Cover::NONE;
    while let Some(Reverse((_, number))) = heads.pop() {
        let Some(list) = lists.get_mut(number) else { break };
        let other = heads.peek().map(|Reverse((start, _))| *start);
        // As long as no other list changes before, without the heap: most of a long list is read like this.
        let taken = other.map_or(list.len(), |other| list.up_to(other));
        covering.set(number, Cover::NONE);
        let is_alone = covering.first().is_none();
        let mut last = Cover::NONE;
        for _ in 0..taken {
            let Some(interval) = list.take() else { break };
            last = interval.cover;
            let cover = match interval.cover.single() {
                None if is_alone && interval.cover.is_none() => Cover::NONE,
                Some(entry) if is_alone => alone(number, entry),
                _ => {
                    covering.set(number, interval.cover);
                    winner(&covering)
                }
            };
            // Others may change at the same address: the last of them speaks for all.
            if cover != before && other != Some(interval.start) {
                each(Interval { start: interval.start, cover });
                before = cover;
            }
        }
        covering.set(number, last);
        if watch.is_short() {
            return;
        }
        heads.extend(head(number, list.first()));
    }
}

/// What [`overlay`] comes to.
pub(crate) fn overlaid<N: Number>(
    lists: &[&[Interval<N>]],
    alone: impl Fn(usize, EntryId) -> Cover,
    winner: impl FnMut(&Covering) -> Cover,
) -> Vec<Interval<N>> {
    // No more than there are in all lists.
    let mut intervals = with_room(lists.iter().map(|list| list.len()).sum());
    overlay(lists.to_vec(), alone, winner, |interval| {
        if intervals.len() < intervals.capacity() {
            intervals.push(interval);
        }
    });
    intervals
}

/// The interval that an address lies in.
pub(crate) fn covering<N: Number>(intervals: &[Interval<N>], address: N) -> Cover {
    let after = intervals.partition_point(|interval| interval.start() <= address);
    after.checked_sub(1).and_then(|at| intervals.get(at)).map_or(Cover::NONE, |interval| interval.cover)
}
