//! Requests of a policy client: bytes to values, and the answer to bytes. Nothing is trusted.
//!
//! A request is lines of `name=value` up to an empty one, in any order; the answer is one such line, `action=...`, and an
//! empty one. Names are those of SMTPD_POLICY_README.

use memchr::{memchr, memchr2};
use std::fmt;

/// Longest line, without its end. Postfix cuts what clients say at 2048 bytes (`line_length_limit`).
pub const MAX_LINE: usize = 4096;
/// Longest request, the ends of its lines included. Postfix sends some 700 bytes.
pub const MAX_REQUEST: usize = 16 << 10;
/// Most attributes of a request. Postfix 3.7 sends 29.
pub const MAX_ATTRIBUTES: usize = 100;

/// The only kind of request that there is.
const REQUEST: &[u8] = b"smtpd_access_policy";

/// The peer is no policy client. The connection is of no further use: in case of trouble a policy service does not answer
/// (SMTPD_POLICY_README), and Postfix does what `smtpd_policy_service_default_action` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// A line of a request, counted from 1, that is not `name=value`: most likely not a policy client at all.
    Line(usize),
    /// A line of more than [`MAX_LINE`] bytes.
    LongLine(usize),
    /// A request of more than [`MAX_REQUEST`] bytes.
    LongRequest,
    /// More than [`MAX_ATTRIBUTES`] attributes.
    ManyAttributes,
    /// A request without `request=smtpd_access_policy`.
    NoRequest,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ProtocolError::Line(number) => write!(f, "line {number} of a request is not name=value: not a policy client of Postfix?"),
            ProtocolError::LongLine(number) => write!(f, "line {number} of a request has more than {MAX_LINE} bytes"),
            ProtocolError::LongRequest => write!(f, "a request of more than {MAX_REQUEST} bytes"),
            ProtocolError::ManyAttributes => write!(f, "a request of more than {MAX_ATTRIBUTES} attributes"),
            ProtocolError::NoRequest => f.write_str("a request that is not request=smtpd_access_policy"),
        }
    }
}

impl std::error::Error for ProtocolError {}

/// Finds the requests in a stream of bytes that may be cut anywhere.
#[derive(Debug, Default)]
pub struct Requests {
    /// What has come of a request: whole lines, and the beginning of one.
    started: Vec<u8>,
    /// Where in `started` its last line begins.
    line: usize,
    /// How many lines it has before that.
    lines: usize,
    /// The request in `started` was complete and has been given out.
    done: bool,
}

impl Requests {
    /// Capacity that is kept for the next request.
    const KEPT: usize = 4096;

    /// How much of the input was used up, and the next request, with the ends of its lines but without the empty one; `None`
    /// if all of the input was used up and more is needed.
    ///
    /// # Errors
    /// As soon as a line is none or there is too much of something, however the stream is cut.
    pub fn next(&mut self, input: &[u8]) -> Result<(usize, Option<&[u8]>), ProtocolError> {
        if self.done {
            self.done = false;
            self.started.clear();
            self.started.shrink_to(Requests::KEPT);
            (self.line, self.lines) = (0, 0);
        }
        let mut used = 0;
        while let Some(rest) = input.get(used..).filter(|rest| !rest.is_empty()) {
            let end = memchr(b'\n', rest);
            let part = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
            self.append(part)?;
            used += part.len();
            if end.is_none() {
                break;
            }
            used += 1;
            if self.line == self.started.len() {
                self.done = true;
                return Ok((used, Some(&self.started)));
            }
            self.end_line()?;
        }
        Ok((used, None))
    }

    /// Whether a request has begun and not ended.
    pub fn is_amid(&self) -> bool {
        !self.done && !self.started.is_empty()
    }

    /// Appends a part of a line, if there is room for it.
    fn append(&mut self, part: &[u8]) -> Result<(), ProtocolError> {
        let in_line = (MAX_LINE + self.line).saturating_sub(self.started.len());
        let in_request = MAX_REQUEST.saturating_sub(self.started.len());
        if part.len() > in_line.min(in_request) {
            // What comes first, so that it is the same however the stream is cut.
            return Err(if in_line <= in_request { ProtocolError::LongLine(self.lines + 1) } else { ProtocolError::LongRequest });
        }
        self.started.extend_from_slice(part);
        Ok(())
    }

    /// Ends a line that is not empty.
    fn end_line(&mut self) -> Result<(), ProtocolError> {
        let line = self.started.get(self.line..).unwrap_or_default();
        self.lines += 1;
        // A name of at least one byte, and no NUL before the equals sign or behind it.
        match memchr2(b'=', 0, line) {
            Some(at @ 1..) if line.get(at) == Some(&b'=') && memchr(0, line).is_none() => {}
            _ => return Err(ProtocolError::Line(self.lines)),
        }
        if self.lines > MAX_ATTRIBUTES {
            return Err(ProtocolError::ManyAttributes);
        }
        self.append_end()
    }

