//! A raw SMTP client that keeps a transcript: what a test asserts is what a client reads from a real server.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

/// No server may let us wait longer than this.
const TIMEOUT: Duration = Duration::from_secs(20);

/// How long [`Client::closed`] waits for the server to hang up.
const HANG_UP: Duration = Duration::from_secs(2);

/// One SMTP session.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    /// Received, but not yet part of a reply.
    received: Vec<u8>,
    /// The end of the stream was seen.
    ended: bool,
    transcript: String,
}

/// One reply of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The three digits; 0 if the last line did not begin with three digits.
    pub code: u16,
    /// The lines as received, with the code, without line ends.
    pub lines: Vec<String>,
    /// The octets as received, line ends included.
    pub raw: Vec<u8>,
}

impl Client {
    /// Connects from an address of this host, such as 127.0.0.2. (The standard library cannot choose the source
    /// address of a connection, hence the crate `socket2`.)
    pub fn connect(from: IpAddr, to: SocketAddr) -> io::Result<Client> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
        socket.connect_timeout(&to.into(), TIMEOUT)?;
        let stream = TcpStream::from(socket);
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(Client { stream, received: Vec::new(), ended: false, transcript: String::new() })
    }

    /// The first reply, which the server sends unasked.
    pub fn greeting(&mut self) -> Reply {
        self.read_reply()
    }

    /// Sends one command line and reads the reply to it.
    pub fn command(&mut self, line: &str) -> Reply {
        self.send_raw(format!("{line}\r\n").as_bytes());
        self.read_reply()
    }

    /// Sends DATA and a message, whose lines may end in LF or CRLF; dots are doubled here. The reply is the one to the
    /// message, or the one to DATA if the server does not want a message.
    pub fn data(&mut self, message: &str) -> Reply {
        let go_ahead = self.command("DATA");
        if go_ahead.code != 354 {
            return go_ahead;
        }
        let mut wire = String::new();
        for line in message.lines() {
            if line.starts_with('.') {
                wire.push('.');
            }
            wire.push_str(line);
            wire.push_str("\r\n");
        }
        wire.push_str(".\r\n");
        self.send_raw(wire.as_bytes());
        self.read_reply()
    }

    /// Presents another client address and name to a server that trusts us with Postfix's XCLIENT command. The reply is
    /// the new greeting, after which the session starts again with EHLO. Without a name: one that cannot be found.
    pub fn xclient(&mut self, address: IpAddr, name: Option<&str>) -> Reply {
        let prefix = if address.is_ipv6() { "IPV6:" } else { "" };
        let name = name.unwrap_or("[UNAVAILABLE]");
        self.command(&format!("XCLIENT ADDR={prefix}{address} NAME={name}"))
    }

    /// Presents another client address to a server that takes the PROXY protocol (version 2), before anything else. The
    /// greeting follows.
    pub fn proxy(&mut self, address: IpAddr) {
        let (family, addresses) = match address {
            IpAddr::V4(v4) => (0x11, [v4.octets(), [127, 0, 0, 1]].concat()),
            IpAddr::V6(v6) => (0x21, [v6.octets(), Ipv6Addr::LOCALHOST.octets()].concat()),
        };
        let ports = [40_000_u16.to_be_bytes(), 25_u16.to_be_bytes()].concat();
        let length = u16::try_from(addresses.len() + ports.len()).unwrap_or_default().to_be_bytes();
        let header = [b"\r\n\r\n\0\r\nQUIT\n\x21", &[family][..], &length, &addresses, &ports].concat();
        self.note("C: ", format!("PROXY {address}").as_bytes());
        let _ = self.stream.write_all(&header);
    }

    /// Sends octets as they are, for instance several commands in one segment. A failure shows at the next read: the
    /// server may have hung up, and its last replies may be waiting for us.
    pub fn send_raw(&mut self, octets: &[u8]) {
        for line in octets.split_inclusive(|&octet| octet == b'\n') {
            self.note("C: ", line);
        }
        let _ = self.stream.write_all(octets);
    }

    /// Reads one reply, with all its lines. Panics, with the transcript, if none comes.
    pub fn read_reply(&mut self) -> Reply {
        match self.try_read_reply() {
            Ok(reply) => reply,
            Err(error) => panic!("no reply: {error}\n{}", self.transcript),
        }
    }

    /// As [`Client::read_reply`], for a test in which no reply is a possible outcome. When the server hung up instead,
    /// the error is [`io::ErrorKind::UnexpectedEof`].
    pub fn try_read_reply(&mut self) -> io::Result<Reply> {
        let end = Instant::now() + TIMEOUT;
        let mut raw = Vec::new();
        let mut lines = Vec::new();
        loop {
            let line = self.read_line(end)?;
            raw.extend_from_slice(&line);
            lines.push(String::from_utf8_lossy(without_line_end(&line)).into_owned());
            let code = code(&line);
            if code == 0 || line.get(3) != Some(&b'-') {
                return Ok(Reply { code, lines, raw });
            }
        }
    }

    /// Did the server hang up after the last reply that was read? Waits up to two seconds for it. False if anything
    /// else came first.
    pub fn closed(&mut self) -> bool {
        let end = Instant::now() + HANG_UP;
        while self.received.is_empty() && !self.ended {
            if self.fill(end).is_err() {
                return false;
            }
        }
        self.received.is_empty()
    }

    /// What arrives within this time and belongs to no reply read so far; empty for a server in step with us. (An extra
    /// line would be taken for the reply to the next command.)
    pub fn stray(&mut self, wait: Duration) -> Vec<u8> {
        let end = Instant::now() + wait;
        while !self.ended && self.fill(end).is_ok() {}
        self.received.clone()
    }

    /// The session so far: `S: ` lines from the server, `C: ` lines from us, and `*** server closed the connection`.
    /// Octets other than printable ASCII are shown as escapes.
    pub fn transcript(&self) -> &str {
        &self.transcript
    }

    /// Takes one line, with its line end; at the end of the stream also a line that lacks it.
    fn read_line(&mut self, end: Instant) -> io::Result<Vec<u8>> {
        loop {
            let newline = self.received.iter().position(|&octet| octet == b'\n');
            let length = match newline {
                Some(position) => position + 1,
                None if self.ended && !self.received.is_empty() => self.received.len(),
                None if self.ended => return Err(io::ErrorKind::UnexpectedEof.into()),
                None => {
                    self.fill(end)?;
                    continue;
                }
            };
            let line: Vec<u8> = self.received.drain(..length).collect();
            self.note("S: ", &line);
            if self.ended && self.received.is_empty() {
                self.note_end();
            }
            return Ok(line);
        }
    }

    /// Reads more octets, waiting until `end` at the latest.
    fn fill(&mut self, end: Instant) -> io::Result<()> {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.end(),
            Ok(length) => self.received.extend_from_slice(&buffer[..length]),
            // A server that hangs up with commands of ours unread resets the connection.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => self.end(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn end(&mut self) {
        self.ended = true;
        if self.received.is_empty() {
            self.note_end(); // else when the lines before it have been read
        }
    }

    fn note_end(&mut self) {
        self.transcript.push_str("*** server closed the connection\n");
    }

    fn note(&mut self, who: &str, line: &[u8]) {
        self.transcript.push_str(who);
        for &octet in without_line_end(line) {
            if octet == b' ' || octet.is_ascii_graphic() {
                self.transcript.push(char::from(octet));
            } else {
                self.transcript.push_str(&octet.escape_ascii().to_string());
            }
        }
        self.transcript.push('\n');
    }
}

impl Reply {
    /// The text after the code and the separator; several lines are joined by LF.
    pub fn text(&self) -> String {
        let texts: Vec<&str> = self.lines.iter().map(|line| line.get(4..).unwrap_or_default()).collect();
        texts.join("\n")
    }

    /// Is this one line that can do no harm to a client: three digits, a blank, a text of printable ASCII, CRLF, and no
    /// more than the 512 octets that RFC 5321 4.5.3.1.5 allows?
    pub fn is_one_harmless_line(&self) -> bool {
        let Some(line) = self.raw.strip_suffix(b"\r\n") else {
            return false;
        };
        self.raw.len() <= 512
            && self.code != 0
            && line.get(3) == Some(&b' ')
            && line.len() > 4
            && line.iter().all(|&octet| octet == b' ' || octet.is_ascii_graphic())
    }
}

/// The whole reply, with the code; several lines are joined by LF.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines.join("\n"))
    }
}

fn code(line: &[u8]) -> u16 {
    match line.get(..3) {
        Some(digits) if digits.iter().all(u8::is_ascii_digit) => digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0')),
        _ => 0,
    }
}

fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}
