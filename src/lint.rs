//! What each rule of a ruleset comes to in each mail server: what the client reads, and what of the reply is lost.

use crate::covering::List;
use crate::facts::AuthResult;
use crate::policy::{At, AuthRule, BANS, Check};
use crate::reply::{Reply, Values};
use crate::rules::authentication::{AUTHENTICATION, failures};
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
    id: "K7Q2M4X0",
    retry: "later",
};

/// When a limit that is exceeded lets through again.
const RETRY: &str = "in 95 seconds";
/// The name of the reply to those who come back before they were to.
const AGAIN: &str = "again too soon";
/// What to write where a reply about one recipient ends the session of them all.
const ONE_RECIPIENT: &str = "kind = \"null-mx\" (556), or a reply with 550, refuses that recipient alone";
/// What to do where nobody tells us what a check came to.
const ELSEWHERE: &str = "let the program that checks it refuse by it";

/// A rule that refuses, and what becomes of its reply.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The kind of rule.
    pub decider: Decider,
    /// Name of the list, key of `[authentication]`, or which reply of the limits; empty for the mode and the relay rule.
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
    let mode = ruleset.mode_reply(&Live::default()).map(|reply| Refusing::new(Decider::Mode, "", reply));
    let refusing = |list| {
        let List { name, conduct, .. }: &List = list;
        Some(Refusing { early: conduct.at == Some(At::Connect), ..Refusing::new(list.role(), name, list.refusal()?) })
    };
    let (addresses, names) = (ruleset.lists.iter().filter_map(refusing), ruleset.name_lists().filter_map(refusing));
    let relay = ruleset.relay.reply.as_ref().map(|reply| Refusing::new(Decider::Relay, "", reply));
    // Bans without a reply of their own are answered like a block list without one.
    let bans = ruleset.bans.reply.as_ref().filter(|reply| Reply::named("policy").as_ref() != Some(*reply));
    let bans = bans.map(|reply| Refusing::new(Decider::Ban, BANS, reply));
    let limits = [("", &ruleset.limits.reply), (AGAIN, &ruleset.limits.reply_again)];
    let limits = limits.into_iter().filter_map(|(name, reply)| Some(Refusing::new(Decider::Limit, name, reply.as_ref()?)));
    let rules = mode.into_iter().chain(bans).chain(addresses).chain(limits).chain(relay).chain(names).chain(authentication(ruleset));
    rules.map(|refusing| refusing.rule(ruleset, profiles)).collect()
}

/// Something that refuses.
struct Refusing<'a> {
    decider: Decider,
    name: &'a str,
    reply: &'a Reply,
    /// It refuses at CONNECT through a milter too.
    early: bool,
    /// The checks that it goes by, and what they came to, of `[authentication]`.
    checks: Vec<&'a AuthRule>,
}

/// The replies of `[authentication]`: that of each key, and that of several together.
fn authentication(ruleset: &Ruleset) -> impl Iterator<Item = Refusing<'_>> {
    let policy = &ruleset.authentication.policy;
    let of = |name, reply, checks| Refusing { checks, ..Refusing::new(Decider::Authentication, name, reply) };
    let each = policy.rules.iter().map(move |rule| of(rule.key, &rule.reply, vec![rule]));
    let mut permanent: Vec<&AuthRule> = policy.rules.iter().filter(|rule| rule.reply.code >= 500).collect();
    // A check has one result at a time.
    permanent.dedup_by_key(|rule| rule.check);
    let several = policy.several.as_ref().filter(|_| permanent.len() > 1);
    each.chain(several.map(|reply| of("several_fail", reply, permanent)))
}

