//! Refusals that are ready but for the address of the client or the domain of the recipient: of each list that refuses everybody
//! whom it has, all that stays the same, in one piece of memory.

use crate::contents::{Contents, Entry};
use crate::covering::List;
use crate::hits::{Hits, Lanes};
use crate::line::{Padded, SHORT};
use crate::networks::EntryId;
use crate::policy::Exempt;
use crate::reply::Placeholder;
use crate::resolve::BLOCK;
use crate::seat::Seat;
use crate::verdict::Decider;
use std::sync::Arc;

/// What refusals of one list have in common.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Prepared {
    pub list: Padded<SHORT>,
    /// What is said about each entry, if that is known without looking at the entry.
    pub reason: Padded<SHORT>,
    /// The text behind what is filled in.
    pub behind: Padded<SHORT>,
    pub head: Head,
    /// Whether the head is that of nearly all lists, all texts are shorter than [`VERY_SHORT`], and nothing is to be looked up.
    pub is_usual: bool,
    /// Whether reason and line are known without looking at the entry.
    pub tells_origin: bool,
    /// The number before that of its first entry.
    base: EntryId,
    hits: Hits,
    /// What to add to the lanes of hits; 0 if the list has none.
    one_hit: u64,
    pub contents: Arc<Contents>,
    /// By how much the line goes up with the number of an entry, and what it would be of number 0 of all lists.
    lines: (u32, u32),
}

/// What a verdict has beside texts and line, in the order of its fields: so it is copied by few instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Head {
    pub code: u16,
    /// 1 for yes.
    pub hang_up: u16,
    /// The number of the decider, and a zero.
    pub decider: [u16; 2],
    /// The generation of the rules, and a zero.
    pub generation: [u64; 2],
    pub status: Padded<16>,
}

/// Room for texts as short as most are, with a NUL.
pub(crate) const VERY_SHORT: usize = 32;

/// What refusals of all prepared lists have in common, so that a processor need not know which list it is in order to write it, and
/// to know where the rest of the text goes.
#[derive(Debug, Default)]
pub(crate) struct Common {
    pub host: Padded<SHORT>,
    /// The text before what is filled in.
    pub before: Padded<SHORT>,
    /// That of the first of them: most have the same.
    pub head: Head,
}

/// The prepared refusals of some lists.
#[derive(Debug, Default)]
pub(crate) struct PreparedLists {
    common: Common,
    lanes: Arc<Lanes>,
    /// For each block of numbers of entries that of the list that has them.
    blocks: Vec<Option<Arc<Prepared>>>,
}

/// What lists refuse.
#[derive(Clone, Copy, Debug)]
pub(super) enum Refused {
    /// Clients that have just connected.
    Clients,
    /// Recipients, by their domains.
    Places,
}

impl Prepared {
    /// What the list has to refuse with, and the text before what is filled in; `None` if it does not refuse everybody, or in another
    /// shape than nearly all refusals have.
    fn of(list: &List, refused: Refused, generation: u64) -> Option<(Prepared, Padded<SHORT>)> {
        let passes = list.conduct.shadow || list.conduct.exempt.meets(Exempt::CONNECTION);
        // What an image says is believed only after a look at all of the entry.
        if passes || list.role != refused.role() || list.contents.is_mapped() || list.contents.has_replies() {
            return None;
        }
        let [at_connect, later] = &list.replies;
        let (reply, placeholder) = match refused {
            Refused::Clients => (at_connect.as_ref()?, Placeholder::Ip),
            Refused::Places => (later.as_ref()?, Placeholder::Domain),
        };
        let (before, behind) = reply.around(placeholder)?;
        let (before, behind) = (short(before)?, short(behind)?);
        let (reason, lines) = (list.contents.reason_of_all(), list.contents.lines_in_a_row());
        let tells_origin = reason.is_some() && lines.is_some();
        let (reason, (first, step)) = (reason.unwrap_or_default(), lines.unwrap_or_default());
        let prepared = Prepared {
            list: list.shown_name,
            reason,
            behind,
            is_usual: tells_origin && [list.shown_name, behind, reason].iter().all(is_very_short),
            tells_origin,
            head: Head {
                code: reply.code,
                hang_up: reply.hang_up.into(),
                decider: [refused.role() as u16, 0],
                generation: [generation, 0],
                status: *reply.shown_status(),
            },
            base: list.base,
            hits: list.hits.clone(),
            one_hit: list.hits.one(),
            contents: Arc::clone(&list.contents),
            lines: (step.into(), first.wrapping_sub(list.base.wrapping_add(1).wrapping_mul(step.into()))),
        };
        Some((prepared, before))
    }

