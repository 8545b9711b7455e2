//! Policy and lists to a ruleset. Sees files only through [`Files`], so that tests and fuzzers run from memory.
//!
//! A list that cannot be read, or does not pass its guards, stays in force as it was read before, if the ruleset in
//! force has it; the others are loaded. A mistake in the policy itself, or in a list without such a version, makes the
//! load fail as a whole.

use crate::contents::{Collector, Contents, Wanted};
use crate::covering::{List, locate};
use crate::diagnostic::{Diagnostic, Fault};
use crate::gate::PreparedLists;
use crate::guards;
use crate::image::Restored;
use crate::list::plain::parse_line;
use crate::list::{self, Reading, Record, Seconds, Sink, Statement};
use crate::mode::Mode;
use crate::networks::{Chains, Cover, Covering, EntryId, GivenUp, Interval, Intervals, NetworkTable, V4Table, V6Table, overlay};
use crate::policy::{self, Conduct, Exempt, Item, ListName, NEVER_BLOCK, NameList, NeverBlock, PRIVATE, Place, Policy, Source};
use crate::resolve::{Resolver, Standing, number};
use crate::retry::Jitter;
use crate::rules::authentication::Authentication;
use crate::rules::names::Names;
use crate::rules::relay::Relay;
use crate::ruleset::Ruleset;
use crate::shown::span;
use crate::verdict::Decider;
use std::cell::Cell;
use std::io::{self, BufRead};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Most entries of all lists together.
pub(crate) const MAX_ENTRIES: usize = 1 << 28;

/// RFC 1122 section 3.2.1.3, RFC 4291 section 2.5.3.
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1"];
/// RFC 3927, RFC 4291 section 2.5.6.
const LINK_LOCAL: [&str; 2] = ["169.254.0.0/16", "fe80::/10"];
/// RFC 1918, RFC 4193.
const PRIVATE_USE: [&str; 4] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];

/// Where the files that a policy names come from.
pub trait Files {
    /// The name of a file as messages show it.
    fn display(&self, name: &str) -> String;

    /// Opens a file.
    ///
    /// # Errors
    /// If it cannot be read.
    fn open(&self, name: &str) -> io::Result<Box<dyn BufRead + '_>>;

    /// The files that a name stands for: itself, those of a directory, or those that match a pattern.
    ///
    /// # Errors
    /// If the directory cannot be read or the pattern is none.
    fn expand(&self, name: &str) -> io::Result<Vec<String>> {
        Ok(vec![name.to_owned()])
    }

