//! A table of fixed memory: from a key to one number, asked and changed by any number of threads.
//!
//! It is an array of sets of eight slots; a key may stand in any slot of one set, chosen by its hash. Of a key 64 bits of
//! a seeded hash are kept: strangers cannot choose what shares a set, and that two keys of a full set are taken for one has
//! a chance of eight in 2^64. A slot is two atomic words, so that nobody waits for anybody: not for a thread that was held
//! up, nor for one that a `fork()` has left behind.
//!
//! No slot is ever given back. Where a key finds none of its own it takes the one whose number is worth least; worth
//! nothing, and as good as free, is a number that says no more than no entry would.
//!
//! Threads that race for the slots of one set may lose one change each: one that was made to a slot which just then
//! changes hands, and goes with it, or to a second slot for the same key. One thread alone loses nothing but what is
//! counted as evicted.

use std::collections::TryReserveError;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

/// Slots of a set: one cache line of keys, one of numbers.
const SLOTS: usize = 8;
/// How often a change is tried against other threads before it is given up. Each failure is a success of another one.
const ATTEMPTS: usize = 1000;
/// No key.
const NOBODY: u64 = 0;

/// Slots that compete for the same memory.
#[derive(Default)]
#[repr(align(128))]
struct Set {
    keys: [AtomicU64; SLOTS],
    numbers: [AtomicU64; SLOTS],
}

/// One key and its number.
#[derive(Clone, Copy)]
struct Slot<'t> {
    key: &'t AtomicU64,
    number: &'t AtomicU64,
}

/// What is kept of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key(u64);

/// The numbers.
pub(super) struct Table {
    /// SipHash with random keys, for strangers choose addresses and see what is refused.
    seed: RandomState,
    sets: Vec<Set>,
    /// Changes that were refused. The caller counts them.
    pub refused: AtomicU64,
    /// Numbers that were worth something, and had to make room.
    pub evicted: AtomicU64,
    /// Changes for which there was no room.
    pub uncounted: AtomicU64,
}

impl Table {
    /// An empty table of as many bytes, or a few less.
    pub(super) fn new(bytes: usize) -> Result<Table, TryReserveError> {
        let count = Table::sets_in(bytes);
        let mut sets = Vec::new();
        sets.try_reserve_exact(count)?;
        sets.resize_with(count, Set::default);
        let seed = RandomState::new();
        Ok(Table { seed, sets, refused: AtomicU64::new(0), evicted: AtomicU64::new(0), uncounted: AtomicU64::new(0) })
    }

    /// Whether it is as large as a new one would be.
    pub(super) fn is_of(&self, bytes: usize) -> bool {
        self.sets.len() == Table::sets_in(bytes)
    }

    /// As many of these bytes as it uses.
    pub(super) fn whole(bytes: usize) -> usize {
        Table::sets_in(bytes) * size_of::<Set>()
    }

    fn sets_in(bytes: usize) -> usize {
        bytes / size_of::<Set>()
    }

    /// How many keys it holds at most.
    pub(super) fn capacity(&self) -> usize {
        self.sets.len() * SLOTS
    }

    /// How many numbers are worth something. Looks at all of them.
    pub(super) fn used(&self, worth: impl Fn(u64) -> u64) -> usize {
        self.sets.iter().flat_map(Set::slots).filter(|slot| worth(slot.number.load(Relaxed)) > 0).count()
    }

    pub(super) fn key(&self, subject: impl Hash) -> Key {
        Key(self.seed.hash_one(subject).max(NOBODY + 1))
    }

    /// Changes the number of a key, which is 0 if the key is new. `change` says to what, and what comes of it; it is asked
    /// again if another thread was faster. `None` if there is no room, or no end to other threads being faster: where the
    /// set is full of numbers that are `worth` something, the key that is worth least loses its own if `evict` is set.
    pub(super) fn change<R>(&self, key: Key, worth: impl Fn(u64) -> u64, evict: bool, change: impl Fn(u64) -> (u64, R)) -> Option<R> {
        let set = self.set(key)?;
        for _ in 0..ATTEMPTS {
            if let Some(slot) = set.find(key) {
                if let Some(result) = slot.change(key, &change) {
                    return Some(result);
                }
            } else {
                let (slot, owner, number, worth) = set.cheapest(&worth)?;
                if worth > 0 && !evict {
                    return None;
                }
                // Cleared before it changes hands, so that nobody pays for what somebody else did.
                if slot.clear(number) {
                    if worth > 0 {
                        self.evicted.fetch_add(1, Relaxed);
                    }
                    slot.take(owner, key);
                }
            }
        }
        None
    }

    /// As [`Table::change`] for a key that is there; nothing happens if it is not.
    pub(super) fn change_present(&self, key: Key, change: impl Fn(u64) -> u64) {
        let Some(set) = self.set(key) else { return };
        for _ in 0..ATTEMPTS {
            let Some(slot) = set.find(key) else { return };
            if slot.change(key, |number| (change(number), ())).is_some() {
                return;
            }
        }
    }

    fn set(&self, key: Key) -> Option<&Set> {
        // The hash as a fraction of 2^64, times the number of sets.
        let place = (u128::from(key.0) * self.sets.len() as u128) >> 64;
        self.sets.get(usize::try_from(place).ok()?)
    }
}

