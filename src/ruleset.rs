//! The ruleset: a compiled policy, immutable, asked by any number of threads. The order of decision stands here.

use crate::bans::Bans;
use crate::compile::seconds;
use crate::contents::{About, Contents, Entry as ListEntry};
use crate::covering::{Covering, Decided, List};
use crate::decision::{Answer, By, Decision, verdict};
use crate::diagnostic::Fault;
use crate::domain::{Folded, Place};
use crate::facts::Facts;
use crate::limits::{self, Exceeded, Nanoseconds};
use crate::mailbox::Mailbox;
use crate::mode::Mode;
use crate::networks::{Chains, Cover, NetworkTable};
use crate::policy::{At, BanRule, Escalation, Exempt, Limits, Maintenance, NEVER_BLOCK, Overload, PRIVATE};
use crate::prefix::unmap;
use crate::reply::Reply;
use crate::retry::Jitter;
use crate::rules::authentication::{AUTHENTICATION, Authentication};
use crate::rules::names::Names;
use crate::rules::relay::Relay;
use crate::verdict::{Decider, Verdict};
use ipnet::IpNet;
use std::net::IpAddr;
use std::str;
use std::time::{Instant, SystemTime};

/// A compiled policy.
#[derive(Debug)]
pub struct Ruleset {
    pub(crate) generation: u64,
    pub(crate) hostname: Folded,
    pub(crate) mode: Mode,
    /// What everybody is told in each mode.
    pub(crate) mode_replies: [Option<Reply>; Mode::ALL.len()],
    /// When it is maintenance by itself, and whether that is ever.
    pub(crate) maintenance: Maintenance,
    pub(crate) timed: bool,
    /// How banned clients are refused.
    pub(crate) bans: BanRule,
    /// Never-block set, allow lists, block lists: the order in which they decide.
    pub(crate) lists: Vec<List>,
    pub(crate) networks: NetworkTable,
    pub(crate) address_chains: Chains,
    pub(crate) domains: Names,
    pub(crate) senders: Names,
    pub(crate) recipients: Names,
    /// Who has opted out of which lists.
    pub(crate) opt_outs: Names,
    pub(crate) relay: Relay,
    pub(crate) authentication: Authentication,
    /// How much is too much. What has been counted is no rule, and stands in [`crate::limits::Limits`].
    pub(crate) limits: Limits,
    pub(crate) escalation: Option<Escalation>,
    pub(crate) overload: Option<Overload>,
    pub(crate) jitter: Jitter,
}

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
    fn has_limits(&self) -> bool {
        self.limits.is_some_and(|limits| !limits.settings().is_empty())
    }

    /// The limits, if there are any, and the time.
    fn limits(&self) -> Option<(&limits::Limits, Nanoseconds)> {
        let limits = self.limits.filter(|_| self.has_limits())?;
        Some((limits, u64::try_from(self.began?.elapsed().as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// By the clock of limits.
const MINUTE: Nanoseconds = 60_000_000_000;

/// What a mail server has to tell us for a ruleset to work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stages {
    /// The client's address.
    pub connect: bool,
    /// The sender.
    pub mail: bool,
    /// Each recipient.
    pub rcpt: bool,
    /// An answer to CONNECT: a list has `at = "connect"`.
    pub early: bool,
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
    /// Whether it is a hit of the lists that come to word.
    pub counted: bool,
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

/// How a connection is counted: [`limits::Limits::connect`] or [`limits::Limits::arrive`].
pub(crate) type Count = fn(&limits::Limits, IpAddr, Nanoseconds) -> Option<Exceeded>;

impl Ruleset {
    /// Decides about a client that has just connected.
    pub fn connect(&self, facts: &Facts<'_>) -> Verdict {
        self.ask(Ask::Connect, facts, &Live::default(), true, verdict)
    }

    /// Decides about one recipient, the client's address included.
    pub fn rcpt(&self, facts: &Facts<'_>) -> Verdict {
        self.ask(Ask::Rcpt, facts, &Live::default(), true, verdict)
    }

    /// Decides, and hands over the answer to be written. Only if it is `counted` it is a hit of the lists that come to word.
    pub(crate) fn ask<T>(&self, ask: Ask, facts: &Facts<'_>, live: &Live<'_>, counted: bool, write: impl FnOnce(&Answer<'_>) -> T) -> T {
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
        let written = write(&Answer { ruleset: self, question: &question, decision });
        if let Some(hit) = decision.hit {
            hit.add();
        }
        written
    }

    /// The order of decision.
    // This and what it calls always inline: what is handed on in memory and read at once in other sizes makes the processor
    // wait, for longer than a look-up takes.
    #[inline(always)]
    fn decide<'a, 'q>(&'a self, ask: Ask, question: &mut Question<'q>, place: &'q mut Folded, live: &Live<'a>) -> Decision<'a> {
        if ask == Ask::Early {
            return self.by_address(question);
        }
        let mut by_client = self.by_client(question, live);
        if by_client.decider() == Decider::NeverBlock || !by_client.is_accept() {
            return by_client;
        }
        if matches!(ask, Ask::Connect | Ask::Arrival) && !live.has_limits() {
            return by_client;
        }
        // Somebody else may decide.
        if let Some(hit) = by_client.hit.take() {
            hit.add();
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
        self.exceeds(&Question { counted: true, ..question }, live, count)
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
        let (limits, now) = live.limits().filter(|_| question.counted && !self.limits.exempt.meets(question.situation))?;
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
        let (limits, now) = live.limits().filter(|_| question.counted && !self.limits.exempt.meets(question.situation))?;
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
        let without_ban = self.by_address(&Question { counted: false, ..*question });
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
            let is_about = |contents: &Contents, entry: &_| Names::is_of_place(contents.about(entry), Some(place));
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

    /// What a mail server has to tell for this ruleset to work.
    pub(crate) fn stages(&self, live: &Live<'_>) -> Stages {
        let banned = live.bans.is_some_and(|bans| !bans.is_empty());
        let by_client = self.relay.reply.is_some() || !self.recipients.is_empty();
        Stages {
            connect: by_client || banned || !self.networks.is_empty() || self.limits.settings.is_of_clients(),
            mail: !self.senders.is_empty() || self.limits.settings.sender_domain.is_some(),
            rcpt: true,
            early: self.lists.iter().any(|list| list.conduct.at == Some(At::Connect)),
        }
    }

    /// Number of the load that this ruleset came from.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The list with that name.
    pub fn list(&self, name: &str) -> Option<&List> {
        self.lists().chain(&self.opt_outs.lists).find(|list| list.name.as_str() == name)
    }

    /// All lists in the order in which they decide: never-block set, allow lists, block lists, and those about domains,
    /// recipients and senders.
    pub fn lists(&self) -> impl Iterator<Item = &List> {
        self.lists.iter().chain(self.name_lists())
    }

    /// The lists about domains, recipients and senders, in the order in which they decide.
    pub(crate) fn name_lists(&self) -> impl Iterator<Item = &List> {
        [&self.domains, &self.recipients, &self.senders].into_iter().flat_map(|names| &names.lists)
    }

    /// The network as bans have it, if it may be banned.
    pub(crate) fn may_ban(&self, network: IpNet) -> Result<IpNet, Fault> {
        let network = unmap(network.trunc());
        let widest = if network.addr().is_ipv4() { self.bans.widest_v4 } else { self.bans.widest_v6 };
        if network.prefix_len() < widest {
            let cause = format!("{network} is wider than /{widest}");
            return Err(Fault::new(cause, "ban smaller networks, or set widest_v4 or widest_v6 in [guards]"));
        }
        for list in self.lists.iter().filter(|list| [NEVER_BLOCK, PRIVATE].contains(&list.name.as_str())) {
            let has = |about| matches!(about, Some(About::Network(protected)) if protected.contains(&network));
            if list.contents.live().any(|(_, entry)| !entry.is_hole() && has(list.contents.about(entry))) {
                let cause = format!(
                    "{network} is {}, which nothing refuses",
                    if list.name.as_str() == PRIVATE { "a private network" } else { "in the never-block set" }
                );
                return Err(Fault::new(cause, "ban another network, or take it out of [never_block]"));
            }
        }
        Ok(network)
    }

    /// The mode that the policy asks for.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// How often `[authentication]` refused a recipient, or would have if it were enforced. Goes on over loads.
    pub fn authentication_hits(&self) -> u64 {
        self.authentication.hits.sum()
    }

    /// The reply to everybody; `None` in mode open.
    pub(crate) fn mode_reply(&self, live: &Live<'_>) -> Option<&Reply> {
        let mode = live.mode.unwrap_or(self.mode);
        // The replies stand in the order of the modes.
        self.mode_replies.get(mode as usize)?.as_ref()
    }

    /// Name of this host, for its greeting.
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// How many entries the address lists of the policy have.
    pub fn network_count(&self) -> usize {
        self.lists.iter().filter(|list| list.is_of_policy()).map(List::len).sum()
    }

    /// How many names the domain lists name.
    pub fn domain_count(&self) -> usize {
        self.domains.lists.iter().map(List::len).sum()
    }

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
        is_about: impl FnOnce(&Contents, &ListEntry) -> bool,
    ) -> Option<Decision<'a>> {
        let Decided { by, watched, hit } = covering?.decide(question.situation, question.facts, question.counted);
        if let Some(list) = watched
            && shadow.is_empty()
        {
            *shadow = &list.name;
        }
        let (list, entry) = by?;
        let decision = Decision { hit, ..Decision::by_entry(list, entry, question.connect) };
        (decision.is_accept() || !list.contents.is_mapped() || is_about(&list.contents, entry)).then_some(decision)
    }
}

impl<'a> Question<'a> {
    /// A question about the connection.
    pub(crate) fn of_connection(facts: &'a Facts<'a>) -> Question<'a> {
        let authenticated = if facts.authenticated { Exempt::AUTHENTICATED } else { Exempt::default() };
        let situation = authenticated.and(Exempt::CONNECTION);
        Question { facts, recipient: Mailbox::default(), place: None, situation, connect: true, counted: false }
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
