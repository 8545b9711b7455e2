//! A refusal as it is told: a line for people and for the programs that read the logs of mail servers, or a JSON object; and
//! its facts, so that it can be explained later.
//!
//! The line has the shape of Postfix's own, so that its readers know it. fail2ban's filter for Postfix takes the address of
//! clients who are refused at RCPT because of who they are, or because they wanted to relay.
//!
//! ```text
//! NOQUEUE: reject: RCPT from unknown[192.0.2.7]: 550 5.7.1 Service unavailable; Client host [192.0.2.7] blocked using local;
//! sent spam; from=<a@s.example> to=<b@example.org> list=local entry=192.0.2.0/24 line=4 generation=1 id=K7Q2M4X0
//! ```

use jiff::Timestamp;
use mxgate::id::Id;
use mxgate::milter::Refusal;
use mxgate::reply::clean;
use mxgate::{Decider, Facts, Stage};
use serde_json::{Value, json};
use std::fmt::{self, Write as _};
use std::net::IpAddr;

/// So much of a mailbox is kept. Mail servers let at most 2,048 bytes through, and none that exists is longer than 320.
const MAX_MAILBOX: usize = 1024;

/// A refusal that outlives the session; or an answer that lets in, for those who follow a client.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) id: Id,
    at: Timestamp,
    /// When it was asked.
    pub(crate) stage: Stage,
    client: Option<IpAddr>,
    helo: Option<Box<[u8]>>,
    sender: Option<Box<[u8]>>,
    /// As the client wrote it.
    written: Option<Box<[u8]>>,
    /// As the mail server resolved it.
    recipient: Option<Box<[u8]>>,
    authenticated: bool,
    /// What the client reads; nothing if it is let in.
    reply: Box<str>,
    decider: Decider,
    list: Box<str>,
    entry: Box<str>,
    line: u32,
    reason: Box<str>,
    generation: u64,
}

impl Refused {
    /// What there is to tell of a refusal at a time.
    pub(crate) fn of(refusal: &Refusal<'_>, id: Id, at: Timestamp) -> Refused {
        let Refusal { client, sender, recipient, reply, verdict, facts } = *refusal;
        let kept = |bytes: &[u8]| bytes.get(..MAX_MAILBOX).unwrap_or(bytes).into();
        Refused {
            id,
            at,
            stage: stage(refusal),
            client,
            helo: facts.helo.map(kept),
            sender: sender.map(kept),
            written: recipient.map(kept),
            recipient: facts.recipient.map(kept),
            authenticated: facts.authenticated,
            reply: reply.into(),
            decider: verdict.decider,
            list: verdict.list.as_str().into(),
            entry: verdict.entry.to_string().into(),
            line: verdict.line,
            reason: verdict.reason.as_str().into(),
            generation: verdict.generation,
        }
    }

