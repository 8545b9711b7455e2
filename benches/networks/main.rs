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

use contenders::{CRATES, Contender, DIR_24_8, FLOOR, Family, OURS};
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

/// Medians in nanoseconds, for each mix.
struct Row {
    name: &'static str,
    throughput: [f64; 3],
    latency: [f64; 3],
    bytes: f64,
    build: f64,
}

fn measured<A: Family>(set: &Set<A>, random: &mut TestRng) -> Vec<Row> {
    let contenders = contenders::all(set);
    let mixes = [Mix::Any, Mix::Half, Mix::Inside].map(|mix| set.addresses(ADDRESSES, mix, random));
    agree(&contenders, &mixes);
    let mut times = vec![([(); 3].map(|()| Vec::new()), [(); 3].map(|()| Vec::new())); contenders.len()];
    for _ in 0..if quick() { 3 } else { 5 } {
        for (mix, addresses) in mixes.iter().enumerate() {
            for (contender, (throughput, _)) in contenders.iter().zip(&mut times) {
                throughput[mix].push(contender.table.throughput(addresses));
            }
            for (contender, (_, latency)) in contenders.iter().zip(&mut times) {
                latency[mix].push(contender.table.latency(addresses));
            }
        }
    }
    let row = |(contender, (throughput, latency)): (&Contender<A>, ([Vec<f64>; 3], [Vec<f64>; 3]))| {
        let bytes = contender.bytes as f64 / set.networks.len() as f64;
        Row { name: contender.name, throughput: throughput.map(median), latency: latency.map(median), bytes, build: contender.build }
    };
    contenders.iter().zip(times).map(row).collect()
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
    println!("| ns a look-up | throughput: any | half | inside | latency: any | half | inside | bytes a network | build, ms |");
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|");
    for Row { name, throughput, latency, bytes, build } in rows {
        let throughput = throughput.map(|ns| format!("{ns:.1}")).join(" | ");
        let latency = latency.map(|ns| format!("{ns:.0}")).join(" | ");
        let build = if *name == FLOOR { "-".to_owned() } else { format!("{:.0}", build * 1e3) };
        println!("| {name} | {throughput} | {latency} | {bytes:.1} | {build} |");
    }
    let row = |name: &str| rows.iter().find(|row| row.name == name);
    let (Some(ours), Some(floor)) = (row(OURS), row(FLOOR)) else { return };
    let crates: Vec<&Row> = CRATES.iter().filter_map(|name| row(name)).collect();
    let least = |value: &dyn Fn(&Row) -> f64| crates.iter().map(|row| value(row)).fold(f64::INFINITY, f64::min);
    println!("\n| {OURS} beside | throughput: any | half | inside | latency: any | half | inside |\n|---|--:|--:|--:|--:|--:|--:|");
    let compare = |with: &str, of: &dyn Fn(fn(&Row) -> &[f64; 3], usize) -> f64| {
        let cells = [(|row: &Row| &row.throughput) as fn(&Row) -> &[f64; 3], |row| &row.latency].map(|way| {
            let ratios: [String; 3] = std::array::from_fn(|mix| format!("{:.2}", of(way, mix)));
            ratios.join(" | ")
        });
        println!("| {with} | {} |", cells.join(" | "));
    };
    compare("the fastest crate: how many times faster", &|way, mix| least(&|row| way(row)[mix]) / way(ours)[mix]);
    if let Some(dir) = row(DIR_24_8) {
        compare("DIR-24-8: its time over ours", &|way, mix| way(dir)[mix] / way(ours)[mix]);
    }
    compare("the floor: our time over it", &|way, mix| way(ours)[mix] / way(floor)[mix]);
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
    if !quick() {
        postfix::compare(&made_up, &mut random);
    }
    drop(made_up);
    family(&sets::v6("made up", 1_000_000, &mut random), six, &mut random);
}
