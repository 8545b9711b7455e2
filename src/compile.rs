//! Policy and lists to a ruleset. Sees files only through [`Files`], so that tests and fuzzers run from memory.

use crate::diagnostic::{Diagnostic, Fault};
use crate::domain::{self, DomainTable};
use crate::list::{Line, each_line, parse_line};
use crate::networks::{EntryId, Interval, Network, NetworkTable, flatten, overlay};
use crate::policy::{Item, ListName, Policy, Source};
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

impl Compiler<'_> {
    fn address_list(&mut self, name: ListName, role: Decider, reply: Option<Reply>, source: &Source, loopback: bool) {
        let list = u16::try_from(self.tables.lists.len()).unwrap_or(u16::MAX);
        let mut networks = Networks::default();
        let builtin = if loopback { LOOPBACK.as_slice() } else { &[] };
        for network in builtin.iter().flat_map(|text| parse_network(text)) {
            networks.push(network, self.tables.add_network(network, list, 0, Reason::default()));
        }
        let file = self.entries(source, |tables, line, number| {
            let network = parse_network(line.entry)?;
            let entry = if line.hole {
                0
            } else {
                tables.check_room()?;
                let reason = tables.add_reason(line.reason)?;
                tables.add_network(network, list, number, reason)
            };
            networks.push(network, entry);
            Ok(())
        });
        self.tables.v4.push(flatten(networks.v4));
        self.tables.v6.push(flatten(networks.v6));
        self.tables.lists.push(ListInfo { name, file, role, reply });
    }

    fn domain_list(&mut self, name: ListName, reply: Option<Reply>, source: &Source) {
        let list = u16::try_from(self.tables.domain_lists.len()).unwrap_or(u16::MAX);
        let file = self.entries(source, |tables, line, number| {
            if line.hole {
                return Err(Fault::new("a domain list has no holes", "leave out the \"!\" entry"));
            }
            let (form, name) = domain::parse_entry(line.entry)?;
            tables.check_room()?;
            let reason = tables.add_reason(line.reason)?;
            let rule = EntryId::try_from(tables.domain_entries.len() + 1).unwrap_or(EntryId::MAX);
            let name = tables.domains.add(form, &name, rule)?;
            tables.domain_entries.push(DomainEntry { line: number, list, form, name, reason });
            Ok(())
        });
        self.tables.domain_lists.push(ListInfo { name, file, role: Decider::Domain, reply });
    }

    /// Hands over the entries of a source one by one with the numbers of their lines, and reports what is wrong
    /// with them. Returns the name of the file that they stand in.
    fn entries(&mut self, source: &Source, mut add: impl FnMut(&mut Tables, Line<'_>, u32) -> Result<(), Fault>) -> Arc<str> {
        match source {
            Source::Inline(items) => {
                for item in items {
                    match parse_line(item.text.as_bytes()) {
                        Ok(Some(line)) => {
                            if let Err(fault) = add(&mut self.tables, line, item.line) {
                                // The opening quotation mark comes before the entry.
                                self.diagnostics.push(fault.at(self.policy_file, item.line, item.column + line.column));
                            }
                        }
                        Ok(None) => {
                            let fault = Fault::new("the entry is empty", "leave it out");
                            self.diagnostics.push(fault.at(self.policy_file, item.line, item.column));
                        }
                        Err(fault) => self.diagnostics.push(fault.at(self.policy_file, item.line, item.column)),
                    }
                }
                Arc::clone(self.policy_file)
            }
            Source::File(item) => {
                let file: Arc<str> = self.files.display(&item.text).into();
                if let Err(error) = self.entries_of_file(item, &file, &mut add) {
                    let fault = Fault::io(
                        format!("cannot read {file}: {error}"),
                        "check the path (it counts from the policy file) and who may read it",
                    );
                    self.diagnostics.push(fault.at(self.policy_file, item.line, item.column));
                }
                file
            }
        }
    }

    fn entries_of_file(
        &mut self,
        item: &Item,
        file: &Arc<str>,
        add: &mut dyn FnMut(&mut Tables, Line<'_>, u32) -> Result<(), Fault>,
    ) -> io::Result<()> {
        let mut input = self.files.open(&item.text)?;
        let (mut entries, mut wrong) = (0_usize, 0_usize);
        let (tables, diagnostics) = (&mut self.tables, &mut self.diagnostics);
        let mut report = |fault: Fault, line, column| {
            wrong += 1;
            if wrong <= MAX_SHOWN {
                diagnostics.push(fault.at(file, line, column));
            }
        };
        each_line(&mut *input, |number, text| {
            match text.and_then(parse_line) {
                Ok(None) => {}
                Ok(Some(line)) => match add(tables, line, number) {
                    Ok(()) => entries += 1,
                    Err(fault) => report(fault, number, line.column),
                },
                Err(fault) => report(fault, number, 1),
            };
        })?;
        if wrong > MAX_SHOWN {
            let fault =
                Fault::new(format!("{} more mistakes in this file are not shown", wrong - MAX_SHOWN), "mend those above and load again");
            self.diagnostics.push(fault.at(file, 1, 1));
        } else if entries == 0 && wrong == 0 {
            let fault = Fault::new("the list has no entry", "check that the file is complete");
            self.diagnostics.push(fault.at(file, 1, 1).warning());
        }
        Ok(())
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
