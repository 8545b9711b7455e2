//! A table of names in the making: what the policy says about each name, and what covers it then.
//!
//! Entries are put in order by the hashes of their names. So entries about one name stand together, and those whose names belong to
//! one bucket: buckets and names are written from the first to the last.

use super::Form;
use super::table::{APART, Bucket, Covers, DomainTable, Found, HEAD, SLOTS, TOLD, labels_of};
use crate::diagnostic::Fault;
use crate::memory::{Watch, ran_out, room, with_room};
use crate::networks::Cover;
use crate::resolve::Candidate;
use bytemuck::bytes_of;
use std::hint::black_box;

/// All names of one table together, in bytes: places are 32 bits wide.
const MAX_NAMES: usize = u32::MAX as usize;
/// Names that belong to a bucket on average; then one bucket in twelve is passed by a name.
const LOAD: usize = 18;

/// What is known of names so far.
#[derive(Debug)]
pub(crate) struct DomainTableBuilder<'a> {
    table: DomainTable,
    own: Vec<Own<'a>>,
    /// How many bytes the names take at most.
    bytes: usize,
}

/// An entry, and its own name.
#[derive(Clone, Copy, Debug)]
struct Own<'a> {
    hash: u64,
    name: &'a [u8],
    candidate: Candidate,
    form: Form,
}

/// A name, and where in their order the entries about it are: from which one on, and how many.
#[derive(Clone, Copy)]
struct Name<'a> {
    name: &'a [u8],
    length: u8,
    hash: u64,
    entries: Covers,
}

