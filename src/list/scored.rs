//! Scored lists, such as IPsum: an address, a tab, and in how many lists or how often it was seen. The policy may say what
//! score is the least that counts. The score becomes the reason.
//!
//! ```text
//! # example
//! 192.0.2.1   10
//! 198.51.100.7   3
//! ```

use super::detect::{Looks, Sample};
use super::lines::each_line;
use super::plain::parse_line;
use super::{Reading, Record, Sink, Statement, Subject};
use crate::diagnostic::{Fault, quote};
use std::io::{self, BufRead, Write};

/// Reads a list.
pub(super) fn read(input: &mut dyn BufRead, reading: &Reading, sink: &mut dyn Sink) -> io::Result<Statement> {
    let mut text = Vec::new();
    each_line(input, |number, line| {
        let line = match line.and_then(parse_line) {
            Ok(Some(line)) => line,
            Ok(None) => return,
            Err(fault) => return sink.fault(number, 1, fault),
        };
        if line.hole {
            return sink.fault(number, line.column, Fault::new("a scored list has no holes", "leave out the \"!\" line"));
        }
        // An address that is left out for its score is checked all the same.
        match line.record(number, reading.about).and_then(|record| score(line.reason).map(|score| (record, score))) {
            Ok((record, score)) if reading.threshold.is_none_or(|threshold| score >= threshold) => {
                text.clear();
                let _ = write!(text, "score {score}");
                sink.record(Record { reason: &text, ..record });
            }
            Ok(_) => {}
            Err(fault) => sink.fault(number, line.column, fault),
        }
    })?;
    Ok(Statement::default())
}

/// The number after an address; a comment may follow.
fn score(text: &[u8]) -> Result<u64, Fault> {
    let number = text.split(|b| matches!(b, b'#' | b';')).next().unwrap_or(text).trim_ascii();
    if number.is_empty() {
        return Err(Fault::new(
            "there is no score after the address",
            "write address, tab, score; or format = \"plain\" for a list without scores",
        ));
    }
    str::from_utf8(number)
        .ok()
        .filter(|number| number.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| Fault::new(format!("{} is not a score", quote(number)), "write a whole number, such as 3"))
}

/// Whether a text is of this format: nothing but entry, one tab, number. A plain list may have numbers for reasons, hence
/// nothing is said if only some lines are so.
pub(super) fn looks(sample: &Sample<'_>) -> Looks {
    sample.most(|line| {
        let mut columns = line.trim_ascii().splitn(2, |b| *b == b'\t');
        let entry = columns.next().and_then(|entry| str::from_utf8(entry).ok());
        let number = columns.next().is_some_and(|text| !text.is_empty() && text.iter().all(u8::is_ascii_digit));
        number && entry.is_some_and(|entry| Subject::parse(entry, sample.about()).is_ok())
    })
}
