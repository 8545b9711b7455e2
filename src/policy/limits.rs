//! `[limits]`: how often clients come, and how much memory counting them may take.

use super::fields::{Fields, Reader, Value, one_of};
use super::{Exempt, rules::EXEMPT_RCPT};
use crate::diagnostic::{Fault, quote};
use crate::limits::{Rate, Settings};
use crate::reply::Reply;
use std::ops::RangeInclusive;

/// `[limits]`.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Limits {
    pub settings: Settings,
    /// The reply to what is too much; `None` if nothing is limited.
    pub reply: Option<Reply>,
    /// The reply to a client who is refused again before it was to come back, where the first one does not hang up.
    pub reply_again: Option<Reply>,
    /// Who is passed over.
    pub exempt: Exempt,
}

/// Units of memory, in bytes.
const UNITS: [(&str, u64); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
/// How much memory there may be.
const MEMORY: RangeInclusive<u64> = 64 << 10..=64 << 30;

impl Reader<'_> {
    pub(super) fn limits(&mut self, top: &mut Fields<'_>) -> Limits {
        let Some(mut fields) = self.table(top.take("limits"), "limits") else { return Limits::default() };
        let before = self.diagnostics.len();
        let default = Settings::default();
        let v4_prefix = self.integer(fields.take("v4_prefix"), "v4_prefix", 1..=32);
        let v6_prefix = self.integer(fields.take("v6_prefix"), "v6_prefix", 1..=128);
        let concurrent = self.integer(fields.take("concurrent"), "concurrent", 1..=u16::MAX.into());
        let bits = |number: Option<u64>, default| number.and_then(|bits| u8::try_from(bits).ok()).unwrap_or(default);
        let settings = Settings {
            memory: self.memory(fields.take("memory"), "\"16 MiB\"").unwrap_or(default.memory),
            v4_prefix: bits(v4_prefix, default.v4_prefix),
            v6_prefix: bits(v6_prefix, default.v6_prefix),
            connections: self.rate(fields.take("connections"), "connections"),
            concurrent: concurrent.and_then(|most| u16::try_from(most).ok()),
            recipients: self.rate(fields.take("recipients"), "recipients"),
            sender_domain: self.rate(fields.take("sender_domain"), "sender_domain"),
            recipient_domain: self.rate(fields.take("recipient_domain"), "recipient_domain"),
        };
        let given = fields.take("reply");
        let reply = self.temporary_reply(given).or_else(|| Reply::named("throttle"));
        let default = Exempt::AUTHENTICATED.and(Exempt::TRUSTED).and(Exempt::ALLOWED);
        let exempt = self.exempt(&mut fields, &EXEMPT_RCPT, default);
        if settings.is_empty() && self.diagnostics.len() == before && !self.broken {
            let fault = Fault::new("[limits] limits nothing", "write connections = \"100/min\", concurrent = 20 or the like");
            self.report(fields.span.clone(), fault);
        }
        let known = "memory, v4_prefix, v6_prefix, connections, concurrent, recipients, sender_domain, recipient_domain, reply, exempt";
        self.finish(fields, "[limits]", known);
        let reply_again = reply.as_ref().filter(|reply| !reply.hang_up).map(Reply::hanging_up);
        Limits { settings, reply, reply_again, exempt }
    }

    pub(super) fn rate(&mut self, value: Option<Value<'_>>, key: &str) -> Option<Rate> {
        let item = self.string(value, key, "\"100/min\"")?;
        Rate::parse(&item.text).map_err(|fault| self.report_at(&item, fault)).ok()
    }

    /// A reply after which the client tries again.
    fn temporary_reply(&mut self, value: Option<Value<'_>>) -> Option<Reply> {
        let place = value.as_ref().map(Value::span);
        let reply = self.reply_that_knows(value)?;
        if reply.code < 500 {
            return Some(reply);
        }
        let fault = Fault::new(
            "a limit is no reason to refuse for good: what is too much now is welcome later",
            "write throttle (421), throttle-soft (450), or a whole reply with a code from 400 to 499",
        );
        self.report(place.unwrap_or_default(), fault);
        None
    }

    /// An amount of memory such as `"16 MiB"`, in bytes.
    pub(super) fn memory(&mut self, value: Option<Value<'_>>, example: &str) -> Option<usize> {
        let item = self.string(value, "memory", example)?;
        let quoted = quote(item.text.as_bytes());
        let fault = match parse_memory(&item.text) {
            Some(bytes) if MEMORY.contains(&bytes) => match usize::try_from(bytes) {
                Ok(bytes) => return Some(bytes),
                Err(_) => Fault::limit(format!("{quoted} are more than this machine can address"), "write less, such as \"16 MiB\""),
            },
            Some(_) => Fault::new(format!("{quoted} is not in the range of memory"), "write from \"64 KiB\" to \"64 GiB\""),
            None => {
                let units = UNITS.map(|(name, _)| name);
                let remedy = format!("write a number and {}, such as \"16 MiB\"", one_of(&units));
                Fault::new(format!("{quoted} is not an amount of memory"), remedy)
            }
        };
        self.report_at(&item, fault);
        None
    }
}

