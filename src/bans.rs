//! Bans: networks refused at run time, with a reason and an end.
//!
//! A set of bans is immutable like a ruleset, so that checks read it without a lock. Most of it is one large table that
//! the sets share; what is new stands in a small one, which is copied for each change and poured into the large one when
//! it is full. A look-up tries each prefix length that there is, the longest first; there are few.

use crate::compile::seconds;
use crate::diagnostic::Fault;
use crate::list::Seconds;
use crate::reply::clean;
use hashbrown::HashMap;
use ipnet::IpNet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Most bans at one time.
pub(crate) const MAX_BANS: usize = 1 << 20;
/// Size from which the small table is poured into the large one, however small that is.
const SMALL: usize = 256;

/// A network that is refused for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// The network.
    pub network: IpNet,
    /// Why; may be empty. Printable ASCII.
    pub reason: Arc<str>,
    /// When it was made: seconds since 1970-01-01 UTC.
    pub since: u64,
    /// When it ends by itself, likewise; 0 for never.
    pub until: u64,
}

impl Ban {
    /// A ban that begins now and ends after that time, or not by itself.
    pub fn new(network: IpNet, duration: Option<Duration>, why: &str) -> Ban {
        let since = seconds(SystemTime::now());
        let until = duration.map_or(0, |duration| since.saturating_add(duration.as_secs().max(1)));
        Ban { network, reason: clean(why.as_bytes()).as_str().into(), since, until }
    }

    /// Whether it has ended.
    pub fn is_over(&self, now: u64) -> bool {
        self.until != 0 && self.until <= now
    }
}

/// All bans.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bans {
    settled: Arc<Table>,
    /// What was changed since: a ban, or `None` where one of the settled ones was lifted.
    recent: Table,
}

#[derive(Clone, Debug, Default)]
struct Table {
    rows: HashMap<IpNet, Option<Ban>>,
    /// Which prefix lengths there are: bit n for length n + 1.
    v4_lengths: u32,
    v6_lengths: u128,
}

impl Table {
    fn insert(&mut self, network: IpNet, row: Option<Ban>) {
        let bit = u32::from(network.prefix_len().saturating_sub(1));
        match network {
            IpNet::V4(_) => self.v4_lengths |= 1 << bit,
            IpNet::V6(_) => self.v6_lengths |= 1 << bit,
        }
        self.rows.insert(network, row);
    }
}

impl Bans {
    pub(crate) fn is_empty(&self) -> bool {
        self.settled.rows.is_empty() && self.recent.rows.is_empty()
    }

    /// The most specific ban of an address that has not ended. Asks for the time only if there is one.
    pub(crate) fn covering(&self, address: IpAddr, now: impl Fn() -> Seconds) -> Option<&Ban> {
        if self.is_empty() {
            return None;
        }
        let mut lengths = match address {
            IpAddr::V4(_) => u128::from(self.settled.v4_lengths | self.recent.v4_lengths),
            IpAddr::V6(_) => self.settled.v6_lengths | self.recent.v6_lengths,
        };
        let mut time = None;
        while let Some(bit) = lengths.checked_ilog2() {
            lengths ^= 1 << bit;
            let network = IpNet::new(address, u8::try_from(bit + 1).ok()?).ok()?.trunc();
            if let Some(ban) = self.get(&network)
                && (ban.until == 0 || !ban.is_over(*time.get_or_insert_with(&now)))
            {
                return Some(ban);
            }
        }
        None
    }

    fn get(&self, network: &IpNet) -> Option<&Ban> {
        self.recent.rows.get(network).or_else(|| self.settled.rows.get(network))?.as_ref()
    }