    /// What the host has given for a list, in place of the files or entries that the policy names.
    fn given(&self, _list: &str) -> Option<Box<dyn BufRead + '_>> {
        None
    }

    /// When a file was last changed, if that is known.
    fn modified(&self, _name: &str) -> Option<SystemTime> {
        None
    }

    /// Called as a list is read, some thousand lines at a time: how many of its lines there were so far. Nothing waits for
    /// what it does; it is for somebody who does.
    fn progress(&self, _list: &str, _lines: u64) {}

    /// The time of the load, from which time spans count.
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// A time as seconds since 1970; times before that are 0.
pub(crate) fn seconds(time: SystemTime) -> Seconds {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Compiles a policy. The ruleset is of use only if none of the messages is an error. With an image nothing is read from files.
pub(crate) fn compile(
    policy: Policy,
    file: &Arc<str>,
    files: &dyn Files,
    previous: Option<&Ruleset>,
    image: Option<&mut Restored>,
) -> (Ruleset, Vec<Diagnostic>) {
    let now = seconds(files.now());
    let mut compiler = Compiler { files, policy_file: file, previous, now, room: MAX_ENTRIES, image, diagnostics: Vec::new() };
    let Policy {
        hostname,
        mode,
        never_block,
        bans,
        lists,
        domains,
        senders,
        recipients,
        relay,
        authentication,
        limits,
        escalation,
        overload,
        maintenance,
    } = policy;
    let mut address_lists = compiler.never_block(&never_block);
    let protected = address_lists.len();
    let (allow, block): (Vec<_>, Vec<_>) = lists.into_iter().partition(|list| list.allow);
    for list in allow.into_iter().chain(block) {
        let role = if list.allow { Decider::Allow } else { Decider::Block };
        let contents =
            compiler.contents(Wanted::Addresses, &list.name, |compiler| compiler.read(&list.name, &list.source, Wanted::Addresses));
        address_lists.push(List::new(list.name, role, list.conduct, contents));
    }
    let (networks, address_chains) = compiler.networks(&mut address_lists, protected);
    let mut domains = compiler.names(domains, Wanted::Domains, Decider::Domain);
    let mut senders = compiler.names(senders, Wanted::Senders, Decider::Sender);
    let mut recipients = compiler.names(recipients, Wanted::Recipients, Decider::Recipient);
    let relay = compiler.relay(relay);

    for list in address_lists.iter_mut().chain([&mut domains, &mut senders, &mut recipients].into_iter().flatten()) {
        list.settle(&hostname);
        if let Some(previous) = previous {
            list.continue_counting(previous);
        }
    }
    let Compiler { diagnostics, mut image, .. } = compiler;
    let (domains, full_domains) = Names::of_domains(domains, image.as_deref_mut());
    let (senders, full_senders) = Names::of_mailboxes(senders, image.as_deref_mut());
    // A list may say who gets no mail from outside, who has opted out of other lists, or both.
    let opt_outs = recipients.iter().filter(|list| list.opt_out != Exempt::default()).map(|list| List {
        opt_out: list.opt_out,
        ..List::new(list.name, Decider::Recipient, Conduct::default(), Arc::clone(&list.contents))
    });
    let (opt_outs, full_opt_outs) = Names::of_mailboxes(opt_outs.collect(), image.as_deref_mut());
    let recipients = recipients.into_iter().filter(|list| list.conduct.reply.is_some()).collect();
    let (recipients, full_recipients) = Names::of_mailboxes(recipients, image);
    let mut diagnostics = diagnostics;
    let faults = [full_domains, full_senders, full_opt_outs, full_recipients];
    diagnostics.extend(faults.into_iter().flatten().map(|fault| fault.at(file, 1, 1)));
    let ruleset = Ruleset {
        generation: 0,
        hostname,
        mode,
        mode_replies: Mode::ALL.map(|mode| mode.reply_with(&maintenance)),
        timed: maintenance.is_timed(),
        maintenance,
        bans,
        prepared: PreparedLists::default(),
        prepared_places: PreparedLists::default(),
        lists: address_lists,
        networks,
        address_chains,
        domains,
        senders,
        recipients,
        opt_outs,
        relay,
        authentication: Authentication::new(authentication, previous),
        limits,
        escalation,
        overload,
        jitter: Jitter::default(),
    };
    (ruleset, diagnostics)
}

/// Lays the lists over each other. What the networks of each come to is given up as the table is made, that of IPv6, which is
/// large, piece by piece.
fn network_table(lists: &[List], intervals: Vec<Intervals>, standings: Vec<Standing>) -> (NetworkTable, Chains) {
    let bases: Vec<EntryId> = standings.iter().map(|standing| standing.base).collect();
    let alone = |list: usize, entry: EntryId| bases.get(list).map_or(Cover::NONE, |base| Cover::entry(base + entry));
    let mut resolver = Resolver::new(standings);
    let (mut v4, mut v6, mut chains) = (Vec::new(), Vec::new(), Vec::new());
    for list in intervals {
        v4.push(list.v4);
        v6.push(GivenUp::of(list.v6));
        chains.push(list.chains);
    }
    let chains: Vec<&Chains> = chains.iter().collect();
    let mut winner = |covering: &Covering| resolver.addresses(covering, &chains);
    let mut v6 = Some(v6);
    let v6_table = V6Table::new(lists.iter().map(|list| list.contents.v6_count()).sum(), |table| {
        // Asked once more, it makes them again: that is for policies of millions of entries.
        let again = || lists.iter().map(|list| GivenUp::of(list.contents.flatten().v6)).collect();
        overlay(v6.take().unwrap_or_else(again), alone, &mut winner, |interval| table.push(interval));
    });
    let v4_table = V4Table::new(|table| {
        let slices: Vec<&[Interval<u32>]> = v4.iter().map(Vec::as_slice).collect();
        overlay(slices, alone, &mut winner, |interval| table.push(interval));
    });
    drop(v4);
    let mut table = NetworkTable::new(v4_table, v6_table);
    table.tell_lengths(|entry| locate(lists, entry).and_then(|(_, _, entry)| entry.length_of_lasting_v4()));
    (table, resolver.into_chains())
}

struct Compiler<'a> {
    files: &'a dyn Files,
    policy_file: &'a Arc<str>,
    /// The ruleset in force.
    previous: Option<&'a Ruleset>,
    now: Seconds,
    /// How many entries there may still be.
    room: usize,
    /// Where the lists come from, if not from their files.
    image: Option<&'a mut Restored>,
    diagnostics: Vec<Diagnostic>,
}

