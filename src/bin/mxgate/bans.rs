//! `mxgate bans`: the bans of the daemon that have not ended.

use crate::ask::Asked;
use crate::ban::time;
use crate::commands::{Done, Request};
use clap::Args;
use ipnet::IpNet;
use mxgate::prefix::parse_network;
use mxgate::{Ban, Gate};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Which to show.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    asked: Asked,
}

/// Which to show; the request too.
#[derive(Clone, Debug, Args, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    /// Only those of this network and of what lies in it
    #[arg(long, value_name = "PREFIX")]
    #[serde(default)]
    within: Option<Within>,
}

/// A network as it is written in requests.
#[derive(Clone, Copy, Debug, serde::Deserialize, serde::Serialize)]
#[serde(try_from = "String", into = "String")]
struct Within(IpNet);

impl From<Within> for String {
    fn from(Within(network): Within) -> String {
        network.to_string()
    }
}

impl TryFrom<String> for Within {
    type Error = String;

    fn try_from(text: String) -> Result<Within, String> {
        text.parse()
    }
}

impl std::str::FromStr for Within {
    type Err = String;

    fn from_str(text: &str) -> Result<Within, String> {
        parse_network(text).map(Within).map_err(|fault| fault.to_string())
    }
}

/// Asks, prints.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    arguments.asked.run(&Request::Bans(arguments.which.clone()))
}

/// The bans of a gate, by network.
pub(crate) fn bans(gate: &Gate, which: &Which) -> Done {
    let mut bans = gate.bans();
    bans.retain(|ban| which.within.is_none_or(|Within(network)| network.contains(&ban.network)));
    let until = |ban: &Ban| (ban.until != 0).then(|| time(ban.until));
    let result: Value = bans
        .iter()
        .map(|ban| json!({"network": ban.network.to_string(), "since": time(ban.since), "until": until(ban), "reason": &*ban.reason}))
        .collect();
    let rows =
        bans.iter().map(|ban| [ban.network.to_string(), time(ban.since), until(ban).unwrap_or_else(|| "-".into()), ban.reason.to_string()]);
    let rows: Vec<[String; 4]> = std::iter::once(["NETWORK", "SINCE", "UNTIL", "REASON"].map(Into::into)).chain(rows).collect();
    let width = rows.iter().map(|[network, ..]| network.len()).max().unwrap_or(0);
    let text = rows.iter().map(|[network, since, until, reason]| {
        let line = format!("{network:width$}  {since:20}  {until:20}  {reason}");
        format!("{}\n", line.trim_end())
    });
    Done { result, text: text.collect() }
}
