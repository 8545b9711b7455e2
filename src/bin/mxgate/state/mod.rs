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
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// Whether something could not be written.
    unsaved: AtomicBool,
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
        if !journal.is_saved()
            && let Err(error) = journal.rewrite(gate.bans())
        {
            log::error!("{error}; bans hold in memory, and it is tried again every {} s", RETRY.as_secs());
        }
        let unsaved = AtomicBool::new(!journal.is_saved());
        Ok(State { journal: Mutex::new(Some(journal)), unsaved })
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
        self.tell(journal.is_saved());
        let kept = match written {
            Ok(()) => Kept::OnDisk,
            Err(error) => {
                log::error!("{error}; what was asked for holds in memory, and it is tried again every {} s", RETRY.as_secs());
                Kept::NotOnDisk(error)
            }
        };
        Ok((made, kept))
    }

    /// Tries again to write what could not be written.
    fn retry(&self, gate: &Gate) {
        if let Some(journal) = &mut *self.journal.lock()
            && !journal.is_saved()
        {
            // Why it could not be written stands in the log already.
            let _ = journal.rewrite(gate.bans());
            self.tell(journal.is_saved());
        }
    }

    fn tell(&self, saved: bool) {
        if self.unsaved.swap(!saved, Ordering::Relaxed) && saved {
            log::info!("all bans are on disk again");
        }
    }
}

/// Tries again for ever, beside the sessions.
pub(crate) async fn retry(rules: Arc<Rules>) {
    loop {
        sleep(RETRY).await;
        if rules.state.unsaved.load(Ordering::Relaxed) {
            let rules = Arc::clone(&rules);
            // One that comes to a sudden end is followed by the next.
            let _ = spawn_blocking(move || rules.state.retry(&rules.gate)).await;
        }
    }
}
