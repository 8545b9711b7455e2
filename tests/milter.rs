//! What a mail server gets from a milter session, for the rules of a policy: the session is driven through its public
//! interface, and its answers are read byte by byte.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what goes wrong here ends the test, with a message")]

use mxgate::milter::codec::{Command, Connect, Macros, Options};
use mxgate::milter::{Progress, Session};
use mxgate::{Decider, Gate};

const POLICY: &str = r#"
hostname = "mx.example.org"

[[list]]
name = "partners"
allow = true
entries = ["192.0.2.128/25"]

[[list]]
name = "local"
entries = ["192.0.2.0/24", "2001:db8:bad::/48"]

[[list]]
name = "tricky"
entries = ["203.0.113.7 100% %s%n sure"]
reply = "550 5.7.1 Now 50% off: {reason}"

[[domains]]
name = "parked"
entries = ["parked.example", "*.web.example"]

[[domains]]
name = "null"
kind = "null-mx"
entries = ["nomx.example"]
"#;

const BLOCKED: &str = "550 5.7.1 Service unavailable; client [192.0.2.7] blocked using local";
const PARKED: &str = "521 5.3.2 parked.example does not accept mail";

fn gate(policy: &str) -> Gate {
    let gate = Gate::new();
    assert_eq!(gate.load_text(policy, "policy").unwrap(), []);
    gate
}

/// Rules that go by the sender, and by who may write to whom.
const RULES: &str = r#"
hostname = "mx.example.org"
[relay]
local = ["example.org"]
[[senders]]
name = "spam"
entries = ["spam.example", "straße.example"]
[[recipients]]
name = "inside"
kind = "internal-only"
entries = ["staff@"]
"#;

/// A mail server of which one thing at a time is asked.
struct MailServer<'g> {
    gate: &'g Gate,
    session: Session,
    /// Client, sender, recipient, list of each refusal.
    refusals: Vec<String>,
}

