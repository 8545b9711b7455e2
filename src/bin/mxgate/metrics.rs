//! What monitoring reads: the state of the daemon as numbers, in the text format of OpenMetrics, and whether all is well.
//!
//! Most numbers are counted elsewhere and gathered when they are asked for. Lists are labels; addresses, mailboxes and names
//! from strangers are not, so that nobody outside makes a series.

use crate::logger;
use crate::refusals::Refusals;
use crate::rules::Rules;
use mxgate::overview::{Overview, overview};
use mxgate::status::Status;
use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

/// The labels of a number.
type Labels = Vec<(&'static str, String)>;

/// What monitoring reads.
#[derive(Debug)]
pub(crate) struct Metrics {
    rules: Arc<Rules>,
    sessions: Family<Labels, Gauge>,
    answers: Histogram,
    /// What lists are worth takes a look at every entry, and changes with a load: worked out once for each.
    worth: Mutex<Option<(u64, Arc<Overview>)>>,
    /// The daemon is about to end.
    pub(crate) stopping: AtomicBool,
}

/// What a listener has to tell.
#[derive(Debug)]
pub(crate) struct Traffic {
    pub(crate) refusals: Arc<Refusals>,
    /// Connections that are open.
    pub(crate) sessions: Gauge,
    /// How long it takes from the bytes that were read to the bytes that answer them, in seconds.
    pub(crate) answers: Histogram,
}

/// Whether all is well.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Health {
    Well,
    /// It serves, but not as it was told to: what is wrong, and what to do.
    Degraded(Vec<String>),
    Stopping,
}

impl Metrics {
    /// Nothing has happened yet.
    pub(crate) fn new(rules: Arc<Rules>) -> Metrics {
        Metrics {
            rules,
            sessions: Family::default(),
            // From a microsecond to a second.
            answers: Histogram::new(exponential_buckets(1e-6, 4.0, 11)),
            worth: Mutex::default(),
            stopping: AtomicBool::new(false),
        }
    }

    /// Where a listener counts.
    pub(crate) fn traffic(&self, listener: &str) -> Traffic {
        Traffic {
            refusals: Arc::clone(&self.rules.refusals),
            sessions: self.sessions.get_or_create_owned(&vec![("listener", listener.to_owned())]),
            answers: self.answers.clone(),
        }
    }

    /// Whether all is well.
    pub(crate) fn health(&self) -> Health {
        if self.stopping.load(Ordering::Relaxed) {
            return Health::Stopping;
        }
        let alarms = self.rules.alarms();
        if alarms.is_empty() { Health::Well } else { Health::Degraded(alarms) }
    }

