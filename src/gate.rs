//! The gate: the ruleset in force, replaced whole while checks go on.

use crate::compile::{Files, compile};
use crate::diagnostic::{Diagnostic, Fault, Kind, position, render};
use crate::explain::{Explanation, explain};
use crate::facts::Facts;
use crate::policy::{self, MAX_POLICY, Policy};
use crate::reply::clean;
use crate::ruleset::{Ruleset, Stages};
use crate::stage::Stage;
use crate::verdict::Verdict;
use parking_lot::{Mutex, RwLock};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::mem;
use std::path::{Path, PathBuf};
use std::str::{self, Utf8Error};
use std::sync::Arc;
use std::time::SystemTime;

/// Answers questions from memory. Any number of threads may ask while another one loads.
#[derive(Debug)]
pub struct Gate {
    /// Readers hold this lock for one look-up, the writer for the exchange of one pointer.
    ruleset: RwLock<Arc<Ruleset>>,
    /// Held during a load, so that loads come one after the other. Counts them.
    loads: Mutex<u64>,
}

/// A load that failed. The rules in force stay.
#[derive(Clone, Debug)]
pub struct LoadError {
    /// All that was wrong, and warnings.
    pub diagnostics: Vec<Diagnostic>,
}

impl LoadError {
    /// The kind of the first error.
    pub fn kind(&self) -> Kind {
        self.diagnostics.iter().find(|d| d.is_error()).map_or(Kind::Syntax, |d| d.fault.kind)
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(render(&self.diagnostics).trim_end())
    }
}

impl std::error::Error for LoadError {}

impl Default for Gate {
    fn default() -> Gate {
        Gate::new()
    }
}

impl Gate {
    /// A gate without rules: it accepts everything.
    pub fn new() -> Gate {
        let file = "".into();
        let (ruleset, _) = compile(Policy::default(), &file, &Disk { base: PathBuf::new() }, None);
        Gate { ruleset: RwLock::new(Arc::new(ruleset)), loads: Mutex::new(0) }
    }

    /// Puts the rules of a policy file in the place of the rules in force. If anything is wrong the old ones
    /// stay. Returns warnings.
    ///
    /// # Errors
    /// All mistakes in the file and in the lists that it names.
    pub fn load_file(&self, path: &Path) -> Result<Vec<Diagnostic>, LoadError> {
        let name: Arc<str> = path.to_string_lossy().into();
        let mut bytes = Vec::new();
        let limit = u64::try_from(MAX_POLICY).unwrap_or(u64::MAX).saturating_add(1);
        File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)).map_err(|error| {
            let fault = Fault::io(format!("cannot read the policy: {error}"), "check the path and who may read the file");
            LoadError { diagnostics: vec![fault.at(&name, 1, 1)] }
        })?;
        let text = str::from_utf8(&bytes).map_err(|error| not_text(&bytes, error, &name))?;
        let base = path.parent().unwrap_or(Path::new("")).to_path_buf();
        self.load(text, &name, &Disk { base })
    }

    /// Puts the rules of a text in the place of the rules in force, as [`Gate::load_file`] does. Files that it
    /// names are sought from the current directory. `name` stands for the text in messages.
    ///
    /// # Errors
    /// All mistakes in the text and in the lists that it names.
    pub fn load_text(&self, text: &str, name: &str) -> Result<Vec<Diagnostic>, LoadError> {
        self.load(text, &name.into(), &Disk { base: PathBuf::new() })
    }

    /// As [`Gate::load_text`], from bytes that may not be text.
    pub(crate) fn load_bytes(&self, bytes: &[u8], name: &str) -> Result<Vec<Diagnostic>, LoadError> {
        match str::from_utf8(bytes) {
            Ok(text) => self.load_text(text, name),
            Err(error) => Err(not_text(bytes, error, &name.into())),
        }
    }

    /// Puts the rules of a text in the place of the rules in force; the files that it names come from `files`.
    ///
    /// # Errors
    /// All mistakes in the text and in the lists that it names.
    pub fn load(&self, text: &str, name: &Arc<str>, files: &dyn Files) -> Result<Vec<Diagnostic>, LoadError> {
        if text.len() > MAX_POLICY {
            let fault = Fault::limit(format!("the policy is longer than {MAX_POLICY} bytes"), "put long lists into files of their own");
            return Err(LoadError { diagnostics: vec![fault.at(name, 1, 1)] });
        }
        let mut loads = self.loads.lock();
        let (policy, mut diagnostics) = policy::parse(text, name);
        let in_force = self.ruleset();
        let (mut ruleset, more) = compile(policy, name, files, Some(&in_force));
        diagnostics.extend(more);
        // Those of the policy file in the order of its lines, then those of the lists in the order of the lists.
        diagnostics.sort_by_key(|d| if d.file == *name { (0, d.line, d.column) } else { (1, 0, 0) });
        if diagnostics.iter().any(Diagnostic::is_error) {
            return Err(LoadError { diagnostics });
        }
        *loads += 1;
        ruleset.generation = *loads;
        let fresh = Arc::new(ruleset);
        let old = mem::replace(&mut *self.ruleset.write(), fresh);
        // Freed after the lock is: it may be large.
        drop(old);
        Ok(diagnostics)
    }

    /// Decides about a client that has just connected.
    pub fn check_connect(&self, facts: &Facts<'_>) -> Verdict {
        self.ruleset.read().connect(facts)
    }

    /// Decides about a client that has just connected by those lists alone that ask for it (`at = "connect"`).
    pub fn check_early(&self, facts: &Facts<'_>) -> Verdict {
        self.ruleset.read().early(facts)
    }

    /// Decides about one recipient, the client's address included.
    pub fn check_rcpt(&self, facts: &Facts<'_>) -> Verdict {
        self.ruleset.read().rcpt(facts)
    }

    /// Says why a question is answered as it is. For the control plane: it looks at every entry.
    pub fn explain(&self, facts: &Facts<'_>, stage: Stage) -> Explanation {
        explain(&self.ruleset(), facts, stage)
    }

    /// What a mail server has to tell for the rules in force to work.
    pub fn stages(&self) -> Stages {
        self.ruleset.read().stages()
    }

    /// The ruleset in force, for questions about the rules themselves.
    pub fn ruleset(&self) -> Arc<Ruleset> {
        Arc::clone(&self.ruleset.read())
    }
}

