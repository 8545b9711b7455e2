//! Addresses and networks as text, for answers: a refusal shows two of them, and `fmt` takes longer for one than the table
//! takes to find it.

use crate::reply::push_cut;
use arrayvec::{ArrayString, ArrayVec};
use ipnet::IpNet;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};

/// The longest network as text: one that stands for IPv4, 45 bytes and `/128`.
const MAX_NETWORK: usize = 49;

/// An octet as text with a full stop behind it, and how long that is.
#[expect(clippy::cast_possible_truncation, clippy::indexing_slicing, reason = "what goes wrong here does not compile")]
const OCTETS: [([u8; 4], usize); 256] = {
    let mut octets = [([b'.'; 4], 0); 256];
    let mut octet = 0;
    while octet < 256 {
        let digits = [b'0' + (octet / 100) as u8, b'0' + (octet / 10 % 10) as u8, b'0' + (octet % 10) as u8];
        let leading_zeros = if octet < 10 { 2 } else { (octet < 100) as usize };
        let mut at = leading_zeros;
        while at < 3 {
            octets[octet].0[at - leading_zeros] = digits[at];
            at += 1;
        }
        octets[octet].1 = 4 - leading_zeros;
        octet += 1;
    }
    octets
};

/// Appends an address, where it fits.
pub(crate) fn push_address<const N: usize>(to: &mut ArrayVec<u8, N>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => push_v4(to, v4),
        IpAddr::V6(v6) => {
            let mut text = ArrayString::<MAX_NETWORK>::new();
            // Cannot fail: the text of every address fits.
            let _ = write!(text, "{v6}");
            push_cut(to, text.as_bytes());
        }
    }
}

/// A network; a host without the length of its prefix.
pub(crate) fn show_network(network: IpNet) -> ArrayVec<u8, MAX_NETWORK> {
    let mut shown = ArrayVec::new();
    push_address(&mut shown, network.addr());
    if network.prefix_len() < network.max_prefix_len() {
        let (digits, length) = OCTETS.get(usize::from(network.prefix_len())).copied().unwrap_or_default();
        push_cut(&mut shown, b"/");
        push_cut(&mut shown, digits.get(..length.saturating_sub(1)).unwrap_or_default());
    }
    shown
}

fn push_v4<const N: usize>(to: &mut ArrayVec<u8, N>, address: Ipv4Addr) {
    let mut text = [0; 16];
    let mut end = 0;
    for octet in address.octets() {
        // What is written behind an octet is written over by the next one.
        let (Some((digits, length)), Some(place)) = (OCTETS.get(usize::from(octet)), text.get_mut(end..end + 4)) else { return };
        place.copy_from_slice(digits);
        end += length;
    }
    push_cut(to, text.get(..end.saturating_sub(1)).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::text;
    use ipnet::{Ipv4Net, Ipv6Net};
    use std::net::Ipv6Addr;

    fn shown(address: IpAddr) -> String {
        let mut shown = ArrayVec::<u8, MAX_NETWORK>::new();
        push_address(&mut shown, address);
        text(&shown).to_string()
    }

    #[test]
    fn addresses_and_networks_read_as_fmt_has_them() {
        for octet in 0..=255 {
            for address in [[octet, 0, 2, 1], [192, octet, 2, 1], [192, 0, octet, 10], [198, 51, 100, octet]].map(Ipv4Addr::from) {
                assert_eq!(shown(address.into()), address.to_string());
            }
        }
        for length in 0..=32 {
            let network = IpNet::from(Ipv4Net::new_assert(Ipv4Addr::new(255, 255, 255, 255), length)).trunc();
            let expected = if length == 32 { network.addr().to_string() } else { network.to_string() };
            assert_eq!(text(&show_network(network)).as_str(), expected);
        }
        for length in 0..=128 {
            let network = IpNet::from(Ipv6Net::new_assert(Ipv6Addr::from_bits(u128::MAX), length));
            let expected = if length == 128 { network.addr().to_string() } else { network.to_string() };
            assert_eq!(text(&show_network(network)).as_str(), expected);
        }
        for address in ["::", "::1", "2001:db8::1", "::ffff:255.255.255.255", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"] {
            assert_eq!(shown(address.parse().unwrap()), address);
        }
    }
}
