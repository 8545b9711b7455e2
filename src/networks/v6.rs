//! The IPv6 table: the upper half of an address in one run of lines, found through an index that has as many bits below the
//! upper 16 as there are lines to tell apart; and for each upper half that has more than one answer, because networks in it
//! are longer than /64, a run over the lower half.
//!
//! ```text
//!   top    [upper 16 bits]   ->  where its part of the index begins, and how many more bits it goes by
//!   index  [those bits]      ->  the last line that begins at or before them
//!   first  [a few lines]         first number of each line
//!   lines  [one of them]         5 pieces: upper half, size, cover; and the background
//!   runs   [of a piece]      ->  lines over the lower half
//! ```
//!
//! Networks lie in clusters, which an index of fixed width could not tell apart. A look-up reads one slot each of the top and
//! the index, and one line, or two. About 30 bytes a network.

use super::cover::Cover;
use super::intervals::Interval;
use super::runs::{self, OPEN, Step, Value, rank};
use crate::memory::{Watch, room};

/// Pieces of a line.
const PIECES: usize = 5;
/// Most bits of the index below the upper 16.
const MAX_BITS: u32 = 32;
/// The size of a piece that lasts until the next one: more than there are numbers.
const TO_THE_NEXT: u8 = 64;
/// Set in the size of a piece that leads to a run.
const RUN: u8 = 1 << 7;

/// Five pieces. Those that are not used come last, are at the last number there is, and say what holds there.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Line {
    starts: [u64; PIECES],
    background: u32,
    /// The lower and upper bits of the covers, as [`Cover::packed`] has them, or of the number of a run.
    lower: [u16; PIECES],
    upper: [u8; PIECES],
    sizes: [u8; PIECES],
}

const _: () = assert!(size_of::<Line>() == 64, "a cache line, without holes");

/// Where the part of the index for some upper 16 bits begins, and how many more bits it goes by.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Top {
    begin: u32,
    bits: u32,
}

/// Lines over the lower half.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Run {
    begin: u32,
    lines: u32,
}

/// All IPv6 rules.
#[derive(Clone, Debug)]
pub(super) struct Table {
    top: Vec<Top>,
    index: Vec<u32>,
    first: Vec<u64>,
    lines: Vec<Line>,
    runs: Vec<Run>,
    /// The values of each line, if there are some that the lines have no room for.
    wide: Vec<[u32; PIECES]>,
}

impl Table {
    pub(super) fn new(intervals: &[Interval<u128>]) -> Table {
        // There are fewer runs than intervals.
        let fits = intervals.len() < 1 << 23 && intervals.iter().all(|interval| interval.cover.packed().is_some());
        Table::of(intervals, !fits)
    }

    /// As [`Table::new`]; a table that `is_wide` works for all covers.
    pub(super) fn of(intervals: &[Interval<u128>], is_wide: bool) -> Table {
        let mut table =
            Table { top: Vec::new(), index: Vec::new(), first: Vec::new(), lines: Vec::new(), runs: Vec::new(), wide: Vec::new() };
        if intervals.is_empty() {
            return table;
        }
        let upper = table.push_lower_halves(intervals, is_wide);
        let lower = std::mem::take(&mut table.lines);
        let lower_wide = std::mem::take(&mut table.wide);
        table.push_lines(&upper, is_wide, true);
        // The runs over lower halves come behind.
        let before = u32::try_from(table.lines.len()).unwrap_or(u32::MAX);
        table.runs.iter_mut().for_each(|run| run.begin = run.begin.saturating_add(before));
        if room(&mut table.lines, lower.len()) && room(&mut table.wide, lower_wide.len()) {
            table.lines.extend(lower);
            table.wide.extend(lower_wide);
        }
        table.push_index();
        table
    }

