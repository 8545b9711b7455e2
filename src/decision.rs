//! What a question came to, and the answer that is made of it.
//!
//! The rules decide into a [`Decision`]: what decided, as references into the rules, which the caller holds meanwhile. Only
//! then the answer is written, once, into its place: a [`Verdict`], or the structure of a caller from C. Replies are filled
//! in here and nowhere else.

use crate::address::{push_address, show_network};
use crate::bans::Ban;
use crate::contents::{About, Entry as ListEntry, Reason};
use crate::covering::List;
use crate::policy::BANS;
use crate::reply::{Filled, Placeholder, Reply, push_cut, push_harmless, text};
use crate::rules::authentication::failures;
use crate::ruleset::{Question, Ruleset};
use crate::verdict::{Decider, Entry, Rejection, Verdict};
use arrayvec::ArrayString;
use std::fmt::{self, Write};
use std::str;

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
    Mode,
    Entry(&'a List, &'a ListEntry),
    Ban(&'a Ban),
    Relay,
    Authentication,
    /// A limit, by its key in the policy.
    Limit(&'a str),
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
        Decision { by, reply: Some(reply), shadow: "" }
    }

    /// What an entry of a list comes to.
    pub(crate) fn by_entry(list: &'a List, entry: &'a ListEntry, connect: bool) -> Decision<'a> {
        Decision { by: By::Entry(list, entry), reply: list.reply(entry, connect), shadow: "" }
    }

    pub(crate) fn is_accept(&self) -> bool {
        self.reply.is_none()
    }

    pub(crate) fn decider(&self) -> Decider {
        match self.by {
            By::Nothing => Decider::Nothing,
            By::Mode => Decider::Mode,
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
            By::Nothing | By::Mode | By::Relay | By::Authentication | By::Limit(_) => "",
        }
    }

    /// Line of the entry that decided; 0 if none did.
    pub(crate) fn line(&self) -> u32 {
        if let By::Entry(_, entry) = self.by { entry.line } else { 0 }
    }

    /// The entry that decided.
    pub(crate) fn entry(&self) -> Option<About<'a>> {
        match self.by {
            By::Entry(list, entry) => list.contents.about(entry),
            By::Ban(ban) => Some(About::Network(ban.network)),
            By::Nothing | By::Mode | By::Relay | By::Authentication | By::Limit(_) => None,
        }
    }
}

impl Answer<'_> {
    /// What a list says about the entry that decided, or which checks failed. What has to be put together is so in a place
    /// of the caller's.
    pub(crate) fn reason<'s>(&'s self, place: &'s mut Reason) -> &'s str {
        match self.decision.by {
            By::Entry(list, entry) => list.contents.reason_in(entry, place),
            By::Ban(ban) => &ban.reason,
            By::Authentication => {
                *place = failures(self.ruleset.authentication.policy.failed(self.question.facts));
                place
            }
            By::Limit(which) => which,
            By::Nothing | By::Mode | By::Relay => "",
        }
    }

    /// The text of the reply, filled in. What is not known reads as a word, so that no reply has a gap.
    pub(crate) fn text(&self, reply: &Reply) -> Filled {
        let (Question { facts, place, .. }, hostname) = (self.question, self.ruleset.hostname());
        let push = |filled: &mut Filled, value: &[u8], default: &str| match value {
            [] => push_harmless(filled, default.as_bytes()),
            value => push_harmless(filled, value),
        };
        reply.fill_with(|placeholder, filled| match placeholder {
            Placeholder::Ip => match facts.address {
                Some(address) => push_address(filled, address.to_canonical()),
                None => push_cut(filled, b"unknown"),
            },
            Placeholder::List => push(filled, self.decision.list().as_bytes(), "local policy"),
            Placeholder::Reason => push(filled, self.reason(&mut Reason::new()).as_bytes(), "no reason given"),
            Placeholder::Domain => push(filled, place.unwrap_or_default().as_bytes(), hostname),
            Placeholder::Helo => push(filled, facts.helo.unwrap_or_default(), "unknown"),
            Placeholder::Sender => {
                let sender = facts.sender.map_or(&b"unknown"[..], <[u8]>::trim_ascii);
                let bare = sender.strip_prefix(b"<").and_then(|inner| inner.strip_suffix(b">"));
                push(filled, bare.unwrap_or(sender), "<>");
            }
            Placeholder::Hostname => push(filled, hostname.as_bytes(), ""),
        })
    }
}

/// The answer as a value that outlives the rules.
pub(crate) fn verdict(answer: &Answer<'_>) -> Verdict {
    let Answer { ruleset, decision, .. } = answer;
    let rejection = |reply: &Reply| Rejection {
        code: reply.code,
        status: reply.status,
        hang_up: reply.hang_up,
        text: text(&answer.text(reply)),
        host: ruleset.hostname,
    };
    Verdict {
        rejection: decision.reply.map(rejection),
        decider: decision.decider(),
        list: ArrayString::from(decision.list()).unwrap_or_default(),
        entry: decision.entry().map_or(Entry::None, Entry::from),
        line: decision.line(),
        reason: Reason::from(answer.reason(&mut Reason::new())).unwrap_or_default(),
        shadow: ArrayString::from(decision.shadow).unwrap_or_default(),
        generation: ruleset.generation,
    }
}

impl About<'_> {
    /// The entry as lists have it, piece by piece; a host without the length of its prefix.
    pub(crate) fn pieces(&self, mut push: impl FnMut(&[u8])) {
        match self {
            About::Network(network) => push(&show_network(*network)),
            About::Domain(form, name) => {
                push(form.prefix().as_bytes());
                push(name.as_bytes());
            }
            About::Mailbox(name) => push(name.as_bytes()),
        }
    }

    /// Writes the entry as lists have it.
    pub(crate) fn write(&self, to: &mut impl Write) -> fmt::Result {
        let mut written = Ok(());
        self.pieces(|piece| written = written.and_then(|()| to.write_str(str::from_utf8(piece).unwrap_or_default())));
        written
    }
}

impl From<About<'_>> for Entry {
    fn from(about: About<'_>) -> Entry {
        match about {
            About::Network(network) => Entry::Network(network),
            About::Domain(form, name) => Entry::Domain(form, ArrayString::from(name).unwrap_or_default()),
            About::Mailbox(name) => Entry::Mailbox(ArrayString::from(name).unwrap_or_default()),
        }
    }
}
