//! What a name or a mailbox is made of, looked at sixteen bytes at a time: strangers' names are long, and each of them is looked
//! at.

use super::MAX_LABEL;
use bytemuck::cast;
use wide::{CmpEq, CmpGt, CmpLt, i8x16};

/// The bytes of a text of 8 to 64 that matter, a bit each from its first one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Those that no name in the form of the tables has: capital letters too.
    pub foreign: u64,
    pub capitals: u64,
    pub dots: u64,
    /// `@`
    pub ats: u64,
    /// `"`
    pub quotes: u64,
}

impl Shape {
    /// What a text is like; `None` for a shorter or longer one.
    #[inline(always)]
    pub(crate) fn of(text: &[u8]) -> Option<Shape> {
        match text.len() {
            8..16 => {
                // The last eight may be among the first, which does no harm.
                let both = [u64::from_ne_bytes(*text.first_chunk()?), u64::from_ne_bytes(*text.last_chunk()?)];
                let shift = text.len() - 8;
                Some(Shape::of_16(cast(both)).map(|bits| bits & 0xff | bits >> 8 << shift))
            }
            16..=64 => {
                // The last sixteen may be among the others.
                let mut at = text.len() - 16;
                let mut shape = Shape::of_16(cast(*text.last_chunk::<16>()?)).map(|bits| bits << at);
                while at > 0 {
                    at = at.saturating_sub(16);
                    let more = Shape::of_16(cast(*text.get(at..)?.first_chunk::<16>()?));
                    shape = shape.and(more.map(|bits| bits << at));
                }
                Some(shape)
            }
            _ => None,
        }
    }

    /// What is left of the text behind its first bytes.
    pub(crate) fn behind(self, count: usize) -> Shape {
        self.map(|bits| bits.checked_shr(u32::try_from(count).unwrap_or(u32::MAX)).unwrap_or(0))
    }

    /// Whether a text of that length, which is like this, is a name. Anything but ASCII makes it none.
    pub(crate) fn is_name(&self, length: usize) -> bool {
        self.foreign == self.capitals && self.has_labels(length)
    }

    /// Whether it is a name in the form of the tables.
    #[inline(always)]
    pub(crate) fn is_small_name(&self, length: usize) -> bool {
        self.foreign == 0 && self.has_labels(length)
    }

    /// Whether labels are neither empty nor too long.
    #[inline(always)]
    fn has_labels(&self, length: usize) -> bool {
        let end = 1 << (length.wrapping_sub(1) & 63);
        let empty_label = self.dots & (self.dots << 1 | 1 | end) != 0;
        let long_label = self.dots == 0 && length > MAX_LABEL;
        length > 0 && !empty_label && !long_label
    }

    #[inline(always)]
    fn of_16(bytes: i8x16) -> Shape {
        // What is not ASCII is negative.
        let all = |byte: u8| i8x16::splat(byte.cast_signed());
        let between = |first: u8, last: u8| bytes.cmp_gt(all(first - 1)) & bytes.cmp_lt(all(last + 1));
        let is = |byte: u8| bytes.cmp_eq(all(byte));
        let (capitals, dots) = (between(b'A', b'Z'), is(b'.'));
        // From the hyphen to the digits there is one that no name has.
        let small = between(b'a', b'z') | is(b'_') | between(b'-', b'9') & !is(b'/');
        let bits = |mask: i8x16| u64::from(mask.move_mask().cast_unsigned() & 0xffff);
        Shape { foreign: bits(small) ^ 0xffff, capitals: bits(capitals), dots: bits(dots), ats: bits(is(b'@')), quotes: bits(is(b'"')) }
    }

    #[inline(always)]
    fn map(self, change: impl Fn(u64) -> u64) -> Shape {
        let Shape { foreign, capitals, dots, ats, quotes } = self;
        let [foreign, capitals, dots, ats, quotes] = [foreign, capitals, dots, ats, quotes].map(change);
        Shape { foreign, capitals, dots, ats, quotes }
    }

    #[inline(always)]
    fn and(self, more: Shape) -> Shape {
        Shape {
            foreign: self.foreign | more.foreign,
            capitals: self.capitals | more.capitals,
            dots: self.dots | more.dots,
            ats: self.ats | more.ats,
            quotes: self.quotes | more.quotes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Whether it is a name, and then whether it has no capital letters.
    fn look(name: &[u8]) -> Option<Result<bool, ()>> {
        let shape = Shape::of(name)?;
        Some(if shape.is_name(name.len()) { Ok(shape.capitals == 0) } else { Err(()) })
    }

    /// The same, by the definition.
    fn by_byte(name: &[u8]) -> Result<bool, ()> {
        let of_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let mut labels = name.split(|byte| *byte == b'.');
        let is_name = labels.all(|label| (1..=MAX_LABEL).contains(&label.len()) && label.iter().all(of_name));
        if is_name { Ok(!name.iter().any(u8::is_ascii_uppercase)) } else { Err(()) }
    }

    #[test]
    fn every_byte_at_every_place() {
        for length in 0..70 {
            let name = vec![b'a'; length];
            for at in 0..length {
                for byte in 0..=255 {
                    let mut name = name.clone();
                    name[at] = byte;
                    assert_eq!(look(&name), (8..=64).contains(&length).then(|| by_byte(&name)), "{byte} at {at} of {length}");
                    let Some(shape) = Shape::of(&name) else { continue };
                    let bits = |which: u8| if byte == which { 1 << at } else { 0 };
                    assert_eq!((shape.dots, shape.ats, shape.quotes), (bits(b'.'), bits(b'@'), bits(b'"')), "{byte} at {at} of {length}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_name_is_what_the_definition_says(name in prop_oneof!["[a-z.]{0,70}", "[a-zA-Z0-9_.-]{0,70}", "\\PC{0,40}"]) {
            if let Some(seen) = look(name.as_bytes()) {
                prop_assert_eq!(seen, by_byte(name.as_bytes()));
            }
            for at in 0..name.len() {
                let (Some(shape), Some(rest)) = (Shape::of(name.as_bytes()), name.as_bytes().get(at..)) else { break };
                let is_name = shape.behind(at).is_name(rest.len());
                prop_assert_eq!(is_name, by_byte(rest).is_ok());
            }
        }
    }
}
