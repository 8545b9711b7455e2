//! Where a number stands among the few keys of a cache line: the innermost step of a look-up.

#![expect(unsafe_code, reason = "one call of what every x86-64 processor has")]

/// How many of sixteen keys, which are in order, are at most that number, but not more than `most`.
#[inline]
pub(super) fn rank_of_16(keys: &[u16; 16], number: u16, most: usize) -> usize {
    let ([first, second], _) = keys.as_chunks::<8>() else { return 0 };
    let bits = at_most(first, number) | at_most(second, number) << 16;
    ((bits.trailing_ones() / 2) as usize).min(most)
}

/// How many of ten keys, which are in order, are at most that number.
#[inline]
pub(super) fn rank_of_10(keys: &[u16; 10], number: u16) -> usize {
    let Some((eight, [ninth, tenth])) = keys.split_first_chunk::<8>() else { return 0 };
    let eight = at_most(eight, number).trailing_ones() / 2;
    eight as usize + usize::from(*ninth <= number) + usize::from(*tenth <= number)
}

/// How many of some keys, which are in order, are below something. Their number is a power of two less one, so that the steps
/// are always the same, and none is guessed.
#[inline]
pub(super) fn rank<K: Copy, const N: usize>(keys: &[K; N], is_below: impl Fn(K) -> bool) -> usize {
    const { assert!((N + 1).is_power_of_two()) }
    let mut rank = 0;
    let mut step = N.div_ceil(2);
    while step > 0 {
        rank += usize::from(keys.get(rank + step - 1).is_some_and(|key| is_below(*key))) * step;
        step /= 2;
    }
    rank
}

/// Two bits for each key that is at most that number.
///
/// All are compared at once. Left to itself the compiler makes it a count of bits, for which it needs fifty instructions where
/// a processor may lack the one that counts them: a look-up of 85 instructions had 150.
#[cfg(target_arch = "x86_64")]
#[inline]
fn at_most(keys: &[u16; 8], number: u16) -> u32 {
    #[inline]
    #[target_feature(enable = "sse2")]
    fn at_most(keys: &[u16; 8], number: u16) -> u32 {
        use std::arch::x86_64::{_mm_cmpeq_epi16, _mm_movemask_epi8, _mm_set_epi16, _mm_set1_epi16, _mm_setzero_si128, _mm_subs_epu16};
        let [a, b, c, d, e, f, g, h] = keys.map(u16::cast_signed);
        // There is no comparison of numbers without a sign, but their difference, 0 where there is none.
        let above = _mm_subs_epu16(_mm_set_epi16(h, g, f, e, d, c, b, a), _mm_set1_epi16(number.cast_signed()));
        _mm_movemask_epi8(_mm_cmpeq_epi16(above, _mm_setzero_si128())).cast_unsigned()
    }
    // SAFETY: every x86-64 processor has SSE2.
    unsafe { at_most(keys, number) }
}

/// Two bits for each key that is at most that number.
#[cfg(not(target_arch = "x86_64"))]
fn at_most(keys: &[u16; 8], number: u16) -> u32 {
    one_by_one(keys, number)
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn one_by_one(keys: &[u16; 8], number: u16) -> u32 {
    keys.iter().rev().fold(0, |bits, key| bits << 2 | if *key <= number { 3 } else { 0 })
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
                prop_assert_eq!(rank_of_10(sixteen.first_chunk().unwrap(), number), count(&sixteen[..10]));
                prop_assert_eq!(rank::<_, 7>(sixteen.first_chunk().unwrap(), |key| key <= number), count(&sixteen[..7]));
                let eight = sixteen.first_chunk().unwrap();
                prop_assert_eq!(at_most(eight, number), one_by_one(eight, number));
            }
        }
    }
}
