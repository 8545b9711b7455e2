//! How many instructions a look-up and a whole check cost, as callgrind counts them, against committed limits. Times move from
//! one run to the next, these hardly do, so that what makes a check dearer is seen before it lands.
//!
//! `make checks` runs this, for it needs an optimised build; `BLESS=1 make checks` writes new limits. What is counted is
//! a run of this program that asks many questions, without what a run that asks none takes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "what goes wrong here ends the test, with a message"
)]
#![allow(unsafe_code, reason = "calls of the C ABI")]

use mxgate::capi::{self, mxgate_facts, mxgate_gate, mxgate_verdict};
use mxgate::networks::NetworkTable;
use sets::{Mix, Set, random};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;

#[path = "../benches/support/sets.rs"]
mod sets;
mod support;

const LIMITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/instructions.tsv");
const HEAD: &str = "# Instructions that one call may take, a tenth above what it took when this was written: BLESS=1 make checks.\n";
const NETWORKS: usize = 20_000;
const DOMAINS: usize = 5_000;
const QUESTIONS: usize = 20_000;

/// Makes a table and asks it that many questions.
type Run = fn(usize);

const COUNTED: [(&str, Run); 6] = [
    ("look-up of an IPv4 address", |questions| {
        let set = sets::v4("", NETWORKS, &mut random(1));
        let table = NetworkTable::of(&set.ours());
        ask(&set.addresses(QUESTIONS, Mix::Half, &mut random(2)), questions, |address| table.v4(*address));
    }),
    ("look-up of an IPv6 address", |questions| {
        let set = sets::v6("", NETWORKS, &mut random(1));
        let table = NetworkTable::of(&set.ours());
        ask(&set.addresses(QUESTIONS, Mix::Half, &mut random(2)), questions, |address| table.v6(*address));
    }),
    ("mxgate_check_connect, accepted", |questions| connect(questions, true)),
    ("mxgate_check_connect, rejected", |questions| connect(questions, false)),
    ("mxgate_check_rcpt, accepted", |questions| rcpt(questions, "a")),
    ("mxgate_check_rcpt, of a domain that takes no mail", |questions| rcpt(questions, "")),
];

fn ask<A>(addresses: &[A], questions: usize, mut get: impl FnMut(&A) -> u32) {
    black_box(addresses.iter().cycle().take(questions).fold(0, |sum: u32, address| sum.wrapping_add(get(address))));
}

fn gate(policy: &str) -> *mut mxgate_gate {
    let gate = capi::mxgate_new();
    // SAFETY: a gate, and a text of that length.
    assert_eq!(unsafe { capi::mxgate_load_text(gate, policy.as_ptr().cast(), policy.len(), std::ptr::null_mut(), 0) }, 0);
    gate
}

/// All-zero, as C programs begin.
fn structures() -> (mxgate_facts, mxgate_verdict) {
    // SAFETY: plain numbers and pointers.
    let (mut facts, verdict): (mxgate_facts, mxgate_verdict) = unsafe { std::mem::zeroed() };
    facts.address_size = 4;
    facts.address[..4].copy_from_slice(&[198, 51, 100, 1]);
    (facts, verdict)
}

fn connect(questions: usize, accepted: bool) {
    let set: Set<u32> = sets::v4("", NETWORKS, &mut random(1));
    let mut policy = "hostname = \"mx.example.org\"\n".to_owned();
    for list in 0..10 {
        write!(policy, "[[list]]\nname = \"list{list}\"\nentries = [").unwrap();
        for (start, length) in set.networks.iter().skip(list).step_by(10) {
            write!(policy, "\"{}/{length} sent spam\",", std::net::Ipv4Addr::from_bits(*start)).unwrap();
        }
        policy.push_str("]\n");
    }
    let gate = gate(&policy);
    let (mut facts, mut verdict) = structures();
    let mut check = |address: &u32| {
        facts.address[..4].copy_from_slice(&address.to_be_bytes());
        // SAFETY: a gate and structures of this release.
        unsafe { capi::mxgate_check_connect(gate, &raw const facts, size_of::<mxgate_facts>(), &raw mut verdict) }.cast_unsigned()
    };
    let mut addresses = set.addresses(2 * QUESTIONS, Mix::Half, &mut random(2));
    addresses.retain(|address| (check(address) == 0) == accepted);
    ask(&addresses, questions, check);
}

fn rcpt(questions: usize, other: &str) {
    let name = |number: usize| format!("mail{number}.customer{}.example", number % 97);
    let mut policy = "hostname = \"mx.example.org\"\n[[domains]]\nname = \"parked\"\nkind = \"no-mail\"\nentries = [".to_owned();
    (0..DOMAINS).for_each(|number| write!(policy, "\"{}\",", name(number)).unwrap());
    let gate = gate(&(policy + "]\n"));
    let recipients: Vec<String> = (0..DOMAINS).map(|number| format!("<user@{other}{}>", name(number))).collect();
    let (mut facts, mut verdict) = structures();
    ask(&recipients, questions, |recipient| {
        (facts.recipient, facts.recipient_length) = (recipient.as_ptr().cast(), recipient.len());
        // SAFETY: a gate, structures of this release, a string of that length.
        let result = unsafe { capi::mxgate_check_rcpt(gate, &raw const facts, size_of::<mxgate_facts>(), &raw mut verdict) };
        assert_eq!(result == 0, other == "a");
        result.cast_unsigned()
    });
}

/// Runs this program under callgrind.
fn count(name: &str, questions: usize) -> f64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().unwrap())
        .env("MXGATE_COUNT", name)
        .env("MXGATE_QUESTIONS", questions.to_string())
        .env_remove("MXGATE_SEED")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    let collected = text.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    assert!(output.status.success(), "{text}");
    collected.unwrap_or_else(|| panic!("valgrind does not say what it has collected:\n{text}"))
}

fn main() {
    if let Ok(name) = std::env::var("MXGATE_COUNT") {
        let questions = std::env::var("MXGATE_QUESTIONS").unwrap().parse().unwrap();
        return COUNTED.iter().filter(|(counted, _)| *counted == name).for_each(|(_, run)| run(questions));
    }
    if cfg!(debug_assertions) {
        println!("not counted: this build is not optimised; make checks counts");
        return;
    }
    if !support::available(&["valgrind"]) {
        return;
    }
    let bless = std::env::var_os("BLESS").is_some();
    let text = std::fs::read_to_string(Path::new(LIMITS)).unwrap_or_default();
    let limits: BTreeMap<&str, f64> =
        text.lines().filter_map(|line| line.split_once('\t')).map(|(name, limit)| (name, limit.parse().unwrap())).collect();
    let (mut lines, mut over) = (HEAD.to_owned(), Vec::new());
    for (name, _) in COUNTED {
        let (some, none) = std::thread::scope(|scope| {
            let none = scope.spawn(|| count(name, 0));
            (count(name, QUESTIONS), none.join().unwrap())
        });
        let taken = (some - none) / QUESTIONS as f64;
        writeln!(lines, "{name}\t{}", (taken * 1.1).ceil()).unwrap();
        let limit = limits.get(name).copied().unwrap_or(0.0);
        println!("{name}: {taken:.1} instructions, limit {limit}");
        if taken > limit {
            over.push(name);
        }
    }
    if bless {
        std::fs::write(LIMITS, lines).unwrap();
    } else {
        assert!(over.is_empty(), "too many instructions: {}; make them fewer, or say why and run BLESS=1 make checks", over.join("; "));
    }
}
