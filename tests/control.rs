//! The control socket of the daemon: `mxgate lists`, `explain` and `reload` with `--control`, who may ask, and clients that
//! misbehave.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what goes wrong here ends the test, with a message")]

use serde_json::{Value, json};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};
use support::daemon::Daemon;
use support::session::rcpt;
use support::shown::Shown;
use support::{PATIENCE, available, root, wait_for};
use tempfile::TempDir;

mod support;

const PROGRAM: &str = env!("CARGO_BIN_EXE_mxgate");
const POLICY: &str = "hostname = \"mx.example.org\"\n[[list]]\nname = \"local\"\nentries = [\"192.0.2.0/24 sent spam\"]\n";

/// A daemon with a policy of its own, a milter socket and a control socket.
struct Server {
    directory: TempDir,
    daemon: Daemon,
}

impl Server {
    fn start(policy: &str) -> Server {
        Server::start_by(policy, PROGRAM, &[], &[])
    }

    /// Starts it through another program, which gets the daemon's command line after its own arguments.
    fn start_by(policy: &str, program: &str, before: &[&str], more: &[&str]) -> Server {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("mxgate.toml"), policy).unwrap();
        let unix = |name: &str| format!("unix:{}", at(name).display());
        let (config, milter, control) = (at("mxgate.toml").display().to_string(), unix("milter.sock"), unix("control.sock"));
        let mut arguments = before.to_vec();
        arguments.extend(["serve", "--config", &config, "--listen", &milter, "--control", &control]);
        arguments.extend(more);
        let daemon = Daemon::start(Path::new(program), arguments, &at("log"));
        let server = Server { directory, daemon };
        server.wait_for_line("control socket at unix:");
        server
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn control(&self) -> String {
        self.path("control.sock").display().to_string()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn wait_for_line(&self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(line) = self.log().lines().find(|line| line.contains(text)) {
                return line.to_owned();
            }
            assert!(Instant::now() < end, "no line with {text:?} in the log:\n{}", self.log());
            sleep(Duration::from_millis(5));
        }
    }

    /// Runs a subcommand that asks this daemon.
    fn ask(&self, arguments: &[&str]) -> Shown {
        mxgate(&[&[arguments[0], "--control", &self.control()], &arguments[1..]].concat())
    }

    /// A client of the control socket without manners.
    fn connect(&self) -> Client {
        let stream = UnixStream::connect(self.path("control.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client { stream: BufReader::new(stream) }
    }

    fn policy(&self, text: &str) {
        fs::write(self.path("mxgate.toml"), text).unwrap();
    }

    /// What a client reads at RCPT; empty if it is let in.
    fn rcpt(&self, address: &str) -> String {
        rcpt(&self.path("milter.sock"), address)
    }
}

struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    /// The next answer; `None` if the daemon has closed the connection.
    fn answer(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            // With something of ours unread the end is a reset.
            Ok(0) => return None,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
            read => read.unwrap(),
        };
        assert!(line.ends_with('\n'), "{line}");
        Some(serde_json::from_str(&line).unwrap())
    }

    /// The error that ends the connection.
    fn turned_away(mut self) -> String {
        let answer = self.answer().unwrap();
        assert_eq!((&answer["ok"], self.answer()), (&json!(false), None), "{answer}");
        answer["error"].as_str().unwrap().to_owned()
    }

    fn ping(&mut self) {
        self.send("{\"command\":\"ping\"}\n");
        assert_eq!(self.answer().unwrap()["ok"], json!(true));
    }
}

fn mxgate(arguments: &[&str]) -> Shown {
    Command::new(PROGRAM).args(arguments).output().unwrap().into()
}

