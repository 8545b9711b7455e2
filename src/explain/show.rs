//! An explanation as text for people and as JSON for programs.

use super::{Covering, Explanation, Matching, Read, Standing};
use crate::shown;
use crate::stage::Stage;
use crate::verdict::Verdict;
use serde_json::{Value, json};
use std::fmt;

/// Marks the list that decides.
const DECIDES: char = '*';

impl Standing {
    /// The name that programs go by.
    pub fn name(self) -> &'static str {
        match self {
            Standing::Decides => "decides",
            Standing::Accepts => "accepts",
            Standing::Watched => "watched",
            Standing::NotAsked => "not-asked",
            Standing::PassedOver => "passed-over",
            Standing::Hole => "hole",
            Standing::Expired => "expired",
        }
    }
}

impl Explanation {
    /// The list that decides.
    pub fn winner(&self) -> Option<&Covering> {
        self.lists.iter().find(|list| list.standing == Standing::Decides)
    }

    /// All of it. The keys stay what they are; there may come more.
    pub fn to_json(&self) -> Value {
        let by = self.winner().and_then(|winner| Some((winner, winner.entries.first()?)));
        json!({
            "client": self.client.map(|client| client.to_string()),
            "port": (self.port != 0).then_some(self.port),
            "helo": self.helo,
            "tls": self.tls,
            "domain": self.domain,
            "stage": self.stage.name(),
            "time": shown::time(self.now),
            "generation": self.verdict.generation,
            "verdict": verdict_json(&self.verdict),
            "why": self.why,
            "winner": by.map(|(list, entry)| json!({
                "list": list.name,
                "kind": list.kind,
                "age_seconds": self.age(list),
                "made": list.made.map(shown::time),
                "entry": entry_json(entry),
            })),
            "without": self.without.as_ref().map(verdict_json),
            "lists": self.lists.iter().map(|list| self.list_json(list)).collect::<Vec<_>>(),
            "wire": self.wire.iter().map(wire_json).collect::<Vec<_>>(),
        })
    }

    fn list_json(&self, list: &Covering) -> Value {
        json!({
            "name": list.name,
            "kind": list.kind,
            "standing": list.standing.name(),
            "because": list.because,
            "age_seconds": self.age(list),
            "made": list.made.map(shown::time),
            "entries": list.entries.iter().map(entry_json).collect::<Vec<_>>(),
        })
    }

    fn age(&self, list: &Covering) -> Option<u64> {
        list.made.map(|made| self.now.saturating_sub(made))
    }

    /// When an entry ceases or has ceased to count.
    fn expiry(&self, at: u64) -> String {
        match at.checked_sub(self.now) {
            None | Some(0) => format!("expired {} ago ({})", shown::span(self.now.saturating_sub(at)), shown::time(at)),
            Some(left) => format!("in {} ({})", shown::span(left), shown::time(at)),
        }
    }

    fn winner_text(&self, f: &mut fmt::Formatter<'_>, list: &Covering, entry: &Matching) -> fmt::Result {
        let (file, line) = (&entry.file, entry.line);
        writeln!(f, "decided:  {} {}, entry {} ({})", list.kind, list.name, entry.entry, shown::place(file, line))?;
        writeln!(f, "why:      {}", self.why)?;
        if !entry.reason.is_empty() {
            writeln!(f, "reason:   {}", entry.reason)?;
        }
        if let (Some(age), Some(made)) = (self.age(list), list.made) {
            writeln!(f, "age:      {} (list made {})", shown::span(age), shown::time(made))?;
        }
        if let Some(at) = entry.expires {
            writeln!(f, "expires:  {}", self.expiry(at))?;
        }
        Ok(())
    }

    fn lists_text(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.lists.is_empty() {
            return Ok(());
        }
        let asked = self.client.map(|client| client.to_string()).into_iter().chain(self.domain.clone());
        let asked: Vec<String> = asked.collect();
        writeln!(f, "\nlists that cover {}, in the order in which they decide:", asked.join(" or "))?;
        let entries = || self.lists.iter().flat_map(|list| &list.entries);
        let place = |entry: &Matching| shown::place(&entry.file, entry.line);
        let widest = entries().map(|entry| entry.entry.len()).max().unwrap_or(0);
        let longest = entries().map(|entry| place(entry).len()).max().unwrap_or(0);
        for list in &self.lists {
            let mark = if list.standing == Standing::Decides { DECIDES } else { ' ' };
            let age = self.age(list).map(|age| format!(" ({} old)", shown::span(age))).unwrap_or_default();
            writeln!(f, "{mark} {} {}{age}: {}", list.kind, list.name, list.because)?;
            for entry in &list.entries {
                let expires = entry.expires.map(|at| if at > self.now { format!("expires {}", self.expiry(at)) } else { self.expiry(at) });
                let beaten = entry.beaten.filter(|beaten| !(*beaten == "expired" && expires.is_some())).map(str::to_owned);
                let remarks: Vec<String> =
                    beaten.into_iter().chain(expires).chain((!entry.reason.is_empty()).then(|| entry.reason.clone())).collect();
                let line = format!("    {:widest$}  {:longest$}  {}", entry.entry, place(entry), remarks.join("; "));
                writeln!(f, "{}", line.trim_end())?;
            }
        }
        Ok(())
    }

