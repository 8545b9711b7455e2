//! Refusals that are ready but for the address: of each list that refuses everybody whom it has, all that stays the same, in
//! one piece of memory.

use crate::contents::{Contents, Entry};
use crate::covering::List;
use crate::line::{Padded, SHORT};
use crate::networks::{EntryId, rank_below_of_16};
use crate::policy::Exempt;
use crate::tally::Tally;
use crate::verdict::Decider;
use std::sync::Arc;

/// What refusals of one list have in common.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Prepared {
    pub list: Padded<SHORT>,
    /// What is said about each entry, if that is the same.
    pub reason: Option<Padded<SHORT>>,
    /// The text behind the address of the client.
    pub behind: Padded<SHORT>,
    pub status: Padded<16>,
    /// Whether all of them are shorter than [`VERY_SHORT`].
    pub is_very_short: bool,
    /// The number before that of its first entry.
    base: EntryId,
    pub(super) hits: Arc<Tally>,
    pub contents: Arc<Contents>,
    /// The line of its first entry, and by how much it goes up with each; `None` if it does not go up alike.
    lines: Option<(u32, u8)>,
    pub code: u16,
    /// As a verdict has it: 1 for yes.
    pub hang_up: u16,
}

/// Room for texts as short as most are, with a NUL.
pub(crate) const VERY_SHORT: usize = 32;

/// What refusals of all prepared lists have in common, so that a processor need not know which list it is in order to know where
/// the rest of the text goes.
#[derive(Debug, Default)]
pub(crate) struct Common {
    pub host: Padded<SHORT>,
    /// The text before the address of the client.
    pub before: Padded<SHORT>,
}

/// The prepared refusals of some lists, in their order.
#[derive(Debug, Default)]
pub(crate) struct PreparedLists {
    common: Common,
    /// For each list the number before that of its first entry.
    bases: Vec<EntryId>,
    /// Those of the first lists; numbers larger than those of entries where there are fewer.
    first: [i32; AT_ONCE],
    lists: Vec<Option<Box<Prepared>>>,
}

/// So many lists are searched at once.
const AT_ONCE: usize = 16;

impl Prepared {
    /// What the list has to refuse a client with that has just connected, and the text before the address; `None` if it does not
    /// refuse everybody, or in another shape than nearly all refusals have.
    fn of(list: &List) -> Option<(Box<Prepared>, Padded<SHORT>)> {
        let passes = list.conduct.shadow || list.conduct.exempt.meets(Exempt::CONNECTION);
        // What an image says is believed only after a look at all of the entry.
        if passes || list.role != Decider::Block || list.contents.is_mapped() || list.contents.has_replies() {
            return None;
        }
        let reply = list.replies.first()?.as_ref()?;
        let (before, behind) = reply.around_address()?;
        let (before, behind, reason) = (short(before)?, short(behind)?, list.contents.reason_of_all());
        let prepared = Prepared {
            list: list.shown_name,
            reason,
            behind,
            is_very_short: [list.shown_name, behind].iter().chain(&reason).all(is_very_short),
            status: *reply.shown_status(),
            base: list.base,
            hits: Arc::clone(&list.hits),
            contents: Arc::clone(&list.contents),
            lines: list.contents.lines_in_a_row(),
            code: reply.code,
            hang_up: reply.hang_up.into(),
        };
        Some((Box::new(prepared), before))
    }

    /// The number of an entry in the list, by that among all lists, and the length of its prefix. If the table has that, as it has
    /// of entries that always count, the entry is not read; 0 if it has not. `None` if the entry does not always count.
    #[inline(always)]
    pub(super) fn entry(&self, number: EntryId, length: u8) -> Option<(EntryId, u8)> {
        let number = number.wrapping_sub(self.base);
        let length = if length == 0 { self.read_length(number)? } else { length };
        Some((number, length))
    }

    #[inline(never)]
    fn read_length(&self, number: EntryId) -> Option<u8> {
        self.contents.entry(number)?.length_of_lasting_v4()
    }

    /// The line of an entry.
    #[inline(always)]
    pub(crate) fn line(&self, number: EntryId, length: u8) -> u32 {
        match self.lines {
            Some((first, step)) => first.wrapping_add(number.wrapping_sub(1).wrapping_mul(step.into())),
            None => self.line_in_runs(number, length),
        }
    }

    #[inline(never)]
    fn line_in_runs(&self, number: EntryId, length: u8) -> u32 {
        self.contents.line(Entry::lasting_v4(number, length))
    }
}

impl PreparedLists {
    pub(crate) fn of(lists: &[List], hostname: &str) -> PreparedLists {
        let bases: Vec<EntryId> = lists.iter().map(|list| list.base).collect();
        let mut first = [i32::MAX; AT_ONCE];
        first.iter_mut().zip(&bases).for_each(|(first, base)| *first = i32::try_from(*base).unwrap_or(i32::MAX));
        let mut common: Option<Common> = None;
        let prepare = |list: &List| {
            let (mut prepared, before) = Prepared::of(list)?;
            let host = short(hostname.as_bytes())?;
            let common = common.get_or_insert(Common { host, before });
            prepared.is_very_short &= is_very_short(&common.host) && is_very_short(&common.before);
            (common.before == before).then_some(prepared)
        };
        let lists = lists.iter().map(prepare).collect();
        PreparedLists { common: common.unwrap_or_default(), bases, first, lists }
    }

    /// What the list refuses with to which an entry belongs.
    #[inline(always)]
    pub(super) fn of_entry(&self, entry: EntryId) -> Option<(&Common, &Prepared)> {
        let begun = if self.bases.len() <= AT_ONCE {
            // All of them, which takes less than to look which.
            rank_below_of_16(&self.first, entry.cast_signed())
        } else {
            self.bases.partition_point(|base| *base < entry)
        };
        Some((&self.common, self.lists.get(begun.wrapping_sub(1))?.as_deref()?))
    }
}

fn short(text: &[u8]) -> Option<Padded<SHORT>> {
    (text.len() < SHORT).then(|| Padded::of(text))
}

fn is_very_short(text: &Padded<SHORT>) -> bool {
    text.as_bytes().len() < VERY_SHORT
}
