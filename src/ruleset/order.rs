//! The order of decision: what the rules come to for one question.

use super::{Ask, Live, Question, Ruleset};
use crate::compile::seconds;
use crate::contents::{Contents, Entry as ListEntry};
use crate::covering::{Covering, Decided};
use crate::decision::{Answer, By, Decision, verdict};
use crate::domain::{Folded, Place};
use crate::facts::Facts;
use crate::limits::{self, Exceeded, Nanoseconds};
use crate::mailbox::Mailbox;
use crate::networks::Cover;
use crate::policy::Exempt;
use crate::rules::authentication::AUTHENTICATION;
use crate::rules::names::Names;
use crate::seat::Seat;
use crate::verdict::{Decider, Verdict};
use std::net::IpAddr;
use std::str;
use std::time::SystemTime;

/// By the clock of limits.
const MINUTE: Nanoseconds = 60_000_000_000;

/// How a connection is counted: [`limits::Limits::connect`] or [`limits::Limits::arrive`].
type Count = fn(&limits::Limits, IpAddr, Nanoseconds) -> Option<Exceeded>;

impl Ruleset {
    /// Decides about a client that has just connected.
    pub fn connect(&self, facts: &Facts<'_>) -> Verdict {
        self.ask(Ask::Connect, facts, &Live::default(), Some(Seat::here()), verdict)
    }

    /// Decides about one recipient, the client's address included.
    pub fn rcpt(&self, facts: &Facts<'_>) -> Verdict {
        self.ask(Ask::Rcpt, facts, &Live::default(), Some(Seat::here()), verdict)
    }

    /// Decides, and hands over the answer to be written. Only if it is `counted`, and there, it is a hit of the lists that come to
    /// word.
    pub(crate) fn ask<T>(
        &self,
        ask: Ask,
        facts: &Facts<'_>,
        live: &Live<'_>,
        counted: Option<Seat>,
        write: impl FnOnce(&Answer<'_>) -> T,
    ) -> T {
        let by_itself = self.timed | live.overloaded;
        let mode = if by_itself { self.reply_by_itself(facts, live) } else { self.reply_by_hand(live) };
        // In a mode that answers everybody nothing is asked.
        let mut place = Folded::new();
        let mut question = self.question(if mode.is_some() { Ask::Connect } else { ask }, facts);
        question.counted = counted;
        let decision = match mode {
            None => self.decide(ask, &mut question, &mut place, live),
            Some(_) if ask == Ask::Early => Decision::default(),
            Some((reply, wait)) => Decision::refusal(By::Mode(wait), reply),
        };
        write(&Answer { ruleset: self, question: &question, decision })
    }

    /// The order of decision.
    // This and what it calls always inline: what is handed on in memory and read at once in other sizes makes the processor
    // wait, for longer than a look-up takes.
    #[inline(always)]
    fn decide<'a, 'q>(&'a self, ask: Ask, question: &mut Question<'q>, place: &'q mut Folded, live: &Live<'a>) -> Decision<'a> {
        if ask == Ask::Early {
            return self.by_address(question);
        }
        let by_client = self.by_client(question, live);
        if by_client.decider() == Decider::NeverBlock || !by_client.is_accept() {
            return by_client;
        }
        if matches!(ask, Ask::Connect | Ask::Arrival) && !live.has_limits() {
            return by_client;
        }
        self.let_in(question, by_client.decider());
        if ask == Ask::Rcpt {
            question.place = question.recipient.place_in(place);
        }
        let mut shadow = by_client.shadow;
        let refusal = match ask {
            Ask::Early => None,
            Ask::Connect => self.by_connection_limits(question, live, limits::Limits::connect),
            Ask::Arrival => self.by_connection_limits(question, live, limits::Limits::arrive),
            Ask::Mail => self.by_sender(question, &mut shadow),
            Ask::Rcpt => match self.by_recipient_limits(question, live) {
                None => self.by_names(question, &mut shadow),
                refusal => refusal,
            },
        };
        Decision { shadow, ..refusal.unwrap_or(by_client) }
    }

    /// Counts a connection without deciding about it by lists: for a milter, which decides at RCPT. The limit that it
    /// exceeds; it is counted if it exceeds none.
    pub(crate) fn begin_session(&self, facts: &Facts<'_>, live: &Live<'_>, count: Count) -> Option<Exceeded> {
        let question = if live.has_limits() { self.limited(facts) } else { None }?;
        self.exceeds(&Question { counted: Some(Seat::here()), ..question }, live, count)
    }

    /// Ends what [`Ask::Connect`] or [`Ruleset::begin_session`] has counted.
    pub(crate) fn end_session(&self, facts: &Facts<'_>, live: &Live<'_>) {
        if let (Some((limits, now)), Some(address)) = (live.limits(), facts.address)
            && self.limited(facts).is_some()
        {
            limits.end(address, now);
        }
    }

