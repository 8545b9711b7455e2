//! Limits: how often clients connect, how many sessions they have open, how many recipients they and domains get. All of
//! it is counted in a fixed amount of memory, whatever strangers send, and nothing waits, allocates or asks for the time.
//!
//! - Each limit has a table of its own, an equal part of the memory, so that invented sender domains push out no clients.
//! - A full table lets through: where a client finds no room, the one whose bucket is nearest to empty is forgotten; open
//!   sessions are not forgotten, a session that finds no room is not counted. [`Limits::counters`] says how often.
//! - What is refused is not charged, by the limit that refuses or by any other. Who keeps trying gets the rate, no less and
//!   no more, as with Postfix's anvil(8), which begins anew with each minute. What is let through is charged, whatever
//!   other rules then say.
//! - Threads that ask at the same moment get no more together than is left; but for one each, at most, whenever their
//!   places in the table change hands just then. While one of them finds out that a second limit refuses, what it will
//!   give back to the first is missing to the others.
//! - Who is refused is told when to come back, and for longer if it comes too early (`returns.rs`).
//! - The tables are atomic words: after `fork()` each process goes on with its own.
//!
//! ```
//! use mxgate::limits::{Limits, Rate, Settings};
//!
//! let connections = Rate::parse("2/min").map_err(|fault| fault.cause)?;
//! let settings = Settings { connections: Some(connections), ..Settings::default() };
//! let limits = Limits::new(&settings, None).map_err(|fault| fault.cause)?;
//! let (client, now) = ("192.0.2.7".parse()?, 1_000_000_000);
//! assert_eq!((limits.connect(client, now), limits.connect(client, now)), (None, None));
//! let exceeded = limits.connect(client, now).ok_or("there is no limit")?;
//! assert_eq!((exceeded.which, exceeded.retry_after_seconds), ("connections", 30));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod rate;
mod returns;
mod sessions;
mod table;

use crate::diagnostic::Fault;
pub use rate::{Nanoseconds, Rate};
pub(crate) use returns::PutOff;
use sessions::Sessions;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use table::{Key, Table};

/// The limits of connections and sessions, by their keys in the policy.
const CONNECTIONS: &str = "connections";
const CONCURRENT: &str = "concurrent";

/// What is limited, and to how much. By default nothing is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Memory of all tables together, in bytes.
    pub memory: usize,
    /// By how many bits of their IPv4 address clients are told apart.
    pub v4_prefix: u8,
    /// By how many bits of their IPv6 address clients are told apart.
    pub v6_prefix: u8,
    /// Connections of one client.
    pub connections: Option<Rate>,
    /// Sessions that one client has open.
    pub concurrent: Option<u16>,
    /// Recipients of one client.
    pub recipients: Option<Rate>,
    /// Recipients of mail from one domain.
    pub sender_domain: Option<Rate>,
    /// Recipients at one domain.
    pub recipient_domain: Option<Rate>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            memory: 16 << 20,
            v4_prefix: 32,
            v6_prefix: 64,
            connections: None,
            concurrent: None,
            recipients: None,
            sender_domain: None,
            recipient_domain: None,
        }
    }
}

impl Settings {
    /// How many limits there are.
    fn count(&self) -> usize {
        let rates = [self.connections, self.recipients, self.sender_domain, self.recipient_domain];
        rates.iter().flatten().count() + usize::from(self.concurrent.is_some())
    }

    /// Whether clients are limited, and not domains alone.
    pub(crate) fn is_of_clients(&self) -> bool {
        self.connections.or(self.recipients).is_some() || self.concurrent.is_some()
    }

    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        let Settings { connections, concurrent, recipients, sender_domain, recipient_domain, .. } = self;
        let limited = connections.is_some() | recipients.is_some() | sender_domain.is_some() | recipient_domain.is_some();
        !limited && concurrent.is_none()
    }
}

/// The limits in force, and what they have counted.
#[derive(Debug)]
pub struct Limits {
    settings: Settings,
    connections: Option<Limit<Rate>>,
    concurrent: Option<Limit<u16>>,
    recipients: Option<Limit<Rate>>,
    sender_domain: Option<Limit<Rate>>,
    recipient_domain: Option<Limit<Rate>>,
    /// Who was told when to come back.
    returns: Option<Arc<Table>>,
}

/// A limit, and what it has counted.
#[derive(Debug)]
struct Limit<T> {
    /// Its key in the policy.
    name: &'static str,
    most: T,
    table: Arc<Table>,
}

