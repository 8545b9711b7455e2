//! `mxgate lint`: what it prints for a policy with one rule of each kind, and its exit status. `BLESS=1` writes the
//! expected output anew.

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

fn golden() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lint/policy.toml")).unwrap()
}

#[test]
fn golden_output() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lint/expected.txt");
    let output = mxgate(&golden(), &[]);
    assert_eq!((text(&output.stderr), output.status.code()), ("", Some(1)));
    let shown = text(&output.stdout);
    if std::env::var_os("BLESS").is_some() {
        fs::write(&file, shown).unwrap();
    }
    assert_eq!(shown, fs::read_to_string(&file).unwrap(), "BLESS=1 writes it anew");
}

#[test]
fn each_mail_server_alone_is_its_part_of_all() {
    let all = mxgate(&golden(), &["--mta", "all"]);
    let all = text(&all.stdout);
    for profile in Profile::ALL {
        let output = mxgate(&golden(), &["--mta", profile.name()]);
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
    gate.load_text(&golden(), "policy.toml").unwrap();
    let rules = lint(&gate.ruleset(), &[Profile::Postfix]);
    let named: Vec<(Decider, &str)> = rules.iter().map(|rule| (rule.decider, rule.name.as_str())).collect();
    let expected = [
        (Decider::Mode, ""),
        (Decider::Block, "local"),
        (Decider::Block, "botnets"),
        (Decider::Block, "slow"),
        (Decider::Domain, "parked"),
        (Decider::Domain, "nomx"),
    ];
    assert_eq!(named, expected);
    assert!(rules.iter().all(|rule| rule.cells.len() == 1));
    assert_eq!(rules.iter().map(|rule| rule.warnings()).collect::<Vec<_>>(), [0, 0, 0, 0, 1, 0]);
}
