//! Policy and lists to a ruleset. Sees files only through [`Files`], so that tests and fuzzers run from memory.

use crate::diagnostic::{Diagnostic, Fault};
use crate::domain::DomainTable;
use crate::list::plain::parse_line;
use crate::list::{About, Action, Format, Reading, Record, Sink, Subject};
use crate::networks::{EntryId, Interval, Network, NetworkTable, flatten, overlay};
use crate::policy::{ListName, Policy, Source};
use crate::prefix::parse_network;
use crate::reply::{Reply, clean};
use crate::ruleset::{DomainEntry, ListInfo, NetworkEntry, Reason, Ruleset};
use crate::verdict::Decider;
use ipnet::IpNet;
use std::io::{self, BufRead};
use std::sync::Arc;

/// Most entries of all lists together.
pub(crate) const MAX_ENTRIES: usize = 1 << 28;
/// All reasons together, in bytes.
const MAX_REASONS: usize = u32::MAX as usize;
/// Most mistakes that are shown of one list; the rest are counted.
const MAX_SHOWN: usize = 20;

/// Name of the never-block set in verdicts.
const NEVER_BLOCK: &str = "never-block";
/// Addresses that no list can refuse unless the policy says so (RFC 1122 section 3.2.1.3, RFC 4291 section 2.5.3).
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1"];

/// Where the files that a policy names come from.
pub trait Files {
    /// The name of a file as messages show it.
    fn display(&self, name: &str) -> String;
    /// Opens a file.
    fn open(&self, name: &str) -> io::Result<Box<dyn BufRead + '_>>;
}

/// Compiles a policy. The ruleset is of use only if none of the messages is an error.
pub(crate) fn compile(policy: Policy, file: &Arc<str>, files: &dyn Files) -> (Ruleset, Vec<Diagnostic>) {
    let mut compiler = Compiler { files, policy_file: file, tables: Tables::default(), diagnostics: Vec::new() };
    let (allow, block): (Vec<_>, Vec<_>) = policy.lists.into_iter().partition(|list| list.reply.is_none());

    let never_block = ListName::from(NEVER_BLOCK).unwrap_or_default();
    compiler.address_list(never_block, Decider::NeverBlock, None, &Source::Inline(policy.never_block), policy.loopback);
    for list in allow {
        compiler.address_list(list.name, Decider::Allow, None, &list.source, false);
    }
    for list in block {
        compiler.address_list(list.name, Decider::Block, list.reply, &list.source, false);
    }
    for list in policy.domains {
        compiler.domain_list(list.name, list.reply, &list.source);
    }

    let Compiler { tables, diagnostics, .. } = compiler;
    let Tables { lists, entries, v4, v6, domain_lists, domain_entries, mut domains, reasons } = tables;
    domains.settle(|rule| domain_entries.get(rule as usize - 1).map_or(u16::MAX, |entry| entry.list));
    let ruleset = Ruleset {
        generation: 0,
        hostname: policy.hostname,
        mode: policy.mode,
        lists,
        entries,
        networks: NetworkTable::new(&overlay(&v4), &overlay(&v6)),
        domain_lists,
        domain_entries,
        domains,
        reasons,
    };
    (ruleset, diagnostics)
}

struct Compiler<'a> {
    files: &'a dyn Files,
    policy_file: &'a Arc<str>,
    tables: Tables,
    diagnostics: Vec<Diagnostic>,
}

/// The ruleset in the making.
#[derive(Default)]
struct Tables {
    lists: Vec<ListInfo>,
    entries: Vec<NetworkEntry>,
    /// The intervals of each list.
    v4: Vec<Vec<Interval<u32>>>,
    v6: Vec<Vec<Interval<u128>>>,
    domain_lists: Vec<ListInfo>,
    domain_entries: Vec<DomainEntry>,
    domains: DomainTable,
    reasons: String,
}

/// The networks of the list that is being read.
#[derive(Default)]
struct Networks {
    v4: Vec<Network<u32>>,
    v6: Vec<Network<u128>>,
}

impl Networks {
    fn push(&mut self, network: IpNet, entry: EntryId) {
        match network {
            IpNet::V4(net) => self.v4.push(Network { start: net.network().to_bits(), prefix_len: net.prefix_len(), entry }),
            IpNet::V6(net) => self.v6.push(Network { start: net.network().to_bits(), prefix_len: net.prefix_len(), entry }),
        }
    }
}

