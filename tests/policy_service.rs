//! The policy service: the corpus through its session, and a real Postfix that asks the real daemon (`check_policy_service`):
//! what the client reads.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "what goes wrong here ends the test, with a message"
)]

use mxgate::policy_service::codec::Request;
use mxgate::policy_service::{Progress, Session};
use mxgate::wire::{Connection, Envelope, Profile, on_wire};
use mxgate::{AuthResult, Gate, Stage};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::corpus::{self, Answer, Case, Group};
use support::daemon::Daemon;
use support::postfix::Postfix;
use support::server::Server;
use support::smtp::{Client, Reply};

mod support;

const PROGRAM: &str = env!("CARGO_BIN_EXE_mxgate");
const CLOSED: &str = "*** server closed the connection\n";

/// Clients are on loopback, which no list could refuse otherwise.
const POLICY: &str = r#"hostname = "mx.example.org"

[never_block]
loopback = false

[[list]]
name = "botnets"
reply = "521 5.3.2 This host takes no mail from you"
entries = ["127.0.0.40"]

[[list]]
name = "local"
entries = ["127.0.0.41"]

[[list]]
name = "late"
at = "rcpt"
entries = ["127.0.0.42"]

[[domains]]
name = "null-mx"
kind = "null-mx"
entries = ["nomx.example"]

[[senders]]
name = "spammers"
entries = ["spam.example"]
"#;

fn ready() -> bool {
    support::available(&support::postfix::TOOLS) && support::root()
}

/// Postfix that asks at CONNECT, MAIL and RCPT.
fn postfix(server: &Server, more: &[(&str, &str)]) -> Postfix {
    let check = format!("check_policy_service {}", server.address());
    let mut options = vec![("smtpd_delay_reject", "no"), ("smtpd_policy_service_default_action", "DUNNO")];
    options.extend(["smtpd_client_restrictions", "smtpd_sender_restrictions", "smtpd_recipient_restrictions"].map(|name| (name, &*check)));
    options.retain(|(name, _)| more.iter().all(|(other, _)| other != name));
    options.extend(more);
    Postfix::start(&options)
}

fn connect(postfix: &Postfix, last: u8) -> Client {
    Client::connect(Ipv4Addr::new(127, 0, 0, last).into(), postfix.smtp()).unwrap()
}

/// A session with one message for these recipients, up to QUIT or until the server hangs up.
fn session(postfix: &Postfix, last: u8, sender: &str, recipients: &[&str]) -> String {
    let mut client = connect(postfix, last);
    if matches!(client.greeting().code, 421 | 521) {
        assert!(client.closed(), "{}", client.transcript());
        return client.transcript().to_owned();
    }
    let (ehlo, mail) = ("EHLO client.example".to_owned(), format!("MAIL FROM:<{sender}>"));
    let recipients = recipients.iter().map(|recipient| format!("RCPT TO:<{recipient}>"));
    let mut accepted = 0;
    for command in [ehlo, mail].into_iter().chain(recipients) {
        let code = client.command(&command).code;
        if matches!(code, 421 | 521) {
            assert!(client.closed(), "{}", client.transcript());
            return client.transcript().to_owned();
        }
        accepted += usize::from(code == 250 && command.starts_with("RCPT"));
    }
    if accepted > 0 {
        client.data("Subject: hello\n\nHello.\n");
    }
    client.command("QUIT");
    client.closed();
    client.transcript().to_owned()
}

