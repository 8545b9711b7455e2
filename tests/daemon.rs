//! The daemon as a process: sockets, signals, the log, and mail servers that misbehave.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what goes wrong here ends the test, with a message")]

use mxgate::milter::codec::{Command as Packet, Connect, Macros, Options};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use support::daemon::Daemon;
use support::{PATIENCE, wait_for};
use tempfile::TempDir;

mod support;

const PROGRAM: &str = env!("CARGO_BIN_EXE_mxgate");
const POLICY: &str = "hostname = \"mx.example.org\"\n[[list]]\nname = \"local\"\nentries = [\"192.0.2.0/24\"]\n";
const BLOCKED: &str = "550 5.7.1 Service unavailable; client [192.0.2.7] blocked using local";

/// A daemon with a policy of its own, on a unix socket and on a free port.
struct Server {
    directory: TempDir,
    daemon: Daemon,
    port: u16,
}

impl Server {
    fn start(policy: &str) -> Server {
        Server::start_by(policy, PROGRAM, &[])
    }

    /// Starts it through another program, which gets the daemon's command line after its own arguments.
    fn start_by(policy: &str, program: &str, before: &[&str]) -> Server {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("mxgate.toml"), policy).unwrap();
        let unix = format!("unix:{}", at("milter.sock").display());
        let config = at("mxgate.toml").display().to_string();
        let mut arguments = before.to_vec();
        arguments.extend(["serve", "--config", &config, "--listen", &unix, "--listen", "inet:127.0.0.1:0"]);
        let daemon = Daemon::start(Path::new(program), arguments, &at("log"));
        let mut server = Server { directory, daemon, port: 0 };
        let line = server.wait_for_line("listening on inet:127.0.0.1:");
        server.port = line.rsplit_once(':').unwrap().1.parse().unwrap();
        server
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Waits until the log has a line with this text.
    fn wait_for_line(&self, text: &str) -> String {
        let find = || Some(self.log().lines().find(|line| line.contains(text))?.to_owned());
        let end = Instant::now() + PATIENCE;
        while find().is_none() && Instant::now() < end {
            sleep(Duration::from_millis(5));
        }
        find().unwrap_or_else(|| panic!("no line with {text:?} in the log:\n{}", self.log()))
    }

    fn reload(&self, policy: &str, line: &str) {
        fs::write(self.path("mxgate.toml"), policy).unwrap();
        self.daemon.signal("HUP");
        self.wait_for_line(line);
    }

    fn unix(&self) -> MailServer<UnixStream> {
        MailServer::on(UnixStream::connect(self.path("milter.sock")).unwrap())
    }

    fn tcp(&self) -> MailServer<TcpStream> {
        MailServer::on(TcpStream::connect(("127.0.0.1", self.port)).unwrap())
    }
}

/// A connection of a mail server.
struct MailServer<S> {
    stream: S,
}

trait Socket: Read + Write {
    fn set_timeout(&self, timeout: Duration);
}

impl Socket for UnixStream {
    fn set_timeout(&self, timeout: Duration) {
        self.set_read_timeout(Some(timeout)).unwrap();
    }
}

impl Socket for TcpStream {
    fn set_timeout(&self, timeout: Duration) {
        self.set_read_timeout(Some(timeout)).unwrap();
    }
}

fn bytes(packets: &[Packet<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    packets.iter().for_each(|packet| packet.encode(&mut bytes));
    bytes
}

fn offer() -> Packet<'static> {
    Packet::OptNeg(Options { version: 6, actions: 0x1ff, protocol: 0x1f_ffff })
}

fn client(address: &str) -> Packet<'_> {
    Packet::Connect(Connect { host: b"client.example", family: b'4', port: 4321, address: address.as_bytes() })
}

impl<S: Socket> MailServer<S> {
    fn on(stream: S) -> MailServer<S> {
        stream.set_timeout(PATIENCE);
        MailServer { stream }
    }

    fn send(&mut self, packets: &[Packet<'_>]) {
        self.stream.write_all(&bytes(packets)).unwrap();
    }

    /// The next answer: its command byte, and its text without the NUL.
    fn answer(&mut self) -> (char, String) {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).unwrap();
        let mut packet = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
        self.stream.read_exact(&mut packet).unwrap();
        let text = packet[1..].strip_suffix(b"\0").unwrap_or(&packet[1..]);
        (char::from(packet[0]), String::from_utf8_lossy(text).into_owned())
    }

