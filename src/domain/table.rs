//! The table of names: what covers a name, and what covers those below it.
//!
//! Which rule wins at a name and below it is settled when the table is built, inheritance included. A question walks the
//! labels of its name once, from the right, and the longest suffix that it finds decides. Only suffixes with a number of labels
//! that some name has are looked up.
//!
//! ```text
//!   hash of "example.org"
//!         |
//!         v
//!   buckets  |tags, lengths, place in `names`, passed|tags, lengths, ...                   64 bytes each: one cache line
//!                             |
//!                             v
//!   names    |what covers the name|what covers those below|example.org|what covers ...     a byte after the other
//! ```
//!
//! A bucket has a tag, a byte of the hash, and the length of each of 24 names, which stand together in `names`: where each of them
//! stands follows from the lengths. A name that found its bucket full went to the next one and left a mark in those that it passed.
//! A name that is not there costs one cache line, one that is there two; the buckets of a million names have 3.6 MB, which the
//! caches of a processor keep. Where one entry covers a name, and it is about that name and always counts, a bit of the cover says
//! so: then its text is known, and a refusal does not read the entry.
//!
//! All of it is flat, with places in the place of pointers: the same bytes can be read from a file by another process. What
//! is read is checked, so that a damaged table covers less than it should, or something else, but harms nobody.
//!
//! Names come from the administrator and from feeds, questions from strangers: the hash is seeded at random for each table.
//! It is one of the RapidHash V3 family, whose output is specified. A suffix is hashed as a whole: where names of two and of
//! three labels are listed that takes less than to hash each label and to put the hashes together.

use super::{Form, Place};
use crate::bytes::are_same;
use crate::flat::Flat;
use crate::image::{Reader, Stored, Writer};
use crate::networks::Cover;
use bytemuck::{Pod, Zeroable, cast};
use memchr::{memchr, memchr_iter};
use rapidhash::v3::{RapidSecrets, rapidhash_v3_nano_inline};
use std::hash::{BuildHasher, Hasher, RandomState};
use wide::{CmpEq, i8x16};

/// Names that a bucket has room for.
pub(super) const SLOTS: usize = 24;
/// Names whose lengths are added up at once.
const GROUP: usize = 8;
/// Bytes before a name: its two covers.
pub(super) const HEAD: u8 = 8;
/// The bit of a cover that says more: it is one entry that always counts, and about that very name. Its form is [`Form::Both`] if
/// both covers are the same.
pub(super) const TOLD: u32 = 1 << 31;
/// The bit for the number of labels of a name that has none: an address literal or a mailbox.
pub(super) const APART: u64 = 1;

/// Names, and what covers them; ready to be asked.
#[derive(Clone, Debug)]
pub struct DomainTable {
    pub(super) buckets: Flat<Bucket>,
    /// The names, each behind its covers.
    pub(super) names: Flat<u8>,
    /// How many there are.
    pub(super) count: u32,
    /// How many of the buckets names belong to; behind those are only names that went on.
    pub(super) homes: u32,
    /// Which numbers of labels there are, a bit for each.
    pub(super) labels: u64,
    /// The seed of the hash.
    seed: u64,
    /// What the hash makes of its seed.
    secrets: RapidSecrets,
}

/// Where to find some of the names.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C, align(64))]
pub(super) struct Bucket {
    /// A byte of the hash of each name.
    tags: [u8; SLOTS],
    /// How many bytes each name has; 0 for no name.
    lengths: [u8; SLOTS],
    /// How many bytes of `names` are before every eighth name, from that of the first; last the number of all.
    starts: [u16; SLOTS / GROUP + 1],
    /// Where in `names` the first of them stands.
    place: u32,
    /// Marks of the names that went on to the next bucket.
    passed: u32,
}

const _: () = assert!(SLOTS * (HEAD as usize + u8::MAX as usize) <= u16::MAX as usize, "as far as starts reach");

/// A name of the table.
pub(super) struct Found<'a> {
    pub covers: Covers,
    pub name: &'a [u8],
}

/// What covers a name, and those below it, with their marks.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(transparent)]
pub(super) struct Covers(u64);

/// What covers a name.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Covered<'a> {
    pub cover: Cover,
    /// The form of the entry, if it is one that always counts, and is about the suffix.
    pub form: Option<Form>,
    /// The longest suffix of the name that the table has.
    pub suffix: &'a [u8],
}

impl Covers {
    pub(super) fn new(numbers: [u32; 2]) -> Covers {
        Covers(cast(numbers))
    }

    pub(super) fn numbers(self) -> [u32; 2] {
        cast(self.0)
    }