impl Compiler<'_> {
    /// What is read of a list; of an image what it has.
    fn contents(&mut self, wanted: Wanted, name: &str, read: impl FnOnce(&mut Self) -> Arc<Contents>) -> Arc<Contents> {
        match &mut self.image {
            Some(image) => image.contents(wanted, name),
            None => read(self),
        }
    }

    /// The never-block set, and the addresses that no list means: they belong to somebody else everywhere.
    fn never_block(&mut self, never_block: &NeverBlock) -> Vec<List> {
        let NeverBlock { loopback, link_local, private, networks } = never_block;
        let some = |wanted: &bool, networks: &'static [&'static str]| if *wanted { networks } else { &[] };
        let private = [some(link_local, &LINK_LOCAL), some(private, &PRIVATE_USE)].concat();
        let mut list = |name, role, items, builtin| {
            let contents = self.contents(Wanted::Addresses, name, |compiler| Arc::new(compiler.inline(items, builtin, Wanted::Addresses)));
            List::new(ListName::from(name).unwrap_or_default(), role, Conduct::default(), contents)
        };
        let never_block = list(NEVER_BLOCK, Decider::NeverBlock, &networks[..], some(loopback, &LOOPBACK));
        vec![never_block, list(PRIVATE, Decider::Allow, &[], &private)]
    }

    /// The table of networks, and its chains; of an image what it has.
    fn networks(&mut self, lists: &mut [List], protected: usize) -> (NetworkTable, Chains) {
        let standings = number(lists);
        if let Some(image) = &mut self.image {
            // Without them the image is incomplete, and is not loaded.
            return image.networks().unwrap_or_default();
        }
        let intervals: Vec<Intervals> = lists.iter_mut().map(|list| Contents::take_intervals(&mut list.contents)).collect();
        self.name_covered(lists, &intervals, protected);
        network_table(lists, intervals, standings)
    }

    /// The lists of one kind of names.
    fn names(&mut self, lists: Vec<NameList>, wanted: Wanted, role: Decider) -> Vec<List> {
        let mut read = |list: NameList| {
            let contents = self.contents(wanted, &list.name, |compiler| compiler.read(&list.name, &list.source, wanted));
            List { opt_out: list.opt_out, ..List::new(list.name, role, list.conduct, contents) }
        };
        lists.into_iter().map(&mut read).collect()
    }

    /// Always made of the policy: a damaged image must not have mail refused because a name is not found.
    fn relay(&mut self, relay: policy::Relay) -> Relay {
        let policy::Relay { local, relay, trusted, routing, reply } = relay;
        // A table that names trusted networks alone leaves relaying to the mail server.
        let reply = reply.filter(|_| local.is_some() || relay.is_some());
        let mut list = |name, items: Option<Vec<Item>>| {
            let items = items.unwrap_or_default();
            let contents = Arc::new(self.inline(&items, &[], Wanted::Domains));
            List::new(ListName::from(name).unwrap_or_default(), Decider::Relay, Conduct::default(), contents)
        };
        let lists = vec![list("local", local), list("relay", relay)];
        let trusted = Arc::new(self.inline(&trusted, &[], Wanted::Addresses));
        // Checks ask it, and allocate nothing.
        trusted.intervals();
        // So many names as would fill the table do not fit into a policy file.
        let (domains, _) = Names::of_domains(lists, None);
        Relay { reply, domains, trusted, routing }
    }

    /// Reads a list, or takes it as it is in force.
    fn read(&mut self, name: &ListName, source: &Source, wanted: Wanted) -> Arc<Contents> {
        let given = self.files.given(name).is_some();
        let contents = match &source.place {
            Place::Inline(items) if !given => Arc::new(self.inline(items, &[], wanted)),
            Place::Inline(patterns) | Place::Files(patterns) => {
                let before = self.diagnostics.len();
                let previous = self.previous.and_then(|ruleset| ruleset.list(name)).map(|list| &list.contents);
                let contents = self.read_files(name, source, patterns, given, wanted, previous.map(|contents| &**contents));
                let failed = self.diagnostics.iter().skip(before).any(Diagnostic::is_error);
                match previous.filter(|_| failed) {
                    Some(previous) if previous.files == contents.files || contents.files.is_empty() => {
                        self.keep(name, before, patterns);
                        Arc::clone(previous)
                    }
                    _ => Arc::new(contents),
                }
            }
        };
        self.room = self.room.saturating_sub(contents.entries.len());
        contents
    }

    /// Turns what is wrong with a list into warnings: it stays in force as it was.
    fn keep(&mut self, name: &ListName, before: usize, patterns: &[Item]) {
        for diagnostic in self.diagnostics.iter_mut().skip(before) {
            *diagnostic = diagnostic.clone().warning();
        }
        if let Some(item) = patterns.first() {
            let fault = Fault::new(format!("the list {name} is not loaded and stays in force as it was"), "mend it and load again");
            self.diagnostics.push(fault.at(self.policy_file, item.line, item.column).warning());
        }
    }

    /// Entries that stand in the policy, and others that are built in.
    fn inline(&mut self, items: &[Item], builtin: &[&str], wanted: Wanted) -> Contents {
        let mut collector = Collector::new(wanted, self.now, self.room, &mut self.diagnostics);
        collector.begin_file(Arc::clone(self.policy_file));
        let builtin = builtin.iter().map(|text| (*text, 0, 0));
        let items = items.iter().map(|item| (item.text.as_str(), item.line, item.column));
        for (text, number, place) in builtin.chain(items) {
            // The opening quotation mark comes before the entry.
            let column = |column: u32| place + column;
            match parse_line(text.as_bytes()) {
                Ok(Some(line)) => match line.record(number, wanted.about()) {
                    Ok(record) => collector.record(Record { column: column(line.column), ..record }),
                    Err(fault) => collector.fault(number, column(line.column), fault),
                },
                Ok(None) => collector.fault(number, place, Fault::new("the entry is empty", "leave it out")),
                Err(fault) => collector.fault(number, place, fault),
            }
        }
        collector.finish(Statement::default(), None)
    }

    fn read_files(
        &mut self,
        list: &ListName,
        source: &Source,
        patterns: &[Item],
        given: bool,
        wanted: Wanted,
        previous: Option<&Contents>,
    ) -> Contents {
        let policy_item = Item { text: String::new(), line: 1, column: 1 };
        let names: Vec<(&Item, String)> = if given {
            vec![(patterns.first().unwrap_or(&policy_item), String::new())]
        } else {
            patterns.iter().flat_map(|item| self.expand(item)).collect()
        };
        let modified = |name: &String| if given { None } else { self.files.modified(name) };
        let mut made = names.iter().filter_map(|(_, name)| modified(name)).max().map(seconds);
        let reading = Reading { about: wanted.about(), now: self.now, threshold: source.threshold };
        let mut collector = Collector::new(wanted, self.now, self.room, &mut self.diagnostics);
        let (mut whole, mut unread) = (Statement::default(), Vec::new());
        // Lines of the files before this one, and of this one.
        let (files_before, lines) = (Cell::new(0), Cell::new(0));
        let tell = |read| {
            lines.set(read);
            self.files.progress(list, files_before.get() + read);
        };
        for (item, name) in &names {
            // What the host gave is named like its list.
            let file: Arc<str> = if given { list.to_string() } else { self.files.display(name) }.into();
            files_before.set(files_before.get() + lines.take());
            collector.begin_file(Arc::clone(&file));
            let before = collector.lines();
            let opened = if given { self.files.given(list) } else { None }.map_or_else(|| self.files.open(name), Ok);
            match opened.and_then(|input| list::read(input, source.format, &reading, &mut collector, &tell)) {
                Ok(statement) => {
                    collector.end_file(before);
                    whole = whole.and(statement);
                }
                Err(error) => unread.push((*item, file, error)),
            }
        }
        made = whole.made.or(made);
        let deadline = source.ttl.map(|ttl| made.unwrap_or(self.now).saturating_add(ttl));
        let mut contents = collector.finish(whole, deadline);
        contents.made = made;
        for (item, file, error) in unread {
            let remedy = "check the path (it counts from the policy file) and who may read it";
            let fault = Fault::io(format!("cannot read {file}: {error}"), remedy);
            self.diagnostics.push(fault.at(self.policy_file, item.line, item.column));
        }
        if let Some(file) = contents.files.first() {
            for (line, fault) in guards::check(&contents, &source.guards, made, previous) {
                self.diagnostics.push(fault.at(file, line, 1));
            }
            if let Some(since) = whole.expires.and_then(|expires| self.now.checked_sub(expires)).filter(|since| *since > 0) {
                let cause = format!("by its own words the list was to be replaced {} ago", span(since));
                let fault = Fault::new(cause, "find out why it is no longer renewed; max_age sets a limit");
                self.diagnostics.push(fault.at(file, 1, 1).warning());
            }
        }
        contents
    }

    /// The files that an item names, in order.
    fn expand<'i>(&mut self, item: &'i Item) -> Vec<(&'i Item, String)> {
        let fault = match self.files.expand(&item.text) {
            Ok(names) if names.is_empty() => Fault::io(
                format!("no file matches {}", crate::diagnostic::quote(item.text.as_bytes())),
                "check the pattern; it counts from the policy file",
            ),
            Ok(names) => return names.into_iter().map(|name| (item, name)).collect(),
            Err(error) => {
                let remedy = "check the path (it counts from the policy file) and who may read it";
                Fault::io(format!("cannot read {}: {error}", self.files.display(&item.text)), remedy)
            }
        };
        self.diagnostics.push(fault.at(self.policy_file, item.line, item.column));
        Vec::new()
    }

    /// Says which block lists cover addresses that they cannot refuse.
    fn name_covered(&mut self, lists: &[List], intervals: &[Intervals], protected: usize) {
        let lists = lists.iter().zip(intervals);
        for (list, intervals) in lists.clone().skip(protected).filter(|(list, _)| list.role == Decider::Block) {
            for (winner, protected) in lists.clone().take(protected) {
                let Some((count, line, names)) = guards::covering(&list.contents, intervals, protected) else { continue };
                let (entries, verb) = if count == 1 { ("entry", "covers") } else { ("entries", "cover") };
                let cause = format!(
                    "{count} {entries} of the list {} {verb} {} addresses, which it cannot refuse: {names}",
                    list.name, winner.name
                );
                let fault = Fault::new(cause, "that is as it should be for a list that has them; [never_block] changes it");
                if let Some(file) = list.contents.files.first() {
                    self.diagnostics.push(fault.at(file, line, 1).warning());
                }
            }
        }
    }
}

impl Statement {
    /// What several files say together.
    fn and(self, other: Statement) -> Statement {
        let both = |one: Option<u64>, other: Option<u64>| one.zip(other).map(|(one, other)| one.min(other)).or(one).or(other);
        Statement {
            // Of several files only a sum would do, and one that does not say makes it unknown.
            entries: match (self == Statement::default(), self.entries, other.entries) {
                (true, _, stated) => stated,
                (false, Some(one), Some(other)) => Some(one + other),
                _ => None,
            },
            made: both(self.made, other.made),
            expires: both(self.expires, other.expires),
            complete: if self.complete == Some(false) { self.complete } else { other.complete.or(self.complete) },
            widest_v4: self.widest_v4.max(other.widest_v4),
            ordered: self.ordered || other.ordered,
        }
    }
}
