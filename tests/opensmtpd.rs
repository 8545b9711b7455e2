//! `examples/opensmtpd_filter.c`: in a real OpenSMTPD, what the client reads; and alone, what it answers to lines that are
//! hard to get from there.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "what goes wrong here ends the test, with a message"
)]

use mxgate::AuthResult;
use mxgate::wire::Profile;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use support::corpus::{self, Case};
use support::host::ready;
use support::library;
use support::opensmtpd::{OpenSmtpd, SMTPD};
use support::over_smtp::{CLOSED, Host, ask_all, check_transcript, client, policy, transcript};

mod support;

/// Up to RCPT, for everybody who gets that far.
const BEGIN: &str = "S: 220 mx.example.org ESMTP OpenSMTPD
C: HELO client.example
S: 250 mx.example.org Hello client.example [{client}], pleased to meet you
C: MAIL FROM:<sender@example.com>
S: 250 2.0.0 Ok
";
const ACCEPTED: &str = "250 2.1.5 Destination address valid: Recipient ok";
const SENT: &str = "C: DATA
S: 354 Enter mail, end with \".\" on a line by itself
C: From: sender@example.com
C: Subject: hello
C: 
C: Hello.
C: .
S: 250 2.0.0 ID Message accepted for delivery
C: QUIT
S: 221 2.0.0 Bye
*** server closed the connection
";
const QUIT: &str = "C: QUIT
S: 221 2.0.0 Bye
*** server closed the connection
";

/// One session, and how it went.
fn check(smtpd: &OpenSmtpd, last: u8, recipients: &[&str], replies: &[&str], end: &str) {
    check_transcript(client(last), smtpd.smtp(), BEGIN, recipients, replies, end);
}

#[test]
fn what_clients_read() {
    if !ready(SMTPD) {
        return;
    }
    let smtpd = OpenSmtpd::start(&policy());
    let (user, parked, nomx) = ("user@example.org", "user@parked.example", "user@www.nomx.example");
    let listed = "550 5.7.1 Service unavailable; client [127.0.0.20] blocked using local";
    let no_mail = "521 5.3.2 parked.example does not accept mail";
    let null_mx = "556 5.1.10 www.nomx.example does not accept mail";
    check(&smtpd, 10, &[user], &[ACCEPTED], SENT);
    check(&smtpd, 20, &[user, "postmaster@example.org"], &[listed, ACCEPTED], SENT);
    check(&smtpd, 20, &[user], &[listed], QUIT);
    check(&smtpd, 21, &[user], &[ACCEPTED], SENT);
    // A refusal about one recipient leaves the connection to the others, whatever its code.
    check(&smtpd, 10, &[parked, nomx, user], &[no_mail, null_mx, ACCEPTED], SENT);
    check(&smtpd, 50, &[user], &["450 4.7.1 Too much mail from [127.0.0.50]; try again later"], QUIT);
    // At CONNECT.
    let read = transcript(client(40), smtpd.smtp(), &[user]);
    assert_eq!(read, format!("S: 521 mx.example.org Service unavailable; client [127.0.0.40] blocked using botnets\n{CLOSED}"));
    let read = transcript(client(60), smtpd.smtp(), &[user]);
    assert_eq!(read, format!("S: 421 mx.example.org Too much traffic from [127.0.0.60]; try again later\n{CLOSED}"));
    // The same at RCPT.
    check(&smtpd, 70, &[user], &["521 5.7.1 Service unavailable; client [127.0.0.70] blocked using late"], CLOSED);
    check(&smtpd, 80, &[user], &["421 4.7.0 Too much traffic from [127.0.0.80]; try again later"], CLOSED);
    assert!(smtpd.running() && !smtpd.log().contains("policy:"), "{}", smtpd.log());
}

#[test]
fn modes_speak_in_the_greeting() {
    if !ready(SMTPD) {
        return;
    }
    for (mode, greeting) in [
        ("no-mail", "521 mx.example.org does not accept mail"),
        ("maintenance", "421 mx.example.org Service not available, maintenance; try again later"),
    ] {
        let smtpd = OpenSmtpd::start(&format!("mode = \"{mode}\"\n{}", policy()));
        assert_eq!(transcript(client(10), smtpd.smtp(), &["user@example.org"]), format!("S: {greeting}\n{CLOSED}"));
    }
}

#[test]
fn mail_goes_on_whatever_is_wrong() {
    if !ready(SMTPD) {
        return;
    }
    let smtpd = OpenSmtpd::start(&format!("{}nonsense = 1\n[[list]]\nname = \"x\"\nfile = \"missing.txt\"\n", policy()));
    check(&smtpd, 40, &["user@example.org", "user@parked.example"], &[ACCEPTED, ACCEPTED], SENT);
    // All mistakes are in the log.
    let log = smtpd.log();
    assert!(log.contains("\"nonsense\" is not a key of [[list]]; ") && log.contains("missing.txt"), "{log}");
    let smtpd = OpenSmtpd::start("cases/missing.toml");
    check(&smtpd, 40, &["user@example.org"], &[ACCEPTED], SENT);
    assert!(smtpd.log().contains("cannot read the policy: No such file or directory"), "{}", smtpd.log());
    assert!(smtpd.running());
}