    /// What covers the name itself, which is that suffix, or those below it.
    #[inline(always)]
    fn of(self, suffix: &[u8], itself: bool) -> Covered<'_> {
        let [at, below] = self.numbers();
        let (marked, own_form) = if itself { (at, Form::Exact) } else { (below, Form::Below) };
        let form = (marked & TOLD != 0).then_some(if (at ^ below) & !TOLD == 0 { Form::Both } else { own_form });
        Covered { cover: Cover::of_number(marked & !TOLD), form, suffix }
    }
}

impl Default for DomainTable {
    fn default() -> DomainTable {
        // Its own source of random numbers is not open to others, so it comes from what the hash tables of std use.
        let seed = RandomState::new().build_hasher().finish();
        let (buckets, names) = (Flat::default(), Flat::default());
        DomainTable { buckets, names, count: 0, homes: 0, labels: 0, seed, secrets: RapidSecrets::seed(seed) }
    }
}

impl DomainTable {
    /// What covers a domain or an address literal.
    pub(crate) fn get(&self, place: Place<'_>) -> Cover {
        if place.starts_with(b"[") { self.get_apart(&place) } else { self.look_up(place).cover }
    }

    /// What covers a domain, and what the table tells of the entry.
    #[inline(always)]
    pub(crate) fn look_up<'a>(&self, domain: Place<'a>) -> Covered<'a> {
        let mut longest: (Covers, &[u8]) = Default::default();
        self.each_suffix(domain, |covers, suffix| longest = (covers, suffix));
        let (covers, suffix) = longest;
        covers.of(suffix, suffix.len() == domain.len())
    }

    /// What covers a mailbox or an address literal.
    pub(crate) fn get_apart(&self, name: &[u8]) -> Cover {
        self.find(name).map_or(Cover::NONE, |covers| covers.of(name, true).cover)
    }

    /// Whether it has mailboxes or address literals.
    pub(crate) fn has_apart(&self) -> bool {
        self.labels & APART != 0
    }

    /// How many names the table has.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether the table has no name.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Visits the suffixes of a domain that the table has, shortest first.
    #[inline(always)]
    pub(super) fn each_suffix<'a>(&self, domain: Place<'a>, mut visit: impl FnMut(Covers, &'a [u8])) {
        let (mut labels, mut rest) = (APART, Some(domain));
        while let Some(place) = rest {
            let (start, before) = place.split_last();
            (labels, rest) = (with_one_more(labels), before);
            if self.labels < labels {
                return;
            }
            if self.labels & labels != 0
                && let Some(suffix) = domain.as_bytes().get(start..)
                && let Some(covers) = self.find(suffix)
            {
                visit(covers, suffix);
            }
        }
    }

    #[inline]
    pub(super) fn hash(&self, name: &[u8]) -> u64 {
        rapidhash_v3_nano_inline::<true, false>(name, &self.secrets)
    }

    /// The number of the bucket to which a name belongs.
    #[inline(always)]
    pub(super) fn home(&self, hash: u64) -> usize {
        // The upper half of the hash, scaled to the number of buckets. There are fewer of them than 2^32.
        usize::try_from(((hash >> 32) * u64::from(self.homes)) >> 32).unwrap_or(0)
    }

    // A function of its own, because it takes all registers.
    #[inline(never)]
    fn find(&self, name: &[u8]) -> Option<Covers> {
        let length @ 1.. = u8::try_from(name.len()).ok()? else { return None };
        let hash = self.hash(name);
        for bucket in self.buckets.get(self.home(hash)..)? {
            let mut slots = bucket.slots_of(tag(hash), length);
            while slots != 0 {
                if let Some(found) = self.name(bucket.place_of(slots.trailing_zeros() as usize), length)
                    && are_same(found.name, name)
                {
                    return Some(found.covers);
                }
                slots &= slots - 1;
            }
            if bucket.passed & mark(hash) == 0 {
                break;
            }
        }
        None
    }

    /// The name of so many bytes that stands at a place.
    #[inline(always)]
    fn name(&self, place: usize, length: u8) -> Option<Found<'_>> {
        let (covers, rest) = self.names.get(place..)?.split_first_chunk()?;
        Some(Found { covers: cast::<[u8; 8], Covers>(*covers), name: rest.get(..length.into())? })
    }

    /// All names, in the order in which they stand.
    pub(super) fn all(&self) -> impl Iterator<Item = Found<'_>> {
        self.buckets.iter().flat_map(Bucket::names).filter_map(|(place, length)| self.name(place, length))
    }

    /// Sets what covers each name, in the same order.
    pub(super) fn set_covers(&mut self, covers: &[Covers]) {
        let mut names = self.names.to_mut();
        for ((place, _), covers) in self.buckets.iter().flat_map(Bucket::names).zip(covers) {
            if let Some(bytes) = names.get_mut(place..).and_then(<[u8]>::first_chunk_mut) {
                *bytes = cast::<Covers, [u8; 8]>(*covers);
            }
        }
    }
}

