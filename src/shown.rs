//! How entries, places, times and shares are shown to people.

use crate::contents::{Contents, Entry};
use crate::covering::List;
use crate::list::Seconds;
use jiff::Timestamp;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// An entry as a list has it: a host without its prefix length, a hole with its mark.
pub(crate) fn entry(contents: &Contents, entry: Entry) -> String {
    let mark = if entry.is_hole() { "!" } else { "" };
    contents.about(entry).map_or_else(String::new, |about| format!("{mark}{about}"))
}

/// Where an entry stands: `file:line`.
pub(crate) fn place(file: &str, line: u32) -> String {
    if line == 0 { "built in".into() } else { format!("{file}:{line}") }
}

/// What a list is: `allow list`, `watched block list`, ...
pub(crate) fn kind(list: &List) -> String {
    if list.conduct.shadow { format!("watched {}", list.role) } else { list.role.to_string() }
}

/// A time: `2026-11-21T09:30:00Z`.
pub(crate) fn time(at: Seconds) -> String {
    i64::try_from(at).ok().and_then(|at| Timestamp::from_second(at).ok()).map_or_else(|| at.to_string(), |at| at.to_string())
}

/// A span in the unit that says enough: `40 s`, `36 h`, `3 d`.
pub(crate) fn span(seconds: Seconds) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / MINUTE),
        7200..172_800 => format!("{} h", seconds / HOUR),
        _ => format!("{} d", seconds / DAY),
    }
}

/// A share of a whole. What is not all is never shown as all, and what is not nothing never as nothing.
pub(crate) fn percent(share: f64) -> String {
    match share * 100.0 {
        percent if percent <= 0.0 => "0%".into(),
        percent if percent < 0.1 => "<0.1%".into(),
        percent if percent >= 100.0 => "100%".into(),
        percent if percent > 99.9 => ">99.9%".into(),
        percent => format!("{percent:.1}%"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_times() {
        for (seconds, shown) in [
            (0, "0 s"),
            (119, "119 s"),
            (120, "2 min"),
            (7199, "119 min"),
            (7200, "2 h"),
            (172_799, "47 h"),
            (172_800, "2 d"),
            (864_000, "10 d"),
        ] {
            assert_eq!(span(seconds), shown);
        }
        assert_eq!(time(1_800_000_000), "2027-01-15T08:00:00Z");
        assert_eq!(time(u64::MAX), u64::MAX.to_string());
    }

    #[test]
    fn shares() {
        let shown = [0.0, 0.0004, 0.5, 0.9994, 1.0].map(percent);
        assert_eq!(shown, ["0%", "<0.1%", "50.0%", ">99.9%", "100%"]);
    }
}
