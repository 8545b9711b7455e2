//! Searches through few bytes: names and addresses, for which a search over many bytes at once takes longer to begin than a
//! loop to end.

/// Where a byte stands last.
#[inline(always)]
pub(crate) fn last(byte: u8, bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let mut rest = bytes;
    while let Some((before, eight)) = rest.split_last_chunk::<8>() {
        // Bytes that are alike differ by 0. The lowest that is marked, which is the last one, is such a byte.
        let differences = u64::from_be_bytes(*eight) ^ u64::from_ne_bytes([byte; 8]);
        let alike = differences.wrapping_sub(ONES) & !differences & (ONES << 7);
        if alike != 0 {
            return Some(rest.len() - 1 - (alike.trailing_zeros() / 8) as usize);
        }
        rest = before;
    }
    while let [before @ .., last] = rest {
        if *last == byte {
            return Some(before.len());
        }
        rest = before;
    }
    None
}

/// Whether they are the same.
#[inline(always)]
pub(crate) fn are_same(one: &[u8], other: &[u8]) -> bool {
    /// Of N to 2 N bytes the first and the last N, which may overlap.
    fn by_ends<const N: usize>(one: &[u8], other: &[u8]) -> bool {
        one.first_chunk::<N>() == other.first_chunk() && one.last_chunk::<N>() == other.last_chunk()
    }
    one.len() == other.len()
        && match one.len() {
            8..=16 => by_ends::<8>(one, other),
            17..=32 => by_ends::<16>(one, other),
            _ => one == other,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_byte_makes_them_differ() {
        for length in 0..40 {
            let one = vec![b'a'; length];
            assert!(are_same(&one, &one.clone()) && !are_same(&one, &[&one[..], b"a"].concat()));
            for at in 0..length {
                let mut other = one.clone();
                other[at] = b'b';
                assert!(!are_same(&one, &other), "{at} of {length}");
            }
        }
    }

    proptest! {
        #[test]
        fn the_last_one_is_found(bytes in prop::collection::vec(prop_oneof![b'-'..=b'0', any::<u8>()], 0..40)) {
            prop_assert_eq!(last(b'.', &bytes), bytes.iter().rposition(|byte| *byte == b'.'));
        }
    }
}
