//! The table of `mxgate::wire` against a real Postfix and a real Sendmail: a milter and a policy service that give one reply
//! at one stage, and what the client reads at all of them. The sessions stand in tests/wire/, whole; BLESS=1 writes them anew.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "what goes wrong here ends the test, with a message"
)]

use mxgate::milter::codec::{Command, Options, Packets, SMFI_VERSION, encode_continue, encode_reply};
use mxgate::reply::{Reply, Values};
use mxgate::wire::{Connection, Envelope, Profile, When, Wire, on_wire};
use mxgate::{Rejection, Stage};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use support::postfix::Postfix;
use support::sendmail::{self, Sendmail};
use support::smtp::Client;

mod support;

/// The replies that are tried at every stage. All of these codes are asked for; the other ones show what becomes of a
/// status about an address and of a text with a `%`, and that 451 is treated like 450.
const REPLIES: [&str; 11] = [
    "421 4.3.2 Later, 100% sure",
    "450 4.7.1 Later",
    "451 4.3.0 Later",
    "521 5.7.1 Go away",
    "521 5.3.2 No mail here",
    "550 5.7.1 Refused",
    "550 5.1.1 Nobody",
    "550 5.1.8 Sender without domain",
    "550 5.1.7 Bad sender",
    "554 5.7.1 Refused",
    "556 5.1.10 No mail there",
];

/// Who the client says it is.
const ENVELOPE: Envelope<'static> = Envelope { client: "unknown[127.0.0.1]", ..Envelope::EXAMPLE };

/// What the plug-in answers, and at which stage.
type Answer = Arc<Mutex<(Stage, String)>>;

fn ready() -> bool {
    support::available(&support::postfix::TOOLS) && support::root()
}

/// A server that does this with each connection, in a thread; its port.
fn serve(answer: &Answer, session: fn(TcpStream, &Answer)) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = Arc::clone(answer);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, answer) = (stream.unwrap(), Arc::clone(&answer));
            thread::spawn(move || session(stream, &answer));
        }
    });
    port
}

/// One connection to a milter that wants all events and answers all of them.
fn milter(mut stream: TcpStream, answer: &Answer) {
    let (mut packets, mut buffer) = (Packets::default(), [0; 4096]);
    loop {
        let Ok(length @ 1..) = stream.read(&mut buffer) else { return };
        let (mut input, mut out) = (&buffer[..length], Vec::new());
        while let (used, Some(packet)) = packets.next(input).unwrap() {
            let stage = match Command::parse(packet).unwrap() {
                Command::OptNeg(_) => {
                    Options { version: SMFI_VERSION, actions: 0, protocol: 0 }.encode(&[], &mut out);
                    None
                }
                Command::Macro(..) | Command::Abort | Command::Quit | Command::QuitNewConnection => None,
                Command::Connect(_) => Some(Some(Stage::Connect)),
                Command::Helo(_) => Some(Some(Stage::Helo)),
                Command::Mail(_) => Some(Some(Stage::Mail)),
                Command::Rcpt(_) => Some(Some(Stage::Rcpt)),
                Command::Data | Command::Unknown(_) | Command::Header(_) | Command::Eoh | Command::Body(_) | Command::Eom(_) => Some(None),
            };
            if let Some(stage) = stage {
                let (at, reply) = &*answer.lock().unwrap();
                if stage == Some(*at) { encode_reply(reply, &mut out) } else { encode_continue(&mut out) }
            }
            input = &input[used..];
        }
        if stream.write_all(&out).is_err() {
            return;
        }
    }
}

/// One connection to a policy service.
fn policy_service(mut stream: TcpStream, answer: &Answer) {
    let mut state = String::new();
    for line in BufReader::new(stream.try_clone().unwrap()).lines() {
        let Ok(line) = line else { return };
        if let Some(value) = line.strip_prefix("protocol_state=") {
            state = value.into();
        } else if line.is_empty() {
            let (at, reply) = &*answer.lock().unwrap();
            let stage = match state.as_str() {
                "CONNECT" => Stage::Connect,
                "EHLO" => Stage::Helo,
                "MAIL" => Stage::Mail,
                "RCPT" => Stage::Rcpt,
                other => panic!("{other}"),
            };
            let action = if stage == *at { reply } else { "DUNNO" };
            if write!(stream, "action={action}\n\n").is_err() {
                return;
            }
        }
    }
}

/// Plays all replies at all stages, and compares with the table, and whole sessions with the file.
fn compare(profile: Profile, server: SocketAddr, answer: &Answer) {
    let mut sessions = String::new();
    for (stage, reply) in Stage::ALL.into_iter().flat_map(|stage| REPLIES.map(|reply| (stage, reply))) {
        let parsed = Reply::parse(reply).unwrap();
        let rejection = Rejection::of(&parsed, &Values { hostname: "mx.example.org", ..Values::default() });
        *answer.lock().unwrap() = (stage, rejection.reply().to_string());
        let wire = on_wire(profile, stage, &rejection, &ENVELOPE);
        assert!(wire.measured, "{profile} {stage} {reply}");
        let mut client = Client::connect(Ipv4Addr::LOCALHOST.into(), server).unwrap();
        play(&wire, stage, &mut client).unwrap_or_else(|error| {
            panic!("{profile} at {stage}, {reply}: {error}; expected {wire:#?}\n{}", client.transcript());
        });
        writeln!(sessions, "=== {stage}: {}\n{}", rejection.reply(), client.transcript()).unwrap();
    }
    let file = Path::new("tests/wire").join(format!("{profile}.txt"));
    if std::env::var_os("BLESS").is_some() {
        fs::write(&file, &sessions).unwrap();
    }
    assert_eq!(
        fs::read_to_string(&file).unwrap_or_default(),
        sessions,
        "{}: BLESS=1 cargo test --test wire writes it anew",
        file.display()
    );
}