impl<'a> DomainTableBuilder<'a> {
    /// For so many entries.
    pub(crate) fn new(entries: usize) -> DomainTableBuilder<'a> {
        DomainTableBuilder { table: DomainTable::default(), own: with_room(entries), bytes: 0 }
    }

    /// Adds an entry.
    pub(crate) fn add(&mut self, form: Form, name: &'a [u8], candidate: Candidate) -> Result<(), Fault> {
        self.bytes += usize::from(HEAD) + name.len();
        if self.bytes > MAX_NAMES || u8::try_from(name.len()).is_err() {
            let remedy = format!("keep them below {MAX_NAMES} bytes");
            return Err(Fault::limit("the names of all domain lists together are too long", remedy));
        }
        if !room(&mut self.own, 1) {
            return Err(ran_out());
        }
        self.own.push(Own { hash: self.table.hash(name), name, candidate, form });
        Ok(())
    }

    /// Settles what covers each name and the names below it: the earliest list; inside one list the most specific
    /// entry, of two that are alike a hole, else the first. `cover` makes one cover of the candidates in that order.
    // Where memory runs out it stops. What has been made so far is thrown away.
    pub(crate) fn finish(mut self, cover: impl FnMut(&[Candidate]) -> Cover) -> DomainTable {
        self.own.sort_unstable_by(|one, other| one.hash.cmp(&other.hash).then_with(|| one.name.cmp(other.name)));
        self.place();
        self.settle(cover);
        self.table
    }

    /// The names, in the order of the table.
    fn names(&self) -> impl Iterator<Item = Name<'a>> {
        let mut from = 0;
        self.own.chunk_by(|one, other| one.hash == other.hash && one.name == other.name).filter_map(move |entries| {
            let (first, count) = (entries.first()?, u32::try_from(entries.len()).ok()?);
            let (name, hash) = (first.name, first.hash);
            from += count;
            Some(Name { name, length: u8::try_from(name.len()).ok()?, hash, entries: Covers::new([from - count, count]) })
        })
    }

    /// Writes all names, each with its entries in the place of its covers, and where they are.
    fn place(&mut self) {
        self.table.homes = u32::try_from(self.own.len().div_ceil(LOAD)).unwrap_or(u32::MAX);
        let (mut buckets, mut written): (Vec<Bucket>, Vec<u8>) = (with_room(self.table.homes as usize + 8), with_room(self.bytes));
        let watch = Watch::begin();
        let mut names = self.names().peekable();
        // Those that have found their buckets full, the longest way first.
        let mut waiting: Vec<Name<'_>> = Vec::new();
        let (mut labels, mut count) = (0, 0);
        while names.peek().is_some() || !waiting.is_empty() {
            let number = buckets.len();
            let mut bucket = Bucket::at(u32::try_from(written.len()).unwrap_or(u32::MAX));
            while let Some(name) = names.next_if(|name| self.table.home(name.hash) == number) {
                waiting.push(name);
            }
            // They lie anywhere: the processor fetches all of them at once, before the first is copied.
            black_box(waiting.iter().fold(0, |all, name| all ^ name.name.first().copied().unwrap_or(0)));
            let mut slots = 0..SLOTS;
            waiting.retain(|Name { name, length, hash, entries }| {
                let Some(slot) = slots.next() else {
                    bucket.pass(*hash);
                    return true;
                };
                bucket.put(slot, *hash, *length);
                if room(&mut written, usize::from(HEAD) + name.len()) {
                    written.extend_from_slice(bytes_of(entries));
                    written.extend_from_slice(name);
                }
                labels |= labels_of(name);
                count += 1;
                false
            });
            if watch.is_short() || !room(&mut buckets, 1) {
                break;
            }
            buckets.push(bucket);
        }
        drop(names);
        let DomainTableBuilder { table, .. } = self;
        (table.buckets, table.names, table.labels, table.count) = (buckets.into(), written.into(), labels, count);
    }

    /// Says of all names what covers them.
    fn settle(&mut self, mut cover: impl FnMut(&[Candidate]) -> Cover) {
        let mut covers: Vec<Covers> = with_room(self.table.len());
        let watch = Watch::begin();
        let (mut own, mut here, mut under) = (Vec::new(), Vec::new(), Vec::new());
        for found in self.table.all() {
            if watch.is_short() || covers.len() >= covers.capacity() {
                return;
            }
            here.clear();
            under.clear();
            self.entries_of(found.covers, &mut own);
            let (exact, others): (&[Own<'_>], &[Own<'_>]) = own.split_at(own.partition_point(|own| own.form == Form::Exact));
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
            let told = |candidates: &[Candidate], own: Option<Own<'_>>| match (candidates, own) {
                ([only], Some(own)) => !only.hole && !only.expires && (own.form == Form::Both) == (at == below),
                _ => false,
            };
            let [told_at, told_below] = first_own;
            let marked = |cover: Cover, told| cover.number() | if told { TOLD } else { 0 };
            covers.push(Covers::new([marked(at, told(&here, told_at)), marked(below, told(&under, told_below))]));
        }
        self.table.set_covers(&covers);
    }

    /// The entries about a name, in the order in which they decide inside a list; those about it alone first.
    fn entries_of(&self, at: Covers, entries: &mut Vec<Own<'a>>) {
        entries.clear();
        let [from, count] = at.numbers();
        entries.extend(self.own.iter().skip(from as usize).take(count as usize));
        entries.sort_by_key(|own| (own.form != Form::Exact, !own.candidate.hole, own.candidate.entry));
    }

    /// The entries that a name inherits from those above it, the nearest first.
    fn inherit(&self, found: &Found<'_>, entries: &mut Vec<Own<'a>>, mut inherited: impl FnMut(Candidate)) {
        let labels = labels_of(found.name);
        // Unless a domain has fewer labels. All numbers that are large have one bit.
        let is_last = labels << 1 == 0;
        if labels == APART || !is_last && self.table.labels & (labels - 1) & !APART == 0 {
            return;
        }
        let mut above = Vec::new();
        self.table.each_suffix(found.name.into(), |entries, name| {
            if name.len() < found.name.len() {
                above.push(entries);
            }
        });
        for above in above.iter().rev() {
            self.entries_of(*above, entries);
            entries.iter().filter(|own| own.form != Form::Exact).for_each(|own| inherited(own.candidate));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::Covered;
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;

    /// Entries of all forms in two lists, above each other and beside.
    #[test]
    fn what_is_told_of_an_entry_is_true() {
        const FORMS: [Form; 3] = [Form::Exact, Form::Below, Form::Both];
        const NAMES: [&str; 6] = ["example", "a.example", "b.a.example", "c.b.a.example", "b.example", "a.b.example"];
        let entry = (0..2_usize, prop::sample::select(&FORMS[..]), prop::sample::select(&NAMES[..]), 0..8_u8, 0..8_u8);
        let mut runner = TestRunner::deterministic();
        let told = std::cell::RefCell::new([0; 3]);
        let checked = runner.run(&prop::collection::vec(entry, 1..6), |entries| {
            let mut builder = DomainTableBuilder::new(entries.len());
            let candidates: Vec<Candidate> = (1..)
                .zip(&entries)
                .map(|(entry, (list, .., hole, expires))| Candidate { list: *list, entry, hole: *hole == 0, expires: *expires == 0 })
                .collect();
            for (candidate, (_, form, name, ..)) in candidates.iter().zip(&entries) {
                builder.add(*form, name.as_bytes(), *candidate).unwrap();
            }
            let table = builder.finish(|candidates| candidates.first().map_or(Cover::NONE, |first| Cover::entry(first.entry)));
            for place in NAMES.into_iter().chain(["x.c.b.a.example", "x.b.example", "x.example", "other"]) {
                let Covered { cover, form, suffix } = table.look_up(place.as_bytes().into());
                prop_assert_eq!(cover, table.get(place.as_bytes().into()));
                if let (Some(told_form), Some(entry)) = (form, cover.single()) {
                    let (_, form, name, ..) = entries[entry as usize - 1];
                    let candidate = candidates[entry as usize - 1];
                    prop_assert_eq!((told_form, suffix), (form, name.as_bytes()));
                    prop_assert!(!candidate.hole && !candidate.expires && form.covers(name.as_bytes(), place.as_bytes()));
                    told.borrow_mut()[FORMS.iter().position(|known| *known == form).unwrap()] += 1;
                }
            }
            Ok(())
        });
        checked.unwrap();
        assert!(told.borrow().iter().all(|told| *told > 50), "{told:?}");
    }
}
