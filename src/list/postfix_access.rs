//! Postfix access(5), the text that postmap(1) reads: addresses, domains and mailboxes, with actions.
//!
//! ```text
//! 192.0.2                 REJECT              first octets: 192.0.2.0/24
//! 192.0.2.1               OK
//! 2001:db8:1              550 5.7.1 Go away   first groups: 2001:db8:1::/48
//! example.org             REJECT              the name and all below it
//! .example.net            REJECT              all below the name
//! user@example.org        521 No such mail
//! user@                   REJECT              at any domain
//! ```
//!
//! The most specific key decides. That a domain covers what is below it is the default of Postfix
//! (`parent_domain_matches_subdomains` has `smtpd_access_maps`).

use super::octets::{groups, network4, network6, octets};
use super::postfix::{Outcome, action, each_rule, head_rules, is_telling, put, split_word};
use super::{Sink, Statement, Subject, parse_mailbox};
use crate::diagnostic::{Fault, quote};
use crate::domain::{self, Form};
use std::io::{self, BufRead};
use std::net::Ipv6Addr;

/// Reads a list.
pub(super) fn read(input: &mut dyn BufRead, sink: &mut dyn Sink) -> io::Result<Statement> {
    each_rule(input, |number, rule| {
        if let Err((column, fault)) = rule.map_err(|fault| (1, fault)).and_then(|rule| self::rule(number, rule, sink)) {
            sink.fault(number, column, fault);
        }
    })?;
    Ok(Statement::default())
}

fn rule(number: u32, rule: &[u8], sink: &mut dyn Sink) -> Result<(), (u32, Fault)> {
    let (word, rest) = split_word(rule);
    let column = if rest.is_empty() { 1 } else { u32::try_from(rule.len() - rest.len() + 1).unwrap_or(u32::MAX) };
    let outcome = action(rest).map_err(|fault| (column, fault))?;
    if word == b"<>" {
        if outcome != Outcome::Hole {
            let remedy = "leave it out: bounces have no sender, and must be taken (RFC 5321 section 4.5.5)";
            sink.warn(number, 1, Fault::new("<>, the empty sender, is left out", remedy));
        }
        return Ok(());
    }
    let subject = key(word).map_err(|fault| (1, fault))?;
    put(sink, number, 1, &outcome, std::iter::once(subject));
    Ok(())
}

pub(crate) fn key(word: &[u8]) -> Result<Subject<'_>, Fault> {
    let wrong = |remedy: &str| Err(Fault::new(format!("{} is not a key of an access table", quote(word)), remedy));
    let Ok(text) = std::str::from_utf8(word) else { return wrong("write it in ASCII") };
    if text.contains('/') && !text.contains('@') {
        return wrong("write octets, such as 192.0.2 for 192.0.2.0/24; other networks are for a table of format \"postfix-cidr\"");
    }
    if text.starts_with('[') {
        return wrong("write the address without brackets");
    }
    if text.contains('@') {
        if text.contains(':') {
            return wrong("leave out the tag, or take format \"sendmail-access\" if the table is one of Sendmail");
        }
        return parse_mailbox(text).map(Subject::Mailbox);
    }
    if text.contains(':') {
        return key6(text);
    }
    if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        if text.ends_with('.') {
            return wrong("leave out the dot at the end");
        }
        return octets(text).and_then(|(number, count)| network4(number, count * 8)).map(Subject::Network);
    }
    // Postfix does not know *.example.org: that is refused as no table means it.
    match domain::parse_entry(text)? {
        (Form::Below, _) => wrong("write .example.org for all names below: the table knows no star"),
        (Form::Exact, name) => Ok(Subject::Domain(Form::Both, name)),
        (Form::Both, name) => Ok(Subject::Domain(Form::Below, name)),
    }
}

/// Reads an IPv6 address or its first groups. Postfix compares texts, group by group: what it would never find, or not
/// always, is refused.
fn key6(text: &str) -> Result<Subject<'static>, Fault> {
    let wrong = |remedy: String| {
        Err(Fault::new(format!("{} does not cover what it seems to, as Postfix compares texts", quote(text.as_bytes())), remedy))
    };
    let network = format!("take format \"postfix-cidr\" and write the network with its length, such as {}/48", "2001:db8:1::");
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        if !text.eq_ignore_ascii_case(&address.to_string()) {
            return wrong(format!("write {address}"));
        }
        if text.ends_with("::") {
            return wrong(network);
        }
        return network6(address.to_bits(), 128).map(Subject::Network);
    }
    let (number, count) = groups(text.strip_suffix(':').unwrap_or(text))?;
    let parts: Vec<&str> = text.split(':').collect();
    let leading_zero = parts.iter().any(|part| part.len() > 1 && part.starts_with('0'));
    let zeros = parts.windows(2).any(|pair| pair == ["0", "0"]) || parts.last().is_some_and(|last| *last == "0" || last.is_empty());
    if leading_zero {
        return wrong("leave out the leading zeros of the groups".into());
    }
    if zeros {
        return wrong(network);
    }
    network6(number, count * 16).map(Subject::Network)
}

/// Whether a text looks like such a table: keys with actions, and not networks alone.
pub(super) fn looks(head: &[u8]) -> bool {
    let (mut telling, mut cidr) = (false, true);
    for rule in head_rules(head) {
        let (word, rest) = split_word(rule);
        let Ok(subject) = key(word) else { return false };
        cidr &= matches!(subject, Subject::Network(network) if network.prefix_len() == network.max_prefix_len());
        if action(rest).is_err() && !is_telling(rest) {
            return false;
        }
        telling |= is_telling(rest);
    }
    telling && !cidr
}
