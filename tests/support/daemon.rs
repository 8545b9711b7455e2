//! A child process that ends when its owner does, even if the owner is killed, and that takes its own children along.
//!
//! The child runs below a small shell that waits for the end of its standard input, which is a pipe from us. The pipe
//! closes when [`Daemon`] is dropped, and also when this program dies without running a destructor; either way the
//! shell then stops the child. No signal handler, no `unsafe`, and only what was started here is ever signalled.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Arguments: the file for the child's output, then the child's command line.
/// `setsid` makes the child the leader of its own process group, so that its whole offspring can be found later.
const KEEPER: &str = r#"
output=$1
shift
setsid "$@" </dev/null >>"$output" 2>&1 &
child=$!
echo "$child"
exec >/dev/null
read -r nothing
kill -TERM "$child"
wait "$child"
"#;

/// How long a child may take to end after SIGTERM before it gets SIGKILL.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running child. Dropping it sends SIGTERM to the child, and waits until the child and all the processes of its
/// group are gone.
#[derive(Debug)]
pub struct Daemon {
    keeper: Child,
    pid: u32,
}

impl Daemon {
    /// Starts a program; what it writes to standard output and standard error is appended to the file `output`.
    pub fn start<I>(program: &Path, arguments: I, output: &Path) -> Daemon
    where
        I: IntoIterator<Item: AsRef<OsStr>>,
    {
        let mut keeper = Command::new("/bin/sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(output)
            .arg(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0) // an interrupt from the terminal must not kill the keeper before its child
            .spawn()
            .expect("cannot start /bin/sh");
        let mut line = String::new();
        let stdout = keeper.stdout.take().expect("standard output is a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("cannot read the pid from the keeper");
        let pid = line.trim().parse().expect("the keeper wrote no pid");
        Daemon { keeper, pid }
    }

    /// The process id of the program itself, which is also the id of its process group.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Is the program still running? (It may have failed at once: see its output file.)
    pub fn running(&self) -> bool {
        state(self.pid).is_some_and(|state| state.alive)
    }

    /// Sends a signal, as in `signal("HUP")`.
    pub fn signal(&self, name: &str) {
        kill(name, &self.pid.to_string());
    }

    /// Waits until neither the program nor a process of its group is left; false if some are after this time.
    fn gone(&self, timeout: Duration) -> bool {
        let end = Instant::now() + timeout;
        while group_alive(self.pid) {
            if Instant::now() >= end {
                return false;
            }
            sleep(Duration::from_millis(10));
        }
        true
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take()); // the keeper sees the end of its input, and sends SIGTERM
        if !self.gone(PATIENCE) {
            kill("KILL", &format!("-{}", self.pid)); // a negative number means the process group
            self.gone(PATIENCE);
        }
        let _ = self.keeper.wait();
    }
}

/// Sends a signal by the command, because the standard library can send only SIGKILL.
fn kill(signal: &str, target: &str) {
    let _ = Command::new("kill").args(["-s", signal, "--", target]).stderr(Stdio::null()).status();
}

/// What `/proc` says of a process.
struct State {
    alive: bool,
    group: u32,
}

/// Reads `/proc/PID/stat`: "pid (name) state parent group ...", where the name may contain anything. A process that has
/// ended but that nobody has waited for yet (state Z or X) holds no resources, and counts as gone.
fn state(pid: u32) -> Option<State> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let alive = !matches!(fields.next()?, "Z" | "X");
    let group = fields.nth(1)?.parse().ok()?;
    Some(State { alive, group })
}

/// Is a process of this group alive? The number `leader` is not given to another process while the group has members.
fn group_alive(leader: u32) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else {
        return false;
    };
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(state)
        .any(|process| process.alive && process.group == leader)
}
