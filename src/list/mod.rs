//! Lists as they are found in the field. Each format has a reader of its own that turns text into [`Record`]s; what
//! a record becomes is the [`Sink`]'s business. A reader does no more I/O than to read its input, and streams.
//!
//! What is doubtful is refused with its place and the remedy, never guessed.

pub(crate) mod compressed;
mod crowdsec;
mod crowdsec_csv;
mod crowdsec_json;
mod dates;
pub(crate) mod detect;
mod drop;
mod drop_json;
mod dshield;
mod firehol;
mod iplsearch;
mod json;
pub(crate) mod lines;
pub(crate) mod literal;
mod octets;
mod p2p;
pub(crate) mod plain;
mod postfix;
pub(crate) mod postfix_access;
mod postfix_cidr;
mod progress;
pub(crate) mod rbldnsd;
mod region;
mod scored;
pub(crate) mod sendmail_access;
#[cfg(test)]
mod server_tests;
#[cfg(test)]
mod tests;

use crate::diagnostic::{Fault, quote};
use crate::domain::{self, Form};
use crate::image::{Reader, Stored, Writer};
use crate::prefix::{parse_network, parse_range};
use ipnet::IpNet;
use progress::Told;
use std::borrow::Cow;
use std::io::{self, BufRead};
use std::net::IpAddr;

/// Seconds since 1970-01-01 UTC.
pub(crate) type Seconds = u64;

/// What an entry is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject<'a> {
    /// A network, or one host.
    Network(IpNet),
    /// All addresses from the first to the last; of one family, in order.
    Range(IpAddr, IpAddr),
    /// A domain name, in the form of the table.
    Domain(Form, Cow<'a, str>),
    /// A mailbox, `local@domain`, or `local@` at any domain; as written. What it stands for is told by the `Field`.
    Mailbox(&'a str),
}

/// Whose address an entry is about, where the format says so (Sendmail `From:`, `To:`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Field {
    /// The format does not say; the policy does.
    #[default]
    Any,
    /// The client.
    Client,
    /// The sender.
    Sender,
    /// The recipient.
    Recipient,
}

/// What an entry does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Action<'a> {
    /// The list covers it.
    #[default]
    Cover,
    /// A hole: this list does not cover it.
    Hole,
    /// The list covers it, and answers with this reply (a literal one, or the name of one) instead of its own.
    Reply(&'a str),
}

/// One entry of a list.
#[derive(Clone, Debug)]
pub(crate) struct Record<'a> {
    /// Line, from 1.
    pub line: u32,
    /// Column in bytes, from 1.
    pub column: u32,
    pub subject: Subject<'a>,
    pub field: Field,
    pub action: Action<'a>,
    /// What the list says about it; as found, the sink cleans it.
    pub reason: &'a [u8],
    /// When it ceases.
    pub expires: Option<Seconds>,
}

/// What a list says about itself. What it does not say is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Statement {
    /// How many entries it has (lines, duplicates included).
    pub entries: Option<u64>,
    /// When it was made.
    pub made: Option<Seconds>,
    /// When it is to be replaced.
    pub expires: Option<Seconds>,
    /// `Some(false)`: it has a mark at its end that is missing, so the download broke off.
    pub complete: Option<bool>,
    /// The shortest IPv4 prefix that it means to have (rbldnsd `$MAXRANGE4`).
    pub widest_v4: Option<u8>,
    /// The first entry that covers an address decides, not the most specific one (Postfix cidr tables).
    pub ordered: bool,
}

impl Stored for Statement {
    fn store(&self, image: &mut Writer) {
        let Statement { entries, made, expires, complete, widest_v4, ordered } = self;
        let others = [complete.map(u64::from), widest_v4.map(u64::from), Some(u64::from(*ordered))];
        [*entries, *made, *expires].into_iter().chain(others).for_each(|number| image.option(number));
    }

    fn restore(image: &mut Reader) -> Option<Statement> {
        let (entries, made, expires) = (image.option()?, image.option()?, image.option()?);
        let complete = image.option()?.map(|complete| complete != 0);
        let widest_v4 = image.option()?.and_then(|widest| widest.try_into().ok());
        Some(Statement { entries, made, expires, complete, widest_v4, ordered: image.option()? == Some(1) })
    }
}

