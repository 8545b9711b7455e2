//! What the integration tests and the demo share: the corpus of cases, the shared library as it is released, an SMTP
//! client that keeps a transcript, a private Postfix, Sendmail, Exim and OpenSMTPD, and child processes that cannot outlive the program that
//! started them.
//!
//! Only loopback traffic, and nothing outside a temporary directory is written.

#![allow(dead_code, reason = "each program that includes this module uses only a part of it")]
#![allow(unreachable_pub, reason = "the module is private to each program that includes it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test support: what goes wrong here ends the test, with a message"
)]

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

pub mod corpus;
pub mod daemon;
pub mod example;
pub mod exim;
pub mod host;
pub mod library;
pub mod monitoring;
pub mod opensmtpd;
pub mod over_smtp;
pub mod postfix;
pub mod scenario;
pub mod sendmail;
pub mod server;
pub mod session;
pub mod shown;
pub mod smtp;

/// Where to look for a program besides `PATH`: an ordinary user's `PATH` often lacks the sbin directories.
const MORE_DIRECTORIES: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// How long [`wait_for`] and the sockets of a test wait.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Are all these programs installed? If not, says so and returns false, and the caller skips its test; under CI,
/// where a skipped test would go unnoticed, it panics instead.
pub fn available(tools: &[&str]) -> bool {
    tools.iter().all(|tool| find(tool).is_some() || skip(&format!("{tool} is not installed")))
}

/// Does the C compiler find this header, and with it the library that it belongs to? If not, as [`available`].
pub fn header(name: &str) -> bool {
    let test = Command::new("cc").args(["-E", "-include", name, "-x", "c", "/dev/null"]).output();
    test.is_ok_and(|test| test.status.success()) || skip(&format!("the header {name} is not installed"))
}

/// Do we run as root? If not, as [`available`].
pub fn root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|id| id.stdout.trim_ascii() == b"0") || skip("needs root")
}

/// Something else that a test needs is not there: as [`available`].
pub fn missing(what: &str) -> bool {
    skip(&format!("{what} is missing"))
}

/// The full path of a program, if it is installed.
pub fn find(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(MORE_DIRECTORIES.iter().map(PathBuf::from))
        .map(|directory| directory.join(tool))
        .find(|file| file.is_file())
}

/// Reports a skipped test; always false. An empty `CI` variable counts as none.
pub fn skip(reason: &str) -> bool {
    let ci = std::env::var_os("CI");
    if ci.as_deref().is_some_and(|value| value != OsStr::new("")) {
        panic!("skipped: {reason} (CI is set, so this is a failure)");
    }
    say(&format!("skipped: {reason}"));
    false
}

/// Waits for something to come true.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what}");
        sleep(Duration::from_millis(5));
    }
}

/// Writes a line to standard error. Not `eprintln!`: the test harness would keep that to itself when the test passes,
/// and a skipped test would look like one that ran.
pub fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
