//! Addresses and networks as text, for answers: a refusal shows two of them, and `fmt` takes longer for one than the table
//! takes to find it.

use crate::line::{Line, write_at};
use arrayvec::ArrayString;
use ipnet::IpNet;
use std::fmt::Write;
use std::net::IpAddr;

/// A text of at most four bytes with NULs behind it, and how many it has.
type Few = ([u8; 4], u32);

/// Each octet as text with a full stop behind it.
#[expect(clippy::cast_possible_truncation, clippy::indexing_slicing, reason = "what goes wrong here does not compile")]
const OCTETS: [Few; 256] = {
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
        octets[octet].1 = 4 - leading_zeros as u32;
        octet += 1;
    }
    octets
};

/// The shortest prefix of a network whose first three octets are those of every address in it.
const NARROW: u8 = 24;

/// The lengths of prefixes from [`NARROW`] on, as they stand behind a network; nothing for a host. As a number with the first byte
/// in its lowest bits, of which the first byte is the difference to the full stop in whose place it goes.
#[expect(clippy::indexing_slicing, reason = "what goes wrong here does not compile")]
const LENGTHS: [u32; 9] = {
    let mut lengths = [b'.' as u32; 9];
    let mut length = NARROW;
    while length < 32 {
        let [first, second, ..] = OCTETS[length as usize].0;
        lengths[(length - NARROW) as usize] = u32::from_le_bytes([b'/' ^ b'.', first, second, 0]);
        length += 1;
    }
    lengths
};

/// Two octets as text with full stops behind them.
#[derive(Clone, Copy, Debug)]
struct Half {
    text: [u8; 8],
    /// How many bytes the first octet has, and both.
    first: usize,
    both: usize,
}

/// An IPv4 address as text: two pieces, because a processor waits when it reads at once as a whole what it has just written in
/// parts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShownV4 {
    address: u32,
    halves: [Half; 2],
}

impl ShownV4 {
    /// The text of an address, as a number with the first octet uppermost.
    #[inline(always)]
    pub(crate) fn of(address: u32) -> ShownV4 {
        let [a, b, c, d] = address.to_be_bytes();
        ShownV4 { address, halves: [half(a, b), half(c, d)] }
    }

    /// Writes it at a place of an array, and says where it ends. A full stop stands behind it.
    #[inline(always)]
    pub(crate) fn write<const N: usize>(&self, array: &mut [u8; N], at: usize) -> usize {
        let [first, second] = &self.halves;
        write_at(array, at, &first.text);
        write_at(array, at + first.both, &second.text);
        at + first.both + second.both - 1
    }

    /// Writes the network of that length that it is in at the beginning of an array, a host without the length, and says where it
    /// ends; a NUL stands behind it.
    ///
    /// The length comes from far away, so nothing waits for it but the bytes themselves: where they go depends on the address
    /// alone, and what comes next can begin meanwhile. Nor is it asked whether it is a host: a processor would guess wrong in lists
    /// that have both. Of wide networks there are few.
    #[inline(always)]
    pub(crate) fn write_network<const N: usize>(&self, array: &mut [u8; N], length: u8) -> usize {
        const { assert!(N >= ROOM_OF_V4) }
        let Some(behind) = LENGTHS.get(usize::from(length.wrapping_sub(NARROW))) else {
            return self.write_wide_network(array, length);
        };
        let [first, second] = &self.halves;
        let ([.., octet], [.., mask]) = (self.address.to_be_bytes(), (0xff00u32 >> (length - NARROW)).to_be_bytes());
        let (last, last_length) = shown(octet & mask);
        // The full stop at its end becomes the beginning of what is behind.
        let last = u64::from(u32::from_le_bytes(last)) ^ u64::from(*behind) << (8 * (last_length - 1) % 64);
        let last_at = first.both + second.first;
        write_at(array, 0, &first.text);
        write_at(array, first.both, &second.text);
        write_at(array, last_at, &last.to_le_bytes());
        last_at + 8 - last.leading_zeros() as usize / 8
    }

    /// As above, for networks that differ in the first three octets.
    #[cold]
    fn write_wide_network<const N: usize>(&self, array: &mut [u8; N], length: u8) -> usize {
        let length = length.min(NARROW);
        let end = ShownV4::of(self.address & !(u32::MAX >> length)).write(array, 0);
        let (digits, digits_length) = shown(length);
        write_at(array, end, b"/");
        write_at(array, end + 1, &digits);
        // Instead of the full stop.
        let end = end + digits_length as usize;
        write_at(array, end, &[0]);
        end
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
        self.push_written(|place: &mut [u8; ROOM_OF_V4]| ShownV4::of(address).write(place, 0));
    }

    /// Appends the network of that length that an IPv4 address is in; a host without the length.
    #[inline]
    pub(crate) fn push_network_of_v4(&mut self, address: u32, length: u8) {
        self.push_written(|place: &mut [u8; ROOM_OF_V4]| ShownV4::of(address).write_network(place, length));
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
        self.push_first(digits_length as usize, &[b'/', a, b, c]);
    }
}

/// Room for the longest network and a NUL: 255.255.255.255/31, and what is written beyond the pieces.
const ROOM_OF_V4: usize = 24;

#[inline(always)]
fn half(one: u8, other: u8) -> Half {
    let ((one, length), (other, more)) = (shown(one), shown(other));
    // Eight bytes as a number, the first in its lowest bits.
    let both = u64::from(u32::from_le_bytes(one)) | u64::from(u32::from_le_bytes(other)) << (8 * length);
    // No more than there are: so the compiler knows that there is room.
    Half { text: both.to_le_bytes(), first: length as usize % 8, both: (length + more) as usize % 16 }
}

/// A number as text with a full stop behind it.
#[inline(always)]
fn shown(number: u8) -> Few {
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
    fn networks_that_addresses_are_in() {
        for length in 0..=32 {
            for octet in 0..=255 {
                for address in [[octet, 7, 255, 0], [255, octet, 255, 255], [10, 20, octet, 3], [9, 255, 99, octet]].map(Ipv4Addr::from) {
                    let network = IpNet::from(Ipv4Net::new_assert(address, length)).trunc();
                    let expected = if length == 32 { address.to_string() } else { network.to_string() };
                    assert_eq!(shown(|line| line.push_network_of_v4(address.to_bits(), length)), expected, "{address}/{length}");
                    let mut place = [b'x'; 24];
                    let end = ShownV4::of(address.to_bits()).write_network(&mut place, length);
                    assert_eq!((&place[..end], place[end]), (expected.as_bytes(), 0), "{address}/{length}");
                }
            }
        }
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
