//! `mxgate unban`: has the daemon lift bans.

use crate::ask::Daemon;
use crate::ban::{Networks, named, note, status};
use crate::check::{ERROR, print_or_fail, say};
use crate::commands::{Done, Request};
use crate::rules::Rules;
use crate::state::Record;
use clap::Args;
use mxgate::prefix::parse_network;
use serde_json::{Map, Value, json};
use std::process::ExitCode;

/// Most networks in one request: fewer bytes than it may have, however long they are.
const MAX_AT_ONCE: usize = 10_000;
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
    let (listed, mistakes) = arguments.networks.read();
    if !mistakes.is_empty() {
        say(&mistakes);
        return ExitCode::from(ERROR);
    }
    // What became of them is what became of the last: then either all is on disk or not.
    let (mut last, mut networks, mut not_banned) = (Map::new(), Vec::new(), Vec::new());
    for part in listed.chunks(MAX_AT_ONCE) {
        let part = part.iter().map(|listed| listed.network.to_string()).collect();
        let Some(Done { result: Value::Object(mut result), .. }) = arguments.daemon.ask(&Request::Unban(Unwanted { networks: part }))
        else {
            if !networks.is_empty() {
                say(&format!("{} no longer banned\n", named(&networks)));
            }
            return ExitCode::from(ERROR);
        };
        for (key, all) in [("networks", &mut networks), ("not_banned", &mut not_banned)] {
            if let Some(Value::Array(more)) = result.remove(key) {
                all.extend(more);
            }
        }
        last = result;
    }
    let all = not_banned.is_empty();
    last.extend([("networks".to_owned(), networks.into()), ("not_banned".into(), not_banned.into())]);
    let done = Value::Object(last);
    print_or_fail(&text(&done), status(&done).max(if all { 0 } else { NOT_ALL }))
}

/// Carries out a request. What is not banned does not keep the others from being lifted.
pub(crate) fn unban(rules: &Rules, unwanted: &Unwanted) -> Result<Done, String> {
    let (mut networks, mut mistakes) = (Vec::new(), String::new());
    for text in &unwanted.networks {
        match parse_network(text) {
            Ok(network) => networks.push(network),
            Err(fault) => mistakes.push_str(&format!("{fault}\n")),
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
        // Of networks around each other the smallest is the last.
        let around = in_force.iter().rev().find(|ban| ban.network.contains(network)).map(|ban| ban.network.to_string());
        json!({ "network": network.to_string(), "covered_by": around })
    });
    let lifted: Vec<String> = lifted.iter().map(ToString::to_string).collect();
    let mut result = json!({ "networks": lifted, "not_banned": missing.collect::<Vec<_>>() });
    note(&mut result, &kept);
    if !lifted.is_empty() {
        text(&result).lines().take(1).for_each(|line| log::info!("{line}"));
    }
    let text = text(&result);
    Ok(Done { result, text })
}

fn text(result: &Value) -> String {
    let array = |key| result.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut text = String::new();
    let networks = array("networks");
    if !networks.is_empty() {
        text = format!("{} no longer banned\n", named(networks));
        text.extend(result.get("note").and_then(Value::as_str).map(|note| format!("{note}\n")));
    }
    for missing in array("not_banned") {
        let get = |key| missing.get(key).and_then(Value::as_str);
        let around = get("covered_by").map(|around| format!("; the ban of {around} covers it")).unwrap_or_default();
        text.push_str(&format!("{} was not banned{around}\n", get("network").unwrap_or_default()));
    }
    text
}
