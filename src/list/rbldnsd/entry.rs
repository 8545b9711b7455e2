//! The entries of rbldnsd data sets.
//!
//! ```text
//! ip4set   192.0.2.0/24  192.0.2  192.0.2.1-9  198.18-19  192.0.2.0-192.0.2.99     (198/8, but not 198 alone)
//! ip4trie  the same without ranges
//! ip6trie  2001:db8:c000/36  2001:db8:1:2  2001:db8:42::/52  ::1                   (parts that are left out: 0)
//! ip6tset  2001:db8:1:2 is the /64
//! dnset    example.org  *.example.org  .example.org
//! ```

use super::Kind;
use crate::diagnostic::{Fault, quote};
use crate::domain;
use crate::list::octets::{address6, every_address, length, network4, network6, octets};
use crate::list::{Subject, region};
use ipnet::{IpNet, Ipv4Net};
use std::net::{IpAddr, Ipv4Addr};

/// Takes the entry off the front of a line: what it is about, and what stands after it.
pub(super) fn parse(kind: Kind, line: &[u8]) -> Result<(Subject<'_>, &[u8]), Fault> {
    let ends = |byte: &u8| match kind {
        Kind::Dnset => byte.is_ascii_whitespace(),
        Kind::Ip6Tset | Kind::Ip6Trie => byte.is_ascii_whitespace() || matches!(byte, b'#' | b';'),
        Kind::Ip4Set | Kind::Ip4Trie => byte.is_ascii_whitespace() || matches!(byte, b'#' | b';' | b':'),
    };
    let (entry, rest) = line.split_at(line.iter().position(ends).unwrap_or(line.len()));
    let Ok(entry) = std::str::from_utf8(entry) else {
        return Err(Fault::new(
            format!("the entry {} is not UTF-8 text", quote(entry)),
            "give a text file with one entry a line, not a compressed or binary one",
        ));
    };
    if entry.contains('-') && kind == Kind::Ip4Trie {
        return Err(Fault::new(
            format!("{} is a range, and an ip4trie has none", quote(entry.as_bytes())),
            "write networks, or take format = \"rbldnsd-ip4set\"",
        ));
    }
    let subject = match kind {
        Kind::Ip4Set | Kind::Ip4Trie => match entry.split_once('-') {
            Some((first, last)) => range(entry, first, last),
            None => ip4(entry).map(Subject::Network),
        },
        Kind::Ip6Tset | Kind::Ip6Trie => ip6(entry).map(Subject::Network),
        Kind::Dnset => domain::parse_entry(entry).map(|(form, name)| Subject::Domain(form, name)),
    };
    let subject = subject.map_err(|fault| another_kind(kind, line).unwrap_or(fault))?;
    Ok((subject, rest))
}

/// What is to be said of an entry that is one of another kind, or no entry at all.
fn another_kind(kind: Kind, line: &[u8]) -> Option<Fault> {
    let word = line.split(u8::is_ascii_whitespace).next()?;
    let text = std::str::from_utf8(word).ok()?;
    let bare = text.split(['/', '-']).next()?;
    let six = matches!(kind, Kind::Ip6Tset | Kind::Ip6Trie);
    let (what, remedy) = if text.starts_with('<') {
        ("not an entry", "give a list, not a web page: the download may have failed")
    } else if text.contains('%') {
        ("an address with a zone", "leave out the zone: a list is for every interface")
    } else if text.starts_with('[') {
        ("in brackets", "write the address without brackets")
    } else if !six && bare.contains(':') && address6(bare).is_ok_and(|(_, bits)| bits > 16) {
        ("an IPv6 entry", "read such a list with format = \"rbldnsd-ip6trie\"")
    } else if kind == Kind::Dnset && bare.contains(':') && !text.contains('/') {
        ("not a domain name", "put a space between the name and its answer")
    } else if (six || kind == Kind::Dnset) && octets(bare).is_ok_and(|(_, count)| count > 1) {
        ("an IPv4 entry", "read such a list with format = \"rbldnsd-ip4set\"")
    } else if kind != Kind::Dnset
        && domain::parse_entry(bare).is_ok()
        && bare.rsplit_once('.').is_some_and(|(_, top)| top.bytes().all(|b| b.is_ascii_alphabetic()))
    {
        ("a domain name", "read such a list with format = \"rbldnsd-dnset\"")
    } else {
        return None;
    };
    Some(Fault::new(format!("{} is {what}", quote(word)), remedy))
}

fn ip4(entry: &str) -> Result<IpNet, Fault> {
    match entry.split_once('/') {
        Some((address, text)) => network4(octets(address)?.0, length(text, 32)?),
        None => match octets(entry)? {
            (_, 1) => Err(Fault::new(
                format!("{} alone may be a network or a number", quote(entry.as_bytes())),
                format!("write {entry}/8 for the network, as rbldnsd wants it"),
            )),
            (number, count) => network4(number, count * 8),
        },
    }
}

fn ip6(entry: &str) -> Result<IpNet, Fault> {
    match entry.split_once('/') {
        Some((address, text)) => network6(address6(address)?.0, length(text, 128)?),
        None => match address6(entry)? {
            (_, 16) => Err(Fault::new(
                format!("{} alone may be a network or a number", quote(entry.as_bytes())),
                format!("write {entry}::/16 for the network"),
            )),
            (number, bits) => network6(number, bits),
        },
    }
}

