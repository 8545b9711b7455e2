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
use std::mem;
use std::ops::{Deref, DerefMut};
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
        Some(Flat { values, owner: Owner::Map(self.clone()) })
    }
}

/// An array of plain values.
pub(crate) struct Flat<T: 'static> {
    /// Of the owner. So that a look-up needs not know who that is.
    values: &'static [T],
    owner: Owner<T>,
}

enum Owner<T> {
    Own(Vec<T>),
    Map(Map),
}

impl<T> Flat<T> {
    fn of(own: Vec<T>) -> Flat<T> {
        // SAFETY: a vector keeps its values where they are when it is moved, and nothing changes or frees it without a new
        // array being made of it (`Editing`); they are handed out for no longer than the array lives.
        let values = unsafe { slice::from_raw_parts(own.as_ptr(), own.len()) };
        Flat { values, owner: Owner::Own(own) }
    }

    /// Whether it lies in a file, which may be damaged.
    pub(crate) fn is_mapped(&self) -> bool {
        matches!(self.owner, Owner::Map(_))
    }
}

impl<T: Clone> Flat<T> {
    /// The values as a vector, to change them. Those of a file are copied first.
    pub(crate) fn to_mut(&mut self) -> Editing<'_, T> {
        let own = match &mut self.owner {
            Owner::Own(own) => mem::take(own),
            Owner::Map(_) => self.values.to_vec(),
        };
        // Should the vector never come back, the array is empty.
        *self = Flat::of(Vec::new());
        Editing { own, flat: self }
    }
}

/// The values of an array while they are being changed.
pub(crate) struct Editing<'a, T: 'static> {
    own: Vec<T>,
    flat: &'a mut Flat<T>,
}

impl<T> Deref for Editing<'_, T> {
    type Target = Vec<T>;

    fn deref(&self) -> &Vec<T> {
        &self.own
    }
}

impl<T> DerefMut for Editing<'_, T> {
    fn deref_mut(&mut self) -> &mut Vec<T> {
        &mut self.own
    }
}

impl<T> Drop for Editing<'_, T> {
    fn drop(&mut self) {
        *self.flat = Flat::of(mem::take(&mut self.own));
    }
}

impl<T> Deref for Flat<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        self.values
    }
}

impl<T> From<Vec<T>> for Flat<T> {
    fn from(values: Vec<T>) -> Flat<T> {
        Flat::of(values)
    }
}

impl<T> Default for Flat<T> {
    fn default() -> Flat<T> {
        Flat::of(Vec::new())
    }
}

impl<T: Clone> Clone for Flat<T> {
    fn clone(&self) -> Flat<T> {
        match &self.owner {
            Owner::Own(own) => Flat::of(own.clone()),
            Owner::Map(map) => Flat { values: self.values, owner: Owner::Map(map.clone()) },
        }
    }
}

impl<T> fmt::Debug for Flat<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} values", self.len())?;
        match &self.owner {
            Owner::Own(_) => f.write_str("]"),
            Owner::Map(map) => write!(f, " of a file of {} bytes]", map.bytes().len()),
        }
    }
}
