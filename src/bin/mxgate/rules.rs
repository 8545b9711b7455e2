//! The rules of the daemon, and the policy file that they come from: loaded at the start, at SIGHUP, and when the control
//! socket asks for it. What a load has changed goes to the log, and to whoever asked.

use crate::manager::Reloading;
use crate::progress;
use crate::refusals::Refusals;
use crate::state::State;
use mxgate::diagnostic::Diagnostic;
use mxgate::diff::{Section, What, diff};
use mxgate::{Gate, LoadError, Ruleset};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The policy in force where none is given.
const BUILT_IN: &str = include_str!("built_in.toml");

/// The rules of the daemon.
#[derive(Debug)]
pub(crate) struct Rules {
    /// What sessions ask.
    pub(crate) gate: Arc<Gate>,
    /// Whom they have refused.
    pub(crate) refusals: Arc<Refusals>,
    /// Whether the rules in force are those of a load before the last, which has failed.
    pub(crate) stale: AtomicBool,
    /// The policy file.
    config: Option<PathBuf>,
    /// Where bans are kept.
    pub(crate) state: State,
    /// Held during a load, so that what it has changed is told from the load before it.
    loading: Mutex<()>,
}

/// What a load has brought.
#[derive(Debug)]
pub(crate) struct Loaded {
    generation: u64,
    networks: usize,
    domain_entries: usize,
    warnings: Vec<Diagnostic>,
    /// What differs from the load before it, a line each.
    changes: Vec<String>,
    /// Allow entries that block lists cover, and did not before.
    covered: Option<String>,
}

impl Rules {
    /// No rules yet.
    pub(crate) fn new(config: Option<PathBuf>) -> Rules {
        Rules {
            gate: Arc::new(Gate::with_progress(progress::tell)),
            refusals: Arc::default(),
            stale: AtomicBool::new(false),
            config,
            state: State::default(),
            loading: Mutex::new(()),
        }
    }

    /// With the bans of a directory in force, and kept there. The error says what is wrong and what to do.
    pub(crate) fn with_state(mut self, directory: &Path) -> Result<Rules, String> {
        self.state = State::open(directory, &self.gate)?;
        Ok(self)
    }

    /// What is not as it was asked for, while the daemon serves: each with its cause, and what to do.
    pub(crate) fn alarms(&self) -> Vec<String> {
        let stale = self.stale.load(Ordering::Relaxed).then(|| {
            let generation = self.gate.ruleset().generation();
            let cause = format!("the last load failed, and the rules of load {generation} stay in force");
            format!("{cause}; see the log, mend the policy, and run mxgate reload")
        });
        stale.into_iter().chain(self.state.alarm()).collect()
    }

    /// Loads the policy, and says in the log what is in force and what has changed.
    pub(crate) fn load(&self) -> Result<Loaded, LoadError> {
        let _held = self.loading.lock();
        let before = self.gate.ruleset();
        let warnings = match &self.config {
            Some(path) => progress::shown(|| self.gate.load_file(path))?,
            None => self.gate.load_text(BUILT_IN, "built-in policy")?,
        };
        self.stale.store(false, Ordering::Relaxed);
        let loaded = Loaded::new(&before, &self.gate.ruleset(), warnings);
        loaded.lines().iter().for_each(|(level, line)| log::log!(*level, "{line}"));
        Ok(loaded)
    }

    /// Loads the policy file again. What is wrong goes to the log too; then the rules in force stay.
    pub(crate) fn reload(&self) -> Result<Loaded, String> {
        let _told = Reloading::begin();
        if self.config.is_none() {
            let cause = "there is no policy file to load again; start the daemon with --config FILE";
            log::warn!("{cause}");
            return Err(cause.into());
        }
        self.load().map_err(|error| {
            self.stale.store(true, Ordering::Relaxed);
            for diagnostic in &error.diagnostics {
                if diagnostic.is_error() { log::error!("{diagnostic}") } else { log::warn!("{diagnostic}") }
            }
            let stay = format!("the policy was not loaded; the rules of load {} stay in force", self.gate.ruleset().generation());
            log::error!("{stay}");
            format!("{error}\n{stay}")
        })
    }
}

impl Loaded {
    fn new(before: &Ruleset, after: &Ruleset, warnings: Vec<Diagnostic>) -> Loaded {
        // Before the first load there was nothing to compare with.
        let diff = (before.generation() > 0).then(|| diff(before, after));
        let changes = diff.iter().flat_map(|diff| {
            let settings = diff.settings.iter().map(|key| format!("{key} changed"));
            // Of a list that is kept the warnings have said why.
            let lists = diff.changes.iter().filter(|change| change.what != What::Kept).map(ToString::to_string);
            settings.chain(lists).chain(diff.sections.iter().flat_map(Section::lines))
        });
        Loaded {
            generation: after.generation(),
            networks: after.network_count(),
            domain_entries: after.domain_count(),
            changes: changes.collect(),
            covered: diff.as_ref().and_then(|diff| diff.covered_line()),
            warnings,
        }
    }

    /// What there is to say, line by line.
    fn lines(&self) -> Vec<(log::Level, String)> {
        let Loaded { generation, networks, domain_entries, warnings, .. } = self;
        let summary = format!(
            "rules of load {generation} in force: {networks} networks, {domain_entries} domain entries, {} warnings",
            warnings.len()
        );
        let mut lines: Vec<_> = warnings.iter().map(|warning| (log::Level::Warn, warning.to_string())).collect();
        lines.push((log::Level::Info, summary));
        lines.extend(self.changes.iter().map(|change| (log::Level::Info, change.clone())));
        lines.extend(self.covered.iter().map(|covered| (log::Level::Warn, covered.clone())));
        lines
    }

    /// All of it, for programs. The keys stay what they are; there may come more.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "generation": self.generation,
            "networks": self.networks,
            "domain_entries": self.domain_entries,
            "warnings": self.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "changes": self.changes,
            "covered": self.covered,
        })
    }
}

/// As in the log, without the levels.
impl fmt::Display for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines().iter().try_for_each(|(_, line)| writeln!(f, "{line}"))
    }
}
