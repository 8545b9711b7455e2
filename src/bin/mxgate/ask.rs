//! The client's end of the control socket: asks a daemon, and says what to do if there is none.

use crate::check::{ERROR, load, print_or_fail};
use crate::commands::{Done, Request, parse_answer};
use crate::listen::parse_path;
use clap::Args;
use mxgate::Gate;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Where the control socket is if nothing is said.
const DEFAULT_PATH: &str = "/run/mxgate/control.sock";

/// Whom to ask.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Source {
    /// Policy file
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Control socket of a daemon: about the rules in force there, instead of a file
    #[arg(long, value_name = "PATH", value_parser = parse_path)]
    control: Option<PathBuf>,
}

impl Source {
    /// The answer of the daemon, if it is one.
    pub(crate) fn ask(&self, request: &Request) -> Option<Done> {
        ask(self.control.as_ref()?, request)
    }

    /// The answer of the daemon, or what is worked out from the policy file; `None` if there is none. What is wrong is
    /// shown.
    pub(crate) fn answer(&self, request: &Request, work_out: impl FnOnce(&Gate) -> Done) -> Option<Done> {
        match (&self.control, &self.config) {
            (Some(path), _) => ask(path, request),
            (None, Some(config)) => load(config).map(|gate| work_out(&gate)),
            // There is one of the two: the group requires it.
            (None, None) => None,
        }
    }
}

/// The daemon that is to do something.
#[derive(Debug, Args)]
pub(crate) struct Daemon {
    /// Control socket of the daemon
    #[arg(long, value_name = "PATH", value_parser = parse_path, default_value = DEFAULT_PATH)]
    control: PathBuf,
}

impl Daemon {
    /// Its control socket.
    pub(crate) fn control(&self) -> &Path {
        &self.control
    }

    /// As [`ask`].
    pub(crate) fn ask(&self, request: &Request) -> Option<Done> {
        ask(&self.control, request)
    }
}

/// The daemon that is asked, and how its answer is shown.
#[derive(Debug, Args)]
pub(crate) struct Asked {
    #[command(flatten)]
    daemon: Daemon,
    /// For programs: JSON
    #[arg(long)]
    json: bool,
}

impl Asked {
    /// Asks, prints.
    pub(crate) fn run(&self, request: &Request) -> ExitCode {
        match self.daemon.ask(request) {
            Some(done) => print_or_fail(&done.show(self.json), 0),
            None => ExitCode::from(ERROR),
        }
    }
}

/// Has a daemon carry out a command. What is wrong is shown, and then there is no answer.
fn ask(path: &Path, request: &Request) -> Option<Done> {
    let answer = exchange(path, request).map_err(|error| unreachable(path, request, &error)).and_then(|line| {
        let whole = line.strip_suffix(b"\n").and_then(parse_answer);
        whole.unwrap_or_else(|| Err(format!("what listens at {} gives no answer; is that the control socket of mxgate?", path.display())))
    });
    // Nothing can be said if standard error is closed.
    answer.map_err(|error| writeln!(io::stderr(), "{}", error.trim_end())).ok()
}

/// One line there and one back. Without a deadline: how long a load takes is not known here.
fn exchange(path: &Path, request: &Request) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(path)?;
    let sent = stream.write_all(&request.to_line());
    let mut line = Vec::new();
    let heard = BufReader::new(stream).read_until(b'\n', &mut line);
    // Who is turned away has an answer, even if the request was not taken.
    if line.is_empty() {
        sent?;
        heard?;
    }
    Ok(line)
}

/// What to do where no daemon answers.
pub(crate) fn unreachable(path: &Path, request: &Request, error: &io::Error) -> String {
    let remedy = if error.kind() == ErrorKind::PermissionDenied {
        "ask as root or as the daemon's user, or start it with a wider --control-mode".into()
    } else {
        let otherwise = match request {
            Request::Lists {} | Request::Explain(_) => " or use --config FILE",
            Request::Reload {} => " or send it SIGHUP",
            Request::Ping {}
            | Request::Ban(_)
            | Request::Unban(_)
            | Request::Bans(_)
            | Request::Mode(_)
            | Request::Status {}
            | Request::Refusal { .. }
            | Request::Top {}
            | Request::Trace { .. } => "",
        };
        format!("start it with --control{otherwise}")
    };
    format!("cannot reach the daemon at {}: {error}; {remedy}", path.display())
}
