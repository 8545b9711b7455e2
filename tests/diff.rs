//! What a diff says is what changed: in texts, and for random lists the old entries with the diff applied are the new ones.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what goes wrong here ends the test, with a message")]

use memory::Memory;
use mxgate::diff::{What, diff};
use mxgate::{Gate, Ruleset};
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::sync::Arc;

#[path = "support/memory.rs"]
mod memory;

const HEAD: &str = "hostname = \"mx.example.org\"\n";

fn load(gate: &Gate, policy: &str, files: &Memory) -> Arc<Ruleset> {
    gate.load(&format!("{HEAD}{policy}"), &"p".into(), files).unwrap_or_else(|error| panic!("{error}"));
    gate.ruleset()
}

fn ruleset(policy: &str) -> Arc<Ruleset> {
    load(&Gate::new(), policy, &Memory::new())
}

fn list(name: &str, keys: &str) -> String {
    format!("[[list]]\nname = \"{name}\"\n{keys}\n")
}

#[test]
fn the_same_is_the_same_whatever_its_order_and_words() {
    let one = ruleset(&list("a", "entries = [\"192.0.2.0/24 why\", \"2001:db8::/32\", \"192.0.2.7\", \"!192.0.2.7\"]"));
    let other = ruleset(&list("a", "entries = [\"!192.0.2.7\", \"2001:db8::/32 x\", \"192.0.2.7\", \"192.0.2.0/24\", \"192.0.2.7\"]"));
    for (old, new) in [(&one, &one), (&one, &other)] {
        assert!(diff(old, new).is_same());
    }
    assert_eq!(diff(&one, &other).to_string(), "");
}

#[test]
fn what_changes_is_said_list_by_list() {
    let domains = "[[domains]]\nname = \"parked\"\nentries = ";
    let old = ruleset(
        &[
            "never_block.networks = [\"198.51.100.0/24\"]\n",
            &list("partners", "allow = true\nentries = [\"192.0.2.7\", \"192.0.2.8/29\", \"203.0.113.9\"]"),
            &list("gone", "entries = [\"192.0.2.0/31\"]"),
            &list("feed", "entries = [\"192.0.2.1\", \"192.0.2.2\", \"203.0.113.9\"]"),
            &list("keys", "entries = [\"192.0.2.1\"]"),
            domains,
            "[\"a.example\", \".b.example\"]\n",
        ]
        .concat(),
    );
    let new = ruleset(
        &[
            "mode = \"draining\"\nnever_block.networks = [\"198.51.100.0/24\"]\nlimits.concurrent = 20\n",
            &list("partners", "allow = true\nentries = [\"192.0.2.7\", \"192.0.2.8/29\", \"203.0.113.9\"]"),
            &list("keys", "entries = [\"192.0.2.1\"]\nreply = \"drop\"\nenforce = false\nexempt = []\nat = \"rcpt\""),
            &list("feed", "entries = [\"!192.0.2.1\", \"192.0.2.2\", \"203.0.113.9\", \"192.0.2.0/24\", \"198.51.0.0/16\"]"),
            &list("fresh", "entries = [\"2001:db8::/32\"]\n"),
            domains,
            "[\"a.example\", \"*.b.example\", \"b.example\"]\n",
        ]
        .concat(),
    );
    let diff = diff(&old, &new);
    let lines = "mode changed\n\
        limits changed\n\
        order of lists changed\n\
        list keys: reply, at, enforce, exempt changed\n\
        list feed: +3 -1 (5 entries)\n\
        list fresh: added (1 entry)\n\
        list parked: +2 -1 (3 entries)\n\
        list gone: removed (1 entry)\n\
        3 allow entries are now covered: 198.51.100.0/24 of never-block by 198.51.0.0/16 of feed, 192.0.2.7 of partners by 192.0.2.0/24 of feed, \
        192.0.2.8/29 of partners by 192.0.2.0/24 of feed\n";
    assert_eq!(diff.to_string(), lines);
    let whole = format!("{diff:#}");
    assert!(whole.contains("(5 entries)\n  -192.0.2.1\n  +192.0.2.0/24\n  +!192.0.2.1\n  +198.51.0.0/16\nlist fresh"), "{whole}");
    assert!(
        whole.contains("(3 entries)\n  -.b.example\n  +b.example\n  +*.b.example\nlist gone: removed (1 entry)\n  -192.0.2.0/31\n"),
        "{whole}"
    );
    let value = diff.to_json();
    assert_eq!(
        value["lists"][1],
        json!({
            "name": "feed", "what": "changed", "entries": 5, "settings": [],
            "added": ["192.0.2.0/24", "!192.0.2.1", "198.51.0.0/16"], "removed": ["192.0.2.1"],
        })
    );
    assert_eq!(
        (&value["same"], &value["covered"]["count"], &value["settings"]),
        (&json!(false), &json!(3), &json!(["mode", "limits", "order of lists"]))
    );
}

