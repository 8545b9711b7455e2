//! The table of names: what covers a name, and what covers those below it.
//!
//! Which rule wins at a name and below it is settled when the table is built, inheritance included. A question walks the
//! labels of its name once, from the right, and the longest suffix that it finds decides.
//!
//! ```text
//!   hash of "example.org"
//!         |
//!         v
//!   buckets  |tags, places in `names`, passed|tags, places in `names`, passed|...          64 bytes each: one cache line
//!                          |
//!                          v
//!   names    |what covers the name|what covers those below|11|example.org|...              a byte after the other
//! ```
//!
//! A bucket has a tag, a byte of the hash, for each of twelve names; a name that found its bucket full went to the next one
//! and left a mark in those that it passed. A name that is not there costs one cache line, one that is there two. Numbers of
//! labels that no name has are not looked up at all. Where one entry covers a name, and it is about that name and always counts, a
//! bit of the cover says so: then its text is known, and a refusal does not read the entry.
//!
//! All of it is flat, with places in the place of pointers: the same bytes can be read from a file by another process. What
//! is read is checked, so that a damaged table covers less than it should, or something else, but harms nobody.
//!
//! Names come from the administrator and from feeds, questions from strangers: the hash is seeded at random for each table.
//! It is that of the RapidHash V3 family, whose output is specified, over each label; the hash of a name is made of those of
//! its labels, so that no byte is hashed twice for its suffixes.

use super::{Form, Place};
use crate::bytes::are_same;
use crate::diagnostic::Fault;
use crate::flat::Flat;
use crate::image::{Reader, Stored, Writer};
use crate::memory::{Watch, ran_out, room, with_room};
use crate::networks::Cover;
use crate::resolve::Candidate;
use bytemuck::{Pod, Zeroable, bytes_of, cast};
use memchr::memchr;
use rapidhash::v3::{RapidSecrets, rapidhash_v3_nano_inline};
use std::hash::{BuildHasher, Hasher, RandomState};
use wide::{CmpEq, i8x16};

/// All names of one table together, in bytes: places are 32 bits wide.
const MAX_NAMES: usize = u32::MAX as usize;
/// Names that a bucket has room for.
const SLOTS: usize = 12;
/// Names in a bucket on average; then one in fifteen buckets is passed by a name.
const LOAD: usize = 8;
/// Bytes before a name: its two covers and its length.
const HEAD: usize = 9;
/// The bit of a cover that says more: it is one entry that always counts, and about that very name. Its form is [`Form::Both`] if
/// both covers are the same.
const TOLD: u32 = 1 << 31;
/// The number of labels of a name that has none: an address literal or a mailbox.
const APART: u32 = 0;

/// Names, and what covers them; ready to be asked.
#[derive(Clone, Debug)]
pub struct DomainTable {
    buckets: Flat<Bucket>,
    /// The names, each behind its covers and its length.
    names: Flat<u8>,
    /// How many there are.
    count: u32,
    /// Which numbers of labels there are, as [`labels_bit`] has them.
    labels: u64,
    /// The seed of the hash.
    seed: u64,
    /// What the hash makes of its seed.
    secrets: RapidSecrets,
}

/// Where to find some of the names.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C, align(64))]
struct Bucket {
    /// A byte of the hash of each name; 0 for none.
    tags: [u8; SLOTS],
    /// Where in `names` they stand.
    places: [u32; SLOTS],
    /// Marks of the names that went on to the next bucket.
    passed: u32,
}

/// A name of the table.
struct Found<'a> {
    place: usize,
    at: Cover,
    below: Cover,
    /// Whether the covers are told more of.
    told: [bool; 2],
    name: &'a [u8],
}

/// What covers a name.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Covered {
    pub cover: Cover,
    /// The form of the entry, if it is one that always counts, and is about the last bytes of the name, so many.
    pub form: Option<Form>,
    pub length: usize,
}

impl Found<'_> {
    /// Where the next name stands.
    fn end(&self) -> usize {
        self.place + HEAD + self.name.len()
    }

    /// What covers this name itself, or those below it. It is that suffix, whose length is known before the name is read.
    #[inline(always)]
    fn covered(&self, suffix: &Suffix<'_>, itself: bool) -> Covered {
        let [told_at, told_below] = self.told;
        let (cover, told, own_form) = if itself { (self.at, told_at, Form::Exact) } else { (self.below, told_below, Form::Below) };
        let form = told.then_some(if self.at == self.below { Form::Both } else { own_form });
        Covered { cover, form, length: suffix.name.len() }
    }
}

