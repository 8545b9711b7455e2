//! The plain list format: one entry a line, in the order of the lines or not.
//!
//! `#`, `;` and, at the start of a line, `//` start a comment; what stands after an entry, comment sign or not, is its reason.
//!
//! ```text
//! # example
//! 192.0.2.0/24   sent spam on 2026-01-31
//! !192.0.2.7     ; a hole: this list does not cover it
//! 192.0.2.10-192.0.2.20
//! 198.51.100.1 - 198.51.100.9
//! 2001:db8::/32
//! *.example.org
//! ```

use super::lines::{MAX_LINE, each_line_but, without_return};
use super::{About, Action, Field, Reading, Record, Sink, Statement, Subject};
use crate::diagnostic::Fault;
use crate::prefix::{leading_network, leading_range4};
use memchr::memchr;
use std::io::{self, BufRead};

/// Reads a list.
pub(super) fn read(input: &mut dyn BufRead, reading: &Reading, sink: &mut dyn Sink) -> io::Result<Statement> {
    each_other_line(input, reading, sink, |sink, number, text| read_line(number, text, reading, sink))?;
    Ok(Statement::default())
}

/// Takes all lines that need not be taken apart, and calls `each` with the others.
pub(super) fn each_other_line<'a>(
    input: &mut dyn BufRead,
    reading: &Reading,
    sink: &mut (dyn Sink + 'a),
    each: impl FnMut(&mut (dyn Sink + 'a), u32, Result<&[u8], Fault>),
) -> io::Result<()> {
    let addresses = reading.about == About::Addresses;
    each_line_but(input, sink, |sink, number, block| if addresses { quick(number, block, sink) } else { 0 }, each)
}

/// Reads a line.
pub(super) fn read_line(number: u32, text: Result<&[u8], Fault>, reading: &Reading, sink: &mut dyn Sink) {
    match text.and_then(parse_line) {
        Ok(None) => {}
        Ok(Some(line)) => match line.record(number, reading.about) {
            Ok(record) => sink.record(record),
            Err(fault) => sink.fault(number, line.column, fault),
        },
        Err(fault) => sink.fault(number, 1, fault),
    }
}

/// Takes what stands on nearly all lines of long lists: a network, address or range at the beginning, perhaps a reason after
/// it. Says how long the line is, its end included; 0 if it was not that, or may be something else or wrong, so that the line
/// is to be taken apart.
fn quick(number: u32, block: &[u8], sink: &mut dyn Sink) -> usize {
    if let Some((network, reason, length)) = quick_line(block, leading_network) {
        sink.network(number, 1, network, reason);
        length
    } else if let Some(((first, last), reason, length)) = quick_line(block, leading_range4) {
        let (subject, field, action) = (Subject::Range(first, last), Field::Any, Action::Cover);
        sink.record(Record { line: number, column: 1, subject, field, action, reason, expires: None });
        length
    } else {
        0
    }
}

/// The line that a block begins with: what it is about, its reason, and how long it is.
#[inline]
fn quick_line<T>(block: &[u8], leading: impl Fn(&[u8]) -> Option<(T, &[u8])>) -> Option<(T, &[u8], usize)> {
    let (subject, rest) = leading(block)?;
    let length = block.len() - rest.len();
    if rest.starts_with(b"\n") {
        return Some((subject, &[], length + 1));
    }
    let end = memchr(b'\n', rest).filter(|end| length + end <= MAX_LINE)?;
    let reason = match without_return(rest.get(..end)?) {
        tail @ ([] | [b' ' | b'\t' | b'#' | b';', ..]) => reason(tail),
        _ => return None,
    };
    // It may be the other end of a range.
    (!reason.starts_with(b"-")).then_some((subject, reason, length + end + 1))
}

/// The reason in what stands after an entry.
fn reason(rest: &[u8]) -> &[u8] {
    let sign = rest.iter().take_while(|b| b.is_ascii_whitespace() || matches!(b, b'#' | b';')).count();
    rest.get(sign..).unwrap_or_default().trim_ascii_end()
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
    if text.is_empty() || [b"#".as_slice(), b";", b"//"].iter().any(|sign| text.starts_with(sign)) {
        return Ok(None);
    }
    let (entry, rest) = text.split_at(spaced_range(text).unwrap_or_else(|| word(text).len()));
    if rest.starts_with(b"\r") {
        // What follows is most likely the next entry, and not to be lost as the reason of this one.
        return Err(Fault::new("a carriage return stands after the entry", "save the list with LF or CR LF line ends"));
    }
    let (hole, entry) = match entry.strip_prefix(b"!") {
        Some(entry) => (true, entry),
        None => (false, entry),
    };
    let Ok(entry) = std::str::from_utf8(entry) else {
        return Err(Fault::new("the entry is not UTF-8 text", "give a text file with one entry a line, not a compressed or binary one"));
    };
    let column = u32::try_from(start + 1 + usize::from(hole)).unwrap_or(u32::MAX);
    Ok(Some(Line { hole, entry, reason: reason(rest), column }))
}

/// What stands before white space or a comment.
fn word(text: &[u8]) -> &[u8] {
    text.split(|b| b.is_ascii_whitespace() || matches!(b, b'#' | b';')).next().unwrap_or(text)
}

/// The length of a range with spaces, `a - b`, `a- b` or `a -b`, if a line begins with one. `a - reason` is not one.
fn spaced_range(text: &[u8]) -> Option<usize> {
    let first = word(text);
    let rest = text.strip_prefix(first)?.trim_ascii_start();
    let (first, rest) = match first.strip_suffix(b"-") {
        Some(first) => (first, rest),
        None => (first, rest.strip_prefix(b"-")?.trim_ascii_start()),
    };
    let last = word(rest);
    (address_like(first.strip_prefix(b"!").unwrap_or(first)) && address_like(last)).then(|| text.len() - rest.len() + last.len())
}

/// Whether a word is meant as an address or a network, be it right or not: four numbers, or an IPv6 address, which a time
/// of day is not.
fn address_like(word: &[u8]) -> bool {
    let count = |sign: u8| word.iter().filter(|b| **b == sign).count();
    if word.contains(&b':') {
        let signs = word.iter().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.' | b'/'));
        signs && (count(b':') > 2 || word.windows(2).any(|pair| pair == b"::"))
    } else {
        word.iter().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'/')) && count(b'.') == 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
            ("// 192.0.2.1", None),
            ("192.0.2.1 - 192.0.2.9", Some((false, "192.0.2.1 - 192.0.2.9", "", 1))),
            ("!192.0.2.1\t-  192.0.2.9 # why", Some((true, "192.0.2.1\t-  192.0.2.9", "why", 2))),
            ("192.0.2.1- 192.0.2.9 why", Some((false, "192.0.2.1- 192.0.2.9", "why", 1))),
            ("192.0.2.1 -192.0.2.9;why", Some((false, "192.0.2.1 -192.0.2.9", "why", 1))),
            ("2001:db8:: - 2001:db8::f", Some((false, "2001:db8:: - 2001:db8::f", "", 1))),
            // Wrong, and not to be taken for a reason.
            ("192.0.2.1 - 192.0.2.300", Some((false, "192.0.2.1 - 192.0.2.300", "", 1))),
            ("192.0.2.0/24 - 192.0.3.0/24", Some((false, "192.0.2.0/24 - 192.0.3.0/24", "", 1))),
            ("192.0.2.1 - 2026-01-31 spam", Some((false, "192.0.2.1", "- 2026-01-31 spam", 1))),
            ("192.0.2.1 - 12:30:45 spam", Some((false, "192.0.2.1", "- 12:30:45 spam", 1))),
            ("192.0.2.1 - spam", Some((false, "192.0.2.1", "- spam", 1))),
            ("192.0.2.1 -", Some((false, "192.0.2.1", "-", 1))),
            ("example.org - 192.0.2.1", Some((false, "example.org", "- 192.0.2.1", 1))),
            ("; EOF", None),
        ] {
            let want = want.map(|(hole, entry, reason, column)| Line { hole, entry, reason: reason.as_bytes(), column });
            assert_eq!(parse_line(text.as_bytes()), Ok(want), "{text}");
        }
        assert!(parse_line(b"\x1f\x8b\x08\xff").is_err());
    }

    proptest! {
        /// The quick way is the long one or none.
        #[test]
        fn the_quick_way_says_the_same(
            (start, word, middle, end) in (
                "|!| |\t|\\[",
                "192\\.0\\.2\\.[0-9]{1,4}|198\\.51\\.100\\.0/[0-9]{1,3}|(0?[0-9]{1,3}\\.){3}[0-9]{1,3}(/[0-9]{1,2})?|2001:db8::[0-9a-f]{0,5}(/[0-9]{1,3})?|::(ffff:)?192\\.0\\.2\\.1",
                "[ \t\r#;,x-]{0,3}",
                "|192\\.0\\.2\\.9|-192\\.0\\.2\\.9|- 192\\.0\\.2\\.9|because #;|[ -~]{0,6}|\\PC{0,3}|\r| ",
            ),
        ) {
            let text = format!("{start}{word}{middle}{end}");
            let block = format!("{text}\n198.51.100.1\n");
            let network = quick_line(block.as_bytes(), leading_network).map(|(network, reason, length)| (Subject::Network(network), reason, length));
            let range = || quick_line(block.as_bytes(), leading_range4).map(|((first, last), reason, length)| (Subject::Range(first, last), reason, length));
            if let Some((subject, reason, length)) = network.or_else(range) {
                prop_assert_eq!(length, text.len() + 1);
                let line = parse_line(without_return(text.as_bytes())).unwrap().unwrap();
                prop_assert_eq!((line.hole, line.reason, line.column), (false, reason, 1), "{}", text);
                prop_assert_eq!(Subject::parse(line.entry, About::Addresses), Ok(subject), "{}", text);
            }
        }
    }

    #[test]
    fn what_most_lines_have_goes_the_quick_way() {
        let quick = |text: &str| {
            let text = format!("{text}\n");
            quick_line(text.as_bytes(), leading_network).is_some() || quick_line(text.as_bytes(), leading_range4).is_some()
        };
        for text in [
            "192.0.2.1",
            "192.0.2.0/24",
            "192.0.2.0/24 ; SBL1",
            "192.0.2.0/24\twhy - what",
            "192.0.2.1#",
            "192.0.2.1 ",
            "192.0.2.1\r",
            "192.0.2.0/24 ; SBL1\r",
            "2001:db8::1",
            "2001:db8::/32 why",
            "192.0.2.1-192.0.2.9;why",
        ] {
            assert!(quick(text), "{text}");
        }
        for text in [
            "192.0.2.1 - 192.0.2.9",
            "192.0.2.9-192.0.2.1",
            "192.0.2.1-192.0.2.9 - 192.0.2.20",
            "!192.0.2.1",
            "192.0.2.1\r192.0.2.2",
            "192.0.2.1x",
            "192.0.2.1/24",
            "::ffff:192.0.2.1",
            "2001:db8::1/32",
        ] {
            assert!(!quick(text), "{text}");
        }
    }
}
