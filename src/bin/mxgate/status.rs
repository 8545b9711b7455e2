//! `mxgate status`: the state of the daemon at a glance, as an SMTP reply 211 or as JSON.

use crate::ask::Daemon;
use crate::check::{ERROR, print_or_fail};
use crate::commands::{Done, Request};
use clap::Args;
use mxgate::Gate;
use mxgate::status::Status;
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
    match arguments.daemon.ask(&Request::Status {}) {
        Some(done) => print_or_fail(&done.show(arguments.json), 0),
        None => ExitCode::from(ERROR),
    }
}

/// The state of a gate. Its lines end as lines of a terminal do.
pub(crate) fn status(gate: &Gate) -> Done {
    let status = Status::of(gate);
    Done { result: status.to_json(), text: format!("{status}\n").replace("\r\n", "\n") }
}
