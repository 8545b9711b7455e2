//! `cargo bench --bench load`: how long a list of a million lines takes from the file (in the page cache) to being in
//! force, beside Postfix's own cidr: table reading the same file. Prints medians and their ratio.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use mxgate::Gate;
use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const LINES: u32 = 1_000_000;
const ROUNDS: usize = 5;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn time(mut work: impl FnMut()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn main() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    // Spread over the address space, one in four a /24, each line with a reason: the second field of a cidr: table.
    let list = (0..LINES).fold(String::new(), |mut list, n| {
        let spread = n.wrapping_mul(2_654_435_761) | 0x0100_0000;
        let (bits, length) = if n.is_multiple_of(4) { (spread & !0xff, 24) } else { (spread, 32) };
        writeln!(list, "{}/{length} entry", Ipv4Addr::from_bits(bits)).unwrap();
        list
    });
    fs::write(path("list.txt"), list).unwrap();
    fs::write(path("main.cf"), "compatibility_level = 3.6\n").unwrap();
    fs::write(path("mxgate.toml"), "hostname = \"mx.example.org\"\n[[list]]\nname = \"all\"\nfile = \"list.txt\"\n").unwrap();

    let ours = || {
        let gate = Gate::new();
        gate.load_file(&path("mxgate.toml")).unwrap();
        assert_eq!(gate.ruleset().network_count(), LINES as usize);
    };
    let postmap = ["/usr/sbin/postmap", "/usr/bin/postmap"].into_iter().find(|path| Path::new(path).exists());
    let theirs = |postmap: &str| {
        let table = format!("cidr:{}", path("list.txt").display());
        Command::new(postmap).arg("-c").arg(directory.path()).args(["-q", "192.0.2.1", &table]).output().unwrap();
    };
    let (mut our_times, mut their_times) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        our_times.push(time(ours));
        their_times.extend(postmap.map(|postmap| time(|| theirs(postmap))));
    }
    let our_time = median(our_times);
    println!("mxgate, a million lines to in force: {} ms", our_time.as_millis());
    if postmap.is_some() {
        let their_time = median(their_times);
        let ratio = their_time.as_secs_f64() / our_time.as_secs_f64();
        println!("Postfix cidr: table, the same file:  {} ms ({ratio:.1} times as long)", their_time.as_millis());
    } else {
        println!("skipped: postmap is not installed, nothing to compare with");
    }
}