    /// What clients read; mail servers that do the same on one line.
    fn wire_text(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.wire.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nwhat the client reads:")?;
        let alike = |one: &Read, other: &Read| Read { profile: other.profile, ..one.clone() } == *other;
        for (number, read) in self.wire.iter().enumerate() {
            if self.wire.iter().take(number).any(|before| alike(before, read)) {
                continue;
            }
            let names: Vec<&str> = self.wire.iter().filter(|other| alike(read, other)).map(|other| other.profile.name()).collect();
            let stage = if read.stage == self.stage { String::new() } else { format!(" at {}", read.stage) };
            let closed = if read.closed { ", and the connection is closed" } else { "" };
            let line = read.line.as_deref().unwrap_or("what everybody reads");
            let at_mail = read.at_mail.as_ref().map(|line| format!("; at mail: {line}")).unwrap_or_default();
            writeln!(f, "  {}{stage}: {line}{at_mail}{closed}", names.join(", "))?;
            for lost in &read.lost {
                writeln!(f, "    {lost}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.verdict.rejection {
            None => writeln!(f, "verdict:  accept")?,
            Some(rejection) => {
                writeln!(f, "verdict:  reject{}", if rejection.hang_up { ", hang up" } else { "" })?;
                writeln!(f, "reply:    {}", rejection.reply())?;
                if self.stage == Stage::Connect {
                    writeln!(f, "greeting: {}", rejection.greeting())?;
                }
            }
        }
        match self.winner().and_then(|winner| Some((winner, winner.entries.first()?))) {
            Some((list, entry)) => self.winner_text(f, list, entry)?,
            None => writeln!(f, "decided:  {}\nwhy:      {}", self.verdict.decider, self.why)?,
        }
        if let Some(without) = &self.without {
            writeln!(f, "without:  {}", Short(without))?;
        }
        if !self.verdict.shadow.is_empty() {
            writeln!(f, "watched:  {} would refuse", self.verdict.shadow)?;
        }
        self.lists_text(f)?;
        self.wire_text(f)
    }
}

/// A verdict on one line.
struct Short<'a>(&'a Verdict);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = self.0;
        match &verdict.rejection {
            None => f.write_str("accept")?,
            Some(rejection) => write!(f, "reject {}", rejection.reply())?,
        }
        if verdict.list.is_empty() {
            write!(f, " ({})", verdict.decider)
        } else {
            write!(f, " ({} {}, entry {})", verdict.decider, verdict.list, verdict.entry)
        }
    }
}

fn verdict_json(verdict: &Verdict) -> Value {
    let reply = verdict.rejection.as_ref().map(|rejection| {
        json!({
            "code": rejection.code,
            "status": rejection.status.as_str(),
            "text": rejection.text.as_str(),
            "hang_up": rejection.hang_up,
        })
    });
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    json!({
        "accept": verdict.is_accept(),
        "reply": reply,
        "decider": verdict.decider.to_string(),
        "list": some(&verdict.list),
        "entry": some(&verdict.entry.to_string()),
        "watched": some(&verdict.shadow),
    })
}

fn entry_json(entry: &Matching) -> Value {
    json!({
        "entry": entry.entry,
        "hole": entry.hole,
        "file": (entry.line > 0).then_some(&entry.file),
        "line": (entry.line > 0).then_some(entry.line),
        "reason": entry.reason,
        "expires": entry.expires.map(shown::time),
        "beaten": entry.beaten,
    })
}

fn wire_json(read: &Read) -> Value {
    json!({
        "mail_server": read.profile.name(),
        "stage": read.stage.name(),
        "line": read.line,
        "at_mail": read.at_mail,
        "closed": read.closed,
        "lost": read.lost,
    })
}
