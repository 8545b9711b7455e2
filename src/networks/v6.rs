//! The IPv6 table: the upper half of an address in one run of lines, which an index finds (`index`); and for each upper half
//! that has more than one answer, because networks in it are longer than /64, a run over the lower half.
//!
//! ```text
//!   index  [upper half]   ->  the line in which it lies
//!   lines  [that one]         5 pieces: upper half, size, cover; and the background
//!   lines  [of a piece]       the same over the lower half
//! ```
//!
//! Networks of IPv6 lie in clusters: a root over some upper bits, as IPv4 has it, could not tell them apart. About 30 bytes a
//! network.

use super::cover::Cover;
use super::index::Index;
use super::intervals::Interval;
use super::runs::{self, OPEN, Step, Value};
use crate::flat::Flat;
use crate::image::{Reader, Stored, Writer};
use crate::memory::{Watch, room};
use bytemuck::{Pod, Zeroable};

/// Pieces of a line.
const PIECES: usize = 5;
/// The size of a piece that lasts until the next one: more than there are numbers.
const TO_THE_NEXT: u8 = 64;
/// Set in the size of a piece that leads to a run, whose first line is its value. It is one upper half, so that the rest of
/// its size can say that the run has 2^size lines; those that are not needed are like the last one.
const RUN: u8 = 1 << 7;

/// Five pieces. Those that are not used come last, are at the last number there is, and say what holds there.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
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

/// What a line says about a number.
enum Look {
    Cover(Cover),
    /// A run that begins in a line and has 2^size lines.
    Run(usize, u8),
}

/// All IPv6 rules.
#[derive(Clone, Debug)]
pub(super) struct Table {
    index: Index,
    /// The runs over lower halves, and from the line `upper` on the one over the upper half.
    lines: Flat<Line>,
    upper: usize,
    /// The values of each line, if there are some that the lines have no room for.
    wide: Flat<[u32; PIECES]>,
}

impl Table {
    pub(super) fn new(intervals: &[Interval<u128>]) -> Table {
        // There are fewer lines than twice the intervals.
        let fits = intervals.len() < 1 << 23 && intervals.iter().all(|interval| interval.cover.packed().is_some());
        Table::of(intervals, !fits)
    }

    /// As [`Table::new`]; a table that `is_wide` works for all covers.
    pub(super) fn of(intervals: &[Interval<u128>], is_wide: bool) -> Table {
        let (Parts { lines, wide }, first) = Parts::of(intervals, is_wide);
        let upper = lines.len() - first.len();
        Table { index: Index::new(&first), lines: lines.into(), upper, wide: wide.into() }
    }

    /// What covers an address.
    #[inline]
    pub(super) fn get(&self, address: u128) -> Cover {
        let half = (address >> 64) as u64;
        match self.index.find(half).and_then(|at| self.look(self.upper.wrapping_add(at), half)) {
            Some(Look::Cover(cover)) => cover,
            Some(Look::Run(at, size)) => self.lower(at, size, low(address)),
            None => Cover::NONE,
        }
    }

    /// What a line says about a number.
    #[inline]
    fn look(&self, at: usize, number: u64) -> Option<Look> {
        let line = self.lines.get(at)?;
        let before = line.starts.iter().map(|start| usize::from(*start <= number)).sum::<usize>();
        let piece = before.max(1) - 1;
        let (distance, size) = (number.wrapping_sub(*line.starts.get(piece)?), *line.sizes.get(piece)?);
        let value = if self.wide.is_empty() {
            u32::from(*line.lower.get(piece)?) | u32::from(*line.upper.get(piece)?) << 16
        } else {
            *self.wide.get(at)?.get(piece)?
        };
        if size & RUN != 0 && before > 0 && distance == 0 {
            return Some(Look::Run(value as usize, size & !RUN));
        }
        let open = (size & TO_THE_NEXT != 0) & (size & RUN == 0);
        let width = if size & RUN == 0 { size & (TO_THE_NEXT - 1) } else { 0 };
        let inside = (open | (distance >> width == 0)) & (before > 0) & (size & RUN == 0);
        let cover = if self.wide.is_empty() { Cover::of_packed(value).number() } else { value };
        // Inside or not, one is as likely as the other: a branch would be guessed wrong half of the time.
        let mask = u32::from(inside).wrapping_neg();
        Some(Look::Cover(Cover::of_number(cover & mask | line.background & !mask)))
    }

    /// What the run that begins in a line, of 2^size lines, says about a lower half.
    fn lower(&self, begin: usize, size: u8, half: u64) -> Cover {
        let lines = 1_usize.checked_shl(size.into()).and_then(|lines| self.lines.get(begin..begin.checked_add(lines)?));
        // Each line but the first begins with a piece.
        let others = lines.and_then(|lines| lines.get(1..)).unwrap_or(&[]);
        let at = begin + others.partition_point(|line| line.starts[0] <= half);
        match self.look(at, half) {
            Some(Look::Cover(cover)) => cover,
            _ => Cover::NONE,
        }
    }

    /// Whether nothing is covered.
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// How much memory it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.index.bytes() + size_of_val(&self.lines[..]) + size_of_val(&self.wide[..])
    }
}

/// The arrays in the making.
#[derive(Debug, Default)]
struct Parts {
    lines: Vec<Line>,
    wide: Vec<[u32; PIECES]>,
}

