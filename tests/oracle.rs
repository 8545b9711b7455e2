//! The tables against Postfix's own matcher: `postmap -q - cidr:FILE` answers as we do.
//!
//! A plain list is compared where both have a meaning: without nesting, since a cidr: table goes by the first line that
//! matches and a list by the most specific one. (Nesting is compared with the definition in tests/model.rs.) Lists in
//! Postfix's own formats are compared with nesting, order, `!`, `if` and all.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "what goes wrong here ends the test, with a message"
)]

use mxgate::{Facts, Gate};
use proptest::prelude::Rng as _;
use proptest::test_runner::TestRng;
use random::{address, mask, random, random_bits};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

#[path = "support/random.rs"]
mod random;
mod support;

const PREFIXES: usize = 2_000;
const ADDRESSES: usize = 200_000;

/// A network as its first address and the length of its prefix; IPv4 in the upper 32 bits.
type Network = (bool, u128, u32);

/// Disjoint random networks of both families, of all usual lengths, many of them close together.
fn networks(random: &mut TestRng) -> Vec<Network> {
    let mut chosen: Vec<Network> = Vec::new();
    let crowded = random_bits(random);
    while chosen.len() < PREFIXES {
        let v4 = random.next_u32().is_multiple_of(2);
        let length = if v4 { 6 + random.next_u32() % 27 } else { 16 + random.next_u32() % 113 };
        let keep = random.next_u32() % 24;
        let bits = random_bits(random);
        // Half of them share their first bits with each other.
        let bits = if random.next_u32().is_multiple_of(2) { crowded & mask(keep) | bits & !mask(keep) } else { bits };
        let first = bits & mask(length) & if v4 { mask(32) } else { u128::MAX };
        let overlaps = |other: &Network| other.0 == v4 && (other.1 ^ first) & mask(length.min(other.2)) == 0;
        // Not what the two treat differently: IPv4-mapped addresses.
        let mapped = !v4 && first >> 32 == 0xffff;
        if !mapped && !chosen.iter().any(overlaps) {
            chosen.push((v4, first, length));
        }
    }
    chosen
}

/// Addresses at and around both ends of the networks, inside them, and anywhere.
fn addresses(networks: &[Network], random: &mut TestRng) -> Vec<IpAddr> {
    let mut addresses = BTreeSet::new();
    for (v4, first, length) in networks {
        let step = if *v4 { 1 << 96 } else { 1 };
        let last = first | !mask(*length);
        for bits in [*first, last, first.wrapping_sub(step), last.wrapping_add(step)] {
            addresses.insert(address(*v4, bits));
        }
    }
    while addresses.len() < ADDRESSES {
        let (v4, first, length) = networks[random.next_u32() as usize % networks.len()];
        let bits = random_bits(random);
        let inside = first | bits & !mask(length);
        addresses.insert(address(v4, if random.next_u32().is_multiple_of(2) { inside } else { bits }));
    }
    addresses.into_iter().collect()
}

/// What postmap answers to many questions: for each that it finds, "question TAB value".
fn postmap(directory: &Path, table: &str, questions: String) -> String {
    let main_cf = fs::File::create(directory.join("main.cf")).unwrap();
    std::io::Write::write_all(&mut &main_cf, b"compatibility_level = 3.6\n").unwrap();
    // Postfix waits up to two seconds for a fresh main.cf "to cool down", lest somebody is still writing to it.
    main_cf.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
    let mut postmap = Command::new(support::find("postmap").unwrap())
        .arg("-c")
        .arg(directory)
        .args(["-q", "-", table])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = postmap.stdin.take().unwrap();
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut input, questions.as_bytes()).unwrap());
    let output = postmap.wait_with_output().unwrap();
    writer.join().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// A gate with one list in a file; all prefixes are allowed, and the reason stands in the reply.
