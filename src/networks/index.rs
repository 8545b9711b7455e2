//! Where a number stands among many, which lie in clusters: an index that is fine where there are many of them.
//!
//! A node divides the numbers from the first to the last of a cluster into equal slots, about two for each. A slot in which
//! there are more than a few numbers leads to a node of its own.
//!
//! ```text
//!   node   base, width of a slot   ->  slot | slot | slot | ...
//!                                       |      |
//!             the number before it, and the    another node
//!             few behind that to compare
//! ```

use crate::flat::Flat;
use crate::image::{Reader, Stored, Writer};
use crate::memory::room;
use bytemuck::{Pod, Zeroable};

/// So many numbers are compared at the end.
const COMPARED: usize = 3;
/// Most slots of a node.
const MAX_SLOTS: usize = 1 << 16;
/// A slot whose numbers are found by a node.
const NODE: u32 = 1 << 31;
/// A node divides its numbers into 8 slots at least, so that there are 22 levels at most in 64 bits.
const MAX_LEVELS: usize = 22;

/// Divides a part of the numbers.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Node {
    /// The first of its numbers.
    base: u64,
    /// Its first slot: that of what comes before `base`.
    slots: u32,
    /// How many slots follow that one, less one.
    last: u16,
    /// A slot is 2^shift numbers wide.
    shift: u16,
}

/// The numbers, in order, and an index over them.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    numbers: Flat<u64>,
    nodes: Flat<Node>,
    /// The place of the last number at or before the slot, or the node that knows.
    slots: Flat<u32>,
}

/// The arrays in the making.
#[derive(Debug, Default)]
struct Parts {
    numbers: Vec<u64>,
    nodes: Vec<Node>,
    slots: Vec<u32>,
}

impl Parts {
    fn of(numbers: Vec<u64>) -> Parts {
        let mut index = Parts { numbers, ..Parts::default() };
        // Parts that have no node yet: their slot and their numbers.
        let mut parts = Vec::new();
        if room(&mut index.slots, 1) {
            index.slots.push(0);
            parts.push((0, 1..index.numbers.len()));
        }
        while let Some((slot, part)) = parts.pop() {
            let Some(numbers) = index.numbers.get(part.clone()) else { continue };
            let (Some(base), Some(end)) = (numbers.first().copied(), numbers.last().copied()) else { continue };
            if part.len() <= COMPARED {
                continue;
            }
            let wanted = (part.len() * 2).min(MAX_SLOTS);
            let mut shift = 0;
            while (end - base) >> shift >= wanted as u64 {
                shift += 1;
            }
            let slot_of = |number: u64| usize::try_from((number - base) >> shift).unwrap_or(usize::MAX);
            let last = slot_of(end);
            let begin = index.slots.len();
            if !room(&mut index.slots, last + 2) || !room(&mut index.nodes, 1) || !room(&mut parts, last + 1) {
                return Parts::default();
            }
            let node = Node { base, slots: place(begin), last: u16::try_from(last).unwrap_or(u16::MAX), shift };
            // What comes before the base.
            index.slots.push(place(part.start - 1));
            let mut from = part.start;
            for number in 0..=last {
                let within = |start: &&u64| slot_of(**start) == number;
                let inside = index.numbers.get(from..part.end).unwrap_or(&[]).iter().take_while(within).count();
                index.slots.push(place(from - 1));
                parts.push((begin + 1 + number, from..from + inside));
                from += inside;
            }
            if let Some(slot) = index.slots.get_mut(slot) {
                *slot = NODE | place(index.nodes.len());
            }
            index.nodes.push(node);
        }
        // So that as many can be read behind the last one as are compared.
        if !room(&mut index.numbers, COMPARED) {
            return Parts::default();
        }
        index.numbers.extend([u64::MAX; COMPARED]);
        index.nodes.shrink_to_fit();
        index.slots.shrink_to_fit();
        index
    }
}

impl Index {
    /// For numbers in order, of which the first is 0.
    pub(super) fn new(numbers: Vec<u64>) -> Index {
        if numbers.is_empty() {
            return Index::default();
        }
        let Parts { numbers, nodes, slots } = Parts::of(numbers);
        Index { numbers: numbers.into(), nodes: nodes.into(), slots: slots.into() }
    }

    /// The place of the last number that is at most this one.
    #[inline]
    pub(super) fn find(&self, number: u64) -> Option<usize> {
        let mut slot = *self.slots.first()?;
        for _ in 0..MAX_LEVELS {
            if slot & NODE == 0 {
                break;
            }
            let Node { base, slots, last, shift } = *self.nodes.get((slot & !NODE) as usize)?;
            let ahead = usize::try_from((number.saturating_sub(base) >> (shift & 63)).min(last.into())).unwrap_or(0);
            let behind = usize::from(number >= base);
            slot = *self.slots.get(slots as usize + ahead + behind)?;
        }
        let at = slot as usize;
        let next: &[u64; COMPARED] = self.numbers.get(at + 1..)?.first_chunk()?;
        // They are in order, and those behind the slot are larger.
        let passed: usize = next.iter().map(|next| usize::from(*next <= number)).sum();
        Some((at + passed).min(self.numbers.len().saturating_sub(1 + COMPARED)))
    }

    /// How much memory it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&self.numbers[..]) + size_of_val(&self.nodes[..]) + size_of_val(&self.slots[..])
    }
}

impl Stored for Index {
    fn store(&self, image: &mut Writer) {
        let Index { numbers, nodes, slots } = self;
        numbers.store(image);
        nodes.store(image);
        slots.store(image);
    }

    fn restore(image: &mut Reader) -> Option<Index> {
        Some(Index { numbers: Flat::restore(image)?, nodes: Flat::restore(image)?, slots: Flat::restore(image)? })
    }
}

fn place(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(mut numbers: Vec<u64>) {
        numbers.push(0);
        numbers.sort_unstable();
        numbers.dedup();
        let index = Index::new(numbers.clone());
        let around = numbers.iter().flat_map(|number| [number.wrapping_sub(1), *number, number.wrapping_add(1), number ^ 1 << 40]);
        for number in around.chain([0, u64::MAX, u64::MAX / 2]) {
            assert_eq!(index.find(number), Some(numbers.partition_point(|other| *other <= number) - 1), "{number:x} in {numbers:x?}");
        }
    }

    #[test]
    fn clusters_and_extremes() {
        check(Vec::new());
        check(vec![u64::MAX]);
        check((0..64).map(|bit| 1 << bit).collect());
        check((0..64).map(|bit| u64::MAX << bit).collect());
        check((0..64).map(|bit| u64::MAX >> bit).collect());
        check((0..300_000).collect());
        check((0..300_000).map(|number| u64::MAX - number * 3).collect());
        check((0..2000).flat_map(|area| (0..50).map(move |number| 0x2001_0000_0000_0000 + ((area * area) << 32) + number * 7)).collect());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn finds_what_a_search_finds(numbers in prop::collection::vec((any::<u64>(), 0u32..64), 0..300)) {
            check(numbers.into_iter().map(|(number, shift)| number >> shift).collect());
        }
    }
}
