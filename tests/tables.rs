//! The network table against a scan of the list, against two tables of other people, and against a bitmap of all of IPv4.
//!
//! The ordinary test run asks a million questions; `make checks` asks a hundred million, or as many as `MXGATE_QUESTIONS`
//! says, and goes through all of IPv4.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "what goes wrong here ends the test, with a message"
)]

use ip_network::IpNetwork;
use ip_network_table::IpNetworkTable;
use ipnet::IpNet;
use mxgate::networks::NetworkTable;
use prefix_trie::joint::JointPrefixMap;
use proptest::prelude::Rng as _;
use proptest::test_runner::TestRng;
use sets::{AT_ONCE, Address, Network, Set, below, feeds, random, within};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Instant;

#[path = "../benches/support/sets.rs"]
mod sets;

/// Parts of the work: each has questions of its own, and threads share them.
const JOBS: usize = 16;

/// Runs all jobs on all cores; the sum of what they return.
fn on_all_cores(jobs: usize, job: impl Fn(usize) -> u64 + Sync) -> u64 {
    let (next, sum) = (AtomicUsize::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().unwrap().get() {
            scope.spawn(|| {
                while let Some(number) = Some(next.fetch_add(1, Relaxed)).filter(|number| *number < jobs) {
                    sum.fetch_add(job(number), Relaxed);
                }
            });
        }
    });
    sum.into_inner()
}

/// The same networks in three tables, and as a list.
struct Tables<A> {
    /// First and last address, length.
    networks: Vec<(A, A, u8)>,
    ours: NetworkTable,
    trie: JointPrefixMap<IpNet, u32>,
    bitmap: IpNetworkTable<u32>,
}

impl<A: Address> Tables<A> {
    /// Of two entries for the same network the first one counts.
    fn new(networks: &[Network<A>]) -> Tables<A> {
        let numbered: Vec<(IpNet, u32)> = networks.iter().zip(1..).map(|((start, length), value)| (start.net(*length), value)).collect();
        let ours = NetworkTable::of(&numbered);
        let (mut trie, mut bitmap) = (JointPrefixMap::new(), IpNetworkTable::new());
        for (net, value) in numbered.iter().rev() {
            trie.insert(*net, *value);
            bitmap.insert(IpNetwork::new(net.network(), net.prefix_len()).unwrap(), *value);
        }
        let networks = networks.iter().map(|(start, length)| (*start, start.last(*length), *length)).collect();
        Tables { networks, ours, trie, bitmap }
    }

    /// About some addresses, each by itself and all at once.
    fn ask(&self, addresses: [A; AT_ONCE], scan: bool) {
        for (address, given) in addresses.into_iter().zip(A::ours_together(&self.ours, &addresses)) {
            assert_eq!(given, A::ours(&self.ours, address), "{}", address.net(A::BITS as u8));
            self.compare(address, given, scan);
        }
    }

    fn compare(&self, address: A, given: u32, scan: bool) {
        let net = address.net(A::BITS as u8);
        let trie = self.trie.get_lpm(&net).map_or(0, |(_, value)| *value);
        let bitmap = self.bitmap.longest_match(net.addr()).map_or(0, |(_, value)| *value);
        let scan = if scan { self.scan(address) } else { given };
        assert!(
            given == trie && given == bitmap && given == scan,
            "{}: mxgate {given}, prefix-trie {trie}, ip_network_table {bitmap}, scan {scan}; networks: {}",
            net.addr(),
            self.networks.iter().take(200).map(|(start, _, length)| format!("{} ", start.net(*length))).collect::<String>()
        );
    }

    /// The definition: the longest of the networks that cover the address, the first of those.
    fn scan(&self, address: A) -> u32 {
        let (mut value, mut longest) = (0, 0);
        for ((start, last, length), number) in self.networks.iter().zip(1..) {
            // One more, so that a length of 0 is longer than none.
            if *start <= address && address <= *last && length + 1 > longest {
                (value, longest) = (number, length + 1);
            }
        }
        value
    }