/// One session: each stage as predicted, up to the reply, then hang-up or not.
fn play(wire: &Wire, answered: Stage, client: &mut Client) -> Result<(), String> {
    for stage in Stage::ALL {
        let (read, ordinary) = match stage {
            Stage::Connect => (client.greeting(), "220 "),
            Stage::Helo => (client.command(&format!("EHLO {}", ENVELOPE.helo)), "250"),
            Stage::Mail => (client.command(&format!("MAIL FROM:<{}>", ENVELOPE.sender)), "250 "),
            Stage::Rcpt => (client.command(&format!("RCPT TO:<{}>", ENVELOPE.recipient)), "250 "),
        };
        // What settles the matter is the reply at the stage, unless something follows at MAIL.
        let settled = if wire.at_mail.is_some() { stage == Stage::Mail } else { stage == answered };
        let expected = if stage == answered { wire.line.as_ref() } else { None };
        let expected = wire.at_mail.as_ref().filter(|_| stage == Stage::Mail).or(expected);
        match expected {
            Some(line) if read.to_string() != *line => return Err(format!("{stage} is answered {read}, not {line}")),
            None if !read.to_string().starts_with(ordinary) => return Err(format!("{stage} is answered {read}")),
            _ => {}
        }
        if !settled {
            continue;
        }
        return match wire.connection {
            Connection::Closed if client.closed() => Ok(()),
            Connection::Closed => Err("the connection stays open".into()),
            // QUIT works even where Postfix answers every other command with 503.
            Connection::Kept => Some(client.command("QUIT").code).filter(|code| *code == 221).map(drop).ok_or("no answer to QUIT".into()),
        };
    }
    Err("nothing was refused".into())
}

fn start(profile: Profile) -> (Postfix, Answer) {
    let answer = Arc::new(Mutex::new((Stage::Connect, String::new())));
    let postfix = if profile == Profile::PostfixPolicy {
        let check = format!("check_policy_service inet:127.0.0.1:{}", serve(&answer, policy_service));
        let lists = ["client", "helo", "sender", "recipient"].map(|list| format!("smtpd_{list}_restrictions"));
        let mut options = vec![("smtpd_delay_reject", "no")];
        options.extend(lists.iter().map(|list| (list.as_str(), check.as_str())));
        Postfix::start(&options)
    } else {
        let address = format!("inet:127.0.0.1:{}", serve(&answer, milter));
        Postfix::start(&[("smtpd_milters", &address), ("milter_default_action", "accept")])
    };
    (postfix, answer)
}

#[test]
fn postfix_with_a_milter() {
    if ready() {
        let (postfix, answer) = start(Profile::Postfix);
        compare(Profile::Postfix, postfix.smtp(), &answer);
    }
}

#[test]
fn postfix_with_a_policy_service() {
    if ready() {
        let (postfix, answer) = start(Profile::PostfixPolicy);
        compare(Profile::PostfixPolicy, postfix.smtp(), &answer);
    }
}

#[test]
fn sendmail_with_a_milter() {
    if sendmail::ready() {
        let answer = Arc::new(Mutex::new((Stage::Connect, String::new())));
        let port = serve(&answer, milter);
        let sendmail = Sendmail::start(&format!("INPUT_MAIL_FILTER(`test', `S=inet:{port}@127.0.0.1')dnl"));
        compare(Profile::Sendmail, sendmail.smtp(), &answer);
    }
}

/// An access table does what a policy service does.
#[test]
fn postfix_with_an_access_table() {
    if !ready() {
        return;
    }
    for reply in ["421 4.3.2 Later", "521 5.3.2 No mail here", "550 5.7.1 Refused"] {
        let check = format!("check_client_access static:{{{reply}}}");
        let postfix = Postfix::start(&[("smtpd_delay_reject", "no"), ("smtpd_client_restrictions", &check)]);
        let rejection = Rejection::of(&Reply::parse(reply).unwrap(), &Values::default());
        let wire = on_wire(Profile::PostfixPolicy, Stage::Connect, &rejection, &ENVELOPE);
        let mut client = Client::connect(Ipv4Addr::LOCALHOST.into(), postfix.smtp()).unwrap();
        play(&wire, Stage::Connect, &mut client).unwrap_or_else(|error| panic!("{reply}: {error}\n{}", client.transcript()));
    }
}

/// What the sentences about other recipients say: those that were accepted before are lost with the session.
#[test]
fn after_521_nobody_gets_the_message() {
    if !ready() {
        return;
    }
    let (postfix, answer) = start(Profile::Postfix);
    *answer.lock().unwrap() = (Stage::Rcpt, String::from("521 5.7.1 Go away"));
    let rejection = Rejection::of(&Reply::parse("521 5.7.1 Go away").unwrap(), &Values::default());
    let wire = on_wire(Profile::Postfix, Stage::Rcpt, &rejection, &ENVELOPE);
    assert_eq!((wire.when, wire.connection), (When::Now, Connection::Closed));
    assert!(wire.remarks[0].contains("other recipients of the message wait"), "{wire:?}");
    let mut client = Client::connect(Ipv4Addr::LOCALHOST.into(), postfix.smtp()).unwrap();
    client.greeting();
    client.command("EHLO client.example");
    client.command("MAIL FROM:<sender@example.com>");
    client.send_raw(b"RCPT TO:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n");
    assert_eq!(client.read_reply().to_string(), "521 5.7.1 Go away");
    assert!(client.closed(), "{}", client.transcript());
}
