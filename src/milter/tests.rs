//! The session as a whole: chunking, counting of answers, bad input, nothing that leaks.

use super::codec::{Command, Connect, Macros, Options};
use super::{Progress, ProtocolError, Session};
use crate::Gate;
use proptest::prelude::*;

/// All protocol bits of version 6, as Postfix and Sendmail offer them.
const ALL: u32 = 0x1f_ffff;
const NR_CONN: u32 = 0x1000;
const POLICY: &str = r#"
    hostname = "mx.example.org"
    [[list]]
    name = "bad"
    entries = ["192.0.2.0/24", "2001:db8::/32"]
    reply = "550 5.7.1 No, 100% {list}"
    [[domains]]
    name = "parked"
    entries = ["parked.example"]
"#;
const REFUSED: &str = "550 5.7.1 No, 100%% bad";
const PARKED: &str = "521 5.3.2 parked.example does not accept mail";

fn gate() -> Gate {
    let gate = Gate::new();
    gate.load_text(POLICY, "policy").unwrap();
    gate
}

fn stream(commands: &[Command<'_>]) -> Vec<u8> {
    let mut stream = Vec::new();
    commands.iter().for_each(|command| command.encode(&mut stream));
    stream
}

fn offer(version: u32, protocol: u32) -> Command<'static> {
    Command::OptNeg(Options { version, actions: 0x1ff, protocol })
}

fn client(address: &str) -> Command<'_> {
    Command::Connect(Connect { host: b"client.example", family: b'4', port: 1025, address: address.as_bytes() })
}

/// What came of a conversation.
#[derive(Clone, Debug, PartialEq)]
struct Outcome {
    end: Result<Progress, ProtocolError>,
    /// The answers, each as command byte and body without its NUL.
    answers: Vec<String>,
    /// Recipients that were refused.
    refused: Vec<String>,
}

/// Answers of a milter, which must be well-formed packets without anything behind them.
fn answers(mut out: &[u8]) -> Vec<String> {
    let mut answers = Vec::new();
    while let Some((length, rest)) = out.split_first_chunk::<4>() {
        let (packet, rest) = rest.split_at(usize::try_from(u32::from_be_bytes(*length)).unwrap());
        match packet.first() {
            Some(b'c') => assert_eq!(packet.len(), 1),
            Some(b'y') => {
                let line = packet[1..].strip_suffix(b"\0").unwrap();
                assert!(line.iter().all(|byte| matches!(byte, b' '..=b'~')) && line.len() > 10, "{}", line.escape_ascii());
                assert_eq!(line.iter().filter(|byte| **byte == b'%').count() % 2, 0);
            }
            Some(b'O') => assert!(packet.len() >= 13 && answers.is_empty()),
            other => panic!("unexpected answer {other:?}"),
        }
        answers.push(String::from_utf8_lossy(packet.strip_suffix(b"\0").unwrap_or(packet)).into_owned());
        out = rest;
    }
    assert!(out.is_empty());
    answers
}

fn talk(gate: &Gate, pieces: &[&[u8]]) -> Outcome {
    let mut session = Session::new(gate.stages());
    let (mut out, mut refused) = (Vec::new(), Vec::new());
    let mut end = Ok(Progress::Open);
    for piece in pieces {
        end = session.feed(gate, piece, &mut out, &mut |refusal| {
            refused.push(String::from_utf8_lossy(refusal.recipient.unwrap_or_default()).into_owned())
        });
        if end != Ok(Progress::Open) {
            break;
        }
    }
    Outcome { end, answers: answers(&out), refused }
}

/// The answers after the one to the option negotiation.
fn after_negotiation(gate: &Gate, commands: &[Command<'_>]) -> Vec<String> {
    let outcome = talk(gate, &[&stream(commands)]);
    assert!(outcome.end.is_ok(), "{outcome:?}");
    outcome.answers.into_iter().skip(1).collect()
}

fn macros(stage: u8, macros: &str) -> Command<'_> {
    Command::Macro(stage, Macros(macros.as_bytes()))
}

