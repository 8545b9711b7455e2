//! One connection of a mail server: bytes in, bytes out. It has no clock and no socket, allocates nothing per event
//! once its buffers are warm, and answers exactly the events that wait for an answer: one answer too many or too few
//! and the mail server gives each later one to the wrong recipient.

use crate::conversation::{Progress, Refusal, Telling};
use crate::facts::Facts;
use crate::gate::Gate;
use crate::id::Ids;
use crate::limits::Exceeded;
use crate::mailbox::Mailbox;
use crate::prefix::parse_address;
use crate::ruleset::Stages;
use crate::verdict::Verdict;
use std::mem;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

pub use super::codec::ProtocolError;
use super::codec::{
    Command, Connect, Macros, Options, Packets, SMFI_VERSION, SMFI_VERSION_MIN, SMFIF_SETSYMLIST, SMFIM_CONNECT, SMFIM_ENVFROM,
    SMFIM_ENVRCPT, SMFIP_NOBODY, SMFIP_NOCONNECT, SMFIP_NODATA, SMFIP_NOEOH, SMFIP_NOHDRS, SMFIP_NOHELO, SMFIP_NOMAIL, SMFIP_NOUNKNOWN,
    SMFIP_NR_CONN, SMFIP_NR_MAIL, encode_continue, encode_reply,
};

/// What a mail server need not do, if it offers to leave it out: tell of these events, and wait for an answer to
/// CONNECT, which says nothing since the verdict is given at RCPT. RCPT itself is always asked for.
const UNWANTED: u32 = SMFIP_NOHELO | SMFIP_NODATA | SMFIP_NOUNKNOWN | SMFIP_NOHDRS | SMFIP_NOEOH | SMFIP_NOBODY | SMFIP_NR_CONN;

/// The macros asked for. An empty list would mean all that the mail server is configured to send, and so a stage of
/// which nothing is wanted has the shortest one.
const MACROS: [(u32, &str); 3] = [
    (SMFIM_CONNECT, "j"),
    (SMFIM_ENVFROM, "{auth_authen} {mail_addr}"),
    (SMFIM_ENVRCPT, "{rcpt_addr} {rcpt_mailer} {rcpt_host} {auth_authen}"),
];

/// Capacity that a buffer keeps for the next message. A mailbox and its macros have room in it.
const KEPT: usize = 1024;

/// The conversation with one mail server.
#[derive(Debug)]
pub struct Session {
    packets: Packets,
    dialogue: Dialogue,
}

/// The state of a session without its input.
#[derive(Debug)]
struct Dialogue {
    stages: Stages,
    telling: Telling,
    /// What was agreed upon; `None` before the option negotiation.
    options: Option<Options>,
    closed: bool,
    client: Client,
    message: Message,
}

#[derive(Debug, Default)]
struct Client {
    address: Option<IpAddr>,
    /// Not a client but a user of this host: see [`is_submission`].
    submission: bool,
    /// It counts as an open session until it ends.
    counted: bool,
    /// The limit that its connection exceeds. It is refused at RCPT, when it is known who it is.
    exceeds: Option<Exceeded>,
}

/// What is known of the message at hand.
#[derive(Debug, Default)]
struct Message {
    /// The macros of MAIL have come and MAIL itself has not: they are about the message that it begins.
    announced: bool,
    authenticated: bool,
    /// The sender, if `has_sender`. Two fields, so that the buffer stays.
    sender: Vec<u8>,
    has_sender: bool,
    /// Macros of the next RCPT.
    recipient: Vec<u8>,
}

impl Session {
    /// A session in which the mail server is asked for what `stages` says.
    pub fn new(stages: Stages) -> Session {
        let (client, message) = (Client::default(), Message::default());
        Session {
            packets: Packets::default(),
            dialogue: Dialogue { stages, telling: Telling::default(), options: None, closed: false, client, message },
        }
    }

    /// A session in which each question has a name, for `{id}` in replies.
    pub fn with_ids(stages: Stages, ids: Arc<Ids>) -> Session {
        let mut session = Session::new(stages);
        session.dialogue.telling.ids = Some(ids);
        session
    }

    /// From now on [`Session::feed`] tells also of those that are let in, or does not.
    pub fn tell_all(&mut self, all: bool) {
        self.dialogue.telling.all = all;
    }

