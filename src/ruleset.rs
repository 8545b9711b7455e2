//! The ruleset: a compiled policy, immutable, asked by any number of threads. The order of decision stands here.

use crate::bans::Bans;
use crate::compile::seconds;
use crate::contents::{About, Entry as ListEntry};
use crate::covering::{Covering, List};
use crate::diagnostic::Fault;
use crate::domain::Folded;
use crate::facts::Facts;
use crate::limits::{self, Nanoseconds};
use crate::mailbox::Mailbox;
use crate::mode::Mode;
use crate::networks::{Chains, Cover, NetworkTable};
use crate::policy::{At, BANS, BanRule, Exempt, Limits, ListName, NEVER_BLOCK, PRIVATE};
use crate::prefix::unmap;
use crate::reply::{Reply, Values, clean};
use crate::rules::authentication::Authentication;
use crate::rules::names::Names;
use crate::rules::relay::Relay;
use crate::verdict::{Decider, Entry, Rejection, Verdict};
use arrayvec::ArrayString;
use ipnet::IpNet;
use std::fmt::Write;
use std::net::IpAddr;
use std::time::{Instant, SystemTime};

/// A compiled policy.
#[derive(Debug)]
pub struct Ruleset {
    pub(crate) generation: u64,
    pub(crate) hostname: Folded,
    pub(crate) mode: Mode,
    /// What everybody is told in each mode.
    pub(crate) mode_replies: [Option<Reply>; Mode::ALL.len()],
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
}

/// What counts beside the rules, and changes while they stay.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Live<'a> {
    /// The mode, if it is not that of the policy.
    pub mode: Option<Mode>,
    pub bans: Option<&'a Bans>,
    pub limits: Option<&'a limits::Limits>,
    /// When the clock began by which limits count: monotonic, the same for all questions.
    pub began: Option<Instant>,
}

impl Live<'_> {
    /// The limits, if there are any, and the time.
    fn limits(&self) -> Option<(&limits::Limits, Nanoseconds)> {
        let limits = self.limits.filter(|limits| !limits.settings().is_empty())?;
        Some((limits, u64::try_from(self.began?.elapsed().as_nanos()).unwrap_or(u64::MAX)))
    }
}

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
pub(crate) struct Question<'a> {
    pub facts: &'a Facts<'a>,
    pub recipient: Mailbox<'a>,
    /// Domain or address literal of the recipient.
    pub place: Option<Folded>,
    /// Who asks, as far as lists pass somebody over for it.
    pub situation: Exempt,
    pub connect: bool,
    /// Whether it is a hit of the lists that come to word.
    pub counted: bool,
}

impl Ruleset {
    /// Decides about a client that has just connected.
    pub fn connect(&self, facts: &Facts<'_>) -> Verdict {
        self.at_connect(facts, &Live::default(), true)
    }

    /// Decides about one recipient, the client's address included.
    pub fn rcpt(&self, facts: &Facts<'_>) -> Verdict {
        self.at_rcpt(facts, &Live::default(), true)
    }

    /// Decides about a client that has just connected by those lists alone that ask for it (`at = "connect"`): for a
    /// milter, which gives all other verdicts at RCPT, where their text reaches the client.
    pub(crate) fn at_early(&self, facts: &Facts<'_>, live: &Live<'_>, counted: bool) -> Verdict {
        if self.mode_reply(live).is_some() {
            return self.accept();
        }
        let mut question = Question { counted, ..Question::of_connection(facts) };
        question.situation = question.situation.and(Exempt::EARLY);
        self.by_address(&question)
    }

    /// As [`Ruleset::connect`]; only if it is `counted` it is a hit of the lists that come to word.
    pub(crate) fn at_connect(&self, facts: &Facts<'_>, live: &Live<'_>, counted: bool) -> Verdict {
        if let Some(reply) = self.mode_reply(live) {
            return self.by_mode(reply, facts);
        }
        let question = Question { counted, ..Question::of_connection(facts) };
        self.by_client_and(question, live, |question, _| self.by_connection_limits(question, live))
    }

