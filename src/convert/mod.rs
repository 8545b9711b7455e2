//! A list of any format as one of any other that can hold it.
//!
//! What is written covers the same addresses or names, for the same reasons, when it is loaded in its format; a format that
//! cannot say so is refused, and which ones can is told. Reasons, replies and dates of expiry may be left out on demand,
//! entries and holes never. White space around a reason is not kept, nor is what a hole says about itself.
//!
//! The decisions of CrowdSec last from now on, in whatever format: `crowdsec-csv` and `crowdsec-json` have time spans that
//! count from the day on which they are read, and an entry that never ceases gets a hundred years.
//!
//! ```
//! use mxgate::convert::{Request, convert};
//!
//! let list = b"192.0.2.0/24 ; SBL1\n!192.0.2.128/25\n";
//! let mut table = Vec::new();
//! convert(Box::new(list.as_slice()), &Request { to: "postfix-cidr", ..Request::default() }, &mut table)?;
//! assert_eq!(table, b"192.0.2.128/25\tDUNNO\n192.0.2.0/24\tREJECT SBL1\n");
//! # Ok::<(), mxgate::convert::Error>(())
//! ```

mod holds;
mod obstacles;
mod plan;
mod write;

use crate::compile::{MAX_ENTRIES, seconds};
use crate::contents::{Collector, Contents, Wanted};
use crate::diagnostic::{Diagnostic, Fault, quote, render};
use crate::guards;
use crate::list::detect::{HEAD, format_of};
use crate::list::{self, Format, Reading, Statement};
use crate::policy::Guards;
use holds::{Holds, Names};
use obstacles::Survey;
use plan::Plan;
use std::fmt;
use std::io::{self, BufRead, BufWriter, Write};
use std::sync::Arc;
use std::time::SystemTime;
use write::Writer;

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What messages call the list.
    pub name: &'a str,
    /// The format that it is in; `None` if its text shows.
    pub from: Option<&'a str>,
    /// The format that it is to be in.
    pub to: &'a str,
    /// What it is about.
    pub about: About,
    /// Scored lists: the least score that counts.
    pub threshold: Option<u64>,
    /// Reasons, replies and dates of expiry may be left out.
    pub lossy: bool,
    /// The time, for what lasts for a time span.
    pub now: SystemTime,
    /// Is told as the list is read: its name, and how many lines of it there were so far; some thousand lines at a time.
    pub progress: fn(&str, u64),
}

/// What a list is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum About {
    /// Addresses of clients.
    #[default]
    Addresses,
    /// Domain names.
    Domains,
    /// Mailboxes of senders, and their domains.
    Senders,
    /// Mailboxes of recipients, and their domains.
    Recipients,
}

impl About {
    fn wanted(self) -> Wanted {
        match self {
            About::Addresses => Wanted::Addresses,
            About::Domains => Wanted::Domains,
            About::Senders => Wanted::Senders,
            About::Recipients => Wanted::Recipients,
        }
    }
}

impl Default for Request<'_> {
    fn default() -> Self {
        let (name, to, now) = ("list", "plain", SystemTime::now());
        Request { name, from: None, to, about: About::Addresses, threshold: None, lossy: false, now, progress: |_, _| {} }
    }
}

/// Why there is no list.
#[derive(Debug)]
pub enum Error {
    /// The list has mistakes or cannot be held in the format. Nothing was written.
    Refused(Vec<Diagnostic>),
    /// The list could not be written, or not all of it.
    Output(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Refused(diagnostics) => f.write_str(render(diagnostics).trim_end()),
            Error::Output(error) => write!(f, "cannot write the list: {error}"),
        }
    }
}

impl std::error::Error for Error {}

/// The formats that a list can be written in: name, and what it can hold.
pub fn formats() -> impl Iterator<Item = (&'static str, String)> {
    holds::ALL.iter().map(|holds| (holds.format.name(), holds.to_string()))
}

/// Reads a list, plain or packed, and writes it in another format. Returns the warnings.
///
/// # Errors
/// If the list has mistakes, if the format cannot hold it, or if it cannot be written.
pub fn convert(input: Box<dyn BufRead + '_>, request: &Request<'_>, output: &mut dyn Write) -> Result<Vec<Diagnostic>, Error> {
    let file: Arc<str> = crate::reply::clean(request.name.as_bytes()).as_str().into();
    let refused = |fault: Fault| Error::Refused(vec![fault.at(&file, 1, 1)]);
    let from = request.from.map(format).transpose().map_err(refused)?;
    let holds = target(request).map_err(refused)?;
    let (contents, mut diagnostics) = read(input, from, request, &file);
    if diagnostics.iter().any(Diagnostic::is_error) {
        return Err(Error::Refused(diagnostics));
    }
    let wanted = request.about.wanted();
    let plan = Plan::new(&contents, holds, contents.read, wanted != Wanted::Addresses);
    let survey = Survey::of(&plan, holds, wanted, contents.statement, contents.read).map_err(Error::Output)?;
    diagnostics.extend(survey.diagnostics(&file, request.lossy));
    if diagnostics.iter().any(Diagnostic::is_error) {
        return Err(Error::Refused(diagnostics));
    }
    let mut out = Head { out: BufWriter::new(output), head: Vec::new() };
    write(&plan, holds, &survey, &mut out).map_err(Error::Output)?;
    if format_of(&out.head, out.head.len() < HEAD, wanted.about()).ok() != Some(holds.format) {
        let name = holds.format.name();
        let fault = Fault::new(
            format!("what is written does not show by itself that it is {name}"),
            format!("write format = \"{name}\" where a policy names it"),
        );
        diagnostics.push(fault.at(&file, 1, 1).warning());
    }
    Ok(diagnostics)
}