#[test]
fn a_greeting_of_our_own_and_refusals_at_each_stage() {
    if !ready() {
        return;
    }
    let server = Server::policy_service(Path::new(PROGRAM), POLICY);
    let postfix = postfix(&server, &[]);
    let greeting = |last| {
        let mut client = connect(&postfix, last);
        client.greeting();
        let closed = client.closed();
        (client.transcript().to_owned(), closed)
    };
    let refused = |code: &str, last: u8, text: &str| format!("S: {code} <unknown[127.0.0.{last}]>: Client host rejected: {text}\n");
    let (said, closed) = greeting(40);
    assert_eq!((said, closed), (refused("521 5.3.2", 40, "This host takes no mail from you") + CLOSED, true));
    // With another code Postfix keeps the connection, and refuses whatever follows.
    let (said, closed) = greeting(41);
    let text = "Service unavailable; client [127.0.0.41] blocked using local";
    assert_eq!((said, closed), (refused("550 5.7.1", 41, text), false));

    let said = session(&postfix, 42, "sender@example.com", &["user@example.org", "postmaster@example.org"]);
    let text = "550 5.7.1 <user@example.org>: Recipient address rejected: Service unavailable; client [127.0.0.42] blocked using late";
    assert!(said.starts_with("S: 220 ") && said.contains(&format!("S: {text}\n")), "{said}");
    assert!(said.contains("C: RCPT TO:<postmaster@example.org>\nS: 250 2.1.5 Ok\n"), "{said}");

    let said = session(&postfix, 10, "sender@spam.example", &[]);
    let text = "550 5.7.1 <sender@spam.example>: Sender address rejected: Sender address rejected: blocked using spammers";
    assert!(said.contains(&format!("C: MAIL FROM:<sender@spam.example>\nS: {text}\n")), "{said}");

    let said = session(&postfix, 10, "", &["user@nomx.example", "user@example.org"]);
    let text = "556 5.1.0 <user@nomx.example>: Recipient address rejected: nomx.example does not accept mail";
    assert!(said.contains(&format!("S: {text}\nC: RCPT TO:<user@example.org>\nS: 250 2.1.5 Ok\n")), "{said}");

    // Those that were let through arrive, and the log says who was refused and why.
    let delivered = postfix.wait_delivered(2, Duration::from_secs(20));
    assert!(delivered[0].contains("<postmaster@example.org>") && delivered[1].contains("<user@example.org>"), "{delivered:?}");
    assert_eq!(delivered.len(), 2);
    let log = support::wait_for("the last line", || Some(server.log()).filter(|log| log.contains("list=null-mx")));
    for line in [
        "reject: CONNECT from unknown[127.0.0.40]: 521 5.3.2 Service unavailable; Client host [127.0.0.40] blocked using botnets; list=botnets entry=127.0.0.40 line=",
        "reject: MAIL from unknown[127.0.0.10]: 550 5.7.1 Sender address rejected: blocked using spammers; from=<sender@spam.example> helo=<client.example> list=spammers",
        "reject: RCPT from unknown[127.0.0.10]: 556 5.1.10 <user@nomx.example>: nomx.example does not accept mail; from=<> to=<user@nomx.example> helo=<client.example> list=null-mx",
    ] {
        assert!(log.contains(line), "{line}\n{log}");
    }

    for (mode, reply) in [
        (
            "maintenance",
            "421 4.3.2 <unknown[127.0.0.10]>: Client host rejected: mx.example.org Service not available, maintenance; try again later",
        ),
        ("no-mail", "521 5.3.2 <unknown[127.0.0.10]>: Client host rejected: mx.example.org does not accept mail"),
    ] {
        server.reload(&POLICY.replace("hostname", &format!("mode = \"{mode}\"\nhostname")));
        assert_eq!(greeting(10), (format!("S: {reply}\n{CLOSED}"), true));
    }
}

/// Several restrictions name the service, and Postfix asks for each, with `smtpd_delay_reject = yes` for all of them at
/// RCPT: each recipient is charged once, each connection too.
#[test]
fn limits_count_what_is_asked_about_twice_once() {
    if !ready() {
        return;
    }
    let limits = "hostname = \"mx.example.org\"\nnever_block.loopback = false\n[limits]\nreply = \"throttle-soft\"\n\
exempt = []\nrecipients = \"3/h\"\nconnections = \"2/h\"\nconcurrent = 1\n";
    let server = Server::policy_service(Path::new(PROGRAM), limits);
    for delay in ["yes", "no"] {
        // A client of its own for each.
        let last = if delay == "yes" { 10 } else { 20 };
        let postfix = postfix(&server, &[("smtpd_delay_reject", delay)]);
        let recipients = |count: usize| ["a@example.org", "b@example.org", "c@example.org", "d@example.org"].into_iter().take(count);
        let said = session(&postfix, last, "sender@example.com", &recipients(4).collect::<Vec<_>>());
        assert_eq!(said.matches("S: 250 2.1.5 Ok\n").count(), 3, "{said}");
        assert!(said.contains("C: RCPT TO:<d@example.org>\nS: 450 4.7.1 <"), "{said}");
        // The second connection, and the third.
        assert!(!session(&postfix, last, "sender@example.com", &[]).contains("450 4.7.1"));
        let said = session(&postfix, last, "sender@example.com", &["a@example.org"]);
        let at = if delay == "yes" { "C: RCPT TO:<a@example.org>\nS: 450" } else { "S: 450" };
        assert!(said.contains(at) && said.contains("Too much mail from [127.0.0."), "{said}");
        assert_eq!(said.starts_with("S: 450 4.7.1 <unknown["), delay == "no", "{said}");
    }
}

