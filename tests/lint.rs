//! `mxgate lint`: what it prints for a policy with one rule of each kind and for all replies of `[authentication]`, and its
//! exit status. `BLESS=1` writes the expected output anew.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "what goes wrong here ends the test, with a message"
)]

use mxgate::lint::lint;
use mxgate::wire::Profile;
use mxgate::{Decider, Gate};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn mxgate(policy: &str, mta: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("mxgate.toml"), policy).unwrap();
    let program = Command::new(env!("CARGO_BIN_EXE_mxgate"))
        .args(["lint", "--config", "mxgate.toml"])
        .args(mta)
        .current_dir(directory.path())
        .output();
    program.unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn golden(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lint").join(name)).unwrap()
}

#[test]
fn golden_output() {
    for (policy, reference) in [("policy.toml", "expected.txt"), ("authentication.toml", "authentication.txt")] {
        let output = mxgate(&golden(policy), &[]);
        assert_eq!((text(&output.stderr), output.status.code()), ("", Some(1)));
        let shown = text(&output.stdout);
        if std::env::var_os("BLESS").is_some() {
            fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lint").join(reference), shown).unwrap();
        }
        assert_eq!(shown, golden(reference), "BLESS=1 writes it anew");
    }
}

#[test]
fn when_to_come_back_is_said_where_it_is_known() {
    let policy = |rest: &str| format!("hostname = \"mx.example.org\"\n{rest}");
    // A limit that does not hang up does so at the second time.
    let output = mxgate(&policy("[limits]\nconcurrent = 5\nreply = \"450 4.7.1 Come back {retry}\"\n"), &["--mta", "abi"]);
    let shown = text(&output.stdout);
    assert!(shown.starts_with("limits: 450 4.7.1 Come back in 95 seconds\n"), "{shown}");
    assert!(shown.contains("\nlimits, again too soon: 421 4.7.1 Come back in 95 seconds\n"), "{shown}");
    // A list knows nothing of it.
    let list = |reply: &str| policy(&format!("[[list]]\nname = \"slow\"\nreply = \"{reply}\"\nentries = [\"192.0.2.7\"]\n"));
    let output = mxgate(&list("450 4.7.1 Come back {retry}"), &["--mta", "abi"]);
    assert!(text(&output.stdout).starts_with("list slow: 450 4.7.1 Come back later\n"), "{output:?}");
    let warning =
        "mxgate.toml:4:9: warning: {retry} is known of limits and modes alone; here clients read \"later\"; write that, or when they";
    assert!(text(&output.stderr).starts_with(warning), "{output:?}");
    assert_eq!(text(&mxgate(&list("throttle"), &["--mta", "abi"]).stderr), "");
    // Who is refused for good is not to come back.
    let output = mxgate(&list("550 5.7.1 Come back {retry}"), &["--mta", "abi"]);
    let fault = "mxgate.toml:4:9: the reply is for good, and says with {retry} when to come back; leave that out, or write a code from 400 to 499\n";
    assert_eq!((text(&output.stderr), output.status.code()), (fault, Some(2)));
}

#[test]
fn what_is_about_files_alone_is_not_overlooked_beside_entries() {
    let policy = |list: &str| format!("hostname = \"mx.example.org\"\n[[list]]\nname = \"local\"\n{list}\n");
    let output = mxgate(&policy("entries = [\"192.0.2.7\"]\nttl = \"24h\"\n  threshold = 3\nformat = \"scored\""), &["--mta", "abi"]);
    let warnings: Vec<&str> = text(&output.stderr).lines().collect();
    let about = "is about files, and says nothing about entries that stand in the policy; leave it out, or put the entries into a file";
    let expected = [("5:7", "ttl"), ("6:15", "threshold"), ("7:10", "format")]
        .map(|(place, key)| format!("mxgate.toml:{place}: warning: {key} {about}"));
    assert_eq!(warnings, expected);
    assert!(text(&output.stdout).contains("list local: 550"), "the rules are in force all the same: {output:?}");
    assert_eq!(text(&mxgate(&policy("entries = [\"192.0.2.7\"]\nmin_entries = 1"), &["--mta", "abi"]).stderr), "");
}

#[test]
fn each_mail_server_alone_is_its_part_of_all() {
    for policy in ["policy.toml", "authentication.toml"] {
        each_alone(&golden(policy));
    }
}

