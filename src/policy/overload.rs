//! `[overload]`: from when on the daemon takes itself for overloaded. The library only reads it, and answers as it is told
//! (`Gate::set_overloaded`).

use super::fields::{Fields, Reader};
use crate::diagnostic::Fault;
use std::ops::RangeInclusive;
use std::time::Duration;

/// `[overload]`. There is a threshold at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overload {
    /// How many open connections of mail servers are too many.
    pub connections: Option<u32>,
    /// How long a question may wait for its turn, in the mean.
    pub latency: Option<Duration>,
    /// For how long a threshold has to be exceeded; and for how long none may be until it is over.
    pub after: Duration,
}

/// A little less than the most that the daemon has: as many as that it never sees.
const CONNECTIONS: RangeInclusive<u64> = 1..=9_900;
/// In milliseconds. What is shorter the daemon cannot measure.
const LATENCY: RangeInclusive<u64> = 5..=60_000;
/// Seconds, unless the policy says otherwise.
const AFTER: u64 = 5;

impl Reader<'_> {
    pub(super) fn overload(&mut self, top: &mut Fields<'_>) -> Option<Overload> {
        let mut fields = self.table(top.take("overload"), "overload")?;
        let before = self.diagnostics.len();
        let connections = self.integer(fields.take("connections"), "connections", CONNECTIONS);
        let latency = self.integer(fields.take("latency_ms"), "latency_ms", LATENCY).map(Duration::from_millis);
        let after = Duration::from_secs(self.duration(fields.take("after"), "after").unwrap_or(AFTER));
        if connections.is_none() && latency.is_none() && self.diagnostics.len() == before && !self.broken {
            let fault = Fault::new("[overload] has no threshold", "write connections = 9000, latency_ms = 200 or both");
            self.report(fields.span.clone(), fault);
        }
        self.finish(fields, "[overload]", "connections, latency_ms, after");
        Some(Overload { connections: connections.and_then(|count| u32::try_from(count).ok()), latency, after })
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn overload(text: &str) -> (Option<Overload>, Vec<String>) {
        let (policy, diagnostics) = parse(&format!("hostname = \"h\"\n{text}"), &"p".into());
        (policy.overload, diagnostics.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn sections_and_mistakes() {
        let (whole, messages) = overload("[overload]\nconnections = 9000\nlatency_ms = 200\nafter = \"10s\"\n");
        let expected = Overload { connections: Some(9000), latency: Some(Duration::from_millis(200)), after: Duration::from_secs(10) };
        assert_eq!((whole, messages), (Some(expected), vec![]));
        let expected = Overload { connections: Some(1), latency: None, after: Duration::from_secs(5) };
        assert_eq!(overload("[overload]\nconnections = 1"), (Some(expected), vec![]));
        assert_eq!(overload(""), (None, vec![]));
        for (text, part) in [
            ("", "p:2:1: [overload] has no threshold; write connections = 9000, latency_ms = 200 or both"),
            ("connections=0", "p:3:13: connections is not in its range; write connections = a whole number from 1 to 9900"),
            ("connections=9901", "connections is not in its range"),
            ("latency_ms=4", "latency_ms is not in its range; write latency_ms = a whole number from 5 to 60000"),
            ("latency_ms=5\nafter=5", "p:4:7: after is of type integer; write after = "),
            ("latency_ms=5\nlatency=5", "p:4:1: \"latency\" is not a key of [overload]; use connections, latency_ms, after"),
        ] {
            let (_, shown) = overload(&format!("[overload]\n{text}"));
            assert!(shown.len() == 1 && shown[0].contains(part), "{part} in {shown:#?}");
        }
    }
}
