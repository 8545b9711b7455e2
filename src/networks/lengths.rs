//! Lengths of prefixes, in the bits that a line of IPv4 has to spare: who refuses a client has to say which network it is in, and
//! what the entry says of itself lies far away. The tag of a background is the length itself, 0 if it is not known; that of a piece:
//!
//! ```text
//!   | mark 3 | size 5 |      mark 0: not known. Of a piece with a size 2^k: the mark is 1 for a network of that size, 2 for one
//!                            twice as large, and so on. Of one that lasts to the next: see OPEN
//! ```
//!
//! Only lengths of entries that always count are kept, one for each place where one entry covers.

/// The size of a piece that lasts until the next one: more than there are numbers.
pub(super) const TO_THE_NEXT: u8 = 16;
/// Lengths of the networks of which most is left over between smaller ones.
const OPEN: [u8; 7] = [16, 18, 19, 20, 21, 22, 24];
/// The bits of a size.
const SIZE: u8 = (1 << MARK) - 1;
/// Where the mark begins.
const MARK: u8 = 5;

/// The lengths that the sizes of pieces tell, with their marks; 0 if none is told.
#[expect(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "what goes wrong here does not compile")]
const LENGTHS: [u8; 256] = {
    let mut lengths = [0; 256];
    let mut marked = 0;
    while marked < 256 {
        let (mark, size) = (marked as u8 >> MARK, marked as u8 & SIZE);
        lengths[marked] = match size {
            _ if mark == 0 => 0,
            0..TO_THE_NEXT => 33 - size - mark,
            TO_THE_NEXT => OPEN[mark as usize - 1],
            _ => 0,
        };
        marked += 1;
    }
    lengths
};

/// The size of a piece, without its mark.
#[inline(always)]
pub(super) fn size(marked: u8) -> u8 {
    marked & SIZE
}

/// The length that a piece tells; 0 for none.
#[inline(always)]
pub(super) fn of_piece(marked: u8) -> u8 {
    LENGTHS.get(usize::from(marked)).copied().unwrap_or(0)
}

/// A size that tells a length, as far as it can.
pub(super) fn marked(size: u8, length: Option<u8>) -> u8 {
    let marks = (1..=7).map(|mark| size | mark << MARK);
    // Nearly always it is the first.
    length.and_then(|length| marks.clone().find(|marked| of_piece(*marked) == length)).unwrap_or(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_right_or_nothing() {
        let (mut told, mut all) = (0, 0);
        for size in 0..=TO_THE_NEXT {
            assert_eq!(marked(size, None), size);
            for length in 1..=32 {
                let marked = marked(size, Some(length));
                assert_eq!(super::size(marked), size);
                assert!([0, length].contains(&of_piece(marked)), "{size} {length}");
                told += usize::from(of_piece(marked) == length);
                all += usize::from(length <= 32 - size.min(15));
            }
            // A piece that is all of a network, and one that is half of it.
            if size < TO_THE_NEXT {
                assert!([32 - size, 31 - size].into_iter().all(|length| of_piece(marked(size, Some(length))) == length));
            }
        }
        assert!(told * 4 > all, "{told} of {all}");
    }
}