    /// Counts a connection without deciding about it by lists: for a milter, which decides at RCPT. The limit that it
    /// exceeds, by its key in the policy; it is counted if it exceeds none.
    pub(crate) fn begin_session(&self, facts: &Facts<'_>, live: &Live<'_>) -> Option<&'static str> {
        live.limits()?;
        let question = self.limited(facts)?;
        self.exceeds(&Question { counted: true, ..question }, live)
    }

    /// Ends what [`Ruleset::at_connect`] or [`Ruleset::begin_session`] has counted.
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
        let by_address = self.by_address(&question);
        self.let_in(&mut question, by_address.decider);
        (by_address.decider != Decider::NeverBlock && !self.limits.exempt.meets(question.situation)).then_some(question)
    }

    /// The limits of connections and sessions.
    fn by_connection_limits(&self, question: &Question<'_>, live: &Live<'_>) -> Option<Verdict> {
        let which = self.exceeds(question, live)?;
        self.by_limit(question, which)
    }

    /// The limit of connections or sessions that a client exceeds, by its key in the policy.
    fn exceeds(&self, question: &Question<'_>, live: &Live<'_>) -> Option<&'static str> {
        let (limits, now) = live.limits().filter(|_| question.counted && !self.limits.exempt.meets(question.situation))?;
        limits.connect(question.facts.address?, now).map(|exceeded| exceeded.which)
    }

    /// The limits of recipients.
    fn by_recipient_limits(&self, question: &Question<'_>, live: &Live<'_>) -> Option<Verdict> {
        let (limits, now) = live.limits().filter(|_| question.counted && !self.limits.exempt.meets(question.situation))?;
        let sender = question.facts.sender.filter(|_| limits.settings().sender_domain.is_some());
        let sender = sender.and_then(|sender| Mailbox::parse(sender).place());
        let exceeded = limits.recipient(question.facts.address, sender.as_deref(), question.place.as_deref(), now)?;
        self.by_limit(question, exceeded.which)
    }

    /// The refusal of a recipient by a limit that the connection exceeds, unless limits do not apply to who asks.
    pub(crate) fn by_held_limit(&self, facts: &Facts<'_>, which: &str) -> Option<Verdict> {
        let question = self.question(facts);
        if self.limits.exempt.meets(question.situation) { None } else { self.by_limit(&question, which) }
    }

    /// The refusal by a limit, named by its key in the policy.
    pub(crate) fn by_limit(&self, question: &Question<'_>, which: &str) -> Option<Verdict> {
        Some(self.by_rule(Decider::Limit, self.limits.reply.as_ref()?, question, which))
    }

    /// Decides about a sender: the client's address as at CONNECT, then the rules about senders and what is known of
    /// their authentication. Only if it is `counted` it is a hit of the lists that come to word.
    pub(crate) fn at_mail(&self, facts: &Facts<'_>, live: &Live<'_>, counted: bool) -> Verdict {
        if let Some(reply) = self.mode_reply(live) {
            return self.by_mode(reply, facts);
        }
        let question = Question { counted, connect: false, ..Question::of_connection(facts) };
        self.by_client_and(question, live, |question, shadow| self.by_sender(question, shadow))
    }

    /// As [`Ruleset::rcpt`]; only if it is `counted` it is a hit of the lists that come to word.
    pub(crate) fn at_rcpt(&self, facts: &Facts<'_>, live: &Live<'_>, counted: bool) -> Verdict {
        if let Some(reply) = self.mode_reply(live) {
            return self.by_mode(reply, facts);
        }
        let question = Question { counted, ..self.question(facts) };
        self.by_client_and(question, live, |question, shadow| {
            self.by_recipient_limits(question, live).or_else(|| self.by_names(question, shadow))
        })
    }

    /// What the client's address comes to, and if that lets it in, what further rules do: never for the never-block set.
    fn by_client_and<'a>(
        &self,
        mut question: Question<'a>,
        live: &Live<'_>,
        further: impl FnOnce(&Question<'a>, &mut ListName) -> Option<Verdict>,
    ) -> Verdict {
        let mut by_client = self.by_client(&question, live);
        if by_client.decider == Decider::NeverBlock || !by_client.is_accept() {
            return by_client;
        }
        self.let_in(&mut question, by_client.decider);
        match further(&question, &mut by_client.shadow) {
            Some(mut refusal) => {
                refusal.shadow = by_client.shadow;
                refusal
            }
            None => by_client,
        }
    }

    /// What bans and lists come to: never-block set and allow lists, then bans, then block lists.
    fn by_client(&self, question: &Question<'_>, live: &Live<'_>) -> Verdict {
        let Some(by_ban) = self.by_ban(question, live) else { return self.by_address(question) };
        // Seldom: somebody is banned. The lists are asked whether one of them lets him in all the same.
        let without_ban = self.by_address(&Question { counted: false, ..*question });
        if matches!(without_ban.decider, Decider::NeverBlock | Decider::Allow) { self.by_address(question) } else { by_ban }
    }

    /// What a ban of the client comes to.
    pub(crate) fn by_ban(&self, question: &Question<'_>, live: &Live<'_>) -> Option<Verdict> {
        let address = question.facts.address?.to_canonical();
        let now = || question.facts.now.unwrap_or_else(|| seconds(SystemTime::now()));
        let ban = live.bans?.covering(address, now).filter(|_| !self.bans.exempt.meets(question.situation))?;
        let reason = ban.reason();
        let values = question.values(BANS, &reason);
        let mut verdict = self.accept();
        verdict.rejection = Some(self.rejection(self.bans.reply.as_ref()?, question.facts, &values));
        verdict.decider = Decider::Ban;
        verdict.list = ListName::from(BANS).unwrap_or_default();
        verdict.entry = Entry::Network(ban.network);
        verdict.reason = reason;
        Some(verdict)
    }

    /// What it means for the rules about names how the address was let in.
    pub(crate) fn let_in(&self, question: &mut Question<'_>, decider: Decider) {
        if decider == Decider::Allow {
            question.situation = question.situation.and(Exempt::ALLOWED);
        }
        if question.facts.trusted || self.relay.trusts(question.facts.address) {
            question.situation = question.situation.and(Exempt::TRUSTED);
        }
    }

    /// The rules about recipient and sender, in the order in which they decide.
    fn by_names(&self, question: &Question<'_>, shadow: &mut ListName) -> Option<Verdict> {
        let Question { facts, recipient, place, situation, .. } = question;
        if facts.recipient.is_some()
            && let Some(reply) = self.relay.refuses(recipient, place.as_ref(), *situation, facts)
        {
            return Some(self.by_rule(Decider::Relay, reply, question, ""));
        }
        let covering = place.as_ref().and_then(|place| self.domains.of_place(place));
        if let Some(refusal) = self.by_lists(covering, question, shadow) {
            return Some(refusal);
        }
        let covering = self.recipients.of_mailbox(recipient, place.as_ref());
        if let Some(refusal) = self.by_lists(covering, question, shadow) {
            return Some(refusal);
        }
        self.by_sender(question, shadow)
    }

    /// The rules about the sender, and about what is known of its authentication.
    fn by_sender(&self, question: &Question<'_>, shadow: &mut ListName) -> Option<Verdict> {
        let Question { facts, situation, .. } = question;
        if !self.senders.is_empty() {
            // The empty sender has neither a local part nor a domain, so that no entry is about it.
            let sender = Mailbox::parse(facts.sender.unwrap_or_default());
            let covering = self.senders.of_mailbox(&sender, sender.place().as_ref());
            if let Some(refusal) = self.by_lists(covering, question, shadow) {
                return Some(refusal);
            }
        }
        let (reply, failures) = self.authentication.decide(facts, *situation, question.counted, shadow)?;
        Some(self.by_rule(Decider::Authentication, reply, question, &failures))
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
            if list.contents.live().any(|(_, entry)| !entry.hole && has(list.contents.about(entry))) {
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

    pub(crate) fn accept(&self) -> Verdict {
        Verdict::accept(self.generation)
    }

    fn by_mode(&self, reply: &Reply, facts: &Facts<'_>) -> Verdict {
        let rejection = self.rejection(reply, facts, &Values::default());
        Verdict { rejection: Some(rejection), decider: Decider::Mode, ..self.accept() }
    }

    pub(crate) fn question<'a>(&self, facts: &'a Facts<'a>) -> Question<'a> {
        let recipient = Mailbox::parse(facts.recipient.unwrap_or_default());
        let place = recipient.place();
        let mut situation = situation(facts, &recipient);
        if let Some(covering) = self.opt_outs.of_mailbox(&recipient, place.as_ref()) {
            for (list, _) in covering.deciding(Exempt::default(), facts) {
                situation = situation.and(list.opt_out);
            }
        }
        Question { facts, recipient, place, situation, connect: false, counted: false }
    }

    fn by_address(&self, question: &Question<'_>) -> Verdict {
        let Some(address) = question.facts.address.map(|address| address.to_canonical()) else { return self.accept() };
        let covers = [self.networks.get(address), Cover::NONE, Cover::NONE];
        let covering = Covering { lists: &self.lists, chains: &self.address_chains, covers };
        let mut shadow = ListName::new();
        let mut verdict = self.by_lists(Some(covering), question, &mut shadow).unwrap_or_else(|| self.accept());
        verdict.shadow = shadow;
        verdict
    }

    /// What the lists come to that cover something. Names the first one that is only watched.
    fn by_lists(&self, covering: Option<Covering<'_>>, question: &Question<'_>, shadow: &mut ListName) -> Option<Verdict> {
        let (decided, watched) = covering?.decide(question.situation, question.facts, question.counted);
        if let Some(list) = watched
            && shadow.is_empty()
        {
            *shadow = list.name;
        }
        decided.map(|(list, entry)| self.by_entry(list, entry, question))
    }

    /// What an entry that decides comes to.
    pub(crate) fn by_entry(&self, list: &List, entry: &ListEntry, question: &Question<'_>) -> Verdict {
        let reason = list.contents.reason(entry);
        let reply = list.reply(entry, question.connect);
        Verdict {
            rejection: reply.map(|reply| self.rejection(reply, question.facts, &question.values(&list.name, &reason))),
            decider: list.role,
            list: list.name,
            entry: list.shown(entry),
            line: entry.line,
            reason,
            ..self.accept()
        }
    }

    /// A refusal by a rule that has no list.
    pub(crate) fn by_rule(&self, decider: Decider, reply: &Reply, question: &Question<'_>, reason: &str) -> Verdict {
        let rejection = Some(self.rejection(reply, question.facts, &question.values("", reason)));
        Verdict { rejection, decider, reason: ArrayString::from(reason).unwrap_or_default(), ..self.accept() }
    }

    /// Fills in a reply. What is not known reads as a word, so that no reply has a gap.
    fn rejection(&self, reply: &Reply, facts: &Facts<'_>, values: &Values<'_>) -> Rejection {
        let ip = facts.address.map_or_else(|| ArrayString::from("unknown").unwrap_or_default(), show_address);
        let sender = facts.sender.map(|sender| sender.trim_ascii()).unwrap_or(b"unknown");
        let sender = clean(sender.strip_prefix(b"<").and_then(|inner| inner.strip_suffix(b">")).unwrap_or(sender));
        let helo = clean(facts.helo.unwrap_or_default());
        let values = Values {
            ip: &ip,
            helo: or(&helo, "unknown"),
            sender: or(&sender, "<>"),
            list: or(values.list, "local policy"),
            reason: or(values.reason, "no reason given"),
            domain: or(values.domain, &self.hostname),
            hostname: &self.hostname,
        };
        Rejection { code: reply.code, status: reply.status, hang_up: reply.hang_up, text: reply.fill(&values), host: self.hostname }
    }
}

impl<'a> Question<'a> {
    /// A question about the connection.
    pub(crate) fn of_connection(facts: &'a Facts<'a>) -> Question<'a> {
        let authenticated = if facts.authenticated { Exempt::AUTHENTICATED } else { Exempt::default() };
        let situation = authenticated.and(Exempt::CONNECTION);
        Question { facts, recipient: Mailbox::default(), place: None, situation, connect: true, counted: false }
    }

    fn values<'v>(&'v self, list: &'v str, reason: &'v str) -> Values<'v> {
        Values { list, reason, domain: self.place.as_deref().unwrap_or(""), ..Values::default() }
    }
}

/// Who asks, as far as lists pass somebody over for it.
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

/// A value, or what stands for it where there is none.
fn or<'a>(value: &'a str, default: &'a str) -> &'a str {
    if value.is_empty() { default } else { value }
}

/// An address as text without allocating; 45 bytes hold the longest one.
fn show_address(address: IpAddr) -> ArrayString<45> {
    let mut text = ArrayString::new();
    // Cannot fail: the text of every address fits.
    let _ = write!(text, "{}", address.to_canonical());
    text
}