    fn append_end(&mut self) -> Result<(), ProtocolError> {
        if self.started.len() >= MAX_REQUEST {
            return Err(ProtocolError::LongRequest);
        }
        self.started.push(b'\n');
        self.line = self.started.len();
        Ok(())
    }
}

/// What a request says, as far as it matters here. `None` is an attribute that did not come; of those that come twice the
/// last counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request<'a> {
    /// How far the SMTP session has come: `CONNECT`, `EHLO`, `HELO`, `MAIL`, `RCPT`, `DATA`, `END-OF-MESSAGE`, `VRFY`, `ETRN`.
    pub protocol_state: Option<&'a [u8]>,
    /// The client's address; `unknown` if Postfix does not know it.
    pub client_address: Option<&'a [u8]>,
    /// The client's port (Postfix 3.0).
    pub client_port: Option<&'a [u8]>,
    /// The client's name, if it leads back to the address; else `unknown`.
    pub client_name: Option<&'a [u8]>,
    /// The client's name, whether or not it leads back to the address; `unknown` if there is none.
    pub reverse_client_name: Option<&'a [u8]>,
    /// Argument of HELO or EHLO; empty before that.
    pub helo_name: Option<&'a [u8]>,
    /// The sender, without angle brackets; empty before MAIL, and for the empty sender.
    pub sender: Option<&'a [u8]>,
    /// The recipient, without angle brackets; empty before RCPT.
    pub recipient: Option<&'a [u8]>,
    /// What is the same in all requests about one message, and in no others on the same connection; empty before RCPT.
    pub instance: Option<&'a [u8]>,
    /// Whom the client has authenticated as; empty if it has not.
    pub sasl_username: Option<&'a [u8]>,
    /// The version of TLS; empty without encryption.
    pub encryption_protocol: Option<&'a [u8]>,
}

impl<'a> Request<'a> {
    /// Reads a request as [`Requests::next`] gives it out. Attributes that do not matter here are passed over.
    ///
    /// # Errors
    /// [`ProtocolError::NoRequest`].
    pub fn parse(mut lines: &'a [u8]) -> Result<Request<'a>, ProtocolError> {
        let (mut request, mut kind) = (Request::default(), None);
        while let Some(end) = memchr(b'\n', lines) {
            let (line, rest) = lines.split_at_checked(end).unwrap_or_default();
            lines = rest.get(1..).unwrap_or_default();
            let Some((name, value)) = memchr(b'=', line).and_then(|at| line.split_at_checked(at)) else { continue };
            let attribute = match name {
                b"request" => &mut kind,
                b"protocol_state" => &mut request.protocol_state,
                b"client_address" => &mut request.client_address,
                b"client_port" => &mut request.client_port,
                b"client_name" => &mut request.client_name,
                b"reverse_client_name" => &mut request.reverse_client_name,
                b"helo_name" => &mut request.helo_name,
                b"sender" => &mut request.sender,
                b"recipient" => &mut request.recipient,
                b"instance" => &mut request.instance,
                b"sasl_username" => &mut request.sasl_username,
                b"encryption_protocol" => &mut request.encryption_protocol,
                _ => continue,
            };
            *attribute = value.get(1..);
        }
        if kind == Some(REQUEST) { Ok(request) } else { Err(ProtocolError::NoRequest) }
    }

    /// Appends the request as a policy client sends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let attributes = [
            ("request", Some(REQUEST)),
            ("protocol_state", self.protocol_state),
            ("client_address", self.client_address),
            ("client_port", self.client_port),
            ("client_name", self.client_name),
            ("reverse_client_name", self.reverse_client_name),
            ("helo_name", self.helo_name),
            ("sender", self.sender),
            ("recipient", self.recipient),
            ("instance", self.instance),
            ("sasl_username", self.sasl_username),
            ("encryption_protocol", self.encryption_protocol),
        ];
        for (name, value) in attributes {
            if let Some(value) = value {
                [name.as_bytes(), b"=", value, b"\n"].iter().for_each(|part| out.extend_from_slice(part));
            }
        }
        out.push(b'\n');
    }
}

/// Appends an answer: a reply, `550 5.7.1 text`, or that there is no objection and Postfix goes on to its next restriction.
/// Not `OK`, after which it would skip those.
pub fn encode_action(reply: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"action=");
    // Replies are printable ASCII; anything else would be an answer of its own.
    let harmless = |byte: u8| if matches!(byte, b' '..=b'~') { byte } else { b'?' };
    out.extend(reply.unwrap_or("DUNNO").bytes().map(harmless));
    out.extend_from_slice(b"\n\n");
}
