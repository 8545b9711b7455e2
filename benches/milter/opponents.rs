//! The milters: mxgate with a policy of a million networks, filters that do nothing, and what none of them can go below.

use crate::mail_server::Target;
use crate::support::daemon::Daemon;
use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long one may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// A milter that listens on a unix socket and, as another process, on a port.
pub(crate) struct Opponent {
    pub name: &'static str,
    pub unix: (Daemon, Target),
    pub tcp: (Daemon, Target),
}

/// All of them. `policy` is that of mxgate.
pub(crate) fn start(directory: &Path, policy: &Path) -> Vec<Opponent> {
    let [nothing, floor] = ["nothing", "floor"].map(|name| built(name, directory));
    let mxgate = Path::new(env!("CARGO_BIN_EXE_mxgate"));
    let mut all = vec![opponent("mxgate", directory, |target| {
        let arguments = ["serve", "--config", policy.to_str().unwrap(), "--listen", &address(target)];
        (mxgate.to_path_buf(), arguments.map(str::to_owned).to_vec())
    })];
    all.push(opponent("libmilter (C), does nothing", directory, |target| (nothing.clone(), vec![address(target)])));
    all.push(opponent("libmilter, asks for CONNECT and RCPT alone", directory, |target| {
        (nothing.clone(), vec![address(target), "CR".to_owned()])
    }));
    if let Some(miltr) = std::env::var_os("MXGATE_MILTR").map(PathBuf::from) {
        all.push(opponent("miltr-server (Rust), does nothing", directory, |target| {
            let address = match target {
                Target::Unix(path) => format!("unix:{}", path.display()),
                Target::Tcp(port) => format!("127.0.0.1:{port}"),
            };
            (miltr.clone(), vec![address])
        }));
    }
    all.push(opponent("the floor: a loop in C", directory, |target| (floor.clone(), vec![address(target)])));
    all
}

/// The program that this C file is.
pub(crate) fn built(name: &str, directory: &Path) -> PathBuf {
    let (program, source) = (directory.join(name), format!("benches/milter/{name}.c"));
    let built = Command::new("cc").args(["-O2", "-o"]).arg(&program).args([&source, "-lmilter", "-pthread"]).status();
    assert!(built.unwrap().success(), "{source} needs libmilter-dev");
    program
}

/// As Sendmail writes it.
pub(crate) fn address(target: &Target) -> String {
    match target {
        Target::Unix(path) => format!("unix:{}", path.display()),
        Target::Tcp(port) => format!("inet:{port}@127.0.0.1"),
    }
}

fn opponent(name: &'static str, directory: &Path, command: impl Fn(&Target) -> (PathBuf, Vec<String>)) -> Opponent {
    let start = |target: Target| {
        let (program, arguments) = command(&target);
        (start_one(&program, arguments, directory, &target), target)
    };
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    Opponent { name, unix: start(free_path(directory)), tcp: start(Target::Tcp(port)) }
}

/// A path for one more socket.
pub(crate) fn free_path(directory: &Path) -> Target {
    let number = fs::read_dir(directory).unwrap().count();
    Target::Unix(directory.join(format!("{number}.sock")))
}

/// Starts a program that will listen there.
pub(crate) fn start_one(program: &Path, arguments: Vec<String>, directory: &Path, target: &Target) -> Daemon {
    let output = directory.join("output");
    let daemon = Daemon::start(program, arguments, &output);
    let end = Instant::now() + PATIENCE;
    while !listens(target) {
        let said = || fs::read_to_string(&output).unwrap_or_default();
        assert!(Instant::now() < end, "{} does not listen: {}", program.display(), said());
        sleep(Duration::from_millis(20));
    }
    if let Target::Unix(path) = target {
        // Postfix is another user.
        fs::set_permissions(path, Permissions::from_mode(0o666)).unwrap();
    }
    daemon
}

fn listens(target: &Target) -> bool {
    match target {
        Target::Unix(path) => UnixStream::connect(path).is_ok(),
        Target::Tcp(port) => TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).is_ok(),
    }
}

/// Seconds that a process has run, those of its threads that have ended too.
#[expect(unsafe_code, reason = "no safe interface reads the clock of another process")]
pub(crate) fn processor_time(daemon: &Daemon) -> f64 {
    let (mut clock, mut time) = (0, libc::timespec { tv_sec: 0, tv_nsec: 0 });
    // SAFETY: there is room for the number of a clock.
    let found = unsafe { libc::clock_getcpuclockid(daemon.pid().cast_signed(), &raw mut clock) };
    assert_eq!(found, 0, "the process is gone");
    // SAFETY: there is room for a time.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