    /// Negotiates, and tells who the client is.
    fn begin(&mut self, address: &str) {
        self.send(&[offer(), client(address)]);
        assert_eq!(self.answer().0, 'O');
    }

    /// The reply to a recipient; empty if it is accepted.
    fn rcpt(&mut self, recipient: &str) -> String {
        self.send(&[Packet::Rcpt(recipient.as_bytes())]);
        let (kind, text) = self.answer();
        assert!(matches!((kind, text.is_empty()), ('c', true) | ('y', false)), "{kind} {text}");
        text
    }

    /// Whether the daemon has closed the connection, without a word.
    fn closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0; 64]), Ok(0)) || self.stream.write_all(b"x").is_err()
    }
}

fn whole_conversation<S: Socket>(server: &Server, mut mta: MailServer<S>, sender: &str) {
    mta.send(&[offer()]);
    assert_eq!(mta.answer().0, 'O');
    let mail = format!("{{mail_addr}}\0{sender}\0");
    mta.send(&[Packet::Macro(b'C', Macros(b"j\0mx\0")), client("192.0.2.7"), Packet::Macro(b'M', Macros(mail.as_bytes()))]);
    assert_eq!(mta.rcpt("<user@example.org>"), BLOCKED);
    assert_eq!(mta.rcpt("<postmaster@example.org>"), "");
    mta.send(&[Packet::Abort, Packet::QuitNewConnection, client("198.51.100.1")]);
    assert_eq!(mta.rcpt("<user@example.org>"), "");
    mta.send(&[Packet::Eom(b""), Packet::Abort, Packet::Abort, Packet::Quit]);
    assert_eq!(mta.answer(), ('c', String::new()));
    assert!(mta.closed());
    let line = server.wait_for_line(sender);
    let said = format!(
        "NOQUEUE: reject: RCPT from unknown[192.0.2.7]: 550 5.7.1 Service unavailable; Client host [192.0.2.7] blocked using local; \
         from=<{sender}> to=<user@example.org> list=local entry=192.0.2.0/24 line=4 generation=1 id="
    );
    assert!(line.strip_prefix(&said).is_some_and(|id| id.len() == 8), "{line}");
}

#[test]
fn conversations_over_both_kinds_of_socket() {
    let server = Server::start(POLICY);
    whole_conversation(&server, server.unix(), "unix@s.example");
    whole_conversation(&server, server.tcp(), "tcp@s.example");
    server.wait_for_line("rules of load 1 in force: 1 networks, 0 domain entries, 0 warnings");
}

#[test]
fn a_session_sees_the_rules_of_a_reload_and_keeps_the_old_ones_if_it_fails() {
    let server = Server::start(POLICY);
    let mut mta = server.unix();
    mta.begin("192.0.2.7");
    assert_eq!(mta.rcpt("<user@example.org>"), BLOCKED);
    let sections = "[relay]\ntrusted = [\"203.0.113.0/24\"]\n[authentication]\nspf_fail = \"reject\"\n";
    server.reload(&(POLICY.replace("192.0.2.0", "198.51.100.0") + sections), "rules of load 2 in force");
    for changed in ["list local: +1 -1 (", "relay trusted: +1 -0 (1 entry)", "authentication: added (spf_fail)"] {
        server.wait_for_line(&format!("info: {changed}"));
    }
    assert_eq!(mta.rcpt("<user@example.org>"), "");
    server.reload("hostname = 3\n[[list]]\nname = \"local\"\nentries = [\"10/8\"]\n", "the rules of load 2 stay in force");
    let (file, log) = (server.path("mxgate.toml").display().to_string(), server.log());
    for place in ["1:12: ", "4:13: "] {
        let line = log.lines().find(|line| line.starts_with(&format!("error: {file}:{place}")));
        assert!(line.is_some_and(|line| line.contains("; write ")), "{place} in {log}");
    }
    assert_eq!(mta.rcpt("<user@example.org>"), "");
    fs::remove_file(server.path("mxgate.toml")).unwrap();
    server.daemon.signal("HUP");
    server.wait_for_line("cannot read the policy");
    server.reload(POLICY, "rules of load 3 in force");
    assert_eq!(mta.rcpt("<user@example.org>"), BLOCKED);
}

