//! The special lines of rbldnsd: `$NAME values`, also behind a comment sign or a colon.

use crate::diagnostic::{Fault, quote};
use crate::list::Seconds;

/// Index of the variable `$=`.
pub(super) const BASE: usize = 10;

/// A special line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Special<'a> {
    /// One that is for the DNS alone: `$SOA`, `$NS`, `$TTL`.
    Ignored,
    /// `$0` to `$9` and `$=`: what stands for it in texts.
    Variable(usize, &'a [u8]),
    /// When the data were made, and when they are to be replaced.
    Timestamp(Option<Seconds>, Option<Seconds>),
    /// The shortest prefix of an IPv4 entry.
    MaxRange4(u8),
    /// The type of the lines below.
    Dataset(&'a [u8]),
}

impl<'a> Special<'a> {
    /// Reads a line without white space around it; `None` if it is not a special one.
    pub(super) fn parse(line: &'a [u8]) -> Result<Option<Special<'a>>, Fault> {
        let (comment, text) = match line {
            [b'$', text @ ..] => (false, text),
            [b':', b'$', text @ ..] => (false, text),
            [b'#' | b';', b'$', text @ ..] => (true, text),
            _ => return Ok(None),
        };
        let length = text.iter().take_while(|b| !b.is_ascii_whitespace()).count();
        let (name, rest) = text.split_at(length);
        let rest = rest.trim_ascii();
        let special = match name.to_ascii_lowercase().as_slice() {
            b"soa" | b"ns" | b"nameserver" | b"ttl" if !rest.is_empty() => Special::Ignored,
            b"timestamp" if !rest.is_empty() => timestamp(rest)?,
            b"maxrange4" if !rest.is_empty() => Special::MaxRange4(max_range(rest)?),
            b"dataset" if !rest.is_empty() => {
                let end = rest.iter().take_while(|b| !b.is_ascii_whitespace() && !matches!(b, b':' | b'#' | b';')).count();
                Special::Dataset(rest.split_at(end).0)
            }
            [digit @ b'0'..=b'9'] if !rest.is_empty() => Special::Variable(usize::from(digit - b'0'), rest),
            b"=" if !rest.is_empty() => Special::Variable(BASE, rest),
            // Marks of version control such as #$Id$ are comments.
            _ if comment => return Ok(None),
            _ => {
                return Err(Fault::new(
                    format!("{} is not a special line", quote(line)),
                    "write one of $SOA, $NS, $TTL, $TIMESTAMP, $MAXRANGE4, $DATASET, $0 to $9, each with its values, or # before it",
                ));
            }
        };
        Ok(Some(special))
    }

    /// Whether the line tells a data set from other texts.
    pub(super) fn is_telling(self) -> bool {
        !matches!(self, Special::Variable(..))
    }
}

fn max_range(text: &[u8]) -> Result<u8, Fault> {
    let wrong = || {
        Fault::new(
            format!("{} is not a size of a range", quote(text)),
            "write a prefix length such as /24 or a number of addresses such as 256",
        )
    };
    let (prefix, digits) = match text.strip_prefix(b"/") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(wrong());
    }
    let number: u32 = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).filter(|n| *n > 0).ok_or_else(wrong)?;
    let length = if prefix { number } else { 32 - number.ilog2() };
    u8::try_from(length).ok().filter(|length| *length <= 32).ok_or_else(wrong)
}

fn timestamp<'a>(text: &[u8]) -> Result<Special<'a>, Fault> {
    let wrong = |what: &[u8], remedy: &str| Fault::new(format!("{} is not a time", quote(what)), remedy);
    let mut words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let dates = "write 2026:01:31, 2026:01:31:23:59:59, or 0 if it is not known";
    let first = words.next().unwrap_or(b"");
    let made = moment(first).ok_or_else(|| wrong(first, dates))?;
    let expires = match words.next() {
        None => None,
        Some([b'+', offset @ ..]) => {
            let end = made.zip(duration(offset)).and_then(|(made, offset)| made.checked_add(offset));
            Some(end.ok_or_else(|| wrong(text, "write a time and an offset, such as 2026:01:31 +5d"))?)
        }
        Some(word) => moment(word).ok_or_else(|| wrong(word, dates))?,
    };
    if words.next().is_some() {
        return Err(wrong(text, "write when the data were made and when they end, without spaces inside a time"));
    }
    Ok(Special::Timestamp(made, expires))
}

/// A number of seconds, minutes, hours, days or weeks.
fn duration(text: &[u8]) -> Option<Seconds> {
    let (digits, unit) = match text {
        [digits @ .., b's' | b'S'] => (digits, 1),
        [digits @ .., b'm' | b'M'] => (digits, 60),
        [digits @ .., b'h' | b'H'] => (digits, 3600),
        [digits @ .., b'd' | b'D'] => (digits, 86400),
        [digits @ .., b'w' | b'W'] => (digits, 7 * 86400),
        _ => (text, 1),
    };
    let number: u32 = plain_number(digits)?;
    (number > 0).then(|| Seconds::from(number) * unit)
}

