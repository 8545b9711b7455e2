//! What is said about a verdict is what happened: in golden texts for all situations, and for random policies the winner is
//! the one that the gate names, and the answer without it that of a policy without that list.
//!
//! BLESS=1 writes the references anew.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what goes wrong here ends the test, with a message")]

use memory::{Memory, NOW};
use mxgate::overview::overview;
use mxgate::{AuthResult, Decider, Entry, Facts, Gate, Stage, Verdict};
use proptest::prelude::*;
use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

#[path = "support/memory.rs"]
mod memory;

const DAY: u64 = 86_400;

/// The policy of tests/explain with its lists, two days old.
fn situations() -> Gate {
    let (gate, files) = (Gate::new(), Memory::new());
    files.modified.set(NOW - 2 * DAY);
    files.put("old", "192.0.2.0/25 partners of last year\n");
    files.put("late", "203.0.113.64/26\n");
    files.put(
        "feed",
        "192.0.2.0/24 SBL1\n192.0.2.0/28 SBL2\n!192.0.2.5\n192.0.2.0/24 again\n198.51.100.0/24\n203.0.113.0/24 SBL3\n2001:db8::/32\n",
    );
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/explain/situations.toml")).unwrap();
    gate.load(&text, &"policy.toml".into(), &files).unwrap_or_else(|error| panic!("{error}"));
    gate
}

/// What is asked: why, address, recipient, authenticated, after how many seconds.
const QUESTIONS: [(&str, &str, Option<&str>, bool, u64); 19] = [
    ("nobody covers it", "192.88.99.1", None, false, 0),
    ("the never-block set", "198.51.100.25", None, false, 0),
    ("built in", "10.0.0.1", None, false, 0),
    ("an allow list over block lists", "192.0.2.200", None, false, 0),
    ("the most specific of several entries, behind an expired allow list and one that is watched", "192.0.2.7", None, false, 0),
    ("a hole", "192.0.2.5", None, false, 0),
    ("the only one", "2001:db8::1", Some("user@example.org"), false, 0),
    ("expired", "192.0.2.7", None, false, 5 * DAY),
    ("exempt", "192.0.2.7", None, true, 0),
    ("nobody is left", "203.0.113.7", Some("postmaster@example.org"), true, 0),
    ("a list for RCPT, at CONNECT", "203.0.113.70", None, false, 0),
    ("a list for RCPT, at RCPT", "203.0.113.70", Some("<user@example.org>"), false, 0),
    ("a domain behind an allow list", "192.0.2.200", Some("user@parked.example"), false, 0),
    ("a domain in two lists", "192.88.99.1", Some("user@www.web.example"), false, 0),
    ("a domain that is not asked about", "192.0.2.7", Some("user@parked.example"), false, 0),
    ("a list for CONNECT", "3fff:1::1", None, false, 0),
    ("a list for CONNECT that puts off", "3fff:2::1", None, false, 0),
    ("a list for CONNECT, behind another one", "203.0.113.200", None, false, 0),
    ("a list for CONNECT, and a client that would authenticate", "3fff:1::1", Some("<user@example.org>"), true, 0),
];

fn compare(name: &str, given: &str) {
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/explain").join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&reference, given).unwrap();
    }
    let expected = std::fs::read_to_string(&reference).unwrap_or_default();
    assert!(given == expected, "{name}: run BLESS=1 cargo test --test explain if this is right:\n{given}");
}

