//! Text to network or address, strictly: what is doubtful is refused with the remedy, never guessed.
//!
//! `::ffff:a.b.c.d` is `a.b.c.d` everywhere, in lists and in questions.

use crate::diagnostic::{Fault, quote};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Prefix length of `::ffff:0:0/96`, the IPv4-mapped addresses (RFC 4291 section 2.5.5.2).
const MAPPED_LEN: u8 = 96;

/// Reads `192.0.2.7`, `192.0.2.0/24`, `2001:db8::/32`. A bare address is one host.
///
/// Refused: host bits that are set, short forms (`10.1`, `10/8`), leading zeros (octal to some readers),
/// netmasks, zone identifiers, brackets, and `/0`.
pub fn parse_network(text: &str) -> Result<IpNet, Fault> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address = parse_strict(address)?;
    let full = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        Some(length) => parse_length(address, length, full)?,
        None => full,
    };
    if length == 0 {
        return Err(every_address(text));
    }
    let network = IpNet::new_assert(address, length);
    if network.addr() != network.network() {
        return Err(Fault::new(
            format!("non-null host bits in {}", quote(text.as_bytes())),
            format!("write {} for the network or {address} for the host", network.trunc()),
        ));
    }
    // `::ffff:0:0/96` is all of IPv4.
    let network = unmap(network);
    if network.prefix_len() == 0 { Err(every_address(text)) } else { Ok(network) }
}

/// The network that a text begins with, and what stands after it, if it is one that [`parse_network`] takes; the quick way
/// for what nearly all lines of long lists have. For anything else there is the long way: it may be right all the same, and
/// if not, that one says why.
pub fn leading_network(text: &[u8]) -> Option<(IpNet, &[u8])> {
    match leading_network4(text) {
        Some(((address, length), after)) => Some((Ipv4Net::new(Ipv4Addr::from_bits(address), length).ok()?.into(), after)),
        None => leading_network6(text),
    }
}

/// [`leading_network`] of IPv6. The parser of the standard library looks for an IPv4 address before each group.
fn leading_network6(text: &[u8]) -> Option<(IpNet, &[u8])> {
    let (address, after) = leading_address6(text)?;
    let address = Ipv6Addr::from_bits(address);
    let (length, after) = match after.strip_prefix(b"/") {
        Some([b'1', tens @ b'0'..=b'2', ones @ b'0'..=b'9', after @ ..]) => (100 + 10 * (tens - b'0') + (ones - b'0'), after),
        Some([tens @ b'1'..=b'9', ones @ b'0'..=b'9', after @ ..]) => (10 * (tens - b'0') + (ones - b'0'), after),
        Some([ones @ b'1'..=b'9', after @ ..]) => (ones - b'0', after),
        Some(_) => return None,
        None => (128, after),
    };
    let host_bits = u128::MAX.checked_shr(length.into()).unwrap_or(0);
    if address.to_bits() & host_bits != 0 || address.to_ipv4_mapped().is_some() {
        return None;
    }
    Some((Ipv6Net::new(address, length).ok()?.into(), after))
}

/// The IPv4 network that a text begins with, as its address and the length of its prefix, and what stands after it, if it is
/// one that [`parse_network`] takes.
pub fn leading_network4(text: &[u8]) -> Option<((u32, u8), &[u8])> {
    let (address, after) = leading_address4(text)?;
    let Some(after) = after.strip_prefix(b"/") else { return Some(((address, 32), after)) };
    let (length, after) = match after {
        [tens @ b'1'..=b'3', ones @ b'0'..=b'9', after @ ..] => (10 * (tens - b'0') + (ones - b'0'), after),
        [ones @ b'1'..=b'9', after @ ..] => (ones - b'0', after),
        _ => return None,
    };
    let host_bits = u32::MAX.checked_shr(length.into()).unwrap_or(0);
    (length <= 32 && address & host_bits == 0).then_some(((address, length), after))
}

