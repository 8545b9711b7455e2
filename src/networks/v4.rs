//! The IPv4 table: a root over the upper 16 bits of an address, and for each of them that has more than one answer a run
//! of lines, each of them one cache line of the processor.
//!
//! ```text
//!   root  [upper 16 bits]  ->  the cover, or where the run begins
//!   first [lines of the run]   first number of each line but the first, which has in its place how many follow
//!   lines [one of them]        10 pieces: lower 16 bits, size, cover; and the background
//! ```
//!
//! A look-up reads the root (256 KiB), the first numbers of the run (2 bytes a line, so that they stay in a cache near the
//! processor) and one line of the large table. About 8 bytes a network where networks lie apart, as clients in block lists do.
//! What lines have to spare tells how long the prefixes of entries are (`lengths`), so that a refusal reads no more than this.

use super::cover::{Cover, EntryId};
use super::intervals::Interval;
use super::lengths::{self, TO_THE_NEXT};
use super::rank::{rank_of_9, rank_of_16};
use super::runs::{self, Cutter, OPEN, Step, Value, Word};
use crate::flat::Flat;
use crate::image::{Reader, Stored, Writer};
use crate::memory::{Watch, room, with_room};
use bytemuck::{Pod, Zeroable};
use std::hint::select_unpredictable;
use std::mem;

/// Pieces of a line.
const PIECES: usize = 10;
/// So many lines are compared at once.
const AT_ONCE: usize = 16;
/// An entry of the root that leads to a run.
const RUN: u32 = 1 << 31;

/// Ten pieces. Those that are not used come last, are at the last number there is, and say what holds there.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
pub(super) struct Line {
    starts: [u16; PIECES],
    /// The covers, as [`Cover::packed`] has them; above them sizes as powers of two, and lengths of prefixes (see `lengths`).
    pieces: [Word; PIECES],
    background: Word,
}

const _: () = assert!(size_of::<Line>() == 64, "a cache line, without holes");

impl Line {
    /// What it says about a number, and the length of that prefix; 0 if it does not say.
    #[inline(always)]
    fn find(&self, low: u16, background: Word) -> (Cover, u8) {
        let (_, word, inside) = self.piece(low);
        let length = select_unpredictable(inside, lengths::of_piece(word.tag()), background.tag());
        (select_unpredictable(inside, word, background).cover(), length)
    }

    /// The last piece that begins at a number or before it, and whether the number is in it.
    #[inline(always)]
    fn piece(&self, low: u16) -> (usize, Word, bool) {
        // What is before the first piece counts as part of it.
        let [_, later @ ..] = &self.starts;
        let piece = rank_of_9(later, low);
        let (Some(start), Some(word)) = (self.starts.get(piece), self.pieces.get(piece)) else {
            return (0, Word::default(), false);
        };
        // Before the first piece the distance is that to an earlier number than there is: larger than any size.
        (piece, *word, u32::from(low).wrapping_sub(u32::from(*start)) >> lengths::size(word.tag()) == 0)
    }
}

/// All IPv4 rules.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    root: Flat<u32>,
    first: Flat<u16>,
    lines: Flat<Line>,
    /// The covers of each line, the background last, if there are some that the lines have no room for.
    wide: Flat<[u32; PIECES + 1]>,
}

impl Table {
    /// A table of the intervals that `tell` tells the builder, in order. It is asked once more if lines have no room for some
    /// cover.
    pub(crate) fn new(mut tell: impl FnMut(&mut Builder)) -> Table {
        let mut table = |is_wide| {
            let mut builder = Builder::new(is_wide);
            tell(&mut builder);
            builder.finish()
        };
        table(false).or_else(|| table(true)).unwrap_or_default()
    }

    /// What covers an address.
    #[inline]
    pub(super) fn get(&self, address: u32) -> Cover {
        self.find(address).unwrap_or_default().0
    }

    /// What covers an address; and the length of the prefix, if it is one entry, of those that have been told by
    /// [`Table::tell_lengths`], and there was room for it; else 0.
    #[inline(always)]
    pub(super) fn get_with_length(&self, address: u32) -> (Cover, u8) {
        self.find(address).unwrap_or_default()
    }

    #[inline(always)]
    fn find(&self, address: u32) -> Option<(Cover, u8)> {
        let entry = *self.root.get((address >> 16) as usize)?;
        if entry & RUN == 0 {
            return Some((Cover::of_number(entry), 0));
        }
        let (run, low) = ((entry & !RUN) as usize, (address & 0xffff) as u16);
        if !self.wide.is_empty() {
            return self.find_beside(run, low);
        }
        let line = self.lines.get(self.line(run, low))?;
        Some(line.find(low, line.background))
    }

