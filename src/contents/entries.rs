//! The entries of a list, in columns: a question reads of each only what it needs, so that what it reads stays near the
//! processor.
//!
//! ```text
//!   shapes     length, marks        2 bytes an entry: what a refusal reads of a list that is in memory
//!   subjects   address or place     4 bytes an entry: what a list is compiled from, and what an image is checked by
//!   runs       line, file, note     16 bytes for entries that follow from each other
//! ```

use super::runs::{GrowingRuns, Origin, Runs};
use crate::domain::Form;
use crate::flat::Flat;
use crate::image::{Reader, Stored, Writer};
use crate::memory::room;
use crate::networks::{EntryId, Network};
use bytemuck::{Pod, Zeroable};

/// What it is about, in the marks of an entry.
const KIND: u8 = 0b111;
const HOLE: u8 = 1 << 3;
/// It ceases some time: its note says when.
const ENDS: u8 = 1 << 4;
/// Taken back by a later record.
const DELETED: u8 = 1 << 5;

/// All entries of a list.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    shapes: Flat<Shape>,
    /// Addresses of IPv4 networks; else places of the addresses of IPv6 networks, or of names.
    subjects: Flat<u32>,
    runs: Runs,
}

/// Entries that are being collected.
#[derive(Debug, Default)]
pub(super) struct GrowingEntries {
    shapes: Vec<Shape>,
    subjects: Vec<u32>,
    runs: GrowingRuns,
}

/// What a question reads of an entry first. A range has an entry for each network that it is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Shape {
    /// Length of the prefix, or of the name.
    length: u8,
    /// What it is about, and the marks above.
    marks: u8,
}

// There are millions of them.
const _: () = assert!(size_of::<Shape>() == 2);

/// One entry of a list: its number and its shape. All else its list knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// From 0.
    at: u32,
    shape: Shape,
}

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// What zeros stand for: where a part of an image was not written nobody is refused.
    Nothing,
    V4,
    V6,
    Exact,
    Below,
    Both,
    Mailbox,
}

impl Entries {
    pub(crate) fn len(&self) -> usize {
        self.shapes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.shapes.is_empty()
    }

    /// Whether they lie in an image, which may be damaged.
    pub(super) fn is_mapped(&self) -> bool {
        self.shapes.is_mapped()
    }

    /// The entry with that number, from 1.
    #[inline(always)]
    pub(super) fn get(&self, number: EntryId) -> Option<Entry> {
        let at = number.checked_sub(1)?;
        self.shapes.get(at as usize).map(|shape| Entry { at, shape: *shape })
    }

    /// All of them, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Entry> + Clone {
        (0..).zip(self.shapes.iter()).map(|(at, shape)| Entry { at, shape: *shape })
    }

    /// All of them, in order, each with its subject.
    pub(super) fn with_subjects(&self) -> impl Iterator<Item = (Entry, u32)> + Clone {
        self.iter().zip(self.subjects.iter().copied())
    }

    /// The address of an IPv4 network; else the place of the address of an IPv6 network, or of a name.
    #[inline]
    pub(super) fn subject(&self, entry: Entry) -> Option<u32> {
        self.subjects.get(entry.at as usize).copied()
    }

    /// Where an entry comes from.
    #[inline(always)]
    pub(super) fn origin(&self, entry: Entry) -> Origin {
        self.runs.origin(entry.at)
    }

    /// The line of the first entry, and by how much it goes up with each, if it does so all the way.
    pub(super) fn lines(&self) -> Option<(u32, u8)> {
        self.runs.lines()
    }

    /// The note that all entries have, if they have the same.
    pub(super) fn note_of_all(&self) -> Option<u32> {
        self.runs.note_of_all()
    }

    /// Marks entries as taken back.
    pub(super) fn delete(&mut self, gone: &[Entry]) {
        let mut shapes = self.shapes.to_mut();
        for entry in gone {
            if let Some(shape) = shapes.get_mut(entry.at as usize) {
                shape.marks |= DELETED;
            }
        }
    }
}

impl GrowingEntries {
    pub(super) fn len(&self) -> usize {
        self.shapes.len()
    }

    /// Makes room for some more entries; says whether there is any. Runs ask for theirs one by one.
    pub(super) fn room(&mut self, more: usize) -> bool {
        room(&mut self.shapes, more) && room(&mut self.subjects, more)
    }

    /// Adds an entry for which there is room; false if there was none for where it comes from.
    #[inline]
    pub(super) fn push(&mut self, shape: Shape, subject: u32, origin: Origin) -> bool {
        // No list has more of them than fit.
        let at = u32::try_from(self.shapes.len()).unwrap_or(u32::MAX);
        if !self.runs.push(at, origin) {
            return false;
        }
        self.shapes.push(shape);
        self.subjects.push(subject);
        true
    }

