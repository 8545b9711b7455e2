//! From what a reader finds to the contents of a list: checked, cleaned and counted, as fast as a file can be read.

use super::entries::{Entry, GrowingEntries, Kind, Shape};
use super::runs::Origin;
use super::{About, Contents, Note};
use crate::diagnostic::{Diagnostic, Fault};
use crate::line as text;
use crate::list::{self, Action, ENTRY, Field, Record, Seconds, Sink, Statement, Subject};
use crate::mailbox::{MAX_MAILBOX, Mailbox};
use crate::memory::{Watch, ran_out, room};
use crate::reply::{MAX_VALUE, Reply};
use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// All reasons of one list together, in bytes.
const MAX_REASONS: usize = u32::MAX as usize;
/// Most replies that the lines of one list name.
const MAX_REPLIES: usize = 1000;
/// Most mistakes that are shown of one list; the rest are counted.
const MAX_SHOWN: usize = 20;
/// After how many entries it is looked whether there is still memory and room.
const BLOCK: usize = 1 << 12;

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
    /// The arrays of the contents, as long as they grow.
    arrays: Arrays,
    wanted: Wanted,
    diagnostics: &'a mut Vec<Diagnostic>,
    /// Mistakes in this file, and what was left out of it because it is about something else.
    wrong: usize,
    foreign: usize,
    /// Subjects that were taken back, and how many entries there were by then.
    deleted: Vec<(IpNet, usize)>,
    known_replies: HashMap<String, u16>,
    last: Said,
    /// Number of the file that is being read.
    file: u16,
    room: usize,
    /// How many entries there may be before the next look.
    granted: usize,
    watch: Watch,
}

/// What grows with a list.
#[derive(Default)]
struct Arrays {
    entries: GrowingEntries,
    v6_starts: Vec<u128>,
    names: Vec<u8>,
    reasons: Vec<u8>,
    notes: Vec<Note>,
}

/// What was said last, as the list has it.
#[derive(Debug, Default)]
struct Said {
    reason: Vec<u8>,
    around: bool,
    note: Note,
}

/// What an entry has besides what it is about.
#[derive(Clone, Copy)]
struct Line {
    line: u32,
    note: u32,
    hole: bool,
    ends: bool,
}