/// Whose events a limit counts.
#[derive(Clone, Copy, Debug, Hash)]
enum Subject<'a> {
    /// A client, by the first bits of its address; one of IPv4 as the IPv6 address that stands for it.
    Client(u128),
    Domain(&'a str),
}

/// What is more than a limit lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// The limit, by its key in the policy.
    pub which: &'static str,
    /// After how many seconds the next one is let through, if no other comes before it; 0 if nobody knows, because it
    /// takes the end of a session.
    pub retry_after_seconds: u64,
}

/// What a limit has come to since its table was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// The limit, by its key in the policy.
    pub which: &'static str,
    /// How many clients or domains its table can hold.
    pub capacity: usize,
    /// How many it has to hold now: those that have a session open, or have not got all of their burst back.
    pub used: usize,
    /// How often it has refused.
    pub refused: u64,
    /// How many it had to forget to make room for others, which may be let through too often for that.
    pub evicted: u64,
    /// How many connections or recipients it let through uncounted, because there was no room.
    pub uncounted: u64,
}

impl Limits {
    /// Gets the memory for these limits. Of limits that were in force before, each keeps what it has counted, if its part of
    /// the memory is as large and clients are told apart by as much as before; its numbers may be others.
    ///
    /// # Errors
    /// If there is not as much memory.
    pub fn new(settings: &Settings, previous: Option<&Limits>) -> Result<Limits, Fault> {
        let of_returns = Limits::memory_of_returns(settings.memory);
        let bytes = (settings.memory - of_returns).checked_div(settings.count()).unwrap_or(0);
        let prefixes = |settings: &Settings| (settings.v4_prefix, settings.v6_prefix);
        let of_clients = previous.filter(|previous| prefixes(&previous.settings) == prefixes(settings));
        let rate = |name, rate: Option<Rate>, previous: Option<&Option<Limit<Rate>>>| {
            rate.map(|most| Limit::new(name, most, bytes, previous.and_then(|limit| limit.as_ref()))).transpose()
        };
        let concurrent = of_clients.and_then(|previous| previous.concurrent.as_ref());
        Ok(Limits {
            settings: settings.clone(),
            connections: rate(CONNECTIONS, settings.connections, of_clients.map(|previous| &previous.connections))?,
            concurrent: settings.concurrent.map(|most| Limit::new(CONCURRENT, most, bytes, concurrent)).transpose()?,
            recipients: rate("recipients", settings.recipients, of_clients.map(|previous| &previous.recipients))?,
            sender_domain: rate("sender_domain", settings.sender_domain, previous.map(|previous| &previous.sender_domain))?,
            recipient_domain: rate("recipient_domain", settings.recipient_domain, previous.map(|previous| &previous.recipient_domain))?,
            returns: if settings.is_empty() { None } else { Limits::returns(of_returns, of_clients) },
        })
    }

    /// None at all.
    pub(crate) fn none() -> Limits {
        let settings = Settings::default();
        Limits {
            settings,
            connections: None,
            concurrent: None,
            recipients: None,
            sender_domain: None,
            recipient_domain: None,
            returns: None,
        }
    }

    /// What is limited.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// A client has connected. If that is not refused it has a session open, until [`Limits::end`].
    pub fn connect(&self, address: IpAddr, now: Nanoseconds) -> Option<Exceeded> {
        let exceeded = self.arrive(address, now);
        if exceeded.is_some() {
            return exceeded;
        }
        let client = self.client(address);
        let exceeded = self.concurrent.as_ref().and_then(|limit| limit.begin(client, now));
        if let (Some(_), Some(limit)) = (exceeded, &self.connections) {
            limit.refund(client);
        }
        exceeded
    }

    /// A client has connected to a mail server that does not tell the end of a session: no session is open for it.
    pub fn arrive(&self, address: IpAddr, now: Nanoseconds) -> Option<Exceeded> {
        self.connections.as_ref()?.charge(self.client(address), now)
    }

    /// The session of a client that was not refused is over. A session whose end is never told is forgotten after one to two
    /// hours.
    pub fn end(&self, address: IpAddr, now: Nanoseconds) {
        if let Some(limit) = &self.concurrent {
            limit.end(self.client(address), now);
        }
    }