#[test]
fn what_postfix_does_without_the_daemon_is_for_main_cf_to_say() {
    if !ready() {
        return;
    }
    let policy = "hostname = \"mx.example.org\"\nmode = \"no-mail\"\n";
    let default = [("smtpd_policy_service_default_action", "451 4.3.5 Server configuration problem"), ("smtpd_client_restrictions", "")];
    for (options, reply) in [(&[][..], "250 2.1.5 Ok"), (&default[..], "451 4.3.5 <sender@example.com>: Sender address rejected: ")] {
        let server = Server::policy_service(Path::new(PROGRAM), policy);
        let options: Vec<_> = options.iter().copied().chain([("smtpd_policy_service_retry_delay", "1s")]).collect();
        let postfix = postfix(&server, &options);
        let said = session(&postfix, 10, "sender@example.com", &["user@example.org"]);
        assert!(said.contains("S: 521 5.3.2 <") && said.ends_with(CLOSED), "{said}");
        drop(server);
        let said = session(&postfix, 10, "sender@example.com", &["user@example.org"]);
        assert!(said.contains(&format!("\nS: {reply}")), "{said}");
        if reply.starts_with("250") {
            assert_eq!(postfix.wait_delivered(1, Duration::from_secs(20)).len(), 1);
        }
    }
}

/// A daemon that is stopped and started again, or another one in its place: Postfix asks it over a new connection.
#[test]
fn a_restart_loses_no_question() {
    if !ready() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    // Postfix's own user connects.
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(at("mxgate.toml"), POLICY).unwrap();
    let (config, socket) = (at("mxgate.toml").display().to_string(), format!("unix:{}", at("policy.sock").display()));
    let arguments = ["serve", "--config", &config, "--policy-service", &socket, "--socket-mode", "666"];
    let start = || {
        let daemon = Daemon::start(Path::new(PROGRAM), arguments, &at("log"));
        support::wait_for("the daemon listens", || UnixStream::connect(at("policy.sock")).ok());
        daemon
    };
    let first = start();
    // By default Postfix puts mail off where nobody answers.
    let check = format!("check_policy_service {socket}");
    let postfix = Postfix::start(&[("smtpd_recipient_restrictions", &check)]);
    let mut client = connect(&postfix, 42);
    client.greeting();
    client.command("EHLO client.example");
    client.command("MAIL FROM:<sender@example.com>");
    let mut refused = || client.command("RCPT TO:<user@example.org>").to_string();
    let text = "550 5.7.1 <user@example.org>: Recipient address rejected: Service unavailable; client [127.0.0.42] blocked using late";
    assert_eq!(refused(), text);
    drop(first);
    let second = start();
    assert_eq!(refused(), text);
    drop(second);
    assert!(refused().starts_with("451 4.3.5 <user@example.org>: Recipient address rejected: Server configuration problem"));
}

