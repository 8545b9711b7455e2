//! A daemon with a policy of its own, asked as a mail server asks it, for tests of what it tells about the answers.

#![allow(dead_code, reason = "each program that includes this module uses only a part of it")]
#![allow(unreachable_pub, reason = "the module is private to each program that includes it")]

use crate::support::daemon::Daemon;
use crate::support::{PATIENCE, wait_for};
use mxgate::milter::codec::{Command as Packet, Connect, Options};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// The command.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_mxgate");

/// The daemon. It has a milter socket and a control socket.
pub struct Server {
    directory: TempDir,
    /// The process.
    pub daemon: Daemon,
}

impl Server {
    /// Starts it with these arguments besides.
    pub fn start(policy: &str, more: &[&str]) -> Server {
        Server::start_by(PROGRAM, &[], policy, more)
    }

    /// Starts it through another program, which gets the daemon's command line after its own arguments.
    pub fn start_by(program: &str, before: &[&str], policy: &str, more: &[&str]) -> Server {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        fs::write(at("mxgate.toml"), policy).unwrap();
        let (config, milter, control) = (at("mxgate.toml"), format!("unix:{}", at("milter.sock")), at("control.sock"));
        let arguments = ["serve", "--config", &config, "--listen", &milter, "--control", &control];
        let daemon = Daemon::start(Path::new(program), before.iter().chain(&arguments).chain(more), Path::new(&at("log")));
        let server = Server { directory, daemon };
        server.wait_for_line("control socket at ");
        server
    }

    /// A file of this daemon.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// All that the daemon has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Waits until the log has a line with this text.
    pub fn wait_for_line(&self, text: &str) -> String {
        wait_for(&format!("a line with {text:?} in {}", self.path("log").display()), || {
            self.log().lines().find(|line| line.contains(text)).map(str::to_owned)
        })
    }

    /// Runs a subcommand that asks this daemon.
    pub fn ask(&self, arguments: &[&str]) -> Output {
        Command::new(PROGRAM).args(arguments).arg("--control").arg(self.path("control.sock")).output().unwrap()
    }

    /// A connection of a mail server whose client has this address.
    pub fn connect(&self, address: &str) -> Session {
        Session::begin(&self.path("milter.sock"), address)
    }
}

/// A connection of a mail server.
pub struct Session {
    stream: UnixStream,
}

impl Session {
    /// Connects to this socket for a client that has this address.
    pub fn begin(socket: &Path, address: &str) -> Session {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut session = Session { stream };
        let family = if address.contains(':') { b'6' } else { b'4' };
        session.send(&[
            Packet::OptNeg(Options { version: 6, actions: 0x1ff, protocol: 0x1f_ffff }),
            Packet::Connect(Connect { host: b"client.example", family, port: 4321, address: address.as_bytes() }),
        ]);
        assert_eq!(session.answer().0, 'O');
        session
    }

    fn send(&mut self, packets: &[Packet<'_>]) {
        let mut bytes = Vec::new();
        packets.iter().for_each(|packet| packet.encode(&mut bytes));
        self.stream.write_all(&bytes).unwrap();
    }

    fn answer(&mut self) -> (char, String) {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).unwrap();
        let mut packet = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
        self.stream.read_exact(&mut packet).unwrap();
        let text = packet[1..].strip_suffix(b"\0").unwrap_or(&packet[1..]);
        (char::from(packet[0]), String::from_utf8_lossy(text).into_owned())
    }

    /// What the client reads for a recipient; empty if it is let in.
    pub fn rcpt(&mut self, recipient: &[u8]) -> String {
        self.send(&[Packet::Rcpt(recipient)]);
        self.answer().1
    }
}
