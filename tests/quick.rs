//! The quick way through a check (src/gate/quick.rs) against the order of decision: the same verdicts, field by field, and the
//! same counters. Two gates have the same rules; one is asked about clients of whom nothing is known but the address, the
//! other one is told a name in HELO too, which no reply here shows: for that the order of decision has to be gone through.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what goes wrong here ends the test, with a message")]
#![allow(unsafe_code, reason = "calls of the C ABI")]

use mxgate::capi::{self, mxgate_counters, mxgate_facts, mxgate_gate, mxgate_verdict};
use proptest::prelude::Rng as _;
use std::collections::BTreeSet;
use std::ffi::{CString, c_char};
use std::mem::zeroed;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::ptr::null_mut;

#[path = "support/random.rs"]
mod random;

/// Lists of each kind that a rule about addresses can be; the addresses that are asked about lie around them.
const LISTS: &str = r#"
hostname = "mx.example.org"
[never_block]
networks = ["192.0.2.200/31"]
[[list]]
name = "partners"
allow = true
entries = ["192.0.2.128/28 our partners", "192.0.2.32"]
[[list]]
name = "watched"
entries = ["192.0.2.64/27 watched", "2001:db8:5::/48"]
enforce = false
[[list]]
name = "plain"
entries = ["192.0.2.0/26 sent spam", "192.0.2.70 in {list} twice", "192.0.2.72", "!192.0.2.5", "192.0.2.80-192.0.2.99 a range"]
[[list]]
name = "drops"
entries = ["198.51.100.0/25 gone", "198.51.100.3", "2001:db8:bad::/48 six", "198.51.0.0/16"]
reply = { connect = "drop", rcpt = "policy" }
contact = "https://example.org/refused?a=long-path-that-makes-the-text-longer-than-one-part"
[[list]]
name = "literal"
entries = ["203.0.113.0/26"]
reply = "450 4.7.1 Later, {ip}, by {hostname}; {ip} again"
[[list]]
name = "reasons"
entries = ["203.0.113.64/26 because"]
reply = "550 5.7.1 {reason} [{ip}]"
[[list]]
name = "short"
entries = ["203.0.113.128/26 because"]
reply = "550 5.7.1 no"
[[list]]
name = "connections"
entries = ["203.0.113.192/26"]
exempt = ["authenticated"]
at = "rcpt"
[[list]]
name = "over"
file = "over.txt"
ttl = "1h"
[[list]]
name = "cidr"
file = "cidr.txt"
format = "postfix-cidr"
"#;
const CIDR: &str = "198.18.0.0/16 554 5.7.1 a reply of the line\n198.19.0.0/17 REJECT with a text\n198.19.128.0/17 REJECT\n";

/// Before the entries of a list cease to count, and after.
const NOW: [u64; 2] = [1_600_000_000, 4_000_000_000];

struct Asked {
    gate: *mut mxgate_gate,
    helo: Option<&'static str>,
}

impl Asked {
    fn new(policy: &Path, helo: Option<&'static str>) -> Asked {
        let asked = Asked { gate: capi::mxgate_new(), helo };
        asked.load(policy);
        asked
    }

    fn load(&self, policy: &Path) {
        let path = CString::new(policy.to_str().unwrap()).unwrap();
        let mut message = [0_u8; 1000];
        // SAFETY: a gate, a string that ends with NUL, a buffer of that size.
        let result = unsafe { capi::mxgate_load_file(self.gate, path.as_ptr(), message.as_mut_ptr().cast(), message.len()) };
        assert_eq!(result, 0, "{}", String::from_utf8_lossy(&message));
    }

    fn connect(&self, client: IpAddr, now: u64) -> (i32, mxgate_verdict) {
        let mut facts = facts_of(client);
        let mut verdict = used_verdict();
        facts.now = now;
        facts.port = 25;
        if let Some(helo) = self.helo {
            (facts.helo, facts.helo_length) = (helo.as_ptr().cast(), helo.len());
        }
        // SAFETY: a gate, structures of this release, a string of that length.
        let result = unsafe { capi::mxgate_check_connect(self.gate, &raw const facts, size_of::<mxgate_facts>(), &raw mut verdict) };
        (result, verdict)
    }

    fn rcpt(&self, facts: &mxgate_facts) -> (i32, mxgate_verdict) {
        let mut verdict = used_verdict();
        // SAFETY: a gate, structures of this release, strings of the lengths beside them.
        let result = unsafe { capi::mxgate_check_rcpt(self.gate, facts, size_of::<mxgate_facts>(), &raw mut verdict) };
        (result, verdict)
    }

