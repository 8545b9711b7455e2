//! `mxgate check`: asks a policy what it would answer, and says who decided.

use clap::Args;
use mxgate::{AuthResult, Decider, Entry, Facts, Gate, Stage, Verdict};
use std::io::{self, Write};
use std::net::IpAddr;
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
    /// Address of the client
    #[arg(long, value_name = "ADDRESS", value_parser = super::parse_address)]
    ip: IpAddr,
    /// Sender, as in MAIL FROM
    #[arg(long, value_name = "SENDER")]
    from: Option<String>,
    /// Recipient, as in RCPT TO; without it the question is about the connection
    #[arg(long, value_name = "RECIPIENT")]
    rcpt: Option<String>,
    /// The client has authenticated
    #[arg(long)]
    authenticated: bool,
    /// What checking SPF came to: pass, none, neutral, softfail, fail, temperror, permerror
    #[arg(long, value_name = "RESULT", value_parser = parse_result)]
    spf: Option<AuthResult>,
    /// What checking DKIM came to: pass, none, neutral, fail, temperror, permerror, policy
    #[arg(long, value_name = "RESULT", value_parser = parse_result)]
    dkim: Option<AuthResult>,
    /// What checking DMARC came to: pass, none, fail, temperror, permerror
    #[arg(long, value_name = "RESULT", value_parser = parse_result)]
    dmarc: Option<AuthResult>,
    /// Whether the client's name leads back to its address: pass, none, fail, temperror, permerror
    #[arg(long, value_name = "RESULT", value_parser = parse_result)]
    rdns: Option<AuthResult>,
}

fn parse_result(text: &str) -> Result<AuthResult, String> {
    let found = AuthResult::NAMED.iter().find(|(name, _)| *name == text);
    found
        .map(|(_, result)| *result)
        .ok_or_else(|| format!("not a result; write one of {}", AuthResult::NAMED.map(|(name, _)| name).join(", ")))
}

impl Arguments {
    /// The policy that is to answer; `None` if it has mistakes, which are then shown.
    pub(crate) fn load(&self) -> Option<Gate> {
        load(&self.config)
    }

    /// The question.
    pub(crate) fn facts(&self) -> (Facts<'_>, Stage) {
        let facts = Facts {
            address: Some(self.ip),
            sender: self.from.as_deref().map(str::as_bytes),
            recipient: self.rcpt.as_deref().map(str::as_bytes),
            authenticated: self.authenticated,
            spf: self.spf.unwrap_or_default(),
            dkim: self.dkim.unwrap_or_default(),
            dmarc: self.dmarc.unwrap_or_default(),
            rdns: self.rdns.unwrap_or_default(),
            ..Facts::default()
        };
        (facts, if self.rcpt.is_some() { Stage::Rcpt } else { Stage::Connect })
    }
}

/// Loads a policy, and shows what is wrong with it; `None` if it cannot be used.
pub(crate) fn load(config: &Path) -> Option<Gate> {
    let gate = Gate::new();
    let loaded = gate.load_file(config);
    let (Ok(diagnostics) | Err(mxgate::LoadError { diagnostics })) = &loaded;
    // Nothing can be said if standard error is closed.
    let _ = write!(io::stderr(), "{}", mxgate::diagnostic::render(diagnostics));
    loaded.is_ok().then_some(gate)
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
    let Some(gate) = arguments.load() else { return ExitCode::from(ERROR) };
    let (facts, stage) = arguments.facts();
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
