//! Counters that many threads add to, and the seats that threads have at them.
//!
//! A locked addition costs more than itself: a processor waits until all that it has begun is done, and begins nothing
//! behind it, so that a check with two of them never overlaps with the next one. A thread that has a seat of its own adds by
//! a load and a store instead. Seats are handed out when a thread first counts; those for whom none is left, or whose seat
//! somebody took who has ended since, add to the shared half of a counter, locked.
//!
//! ```text
//!   OWNERS    [ thread 7f..40 | nobody | thread 7f..c0 | ... ]
//!   counters  [ own, shared   | ...    | own, shared   | ... ]     a sum is over all of them
//! ```
//!
//! A thread is told by the address of its control block, which is what pthread_self() returns, and no two threads have at the
//! same time: no memory of its own that would have to be allocated, and no system call. After fork() the seats of threads that
//! do not exist in the child stay taken.

#![expect(unsafe_code, reason = "asks the system which thread this is")]

#[cfg(all(loom, test))]
use loom::sync::atomic::AtomicU64;
#[cfg(not(all(loom, test)))]
use std::sync::atomic::AtomicU64;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many seats there are. A power of two.
pub(crate) const SEATS: usize = if cfg!(all(loom, test)) { 2 } else { 32 };
/// So many seats are looked at for one that is free.
const TRIES: usize = 4;
/// The golden ratio as a fraction of the numbers that a thread can have.
#[cfg(target_pointer_width = "64")]
const MULTIPLIER: usize = 0x9E37_79B9_7F4A_7C15;
#[cfg(not(target_pointer_width = "64"))]
const MULTIPLIER: usize = 0x9E37_79B9;

/// The threads that have seats; 0 where there is none.
static OWNERS: [AtomicUsize; SEATS] = [const { AtomicUsize::new(0) }; SEATS];

/// Where a thread counts. Good for that thread alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    number: usize,
    /// Whether no other thread has it.
    is_own: bool,
}

impl Seat {
    /// The seat of the calling thread.
    #[inline]
    pub(crate) fn here() -> Seat {
        let (thread, first) = Seat::first_place();
        Seat::at(first, thread).unwrap_or_else(|| Seat::search(thread, first))
    }

    /// The seat of the calling thread if it is its own and in the first place where it may be, as nearly all are: for code that
    /// need not ask at each counter whose seat it is.
    #[inline(always)]
    pub(crate) fn own() -> Option<Seat> {
        let (thread, first) = Seat::first_place();
        Seat::at(first, thread)
    }

    /// The calling thread, and the first place where its seat may be, before it is reduced to those that there are.
    #[inline(always)]
    fn first_place() -> (usize, usize) {
        let thread = this_thread();
        // Fibonacci hashing: the upper bits of the product depend on all bits.
        (thread, thread.wrapping_mul(MULTIPLIER) >> (usize::BITS - 16))
    }

    /// A place as a seat of a thread that has it.
    #[inline(always)]
    fn at(place: usize, thread: usize) -> Option<Seat> {
        let number = place % SEATS;
        (OWNERS.get(number)?.load(Ordering::Relaxed) == thread).then_some(Seat { number, is_own: true })
    }

    /// The seat of a thread that is not in the first place where it may be.
    #[inline(never)]
    fn search(thread: usize, first: usize) -> Seat {
        // Nobody gives up a seat, so that the one that a thread has comes before the first that is free.
        for number in (0..TRIES).map(|other| (first + other) % SEATS) {
            let Some(owner) = OWNERS.get(number) else { continue };
            let taken = match owner.load(Ordering::Relaxed) {
                0 => owner.compare_exchange(0, thread, Ordering::Relaxed, Ordering::Relaxed).is_ok(),
                owner => owner == thread,
            };
            if taken {
                return Seat { number, is_own: true };
            }
        }
        Seat { number: first % SEATS, is_own: false }
    }

    /// A seat for a model.
    #[cfg(all(loom, test))]
    pub(crate) fn of_model(number: usize, is_own: bool) -> Seat {
        Seat { number, is_own }
    }

    /// Which of [`SEATS`].
    #[inline]
    pub(crate) fn number(self) -> usize {
        self.number % SEATS
    }
}

/// The calling thread. The address of its control block stands at its own beginning, where the segment register FS points (ELF
/// Handling For Thread-Local Storage, on x86-64). A call of pthread_self() comes to the same, and takes 14 instructions of a check,
/// which has 300.
#[cfg(all(target_arch = "x86_64", target_pointer_width = "64", target_os = "linux", not(miri)))]
#[inline(always)]
fn this_thread() -> usize {
    let thread;
    // SAFETY: reads a word that every thread has, and nothing changes.
    unsafe { std::arch::asm!("mov {}, fs:0", out(reg) thread, options(nostack, preserves_flags, pure, readonly)) };
    thread
}

/// The calling thread.
#[cfg(not(all(target_arch = "x86_64", target_pointer_width = "64", target_os = "linux", not(miri))))]
#[inline(always)]
fn this_thread() -> usize {
    #[expect(clippy::allow_attributes, reason = "what it is differs between systems")]
    #[allow(clippy::cast_possible_truncation, reason = "a number or a pointer, of the size of a pointer")]
    // SAFETY: no conditions; it cannot fail.
    let thread = unsafe { libc::pthread_self() } as usize;
    thread
}

/// What is counted at one seat: by the thread that has it, and by those that share it.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    own: AtomicU64,
    shared: AtomicU64,
}

impl Counter {
    /// Adds a number; `wrapping_neg()` of one is taken off. `order` is that of a store.
    #[inline]
    pub(crate) fn add(&self, number: u64, seat: Seat, order: Ordering) {
        if seat.is_own {
            self.own.store(self.own.load(Ordering::Relaxed).wrapping_add(number), order);
        } else {
            self.shared.fetch_add(number, order);
        }
    }

    /// What has been counted, at least by all who have finished.
    pub(crate) fn sum(&self) -> u64 {
        self.own.load(Ordering::Relaxed).wrapping_add(self.shared.load(Ordering::Relaxed))
    }

    /// What each half has, after all that was done before it was counted there.
    pub(crate) fn halves(&self) -> [u64; 2] {
        [self.own.load(Ordering::Acquire), self.shared.load(Ordering::Acquire)]
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::sync::Barrier;
    use std::thread;

    #[test]
    fn a_thread_keeps_its_seat_and_shares_it_with_no_other() {
        const THREADS: usize = 2 * SEATS;
        let (all_are_seated, all_have_looked_again) = (Barrier::new(THREADS), Barrier::new(THREADS));
        let sit = || {
            let seat = Seat::here();
            all_are_seated.wait();
            let again = Seat::here();
            assert_eq!((again.number, again.is_own), (seat.number, seat.is_own));
            all_have_looked_again.wait();
            seat
        };
        let seats: Vec<Seat> = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(sit)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let own: Vec<usize> = seats.iter().filter(|seat| seat.is_own).map(|seat| seat.number).collect();
        assert_eq!(own.iter().collect::<BTreeSet<_>>().len(), own.len());
        assert!(seats.iter().all(|seat| seat.number < SEATS));
    }

    #[test]
    fn nothing_is_lost_however_many_count() {
        let counters: [Counter; SEATS] = Default::default();
        thread::scope(|scope| {
            for _ in 0..2 * SEATS {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let seat = Seat::here();
                        counters[seat.number()].add(1, seat, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(counters.iter().map(Counter::sum).sum::<u64>(), 2000 * SEATS as u64);
    }
}
