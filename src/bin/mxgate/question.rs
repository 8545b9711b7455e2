//! The question of `mxgate check` and `mxgate explain`, as it stands on the command line and in a request to the daemon.

use clap::Args;
use mxgate::prefix;
use mxgate::{AuthResult, Facts, Stage};
use serde::de::{Deserialize, Deserializer, Error};
use std::net::IpAddr;

/// What to ask.
#[derive(Clone, Debug, Args, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Question {
    /// Address of the client
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    #[serde(deserialize_with = "address")]
    ip: IpAddr,
    /// Sender, as in MAIL FROM
    #[arg(long, value_name = "SENDER")]
    from: Option<String>,
    /// Recipient, as in RCPT TO; without it the question is about the connection
    #[arg(long, value_name = "RECIPIENT")]
    rcpt: Option<String>,
    /// The client has authenticated
    #[arg(long)]
    #[serde(default)]
    authenticated: bool,
    /// What checking SPF came to: pass, none, neutral, softfail, fail, temperror, permerror
    #[arg(long, value_name = "RESULT", value_parser = parse_result)]
    spf: Option<Outcome>,
    /// What checking DKIM came to: pass, none, neutral, fail, temperror, permerror, policy
    #[arg(long, value_name = "RESULT", value_parser = parse_result)]
    dkim: Option<Outcome>,
    /// What checking DMARC came to: pass, none, fail, temperror, permerror
    #[arg(long, value_name = "RESULT", value_parser = parse_result)]
    dmarc: Option<Outcome>,
    /// Whether the client's name leads back to its address: pass, none, fail, temperror, permerror
    #[arg(long, value_name = "RESULT", value_parser = parse_result)]
    rdns: Option<Outcome>,
}

/// What a check of the mail server came to; in a request by its name.
#[derive(Clone, Copy, Debug, serde::Deserialize, serde::Serialize)]
#[serde(try_from = "String", into = "&'static str")]
struct Outcome(AuthResult);

impl From<Outcome> for &'static str {
    fn from(Outcome(result): Outcome) -> &'static str {
        result.name()
    }
}

impl TryFrom<String> for Outcome {
    type Error = String;

    fn try_from(text: String) -> Result<Outcome, String> {
        parse_result(&text)
    }
}

fn parse_result(text: &str) -> Result<Outcome, String> {
    let found = AuthResult::NAMED.iter().find(|(name, _)| *name == text);
    found
        .map(|(_, result)| Outcome(*result))
        .ok_or_else(|| format!("not a result; write one of {}", AuthResult::NAMED.map(|(name, _)| name).join(", ")))
}

/// Reads an address as programs write it.
fn parse_address(text: &str) -> Result<IpAddr, String> {
    prefix::parse_address(text).ok_or_else(|| "not an IP address; write one such as 192.0.2.7 or 2001:db8::1".into())
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IpAddr, D::Error> {
    parse_address(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

impl Question {
    /// What the mail server would tell, and when.
    pub(crate) fn facts(&self) -> (Facts<'_>, Stage) {
        let result = |outcome: Option<Outcome>| outcome.map_or_else(AuthResult::default, |outcome| outcome.0);
        let facts = Facts {
            address: Some(self.ip),
            sender: self.from.as_deref().map(str::as_bytes),
            recipient: self.rcpt.as_deref().map(str::as_bytes),
            authenticated: self.authenticated,
            spf: result(self.spf),
            dkim: result(self.dkim),
            dmarc: result(self.dmarc),
            rdns: result(self.rdns),
            ..Facts::default()
        };
        (facts, if self.rcpt.is_some() { Stage::Rcpt } else { Stage::Connect })
    }
}