#[test]
fn hits_go_up_as_clients_are_refused() {
    let server = Server::start(POLICY);
    let row =
        |shown: &Shown| shown.out.lines().find(|line| line.starts_with("local ")).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    let file = server.path("mxgate.toml").display().to_string();
    let config = server.ask(&["lists"]);
    assert_eq!((row(&config), config.error.as_str(), config.status), (format!("local block list 1 - - 100% - 0 {file}"), "", Some(0)));
    for round in 1..=3 {
        assert!(server.rcpt("192.0.2.7").starts_with("550 5.7.1 "));
        assert_eq!(server.rcpt("198.51.100.7"), "");
        // A question is no hit.
        assert_eq!(server.ask(&["explain", "--ip", "192.0.2.7"]).status, Some(1));
        assert_eq!(row(&server.ask(&["lists"])), format!("local block list 1 - - 100% - {round} {file}"));
    }
    let (asked, read) = (server.ask(&["lists", "--json"]), mxgate(&["lists", "--config", &file, "--json"]));
    let mut told = asked.json();
    assert_eq!(told[2]["hits"], json!(3), "{asked:?}");
    // But for the hits it is what the file says.
    told.as_array_mut().unwrap().iter_mut().for_each(|row| row["hits"] = Value::Null);
    assert_eq!((told, asked.status), (read.json(), Some(0)));
    // A load does not forget them.
    assert_eq!(server.ask(&["reload"]).status, Some(0));
    assert_eq!(server.ask(&["lists", "--json"]).json()[2]["hits"], json!(3));
}

#[test]
fn explanations_are_those_of_the_file() {
    let server = Server::start(POLICY);
    let feed = server.path("feed.txt");
    fs::write(&feed, "192.0.2.0/24 SBL1\n192.0.2.0/28 SBL2\n!192.0.2.5\n198.51.100.0/24\n").unwrap();
    File::options().write(true).open(&feed).unwrap().set_modified(SystemTime::now() - Duration::from_secs(200_000)).unwrap();
    server.policy(
        "hostname = \"mx.example.org\"\nnever_block.networks = [\"198.51.100.7\"]\n\
         [[list]]\nname = \"partners\"\nallow = true\nentries = [\"192.0.2.128/25\"]\n\
         [[list]]\nname = \"feed\"\nfile = \"feed.txt\"\nttl = \"30d\"\n\
         [[senders]]\nname = \"sold\"\nentries = [\"sold.example\"]\n\
         [authentication]\nspf_fail = \"reject\"\ndkim_fail = \"reject\"\ndmarc_fail = \"reject\"\nrdns_fail = \"reject\"\n",
    );
    let loaded = server.ask(&["reload"]);
    assert_eq!(loaded.status, Some(0), "{loaded:?}");
    let config = server.path("mxgate.toml").display().to_string();
    for (question, status) in [
        (&["--ip", "192.0.2.7"][..], 1),
        (&["--ip", "192.0.2.5"], 0),
        (&["--ip", "192.0.2.200"], 0),
        (&["--ip", "198.51.100.7", "--from", "a@s.example", "--rcpt", "user@example.org"], 0),
        (&["--ip", "::ffff:192.0.2.7", "--rcpt", "<postmaster@example.org>"], 0),
        (&["--ip", "192.0.2.7", "--rcpt", "user@example.org", "--authenticated"], 0),
        (&["--ip", "2001:db8::1", "--rcpt", "user@example.org", "--from", "x@sold.example"], 1),
        (&["--ip", "2001:db8::1", "--rcpt", "user@example.org", "--spf", "fail", "--rdns", "none"], 1),
        (&["--ip", "2001:db8::1", "--rcpt", "user@example.org", "--dkim", "fail", "--dmarc", "permerror"], 1),
        (&["--ip", "2001:db8::1", "--rcpt", "user@example.org", "--dkim", "policy", "--dmarc", "fail"], 1),
        (&["--ip", "2001:db8::1", "--rcpt", "user@example.org", "--rdns", "fail"], 1),
        (&["--ip", "2001:db8::1", "--rcpt", "\u{202e}\"\\\n\u{fc}\"@example.org", "--spf", "pass"], 0),
    ] {
        for form in [&[][..], &["--json"]] {
            let asked = server.ask(&[&["explain"], question, form].concat());
            let read = mxgate(&[&["explain", "--config", &config], question, form].concat());
            assert_eq!(asked.status, Some(status), "{question:?}: {asked:?}");
            if form.is_empty() {
                assert!(asked.out.starts_with("verdict:  "), "{asked:?}");
                assert_eq!((&asked.out, asked.error.as_str(), asked.status), (&read.out, "", read.status), "{question:?}");
            } else {
                // A second may have passed, and the daemon has loaded once more.
                let settle = |mut value: Value| {
                    value["generation"] = Value::Null;
                    value["time"] = Value::Null;
                    serde_json::to_string_pretty(&value)
                        .unwrap()
                        .lines()
                        .filter(|line| !line.contains("\"age_seconds\""))
                        .collect::<String>()
                };
                assert_eq!(settle(asked.json()), settle(read.json()), "{question:?}");
            }
        }
    }
    // Not those of the file where it has been changed since.
    server.policy("hostname = 3\n");
    assert_eq!(server.ask(&["explain", "--ip", "192.0.2.7"]).status, Some(1));
}

