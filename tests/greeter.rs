//! examples/greeter.c, a server that refuses in its greeting and at RCPT: the dialogue, and what Postfix makes of it as the
//! sender. What is seen here stands in the comment of the example.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what goes wrong here ends the test, with a message")]

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::example::Example;
use support::library;
use support::postfix::Postfix;
use support::smtp::Client;
use tempfile::TempDir;

mod support;

const SOURCE: &str = "examples/greeter.c";
const FLAGS: [&str; 1] = ["-pthread"];
const PATIENCE: Duration = Duration::from_secs(20);

/// 127.0.0.2 and up are refused in the greeting, 127.0.0.9 at RCPT; 127.0.0.1 is Postfix.
const POLICY: &str = r#"
hostname = "mx.example.org"

[never_block]
loopback = false

[[list]]
name = "listed"
entries = ["127.0.0.2"]

[[list]]
name = "botnets"
entries = ["127.0.0.3"]
reply = "drop"

[[list]]
name = "busy"
entries = ["127.0.0.4"]
reply = "throttle"

[[list]]
name = "at-rcpt"
entries = ["127.0.0.9"]
at = "rcpt"

[[domains]]
name = "parked"
entries = ["parked.example"]

[[domains]]
name = "null-mx"
kind = "null-mx"
entries = ["nomx.example"]

[[domains]]
name = "gone"
reply = "550 5.7.1 Nobody here, {helo}"
entries = ["gone.example"]

[[domains]]
name = "later"
reply = "421 4.7.0 Come back later"
entries = ["later.example"]
"#;

/// The program, in a directory that has to live as long; `None` if it cannot be made here.
fn compiled() -> Option<(PathBuf, TempDir)> {
    support::available(&["cc"]).then(|| {
        let directory = tempfile::tempdir().unwrap();
        (library::compile(SOURCE, &FLAGS, directory.path()), directory)
    })
}

fn start(program: &Path, policy: &str) -> Example {
    Example::start(program, policy, |port, policy| ["mx.example.org", "127.0.0.1", &port.to_string(), policy].map(String::from).into())
}

fn connect(greeter: &Example, last: u8) -> (String, Client) {
    let mut client = Client::connect(Ipv4Addr::new(127, 0, 0, last).into(), greeter.address()).unwrap();
    (client.greeting().to_string(), client)
}

