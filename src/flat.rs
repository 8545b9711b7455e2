//! An array that is ours, or lies in a file that is mapped into memory: whoever reads it does not know which.
//!
//! Only plain numbers can be read from a file like this, whatever they are (`bytemuck::Pod`: no gaps, no forbidden values), so
//! that a damaged file is a matter of wrong answers, never of undefined behaviour. A file that somebody makes shorter while it is
//! mapped ends the process with SIGBUS, as with every program that maps files; hence an image is replaced as a whole, under
//! another name first (`image/`).

#![expect(unsafe_code, reason = "a map is memory that another process could change; the blocks say why it is right")]

use bytemuck::Pod;
use memmap2::Mmap;
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::ptr;
use std::slice;
use std::sync::Arc;

/// A file that is mapped to be read.
#[derive(Clone, Debug)]
pub(crate) struct Map(Arc<Mmap>);

impl Map {
    /// Maps a whole file.
    pub(crate) fn of(file: &File) -> io::Result<Map> {
        // SAFETY: the map is read only. That nobody writes into the file is what the one who made it has to see to, as the
        // documentation of images says; all that is read from it are numbers, and every offset is checked.
        unsafe { Mmap::map(file) }.map(|map| Map(Arc::new(map)))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// So many values from a place in it; `None` if it has not so many there, or they lie askew.
    pub(crate) fn values<T: Pod>(&self, at: u64, count: u64) -> Option<Flat<T>> {
        let at = usize::try_from(at).ok()?;
        let length = usize::try_from(count).ok()?.checked_mul(size_of::<T>())?;
        let bytes = self.bytes().get(at..at.checked_add(length)?)?;
        let values: &[T] = bytemuck::try_cast_slice(bytes).ok()?;
        // SAFETY: the values lie in the map, which lives as long as the array that has it; they are handed out for no longer.
        let values = unsafe { slice::from_raw_parts(ptr::from_ref(values).cast(), values.len()) };
        Some(Flat(Place::Mapped { values, map: self.clone() }))
    }
}

/// An array of plain values.
#[derive(Clone)]
pub(crate) struct Flat<T: 'static>(Place<T>);

#[derive(Clone)]
enum Place<T: 'static> {
    Own(Vec<T>),
    Mapped {
        /// Of the map that stands beside it.
        values: &'static [T],
        map: Map,
    },
}

impl<T> Deref for Flat<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        match &self.0 {
            Place::Own(values) => values,
            Place::Mapped { values, .. } => values,
        }
    }
}

impl<T: Clone> Flat<T> {
    /// The values as a vector, to add some. Those of a file are copied first.
    pub(crate) fn to_mut(&mut self) -> &mut Vec<T> {
        if let Place::Mapped { values, .. } = &self.0 {
            self.0 = Place::Own(values.to_vec());
        }
        match &mut self.0 {
            Place::Own(values) => values,
            Place::Mapped { .. } => unreachable!("replaced above"),
        }
    }
}

impl<T> From<Vec<T>> for Flat<T> {
    fn from(values: Vec<T>) -> Flat<T> {
        Flat(Place::Own(values))
    }
}

impl<T> Default for Flat<T> {
    fn default() -> Flat<T> {
        Vec::new().into()
    }
}

impl<T> fmt::Debug for Flat<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} values", self.len())?;
        match &self.0 {
            Place::Own(_) => f.write_str("]"),
            Place::Mapped { map, .. } => write!(f, " of a file of {} bytes]", map.bytes().len()),
        }
    }
}