impl Stored for DomainTable {
    fn store(&self, image: &mut Writer) {
        let DomainTable { buckets, names, count, homes, labels, seed, secrets: _ } = self;
        buckets.store(image);
        names.store(image);
        [u64::from(*count), u64::from(*homes), *labels, *seed].into_iter().for_each(|number| image.number(number));
    }

    fn restore(image: &mut Reader) -> Option<DomainTable> {
        let (buckets, names) = (Flat::restore(image)?, Flat::restore(image)?);
        let count = u32::try_from(image.number()?).ok()?;
        let homes = u32::try_from(image.number()?).ok()?;
        let (labels, seed) = (image.number()?, image.number()?);
        Some(DomainTable { buckets, names, count, homes, labels, seed, secrets: RapidSecrets::seed(seed) })
    }
}

impl Bucket {
    /// An empty one, whose names are to stand at a place.
    pub(super) fn at(place: u32) -> Bucket {
        Bucket { place, ..Bucket::default() }
    }

    /// Puts a name into a slot behind all that have names.
    pub(super) fn put(&mut self, slot: usize, hash: u64, length: u8) {
        if let (Some(tag_of_slot), Some(length_of_slot)) = (self.tags.get_mut(slot), self.lengths.get_mut(slot)) {
            (*tag_of_slot, *length_of_slot) = (tag(hash), length);
            self.starts.iter_mut().skip(slot / GROUP + 1).for_each(|start| *start += u16::from(HEAD) + u16::from(length));
        }
    }

    /// Marks that a name goes on to the next bucket.
    pub(super) fn pass(&mut self, hash: u64) {
        self.passed |= mark(hash);
    }

    /// Where its names stand, and how many bytes each has.
    fn names(&self) -> impl Iterator<Item = (usize, u8)> {
        let lengths = self.lengths.iter().take_while(|length| **length != 0);
        lengths.enumerate().map(|(slot, length)| (self.place_of(slot), *length))
    }

    /// The slots of names with a tag and a length, a bit each: all are compared at once.
    #[inline(always)]
    fn slots_of(&self, tag: u8, length: u8) -> u32 {
        // 24 are sixteen and sixteen, of which eight are among both.
        let are = |bytes: Option<&[u8; 16]>, byte: u8| {
            bytes.map_or(i8x16::ZERO, |bytes| cast::<[u8; 16], i8x16>(*bytes).cmp_eq(i8x16::splat(byte.cast_signed())))
        };
        let first = are(self.tags.first_chunk(), tag) & are(self.lengths.first_chunk(), length);
        let last = are(self.tags.last_chunk(), tag) & are(self.lengths.last_chunk(), length);
        first.move_mask().cast_unsigned() | last.move_mask().cast_unsigned() << (SLOTS - 16)
    }

    /// Where the name of a slot stands.
    #[inline(always)]
    fn place_of(&self, slot: usize) -> usize {
        let (groups, _) = self.lengths.as_chunks::<GROUP>();
        let (group, before) = (slot / GROUP, slot % GROUP);
        let lengths = groups.get(group).map_or(0, |lengths| u64::from_le_bytes(*lengths)) & ((1 << (8 * before)) - 1);
        let start = self.starts.get(group).copied().unwrap_or_default();
        (self.place as usize).wrapping_add(usize::from(start) + before * usize::from(HEAD) + sum(lengths))
    }
}

/// The sum of eight bytes.
#[inline(always)]
fn sum(bytes: u64) -> usize {
    const EVEN: u64 = 0x00ff_00ff_00ff_00ff;
    // Of four numbers of 16 bits each the sum is the uppermost of their product with 1 four times.
    let pairs = (bytes & EVEN) + (bytes >> 8 & EVEN);
    (pairs.wrapping_mul(0x0001_0001_0001_0001) >> 48) as usize
}

/// Whether a name is a mailbox or an address literal.
fn stands_apart(name: &[u8]) -> bool {
    name.starts_with(b"[") || memchr(b'@', name).is_some()
}

/// The bit for the number of labels of a name.
pub(super) fn labels_of(name: &[u8]) -> u64 {
    if stands_apart(name) {
        return APART;
    }
    memchr_iter(b'.', name).fold(with_one_more(APART), |labels, _| with_one_more(labels))
}

/// The bit for one label more; all large numbers have one together.
#[inline(always)]
fn with_one_more(labels: u64) -> u64 {
    labels << 1 | labels & 1 << 63
}

