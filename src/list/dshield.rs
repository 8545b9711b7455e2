//! DShield `block.txt`: columns with a tab between them, first and last address, prefix length (netmask in old copies),
//! attacks, name, country, mail address. Name and country become the reason.
//!
//! ```text
//! #    updated: 2026-07-14T20:45:40
//! Start   End   Netmask   Attacks   Name   Country   email
//! 192.0.2.0   192.0.2.255   24   579   EXAMPLE-NET   SG   abuse@example.net
//! ```

use super::detect::{Looks, Sample};
use super::drop::{earlier, value_of};
use super::lines::each_line;
use super::{Action, Field, Reading, Record, Sink, Statement, Subject, dates};
use crate::diagnostic::{Fault, quote};
use crate::prefix::{parse_network, parse_range};
use ipnet::{IpNet, ipv4_mask_to_prefix};
use std::io::{self, BufRead};
use std::net::Ipv4Addr;

/// Reads a list.
pub(super) fn read(input: &mut dyn BufRead, _: &Reading, sink: &mut dyn Sink) -> io::Result<Statement> {
    let mut statement = Statement::default();
    let mut reason = Vec::new();
    each_line(input, |number, text| {
        let line = match text {
            Ok(text) => text.trim_ascii(),
            Err(fault) => return sink.fault(number, 1, fault),
        };
        if let Some(comment) = line.strip_prefix(b"#") {
            if let Some(date) = value_of(comment.trim_ascii_start(), b"updated:") {
                statement.made = earlier(statement.made, dates::header(date, number, sink));
            }
        } else if !line.is_empty() && !is_header(line) {
            match parse_line(line, &mut reason) {
                Ok(network) => {
                    let subject = Subject::Network(network);
                    let (field, action) = (Field::Any, Action::Cover);
                    sink.record(Record { line: number, column: 1, subject, field, action, reason: &reason, expires: None });
                }
                Err(fault) => sink.fault(number, 1, fault),
            }
        }
    })?;
    Ok(statement)
}

/// The row that names the columns.
fn is_header(line: &[u8]) -> bool {
    value_of(line, b"Start\tEnd").is_some()
}

/// Reads a row, and writes its name and country.
fn parse_line(line: &[u8], reason: &mut Vec<u8>) -> Result<IpNet, Fault> {
    let mut columns = line.split(|b| *b == b'\t').map(<[u8]>::trim_ascii);
    let (Some(first), Some(last), Some(length)) = (columns.next(), columns.next(), columns.next()) else {
        return Err(Fault::new(
            "the line has fewer than three columns",
            "write first address, last address and prefix length, with tabs between them",
        ));
    };
    reason.clear();
    for text in columns.skip(1).take(2).filter(|text| !text.is_empty()) {
        if !reason.is_empty() {
            reason.extend(b", ");
        }
        reason.extend(text);
    }
    let [first, last, length] = [first, last, length].map(|text| str::from_utf8(text).unwrap_or("\u{fffd}"));
    let (start, end) = parse_range(first, last)?;
    let wrong = |cause: String| {
        let remedy = "first address, last address and prefix length must name one network: 192.0.2.0, 192.0.2.255, 24";
        Err(Fault::new(cause, remedy))
    };
    let length = match length.parse::<Ipv4Addr>() {
        // ipnet refuses masks with holes.
        Ok(mask) => match ipv4_mask_to_prefix(mask) {
            Ok(length) => length.to_string(),
            Err(_) => return wrong(format!("{} is not a netmask", quote(length.as_bytes()))),
        },
        Err(_) => length.to_string(),
    };
    let network = parse_network(&format!("{start}/{length}"))?;
    if (network.network(), network.broadcast()) == (start, end) { Ok(network) } else { wrong(format!("{start} to {end} is not {network}")) }
}

/// Whether a text is of this format: the row of names, or three columns of which two are addresses.
pub(super) fn looks(sample: &Sample<'_>) -> Looks {
    let row = |line: &[u8]| {
        let mut columns = line.split(|b| *b == b'\t').map(|column| str::from_utf8(column).unwrap_or("").trim());
        let addresses = columns.by_ref().take(2).filter(|column| parse_network(column).is_ok()).count() == 2;
        addresses && columns.next().is_some_and(|length| length.parse::<u8>().is_ok() || length.parse::<Ipv4Addr>().is_ok())
    };
    if sample.entries().any(is_header) { Looks::Yes } else { sample.most(row) }
}
