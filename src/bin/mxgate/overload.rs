//! Overload by `[overload]`: above a threshold for some time, the gate is told to turn away whom no allow list has (421); well
//! below all of them for as long, it is told that this is over.
//!
//! How long a question waits for its turn is measured by how late a timer is: sessions and timers take turns on the same
//! thread. What a session itself could measure begins when its turn has come, and leaves the waiting out.
//!
//! The same timer looks whether maintenance has begun or is over.

use crate::maintenance::Maintenance;
use crate::rules::Rules;
use mxgate::Overload;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until};

/// How often it is looked.
const TICK: Duration = Duration::from_millis(100);
/// How often, where no policy asks for it.
const IDLE_TICK: Duration = Duration::from_secs(1);
/// The weight of a new measurement in the mean: one part of so many.
const WEIGHT: u32 = 5;

/// Looks as long as the daemon runs. `open` says how many connections there are.
pub(crate) async fn watch(rules: Arc<Rules>, open: impl Fn() -> usize) {
    let (mut judge, mut latency, mut maintenance) = (Judge::default(), Duration::ZERO, Maintenance::default());
    loop {
        maintenance.look(&rules.gate);
        let Some(thresholds) = rules.gate.ruleset().overload().copied() else {
            if judge.overloaded {
                judge = Judge::default();
                log::info!("no longer overloaded: the policy has no [overload]");
                tell(&rules, false).await;
            }
            sleep(IDLE_TICK).await;
            continue;
        };
        let due = Instant::now() + TICK;
        sleep_until(due).await;
        latency = (latency * (WEIGHT - 1) + due.elapsed()) / WEIGHT;
        let connections = open();
        let level = Level::of(&thresholds, connections, latency);
        if judge.changes(level, thresholds.after, Instant::now()) {
            let seen = format!("{connections} connections are open, questions wait {} ms", latency.as_millis());
            if judge.overloaded {
                log::warn!("overloaded: {seen}; whom no allow list has is turned away for a while");
            } else {
                log::info!("no longer overloaded: {seen}");
            }
            tell(&rules, judge.overloaded).await;
        }
    }
}

/// Not on the thread of the sessions: it waits for a load that is under way.
async fn tell(rules: &Arc<Rules>, overloaded: bool) {
    let rules = Arc::clone(rules);
    if spawn_blocking(move || rules.gate.set_overloaded(overloaded)).await.is_err() {
        log::error!("whether the gate is overloaded could not be set");
    }
}

/// Where the measurements are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    /// Above a threshold.
    Above,
    /// In between: as it was.
    Between,
    /// Below three quarters of each threshold.
    Below,
}

impl Level {
    fn of(thresholds: &Overload, connections: usize, latency: Duration) -> Level {
        let most = thresholds.connections.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
        let longest = thresholds.latency.unwrap_or(Duration::MAX);
        if connections > most || latency > longest {
            Level::Above
        } else if connections > most - most.div_ceil(4) || latency > longest - longest / 4 {
            Level::Between
        } else {
            Level::Below
        }
    }
}

/// Makes of levels a state that changes seldom.
#[derive(Debug, Default)]
struct Judge {
    overloaded: bool,
    /// Since when all levels have been such as to change it.
    since: Option<Instant>,
}

impl Judge {
    /// Whether the state changes with this level, and it is the other one from now on.
    fn changes(&mut self, level: Level, after: Duration, now: Instant) -> bool {
        let contrary = level == if self.overloaded { Level::Below } else { Level::Above };
        if !contrary {
            self.since = None;
            return false;
        }
        let since = *self.since.get_or_insert(now);
        if now.duration_since(since) < after {
            return false;
        }
        *self = Judge { overloaded: !self.overloaded, since: None };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels() {
        let thresholds = Overload { connections: Some(100), latency: Some(Duration::from_millis(40)), after: Duration::ZERO };
        for (connections, latency, expected) in [
            (0, 0, Level::Below),
            (75, 30, Level::Below),
            (76, 0, Level::Between),
            (0, 31, Level::Between),
            (100, 40, Level::Between),
            (101, 0, Level::Above),
            (0, 41, Level::Above),
        ] {
            assert_eq!(Level::of(&thresholds, connections, Duration::from_millis(latency)), expected, "{connections} {latency}");
        }
        let one = Overload { connections: Some(1), latency: None, after: Duration::ZERO };
        assert_eq!([2, 1, 0].map(|open| Level::of(&one, open, Duration::MAX / 8)), [Level::Above, Level::Between, Level::Below]);
        let none = Overload { connections: None, ..one };
        assert_eq!(Level::of(&none, 10_000, Duration::from_secs(60)), Level::Below);
    }

    #[test]
    fn only_what_lasts_changes_the_state() {
        let (mut judge, begin) = (Judge::default(), Instant::now());
        let mut at = |second, level| judge.changes(level, Duration::from_secs(5), begin + Duration::from_secs(second));
        // A short peak, and one that lasts.
        assert_eq!([at(0, Level::Above), at(4, Level::Above), at(5, Level::Between)], [false; 3]);
        assert_eq!([at(6, Level::Above), at(10, Level::Above), at(11, Level::Above), at(12, Level::Above)], [false, false, true, false]);
        // In between it stays overloaded.
        assert_eq!([at(20, Level::Below), at(24, Level::Between), at(25, Level::Below)], [false; 3]);
        assert_eq!([at(29, Level::Below), at(30, Level::Below), at(40, Level::Below)], [false, true, false]);
    }
}
