//! `mxgate reload`: has the daemon load its policy again, and shows what that changes.

use crate::ask::Daemon;
use crate::check::{ERROR, print_or_fail};
use crate::commands::Request;
use clap::Args;
use std::process::ExitCode;

/// Whom to ask.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    daemon: Daemon,
    /// For programs: JSON
    #[arg(long)]
    json: bool,
}

/// Asks, prints.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    match arguments.daemon.ask(&Request::Reload {}) {
        Some(done) => print_or_fail(&done.show(arguments.json), 0),
        None => ExitCode::from(ERROR),
    }
}
