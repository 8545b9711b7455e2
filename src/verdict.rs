//! The answer to a question: accept, or a reply, and who decided.

use crate::contents::About;
use crate::domain::{Folded, Form};
use crate::mailbox::MAX_MAILBOX;
use crate::reply::{MAX_VALUE, Reply, Status, Text, Values};
use arrayvec::ArrayString;
use ipnet::IpNet;
use std::fmt::{self, Write};

/// Longest name of a list, in bytes.
pub const MAX_LIST_NAME: usize = 63;
/// Room for one and a NUL.
pub(crate) const ROOM_OF_NAME: usize = MAX_LIST_NAME + 1;
/// Longest reply on the wire without its CR LF, in octets (RFC 5321 section 4.5.3.1.5).
const MAX_REPLY: usize = 510;

/// A whole reply line, without CR LF.
pub type ReplyLine = ArrayString<MAX_REPLY>;

/// What a question came to. A value that owns no heap memory and outlives the ruleset that it came from.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    /// The objection; `None` lets the client go on.
    pub rejection: Option<Rejection>,
    /// What decided.
    pub decider: Decider,
    /// Name of the list that decided; empty if none did.
    pub list: ArrayString<MAX_LIST_NAME>,
    /// The entry of that list.
    pub entry: Entry,
    /// Line of that entry in the list's file; 0 if none decided.
    pub line: u32,
    /// What the list says about that entry; may be empty.
    pub reason: ArrayString<MAX_VALUE>,
    /// Name of the first list that would have refused if it were enforced, or `authentication` for the rule of that name;
    /// empty if none.
    pub shadow: ArrayString<MAX_LIST_NAME>,
    /// Number of the load that the ruleset came from; 0 before the first.
    pub generation: u64,
}

/// What to tell the client.
#[derive(Clone, Copy, Debug)]
pub struct Rejection {
    /// Reply code, 400 to 559.
    pub code: u16,
    /// Enhanced status code of the same class (RFC 3463).
    pub status: Status,
    /// Close the connection after the reply.
    pub hang_up: bool,
    /// Text: one line of printable ASCII, never empty.
    pub text: Text,
    /// Name of this host, with which a greeting starts.
    pub host: Folded,
}

/// The kind of rule that decided. The numbers are those of the C ABI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u16)]
pub enum Decider {
    /// No rule matched: accept.
    #[default]
    Nothing = 0,
    /// The mode: maintenance, draining, overloaded, no-mail.
    Mode = 1,
    /// The never-block set: accept.
    NeverBlock = 2,
    /// An allow list: accept.
    Allow = 3,
    /// A block list.
    Block = 4,
    /// A rule about the recipient's domain.
    Domain = 5,
    /// A rule about the sender.
    Sender = 6,
    /// The relay rule.
    Relay = 7,
    /// A rule about the recipient.
    Recipient = 8,
    /// What SPF, DKIM, DMARC and reverse DNS came to.
    Authentication = 9,
    /// A ban.
    Ban = 10,
    /// A limit: too many connections, or too much mail.
    Limit = 11,
}

/// The entry that decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Entry {
    /// None did.
    #[default]
    None,
    /// A network.
    Network(IpNet),
    /// A domain name, or an address literal.
    Domain(Form, Folded),
    /// A mailbox, `user@example.org` or `user@`.
    Mailbox(ArrayString<MAX_MAILBOX>),
}

impl Verdict {
    /// Accept, because nothing matched.
    pub fn accept(generation: u64) -> Verdict {
        Verdict {
            rejection: None,
            decider: Decider::Nothing,
            list: ArrayString::new_const(),
            entry: Entry::None,
            line: 0,
            reason: ArrayString::new_const(),
            shadow: ArrayString::new_const(),
            generation,
        }
    }

    /// Whether the client goes on.
    pub fn is_accept(&self) -> bool {
        self.rejection.is_none()
    }
}

