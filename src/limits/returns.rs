//! Who was told when to come back, and came too early: such a client is told to stay away for longer.
//!
//! Each client whom a limit has refused has a number in a table: the moment at which it may come back, how long it was told to
//! wait, and whether it came too early before. Each time it is refused too early the wait doubles, up to an hour. Who waits
//! begins anew. Nobody is refused because of it: what the limits have room for they let through, however early it comes.
//!
//! The table is a part of the memory of all limits, whatever strangers send; who finds no room in it, or is forgotten there, is
//! refused as for the first time.

use super::rate::{Nanoseconds, SECOND};
use super::table::Table;
use super::{Exceeded, Limits};
use crate::retry::{SOON, Wait};
use std::net::IpAddr;
use std::sync::Arc;

/// The part of the memory that this takes.
const PART: usize = 16;
/// Refusals that come so soon after the first one, in seconds, belong to it: connections that were opened together, the
/// recipients of one message, who asks in the middle of a session. Nobody has been able to heed anything by then.
const TOGETHER: u64 = 5;
/// Longest wait that doubling comes to. A limit may know that it takes longer.
const LONGEST: Wait = 3600;
/// Bits of a number for the wait: more than a year, which no rate takes.
const WAIT_BITS: u32 = 27;
const LONGEST_KEPT: Wait = (1 << WAIT_BITS) - 1;

/// A refusal by a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PutOff {
    /// The limit, by its key in the policy.
    pub which: &'static str,
    /// When to come back.
    pub wait: Wait,
    /// It came back before it was to.
    pub again: bool,
}

/// What a client was told. As a number: the moment in seconds, 27 bits of the wait, one for `again`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    until: u64,
    wait: Wait,
    again: bool,
}

impl Told {
    fn at(number: u64) -> Told {
        let wait = (number >> 1) & u64::from(LONGEST_KEPT);
        Told { until: number >> (WAIT_BITS + 1), wait: Wait::try_from(wait).unwrap_or(0), again: number & 1 == 1 }
    }

    fn new(wait: Wait, again: bool, now: u64) -> Told {
        let wait = wait.min(LONGEST_KEPT);
        Told { until: now.saturating_add(wait.into()), wait, again }
    }

    fn number(self) -> u64 {
        self.until << (WAIT_BITS + 1) | u64::from(self.wait) << 1 | u64::from(self.again)
    }

    /// How long it still is; `None` if that is over, or the clock was set back since.
    fn left(self, now: u64) -> Option<u64> {
        let left = self.until.checked_sub(now).filter(|left| *left > 0)?;
        (left <= self.wait.into()).then_some(left)
    }

    /// What the client is told now that a limit has refused it once more, and knows how long it takes.
    fn refuse(self, needed: Wait, now: u64, jitter: impl Fn(Wait) -> Wait) -> Told {
        let Some(left) = self.left(now) else { return Told::new(jitter(needed), false, now) };
        let since = u64::from(self.wait) - left;
        if since >= TOGETHER {
            return Told::new(jitter(self.wait.saturating_mul(2).min(LONGEST).max(needed)), true, now);
        }
        if left >= needed.into() {
            return self;
        }
        // Another limit needs longer. When the client was told first stays, or else who keeps trying would never be late.
        let wait = jitter(needed).saturating_add(Wait::try_from(since).unwrap_or(0));
        Told::new(wait, self.again, now.saturating_sub(since))
    }
}

impl Exceeded {
    /// Whether it is about the connection, so that nothing of a message has been let through before.
    fn is_of_connection(&self) -> bool {
        matches!(self.which, super::CONNECTIONS | super::CONCURRENT)
    }
}

impl PutOff {
    /// Whether the client is to be hung up on, even where the first refusal keeps the session. A recipient that is one too many
    /// is no reason: those of the same message that were let through would go with it, and come again, and be charged again.
    pub(crate) fn hangs_up(&self) -> bool {
        self.again && Exceeded { which: self.which, retry_after_seconds: 0 }.is_of_connection()
    }
}

