//! The IPv6 table: the upper half of an address in one run of lines, which an index finds (`index`); and for each upper half
//! that has more than one answer, because networks in it are longer than /64, what holds in its lower half.
//!
//! ```text
//!   index  [upper half]   ->  the line in which it lies
//!   lines  [that one]         7 pieces: 32 bits of the upper half, size, cover; and the background
//!   lower  [of a piece]       an address, its cover, and that of all others; or how many of these follow
//! ```
//!
//! Networks of IPv6 lie in clusters: a root over some upper bits, as IPv4 has it, could not tell them apart. Within a line
//! they share most of their bits: those of one provider the first ones, large ones the last, which are 0. About 16 bytes a
//! network.
//!
//! Every look-up takes the same steps, and nothing is guessed from what was read: a processor begins the next ones while it waits
//! for the memory of the first. So the answers for lower halves are read in any case; where there is no need, it is the first
//! of them, which is always near.

use super::cover::Cover;
use super::index::Index;
use super::intervals::Interval;
use super::rank::rank_of_few;
use super::runs::{self, Cutter, OPEN, Piece, Step, Value, Word};
use crate::flat::Flat;
use crate::image::{Reader, Stored, Writer};
use crate::memory::{Watch, room, with_room};
use bytemuck::{Pod, Zeroable};
use std::hint::select_unpredictable;

/// Pieces of a line.
const PIECES: usize = 7;
/// Values of a line: those of its pieces, and what holds between them.
const VALUES: usize = PIECES + 1;
/// The size of a piece that lasts until the next one: more than there are numbers.
const TO_THE_NEXT: u8 = 64;
/// The size of a piece of one upper half that leads to what holds in its lower half. Else as 0.
const LOWER: u8 = 1 << 7;
/// Set in an answer for a lower half that has more of them, which follow.
const MORE: u32 = 1 << 31;
/// Lines are cut from so many steps at a time.
const STEPS: usize = 1 << 10;

/// Seven pieces, of which the first begins with the line. Those that are not used are like the last one.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
pub(super) struct Line {
    /// Upper halves, without their last bits, which are 0, and the first 32 of the others, which they share.
    starts: [u32; PIECES],
    shared: u32,
    /// The covers, as [`Cover::packed`] has them, or numbers of lower halves; above them the sizes. The tag of the last one says
    /// how many bits the starts lack.
    values: [Word; VALUES],
}

const _: () = assert!(size_of::<Line>() == 64, "a cache line, without holes");

/// What holds in the lower half of one upper half: mostly one answer for one address, another for the others.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
struct Lower {
    /// The address; or how many of these follow, each of which holds until the next one.
    host: u64,
    /// What holds for it.
    here: u32,
    elsewhere: u32,
}

/// All IPv6 rules.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    index: Index,
    lines: Flat<Line>,
    /// What the pieces of one upper half lead to. The first is that of all other pieces.
    lower: Flat<Lower>,
    /// The values of each line, if there are some that the lines have no room for.
    wide: Flat<[u32; VALUES]>,
}

impl Table {
    /// A table of the intervals that `tell` tells the builder, of about so many networks, in order. It is asked once more if lines
    /// have no room for some cover.
    pub(crate) fn new(networks: usize, mut tell: impl FnMut(&mut Builder)) -> Table {
        let mut table = |is_wide| {
            let mut builder = Builder::new(networks, is_wide);
            tell(&mut builder);
            builder.finish()
        };
        table(false).or_else(|| table(true)).unwrap_or_default()
    }

    /// What covers an address.
    #[inline]
    pub(super) fn get(&self, address: u128) -> Cover {
        let half = (address >> 64) as u64;
        let found = self.index.find(half).and_then(|at| self.in_line(half, at));
        let Some((value, at)) = found else { return Cover::NONE };
        let Some(lower) = self.lower.get(at) else { return Cover::NONE };
        self.in_lower(address, value, at, lower)
    }

