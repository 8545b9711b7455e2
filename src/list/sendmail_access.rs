//! Sendmail access table, the text that makemap(8) reads: keys with tags, and what to do.
//!
//! ```text
//! Connect:192.0.2                 REJECT                     first octets: 192.0.2.0/24
//! Connect:IPv6:2001:db8:2c7       RELAY                      first groups: 2001:db8:2c7::/48
//! From:spam@example.org           ERROR:5.7.1:"550 go away"
//! To:example.net                  OK                         the name and all below it
//! 198.51                          550 old untagged entry
//! ```
//!
//! The most specific key decides.

use super::lines::each_line;
use super::literal::{is_code, literal, split_status};
use super::octets::{address6, network4, network6, octets};
use super::postfix::{head_rules, split_word};
use super::{Action, Field, Record, Sink, Statement, Subject, parse_mailbox};
use crate::diagnostic::{Fault, quote};
use crate::domain::{self, Form};
use std::io::{self, BufRead};

/// Tags of other features of Sendmail, which refuse no mail by the key alone.
const OTHER_TAGS: [&str; 16] = [
    "spam",
    "authinfo",
    "certissuer",
    "certsubject",
    "clientconn",
    "clientrate",
    "compat",
    "delay",
    "greetpause",
    "srv_features",
    "clt_features",
    "tls_clt",
    "tls_srv",
    "tls_srv_features",
    "tls_rcpt",
    "try_tls",
];

/// Reads a list.
pub(super) fn read(input: &mut dyn BufRead, sink: &mut dyn Sink) -> io::Result<Statement> {
    each_line(input, |number, line| {
        let line = match line {
            Ok(line) => line,
            Err(fault) => return sink.fault(number, 1, fault),
        };
        if matches!(line.trim_ascii_start(), [] | [b'#', ..]) {
            return;
        }
        if let Err((column, fault)) = rule(number, line, sink) {
            sink.fault(number, column, fault);
        }
    })?;
    Ok(Statement::default())
}

fn rule(number: u32, line: &[u8], sink: &mut dyn Sink) -> Result<(), (u32, Fault)> {
    let text = line.trim_ascii_end();
    if text.first().is_some_and(u8::is_ascii_whitespace) {
        return Err((1, Fault::new("the line begins with white space, and makemap leaves it out", "begin the key in the first column")));
    }
    let (word, rest) = split_word(text);
    let Ok(key) = std::str::from_utf8(word) else {
        return Err((1, Fault::new(format!("the key {} is not ASCII", quote(word)), "write it in ASCII")));
    };
    let (field, entry) = match tag(key) {
        Tag::None => (Field::Any, key),
        Tag::Field(field, rest) => (field, rest),
        Tag::Other(tag) => {
            let remedy = "keep it in Sendmail if it is still wanted";
            sink.warn(
                number,
                1,
                Fault::new(format!("keys with the tag {} are left out: they refuse no mail", quote(tag.as_bytes())), remedy),
            );
            return Ok(());
        }
    };
    let column = |part: usize| u32::try_from(text.len() - part + 1).unwrap_or(u32::MAX);
    let outcome = action(rest).map_err(|fault| (if rest.is_empty() { 1 } else { column(rest.len()) }, fault))?;
    let at = u32::try_from(key.len() - entry.len() + 1).unwrap_or(u32::MAX);
    if entry == "<>" || entry == "@" {
        if outcome != Outcome::Hole {
            let remedy = "leave it out: bounces have no sender, and must be taken (RFC 5321 section 4.5.5)";
            sink.warn(number, at, Fault::new("the empty sender is left out", remedy));
        }
        return Ok(());
    }
    let subject = subject(entry).map_err(|fault| (at, fault))?;
    let action = match &outcome {
        Outcome::Cover => Action::Cover,
        Outcome::Hole => Action::Hole,
        Outcome::Reply(literal) => Action::Reply(literal),
    };
    sink.record(Record { line: number, column: at, subject, field, action, reason: b"", expires: None });
    Ok(())
}

enum Tag<'a> {
    None,
    Field(Field, &'a str),
    Other(&'a str),
}

fn tag(key: &str) -> Tag<'_> {
    let Some((tag, rest)) = key.split_once(':') else { return Tag::None };
    let lower = tag.to_ascii_lowercase();
    match lower.as_str() {
        "connect" => Tag::Field(Field::Client, rest),
        "from" => Tag::Field(Field::Sender, rest),
        "to" => Tag::Field(Field::Recipient, rest),
        _ if OTHER_TAGS.contains(&lower.as_str()) => Tag::Other(tag),
        _ => Tag::None,
    }
}

