//! Where log lines go, and in what form: to standard error, as text or as a JSON object a line; with the priorities of
//! journald where that reads them (sd-daemon(3)).
//!
//! `RUST_LOG` says from which level on; without it from `info`. Time and name of the program are what journald or syslog
//! put before a line of text.

use crate::refusal::seconds;
use env_logger::Builder;
use jiff::Timestamp;
use log::{Level, Record};
use serde_json::json;
use std::env;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

/// The target of records that are whole as they are: refusals, which log readers know by how they begin, or JSON objects.
pub(crate) const REFUSAL: &str = "mxgate::refusal";

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people, and for programs that read the logs of Postfix
    #[default]
    Text,
    /// An object a line: time, level, message; a refusal has a key for each of its parts
    Json,
}

/// Log lines in this form from now on.
pub(crate) fn start(format: Format) {
    let mut builder = Builder::from_env(env_logger::Env::default().default_filter_or("info"));
    let journal = format == Format::Text && is_journal();
    builder.format(move |out, record| match format {
        Format::Text if journal => writeln!(out, "<{}>{}", priority(record.level()), record.args()),
        Format::Text => writeln!(out, "{}", text(record)),
        Format::Json => writeln!(out, "{}", object(record)),
    });
    // Fails if there is a logger already, and then that one will do.
    let _ = builder.try_init();
}

/// The line for people.
fn text(record: &Record<'_>) -> String {
    if record.target() == REFUSAL {
        return record.args().to_string();
    }
    format!("{}: {}", name(record.level()), record.args())
}

/// The line for programs.
fn object(record: &Record<'_>) -> String {
    if record.target() == REFUSAL {
        return record.args().to_string();
    }
    let message = record.args().to_string();
    json!({ "time": seconds(Timestamp::now()), "level": name(record.level()), "event": "message", "message": message }).to_string()
}

fn name(level: Level) -> String {
    level.as_str().to_ascii_lowercase()
}

/// The priority of syslog(3).
fn priority(level: Level) -> u8 {
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
