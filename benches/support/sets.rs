//! Networks to look up addresses in, the same ones in every run: made-up lists with the shapes of real ones, and real
//! ones from the directory that `MXGATE_FEEDS` names.

#![allow(dead_code, reason = "each program that includes this module uses only a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "bench support: what goes wrong here ends the run, with a message"
)]

use flate2::read::GzDecoder;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use mxgate::networks::NetworkTable;
use proptest::prelude::Rng as _;
use proptest::test_runner::TestRng;
use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;
use std::io::Read as _;
use std::ops::{BitOr, BitXor};
use std::path::{Path, PathBuf};

#[path = "../../tests/support/random.rs"]
mod random;
pub(crate) use random::random;

/// So many addresses are looked up together.
pub(crate) const AT_ONCE: usize = 32;

/// An address of one family, as a number.
pub(crate) trait Address:
    Copy + Send + Sync + Debug + Ord + Hash + From<u32> + BitOr<Output = Self> + BitXor<Output = Self> + 'static
{
    const BITS: u32;
    /// The last bits of a number.
    fn cut(bits: u128) -> Self;
    fn bits(self) -> u128;
    fn net(self, length: u8) -> IpNet;
    /// The address, and what follows, of a network of this family.
    fn of_net(net: IpNet) -> Option<(Self, u8)>;
    /// What our table says.
    fn ours(table: &NetworkTable, address: Self) -> u32;
    fn ours_together(table: &NetworkTable, addresses: &[Self; AT_ONCE]) -> [u32; AT_ONCE];

    /// The bits that tell the hosts of a network apart.
    fn host_bits(length: u8) -> u128 {
        (u128::MAX >> (128 - Self::BITS)).checked_shr(length.into()).unwrap_or(0)
    }
    /// The network of that length that the address lies in.
    fn network(self, length: u8) -> Self {
        Self::cut(self.bits() & !Self::host_bits(length))
    }
    /// The last address of the network that starts here.
    fn last(self, length: u8) -> Self {
        Self::cut(self.bits() | Self::host_bits(length))
    }
}

impl Address for u32 {
    const BITS: u32 = 32;
    fn cut(bits: u128) -> u32 {
        bits as u32
    }
    fn bits(self) -> u128 {
        self.into()
    }
    fn net(self, length: u8) -> IpNet {
        Ipv4Net::new(self.into(), length).unwrap().into()
    }
    fn of_net(net: IpNet) -> Option<(u32, u8)> {
        if let IpNet::V4(net) = net { Some((net.network().to_bits(), net.prefix_len())) } else { None }
    }
    fn ours(table: &NetworkTable, address: u32) -> u32 {
        table.v4(address)
    }
    fn ours_together(table: &NetworkTable, addresses: &[u32; AT_ONCE]) -> [u32; AT_ONCE] {
        table.v4_together(addresses)
    }
}

impl Address for u128 {
    const BITS: u32 = 128;
    fn cut(bits: u128) -> u128 {
        bits
    }
    fn bits(self) -> u128 {
        self
    }
    fn net(self, length: u8) -> IpNet {
        Ipv6Net::new(self.into(), length).unwrap().into()
    }
    fn of_net(net: IpNet) -> Option<(u128, u8)> {
        if let IpNet::V6(net) = net { Some((net.network().to_bits(), net.prefix_len())) } else { None }
    }
    fn ours(table: &NetworkTable, address: u128) -> u32 {
        table.v6(address)
    }
    fn ours_together(table: &NetworkTable, addresses: &[u128; AT_ONCE]) -> [u32; AT_ONCE] {
        table.v6_together(addresses)
    }
}

/// First address, length of the prefix. In a [`Set`] the value of each is its place in the list, from 1.
pub(crate) type Network<A> = (A, u8);

/// A list of networks, each of them once, in no order.
pub(crate) struct Set<A> {
    pub name: String,
    pub networks: Vec<Network<A>>,
    /// The networks that "any address" is drawn from. IPv4: all of it. IPv6: where there are networks at all.
    pub space: Vec<Network<A>>,
}