    /// The entries as they will stay; all of them cease some time if they have to `end`.
    pub(super) fn finish(mut self, end: bool) -> Entries {
        if end {
            self.shapes.iter_mut().for_each(|shape| shape.marks |= ENDS);
        }
        self.shapes.shrink_to_fit();
        self.subjects.shrink_to_fit();
        let runs = self.runs.finish(self.shapes.len());
        Entries { shapes: self.shapes.into(), subjects: self.subjects.into(), runs }
    }
}

impl Shape {
    #[inline]
    pub(super) fn new(kind: Kind, length: u8, hole: bool, ends: bool) -> Shape {
        Shape { length, marks: kind as u8 | if hole { HOLE } else { 0 } | if ends { ENDS } else { 0 } }
    }
}

impl Entry {
    /// The entry with that number, from 1, of which it is known that it always counts, and is about an IPv4 network of that length.
    #[inline(always)]
    pub(crate) fn lasting_v4(number: EntryId, length: u8) -> Entry {
        Entry { at: number.wrapping_sub(1), shape: Shape { length, marks: Kind::V4 as u8 } }
    }

    /// The length of its prefix, if it is such an entry.
    pub(crate) fn length_of_lasting_v4(self) -> Option<u8> {
        (self.shape.marks == Kind::V4 as u8).then_some(self.shape.length)
    }

    /// Its number in the list, from 1.
    pub(crate) fn number(self) -> EntryId {
        self.at.wrapping_add(1)
    }

    /// Length of the prefix, or of the name.
    #[inline(always)]
    pub(crate) fn length(self) -> u8 {
        self.shape.length
    }

    /// Whether it is a hole: the list does not cover it.
    pub(crate) fn is_hole(self) -> bool {
        self.shape.marks & HOLE != 0
    }

    /// Whether it ceases some time.
    pub(crate) fn ends(self) -> bool {
        self.shape.marks & ENDS != 0
    }

    /// Whether a later record has taken it back.
    pub(crate) fn is_deleted(self) -> bool {
        self.shape.marks & DELETED != 0
    }

    pub(super) fn network<N>(self, start: N) -> Network<N> {
        Network { start, prefix_len: self.length(), entry: self.number(), hole: self.is_hole(), expires: self.ends() }
    }

    pub(super) fn kind(self) -> Kind {
        match self.shape.marks & KIND {
            1 => Kind::V4,
            2 => Kind::V6,
            3 => Kind::Exact,
            4 => Kind::Below,
            5 => Kind::Both,
            6 => Kind::Mailbox,
            _ => Kind::Nothing,
        }
    }
}

impl Kind {
    /// What an entry about domains of that form is about.
    pub(super) fn of(form: Form) -> Kind {
        match form {
            Form::Exact => Kind::Exact,
            Form::Below => Kind::Below,
            Form::Both => Kind::Both,
        }
    }

    /// The form of the domains that it is about.
    pub(super) fn form(self) -> Option<Form> {
        Some(match self {
            Kind::Exact => Form::Exact,
            Kind::Below => Form::Below,
            Kind::Both => Form::Both,
            Kind::Nothing | Kind::V4 | Kind::V6 | Kind::Mailbox => return None,
        })
    }
}

impl Stored for Entries {
    fn store(&self, image: &mut Writer) {
        self.shapes.store(image);
        self.subjects.store(image);
        self.runs.store(image);
    }