/// A suffix of a name: how many labels it has, and its hash.
struct Suffix<'a> {
    labels: u32,
    name: &'a [u8],
    hash: u64,
}

impl Default for DomainTable {
    fn default() -> DomainTable {
        // Its own source of random numbers is not open to others, so it comes from what the hash tables of std use.
        let seed = RandomState::new().build_hasher().finish();
        DomainTable { buckets: Flat::default(), names: Flat::default(), count: 0, labels: 0, seed, secrets: RapidSecrets::seed(seed) }
    }
}

impl DomainTable {
    /// What covers a domain or an address literal.
    pub(crate) fn get(&self, place: Place<'_>) -> Cover {
        self.look_up(place).cover
    }

    /// As [`DomainTable::get`], and what the table tells of the entry.
    pub(crate) fn look_up(&self, place: Place<'_>) -> Covered {
        if place.starts_with(b"[") {
            return Covered { cover: self.get_apart(&place), ..Covered::default() };
        }
        let mut covered = Covered::default();
        for suffix in self.suffixes(place) {
            let bit = labels_bit(suffix.labels);
            if self.labels < bit {
                break;
            }
            if self.labels & bit != 0
                && let Some(found) = self.find(&suffix)
            {
                covered = found.covered(&suffix, suffix.name.len() == place.len());
            }
        }
        covered
    }

    /// What covers a mailbox or an address literal.
    pub(crate) fn get_apart(&self, name: &[u8]) -> Cover {
        self.find(&self.apart(name)).map_or(Cover::NONE, |found| found.at)
    }

    /// Whether it has mailboxes or address literals.
    pub(crate) fn has_apart(&self) -> bool {
        self.labels & labels_bit(APART) != 0
    }

