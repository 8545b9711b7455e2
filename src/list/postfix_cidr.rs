//! Postfix cidr_table(5): networks in order, the first one that covers an address decides.
//!
//! ```text
//! # Rule order matters.
//! 192.0.2.1               OK
//! 192.0.2.0/24            REJECT
//! [2001:db8::1]/128       550 5.7.1 Go away,
//!     and do not come back
//! if 203.0.113.0/24
//! !203.0.113.64/26        REJECT      # all of the block above but this
//! endif
//! ```
//!
//! `!pattern` and `if !pattern` mean the other addresses of the same family. A rule inside blocks covers the addresses
//! that reach it, so that it may become several records, or none.

use super::postfix::{Outcome, action, each_rule, head_rules, is_telling, put, split_word};
use super::region::Region;
use super::{Sink, Statement};
use crate::diagnostic::{Fault, quote};
use crate::prefix::parse_network;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::io::{self, BufRead};

/// Deepest nesting of blocks: the parts of a region grow with it.
const MAX_DEPTH: usize = 64;

/// Reads a list.
pub(super) fn read(input: &mut dyn BufRead, sink: &mut dyn Sink) -> io::Result<Statement> {
    let mut blocks: Vec<Block> = Vec::new();
    each_rule(input, |number, rule| {
        if let Err((column, fault)) = rule.map_err(|fault| (1, fault)).and_then(|rule| self::rule(number, rule, &mut blocks, sink)) {
            sink.fault(number, column, fault);
        }
    })?;
    for block in blocks {
        sink.fault(block.line, 1, Fault::new("the block has no endif", "write endif after the last rule of the block"));
    }
    Ok(Statement { ordered: true, ..Statement::default() })
}

/// An open `if`.
struct Block {
    line: u32,
    /// The addresses that reach the rules inside; `None` if its pattern is wrong, so that they are not known.
    region: Option<Region>,
}

fn rule(number: u32, rule: &[u8], blocks: &mut Vec<Block>, sink: &mut dyn Sink) -> Result<(), (u32, Fault)> {
    let at_start = |fault| (1, fault);
    let (word, rest) = split_word(rule);
    if word.eq_ignore_ascii_case(b"endif") {
        if !rest.is_empty() {
            return Err((1, Fault::new(format!("{} stands after endif", quote(rest)), "write endif alone on its line")));
        }
        return match blocks.pop() {
            Some(_) => Ok(()),
            None => Err((1, Fault::new("endif without if", "leave it out, or write the if before it"))),
        };
    }
    let outer = blocks.last().map(|block| block.region.clone());
    if word.eq_ignore_ascii_case(b"if") {
        if blocks.len() >= MAX_DEPTH {
            blocks.push(Block { line: number, region: None });
            return Err((1, Fault::limit(format!("blocks nest deeper than {MAX_DEPTH}"), "nest them less")));
        }
        let column = column_of(rule, rest);
        let inside = pattern(rest).map_err(|fault| (column, fault)).and_then(|(region, after)| match after {
            [] => Ok(region),
            _ => Err((
                column_of(rule, after),
                Fault::new(format!("{} stands after the pattern", quote(after)), "write the rules of the block on lines of their own"),
            )),
        });
        let region = inside.as_ref().ok().and_then(|inside| match outer {
            None => Some(inside.clone()),
            Some(outer) => outer.map(|outer| outer.intersection(inside)),
        });
        blocks.push(Block { line: number, region });
        return inside.map(|_| ());
    }
    let (own, after) = pattern(rule).map_err(at_start)?;
    let outcome = action(after).map_err(|fault| (if after.is_empty() { 1 } else { column_of(rule, after) }, fault))?;
    let region = match outer {
        None => own,
        Some(Some(outer)) => outer.intersection(&own),
        // The mistake is at the `if`.
        Some(None) => return Ok(()),
    };
    if region.is_empty() {
        sink.warn(number, 1, Fault::new("no address reaches this rule", "leave it out, or mend the if before it"));
    }
    if region.is_everything() && matches!(outcome, Outcome::Cover(_) | Outcome::Reply(_)) {
        let remedy = "name the networks; a host that takes no mail at all has mode = \"no-mail\"";
        return Err((1, Fault::new("the rule refuses every address of its family", remedy)));
    }
    put(sink, number, 1, &outcome, region.subjects());
    Ok(())
}

/// Column of a part of a rule.
fn column_of(rule: &[u8], part: &[u8]) -> u32 {
    u32::try_from(rule.trim_ascii_end().len().saturating_sub(part.len()) + 1).unwrap_or(u32::MAX)
}

/// Takes `pattern` or `!pattern` off the front of a rule: the addresses that it covers, and what stands after it.
fn pattern(text: &[u8]) -> Result<(Region, &[u8]), Fault> {
    let mut text = text;
    let mut not = false;
    while let [b'!', rest @ ..] = text {
        not = !not;
        text = rest.trim_ascii_start();
    }
    let (word, after) = split_word(text);
    let region = Region::network(network(word)?);
    Ok((if not { region.complement() } else { region }, after))
}

/// Reads a network, which may be in brackets and may be a whole family.
fn network(word: &[u8]) -> Result<IpNet, Fault> {
    let Ok(text) = std::str::from_utf8(word) else {
        return Err(Fault::new(format!("{} is not a network", quote(word)), "write a network such as 192.0.2.0/24"));
    };
    let bare = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inside, after)) if after.is_empty() || after.starts_with('/') => format!("{inside}{after}"),
        Some(_) => return Err(Fault::new(format!("{} is not a network", quote(word)), "write [2001:db8::]/32")),
        None => text.to_string(),
    };
    // Bounds of blocks and holes may be a whole family; rules that refuse are looked at when their region is known.
    match bare.as_str() {
        "0.0.0.0/0" => return Ok(IpNet::V4(Ipv4Net::default())),
        "::/0" => return Ok(IpNet::V6(Ipv6Net::default())),
        _ => {}
    }
    let network = parse_network(&bare)?;
    if bare.contains(':') && matches!(network, IpNet::V4(_)) {
        return Err(Fault::new(
            format!("{} covers no client: Postfix asks for IPv4 addresses as such", quote(word)),
            format!("write {network}"),
        ));
    }
    Ok(network)
}

/// Whether a text looks like such a table: networks alone, with actions.
pub(super) fn looks(head: &[u8]) -> bool {
    let mut telling = false;
    for rule in head_rules(head) {
        let (word, rest) = split_word(rule);
        if word.eq_ignore_ascii_case(b"endif") {
            continue;
        }
        if word.eq_ignore_ascii_case(b"if") {
            if pattern(rest).is_err() {
                return false;
            }
            telling = true;
            continue;
        }
        let Ok((_, after)) = pattern(rule) else { return false };
        if action(after).is_err() && !is_telling(after) {
            return false;
        }
        telling |= is_telling(after);
    }
    telling
}