    fn restore(image: &mut Reader) -> Option<Entries> {
        let (shapes, subjects) = (Flat::<Shape>::restore(image)?, Flat::<u32>::restore(image)?);
        let runs = Runs::restore(image)?;
        (shapes.len() == subjects.len()).then_some(Entries { shapes, subjects, runs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An entry as one row.
    #[derive(Clone, Copy, Debug)]
    struct Row {
        shape: Shape,
        subject: u32,
        origin: Origin,
    }

    fn collected(rows: &[Row], end: bool) -> Entries {
        let mut growing = GrowingEntries::default();
        assert!(growing.room(rows.len()));
        for (number, row) in rows.iter().enumerate() {
            assert_eq!(growing.len(), number);
            assert!(growing.push(row.shape, row.subject, row.origin));
        }
        growing.finish(end)
    }

    /// Entries of a list in which one mostly follows from the other.
    fn rows() -> impl Strategy<Value = Vec<Row>> {
        // How often each way to go on is taken, how many entries go on like that, and how far jumps go.
        let step = (0_u8..9, 1_usize..200, 0_u32..4, 0_u32..4, any::<(u8, u8, u32)>());
        prop::collection::vec(step, 0..40).prop_map(|steps| {
            let mut rows = Vec::new();
            let mut origin = Origin { line: 1, note: 0, file: 0 };
            for (way, length, lines, notes, (kind, prefix, subject)) in steps {
                let length = if way < 4 { length } else { length % 4 };
                for entry in 0..length {
                    let shape = Shape { length: prefix, marks: kind & !DELETED };
                    rows.push(Row { shape, subject: subject ^ u32::try_from(entry).unwrap(), origin });
                    let Origin { line, note, file } = origin;
                    origin = match way {
                        0 | 4 => Origin { line: line + 1, ..origin },
                        1 | 5 => Origin { line: line + 1, note: note + 1, file },
                        2 | 6 => origin,
                        3 => Origin { note: note + 1, ..origin },
                        // Notes and files that come back, lines that count anew.
                        7 => Origin { line: lines, note: notes, file: file ^ 1 },
                        _ => Origin { line: line + lines, note: (note + notes) % 3, file },
                    };
                }
            }
            rows
        })
    }

    proptest! {
        #[test]
        fn columns_hold_what_rows_had(rows in rows(), end: bool, gone in prop::collection::vec(any::<prop::sample::Index>(), 0..4)) {
            let mut entries = collected(&rows, end);
            let gone: Vec<usize> = gone.iter().filter(|_| !rows.is_empty()).map(|index| index.index(rows.len())).collect();
            let deleted: Vec<Entry> = gone.iter().map(|at| entries.iter().nth(*at).unwrap()).collect();
            entries.delete(&deleted);
            prop_assert_eq!(entries.len(), rows.len());
            prop_assert_eq!(entries.iter().count(), rows.len());
            for ((at, row), (entry, subject)) in rows.iter().enumerate().zip(entries.with_subjects()) {
                let number = EntryId::try_from(at).unwrap() + 1;
                prop_assert_eq!(entries.get(number), Some(entry));
                prop_assert_eq!(entry.number(), number);
                prop_assert_eq!((subject, entries.subject(entry)), (row.subject, Some(row.subject)));
                prop_assert_eq!(entries.origin(entry), row.origin, "entry {}", at);
                let Shape { length, marks } = row.shape;
                prop_assert_eq!(entry.length(), length);
                prop_assert_eq!((entry.is_hole(), entry.ends()), (marks & HOLE != 0, end || marks & ENDS != 0));
                prop_assert_eq!(entry.is_deleted(), gone.contains(&at));
                prop_assert_eq!(entry.kind() as u8, if marks & KIND > 6 { 0 } else { marks & KIND });
            }
            prop_assert_eq!(entries.get(0), None);
            prop_assert_eq!(entries.get(EntryId::try_from(rows.len()).unwrap() + 1), None);
        }
    }

    #[test]
    fn entries_that_follow_from_each_other_are_one_run() {
        let shape = Shape::new(Kind::V4, 32, false, false);
        let runs = |origin: fn(u32) -> Origin| {
            let rows: Vec<Row> = (0..1000).map(|number| Row { shape, subject: number, origin: origin(number) }).collect();
            collected(&rows, false).runs.count()
        };
        assert_eq!(runs(|number| Origin { line: 7 + number, note: 1, file: 0 }), 1);
        assert_eq!(runs(|number| Origin { line: 7 + number, note: number, file: 0 }), 1, "a reason each");
        assert_eq!(runs(|_| Origin { line: 1, note: 0, file: 0 }), 1, "all on one line");
        assert_eq!(runs(|number| Origin { line: 1, note: number, file: 0 }), 1);
        assert_eq!(runs(|number| Origin { line: 2 + 3 * number, note: number, file: 0 }), 1, "three lines each");
        assert_eq!(runs(|number| Origin { line: number % 500, note: 0, file: u16::from(number >= 500) }), 2, "two files");
        assert_eq!(runs(|number| Origin { line: number + number / 100, note: 0, file: 0 }), 10, "a comment after each hundred lines");
    }

    #[test]
    fn a_damaged_index_finds_nothing_or_another_run() {
        let shape = Shape::new(Kind::V4, 32, false, false);
        let row = |number: u32| Row { shape, subject: number, origin: Origin { line: 3 * number, note: number % 7, file: 0 } };
        let rows: Vec<Row> = (0..1000).map(row).collect();
        let mut runs = collected(&rows, false).runs;
        for wrong in [0, 1, 15, 900, 999, 1000, u32::MAX] {
            for block in 0..16 {
                runs.damage(block, wrong);
                assert!((0..1100).all(|entry| runs.origin(entry).file == 0), "block {block} begins with run {wrong}");
            }
        }
        assert_eq!(runs.origin(u32::MAX), Origin::default());
    }
}
