//! What stands in the way of a list in a format: found before anything is written, counted, and told with the place of the
//! first of each kind and the formats that do better.

use super::holds::{ALL, Holds, Names};
use super::plan::{Item, MAX_SPLIT_BITS, Plan, Subject};
use super::write::{About, Writer, access_key, score};
use crate::contents::Wanted;
use crate::diagnostic::{Diagnostic, Fault};
use crate::domain::Form;
use crate::list::{Seconds, Statement};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// Something that a format cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Obstacle {
    V4,
    V6,
    Mixed,
    /// A name without those below it.
    Alone,
    /// A prefix that would become too many keys.
    Wide,
    /// A key that the server would not find.
    Lost,
    /// A mailbox that would be read as something else.
    Mailbox,
    Score,
    Reason,
    Reply,
    Expiry,
}

/// What is to be written, and what stands in its way.
pub(super) struct Survey {
    pub about: About,
    holds: &'static Holds,
    /// How often, and the first line.
    found: BTreeMap<Obstacle, (u64, u32)>,
}

impl Survey {
    /// Looks at all entries.
    pub(super) fn of(plan: &Plan<'_>, holds: &'static Holds, wanted: Wanted, statement: Statement, now: Seconds) -> io::Result<Survey> {
        let about = About { wanted, entries: 0, v4: 0, addresses: 0, statement, now };
        let mut survey = Survey { about, holds, found: BTreeMap::new() };
        let mut v6 = 0;
        plan.each(&mut |item| {
            survey.look(item);
            v6 += u64::from(matches!(item.subject, Subject::Network(IpNet::V6(_))));
            if v6 > 0 && survey.about.v4 > 0 && !holds.mixed && holds.v4 && holds.v6 {
                survey.count(Obstacle::Mixed, item.line);
            }
            Ok(())
        })?;
        Ok(survey)
    }

    fn count(&mut self, obstacle: Obstacle, line: u32) {
        self.found.entry(obstacle).or_insert((0, line)).0 += 1;
    }

    fn look(&mut self, item: &Item<'_>) {
        let (holds, about) = (self.holds, self.about);
        self.about.entries += 1;
        let mut count = |is: bool, obstacle| {
            if is {
                self.count(obstacle, item.line);
            }
        };
        match item.subject {
            Subject::Network(network) => {
                let v4 = network.addr().is_ipv4();
                count(v4 && !holds.v4, Obstacle::V4);
                count(!v4 && !holds.v6, Obstacle::V6);
                if holds.whole_octets {
                    let whole = network.prefix_len().is_multiple_of(if v4 { 8 } else { 16 });
                    count(!whole, Obstacle::Wide);
                    count(whole && access_key(holds.format, item.subject, about.wanted).is_none(), Obstacle::Lost);
                }
                self.about.v4 += u64::from(v4);
                let host_bits = network.max_prefix_len() - network.prefix_len();
                self.about.addresses = self.about.addresses.saturating_add(1_u128.checked_shl(host_bits.into()).unwrap_or(u128::MAX));
            }
            // Of ranges there are IPv4 ones only, and their addresses are not told.
            Subject::Range(..) => self.about.v4 += 1,
            Subject::Name(form, _) => count(form == Form::Exact && holds.names == Names::WithThoseBelow, Obstacle::Alone),
            Subject::Mailbox(mailbox) => count(!Writer::reads_back(holds, about, item, mailbox), Obstacle::Mailbox),
        }
        let mut count = |is: bool, obstacle| {
            if is {
                self.count(obstacle, item.line);
            }
        };
        // What a hole says about itself nobody hears.
        if !item.hole {
            count(holds.scores && score(&item.reason).is_none(), Obstacle::Score);
            let with_reply = holds.replies && item.reply.is_some() && !item.reason.is_empty();
            count(!holds.reason(&item.reason) || with_reply, Obstacle::Reason);
            count(item.reply.is_some() && !holds.replies, Obstacle::Reply);
        }
        count(item.expires.is_some() && !holds.expiry, Obstacle::Expiry);
    }

    /// What is in the way: errors, but for what is left out because `lossy` allows it.
    pub(super) fn diagnostics(&self, file: &Arc<str>, lossy: bool) -> Vec<Diagnostic> {
        let told = self.found.iter().map(|(obstacle, (number, line))| {
            let (left_out, diagnostic) = (lossy && obstacle.may_be_left_out(), |fault: Fault| fault.at(file, *line, 1));
            if left_out { diagnostic(self.loss(*obstacle, *number)).warning() } else { diagnostic(self.fault(*obstacle, *number)) }
        });
        told.collect()
    }

