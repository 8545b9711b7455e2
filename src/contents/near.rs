//! Which entries of a list have addresses of some networks: mostly few of a million, and those few are found fast.

use super::{About, Contents, Entry};
use crate::networks::{Interval, Intervals, Number};
use std::net::IpAddr;

/// Networks, as what they come to, that entries are sought near.
pub(crate) struct Near<'a> {
    intervals: &'a Intervals,
    /// For each first octet of IPv4 and IPv6 addresses, whether some network has it.
    octets: [[bool; 256]; 2],
}

impl Near<'_> {
    pub(crate) fn to(intervals: &Intervals) -> Near<'_> {
        Near { intervals, octets: [octets(&intervals.v4), octets(&intervals.v6)] }
    }

    /// Whether an entry of a list has an address of those networks.
    pub(crate) fn meets(&self, contents: &Contents, entry: Entry) -> bool {
        // Nearly all entries are seen to be elsewhere by how they begin.
        let octet = contents.first_octet(entry).and_then(|(family, octet)| self.octets.get(family)?.get(usize::from(octet)));
        octet.is_none_or(|near| *near) && self.meets_indeed(contents, entry)
    }

    fn meets_indeed(&self, contents: &Contents, entry: Entry) -> bool {
        let Some(About::Network(network)) = contents.about(entry) else { return false };
        let (first, last) = (network.network(), network.broadcast());
        !self.intervals.covering(first).is_none()
            || match (first, last) {
                (IpAddr::V4(first), IpAddr::V4(last)) => begins_within(&self.intervals.v4, first.to_bits(), last.to_bits()),
                (IpAddr::V6(first), IpAddr::V6(last)) => begins_within(&self.intervals.v6, first.to_bits(), last.to_bits()),
                _ => false,
            }
    }
}

/// For each first octet of an address whether something is covered that has it.
fn octets<N: Number>(intervals: &[Interval<N>]) -> [bool; 256] {
    let mut some = [false; 256];
    let ends = intervals.iter().skip(1).map(|next| next.start.octet()).chain([255]);
    for (interval, end) in intervals.iter().zip(ends).filter(|(interval, _)| !interval.cover.is_none()) {
        // The next interval may begin with its octet: one more does no harm.
        some.iter_mut().take(usize::from(end) + 1).skip(interval.start.octet().into()).for_each(|some| *some = true);
    }
    some
}

/// Whether an interval that covers something begins after `first`, up to `last`.
fn begins_within<N: Number>(intervals: &[Interval<N>], first: N, last: N) -> bool {
    let from = intervals.partition_point(|interval| interval.start() <= first);
    let to = intervals.partition_point(|interval| interval.start() <= last);
    intervals.get(from..to).unwrap_or(&[]).iter().any(|interval| !interval.cover.is_none())
}
