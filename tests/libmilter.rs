//! examples/milter.c, a milter made with libmilter: what `miltertest` and a real Postfix get from it, and the corpus.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "what goes wrong here ends the test, with a message"
)]

use mxgate::milter::codec::{Command as Packet, Connect, Macros, Options};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;
use support::corpus::{self, Case, Group};
use support::example::Example;
use support::library;
use support::postfix::Postfix;
use support::smtp::{Client, Reply};
use tempfile::TempDir;

mod support;

const SOURCE: &str = "examples/milter.c";
const HEADER: &str = "libmilter/mfapi.h";
const LIBRARIES: [&str; 2] = ["-lmilter", "-pthread"];

const POLICY: &str = r#"
hostname = "mx.example.org"

[[list]]
name = "local"
entries = ["192.0.2.0/25", "2001:db8:bad::/48"]

[[list]]
name = "percent"
entries = ["192.0.2.200 100% %s%n sure"]
reply = "550 5.7.1 Now 50% off: {reason}"

[[list]]
name = "botnets"
entries = ["192.0.2.201"]
reply = "drop"

[[list]]
name = "busy"
entries = ["192.0.2.202"]
reply = "throttle"

[[senders]]
name = "spam"
entries = ["spam.example"]

[[domains]]
name = "parked"
entries = ["parked.example"]
reply = "521 5.3.2 {domain} does not accept mail, {helo}"

[[domains]]
name = "null-mx"
kind = "null-mx"
entries = ["nomx.example"]
"#;

const LISTED: &str = "550 5.7.1 Service unavailable; client [192.0.2.7] blocked using local";
const PARKED: &str = "521 5.3.2 parked.example does not accept mail, helo.example";

/// The program, in a directory that has to live as long; `None` if it cannot be made here.
fn compiled() -> Option<(PathBuf, TempDir)> {
    if !support::available(&["cc"]) || !support::header(HEADER) {
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    Some((library::compile(SOURCE, &LIBRARIES, directory.path()), directory))
}

fn start(program: &Path, policy: &str) -> Example {
    Example::start(program, policy, |port, policy| vec![format!("inet:{port}@127.0.0.1"), policy.into()])
}

#[test]
fn it_compiles_with_two_compilers_without_a_warning() {
    if !support::available(&["gcc", "clang"]) || !support::header(HEADER) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for compiler in ["gcc", "clang"] {
        let warnings = ["-Wstrict-prototypes", "-Wmissing-prototypes"];
        library::compile_against(library::directory(), compiler, SOURCE, &[&LIBRARIES[..], &warnings].concat(), directory.path());
    }
}

#[test]
fn it_does_not_start_with_a_policy_that_is_wrong() {
    let Some((program, directory)) = compiled() else { return };
    let policy = directory.path().join("mxgate.toml");
    std::fs::write(&policy, "hostname = \"mx.example.org\"\nnonsense = 1\n").unwrap();
    let output = Command::new(&program).arg("inet:0@127.0.0.1").arg(&policy).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("mxgate.toml:2:1: \"nonsense\" is not a key of the policy; use hostname"), "{said}");
    let output = Command::new(&program).arg("inet:0@127.0.0.1").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("usage: milter SOCKET POLICY"));
}