#[test]
fn explanations_are_as_written_down() {
    let gate = situations();
    let (mut text, mut json) = (String::new(), Vec::new());
    for (what, address, recipient, authenticated, later) in QUESTIONS {
        let address = address.parse().unwrap();
        let facts = Facts {
            sender: Some(b"<sender@example.com>"),
            recipient: recipient.map(str::as_bytes),
            authenticated,
            now: Some(NOW + later),
            ..Facts::of_client(address)
        };
        let stage = if recipient.is_some() { Stage::Rcpt } else { Stage::Connect };
        let explanation = gate.explain(&facts, stage);
        writeln!(text, "# {what}\n{explanation}").unwrap();
        json.push(explanation.to_json());
    }
    let mode = Gate::new();
    mode.load_text("hostname = \"mx.example.org\"\nmode = \"maintenance\"\n[[list]]\nname = \"a\"\nentries = [\"192.0.2.7\"]\n", "p")
        .unwrap();
    let facts = Facts { now: Some(NOW), ..Facts::of_client("192.0.2.7".parse().unwrap()) };
    write!(text, "# the mode\n{}", mode.explain(&facts, Stage::Connect)).unwrap();
    compare("situations.ref", &text);
    compare("situations.json", &format!("{:#}\n", Value::Array(json)));
}

/// What SPF came to nobody tells a milter.
#[test]
fn authentication_is_not_for_milters() {
    let gate = Gate::new();
    gate.load_text("hostname = \"mx.example.org\"\n[authentication]\nspf_fail = \"reject\"\n", "p").unwrap();
    let facts = Facts { recipient: Some(b"user@example.org"), spf: AuthResult::Fail, ..Facts::of_client("192.0.2.7".parse().unwrap()) };
    let explanation = gate.explain(&facts, Stage::Rcpt);
    let readers: Vec<&str> = explanation.wire.iter().map(|read| read.profile.name()).collect();
    assert_eq!(readers, ["postfix-policy", "exim", "opensmtpd", "abi"], "{explanation}");
    assert_eq!(explanation.wire[3].line.as_deref(), Some("550 5.7.23 SPF validation failed"));
}

#[test]
fn lists_are_as_written_down() {
    let gate = situations();
    let refused = |address: &str| !gate.check_connect(&Facts { now: Some(NOW), ..Facts::of_client(address.parse().unwrap()) }).is_accept();
    assert!(refused("192.0.2.7") && refused("192.0.2.8") && refused("192.0.2.5") && !refused("192.0.2.200"));
    // Nobody is asked.
    gate.explain(&Facts::of_client("192.0.2.7".parse().unwrap()), Stage::Connect);
    let overview = overview(&gate.ruleset(), UNIX_EPOCH + Duration::from_secs(NOW));
    compare("lists.ref", &overview.to_string());
    compare("lists.json", &format!("{:#}\n", overview.to_json()));
    let hits = |name| gate.ruleset().list(name).unwrap().hits();
    assert_eq!(["partners", "trial", "feed", "hard", "late"].map(hits), [1, 3, 2, 1, 0]);
    // A load does not forget them.
    gate.load_text("hostname = \"mx.example.org\"\n[[list]]\nname = \"feed\"\nentries = []\n", "p").unwrap();
    assert_eq!(gate.ruleset().list("feed").unwrap().hits(), 2);
}

#[test]
fn the_commands_explain_and_list() {
    let directory = tempfile::tempdir().unwrap();
    let policy = "hostname = \"mx.example.org\"\n[[list]]\nname = \"local\"\nentries = [\"192.0.2.0/24 sent spam\"]\n";
    std::fs::write(directory.path().join("p"), policy).unwrap();
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_mxgate")).args(arguments).current_dir(directory.path()).output().unwrap();
        (String::from_utf8(output.stdout).unwrap(), output.status.code())
    };
    let (shown, status) = run(&["explain", "--config", "p", "--ip", "192.0.2.7"]);
    assert!(shown.contains("decided:  block list local, entry 192.0.2.0/24 (p:4)\nwhy:      the only list that covers it\n"), "{shown}");
    assert_eq!(status, Some(1));
    let (shown, status) = run(&["explain", "--config", "p", "--ip", "192.0.2.7", "--rcpt", "postmaster@example.org", "--json"]);
    let value: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&value["lists"][0]["standing"], status), (&Value::from("passed-over"), Some(0)));
    assert_eq!(run(&["explain", "--config", "none", "--ip", "192.0.2.7"]).1, Some(2));
    let (shown, status) = run(&["lists", "--config", "p"]);
    assert!(shown.contains("local        block list       1        -    -        100%       -          -     p\n"), "{shown}");
    assert_eq!(status, Some(0));
    let value: Value = serde_json::from_str(&run(&["lists", "--config", "p", "--json"]).0).unwrap();
    assert_eq!((&value[2]["ipv4_addresses"], &value[2]["hits"]), (&Value::from("256"), &Value::Null));
    assert_eq!(run(&["lists", "--config", "none"]).1, Some(2));
}