impl<'a> Refusing<'a> {
    fn new(decider: Decider, name: &'a str, reply: &'a Reply) -> Refusing<'a> {
        Refusing { decider, name, reply, early: false, checks: Vec::new() }
    }

    fn rule(&self, ruleset: &Ruleset, profiles: &[Profile]) -> Rule {
        let (decider, hostname) = (self.decider, ruleset.hostname());
        let list =
            if self.name.is_empty() || matches!(decider, Decider::Authentication | Decider::Limit) { "local policy" } else { self.name };
        // At RCPT there is always a domain; other rules are asked at CONNECT too.
        let domain = if is_at_rcpt(decider) { SAMPLE.domain } else { hostname };
        let failures = failures(self.checks.iter().copied());
        let reason = if failures.is_empty() { SAMPLE.reason } else { &failures };
        let retry = if decider == Decider::Limit { RETRY } else { SAMPLE.retry };
        let rejection = Rejection::of(self.reply, &Values { list, reason, domain, hostname, retry, ..SAMPLE });
        let stages = |profile| stages(profile, decider, self.early).iter().map(move |stage| (profile, *stage));
        let cells = profiles.iter().flat_map(|profile| stages(*profile)).map(|(profile, stage)| {
            let wire = on_wire(profile, stage, &rejection, &Envelope::EXAMPLE);
            let about_one = is_about_recipient(decider) && wire.connection == Connection::Closed;
            let remedy = about_one.then_some(ONE_RECIPIENT);
            self.judge_checks(profile, Cell { profile, stage, wire, remedy })
        });
        Rule { decider, name: self.name.into(), rejection, cells: cells.collect() }
    }

    /// Says where nobody knows what a check came to, so that the reply is never given, and where not in time.
    fn judge_checks(&self, profile: Profile, mut cell: Cell) -> Cell {
        let titles = |wanted: fn(Check) -> bool| -> Vec<&str> {
            self.checks.iter().map(|rule| rule.check).filter(|check| wanted(*check)).map(Check::title).collect()
        };
        let (all, in_message) = (titles(|_| true), titles(|check| matches!(check, Check::Dkim | Check::Dmarc)));
        let silent = self.checks.iter().copied().filter(|rule| (rule.check, rule.result) != (Check::Rdns, AuthResult::Temperror));
        let untold = match profile {
            _ if all.is_empty() => None,
            Profile::Postfix | Profile::Sendmail => Some(format!("nobody tells a milter at RCPT what {} came to", all.join(", "))),
            // Of several that fail together two have to be known.
            Profile::PostfixPolicy if self.checks.len() - silent.clone().count() < self.checks.len().min(2) => {
                Some(format!("Postfix tells a policy service nothing of {}", failures(silent)))
            }
            Profile::PostfixPolicy | Profile::Exim | Profile::OpenSmtpd | Profile::Abi => None,
        };
        if let Some(untold) = untold {
            let degradations = vec![format!("{untold}; this refuses nobody")];
            let when = When::Never;
            cell.wire =
                Wire { line: None, when, connection: Connection::Kept, degradations, remarks: Vec::new(), measured: true, ..cell.wire };
            cell.remedy = Some(ELSEWHERE);
        } else if !in_message.is_empty() && profile != Profile::PostfixPolicy {
            cell.wire.remarks.push(format!("what {} came to is known after DATA only: ask then", in_message.join(", ")));
        }
        cell
    }
}

/// Where a mail server gets the answer to a rule of that kind: the milter answers at RCPT, and at
/// CONNECT where a list asks for it (`early`); the other ways answer at once.
fn stages(profile: Profile, decider: Decider, early: bool) -> &'static [Stage] {
    match (profile, decider) {
        (Profile::Postfix | Profile::Sendmail, _) if early => &[Stage::Connect, Stage::Rcpt],
        (Profile::Postfix | Profile::Sendmail, _) => &[Stage::Rcpt],
        _ if is_at_rcpt(decider) => &[Stage::Rcpt],
        _ => &[Stage::Connect, Stage::Rcpt],
    }
}

/// Whether such a rule is asked at RCPT alone.
fn is_at_rcpt(decider: Decider) -> bool {
    matches!(decider, Decider::Domain | Decider::Recipient | Decider::Sender | Decider::Relay | Decider::Authentication)
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
            Decider::Authentication => write!(f, "{AUTHENTICATION} {}", self.name)?,
            Decider::Ban => f.write_str("bans")?,
            Decider::Limit if self.name.is_empty() => f.write_str("limits")?,
            Decider::Limit => write!(f, "limits, {}", self.name)?,
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
