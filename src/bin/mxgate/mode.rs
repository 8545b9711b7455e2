//! `mxgate mode`: shows the mode of the daemon, or sets it.

use crate::ask::Asked;
use crate::commands::{Done, Request};
use clap::Args;
use mxgate::{Gate, Mode};
use serde_json::json;
use std::process::ExitCode;

/// The mode that the policy asks for.
const POLICY: &str = "policy";

/// What to do.
#[derive(Debug, Args)]
#[command(after_help = "A mode that is set stays over loads of the policy, and ends with the daemon.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    wish: Wish,
    #[command(flatten)]
    asked: Asked,
}

/// What to do; the request too.
#[derive(Clone, Debug, Args, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wish {
    /// The mode to set: open, maintenance, draining, overloaded, no-mail; policy for that of the policy. Without it the mode
    /// is shown
    #[arg(value_name = "MODE")]
    #[serde(default)]
    mode: Option<Choice>,
}

impl Wish {
    /// Whether it changes anything.
    pub(crate) fn is_change(&self) -> bool {
        self.mode.is_some()
    }
}

/// A mode, or none of our own.
#[derive(Clone, Copy, Debug, serde::Deserialize, serde::Serialize)]
#[serde(try_from = "String", into = "&'static str")]
struct Choice(Option<Mode>);

impl From<Choice> for &'static str {
    fn from(Choice(mode): Choice) -> &'static str {
        mode.map_or(POLICY, Mode::name)
    }
}

impl TryFrom<String> for Choice {
    type Error = String;

    fn try_from(text: String) -> Result<Choice, String> {
        text.parse()
    }
}

impl std::str::FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Choice, String> {
        if text == POLICY {
            return Ok(Choice(None));
        }
        let found = Mode::named(text).map(|mode| Choice(Some(mode)));
        found.ok_or_else(|| format!("not a mode; write one of {} or {POLICY}", Mode::ALL.map(Mode::name).join(", ")))
    }
}

/// Asks, prints.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    arguments.asked.run(&Request::Mode(arguments.wish.clone()))
}

/// Sets the mode of a gate if one is asked for, and says which is in force.
pub(crate) fn mode(gate: &Gate, wish: &Wish) -> Done {
    if let Some(Choice(mode)) = wish.mode {
        gate.set_mode(mode);
        log::info!("the mode is {}", gate.mode());
    }
    let (mode, policy) = (gate.mode(), gate.ruleset().mode());
    let of = if mode == policy { String::new() } else { format!(" (that of the policy is {policy})") };
    let automatic = gate.is_mode_automatic();
    let by_itself = if automatic { ", by itself" } else { "" };
    let result = json!({ "mode": mode.name(), "policy": policy.name(), "automatic": automatic });
    Done { result, text: format!("the mode is {mode}{by_itself}{of}\n") }
}
