//! Turns: loads and other changes of a gate come one after the other, in this process and in its children.
//!
//! A lock of the usual kind that another thread holds at fork() is held in the child for ever, by a thread that does not
//! exist there. Here the holder is named by its process: who finds another process in it takes it over. What a turn
//! guards must therefore be sound at any moment; in a gate it is one published value, replaced whole.
//!
//! Turns are for the control plane: who waits asks again every millisecond.

use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

/// How often a waiting thread only lets others run before it sleeps.
const YIELDS: u32 = 100;
/// How long it sleeps then.
const PAUSE: Duration = Duration::from_millis(1);

/// Who has the turn: a process, or 0 for nobody.
#[derive(Debug, Default)]
pub(crate) struct Turn(AtomicU32);

/// The turn, until it is dropped.
#[derive(Debug)]
pub(crate) struct Taken<'a>(&'a Turn);

impl Turn {
    /// Waits until it is our turn.
    pub(crate) fn take(&self) -> Taken<'_> {
        let process = process::id();
        let mut waited = 0;
        loop {
            let holder = self.0.load(Ordering::Relaxed);
            // A holder that is not of this process was there when the process was forked.
            if holder != process && self.0.compare_exchange(holder, process, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                return Taken(self);
            }
            waited += 1;
            if waited < YIELDS { thread::yield_now() } else { thread::sleep(PAUSE) }
        }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.0.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn one_after_the_other() {
        let (turn, inside) = (Arc::new(Turn::default()), Arc::new(AtomicU32::new(0)));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (turn, inside) = (Arc::clone(&turn), Arc::clone(&inside));
                thread::spawn(move || {
                    for _ in 0..200 {
                        let _taken = turn.take();
                        assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0);
                        thread::yield_now();
                        inside.fetch_sub(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }

    #[test]
    fn what_another_process_held_is_taken_over() {
        let turn = Turn(AtomicU32::new(process::id() + 1));
        drop(turn.take());
        assert_eq!(turn.0.load(Ordering::Relaxed), 0);
    }
}