    /// Makes runs over the lower halves, where there is more than one answer. What remains goes by the upper half.
    fn push_lower_halves(&mut self, intervals: &[Interval<u128>], is_wide: bool) -> Vec<Step<u64>> {
        let mut upper: Vec<Step<u64>> = Vec::new();
        let (mut covering, watch) = (Cover::NONE, Watch::begin());
        let mut steps = Vec::new();
        // Before the first interval nothing holds.
        if intervals.first().is_some_and(|interval| interval.start != 0) {
            upper.push(Step { start: 0, value: Value::Cover(Cover::NONE) });
        }
        for group in intervals.chunk_by(|one, next| one.start >> 64 == next.start >> 64) {
            let Some(Interval { start, cover }) = group.first() else { continue };
            let half = (start >> 64) as u64;
            if watch.is_short() || !room(&mut upper, 2) {
                break;
            }
            // The half after one with a run goes by what holds at its end.
            let after = upper.last().and_then(|last| matches!(last.value, Value::Run(_)).then(|| last.start.checked_add(1)).flatten());
            if let Some(after) = after.filter(|after| *after != half) {
                upper.push(Step { start: after, value: Value::Cover(covering) });
            }
            if group.len() == 1 && start & u128::from(u64::MAX) == 0 {
                upper.push(Step { start: half, value: Value::Cover(*cover) });
                covering = *cover;
                continue;
            }
            steps.clear();
            if start & u128::from(u64::MAX) != 0 {
                steps.push(Step { start: 0, value: Value::Cover(covering) });
            }
            steps.extend(group.iter().map(|interval| Step { start: low(interval.start), value: Value::Cover(interval.cover) }));
            covering = group.last().map_or(covering, |interval| interval.cover);
            let begin = self.lines.len();
            self.push_lines(&steps, is_wide, false);
            let lines = self.lines.len() - begin;
            if room(&mut self.runs, 1) {
                let number = u32::try_from(self.runs.len()).unwrap_or(u32::MAX);
                self.runs.push(Run { begin: u32::try_from(begin).unwrap_or(0), lines: u32::try_from(lines).unwrap_or(0) });
                upper.push(Step { start: half, value: Value::Run(number) });
            }
        }
        let after = upper.last().and_then(|last| matches!(last.value, Value::Run(_)).then(|| last.start.checked_add(1)).flatten());
        upper.extend(after.map(|start| Step { start, value: Value::Cover(covering) }));
        upper
    }

