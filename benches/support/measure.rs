//! Measuring: contenders take turns, and of all turns the median counts. Other work on the machine then hits all alike.

#![allow(dead_code, reason = "each program that includes this module uses only a part of it")]
#![allow(clippy::cast_precision_loss, clippy::cast_possible_wrap, clippy::print_stdout, reason = "bench support")]
#![allow(unsafe_code, reason = "an allocator that counts, and the clock of a thread")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};

/// A question that can be made to depend on the answer to another one.
pub(crate) trait Question: Copy {
    /// Itself, if the number is zero.
    fn after(self, zero: u32) -> Self;
}

impl Question for u32 {
    fn after(self, zero: u32) -> u32 {
        self ^ zero
    }
}

impl Question for u128 {
    fn after(self, zero: u32) -> u128 {
        let zero = u128::from(zero);
        self ^ (zero << 96 | zero << 64 | zero << 32 | zero)
    }
}

impl Question for &str {
    fn after(self, zero: u32) -> Self {
        &self[zero as usize..]
    }
}

/// Whether a short run is asked for: `MXGATE_BENCH=quick`.
pub(crate) fn quick() -> bool {
    std::env::var("MXGATE_BENCH").is_ok_and(|kind| kind == "quick")
}

/// The machine and the compiler, without which figures mean nothing.
pub(crate) fn machine() {
    let first = |file: &str, key: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.lines().find_map(|line| Some(line.strip_prefix(key)?.trim_start_matches([' ', '\t', ':']).to_owned())).unwrap_or_default()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!(
        "{}, {cores} cores, {} of memory, Linux {}",
        first("/proc/cpuinfo", "model name"),
        first("/proc/meminfo", "MemTotal"),
        kernel.trim()
    );
}

pub(crate) fn median(mut times: Vec<f64>) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Seconds that this thread has run.
pub(crate) fn processor_time() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: there is room for a time.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Seconds that child processes have run that have ended.
pub(crate) fn processor_time_of_children() -> f64 {
    // SAFETY: all-zero is a valid value of these plain numbers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: there is room for a usage.
    unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// What the work comes to, and how many seconds this thread ran for it: while others have the processor no time passes.
pub(crate) fn time<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let start = processor_time();
    let result = work();
    (result, processor_time() - start)
}

/// Nanoseconds a look-up, when each can begin before the one before it has ended.
#[inline]
pub(crate) fn throughput<A: Copy>(questions: &[A], mut get: impl FnMut(A) -> u32) -> f64 {
    let (sum, seconds) = time(|| questions.iter().fold(0_u32, |sum, question| sum.wrapping_add(get(*question))));
    black_box(sum);
    seconds * 1e9 / questions.len() as f64
}

/// Nanoseconds a look-up, when what to look up depends on the answer before it.
#[inline]
pub(crate) fn latency<A: Question>(addresses: &[A], mut get: impl FnMut(A) -> u32) -> f64 {
    // The compiler does not know that it is zero, and the processor has to wait for it.
    let zero = black_box(0_u32);
    let (last, seconds) = time(|| addresses.iter().fold(0, |last, address| get(address.after(last & zero))));
    black_box(last);
    seconds * 1e9 / addresses.len() as f64
}

/// Counts the bytes that are taken, as they are asked for.
pub(crate) struct Counting;

static TAKEN: AtomicIsize = AtomicIsize::new(0);

impl Counting {
    /// Bytes that are taken and not given back.
    pub(crate) fn taken() -> isize {
        TAKEN.load(Relaxed)
    }
    fn count(difference: isize) {
        TAKEN.fetch_add(difference, Relaxed);
    }
}

// SAFETY: hands everything to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Counting::count(layout.size() as isize);
        // SAFETY: the contract is the same.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Counting::count(layout.size() as isize);
        // SAFETY: the contract is the same.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        Counting::count(-(layout.size() as isize));
        // SAFETY: the contract is the same.
        unsafe { System.dealloc(block, layout) }
    }
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Counting::count(size as isize - layout.size() as isize);
        // SAFETY: the contract is the same.
        unsafe { System.realloc(block, layout, size) }
    }
}
