//! What a question came to, and the answer that is made of it.
//!
//! The rules decide into a [`Decision`]: what decided, as references into the rules, which the caller holds meanwhile. Only
//! then the answer is written, once, into its place: a [`Verdict`], or the structure of a caller from C. Replies are filled
//! in here and nowhere else.

use crate::bans::Ban;
use crate::compile::seconds;
use crate::contents::{About, Asked, Entry as ListEntry};
use crate::covering::List;
use crate::domain::{Folded, Place};
use crate::limits::PutOff;
use crate::line::Line;
use crate::policy::BANS;
use crate::reply::{MAX_VALUE, Placeholder, Reply};
use crate::retry::Wait;
use crate::rules::authentication::failures;
use crate::ruleset::{Question, Ruleset};
use crate::verdict::{Decider, Entry, Rejection, Verdict};
use arrayvec::ArrayString;
use std::fmt;
use std::net::IpAddr;
use std::time::SystemTime;

/// The longest entry: a mailbox, or a name and what stands before it.
const MAX_SHOWN: usize = 256;
/// What stands behind the limit for which a client is refused once more before it was to come back.
const AGAIN: &[u8] = b", again too soon";

/// What a question came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Decision<'a> {
    pub by: By<'a>,
    /// The objection; `None` lets the client go on.
    pub reply: Option<&'a Reply>,
    /// Name of the first list that would have refused if it were enforced; empty if none.
    pub shadow: &'a str,
}

/// What decided.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum By<'a> {
    /// No rule matched: accept.
    #[default]
    Nothing,
    /// The mode, and how long it will last, if that is known.
    Mode(Option<Wait>),
    Entry(&'a List, ListEntry),
    Ban(&'a Ban),
    Relay,
    Authentication,
    Limit(PutOff),
}

/// A decision, and what it is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<'a> {
    pub ruleset: &'a Ruleset,
    pub question: &'a Question<'a>,
    pub decision: Decision<'a>,
}

impl By<'_> {
    pub(crate) fn is_nothing(&self) -> bool {
        matches!(self, By::Nothing)
    }
}

impl<'a> Decision<'a> {
    /// An objection.
    pub(crate) fn refusal(by: By<'a>, reply: &'a Reply) -> Decision<'a> {
        Decision { by, reply: Some(reply), ..Decision::default() }
    }

    /// What an entry of a list comes to.
    #[inline(always)]
    pub(crate) fn by_entry(list: &'a List, entry: ListEntry, connect: bool) -> Decision<'a> {
        Decision { by: By::Entry(list, entry), reply: list.reply(entry, connect), ..Decision::default() }
    }

    pub(crate) fn is_accept(&self) -> bool {
        self.reply.is_none()
    }

    pub(crate) fn decider(&self) -> Decider {
        match self.by {
            By::Nothing => Decider::Nothing,
            By::Mode(_) => Decider::Mode,
            By::Entry(list, _) => list.role,
            By::Ban(_) => Decider::Ban,
            By::Relay => Decider::Relay,
            By::Authentication => Decider::Authentication,
            By::Limit(_) => Decider::Limit,
        }
    }

    /// Name of the list that decided; empty if none did.
    pub(crate) fn list(&self) -> &'a str {
        match self.by {
            By::Entry(list, _) => &list.name,
            By::Ban(_) => BANS,
            By::Nothing | By::Mode(_) | By::Relay | By::Authentication | By::Limit(_) => "",
        }
    }

    /// Line of the entry that decided; 0 if none did.
    pub(crate) fn line(&self) -> u32 {
        if let By::Entry(list, entry) = self.by { list.contents.line(entry) } else { 0 }
    }

    /// The entry that decided.
    pub(crate) fn entry(&self) -> Option<About<'a>> {
        match self.by {
            By::Entry(list, entry) => list.contents.about(entry),
            By::Ban(ban) => Some(About::Network(ban.network)),
            By::Nothing | By::Mode(_) | By::Relay | By::Authentication | By::Limit(_) => None,
        }
    }
}