/// Reads `192.0.2.1-9`, `198.18-198.19`: the end has as many octets as the beginning, or is its last octet. What is
/// left out is 0 at the beginning, 255 at the end.
fn range(entry: &str, first: &str, last: &str) -> Result<Subject<'static>, Fault> {
    let (first, count) = octets(first)?;
    let (mut last, last_count) = octets(last)?;
    let shift = 8 * (u32::from(count) - 1);
    if last_count == 1 {
        last = (last >> shift) | (first & !(u32::MAX >> shift));
    } else if last_count != count {
        return Err(Fault::new(
            format!("the ends of {} have different numbers of octets", quote(entry.as_bytes())),
            "write both with the same number of octets, or the last octet alone after the dash",
        ));
    }
    last |= u32::MAX.checked_shr(shift + 8).unwrap_or(0);
    if first > last {
        return Err(Fault::new(
            format!("the range {} ends before it begins", quote(entry.as_bytes())),
            "write the lower end first, and after the dash as many octets as before it or the last one alone",
        ));
    }
    if (first, last) == (0, u32::MAX) {
        return Err(every_address());
    }
    Ok(region::range4(first, last))
}

/// First and last address of an IPv4 entry, as numbers.
pub(super) fn range4(subject: &Subject<'_>) -> Option<(u32, u32)> {
    match subject {
        Subject::Network(IpNet::V4(net)) => Some((net.network().to_bits(), net.broadcast().to_bits())),
        Subject::Range(IpAddr::V4(first), IpAddr::V4(last)) => Some((first.to_bits(), last.to_bits())),
        Subject::Network(_) | Subject::Range(..) | Subject::Domain(..) | Subject::Mailbox(_) => None,
    }
}

/// Splits a range into the fewest networks /8, /16, /24 and /32.
pub(super) fn each_octet_network(first: u32, last: u32, mut each: impl FnMut(IpNet)) {
    let mut next = Some(first);
    while let Some(start) = next.filter(|start| *start <= last) {
        let fits = |length: u8| {
            let host = u32::MAX.checked_shr(length.into()).unwrap_or(0);
            start & host == 0 && start | host <= last
        };
        let length = [8, 16, 24].into_iter().find(|length| fits(*length)).unwrap_or(32);
        each(IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::from_bits(start), length)));
        next = (start | u32::MAX.checked_shr(length.into()).unwrap_or(0)).checked_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(kind: Kind, text: &str) -> String {
        match parse(kind, text.as_bytes()) {
            Ok((subject, rest)) => format!("{subject:?} {}", std::str::from_utf8(rest).unwrap()),
            Err(fault) => fault.cause,
        }
    }

    #[test]
    fn the_examples_of_rbldnsd() {
        for text in ["127.0.0.0/24", "127.0.0", "127.0.0/24", "127.0.0.0-127.0.0.255", "127.0.0.0-255"] {
            assert_eq!(shown(Kind::Ip4Set, text), "Network(127.0.0.0/24) ", "{text}");
        }
        for text in
            ["127.16.0.0-127.31.255.255", "127.16.0-127.31.255", "127.16-127.31", "127.16-31", "127.16.0.0/12", "127.16.0/12", "127.16/12"]
        {
            assert_eq!(shown(Kind::Ip4Set, text), "Network(127.16.0.0/12) ", "{text}");
        }
        for (text, want) in [
            ("127.0.0.1-255", "Range(127.0.0.1, 127.0.0.255) "),
            ("127-128", "Range(127.0.0.0, 128.255.255.255) "),
            ("127.16.0-31", "Network(127.16.0.0/19) "),
            ("127/8;x", "Network(127.0.0.0/8) ;x"),
            ("127.0.0.1:3:x", "Network(127.0.0.1/32) :3:x"),
        ] {
            assert_eq!(shown(Kind::Ip4Set, text), want, "{text}");
        }
        for (text, want) in [
            ("2001:21ab:c000/36", "Network(2001:21ab:c000::/36) "),
            ("2001:21ab:def7:4242 :3:x", "Network(2001:21ab:def7:4242::/64)  :3:x"),
            ("2605:6001:42::/52", "Network(2605:6001:42::/52) "),
            ("::1 # x", "Network(::1/128)  # x"),
        ] {
            assert_eq!(shown(Kind::Ip6Trie, text), want, "{text}");
        }
    }

    #[test]
    fn splitting_by_octets() {
        let split = |first: &str, last: &str| {
            let bits = |text: &str| text.parse::<Ipv4Addr>().unwrap().to_bits();
            let mut networks = Vec::new();
            each_octet_network(bits(first), bits(last), |network| networks.push(network.to_string()));
            networks
        };
        assert_eq!(split("10.0.0.254", "10.0.2.1"), ["10.0.0.254/32", "10.0.0.255/32", "10.0.1.0/24", "10.0.2.0/32", "10.0.2.1/32"]);
        assert_eq!(split("10.0.0.0", "11.255.255.255"), ["10.0.0.0/8", "11.0.0.0/8"]);
        assert_eq!(split("255.255.255.255", "255.255.255.255"), ["255.255.255.255/32"]);
        assert_eq!(split("0.0.0.0", "255.255.255.255").len(), 256);
    }
}
