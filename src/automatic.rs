//! What a host does by itself: it is in maintenance at its time and overloaded while it has found that, and it bans clients. The
//! last two the host finds out; here stands what the policy says about them, and what they come to.
//!
//! A mode that somebody has set counts before those that come by themselves.

use crate::compile::seconds;
use crate::facts::Facts;
use crate::list::Seconds;
use crate::mode::Mode;
use crate::policy::{Escalation, Exempt, Maintenance, Overload};
use crate::reply::Reply;
use crate::retry::{SOON, Wait};
use crate::ruleset::{Live, Question, Ruleset};
use crate::verdict::Decider;
use std::net::IpAddr;
use std::time::SystemTime;

impl Ruleset {
    /// What everybody is told where the time counts, or the host has found itself overloaded. In the latter case only those
    /// whom neither the never-block set nor an allow list has. And how long it will last, if that is known.
    #[cold]
    pub(crate) fn reply_by_itself(&self, facts: &Facts<'_>, live: &Live<'_>) -> Option<(&Reply, Option<Wait>)> {
        if live.mode.is_some() {
            return self.reply_by_hand(live);
        }
        match self.at(facts.now) {
            (Mode::Open, ..) if live.overloaded => {
                let decider = self.by_address(&Question::of_connection(facts)).decider();
                let overloaded = self.mode_replies.get(Mode::Overloaded as usize)?.as_ref();
                Some((overloaded.filter(|_| !matches!(decider, Decider::NeverBlock | Decider::Allow))?, Some(SOON)))
            }
            (_, reply, left) => Some((reply?, left.and_then(|left| Wait::try_from(left).ok()))),
        }
    }

    /// What everybody is told in the mode that the policy asks for, or somebody has set. Who drains a host, or finds it
    /// overloaded, while it runs is about to change that; what the policy says stays nobody knows how long.
    pub(crate) fn reply_by_hand(&self, live: &Live<'_>) -> Option<(&Reply, Option<Wait>)> {
        let is_passing = matches!(live.mode, Some(Mode::Draining | Mode::Overloaded));
        Some((self.mode_reply(live)?, is_passing.then_some(SOON)))
    }

    /// The mode in force.
    pub(crate) fn mode_now(&self, live: &Live<'_>) -> Mode {
        match (live.mode, self.at(None)) {
            (Some(mode), _) => mode,
            (None, (Mode::Open, ..)) if live.overloaded => Mode::Overloaded,
            (None, (mode, ..)) => mode,
        }
    }

    /// The mode that the policy asks for at a moment, its reply, and how long it will last. Reads the clock only if time makes
    /// a difference.
    fn at(&self, now: Option<Seconds>) -> (Mode, Option<&Reply>, Option<Seconds>) {
        let Maintenance { until, windows, .. } = &self.maintenance;
        let now = if self.timed { now.unwrap_or_else(|| seconds(SystemTime::now())) } else { 0 };
        if let Some((end, reply)) = until
            && now < *end
        {
            return (Mode::Maintenance, Some(reply), Some(end - now));
        }
        // What had an end is over.
        let mode = if until.is_some() { Mode::Open } else { self.mode };
        match windows.iter().find(|window| mode == Mode::Open && window.has(now)) {
            Some(window) => (Mode::Maintenance, Some(&window.reply), Some(window.left(now))),
            None => (mode, self.mode_replies.get(mode as usize).and_then(Option::as_ref), None),
        }
    }

    /// Until when the maintenance lasts that is there at a moment because the policy says when (`[maintenance]`), in seconds
    /// since 1970-01-01 UTC; `None` if there is none.
    pub fn maintenance_until(&self, now: Seconds) -> Option<Seconds> {
        let (_, _, left) = self.at(Some(now));
        left.map(|left| now.saturating_add(left))
    }

    /// When the host is to ban clients by itself; `None` for never.
    pub fn escalation(&self) -> Option<&Escalation> {
        self.escalation.as_ref()
    }

    /// The prefix lengths by which limits tell clients apart, of IPv4 and IPv6.
    pub fn client_prefixes(&self) -> (u8, u8) {
        (self.limits.settings.v4_prefix, self.limits.settings.v6_prefix)
    }