#[test]
fn a_reload_tells_what_differs_and_a_broken_policy_changes_nothing() {
    let server = Server::start(POLICY);
    server.policy(&POLICY.replace("\"192.0.2.0/24 sent spam\"", "\"198.51.100.0/24\", \"203.0.113.7\""));
    let shown = server.ask(&["reload"]);
    let said = "rules of load 2 in force: 2 networks, 0 domain entries, 0 warnings\nlist local: +2 -1 (2 entries)\n";
    assert_eq!((shown.out.as_str(), shown.error.as_str(), shown.status), (said, "", Some(0)));
    assert!(server.rcpt("192.0.2.7").is_empty() && server.rcpt("198.51.100.7").starts_with("550 "));
    server.wait_for_line("info: list local: +2 -1 (2 entries)");
    server.wait_for_line("info: control: reload asked for by user ");

    let file = server.path("mxgate.toml").display().to_string();
    server.policy("hostname = 3\n[[list]]\nname = \"local\"\nentries = [\"10/8\"]\n");
    for form in [&["reload"][..], &["reload", "--json"]] {
        let refused = server.ask(form);
        let lines: Vec<&str> = refused.error.lines().collect();
        assert!(lines[0].starts_with(&format!("{file}:1:12: ")) && lines[0].contains("; write "), "{refused:?}");
        assert!(lines[1].starts_with(&format!("{file}:4:13: ")) && lines[1].contains("; write "), "{refused:?}");
        assert_eq!((lines.last(), lines.len()), (Some(&"the policy was not loaded; the rules of load 2 stay in force"), 3), "{refused:?}");
        assert_eq!((refused.out.as_str(), refused.status), ("", Some(2)));
    }
    assert!(server.rcpt("192.0.2.7").is_empty() && server.rcpt("198.51.100.7").starts_with("550 "), "the old rules stay");
    server.wait_for_line(&format!("error: {file}:1:12: "));

    // Allow entries that are covered now are named, and what is only a warning is one.
    server.policy(&format!("{POLICY}[[list]]\nname = \"friends\"\nallow = true\nentries = [\"192.0.2.9\"]\n"));
    let told = server.ask(&["reload", "--json"]);
    assert_eq!(told.json()["changes"], json!(["list friends: added (1 entry)", "list local: +1 -2 (1 entry)"]));
    assert_eq!(
        (&told.json()["covered"], told.status),
        (&json!("1 allow entry is now covered: 192.0.2.9 of friends by 192.0.2.0/24 of local"), Some(0))
    );
    assert!(!server.rcpt("192.0.2.7").is_empty());

    // The signal is still there.
    server.policy(POLICY);
    server.daemon.signal("HUP");
    server.wait_for_line("rules of load 4 in force");
    server.wait_for_line("info: list friends: removed (1 entry)");
}

