//! Refusals that are ready but for the address: of each list that refuses everybody whom it has, all that stays the same, in
//! one piece of memory.

use crate::contents::{Contents, Entry};
use crate::covering::List;
use crate::line::{MAX_SHORT, Padded};
use crate::networks::EntryId;
use crate::policy::Exempt;
use crate::reply::LONGEST_PART;
use crate::tally::Tally;
use crate::verdict::{Decider, MAX_LIST_NAME};
use std::sync::Arc;

/// What refusals of one list have in common.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The number before that of its first entry.
    base: EntryId,
    pub(super) hits: Arc<Tally>,
    pub contents: Arc<Contents>,
    /// The line of its first entry, and by how much it goes up with each; `None` if it does not go up alike.
    lines: Option<(u32, u8)>,
    pub code: u16,
    pub hang_up: bool,
    pub status: Padded<15>,
    pub list: Padded<MAX_LIST_NAME>,
    /// What is said about each entry, if that is the same.
    pub reason: Option<Padded<MAX_SHORT>>,
    pub host: Padded<MAX_SHORT>,
    /// The text before the address of the client, and behind it.
    pub before: Padded<LONGEST_PART>,
    pub behind: Padded<LONGEST_PART>,
}

/// The prepared refusals of some lists, in their order.
#[derive(Debug, Default)]
pub(crate) struct PreparedLists {
    /// For each list the number before that of its first entry.
    bases: Vec<EntryId>,
    lists: Vec<Option<Box<Prepared>>>,
}

impl Prepared {
    /// What the list has to refuse a client with that has just connected; `None` if it does not refuse everybody, or in another
    /// shape than nearly all refusals have.
    fn of(list: &List, hostname: &str) -> Option<Box<Prepared>> {
        let passes = list.conduct.shadow || list.conduct.exempt.meets(Exempt::CONNECTION);
        // What an image says is believed only after a look at all of the entry.
        if passes || list.role != Decider::Block || list.contents.is_mapped() || list.contents.has_replies() {
            return None;
        }
        let reply = list.replies.first()?.as_ref()?;
        let (before, behind) = reply.around_address()?;
        let host = (hostname.len() <= MAX_SHORT).then(|| Padded::of(hostname.as_bytes()))?;
        Some(Box::new(Prepared {
            base: list.base,
            hits: Arc::clone(&list.hits),
            contents: Arc::clone(&list.contents),
            lines: list.contents.lines_in_a_row(),
            code: reply.code,
            hang_up: reply.hang_up,
            status: *reply.shown_status(),
            list: list.shown_name,
            reason: list.contents.reason_of_all(),
            host,
            before,
            behind,
        }))
    }

    /// An entry of the list by its number among those of all lists. With the length of its prefix, which the table has of entries
    /// that always count, it is not read.
    #[inline(always)]
    pub(super) fn entry(&self, number: EntryId, length: Option<u8>) -> Option<Entry> {
        let number = number - self.base;
        match length {
            Some(length) => Some(Entry::lasting_v4(number, length)),
            None => self.contents.entry(number).filter(|entry| !entry.ends() && !entry.is_hole()),
        }
    }

    /// The line of an entry.
    #[inline(always)]
    pub(crate) fn line(&self, entry: Entry) -> u32 {
        match self.lines {
            Some((first, step)) => first.wrapping_add((entry.number() - 1).wrapping_mul(step.into())),
            None => self.contents.line(entry),
        }
    }
}

impl PreparedLists {
    pub(crate) fn of(lists: &[List], hostname: &str) -> PreparedLists {
        let bases = lists.iter().map(|list| list.base).collect();
        PreparedLists { bases, lists: lists.iter().map(|list| Prepared::of(list, hostname)).collect() }
    }

    /// What the list refuses with to which an entry belongs.
    #[inline(always)]
    pub(super) fn of_entry(&self, entry: EntryId) -> Option<&Prepared> {
        let at = self.bases.partition_point(|base| *base < entry).checked_sub(1)?;
        self.lists.get(at)?.as_deref()
    }
}
