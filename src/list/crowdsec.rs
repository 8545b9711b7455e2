//! Decisions of CrowdSec, whatever they are written in: what is taken, what is left out, and Go's durations.

use super::{Action, Field, Reading, Record, Seconds, Sink, Subject};
use crate::diagnostic::{Fault, quote};
use crate::prefix::parse_network;
use ipnet::IpNet;
use std::collections::BTreeMap;

/// Most kinds of decisions that are left out, each with a warning of its own.
const MAX_KINDS: usize = 8;

/// A decision as it is written. What is missing is empty.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decision<'a> {
    /// Where its value stands.
    pub line: u32,
    pub column: u32,
    pub duration: &'a str,
    pub scope: &'a str,
    pub value: &'a str,
    /// What is to be done; `ban` if it is missing.
    pub kind: &'a str,
    /// Why.
    pub scenario: &'a str,
    /// It is to be logged alone.
    pub simulated: bool,
}

/// Takes decisions.
pub(super) struct Decisions<'a> {
    reading: &'a Reading,
    pub sink: &'a mut dyn Sink,
    /// What is left out: why, how often, where for the first time.
    skipped: BTreeMap<String, (u64, u32, u32)>,
}

impl<'a> Decisions<'a> {
    pub(super) fn new(reading: &'a Reading, sink: &'a mut dyn Sink) -> Decisions<'a> {
        Decisions { reading, sink, skipped: BTreeMap::new() }
    }

    /// A decision that holds. Returns its network if it is taken.
    pub(super) fn add(&mut self, decision: &Decision<'_>) -> Option<IpNet> {
        let network = self.network(decision)?;
        let fault = match parse_duration(decision.duration) {
            Ok(None) => return None,
            Ok(Some(seconds)) => {
                let &Decision { line, column, scenario, .. } = decision;
                let expires = Some(self.reading.now.saturating_add(seconds));
                let (subject, reason) = (Subject::Network(network), scenario.as_bytes());
                self.sink.record(Record { line, column, subject, field: Field::Any, action: Action::Cover, reason, expires });
                return Some(network);
            }
            Err(fault) => fault,
        };
        self.sink.fault(decision.line, decision.column, fault);
        None
    }

    /// A decision that is taken back, unless `spared` knows better.
    pub(super) fn delete(&mut self, decision: &Decision<'_>, spared: impl FnOnce(&IpNet) -> bool) {
        if let Some(network) = self.network(decision)
            && !spared(&network)
        {
            self.sink.delete(Subject::Network(network));
        }
    }

    /// What a decision is about; `None` if it does not matter or is wrong.
    fn network(&mut self, decision: &Decision<'_>) -> Option<IpNet> {
        let &Decision { line, column, scope, value, kind, simulated, .. } = decision;
        if !(scope.is_empty() || scope.eq_ignore_ascii_case("ip") || scope.eq_ignore_ascii_case("range")) {
            self.skip(format!("of scope {}", quote(scope.as_bytes())), decision);
        } else if !(kind.is_empty() || kind.eq_ignore_ascii_case("ban")) {
            self.skip(format!("of type {}", quote(kind.as_bytes())), decision);
        } else if simulated {
            self.skip("simulated".into(), decision);
        } else if value.is_empty() {
            self.sink.fault(line, column, Fault::new("the decision has no value", "write the address or the network that it is about"));
        } else {
            match parse_network(value) {
                Ok(network) => return Some(network),
                Err(fault) => self.sink.fault(line, column, fault),
            }
        }
        None
    }

    fn skip(&mut self, why: String, decision: &Decision<'_>) {
        let full = self.skipped.len() >= MAX_KINDS && !self.skipped.contains_key(&why);
        let why = if full { "of further kinds".into() } else { why };
        self.skipped.entry(why).or_insert((0, decision.line, decision.column)).0 += 1;
    }

    /// Says what was left out.
    pub(super) fn finish(self) {
        for (why, (count, line, column)) in self.skipped {
            let cause = format!("{count} {} {why}", if count == 1 { "decision is" } else { "decisions are" });
            let fault = Fault::new(format!("{cause} and left out"), "only bans of addresses and networks are taken");
            self.sink.warn(line, column, fault);
        }
    }
}

/// Reads a duration as Go writes it, `22h20m11.9s`, also with days as `cscli` takes them; `None` if it is over.
pub(super) fn parse_duration(text: &str) -> Result<Option<Seconds>, Fault> {
    let wrong = || {
        let cause =
            if text.is_empty() { "the decision has no duration".into() } else { format!("{} is not a duration", quote(text.as_bytes())) };
        Fault::new(cause, "write a duration such as 4h, 22h20m11.9s or 7d")
    };
    let (past, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(None);
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut nanos = 0_u128;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let unit: u128 = match unit {
            "ns" => 1,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "d" => 86_400_000_000_000,
            _ => return Err(wrong()),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(wrong());
        }
        let whole: u128 = if whole.is_empty() { 0 } else { whole.parse::<u64>().map_err(|_| wrong())?.into() };
        nanos += whole * unit;
        let mut scale = unit;
        for digit in fraction.bytes() {
            scale /= 10;
            nanos += u128::from(digit - b'0') * scale;
        }
        rest = tail;
    }
    // Longer than a lifetime of the universe is for ever.
    let seconds = Seconds::try_from(nanos / 1_000_000_000).unwrap_or(Seconds::MAX);
    Ok((!past && nanos > 0).then_some(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, want) in [
            ("4h", Some(14_400)),
            ("22h20m11.9s", Some(80_411)),
            ("166h40m25s", Some(600_025)),
            ("2m53.949221341s", Some(173)),
            ("1.5h", Some(5_400)),
            (".5m", Some(30)),
            ("1.m", Some(60)),
            ("+1s", Some(1)),
            ("7d", Some(604_800)),
            ("999ms", Some(0)),
            ("1500us", Some(0)),
            ("2000000\u{b5}s", Some(2)),
            ("1h1h", Some(7_200)),
            ("0", None),
            ("0s", None),
            ("-1ns", None),
            ("-18897h25m52.8s", None),
            ("18446744073709551615h", Some(Seconds::MAX)),
        ] {
            assert_eq!(parse_duration(text), Ok(want), "{text}");
        }
        for text in ["", "-", "4", "h", "4 h", "4x", "1..5s", ".s", "1h-5m", "99999999999999999999h", "4h5", "\u{663}h", "1\u{663}s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
