//! Which refusals the log tells one by one: so many of each client in a minute. The others are counted, and at the end of
//! the minute their number is told; what is told and what is counted make up all of them. In fixed memory, whatever
//! strangers send.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// How long a minute is.
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
/// So many clients are told apart in a minute. Of further ones it is only told how often they were refused.
const MAX_CLIENTS: usize = 4096;
/// So many clients are named at the end of a minute, those that were refused most often.
const MAX_NAMED: usize = 100;

/// A minute.
#[derive(Debug)]
pub(crate) struct Flood {
    /// How many refusals of a client are told.
    most: u32,
    /// How often each client was refused. An IPv6 address stands for its /64.
    clients: HashMap<Option<IpAddr>, u64>,
    /// How often those were refused for whom there is no room.
    others: u64,
}

/// Refusals that were not told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Untold {
    /// Whose they were; of several clients if there is none.
    pub(crate) whose: Option<Option<IpAddr>>,
    pub(crate) number: u64,
}

impl Flood {
    /// Tells so many refusals of a client in a minute.
    pub(crate) fn new(most: u32) -> Flood {
        Flood { most, clients: HashMap::with_capacity(MAX_CLIENTS), others: 0 }
    }

    /// Counts a refusal; says whether it is told.
    pub(crate) fn is_told(&mut self, client: Option<IpAddr>) -> bool {
        let client = client.map(network);
        let room = self.clients.len() < MAX_CLIENTS;
        let number = match self.clients.get_mut(&client) {
            Some(number) => number,
            None if room => self.clients.entry(client).or_default(),
            None => {
                self.others += 1;
                return false;
            }
        };
        *number += 1;
        *number <= self.most.into()
    }

    /// Begins the next minute. What was not told in the last, most first.
    pub(crate) fn next_minute(&mut self) -> Vec<Untold> {
        let most = u64::from(self.most);
        let untold = self.clients.drain().filter(|(_, number)| *number > most);
        let mut untold: Vec<Untold> = untold.map(|(client, number)| Untold { whose: Some(client), number: number - most }).collect();
        untold.sort_by_key(|untold| (std::cmp::Reverse(untold.number), untold.whose));
        let unnamed = untold.get(MAX_NAMED..).unwrap_or_default().iter().map(|untold| untold.number);
        let number = unnamed.sum::<u64>() + std::mem::take(&mut self.others);
        untold.truncate(MAX_NAMED);
        if number > 0 {
            untold.push(Untold { whose: None, number });
        }
        untold
    }
}

/// By what clients are told apart: whoever has an IPv6 address has a /64 of them.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => Ipv6Addr::from_bits(six.to_bits() >> 64 << 64).into(),
        four @ IpAddr::V4(_) => four,
    }
}

impl Untold {
    /// Whose they were, in a word.
    pub(crate) fn name(&self) -> String {
        self.whose.map_or_else(|| "other clients".into(), name)
    }
}

/// Clients that are not told apart, in a word.
pub(crate) fn name(clients: Option<IpAddr>) -> String {
    match clients {
        Some(IpAddr::V6(six)) => format!("{six}/64"),
        Some(four) => four.to_string(),
        None => "unknown clients".into(),
    }
}

/// As the log has it.
impl fmt::Display for Untold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Untold { number, .. } = self;
        write!(f, "{number} more {} of {} in {} s", if *number == 1 { "refusal" } else { "refusals" }, self.name(), MINUTE.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn a_few_are_told_and_the_rest_is_summed_up() {
        let mut flood = Flood::new(3);
        let told = (0..535).filter(|_| flood.is_told(address("192.0.2.7"))).count();
        assert_eq!(told, 3);
        assert!(flood.is_told(address("192.0.2.8")), "another client");
        for host in 0..5 {
            assert_eq!(flood.is_told(address(&format!("2001:db8::{host}"))), host < 3, "a /64 is one client");
        }
        assert!(flood.is_told(address("2001:db8:0:1::")));
        for _ in 0..4 {
            flood.is_told(None);
        }
        let lines: Vec<String> = flood.next_minute().iter().map(Untold::to_string).collect();
        assert_eq!(
            lines,
            [
                "532 more refusals of 192.0.2.7 in 60 s",
                "2 more refusals of 2001:db8::/64 in 60 s",
                "1 more refusal of unknown clients in 60 s"
            ]
        );
        assert!(flood.is_told(address("::ffff:192.0.2.7")), "the next minute");
        assert_eq!(flood.next_minute(), []);
    }

    #[test]
    fn the_memory_stays_as_it_is() {
        let mut flood = Flood::new(1);
        let capacity = flood.clients.capacity();
        for client in 0..100_000_u32 {
            for _ in 0..2 {
                flood.is_told(Some(IpAddr::V4(client.into())));
            }
        }
        assert_eq!((flood.clients.len(), flood.clients.capacity()), (MAX_CLIENTS, capacity));
        let untold = flood.next_minute();
        assert_eq!(untold.len(), MAX_NAMED + 1);
        assert_eq!(untold.iter().map(|untold| untold.number).sum::<u64>(), 200_000 - 4096);
        assert_eq!(flood.clients.capacity(), capacity);
    }

    proptest! {
        #[test]
        fn told_and_untold_make_up_all(most in 0_u32..4, clients in proptest::collection::vec(0_u8..6, 0..200)) {
            let mut flood = Flood::new(most);
            let told = clients.iter().filter(|client| flood.is_told(Some(IpAddr::from([192, 0, 2, **client])))).count();
            let untold: u64 = flood.next_minute().iter().map(|untold| untold.number).sum();
            prop_assert_eq!(told as u64 + untold, clients.len() as u64);
        }
    }
}
