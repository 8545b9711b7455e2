//! Both tables against the definition, word by word, and against each other.

use super::*;
use ipnet::{Ipv4Net, Ipv6Net};
use proptest::prelude::*;
use std::cmp::Reverse;

/// An 8-bit corner of the number space, so that random networks collide and nest.
#[derive(Clone, Copy, Debug)]
struct Corner<N> {
    base: N,
    /// How many bits come behind the eight.
    shift: u8,
}

impl<N: Family> Corner<N> {
    fn first(self, byte: u8) -> N {
        N::at(self.base, u128::from(byte) << self.shift)
    }

    fn network(self, (byte, len, hole, expires): (u8, u8, bool, bool), entry: EntryId) -> Network<N> {
        let mask = u8::MAX.checked_shl(u32::from(8 - len)).unwrap_or(0);
        Network { start: self.first(byte & mask), prefix_len: N::BITS - 8 - self.shift + len, entry, hole, expires }
    }
}

/// The intervals of networks; both ways of sorting them come to the same.
fn flat<N: Number>(networks: Vec<Network<N>>, order: Order, maker: &mut ChainMaker) -> Vec<Interval<N>> {
    let count = networks.len();
    let (packed, _) = flatten(networks.iter().copied(), count, u32::try_from(count).unwrap(), order, &mut maker.clone());
    let (intervals, shortest) = flatten(networks.iter().copied(), count, EntryId::MAX, order, maker);
    assert_eq!(shortest, networks.iter().filter(|n| !n.hole).map(|n| n.prefix_len).min().unwrap_or(u8::MAX));
    assert_eq!(packed, intervals);
    intervals
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

/// A table of one address family.
trait Family: Number {
    type Table;
    const BITS: u8;
    fn at(base: Self, offset: u128) -> Self;
    fn table(intervals: &[Interval<Self>], is_wide: bool) -> Self::Table;
    fn get(table: &Self::Table, address: Self) -> Cover;
}

impl Family for u32 {
    type Table = v4::Table;
    const BITS: u8 = 32;
    fn at(base: u32, offset: u128) -> u32 {
        base | u32::try_from(offset).unwrap()
    }
    fn table(intervals: &[Interval<u32>], is_wide: bool) -> v4::Table {
        let mut table = v4::Builder::new(is_wide);
        intervals.iter().for_each(|interval| table.push(*interval));
        table.finish().unwrap()
    }
    fn get(table: &v4::Table, address: u32) -> Cover {
        let cover = table.get(address);
        assert_eq!(table.get_together(&[!address, address]), [table.get(!address), cover], "{address:x}");
        cover
    }
}

impl Family for u128 {
    type Table = v6::Table;
    const BITS: u8 = 128;
    fn at(base: u128, offset: u128) -> u128 {
        base | offset
    }
    fn table(intervals: &[Interval<u128>], is_wide: bool) -> v6::Table {
        let mut table = v6::Builder::new(intervals.len() / 2, is_wide);
        intervals.iter().for_each(|interval| table.push(*interval));
        table.finish().unwrap()
    }
    fn get(table: &v6::Table, address: u128) -> Cover {
        let cover = table.get(address);
        assert_eq!(table.get_together(&[!address, address]), [table.get(!address), cover], "{address:x}");
        cover
    }
}

fn v4_table(intervals: &[Interval<u32>]) -> v4::Table {
    v4::Table::new(|table| intervals.iter().for_each(|interval| table.push(*interval)))
}

fn v6_table(intervals: &[Interval<u128>]) -> v6::Table {
    v6::Table::new(intervals.len() / 2, |table| intervals.iter().for_each(|interval| table.push(*interval)))
}

fn check<N: Family>(shape: &Shape, corner: Corner<N>, order: Order) {
    let mut ids = 1..;
    let mut network = |n: &(u8, u8, bool, bool)| corner.network(*n, ids.next().unwrap());
    let lists: Vec<Vec<Network<N>>> = shape.iter().map(|list| list.iter().map(&mut network).collect()).collect();
    let mut maker = ChainMaker::default();
    let flat: Vec<_> = lists.iter().map(|list| flat(list.clone(), order, &mut maker)).collect();
    // Here every list may be passed over, so that all lists that cover an address follow each other.
    let slices: Vec<&[Interval<N>]> = flat.iter().map(Vec::as_slice).collect();
    let whole = overlaid(
        &slices,
        |_, entry| Cover::entry(entry),
        |covering| {
            let all: Vec<EntryId> = covering.iter().flat_map(|(_, cover)| maker.chains().entries(cover).collect::<Vec<_>>()).collect();
            maker.sequence(&all)
        },
    );
    let tables = [false, true].map(|is_wide| N::table(&whole, is_wide));
    for byte in 0..=255 {
        let first = corner.first(byte);
        let last = first.last(N::BITS - corner.shift);
        for address in [Some(first), Some(last), last.next()].into_iter().flatten() {
            let want: Vec<EntryId> = lists.iter().flat_map(|list| scan_list(list, address, order)).collect();
            assert_eq!(maker.chains().entries(covering(&whole, address)).collect::<Vec<_>>(), want, "{address:?} in {lists:?}");
            for table in &tables {
                assert_eq!(N::get(table, address), covering(&whole, address), "{address:?} in {lists:?}");
            }
        }
    }
    for address in [N::at(corner.base, 0), corner.base.last(0)] {
        assert!(tables.iter().all(|table| N::get(table, address) == covering(&whole, address)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn tables_answer_as_the_definition_says(
        shape in prop::collection::vec(prop::collection::vec((any::<u8>(), 0u8..=8, prop::bool::weighted(0.2), prop::bool::weighted(0.2)), 0..60), 0..5),
    ) {
        let first = Order::MostSpecific;
        for (base, shift) in [(0, 24), (0xc000_0200, 0), (0xcb00_0000, 12), (0xffff_0000, 8), (0xffff_ff00, 0), (0, 8)] {
            check(&shape, Corner::<u32> { base, shift }, first);
        }
        check(&shape, Corner::<u32> { base: 0xc633_0000, shift: 8 }, Order::First);
        let example = 0x2001_0db8 << 96;
        let end = u128::MAX << 8;
        for (base, shift) in [(0, 120), (example, 60), (example, 64), (example, 56), (example, 0), (0, 0), (end, 0), (end << 64, 64)] {
            check(&shape, Corner::<u128> { base, shift }, first);
        }
        check(&shape, Corner::<u128> { base: example, shift: 80 }, Order::First);
    }
}

#[test]
fn both_ends_of_the_number_space() {
    let networks = vec![Network::plain(0, 32, 1), Network::plain(u32::MAX, 32, 2), Network::plain(0x8000_0000, 1, 3)];
    let table = v4_table(&flat(networks, Order::MostSpecific, &mut ChainMaker::default()));
    for (address, entry) in [(0, 1), (1, 0), (0x7fff_ffff, 0), (0x8000_0000, 3), (u32::MAX - 1, 3), (u32::MAX, 2)] {
        assert_eq!(table.get(address), Cover::entry(entry), "{address:x}");
    }
    assert!(v6_table(&[]).get(u128::MAX).is_none());
    assert!(v4_table(&[]).get(u32::MAX).is_none());
}

/// Thousands of lines in one run: addresses of a /16, so that no two that follow each other have the same answer.
#[test]
fn dense_networks() {
    for step in [1, 2, 3, 7] {
        let networks: Vec<Network<u32>> = (0..0x1_0000 / step).map(|n| Network::plain(0xc633_0000 + n * step, 32, n + 1)).collect();
        let table = v4_table(&flat(networks, Order::MostSpecific, &mut ChainMaker::default()));
        for low in 0..0x1_0000 {
            let expected = if low % step == 0 && low / step < 0x1_0000 / step { low / step + 1 } else { 0 };
            assert_eq!(table.get(0xc633_0000 + low), Cover::entry(expected), "{low} by {step}");
        }
        assert!(table.get(0xc632_ffff).is_none() && table.get(0xc634_0000).is_none());
        // The same in the upper and in the lower half of IPv6 addresses.
        for shift in [64, 0] {
            let base = 0x2001_0db8 << 96;
            let networks = (0..0x1_0000 / step).map(|n| Network {
                start: base + (u128::from(n * step) << shift),
                prefix_len: 128 - shift,
                entry: n + 1,
                hole: false,
                expires: false,
            });
            let table = v6_table(&flat(networks.collect(), Order::MostSpecific, &mut ChainMaker::default()));
            for low in 0..0x1_0000 {
                let expected = if low % step == 0 && low / step < 0x1_0000 / step { low / step + 1 } else { 0 };
                assert_eq!(table.get(base + (u128::from(low) << shift)), Cover::entry(expected), "{low} by {step}");
            }
        }
    }
}

/// Clusters of all widths, far from each other and within each other, and hosts beside each other.
fn clusters() -> impl Strategy<Value = Vec<(u128, u8)>> {
    let bits = |count: std::ops::Range<usize>| prop::collection::vec((any::<u128>(), 0u8..128), count);
    (bits(1..5), bits(1..60), prop::collection::vec(0u8..=128, 60)).prop_map(|(bases, places, lengths)| {
        let place = |(bits, shift): (u128, u8)| bits >> shift;
        let starts = places.into_iter().zip(bases.into_iter().cycle()).map(|(offset, base)| place(base).wrapping_add(place(offset)));
        let networks = starts.zip(lengths).flat_map(|(start, length)| {
            let masked = start & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            [(masked, length), (start, 128), (start & (u128::MAX << 64), 64), (start.wrapping_add(1), 128)]
        });
        networks.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn clusters_of_all_widths(places in clusters()) {
        let networks = (1..).zip(&places).map(|(entry, (start, length))| Network::plain(*start, *length, entry));
        let intervals = flat(networks.collect(), Order::MostSpecific, &mut ChainMaker::default());
        let tables = [false, true].map(|is_wide| u128::table(&intervals, is_wide));
        let edges = intervals.iter().map(|interval| interval.start).chain([0]);
        let around = edges.flat_map(|edge| [0, 1, 1 << 32, 1 << 64, 1 << 96].map(|away| [edge.wrapping_sub(away), edge.wrapping_add(away)]));
        for address in around.flatten() {
            for table in &tables {
                prop_assert_eq!(table.get(address), covering(&intervals, address), "{:x} in {:x?}", address, intervals);
            }
        }
    }
}

#[test]
fn numbers_that_lines_have_no_room_for() {
    let large = Cover::MAX_ENTRY - 2;
    let networks: Vec<(IpNet, u32)> = vec![("192.0.2.0/24".parse().unwrap(), large), ("192.0.2.7".parse::<IpAddr>().unwrap().into(), 5)];
    let table = NetworkTable::of(&networks);
    assert_eq!([0xc000_0206, 0xc000_0207, 0xc000_0208, 0xc000_0300].map(|address| table.v4(address)), [large, 5, large, 0]);
    let networks: Vec<(IpNet, u32)> = vec![("2001:db8::/32".parse().unwrap(), large), ("2001:db8::7".parse::<IpAddr>().unwrap().into(), 5)];
    let table = NetworkTable::of(&networks);
    let example = 0x2001_0db8 << 96;
    assert_eq!([example, example + 7, example + 8, example + (1 << 96)].map(|address| table.v6(address)), [large, 5, large, 0]);
}

#[test]
fn most_networks_take_one_piece() {
    // Clients of block lists lie apart: a line of 64 bytes has ten.
    let networks: Vec<(IpNet, u32)> =
        (0..200_000u32).map(|n| (Ipv4Net::new((0x5000_0000 + n * 37).into(), 32).unwrap().into(), n + 1)).collect();
    let (v4, _) = NetworkTable::of(&networks).bytes();
    assert!(v4 - (1 << 18) < networks.len() * 7, "{v4}");
    // Networks of one provider: a line of 64 bytes has seven, whether they are large or small.
    for length in [48, 64] {
        let network = |n: u32| Ipv6Net::new(((0x2001_0db8 << 96) + (u128::from(n * 37) << (128 - length))).into(), length).unwrap();
        let networks: Vec<(IpNet, u32)> = (0..200_000).map(|n| (network(n).into(), n + 1)).collect();
        let (_, v6) = NetworkTable::of(&networks).bytes();
        assert!(v6 < networks.len() * 12, "{v6}");
    }
}
