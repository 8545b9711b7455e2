//! The quick way through a check: for a client that has just connected, of whom nothing is known but the address, while the
//! mode is open and there are neither bans nor limits. Nearly all such clients are in no list, and nearly all others in one that
//! refuses everybody whom it has. For these nothing is prepared that only other questions need: it takes half the time.
//!
//! Whatever is decided here the order of decision (`ruleset/order.rs`) would decide too. In all other cases there is no answer
//! here, and the question is to be asked there. `tests/quick.rs` asks both.

use super::prepared::Prepared;
use super::{Gate, InForce};
use crate::bans::Bans;
use crate::contents::Entry;
use crate::networks::Cover;
use crate::ruleset::{Live, Ruleset};
use std::net::IpAddr;

/// What a client came to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome<'a> {
    /// Accepted: it is in no list. The generation of the rules.
    Unlisted(u64),
    Refused(Refusal<'a>),
}

/// The refusal of an IPv4 client, by an entry of a list that the policy has, with a reply in which only the address is to be
/// filled in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal<'a> {
    pub generation: u64,
    pub prepared: &'a Prepared,
    pub entry: Entry,
    pub client: u32,
}

impl Gate {
    /// Decides about a client that has just connected, counts, and hands over the outcome to be written to where it is wanted.
    /// `None` if the order of decision has to be gone through; then nothing is counted.
    #[inline(always)]
    pub(crate) fn ask_quickly<T>(&self, client: &IpAddr, write: impl FnOnce(Outcome<'_>) -> T) -> Option<T> {
        let in_force = self.in_force.look();
        let InForce { ruleset, is_quiet: true, .. } = &*in_force else { return None };
        let (cover, length) = ruleset.networks.get_with_length(client);
        if cover.is_none() {
            in_force.count();
            return Some(write(Outcome::Unlisted(ruleset.generation())));
        }
        let refusal = ruleset.refusal(client, cover, length)?;
        in_force.count();
        let written = write(Outcome::Refused(refusal));
        refusal.prepared.hits.add(in_force.seat());
        self.tallies.refused(refusal.prepared.code, in_force.seat());
        Some(written)
    }
}

impl Ruleset {
    /// Whether nothing but lists can refuse a client that has just connected.
    pub(super) fn is_quiet(&self, live: &Live<'_>) -> bool {
        let is_open = !self.timed && !live.overloaded && self.mode_reply(live).is_none();
        is_open && live.bans.is_none_or(Bans::is_empty) && !live.has_limits()
    }

    /// The refusal of a client that something covers, if one entry does, which counts for everybody.
    #[inline(always)]
    fn refusal<'a>(&'a self, client: &IpAddr, cover: Cover, length: Option<u8>) -> Option<Refusal<'a>> {
        let IpAddr::V4(client) = client else { return None };
        let number = cover.single()?;
        let prepared = self.prepared.of_entry(number)?;
        let entry = prepared.entry(number, length)?;
        Some(Refusal { generation: self.generation, prepared, entry, client: client.to_bits() })
    }
}
