//! One corpus of questions and answers through every interface: the Rust API, the C ABI, its wrapper for C++ and the
//! milter session; and through the wire, in tests/postfix.rs and tests/libmilter.rs.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "what goes wrong here ends the test, with a message"
)]

use mxgate::milter::{Progress, Session};
use mxgate::{Gate, Stage};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use support::corpus::{self, Answer, Case, Group};

mod support;

fn load(group: &Group) -> Gate {
    let gate = Gate::new();
    gate.load_file(&group.policy).unwrap_or_else(|error| panic!("{error}"));
    gate
}

#[test]
fn the_rust_api() {
    let mut wrong = Vec::new();
    for group in corpus::groups() {
        let gate = load(&group);
        let answers = group.cases.iter().map(|case| (case, Answer::of(&case.ask(&gate))));
        wrong.extend(answers.filter(|(case, answer)| *answer != case.answer).map(|(case, answer)| (case.place.clone(), answer)));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The explanation has the same answer, names the list that decides, and says something about every rule.
#[test]
fn explanations() {
    for group in corpus::groups() {
        let gate = load(&group);
        for case in &group.cases {
            let stage = if case.recipient.is_some() { Stage::Rcpt } else { Stage::Connect };
            let explanation = gate.explain(&case.facts(), stage);
            assert_eq!(Answer::of(&explanation.verdict), case.answer, "{}", case.place);
            let winner = explanation.winner().map(|list| list.name.as_str());
            let list = explanation.verdict.list;
            assert_eq!(winner, (!list.is_empty()).then_some(list.as_str()), "{}: {explanation}", case.place);
            assert!(!explanation.why.is_empty() && !explanation.to_string().contains("not asked:  "), "{}: {explanation}", case.place);
        }
    }
}

#[test]
fn the_c_abi() {
    if !support::available(&["cc"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    ask_all(&support::library::compile("tests/c/ask.c", &[], directory.path()));
}

#[test]
fn the_wrapper_for_cpp() {
    if !support::available(&["c++"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let asked = ask_all(&support::library::compile_cpp("tests/c/ask.cpp", directory.path()));
    println!("through mxgate.hpp: {asked} questions of the corpus, all there are");
}

/// Asks a program all questions, and returns how many there were.
fn ask_all(program: &Path) -> usize {
    let mut asked = 0;
    for group in corpus::groups() {
        let questions = group.cases.iter().fold(String::new(), |mut questions, case| {
            let stage = if case.recipient.is_some() { "rcpt" } else { "connect" };
            let client = case.client.map_or("-".into(), |client| client.to_string());
            let [spf, dkim, dmarc, rdns] = case.results.map(|result| result as u8);
            let (sender, recipient) = (hex(case.sender.as_deref()), hex(case.recipient.as_deref()));
            let flags = u8::from(case.authenticated);
            writeln!(questions, "{stage} {client} {flags} {spf} {dkim} {dmarc} {rdns} {sender} {recipient}").unwrap();
            questions
        });
        let mut child = Command::new(program).arg(&group.policy).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), questions.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}: {:?}", group.policy.display(), output.status);
        let answers = String::from_utf8(output.stdout).unwrap();
        assert_eq!(answers.lines().count(), group.cases.len());
        for (case, answer) in group.cases.iter().zip(answers.lines()) {
            check_c_answer(case, answer);
        }
        asked += group.cases.len();
    }
    asked
}

/// Bytes as hexadecimal digits; `-` for nothing, `+` for none.
fn hex(bytes: Option<&[u8]>) -> String {
    match bytes {
        None => "-".into(),
        Some([]) => "+".into(),
        Some(bytes) => bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}")),
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
        let hosts = ["mx.example.org ", "web1.example.org ", "mx.xn--bcher-kva.example "];
        let rest = ["421 ", "521 ", "554 "].iter().find_map(|code| greeting.strip_prefix(code));
        assert!(rest.is_some_and(|rest| hosts.iter().any(|host| rest.starts_with(host))), "{}: {greeting}", case.place);
    }
}

/// A packet: its length, the command, the data.
fn packet(command: u8, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len() + 1).unwrap().to_be_bytes();
    [&length[..], &[command], data].concat()
}

/// What a mail server sends for one recipient: option negotiation, CONNECT, macros, RCPT.
fn conversation(case: &Case) -> Vec<Vec<u8>> {
    let offer = [6_u32, 0x1ff, 0x1f_ffff].map(u32::to_be_bytes).concat();
    let (family, address) = match case.client {
        Some(IpAddr::V4(address)) => (b'4', address.to_string()),
        // As Sendmail writes it.
        Some(IpAddr::V6(address)) => (b'6', format!("IPv6:{address}")),
        None => (b'4', "unknown".into()),
    };
    let connect = [b"client.example\0", &[family][..], &2525_u16.to_be_bytes(), address.as_bytes(), b"\0"].concat();
    let recipient = case.recipient.as_deref().unwrap_or(b"<user@neutral.example>");
    let login: &[u8] = if case.authenticated { b"R{auth_authen}\0user\0" } else { b"R{auth_authen}\0\0" };
    let mut packets = vec![packet(b'O', &offer), packet(b'C', &connect)];
    // MAIL itself is not sent: the session does not ask for it.
    if let Some(sender) = &case.sender {
        packets.push(packet(b'D', &[b"M{mail_addr}\0", &sender[..], b"\0"].concat()));
    }
    packets.extend([packet(b'D', login), packet(b'R', &[recipient, b"\0"].concat())]);
    packets
}

#[test]
fn the_milter_session() {
    for group in corpus::groups() {
        let gate = load(&group);
        let (cases, others): (Vec<_>, Vec<_>) = group.cases.iter().partition(|case| case.suits_a_milter());
        if !others.is_empty() {
            println!("not asked through a milter: {} questions of {}, from {}", others.len(), group.policy.display(), others[0].place);
            assert!(group.policy.ends_with("authentication.toml"), "only this file has facts that a milter is not told");
        }
        for case in cases {
            let mut session = Session::new(gate.stages());
            let (mut answers, mut decided) = (Vec::new(), Vec::new());
            for packet in conversation(case) {
                answers.clear();
                let progress = session.feed(&gate, &packet, &mut answers, &mut |refusal| decided.push(*refusal.verdict));
                assert_eq!(progress, Ok(Progress::Open), "{}", case.place);
            }
            // The last packet was RCPT: its answer is a reply with %% for %, or "continue".
            let answer = match &case.answer.reply {
                Some(reply) => packet(b'y', format!("{}\0", reply.replace('%', "%%")).as_bytes()),
                None => packet(b'c', b""),
            };
            assert_eq!(answers.escape_ascii().to_string(), answer.escape_ascii().to_string(), "{}", case.place);
            match &decided[..] {
                [] => assert_eq!(case.answer.reply, None),
                [verdict] => assert_eq!(Answer::of(verdict), case.answer, "{}", case.place),
                _ => panic!("{}: several refusals of one recipient", case.place),
            }
        }
    }
}
