//! How often lists have decided, counted where the next question need not wait until it is known which list it was.
//!
//! Which list refuses a client comes from a table in far memory. A counter of that list has an address that is known no earlier,
//! and a processor goes only a little further while it does not know where it is going to store: refusals then wait for memory
//! one by one. So the first lists have lanes: small counts side by side in one number of the thread's seat, to which a refusal
//! adds at an address that is always the same. Before one of them could overflow they are moved to where they stay.
//!
//! ```text
//!   a seat   fresh    | lane 0: 5 bits | lane 1 | ... | lane 11 |      since the last move
//!            settled  [ lane 0: count, parity | lane 1 | ...      ]      of all moves
//!            moves, and what is left before the next
//! ```
//!
//! Who reads the sum waits for nobody, and finds neither more nor less while a thread amid a move sleeps, or was lost in a
//! fork(): the parity of a count says whether the move that is under way has been there. `make loom` shows it.

use crate::seat::{SEATS, Seat};
use crate::tally::Tally;
#[cfg(all(loom, test))]
use loom::sync::atomic::AtomicU64;
use std::array;
use std::sync::Arc;
#[cfg(not(all(loom, test)))]
use std::sync::atomic::AtomicU64;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How often a list has decided.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hits {
    tally: Arc<Tally>,
    lane: Option<(Arc<Lanes>, usize)>,
}

/// The lanes of a gate.
#[derive(Debug)]
pub(crate) struct Lanes {
    seats: [Fresh; SEATS],
    /// How many lists have one. A list keeps it for ever.
    taken: AtomicUsize,
}

/// The lanes of a seat, which only the thread that has the seat writes. Two cache lines, because processors fetch them in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Fresh {
    /// How many additions there may be before the next move.
    left: AtomicU64,
    lanes: AtomicU64,
    moves: AtomicU64,
    /// Twice the count; odd if as many moves have been there, modulo 2.
    settled: [AtomicU64; LANES],
}

/// Bits of a lane.
const BITS: u32 = if cfg!(all(loom, test)) { 1 } else { 5 };
/// So many additions have room in any lane.
const ROOM: u64 = (1 << BITS) - 1;
/// How many lists can have a lane.
const LANES: usize = if cfg!(all(loom, test)) { 2 } else { 12 };

impl Hits {
    /// Adds one.
    #[inline]
    pub(crate) fn add(&self, seat: Seat) {
        self.tally.add(seat);
    }

    pub(crate) fn sum(&self) -> u64 {
        self.tally.sum() + self.lane.as_ref().map_or(0, |(lanes, lane)| lanes.sum(*lane))
    }

    /// Takes a lane, if it has none and one is left.
    pub(crate) fn take_lane(&mut self, lanes: &Arc<Lanes>) {
        if self.lane.is_none() {
            let taken = lanes.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| (taken < LANES).then_some(taken + 1));
            self.lane = taken.ok().map(|lane| (Arc::clone(lanes), lane));
        }
    }

    /// What to add to the lanes of a seat for one; 0 if it has no lane.
    pub(crate) fn one(&self) -> u64 {
        self.lane.as_ref().map_or(0, |(_, lane)| one_in(*lane))
    }
}

impl Default for Lanes {
    fn default() -> Lanes {
        Lanes { seats: array::from_fn(|_| Fresh::new()), taken: AtomicUsize::new(0) }
    }
}

impl Lanes {
    /// Adds one to a lane. The seat is the thread's own.
    #[inline(always)]
    pub(crate) fn add(&self, one: u64, seat: Seat) {
        if let Some(fresh) = self.seats.get(seat.number()) {
            fresh.add(one);
        }
    }

    fn sum(&self, lane: usize) -> u64 {
        self.seats.iter().map(|fresh| fresh.count(lane)).sum()
    }
}

