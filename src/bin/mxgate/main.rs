//! The command `mxgate`: the daemon and the administrator's tools. Each subcommand has a file of its own.
//!
//! The daemon: `serve` moves bytes, `protocol` knows whose they are, `listen` has its sockets, `rules` what it loads, `control` the
//! socket over which `commands` come from `ask`, `state` what it keeps on disk, `refusals` what is said of answers, `logger` where
//! log lines go (by way of `log_queue`, and of `syslog` where that is asked for), `metrics` what monitoring reads over `http`.
//! `handover`, `manager` and `privileges` are what it has to do with systemd and with root.

mod ask;
mod ban;
mod bans;
mod check;
mod commands;
mod compile;
mod completions;
mod connection;
mod control;
mod convert;
mod descriptors;
mod diff;
mod escalation;
mod explain;
mod flood;
mod handover;
mod heap;
mod http;
mod lint;
mod listen;
mod lists;
mod log_queue;
mod logger;
mod maintenance;
mod manager;
#[cfg(test)]
mod manual;
mod metrics;
mod mode;
mod most;
mod overload;
mod privileges;
mod progress;
mod protocol;
mod question;
mod refusal;
mod refusals;
mod rules;
mod serve;
mod state;
mod status;
mod stream;
mod syslog;
mod top;
mod trace;
mod unban;

use ask::Asked;
use clap::{Parser, Subcommand};
use commands::Request;
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
    /// Serve Postfix and Sendmail as a milter, Postfix as a policy service too. SIGHUP loads the policy again, SIGTERM stops.
    Serve(serve::Arguments),
    /// Ask a policy what it would answer. Exit status: 0 accept, 1 reject, 2 error.
    Check(check::Arguments),
    /// Say why a policy answers as it does, and what it would answer otherwise. Exit status: 0 accept, 1 reject, 2 error.
    Explain(explain::Arguments),
    /// Have the daemon refuse networks. Exit status: 0 done, 1 in force but not on disk as it should be, 2 error: none is banned.
    Ban(ban::Arguments),
    /// Have the daemon lift bans. Exit status: 0 done, 1 not all of it (see what is said), 2 error: none is lifted.
    Unban(unban::Arguments),
    /// Show the bans of the daemon. Exit status: 0 done, 2 error.
    Bans(bans::Arguments),
    /// Show or set the mode of the daemon. Exit status: 0 done, 2 error.
    Mode(mode::Arguments),
    /// Show the state of the daemon: rules, lists, bans, counters. Exit status: 0 done, 2 error.
    Status(Asked),
    /// Have the daemon load its policy again, as SIGHUP does, and show what changes. Exit status: 0 done, 2 error.
    Reload(Asked),
    /// Show whom a daemon has refused most often, and by which rules and lists.
    Top(Asked),
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
    /// Print completions for a shell.
    Completions(completions::Arguments),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(arguments) => serve::run(arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Ban(arguments) => ban::run(&arguments),
        Command::Unban(arguments) => unban::run(&arguments),
        Command::Bans(arguments) => bans::run(&arguments),
        Command::Mode(arguments) => mode::run(&arguments),
        Command::Status(asked) => asked.run(&Request::Status {}),
        Command::Reload(asked) => asked.run(&Request::Reload {}),
        Command::Top(asked) => asked.run(&Request::Top {}),
        Command::Trace(arguments) => trace::run(&arguments),
        Command::Lists(arguments) => lists::run(&arguments),
        Command::Diff(arguments) => diff::run(&arguments),
        Command::Lint(arguments) => lint::run(&arguments),
        Command::Compile(arguments) => compile::run(&arguments),
        Command::Convert(arguments) => convert::run(&arguments),
        Command::Completions(arguments) => completions::run(&arguments),
    }
}
