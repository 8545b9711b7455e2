//! `mxgate convert`: a list that was written in another format and loaded decides as before, for the same reasons; what a
//! format cannot hold is refused. `BLESS=1` writes the expected refusals anew.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "what goes wrong here ends the test, with a message"
)]

use arrayvec::ArrayString;
use mxgate::convert::{About, Error, Request, convert, formats};
use mxgate::diagnostic::{Diagnostic, render};
use mxgate::verdict::ReplyLine;
use mxgate::{Facts, Files, Gate};
use proptest::prelude::Rng as _;
use proptest::test_runner::TestRng;
use random::{address, mask, random, random_bits};
use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead, Write as _};
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[path = "support/random.rs"]
mod random;

const ENTRIES: usize = 3_000;
const ADDRESSES: usize = 100_000;
const NAMES: usize = 20_000;
/// 2026-09-21 14:13:20 UTC.
const NOW: u64 = 1_790_000_000;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

/// A list in memory.
struct Memory(Vec<u8>);

impl Files for Memory {
    fn display(&self, name: &str) -> String {
        name.into()
    }

    fn open(&self, _: &str) -> io::Result<Box<dyn BufRead + '_>> {
        Ok(Box::new(self.0.as_slice()))
    }

    fn now(&self) -> SystemTime {
        now()
    }
}

fn below(random: &mut TestRng, limit: usize) -> usize {
    random.next_u32() as usize % limit
}

/// A list, the addresses that are in its networks, and at their ends.
#[derive(Default)]
struct List {
    text: String,
    inside: Vec<(bool, u128, u32)>,
}

impl List {
    /// Random networks, many of them inside of each other.
    fn network(&mut self, random: &mut TestRng, v4: bool, lengths: &[u32]) -> String {
        let length = lengths[below(random, lengths.len())];
        let mut first = random_bits(random);
        if !self.inside.is_empty() && below(random, 3) > 0 {
            let (family, start, keep) = self.inside[below(random, self.inside.len())];
            if family == v4 {
                first = start & mask(keep) | first & !mask(keep);
            }
        } else if !v4 {
            first = first >> 3 | 1 << 125;
        }
        first &= mask(length);
        self.inside.push((v4, first, length));
        format!("{}/{length}", address(v4, first))
    }

    /// A plain list; a part of `holes` in 100 entries are holes, a part of `ranges` are ranges.
    fn plain(random: &mut TestRng, families: &[bool], v4: &[u32], v6: &[u32], holes: usize, reasons: &[&str]) -> List {
        let mut list = List::default();
        for _ in 0..ENTRIES {
            let family = families[below(random, families.len())];
            let hole = if below(random, 100) < holes { "!" } else { "" };
            let mut entry = list.network(random, family, if family { v4 } else { v6 });
            if holes > 0 && below(random, 20) == 0 {
                let (_, first, length) = *list.inside.last().unwrap();
                let (one, other) = (first | random_bits(random) & !mask(length), first | random_bits(random) & !mask(length));
                entry = format!("{}-{}", address(family, one.min(other)), address(family, one.max(other)));
            }
            let reason = reasons[below(random, reasons.len())];
            let sign = if reason.is_empty() { "" } else { " # " };
            writeln!(list.text, "{hole}{entry}{sign}{reason}").unwrap();
        }
        list
    }

    /// Addresses, half of them inside of the networks of the list, others at their ends.
    fn questions(&self, random: &mut TestRng, count: usize) -> Vec<IpAddr> {
        let mut addresses = Vec::with_capacity(count);
        while addresses.len() < count {
            let (v4, first, length) = self.inside[below(random, self.inside.len())];
            let (last, one) = (first | !mask(length), if v4 { 1 << 96 } else { 1 });
            let bits = random_bits(random);
            let random_near = first & mask(length.saturating_sub(4)) | bits & !mask(length.saturating_sub(4));
            let near = [first.wrapping_sub(one), last.wrapping_add(one), bits, random_near][below(random, 4)];
            addresses.extend([first | bits & !mask(length), near].map(|bits| address(v4, bits)));
        }
        addresses
    }
}