    /// Whether a client is let in whatever block lists and bans say: it is in the never-block set, an allow list has it, or
    /// it is trusted. Counts as no question.
    pub fn vouches_for(&self, address: IpAddr) -> bool {
        let facts = Facts::of_client(address);
        let mut question = Question::of_connection(&facts);
        let decider = self.by_address(&question).decider();
        self.let_in(&mut question, decider);
        decider == Decider::NeverBlock || Exempt::ALLOWED.and(Exempt::TRUSTED).meets(question.situation)
    }

    /// When a host is to take itself for overloaded; `None` for never.
    pub fn overload(&self) -> Option<&Overload> {
        self.overload.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use crate::mode::Mode;
    use crate::{Facts, Gate};

    /// 2026-11-22 02:00 UTC, a Sunday.
    const SUNDAY: u64 = 1_795_312_800;

    fn gate(policy: &str) -> Gate {
        let gate = Gate::new();
        let lists = "[[list]]\nname = \"good\"\nallow = true\nentries = [\"203.0.113.7\"]\n";
        gate.load_text(&format!("hostname = \"mx.example.org\"\n{policy}{lists}"), "p").unwrap();
        gate
    }

    /// The reply to a client at a moment; empty if it is let in.
    fn reply(gate: &Gate, client: &str, now: u64) -> String {
        let facts = Facts { now: Some(now), ..Facts::of_client(client.parse().unwrap()) };
        let (connect, rcpt) = (gate.check_connect(&facts), gate.check_rcpt(&facts));
        let text = |verdict: crate::Verdict| verdict.rejection.map_or(String::new(), |rejection| rejection.reply().to_string());
        assert_eq!(text(connect), text(rcpt));
        text(rcpt)
    }

    #[test]
    fn maintenance_in_its_window() {
        let gate = gate("[maintenance]\ntext = \"Moving\"\nwindows = [\"Sun 02:00-04:00\", \"daily 22:00-22:30\"]\n");
        let told = |client, now| reply(&gate, client, now);
        let window = "421 4.3.2 mx.example.org Moving; try again after 04:00 UTC";
        for (now, expected) in [
            (SUNDAY - 1, ""),
            (SUNDAY, window),
            (SUNDAY + 7199, window),
            (SUNDAY + 7200, ""),
            (SUNDAY + 20 * 3600, "421 4.3.2 mx.example.org Moving; try again after 22:30 UTC"),
            (SUNDAY + 24 * 3600, ""),
        ] {
            // Allow lists are no exception, as with the mode.
            assert_eq!([told("192.0.2.1", now), told("203.0.113.7", now)], [expected; 2], "{now}");
        }
        let until = |now| gate.ruleset().maintenance_until(now);
        let end = Some(SUNDAY + 7200);
        assert_eq!([SUNDAY - 1, SUNDAY, SUNDAY + 7199, SUNDAY + 7200].map(until), [None, end, end, None]);
        assert_eq!(until(SUNDAY + 20 * 3600 + 60), Some(SUNDAY + 20 * 3600 + 1800));
        // Overload comes after it; what is set by hand before both.
        gate.set_overloaded(true);
        assert_eq!(told("203.0.113.7", SUNDAY), window);
        assert!(told("192.0.2.1", SUNDAY - 1).contains("overloaded") && told("203.0.113.7", SUNDAY - 1).is_empty());
        gate.set_mode(Some(Mode::Open));
        assert_eq!([told("192.0.2.1", SUNDAY), told("192.0.2.1", SUNDAY - 1)], [""; 2]);
        gate.set_mode(Some(Mode::Maintenance));
        assert_eq!(told("192.0.2.1", SUNDAY), "421 4.3.2 mx.example.org Moving; try again later");
        assert_eq!((gate.mode(), gate.is_mode_automatic()), (Mode::Maintenance, false));
    }

    #[test]
    fn maintenance_until_a_moment() {
        let gate = gate("mode = \"maintenance\"\n[maintenance]\nuntil = 2026-11-22T03:00:00+01:00\nwindows = [\"Sun 03:00-04:00\"]\n");
        let text = "421 4.3.2 mx.example.org Service not available, maintenance; try again after ";
        for (now, end) in [(SUNDAY - 1, "2026-11-22 02:00 UTC"), (SUNDAY + 3600, "04:00 UTC")] {
            assert_eq!(reply(&gate, "203.0.113.7", now), format!("{text}{end}"));
        }
        assert_eq!([SUNDAY, SUNDAY + 7200].map(|now| reply(&gate, "192.0.2.1", now)), [""; 2]);
        let ends = [SUNDAY - 1, SUNDAY, SUNDAY + 3600, SUNDAY + 7200].map(|now| gate.ruleset().maintenance_until(now));
        assert_eq!(ends, [Some(SUNDAY), None, Some(SUNDAY + 7200), None]);
    }

    /// The seconds that a reply says; 0 where it says `later`.
    fn told(reply: &str, before: &str) -> u64 {
        let told = reply.strip_prefix(before).unwrap_or_else(|| panic!("{reply}"));
        if told == "later" { 0 } else { told.strip_prefix("in ").unwrap().strip_suffix(" seconds").unwrap().parse().unwrap() }
    }

    #[test]
    fn a_mode_that_will_be_over_says_when() {
        let windows = "[maintenance]\ntext = \"Moving, back {retry}\"\nwindows = [\"Sun 02:00-04:00\"]\n";
        let timed = gate(windows);
        let until = gate(&format!("mode = \"maintenance\"\n{windows}until = 2026-11-22T03:00:00+01:00\n"));
        // To the end, and up to a quarter of an hour.
        for (gate, now, left) in [(&timed, SUNDAY, 7200), (&timed, SUNDAY + 7000, 200), (&until, SUNDAY - 86_400, 86_400)] {
            let seconds = told(&reply(gate, "192.0.2.1", now), "421 4.3.2 mx.example.org Moving, back ");
            assert!((left..=left + 900.min(left / 2)).contains(&seconds), "{seconds} of {left}");
            assert_eq!(told(&reply(gate, "192.0.2.1", now), "421 4.3.2 mx.example.org Moving, back "), seconds);
        }
        // What comes by itself or is set while the host runs passes; what the policy says stays nobody knows how long.
        let before = |what| format!("421 4.3.2 mx.example.org Service not available, {what}; try again ");
        let open = gate("");
        open.set_overloaded(true);
        assert!((60..=90).contains(&told(&reply(&open, "192.0.2.1", SUNDAY), &before("overloaded"))));
        for (mode, what) in [(Mode::Draining, "shutting down"), (Mode::Overloaded, "overloaded")] {
            open.set_mode(Some(mode));
            assert!((60..=90).contains(&told(&reply(&open, "192.0.2.1", SUNDAY), &before(what))));
            let stays = gate(&format!("mode = \"{mode}\"\n"));
            assert_eq!(told(&reply(&stays, "192.0.2.1", SUNDAY), &before(what)), 0);
        }
        open.set_mode(Some(Mode::Maintenance));
        assert_eq!(told(&reply(&open, "192.0.2.1", SUNDAY), &before("maintenance")), 0);
        // All are told, and not the same.
        open.set_mode(Some(Mode::Draining));
        let mut all: Vec<u64> =
            (0..100).map(|host| told(&reply(&open, &format!("198.51.100.{host}"), SUNDAY), &before("shutting down"))).collect();
        all.sort_unstable();
        all.dedup();
        assert!(all.len() > 20, "{all:?}");
    }

    #[test]
    fn the_mode_says_whether_it_came_by_itself() {
        let over = gate("mode = \"maintenance\"\n[maintenance]\nuntil = 2001-01-01T00:00:00Z\n");
        assert_eq!((over.mode(), over.is_mode_automatic()), (Mode::Open, true));
        let not_over = gate("mode = \"maintenance\"\n[maintenance]\nuntil = 2999-01-01T00:00:00Z\n");
        assert_eq!((not_over.mode(), not_over.is_mode_automatic()), (Mode::Maintenance, false));
        let always = gate("[maintenance]\nwindows = [\"daily 00:00-12:00\", \"daily 12:00-24:00\"]\n");
        assert_eq!((always.mode(), always.is_mode_automatic()), (Mode::Maintenance, true));
        let closed = gate("mode = \"no-mail\"\n[maintenance]\nwindows = [\"daily 00:00-12:00\", \"daily 12:00-24:00\"]\n");
        closed.set_overloaded(true);
        assert_eq!((closed.mode(), closed.is_mode_automatic()), (Mode::NoMail, false));
    }
}
