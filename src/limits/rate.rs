//! A rate such as `100/min, burst 20`: how it is written, and what it lets through.
//!
//! It is the generic cell rate algorithm (ITU-T I.371), which is a leaky bucket kept as one moment: the one at which the
//! bucket will be empty. Whole nanoseconds all the way, so that a rate is kept exactly: in any span of time it lets through
//! at most the burst, and one more for each interval of the span.

use crate::diagnostic::{Fault, quote};
use std::fmt;

/// Nanoseconds of a monotonic clock, from any beginning.
pub type Nanoseconds = u64;

/// Nanoseconds of a second.
pub(super) const SECOND: Nanoseconds = 1_000_000_000;
/// A clock that is further behind was set back; one that is less so belongs to a thread that was held up.
const SET_BACK: Nanoseconds = 60 * SECOND;
/// Most events of a rate or a burst.
const MOST: u64 = 1_000_000;
/// The longest that a used-up burst may take to come back.
const SLOWEST: Nanoseconds = 365 * 86_400 * SECOND;

/// The units, each by all its names; messages use the first.
const UNITS: [(&[&str], u64); 4] = [(&["s", "sec"], 1), (&["min"], 60), (&["h", "hour"], 3600), (&["d", "day"], 86_400)];

/// How often something may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: u64,
    /// The first name of a unit.
    unit: &'static str,
    burst: u64,
    /// Time from one event to the next, rounded up.
    interval: Nanoseconds,
}

impl Rate {
    /// Reads `100/min` or `100/min, burst 20`. Units: `s`, `sec`, `min`, `h`, `hour`, `d`, `day`. The burst is how many may
    /// come at once; where it is not said it is the number itself, as it is with servers that count by the minute.
    pub fn parse(text: &str) -> Result<Rate, Fault> {
        let quoted = quote(text.as_bytes());
        let no_rate = || {
            let remedy = "write a number, a slash and s, min, h or d, such as \"100/min\", and how many may come at once, if that \
                          is another number: \"100/min, burst 20\"";
            Fault::new(format!("{quoted} is not a rate"), remedy)
        };
        let (rate, burst) = match text.split_once(',') {
            Some((rate, burst)) => (rate, Some(burst.strip_prefix(" burst ").and_then(number).ok_or_else(no_rate)?)),
            None => (text, None),
        };
        let (count, unit) = rate.split_once('/').ok_or_else(no_rate)?;
        let count = number(count).ok_or_else(no_rate)?;
        let Some((names, seconds)) = UNITS.iter().find(|(names, _)| names.contains(&unit)) else {
            let alike = UNITS
                .iter()
                .flat_map(|(names, _)| names.first())
                .find(|name| !unit.is_empty() && name.chars().next() == unit.chars().next());
            let remedy = alike.map_or("write s, min, h or d".into(), |name| format!("write {count}/{name}"));
            return Err(Fault::new(format!("{} is not a unit of a rate", quote(unit.as_bytes())), remedy));
        };
        for (what, number) in [("a rate", Some(count)), ("a burst", burst)] {
            match number {
                Some(0) => {
                    let remedy = "write 1 or more, or leave it out";
                    return Err(Fault::new(format!("{what} of 0 lets nothing through"), remedy));
                }
                Some(number) if number > MOST => {
                    return Err(Fault::new(
                        format!("{what} of {number} is too high to matter"),
                        format!("write at most {MOST}, or leave it out"),
                    ));
                }
                _ => {}
            }
        }
        let interval = (seconds * SECOND).div_ceil(count);
        let burst = burst.unwrap_or(count);
        if interval.saturating_mul(burst) > SLOWEST {
            let most = SLOWEST / interval;
            return Err(Fault::new(
                format!("a burst of {burst} takes more than a year to come back at {rate}"),
                format!("write burst {most} or less"),
            ));
        }
        let unit = names.first().copied().unwrap_or_default();
        Ok(Rate { count, unit, burst, interval })
    }

    /// One more at this moment, where the bucket will be empty at the moment `empty`: when it will be empty then, and how
    /// long there is still to wait if this one is one too many. It leaves the bucket as it is in that case.
    pub(super) fn arrive(&self, empty: Nanoseconds, now: Nanoseconds) -> (Nanoseconds, Option<Nanoseconds>) {
        let full = now.saturating_add(self.interval * self.burst);
        // After a clock was set back the bucket counts as full: it lets through no more than it should, nor nothing for ever.
        let empty = if empty > full.saturating_add(SET_BACK) { full } else { empty };
        // There is room for one as long as the others need no longer than this.
        let room = now.saturating_add(self.interval * (self.burst - 1));
        match empty.checked_sub(room) {
            None | Some(0) => (empty.max(now).saturating_add(self.interval), None),
            wait => (empty, wait),
        }
    }

    /// Takes one back.
    pub(super) fn refund(&self, empty: Nanoseconds) -> Nanoseconds {
        empty.saturating_sub(self.interval)
    }
}

