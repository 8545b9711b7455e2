//! The session as a whole: cutting, stages, facts, limits, bad input.

use super::codec::{MAX_ATTRIBUTES, MAX_LINE, MAX_REQUEST, Request, Requests, encode_action};
use super::{Progress, ProtocolError, Session};
use crate::Gate;
use proptest::prelude::*;

const POLICY: &str = r#"
    hostname = "mx.example.org"
    [[list]]
    name = "bad"
    entries = ["192.0.2.0/24", "2001:db8::/32"]
    reply = "521 5.7.1 No, 100% {list}"
    [[list]]
    name = "late"
    at = "rcpt"
    entries = ["203.0.113.0/24"]
    [[domains]]
    name = "parked"
    entries = ["parked.example"]
    [[senders]]
    name = "spam"
    entries = ["spam.example"]
    [authentication]
    rdns_fail = "reject"
    rdns_temperror = "defer"
"#;
const BAD: &str = "521 5.7.1 No, 100% bad";
const LATE: &str = "550 5.7.1 Service unavailable; client [203.0.113.1] blocked using late";
const PARKED: &str = "521 5.3.2 parked.example does not accept mail";
const SPAM: &str = "550 5.7.1 Sender address rejected: blocked using spam";
const RDNS: &str = "451 4.7.25 Reverse DNS validation error";
const DUNNO: &str = "DUNNO";

fn gate(policy: &str) -> Gate {
    let gate = Gate::new();
    gate.load_text(policy, "policy").unwrap();
    gate
}

/// What Postfix asks about a client at that state of the session; what it does not know yet is empty.
fn request<'a>(state: &'a str, client: &'a str) -> Request<'a> {
    let asked = |states: &[&str], value: &'a str| Some(if states.contains(&state) { value } else { "" }.as_bytes());
    Request {
        protocol_state: Some(state.as_bytes()),
        client_address: Some(client.as_bytes()),
        client_port: Some(b"4321"),
        client_name: Some(b"unknown"),
        reverse_client_name: Some(b"unknown"),
        helo_name: asked(&["EHLO", "HELO", "MAIL", "RCPT"], "client.example"),
        sender: asked(&["MAIL", "RCPT"], "sender@example.com"),
        recipient: asked(&["RCPT"], "user@example.org"),
        instance: Some(b"1a2b.3c"),
        sasl_username: Some(b""),
        encryption_protocol: Some(b""),
    }
}

