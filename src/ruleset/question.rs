//! A question, taken apart for the rules: who asks about what, and what counts beside the rules just then.

use super::Ruleset;
use crate::bans::Bans;
use crate::domain::{Folded, Place};
use crate::facts::Facts;
use crate::limits::{self, Nanoseconds};
use crate::mailbox::Mailbox;
use crate::mode::Mode;
use crate::policy::Exempt;
use crate::seat::Seat;
use std::time::Instant;

/// What counts beside the rules, and changes while they stay.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Live<'a> {
    /// The mode, if it is not that of the policy.
    pub mode: Option<Mode>,
    /// The host has found itself overloaded. It counts while nobody has set a mode, and that of the policy is open.
    pub overloaded: bool,
    pub bans: Option<&'a Bans>,
    pub limits: Option<&'a limits::Limits>,
    /// When the clock began by which limits count: monotonic, the same for all questions.
    pub began: Option<Instant>,
}

impl Live<'_> {
    /// Whether there are limits. Does not read the clock.
    pub(crate) fn has_limits(&self) -> bool {
        self.limits.is_some_and(|limits| !limits.settings().is_empty())
    }

    /// The limits, if there are any, and the time.
    pub(super) fn limits(&self) -> Option<(&limits::Limits, Nanoseconds)> {
        let limits = self.limits.filter(|_| self.has_limits())?;
        Some((limits, u64::try_from(self.began?.elapsed().as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// A question about a connection or one recipient, taken apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    pub facts: &'a Facts<'a>,
    pub recipient: Mailbox<'a>,
    /// Domain or address literal of the recipient, as it stands in the facts or, if it had to be changed, in a place of the
    /// caller's. Not before rules about names ask for it.
    pub place: Option<Place<'a>>,
    /// Who asks, as far as lists pass somebody over for it.
    pub situation: Exempt,
    pub connect: bool,
    /// Where it is a hit of the lists that come to word, if it is one.
    pub counted: Option<Seat>,
}

/// What is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// A client that has just connected, by those lists alone that ask for it (`at = "connect"`): for a milter, which gives
    /// all other verdicts at RCPT, where their text reaches the client.
    Early,
    /// A client that has just connected.
    Connect,
    /// The same from a mail server that does not tell the end of a session, so that open sessions are not counted.
    Arrival,
    /// A sender: the client's address as at CONNECT, then the rules about senders and what is known of their
    /// authentication.
    Mail,
    /// A recipient, the client's address included.
    Rcpt,
}

impl Ruleset {
    /// Takes a question apart, but for where the recipient is.
    #[inline(always)]
    pub(crate) fn question<'a>(&self, ask: Ask, facts: &'a Facts<'a>) -> Question<'a> {
        let mut question = Question::of_connection(facts);
        match ask {
            Ask::Early => question.situation = question.situation.and(Exempt::EARLY),
            Ask::Connect | Ask::Arrival => {}
            Ask::Mail => question.connect = false,
            Ask::Rcpt => {
                let recipient = Mailbox::parse(facts.recipient.unwrap_or_default());
                let mut situation = situation(facts, &recipient);
                if !self.opt_outs.is_empty() {
                    situation = situation.and(self.opted_out(&recipient, facts));
                }
                (question.recipient, question.situation, question.connect) = (recipient, situation, false);
            }
        }
        question
    }

    /// Of which lists a recipient has opted out.
    fn opted_out(&self, recipient: &Mailbox<'_>, facts: &Facts<'_>) -> Exempt {
        let mut place = Folded::new();
        let covering = self.opt_outs.of_mailbox(recipient, recipient.place_in(&mut place));
        let lists = covering.into_iter().flat_map(|covering| covering.deciding(Exempt::default(), facts));
        lists.fold(Exempt::default(), |all, (list, _)| all.and(list.opt_out))
    }
}

impl<'a> Question<'a> {
    /// A question about the connection.
    pub(crate) fn of_connection(facts: &'a Facts<'a>) -> Question<'a> {
        let authenticated = if facts.authenticated { Exempt::AUTHENTICATED } else { Exempt::default() };
        let situation = authenticated.and(Exempt::CONNECTION);
        Question { facts, recipient: Mailbox::default(), place: None, situation, connect: true, counted: None }
    }
}

/// Who asks, as far as lists pass somebody over for it.
#[inline(always)]
fn situation(facts: &Facts<'_>, mailbox: &Mailbox<'_>) -> Exempt {
    let mut situation = Exempt::default();
    for (holds, bit) in
        [(facts.authenticated, Exempt::AUTHENTICATED), (mailbox.is_postmaster(), Exempt::POSTMASTER), (mailbox.is_abuse(), Exempt::ABUSE)]
    {
        if holds {
            situation = situation.and(bit);
        }
    }
    situation
}
