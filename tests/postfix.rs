//! A real Postfix with the real daemon as its milter: what the client reads.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "what goes wrong here ends the test, with a message"
)]

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;
use support::corpus::{self, Case};
use support::postfix::Postfix;
use support::scenario;
use support::server::Server;
use support::smtp::{Client, Reply};

mod support;

const PROGRAM: &str = env!("CARGO_BIN_EXE_mxgate");
/// A recipient that no rule is about.
const NEUTRAL: &[u8] = b"<user@neutral.example>";

fn ready() -> bool {
    support::available(&support::postfix::TOOLS) && support::root()
}

fn start(policy: &str) -> (Server, Postfix) {
    let server = Server::start(Path::new(PROGRAM), policy);
    // Names in UTF-8 are on by default in a configuration that is not of ours (compatibility_level 1 and up).
    let options = [("smtpd_milters", &*server.address()), ("milter_default_action", "tempfail"), ("smtputf8_enable", "yes")];
    let postfix = Postfix::start(&options);
    (server, postfix)
}

/// A session up to MAIL for a client with that address, as a trusted proxy tells it (XCLIENT).
fn session(postfix: &Postfix, address: Option<IpAddr>, login: bool) -> Client {
    let (client, mail) = session_from(postfix, address, login, b"<sender@example.com>");
    assert_eq!(mail.code, 250);
    client
}

/// The same with a sender, and the reply to MAIL.
fn session_from(postfix: &Postfix, address: Option<IpAddr>, login: bool, sender: &[u8]) -> (Client, Reply) {
    let mut client = Client::connect(Ipv4Addr::LOCALHOST.into(), postfix.smtp()).unwrap();
    assert_eq!(client.greeting().code, 220);
    client.command("EHLO client.example");
    let address = match address {
        None => "[UNAVAILABLE]".to_owned(),
        Some(IpAddr::V4(v4)) => v4.to_string(),
        Some(IpAddr::V6(v6)) => format!("IPV6:{v6}"),
    };
    let login = if login { " LOGIN=user" } else { "" };
    assert_eq!(client.command(&format!("XCLIENT NAME=[UNAVAILABLE] ADDR={address}{login}")).code, 220);
    client.command("EHLO client.example");
    client.send_raw(&[b"MAIL FROM:", sender, b"\r\n"].concat());
    let reply = client.read_reply();
    (client, reply)
}

fn rcpt(client: &mut Client, recipient: &[u8]) -> Reply {
    client.send_raw(&[b"RCPT TO:", recipient, b"\r\n"].concat());
    client.read_reply()
}

#[test]
fn the_scenario_of_the_demo() {
    if !ready() {
        return;
    }
    let outcome = scenario::play(Path::new(PROGRAM));
    let scenes: Vec<&str> = outcome.scenes.iter().map(|scene| scene.transcript.as_str()).collect();
    let hang_up = "*** server closed the connection\n";
    let refused = |reply: &str| format!("C: RCPT TO:<user@example.org>\nS: {reply}\n");
    let accepted = "C: RCPT TO:<user@example.org>\nS: 250 2.1.5 Ok\n";
    let [clean, listed, postmaster, allowed, dropped, null_mx, parked, maintenance] = scenes[..] else { panic!("{scenes:?}") };
    assert!(clean.contains(accepted) && clean.contains("S: 250 2.0.0 Ok: queued as "), "{clean}");
    let reply = refused("550 5.7.1 Service unavailable; client [127.0.0.20] blocked using local") + "C: QUIT\nS: 221 2.0.0 Bye\n";
    assert!(listed.contains(&reply), "{listed}");
    assert!(postmaster.contains("RCPT TO:<postmaster@example.org>\nS: 250 2.1.5 Ok\n") && postmaster.contains("queued as"), "{postmaster}");
    assert!(allowed.contains(accepted) && allowed.contains("queued as"), "{allowed}");
    assert!(
        dropped.ends_with(&(refused("521 5.7.1 Service unavailable; client [127.0.0.40] blocked using botnets") + hang_up)),
        "{dropped}"
    );
    let reply = "C: RCPT TO:<user@www.nomx.example>\nS: 556 5.1.10 www.nomx.example does not accept mail\n";
    assert!(null_mx.contains(&format!("{reply}{accepted}")) && null_mx.contains("queued as"), "{null_mx}");
    let reply = "C: RCPT TO:<user@parked.example>\nS: 521 5.3.2 parked.example does not accept mail\n";
    assert!(parked.ends_with(&format!("{reply}{hang_up}")), "{parked}");
    let reply = refused("421 4.3.2 mx.example.org Service not available, maintenance; try again later");
    assert!(maintenance.ends_with(&(reply + hang_up)), "{maintenance}");

    let recipients = |count: usize, name: &str| {
        let found = outcome.delivered.iter().filter(|message| message.contains(&format!("<{name}@example.org>"))).count();
        assert_eq!(found, count, "{name}: {:?}", outcome.delivered);
    };
    recipients(3, "user");
    recipients(1, "postmaster");
    assert_eq!(outcome.delivered.len(), 4);
}