/// Reads `64 KiB`, `16 MiB`, `1 GiB`. What is larger than any number counts as the largest.
fn parse_memory(text: &str) -> Option<u64> {
    let (number, unit) = text.split_once(' ')?;
    let (_, unit) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) && !number.starts_with('0');
    digits.then(|| number.parse().unwrap_or(u64::MAX).saturating_mul(*unit))
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn limits(text: &str) -> (Limits, Vec<String>) {
        let (policy, diagnostics) = parse(&format!("hostname = \"h\"\n{text}"), &"p".into());
        (policy.limits, diagnostics.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_whole_section() {
        let (whole, messages) = limits(
            r#"
            [limits]
            memory = "64 KiB"
            v4_prefix = 24
            v6_prefix = 56
            connections = "100/min, burst 20"
            concurrent = 20
            recipients = "1000/h"
            sender_domain = "2/s"
            recipient_domain = "10/day"
            reply = "throttle-soft"
            exempt = ["postmaster"]
            "#,
        );
        assert_eq!(messages, [""; 0]);
        let rate = |text| Some(Rate::parse(text).unwrap());
        let settings = Settings {
            memory: 65536,
            v4_prefix: 24,
            v6_prefix: 56,
            connections: rate("100/min, burst 20"),
            concurrent: Some(20),
            recipients: rate("1000/h"),
            sender_domain: rate("2/s"),
            recipient_domain: rate("10/d"),
        };
        let reply_again = Reply::named("throttle-soft").map(|reply| reply.hanging_up());
        assert_eq!(whole, Limits { settings, reply: Reply::named("throttle-soft"), reply_again, exempt: Exempt::POSTMASTER });
        let exempt = Exempt::AUTHENTICATED.and(Exempt::TRUSTED).and(Exempt::ALLOWED);
        let settings = Settings { concurrent: Some(5), ..Settings::default() };
        let expected = Limits { settings, reply: Reply::named("throttle"), reply_again: None, exempt };
        assert_eq!(limits("[limits]\nconcurrent=5"), (expected, vec![]));
        assert_eq!(limits(""), (Limits::default(), vec![]));
        let (literal, messages) = limits("[limits]\nconcurrent=5\nreply=\"451 4.7.1 Slow down\"");
        assert_eq!((literal.reply.map(|reply| reply.code), messages), (Some(451), vec![]));
        let (retry, messages) = limits("[limits]\nconcurrent=5\nreply=\"451 4.7.1 Come back {retry}\"");
        let again = retry.reply_again.map(|reply| reply.literal());
        assert_eq!((again.as_deref(), messages), (Some("421 4.7.1 Come back {retry}"), vec![]));
    }

    #[test]
    fn mistakes_are_shown_with_their_remedy() {
        for (text, part) in [
            ("memory=16", "p:3:8: memory is of type integer; write memory = \"16 MiB\""),
            ("memory=\"16\"", "p:3:8: \"16\" is not an amount of memory; write a number and KiB, MiB or GiB, such as \"16 MiB\""),
            ("memory=\"16 MB\"", "\"16 MB\" is not an amount of memory"),
            ("memory=\"016 MiB\"", "\"016 MiB\" is not an amount of memory"),
            ("memory=\"+16 MiB\"", "\"+16 MiB\" is not an amount of memory"),
            ("memory=\"63 KiB\"", "\"63 KiB\" is not in the range of memory; write from \"64 KiB\" to \"64 GiB\""),
            ("memory=\"99999999999999999999 GiB\"", "is not in the range of memory"),
            ("v4_prefix=0", "p:3:11: v4_prefix is not in its range; write v4_prefix = a whole number from 1 to 32"),
            ("v6_prefix=129", "v6_prefix is not in its range; write v6_prefix = a whole number from 1 to 128"),
            ("concurrent=0", "concurrent is not in its range; write concurrent = a whole number from 1 to 65535"),
            ("connections=100", "p:3:13: connections is of type integer; write connections = \"100/min\""),
            ("recipients=\"100/m\"", "p:3:12: \"m\" is not a unit of a rate; write 100/min"),
            ("sender_domain=\"x\"", "p:3:15: \"x\" is not a rate; write a number, a slash"),
            ("concurrent=1\nreply=\"drop\"", "p:4:7: a limit is no reason to refuse for good"),
            ("concurrent=1\nreply=\"550 5.7.1 no\"", "p:4:7: a limit is no reason to refuse for good"),
            ("concurrent=1\nreply=\"later\"", "p:4:7: there is no reply named \"later\""),
            ("concurrent=1\nexempt=[\"x\"]", "\"x\" cannot be exempt; write authenticated, postmaster, abuse, trusted or allowed"),
            ("concurrent=1\nconnection=\"1/s\"", "p:4:1: \"connection\" is not a key of [limits]; use memory, v4_prefix,"),
            ("", "p:2:1: [limits] limits nothing; write connections = \"100/min\", concurrent = 20 or the like"),
        ] {
            let (_, shown) = limits(&format!("[limits]\n{text}"));
            assert!(shown.len() == 1 && shown[0].contains(part), "{part} in {shown:#?}");
        }
    }
}
