//! A compiled policy as a file: the arrays of a ruleset as they are in memory, so that any number of processes map it and
//! share one copy.
//!
//! ```text
//!   header  64 bytes: mark, format, byte order, length of the file, place of the index, two checksums
//!   body    the arrays, each at a multiple of 64 bytes
//!   index   the text of the policy, names, numbers, and the place of each array, in the order in which they are read back
//! ```
//!
//! An image is written aside, brought to disk, and renamed: who has the old one mapped keeps it. It is good for the format that
//! its header names, which changes with the layout of any array, and for processors of the same byte order. Header and
//! index are always checked before anything is read, and so is each array's place. The checksum of the body takes time in
//! proportion to its size, so that one way of opening leaves it out: whoever starts often, and has had the file checked once.
//! Even then a damaged body refuses nobody whom no entry of a list has that refuses: offsets are checked at each step of a
//! look-up, an entry refuses nobody whom its own network or name does not have, and what refuses whom it does not find
//! (`[relay]`) is made of the text of the policy. It may overlook entries, and with them holes and allow lists.

mod ruleset;

pub(crate) use ruleset::{Restored, restore, store};

use crate::diagnostic::Fault;
use crate::flat::{Flat, Map};
use bytemuck::{Pod, Zeroable};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process;

/// What every image begins with. The line ends show a file that was transferred as text.
pub(crate) const MARK: [u8; 8] = *b"mxgate\r\n";
/// The layout of this release.
const FORMAT: u32 = 8;
/// As written by a processor that writes it.
const BYTE_ORDER: u32 = 0x0102_0304;
/// Arrays begin at multiples of this.
const ALIGNMENT: usize = 64;
/// Longest text, longest index: what a policy can have, with a margin.
const MAX_INDEX: u64 = 1 << 28;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Header {
    mark: [u8; 8],
    format: u32,
    byte_order: u32,
    /// Of the whole file.
    length: u64,
    index_at: u64,
    index_length: u64,
    /// CRC-32 of what lies between header and index, and of the index.
    body_sum: u32,
    index_sum: u32,
    /// CRC-32 of the header with 0 here.
    header_sum: u32,
    unused: [u32; 3],
}

const _: () = assert!(size_of::<Header>() == 64);

/// What an image is made of.
pub(crate) trait Stored: Sized {
    fn store(&self, image: &mut Writer);
    /// `None` if the image is damaged.
    fn restore(image: &mut Reader) -> Option<Self>;
}

/// An image that is being written. What goes wrong is told at the end.
pub(crate) struct Writer {
    out: BufWriter<File>,
    at: u64,
    sum: crc32fast::Hasher,
    index: Vec<u8>,
    failed: Option<io::Error>,
}

impl Writer {
    fn write(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.failed = self.out.write_all(bytes).err();
            self.sum.update(bytes);
            self.at += bytes.len() as u64;
        }
    }

    fn align(&mut self) {
        const ZEROS: [u8; ALIGNMENT] = [0; ALIGNMENT];
        let over = usize::try_from(self.at).unwrap_or(0) % ALIGNMENT;
        let gap = ZEROS.get(over..).filter(|_| over > 0).unwrap_or(&[]);
        self.write(gap);
    }

    pub(crate) fn number(&mut self, number: u64) {
        self.index.extend(number.to_ne_bytes());
    }

    pub(crate) fn option(&mut self, number: Option<u64>) {
        self.number(number.is_some().into());
        self.number(number.unwrap_or(0));
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.index.extend(text.as_bytes());
    }

    pub(crate) fn values<T: Pod>(&mut self, values: &[T]) {
        self.align();
        self.number(self.at);
        self.number(values.len() as u64);
        self.write(bytemuck::cast_slice(values));
    }
}

/// An image that is being read.
pub(crate) struct Reader {
    map: Map,
    at: usize,
    end: usize,
}

impl Reader {
    fn take(&mut self, length: usize) -> Option<&[u8]> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.end)?;
        let taken = self.map.bytes().get(self.at..end);
        self.at = end;
        taken
    }

    pub(crate) fn number(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_ne_bytes)
    }

    /// A number that may not be there; `None` if the image is damaged.
    pub(crate) fn option(&mut self) -> Option<Option<u64>> {
        let (is_there, number) = (self.number()?, self.number()?);
        Some((is_there != 0).then_some(number))
    }

    pub(crate) fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.number()?).ok()?;
        String::from_utf8(self.take(length)?.to_vec()).ok()
    }

    pub(crate) fn values<T: Pod>(&mut self) -> Option<Flat<T>> {
        let (at, count) = (self.number()?, self.number()?);
        self.map.values(at, count)
    }

    /// Whether all has been read.
    pub(crate) fn is_at_end(&self) -> bool {
        self.at == self.end
    }
}

/// Writes an image: aside, to disk, and then into its place.
pub(crate) fn write(path: &Path, store: impl FnOnce(&mut Writer)) -> Result<u64, Fault> {
    let unwritable = |error: io::Error| {
        Fault::io(format!("cannot write {}: {error}", path.display()), "check the directory, its room, and who may write there")
    };
    check_replaceable(path)?;
    let (aside, file) = create_aside(path).map_err(unwritable)?;
    let written = write_to(file, store).and_then(|length| fs::rename(&aside, path).map(|()| length));
    match written {
        Ok(length) => {
            // The name, too, has to be on disk. Some file systems cannot tell.
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let _ = File::open(directory).and_then(|directory| directory.sync_all());
            Ok(length)
        }
        Err(error) => {
            let _ = fs::remove_file(&aside);
            Err(unwritable(error))
        }
    }
}

