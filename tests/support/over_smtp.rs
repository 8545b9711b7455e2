//! What an SMTP client of a real mail server reads, for the tests of each: whole sessions under one policy, word by word, and
//! questions of the corpus, to which the client should read the verdict as `mxgate::wire` says that this mail server sends
//! it.

use super::corpus::{self, Answer, Case, Group};
use super::scenario;
use super::smtp::{Client, Reply};
use mxgate::wire::{Connection, Envelope, Profile, on_wire};
use mxgate::{Facts, Gate, Rejection, Stage, Verdict};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The replies that the policy of the demo lacks.
const MORE_REPLIES: &str = r#"
[[list]]
name = "later"
reply = "throttle-soft"
entries = ["127.0.0.50"]

[[list]]
name = "crowd"
reply = "throttle"
entries = ["127.0.0.60"]

[[list]]
name = "late"
at = "rcpt"
reply = "drop"
entries = ["127.0.0.70"]

[[list]]
name = "late-crowd"
at = "rcpt"
reply = "throttle"
entries = ["127.0.0.80"]
"#;

/// The end of a transcript.
pub const CLOSED: &str = "*** server closed the connection\n";

/// The policy of whole sessions: that of the demo, and more.
pub fn policy() -> String {
    format!("{}{MORE_REPLIES}", scenario::POLICY)
}

/// The address of a client.
pub fn client(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

/// A mail server with a policy of the corpus.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    pub profile: Profile,
    /// Where it takes mail from clients that speak the PROXY protocol.
    pub proxied: SocketAddr,
    /// The address from which they do.
    pub proxy: IpAddr,
    /// If they come from this one instead, the host lets everybody through at CONNECT.
    pub rcpt_only: Option<IpAddr>,
}

/// How many questions were asked.
#[derive(Debug, Default)]
pub struct Tally {
    /// Answered at CONNECT, as they should be.
    pub at_connect: usize,
    /// Answered at RCPT, as they should be.
    pub at_rcpt: usize,
    /// Not answered at RCPT; by reason.
    pub left_out: BTreeMap<&'static str, usize>,
}

/// Asks everything that can be asked. `with` starts the host with the policy of a group, and gives it to its argument.
pub fn ask_all(with: impl Fn(&Group, &mut dyn FnMut(Host))) -> Tally {
    let mut tally = Tally::default();
    for group in corpus::groups() {
        let gate = Gate::new();
        gate.load_file(&group.policy).unwrap_or_else(|error| panic!("{error}"));
        with(&group, &mut |host| {
            for case in &group.cases {
                match ask(host, &gate, case, &mut tally.at_connect) {
                    Ok(()) => tally.at_rcpt += 1,
                    Err(reason) => *tally.left_out.entry(reason).or_default() += 1,
                }
            }
        });
    }
    tally
}

/// Asks one question; the error says why not.
fn ask(host: Host, gate: &Gate, case: &Case, at_connect: &mut usize) -> Result<(), &'static str> {
    let client = case.client.ok_or("there is no client without an address")?;
    if !case.suits_a_milter() {
        return Err("results of SPF, DKIM, DMARC and reverse DNS cannot be told");
    }
    let recipient = case.recipient.as_deref().unwrap_or(b"<user@neutral.example>");
    if host.profile == Profile::Exim && !recipient.contains(&b'@') {
        return Err("recipients without a domain are completed by Exim");
    }
    let connect = |proxy| {
        let mut session = Client::connect(proxy, host.proxied).unwrap();
        session.proxy(client);
        let greeting = session.greeting();
        (session, greeting)
    };
    // At CONNECT the hosts refuse what they are to hang up on.
    let early = gate.check_connect(&Facts { address: Some(client), ..Facts::default() });
    if let Some(rejection) = early.rejection.filter(|rejection| rejection.hang_up) {
        let (mut session, greeting) = connect(host.proxy);
        check(host.profile, Stage::Connect, &rejection, &greeting, &mut session, case);
        *at_connect += 1;
        if host.rcpt_only.is_none() {
            return Err("refused at CONNECT");
        }
    }
    let (mut session, greeting) = connect(host.rcpt_only.unwrap_or(host.proxy));
    assert_eq!(greeting.code, 220, "{}: {greeting}", case.place);
    let ehlo = session.command("EHLO client.example");
    assert_eq!(ehlo.code, 250, "{ehlo}");
    let offers = |extension| ehlo.text().lines().any(|line| line == extension);
    if case.authenticated {
        if !offers("AUTH PLAIN") {
            return Err("clients cannot log in");
        }
        assert_eq!(session.command("AUTH PLAIN AHVzZXIAc2VjcmV0").code, 235);
    }
    let sender = case.sender.as_deref().unwrap_or(b"<sender@example.com>");
    let utf8: &[u8] = if !offers("SMTPUTF8") || sender.is_ascii() && recipient.is_ascii() { b"" } else { b" SMTPUTF8" };
    let mail = command(&mut session, b"MAIL FROM:", sender, utf8);
    let reply = if mail.code == 250 { command(&mut session, b"RCPT TO:", recipient, b"") } else { mail };
    match at_rcpt(gate, case, recipient).rejection {
        Some(rejection) if !syntax(&reply) => check(host.profile, Stage::Rcpt, &rejection, &reply, &mut session, case),
        None if reply.code == 250 => {}
        _ if syntax(&reply) => return Err("the mail server takes it for no address"),
        _ => panic!("{}: {reply}", case.place),
    }
    Ok(())
}

