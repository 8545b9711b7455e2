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

    pub(crate) fn clear(&mut self) {
        self.length = 0;
    }

    /// Appends ASCII.
    pub(crate) fn push(&mut self, ascii: &[u8]) {
        let room = self.place.get_mut(self.length..).unwrap_or_default();
        let fitting = ascii.get(..room.len()).unwrap_or(ascii);
        if let Some(place) = room.get_mut(..fitting.len()) {
            place.copy_from_slice(fitting);
            self.length += fitting.len();
        }
    }

    /// Appends the first bytes of an array. Where there is room all of it is written, which takes one instruction.
    pub(crate) fn push_first<const N: usize>(&mut self, length: usize, ascii: &[u8; N]) {
        let room = self.place.get_mut(self.length..).unwrap_or_default();
        match room.first_chunk_mut() {
            Some(place) => {
                *place = *ascii;
                self.length += length.min(N);
            }
            None => self.push(ascii.get(..length).unwrap_or(ascii)),
        }
    }

    /// Appends what is left of a value from outside: white space becomes a space; `%`, which MTAs take for themselves, and
    /// all that is not printable ASCII becomes `?`; cut after [`MAX_VALUE`].
    pub(crate) fn push_harmless(&mut self, value: &[u8]) {
        let value = value.get(..MAX_VALUE).unwrap_or(value);
        // Nearly all are harmless as they are.
        if value.iter().all(|byte| harmless(*byte) == *byte) {
            return self.push(value);
        }
        for byte in value {
            self.push(&[harmless(*byte)]);
        }
    }
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
            line.push_first(3, b"two    ");
            line.push_harmless(b"\t%\xff!");
            line.push(b" three");
            let whole = "one two ??! three";
            assert_eq!(line.text::<20>().as_str(), &whole[..room.min(whole.len())]);
            line.clear();
            assert!(line.as_bytes().is_empty());
        }
    }
}
