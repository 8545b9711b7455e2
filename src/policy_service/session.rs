//! One connection of a policy client, which is a process of Postfix: bytes in, bytes out. It has no clock and no socket, and
//! allocates nothing per request once its buffers are warm.
//!
//! Such a process serves one SMTP client after the other over the same connection, and tells nobody when a session ends. So
//! open sessions are not counted here, and what is counted is so once: a connection at the first question about it that lets
//! the client go on, a recipient at the first one that lets it through. What is refused is not charged, as everywhere.

use super::codec::{ProtocolError, Request, Requests, encode_action};
use crate::conversation::{Progress, Refusal, Telling};
use crate::facts::{AuthResult, Facts};
use crate::gate::Gate;
use crate::id::Ids;
use crate::prefix::parse_address;
use crate::ruleset::Ask;
use crate::stage::Stage;
use crate::verdict::Verdict;
use std::net::IpAddr;
use std::str;
use std::sync::Arc;

/// Capacity that the buffer for the last request keeps.
const KEPT: usize = 4096;

/// The conversation with one process of the mail server.
#[derive(Debug, Default)]
pub struct Session {
    requests: Requests,
    dialogue: Dialogue,
}

/// The state of a session without its input.
#[derive(Debug, Default)]
struct Dialogue {
    closed: bool,
    telling: Telling,
    /// A whole request has come.
    asked: bool,
    /// The client whose connection has been counted.
    client: Option<Client>,
    /// The last request, if nobody objected.
    passed: Vec<u8>,
}

/// A client, as far as one is told from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Client {
    address: IpAddr,
    port: u16,
}

impl Session {
    /// A session in which nothing has been asked.
    pub fn new() -> Session {
        Session::default()
    }

    /// A session in which each question has a name, for `{id}` in replies.
    pub fn with_ids(ids: Arc<Ids>) -> Session {
        let mut session = Session::new();
        session.dialogue.telling.ids = Some(ids);
        session
    }

    /// From now on [`Session::feed`] tells also of those that are let in, or does not.
    pub fn tell_all(&mut self, all: bool) {
        self.dialogue.telling.all = all;
    }