/// How much of a list is its own, against a count address by address.
#[test]
fn unique_shares_are_exact() {
    let texts = [
        ("a", "192.0.2.0/28\n!192.0.2.3\n2001:db8::/126\n"),
        ("b", "192.0.2.8/29\n2001:db8::1\n"),
        ("c", "192.0.2.0/30\n203.0.113.0/32\n"),
    ];
    let (gate, files) = (Gate::new(), Memory::new());
    let mut policy = String::from("hostname = \"mx.example.org\"\n");
    for (name, text) in texts {
        files.put(name, text);
        writeln!(policy, "[[list]]\nname = \"{name}\"\nfile = \"{name}\"\nenforce = {}", name != "c").unwrap();
    }
    gate.load(&policy, &"p".into(), &files).unwrap();
    let rows = overview(&gate.ruleset(), UNIX_EPOCH + Duration::from_secs(NOW)).rows;
    let shares = |name: &str| {
        rows.iter().find(|row| row.name == name).map(|row| (row.v4_addresses, row.v4_unique, row.v6_addresses, row.v6_unique)).unwrap()
    };
    assert_eq!(shares("a"), (15, Some(7.0 / 15.0), 4, Some(0.75)));
    assert_eq!(shares("b"), (8, Some(0.0), 1, Some(0.0)));
    // What it would add: the hole of a, and an address of its own.
    assert_eq!(shares("c"), (5, Some(0.4), 0, None));
}

/// A list of a random policy.
#[derive(Clone, Debug)]
struct Shape {
    allow: bool,
    keys: Vec<&'static str>,
    /// Last octet and prefix length of each entry, and whether it is a hole.
    entries: Vec<(u8, u8, bool)>,
}

fn shape() -> impl Strategy<Value = Shape> {
    let one = |of: &'static [&'static str]| prop::sample::select(of);
    let keys = (
        one(&["", "ttl = \"1h\"", "ttl = \"3h\""]),
        one(&["", "", "enforce = false"]),
        one(&["", "exempt = []", "exempt = [\"postmaster\"]", "exempt = [\"authenticated\", \"abuse\"]"]),
        one(&["", "", "at = \"rcpt\""]),
        one(&["", "reply = { connect = \"421 4.7.0 Later\", rcpt = \"550 5.7.1 {reason} {domain}\" }"]),
    );
    let entries = prop::collection::vec((0u8..16, 28u8..=32, prop::bool::weighted(0.2)), 1..6);
    (prop::bool::weighted(0.2), keys, entries).prop_map(|(allow, (ttl, enforce, exempt, at, reply), entries)| {
        let keys = if allow { vec![ttl] } else { vec![ttl, enforce, exempt, at, reply] };
        Shape { allow, keys, entries }
    })
}

const NAMES: [&str; 7] = ["d.example", "*.d.example", ".d.example", "x.d.example", "*.x.d.example", ".example", "y.x.d.example"];

const RECIPIENTS: [&str; 6] = ["", "a@d.example", "postmaster@x.d.example", "abuse@z.y.x.d.example", "b@z.example", "c@org"];

