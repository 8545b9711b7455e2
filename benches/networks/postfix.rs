//! Postfix's own cidr: table beside ours, as the list grows. It goes through the list from the top for each address.

use crate::measure::{median, processor_time_of_children, throughput};
use crate::sets::{Mix, Set};
use mxgate::networks::NetworkTable;
use proptest::test_runner::TestRng;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};

const ROUNDS: usize = 3;

/// Looks up addresses with `postmap -q -`: how many were found, and the seconds of processor time it took, as ours
/// are counted.
fn postmap(program: &str, directory: &Path, addresses: &[u32]) -> (usize, f64) {
    let questions = addresses.iter().fold(String::new(), |mut text, address| {
        writeln!(text, "{}", Ipv4Addr::from_bits(*address)).unwrap();
        text
    });
    let start = processor_time_of_children();
    let mut child = Command::new(program)
        .arg("-c")
        .arg(directory)
        .args(["-q", "-"])
        .arg(format!("cidr:{}", directory.join("list").display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // From another thread, because it answers before it has read all of it.
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(questions.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    let seconds = processor_time_of_children() - start;
    writer.join().unwrap();
    (output.stdout.iter().filter(|byte| **byte == b'\n').count(), seconds)
}

pub(crate) fn compare(set: &Set<u32>, random: &mut TestRng) {
    let Some(program) = ["/usr/sbin/postmap", "/usr/bin/postmap"].into_iter().find(|path| Path::new(path).exists()) else {
        println!("\nskipped: postmap is not installed, no cidr: table to compare with");
        return;
    };
    println!(
        "\n### Postfix, a cidr: table\n\n| entries | cidr:, to load, ms | ns a look-up | mxgate, ns a look-up | times faster |\n|--:|--:|--:|--:|--:|"
    );
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("main.cf"), "compatibility_level = 3.6\n").unwrap();
    for (entries, questions) in [(1_000, 200_000), (10_000, 20_000), (100_000, 2_000)] {
        let part = set.part("", entries);
        // The first entry that covers an address counts there, and only whether there is one here.
        let list = part.networks.iter().fold(String::new(), |mut list, (start, length)| {
            writeln!(list, "{}/{length} listed", Ipv4Addr::from_bits(*start)).unwrap();
            list
        });
        fs::write(directory.path().join("list"), list).unwrap();
        let addresses = part.addresses(1 << 20, Mix::Half, random);
        let table = NetworkTable::of(&part.ours());
        let found = addresses[..questions].iter().filter(|address| table.v4(**address) != 0).count();
        let (mut load, mut all, mut ours) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            load.push(postmap(program, directory.path(), &addresses[..1]).1);
            let (count, seconds) = postmap(program, directory.path(), &addresses[..questions]);
            assert_eq!(count, found, "postmap finds what we find");
            all.push(seconds);
            ours.push(throughput(&addresses, |address| table.v4(address)));
        }
        let (load, ours) = (median(load), median(ours));
        let theirs = (median(all) - load) * 1e9 / (questions - 1) as f64;
        println!("| {entries} | {:.0} | {theirs:.0} | {ours:.1} | {:.0} |", load * 1e3, theirs / ours);
    }
}
