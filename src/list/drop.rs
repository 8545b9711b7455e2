//! Spamhaus DROP as text.
//!
//! What stands after the semicolon is the listing, and becomes the reason. The header says when the list was made and
//! when it is to be replaced; `; EOF` is its last line, and tells that the download is complete.
//!
//! ```text
//! ; Spamhaus DROP List 2026/05/20 - (c) 2026 The Spamhaus Project SLU
//! ; Last-Modified: Tue, 19 May 2026 10:36:36 GMT
//! ; Expires: Wed, 20 May 2026 10:14:02 GMT
//! 192.0.2.0/24 ; SBL256894
//! 2001:db8::/32 ; SBL459831
//! ; EOF
//! ```

use super::detect::{Looks, Sample};
use super::lines::each_line;
use super::plain::parse_line;
use super::{About, Reading, Sink, Statement, dates};
use crate::diagnostic::Fault;
use std::io::{self, BufRead};

/// Reads a list.
pub(super) fn read(input: &mut dyn BufRead, _: &Reading, sink: &mut dyn Sink) -> io::Result<Statement> {
    let mut statement = Statement { complete: Some(false), ..Statement::default() };
    each_line(input, |number, text| match text {
        Ok(text) => read_line(number, text, &mut statement, sink),
        Err(fault) => sink.fault(number, 1, fault),
    })?;
    Ok(statement)
}

fn read_line(number: u32, text: &[u8], statement: &mut Statement, sink: &mut dyn Sink) {
    match parse_line(text) {
        Ok(None) => {
            let Some(comment) = text.trim_ascii().strip_prefix(b";").map(<[u8]>::trim_ascii) else { return };
            if comment == b"EOF" {
                statement.complete = Some(true);
            } else if let Some(date) = value_of(comment, b"Last-Modified:") {
                // Of several lists in one file the oldest counts.
                statement.made = earlier(statement.made, dates::header(date, number, sink));
            } else if let Some(date) = value_of(comment, b"Expires:") {
                statement.expires = earlier(statement.expires, dates::header(date, number, sink));
            }
        }
        Ok(Some(line)) => {
            // More lists may follow in the same file, each with its mark.
            statement.complete = Some(false);
            let record = if line.hole {
                Err(Fault::new("a DROP list has no holes", "put the network into an allow list of its own"))
            } else {
                line.record(number, About::Addresses)
            };
            match record {
                Ok(record) => sink.record(record),
                Err(fault) => sink.fault(number, line.column, fault),
            }
        }
        Err(fault) => sink.fault(number, 1, fault),
    }
}

/// The text after a name, in any case.
pub(super) fn value_of<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (head, value) = text.split_at_checked(name.len())?;
    head.eq_ignore_ascii_case(name).then_some(value)
}

/// The earlier of two points in time, as far as they are known.
pub(super) fn earlier(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}

/// Whether a text is of this format: the header says so.
pub(super) fn looks(sample: &Sample<'_>) -> Looks {
    let mut comments = sample.lines().filter_map(|line| line.trim_ascii().strip_prefix(b";")).map(<[u8]>::trim_ascii);
    let header = comments.any(|text| {
        value_of(text, b"Spamhaus ").is_some() || value_of(text, b"Last-Modified:").is_some_and(|date| dates::parse(date).is_some())
    });
    if header { Looks::Yes } else { Looks::No }
}
