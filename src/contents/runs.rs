//! Which line of which file each entry comes from, and which note it has: kept once for a run of entries that follow from each
//! other.
//!
//! Nearly always an entry follows from the one before. It stands on the next line, or on the same one where a line gives
//! several, or so many lines further where each takes as many; and it has the same note, or the next one where each line says
//! something of its own. A list without comments between its lines is one run. Where there are more, an index says for each
//! block of entries with which run it begins, so that few of them are searched.

use crate::flat::Flat;
use crate::image::{Reader, Stored, Writer};
use crate::memory::{room, with_room};
use bytemuck::{Pod, Zeroable};

/// How many entries have one place in the index: so few that their runs, should each have one, lie in a few lines of the cache.
const BLOCK: usize = 16;

/// Where an entry comes from, and what is said about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Origin {
    pub line: u32,
    /// Which of the notes.
    pub note: u32,
    /// Which of the files.
    pub file: u16,
}

/// Entries that follow from each other. Plain numbers without gaps between them.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Run {
    /// Number of its first entry, from 0; then what that one has.
    first: u32,
    line: u32,
    note: u32,
    file: u16,
    steps: Steps,
}

const _: () = assert!(size_of::<Run>() == 16);

/// By how much lines and notes go up with each entry.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
struct Steps {
    line: u8,
    note: u8,
}

/// Where all entries of a list come from.
#[derive(Debug, Default)]
pub(super) struct Runs {
    runs: Flat<Run>,
    /// For each block of entries the run that its first one is in; empty if there is but one run.
    blocks: Flat<u32>,
}

/// Runs that grow with a list.
#[derive(Debug, Default)]
pub(super) struct GrowingRuns {
    runs: Vec<Run>,
    /// What the next entry has if the last run goes on.
    next: Option<Origin>,
    /// Those of the last run.
    steps: Steps,
}

impl Origin {
    /// What an entry has that comes so many entries later in the same run.
    #[inline(always)]
    fn after(self, entries: u32, steps: Steps) -> Origin {
        // Of a damaged image any numbers can come.
        let after = |number: u32, step: u8| number.wrapping_add(entries.wrapping_mul(step.into()));
        Origin { line: after(self.line, steps.line), note: after(self.note, steps.note), file: self.file }
    }

    /// The steps with which the next entry follows from this one; `None` if it does not.
    fn steps_to(self, next: Origin) -> Option<Steps> {
        let step = |from: u32, to: u32| u8::try_from(to.checked_sub(from)?).ok();
        let steps = Steps { line: step(self.line, next.line)?, note: step(self.note, next.note)? };
        (self.file == next.file).then_some(steps)
    }
}

impl Run {
    /// What the entry with that number, from 0, has.
    #[inline(always)]
    fn origin(&self, entry: u32) -> Origin {
        let Run { first, line, note, file, steps } = *self;
        Origin { line, note, file }.after(entry.wrapping_sub(first), steps)
    }
}

impl GrowingRuns {
    /// Adds what the entry with that number, from 0, has. Says whether there is room for it.
    #[inline]
    pub(super) fn push(&mut self, entry: u32, origin: Origin) -> bool {
        if self.next != Some(origin) && !self.turn(entry, origin) {
            return false;
        }
        self.next = Some(origin.after(1, self.steps));
        true
    }

    /// Begins a run, unless the second entry of one shows by which steps it goes.
    #[inline(never)]
    fn turn(&mut self, entry: u32, origin: Origin) -> bool {
        if let Some(run) = self.runs.last_mut()
            && run.first + 1 == entry
            && let Some(steps) = run.origin(run.first).steps_to(origin)
        {
            run.steps = steps;
        } else if room(&mut self.runs, 1) {
            let Origin { line, note, file } = origin;
            self.runs.push(Run { first: entry, line, note, file, steps: Steps { line: 1, note: 0 } });
        } else {
            return false;
        }
        self.steps = self.runs.last().map_or(Steps::default(), |run| run.steps);
        true
    }

    /// The runs of so many entries.
    pub(super) fn finish(mut self, entries: usize) -> Runs {
        self.runs.shrink_to_fit();
        let blocks = if self.runs.len() > 1 { index(&self.runs, entries) } else { Vec::new() };
        Runs { runs: self.runs.into(), blocks: blocks.into() }
    }
}

/// The run with which each block of entries begins.
fn index(runs: &[Run], entries: usize) -> Vec<u32> {
    let mut blocks = with_room(entries.div_ceil(BLOCK));
    let (mut run, mut later) = (0, runs.iter().skip(1).peekable());
    // There is room for all, or the load fails.
    for begin in (0..entries).step_by(BLOCK).take(blocks.capacity()) {
        while later.next_if(|next| next.first as usize <= begin).is_some() {
            run += 1;
        }
        blocks.push(run);
    }
    blocks
}

impl Runs {
    /// Where the entry with that number, from 0, comes from.
    #[inline(always)]
    pub(super) fn origin(&self, entry: u32) -> Origin {
        let run = if self.blocks.is_empty() { self.runs.first() } else { self.find(entry) };
        run.map_or(Origin::default(), |run| run.origin(entry))
    }

    /// The line of the first entry, and by how much it goes up with each, if it does so all the way.
    pub(super) fn lines(&self) -> Option<(u32, u8)> {
        match &self.runs[..] {
            [run] => Some((run.line, run.steps.line)),
            _ => None,
        }
    }

    /// The note that all entries have, if they have the same.
    pub(super) fn note_of_all(&self) -> Option<u32> {
        let note = self.runs.first()?.note;
        let stays = |run: &Run| [run.first, run.first.wrapping_add(1)].into_iter().all(|entry| run.origin(entry).note == note);
        self.runs.iter().all(stays).then_some(note)
    }

    /// The run of an entry.
    #[inline(never)]
    fn find(&self, entry: u32) -> Option<&Run> {
        let block = entry as usize / BLOCK;
        let begin = *self.blocks.get(block)? as usize;
        // The run with which the next block begins may begin in this one.
        let end = self.blocks.get(block + 1).map_or(self.runs.len(), |last| (*last as usize).saturating_add(1));
        let runs = self.runs.get(begin..end)?;
        runs.get(runs.partition_point(|run| run.first <= entry).checked_sub(1)?)
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.runs.len()
    }

    #[cfg(test)]
    pub(super) fn damage(&mut self, block: usize, run: u32) {
        *self.blocks.to_mut().get_mut(block).unwrap() = run;
    }
}

impl Stored for Runs {
    fn store(&self, image: &mut Writer) {
        self.runs.store(image);
        self.blocks.store(image);
    }

    fn restore(image: &mut Reader) -> Option<Runs> {
        Some(Runs { runs: Flat::restore(image)?, blocks: Flat::restore(image)? })
    }
}