    /// As [`Table::find`] in a run, where covers stand beside the lines.
    #[cold]
    fn find_beside(&self, run: usize, low: u16) -> Option<(Cover, u8)> {
        Some((self.beside(self.line(run, low), low)?, 0))
    }

    /// What stands beside a line about a number.
    fn beside(&self, at: usize, low: u16) -> Option<Cover> {
        let (piece, _, inside) = self.lines.get(at)?.piece(low);
        Some(Cover::of_number(*self.wide.get(at)?.get(if inside { piece } else { PIECES })?))
    }

    /// Tells the table the lengths of the prefixes of entries; `length` has those of entries that always count.
    pub(super) fn tell_lengths(&mut self, length: impl Fn(EntryId) -> Option<u8>) {
        // There is no room for them beside large numbers.
        if !self.wide.is_empty() {
            return;
        }
        let of = |word: Word| word.cover().single().and_then(&length);
        for line in self.lines.to_mut().iter_mut() {
            for piece in &mut line.pieces {
                *piece = piece.tagged(lengths::marked(piece.tag(), of(*piece)));
            }
            line.background = line.background.tagged(of(line.background).unwrap_or(0));
        }
    }

    /// What covers each of some addresses. Those that have a run go from one step to the next together, so that the lines of all of
    /// them are on their way from memory when the first is needed. One after the other a processor sees three look-ups ahead.
    #[inline]
    pub(super) fn get_together<const N: usize>(&self, addresses: &[u32; N]) -> [Cover; N] {
        let entries = addresses.map(|address| self.root.get((address >> 16) as usize).copied().unwrap_or(0));
        // Which of them have a run, without a branch: half of the time it would be guessed wrong.
        let (mut with_run, mut count) = ([0; N], 0);
        for (number, entry) in entries.iter().enumerate() {
            if let Some(place) = with_run.get_mut(count) {
                *place = number;
            }
            count += usize::from(entry & RUN != 0);
        }
        let with_run = with_run.get(..count).unwrap_or_default();
        let mut lines = [(0, 0, Word::default()); N];
        for (line, number) in lines.iter_mut().zip(with_run) {
            let (Some(entry), Some(address)) = (entries.get(*number), addresses.get(*number)) else { continue };
            let low = (address & 0xffff) as u16;
            *line = (self.line((entry & !RUN) as usize, low), low, Word::default());
        }
        for (at, _, background) in lines.iter_mut().take(count) {
            *background = self.lines.get(*at).map_or(Word::default(), |line| line.background);
        }
        let mut covers = entries.map(Cover::of_number);
        for ((at, low, background), number) in lines.iter().zip(with_run) {
            let found =
                if self.wide.is_empty() { self.lines.get(*at).map(|line| line.find(*low, *background).0) } else { self.beside(*at, *low) };
            if let Some(place) = covers.get_mut(*number) {
                *place = found.unwrap_or_default();
            }
        }
        covers
    }

    /// The line of a run in which a number lies; beyond all lines if there is no such run.
    #[inline(always)]
    fn line(&self, at: usize, low: u16) -> usize {
        let Some([last, first @ ..]) = self.first.get(at..at + AT_ONCE + 1).and_then(<[u16]>::first_chunk::<{ AT_ONCE + 1 }>) else {
            return usize::MAX;
        };
        let last = usize::from(*last);
        if last >= AT_ONCE {
            return self.line_of_many(at, last + 1, low).unwrap_or(usize::MAX);
        }
        // What stands behind the run does not count.
        at + rank_of_16(first, low, last)
    }

    /// The line of a run of more than are compared at once.
    fn line_of_many(&self, mut at: usize, mut lines: usize, low: u16) -> Option<usize> {
        while lines > AT_ONCE {
            let half = lines / 2;
            let later = *self.first.get(at + half)? <= low;
            at = select_unpredictable(later, at + half, at);
            lines -= half;
        }
        let first: &[u16; AT_ONCE] = self.first.get(at + 1..at + 1 + AT_ONCE)?.first_chunk()?;
        Some(at + rank_of_16(first, low, lines.saturating_sub(1)))
    }

    /// Gives back the room that its lines do not need. They are there twice while they are moved: lines of the processor's
    /// cache are aligned, and such arrays cannot shrink in place.
    pub(super) fn shrink(&mut self) {
        self.lines.to_mut().shrink_to_fit();
    }

    /// Whether nothing is covered.
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.root.iter().all(|entry| *entry == 0)
    }

    /// How much memory it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&self.root[..]) + size_of_val(&self.first[..]) + size_of_val(&self.lines[..]) + size_of_val(&self.wide[..])
    }
}

/// The table in the making.
#[derive(Debug)]
pub(crate) struct Builder {
    root: Vec<u32>,
    first: Vec<u16>,
    lines: Vec<Line>,
    wide: Vec<[u32; PIECES + 1]>,
    is_wide: bool,
    /// Whether the lines have room for all covers.
    fits: bool,
    /// What there is to be said about the current upper 16 bits, and what holds behind it.
    steps: Vec<Step<u16>>,
    covering: Cover,
    watch: Watch,
}

