//! `mxgate explain`: says why a policy answers as it does: every list that covers the client, who decides, and what
//! would be answered otherwise.

use crate::ask::Source;
use crate::check::{ACCEPT, ERROR, REJECT, print_or_fail};
use crate::commands::{Done, Request};
use crate::question::Question;
use clap::Args;
use mxgate::Gate;
use serde_json::Value;
use std::process::ExitCode;

/// What to ask.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    question: Question,
    /// For programs: JSON
    #[arg(long)]
    json: bool,
}

/// Loads or asks, prints.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let question = &arguments.question;
    let Some(done) = arguments.source.answer(&Request::Explain(question.clone()), |gate| explain(gate, question)) else {
        return ExitCode::from(ERROR);
    };
    let status = match done.result.pointer("/verdict/accept").and_then(Value::as_bool) {
        Some(true) => ACCEPT,
        Some(false) => REJECT,
        None => ERROR,
    };
    print_or_fail(&done.show(arguments.json), status)
}

/// Why a gate answers as it does.
pub(crate) fn explain(gate: &Gate, question: &Question) -> Done {
    let (facts, stage) = question.facts();
    let explanation = gate.explain(&facts, stage);
    Done { result: explanation.to_json(), text: explanation.to_string() }
}