#[test]
fn however_a_conversation_is_cut_it_comes_out_the_same() {
    let gate = gate();
    let whole = stream(&[
        offer(6, ALL),
        macros(b'C', "j\0mx.example.org\0"),
        client("192.0.2.7"),
        macros(b'M', "{mail_addr}\0a@s.example\0"),
        macros(b'R', "{rcpt_addr}\0b@example.org\0{rcpt_mailer}\0local\0"),
        Command::Rcpt(b"<b@example.org>"),
        Command::Rcpt(b"<postmaster@example.org>"),
        Command::Rcpt(b"<postmaster@parked.example>"),
        Command::Abort,
        Command::QuitNewConnection,
        client("198.51.100.1"),
        Command::Rcpt(b"<b@example.org>"),
        Command::Body(&[b'x'; 3000]),
        Command::Eom(b""),
        Command::Quit,
    ]);
    let want = talk(&gate, &[&whole]);
    assert_eq!(want.end, Ok(Progress::Closed));
    assert_eq!(want.answers[1..], [&format!("y{REFUSED}"), "c", &format!("y{PARKED}"), "c", "c", "c"]);
    assert_eq!(want.refused, ["<b@example.org>", "<postmaster@parked.example>"]);
    for at in 0..whole.len() {
        assert_eq!(talk(&gate, &[&whole[..at], &whole[at..]]), want, "cut at {at}");
    }
    for size in [1, 2, 3, 5, 7, 1000] {
        assert_eq!(talk(&gate, &whole.chunks(size).collect::<Vec<_>>()), want, "pieces of {size}");
    }
}

#[test]
fn all_versions_and_all_offers_are_agreed_upon() {
    let gate = gate();
    for (version, actions, protocol, want) in [
        (6, 0x1ff, ALL, Some((6, 0x100, 0x1376))),
        (6, 0xff, ALL, Some((6, 0, 0x1376))),
        (6, 0, 0, Some((6, 0, 0))),
        (6, 0x1ff, 0xff & ALL, Some((6, 0x100, 0x76))),
        (6, u32::MAX, u32::MAX, Some((6, 0x100, 0x1376))),
        (5, 0x1ff, 0x3ff, Some((5, 0, 0x376))),
        (4, 0x1ff, 0x3ff, Some((4, 0, 0x376))),
        (3, 0x1ff, 0x1ff, Some((3, 0, 0x176))),
        (2, 0x1ff, 0x7f, Some((2, 0, 0x76))),
        (7, 0x1ff, ALL, Some((6, 0x100, 0x1376))),
        (255, 0x1ff, ALL, Some((6, 0x100, 0x1376))),
        (u32::MAX, 0x1ff, ALL, Some((6, 0x100, 0x1376))),
        (1, 0x1ff, ALL, None),
        (0, 0x1ff, ALL, None),
    ] {
        let (mut session, mut out) = (Session::new(gate.stages()), Vec::new());
        let end = session.feed(&gate, &stream(&[Command::OptNeg(Options { version, actions, protocol })]), &mut out, &mut |_| ());
        let Some((version, actions, protocol)) = want else {
            assert_eq!((end, out.len()), (Err(ProtocolError::Version(version)), 0));
            continue;
        };
        assert_eq!((end, session.is_negotiated()), (Ok(Progress::Open), true));
        assert_eq!(Command::parse(&out[4..]), Ok(Command::OptNeg(Options { version, actions, protocol })));
        let lists = "\0\0\0\0j\0\0\0\0\x02{auth_authen} {mail_addr}\0\0\0\0\x03{rcpt_addr} {rcpt_mailer} {rcpt_host} {auth_authen}\0";
        let want = if actions == 0 { "" } else { lists };
        assert_eq!(String::from_utf8_lossy(&out[17..]), want);
    }
    // What a newer mail server puts behind the 12 bytes is no reason to refuse it.
    let longer = b"\0\0\0\x14O\0\0\0\x06\0\0\x01\xff\0\x1f\xff\xff\0\0\0\x03j\0\0";
    assert_eq!(talk(&gate, &[longer]).end, Ok(Progress::Open));
}

#[test]
fn connect_is_not_asked_for_where_it_would_cost_a_round_trip_in_vain() {
    let empty = Gate::new();
    for (protocol, want) in [(0x7f, 0x77), (ALL, 0x1376), (ALL & !NR_CONN, 0x377)] {
        let (mut session, mut out) = (Session::new(empty.stages()), Vec::new());
        session.feed(&empty, &stream(&[offer(6, protocol)]), &mut out, &mut |_| ()).unwrap();
        assert!(matches!(Command::parse(&out[4..]), Ok(Command::OptNeg(agreed)) if agreed.protocol == want), "{protocol:#x}");
    }
}

