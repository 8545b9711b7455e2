//! The daemon under test: its memory, its files, and its log, which is read as it is written and not kept: at full size it
//! would be gigabytes.

use crate::peer::Target;
use crate::support::daemon::Daemon;
use crate::support::find;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

/// A load of a million networks by a daemon that is not optimised, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the log has said so far.
#[derive(Debug, Default)]
struct Said {
    loads: u32,
    /// All lines but those of refusals and loads, of which there are too many.
    others: Vec<String>,
}

/// Where a daemon is to listen.
pub(crate) enum Listen<'a> {
    /// On a free port.
    Port,
    Socket(&'a Path),
    /// On a socket that is open already, and stays so.
    HandedOver(&'a UnixListener, &'a Path),
}

#[derive(Debug)]
pub(crate) struct Server {
    daemon: Daemon,
    said: Arc<Mutex<Said>>,
    pub(crate) target: Target,
}

/// The daemon: what cargo has built, or what `MXGATE_PROGRAM` names.
pub(crate) fn program() -> PathBuf {
    std::env::var_os("MXGATE_PROGRAM").map_or_else(|| env!("CARGO_BIN_EXE_mxgate").into(), PathBuf::from)
}

impl Server {
    /// Starts the daemon with a policy in a directory, and with the limit of open files that a shell has.
    pub(crate) fn start(directory: &Path, policy: &str, listen: Listen<'_>) -> Server {
        let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let (target, option, hand_over) = match listen {
            Listen::Port => {
                let port = free();
                (Target::Tcp(port), Some(format!("--listen=inet:{port}@127.0.0.1")), String::new())
            }
            Listen::Socket(path) => (Target::Unix(path.into()), Some(format!("--listen=unix:{}", path.display())), String::new()),
            Listen::HandedOver(listener, path) => {
                fcntl(listener, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
                let hand_over = format!("exec 3<&{}; export LISTEN_FDS=1 LISTEN_PID=$$; ", listener.as_raw_fd());
                (Target::Unix(path.into()), None, hand_over)
            }
        };
        write(directory, policy);
        let log = directory.join("log");
        let _ = fs::remove_file(&log);
        assert!(Command::new("mkfifo").arg(&log).status().unwrap().success());
        let config = directory.join("mxgate.toml").display().to_string();
        let by_shell = ["-c".to_owned(), format!("{hand_over}ulimit -S -n 1024; exec \"$@\""), "bash".into()];
        let serve = [program().display().to_string(), "serve".into(), "--config".into(), config];
        let daemon = Daemon::start(&find("bash").unwrap(), by_shell.into_iter().chain(serve).chain(option), &log);
        let said = Arc::default();
        let (lines, keep) = (BufReader::new(File::open(&log).unwrap()).lines(), Arc::clone(&said));
        // It ends with the daemon.
        spawn(move || lines.map_while(Result::ok).for_each(|line| note(&keep, line)));
        let server = Server { daemon, said, target };
        // The line of the first load must not be taken for that of the next one.
        server.wait("loads its policy", || server.said.lock().unwrap().loads > 0);
        server.wait("listens", || match &server.target {
            Target::Unix(path) => UnixStream::connect(path).is_ok(),
            Target::Tcp(port) => TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).is_ok(),
        });
        server
    }

    /// Puts a policy in the place of another, and has it loaded by SIGHUP.
    pub(crate) fn reload(&self, directory: &Path, policy: &str) {
        let before = self.said.lock().unwrap().loads;
        write(directory, policy);
        self.daemon.signal("HUP");
        self.wait("loads its policy", || self.said.lock().unwrap().loads > before);
    }

    pub(crate) fn signal(&self, name: &str) {
        self.daemon.signal(name);
    }

    /// Waits for the end of a daemon that was told to stop then; a second signal would cut its sessions.
    pub(crate) fn ended(self, since: Instant) {
        while self.daemon.running() {
            assert!(since.elapsed() < Duration::from_secs(10), "it never ends: {:#?}", self.log());
            sleep(Duration::from_millis(5));
        }
    }

    /// All lines of the log that are not about a refusal or a load.
    pub(crate) fn log(&self) -> Vec<String> {
        self.said.lock().unwrap().others.clone()
    }

    /// A line of /proc/PID/status in KiB: `VmRSS`, what it has of memory, or `VmHWM`, the most it ever had.
    pub(crate) fn memory(&self, key: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.daemon.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// How many files it has open, sockets included.
    pub(crate) fn files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.daemon.pid())).unwrap().count()
    }

    /// Waits until it has no more files open than this.
    pub(crate) fn wait_for_files(&self, most: usize) {
        self.wait("closes its connections", || self.files() <= most);
    }

    pub(crate) fn wait(&self, what: &str, done: impl Fn() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !done() {
            assert!(Instant::now() < end && self.daemon.running(), "it never {what}: {:#?}", self.log());
            sleep(Duration::from_millis(5));
        }
    }
}

fn write(directory: &Path, policy: &str) {
    // As everybody should: aside, then renamed.
    fs::write(directory.join("new"), policy).unwrap();
    fs::rename(directory.join("new"), directory.join("mxgate.toml")).unwrap();
}

fn note(said: &Mutex<Said>, line: String) {
    if line.starts_with("NOQUEUE: reject: ") || line.contains(" more refusal") {
        return;
    }
    let mut said = said.lock().unwrap();
    if line.contains(" in force: ") {
        said.loads += 1;
    } else if said.others.len() < 1000 && !line.starts_with("info: list storm: ") {
        said.others.push(line);
    }
}
