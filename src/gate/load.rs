//! Loads: rules from a file, a text, an image or the host's own bytes are put in the place of those in force, or all that is wrong
//! with them is told and the old ones stay.

use super::{Gate, InForce, Origin};
use crate::compile::{Files, compile, seconds};
use crate::diagnostic::{Diagnostic, Fault, Kind, render};
use crate::disk::{Disk, Given, Seen};
use crate::image;
use crate::limits::Limits;
use crate::memory::{Watch, with_room};
use crate::policy::{self, MAX_POLICY};
use crate::ruleset::Ruleset;
use crate::source::{PolicyText, Source, not_text};
use std::fmt;
use std::path::Path;
use std::str;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

/// How many bytes the document of a policy may take for each byte of its text.
const DOCUMENT: usize = 32;

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

impl From<Diagnostic> for LoadError {
    fn from(diagnostic: Diagnostic) -> LoadError {
        LoadError { diagnostics: vec![diagnostic] }
    }
}

/// The outcome of a load: warnings, or all that was wrong.
type Loaded = Result<Vec<Diagnostic>, LoadError>;

impl Gate {
    /// Puts the rules of a policy file in the place of the rules in force. If anything is wrong the old ones
    /// stay. Returns warnings.
    ///
    /// # Errors
    /// All mistakes in the file and in the lists that it names.
    pub fn load_file(&self, path: &Path) -> Loaded {
        self.load_source(Source::File(path.to_path_buf()))
    }

    /// Puts the rules of an image in the place of the rules in force, as [`Gate::load_file`] does for images too, but without
    /// reading it as a whole to check it: in well under a millisecond, however large it is. For processes that start often,
    /// with an image that has been checked once. See [`Gate::write_image`].
    ///
    /// Damage that is not noticed then refuses nobody whom no list has that refuses; it may have entries overlooked, holes and
    /// those of allow lists too. A file that is shortened while it is open ends the process with SIGBUS.
    ///
    /// # Errors
    /// If the file is no image of this release, or it is damaged as far as can be seen without reading all of it.
    pub fn open_image(&self, path: &Path) -> Loaded {
        self.load_source(Source::Image(path.to_path_buf()))
    }

    /// Writes the rules in force as an image, which other processes open at once and share: policy, lists and tables. It is
    /// written aside and renamed, so that whoever has an older one open keeps it. Only an image is replaced, or an empty file.
    /// Returns its length in bytes.
    ///
    /// An image must not be shortened or written over in place while somebody has it open; see [`Gate::open_image`].
    ///
    /// # Errors
    /// If no rules are in force, or the file cannot be written.
    pub fn write_image(&self, path: &Path) -> Result<u64, Fault> {
        let InForce { ruleset, origin, .. } = self.in_force();
        if ruleset.generation == 0 {
            return Err(Fault::new("no rules are in force", "load a policy first"));
        }
        image::write(path, |image| image::store(&ruleset, &origin.text, &origin.name, image))
    }

    /// Puts the rules of a text in the place of the rules in force, as [`Gate::load_file`] does. Files that it
    /// names are sought from the current directory. `name` stands for the text in messages.
    ///
    /// # Errors
    /// All mistakes in the text and in the lists that it names.
    pub fn load_text(&self, text: &str, name: &str) -> Loaded {
        self.load_source(Source::Text { text: text.into(), name: name.into() })
    }

    /// As [`Gate::load_text`], from bytes that may not be text.
    pub(crate) fn load_bytes(&self, bytes: &[u8], name: &str) -> Loaded {
        match str::from_utf8(bytes) {
            Ok(text) => self.load_text(text, name),
            Err(error) => Err(not_text(bytes, error, &name.into()).into()),
        }
    }

    /// Puts the rules of a text in the place of the rules in force; the files that it names come from `files`.
    ///
    /// # Errors
    /// All mistakes in the text and in the lists that it names.
    pub fn load(&self, text: &str, name: &Arc<str>, files: &dyn Files) -> Loaded {
        let _turn = self.turn.take();
        let (text, name): (Arc<str>, _) = (text.into(), Arc::clone(name));
        let read = PolicyText { text: Arc::clone(&text), name: Arc::clone(&name), image: None };
        let (ruleset, limits, diagnostics) = self.compile(read, files)?;
        let origin = Origin { text, name, loaded: seconds(SystemTime::now()), ..Origin::default() };
        self.publish(InForce { ruleset: Arc::new(ruleset), limits, origin: Arc::new(origin), ..self.in_force() });
        Ok(diagnostics)
    }

