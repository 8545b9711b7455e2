//! Lists of domains and mailboxes in one table.
//!
//! Inside a list the most specific entry decides: `user@example.org`, then the domain by its form, then `user@`, as in
//! the access maps of Postfix and Sendmail.

use crate::contents::About;
use crate::covering::{Covering, List};
use crate::diagnostic::Fault;
use crate::domain::{Covered, DomainTable, DomainTableBuilder, Form, Place};
use crate::image::{Restored, Stored, Writer};
use crate::mailbox::Mailbox;
use crate::memory::Watch;
use crate::networks::{Chains, Cover};
use crate::resolve::{Candidate, Resolver, number};

/// Lists of names, ready to be asked.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub lists: Vec<List>,
    table: DomainTable,
    chains: Chains,
}

impl Names {
    /// Lists of domains alone.
    pub(crate) fn of_domains(mut lists: Vec<List>, image: Option<&mut Restored>) -> (Names, Option<Fault>) {
        let resolver = Resolver::new(number(&mut lists));
        Names::new(lists, resolver, image)
    }

    /// Lists that have mailboxes too.
    pub(crate) fn of_mailboxes(mut lists: Vec<List>, image: Option<&mut Restored>) -> (Names, Option<Fault>) {
        let resolver = Resolver::keeping_all(number(&mut lists));
        Names::new(lists, resolver, image)
    }

    /// Makes the table, or takes it from an image.
    fn new(lists: Vec<List>, mut resolver: Resolver, image: Option<&mut Restored>) -> (Names, Option<Fault>) {
        if let Some(image) = image {
            let (table, chains) = image.names().unwrap_or_default();
            return (Names { lists, table, chains }, None);
        }
        let mut builder = DomainTableBuilder::new(lists.iter().map(|list| list.contents.entries.len()).sum());
        let (mut fault, watch) = (None, Watch::begin());
        for (number, list) in lists.iter().enumerate() {
            for found in list.contents.live() {
                let (form, name) = match list.contents.about(found) {
                    Some(About::Domain(form, name)) => (form, name),
                    Some(About::Mailbox(name)) => (Form::Exact, name),
                    Some(About::Network(_)) | None => continue,
                };
                let candidate = Candidate { list: number, entry: found.number(), hole: found.is_hole(), expires: found.ends() };
                // One is as good as many: the table is full, or memory is short.
                fault = fault.or_else(|| watch.check().and_then(|()| builder.add(form, name, candidate)).err());
            }
        }
        let table = builder.finish(|candidates| resolver.names(candidates));
        (Names { lists, table, chains: resolver.into_chains() }, fault)
    }

    pub(crate) fn store(&self, image: &mut Writer) {
        self.table.store(image);
        self.chains.store(image);
    }

    /// Whether no name is listed.
    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// What covers a domain or an address literal; `None` if nothing does.
    pub(crate) fn of_place(&self, place: Place<'_>) -> Option<Covering<'_>> {
        self.covering([self.table.get(place), Cover::NONE, Cover::NONE])
    }

    /// What covers a domain, and what the table tells of the entry.
    #[inline(always)]
    pub(crate) fn look_up<'a>(&self, domain: Place<'a>) -> Covered<'a> {
        self.table.look_up(domain)
    }

    /// What covers a mailbox, which is at a place; `None` if nothing does.
    pub(crate) fn of_mailbox(&self, mailbox: &Mailbox<'_>, place: Option<Place<'_>>) -> Option<Covering<'_>> {
        // What is no address matches nothing, not even by its local part.
        let invalid = place.is_none() && (mailbox.domain.is_some() || mailbox.literal.is_some());
        if self.is_empty() || invalid {
            return None;
        }
        let named = |place: &[u8]| match mailbox.name(place) {
            Some(name) => self.table.get_apart(name.as_bytes()),
            None => Cover::NONE,
        };
        let of_place = place.map_or(Cover::NONE, |place| self.table.get(place));
        if !self.table.has_apart() {
            return self.covering([of_place, Cover::NONE, Cover::NONE]);
        }
        self.covering([place.map_or(Cover::NONE, |place| named(&place)), of_place, named(b"")])
    }

    fn covering(&self, covers: [Cover; 3]) -> Option<Covering<'_>> {
        Some(Covering { lists: &self.lists, chains: &self.chains, covers }).filter(|covering| !covering.is_empty())
    }

    /// Whether an entry covers a place.
    pub(crate) fn is_of_place(about: Option<About<'_>>, place: Option<Place<'_>>) -> bool {
        matches!((about, place), (Some(About::Domain(form, name)), Some(place)) if form.covers(name, &place))
    }

    /// Whether an entry covers a mailbox, which is at a place.
    pub(crate) fn is_of_mailbox(about: Option<About<'_>>, mailbox: &Mailbox<'_>, place: Option<Place<'_>>) -> bool {
        let named = |at: &[u8], entry: &[u8]| mailbox.name(at).is_some_and(|name| name.as_bytes() == entry);
        match about {
            Some(About::Mailbox(name)) => named(b"", name) || place.is_some_and(|place| named(&place, name)),
            _ => Names::is_of_place(about, place),
        }
    }
}
