//! Lists in force, and which of their entries decides about one thing.

use crate::compile::seconds;
use crate::contents::{Contents, Entry as ListEntry};
use crate::facts::Facts;
use crate::hits::Hits;
use crate::line::Padded;
use crate::list::Seconds;
use crate::networks::{Chains, Cover, EntryId, Link};
use crate::policy::{Conduct, Exempt, ListName, RESERVED};
use crate::reply::Reply;
use crate::ruleset::Ruleset;
use crate::seat::Seat;
use crate::verdict::{Decider, Entry, ROOM_OF_NAME, Verdict};
use std::sync::Arc;
use std::time::SystemTime;

/// A list in force.
#[derive(Debug)]
pub struct List {
    /// Its name in the policy.
    pub name: ListName,
    /// The name once more.
    pub(crate) shown_name: Padded<ROOM_OF_NAME>,
    pub(crate) role: Decider,
    pub(crate) conduct: Conduct,
    pub(crate) contents: Arc<Contents>,
    /// Of which lists those that it names have opted out.
    pub(crate) opt_out: Exempt,
    /// Number before that of its first entry.
    pub(crate) base: EntryId,
    /// What it answers, with its own name and that of the host filled in: at CONNECT, and later.
    pub(crate) replies: [Option<Reply>; 2],
    /// How often it decided, or would have. Goes on where the list of that name before a load stopped.
    pub(crate) hits: Hits,
}

impl List {
    pub(crate) fn new(name: ListName, role: Decider, conduct: Conduct, contents: Arc<Contents>) -> List {
        // Only a list that refuses can be passed over.
        let refuses = matches!(role, Decider::Block | Decider::Sender | Decider::Recipient);
        let conduct = if refuses { conduct } else { Conduct { exempt: Exempt::default(), shadow: false, ..conduct } };
        let shown_name = Padded::of(name.as_bytes());
        List {
            name,
            shown_name,
            role,
            conduct,
            contents,
            opt_out: Exempt::default(),
            base: 0,
            replies: [None, None],
            hits: Hits::default(),
        }
    }

    /// Prepares what it answers, on the host of that name.
    pub(crate) fn settle(&mut self, hostname: &str) {
        if matches!(self.role, Decider::NeverBlock | Decider::Allow) {
            return;
        }
        let Conduct { reply, connect_reply, .. } = &self.conduct;
        let settled = |reply: Option<&Reply>| reply.map(|reply| reply.settled(&self.name, hostname));
        self.replies = [settled(connect_reply.as_ref().or(reply.as_ref())), settled(reply.as_ref())];
    }

    /// Whether the policy names it; else it is there without being written.
    pub(crate) fn is_of_policy(&self) -> bool {
        !RESERVED.contains(&self.name.as_str())
    }

    /// What kind of rule its entries are.
    pub fn role(&self) -> Decider {
        self.role
    }

    /// What it refuses with; `None` if it refuses nobody. A line of a list may ask for another reply.
    pub fn refusal(&self) -> Option<&Reply> {
        self.conduct.reply.as_ref()
    }

    /// How often it decided, or would have refused if it were enforced: once for each question, a connection or a
    /// recipient. Goes on over loads as long as the policy has a list of that name.
    pub fn hits(&self) -> u64 {
        self.hits.sum()
    }

    /// Counts on where the list of that name stopped.
    pub(crate) fn continue_counting(&mut self, previous: &Ruleset) {
        if let Some(list) = previous.list(&self.name) {
            self.hits = list.hits.clone();
        }
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.contents.entries.len()
    }

    /// Whether it has no entry.
    pub fn is_empty(&self) -> bool {
        self.contents.entries.is_empty()
    }

    /// The file in which the entry that decided stands.
    pub fn file(&self, verdict: &Verdict) -> &str {
        // Lines count from 1 in each file; where a list has several, the entry tells which.
        let found = self.contents.live().find(|entry| {
            self.contents.line(*entry) == verdict.line && self.contents.about(*entry).map_or(Entry::None, Entry::from) == verdict.entry
        });
        found.map_or("", |entry| self.contents.file(entry))
    }