/// The IPv6 address that a text begins with, in groups of hexadecimal digits, and what stands after it.
fn leading_address6(text: &[u8]) -> Option<(u128, &[u8])> {
    let (mut groups, mut count) = (0_u128, 0_u32);
    // How many groups stand before the `::`.
    let mut gap = None;
    let mut rest = text;
    loop {
        match rest {
            [b':', b':', after @ ..] if gap.is_none() => {
                (gap, rest) = (Some(count), after);
                // It stands for one group at least.
                if count == 7 {
                    break;
                }
            }
            [b':', after @ ..] if count > 0 && gap != Some(count) => rest = after,
            _ if count > 0 && gap != Some(count) => break,
            _ => {}
        }
        match leading_group(rest) {
            Some((group, after)) => (groups, count, rest) = (groups << 16 | group, count + 1, after),
            None if gap == Some(count) => break,
            None => return None,
        }
        if count == 8 - u32::from(gap.is_some()) {
            break;
        }
    }
    let address = match gap {
        None if count == 8 => groups,
        None => return None,
        Some(before) => {
            let behind = 16 * (count - before);
            let tail = groups & !(u128::MAX << behind);
            (groups >> behind).checked_shl(128 - 16 * before).unwrap_or(0) | tail
        }
    };
    Some((address, rest))
}

/// One to four hexadecimal digits.
fn leading_group(text: &[u8]) -> Option<(u128, &[u8])> {
    let (mut group, mut digits) = (0, 0);
    for digit in text.iter().take(4).map_while(|b| char::from(*b).to_digit(16)) {
        (group, digits) = (group << 4 | digit, digits + 1);
    }
    (digits > 0).then_some((group.into(), text.get(digits..)?))
}

/// The range of IPv4 addresses that a text begins with, without spaces, and what stands after it, if it is one that
/// [`parse_range`] takes.
pub(crate) fn leading_range4(text: &[u8]) -> Option<((IpAddr, IpAddr), &[u8])> {
    let (first, after) = leading_address4(text)?;
    let (last, after) = leading_address4(after.strip_prefix(b"-")?)?;
    let range = (Ipv4Addr::from_bits(first).into(), Ipv4Addr::from_bits(last).into());
    (first <= last && (first, last) != (0, u32::MAX)).then_some((range, after))
}

/// The IPv4 address that a text begins with, and what stands after it, as [`leading_network4`] does.
#[inline]
fn leading_address4(text: &[u8]) -> Option<(u32, &[u8])> {
    match text.first_chunk().and_then(address4_in) {
        Some((address, length)) => Some((address, text.get(length..)?)),
        None => address4_octet_by_octet(text),
    }
}

