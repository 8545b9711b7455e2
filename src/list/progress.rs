//! An input that tells how many of its lines have been read.

use memchr::memchr_iter;
use std::io::{self, BufRead, Read};

/// Tells it for each block that comes in.
pub(super) struct Told<'a, R> {
    input: R,
    /// How much of the block is left, whose lines are counted.
    left: usize,
    lines: u64,
    tell: &'a dyn Fn(u64),
}

impl<'a, R: BufRead> Told<'a, R> {
    pub(super) fn new(input: R, tell: &'a dyn Fn(u64)) -> Told<'a, R> {
        Told { input, left: 0, lines: 0, tell }
    }
}

impl<R: BufRead> BufRead for Told<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let block = self.input.fill_buf()?;
        if self.left == 0 && !block.is_empty() {
            self.left = block.len();
            self.lines += u64::try_from(memchr_iter(b'\n', block).count()).unwrap_or(0);
            (self.tell)(self.lines);
        }
        Ok(block)
    }

    fn consume(&mut self, amount: usize) {
        self.left = self.left.saturating_sub(amount);
        self.input.consume(amount);
    }
}

impl<R: BufRead> Read for Told<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::io::BufReader;

    #[test]
    fn each_line_counts_once() {
        let text = b"a\nbb\n\nccc\nd";
        for size in 1..=text.len() {
            let told = RefCell::new(Vec::new());
            let tell = |lines| told.borrow_mut().push(lines);
            let mut input = Told::new(BufReader::with_capacity(size, text.as_slice()), &tell);
            let mut head = [0; 3];
            input.read_exact(&mut head).unwrap();
            input.fill_buf().unwrap();
            input.consume(1);
            let mut rest = Vec::new();
            input.read_to_end(&mut rest).unwrap();
            assert_eq!((head.as_slice(), rest.as_slice()), (b"a\nb".as_slice(), b"\n\nccc\nd".as_slice()));
            drop(input);
            let told = told.into_inner();
            assert_eq!((told.len(), told.last()), (text.len().div_ceil(size), Some(&4)), "{size}");
        }
    }
}