    /// Takes what the mail server has sent, cut anywhere. Appends the answers to `out`, and tells of each refused
    /// recipient.
    ///
    /// # Errors
    /// If the peer breaks the protocol. What was appended to `out` before that is valid; no more will follow.
    pub fn feed(
        &mut self,
        gate: &Gate,
        mut input: &[u8],
        out: &mut Vec<u8>,
        refused: &mut dyn FnMut(&Refusal<'_>),
    ) -> Result<Progress, ProtocolError> {
        while !self.dialogue.closed {
            let handled = match self.packets.next(input) {
                Ok((_, None)) => return Ok(Progress::Open),
                Ok((used, Some(packet))) => {
                    input = input.get(used..).unwrap_or_default();
                    Command::parse(packet).and_then(|command| self.dialogue.handle(&command, gate, out, refused))
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

    /// Ends the session, however it came to its end: the client no longer counts as connected. After [`Session::feed`] has
    /// said so, or has failed, or when the mail server has gone.
    pub fn end(&mut self, gate: &Gate) {
        self.dialogue.end_client(gate);
    }

    /// Whether the option negotiation is over: the peer is a mail server.
    pub fn is_negotiated(&self) -> bool {
        self.dialogue.options.is_some()
    }

    /// Whether a packet has begun and not ended.
    pub fn is_amid_packet(&self) -> bool {
        self.packets.is_amid()
    }
}

impl Dialogue {
    fn handle(
        &mut self,
        command: &Command<'_>,
        gate: &Gate,
        out: &mut Vec<u8>,
        refused: &mut dyn FnMut(&Refusal<'_>),
    ) -> Result<(), ProtocolError> {
        let Some(options) = self.options else { return self.negotiate(command, out) };
        match *command {
            Command::OptNeg(_) => return Err(ProtocolError::NegotiatedTwice),
            Command::Connect(ref connect) => {
                self.end_client(gate);
                self.client = Client::of(connect);
                self.message.forget();
                self.begin_client(gate);
                if options.protocol & SMFIP_NR_CONN == 0 {
                    self.connect(gate, out, refused);
                }
            }
            Command::Macro(b'M', macros) => self.message.announce(macros),
            Command::Macro(b'R', macros) => replace(&mut self.message.recipient, macros.0),
            Command::Mail(sender) => {
                self.message.begin(sender);
                if options.protocol & SMFIP_NR_MAIL == 0 {
                    encode_continue(out);
                }
            }
            Command::Rcpt(recipient) => self.rcpt(recipient, gate, out, refused),
            Command::Eom(_) => {
                self.message.forget();
                encode_continue(out);
            }
            Command::Helo(_) | Command::Data | Command::Unknown(_) | Command::Header(_) | Command::Eoh | Command::Body(_) => {
                encode_continue(out);
            }
            // Of other stages nothing is needed.
            Command::Macro(..) => {}
            Command::Abort => self.message.forget(),
            Command::QuitNewConnection => {
                self.end_client(gate);
                self.message.forget();
            }
            Command::Quit => self.closed = true,
        }
        Ok(())
    }

    /// Agrees on the lowest version of both, and on what is both wanted and offered: Postfix refuses a higher version
    /// than its own, Sendmail a protocol bit, and both an action, that they did not offer.
    fn negotiate(&mut self, command: &Command<'_>, out: &mut Vec<u8>) -> Result<(), ProtocolError> {
        let Command::OptNeg(offer) = command else { return Err(ProtocolError::NotNegotiated) };
        if offer.version < SMFI_VERSION_MIN {
            return Err(ProtocolError::Version(offer.version));
        }
        let version = offer.version.min(SMFI_VERSION);
        let actions = if version >= 6 { offer.actions & SMFIF_SETSYMLIST } else { 0 };
        // If nobody waits for an answer CONNECT costs next to nothing, and tells local submission (see
        // `is_submission`) and the log who the client is; rules loaded later may need it too.
        let silent = if self.stages.early { UNWANTED & !SMFIP_NR_CONN } else { UNWANTED };
        let needless = if self.stages.connect || offer.protocol & SMFIP_NR_CONN != 0 { 0 } else { SMFIP_NOCONNECT };
        // The macros of MAIL, which come all the same, have the sender too, good enough for the log and for nearly all
        // rules; but Postfix has put it through Unicode case folding there (see `resolved`).
        let mail = if self.stages.mail { SMFIP_NR_MAIL } else { SMFIP_NOMAIL };
        let options = Options { version, actions, protocol: offer.protocol & (silent | needless | mail) };
        options.encode(if actions == 0 { &[] } else { &MACROS }, out);
        self.options = Some(options);
        Ok(())
    }

    /// Counts the connection for the limits.
    fn begin_client(&mut self, gate: &Gate) {
        let client = &mut self.client;
        if !client.submission {
            client.exceeds = gate.begin_session(&Facts { address: client.address, ..Facts::default() });
            client.counted = client.exceeds.is_none();
        }
    }

    /// Forgets the client.
    fn end_client(&mut self, gate: &Gate) {
        let client = mem::take(&mut self.client);
        if client.counted {
            gate.end_session(&Facts { address: client.address, ..Facts::default() });
        }
    }

    /// Answers CONNECT, which waits for it if a list is to refuse there.
    fn connect(&self, gate: &Gate, out: &mut Vec<u8>, refused: &mut dyn FnMut(&Refusal<'_>)) {
        let client = &self.client;
        let id = self.telling.id();
        let facts = Facts { address: client.address, id: id.as_deref(), ..Facts::default() };
        let verdict = if client.submission || !self.stages.early { Verdict::accept(0) } else { gate.check_early(&facts) };
        self.telling.answer(&verdict, &facts, None, |reply| encode(reply, out), refused);
    }

    fn rcpt(&mut self, argument: &[u8], gate: &Gate, out: &mut Vec<u8>, refused: &mut dyn FnMut(&Refusal<'_>)) {
        let Dialogue { client, message, telling, .. } = self;
        let id = telling.id();
        let macros = Macros(&message.recipient);
        let sender = message.has_sender.then_some(message.sender.as_slice());
        let facts = Facts {
            address: client.address,
            sender,
            recipient: Some(resolved(macros, argument).unwrap_or(argument)),
            authenticated: message.authenticated || is_authenticated(macros),
            id: id.as_deref(),
            // SPF, DKIM, DMARC and reverse DNS no mail server tells a milter at RCPT.
            ..Facts::default()
        };
        let held = client.exceeds.and_then(|exceeded| gate.check_held(&facts, exceeded));
        let verdict = match held {
            Some(verdict) => verdict,
            None if client.submission => Verdict::accept(0),
            None => gate.check_rcpt(&facts),
        };
        telling.answer(&verdict, &facts, Some(argument), |reply| encode(reply, out), refused);
        // They were about this recipient alone.
        forget(&mut message.recipient);
    }
}

/// Writes a reply, or that the client goes on if it is empty.
fn encode(reply: &str, out: &mut Vec<u8>) {
    if reply.is_empty() { encode_continue(out) } else { encode_reply(reply, out) }
}

impl Client {
    fn of(connect: &Connect<'_>) -> Client {
        // An address under family L is the name of a file.
        let text = if matches!(connect.family, b'4' | b'6') { str::from_utf8(connect.address).ok() } else { None };
        let address = text.and_then(parse_address);
        Client { address, submission: is_submission(connect, address), ..Client::default() }
    }
}

impl Message {
    /// The macros of a MAIL command. It need not follow itself (`SMFIP_NOMAIL`).
    fn announce(&mut self, macros: Macros<'_>) {
        self.forget();
        self.announced = true;
        self.authenticated = is_authenticated(macros);
        self.set_sender(macros.get("mail_addr"));
    }

    fn begin(&mut self, sender: &[u8]) {
        if !self.announced {
            self.forget();
        }
        self.announced = false;
        self.set_sender(Some(sender));
    }

    fn set_sender(&mut self, sender: Option<&[u8]>) {
        self.has_sender = sender.is_some();
        replace(&mut self.sender, sender.unwrap_or_default());
    }

    fn forget(&mut self) {
        self.announced = false;
        self.authenticated = false;
        self.set_sender(None);
        forget(&mut self.recipient);
    }
}

/// The recipient that the mail server resolved. The argument of RCPT is what the client wrote: Postfix routes
/// `<user%other.example@test.example>` and `<user@other.example@test.example>` to another domain than they seem to have.
/// With the mailer `error` the macros hold a code and a text instead.
///
/// What Postfix need not route is taken as the client wrote it where resolving changes its meaning: `<postmaster>` gets
/// the domain of this host, which is local by any name; and a domain in UTF-8 goes through Unicode case folding, which
/// makes another domain of some (`straße` becomes `strasse`).
fn resolved<'a>(macros: Macros<'a>, argument: &[u8]) -> Option<&'a [u8]> {
    let written = Mailbox::parse(argument);
    let plain = written.literal.is_none() && written.domain.is_none_or(|domain| !domain.is_ascii());
    if plain && !written.is_routed() {
        return None;
    }
    let mailer = macros.get("rcpt_mailer")?;
    let address = macros.get("rcpt_addr")?;
    let Mailbox { domain, literal, .. } = Mailbox::parse(address);
    let usable = !mailer.is_empty() && mailer != b"error" && (domain.is_some() || literal.is_some());
    usable.then_some(address)
}

fn is_authenticated(macros: Macros<'_>) -> bool {
    macros.get("auth_authen").is_some_and(|login| !login.is_empty())
}

/// Mail that a user of this host hands to the sendmail command reaches the milters of `non_smtpd_milters` as a client
/// that cannot be: port 0 of the loopback address. Nobody is there to read a refusal, and Postfix would try the
/// message again for ever.
fn is_submission(connect: &Connect<'_>, address: Option<IpAddr>) -> bool {
    connect.host == b"localhost" && connect.family == b'4' && connect.port == 0 && address == Some(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

fn replace(buffer: &mut Vec<u8>, with: &[u8]) {
    forget(buffer);
    buffer.extend_from_slice(with);
}

fn forget(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.shrink_to(KEPT);
}
