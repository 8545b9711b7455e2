//! What the service manager is told (sd_notify(3)): that the daemon is ready, loads again or stops, its state in a line,
//! and that it is alive. Without a service manager that listens this does nothing.

use mxgate::Gate;
use sd_notify::NotifyState;
use std::env;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

/// How often the line about the state is looked at, unless the watchdog wants to hear more often.
const PACE: Duration = Duration::from_secs(10);

/// Says that the daemon is ready, and from then on how it is. Runs where the sessions do: when they are stuck so is this,
/// and the watchdog of the service manager finds out.
pub(crate) async fn inform(gate: Arc<Gate>, connections: impl Fn() -> usize) {
    if env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let watchdog = sd_notify::watchdog_enabled().filter(|time| !time.is_zero());
    let mut ticks = interval(watchdog.map_or(PACE, |time| (time / 2).min(PACE)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut is_ready, mut told) = (false, String::new());
    loop {
        ticks.tick().await;
        let status = format!("rules of load {} in force, {} connections", gate.ruleset().generation(), connections());
        let news = (status != told).then(|| status.clone());
        let (first, alive) = (!is_ready, watchdog.is_some());
        // Should the service manager not read, this waits for it and the sessions do not.
        let said = spawn_blocking(move || {
            let mut states = Vec::new();
            states.extend(first.then_some(NotifyState::Ready));
            states.extend(alive.then_some(NotifyState::Watchdog));
            states.extend(news.as_deref().map(NotifyState::Status));
            states.is_empty() || say(&states)
        });
        if said.await.unwrap_or(false) {
            (is_ready, told) = (true, status);
        }
    }
}

/// Says that the daemon stops.
pub(crate) fn stopping() {
    say(&[NotifyState::Stopping]);
}

/// A load of the policy, as long as it takes.
#[derive(Debug)]
pub(crate) struct Reloading;

impl Reloading {
    /// Says that it begins.
    pub(crate) fn begin() -> Reloading {
        let mut states = vec![NotifyState::Reloading];
        // Without it a service of the type notify-reload would fail.
        states.extend(NotifyState::monotonic_usec_now());
        say(&states);
        Reloading
    }
}

/// Says that it is over, whatever came of it.
impl Drop for Reloading {
    fn drop(&mut self) {
        say(&[NotifyState::Ready]);
    }
}

fn say(states: &[NotifyState<'_>]) -> bool {
    let said = sd_notify::notify(states);
    if let Err(error) = &said {
        log::debug!("the service manager cannot be told: {error}");
    }
    said.is_ok()
}
