//! Where log lines go: a log that nobody reads keeps no client waiting, and what is lost is counted; the local syslog daemon.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what goes wrong here ends the test, with a message")]

use asking::{PROGRAM, Server, Session};
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use support::daemon::Daemon;
use support::monitoring;
use support::{PATIENCE, available, wait_for};
use tempfile::TempDir;

#[path = "support/asking.rs"]
mod asking;
mod support;

const POLICY: &str = "hostname = \"mx.example.org\"\n[[list]]\nname = \"local\"\nentries = [\"192.0.2.0/24 sent spam\"]\n";

/// The files of a daemon.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        fs::write(place.path("mxgate.toml"), POLICY).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Starts a daemon there whose standard error is the file `log`.
    fn start(&self, more: &[&str]) -> Daemon {
        let unix = |name: &str| format!("unix:{}", self.path(name).display());
        let (config, milter, metrics) = (self.path("mxgate.toml").display().to_string(), unix("milter.sock"), unix("metrics.sock"));
        // Five hours ahead of UTC.
        let arguments = ["TZ=<+05>-5", PROGRAM, "serve", "--config", &config, "--listen", &milter, "--metrics", &metrics, "--drain", "0"];
        let daemon = Daemon::start(Path::new("/usr/bin/env"), arguments.iter().chain(more), &self.path("log"));
        wait_for("the daemon listens", || UnixStream::connect(self.path("metrics.sock")).ok());
        daemon
    }

    fn connect(&self) -> Session {
        Session::begin(&self.path("milter.sock"), "192.0.2.7")
    }

    /// How many log lines the metrics say are lost.
    fn lost(&self) -> u64 {
        let text = monitoring::read(&self.path("metrics.sock"), "/metrics");
        text.lines().find_map(|line| line.strip_prefix("mxgate_log_lines_lost_total ")).unwrap().parse().unwrap()
    }
}

/// A daemon whose log is a pipe, and the end of it for reading; none where there are no pipes with names.
fn logging_into_a_pipe() -> Option<(Place, Daemon, File)> {
    if !available(&["mkfifo"]) {
        return None;
    }
    let place = Place::new();
    assert!(Command::new("mkfifo").arg(place.path("log")).status().unwrap().success());
    // Open for writing too, so that this does not wait for the daemon.
    let pipe = OpenOptions::new().read(true).write(true).open(place.path("log")).unwrap();
    let daemon = place.start(&["--log-lines", "1000000"]);
    Some((place, daemon, pipe))
}

fn refuse(session: &mut Session, number: usize) {
    for _ in 0..number {
        assert!(session.rcpt(b"<user@example.org>").starts_with("550 "));
    }
}

fn ended(daemon: &Daemon) -> Duration {
    let stopping = Instant::now();
    daemon.signal("TERM");
    wait_for("the daemon ends", || (!daemon.running()).then_some(()));
    stopping.elapsed()
}