/// Which addresses are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mix {
    /// Any, spread over the space of the set.
    Any,
    /// Half of them any, half inside a network of the list.
    Half,
    /// Inside a network of the list.
    Inside,
}

impl<A: Address> Set<A> {
    /// As our table takes them.
    pub(crate) fn ours(&self) -> Vec<(IpNet, u32)> {
        self.networks.iter().zip(1..).map(|((start, length), value)| (start.net(*length), value)).collect()
    }

    /// Addresses, in no order.
    pub(crate) fn addresses(&self, count: usize, mix: Mix, random: &mut TestRng) -> Vec<A> {
        (0..count)
            .map(|n| {
                let networks = if mix == Mix::Inside || mix == Mix::Half && n % 2 == 0 { &self.networks } else { &self.space };
                within(*pick(networks, random), random)
            })
            .collect::<Vec<A>>()
            .shuffled(random)
    }

    /// The first of them.
    pub(crate) fn part(&self, name: &str, count: usize) -> Set<A> {
        Set { name: name.to_owned(), networks: self.networks[..count].to_vec(), space: self.space.clone() }
    }
}

trait Shuffled {
    fn shuffled(self, random: &mut TestRng) -> Self;
}

impl<T> Shuffled for Vec<T> {
    fn shuffled(mut self, random: &mut TestRng) -> Vec<T> {
        for at in (1..self.len()).rev() {
            self.swap(at, below(at + 1, random));
        }
        self
    }
}

pub(crate) fn below(limit: usize, random: &mut TestRng) -> usize {
    ((u128::from(random.next_u64()) * limit as u128) >> 64) as usize
}

fn pick<'a, T>(list: &'a [T], random: &mut TestRng) -> &'a T {
    &list[below(list.len(), random)]
}

/// A few of them often, most of them seldom, as hosts that send spam are spread over networks.
fn pick_unevenly<'a, T>(list: &'a [T], random: &mut TestRng) -> &'a T {
    let part = f64::from(random.next_u32()) / f64::from(u32::MAX);
    &list[((part * part * part) * (list.len() - 1) as f64) as usize]
}

/// An address of a network.
pub(crate) fn within<A: Address>((start, length): Network<A>, random: &mut TestRng) -> A {
    start | A::cut(random::random_bits(random) & A::host_bits(length))
}

/// Draws networks until there are `count` different ones.
fn collect<A: Address>(count: usize, random: &mut TestRng, mut draw: impl FnMut(&mut TestRng, &mut Vec<Network<A>>)) -> Vec<Network<A>> {
    let (mut networks, mut seen, mut drawn) = (Vec::with_capacity(count), HashSet::with_capacity(count), Vec::new());
    while networks.len() < count {
        draw(random, &mut drawn);
        for (start, length) in drawn.drain(..) {
            let network = (start.network(length), length);
            if networks.len() < count && seen.insert(network) {
                networks.push(network);
            }
        }
    }
    networks.shuffled(random)
}

/// A block list: three quarters single hosts, in clusters of some neighbours and sometimes of hundreds; one in eight a
/// /24; the rest from /16 to /31. Networks enclose others.
pub(crate) fn v4(name: &str, count: usize, random: &mut TestRng) -> Set<u32> {
    // Four in ten of the /16 that can be announced, in no order.
    let announced: Vec<u32> = (0x0100_u32..0xe000).filter(|high| high >> 8 != 10 && high >> 8 != 127).map(|high| high << 16).collect();
    let announced = announced.shuffled(random);
    let announced = &announced[..announced.len() * 4 / 10];
    let networks = collect(count, random, |random, drawn| {
        let place = pick_unevenly(announced, random) | below(1 << 16, random) as u32;
        match below(100, random) {
            0..50 => {
                // Pareto: a cluster of n or more is n to the power of 3/2 times rarer than one of one.
                let part = (f64::from(random.next_u32()) + 1.0) / (f64::from(u32::MAX) + 1.0);
                for _ in 0..(part.powf(-1.0 / 1.5) as usize).min(200) {
                    drawn.push((place & !0xff | below(256, random) as u32, 32));
                }
            }
            50..77 => drawn.push((place, 24)),
            _ => drawn.push((place, *pick(&[16, 18, 19, 20, 21, 22, 22, 23, 25, 26, 27, 28, 29, 30, 31], random))),
        }
    });
    Set { name: name.to_owned(), networks, space: vec![(0, 0)] }
}