impl Parts {
    /// The arrays, and the first number of each line over the upper half.
    fn of(intervals: &[Interval<u128>], is_wide: bool) -> (Parts, Vec<u64>) {
        let (mut parts, mut first) = (Parts::default(), Vec::new());
        if intervals.is_empty() {
            return (parts, first);
        }
        let upper = parts.push_lower_halves(intervals, is_wide);
        parts.push_lines(&upper, is_wide, Some(&mut first));
        (parts, first)
    }

    /// Makes runs over the lower halves, where there is more than one answer. What remains goes by the upper half.
    fn push_lower_halves(&mut self, intervals: &[Interval<u128>], is_wide: bool) -> Vec<Step<u64>> {
        let mut upper: Vec<Step<u64>> = Vec::new();
        let (mut covering, watch) = (Cover::NONE, Watch::begin());
        let mut steps = Vec::new();
        // The half after one with a run goes by what holds at the end of that run.
        let after_run = |upper: &[Step<u64>]| match upper.last() {
            Some(Step { start, value: Value::Run(..) }) => start.checked_add(1),
            _ => None,
        };
        // Before the first interval nothing holds.
        if intervals.first().is_some_and(|interval| interval.start != 0) {
            upper.push(Step { start: 0, value: Value::Cover(Cover::NONE) });
        }
        for group in intervals.chunk_by(|one, next| one.start >> 64 == next.start >> 64) {
            let Some(Interval { start, cover }) = group.first().copied() else { continue };
            let half = (start >> 64) as u64;
            if watch.is_short() || !room(&mut upper, 2) {
                break;
            }
            let after = after_run(&upper).filter(|after| *after != half);
            upper.extend(after.map(|start| Step { start, value: Value::Cover(covering) }));
            if group.len() == 1 && start & u128::from(u64::MAX) == 0 {
                upper.push(Step { start: half, value: Value::Cover(cover) });
                covering = cover;
                continue;
            }
            steps.clear();
            if start & u128::from(u64::MAX) != 0 {
                steps.push(Step { start: 0, value: Value::Cover(covering) });
            }
            steps.extend(group.iter().map(|interval| Step { start: low(interval.start), value: Value::Cover(interval.cover) }));
            covering = group.last().map_or(covering, |interval| interval.cover);
            let run = self.push_run(&steps, is_wide);
            upper.push(Step { start: half, value: run });
        }
        upper.extend(after_run(&upper).map(|start| Step { start, value: Value::Cover(covering) }));
        upper
    }

    /// A run over a lower half. The last line is repeated, so that there are 2^size.
    fn push_run(&mut self, steps: &[Step<u64>], is_wide: bool) -> Value {
        let begin = self.lines.len();
        self.push_lines(steps, is_wide, None);
        let lines = self.lines.len() - begin;
        let more = lines.next_power_of_two() - lines;
        if room(&mut self.lines, more) && room(&mut self.wide, more) {
            let (last, last_wide) = (self.lines.last().copied(), self.wide.last().copied());
            self.lines.extend(std::iter::repeat_n(last, more).flatten());
            self.wide.extend(std::iter::repeat_n(last_wide, more).flatten());
        }
        let size = u8::try_from(lines.next_power_of_two().trailing_zeros()).unwrap_or(0);
        Value::Run(u32::try_from(begin).unwrap_or(u32::MAX), size)
    }

    fn push_lines(&mut self, steps: &[Step<u64>], is_wide: bool, mut first: Option<&mut Vec<u64>>) {
        runs::lines(steps, 0, |line: &runs::Line<'_, u64, PIECES>| {
            let first_room = first.as_mut().is_none_or(|first| room(first, 1));
            if !first_room || !room(&mut self.lines, 1) || is_wide && !room(&mut self.wide, 1) {
                return;
            }
            let last = line.last.packed(is_wide);
            let mut packed_line = Line {
                starts: [u64::MAX; PIECES],
                background: line.background.number(),
                lower: [last.0; PIECES],
                upper: [last.1; PIECES],
                sizes: [size_or_run(line.last, TO_THE_NEXT); PIECES],
            };
            let Line { starts, lower, upper, sizes, .. } = &mut packed_line;
            let places = starts.iter_mut().zip(lower).zip(upper).zip(sizes);
            for ((((start, lower), upper), size), piece) in places.zip(line.pieces) {
                *start = piece.start;
                (*lower, *upper) = piece.value.packed(is_wide);
                *size = size_or_run(piece.value, if piece.size == OPEN { TO_THE_NEXT } else { piece.size });
            }
            self.lines.push(packed_line);
            if let Some(first) = &mut first {
                first.push(line.start);
            }
            if is_wide {
                let mut values = [line.last.number(); PIECES];
                values.iter_mut().zip(line.pieces).for_each(|(value, piece)| *value = piece.value.number());
                self.wide.push(values);
            }
        });
    }
}

impl Stored for Table {
    fn store(&self, image: &mut Writer) {
        let Table { index, lines, upper, wide } = self;
        index.store(image);
        lines.store(image);
        image.number(*upper as u64);
        wide.store(image);
    }

    fn restore(image: &mut Reader) -> Option<Table> {
        let index = Index::restore(image)?;
        let (lines, upper) = (Flat::restore(image)?, usize::try_from(image.number()?).ok()?);
        Some(Table { index, lines, upper, wide: Flat::restore(image)? })
    }
}

/// The lower half of an address.
fn low(address: u128) -> u64 {
    u64::try_from(address & u128::from(u64::MAX)).unwrap_or(0)
}

/// The size of a piece, or what stands in its place if it leads to a run.
fn size_or_run(value: Value, size: u8) -> u8 {
    match value {
        Value::Cover(_) => size,
        Value::Run(_, lines) => RUN | lines,
    }
}
