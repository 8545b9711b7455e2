//! `[escalation]` with a real daemon: who is refused again and again is banned, then its subnet; some never are.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what goes wrong here ends the test, with a message")]

use mxgate::milter::codec::{Command as Packet, Connect, Macros, Options};
use serde_json::Value;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::daemon::Daemon;
use support::session::rcpt;
use support::{PATIENCE, wait_for};
use tempfile::TempDir;

mod support;

const PROGRAM: &str = env!("CARGO_BIN_EXE_mxgate");
const POLICY: &str = r#"
hostname = "mx.example.org"
[bans]
reply = "550 5.7.1 banned: {reason}"
[escalation]
refusals = "3/h"
ban = "1h"
subnet = { clients = 2 }
[[list]]
name = "partners"
allow = true
entries = ["203.0.113.7"]
[[domains]]
name = "parked"
entries = ["example.org"]
kind = "no-mail"
"#;
const NO_MAIL: &str = "521 5.3.2";
const BANNED: &str = "550 5.7.1 banned: refused more often than 3/h";

struct Server {
    directory: TempDir,
    daemon: Option<Daemon>,
}

impl Server {
    fn start(policy: &str) -> Server {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("mxgate.toml"), policy).unwrap();
        let mut server = Server { directory, daemon: None };
        server.restart();
        server
    }

    /// Ends the daemon if there is one, and starts another.
    fn restart(&mut self) {
        drop(self.daemon.take());
        let _ = fs::remove_file(self.path("log"));
        let shown = |name: &str| self.path(name).display().to_string();
        let listen = format!("unix:{}", shown("milter.sock"));
        let config = shown("mxgate.toml");
        let arguments =
            ["serve", "--config", &config, "--listen", &listen, "--control", &shown("control.sock"), "--state", &shown("state")];
        self.daemon = Some(Daemon::start(Path::new(PROGRAM), arguments, &self.path("log")));
        wait_for("the daemon listens", || self.log().contains("control socket at unix:").then_some(()));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn ask(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(PROGRAM);
        let output = command.arg(arguments[0]).arg("--control").arg(self.path("control.sock")).args(&arguments[1..]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The networks that are banned.
    fn bans(&self) -> Vec<String> {
        let bans: Vec<Value> = serde_json::from_str(&self.ask(&["bans", "--json"])).unwrap();
        bans.iter().map(|ban| ban["network"].as_str().unwrap().to_owned()).collect()
    }

    fn wait_for_bans(&self, expected: &[&str]) {
        wait_for(&format!("bans of {expected:?}"), || (self.bans() == expected).then_some(()));
    }

    fn rcpt(&self, address: &str) -> String {
        rcpt(&self.path("milter.sock"), address)
    }

    /// As many refusals as the rate lets through, and one more, by the rules.
    fn offend(&self, address: &str) {
        for _ in 0..4 {
            let reply = self.rcpt(address);
            assert!(reply.starts_with(NO_MAIL), "{reply}");
        }
    }

    fn reload(&self, policy: &str) {
        fs::write(self.path("mxgate.toml"), policy).unwrap();
        self.ask(&["reload"]);
    }

    /// As many refusals in one session of a client that has authenticated.
    fn offend_authenticated(&self, address: &str) {
        let mut stream = UnixStream::connect(self.path("milter.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut packets = Vec::new();
        Packet::OptNeg(Options { version: 6, actions: 0x1ff, protocol: 0x1f_ffff }).encode(&mut packets);
        Packet::Connect(Connect { host: b"client.example", family: b'4', port: 4321, address: address.as_bytes() }).encode(&mut packets);
        for _ in 0..10 {
            Packet::Macro(b'R', Macros(b"{auth_authen}\0user\0")).encode(&mut packets);
            Packet::Rcpt(b"<user@example.org>").encode(&mut packets);
        }
        stream.write_all(&packets).unwrap();
        for number in 0..=10 {
            let mut length = [0; 4];
            stream.read_exact(&mut length).unwrap();
            let mut packet = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
            stream.read_exact(&mut packet).unwrap();
            assert_eq!(packet[0], if number == 0 { b'O' } else { b'y' }, "{}", packet.escape_ascii());
        }
    }
}

#[test]
fn who_is_refused_again_and_again_is_banned_then_its_subnet() {
    let mut server = Server::start(POLICY);
    for _ in 0..3 {
        assert!(server.rcpt("192.0.2.7").starts_with(NO_MAIL));
    }
    assert_eq!(server.bans(), [""; 0]);
    assert!(server.rcpt("192.0.2.7").starts_with(NO_MAIL));
    server.wait_for_bans(&["192.0.2.7/32"]);
    assert_eq!(server.rcpt("192.0.2.7"), BANNED);
    wait_for("a line", || server.log().contains("info: [escalation]: 192.0.2.7/32 is banned until 20").then_some(()));

    // Clients of IPv6 are told apart by their /64, as by [limits].
    for address in ["2001:db8:1::1", "2001:db8:1::2", "2001:db8:1::3", "2001:db8:1::4"] {
        assert!(server.rcpt(address).starts_with(NO_MAIL));
    }
    server.wait_for_bans(&["192.0.2.7/32", "2001:db8:1::/64"]);
    assert!(server.rcpt("2001:db8:1:1::1").starts_with(NO_MAIL));

    // What bans refuse does not count: the ban is not made again, and no subnet is banned for one client.
    for _ in 0..10 {
        assert_eq!(server.rcpt("192.0.2.7"), BANNED);
    }
    server.offend("192.0.2.9");
    server.wait_for_bans(&["192.0.2.0/24", "192.0.2.7/32", "192.0.2.9/32", "2001:db8:1::/64"]);
    let of_subnet = "550 5.7.1 banned: 2 of its clients were refused more often than 3/h";
    assert_eq!((server.rcpt("192.0.2.200"), server.rcpt("192.0.2.9")), (of_subnet.into(), BANNED.into()));
    // The line is written when the ban is on disk.
    wait_for("a line each", || (server.log().matches("[escalation]").count() == 4).then_some(()));

    server.restart();
    assert_eq!((server.rcpt("192.0.2.200"), server.rcpt("2001:db8:1::5")), (of_subnet.into(), BANNED.into()));
    // What was banned once is banned again where it goes on.
    server.ask(&["unban", "192.0.2.0/24", "192.0.2.7"]);
    server.offend("192.0.2.7");
    server.wait_for_bans(&["192.0.2.0/24", "192.0.2.7/32", "192.0.2.9/32", "2001:db8:1::/64"]);
}

#[test]
fn some_are_never_banned() {
    let server = Server::start(POLICY);
    // The rules refuse all of them; a recipient that takes no mail takes none from anybody.
    server.offend("203.0.113.7");
    server.offend("10.0.0.1");
    server.offend_authenticated("192.0.2.7");
    // Nor does what everybody is told.
    server.ask(&["mode", "maintenance"]);
    for _ in 0..5 {
        assert!(server.rcpt("192.0.2.8").starts_with("421 "));
    }
    server.ask(&["mode", "open"]);
    // Nor what limits say, unless the policy says so.
    let limited = POLICY.replace("[escalation]", "[limits]\nconnections = \"1/h\"\nexempt = []\n[escalation]");
    server.reload(&limited);
    assert!(server.rcpt("198.51.100.1").starts_with(NO_MAIL));
    for _ in 0..5 {
        assert!(server.rcpt("198.51.100.1").starts_with("421 "));
    }
    // Bans are made in order: when this one is there, no other was made before.
    server.reload(&limited.replace("[escalation]", "[escalation]\nlimits = true"));
    assert!(server.rcpt("198.51.100.2").starts_with(NO_MAIL));
    for _ in 0..3 {
        assert!(server.rcpt("198.51.100.2").starts_with("421 "));
    }
    server.wait_for_bans(&["198.51.100.2/32"]);
    server.reload(POLICY);
    assert_eq!(server.rcpt("198.51.100.2"), BANNED);
}

#[test]
fn without_the_section_nobody_is_banned() {
    let server = Server::start(POLICY);
    let without = POLICY.replace("[escalation]\nrefusals = \"3/h\"\nban = \"1h\"\nsubnet = { clients = 2 }\n", "");
    assert!(!without.contains("escalation"));
    server.reload(&without);
    wait_for("it is told", || server.log().contains("escalation changed").then_some(()));
    for _ in 0..3 {
        server.offend("192.0.2.7");
    }
    server.reload(POLICY);
    server.offend("192.0.2.8");
    server.wait_for_bans(&["192.0.2.8/32"]);
}