impl Limits {
    /// A refusal is told to a client: when it is to come back. `jitter` adds to a wait what is different for each client.
    pub(crate) fn put_off(&self, address: Option<IpAddr>, exceeded: Exceeded, now: Nanoseconds, jitter: impl Fn(Wait) -> Wait) -> PutOff {
        let needed = match exceeded.retry_after_seconds {
            0 => SOON,
            seconds => Wait::try_from(seconds).unwrap_or(LONGEST_KEPT).min(LONGEST_KEPT),
        };
        let seconds = now / SECOND;
        let kept = self.returns.as_ref().zip(address).and_then(|(table, address)| {
            let left = |number| Told::at(number).left(seconds).unwrap_or(0);
            table.change(table.key(self.client(address)), left, true, |number| {
                let told = Told::at(number).refuse(needed, seconds, &jitter);
                (told.number(), told)
            })
        });
        let told = kept.unwrap_or_else(|| Told::new(jitter(needed), false, seconds));
        let wait = told.left(seconds).and_then(|left| Wait::try_from(left).ok()).unwrap_or(told.wait);
        PutOff { which: exceeded.which, wait, again: told.again }
    }

    /// The memory of the table, so that no other one loses a place by what does not make one.
    pub(super) fn memory_of_returns(all: usize) -> usize {
        Table::whole(all / PART)
    }

    /// The table, from the limits in force before if it is as large.
    pub(super) fn returns(bytes: usize, previous: Option<&Limits>) -> Option<Arc<Table>> {
        let previous = previous.and_then(|previous| previous.returns.as_ref()).filter(|table| table.is_of(bytes));
        // Without it everybody is refused as for the first time.
        previous.map(Arc::clone).or_else(|| Table::new(bytes).ok().map(Arc::new))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Rate, Settings};
    use super::*;

    fn limits(memory: usize) -> Limits {
        let connections = Some(Rate::parse("1/h").unwrap());
        Limits::new(&Settings { connections, memory, ..Settings::default() }, None).unwrap()
    }

    fn exceeded(which: &'static str, retry_after_seconds: u64) -> Exceeded {
        Exceeded { which, retry_after_seconds }
    }

    fn client(number: u32) -> Option<IpAddr> {
        Some(IpAddr::from((0xc633_0000 + number).to_be_bytes()))
    }

    /// A refusal at that second, without jitter: the wait, and whether it is a stronger one.
    fn refuse(limits: &Limits, number: u32, needed: u64, second: u64) -> (Wait, bool) {
        let put_off = limits.put_off(client(number), exceeded("connections", needed), second * SECOND, |wait| wait);
        (put_off.wait, put_off.again)
    }

    #[test]
    fn each_return_that_is_too_early_doubles_the_wait_up_to_an_hour() {
        let limits = limits(1 << 20);
        let mut second = 1000;
        assert_eq!(refuse(&limits, 1, 100, second), (100, false));
        for expected in [200, 400, 800, 1600, 3200, 3600, 3600] {
            second += 20;
            assert_eq!(refuse(&limits, 1, 100, second), (expected, true));
        }
        // Who waits begins anew; others have nothing to do with it.
        assert_eq!(refuse(&limits, 2, 100, second), (100, false));
        assert_eq!(refuse(&limits, 1, 100, second + 3599), (3600, true));
        assert_eq!(refuse(&limits, 1, 100, second + 3599 + 3600), (100, false));
        // What a limit knows to take longer is longer, whoever asks.
        assert_eq!(refuse(&limits, 3, 50_000, second), (50_000, false));
        assert_eq!(refuse(&limits, 3, 49_000, second + 1000), (49_000, true));
        assert_eq!(refuse(&limits, 4, 400 * 86_400, second), (400 * 86_400, false));
        assert_eq!(refuse(&limits, 5, u64::MAX, second), (LONGEST_KEPT, false));
        // The end of a session nobody knows.
        assert_eq!(refuse(&limits, 6, 0, second), (SOON, false));
    }

    #[test]
    fn what_is_refused_together_is_refused_once() {
        let limits = limits(1 << 20);
        for (second, needed, expected) in [
            (0, 100, (100, false)),
            (1, 99, (99, false)),
            (4, 90, (96, false)),
            (5, 90, (200, true)),
            (6, 90, (199, true)),
            (9, 90, (196, true)),
            (10, 90, (400, true)),
        ] {
            assert_eq!(refuse(&limits, 1, needed, 50 + second), expected, "second {second}");
        }
        // Another limit may need longer than is left.
        for (second, needed, expected) in [(0, 10, 10), (2, 600, 600), (3, 10, 599)] {
            assert_eq!(refuse(&limits, 2, needed, 50 + second), (expected, false));
        }
        // Nor does who keeps trying put off for ever that it is too early.
        let waits: Vec<bool> = (0..12).map(|second| refuse(&limits, 3, 60, 50 + second).1).collect();
        assert_eq!(waits, [[false; 5].as_slice(), &[true; 7]].concat());
    }

