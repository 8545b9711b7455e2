//! One corpus of questions and answers through every interface: the Rust API, the C ABI, the milter session and, where
//! Postfix is installed, the wire.

use mxgate::Gate;
use std::fmt::Write as _;
use std::process::{Command, Stdio};
use support::corpus::{self, Answer, Case, Group};

mod support;

fn load(group: &Group) -> Gate {
    let gate = Gate::new();
    let warnings = gate.load_file(&group.policy).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(warnings, []);
    gate
}

#[test]
fn the_rust_api() {
    for group in corpus::groups() {
        let gate = load(&group);
        let answers = group.cases.iter().map(|case| (case, Answer::of(&case.ask(&gate))));
        let wrong: Vec<_> = answers.filter(|(case, answer)| *answer != case.answer).map(|(case, answer)| (&case.place, answer)).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

#[test]
fn the_c_abi() {
    if !support::available(&["cc"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let program = support::library::compile("tests/c/ask.c", &[], directory.path());
    for group in corpus::groups() {
        let questions = group.cases.iter().fold(String::new(), |mut questions, case| {
            let stage = if case.recipient.is_some() { "rcpt" } else { "connect" };
            let client = case.client.map_or("-".into(), |client| client.to_string());
            let recipient = case.recipient.iter().flatten().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
            let recipient = if recipient.is_empty() { "-" } else { &recipient };
            writeln!(questions, "{stage} {client} {} {recipient}", u8::from(case.authenticated)).unwrap();
            questions
        });
        let mut child = Command::new(&program).arg(&group.policy).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), questions.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}: {:?}", group.policy.display(), output.status);
        let answers = String::from_utf8(output.stdout).unwrap();
        assert_eq!(answers.lines().count(), group.cases.len());
        for (case, answer) in group.cases.iter().zip(answers.lines()) {
            check_c_answer(case, answer);
        }
    }
}

fn check_c_answer(case: &Case, answer: &str) {
    let fields: Vec<&str> = answer.split('\t').collect();
    let [result, code, hang_up, decider, list, entry, line, generation, reply, greeting] = fields[..] else {
        panic!("{}: {answer}", case.place)
    };
    let given = Answer::new((result == "1").then(|| reply.to_owned()), hang_up == "1", decider.parse().unwrap(), list, entry, line);
    assert_eq!(given, case.answer, "{}", case.place);
    assert_eq!(generation, "1", "{}", case.place);
    if result == "0" {
        assert_eq!((code, reply, greeting), ("0", "", ""), "{}", case.place);
    } else {
        assert_eq!(result, "1", "{}", case.place);
        assert!(reply.starts_with(&format!("{code} ")), "{}: {reply}", case.place);
        // RFC 5321 section 4.3.1: the name of the host first; RFC 2034 section 3: no enhanced status code.
        let host = if greeting.contains("web1") { "web1.example.org " } else { "mx.example.org " };
        let rest = ["421 ", "521 ", "554 "].iter().find_map(|code| greeting.strip_prefix(code));
        assert!(rest.is_some_and(|rest| rest.starts_with(host)), "{}: {greeting}", case.place);
    }
}
