//! `[overload]` with a real daemon: with too many connections whom no allow list has is turned away, and only then.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what goes wrong here ends the test, with a message")]

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;
use support::daemon::Daemon;
use support::session::rcpt;
use support::wait_for;
use tempfile::TempDir;

mod support;

const PROGRAM: &str = env!("CARGO_BIN_EXE_mxgate");
const POLICY: &str = r#"
hostname = "mx.example.org"
[overload]
connections = 4
after = "2s"
[[list]]
name = "partners"
allow = true
entries = ["203.0.113.7"]
[[list]]
name = "local"
entries = ["192.0.2.0/24"]
"#;
const OVERLOADED: &str = "421 4.3.2 mx.example.org Service not available, overloaded; try again in SOME seconds";

struct Server {
    directory: TempDir,
    daemon: Daemon,
}

impl Server {
    fn start(policy: &str) -> Server {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("mxgate.toml"), policy).unwrap();
        let shown = |name: &str| path(name).display().to_string();
        let listen = format!("unix:{}", shown("milter.sock"));
        let arguments = ["serve", "--config", &shown("mxgate.toml"), "--listen", &listen, "--control", &shown("control.sock")];
        let daemon = Daemon::start(Path::new(PROGRAM), arguments, &path("log"));
        let server = Server { directory, daemon };
        wait_for("the daemon listens", || server.log().contains("control socket at unix:").then_some(()));
        server
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// How many lines of the log have this text.
    fn lines(&self, text: &str) -> usize {
        self.log().lines().filter(|line| line.contains(text)).count()
    }

    fn ask(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(PROGRAM);
        let output = command.args(arguments).arg("--control").arg(self.path("control.sock")).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn connections(&self, count: usize) -> Vec<UnixStream> {
        (0..count).map(|_| UnixStream::connect(self.path("milter.sock")).unwrap()).collect()
    }

    /// What a client reads; the number of seconds, which differs from one to the next, as a word.
    fn rcpt(&self, address: &str) -> String {
        let reply = rcpt(&self.path("milter.sock"), address);
        let seconds = reply.strip_suffix(" seconds").and_then(|rest| rest.rsplit_once(' ')).map(|(_, number)| number);
        match seconds.map(|number| (number, number.parse())) {
            Some((number, Ok(60..=90))) => reply.replace(number, "SOME"),
            _ => reply,
        }
    }
}

#[test]
fn whom_no_allow_list_has_is_turned_away_until_it_is_over() {
    let server = Server::start(POLICY);
    let answers = || ["198.51.100.1", "192.0.2.7", "203.0.113.7", "127.0.0.1"].map(|address| server.rcpt(address));
    let blocked = "550 5.7.1 Service unavailable; client [192.0.2.7] blocked using local";
    let open = ["", blocked, "", ""];
    let held = server.connections(4);
    sleep(Duration::from_secs(3));
    assert_eq!(answers(), open, "as many as there may be");

    let more = server.connections(1);
    assert_eq!(answers(), open, "not at once");
    wait_for("it is overloaded", || (server.lines("warn: overloaded: 5 connections are open") == 1).then_some(()));
    // The log is written before the gate is told.
    wait_for("the mode", || (server.ask(&["mode"]) == "the mode is overloaded, by itself (that of the policy is open)\n").then_some(()));
    assert_eq!(answers(), [OVERLOADED, OVERLOADED, "", ""]);
    assert!(server.ask(&["status"]).contains("mode overloaded"));

    // A mode that is set by hand counts, until it is left to the policy again.
    server.ask(&["mode", "open"]);
    assert_eq!((answers(), server.ask(&["mode"])), (open.map(Into::into), "the mode is open\n".into()));
    server.ask(&["mode", "policy"]);
    assert_eq!(answers(), [OVERLOADED, OVERLOADED, "", ""]);

    // One less is not enough, two are.
    drop(more);
    sleep(Duration::from_secs(3));
    assert_eq!(answers(), [OVERLOADED, OVERLOADED, "", ""]);
    drop(held);
    wait_for("it is over", || (server.ask(&["mode"]) == "the mode is open\n").then_some(()));
    assert_eq!(answers(), open);
    wait_for("it is told", || (server.lines("info: no longer overloaded:") == 1).then_some(()));
    assert_eq!(server.lines("warn: overloaded:"), 1, "{}", server.log());
}

#[test]
fn it_is_over_when_the_policy_no_longer_asks_for_it() {
    let server = Server::start(POLICY);
    let held = server.connections(5);
    wait_for("it is overloaded", || (server.rcpt("198.51.100.1") == OVERLOADED).then_some(()));
    let without = POLICY.replace("[overload]\nconnections = 4\nafter = \"2s\"\n", "");
    assert!(!without.contains("overload"));
    fs::write(server.path("mxgate.toml"), without).unwrap();
    assert!(server.ask(&["reload"]).contains("overload changed"));
    wait_for("it is over", || server.rcpt("198.51.100.1").is_empty().then_some(()));
    drop(held);
}

/// A daemon that does not get its turn: it is stopped for most of the time.
#[test]
fn who_waits_too_long_is_told_to_come_later() {
    let server = Server::start(&POLICY.replace("connections = 4\nafter = \"2s\"", "latency_ms = 100\nafter = \"1s\""));
    assert_eq!(server.rcpt("198.51.100.1"), "");
    wait_for("it is overloaded", || {
        server.daemon.signal("STOP");
        sleep(Duration::from_millis(400));
        server.daemon.signal("CONT");
        sleep(Duration::from_millis(20));
        (server.lines("warn: overloaded: 0 connections are open, questions wait ") == 1).then_some(())
    });
    wait_for("it gets its turn", || {
        server.log().contains("info: no longer overloaded: 0 connections are open, questions wait ").then_some(())
    });
    wait_for("it is over", || (server.ask(&["mode"]) == "the mode is open\n").then_some(()));
    assert_eq!(server.rcpt("198.51.100.1"), "");
}
