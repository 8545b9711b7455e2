//! `mxgate completions`: what a shell completes after `mxgate`.

use crate::Cli;
use crate::check::print_or_fail;
use clap::CommandFactory;
use clap_complete::{Shell, generate};
use std::process::ExitCode;

/// For which shell.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Which shell
    shell: Shell,
}

/// Prints.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let mut script = Vec::new();
    generate(arguments.shell, &mut Cli::command(), "mxgate", &mut script);
    print_or_fail(&String::from_utf8_lossy(&script), 0)
}
