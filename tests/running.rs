//! The daemon under a service manager: sockets that are handed over and outlive it, what it tells, the user that it
//! becomes, and the units that start it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what goes wrong here ends the test, with a message")]

use mxgate::milter::codec::{Command as Packet, Connect, Options};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;
use support::{PATIENCE, wait_for};
use tempfile::TempDir;

mod support;

const PROGRAM: &str = env!("CARGO_BIN_EXE_mxgate");
const POLICY: &str = "hostname = \"mx.example.org\"\n[[list]]\nname = \"local\"\nentries = [\"192.0.2.0/24\"]\n";
const BLOCKED: &str = "550 5.7.1 Service unavailable; client [192.0.2.7] blocked using local";
/// A user that every system has.
const USER: &str = "nobody";

/// Hands over standard input, and standard output if there are two, as systemd does: from file descriptor 3 on.
const HAND_OVER: &str = "exec 3<&0 </dev/null; test $LISTEN_FDS = 1 || exec 4>&1; exec >&2; export LISTEN_PID=$$; exec \"$@\"";

/// A directory with a policy that everybody may read.
struct Place(TempDir);

impl Place {
    fn new(policy: &str) -> Place {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let place = Place(directory);
        fs::write(place.path("mxgate.toml"), policy).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn address(&self, name: &str) -> String {
        format!("unix:{}", self.path(name).display())
    }

    /// `serve` with the policy and these options; the log goes to the file `log`.
    fn serve(&self, command: &mut Command, options: &[&str]) -> Running {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
        command.arg("serve").arg("--config").arg(self.path("mxgate.toml")).args(options).stderr(log);
        Running(command.spawn().unwrap())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn wait_for_line(&self, text: &str) {
        wait_for(text, || self.log().contains(text).then_some(()));
    }
}

/// A command to which sockets are handed over.
fn handing_over(sockets: Vec<OwnedFd>, names: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", HAND_OVER, "sh", PROGRAM]).env("LISTEN_FDS", sockets.len().to_string()).env("LISTEN_FDNAMES", names);
    let mut sockets = sockets.into_iter();
    command.stdin(sockets.next().map_or_else(Stdio::null, Stdio::from));
    command.stdout(sockets.next().map_or_else(Stdio::null, Stdio::from));
    command
}

/// The daemon, which ends with the test.
struct Running(Child);

impl Running {
    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args(["-s", name, &self.0.id().to_string()]).status().unwrap().success());
    }

    /// Waits until it has ended; its exit status.
    fn ended(&mut self) -> Option<i32> {
        wait_for("the daemon ends", || self.0.try_wait().unwrap()).code()
    }

    fn stop(&mut self) {
        self.signal("TERM");
        assert_eq!(self.ended(), Some(0));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks as a mail server does; the reply to a recipient from a client on the list.
fn ask<S: Read + Write>(stream: &mut S) -> io::Result<String> {
    let client = Connect { host: b"client.example", family: b'4', port: 4321, address: b"192.0.2.7" };
    let mut packets = Vec::new();
    for packet in [
        Packet::OptNeg(Options { version: 6, actions: 0x1ff, protocol: 0x1f_ffff }),
        Packet::Connect(client),
        Packet::Rcpt(b"<user@example.org>"),
    ] {
        packet.encode(&mut packets);
    }
    stream.write_all(&packets)?;
    let mut last = Vec::new();
    for _ in 0..2 {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        last = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
        stream.read_exact(&mut last)?;
    }
    Ok(String::from_utf8_lossy(last.strip_suffix(b"\0").unwrap_or(&last)).get(1..).unwrap_or_default().to_owned())
}

fn ask_unix(path: &Path) -> io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    ask(&mut stream)
}

fn ask_tcp(port: u16) -> io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    ask(&mut stream)
}

#[test]
fn fifty_restarts_lose_no_connection() {
    let place = Place::new(POLICY);
    let unix = UnixListener::bind(place.path("milter.sock")).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port();
    let start = || {
        let sockets = vec![unix.try_clone().unwrap().into(), tcp.try_clone().unwrap().into()];
        place.serve(&mut handing_over(sockets, "milter:mxgate-milter.socket"), &[])
    };
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let ask_on = |over_unix: bool| {
            while !stop.load(Ordering::Relaxed) {
                let reply = if over_unix { ask_unix(&place.path("milter.sock")) } else { ask_tcp(port) };
                match reply {
                    Ok(reply) => assert_eq!(reply, BLOCKED),
                    Err(error) => return Some(error),
                }
                answered.fetch_add(1, Ordering::Relaxed);
            }
            None
        };
        let clients: Vec<_> = [true, true, false, false].into_iter().map(|kind| scope.spawn(move || ask_on(kind))).collect();
        let mut before = 0;
        for restart in 0..50 {
            let mut daemon = start();
            // Each of them may have had one more answer of the daemon before.
            wait_for("clients are served", || (answered.load(Ordering::Relaxed) > before + 8).then_some(()));
            daemon.stop();
            before = answered.load(Ordering::Relaxed);
            assert!(clients.iter().all(|client| !client.is_finished()), "restart {restart}: {}", place.log());
        }
        stop.store(true, Ordering::Relaxed);
        let _last = start();
        for client in clients {
            let lost = client.join().unwrap();
            assert!(lost.is_none(), "{lost:?}");
        }
    });
    assert!(place.path("milter.sock").exists(), "the file of the socket is not ours");
}