/// The policy of a group with the full path of its files, since the daemon reads it from a directory of its own.
fn policy_of(group: &corpus::Group) -> String {
    let directory = group.policy.parent().unwrap().display();
    fs::read_to_string(&group.policy).unwrap().replace("file = \"", &format!("file = \"{directory}/"))
}

#[test]
fn the_corpus_through_the_wire() {
    if !ready() {
        return;
    }
    let (server, postfix) = start("hostname = \"mx.example.org\"\n");
    for group in corpus::groups() {
        server.reload(&policy_of(&group));
        let (cases, others): (Vec<_>, Vec<_>) = group.cases.iter().partition(|case| case.suits_a_milter());
        if !others.is_empty() {
            println!("not asked through a milter: {} questions of {}, from {}", others.len(), group.policy.display(), others[0].place);
        }
        for case in cases {
            // Without a recipient the question is about the connection; the milter answers it at RCPT.
            let mut sender = bracketed(case.sender.as_deref().unwrap_or(b"<sender@example.com>"));
            if !sender.is_ascii() || case.recipient.as_ref().is_some_and(|recipient| !recipient.is_ascii()) {
                // RFC 6531 section 3.4: the client says that addresses are in UTF-8.
                sender.extend(b" SMTPUTF8");
            }
            let (mut client, mail) = session_from(&postfix, case.client, case.authenticated, &sender);
            if mail.code != 250 {
                println!("{}: Postfix does not take the sender: {mail}", case.place);
                continue;
            }
            let reply = rcpt(&mut client, &argument(case));
            check(case, &reply, &mut client);
        }
    }
}

/// The recipient as an argument of RCPT.
fn argument(case: &Case) -> Vec<u8> {
    case.recipient.as_deref().map_or_else(|| NEUTRAL.to_vec(), bracketed)
}

fn bracketed(address: &[u8]) -> Vec<u8> {
    if address.starts_with(b"<") { address.to_vec() } else { [b"<", address, b">"].concat() }
}

fn check(case: &Case, reply: &Reply, client: &mut Client) {
    let place = &case.place;
    match &case.answer.reply {
        // Postfix refuses by itself what is not an address, before the relay rule can.
        Some(_) if matches!(reply.code, 500 | 501) && case.answer.decided == "relay" => {}
        Some(expected) => {
            assert_eq!(&reply.to_string(), expected, "{place}\n{}", client.transcript());
            assert!(reply.is_one_harmless_line(), "{place}: {reply}");
            // Postfix hangs up after 421 and 521, whoever says them and whatever they are about.
            if matches!(reply.code, 421 | 521) {
                assert!(client.closed(), "{place}");
            }
        }
        None => assert!(matches!(reply.code, 250 | 500 | 501), "{place}: {reply}"),
    }
}

#[test]
fn no_value_in_a_reply_reaches_the_client_as_more_than_one_harmless_line() {
    if !ready() {
        return;
    }
    let (server, postfix) = start("hostname = \"mx.example.org\"\n");
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("list.txt");
    let long = "x".repeat(2000);
    let hostile: [&[u8]; 9] = [
        b"a\r250 2.1.5 Ok",
        b"a\\r\\n250 2.1.5 Ok",
        b"100% %s %n %%n %",
        b"caf\xc3\xa9 \xff\xfe\x80",
        b"\x1b[31mred\x07\x7f",
        b"nul\0nul",
        long.as_bytes(),
        b"550-5.7.1 more",
        b"{ip} {reason}",
    ];
    let lines = hostile.iter().zip(1..).map(|(reason, n)| [format!("192.0.2.{n} ").as_bytes(), reason, b"\n"].concat());
    fs::write(&list, lines.collect::<Vec<_>>().concat()).unwrap();
    for reply in ["550 5.7.1 {reason}", "550 5.7.1 {reason}{reason}{reason} 100% {list}", "554 5.7.1 Not {domain}: {reason}"] {
        // A line break can come in through a string of the policy, where it may be written as an escape.
        let policy = format!(
            "hostname = \"mx.example.org\"\n[[list]]\nname = \"hostile\"\nfile = \"{}\"\nreply = \"{reply}\"\n\
             [[list]]\nname = \"inline\"\nentries = [\"192.0.2.10 a\\r\\n250 2.1.5 Ok\\nb\"]\nreply = \"{reply}\"\n",
            list.display()
        );
        server.reload(&policy);
        for n in 1..=10 {
            let mut client = session(&postfix, Some(Ipv4Addr::new(192, 0, 2, n).into()), false);
            let domain = format!("<user@a{}.example>", "b".repeat(usize::from(n) * 6));
            let reply = rcpt(&mut client, domain.as_bytes());
            assert!(matches!(reply.code, 550 | 554) && reply.is_one_harmless_line(), "{n}: {:?}", reply.raw.escape_ascii().to_string());
            // Nothing was left over that the client would take for the reply to its next command.
            assert_eq!(client.command("NOOP").to_string(), "250 2.0.0 Ok", "{}", client.transcript());
            assert!(client.stray(Duration::from_millis(20)).is_empty());
        }
    }
}