/// A gate with all lists but one.
fn gate(lists: &[Shape], domains: &[Vec<usize>], never_block: Option<u8>, left_out: Option<&str>) -> Gate {
    let files = Memory::new();
    files.modified.set(NOW - 7200);
    let mut policy = String::from("hostname = \"mx.example.org\"\n");
    if let Some(octet) = never_block.filter(|_| left_out != Some("never-block")) {
        writeln!(policy, "never_block.networks = [\"192.0.2.{octet}\"]").unwrap();
    }
    let add = |policy: &mut String, kind: &str, name: &str, keys: &str, entries: Vec<String>| {
        files.put(name, entries.concat());
        if left_out != Some(name) {
            write!(policy, "[[{kind}]]\nname = \"{name}\"\nfile = \"{name}\"\n{keys}").unwrap();
        }
    };
    for (number, list) in lists.iter().enumerate() {
        let entry = |(octet, length, hole): &(u8, u8, bool)| {
            let mark = if *hole { "!" } else { "" };
            format!("{mark}192.0.2.{}/{length} reason\n", octet & u8::MAX.checked_shl(u32::from(32 - length)).unwrap_or(0))
        };
        let keys = format!(
            "{}\n{}",
            if list.allow { "allow = true" } else { "" },
            list.keys.iter().map(|key| format!("{key}\n")).collect::<String>()
        );
        add(&mut policy, "list", &format!("l{number}"), &keys, list.entries.iter().map(entry).collect());
    }
    for (number, names) in domains.iter().enumerate() {
        add(&mut policy, "domains", &format!("d{number}"), "", names.iter().map(|name| format!("{}\n", NAMES[*name])).collect());
    }
    let gate = Gate::new();
    gate.load(&policy, &"policy".into(), &files).unwrap_or_else(|error| panic!("{error}\n{policy}"));
    gate
}

/// All of a verdict.
fn shown(verdict: &Verdict) -> String {
    format!("{verdict:?}")
}

fn hits(gate: &Gate) -> Vec<u64> {
    overview(&gate.ruleset(), UNIX_EPOCH).rows.iter().map(|row| row.hits).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]
    #[test]
    fn the_winner_is_the_one_that_decides_and_without_it_the_next_one_does(
        lists in prop::collection::vec(shape(), 0..6),
        domains in prop::collection::vec(prop::collection::vec(0usize..7, 1..4), 0..3),
        never_block in prop::option::weighted(0.2, 0u8..16),
        questions in prop::collection::vec((0u8..16, prop::sample::select(RECIPIENTS.to_vec()), any::<bool>(), 0u64..7200), 8),
    ) {
        let whole = gate(&lists, &domains, never_block, None);
        for (octet, recipient, authenticated, later) in questions {
            let address = format!("192.0.2.{octet}").parse().unwrap();
            let facts = Facts { recipient: Some(recipient.as_bytes()), authenticated, now: Some(NOW + later), ..Facts::of_client(address) };
            for stage in [Stage::Connect, Stage::Rcpt] {
                let check = |gate: &Gate| if stage == Stage::Rcpt { gate.check_rcpt(&facts) } else { gate.check_connect(&facts) };
                let verdict = check(&whole);
                let before = hits(&whole);
                let explanation = whole.explain(&facts, stage);
                prop_assert_eq!(hits(&whole), before);
                prop_assert_eq!(shown(&explanation.verdict), shown(&verdict));
                let named = explanation.winner().map(|winner| {
                    let entry = &winner.entries[0];
                    (winner.name.clone(), entry.entry.clone(), entry.line, entry.reason.clone())
                });
                let decided = (verdict.entry != Entry::None)
                    .then(|| (verdict.list.to_string(), verdict.entry.to_string(), verdict.line, verdict.reason.to_string()));
                prop_assert_eq!(named, decided, "{}", explanation);
                if let Some(file) = explanation.winner().filter(|_| verdict.decider != Decider::NeverBlock).map(|winner| &winner.entries[0].file) {
                    let ruleset = whole.ruleset();
                    prop_assert_eq!(file, ruleset.list(&verdict.list).unwrap().file(&verdict));
                }
                let without = (verdict.decider != Decider::Nothing).then(|| shown(&check(&gate(&lists, &domains, never_block, Some(&verdict.list)))));
                prop_assert_eq!(explanation.without.as_ref().map(shown), without, "{}", explanation);
            }
        }
    }
}