/// Both kinds of sockets in one daemon; a peer that is no policy client gets no answer.
#[test]
fn beside_a_milter() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("mxgate.toml"), "hostname = \"mx.example.org\"\n[[list]]\nname = \"local\"\nentries = [\"192.0.2.7\"]\n").unwrap();
    let (config, milter, policy) = (at("mxgate.toml"), at("milter.sock"), at("policy.sock"));
    let (milter, policy) = (format!("unix:{}", milter.display()), format!("unix:{}", policy.display()));
    let arguments = ["serve", "--config", config.to_str().unwrap(), "--listen", &milter, "--policy-service", &policy];
    let daemon = Daemon::start(Path::new(PROGRAM), arguments, &at("log"));
    let connect = || support::wait_for("the daemon listens", || UnixStream::connect(at("policy.sock")).ok());
    let mut stream = connect();
    stream.write_all(b"request=smtpd_access_policy\nprotocol_state=CONNECT\nclient_addr").unwrap();
    stream.write_all(b"ess=192.0.2.7\n\nrequest=smtpd_access_policy\nprotocol_state=DATA\n\n").unwrap();
    let answers = "action=550 5.7.1 Service unavailable; client [192.0.2.7] blocked using local\n\naction=DUNNO\n\n";
    let mut read = vec![0; answers.len()];
    stream.read_exact(&mut read).unwrap();
    assert_eq!(String::from_utf8(read).unwrap(), answers);

    let mut stream = connect();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut read = Vec::new();
    // With input that nobody has read the connection is reset.
    let _ = stream.read_to_end(&mut read);
    assert_eq!(read, b"");

    // Between two questions nothing is lost by a stop: it does not wait for Postfix, which keeps a connection for minutes.
    let mut stream = connect();
    stream.write_all(b"request=smtpd_access_policy\n\n").unwrap();
    stream.read_exact(&mut [0; 14]).unwrap();
    let stopping = Instant::now();
    drop(daemon);
    assert!(stopping.elapsed() < Duration::from_secs(3), "{:?}", stopping.elapsed());
    assert_eq!(stream.read(&mut [0; 14]).unwrap(), 0);

    let log = fs::read_to_string(at("log")).unwrap();
    assert!(log.contains(&format!("milter: listening on {milter}\n")), "{log}");
    assert!(log.contains(&format!("policy service: listening on {policy}\n")), "{log}");
    assert!(!at("milter.sock").exists() && !at("policy.sock").exists());
}

/// A policy service alone needs no milter beside it.
#[test]
fn without_a_milter() {
    let server = Server::policy_service(Path::new(PROGRAM), "hostname = \"mx.example.org\"\n");
    assert!(server.log().contains("policy service: listening on ") && !server.log().contains("milter: "), "{}", server.log());
    let mut stream = TcpStream::connect(server.address().strip_prefix("inet:").unwrap()).unwrap();
    stream.write_all(b"request=smtpd_access_policy\nprotocol_state=RCPT\n\n").unwrap();
    let mut read = [0; 14];
    stream.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"action=DUNNO\n\n");
}

/// What it answers is shown as what the milter answers: who is followed, and whom and by what most were refused.
#[test]
fn trace_and_top_show_its_answers() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("mxgate.toml"), "hostname = \"mx.example.org\"\n[[list]]\nname = \"local\"\nentries = [\"192.0.2.7\"]\n").unwrap();
    let (config, policy, control) = (at("mxgate.toml"), format!("unix:{}", at("policy.sock").display()), at("control.sock"));
    let (config, control) = (config.to_str().unwrap(), control.to_str().unwrap());
    let arguments = ["serve", "--config", config, "--policy-service", &policy, "--control", control];
    let _daemon = Daemon::start(Path::new(PROGRAM), arguments, &at("log"));
    let log = || fs::read_to_string(at("log")).unwrap_or_default();
    support::wait_for("the daemon listens", || log().contains("control socket at ").then_some(()));
    let mut trace = Command::new(PROGRAM);
    trace.args(["trace", "192.0.2.0/24", "--for", "2", "--control", control]).stdout(Stdio::piped());
    let mut trace = trace.spawn().unwrap();
    let mut shown = BufReader::new(trace.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(shown.next().unwrap(), "following 192.0.2.0/24");
    let mut stream = UnixStream::connect(at("policy.sock")).unwrap();
    let mut ask = |state: &str, client: &str| {
        let request =
            format!("request=smtpd_access_policy\nprotocol_state={state}\nclient_address={client}\nrecipient=user@example.org\n\n");
        stream.write_all(request.as_bytes()).unwrap();
        let (mut answer, mut byte) = (Vec::new(), [0]);
        while !answer.ends_with(b"\n\n") {
            stream.read_exact(&mut byte).unwrap();
            answer.extend(byte);
        }
        String::from_utf8(answer).unwrap()
    };
    for (state, client, refused) in
        [("CONNECT", "192.0.2.7", true), ("RCPT", "192.0.2.7", true), ("RCPT", "192.0.2.8", false), ("CONNECT", "198.51.100.7", false)]
    {
        assert_eq!(ask(state, client).starts_with("action=550 5.7.1 "), refused, "{state} {client}");
    }
    let shown: Vec<String> = shown.collect();
    for (line, part) in shown.iter().zip([
        "reject: CONNECT from unknown[192.0.2.7]",
        "reject: RCPT from unknown[192.0.2.7]",
        "RCPT from unknown[192.0.2.8]",
    ]) {
        assert!(line.contains(part), "{part} in {shown:#?}");
    }
    assert_eq!(shown.len(), 3, "{shown:#?}");
    assert!(trace.wait().unwrap().success());
    let top = Command::new(PROGRAM).args(["top", "--control", control]).output().unwrap();
    let top = String::from_utf8(top.stdout).unwrap();
    assert!(top.contains("   REFUSED  CLIENT\n         2  192.0.2.7\n") && top.contains("         2  block list local\n"), "{top}");
}

