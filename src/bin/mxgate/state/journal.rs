//! The file that has the bans: appended to and brought to disk before a ban is acknowledged, and written anew, aside and
//! renamed, when what was appended has become longer than what was there.
//!
//! After anything has gone wrong with it the file is not appended to again: what the system has of it is not known, and a
//! second fsync() would say that all is well. It is written anew from memory, as soon as that succeeds.

use super::directory::Disk;
use super::records::{Contents, Record, lines, whole};
use mxgate::Ban;
use std::io::{self, ErrorKind};

/// The file.
pub(crate) const JOURNAL: &str = "bans.journal";
/// The next one.
const NEXT: &str = "bans.journal.new";
/// Most damaged files that are kept.
const MAX_KEPT: usize = 100;

/// A journal.
#[derive(Debug)]
pub(crate) struct Journal<D: Disk> {
    disk: D,
    /// Open as long as all that it has is on disk.
    file: Option<D::File>,
    /// Whether what stands in the file is damaged, and has to be kept before it is replaced.
    damaged: bool,
    /// Records behind those with which the file began, and how many there may be.
    appended: usize,
    limit: usize,
    /// The least that `limit` is.
    least: usize,
}

impl<D: Disk> Journal<D> {
    /// Reads what there is: the bans that have not ended. What is damaged is told in the log. The error says why there
    /// cannot be a journal, and what to do.
    pub(crate) fn open(disk: D, least: usize, now: u64) -> Result<(Journal<D>, Vec<Ban>), String> {
        let mut journal = Journal { disk, file: None, damaged: false, appended: 0, limit: least, least };
        let (disk, name) = (&journal.disk, journal.disk.show(JOURNAL));
        let there = disk.read(JOURNAL).map_err(|error| format!("cannot read {name}: {error}; let the daemon read it"))?;
        let contents = Contents::read(there.as_deref().unwrap_or_default()).map_err(|format| {
            format!("{name}:1:1: the format {format} is not known; start the release of mxgate that wrote it, or move the file away")
        })?;
        for line in &contents.damaged_lines {
            log::error!("{name}:{line}:1: the record is damaged, and what it said is lost; look at it, and ban again what is missing");
        }
        if let Some(more) = contents.damaged.checked_sub(contents.damaged_lines.len()).filter(|more| *more > 0) {
            log::error!("{name}: {more} more records are damaged");
        }
        if contents.torn {
            log::info!("{name}: what was being written when the daemon or the machine stopped is cut off");
        }
        // It has the format besides.
        let bans: Vec<Ban> = contents.bans.into_values().filter(|ban| !ban.is_over(now)).collect();
        journal.damaged = contents.damaged > 0;
        journal.appended = contents.records.saturating_sub(bans.len() + 1);
        journal.limit = least.max(bans.len());
        let sound = contents.records > 0 && !contents.torn && !journal.damaged && journal.appended <= journal.limit;
        // Left behind where a daemon was killed.
        let _ = journal.disk.remove(NEXT);
        // Its name need not be on disk yet: the daemon that renamed it may have been killed before it could see to that.
        if sound && journal.disk.sync_names().is_ok() {
            journal.file = journal.disk.open(JOURNAL).ok().filter(|file| journal.disk.sync(file).is_ok());
        }
        Ok((journal, bans))
    }

    /// Whether all bans are on disk.
    pub(crate) fn is_saved(&self) -> bool {
        self.file.is_some()
    }

    /// Returns when a change is on disk. `all` are the bans in force, with the change.
    pub(crate) fn record(&mut self, changes: &[Record], all: impl FnOnce() -> Vec<Ban>) -> Result<(), String> {
        let Some(file) = &mut self.file else { return self.rewrite(all()) };
        let appended = self.disk.append(file, &lines(changes)).and_then(|()| self.disk.sync(file));
        if appended.is_err() {
            self.file = None;
            return self.rewrite(all());
        }
        self.appended += changes.len();
        if self.appended > self.limit
            && let Err(error) = self.rewrite(all())
        {
            log::warn!("{error}; the bans are on disk, in a file that is longer than it need be");
            self.limit = self.appended.saturating_mul(2);
        }
        Ok(())
    }

    /// Writes the file anew.
    pub(crate) fn rewrite(&mut self, bans: Vec<Ban>) -> Result<(), String> {
        let count = bans.len();
        self.replace(bans).map_err(|error| {
            // Where the disk is full it must not take what is left. If it is not there that is right too.
            let _ = self.disk.remove(NEXT);
            let remedy = if error.kind() == ErrorKind::StorageFull { "free some space there" } else { "see to the disk" };
            format!("cannot write {}: {error}; {remedy}", self.disk.show(JOURNAL))
        })?;
        self.appended = 0;
        self.limit = self.least.max(count);
        Ok(())
    }

    fn replace(&mut self, bans: Vec<Ban>) -> io::Result<()> {
        let mut next = self.disk.create(NEXT)?;
        self.disk.append(&mut next, &whole(bans))?;
        self.disk.sync(&next)?;
        if self.damaged {
            self.keep()?;
            self.damaged = false;
        }
        // Until the new name is on disk nobody knows which file there will be.
        self.file = None;
        self.disk.rename(NEXT, JOURNAL)?;
        self.disk.sync_names()?;
        self.file = Some(next);
        Ok(())
    }

    /// Keeps a damaged file, so that somebody can look at it.
    fn keep(&self) -> io::Result<()> {
        for number in 1..=MAX_KEPT {
            let name = format!("{JOURNAL}.damaged.{number}");
            match self.disk.keep(JOURNAL, &name) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                kept => {
                    if kept.is_ok() {
                        log::error!("the damaged file is kept as {}; remove it when nobody needs it", self.disk.show(&name));
                    }
                    return kept;
                }
            }
        }
        // There have been enough to look at.
        Ok(())
    }
}
