//! Bans by `[escalation]`: who is refused more often than the policy says is banned for a while, and a subnet of which several
//! clients are. Refusals are counted where they happen; bans are made beside the sessions, journaled as those of `mxgate ban`.
//!
//! What a ban, a mode or a temporary condition refuses does not count, or else one refusal would lead to the next; nor does
//! what is refused to authenticated clients, and to those that the never-block set, an allow list or `[relay] trusted` has.

use crate::ban::time;
use crate::rules::Rules;
use crate::state::Record;
use ipnet::IpNet;
use mxgate::diagnostic::Fault;
use mxgate::limits::{Limits, Settings};
use mxgate::milter::Refusal;
use mxgate::{Ban, Decider, Escalation, Ruleset};
use parking_lot::Mutex;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::spawn_blocking;

/// How many clients wait at most to be banned. Those for which there is no room have another chance at their next refusal.
const WAITING: usize = 64;
/// Most bans a minute: each is written to disk before the next.
const MOST_A_MINUTE: usize = 60;
/// How the reason of a client's ban begins; by it those are told that count for their subnet.
const REASON: &str = "refused more often than";

/// Who has been refused, and how often.
#[derive(Debug)]
pub(crate) struct Offenders {
    rules: Arc<Rules>,
    began: Instant,
    counted: Mutex<Counted>,
    to_ban: Sender<IpAddr>,
}

/// What was counted by the settings of one load.
#[derive(Debug, Default)]
struct Counted {
    generation: u64,
    /// Refusals are what is limited; `None` if there is no memory for it.
    refusals: Option<Limits>,
}

impl Offenders {
    /// Nobody yet, and the clients that are to be banned.
    pub(crate) fn new(rules: Arc<Rules>) -> (Offenders, Receiver<IpAddr>) {
        let (to_ban, waiting) = channel(WAITING);
        (Offenders { rules, began: Instant::now(), counted: Mutex::default(), to_ban }, waiting)
    }

    /// Counts a refusal.
    pub(crate) fn note(&self, refusal: &Refusal<'_>) {
        if !self.rules.gate.escalates() {
            return;
        }
        let ruleset = self.rules.gate.ruleset();
        let (Some(client), Some(escalation)) = (refusal.client, ruleset.escalation()) else { return };
        if counts(refusal, escalation) && !ruleset.vouches_for(client) && self.is_too_much(client, &ruleset, escalation) {
            // There is a next time.
            let _ = self.to_ban.try_send(client);
        }
    }

    fn is_too_much(&self, client: IpAddr, ruleset: &Ruleset, escalation: &Escalation) -> bool {
        let mut counted = self.counted.lock();
        if counted.generation != ruleset.generation() {
            let refusals = refusals(ruleset, escalation, counted.refusals.as_ref());
            let refusals = refusals.map_err(|fault| log::error!("[escalation]: {fault}")).ok();
            *counted = Counted { generation: ruleset.generation(), refusals };
        }
        let now = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        counted.refusals.as_ref().is_some_and(|refusals| refusals.connect(client, now).is_some())
    }
}

/// Counters for refusals, by which clients are told apart as by `[limits]`. What was counted goes on.
fn refusals(ruleset: &Ruleset, escalation: &Escalation, before: Option<&Limits>) -> Result<Limits, Fault> {
    let (v4_prefix, v6_prefix) = ruleset.client_prefixes();
    let (memory, connections) = (escalation.memory, Some(escalation.refusals));
    Limits::new(&Settings { memory, v4_prefix, v6_prefix, connections, ..Settings::default() }, before)
}

/// Whether a refusal speaks against the client.
fn counts(refusal: &Refusal<'_>, escalation: &Escalation) -> bool {
    let verdict = refusal.verdict;
    let for_good = verdict.rejection.is_some_and(|rejection| rejection.code >= 500);
    let by_limit = escalation.limits && verdict.decider == Decider::Limit;
    !refusal.facts.authenticated && !matches!(verdict.decider, Decider::Mode | Decider::Ban) && (for_good || by_limit)
}

/// Bans those that are to be, one after the other, as long as the daemon runs.
pub(crate) async fn carry_out(rules: Arc<Rules>, mut waiting: Receiver<IpAddr>) {
    let (mut minute, mut made) = (Instant::now(), 0);
    let mut told = false;
    while let Some(client) = waiting.recv().await {
        if minute.elapsed() >= Duration::from_secs(60) {
            (minute, made, told) = (Instant::now(), 0, false);
        }
        if made < MOST_A_MINUTE {
            let rules = Arc::clone(&rules);
            // One that comes to a sudden end is followed by the next.
            made += spawn_blocking(move || escalate(&rules, client)).await.unwrap_or(1);
        } else if !told {
            log::warn!("[escalation]: {made} bans within a minute, the most that may be; the next one waits for the next minute");
            told = true;
        }
    }
}

/// Bans a client, and its subnet if that is due. How many bans that were.
fn escalate(rules: &Rules, client: IpAddr) -> usize {
    let ruleset = rules.gate.ruleset();
    let Some(escalation) = ruleset.escalation() else { return 0 };
    let (v4, v6) = ruleset.client_prefixes();
    let reason = format!("{REASON} {}", escalation.refusals);
    let Some(network) = network(client, v4, v6).filter(|network| ban(rules, *network, escalation.ban, &reason)) else { return 0 };
    let Some(subnet) = escalation.subnet else { return 1 };
    let Some(around) = self::network(client, subnet.v4, subnet.v6).filter(|around| *around != network) else { return 1 };
    let is_of_it = |ban: &Ban| around.contains(&ban.network) && ban.reason.starts_with(REASON);
    let clients = rules.gate.count_bans(is_of_it);
    let due = clients >= subnet.clients;
    1 + usize::from(due && ban(rules, around, escalation.ban, &format!("{clients} of its clients were {REASON} {}", escalation.refusals)))
}

/// The network of a client, by so many bits of its address.
fn network(client: IpAddr, v4: u8, v6: u8) -> Option<IpNet> {
    let client = client.to_canonical();
    IpNet::new(client, if client.is_ipv4() { v4 } else { v6 }).ok().map(|network| network.trunc())
}

/// Bans a network, unless it is banned already or may not be.
fn ban(rules: &Rules, network: IpNet, duration: Duration, reason: &str) -> bool {
    let gate = &rules.gate;
    let changed = rules.state.change(gate, || {
        if gate.count_bans(|ban| ban.network.contains(&network)) > 0 {
            return Ok((None, Vec::new()));
        }
        let made = gate.ban(network, Some(duration), reason).map_err(|fault| fault.to_string())?;
        Ok((Some(made.clone()), vec![Record::Ban(made)]))
    });
    match changed {
        Ok((Some(made), _)) => {
            log::info!("[escalation]: {network} is banned until {}: {}", time(made.until), made.reason);
            true
        }
        Ok((None, _)) => false,
        Err(error) => {
            log::debug!("[escalation]: {network} is not banned: {error}");
            false
        }
    }
}