    /// The question that was answered so, but for the time: to be asked again.
    pub(crate) fn facts(&self) -> Facts<'_> {
        Facts {
            address: self.client,
            helo: self.helo.as_deref(),
            sender: self.sender.as_deref(),
            recipient: self.recipient.as_deref(),
            authenticated: self.authenticated,
            id: Some(&self.id),
            ..Facts::default()
        }
    }

    /// As a JSON object. The keys stay what they are; there may come more.
    pub(crate) fn to_json(&self) -> Value {
        let (code, status, _) = self.parts();
        let shown = |bytes: &Option<Box<[u8]>>| bytes.as_ref().map(|bytes| clean(bare(bytes)).to_string());
        json!({
            "time": seconds(self.at),
            "level": "info",
            "event": if self.is_refusal() { "refusal" } else { "acceptance" },
            "id": self.id.as_str(),
            "stage": self.stage.name(),
            "client": self.client.map(|client| client.to_string()),
            "helo": shown(&self.helo),
            "sender": shown(&self.sender),
            "recipient": shown(&self.written),
            "authenticated": self.authenticated,
            "code": code.parse::<u16>().ok(),
            "status": self.is_refusal().then_some(status),
            "reply": self.is_refusal().then_some(&self.reply),
            "decider": self.decider.to_string(),
            "list": self.list,
            "entry": self.entry,
            "line": self.line,
            "reason": self.reason,
            "generation": self.generation,
        })
    }

    /// When it was, to the second.
    pub(crate) fn time(&self) -> String {
        seconds(self.at)
    }

    fn is_refusal(&self) -> bool {
        !self.reply.is_empty()
    }

    /// For people, a fact a line.
    pub(crate) fn paragraph(&self) -> String {
        let Refused { id, at, reply, decider, list, reason, entry, line, generation, .. } = self;
        // Of a limit its key, and whether the client came back too early.
        let list = if *decider == Decider::Limit { reason } else { list };
        let mut text =
            format!("refused:  {id}, {} by the rules of load {generation}\ntold:     {reply}\nby:       {decider}", seconds(*at));
        // Writing to a string does not fail.
        let _ = write!(text, "{}{list}", if list.is_empty() { "" } else { " " });
        if !entry.is_empty() {
            let _ = write!(text, ", entry {entry}");
        }
        if *line > 0 {
            let _ = write!(text, ", line {line}");
        }
        let _ = write!(text, "\nasked:    client [{}]", Client(self.client));
        for (what, value) in [("sender", &self.sender), ("recipient", &self.written)] {
            if let Some(value) = value {
                let _ = write!(text, ", {what} <{}>", clean(bare(value)));
            }
        }
        text + if self.authenticated { ", authenticated\n" } else { "\n" }
    }

    /// Code, enhanced status code and text of the reply.
    fn parts(&self) -> (&str, &str, &str) {
        let (code, rest) = self.reply.split_once(' ').unwrap_or((&self.reply, ""));
        let (status, text) = rest.split_once(' ').unwrap_or((rest, ""));
        (code, status, text)
    }
}

/// The line of the log.
impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (code, status, text) = self.parts();
        let client = Client(self.client);
        let command = self.stage.name().to_ascii_uppercase();
        if self.is_refusal() {
            write!(f, "NOQUEUE: reject: {command} from unknown[{client}]: {code} {status} ")?;
        } else {
            write!(f, "accept: {command} from unknown[{client}]: {};", self.decider)?;
        }
        // What is about the client, and attempts to relay, in the words of Postfix, whatever the policy has the client read.
        match (self.decider, &self.written) {
            _ if !self.is_refusal() => {}
            (Decider::Block | Decider::Ban, _) => {
                write!(f, "Service unavailable; Client host [{client}] blocked using {};", self.list)?;
                if !self.reason.is_empty() {
                    write!(f, " {};", self.reason)?;
                }
            }
            (Decider::Relay, Some(recipient)) => write!(f, "<{}>: Relay access denied;", Field(recipient))?,
            (_, Some(recipient)) => write!(f, "<{}>: {text};", Field(recipient))?,
            (_, None) => write!(f, "{text};")?,
        }
        for (key, value) in [("from", &self.sender), ("to", &self.written), ("helo", &self.helo)] {
            if let Some(value) = value {
                write!(f, " {key}=<{}>", Field(value))?;
            }
        }
        write!(f, " list={}", if self.list.is_empty() { "-" } else { &self.list })?;
        if !self.entry.is_empty() {
            write!(f, " entry={}", Field(self.entry.as_bytes()))?;
        }
        write!(f, " line={} generation={} id={}", self.line, self.generation, self.id)
    }
}

/// When a client was refused.
pub(crate) fn stage(refusal: &Refusal<'_>) -> Stage {
    match (refusal.recipient, refusal.sender, refusal.facts.helo) {
        (Some(_), ..) => Stage::Rcpt,
        (None, Some(_), _) => Stage::Mail,
        (None, None, Some(_)) => Stage::Helo,
        (None, None, None) => Stage::Connect,
    }
}

/// A time to the second.
pub(crate) fn seconds(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

/// An address, if it is known.
struct Client(Option<IpAddr>);

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.to_canonical().fmt(f),
            None => f.write_str("unknown"),
        }
    }
}

