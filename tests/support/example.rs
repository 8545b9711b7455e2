//! A program of `examples/` that listens on a port of 127.0.0.1, with a policy file of its own.

use super::daemon::Daemon;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a start, or something that the program writes, may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running program. Dropping it stops it.
#[derive(Debug)]
pub struct Example {
    daemon: Daemon,
    port: u16,
    policy: PathBuf,
    output: PathBuf,
    // Last, so that the files are there until the program is gone.
    _directory: TempDir,
}

impl Example {
    /// Starts a program with the arguments that its port and its policy file make, and waits until it listens.
    pub fn start(program: &Path, policy: &str, arguments: impl FnOnce(u16, &str) -> Vec<String>) -> Example {
        let directory = tempfile::Builder::new().prefix("mxgate-example-").tempdir().unwrap();
        let (file, output) = (directory.path().join("mxgate.toml"), directory.path().join("log"));
        fs::write(&file, policy).unwrap();
        let port = free_port();
        let daemon = Daemon::start(program, arguments(port, file.to_str().unwrap()), &output);
        let example = Example { daemon, port, policy: file, output, _directory: directory };
        example.wait("does not listen", |example| TcpStream::connect(example.address()).is_ok());
        example
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// Puts another policy in the place of the first, and waits until the program has written that text once more.
    pub fn change(&self, policy: &str, text: &str) {
        let before = self.log().matches(text).count();
        // At once, as an administrator should: the program must not find half a file.
        let new = self.policy.with_extension("new");
        fs::write(&new, policy).unwrap();
        fs::rename(&new, &self.policy).unwrap();
        self.wait(&format!("does not write {text:?}"), |example| example.log().matches(text).count() > before);
    }

    fn wait(&self, failure: &str, ready: impl Fn(&Example) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !ready(self) {
            assert!(Instant::now() < end && self.daemon.running(), "{failure}:\n{}", self.log());
            sleep(Duration::from_millis(10));
        }
    }
}

/// A port that is free, and that no other example of this process has been given: some start at the same time.
fn free_port() -> u16 {
    static GIVEN: Mutex<Vec<u16>> = Mutex::new(Vec::new());
    let mut given = GIVEN.lock().unwrap();
    loop {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        if !given.contains(&port) {
            given.push(port);
            return port;
        }
    }
}