#[test]
fn each_recipient_is_judged_alone_and_the_session_goes_on() {
    if !ready() {
        return;
    }
    let policy = "hostname = \"mx.example.org\"\n[[domains]]\nname = \"nomx\"\nkind = \"null-mx\"\nentries = [\"nomx.example\"]\n";
    let (_server, postfix) = start(policy);
    let mut client = session(&postfix, Some(Ipv4Addr::new(192, 0, 2, 1).into()), false);
    // Pipelined, twice in one session, with a RSET between them.
    for _ in 0..2 {
        client.send_raw(
            b"RCPT TO:<a@example.org>\r\nRCPT TO:<b@nomx.example>\r\nRCPT TO:<c@example.org>\r\nRCPT TO:<d@nomx.example>\r\nRSET\r\n",
        );
        let replies: Vec<u16> = (0..5).map(|_| client.read_reply().code).collect();
        assert_eq!(replies, [250, 556, 250, 556, 250], "{}", client.transcript());
        assert_eq!(client.command("MAIL FROM:<sender@example.com>").code, 250);
    }
    // What Postfix makes of the argument counts, not the argument.
    for (argument, code) in [
        ("<user%nomx.example@localhost>", 250),
        ("<b@example.org@nomx.example>", 556),
        ("<@example.org:user@nomx.example>", 556),
        ("<@nomx.example:user@example.org>", 250),
        ("<\"user@nomx.example\"@example.org>", 250),
        ("user@nomx.example", 556),
        ("<user @nomx.example>", 556),
        ("<user@NOMX.Example.>", 556),
    ] {
        let reply = rcpt(&mut client, argument.as_bytes());
        assert_eq!(reply.code, code, "{argument}: {reply}");
    }
}

#[test]
fn a_list_that_counts_at_connect_refuses_there() {
    if !ready() {
        return;
    }
    let policy = "hostname = \"mx.example.org\"\nnever_block.loopback = false\n\
                  [[list]]\nname = \"late\"\nentries = [\"127.0.0.41\"]\n\
                  [[list]]\nname = \"early\"\nat = \"connect\"\nentries = [\"127.0.0.40/31\"]\n";
    let (_server, postfix) = start(policy);
    let greet = |last| {
        let mut client = Client::connect(Ipv4Addr::new(127, 0, 0, last).into(), postfix.smtp()).unwrap();
        (client.greeting().to_string(), client)
    };
    // Postfix has a greeting of its own, and gives our text from MAIL on.
    let (greeting, mut client) = greet(40);
    assert_eq!(greeting, "554 mx.example.org ESMTP not accepting connections");
    client.command("EHLO client.example");
    let reply = client.command("MAIL FROM:<sender@example.com>").to_string();
    assert_eq!(reply, "550 5.7.1 Service unavailable; client [127.0.0.40] blocked using early");
    let (greeting, mut client) = greet(42);
    assert!(greeting.starts_with("220 "), "{greeting}");
    client.command("EHLO client.example");
    client.command("MAIL FROM:<sender@example.com>");
    assert_eq!(rcpt(&mut client, NEUTRAL).code, 250);
    // The list before has no say at CONNECT, so that this one decides there.
    assert!(greet(41).0.starts_with("554 "));
}

#[test]
fn mail_is_not_lost_when_the_daemon_goes_away() {
    if !ready() {
        return;
    }
    let server = Server::start(Path::new(PROGRAM), "hostname = \"mx.example.org\"\nmode = \"no-mail\"\n");
    let address = server.address();
    let postfix = Postfix::start(&[("smtpd_milters", &address), ("milter_default_action", "accept")]);
    let mut client = session(&postfix, None, false);
    let reply = rcpt(&mut client, NEUTRAL);
    assert_eq!(reply.to_string(), "521 5.3.2 mx.example.org does not accept mail");
    drop(server);
    let mut client = session(&postfix, None, false);
    assert_eq!(rcpt(&mut client, NEUTRAL).code, 250);
}

/// Mail submitted on the host itself (sendmail(1)), should somebody put the daemon into non_smtpd_milters: a refusal
/// there would make Postfix try the message again for ever.
#[test]
fn local_submission_is_never_refused() {
    if !ready() {
        return;
    }
    let policy = "hostname = \"mx.example.org\"\nnever_block.loopback = false\n[[list]]\nname = \"all\"\nentries = [\"127.0.0.0/8\"]\n";
    let server = Server::start(Path::new(PROGRAM), policy);
    let postfix = Postfix::start(&[("non_smtpd_milters", &server.address()), ("milter_default_action", "tempfail")]);
    let sendmail = support::find("sendmail").unwrap();
    let message = b"From: sender@example.com\nTo: user@example.org\nSubject: local\n\nHello.\n";
    let mut child = std::process::Command::new(sendmail)
        .arg("-C")
        .arg(postfix.dir().join("config"))
        .args(["-f", "sender@example.com", "user@example.org"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), message).unwrap();
    assert!(child.wait().unwrap().success());
    let delivered = postfix.wait_delivered(1, Duration::from_secs(20));
    assert!(delivered[0].contains("Subject: local"), "{delivered:?}");
}