    /// Takes what the policy client has sent, cut anywhere. Appends the answers to `out`, and tells of each refusal.
    ///
    /// # Errors
    /// If the peer is no policy client. What was appended to `out` before that is valid; no more will follow.
    pub fn feed(
        &mut self,
        gate: &Gate,
        mut input: &[u8],
        out: &mut Vec<u8>,
        refused: &mut dyn FnMut(&Refusal<'_>),
    ) -> Result<Progress, ProtocolError> {
        while !self.dialogue.closed {
            let handled = match self.requests.next(input) {
                Ok((_, None)) => return Ok(Progress::Open),
                Ok((used, Some(request))) => {
                    input = input.get(used..).unwrap_or_default();
                    self.dialogue.answer(request, gate, out, refused)
                }
                Err(error) => Err(error),
            };
            if let Err(error) = handled {
                self.dialogue.closed = true;
                return Err(error);
            }
        }
        Ok(Progress::Closed)
    }

    /// Whether a request has been answered: the peer is a policy client.
    pub fn has_begun(&self) -> bool {
        self.dialogue.asked
    }

    /// Whether a request has begun and not ended.
    pub fn is_amid_request(&self) -> bool {
        self.requests.is_amid()
    }
}

impl Dialogue {
    fn answer(&mut self, lines: &[u8], gate: &Gate, out: &mut Vec<u8>, refused: &mut dyn FnMut(&Refusal<'_>)) -> Result<(), ProtocolError> {
        let request = Request::parse(lines)?;
        self.asked = true;
        let Some(stage) = stage(&request) else {
            encode_action(None, out);
            return Ok(());
        };
        let id = self.telling.id();
        let facts = Facts { id: id.as_deref(), ..facts(&request, stage) };
        // At RCPT Postfix asks again, word by word, where several lists of restrictions name the service.
        let again = request.instance.is_some_and(|instance| !instance.is_empty()) && lines == self.passed;
        let verdict = if again { gate.ask_again(ask(stage), &facts) } else { self.decide(stage, &facts, gate) };
        self.passed.clear();
        if verdict.is_accept() {
            self.passed.shrink_to(KEPT);
            self.passed.extend_from_slice(lines);
        }
        self.telling.answer(&verdict, &facts, facts.recipient, |reply| encode_action((!reply.is_empty()).then_some(reply), out), refused);
        Ok(())
    }

    /// Decides, and counts the connection if this is the first question about it.
    fn decide(&mut self, stage: Stage, facts: &Facts<'_>, gate: &Gate) -> Verdict {
        let client = facts.address.map(|address| Client { address, port: facts.port });
        let known = stage != Stage::Connect && client.is_some() && client == self.client;
        if matches!(stage, Stage::Connect | Stage::Helo) {
            if known {
                return gate.ask_again(Ask::Arrival, facts);
            }
            let verdict = gate.check_arrival(facts);
            self.client = client.filter(|_| verdict.is_accept());
            return verdict;
        }
        if !known {
            let exceeds = gate.arrive(facts);
            self.client = client.filter(|_| exceeds.is_none());
            if let Some(verdict) = exceeds.and_then(|exceeded| gate.check_held(facts, exceeded)) {
                return verdict;
            }
        }
        if stage == Stage::Mail { gate.check_mail(facts) } else { gate.check_rcpt(facts) }
    }
}

/// The stage at which there is something to say.
fn stage(request: &Request<'_>) -> Option<Stage> {
    Some(match request.protocol_state? {
        b"CONNECT" => Stage::Connect,
        b"HELO" | b"EHLO" => Stage::Helo,
        b"MAIL" => Stage::Mail,
        b"RCPT" => Stage::Rcpt,
        // What follows is about a message that has been let through (DATA, END-OF-MESSAGE), or about none (ETRN, VRFY).
        _ => return None,
    })
}

fn ask(stage: Stage) -> Ask {
    match stage {
        Stage::Connect | Stage::Helo => Ask::Arrival,
        Stage::Mail => Ask::Mail,
        Stage::Rcpt => Ask::Rcpt,
    }
}

/// What Postfix knows at that stage.
fn facts<'a>(request: &Request<'a>, stage: Stage) -> Facts<'a> {
    let text = |value: Option<&'a [u8]>| value.and_then(|value| str::from_utf8(value).ok());
    let filled = |value: Option<&'a [u8]>| value.filter(|value| !value.is_empty());
    Facts {
        address: text(request.client_address).and_then(parse_address),
        port: text(request.client_port).and_then(|port| port.parse().ok()).unwrap_or(0),
        helo: filled(request.helo_name),
        // The empty one is that of bounces, once there is a sender.
        sender: request.sender.filter(|_| matches!(stage, Stage::Mail | Stage::Rcpt)),
        recipient: filled(request.recipient).filter(|_| stage == Stage::Rcpt),
        authenticated: filled(request.sasl_username).is_some(),
        tls: filled(request.encryption_protocol).is_some(),
        rdns: reverse_dns(request),
        ..Facts::default()
    }
}

/// Whether the client's name leads back to its address. Where there is no name at all, Postfix does not tell whether none
/// exists or DNS could not be asked, and so nothing is known. Of a name that does not lead back it does not tell whether DNS said
/// so or gave no answer: that counts as an error that passes, for mail must not be lost while DNS is out of order (Postfix tells
/// them apart by its own reply only, `reject_unknown_client_hostname`).
fn reverse_dns(request: &Request<'_>) -> AuthResult {
    let known = |name: Option<&[u8]>| name.map(|name| !name.is_empty() && name != b"unknown");
    match (known(request.client_name), known(request.reverse_client_name)) {
        (Some(true), _) => AuthResult::Pass,
        (Some(false), Some(true)) => AuthResult::Temperror,
        _ => AuthResult::Unknown,
    }
}