impl Fresh {
    fn new() -> Fresh {
        Fresh {
            left: AtomicU64::new(ROOM),
            lanes: AtomicU64::new(0),
            moves: AtomicU64::new(0),
            settled: array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    #[inline(always)]
    fn add(&self, one: u64) {
        // Not for those who read: only this thread looks at it.
        if self.left.load(Ordering::Relaxed) == 0 {
            self.settle();
        }
        self.left.store(self.left.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        // Who sees this sees all moves before it.
        self.lanes.store(self.lanes.load(Ordering::Relaxed) + one, Ordering::Release);
    }

    /// Moves what is in the lanes. A move that was begun by a thread that a fork() has left behind is finished.
    #[cold]
    fn settle(&self) {
        let (lanes, moves) = (self.lanes.load(Ordering::Relaxed), self.moves.load(Ordering::Relaxed) + 1);
        for (lane, settled) in self.settled.iter().enumerate() {
            let before = settled.load(Ordering::Relaxed);
            if before % 2 != moves % 2 {
                settled.store(2 * (before / 2 + in_lane(lanes, lane)) + moves % 2, Ordering::Release);
            }
        }
        self.lanes.store(0, Ordering::Release);
        self.moves.store(moves, Ordering::Release);
        self.left.store(ROOM, Ordering::Relaxed);
    }

    fn count(&self, lane: usize) -> u64 {
        let Some(settled) = self.settled.get(lane) else { return 0 };
        loop {
            let moves = self.moves.load(Ordering::Acquire);
            let lanes = self.lanes.load(Ordering::Acquire);
            let settled = settled.load(Ordering::Acquire);
            // Else a move has come between, and what was read does not belong together: both were read before the moves, so
            // that who has seen anything from behind a move finds it counted here.
            if self.moves.load(Ordering::Relaxed) == moves {
                let is_moved = settled % 2 != moves % 2;
                return (settled >> 1) + if is_moved { 0 } else { in_lane(lanes, lane) };
            }
        }
    }
}

fn one_in(lane: usize) -> u64 {
    1 << (BITS as usize * lane)
}

/// What is in a lane.
fn in_lane(lanes: u64, lane: usize) -> u64 {
    (lanes / one_in(lane)) & ROOM
}

const _: () = assert!(BITS as usize * LANES <= 64);

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    #[test]
    fn what_is_added_is_found_at_once() {
        let (lanes, seat) = (Arc::new(Lanes::default()), Seat::here());
        let mut hits = vec![Hits::default(); LANES + 2];
        hits.iter_mut().for_each(|hits| hits.take_lane(&lanes));
        let ones: Vec<u64> = hits.iter().map(Hits::one).collect();
        assert_eq!((ones[0], ones[1], ones[LANES - 1], &ones[LANES..]), (1, 32, 1 << 55, &[0, 0][..]));
        let mut expected = [0; LANES];
        for number in 0..10_000_usize {
            // Now one of them many times, now each in turn.
            let lane = if number % 512 < 256 { number / 512 % LANES } else { number % LANES };
            lanes.add(ones[lane], seat);
            expected[lane] += 1;
            assert_eq!(hits[lane].sum(), expected[lane]);
        }
        assert!(hits.iter().zip(expected).all(|(hits, expected)| hits.sum() == expected));
        // What is counted elsewhere comes to it.
        hits[3].add(seat);
        assert_eq!(hits[3].sum(), expected[3] + 1);
        // A list that has a lane keeps it.
        hits[3].take_lane(&Arc::new(Lanes::default()));
        assert_eq!(hits[3].one(), ones[3]);
    }

    /// After a fork() another thread may have the seat of one that was amid a move.
    #[test]
    fn a_move_that_was_begun_is_read_right_and_finished() {
        for step in 0..=LANES + 1 {
            let fresh = Fresh::new();
            let lanes_in_turn = || (0..LANES).cycle().zip(0..ROOM).map(|(lane, _)| lane);
            lanes_in_turn().for_each(|lane| fresh.add(one_in(lane)));
            let count = |lane: usize| lanes_in_turn().filter(|other| *other == lane).count() as u64;
            let all_are = |counts: [u64; LANES]| array::from_fn(|lane| fresh.count(lane)) == counts;
            for lane in 0..step.min(LANES) {
                fresh.settled[lane].store(2 * count(lane) + 1, Ordering::Relaxed);
            }
            if step > LANES {
                fresh.lanes.store(0, Ordering::Relaxed);
            }
            assert!(all_are(array::from_fn(count)), "{step}");
            for more in 1..=2 * ROOM {
                fresh.add(one_in(3));
                assert!(all_are(array::from_fn(|lane| count(lane) + if lane == 3 { more } else { 0 })), "{step}, {more}");
            }
        }
    }

    #[test]
    fn sums_never_fall_while_others_add() {
        const ADDITIONS: u64 = 200_000;
        let (lanes, ended) = (Lanes::default(), AtomicBool::new(false));
        thread::scope(|scope| {
            let adding: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        // One seat has two owners only if there are more threads than seats.
                        let Some(seat) = Some(Seat::here()).filter(|_| Seat::own().is_some()) else { return 0 };
                        (0..ADDITIONS).for_each(|_| lanes.add(one_in(7), seat));
                        ADDITIONS
                    })
                })
                .collect();
            let reading = scope.spawn(|| {
                let mut last = 0;
                while !ended.load(Ordering::Acquire) {
                    let sum = lanes.sum(7);
                    assert!(sum >= last, "{last}, then {sum}");
                    last = sum;
                }
            });
            let added: u64 = adding.into_iter().map(|adding| adding.join().unwrap()).sum();
            ended.store(true, Ordering::Release);
            reading.join().unwrap();
            assert_eq!((lanes.sum(7), lanes.sum(6)), (added, 0));
        });
    }
}

#[cfg(all(loom, test))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    /// With lanes of one bit there is a move before each addition but the first.
    #[test]
    fn who_reads_amid_moves_finds_what_was_added() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let (fresh, done) = (Arc::new(Fresh::new()), Arc::new(AtomicU64::new(0)));
            let adding = {
                let (fresh, done) = (Arc::clone(&fresh), Arc::clone(&done));
                thread::spawn(move || {
                    for number in 1..=3 {
                        fresh.add(one_in(1));
                        done.store(number, Ordering::Release);
                    }
                })
            };
            let before = done.load(Ordering::Acquire);
            let first = fresh.count(1);
            let second = fresh.count(1);
            assert!(before <= first && first <= second && second <= 3, "{before}, {first}, {second}");
            adding.join().unwrap();
            assert_eq!((fresh.count(1), fresh.count(0)), (3, 0));
        });
    }
}
