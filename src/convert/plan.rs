//! The entries of a list as a format has to have them, so that they mean the same in it.
//!
//! Where entries inside of others, and holes, mean in the format what they mean here, they are handed over as they are; a
//! format in which the first match decides gets the most specific ones first. Otherwise, and for a list in which order
//! decides, what is handed over is what the list comes to: the fewest networks that cover what it covers, each with the
//! reason and the reply of the entry that wins there. Neighbours that say the same become one, but no network gets wider
//! than the entries that it is made of: what a guard lets through it lets through afterwards, too.

use super::holds::Holds;
use crate::contents::{About, Contents, Entry, Reason};
use crate::domain::Form;
use crate::list::rbldnsd::Kind;
use crate::list::{Format, Seconds};
use crate::networks::{Cover, EntryId, Interval};
use crate::reply::Reply;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::cmp::Reverse;
use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How many bits a prefix may be lengthened by, so that it ends at an octet or group: an entry becomes at most 256.
pub(super) const MAX_SPLIT_BITS: u8 = 8;

/// What an entry is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Subject<'a> {
    Network(IpNet),
    Range(IpAddr, IpAddr),
    Name(Form, &'a str),
    Mailbox(&'a str),
}

/// An entry to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item<'a> {
    pub subject: Subject<'a>,
    pub hole: bool,
    pub reason: Reason,
    pub reply: Option<&'a Reply>,
    pub expires: Option<Seconds>,
    /// Its line in the list that it comes from.
    pub line: u32,
}

/// How the entries are handed over.
enum Way {
    /// In their order.
    AsTheyAre,
    /// In this order.
    Sorted(Vec<EntryId>),
    /// As the set that they come to.
    Effective,
}

/// The entries of a list for a format.
pub(super) struct Plan<'a> {
    contents: &'a Contents,
    holds: &'static Holds,
    now: Seconds,
    way: Way,
}