impl Rejection {
    /// A reply with its placeholders filled in, on the host that the values name.
    pub fn of(reply: &Reply, values: &Values<'_>) -> Rejection {
        let host = Folded::from(values.hostname).unwrap_or_default();
        Rejection { code: reply.code, status: reply.status, hang_up: reply.hang_up, text: reply.fill(values), host }
    }

    /// The reply to a command: `550 5.7.1 text`.
    pub fn reply(&self) -> ReplyLine {
        let mut line = ReplyLine::new();
        append(&mut line, format_args!("{} {} {}", self.code, self.status, self.text));
        line
    }

    /// The reply as a greeting: it carries no enhanced status code (RFC 2034 section 3) and starts with the
    /// name of this host (RFC 5321 section 4.3.1); only 421, 521 (RFC 7504) and 554 belong there.
    pub fn greeting(&self) -> ReplyLine {
        let code = match self.code {
            400..500 => 421,
            521 => 521,
            _ => 554,
        };
        let text = self.text.strip_prefix(self.host.as_str()).unwrap_or(&self.text).trim_start();
        let mut line = ReplyLine::new();
        append(&mut line, format_args!("{code} {} {text}", self.host));
        line
    }
}

/// Writes what fits.
fn append(line: &mut ReplyLine, text: fmt::Arguments<'_>) {
    struct Cut<'a>(&'a mut ReplyLine);
    impl Write for Cut<'_> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            // All of it is ASCII, so a cut at any byte is a cut between characters.
            let fitting = text.get(..self.0.remaining_capacity()).unwrap_or(text);
            self.0.try_push_str(fitting).map_err(|_| fmt::Error)
        }
    }
    // Cut never fails: it takes what fits.
    let _ = Cut(line).write_fmt(text);
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Entry::None => Ok(()),
            Entry::Network(network) => About::Network(*network).fmt(f),
            Entry::Domain(form, name) => About::Domain(*form, name.as_bytes()).fmt(f),
            Entry::Mailbox(name) => About::Mailbox(name.as_bytes()).fmt(f),
        }
    }
}

impl fmt::Display for Decider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Decider::Nothing => "no rule",
            Decider::Mode => "mode",
            Decider::NeverBlock => "never-block set",
            Decider::Allow => "allow list",
            Decider::Block => "block list",
            Decider::Domain => "domain rule",
            Decider::Sender => "sender rule",
            Decider::Relay => "relay rule",
            Decider::Recipient => "recipient rule",
            Decider::Authentication => "authentication",
            Decider::Ban => "ban",
            Decider::Limit => "limit",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejection(code: u16, status: &str, text: &str) -> Rejection {
        Rejection {
            code,
            status: Status::from(status).unwrap(),
            hang_up: false,
            text: Text::from(text).unwrap(),
            host: Folded::from("mx.example.org").unwrap(),
        }
    }

    #[test]
    fn a_greeting_has_the_host_first_and_no_enhanced_code() {
        for (code, status, text, reply, greeting) in [
            (
                521,
                "5.3.2",
                "mx.example.org does not accept mail",
                "521 5.3.2 mx.example.org does not accept mail",
                "521 mx.example.org does not accept mail",
            ),
            (550, "5.7.1", "Client refused", "550 5.7.1 Client refused", "554 mx.example.org Client refused"),
            (450, "4.7.1", "Later", "450 4.7.1 Later", "421 mx.example.org Later"),
        ] {
            let rejection = rejection(code, status, text);
            assert_eq!(rejection.reply().as_str(), reply);
            assert_eq!(rejection.greeting().as_str(), greeting);
        }
    }

    #[test]
    fn a_line_is_cut_to_what_smtp_carries() {
        let mut long = rejection(550, "5.7.1", &"x".repeat(crate::reply::MAX_TEXT));
        long.host = Folded::from("h".repeat(253).as_str()).unwrap();
        assert_eq!(long.reply().len(), 10 + crate::reply::MAX_TEXT);
        assert_eq!(long.greeting().len(), MAX_REPLY);
    }
}
