//! Files on disk: those that a policy names, and what they were like when they were read, so that a change is seen.

use crate::compile::Files;
use crate::reply::clean;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// What a host has given for lists, in place of what the policy names, by the name of the list.
pub(crate) type Given = BTreeMap<String, Arc<[u8]>>;

/// Files on disk; relative names count from `base`. Remembers what it was asked for.
pub(crate) struct Disk<'a> {
    base: PathBuf,
    given: &'a Given,
    progress: fn(&str, u64),
    seen: RefCell<Vec<Seen>>,
}

/// What was found under a name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Seen {
    /// A file; `None` if there was none.
    File(PathBuf, Option<Stamp>),
    /// The files of a directory or a pattern, by a name that counts from a directory.
    Names(PathBuf, String, Vec<String>),
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    place: (u64, u64),
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Stamp {
        Stamp {
            place: (metadata.dev(), metadata.ino()),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            // An owner can set back the time of modification, not this one.
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Seen {
    /// Whether it would be found otherwise now.
    pub(crate) fn has_changed(&self) -> bool {
        match self {
            Seen::File(path, stamp) => fs::metadata(path).ok().map(|metadata| Stamp::of(&metadata)) != *stamp,
            Seen::Names(base, name, names) => expand(base, name).ok().as_ref() != Some(names),
        }
    }
}

impl<'a> Disk<'a> {
    pub(crate) fn new(base: &Path, given: &'a Given, progress: fn(&str, u64)) -> Disk<'a> {
        Disk { base: base.to_path_buf(), given, progress, seen: RefCell::default() }
    }

    /// Opens a file, and remembers what it was like.
    pub(crate) fn open_file(&self, path: &Path) -> io::Result<File> {
        let opened = File::open(path).and_then(|file| Ok((Stamp::of(&file.metadata()?), file)));
        let stamp = opened.as_ref().ok().map(|(stamp, _)| *stamp);
        self.seen.borrow_mut().push(Seen::File(path.to_path_buf(), stamp));
        opened.map(|(_, file)| file)
    }

    /// What was found under the names that it was asked for.
    pub(crate) fn into_seen(self) -> Vec<Seen> {
        self.seen.into_inner()
    }
}

impl Files for Disk<'_> {
    fn display(&self, name: &str) -> String {
        // A path may contain what a terminal takes for a command.
        clean(self.base.join(name).to_string_lossy().as_bytes()).to_string()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn BufRead + '_>> {
        Ok(Box::new(BufReader::with_capacity(1 << 16, self.open_file(&self.base.join(name))?)))
    }

    fn expand(&self, name: &str) -> io::Result<Vec<String>> {
        let names = expand(&self.base, name);
        let found = names.as_ref().map(Clone::clone).unwrap_or_default();
        self.seen.borrow_mut().push(Seen::Names(self.base.clone(), name.to_owned(), found));
        names
    }

    fn given(&self, list: &str) -> Option<Box<dyn BufRead + '_>> {
        self.given.get(list).map(|text| Box::new(&**text) as Box<dyn BufRead + '_>)
    }

    fn progress(&self, list: &str, lines: u64) {
        (self.progress)(list, lines);
    }

    fn modified(&self, name: &str) -> Option<SystemTime> {
        fs::metadata(self.base.join(name)).and_then(|metadata| metadata.modified()).ok()
    }
}

/// A directory stands for its files, but for hidden ones; a name with `*`, `?` or `[` for those that match; any other
/// for itself.
fn expand(base: &Path, name: &str) -> io::Result<Vec<String>> {
    let path = base.join(name);
    let found: Vec<PathBuf> = if path.is_dir() {
        fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?
    } else if name.contains(['*', '?', '[']) && !path.exists() {
        // The directory is no pattern, whatever its name has in it.
        let base = glob::Pattern::escape(&base.to_string_lossy());
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