    /// Puts bytes in the place of the files or entries that the policy names for a list of addresses or names; `None`
    /// takes them back. They stay so over later loads. Otherwise as [`Gate::load_file`] with the policy in force.
    ///
    /// # Errors
    /// If no list has that name, and all mistakes in the policy and the lists that it names.
    pub fn set_list(&self, list: &str, bytes: Option<&[u8]>) -> Loaded {
        let _turn = self.turn.take();
        let InForce { ruleset, origin, .. } = self.in_force();
        if !ruleset.lists().any(|known| known.name.as_str() == list && known.is_of_policy()) {
            let cause = format!("the rules in force have no list {}", crate::diagnostic::quote(list.as_bytes()));
            let names: Vec<&str> = ruleset.lists().filter(|list| list.is_of_policy()).map(|list| list.name.as_str()).collect();
            let remedy = if names.is_empty() { "load a policy that has it".into() } else { format!("name one of {}", names.join(", ")) };
            return Err(Fault::new(cause, remedy).at(&list.into(), 1, 1).into());
        }
        if origin.is_image {
            let remedy = "load the policy itself, or make the image again with that list";
            return Err(Fault::new("the rules in force are an image, whose lists stay as they are", remedy).at(&list.into(), 1, 1).into());
        }
        let mut given = origin.given.clone();
        match bytes {
            Some(bytes) => given.insert(list.to_owned(), bytes.into()),
            None => given.remove(list),
        };
        self.load_from(origin.policy.clone(), given)
    }

    /// Loads again if the policy file or a file that it names has changed since it was read, a directory or pattern
    /// included; `None` if nothing has. A change that is wrong is reported once.
    ///
    /// # Errors
    /// As [`Gate::load_file`].
    pub fn refresh(&self) -> Result<Option<Vec<Diagnostic>>, LoadError> {
        let _turn = self.turn.take();
        let origin = self.in_force().origin;
        if !origin.seen.iter().any(Seen::has_changed) {
            return Ok(None);
        }
        self.load_from(origin.policy.clone(), origin.given.clone()).map(Some)
    }

    /// Loads a policy, with what the host has given for its lists.
    fn load_source(&self, policy: Source) -> Loaded {
        let _turn = self.turn.take();
        let given = self.in_force.look().origin.given.clone();
        self.load_from(policy, given)
    }

    /// Loads a policy, and puts it in force with what it was made from. If it fails, a later [`Gate::refresh`] waits for
    /// another change. The caller has the turn.
    fn load_from(&self, policy: Source, given: Given) -> Loaded {
        let files = Disk::new(policy.base(), &given, self.progress);
        let read = policy.read(&files).map_err(LoadError::from);
        let compiled = read.and_then(|read| {
            let (text, name, is_image) = (Arc::clone(&read.text), Arc::clone(&read.name), read.image.is_some());
            if let Some(list) = given.keys().next().filter(|_| is_image) {
                let fault = Fault::new(format!("the list {list} was given to this gate, and an image has its own"), "take it back first");
                return Err(fault.at(&name, 1, 1).into());
            }
            self.compile(read, &files).map(|compiled| (compiled, Origin { text, name, is_image, ..Origin::default() }))
        });
        let seen = files.into_seen();
        let in_force = self.in_force();
        match compiled {
            Ok(((ruleset, limits, diagnostics), read)) => {
                let origin = Origin { policy, given, seen, loaded: seconds(SystemTime::now()), ..read };
                self.publish(InForce { ruleset: Arc::new(ruleset), limits, origin: Arc::new(origin), ..in_force });
                Ok(diagnostics)
            }
            Err(error) => {
                self.tallies.failed_loads.fetch_add(1, Ordering::Relaxed);
                let origin = Origin { seen, ..Origin::clone(&in_force.origin) };
                self.publish(InForce { origin: Arc::new(origin), ..in_force });
                Err(error)
            }
        }
    }

    fn compile(&self, read: PolicyText, files: &dyn Files) -> Result<(Ruleset, Arc<Limits>, Vec<Diagnostic>), LoadError> {
        let PolicyText { text, name, mut image } = read;
        let (text, name) = (&*text, &name);
        if text.len() > MAX_POLICY {
            let fault = Fault::limit(format!("the policy is longer than {MAX_POLICY} bytes"), "put long lists into files of their own");
            return Err(fault.at(name, 1, 1).into());
        }
        let watch = Watch::begin();
        let short = |fault: Fault| LoadError::from(fault.at(name, 1, 1));
        // The document of a policy takes many times its length.
        drop(with_room::<u8>(text.len().saturating_mul(DOCUMENT)));
        watch.check().map_err(short)?;
        let (policy, mut diagnostics) = policy::parse(text, name);
        let InForce { ruleset: in_force, limits, .. } = self.in_force();
        let (mut ruleset, more) = compile(policy, name, files, Some(&in_force), image.as_mut());
        let limits = Arc::new(Limits::new(&ruleset.limits.settings, Some(&limits)).map_err(short)?);
        // What was made while memory was short is incomplete.
        watch.check().map_err(short)?;
        diagnostics.extend(more);
        if let Some(image) = image {
            // What there is to warn of was said when it was made.
            diagnostics.retain(Diagnostic::is_error);
            if image.is_incomplete() {
                diagnostics.push(image::incomplete().at(name, 1, 1));
            }
        }
        // Those of the policy file in the order of its lines, then those of the lists in the order of the lists.
        diagnostics.sort_by_key(|d| if d.file == *name { (0, d.line, d.column) } else { (1, 0, 0) });
        if diagnostics.iter().any(Diagnostic::is_error) {
            return Err(LoadError { diagnostics });
        }
        ruleset.generation = in_force.generation.saturating_add(1);
        ruleset.prepare(&self.tallies.lanes);
        Ok((ruleset, limits, diagnostics))
    }
}
