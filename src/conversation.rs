//! What comes of a conversation with a mail server, whatever the protocol.

use crate::facts::Facts;
use crate::id::{Id, Ids};
use crate::verdict::Verdict;
use std::net::IpAddr;
use std::sync::Arc;

/// Whether anything can follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The mail server goes on.
    Open,
    /// It has said that it does not. Further input is ignored.
    Closed,
}

/// A recipient, or a client or sender before there is one, that was refused, for the log; also one that was let in, if the
/// session tells of all.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    /// The client, if its address is known.
    pub client: Option<IpAddr>,
    /// The sender, if it is known, with or without angle brackets; `None` at CONNECT and HELO. Bytes from a stranger.
    pub sender: Option<&'a [u8]>,
    /// The recipient as the client wrote it, bytes from a stranger; `None` before RCPT.
    pub recipient: Option<&'a [u8]>,
    /// The reply that the client gets; empty if it was let in.
    pub reply: &'a str,
    /// Who decided.
    pub verdict: &'a Verdict,
    /// What was asked: the recipient as the mail server resolved it, the name of the question if it has one.
    pub facts: &'a Facts<'a>,
}

/// What a session tells of its questions, and what they are called.
#[derive(Debug, Default)]
pub(crate) struct Telling {
    /// Also of those that are let in.
    pub all: bool,
    /// Where they get their names from.
    pub ids: Option<Arc<Ids>>,
}

impl Telling {
    /// The name of a question, for `{id}` in its reply.
    pub(crate) fn id(&self) -> Option<Id> {
        self.ids.as_ref().map(|ids| ids.draw())
    }

    /// Has the reply to a question written, which is empty for who is let in, and tells of it. `recipient` is what the client
    /// wrote.
    pub(crate) fn answer(
        &self,
        verdict: &Verdict,
        facts: &Facts<'_>,
        recipient: Option<&[u8]>,
        write: impl FnOnce(&str),
        tell: &mut dyn FnMut(&Refusal<'_>),
    ) {
        let reply = verdict.rejection.map(|rejection| rejection.reply()).unwrap_or_default();
        write(&reply);
        if self.all || !reply.is_empty() {
            tell(&Refusal { client: facts.address, sender: facts.sender, recipient, reply: &reply, verdict, facts });
        }
    }
}