/// A byte of the hash that does not say which bucket.
#[inline(always)]
fn tag(hash: u64) -> u8 {
    let [byte, ..] = hash.to_le_bytes();
    byte
}

/// Another five bits of the hash, as a mark in the buckets that a name passes.
#[inline(always)]
fn mark(hash: u64) -> u32 {
    1 << (hash >> 8 & 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::DomainTableBuilder;
    use crate::resolve::Candidate;
    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;

    /// A table in which each name covers itself and the names below it, by its number in the slice from 1.
    fn table(names: &[String]) -> DomainTable {
        let mut builder = DomainTableBuilder::new(names.len());
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

    /// Many names go on to other buckets, some of them behind the last one to which names belong.
    #[test]
    fn names_that_pass_full_buckets_are_found() {
        let (mut all_passed, mut all_behind) = (0, 0);
        for round in 0..200 {
            let names = names(2_000 + round);
            let mut table = table(&names);
            assert_eq!((table.all().count(), table.len()), (names.len(), names.len()));
            for (entry, name) in (1..).zip(&names) {
                let cover = if name.contains('@') { table.get_apart(name.as_bytes()) } else { table.get(name.as_bytes().into()) };
                assert_eq!(cover, Cover::entry(entry), "{name}");
            }
            let passed = table.buckets.iter().filter(|bucket| bucket.passed != 0).count();
            all_passed += passed;
            all_behind += table.buckets.len() - table.homes as usize;
            // Without the marks those that went on are not found.
            table.buckets.to_mut().iter_mut().for_each(|bucket| bucket.passed = 0);
            assert_eq!(names.iter().any(|name| table.find(name.as_bytes()).is_none()), passed > 0);
        }
        assert!(all_passed > 500 && all_behind > 0, "{all_passed} {all_behind}");
    }

    /// Where each name stands follows from the lengths of those before it.
    #[test]
    fn lengths_are_added_up() {
        let mut runner = TestRunner::default();
        let checked = runner.run(&(prop::collection::vec((1_u8.., any::<u64>()), 0..=SLOTS), 0..u32::MAX / 2), |(names, place)| {
            let mut bucket = Bucket::at(place);
            for (slot, (length, hash)) in names.iter().enumerate() {
                bucket.put(slot, *hash, *length);
            }
            let standing: Vec<(usize, u8)> = bucket.names().collect();
            prop_assert_eq!(standing.len(), names.len());
            let mut expected = place as usize;
            for (slot, (place, length)) in standing.into_iter().enumerate() {
                let (given, hash) = names[slot];
                prop_assert_eq!((bucket.place_of(slot), place, length), (expected, expected, given));
                expected += usize::from(HEAD) + usize::from(given);
                let alike = (0..).zip(&names).filter(|(_, (other, other_hash))| *other == given && tag(*other_hash) == tag(hash));
                prop_assert_eq!(bucket.slots_of(tag(hash), given), alike.fold(0, |slots, (slot, _)| slots | 1 << slot));
            }
            Ok(())
        });
        checked.unwrap();
    }

    /// Whatever has become of its bytes, an answer comes, and soon.
    #[test]
    fn a_damaged_table_harms_nobody() {
        let names = names(400);
        let whole = table(&names);
        let damage = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..200);
        let mut runner = TestRunner::default();
        let checked = runner.run(&(damage.clone(), damage, any::<u64>(), any::<Option<u32>>()), |(in_names, in_buckets, labels, homes)| {
            let mut table = whole.clone();
            table.labels |= labels;
            table.homes = homes.unwrap_or(table.homes);
            for (at, byte) in in_names {
                *at.get_mut(&mut table.names.to_mut()) = byte;
            }
            for (at, byte) in in_buckets {
                let mut buckets = table.buckets.to_mut();
                let bucket = at.get_mut(&mut buckets);
                bucket.lengths[usize::from(byte) % SLOTS] = byte;
                bucket.starts[usize::from(byte) % 4] = u16::from_ne_bytes([byte; 2]);
                bucket.place = u32::from_ne_bytes([byte; 4]) >> (byte & 31);
                bucket.passed = u32::MAX;
            }
            for name in &names {
                table.get(name.as_bytes().into());
                table.get_apart(name.as_bytes());
            }
            table.all().for_each(drop);
            Ok(())
        });
        checked.unwrap();
    }

    #[test]
    fn a_name_takes_few_bytes() {
        assert_eq!((size_of::<Bucket>(), align_of::<Bucket>()), (64, 64));
        let names = names(10_000);
        let table = table(&names);
        let bytes = table.buckets.len() * size_of::<Bucket>() + table.names.len();
        let letters: usize = names.iter().map(String::len).sum();
        assert!(bytes <= letters + names.len() * 13, "{bytes} for {letters}");
    }
}
