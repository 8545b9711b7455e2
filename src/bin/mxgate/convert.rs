//! `mxgate convert`: writes a list in another format.

use crate::progress;
use clap::Args;
use mxgate::convert::{About, Error, Request, convert, formats};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

const ERROR: u8 = 2;

/// What to convert.
#[derive(Debug, Args)]
#[command(after_help = formats_help())]
pub(crate) struct Arguments {
    /// List, plain or packed with gzip or zstd; - for standard input
    #[arg(value_name = "INPUT")]
    input: PathBuf,
    /// Format of the list, if its text does not show it
    #[arg(long, value_name = "FORMAT")]
    from: Option<String>,
    /// Format to write
    #[arg(long, value_name = "FORMAT")]
    to: String,
    /// The list is about domain names
    #[arg(long, conflicts_with_all = ["senders", "recipients"])]
    domains: bool,
    /// The list is about senders: mailboxes and their domains
    #[arg(long, conflicts_with = "recipients")]
    senders: bool,
    /// The list is about recipients: mailboxes and their domains
    #[arg(long)]
    recipients: bool,
    /// Least score that counts, of a scored list
    #[arg(long, value_name = "N")]
    threshold: Option<u64>,
    /// Leave out reasons, replies and expiry where the format cannot hold them, and say how many; entries and holes never
    #[arg(long)]
    lossy: bool,
    /// File to write, which is replaced at the end; - for standard output
    #[arg(long, short, value_name = "OUTPUT", default_value = "-")]
    output: PathBuf,
}

fn formats_help() -> String {
    let rows = formats().map(|(name, holds)| format!("  {name:<16} {holds}\n"));
    format!("Formats, and what they hold:\n{}\nExit status: 0 done, 2 error; then OUTPUT is as it was.", rows.collect::<String>())
}

/// Converts.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let outcome = open(&arguments.input)
        .map_err(|error| format!("cannot read {}: {error}\n", arguments.input.display()))
        .and_then(|input| write(arguments, input));
    let (text, status) = match outcome {
        Ok(warnings) => (warnings, ExitCode::SUCCESS),
        Err(errors) => (errors, ExitCode::from(ERROR)),
    };
    // Nothing can be said if standard error is closed.
    let _ = io::stderr().write_all(text.as_bytes());
    status
}

fn is_standard(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    Ok(if is_standard(path) { Box::new(io::stdin().lock()) } else { Box::new(BufReader::with_capacity(1 << 16, File::open(path)?)) })
}

/// Writes the list. Returns the warnings, or what is wrong.
fn write(arguments: &Arguments, input: Box<dyn BufRead>) -> Result<String, String> {
    let name = if is_standard(&arguments.input) { "standard input".into() } else { arguments.input.to_string_lossy() };
    let about = match arguments {
        Arguments { domains: true, .. } => About::Domains,
        Arguments { senders: true, .. } => About::Senders,
        Arguments { recipients: true, .. } => About::Recipients,
        Arguments { .. } => About::Addresses,
    };
    let request = Request {
        name: &name,
        from: arguments.from.as_deref(),
        to: &arguments.to,
        about,
        threshold: arguments.threshold,
        lossy: arguments.lossy,
        now: SystemTime::now(),
        progress: progress::tell,
    };
    let output = &arguments.output;
    let cannot = |error: &io::Error| format!("cannot write {}: {error}\n", output.display());
    let mut target = Target::open(output).map_err(|error| cannot(&error))?;
    match progress::shown(|| convert(input, &request, &mut target)) {
        Ok(diagnostics) => target.finish().map(|()| mxgate::diagnostic::render(&diagnostics)).map_err(|error| cannot(&error)),
        Err(Error::Refused(diagnostics)) => Err(mxgate::diagnostic::render(&diagnostics)),
        Err(Error::Output(error)) => Err(cannot(&error)),
    }
}

/// Where a list is written to.
enum Target {
    /// Standard output, or what is not a regular file.
    Direct(Box<dyn Write>),
    /// A file beside the one that it replaces at the end, so that nobody reads half a list.
    Aside { file: File, aside: PathBuf, path: PathBuf, done: bool },
}

impl Target {
    fn open(path: &Path) -> io::Result<Target> {
        if is_standard(path) {
            return Ok(Target::Direct(Box::new(io::stdout().lock())));
        }
        // A symbolic link stays one.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.into());
        let before = fs::metadata(&path).ok();
        if before.as_ref().is_some_and(|before| !before.is_file()) {
            return Ok(Target::Direct(Box::new(OpenOptions::new().write(true).open(&path)?)));
        }
        let mut name = OsString::from(".");
        name.push(path.file_name().ok_or(io::ErrorKind::IsADirectory)?);
        name.push(format!(".{}", std::process::id()));
        let aside = path.with_file_name(name);
        let file = OpenOptions::new().write(true).create_new(true).open(&aside)?;
        let target = Target::Aside { file, aside, path, done: false };
        if let (Target::Aside { file, .. }, Some(before)) = (&target, before) {
            file.set_permissions(before.permissions())?;
        }
        Ok(target)
    }

    fn finish(mut self) -> io::Result<()> {
        match &mut self {
            Target::Direct(out) => out.flush(),
            Target::Aside { file, aside, path, done } => {
                file.sync_all()?;
                fs::rename(aside, path)?;
                *done = true;
                Ok(())
            }
        }
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // It may be the same terminal.
        progress::wipe();
        match self {
            Target::Direct(out) => out.write(bytes),
            Target::Aside { file, .. } => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Target::Direct(out) => out.flush(),
            Target::Aside { file, .. } => file.flush(),
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Target::Aside { aside, done: false, .. } = self {
            // That it cannot be removed changes nothing about what went wrong.
            let _ = fs::remove_file(aside);
        }
    }
}
