//! Leading parts of addresses, for the formats that define them: `192.0.2` is 192.0.2.0/24, `2001:db8` 2001:db8::/32.

use crate::diagnostic::{Fault, quote};
use crate::prefix::unmap;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Reads one to four decimal octets: the number that they begin, and how many there are.
pub(super) fn octets(text: &str) -> Result<(u32, u8), Fault> {
    let wrong = |remedy: &str| Err(Fault::new(format!("{} is not an IPv4 address or its first octets", quote(text.as_bytes())), remedy));
    let mut number = 0;
    let mut count = 0;
    for part in text.split('.') {
        if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
            return wrong("write one to four numbers with dots between them, such as 192.0.2");
        }
        if part.len() > 1 && part.starts_with('0') {
            return wrong("leave out the leading zeros: some programs read them as octal");
        }
        let Ok(octet) = part.parse::<u8>() else { return wrong("write numbers from 0 to 255") };
        if count == 4 {
            return wrong("write at most four numbers");
        }
        count += 1;
        number |= u32::from(octet) << (32 - 8 * u32::from(count));
    }
    Ok((number, count))
}

/// Reads one to eight groups of hexadecimal digits, without `::`: the number that they begin, and how many there are.
pub(super) fn groups(text: &str) -> Result<(u128, u8), Fault> {
    let wrong = |remedy: &str| Err(Fault::new(format!("{} is not an IPv6 address or its first groups", quote(text.as_bytes())), remedy));
    let mut number = 0;
    let mut count = 0;
    for part in text.split(':') {
        let hex = matches!(part.len(), 1..=4) && part.bytes().all(|b| b.is_ascii_hexdigit());
        let Some(group) = u16::from_str_radix(part, 16).ok().filter(|_| hex) else {
            return wrong("write groups of one to four hexadecimal digits with colons between them, such as 2001:db8:1");
        };
        if count == 8 {
            return wrong("write at most eight groups");
        }
        count += 1;
        number |= u128::from(group) << (128 - 16 * u32::from(count));
    }
    Ok((number, count))
}

/// Reads an IPv6 address with `::`, or its first groups: the number, and how many bits are told.
pub(super) fn address6(text: &str) -> Result<(u128, u8), Fault> {
    if text.contains("::") {
        return match text.parse::<Ipv6Addr>() {
            Ok(address) => Ok((address.to_bits(), 128)),
            Err(_) => Err(Fault::new(
                format!("{} is not an IPv6 address", quote(text.as_bytes())),
                "write an address such as 2001:db8::1 or its first groups such as 2001:db8",
            )),
        };
    }
    groups(text).map(|(number, count)| (number, count * 16))
}

/// Reads `/` and a prefix length, of at most `full` bits and more than none.
pub(super) fn length(text: &str, full: u8) -> Result<u8, Fault> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    match text.parse::<u8>() {
        Ok(length) if plain && length <= full => Ok(length),
        _ => Err(Fault::new(format!("{} is not a prefix length", quote(text.as_bytes())), format!("write a number from 1 to {full}"))),
    }
}

/// What a prefix of no bits is told.
pub(super) fn every_address() -> Fault {
    Fault::new("the entry covers every address", "name the networks; a host that takes no mail at all has mode = \"no-mail\"")
}

/// The IPv4 network, unless host bits are set or it is everything.
pub(super) fn network4(number: u32, length: u8) -> Result<IpNet, Fault> {
    checked(IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::from_bits(number), length.min(32))))
}

/// The IPv6 network, unless host bits are set or it is everything.
pub(super) fn network6(number: u128, length: u8) -> Result<IpNet, Fault> {
    // `::ffff:0:0/96` is all of IPv4, hence twice.
    checked(IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from_bits(number), length.min(128)))).map(unmap).and_then(checked)
}

fn checked(network: IpNet) -> Result<IpNet, Fault> {
    if network.prefix_len() == 0 {
        return Err(every_address());
    }
    if network.addr() == network.network() {
        return Ok(network);
    }
    Err(Fault::new(
        format!("non-null host bits in {network}"),
        format!("write {} for the network or {} for the host", network.trunc(), network.addr()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_parts() {
        assert_eq!(octets("192.0.2"), Ok((0xc000_0200, 3)));
        assert_eq!(octets("192.0.2.255"), Ok((0xc000_02ff, 4)));
        assert_eq!(groups("2001:DB8"), Ok((0x2001_0db8 << 96, 2)));
        assert_eq!(groups("1:2:3:4:5:6:7:8").map(|found| found.1), Ok(8));
        assert_eq!(address6("2001:db8::").map(|found| found.1), Ok(128));
        for text in ["", ".", "1.", "1..2", "256", "01", "1.2.3.4.5", "+1", "a", "1.2.3.4294967296"] {
            assert!(octets(text).is_err(), "{text}");
        }
        for text in ["", ":", "1:", "1::2", "12345", "g", "1:2:3:4:5:6:7:8:9", "+1", "192.0.2.1"] {
            assert!(groups(text).is_err(), "{text}");
        }
        for text in ["", "+8", "08", "129", "x"] {
            assert!(length(text, 128).is_err(), "{text}");
        }
        assert!(network4(0xc000_0201, 24).unwrap_err().remedy.contains("192.0.2.0/24"));
        assert!(network6(0, 0).is_err() && network6(0xffff << 32, 96).is_err());
    }
}