impl<'g> MailServer<'g> {
    /// A session after the negotiation as Postfix and Sendmail do it.
    fn new(gate: &'g Gate) -> MailServer<'g> {
        let mut server = MailServer { gate, session: Session::new(gate.stages()), refusals: Vec::new() };
        let offer = Command::OptNeg(Options { version: 6, actions: 0x1ff, protocol: 0x1f_ffff });
        assert_eq!(server.send(&offer)[4], b'O');
        server
    }

    /// A session of which the client is already known.
    fn with_client(gate: &'g Gate, address: &str) -> MailServer<'g> {
        let mut server = MailServer::new(gate);
        server.connect(b"client.example", b'4', 4321, address.as_bytes());
        server
    }

    fn send(&mut self, command: &Command<'_>) -> Vec<u8> {
        let (mut input, mut out) = (Vec::new(), Vec::new());
        command.encode(&mut input);
        let refusals = &mut self.refusals;
        let progress = self.session.feed(self.gate, &input, &mut out, &mut |refusal| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let client = refusal.client.map_or("?".into(), |client| client.to_string());
            let sender = refusal.sender.map_or("?".into(), text);
            refusals.push(format!("{client} {sender} {} {}", text(refusal.recipient.unwrap_or_default()), refusal.verdict.list));
            assert_eq!(refusal.verdict.rejection.unwrap().reply().as_str(), refusal.reply);
        });
        assert_eq!(progress, Ok(Progress::Open));
        out
    }

    fn connect(&mut self, host: &[u8], family: u8, port: u16, address: &[u8]) {
        assert_eq!(self.send(&Command::Connect(Connect { host, family, port, address })), b"", "nobody waits for this answer");
    }

    fn macros(&mut self, stage: u8, macros: &[(&str, &str)]) {
        let body: String = macros.iter().map(|(name, value)| format!("{{{name}}}\0{value}\0")).collect();
        assert_eq!(self.send(&Command::Macro(stage, Macros(body.as_bytes()))), b"");
    }

    /// The reply to a recipient; `None` if it is accepted.
    fn rcpt(&mut self, recipient: &str) -> Option<String> {
        let answer = self.send(&Command::Rcpt(recipient.as_bytes()));
        let length = usize::try_from(u32::from_be_bytes(*answer.first_chunk().unwrap())).unwrap();
        assert_eq!(answer.len(), 4 + length, "one packet");
        match &answer[4..] {
            b"c" => None,
            [b'y', line @ .., 0] => Some(String::from_utf8(line.to_vec()).unwrap()),
            other => panic!("unexpected answer {}", other.escape_ascii()),
        }
    }
}

#[test]
fn clients_are_known_by_whatever_their_mail_server_writes() {
    let gate = gate(POLICY);
    for (family, address, ip) in [
        (b'4', "192.0.2.7", Some("192.0.2.7")),
        (b'4', "::ffff:192.0.2.7", Some("192.0.2.7")),
        (b'4', "IPv6:::ffff:192.0.2.7", Some("192.0.2.7")),
        (b'6', "2001:db8:bad::1", Some("2001:db8:bad::1")),
        (b'6', "IPv6:2001:db8:bad:0:0:0:0:1", Some("2001:db8:bad::1")),
        (b'6', "ipv6:2001:DB8:BAD::1", Some("2001:db8:bad::1")),
        (b'6', "[2001:db8:bad::1]", Some("2001:db8:bad::1")),
        (b'4', "192.0.2.200", None),
        (b'4', "198.51.100.1", None),
        (b'6', "2001:db8:900d::1", None),
        (b'4', "unknown", None),
        (b'4', "192.0.2.007", None),
        (b'L', "192.0.2.7", None),
        (b'U', "", None),
    ] {
        let mut server = MailServer::new(&gate);
        server.connect(b"client.example", family, 4321, address.as_bytes());
        let want = ip.map(|ip| format!("550 5.7.1 Service unavailable; client [{ip}] blocked using local"));
        assert_eq!(server.rcpt("<user@example.org>"), want, "{address}");
        assert_eq!(server.refusals.len(), usize::from(ip.is_some()));
    }
}

#[test]
fn postmaster_and_who_has_authenticated_get_through() {
    let gate = gate(POLICY);
    let mut server = MailServer::with_client(&gate, "192.0.2.7");
    server.macros(b'M', &[("mail_addr", "a@s.example")]);
    assert_eq!(server.rcpt("<user@example.org>").as_deref(), Some(BLOCKED));
    assert_eq!(server.rcpt("<postmaster@example.org>"), None);
    assert_eq!(server.rcpt("<Postmaster>"), None);
    assert_eq!(server.rcpt("abuse@example.org"), None);
    assert_eq!(server.rcpt("<postmaster@parked.example>").as_deref(), Some(PARKED), "there is no such mailbox");
    assert_eq!(
        server.refusals,
        ["192.0.2.7 a@s.example <user@example.org> local", "192.0.2.7 a@s.example <postmaster@parked.example> parked"]
    );

    server.send(&Command::Abort);
    server.macros(b'M', &[("auth_type", "PLAIN"), ("auth_authen", "user"), ("mail_addr", "a@s.example")]);
    assert_eq!(server.rcpt("<user@example.org>"), None);
    assert_eq!(server.rcpt("<user@parked.example>").as_deref(), Some(PARKED), "a domain without mail has none for them either");
    server.send(&Command::Abort);
    assert_eq!(server.rcpt("<user@example.org>").as_deref(), Some(BLOCKED));
    server.macros(b'R', &[("auth_authen", "user")]);
    assert_eq!(server.rcpt("<user@example.org>"), None);
    assert_eq!(server.rcpt("<user@example.org>").as_deref(), Some(BLOCKED));
}

#[test]
fn domains_without_mail() {
    let gate = gate(POLICY);
    let mut server = MailServer::with_client(&gate, "198.51.100.1");
    for (recipient, reply) in [
        ("<user@parked.example>", Some(PARKED)),
        ("user@PARKED.example.", Some(PARKED)),
        ("<@a.example,@b.example:user@parked.example>", Some(PARKED)),
        ("<\"a@b\"@parked.example>", Some(PARKED)),
        ("<user@sub.parked.example>", None),
        ("<user@a.b.web.example>", Some("521 5.3.2 a.b.web.example does not accept mail")),
        ("<user@web.example>", None),
        ("<user@nomx.example>", Some("556 5.1.10 nomx.example does not accept mail")),
        ("<user@notparked.example>", None),
        ("<user@[192.0.2.7]>", None),
        ("<>", None),
        ("", None),
    ] {
        assert_eq!(server.rcpt(recipient).as_deref(), reply, "{recipient}");
    }
}

#[test]
fn the_domain_is_that_which_the_mail_server_resolved() {
    let gate = gate(POLICY);
    let mut server = MailServer::with_client(&gate, "198.51.100.1");
    for (argument, address, mailer, reply) in [
        // Postfix routes these to the domain before the last @, or before the percent sign.
        ("<user%parked.example@example.org>", "user@parked.example", "smtp", Some(PARKED)),
        ("<user@parked.example@example.org>", "user@parked.example", "smtp", Some(PARKED)),
        ("<user%example.org@parked.example>", "user@example.org", "smtp", None),
        // It has no opinion, or one that is not an address.
        ("<user@parked.example>", "5.1.1 user unknown", "error", Some(PARKED)),
        ("<user@parked.example>", "user@example.org", "error", Some(PARKED)),
        ("<user@parked.example>", "user", "local", Some(PARKED)),
        ("<user@parked.example>", "", "local", Some(PARKED)),
        ("<user@example.org>", "user@parked.example", "", None),
    ] {
        server.macros(b'R', &[("rcpt_mailer", mailer), ("rcpt_host", "h"), ("rcpt_addr", address)]);
        assert_eq!(server.rcpt(argument).as_deref(), reply, "{argument} {address}");
    }
    server.macros(b'R', &[("rcpt_addr", "user@parked.example")]);
    assert_eq!(server.rcpt("<user@example.org>"), None, "without a mailer it is not known to be an address");
}

#[test]
fn senders_are_known_by_their_macro_or_by_mail() {
    let gate = gate(RULES);
    let spam = Some("550 5.7.1 Sender address rejected: blocked using spam".to_owned());
    let mut server = MailServer::with_client(&gate, "198.51.100.1");
    // MAIL left out, as a session that began before the rules about senders has it.
    for (sender, reply) in [("a@spam.example", &spam), ("a@s.example", &None), ("", &None), ("<>", &None)] {
        server.macros(b'M', &[("mail_addr", sender)]);
        assert_eq!(&server.rcpt("<user@example.org>"), reply, "{sender}");
        assert_eq!(server.rcpt("<postmaster@example.org>"), None);
    }
    // The macro after the case folding of Postfix, and what the client wrote.
    server.macros(b'M', &[("mail_addr", "a@strasse.example")]);
    assert_eq!(server.send(&Command::Mail("<a@stra\u{df}e.example>".as_bytes())), b"", "nobody waits for this answer");
    assert_eq!(server.rcpt("<user@example.org>"), spam);
    server.send(&Command::Abort);
    server.send(&Command::Mail(b"<>"));
    assert_eq!(server.rcpt("<user@example.org>"), None);
    server.send(&Command::Abort);
    assert_eq!(server.rcpt("<user@example.org>"), None, "what was before is forgotten");
}

#[test]
fn the_relay_rule_goes_by_what_the_mail_server_resolved() {
    let gate = gate(RULES);
    let denied = Some("550 5.7.1 Relaying denied");
    let mut server = MailServer::with_client(&gate, "198.51.100.1");
    for (argument, address, reply) in [
        ("<user@example.org>", "user@example.org", None),
        ("<user%other.example@example.org>", "user@other.example", denied),
        ("<user%example.org@other.example>", "user@example.org", None),
        // It follows no way, but whoever comes after it may.
        ("<user%other.example@example.org>", "user%other.example@example.org", denied),
        // Its own name need not be in the policy.
        ("<postmaster>", "postmaster@host.example.org", None),
        ("<user%other.example>", "user@other.example", denied),
        ("<staff>", "staff@host.example.org", Some("550 5.7.1 Recipient address rejected: takes mail from authorized senders only")),
    ] {
        server.macros(b'R', &[("rcpt_mailer", "smtp"), ("rcpt_host", "h"), ("rcpt_addr", address)]);
        assert_eq!(server.rcpt(argument).as_deref(), reply, "{argument} {address}");
    }
    // Users of the server itself are not in a trusted network by name, but have authenticated.
    server.macros(b'M', &[("auth_authen", "user"), ("mail_addr", "a@s.example")]);
    assert_eq!(server.rcpt("<user@other.example>"), None);
}

#[test]
fn whatever_a_list_says_reaches_the_client_as_one_line() {
    let gate = gate(POLICY);
    let mut server = MailServer::with_client(&gate, "203.0.113.7");
    // A `%` of the administrator is doubled for the mail server, one of a list is not let through.
    assert_eq!(server.rcpt("<user@example.org>").as_deref(), Some("550 5.7.1 Now 50%% off: 100? ?s?n sure"));
}

#[test]
fn mail_submitted_on_this_host_is_never_refused() {
    let gate = gate(&format!("mode = \"no-mail\"\n{POLICY}"));
    let refuses = |host: &[u8], family, port, address: &[u8]| {
        let mut server = MailServer::new(&gate);
        server.connect(host, family, port, address);
        let refused = server.rcpt("user@parked.example").is_some();
        assert_eq!(server.rcpt("user@example.org").is_some(), refused);
        refused
    };
    assert!(!refuses(b"localhost", b'4', 0, b"127.0.0.1"));
    for (host, family, port, address) in [
        (&b"localhost"[..], b'4', 25, &b"127.0.0.1"[..]),
        (b"localhost", b'4', 0, b"192.0.2.7"),
        (b"localhost", b'U', 0, b""),
        (b"client.example", b'4', 0, b"127.0.0.1"),
    ] {
        assert!(refuses(host, family, port, address));
    }
}

#[test]
fn modes_refuse_everybody_and_the_rules_in_force_count() {
    let gate = gate(POLICY);
    let mut server = MailServer::with_client(&gate, "198.51.100.1");
    assert_eq!(server.rcpt("<user@example.org>"), None);
    gate.load_text(&format!("mode = \"maintenance\"\n{POLICY}"), "policy").unwrap();
    let reply = server.rcpt("<user@example.org>").unwrap();
    assert!(reply.starts_with("421 4.3.2 mx.example.org Service not available"), "{reply}");
    assert_eq!(gate.check_rcpt(&mxgate::Facts::default()).decider, Decider::Mode);
    gate.load_text(POLICY, "policy").unwrap();
    assert_eq!(server.rcpt("<user@example.org>"), None);
    // A gate without rules accepts: nothing that is missing becomes a refusal.
    let empty = Gate::new();
    assert_eq!(MailServer::with_client(&empty, "192.0.2.7").rcpt("<user@parked.example>"), None);
}

/// Connections are counted at CONNECT, and refused at RCPT, where it is known who is exempt.
#[test]
fn clients_with_too_many_sessions_are_put_off_until_one_of_them_ends() {
    let gate = gate("hostname = \"mx.example.org\"\n[limits]\nconcurrent = 2\nexempt = [\"authenticated\", \"postmaster\"]\n");
    let mut servers: Vec<MailServer<'_>> = (0..3).map(|_| MailServer::with_client(&gate, "192.0.2.7")).collect();
    assert_eq!(servers[0].rcpt("<user@example.org>").or(servers[1].rcpt("<user@example.org>")), None);
    let reply = servers[2].rcpt("<user@example.org>").unwrap();
    assert!(reply.starts_with("421 4.7.0 Too much traffic from [192.0.2.7]; try again in "), "{reply}");
    // The same session, until it is over; but not mail to postmaster, nor of users.
    assert!(servers[2].rcpt("<other@example.org>").is_some());
    assert_eq!(servers[2].rcpt("<postmaster@example.org>"), None);
    servers[2].macros(b'M', &[("mail_addr", "a@example.com"), ("auth_authen", "user")]);
    assert_eq!(servers[2].rcpt("<user@example.org>"), None);
    assert_eq!(MailServer::with_client(&gate, "192.0.2.8").rcpt("<user@example.org>"), None);
    // However a session ends: the mail server closes, the client quits and another one comes, or it breaks off.
    let mut ended = servers.remove(0);
    ended.session.end(&gate);
    ended.session.end(&gate);
    assert_eq!(MailServer::with_client(&gate, "192.0.2.7").rcpt("<user@example.org>"), None);
    assert!(MailServer::with_client(&gate, "192.0.2.7").rcpt("<user@example.org>").is_some());
    assert_eq!(servers[0].send(&Command::QuitNewConnection), b"");
    assert_eq!(MailServer::with_client(&gate, "192.0.2.7").rcpt("<user@example.org>"), None);
    assert!(MailServer::with_client(&gate, "192.0.2.7").rcpt("<user@example.org>").is_some());
    // One that was refused takes nobody's place, and its end gives none back.
    servers[1].session.end(&gate);
    assert!(MailServer::with_client(&gate, "192.0.2.7").rcpt("<user@example.org>").is_some());
}
