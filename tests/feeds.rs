//! Real feeds against an independent reader: Python's ipaddress module counts the entries and answers 200,000 questions.
//!
//! The feeds are not part of the package. `MXGATE_FEEDS` names a directory with `*.gz` lists of addresses and networks,
//! one a line; without it the test makes a feed of its own.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "what goes wrong here ends the test, with a message"
)]

use flate2::Compression;
use flate2::write::GzEncoder;
use mxgate::{Facts, Gate};
use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;

mod support;

/// Reads a feed, prints its count, then addresses, half of them inside of a network, each with the most specific network
/// that covers it, or "-".
const READER: &str = r##"
import gzip, ipaddress, random, sys
networks, order = {4: {}, 6: {}}, []
for line in gzip.open(sys.argv[1], "rt"):
    word = line.split("#")[0].split()
    if word:
        network = ipaddress.ip_network(word[0])
        order.append(network)
        networks[network.version][(network.prefixlen, int(network.network_address))] = network
print(len(order))
random.seed(int(sys.argv[2]))
lengths = {v: sorted({k[0] for k in networks[v]}, reverse=True) for v in networks}
for n in range(200000):
    network = random.choice(order)
    bits = network.max_prefixlen
    if n % 2:
        number = int(network.network_address) + random.getrandbits(bits - network.prefixlen) if bits > network.prefixlen else int(network.network_address)
    else:
        number = random.getrandbits(bits)
    address = ipaddress.ip_address(number.to_bytes(bits // 8, "big"))
    found = "-"
    for length in lengths[network.version]:
        covering = networks[network.version].get((length, number >> (bits - length) << (bits - length)))
        if covering is not None:
            found = covering
            break
    print(address, found)
"##;

/// A small feed for machines without real ones.
fn made_up(directory: &Path) -> PathBuf {
    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    for _ in 0..20_000 {
        let length = 12 + random.next_u32() % 21;
        let bits = random.next_u32() & u32::MAX.checked_shl(32 - length).unwrap_or(0);
        writeln!(encoder, "{}/{length}", Ipv4Addr::from_bits(bits)).unwrap();
        let bits = (0x2001_0db8_u128 << 96) | u128::from(random.next_u64() as u32 & 0xffff_ff00) << 64;
        writeln!(encoder, "{}/{}", Ipv6Addr::from_bits(bits), 56 + random.next_u32() % 72).unwrap();
    }
    let file = directory.join("made-up.txt.gz");
    fs::write(&file, encoder.finish().unwrap()).unwrap();
    file
}

#[test]
fn real_feeds_are_read_as_python_reads_them() {
    if !support::available(&["python3"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut feeds = vec![made_up(directory.path())];
    match std::env::var_os("MXGATE_FEEDS") {
        Some(given) => feeds.extend(
            fs::read_dir(given).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "gz")),
        ),
        None => println!("MXGATE_FEEDS is not set: a made-up feed only"),
    }
    for feed in feeds {
        let seed = std::env::var("MXGATE_SEED").unwrap_or_else(|_| "1".into());
        let output = Command::new("python3").args(["-c", READER]).arg(&feed).arg(&seed).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let answers = String::from_utf8(output.stdout).unwrap();
        let (count, answers) = answers.split_once('\n').unwrap();

        let gate = Gate::new();
        let policy = format!(
            "hostname = \"mx.example.org\"\nnever_block = {{ loopback = false, link_local = false, private = false }}\n\
             guards = {{ widest_v4 = 1, widest_v6 = 1 }}\n[[list]]\nname = \"feed\"\nfile = \"{}\"\n",
            feed.display()
        );
        gate.load_text(&policy, "policy").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(gate.ruleset().network_count().to_string(), count, "{}", feed.display());
        let mut inside = 0;
        for answer in answers.lines() {
            let (address, network) = answer.split_once(' ').unwrap();
            let verdict = gate.check_connect(&Facts::of_client(address.parse().unwrap()));
            let ours = if let mxgate::Entry::Network(network) = verdict.entry { network.to_string() } else { "-".into() };
            assert_eq!(ours, network, "{address} in {} (seed {seed})", feed.display());
            inside += usize::from(network != "-");
        }
        assert!(inside >= 100_000, "{inside}");
    }
}
