//! The command as an administrator meets it: `mxgate check`, its exit status, and what the README shows.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "what goes wrong here ends the test, with a message"
)]

use mxgate::AuthResult;
use mxgate::Gate;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use support::corpus;

mod support;

fn mxgate(arguments: &[&str], directory: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mxgate")).args(arguments).current_dir(directory).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The indented blocks of the README, without their indentation.
fn readme_blocks() -> Vec<String> {
    let lines = include_str!("../README.md").lines();
    let mut blocks = vec![String::new()];
    for line in lines {
        match line.strip_prefix("    ") {
            Some(code) => blocks.last_mut().unwrap().push_str(&format!("{code}\n")),
            // An empty line inside a block belongs to it.
            None if line.is_empty() => blocks.last_mut().unwrap().push('\n'),
            None => blocks.push(String::new()),
        }
    }
    blocks.retain(|block| !block.trim().is_empty());
    blocks.iter().map(|block| block.trim_matches('\n').to_owned() + "\n").collect()
}

#[test]
fn what_the_readme_shows_is_what_happens() {
    let blocks = readme_blocks();
    let block = |start: &str| blocks.iter().find(|block| block.starts_with(start)).unwrap_or_else(|| panic!("no {start} in {blocks:#?}"));
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("mxgate.toml"), block("hostname = ")).unwrap();
    fs::write(directory.path().join("example.txt"), "# example\n\n192.0.2.0/24 sent spam\n").unwrap();
    let (command, shown) = block("$ mxgate check").split_once('\n').unwrap();
    let arguments: Vec<&str> = command.split_whitespace().skip(2).collect();
    let output = mxgate(&arguments, directory.path());
    assert_eq!((text(&output.stdout), text(&output.stderr), output.status.code()), (shown, "", Some(1)));
}

#[test]
fn check_answers_the_corpus() {
    for group in corpus::groups() {
        for case in &group.cases {
            let (Some(client), Ok(recipient)) = (case.client, std::str::from_utf8(case.recipient.as_deref().unwrap_or_default())) else {
                continue;
            };
            let client = client.to_string();
            let policy = group.policy.to_str().unwrap();
            let Ok(sender) = str::from_utf8(case.sender.as_deref().unwrap_or(b"<sender@example.com>")) else { continue };
            let mut arguments = vec!["check", "--config", policy, "--ip", &client, "--from", sender];
            let flags = corpus::CHECKS.map(|check| format!("--{check}"));
            for (flag, result) in flags.iter().zip(case.results).filter(|(_, result)| *result != AuthResult::Unknown) {
                arguments.extend([flag, result.name()]);
            }
            if case.recipient.is_some() {
                arguments.extend(["--rcpt", recipient]);
            }
            if case.authenticated {
                arguments.push("--authenticated");
            }
            let output = mxgate(&arguments, Path::new("."));
            let (status, reply) = match &case.answer.reply {
                Some(reply) => (1, format!("reply:    {reply}\n")),
                None => (0, "verdict:  accept\n".into()),
            };
            assert_eq!(output.status.code(), Some(status), "{}: {output:?}", case.place);
            assert!(text(&output.stdout).contains(&reply), "{}: {}", case.place, text(&output.stdout));
            assert_eq!(text(&output.stdout).contains("hang up"), case.answer.hang_up, "{}", case.place);
        }
    }
}

#[test]
fn errors_are_shown_and_the_status_is_2() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("bad.toml"), "hostname = 1\nmode = \"x\"\n").unwrap();
    let shown = "bad.toml:1:12: hostname is of type integer; write hostname = \"mx.example.org\"\n\
                 bad.toml:2:8: there is no mode \"x\"; write open, maintenance, draining, overloaded or no-mail\n";
    let output = mxgate(&["check", "--config", "bad.toml", "--ip", "192.0.2.1"], directory.path());
    assert_eq!((text(&output.stdout), text(&output.stderr), output.status.code()), ("", shown, Some(2)));
    for arguments in [
        &["check", "--config", "no-such-file", "--ip", "192.0.2.1"][..],
        &["check", "--config", "bad.toml", "--ip", "192.0.2.256"],
        &["check", "--config", "bad.toml"],
        &["no-such-command"],
        &[],
    ] {
        let output = mxgate(arguments, directory.path());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}: {output:?}");
    }
}

/// The reference policy loads without a word, and names every key that the parser knows: what the parser says of an unknown
/// key is the list of those.
#[test]
fn the_reference_policy_is_complete() {
    let reference = include_str!("../examples/mxgate.toml");
    let gate = Gate::new();
    assert_eq!(gate.load_text(reference, "mxgate.toml").map_err(|error| error.to_string()), Ok(vec![]));
    for section in [
        "",
        "[maintenance]",
        "[never_block]",
        "[guards]",
        "[limits]",
        "[escalation]",
        "[overload]",
        "[[list]]",
        "[[domains]]",
        "[[senders]]",
        "[[recipients]]",
        "[relay]",
        "[authentication]",
    ] {
        let error = gate.load_text(&format!("hostname = \"mx\"\n{section}\nunknown = 1\n"), "p").unwrap_err();
        let known = error.diagnostics.iter().find(|d| d.fault.cause.starts_with("\"unknown\"")).unwrap();
        let keys = known.fault.remedy.strip_prefix("use ").unwrap();
        for key in keys.split(", ") {
            let named = reference.lines().any(|line| {
                let line = line.trim_start_matches("# ");
                line.starts_with(key) && (key.starts_with('[') || line[key.len()..].starts_with(" = "))
            });
            assert!(named, "examples/mxgate.toml lacks {key} of {section}");
        }
    }
}
