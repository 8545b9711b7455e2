//! Where a number stands among the few keys of a cache line: the innermost step of a look-up.

use bytemuck::cast;
use std::hint::select_unpredictable;
use wide::{i8x16, i16x16, u16x8};

/// How many of sixteen keys, which are in order, are at most that number, but not more than `most`. All are compared at once: one by
/// one a look-up of 70 instructions had 150.
#[inline]
pub(super) fn rank_of_16(keys: &[u16; 16], number: u16, most: usize) -> usize {
    let ([first, second], _) = keys.as_chunks::<8>() else { return 0 };
    let both: i16x16 = cast([at_most_of_8(first, number), at_most_of_8(second, number)]);
    (i8x16::from_i16x16_saturate(both).move_mask().trailing_ones() as usize).min(most)
}

/// How many of nine keys, which are in order, are at most that number.
#[inline]
pub(super) fn rank_of_9(keys: &[u16; 9], number: u16) -> usize {
    let Some((eight, [ninth])) = keys.split_first_chunk() else { return 0 };
    // Two bits each.
    let both: i8x16 = cast(at_most_of_8(eight, number));
    (both.move_mask().trailing_ones() / 2) as usize + usize::from(*ninth <= number)
}

/// How many of some keys, which are in order, are below something. Their number is a power of two less one, so that the steps
/// are always the same, and none is guessed.
#[inline]
pub(super) fn rank_of_many<K: Copy, const N: usize>(keys: &[K; N], is_below: impl Fn(K) -> bool) -> usize {
    const { assert!((N + 1).is_power_of_two()) }
    let mut rank = 0;
    let mut step = N.div_ceil(2);
    while step > 0 {
        rank += usize::from(keys.get(rank + step - 1).is_some_and(|key| is_below(*key))) * step;
        step /= 2;
    }
    rank
}

/// As [`rank_of_many`]: all are compared, side by side. For few of them that takes as many instructions, of which none waits for
/// the one before it.
#[inline(always)]
pub(super) fn rank_of_few<K: Copy, const N: usize>(keys: &[K; N], is_below: impl Fn(K) -> bool) -> usize {
    let (first, second) = keys.split_at(N / 2);
    let Some((last, first)) = first.split_last() else { return 0 };
    let count = |keys: &[K]| keys.iter().fold(0, |count, key| count + usize::from(is_below(*key)));
    // In two halves: of a longer sum the compiler makes something else, which takes twice as many instructions.
    select_unpredictable(is_below(*last), N / 2 + count(second), count(first))
}

/// All bits of each key that is at most that number, and none of the others.
#[inline]
fn at_most_of_8(keys: &[u16; 8], number: u16) -> u16x8 {
    // There is no comparison of numbers without a sign, but their difference, 0 where there is none.
    u16x8::new(*keys).saturating_sub(u16x8::splat(number)).cmp_eq(u16x8::splat(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ranks_are_counts(keys in prop::collection::vec(any::<u16>(), 16), number: u16, most in 0usize..17) {
            let mut keys = keys;
            keys.sort_unstable();
            let sixteen: &[u16; 16] = keys.first_chunk().unwrap();
            for number in [number, sixteen[3], sixteen[9], 0, u16::MAX] {
                let count = |keys: &[u16]| keys.iter().filter(|key| **key <= number).count();
                prop_assert_eq!(rank_of_16(sixteen, number, most), count(sixteen).min(most));
                prop_assert_eq!(rank_of_9(sixteen.first_chunk().unwrap(), number), count(&sixteen[..9]));
                prop_assert_eq!(rank_of_many::<_, 7>(sixteen.first_chunk().unwrap(), |key| key <= number), count(&sixteen[..7]));
                prop_assert_eq!(rank_of_few::<_, 7>(sixteen.first_chunk().unwrap(), |key| key <= number), count(&sixteen[..7]));
            }
        }
    }
}
