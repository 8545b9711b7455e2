//! Data sets of the DNSBL server rbldnsd(8): `ip4set`, `ip4trie`, `ip6tset`, `ip6trie`, `dnset`.
//!
//! ```text
//! $SOA 3600 ns.example.net. admin.example.net. 0 600 300 86400 300
//! $1 see https://example.net/bl
//! :127.0.0.2:$ sent spam, $1?$      the answer for the lines below; $ is the entry, $1 the variable
//! 192.0.2.1
//! 192.0.2.2 :3:Open relay           an answer of its own
//! !192.0.2.77                       a hole
//! ```
//!
//! A text becomes the reason of its entries; the address of the answer (127.0.0.2) is checked and not kept. rbldnsd
//! puts the address asked for in place of `$`. What an entry says does not depend on who asks, so that `$` becomes the
//! entry as text: for a host the same, for a network the network, for a range that of its networks which covers the
//! address. Where several entries cover an address the most specific decides, as in rbldnsd. Of an entry and a hole for
//! the same network the hole counts; so it does in an ip4set, while rbldnsd takes the first of the two in a trie and warns.

mod entry;
mod special;

use super::lines::each_line;
use super::{Action, ENTRY, Field, Record, Sink, Statement, Subject};
use crate::diagnostic::{Fault, quote};
use crate::prefix::parse_network;
use special::Special;
use std::borrow::Cow;
use std::io::{self, BufRead};
use std::net::IpAddr;

/// Longest text that rbldnsd puts into an answer, in bytes.
const MAX_TEXT: usize = 255;

/// The kinds of data sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// IPv4 networks and ranges.
    Ip4Set,
    /// IPv4 networks.
    Ip4Trie,
    /// IPv6 networks /64, holes /128, one text for all.
    Ip6Tset,
    /// IPv6 networks.
    Ip6Trie,
    /// Domain names.
    Dnset,
}

impl Kind {
    /// The kind of a `$DATASET`. Two are the same as others, made for speed.
    fn named(name: &[u8]) -> Option<Kind> {
        Some(match name {
            b"ip4set" | b"ip4tset" => Kind::Ip4Set,
            b"ip4trie" => Kind::Ip4Trie,
            b"ip6tset" => Kind::Ip6Tset,
            b"ip6trie" => Kind::Ip6Trie,
            b"dnset" | b"dnhash" => Kind::Dnset,
            _ => return None,
        })
    }

    /// Whether a text looks like a data set of this kind: it has a default answer or a special, and a first entry of
    /// the kind. The sets of one family cannot be told apart; those that take the most stand for them.
    pub(super) fn looks(self, head: &[u8]) -> bool {
        let mut marked = false;
        for line in head.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).take(200) {
            if let Ok(Some(special)) = Special::parse(line) {
                marked |= special.is_telling();
                continue;
            }
            match line {
                [] | [b'#' | b';', ..] => {}
                [b':', rest @ ..] if !rest.starts_with(b":") => match value(line, None) {
                    Ok(_) => marked = true,
                    Err(_) => return false,
                },
                _ => return marked && self.takes(line),
            }
        }
        false
    }

    fn takes(self, line: &[u8]) -> bool {
        let line = line.strip_prefix(b"!").unwrap_or(line).trim_ascii_start();
        match self {
            Kind::Ip4Set | Kind::Ip6Trie | Kind::Dnset => entry::parse(self, line).is_ok(),
            Kind::Ip4Trie | Kind::Ip6Tset => false,
        }
    }
}

/// Reads a list.
pub(super) fn read(kind: Kind, input: &mut dyn BufRead, sink: &mut dyn Sink) -> io::Result<Statement> {
    let mut reader =
        Reader { sink, kind: Some(kind), parts: 0, text: Text::default(), common: Text::default(), statement: Statement::default() };
    each_line(input, |number, line| match line {
        Ok(line) => reader.line(number, line),
        Err(fault) => reader.sink.fault(number, 1, fault),
    })?;
    Ok(reader.statement)
}

/// The texts in force.
#[derive(Clone, Debug, Default)]
struct Text {
    /// The default text.
    default: Option<Vec<u8>>,
    /// `$0` to `$9`, and `$=`, the text around all texts.
    variables: [Option<Vec<u8>>; special::BASE + 1],
}

