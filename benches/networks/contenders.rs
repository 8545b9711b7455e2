//! What our network table is compared with: crates, two structures of the textbooks, and what the memory itself takes.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::large_stack_arrays,
    reason = "what goes wrong here ends the run, with a message"
)]

use crate::measure::{Counting, Question, latency, throughput, time};
use crate::sets::{AT_ONCE, Address, Set};
use ip_network_table::IpNetworkTable;
use ipnet::{Ipv4Net, Ipv6Net};
use iptrie::map::{LCTrieMap, RTrieMap};
use iptrie::{Ipv4Prefix, Ipv6Prefix};
use mxgate::networks::NetworkTable;
use poptrie::Poptrie;
use prefix_trie::PrefixMap;
use std::net::{Ipv4Addr, Ipv6Addr};

pub(crate) const OURS: &str = "mxgate";
pub(crate) const TOGETHER: &str = "mxgate, 32 at once";
pub(crate) const FLOOR: &str = "floor: a root read, then one line";
pub(crate) const DIR_24_8: &str = "DIR-24-8";
pub(crate) const CRATES: [&str; 4] = ["prefix-trie", "ip_network_table", "iptrie (LC-trie)", "poptrie"];

/// A table with the addresses of one family, and its loops, which are compiled for it.
pub(crate) trait Table<A> {
    fn throughput(&self, addresses: &[A]) -> f64;
    fn latency(&self, addresses: &[A]) -> f64;
    fn answer(&self, address: A) -> u32;
}

struct Asked<T, F> {
    table: T,
    get: F,
}

impl<A: Address + Question, T, F: Fn(&T, A) -> u32> Table<A> for Asked<T, F> {
    fn throughput(&self, addresses: &[A]) -> f64 {
        throughput(addresses, |address| (self.get)(&self.table, address))
    }
    fn latency(&self, addresses: &[A]) -> f64 {
        latency(addresses, |address| (self.get)(&self.table, address))
    }
    fn answer(&self, address: A) -> u32 {
        (self.get)(&self.table, address)
    }
}

/// Our table, asked for some addresses at once. Latency has no meaning then, and is that of one alone.
struct Together(NetworkTable);

impl<A: Address + Question> Table<A> for Together {
    fn throughput(&self, addresses: &[A]) -> f64 {
        let (groups, _) = addresses.as_chunks::<AT_ONCE>();
        throughput(groups, |group| A::ours_together(&self.0, &group).iter().fold(0, |sum, value| sum.wrapping_add(*value))) / AT_ONCE as f64
    }
    fn latency(&self, addresses: &[A]) -> f64 {
        latency(addresses, |address| A::ours(&self.0, address))
    }
    fn answer(&self, address: A) -> u32 {
        let group = std::array::from_fn(|at| if at == 9 { address } else { A::cut(at as u128) });
        A::ours_together(&self.0, &group)[9]
    }
}

pub(crate) struct Contender<A> {
    pub name: &'static str,
    pub bytes: usize,
    /// Seconds to make it of networks in no order.
    pub build: f64,
    pub table: Box<dyn Table<A>>,
}

fn contender<A: Address + Question, T: 'static>(
    name: &'static str,
    make: impl FnOnce() -> T,
    get: impl Fn(&T, A) -> u32 + 'static,
) -> Contender<A> {
    let before = Counting::taken();
    let (table, build) = time(make);
    let bytes = usize::try_from(Counting::taken() - before).unwrap_or(0);
    Contender { name, bytes, build, table: Box::new(Asked { table, get }) }
}

/// Families that there are contenders for.
pub(crate) trait Family: Address + Question {
    fn crates(set: &Set<Self>) -> Vec<Contender<Self>>;
}

pub(crate) fn all<A: Family>(set: &Set<A>) -> Vec<Contender<A>> {
    let ours = set.ours();
    let mut all = vec![contender(OURS, || NetworkTable::of(&ours), |table: &NetworkTable, address| A::ours(table, address))];
    let (table, build) = time(|| NetworkTable::of(&ours));
    all.push(Contender { name: TOGETHER, bytes: all[0].bytes, build, table: Box::new(Together(table)) });
    drop(ours);
    all.extend(A::crates(set));
    all.push(contender("sorted array", || Sorted::new(set), |table: &Sorted<A>, address| table.get(address)));
    let bytes = all[0].bytes;
    all.push(contender(FLOOR, || Floor::new(bytes), |floor: &Floor, address| floor.get(address)));
    all
}

