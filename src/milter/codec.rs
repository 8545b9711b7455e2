//! Milter packets: bytes to values and back. Nothing is copied, nothing is trusted.
//!
//! A packet is a length (4 bytes, big-endian), a command byte, which the length counts, and a body. The names are
//! those of libmilter's `mfdef.h`.

use std::fmt;

/// Highest version of the protocol that is spoken here (Sendmail 8.14, Postfix 2.6).
pub const SMFI_VERSION: u32 = 6;
/// Lowest one: below it nothing is left that a mail server still sends.
pub const SMFI_VERSION_MIN: u32 = 2;
/// Longest packet that is taken, command byte included. Mail servers cut bodies and headers into pieces of 65535
/// bytes unless a milter asks for more (`SMFIP_MDS_256K`), which nothing here does.
pub const MAX_PACKET: usize = (64 << 10) + 1024;

/// Action: the milter sends lists of the macros that it wants (version 6).
pub const SMFIF_SETSYMLIST: u32 = 0x100;

/// The mail server does not send CONNECT (version 2).
pub const SMFIP_NOCONNECT: u32 = 0x1;
/// The mail server does not send HELO (version 2).
pub const SMFIP_NOHELO: u32 = 0x2;
/// The mail server does not send MAIL (version 2). Its macros come all the same.
pub const SMFIP_NOMAIL: u32 = 0x4;
/// The mail server does not send the body (version 2).
pub const SMFIP_NOBODY: u32 = 0x10;
/// The mail server does not send headers (version 2).
pub const SMFIP_NOHDRS: u32 = 0x20;
/// The mail server does not send the end of the headers (version 2).
pub const SMFIP_NOEOH: u32 = 0x40;
/// The mail server does not send unknown SMTP commands (version 3).
pub const SMFIP_NOUNKNOWN: u32 = 0x100;
/// The mail server does not send DATA (version 4).
pub const SMFIP_NODATA: u32 = 0x200;
/// The milter does not answer CONNECT (version 6). An answer all the same would be taken for that to the next event.
pub const SMFIP_NR_CONN: u32 = 0x1000;
/// The milter does not answer MAIL (version 6).
pub const SMFIP_NR_MAIL: u32 = 0x4000;

/// Stage number of CONNECT in a list of macros.
pub const SMFIM_CONNECT: u32 = 0;
/// Stage number of MAIL in a list of macros.
pub const SMFIM_ENVFROM: u32 = 2;
/// Stage number of RCPT in a list of macros.
pub const SMFIM_ENVRCPT: u32 = 3;

/// Answer: go on. The only one besides [`SMFIR_REPLYCODE`] that is ever given here. SMFIR_ACCEPT and SMFIR_SKIP at
/// RCPT would hide the recipients that follow.
pub const SMFIR_CONTINUE: u8 = b'c';
/// Answer: refuse with this reply.
pub const SMFIR_REPLYCODE: u8 = b'y';

/// Length of the length field.
const HEAD: usize = 4;

/// The peer does not speak the milter protocol, or not as it was agreed. The connection is of no further use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// A packet that is empty, or longer than [`MAX_PACKET`]: most likely not a milter client at all.
    Length(u32),
    /// An option negotiation (SMFIC_OPTNEG) of less than 12 bytes.
    ShortOffer(usize),
    /// A version of the protocol below [`SMFI_VERSION_MIN`].
    Version(u32),
    /// An event before the option negotiation.
    NotNegotiated,
    /// A second option negotiation.
    NegotiatedTwice,
    /// A command byte that the protocol does not have. Whether it waits for an answer cannot be known, and so the
    /// connection ends, as it does with libmilter.
    Unknown(u8),
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ProtocolError::Length(length) => write!(f, "a packet of {length} bytes: not a milter client?"),
            ProtocolError::ShortOffer(length) => write!(f, "an option negotiation of {length} bytes"),
            ProtocolError::Version(version) => write!(f, "version {version} of the milter protocol"),
            ProtocolError::NotNegotiated => f.write_str("an event before the option negotiation"),
            ProtocolError::NegotiatedTwice => f.write_str("a second option negotiation"),
            ProtocolError::Unknown(command) => write!(f, "unknown command '{}'", command.escape_ascii()),
        }
    }
}

impl std::error::Error for ProtocolError {}

/// Finds the packets in a stream of bytes that may be cut anywhere.
#[derive(Debug, Default)]
pub struct Packets {
    /// The beginning of a packet whose end has not come yet. Grows with what comes, not with what is announced.
    started: Vec<u8>,
    /// The packet in `started` was complete and has been given out.
    done: bool,
}