    /// What covers each of some addresses, which go from one step to the next together, as those of IPv4 do.
    #[inline]
    pub(super) fn get_together<const N: usize>(&self, addresses: &[u128; N]) -> [Cover; N] {
        let halves = addresses.map(|address| (address >> 64) as u64);
        let Some(places) = self.index.find_together(&halves) else { return [Cover::NONE; N] };
        let touched = places.map(|(half, at)| (half, at, self.lines.get(at).map_or(0, |line| line.shared)));
        let values = touched.map(|(half, at, _)| self.in_line(half, at).unwrap_or_default());
        let lower = values.map(|(value, at)| (value, at, self.lower.get(at).copied().unwrap_or_default()));
        let mut addresses = addresses.iter();
        lower.map(|(value, at, lower)| self.in_lower(addresses.next().copied().unwrap_or(0), value, at, &lower))
    }

    /// What a line says about an upper half: the value, and where the answers for its lower half stand. If it has none, the first
    /// there are: they are read in any case, and which is meant is not guessed.
    #[inline(always)]
    fn in_line(&self, number: u64, at: usize) -> Option<(u32, usize)> {
        let line = self.lines.get(at)?;
        let [pieces @ .., around] = &line.values;
        let (shared, cut) = (u64::from(line.shared) << 32, around.tag() & 63);
        // Whatever is beyond the last start that can be written is beyond all of them.
        let ahead = u32::try_from((number >> cut).wrapping_sub(shared)).unwrap_or(u32::MAX);
        let before = rank_of_few(&line.starts, |start| start <= ahead);
        let piece = before.saturating_sub(1);
        let (start, word) = ((shared | u64::from(*line.starts.get(piece)?)) << cut, *pieces.get(piece)?);
        let size = word.tag();
        let is_open = size & TO_THE_NEXT != 0;
        let inside = is_open | (number.wrapping_sub(start) >> (size & (TO_THE_NEXT - 1)) == 0);
        // Inside or not, one is as likely as the other: a branch would be guessed wrong half of the time.
        let word = select_unpredictable(inside, word, *around);
        let value =
            if self.wide.is_empty() { word.value() } else { *self.wide.get(at)?.get(select_unpredictable(inside, piece, PIECES))? };
        Some((value, select_unpredictable(word.tag() & LOWER != 0, value as usize, 0)))
    }

    /// What a value says about an address, and those answers for its lower half. Those of all others stand at 0.
    #[inline(always)]
    fn in_lower(&self, address: u128, value: u32, at: usize, lower: &Lower) -> Cover {
        let lower = if lower.here & MORE == 0 { lower } else { self.more(at, low(address)).unwrap_or(lower) };
        let below = select_unpredictable(lower.host == low(address), lower.here, lower.elsewhere) & !MORE;
        let cover = if self.wide.is_empty() { Cover::of_packed(value).number() } else { value };
        Cover::of_number(select_unpredictable(at != 0, below, cover))
    }

    /// What holds at an address of a lower half with more than two answers.
    #[cold]
    fn more(&self, at: usize, half: u64) -> Option<&Lower> {
        let count = usize::try_from(self.lower.get(at)?.host).ok()?;
        let more = self.lower.get(at + 1..at.checked_add(count)?.checked_add(1)?)?;
        more.get(more.partition_point(|lower| lower.host <= half).checked_sub(1)?)
    }

    /// Gives back the room that its lines do not need. They are there twice while they are moved: lines of the processor's
    /// cache are aligned, and such arrays cannot shrink in place.
    pub(super) fn shrink(&mut self) {
        self.lines.to_mut().shrink_to_fit();
    }

    /// Whether nothing is covered.
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// How much memory it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.index.bytes() + size_of_val(&self.lines[..]) + size_of_val(&self.lower[..]) + size_of_val(&self.wide[..])
    }
}

