//! Sets of addresses, exactly: what is left of a family when conditions are nested.

use super::Subject;
use crate::prefix::unmap;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A set of addresses of one family, as numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Region {
    v4: bool,
    /// First and last address of each part; in order, disjoint.
    parts: Vec<(u128, u128)>,
}

impl Region {
    /// The addresses of a network.
    pub(super) fn network(network: IpNet) -> Region {
        let (first, last) = match network {
            IpNet::V4(net) => (net.network().to_bits().into(), net.broadcast().to_bits().into()),
            IpNet::V6(net) => (net.network().to_bits(), net.broadcast().to_bits()),
        };
        Region { v4: matches!(network, IpNet::V4(_)), parts: vec![(first, last)] }
    }

    fn end(&self) -> u128 {
        if self.v4 { u32::MAX.into() } else { u128::MAX }
    }

    /// All addresses of the same family that are not in the set.
    pub(super) fn complement(&self) -> Region {
        let mut parts = Vec::with_capacity(self.parts.len() + 1);
        let mut next = Some(0);
        for (first, last) in &self.parts {
            if let Some(start) = next
                && start < *first
            {
                parts.push((start, first - 1));
            }
            next = last.checked_add(1);
        }
        if let Some(start) = next.filter(|start| *start <= self.end()) {
            parts.push((start, self.end()));
        }
        Region { v4: self.v4, parts }
    }

    /// The addresses that are in both sets: none if they are of different families.
    pub(super) fn intersection(&self, other: &Region) -> Region {
        let mut parts = Vec::new();
        let (mut left, mut right) = (self.parts.iter().peekable(), other.parts.iter().peekable());
        while let (Some(a), Some(b)) = (left.peek().copied(), right.peek().copied()) {
            let (first, last) = (a.0.max(b.0), a.1.min(b.1));
            if first <= last && self.v4 == other.v4 {
                parts.push((first, last));
            }
            // The part that ends first cannot meet anything that comes after.
            if a.1 <= b.1 {
                left.next();
            }
            if b.1 <= a.1 {
                right.next();
            }
        }
        Region { v4: self.v4, parts }
    }

    /// Whether it is a whole address family.
    pub(super) fn is_everything(&self) -> bool {
        self.parts == [(0, self.end())]
    }

    /// Whether it has no address.
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The parts, as subjects of records.
    pub(super) fn subjects(&self) -> impl Iterator<Item = Subject<'static>> {
        self.parts.iter().map(|(first, last)| if self.v4 { range4(low(*first), low(*last)) } else { range6(*first, *last) })
    }
}

/// An IPv4 address; the numbers of a set of them are never larger.
fn low(number: u128) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The addresses from the first to the last: a network if they are one.
pub(super) fn range4(first: u32, last: u32) -> Subject<'static> {
    let length = (first ^ last).leading_zeros();
    match u8::try_from(length) {
        Ok(length) if first ^ last == u32::MAX.checked_shr(length.into()).unwrap_or(0) && (first & (first ^ last)) == 0 => {
            Subject::Network(IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::from_bits(first), length)))
        }
        _ => Subject::Range(IpAddr::V4(Ipv4Addr::from_bits(first)), IpAddr::V4(Ipv4Addr::from_bits(last))),
    }
}

/// The addresses from the first to the last: a network if they are one.
fn range6(first: u128, last: u128) -> Subject<'static> {
    let length = (first ^ last).leading_zeros();
    match u8::try_from(length) {
        Ok(length) if first ^ last == u128::MAX.checked_shr(length.into()).unwrap_or(0) && (first & (first ^ last)) == 0 => {
            Subject::Network(unmap(IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from_bits(first), length))))
        }
        _ => Subject::Range(IpAddr::V6(Ipv6Addr::from_bits(first)), IpAddr::V6(Ipv6Addr::from_bits(last))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn region(text: &str) -> Region {
        Region::network(text.parse().unwrap())
    }

    #[test]
    fn ends_of_the_number_space() {
        assert_eq!(region("0.0.0.0/1").complement(), region("128.0.0.0/1"));
        assert_eq!(region("255.255.255.255/32").complement().parts, [(0, 0xffff_fffe)]);
        assert_eq!(region("::/1").complement(), region("8000::/1"));
        assert!(region("::/0").complement().is_empty());
        assert!(region("0.0.0.0/0").is_everything() && !region("0.0.0.0/1").is_everything());
        assert!(region("::/0").intersection(&region("0.0.0.0/0")).is_empty());
        let shown: Vec<String> = region("10.0.0.0/8").complement().subjects().map(|subject| format!("{subject:?}")).collect();
        assert_eq!(shown, ["Range(0.0.0.0, 9.255.255.255)", "Range(11.0.0.0, 255.255.255.255)"]);
    }

    #[test]
    fn ranges_that_are_networks() {
        assert_eq!(range4(0, u32::MAX), Subject::Network("0.0.0.0/0".parse().unwrap()));
        assert_eq!(range4(7, 7), Subject::Network("0.0.0.7/32".parse().unwrap()));
        assert_eq!(range4(8, 15), Subject::Network("0.0.0.8/29".parse().unwrap()));
        assert!(matches!(range4(7, 8), Subject::Range(..)));
        assert!(matches!(range4(8, 14), Subject::Range(..)));
        assert!(matches!(range4(1, 7), Subject::Range(..)));
        assert_eq!(range6(0, u128::MAX), Subject::Network("::/0".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn as_sets_of_numbers(sets in prop::collection::vec((any::<u8>(), 24u8..=32, any::<bool>()), 1..6)) {
            let mut got = region("192.0.2.0/24");
            let mut want: Vec<u8> = (0..=255).collect();
            for (byte, length, not) in sets {
                let network = IpNet::new([192, 0, 2, byte].map(|b| b).into(), length).unwrap().trunc();
                let other = Region::network(network);
                got = got.intersection(&if not { other.complement() } else { other });
                want.retain(|byte| network.contains(&IpAddr::from([192, 0, 2, *byte])) != not);
            }
            let base = 0xc000_0200_u128;
            let numbers: Vec<u8> = got.parts.iter().flat_map(|(first, last)| *first..=*last).map(|n| u8::try_from(n - base).unwrap()).collect();
            prop_assert_eq!(numbers, want);
        }
    }
}
