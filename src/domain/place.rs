//! Where a mailbox is, as a question has it.

use crate::bytes::last;
use std::ops::Deref;

/// A domain or address literal in the form of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place<'a> {
    name: &'a [u8],
    /// Where its full stops are, a bit each from its first byte, if somebody has looked.
    dots: Option<u64>,
}

impl<'a> Place<'a> {
    /// A name of at most 64 bytes, and where its full stops are.
    pub(crate) fn with_dots(name: &'a [u8], dots: u64) -> Place<'a> {
        Place { name, dots: Some(dots) }
    }

    pub(crate) fn as_bytes(self) -> &'a [u8] {
        self.name
    }

    /// Where its last label begins, and what stands before that.
    #[inline(always)]
    pub(super) fn split_last(self) -> (usize, Option<Place<'a>>) {
        let dot = match self.dots {
            Some(dots) => dots.checked_ilog2().map(|dot| dot as usize),
            None => last(b'.', self.name),
        };
        match dot.and_then(|dot| self.name.get(..dot)) {
            Some(before) => {
                let dots = self.dots.map(|dots| dots & !(1 << (before.len() & 63)));
                (before.len() + 1, Some(Place { name: before, dots }))
            }
            None => (0, None),
        }
    }
}

impl<'a> From<&'a [u8]> for Place<'a> {
    fn from(name: &'a [u8]) -> Place<'a> {
        Place { name, dots: None }
    }
}

impl Deref for Place<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.name
    }
}
