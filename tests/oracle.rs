//! The tables against Postfix's own matcher: `postmap -q - cidr:FILE` answers as we do.
//!
//! Compared where both have a meaning: one list without nesting, since a cidr: table goes by the first line that
//! matches and a list by the most specific one. (Nesting is compared with the definition in src/networks.rs.)

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "what goes wrong here ends the test, with a message"
)]

use mxgate::{Facts, Gate};
use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Command, Stdio};

mod support;

const PREFIXES: usize = 2_000;
const ADDRESSES: usize = 200_000;

/// A network as its first address and the length of its prefix; IPv4 in the upper 32 bits.
type Network = (bool, u128, u32);

fn mask(length: u32) -> u128 {
    u128::MAX.checked_shl(128 - length).unwrap_or(0)
}

fn address(v4: bool, bits: u128) -> IpAddr {
    if v4 { IpAddr::V4(Ipv4Addr::from_bits((bits >> 96) as u32)) } else { IpAddr::V6(Ipv6Addr::from_bits(bits)) }
}

fn random_bits(random: &mut TestRng) -> u128 {
    u128::from(random.next_u64()) << 64 | u128::from(random.next_u64())
}

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

#[test]
fn postfix_answers_the_same() {
    if !support::available(&["postmap", "postconf"]) {
        return;
    }
    let seed = std::env::var("MXGATE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| u64::from(std::process::id()));
    println!("to repeat: MXGATE_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);

    let networks = networks(&mut random);
    let addresses = addresses(&networks, &mut random);
    let (mut policy_list, mut table) = (String::new(), String::new());
    for (number, (v4, first, length)) in networks.iter().enumerate() {
        let first = address(*v4, *first);
        writeln!(policy_list, "{first}/{length} entry-{number}").unwrap();
        writeln!(table, "{first}/{length} entry-{number}").unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    write("list.txt", &policy_list);
    write("main.cf", "compatibility_level = 3.6\n");
    let table = write("table.cidr", &table);
    let policy = write(
        "mxgate.toml",
        "hostname = \"mx.example.org\"\nguards = { widest_v4 = 1, widest_v6 = 1 }\nnever_block = { loopback = false, link_local = false, private = false }\n[[list]]\nname = \"all\"\nfile = \"list.txt\"\nreply = \"550 5.7.1 x {reason}\"\n",
    );
    let gate = Gate::new();
    gate.load_file(&policy).unwrap();

    let mut postmap = Command::new(support::find("postmap").unwrap())
        .arg("-c")
        .arg(directory.path())
        .args(["-q", "-"])
        .arg(format!("cidr:{}", table.display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let questions: String = addresses.iter().map(|address| format!("{address}\n")).collect();
    let mut input = postmap.stdin.take().unwrap();
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut input, questions.as_bytes()).unwrap());
    let output = postmap.wait_with_output().unwrap();
    writer.join().unwrap();

    // postmap prints "address TAB value" for each that is found, in order.
    let ours: String = addresses
        .iter()
        .filter_map(|address| {
            let verdict = gate.check_connect(&Facts::of_client(*address));
            verdict.rejection.map(|_| format!("{address}\t{}\n", verdict.reason))
        })
        .collect();
    let theirs = String::from_utf8(output.stdout).unwrap();
    assert!(theirs.lines().count() > ADDRESSES / 3, "too few addresses are found: {}", theirs.lines().count());
    let difference = ours.lines().zip(theirs.lines()).find(|(ours, theirs)| ours != theirs);
    assert!(
        ours == theirs,
        "first difference (ours, Postfix): {difference:?}; {} and {} found",
        ours.lines().count(),
        theirs.lines().count()
    );
}
