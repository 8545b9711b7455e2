//! What outlives the daemon: the bans, in a directory (`serve --state`) or only in memory. A change is made in memory first, so
//! that it holds whatever becomes of the disk, and is acknowledged when it is on disk, or with the reason why it is not.
//!
//! `records` are the text of the file, `journal` when it is written, `directory` where.

mod directory;
mod journal;
mod records;
#[cfg(test)]
mod tests;

use crate::rules::Rules;
use directory::Directory;
use journal::Journal;
use mxgate::Gate;
use parking_lot::Mutex;
pub(crate) use records::Record;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

/// How often it is tried again to write what could not be written.
const RETRY: Duration = Duration::from_secs(5);
/// How many changes are appended before the file is written anew, however few bans there are.
const LEAST_APPENDED: usize = 1000;

/// Where bans are kept.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Held while bans change, so that the file has the changes in the order in which they came into force.
    journal: Mutex<Option<Journal<Directory>>>,
    /// Why bans are not on disk that should be; `None` if all is well.
    unsaved: Mutex<Option<String>>,
}

/// What became of a change that is in force.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It is on disk.
    OnDisk,
    /// It ends with the daemon, as all bans do where there is no directory for them.
    InMemory,
    /// It should be on disk, and is not, for this reason.
    NotOnDisk(String),
}

impl State {
    /// Takes possession of a directory, and puts the bans in force that it has. The error says what is wrong and what to do.
    pub(crate) fn open(path: &Path, gate: &Gate) -> Result<State, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let (mut journal, bans) = Journal::open(Directory::take(path)?, LEAST_APPENDED, now)?;
        let count = bans.len();
        gate.put_bans(bans).map_err(|fault| format!("{}: {fault}", path.display()))?;
        log::info!("{count} bans of {} are in force", path.display());
        let mut state = State::default();
        if !journal.is_saved()
            && let Err(error) = journal.rewrite(gate.bans())
        {
            state.failed(&error);
        }
        state.journal = Mutex::new(Some(journal));
        Ok(state)
    }

    /// Makes a change, which puts bans in force or lifts them, and returns when it is on disk. `make` says what it has
    /// changed; if it fails it has changed nothing.
    pub(crate) fn change<T>(&self, gate: &Gate, make: impl FnOnce() -> Result<(T, Vec<Record>), String>) -> Result<(T, Kept), String> {
        let mut journal = self.journal.lock();
        let (made, changes) = make()?;
        let Some(journal) = &mut *journal else { return Ok((made, Kept::InMemory)) };
        if changes.is_empty() {
            return Ok((made, Kept::OnDisk));
        }
        let written = journal.record(&changes, || gate.bans());
        match &written {
            Ok(()) if journal.is_saved() => self.saved(),
            Ok(()) => self.failed("the file of bans has to be written anew"),
            Err(error) => self.failed(error),
        }
        Ok((made, written.map_or_else(Kept::NotOnDisk, |()| Kept::OnDisk)))
    }

    /// Tries again to write what could not be written.
    fn retry(&self, gate: &Gate) {
        if let Some(journal) = &mut *self.journal.lock()
            && !journal.is_saved()
            // Why it could not be written stands in the log already.
            && journal.rewrite(gate.bans()).is_ok()
        {
            self.saved();
        }
    }

    fn saved(&self) {
        if self.unsaved.lock().take().is_some() {
            log::info!("all bans are on disk again");
        }
    }

    fn failed(&self, error: &str) {
        let alarm = format!("{error}; bans hold in memory, and it is tried again every {} s", RETRY.as_secs());
        log::error!("{alarm}");
        *self.unsaved.lock() = Some(alarm);
    }

    /// Why bans are not on disk that should be.
    pub(crate) fn alarm(&self) -> Option<String> {
        self.unsaved.lock().clone()
    }
}

/// Tries again for ever, beside the sessions.
pub(crate) async fn retry(rules: Arc<Rules>) {
    loop {
        sleep(RETRY).await;
        if rules.state.alarm().is_some() {
            let rules = Arc::clone(&rules);
            // One that comes to a sudden end is followed by the next.
            let _ = spawn_blocking(move || rules.state.retry(&rules.gate)).await;
        }
    }
}