/// Every question of the corpus that can be asked through SMTP.
#[test]
fn the_corpus_through_the_wire() {
    if !ready(SMTPD) {
        return;
    }
    let tally = ask_all(|group, ask| {
        let smtpd = OpenSmtpd::start(&format!("cases/{}", group.policy.file_name().unwrap().display()));
        let proxied = smtpd.proxied();
        ask(Host { profile: Profile::OpenSmtpd, proxied, proxy: client(99), rcpt_only: None });
        assert!(smtpd.running(), "{}", smtpd.log());
    });
    println!("questions to OpenSMTPD: {tally:#?}");
    assert!(tally.at_connect >= 25 && tally.at_rcpt >= 150, "{tally:#?}");
}

/// The filter alone.
struct Filter {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    _directory: tempfile::TempDir,
}

impl Filter {
    fn start(policy: &Path) -> Filter {
        let directory = tempfile::tempdir().unwrap();
        let program = library::compile("examples/opensmtpd_filter.c", &[], directory.path());
        let mut command = Command::new(program);
        let mut child = command.arg(policy).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut filter = Filter { child, input, output, _directory: directory };
        filter.say(b"config|smtpd-version|6.8.0p2\nconfig|subsystem|smtp-in\nconfig|admd|mx.example.org\nconfig|ready\n");
        while filter.line() != "register|ready" {}
        filter
    }

    fn say(&mut self, lines: &[u8]) {
        self.input.write_all(lines).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.strip_suffix('\n').unwrap_or_else(|| panic!("the filter has ended: {line:?}")).to_owned()
    }

    /// A report about a session.
    fn report(&mut self, version: &str, event: &str, session: &str, fields: &str) {
        self.say(format!("report|{version}|1795267465.525338|smtp-in|{event}|{session}{fields}\n").as_bytes());
    }

    /// The decision about a phase of a session.
    fn ask(&mut self, phase: &str, session: &str, argument: &[u8]) -> String {
        let head = format!("filter|0.6|1795267465.525397|smtp-in|{phase}|{session}|39e05f36e51450aa|");
        self.say(&[head.as_bytes(), argument, b"\n"].concat());
        let answer = self.line();
        let decision = answer.strip_prefix(&format!("filter-result|{session}|39e05f36e51450aa|"));
        decision.unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// smtpd goes, and so does the filter; not before.
    fn end(mut self) {
        assert_eq!(self.child.try_wait().unwrap(), None);
        drop(self.input);
        assert!(self.child.wait().unwrap().success());
    }
}

/// The session of a question, and the decision at RCPT.
fn decision(filter: &mut Filter, case: &Case, session: &str, version: &str) -> String {
    let source = match case.client.unwrap() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    };
    // By default the client has no name, with which nothing can be wrong.
    let name = if case.results[3] == AuthResult::Unknown { "<unknown>" } else { "client.example" };
    let fcrdns = if case.results[3] == AuthResult::Pass { "pass" } else { "fail" };
    filter.report(version, "link-connect", session, &format!("|{name}|{fcrdns}|{source}:37453|127.0.0.1:25"));
    if case.authenticated {
        let fields = if version == "0.6" { "|a|user|pass" } else { "|pass|a|user" };
        filter.report(version, "link-auth", session, fields);
    }
    let bare = |address: &[u8]| address.strip_prefix(b"<").and_then(|address| address.strip_suffix(b">")).unwrap_or(address).to_vec();
    if let Some(sender) = &case.sender {
        assert_eq!(filter.ask("mail-from", session, &bare(sender)), "proceed");
    }
    let decision = filter.ask("rcpt-to", session, &bare(case.recipient.as_deref().unwrap()));
    filter.report(version, "link-disconnect", session, "");
    decision
}

/// All of the corpus about recipients that lines can hold, in both versions of the protocol.
#[test]
fn the_corpus_line_by_line() {
    if !support::available(&["cc"]) {
        return;
    }
    let mut asked = 0;
    for group in corpus::groups() {
        let mut filter = Filter::start(&group.policy);
        let suits = |case: &&Case| {
            let printable =
                [&case.sender, &case.recipient].iter().all(|text| text.iter().flat_map(|text| text.iter()).all(|&octet| octet >= b' '));
            let results = matches!(case.results, [AuthResult::Unknown, AuthResult::Unknown, AuthResult::Unknown, rdns]
                if matches!(rdns, AuthResult::Unknown | AuthResult::Pass | AuthResult::Fail));
            case.client.is_some() && case.recipient.is_some() && printable && results
        };
        for (number, case) in group.cases.iter().filter(suits).enumerate() {
            let verb = if case.answer.hang_up { "disconnect" } else { "reject" };
            let expected = case.answer.reply.as_ref().map_or("proceed".into(), |reply| format!("{verb}|{reply}"));
            for version in ["0.6", "0.7"] {
                // Ids of different sessions with the same last bits.
                let session = format!("{:016x}", 0x40cc_fa4e_029f_6734_u64.wrapping_add(number as u64 * 1024));
                assert_eq!(decision(&mut filter, case, &session, version), expected, "{}", case.place);
            }
            asked += 1;
        }
        filter.end();
    }
    println!("questions to the filter alone: {asked}");
    assert!(asked >= 180, "{asked}");
}