fn stream(requests: &[Request<'_>]) -> Vec<u8> {
    let mut stream = Vec::new();
    requests.iter().for_each(|request| request.encode(&mut stream));
    stream
}

/// What came of a conversation.
#[derive(Clone, Debug, PartialEq)]
struct Outcome {
    end: Result<Progress, ProtocolError>,
    actions: Vec<String>,
    /// Client, sender and recipient of each refusal.
    refused: Vec<String>,
}

/// The actions of a policy service, which must be well-formed answers without anything behind them.
fn actions(out: &[u8]) -> Vec<String> {
    let out = str::from_utf8(out).unwrap();
    let Some(answers) = out.strip_suffix("\n\n") else {
        assert_eq!(out, "");
        return Vec::new();
    };
    let actions = answers.split("\n\n").map(|answer| answer.strip_prefix("action=").unwrap());
    actions.inspect(|action| assert!(action.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{action}")).map(str::to_owned).collect()
}

fn talk_with(session: &mut Session, gate: &Gate, pieces: &[&[u8]]) -> Outcome {
    let (mut out, mut refused, mut end) = (Vec::new(), Vec::new(), Ok(Progress::Open));
    for piece in pieces {
        end = session.feed(gate, piece, &mut out, &mut |refusal| {
            let text = |bytes: Option<&[u8]>| bytes.map_or("-".into(), |bytes| String::from_utf8_lossy(bytes).into_owned());
            let client = refusal.client.map_or("-".into(), |client| client.to_string());
            refused.push(format!("{client} {} {}", text(refusal.sender), text(refusal.recipient)));
            assert_eq!(refusal.verdict.rejection.unwrap().reply().as_str(), refusal.reply);
        });
        if end != Ok(Progress::Open) {
            break;
        }
    }
    Outcome { end, actions: actions(&out), refused }
}

fn talk(gate: &Gate, pieces: &[&[u8]]) -> Outcome {
    talk_with(&mut Session::new(), gate, pieces)
}

/// The actions that a client gets in one session.
fn ask(gate: &Gate, requests: &[Request<'_>]) -> Vec<String> {
    let outcome = talk(gate, &[&stream(requests)]);
    assert_eq!(outcome.end, Ok(Progress::Open));
    outcome.actions
}

#[test]
fn however_a_conversation_is_cut_it_comes_out_the_same() {
    let gate = gate(POLICY);
    let parked = Request { recipient: Some(b"user@parked.example"), ..request("RCPT", "198.51.100.1") };
    let mut whole = stream(&[request("CONNECT", "192.0.2.7"), request("RCPT", "198.51.100.1"), parked, request("DATA", "192.0.2.7")]);
    let want = talk(&gate, &[&whole]);
    assert_eq!(want.actions, [BAD, DUNNO, PARKED, DUNNO]);
    assert_eq!(want.refused, ["192.0.2.7 - -", "198.51.100.1 sender@example.com user@parked.example"]);
    for at in 0..whole.len() {
        assert_eq!(talk(&gate, &[&whole[..at], &whole[at..]]), want, "cut at {at}");
    }
    whole.extend_from_slice(b"no attribute\n");
    for size in [1, 2, 3, 5, 7, 1000] {
        let outcome = talk(&gate, &whole.chunks(size).collect::<Vec<_>>());
        assert_eq!(outcome, Outcome { end: Err(ProtocolError::Line(1)), ..want.clone() }, "pieces of {size}");
    }
}

#[test]
fn each_state_is_answered_by_what_can_be_known_then() {
    let gate = gate(POLICY);
    let spam = |state| Request { sender: Some(b"user@spam.example"), ..request(state, "198.51.100.1") };
    for (request, action) in [
        (request("CONNECT", "192.0.2.7"), BAD),
        (request("HELO", "192.0.2.7"), BAD),
        (request("EHLO", "2001:db8::1"), BAD),
        (request("MAIL", "192.0.2.7"), BAD),
        (request("RCPT", "192.0.2.7"), BAD),
        (request("CONNECT", "198.51.100.1"), DUNNO),
        (request("RCPT", "198.51.100.1"), DUNNO),
        (request("CONNECT", "203.0.113.1"), DUNNO),
        (request("EHLO", "203.0.113.1"), DUNNO),
        (request("RCPT", "203.0.113.1"), LATE),
        (spam("CONNECT"), DUNNO),
        (spam("MAIL"), SPAM),
        (spam("RCPT"), SPAM),
        (Request { sender: Some(b""), ..request("MAIL", "198.51.100.1") }, DUNNO),
        // About a message that has been let through, or about none.
        (request("DATA", "192.0.2.7"), DUNNO),
        (request("END-OF-MESSAGE", "192.0.2.7"), DUNNO),
        (request("VRFY", "192.0.2.7"), DUNNO),
        (request("ETRN", "192.0.2.7"), DUNNO),
        (request("", "192.0.2.7"), DUNNO),
        (request("LATER", "192.0.2.7"), DUNNO),
        (Request { protocol_state: None, ..request("RCPT", "192.0.2.7") }, DUNNO),
    ] {
        assert_eq!(ask(&gate, &[request]), [action], "{request:?}");
    }
}

#[test]
fn attributes_are_the_facts() {
    let gate = gate(POLICY);
    let known = request("RCPT", "198.51.100.1");
    let bad = request("RCPT", "192.0.2.7");
    for (request, action) in [
        (Request { sasl_username: Some(b"user"), ..bad }, DUNNO),
        (Request { recipient: Some(b"postmaster@example.org"), ..bad }, DUNNO),
        (Request { client_address: Some(b"unknown"), ..bad }, DUNNO),
        (Request { client_address: Some(b""), ..bad }, DUNNO),
        (Request { client_address: Some(b"\xff"), ..bad }, DUNNO),
        (Request { client_address: None, ..bad }, DUNNO),
        (Request { client_address: Some(b"::ffff:192.0.2.7"), ..bad }, BAD),
        (Request { client_port: Some(b"70000"), ..bad }, BAD),
        (Request { client_port: None, instance: None, sasl_username: None, encryption_protocol: None, ..bad }, BAD),
        (Request { recipient: None, sender: None, helo_name: None, ..bad }, BAD),
        (Request { recipient: None, ..known }, DUNNO),
        (Request { recipient: Some(b"user@\xff"), sender: Some(b"\xff"), ..known }, DUNNO),
        // Reverse DNS, which may be out of order.
        (Request { client_name: Some(b"unknown"), reverse_client_name: Some(b"client.example"), ..known }, RDNS),
        (Request { client_name: Some(b"client.example"), reverse_client_name: Some(b"client.example"), ..known }, DUNNO),
        (Request { client_name: Some(b"unknown"), reverse_client_name: None, ..known }, DUNNO),
        (Request { client_name: None, reverse_client_name: Some(b"client.example"), ..known }, DUNNO),
        (Request { client_name: Some(b""), reverse_client_name: Some(b""), ..known }, DUNNO),
    ] {
        assert_eq!(ask(&gate, &[request]), [action], "{request:?}");
    }
    // The order does not matter, unknown attributes neither; of two the last counts.
    let text = b"client_address=192.0.2.7\nnew_attribute=a=b\nprotocol_state=CONNECT\nclient_address=198.51.100.1\n\
                 client_address=192.0.2.9\nrequest=smtpd_access_policy\n\n";
    assert_eq!(talk(&gate, &[text]).actions, [BAD]);
    let placeholders = self::gate(&POLICY.replace("100% {list}", "{helo} {sender} {domain}"));
    assert_eq!(ask(&placeholders, &[bad]), ["521 5.7.1 No, client.example sender@example.com example.org"]);
}

#[test]
fn a_mode_answers_everybody() {
    let gate = gate("hostname = \"mx.example.org\"\nmode = \"no-mail\"\n");
    for state in ["CONNECT", "EHLO", "MAIL", "RCPT"] {
        assert_eq!(ask(&gate, &[request(state, "198.51.100.1")]), ["521 5.3.2 mx.example.org does not accept mail"]);
    }
    assert_eq!(ask(&Gate::new(), &[request("CONNECT", "192.0.2.7")]), [DUNNO], "no rules yet");
}

#[test]
fn what_is_no_request_ends_the_session_without_an_answer() {
    let gate = gate(POLICY);
    let long = |length: usize| [b"sender=".as_slice(), &vec![b'x'; length - 7], b"\n"].concat();
    let request_line = b"request=smtpd_access_policy\n";
    for (bytes, end) in [
        (b"GET / HTTP/1.0\r\n\r\n".to_vec(), ProtocolError::Line(1)),
        (b"220 mx.example.org ESMTP\r\n".to_vec(), ProtocolError::Line(1)),
        (b"\x16\x03\x01\x02\0\x01\0\n".to_vec(), ProtocolError::Line(1)),
        (b"=value\n".to_vec(), ProtocolError::Line(1)),
        (b"request=smtpd_access_policy\r\n\r\n".to_vec(), ProtocolError::Line(2)),
        (b"a=b\nsender=a\0b\n".to_vec(), ProtocolError::Line(2)),
        (b"a=b\nsen\0der=ab\n".to_vec(), ProtocolError::Line(2)),
        (b"\n".to_vec(), ProtocolError::NoRequest),
        (b"protocol_state=RCPT\n\n".to_vec(), ProtocolError::NoRequest),
        (b"request=other\n\n".to_vec(), ProtocolError::NoRequest),
        (b"request=smtpd_access_policy\nrequest=\n\n".to_vec(), ProtocolError::NoRequest),
        ([&request_line[..], &long(MAX_LINE + 1)].concat(), ProtocolError::LongLine(2)),
        (vec![b'x'; 100_000], ProtocolError::LongLine(1)),
        (long(MAX_LINE).repeat(5), ProtocolError::LongRequest),
        (b"a=b\n".repeat(MAX_ATTRIBUTES + 1), ProtocolError::ManyAttributes),
    ] {
        for size in [bytes.len(), 1, 4093] {
            let mut session = Session::new();
            let outcome = talk_with(&mut session, &gate, &bytes.chunks(size).collect::<Vec<_>>());
            let shown = bytes.get(..60).unwrap_or(&bytes).escape_ascii();
            assert_eq!((outcome.end, outcome.actions.len()), (Err(end), 0), "{shown}");
            assert!(!session.has_begun());
            // What follows is ignored.
            let more = talk_with(&mut session, &gate, &[&stream(&[request("CONNECT", "192.0.2.7")])]);
            assert_eq!((more.end, more.actions.len()), (Ok(Progress::Closed), 0));
        }
    }
    // As much as there may be.
    let attributes = [&request_line[..], &b"a=b\n".repeat(MAX_ATTRIBUTES - 2)[..], &long(MAX_LINE)[..], b"\n"].concat();
    assert_eq!(talk(&gate, &[&attributes]).actions, [DUNNO]);
    let last = MAX_REQUEST - request_line.len() - 3 * (MAX_LINE + 1) - 1;
    let bytes = [&request_line[..], &long(MAX_LINE).repeat(3)[..], &long(last)[..], b"\n"].concat();
    assert_eq!(talk(&gate, &[&bytes]).actions, [DUNNO]);
}

#[test]
fn only_what_has_come_is_kept() {
    let mut requests = Requests::default();
    assert_eq!(requests.next(b"a=b\nsen"), Ok((7, None)));
    assert!(requests.is_amid());
    assert_eq!(requests.next(b"der=x\n\nb=c"), Ok((7, Some(&b"a=b\nsender=x\n"[..]))));
    assert!(!requests.is_amid());
    assert_eq!(requests.next(b""), Ok((0, None)));
    assert!(!requests.is_amid());
}

#[test]
fn answers_cannot_be_more_than_one() {
    let mut out = Vec::new();
    encode_action(Some("550 5.7.1 a\r\n\naction=OK\0\u{fc}"), &mut out);
    assert_eq!(actions(&out), ["550 5.7.1 a???action=OK???"]);
}

const LIMITED: &str = "hostname = \"mx.example.org\"\n[limits]\nreply = \"450 4.7.1 Too much mail from [{ip}]\"\n";
/// With a text that is the same at each second.
const THROTTLED: &str = "450 4.7.1 Too much mail from [198.51.100.1]";

/// A request about the session with that port.
fn of_port<'a>(state: &'a str, port: &'a str) -> Request<'a> {
    Request { client_port: Some(port.as_bytes()), instance: Some(port.as_bytes()), ..request(state, "198.51.100.1") }
}

#[test]
fn a_connection_is_counted_once_however_often_it_is_asked_about() {
    let states = ["CONNECT", "EHLO", "EHLO", "MAIL", "RCPT", "RCPT", "EHLO", "MAIL", "RCPT"];
    // Postfix may be told to ask from any stage on.
    for first in [0, 1, 3, 4] {
        let gate = gate(&(LIMITED.to_owned() + "connections = \"2/h\"\n"));
        let mut session = Session::new();
        let mut ask = |requests: &[Request<'_>]| talk_with(&mut session, &gate, &[&stream(requests)]).actions;
        for port in ["1001", "1002"] {
            let requests: Vec<_> = states[first..].iter().map(|state| of_port(state, port)).collect();
            assert_eq!(ask(&requests), vec![DUNNO; requests.len()], "from {} on", states[first]);
        }
        // However often the third one tries.
        let requests: Vec<_> = states[first..].iter().map(|state| of_port(state, "1003")).collect();
        assert_eq!(ask(&requests), vec![THROTTLED; requests.len()], "from {} on", states[first]);
        // The session before it is over for all we know; authenticated clients have no limit.
        assert_eq!(ask(&[Request { sasl_username: Some(b"user"), ..of_port("RCPT", "1004") }]), [DUNNO]);
    }
    // One port twice: CONNECT begins a session.
    let gate = gate(&(LIMITED.to_owned() + "connections = \"2/h\"\n"));
    let connect = |instance| Request { instance: Some(instance), ..of_port("CONNECT", "1001") };
    assert_eq!(ask(&gate, &[connect(b"1"), connect(b"2"), connect(b"3")]), [DUNNO, DUNNO, THROTTLED]);
}

#[test]
fn open_sessions_are_not_counted_since_nobody_tells_their_end() {
    let gate = gate(&(LIMITED.to_owned() + "concurrent = 1\n"));
    for port in ["1001", "1002", "1003"] {
        assert_eq!(ask(&gate, &["CONNECT", "EHLO", "MAIL", "RCPT"].map(|state| of_port(state, port))), [DUNNO; 4]);
    }
}

#[test]
fn a_recipient_is_charged_once_though_several_restrictions_ask() {
    let gate = gate(&(LIMITED.to_owned() + "recipients = \"2/h\"\n"));
    let recipient = |recipient| Request { recipient: Some(recipient), ..of_port("RCPT", "1001") };
    let (a, b, c) = (recipient(b"a@example.org"), recipient(b"b@example.org"), recipient(b"c@example.org"));
    assert_eq!(ask(&gate, &[a, a, a, b, b]), [DUNNO; 5]);
    // What is refused is no such repetition, and in another session there is none.
    assert_eq!(ask(&gate, &[c, c, b]), [THROTTLED; 3]);

    // Without an instance nobody knows whether it is the same question.
    let gate = self::gate(&(LIMITED.to_owned() + "recipients = \"2/h\"\n"));
    let a = Request { instance: None, ..a };
    assert_eq!(ask(&gate, &[a, a, a]), [DUNNO, DUNNO, THROTTLED]);
}

#[test]
fn a_repeated_question_is_answered_by_the_rules_in_force() {
    let gate = gate(POLICY);
    let (mut session, asked) = (Session::new(), stream(&[request("RCPT", "198.51.100.1")]));
    assert_eq!(talk_with(&mut session, &gate, &[&asked]).actions, [DUNNO]);
    gate.set_mode(Some(crate::Mode::NoMail));
    assert_eq!(talk_with(&mut session, &gate, &[&asked]).actions, ["521 5.3.2 mx.example.org does not accept mail"]);
    gate.set_mode(None);
    assert_eq!(talk_with(&mut session, &gate, &[&asked]).actions, [DUNNO]);
}

/// A line of a request, or what only an attacker sends.
fn any_line() -> impl Strategy<Value = Vec<u8>> {
    let lines: &[&[u8]] = &[
        b"request=smtpd_access_policy\n",
        b"request=smtpd_access_policy\n",
        b"protocol_state=CONNECT\n",
        b"protocol_state=RCPT\n",
        b"client_address=192.0.2.7\n",
        b"client_address=203.0.113.1\n",
        b"recipient=user@parked.example\n",
        b"sender=\n",
        b"instance=1\n",
        b"\n",
        b"\n",
        b"=\n",
    ];
    prop_oneof![30 => prop::sample::select(lines).prop_map(<[u8]>::to_vec), 1 => any::<Vec<u8>>()]
}

proptest! {
    #[test]
    fn what_is_written_is_read(values in prop::collection::vec("[^\0\n]{0,20}", 11), size in 1..50usize) {
        let value = |at: usize| Some(values[at].as_bytes());
        let request = Request {
            protocol_state: value(0), client_address: value(1), client_port: value(2), client_name: value(3),
            reverse_client_name: value(4), helo_name: value(5), sender: value(6), recipient: value(7), instance: value(8),
            sasl_username: value(9), encryption_protocol: value(10),
        };
        let whole = stream(&[request, request]);
        let (mut requests, mut found) = (Requests::default(), 0);
        for mut piece in whole.chunks(size) {
            while let (used, Some(lines)) = requests.next(piece).unwrap() {
                prop_assert_eq!(Request::parse(lines), Ok(request));
                found += 1;
                piece = &piece[used..];
            }
        }
        prop_assert_eq!(found, 2);
    }

    #[test]
    fn random_lines_get_the_same_answers_however_they_are_cut(lines in prop::collection::vec(any_line(), 0..80), size in 1..200usize) {
        let gate = gate(POLICY);
        let whole = lines.concat();
        let outcome = talk(&gate, &[&whole]);
        prop_assert_eq!(&talk(&gate, &whole.chunks(size).collect::<Vec<_>>()), &outcome);
        prop_assert_eq!(&talk(&gate, &whole.chunks(1).collect::<Vec<_>>()), &outcome);
        prop_assert_eq!(outcome.refused.len(), outcome.actions.iter().filter(|action| *action != DUNNO).count());
        if outcome.end.is_ok() {
            // Behind bytes that do not end a line, a line feed ends theirs and no request.
            let ends = whole.split_inclusive(|byte| *byte == b'\n').filter(|line| *line == b"\n").count();
            prop_assert!(outcome.actions.len() >= ends);
        }
    }
}