/// Reasons that some format might take for something else.
const REASONS: &[&str] = &[
    "SBL123",
    "",
    "sent spam, \"twice\" on 2026-01-31",
    "costs 5$, $1 and $$ each $",
    "=equals",
    "5.7.1 with a code",
    "- 192.0.2.9",
    "name:192.0.2.0-192.0.2.255",
    ":127.0.0.2:x",
    "! 50% \\ {ip} 'x' ; y # z",
    "REJECT",
    "https://example.org/?q=1&ip=$",
];

fn gate(list: &[u8], format: &str, keys: &str) -> Gate {
    let gate = Gate::new();
    let format = if format.is_empty() { String::new() } else { format!("format = \"{format}\"\n") };
    let section = match keys {
        _ if keys.contains("no-mail") => "domains",
        _ if keys.contains("internal-only") => "recipients",
        _ if keys.contains("kind") => "senders",
        _ => "list",
    };
    let text = format!(
        "hostname = \"mx.example.org\"\nguards = {{ widest_v4 = 1, widest_v6 = 1 }}\n\
         never_block = {{ loopback = false, link_local = false, private = false }}\n\
         [[{section}]]\nname = \"x\"\nfile = \"list\"\n{format}{keys}\n"
    );
    let files = Memory(list.to_vec());
    if let Err(error) = gate.load(&text, &Arc::from("policy"), &files) {
        fs::write(std::env::temp_dir().join("mxgate-convert-failed.txt"), list).unwrap();
        panic!("{error}");
    }
    gate
}

/// What decides about an address: whether it is refused, how, and why.
fn answer(gate: &Gate, address: IpAddr, reasons: bool, after: u64) -> Option<(ReplyLine, ArrayString<255>)> {
    let verdict = gate.check_connect(&Facts { now: Some(NOW + after), ..Facts::of_client(address) });
    let told = |reply| if reasons { (reply, verdict.reason) } else { <_>::default() };
    verdict.rejection.map(|rejection| told(rejection.reply()))
}

fn try_convert(list: &[u8], request: &Request<'_>) -> Result<(Vec<u8>, Vec<Diagnostic>), Error> {
    let mut out = Vec::new();
    convert(Box::new(list), &Request { now: now(), ..*request }, &mut out).map(|diagnostics| (out, diagnostics))
}

/// Converts, loads, asks. `shows`: the result is to be told by its text.
fn round_trip(list: &List, from: &str, to: &str, lossy: bool, shows: bool, random: &mut TestRng) -> String {
    let request = Request { from: Some(from), to, lossy, ..Request::default() };
    let (out, diagnostics) = try_convert(list.text.as_bytes(), &request).unwrap_or_else(|error| panic!("{from} to {to}: {error}"));
    assert!(!shows || lossy || diagnostics.is_empty(), "{from} to {to}: {}", render(&diagnostics));
    let reply = "reply = \"550 5.7.1 x {reason}\"";
    let (before, after) = (gate(list.text.as_bytes(), from, reply), gate(&out, if shows { "" } else { to }, reply));
    let mut refused = 0;
    for address in list.questions(random, ADDRESSES) {
        let later = [0, 900, 7200, 86_400, 86_400 * 400][below(random, 5)];
        let want = answer(&before, address, !lossy, later);
        let found = answer(&after, address, !lossy, later);
        assert_eq!(found, want, "{address}, {from} to {to}, {later} s later");
        refused += usize::from(want.is_some());
    }
    assert!(refused > ADDRESSES / 10, "{from} to {to}: {refused}");
    String::from_utf8(out).unwrap()
}

fn lengths(from: u32, to: u32) -> Vec<u32> {
    (from..=to).collect()
}

#[test]
fn lists_with_holes_ranges_and_reasons() {
    let mut random = random(0);
    let (v4, v6) = (lengths(6, 32), lengths(16, 128));
    for (families, targets) in [
        (&[true, false][..], &["plain", "drop", "drop-json", "crowdsec-csv", "crowdsec-json", "iplsearch", "postfix-cidr"][..]),
        (&[true], &["dshield", "p2p", "firehol", "rbldnsd-ip4set", "rbldnsd-ip4trie"]),
        (&[false], &["firehol", "rbldnsd-ip6trie"]),
    ] {
        let list = List::plain(&mut random, families, &v4, &v6, 20, REASONS);
        for to in targets {
            round_trip(&list, "plain", to, false, *to != "rbldnsd-ip4trie", &mut random);
        }
    }
}

