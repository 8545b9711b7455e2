//! How many sessions somebody has open, in one number.
//!
//! Not every end of a session is told: a mail server may be killed, or forget it. So that nobody is locked out by that, a
//! session counts for at least one hour and at most two. Sessions are counted by the hour in which they began, this one and
//! the one before; those of the hour before that are forgotten. An end is taken for the end of the session that began first,
//! which is true of most, and makes no difference to the sum.

use super::rate::{Nanoseconds, SECOND};

/// The span in which beginnings are counted together.
const HOUR: Nanoseconds = 3600 * SECOND;

/// The sessions of one client. As a number: 32 bits of the hour, 16 of those of the hour before, 16 of those of the hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sessions {
    hour: u32,
    older: u16,
    newer: u16,
}

impl Sessions {
    /// The sessions in a number, at this moment.
    pub(super) fn at(number: u64, now: Nanoseconds) -> Sessions {
        let [hour, high, low] = [number >> 32, number >> 16, number];
        let (older, newer) = (low_bits(high), low_bits(low));
        // Hours since the clock began fit, as long as it goes on for less than 400,000 years.
        let (then, hour) = (u32::try_from(hour).unwrap_or(0), u32::try_from(now / HOUR).unwrap_or(u32::MAX));
        match (hour.checked_sub(then), then.checked_sub(hour)) {
            // A thread that was held up still sees the hour before.
            (Some(0), _) | (_, Some(1)) => Sessions { hour: then, older, newer },
            (Some(1), _) => Sessions { hour, older: newer, newer: 0 },
            // All of them are too old; or the clock was set back, and nobody knows.
            _ => Sessions { hour, older: 0, newer: 0 },
        }
    }

    pub(super) fn number(self) -> u64 {
        u64::from(self.hour) << 32 | u64::from(self.older) << 16 | u64::from(self.newer)
    }

    /// How many are open.
    pub(super) fn open(self) -> u64 {
        u64::from(self.older) + u64::from(self.newer)
    }

    /// One more; `None` if that is more than `most`.
    pub(super) fn begin(self, most: u16) -> Option<Sessions> {
        (self.open() < u64::from(most)).then_some(Sessions { newer: self.newer.saturating_add(1), ..self })
    }

    /// One less.
    pub(super) fn end(self) -> Sessions {
        match self.older.checked_sub(1) {
            Some(older) => Sessions { older, ..self },
            None => Sessions { newer: self.newer.saturating_sub(1), ..self },
        }
    }
}

fn low_bits(number: u64) -> u16 {
    u16::try_from(number & 0xffff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_counts_until_its_end() {
        let mut number = 0;
        for open in 0..3 {
            let sessions = Sessions::at(number, 5 * HOUR);
            assert_eq!(sessions.open(), open);
            number = sessions.begin(3).unwrap().number();
        }
        assert_eq!(Sessions::at(number, 5 * HOUR).begin(3), None);
        number = Sessions::at(number, 6 * HOUR).end().number();
        let sessions = Sessions::at(number, 6 * HOUR);
        assert_eq!((sessions.open(), sessions.begin(3).unwrap().begin(3)), (2, None));
        // An end too many is no session owed.
        assert_eq!(sessions.end().end().end().begin(3).unwrap().open(), 1);
        assert_eq!(Sessions::at(0, 0).begin(u16::MAX).unwrap().number(), 1);
    }

    #[test]
    fn a_session_whose_end_is_not_told_is_forgotten() {
        let began = 5 * HOUR + HOUR / 2;
        let number = Sessions::at(0, began).begin(1).unwrap().number();
        for (moment, open) in [
            (began + HOUR, 1),
            (7 * HOUR - 1, 1),
            (7 * HOUR, 0),
            (5 * HOUR, 1),
            // A thread that was held up, and a clock that was set back.
            (5 * HOUR - 1, 1),
            (4 * HOUR - 1, 0),
            (u64::MAX, 0),
        ] {
            assert_eq!(Sessions::at(number, moment).open(), open, "{moment}");
        }
    }

    #[test]
    fn many_sessions_fit() {
        let full = Sessions { hour: 7, older: u16::MAX - 1, newer: 0 };
        let begun = full.begin(u16::MAX).unwrap();
        assert_eq!((begun.open(), begun.begin(u16::MAX)), (65535, None));
        assert_eq!(Sessions::at(begun.number(), 7 * HOUR), begun);
    }
}