    /// The question of a connection, if limits apply to the client.
    fn limited<'a>(&self, facts: &'a Facts<'a>) -> Option<Question<'a>> {
        let mut question = Question::of_connection(facts);
        let decider = self.by_address(&question).decider();
        self.let_in(&mut question, decider);
        (decider != Decider::NeverBlock && !self.limits.exempt.meets(question.situation)).then_some(question)
    }

    /// The limits of connections and sessions.
    fn by_connection_limits<'a>(&'a self, question: &Question<'_>, live: &Live<'_>, count: Count) -> Option<Decision<'a>> {
        let exceeded = self.exceeds(question, live, count)?;
        self.by_limit(exceeded, question.facts, live)
    }

    /// The limit of connections or sessions that a client exceeds.
    fn exceeds(&self, question: &Question<'_>, live: &Live<'_>, count: Count) -> Option<Exceeded> {
        let (limits, now) = live.limits().filter(|_| question.counted.is_some() && !self.limits.exempt.meets(question.situation))?;
        count(limits, question.facts.address?, now)
    }

    /// The limits of recipients.
    #[inline(always)]
    fn by_recipient_limits<'a>(&'a self, question: &Question<'_>, live: &Live<'_>) -> Option<Decision<'a>> {
        let exceeded = if live.has_limits() { self.exceeds_as_recipient(question, live) } else { None }?;
        self.by_limit(exceeded, question.facts, live)
    }

    /// The limit of recipients that one exceeds.
    #[inline(never)]
    fn exceeds_as_recipient(&self, question: &Question<'_>, live: &Live<'_>) -> Option<Exceeded> {
        let (limits, now) = live.limits().filter(|_| question.counted.is_some() && !self.limits.exempt.meets(question.situation))?;
        let sender = question.facts.sender.filter(|_| limits.settings().sender_domain.is_some());
        let sender = sender.and_then(|sender| Mailbox::parse(sender).place());
        let place = question.place.and_then(|place| str::from_utf8(place.as_bytes()).ok());
        limits.recipient(question.facts.address, sender.as_deref(), place, now)
    }

    /// The refusal of a recipient by a limit that the connection exceeds, unless limits do not apply to who asks.
    pub(crate) fn by_held_limit<T>(
        &self,
        facts: &Facts<'_>,
        exceeded: Exceeded,
        live: &Live<'_>,
        write: impl FnOnce(&Answer<'_>) -> T,
    ) -> Option<T> {
        let question = self.question(Ask::Rcpt, facts);
        let decision = if self.limits.exempt.meets(question.situation) { None } else { self.by_limit(exceeded, facts, live) }?;
        Some(write(&Answer { ruleset: self, question: &question, decision }))
    }

    /// The refusal by a limit: a stronger one for who comes back too early.
    #[cold]
    fn by_limit<'a>(&'a self, exceeded: Exceeded, facts: &Facts<'_>, live: &Live<'_>) -> Option<Decision<'a>> {
        let (reply, (limits, now)) = (self.limits.reply.as_ref()?, live.limits()?);
        let put_off = limits.put_off(facts.address, exceeded, now, |wait| self.jitter.add(wait, facts.address, now / MINUTE));
        let stronger = self.limits.reply_again.as_ref().filter(|_| put_off.hangs_up());
        Some(Decision::refusal(By::Limit(put_off), stronger.unwrap_or(reply)))
    }

    /// What bans and lists come to: never-block set and allow lists, then bans, then block lists.
    #[inline(always)]
    fn by_client<'a>(&'a self, question: &Question<'_>, live: &Live<'a>) -> Decision<'a> {
        let by_ban = live.bans.filter(|bans| !bans.is_empty()).and_then(|_| self.by_ban_or_list(question, live));
        by_ban.unwrap_or_else(|| self.by_address(question))
    }

    /// What it comes to if the client is banned: the lists are asked whether one of them lets him in all the same.
    #[cold]
    fn by_ban_or_list<'a>(&'a self, question: &Question<'_>, live: &Live<'a>) -> Option<Decision<'a>> {
        let by_ban = self.by_ban(question, live)?;
        let without_ban = self.by_address(&Question { counted: None, ..*question });
        (!matches!(without_ban.decider(), Decider::NeverBlock | Decider::Allow)).then_some(by_ban)
    }

    /// What a ban of the client comes to.
    pub(crate) fn by_ban<'a>(&'a self, question: &Question<'_>, live: &Live<'a>) -> Option<Decision<'a>> {
        let bans = live.bans.filter(|bans| !bans.is_empty())?;
        let now = || question.facts.now.unwrap_or_else(|| seconds(SystemTime::now()));
        let ban = bans.covering(question.facts.address?.to_canonical(), now)?;
        if self.bans.exempt.meets(question.situation) { None } else { Some(Decision::refusal(By::Ban(ban), self.bans.reply.as_ref()?)) }
    }

    /// What it means for the rules about names how the address was let in.
    #[inline(always)]
    pub(crate) fn let_in(&self, question: &mut Question<'_>, decider: Decider) {
        if decider == Decider::Allow {
            question.situation = question.situation.and(Exempt::ALLOWED);
        }
        if question.facts.trusted || self.relay.trusts(question.facts.address.as_ref()) {
            question.situation = question.situation.and(Exempt::TRUSTED);
        }
    }

    /// The rules about recipient and sender, in the order in which they decide.
    #[inline(always)]
    fn by_names<'a>(&'a self, question: &Question<'_>, shadow: &mut &'a str) -> Option<Decision<'a>> {
        let Question { facts, recipient, place, situation, .. } = question;
        let place = *place;
        if facts.recipient.is_some()
            && let Some(reply) = self.relay.refuses(recipient, place, *situation, facts)
        {
            return Some(Decision::refusal(By::Relay, reply));
        }
        if let Some(place) = place
            && let Some(covering) = self.domains.of_place(place)
        {
            let is_about = |contents: &Contents, entry| Names::is_of_place(contents.about(entry), Some(place));
            let refusal = self.by_lists(Some(covering), question, shadow, is_about);
            if refusal.is_some() {
                return refusal;
            }
        }
        if !self.recipients.is_empty() {
            let refusal = self.by_mailbox(&self.recipients, recipient, place, question, shadow);
            if refusal.is_some() {
                return refusal;
            }
        }
        self.by_sender(question, shadow)
    }

    /// The rules about the sender, and about what is known of its authentication.
    #[inline(always)]
    fn by_sender<'a>(&'a self, question: &Question<'_>, shadow: &mut &'a str) -> Option<Decision<'a>> {
        if !self.senders.is_empty() {
            let refusal = self.by_sender_lists(question, shadow);
            if refusal.is_some() {
                return refusal;
            }
        }
        if self.authentication.policy.rules.is_empty() { None } else { self.by_authentication(question, shadow) }
    }

    fn by_sender_lists<'a>(&'a self, question: &Question<'_>, shadow: &mut &'a str) -> Option<Decision<'a>> {
        // The empty sender has neither a local part nor a domain, so that no entry is about it.
        let sender = Mailbox::parse(question.facts.sender.unwrap_or_default());
        self.by_mailbox(&self.senders, &sender, sender.place_in(&mut Folded::new()), question, shadow)
    }

    /// The rule about what authentication came to. If it is only watched, its name is that of the list that would refuse.
    #[inline(never)]
    pub(crate) fn by_authentication<'a>(&'a self, question: &Question<'_>, shadow: &mut &'a str) -> Option<Decision<'a>> {
        let reply = self.authentication.decide(question.facts, question.situation, question.counted)?;
        if !self.authentication.policy.shadow {
            return Some(Decision::refusal(By::Authentication, reply));
        }
        if shadow.is_empty() {
            *shadow = AUTHENTICATION;
        }
        None
    }

    #[inline(always)]
    pub(crate) fn by_address<'a>(&'a self, question: &Question<'_>) -> Decision<'a> {
        let Some(address) = &question.facts.address else { return Decision::default() };
        let cover = self.networks.get(address);
        if cover.is_none() {
            return Decision::default();
        }
        let covering = Covering { lists: &self.lists, chains: &self.address_chains, covers: [cover, Cover::NONE, Cover::NONE] };
        let mut shadow = "";
        let decision = self.by_lists(Some(covering), question, &mut shadow, |contents, entry| contents.holds(entry, address));
        Decision { shadow, ..decision.unwrap_or_default() }
    }

    /// What lists that have mailboxes come to.
    fn by_mailbox<'a>(
        &self,
        names: &'a Names,
        mailbox: &Mailbox<'_>,
        place: Option<Place<'_>>,
        question: &Question<'_>,
        shadow: &mut &'a str,
    ) -> Option<Decision<'a>> {
        let covering = names.of_mailbox(mailbox, place);
        self.by_lists(covering, question, shadow, |contents, entry| Names::is_of_mailbox(contents.about(entry), mailbox, place))
    }

    /// What the lists come to that cover something. Names the first one that is only watched. A table that is damaged
    /// refuses nobody: an entry refuses what it `is_about`.
    #[inline(always)]
    fn by_lists<'a>(
        &self,
        covering: Option<Covering<'a>>,
        question: &Question<'_>,
        shadow: &mut &'a str,
        is_about: impl FnOnce(&Contents, ListEntry) -> bool,
    ) -> Option<Decision<'a>> {
        let Decided { by, watched } = covering?.decide(question.situation, question.facts, question.counted);
        if let Some(list) = watched
            && shadow.is_empty()
        {
            *shadow = &list.name;
        }
        let (list, entry) = by?;
        let decision = Decision::by_entry(list, entry, question.connect);
        (decision.is_accept() || !list.contents.is_mapped() || is_about(&list.contents, entry)).then_some(decision)
    }
}
