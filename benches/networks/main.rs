//! `cargo bench --bench networks`: the network table beside other tables, on the same lists and addresses, in one run. `MXGATE_BENCH=quick`
//! for a short one.
//!
//! Before anything is timed, every contender has to give the same answers. "Any" addresses are spread over all of IPv4,
//! or over the /32 of IPv6 that have networks at all; of "half" every second one lies inside a network of the list; of "inside" all.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "a benchmark"
)]

use contenders::{CRATES, Contender, DIR_24_8, FLOOR, Family, OURS, TOGETHER};
use measure::{Counting, median, quick};
use proptest::test_runner::TestRng;
use sets::{Mix, Set};

mod contenders;
#[path = "../support/measure.rs"]
mod measure;
mod postfix;
#[path = "../support/sets.rs"]
mod sets;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ADDRESSES: usize = 1 << 20;

struct Row {
    name: &'static str,
    /// Medians in nanoseconds: throughput for each mix, then latency.
    times: [f64; 6],
    bytes: f64,
    build: f64,
}

const COLUMNS: &str = "throughput: any | half | inside | latency: any | half | inside";

fn measured<A: Family>(set: &Set<A>, random: &mut TestRng) -> Vec<Row> {
    let contenders = contenders::all(set);
    let mixes = [Mix::Any, Mix::Half, Mix::Inside].map(|mix| set.addresses(ADDRESSES, mix, random));
    agree(&contenders, &mixes);
    let mut times = vec![[(); 6].map(|()| Vec::new()); contenders.len()];
    for _ in 0..if quick() { 3 } else { 5 } {
        for (mix, addresses) in mixes.iter().enumerate() {
            for (contender, times) in contenders.iter().zip(&mut times) {
                times[mix].push(contender.table.throughput(addresses));
            }
            for (contender, times) in contenders.iter().zip(&mut times) {
                times[3 + mix].push(contender.table.latency(addresses));
            }
        }
    }
    let bytes = |contender: &Contender<A>| contender.bytes as f64 / set.networks.len() as f64;
    let rows = contenders.iter().zip(times);
    rows.map(|(of, times)| Row { name: of.name, times: times.map(median), bytes: bytes(of), build: of.build }).collect()
}

fn agree<A: Family>(contenders: &[Contender<A>], addresses: &[Vec<A>]) {
    let (ours, others) = contenders.split_first().unwrap();
    for other in others.iter().filter(|other| other.name != FLOOR) {
        for address in addresses.iter().flatten() {
            let (given, want) = (other.table.answer(*address), ours.table.answer(*address));
            assert_eq!(given, want, "{} and {OURS} differ about {}", other.name, address.net(A::BITS as u8));
        }
    }
}

fn show<A: Family>(set: &Set<A>, rows: &[Row]) {
    println!("\n### IPv{}, {}: {} networks\n", if A::BITS == 32 { 4 } else { 6 }, set.name, set.networks.len());
    println!("| ns a look-up | {COLUMNS} | bytes a network | build, ms |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|");
    for Row { name, times, bytes, build } in rows {
        let times = times.map(|ns| if ns < 100.0 { format!("{ns:.1}") } else { format!("{ns:.0}") }).join(" | ");
        let build = if *name == FLOOR { "-".to_owned() } else { format!("{:.0}", build * 1e3) };
        println!("| {name} | {times} | {bytes:.1} | {build} |");
    }
    for base in [OURS, TOGETHER] {
        let Some(ours) = rows.iter().find(|row| row.name == base) else { continue };
        println!("\n| times as long as {base} | {COLUMNS} | bytes |\n|---|--:|--:|--:|--:|--:|--:|--:|");
        let compare = |with: &str, names: &[&str]| {
            let least = |value: &dyn Fn(&Row) -> f64| {
                let values = rows.iter().filter(|row| names.contains(&row.name)).map(|row| value(row) / value(ours));
                values.fold(f64::INFINITY, f64::min)
            };
            let times: [String; 6] = std::array::from_fn(|column| format!("{:.2}", least(&|row| row.times[column])));
            println!("| {with} | {} | {:.1} |", times.join(" | "), least(&|row| row.bytes));
        };
        compare("the best crate", &CRATES);
        if A::BITS == 32 {
            compare(DIR_24_8, &[DIR_24_8]);
        }
        compare("the floor", &[FLOOR]);
    }
}

fn family<A: Family>(made_up: &Set<A>, sizes: &[(&str, usize)], random: &mut TestRng) {
    let parts = sizes.iter().map(|(name, size)| made_up.part(name, *size));
    for set in parts.chain(if quick() { Vec::new() } else { sets::real(random) }) {
        show(&set, &measured(&set, random));
    }
}

fn main() {
    let mut random = sets::random(50);
    measure::machine();
    let million = [("1M", 1_000_000)];
    let sizes = [("1k", 1_000), ("100k", 100_000), ("1M", 1_000_000), ("4M", 4_000_000)];
    let (sizes, six) = if quick() { (&million[..], &million[..]) } else { (&sizes[..], &sizes[..3]) };
    let made_up = sets::v4("made up", sizes.last().unwrap().1, &mut random);
    family(&made_up, sizes, &mut random);
    postfix::compare(&made_up, &mut random);
    drop(made_up);
    family(&sets::v6("made up", 1_000_000, &mut random), six, &mut random);
}