#[test]
fn sockets_handed_over_stand_in_for_the_default_and_can_be_control_sockets() {
    let place = Place::new(POLICY);
    let milter = UnixListener::bind(place.path("milter.sock")).unwrap();
    let control = UnixListener::bind(place.path("control.sock")).unwrap();
    let mut daemon = place.serve(&mut handing_over(vec![control.into(), milter.into()], "control:whatever"), &[]);
    place.wait_for_line(&format!("listening on {}", place.address("milter.sock")));
    place.wait_for_line(&format!("control socket at {}", place.address("control.sock")));
    assert_eq!(ask_unix(&place.path("milter.sock")).unwrap(), BLOCKED);
    let lists = Command::new(PROGRAM).args(["lists", "--control", &place.address("control.sock")]).output().unwrap();
    assert!(String::from_utf8_lossy(&lists.stdout).contains("\nlocal "), "{lists:?}");
    assert_eq!(place.log().matches("listening on").count(), 1, "{}", place.log());
    daemon.stop();
    // With --listen there are more.
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port();
    let mut daemon = place.serve(&mut handing_over(vec![tcp.into()], "milter"), &["--listen", &place.address("other.sock")]);
    wait_for("it listens", || ask_unix(&place.path("other.sock")).ok());
    assert!(ask_tcp(port).is_ok());
    daemon.stop();
    assert!(!place.path("other.sock").exists());
}

#[test]
fn it_is_started_by_the_first_connection() {
    if !support::available(&["systemd-socket-activate"]) {
        return;
    }
    let place = Place::new(POLICY);
    let mut command = Command::new("systemd-socket-activate");
    command.arg("--listen").arg(place.path("milter.sock")).args(["--fdname=milter", PROGRAM]);
    let mut daemon = place.serve(&mut command, &[]);
    wait_for("somebody listens", || place.path("milter.sock").exists().then_some(()));
    assert!(!place.log().contains("rules of load"), "{}", place.log());
    assert_eq!(wait_for("it answers", || ask_unix(&place.path("milter.sock")).ok()), BLOCKED);
    daemon.stop();
}

#[test]
fn what_cannot_be_served_is_told() {
    let place = Place::new(POLICY);
    let (one, _other) = UnixStream::pair().unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let datagrams = UnixDatagram::unbound().unwrap();
    let file = fs::File::open(place.path("mxgate.toml")).unwrap();
    let cases: [(OwnedFd, &str, &str); 5] = [
        (one.into(), "milter", "handed over as \"milter\" is a socket that does not listen; write ListenStream="),
        (datagrams.into(), "milter", "is a socket that does not listen"),
        (file.into(), "milter", "is not a socket: "),
        (tcp.try_clone().unwrap().into(), "control", "is not a file, whose permissions say who may ask; write ListenStream=/path"),
        (tcp.into(), "one:too-many", "cannot take the sockets that were handed over: invalid LISTEN_FDNAMES; see"),
    ];
    for (socket, names, part) in cases {
        let mut daemon = place.serve(&mut handing_over(vec![socket], names), &[]);
        assert_eq!(daemon.ended(), Some(2));
        assert!(place.log().contains(part), "{part} in {}", place.log());
    }
}

#[test]
fn open_sessions_get_the_time_that_they_are_given() {
    for (seconds, least, most) in [("0", 0, 1000), ("1", 1000, 3500)] {
        let place = Place::new(POLICY);
        let options = ["--drain", seconds, "--listen", &place.address("milter.sock")];
        let mut daemon = place.serve(&mut Command::new(PROGRAM), &options);
        let mut session = wait_for("it listens", || UnixStream::connect(place.path("milter.sock")).ok());
        ask(&mut session).unwrap();
        let started = Instant::now();
        daemon.stop();
        let taken = started.elapsed().as_millis();
        assert!((least..most).contains(&taken), "{taken} ms");
    }
}

/// A socket as that of the service manager, and what arrives there.
struct Manager(UnixDatagram);

