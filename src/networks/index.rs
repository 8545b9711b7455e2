//! Where a number stands among many, which lie in clusters: an index that is fine where there are many of them.
//!
//! A node divides the numbers from the first to the last of a cluster into equal slots, about two for each. In a slot is one
//! number at most; one in which there are more leads to a node of its own.
//!
//! ```text
//!   node   base, width of a slot   ->  slot | slot | slot | ...
//!                                       |      |
//!         the number before it, and     |     another node
//!          how far it is to the next ---+
//! ```

use crate::flat::Flat;
use crate::image::{Reader, Stored, Writer};
use crate::memory::room;
use bytemuck::{Pod, Zeroable};

/// Most slots of a node.
const MAX_SLOTS: usize = 1 << 16;
/// A slot whose numbers are found by a node.
const NODE: u32 = 1 << 31;
/// The distance to the next number in a slot that has none.
const NONE: u32 = u32::MAX;
/// A node divides three numbers into four slots at least, and separates two; there are fewer levels than this in 64 bits.
const MAX_LEVELS: usize = 40;

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

/// A part of the numbers with one of them at most.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Slot {
    /// The place of the last number before the slot; or the node that knows.
    at: u32,
    /// How far it is from the start of the slot to the number in it; [`NONE`] if there is none. In units of which a slot has
    /// 2^32 at most.
    next: u32,
}

/// An index over numbers, of which it knows the places alone.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    nodes: Flat<Node>,
    slots: Flat<Slot>,
}

/// The arrays in the making.
#[derive(Debug, Default)]
struct Parts {
    nodes: Vec<Node>,
    slots: Vec<Slot>,
}

impl Parts {
    fn of(numbers: &[u64]) -> Parts {
        let mut index = Parts::default();
        if numbers.is_empty() || !room(&mut index.slots, 1) {
            return index;
        }
        index.slots.push(Slot { at: 0, next: NONE });
        // Parts that need a node: their slot and their numbers.
        let mut parts = if numbers.len() > 1 { vec![(0, 1..numbers.len())] } else { Vec::new() };
        while let Some((slot, part)) = parts.pop() {
            let Some([base, end]) = numbers.get(part.clone()).and_then(|part| Some([*part.first()?, *part.last()?])) else { continue };
            let wanted = (part.len() * 2).min(MAX_SLOTS) as u64;
            let mut shift = 0;
            while (end - base) >> shift >= wanted {
                shift += 1;
            }
            let slot_of = |number: u64| usize::try_from((number - base) >> shift).unwrap_or(usize::MAX);
            let (last, begin) = (slot_of(end), index.slots.len());
            if !room(&mut index.slots, last + 2) || !room(&mut index.nodes, 1) || !room(&mut parts, last + 1) {
                return Parts::default();
            }
            // What comes before the base.
            index.slots.push(Slot { at: place(part.start - 1), next: NONE });
            let mut from = part.start;
            for number in 0..=last {
                let rest = numbers.get(from..part.end).unwrap_or(&[]);
                let inside = rest.iter().take_while(|number_in| slot_of(**number_in) == number).count();
                let next = match rest.get(..inside) {
                    Some([]) => Some(NONE),
                    Some([one]) => distance(*one - base, number, shift),
                    _ => None,
                };
                if next.is_none() {
                    parts.push((begin + 1 + number, from..from + inside));
                }
                index.slots.push(Slot { at: place(from - 1), next: next.unwrap_or(NONE) });
                from += inside;
            }
            if let Some(slot) = index.slots.get_mut(slot) {
                *slot = Slot { at: NODE | place(index.nodes.len()), next: NONE };
            }
            index.nodes.push(Node { base, slots: place(begin), last: u16::try_from(last).unwrap_or(u16::MAX), shift });
        }
        index.nodes.shrink_to_fit();
        index.slots.shrink_to_fit();
        index
    }
}

/// How far a number is from the start of its slot, if that can be said exactly.
fn distance(number: u64, slot: usize, shift: u16) -> Option<u32> {
    let unit = shift.saturating_sub(32);
    let distance = number - ((slot as u64) << shift);
    let units = u32::try_from(distance >> unit).ok()?;
    (units != NONE && u64::from(units) << unit == distance).then_some(units)
}

impl Index {
    /// For numbers in order, of which the first is 0.
    pub(super) fn new(numbers: &[u64]) -> Index {
        let Parts { nodes, slots } = Parts::of(numbers);
        Index { nodes: nodes.into(), slots: slots.into() }
    }

    /// The place of the last number that is at most this one.
    #[inline]
    pub(super) fn find(&self, number: u64) -> Option<usize> {
        let mut slot = *self.slots.first()?;
        let mut distance = 0;
        for _ in 0..MAX_LEVELS {
            if slot.at & NODE == 0 {
                break;
            }
            let Node { base, slots, last, shift } = *self.nodes.get((slot.at & !NODE) as usize)?;
            let ahead = number.saturating_sub(base);
            let steps = (ahead >> (shift & 63)).min(last.into());
            distance = (ahead - (steps << (shift & 63))) >> (shift.saturating_sub(32) & 63);
            slot = *self.slots.get(slots as usize + usize::try_from(steps).unwrap_or(0) + usize::from(number >= base))?;
        }
        Some(slot.at as usize + usize::from((distance >= slot.next.into()) & (slot.next != NONE)))
    }

    /// How much memory it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&self.nodes[..]) + size_of_val(&self.slots[..])
    }
}

impl Stored for Index {
    fn store(&self, image: &mut Writer) {
        let Index { nodes, slots } = self;
        nodes.store(image);
        slots.store(image);
    }

    fn restore(image: &mut Reader) -> Option<Index> {
        Some(Index { nodes: Flat::restore(image)?, slots: Flat::restore(image)? })
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
        let index = Index::new(&numbers);
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
