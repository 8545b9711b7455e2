//! What a name is made of, looked at sixteen bytes at a time: strangers' names are long, and each of them is looked at.

use super::MAX_LABEL;
use bytemuck::cast;
use wide::{CmpEq, CmpGt, CmpLt, i8x16};

/// The bytes of a name that matter, a bit each from its first one.
#[derive(Clone, Copy)]
struct Seen {
    /// Those that no name has.
    foreign: u64,
    capitals: u64,
    dots: u64,
}

/// Of a name of 8 to 64 bytes: whether it is one, and then whether it has no capital letters; `None` for a shorter or longer
/// one. Anything but ASCII makes it none.
#[inline]
pub(super) fn look(name: &[u8]) -> Option<Result<bool, ()>> {
    let seen = match name.len() {
        8..16 => {
            // The last eight may be among the first, which does no harm.
            let both = [u64::from_ne_bytes(*name.first_chunk()?), u64::from_ne_bytes(*name.last_chunk()?)];
            let Seen { foreign, capitals, dots } = seen(cast(both));
            let shift = name.len() - 8;
            let spread = |bits: u64| bits & 0xff | bits >> 8 << shift;
            Seen { foreign, capitals, dots: spread(dots) }
        }
        16..=64 => {
            // The last sixteen may be among the others.
            let (Seen { mut foreign, mut capitals, mut dots }, mut at) = (seen(cast(*name.last_chunk::<16>()?)), name.len() - 16);
            dots <<= at;
            while at > 0 {
                at = at.saturating_sub(16);
                let more = seen(cast(*name.get(at..)?.first_chunk::<16>()?));
                (foreign, capitals, dots) = (foreign | more.foreign, capitals | more.capitals, dots | more.dots << at);
            }
            Seen { foreign, capitals, dots }
        }
        _ => return None,
    };
    let end = 1 << (name.len() - 1);
    let empty_label = seen.dots & (seen.dots << 1 | 1 | end) != 0;
    let long_label = seen.dots == 0 && name.len() > MAX_LABEL;
    let is_name = seen.foreign == 0 && !empty_label && !long_label;
    Some(if is_name { Ok(seen.capitals == 0) } else { Err(()) })
}

#[inline(always)]
fn seen(bytes: i8x16) -> Seen {
    // What is not ASCII is negative.
    let all = |byte: u8| i8x16::splat(byte.cast_signed());
    let between = |first: u8, last: u8| bytes.cmp_gt(all(first - 1)) & bytes.cmp_lt(all(last + 1));
    let is = |byte: u8| bytes.cmp_eq(all(byte));
    let (capitals, dots) = (between(b'A', b'Z'), is(b'.'));
    // From the hyphen to the digits there is one that no name has.
    let others = between(b'a', b'z') | is(b'_') | between(b'-', b'9') & !is(b'/');
    let bits = |mask: i8x16| u64::from(mask.move_mask().cast_unsigned() & 0xffff);
    Seen { foreign: bits(others | capitals) ^ 0xffff, capitals: bits(capitals), dots: bits(dots) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
        }
    }
}
