//! The option negotiation, versions 2 to 6: `mxgate serve` beside a filter on libmilter with the same policy. A mail server
//! that offers the same to both agrees on the same version with both, is asked for nothing that it did not offer, and has its
//! recipients answered alike. And what `miltertest` finds.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what goes wrong here ends the test, with a message")]

use mxgate::milter::codec::{
    Command as Packet, Connect, Macros, Options, Packets, SMFIP_NOCONNECT, SMFIP_NOHELO, SMFIP_NOMAIL, SMFIP_NR_CONN, SMFIP_NR_MAIL,
    SMFIR_CONTINUE, SMFIR_REPLYCODE,
};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use support::example::Example;
use support::library;
use support::server::Server;

mod support;

const POLICY: &str = "hostname = \"mx.example.org\"\n[[list]]\nname = \"local\"\nentries = [\"192.0.2.0/24\"]\n";
/// SMFIP_NR_HELO, which neither of the two asks for.
const NR_HELO: u32 = 0x2000;

/// What mail servers of each version offer: actions, and what can be left out; and whether libmilter agrees, which insists on
/// leaving something out.
const OFFERS: [(u32, u32, u32, bool); 9] = [
    (2, 0x3f, 0x7f, true),
    (2, 0x3f, 0, false),
    (3, 0x3f, 0x17f, true),
    (4, 0x3f, 0x37f, true),
    (5, 0x3f, 0x37f, true),
    (6, 0x1ff, 0x1f_ffff, true),
    (6, 0x1ff, 0, false),
    (6, 0xff, 0x1f_ffff & !SMFIP_NR_CONN, true),
    (7, 0x1ff, 0x1f_ffff, true),
];

/// One connection to a filter.
struct Filter {
    stream: TcpStream,
    packets: Packets,
    heard: Vec<u8>,
}

impl Filter {
    fn connect(address: SocketAddr) -> Filter {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
        Filter { stream, packets: Packets::default(), heard: Vec::new() }
    }