/// Without holes most formats keep the entries as they are.
#[test]
fn lists_without_holes() {
    let mut random = random(0);
    let (v4, v6) = (lengths(6, 32), lengths(16, 128));
    let list = List::plain(&mut random, &[true, false], &v4, &v6, 0, REASONS);
    for to in ["plain", "drop", "crowdsec-csv", "crowdsec-json", "iplsearch", "postfix-cidr"] {
        let out = round_trip(&list, "plain", to, false, true, &mut random);
        assert!(to == "drop" || out.lines().count() <= ENTRIES + 2, "{to}");
    }
    let list = List::plain(&mut random, &[true, false], &v4, &v6, 0, &["score 1", "score 7", "score 18446744073709551615"]);
    round_trip(&list, "plain", "scored", false, true, &mut random);
}

/// Where prefixes end at octets, those between are split.
#[test]
fn access_tables() {
    let mut random = random(0);
    for (families, v6, to, lossy) in [
        (&[true][..], &[][..], "postfix-access", false),
        (&[true], &[], "sendmail-access", true),
        (&[true, false], &[25, 32, 41, 48, 57, 64, 120, 127, 128], "sendmail-access", true),
        (&[true, false], &[32, 48, 64, 128], "postfix-access", false),
    ] {
        // Short IPv4 prefixes would each become many keys.
        let mut v4 = lengths(14, 32);
        v4.extend([8, 24, 24, 32, 32]);
        let mut list = List::plain(&mut random, families, &v4, v6, 20, REASONS);
        // A range would become too many keys, and one with a group of zeros Postfix would not find.
        let fits = |line: &&str| {
            let entry = line.split_whitespace().next().unwrap_or_default().trim_start_matches('!');
            let (start, length) = entry.split_once('/').unwrap_or((entry, "128"));
            if entry.contains(':') && line.split(" # ").next().is_some_and(|entry| entry.contains('-')) {
                return false;
            }
            let Ok(start) = start.parse::<Ipv6Addr>() else { return true };
            let groups = length.parse::<usize>().unwrap().div_ceil(16);
            !start.segments()[..groups].contains(&0)
        };
        list.text = list.text.lines().filter(fits).map(|line| format!("{line}\n")).collect();
        // Addresses alone do not show that they are an access table.
        round_trip(&list, "plain", to, lossy, false, &mut random);
    }
}

#[test]
fn expiry() {
    let mut random = random(0);
    let mut list = List { text: "duration,scope,value,reason\n".into(), inside: Vec::new() };
    for _ in 0..ENTRIES {
        let family = below(&mut random, 2) == 0;
        let network = list.network(&mut random, family, &if family { lengths(10, 32) } else { lengths(20, 128) });
        let duration = ["900s", "2h", "30m", "72h", "876000h", "0s", "-5m"][below(&mut random, 7)];
        writeln!(list.text, "{duration},range,{network},reason {}", below(&mut random, 9)).unwrap();
    }
    for to in ["crowdsec-csv", "crowdsec-json"] {
        round_trip(&list, "crowdsec-csv", to, false, true, &mut random);
    }
    let to = |to, lossy| try_convert(list.text.as_bytes(), &Request { to, lossy, ..Request::default() });
    assert!(to("plain", false).is_err());
    let (out, diagnostics) = to("plain", true).unwrap();
    assert_eq!(diagnostics.len(), 1, "{}", render(&diagnostics));
    assert!(out.len() > 10_000);
}

/// A table in which the first match decides, with replies of its own.
#[test]
fn ordered_tables() {
    let mut random = random(0);
    for (families, targets) in [
        (&[true, false][..], &[("postfix-cidr", false), ("plain", true), ("drop", true), ("crowdsec-json", true), ("iplsearch", true)][..]),
        (&[true], &[("postfix-access", false), ("sendmail-access", true), ("rbldnsd-ip4set", true), ("p2p", true)]),
    ] {
        let mut list = List::default();
        for _ in 0..ENTRIES / 2 {
            let family = families[below(&mut random, families.len())];
            let network = list.network(&mut random, family, &if family { lengths(8, 32) } else { lengths(20, 128) });
            let actions = ["REJECT", "DUNNO", "REJECT sent spam", "OK", "550 5.7.1 Go \"away\"", "450 4.7.1 later", "REJECT 5.7.1 4.2.2 x"];
            let (count, action) = (if targets[0].0 == "postfix-cidr" { actions.len() } else { 7 }, below(&mut random, 7));
            writeln!(list.text, "{network} {}", actions[action % count]).unwrap();
        }
        for (to, lossy) in targets {
            if *lossy {
                // Without its replies the list refuses what it refused.
                list_refuses_the_same(&list, to, &mut random);
            } else {
                round_trip(&list, "postfix-cidr", to, false, false, &mut random);
            }
        }
    }
}

