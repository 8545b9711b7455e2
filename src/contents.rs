//! What was read of one list: entries, reasons, and the intervals that they make. Immutable, and shared by all
//! rulesets that use it: a list that cannot be read again stays in force as it was.

use crate::diagnostic::{Diagnostic, Fault};
use crate::domain::Form;
use crate::list::{Action, ENTRY, Field, Record, Seconds, Sink, Statement, Subject};
use crate::mailbox::{MAX_MAILBOX, Mailbox};
use crate::memory::{Watch, ran_out, room, room_for_text, with_room};
use crate::networks::{ChainMaker, Chains, Cover, EntryId, Interval, Network, Order, flatten};
use crate::reply::{MAX_VALUE, Reply, clean, push};
use arrayvec::ArrayString;
use ipnet::{IpNet, Ipv4Net, Ipv4Subnets, Ipv6Net, Ipv6Subnets};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// All reasons of one list together, in bytes.
const MAX_REASONS: usize = u32::MAX as usize;
/// Most replies that the lines of one list name.
const MAX_REPLIES: usize = 1000;
/// Most mistakes that are shown of one list; the rest are counted.
const MAX_SHOWN: usize = 20;

/// What a list says about an entry: printable ASCII.
pub(crate) type Reason = ArrayString<MAX_VALUE>;

/// What was read of one list.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// The files that it was read from; for inline entries the policy file.
    pub files: Vec<Arc<str>>,
    pub entries: Vec<Entry>,
    /// The addresses of IPv6 entries.
    pub v6_starts: Vec<u128>,
    /// The names of domain entries and the mailboxes of mailbox entries, one behind the other.
    pub names: String,
    /// All reasons, one behind the other; in some a mark stands for the entry.
    reasons: String,
    /// Replies that single lines ask for.
    pub replies: Vec<Reply>,
    pub v4: Vec<Interval<u32>>,
    pub v6: Vec<Interval<u128>>,
    pub chains: Chains,
    pub statement: Statement,
    /// When it was read.
    pub read: Seconds,
    /// When it was made, by its own words or by the date of its newest file; `None` for inline entries.
    pub made: Option<Seconds>,
    /// Lines that had an entry, duplicates included.
    pub lines: u64,
}

/// One entry. A range has one for each network that it is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// Address of an IPv4 network; else the place in `v6_starts` or of the name.
    subject: u32,
    pub line: u32,
    reason_start: u32,
    /// Seconds since 1970; 0 for never. Lasts until 2106.
    pub expires: u32,
    /// Which of `files`.
    pub file: u16,
    /// Number from 1 of a reply in `replies`; 0 for that of the list.
    pub reply: u16,
    reason_length: u8,
    /// Length of the prefix, or of the name.
    length: u8,
    kind: Kind,
    pub hole: bool,
    /// Taken back by a later record.
    pub deleted: bool,
}

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    V4,
    V6,
    Exact,
    Below,
    Both,
    Mailbox,
}

