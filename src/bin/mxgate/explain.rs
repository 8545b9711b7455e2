//! `mxgate explain`: says why a policy answers as it does: every list that covers the client, who decides, and what
//! would be answered otherwise.

use crate::check::{self, ACCEPT, ERROR, REJECT, print_or_fail};
use clap::Args;
use std::process::ExitCode;

/// What to ask.
#[derive(Debug, Args)]
#[group(skip)] // the flattened arguments have a group of that name
pub(crate) struct Arguments {
    #[command(flatten)]
    question: check::Arguments,
    /// For programs: JSON
    #[arg(long)]
    json: bool,
}

/// Loads, asks, prints.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let Some(gate) = arguments.question.load() else { return ExitCode::from(ERROR) };
    let (facts, stage) = arguments.question.facts();
    let explanation = gate.explain(&facts, stage);
    let text = if arguments.json { format!("{:#}\n", explanation.to_json()) } else { explanation.to_string() };
    print_or_fail(&text, if explanation.verdict.is_accept() { ACCEPT } else { REJECT })
}
