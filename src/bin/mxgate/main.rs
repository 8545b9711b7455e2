//! The command `mxgate`: the daemon and the administrator's tools. Each subcommand has a file of its own.
//!
//! The daemon: `serve` moves bytes, `listen` has its sockets, `rules` what it loads, `control` the socket over which
//! `commands` come from `ask`, `logger` where log lines go, `refusals` what is said of answers,
//! `metrics` what monitoring reads over `http`.

mod ask;
mod check;
mod commands;
mod compile;
mod control;
mod convert;
mod diff;
mod explain;
mod flood;
mod http;
mod lint;
mod listen;
mod lists;
mod logger;
mod metrics;
mod most;
mod progress;
mod question;
mod refusal;
mod refusals;
mod reload;
mod rules;
mod serve;
mod top;
mod trace;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// SMTP policy engine: 521, 421 or 5.7.1 by address lists and no-mail domains.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve Postfix and Sendmail as a milter. SIGHUP loads the policy again, SIGTERM stops.
    Serve(serve::Arguments),
    /// Ask a policy what it would answer. Exit status: 0 accept, 1 reject, 2 error.
    Check(check::Arguments),
    /// Say why a policy answers as it does, and what it would answer otherwise. Exit status: 0 accept, 1 reject, 2 error.
    Explain(explain::Arguments),
    /// Have the daemon load its policy again, as SIGHUP does, and show what changes. Exit status: 0 done, 2 error.
    Reload(reload::Arguments),
    /// Show whom a daemon has refused most often, and by which rules and lists.
    Top(top::Arguments),
    /// Follow clients: show each answer of the daemon as it is given. Exit status: 0 the time is over, 2 error.
    Trace(trace::Arguments),
    /// Show the lists of a policy: size, age, and how much of each no other list covers.
    Lists(lists::Arguments),
    /// Show what changes from one policy to another. Exit status: 0 nothing, 1 something, 2 error.
    Diff(diff::Arguments),
    /// Check a policy, and say what clients will read. Exit status: 0 fine, 1 warnings, 2 errors.
    Lint(lint::Arguments),
    /// Write a policy and its lists as an image, which opens at once and which processes share. Exit status: 0 done, 2 error.
    Compile(compile::Arguments),
    /// Write a list in another format. Exit status: 0 done, 2 error.
    Convert(convert::Arguments),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(arguments) => serve::run(arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Reload(arguments) => reload::run(&arguments),
        Command::Top(arguments) => top::run(&arguments),
        Command::Trace(arguments) => trace::run(&arguments),
        Command::Lists(arguments) => lists::run(&arguments),
        Command::Diff(arguments) => diff::run(&arguments),
        Command::Lint(arguments) => lint::run(&arguments),
        Command::Compile(arguments) => compile::run(&arguments),
        Command::Convert(arguments) => convert::run(&arguments),
    }
}