    fn loss(&self, obstacle: Obstacle, number: u64) -> Fault {
        let what = match obstacle {
            Obstacle::Reply => plural(number, "reply is", "replies are"),
            Obstacle::Expiry => plural(number, "date of expiry is", "dates of expiry are"),
            Obstacle::Reason
            | Obstacle::V4
            | Obstacle::V6
            | Obstacle::Mixed
            | Obstacle::Alone
            | Obstacle::Wide
            | Obstacle::Lost
            | Obstacle::Mailbox
            | Obstacle::Score => plural(number, "reason is", "reasons are"),
        };
        Fault::new(format!("{what} left out, which {} cannot hold", self.name()), format!("to keep them {}", self.better(obstacle)))
    }

    fn fault(&self, obstacle: Obstacle, number: u64) -> Fault {
        let (name, keys) = (self.name(), 1_u32 << MAX_SPLIT_BITS);
        let without = "or leave them out with --lossy";
        let (what, why, or) = match obstacle {
            Obstacle::V4 => (plural(number, "entry is", "entries are"), format!("about IPv4, which {name} cannot hold"), ""),
            Obstacle::V6 => (plural(number, "entry is", "entries are"), format!("about IPv6, which {name} cannot hold"), ""),
            Obstacle::Mixed => ("there are".into(), format!("entries of both address families, of which {name} can hold one"), ""),
            Obstacle::Alone => (
                plural(number, "entry is a name", "entries are names"),
                format!("without those below, and a key of {name} covers them too"),
                "or write .example.org into the list where they are meant as well",
            ),
            Obstacle::Wide => (
                plural(number, "entry would become", "entries would each become"),
                format!("more than {keys} keys, as {name} knows whole octets and groups alone"),
                "",
            ),
            Obstacle::Lost => {
                (plural(number, "entry has no key", "entries have no key"), format!("that is found in {name}, which compares texts"), "")
            }
            Obstacle::Mailbox => {
                (plural(number, "mailbox has", "mailboxes have"), format!("a sign that {name} takes for something else"), "")
            }
            Obstacle::Score => (plural(number, "entry has", "entries have"), format!("no score, without which {name} has no entry"), ""),
            Obstacle::Reason => (plural(number, "entry has", "entries have"), format!("a reason that {name} cannot hold"), without),
            Obstacle::Reply => (plural(number, "entry has", "entries have"), format!("a reply, which {name} cannot hold"), without),
            Obstacle::Expiry => {
                (plural(number, "entry has", "entries have"), format!("a date of expiry, which {name} cannot hold"), without)
            }
        };
        let better = self.better(obstacle);
        Fault::new(format!("{what} {why}"), if or.is_empty() { better } else { format!("{better}, {or}") })
    }

    fn name(&self) -> &'static str {
        self.holds.format.name()
    }

    /// The formats that can hold it.
    fn better(&self, obstacle: Obstacle) -> String {
        let suits = |holds: &&Holds| {
            let (v4, v6) = (self.about.v4 > 0, self.about.v4 < self.about.entries);
            let families = (holds.v4 || !v4) && (holds.v6 || !v6) && (holds.mixed || !v4 || !v6);
            let kind = match self.about.wanted {
                Wanted::Addresses => families,
                Wanted::Domains => holds.names == Names::All,
                Wanted::Senders | Wanted::Recipients => holds.mailboxes,
            };
            kind && (!holds.scores || obstacle == Obstacle::Score)
                && match obstacle {
                    Obstacle::V4 => holds.v4,
                    Obstacle::V6 => holds.v6,
                    Obstacle::Mixed => holds.mixed,
                    Obstacle::Alone => holds.names == Names::All,
                    Obstacle::Wide | Obstacle::Lost => !holds.whole_octets,
                    Obstacle::Mailbox => holds.format != self.holds.format,
                    Obstacle::Score => !holds.scores,
                    // Where reasons are held in general, it is one that looks like a comment.
                    Obstacle::Reason if self.holds.reasons => holds.reason("#") && holds.reason(";"),
                    Obstacle::Reason => holds.reasons,
                    Obstacle::Reply => holds.replies,
                    Obstacle::Expiry => holds.expiry,
                }
        };
        let names: Vec<&str> = ALL.iter().filter(suits).map(|holds| holds.format.name()).collect();
        match names.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("take {} or {last}", rest.join(", ")),
            Some((last, _)) => format!("take {last}"),
            None => "split the list: no format holds all of it".into(),
        }
    }
}

impl Obstacle {
    /// Whether an entry still covers what it covers without it.
    fn may_be_left_out(self) -> bool {
        matches!(self, Obstacle::Reason | Obstacle::Reply | Obstacle::Expiry)
    }
}

fn plural(number: u64, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}