/// An IPv6 list: three in ten a /64, a quarter a /48, a fifth single hosts, the rest from /29 to /56.
pub(crate) fn v6(name: &str, count: usize, random: &mut TestRng) -> Set<u128> {
    let regions = [(0x2001, 16), (0x2400, 12), (0x2600, 12), (0x2800, 12), (0x2a00, 12), (0x2c00, 12)];
    let announced: Vec<Network<u128>> = (0..20_000)
        .map(|_| {
            let (region, length) = *pick(&regions, random);
            (within((region << 112, length), random).network(32), 32)
        })
        .collect();
    let networks = collect(count, random, |random, drawn| {
        let (start, _) = *pick_unevenly(&announced, random);
        // Sites and their networks are numbered from below.
        let few = |random: &mut TestRng| u128::from(random.next_u32() & random.next_u32() & 0xffff);
        let network = start | few(random) << 80 | (few(random) & few(random)) << 64;
        match below(100, random) {
            0..30 => drawn.push((network, 64)),
            30..55 => drawn.push((network, 48)),
            55..75 => drawn.push((network | u128::from(if below(2, random) == 0 { random.next_u64() } else { few(random) as u64 }), 128)),
            _ => drawn.push((network, *pick(&[29, 32, 36, 40, 44, 52, 56], random))),
        }
    });
    Set { name: name.to_owned(), networks, space: announced }
}

/// The directory of real feeds, if there is one.
pub(crate) fn feeds() -> Option<PathBuf> {
    std::env::var_os("MXGATE_FEEDS").map(PathBuf::from)
}

/// The networks of one family in feeds: addresses and networks, one a line, packed.
pub(crate) fn feed<A: Address>(name: &str, files: &[PathBuf], random: &mut TestRng) -> Set<A> {
    let mut networks = Vec::new();
    for file in files {
        let mut text = String::new();
        GzDecoder::new(std::fs::File::open(file).unwrap()).read_to_string(&mut text).unwrap();
        let words = text.lines().filter_map(|line| line.split('#').next()?.split_whitespace().next());
        let net = |word: &str| word.parse::<IpNet>().ok().or_else(|| Some(word.parse::<std::net::IpAddr>().ok()?.into()));
        networks.extend(words.filter_map(net).filter_map(A::of_net));
    }
    networks.sort_unstable();
    networks.dedup();
    let space = if A::BITS == 32 {
        vec![(A::cut(0), 0)]
    } else {
        networks.iter().filter(|(_, length)| *length >= 32).map(|(start, _)| (start.network(32), 32)).collect()
    };
    Set { name: name.to_owned(), networks: networks.shuffled(random), space }
}

/// The real lists of this family: what is on block lists, and what is on the way of all packets.
pub(crate) fn real<A: Address>(random: &mut TestRng) -> Vec<Set<A>> {
    let Some(directory) = feeds() else { return Vec::new() };
    let at = |name: &str| Path::new(&directory).join(name);
    let block: &[PathBuf] = if A::BITS == 32 { &[at("ipsum-v4.txt.gz"), at("networks-v4.txt.gz")] } else { &[at("networks-v6.txt.gz")] };
    [feed("block lists", block, random), feed("BGP", &[at("bgp-table.txt.gz")], random)].into()
}