/// Stands for the entry itself in a reason that many entries share: see [`Sink::record_around`].
pub(crate) const ENTRY: u8 = 1;

/// Takes what a reader finds.
pub(crate) trait Sink {
    /// An entry.
    fn record(&mut self, record: Record<'_>);
    /// An entry in whose reason the byte [`ENTRY`] stands for the entry, so that a million of them have one text.
    fn record_around(&mut self, record: Record<'_>) {
        self.record(record);
    }
    /// A network about which a line says nothing but a reason. Nearly all lines of long lists are of this kind; for a sink
    /// this may be a shorter way than [`Sink::record`].
    fn network(&mut self, line: u32, column: u32, network: IpNet, reason: &[u8]) {
        let subject = Subject::Network(network);
        self.record(Record { line, column, subject, field: Field::Any, action: Action::Cover, reason, expires: None });
    }
    /// An entry that is taken back (CrowdSec `deleted`): records of the same subject before it do not count.
    fn delete(&mut self, subject: Subject<'_>);
    /// A mistake: the load fails.
    fn fault(&mut self, line: u32, column: u32, fault: Fault);
    /// Something that is left out, and why: the load succeeds.
    fn warn(&mut self, line: u32, column: u32, fault: Fault);
}

/// What the entries of a list are about, which the policy says by its section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// `[[list]]`: addresses of clients.
    Addresses,
    /// `[[domains]]`: names alone.
    Domains,
    /// `[[senders]]`, `[[recipients]]`: mailboxes and the domains of mailboxes.
    Mailboxes,
}

/// What the policy says about how a list is to be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    /// What its entries are about. A reader of a format that has several kinds hands over all of them; the sink takes
    /// what is wanted.
    pub about: About,
    /// The time, for durations that count from now.
    pub now: Seconds,
    /// Scored lists: the least score that counts.
    pub threshold: Option<u64>,
}

/// The formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// One entry a line, addresses, networks, ranges or domain names; text after it is its reason.
    Plain,
    /// rbldnsd data sets: a default answer, entries, holes.
    Rbldnsd(rbldnsd::Kind),
    /// Postfix cidr_table(5): networks in order, with actions.
    PostfixCidr,
    /// Sendmail access table: keys with tags.
    SendmailAccess,
    /// Postfix access(5): addresses, domains and mailboxes, with actions.
    PostfixAccess,
    /// Spamhaus DROP, text.
    Drop,
    /// Spamhaus DROP, JSON lines.
    DropJson,
    /// FireHOL netset and ipset.
    Firehol,
    /// DShield `block.txt`.
    Dshield,
    /// `name:first-last`.
    P2p,
    /// Address, tab, number.
    Scored,
    /// CrowdSec decisions, CSV.
    CrowdsecCsv,
    /// CrowdSec decisions, JSON.
    CrowdsecJson,
    /// Exim `iplsearch`.
    Iplsearch,
}

/// Reads a whole list, packed or not, in a format or in the one that its text shows. `tell` is told for each block how
/// many lines there were so far.
pub(crate) fn read<'a>(
    input: Box<dyn BufRead + 'a>,
    format: Option<Format>,
    reading: &Reading,
    sink: &mut dyn Sink,
    tell: &'a dyn Fn(u64),
) -> io::Result<Statement> {
    let input = Box::new(Told::new(compressed::open(input)?, tell));
    let (format, mut input): (_, Box<dyn BufRead>) = match format {
        Some(format) => (Ok(format), input),
        None => detect::detect(input, reading.about)?,
    };
    match format {
        Ok(format) => format.read(&mut *input, reading, sink),
        Err(fault) => {
            sink.fault(1, 1, fault);
            Ok(Statement::default())
        }
    }
}

