//! `mxgate ban`: has the daemon refuse networks from now on. All mistakes are shown at once, and then none is banned.
//!
//! A long file goes in several requests. They are asked for twice: first whether there may be such bans.

use crate::ask::Daemon;
use crate::check::{ERROR, print_or_fail, say};
use crate::commands::{Done, Request};
use crate::rules::Rules;
use crate::state::{Kept, Record};
use clap::Args;
use mxgate::ban_file::{self, Listed};
use mxgate::diagnostic::render;
use mxgate::prefix::parse_network;
use mxgate::{Ban, Gate, parse_duration};
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Most bytes of the bans in one request; there is room for the rest of it.
const MAX_AT_ONCE: usize = 960 * 1024;
/// The longest time of a ban: a hundred years.
const LONGEST: u64 = 36_525 * 86_400;
/// What became of a change that is in force, and not on disk although it should be.
const NOT_ON_DISK: &str = "not-on-disk";

/// What to ban.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    networks: Networks,
    /// When it ends by itself: in 90s, 15m, 24h, 7d, 2w. Without it, not before mxgate unban
    #[arg(long = "for", value_name = "TIME")]
    duration: Option<Span>,
    /// Why, for the log and for {reason} in replies; in a file, of lines without a reason
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    daemon: Daemon,
}

/// Networks on the command line and in a file.
#[derive(Debug, Args)]
pub(crate) struct Networks {
    /// Networks or addresses, such as 192.0.2.0/24 or 2001:db8::1
    #[arg(value_name = "PREFIX", required_unless_present = "file")]
    prefixes: Vec<String>,
    /// File with a network a line, and what stands after it is its reason; - for standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Networks {
    /// How messages name the file.
    pub(crate) fn name(&self) -> Option<Arc<str>> {
        let file = self.file.as_ref()?;
        Some(if is_standard(file) { "standard input".into() } else { file.to_string_lossy().into() })
    }

    /// All networks, and all that is wrong, a line each. Those of the command line have the line 0.
    pub(crate) fn read(&self) -> (Vec<Listed>, String) {
        let (mut listed, mut mistakes) = (Vec::new(), String::new());
        for text in &self.prefixes {
            match parse_network(text) {
                Ok(network) => listed.push(Listed { network, reason: String::new(), line: 0, column: 0 }),
                Err(fault) => mistakes.push_str(&format!("{fault}\n")),
            }
        }
        if let (Some(file), Some(name)) = (&self.file, self.name()) {
            match open(file).and_then(|mut input| ban_file::read(&mut *input, &name)) {
                Ok((more, wrong)) => {
                    listed.extend(more);
                    mistakes.push_str(&render(&wrong));
                }
                Err(error) => mistakes.push_str(&format!("cannot read {name}: {error}\n")),
            }
        }
        (listed, mistakes)
    }
}

fn is_standard(file: &Path) -> bool {
    file.as_os_str() == "-"
}

fn open(file: &Path) -> io::Result<Box<dyn BufRead>> {
    Ok(if is_standard(file) { Box::new(io::stdin().lock()) } else { Box::new(BufReader::new(File::open(file)?)) })
}

/// A time span as it is written.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
#[serde(try_from = "String", into = "String")]
struct Span(String, Duration);

impl From<Span> for String {
    fn from(Span(text, _): Span) -> String {
        text
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Span, String> {
        match parse_duration(&text) {
            Ok(seconds @ ..=LONGEST) => Ok(Span(text, Duration::from_secs(seconds))),
            Ok(_) => Err("more than a hundred years; leave it out for a ban that does not end by itself".into()),
            Err(fault) => Err(fault.to_string()),
        }
    }
}

impl std::str::FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        text.to_owned().try_into()
    }
}

/// The request.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    bans: Vec<WantedBan>,
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    duration: Option<Span>,
    /// The file that the bans are from, for messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// Only say whether there may be such bans.
    #[serde(default)]
    check: bool,
}

/// A ban in a request.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
struct WantedBan {
    network: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    reason: String,
    /// Line and column in the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place: Option<(u32, u32)>,
}

impl Wanted {
    /// Whether it changes anything.
    pub(crate) fn is_change(&self) -> bool {
        !self.check
    }
}

/// Reads, asks, prints.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let (listed, mistakes) = arguments.networks.read();
    say(&mistakes);
    let requests = requests(arguments, listed);
    let ask = |wanted: &Wanted, check| arguments.daemon.ask(&Request::Ban(Wanted { check, ..wanted.clone() }));
    // Of each request what is wrong is shown.
    let check = !mistakes.is_empty() || requests.len() > 1;
    let refused = requests.iter().filter(|wanted| check && ask(wanted, true).is_none()).count();
    if refused > 0 || !mistakes.is_empty() {
        return ExitCode::from(ERROR);
    }
    // What became of them is what became of the last: then either all bans are on disk or not.
    let (mut last, mut networks) = (Map::new(), Vec::new());
    for wanted in &requests {
        let Some(Done { result: Value::Object(mut result), .. }) = ask(wanted, false) else {
            if !networks.is_empty() {
                say(&format!("{} banned before that\n", named(&networks)));
            }
            return ExitCode::from(ERROR);
        };
        if let Some(Value::Array(more)) = result.remove("networks") {
            networks.extend(more);
        }
        last = result;
    }
    last.insert("networks".into(), networks.into());
    let done = Value::Object(last);
    print_or_fail(&text(&done), status(&done))
}

