//! How far a load has got, for somebody at a terminal, when it takes longer than a second: one line on standard error, which
//! is gone at the end.

use parking_lot::Mutex;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// What is over by then shows nothing.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two lines.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest name that is shown whole; a line that wraps could not be wiped.
const NAME: usize = 40;
/// Back to the beginning of the line, and clear it.
const WIPE: &str = "\r\x1b[K";

/// The load under way, if somebody watches.
static UNDER_WAY: Mutex<Option<UnderWay>> = Mutex::new(None);

struct UnderWay {
    /// When to show something next.
    next: Instant,
    shown: bool,
}

/// Loads, and shows how far it is as long as it takes. What the work says itself comes after it.
pub(crate) fn shown<T>(load: impl FnOnce() -> T) -> T {
    if io::stderr().is_terminal() {
        *UNDER_WAY.lock() = Some(UnderWay { next: Instant::now() + PATIENCE, shown: false });
    }
    let loaded = load();
    wipe();
    loaded
}

/// Takes the line away, before something else is written.
pub(crate) fn wipe() {
    if UNDER_WAY.lock().take().is_some_and(|under_way| under_way.shown) {
        let _ = io::stderr().write_all(WIPE.as_bytes());
    }
}

/// Takes from the library how many lines of a list have been read.
pub(crate) fn tell(list: &str, lines: u64) {
    let mut under_way = UNDER_WAY.lock();
    let Some(under_way) = under_way.as_mut() else { return };
    let now = Instant::now();
    if now >= under_way.next {
        *under_way = UnderWay { next: now + PAUSE, shown: true };
        let _ = io::stderr().write_all(line(list, lines).as_bytes());
    }
}

fn line(list: &str, lines: u64) -> String {
    let start = list.char_indices().rev().nth(NAME - 1).map_or(0, |(at, _)| at);
    let name = if start == 0 { list.to_owned() } else { format!("...{}", list.get(start..).unwrap_or(list)) };
    format!("{WIPE}reading {name}: {} lines", grouped(lines))
}

/// `3,400,000`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let comma = |at: usize| if at > 0 && (digits.len() - at).is_multiple_of(3) { "," } else { "" };
    digits.char_indices().map(|(at, digit)| format!("{}{digit}", comma(at))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        for (number, shown) in [(0, "0"), (999, "999"), (1000, "1,000"), (12_345, "12,345"), (3_400_000, "3,400,000")] {
            assert_eq!(line("example-list", number), format!("{WIPE}reading example-list: {shown} lines"));
        }
        let long = line(&"ä".repeat(NAME + 1), 1);
        assert_eq!(long, format!("{WIPE}reading ...{}: 1 lines", "ä".repeat(NAME)));
    }
}