/// Whether Postfix can tell all that a question is about: of the checks of authentication it tells reverse DNS, and of that
/// not whether it failed or gave no answer.
fn can_be_told(case: &Case) -> bool {
    let [spf, dkim, dmarc, rdns] = case.results;
    [spf, dkim, dmarc] == [AuthResult::Unknown; 3] && matches!(rdns, AuthResult::Unknown | AuthResult::Pass | AuthResult::Temperror)
}

/// The client's name if it leads back to its address, and its name whether or not.
fn names(case: &Case, none: &'static str) -> (&'static str, &'static str) {
    let name_if = |known| if known { "client.example" } else { none };
    let [.., rdns] = case.results;
    (name_if(rdns == AuthResult::Pass), name_if(rdns != AuthResult::Unknown))
}

/// A question of the corpus as Postfix asks it.
fn request(case: &Case) -> Vec<u8> {
    let client = case.client.map_or("unknown".into(), |client| client.to_string());
    let (name, reverse_name) = names(case, "unknown");
    let mut request = Vec::new();
    Request {
        protocol_state: Some(if case.recipient.is_some() { b"RCPT" } else { b"CONNECT" }),
        client_address: Some(client.as_bytes()),
        client_port: Some(b"2525"),
        client_name: Some(name.as_bytes()),
        reverse_client_name: Some(reverse_name.as_bytes()),
        helo_name: Some(b"client.example"),
        sender: case.sender.as_deref(),
        recipient: case.recipient.as_deref(),
        instance: None,
        sasl_username: Some(if case.authenticated { b"user" } else { b"" }),
        encryption_protocol: Some(b""),
    }
    .encode(&mut request);
    request
}

#[test]
fn the_corpus_through_the_session() {
    let (mut asked, mut untold) = (0, 0);
    for group in corpus::groups() {
        let gate = Gate::new();
        gate.load_file(&group.policy).unwrap_or_else(|error| panic!("{error}"));
        let mut session = Session::new();
        for case in &group.cases {
            let broken = |value: &Option<Vec<u8>>| value.as_ref().is_some_and(|value| value.iter().any(|byte| matches!(byte, b'\n' | 0)));
            if !can_be_told(case) || broken(&case.recipient) || broken(&case.sender) {
                untold += 1;
                continue;
            }
            asked += 1;
            let (mut answer, mut decided) = (Vec::new(), Vec::new());
            let progress = session.feed(&gate, &request(case), &mut answer, &mut |refusal| decided.push(*refusal.verdict));
            assert_eq!(progress, Ok(Progress::Open), "{}", case.place);
            let action = case.answer.reply.as_deref().unwrap_or("DUNNO");
            assert_eq!(String::from_utf8_lossy(&answer), format!("action={action}\n\n"), "{}", case.place);
            assert_eq!(decided.len(), usize::from(case.answer.reply.is_some()), "{}", case.place);
            decided.iter().for_each(|verdict| assert_eq!(Answer::of(verdict), case.answer, "{}", case.place));
        }
    }
    println!("through the policy service: {asked} questions of the corpus; {untold} cannot be put in a request");
    assert!(asked >= 250 && untold * 5 < asked, "{asked} {untold}");
}

/// The policy of a group with the full path of its files, since the daemon reads it from a directory of its own.
fn policy_of(group: &Group) -> String {
    let directory = group.policy.parent().unwrap().display();
    fs::read_to_string(&group.policy).unwrap().replace("file = \"", &format!("file = \"{directory}/"))
}