fn list_refuses_the_same(list: &List, to: &str, random: &mut TestRng) {
    let request = Request { from: Some("postfix-cidr"), to, lossy: true, ..Request::default() };
    let (out, diagnostics) = try_convert(list.text.as_bytes(), &request).unwrap();
    assert!(!diagnostics.is_empty());
    let (before, after) = (gate(list.text.as_bytes(), "postfix-cidr", ""), gate(&out, to, ""));
    for address in list.questions(random, ADDRESSES) {
        let accept = |gate: &Gate| gate.check_connect(&Facts::of_client(address)).is_accept();
        assert_eq!(accept(&after), accept(&before), "{address} {to}");
    }
}

#[test]
fn names() {
    let mut random = random(0);
    let labels = ["a", "b", "mail", "x-1", "_dmarc", "example", "org", "net"];
    let name = |least: usize, random: &mut TestRng| {
        let count = least + below(random, 4);
        (0..count).map(|_| labels[below(random, labels.len())]).collect::<Vec<_>>().join(".")
    };
    for (forms, targets) in [
        (&["", "*.", "."][..], &[("plain", false), ("rbldnsd-dnset", false)][..]),
        (&["*.", "."], &[("postfix-access", false), ("sendmail-access", true)]),
    ] {
        let mut text = String::new();
        for _ in 0..ENTRIES / 3 {
            let (hole, form) = (["!", "", ""][below(&mut random, 3)], forms[below(&mut random, forms.len())]);
            let reason = REASONS[below(&mut random, REASONS.len())];
            writeln!(text, "{hole}{form}{} # {reason}", name(2, &mut random)).unwrap();
        }
        for (to, lossy) in targets {
            let request = Request { from: Some("plain"), to, about: About::Domains, lossy: *lossy, ..Request::default() };
            let (out, diagnostics) = try_convert(text.as_bytes(), &request).unwrap();
            assert!(*lossy || diagnostics.is_empty(), "{to}: {}", render(&diagnostics));
            let keys = "kind = \"no-mail\"";
            let (before, after) = (gate(text.as_bytes(), "plain", keys), gate(&out, "", keys));
            let mut refused = 0;
            for _ in 0..NAMES {
                let recipient = format!("<user@{}>", name(1, &mut random));
                let ask = |gate: &Gate| {
                    let facts = Facts { recipient: Some(recipient.as_bytes()), ..Facts::of_client([192, 0, 2, 1].into()) };
                    let verdict = gate.check_rcpt(&facts);
                    (verdict.is_accept(), if *lossy { String::new() } else { verdict.reason.to_string() })
                };
                assert_eq!(ask(&after), ask(&before), "{recipient} {to}");
                refused += usize::from(!ask(&before).0);
            }
            assert!(refused > NAMES / 10 && refused < NAMES, "{to}: {refused}");
        }
    }
}

