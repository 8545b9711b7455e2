//! The log of the library, if the host wants one.

use super::{MXGATE_ACCEPT, call};
use crate::published::Published;
use libc::{c_char, c_int, c_void};
use log::{Level, LevelFilter, Log, Metadata, Record};
use std::ffi::CString;
use std::sync::OnceLock;

/// Level of a log line: something failed; the rules in force stayed.
pub const MXGATE_LOG_ERROR: c_int = 1;

/// Level of a log line: something is to be looked at.
pub const MXGATE_LOG_WARNING: c_int = 2;

/// Level of a log line: rules, bans or the mode have changed.
pub const MXGATE_LOG_INFO: c_int = 3;

/// Takes one line of the log, without a line feed; message is good for the time of
/// the call, user is what was given with it. Called in the thread that loads or
/// changes something, never by a check; must not call a function of this library.
pub type mxgate_log = Option<unsafe extern "C" fn(user: *mut c_void, level: c_int, message: *const c_char)>;

/// Where lines go.
#[derive(Clone, Copy, Debug)]
struct Sink {
    write: mxgate_log,
    user: *mut c_void,
}

// SAFETY: the pointer is the caller's, who is told that any thread may hand it back to him.
unsafe impl Send for Sink {}
// SAFETY: as above; the library itself never looks at what it points to.
unsafe impl Sync for Sink {}

/// The only state that gates share. There since the first call of mxgate_set_log().
static SINK: OnceLock<Published<Sink>> = OnceLock::new();
/// Whether log lines come to us: a program in Rust may have a logger of its own.
static OURS: OnceLock<bool> = OnceLock::new();

struct ToHost;

impl Log for ToHost {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        let Some(sink) = SINK.get().map(|sink| *sink.look()) else { return };
        let level = match record.level() {
            Level::Error => MXGATE_LOG_ERROR,
            Level::Warn => MXGATE_LOG_WARNING,
            Level::Info | Level::Debug | Level::Trace => MXGATE_LOG_INFO,
        };
        // What is said is one line, and has no NUL.
        let (Some(write), Ok(line)) = (sink.write, CString::new(record.args().to_string())) else { return };
        // SAFETY: a function of the caller's for that purpose; the line lives until it returns.
        unsafe { write(sink.user, level, line.as_ptr()) };
    }

    fn flush(&self) {}
}

/// Hands what the library has to say, up to a level (MXGATE_LOG_...), to a function of
/// the host's; NULL ends that. For all gates together. Without it the library is
/// silent. A call of the function before may still be running when this returns.
///
/// Returns 0, MXGATE_EINVAL (no such level; or the program is in Rust and has a logger
/// already) or MXGATE_EBUG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mxgate_set_log(write: mxgate_log, user: *mut c_void, level: c_int) -> c_int {
    call(|| {
        let filter = match level {
            _ if write.is_none() => LevelFilter::Off,
            MXGATE_LOG_ERROR => LevelFilter::Error,
            MXGATE_LOG_WARNING => LevelFilter::Warn,
            MXGATE_LOG_INFO => LevelFilter::Info,
            _ => return None,
        };
        if !*OURS.get_or_init(|| log::set_logger(&ToHost).is_ok()) {
            return None;
        }
        SINK.get_or_init(|| Published::new(Sink { write, user })).replace(Sink { write, user }, || false);
        log::set_max_level(filter);
        Some(MXGATE_ACCEPT)
    })
}

/// Sends what a caught panic has to say to the log: it has no place on the standard error of the host, which may be an SMTP
/// client. Only in the C library, where no other part of the program panics in Rust.
#[cfg(feature = "capi")]
pub(super) fn hush() {
    use std::sync::atomic::{AtomicBool, Ordering};
    static HUSHED: AtomicBool = AtomicBool::new(false);
    if !HUSHED.swap(true, Ordering::Relaxed) {
        std::panic::set_hook(Box::new(|panic| log::error!("a bug was caught, please report it: {panic}")));
    }
}

/// Programs in Rust have their own hook.
#[cfg(not(feature = "capi"))]
pub(super) fn hush() {}