impl Family for u32 {
    fn crates(set: &Set<u32>) -> Vec<Contender<u32>> {
        let networks = || set.networks.iter().zip(1_u32..).map(|((start, length), value)| (*start, *length, value));
        let net = |start: u32, length| Ipv4Net::new_assert(start.into(), length);
        vec![
            contender(
                CRATES[0],
                || networks().map(|(start, length, value)| (net(start, length), value)).collect::<PrefixMap<Ipv4Net, u32>>(),
                |table, address: u32| table.get_lpm(&Ipv4Net::new_assert(address.into(), 32)).map_or(0, |(_, value)| *value),
            ),
            contender(
                CRATES[1],
                || {
                    let mut table = IpNetworkTable::new();
                    networks().for_each(|(start, length, value)| {
                        table.insert(ip_network::Ipv4Network::new(start.into(), length).unwrap(), value);
                    });
                    table
                },
                |table, address: u32| table.longest_match_ipv4(address.into()).map_or(0, |(_, value)| *value),
            ),
            contender(
                CRATES[2],
                || {
                    networks()
                        .map(|(start, length, value)| (Ipv4Prefix::new(start.into(), length).unwrap(), value))
                        .collect::<RTrieMap<_, _>>()
                        .compress()
                },
                |table: &LCTrieMap<Ipv4Prefix, u32>, address: u32| *table.lookup(&Ipv4Addr::from(address)).1,
            ),
            contender(
                CRATES[3],
                || networks().map(|(start, length, value)| ((start, length), value)).collect::<Poptrie<(u32, u8), u32>>(),
                |table, address: u32| table.lookup(address).copied().unwrap_or(0),
            ),
            contender(DIR_24_8, || Dir24::new(set), |table: &Dir24, address| table.get(address)),
        ]
    }
}

impl Family for u128 {
    fn crates(set: &Set<u128>) -> Vec<Contender<u128>> {
        let networks = || set.networks.iter().zip(1_u32..).map(|((start, length), value)| (*start, *length, value));
        let net = |start: u128, length| Ipv6Net::new_assert(start.into(), length);
        vec![
            contender(
                CRATES[0],
                || networks().map(|(start, length, value)| (net(start, length), value)).collect::<PrefixMap<Ipv6Net, u32>>(),
                |table, address: u128| table.get_lpm(&Ipv6Net::new_assert(address.into(), 128)).map_or(0, |(_, value)| *value),
            ),
            contender(
                CRATES[1],
                || {
                    let mut table = IpNetworkTable::new();
                    networks().for_each(|(start, length, value)| {
                        table.insert(ip_network::Ipv6Network::new(start.into(), length).unwrap(), value);
                    });
                    table
                },
                |table, address: u128| table.longest_match_ipv6(address.into()).map_or(0, |(_, value)| *value),
            ),
            contender(
                CRATES[2],
                || {
                    networks()
                        .map(|(start, length, value)| (Ipv6Prefix::new(start.into(), length).unwrap(), value))
                        .collect::<RTrieMap<_, _>>()
                        .compress()
                },
                |table: &LCTrieMap<Ipv6Prefix, u32>, address: u128| *table.lookup(&Ipv6Addr::from(address)).1,
            ),
            contender(
                CRATES[3],
                || networks().map(|(start, length, value)| ((start, length), value)).collect::<Poptrie<(u128, u8), u32>>(),
                |table, address: u128| table.lookup(address).copied().unwrap_or(0),
            ),
        ]
    }
}

/// The intervals that the networks divide the address space into, in order, and a binary search.
struct Sorted<A> {
    starts: Vec<A>,
    values: Vec<u32>,
}

impl<A: Address> Sorted<A> {
    fn new(set: &Set<A>) -> Sorted<A> {
        let mut networks: Vec<_> = set.networks.iter().zip(1..).map(|((start, length), value)| (*start, *length, value)).collect();
        networks.sort_unstable();
        let mut sorted = Sorted { starts: Vec::new(), values: Vec::new() };
        // The networks that enclose the current one: last address, value.
        let mut open: Vec<(A, u32)> = Vec::new();
        for (start, length, value) in networks {
            sorted.close(&mut open, |last| last < start);
            sorted.put(start, value);
            open.push((start.last(length), value));
        }
        sorted.close(&mut open, |_| true);
        sorted.starts.shrink_to_fit();
        sorted.values.shrink_to_fit();
        sorted
    }

