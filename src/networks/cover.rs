//! What covers an address or a name: nothing, one entry, or a chain of entries.
//!
//! Where the winner may cease to count (it expires, its list is only watched, or does not concern some clients), the
//! cover is a chain: the winner and those that follow it, in order. Most covers are one entry.

use crate::flat::Flat;
use crate::image::{Reader, Stored, Writer};
use crate::memory::room;
use bytemuck::{Pod, Zeroable};
use std::collections::HashMap;

/// Number of an entry, from 1.
pub(crate) type EntryId = u32;

/// What covers an address: nothing, one entry, or a chain of entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub(crate) struct Cover(u32);

/// What a cover stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// The chain ends.
    End,
    /// An entry, and what follows if it does not count.
    Entry(EntryId, Cover),
}

impl Cover {
    /// Nothing.
    pub(crate) const NONE: Cover = Cover(0);
    const CHAIN: u32 = 1 << 30;
    /// Most entries that can be told apart. Tables of networks use the uppermost bit for themselves.
    pub(crate) const MAX_ENTRY: u32 = Cover::CHAIN - 1;
    /// The same bit in 24 bits, as most lines have covers.
    const PACKED_CHAIN: u32 = 1 << 23;

    /// One entry.
    pub(crate) fn entry(entry: EntryId) -> Cover {
        Cover(entry & Cover::MAX_ENTRY)
    }

    /// The entry, if it is one that always counts.
    pub(crate) fn single(self) -> Option<EntryId> {
        (self.chain().is_none() && !self.is_none()).then_some(self.0)
    }

    /// As [`Cover::single`], 0 for none: without a branch, which a processor would have to guess.
    pub(crate) fn single_or_0(self) -> EntryId {
        std::hint::select_unpredictable(self.0 & Cover::CHAIN != 0, 0, self.0)
    }

    /// Whether nothing covers the address.
    pub(crate) fn is_none(self) -> bool {
        self == Cover::NONE
    }

    fn chain(self) -> Option<usize> {
        (self.0 & Cover::CHAIN != 0).then_some((self.0 & Cover::MAX_ENTRY) as usize)
    }

    /// As a number below 2^31.
    pub(crate) fn number(self) -> u32 {
        self.0
    }

    /// The cover with that number.
    pub(crate) fn of_number(number: u32) -> Cover {
        Cover(number)
    }

    /// In 24 bits, if it fits.
    pub(super) fn packed(self) -> Option<u32> {
        let number = self.0 & Cover::MAX_ENTRY;
        (number < Cover::PACKED_CHAIN).then_some(number | (self.0 & Cover::CHAIN) >> 7)
    }

    /// The cover with these 24 bits.
    pub(super) fn of_packed(packed: u32) -> Cover {
        // The bit 23 becomes the bit 30, and those between are put out again.
        let spread = (packed << 8).cast_signed() >> 8;
        Cover(spread.cast_unsigned() & (Cover::CHAIN | (Cover::PACKED_CHAIN - 1)))
    }
}

/// An entry, and what follows it if it does not count: something that was made earlier.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Chain {
    entry: EntryId,
    rest: Cover,
}

/// The chains of a table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chains(Flat<Chain>);

impl Chains {
    /// The first entry of a cover, and the rest of it.
    pub(crate) fn first(&self, cover: Cover) -> Link {
        match cover.chain() {
            None if cover.is_none() => Link::End,
            None => Link::Entry(cover.0, Cover::NONE),
            Some(at) => match self.0.get(at) {
                // What follows was made earlier: else it would go round in circles.
                Some(Chain { entry, rest }) if rest.chain().is_none_or(|rest| rest < at) => Link::Entry(*entry, *rest),
                _ => Link::End,
            },
        }
    }

    /// Whether the last entry of a cover may cease to count too.
    pub(crate) fn is_open(&self, mut cover: Cover) -> bool {
        while cover.chain().is_some() {
            match self.first(cover) {
                Link::Entry(_, rest) => cover = rest,
                Link::End => return true,
            }
        }
        cover.is_none()
    }

    /// All entries of a cover, in order.
    pub(crate) fn entries(&self, mut cover: Cover) -> impl Iterator<Item = EntryId> {
        std::iter::from_fn(move || match self.first(cover) {
            Link::End => None,
            Link::Entry(entry, rest) => {
                cover = rest;
                Some(entry)
            }
        })
    }
}

/// Makes chains.
#[derive(Clone, Debug, Default)]
pub(crate) struct ChainMaker {
    chains: Vec<Chain>,
    known: HashMap<(EntryId, Cover), Cover>,
}

impl ChainMaker {
    /// An entry that there is no chain of yet, and what follows it if it does not count.
    pub(crate) fn push(&mut self, entry: EntryId, rest: Cover) -> Cover {
        push(&mut self.chains, entry, rest)
    }

    /// An entry, and what follows it if it does not count: one chain, however often it is asked for.
    pub(crate) fn link(&mut self, entry: EntryId, rest: Cover) -> Cover {
        *self.known.entry((entry, rest)).or_insert_with(|| push(&mut self.chains, entry, rest))
    }

    /// A chain of these entries; one alone needs none.
    pub(crate) fn sequence(&mut self, entries: &[EntryId]) -> Cover {
        let Some((last, before)) = entries.split_last() else { return Cover::NONE };
        before.iter().rev().fold(Cover::entry(*last), |rest, entry| self.link(*entry, rest))
    }

    /// The chains that were made so far.
    #[cfg(test)]
    pub(super) fn chains(&self) -> Chains {
        Chains(self.chains.clone().into())
    }

    /// The chains that were made.
    pub(crate) fn into_chains(mut self) -> Chains {
        self.chains.shrink_to_fit();
        Chains(self.chains.into())
    }
}

fn push(chains: &mut Vec<Chain>, entry: EntryId, rest: Cover) -> Cover {
    if !room(chains, 1) {
        return Cover::NONE;
    }
    chains.push(Chain { entry, rest });
    // There are fewer chains than boundaries, and fewer boundaries than Cover::MAX_ENTRY.
    Cover(Cover::CHAIN | u32::try_from(chains.len() - 1).unwrap_or(0))
}

impl Stored for Chains {
    fn store(&self, image: &mut Writer) {
        self.0.store(image);
    }

    fn restore(image: &mut Reader) -> Option<Chains> {
        Flat::restore(image).map(Chains)
    }
}