/// Digits without a sign or leading zeros. What is larger than any number counts as the largest.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// As it is written in a policy.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.unit)?;
        if self.burst == self.count { Ok(()) } else { write!(f, ", burst {}", self.burst) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_as_they_are_written() {
        for (text, shown, interval, burst) in [
            ("100/min", "100/min", 600_000_000, 100),
            ("100/min, burst 20", "100/min, burst 20", 600_000_000, 20),
            ("1/s", "1/s", SECOND, 1),
            ("7/sec, burst 7", "7/s", 142_857_143, 7),
            ("10/hour, burst 1", "10/h, burst 1", 360 * SECOND, 1),
            ("10/h", "10/h", 360 * SECOND, 10),
            ("1/day, burst 3", "1/d, burst 3", 86_400 * SECOND, 3),
            ("1/d, burst 365", "1/d, burst 365", 86_400 * SECOND, 365),
            ("1000000/s", "1000000/s", 1000, 1_000_000),
        ] {
            let rate = Rate::parse(text).unwrap();
            assert_eq!((rate.to_string().as_str(), rate.interval, rate.burst), (shown, interval, burst), "{text}");
            assert_eq!(Rate::parse(shown), Ok(rate));
        }
    }

    #[test]
    fn other_rates_are_refused_with_the_remedy() {
        for (text, cause, remedy) in [
            ("", "\"\" is not a rate", "such as \"100/min\""),
            ("100", "is not a rate", "a number, a slash"),
            ("100 per minute", "is not a rate", "a number, a slash"),
            ("100 /min", "is not a rate", "a number, a slash"),
            ("+1/min", "is not a rate", "a number, a slash"),
            ("-1/min", "is not a rate", "a number, a slash"),
            ("01/min", "is not a rate", "a number, a slash"),
            ("1.5/s", "is not a rate", "a number, a slash"),
            ("1e3/s", "is not a rate", "a number, a slash"),
            ("\u{ff11}/s", "is not a rate", "a number, a slash"),
            ("/min", "is not a rate", "a number, a slash"),
            ("100/min,burst 20", "is not a rate", "\"100/min, burst 20\""),
            ("100/min, burst", "is not a rate", "\"100/min, burst 20\""),
            ("100/min, burst 20 ", "is not a rate", "\"100/min, burst 20\""),
            ("100/min, burst 20, burst 30", "is not a rate", "\"100/min, burst 20\""),
            ("100/min, 20", "is not a rate", "\"100/min, burst 20\""),
            ("100/", "\"\" is not a unit of a rate", "write s, min, h or d"),
            ("100/m", "\"m\" is not a unit of a rate", "write 100/min"),
            ("100/ min", "\" min\" is not a unit of a rate", "write s, min, h or d"),
            ("5/seconds", "\"seconds\" is not a unit", "write 5/s"),
            ("5/hours", "\"hours\" is not a unit", "write 5/h"),
            ("5/week", "\"week\" is not a unit", "write s, min, h or d"),
            ("5/min burst 2", "\"min burst 2\" is not a unit", "write 5/min"),
            ("0/min", "a rate of 0 lets nothing through", "leave it out"),
            ("5/min, burst 0", "a burst of 0 lets nothing through", "write 1 or more"),
            ("1000001/s", "a rate of 1000001 is too high", "at most 1000000"),
            ("99999999999999999999999/s", "is too high", "at most 1000000"),
            ("5/s, burst 1000001", "a burst of 1000001 is too high", "at most 1000000"),
            ("1/d, burst 366", "a burst of 366 takes more than a year to come back at 1/d", "burst 365 or less"),
            ("1/h, burst 1000000", "takes more than a year", "burst 8760 or less"),
        ] {
            let fault = Rate::parse(text).unwrap_err();
            assert!(fault.cause.contains(cause) && fault.remedy.contains(remedy), "{text}: {fault:?}");
        }
    }

    #[test]
    fn a_burst_then_one_an_interval() {
        let rate = Rate::parse("60/min, burst 3").unwrap();
        let mut empty = 0;
        let mut arrive = |now| {
            let (then, wait) = rate.arrive(empty, now);
            empty = then;
            wait
        };
        let start = 1000 * SECOND;
        assert_eq!([arrive(start), arrive(start), arrive(start)], [None; 3]);
        assert_eq!([arrive(start), arrive(start + 1), arrive(start + SECOND - 1)], [Some(SECOND), Some(SECOND - 1), Some(1)]);
        // Having been refused costs nothing.
        assert_eq!([arrive(start + SECOND), arrive(start + SECOND)], [None, Some(SECOND)]);
        assert_eq!([arrive(start + 3 * SECOND), arrive(start + 3 * SECOND)], [None; 2]);
        assert_eq!(arrive(start + 3 * SECOND), Some(SECOND));
        // The bucket holds no more than the burst, however long it has been empty.
        let later = start + 1_000_000 * SECOND;
        assert_eq!([arrive(later), arrive(later), arrive(later), arrive(later)], [None, None, None, Some(SECOND)]);
    }

    #[test]
    fn a_clock_that_is_set_back_locks_nobody_out() {
        let rate = Rate::parse("60/min, burst 1").unwrap();
        let (empty, _) = rate.arrive(0, 1_000_000 * SECOND);
        // A thread that was held up changes nothing.
        assert_eq!(rate.arrive(empty, 1_000_000 * SECOND - SET_BACK), (empty, Some(SECOND + SET_BACK)));
        let back = 1_000_000 * SECOND - SET_BACK - 1;
        assert_eq!(rate.arrive(empty, back), (back + SECOND, Some(SECOND)));
        assert_eq!(rate.arrive(back + SECOND, back + SECOND), (back + 2 * SECOND, None));
        // Neither end of the clock overflows.
        assert_eq!(rate.arrive(0, u64::MAX), (u64::MAX, None));
        assert_eq!(rate.arrive(u64::MAX, 0), (SECOND, Some(SECOND)));
        assert_eq!((rate.refund(5), rate.refund(empty)), (0, 1_000_000 * SECOND));
    }
}