#[test]
fn mailboxes() {
    let mut random = random(0);
    let (locals, labels) = (["a", "b", "a.b", "a+b", "o'c", "A"], ["a", "mail", "example", "org"]);
    let place = |random: &mut TestRng| {
        let count = 1 + below(random, 3);
        (0..count).map(|_| labels[below(random, labels.len())]).collect::<Vec<_>>().join(".")
    };
    for (about, keys) in [(About::Senders, "kind = \"block\""), (About::Recipients, "kind = \"internal-only\"")] {
        for (forms, targets) in [
            (&["@", "@", "", "*.", "."][..], &[("plain", false)][..]),
            (&["@", "@", "*.", "."], &[("plain", false), ("postfix-access", false), ("sendmail-access", true)]),
        ] {
            let mut text = String::new();
            for _ in 0..60 {
                let (hole, form) = (["!", "", ""][below(&mut random, 3)], forms[below(&mut random, forms.len())]);
                let local = if form == "@" { locals[below(&mut random, locals.len())] } else { "" };
                // Sometimes at any domain.
                let place = if form == "@" && below(&mut random, 4) == 0 { String::new() } else { place(&mut random) };
                writeln!(text, "{hole}{local}{form}{place} # {}", REASONS[below(&mut random, REASONS.len())]).unwrap();
            }
            for (to, lossy) in targets {
                let request = Request { from: Some("plain"), to, about, lossy: *lossy, ..Request::default() };
                let (out, diagnostics) = try_convert(text.as_bytes(), &request).unwrap_or_else(|error| panic!("{to}: {error}"));
                assert!(*lossy || diagnostics.is_empty(), "{to}: {}", render(&diagnostics));
                let (before, after) = (gate(text.as_bytes(), "plain", keys), gate(&out, to, keys));
                let mut refused = 0;
                for _ in 0..NAMES {
                    let mailbox = format!("<{}@{}>", locals[below(&mut random, locals.len())], place(&mut random));
                    let ask = |gate: &Gate| {
                        let facts = Facts { now: Some(NOW), ..Facts::of_client([192, 0, 2, 1].into()) };
                        let (own, other) = (Some(mailbox.as_bytes()), Some(&b"<user@example.net>"[..]));
                        let (sender, recipient) = if about == About::Senders { (own, other) } else { (None, own) };
                        let verdict = gate.check_rcpt(&Facts { sender, recipient, ..facts });
                        (verdict.is_accept(), if *lossy { String::new() } else { verdict.reason.to_string() })
                    };
                    assert_eq!(ask(&after), ask(&before), "{mailbox} {to} {about:?}\n{text}");
                    refused += usize::from(!ask(&before).0);
                }
                assert!(refused > NAMES / 10 && refused < NAMES, "{to}: {refused}");
            }
        }
    }
}

/// What a sample of tests/lists is about, and the least score, by its name.
fn sample_request<'a>(name: &str, format: &'a str) -> Request<'a> {
    let threshold = name.split_once("-threshold-").and_then(|(_, rest)| rest.split('.').next()).map(|number| number.parse().unwrap());
    let domains = name.starts_with("domains-") || format == "rbldnsd-dnset";
    let about = if domains { About::Domains } else { About::Addresses };
    Request { from: Some(format), to: "plain", about, threshold, lossy: true, ..Request::default() }
}

/// Samples of all formats as plain lists, and as lists of their own format again.
#[test]
fn samples() {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lists");
    let mut random = random(0);
    let mut converted = 0;
    for (format, _) in formats().chain([("rbldnsd-ip6tset", String::new())]) {
        for entry in fs::read_dir(base.join(format)).unwrap() {
            let file = entry.unwrap().path();
            let name = file.file_name().unwrap().to_str().unwrap().to_owned();
            if name.ends_with(".ref") || name.starts_with("mailboxes-") {
                continue;
            }
            let request = sample_request(&name, format);
            let text = fs::read(&file).unwrap();
            let Ok((plain, _)) = try_convert(&text, &request) else { continue };
            converted += 1;
            if request.about == About::Domains {
                continue;
            }
            let threshold = request.threshold.map_or(String::new(), |least| format!("threshold = {least}"));
            let mut gates = vec![gate(&text, format, &threshold), gate(&plain, "plain", "")];
            let back = Request { from: Some("plain"), to: format, ..request };
            match try_convert(&plain, &back) {
                Ok((again, _)) => gates.push(gate(&again, format, "")),
                Err(error) => {
                    let shown = error.to_string();
                    let said = ["cannot hold", "can hold one", "no key", "no score", "cannot be written", "more than 256 keys"];
                    assert!(said.iter().any(|said| shown.contains(said)), "{format}/{name}: {shown}");
                }
            }
            let mut list = List::default();
            for line in String::from_utf8(plain).unwrap().lines() {
                let entry = line.trim_start_matches('!').split(' ').next().unwrap();
                let (first, length) = entry.split_once('/').map_or((entry, None), |(first, length)| (first, Some(length)));
                let first: IpAddr = first.parse().unwrap();
                let length = length.map_or(if first.is_ipv4() { 32 } else { 128 }, |length| length.parse().unwrap());
                list.inside.push(match first {
                    IpAddr::V4(v4) => (true, u128::from(v4.to_bits()) << 96, length),
                    IpAddr::V6(v6) => (false, v6.to_bits(), length),
                });
            }
            if list.inside.is_empty() {
                continue;
            }
            for address in list.questions(&mut random, 2000) {
                let answers: Vec<bool> = gates
                    .iter()
                    .map(|gate| gate.check_connect(&Facts { now: Some(NOW), ..Facts::of_client(address) }).is_accept())
                    .collect();
                assert!(answers.iter().all(|accept| *accept == answers[0]), "{format}/{name} {address}: {answers:?}");
            }
        }
    }
    assert!(converted > 60, "{converted}");
}

