//! Intervals cut into lines of the size of a cache line, for both address families.
//!
//! Lists of clients are mostly networks with nothing in between: an interval for each, and one for the gap behind it.
//! A line therefore says what holds wherever it says nothing else, its *background*. A gap behind a network of 2^k
//! addresses needs no word, because the network ends by itself. So there is one piece for a network, not two.
//!
//! ```text
//!   steps    0 - | 7 A | 8 - | 16 B | 32 - | 40 C | 43 - | 64 D ...
//!   pieces         7 A 2^0     16 B 2^4      40 C    43 -   64 D ...      background -
//! ```

use super::cover::Cover;
use arrayvec::ArrayVec;
use bytemuck::{Pod, Zeroable};

/// The size of a piece that lasts until the next one begins.
pub(super) const OPEN: u8 = u8::MAX;
/// So many steps are looked at to choose a background.
const AHEAD: usize = 20;

/// What a step or a piece leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// The answer.
    Cover(Cover),
    /// What the rest of the address leads to, by its number.
    Lower(u32),
}

impl Value {
    /// As a number below 2^31.
    pub(super) fn number(self) -> u32 {
        match self {
            Value::Cover(cover) => cover.number(),
            Value::Lower(at) => at,
        }
    }

    /// In 24 bits, as lines have it; 0 if the covers of the table stand beside its lines.
    fn packed(self, is_wide: bool) -> u32 {
        match self {
            _ if is_wide => 0,
            Value::Cover(cover) => cover.packed().unwrap_or(0),
            Value::Lower(at) => at,
        }
    }
}

/// A value of a line in 24 bits, and above it what is said about the piece that leads there: one read for both.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(transparent)]
pub(super) struct Word(u32);

impl Word {
    const BITS: u32 = 24;

    pub(super) fn new(value: Value, is_wide: bool, tag: u8) -> Word {
        Word(value.packed(is_wide)).tagged(tag)
    }

    /// With another tag.
    pub(super) fn tagged(self, tag: u8) -> Word {
        Word(self.value() | u32::from(tag) << Word::BITS)
    }

    #[inline(always)]
    pub(super) fn value(self) -> u32 {
        self.0 & ((1 << Word::BITS) - 1)
    }

    /// The value, if it is a cover.
    #[inline(always)]
    pub(super) fn cover(self) -> Cover {
        Cover::of_packed(self.value())
    }

    #[inline(always)]
    pub(super) fn tag(self) -> u8 {
        (self.0 >> Word::BITS) as u8
    }
}

/// From `start` on, until the next step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step<K> {
    pub start: K,
    pub value: Value,
}

/// From `start` on, for 2^`size` numbers, or until the next piece.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<K> {
    pub start: K,
    pub size: u8,
    pub value: Value,
}

/// A number that a line is searched by.
pub(super) trait Key: Copy {
    /// The k for which there are 2^k numbers before `end`; the number after the last one is 0. `None` if there is none.
    fn size_up_to(self, end: Self) -> Option<u8>;
}

macro_rules! key {
    ($type:ty) => {
        impl Key for $type {
            fn size_up_to(self, end: Self) -> Option<u8> {
                let length = end.wrapping_sub(self);
                // Below 64.
                length.is_power_of_two().then(|| u8::try_from(length.trailing_zeros()).unwrap_or(OPEN))
            }
        }
    };
}
key!(u16);
key!(u64);

/// A line as it is handed over.
pub(super) struct Line<'a, K, const N: usize> {
    /// Its first number. But for the first line of a run it is that of its first piece.
    pub start: K,
    /// At most as many as fit.
    pub pieces: &'a ArrayVec<Piece<K>, N>,
    pub background: Cover,
    /// What holds at its last number, and in the first line before its first piece.
    pub last: Value,
}

/// Cuts the steps of a run into lines of `N` pieces, or of fewer where the next one does not fit with them. Each line begins
/// with a piece; with `silence` a run need not, and what holds before its first piece is the background.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cutter {
    background: Cover,
    /// Whether the background holds if nothing is said, as it does behind a piece that ends by itself.
    silence: bool,
}

impl Cutter {
    /// At the begin of a run.
    pub(super) fn new(silence: bool) -> Cutter {
        Cutter { background: Cover::NONE, silence }
    }

    /// Cuts the next steps, which cover all numbers from that of the first step up to `end`; `None` if more of them follow, and
    /// a few are to be left for the lines that these have a part in. Says how many have been cut.
    pub(super) fn lines<K: Key, const N: usize>(
        &mut self,
        steps: &[Step<K>],
        end: Option<K>,
        fits: impl Fn(&[Piece<K>], K) -> bool,
        mut line: impl FnMut(&Line<'_, K, N>),
    ) -> usize {
        let mut rest = steps;
        while let Some(head) = rest.first().filter(|_| end.is_some() || rest.len() > AHEAD) {
            let (background, mut silence) = (choose(rest, self.background), self.silence);
            let mut pieces = ArrayVec::<_, N>::new();
            let mut last = head.value;
            let mut ends = rest.iter().skip(1).map(|next| next.start);
            let mut taken = 0;
            for step in rest {
                let Some(until) = ends.next().or(end) else { break };
                if !(silence && step.value == Value::Cover(background)) {
                    let size = step.start.size_up_to(until).unwrap_or(OPEN);
                    if !fits(&pieces, step.start) || pieces.try_push(Piece { start: step.start, size, value: step.value }).is_err() {
                        break;
                    }
                    silence = size != OPEN;
                }
                last = step.value;
                taken += 1;
            }
            if end.is_none() && taken + 1 >= rest.len() {
                // Those that follow may belong into this line, too.
                break;
            }
            line(&Line { start: head.start, pieces: &pieces, background, last });
            rest = rest.get(taken..).unwrap_or(&[]);
            *self = Cutter { background, silence: false };
        }
        steps.len() - rest.len()
    }
}

/// The cover that most of the next steps lead to, among those that come first and the last background.
fn choose<K>(rest: &[Step<K>], before: Cover) -> Cover {
    let ahead = rest.get(..AHEAD).unwrap_or(rest);
    let count = |cover: Cover| ahead.iter().filter(|step| step.value == Value::Cover(cover)).count();
    let (mut best, mut most) = (before, count(before));
    // Half of them are as many as there can be.
    for step in ahead.iter().take(4) {
        if most * 3 >= ahead.len() {
            break;
        }
        if let Value::Cover(cover) = step.value
            && count(cover) > most
        {
            (best, most) = (cover, count(cover));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_covers_and_tags() {
        for cover in [0, 1, (1 << 23) - 1, 1 << 30 | 5, 1 << 30 | ((1 << 23) - 1)].map(Cover::of_number) {
            for tag in [0, 1, 32, 63, 255] {
                let word = Word::new(Value::Cover(cover), false, tag);
                assert_eq!((word.cover(), word.tag()), (cover, tag));
                assert_eq!((word.tagged(0).cover(), word.tagged(0).tag()), (cover, 0));
                assert_eq!(Word::new(Value::Cover(cover), true, tag).value(), 0);
            }
        }
        assert_eq!(Word::new(Value::Lower((1 << 24) - 1), false, 255).value(), (1 << 24) - 1);
    }
}
