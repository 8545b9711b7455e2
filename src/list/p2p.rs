//! P2P (eMule, PeerGuardian): a name, a colon, a range. The name becomes the reason, and may itself have colons.
//!
//! ```text
//! # example
//! Example network:192.0.2.0-192.0.2.255
//! Example: its second network:198.51.100.0-198.51.100.127
//! ```

use super::detect::{Looks, Sample};
use super::lines::each_line;
use super::{About, Action, Field, Reading, Record, Sink, Statement, Subject};
use crate::diagnostic::Fault;
use crate::prefix::{leading_range4, parse_range};
use std::io::{self, BufRead};

/// Reads a list.
pub(super) fn read(input: &mut dyn BufRead, _: &Reading, sink: &mut dyn Sink) -> io::Result<Statement> {
    each_line(input, |number, text| {
        let line = match text {
            Ok(text) => text.trim_ascii_end(),
            Err(fault) => return sink.fault(number, 1, fault),
        };
        if line.trim_ascii_start().is_empty() || line.starts_with(b"#") {
            return;
        }
        let (name, range) = split(line);
        let column = u32::try_from(line.len() - range.len() + 1).unwrap_or(u32::MAX);
        match parse(name, range) {
            Ok(subject) => {
                let reason = name.unwrap_or_default().trim_ascii();
                let (field, action) = (Field::Any, Action::Cover);
                sink.record(Record { line: number, column, subject, field, action, reason, expires: None });
            }
            Err(fault) => sink.fault(number, column, fault),
        }
    })?;
    Ok(Statement::default())
}

/// Name and range; no name if there is no colon.
fn split(line: &[u8]) -> (Option<&[u8]>, &[u8]) {
    match line.iter().rposition(|b| *b == b':').and_then(|colon| line.split_at_checked(colon)) {
        Some((name, range)) => (Some(name), range.strip_prefix(b":").unwrap_or(range).trim_ascii_start()),
        None => (None, line.trim_ascii_start()),
    }
}

fn parse(name: Option<&[u8]>, range: &[u8]) -> Result<Subject<'static>, Fault> {
    if name.is_none() {
        return Err(Fault::new("there is no colon before the range", "write a name and a range: name:192.0.2.0-192.0.2.255"));
    }
    if let Some(((first, last), [])) = leading_range4(range) {
        return Ok(Subject::Range(first, last));
    }
    let range = str::from_utf8(range).unwrap_or("\u{fffd}");
    let Some((first, last)) = range.split_once('-') else {
        return Err(Fault::new("there is no range after the last colon", "write both ends, also of one host: name:192.0.2.7-192.0.2.7"));
    };
    parse_range(first, last).map(|(first, last)| Subject::Range(first, last))
}

/// Whether a text is of this format. What begins with a plain entry is not: `::ffff:192.0.2.1-192.0.2.9` is a range as it
/// stands, and a range after an address belongs to its reason.
pub(super) fn looks(sample: &Sample<'_>) -> Looks {
    let named = |line: &[u8]| {
        let (name, range) = split(line);
        let word = line.trim_ascii_start().split(u8::is_ascii_whitespace).next().unwrap_or(line);
        let plain = str::from_utf8(word).is_ok_and(|word| Subject::parse(word, About::Addresses).is_ok());
        !plain && name.is_some_and(|name| !name.trim_ascii().is_empty()) && parse(name, range).is_ok()
    };
    match sample.most(named) {
        // None of the other lines can be an entry of any other format that has some like these.
        Looks::Maybe => Looks::Yes,
        looks @ (Looks::Yes | Looks::No) => looks,
    }
}