impl Set {
    fn slots(&self) -> impl Iterator<Item = Slot<'_>> {
        self.keys.iter().zip(&self.numbers).map(|(key, number)| Slot { key, number })
    }

    /// The slot of a key. Should racing threads have taken two of them, the one with the higher number counts.
    fn find(&self, key: Key) -> Option<Slot<'_>> {
        let slots = self.slots().filter(|slot| slot.key.load(Acquire) == key.0);
        slots.max_by_key(|slot| slot.number.load(Acquire))
    }

    /// The slot that costs least to take: its owner, its number, and what that is worth.
    fn cheapest(&self, worth: impl Fn(u64) -> u64) -> Option<(Slot<'_>, u64, u64, u64)> {
        let slots = self.slots().map(|slot| {
            let (owner, number) = (slot.key.load(Acquire), slot.number.load(Acquire));
            (slot, owner, number, if owner == NOBODY { 0 } else { worth(number) })
        });
        slots.min_by_key(|(.., worth)| *worth)
    }
}

impl Slot<'_> {
    /// Changes the number; `None` if another thread did, or has taken the slot for another key, whose number that was.
    fn change<R>(&self, key: Key, change: impl Fn(u64) -> (u64, R)) -> Option<R> {
        let old = self.number.load(Acquire);
        let (new, result) = change(old);
        let changed = new == old || self.number.compare_exchange(old, new, AcqRel, Acquire).is_ok();
        (changed && self.key.load(Acquire) == key.0).then_some(result)
    }

    /// Makes the number 0, if no other thread has changed it.
    fn clear(&self, number: u64) -> bool {
        number == 0 || self.number.compare_exchange(number, 0, AcqRel, Acquire).is_ok()
    }

    /// Takes the slot from its owner, unless another thread has.
    fn take(&self, owner: u64, key: Key) {
        // Which of the two it was is seen at the next look.
        let _ = self.key.compare_exchange(owner, key.0, AcqRel, Acquire);
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(sets: usize) -> Table {
        Table::new(sets * size_of::<Set>()).unwrap()
    }

    /// Adds to the number of a key; the numbers are worth what they are. What it was.
    fn add(table: &Table, key: Key, amount: u64) -> Option<u64> {
        table.change(key, |number| number, true, |number| (number + amount, number))
    }

    #[test]
    fn memory_is_what_was_asked_for() {
        assert_eq!(size_of::<Set>(), 2 * SLOTS * 8);
        for (bytes, capacity) in [(0, 0), (127, 0), (128, 8), (1000, 56), (1 << 20, 65536)] {
            let table = Table::new(bytes).unwrap();
            assert_eq!((table.capacity(), table.is_of(bytes)), (capacity, true), "{bytes}");
            assert!(!table.is_of(bytes + 128));
        }
        assert!(Table::new(usize::MAX / 2).is_err());
        assert_eq!(add(&table(0), Key(1), 1), None);
    }

    #[test]
    fn the_cheapest_makes_room_and_is_counted_only_if_it_was_worth_something() {
        let table = table(1);
        for key in 1..=8 {
            assert_eq!(add(&table, Key(key), 10 * key), Some(0));
        }
        assert_eq!(table.used(|number| number), 8);
        // 1 goes, then 9, which is worth still less.
        assert_eq!((add(&table, Key(9), 5), add(&table, Key(1), 7)), (Some(0), Some(0)));
        assert_eq!(table.evicted.load(Relaxed), 2);
        assert_eq!((add(&table, Key(8), 0), add(&table, Key(2), 0)), (Some(80), Some(20)));
        // What is worth nothing is free.
        let full = table.change(Key(9), |number| number, false, |number| (number + 1, ()));
        assert_eq!(full, None);
        let free = |number: u64| if number == 70 { 0 } else { number };
        assert_eq!(table.change(Key(9), free, false, |number| (number + 1, number)), Some(0));
        assert_eq!((table.evicted.load(Relaxed), table.used(free)), (2, 8));
        // 7 is no longer there.
        table.change_present(Key(7), |number| number + 1);
        table.change_present(Key(9), |number| number + 1);
        assert_eq!(add(&table, Key(9), 0), Some(2));
    }

    #[test]
    fn strangers_cannot_know_what_shares_a_set() {
        let (one, other) = (table(1 << 10), table(1 << 10));
        let place = |table: &Table, subject: u32| std::ptr::from_ref(table.set(table.key(subject)).unwrap());
        // Subjects that share a set in one table are spread over the other.
        let first = place(&one, 0);
        let chosen: Vec<u32> = (0..100_000).filter(|subject| place(&one, *subject) == first).collect();
        assert!(chosen.len() > 40, "{}", chosen.len());
        let mut places: Vec<_> = chosen.iter().map(|subject| place(&other, *subject)).collect();
        places.sort_unstable();
        places.dedup();
        assert!(places.len() > chosen.len() * 3 / 4, "{} of {}", places.len(), chosen.len());
        assert_ne!(one.key("example.org"), other.key("example.org"));
    }

    #[test]
    fn the_sets_are_used_evenly() {
        let table = table(1000);
        for subject in 0..4000_u64 {
            let key = table.key(subject);
            add(&table, key, 1);
        }
        // Half full: with eight slots a few in a hundred find their set full.
        assert!(table.evicted.load(Relaxed) < 160, "{}", table.evicted.load(Relaxed));
    }
}
