//! `[maintenance]`: the text of that mode, until when it lasts, and the times of each week at which it is there by itself.

use super::Item;
use super::fields::{Fields, Reader, Value};
use crate::diagnostic::{Fault, quote};
use crate::list::Seconds;
use crate::mode::Mode;
use crate::reply::{RETRY, Reply};

/// `[maintenance]`. Each time has its own reply, so that nothing is put together when somebody asks.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Maintenance {
    /// The reply of the mode, where it is not known until when; `None` for the usual one.
    pub reply: Option<Reply>,
    /// When the mode ends that the policy asks for, in seconds since 1970-01-01 UTC.
    pub until: Option<(Seconds, Reply)>,
    pub windows: Vec<Window>,
}

/// A time of each week, or of each day.
#[derive(Debug, PartialEq)]
pub(crate) struct Window {
    /// The beginning, in seconds since the beginning of a week (Monday) or a day, UTC.
    begin: Seconds,
    length: Seconds,
    /// A week or a day.
    period: Seconds,
    pub reply: Reply,
}

/// What clients read before it is said until when.
const TEXT: &str = "Service not available, maintenance";
/// The days, as they begin at 1970-01-05, a Monday.
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const DAY: Seconds = 86_400;
const WEEK: Seconds = 7 * DAY;
/// From 1970-01-01, a Thursday, back to the beginning of its week.
const FIRST: Seconds = 3 * DAY;

impl Maintenance {
    /// Whether the time makes a difference.
    pub(crate) fn is_timed(&self) -> bool {
        self.until.is_some() || !self.windows.is_empty()
    }
}

impl Window {
    /// Whether a moment is in it.
    pub(crate) fn has(&self, now: Seconds) -> bool {
        self.left(now) > 0
    }

    /// How long it goes on from a moment; 0 if that is not in it.
    pub(crate) fn left(&self, now: Seconds) -> Seconds {
        let since = if self.period == WEEK { now.saturating_add(FIRST) } else { now };
        // A window may go on in the next week or day.
        let passed = (since % self.period + self.period - self.begin) % self.period;
        self.length.saturating_sub(passed)
    }
}

impl Reader<'_> {
    pub(super) fn maintenance(&mut self, top: &mut Fields<'_>, mode: Mode) -> Maintenance {
        let Some(mut fields) = self.table(top.take("maintenance"), "maintenance") else { return Maintenance::default() };
        let given = self.string(fields.take("text"), "text", "\"Moving to a new server\"");
        let text = given.as_ref().map_or(TEXT, |item| item.text.as_str());
        let reply = self.maintenance_reply(text, "; try again {retry}", given.as_ref());
        // The longer ones say more of the same: what is wrong with them is told once.
        let told = reply.is_none();
        let until = fields.take("until").and_then(|value| self.until(&value, mode));
        let until = until.and_then(|at| {
            let end = format!("; try again after {}", shown(at)?);
            Some((at, self.maintenance_reply(text, &end, given.as_ref().filter(|_| !told))?))
        });
        let windows = self.strings(fields.take("windows"), "windows", "[\"Sun 02:00-04:00\"]").unwrap_or_default();
        let windows = windows.iter().filter_map(|item| self.window(item, text, told)).collect();
        self.finish(fields, "[maintenance]", "text, until, windows");
        Maintenance { reply: reply.filter(|_| given.is_some()), until, windows }
    }

    /// The reply with a text, and what comes after it, unless the text says itself when to come back. What is wrong is reported at a place.
    fn maintenance_reply(&mut self, text: &str, end: &str, place: Option<&Item>) -> Option<Reply> {
        let end = if text.contains(RETRY) { "" } else { end };
        match (Reply::parse(&format!("421 4.3.2 {{hostname}} {text}{end}")), place) {
            (Ok(reply), _) => return Some(reply),
            (Err(fault), Some(place)) => self.report_at(place, fault),
            (Err(_), None) => {}
        }
        None
    }

    fn until(&mut self, value: &Value<'_>, mode: Mode) -> Option<Seconds> {
        let at = value.get_ref().as_datetime().and_then(|at| at.to_string().parse::<jiff::Timestamp>().ok());
        let at = at.and_then(|at| Seconds::try_from(at.as_second()).ok());
        let fault = match at {
            Some(_) if mode == Mode::Maintenance => return at,
            Some(_) => Fault::new("until is about mode = \"maintenance\", which this policy does not have", "write that too, or windows"),
            None => Fault::new("until is not a moment", "write until = 2027-01-01T02:00:00Z, in UTC and without quotation marks"),
        };
        self.report(value.span(), fault);
        None
    }

    fn window(&mut self, item: &Item, text: &str, told: bool) -> Option<Window> {
        let Some((begin, length, period, end)) = window(&item.text) else {
            let cause = format!("{} is not a time of the week", quote(item.text.as_bytes()));
            self.report_at(item, Fault::new(cause, "write a day or \"daily\" and two times in UTC, such as \"Sun 02:00-04:00\""));
            return None;
        };
        if told {
            return None;
        }
        let reply = self.maintenance_reply(text, &format!("; try again after {end} UTC"), Some(item))?;
        Some(Window { begin, length, period, reply })
    }
}

