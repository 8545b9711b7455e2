//! `mxgate reload`: has the daemon load its policy again, and shows what that changes.

use crate::ask::{DEFAULT_PATH, ask};
use crate::check::{ERROR, print_or_fail};
use crate::commands::Request;
use crate::listen::parse_path;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

/// Whom to ask.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Control socket of the daemon
    #[arg(long, value_name = "PATH", value_parser = parse_path, default_value = DEFAULT_PATH)]
    control: PathBuf,
    /// For programs: JSON
    #[arg(long)]
    json: bool,
}

/// Asks, prints.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    match ask(&arguments.control, &Request::Reload {}) {
        Some(done) => print_or_fail(&done.show(arguments.json), 0),
        None => ExitCode::from(ERROR),
    }
}