fn gate(directory: &Path, list: &str, keys: &str) -> Gate {
    fs::write(directory.join("list.txt"), list).unwrap();
    let policy = directory.join("mxgate.toml");
    let text = format!(
        "hostname = \"mx.example.org\"\nguards = {{ widest_v4 = 1, widest_v6 = 1 }}\n\
         never_block = {{ loopback = false, link_local = false, private = false }}\n\
         [[list]]\nname = \"all\"\nfile = \"list.txt\"\nreply = \"550 5.7.1 x {{reason}}\"\n{keys}\n"
    );
    fs::write(&policy, text).unwrap();
    let gate = Gate::new();
    gate.load_file(&policy).unwrap_or_else(|error| panic!("{error}\n{list}"));
    gate
}

#[test]
fn postfix_answers_the_same() {
    if !support::available(&["postmap", "postconf"]) {
        return;
    }
    let mut random = random(0);
    let networks = networks(&mut random);
    let addresses = addresses(&networks, &mut random);
    let mut table = String::new();
    for (number, (v4, first, length)) in networks.iter().enumerate() {
        writeln!(table, "{}/{length} entry-{number}", address(*v4, *first)).unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let gate = gate(directory.path(), &table, "format = \"plain\"");
    let questions = addresses.iter().map(|address| format!("{address}\n")).collect();
    let theirs = postmap(directory.path(), &format!("cidr:{}", directory.path().join("list.txt").display()), questions);
    let ours: String = addresses
        .iter()
        .filter_map(|address| {
            let verdict = gate.check_connect(&Facts::of_client(*address));
            verdict.rejection.map(|_| format!("{address}\t{}\n", verdict.reason))
        })
        .collect();
    assert!(theirs.lines().count() > ADDRESSES / 3, "too few addresses are found: {}", theirs.lines().count());
    let difference = ours.lines().zip(theirs.lines()).find(|(ours, theirs)| ours != theirs);
    assert!(
        ours == theirs,
        "first difference (ours, Postfix): {difference:?}; {} and {} found",
        ours.lines().count(),
        theirs.lines().count()
    );
}

/// A pattern of a cidr: table in a small corner of the address space, so that many nest and collide.
fn pattern(random: &mut TestRng) -> String {
    let v4 = random.next_u32().is_multiple_of(2);
    let not = if random.next_u32().is_multiple_of(8) { "!" } else { "" };
    let length = if v4 { 16 + random.next_u32() % 17 } else { 48 + random.next_u32() % 17 };
    format!("{not}{}/{length}", address(v4, corner(v4, random) & mask(length)))
}

fn corner(v4: bool, random: &mut TestRng) -> u128 {
    let low = random.next_u64();
    if v4 { (0xcb00_0000_u128 | u128::from(low & 0xffff)) << 96 } else { 0x2001_0db8_0000_u128 << 80 | u128::from(low & 0xffff) << 64 }
}

/// An ordered table with `!`, `if` and `endif`.
fn cidr_table(random: &mut TestRng) -> String {
    let (mut table, mut open) = (String::new(), 0);
    for number in 0..40 + random.next_u32() % 160 {
        match random.next_u32() % 12 {
            0 if open < 4 => {
                writeln!(table, "if {}", pattern(random)).unwrap();
                open += 1;
            }
            1 if open > 0 => {
                table.push_str("endif\n");
                open -= 1;
            }
            _ => {
                let action = ["REJECT", "REJECT", "REJECT", "OK", "DUNNO"][random.next_u32() as usize % 5];
                writeln!(table, "{}  {action} entry-{number}", pattern(random)).unwrap();
            }
        }
    }
    table.push_str(&"endif\n".repeat(open));
    table
}

#[test]
fn ordered_tables_answer_as_in_postfix() {
    const TABLES: usize = 50;
    const QUESTIONS: usize = 20_000;
    if !support::available(&["postmap", "postconf"]) {
        return;
    }
    let mut random = random(0);
    let (mut refused, mut accepted) = (0, 0);
    for _ in 0..TABLES {
        let table = cidr_table(&mut random);
        let directory = tempfile::tempdir().unwrap();
        let gate = gate(directory.path(), &table, "format = \"postfix-cidr\"");
        let addresses: Vec<IpAddr> = (0..QUESTIONS)
            .map(|_| {
                let v4 = random.next_u32().is_multiple_of(2);
                address(v4, corner(v4, &mut random))
            })
            .collect();
        let questions = addresses.iter().map(|address| format!("{address}\n")).collect();
        let answers = postmap(directory.path(), &format!("cidr:{}", directory.path().join("list.txt").display()), questions);
        let mut answers = answers.lines().peekable();
        for address in addresses {
            let found = answers.next_if(|line| line.split('\t').next() == Some(&address.to_string()));
            let reason = found.and_then(|line| line.split_once("\tREJECT ")).map(|(_, reason)| reason);
            let verdict = gate.check_connect(&Facts::of_client(address));
            let ours = verdict.rejection.map(|_| verdict.reason.as_str());
            assert_eq!(ours, reason, "{address} in\n{table}");
            if ours.is_some() { refused += 1 } else { accepted += 1 }
        }
        assert_eq!(answers.next(), None);
    }
    assert!(refused > TABLES * QUESTIONS / 10 && accepted > TABLES * QUESTIONS / 10, "{refused} {accepted}");
}

#[test]
fn access_tables_answer_as_in_postfix() {
    const QUESTIONS: usize = 250_000;
    if !support::available(&["postmap", "postconf"]) {
        return;
    }
    let mut random = random(0);
    // Addresses and their first octets, as access(5) looks them up; each key once.
    let mut keys = BTreeSet::new();
    while keys.len() < 3000 {
        let octets = [203, random.next_u32() % 3, random.next_u32() % 8, random.next_u32() % 256].map(|octet| octet.to_string());
        keys.insert(octets[..1 + random.next_u32() as usize % 4].join("."));
    }
    let mut table = String::new();
    for (number, key) in keys.iter().enumerate() {
        let action = ["REJECT", "REJECT", "OK", "DUNNO"][random.next_u32() as usize % 4];
        writeln!(table, "{key}\t{action} entry-{number}").unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let gate = gate(directory.path(), &table, "format = \"postfix-access\"\nwidest_v4 = 1");
    let addresses: Vec<Ipv4Addr> = (0..QUESTIONS)
        .map(|_| {
            Ipv4Addr::from_bits(0xcb00_0000 | (random.next_u32() % 4) << 16 | (random.next_u32() % 10) << 8 | (random.next_u32() % 256))
        })
        .collect();
    // Postfix asks for the address, then for its first three, two and one octets, and takes the first answer.
    let parts = |address: &Ipv4Addr| {
        let text = address.to_string();
        std::iter::successors(Some(text), |text| text.rsplit_once('.').map(|(front, _)| front.to_owned()))
    };
    let questions = addresses.iter().flat_map(parts).map(|key| format!("{key}\n")).collect();
    let answers = postmap(directory.path(), &format!("texthash:{}", directory.path().join("list.txt").display()), questions);
    let mut answers = answers.lines().peekable();
    let mut refused = 0;
    for address in addresses {
        let mut decided = None;
        for key in parts(&address) {
            let found = answers.next_if(|line| line.split('\t').next() == Some(&key)).and_then(|line| line.split_once('\t'));
            decided = decided.or(found.map(|(_, action)| action));
        }
        let theirs = decided.and_then(|action| action.strip_prefix("REJECT "));
        let verdict = gate.check_connect(&Facts::of_client(address.into()));
        let ours = verdict.rejection.map(|_| verdict.reason.as_str());
        assert_eq!(ours, theirs, "{address} in\n{table}");
        refused += usize::from(ours.is_some());
    }
    assert!(refused > QUESTIONS / 10, "{refused}");
}