impl<'a> Collector<'a> {
    /// `room` is how many entries may still be added.
    pub(crate) fn new(wanted: Wanted, read: Seconds, room: usize, diagnostics: &'a mut Vec<Diagnostic>) -> Collector<'a> {
        Collector {
            contents: Contents { read, ..Contents::default() },
            arrays: Arrays::default(),
            wanted,
            diagnostics,
            wrong: 0,
            foreign: 0,
            deleted: Vec::new(),
            known_replies: HashMap::new(),
            last: Said::default(),
            file: 0,
            room,
            granted: 0,
            watch: Watch::begin(),
        }
    }

    /// What follows stands in this file.
    pub(crate) fn begin_file(&mut self, file: Arc<str>) {
        self.file = u16::try_from(self.contents.files.len()).unwrap_or(u16::MAX);
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
    pub(crate) fn finish(mut self, statement: Statement, deadline: Option<Seconds>) -> Contents {
        let Arrays { entries, mut v6_starts, mut names, mut reasons, mut notes } = self.arrays;
        if deadline.is_some() {
            let deadline = expiry(deadline);
            // Those about which nothing is said have the first note, even if no other needed one.
            if notes.is_empty() && room(&mut notes, 1) {
                notes.push(Note::default());
            }
            for note in &mut notes {
                // 0 is never, and later than all.
                note.expires = [note.expires, deadline].into_iter().filter(|at| *at != 0).min().unwrap_or(0);
            }
        }
        let entries = entries.finish(deadline.is_some());
        v6_starts.shrink_to_fit();
        names.shrink_to_fit();
        reasons.shrink_to_fit();
        notes.shrink_to_fit();
        let (v6_starts, names, reasons, notes) = (v6_starts.into(), names.into(), reasons.into(), notes.into());
        self.contents = Contents { entries, v6_starts, names, reasons, notes, statement, ..self.contents };
        apply_deletions(&mut self.contents, self.deleted);
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
        let expires = expiry(record.expires);
        let note = self.note(record.reason, around, reply, expires)?;
        let line = Line { line: record.line, note, hole: record.action == Action::Hole, ends: expires != 0 };
        match &record.subject {
            Subject::Network(network) => self.take(line, *network)?,
            Subject::Range(first, last) => self.range(line, *first, *last)?,
            Subject::Domain(form, name) => self.name(line, Kind::of(*form), name)?,
            Subject::Mailbox(text) => {
                let mailbox = Mailbox::parse(text.as_bytes());
                let name = mailbox.name(mailbox.place().unwrap_or_default().as_bytes());
                let too_long = || Fault::new("the mailbox is too long", format!("write at most {MAX_MAILBOX} characters"));
                self.name(line, Kind::Mailbox, &name.ok_or_else(too_long)?)?;
            }
        }
        self.contents.lines += 1;
        Ok(())
    }

    #[inline]
    fn take(&mut self, line: Line, network: IpNet) -> Result<(), Fault> {
        let length = network.prefix_len();
        match network {
            IpNet::V4(net) => self.entry(line, Kind::V4, net.network().to_bits(), length),
            IpNet::V6(net) => {
                if !room(&mut self.arrays.v6_starts, 1) {
                    return Err(ran_out());
                }
                let place = u32::try_from(self.arrays.v6_starts.len()).map_err(|_| full())?;
                self.entry(line, Kind::V6, place, length)?;
                self.arrays.v6_starts.push(net.network().to_bits());
                Ok(())
            }
        }
    }

    fn range(&mut self, line: Line, first: IpAddr, last: IpAddr) -> Result<(), Fault> {
        match (first, last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                Ipv4Subnets::new(first, last, 0).try_for_each(|network| self.take(line, network.into()))
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                Ipv6Subnets::new(first, last, 0).try_for_each(|network| self.take(line, network.into()))
            }
            _ => Err(Fault::new("the range begins in one address family and ends in the other", "write a range for each family")),
        }
    }

    fn name(&mut self, line: Line, kind: Kind, name: &str) -> Result<(), Fault> {
        let place = u32::try_from(self.arrays.names.len()).map_err(|_| full())?;
        let length = u8::try_from(name.len()).map_err(|_| full())?;
        if !room(&mut self.arrays.names, name.len()) {
            return Err(ran_out());
        }
        self.arrays.names.extend(name.bytes());
        self.entry(line, kind, place, length)
    }

    #[inline]
    fn entry(&mut self, line: Line, kind: Kind, subject: u32, length: u8) -> Result<(), Fault> {
        if self.arrays.entries.len() == self.granted {
            self.more()?;
        }
        let (file, Line { line, note, hole, ends }) = (self.file, line);
        let shape = Shape::new(kind, length, hole, ends);
        if self.arrays.entries.push(shape, subject, Origin { line, note, file }) { Ok(()) } else { Err(ran_out()) }
    }

    /// Grants some more entries.
    #[cold]
    fn more(&mut self) -> Result<(), Fault> {
        self.watch.check()?;
        let count = self.arrays.entries.len();
        let block = self.room.saturating_sub(count).min(BLOCK);
        if block == 0 {
            return Err(full());
        }
        if !self.arrays.entries.room(block) {
            return Err(ran_out());
        }
        self.granted = count + block;
        Ok(())
    }

    /// The number of what a line says.
    #[inline]
    fn note(&mut self, reason: &[u8], around: bool, reply: u16, expires: u32) -> Result<u32, Fault> {
        if reason.is_empty() && reply == 0 && expires == 0 {
            return Ok(0);
        }
        self.said(reason, around, reply, expires)
    }

    /// Keeps what a line says, unless the line before said the same.
    fn said(&mut self, reason: &[u8], around: bool, reply: u16, expires: u32) -> Result<u32, Fault> {
        // No more of it is kept.
        let reason = reason.get(..MAX_VALUE).unwrap_or(reason);
        // Reasons that are numbered are seen to differ by how they end.
        let repeats = self.last.reason.last() == reason.last()
            && self.last.reason == reason
            && self.last.around == around
            && !self.arrays.notes.is_empty();
        let mut note = Note { reply, expires, ..self.last.note };
        if !repeats {
            (note.reason_start, note.reason_length) = self.reason(reason, around)?;
            note.names_entry = around.into();
            self.last.reason.clear();
            self.last.reason.extend_from_slice(reason);
            self.last.around = around;
        }
        let notes = &mut self.arrays.notes;
        if note != self.last.note || notes.is_empty() {
            if !room(notes, 2) {
                return Err(ran_out());
            }
            if notes.is_empty() {
                notes.push(Note::default());
            }
            notes.push(note);
            self.last.note = note;
        }
        u32::try_from(notes.len() - 1).map_err(|_| full())
    }

    /// Keeps a reason, fit for a reply: as long as it is, and in its place at once.
    fn reason(&mut self, reason: &[u8], around: bool) -> Result<(u32, u8), Fault> {
        let reasons = &mut self.arrays.reasons;
        let start = reasons.len();
        if !room(reasons, reason.len()) {
            return Err(ran_out());
        }
        reasons.resize(start + reason.len(), 0);
        let (before, place) = reasons.split_at_mut(start);
        let mut text = text::Line::new(place);
        // The marks of the entry stay.
        for (number, part) in reason.split(|byte| around && *byte == ENTRY).enumerate() {
            text.push(if number > 0 { &[ENTRY] } else { &[] });
            text.push_harmless(part);
        }
        if before.last() == place.last() && before.ends_with(place) {
            reasons.truncate(start);
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

    fn network(&mut self, line: u32, column: u32, network: IpNet, reason: &[u8]) {
        if !self.wanted.is_address() {
            self.foreign += 1;
            return;
        }
        let note = self.note(reason, false, 0, 0);
        let taken = note.and_then(|note| self.take(Line { line, note, hole: false, ends: false }, network));
        match taken {
            Ok(()) => self.contents.lines += 1,
            Err(fault) => self.fault(line, column, fault),
        }
    }

    fn delete(&mut self, subject: Subject<'_>) {
        if let Subject::Network(network) = subject
            && room(&mut self.deleted, 1)
        {
            self.deleted.push((network, self.arrays.entries.len()));
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
    pub(crate) fn about(self) -> list::About {
        match self {
            Wanted::Addresses => list::About::Addresses,
            Wanted::Domains => list::About::Domains,
            Wanted::Senders | Wanted::Recipients => list::About::Mailboxes,
        }
    }
}

/// Marks what was taken back: the subjects, each with how many entries there were by then.
fn apply_deletions(contents: &mut Contents, deleted: Vec<(IpNet, usize)>) {
    let mut until: HashMap<IpNet, usize> = HashMap::new();
    for (network, count) in deleted {
        let last = until.entry(network).or_default();
        *last = count.max(*last);
    }
    if until.is_empty() {
        return;
    }
    let is_gone = |(at, entry): &(usize, Entry)| match contents.about(*entry) {
        Some(About::Network(network)) => until.get(&network).is_some_and(|count| at < count),
        _ => false,
    };
    let gone: Vec<Entry> = contents.entries.iter().enumerate().filter(is_gone).map(|(_, entry)| entry).collect();
    contents.entries.delete(&gone);
}

/// The field of an entry for a time: what lasts longer than the field does lasts for ever, what is over stays over.
fn expiry(at: Option<Seconds>) -> u32 {
    at.map_or(0, |at| u32::try_from(at).unwrap_or(0).max(u32::from(at == 0)))
}

fn full() -> Fault {
    Fault::limit(format!("the lists together have more than {} entries", crate::compile::MAX_ENTRIES), "leave out a list")
}