/// The cleanup process of Postfix writes macros and end of message apart and does not turn off Nagle's algorithm: the second
/// packet leaves when the first has been acknowledged, and that the system delays by at least 40 ms if nobody answers.
#[test]
fn packets_without_an_answer_are_acknowledged_at_once() {
    let server = Server::start(POLICY);
    let mut mta = server.tcp();
    mta.begin("198.51.100.1");
    let quickest = (0..50).map(|_| {
        let begun = Instant::now();
        mta.send(&[Packet::Macro(b'R', Macros(b"{rcpt_addr}\0user@example.org\0"))]);
        assert_eq!(mta.rcpt("<user@example.org>"), "");
        begun.elapsed()
    });
    let quickest = quickest.min().unwrap();
    assert!(quickest < Duration::from_millis(40), "each packet waited for its acknowledgement, {quickest:?} at least");
}

#[test]
fn many_connections_at_once() {
    let server = Server::start(POLICY);
    let mut unix: Vec<_> = (0..150).map(|_| server.unix()).collect();
    let mut tcp: Vec<_> = (0..150).map(|_| server.tcp()).collect();
    for round in 0..3 {
        unix.iter_mut().for_each(|mta| if round == 0 { mta.begin("192.0.2.7") } else { mta.send(&[Packet::Rcpt(b"<u@example.org>")]) });
        tcp.iter_mut().for_each(|mta| if round == 0 { mta.begin("198.51.100.1") } else { mta.send(&[Packet::Rcpt(b"<u@example.org>")]) });
        if round > 0 {
            unix.iter_mut().for_each(|mta| assert_eq!(mta.answer(), ('y', BLOCKED.into())));
            tcp.iter_mut().for_each(|mta| assert_eq!(mta.answer(), ('c', String::new())));
        }
    }
}

#[test]
fn garbage_and_slow_clients_disturb_nobody() {
    let server = Server::start(POLICY);
    let mut good = server.unix();
    good.begin("192.0.2.7");
    for garbage in [
        &b"GET / HTTP/1.0\r\n\r\n"[..],
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        b"EHLO client.example\r\n",
        b"\0\0\0\0",
        b"\xff\xff\xff\xff",
        b"\0\0\0\x01Q",
        b"\0\0\0\x0dO\0\0\0\x01\0\0\0\0\0\0\0\0",
        &[bytes(&[offer(), offer()]), vec![0; 100_000]].concat(),
    ] {
        for mut mta in [server.tcp(), server.tcp()] {
            let _ = mta.stream.write_all(garbage);
            let mut rest = Vec::new();
            let read = mta.stream.read_to_end(&mut rest);
            // It may have closed before it had read all; then the rest of our bytes is answered by a reset.
            assert!(read.is_ok() || garbage.len() > 1000, "{read:?} {}", garbage.escape_ascii());
        }
    }
    for _ in 0..50 {
        drop((server.tcp(), server.unix()));
    }
    // A byte at a time, without waiting for anything.
    let mut slow = server.tcp();
    slow.stream.set_nodelay(true).unwrap();
    for byte in bytes(&[offer(), client("192.0.2.7"), Packet::Rcpt(b"<user@example.org>"), Packet::Rcpt(b"<abuse@example.org>")]) {
        slow.stream.write_all(&[byte]).unwrap();
        sleep(Duration::from_micros(200));
    }
    assert_eq!((slow.answer().0, slow.answer(), slow.answer().0), ('O', ('y', BLOCKED.into()), 'c'));
    // Half a packet, and then nothing.
    let half = bytes(&[offer(), Packet::Rcpt(b"<user@example.org>")]);
    let mut cut = server.tcp();
    cut.stream.write_all(&half[..half.len() - 1]).unwrap();
    drop(cut);
    assert_eq!(good.rcpt("<user@example.org>"), BLOCKED);
    let log = server.log();
    assert!(log.lines().all(|line| line.starts_with("info: ") || line.starts_with("NOQUEUE: reject: ")), "all that is no news: {log}");
}

#[test]
fn a_client_that_does_not_read_is_only_its_own_problem() {
    let server = Server::start(POLICY);
    let mut deaf = server.unix();
    deaf.begin("192.0.2.7");
    deaf.stream.set_nonblocking(true).unwrap();
    let flood = bytes(&[Packet::Rcpt(b"<user@example.org>"); 100]);
    let end = Instant::now() + PATIENCE;
    while deaf.stream.write(&flood).is_ok() {
        assert!(Instant::now() < end);
    }
    let mut other = server.unix();
    other.begin("192.0.2.7");
    assert_eq!(other.rcpt("<user@example.org>"), BLOCKED);
}