    /// What it has counted, and the hits of each list.
    fn counted(&self) -> (mxgate_counters, String) {
        // SAFETY: plain numbers.
        let mut counters: mxgate_counters = unsafe { zeroed() };
        // SAFETY: a gate, a structure of this release.
        assert_eq!(unsafe { capi::mxgate_count(self.gate, &raw mut counters, size_of::<mxgate_counters>()) }, 0);
        let mut status = vec![0_u8; 100_000];
        // SAFETY: a gate, and a buffer of that size.
        let length = unsafe { capi::mxgate_status(self.gate, capi::MXGATE_JSON, status.as_mut_ptr().cast(), status.len()) };
        status.truncate(length);
        // Of two gates one is the older one.
        let status = String::from_utf8(status).unwrap();
        (counters, status.lines().filter(|line| !line.contains("\"loaded\"")).collect())
    }
}

/// A verdict in which something stands already, of which nothing is to be seen.
fn used_verdict() -> mxgate_verdict {
    // SAFETY: plain numbers, for which any bytes will do.
    unsafe { std::mem::transmute([b'x'; size_of::<mxgate_verdict>()]) }
}

/// A client, of whom nothing else is known.
fn facts_of(client: IpAddr) -> mxgate_facts {
    // SAFETY: all-zero is a valid value of these plain structures.
    let mut facts: mxgate_facts = unsafe { zeroed() };
    match client {
        IpAddr::V4(v4) => {
            facts.address_size = 4;
            facts.address[..4].copy_from_slice(&v4.octets());
        }
        IpAddr::V6(v6) => {
            facts.address_size = 16;
            facts.address = v6.octets();
        }
    }
    facts
}

impl Drop for Asked {
    fn drop(&mut self) {
        // SAFETY: it came from mxgate_new(), and nobody uses it any more.
        unsafe { capi::mxgate_free(self.gate) };
    }
}

fn text(array: &[c_char]) -> String {
    let bytes = array.iter().map(|byte| byte.cast_unsigned());
    String::from_utf8(bytes.take_while(|byte| *byte != 0).collect()).unwrap()
}

/// All of a verdict, strings up to their NUL.
fn shown(&(result, ref verdict): &(i32, mxgate_verdict)) -> String {
    let mxgate_verdict { code, hangup, decider, reserved1, line, reserved2, generation, reserved3, .. } = verdict;
    let strings = [text(&verdict.status), text(&verdict.list), text(&verdict.shadow), text(&verdict.entry)];
    let more = [text(&verdict.reason), text(&verdict.host), text(&verdict.text)];
    let numbers = (result, code, hangup, decider, reserved1, line, reserved2, generation, reserved3);
    format!("{numbers:?} {strings:?} {more:?}")
}

fn clients() -> impl Iterator<Item = IpAddr> {
    let v4 = ["192.0.2.", "198.51.100.", "203.0.113.", "198.51.7.", "198.18.0.", "198.19.0.", "198.19.200.", "10.0.0.", "233.252.0."];
    let v4 = v4.into_iter().flat_map(|start| (0..=255).map(move |last| format!("{start}{last}")));
    let v6 = ["2001:db8:bad::1", "2001:db8:5::1", "2001:db8::1", "::1", "::ffff:192.0.2.7", "::ffff:192.0.2.130", "::ffff:233.252.0.1"];
    v4.chain(v6.map(str::to_owned)).map(|address| address.parse().unwrap())
}

/// Asks both about all clients. Says how many were refused.
fn compare(quick: &Asked, ordinary: &Asked, what: &str) -> usize {
    let mut refused = 0;
    for (client, now) in NOW.into_iter().flat_map(|now| clients().map(move |client| (client, now))) {
        let answers = [quick.connect(client, now), ordinary.connect(client, now)].map(|answer| (answer.0, shown(&answer)));
        assert_eq!(answers[0].1, answers[1].1, "{client} at {now}, {what}");
        refused += usize::from(answers[0].0 == capi::MXGATE_REJECT);
    }
    let ((one, lists), (other, other_lists)) = (quick.counted(), ordinary.counted());
    assert_eq!(format!("{one:?}"), format!("{other:?}"), "{what}");
    assert!(lists.contains("\"plain\""), "{lists}");
    assert_eq!(lists, other_lists, "{what}");
    refused
}