/// Takes the entries of an address list.
struct AddressSink<'a> {
    tables: &'a mut Tables,
    networks: Networks,
    list: u16,
    log: Log<'a>,
}

/// Takes the entries of a domain list.
struct DomainSink<'a> {
    tables: &'a mut Tables,
    list: u16,
    log: Log<'a>,
}

/// The messages about one list.
struct Log<'a> {
    file: Arc<str>,
    diagnostics: &'a mut Vec<Diagnostic>,
    entries: usize,
    wrong: usize,
}

impl Log<'_> {
    fn fault(&mut self, line: u32, column: u32, fault: Fault) {
        self.wrong += 1;
        if self.wrong <= MAX_SHOWN {
            self.diagnostics.push(fault.at(&self.file, line, column));
        }
    }

    fn take(&mut self, line: u32, column: u32, outcome: Result<(), Fault>) {
        match outcome {
            Ok(()) => self.entries += 1,
            Err(fault) => self.fault(line, column, fault),
        }
    }

    /// What is to be said at the end of a file.
    fn finish(self) {
        if self.wrong > MAX_SHOWN {
            let fault = Fault::new(
                format!("{} more mistakes in this file are not shown", self.wrong - MAX_SHOWN),
                "mend those above and load again",
            );
            self.diagnostics.push(fault.at(&self.file, 1, 1));
        } else if self.entries == 0 && self.wrong == 0 {
            let fault = Fault::new("the list has no entry", "check that the file is complete");
            self.diagnostics.push(fault.at(&self.file, 1, 1).warning());
        }
    }
}
impl Sink for AddressSink<'_> {
    fn record(&mut self, record: Record<'_>) {
        let outcome = self.add(&record);
        self.log.take(record.line, record.column, outcome);
    }

    fn delete(&mut self, _: Subject<'_>) {}

    fn fault(&mut self, line: u32, column: u32, fault: Fault) {
        self.log.fault(line, column, fault);
    }

    fn warn(&mut self, line: u32, column: u32, fault: Fault) {
        self.log.diagnostics.push(fault.at(&self.log.file, line, column).warning());
    }
}

impl AddressSink<'_> {
    fn add(&mut self, record: &Record<'_>) -> Result<(), Fault> {
        let Subject::Network(network) = record.subject else { return Ok(()) };
        let entry = if record.action == Action::Hole {
            0
        } else {
            self.tables.check_room()?;
            let reason = self.tables.add_reason(record.reason)?;
            self.tables.add_network(network, self.list, record.line, reason)
        };
        self.networks.push(network, entry);
        Ok(())
    }
}

impl Sink for DomainSink<'_> {
    fn record(&mut self, record: Record<'_>) {
        let outcome = self.add(&record);
        self.log.take(record.line, record.column, outcome);
    }

    fn delete(&mut self, _: Subject<'_>) {}

    fn fault(&mut self, line: u32, column: u32, fault: Fault) {
        self.log.fault(line, column, fault);
    }

    fn warn(&mut self, line: u32, column: u32, fault: Fault) {
        self.log.diagnostics.push(fault.at(&self.log.file, line, column).warning());
    }
}

impl DomainSink<'_> {
    fn add(&mut self, record: &Record<'_>) -> Result<(), Fault> {
        let Subject::Domain(form, name) = record.subject else { return Ok(()) };
        if record.action == Action::Hole {
            return Err(Fault::new("a domain list has no holes", "leave out the \"!\" entry"));
        }
        self.tables.check_room()?;
        let reason = self.tables.add_reason(record.reason)?;
        let rule = EntryId::try_from(self.tables.domain_entries.len() + 1).unwrap_or(EntryId::MAX);
        let name = self.tables.domains.add(form, &name, rule)?;
        self.tables.domain_entries.push(DomainEntry { line: record.line, list: self.list, form, name, reason });
        Ok(())
    }
}