    /// An address where mistakes are likely: in a network, at its ends, beside it; or anywhere in the corner.
    fn address(&self, corner: Network<A>, random: &mut TestRng) -> A {
        let (first, last, length) = self.networks[below(self.networks.len(), random)];
        match random.next_u32() % 8 {
            0 => first,
            1 => last,
            2 => A::cut(first.bits().wrapping_sub(1)),
            3 => A::cut(last.bits().wrapping_add(1)),
            4 => within((A::cut(0), 0), random),
            5 => within(corner, random),
            _ => within((first, length), random),
        }
    }
}

/// Networks of a corner of the address space, with lengths from one to another. Many enclose each other, stand side by
/// side, are there twice, or lie at its ends.
fn nested<A: Address>(count: usize, corner: Network<A>, lengths: (u8, u8), random: &mut TestRng) -> Vec<Network<A>> {
    let mut networks: Vec<Network<A>> = Vec::with_capacity(count);
    while networks.len() < count {
        let length = lengths.0 + below(usize::from(lengths.1 - lengths.0) + 1, random) as u8;
        let host = |address: A| A::cut(address.bits() & A::host_bits(corner.1));
        let any = |random: &mut TestRng| host(within((A::cut(0), 0), random)).bits();
        let (old, old_length) = *networks.get(below(networks.len().max(1), random)).unwrap_or(&corner);
        let bits = match random.next_u32() % 8 {
            0 | 1 => any(random),
            // Few ones, few zeros: the ends of the corner.
            2 => any(random) & any(random) & any(random) & any(random),
            3 => any(random) | any(random) | any(random) | any(random),
            // Its neighbours, what it encloses, what encloses it, itself.
            4 => old.last(old_length).bits().wrapping_add(1),
            5 => old.bits().wrapping_sub(1),
            6 => within((old, old_length), random).bits(),
            _ => old.bits(),
        };
        let start = corner.0 | host(A::cut(bits));
        networks.push((start.network(length), length));
        if random.next_u32().is_multiple_of(64) {
            // All that enclose one address.
            networks.extend((lengths.0..=lengths.1).map(|length| (start.network(length), length)));
        }
    }
    networks.truncate(count);
    networks
}

type Corner<A> = (Network<A>, (u8, u8));

/// Everything; both ends; one /16; a /24 of hosts and pairs; some /8 as feeds have them.
const CORNERS_V4: [Corner<u32>; 6] = [
    ((0, 0), (0, 32)),
    ((0, 20), (0, 32)),
    ((0xffff_f000, 20), (0, 32)),
    ((0xcb00_0000, 16), (14, 32)),
    ((0xcb00_7100, 24), (31, 32)),
    ((0xc000_0000, 8), (8, 24)),
];

/// Everything; both ends; one /64 with hosts; a /126; around the middle of the address; sites; few long ones.
const CORNERS_V6: [Corner<u128>; 8] = [
    ((0, 0), (0, 128)),
    ((0, 110), (0, 128)),
    ((!0xfff, 116), (0, 128)),
    ((0x2001_0db8 << 96, 64), (62, 128)),
    ((0x2001_0db8 << 96, 120), (127, 128)),
    ((0x2001_0db8 << 96, 56), (60, 68)),
    ((0x2001_0db8 << 96, 32), (24, 64)),
    ((0x2001_0db8 << 96, 40), (96, 128)),
];

/// Random small tables, each asked some thousand times.
fn small<A: Address>(corners: &[Corner<A>], questions: u64, random: &mut TestRng) -> u64 {
    const QUESTIONS_A_TABLE: u64 = if cfg!(debug_assertions) { 2_000 } else { 20_000 };
    let mut asked = 0;
    while asked < questions {
        let (corner, lengths) = corners[below(corners.len(), random)];
        let count = 1 + match random.next_u32() % 8 {
            0..4 => below(40, random),
            4..7 => below(120, random),
            _ => below(500, random),
        };
        let tables = Tables::new(&nested(count, corner, lengths, random));
        tables.ask(std::array::from_fn(|at| A::cut(if at == 0 { u128::MAX } else { 0 })), true);
        for _ in 0..QUESTIONS_A_TABLE / AT_ONCE as u64 {
            tables.ask(std::array::from_fn(|_| tables.address(corner, random)), true);
        }
        asked += QUESTIONS_A_TABLE;
    }
    asked
}

