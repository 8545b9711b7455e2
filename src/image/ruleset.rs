//! A ruleset in an image: the text of its policy, what was read of each list, and the tables.
//!
//! The policy is read again when an image is opened, which takes microseconds, and with it what it says about relaying; what
//! takes time in proportion to the lists is there already.

use super::{Reader, Stored, Writer};
use crate::contents::{Contents, Wanted};
use crate::domain::DomainTable;
use crate::networks::{Chains, NetworkTable};
use crate::ruleset::Ruleset;
use std::collections::HashMap;
use std::sync::Arc;

/// The tables of the lists of names.
const TABLES: usize = 4;

/// What was read of a policy, and made of it, but for the policy itself.
pub(crate) struct Restored {
    contents: HashMap<String, Arc<Contents>>,
    networks: Option<(NetworkTable, Chains)>,
    /// In the order in which a ruleset is compiled.
    names: std::vec::IntoIter<(DomainTable, Chains)>,
    /// Something was asked for that the image does not have.
    is_incomplete: bool,
}

impl Restored {
    /// What was read of the list of that name, for those rules.
    pub(crate) fn contents(&mut self, wanted: Wanted, name: &str) -> Arc<Contents> {
        let contents = self.contents.remove(&key(wanted, name));
        self.is_incomplete |= contents.is_none();
        contents.unwrap_or_default()
    }

    /// The table of the networks.
    pub(crate) fn networks(&mut self) -> Option<(NetworkTable, Chains)> {
        let networks = self.networks.take();
        self.is_incomplete |= networks.is_none();
        networks
    }

    /// The next table of names.
    pub(crate) fn names(&mut self) -> Option<(DomainTable, Chains)> {
        let names = self.names.next();
        self.is_incomplete |= names.is_none();
        names
    }

    pub(crate) fn is_incomplete(&self) -> bool {
        self.is_incomplete
    }
}

/// What a list is found by: lists of different kinds may have the same name.
fn key(wanted: Wanted, name: &str) -> String {
    let kind = match wanted {
        Wanted::Addresses => "addresses",
        Wanted::Domains => "domains",
        Wanted::Senders => "senders",
        Wanted::Recipients => "recipients",
    };
    format!("{kind} {name}")
}

/// Stores a ruleset, and the policy that it came from: its text, and how messages name it.
pub(crate) fn store(ruleset: &Ruleset, text: &str, name: &str, image: &mut Writer) {
    image.text(name);
    image.text(text);
    let Ruleset { lists, networks, address_chains, domains, senders, recipients, opt_outs, .. } = ruleset;
    let mut contents: HashMap<String, &Contents> = HashMap::new();
    for (wanted, lists) in [
        (Wanted::Addresses, lists),
        (Wanted::Domains, &domains.lists),
        (Wanted::Senders, &senders.lists),
        (Wanted::Recipients, &recipients.lists),
        (Wanted::Recipients, &opt_outs.lists),
    ] {
        contents.extend(lists.iter().map(|list| (key(wanted, &list.name), &*list.contents)));
    }
    // One policy makes one image.
    let mut contents: Vec<_> = contents.into_iter().collect();
    contents.sort_by(|one, other| one.0.cmp(&other.0));
    image.number(contents.len() as u64);
    for (key, contents) in contents {
        image.text(&key);
        contents.store(image);
    }
    networks.store(image);
    address_chains.store(image);
    for names in [domains, senders, opt_outs, recipients] {
        names.store(image);
    }
}

/// The text of the policy, how messages name it, and all else.
pub(crate) fn restore(mut image: Reader) -> Option<(String, String, Restored)> {
    let (name, text) = (image.text()?, image.text()?);
    let count = image.number()?;
    let contents: Option<HashMap<_, _>> = (0..count).map(|_| Some((image.text()?, Arc::new(Contents::restore(&mut image)?)))).collect();
    let networks = Some((NetworkTable::restore(&mut image)?, Chains::restore(&mut image)?));
    let names: Option<Vec<_>> = (0..TABLES).map(|_| Some((DomainTable::restore(&mut image)?, Chains::restore(&mut image)?))).collect();
    let restored = Restored { contents: contents?, networks, names: names?.into_iter(), is_incomplete: false };
    image.is_at_end().then_some((text, name, restored))
}
