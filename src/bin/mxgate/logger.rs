//! Where log lines go, and in what form: to standard error, as text or as a JSON object a line, with the priorities of
//! journald where that reads them (sd-daemon(3)); or to the local syslog daemon.
//!
//! `RUST_LOG` says from which level on; without it from `info`. Time and name of the program are what journald or syslog
//! put before a line of text. One thread writes them all, so that nobody waits for whoever reads the log.

use crate::log_queue::{Line, LogQueue};
use crate::refusal::seconds;
use crate::syslog::{SOCKET, Syslog};
use env_filter::{Builder, FilteredLog};
use jiff::Timestamp;
use log::{Level, LevelFilter, Log, Metadata, Record};
use serde_json::json;
use std::env;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::panic;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

/// The target of records that are whole as they are: refusals, which log readers know by how they begin, or JSON objects.
pub(crate) const REFUSAL: &str = "mxgate::refusal";

/// How long the end of the daemon waits for whoever reads the log.
const LAST: Duration = Duration::from_secs(1);
/// Pause before a syslog daemon that is not there is looked for again.
const PAUSE: Duration = Duration::from_millis(200);

/// The lines that wait.
static QUEUE: LogQueue = LogQueue::new();

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people, and for programs that read the logs of Postfix
    #[default]
    Text,
    /// An object a line: time, level, message; a refusal has a key for each of its parts
    Json,
}

/// Where log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Stderr,
    /// The local daemon that listens there.
    Syslog(PathBuf),
}

/// Reads `stderr`, `syslog` or `syslog:/path`.
pub(crate) fn parse_place(text: &str) -> Result<Place, String> {
    match (text, text.strip_prefix("syslog:")) {
        ("stderr", _) => Ok(Place::Stderr),
        ("syslog", _) => Ok(Place::Syslog(SOCKET.into())),
        (_, Some(path)) if path.starts_with('/') => Ok(Place::Syslog(path.into())),
        _ => Err(format!("write stderr, syslog for the socket {SOCKET}, or syslog:/path for another one")),
    }
}

/// Log lines there and in this form from now on.
pub(crate) fn start(format: Format, place: Place) -> Result<(), String> {
    let mut output = match place {
        Place::Stderr => Output::Stderr { is_journal: format == Format::Text && is_journal() },
        Place::Syslog(path) => {
            tell_panics();
            Output::Syslog(Syslog::new(path))
        }
    };
    let mut filter = Builder::new();
    match env::var("RUST_LOG") {
        Ok(directives) => filter.parse(&directives),
        Err(_) => filter.filter_level(LevelFilter::Info),
    };
    let filter = filter.build();
    let most = filter.filter();
    let writer = thread::Builder::new().name("log".into());
    let write = move || {
        loop {
            output.write(&QUEUE.next(), format);
        }
    };
    writer.spawn(write).map_err(|error| format!("cannot start: {error}"))?;
    // Fails if there is a logger already, and then that one will do.
    if log::set_boxed_logger(Box::new(FilteredLog::new(Queued, filter))).is_ok() {
        log::set_max_level(most);
    }
    Ok(())
}

/// Says why the daemon cannot go on: on standard error at once, behind the lines that go there; in syslog too.
pub(crate) fn give_up(cause: &str, place: &Place) {
    match place {
        Place::Stderr => {
            finish();
            say(cause);
        }
        Place::Syslog(_) => {
            say(cause);
            log::error!("{cause}");
            finish();
        }
    }
}

/// Has syslog know of panics too: who logs there may read nothing else.
fn tell_panics() {
    let told = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        told(panic);
        log::error!("{panic}");
    }));
}

/// Waits until all lines are written, for a second at most.
pub(crate) fn finish() {
    QUEUE.finish(LAST);
}

/// How many lines were lost because the log was not read.
pub(crate) fn lost() -> u64 {
    QUEUE.lost()
}

/// Takes records for the queue.
struct Queued;

impl Log for Queued {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let is_whole = record.target() == REFUSAL;
        QUEUE.put(Line { time: Timestamp::now(), level: record.level(), is_whole, text: record.args().to_string() });
    }

    fn flush(&self) {
        finish();
    }
}

/// What lines are written to.
#[derive(Debug)]
enum Output {
    Stderr { is_journal: bool },
    Syslog(Syslog),
}

impl Output {
    /// Writes a line, however long that takes.
    fn write(&mut self, line: &Line, format: Format) {
        let text = match (&self, format) {
            (Output::Stderr { is_journal: true }, _) => format!("<{}>{}", severity(line.level), line.text),
            _ if line.is_whole => line.text.clone(),
            (_, Format::Text) => format!("{}: {}", name(line.level), line.text),
            (_, Format::Json) => {
                json!({ "time": seconds(line.time), "level": name(line.level), "event": "message", "message": line.text }).to_string()
            }
        };
        match self {
            Output::Stderr { .. } => say(&text),
            Output::Syslog(syslog) => {
                let mut is_told = false;
                while let Err(error) = syslog.send(line, severity(line.level), &text) {
                    if !is_told {
                        let remedy = "start it, or name its socket with --log-to syslog:/path";
                        say(&format!("cannot reach the syslog daemon at {}: {error}; {remedy}; log lines wait for it", syslog.name()));
                        is_told = true;
                    }
                    thread::sleep(PAUSE);
                }
            }
        }
    }
}

/// Writes to standard error, at once. If nobody reads it that is no reason to stop.
pub(crate) fn say(text: &str) {
    let _ = io::stderr().lock().write_all(format!("{text}\n").as_bytes());
}

fn name(level: Level) -> String {
    level.as_str().to_ascii_lowercase()
}

/// The severity of syslog(3).
fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// Whether standard error is the journal: systemd tells device and inode of the socket that it has put there.
fn is_journal() -> bool {
    let identity = || {
        let stderr = File::from(io::stderr().as_fd().try_clone_to_owned().ok()?);
        let metadata = stderr.metadata().ok()?;
        Some(format!("{}:{}", metadata.dev(), metadata.ino()))
    };
    env::var("JOURNAL_STREAM").ok().is_some_and(|told| identity() == Some(told))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        assert_eq!(parse_place("stderr"), Ok(Place::Stderr));
        assert_eq!(parse_place("syslog"), Ok(Place::Syslog("/dev/log".into())));
        assert_eq!(parse_place("syslog:/run/log.sock"), Ok(Place::Syslog("/run/log.sock".into())));
        for wrong in ["", "syslog:", "syslog:udp", "stderr:/x", "/dev/log", "journal"] {
            assert!(parse_place(wrong).unwrap_err().starts_with("write stderr, syslog for the socket /dev/log, or"), "{wrong}");
        }
    }
}