#[test]
fn the_quick_way_comes_to_what_the_order_of_decision_comes_to() {
    let directory = tempfile::tempdir().unwrap();
    let policy = directory.path().join("policy.toml");
    std::fs::write(directory.path().join("cidr.txt"), CIDR).unwrap();
    std::fs::write(directory.path().join("over.txt"), "198.51.100.128/25 for an hour\n").unwrap();
    std::fs::write(&policy, LISTS).unwrap();
    let image = directory.path().join("policy.mxg");
    let compiler = mxgate::Gate::new();
    compiler.load_file(&policy).unwrap();
    compiler.write_image(&image).unwrap();
    for (what, path) in [("a policy", &policy), ("its image", &image)] {
        let (quick, ordinary) = (Asked::new(path, None), Asked::new(path, Some("client.example.org")));
        let refused = compare(&quick, &ordinary, what);
        assert!(refused > 1000, "{refused}");
        // Bans and modes come before lists: then there is no quick way.
        for asked in [&quick, &ordinary] {
            let ban = "233.252.0.0/24";
            // SAFETY: a gate, strings of those lengths.
            let result = unsafe { capi::mxgate_ban(asked.gate, ban.as_ptr().cast(), ban.len(), 0, std::ptr::null(), 0, null_mut(), 0) };
            assert_eq!(result, 0);
        }
        assert_eq!(compare(&quick, &ordinary, "with a ban"), refused + 2 * 257);
        for asked in [&quick, &ordinary] {
            let ban = "233.252.0.0/24";
            // SAFETY: likewise.
            assert_eq!(unsafe { capi::mxgate_unban(asked.gate, ban.as_ptr().cast(), ban.len(), null_mut(), 0) }, 1);
        }
        assert_eq!(compare(&quick, &ordinary, "without the ban"), refused);
        for (mode, expected) in [(capi::MXGATE_MODE_MAINTENANCE, 2 * clients().count()), (capi::MXGATE_MODE_OPEN, refused)] {
            for asked in [&quick, &ordinary] {
                // SAFETY: a gate.
                assert_eq!(unsafe { capi::mxgate_set_mode(asked.gate, mode) }, 0);
            }
            assert_eq!(compare(&quick, &ordinary, "with a mode"), expected);
        }
    }
}

/// Networks inside of networks, so that pieces of all sizes are left over of them: the quick way knows their lengths from the
/// table, the order of decision from the list.
#[test]
fn networks_inside_of_networks_are_named_as_the_list_has_them() {
    let directory = tempfile::tempdir().unwrap();
    let policy = directory.path().join("policy.toml");
    let mut random = random::random(61);
    let mut number = || random.next_u32();
    let lists: String = (0..3).fold("hostname = \"mx.example.org\"\n".to_owned(), |policy, list| {
        let lines = (0..1000).fold(String::new(), |lines, _| {
            let length = 15 + number() % 18;
            let network = (0xc612_0000 | number() >> 15) & (u32::MAX << (32 - length));
            let hole = if number() % 20 == 0 { "!" } else { "" };
            lines + &format!("{hole}{}/{length}\n", Ipv4Addr::from_bits(network))
        });
        let file = format!("list{list}.txt");
        std::fs::write(directory.path().join(&file), lines).unwrap();
        policy + &format!("[[list]]\nname = \"list{list}\"\nfile = \"{file}\"\nformat = \"plain\"\n")
    });
    std::fs::write(&policy, lists).unwrap();
    let (quick, ordinary) = (Asked::new(&policy, None), Asked::new(&policy, Some("client.example.org")));
    let mut entries = BTreeSet::new();
    for _ in 0..50_000 {
        let client = IpAddr::from(Ipv4Addr::from_bits(0xc612_0000 | number() >> 15));
        let answers =
            [quick.connect(client, NOW[0]), ordinary.connect(client, NOW[0])].map(|answer| (text(&answer.1.entry), shown(&answer)));
        assert_eq!(answers[0].1, answers[1].1, "{client}");
        entries.insert(answers[0].0.clone());
    }
    assert!(entries.len() > 500, "{}", entries.len());
    assert_eq!(quick.counted().1, ordinary.counted().1);
}

