//! How much memory a load takes beside the rules in force, as the system counts it: never more than two rulesets and 64 MiB
//! for a million networks, the old ruleset and the new one among them.

#![allow(clippy::unwrap_used, reason = "what goes wrong here ends the test, with a message")]
#![allow(clippy::cast_possible_truncation, reason = "an address is 32 of the bits of a random number")]
#![allow(unsafe_code, reason = "a setting of the allocator")]

use mxgate::Gate;
use proptest::prelude::Rng as _;
use random::random;
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Instant;
use support::{say, skip};

#[path = "support/random.rs"]
mod random;
mod support;

const NETWORKS: u32 = 1_000_000;
/// Beside two rulesets, in KiB.
const BESIDE: u64 = 64 << 10;

/// A line of a list, made of a random number.
type Line = fn(u64) -> String;

/// What lists are of, and what else their section says.
const LISTS: [(&str, &str, Line); 3] = [
    ("IPv4 networks of all lengths", "", |random| {
        let length = 32 - (random >> 32 & 15);
        format!("{}/{length}", Ipv4Addr::from_bits(random as u32 & u32::MAX << (32 - length)))
    }),
    ("IPv4 addresses that expire", "ttl = \"4w\"", |random| Ipv4Addr::from_bits(random as u32 | 1 << 31).to_string()),
    ("IPv6 networks", "", |random| format!("{}/64", Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(random as u32) << 64))),
];

/// A line of /proc/self/status in KiB.
fn memory(key: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Counts the most from here on; false if the system cannot.
fn begin_to_measure() -> bool {
    fs::write("/proc/self/clear_refs", "5").is_ok()
}

fn write(directory: &Path, line: Line) {
    let (mut random, mut text) = (random(7), String::new());
    (0..NETWORKS).for_each(|_| writeln!(text, "{}", line(random.next_u64())).unwrap());
    fs::write(directory.join("list.txt"), text).unwrap();
}

#[test]
fn a_load_takes_no_more_than_two_rulesets_and_64_mib() {
    if !cfg!(target_env = "gnu") || !begin_to_measure() {
        skip("the most memory that was taken cannot be measured here");
        return;
    }
    // As the daemon has it: large arrays that are given back go back to the system.
    // SAFETY: it takes two numbers.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, 128 << 10) };
    let directory = tempfile::tempdir().unwrap();
    let policy = directory.path().join("mxgate.toml");
    for (name, setting, line) in LISTS {
        write(directory.path(), line);
        fs::write(&policy, format!("hostname = \"mx.example.org\"\n[[list]]\nname = \"many\"\nfile = \"list.txt\"\n{setting}\n")).unwrap();
        let gate = Gate::new();
        let (empty, start) = (memory("VmRSS"), Instant::now());
        gate.load_file(&policy).unwrap();
        let (took, ruleset) = (start.elapsed().as_secs_f64(), memory("VmRSS") - empty);
        assert!(begin_to_measure());
        gate.load_file(&policy).unwrap();
        let most = memory("VmHWM") - empty;
        let after = memory("VmRSS") - empty;
        say(&format!(
            "peak: {NETWORKS} {name}: {ruleset} KiB, at most {most} KiB while they are loaded again, {after} KiB then; {took:.1} s"
        ));
        assert!(most <= 2 * ruleset + BESIDE, "{name}: {most} KiB at most, one ruleset {ruleset} KiB");
        assert!(after <= ruleset + BESIDE / 8, "{name}: {after} KiB are left, one ruleset {ruleset} KiB");
    }
}
