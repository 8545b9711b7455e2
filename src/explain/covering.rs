//! What one list has about an address or a name, by the definition: every entry is looked at.

use crate::contents::{About, Entry};
use crate::covering::List;
use crate::domain::Form;
use crate::list::Seconds;
use crate::mailbox::Mailbox;
use crate::policy::Exempt;
use std::cmp::Reverse;
use std::net::IpAddr;

/// A list, and its entries about the question: the one that speaks for it first.
pub(super) struct Judged<'a> {
    pub list: &'a List,
    pub own: Own,
    /// Each with why it does not speak for the list.
    pub entries: Vec<(Entry, Option<Beaten>)>,
}

/// What a list says by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Own {
    Covers,
    Exempt,
    Hole,
    Expired,
}

/// Why an entry does not speak for its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beaten {
    Expired,
    /// By one that is more specific.
    LessSpecific,
    /// By one that is alike: a hole, or one before it.
    Alike,
    /// In a list where the first entry decides: by one before it.
    Later,
}

impl Beaten {
    pub(super) fn name(self) -> &'static str {
        match self {
            Beaten::Expired => "expired",
            Beaten::LessSpecific => "less specific",
            Beaten::Alike => "repeated",
            Beaten::Later => "comes later",
        }
    }

    /// What is to be said of the entry that won.
    pub(super) fn winner(self) -> &'static str {
        match self {
            Beaten::LessSpecific => "in it the most specific entry decides",
            Beaten::Expired | Beaten::Alike | Beaten::Later => "in it the first entry decides",
        }
    }
}

/// How specific an entry is: of two that are equally specific a hole wins, then the one that comes first.
type Rank = (Reverse<usize>, bool);

impl<'a> Judged<'a> {
    /// What a list has about an address, if anything.
    pub(super) fn address(list: &'a List, address: IpAddr, situation: Exempt, now: Seconds) -> Option<Judged<'a>> {
        let exempt = list.conduct.exempt.meets(situation);
        Judged::new(list, exempt, now, list.contents.statement.ordered, |about| match about {
            About::Network(network) if network.contains(&address) => Some((Reverse(network.prefix_len().into()), false)),
            About::Network(_) | About::Domain(..) | About::Mailbox(_) => None,
        })
    }

    /// What a list has about a mailbox, or about its domain or address literal alone, if anything.
    pub(super) fn name(
        list: &'a List,
        mailbox: Option<&Mailbox<'_>>,
        place: Option<&[u8]>,
        situation: Exempt,
        now: Seconds,
    ) -> Option<Judged<'a>> {
        let named = |place: &[u8]| mailbox.and_then(|mailbox| mailbox.name(place));
        let (own, anywhere) = (place.and_then(named), named(b""));
        // What is no address matches nothing, not even by its local part.
        let invalid = place.is_none() && mailbox.is_none_or(|mailbox| mailbox.domain.is_some() || mailbox.literal.is_some());
        if invalid {
            return None;
        }
        let exempt = list.conduct.exempt.meets(situation);
        Judged::new(list, exempt, now, false, |about| match about {
            About::Domain(form, name) => {
                let place = place?;
                // Behind the mailbox itself, before the local part at any domain.
                form.covers(name, place).then_some((Reverse(name.len()), form != Form::Exact))
            }
            About::Mailbox(name) if own.is_some_and(|own| own.as_bytes() == name) => Some((Reverse(usize::MAX), false)),
            About::Mailbox(name) if anywhere.is_some_and(|anywhere| anywhere.as_bytes() == name) => Some((Reverse(0), true)),
            About::Mailbox(_) | About::Network(_) => None,
        })
    }

    fn new(list: &'a List, exempt: bool, now: Seconds, ordered: bool, rank: impl Fn(About<'_>) -> Option<Rank>) -> Option<Judged<'a>> {
        let ranked = list.contents.live().filter_map(|entry| Some((rank(list.contents.about(entry)?)?, entry)));
        let mut ranked: Vec<_> = ranked.collect();
        if !ordered {
            // The order of the file is kept among those that are alike.
            ranked.sort_by_key(|(rank, entry)| (*rank, !entry.is_hole()));
        }
        let first = ranked.first()?.1;
        let lasts = |entry: &Entry| !list.contents.is_over(*entry, now);
        // In an ordered list nothing comes after the first entry, not even when it has expired.
        let speaks = if ordered { Some(first).filter(lasts) } else { ranked.iter().map(|(_, entry)| *entry).find(lasts) };
        let own = match speaks {
            _ if exempt => Own::Exempt,
            None => Own::Expired,
            Some(entry) if entry.is_hole() => Own::Hole,
            Some(_) => Own::Covers,
        };
        let winner = ranked.iter().find(|(_, entry)| speaks == Some(*entry)).map(|(rank, _)| *rank);
        let beaten = |rank: Rank, entry: Entry| match (speaks, winner) {
            (Some(speaks), _) if speaks == entry => None,
            _ if list.contents.is_over(entry, now) => Some(Beaten::Expired),
            _ if ordered => Some(Beaten::Later),
            (_, Some(winner)) if winner == rank => Some(Beaten::Alike),
            _ => Some(Beaten::LessSpecific),
        };
        let mut entries: Vec<_> = ranked.iter().map(|(rank, entry)| (*entry, beaten(*rank, *entry))).collect();
        // Stable: the one that speaks first, the others as they were.
        entries.sort_by_key(|(_, beaten)| beaten.is_some());
        Some(Judged { list, own, entries })
    }

    /// The entry that speaks for the list.
    fn speaks(&self) -> Option<Entry> {
        self.entries.first().filter(|(_, beaten)| beaten.is_none()).map(|(entry, _)| *entry)
    }
}

/// Who decides, in the order of the lists, and the first list that would have refused if it were not only watched.
pub(super) fn first<'a>(lists: &[Judged<'a>], left_out: Option<&List>) -> (Option<(&'a List, Entry)>, Option<&'a List>) {
    let mut watched = None;
    for judged in lists {
        let left_out = left_out.is_some_and(|list| std::ptr::eq(list, judged.list));
        let (Own::Covers, Some(entry), false) = (judged.own, judged.speaks(), left_out) else { continue };
        if !judged.list.conduct.shadow {
            return (Some((judged.list, entry)), watched);
        }
        watched = watched.or(Some(judged.list));
    }
    (None, watched)
}