/// The verdict as the corpus has it. A question about the connection is answered at RCPT.
fn at_rcpt(gate: &Gate, case: &Case, recipient: &[u8]) -> Verdict {
    let verdict = case.ask(gate);
    assert_eq!(Answer::of(&verdict), case.answer, "{}", case.place);
    if case.recipient.is_some() {
        return verdict;
    }
    gate.check_rcpt(&Facts { recipient: Some(recipient), ..case.facts() })
}

/// Is it what a mail server says about an address that is none, or that it cannot do (UTF-8)?
fn syntax(reply: &Reply) -> bool {
    matches!(reply.code, 500 | 501 | 553 | 555)
}

/// The client reads what the table says, and the connection is closed or not.
fn check(profile: Profile, stage: Stage, rejection: &Rejection, reply: &Reply, session: &mut Client, case: &Case) {
    let wire = on_wire(profile, stage, rejection, &Envelope::EXAMPLE);
    let read = if profile == Profile::Exim { joined(reply) } else { reply.to_string() };
    assert_eq!(Some(&read), wire.line.as_ref(), "{}\n{}", case.place, session.transcript());
    if stage == Stage::Rcpt && case.recipient.is_some() {
        assert_eq!(Some(&read), case.answer.reply.as_ref(), "{}", case.place);
    }
    assert!(reply.is_one_harmless_line() || reply.lines.len() > 1, "{}: {reply}", case.place);
    match wire.connection {
        Connection::Closed => assert!(session.closed(), "{}\n{}", case.place, session.transcript()),
        Connection::Kept => assert_eq!(session.command("NOOP").code, 250, "{}\n{}", case.place, session.transcript()),
    }
}

/// A reply in one line. Exim breaks what is longer than 75 characters at blanks (RFC 5321 section 4.2.1); each line has the
/// code and the status.
fn joined(reply: &Reply) -> String {
    let first = reply.lines[0].replacen('-', " ", 1);
    if reply.lines.len() == 1 {
        return reply.to_string();
    }
    assert!(reply.to_string().len() > 75 && reply.raw.iter().all(|&octet| matches!(octet, b'\r' | b'\n' | b' '..=b'~')), "{reply}");
    let status = first.split(' ').nth(1).filter(|word| word.starts_with(['4', '5']) && word.matches('.').count() == 2);
    let before = status.map_or(String::new(), |status| format!("{status} "));
    reply.lines.iter().skip(1).fold(first, |line, next| {
        let text = next.get(4..).and_then(|text| text.strip_prefix(&before));
        format!("{line} {}", text.unwrap_or_else(|| panic!("{reply}")))
    })
}

fn command(session: &mut Client, verb: &[u8], address: &[u8], parameters: &[u8]) -> Reply {
    let address = if address.starts_with(b"<") { address.to_vec() } else { [b"<", address, b">"].concat() };
    session.send_raw(&[verb, &address, parameters, b"\r\n"].concat());
    session.read_reply()
}

/// A session with one message for these recipients, up to QUIT or until the server hangs up. The number that the server
/// gives the message stands as `ID` in the transcript.
pub fn transcript(from: IpAddr, server: SocketAddr, recipients: &[&str]) -> String {
    let mut client = Client::connect(from, server).unwrap();
    if client.greeting().code != 220 {
        client.closed();
        return client.transcript().to_owned();
    }
    client.command("HELO client.example");
    client.command("MAIL FROM:<sender@example.com>");
    let mut accepted = false;
    for recipient in recipients {
        let code = client.command(&format!("RCPT TO:<{recipient}>")).code;
        if matches!(code, 421 | 521) && client.closed() {
            return client.transcript().to_owned();
        }
        accepted |= code == 250;
    }
    let mut id = String::from("no ID");
    if accepted {
        let reply = client.data("From: sender@example.com\nSubject: hello\n\nHello.\n").text();
        id = reply.split_once("id=").map(|(_, id)| id).or(reply.split(' ').nth(1)).unwrap_or_default().to_owned();
    }
    client.command("QUIT");
    client.closed();
    client.transcript().replace(&id, "ID")
}

/// Checks the transcript of a session: up to RCPT (with `{client}` for the address of the client), the replies to the
/// recipients, and the end.
pub fn check_transcript(from: IpAddr, server: SocketAddr, begin: &str, recipients: &[&str], replies: &[&str], end: &str) {
    let begin = begin.replace("{client}", &from.to_string());
    let lines = recipients.iter().zip(replies).map(|(recipient, reply)| format!("C: RCPT TO:<{recipient}>\nS: {reply}\n"));
    assert_eq!(transcript(from, server, recipients), begin + &lines.collect::<String>() + end);
}