    fn close(&mut self, open: &mut Vec<(A, u32)>, over: impl Fn(A) -> bool) {
        while let Some((last, _)) = open.pop_if(|(last, _)| over(*last)) {
            if last.bits() != A::host_bits(0) {
                self.put(A::cut(last.bits() + 1), open.last().map_or(0, |(_, value)| *value));
            }
        }
    }

    fn put(&mut self, start: A, value: u32) {
        if self.starts.last() == Some(&start) {
            self.starts.pop();
            self.values.pop();
        }
        if self.values.last().copied().unwrap_or(0) != value {
            self.starts.push(start);
            self.values.push(value);
        }
    }

    fn get(&self, address: A) -> u32 {
        let after = self.starts.partition_point(|start| *start <= address);
        if after == 0 { 0 } else { self.values[after - 1] }
    }
}

/// A value for each /24, or the number of a block with a value for each address.
struct Dir24 {
    networks: Box<[u32; 1 << 24]>,
    blocks: Vec<[u32; 256]>,
}

impl Dir24 {
    const BLOCK: u32 = 1 << 31;

    fn new(set: &Set<u32>) -> Dir24 {
        let mut table = Dir24 { networks: vec![0; 1 << 24].try_into().unwrap(), blocks: Vec::new() };
        let mut networks: Vec<_> = set.networks.iter().zip(1..).map(|((start, length), value)| (*length, *start, value)).collect();
        networks.sort_unstable();
        for (length, start, value) in networks {
            let (from, to) = (start as usize, start.last(length) as usize);
            if length <= 24 {
                table.networks[from >> 8..=to >> 8].fill(value);
                continue;
            }
            let slot = &mut table.networks[from >> 8];
            if *slot & Dir24::BLOCK == 0 {
                table.blocks.push([*slot; 256]);
                *slot = Dir24::BLOCK | (table.blocks.len() - 1) as u32;
            }
            table.blocks[(*slot & !Dir24::BLOCK) as usize][from & 255..=to & 255].fill(value);
        }
        table.blocks.shrink_to_fit();
        table
    }

    fn get(&self, address: u32) -> u32 {
        let slot = self.networks[(address >> 8) as usize];
        if slot & Dir24::BLOCK == 0 { slot } else { self.blocks[(slot & !Dir24::BLOCK) as usize][(address & 255) as usize] }
    }
}

/// What no table of that many bytes can go below: a read of a root by the leading bits, then one line of 64 bytes, any one, which is
/// found by what the root says, and compared.
struct Floor {
    shift: u32,
    root: Vec<u32>,
    lines: Vec<Line>,
}

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([i32; 16]);

impl Floor {
    fn new(bytes: usize) -> Floor {
        // 256 KiB, but no more than half of the bytes.
        let bits = (bytes / 8).max(1).ilog2().min(16);
        let root: Vec<u32> = (0..1_u32 << bits).map(|slot| slot.wrapping_mul(0x9e37_79b9)).collect();
        let lines = bytes.saturating_sub(root.len() * 4).div_ceil(64).max(1);
        let line = |number: i32| Line(std::array::from_fn(|key| (key as i32 - 8).wrapping_mul(1 << 28).wrapping_add(number)));
        Floor { shift: 32 - bits, root, lines: (0..lines as i32).map(line).collect() }
    }

    fn get<A: Address>(&self, address: A) -> u32 {
        // The upper 32 bits of 32 or 64.
        let upper = (address.bits() >> (A::BITS - 32)) as u32;
        let rest = (address.bits() >> A::BITS.saturating_sub(64)) as u32;
        let from = self.root[(upper >> self.shift) as usize];
        let line = (u64::from((from ^ rest).wrapping_mul(0x85eb_ca6b)) * self.lines.len() as u64) >> 32;
        self.lines[line as usize].0.iter().map(|key| u32::from(*key < rest as i32)).sum()
    }
}
