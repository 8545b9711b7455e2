//! Addresses and networks as text, for answers: a refusal shows two of them, and `fmt` takes longer for one than the table
//! takes to find it.

use crate::line::Line;
use arrayvec::ArrayString;
use ipnet::IpNet;
use std::fmt::Write;
use std::net::IpAddr;

/// Each octet as text with a full stop behind it, and how long that is.
#[expect(clippy::cast_possible_truncation, clippy::indexing_slicing, reason = "what goes wrong here does not compile")]
const OCTETS: [([u8; 4], usize); 256] = {
    let mut octets = [([0; 4], 0); 256];
    let mut octet = 0;
    while octet < 256 {
        let digits = [b'0' + (octet / 100) as u8, b'0' + (octet / 10 % 10) as u8, b'0' + (octet % 10) as u8];
        let leading_zeros = if octet < 10 { 2 } else { (octet < 100) as usize };
        let mut at = leading_zeros;
        while at < 3 {
            octets[octet].0[at - leading_zeros] = digits[at];
            at += 1;
        }
        octets[octet].0[3 - leading_zeros] = b'.';
        octets[octet].1 = 4 - leading_zeros;
        octet += 1;
    }
    octets
};

/// An IPv4 address as text, for those who need it twice: two pieces, and how long each is. Pieces, because a processor waits
/// when it reads at once as a whole what it has just written in parts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShownV4([([u8; 8], usize); 2]);

impl ShownV4 {
    /// The text of an address, as a number with the first octet uppermost.
    #[inline]
    pub(crate) fn of(address: u32) -> ShownV4 {
        let [a, b, c, d] = address.to_be_bytes();
        ShownV4([shown_both(a, b), shown_both(c, d)])
    }
}

impl Line<'_> {
    /// Appends an address.
    pub(crate) fn push_address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => self.push_v4(v4.to_bits()),
            IpAddr::V6(v6) => {
                let mut text = ArrayString::<45>::new();
                // Cannot fail: the text of every address fits.
                let _ = write!(text, "{v6}");
                self.push(text.as_bytes());
            }
        }
    }

    /// Appends an IPv4 address, as a number with the first octet uppermost.
    #[inline]
    pub(crate) fn push_v4(&mut self, address: u32) {
        self.push_shown_v4(ShownV4::of(address));
    }

    /// Appends an IPv4 address that is text already.
    #[inline(always)]
    pub(crate) fn push_shown_v4(&mut self, ShownV4([(first, length), (second, more)]): ShownV4) {
        self.push_written(|place: &mut [u8; 16]| {
            if let Some(start) = place.first_chunk_mut() {
                *start = first;
            }
            if let Some(rest) = place.get_mut(length..).and_then(<[u8]>::first_chunk_mut) {
                *rest = second;
            }
            length + more - 1
        });
    }

    /// Appends the network of that length that an IPv4 address is in, whose text is `shown`; a host without the length.
    #[inline(always)]
    pub(crate) fn push_network_of(&mut self, address: u32, shown: ShownV4, length: u8) {
        match u32::MAX.checked_shr(length.into()) {
            None | Some(0) => self.push_shown_v4(shown),
            Some(host_bits) => {
                self.push_v4(address & !host_bits);
                self.push_length(length);
            }
        }
    }

    /// Appends a network; a host without the length of its prefix.
    pub(crate) fn push_network(&mut self, network: IpNet) {
        self.push_address(network.addr());
        if network.prefix_len() < network.max_prefix_len() {
            self.push_length(network.prefix_len());
        }
    }

    /// Appends the length of a prefix.
    pub(crate) fn push_length(&mut self, length: u8) {
        let (digits, digits_length) = shown(length);
        let [a, b, c, _] = digits;
        self.push_first(digits_length, &[b'/', a, b, c]);
    }
}

/// Two numbers as text with full stops behind them, and how long that is.
fn shown_both(one: u8, other: u8) -> ([u8; 8], usize) {
    let ((one, length), (other, more)) = (shown(one), shown(other));
    // Eight bytes as a number, the first in its lowest bits.
    let both = u64::from(u32::from_le_bytes(one)) | u64::from(u32::from_le_bytes(other)) << (8 * length);
    (both.to_le_bytes(), length + more)
}

/// A number as text with a full stop behind it, and how long that is.
fn shown(number: u8) -> ([u8; 4], usize) {
    OCTETS.get(usize::from(number)).copied().unwrap_or((*b"0.\0\0", 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipnet::{Ipv4Net, Ipv6Net};
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn shown(push: impl FnOnce(&mut Line<'_>)) -> String {
        let mut place = [0; 64];
        let mut line = Line::new(&mut place);
        push(&mut line);
        line.text::<64>().to_string()
    }

    #[test]
    fn addresses_and_networks_read_as_fmt_has_them() {
        for octet in 0..=255 {
            for address in [[octet, 0, 2, 1], [192, octet, 2, 1], [192, 0, octet, 10], [198, 51, 100, octet]].map(Ipv4Addr::from) {
                assert_eq!(shown(|line| line.push_address(address.into())), address.to_string());
            }
        }
        for length in 0..=32 {
            let network = IpNet::from(Ipv4Net::new_assert(Ipv4Addr::new(255, 255, 255, 255), length)).trunc();
            let expected = if length == 32 { network.addr().to_string() } else { network.to_string() };
            assert_eq!(shown(|line| line.push_network(network)), expected);
        }
        for length in 0..=128 {
            let network = IpNet::from(Ipv6Net::new_assert(Ipv6Addr::from_bits(u128::MAX), length));
            let expected = if length == 128 { network.addr().to_string() } else { network.to_string() };
            assert_eq!(shown(|line| line.push_network(network)), expected);
        }
        for address in ["::", "::1", "2001:db8::1", "::ffff:255.255.255.255", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"] {
            assert_eq!(shown(|line| line.push_address(address.parse().unwrap())), address);
        }
    }
}