/// A list in a named pipe holds up a load until somebody has written it.
#[test]
fn a_load_that_takes_its_time_keeps_nobody_waiting() {
    if !available(&["mkfifo"]) {
        return;
    }
    let server = Server::start(POLICY);
    assert!(Command::new("mkfifo").arg(server.path("slow.txt")).status().unwrap().success());
    server.policy(&format!("{POLICY}[[list]]\nname = \"slow\"\nfile = \"slow.txt\"\nformat = \"plain\"\n"));
    let mut first = server.connect();
    first.send("{\"command\":\"reload\"}\n{\"command\":\"ping\"}\n");
    server.wait_for_line("reload asked for by user ");
    assert!(server.rcpt("192.0.2.7").starts_with("550 "));
    assert_eq!(server.ask(&["lists", "--json"]).json()[2]["hits"], json!(1));
    assert_eq!(server.ask(&["explain", "--ip", "203.0.113.7"]).status, Some(0));
    first.stream.get_ref().set_nonblocking(true).unwrap();
    assert_eq!(first.stream.fill_buf().unwrap_err().kind(), ErrorKind::WouldBlock, "it waits for the list");
    first.stream.get_ref().set_nonblocking(false).unwrap();
    OpenOptions::new().write(true).open(server.path("slow.txt")).unwrap().write_all(b"203.0.113.0/24\n").unwrap();
    assert_eq!(first.answer().unwrap()["result"]["changes"], json!(["list slow: added (1 entry)"]));
    assert_eq!(first.answer().unwrap()["result"]["generation"], json!(2), "one after the other");
    assert!(server.rcpt("203.0.113.7").starts_with("550 "));
}

#[test]
fn the_permissions_are_those_asked_for_whatever_the_umask() {
    for (umask, more, expected) in [
        ("000", &[][..], 0o600),
        ("077", &["--control-mode", "660"], 0o660),
        ("000", &["--control-mode", "0640", "--socket-mode", "0666"], 0o640),
    ] {
        let server = Server::start_by(POLICY, "/bin/sh", &["-c", &format!("umask {umask}; exec \"$@\""), "sh", PROGRAM], more);
        assert_eq!(fs::metadata(server.path("control.sock")).unwrap().permissions().mode() & 0o777, expected);
        server.connect().ping();
    }
}

#[test]
fn who_asks_is_decided_by_the_permissions() {
    if !root() || !available(&["setpriv"]) {
        return;
    }
    // Where others can reach them: the program, and the directory of the socket.
    let place = tempfile::tempdir().unwrap();
    let program = place.path().join("mxgate");
    fs::copy(PROGRAM, &program).unwrap();
    let open = |path: &Path| fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    open(place.path());
    let by = |server: &Server, group: &str| -> Shown {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", &format!("--regid={group}"), "--clear-groups", "--"]).arg(&program);
        command.args(["reload", "--control", &server.control()]).current_dir("/").output().unwrap().into()
    };
    for (mode, strangers, group) in [("0600", false, false), ("0660", false, true), ("0666", true, true)] {
        let server = Server::start_by(POLICY, PROGRAM, &[], &["--control-mode", mode]);
        open(server.directory.path());
        for (regid, let_in) in [("65534", strangers), ("0", group)] {
            let shown = by(&server, regid);
            assert_eq!(shown.status, Some(if let_in { 0 } else { 2 }), "{mode} {regid}: {shown:?}");
            if let_in {
                server.wait_for_line("info: control: reload asked for by user 65534, process ");
            } else {
                let cause = format!("cannot reach the daemon at {}: Permission denied", server.control());
                assert!(shown.error.starts_with(&cause) && shown.error.contains("; ask as root or as the daemon's user"), "{shown:?}");
                assert!(!server.log().contains("asked for"), "{}", server.log());
            }
        }
        assert_eq!(server.ask(&["reload"]).status, Some(0), "root may");
    }
}

