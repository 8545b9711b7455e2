//! The quick way through a check, while the mode is open and there are neither bans nor limits: for a client that has just
//! connected, of whom nothing is known but the address, and for a recipient where there are no rules but lists of clients and of
//! domains. Nearly all such clients are in no list, and nearly all others in one that refuses everybody whom it has; nearly all
//! recipients are at a domain that is in no list, or in one by its own name. For these nothing is prepared that only other questions
//! need: it takes half the time.
//!
//! Whatever is decided here the order of decision (`ruleset/order.rs`) would decide too. In all other cases there is no answer
//! here, and the question is to be asked there. `tests/quick.rs` asks both.

use super::prepared::{Common, Prepared, PreparedLists, Refused};
use super::{Gate, InForce};
use crate::bans::Bans;
use crate::domain::{Covered, Form, Place};
use crate::hits::Lanes;
use crate::mailbox::usual_domain;
use crate::networks::EntryId;
use crate::published::Reader;
use crate::ruleset::{Live, Ruleset};
use crate::seat::Seat;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// What a client or a recipient came to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome<R> {
    /// Accepted: it is in no list. The generation of the rules.
    Unlisted(u64),
    Refused(R),
}

/// The refusal of an IPv4 client, by an entry of a list that the policy has, with a reply in which only the address is to be
/// filled in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal<'a> {
    pub common: &'a Common,
    pub prepared: &'a Prepared,
    /// The entry's number among those of all lists, and the length of its prefix.
    pub number: EntryId,
    pub length: u8,
    pub client: u32,
}

/// The refusal of a recipient by an entry about its domain, with a reply in which only that is to be filled in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RefusedPlace<'a> {
    pub common: &'a Common,
    pub prepared: &'a Prepared,
    /// The entry's number among those of all lists of domains.
    pub number: EntryId,
    pub form: Form,
    /// The name of the entry, with which the domain ends.
    pub name: &'a [u8],
    pub place: &'a [u8],
}

impl Gate {
    /// Decides about an IPv4 client that has just connected, counts, and hands over the outcome to be written to where it is
    /// wanted. `None` if the order of decision has to be gone through; then nothing is counted.
    #[inline(always)]
    pub(crate) fn ask_quickly_v4<T>(&self, client: u32, write: impl FnOnce(Outcome<Refusal<'_>>) -> T) -> Option<T> {
        let seat = Seat::own()?;
        let mut in_force = self.look_quickly(seat)?;
        let outcome = in_force.ruleset.v4_outcome(client)?;
        if let Outcome::Refused(Refusal { prepared, .. }) = outcome {
            self.tallies.refused(prepared.head.code, seat);
            in_force.ruleset.prepared.count(prepared, seat);
        }
        let written = write(outcome);
        in_force.count();
        Some(written)
    }

    /// As above, about an IPv6 client: the generation of the rules if they accept it.
    #[inline(always)]
    pub(crate) fn ask_quickly_v6(&self, client: Ipv6Addr) -> Option<u64> {
        let mut in_force = self.look_quickly(Seat::own()?)?;
        let generation = in_force.ruleset.networks.get(&client.into()).is_none().then_some(in_force.ruleset.generation)?;
        in_force.count();
        Some(generation)
    }

    /// Decides about a recipient of whose authentication nothing is known, counts, and hands over the outcome to be written to where
    /// it is wanted, while nothing but lists of clients and of domains can refuse. `None`, and nothing is counted, if a list has the
    /// client, the domain is not in the form of the tables, or there is more to what a list says about it than the table tells.
    #[inline(always)]
    pub(crate) fn ask_quickly_rcpt<T>(
        &self,
        client: Option<IpAddr>,
        recipient: &[u8],
        write: impl FnOnce(Outcome<RefusedPlace<'_>>) -> T,
    ) -> Option<T> {
        let seat = Seat::own()?;
        let mut in_force = self.in_force.look_from(seat);
        let InForce { ruleset, has_only_places, .. } = &*in_force;
        if !has_only_places || client.is_some_and(|client| !ruleset.networks.get(&client).is_none()) {
            return None;
        }
        let place = usual_domain(recipient)?;
        let covered = ruleset.domains.look_up(place);
        let outcome = ruleset.place_outcome(place, covered)?;
        if let Outcome::Refused(RefusedPlace { prepared, .. }) = outcome {
            self.tallies.refused(prepared.head.code, seat);
            ruleset.prepared_places.count(prepared, seat);
        }
        let written = write(outcome);
        in_force.count();
        Some(written)
    }

    #[inline(always)]
    fn look_quickly(&self, seat: Seat) -> Option<Reader<'_, InForce>> {
        let in_force = self.in_force.look_from(seat);
        in_force.is_quiet.then_some(in_force)
    }
}

impl Ruleset {
    /// Prepares refusals, for a gate that has those lanes for the hits of lists.
    pub(super) fn prepare(&mut self, lanes: &Arc<Lanes>) {
        self.prepared = PreparedLists::of(&mut self.lists, Refused::Clients, &self.hostname, self.generation, lanes);
        self.prepared_places = PreparedLists::of(&mut self.domains.lists, Refused::Places, &self.hostname, self.generation, lanes);
    }

    /// Whether nothing but lists of clients and of domains can refuse a recipient of whose authentication nothing is known, and
    /// whose client nothing else refuses.
    pub(super) fn has_only_places(&self) -> bool {
        self.recipients.is_empty() && self.senders.is_empty() && self.relay.reply.is_none()
    }

    /// Whether nothing but lists can refuse a client that has just connected.
    pub(super) fn is_quiet(&self, live: &Live<'_>) -> bool {
        let is_open = !self.timed && !live.overloaded && self.mode_reply(live).is_none();
        is_open && live.bans.is_none_or(Bans::is_empty) && !live.has_limits()
    }

    #[inline(always)]
    fn place_outcome<'a>(&'a self, place: Place<'a>, covered: Covered<'a>) -> Option<Outcome<RefusedPlace<'a>>> {
        if covered.cover.is_none() {
            return Some(Outcome::Unlisted(self.generation));
        }
        let (form, number) = (covered.form?, covered.cover.single()?);
        let (common, prepared) = self.prepared_places.of_entry(number)?;
        let (name, place) = (covered.suffix, place.as_bytes());
        Some(Outcome::Refused(RefusedPlace { common, prepared, number, form, name, place }))
    }

    #[inline(always)]
    fn v4_outcome(&self, client: u32) -> Option<Outcome<Refusal<'_>>> {
        let (cover, length) = self.networks.get_v4_with_length(client);
        if cover.is_none() {
            return Some(Outcome::Unlisted(self.generation));
        }
        let number = cover.single()?;
        let (common, prepared) = self.prepared.of_entry(number)?;
        // If the table has the length, as it has of entries that always count, the entry is not read.
        let length = if length == 0 { prepared.read_length(number)? } else { length };
        Some(Outcome::Refused(Refusal { common, prepared, number, length, client }))
    }
}
