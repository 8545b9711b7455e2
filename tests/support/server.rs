//! `mxgate serve` on a free port of 127.0.0.1, with a policy file of its own.

use super::daemon::Daemon;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a start or a reload may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running daemon. Dropping it stops it.
#[derive(Debug)]
pub struct Server {
    daemon: Daemon,
    port: u16,
    policy: PathBuf,
    output: PathBuf,
    // Last, so that the files are there until the daemon is gone.
    _directory: TempDir,
}

impl Server {
    /// Starts the command `program` as a milter with this policy.
    pub fn start(program: &Path, policy: &str) -> Server {
        Server::start_as("--listen", program, policy)
    }

    /// Starts it as a policy service of Postfix.
    pub fn policy_service(program: &Path, policy: &str) -> Server {
        Server::start_as("--policy-service", program, policy)
    }

    fn start_as(option: &str, program: &Path, policy: &str) -> Server {
        let directory = tempfile::Builder::new().prefix("mxgate-server-").tempdir().unwrap();
        let (file, output) = (directory.path().join("mxgate.toml"), directory.path().join("log"));
        fs::write(&file, policy).unwrap();
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let listen = format!("inet:{port}@127.0.0.1");
        let arguments = ["serve".as_ref(), "--config".as_ref(), file.as_os_str(), option.as_ref(), listen.as_ref()];
        let daemon = Daemon::start(program, arguments, &output);
        let server = Server { daemon, port, policy: file, output, _directory: directory };
        // It listens before it has loaded, and says so behind that.
        server.wait(|| server.log().contains("listening on "), "does not listen");
        server
    }

    /// The address as Postfix writes it.
    pub fn address(&self) -> String {
        format!("inet:127.0.0.1:{}", self.port)
    }

    /// Puts another policy in the place of the first and has it loaded; relative file names count from the new file.
    pub fn reload(&self, policy: &str) {
        let loads = |log: &str| log.matches(" in force: ").count();
        let before = loads(&self.log());
        fs::write(&self.policy, policy).unwrap();
        self.daemon.signal("HUP");
        self.wait(|| loads(&self.log()) > before, "does not load the policy");
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }

    fn wait(&self, ready: impl Fn() -> bool, failure: &str) {
        let end = Instant::now() + PATIENCE;
        while !ready() {
            assert!(Instant::now() < end && self.daemon.running(), "mxgate serve {failure}:\n{}", self.log());
            sleep(Duration::from_millis(10));
        }
    }
}