/// The IPv4 address that 16 bytes begin with, and how long it is, if something stands after it. Without branches: how many
/// digits the numbers of the next line have nobody can guess, a processor neither.
#[inline]
fn address4_in(bytes: &[u8; 16]) -> Option<(u32, usize)> {
    let all = |byte: u8| u128::from_ne_bytes([byte; 16]);
    // Digits become 0 to 9, the dot 0x1e.
    let digits = u128::from_le_bytes(*bytes) ^ all(b'0');
    // The uppermost bit of each byte that is more than 9.
    let others = (((digits & all(0x7f)) + all(0x76)) | digits) & all(0x80);
    // The same, a bit for each byte.
    let gather = |half: u64| (half >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56;
    let mut signs = gather(lower(others)) | gather(lower(others >> 64)) << 8;
    let (mut address, mut start, mut right) = (0, 0, true);
    for number in 0..4 {
        let end = signs.trailing_zeros();
        signs &= signs.wrapping_sub(1);
        let length = end.wrapping_sub(start);
        let bits = length.wrapping_mul(8);
        let part = lower(digits >> ((start * 8) & 127));
        // The last digit uppermost, none where there are fewer than three.
        let aligned = ((part & 0xffff_ffff) as u32).wrapping_shl(32_u32.wrapping_sub(bits));
        let octet = (aligned >> 8 & 0xff) * 100 + (aligned >> 16 & 0xff) * 10 + (aligned >> 24);
        let dot = part.wrapping_shr(bits) & 0xff == u64::from(b'.' ^ b'0');
        let padded = (length != 1) & (part & 0xff == 0);
        right &= (length.wrapping_sub(1) < 3) & (octet <= 255) & !padded & (dot | (number == 3));
        (address, start) = (address << 8 | octet, end + 1);
    }
    right.then_some((address, start as usize - 1))
}

/// The lower half of a number.
fn lower(number: u128) -> u64 {
    u64::try_from(number & u128::from(u64::MAX)).unwrap_or(0)
}

/// The same, of what is shorter, and slower.
fn address4_octet_by_octet(text: &[u8]) -> Option<(u32, &[u8])> {
    let (first, text) = leading_octet(text)?;
    let (second, text) = leading_octet(text.strip_prefix(b".")?)?;
    let (third, text) = leading_octet(text.strip_prefix(b".")?)?;
    let (fourth, text) = leading_octet(text.strip_prefix(b".")?)?;
    Some((first << 24 | second << 16 | third << 8 | fourth, text))
}

/// One to three digits without leading zeros, up to 255.
fn leading_octet(text: &[u8]) -> Option<(u32, &[u8])> {
    let digit = |byte: u8| u32::from(byte - b'0');
    let (octet, after) = match text {
        [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', after @ ..] => (100 * digit(*a) + 10 * digit(*b) + digit(*c), after),
        [a @ b'1'..=b'9', b @ b'0'..=b'9', after @ ..] => (10 * digit(*a) + digit(*b), after),
        [a @ b'0'..=b'9', after @ ..] => (digit(*a), after),
        _ => return None,
    };
    (octet <= 255).then_some((octet, after))
}

fn every_address(text: &str) -> Fault {
    Fault::new(
        format!("{} covers every address", quote(text.as_bytes())),
        "name the networks; a host that takes no mail at all has mode = \"no-mail\"",
    )
}

/// Reads the ends of a range, `192.0.2.10-192.0.2.20`: both in full, of one family, in order, and not all addresses.
pub fn parse_range(first: &str, last: &str) -> Result<(IpAddr, IpAddr), Fault> {
    let (first, last) = (parse_strict(first.trim_end())?.to_canonical(), parse_strict(last.trim_start())?.to_canonical());
    if first.is_ipv4() != last.is_ipv4() {
        return Err(Fault::new("the range begins in one address family and ends in the other", "write a range for each family"));
    }
    if first > last {
        return Err(Fault::new("the range ends before it begins", format!("write {last}-{first}")));
    }
    let whole = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => first.to_bits() == 0 && last.to_bits() == u32::MAX,
        (IpAddr::V6(first), IpAddr::V6(last)) => first.to_bits() == 0 && last.to_bits() == u128::MAX,
        _ => false,
    };
    if whole { Err(every_address(&format!("{first}-{last}"))) } else { Ok((first, last)) }
}

/// Reads an address as programs write it: `192.0.2.7`, `2001:db8::1`, `[2001:db8::1]`, `IPv6:2001:db8::1`.
pub fn parse_address(text: &str) -> Option<IpAddr> {
    let text = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    match text.split_at_checked(5) {
        Some((tag, rest)) if tag.eq_ignore_ascii_case("IPv6:") => {
            rest.parse::<Ipv6Addr>().ok().map(|address| IpAddr::V6(address).to_canonical())
        }
        _ => text.parse::<IpAddr>().ok().map(|address| address.to_canonical()),
    }
}

fn parse_strict(text: &str) -> Result<IpAddr, Fault> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address);
    }
    let cause = format!("{} is not an IP address", quote(text.as_bytes()));
    let digits_and_dots = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let remedy = if digits_and_dots {
        match decimal_octets(text) {
            Some(octets) => format!("write {octets} (no leading zeros: some programs read them as octal)"),
            None => "write all four numbers, each from 0 to 255, such as 192.0.2.1".into(),
        }
    } else if text.contains('%') {
        "leave out the zone: a list is for every interface".into()
    } else if text.starts_with('[') {
        "write the address without brackets".into()
    } else if text.starts_with('<') {
        "give a list, not a web page: the download may have failed".into()
    } else {
        "write an address such as 192.0.2.1 or a network such as 2001:db8::/32".into()
    };
    Err(Fault::new(cause, remedy))
}