struct Reader<'a> {
    sink: &'a mut dyn Sink,
    /// `None` in a part of a combined file that is of no use here.
    kind: Option<Kind>,
    /// Parts of a combined file, so far.
    parts: u32,
    text: Text,
    /// The variables that all parts of a combined file have.
    common: Text,
    statement: Statement,
}

impl Reader<'_> {
    fn line(&mut self, number: u32, line: &[u8]) {
        let start = line.iter().take_while(|b| b.is_ascii_whitespace()).count();
        let column = u32::try_from(start + 1).unwrap_or(u32::MAX);
        let text = line.trim_ascii();
        match Special::parse(text) {
            Ok(Some(special)) => self.special(number, column, special),
            Ok(None) => {
                if !matches!(text, [] | [b'#' | b';', ..])
                    && let Some(kind) = self.kind
                    && let Err(fault) = self.entry(number, column, kind, text)
                {
                    self.sink.fault(number, column, fault);
                }
            }
            Err(fault) => self.sink.fault(number, column, fault),
        }
    }

    fn special(&mut self, number: u32, column: u32, special: Special<'_>) {
        match special {
            Special::Ignored => {}
            Special::Variable(variable, text) => {
                if let Some(slot) = self.text.variables.get_mut(variable)
                    && slot.is_none()
                {
                    *slot = Some(text.to_vec());
                }
            }
            Special::Timestamp(made, expires) => {
                // Of several the oldest data count.
                let Statement { made: own, expires: end, .. } = &mut self.statement;
                *own = [*own, made].into_iter().flatten().min();
                *end = [*end, expires].into_iter().flatten().min();
            }
            Special::MaxRange4(length) => self.statement.widest_v4 = self.statement.widest_v4.max(Some(length)),
            Special::Dataset(name) => self.dataset(number, column, name),
        }
    }

    fn dataset(&mut self, number: u32, column: u32, name: &[u8]) {
        if self.parts == 0 {
            self.common = Text { default: None, ..self.text.clone() };
        }
        self.parts += 1;
        self.text = self.common.clone();
        self.kind = Kind::named(name);
        let fault = match self.kind {
            None => Fault::new(
                format!("the part of type {} is left out", quote(name)),
                "only ip4set, ip4tset, ip4trie, ip6tset, ip6trie, dnset and dnhash can be read",
            ),
            Some(_) if self.parts == 2 => Fault::new(
                "all parts of the combined file become one list, holes included",
                "split the file if its parts mean different things",
            ),
            Some(_) => return,
        };
        self.sink.warn(number, column, fault);
    }

    fn entry(&mut self, number: u32, column: u32, kind: Kind, line: &[u8]) -> Result<(), Fault> {
        let six = matches!(kind, Kind::Ip6Tset | Kind::Ip6Trie);
        if line.starts_with(b":") && !(six && line.starts_with(b"::")) {
            let default = value(line, None)?;
            // In an ip6tset one text is for all entries, and the first one counts.
            if kind != Kind::Ip6Tset || self.text.default.is_none() {
                self.text.default = default.map(<[u8]>::to_vec);
            }
            return Ok(());
        }
        let (hole, entry) = match line.strip_prefix(b"!") {
            Some(rest) => (true, rest.trim_ascii_start()),
            None => (false, line),
        };
        let (subject, rest) = entry::parse(kind, entry)?;
        let record = Record {
            line: number,
            column: column.saturating_add(u32::try_from(line.len() - entry.len()).unwrap_or(0)),
            subject,
            field: Field::Any,
            action: if hole { Action::Hole } else { Action::Cover },
            reason: b"",
            expires: None,
        };
        if kind == Kind::Ip6Tset && (subject_length(&record.subject) != Some(if hole { 128 } else { 64 })) {
            let (cause, remedy) = if hole {
                ("a hole of an ip6tset is one address", "write all of it, such as 2001:db8:1:2::5, or take format = \"rbldnsd-ip6trie\"")
            } else {
                ("an entry of an ip6tset is a /64", "write four groups, such as 2001:db8:1:2, or take format = \"rbldnsd-ip6trie\"")
            };
            return Err(Fault::new(cause, remedy));
        }
        if hole {
            // What stands after a hole is not looked at.
            each_hole(kind, record.subject, |subject| self.sink.record(Record { subject, ..record }));
            return Ok(());
        }
        let rest = rest.trim_ascii_start();
        let default = self.text.default.as_deref();
        let own = match rest {
            [] | [b'#' | b';', ..] => default,
            _ if kind == Kind::Ip6Tset => default,
            _ => value(rest, default)?,
        };
        match self.text.expand(own.unwrap_or(b"")) {
            Cow::Borrowed(reason) => self.sink.record(Record { reason, ..record }),
            Cow::Owned(reason) => self.sink.record_around(Record { reason: &reason, ..record }),
        }
        Ok(())
    }
}

