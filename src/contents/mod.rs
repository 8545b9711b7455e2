//! What was read of one list: entries, reasons, and the intervals that they make. Immutable, and shared by all
//! rulesets that use it: a list that cannot be read again stays in force as it was. Entries lie in columns (`entries`), and where
//! they come from in runs (`runs`), 6 bytes an entry in most lists. The intervals take more memory than the entries, and a
//! table is all that is left of them when a ruleset has been compiled.

mod collector;
mod entries;
mod near;
mod runs;

pub(crate) use collector::{Collector, Wanted};
pub(crate) use entries::{Entries, Entry};
pub(crate) use near::Near;

use crate::domain::Form;
use crate::flat::Flat;
use crate::image::{Reader, Stored, Writer};
use crate::line::{Line, Padded, SHORT};
use crate::list::{ENTRY, Seconds, Statement};
use crate::networks::{Cover, EntryId, Intervals, Order};
use crate::reply::{MAX_VALUE, Reply};
use arrayvec::ArrayString;
use bytemuck::{Pod, Zeroable};
use entries::Kind;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, OnceLock};

/// What a list says about an entry: printable ASCII.
pub(crate) type Reason = ArrayString<MAX_VALUE>;

/// What was read of one list.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// The files that it was read from; for inline entries the policy file.
    pub files: Vec<Arc<str>>,
    pub entries: Entries,
    /// The addresses of IPv6 entries.
    v6_starts: Flat<u128>,
    /// The names of domain entries and the mailboxes of mailbox entries, one behind the other.
    pub names: Flat<u8>,
    /// All reasons, one behind the other; in some a mark stands for the entry.
    reasons: Flat<u8>,
    /// Replies that single lines ask for.
    replies: Vec<Reply>,
    /// What is said about entries; the first says nothing.
    notes: Flat<Note>,
    /// What its networks come to, from when somebody asks until a table is made of it.
    intervals: OnceLock<Intervals>,
    pub statement: Statement,
    /// When it was read.
    pub read: Seconds,
    /// When it was made, by its own words or by the date of its newest file; `None` for inline entries.
    pub made: Option<Seconds>,
    /// Lines that had an entry, duplicates included.
    pub lines: u64,
}

/// The note of entries whose lines give neither a reason nor a reply.
const UNNOTED: u32 = 0;

// There may be millions of them.
const _: () = assert!(size_of::<Note>() == 12);

/// What is said about entries besides what they are about. Most lines of a list say the same as the line before, or nothing.
/// Plain numbers without gaps between them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
struct Note {
    reason_start: u32,
    /// Seconds since 1970; 0 for never. Lasts until 2106.
    expires: u32,
    /// Number from 1 of a reply in `replies`; 0 for that of the list.
    reply: u16,
    reason_length: u8,
    /// Whether [`ENTRY`] is in the reason.
    names_entry: u8,
}

/// The subject of an entry, as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About<'a> {
    Network(IpNet),
    /// ASCII, unless an image is damaged.
    Domain(Form, &'a [u8]),
    /// Likewise.
    Mailbox(&'a [u8]),
}

/// What was asked, of which the text of an entry that covers it can be made.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asked<'a> {
    /// The client, by whom an entry about a network has decided.
    pub address: Option<&'a IpAddr>,
    /// The name by which an entry about domains has decided.
    pub name: Option<&'a [u8]>,
}

impl Contents {
    /// What its networks come to; kept for those who ask again.
    pub(crate) fn intervals(&self) -> &Intervals {
        // Without waiting for somebody who makes them too: after fork() he may not be there.
        if self.intervals.get().is_none() {
            let _ = self.intervals.set(self.flatten());
        }
        self.intervals.get_or_init(Intervals::default)
    }

    /// What its networks come to, which it does not keep.
    pub(crate) fn take_intervals(contents: &mut Arc<Contents>) -> Intervals {
        let kept = Arc::get_mut(contents).and_then(|contents| contents.intervals.take());
        // A list that stays in force as it was belongs to two rulesets.
        kept.unwrap_or_else(|| contents.flatten())
    }

