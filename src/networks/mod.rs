//! The network table: which entry decides about an address, many lists in one table.
//!
//! Who wins is settled when the table is built: `intervals` turns the networks of one list into disjoint intervals (the
//! most specific entry wins, a hole covers nothing) and lays the lists over each other (the first list that covers an
//! address wins). A look-up then is "the last interval that begins at or before the address", whatever the rules are; ten
//! lists cost the same as one.
//!
//! The tables (`v4`, `v6`) are flat arrays. A look-up reads a small array that stays near the processor, and one cache line
//! of a large one:
//!
//! ```text
//!   192.0.2.7  -->  root[192.0]  -->  line | 2.7 A /32 | 2.16 B /28 | 3.0 C /24 | ... | else: nothing |
//! ```
//!
//! In a line stand networks with their size, and what holds between them (`runs`): a cache line of 64 bytes has ten
//! networks of IPv4 or seven of IPv6, with the entry that each of them leads to. Nothing is followed but offsets, all of them
//! checked, so that the arrays work wherever they lie; `cargo bench --bench networks` compares them with others.

mod cover;
mod index;
mod intervals;
mod lengths;
mod rank;
mod runs;
mod sort;
mod v4;
mod v6;

#[cfg(test)]
mod tests;

pub(crate) use cover::{ChainMaker, Chains, Cover, EntryId, Link};
#[cfg(test)]
use intervals::flatten;
pub(crate) use intervals::{Covering, GivenUp, Interval, Intervals, Network, Number, Order, covering, overlaid, overlay};

pub(crate) use v4::Table as V4Table;
pub(crate) use v6::Table as V6Table;

use crate::image::{Reader, Stored, Writer};
use ipnet::IpNet;
use std::net::IpAddr;

/// Networks of both address families, ready to be asked.
#[derive(Clone, Debug, Default)]
pub struct NetworkTable {
    v4: v4::Table,
    v6: v6::Table,
}

impl NetworkTable {
    /// A table of networks with a value each, 1 to 2^30 - 1. The longest prefix wins, of two for the same network the first.
    /// IPv4-mapped networks are IPv6 here.
    pub fn of(networks: &[(IpNet, u32)]) -> NetworkTable {
        let Intervals { mut v4, mut v6, .. } = Intervals::of(networks.iter().map(|(net, _)| *net));
        let value = |cover: Cover| {
            let entry = cover.single().and_then(|entry| networks.get(entry as usize - 1));
            entry.map_or(Cover::NONE, |(_, value)| Cover::entry(*value))
        };
        v4.iter_mut().for_each(|interval| interval.cover = value(interval.cover));
        v6.iter_mut().for_each(|interval| interval.cover = value(interval.cover));
        let v4 = V4Table::new(|table| v4.iter().for_each(|interval| table.push(*interval)));
        NetworkTable::new(v4, V6Table::new(v6.len() / 2, |table| v6.iter().for_each(|interval| table.push(*interval))))
    }

    /// The tables of both families as one, when what they are made of is gone.
    pub(crate) fn new(mut v4: V4Table, mut v6: V6Table) -> NetworkTable {
        v4.shrink();
        v6.shrink();
        NetworkTable { v4, v6 }
    }

    /// What covers an address. By reference and always inline: addresses of four bytes and of sixteen in one value cost more to
    /// hand on than to look up.
    #[inline(always)]
    pub(crate) fn get(&self, address: &IpAddr) -> Cover {
        match address {
            IpAddr::V4(v4) => self.v4.get(v4.to_bits()),
            IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
                Some(v4) => self.v4.get(v4.to_bits()),
                None => self.v6.get(v6.to_bits()),
            },
        }
    }

    /// What covers an IPv4 address, as a number with the first octet uppermost; and the length of the prefix, if one entry that
    /// always counts covers it, and the table knows it; else 0.
    #[inline(always)]
    pub(crate) fn get_v4_with_length(&self, address: u32) -> (Cover, u8) {
        self.v4.get_with_length(address)
    }

    /// Tells the table how long the prefixes of IPv4 entries are, of those that always count.
    pub(crate) fn tell_lengths(&mut self, length: impl Fn(EntryId) -> Option<u8>) {
        self.v4.tell_lengths(length);
    }

    /// The value for an IPv4 address, as a number with the first octet uppermost; 0 if there is none.
    #[inline]
    pub fn v4(&self, address: u32) -> u32 {
        self.v4.get(address).single_or_0()
    }

    /// The value for an IPv6 address, as a number with the first octet uppermost; 0 if there is none.
    #[inline]
    pub fn v6(&self, address: u128) -> u32 {
        self.v6.get(address).single_or_0()
    }

    /// As [`NetworkTable::v4`], for some addresses at once: 32 or so together take less time than one by one, because the
    /// memory is read for all of them at the same time (`cargo bench --bench networks`).
    #[inline]
    pub fn v4_together<const N: usize>(&self, addresses: &[u32; N]) -> [u32; N] {
        self.v4.get_together(addresses).map(Cover::single_or_0)
    }

    /// As [`NetworkTable::v6`], for some addresses at once.
    #[inline]
    pub fn v6_together<const N: usize>(&self, addresses: &[u128; N]) -> [u32; N] {
        self.v6.get_together(addresses).map(Cover::single_or_0)
    }

    /// Whether no address is covered.
    pub(crate) fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// How much memory the tables of IPv4 and IPv6 take, in bytes.
    pub fn bytes(&self) -> (usize, usize) {
        (self.v4.bytes(), self.v6.bytes())
    }
}

impl Stored for NetworkTable {
    fn store(&self, image: &mut Writer) {
        self.v4.store(image);
        self.v6.store(image);
    }

    fn restore(image: &mut Reader) -> Option<NetworkTable> {
        Some(NetworkTable { v4: v4::Table::restore(image)?, v6: v6::Table::restore(image)? })
    }
}