impl Builder {
    /// Makes a table that works for all covers if it `is_wide`.
    pub(super) fn new(is_wide: bool) -> Builder {
        let root = with_room(1 << 16);
        let (first, lines, wide, steps) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Builder { root, first, lines, wide, is_wide, fits: true, steps, covering: Cover::NONE, watch: Watch::begin() }
    }

    /// Takes the next interval.
    #[inline]
    pub(crate) fn push(&mut self, Interval { start, cover }: Interval<u32>) {
        self.fits &= self.is_wide || cover.packed().is_some();
        if !self.fits || self.watch.is_short() {
            return;
        }
        self.go_on((start >> 16) as usize);
        let start = (start & 0xffff) as u16;
        if start != 0 && self.steps.is_empty() {
            self.steps.push(Step { start: 0, value: Value::Cover(self.covering) });
        }
        self.steps.push(Step { start, value: Value::Cover(cover) });
        self.covering = cover;
    }

    /// Ends all upper 16 bits before these.
    #[inline]
    fn go_on(&mut self, upper: usize) {
        while self.root.len() < upper.min(self.root.capacity()) {
            let steps = mem::take(&mut self.steps);
            if steps.len() < 2 {
                self.root.push(self.covering.number());
            } else {
                self.push_run(&steps);
            }
            self.steps = steps;
            self.steps.clear();
        }
    }

    /// The table, if the lines had room for all covers.
    pub(super) fn finish(mut self) -> Option<Table> {
        self.go_on(1 << 16);
        // So that as many can be read behind the last one as are compared at once.
        if room(&mut self.first, AT_ONCE) {
            self.first.extend([0; AT_ONCE]);
        }
        self.first.shrink_to_fit();
        self.wide.shrink_to_fit();
        let Builder { root, first, lines, wide, fits, .. } = self;
        fits.then(|| Table { root: root.into(), first: first.into(), lines: lines.into(), wide: wide.into() })
    }

    fn push_run(&mut self, steps: &[Step<u16>]) {
        let is_wide = self.is_wide;
        let (begin, begin_first) = (self.lines.len(), self.first.len());
        let push = |line: &runs::Line<'_, u16, PIECES>| {
            if !room(&mut self.lines, 1) || !room(&mut self.first, 1) || is_wide && !room(&mut self.wide, 1) {
                return;
            }
            let mut packed_line = Line {
                starts: [u16::MAX; PIECES],
                pieces: [Word::new(line.last, is_wide, TO_THE_NEXT); PIECES],
                background: Word::new(Value::Cover(line.background), is_wide, 0),
            };
            for ((start, word), piece) in packed_line.starts.iter_mut().zip(&mut packed_line.pieces).zip(line.pieces) {
                *start = piece.start;
                *word = Word::new(piece.value, is_wide, if piece.size == OPEN { TO_THE_NEXT } else { piece.size });
            }
            self.lines.push(packed_line);
            self.first.push(line.start);
            if is_wide {
                let mut covers = [line.last.number(); PIECES + 1];
                let [pieces @ .., background] = &mut covers;
                pieces.iter_mut().zip(line.pieces).for_each(|(cover, piece)| *cover = piece.value.number());
                *background = line.background.number();
                self.wide.push(covers);
            }
        };
        Cutter::new(true).lines(steps, Some(0), |_, _| true, push);
        if let Some(first) = self.first.get_mut(begin_first) {
            // There are at most 65,536 pieces, so at most 6,554 lines.
            *first = u16::try_from(self.lines.len() - begin - 1).unwrap_or(0);
        }
        // There are fewer lines than boundaries, which are at most twice as many as entries.
        self.root.push(RUN | u32::try_from(begin).unwrap_or(0));
    }
}

impl Stored for Table {
    fn store(&self, image: &mut Writer) {
        let Table { root, first, lines, wide } = self;
        root.store(image);
        first.store(image);
        lines.store(image);
        wide.store(image);
    }

    fn restore(image: &mut Reader) -> Option<Table> {
        let (root, first) = (Flat::restore(image)?, Flat::restore(image)?);
        Some(Table { root, first, lines: Flat::restore(image)?, wide: Flat::restore(image)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_root_leads_to_nothing() {
        let lost = Table { root: vec![RUN | 5; 1 << 16].into(), ..Table::default() };
        let addresses = [0, 0xc000_0201, u32::MAX];
        assert_eq!(addresses.map(|address| lost.get(address)), [Cover::NONE; 3]);
        assert_eq!(lost.get_together(&addresses), [Cover::NONE; 3]);
    }
}