/// The table in the making. Of the intervals it keeps no more than lines are cut from at a time.
#[derive(Debug)]
pub(crate) struct Builder {
    lines: Vec<Line>,
    /// The first number of each line.
    first: Vec<u64>,
    lower: Vec<Lower>,
    wide: Vec<[u32; VALUES]>,
    is_wide: bool,
    /// Whether the lines have room for all covers.
    fits: bool,
    half: Option<Half>,
    /// What holds before that, or behind all that there was.
    covering: Cover,
    /// What there is to be said about upper halves, from the first one that is in no line yet.
    steps: Vec<Step<u64>>,
    cutter: Cutter,
    watch: Watch,
}

/// The upper half whose intervals are being taken, as if more than one answer holds in it.
#[derive(Clone, Copy, Debug)]
struct Half {
    number: u64,
    /// Where what holds in its lower half begins.
    at: usize,
    /// Of that, what has not been pushed.
    last: Lower,
    /// It has one answer for all addresses so far.
    is_whole: bool,
}

impl Builder {
    /// Makes a table of about so many networks, that works for all covers if it `is_wide`.
    pub(super) fn new(networks: usize, is_wide: bool) -> Builder {
        // Mostly each of them is a piece. What is spare costs nothing; to be moved the lines would be there twice.
        let lines = with_room(networks / (PIECES - 1));
        let (first, lower, wide, steps) = (Vec::new(), Vec::new(), Vec::new(), with_room(STEPS));
        let (half, covering, cutter, watch) = (None, Cover::NONE, Cutter::new(false), Watch::begin());
        Builder { lines, first, lower, wide, is_wide, fits: true, half, covering, steps, cutter, watch }
    }

    /// Takes the next interval.
    #[inline]
    pub(crate) fn push(&mut self, Interval { start, cover }: Interval<u128>) {
        self.fits &= self.is_wide || cover.packed().is_some();
        if !self.fits || self.watch.is_short() || !room(&mut self.lower, 3) {
            return;
        }
        if self.lower.is_empty() {
            self.lower.push(Lower::default());
            // Before the first interval nothing holds.
            if start != 0 {
                self.step(0, Value::Cover(Cover::NONE));
            }
        }
        let number = (start >> 64) as u64;
        if self.half.is_none_or(|half| half.number != number) {
            self.end_half();
            let covering = self.covering.number();
            let last = Lower { host: 0, here: covering, elsewhere: covering };
            self.half = Some(Half { number, at: self.lower.len(), last, is_whole: low(start) == 0 });
            // What says how many follow, or the only one.
            self.lower.push(Lower::default());
        } else if let Some(half) = &mut self.half {
            half.is_whole = false;
        }
        let Some(half) = &mut self.half else { return };
        let (host, cover) = (low(start), cover.number());
        if host.wrapping_sub(half.last.host) == 1 && half.last.here == half.last.elsewhere {
            half.last.elsewhere = cover;
            return;
        }
        if host != 0 {
            self.lower.push(half.last);
        }
        half.last = Lower { host, here: cover, elsewhere: cover };
    }

    /// Ends the current upper half: what is to be said about it is a step.
    #[inline]
    fn end_half(&mut self) {
        let Some(Half { number, at, last, is_whole }) = self.half.take() else { return };
        // The half after one with a lower half goes by what holds at the end of that.
        if let Some(after) = self.after_lower().filter(|after| *after != number) {
            self.step(after, Value::Cover(self.covering));
        }
        self.covering = Cover::of_number(last.elsewhere);
        if is_whole {
            self.lower.truncate(at);
            self.step(number, Value::Cover(self.covering));
            return;
        }
        if room(&mut self.lower, 1) {
            self.lower.push(last);
        }
        let whole = match self.lower.get(at + 1..) {
            Some([lower]) => *lower,
            Some([before, lower]) if before.here == lower.elsewhere && before.elsewhere == lower.elsewhere => *lower,
            more => Lower { host: more.map_or(0, |more| more.len() as u64), here: MORE, elsewhere: 0 },
        };
        if whole.here & MORE == 0 {
            self.lower.truncate(at + 1);
        }
        if let Some(lower) = self.lower.get_mut(at) {
            *lower = whole;
        }
        // Their numbers need room in lines, too.
        self.fits &= self.is_wide || self.lower.len() <= 1 << 24;
        self.step(number, Value::Lower(u32::try_from(at).unwrap_or(u32::MAX)));
    }

