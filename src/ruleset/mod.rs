//! The ruleset: a compiled policy, immutable, asked by any number of threads.

mod order;
mod question;

pub(crate) use question::{Ask, Live, Question};

use crate::contents::About;
use crate::covering::List;
use crate::diagnostic::Fault;
use crate::domain::Folded;
use crate::gate::PreparedLists;
use crate::mode::Mode;
use crate::networks::{Chains, NetworkTable};
use crate::policy::{At, BanRule, Escalation, Limits, Maintenance, NEVER_BLOCK, Overload, PRIVATE};
use crate::prefix::unmap;
use crate::reply::Reply;
use crate::retry::Jitter;
use crate::rules::authentication::Authentication;
use crate::rules::names::Names;
use crate::rules::relay::Relay;
use ipnet::IpNet;

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
    pub(crate) prepared: PreparedLists,
    /// The same of the lists of domains.
    pub(crate) prepared_places: PreparedLists,
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

impl Ruleset {
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
            if list.contents.live().any(|entry| !entry.is_hole() && has(list.contents.about(entry))) {
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
}
