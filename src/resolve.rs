//! Who decides where several lists cover the same address or name: settled when a ruleset is compiled.
//!
//! Lists follow each other in the order of the policy. The first one decides, unless it may be passed over: its entry
//! expires, it is only watched (shadow), or it does not concern some clients (exempt). Then those that follow are kept
//! behind it as a chain, as far as any question could reach them.

use crate::covering::List;
use crate::networks::{ChainMaker, Chains, Cover, Covering, EntryId};
use crate::policy::Exempt;

/// What the place of a list in the chain depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    /// Who is passed over.
    pub exempt: Exempt,
    /// What it would refuse is only counted.
    pub shadow: bool,
    /// Number before that of its first entry.
    pub base: EntryId,
}

/// Numbers of entries come in blocks of so many, none of which has entries of two lists: so a table of blocks tells whose an entry
/// is, which takes less than a search.
pub(crate) const BLOCK: EntryId = 1 << 12;

/// Numbers the entries of lists that follow each other, and says what the place of each depends on.
pub(crate) fn number(lists: &mut [List]) -> Vec<Standing> {
    let mut base: EntryId = 0;
    let mut standings = Vec::with_capacity(lists.len());
    for list in lists {
        list.base = base;
        standings.push(Standing { exempt: list.conduct.exempt, shadow: list.conduct.shadow, base });
        // The first entry of a list has the number after its base, so the last one may not have that of the next base.
        let next = list.contents.entries.len() as u64 + u64::from(base) + 1;
        base = EntryId::try_from(next.next_multiple_of(BLOCK.into())).unwrap_or(EntryId::MAX);
    }
    standings
}

/// An entry of a domain list that covers a name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    /// Number of its list.
    pub list: usize,
    /// Its number in that list.
    pub entry: EntryId,
    pub hole: bool,
    pub expires: bool,
}

/// Entries of one list that cover the same thing, the winner first.
#[derive(Clone, Debug)]
struct Step {
    entries: Vec<EntryId>,
    /// After the last of them the list may still be passed over.
    open: bool,
}

/// Makes one cover of the covers of all lists.
#[derive(Debug)]
pub(crate) struct Resolver {
    lists: Vec<Standing>,
    /// Whether nothing can follow a list whose entry does not expire.
    last: Vec<bool>,
    maker: ChainMaker,
    /// Another cover may decide before this one, and a hole in it make way for lists that this one puts behind others:
    /// holes are kept, and so are lists that nothing reaches here.
    keep_all: bool,
}

impl Resolver {
    /// For lists in the order in which they decide.
    pub(crate) fn new(lists: Vec<Standing>) -> Resolver {
        let follows = |at: usize, list: &Standing| lists.iter().skip(at + 1).any(|later| !list.exempt.is_within(later.exempt));
        let last = lists.iter().enumerate().map(|(at, list)| !list.shadow && !follows(at, list)).collect();
        Resolver { lists, last, maker: ChainMaker::default(), keep_all: false }
    }

    /// For lists of names whose covers are gone through side by side with others.
    pub(crate) fn keeping_all(lists: Vec<Standing>) -> Resolver {
        Resolver { keep_all: true, ..Resolver::new(lists) }
    }

    /// The chains that were made.
    pub(crate) fn into_chains(self) -> Chains {
        self.maker.into_chains()
    }

    /// Which lists cover an address, each with its own cover and chains, to one cover.
    pub(crate) fn addresses(&mut self, covering: &Covering, chains: &[&Chains]) -> Cover {
        let Some((list, cover)) = covering.first() else { return Cover::NONE };
        // Nearly always the first list decides with one entry.
        if let (Some(true), Some(standing)) = (self.last.get(list), self.lists.get(list))
            && let Some(entry) = cover.single()
        {
            return Cover::entry(standing.base + entry);
        }
        let mut steps = Vec::new();
        for (list, cover) in covering.iter() {
            let (Some(chains), Some(standing)) = (chains.get(list), self.lists.get(list)) else { continue };
            let entries = chains.entries(cover).map(|entry| standing.base + entry).collect();
            steps.push((list, Step { entries, open: chains.is_open(cover) }));
        }
        self.sequence(steps)
    }

    /// Candidates for a name, in the order in which they decide, to one cover.
    pub(crate) fn names(&mut self, candidates: &[Candidate]) -> Cover {
        // Nearly always there is one.
        if let [only] = candidates
            && let Some(standing) = self.lists.get(only.list)
        {
            let ends = only.hole && !only.expires && !self.keep_all;
            return if ends { Cover::NONE } else { Cover::entry(standing.base + only.entry) };
        }
        let mut steps = Vec::new();
        for group in candidates.chunk_by(|one, next| one.list == next.list) {
            let Some(list) = group.first().map(|candidate| candidate.list) else { continue };
            let Some(standing) = self.lists.get(list) else { continue };
            let mut step = Step { entries: Vec::new(), open: true };
            for candidate in group {
                // A hole that always counts is the end of its list.
                if candidate.hole && !candidate.expires && !self.keep_all {
                    break;
                }
                step.entries.push(standing.base + candidate.entry);
                if !candidate.expires {
                    step.open = false;
                    break;
                }
            }
            steps.push((list, step));
        }
        self.sequence(steps)
    }

    /// Strings the lists together, as far as a question can get.
    fn sequence(&mut self, steps: Vec<(usize, Step)>) -> Cover {
        let mut entries = Vec::new();
        // Lists that always count, but for those whom they pass over.
        let mut before: Vec<Exempt> = Vec::new();
        for (list, step) in steps {
            let Some(standing) = self.lists.get(list) else { continue };
            // To get here somebody must be passed over by each list before, and not by this one.
            if !self.keep_all && before.iter().any(|exempt| exempt.is_within(standing.exempt)) {
                continue;
            }
            if !step.open && !standing.shadow {
                before.push(standing.exempt);
            }
            entries.extend(step.entries);
        }
        self.maker.sequence(&entries)
    }
}