#[test]
fn events_that_wait_for_an_answer_get_one_and_no_others() {
    let gate = gate();
    let events = [
        (client("192.0.2.7"), true),
        (macros(b'H', ""), false),
        (Command::Helo(b"h"), true),
        (Command::Unknown(b"XYZZY"), true),
        (macros(b'M', ""), false),
        (Command::Mail(b"<>"), true),
        (macros(b'R', ""), false),
        (Command::Rcpt(b"<b@example.org>"), true),
        (Command::Data, true),
        (Command::Header(b"Subject\0x\0"), true),
        (Command::Eoh, true),
        (Command::Body(b"x"), true),
        (Command::Eom(b"x"), true),
        (macros(b'?', "x"), false),
        (Command::Abort, false),
        (Command::QuitNewConnection, false),
    ];
    for (version, protocol) in [(2, 0), (2, 0x7f), (3, 0x1ff), (4, 0x3ff), (6, 0), (6, ALL & !NR_CONN), (6, ALL)] {
        for (event, waits) in events {
            let silent = protocol & NR_CONN != 0 && matches!(event, Command::Connect(_));
            let answers = after_negotiation(&gate, &[offer(version, protocol), event]);
            assert_eq!(answers.len(), usize::from(waits && !silent), "{event:?} {version} {protocol:#x}");
        }
        let all: Vec<_> = [offer(version, protocol)].into_iter().chain(events.map(|(event, _)| event)).collect();
        let answers = after_negotiation(&gate, &all);
        let refused = answers.iter().position(|answer| *answer != "c");
        let before = if protocol & NR_CONN == 0 { 4 } else { 3 };
        assert_eq!((refused, answers.len()), (Some(before), before + 6), "{version} {protocol:#x}: {answers:?}");
    }
}

#[test]
fn bad_packets_end_the_session_or_are_harmless() {
    let gate = gate();
    let packet = |body: &[u8]| [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], body].concat();
    let greeting = stream(&[offer(6, ALL & !NR_CONN)]);
    // Instead of the negotiation.
    for (bytes, end) in [
        (packet(b"C"), ProtocolError::NotNegotiated),
        (packet(b"D"), ProtocolError::NotNegotiated),
        (packet(b"Q"), ProtocolError::NotNegotiated),
        (packet(b"K"), ProtocolError::NotNegotiated),
        (packet(b"O"), ProtocolError::ShortOffer(0)),
        (packet(b"O\0\0\0\x06"), ProtocolError::ShortOffer(4)),
        (packet(b"O\0\0\0\x06\0\0\0\0\0\0\0"), ProtocolError::ShortOffer(11)),
        (packet(b""), ProtocolError::Length(0)),
        (b"GET / HTTP/1.0\r\n\r\n".to_vec(), ProtocolError::Length(0x4745_5420)),
        (b"220 mx.example.org ESMTP\r\n".to_vec(), ProtocolError::Length(0x3232_3020)),
        (b"\x16\x03\x01\x02\0\x01\0".to_vec(), ProtocolError::Length(0x1603_0102)),
        (b"\xff\xff\xff\xff".to_vec(), ProtocolError::Length(u32::MAX)),
    ] {
        let outcome = talk(&gate, &[&bytes]);
        assert_eq!((outcome.end, outcome.answers.len()), (Err(end), 0), "{}", bytes.escape_ascii());
    }
    // After it: what ends the session.
    for (bytes, end) in [
        (packet(b""), ProtocolError::Length(0)),
        (greeting.clone(), ProtocolError::NegotiatedTwice),
        (packet(b"Z"), ProtocolError::Unknown(b'Z')),
        (packet(b"\0"), ProtocolError::Unknown(0)),
        (packet(b"\xff\xff"), ProtocolError::Unknown(0xff)),
        (b"\x7f\xff\xff\xffC".to_vec(), ProtocolError::Length(0x7fff_ffff)),
    ] {
        let outcome = talk(&gate, &[&greeting, &bytes, b"more"]);
        assert_eq!((outcome.end, outcome.answers.len()), (Err(end), 1), "{}", bytes.escape_ascii());
    }
    // What does not: each gets its one answer, and nobody is refused for it.
    let long = [b"R<", &b"x"[..].repeat(60_000)[..], b"@example.org>\0"].concat();
    let parameters = [&b"R<b@example.org>\0"[..], &b"\0"[..].repeat(30_000)[..]].concat();
    for body in [
        &b"C"[..],
        b"C\0",
        b"Chost",
        b"C\0\0\0\0",
        b"Chost\x004",
        b"Chost\x004\0",
        b"Chost\x004\0\x19",
        b"Chost\x004\0\x19\0",
        b"Chost\x004\0\x19unknown\0",
        b"Chost\x004\0\x19999.1.1.1\0",
        b"Chost\x004\0\x19127.1\0",
        b"Chost\x004\0\x19010.0.0.1\0",
        b"Chost\x004\0\x19\xff\xfe\0",
        b"Chost\x006\0\x19fe80::1%eth0\0",
        b"Chost\x006\0\x19IPv6:\0",
        b"ChostLL\0\x00192.0.2.7\0",
        b"Chost\0L\0\x00192.0.2.7\0",
        b"Chost\0U",
        b"Chost\0X\0\x19192.0.2.7\0",
        b"C\x1b[31m\r\n%s\xff\x004\0\x191.2.3.4\0tail\0tail",
        b"R",
        b"R\0",
        b"R\0\0\0",
        b"R<b@example.org>",
        b"R<b@example.org\0",
        b"R<\xff\xfe@\xc3>\0",
        b"R<@a,@b:c@example.org>\0NOTIFY=NEVER\0x",
        b"R<b@[192.0.2.7]>\0",
        b"R<b>\0",
        b"R< @ >\0",
        b"M",
        b"M\0SIZE=1",
        b"T",
        b"E",
        b"Nx",
        b"U\0\0",
        &long,
        &parameters,
    ] {
        let outcome = talk(&gate, &[&greeting, &packet(body), &packet(b"R<b@example.org>\0"), &packet(b"Q"), b"more"]);
        let shown = body.get(..60).unwrap_or(body).escape_ascii();
        assert_eq!((outcome.end, &outcome.answers[1..]), (Ok(Progress::Closed), &["c".into(), "c".into()][..]), "{shown}");
    }
    for body in [
        &b"D"[..],
        b"DR",
        b"DR{rcpt_addr}",
        b"DR\0\0\0",
        b"D\0x\0",
        b"A",
        b"Ax",
        b"K",
        &b"DC"[..],
        &b"DRx\0\0"[..].repeat(15_000)[..60_000],
    ] {
        let outcome = talk(&gate, &[&greeting, &packet(body), &packet(b"R<b@example.org>\0"), &packet(b"Q")]);
        assert_eq!((outcome.end, &outcome.answers[1..]), (Ok(Progress::Closed), &["c".into()][..]));
    }
}

