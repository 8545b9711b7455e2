//! `mxgate lists`: the lists of a policy, one a line: size, age, and how much of each no other list covers.

use crate::check::{ERROR, load, print_or_fail};
use clap::Args;
use mxgate::overview::overview;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

/// What to look at.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Policy file
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// For programs: JSON
    #[arg(long)]
    json: bool,
}

/// Loads, counts, prints.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let Some(gate) = load(&arguments.config) else { return ExitCode::from(ERROR) };
    let mut overview = overview(&gate.ruleset(), SystemTime::now());
    // This gate has never been asked anything.
    overview.hits_known = false;
    print_or_fail(&if arguments.json { format!("{:#}\n", overview.to_json()) } else { overview.to_string() }, 0)
}