impl Packets {
    /// Capacity that is kept for the next packet cut in two. Only bodies are longer.
    const KEPT: usize = 4096;

    /// How much of the input was used up, and the next packet, command byte first; `None` if all of the input was
    /// used up and more is needed.
    ///
    /// # Errors
    /// [`ProtocolError::Length`], as soon as the length has been read.
    pub fn next<'a>(&'a mut self, input: &'a [u8]) -> Result<(usize, Option<&'a [u8]>), ProtocolError> {
        if self.done {
            self.done = false;
            self.started.clear();
            self.started.shrink_to(Packets::KEPT);
        }
        if self.started.is_empty() {
            if let Some(packet) = first(input)? {
                return Ok((HEAD + packet.len(), Some(packet)));
            }
            self.started.extend_from_slice(input);
            return Ok((input.len(), None));
        }
        let mut used = fill(&mut self.started, input, HEAD);
        if let Some(length) = length(&self.started)? {
            used += fill(&mut self.started, input.get(used..).unwrap_or_default(), HEAD + length);
        }
        let packet = first(&self.started)?;
        self.done = packet.is_some();
        Ok((used, packet))
    }

    /// Whether a packet has begun and not ended.
    pub fn is_amid(&self) -> bool {
        !self.done && !self.started.is_empty()
    }
}

/// Copies bytes until `to` has `length` of them; how many it were.
fn fill(to: &mut Vec<u8>, from: &[u8], length: usize) -> usize {
    let missing = length.saturating_sub(to.len()).min(from.len());
    to.extend_from_slice(from.get(..missing).unwrap_or_default());
    missing
}

/// The length of the packet that starts here, once all four bytes of it are there.
fn length(bytes: &[u8]) -> Result<Option<usize>, ProtocolError> {
    let Some(length) = bytes.first_chunk::<HEAD>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length);
    match usize::try_from(length) {
        Ok(usable @ 1..=MAX_PACKET) => Ok(Some(usable)),
        _ => Err(ProtocolError::Length(length)),
    }
}

/// The packet that starts here, if all of it is there.
fn first(bytes: &[u8]) -> Result<Option<&[u8]>, ProtocolError> {
    let Some(length) = length(bytes)? else { return Ok(None) };
    Ok(bytes.get(HEAD..HEAD + length))
}

/// What a mail server offers, and what it gets in return (SMFIC_OPTNEG, both ways).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Version of the protocol.
    pub version: u32,
    /// What the milter may do, `SMFIF_`.
    pub actions: u32,
    /// What is left out of the protocol, `SMFIP_`.
    pub protocol: u32,
}

impl Options {
    /// Reads the body of an SMFIC_OPTNEG. Newer mail servers may have something behind the 12 bytes.
    fn parse(body: &[u8]) -> Result<Options, ProtocolError> {
        let mut numbers = body.chunks_exact(4).map(|chunk| chunk.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)));
        match (numbers.next(), numbers.next(), numbers.next()) {
            (Some(version), Some(actions), Some(protocol)) => Ok(Options { version, actions, protocol }),
            _ => Err(ProtocolError::ShortOffer(body.len())),
        }
    }

    /// Appends an SMFIC_OPTNEG packet, with lists of macros (stage, names) behind it.
    pub fn encode(&self, macros: &[(u32, &str)], out: &mut Vec<u8>) {
        packet(out, b'O', |out| {
            for number in [self.version, self.actions, self.protocol] {
                out.extend_from_slice(&number.to_be_bytes());
            }
            for (stage, names) in macros {
                out.extend_from_slice(&stage.to_be_bytes());
                out.extend_from_slice(names.as_bytes());
                out.push(0);
            }
        });
    }
}

/// Where a client comes from (SMFIC_CONNECT). All of it is what the mail server was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connect<'a> {
    /// Name of the client according to DNS, or its address in brackets.
    pub host: &'a [u8],
    /// `4`, `6`, `L` (a socket in the file system), `U` (unknown); 0 if the packet ends before it.
    pub family: u8,
    /// Port of the client.
    pub port: u16,
    /// Address as text, `192.0.2.7`, `2001:db8::1` (Postfix), `IPv6:2001:DB8:0:0:0:0:0:1` (Sendmail), `unknown`.
    pub address: &'a [u8],
}