/// What is there already has to be an older image, or empty: a policy that is named by mistake is not lost.
fn check_replaceable(path: &Path) -> Result<(), Fault> {
    let Ok(metadata) = fs::metadata(path) else { return Ok(()) };
    let mut mark = Vec::new();
    if metadata.is_file() {
        // If it cannot be read, the directory says whether it can be replaced.
        let _ = File::open(path).and_then(|file| file.take(MARK.len() as u64).read_to_end(&mut mark));
    }
    if metadata.is_file() && (mark.is_empty() || mark == MARK) {
        return Ok(());
    }
    let cause = format!("{} is there already, and it is no image", path.display());
    Err(Fault::io(cause, "name another file for the image, or remove this one first"))
}

/// A file beside another one, under a name that nobody else has.
fn create_aside(path: &Path) -> io::Result<(PathBuf, File)> {
    let mut number = 0_u32;
    loop {
        let mut name = OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".{}.{number}", process::id()));
        let aside = path.with_file_name(name);
        match OpenOptions::new().write(true).create_new(true).open(&aside) {
            // Of another thread, or left over from a process of that number that did not end well.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 1000 => number += 1,
            opened => return opened.map(|file| (aside, file)),
        }
    }
}

fn write_to(file: File, store: impl FnOnce(&mut Writer)) -> io::Result<u64> {
    let mut writer = Writer { out: BufWriter::new(file), at: 0, sum: crc32fast::Hasher::new(), index: Vec::new(), failed: None };
    let mut header = Header { mark: MARK, format: FORMAT, byte_order: BYTE_ORDER, ..Header::zeroed() };
    writer.write(bytemuck::bytes_of(&Header::zeroed()));
    writer.sum = crc32fast::Hasher::new();
    store(&mut writer);
    writer.align();
    header.body_sum = writer.sum.clone().finalize();
    header.index_at = writer.at;
    header.index_length = writer.index.len() as u64;
    header.index_sum = crc32fast::hash(&writer.index);
    let index = std::mem::take(&mut writer.index);
    writer.write(&index);
    if let Some(error) = writer.failed {
        return Err(error);
    }
    header.length = writer.at;
    header.header_sum = header.sum();
    let mut file = writer.out.into_inner().map_err(io::IntoInnerError::into_error)?;
    io::Seek::rewind(&mut file)?;
    file.write_all(bytemuck::bytes_of(&header))?;
    file.sync_all()?;
    Ok(header.length)
}

impl Header {
    fn sum(&self) -> u32 {
        crc32fast::hash(bytemuck::bytes_of(&Header { header_sum: 0, ..*self }))
    }
}

/// Opens an image. If it is not to be `verified` whole, the checksum of its body is left out.
pub(crate) fn open(file: &File, verified: bool) -> Result<Reader, Fault> {
    let damaged = |what: &str| Fault::new(format!("the image is damaged: {what}"), "make it again from its policy: mxgate compile");
    let unreadable = |error| Fault::io(format!("cannot map the image: {error}"), "check that it is a file, and who may read it");
    let map = Map::of(file).map_err(unreadable)?;
    let bytes = map.bytes();
    if !bytes.starts_with(&MARK) {
        return Err(Fault::new("the file is no image of a policy", "name one that mxgate compile has written"));
    }
    let header = bytes.get(..size_of::<Header>()).ok_or_else(|| damaged("it ends in its header"))?;
    let header: Header = bytemuck::pod_read_unaligned(header);
    if header.byte_order == BYTE_ORDER.swap_bytes() {
        return Err(Fault::new("the image was made on a processor of the other byte order", "make it on this one: mxgate compile"));
    }
    if header.format != FORMAT {
        let cause = format!("the image has format {}, and this release reads format {FORMAT}", header.format);
        return Err(Fault::new(cause, "make it again with this release: mxgate compile"));
    }
    if header.byte_order != BYTE_ORDER || header.header_sum != header.sum() {
        return Err(damaged("the checksum of its header is wrong"));
    }
    if header.length != bytes.len() as u64 {
        return Err(damaged(&format!("it has {} bytes of {}", bytes.len(), header.length)));
    }
    let place = |at: u64| usize::try_from(at).ok();
    let index = place(header.index_at).zip(header.index_at.checked_add(header.index_length).and_then(place));
    let index = index.filter(|_| header.index_length <= MAX_INDEX);
    let (at, end) = index.ok_or_else(|| damaged("its index is out of place"))?;
    let (body, index) = (bytes.get(size_of::<Header>()..at), bytes.get(at..end));
    let (Some(body), Some(index)) = (body, index) else { return Err(damaged("its index is out of place")) };
    if crc32fast::hash(index) != header.index_sum {
        return Err(damaged("the checksum of its index is wrong"));
    }
    if verified && crc32fast::hash(body) != header.body_sum {
        return Err(damaged("the checksum of its body is wrong"));
    }
    Ok(Reader { map, at, end })
}

/// What to say if an index does not hold what it should.
pub(crate) fn incomplete() -> Fault {
    Fault::new("the image is damaged: its index does not hold what it should", "make it again from its policy: mxgate compile")
}

impl<T: Pod> Stored for Flat<T> {
    fn store(&self, image: &mut Writer) {
        image.values(self);
    }

    fn restore(image: &mut Reader) -> Option<Flat<T>> {
        image.values()
    }
}