    /// What its networks come to, for those who ask once.
    pub(crate) fn flatten(&self) -> Intervals {
        self.flatten_some(|_| true)
    }

    /// What those of its networks come to that are `wanted`.
    pub(crate) fn flatten_some(&self, wanted: impl Fn(Entry) -> bool + Copy) -> Intervals {
        // Names have no networks, and no list has both.
        let v6_count = self.v6_starts.len();
        let v4_count = if self.names.is_empty() { self.entries.len().saturating_sub(v6_count) } else { 0 };
        let order = if self.statement.ordered { Order::First } else { Order::MostSpecific };
        let last = EntryId::try_from(self.entries.len()).unwrap_or(EntryId::MAX);
        let of_kind =
            |kind| self.entries.with_subjects().filter(move |(entry, _)| !entry.is_deleted() && entry.kind() == kind && wanted(*entry));
        let v4 = of_kind(Kind::V4).map(|(entry, start)| entry.network(start));
        let v6 = of_kind(Kind::V6).map(|(entry, place)| {
            let start = self.v6_starts.get(place as usize).copied().unwrap_or_default();
            entry.network(start)
        });
        Intervals::flatten((v4, v4_count), (v6, v6_count), last, order)
    }

    /// How many of its entries are IPv6 networks.
    pub(crate) fn v6_count(&self) -> usize {
        self.v6_starts.len()
    }

    /// The entry with that number, from 1.
    #[inline(always)]
    pub(crate) fn entry(&self, entry: EntryId) -> Option<Entry> {
        self.entries.get(entry)
    }