    /// A recipient is to be let through. Of several limits that refuse, the first is named: the client's, the sender
    /// domain's, the recipient domain's. Domains are compared as they are, so they come in lower case without a trailing dot,
    /// U-labels as A-labels ([`crate::domain::fold`]). What is not known, such as the domain of the empty sender, has no limit.
    pub fn recipient(
        &self,
        address: Option<IpAddr>,
        sender_domain: Option<&str>,
        recipient_domain: Option<&str>,
        now: Nanoseconds,
    ) -> Option<Exceeded> {
        let charges = [
            self.recipients.as_ref().and_then(|limit| Some((limit, self.client(address?)))),
            self.sender_domain.as_ref().zip(sender_domain.map(Subject::Domain)),
            self.recipient_domain.as_ref().zip(recipient_domain.map(Subject::Domain)),
        ];
        let charges = charges.iter().flatten();
        for (place, (limit, subject)) in charges.clone().enumerate() {
            let exceeded = limit.charge(*subject, now);
            if exceeded.is_some() {
                charges.take(place).for_each(|(limit, subject)| limit.refund(*subject));
                return exceeded;
            }
        }
        None
    }

    /// What each limit has come to. For the control plane: it looks at every entry.
    pub fn counters(&self, now: Nanoseconds) -> impl Iterator<Item = Counters> {
        let rate = move |limit: &Option<Limit<Rate>>| limit.as_ref().map(|limit| limit.counters(|empty| empty.saturating_sub(now)));
        let concurrent = self.concurrent.as_ref().map(|limit| limit.counters(|number| Sessions::at(number, now).open()));
        let [recipients, sender_domain, recipient_domain] = [&self.recipients, &self.sender_domain, &self.recipient_domain].map(rate);
        [rate(&self.connections), concurrent, recipients, sender_domain, recipient_domain].into_iter().flatten()
    }

    /// A client, by as much of its address as clients are told apart by. `::ffff:a.b.c.d` is `a.b.c.d`.
    fn client(&self, address: IpAddr) -> Subject<'static> {
        let host_bits = |all: u8, prefix: u8| u32::from(all.saturating_sub(prefix));
        Subject::Client(match address.to_canonical() {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(host_bits(32, self.settings.v4_prefix)).unwrap_or(0);
                Ipv4Addr::from_bits(v4.to_bits() & mask).to_ipv6_mapped().to_bits()
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(host_bits(128, self.settings.v6_prefix)).unwrap_or(0);
                v6.to_bits() & mask
            }
        })
    }
}

impl<T> Limit<T> {
    fn new(name: &'static str, most: T, bytes: usize, previous: Option<&Limit<T>>) -> Result<Limit<T>, Fault> {
        let table = match previous.filter(|previous| previous.table.is_of(bytes)) {
            Some(previous) => Arc::clone(&previous.table),
            None => Arc::new(Table::new(bytes).map_err(|_| {
                let remedy = "write a smaller memory: 1 MiB tells some 65,000 clients apart";
                Fault::limit(format!("there are no {bytes} bytes of memory for the limit {name}"), remedy)
            })?),
        };
        Ok(Limit { name, most, table })
    }

    fn key(&self, subject: Subject<'_>) -> Key {
        self.table.key(subject)
    }

    fn refuse(&self, retry_after_seconds: u64) -> Exceeded {
        self.table.refused.fetch_add(1, Relaxed);
        Exceeded { which: self.name, retry_after_seconds }
    }

    fn count_uncounted(&self) {
        self.table.uncounted.fetch_add(1, Relaxed);
    }

    fn counters(&self, worth: impl Fn(u64) -> u64) -> Counters {
        let Table { refused, evicted, uncounted, .. } = &*self.table;
        Counters {
            which: self.name,
            capacity: self.table.capacity(),
            used: self.table.used(worth),
            refused: refused.load(Relaxed),
            evicted: evicted.load(Relaxed),
            uncounted: uncounted.load(Relaxed),
        }
    }
}

/// The number of a subject is the moment at which its bucket will be empty.
impl Limit<Rate> {
    fn charge(&self, subject: Subject<'_>, now: Nanoseconds) -> Option<Exceeded> {
        let owed = |empty: u64| empty.saturating_sub(now);
        let Some(wait) = self.table.change(self.key(subject), owed, true, |empty| self.most.arrive(empty, now)) else {
            self.count_uncounted();
            return None;
        };
        wait.map(|wait| self.refuse(wait.div_ceil(rate::SECOND)))
    }

    /// Takes a charge back.
    fn refund(&self, subject: Subject<'_>) {
        self.table.change_present(self.key(subject), |empty| self.most.refund(empty));
    }
}

