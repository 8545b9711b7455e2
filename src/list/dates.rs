//! Dates as the headers of lists write them: `Tue, 19 May 2026 10:36:36 GMT`, `Fri Nov 13 17:18:59 UTC 2015`,
//! `2026-07-14T20:45:40`.

use super::{Seconds, Sink};
use crate::diagnostic::{Fault, quote};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// The forms, all in UTC: HTTP (RFC 9110 section 5.6.7), `date` of Unix (with 24 and 12 hours, and as Perl has it),
/// RFC 3339 and its relatives.
const FORMS: [&str; 8] = [
    "%a, %d %b %Y %H:%M:%S GMT",
    "%a %b %e %H:%M:%S UTC %Y",
    "%a %b %e %H:%M:%S GMT %Y",
    "%a %b %e %I:%M:%S %p UTC %Y",
    "%a %b %e %H:%M:%S %Y UTC",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.fZ",
    "%Y-%m-%d %H:%M:%S%.f",
];

/// Reads a date in any of the forms.
pub(super) fn parse(text: &[u8]) -> Option<Seconds> {
    let text = str::from_utf8(text).ok()?.trim();
    let date = FORMS.iter().find_map(|form| DateTime::strptime(form, text).ok())?;
    Seconds::try_from(TimeZone::UTC.to_timestamp(date).ok()?.as_second()).ok()
}

/// Reads the date of a header. One that cannot be read is no mistake of the list, but somebody should know that its age
/// is not looked at.
pub(super) fn header(text: &[u8], line: u32, sink: &mut dyn Sink) -> Option<Seconds> {
    let date = parse(text);
    if date.is_none() {
        let cause = format!("{} is not a date in UTC", quote(text.trim_ascii()));
        sink.warn(line, 1, Fault::new(cause, "the age of this list is unknown"));
    }
    date
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (text, want) in [
            ("Tue, 19 May 2026 10:36:36 GMT", Some(1_779_186_996)),
            ("Fri Nov 13 17:18:59 UTC 2015", Some(1_447_435_139)),
            ("Tue Nov  3 17:18:59 UTC 2015", Some(1_446_571_139)),
            ("Fri Nov 13 05:18:59 PM UTC 2015", Some(1_447_435_139)),
            ("Fri Nov 13 17:18:59 2015 UTC", Some(1_447_435_139)),
            ("2026-07-14T20:45:40", Some(1_784_061_940)),
            ("2026-07-14T20:45:40.123456", Some(1_784_061_940)),
            ("2026-07-14T20:45:40Z", Some(1_784_061_940)),
            ("2026-07-14 20:45:40", Some(1_784_061_940)),
            ("1970-01-01T00:00:00", Some(0)),
            ("1969-12-31T23:59:59", None),
            ("Tue, 31 Feb 2026 10:36:36 GMT", None),
            ("Fri Nov 13 17:18:59 CET 2015", None),
            ("2026-07-14T20:45:40+02:00", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(parse(text.as_bytes()), want, "{text}");
        }
        assert_eq!(parse(b"\xff"), None);
    }
}