    /// What an entry is about.
    pub(crate) fn about(&self, entry: Entry) -> Option<About<'_>> {
        let subject = self.entries.subject(entry)?;
        let name = || {
            let start = subject as usize;
            self.names.get(start..start + usize::from(entry.length()))
        };
        Some(match entry.kind() {
            Kind::Nothing => return None,
            Kind::V4 => About::Network(Ipv4Net::new(Ipv4Addr::from_bits(subject), entry.length()).ok()?.into()),
            Kind::V6 => {
                let start = self.v6_starts.get(subject as usize)?;
                About::Network(Ipv6Net::new(Ipv6Addr::from_bits(*start), entry.length()).ok()?.into())
            }
            kind @ (Kind::Exact | Kind::Below | Kind::Both) => About::Domain(kind.form()?, name()?),
            Kind::Mailbox => About::Mailbox(name()?),
        })
    }

    /// Writes what an entry is about as lists have it; a host without the length of its prefix. Of one that covers what is
    /// `asked` the text is made from there, which is nearer than where the list has it.
    // Addresses go from one place to the other as numbers: a processor waits when it reads at once, in large pieces, what
    // it has just written in small ones, as are those that have four bytes or sixteen.
    #[inline(always)]
    pub(crate) fn write_entry(&self, entry: Entry, asked: Asked<'_>, line: &mut Line<'_>) {
        // In a damaged image the entry may be elsewhere.
        let asked = if self.is_mapped() { Asked::default() } else { asked };
        if entry.kind() == Kind::V4 {
            let address = match asked.address {
                Some(IpAddr::V4(v4)) => v4.to_bits(),
                _ => self.entries.subject(entry).unwrap_or_default(),
            };
            line.push_network_of_v4(address, entry.length());
        } else if let Some(form) = entry.kind().form()
            && let Some(name) = asked.name.and_then(|name| name.get(name.len().checked_sub(entry.length().into())?..))
        {
            line.push(form.prefix().as_bytes());
            line.push(name);
        } else {
            self.write_about(entry, asked.address, line);
        }
    }

    #[inline(never)]
    fn write_about(&self, entry: Entry, asked: Option<&IpAddr>, line: &mut Line<'_>) {
        if let (Kind::V6, Some(IpAddr::V6(v6))) = (entry.kind(), asked)
            && let Ok(network) = Ipv6Net::new(*v6, entry.length())
        {
            line.push_network(network.trunc().into());
        } else if let Some(about) = self.about(entry) {
            about.write(line);
        }
    }

    /// Whether it is from an image, which may be damaged: what its tables say is not believed without a look at the entry.
    pub(crate) fn is_mapped(&self) -> bool {
        self.entries.is_mapped()
    }

    /// Whether an entry is about a network that an address is in.
    #[inline(always)]
    pub(crate) fn holds(&self, entry: Entry, address: &IpAddr) -> bool {
        let v4 = match address {
            IpAddr::V4(v4) => Some(v4.to_bits()),
            IpAddr::V6(v6) => v6.to_ipv4_mapped().map(Ipv4Addr::to_bits),
        };
        match (v4, address) {
            (Some(address), _) => {
                let start = self.entries.subject(entry).filter(|_| entry.kind() == Kind::V4 && entry.length() <= 32);
                start.is_some_and(|start| (start ^ address).leading_zeros() >= entry.length().into())
            }
            (None, IpAddr::V6(address)) => {
                let start = self.v6_start(entry).filter(|_| entry.kind() == Kind::V6 && entry.length() <= 128);
                start.is_some_and(|start| (start ^ address.to_bits()).leading_zeros() >= entry.length().into())
            }
            (None, IpAddr::V4(_)) => false,
        }
    }

    /// The address of an entry about an IPv6 network.
    fn v6_start(&self, entry: Entry) -> Option<u128> {
        self.v6_starts.get(self.entries.subject(entry)? as usize).copied()
    }

    fn note(&self, number: u32) -> Note {
        self.notes.get(number as usize).copied().unwrap_or_default()
    }

    fn note_of(&self, entry: Entry) -> Note {
        self.note(self.entries.origin(entry).note)
    }

    /// The octet that all addresses of a network begin with, and 0 for IPv4 or 1 for IPv6, if there is one.
    pub(crate) fn first_octet(&self, entry: Entry) -> Option<(usize, u8)> {
        let [octet, ..] = match entry.kind() {
            _ if entry.length() < 8 => return None,
            Kind::V4 => return Some((0, self.entries.subject(entry)?.to_be_bytes()[0])),
            Kind::V6 => self.v6_start(entry)?.to_be_bytes(),
            Kind::Nothing | Kind::Exact | Kind::Below | Kind::Both | Kind::Mailbox => return None,
        };
        Some((1, octet))
    }

    /// What the list says about an entry.
    pub(crate) fn reason(&self, entry: Entry) -> Reason {
        let mut place = [0; MAX_VALUE];
        let mut line = Line::new(&mut place);
        self.write_reason(entry, &mut line);
        line.text()
    }

    /// The line of the first entry, and by how much it goes up with each, if it does so all the way.
    pub(crate) fn lines_in_a_row(&self) -> Option<(u32, u8)> {
        self.entries.lines()
    }

    /// What the list says about each of its entries, if that is the same, and as short as nearly all of it is.
    pub(crate) fn reason_of_all(&self) -> Option<Padded<SHORT>> {
        let note = self.entries.note_of_all().filter(|_| !self.is_mapped())?;
        let Note { reason_start, reason_length, names_entry, .. } = self.note(note);
        let reason = self.reasons.get(reason_start as usize..)?.get(..reason_length.into())?;
        (names_entry == 0 && reason.len() < SHORT).then(|| Padded::of(reason))
    }

    /// Writes what the list says about an entry, and says whether it says anything.
    #[inline(always)]
    pub(crate) fn write_reason(&self, entry: Entry, line: &mut Line<'_>) -> bool {
        let note = self.entries.origin(entry).note;
        note != UNNOTED && self.write_noted_reason(note, entry, line)
    }

    #[inline(never)]
    fn write_noted_reason(&self, note: u32, entry: Entry, line: &mut Line<'_>) -> bool {
        let note = self.note(note);
        let start = note.reason_start as usize;
        let text = self.reasons.get(start..start + usize::from(note.reason_length)).unwrap_or_default();
        if note.names_entry == 0 && !self.reasons.is_mapped() {
            // Harmless since it was read.
            line.push(text);
        } else {
            for (number, part) in text.split(|byte| *byte == ENTRY).enumerate() {
                if number > 0 {
                    self.write_named(entry, line);
                }
                line.push_harmless(part);
            }
        }
        !text.is_empty()
    }

    /// An entry in its own reason: a host without its prefix length, a name without its form.
    fn write_named(&self, entry: Entry, line: &mut Line<'_>) {
        match self.about(entry) {
            Some(About::Domain(_, name)) => line.push_harmless(name),
            Some(about) => about.write(line),
            None => {}
        }
    }

    /// Whether some lines ask for replies of their own.
    pub(crate) fn has_replies(&self) -> bool {
        !self.replies.is_empty()
    }

    /// The reply that the line of an entry asks for.
    #[inline(always)]
    pub(crate) fn reply(&self, entry: Entry) -> Option<&Reply> {
        if self.replies.is_empty() { None } else { self.noted_reply(entry) }
    }

    #[inline(never)]
    fn noted_reply(&self, entry: Entry) -> Option<&Reply> {
        self.replies.get(self.reply_number(entry).checked_sub(1)?)
    }

    /// The number of that reply, by which entries of the list can be compared.
    pub(crate) fn reply_number(&self, entry: Entry) -> usize {
        self.note_of(entry).reply.into()
    }

    /// When an entry ceases to count, if it does.
    pub(crate) fn expires(&self, entry: Entry) -> Option<Seconds> {
        Some(self.note_of(entry).expires).filter(|at| *at != 0).map(Seconds::from)
    }

    /// Whether an entry has ceased to count.
    pub(crate) fn is_over(&self, entry: Entry, now: Seconds) -> bool {
        entry.ends() && self.expires(entry).is_some_and(|at| at <= now)
    }

    /// The file that an entry stands in.
    pub(crate) fn file(&self, entry: Entry) -> &str {
        self.files.get(usize::from(self.entries.origin(entry).file)).map_or("", |file| file)
    }

    /// The line that it stands on.
    #[inline(always)]
    pub(crate) fn line(&self, entry: Entry) -> u32 {
        self.entries.origin(entry).line
    }

    /// What covers an address in this list.
    pub(crate) fn covering(&self, address: IpAddr) -> Cover {
        self.intervals().covering(address)
    }

    /// The entries that count, holes among them.
    pub(crate) fn live(&self) -> impl Iterator<Item = Entry> + Clone {
        self.entries.iter().filter(|entry| !entry.is_deleted())
    }
}

