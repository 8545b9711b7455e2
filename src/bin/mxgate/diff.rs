//! `mxgate diff`: what changes from one policy to another, list by list.

use crate::check::{ERROR, load, print_or_fail};
use clap::Args;
use mxgate::diff::diff;
use std::path::PathBuf;
use std::process::ExitCode;

const SAME: u8 = 0;
const DIFFERENT: u8 = 1;

/// What to compare.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Policy file as it was
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// Policy file as it is to be
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// Show the entries too
    #[arg(long)]
    entries: bool,
    /// For programs: JSON, with all entries
    #[arg(long)]
    json: bool,
}

/// Loads both, compares, prints.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let (Some(old), Some(new)) = (load(&arguments.old), load(&arguments.new)) else { return ExitCode::from(ERROR) };
    let diff = diff(&old.ruleset(), &new.ruleset());
    let text = match (arguments.json, arguments.entries) {
        (true, _) => format!("{:#}\n", diff.to_json()),
        (false, true) => format!("{diff:#}"),
        (false, false) => diff.to_string(),
    };
    print_or_fail(&text, if diff.is_same() { SAME } else { DIFFERENT })
}