/// The subject of an entry, as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About<'a> {
    Network(IpNet),
    Domain(Form, &'a str),
    Mailbox(&'a str),
}

impl Contents {
    /// The entry with that number, from 1.
    pub(crate) fn entry(&self, entry: EntryId) -> Option<&Entry> {
        self.entries.get(usize::try_from(entry).ok()?.checked_sub(1)?)
    }

    /// What an entry is about.
    pub(crate) fn about(&self, entry: &Entry) -> Option<About<'_>> {
        let name = || {
            let start = entry.subject as usize;
            self.names.get(start..start + usize::from(entry.length))
        };
        Some(match entry.kind {
            Kind::V4 => About::Network(Ipv4Net::new(Ipv4Addr::from_bits(entry.subject), entry.length).ok()?.into()),
            Kind::V6 => {
                let start = self.v6_starts.get(entry.subject as usize)?;
                About::Network(Ipv6Net::new(Ipv6Addr::from_bits(*start), entry.length).ok()?.into())
            }
            Kind::Exact => About::Domain(Form::Exact, name()?),
            Kind::Below => About::Domain(Form::Below, name()?),
            Kind::Both => About::Domain(Form::Both, name()?),
            Kind::Mailbox => About::Mailbox(name()?),
        })
    }

    /// What the list says about an entry.
    pub(crate) fn reason(&self, entry: &Entry) -> Reason {
        let mut reason = Reason::new();
        Reason::from(self.reason_in(entry, &mut reason)).unwrap_or_default()
    }

    /// As [`Contents::reason`], without copying it unless it has to be put together, in a place of the caller's.
    pub(crate) fn reason_in<'a>(&'a self, entry: &Entry, place: &'a mut Reason) -> &'a str {
        let start = entry.reason_start as usize;
        let text = self.reasons.get(start..start + usize::from(entry.reason_length)).unwrap_or("");
        if !text.as_bytes().contains(&ENTRY) {
            return text;
        }
        for (number, part) in text.split(char::from(ENTRY)).enumerate() {
            if number > 0 {
                push(place, self.named(entry).bytes());
            }
            push(place, part.bytes());
        }
        place
    }

    /// An entry in its own reason: a host without its prefix length, a name without its form.
    fn named(&self, entry: &Entry) -> Reason {
        let mut text = Reason::new();
        // Whatever it is fits.
        let _ = match self.about(entry) {
            Some(About::Domain(_, name)) => text.write_str(name),
            Some(about) => about.write(&mut text),
            None => Ok(()),
        };
        text
    }

    /// The reply that the line of an entry asks for.
    pub(crate) fn reply(&self, entry: &Entry) -> Option<&Reply> {
        self.replies.get(usize::from(entry.reply).checked_sub(1)?)
    }

    /// The file that an entry stands in.
    pub(crate) fn file(&self, entry: &Entry) -> &str {
        self.files.get(usize::from(entry.file)).map_or("", |file| file)
    }

    /// What covers an address in this list.
    pub(crate) fn covering(&self, address: IpAddr) -> Cover {
        match address.to_canonical() {
            IpAddr::V4(v4) => crate::networks::covering(&self.v4, v4.to_bits()),
            IpAddr::V6(v6) => crate::networks::covering(&self.v6, v6.to_bits()),
        }
    }

    /// The entries that count, holes among them.
    pub(crate) fn live(&self) -> impl Iterator<Item = (EntryId, &Entry)> {
        (1..).zip(&self.entries).filter(|(_, entry)| !entry.deleted)
    }
}

impl Entry {
    /// Whether it has ceased to count.
    pub(crate) fn is_over(&self, now: Seconds) -> bool {
        self.expires != 0 && Seconds::from(self.expires) <= now
    }
}

/// What a list is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Addresses of clients.
    Addresses,
    /// Domain names.
    Domains,
    /// Mailboxes of senders, and their domains.
    Senders,
    /// Mailboxes of recipients, and their domains.
    Recipients,
}

/// Collects what a reader finds.
pub(crate) struct Collector<'a> {
    contents: Contents,
    wanted: Wanted,
    diagnostics: &'a mut Vec<Diagnostic>,
    /// Mistakes in this file, and what was left out of it because it is about something else.
    wrong: usize,
    foreign: usize,
    /// Subjects that were taken back, and how many entries there were by then.
    deleted: Vec<(IpNet, usize)>,
    known_replies: HashMap<String, u16>,
    room: usize,
    watch: Watch,
}