/// Reads `:127.0.0.2:text`, `:2:text`, `:2` (then the default text stands) or `text`.
fn value<'a>(line: &'a [u8], default: Option<&'a [u8]>) -> Result<Option<&'a [u8]>, Fault> {
    let Some(rest) = line.strip_prefix(b":") else { return Ok(Some(line)) };
    let wrong = |remedy: &str| Err(Fault::new(format!("{} is not an answer", quote(line)), remedy));
    let length = rest.iter().take_while(|b| b.is_ascii_digit() || **b == b'.').count();
    let (address, rest) = rest.split_at(length);
    let address = std::str::from_utf8(address).unwrap_or("");
    let good = match address.parse::<u8>() {
        Ok(last) => last != 0,
        Err(_) => parse_network(address).is_ok(),
    };
    if !good {
        return wrong("write :127.0.0.2:text or :2:text");
    }
    match rest.trim_ascii_start() {
        [] => Ok(default),
        [b':', text @ ..] => Ok(Some(text.trim_ascii_start())),
        _ => wrong("write a colon between the address and the text, such as :127.0.0.2:text"),
    }
}

impl Text {
    /// Puts the variables into a text, and the mark of the entry. What is not set stays as it is.
    fn expand<'a>(&'a self, text: &'a [u8]) -> Cow<'a, [u8]> {
        let base = self.variables.get(special::BASE).and_then(|base| base.as_deref());
        let (template, inner) = match (text.strip_prefix(b"="), base) {
            (Some(text), _) => (text, text),
            (None, Some(base)) => (base, text),
            (None, None) => (text, text),
        };
        if !template.contains(&b'$') {
            return Cow::Borrowed(template);
        }
        let mut out = Vec::with_capacity(template.len());
        // The mark is no text.
        let add = |out: &mut Vec<u8>, text: &[u8]| out.extend(text.iter().map(|byte| if *byte == ENTRY { b'?' } else { *byte }));
        let mut rest = template;
        while let Some(at) = rest.iter().position(|b| *b == b'$').filter(|_| out.len() <= MAX_TEXT) {
            let (before, from) = rest.split_at(at);
            add(&mut out, before);
            let digit = |byte: &u8| self.variables.get(usize::from(byte.wrapping_sub(b'0'))).and_then(|variable| variable.as_deref());
            rest = match from {
                [_, b'$', rest @ ..] => {
                    out.push(b'$');
                    rest
                }
                [_, byte @ b'0'..=b'9', rest @ ..] => {
                    match digit(byte) {
                        Some(variable) => add(&mut out, variable),
                        None => out.extend_from_slice(&[b'$', *byte]),
                    }
                    rest
                }
                [_, b'=', rest @ ..] => {
                    match inner {
                        [] => out.push(ENTRY),
                        inner => add(&mut out, inner),
                    }
                    rest
                }
                [_, rest @ ..] => {
                    out.push(ENTRY);
                    rest
                }
                [] => break,
            };
        }
        add(&mut out, rest);
        out.truncate(MAX_TEXT);
        Cow::Owned(out)
    }
}

fn subject_length(subject: &Subject<'_>) -> Option<u8> {
    match subject {
        Subject::Network(network) if matches!(network.addr(), IpAddr::V6(_)) => Some(network.prefix_len()),
        // An IPv4-mapped host, which was an IPv6 address as written.
        Subject::Network(network) => Some(network.prefix_len() + 96),
        Subject::Range(..) | Subject::Domain(..) | Subject::Mailbox(_) => None,
    }
}

/// A hole, as rbldnsd sees it. An ip4set knows networks of whole octets alone: a hole of 192.0.2.0/25 is 128 holes of
/// one host each, and wins over an entry for one of these hosts.
fn each_hole<'a>(kind: Kind, subject: Subject<'a>, mut each: impl FnMut(Subject<'a>)) {
    match (kind, entry::range4(&subject)) {
        (Kind::Ip4Set, Some((first, last))) => entry::each_octet_network(first, last, |network| each(Subject::Network(network))),
        _ => each(subject),
    }
}
