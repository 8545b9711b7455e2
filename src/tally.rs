//! A counter that many threads add to without getting in each other's way: each adds into one of several cache lines.

use crate::seat::{Counter, SEATS, Seat};
use std::sync::atomic::Ordering;

/// A counter.
#[derive(Debug, Default)]
pub(crate) struct Tally([Line; SEATS]);

/// Two cache lines, because processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line(Counter);

impl Tally {
    /// Adds one.
    #[inline]
    pub(crate) fn add(&self, seat: Seat) {
        if let Some(line) = self.0.get(seat.number()) {
            line.0.add(1, seat, Ordering::Relaxed);
        }
    }

    pub(crate) fn sum(&self) -> u64 {
        self.0.iter().map(|line| line.0.sum()).sum()
    }
}