/// Bytes from a stranger, without what could end the field that they stand in.
struct Field<'a>(&'a [u8]);

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for shown in clean(bare(self.0)).chars() {
            f.write_char(if matches!(shown, '<' | '>' | ' ') { '?' } else { shown })?;
        }
        Ok(())
    }
}

/// A mailbox without its angle brackets.
fn bare(mailbox: &[u8]) -> &[u8] {
    mailbox.strip_prefix(b"<").and_then(|inner| inner.strip_suffix(b">")).unwrap_or(mailbox)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mxgate::Gate;
    use mxgate::id::parse;

    /// What is told of a recipient that a policy refuses.
    fn told(policy: &str, client: Option<&str>, sender: Option<&[u8]>, recipient: &[u8]) -> Refused {
        let gate = Gate::new();
        gate.load_text(policy, "policy").unwrap();
        let client = client.map(|client| client.parse().unwrap());
        let facts = Facts { address: client, sender, recipient: Some(recipient), ..Facts::default() };
        let verdict = gate.check_rcpt(&facts);
        let reply = verdict.rejection.unwrap().reply();
        let refusal = Refusal { client, sender, recipient: Some(recipient), reply: &reply, verdict: &verdict, facts: &facts };
        Refused::of(&refusal, parse("K7Q2M4X0").unwrap(), Timestamp::from_second(1_800_000_000).unwrap())
    }

    const POLICY: &str = "hostname = \"mx.example.org\"\n[[list]]\nname = \"local\"\nreply = \"554 5.7.1 Go away\"\n\
                          entries = [\"192.0.2.0/24 sent spam\"]\n";

    #[test]
    fn in_the_words_of_postfix() {
        let refused = told(POLICY, Some("192.0.2.7"), Some(b"<a@s.example>"), b"<b@example.org>");
        assert_eq!(
            refused.to_string(),
            "NOQUEUE: reject: RCPT from unknown[192.0.2.7]: 554 5.7.1 Service unavailable; Client host [192.0.2.7] blocked using local; \
             sent spam; from=<a@s.example> to=<b@example.org> list=local entry=192.0.2.0/24 line=5 generation=1 id=K7Q2M4X0"
        );
        assert_eq!(
            refused.paragraph(),
            "refused:  K7Q2M4X0, 2027-01-15T08:00:00Z by the rules of load 1\ntold:     554 5.7.1 Go away\n\
             by:       block list local, entry 192.0.2.0/24, line 5\nasked:    client [192.0.2.7], sender <a@s.example>, \
             recipient <b@example.org>\n"
        );
        let relay = "hostname = \"mx.example.org\"\n[relay]\nlocal = [\"example.org\"]\n";
        let relayed = told(relay, Some("192.0.2.7"), None, b"<b@example.net>").to_string();
        assert!(relayed.contains("]: 550 5.7.1 <b@example.net>: Relay access denied; to=<b@example.net> list="), "{relayed}");
    }

    #[test]
    fn a_refusal_is_one_line_whatever_the_client_wrote() {
        let mode = "hostname = \"mx.example.org\"\nmode = \"maintenance\"\n";
        let nasty = b"\xff\r\nreject: RCPT from [1.2.3.4]> to=<x \x1b[31m%n";
        let refused = told(mode, None, Some(b"<>"), nasty);
        let line = refused.to_string();
        assert!(line.starts_with("NOQUEUE: reject: RCPT from unknown[unknown]: 421 4.3.2 <???reject:"), "{line}");
        assert!(line.contains(" from=<> to=<???reject:?RCPT?from?[1.2.3.4]??to=?x??[31m?n> list=- line=0 "), "{line}");
        assert!(line.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{line}");
        let json = refused.to_json().to_string();
        assert!(json.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{json}");
        let long = told(mode, None, None, &[b'x'; 100_000]);
        assert!(long.to_string().len() < 1000 && long.facts().recipient.unwrap().len() == MAX_MAILBOX);
    }
}
