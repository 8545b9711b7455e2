//! A line of ASCII in the making, written straight into its place: what does not fit is cut.
//!
//! A refusal has several. Made elsewhere and then copied they would cost twice as much, and more than the look-up: a
//! processor waits when it reads at once, in large pieces, what it has just written in small ones.

use crate::reply::MAX_VALUE;
use arrayvec::ArrayString;
use std::str;

/// A place, and how many bytes of it are written.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    place: &'a mut [u8],
    length: usize,
}

/// A text of fewer than N bytes, and NULs behind it: it is copied as a whole, which takes less than to look how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Padded<const N: usize> {
    bytes: [u8; N],
    length: u8,
}

impl<const N: usize> Default for Padded<N> {
    fn default() -> Padded<N> {
        Padded::new()
    }
}

/// Room for the longest text of unknown length, with a NUL, that is worth being copied as a whole.
pub(crate) const SHORT: usize = 64;

impl<const N: usize> Padded<N> {
    pub(crate) const fn new() -> Padded<N> {
        const { assert!(N <= u8::MAX as usize) }
        Padded { bytes: [0; N], length: 0 }
    }

    /// What fits of a text.
    pub(crate) fn of(text: &[u8]) -> Padded<N> {
        let mut padded = Padded::new();
        text.iter().for_each(|byte| padded.push(*byte));
        padded
    }

    pub(crate) fn push(&mut self, byte: u8) {
        if !self.is_full()
            && let Some(place) = self.bytes.get_mut(usize::from(self.length))
        {
            *place = byte;
            self.length += 1;
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length.into()).unwrap_or_default()
    }

    /// Writes it at a place of an array, or so many bytes of it, if there is room; says where it ends.
    #[inline(always)]
    pub(crate) fn write<const BYTES: usize, const M: usize>(&self, array: &mut [u8; M], at: usize) -> usize {
        if let Some(bytes) = self.bytes.first_chunk::<BYTES>() {
            write_at(array, at, bytes);
        }
        // Less than N: so the compiler knows that there is room behind it.
        at + usize::from(self.length) % N
    }

    pub(crate) fn is_full(&self) -> bool {
        usize::from(self.length) + 1 == N
    }
}

/// Writes at a place of an array, if there is room.
#[inline(always)]
pub(crate) fn write_at<const N: usize, const M: usize>(array: &mut [u8; N], at: usize, text: &[u8; M]) {
    if let Some(place) = array.get_mut(at..at + M).and_then(<[u8]>::first_chunk_mut) {
        *place = *text;
    }
}

/// Writes a text of unknown length at a place of an array, if there is room; says where it ends.
#[inline(always)]
pub(crate) fn write_text_at<const N: usize>(array: &mut [u8; N], at: usize, text: &[u8]) -> usize {
    if let Some(place) = array.get_mut(at..at + text.len()) {
        copy(place, text);
    }
    at + text.len()
}