    #[test]
    fn the_jitter_is_in_what_counts() {
        let limits = limits(1 << 20);
        let put_off = |second: u64| limits.put_off(client(1), exceeded("concurrent", 0), second * SECOND, |wait| wait + 7).wait;
        assert_eq!([put_off(100), put_off(166), put_off(166 + 141)], [67, 141, 67]);
        assert_eq!(put_off(166 + 141 + 66), 141);
    }

    #[test]
    fn recipients_are_put_off_and_not_hung_up_on() {
        let limits = limits(1 << 20);
        for (number, which, hangs_up) in [
            (1, "connections", true),
            (2, "concurrent", true),
            (3, "recipients", false),
            (4, "sender_domain", false),
            (5, "recipient_domain", false),
        ] {
            let put_off = |second: u64| limits.put_off(client(number), exceeded(which, 100), second * SECOND, |wait| wait);
            let (first, second) = (put_off(100), put_off(110));
            assert_eq!((first.hangs_up(), second.hangs_up(), second.again), (false, hangs_up, true), "{which}");
        }
        // Of whom nobody knows who it is nothing is kept.
        let unknown = |second: u64| limits.put_off(None, exceeded("sender_domain", 9), second * SECOND, |wait| wait);
        assert_eq!([unknown(1), unknown(9)], [PutOff { which: "sender_domain", wait: 9, again: false }; 2]);
    }

    #[test]
    fn a_clock_that_is_set_back_keeps_nobody_away() {
        let limits = limits(1 << 20);
        assert_eq!(refuse(&limits, 1, 100, 10_000), (100, false));
        assert_eq!(refuse(&limits, 1, 100, 9_000), (100, false));
        assert_eq!(refuse(&limits, 1, 100, 9_010), (200, true));
        assert_eq!(refuse(&limits, 1, 100, u64::MAX / SECOND), (100, false));
    }

    #[test]
    fn memory_is_a_part_of_the_whole_whatever_strangers_send() {
        let limits = limits(1 << 20);
        let table = limits.returns.as_ref().unwrap();
        let capacity = table.capacity();
        assert_eq!(capacity, (1 << 20) / PART / 16);
        let of_rate = limits.counters(0).next().unwrap().capacity;
        assert!((capacity + of_rate) * 16 <= 1 << 20 && of_rate * 16 >= (1 << 20) * 15 / 16, "{capacity} {of_rate}");
        // One who came too early twice has the longest wait of all, and is not forgotten for a great many who came once.
        refuse(&limits, 0, 1000, 10);
        assert_eq!(refuse(&limits, 0, 1000, 20), (2000, true));
        for number in 1..200_000 {
            assert_eq!(refuse(&limits, number, 100, 21), (100, false), "{number}");
        }
        assert_eq!(refuse(&limits, 0, 1000, 22), (1998, true));
        assert_eq!(table.used(|number| Told::at(number).left(22).unwrap_or(0)), capacity);
        // Nobody takes their places either once their time is over.
        assert_eq!(table.used(|number| Told::at(number).left(5000).unwrap_or(0)), 0);
        // Too little for any: everybody is refused as for the first time.
        let none = self::limits(1 << 10);
        assert_eq!([refuse(&none, 1, 100, 10), refuse(&none, 1, 100, 20)], [(100, false); 2]);
    }

    #[test]
    fn a_load_keeps_who_was_told_what() {
        let settings = Settings { connections: Some(Rate::parse("1/h").unwrap()), ..Settings::default() };
        let before = Limits::new(&settings, None).unwrap();
        assert_eq!(refuse(&before, 1, 100, 10), (100, false));
        let again = |settings: &Settings| refuse(&Limits::new(settings, Some(&before)).unwrap(), 1, 100, 20).1;
        assert!(!again(&Settings { memory: 1 << 20, ..settings.clone() }));
        assert!(!again(&Settings { v4_prefix: 24, ..settings.clone() }));
        // Another limit does not change whom it is about.
        assert!(again(&Settings { concurrent: Some(9), ..settings }));
    }
}
