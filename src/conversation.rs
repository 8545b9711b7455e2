//! What comes of a conversation with a mail server, whatever the protocol.

use crate::verdict::Verdict;
use std::net::IpAddr;

/// Whether anything can follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The mail server goes on.
    Open,
    /// It has said that it does not. Further input is ignored.
    Closed,
}

/// A recipient, or a client or sender before there is one, that was refused, for the log.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    /// The client, if its address is known.
    pub client: Option<IpAddr>,
    /// The sender, if it is known, with or without angle brackets; `None` at CONNECT and HELO. Bytes from a stranger.
    pub sender: Option<&'a [u8]>,
    /// The recipient as the client wrote it, bytes from a stranger; `None` before RCPT.
    pub recipient: Option<&'a [u8]>,
    /// The reply that the client gets.
    pub reply: &'a str,
    /// Who decided.
    pub verdict: &'a Verdict,
}
