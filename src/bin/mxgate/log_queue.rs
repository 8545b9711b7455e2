//! The lines that wait to be written to the log: whoever logs hands them over and goes on, and one thread writes them. A log
//! that nobody reads holds up nobody: what finds no room is counted, and a line says how many are missing, at the place where
//! they are.
//!
//! Not a channel, because it would not know that place: where lines are lost is decided under the same lock as their order.
//! The lock is held to move a line in or out, never while one is written.

use jiff::Timestamp;
use log::Level;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// So many lines wait at most.
const MAX_LINES: usize = 16_384;
/// So many bytes of text wait at most, unless it is a single line.
const MAX_BYTES: usize = 4 << 20;

/// A line of the log, before it has the form of the place where it goes.
#[derive(Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) time: Timestamp,
    pub(crate) level: Level,
    /// Whether the text is all that is written: a refusal, which readers know by how it begins, or a JSON object.
    pub(crate) is_whole: bool,
    pub(crate) text: String,
}

/// Lines that wait.
#[derive(Debug)]
pub(crate) struct LogQueue {
    waiting: Mutex<Waiting>,
    /// There is a line to be written.
    filled: Condvar,
    /// All have been.
    emptied: Condvar,
    /// How many were lost since the start.
    lost: AtomicU64,
}

#[derive(Debug)]
struct Waiting {
    lines: VecDeque<Line>,
    bytes: usize,
    /// How many were lost behind the last of `lines`. While there are any more are lost, until there is room for a while.
    missing: u64,
    /// Whether the writer has a line in hand.
    writing: bool,
}

impl LogQueue {
    /// Nothing waits.
    pub(crate) const fn new() -> LogQueue {
        LogQueue {
            waiting: Mutex::new(Waiting { lines: VecDeque::new(), bytes: 0, missing: 0, writing: false }),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            lost: AtomicU64::new(0),
        }
    }

    /// Hands a line over, or counts it as lost. Does not wait for the writer.
    pub(crate) fn put(&self, line: Line) {
        let mut waiting = self.waiting.lock();
        let bytes = waiting.bytes.saturating_add(line.text.len());
        let has_room = waiting.lines.is_empty() || waiting.lines.len() < MAX_LINES && bytes <= MAX_BYTES;
        if waiting.missing > 0 || !has_room {
            waiting.missing += 1;
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.bytes = bytes;
        waiting.lines.push_back(line);
        drop(waiting);
        self.filled.notify_one();
    }

    /// The next line, for the only thread that writes. Waits until there is one; by then the one before it is written.
    pub(crate) fn next(&self) -> Line {
        let mut waiting = self.waiting.lock();
        waiting.writing = false;
        loop {
            if let Some(line) = waiting.take() {
                waiting.writing = true;
                return line;
            }
            self.emptied.notify_all();
            self.filled.wait(&mut waiting);
        }
    }

    /// Waits until all lines are written, but not for long. Says whether they are.
    pub(crate) fn finish(&self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        let mut waiting = self.waiting.lock();
        while waiting.writing || !waiting.lines.is_empty() {
            if self.emptied.wait_until(&mut waiting, end).timed_out() {
                return false;
            }
        }
        true
    }

    /// How many lines were lost since the start.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Waiting {
    /// Takes the first line out. If lines are missing, and half of the room is free again, that is told behind the last.
    fn take(&mut self) -> Option<Line> {
        let line = self.lines.pop_front()?;
        self.bytes -= line.text.len();
        if self.missing > 0 && self.lines.len() <= MAX_LINES / 2 && self.bytes <= MAX_BYTES / 2 {
            let number = std::mem::take(&mut self.missing);
            let text = if number == 1 { "1 log line was lost".into() } else { format!("{number} log lines were lost") };
            let text = text + ": the log was read more slowly than it was written";
            self.bytes += text.len();
            self.lines.push_back(Line { time: Timestamp::now(), level: Level::Warn, is_whole: false, text });
        }
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;

    fn line(text: String) -> Line {
        Line { time: Timestamp::UNIX_EPOCH, level: Level::Info, is_whole: true, text }
    }

    /// All that is there without waiting.
    fn rest(queue: &LogQueue) -> Vec<String> {
        let mut waiting = queue.waiting.lock();
        std::iter::from_fn(|| waiting.take()).map(|line| line.text).collect()
    }

    #[test]
    fn what_is_missing_is_told_where_it_is_missing() {
        let queue = LogQueue::new();
        for number in 0..MAX_LINES + 7 {
            queue.put(line(number.to_string()));
        }
        assert_eq!((queue.next().text.as_str(), queue.lost()), ("0", 7));
        // There is a place, but not for long.
        queue.put(line("lost too".into()));
        for number in 1..MAX_LINES / 2 {
            assert_eq!(queue.next().text, number.to_string());
        }
        queue.put(line("again".into()));
        let rest = rest(&queue);
        let [.., last, told, again] = &rest[..] else { panic!("{rest:?}") };
        assert_eq!((last.as_str(), again.as_str()), ((MAX_LINES - 1).to_string().as_str(), "again"));
        assert_eq!(told, "8 log lines were lost: the log was read more slowly than it was written");
        assert_eq!((rest.len(), queue.lost()), (MAX_LINES / 2 + 2, 8));
        assert_eq!(queue.waiting.lock().bytes, 0);
    }

    #[test]
    fn long_lines_take_their_room_and_a_single_one_always_finds_it() {
        let queue = LogQueue::new();
        queue.put(line("x".repeat(MAX_BYTES + 1)));
        queue.put(line("lost".into()));
        assert_eq!(queue.next().text.len(), MAX_BYTES + 1);
        assert_eq!(rest(&queue), ["1 log line was lost: the log was read more slowly than it was written"]);
        for _ in 0..5 {
            queue.put(line("x".repeat(MAX_BYTES / 4)));
        }
        assert_eq!(queue.lost(), 2);
    }

    #[test]
    fn the_end_waits_for_what_is_being_written_but_not_for_ever() {
        let queue = Arc::new(LogQueue::new());
        assert!(queue.finish(Duration::ZERO));
        queue.put(line("a".into()));
        queue.put(line("b".into()));
        assert_eq!(queue.next().text, "a");
        assert!(!queue.finish(Duration::from_millis(1)), "nobody writes it");
        let writer = Arc::clone(&queue);
        // Waits for a third line for ever.
        thread::spawn(move || while writer.next().text != "c" {});
        assert!(queue.finish(Duration::from_secs(20)));
    }
}