/// More lists than are searched at once, names and texts from short to longer than what is prepared, several replies, and networks
/// of all lengths.
#[test]
fn many_lists_with_texts_of_all_lengths() {
    let directory = tempfile::tempdir().unwrap();
    let policy = directory.path().join("policy.toml");
    for (hostname, lists) in [("h", 1), ("mx.example.org", 15), ("mail-in-1.some-longer-name.example.org", 17), (&"h".repeat(63), 40)] {
        let list = |number: usize| {
            let name = format!("l{number}{}", "x".repeat(number * 3 % 60));
            let reply = ["", "reply = \"550 5.7.1 Not you, {ip}, by {list}\"", "reply = \"451 4.7.1 Later, {ip}, says {hostname}\""]
                [number % 5 % 3];
            let about = "y".repeat(number * 7 % 100);
            let length = 1 + number % 32;
            let network = (0xc612_0000 | u32::try_from(number).unwrap() << 8) & (u32::MAX << (32 - length));
            let wide = if number == lists - 1 { "\"198.16.0.0/12 wide\", \"198.0.0.0/7\", \"128.0.0.0/1\"" } else { "" };
            let entries = format!("\"198.18.{number}.64/{} {about}\", \"198.18.{number}.3 {about}\", {wide}", 26 + number % 7);
            let deep = format!("\"{}/{length} {about}\"", Ipv4Addr::from_bits(network));
            let entries = if length > 15 { format!("{entries}, {deep}").replace(", ,", ",") } else { entries };
            format!("[[list]]\nname = \"{name}\"\nentries = [{entries}]\n{reply}\n")
        };
        let lists: String = (0..lists).map(list).collect();
        std::fs::write(&policy, format!("hostname = \"{hostname}\"\n[guards]\nwidest_v4 = 1\n{lists}")).unwrap();
        let (quick, ordinary) = (Asked::new(&policy, None), Asked::new(&policy, Some("client.example.org")));
        let mut entries = BTreeSet::new();
        for client in (0..48 << 8).map(|low| 0xc612_0000 | low).chain([0xc601_0203, 0xc614_0506, 0xc701_0203, 0x0102_0304, 0xfefd_fcfb]) {
            let client = IpAddr::from(Ipv4Addr::from_bits(client));
            let answers = [quick.connect(client, NOW[0]), ordinary.connect(client, NOW[0])];
            assert_eq!(shown(&answers[0]), shown(&answers[1]), "{client}");
            entries.insert(text(&answers[0].1.entry));
        }
        assert!(entries.len() > 3, "{entries:?}");
        assert_eq!(quick.counted().1, ordinary.counted().1);
    }
}

/// Lists come, go, and change their places, and some stay: they count on.
#[test]
fn hits_go_on_over_loads() {
    let directory = tempfile::tempdir().unwrap();
    let policy = directory.path().join("policy.toml");
    let load = |lists: &[usize]| {
        let list = |number: &usize| format!("[[list]]\nname = \"l{number}\"\nentries = [\"192.0.2.{number}\"]\n");
        let lists: String = lists.iter().map(list).collect();
        std::fs::write(&policy, format!("hostname = \"mx.example.org\"\n{lists}")).unwrap();
    };
    load(&[1]);
    let (quick, ordinary) = (Asked::new(&policy, None), Asked::new(&policy, Some("client.example.org")));
    for first in 0..20 {
        load(&[first + 3, 1, first + 2, 40]);
        quick.load(&policy);
        ordinary.load(&policy);
        for client in (0..50).flat_map(|number| [number, 1, 40]) {
            let client = IpAddr::from(Ipv4Addr::new(192, 0, 2, client));
            assert_eq!(shown(&quick.connect(client, NOW[0])), shown(&ordinary.connect(client, NOW[0])), "{client}");
        }
        assert_eq!(quick.counted().1, ordinary.counted().1, "{first}");
    }
    let lists = quick.counted().1;
    assert!(["1020", "1020", "2", "1"].iter().all(|hits| lists.contains(&format!("\"hits\": {hits}"))), "{lists}");
}