#[test]
fn running_out_of_file_descriptors_passes() {
    let server = Server::start_by(POLICY, "/bin/sh", &["-c", "ulimit -n 40; exec \"$@\"", "sh", PROGRAM]);
    let mut first = server.unix();
    first.begin("192.0.2.7");
    let crowd: Vec<_> = (0..60).map(|_| (server.tcp(), server.unix())).collect();
    server.wait_for_line("cannot accept connections, trying again");
    let before = processor_time(server.daemon.pid());
    sleep(Duration::from_millis(1000));
    let used = processor_time(server.daemon.pid()) - before;
    assert!(used < 30, "{used} hundredths of a second used in one second of waiting");
    assert_eq!(first.rcpt("<user@example.org>"), BLOCKED);
    drop(crowd);
    let mut next = server.tcp();
    next.begin("192.0.2.7");
    assert_eq!(next.rcpt("<user@example.org>"), BLOCKED);
    server.wait_for_line("accepting connections again");
    let complaints = server.log().matches("cannot accept").count();
    assert!(complaints <= 6, "{complaints} complaints");
}

/// Processor time of a process so far, in ticks of a hundredth of a second.
fn processor_time(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<u64> =
        stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(2).map(|field| field.parse().unwrap()).collect();
    fields.iter().sum()
}

/// A daemon whose end is watched. [`Daemon`] does not tell the exit status.
struct Watched(Child);

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn sigterm_lets_open_sessions_finish_and_removes_the_socket() {
    for signal in ["TERM", "INT"] {
        let directory = tempfile::tempdir().unwrap();
        let (socket, config) = (directory.path().join("milter.sock"), directory.path().join("mxgate.toml"));
        fs::write(&config, POLICY).unwrap();
        let mut command = Command::new(PROGRAM);
        command.arg("serve").arg("--config").arg(&config).arg("--listen").arg(format!("unix:{}", socket.display()));
        let mut daemon = Watched(command.stderr(Stdio::null()).spawn().unwrap());
        let mut mta = MailServer::on(wait_for("the daemon listens", || UnixStream::connect(&socket).ok()));
        mta.begin("192.0.2.7");
        let queued = UnixStream::connect(&socket).unwrap();
        let started = Instant::now();
        assert!(Command::new("kill").args(["-s", signal, &daemon.0.id().to_string()]).status().unwrap().success());
        wait_for("the socket is removed", || (!socket.exists()).then_some(()));
        assert_eq!(daemon.0.try_wait().unwrap(), None, "a session is open");
        assert_eq!(mta.rcpt("<user@example.org>"), BLOCKED);
        mta.send(&[Packet::Quit]);
        let mut queued = MailServer::on(queued);
        queued.begin("192.0.2.7");
        assert_eq!(queued.rcpt("<user@example.org>"), BLOCKED);
        drop((mta, queued));
        let status = wait_for("the daemon ends", || daemon.0.try_wait().unwrap());
        assert_eq!(status.code(), Some(0));
        assert!(started.elapsed() < Duration::from_millis(4500), "it did not wait longer than the sessions lasted");
    }
}

#[test]
fn sigterm_does_not_wait_for_ever() {
    let server = Server::start(POLICY);
    let mut mta = server.unix();
    mta.begin("192.0.2.7");
    server.daemon.signal("TERM");
    server.wait_for_line("stopping; 1 connections are open");
    let end = Instant::now() + PATIENCE;
    while server.daemon.running() {
        assert!(Instant::now() < end);
        sleep(Duration::from_millis(20));
    }
    assert!(mta.closed());
    assert!(!server.path("milter.sock").exists());
}

