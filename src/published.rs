//! One value that any number of threads read while another one replaces it.
//!
//! A reader counts himself in, looks, and counts himself out: at a seat of his own (see `seat.rs`) by plain loads and stores,
//! with no lock, no waiting, and nothing that keeps one reading from overlapping with the next. The writer exchanges the
//! pointer, has all threads see that (see `barrier.rs`), and frees the old value when he has seen each counter at zero once:
//! who counts himself in later finds the new value.
//!
//! ```text
//!            side ──┐ (the writer turns it over, so that one column empties)
//!                   v
//!   seat 0   [ readers, readers ]      current ──> value
//!   seat 1   [ readers, readers ]      retired ──> values that somebody still read when the writer's patience ended
//!   ...
//! ```
//!
//! Correct after fork(): a thread that was amid a read when the process was forked does not exist in the child, and its
//! count never comes down. That keeps readers from nothing; a writer gives up waiting after a while, and leaves the old
//! value for the next exchange to free. In such a child it is never freed, which is what a correct answer costs there.
//!
//! Why counters and not a lock around an `Arc`: readers of a lock write into one cache line together, a reader preempted
//! between lock and unlock stops the writer, and a lock that a thread of the parent held at fork() is held for ever.
//! `unsafe` buys the read through the pointer; that no reader outlives its value is shown by loom (`make loom`).

#![expect(unsafe_code, reason = "reads through a pointer that another thread may exchange; the counters keep it valid")]

use crate::barrier::Barrier;
use crate::seat::{Counter, SEATS, Seat};
#[cfg(all(loom, test))]
use loom::sync::atomic::{AtomicPtr, AtomicUsize};
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr;
use std::sync::atomic::Ordering;
#[cfg(not(all(loom, test)))]
use std::sync::atomic::{AtomicPtr, AtomicUsize};

/// One reader more, in the low 16 bits of a counter. Nobody has 65,536 threads amid a look-up at one seat.
const READER: u64 = 1;
/// One reading more, in the bits above: they are counted at no extra cost.
const READING: u64 = 1 << 16;
/// How many readers there are now.
const READERS: u64 = READING - 1;

/// A value that is read without a lock and replaced whole.
pub(crate) struct Published<T> {
    current: AtomicPtr<T>,
    /// Which column readers count themselves into.
    side: AtomicUsize,
    seats: [Sides; SEATS],
    /// Old values that could not be freed yet.
    retired: AtomicPtr<Retired<T>>,
    barrier: Barrier,
}

/// The counters of a seat. Two cache lines, because processors fetch them in pairs.
#[derive(Default)]
#[repr(align(128))]
struct Sides([Counter; 2]);

/// An old value, and the one that was retired before it.
struct Retired<T> {
    value: *mut T,
    next: *mut Retired<T>,
}

/// A look at the value. Do not keep it: the writer waits for it a while, and for longer it costs memory.
pub(crate) struct Reader<'a, T> {
    value: &'a T,
    counter: &'a Counter,
    seat: Seat,
    /// What is added to the counter at the end.
    at_the_end: u64,
    /// It stays in the thread that has the seat.
    of_thread: PhantomData<*const ()>,
}

// SAFETY: the value is shared between readers and freed by whichever thread replaces it.
unsafe impl<T: Send + Sync> Send for Published<T> {}
// SAFETY: as above; everything else in it is atomic.
unsafe impl<T: Send + Sync> Sync for Published<T> {}

impl<T> Published<T> {
    pub(crate) fn new(value: T) -> Published<T> {
        Published {
            current: AtomicPtr::new(Box::into_raw(Box::new(value))),
            side: AtomicUsize::new(0),
            seats: std::array::from_fn(|_| Sides::default()),
            retired: AtomicPtr::new(ptr::null_mut()),
            barrier: Barrier::new(),
        }
    }

