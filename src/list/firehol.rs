//! FireHOL netset and ipset: a plain list whose header says when it was made and how long it is.
//!
//! ```text
//! # example
//! # ipv4 hash:net ipset
//! # This File Date  : Fri Nov 13 17:18:59 UTC 2015
//! # Entries         : 2 subnets, 257 unique IPs
//! 192.0.2.0/24
//! 198.51.100.7
//! ```

use super::detect::{Looks, Sample};
use super::drop::{earlier, value_of};
use super::plain::{each_other_line, read_line};
use super::{Reading, Sink, Statement, dates};
use crate::diagnostic::{Fault, quote};
use std::io::{self, BufRead};

/// Reads a list.
pub(super) fn read(input: &mut dyn BufRead, reading: &Reading, sink: &mut dyn Sink) -> io::Result<Statement> {
    let mut statement = Statement::default();
    each_other_line(input, reading, sink, |sink, number, text| {
        match text.as_ref().ok().and_then(|text| header(text)) {
            Some((Name::Date, value)) => statement.made = earlier(statement.made, dates::header(value, number, sink)),
            Some((Name::Entries, value)) => match count(value) {
                Some(count) => statement.entries = Some(statement.entries.unwrap_or(0).saturating_add(count)),
                None => {
                    let cause = format!("{} is not a number of entries", quote(value.trim_ascii()));
                    sink.warn(number, 1, Fault::new(cause, "it is unknown whether this list is complete"));
                }
            },
            None => {}
        }
        read_line(number, text, reading, sink);
    })?;
    Ok(statement)
}

/// The lines of the header that matter.
enum Name {
    Date,
    Entries,
}

/// `# This File Date  : ...`, `# Entries         : ...`.
fn header(line: &[u8]) -> Option<(Name, &[u8])> {
    let comment = line.trim_ascii().strip_prefix(b"#")?.trim_ascii_start();
    let (name, rest) = if let Some(rest) = value_of(comment, b"This File Date") {
        (Name::Date, rest)
    } else {
        (Name::Entries, value_of(comment, b"Entries")?)
    };
    Some((name, rest.trim_ascii_start().strip_prefix(b":")?))
}

/// `6273 subnets, 680864624 unique IPs` in a netset, `1234 unique IPs` in an ipset: the first number counts the lines.
fn count(value: &[u8]) -> Option<u64> {
    let value = str::from_utf8(value).ok()?.trim();
    let (number, what) = value.split_once(' ')?;
    (what.starts_with("subnets") || what.starts_with("unique IPs")).then(|| number.parse().ok())?
}

/// Whether a text is of this format: the header says so.
pub(super) fn looks(sample: &Sample<'_>) -> Looks {
    let kind = |line: &[u8]| line.starts_with(b"#") && (line.ends_with(b" hash:net ipset") || line.ends_with(b" hash:ip ipset"));
    let header = sample.lines().map(<[u8]>::trim_ascii).any(|line| kind(line) || matches!(header(line), Some((Name::Date, _))));
    if header { Looks::Yes } else { Looks::No }
}
