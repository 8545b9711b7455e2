//! Files in memory, all of the same age, and a clock that stands still.

#![allow(dead_code, reason = "each program that includes this module uses only a part of it")]

use mxgate::Files;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{self, BufRead};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds of the day on which these tests play: 2027-01-15T08:00:00Z.
pub(crate) const NOW: u64 = 1_800_000_000;

pub(crate) struct Memory {
    files: RefCell<HashMap<String, Vec<u8>>>,
    pub(crate) modified: Cell<u64>,
}

impl Memory {
    pub(crate) fn new() -> Memory {
        Memory { files: RefCell::default(), modified: Cell::new(NOW) }
    }

    pub(crate) fn put(&self, name: &str, text: impl AsRef<[u8]>) {
        self.files.borrow_mut().insert(name.into(), text.as_ref().to_vec());
    }

    pub(crate) fn remove(&self, name: &str) {
        self.files.borrow_mut().remove(name);
    }
}

impl Files for Memory {
    fn display(&self, name: &str) -> String {
        name.into()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn BufRead + '_>> {
        let text = self.files.borrow().get(name).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(io::Cursor::new(text)))
    }

    fn modified(&self, _: &str) -> Option<SystemTime> {
        Some(UNIX_EPOCH + Duration::from_secs(self.modified.get()))
    }

    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW)
    }
}