/// The number of a client is its [`Sessions`].
impl Limit<u16> {
    fn begin(&self, client: Subject<'_>, now: Nanoseconds) -> Option<Exceeded> {
        let open = |number| Sessions::at(number, now).open();
        let begun = self.table.change(self.key(client), open, false, |number| match Sessions::at(number, now).begin(self.most) {
            Some(sessions) => (sessions.number(), true),
            None => (number, false),
        });
        match begun {
            Some(true) => None,
            Some(false) => Some(self.refuse(0)),
            None => {
                self.count_uncounted();
                None
            }
        }
    }

    fn end(&self, client: Subject<'_>, now: Nanoseconds) {
        self.table.change_present(self.key(client), |number| Sessions::at(number, now).end().number());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = rate::SECOND;

    fn rate(text: &str) -> Option<Rate> {
        Some(Rate::parse(text).unwrap())
    }

    fn limits(settings: &Settings) -> Limits {
        Limits::new(settings, None).unwrap()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn which(exceeded: Option<Exceeded>) -> &'static str {
        exceeded.map_or("", |exceeded| exceeded.which)
    }

    fn counters(limits: &Limits, which: &str, now: u64) -> Counters {
        limits.counters(now).find(|counters| counters.which == which).unwrap()
    }

    #[test]
    fn without_limits_there_is_nothing() {
        let limits = limits(&Settings::default());
        assert!(limits.settings().is_empty());
        assert_eq!(limits.counters(0).count(), 0);
        for _ in 0..1000 {
            assert_eq!(limits.connect(address("192.0.2.1"), 0), None);
            assert_eq!(limits.recipient(Some(address("192.0.2.1")), Some("example.com"), Some("example.org"), 0), None);
        }
        limits.end(address("192.0.2.1"), 0);
    }

    #[test]
    fn clients_are_told_apart_by_their_prefix() {
        let settings = Settings { connections: rate("1/min"), v4_prefix: 24, v6_prefix: 48, ..Settings::default() };
        let limits = limits(&settings);
        for (client, refused) in [
            ("192.0.2.1", false),
            ("192.0.2.255", true),
            ("::ffff:192.0.2.7", true),
            ("192.0.3.1", false),
            ("2001:db8:1::1", false),
            ("2001:db8:1:ffff::1", true),
            ("2001:db8:2::1", false),
            // Neither the empty prefix nor that of another family.
            ("0.0.0.0", false),
            ("::", false),
        ] {
            assert_eq!(which(limits.connect(address(client), SECOND)), if refused { "connections" } else { "" }, "{client}");
        }
        let all = Settings { connections: rate("1/min"), v4_prefix: 0, v6_prefix: 0, ..Settings::default() };
        let hosts = Settings { connections: rate("1/min"), v4_prefix: 32, v6_prefix: 128, ..Settings::default() };
        for (settings, refused) in [(&all, "connections"), (&hosts, "")] {
            let limits = Limits::new(settings, None).unwrap();
            for (one, other) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")] {
                assert_eq!(limits.connect(address(one), 0), None);
                assert_eq!(which(limits.connect(address(other), 0)), refused);
            }
        }
    }

    #[test]
    fn sessions_are_counted_until_they_end() {
        let limits = limits(&Settings { concurrent: Some(2), connections: rate("3/min"), ..Settings::default() });
        let (client, now) = (address("192.0.2.1"), 10_000 * SECOND);
        assert_eq!([limits.connect(client, now), limits.connect(client, now)], [None, None]);
        // What a second limit refuses the first does not charge.
        for _ in 0..10 {
            assert_eq!(limits.connect(client, now), Some(Exceeded { which: "concurrent", retry_after_seconds: 0 }));
        }
        limits.end(client, now);
        assert_eq!(limits.connect(client, now), None);
        assert_eq!(limits.connect(client, now), Some(Exceeded { which: "connections", retry_after_seconds: 20 }));
        assert_eq!(limits.connect(address("192.0.2.2"), now), None);
        let Counters { used, refused, evicted, uncounted, .. } = counters(&limits, "concurrent", now);
        assert_eq!((used, refused, evicted, uncounted), (2, 10, 0, 0));
        assert_eq!(counters(&limits, "connections", now + 60 * SECOND).used, 0);
        // Nobody told of their ends.
        assert_eq!(which(limits.connect(client, now + 3600 * SECOND)), "concurrent");
        assert_eq!(counters(&limits, "concurrent", now + 7200 * SECOND).used, 0);
        assert_eq!(limits.connect(client, now + 7200 * SECOND), None);
    }

