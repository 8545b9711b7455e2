//! The order of decision against a naive model: five million questions to random policies, both families.
//!
//! The model is the definition, word by word: the never-block set, then allow lists, then block lists in the order of the
//! policy; the first list that covers the address decides; inside a list the most specific entry, a hole covers nothing.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "what goes wrong here ends the test, with a message"
)]

use mxgate::{Decider, Facts, Gate};
use proptest::prelude::Rng as _;
use proptest::test_runner::TestRng;
use random::{address, mask, random};
use std::fmt::Write as _;

#[path = "support/random.rs"]
mod random;

const QUESTIONS: usize = 5_000_000;
const QUESTIONS_A_POLICY: usize = 20_000;

/// An entry: a prefix in a small corner of the address space of a family, so that many nest and collide.
#[derive(Clone, Copy)]
struct Entry {
    v6: bool,
    bits: u128,
    length: u8,
    hole: bool,
}

struct List {
    name: String,
    allow: bool,
    entries: Vec<Entry>,
}

/// An address of the corner: 203.0.112.0/20 or 2001:db8:0:0::/52 with bits at both ends.
fn corner(v6: bool, random: u64) -> u128 {
    if v6 {
        let high = 0x2001_0db8_u128 << 96 | u128::from(random as u16 & 0x0fff) << 64;
        high | u128::from((random >> 16) as u8 & 3) << 62 | u128::from((random >> 24) as u8 & 3)
    } else {
        (u128::from(0xcb00_7000_u32 | (random as u32 & 0x0fff))) << 96
    }
}

fn entry(random: &mut TestRng) -> Entry {
    let v6 = random.next_u32().is_multiple_of(2);
    let length = match (v6, random.next_u32() % 4) {
        (false, _) => 20 + (random.next_u32() % 13) as u8,
        (true, 0) => 128 - (random.next_u32() % 3) as u8,
        (true, _) => 52 + (random.next_u32() % 15) as u8,
    };
    let bits = corner(v6, random.next_u64()) & mask(length.into());
    Entry { v6, bits, length, hole: random.next_u32().is_multiple_of(5) }
}

fn lists(random: &mut TestRng) -> Vec<List> {
    (0..1 + random.next_u32() % 5)
        .map(|number| List {
            name: format!("l{number}"),
            allow: random.next_u32().is_multiple_of(3),
            entries: (0..random.next_u32() % 40).map(|_| entry(random)).collect(),
        })
        .collect()
}

fn policy(lists: &[List]) -> String {
    let mut text = "hostname = \"mx.example.org\"\n".to_owned();
    for List { name, allow, entries } in lists {
        writeln!(text, "[[list]]\nname = \"{name}\"\nallow = {allow}\nentries = [").unwrap();
        for entry in entries {
            writeln!(text, "\"{}{}/{}\",", if entry.hole { "!" } else { "" }, address(!entry.v6, entry.bits), entry.length).unwrap();
        }
        text.push_str("]\n");
    }
    text
}

/// The list that decides, and the entry.
fn model(lists: &[List], v6: bool, bits: u128) -> Option<(&List, &Entry)> {
    let in_order = lists.iter().filter(|list| list.allow).chain(lists.iter().filter(|list| !list.allow));
    in_order.into_iter().find_map(|list| {
        let covering = list.entries.iter().filter(|entry| entry.v6 == v6 && (entry.bits ^ bits) & mask(entry.length.into()) == 0);
        // Of two entries for one network a hole counts, else the first.
        let best = covering.reduce(|best, entry| {
            let better = entry.length > best.length || entry.length == best.length && entry.hole && !best.hole;
            if better { entry } else { best }
        })?;
        (!best.hole).then_some((list, best))
    })
}

#[test]
fn five_million_questions() {
    let halves: Vec<_> = (0..2)
        .map(|half| {
            let mut random = random(half);
            std::thread::spawn(move || {
                let mut decided = [0_usize; 3];
                for _ in 0..QUESTIONS / QUESTIONS_A_POLICY / 2 {
                    ask(&mut random, &mut decided);
                }
                decided
            })
        })
        .collect();
    for half in halves {
        // All three outcomes are frequent, or else the test would say little.
        let decided = half.join().unwrap();
        assert!(decided.iter().all(|count| *count > QUESTIONS / 20), "{decided:?}");
    }
}

fn ask(random: &mut TestRng, decided: &mut [usize; 3]) {
    let lists = lists(random);
    let text = policy(&lists);
    let gate = Gate::new();
    gate.load_text(&text, "p").unwrap();
    for _ in 0..QUESTIONS_A_POLICY {
        let v6 = random.next_u32().is_multiple_of(2);
        let bits = corner(v6, random.next_u64());
        let verdict = gate.check_connect(&Facts::of_client(address(!v6, bits)));
        let (list, entry) = (verdict.list, verdict.entry);
        match model(&lists, v6, bits) {
            None => {
                assert!(verdict.is_accept() && verdict.decider == Decider::Nothing, "{} {list} in\n{text}", address(!v6, bits));
                decided[0] += 1;
            }
            Some((model_list, model_entry)) => {
                let same_entry = matches!(entry, mxgate::Entry::Network(network)
                    if network.network() == address(!v6, model_entry.bits) && network.prefix_len() == model_entry.length);
                let right = list.as_str() == model_list.name && verdict.is_accept() == model_list.allow && same_entry;
                assert!(
                    right,
                    "{}: {list} {entry:?}, not {} {}/{} in\n{text}",
                    address(!v6, bits),
                    model_list.name,
                    address(!v6, model_entry.bits),
                    model_entry.length
                );
                decided[1 + usize::from(model_list.allow)] += 1;
            }
        }
    }
}