/// `010.0.0.1` as people most likely mean it, if it is that mistake.
fn decimal_octets(text: &str) -> Option<Ipv4Addr> {
    let octets: Option<Vec<u8>> = text.split('.').map(|part| part.parse().ok()).collect();
    <[u8; 4]>::try_from(octets?).ok().map(Ipv4Addr::from)
}

fn parse_length(address: IpAddr, text: &str, full: u8) -> Result<u8, Fault> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u8>() {
        Ok(length) if digits && length <= full && (length == 0) == (text == "0") && !leading_zero(text) => Ok(length),
        _ => Err(Fault::new(
            format!("{} is not a prefix length", quote(text.as_bytes())),
            match text.parse::<Ipv4Addr>().ok().and_then(|mask| Ipv4Net::with_netmask(Ipv4Addr::UNSPECIFIED, mask).ok()) {
                Some(net) if address.is_ipv4() => format!("write {address}/{}", net.prefix_len()),
                _ => format!("write a number from 1 to {full}, or the bare address for one host"),
            },
        )),
    }
}

fn leading_zero(text: &str) -> bool {
    text.len() > 1 && text.starts_with('0')
}

/// A network of IPv4-mapped addresses as the IPv4 network that it is.
pub(crate) fn unmap(network: IpNet) -> IpNet {
    match network {
        IpNet::V6(v6) if v6.prefix_len() >= MAPPED_LEN => match v6.addr().to_ipv4_mapped() {
            Some(v4) => IpNet::new_assert(IpAddr::V4(v4), v6.prefix_len() - MAPPED_LEN),
            None => network,
        },
        IpNet::V4(_) | IpNet::V6(_) => network,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn networks() {
        for (text, want) in [
            ("192.0.2.7", "192.0.2.7/32"),
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("2001:DB8::/32", "2001:db8::/32"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ] {
            assert_eq!(parse_network(text).map(|n| n.to_string()), Ok(want.into()), "{text}");
        }
    }

    #[test]
    fn doubtful_networks_are_refused_with_the_remedy() {
        for (text, cause, remedy) in [
            ("192.0.2.7/24", "non-null host bits", "192.0.2.0/24 for the network or 192.0.2.7 for the host"),
            ("192.0.2.0/", "not a prefix length", "bare address for one host"),
            ("192.0.2.0/33", "not a prefix length", "1 to 32"),
            ("192.0.2.0/024", "not a prefix length", "1 to 32"),
            ("192.0.2.0/+24", "not a prefix length", "1 to 32"),
            ("192.0.2.0/255.255.255.0", "not a prefix length", "write 192.0.2.0/24"),
            ("2001:db8::/129", "not a prefix length", "1 to 128"),
            ("010.0.0.1", "not an IP address", "write 10.0.0.1 (no leading zeros"),
            ("10.1", "not an IP address", "all four numbers"),
            ("10/8", "not an IP address", "all four numbers"),
            ("300.0.0.1", "not an IP address", "0 to 255"),
            ("fe80::1%eth0", "not an IP address", "zone"),
            ("[2001:db8::1]", "not an IP address", "without brackets"),
            ("<html>", "not an IP address", "web page"),
            ("0.0.0.0/0", "covers every address", "no-mail"),
            ("::/0", "covers every address", "no-mail"),
            ("::ffff:0:0/96", "covers every address", "no-mail"),
            ("::ffff:0.0.0.0/96x", "not a prefix length", "1 to 128"),
            ("", "not an IP address", "192.0.2.1"),
        ] {
            let fault = parse_network(text).unwrap_err();
            assert!(fault.cause.contains(cause), "{text}: {fault:?}");
            assert!(fault.remedy.contains(remedy), "{text}: {fault:?}");
        }
    }

    #[test]
    fn ranges() {
        let range = |first, last| parse_range(first, last).map(|(first, last)| format!("{first} {last}")).map_err(|fault| fault.cause);
        assert_eq!(range("192.0.2.1", "192.0.2.9"), Ok("192.0.2.1 192.0.2.9".into()));
        assert_eq!(range("192.0.2.1 ", " 192.0.2.1"), Ok("192.0.2.1 192.0.2.1".into()));
        assert_eq!(range("::ffff:192.0.2.1", "192.0.2.9"), Ok("192.0.2.1 192.0.2.9".into()));
        assert_eq!(range("2001:db8::", "2001:db8::ffff"), Ok("2001:db8:: 2001:db8::ffff".into()));
        assert_eq!(range("0.0.0.0", "255.255.255.254"), Ok("0.0.0.0 255.255.255.254".into()));
        assert!(range("0.0.0.0", "255.255.255.255").unwrap_err().contains("every address"));
        assert!(range("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff").unwrap_err().contains("every address"));
        assert!(range("192.0.2.9", "192.0.2.1").unwrap_err().contains("before it begins"));
        assert!(range("192.0.2.9", "2001:db8::").unwrap_err().contains("family"));
        assert!(range("192.0.2.0", "255").unwrap_err().contains("not an IP address"));
        assert!(range("192.0.2.0/24", "192.0.3.0").unwrap_err().contains("not an IP address"));
    }

    #[test]
    fn addresses_as_programs_write_them() {
        let v6 = Some("2001:db8::1".parse().unwrap());
        for text in ["2001:db8::1", "[2001:db8::1]", "IPv6:2001:db8::1", "[IPv6:2001:0db8:0:0:0:0:0:1]", "ipv6:2001:db8::1"] {
            assert_eq!(parse_address(text), v6, "{text}");
        }
        for text in ["192.0.2.7", "[192.0.2.7]", "::ffff:192.0.2.7", "IPv6:::ffff:192.0.2.7"] {
            assert_eq!(parse_address(text), Some("192.0.2.7".parse().unwrap()), "{text}");
        }
        for text in ["", "unknown", "127.1", "010.0.0.1", "fe80::1%lo", "IPv6:192.0.2.1", "[192.0.2.1", "\u{ff11}.2.3.4"] {
            assert_eq!(parse_address(text), None, "{text}");
        }
    }

    proptest! {
        /// The quick way and the long one agree, or the quick one is not taken.
        #[test]
        fn the_quick_way_is_right_or_not_taken(
            octets in prop::collection::vec((0..=260_u32, prop::bool::weighted(0.05)), 3..6),
            length in prop::option::of((0..=34_u8, prop::bool::weighted(0.05))),
            clear in prop::bool::weighted(0.8),
            change in prop::option::weighted(0.3, (any::<prop::sample::Index>(), "[0-9./ :a-f%-]{0,2}")),
        ) {
            let bits = octets.iter().take(4).fold(0, |bits, (octet, _)| bits << 8 | octet & 255);
            let host_bits = length.map_or(0, |(length, _)| u32::MAX.checked_shr(length.into()).unwrap_or(0));
            let mut text = if clear && octets.len() == 4 {
                Ipv4Addr::from_bits(bits & !host_bits).to_string()
            } else {
                octets.iter().map(|(octet, padded)| format!("{}{octet}", if *padded { "0" } else { "" })).collect::<Vec<_>>().join(".")
            };
            if let Some((length, padded)) = length {
                text += &format!("/{}{length}", if padded { "0" } else { "" });
            }
            if let Some((at, by)) = change {
                let at = at.index(text.len());
                text.replace_range(at..=at, &by);
            }
            let quick = leading_network4(text.as_bytes());
            match quick {
                Some(((bits, length), [])) => prop_assert_eq!(parse_network(&text), Ok(IpNet::new_assert(Ipv4Addr::from_bits(bits).into(), length)), "{}", text),
                // What follows a digit may still belong to the number: whoever asks looks at that.
                Some((_, rest)) => prop_assert!(text.as_bytes().ends_with(rest)),
                // It is taken whenever it can be.
                None => prop_assert!(!matches!(parse_network(&text), Ok(IpNet::V4(_)) if !text.contains(':')), "{}", text),
            }
            // Texts that are long enough go another way.
            let line = format!("{text}\n{}", "x".repeat(16));
            let whole = quick.filter(|(_, rest)| rest.is_empty()).map(|(network, _)| network);
            prop_assert_eq!(leading_network4(line.as_bytes()).filter(|(_, rest)| rest.starts_with(b"\n")).map(|(network, _)| network), whole, "{}", text);
            let address = leading_address4(text.as_bytes()).filter(|(_, rest)| rest.is_empty()).map(|(bits, _)| IpAddr::from(Ipv4Addr::from_bits(bits)));
            prop_assert_eq!(address, text.parse::<Ipv4Addr>().ok().map(IpAddr::V4), "{}", text);
        }
    }

    proptest! {
        #[test]
        fn the_quick_way_of_ipv6_is_right_or_not_taken(
            bits in prop_oneof![any::<u128>(), any::<u32>().prop_map(|bits| 0xffff << 32 | u128::from(bits)), any::<u16>().prop_map(u128::from), any::<u128>().prop_map(|bits| bits & bits << 1 & bits << 3 & 0xffff_0000_ffff_0000_0000_0000_ffff_ffff)],
            length in prop::option::of(0..=131_u8),
            clear in prop::bool::weighted(0.9),
            whole in any::<bool>(),
            change in prop::option::weighted(0.3, (any::<prop::sample::Index>(), "[0-9./ :a-f%-]{0,2}")),
        ) {
            let host_bits = length.map_or(0, |length| u128::MAX.checked_shr(length.into()).unwrap_or(0));
            let address = Ipv6Addr::from_bits(if clear { bits & !host_bits } else { bits });
            let groups: Vec<String> = address.segments().iter().map(|group| format!("{group:X}")).collect();
            let mut text = if whole { groups.join(":") } else { address.to_string() };
            if let Some(length) = length {
                text += &format!("/{length}");
            }
            if let Some((at, by)) = change {
                let at = at.index(text.len());
                text.replace_range(at..=at, &by);
            }
            match leading_network(text.as_bytes()) {
                Some((network, [])) => prop_assert_eq!(parse_network(&text), Ok(network), "{}", text),
                Some((_, rest)) => prop_assert!(text.as_bytes().ends_with(rest)),
                None => prop_assert!(!matches!(parse_network(&text), Ok(IpNet::V6(_)) if !text.contains('.')), "{}", text),
            }
        }
    }

    #[test]
    fn where_the_gap_may_stand() {
        let all = [
            "",
            "1",
            "1:2",
            "1:2:3",
            "1:2:3:4",
            "1:2:3:4:5",
            "1:2:3:4:5:6",
            "1:2:3:4:5:6:7",
            "1:2:3:4:5:6:7:8",
            "1:2:3:4:5:6:7:8:9",
            ":",
            "12345",
        ];
        let mut taken = 0;
        for (before, after) in all.iter().flat_map(|before| all.iter().map(move |after| (before, after))) {
            for sign in ["::", ":", ":::", ""] {
                let text = format!("{before}{sign}{after}");
                let quick =
                    leading_address6(text.as_bytes()).filter(|(_, rest)| rest.is_empty()).map(|(bits, _)| Ipv6Addr::from_bits(bits));
                assert_eq!(quick, text.parse().ok(), "{text}");
                taken += usize::from(quick.is_some());
            }
        }
        assert!(taken > 36, "{taken}");
    }
}