/// The sections that are no lists, and what is said when they come, change and go.
#[test]
fn relaying_and_authentication_are_said_key_by_key() {
    let relay = "[relay]\nlocal = [\"a.example\", \".b.example\"]\ntrusted = [\"192.0.2.0/24\"]\n";
    let other = "[relay]\nlocal = [\"a.example\"]\nrelay = [\"c.example\"]\ntrusted = [\"192.0.2.0/25\"]\nrouting = true\n\
        reply = \"550 5.7.1 Not here\"\n";
    let checks = "[authentication]\nspf_fail = \"reject\"\nrdns_temperror = \"defer\"\n";
    let watched = "[authentication]\nspf_fail = \"550 5.7.23 No\"\ndkim_fail = \"reject\"\nenforce = false\nexempt = []\nseveral_fail = \"550 5.7.26 No\"\n";
    for (old, new, lines) in [
        (relay, relay, ""),
        (checks, checks, ""),
        (checks, "[authentication]\nspf_fail = \"550 5.7.23 SPF validation failed\"\nrdns_temperror = \"defer\"\n", ""),
        ("", "[relay]\n[authentication]\nspf_fail = \"ignore\"\nenforce = false\n", ""),
        ("", relay, "relay: added\nrelay local: +2 -0 (2 entries)\nrelay trusted: +1 -0 (1 entry)\n"),
        (relay, "", "relay: removed\nrelay local: +0 -2 (0 entries)\nrelay trusted: +0 -1 (0 entries)\n"),
        ("", "[relay]\ntrusted = [\"192.0.2.0/24\"]\n", "relay trusted: +1 -0 (1 entry)\n"),
        (
            relay,
            other,
            "relay: routing, reply changed\nrelay local: +0 -1 (1 entry)\nrelay relay: +1 -0 (1 entry)\nrelay trusted: +1 -1 (1 entry)\n",
        ),
        ("", checks, "authentication: added (spf_fail, rdns_temperror)\n"),
        (checks, "", "authentication: removed (spf_fail, rdns_temperror)\n"),
        (checks, watched, "authentication: spf_fail, rdns_temperror, dkim_fail, several_fail, enforce, exempt changed\n"),
    ] {
        let diff = diff(&ruleset(old), &ruleset(new));
        assert_eq!(diff.to_string(), lines, "{old}{new}");
        assert_eq!(diff.is_same(), lines.is_empty());
        let logged: Vec<String> = diff.sections.iter().flat_map(mxgate::diff::Section::lines).collect();
        assert_eq!(logged, lines.lines().collect::<Vec<_>>());
    }
    let diff = diff(&ruleset(relay), &ruleset(other));
    let lists = "relay local: +0 -1 (1 entry)\n  -.b.example\nrelay relay: +1 -0 (1 entry)\n  +c.example\nrelay trusted: +1 -1 (1 entry)\n  \
        -192.0.2.0/24\n  +192.0.2.0/25\n";
    assert!(format!("{diff:#}").ends_with(lists), "{diff:#}");
    let list = |name, entries, added: &[&str], removed: &[&str]| json!({ "name": name, "what": "changed", "entries": entries, "settings": [], "added": added, "removed": removed });
    assert_eq!(
        diff.to_json()["sections"],
        json!([{
            "name": "relay",
            "what": "changed",
            "settings": ["routing", "reply"],
            "lists": [
                list("local", 1, &[], &[".b.example"]),
                list("relay", 1, &["c.example"], &[]),
                list("trusted", 1, &["192.0.2.0/25"], &["192.0.2.0/24"]),
            ],
        }])
    );
}

/// Who opts out of which lists is said of the recipients, and of nobody else.
#[test]
fn opting_out_is_a_key_of_the_recipients() {
    let recipients = |name: &str, keys: &str| format!("[[recipients]]\nname = \"{name}\"\n{keys}\n");
    let lists = list("a", "entries = [\"192.0.2.1\"]") + &list("b", "entries = [\"192.0.2.1\"]");
    let sales = |keys: &str| recipients("sales", &format!("entries = [\"sales@example.org\"]\n{keys}"));
    for (old, new, lines) in [
        (sales("opt_out = [\"a\"]"), sales("opt_out = [\"a\"]"), ""),
        (sales("opt_out = [\"a\"]"), sales("opt_out = [\"a\", \"b\"]"), "list sales: opt_out changed\n"),
        (String::new(), sales("opt_out = [\"a\"]"), "list sales: added (1 entry)\n"),
        (
            sales("opt_out = [\"a\"]"),
            recipients("first", "entries = [\"x@example.org\"]\nopt_out = [\"b\"]") + &sales("opt_out = [\"a\"]"),
            "list first: added (1 entry)\n",
        ),
        (sales("opt_out = [\"a\"]"), sales("opt_out = [\"a\"]\nkind = \"internal-only\""), "list sales: reply, exempt changed\n"),
        (
            sales("opt_out = [\"a\"]"),
            recipients("sales", "entries = [\"shop@example.org\"]\nopt_out = [\"a\"]"),
            "list sales: +1 -1 (1 entry)\n",
        ),
    ] {
        let (old, new) = (ruleset(&format!("{lists}{old}")), ruleset(&format!("{lists}{new}")));
        assert_eq!(diff(&old, &new).to_string(), lines);
    }
}

