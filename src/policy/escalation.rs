//! `[escalation]`: who is refused again and again is banned for a while, and a subnet of which many are. The library only reads
//! it: a check changes no rules, the daemon does.

use super::Guards;
use super::fields::{Fields, Reader};
use crate::diagnostic::Fault;
use crate::limits::Rate;
use std::ops::RangeInclusive;
use std::time::Duration;

/// `[escalation]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Escalation {
    /// Who is refused more often than this is banned.
    pub refusals: Rate,
    /// For how long.
    pub ban: Duration,
    /// Whether what limits turn away counts too. Other 4xx never do.
    pub limits: bool,
    /// When a subnet is banned; `None` for never.
    pub subnet: Option<Subnet>,
    /// Memory for counting, in bytes.
    pub memory: usize,
}

/// When a subnet is banned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// Its prefix length for IPv4.
    pub v4: u8,
    /// Its prefix length for IPv6.
    pub v6: u8,
    /// How many of its clients have to be banned for refusals.
    pub clients: usize,
}

/// Memory for counting, unless the policy gives more: enough for 65,000 clients.
const MEMORY: usize = 1 << 20;
/// How many clients of a subnet can be asked for.
const CLIENTS: RangeInclusive<u64> = 2..=65_536;

impl Reader<'_> {
    pub(super) fn escalation(&mut self, top: &mut Fields<'_>, guards: &Guards) -> Option<Escalation> {
        let mut fields = self.table(top.take("escalation"), "escalation")?;
        let given = (fields.take("refusals"), fields.take("ban"));
        for (key, missing) in [("refusals = \"10/h\"", given.0.is_none()), ("ban = \"1h\"", given.1.is_none())] {
            if missing && !self.broken {
                let cause = format!("{} is missing in [escalation]", key.split(' ').next().unwrap_or(key));
                self.report(fields.span.clone(), Fault::new(cause, format!("write {key}")));
            }
        }
        let refusals = self.rate(given.0, "refusals");
        let ban = self.duration(given.1, "ban").map(Duration::from_secs);
        let limits = self.boolean(fields.take("limits"), "limits", false);
        let memory = self.memory(fields.take("memory"), "\"1 MiB\"").unwrap_or(MEMORY);
        let subnet = self.table(fields.take("subnet"), "escalation.subnet").map(|subnet| self.subnet(subnet, guards));
        self.finish(fields, "[escalation]", "refusals, ban, limits, subnet, memory");
        Some(Escalation { refusals: refusals?, ban: ban?, limits, subnet, memory })
    }

    fn subnet(&mut self, mut fields: Fields<'_>, guards: &Guards) -> Subnet {
        let mut prefix = |key, widest: u8, longest: u8, default: u8| {
            // Wider ones cannot be banned.
            let given = self.integer(fields.take(key), key, u64::from(widest.max(1))..=u64::from(longest));
            given.and_then(|bits| u8::try_from(bits).ok()).unwrap_or(default.max(widest))
        };
        let (v4, v6) = (prefix("v4", guards.widest_v4, 32, 24), prefix("v6", guards.widest_v6, 128, 56));
        let clients = self.integer(fields.take("clients"), "clients", CLIENTS).and_then(|count| usize::try_from(count).ok());
        self.finish(fields, "subnet of [escalation]", "v4, v6, clients");
        Subnet { v4, v6, clients: clients.unwrap_or(5) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn escalation(text: &str) -> (Option<Escalation>, Vec<String>) {
        let (policy, diagnostics) = parse(&format!("hostname = \"h\"\n{text}"), &"p".into());
        (policy.escalation, diagnostics.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_whole_section() {
        let (whole, messages) = escalation(
            "[escalation]\nrefusals = \"10/h\"\nban = \"2h\"\nlimits = true\nmemory = \"64 KiB\"\n\
             subnet = { v4 = 22, v6 = 48, clients = 7 }\n",
        );
        assert_eq!(messages, [""; 0]);
        let refusals = Rate::parse("10/h").unwrap();
        let subnet = Some(Subnet { v4: 22, v6: 48, clients: 7 });
        let ban = Duration::from_secs(7200);
        assert_eq!(whole, Some(Escalation { refusals, ban, limits: true, subnet, memory: 65536 }));
        let (least, messages) = escalation("[escalation]\nrefusals = \"10/h\"\nban = \"2h\"\n");
        assert_eq!((least, messages), (Some(Escalation { refusals, ban, limits: false, subnet: None, memory: MEMORY }), vec![]));
        let (default, _) = escalation("escalation = { refusals = \"1/s\", ban = \"1h\", subnet = {} }");
        assert_eq!(default.unwrap().subnet, Some(Subnet { v4: 24, v6: 56, clients: 5 }));
        assert_eq!(escalation(""), (None, vec![]));
    }

    #[test]
    fn mistakes_are_shown_with_their_remedy() {
        for (text, part) in [
            ("ban=\"1h\"", "p:2:1: refusals is missing in [escalation]; write refusals = \"10/h\""),
            ("refusals=\"1/s\"", "p:2:1: ban is missing in [escalation]; write ban = \"1h\""),
            ("refusals=\"1/s\"\nban=\"1 h\"", "p:4:5: \"1 h\" is not a time span; write a number and s, m, h"),
            ("refusals=10\nban=\"1h\"", "p:3:10: refusals is of type integer; write refusals = "),
            ("refusals=\"1/s\"\nban=\"1h\"\nsubnet={v4=7}", "p:5:12: v4 is not in its range; write v4 = a whole number from 8 to 32"),
            ("refusals=\"1/s\"\nban=\"1h\"\nsubnet={v6=18}", "v6 is not in its range; write v6 = a whole number from 19 to 128"),
            (
                "refusals=\"1/s\"\nban=\"1h\"\nsubnet={clients=1}",
                "clients is not in its range; write clients = a whole number from 2 to 65536",
            ),
            ("refusals=\"1/s\"\nban=\"1h\"\nsubnet={v5=1}", "\"v5\" is not a key of subnet of [escalation]; use v4, v6, clients"),
            ("refusals=\"1/s\"\nban=\"1h\"\nmemory=\"1 MB\"", "\"1 MB\" is not an amount of memory"),
            ("refusals=\"1/s\"\nban=\"1h\"\nfor=1", "p:5:1: \"for\" is not a key of [escalation]; use refusals, ban"),
        ] {
            let (_, shown) = escalation(&format!("[escalation]\n{text}"));
            assert!(shown.len() == 1 && shown[0].contains(part), "{part} in {shown:#?}");
        }
    }
}