fn plain_number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// `yyyy:mm:dd[:hh[:mi[:ss]]]`, its delimiters being `:`, `-` or nothing; or seconds since 1970, where that is not a
/// date. `Some(None)` is "not given".
fn moment(text: &[u8]) -> Option<Option<Seconds>> {
    if matches!(text, b"0" | b"-" | b":") {
        return Some(None);
    }
    date(text).or_else(|| plain_number(text).filter(|_| matches!(text.len(), 9 | 10)).map(Seconds::from)).map(Some)
}

fn date(text: &[u8]) -> Option<Seconds> {
    let mut rest = text;
    let (year, month) = (field(&mut rest, 4, 1970, 9999)?, field(&mut rest, 2, 1, 12)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before = usize::try_from(month - 1).ok()?;
    let day = field(&mut rest, 2, 1, *lengths.get(before)?)?;
    let mut clock = [0; 3];
    for (slot, most) in clock.iter_mut().zip([23, 59, 59]) {
        // The rest may be missing.
        if !rest.is_empty() {
            *slot = field(&mut rest, 2, 0, most)?;
        }
    }
    let [hours, minutes, seconds] = clock;
    if !rest.is_empty() {
        return None;
    }
    let years = year - 1;
    // 477 leap days come before 1970.
    let days = (year - 1970) * 365 + (years / 4 - years / 100 + years / 400) - 477 + lengths.iter().take(before).sum::<u64>() + day - 1;
    Some(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
}

/// Takes a number of at most `width` digits, and a delimiter.
fn field(rest: &mut &[u8], width: usize, least: Seconds, most: Seconds) -> Option<Seconds> {
    let length = rest.iter().take(width).take_while(|b| b.is_ascii_digit()).count();
    let (digits, after) = rest.split_at(length);
    *rest = match after {
        [b':' | b'-', after @ ..] => after,
        _ => after,
    };
    plain_number(digits).map(Seconds::from).filter(|number| (least..=most).contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, want) in [
            ("1970:01:01", Some(Some(0))),
            ("2000:02:29", Some(Some(951_782_400))),
            ("2026:01:31:23:59:59", Some(Some(1_769_903_999))),
            ("20260131235959", Some(Some(1_769_903_999))),
            ("2026-01-31-23", Some(Some(1_769_900_400))),
            ("2038:01:19:03:14:08", Some(Some(2_147_483_648))),
            ("1769903999", Some(Some(1_769_903_999))),
            ("0", Some(None)),
            ("-", Some(None)),
            ("2026:02:29", None),
            ("2026:13:01", None),
            ("2026:01", None),
            ("2026:01:31:24", None),
            ("2026:01:31x", None),
            ("+5d", None),
            ("", None),
        ] {
            assert_eq!(moment(text.as_bytes()), want, "{text}");
        }
        assert_eq!(timestamp(b"2026:01:31 +5d"), Ok(Special::Timestamp(Some(1_769_817_600), Some(1_769_817_600 + 5 * 86400))));
        assert_eq!(timestamp(b"0 2026:01:31"), Ok(Special::Timestamp(None, Some(1_769_817_600))));
        assert!(timestamp(b"0 +5d").is_err() && timestamp(b"2026:01:31 +0").is_err() && timestamp(b"2026:01:31 12:00 x").is_err());
    }

    #[test]
    fn lines() {
        let special = |line: &'static str| Special::parse(line.as_bytes());
        assert_eq!(special("$soa 1 2 3"), Ok(Some(Special::Ignored)));
        assert_eq!(special(":$MAXRANGE4 /24"), Ok(Some(Special::MaxRange4(24))));
        assert_eq!(special("#$MAXRANGE4 256"), Ok(Some(Special::MaxRange4(24))));
        assert_eq!(special(";$MAXRANGE4 300"), Ok(Some(Special::MaxRange4(24))));
        assert_eq!(special("$1 see $$"), Ok(Some(Special::Variable(1, b"see $$"))));
        assert_eq!(special("$= a"), Ok(Some(Special::Variable(BASE, b"a"))));
        assert_eq!(special("$DATASET ip4set:x @ # y"), Ok(Some(Special::Dataset(b"ip4set"))));
        assert_eq!(special("#$Id: x $"), Ok(None));
        assert_eq!(special("# $SOA"), Ok(None));
        for line in ["$", "$SOA", "$ORIGIN x", "$12 x", "$MAXRANGE4 -24", "$MAXRANGE4 0", "$MAXRANGE4 /33", ":$ listed", "$TIMESTAMP now"] {
            assert!(special(line).is_err(), "{line}");
        }
    }
}