impl Answer<'_> {
    /// Writes what a list says about the entry that decided, or which checks failed. Says whether that is anything.
    pub(crate) fn write_reason(&self, line: &mut Line<'_>) -> bool {
        let failures;
        let reason = match self.decision.by {
            By::Entry(list, entry) => return list.contents.write_reason(entry, line),
            By::Ban(ban) => &*ban.reason,
            By::Authentication => {
                failures = self::failures(self.ruleset.authentication.policy.failed(self.question.facts));
                &failures
            }
            By::Limit(PutOff { which, again, .. }) => {
                line.push(which.as_bytes());
                line.push(if again { AGAIN } else { b"" });
                return true;
            }
            By::Nothing | By::Mode(_) | By::Relay => "",
        };
        line.push_harmless(reason.as_bytes());
        !reason.is_empty()
    }

    /// Writes the entry that decided.
    pub(crate) fn write_entry(&self, line: &mut Line<'_>) {
        match self.decision.by {
            By::Entry(list, entry) => self.write_entry_of(list, entry, line),
            By::Ban(ban) => line.push_network(ban.network),
            By::Nothing | By::Mode(_) | By::Relay | By::Authentication | By::Limit(_) => {}
        }
    }

    /// Writes an entry that has decided.
    #[inline(always)]
    pub(crate) fn write_entry_of(&self, list: &List, entry: ListEntry, line: &mut Line<'_>) {
        let name = if list.role == Decider::Domain { self.question.place.map(Place::as_bytes) } else { None };
        list.contents.write_entry(entry, Asked { address: self.question.facts.address.as_ref(), name }, line);
    }

    /// Writes the text of the reply. What is not known reads as a word, so that no reply has a gap.
    #[inline(always)]
    pub(crate) fn write_text(&self, reply: &Reply, line: &mut Line<'_>) {
        reply.fill_in(line, |placeholder, line| match (placeholder, &self.question.facts.address) {
            (Placeholder::Ip, Some(IpAddr::V4(v4))) => line.push_v4(v4.to_bits()),
            (Placeholder::Domain, _) if let Some(place) = self.question.place => line.push(&place),
            _ => self.write_value(placeholder, line),
        });
    }

    /// Writes what a placeholder stands for.
    #[inline(never)]
    fn write_value(&self, placeholder: Placeholder, line: &mut Line<'_>) {
        let (Question { facts, recipient, place, .. }, hostname) = (self.question, self.ruleset.hostname());
        let push = |line: &mut Line<'_>, value: &[u8], default: &str| match value {
            [] => line.push_harmless(default.as_bytes()),
            value => line.push_harmless(value),
        };
        match placeholder {
            Placeholder::Ip => match facts.address {
                Some(address) => line.push_address(address.to_canonical()),
                None => line.push(b"unknown"),
            },
            Placeholder::List => push(line, self.decision.list().as_bytes(), "local policy"),
            Placeholder::Reason => {
                if !line.part(MAX_VALUE, |line| self.write_reason(line)) {
                    line.push(b"no reason given");
                }
            }
            Placeholder::Domain => match place {
                Some(place) => line.push(place),
                None => push(line, recipient.place_in(&mut Folded::new()).map_or(b"", Place::as_bytes), hostname),
            },
            Placeholder::Helo => push(line, facts.helo.unwrap_or_default(), "unknown"),
            Placeholder::Sender => {
                let sender = facts.sender.map_or(&b"unknown"[..], <[u8]>::trim_ascii);
                let bare = sender.strip_prefix(b"<").and_then(|inner| inner.strip_suffix(b">"));
                push(line, bare.unwrap_or(sender), "<>");
            }
            Placeholder::Hostname => line.push_harmless(hostname.as_bytes()),
            Placeholder::Id => push(line, facts.id.unwrap_or_default().as_bytes(), "unknown"),
            Placeholder::Retry => line.push_retry(self.wait()),
        }
    }

    /// When to come back, if what decides is over by then.
    fn wait(&self) -> Option<Wait> {
        let Question { facts, .. } = self.question;
        match self.decision.by {
            By::Limit(PutOff { wait, .. }) => Some(wait),
            By::Mode(wait) => {
                let minute = facts.now.unwrap_or_else(|| seconds(SystemTime::now())) / 60;
                Some(self.ruleset.jitter.add(wait?, facts.address, minute))
            }
            By::Nothing | By::Entry(..) | By::Ban(_) | By::Relay | By::Authentication => None,
        }
    }
}

/// The answer as a value that outlives the rules.
pub(crate) fn verdict(answer: &Answer<'_>) -> Verdict {
    let Answer { ruleset, decision, .. } = answer;
    let rejection = |reply: &Reply| Rejection {
        code: reply.code,
        status: reply.status,
        hang_up: reply.hang_up,
        text: text(|line| answer.write_text(reply, line)),
        host: ruleset.hostname,
    };
    Verdict {
        rejection: decision.reply.map(rejection),
        decider: decision.decider(),
        list: ArrayString::from(decision.list()).unwrap_or_default(),
        entry: decision.entry().map_or(Entry::None, Entry::from),
        line: decision.line(),
        reason: text(|line| {
            answer.write_reason(line);
        }),
        shadow: ArrayString::from(decision.shadow).unwrap_or_default(),
        generation: ruleset.generation,
    }
}

/// What is written.
fn text<const N: usize>(write: impl FnOnce(&mut Line<'_>)) -> ArrayString<N> {
    let mut place = [0; N];
    let mut line = Line::new(&mut place);
    write(&mut line);
    line.text()
}

impl About<'_> {
    /// Writes the entry as lists have it; a host without the length of its prefix.
    #[inline]
    pub(crate) fn write(&self, line: &mut Line<'_>) {
        match self {
            About::Network(network) => line.push_network(*network),
            About::Domain(form, name) => {
                line.push(form.prefix().as_bytes());
                line.push(name);
            }
            About::Mailbox(name) => line.push(name),
        }
    }
}

impl fmt::Display for About<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::<MAX_SHOWN>(|line| self.write(line)))
    }
}

impl From<About<'_>> for Entry {
    fn from(about: About<'_>) -> Entry {
        match about {
            About::Network(network) => Entry::Network(network),
            About::Domain(form, name) => Entry::Domain(form, text(|line| line.push(name))),
            About::Mailbox(name) => Entry::Mailbox(text(|line| line.push(name))),
        }
    }
}