#[test]
fn garbage_ends_its_connection_and_nothing_else() {
    let server = Server::start(POLICY);
    let mut good = server.connect();
    good.ping();
    for (garbage, error) in [
        (&b"GET / HTTP/1.0\r\n\r\n"[..], "not a request: "),
        (b"\n", "not a request: "),
        (b"\xff\xfe\0\0\n", "not a request: "),
        (b"\0\0\0\x0dO\0\0\0\x06\0\0\x01\xff\0\x1f\xff\xff\n", "not a request: "),
        (b"{\"command\":\"shutdown\"}\n", "unknown variant `shutdown`, expected one of `ping`, "),
        (b"{\"command\":\"ping\"}{\"command\":\"ping\"}\n{\"command\":\"ping\"}\n", "trailing characters"),
    ] {
        let mut client = server.connect();
        client.send(garbage);
        let said = client.turned_away();
        assert!(said.contains(error) && said.ends_with("; write one such as {\"command\":\"ping\"}"), "{said}");
    }
    // Two megabytes without an end, and one with it. Not all of it will be read.
    for line in [vec![b'x'; 1 << 21], [&[b' '; 1 << 20][..], b"{\"command\":\"ping\"}\n"].concat()] {
        let mut client = server.connect();
        let _ = client.stream.get_mut().write_all(&line);
        assert_eq!(client.turned_away(), "the request is longer than 1048576 bytes; send less at once");
    }
    // The longest that may be.
    let mut longest = server.connect();
    longest.send([&[b' '; (1 << 20) - 18][..], b"{\"command\":\"ping\"}\n"].concat());
    assert_eq!(longest.answer().unwrap()["ok"], json!(true));
    longest.ping();
    // Half a line, and the end.
    let mut half = server.connect();
    half.send("{\"command\":\"reload\"}");
    half.stream.get_ref().shutdown(Shutdown::Write).unwrap();
    assert_eq!(half.turned_away(), "the request has no end; end it with a line feed");
    for _ in 0..50 {
        // There may be too many at once: then it is turned away before it has written anything.
        let _ = server.connect().stream.get_mut().write_all(b"{\"comm");
        drop(server.connect());
    }
    // A byte at a time.
    for byte in b"{\"command\":\"explain\",\"ip\":\"192.0.2.7\"}\n" {
        good.send([*byte]);
    }
    assert_eq!(good.answer().unwrap()["result"]["winner"]["list"], json!("local"));
    assert!(server.rcpt("192.0.2.7").starts_with("550 "));
    let log = server.log();
    assert!(log.contains("rules of load 1 ") && !log.contains("rules of load 2 ") && !log.contains("asked for"), "nothing was done: {log}");
    assert!(log.lines().all(|line| line.starts_with("info: ") || line.starts_with("NOQUEUE: reject: ")), "{log}");
}

#[test]
fn a_hundred_silent_connections_are_turned_away_in_time() {
    let server = Server::start(POLICY);
    let started = Instant::now();
    let mut crowd: Vec<Client> = (0..100).map(|_| server.connect()).collect();
    for (number, client) in crowd.drain(16..).enumerate() {
        assert_eq!(client.turned_away(), "16 connections are open already; try again in a moment", "{number}");
    }
    let refused = server.ask(&["lists"]);
    assert_eq!((refused.error.as_str(), refused.status), ("16 connections are open already; try again in a moment\n", Some(2)));
    // Half a line, a byte now and then, or nothing at all: no more time for that. One asks and reads no answers.
    crowd.iter_mut().take(8).for_each(|client| client.send("{\"command\""));
    let deaf = crowd.pop().unwrap();
    deaf.stream.get_ref().set_nonblocking(true).unwrap();
    wait_for("the daemon stops reading", || {
        sleep(Duration::from_millis(50));
        let flood = "{\"command\":\"lists\"}\n".repeat(1000);
        deaf.stream.get_ref().write(flood.as_bytes()).is_err().then_some(())
    });
    assert!(server.rcpt("192.0.2.7").starts_with("550 "));
    for mut client in crowd {
        let _ = client.stream.get_mut().write_all(b" ");
        assert_eq!(client.turned_away(), "no request came within 10 s; send a JSON object and a line feed");
    }
    assert!(started.elapsed() >= Duration::from_secs(10), "{:?}", started.elapsed());
    server.connect().ping();
    wait_for("the connection that reads nothing ends", || {
        let error = deaf.stream.get_ref().write(b"x").unwrap_err();
        (error.kind() == ErrorKind::BrokenPipe).then_some(())
    });
    let row = server.ask(&["lists", "--json"]).json()[2]["hits"].clone();
    assert_eq!(row, json!(1));
}