type Each<'a, 's> = dyn FnMut(&Item<'a>) -> io::Result<()> + 's;

impl<'a> Plan<'a> {
    pub(super) fn new(contents: &'a Contents, holds: &'static Holds, now: Seconds, names: bool) -> Plan<'a> {
        let mut plan = Plan { contents, holds, now, way: Way::AsTheyAre };
        if names {
            return plan;
        }
        let holes_fit = plan.live().all(|entry| !entry.is_hole() || plan.hole_fits(entry));
        if contents.statement.ordered || !holds.nested || !holes_fit {
            plan.way = Way::Effective;
        } else if holds.first_match {
            // Of two for the same network a hole counts, else the first.
            let mut sorted: Vec<_> =
                plan.live().map(|entry| (Reverse(prefix_len(contents, entry)), !entry.is_hole(), entry.number())).collect();
            sorted.sort_unstable();
            plan.way = Way::Sorted(sorted.into_iter().map(|(_, _, number)| number).collect());
        }
        plan
    }

    /// The entries that count and still last.
    fn live(&self) -> impl Iterator<Item = Entry> {
        let now = self.now;
        self.contents.live().filter(move |entry| !self.contents.is_over(*entry, now))
    }

    fn hole_fits(&self, hole: Entry) -> bool {
        // An ip4set takes other holes for holes of whole octets, which win over entries inside of them.
        let octets = self.holds.format == Format::Rbldnsd(Kind::Ip4Set);
        self.holds.holes && (!octets || prefix_len(self.contents, hole).is_multiple_of(8))
    }

    /// Hands over all entries, the same ones each time.
    pub(super) fn each(&self, each: &mut Each<'a, '_>) -> io::Result<()> {
        if self.holds.whole_octets {
            let mut seen = HashSet::new();
            self.each_whole(&mut |item| each_key(item, &mut seen, each))
        } else {
            self.each_whole(each)
        }
    }

    fn each_whole(&self, each: &mut Each<'a, '_>) -> io::Result<()> {
        match &self.way {
            Way::AsTheyAre => self.live().filter_map(|entry| self.item(entry)).try_for_each(|item| each(&item)),
            Way::Sorted(order) => {
                let entries = order.iter().filter_map(|number| self.contents.entry(*number));
                entries.filter_map(|entry| self.item(entry)).try_for_each(|item| each(&item))
            }
            Way::Effective => {
                self.runs(&self.contents.intervals().v4, true, each)?;
                self.runs(&self.contents.intervals().v6, false, each)
            }
        }
    }

    fn item(&self, entry: Entry) -> Option<Item<'a>> {
        let contents = self.contents;
        let subject = match contents.about(entry)? {
            About::Network(network) => Subject::Network(network),
            About::Domain(form, name) => Subject::Name(form, str::from_utf8(name).ok()?),
            About::Mailbox(mailbox) => Subject::Mailbox(str::from_utf8(mailbox).ok()?),
        };
        let expires = contents.expires(entry);
        let (hole, line, reply) = (entry.is_hole(), contents.line(entry), contents.reply(entry));
        let reason = Reason::from(contents.reason(entry).trim()).unwrap_or_default();
        Some(Item { subject, hole, reason, reply, expires, line })
    }

    /// Hands over what covers something, run by run of addresses about which the same is said.
    fn runs<N: Copy + Into<u128>>(&self, intervals: &[Interval<N>], v4: bool, each: &mut Each<'a, '_>) -> io::Result<()> {
        let end = if v4 { u32::MAX.into() } else { u128::MAX };
        let mut run: Option<Run> = None;
        let next = intervals.iter().skip(1).map(|next| next.start.into() - 1).chain([end]);
        for (interval, last) in intervals.iter().zip(next) {
            let winners = self.winners(interval.cover);
            let shortest = winners.iter().map(|entry| prefix_len(self.contents, *entry)).min();
            if let Some(run) = &mut run
                && run.v4 == v4
                && self.same(&run.winners, &winners)
            {
                (run.last, run.shortest) = (last, run.shortest.min(shortest.unwrap_or(u8::MAX)));
                continue;
            }
            if let Some(run) = run.take() {
                self.finish(&run, each)?;
            }
            run = shortest.map(|shortest| Run { v4, first: interval.start.into(), last, shortest, winners });
        }
        run.map_or(Ok(()), |run| self.finish(&run, each))
    }

    /// The entries that decide, one after the other as they cease; of use here is the first if there is no expiry.
    fn winners(&self, cover: Cover) -> Vec<Entry> {
        let entries = self.contents.intervals().chains.entries(cover).filter_map(|number| self.contents.entry(number));
        let lasting = entries.filter(|entry| !self.contents.is_over(*entry, self.now)).take_while(|entry| !entry.is_hole());
        lasting.take(if self.holds.expiry { usize::MAX } else { 1 }).collect()
    }

    /// Whether they say the same, as far as the format can hold it.
    fn same(&self, one: &[Entry], other: &[Entry]) -> bool {
        let (contents, holds) = (self.contents, self.holds);
        one.len() == other.len()
            && one.iter().zip(other).all(|(&one, &other)| {
                (!holds.reasons || contents.reason(one) == contents.reason(other))
                    && (!holds.replies || contents.reply_number(one) == contents.reply_number(other))
                    && (!holds.expiry || contents.expires(one) == contents.expires(other))
            })
    }

    fn finish(&self, run: &Run, each: &mut Each<'a, '_>) -> io::Result<()> {
        let items = || run.winners.iter().filter_map(|entry| self.item(*entry));
        let as_range = self.holds.format == Format::P2p && run.networks(1).all(|network| network.prefix_len() >= run.shortest);
        if as_range {
            let subject = Subject::Range(run.address(run.first), run.address(run.last));
            return items().try_for_each(|item| each(&Item { subject, ..item }));
        }
        // IPv4-mapped addresses are asked for as IPv4 addresses.
        let mapped = |network: &IpNet| matches!(network, IpNet::V6(v6) if v6.prefix_len() >= 96 && v6.addr().to_ipv4_mapped().is_some());
        run.networks(run.shortest).filter(|network| !mapped(network)).try_for_each(|network| {
            let subject = Subject::Network(network);
            items().try_for_each(|item| each(&Item { subject, ..item }))
        })
    }
}