#[test]
fn nothing_leaks_from_one_recipient_message_or_client_to_the_next() {
    let gate = gate();
    let (no, yes, parked) = (format!("y{REFUSED}"), "c".to_owned(), format!("y{PARKED}"));
    let rcpt = Command::Rcpt(b"<b@example.org>");
    let login = macros(b'M', "{auth_authen}\0user\0");
    let bad = client("192.0.2.7");
    for (name, commands, want) in [
        (
            "macros of a recipient",
            vec![macros(b'R', "{rcpt_addr}\0b@parked.example\0{rcpt_mailer}\0smtp\0"), rcpt, rcpt],
            vec![&parked, &yes],
        ),
        (
            "macros without their recipient",
            vec![macros(b'R', "{rcpt_addr}\0b@parked.example\0{rcpt_mailer}\0smtp\0"), macros(b'R', "x\0y\0"), rcpt],
            vec![&yes],
        ),
        (
            "macros before an abort",
            vec![macros(b'R', "{rcpt_addr}\0b@parked.example\0{rcpt_mailer}\0smtp\0"), Command::Abort, rcpt],
            vec![&yes],
        ),
        (
            "macros of a recipient before the next message",
            vec![macros(b'R', "{rcpt_addr}\0b@parked.example\0{rcpt_mailer}\0smtp\0"), macros(b'M', ""), rcpt],
            vec![&yes],
        ),
        ("login of a message", vec![bad, login, rcpt, rcpt, Command::Abort, rcpt], vec![&yes, &yes, &no]),
        ("login before the end of a message", vec![bad, login, rcpt, Command::Eom(b""), rcpt], vec![&yes, &yes, &no]),
        ("login before MAIL macros without one", vec![bad, login, rcpt, macros(b'M', ""), rcpt], vec![&yes, &no]),
        (
            "login announced, then MAIL",
            vec![bad, login, Command::Mail(b"<>"), rcpt, Command::Mail(b"<>"), rcpt],
            vec![&yes, &yes, &yes, &no],
        ),
        ("login of a recipient", vec![bad, macros(b'R', "{auth_authen}\0user\0"), rcpt, rcpt], vec![&yes, &no]),
        ("empty login", vec![bad, macros(b'M', "{auth_authen}\0\0"), rcpt], vec![&no]),
        (
            "client after K",
            vec![bad, rcpt, Command::QuitNewConnection, rcpt, client("198.51.100.1"), rcpt, Command::QuitNewConnection, bad, rcpt],
            vec![&no, &yes, &yes, &no],
        ),
        ("login after K", vec![bad, login, Command::QuitNewConnection, bad, rcpt], vec![&no]),
        ("client after a second one", vec![bad, client("unknown"), rcpt], vec![&yes]),
        ("login after a second client", vec![bad, login, bad, rcpt], vec![&no]),
    ] {
        let commands: Vec<_> = [offer(6, ALL)].into_iter().chain(commands).collect();
        assert_eq!(after_negotiation(&gate, &commands).iter().collect::<Vec<_>>(), want, "{name}");
    }
}