/// Reads a key without its tag.
pub(crate) fn subject(entry: &str) -> Result<Subject<'_>, Fault> {
    let wrong = |remedy: &str| Err(Fault::new(format!("{} is not a key of an access table", quote(entry.as_bytes())), remedy));
    if entry.is_empty() {
        return wrong("write an address, a domain or a mailbox after the tag; a default for everything is the policy's business");
    }
    if let Some((tag, groups)) = entry.split_once(':').filter(|(tag, _)| tag.eq_ignore_ascii_case("ipv6")) {
        let _ = tag;
        return address6(groups).and_then(|(number, bits)| network6(number, bits)).map(Subject::Network);
    }
    if entry.contains('@') {
        return parse_mailbox(entry).map(Subject::Mailbox);
    }
    if entry.starts_with('[') {
        return wrong("write the address without brackets");
    }
    if entry.contains('/') {
        return wrong("write octets, such as 192.0.2 for 192.0.2.0/24: Sendmail knows no prefix lengths");
    }
    if entry.contains(':') {
        return wrong("write Connect:, From: or To: as a tag, and IPv6: before an IPv6 address");
    }
    if entry.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        if entry.ends_with('.') {
            return wrong("leave out the dot at the end");
        }
        return octets(entry).and_then(|(number, count)| network4(number, count * 8)).map(Subject::Network);
    }
    match domain::parse_entry(entry)? {
        (Form::Below, _) => wrong("write example.org for the name and all below it: the table knows no star"),
        (Form::Exact, name) => Ok(Subject::Domain(Form::Both, name)),
        // FEATURE(`lookupdotdomain').
        (Form::Both, name) => Ok(Subject::Domain(Form::Below, name)),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Cover,
    Hole,
    Reply(String),
}

/// Reads the right side.
fn action(text: &[u8]) -> Result<Outcome, Fault> {
    let (word, rest) = split_word(text);
    let tag = word.split(|b| *b == b':').next().unwrap_or(b"");
    match tag.to_ascii_uppercase().as_slice() {
        b"" => Err(Fault::new("the key has no right side", "write REJECT, OK or a reply such as \"550 text\" after it")),
        b"OK" | b"RELAY" | b"SKIP" if tag == word => Ok(Outcome::Hole),
        b"REJECT" if text == word && tag == word => Ok(Outcome::Cover),
        b"ERROR" => error(text.split_at(tag.len()).1),
        code if is_code(code) && tag == word => literal(std::str::from_utf8(word).unwrap_or(""), None, unquote(rest)).map(Outcome::Reply),
        _ => Err(Fault::new(
            format!("{} cannot be expressed", quote(text)),
            "write REJECT, OK, RELAY, SKIP, or a reply such as ERROR:5.7.1:\"550 text\"; keys that do more stay in Sendmail",
        )),
    }
}

/// Reads what stands behind ERROR: `:D.S.N:### text` or `:### text`, in quotation marks or not.
fn error(text: &[u8]) -> Result<Outcome, Fault> {
    let wrong = || Fault::new(format!("{} is not a reply", quote(text)), "write ERROR:5.7.1:\"550 text\" or ERROR:\"550 text\"");
    let text = text.strip_prefix(b":").ok_or_else(wrong)?.trim_ascii_start();
    let (status, reply) = match text.split(|b| *b == b':').next().map(|word| (word, std::str::from_utf8(word))) {
        Some((word, Ok(status))) if split_status(status) == (Some(status), "") && word.len() < text.len() => {
            (Some(status), text.split_at(word.len() + 1).1)
        }
        _ => (None, text),
    };
    let (code, rest) = split_word(unquote(reply));
    if !is_code(code) {
        return Err(wrong());
    }
    literal(std::str::from_utf8(code).unwrap_or(""), status, rest).map(Outcome::Reply)
}

fn unquote(text: &[u8]) -> &[u8] {
    match text.trim_ascii() {
        [b'"', inside @ .., b'"'] => inside.trim_ascii(),
        text => text,
    }
}

/// Whether a text looks like such a table: a key with a tag, and nothing that cannot be a line of it.
pub(super) fn looks(head: &[u8]) -> bool {
    let mut telling = false;
    for rule in head_rules(head) {
        let (word, rest) = split_word(rule);
        let Ok(key) = std::str::from_utf8(word) else { return false };
        match tag(key) {
            Tag::None if rest.is_empty() => return false,
            Tag::None => telling |= rest.to_ascii_uppercase().starts_with(b"ERROR:"),
            Tag::Field(..) | Tag::Other(_) => telling = true,
        }
    }
    telling
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn right_sides() {
        for (text, want) in [
            ("ERROR:5.7.1:\"550 go away\"", "550 5.7.1 go away"),
            ("ERROR:5.7.1:550 go away", "550 5.7.1 go away"),
            ("error:\"451 later\"", "451 4.7.1 later"),
            ("ERROR:550 5.1.1 none", "550 5.1.1 none"),
            ("550 We don't", "550 5.7.1 We don't"),
            ("550 \"No\"", "550 5.7.1 No"),
        ] {
            assert_eq!(action(text.as_bytes()), Ok(Outcome::Reply(want.into())), "{text}");
        }
        for text in [
            "",
            "DISCARD",
            "QUARANTINE:x",
            "ERROR",
            "ERROR:",
            "ERROR:5.7.1:",
            "ERROR:5.7.1:no code",
            "ERROR:4.7.1:550 x",
            "FRIEND",
            "REJECT x",
            "OK:x",
        ] {
            assert!(action(text.as_bytes()).is_err(), "{text}");
        }
    }
}