fn write(plan: &Plan<'_>, holds: &'static Holds, survey: &Survey, out: &mut Head<'_>) -> io::Result<()> {
    let mut writer = Writer::begin(holds, survey.about, out)?;
    plan.each(&mut |item| writer.item(item))?;
    writer.end()?;
    out.flush()
}

fn format(name: &str) -> Result<Format, Fault> {
    Format::ALL.iter().find(|row| row.0 == name).map(|row| row.1).ok_or_else(|| {
        let names: Vec<&str> = Format::ALL.iter().map(|row| row.0).collect();
        Fault::new(format!("there is no format {}", quote(name.as_bytes())), format!("take one of {}", names.join(", ")))
    })
}

/// The format to be written, if it can be and is one for such a list.
fn target(request: &Request<'_>) -> Result<&'static Holds, Fault> {
    let to = format(request.to)?;
    let others = |suits: &dyn Fn(&Holds) -> bool| {
        let names: Vec<&str> = holds::ALL.iter().filter(|holds| suits(holds)).map(|holds| holds.format.name()).collect();
        format!("take one of {}", names.join(", "))
    };
    let Some(holds) = Holds::of(to) else {
        return Err(Fault::new(format!("{} cannot be written", to.name()), "take rbldnsd-ip6trie, which holds all that it holds"));
    };
    let name = to.name();
    match request.about {
        About::Domains if holds.names == Names::None => {
            Err(Fault::new(format!("{name} has no domain names"), others(&|holds| holds.names != Names::None)))
        }
        About::Senders | About::Recipients if !holds.mailboxes => {
            Err(Fault::new(format!("{name} has no mailboxes"), others(&|holds| holds.mailboxes)))
        }
        About::Addresses if !holds.v4 && !holds.v6 => {
            let remedy = format!("take --domains for a list of them, or {}", others(&|holds| holds.v4 || holds.v6));
            Err(Fault::new(format!("{name} has domain names alone"), remedy))
        }
        About::Addresses | About::Domains | About::Senders | About::Recipients => Ok(holds),
    }
}

/// Reads a list, and refuses one that is not whole: afterwards nobody would know.
fn read(input: Box<dyn BufRead + '_>, from: Option<Format>, request: &Request<'_>, file: &Arc<str>) -> (Contents, Vec<Diagnostic>) {
    let (wanted, now) = (request.about.wanted(), seconds(request.now));
    let reading = Reading { about: wanted.about(), now, threshold: request.threshold };
    let mut diagnostics = Vec::new();
    let mut collector = Collector::new(wanted, now, MAX_ENTRIES, &mut diagnostics);
    collector.begin_file(Arc::clone(file));
    let (statement, error) = match list::read(input, from, &reading, &mut collector, &|lines| (request.progress)(file, lines)) {
        Ok(statement) => (statement, None),
        Err(error) => (Statement::default(), Some(error)),
    };
    if error.is_none() {
        collector.end_file(0);
    }
    let contents = collector.finish(statement, None);
    for diagnostic in &mut diagnostics {
        diagnostic.fault.remedy = as_option(&diagnostic.fault.remedy);
    }
    diagnostics.extend(error.map(|error| Fault::io(format!("cannot read the list: {error}"), "get it again").at(file, 1, 1)));
    if !diagnostics.iter().any(Diagnostic::is_error) {
        // How wide an entry may be is the business of the policy that names the list.
        let open = Guards { widest_v4: 0, widest_v6: 0, ..Guards::default() };
        diagnostics.extend(guards::check(&contents, &open, None, None).into_iter().map(|(line, fault)| fault.at(file, line, 1)));
    }
    (contents, diagnostics)
}

/// A remedy that is a key of the policy as an option of the command.
fn as_option(remedy: &str) -> String {
    let mut parts = remedy.split("format = \"");
    let mut told = parts.next().unwrap_or("").to_owned();
    for part in parts {
        let (name, rest) = part.split_once('"').unwrap_or((part, ""));
        told.push_str(&format!("--from {name}{rest}"));
    }
    told.replace(" in the policy", "")
}

/// An output of which the beginning is kept, to see whether its format shows.
struct Head<'w> {
    out: BufWriter<&'w mut dyn Write>,
    head: Vec<u8>,
}

impl Write for Head<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        let room = HEAD.saturating_sub(self.head.len()).min(written);
        self.head.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