#[test]
fn sessions_side_by_side() {
    if !support::available(&["cc"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("mxgate.toml");
    std::fs::write(&file, policy()).unwrap();
    let mut filter = Filter::start(&file);
    let id = |number: u64| format!("{:016x}", number * 512);
    for number in 0..100 {
        let last = if number % 2 == 0 { 20 } else { 10 };
        filter.report("0.6", "link-connect", &id(number), &format!("|<unknown>|fail|127.0.0.{last}:4000|127.0.0.1:25"));
        assert_eq!(filter.ask("connect", &id(number), format!("<unknown>|127.0.0.{last}").as_bytes()), "proceed");
    }
    let decisions: Vec<String> = (0..100).map(|number| filter.ask("rcpt-to", &id(number), b"user@example.org")).collect();
    for (number, decision) in decisions.iter().enumerate() {
        assert_eq!(decision.starts_with("reject|550 5.7.1 "), number % 2 == 0, "{number}: {decision}");
    }
    // One goes, its neighbours stay.
    filter.report("0.6", "link-disconnect", &id(2), "");
    for (number, known) in [(0, true), (2, false), (4, true)] {
        assert_eq!(filter.ask("rcpt-to", &id(number), b"user@example.org") == "proceed", !known, "{number}");
    }
    // Whoever fails to log in is not logged in, whatever the name is.
    for (version, fields) in
        [("0.6", "|pass|fail"), ("0.6", "|pass|pass|error"), ("0.7", "|fail|pass"), ("0.7", "|fail|a|pass"), ("1.0", "|error|pass")]
    {
        filter.report(version, "link-auth", &id(4), fields);
        assert!(filter.ask("rcpt-to", &id(4), b"user@example.org").starts_with("reject|"), "{version} {fields}");
    }
    filter.report("0.10", "link-auth", &id(4), "|pass|user");
    assert_eq!(filter.ask("rcpt-to", &id(4), b"user@example.org"), "proceed");
    filter.end();
}

/// Lines that smtpd does not send, and sessions that it has not told about: the filter stays, and lets everybody through.
#[test]
fn trouble_means_proceed() {
    if !support::available(&["cc"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("mxgate.toml");
    std::fs::write(&file, format!("mode = \"no-mail\"\n{}", policy())).unwrap();
    let mut filter = Filter::start(&file);
    assert_eq!(filter.ask("connect", "00", b"<unknown>|127.0.0.40"), "proceed");
    assert_eq!(filter.ask("rcpt-to", "00", b"user@example.org"), "proceed");
    // A program of this host, at a socket.
    filter.report("0.6", "link-connect", "01", "|localhost|pass|unix:/run/smtpd.sock|unix:/run/smtpd.sock");
    assert_eq!(filter.ask("connect", "01", b"localhost|local"), "proceed");
    assert_eq!(filter.ask("rcpt-to", "01", b"user@example.org"), "proceed");
    let mut garbage: Vec<Vec<u8>> =
        ["", "|", "report", "report|", "report||||||||", "filter-result|0|0|proceed", "config", "nonsense", "\r"]
            .iter()
            .map(|line| line.as_bytes().to_vec())
            .collect();
    for event in ["link-connect", "link-auth", "link-disconnect", "timeout"] {
        for fields in ["", "|", "||||", "|a|b|c", "|<unknown>|fail|1.2.3.4", "|<unknown>|fail|:25|", "|pass"] {
            garbage.push(format!("report|0.6|0|smtp-in|{event}|02{fields}").into_bytes());
            garbage.push(format!("report|x|0|smtp-in|{event}|zz{fields}").into_bytes());
        }
    }
    garbage.push(vec![b'x'; 1 << 20]);
    garbage.push((1..=255).filter(|octet| *octet != b'\n').collect());
    garbage.push([&b"report|0.6|0|smtp-in|link-connect|02|"[..], &[0, 1, 2, 0]].concat());
    for line in garbage {
        filter.say(&[&line[..], b"\n"].concat());
        assert_eq!(filter.ask("rcpt-to", "02", b"user@example.org"), "proceed", "{}", line.escape_ascii());
    }
    assert_eq!(filter.ask("data", "01", b""), "proceed");
    // An address that is longer than any line of SMTP.
    filter.report("0.6", "link-connect", "03", "|<unknown>|fail|127.0.0.10:4000|127.0.0.1:25");
    assert_eq!(filter.ask("rcpt-to", "03", &vec![b'a'; 100_000]), "proceed");
    assert_eq!(filter.ask("rcpt-to", "03", b"user@example.org"), "disconnect|521 5.3.2 mx.example.org does not accept mail");
    filter.end();
}