/// The exit status: 1 for a change that is in force, and not on disk although it should be.
pub(crate) fn status(done: &Value) -> u8 {
    u8::from(done.get("kept").and_then(Value::as_str) == Some(NOT_ON_DISK))
}

fn requests(arguments: &Arguments, listed: Vec<Listed>) -> Vec<Wanted> {
    let (mut requests, mut length): (Vec<Wanted>, _) = (Vec::new(), usize::MAX);
    for Listed { network, reason, line, column } in listed {
        let reason = if reason.is_empty() { &arguments.reason } else { &reason };
        let ban = WantedBan {
            network: network.to_string(),
            // As the daemon will keep it, which is not longer.
            reason: mxgate::reply::clean(reason.as_bytes()).to_string(),
            place: (line > 0).then_some((line, column)),
        };
        let more = json!(ban).to_string().len() + 1;
        length = length.saturating_add(more);
        match requests.last_mut().filter(|_| length <= MAX_AT_ONCE) {
            Some(wanted) => wanted.bans.push(ban),
            None => {
                let (duration, file) = (arguments.duration.clone(), arguments.networks.name().map(|name| name.to_string()));
                requests.push(Wanted { bans: vec![ban], duration, file, check: false });
                length = more;
            }
        }
    }
    requests
}

/// Carries out a request: all of it, or nothing.
pub(crate) fn ban(rules: &Rules, wanted: &Wanted) -> Result<Done, String> {
    let bans = plan(&rules.gate, wanted)?;
    if wanted.check {
        return Ok(Done { result: json!({}), text: String::new() });
    }
    let until = bans.first().map_or(0, |ban| ban.until);
    let (networks, kept) = rules.state.change(&rules.gate, || {
        rules.gate.put_bans(bans.iter().cloned()).map_err(|fault| fault.to_string())?;
        let networks: Vec<String> = bans.iter().map(|ban| ban.network.to_string()).collect();
        Ok((networks, bans.into_iter().map(Record::Ban).collect()))
    })?;
    let mut result = json!({ "networks": networks, "until": (until != 0).then(|| time(until)) });
    note(&mut result, &kept);
    let text = text(&result);
    text.lines().take(1).for_each(|line| log::info!("{line}"));
    Ok(Done { result, text })
}

/// The bans that a request asks for, or all that is wrong with them.
fn plan(gate: &Gate, wanted: &Wanted) -> Result<Vec<Ban>, String> {
    let (mut bans, mut mistakes) = (Vec::new(), String::new());
    let file: Option<Arc<str>> = wanted.file.as_deref().map(Into::into);
    for WantedBan { network, reason, place } in &wanted.bans {
        match parse_network(network).and_then(|network| gate.may_ban(network)) {
            Ok(network) => bans.push(Ban::new(network, wanted.duration.as_ref().map(|span| span.1), reason)),
            Err(fault) => mistakes.push_str(&match (&file, place) {
                (Some(file), Some((line, column))) => render(&[fault.at(file, *line, *column)]),
                _ => format!("{fault}\n"),
            }),
        }
    }
    if mistakes.is_empty() { Ok(bans) } else { Err(mistakes) }
}

/// Adds to a result where the change is kept.
pub(crate) fn note(result: &mut Value, kept: &Kept) {
    let (kept, note) = match kept {
        Kept::OnDisk => ("on-disk", None),
        Kept::InMemory => ("in-memory", Some("in memory only, until the daemon ends: it was started without --state".to_owned())),
        Kept::NotOnDisk(why) => (NOT_ON_DISK, Some(format!("not on disk: {why}"))),
    };
    if let Some(result) = result.as_object_mut() {
        result.extend([("kept".to_owned(), kept.into()), ("note".into(), note.into())]);
    }
}

/// A time as people read it.
pub(crate) fn time(at: u64) -> String {
    i64::try_from(at).ok().and_then(|at| jiff::Timestamp::from_second(at).ok()).map_or_else(|| at.to_string(), |at| at.to_string())
}

/// Several networks by number, one by its name, and the verb for them.
pub(crate) fn named(networks: &[Value]) -> String {
    match networks {
        [Value::String(one)] => format!("{one} is"),
        networks => format!("{} networks are", networks.len()),
    }
}

fn text(result: &Value) -> String {
    let networks = result.get("networks").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let until = result.get("until").and_then(Value::as_str).map(|until| format!(" until {until}")).unwrap_or_default();
    let note = result.get("note").and_then(Value::as_str).map(|note| format!("{note}\n")).unwrap_or_default();
    format!("{} banned{until}\n{note}", named(networks))
}
