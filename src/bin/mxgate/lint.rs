//! `mxgate lint`: checks a policy, and says of each rule what a client reads from each mail server.

use crate::check::load_with_warnings;
use clap::Args;
use mxgate::lint::{Rule, lint};
use mxgate::wire::Profile;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

const WARNINGS: u8 = 1;
const ERRORS: u8 = 2;

/// What to look at.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Policy file
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// Mail server: postfix, postfix-policy, sendmail, exim, opensmtpd, abi (a program of one's own), or all
    #[arg(long, value_name = "SERVER", default_value = "all", value_parser = parse_profiles)]
    mta: Profiles,
}

/// One mail server, or all of them.
#[derive(Clone, Debug)]
struct Profiles(Vec<Profile>);

fn parse_profiles(name: &str) -> Result<Profiles, String> {
    if name == "all" {
        return Ok(Profiles(Profile::ALL.to_vec()));
    }
    Profile::named(name).map(|profile| Profiles(vec![profile])).ok_or_else(|| {
        let names: Vec<&str> = Profile::ALL.iter().map(|profile| profile.name()).collect();
        format!("no such mail server; write one of {}, or all", names.join(", "))
    })
}

/// Loads, judges, prints.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let Some((gate, warnings)) = load_with_warnings(&arguments.config) else { return ExitCode::from(ERRORS) };
    let rules = lint(&gate.ruleset(), &arguments.mta.0);
    if print(&rules).is_err() {
        return ExitCode::from(ERRORS);
    }
    let fine = warnings == 0 && rules.iter().all(|rule| rule.warnings() == 0);
    if fine { ExitCode::SUCCESS } else { ExitCode::from(WARNINGS) }
}

fn print(rules: &[Rule]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for rule in rules {
        write!(out, "{rule}")?;
    }
    out.flush()
}