/// Limits, maintenance at times, and a mode that the policy asks for: each of them decides where no list does.
#[test]
fn what_stands_beside_the_lists_is_not_passed_by() {
    let directory = tempfile::tempdir().unwrap();
    let policy = directory.path().join("policy.toml");
    let hostname = "hostname = \"mx.example.org\"\n";
    let list = "[[list]]\nname = \"plain\"\nentries = [\"192.0.2.0/24 sent spam\"]\n";
    let everybody = 2 * clients().count();
    for (others, expected) in [
        ("", 2 * 258),
        ("mode = \"no-mail\"\n", everybody),
        ("mode = \"maintenance\"\n[maintenance]\nuntil = 2100-01-01T00:00:00Z\n", everybody),
        ("[limits]\nconnections = \"1/h\"\nv4_prefix = 16\nreply = \"450 4.7.1 Too often\"\n", 1),
    ] {
        std::fs::write(&policy, format!("{hostname}{others}{list}")).unwrap();
        let (quick, ordinary) = (Asked::new(&policy, None), Asked::new(&policy, Some("client.example.org")));
        let refused = compare(&quick, &ordinary, others);
        assert!(if others.starts_with("[limits]") { refused > 2 * 258 + expected } else { refused == expected }, "{others}: {refused}");
    }
}

/// Rules that can be asked about a recipient without the order of decision.
const PLACES: &str = r#"
hostname = "mx.example.org"
[never_block]
networks = ["192.0.2.200/31"]
[[list]]
name = "partners"
allow = true
entries = ["192.0.2.128/28"]
[[list]]
name = "plain"
entries = ["192.0.2.0/26 sent spam", "2001:db8:bad::/48"]
[[list]]
name = "watched"
entries = ["198.51.100.0/30"]
enforce = false
[[domains]]
name = "parked"
kind = "no-mail"
entries = [".parked.example no mail here", "exact.example", "*.below.example", "!not.parked.example", "[192.0.2.1]"]
[[domains]]
name = "theirs"
entries = ["theirs.example", "deep.theirs.example 100% theirs", "both.parked.example"]
kind = "null-mx"
reply = "550 5.1.10 {sender} to {domain}, {helo}, at {ip}: {reason}"
[[domains]]
name = "closed"
kind = "no-mail"
entries = [
    ".closed.example",
    "one.example",
    "*.under.example",
    "!open.closed.example",
    "!.all.closed.example",
    "two.closed.example",
    "*.closed.example.net",
    "x.closed.example.net",
    "same.example",
    ".same.example",
]
[[domains]]
name = "null"
kind = "null-mx"
entries = ["three.example", ".one.example", "four.closed.example"]
[[domains]]
name = "over"
kind = "no-mail"
file = "over.txt"
ttl = "1h"
[[domains]]
name = "alike"
kind = "no-mail"
entries = ["alike.example", "*.alike.example"]
[[domains]]
name = "a-list-with-a-name-of-more-than-thirty-two-letters"
kind = "no-mail"
entries = ["long.example"]
[[domains]]
name = "later"
kind = "no-mail"
entries = ["later.example"]
reply = "450 4.7.1 Not now, {domain}"
"#;

/// Each of the rules that stand beside lists of clients and of domains refuses what is accepted without it.
#[test]
fn rules_beside_the_lists_are_not_passed_by() {
    let directory = tempfile::tempdir().unwrap();
    let policy = directory.path().join("policy.toml");
    std::fs::write(directory.path().join("over.txt"), ".over.example\n").unwrap();
    let (recipient, sender) = ("<user@other.example>", "<sender@example.net>");
    for (rule, result) in [
        ("", capi::MXGATE_ACCEPT),
        ("[[recipients]]\nname = \"no\"\nkind = \"internal-only\"\nentries = [\"user@other.example\"]\n", capi::MXGATE_REJECT),
        ("[[senders]]\nname = \"no\"\nentries = [\"sender@example.net\"]\n", capi::MXGATE_REJECT),
        ("[relay]\nlocal = [\"example.org\"]\n", capi::MXGATE_REJECT),
        ("[limits]\nrecipients = \"1/h\"\n", capi::MXGATE_REJECT),
        ("[maintenance]\nuntil = 2100-01-01T00:00:00Z\n", capi::MXGATE_REJECT),
    ] {
        let mode = if rule.starts_with("[maintenance]") { "mode = \"maintenance\"" } else { "" };
        std::fs::write(&policy, format!("{mode}{PLACES}{rule}")).unwrap();
        let asked = Asked::new(&policy, None);
        let mut facts = facts_of(Ipv4Addr::new(203, 0, 113, 1).into());
        (facts.recipient, facts.recipient_length) = (recipient.as_ptr().cast(), recipient.len());
        (facts.sender, facts.sender_length) = (sender.as_ptr().cast(), sender.len());
        let answers = [asked.rcpt(&facts), asked.rcpt(&facts)];
        assert_eq!(answers[1].0, result, "{rule}: {}", shown(&answers[1]));
    }
}

