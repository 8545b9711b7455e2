//! What the daemon says of refusals: each has a name, a line in the log unless its client has had so many already, and a
//! place among the latest, where `mxgate explain --id` finds it.
//!
//! What the log only sums up is not kept: one client that does not give up would push out all others.

use crate::flood::{Flood, MINUTE, Untold, network};
use crate::logger::{Format, REFUSAL};
use crate::most::{Counted, Most};
use crate::refusal::{Refused, seconds, stage};
use crate::trace::Traces;
use arrayvec::ArrayString;
use jiff::Timestamp;
use mxgate::id::{Id, Ids, parse};
use mxgate::milter::Refusal;
use mxgate::{Decider, Stage, Verdict};
use parking_lot::Mutex;
use serde_json::json;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;
use tokio::time::{Instant, interval_at};

/// So many refusals are kept. Each takes some hundred bytes, and 4 KiB at the most.
const KEPT: usize = 4096;
/// So many lines a client gets in a minute if nothing is said.
pub(crate) const LINES: u32 = 10;

/// What refuses: a list or a limit by its name.
pub(crate) type Rule = ArrayString<128>;

/// Refusals, and what is told of them.
#[derive(Debug)]
pub(crate) struct Refusals {
    /// Where sessions get the names of their questions from.
    pub(crate) ids: Arc<Ids>,
    format: Format,
    /// When the first could have been.
    pub(crate) since: Timestamp,
    /// Held for a microsecond at most, as the next two are.
    flood: Mutex<Flood>,
    clients: Mutex<Most<Option<IpAddr>>>,
    rules: Mutex<Most<Rule>>,
    /// The latest, newest last. Who looks for one holds it for some microseconds.
    latest: Mutex<VecDeque<Arc<Refused>>>,
    /// Whom administrators follow.
    pub(crate) traces: Arc<Traces>,
    /// How many clients were refused, by the stage.
    by_stage: [AtomicU64; Stage::ALL.len()],
    /// How many refusals the log has told one by one.
    pub(crate) told: AtomicU64,
    /// How many it has not; most of them are summed up already.
    pub(crate) untold: AtomicU64,
}

impl Refusals {
    /// None yet. A client gets so many lines in a minute.
    pub(crate) fn new(format: Format, lines: u32) -> Refusals {
        Refusals {
            ids: Arc::new(Ids::beginning(SystemTime::now())),
            format,
            since: Timestamp::now(),
            flood: Mutex::new(Flood::new(lines)),
            clients: Mutex::new(Most::new()),
            rules: Mutex::new(Most::new()),
            latest: Mutex::new(VecDeque::with_capacity(KEPT)),
            traces: Arc::default(),
            by_stage: Default::default(),
            told: AtomicU64::new(0),
            untold: AtomicU64::new(0),
        }
    }

    /// A client had an answer: a refusal is told in the log, every answer to those who follow this client.
    pub(crate) fn answered(&self, answer: &Refusal<'_>) {
        let id = answer.facts.id.and_then(parse).unwrap_or_else(|| self.ids.draw());
        if self.traces.any() {
            self.traces.tell(answer, || Refused::of(answer, id, Timestamp::now()));
        }
        if !answer.verdict.is_accept() {
            self.tell(answer, id);
        }
    }

    /// A client was refused.
    fn tell(&self, refusal: &Refusal<'_>, id: Id) {
        if let Some((_, number)) = self.by_stage().find(|(found, _)| *found == stage(refusal)) {
            number.fetch_add(1, Ordering::Relaxed);
        }
        self.clients.lock().add(&refusal.client.map(network));
        self.rules.lock().add(&rule(refusal.verdict));
        if !self.flood.lock().is_told(refusal.client) {
            self.untold.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.told.fetch_add(1, Ordering::Relaxed);
        let refused = Arc::new(Refused::of(refusal, id, Timestamp::now()));
        match self.format {
            Format::Text => log::info!(target: REFUSAL, "{refused}"),
            Format::Json => log::info!(target: REFUSAL, "{}", refused.to_json()),
        }
        let mut latest = self.latest.lock();
        if latest.len() == KEPT {
            latest.pop_front();
        }
        latest.push_back(refused);
    }

    /// How many clients were refused at each stage.
    pub(crate) fn by_stage(&self) -> impl Iterator<Item = (Stage, &AtomicU64)> {
        Stage::ALL.into_iter().zip(&self.by_stage)
    }

    /// The clients that were refused most often, and the rules that refused most often.
    pub(crate) fn most(&self, most: usize) -> (Vec<Counted<Option<IpAddr>>>, Vec<Counted<Rule>>) {
        (self.clients.lock().first(most), self.rules.lock().first(most))
    }

    /// The refusal of that name, if it was not long ago.
    pub(crate) fn find(&self, id: Id) -> Option<Arc<Refused>> {
        self.latest.lock().iter().rev().find(|refused| refused.id == id).cloned()
    }

    /// Tells each minute what was not told one by one, for ever.
    pub(crate) async fn sum_up_each_minute(self: Arc<Self>) {
        let mut minutes = interval_at(Instant::now() + MINUTE, MINUTE);
        loop {
            minutes.tick().await;
            self.sum_up();
        }
    }

    /// Tells what was not told one by one, as at the end of a minute.
    pub(crate) fn sum_up(&self) {
        let minute = self.flood.lock().next_minute();
        for untold in minute {
            match self.format {
                Format::Text => log::info!(target: REFUSAL, "{untold}"),
                Format::Json => log::info!(target: REFUSAL, "{}", summary(&untold)),
            }
        }
    }
}

impl Default for Refusals {
    fn default() -> Refusals {
        Refusals::new(Format::Text, LINES)
    }
}

/// What has refused.
fn rule(verdict: &Verdict) -> Rule {
    let mut rule = Rule::new();
    // Of a limit its key; behind that may stand that the client came too early.
    let limit = verdict.reason.split(',').next().unwrap_or_default();
    let name = if verdict.decider == Decider::Limit { limit } else { &verdict.list };
    // What is too long is cut.
    let _ = write!(rule, "{}{}{name}", verdict.decider, if name.is_empty() { "" } else { " " });
    rule
}

fn summary(untold: &Untold) -> serde_json::Value {
    json!({
        "time": seconds(Timestamp::now()),
        "level": "info",
        "event": "summary",
        "client": untold.name(),
        "refusals": untold.number,
        "seconds": MINUTE.as_secs(),
    })
}
