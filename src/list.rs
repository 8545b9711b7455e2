//! The plain list format: one entry a line, read line by line so that a list of any length streams.
//!
//! `#` and `;` start a comment; what stands after an entry, comment sign or not, is its reason.
//!
//! ```text
//! # example
//! 192.0.2.0/24   sent spam on 2026-01-31
//! !192.0.2.7     ; a hole: this list does not cover it
//! 2001:db8::/32
//! ```

use crate::diagnostic::Fault;
use std::io::{self, BufRead, Read};

/// Longest line of a list, in bytes.
pub(crate) const MAX_LINE: usize = 4096;

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

/// Calls `each` with the number and the bytes of every line, without its line end (LF or CR LF) and without a
/// byte-order mark. A line that is too long is handed over as a fault.
pub(crate) fn each_line(mut input: &mut dyn BufRead, mut each: impl FnMut(u32, Result<&[u8], Fault>)) -> io::Result<()> {
    let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX) + 2;
    let mut buffer = Vec::with_capacity(256);
    for number in 1.. {
        buffer.clear();
        // CR LF do not count, hence 2 more; a longer line is read to its end and thrown away.
        if Read::by_ref(&mut input).take(limit).read_until(b'\n', &mut buffer)? == 0 {
            break;
        }
        let complete = buffer.ends_with(b"\n");
        let line = buffer.strip_suffix(b"\n").unwrap_or(&buffer);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = if number == 1 { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line };
        if line.len() <= MAX_LINE {
            each(number, Ok(line));
        } else {
            each(number, Err(Fault::limit(format!("the line is longer than {MAX_LINE} bytes"), "give one entry a line")));
            if !complete {
                input.skip_until(b'\n')?;
            }
        }
    }
    Ok(())
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

    #[test]
    fn line_ends_marks_and_long_lines() {
        let long = "x".repeat(MAX_LINE + 1);
        let fits = "y".repeat(MAX_LINE);
        let huge = "z".repeat(3 * MAX_LINE);
        let text = format!("\u{feff}one\r\ntwo\n{long}\n{huge}\r\n{fits}\r\nlast");
        let mut seen = Vec::new();
        each_line(&mut text.as_bytes(), |number, line| seen.push((number, line.map(<[u8]>::to_vec).map_err(|fault| fault.cause)))).unwrap();
        let too_long = Err(format!("the line is longer than {MAX_LINE} bytes"));
        let want = [Ok(b"one".to_vec()), Ok(b"two".to_vec()), too_long.clone(), too_long, Ok(fits.into()), Ok(b"last".to_vec())];
        assert_eq!(seen, (1..).zip(want).collect::<Vec<_>>());
    }
}
