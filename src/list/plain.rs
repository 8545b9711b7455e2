//! The plain list format: one entry a line, in the order of the lines or not.
//!
//! `#` and `;` start a comment; what stands after an entry, comment sign or not, is its reason.
//!
//! ```text
//! # example
//! 192.0.2.0/24   sent spam on 2026-01-31
//! !192.0.2.7     ; a hole: this list does not cover it
//! 192.0.2.10-192.0.2.20
//! 2001:db8::/32
//! *.example.org
//! ```

use super::lines::each_line;
use super::{About, Action, Field, Reading, Record, Sink, Statement, Subject};
use crate::diagnostic::Fault;
use std::io::{self, BufRead};

/// Reads a list.
pub(super) fn read(input: &mut dyn BufRead, reading: &Reading, sink: &mut dyn Sink) -> io::Result<Statement> {
    each_line(input, |number, text| match text.and_then(parse_line) {
        Ok(None) => {}
        Ok(Some(line)) => match line.record(number, reading.about) {
            Ok(record) => sink.record(record),
            Err(fault) => sink.fault(number, line.column, fault),
        },
        Err(fault) => sink.fault(number, 1, fault),
    })?;
    Ok(Statement::default())
}

/// A line that has an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// `!` stood before the entry.
    pub hole: bool,
    /// The entry as written.
    pub entry: &'a str,
    /// What stands after it, without the comment sign.
    pub reason: &'a [u8],
    /// Column of the entry, in bytes, from 1.
    pub column: u32,
}

impl<'a> Line<'a> {
    /// The line as an entry of a list.
    pub(crate) fn record(&self, number: u32, about: About) -> Result<Record<'a>, Fault> {
        Ok(Record {
            line: number,
            column: self.column,
            subject: Subject::parse(self.entry, about)?,
            field: Field::Any,
            action: if self.hole { Action::Hole } else { Action::Cover },
            reason: self.reason,
            expires: None,
        })
    }
}

/// Takes a line apart; `None` if it is empty or a comment.
pub(crate) fn parse_line(line: &[u8]) -> Result<Option<Line<'_>>, Fault> {
    let start = line.iter().take_while(|b| b.is_ascii_whitespace()).count();
    let (_, text) = line.split_at(start);
    if text.is_empty() || text.starts_with(b"#") || text.starts_with(b";") {
        return Ok(None);
    }
    let length = text.iter().take_while(|b| !b.is_ascii_whitespace() && !matches!(b, b'#' | b';')).count();
    let (entry, rest) = text.split_at(length);
    let (hole, entry) = match entry.strip_prefix(b"!") {
        Some(entry) => (true, entry),
        None => (false, entry),
    };
    let Ok(entry) = std::str::from_utf8(entry) else {
        return Err(Fault::new("the entry is not UTF-8 text", "give a text file with one entry a line, not a compressed or binary one"));
    };
    let sign = rest.iter().take_while(|b| b.is_ascii_whitespace() || matches!(b, b'#' | b';')).count();
    let (_, reason) = rest.split_at(sign);
    let column = u32::try_from(start + 1 + usize::from(hole)).unwrap_or(u32::MAX);
    Ok(Some(Line { hole, entry, reason: reason.trim_ascii_end(), column }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        for (text, want) in [
            ("192.0.2.1", Some((false, "192.0.2.1", "", 1))),
            ("  192.0.2.1  sent spam ", Some((false, "192.0.2.1", "sent spam", 3))),
            ("192.0.2.0/24 ; SBL1", Some((false, "192.0.2.0/24", "SBL1", 1))),
            ("192.0.2.0/24#x # y", Some((false, "192.0.2.0/24", "x # y", 1))),
            ("!192.0.2.1 no", Some((true, "192.0.2.1", "no", 2))),
            ("", None),
            ("   \t", None),
            ("# 192.0.2.1", None),
            ("; EOF", None),
        ] {
            let want = want.map(|(hole, entry, reason, column)| Line { hole, entry, reason: reason.as_bytes(), column });
            assert_eq!(parse_line(text.as_bytes()), Ok(want), "{text}");
        }
        assert!(parse_line(b"\x1f\x8b\x08\xff").is_err());
    }
}
