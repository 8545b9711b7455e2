//! The directory in which the daemon keeps its bans. One daemon at a time: it is locked, not by a file that could be left
//! behind, but by the system.

use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What a journal needs of a directory. In tests a simulated one, which loses power.
pub(crate) trait Disk {
    /// A file that is open for appending.
    type File;

    /// What a file has; `None` if there is none.
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>>;
    /// Opens a file that is there.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// Makes an empty file, in the place of another one if need be.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    /// Writes behind what is there.
    fn append(&self, file: &mut Self::File, bytes: &[u8]) -> io::Result<()>;
    /// Returns when all that was written to a file is on disk.
    fn sync(&self, file: &Self::File) -> io::Result<()>;
    /// Gives a file another name, also if there is one of that name: that one is gone.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Gives a file a second name, which no other has.
    fn keep(&self, name: &str, second: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Returns when all names are on disk.
    fn sync_names(&self) -> io::Result<()>;
    /// A file as messages name it.
    fn show(&self, name: &str) -> String;
}

/// A directory that is ours as long as this lives.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    file: Flock<File>,
}

impl Directory {
    /// Takes possession of a directory, and makes it if there is none. The error says what is wrong and what to do.
    pub(crate) fn take(path: &Path) -> Result<Directory, String> {
        let cannot = |error: io::Error| {
            let remedy = "name a directory in which the daemon may write, with --state";
            format!("cannot keep bans in {}: {error}; {remedy}", path.display())
        };
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => {
                // The name of the new directory stands in the one above.
                let above = path.canonicalize().map_err(cannot)?;
                above.parent().map_or(Ok(()), |above| File::open(above)?.sync_all()).map_err(cannot)?;
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(cannot(error)),
        }
        let file = File::open(path).map_err(cannot)?;
        if !file.metadata().map_err(cannot)?.is_dir() {
            return Err(cannot(ErrorKind::NotADirectory.into()));
        }
        match Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| io::Error::from(error)) {
            Ok(file) => Ok(Directory { path: path.into(), file }),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                Err(format!("another daemon keeps its bans in {}; stop it, or choose another directory with --state", path.display()))
            }
            Err(error) => Err(cannot(error)),
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Disk for Directory {
    type File = File;

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.at(name)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    fn open(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().append(true).open(self.at(name))
    }

    fn create(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(self.at(name))
    }

    fn append(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.at(from), self.at(to))
    }

    fn keep(&self, name: &str, second: &str) -> io::Result<()> {
        match fs::hard_link(self.at(name), self.at(second)) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                // Not every file system has second names.
                let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.at(second))?;
                io::copy(&mut File::open(self.at(name))?, &mut copy)?;
                copy.sync_all()
            }
            kept => kept,
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.at(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn show(&self, name: &str) -> String {
        self.at(name).display().to_string()
    }
}
