//! What is wrong with a policy file or a list, where, and what to write instead.
//!
//! Every mistake is shown as one line, `file:line:column: cause; remedy`, so that editors jump to it.
//! Reading goes on after a mistake: all of them are reported at once.

use std::fmt;
use std::sync::Arc;

/// How much of a wrong text is repeated in a message, in characters.
const QUOTED: usize = 60;

/// The kind of a mistake, for callers that tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The text does not say what it should.
    Syntax,
    /// A file cannot be read.
    Io,
    /// A limit of this library is reached.
    Limit,
}

/// A mistake without its place: the cause, and the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What kind of mistake it is.
    pub kind: Kind,
    /// What is wrong.
    pub cause: String,
    /// What to write instead.
    pub remedy: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.cause, self.remedy)
    }
}

impl Fault {
    /// A mistake in a text.
    pub fn new(cause: impl Into<String>, remedy: impl Into<String>) -> Fault {
        Fault { kind: Kind::Syntax, cause: cause.into(), remedy: remedy.into() }
    }

    /// A file that cannot be read.
    pub fn io(cause: impl Into<String>, remedy: impl Into<String>) -> Fault {
        Fault { kind: Kind::Io, ..Fault::new(cause, remedy) }
    }

    /// A limit that is reached.
    pub fn limit(cause: impl Into<String>, remedy: impl Into<String>) -> Fault {
        Fault { kind: Kind::Limit, ..Fault::new(cause, remedy) }
    }

    /// The fault at its place. Lines and columns count from 1, columns in bytes.
    pub fn at(self, file: &Arc<str>, line: u32, column: u32) -> Diagnostic {
        Diagnostic { file: Arc::clone(file), line, column, severity: Severity::Error, fault: self }
    }
}

/// Whether a load can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The load fails and the rules in force stay.
    Error,
    /// The load succeeds; somebody should have a look.
    Warning,
}

/// One message about one place in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Name of the file, as it was given.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column in bytes, from 1.
    pub column: u32,
    /// Error or warning.
    pub severity: Severity,
    /// Cause and remedy.
    pub fault: Fault,
}

impl Diagnostic {
    /// Turns the message into a warning.
    pub fn warning(mut self) -> Diagnostic {
        self.severity = Severity::Warning;
        self
    }

    /// Whether the message makes a load fail.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Diagnostic { file, line, column, severity, fault } = self;
        let mark = if *severity == Severity::Warning { "warning: " } else { "" };
        write!(f, "{file}:{line}:{column}: {mark}{}; {}", fault.cause, fault.remedy)
    }
}

/// The messages as text, one a line.
pub fn render(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(|d| format!("{d}\n")).collect()
}

/// A text from a file, fit to be repeated in a message: in quotation marks, escaped, cut.
pub(crate) fn quote(text: &[u8]) -> String {
    let mut shown: String = match str::from_utf8(text) {
        Ok(text) => text.escape_debug().collect(),
        Err(_) => text.escape_ascii().to_string(),
    };
    if let Some((at, _)) = shown.char_indices().nth(QUOTED) {
        shown.truncate(at);
        shown.push_str("...");
    }
    format!("\"{shown}\"")
}

/// Where the lines of a text begin, so that a place in it is found without going through all that stands before it.
#[derive(Debug)]
pub(crate) struct Lines {
    starts: Vec<usize>,
    length: usize,
}

impl Lines {
    pub(crate) fn of(text: &str) -> Lines {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Lines { starts: std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect(), length: text.len() }
    }

    /// Line and column (both from 1, columns in bytes) of an offset.
    pub(crate) fn position(&self, offset: usize) -> (u32, u32) {
        let offset = offset.min(self.length);
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = line.checked_sub(1).and_then(|before| self.starts.get(before)).copied().unwrap_or(0);
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        (number(line), number(offset - start).saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_whatever_it_repeats() {
        let fault = Fault::new(format!("{} is no address", quote(b"a\nb\x1b[0m\xff")), "write 192.0.2.1");
        let shown = fault.at(&"p.toml".into(), 3, 7).to_string();
        assert_eq!(shown, r#"p.toml:3:7: "a\nb\x1b[0m\xff" is no address; write 192.0.2.1"#);
        assert!(quote(&[b'x'; 100]).len() < 70);
    }

    #[test]
    fn positions_count_from_one() {
        let lines = Lines::of("ab\ncd\n");
        assert_eq!([0, 2, 3, 4, 6].map(|at| lines.position(at)), [(1, 1), (1, 3), (2, 1), (2, 2), (3, 1)]);
        assert_eq!((Lines::of("ab").position(99), Lines::of("").position(0)), ((1, 3), (1, 1)));
    }
}