impl Compiler<'_> {
    fn address_list(&mut self, name: ListName, role: Decider, reply: Option<Reply>, source: &Source, loopback: bool) {
        let list = u16::try_from(self.tables.lists.len()).unwrap_or(u16::MAX);
        let file = self.file_of(source);
        let mut networks = Networks::default();
        let builtin = if loopback { LOOPBACK.as_slice() } else { &[] };
        for network in builtin.iter().flat_map(|text| parse_network(text)) {
            networks.push(network, self.tables.add_network(network, list, 0, Reason::default()));
        }
        let log = Log { file: Arc::clone(&file), diagnostics: &mut self.diagnostics, entries: 0, wrong: 0 };
        let mut sink = AddressSink { tables: &mut self.tables, networks, list, log };
        let read = feed(self.files, source, About::Addresses, &mut sink);
        let AddressSink { networks, log, .. } = sink;
        log_finish(source, log);
        self.finish(source, read, &file);
        self.tables.v4.push(flatten(networks.v4));
        self.tables.v6.push(flatten(networks.v6));
        self.tables.lists.push(ListInfo { name, file, role, reply });
    }

    fn domain_list(&mut self, name: ListName, reply: Option<Reply>, source: &Source) {
        let list = u16::try_from(self.tables.domain_lists.len()).unwrap_or(u16::MAX);
        let file = self.file_of(source);
        let log = Log { file: Arc::clone(&file), diagnostics: &mut self.diagnostics, entries: 0, wrong: 0 };
        let mut sink = DomainSink { tables: &mut self.tables, list, log };
        let read = feed(self.files, source, About::Domains, &mut sink);
        let DomainSink { log, .. } = sink;
        log_finish(source, log);
        self.finish(source, read, &file);
        self.tables.domain_lists.push(ListInfo { name, file, role: Decider::Domain, reply });
    }

    /// The file that the entries of a source stand in.
    fn file_of(&self, source: &Source) -> Arc<str> {
        match source {
            Source::Inline(_) => Arc::clone(self.policy_file),
            Source::File(item) => self.files.display(&item.text).into(),
        }
    }

    fn finish(&mut self, source: &Source, read: io::Result<()>, file: &Arc<str>) {
        if let (Source::File(item), Err(error)) = (source, read) {
            let remedy = "check the path (it counts from the policy file) and who may read it";
            let fault = Fault::io(format!("cannot read {file}: {error}"), remedy);
            self.diagnostics.push(fault.at(self.policy_file, item.line, item.column));
        }
    }
}

fn log_finish(source: &Source, log: Log<'_>) {
    if matches!(source, Source::File(_)) {
        log.finish();
    }
}

/// Hands over the entries of a source.
fn feed(files: &dyn Files, source: &Source, about: About, sink: &mut dyn Sink) -> io::Result<()> {
    match source {
        Source::Inline(items) => {
            for item in items {
                // The opening quotation mark comes before the entry.
                let column = |column: u32| item.column + column;
                match parse_line(item.text.as_bytes()) {
                    Ok(Some(line)) => match line.record(item.line, about) {
                        Ok(record) => sink.record(Record { column: column(line.column), ..record }),
                        Err(fault) => sink.fault(item.line, column(line.column), fault),
                    },
                    Ok(None) => sink.fault(item.line, item.column, Fault::new("the entry is empty", "leave it out")),
                    Err(fault) => sink.fault(item.line, item.column, fault),
                }
            }
            Ok(())
        }
        Source::File(item) => {
            let mut input = files.open(&item.text)?;
            let reading = Reading { about, now: 0, threshold: None };
            Format::Plain.read(&mut *input, &reading, sink).map(|_| ())
        }
    }
}

impl Tables {
    fn check_room(&self) -> Result<(), Fault> {
        if self.entries.len() + self.domain_entries.len() < MAX_ENTRIES {
            return Ok(());
        }
        Err(Fault::limit(format!("the lists together have more than {MAX_ENTRIES} entries"), "leave out a list"))
    }

    fn add_network(&mut self, network: IpNet, list: u16, line: u32, reason: Reason) -> EntryId {
        self.entries.push(NetworkEntry { line, list, prefix_len: network.prefix_len(), reason });
        // check_room() keeps the number far below the limit of its type.
        EntryId::try_from(self.entries.len()).unwrap_or(0)
    }

    /// Keeps a reason, fit for a reply. Lists often repeat the one of the line before.
    fn add_reason(&mut self, reason: &[u8]) -> Result<Reason, Fault> {
        let reason = clean(reason);
        if !self.reasons.ends_with(reason.as_str()) {
            self.reasons.push_str(&reason);
        }
        let start = self.reasons.len() - reason.len();
        match (u32::try_from(start), u8::try_from(reason.len())) {
            (Ok(start), Ok(length)) => Ok(Reason { start, length }),
            _ => Err(Fault::limit(
                format!("the reasons of all lists together have more than {MAX_REASONS} bytes"),
                "leave out the reasons of a list",
            )),
        }
    }
}