/// A large table, without the scan.
fn large<A: Address>(set: &Set<A>, questions: u64) -> u64 {
    let tables = Tables::new(&set.networks);
    on_all_cores(JOBS, |job| {
        let mut random = random(100 + job as u8);
        for _ in 0..questions / JOBS as u64 / AT_ONCE as u64 {
            tables.ask(std::array::from_fn(|_| tables.address(set.space[0], &mut random)), false);
        }
        questions / JOBS as u64
    })
}

/// Made up ones, some so dense that a single /16 or /64 has thousands of networks, and real ones.
fn large_sets<A: Address>(made_up: Set<A>, corners: &[Corner<A>], random: &mut TestRng) -> Vec<Set<A>> {
    let count = made_up.networks.len() / 10;
    let mut sets = vec![made_up];
    for (corner, lengths) in corners {
        sets.push(Set { name: "dense".to_owned(), networks: nested(count, *corner, *lengths, random), space: vec![*corner] });
    }
    sets.extend(sets::real(random));
    sets
}

fn compare(questions: u64, size: usize) {
    let start = Instant::now();
    let part = questions * 3 / 4 / JOBS as u64;
    let mut asked = on_all_cores(JOBS, |job| {
        let mut random = random(100 + job as u8);
        small(&CORNERS_V4, part / 2, &mut random) + small(&CORNERS_V6, part / 2, &mut random)
    });
    println!("small tables: {asked} questions in {:.1} s", start.elapsed().as_secs_f64());
    let mut random = random(99);
    let corners = [((0xcb00_0000, 16), (17, 32)), ((0xc000_0000, 12), (20, 32)), ((0, 0), (1, 32))];
    let v4 = large_sets(sets::v4("made up", size, &mut random), &corners, &mut random);
    let site = 0x2001_0db8 << 96;
    let corners = [((site, 64), (65, 128)), ((site, 48), (49, 128)), ((0, 0), (1, 128))];
    let v6 = large_sets(sets::v6("made up", size, &mut random), &corners, &mut random);
    let part = questions.saturating_sub(asked) / (v4.len() + v6.len()) as u64 + JOBS as u64;
    asked += v4.iter().map(|set| large(set, part)).sum::<u64>();
    asked += v6.iter().map(|set| large(set, part)).sum::<u64>();
    println!("{asked} questions, 0 differences, {:.1} s", start.elapsed().as_secs_f64());
    assert!(asked >= questions);
}

#[test]
fn tables_answer_as_a_scan_and_two_other_tables_do() {
    compare(1_000_000, 20_000);
}

#[test]
#[ignore = "takes long without optimisation: make checks"]
fn large_tables_and_many_questions() {
    let questions = std::env::var("MXGATE_QUESTIONS").map_or(100_000_000, |number| number.parse().unwrap());
    compare(questions, 1_000_000);
}

/// A real feed where there is one.
#[test]
#[ignore = "takes long without optimisation: make checks"]
fn all_of_ipv4_against_a_bitmap() {
    let start = Instant::now();
    let mut random = random(98);
    let set = match feeds() {
        Some(directory) => sets::feed::<u32>("block list", &[directory.join("networks-v4.txt.gz")], &mut random),
        None => sets::v4("made up", 200_000, &mut random),
    };
    let mut bitmap = vec![0_u64; 1 << 26];
    for (start, length) in &set.networks {
        for address in *start..=start.last(*length) {
            bitmap[(address >> 6) as usize] |= 1 << (address & 63);
        }
    }
    let listed: u64 = bitmap.iter().map(|word| u64::from(word.count_ones())).sum();
    let table = NetworkTable::of(&set.ours());
    let found = on_all_cores(256, |job| {
        let mut found = 0;
        for (word, high) in bitmap[job << 18..(job + 1) << 18].iter().zip((job as u32) << 18..) {
            let given = (0..64).fold(0, |given, low| given | u64::from(table.v4(high << 6 | low) != 0) << low);
            assert_eq!(given, *word, "{:x?} to {:x?}", high << 6, high << 6 | 63);
            found += u64::from(given.count_ones());
        }
        found
    });
    assert_eq!(found, listed);
    println!(
        "{}: {} networks, {listed} of 2^32 addresses listed, 0 differences, {:.1} s",
        set.name,
        set.networks.len(),
        start.elapsed().as_secs_f64()
    );
}