fn prefix_len(contents: &Contents, entry: Entry) -> u8 {
    match contents.about(entry) {
        Some(About::Network(network)) => network.prefix_len(),
        Some(About::Domain(..) | About::Mailbox(_)) | None => 0,
    }
}

/// Addresses that follow each other, about which the same is said.
struct Run {
    v4: bool,
    first: u128,
    last: u128,
    /// The shortest prefix of the entries that cover them.
    shortest: u8,
    winners: Vec<Entry>,
}

impl Run {
    fn address(&self, number: u128) -> IpAddr {
        if self.v4 { Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX)).into() } else { Ipv6Addr::from_bits(number).into() }
    }

    /// The fewest networks that they are made of, none with a shorter prefix than this one, which is 1 at least.
    fn networks(&self, shortest: u8) -> impl Iterator<Item = IpNet> {
        let bits: u8 = if self.v4 { 32 } else { 128 };
        let widest = u32::from(bits.saturating_sub(shortest.max(1)));
        let mut next = Some(self.first);
        std::iter::from_fn(move || {
            let start = next.filter(|start| *start <= self.last)?;
            // At most 127: there is no overflow.
            let mut host = start.trailing_zeros().min(widest);
            while self.last - start < (1 << host) - 1 {
                host -= 1;
            }
            next = (start | ((1 << host) - 1)).checked_add(1);
            let length = bits.saturating_sub(u8::try_from(host).unwrap_or(0));
            Some(match self.address(start) {
                IpAddr::V4(address) => IpNet::V4(Ipv4Net::new(address, length).ok()?),
                IpAddr::V6(address) => IpNet::V6(Ipv6Net::new(address, length).ok()?),
            })
        })
    }
}

/// Splits a network so that its prefix ends at an octet or group. The most specific entries come first, so that a key that
/// was there before stays as it is.
fn each_key<'a>(item: &Item<'a>, seen: &mut HashSet<IpNet>, each: &mut Each<'a, '_>) -> io::Result<()> {
    let Subject::Network(network) = item.subject else { return each(item) };
    let unit = if network.addr().is_ipv4() { 8 } else { 16 };
    let length = network.prefix_len().next_multiple_of(unit);
    if length - network.prefix_len() > MAX_SPLIT_BITS {
        return each(item);
    }
    let Ok(mut keys) = network.subnets(length) else { return each(item) };
    keys.try_for_each(|network| if seen.insert(network) { each(&Item { subject: Subject::Network(network), ..*item }) } else { Ok(()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(v4: bool, first: u128, last: u128, shortest: u8) -> Vec<String> {
        let run = Run { v4, first, last, shortest, winners: Vec::new() };
        run.networks(shortest).map(|network| network.to_string()).collect()
    }

    #[test]
    fn runs_become_the_fewest_networks_that_are_not_too_wide() {
        assert_eq!(networks(true, 0, u32::MAX.into(), 0), ["0.0.0.0/1", "128.0.0.0/1"]);
        assert_eq!(networks(true, 0, u32::MAX.into(), 2).len(), 4);
        assert_eq!(networks(true, 1, 6, 1), ["0.0.0.1/32", "0.0.0.2/31", "0.0.0.4/31", "0.0.0.6/32"]);
        assert_eq!(networks(true, u32::MAX.into(), u32::MAX.into(), 1), ["255.255.255.255/32"]);
        assert_eq!(networks(false, 0, u128::MAX, 0), ["::/1", "8000::/1"]);
        assert_eq!(networks(false, u128::MAX - 1, u128::MAX, 1), ["ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127"]);
        assert_eq!(networks(false, 1, u128::MAX, 1).len(), 128);
    }
}