    /// How many names the table has.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether the table has no name.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The suffixes of a domain, shortest first.
    fn suffixes<'a>(&self, place: Place<'a>) -> impl Iterator<Item = Suffix<'a>> {
        let (mut labels, mut hash, mut rest) = (0, self.seed, Some(place));
        std::iter::from_fn(move || {
            let (label, before) = rest?.split_last();
            (labels, hash, rest) = (labels + 1, joined(hash, self.hash(label)), before);
            Some(Suffix { labels, name: place.as_bytes().get(before.map_or(0, |before| before.len() + 1)..)?, hash })
        })
    }

    /// A name that has no labels.
    fn apart<'a>(&self, name: &'a [u8]) -> Suffix<'a> {
        Suffix { labels: APART, name, hash: joined(self.seed, self.hash(name)) }
    }

    fn hash(&self, label: &[u8]) -> u64 {
        rapidhash_v3_nano_inline::<true, false>(label, &self.secrets)
    }

    #[inline(always)]
    fn find(&self, suffix: &Suffix<'_>) -> Option<Found<'_>> {
        // No more buckets than there are, whatever marks they have.
        for bucket in self.buckets_of(suffix.hash).take(self.buckets.len()) {
            let bucket = self.buckets.get(bucket)?;
            let found =
                bucket.places_of(tag(suffix.hash)).find_map(|place| self.name(place).filter(|found| are_same(found.name, suffix.name)));
            if found.is_some() || bucket.passed & mark(suffix.hash) == 0 {
                return found;
            }
        }
        None
    }

    /// The numbers of the buckets in which a name may be, in order.
    fn buckets_of(&self, hash: u64) -> impl Iterator<Item = usize> + use<> {
        let buckets = self.buckets.len();
        // The upper half of the hash, scaled to the number of buckets. There are fewer of them than 2^32.
        let first = usize::try_from(((hash >> 32) * buckets as u64) >> 32).unwrap_or(0);
        std::iter::successors(Some(first), move |bucket| Some(if bucket + 1 < buckets { bucket + 1 } else { 0 }))
    }

    /// The name that stands at a place.
    fn name(&self, place: usize) -> Option<Found<'_>> {
        let (head, rest) = self.names.get(place..)?.split_first_chunk::<HEAD>()?;
        let (covers, [length]) = head.split_first_chunk()? else { return None };
        let name = rest.get(..usize::from(*length))?;
        let covers = cast::<[u8; 8], [u32; 2]>(*covers);
        let [at, below] = covers.map(|cover| Cover::of_number(cover & !TOLD));
        Some(Found { place, at, below, told: covers.map(|cover| cover & TOLD != 0), name })
    }

    /// All names, in the order in which they were added.
    fn all(&self) -> impl Iterator<Item = Found<'_>> {
        std::iter::successors(self.name(0), |found| self.name(found.end()))
    }

    fn set_covers(&mut self, place: usize, covers: [u32; 2]) {
        if let Some(bytes) = self.names.to_mut().get_mut(place..).and_then(<[u8]>::first_chunk_mut) {
            *bytes = cast::<[u32; 2], [u8; 8]>(covers);
        }
    }

    /// Adds a name that is not there. Says where it stands.
    fn insert(&mut self, suffix: &Suffix<'_>) -> Result<usize, Fault> {
        let full = || Fault::limit("the names of all domain lists together are too long", format!("keep them below {MAX_NAMES} bytes"));
        let (place, length) = (self.names.len(), u8::try_from(suffix.name.len()).map_err(|_| full())?);
        let number = u32::try_from(place + HEAD + suffix.name.len()).and(u32::try_from(place)).map_err(|_| full())?;
        if self.buckets.is_empty() || !room(&mut self.names.to_mut(), HEAD + suffix.name.len()) {
            return Err(ran_out());
        }
        for bucket in self.buckets_of(suffix.hash).take(self.buckets.len()) {
            let mut buckets = self.buckets.to_mut();
            let Some(bucket) = buckets.get_mut(bucket) else { break };
            if let Some((tag_of_slot, place_of_slot)) = bucket.tags.iter_mut().zip(&mut bucket.places).find(|(tag, _)| **tag == 0) {
                (*tag_of_slot, *place_of_slot) = (tag(suffix.hash), number);
                let mut names = self.names.to_mut();
                names.extend_from_slice(&[0; HEAD - 1]);
                names.push(length);
                names.extend_from_slice(suffix.name);
                self.labels |= labels_bit(suffix.labels);
                self.count += 1;
                return Ok(place);
            }
            bucket.passed |= mark(suffix.hash);
        }
        Err(full())
    }
}

impl Stored for DomainTable {
    fn store(&self, image: &mut Writer) {
        let DomainTable { buckets, names, count, labels, seed, secrets: _ } = self;
        buckets.store(image);
        names.store(image);
        [u64::from(*count), *labels, *seed].into_iter().for_each(|number| image.number(number));
    }

    fn restore(image: &mut Reader) -> Option<DomainTable> {
        let (buckets, names) = (Flat::restore(image)?, Flat::restore(image)?);
        let count = u32::try_from(image.number()?).ok()?;
        let (labels, seed) = (image.number()?, image.number()?);
        Some(DomainTable { buckets, names, count, labels, seed, secrets: RapidSecrets::seed(seed) })
    }
}

impl Bucket {
    /// Where the names stand that have a tag, and perhaps others: all twelve are compared at once.
    #[inline(always)]
    fn places_of(&self, tag: u8) -> impl Iterator<Item = usize> {
        let tags: i8x16 = bytes_of(self).first_chunk().copied().map(cast::<[u8; 16], _>).unwrap_or_default();
        let mut equal = tags.cmp_eq(i8x16::splat(tag.cast_signed())).move_mask();
        std::iter::from_fn(move || {
            let slot = equal.trailing_zeros();
            equal &= equal.wrapping_sub(1);
            // Behind the tags there is something else, and behind the last place nothing.
            self.places.get(slot as usize).map(|place| *place as usize)
        })
    }
}

/// Whether a name is a mailbox or an address literal.
fn stands_apart(name: &[u8]) -> bool {
    name.starts_with(b"[") || memchr(b'@', name).is_some()
}