#[test]
fn a_log_that_nobody_reads_keeps_no_client_waiting() {
    let Some((place, daemon, pipe)) = logging_into_a_pipe() else { return };
    let mut session = place.connect();
    let number = 20_000;
    refuse(&mut session, number);
    let lost = place.lost();
    assert!(lost > 1000, "{lost}");

    // Told and lost ones are all of them, and what is lost is told where it is missing.
    let mut lines = BufReader::new(pipe).lines().map(Result::unwrap);
    let (mut told, mut missing) = (0, 0);
    while told + missing < number {
        let line = lines.next().unwrap();
        if let Some((number, rest)) = line.strip_prefix("warn: ").and_then(|line| line.split_once(' ')) {
            assert_eq!(rest, "log lines were lost: the log was read more slowly than it was written");
            missing += number.parse::<usize>().unwrap();
        } else if line.starts_with("NOQUEUE: ") {
            assert_eq!(missing, 0, "in order");
            told += 1;
        }
    }
    assert_eq!((told + missing, missing as u64), (number, lost));
    refuse(&mut session, 1);
    assert!(lines.next().unwrap().starts_with("NOQUEUE: "), "the log goes on");

    // The end does not wait for long either.
    refuse(&mut session, 2000);
    let took = ended(&daemon);
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn what_waits_at_the_end_is_written() {
    let Some((place, daemon, pipe)) = logging_into_a_pipe() else { return };
    refuse(&mut place.connect(), 2000);
    daemon.signal("TERM");
    let lines = BufReader::new(pipe).lines().map(Result::unwrap).take_while(|line| !line.starts_with("info: stopping"));
    assert_eq!(lines.filter(|line| line.starts_with("NOQUEUE: ")).count(), 2000);
    wait_for("the daemon ends", || (!daemon.running()).then_some(()));
}

#[test]
fn syslog_has_lines_as_mail_servers_write_them() {
    let place = Place::new();
    let listen = || {
        let socket = UnixDatagram::bind(place.path("syslog")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    };
    let received = |socket: &UnixDatagram| {
        let mut message = [0; 10_000];
        let length = socket.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    };
    let socket = listen();
    let to = format!("syslog:{}", place.path("syslog").display());
    let daemon = place.start(&["--log-to", &to]);
    let tag = format!(" mxgate[{}]: ", daemon.pid());
    let next = |socket: &UnixDatagram, text: &str| loop {
        let message = received(socket);
        if message.contains(text) {
            return message;
        }
    };
    assert!(next(&socket, "rules of load 1").starts_with("<22>"));
    let mut session = place.connect();
    refuse(&mut session, 1);
    let refusal = next(&socket, "NOQUEUE");
    let (head, text) = refusal.split_once(&tag).unwrap();
    let text = text.split_once(" generation=").unwrap().0;
    assert_eq!(
        text,
        "NOQUEUE: reject: RCPT from unknown[192.0.2.7]: 550 5.7.1 Service unavailable; Client host [192.0.2.7] blocked using local; \
         sent spam; to=<user@example.org> list=local entry=192.0.2.0/24 line=4"
    );
    // The time is that of the host.
    let time = head.strip_prefix("<22>").unwrap();
    let now = || (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(5)).strftime("%b %e %H:%M:").to_string();
    assert!(time.len() == 15 && (time.starts_with(&now()) || now().ends_with(":00:")), "{time} {}", now());
    fs::write(place.path("mxgate.toml"), "hostname = 3\n").unwrap();
    daemon.signal("HUP");
    let error = next(&socket, "the policy was not loaded");
    assert!(error.starts_with("<19>") && error.contains(&format!("{tag}error: the policy was not loaded; ")), "{error}");

    // The daemon of syslog is started again, and meanwhile not there.
    drop(socket);
    fs::remove_file(place.path("syslog")).unwrap();
    refuse(&mut session, 3);
    let log = || fs::read_to_string(place.path("log")).unwrap();
    wait_for("it is told", || log().contains("cannot reach the syslog daemon at ").then_some(()));
    refuse(&mut session, 2);
    let socket = listen();
    let refusals: Vec<String> = (0..5).map(|_| next(&socket, "NOQUEUE")).collect();
    assert_eq!(log().matches("cannot reach").count(), 1, "{}", log());
    assert!(log().contains("; start it, or name its socket with --log-to syslog:/path; log lines wait for it\n"), "{}", log());

    // As the daemon of syslog writes them, with the name of the host.
    if available(&["fail2ban-regex"]) {
        let lines: String =
            refusals.iter().map(|line| format!("{}\n", line.replacen(&tag, &format!(" mx{tag}"), 1).split_off(4))).collect();
        fs::write(place.path("mail.log"), &lines).unwrap();
        let found =
            Command::new("fail2ban-regex").args(["--out", "ip"]).arg(place.path("mail.log")).arg("postfix[_daemon=mxgate]").output();
        assert_eq!(String::from_utf8(found.unwrap().stdout).unwrap(), "192.0.2.7\n".repeat(5), "{lines}");
    }
    let took = ended(&daemon);
    assert!(took < Duration::from_secs(10), "{took:?}");
    next(&socket, "info: stopping; ");
}

#[test]
fn maintenance_is_told_when_it_begins_and_when_it_is_over() {
    let server = Server::start(POLICY, &[]);
    let load = |before: &str, after: &str| {
        fs::write(server.path("mxgate.toml"), format!("{before}{POLICY}{after}")).unwrap();
        let loaded = server.ask(&["reload"]);
        assert!(loaded.status.success(), "{loaded:?}");
    };
    // Besides what loads say of the section.
    let is_told = |line: &&str| line.starts_with("info: maintenance ") && *line != "info: maintenance changed";
    let told = || server.log().lines().filter(is_told).map(str::to_owned).collect::<Vec<_>>();
    let wait = |number| wait_for("it is told", || Some(told()).filter(|lines| lines.len() >= number));
    let begin = jiff::Timestamp::now();
    let end = jiff::Timestamp::from_second(begin.as_second() + 5).unwrap();
    load("mode = \"maintenance\"\n", &format!("[maintenance]\nuntil = {end}\n"));
    assert_eq!(wait(1), [format!("info: maintenance until {end}: everybody is told so (421)")]);
    assert!(server.connect("203.0.113.7").rcpt(b"<user@example.org>").starts_with("421 "));
    assert_eq!(wait(2)[1], "info: maintenance is over");
    assert!(jiff::Timestamp::now() >= end);
    assert_eq!(server.connect("203.0.113.7").rcpt(b"<user@example.org>"), "");

    // Each time of the day is in a window, unless somebody sets the mode.
    load("", "[maintenance]\nwindows = [\"daily 00:00-12:00\", \"daily 12:00-24:00\"]\n");
    let line = wait(3)[2].clone();
    assert!(line.contains("T12:00:00Z: everybody") || line.contains("T00:00:00Z: everybody"), "{line}");
    assert!(server.ask(&["mode", "open"]).status.success());
    assert_eq!(wait(4)[3], "info: maintenance is over");
    assert_eq!(told().len(), 4);
}

#[test]
fn what_keeps_it_from_starting_is_told_on_standard_error_and_in_syslog() {
    let place = Place::new();
    fs::write(place.path("mxgate.toml"), "hostname = 3\n").unwrap();
    let socket = UnixDatagram::bind(place.path("syslog")).unwrap();
    let to = format!("syslog:{}", place.path("syslog").display());
    for (arguments, part) in [
        (&["--log-to", &to][..], "mxgate.toml:1:12: "),
        (&["--log-to", "syslog:/nonexistent/log"], "mxgate.toml:1:12: "),
        (&["--log-to", "udp:192.0.2.1:514"], "write stderr, syslog for the socket /dev/log, or syslog:/path for another one"),
    ] {
        let started = Instant::now();
        let mut serve = Command::new(PROGRAM);
        serve.arg("serve").args(arguments).arg("--config").arg(place.path("mxgate.toml"));
        let output = serve.arg("--listen").arg(format!("unix:{}", place.path("milter.sock").display())).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(part) && output.status.code() == Some(2), "{error}");
        assert!(started.elapsed() < Duration::from_secs(10));
    }
    socket.set_nonblocking(true).unwrap();
    let mut message = [0; 10_000];
    let length = socket.recv(&mut message).unwrap();
    let message = String::from_utf8_lossy(&message[..length]);
    assert!(message.starts_with("<19>") && message.contains("]: error: ") && message.contains("mxgate.toml:1:12: "), "{message}");
}