    /// All bans, those that have ended among them, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Ban> {
        let settled = self.settled.rows.iter().filter(|(network, _)| !self.recent.rows.contains_key(*network));
        settled.chain(&self.recent.rows).filter_map(|(_, row)| row.as_ref())
    }

    /// The same bans with more, or with other ends: all of them or none.
    pub(crate) fn with(&self, more: impl IntoIterator<Item = Ban>, now: Seconds) -> Result<Bans, Fault> {
        let bans = self.changed(more.into_iter().map(|ban| (ban.network, Some(ban))), now);
        let count = || bans.iter().filter(|ban| !ban.is_over(now)).count();
        if bans.settled.rows.len() + bans.recent.rows.len() > MAX_BANS && count() > MAX_BANS {
            let cause = format!("there are {MAX_BANS} bans, the most that may be");
            return Err(Fault::limit(cause, "put long lists into files, or ban whole networks"));
        }
        Ok(bans)
    }

    /// The same bans without one; `None` if there is no such ban.
    pub(crate) fn without(&self, network: &IpNet, now: Seconds) -> Option<Bans> {
        self.get(network).filter(|ban| !ban.is_over(now))?;
        Some(self.changed([(*network, None)], now))
    }

    fn changed(&self, rows: impl IntoIterator<Item = (IpNet, Option<Ban>)>, now: Seconds) -> Bans {
        let mut recent = self.recent.clone();
        for (network, row) in rows {
            recent.insert(network, row);
        }
        let bans = Bans { settled: Arc::clone(&self.settled), recent };
        // Often enough to keep copying cheap, seldom enough to keep pouring so.
        let limit = SMALL.max(self.settled.rows.len().isqrt());
        if bans.recent.rows.len() <= limit { bans } else { bans.poured(now) }
    }

    /// All in one table, without those that have ended.
    fn poured(&self, now: Seconds) -> Bans {
        let mut settled = Table::default();
        for ban in self.iter().filter(|ban| !ban.is_over(now)) {
            settled.insert(ban.network, Some(ban.clone()));
        }
        Bans { settled: Arc::new(settled), recent: Table::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn ban(network: &str, until: u64) -> Ban {
        Ban { network: network.parse().unwrap(), reason: "".into(), since: 1, until }
    }

    fn covering(bans: &Bans, address: &str, now: Seconds) -> Option<String> {
        bans.covering(address.parse().unwrap(), || now).map(|ban| ban.network.to_string())
    }

    #[test]
    fn the_most_specific_ban_that_counts() {
        let mut bans = Bans::default();
        assert!(bans.is_empty() && covering(&bans, "192.0.2.7", 5).is_none());
        for (network, until) in [("192.0.2.0/24", 0), ("192.0.2.7/32", 10), ("2001:db8::/32", 20), ("2001:db8::1/128", 0), ("0.0.0.0/1", 0)]
        {
            bans = bans.with([ban(network, until)], 5).unwrap();
        }
        for (address, now, expected) in [
            ("192.0.2.7", 9, Some("192.0.2.7/32")),
            ("192.0.2.7", 10, Some("192.0.2.0/24")),
            ("127.255.0.1", 9, Some("0.0.0.0/1")),
            ("128.0.0.1", 9, None),
            ("2001:db8::2", 19, Some("2001:db8::/32")),
            ("2001:db8::2", 20, None),
            ("2001:db8::1", 20, Some("2001:db8::1/128")),
        ] {
            assert_eq!(covering(&bans, address, now).as_deref(), expected, "{address} at {now}");
        }
        assert!(bans.without(&"192.0.2.9/32".parse().unwrap(), 5).is_none());
        assert!(bans.without(&"192.0.2.7/32".parse().unwrap(), 10).is_none(), "it has ended");
        let bans = bans.without(&"192.0.2.0/24".parse().unwrap(), 5).unwrap();
        assert_eq!(covering(&bans, "192.0.2.8", 5), None);
    }

    #[test]
    fn many_at_once_are_taken_as_a_whole_or_not_at_all() {
        let hosts = |count: usize| (0..u32::try_from(count).unwrap()).map(|n| ban(&format!("{}/32", std::net::Ipv4Addr::from(n)), 10));
        let full = Bans::default().with(hosts(MAX_BANS), 5).unwrap();
        assert!(full.with([ban("2001:db8::/32", 0)], 5).unwrap_err().cause.contains("1048576 bans"));
        assert!(full.with([ban("2001:db8::/32", 0)], 10).is_ok(), "the others have ended");
    }

    #[test]
    fn many_changes_come_to_what_a_plain_map_says() {
        let (mut bans, mut model) = (Bans::default(), BTreeMap::new());
        let mut number: u64 = 1;
        for step in 0..20_000_u64 {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let network: IpNet = format!("198.51.{}.{}/32", (number >> 40) % 8, (number >> 50) % 256).parse().unwrap();
            if number >> 60 < 10 {
                let until = step + (number >> 33) % 1_000;
                bans = bans.with([Ban { network, reason: "".into(), since: step, until }], step).unwrap();
                model.insert(network, until);
            } else {
                let there = model.remove(&network).is_some_and(|until| until > step);
                let lifted = bans.without(&network, step);
                assert_eq!(lifted.is_some(), there);
                bans = lifted.unwrap_or(bans);
            }
            if step % 97 == 0 {
                model.retain(|_, until| *until > step);
                let all: BTreeMap<IpNet, u64> = bans.iter().filter(|ban| !ban.is_over(step)).map(|ban| (ban.network, ban.until)).collect();
                assert_eq!(all, model);
                assert!(bans.settled.rows.len() + bans.recent.rows.len() <= 2 * (SMALL + 2_048));
                for host in 0..=255_u8 {
                    let address = IpAddr::from([198, 51, 3, host]);
                    assert_eq!(
                        bans.covering(address, || step).map(|ban| ban.network),
                        model.get_key_value(&address.into()).map(|(network, _)| *network)
                    );
                }
            }
        }
    }
}
