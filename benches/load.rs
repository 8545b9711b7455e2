//! `cargo bench --bench load`: how long a list takes from a file in the page cache to being in force. Beside it what no
//! loader can do without, to read a file, parse its lines and sort what they say, and Postfix's own cidr: table; all in turn,
//! in one run and one thread. Prints medians and their ratios.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a benchmark")]

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use mxgate::Gate;
use mxgate::prefix::{leading_network, leading_network4};
use std::fmt::Write as _;
use std::fs;
use std::hint::black_box;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::time::{Duration, Instant};

const ROUNDS: usize = 7;

/// What is loaded: name, lines, what is on a line.
const LISTS: [(&str, u32, Lines); 4] = [
    ("1M networks", 1_000_000, Lines::V4),
    ("1M, a reason each", 1_000_000, Lines::WithReason),
    ("1M IPv6 networks", 1_000_000, Lines::V6),
    ("4M networks", 4_000_000, Lines::V4),
];

#[derive(Clone, Copy, PartialEq)]
enum Lines {
    V4,
    V6,
    WithReason,
    /// What a cidr: table has to have.
    WithAction,
}

/// Numbers that are the same in every run (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}

/// Networks from all over the address space in no order: of a hundred 78 are hosts, 12 are /24, the others /16 to /31. Of
/// IPv6 half are /64, the others /48 to /63.
fn list(lines: u32, kind: Lines) -> String {
    let mut numbers = Numbers(5);
    let mut list = String::new();
    for number in 0..lines {
        let random = numbers.next();
        if kind == Lines::V6 {
            let length = if random & 1 == 0 { 64 } else { 48 + (random >> 1 & 15) };
            let address = u128::from((0x2000 << 48 | numbers.next() >> 3) & u64::MAX << (64 - length)) << 64;
            writeln!(list, "{}/{length}", Ipv6Addr::from_bits(address)).unwrap();
            continue;
        }
        let length = match random % 100 {
            0..78 => 32,
            78..90 => 24,
            _ => 16 + u32::try_from(random >> 8 & 15).unwrap(),
        };
        let address = u32::try_from(random >> 32).unwrap() & u32::MAX << (32 - length);
        write!(list, "{}", Ipv4Addr::from_bits(address)).unwrap();
        if length < 32 {
            write!(list, "/{length}").unwrap();
        }
        match kind {
            Lines::V4 | Lines::V6 => list.push('\n'),
            Lines::WithReason => writeln!(list, " case {number}").unwrap(),
            Lines::WithAction => list.push_str(" REJECT\n"),
        }
    }
    list
}

/// What the lines of a file begin with, in order.
fn parse_and_sort<T: Ord>(file: &Path, parse: impl Fn(&[u8]) -> T) -> Vec<T> {
    let text = fs::read(file).unwrap();
    let mut networks = Vec::new();
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', &text) {
        networks.push(parse(text.get(start..end).unwrap()));
        start = end + 1;
    }
    networks.sort_unstable();
    networks
}

/// The network at the beginning of a line, as anybody would read it.
fn network<A: FromStr, N: FromStr>(line: &[u8], host: impl Fn(A) -> N) -> N {
    let line = str::from_utf8(line).unwrap();
    let word = line.split_once(' ').map_or(line, |(word, _)| word);
    let network = if word.contains('/') { word.parse().ok() } else { word.parse().ok().map(host) };
    network.unwrap()
}

/// How long a file takes that is read and sorted, and no more: with the parsers of the standard library and of ipnet, and with
/// that of mxgate.
fn alone(file: &Path, kind: Lines) -> [Duration; 2] {
    if kind == Lines::V6 {
        let key = |network: Ipv6Net| (network.addr().to_bits(), network.prefix_len());
        let quick = |line: &[u8]| {
            let (IpNet::V6(network), _) = leading_network(line).unwrap() else { panic!("not IPv6") };
            key(network)
        };
        let plain = |line: &[u8]| key(network(line, |address: Ipv6Addr| address.into()));
        [timed(|| parse_and_sort(file, plain)).1, timed(|| parse_and_sort(file, quick)).1]
    } else {
        let key = |network: Ipv4Net| (network.addr().to_bits(), network.prefix_len());
        let plain = |line: &[u8]| key(network(line, |address: Ipv4Addr| address.into()));
        let quick = |line: &[u8]| leading_network4(line).unwrap().0;
        [timed(|| parse_and_sort(file, plain)).1, timed(|| parse_and_sort(file, quick)).1]
    }
}

fn load(policy: &Path, lines: u32) -> Duration {
    let gate = Gate::new();
    let (_, time) = timed(|| gate.load_file(policy).unwrap());
    assert_eq!(gate.ruleset().network_count(), lines as usize);
    time
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = black_box(work());
    (result, start.elapsed())
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default().as_secs_f64() * 1e3
}

fn main() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    // A list of random networks has some of every kind: it must not be refused for that.
    let policy = "hostname = \"mx.example.org\"\n[guards]\nwidest_v4 = 16\n";
    let files: Vec<(PathBuf, PathBuf)> = LISTS
        .iter()
        .enumerate()
        .map(|(number, (_, lines, kind))| {
            let (text, config) = (path(&format!("{number}.txt")), path(&format!("{number}.toml")));
            fs::write(&text, list(*lines, *kind)).unwrap();
            fs::write(&config, format!("{policy}[[list]]\nname = \"all\"\nfile = \"{number}.txt\"\n")).unwrap();
            (text, config)
        })
        .collect();
    let mut times = LISTS.map(|_| [Vec::new(), Vec::new(), Vec::new()]);
    for _ in 0..ROUNDS {
        for (((_, lines, kind), (text, config)), times) in LISTS.iter().zip(&files).zip(&mut times) {
            let [plain, quick] = alone(text, *kind);
            times.iter_mut().zip([plain, quick, load(config, *lines)]).for_each(|(times, time)| times.push(time));
        }
    }
    println!("| list | read, parsed and sorted alone, ms | with mxgate's parser, ms | loaded by mxgate, ms | times | times |");
    println!("|---|--:|--:|--:|--:|--:|");
    for ((name, ..), times) in LISTS.iter().zip(times) {
        let [plain, quick, whole] = times.map(median);
        println!("| {name} | {plain:.0} | {quick:.0} | {whole:.0} | {:.2} | {:.2} |", whole / plain, whole / quick);
    }

    let Some(postmap) = ["/usr/sbin/postmap", "/usr/bin/postmap"].into_iter().find(|path| Path::new(path).exists()) else {
        println!("skipped: postmap is not installed, Postfix's cidr: table is not measured");
        return;
    };
    fs::write(path("main.cf"), "compatibility_level = 3.6\n").unwrap();
    fs::write(path("table"), list(1_000_000, Lines::WithAction)).unwrap();
    let table = format!("cidr:{}", path("table").display());
    let ask = || Command::new(postmap).arg("-c").arg(directory.path()).args(["-q", "192.0.2.1", &table]).output().unwrap();
    let times = (0..ROUNDS).map(|_| timed(ask).1).collect();
    println!("Postfix cidr: table, the 1M networks and one question: {:.0} ms", median(times));
}
