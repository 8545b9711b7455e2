//! What becomes of a load when memory runs out: it fails, and the rules in force stay.
//!
//! Rust ends the process when an allocation fails, which a library must not do to its host. Two things prevent it. What
//! grows with a list asks for its memory first ([`room`], [`with_room`]). What is small, here and in the libraries that
//! read policies and lists, gets it from a reserve if the system has none; that is so in the C library (feature `capi`,
//! `reserve.rs`). Whoever works long looks after each step whether memory has run out ([`Watch`]) and stops. What was made
//! until then is incomplete and may be wrong; the one who began the load looks last of all, and throws it away.

use crate::diagnostic::Fault;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The size of a large page, of most processors.
const LARGE_PAGE: usize = 2 << 20;

/// How often memory was asked for here in vain. For all gates together: when one load lacks memory others do too.
static DENIED: AtomicUsize = AtomicUsize::new(0);

/// Makes room for some more elements. Says whether there is any.
pub(crate) fn room<T>(vec: &mut Vec<T>, more: usize) -> bool {
    vec.capacity() - vec.len() >= more || grow(vec, more)
}

#[cold]
fn grow<T>(vec: &mut Vec<T>, more: usize) -> bool {
    let needed = vec.len().saturating_add(more);
    let pages = needed.saturating_mul(size_of::<T>()) / LARGE_PAGE;
    if pages == 0 {
        return granted(vec.try_reserve(more).is_ok());
    }
    // To be moved only after the advice, and not as often: what is spare costs nothing until somebody writes there.
    let spare = if pages < 16 { 4 } else { 2 };
    let mut larger = Vec::new();
    if larger.try_reserve_exact(needed.saturating_mul(spare)).is_err() {
        // Where memory is counted before it is used.
        return granted(vec.try_reserve(more).is_ok());
    }
    ask_for_large_pages(&mut larger);
    larger.append(vec);
    *vec = larger;
    true
}

/// A vector with room for that many elements; without any if there is none.
pub(crate) fn with_room<T>(elements: usize) -> Vec<T> {
    let mut vec = Vec::new();
    granted(vec.try_reserve_exact(elements).is_ok());
    ask_for_large_pages(&mut vec);
    vec
}

/// Asks the system to give a large array large pages: else it comes in thousands of small ones, and each of them takes as long
/// as to read a dozen lines of a list.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "a word of advice about memory of our own")]
fn ask_for_large_pages<T>(vec: &mut Vec<T>) {
    let bytes = vec.capacity() * size_of::<T>();
    let ahead = vec.as_mut_ptr().cast::<u8>().align_offset(LARGE_PAGE);
    let Some(pages @ 1..) = bytes.checked_sub(ahead).map(|bytes| bytes / LARGE_PAGE) else { return };
    let start = vec.as_mut_ptr().cast::<u8>().wrapping_add(ahead);
    // SAFETY: the pages lie inside of what the vector owns, and nothing of what is in them changes.
    let _ = unsafe { libc::madvise(start.cast(), pages * LARGE_PAGE, libc::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn ask_for_large_pages<T>(_vec: &mut Vec<T>) {}

fn granted(granted: bool) -> bool {
    if !granted {
        DENIED.fetch_add(1, Ordering::Relaxed);
    }
    granted
}

/// Sees whether memory has run out since it began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch(usize);

impl Watch {
    pub(crate) fn begin() -> Watch {
        Watch(shortages())
    }

    /// Whether an allocation has failed since.
    pub(crate) fn is_short(self) -> bool {
        shortages() != self.0
    }

    /// An error if an allocation has failed since.
    pub(crate) fn check(self) -> Result<(), Fault> {
        if self.is_short() { Err(ran_out()) } else { Ok(()) }
    }
}

/// Says that memory ran out.
pub(crate) fn ran_out() -> Fault {
    Fault::limit("memory ran out", "give the process more, or leave out a list")
}

fn shortages() -> usize {
    DENIED.load(Ordering::Relaxed).wrapping_add(refused())
}

#[cfg(feature = "capi")]
pub(crate) use crate::reserve::open;
#[cfg(feature = "capi")]
use crate::reserve::refused;

#[cfg(not(feature = "capi"))]
fn refused() -> usize {
    0
}

/// Sets the reserve aside, where there is one.
#[cfg(not(feature = "capi"))]
pub(crate) fn open() -> bool {
    true
}
