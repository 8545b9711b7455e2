//! Names of questions: eight letters and digits, under which a reply that a client has read is found again in a log. Short
//! enough to be read out on the telephone, and no two alike.
//!
//! ```
//! use mxgate::id::{Ids, parse};
//! use std::time::SystemTime;
//!
//! let ids = Ids::beginning(SystemTime::now());
//! let id = ids.draw();
//! assert_eq!(parse(&id.to_lowercase()), Some(id));
//! assert_ne!(ids.draw(), id);
//! ```

use arrayvec::ArrayString;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The name of a question.
pub type Id = ArrayString<8>;

/// The digits of Crockford's base 32: none that is taken for another.
const DIGITS: [u8; 32] = *b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const DIGIT_BITS: u32 = 5;
/// All bits that a name has.
const MASK: u64 = (1 << 40) - 1;
/// So many bits of the count come below the seconds: who draws fewer than 4,096 a second on average draws none that was
/// drawn in the eight years before the start of the process.
const COUNT_BITS: u32 = 12;
/// The golden ratio as a fraction of 2^40, odd: multiplying by it loses nothing.
const MULTIPLIER: u64 = 0x9E_3779_B97F;

/// Draws names.
#[derive(Debug)]
pub struct Ids(AtomicU64);

impl Ids {
    /// Names that no process drew that began before this time.
    pub fn beginning(now: SystemTime) -> Ids {
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Ids(AtomicU64::new(seconds << COUNT_BITS))
    }

    /// The next one. Neighbours do not look alike.
    pub fn draw(&self) -> Id {
        let mut number = self.0.fetch_add(1, Ordering::Relaxed) & MASK;
        // Each step can be taken back, so that no two numbers become the same.
        for _ in 0..2 {
            number = number.wrapping_mul(MULTIPLIER) & MASK;
            number ^= number >> 20;
        }
        let mut id = Id::new();
        for place in (0..8).rev() {
            let [low, ..] = (number >> (place * DIGIT_BITS)).to_le_bytes();
            id.push(DIGITS.get(usize::from(low & 31)).copied().map_or('0', char::from));
        }
        id
    }
}

/// Reads a name as people write it: in either case, `O` for zero, `I` and `L` for one.
pub fn parse(text: &str) -> Option<Id> {
    let mut id = Id::new();
    for letter in text.chars() {
        let letter = match letter.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            other => other,
        };
        let known = u8::try_from(letter).is_ok_and(|letter| DIGITS.contains(&letter));
        if !known || id.try_push(letter).is_err() {
            return None;
        }
    }
    id.is_full().then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::time::Duration;

    #[test]
    fn no_two_are_alike_not_even_after_a_restart() {
        let start = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let (ids, restarted) = (Ids::beginning(start), Ids::beginning(start + Duration::from_secs(3)));
        let drawn: HashSet<Id> = (0..10_000).map(|_| ids.draw()).chain((0..10_000).map(|_| restarted.draw())).collect();
        assert_eq!(drawn.len(), 20_000);
        let mut drawn = (0..100).map(|_| ids.draw());
        let first = drawn.next().unwrap();
        assert!(drawn.all(|id| id.bytes().zip(first.bytes()).filter(|(one, other)| one == other).count() < 6));
    }

    #[test]
    fn as_people_write_them() {
        let id = parse("k7q2m4x0").unwrap();
        assert_eq!(id.as_str(), "K7Q2M4X0");
        assert_eq!(parse("K7Q2M4XO"), Some(id));
        assert_eq!(parse("iLoO0123"), parse("11000123"));
        for wrong in ["", "K7Q2M4X", "K7Q2M4X0A", "K7Q2M4X!", "K7Q2M4XU", "K7Q2M4X\u{e9}"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