/// The hash of a name that has a label in front of another.
fn joined(above: u64, label: u64) -> u64 {
    (above.rotate_left(32) ^ label).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// A bit for a number of labels; all large ones have one together.
fn labels_bit(labels: u32) -> u64 {
    1 << labels.min(u64::BITS - 1)
}

/// A byte of the hash that does not say which bucket; never 0.
fn tag(hash: u64) -> u8 {
    let [byte, ..] = hash.to_le_bytes();
    byte.max(1)
}

/// Another five bits of the hash, as a mark in the buckets that a name passes.
fn mark(hash: u64) -> u32 {
    1 << (hash >> 8 & 31)
}

/// A table in the making: what the policy says about each name.
#[derive(Debug)]
pub(crate) struct DomainTableBuilder {
    /// For each name the number of the last entry that is about it, in the place of its cover.
    table: DomainTable,
    own: Vec<Own>,
}

/// An entry, and the number from 1 of the one before it about the same name; 0 if there is none.
#[derive(Clone, Copy, Debug)]
struct Own {
    candidate: Candidate,
    form: Form,
    before: u32,
}

impl DomainTableBuilder {
    /// For so many entries at most, whose names have so many bytes.
    pub(crate) fn new(entries: usize, bytes: usize) -> DomainTableBuilder {
        let number = if entries == 0 { 0 } else { entries / LOAD + 1 };
        let (mut buckets, names, own): (Vec<Bucket>, Vec<u8>, _) =
            (with_room(number), with_room(bytes + entries * HEAD), with_room(entries));
        // Without room nothing can be added.
        if buckets.capacity() >= number {
            buckets.resize(number, Bucket::default());
        }
        DomainTableBuilder { table: DomainTable { buckets: buckets.into(), names: names.into(), ..DomainTable::default() }, own }
    }

    /// Adds an entry.
    pub(crate) fn add(&mut self, form: Form, name: &[u8], candidate: Candidate) -> Result<(), Fault> {
        let table = &self.table;
        let whole = if stands_apart(name) { None } else { table.suffixes(name.into()).last() }.unwrap_or_else(|| table.apart(name));
        let (place, before) = match table.find(&whole) {
            Some(found) => (found.place, found.at.number()),
            None => (self.table.insert(&whole)?, 0),
        };
        if !room(&mut self.own, 1) {
            return Err(ran_out());
        }
        self.own.push(Own { candidate, form, before });
        // As many entries as there can be have numbers.
        let number = u32::try_from(self.own.len()).unwrap_or(0);
        self.table.set_covers(place, [number, 0]);
        Ok(())
    }

    /// Settles what covers each name and the names below it: the earliest list; inside one list the most specific
    /// entry, of two that are alike a hole, else the first. `cover` makes one cover of the candidates in that order.
    pub(crate) fn finish(mut self, mut cover: impl FnMut(&[Candidate]) -> Cover) -> DomainTable {
        let mut covers: Vec<[u32; 2]> = with_room(self.table.len());
        let watch = Watch::begin();
        let (mut own, mut here, mut under) = (Vec::new(), Vec::new(), Vec::new());
        for found in self.table.all() {
            if watch.is_short() || covers.len() >= covers.capacity() {
                // What has been made so far is thrown away.
                break;
            }
            here.clear();
            under.clear();
            self.entries_of(&found, &mut own);
            let (exact, others): (&[Own], &[Own]) = own.split_at(own.partition_point(|own| own.form == Form::Exact));
            here.extend(exact.iter().map(|own| own.candidate));
            here.extend(others.iter().filter(|own| own.form == Form::Both).map(|own| own.candidate));
            under.extend(others.iter().map(|own| own.candidate));
            let first_own = [own.iter().find(|own| own.form != Form::Below).copied(), others.first().copied()];
            self.inherit(&found, &mut own, |candidate| {
                here.push(candidate);
                under.push(candidate);
            });
            // Stable: inside a list the own entries stay before the inherited ones, the nearest first.
            here.sort_by_key(|candidate| candidate.list);
            under.sort_by_key(|candidate| candidate.list);
            let [at, below] = [cover(&here), cover(&under)];
            // Nearly always there is one entry, of the name's own.
            let told = |candidates: &[Candidate], own: Option<Own>| match (candidates, own) {
                ([only], Some(own)) => !only.hole && !only.expires && (own.form == Form::Both) == (at == below),
                _ => false,
            };
            let [told_at, told_below] = first_own;
            let marked = |cover: Cover, told| cover.number() | if told { TOLD } else { 0 };
            covers.push([marked(at, told(&here, told_at)), marked(below, told(&under, told_below))]);
        }
        let mut place = 0;
        for covers in covers {
            self.table.set_covers(place, covers);
            place = self.table.name(place).map_or(usize::MAX, |found| found.end());
        }
        self.table
    }

    /// The entries about a name, in the order in which they decide inside a list; those about it alone first.
    fn entries_of(&self, found: &Found<'_>, entries: &mut Vec<Own>) {
        entries.clear();
        let entry = |number: u32| self.own.get((number as usize).checked_sub(1)?);
        let mut next = entry(found.at.number());
        while let Some(own) = next {
            entries.push(*own);
            next = entry(own.before);
        }
        entries.sort_by_key(|own| (own.form != Form::Exact, !own.candidate.hole, own.candidate.entry));
    }

    /// The entries that a name inherits from those above it, the nearest first.
    fn inherit(&self, found: &Found<'_>, entries: &mut Vec<Own>, mut inherited: impl FnMut(Candidate)) {
        let labels = 1 + found.name.iter().filter(|byte| **byte == b'.').count();
        // Whether there is a name with fewer labels.
        let fewer = (1..labels.min(128)).any(|fewer| self.table.labels >> fewer & 1 == 1);
        if !fewer || stands_apart(found.name) {
            return;
        }
        let suffixes = self.table.suffixes(found.name.into()).take_while(|suffix| suffix.name.len() < found.name.len());
        let above: Vec<Found<'_>> = suffixes.filter_map(|suffix| self.table.find(&suffix)).collect();
        for above in above.iter().rev() {
            self.entries_of(above, entries);
            entries.iter().filter(|own| own.form != Form::Exact).for_each(|own| inherited(own.candidate));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;

    /// A table in which each name covers itself and the names below it, by its number in the slice from 1.
    fn table(names: &[String]) -> DomainTable {
        let mut builder = DomainTableBuilder::new(names.len(), names.iter().map(String::len).sum());
        for (entry, name) in (1..).zip(names) {
            builder.add(Form::Both, name.as_bytes(), Candidate { list: 0, entry, hole: false, expires: false }).unwrap();
        }
        builder.finish(|candidates| candidates.first().map_or(Cover::NONE, |candidate| Cover::entry(candidate.entry)))
    }

    fn names(count: u32) -> Vec<String> {
        let name = |n: u32| match n % 4 {
            0 => format!("n{n}.example"),
            1 => format!("a.b.n{n}.example.org"),
            2 => format!("user{n}@example.org"),
            _ => format!("[192.0.{}.{}]", n >> 10, n >> 2 & 255),
        };
        (0..count).map(name).collect()
    }

    #[test]
    fn each_name_is_found_and_no_other() {
        for count in [0, 1, 7, 50_000] {
            let (names, others) = (names(count), names(count + 100));
            let table = table(&names);
            let get = |name: &str| if name.contains('@') { table.get_apart(name.as_bytes()) } else { table.get(name.as_bytes().into()) };
            for (number, name) in (1..).zip(&others) {
                let expected = if number <= count { Cover::entry(number) } else { Cover::NONE };
                assert_eq!(get(name), expected, "{name}");
                if !name.contains(['@', '[']) {
                    assert_eq!(get(&format!("x.y.{name}")), expected, "{name}");
                    assert_eq!(get(&format!("x{name}")), Cover::NONE, "{name}");
                }
            }
            assert_eq!(table.len(), count as usize);
        }
    }

    /// Full buckets, so that many names go on to others.
    #[test]
    fn names_that_pass_full_buckets_are_found() {
        let names = names(3_000);
        let mut builder = DomainTableBuilder::new(names.len() * LOAD / SLOTS, 0);
        for (entry, name) in (1..).zip(&names) {
            builder.add(Form::Both, name.as_bytes(), Candidate { list: 0, entry, hole: false, expires: false }).unwrap();
        }
        assert!(builder.table.buckets.iter().filter(|bucket| bucket.passed != 0).count() > 100);
        assert_eq!(builder.table.all().count(), names.len());
        for (name, found) in names.iter().zip(builder.table.all()) {
            assert_eq!(found.name, name.as_bytes());
        }
        let table = builder.finish(|candidates| Cover::entry(candidates.first().map_or(0, |candidate| candidate.entry)));
        for (entry, name) in (1..).zip(&names) {
            let cover = if name.contains('@') { table.get_apart(name.as_bytes()) } else { table.get(name.as_bytes().into()) };
            assert_eq!(cover, Cover::entry(entry), "{name}");
        }
    }

    /// Whatever has become of its bytes, an answer comes, and soon.
    #[test]
    fn a_damaged_table_harms_nobody() {
        let names = names(400);
        let whole = table(&names);
        let damage = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..200);
        let mut runner = TestRunner::default();
        let checked = runner.run(&(damage.clone(), damage, any::<u64>()), |(in_names, in_buckets, labels)| {
            let mut table = whole.clone();
            table.labels |= labels;
            for (at, byte) in in_names {
                *at.get_mut(&mut table.names.to_mut()) = byte;
            }
            for (at, byte) in in_buckets {
                let mut buckets = table.buckets.to_mut();
                let bucket = at.get_mut(&mut buckets);
                bucket.tags[usize::from(byte) % SLOTS] = byte;
                bucket.places[usize::from(byte) % SLOTS] = u32::from_ne_bytes([byte; 4]) >> (byte & 31);
                bucket.passed = u32::MAX;
            }
            for name in &names {
                table.get(name.as_bytes().into());
                table.get_apart(name.as_bytes());
            }
            Ok(())
        });
        checked.unwrap();
    }

    /// Entries of all forms in two lists, above each other and beside.
    #[test]
    fn what_is_told_of_an_entry_is_true() {
        const FORMS: [Form; 3] = [Form::Exact, Form::Below, Form::Both];
        const NAMES: [&str; 6] = ["example", "a.example", "b.a.example", "c.b.a.example", "b.example", "a.b.example"];
        let entry = (0..2_usize, prop::sample::select(&FORMS[..]), prop::sample::select(&NAMES[..]), 0..8_u8, 0..8_u8);
        let mut runner = TestRunner::deterministic();
        let told = std::cell::RefCell::new([0; 3]);
        let checked = runner.run(&prop::collection::vec(entry, 1..6), |entries| {
            let mut builder = DomainTableBuilder::new(entries.len(), 1000);
            let candidates: Vec<Candidate> = (1..)
                .zip(&entries)
                .map(|(entry, (list, .., hole, expires))| Candidate { list: *list, entry, hole: *hole == 0, expires: *expires == 0 })
                .collect();
            for (candidate, (_, form, name, ..)) in candidates.iter().zip(&entries) {
                builder.add(*form, name.as_bytes(), *candidate).unwrap();
            }
            let table = builder.finish(|candidates| candidates.first().map_or(Cover::NONE, |first| Cover::entry(first.entry)));
            for place in NAMES.into_iter().chain(["x.c.b.a.example", "x.b.example", "x.example", "other"]) {
                let Covered { cover, form, length } = table.look_up(place.as_bytes().into());
                prop_assert_eq!(cover, table.get(place.as_bytes().into()));
                if let (Some(told_form), Some(entry)) = (form, cover.single()) {
                    let (_, form, name, ..) = entries[entry as usize - 1];
                    let candidate = candidates[entry as usize - 1];
                    prop_assert_eq!((told_form, &place[place.len() - length..]), (form, name));
                    prop_assert!(!candidate.hole && !candidate.expires && form.covers(name.as_bytes(), place.as_bytes()));
                    told.borrow_mut()[FORMS.iter().position(|known| *known == form).unwrap()] += 1;
                }
            }
            Ok(())
        });
        checked.unwrap();
        assert!(told.borrow().iter().all(|told| *told > 50), "{told:?}");
    }

    #[test]
    fn a_name_takes_few_bytes() {
        assert_eq!((size_of::<Bucket>(), align_of::<Bucket>()), (64, 64));
        let names = names(10_000);
        let table = table(&names);
        let bytes = table.buckets.len() * size_of::<Bucket>() + table.names.len();
        let letters: usize = names.iter().map(String::len).sum();
        assert!(bytes <= letters + names.len() * 18, "{bytes} for {letters}");
    }
}
