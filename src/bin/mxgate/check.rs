//! `mxgate check`: asks a policy what it would answer, and says who decided.

use crate::progress;
use crate::question::Question;
use clap::Args;
use mxgate::{Decider, Entry, Gate, Stage, Verdict};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(crate) const ACCEPT: u8 = 0;
pub(crate) const REJECT: u8 = 1;
pub(crate) const ERROR: u8 = 2;

/// What to ask.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Policy file
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    question: Question,
}

/// Loads a policy, and shows what is wrong with it; `None` if it cannot be used.
pub(crate) fn load(config: &Path) -> Option<Gate> {
    load_with_warnings(config).map(|(gate, _)| gate)
}

/// As [`load`]; says too how much there was to warn of.
pub(crate) fn load_with_warnings(config: &Path) -> Option<(Gate, usize)> {
    let gate = Gate::with_progress(progress::tell);
    let loaded = progress::shown(|| gate.load_file(config));
    let (Ok(diagnostics) | Err(mxgate::LoadError { diagnostics })) = &loaded;
    say(&mxgate::diagnostic::render(diagnostics));
    loaded.ok().map(|warnings| (gate, warnings.len()))
}

/// Says on standard error what is wrong. Nothing can be said if that is closed.
pub(crate) fn say(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Writes to standard output. The status is an error if nobody can read it.
pub(crate) fn print_or_fail(text: &str, status: u8) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::from(status),
        Err(_) => ExitCode::from(ERROR),
    }
}

/// Loads, asks, prints.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let Some(gate) = load(&arguments.config) else { return ExitCode::from(ERROR) };
    let (facts, stage) = arguments.question.facts();
    let verdict = if stage == Stage::Rcpt { gate.check_rcpt(&facts) } else { gate.check_connect(&facts) };
    match print(&verdict, &gate, stage == Stage::Connect) {
        Ok(()) => ExitCode::from(if verdict.is_accept() { ACCEPT } else { REJECT }),
        Err(_) => ExitCode::from(ERROR),
    }
}

fn print(verdict: &Verdict, gate: &Gate, connect: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match &verdict.rejection {
        None => writeln!(out, "verdict:  accept")?,
        Some(rejection) => {
            writeln!(out, "verdict:  reject{}", if rejection.hang_up { ", hang up" } else { "" })?;
            writeln!(out, "reply:    {}", rejection.reply())?;
            if connect {
                writeln!(out, "greeting: {}", rejection.greeting())?;
            }
        }
    }
    write!(out, "decided:  {}", verdict.decider)?;
    if !verdict.list.is_empty() && verdict.decider != Decider::NeverBlock {
        write!(out, " {}", verdict.list)?;
    }
    if verdict.entry != Entry::None {
        write!(out, ", entry {}", verdict.entry)?;
    }
    // The built-in entries of the never-block set stand in no file.
    if verdict.line > 0
        && let Some(list) = gate.ruleset().list(&verdict.list)
    {
        write!(out, " ({}:{})", list.file(verdict), verdict.line)?;
    }
    writeln!(out)?;
    if !verdict.reason.is_empty() {
        writeln!(out, "reason:   {}", verdict.reason)?;
    }
    out.flush()
}
