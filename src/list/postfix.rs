//! What the tables of Postfix share: lines that continue, and the actions of access(5).

use super::lines::{MAX_LINE, each_line};
use super::literal::{is_code, literal, split_status};
use super::{Action, Field, Record, Sink, Subject};
use crate::diagnostic::{Fault, quote};
use std::io::{self, BufRead};

/// Calls `each` with every rule and the number of its first line. A line that begins with white space continues the one
/// before it, also across comments and empty lines.
pub(super) fn each_rule(input: &mut dyn BufRead, mut each: impl FnMut(u32, Result<&[u8], Fault>)) -> io::Result<()> {
    let mut rule: Vec<u8> = Vec::with_capacity(256);
    // Line of the rule that is being collected; `Err` after a line that was refused, with what continues it.
    let mut first = Ok(0);
    each_line(input, |number, line| {
        let line = match line {
            Ok(line) => line,
            Err(fault) => {
                flush(&mut rule, first, &mut each);
                each(number, Err(fault));
                first = Err(());
                return;
            }
        };
        match line.trim_ascii_start() {
            [] | [b'#', ..] => {}
            text if text.len() == line.len() => {
                flush(&mut rule, first, &mut each);
                rule.extend_from_slice(line);
                first = Ok(number);
            }
            _ if first == Ok(0) => {
                let fault =
                    Fault::new("the first line begins with white space, which continues a line", "begin the rule in the first column");
                each(number, Err(fault));
                first = Err(());
            }
            _ if rule.len() + line.len() > MAX_LINE => {
                each(number, Err(Fault::limit(format!("the rule is longer than {MAX_LINE} bytes"), "shorten its text")));
                rule.clear();
                first = Err(());
            }
            _ if first.is_ok() => rule.extend_from_slice(line),
            _ => {}
        }
    })?;
    flush(&mut rule, first, &mut each);
    Ok(())
}

fn flush(rule: &mut Vec<u8>, first: Result<u32, ()>, each: &mut impl FnMut(u32, Result<&[u8], Fault>)) {
    if let Ok(number) = first
        && !rule.is_empty()
    {
        each(number, Ok(rule.trim_ascii_end()));
    }
    rule.clear();
}

/// Takes a rule apart: the pattern, and what stands after it.
pub(super) fn split_word(rule: &[u8]) -> (&[u8], &[u8]) {
    let (word, rest) = rule.split_at(rule.iter().position(u8::is_ascii_whitespace).unwrap_or(rule.len()));
    (word, rest.trim_ascii())
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome<'a> {
    /// It refuses, for this reason.
    Cover(&'a [u8]),
    /// It accepts, or says nothing.
    Hole,
    /// It does something that is no answer to a client, so that no other rule of the table is asked.
    Aside(Fault),
    /// It refuses with this reply.
    Reply(String),
}

/// Reads an action of access(5).
pub(super) fn action(text: &[u8]) -> Result<Outcome<'_>, Fault> {
    let (word, rest) = split_word(text);
    let name = word.to_ascii_uppercase();
    let none = || {
        let quoted = quote(word);
        Fault::new(
            format!("{quoted} is neither REJECT nor OK nor a reply, and cannot be expressed"),
            "write REJECT, a reply such as \"550 5.7.1 text\", OK or DUNNO; rules that do more stay in Postfix",
        )
    };
    Ok(match name.as_slice() {
        b"" => return Err(Fault::new("the rule has no action", "write REJECT, OK or a reply such as \"550 5.7.1 text\" after it")),
        b"REJECT" => Outcome::Cover(reason(rest)),
        b"DEFER" | b"DEFER_IF_PERMIT" => Outcome::Reply(literal("450", None, rest)?),
        b"OK" | b"RELAY" | b"DUNNO" => Outcome::Hole,
        b"PERMIT" if rest.is_empty() => Outcome::Hole,
        b"WARN" | b"INFO" | b"PREPEND" | b"BCC" | b"DEFER_IF_REJECT" => {
            let name = String::from_utf8_lossy(&name);
            let cause = format!("{name} refuses no mail by itself and is left out");
            Outcome::Aside(Fault::new(cause, "keep the rule in Postfix if it is still wanted; here it reads as DUNNO"))
        }
        b"DISCARD" | b"HOLD" | b"REDIRECT" | b"FILTER" => return Err(none()),
        digits if digits.iter().all(u8::is_ascii_digit) && rest.is_empty() => {
            if is_code(digits) {
                return Err(Fault::new(
                    format!("{} without a text means OK to Postfix: a result of digits alone accepts", quote(word)),
                    format!("write a text after the code to refuse, such as \"{} text\", or OK to accept", String::from_utf8_lossy(digits)),
                ));
            }
            Outcome::Hole
        }
        code if is_code(code) => Outcome::Reply(literal(std::str::from_utf8(word).unwrap_or(""), None, rest)?),
        _ => return Err(none()),
    })
}