/// IPv4-mapped addresses are asked for as IPv4 ones: what is cut out of a network around them must not refuse all of these.
#[test]
fn around_mapped_addresses() {
    let list = b"::/64\n!::1\n";
    let (out, _) = try_convert(list, &Request { to: "drop", ..Request::default() }).unwrap();
    let gate = gate(&out, "", "");
    for (address, accept) in [("::", false), ("::1", true), ("::2", false), ("::fffe:1.2.3.4", false), ("192.0.2.1", true)] {
        assert_eq!(gate.check_connect(&Facts::of_client(address.parse().unwrap())).is_accept(), accept, "{address}");
    }
}

/// Lists that a format cannot hold, and what is said.
#[test]
fn refusals() {
    let both = "192.0.2.0/24\n2001:db8::/32\n";
    let reasons = "192.0.2.0/24 # why\n192.0.2.7 why not\n";
    let replies = "192.0.2.0/24 550 5.7.1 Go away\n192.0.2.7 REJECT\n";
    let csv = "duration,scope,value\n4h,ip,192.0.2.7\n";
    let json = "[{\"duration\":\"4h\",\"scope\":\"ip\",\"value\":\"192.0.2.7\",\"scenario\":\"#1\"}]";
    let cases = [
        (both, "", "rbldnsd-ip4trie", "", ""),
        (both, "", "rbldnsd-ip6trie", "", ""),
        (both, "", "dshield", "", ""),
        (both, "", "firehol", "", ""),
        (both, "", "rbldnsd-ip6tset", "", ""),
        (both, "", "rbldnsd-dnset", "", ""),
        (both, "", "netset", "", ""),
        (both, "netset", "plain", "", ""),
        (both, "", "scored", "", ""),
        ("2001:db8::/33\n10.0.0.0/7\n", "", "sendmail-access", "", ""),
        ("10.0.0.0/7\n2001:db8::/33\n", "plain", "plain", "", ""),
        ("2001:db8:0:0:1::/80\n2001:db8:1::/48\n2001:db8:0::/48\n", "", "postfix-access", "", ""),
        (reasons, "", "sendmail-access", "", ""),
        (reasons, "", "sendmail-access", "", "lossy"),
        (replies, "", "plain", "", ""),
        (replies, "", "drop", "", "lossy"),
        (csv, "", "postfix-cidr", "", ""),
        (csv, "", "postfix-cidr", "", "lossy"),
        (json, "", "plain", "", ""),
        (json, "", "p2p", "", "lossy"),
        (json, "", "crowdsec-csv", "", ""),
        ("example.org\n.example.net\n", "", "postfix-access", "domains", ""),
        ("example.org\n", "", "drop", "domains", ""),
        ("user@example.org\nuser@\n", "", "rbldnsd-dnset", "senders", ""),
        ("user@example.org # why\n!user@ x\n.example.net\n", "", "sendmail-access", "senders", "lossy"),
        ("user@example.org # why\n!user@ x\n.example.net\n", "", "sendmail-access", "recipients", "lossy"),
        ("user@example.org # why\n!user@ x\n.example.net\n", "", "postfix-access", "recipients", ""),
        ("user@example.org\nexample.org\n", "", "postfix-access", "senders", ""),
        ("a#b@example.org\tREJECT\n\"a@b\"@example.org 550 5.7.1 No\n", "postfix-access", "plain", "senders", "lossy"),
        ("a;b@example.org\tREJECT\n!a@example.org\tREJECT\n", "postfix-access", "plain", "senders", ""),
        ("a@b@example.org\n\"a\\\"b\"@example.org\nx:y@example.org\n", "plain", "postfix-access", "senders", ""),
        ("192.0.2.1\t10\n192.0.2.2 x\n", "", "plain", "", ""),
        ("192.0.2.1\t10\n192.0.2.2\t3\n", "scored", "rbldnsd-ip4trie", "", ""),
        ("; Last-Modified: Tue, 19 May 2026 10:36:36 GMT\n192.0.2.0/24 ; SBL1\n", "", "plain", "", ""),
        ("192.0.2.0/24\n192.0.2.7/24\n", "", "drop", "", ""),
        ("192.0.2.7\n!192.0.2.7\n", "", "p2p", "", ""),
        ("", "", "drop", "", ""),
    ];
    let mut shown = String::new();
    for (list, from, to, option, lossy) in cases {
        let about = match option {
            "domains" => About::Domains,
            "senders" => About::Senders,
            "recipients" => About::Recipients,
            _ => About::Addresses,
        };
        let lossy = !lossy.is_empty();
        let request = Request { from: Some(from).filter(|from| !from.is_empty()), to, about, lossy, ..Request::default() };
        let (status, said, out) = match try_convert(list.as_bytes(), &request) {
            Ok((out, diagnostics)) => ("done", diagnostics, String::from_utf8(out).unwrap()),
            Err(Error::Refused(diagnostics)) => ("refused", diagnostics, String::new()),
            Err(Error::Output(error)) => panic!("{error}"),
        };
        let options =
            format!("{}{}", if option.is_empty() { String::new() } else { format!(" --{option}") }, if lossy { " --lossy" } else { "" });
        writeln!(shown, "== {list:?} --to {to}{options}: {status}\n{}{out}", render(&said)).unwrap();
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/convert/refusals.txt");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&file, &shown).unwrap();
    }
    assert_eq!(shown, fs::read_to_string(&file).unwrap_or_default(), "BLESS=1 writes it anew");
}

