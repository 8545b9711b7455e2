//! Where a number stands among many: a tree in which every look-up takes the same steps.
//!
//! The root divides the numbers into up to 256 parts. A node is a cache line with eight of them, which lead to nine nodes of the
//! next level. All nodes are in one array, level by level, so that where a node's followers stand needs no offsets:
//!
//! ```text
//!   root            | 255 numbers                   |
//!                   0 /   |   \ ..
//!   first level     | 8 numbers | | 8 numbers | ...
//!                   0 /  1 |   \ 8
//!   next level      | .. | | .. | ...        of node n the nodes 9n to 9n + 8
//!   places                                   of node n the places 9n to 9n + 8
//! ```
//!
//! Nothing is decided by what was read, only computed, so that a processor goes on with the next look-ups while it waits for
//! memory: in a tree with fewer steps here and more there it would have to guess.

use super::rank::{rank_of_few, rank_of_many};
use crate::flat::Flat;
use crate::image::{Reader, Stored, Writer};
use crate::memory::room;
use arrayvec::ArrayVec;
use bytemuck::{Pod, Zeroable};
use std::mem;

/// Parts that the root divides the numbers into, and the numbers for that.
const PARTS: usize = 256;
const ROOT: usize = PARTS - 1;
/// Numbers of a node, and nodes that follow it.
const KEYS: usize = 8;
const BRANCHES: usize = KEYS + 1;
/// There are fewer places than 2^32.
const MAX_LEVELS: usize = 8;

/// Eight numbers in order, each the last one before a place. Those that are not used are the last number there is, which none
/// is beyond.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
struct Node([u64; KEYS]);

/// An index over numbers, of which it knows the places alone.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    root: Flat<u64>,
    nodes: Flat<Node>,
    /// Where each level of nodes begins.
    levels: ArrayVec<usize, MAX_LEVELS>,
    places: usize,
}

impl Node {
    /// Which of the nodes that follow has the number.
    #[inline(always)]
    fn branch(&self, number: u64) -> usize {
        rank_of_few(&self.0, |key| key < number)
    }
}

/// How many nodes the levels over so many places have, the last level first.
fn sizes(places: usize) -> ArrayVec<usize, MAX_LEVELS> {
    let mut size = places;
    std::iter::from_fn(|| {
        size = if size > PARTS { size.div_ceil(BRANCHES) } else { return None };
        Some(size)
    })
    .take(MAX_LEVELS)
    .collect()
}

/// Where the levels begin.
fn levels(sizes: &[usize]) -> ArrayVec<usize, MAX_LEVELS> {
    let begins = sizes.iter().rev().scan(0, |end, size| Some(mem::replace(end, *end + size)));
    begins.collect()
}

impl Index {
    /// For numbers in order, of which the first is 0.
    pub(super) fn new(numbers: &[u64]) -> Index {
        let sizes = sizes(numbers.len());
        if numbers.is_empty() {
            return Index::default();
        }
        let (mut root, mut nodes) = (Vec::new(), Vec::new());
        if !room(&mut root, ROOT) || !room(&mut nodes, sizes.iter().sum()) {
            return Index::default();
        }
        let key = |place: usize| numbers.get(place).map_or(u64::MAX, |number| number.wrapping_sub(1));
        // So many places each branch of a level leads to.
        let mut step = sizes.iter().fold(1, |step, _| step * BRANCHES);
        root.extend((1..=ROOT).map(|part| key(part * step)));
        for size in sizes.iter().rev() {
            step /= BRANCHES;
            nodes.extend((0..*size).map(|node| Node(std::array::from_fn(|at| key((node * BRANCHES + at + 1) * step)))));
        }
        Index { root: root.into(), nodes: nodes.into(), levels: levels(&sizes), places: numbers.len() }
    }

    /// The place of the last number that is at most this one.
    #[inline]
    pub(super) fn find(&self, number: u64) -> Option<usize> {
        let mut at = rank_of_many::<_, ROOT>(self.root.first_chunk()?, |key| key < number);
        for begin in &self.levels {
            at = at * BRANCHES + self.nodes.get(begin + at)?.branch(number);
        }
        Some(at)
    }

    /// As [`Index::find`], of some numbers, which go down together.
    #[inline]
    pub(super) fn find_together<const N: usize>(&self, numbers: &[u64; N]) -> Option<[(u64, usize); N]> {
        let root: &[u64; ROOT] = self.root.first_chunk()?;
        let mut found = numbers.map(|number| (number, rank_of_many(root, |key| key < number)));
        for begin in &self.levels {
            let nodes = self.nodes.get(*begin..)?;
            found = found.map(|(number, at)| (number, at * BRANCHES + nodes.get(at).map_or(0, |node| node.branch(number))));
        }
        Some(found)
    }

    /// How much memory it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&self.root[..]) + size_of_val(&self.nodes[..])
    }
}

impl Stored for Index {
    fn store(&self, image: &mut Writer) {
        let Index { root, nodes, levels: _, places } = self;
        root.store(image);
        nodes.store(image);
        image.number(*places as u64);
    }

    fn restore(image: &mut Reader) -> Option<Index> {
        let (root, nodes) = (Flat::restore(image)?, Flat::restore(image)?);
        let places = usize::try_from(image.number()?).ok()?;
        Some(Index { root, nodes, levels: levels(&sizes(places)), places })
    }
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