#[test]
fn what_follows_the_end_is_ignored() {
    let gate = gate();
    for end in [&b"\0\0\0\x01Q"[..], b"\0\0\0\x01Z", b"\0\0\0\0"] {
        let (mut session, mut out) = (Session::new(gate.stages()), Vec::new());
        session.feed(&gate, &stream(&[offer(6, ALL)]), &mut out, &mut |_| ()).unwrap();
        let first = session.feed(&gate, end, &mut out, &mut |_| ());
        assert_eq!(first.is_ok(), end.ends_with(b"Q"));
        out.clear();
        for _ in 0..2 {
            let more = session.feed(&gate, &stream(&[client("192.0.2.7"), Command::Rcpt(b"<b@example.org>")]), &mut out, &mut |_| ());
            assert_eq!((more, out.len()), (Ok(Progress::Closed), 0));
        }
    }
}

/// A packet as an event of a mail server, or what only an attacker sends.
fn any_packet() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![20 => prop::sample::select(&b"CDHMRTULNBEAK"[..]), 1 => any::<u8>()];
    let text = prop_oneof![
        any::<Vec<u8>>(),
        Just(b"h\x004\0\x19192.0.2.7\0".to_vec()),
        Just(b"<b@parked.example>\0".to_vec()),
        Just(b"R{rcpt_addr}\0%@parked.example\0{rcpt_mailer}\0x\0".to_vec()),
        Just(b"M{auth_authen}\0u\0".to_vec()),
    ];
    (byte, text).prop_map(|(command, text)| {
        let body = [&[command], &text[..]].concat();
        [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], &body].concat()
    })
}

proptest! {
    #[test]
    fn random_events_get_exactly_their_answers(protocol in prop::sample::select(&[0, 0x7f, ALL, ALL & !NR_CONN][..]), packets in prop::collection::vec(any_packet(), 0..40), size in 1..200usize) {
        let gate = gate();
        let mut whole = stream(&[offer(6, protocol)]);
        let mut want = 1;
        let mut broken = false;
        for packet in &packets {
            whole.extend_from_slice(packet);
            broken |= !b"CDHMRTULNBEAKQ".contains(&packet[4]);
            let ended = broken || packet[4] == b'Q';
            if !ended {
                want += usize::from(b"HMRTULNBE".contains(&packet[4]) || packet[4] == b'C' && protocol & NR_CONN == 0);
            } else {
                break;
            }
        }
        let outcome = talk(&gate, &whole.chunks(size).collect::<Vec<_>>());
        prop_assert_eq!(outcome.answers.len(), want);
        prop_assert_eq!(outcome.end.is_err(), broken);
        prop_assert_eq!(outcome.refused.len(), outcome.answers.iter().filter(|answer| answer.starts_with('y')).count());
        prop_assert_eq!(talk(&gate, &[&whole]), outcome);
    }

    #[test]
    fn random_bytes_do_no_harm(negotiated: bool, bytes: Vec<u8>, size in 1..20usize) {
        let gate = gate();
        let mut whole = if negotiated { stream(&[offer(6, ALL)]) } else { Vec::new() };
        whole.extend_from_slice(&bytes);
        talk(&gate, &whole.chunks(size).collect::<Vec<_>>());
    }
}
