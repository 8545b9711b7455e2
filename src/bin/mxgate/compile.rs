//! `mxgate compile`: writes a policy with its lists as an image, which a server opens at once and whose memory its processes
//! share.

use crate::check::{ERROR, load, print_or_fail, say};
use clap::Args;
use mxgate::Gate;
use std::path::PathBuf;
use std::process::ExitCode;

/// What to compile.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Policy file
    #[arg(value_name = "POLICY")]
    policy: PathBuf,
    /// Image to write, such as policy.mxg. It takes the place of an older one as a whole
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

/// Loads, writes, and opens what was written.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let Some(gate) = load(&arguments.policy) else { return ExitCode::from(ERROR) };
    let output = &arguments.output;
    let written = gate.write_image(output).map_err(|fault| format!("{}; {}\n", fault.cause, fault.remedy));
    let checked = written.and_then(|length| Gate::new().load_file(output).map(|_| length).map_err(|error| format!("{error}\n")));
    match checked {
        Ok(length) => {
            let ruleset = gate.ruleset();
            let (networks, names) = (ruleset.network_count(), ruleset.domain_count());
            print_or_fail(&format!("{}: {length} bytes, {networks} networks, {names} domain entries\n", output.display()), 0)
        }
        Err(cause) => {
            say(&cause);
            ExitCode::from(ERROR)
        }
    }
}