/// The script is tests/milter.lua; it compares the answers, and the texts stand in the log.
#[test]
fn miltertest_finds_nothing_wrong() {
    let Some((program, _directory)) = compiled() else { return };
    if !support::available(&["miltertest"]) {
        return;
    }
    let filter = start(&program, POLICY);
    let output = Command::new("miltertest")
        .args(["-s", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/milter.lua"), "-D"])
        .arg(format!("socket=inet:{}@127.0.0.1", filter.address().port()))
        .output()
        .unwrap();
    assert!(output.status.success() && output.stdout.ends_with(b"as expected\n"), "{output:?}\n{}", filter.log());
    let log = filter.log();
    let refusals: Vec<&str> = log.lines().filter_map(|line| line.strip_prefix("refused: ")).collect();
    let listed = format!("{LISTED}; list local, entry 192.0.2.0/25");
    let parked = format!("{PARKED}; list parked, entry parked.example");
    assert_eq!(
        refusals,
        [
            &*listed,
            &*listed,
            "550 5.7.1 Sender address rejected: blocked using spam; list spam, entry spam.example",
            &*parked,
            "550 5.7.1 Service unavailable; client [2001:db8:bad::1] blocked using local; list local, entry 2001:db8:bad::/48",
            &*parked,
        ]
    );
}

/// A connection of a mail server.
struct MailServer {
    stream: TcpStream,
}

impl MailServer {
    /// Connects, and negotiates as Postfix and Sendmail do.
    fn at(address: SocketAddr) -> MailServer {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut server = MailServer { stream };
        assert_eq!(server.ask(&[Packet::OptNeg(Options { version: 6, actions: 0x1ff, protocol: 0x1f_ffff })])[0], b'O');
        server
    }

    /// Sends packets, of which the last one has an answer; the answer, command byte first.
    fn ask(&mut self, packets: &[Packet<'_>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        packets.iter().for_each(|packet| packet.encode(&mut bytes));
        self.stream.write_all(&bytes).unwrap();
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
        self.stream.read_exact(&mut answer).unwrap();
        answer
    }

    /// The answer to RCPT in a session about that question.
    fn answer_to(&mut self, case: &Case) -> Vec<u8> {
        let address = case.client.map(|client| client.to_string()).unwrap_or_default();
        let family = match case.client {
            Some(IpAddr::V4(_)) => b'4',
            Some(IpAddr::V6(_)) => b'6',
            // Not "4" and "unknown", as Postfix writes it: libmilter hangs up at that.
            None => b'U',
        };
        let client = Connect { host: b"client.example", family, port: 2525, address: address.as_bytes() };
        assert_eq!(self.ask(&[Packet::Connect(client)]), b"c", "{}", case.place);
        let login: &[u8] = if case.authenticated { b"{auth_authen}\0user\0" } else { b"{auth_authen}\0\0" };
        // libmilter leaves a RCPT without a MAIL before it unanswered.
        let sender = case.sender.as_deref().unwrap_or(b"<sender@neutral.example>");
        assert_eq!(self.ask(&[Packet::Macro(b'M', Macros(login)), Packet::Mail(sender)]), b"c", "{}", case.place);
        self.ask(&[Packet::Rcpt(case.recipient.as_deref().unwrap_or(b"<user@neutral.example>"))])
    }
}

#[test]
fn the_corpus() {
    let Some((program, _directory)) = compiled() else { return };
    let groups = corpus::groups();
    // All at once, because libmilter takes five seconds to end.
    let asked: usize = thread::scope(|scope| {
        let threads: Vec<_> = groups.iter().map(|group| scope.spawn(|| ask_all(&program, group))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let all: usize = groups.iter().map(|group| group.cases.len()).sum();
    println!("through libmilter: {asked} of {all} questions of the corpus; a milter is not told the facts of the others");
    assert!(asked >= 240, "{asked}");
}

/// Asks the questions of one policy, and returns how many.
fn ask_all(program: &Path, group: &Group) -> usize {
    let policy = group.policy.to_str().unwrap().to_owned();
    let filter = Example::start(program, "", |port, _| vec![format!("inet:{port}@127.0.0.1"), policy]);
    let cases = group.cases.iter().filter(|case| case.suits_a_milter());
    let ask = |case: &Case| {
        let answer = MailServer::at(filter.address()).answer_to(case);
        let expected = match &case.answer.reply {
            Some(reply) => [b"y", reply.replace('%', "%%").as_bytes(), b"\0"].concat(),
            None => b"c".to_vec(),
        };
        assert_eq!(answer.escape_ascii().to_string(), expected.escape_ascii().to_string(), "{}", case.place);
    };
    cases.map(ask).count()
}

/// A session up to MAIL for a client with that address, as a trusted proxy tells it (XCLIENT).
fn session(postfix: &Postfix, address: &str, login: &str) -> Client {
    let mut client = Client::connect([127, 0, 0, 1].into(), postfix.smtp()).unwrap();
    assert_eq!(client.greeting().code, 220);
    client.command("EHLO client.example");
    assert_eq!(client.command(&format!("XCLIENT NAME=[UNAVAILABLE] ADDR={address}{login}")).code, 220);
    client.command("EHLO client.example");
    assert_eq!(client.command("MAIL FROM:<sender@example.com>").code, 250);
    client
}

fn rcpt(client: &mut Client, recipient: &str) -> Reply {
    client.command(&format!("RCPT TO:<{recipient}>"))
}

fn start_with_postfix(program: &Path, default_action: &str) -> (Example, Postfix) {
    let filter = start(program, POLICY);
    let milter = format!("inet:{}", filter.address());
    let postfix = Postfix::start(&[("smtpd_milters", &milter), ("milter_default_action", default_action)]);
    (filter, postfix)
}

fn ready() -> Option<(PathBuf, TempDir)> {
    (support::available(&support::postfix::TOOLS) && support::root()).then(compiled).flatten()
}

#[test]
fn a_client_of_postfix_reads_code_and_text_of_the_verdict() {
    let Some((program, _directory)) = ready() else { return };
    let (_filter, postfix) = start_with_postfix(&program, "tempfail");

    // One refused, others not, and the message goes out.
    let mut client = session(&postfix, "192.0.2.7", "");
    assert_eq!(rcpt(&mut client, "user@example.org").to_string(), LISTED);
    assert_eq!(rcpt(&mut client, "postmaster@example.org").code, 250);
    assert_eq!(rcpt(&mut client, "abuse@nomx.example").to_string(), "556 5.1.10 nomx.example does not accept mail");
    assert_eq!(client.data("Subject: to postmaster\n\nHello.\n").code, 250);
    let delivered = postfix.wait_delivered(1, Duration::from_secs(20));
    assert!(delivered[0].contains("<postmaster@example.org>") && !delivered[0].contains("user@example.org"), "{delivered:?}");

    // Who has logged in is not refused for an address.
    assert_eq!(rcpt(&mut session(&postfix, "192.0.2.7", " LOGIN=user"), "user@example.org").code, 250);
    assert_eq!(rcpt(&mut session(&postfix, "198.51.100.9", ""), "user@example.org").code, 250);
    let ipv6 = rcpt(&mut session(&postfix, "IPV6:2001:db8:bad::7", ""), "user@example.org").to_string();
    assert_eq!(ipv6, LISTED.replace("192.0.2.7", "2001:db8:bad::7"));

    // Each % arrives as one.
    let mut client = session(&postfix, "192.0.2.200", "");
    assert_eq!(rcpt(&mut client, "user@example.org").to_string(), "550 5.7.1 Now 50% off: 100? ?s?n sure");
    assert_eq!(client.command("NOOP").code, 250);

    // After 421 and 521 Postfix hangs up.
    for (address, reply) in [
        ("192.0.2.201", "521 5.7.1 Service unavailable; client [192.0.2.201] blocked using botnets"),
        ("192.0.2.202", "421 4.7.0 Too much traffic from [192.0.2.202]; try again later"),
    ] {
        let mut client = session(&postfix, address, "");
        assert_eq!(rcpt(&mut client, "user@example.org").to_string(), reply);
        assert!(client.closed(), "{address}");
    }

    // Where Postfix would deliver to counts.
    for (recipient, code) in [
        ("user%nomx.example", 556),
        ("nomx.example!user", 556),
        ("b@example.org@nomx.example", 556),
        ("@nomx.example:user@example.org", 250),
    ] {
        assert_eq!(rcpt(&mut session(&postfix, "198.51.100.9", ""), recipient).code, code, "{recipient}");
    }
}

#[test]
fn a_changed_policy_is_loaded_and_a_wrong_one_is_not() {
    let Some((program, _directory)) = ready() else { return };
    let (filter, postfix) = start_with_postfix(&program, "tempfail");
    let mut client = session(&postfix, "192.0.2.7", "");
    assert_eq!(rcpt(&mut client, "user@example.org").to_string(), LISTED);

    filter.change(&POLICY.replace("hostname", "host_name"), "the policy or a list is not right");
    assert!(filter.log().contains("mxgate.toml:2:1: \"host_name\" is not a key of the policy"), "{}", filter.log());
    assert_eq!(rcpt(&mut client, "user@example.org").to_string(), LISTED);

    // In the session that is open, too.
    filter.change(&POLICY.replace("192.0.2.0/25", "192.0.2.128/28"), "in force");
    assert_eq!(rcpt(&mut client, "user@example.org").code, 250);

    filter.change(&POLICY.replace("hostname", "mode = \"maintenance\"\nhostname"), "in force");
    let reply = rcpt(&mut client, "user@example.org");
    assert_eq!(reply.to_string(), "421 4.3.2 mx.example.org Service not available, maintenance; try again later");
    assert!(client.closed());
}

#[test]
fn mail_is_not_lost_when_the_filter_is_not_there_or_hangs_up() {
    let Some((program, _directory)) = ready() else { return };
    let (filter, postfix) = start_with_postfix(&program, "accept");
    assert_eq!(rcpt(&mut session(&postfix, "192.0.2.7", ""), "user@example.org").code, 550);
    // An address that is not known: libmilter hangs up, and Postfix does what milter_default_action says.
    assert_eq!(rcpt(&mut session(&postfix, "[UNAVAILABLE]", ""), "user@parked.example").code, 250);
    let mut open = session(&postfix, "192.0.2.7", "");
    drop(filter);
    assert_eq!(rcpt(&mut open, "user@example.org").code, 250);
    assert_eq!(rcpt(&mut session(&postfix, "192.0.2.7", ""), "user@example.org").code, 250);
}

/// Mail submitted on the host itself (sendmail(1)), should somebody put the filter into non_smtpd_milters: a refusal
/// there would make Postfix try the message again for ever.
#[test]
fn local_submission_is_never_refused() {
    let Some((program, _directory)) = compiled() else { return };
    let loopback = "hostname = \"mx.example.org\"\nnever_block.loopback = false\n[[list]]\nname = \"all\"\nentries = [\"127.0.0.0/8\"]\n";
    let filter = start(&program, loopback);
    let submission = Connect { host: b"localhost", family: b'4', port: 0, address: b"127.0.0.1" };
    assert_eq!(MailServer::at(filter.address()).ask(&[Packet::Connect(submission)]), b"a");
    let client = Connect { port: 2525, ..submission };
    let mut server = MailServer::at(filter.address());
    assert_eq!(server.ask(&[Packet::Connect(client)]), b"c");
    assert_eq!(server.ask(&[Packet::Mail(b"<sender@example.com>")]), b"c");
    assert!(server.ask(&[Packet::Rcpt(b"<user@example.org>")]).starts_with(b"y550 5.7.1 "));
}