impl<'a> Subject<'a> {
    /// Reads an entry as people write it, of the wanted kind.
    pub(crate) fn parse(text: &'a str, about: About) -> Result<Subject<'a>, Fault> {
        match about {
            About::Addresses => match text.split_once('-') {
                Some((first, last)) => parse_range(first, last).map(|(first, last)| Subject::Range(first, last)),
                None => parse_network(text).map(Subject::Network),
            },
            About::Mailboxes if text.contains('@') => parse_mailbox(text).map(Subject::Mailbox),
            About::Domains | About::Mailboxes => domain::parse_entry(text).map(|(form, name)| Subject::Domain(form, name)),
        }
    }
}

/// Reads `local@domain` or `local@`, without checking more of the local part than that it is printable.
fn parse_mailbox(text: &str) -> Result<&str, Fault> {
    let wrong = |remedy: &str| Err(Fault::new(format!("{} is not a mailbox", quote(text.as_bytes())), remedy));
    if text.starts_with('<') {
        return wrong("write it without angle brackets");
    }
    let Some((local, domain)) = text.rsplit_once('@') else { return wrong("write user@example.org") };
    if local.is_empty() {
        return wrong("write user@example.org, or the domain alone for all its mailboxes");
    }
    if !local.bytes().all(|b| matches!(b, b'!'..=b'~')) {
        return wrong("write a local part of printable ASCII");
    }
    if !domain.is_empty() {
        domain::parse_entry(domain).and_then(|(form, _)| {
            if form == Form::Exact {
                Ok(())
            } else {
                Err(Fault::new("a mailbox is at one domain", "leave out the star or dot after the @"))
            }
        })?;
    }
    Ok(text)
}

impl Format {
    /// All formats: name in the policy, format.
    pub(crate) const ALL: &[(&str, Format)] = &[
        ("plain", Format::Plain),
        ("drop", Format::Drop),
        ("drop-json", Format::DropJson),
        ("firehol", Format::Firehol),
        ("dshield", Format::Dshield),
        ("p2p", Format::P2p),
        ("scored", Format::Scored),
        ("crowdsec-csv", Format::CrowdsecCsv),
        ("crowdsec-json", Format::CrowdsecJson),
        ("iplsearch", Format::Iplsearch),
        ("rbldnsd-ip4set", Format::Rbldnsd(rbldnsd::Kind::Ip4Set)),
        ("rbldnsd-ip4trie", Format::Rbldnsd(rbldnsd::Kind::Ip4Trie)),
        ("rbldnsd-ip6tset", Format::Rbldnsd(rbldnsd::Kind::Ip6Tset)),
        ("rbldnsd-ip6trie", Format::Rbldnsd(rbldnsd::Kind::Ip6Trie)),
        ("rbldnsd-dnset", Format::Rbldnsd(rbldnsd::Kind::Dnset)),
        ("postfix-cidr", Format::PostfixCidr),
        ("sendmail-access", Format::SendmailAccess),
        ("postfix-access", Format::PostfixAccess),
    ];

    /// The format with that name.
    #[cfg(test)]
    fn named(name: &str) -> Option<Format> {
        Format::ALL.iter().find(|row| row.0 == name).map(|row| row.1)
    }

    /// Its name in the policy.
    pub(crate) fn name(self) -> &'static str {
        Format::ALL.iter().find(|row| row.1 == self).map_or("", |row| row.0)
    }

    /// Reads a whole list.
    pub(crate) fn read(self, input: &mut dyn BufRead, reading: &Reading, sink: &mut dyn Sink) -> io::Result<Statement> {
        match self {
            Format::Plain => plain::read(input, reading, sink),
            Format::Drop => drop::read(input, reading, sink),
            Format::DropJson => drop_json::read(input, reading, sink),
            Format::Firehol => firehol::read(input, reading, sink),
            Format::Dshield => dshield::read(input, reading, sink),
            Format::P2p => p2p::read(input, reading, sink),
            Format::Scored => scored::read(input, reading, sink),
            Format::CrowdsecCsv => crowdsec_csv::read(input, reading, sink),
            Format::CrowdsecJson => crowdsec_json::read(input, reading, sink),
            Format::Iplsearch => iplsearch::read(input, reading, sink),
            Format::Rbldnsd(kind) => rbldnsd::read(kind, input, sink),
            Format::PostfixCidr => postfix_cidr::read(input, sink),
            Format::SendmailAccess => sendmail_access::read(input, sink),
            Format::PostfixAccess => postfix_access::read(input, sink),
        }
    }
}