    /// The upper half after the last step, if that has a lower half.
    fn after_lower(&self) -> Option<u64> {
        match self.steps.last() {
            Some(Step { start, value: Value::Lower(_) }) => start.checked_add(1),
            _ => None,
        }
    }

    fn step(&mut self, start: u64, value: Value) {
        if self.steps.len() >= STEPS {
            self.cut(None);
        }
        if room(&mut self.steps, 1) {
            self.steps.push(Step { start, value });
        }
    }

    /// The table, if the lines had room for all covers.
    pub(super) fn finish(mut self) -> Option<Table> {
        self.end_half();
        if let Some(after) = self.after_lower() {
            self.step(after, Value::Cover(self.covering));
        }
        self.cut(Some(0));
        self.lower.shrink_to_fit();
        self.wide.shrink_to_fit();
        let Builder { lines, first, lower, wide, fits, .. } = self;
        fits.then(|| Table { index: Index::new(&first), lines: lines.into(), lower: lower.into(), wide: wide.into() })
    }

    /// Makes lines of the steps, but for the last ones if more follow.
    fn cut(&mut self, end: Option<u64>) {
        let is_wide = self.is_wide;
        let push = |line: &runs::Line<'_, u64, PIECES>| {
            let is_room = room(&mut self.lines, 1) && room(&mut self.first, 1) && (!is_wide || room(&mut self.wide, 1));
            let Some(last) = line.pieces.last().filter(|_| is_room) else { return };
            let cut = cut(line.pieces);
            let background = Value::Cover(line.background);
            // Those that are not used, too.
            let piece = |at: usize| line.pieces.get(at).unwrap_or(last);
            let value = |at: usize| if at < PIECES { piece(at).value } else { background };
            self.lines.push(Line {
                starts: std::array::from_fn(|at| (piece(at).start >> cut & 0xffff_ffff) as u32),
                shared: (last.start >> cut >> 32) as u32,
                values: std::array::from_fn(|at| Word::new(value(at), is_wide, if at < PIECES { size(piece(at)) } else { cut })),
            });
            self.first.push(line.start);
            if is_wide {
                self.wide.push(std::array::from_fn(|at| value(at).number()));
            }
        };
        let done = self.cutter.lines(&self.steps, end, fits, push);
        self.steps.drain(..done);
    }
}

/// How many bits the starts of pieces may lack: those that are 0 in all of them.
fn cut(pieces: &[Piece<u64>]) -> u8 {
    let all = pieces.iter().fold(0, |all, piece| all | piece.start);
    u8::try_from(all.trailing_zeros().min(32)).unwrap_or(0)
}

/// Whether a piece that starts there can be in one line with those: all but 32 bits of the starts are the same.
fn fits(pieces: &[Piece<u64>], start: u64) -> bool {
    let cut = cut(pieces).min(u8::try_from(start.trailing_zeros()).unwrap_or(0));
    pieces.first().is_none_or(|first| first.start >> cut >> 32 == start >> cut >> 32)
}

impl Stored for Table {
    fn store(&self, image: &mut Writer) {
        let Table { index, lines, lower, wide } = self;
        index.store(image);
        lines.store(image);
        lower.store(image);
        wide.store(image);
    }

    fn restore(image: &mut Reader) -> Option<Table> {
        let index = Index::restore(image)?;
        let (lines, lower) = (Flat::restore(image)?, Flat::restore(image)?);
        Some(Table { index, lines, lower, wide: Flat::restore(image)? })
    }
}

/// The lower half of an address.
fn low(address: u128) -> u64 {
    u64::try_from(address & u128::from(u64::MAX)).unwrap_or(0)
}

/// The size of a piece, or what stands in its place if it leads to a lower half.
fn size(piece: &Piece<u64>) -> u8 {
    match piece.value {
        Value::Cover(_) if piece.size == OPEN => TO_THE_NEXT,
        Value::Cover(_) => piece.size,
        Value::Lower(_) => LOWER,
    }
}