    /// The value for one question, which is counted in [`Published::readings`].
    pub(crate) fn read(&self) -> Reader<'_, T> {
        self.enter(READING | READER, Seat::here())
    }

    /// The value for another purpose than to answer a question.
    pub(crate) fn look(&self) -> Reader<'_, T> {
        self.look_from(Seat::here())
    }

    /// As [`Published::look`], at the seat of the calling thread.
    #[inline(always)]
    pub(crate) fn look_from(&self, seat: Seat) -> Reader<'_, T> {
        self.enter(READER, seat)
    }

    #[inline(always)]
    fn enter(&self, count: u64, seat: Seat) -> Reader<'_, T> {
        let side = self.side.load(Ordering::Relaxed) & 1;
        let counter = self.seats.get(seat.number()).and_then(|Sides(sides)| sides.get(side)).unwrap_or(&self.seats[0].0[0]);
        // Either the writer, who looks at this counter behind his barrier, sees the reader and waits, or the reader sees the
        // writer's exchange, which came before that.
        counter.add(count, seat, Ordering::Relaxed);
        self.barrier.of_reader();
        let current = self.current.load(Ordering::Acquire);
        // SAFETY: it points to a value from new() or replace(), and is freed only after the counter was seen at zero.
        Reader { value: unsafe { &*current }, counter, seat, at_the_end: READER.wrapping_neg(), of_thread: PhantomData }
    }

    /// How often the value was read for a question, since ever.
    pub(crate) fn readings(&self) -> u64 {
        let halves = self.seats.iter().flat_map(|Sides(sides)| sides).flat_map(Counter::halves);
        halves.map(|half| half >> 16).sum()
    }

    /// Puts a value in the place of the current one. Frees the old one, and those that were left over, when no reader has
    /// them any more; waits for that until `patience` says no. Several threads may do so at once.
    pub(crate) fn replace(&self, value: T, mut patience: impl FnMut() -> bool) {
        let value = Box::into_raw(Box::new(value));
        let old = self.current.swap(value, Ordering::AcqRel);
        let retired = self.retired.swap(ptr::null_mut(), Ordering::AcqRel);
        let head = Box::into_raw(Box::new(Retired { value: old, next: retired }));
        // What was retired earlier was exchanged earlier too.
        let others_left = !retired.is_null();
        if self.barrier.of_writer() && self.is_deserted(|| !others_left && patience()) {
            // SAFETY: taken off the list, so that nobody else frees it; each value was exchanged before all counters were
            // seen at zero.
            unsafe { free(head) };
        } else {
            self.retire(head);
        }
    }

    /// Whether all who read before this call have finished.
    fn is_deserted(&self, mut patience: impl FnMut() -> bool) -> bool {
        // First the column that is out of use, then, having turned over, the other one: in both only those are left who
        // read long or have just looked which column to use.
        for _ in 0..2 {
            let side = self.side.load(Ordering::Relaxed) & 1;
            let out_of_use = self.seats.iter().flat_map(|Sides(sides)| sides.get(side ^ 1));
            for counter in out_of_use {
                while counter.halves().iter().any(|half| half & READERS != 0) {
                    if !patience() {
                        return false;
                    }
                }
            }
            self.side.store(side ^ 1, Ordering::Relaxed);
        }
        true
    }

    /// Keeps old values for the next exchange.
    fn retire(&self, head: *mut Retired<T>) {
        let mut last = head;
        // SAFETY: the list belongs to this call until it is linked in.
        while let Some(next) = unsafe { last.as_ref() }.map(|node| node.next).filter(|next| !next.is_null()) {
            last = next;
        }
        let mut first = self.retired.load(Ordering::Relaxed);
        loop {
            // SAFETY: as above.
            if let Some(last) = unsafe { last.as_mut() } {
                last.next = first;
            }
            match self.retired.compare_exchange(first, head, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => first = now,
            }
        }
    }
}

/// Frees old values.
///
/// # Safety
/// The list belongs to the caller, and nobody reads the values any more.
unsafe fn free<T>(mut head: *mut Retired<T>) {
    while !head.is_null() {
        // SAFETY: made by Box::into_raw(), and freed once.
        let node = unsafe { Box::from_raw(head) };
        // SAFETY: likewise.
        drop(unsafe { Box::from_raw(node.value) });
        head = node.next;
    }
}

impl<T> Drop for Published<T> {
    fn drop(&mut self) {
        let current = self.current.load(Ordering::Acquire);
        // SAFETY: nobody else has the Published any more, so that nobody reads.
        drop(unsafe { Box::from_raw(current) });
        // SAFETY: likewise.
        unsafe { free(self.retired.load(Ordering::Acquire)) };
    }
}

impl<T> Reader<'_, T> {
    /// Has it counted in [`Published::readings`] when it ends, if that has not been done.
    #[inline]
    pub(crate) fn count(&mut self) {
        self.at_the_end = READING.wrapping_sub(READER);
    }

    /// Where who reads can count other things too.
    pub(crate) fn seat(&self) -> Seat {
        self.seat
    }
}

impl<T> Deref for Reader<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value
    }
}

impl<T> Drop for Reader<'_, T> {
    fn drop(&mut self) {
        // What was read has been read before the writer sees this.
        self.counter.add(self.at_the_end, self.seat, Ordering::Release);
    }
}

impl<T: fmt::Debug> fmt::Debug for Published<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.look().value.fmt(f)
    }
}

#[cfg(all(loom, test))]
mod loom_tests {
    use super::*;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    /// A value whose end loom takes for a write, so that it finds a reader who still looks.
    struct Value(UnsafeCell<u64>);

    impl Value {
        fn new(number: u64) -> Value {
            Value(UnsafeCell::new(number))
        }

        fn get(&self) -> u64 {
            // SAFETY: loom checks that nobody writes meanwhile.
            self.0.with(|number| unsafe { *number })
        }
    }

