//! `cargo bench --bench networks`: the network table beside other tables, on the same lists and addresses, in one run. `MXGATE_BENCH=quick`
//! for a short one.
//!
//! Before anything is timed, every contender has to give the same answers. "Any" addresses are spread over all of IPv4,
//! or over the /32 of IPv6 that have networks at all; of the "listed" ones half lie inside a network of the list.

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
use sets::Set;

mod contenders;
#[path = "../support/measure.rs"]
mod measure;
mod postfix;
#[path = "../support/sets.rs"]
mod sets;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ADDRESSES: usize = 1 << 20;

/// Medians in nanoseconds.
struct Row {
    name: &'static str,
    any: (f64, f64),
    listed: (f64, f64),
    bytes: f64,
    build: f64,
}

fn measured<A: Family>(set: &Set<A>, random: &mut TestRng) -> Vec<Row> {
    let contenders = contenders::all(set);
    let addresses = [false, true].map(|inside| set.addresses(ADDRESSES, inside, random));
    agree(&contenders, &addresses);
    let mut times = vec![[(); 4].map(|()| Vec::new()); contenders.len()];
    for _ in 0..if quick() { 3 } else { 7 } {
        for (mix, addresses) in addresses.iter().enumerate() {
            for (contender, times) in contenders.iter().zip(&mut times) {
                times[mix * 2].push(contender.table.throughput(addresses));
            }
            for (contender, times) in contenders.iter().zip(&mut times) {
                times[mix * 2 + 1].push(contender.table.latency(addresses));
            }
        }
    }
    let row = |(contender, times): (&Contender<A>, [Vec<f64>; 4])| {
        let [any, any_latency, listed, listed_latency] = times.map(median);
        let bytes = contender.bytes as f64 / set.networks.len() as f64;
        Row { name: contender.name, any: (any, any_latency), listed: (listed, listed_latency), bytes, build: contender.build }
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
    println!("| ns a look-up | any: throughput | latency | listed: throughput | latency | bytes a network | build, ms |");
    println!("|---|--:|--:|--:|--:|--:|--:|");
    for Row { name, any, listed, bytes, build } in rows {
        let (any, listed) = (format!("{:.1} | {:.0}", any.0, any.1), format!("{:.1} | {:.0}", listed.0, listed.1));
        let build = if *name == FLOOR { "-".to_owned() } else { format!("{:.0}", build * 1e3) };
        println!("| {name} | {any} | {listed} | {bytes:.1} | {build} |");
    }
    let row = |name: &str| rows.iter().find(|row| row.name == name);
    let (Some(ours), Some(floor)) = (row(OURS), row(FLOOR)) else { return };
    let best = |value: fn(&Row) -> f64| CRATES.iter().filter_map(|name| row(name)).map(value).fold(f64::INFINITY, f64::min);
    println!(
        "\nListed addresses: {:.1} times the throughput of the fastest crate, latency {:.1} times lower; {:.2} and {:.2} times the floor.",
        best(|row| row.listed.0) / ours.listed.0,
        best(|row| row.listed.1) / ours.listed.1,
        ours.listed.0 / floor.listed.0,
        ours.listed.1 / floor.listed.1,
    );
    if let Some(dir) = row(DIR_24_8) {
        println!(
            "Beside DIR-24-8: {:.2} times its time in throughput, {:.2} in latency; {:.0} times less memory.",
            ours.listed.0 / dir.listed.0,
            ours.listed.1 / dir.listed.1,
            dir.bytes / ours.bytes
        );
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
    if !quick() {
        postfix::compare(&made_up, &mut random);
    }
    drop(made_up);
    family(&sets::v6("made up", 1_000_000, &mut random), six, &mut random);
}