impl<'a> Collector<'a> {
    /// `room` is how many entries may still be added.
    pub(crate) fn new(wanted: Wanted, read: Seconds, room: usize, diagnostics: &'a mut Vec<Diagnostic>) -> Collector<'a> {
        Collector {
            contents: Contents { read, ..Contents::default() },
            wanted,
            diagnostics,
            wrong: 0,
            foreign: 0,
            deleted: Vec::new(),
            known_replies: HashMap::new(),
            room,
            watch: Watch::begin(),
        }
    }

    /// What follows stands in this file.
    pub(crate) fn begin_file(&mut self, file: Arc<str>) {
        self.contents.files.push(file);
        (self.wrong, self.foreign) = (0, 0);
    }

    /// Ends a file: what was found too often is told once, with its count.
    pub(crate) fn end_file(&mut self, entries_before: u64) {
        if self.wrong > MAX_SHOWN {
            let cause = format!("{} more mistakes in this file are not shown", self.wrong - MAX_SHOWN);
            self.push(1, 1, Fault::new(cause, "mend those above and load again"));
        }
        if self.foreign > 0 {
            let cause = format!("{} entries are not {} and are left out", self.foreign, self.wanted.name());
            let fault = Fault::new(cause, "name the file in the section that they belong to as well");
            self.warn(1, 1, fault);
        } else if self.contents.lines == entries_before && self.wrong == 0 {
            self.warn(1, 1, Fault::new("the list has no entry", "check that the file is complete"));
        }
    }

    /// How many lines with an entry there were so far.
    pub(crate) fn lines(&self) -> u64 {
        self.contents.lines
    }

    /// The list as it was read. No entry lasts longer than until `deadline`.
    pub(crate) fn finish(mut self, statement: Statement, order: Order, deadline: Option<Seconds>) -> Contents {
        self.apply_deletions();
        let contents = &mut self.contents;
        if deadline.is_some() {
            let deadline = expiry(deadline);
            for entry in &mut contents.entries {
                // 0 is never, and later than all.
                entry.expires = [entry.expires, deadline].into_iter().filter(|at| *at != 0).min().unwrap_or(0);
            }
        }
        contents.statement = statement;
        let count = |family: Kind| contents.entries.iter().filter(|entry| entry.kind == family).count();
        let (mut v4, mut v6) = (with_room(count(Kind::V4)), with_room(count(Kind::V6)));
        if self.watch.is_short() {
            return self.contents;
        }
        for (number, entry) in (1..).zip(&contents.entries).filter(|(_, entry)| !entry.deleted) {
            let (hole, expires, prefix_len) = (entry.hole, entry.expires != 0, entry.length);
            match entry.kind {
                Kind::V4 => v4.push(Network { start: entry.subject, prefix_len, entry: number, hole, expires }),
                Kind::V6 => {
                    let start = contents.v6_starts.get(entry.subject as usize).copied().unwrap_or_default();
                    v6.push(Network { start, prefix_len, entry: number, hole, expires });
                }
                Kind::Exact | Kind::Below | Kind::Both | Kind::Mailbox => {}
            }
        }
        let mut maker = ChainMaker::default();
        contents.v4 = flatten(v4, order, &mut maker);
        contents.v6 = flatten(v6, order, &mut maker);
        contents.chains = maker.chains;
        self.contents
    }

    fn push(&mut self, line: u32, column: u32, fault: Fault) {
        if let Some(file) = self.contents.files.last() {
            self.diagnostics.push(fault.at(file, line, column));
        }
    }

    /// Takes an entry; `around`: its reason has it in it.
    fn add(&mut self, record: &Record<'_>, around: bool) -> Result<(), Fault> {
        self.watch.check()?;
        let foreign = match (self.wanted, record.field) {
            (Wanted::Addresses, Field::Sender | Field::Recipient) => true,
            (Wanted::Senders, Field::Client | Field::Recipient) => true,
            (Wanted::Recipients | Wanted::Domains, Field::Client | Field::Sender) => true,
            _ => self.wanted.is_address() != matches!(record.subject, Subject::Network(_) | Subject::Range(..)),
        };
        if foreign || self.wanted == Wanted::Domains && matches!(record.subject, Subject::Mailbox(_)) {
            self.foreign += 1;
            return Ok(());
        }
        let reply = match record.action {
            Action::Reply(reply) => self.reply(reply)?,
            Action::Cover | Action::Hole => 0,
        };
        let (reason_start, reason_length) = self.reason(record.reason, around)?;
        let entry = Entry {
            subject: 0,
            line: record.line,
            reason_start,
            expires: expiry(record.expires),
            file: u16::try_from(self.contents.files.len().saturating_sub(1)).unwrap_or(u16::MAX),
            reply,
            reason_length,
            length: 0,
            kind: Kind::V4,
            hole: record.action == Action::Hole,
            deleted: false,
        };
        match record.subject {
            Subject::Network(network) => self.network(entry, network)?,
            Subject::Range(first, last) => self.range(entry, first, last)?,
            Subject::Domain(form, name) => self.name(entry, Kind::of(form), &name)?,
            Subject::Mailbox(text) => {
                let mailbox = Mailbox::parse(text.as_bytes());
                let name = mailbox.name(&mailbox.place().unwrap_or_default());
                let too_long = || Fault::new("the mailbox is too long", format!("write at most {MAX_MAILBOX} characters"));
                self.name(entry, Kind::Mailbox, &name.ok_or_else(too_long)?)?;
            }
        }
        self.contents.lines += 1;
        Ok(())
    }

    fn network(&mut self, entry: Entry, network: IpNet) -> Result<(), Fault> {
        let length = network.prefix_len();
        let (subject, kind) = match network {
            IpNet::V4(net) => (net.network().to_bits(), Kind::V4),
            IpNet::V6(net) => {
                if !room(&mut self.contents.v6_starts, 1) {
                    return Err(ran_out());
                }
                self.contents.v6_starts.push(net.network().to_bits());
                (u32::try_from(self.contents.v6_starts.len() - 1).map_err(|_| full())?, Kind::V6)
            }
        };
        self.entry(Entry { subject, length, kind, ..entry })
    }

    fn range(&mut self, entry: Entry, first: IpAddr, last: IpAddr) -> Result<(), Fault> {
        match (first, last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                Ipv4Subnets::new(first, last, 0).try_for_each(|network| self.network(entry, network.into()))
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                Ipv6Subnets::new(first, last, 0).try_for_each(|network| self.network(entry, network.into()))
            }
            _ => Err(Fault::new("the range begins in one address family and ends in the other", "write a range for each family")),
        }
    }

