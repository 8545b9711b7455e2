//! `mxgate unban`: has the daemon lift bans.

use crate::ask::Daemon;
use crate::ban::{Networks, named, note, status};
use crate::check::{ERROR, print_or_fail, say};
use crate::commands::{Done, Request};
use crate::rules::Rules;
use crate::state::Record;
use clap::Args;
use mxgate::diagnostic::Fault;
use mxgate::prefix::parse_network;
use serde_json::{Value, json};
use std::process::ExitCode;

/// Most networks in one request: fewer bytes than it may have, however long they are.
const MAX_AT_ONCE: usize = 1000;
/// Exit status where some were not banned.
const NOT_ALL: u8 = 1;

/// Which bans to lift.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    networks: Networks,
    #[command(flatten)]
    daemon: Daemon,
}

/// The request.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Unwanted {
    networks: Vec<String>,
}

/// Reads, asks, prints.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let listed = match arguments.networks.read() {
        Ok(listed) => listed,
        Err(mistakes) => {
            say(&mistakes);
            return ExitCode::from(ERROR);
        }
    };
    let (mut shown, mut worst) = (String::new(), 0);
    for part in listed.chunks(MAX_AT_ONCE) {
        let networks = part.iter().map(|listed| listed.network.to_string()).collect();
        let Some(Done { result, text }) = arguments.daemon.ask(&Request::Unban(Unwanted { networks })) else {
            say(&shown);
            return ExitCode::from(ERROR);
        };
        shown.push_str(&text);
        let all = result.get("not_banned").and_then(Value::as_array).is_none_or(Vec::is_empty);
        worst = worst.max(status(&result)).max(if all { 0 } else { NOT_ALL });
    }
    print_or_fail(&shown, worst)
}

/// Carries out a request. What is not banned does not keep the others from being lifted.
pub(crate) fn unban(rules: &Rules, unwanted: &Unwanted) -> Result<Done, String> {
    let (mut networks, mut mistakes) = (Vec::new(), String::new());
    for text in &unwanted.networks {
        match parse_network(text) {
            Ok(network) => networks.push(network),
            Err(Fault { cause, remedy, .. }) => mistakes.push_str(&format!("{cause}; {remedy}\n")),
        }
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let gate = &rules.gate;
    let ((lifted, not_banned), kept) = rules.state.change(gate, || {
        let (lifted, not_banned): (Vec<_>, Vec<_>) = networks.into_iter().partition(|network| gate.unban(*network));
        let records = lifted.iter().map(|network| Record::Unban(*network)).collect();
        Ok(((lifted, not_banned), records))
    })?;
    let in_force = if not_banned.is_empty() { Vec::new() } else { gate.bans() };
    let missing = not_banned.iter().map(|network| {
        let around = in_force.iter().rev().find(|ban| ban.network.contains(network));
        let around = around.map(|ban| format!("; the ban of {} covers it", ban.network)).unwrap_or_default();
        format!("{network} was not banned{around}\n")
    });
    let missing: String = missing.collect();
    let show = |networks: &[_]| -> Vec<Value> { networks.iter().map(|network: &ipnet::IpNet| network.to_string().into()).collect() };
    let mut result = json!({ "networks": show(&lifted), "not_banned": show(&not_banned) });
    let mut text = String::new();
    if !lifted.is_empty() {
        note(&mut result, &kept);
        text = format!("{} no longer banned\n", named(&show(&lifted)));
        log::info!("{}", text.trim_end());
        if let Some(note) = result.get("note").and_then(Value::as_str) {
            text.push_str(&format!("{note}\n"));
        }
    }
    text.push_str(&missing);
    Ok(Done { result, text })
}