/// Runs a daemon that is not meant to start.
fn fails_to_start(arguments: &[&str]) -> Output {
    let mut child = Watched(Command::new(PROGRAM).arg("serve").args(arguments).stderr(Stdio::piped()).spawn().unwrap());
    let status = wait_for("the daemon gives up", || child.0.try_wait().unwrap());
    let mut stderr = Vec::new();
    child.0.stderr.take().unwrap().read_to_end(&mut stderr).unwrap();
    assert_eq!(status.code(), Some(2), "{}", String::from_utf8_lossy(&stderr));
    Output { status, stdout: Vec::new(), stderr }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_socket_left_behind_is_replaced_and_nothing_else() {
    let server = Server::start(POLICY);
    let mode = |name: &str| fs::metadata(server.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("milter.sock"), 0o660);
    let listen = |name: &str| format!("unix:{}", server.path(name).display());

    let live = text(&fails_to_start(&["--listen", &listen("milter.sock")]));
    assert!(live.contains("another daemon listens there; stop it or choose another path"), "{live}");
    assert_eq!(server.unix().stream.write(b"").unwrap(), 0, "the other daemon goes on");

    let file = text(&fails_to_start(&["--listen", &listen("mxgate.toml")]));
    assert!(file.contains("there is a file that is not a socket"), "{file}");
    assert_eq!(fs::read_to_string(server.path("mxgate.toml")).unwrap(), POLICY);

    let lost = text(&fails_to_start(&["--listen", &listen("free.sock"), "--listen", &listen("nowhere/milter.sock")]));
    assert!(lost.contains("; create its directory"), "{lost}");
    assert!(!server.path("free.sock").exists(), "what was opened before is removed");
    let long = text(&fails_to_start(&["--listen", &listen(&"x".repeat(120))]));
    assert!(long.contains("; choose a shorter path"), "{long}");

    drop(UnixListener::bind(server.path("stale.sock")).unwrap());
    assert!(fs::symlink_metadata(server.path("stale.sock")).unwrap().file_type().is_socket());
    let arguments = ["serve".into(), "--listen".into(), listen("stale.sock"), "--socket-mode".into(), "600".to_owned()];
    let second = Daemon::start(Path::new(PROGRAM), &arguments, &server.path("log of the second"));
    wait_for("the second one listens", || UnixStream::connect(server.path("stale.sock")).ok());
    assert_eq!(mode("stale.sock"), 0o600);
    drop(second);
    assert!(!server.path("stale.sock").exists());
}

#[test]
fn the_built_in_policy_and_what_to_write_into_main_cf() {
    let directory = tempfile::tempdir().unwrap();
    let (log, socket) = (directory.path().join("log"), directory.path().join("x.sock"));
    for (listen, shown) in [
        ("inet:0@127.0.0.1".to_owned(), "    smtpd_milters = inet:127.0.0.1:".to_owned()),
        ("inet:0@0.0.0.0".into(), "    smtpd_milters = inet:127.0.0.1:".into()),
        (format!("local:{}", socket.display()), format!("    smtpd_milters = unix:{}\n", socket.display())),
    ] {
        let _ = fs::remove_file(&log);
        let daemon = Daemon::start(Path::new(PROGRAM), ["serve", "--listen", &listen], &log);
        let said = wait_for("the daemon listens", || fs::read_to_string(&log).ok().filter(|log| log.contains("listening on ")));
        assert!(said.contains("the built-in example policy is in force"), "{said}");
        assert!(said.contains(&shown) && said.contains("\n    milter_default_action = accept\n"), "{said}");
        daemon.signal("HUP");
        wait_for("the signal is explained", || {
            fs::read_to_string(&log).ok().filter(|log| log.contains("start the daemon with --config FILE"))
        });
        assert!(daemon.running());
    }
}

#[test]
fn a_policy_with_mistakes_or_a_port_in_use_is_told_before_anything_starts() {
    let server = Server::start(POLICY);
    fs::write(server.path("bad.toml"), "hostname = 3\n[[list]]\nname = \"local\"\nentries = [\"10/8\"]\n").unwrap();
    let (bad, socket) = (server.path("bad.toml").display().to_string(), server.path("new.sock"));
    let said = text(&fails_to_start(&["--config", &bad, "--listen", &format!("unix:{}", socket.display())]));
    assert!(said.contains(&format!("{bad}:1:12: ")) && said.contains(&format!("{bad}:4:13: ")), "{said}");
    assert!(!socket.exists());
    let said = text(&fails_to_start(&["--listen", &format!("inet:127.0.0.1:{}", server.port)]));
    assert!(said.contains("is another daemon running? Stop it or choose another port"), "{said}");
    let said = text(&fails_to_start(&["--listen", "tcp:127.0.0.1:1"]));
    assert!(said.contains("write unix:/path, inet:host:port or inet:port@host"), "{said}");
}