impl<'a> Line<'a> {
    /// An empty line.
    pub(crate) fn new(place: &'a mut [u8]) -> Line<'a> {
        Line { place, length: 0 }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.place.get(..self.length).unwrap_or_default()
    }

    /// The line as a string.
    pub(crate) fn text<const N: usize>(&self) -> ArrayString<N> {
        str::from_utf8(self.as_bytes()).ok().and_then(|text| ArrayString::from(text).ok()).unwrap_or_default()
    }

    /// Appends what is written, of so many bytes at most.
    pub(crate) fn part<T>(&mut self, most: usize, write: impl FnOnce(&mut Line<'_>) -> T) -> T {
        let room = self.place.get_mut(self.length..).unwrap_or_default();
        let most = most.min(room.len());
        let mut part = Line::new(room.get_mut(..most).unwrap_or_default());
        let written = write(&mut part);
        self.length += part.length;
        written
    }

    pub(crate) fn clear(&mut self) {
        self.length = 0;
    }

    /// Appends ASCII.
    pub(crate) fn push(&mut self, ascii: &[u8]) {
        let room = self.place.get_mut(self.length..).unwrap_or_default();
        let fitting = ascii.get(..room.len()).unwrap_or(ascii);
        if let Some(place) = room.get_mut(..fitting.len()) {
            copy(place, fitting);
            self.length += fitting.len();
        }
    }

    /// Appends a text. Where there is room all of its array is written.
    #[inline(always)]
    pub(crate) fn push_padded<const N: usize>(&mut self, text: &Padded<N>) {
        self.push_first(text.length.into(), &text.bytes);
    }

    /// Appends the first bytes of an array. Where there is room all of it is written, which takes one instruction.
    #[inline(always)]
    pub(crate) fn push_first<const N: usize>(&mut self, length: usize, ascii: &[u8; N]) {
        self.push_written(|place| {
            *place = *ascii;
            length
        });
    }

    /// Appends the first bytes of an array that is written in place, or elsewhere if there is no room for all of it; `write`
    /// says how many.
    #[inline(always)]
    pub(crate) fn push_written<const N: usize>(&mut self, write: impl FnOnce(&mut [u8; N]) -> usize) {
        let room = self.place.get_mut(self.length..).unwrap_or_default();
        if let Some(place) = room.first_chunk_mut() {
            self.length += write(place).min(N);
        } else {
            let mut place = [0; N];
            let length = write(&mut place);
            self.push(place.get(..length).unwrap_or(&place));
        }
    }

    /// Appends what is left of a value from outside: white space becomes a space; `%`, which MTAs take for themselves, and
    /// all that is not printable ASCII becomes `?`; cut after [`MAX_VALUE`].
    pub(crate) fn push_harmless(&mut self, value: &[u8]) {
        let value = value.get(..MAX_VALUE).unwrap_or(value);
        // Nearly all are harmless as they are.
        if is_harmless(value) {
            return self.push(value);
        }
        for byte in value {
            self.push(&[harmless(*byte)]);
        }
    }
}

/// Copies so many bytes as both have. Most are few, for which a call of memcpy() takes longer than the copy.
fn copy(to: &mut [u8], from: &[u8]) {
    fn ends<const N: usize>(to: &mut [u8], from: &[u8]) -> Option<()> {
        // Of more than N and at most 2 N the first and the last N, which may overlap.
        let (first, last) = (*from.first_chunk::<N>()?, *from.last_chunk::<N>()?);
        *to.first_chunk_mut()? = first;
        *to.last_chunk_mut()? = last;
        Some(())
    }
    let copied = match from.len() {
        0 => Some(()),
        1..=3 => None,
        4..=7 => ends::<4>(to, from),
        8..=15 => ends::<8>(to, from),
        16..=32 => ends::<16>(to, from),
        33..=64 => ends::<32>(to, from),
        _ => {
            to.copy_from_slice(from);
            Some(())
        }
    };
    if copied.is_none() {
        to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    }
}

/// Whether nothing of a value would be changed.
fn is_harmless(value: &[u8]) -> bool {
    let (eights, _) = value.as_chunks();
    match value.last_chunk() {
        // The last eight may be in others too.
        Some(last) => eights.iter().all(|eight| are_harmless(*eight)) && are_harmless(*last),
        None => value.iter().all(|byte| harmless(*byte) == *byte),
    }
}

/// Whether none of eight bytes would be changed, all of them at once.
fn are_harmless(bytes: [u8; 8]) -> bool {
    const fn all(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }
    let bytes = u64::from_ne_bytes(bytes);
    // The upper bit of each byte that is below a number of at most 128, if it is below 128 itself; or of one above such a byte.
    let below = |bytes: u64, number: u8| bytes.wrapping_sub(all(number)) & !bytes;
    (bytes | below(bytes, b' ') | below(bytes ^ all(b'%'), 1) | below(bytes ^ all(0x7f), 1)) & all(0x80) == 0
}

fn harmless(byte: u8) -> u8 {
    #[expect(clippy::indexing_slicing, reason = "what goes wrong here does not compile")]
    const HARMLESS: [u8; 256] = {
        let mut harmless = [b'?'; 256];
        let mut byte = b' ';
        while byte <= b'~' {
            harmless[byte as usize] = if byte == b'%' { b'?' } else { byte };
            byte += 1;
        }
        harmless[b'\t' as usize] = b' ';
        harmless[b'\n' as usize] = b' ';
        harmless[b'\r' as usize] = b' ';
        harmless
    };
    HARMLESS.get(usize::from(byte)).copied().unwrap_or(b'?')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_cut() {
        for room in 0..20 {
            let mut place = [0; 20];
            let mut line = Line::new(&mut place[..room]);
            line.push(b"one ");
            line.push_first(1, b"tw");
            line.push_padded(&Padded::<7>::of(b"wo"));
            line.push_harmless(b"\t%\xff!");
            line.push(b" three");
            let whole = "one two ??! three";
            assert_eq!(line.text::<20>().as_str(), &whole[..room.min(whole.len())]);
            line.clear();
            assert!(line.as_bytes().is_empty());
        }
    }
}