/// Recipients at domains of all forms, and what else a mail server may know: the quick way, and the order of decision, for which
/// another rule stands in the policy that nothing here meets.
#[test]
fn recipients_are_answered_alike() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("over.txt"), ".over.example\n").unwrap();
    let policy = |name: &str, other: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, format!("{PLACES}{other}")).unwrap();
        Asked::new(&path, None)
    };
    let quick = policy("quick.toml", "");
    let ordinary = policy("ordinary.toml", "[[senders]]\nname = \"others\"\nentries = [\"nobody@unused.example\"]\n");
    let locals = ["user", "postmaster", "ABUSE", "\"quo ted\"", "a%b.example", ""];
    let domains = [
        "parked.example",
        "a.parked.example",
        "not.parked.example",
        "a.not.parked.example",
        "both.parked.example",
        "exact.example",
        "x.exact.example",
        "below.example",
        "a.below.example",
        "theirs.example",
        "a.theirs.example",
        "deep.theirs.example",
        "other.example",
        "EXACT.example",
        "exact.example.",
        "[192.0.2.1]",
        "[192.0.2.2]",
        "",
        "closed.example",
        "a.closed.example",
        "open.closed.example",
        "a.all.closed.example",
        "two.closed.example",
        "a.two.closed.example",
        "four.closed.example",
        "one.example",
        "a.one.example",
        "under.example",
        "a.b.under.example",
        "closed.example.net",
        "x.closed.example.net",
        "y.x.closed.example.net",
        "same.example",
        "a.same.example",
        "three.example",
        "over.example",
        "a.over.example",
        "alike.example",
        "a.alike.example",
        "long.example",
        "later.example",
        "b\u{fc}cher.example",
        "a..parked.example",
        "a-name-that-is-longer-than-sixty-four-bytes.with-some-more-labels.than-most.below.example",
    ];
    let clients =
        ["192.0.2.1", "192.0.2.130", "192.0.2.200", "198.51.100.1", "127.0.0.1", "2001:db8:bad::1", "2001:db8::1", "::ffff:192.0.2.3"];
    let (mut refused, mut watched) = (0, 0);
    for (local, domain, client) in
        locals.iter().flat_map(|local| domains.iter().flat_map(move |domain| clients.map(|client| (local, domain, client))))
    {
        let recipient = if domain.is_empty() { format!("<{local}>") } else { format!("<{local}@{domain}>") };
        let mut facts = facts_of(client.parse().unwrap());
        let of = |text: &str| (text.as_ptr().cast::<c_char>(), text.len());
        (facts.recipient, facts.recipient_length) = of(&recipient);
        for way in 0..9 {
            match way {
                1 => (facts.sender, facts.sender_length) = of("<sender@example.net>"),
                2 => (facts.helo, facts.helo_length, facts.now) = ("client".as_ptr().cast(), 6, NOW[1]),
                3 => (facts.flags, facts.now) = (capi::MXGATE_AUTHENTICATED, 0),
                4 => facts.flags = capi::MXGATE_TRUSTED | capi::MXGATE_TLS,
                5 => (facts.flags, facts.spf) = (0, capi::MXGATE_RESULT_FAIL),
                6 => (facts.spf, facts.address_size) = (0, 0),
                // What is no question is an error in both.
                7 => (facts.sender_length, facts.address_size) = (1 << 20, 4),
                8 => (facts.sender_length, facts.dmarc) = (3, 200),
                _ => {}
            }
            let answers = [quick.rcpt(&facts), ordinary.rcpt(&facts)];
            assert_eq!(shown(&answers[0]), shown(&answers[1]), "{recipient} from {client}, {way}");
            assert_eq!(answers[0].0 == capi::MXGATE_EINVAL, way > 6, "{recipient}, {way}");
            refused += usize::from(answers[0].0 == capi::MXGATE_REJECT);
            watched += usize::from(!text(&answers[0].1.shadow).is_empty());
        }
    }
    assert!(refused > 1000 && watched > 100, "{refused} {watched}");
    let ((one, lists), (other, other_lists)) = (quick.counted(), ordinary.counted());
    assert_eq!(format!("{one:?}"), format!("{other:?}"));
    let hits = |lists: &str| lists.split("\"hits\": ").skip(1).map(|hits| hits.split(',').next().unwrap().to_owned()).collect::<Vec<_>>();
    let (hits, other_hits) = (hits(&lists), hits(&other_lists));
    assert_eq!(hits[..], other_hits[..hits.len()], "{lists}");
}
