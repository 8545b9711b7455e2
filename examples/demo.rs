//! `make demo`: a private Postfix on loopback ports with mxgate as its milter. Clients connect from several loopback
//! addresses; prints what they read, and stops everything. Needs root (for Postfix) and the package postfix.

use std::error::Error;
use std::io::{self, Write};

#[path = "../tests/support/mod.rs"]
mod support;

fn main() -> Result<(), Box<dyn Error>> {
    if !support::available(&support::postfix::TOOLS) || !support::root() {
        return Err("the demo needs the package postfix, and root to start a Postfix of its own".into());
    }
    // Cargo puts examples into a directory below that of the commands.
    let here = std::env::current_exe()?;
    let program = here.ancestors().nth(2).ok_or("cannot find the command mxgate")?.join("mxgate");
    let outcome = support::scenario::play(&program);
    let mut out = io::stdout().lock();
    writeln!(out, "The policy:\n\n{}", support::scenario::POLICY)?;
    for scene in &outcome.scenes {
        writeln!(out, "--- {}\n\n{}", scene.title, scene.transcript)?;
    }
    writeln!(out, "--- What mxgate logged\n\n{}", outcome.server_log)?;
    writeln!(out, "--- Delivered to the sink: {} messages", outcome.delivered.len())?;
    Ok(())
}
