//! The protocols in which mail servers ask, as one for whoever moves the bytes.

use mxgate::{Gate, milter, policy_service};
use std::fmt;

/// What is spoken behind a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Milter,
    PolicyService,
}

/// One connection of a mail server.
#[derive(Debug)]
pub(crate) enum Conversation {
    Milter(milter::Session),
    PolicyService(policy_service::Session),
}

impl Conversation {
    pub(crate) fn new(protocol: Protocol, gate: &Gate) -> Conversation {
        match protocol {
            Protocol::Milter => Conversation::Milter(milter::Session::new(gate.stages())),
            Protocol::PolicyService => Conversation::PolicyService(policy_service::Session::new()),
        }
    }

    /// Takes what the mail server has sent, and appends the answers. The error says why the connection is of no further use.
    pub(crate) fn feed(
        &mut self,
        gate: &Gate,
        input: &[u8],
        answers: &mut Vec<u8>,
        refused: &mut dyn FnMut(&milter::Refusal<'_>),
    ) -> Result<milter::Progress, String> {
        match self {
            Conversation::Milter(session) => session.feed(gate, input, answers, refused).map_err(|error| error.to_string()),
            Conversation::PolicyService(session) => session.feed(gate, input, answers, refused).map_err(|error| error.to_string()),
        }
    }

    /// Ends it, however it came to its end.
    pub(crate) fn end(&mut self, gate: &Gate) {
        match self {
            Conversation::Milter(session) => session.end(gate),
            // Its connections are not those of clients.
            Conversation::PolicyService(_) => {}
        }
    }

    /// Whether the peer has shown that it is a mail server.
    pub(crate) fn has_begun(&self) -> bool {
        match self {
            Conversation::Milter(session) => session.is_negotiated(),
            Conversation::PolicyService(session) => session.has_begun(),
        }
    }

    /// Whether the connection may be closed at any moment without harm. Behind one to a milter stands the session of an SMTP
    /// client; a policy client asks its next question over another one.
    pub(crate) fn may_be_closed(&self) -> bool {
        match self {
            Conversation::Milter(_) => false,
            Conversation::PolicyService(session) => session.has_begun() && !session.is_amid_request(),
        }
    }

    /// Whether a packet or request has begun and not ended.
    pub(crate) fn is_amid(&self) -> bool {
        match self {
            Conversation::Milter(session) => session.is_amid_packet(),
            Conversation::PolicyService(session) => session.is_amid_request(),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Milter => "milter",
            Protocol::PolicyService => "policy service",
        })
    }
}