impl Manager {
    fn at(path: &Path) -> Manager {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Manager(socket)
    }

    fn message(&self) -> Vec<String> {
        let mut message = [0; 1000];
        let length = self.0.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).lines().map(str::to_owned).collect()
    }

    /// The messages up to the one that says this.
    fn until(&self, text: &str) -> Vec<Vec<String>> {
        let mut messages = Vec::new();
        while !messages.last().is_some_and(|last: &Vec<String>| last.iter().any(|line| line == text)) {
            messages.push(self.message());
        }
        messages
    }
}

#[test]
fn the_service_manager_is_told() {
    let place = Place::new(POLICY);
    let manager = Manager::at(&place.path("notify"));
    let mut command = Command::new(PROGRAM);
    command.env("NOTIFY_SOCKET", place.path("notify")).env("WATCHDOG_USEC", "400000");
    let mut daemon = place.serve(&mut command, &["--listen", &place.address("milter.sock")]);
    assert_eq!(manager.message(), ["READY=1", "WATCHDOG=1", "STATUS=rules of load 1 in force, 0 connections"]);
    let mut session = UnixStream::connect(place.path("milter.sock")).unwrap();
    assert_eq!(ask(&mut session).unwrap(), BLOCKED);
    manager.until("STATUS=rules of load 1 in force, 1 connections");

    let beats = Instant::now();
    (0..5).for_each(|_| drop(manager.until("WATCHDOG=1")));
    assert!((700..2000).contains(&beats.elapsed().as_millis()), "twice as often as the watchdog looks: {:?}", beats.elapsed());

    for (policy, load) in [(POLICY, 2), ("hostname = 3\n", 2), (POLICY, 3)] {
        fs::write(place.path("mxgate.toml"), policy).unwrap();
        daemon.signal("HUP");
        let reloading = manager.until("RELOADING=1").pop().unwrap();
        let time = reloading.iter().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).unwrap();
        assert!(time.parse::<u64>().unwrap() > 0);
        assert_eq!(manager.until("READY=1").pop().unwrap(), ["READY=1"]);
        if policy == POLICY {
            manager.until(&format!("STATUS=rules of load {load} in force, 1 connections"));
        }
    }
    drop(session);
    daemon.signal("TERM");
    manager.until("STOPPING=1");
    assert_eq!(daemon.ended(), Some(0));
}