    fn name(&mut self, entry: Entry, kind: Kind, name: &str) -> Result<(), Fault> {
        let subject = u32::try_from(self.contents.names.len()).map_err(|_| full())?;
        let length = u8::try_from(name.len()).map_err(|_| full())?;
        if !room_for_text(&mut self.contents.names, name.len()) {
            return Err(ran_out());
        }
        self.contents.names.push_str(name);
        self.entry(Entry { subject, length, kind, ..entry })
    }

    fn entry(&mut self, entry: Entry) -> Result<(), Fault> {
        if self.contents.entries.len() >= self.room {
            return Err(full());
        }
        if !room(&mut self.contents.entries, 1) {
            return Err(ran_out());
        }
        self.contents.entries.push(entry);
        Ok(())
    }

    /// Keeps a reason, fit for a reply. Lists often repeat the one of the line before.
    fn reason(&mut self, reason: &[u8], around: bool) -> Result<(u32, u8), Fault> {
        let (reason, reasons) = (if around { clean_around(reason) } else { clean(reason) }, &mut self.contents.reasons);
        if !reasons.ends_with(reason.as_str()) {
            if !room_for_text(reasons, reason.len()) {
                return Err(ran_out());
            }
            reasons.push_str(&reason);
        }
        match (u32::try_from(reasons.len() - reason.len()), u8::try_from(reason.len())) {
            (Ok(start), Ok(length)) => Ok((start, length)),
            _ => Err(Fault::limit(format!("the reasons of the list have more than {MAX_REASONS} bytes"), "leave them out")),
        }
    }