/// What is wrong with a policy that is not UTF-8.
fn not_text(bytes: &[u8], error: Utf8Error, name: &Arc<str>) -> LoadError {
    let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
    let (line, column) = position(&String::from_utf8_lossy(before), before.len());
    let fault = Fault::new("the policy is not UTF-8 text", "write it in UTF-8 (TOML knows no other encoding)");
    LoadError { diagnostics: vec![fault.at(name, line, column)] }
}

/// Files on disk; relative names count from `base`.
struct Disk {
    base: PathBuf,
}

impl Files for Disk {
    fn display(&self, name: &str) -> String {
        // A path may contain what a terminal takes for a command.
        clean(self.base.join(name).to_string_lossy().as_bytes()).to_string()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn BufRead + '_>> {
        Ok(Box::new(BufReader::with_capacity(1 << 16, File::open(self.base.join(name))?)))
    }

    /// A directory stands for its files, but for hidden ones; a name with `*`, `?` or `[` for those that match.
    fn expand(&self, name: &str) -> io::Result<Vec<String>> {
        let path = self.base.join(name);
        let found: Vec<PathBuf> = if path.is_dir() {
            fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?
        } else if name.contains(['*', '?', '[']) && !path.exists() {
            // The directory is no pattern, whatever its name has in it.
            let base = glob::Pattern::escape(&self.base.to_string_lossy());
            let pattern = Path::new(&base).join(name);
            let paths = glob::glob(&pattern.to_string_lossy()).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
            paths.map(|path| path.map_err(io::Error::from)).collect::<io::Result<_>>()?
        } else {
            return Ok(vec![name.to_owned()]);
        };
        let hidden = |path: &Path| path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        let mut names: Vec<String> =
            found.into_iter().filter(|path| path.is_file() && !hidden(path)).map(|path| path.to_string_lossy().into_owned()).collect();
        names.sort();
        Ok(names)
    }

    fn modified(&self, name: &str) -> Option<SystemTime> {
        fs::metadata(self.base.join(name)).and_then(|metadata| metadata.modified()).ok()
    }
}
