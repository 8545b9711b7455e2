//! What each rule of a ruleset comes to in each mail server: what the client reads, and what of the reply is lost.

use crate::policy::At;
use crate::reply::{Reply, Values};
use crate::ruleset::{Live, Ruleset};
use crate::stage::Stage;
use crate::verdict::{Decider, Rejection};
use crate::wire::{Connection, Envelope, Profile, When, Wire, on_wire};
use std::fmt;

/// Documentation values for the placeholders of a reply (RFC 5737, RFC 2606).
const SAMPLE: Values<'_> = Values {
    ip: "192.0.2.1",
    list: "",
    reason: "reason",
    domain: "example.org",
    helo: "client.example.com",
    sender: "sender@example.com",
    hostname: "",
};

/// What to write where a reply about one recipient ends the session of them all.
const ONE_RECIPIENT: &str = "kind = \"null-mx\" (556), or a reply with 550, refuses that recipient alone";

/// A rule that refuses, and what becomes of its reply.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The kind of rule.
    pub decider: Decider,
    /// Name of the list; empty for the mode.
    pub name: String,
    /// Its reply, with sample values.
    pub rejection: Rejection,
    /// What the client reads, mail server by mail server, stage by stage.
    pub cells: Vec<Cell>,
}

/// A reply in one mail server at one stage.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The mail server.
    pub profile: Profile,
    /// The stage at which the reply is given.
    pub stage: Stage,
    /// What becomes of it there.
    pub wire: Wire,
    /// What to write instead, where the policy has something better.
    pub remedy: Option<&'static str>,
}

/// What each rule that refuses comes to in these mail servers, in the order in which the rules decide.
pub fn lint(ruleset: &Ruleset, profiles: &[Profile]) -> Vec<Rule> {
    let mode = ruleset.mode_reply(&Live::default()).map(|reply| (Decider::Mode, "", reply, false));
    let lists =
        ruleset.lists().filter_map(|list| Some((list.role(), list.name.as_str(), list.refusal()?, list.conduct.at == Some(At::Connect))));
    let relay = ruleset.relay.reply.as_ref().map(|reply| (Decider::Relay, "", reply, false));
    mode.into_iter()
        .chain(lists)
        .chain(relay)
        .map(|(decider, name, reply, early)| rule(ruleset, (decider, early), name, reply, profiles))
        .collect()
}

fn rule(ruleset: &Ruleset, (decider, early): (Decider, bool), name: &str, reply: &Reply, profiles: &[Profile]) -> Rule {
    let list = if name.is_empty() { "local policy" } else { name };
    let domain = if is_about_recipient(decider) { SAMPLE.domain } else { ruleset.hostname() };
    let rejection = Rejection::of(reply, &Values { list, domain, hostname: ruleset.hostname(), ..SAMPLE });
    let stages = |profile| stages(profile, decider, early).iter().map(move |stage| (profile, *stage));
    let cells = profiles.iter().flat_map(|profile| stages(*profile));
    let cells = cells.map(|(profile, stage)| {
        let wire = on_wire(profile, stage, &rejection, &Envelope::EXAMPLE);
        let about_one = is_about_recipient(decider) && wire.connection == Connection::Closed;
        Cell { profile, stage, wire, remedy: about_one.then_some(ONE_RECIPIENT) }
    });
    let cells = cells.collect();
    Rule { decider, name: name.into(), rejection, cells }
}

/// Where a mail server gets the answer to a rule of that kind: the milter answers at RCPT, and at
/// CONNECT where a list asks for it (`early`); the other ways answer at once.
fn stages(profile: Profile, decider: Decider, early: bool) -> &'static [Stage] {
    match (profile, decider) {
        (Profile::Postfix | Profile::Sendmail, _) if early => &[Stage::Connect, Stage::Rcpt],
        (Profile::Postfix | Profile::Sendmail, _) | (_, Decider::Domain | Decider::Recipient | Decider::Sender | Decider::Relay) => {
            &[Stage::Rcpt]
        }
        _ => &[Stage::Connect, Stage::Rcpt],
    }
}

/// Whether a reply of such a rule is about one recipient.
fn is_about_recipient(decider: Decider) -> bool {
    matches!(decider, Decider::Domain | Decider::Recipient | Decider::Relay)
}

impl Rule {
    /// How many of its cells lose something.
    pub fn warnings(&self) -> usize {
        self.cells.iter().filter(|cell| cell.is_degraded()).count()
    }
}

impl Cell {
    /// Whether the client does not get what the reply asks for.
    pub fn is_degraded(&self) -> bool {
        !self.wire.degradations.is_empty()
    }
}

/// The rule in one line, then a line for each cell.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.decider {
            Decider::Mode => f.write_str("mode")?,
            Decider::Domain => write!(f, "domains {}", self.name)?,
            Decider::Sender => write!(f, "senders {}", self.name)?,
            Decider::Recipient => write!(f, "recipients {}", self.name)?,
            Decider::Relay => f.write_str("relay")?,
            Decider::Authentication => f.write_str("authentication")?,
            Decider::Ban => f.write_str("bans")?,
            Decider::Limit => f.write_str("limits")?,
            Decider::Nothing | Decider::NeverBlock | Decider::Allow | Decider::Block => write!(f, "list {}", self.name)?,
        }
        writeln!(f, ": {}", self.rejection.reply())?;
        self.cells.iter().try_for_each(|cell| writeln!(f, "  {cell}"))
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Wire { line, when, before, degradations, remarks, measured, .. } = &self.wire;
        let mark = if self.is_degraded() { "warning: " } else { "" };
        write!(f, "{mark}{} at {}: ", self.profile, self.stage)?;
        // Where the text comes later or never, the degradations say what is read instead.
        let first = line.as_ref().filter(|_| *when == When::Now).map(|line| match self.stage {
            Stage::Connect => format!("the greeting is \"{line}\""),
            Stage::Helo | Stage::Mail | Stage::Rcpt if before.is_empty() => "as written".into(),
            Stage::Helo | Stage::Mail | Stage::Rcpt => format!("as written, after \"{before}\""),
        });
        let remedy = self.remedy.map(str::to_owned);
        let parts: Vec<&str> = first.iter().chain(degradations).chain(remarks).chain(&remedy).map(String::as_str).collect();
        f.write_str(&parts.join("; "))?;
        f.write_str(if *measured { "" } else { " (not measured)" })
    }
}