/// The text of REJECT without its enhanced status code: the reply of the list has one.
fn reason(text: &[u8]) -> &[u8] {
    let Ok(ascii) = std::str::from_utf8(text) else { return text };
    split_status(ascii).1.as_bytes()
}

/// Whether a word is an action that lists of addresses do not have behind an entry by chance.
pub(super) fn is_telling(text: &[u8]) -> bool {
    let (word, rest) = split_word(text);
    let lower = word.iter().any(u8::is_ascii_lowercase);
    match word.to_ascii_uppercase().as_slice() {
        b"PERMIT" | b"REJECT" | b"DUNNO" | b"OK" if rest.is_empty() => true,
        b"REJECT" | b"OK" | b"DUNNO" | b"DEFER" | b"DEFER_IF_PERMIT" | b"DISCARD" | b"HOLD" | b"FILTER" | b"PREPEND" | b"WARN" => !lower,
        code => is_code(code) && std::str::from_utf8(rest).is_ok_and(|rest| split_status(rest).0.is_some()),
    }
}

/// The rules at the beginning of a text, for detection: the last line may be cut off.
pub(super) fn head_rules(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let complete = head.iter().rposition(|b| *b == b'\n').map_or(head, |end| head.split_at(end).0);
    let lines = complete.split(|b| *b == b'\n').map(<[u8]>::trim_ascii_end);
    lines
        .filter(|line| !matches!(line.trim_ascii_start(), [] | [b'#', ..]))
        .filter(|line| !line.starts_with(b" ") && !line.starts_with(b"\t"))
}

/// Hands over one rule.
pub(super) fn put<'a>(sink: &mut dyn Sink, line: u32, column: u32, outcome: &Outcome<'_>, subjects: impl Iterator<Item = Subject<'a>>) {
    let (action, reason): (_, &[u8]) = match outcome {
        Outcome::Cover(reason) => (Action::Cover, reason),
        Outcome::Reply(literal) => (Action::Reply(literal), b""),
        Outcome::Hole => (Action::Hole, b""),
        Outcome::Aside(fault) => {
            sink.warn(line, column, fault.clone());
            (Action::Hole, b"")
        }
    };
    for subject in subjects {
        sink.record(Record { line, column, subject, field: Field::Any, action, reason, expires: None });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        let text = "one a\n  b\n# c\n\n\t d \r\ntwo\n   \n";
        let mut seen = Vec::new();
        each_rule(&mut text.as_bytes(), |number, rule| seen.push((number, String::from_utf8(rule.unwrap().to_vec()).unwrap()))).unwrap();
        assert_eq!(seen, [(1, "one a  b\t d".to_string()), (6, "two".to_string())]);
    }

    #[test]
    fn actions() {
        let reply = |text: &str| Ok(Outcome::Reply(text.to_string()));
        assert_eq!(action(b"REJECT"), Ok(Outcome::Cover(b"")));
        assert_eq!(action(b"reject 5.7.1 go away"), Ok(Outcome::Cover(b"go away")));
        assert_eq!(action(b"521 blocked"), reply("521 5.7.1 blocked"));
        assert_eq!(action(b"defer_if_permit 4.3.2 later"), reply("450 4.3.2 later"));
        for text in ["OK", "permit", "RELAY", "dunno", "1234567890", "0", "OK text", "4500"] {
            assert_eq!(action(text.as_bytes()), Ok(Outcome::Hole), "{text}");
        }
        for text in
            ["", "550", "HOLD", "discard x", "permit_mynetworks", "permit reject", "reject_unauth_destination", "650 no", "REDIRECT a@b"]
        {
            assert!(action(text.as_bytes()).is_err(), "{text}");
        }
    }
}
