//! `mxgate lists`: the lists of a policy, one a line: size, age, and how much of each no other list covers; of a daemon also
//! how often each has decided.

use crate::ask::Source;
use crate::check::{ERROR, print_or_fail};
use crate::commands::{Done, Request};
use clap::Args;
use mxgate::Gate;
use mxgate::overview::overview;
use std::process::ExitCode;
use std::time::SystemTime;

/// What to look at.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    source: Source,
    /// For programs: JSON
    #[arg(long)]
    json: bool,
}

/// Loads or asks, counts, prints.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    match arguments.source.answer(&Request::Lists {}, |gate| lists(gate, false)) {
        Some(done) => print_or_fail(&done.show(arguments.json), 0),
        None => ExitCode::from(ERROR),
    }
}

/// The lists of a gate. Hits are not known where the gate has never been asked anything.
pub(crate) fn lists(gate: &Gate, hits_known: bool) -> Done {
    let mut overview = overview(&gate.ruleset(), SystemTime::now());
    overview.hits_known = hits_known;
    Done { result: overview.to_json(), text: overview.to_string() }
}