    fn push_lines(&mut self, steps: &[Step<u64>], is_wide: bool, indexed: bool) {
        runs::lines(steps, 0, |line: &runs::Line<'_, u64, PIECES>| {
            if !room(&mut self.lines, 1) || indexed && !room(&mut self.first, 1) || is_wide && !room(&mut self.wide, 1) {
                return;
            }
            let last = packed(line.last, is_wide);
            let mut packed_line = Line {
                starts: [u64::MAX; PIECES],
                background: line.background.number(),
                lower: [last.0; PIECES],
                upper: [last.1; PIECES],
                sizes: [TO_THE_NEXT | run_flag(line.last); PIECES],
            };
            let Line { starts, lower, upper, sizes, .. } = &mut packed_line;
            let places = starts.iter_mut().zip(lower).zip(upper).zip(sizes);
            for ((((start, lower), upper), size), piece) in places.zip(line.pieces) {
                *start = piece.start;
                (*lower, *upper) = packed(piece.value, is_wide);
                *size = if piece.size == OPEN { TO_THE_NEXT } else { piece.size } | run_flag(piece.value);
            }
            self.lines.push(packed_line);
            if indexed {
                self.first.push(line.start);
            }
            if is_wide {
                let mut values = [number(line.last); PIECES];
                values.iter_mut().zip(line.pieces).for_each(|(value, piece)| *value = number(piece.value));
                self.wide.push(values);
            }
        });
    }

    /// Makes the index over the lines of the upper half.
    fn push_index(&mut self) {
        if !room(&mut self.top, 1 << 16) {
            return;
        }
        let mut at = 0;
        let line_of = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        for top in 0..1u64 << 16 {
            let begin = |first: &&u64| **first >> 48 <= top;
            let inside = self.first.get(at + 1..).unwrap_or(&[]).iter().take_while(begin).count();
            // About two slots a line, if lines were spread evenly.
            let bits = (usize::BITS - inside.leading_zeros()).min(MAX_BITS);
            if !room(&mut self.index, 1 << bits) {
                return;
            }
            self.top.push(Top { begin: line_of(self.index.len()), bits });
            for slot in 0..1u64 << bits {
                let key = top << 48 | (slot << 1) << (47 - bits);
                while self.first.get(at + 1).is_some_and(|first| *first <= key) {
                    at += 1;
                }
                self.index.push(line_of(at));
            }
            // On to the last line that begins here.
            while self.first.get(at + 1).is_some_and(|first| *first >> 48 <= top) {
                at += 1;
            }
        }
        if room(&mut self.index, 1) {
            self.index.push(line_of(at));
        }
    }

    /// What covers an address.
    #[inline]
    pub(super) fn get(&self, address: u128) -> Cover {
        let half = (address >> 64) as u64;
        let (value, is_run) = self.line(half).and_then(|at| self.look(at, half)).unwrap_or_default();
        if !is_run { Cover::of_number(value) } else { self.lower(value, low(address)) }
    }

    /// The line that an upper half lies in.
    #[inline]
    fn line(&self, half: u64) -> Option<usize> {
        let Top { begin, bits } = *self.top.get((half >> 48) as usize)?;
        let slot = begin as usize + ((half << 16) >> 1 >> (63 - (bits & 63))) as usize;
        let (mut at, last) = (*self.index.get(slot)? as usize, *self.index.get(slot + 1)? as usize);
        // The line is one of these.
        let mut lines = (last + 1).saturating_sub(at);
        while lines > 1 {
            let middle = lines / 2;
            let later = *self.first.get(at + middle)? <= half;
            at = std::hint::select_unpredictable(later, at + middle, at);
            lines -= middle;
        }
        Some(at)
    }

    /// What a line says about a number: a cover, or a run if it `is_run`.
    #[inline]
    fn look(&self, at: usize, number: u64) -> Option<(u32, bool)> {
        let line = self.lines.get(at)?;
        let before = rank(&line.starts, number);
        let piece = before.max(1) - 1;
        let (start, size) = (line.starts.get(piece)?, line.sizes.get(piece)?);
        let distance = number.wrapping_sub(*start).checked_shr(u32::from(size & !RUN)).unwrap_or(0);
        let inside = distance == 0 && before > 0;
        let is_run = size & RUN != 0;
        let value = if self.wide.is_empty() {
            let packed = u32::from(*line.lower.get(piece)?) | u32::from(*line.upper.get(piece)?) << 16;
            if is_run { packed } else { Cover::of_packed(packed).number() }
        } else {
            *self.wide.get(at)?.get(piece)?
        };
        Some(if inside { (value, is_run) } else { (line.background, false) })
    }

    /// What the run with that number says about a lower half.
    fn lower(&self, run: u32, half: u64) -> Cover {
        let Some(Run { begin, lines }) = self.runs.get(run as usize) else { return Cover::NONE };
        let (begin, end) = (*begin as usize, *begin as usize + *lines as usize);
        // Each line but the first begins with a piece.
        let others = self.lines.get(begin + 1..end).unwrap_or(&[]);
        let at = begin + others.partition_point(|line| line.starts[0] <= half);
        match self.look(at, half) {
            Some((value, false)) => Cover::of_number(value),
            _ => Cover::NONE,
        }
    }

    /// Whether nothing is covered.
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// How much memory it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let index = size_of_val(&self.top[..]) + size_of_val(&self.index[..]) + size_of_val(&self.first[..]);
        index + size_of_val(&self.lines[..]) + size_of_val(&self.runs[..]) + size_of_val(&self.wide[..])
    }
}

/// The lower half of an address.
fn low(address: u128) -> u64 {
    u64::try_from(address & u128::from(u64::MAX)).unwrap_or(0)
}

fn run_flag(value: Value) -> u8 {
    if matches!(value, Value::Run(_)) { RUN } else { 0 }
}

fn packed(value: Value, is_wide: bool) -> (u16, u8) {
    let packed = match value {
        _ if is_wide => 0,
        Value::Cover(cover) => cover.packed().unwrap_or(0),
        Value::Run(number) => number,
    };
    ((packed & 0xffff) as u16, (packed >> 16 & 0xff) as u8)
}

fn number(value: Value) -> u32 {
    match value {
        Value::Cover(cover) => cover.number(),
        Value::Run(number) => number,
    }
}