    fn say(&mut self, packets: &[Packet<'_>]) {
        let mut out = Vec::new();
        packets.iter().for_each(|packet| packet.encode(&mut out));
        // It may have hung up already.
        let _ = self.stream.write_all(&out);
    }

    /// The next answer; `None` if it hangs up.
    fn answer(&mut self) -> Option<Vec<u8>> {
        loop {
            let (used, packet) = self.packets.next(&self.heard).unwrap();
            let packet = packet.map(<[u8]>::to_vec);
            self.heard.drain(..used);
            if packet.is_some() {
                return packet;
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(length @ 1..) => self.heard.extend_from_slice(&buffer[..length]),
                Ok(0) => return None,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no answer: {error}"),
            }
        }
    }

    /// The answer to an offer.
    fn negotiate(&mut self, version: u32, actions: u32, protocol: u32) -> Option<Options> {
        self.say(&[Packet::OptNeg(Options { version, actions, protocol })]);
        let answer = self.answer()?;
        match Packet::parse(&answer) {
            Ok(Packet::OptNeg(options)) => Some(options),
            other => panic!("{other:?} in the place of an agreement"),
        }
    }

    /// A client that is listed, and one that is not, each with one message: what their recipients are told.
    fn sessions(&mut self, agreed: Options) -> Vec<u8> {
        let wants = |bit: u32| agreed.protocol & bit == 0;
        let mut told = Vec::new();
        for client in ["192.0.2.7", "198.51.100.7"] {
            if wants(SMFIP_NOCONNECT) {
                self.say(&[
                    Packet::Macro(b'C', Macros(b"j\0mx.example.org\0")),
                    Packet::Connect(Connect { host: b"client.example", family: b'4', port: 4321, address: client.as_bytes() }),
                ]);
                self.expect_continue(wants(SMFIP_NR_CONN));
            }
            if wants(SMFIP_NOHELO) {
                self.say(&[Packet::Helo(b"client.example")]);
                self.expect_continue(wants(NR_HELO));
            }
            self.say(&[Packet::Macro(b'M', Macros(b"{mail_addr}\0sender@example.com\0"))]);
            if wants(SMFIP_NOMAIL) {
                self.say(&[Packet::Mail(b"<sender@example.com>")]);
                self.expect_continue(wants(SMFIP_NR_MAIL));
            }
            for recipient in [&b"<user@example.org>"[..], b"<postmaster@example.org>", b"<other@example.org>"] {
                self.say(&[Packet::Rcpt(recipient)]);
                told.push(self.answer().unwrap()[0]);
            }
            self.say(&[Packet::Abort]);
            if agreed.version < 6 {
                // A session for each client.
                break;
            }
            self.say(&[Packet::QuitNewConnection]);
        }
        self.say(&[Packet::Quit]);
        assert_eq!(self.answer(), None, "nobody hangs up after QUIT");
        told
    }

    fn expect_continue(&mut self, waits: bool) {
        if waits {
            assert_eq!(self.answer().unwrap(), [SMFIR_CONTINUE]);
        }
    }
}

/// The two programs, if there is a compiler and libmilter.
fn both() -> Option<(Server, Example, tempfile::TempDir)> {
    if !support::available(&["cc"]) || !support::header("libmilter/mfapi.h") {
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let program = library::compile("examples/milter.c", &["-lmilter", "-pthread"], directory.path());
    let theirs = Example::start(&program, POLICY, |port, policy| vec![format!("inet:{port}@127.0.0.1"), policy.into()]);
    Some((Server::start(Path::new(env!("CARGO_BIN_EXE_mxgate")), POLICY), theirs, directory))
}

fn address(server: &Server) -> SocketAddr {
    server.address().strip_prefix("inet:").unwrap().parse().unwrap()
}

#[test]
fn versions_two_to_six() {
    let Some((ours, theirs, _directory)) = both() else { return };
    for (version, actions, protocol, libmilter_agrees) in OFFERS {
        let offer = format!("version {version}, actions {actions:#x}, protocol {protocol:#x}");
        let clients = if version < 6 { 1 } else { 2 };
        let expected = [[SMFIR_REPLYCODE, SMFIR_CONTINUE, SMFIR_REPLYCODE], [SMFIR_CONTINUE; 3]][..clients].concat();
        for (which, address, agrees) in [("mxgate", address(&ours), true), ("libmilter", theirs.address(), libmilter_agrees)] {
            let mut filter = Filter::connect(address);
            let agreed = filter.negotiate(version, actions, protocol);
            assert_eq!(agreed.is_some(), agrees, "{which}, {offer}");
            let Some(agreed) = agreed else { continue };
            assert_eq!(agreed.version, version.min(6), "{which}, {offer}");
            assert_eq!((agreed.actions & !actions, agreed.protocol & !protocol), (0, 0), "{which}, {offer}: {agreed:?}");
            assert_eq!(filter.sessions(agreed), expected, "{which}, {offer}");
        }
    }
}

/// What is no offer ends the connection, without an answer. libmilter mostly does the same; but it waits behind an empty
/// packet, and answers an event to which it has not been invited.
#[test]
fn what_is_no_offer() {
    let Some((ours, theirs, _directory)) = both() else { return };
    // How many bytes libmilter has to say; `None` if it waits for more.
    let cases: [(&str, &[u8], Option<usize>); 6] = [
        ("version 1", b"\0\0\0\x0dO\0\0\0\x01\0\0\0\x3f\0\0\0\x7f", Some(0)),
        ("a short one", b"\0\0\0\x05O\0\0\0\x06", Some(0)),
        ("an empty packet", b"\0\0\0\0", None),
        ("no such packet", b"\0\0\0\x01!", Some(0)),
        ("an event", b"\0\0\0\x03Hx\0", Some(5)),
        ("4 GiB", b"\xff\xff\xff\xffO", Some(0)),
    ];
    for (name, bytes, libmilter) in cases {
        for (which, address, expected) in [("mxgate", address(&ours), Some(0)), ("libmilter", theirs.address(), libmilter)] {
            let mut filter = Filter::connect(address);
            filter.stream.write_all(bytes).unwrap();
            let wait = if expected.is_some() { support::PATIENCE } else { Duration::from_millis(300) };
            filter.stream.set_read_timeout(Some(wait)).unwrap();
            let said = match filter.stream.read(&mut [0; 16]) {
                Ok(length) => Some(length),
                Err(error) if error.kind() == ErrorKind::WouldBlock => None,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => Some(0),
                Err(error) => panic!("{which}, {name}: {error}"),
            };
            assert_eq!(said, expected, "{which}, {name}");
        }
    }
}

/// The script is tests/negotiation.lua.
#[test]
fn miltertest_finds_nothing_wrong() {
    if !support::available(&["miltertest"]) {
        return;
    }
    let server = Server::start(Path::new(env!("CARGO_BIN_EXE_mxgate")), POLICY);
    let output = Command::new("miltertest")
        .args(["-s", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/negotiation.lua"), "-D"])
        .arg(format!("socket=inet:{}@127.0.0.1", address(&server).port()))
        .output()
        .unwrap();
    assert!(output.status.success() && output.stdout.ends_with(b"as expected\n"), "{output:?}\n{}", server.log());
}