/// Begin, length, period, and the end as it is written.
fn window(text: &str) -> Option<(Seconds, Seconds, Seconds, &str)> {
    let (day, times) = text.split_once(' ')?;
    let (from, to) = times.split_once('-')?;
    let (first, period) = if day == "daily" {
        (0, DAY)
    } else {
        let number = DAYS.iter().position(|name| *name == day)?;
        (Seconds::try_from(number).ok()? * DAY, WEEK)
    };
    let (begin, end) = (time(from)?, time(to)?);
    // One that ends before it begins ends on the next day.
    let length = (end + DAY - begin) % DAY;
    (begin < DAY && length > 0).then_some((first + begin, length, period, if to == "24:00" { "00:00" } else { to }))
}

/// A time such as `02:00`, up to `24:00`.
fn time(text: &str) -> Option<Seconds> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |text: &str| {
        let digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<Seconds>().ok().filter(|_| digits)
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let seconds = hours * 3600 + minutes * 60;
    (minutes < 60 && seconds <= DAY).then_some(seconds)
}

/// A moment as clients read it.
fn shown(at: Seconds) -> Option<String> {
    let at = jiff::Timestamp::from_second(i64::try_from(at).ok()?).ok()?;
    Some(at.strftime("%Y-%m-%d %H:%M UTC").to_string())
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn maintenance(text: &str) -> (Maintenance, Vec<String>) {
        let (policy, diagnostics) = parse(&format!("hostname = \"h\"\n{text}"), &"p".into());
        (policy.maintenance, diagnostics.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn windows_are_there_in_their_time() {
        // 2026-11-22 is a Sunday; its midnight.
        let sunday: Seconds = 1_795_305_600;
        for (text, hours) in [
            ("Sun 02:00-04:00", &[2, 3][..]),
            ("Sun 00:00-01:00", &[0]),
            ("Sat 23:00-01:00", &[-1, 0]),
            ("Sun 23:00-24:00", &[23]),
            ("Sun 23:00-02:00", &[23, 24, 25]),
            ("Mon 00:00-01:00", &[24]),
            ("daily 22:00-01:00", &[-2, -1, 0, 22, 23, 24, 46, 47, 48]),
        ] {
            let (maintenance, messages) = maintenance(&format!("[maintenance]\nwindows = [\"{text}\"]\n"));
            assert_eq!(messages, [""; 0]);
            let within = |hour: i64, second: i64| {
                let now = sunday.checked_add_signed(hour * 3600 + second).unwrap();
                let found = maintenance.windows[0].has(now);
                assert_eq!(found, maintenance.windows[0].has(now + 5 * WEEK));
                found
            };
            for hour in -3..=48 {
                let expected = hours.contains(&hour);
                assert_eq!([within(hour, 0), within(hour, 3599)], [expected; 2], "{text}, hour {hour}");
            }
        }
    }

    #[test]
    fn mistakes_are_shown_with_their_remedy() {
        for (text, part) in [
            ("text=\"a\\nb\"", "p:3:6: "),
            ("windows=\"Sun 02:00-04:00\"", "p:3:9: windows is of type string; write windows = "),
            ("windows=[\"02:00-04:00\"]", "p:3:10: \"02:00-04:00\" is not a time of the week; write a day or \"daily\""),
            ("windows=[\"Sunday 02:00-04:00\"]", "is not a time of the week"),
            ("windows=[\"Sun 2:00-04:00\"]", "is not a time of the week"),
            ("windows=[\"Sun 02:00-24:01\"]", "is not a time of the week"),
            ("windows=[\"Sun 02:60-04:00\"]", "is not a time of the week"),
            ("windows=[\"Sun 02:00-02:00\"]", "is not a time of the week"),
            ("windows=[\"Sun 24:00-02:00\"]", "is not a time of the week"),
            ("until=2027-01-01T02:00:00Z", "p:3:7: until is about mode = \"maintenance\", which this policy does not have"),
            ("until=\"2027-01-01\"", "p:3:7: until is not a moment; write until = 2027-01-01T02:00:00Z"),
            ("until=2027-01-01T02:00:00", "p:3:7: until is not a moment"),
            ("until=2027-01-01", "p:3:7: until is not a moment"),
            ("window=1", "p:3:1: \"window\" is not a key of [maintenance]; use text, until, windows"),
        ] {
            let (_, shown) = maintenance(&format!("[maintenance]\n{text}"));
            assert!(shown.len() == 1 && shown[0].contains(part), "{part} in {shown:#?}");
        }
    }
}
