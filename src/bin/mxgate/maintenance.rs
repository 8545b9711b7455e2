//! Maintenance that is there at its time (`[maintenance]`): a log line when it begins, with until when, and one when it is over.

use crate::ban::time;
use mxgate::{Gate, Mode};
use std::mem;
use std::time::{SystemTime, UNIX_EPOCH};

/// What the log knows.
#[derive(Debug, Default)]
pub(crate) struct Maintenance {
    /// When it ends that is there.
    until: Option<u64>,
}

impl Maintenance {
    /// Looks at what is in force, and tells the log what is new.
    pub(crate) fn look(&mut self, gate: &Gate) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        // A mode that somebody has set counts before it.
        let until = gate.ruleset().maintenance_until(now).filter(|_| gate.mode() == Mode::Maintenance);
        if let Some(news) = self.news(until) {
            log::info!("{news}");
        }
    }

    /// What there is to tell, if it is there until then.
    fn news(&mut self, until: Option<u64>) -> Option<String> {
        match (mem::replace(&mut self.until, until), until) {
            (None, Some(end)) => Some(format!("maintenance until {}: everybody is told so (421)", time(end))),
            (Some(before), Some(end)) if before != end => Some(format!("maintenance goes on until {}", time(end))),
            (Some(_), None) => Some("maintenance is over".into()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_been_told_is_not_told_again() {
        let mut maintenance = Maintenance::default();
        let told = [None, Some(3600), Some(3600), Some(7200), None, None].map(|until| maintenance.news(until));
        let text = ["maintenance until 1970-01-01T01:00:00Z: everybody is told so (421)", "maintenance goes on until 1970-01-01T02:00:00Z"];
        let [begin, longer] = text.map(|text| Some(text.to_owned()));
        assert_eq!(told, [None, begin, None, longer, Some("maintenance is over".into()), None]);
    }
}