fn mxgate(arguments: &[&str], directory: &Path, input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_mxgate"))
        .arg("convert")
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that has made up its mind does not read all of it.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

#[test]
fn the_command() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let entries = || fs::read_dir(path).unwrap().count();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();

    let output = mxgate(&["--to", "postfix-cidr", "-"], path, b"192.0.2.0/24 ; SBL1\n!192.0.2.7\n");
    assert_eq!(text(&output.stdout), "192.0.2.7\tDUNNO\n192.0.2.0/24\tREJECT SBL1\n");
    assert_eq!((text(&output.stderr).as_str(), output.status.code()), ("", Some(0)));

    // A file is written in its own place, even over its input.
    fs::write(path.join("list"), "192.0.2.0/24 # why\n").unwrap();
    let output = mxgate(&["--to", "rbldnsd-ip4set", "list", "-o", "list"], path, b"");
    assert_eq!((output.status.code(), entries()), (Some(0), 1), "{output:?}");
    let written = ":127.0.0.2:\n192.0.2.0/24 :127.0.0.2:why\n";
    assert_eq!(fs::read_to_string(path.join("list")).unwrap(), written);

    // What goes wrong changes nothing.
    for (arguments, said) in [
        (&["--to", "rbldnsd-ip6trie", "list", "-o", "list"][..], "list:2:1: 1 entry is about IPv4"),
        (&["--to", "sendmail-access", "list", "-o", "list"], "--lossy"),
        (&["--to", "plain", "no-such-file", "-o", "list"], "cannot read no-such-file"),
        (&["--to", "plain", "list", "-o", "no-such-directory/list"], "cannot write no-such-directory/list"),
        (&["--to", "plane", "list", "-o", "list"], "there is no format"),
        (&["list", "-o", "list"], "--to"),
    ] {
        let output = mxgate(arguments, path, b"");
        assert_eq!((output.status.code(), entries()), (Some(2), 1), "{arguments:?}");
        assert!(text(&output.stderr).contains(said), "{arguments:?}: {}", text(&output.stderr));
        assert_eq!(fs::read_to_string(path.join("list")).unwrap(), written);
    }
    let output = mxgate(&["--lossy", "--to", "sendmail-access", "list"], path, b"");
    assert_eq!(text(&output.stdout), "Connect:192.0.2\tREJECT\n");
    assert!(text(&output.stderr).contains("warning: 1 reason is left out"), "{output:?}");

    let help = text(&mxgate(&["--help"], path, b"").stdout);
    for (name, holds) in formats() {
        assert!(help.contains(&format!("  {name:<16} {holds}\n")), "{help}");
    }
}