#[test]
fn a_list_that_could_not_be_loaded_is_kept() {
    let (gate, files) = (Gate::new(), Memory::new());
    let policy = list("feed", "file = \"feed\"") + &list("other", "file = \"other\"");
    files.put("feed", "192.0.2.1\n");
    files.put("other", "192.0.2.1\n");
    let old = load(&gate, &policy, &files);
    files.put("feed", "nonsense\n");
    let kept = load(&gate, &policy, &files);
    let change = diff(&old, &kept);
    assert!(change.is_same());
    assert_eq!(change.to_string(), "list feed: kept as it was (1 entry)\n");
    assert_eq!(change.changes[0].what, What::Kept);
    files.put("other", "192.0.2.2\n");
    let changed = load(&gate, &policy, &files);
    assert_eq!(diff(&kept, &changed).to_string(), "list feed: kept as it was (1 entry)\nlist other: +1 -1 (1 entry)\n");
}

#[test]
fn the_command_says_what_changes() {
    let directory = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_mxgate")).arg("diff").args(arguments).current_dir(directory.path()).output().unwrap();
        (String::from_utf8(output.stdout).unwrap(), output.status.code())
    };
    fs::write(directory.path().join("old"), format!("{HEAD}{}", list("feed", "entries = [\"192.0.2.1\"]"))).unwrap();
    fs::write(directory.path().join("new"), format!("{HEAD}{}", list("feed", "entries = [\"192.0.2.2\"]"))).unwrap();
    fs::write(directory.path().join("bad"), "hostname = 1\n").unwrap();
    assert_eq!(run(&["old", "old"]), (String::new(), Some(0)));
    assert_eq!(run(&["old", "new"]), ("list feed: +1 -1 (1 entry)\n".into(), Some(1)));
    assert_eq!(run(&["--entries", "old", "new"]), ("list feed: +1 -1 (1 entry)\n  -192.0.2.1\n  +192.0.2.2\n".into(), Some(1)));
    let (shown, status) = run(&["old", "new", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&value["lists"][0]["added"], status), (&json!(["192.0.2.2"]), Some(1)));
    assert_eq!(run(&["old", "bad"]), (String::new(), Some(2)));
    assert_eq!(run(&["old", "none"]), (String::new(), Some(2)));
}

/// An entry in a corner of either family, as a list is shown.
fn entry() -> impl Strategy<Value = String> {
    (0u8..16, 28u8..=32, any::<bool>(), prop::bool::weighted(0.2)).prop_map(|(octet, length, v4, hole)| {
        let start = octet & u8::MAX.checked_shl(u32::from(32 - length)).unwrap_or(0);
        let (address, length, host) = if v4 {
            (Ipv4Addr::new(192, 0, 2, start).to_string(), length, length == 32)
        } else {
            (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, start.into()).to_string(), length + 96, length == 32)
        };
        let mark = if hole { "!" } else { "" };
        if host { format!("{mark}{address}") } else { format!("{mark}{address}/{length}") }
    })
}

fn entries(lists: &[Vec<String>]) -> Arc<Ruleset> {
    let policy: Vec<String> = lists
        .iter()
        .enumerate()
        .map(|(number, entries)| {
            list(&format!("l{number}"), &format!("{}entries = {entries:?}", if number == 0 { "allow = true\n" } else { "" }))
        })
        .collect();
    ruleset(&policy.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]
    #[test]
    fn the_old_entries_with_the_diff_are_the_new_ones(
        old in prop::collection::vec(prop::collection::vec(entry(), 0..12), 0..4),
        new in prop::collection::vec(prop::collection::vec(entry(), 0..12), 0..4),
    ) {
        let diff = diff(&entries(&old), &entries(&new));
        for number in 0..old.len().max(new.len()) {
            let mut now: BTreeSet<String> = old.get(number).into_iter().flatten().cloned().collect();
            let change = diff.changes.iter().find(|change| change.name == format!("l{number}"));
            if let Some(change) = change {
                for gone in change.removed() {
                    prop_assert!(now.remove(&gone), "{} was not there", gone);
                }
                for came in change.added() {
                    prop_assert!(now.insert(came.clone()), "{} was there", came);
                }
                prop_assert_eq!(change.entries, if change.what == What::Removed { change.removed_count() } else { now.len() });
            }
            prop_assert_eq!(now, new.get(number).into_iter().flatten().cloned().collect::<BTreeSet<_>>());
            let what = change.map(|change| change.what);
            prop_assert_eq!(what == Some(What::Added), number >= old.len());
            prop_assert_eq!(what == Some(What::Removed), number >= new.len());
        }
    }
}
