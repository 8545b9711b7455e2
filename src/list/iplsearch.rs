//! Exim `iplsearch` files: key, colon or white space, data. The data become the reason. A line that begins with white space
//! goes on with the data of the line before.
//!
//! ```text
//! # example
//! 192.0.2.7:          data for one host
//! 198.51.100.0/24:    data for a network,
//!                     on two lines
//! "2001:db8::/32"     data; without the quotation marks the key would end at its first colon
//! ```

use super::detect::{Looks, Sample};
use super::lines::{MAX_LINE, each_line};
use super::{Action, Field, Reading, Record, Sink, Statement, Subject};
use crate::diagnostic::{Fault, quote};
use crate::prefix::parse_network;
use ipnet::IpNet;
use std::io::{self, BufRead};

/// Reads a file.
pub(super) fn read(input: &mut dyn BufRead, _: &Reading, sink: &mut dyn Sink) -> io::Result<Statement> {
    let mut last = Last::None;
    let mut data = Vec::new();
    each_line(input, |number, text| {
        let line = match text {
            // Exim passes over them also in the middle of an entry.
            Ok(text) if text.trim_ascii().is_empty() || text.starts_with(b"#") => return,
            Ok(text) => text,
            Err(fault) => return sink.fault(number, 1, fault),
        };
        if line.first().is_some_and(u8::is_ascii_whitespace) {
            match last {
                Last::None => {
                    let fault = Fault::new("the first line begins with white space", "begin with the key: only more data begin so");
                    sink.fault(number, 1, fault);
                    last = Last::Wrong;
                }
                // As long as a line may be, so that no entry fills the memory.
                Last::Entry { .. } if data.len() < MAX_LINE => {
                    if !data.is_empty() {
                        data.push(b' ');
                    }
                    data.extend(line.trim_ascii());
                }
                Last::Entry { .. } | Last::Wrong => {}
            }
            return;
        }
        last.finish(&data, sink);
        data.clear();
        last = match split(line).and_then(|(key, rest)| parse_key(key).map(|key| (key, rest))) {
            Ok((network, rest)) => {
                data.extend(rest);
                Last::Entry { line: number, column: 1 + u32::from(line.starts_with(b"\"")), network }
            }
            Err(fault) => {
                sink.fault(number, 1, fault);
                Last::Wrong
            }
        };
    })?;
    last.finish(&data, sink);
    Ok(Statement::default())
}

/// The entry whose data may go on.
#[derive(Clone, Copy)]
enum Last {
    /// There was none.
    None,
    /// It is wrong, which is said already.
    Wrong,
    Entry {
        line: u32,
        column: u32,
        network: IpNet,
    },
}

impl Last {
    fn finish(self, reason: &[u8], sink: &mut dyn Sink) {
        if let Last::Entry { line, column, network } = self {
            let (subject, field, action) = (Subject::Network(network), Field::Any, Action::Cover);
            sink.record(Record { line, column, subject, field, action, reason, expires: None });
        }
    }
}

/// Takes a line apart: key and data, as Exim's `lsearch` does.
fn split(line: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let (key, rest) = match line.strip_prefix(b"\"") {
        Some(quoted) => {
            let Some(end) = quoted.iter().position(|b| *b == b'"') else {
                return Err(Fault::new("the quotation mark is not closed", "write the key as \"2001:db8::/32\""));
            };
            let (key, rest) = quoted.split_at(end);
            (key, rest.strip_prefix(b"\"").unwrap_or(rest))
        }
        None => line.split_at(line.iter().position(|b| *b == b':' || b.is_ascii_whitespace()).unwrap_or(line.len())),
    };
    let rest = rest.trim_ascii();
    Ok((key, rest.strip_prefix(b":").unwrap_or(rest).trim_ascii_start()))
}

fn parse_key(key: &[u8]) -> Result<IpNet, Fault> {
    if key == b"*" {
        return Err(Fault::new("the key \"*\" covers every address", "leave it out: what no entry covers is not on the list"));
    }
    let digits = !key.is_empty() && key.len() <= 4 && key.iter().all(u8::is_ascii_hexdigit);
    if digits {
        let cause = format!("{} is not an IP address", quote(key));
        return Err(Fault::new(cause, "write an IPv6 key in quotation marks: \"2001:db8::/32\""));
    }
    parse_network(str::from_utf8(key).unwrap_or("\u{fffd}"))
}

/// Whether a text is of this format: keys with a colon after them, or in quotation marks. `2001:db8::` is an address.
pub(super) fn looks(sample: &Sample<'_>) -> Looks {
    let keyed = |line: &[u8]| {
        let word = line.split(u8::is_ascii_whitespace).next().unwrap_or(line);
        let quoted = line.starts_with(b"\"") && split(line).is_ok_and(|(key, _)| parse_key(key).is_ok());
        let colon = word.strip_suffix(b":").is_some_and(|key| key == b"*" || parse_key(key).is_ok());
        let address = str::from_utf8(word).is_ok_and(|word| parse_network(word).is_ok());
        quoted || (colon && !address)
    };
    let entries = || sample.entries().filter(|line| !line.first().is_some_and(u8::is_ascii_whitespace));
    match sample.share(entries().count(), entries().filter(|line| keyed(line)).count()) {
        // None of these lines can be an entry of any other format.
        Looks::Maybe => Looks::Yes,
        looks @ (Looks::Yes | Looks::No) => looks,
    }
}