/// A session up to MAIL for a client with that address, as a trusted proxy tells it (XCLIENT); the reply to MAIL.
fn session_of(postfix: &Postfix, case: &Case) -> (Client, Reply) {
    let mut client = connect(postfix, 1);
    assert_eq!(client.greeting().code, 220);
    client.command("EHLO client.example");
    let address = match case.client {
        None => "[UNAVAILABLE]".to_owned(),
        Some(IpAddr::V4(v4)) => v4.to_string(),
        Some(IpAddr::V6(v6)) => format!("IPV6:{v6}"),
    };
    let (name, reverse_name) = names(case, "[UNAVAILABLE]");
    let login = if case.authenticated { " LOGIN=user" } else { "" };
    assert_eq!(client.command(&format!("XCLIENT NAME={name} REVERSE_NAME={reverse_name} ADDR={address}{login}")).code, 220);
    client.command("EHLO client.example");
    let mut mail = [b"MAIL FROM:", &*bracketed(case.sender.as_deref().unwrap_or(b"<sender@example.com>"))].concat();
    if !mail.is_ascii() || case.recipient.as_ref().is_some_and(|recipient| !recipient.is_ascii()) {
        // RFC 6531 section 3.4: the client says that addresses are in UTF-8.
        mail.extend(b" SMTPUTF8");
    }
    client.send_raw(&[&mail[..], b"\r\n"].concat());
    let reply = client.read_reply();
    (client, reply)
}

fn bracketed(address: &[u8]) -> Vec<u8> {
    if address.starts_with(b"<") { address.to_vec() } else { [b"<", address, b">"].concat() }
}

#[test]
fn the_corpus_through_the_wire() {
    if !ready() {
        return;
    }
    let server = Server::policy_service(Path::new(PROGRAM), "hostname = \"mx.example.org\"\n");
    let check = format!("check_policy_service {}", server.address());
    let postfix = Postfix::start(&[("smtpd_recipient_restrictions", &*check), ("smtputf8_enable", "yes")]);
    let (mut asked, mut refused) = (0, 0);
    for group in corpus::groups() {
        server.reload(&policy_of(&group));
        let gate = Gate::new();
        gate.load_file(&group.policy).unwrap_or_else(|error| panic!("{error}"));
        for case in group.cases.iter().filter(|case| can_be_told(case)) {
            let (mut client, mail) = session_of(&postfix, case);
            if mail.code != 250 {
                println!("{}: Postfix does not take the sender: {mail}", case.place);
                continue;
            }
            let recipient = case.recipient.as_deref().map_or_else(|| b"<user@neutral.example>".to_vec(), bracketed);
            client.send_raw(&[b"RCPT TO:", &*recipient, b"\r\n"].concat());
            let reply = client.read_reply();
            let syntax = matches!(reply.code, 500 | 501);
            asked += usize::from(!syntax);
            refused += usize::from(!syntax && reply.code != 250);
            match &case.answer.reply {
                None => assert!(syntax || reply.code == 250, "{}: {reply}", case.place),
                // Postfix refuses by itself what is not an address, before the relay rule can.
                Some(_) if syntax && case.answer.decided == "relay" => {}
                Some(expected) => {
                    // Postfix puts the recipient before the text; the table says what it makes of the status.
                    let rejection = case.ask(&gate).rejection.unwrap();
                    assert_eq!(expected, rejection.reply().as_str(), "{}", case.place);
                    let wire = on_wire(Profile::PostfixPolicy, Stage::Rcpt, &rejection, &Envelope { recipient: "\0", ..Envelope::EXAMPLE });
                    let line = wire.line.unwrap();
                    let (before, after) = line.split_once('\0').unwrap();
                    let read = reply.to_string();
                    assert!(read.starts_with(before) && read.ends_with(after), "{}: {read}\n{}", case.place, client.transcript());
                    match wire.connection {
                        Connection::Closed => assert!(client.closed(), "{}", case.place),
                        Connection::Kept => assert_eq!(client.command("NOOP").code, 250, "{}", case.place),
                    }
                }
            }
        }
    }
    println!("through Postfix and the policy service: {asked} questions of the corpus, {refused} of them refused");
    assert!(asked >= 200 && refused >= 100, "{asked} {refused}");
}