    #[test]
    fn a_recipient_is_charged_by_all_limits_or_by_none() {
        let limits =
            limits(&Settings { recipients: rate("5/h"), sender_domain: rate("4/h"), recipient_domain: rate("3/h"), ..Settings::default() });
        let ask = |client, sender, recipient| which(limits.recipient(Some(address(client)), sender, recipient, 0));
        for _ in 0..3 {
            assert_eq!(ask("192.0.2.1", Some("example.com"), Some("example.org")), "");
        }
        for _ in 0..9 {
            assert_eq!(ask("192.0.2.1", Some("example.com"), Some("example.org")), "recipient_domain");
        }
        // The others were not charged for these.
        assert_eq!(ask("192.0.2.1", Some("example.com"), Some("example.net")), "");
        assert_eq!(ask("192.0.2.1", Some("example.com"), Some("example.net")), "sender_domain");
        assert_eq!(ask("192.0.2.1", None, Some("example.net")), "");
        assert_eq!(ask("192.0.2.1", None, Some("example.net")), "recipients");
        assert_eq!(ask("192.0.2.2", None, Some("example.net")), "");
        assert_eq!(ask("192.0.2.2", None, Some("example.net")), "recipient_domain");
        // What is not known has no limit, and one name may send and receive.
        assert_eq!(which(limits.recipient(None, Some("example.org"), None, 0)), "");
        let refused: Vec<_> = limits.counters(0).map(|counters| (counters.which, counters.refused, counters.used)).collect();
        assert_eq!(refused, [("recipients", 1, 2), ("sender_domain", 1, 2), ("recipient_domain", 10, 2)]);
    }

    #[test]
    fn a_full_table_lets_through() {
        // One set for each limit.
        let settings = Settings { memory: 256, concurrent: Some(1), connections: rate("2/h"), ..Settings::default() };
        let limits = limits(&settings);
        let client = |number: u8| IpAddr::from([192, 0, 2, number]);
        for number in 0..100 {
            assert_eq!(limits.connect(client(number), 0), None, "{number}");
        }
        let concurrent = counters(&limits, "concurrent", 0);
        assert_eq!((concurrent.capacity, concurrent.used, concurrent.evicted, concurrent.uncounted), (8, 8, 0, 92));
        let connections = counters(&limits, "connections", 0);
        assert_eq!((connections.capacity, connections.used, connections.evicted, connections.uncounted), (8, 8, 92, 0));
        // Sessions that are open are not forgotten for those that begin.
        for number in 0..8 {
            assert_eq!(which(limits.connect(client(number), 0)), "concurrent");
        }
        // Nor does the end of one that was not counted end another.
        limits.end(client(99), 0);
        assert_eq!(counters(&limits, "concurrent", 0).used, 8);
        // Without any memory nothing is refused.
        let limits = Limits::new(&Settings { memory: 0, ..settings }, None).unwrap();
        for _ in 0..9 {
            assert_eq!(limits.connect(client(1), 0), None);
        }
        limits.end(client(1), 0);
        assert_eq!(counters(&limits, "connections", 0).uncounted, 9);
    }

    #[test]
    fn a_load_keeps_what_was_counted_if_the_sizes_are_the_same() {
        let settings =
            Settings { connections: rate("100/h, burst 1"), concurrent: Some(9), sender_domain: rate("1/h"), ..Settings::default() };
        let limits = limits(&settings);
        let client = address("192.0.2.1");
        let asked = |limits: &Limits| (which(limits.connect(client, 0)), which(limits.recipient(None, Some("example.com"), None, 0)));
        assert_eq!(asked(&limits), ("", ""));
        let again = |settings: &Settings| asked(&Limits::new(settings, Some(&limits)).unwrap());
        assert_eq!(again(&settings), ("connections", "sender_domain"));
        assert_eq!(again(&Settings { connections: rate("100/h, burst 2"), ..settings.clone() }), ("", "sender_domain"));
        assert_eq!(again(&Settings { concurrent: Some(2), ..settings.clone() }), ("connections", "sender_domain"));
        assert_eq!(
            again(&Settings { concurrent: Some(2), connections: None, memory: 2 * (settings.memory / 3), ..settings.clone() }),
            ("concurrent", "sender_domain")
        );
        assert_eq!(again(&Settings { v6_prefix: 48, ..settings.clone() }), ("", "sender_domain"));
        assert_eq!(again(&Settings { memory: 1 << 20, ..settings.clone() }), ("", ""));
        // Another limit takes its part of the memory.
        assert_eq!(again(&Settings { recipients: rate("1/s"), ..settings.clone() }), ("", ""));
        let fault = Limits::new(&Settings { memory: usize::MAX, ..settings }, None).unwrap_err();
        assert!(fault.cause.contains("bytes of memory for the limit connections"), "{fault:?}");
    }
}