fn each_alone(policy: &str) {
    let all = mxgate(policy, &["--mta", "all"]);
    let all = text(&all.stdout);
    for profile in Profile::ALL {
        let output = mxgate(policy, &["--mta", profile.name()]);
        let about = |line: &&str| line.trim_start().trim_start_matches("warning: ").starts_with(&format!("{profile} at "));
        let expected: Vec<&str> = all.lines().filter(|line| !line.starts_with(' ') || about(line)).collect();
        assert_eq!(text(&output.stdout).lines().collect::<Vec<_>>(), expected);
        let warnings = expected.iter().any(|line| line.starts_with("  warning: "));
        assert_eq!(output.status.code(), Some(i32::from(warnings)), "{profile}");
    }
}

#[test]
fn exit_status() {
    let hostname = "hostname = \"mx.example.org\"\n";
    let list = |reply: &str| format!("{hostname}[[list]]\nname = \"x\"\nentries = [\"192.0.2.1\"]\nreply = \"{reply}\"\n");
    for (policy, mta, status) in [
        (hostname.to_owned(), "all", 0),
        (list("policy"), "all", 0),
        (list("drop"), "postfix", 0),
        (list("drop"), "sendmail", 1),
        (list("polizy"), "postfix", 2),
        (hostname.to_owned(), "qmail", 2),
    ] {
        let output = mxgate(&policy, &["--mta", mta]);
        assert_eq!(output.status.code(), Some(status), "{policy} {mta}: {output:?}");
        assert_eq!(output.stderr.is_empty(), status != 2, "{output:?}");
    }
}

#[test]
fn the_library_names_every_rule_that_refuses() {
    let gate = Gate::new();
    gate.load_text(&golden("policy.toml"), "policy.toml").unwrap();
    let rules = lint(&gate.ruleset(), &[Profile::Postfix]);
    let named: Vec<(Decider, &str)> = rules.iter().map(|rule| (rule.decider, rule.name.as_str())).collect();
    let expected = [
        (Decider::Mode, ""),
        (Decider::Ban, "bans"),
        (Decider::Block, "local"),
        (Decider::Block, "botnets"),
        (Decider::Block, "slow"),
        (Decider::Block, "early"),
        (Decider::Limit, ""),
        (Decider::Relay, ""),
        (Decider::Domain, "parked"),
        (Decider::Domain, "nomx"),
        (Decider::Recipient, "staff"),
        (Decider::Sender, "bulk"),
    ];
    assert_eq!(named, expected);
    assert!(rules.iter().all(|rule| rule.cells.len() == if rule.name == "early" { 2 } else { 1 }));
    assert_eq!(rules.iter().map(|rule| rule.warnings()).collect::<Vec<_>>(), [0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0]);
}

/// Every reply of `[authentication]` is there, also where it is only watched, and that of several if several can refuse.
#[test]
fn the_library_names_every_reply_to_authentication() {
    let named = |policy: &str| {
        let gate = Gate::new();
        gate.load_text(policy, "policy.toml").unwrap();
        let rules = lint(&gate.ruleset(), &Profile::ALL);
        assert!(rules.iter().all(|rule| rule.decider == Decider::Authentication && rule.cells.len() == Profile::ALL.len()));
        rules.iter().map(|rule| rule.name.clone()).collect::<Vec<_>>().join(" ")
    };
    let all =
        "spf_fail spf_softfail spf_permerror spf_temperror dkim_fail dmarc_fail dmarc_temperror rdns_fail rdns_temperror several_fail";
    assert_eq!(named(&golden("authentication.toml")), all);
    let keys = |keys: &str| format!("hostname = \"mx.example.org\"\n[authentication]\n{keys}\n");
    assert_eq!(named(&keys("spf_fail = \"reject\"\nspf_permerror = \"reject\"")), "spf_fail spf_permerror");
    assert_eq!(named(&keys("spf_fail = \"reject\"\nrdns_temperror = \"defer\"")), "spf_fail rdns_temperror");
    assert_eq!(named(&keys("spf_fail = \"reject\"\nrdns_fail = \"reject\"")), "spf_fail rdns_fail several_fail");
    assert_eq!(named(&keys("several_fail = \"reject\"")), "");
}