    /// All numbers. Takes as long as it takes to look at every entry, the first time after a load.
    pub(crate) fn text(&self) -> String {
        let mut registry = Registry::with_prefix("mxgate");
        // A gauge: OpenMetrics has a type of its own for it, which older readers refuse with all the rest.
        let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        gauges(&mut registry, "build_info", "Version of the daemon", [(version, 1)]);
        self.of_rules(&mut registry);
        self.of_decisions(&mut registry);
        self.of_lists(&mut registry);
        self.of_limits(&mut registry);
        registry.register("sessions", "Connections of mail servers that are open", self.sessions.clone());
        registry.register("answer_seconds", "Time from what was read to the answer, log lines included", self.answers.clone());
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &registry);
        text
    }

    fn of_rules(&self, registry: &mut Registry) {
        let Status { counts, loaded, .. } = Status::of(&self.rules.gate);
        let current = u64::from(!self.rules.stale.load(Ordering::Relaxed));
        let saved = u64::from(self.rules.state.alarm().is_none());
        for (name, help, value) in [
            ("rules_generation", "Number of the load whose rules are in force", counts.generation),
            ("rules_loaded_timestamp_seconds", "When the rules in force were loaded", loaded),
            ("rules_current", "Whether the last load was good", current),
            ("networks", "Networks that the lists of the policy have", counts.networks),
            ("domains", "Names that the lists of domains have", counts.domains),
            ("bans", "Bans that have not ended", counts.bans),
            ("bans_saved", "Whether all bans are on disk that are to be", saved),
        ] {
            gauge(registry, name, help, value);
        }
        counter(registry, "loads_failed", "Loads that failed", counts.failed_loads);
    }

    fn of_decisions(&self, registry: &mut Registry) {
        let counts = self.rules.gate.counts();
        let accepted = counts.checks.saturating_sub(counts.rejected).saturating_sub(counts.deferred);
        let decisions = [("accept", accepted), ("reject", counts.rejected), ("defer", counts.deferred)];
        let decisions = decisions.map(|(verdict, number)| (vec![("verdict", verdict.to_owned())], number));
        counters(registry, "decisions", "Questions, by what they came to", decisions);
        let help = "Questions that were accepted although a list that is only watched would have refused";
        counter(registry, "would_refuse", help, counts.would_refuse);
        let refusals = &self.rules.refusals;
        let by_stage = refusals.by_stage().map(|(stage, number)| (vec![("stage", stage.to_string())], read(number)));
        counters(registry, "refusals", "Refusals that clients were told, by the stage of the session", by_stage);
        counter(registry, "refusals_logged", "Refusals with a log line of their own", read(&refusals.told));
        let help = "Refusals without a log line of their own, summed up each minute";
        counter(registry, "refusals_suppressed", help, read(&refusals.untold));
        counter(registry, "log_lines_lost", "Log lines that were lost, because the log was not read", logger::lost());
    }

    fn of_lists(&self, registry: &mut Registry) {
        let ruleset = self.rules.gate.ruleset();
        let worth = self.worth();
        // The hits of now, of the same lists in the same order.
        let rows = || worth.rows.iter().zip(ruleset.lists()).filter(|(row, list)| row.name == list.name.as_str());
        let labels = |name: &str, kind: &str| vec![("list", name.to_owned()), ("kind", kind.to_owned())];
        let entries = rows().map(|(row, _)| (labels(&row.name, &row.kind), row.entries.try_into().unwrap_or(u64::MAX)));
        gauges(registry, "list_entries", "Entries of a list", entries);
        let hits = |watched| {
            let rows = rows().filter(move |(row, _)| row.kind.starts_with("watched") == watched);
            rows.map(move |(row, list)| (labels(&row.name, &row.kind), list.hits()))
        };
        counters(registry, "list_hits", "How often a list has decided", hits(false));
        counters(registry, "list_would_refuse", "How often a list that is only watched would have refused", hits(true));
        let made = rows().filter_map(|(row, _)| Some((labels(&row.name, &row.kind), row.made?)));
        gauges(registry, "list_made_timestamp_seconds", "When a list was made, by its own words or by its file", made);
        let passed = rows().filter(|(row, _)| row.read > 0).map(|(row, _)| (labels(&row.name, &row.kind), row.read));
        gauges(registry, "list_loaded_timestamp_seconds", "When a list was last read without fault", passed);
        let unique = Family::<Labels, Gauge<f64, AtomicU64>>::default();
        for (row, _) in rows() {
            for (family, share) in [("ipv4", row.v4_unique), ("ipv6", row.v6_unique)] {
                if let Some(share) = share {
                    unique.get_or_create(&vec![("list", row.name.clone()), ("family", family.to_owned())]).set(share);
                }
            }
        }
        registry.register("list_unique_ratio", "Share of the addresses of a list that no other enforced block list has", unique);
    }

    fn of_limits(&self, registry: &mut Registry) {
        let limits = self.rules.gate.limit_counters();
        let each = |value: fn(&mxgate::limits::Counters) -> u64| {
            limits.iter().map(move |limit| (vec![("limit", limit.which.to_owned())], value(limit)))
        };
        gauges(registry, "limit_capacity", "Clients or domains that the table of a limit holds", each(|limit| limit.capacity as u64));
        gauges(registry, "limit_entries", "Clients or domains that it has to hold now", each(|limit| limit.used as u64));
        counters(registry, "limit_refused", "How often a limit has refused", each(|limit| limit.refused));
        counters(registry, "limit_evicted", "Clients or domains that were forgotten to make room", each(|limit| limit.evicted));
        let help = "Connections or recipients that were let through uncounted, because there was no room";
        counters(registry, "limit_uncounted", help, each(|limit| limit.uncounted));
    }

    /// What the lists in force are worth.
    fn worth(&self) -> Arc<Overview> {
        let ruleset = self.rules.gate.ruleset();
        let mut worth = self.worth.lock();
        match &*worth {
            Some((generation, known)) if *generation == ruleset.generation() => Arc::clone(known),
            _ => {
                let fresh = Arc::new(overview(&ruleset, SystemTime::now()));
                *worth = Some((ruleset.generation(), Arc::clone(&fresh)));
                fresh
            }
        }
    }
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn counter(registry: &mut Registry, name: &str, help: &str, value: u64) {
    registry.register(name, help, ConstCounter::new(value));
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: u64) {
    registry.register(name, help, ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)));
}

fn counters(registry: &mut Registry, name: &str, help: &str, rows: impl IntoIterator<Item = (Labels, u64)>) {
    let family = Family::<Labels, Counter>::default();
    for (labels, value) in rows {
        family.get_or_create(&labels).inc_by(value);
    }
    registry.register(name, help, family);
}

fn gauges(registry: &mut Registry, name: &str, help: &str, rows: impl IntoIterator<Item = (Labels, u64)>) {
    let family = Family::<Labels, Gauge>::default();
    for (labels, value) in rows {
        family.get_or_create(&labels).set(i64::try_from(value).unwrap_or(i64::MAX));
    }
    registry.register(name, help, family);
}
