//! Strings from the caller, and strings for him.

use super::{call, gate_of, mxgate_gate};
use crate::gate::Gate;
use crate::line::{Line, Padded};
use libc::{c_char, c_int};
use std::fmt::{self, Write};
use std::ptr;

/// A length that means "the string ends at its NUL".
pub(super) const MXGATE_NUL: usize = usize::MAX;

/// The bytes of a string: `None` if its length is impossible, `Some(None)` for NULL.
///
/// # Safety
/// `text` is NULL or points to `length` bytes, or to a NUL-terminated string if `length` is `MXGATE_NUL`.
pub(super) unsafe fn bytes<'a>(text: *const c_char, length: usize, limit: usize) -> Option<Option<&'a [u8]>> {
    if text.is_null() {
        // A length without bytes is a mistake; no length, or "ends at its NUL", is just nothing.
        return matches!(length, 0 | MXGATE_NUL).then_some(None);
    }
    let length = match length {
        // SAFETY: the caller says that it is NUL-terminated.
        MXGATE_NUL => unsafe { libc::strnlen(text, limit.saturating_add(1)) },
        _ => length,
    };
    // SAFETY: the caller says so; the limit keeps the length below isize::MAX.
    (length <= limit).then(|| Some(unsafe { std::slice::from_raw_parts(text.cast(), length) }))
}

/// The string in an array, if it ends with NUL.
pub(super) fn string_in(array: &[c_char]) -> Option<&str> {
    let end = array.iter().position(|byte| *byte == 0)?;
    // SAFETY: c_char and u8 have the same size and alignment, and the bytes belong to the array.
    let bytes = unsafe { std::slice::from_raw_parts(array.as_ptr().cast(), end) };
    std::str::from_utf8(bytes).ok()
}

/// The array as bytes.
pub(super) fn bytes_of<const N: usize>(array: &mut [c_char; N]) -> &mut [u8; N] {
    // SAFETY: c_char and u8 have the same size and alignment, and the bytes are borrowed from the array.
    unsafe { &mut *ptr::from_mut(array).cast() }
}

/// Stores a text over an empty string. All that a verdict holds fits.
pub(super) fn put<const N: usize>(array: &mut [c_char; N], text: &str) {
    if !text.is_empty() {
        write_line(array, |line| line.push(text.as_bytes()));
    }
}

/// Stores a text that has its NULs with it, all of it.
#[inline(always)]
pub(super) fn put_padded<const N: usize, const M: usize>(array: &mut [c_char; N], text: &Padded<M>) {
    const { assert!(M <= N) }
    text.write::<M, N>(bytes_of(array), 0);
}

/// Stores what is written.
#[inline(always)]
pub(super) fn write_line<const N: usize>(array: &mut [c_char; N], write: impl FnOnce(&mut Line<'_>)) {
    let array = bytes_of(array);
    let mut line = Line::new(array.split_last_mut().map_or(&mut [], |(_, place)| place));
    write(&mut line);
    let length = line.as_bytes().len();
    if let Some(end) = array.get_mut(length) {
        *end = 0;
    }
}

/// Runs the body of a function that changes a gate, and reports into the caller's buffer. A buffer that is impossible is
/// found before anything is changed.
///
/// # Safety
/// `gate` is NULL or a gate; `message` is NULL or points to `size` bytes that nothing else refers to.
pub(super) unsafe fn change(
    gate: *mut mxgate_gate,
    message: *mut c_char,
    size: usize,
    body: impl FnOnce(&Gate, Output<'_>) -> Option<c_int>,
) -> c_int {
    // SAFETY: as the caller says.
    let message = unsafe { Output::new(message, size) };
    call(|| {
        // SAFETY: as the caller says.
        body(unsafe { gate_of(gate) }?, message?)
    })
}

/// Writes what a function makes into the caller's buffer. Returns its full length; 0, and an empty string, if there is
/// nothing.
pub(super) fn written<T: AsRef<str>>(buffer: Option<Output<'_>>, make: impl FnOnce() -> Option<T>) -> usize {
    let length = call(|| {
        let text = make()?;
        let text = text.as_ref();
        if let Some(mut buffer) = buffer {
            buffer.write_str(text).ok()?;
        }
        c_int::try_from(text.len()).ok()
    });
    usize::try_from(length).unwrap_or(0)
}

/// A buffer of the caller's that takes text, always NUL-terminated; what does not fit is dropped. Holds what is
/// still free, so that text can come in pieces.
pub(super) struct Output<'a>(&'a mut [u8]);

impl<'a> Output<'a> {
    /// An empty string in the caller's buffer; `None` for NULL with a size.
    ///
    /// # Safety
    /// `buffer` is NULL or points to `size` bytes that nothing else refers to.
    pub(super) unsafe fn new(buffer: *mut c_char, size: usize) -> Option<Output<'a>> {
        if buffer.is_null() || size == 0 {
            return (size == 0).then_some(Output(&mut []));
        }
        // No text of ours is longer, and the size is then one that a slice may have.
        let size = size.min(1 << 30);
        // SAFETY: the caller says so. The bytes need not be initialised by it: they are written, never read.
        let output = Output(unsafe { std::slice::from_raw_parts_mut(buffer.cast(), size) });
        Some(output.finish())
    }

    /// An empty string in an array.
    pub(super) fn of(array: &'a mut [c_char]) -> Output<'a> {
        // SAFETY: c_char and u8 have the same size and alignment, and the bytes are borrowed from the array.
        Output(unsafe { std::slice::from_raw_parts_mut(array.as_mut_ptr().cast(), array.len()) })
    }

    /// Ends the string here.
    pub(super) fn finish(self) -> Output<'a> {
        if let Some(first) = self.0.first_mut() {
            *first = 0;
        }
        self
    }

    /// Appends what fits.
    pub(super) fn push(&mut self, text: &[u8]) {
        let fitting = text.get(..self.0.len().saturating_sub(1)).unwrap_or(text);
        let (to, rest) = std::mem::take(&mut self.0).split_at_mut(fitting.len());
        to.copy_from_slice(fitting);
        if let Some(first) = rest.first_mut() {
            *first = 0;
        }
        self.0 = rest;
    }
}

impl Write for Output<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}
