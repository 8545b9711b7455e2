//! `mxgate explain`: says why a policy answers as it does: every list that covers the client, who decides, and what
//! would be answered otherwise. `mxgate explain --id`: the same of a refusal that the daemon remembers.

use crate::ask::Source;
use crate::check::{ACCEPT, ERROR, REJECT, print_or_fail};
use crate::commands::{Done, Request};
use crate::question::Question;
use crate::rules::Rules;
use clap::Args;
use mxgate::{Gate, id};
use serde_json::{Value, json};
use std::process::ExitCode;

/// What to ask.
#[derive(Debug, Args)]
#[command(mut_arg("ip", |ip| ip.required(false).required_unless_present("id")))]
pub(crate) struct Arguments {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    question: Option<Question>,
    /// Name of a refusal, as in the log or in the reply; only with --control
    #[arg(long, value_name = "ID", conflicts_with_all = ["Question", "config"])]
    id: Option<String>,
    /// For programs: JSON
    #[arg(long)]
    json: bool,
}

/// Loads or asks, prints.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let Arguments { source, question, id, json } = arguments;
    let done = match (question, id) {
        (Some(question), _) => source.answer(&Request::Explain(question.clone()), |gate| explain(gate, question)),
        (None, Some(id)) => source.ask(&Request::Refusal { id: id.clone() }),
        // There is one of the two: an address is required otherwise.
        (None, None) => None,
    };
    let Some(done) = done else { return ExitCode::from(ERROR) };
    let status = match done.result.pointer("/verdict/accept").and_then(Value::as_bool) {
        Some(true) => ACCEPT,
        Some(false) => REJECT,
        None => ERROR,
    };
    print_or_fail(&done.show(*json), status)
}

/// Why a gate answers as it does.
pub(crate) fn explain(gate: &Gate, question: &Question) -> Done {
    let (facts, stage) = question.facts();
    let explanation = gate.explain(&facts, stage);
    Done { result: explanation.to_json(), text: explanation.to_string() }
}

/// What was refused under a name, and how the rules in force now answer the same question.
pub(crate) fn explain_again(rules: &Rules, id: &str) -> Result<Done, String> {
    let known = id::parse(id).ok_or("not the name of a refusal; write the eight letters and digits behind id= in the log")?;
    let remedy = || format!("no refusal {known} is remembered; look for id={known} in the log, and ask with --ip");
    let refused = rules.refusals.find(known).ok_or_else(remedy)?;
    let explanation = rules.gate.explain(&refused.facts(), refused.stage);
    let mut result = explanation.to_json();
    if let Some(keys) = result.as_object_mut() {
        keys.insert("refusal".into(), json!(refused.to_json()));
    }
    let now = format!("By the rules in force now, load {}:", explanation.verdict.generation);
    let text = format!("{}\n{now}\n{explanation}", refused.paragraph());
    Ok(Done { result, text })
}