#[test]
fn it_compiles_with_two_compilers_without_a_warning() {
    if !support::available(&["gcc", "clang"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for compiler in ["gcc", "clang"] {
        let warnings = ["-Wstrict-prototypes", "-Wmissing-prototypes"];
        library::compile_against(library::directory(), compiler, SOURCE, &[&FLAGS[..], &warnings].concat(), directory.path());
    }
}

#[test]
fn a_host_that_takes_no_mail_says_so_in_its_greeting() {
    let Some((program, _directory)) = compiled() else { return };
    let greeter = start(&program, "hostname = \"web1.example.org\"\nmode = \"no-mail\"\n");
    let greeting = "521 web1.example.org does not accept mail";

    let (line, mut client) = connect(&greeter, 1);
    assert_eq!(line, greeting);
    assert_eq!(client.command("QUIT").to_string(), "221 2.0.0 mx.example.org Bye");
    assert!(client.closed());

    // RFC 7504 section 3: any other command may get the reply once more, or the end of the connection. Here it is both.
    let (line, mut client) = connect(&greeter, 1);
    assert_eq!(line, greeting);
    assert!(!client.closed(), "it has to wait for QUIT");
    assert_eq!(client.command("EHLO client.example").to_string(), greeting);
    assert!(client.closed());
}

#[test]
fn each_code_has_a_greeting_and_what_follows_it() {
    let Some((program, _directory)) = compiled() else { return };
    let greeter = start(&program, POLICY);

    // RFC 5321 section 3.1: after 554 the server waits for QUIT, and answers 503.
    let (line, mut client) = connect(&greeter, 2);
    assert_eq!(line, "554 mx.example.org Service unavailable; client [127.0.0.2] blocked using listed");
    for command in ["EHLO client.example", "MAIL FROM:<sender@example.com>", "NOOP", "nonsense"] {
        assert_eq!(client.command(command).code, 503, "{command}");
    }
    assert_eq!(client.command("quit").code, 221);
    assert!(client.closed());

    let (line, mut client) = connect(&greeter, 3);
    assert_eq!(line, "521 mx.example.org Service unavailable; client [127.0.0.3] blocked using botnets");
    assert_eq!(client.command("HELO client.example").to_string(), line);
    assert!(client.closed());

    let (line, mut client) = connect(&greeter, 4);
    assert_eq!(line, "421 mx.example.org Too much traffic from [127.0.0.4]; try again later");
    assert!(client.closed());

    // The policy has changed.
    greeter.change(&POLICY.replace("hostname", "mode = \"draining\"\nhostname"), "the policy has changed\n");
    let (line, mut client) = connect(&greeter, 1);
    assert_eq!(line, "421 mx.example.org Service not available, shutting down; try again later");
    assert!(client.closed());
    greeter.change(POLICY, "the policy has changed\n");

    // A list that counts at RCPT only does not refuse here.
    let (line, mut client) = connect(&greeter, 9);
    assert_eq!(line, "220 mx.example.org ESMTP");
    client.command("EHLO client.example");
    client.command("MAIL FROM:<sender@example.com>");
    let reply = client.command("RCPT TO:<user@example.org>").to_string();
    assert_eq!(reply, "550 5.7.1 Service unavailable; client [127.0.0.9] blocked using at-rcpt");
    assert_eq!(client.command("RCPT TO:<postmaster@example.org>").code, 250);
}

#[test]
fn recipients_are_judged_one_by_one_and_no_message_is_taken() {
    let Some((program, _directory)) = compiled() else { return };
    let greeter = start(&program, POLICY);
    let (_, mut client) = connect(&greeter, 1);
    assert_eq!(client.command("EHLO client.example").to_string(), "250-mx.example.org\n250 ENHANCEDSTATUSCODES");
    for (command, reply) in [
        ("RCPT TO:<user@example.org>", "503 5.5.1 Need MAIL command"),
        ("MAIL FROM:sender@example.com", "500 5.5.2 Command not recognized, or without its argument in <>"),
        ("MAIL FROM:<sender@example.com", "500 5.5.2 Command not recognized, or without its argument in <>"),
        ("MAIL FROM: <sender@example.com> SIZE=100", "250 2.1.0 Ok"),
        ("MAIL FROM:<sender@example.com>", "503 5.5.1 Nested MAIL command"),
        ("DATA", "503 5.5.1 Need RCPT command"),
        ("RCPT TO:<user@parked.example>", "521 5.3.2 parked.example does not accept mail"),
        ("RCPT TO:<user@nomx.example> NOTIFY=NEVER", "556 5.1.10 nomx.example does not accept mail"),
        ("RCPT TO:<\"a>b\"@nomx.example>", "556 5.1.10 nomx.example does not accept mail"),
        ("RCPT TO:<\"a\\\">b\"@nomx.example>", "556 5.1.10 nomx.example does not accept mail"),
        ("rcpt to:<user@gone.example>", "550 5.7.1 Nobody here, client.example"),
        ("DATA", "503 5.5.1 Need RCPT command"),
        ("RCPT TO:<user@example.org>", "250 2.1.5 Ok"),
        ("DATA", "451 4.3.0 mx.example.org judges recipients and takes no messages"),
        ("RCPT TO:<user@example.org>", "503 5.5.1 Need MAIL command"),
        ("MAIL FROM:<>", "250 2.1.0 Ok"),
        ("RSET", "250 2.0.0 Ok"),
        ("RCPT TO:<user@example.org>", "503 5.5.1 Need MAIL command"),
        ("NOOP", "250 2.0.0 Ok"),
        ("MAIL FROM:<sender@example.com>", "250 2.1.0 Ok"),
        ("RCPT TO:<user@later.example>", "421 4.7.0 Come back later"),
    ] {
        assert_eq!(client.command(command).to_string(), reply, "{command}\n{}", client.transcript());
    }
    assert!(client.closed(), "the verdict says so");
}

#[test]
fn what_is_not_smtp_ends_the_session_and_not_the_program() {
    let Some((program, _directory)) = compiled() else { return };
    let greeter = start(&program, POLICY);
    for octets in [&b"MAIL FROM:<a\0b@example.com>\r\n"[..], &[b'x'; 4000]] {
        let (_, mut client) = connect(&greeter, 1);
        client.send_raw(octets);
        assert_eq!(client.read_reply().code, 421);
        assert!(client.closed());
    }
    let (_, mut client) = connect(&greeter, 1);
    (0..100).for_each(|_| assert_eq!(client.command("NOOP").code, 250));
    assert_eq!(client.command("NOOP").to_string(), "421 4.7.0 mx.example.org Too many commands; closing the connection");
    // Some come and go without a word, and forty at a time are more than there are threads.
    let clients: Vec<_> = (0..40).map(|_| Client::connect(Ipv4Addr::LOCALHOST.into(), greeter.address()).unwrap()).collect();
    drop(clients);
    assert_eq!(connect(&greeter, 1).0, "220 mx.example.org ESMTP");
}

/// A Postfix that delivers mail for refusing.example to the first of these hosts that takes it, and for anybody else but
/// example.com to the first; the sender, at example.com, gets his bounces through the sink.
fn sender(hosts: &[&Example], options: &[(&str, &str)]) -> Postfix {
    let hosts: Vec<String> = hosts.iter().map(|host| format!("[127.0.0.1]:{}", host.address().port())).collect();
    let transport = format!("inline:{{ {{ example.com = smtp:$relayhost }} {{ * = smtp:{} }} }}", hosts.join(", "));
    Postfix::start(&[&[("transport_maps", &*transport)], options].concat())
}

fn send(postfix: &Postfix, recipients: &[&str]) {
    // From an address that is not the one from which Postfix will connect.
    let mut client = Client::connect(Ipv4Addr::new(127, 0, 0, 7).into(), postfix.smtp()).unwrap();
    client.greeting();
    client.command("EHLO client.example");
    client.command("MAIL FROM:<sender@example.com>");
    recipients.iter().for_each(|recipient| assert_eq!(client.command(&format!("RCPT TO:<{recipient}>")).code, 250));
    assert_eq!(client.data("Subject: hello\n\nHello.\n").code, 250);
}

/// What Postfix logs of the delivery to a recipient: the DSN status, and what became of it.
fn outcome(postfix: &Postfix, recipient: &str) -> String {
    let to = format!("to=<{recipient}>, relay=127.0.0.1");
    assert!(postfix.wait_log(&to, PATIENCE), "{}", postfix.log());
    let log = postfix.log();
    let line = log.lines().find(|line| line.contains(&to)).unwrap();
    line[line.find("dsn=").unwrap()..].replace("127.0.0.1[127.0.0.1]", "greeter")
}

fn ready() -> Option<(PathBuf, TempDir)> {
    (support::available(&support::postfix::TOOLS) && support::root()).then(compiled).flatten()
}

/// A policy that refuses Postfix, which connects from 127.0.0.1, in the greeting.
fn refusing(reply: &str) -> String {
    POLICY.replace("\"127.0.0.2\"]", &format!("\"127.0.0.1\"]\nreply = \"{reply}\""))
}

const GREETINGS: [(&str, &str); 4] = [
    ("drop", "521 mx.example.org Service unavailable; client [127.0.0.1] blocked using listed"),
    ("policy", "554 mx.example.org Service unavailable; client [127.0.0.1] blocked using listed"),
    ("550 5.7.1 Not here", "554 mx.example.org Not here"),
    ("421 4.7.0 Come back later", "421 mx.example.org Come back later"),
];

#[test]
fn postfix_keeps_the_message_after_any_greeting_that_refuses() {
    let Some((program, _directory)) = ready() else { return };
    for (reply, greeting) in GREETINGS {
        let greeter = start(&program, &refusing(reply));
        let postfix = sender(&[&greeter], &[]);
        send(&postfix, &["user@example.org"]);
        let refused = format!("dsn=4.0.0, status=deferred (host greeter refused to talk to me: {greeting})");
        assert_eq!(outcome(&postfix, "user@example.org"), refused);
        // Nobody is told anything: the sink has got no bounce before this message.
        send(&postfix, &["sender@example.com"]);
        let delivered = postfix.wait_delivered(1, PATIENCE);
        assert!(delivered.len() == 1 && delivered[0].contains("Subject: hello"), "{delivered:?}");
        // It does not wait to be asked: after 521 and 554 it says QUIT.
        let quit = if greeting.starts_with("421") { "no QUIT" } else { "QUIT" };
        assert!(greeter.log().contains(&format!("greeting: {greeting}; {quit}\n")), "{}", greeter.log());
    }
}

#[test]
fn postfix_goes_on_to_the_next_host_after_any_greeting_that_refuses() {
    let Some((program, _directory)) = ready() else { return };
    let second = start(&program, "hostname = \"mx2.example.org\"\n");
    for (reply, greeting) in GREETINGS {
        let first = start(&program, &refusing(reply));
        let postfix = sender(&[&first, &second], &[]);
        send(&postfix, &["user@example.org"]);
        // The second host has heard it all, to DATA.
        let judged = "dsn=4.3.0, status=deferred (host greeter said: 451 4.3.0 mx.example.org judges recipients and takes no \
                      messages (in reply to DATA command))";
        assert_eq!(outcome(&postfix, "user@example.org"), judged);
        assert!(first.log().contains(greeting), "{}", first.log());
    }
}

#[test]
fn postfix_returns_the_message_after_a_5xx_greeting_if_it_is_told_to_or_when_it_gives_up() {
    let Some((program, _directory)) = ready() else { return };
    // A message that is given up after one attempt shows what the user reads five days later.
    for (option, value, status) in [("smtp_skip_5xx_greeting", "no", "5.0.0"), ("maximal_queue_lifetime", "0", "4.0.0")] {
        for (reply, greeting) in GREETINGS {
            let greeter = start(&program, &refusing(reply));
            let second = start(&program, "hostname = \"mx2.example.org\"\n");
            let hosts = if option == "smtp_skip_5xx_greeting" { &[&greeter, &second][..] } else { &[&greeter] };
            let postfix = sender(hosts, &[(option, value)]);
            send(&postfix, &["user@example.org"]);
            if option == "smtp_skip_5xx_greeting" && greeting.starts_with("421") {
                assert!(outcome(&postfix, "user@example.org").contains("451 4.3.0"), "a 421 sends it on to the next host");
                continue;
            }
            let outcome = outcome(&postfix, "user@example.org");
            assert!(outcome.starts_with(&format!("dsn={status}, status=")), "{outcome}");
            assert!(outcome.ends_with(&format!("(host greeter refused to talk to me: {greeting})")), "{outcome}");
            let bounce = &postfix.wait_delivered(1, PATIENCE)[0];
            for field in ["Action: failed".to_owned(), format!("Status: {status}"), format!("Diagnostic-Code: smtp; {greeting}")] {
                assert!(unfolded(bounce).contains(&field), "no {field:?} in\n{bounce}");
            }
        }
    }
}

/// A message with each header field on one line.
fn unfolded(message: &str) -> String {
    message.replace("\n    ", " ")
}

#[test]
fn postfix_returns_a_recipient_after_a_5xx_at_rcpt_and_keeps_the_others() {
    let Some((program, _directory)) = ready() else { return };
    let greeter = start(&program, POLICY);
    let postfix = sender(&[&greeter], &[]);
    let recipients = ["a@example.org", "b@parked.example", "c@nomx.example", "d@gone.example", "e@example.org"];
    send(&postfix, &recipients);
    let [first, parked, null_mx, gone, last] = recipients.map(|recipient| outcome(&postfix, recipient));
    let bounced = |reply: &str, dsn: &str| format!("dsn={dsn}, status=bounced (host greeter said: {reply} (in reply to RCPT TO command))");
    assert_eq!(parked, bounced("521 5.3.2 parked.example does not accept mail", "5.3.2"));
    assert_eq!(null_mx, bounced("556 5.1.10 nomx.example does not accept mail", "5.1.10"));
    assert_eq!(gone, bounced("550 5.7.1 Nobody here, mx.example.org", "5.7.1"));
    assert!(first.starts_with("dsn=4.3.0, status=deferred") && first == last, "{first} {last}");
    let bounce = unfolded(&postfix.wait_delivered(1, PATIENCE)[0]);
    for (recipient, dsn, reply) in [
        (recipients[1], "5.3.2", "521 5.3.2 parked.example does not accept mail"),
        (recipients[2], "5.1.10", "556 5.1.10 nomx.example does not accept mail"),
        (recipients[3], "5.7.1", "550 5.7.1 Nobody here, mx.example.org"),
    ] {
        let report =
            bounce.split("Final-Recipient: rfc822; ").find(|part| part.starts_with(recipient)).unwrap_or_else(|| panic!("{bounce}"));
        assert!(report.contains("Action: failed") && report.contains(&format!("Status: {dsn}\n")), "{report}");
        assert!(report.contains(&format!("Diagnostic-Code: smtp; {reply}\n")), "{report}");
    }
    assert!(!bounce.contains("Final-Recipient: rfc822; a@example.org"), "{bounce}");
}

/// 521 with hanging up (reply = "drop"), and 421, at RCPT: the recipient is settled, the others are tried again.
#[test]
fn postfix_settles_only_the_recipient_for_whom_a_server_hangs_up() {
    let Some((program, _directory)) = ready() else { return };
    let policy = POLICY.replace("\"127.0.0.9\"]", "\"127.0.0.1\"]\nreply = \"drop\"");
    for (policy, recipient, refused) in [
        (
            &*policy,
            "user@example.org",
            "dsn=5.7.1, status=bounced (host greeter said: 521 5.7.1 Service unavailable; client [127.0.0.1] blocked using at-rcpt (in reply to RCPT TO command))",
        ),
        (
            POLICY,
            "user@later.example",
            "dsn=4.7.0, status=deferred (host greeter said: 421 4.7.0 Come back later (in reply to RCPT TO command))",
        ),
    ] {
        let greeter = start(&program, policy);
        let postfix = sender(&[&greeter], &[]);
        send(&postfix, &["postmaster@example.org", recipient, "z@example.org"]);
        assert_eq!(outcome(&postfix, recipient), refused);
        for other in ["postmaster@example.org", "z@example.org"] {
            let outcome = outcome(&postfix, other);
            assert!(outcome.starts_with("dsn=4.4.2, status=deferred (lost connection with greeter while"), "{other}: {outcome}");
        }
    }
}
