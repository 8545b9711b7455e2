//! A counter that many threads add to without getting in each other's way: each adds into one of several cache lines.

use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

/// So many cache lines that threads seldom meet.
const LINES: usize = 16;

/// The golden ratio as a fraction of the numbers that an address has.
#[cfg(target_pointer_width = "64")]
const MULTIPLIER: usize = 0x9E37_79B9_7F4A_7C15;
#[cfg(not(target_pointer_width = "64"))]
const MULTIPLIER: usize = 0x9E37_79B9;

/// A counter.
#[derive(Debug, Default)]
pub(crate) struct Tally([Line; LINES]);

/// Two cache lines, because processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line(AtomicU64);

impl Tally {
    pub(crate) fn add(&self) {
        if let Some(line) = self.0.get(here() % LINES) {
            line.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn sum(&self) -> u64 {
        self.0.iter().map(|line| line.0.load(Ordering::Relaxed)).sum()
    }
}

/// A number that differs between threads, without memory of their own and without a system call: the place of the stack.
/// Stacks lie 64 KiB apart at least; that one thread gets two numbers in deep calls does no harm.
pub(crate) fn here() -> usize {
    let on_the_stack = 0_u8;
    let place = ptr::from_ref(&on_the_stack).addr() >> 16;
    // Fibonacci hashing: the upper bits of the product depend on all bits of the place.
    place.wrapping_mul(MULTIPLIER) >> (usize::BITS - 16)
}
