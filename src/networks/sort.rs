//! Networks in order, millions of them: they are put into buckets by how they begin, and the buckets sorted one by one, which
//! fit into the caches near the processor. Lists that are in order already stay as they are in no time.

use super::cover::EntryId;
use super::intervals::{Network, Number, Order};
use crate::memory::with_room;
use std::cmp::Ordering;

/// There are 2^10 buckets.
const BITS: u32 = 10;
const BUCKETS: usize = 1 << BITS;
/// Fewer networks need no buckets.
const FEW: usize = 8 * BUCKETS;

/// A network as something that sorts as it should: what comes later lies on top of what encloses it, of entries for the same
/// network holes come last if they count for more, else the first one last.
pub(crate) trait Key<N>: Copy + Default + Ord {
    fn of(network: &Network<N>, order: Order) -> Self;
    fn network(self, order: Order) -> Network<N>;
}

/// What decides after the start, for entries of so many bits.
#[inline]
fn pack<const ENTRY: u32, N>(network: &Network<N>, order: Order) -> u64 {
    let earlier = (1 << ENTRY) - 1 - u64::from(network.entry);
    let (length, hole) = (u64::from(network.prefix_len), u64::from(network.hole));
    let rest = match order {
        Order::MostSpecific => hole << ENTRY | earlier,
        Order::First => earlier << 1 | hole,
    };
    length << (ENTRY + 2) | rest << 1 | u64::from(network.expires)
}

#[inline]
fn unpack<const ENTRY: u32, N>(start: N, packed: u64, order: Order) -> Network<N> {
    let (hole, earlier) = match order {
        Order::MostSpecific => (packed >> (ENTRY + 1), packed >> 1),
        Order::First => (packed >> 1, packed >> 2),
    };
    let entry = EntryId::try_from(!earlier & ((1 << ENTRY) - 1)).unwrap_or(0);
    let prefix_len = (packed >> (ENTRY + 2) & 0xff) as u8;
    Network { start, prefix_len, entry, hole: hole & 1 != 0, expires: packed & 1 != 0 }
}

/// IPv4 with entries of 24 bits: one number.
impl Key<u32> for u64 {
    #[inline]
    fn of(network: &Network<u32>, order: Order) -> u64 {
        u64::from(network.start) << 32 | pack::<24, _>(network, order)
    }

    #[inline]
    fn network(self, order: Order) -> Network<u32> {
        unpack::<24, _>((self >> 32) as u32, self & u64::from(u32::MAX), order)
    }
}

/// All others: without gaps, because there are millions of them.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[repr(C, packed(4))]
pub(crate) struct Whole<N: Copy> {
    start: N,
    rest: u64,
}

impl<N: Number> Ord for Whole<N> {
    #[inline]
    fn cmp(&self, other: &Whole<N>) -> Ordering {
        let [(one, rest), (other, other_rest)] = [self, other].map(|key| (key.start, key.rest));
        one.cmp(&other).then(rest.cmp(&other_rest))
    }
}

impl<N: Number> PartialOrd for Whole<N> {
    #[inline]
    fn partial_cmp(&self, other: &Whole<N>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<N: Number> Key<N> for Whole<N> {
    #[inline]
    fn of(network: &Network<N>, order: Order) -> Whole<N> {
        Whole { start: network.start, rest: pack::<32, _>(network, order) }
    }

    #[inline]
    fn network(self, order: Order) -> Network<N> {
        unpack::<32, _>(self.start, self.rest, order)
    }
}

/// The keys of networks, at most `most` of them, in order; none if there is no room for them.
pub(super) fn sorted<N: Number, K: Key<N>>(networks: impl Iterator<Item = Network<N>> + Clone, most: usize, order: Order) -> Vec<K> {
    let keys = networks.clone().take(most).map(|network| K::of(&network, order));
    let mut sorted = with_room(most);
    if sorted.capacity() < most {
        return Vec::new();
    }
    if most < FEW {
        sorted.extend(keys);
        sorted.sort_unstable();
        return sorted;
    }
    // Where the next network of each bucket belongs.
    let mut places = with_room(BUCKETS);
    if places.capacity() < BUCKETS {
        return Vec::new();
    }
    places.resize(BUCKETS, 0_u32);
    for network in networks.clone().take(most) {
        if let Some(count) = places.get_mut(network.start.bucket(BITS)) {
            *count += 1;
        }
    }
    let mut all = 0;
    for place in &mut places {
        (*place, all) = (all, all + *place);
    }
    sorted.resize(all as usize, K::default());
    for (network, key) in networks.zip(keys) {
        if let Some(place) = places.get_mut(network.start.bucket(BITS))
            && let Some(to) = sorted.get_mut(*place as usize)
        {
            *to = key;
            *place += 1;
        }
    }
    let mut rest = sorted.as_mut_slice();
    let mut begin = 0;
    // Each place is now where its bucket ends.
    for end in places {
        let (bucket, after) = rest.split_at_mut(((end - begin) as usize).min(rest.len()));
        bucket.sort_unstable();
        (rest, begin) = (after, end);
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::networks::intervals::Order::{First, MostSpecific};
    use proptest::prelude::*;
    use std::cmp::Reverse;

    /// As it says above, one field after the other.
    fn fields<N: Number>(network: &Network<N>, order: Order) -> (N, u8, bool, Reverse<EntryId>, bool) {
        let Network { start, prefix_len, entry, hole, expires } = *network;
        let decides = order == MostSpecific && hole;
        (start, prefix_len, decides, Reverse(entry), expires)
    }

    fn check<N: Number, K: Key<N>>(networks: &[Network<N>]) -> Result<(), TestCaseError> {
        for order in [MostSpecific, First] {
            let found = sorted::<N, K>(networks.iter().copied(), networks.len(), order);
            let found: Vec<_> = found.into_iter().map(|key| key.network(order)).collect();
            let mut want = networks.to_vec();
            want.sort_by_key(|network| fields(network, order));
            let all =
                |networks: &[Network<N>]| networks.iter().map(|n| (n.start, n.prefix_len, n.entry, n.hole, n.expires)).collect::<Vec<_>>();
            prop_assert_eq!(all(&found), all(&want));
        }
        Ok(())
    }

    fn network(number: u64, entry: usize) -> Network<u32> {
        // Some starts have several networks.
        let (start, prefix_len) = ((number >> 32) as u32 & !0xff, 24 + (number & 7) as u8);
        let entry = EntryId::try_from(entry).unwrap();
        Network { start, prefix_len, entry, hole: number & 8 != 0, expires: number & 16 != 0 }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]
        #[test]
        fn keys_sort_like_what_they_stand_for(few in prop::collection::vec(any::<u64>(), 0..200), seed: u64, spread in 0_u32..32) {
            let many = (0..FEW as u64 + 100).map(|number| (number ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> spread);
            for numbers in [few, many.collect()] {
                let v4: Vec<_> = numbers.iter().zip(1..).map(|(number, entry)| network(*number, entry)).collect();
                check::<u32, u64>(&v4)?;
                check::<u32, Whole<u32>>(&v4)?;
                let v6 = |n: &Network<u32>| Network { start: u128::from(n.start) << (96 - spread), ..Network::plain(0, n.prefix_len, n.entry) };
                let v6: Vec<_> = v4.iter().map(v6).collect();
                check::<u128, Whole<u128>>(&v6)?;
            }
        }
    }
}