impl<'a> Connect<'a> {
    /// Never fails, because the mail server would then treat the client as its `default_action` says: what is
    /// missing stays empty.
    fn parse(body: &'a [u8]) -> Connect<'a> {
        let (host, rest) = until_nul(body);
        let Some((family, rest)) = rest.split_first() else { return Connect { host, ..Connect::default() } };
        let (port, rest) = rest.split_first_chunk().unwrap_or((&[0; 2], b""));
        Connect { host, family: *family, port: u16::from_be_bytes(*port), address: until_nul(rest).0 }
    }
}

/// Macros of one stage (the body of an SMFIC_MACRO behind its first byte): name, NUL, value, NUL, and so on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Macros<'a>(pub &'a [u8]);

impl<'a> Macros<'a> {
    /// The value of a macro whose name is given without braces. Of two with the same name the first counts, as in
    /// libmilter's `smfi_getsymval`. A name or value without its NUL is cut off and does not count.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        let mut fields = self.0.split(|byte| *byte == 0);
        // What stands behind the last NUL is nothing, or cut off.
        fields.next_back();
        while let (Some(key), Some(value)) = (fields.next(), fields.next()) {
            let key = key.strip_prefix(b"{").and_then(|inner| inner.strip_suffix(b"}")).unwrap_or(key);
            if key == name.as_bytes() {
                return Some(value);
            }
        }
        None
    }
}

