//! When somebody who is put off is to come back: what the placeholder `{retry}` says.
//!
//! It is a word to those who read replies and logs, and to programs that heed it. SMTP has no field for it: a sender comes
//! back by its own schedule, half an hour later if it does as RFC 5321 says (sections 4.2.1 and 4.5.4.1).
//!
//! Those who were turned away together are not to come back together. So each is told a little more than the time that has to
//! pass, by another amount for each client and each minute, which nobody can foretell who does not know the seed.

use crate::line::Line;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// Whole seconds until somebody is to come back.
pub(crate) type Wait = u32;

/// Where nobody knows how long it takes, but it is soon over: overload, a restart, the end of a session.
pub(crate) const SOON: Wait = 60;
/// Seconds that may be added at most: half of the time that has to pass, but no less and no more than this.
const SPREAD: RangeInclusive<Wait> = 10..=900;
/// The number with the most digits is `4294967295`.
const DIGITS: usize = 10;

/// What is added for each client. The seed is that of the ruleset, and so the same in all children of a process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Jitter(RandomState);

impl Jitter {
    /// The time that has to pass, and what a client is told on top of it in that minute.
    pub(crate) fn add(&self, wait: Wait, client: Option<IpAddr>, minute: u64) -> Wait {
        let spread = (wait / 2).clamp(*SPREAD.start(), *SPREAD.end());
        let hash = self.0.hash_one((client.map(|address| address.to_canonical()), minute));
        // The hash as a fraction of 2^64, times the number of amounts.
        let amount = (u128::from(hash) * (u128::from(spread) + 1)) >> 64;
        wait.saturating_add(Wait::try_from(amount).unwrap_or(0))
    }
}

impl Line<'_> {
    /// Appends `in 95 seconds`, or `later` where nobody knows: what reads well behind "try again".
    pub(crate) fn push_retry(&mut self, wait: Option<Wait>) {
        let Some(wait) = wait else { return self.push(b"later") };
        let mut digits = [b'0'; DIGITS];
        let (mut rest, mut first) = (wait, DIGITS);
        for (place, digit) in digits.iter_mut().enumerate().rev() {
            *digit += u8::try_from(rest % 10).unwrap_or(0);
            (rest, first) = (rest / 10, place);
            if rest == 0 {
                break;
            }
        }
        self.push(b"in ");
        self.push(digits.get(first..).unwrap_or_default());
        self.push(if wait == 1 { b" second" } else { b" seconds" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn shown(wait: Option<Wait>) -> String {
        let mut place = [0; 32];
        let mut line = Line::new(&mut place);
        line.push_retry(wait);
        line.text::<32>().to_string()
    }

    #[test]
    fn a_wait_reads_as_a_part_of_a_sentence() {
        for (wait, text) in [(0, "in 0 seconds"), (1, "in 1 second"), (95, "in 95 seconds"), (u32::MAX, "in 4294967295 seconds")] {
            assert_eq!(shown(Some(wait)), text);
        }
        for wait in [9, 10, 99, 100, 1000, 123_456_789, 1_000_000_000] {
            assert_eq!(shown(Some(wait)), format!("in {wait} seconds"));
        }
        assert_eq!(shown(None), "later");
    }

    /// How many of a thousand clients come back in each second.
    fn returns(wait: Wait, minute: u64) -> HashMap<Wait, usize> {
        let jitter = Jitter::default();
        let mut returns = HashMap::new();
        for client in 0..1000_u32 {
            let client = IpAddr::from((0xc633_0000 + client).to_be_bytes());
            *returns.entry(jitter.add(wait, Some(client), minute)).or_default() += 1;
        }
        returns
    }

    #[test]
    fn those_who_are_turned_away_together_do_not_come_back_together() {
        for (wait, least, most, crowd) in [(60, 60, 90, 70), (600, 600, 900, 20), (3600, 3600, 4500, 12), (0, 0, 10, 140)] {
            let returns = returns(wait, 7);
            assert!(returns.keys().all(|told| (least..=most).contains(told)), "{wait}: {returns:?}");
            // All of the span is used, and no second has many more than its share.
            let (first, last) = (returns.keys().min().unwrap(), returns.keys().max().unwrap());
            assert!(last - first > (most - least) * 9 / 10, "{wait}: from {first} to {last}");
            let largest = returns.values().max().unwrap();
            assert!(*largest <= crowd, "{wait}: {largest} of 1000 in one second");
        }
    }

    #[test]
    fn it_is_the_same_for_a_client_in_a_minute_and_no_other_time() {
        let (jitter, client) = (Jitter::default(), "192.0.2.7".parse().ok());
        let told = |client, minute| jitter.add(3600, client, minute);
        assert_eq!(told(client, 1), told("::ffff:192.0.2.7".parse().ok(), 1));
        let different = (0..100).filter(|minute| told(client, *minute) != told(client, minute + 1)).count();
        assert!(different > 90, "{different}");
        // Another process has another seed.
        let other = Jitter::default();
        let different = (0..100).filter(|minute| told(client, *minute) != other.add(3600, client, *minute)).count();
        assert!(different > 90, "{different}");
        assert_eq!((jitter.add(u32::MAX, client, 1), jitter.add(u32::MAX, None, 1)), (u32::MAX, u32::MAX));
    }
}