    /// The length of an entry's prefix, if the table does not have it; `None` if the entry does not always count.
    #[cold]
    pub(super) fn read_length(&self, number: EntryId) -> Option<u8> {
        self.entry(number)?.length_of_lasting_v4()
    }

    /// An entry about IPv4 addresses that always counts, by its number among all lists and the length of its prefix.
    pub(crate) fn v4_entry(&self, number: EntryId, length: u8) -> Entry {
        Entry::lasting_v4(number.wrapping_sub(self.base), length)
    }

    /// An entry by its number among all lists.
    pub(crate) fn entry(&self, number: EntryId) -> Option<Entry> {
        self.contents.entry(number.wrapping_sub(self.base))
    }

    /// The line of an entry, if it is told.
    #[inline(always)]
    pub(crate) fn line(&self, number: EntryId) -> u32 {
        let (step, before) = self.lines;
        number.wrapping_mul(step).wrapping_add(before)
    }
}

impl Refused {
    fn role(self) -> Decider {
        match self {
            Refused::Clients => Decider::Block,
            Refused::Places => Decider::Domain,
        }
    }
}

impl PreparedLists {
    /// Lists take lanes for their hits.
    pub(super) fn of(lists: &mut [List], refused: Refused, hostname: &str, generation: u64, lanes: &Arc<Lanes>) -> PreparedLists {
        let mut common: Option<Common> = None;
        let mut prepare = |list: &List| {
            let (mut prepared, before) = Prepared::of(list, refused, generation)?;
            let host = short(hostname.as_bytes())?;
            let common = common.get_or_insert(Common { host, before, head: prepared.head });
            prepared.is_usual &= is_very_short(&common.host) && is_very_short(&common.before) && common.head == prepared.head;
            (common.before == before).then(|| Arc::new(prepared))
        };
        let mut blocks = Vec::new();
        for list in lists {
            if list.role == refused.role() {
                list.hits.take_lane(lanes);
            }
            let prepared = prepare(list);
            blocks.resize(block_of(list.base), None);
            blocks.resize(block_of(list.base) + list.contents.entries.len() / BLOCK as usize + 1, prepared);
        }
        PreparedLists { common: common.unwrap_or_default(), lanes: Arc::clone(lanes), blocks }
    }

    /// Counts a refusal by a list, at a seat that is the thread's own.
    #[inline(always)]
    pub(super) fn count(&self, prepared: &Prepared, seat: Seat) {
        if prepared.one_hit == 0 {
            prepared.hits.add(seat);
        } else {
            self.lanes.add(prepared.one_hit, seat);
        }
    }

    /// What the list refuses with to which an entry belongs.
    #[inline(always)]
    pub(super) fn of_entry(&self, entry: EntryId) -> Option<(&Common, &Prepared)> {
        Some((&self.common, self.blocks.get(block_of(entry))?.as_deref()?))
    }
}

#[inline(always)]
fn block_of(entry: EntryId) -> usize {
    (entry / BLOCK) as usize
}

fn short(text: &[u8]) -> Option<Padded<SHORT>> {
    (text.len() < SHORT).then(|| Padded::of(text))
}

fn is_very_short(text: &Padded<SHORT>) -> bool {
    text.as_bytes().len() < VERY_SHORT
}