    impl Drop for Value {
        fn drop(&mut self) {
            // SAFETY: loom checks that nobody reads meanwhile.
            self.0.with_mut(|number| unsafe { *number = u64::MAX });
        }
    }

    fn wait() -> bool {
        thread::yield_now();
        true
    }

    fn bounded(model: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(model);
    }

    #[test]
    fn no_reader_outlives_its_value() {
        bounded(|| {
            let published = Arc::new(Published::new(Value::new(1)));
            let readers: Vec<_> = (0..2)
                .map(|number| {
                    let published = Arc::clone(&published);
                    thread::spawn(move || published.enter(READER, Seat::of_model(number, number == 0)).get())
                })
                .collect();
            published.replace(Value::new(2), wait);
            assert_eq!(published.enter(READER, Seat::of_model(1, false)).get(), 2);
            assert!(readers.into_iter().all(|reader| matches!(reader.join().unwrap(), 1 | 2)));
        });
    }

    #[test]
    fn a_reader_who_comes_back_never_sees_an_older_value() {
        bounded(|| {
            let published = Arc::new(Published::new(Value::new(1)));
            let reader = {
                let published = Arc::clone(&published);
                thread::spawn(move || [0, 1].map(|number| published.enter(READER, Seat::of_model(number, true)).get()))
            };
            // Two exchanges turn the columns over four times.
            published.replace(Value::new(2), wait);
            published.replace(Value::new(3), wait);
            let [first, second] = reader.join().unwrap();
            assert!(first <= second);
        });
    }

    #[test]
    fn a_writer_without_patience_leaves_the_value_to_the_next() {
        bounded(|| {
            let published = Arc::new(Published::new(Value::new(1)));
            let reader = {
                let published = Arc::clone(&published);
                thread::spawn(move || published.enter(READER, Seat::of_model(0, true)).get())
            };
            published.replace(Value::new(2), || false);
            published.replace(Value::new(3), || false);
            assert!(reader.join().unwrap() <= 3);
            published.replace(Value::new(4), || false);
            assert!(published.retired.load(Ordering::Relaxed).is_null());
        });
    }

    #[test]
    fn two_writers_free_each_value_once() {
        bounded(|| {
            let published = Arc::new(Published::new(Value::new(1)));
            let writer = {
                let published = Arc::clone(&published);
                thread::spawn(move || published.replace(Value::new(2), || false))
            };
            published.replace(Value::new(3), || false);
            writer.join().unwrap();
            assert!(published.enter(READER, Seat::of_model(0, true)).get() > 1);
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64};
    use std::thread;

    /// Counts how many there are.
    struct Counted(u64, Arc<AtomicU64>);

    impl Counted {
        fn new(number: u64, alive: &Arc<AtomicU64>) -> Counted {
            alive.fetch_add(1, Ordering::Relaxed);
            Counted(number, Arc::clone(alive))
        }
    }

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0 = 0;
            self.1.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn spin() -> bool {
        thread::yield_now();
        true
    }

    #[test]
    fn values_are_freed_and_readings_counted() {
        let alive = Arc::new(AtomicU64::new(0));
        let published = Published::new(Counted::new(1, &alive));
        let reader = published.read();
        // Somebody reads: a writer without patience leaves the old value, and the next one as well.
        published.replace(Counted::new(2, &alive), || false);
        published.replace(Counted::new(3, &alive), || false);
        assert_eq!((reader.0, published.look().0, alive.load(Ordering::Relaxed)), (1, 3, 3));
        drop(reader);
        published.replace(Counted::new(4, &alive), || false);
        assert_eq!((published.read().0, alive.load(Ordering::Relaxed), published.readings()), (4, 1, 2));
        let reader = published.read();
        published.replace(Counted::new(5, &alive), || false);
        drop(reader);
        drop(published);
        assert_eq!(alive.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn readers_in_many_threads_see_values_in_order_and_alive() {
        const VALUES: u64 = if cfg!(miri) { 20 } else { 2_000 };
        let alive = Arc::new(AtomicU64::new(0));
        let published = Arc::new(Published::new(Counted::new(1, &alive)));
        let done = Arc::new(AtomicBool::new(false));
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let (published, done) = (Arc::clone(&published), Arc::clone(&done));
                thread::spawn(move || {
                    let mut last = 1;
                    while !done.load(Ordering::Relaxed) {
                        let number = published.read().0;
                        assert!(number >= last, "{number} after {last}");
                        last = number;
                    }
                })
            })
            .collect();
        for number in 2..=VALUES {
            published.replace(Counted::new(number, &alive), spin);
        }
        done.store(true, Ordering::Relaxed);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        assert_eq!((published.look().0, alive.load(Ordering::Relaxed)), (VALUES, 1));
    }
}