    /// What it answers: that of the line first, then that of the stage.
    #[inline(always)]
    pub(crate) fn reply(&self, entry: ListEntry, connect: bool) -> Option<&Reply> {
        if matches!(self.role, Decider::NeverBlock | Decider::Allow) {
            return None;
        }
        let [at_connect, later] = &self.replies;
        self.contents.reply(entry).or(if connect { at_connect.as_ref() } else { later.as_ref() })
    }
}

/// The entries that cover something, in the order in which they decide.
///
/// A mailbox has up to three covers: its own, that of its domain, that of its local part. In each the lists follow each
/// other, so all three are gone through side by side; inside one list they decide in this order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Covering<'a> {
    pub lists: &'a [List],
    pub chains: &'a Chains,
    pub covers: [Cover; 3],
}

/// The list, by its place, and the entry with a number.
#[inline(always)]
pub(crate) fn locate(lists: &[List], entry: EntryId) -> Option<(usize, &List, ListEntry)> {
    let at = lists.partition_point(|list| list.base < entry).checked_sub(1)?;
    let list = lists.get(at)?;
    Some((at, list, list.contents.entry(entry - list.base)?))
}

/// What decides among the entries that cover something.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Decided<'a> {
    pub by: Option<(&'a List, ListEntry)>,
    /// The first list that would have refused if it were not only watched.
    pub watched: Option<&'a List>,
}

impl<'a> Covering<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.covers.iter().all(|cover| cover.is_none())
    }

    /// Takes the next entry off the covers.
    fn next(&mut self) -> Option<(&'a List, ListEntry)> {
        let mut first: Option<(usize, &List, ListEntry)> = None;
        let mut taken: Option<(&mut Cover, Cover)> = None;
        let (lists, chains) = (self.lists, self.chains);
        for cover in &mut self.covers {
            let Link::Entry(number, rest) = chains.first(*cover) else { continue };
            let found = locate(lists, number)?;
            if first.is_none_or(|(at, ..)| found.0 < at) {
                (first, taken) = (Some(found), Some((cover, rest)));
            }
        }
        let (cover, rest) = taken?;
        *cover = rest;
        first.map(|(_, list, entry)| (list, entry))
    }

    /// For each list that does not pass over who asks: the entry that decides in it.
    pub(crate) fn deciding(mut self, situation: Exempt, facts: &Facts<'_>) -> impl Iterator<Item = (&'a List, ListEntry)> {
        // The clock is read if an entry depends on it, and not before.
        let (mut over, mut now): (Option<&List>, Option<Seconds>) = (None, facts.now);
        std::iter::from_fn(move || {
            loop {
                let (list, entry) = self.next()?;
                let passed = over.is_some_and(|over| std::ptr::eq(over, list)) || list.conduct.exempt.meets(situation);
                if passed || entry.ends() && list.contents.is_over(entry, *now.get_or_insert_with(|| seconds(SystemTime::now()))) {
                    continue;
                }
                over = Some(list);
                if !entry.is_hole() {
                    return Some((list, entry));
                }
            }
        })
    }

    /// The entry that decides. All lists that come to word count it, if it is `counted`.
    #[inline(always)]
    pub(crate) fn decide(self, situation: Exempt, facts: &Facts<'_>, counted: Option<Seat>) -> Decided<'a> {
        // Nearly always there is one cover, of one entry that counts for everybody.
        if let [cover, Cover::NONE, Cover::NONE] = self.covers
            && let Some((_, list, entry)) = cover.single().and_then(|number| locate(self.lists, number))
            && !(list.conduct.shadow | list.conduct.exempt.meets(situation) | entry.ends() | entry.is_hole())
        {
            if let Some(seat) = counted {
                list.hits.add(seat);
            }
            return Decided { by: Some((list, entry)), watched: None };
        }
        self.decide_by_chain(situation, facts, counted)
    }

    fn decide_by_chain(self, situation: Exempt, facts: &Facts<'_>, counted: Option<Seat>) -> Decided<'a> {
        let mut decided = Decided::default();
        for (list, entry) in self.deciding(situation, facts) {
            if let Some(seat) = counted {
                list.hits.add(seat);
            }
            if !list.conduct.shadow {
                return Decided { by: Some((list, entry)), ..decided };
            }
            decided.watched = decided.watched.or(Some(list));
        }
        decided
    }
}