#[test]
fn a_daemon_that_cannot_start_never_says_that_it_is_ready() {
    let place = Place::new("hostname = 3\n");
    let manager = Manager::at(&place.path("notify"));
    let mut daemon = place.serve(Command::new(PROGRAM).env("NOTIFY_SOCKET", place.path("notify")), &[]);
    assert_eq!(daemon.ended(), Some(2));
    manager.0.set_nonblocking(true).unwrap();
    assert_eq!(manager.0.recv(&mut [0; 100]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

/// The numbers behind a word in /proc/PID/status.
fn status(daemon: &Running, word: &str) -> Vec<String> {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.0.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(word)).unwrap();
    line.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn it_becomes_another_user_when_the_sockets_are_open() {
    if !support::root() {
        return;
    }
    let id = |flag| {
        let output = Command::new("id").args([flag, USER]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let (user, group) = (id("-u"), id("-g"));
    let place = Place::new(POLICY);
    let sockets = place.path("sockets");
    fs::create_dir(&sockets).unwrap();
    chown(&sockets, user.parse().ok(), group.parse().ok()).unwrap();
    let milter = format!("unix:{}", sockets.join("milter.sock").display());
    let control = format!("unix:{}", sockets.join("control.sock").display());
    let options = ["--user", USER, "--listen", &milter, "--control", &control];
    let mut daemon = place.serve(&mut Command::new(PROGRAM), &options);
    place.wait_for_line("control socket at");
    assert_eq!(ask_unix(&sockets.join("milter.sock")).unwrap(), BLOCKED);

    // Real, effective, saved, and for files.
    assert_eq!(status(&daemon, "Uid:"), [&*user; 4]);
    assert_eq!(status(&daemon, "Gid:"), [&*group; 4]);
    assert_eq!(status(&daemon, "Groups:"), [&*group]);
    assert_eq!((status(&daemon, "CapEff:"), status(&daemon, "CapPrm:")), (vec!["0".repeat(16)], vec!["0".repeat(16)]));
    for name in ["milter.sock", "control.sock"] {
        let metadata = fs::metadata(sockets.join(name)).unwrap();
        assert_eq!((metadata.uid().to_string(), metadata.gid().to_string()), (user.clone(), group.clone()));
    }

    daemon.signal("HUP");
    place.wait_for_line("rules of load 2 in force");
    // What the user cannot read does not come into force.
    fs::set_permissions(place.path("mxgate.toml"), fs::Permissions::from_mode(0o600)).unwrap();
    daemon.signal("HUP");
    place.wait_for_line("the rules of load 2 stay in force");
    assert_eq!(ask_unix(&sockets.join("milter.sock")).unwrap(), BLOCKED);
    daemon.stop();
    assert_eq!(fs::read_dir(&sockets).unwrap().count(), 0, "both sockets are removed");

    // At the start that is a mistake at once, and no socket is left behind.
    let mut again = Command::new(PROGRAM);
    again.arg("serve").arg("--config").arg(place.path("mxgate.toml")).args(["--user", USER, "--listen", &milter]);
    let output = again.output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot read the policy"), "{output:?}");
    assert_eq!((output.status.code(), fs::read_dir(&sockets).unwrap().count()), (Some(2), 0));
}

#[test]
fn only_root_can_become_another_user() {
    let place = Place::new(POLICY);
    // Where everybody can run it.
    let program = place.path("mxgate");
    fs::copy(PROGRAM, &program).unwrap();
    let arguments = ["serve", "--user", USER, "--listen", "inet:0@127.0.0.1"];
    let mut command = Command::new(&program);
    if support::find("id").is_some() && Command::new("id").arg("-u").output().unwrap().stdout == b"0\n" {
        command.uid(65_534).gid(65_534);
    }
    let output = command.args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("cannot become the user nobody: only root can; start it as root, or as that user without --user"), "{said}");
    assert_eq!(output.status.code(), Some(2));
    let output = Command::new(PROGRAM).args(["serve", "--user", "root"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("root's privileges are what is to be given up"), "{output:?}");
}

#[test]
fn the_units_are_understood_and_confine_the_service() {
    if !support::available(&["systemd-analyze"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for (unit, below) in [("mxgate.service", ""), ("mxgate-milter.socket", "sockets")] {
        let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/systemd").join(below);
        let text = fs::read_to_string(units.join(unit)).unwrap();
        // Manual pages and the program are not installed.
        let text: Vec<&str> = text.lines().filter(|line| !line.starts_with("Documentation=")).collect();
        fs::write(directory.path().join(unit), text.join("\n").replace("/usr/bin/mxgate", PROGRAM)).unwrap();
    }
    let analyze = |arguments: &[&str]| {
        let output = Command::new("systemd-analyze").args(arguments).arg(directory.path().join("mxgate.service")).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {said}");
        said
    };
    // What it says about the units of this system is not about ours.
    let said = analyze(&["verify", "--man=no"]);
    assert!(!said.contains("mxgate"), "{said}");
    // In tenths, from 0 to 100; 20 is what most hardened services come to.
    analyze(&["security", "--offline=yes", "--no-pager", "--threshold=20"]);
}

#[test]
fn the_units_start_what_there_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let service = fs::read_to_string(root.join("packaging/systemd/mxgate.service")).unwrap();
    for key in ["ExecStart=", "ExecReload="] {
        let line = service.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[0], "/usr/bin/mxgate");
        // `--help` after them: the command line is read, and nothing is done.
        let output = Command::new(PROGRAM).args(&words[1..]).arg("--help").output().unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
        let known = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(words.iter().filter(|word| word.starts_with("--")).all(|option| known.contains(option)), "{line}: {known}");
    }
    // The policy that comes with it accepts everybody.
    let policy = root.join("packaging/mxgate.toml");
    let question = ["check", "--ip", "192.0.2.7", "--rcpt", "user@example.org", "--config"];
    let output = Command::new(PROGRAM).args(question).arg(&policy).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let lint = Command::new(PROGRAM).args(["lint", "--config"]).arg(&policy).output().unwrap();
    assert_eq!(lint.status.code(), Some(0), "{lint:?}");
}

#[test]
fn completions_for_each_shell() {
    for (shell, check) in [("bash", Some("bash")), ("zsh", None), ("fish", None)] {
        let output = Command::new(PROGRAM).args(["completions", shell]).output().unwrap();
        assert!(output.status.success());
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(script.contains("mxgate") && script.contains("drain") && script.contains("convert"), "{shell}: {script}");
        if let Some(program) = check.and_then(support::find) {
            let directory = tempfile::tempdir().unwrap();
            fs::write(directory.path().join("script"), &script).unwrap();
            let complete = "source ./script; COMP_WORDS=(mxgate ser); COMP_CWORD=1; _mxgate mxgate ser mxgate; echo ${COMPREPLY[@]}";
            let output = Command::new(program).args(["-c", complete]).current_dir(directory.path()).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), "serve\n", "{output:?}");
        }
    }
}