#[test]
fn a_socket_in_use_is_kept_and_a_stale_one_replaced() {
    let server = Server::start(POLICY);
    let control = format!("unix:{}", server.control());
    let fails = |arguments: &[&str]| {
        let shown = mxgate(&[&["serve"], arguments].concat());
        assert_eq!(shown.status, Some(2), "{shown:?}");
        shown.error
    };
    let milter = format!("unix:{}", server.path("second.sock").display());
    let said = fails(&["--listen", &milter, "--control", &control]);
    assert!(said.contains(&format!("cannot listen on {control}: another daemon listens there; stop it or choose another path")), "{said}");
    assert!(!server.path("second.sock").exists(), "what was opened before is removed");
    server.connect().ping();
    let said = fails(&["--listen", &milter, "--control", &milter]);
    assert!(said.contains("another daemon listens there"), "not both on one: {said}");
    let said = fails(&["--listen", &milter, "--control", &format!("unix:{}", server.path("mxgate.toml").display())]);
    assert!(said.contains("there is a file that is not a socket"), "{said}");
    assert_eq!(fs::read_to_string(server.path("mxgate.toml")).unwrap(), POLICY);
    for (arguments, remedy) in [
        (&["--control", "inet:8899@127.0.0.1"][..], "write unix:/path"),
        (&["--control-mode", "600"], "--control <PATH>"),
        (&["--control", "/x", "--control-mode", "rw"], "write three octal digits"),
    ] {
        let said = fails(arguments);
        assert!(said.contains(remedy), "{said}");
    }

    drop(UnixListener::bind(server.path("stale.sock")).unwrap());
    let stale = format!("unix:{}", server.path("stale.sock").display());
    let second = Daemon::start(Path::new(PROGRAM), ["serve", "--listen", &milter, "--control", &stale], &server.path("second log"));
    wait_for("the second one listens", || fs::read_to_string(server.path("second log")).ok()?.contains(&stale).then_some(()));
    let shown = mxgate(&["reload", "--control", &stale]);
    assert_eq!(
        (shown.error.as_str(), shown.status),
        ("there is no policy file to load again; start the daemon with --config FILE\n", Some(2))
    );
    second.signal("TERM");
    wait_for("it is gone", || (!second.running()).then_some(()));
    assert!(!server.path("stale.sock").exists() && server.path("control.sock").exists());
}

#[test]
fn without_a_daemon_the_commands_say_what_to_do() {
    let server = Server::start(POLICY);
    let nobody = server.path("nobody.sock").display().to_string();
    for (arguments, otherwise) in [
        (&["lists", "--control", &nobody][..], "use --config FILE"),
        (&["explain", "--control", &nobody, "--ip", "192.0.2.7"], "use --config FILE"),
        (&["reload", "--control", &nobody], "send it SIGHUP"),
    ] {
        let expected = format!(
            "cannot reach the daemon at {nobody}: No such file or directory (os error 2); start it with --control or {otherwise}\n"
        );
        assert_eq!(mxgate(arguments), Shown { out: String::new(), error: expected, status: Some(2) });
    }
    drop(UnixListener::bind(&nobody).unwrap());
    assert!(mxgate(&["lists", "--control", &nobody]).error.contains("Connection refused"));
    // The milter socket.
    let milter = server.path("milter.sock").display().to_string();
    let shown = mxgate(&["lists", "--control", &milter]);
    assert!(shown.error.contains(&milter) && shown.error.contains("is that the control socket of mxgate?"), "{shown:?}");
    assert_eq!(shown.status, Some(2));

    // One of the two, and not both.
    let (config, control) = (server.path("mxgate.toml").display().to_string(), server.control());
    for arguments in [
        &["lists"][..],
        &["lists", "--config", &config, "--control", &control],
        &["explain", "--ip", "192.0.2.7"],
        &["explain", "--ip", "192.0.2.7", "--config", &config, "--control", &control],
        &["check", "--ip", "192.0.2.7", "--control", &control],
        &["reload", "--config", &config],
    ] {
        let shown = mxgate(arguments);
        assert!(shown.status == Some(2) && shown.out.is_empty(), "{shown:?}");
    }
    assert_eq!(mxgate(&["lists", "--control", &format!("unix:{control}")]).status, Some(0));
    assert!(mxgate(&["reload", "--help"]).out.contains("[default: /run/mxgate/control.sock]"));
    let help = mxgate(&["serve", "--help"]).out;
    assert!(help.contains("--control <PATH>") && help.contains("--control-mode <MODE>") && help.contains("[default: 0600]"), "{help}");
}