    /// The number of a reply that a line asks for.
    fn reply(&mut self, text: &str) -> Result<u16, Fault> {
        if let Some(number) = self.known_replies.get(text) {
            return Ok(*number);
        }
        let reply = Reply::parse(text)?;
        if self.contents.replies.len() >= MAX_REPLIES {
            return Err(Fault::limit(format!("the list names more than {MAX_REPLIES} replies"), "use fewer texts"));
        }
        self.contents.replies.push(reply);
        let number = u16::try_from(self.contents.replies.len()).unwrap_or(0);
        self.known_replies.insert(text.into(), number);
        Ok(number)
    }

    fn apply_deletions(&mut self) {
        let mut until: HashMap<IpNet, usize> = HashMap::new();
        for (network, count) in self.deleted.drain(..) {
            let last = until.entry(network).or_default();
            *last = count.max(*last);
        }
        if until.is_empty() {
            return;
        }
        let mut gone = Vec::new();
        for (at, entry) in self.contents.entries.iter().enumerate() {
            if let Some(About::Network(network)) = self.contents.about(entry)
                && until.get(&network).is_some_and(|count| at < *count)
            {
                gone.push(at);
            }
        }
        for at in gone {
            if let Some(entry) = self.contents.entries.get_mut(at) {
                entry.deleted = true;
            }
        }
    }
}

impl Sink for Collector<'_> {
    fn record(&mut self, record: Record<'_>) {
        if let Err(fault) = self.add(&record, false) {
            self.fault(record.line, record.column, fault);
        }
    }

    fn record_around(&mut self, record: Record<'_>) {
        if let Err(fault) = self.add(&record, true) {
            self.fault(record.line, record.column, fault);
        }
    }

    fn delete(&mut self, subject: Subject<'_>) {
        if let Subject::Network(network) = subject
            && room(&mut self.deleted, 1)
        {
            self.deleted.push((network, self.contents.entries.len()));
        }
    }

    fn fault(&mut self, line: u32, column: u32, fault: Fault) {
        self.wrong += 1;
        if self.wrong <= MAX_SHOWN {
            self.push(line, column, fault);
        }
    }

    fn warn(&mut self, line: u32, column: u32, fault: Fault) {
        if let Some(file) = self.contents.files.last() {
            self.diagnostics.push(fault.at(file, line, column).warning());
        }
    }
}

impl Wanted {
    fn is_address(self) -> bool {
        self == Wanted::Addresses
    }

    fn name(self) -> &'static str {
        match self {
            Wanted::Addresses => "about addresses of clients",
            Wanted::Domains => "domain names",
            Wanted::Senders => "about senders",
            Wanted::Recipients => "about recipients",
        }
    }

    /// How its entries are written.
    pub(crate) fn about(self) -> crate::list::About {
        match self {
            Wanted::Addresses => crate::list::About::Addresses,
            Wanted::Domains => crate::list::About::Domains,
            Wanted::Senders | Wanted::Recipients => crate::list::About::Mailboxes,
        }
    }
}

impl Kind {
    fn of(form: Form) -> Kind {
        match form {
            Form::Exact => Kind::Exact,
            Form::Below => Kind::Below,
            Form::Both => Kind::Both,
        }
    }
}

/// The field of an entry for a time: what lasts longer than the field does lasts for ever, what is over stays over.
fn expiry(at: Option<Seconds>) -> u32 {
    at.map_or(0, |at| u32::try_from(at).unwrap_or(0).max(u32::from(at == 0)))
}

/// A reason fit for a reply, in which the marks of the entry stay.
fn clean_around(reason: &[u8]) -> Reason {
    let mut cleaned = Reason::new();
    for (number, part) in reason.split(|byte| *byte == ENTRY).enumerate() {
        push(&mut cleaned, (number > 0).then_some(ENTRY).into_iter().chain(clean(part).bytes()));
    }
    cleaned
}

fn full() -> Fault {
    Fault::limit(format!("the lists together have more than {} entries", crate::compile::MAX_ENTRIES), "leave out a list")
}