/// A packet of the mail server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// `O`, SMFIC_OPTNEG: the offer.
    OptNeg(Options),
    /// `D`, SMFIC_MACRO: command byte of the stage, macros for it.
    Macro(u8, Macros<'a>),
    /// `C`, SMFIC_CONNECT: a client.
    Connect(Connect<'a>),
    /// `H`, SMFIC_HELO: what it calls itself.
    Helo(&'a [u8]),
    /// `M`, SMFIC_MAIL: the sender as the client wrote it, without parameters.
    Mail(&'a [u8]),
    /// `R`, SMFIC_RCPT: a recipient as the client wrote it, without parameters.
    Rcpt(&'a [u8]),
    /// `T`, SMFIC_DATA: DATA.
    Data,
    /// `U`, SMFIC_UNKNOWN: a command that the mail server does not know.
    Unknown(&'a [u8]),
    /// `L`, SMFIC_HEADER: a header field.
    Header(&'a [u8]),
    /// `N`, SMFIC_EOH: end of the headers.
    Eoh,
    /// `B`, SMFIC_BODY: a piece of the body.
    Body(&'a [u8]),
    /// `E`, SMFIC_BODYEOB: end of the message, perhaps with a last piece of it.
    Eom(&'a [u8]),
    /// `A`, SMFIC_ABORT: the message is over, or will not come.
    Abort,
    /// `Q`, SMFIC_QUIT: nothing follows.
    Quit,
    /// `K`, SMFIC_QUIT_NC: the client is gone, another one follows on this connection.
    QuitNewConnection,
}

impl<'a> Command<'a> {
    /// Reads a packet, command byte first.
    ///
    /// # Errors
    /// If the command byte is unknown, or the offer too short.
    pub fn parse(packet: &'a [u8]) -> Result<Command<'a>, ProtocolError> {
        let Some((command, body)) = packet.split_first() else { return Err(ProtocolError::Length(0)) };
        Ok(match command {
            b'O' => Command::OptNeg(Options::parse(body)?),
            b'D' => {
                let (stage, macros) = body.split_first().unwrap_or((&0, b""));
                Command::Macro(*stage, Macros(macros))
            }
            b'C' => Command::Connect(Connect::parse(body)),
            b'H' => Command::Helo(until_nul(body).0),
            b'M' => Command::Mail(until_nul(body).0),
            b'R' => Command::Rcpt(until_nul(body).0),
            b'T' => Command::Data,
            b'U' => Command::Unknown(until_nul(body).0),
            b'L' => Command::Header(body),
            b'N' => Command::Eoh,
            b'B' => Command::Body(body),
            b'E' => Command::Eom(body),
            b'A' => Command::Abort,
            b'Q' => Command::Quit,
            b'K' => Command::QuitNewConnection,
            unknown => return Err(ProtocolError::Unknown(*unknown)),
        })
    }

    /// Appends the packet as a mail server sends it: for tests and for load generators.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let text = |out: &mut Vec<u8>, text: &[u8]| {
            out.extend_from_slice(text);
            out.push(0);
        };
        match *self {
            Command::OptNeg(options) => options.encode(&[], out),
            Command::Macro(stage, Macros(macros)) => packet(out, b'D', |out| {
                out.push(stage);
                out.extend_from_slice(macros);
            }),
            Command::Connect(Connect { host, family, port, address }) => packet(out, b'C', |out| {
                text(out, host);
                if family != 0 {
                    out.push(family);
                }
                // Nothing follows a `U`, and a port goes with an address.
                if !matches!(family, 0 | b'U') {
                    out.extend_from_slice(&port.to_be_bytes());
                    text(out, address);
                }
            }),
            Command::Helo(name) => packet(out, b'H', |out| text(out, name)),
            Command::Mail(sender) => packet(out, b'M', |out| text(out, sender)),
            Command::Rcpt(recipient) => packet(out, b'R', |out| text(out, recipient)),
            Command::Data => packet(out, b'T', |_| ()),
            Command::Unknown(line) => packet(out, b'U', |out| text(out, line)),
            Command::Header(field) => packet(out, b'L', |out| out.extend_from_slice(field)),
            Command::Eoh => packet(out, b'N', |_| ()),
            Command::Body(piece) => packet(out, b'B', |out| out.extend_from_slice(piece)),
            Command::Eom(piece) => packet(out, b'E', |out| out.extend_from_slice(piece)),
            Command::Abort => packet(out, b'A', |_| ()),
            Command::Quit => packet(out, b'Q', |_| ()),
            Command::QuitNewConnection => packet(out, b'K', |_| ()),
        }
    }
}

/// Appends SMFIR_CONTINUE.
pub fn encode_continue(out: &mut Vec<u8>) {
    packet(out, SMFIR_CONTINUE, |_| ());
}

/// Appends SMFIR_REPLYCODE. `%` is doubled: Postfix drops a single one, Sendmail then replaces the whole reply. The
/// NUL at the end is needed: Postfix 3.7 shows its client what stands in memory behind a line without one.
pub fn encode_reply(line: &str, out: &mut Vec<u8>) {
    packet(out, SMFIR_REPLYCODE, |out| {
        for byte in line.bytes() {
            match byte {
                b'%' => out.extend_from_slice(b"%%"),
                // A reply never contains anything else. If it did, one line must still reach the client as one line.
                b' '..=b'~' => out.push(byte),
                _ => out.push(b'?'),
            }
        }
        out.push(0);
    });
}

/// Appends a packet, its length found when the body is written.
fn packet(out: &mut Vec<u8>, command: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD]);
    out.push(command);
    body(out);
    let length = u32::try_from(out.len().saturating_sub(start + HEAD)).unwrap_or(u32::MAX);
    if let Some(field) = out.get_mut(start..).and_then(|packet| packet.first_chunk_mut::<HEAD>()) {
        *field = length.to_be_bytes();
    }
}

/// The text before the first NUL, and what is behind it.
fn until_nul(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|byte| *byte == 0).and_then(|at| Some((bytes.get(..at)?, bytes.get(at + 1..)?))) {
        Some(parts) => parts,
        None => (bytes, b""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All packets of a stream that is fed in pieces of `size` bytes.
    fn packets(stream: &[u8], size: usize) -> Result<Vec<Vec<u8>>, ProtocolError> {
        let (mut reader, mut found) = (Packets::default(), Vec::new());
        for mut piece in stream.chunks(size) {
            while let (used, Some(packet)) = reader.next(piece)? {
                found.push(packet.to_vec());
                piece = &piece[used..];
            }
        }
        Ok(found)
    }

    #[test]
    fn a_bad_length_is_seen_as_soon_as_it_is_there() {
        let too_long = u32::try_from(MAX_PACKET).unwrap() + 1;
        for length in [0, too_long, 1 << 30, u32::MAX, u32::from_be_bytes(*b"GET "), u32::from_be_bytes([0x16, 3, 1, 0])] {
            for size in [1, 4] {
                assert_eq!(packets(&length.to_be_bytes(), size), Err(ProtocolError::Length(length)), "{length:#x}");
            }
        }
        let mut longest = (too_long - 1).to_be_bytes().to_vec();
        longest.resize(HEAD + MAX_PACKET, b'B');
        for size in [3, 4, 5, 1000, longest.len()] {
            assert_eq!(packets(&longest, size).unwrap(), [&longest[HEAD..]], "{size}");
        }
    }

    #[test]
    fn only_what_has_come_is_kept() {
        let mut reader = Packets::default();
        assert_eq!(reader.next(&[0, 1, 0, 0, b'B', 1, 2, 3]), Ok((8, None)));
        assert!(reader.is_amid() && reader.started.capacity() < 100);
        assert!(matches!(reader.next(&[0; 65536]), Ok((65532, Some(_)))));
        assert!(!reader.is_amid());
        assert!(matches!(reader.next(b""), Ok((0, None))));
        assert!(reader.started.capacity() <= Packets::KEPT);
    }

    #[test]
    fn replies_cannot_be_more_than_one_packet_and_one_line() {
        for (line, body) in [
            ("550 5.7.1 100% %s", "550 5.7.1 100%% %%s"),
            ("550 5.7.1 a\r\n250 ok\0", "550 5.7.1 a??250 ok?"),
            ("550 5.7.1 \u{fc}", "550 5.7.1 ??"),
        ] {
            let mut out = vec![1];
            encode_reply(line, &mut out);
            let found = packets(&out[1..], 7).unwrap();
            assert_eq!(found, [[b"y", body.as_bytes(), b"\0"].concat()], "{line}");
        }
    }

    #[test]
    fn connects_of_all_kinds_are_read() {
        let ip4 = |address| Connect { host: b"h", family: b'4', port: 0x0102, address };
        for (body, want) in [
            (&b"h\x004\x01\x02192.0.2.7\0"[..], ip4(b"192.0.2.7")),
            (b"h\x004\x01\x02192.0.2.7", ip4(b"192.0.2.7")),
            (b"h\x004\x01\x02192.0.2.7\0more", ip4(b"192.0.2.7")),
            (b"h\x004\x01\x02", ip4(b"")),
            (b"h\x004\x01", Connect { port: 0, ..ip4(b"") }),
            (b"h\0U", Connect { host: b"h", family: b'U', ..Connect::default() }),
            (b"h\0L\0\0/run/x\0", Connect { host: b"h", family: b'L', port: 0, address: b"/run/x" }),
            (b"h\0", Connect { host: b"h", ..Connect::default() }),
            (b"h", Connect { host: b"h", ..Connect::default() }),
            (b"", Connect::default()),
        ] {
            assert_eq!(Connect::parse(body), want, "{}", body.escape_ascii());
        }
    }

    #[test]
    fn macros_of_all_kinds_are_read() {
        for (macros, value) in [
            (&b"{a}\x001\0"[..], Some(&b"1"[..])),
            (b"a\x001\0", Some(b"1")),
            (b"i\0x\0{a}\0\0", Some(b"")),
            (b"{a}\x001\0{a}\x002\0", Some(b"1")),
            (b"x\0{a}\0{a}\x001\0", Some(b"1")),
            (b"{a}\x001", None),
            (b"{a}\0", None),
            (b"{a}", None),
            (b"", None),
            (b"\0\0\0", None),
        ] {
            assert_eq!(Macros(macros).get("a"), value, "{}", macros.escape_ascii());
        }
    }

    /// A text without NUL, or one with everything.
    fn bytes(nul: bool) -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(if nul { 0..=255u8 } else { 1..=255u8 }, 0..40)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(kind in 0..16, text in bytes(false), more in bytes(false), all in bytes(true), n in any::<[u32; 3]>(), size in 1..50usize) {
            let [version, actions, protocol] = n;
            let port = u16::try_from(version >> 16).unwrap();
            let command = match kind {
                0 => Command::OptNeg(Options { version, actions, protocol }),
                1 => Command::Macro(b'R', Macros(&all)),
                2 => Command::Connect(Connect { host: &text, family: b'4', port, address: &more }),
                3 => Command::Connect(Connect { host: &text, family: b'U', ..Connect::default() }),
                4 => Command::Helo(&text),
                5 => Command::Mail(&text),
                6 => Command::Rcpt(&text),
                7 => Command::Data,
                8 => Command::Unknown(&text),
                9 => Command::Header(&all),
                10 => Command::Eoh,
                11 => Command::Body(&all),
                12 => Command::Eom(&all),
                13 => Command::Abort,
                14 => Command::Quit,
                _ => Command::QuitNewConnection,
            };
            let mut stream = Vec::new();
            command.encode(&mut stream);
            command.encode(&mut stream);
            let found = packets(&stream, size).unwrap();
            prop_assert_eq!(found.len(), 2);
            prop_assert_eq!(Command::parse(&found[0]), Ok(command));
            prop_assert_eq!(Command::parse(&found[1]), Ok(command));
        }
    }
}