impl Stored for Contents {
    fn store(&self, image: &mut Writer) {
        let Contents { files, entries, v6_starts, names, reasons, replies, notes, intervals: _, statement, read, made, lines } = self;
        image.number(files.len() as u64);
        files.iter().for_each(|file| image.text(file));
        entries.store(image);
        v6_starts.store(image);
        names.store(image);
        reasons.store(image);
        notes.store(image);
        image.number(replies.len() as u64);
        replies.iter().for_each(|reply| reply.store(image));
        statement.store(image);
        image.number(*read);
        image.option(*made);
        image.number(*lines);
    }

    fn restore(image: &mut Reader) -> Option<Contents> {
        let files = image.number()?;
        let files: Option<Vec<Arc<str>>> = (0..files).map(|_| image.text().map(Arc::from)).collect();
        let (entries, v6_starts) = (Entries::restore(image)?, Flat::restore(image)?);
        let (names, reasons, notes) = (Flat::restore(image)?, Flat::restore(image)?, Flat::restore(image)?);
        let replies = image.number()?;
        let replies: Option<Vec<Reply>> = (0..replies).map(|_| Reply::restore(image)).collect();
        let (statement, read, made) = (Statement::restore(image)?, image.number()?, image.option()?);
        let (files, replies, lines, intervals) = (files?, replies?, image.number()?, OnceLock::new());
        Some(Contents { files, entries, v6_starts, names, reasons, replies, notes, intervals, statement, read, made, lines })
    }
}
