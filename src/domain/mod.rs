//! Domain names: `name`, `*.name` (all below), `.name` (both), matched on label boundaries.
//!
//! Names of two more kinds have no labels and nothing above or below them: address literals (`[192.0.2.1]`, RFC 5321
//! section 4.1.3), which no rule about domains matches, and mailboxes (`user@example.org`, `user@`).

mod builder;
mod place;
mod shape;
mod table;

use crate::diagnostic::{Fault, quote};
use crate::idn;
use crate::line::Line;
use crate::prefix::parse_address;
use arrayvec::ArrayString;
pub(crate) use builder::DomainTableBuilder;
pub(crate) use place::Place;
pub(crate) use shape::Shape;
use std::borrow::Cow;
use std::net::IpAddr;
use std::str;
pub(crate) use table::Covered;
pub use table::DomainTable;

/// Longest domain name as text, in bytes (RFC 1035 section 2.3.4: 255 octets on the wire).
pub const MAX_NAME: usize = 253;
/// Longest label, in bytes.
const MAX_LABEL: usize = 63;

/// A domain name in lower case without a trailing dot, U-labels as A-labels; or an address literal.
pub type Folded = ArrayString<MAX_NAME>;

/// What an entry covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `name`: that name alone.
    Exact,
    /// `*.name`: all names below it.
    Below,
    /// `.name`: the name and all below it.
    Both,
}

impl Form {
    /// What stands before the name.
    pub fn prefix(self) -> &'static str {
        match self {
            Form::Exact => "",
            Form::Below => "*.",
            Form::Both => ".",
        }
    }

    /// Whether an entry of this form covers a name, by the definition.
    pub(crate) fn covers(self, entry: &[u8], name: &[u8]) -> bool {
        let is_below = || name.strip_suffix(entry).is_some_and(|rest| rest.ends_with(b"."));
        match self {
            Form::Exact => name == entry,
            Form::Below => is_below(),
            Form::Both => name == entry || is_below(),
        }
    }
}

/// Brings a name from a stranger into the form of the table; `None` if it is not a domain name. U-labels become
/// A-labels, since both name the same domain (RFC 5890 section 2.3.2).
pub fn fold(name: &[u8]) -> Option<Folded> {
    let mut place = Folded::new();
    let folded = fold_in(name, &mut place)?;
    str::from_utf8(folded).ok().and_then(|folded| Folded::from(folded).ok())
}

/// As [`fold`]: the name itself if it is in that form already, else one in a place of the caller's. In any case it is ASCII.
pub(crate) fn fold_in<'a>(name: &'a [u8], place: &'a mut Folded) -> Option<&'a [u8]> {
    match fold_ascii(name) {
        Some((name, true)) => Some(name),
        Some((name, false)) => lower_case(name, place),
        None if name.is_ascii() => None,
        None => international(name, place),
    }
}

#[cold]
#[inline(never)]
fn international<'a>(name: &[u8], place: &'a mut Folded) -> Option<&'a [u8]> {
    let ascii = idn::to_ascii(name)?;
    lower_case(fold_ascii(ascii.as_bytes())?.0, place)
}

fn lower_case<'a>(name: &[u8], place: &'a mut Folded) -> Option<&'a [u8]> {
    *place = Folded::from(str::from_utf8(name).ok()?).ok()?;
    place.make_ascii_lowercase();
    Some(place.as_bytes())
}

/// What a byte is in a name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Byte {
    /// None, or a full stop.
    Other,
    OfLabel,
    /// Of a label, and a capital letter.
    Capital,
}

#[expect(clippy::cast_possible_truncation, clippy::indexing_slicing, reason = "what goes wrong here does not compile")]
const BYTES: [Byte; 256] = {
    let mut bytes = [Byte::Other; 256];
    let mut byte = 0;
    while byte < 128 {
        bytes[byte] = match byte as u8 {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => Byte::OfLabel,
            b'A'..=b'Z' => Byte::Capital,
            _ => Byte::Other,
        };
        byte += 1;
    }
    bytes
};

/// A name in ASCII without the full stop at its end, and whether it has no capital letters; `None` if it is not a name.
fn fold_ascii(name: &[u8]) -> Option<(&[u8], bool)> {
    let name = name.strip_suffix(b".").unwrap_or(name);
    if let Some(shape) = Shape::of(name) {
        return shape.is_name(name.len()).then_some((name, shape.foreign == 0));
    }
    let (mut label, mut small) = (0, true);
    for (at, byte) in name.iter().enumerate() {
        match BYTES.get(usize::from(*byte))? {
            Byte::OfLabel => {}
            Byte::Capital => small = false,
            Byte::Other if *byte == b'.' && (1..=MAX_LABEL).contains(&(at - label)) => label = at + 1,
            Byte::Other => return None,
        }
    }
    let whole = name.len() <= MAX_NAME && (1..=MAX_LABEL).contains(&(name.len() - label));
    whole.then_some((name, small))
}

/// Brings an address literal from a stranger (`[192.0.2.1]`, `[IPv6:2001:db8::1]`) into the form of the table.
pub fn fold_literal(literal: &[u8]) -> Option<Folded> {
    let inner = literal.strip_prefix(b"[")?.strip_suffix(b"]")?;
    let address = parse_address(str::from_utf8(inner).ok()?)?;
    let mut place = [0; MAX_NAME];
    let mut line = Line::new(&mut place);
    line.push(if address.is_ipv4() { b"[" } else { b"[IPv6:" });
    line.push_address(address);
    line.push(b"]");
    Some(line.text())
}

/// Reads an entry of a domain list. Its name is a part of the text if it is in the form of the table already.
pub fn parse_entry(text: &str) -> Result<(Form, Cow<'_, str>), Fault> {
    if text.starts_with('[') {
        return fold_literal(text.as_bytes()).map(|literal| (Form::Exact, Cow::Owned(literal.to_string()))).ok_or_else(|| {
            let cause = format!("{} is not an address literal", quote(text.as_bytes()));
            Fault::new(cause, "write one such as [192.0.2.1] or [IPv6:2001:db8::1]")
        });
    }
    let (form, name) = match (text.strip_prefix("*."), text.strip_prefix('.')) {
        (Some(name), _) => (Form::Below, name),
        (None, Some(name)) => (Form::Both, name),
        (None, None) => (Form::Exact, text),
    };
    let folded: Option<Cow<'_, str>> = match fold_ascii(name.as_bytes()) {
        Some((whole, is_small)) => {
            name.get(..whole.len()).map(|name| if is_small { name.into() } else { name.to_ascii_lowercase().into() })
        }
        None => fold(name.as_bytes()).map(|folded| folded.to_string().into()),
    };
    match folded {
        Some(folded) if !folded.rsplit('.').next().is_some_and(|top| top.bytes().all(|b| b.is_ascii_digit())) => Ok((form, folded)),
        _ => Err(Fault::new(format!("{} is not a domain name", quote(text.as_bytes())), remedy(text, name))),
    }
}

fn remedy(text: &str, name: &str) -> String {
    if let Some((_, domain)) = text.rsplit_once('@') {
        format!("write the domain alone: {}", domain.escape_default())
    } else if text == "<>" {
        "leave it out: mail with an empty sender is never refused by a rule about senders".into()
    } else if !text.is_ascii() {
        "it is no international domain name (IDNA, UTS 46); check its letters".into()
    } else if name.parse::<IpAddr>().is_ok() {
        "put addresses of clients into a [[list]], or write [192.0.2.1] for mail to or from that address".into()
    } else if text.contains('*') {
        "a star stands only at the start, as in *.example.org".into()
    } else if text.starts_with('!') {
        "leave it out: a domain list has no holes".into()
    } else {
        "write example.org, *.example.org (all below) or .example.org (both)".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::networks::EntryId;
    use crate::policy::Exempt;
    use crate::resolve::{Candidate, Resolver, Standing};

    /// A table of entries; `lists` says which list each entry stands in. Its answer is the number of the entry.
    fn table(entries: &[&str], lists: &[usize]) -> DomainTable {
        let mut builder = DomainTableBuilder::new(entries.len());
        let parsed: Vec<(bool, (Form, Cow<'_, str>))> = entries
            .iter()
            .map(|text| text.strip_prefix('!').map_or((false, *text), |text| (true, text)))
            .map(|(hole, text)| (hole, parse_entry(text).unwrap()))
            .collect();
        for (((hole, (form, name)), list), entry) in parsed.iter().zip(lists).zip(1..) {
            builder.add(*form, name.as_bytes(), Candidate { list: *list, entry, hole: *hole, expires: false }).unwrap();
        }
        let standing = Standing { exempt: Exempt::default(), shadow: false, base: 0 };
        let mut resolver = Resolver::new(vec![standing; 9]);
        builder.finish(|candidates| resolver.names(candidates))
    }

    fn ask(table: &DomainTable, name: &str) -> EntryId {
        fold(name.as_bytes()).and_then(|folded| table.get(Place::from(folded.as_bytes())).single()).unwrap_or(0)
    }

    #[test]
    fn forms_match_on_label_boundaries() {
        let table = table(&["exact.example", "*.below.example", ".both.example"], &[0; 3]);
        for (name, rule) in [
            ("exact.example", 1),
            ("EXACT.Example.", 1),
            ("www.exact.example", 0),
            ("inexact.example", 0),
            ("below.example", 0),
            ("a.below.example", 2),
            ("a.b.below.example", 2),
            ("xbelow.example", 0),
            ("both.example", 3),
            ("a.both.example", 3),
            ("example", 0),
            ("", 0),
            (".", 0),
            ("a..both.example", 0),
            (".both.example", 0),
            ("a\n.both.example", 0),
            ("\u{ff42}oth\u{3002}EXAMPLE\u{3002}", 3),
            ("a.\u{fc}.both.example", 3),
            ("a.\u{378}.both.example", 0),
        ] {
            assert_eq!(ask(&table, name), rule, "{name}");
        }
    }

    #[test]
    fn names_have_up_to_127_labels() {
        let names: Vec<String> = (1..=127).map(|labels| vec!["a"; labels].join(".")).collect();
        for step in [2, 3] {
            let listed: Vec<&str> = names.iter().step_by(step).map(String::as_str).collect();
            let table = table(&listed, &vec![0; listed.len()]);
            for (at, name) in names.iter().enumerate() {
                let expected = if at % step == 0 { EntryId::try_from(at / step + 1).unwrap() } else { 0 };
                assert_eq!(ask(&table, name), expected, "{} labels", at + 1);
            }
        }
    }

    /// A name that has an entry in a later list, below one that covers it.
    #[test]
    fn names_of_many_labels_are_covered_from_above() {
        for (above, below) in [(1, 2), (2, 62), (62, 63), (62, 64), (63, 64), (70, 127)] {
            let [above, below] = [above, below].map(|labels| vec!["a"; labels].join("."));
            let table = table(&[&format!(".{above}"), &below], &[0, 1]);
            assert_eq!([ask(&table, &above), ask(&table, &below)], [1, 1], "{above} {below}");
        }
    }

    #[test]
    fn most_specific_inside_a_list_first_list_between_lists() {
        let inside = table(&[".d.example", "x.d.example", "*.y.d.example", ".y.d.example", "y.d.example"], &[0; 5]);
        for (name, rule) in
            [("d.example", 1), ("a.d.example", 1), ("x.d.example", 2), ("a.x.d.example", 1), ("y.d.example", 5), ("a.y.d.example", 3)]
        {
            assert_eq!(ask(&inside, name), rule, "{name}");
        }
        let between = table(&[".d.example", "x.d.example", "*.x.d.example"], &[0, 1, 1]);
        for (name, rule) in [("x.d.example", 1), ("a.x.d.example", 1)] {
            assert_eq!(ask(&between, name), rule, "{name}");
        }
        let late_wide = table(&["x.d.example", ".d.example"], &[0, 1]);
        for (name, rule) in [("x.d.example", 1), ("a.x.d.example", 2), ("d.example", 2)] {
            assert_eq!(ask(&late_wide, name), rule, "{name}");
        }
    }

    #[test]
    fn holes_are_holes_in_their_own_list() {
        let table = table(&[".d.example", "!x.d.example", "!*.y.d.example", ".d.example"], &[0, 0, 0, 1]);
        for (name, entry) in [("d.example", 1), ("x.d.example", 4), ("a.x.d.example", 1), ("y.d.example", 1), ("a.y.d.example", 4)] {
            assert_eq!(ask(&table, name), entry, "{name}");
        }
    }

    #[test]
    fn address_literals_are_their_own_kind() {
        let table = table(&["[192.0.2.1]", "[IPv6:2001:DB8::1]", ".example"], &[0, 0, 1]);
        let ask =
            |text: &str| fold_literal(text.as_bytes()).and_then(|literal| table.get(Place::from(literal.as_bytes())).single()).unwrap_or(0);
        for (literal, entry) in [
            ("[192.0.2.1]", 1),
            ("[ipv6:2001:db8:0::1]", 2),
            ("[IPv6:::ffff:192.0.2.1]", 1),
            ("[192.0.2.2]", 0),
            ("[192.0.2.1", 0),
            ("[tag:192.0.2.1]", 0),
            ("192.0.2.1", 0),
        ] {
            assert_eq!(ask(literal), entry, "{literal}");
        }
    }

    #[test]
    fn doubtful_names_are_refused_with_the_remedy() {
        for (text, remedy) in [
            ("user@example.org", "example.org"),
            ("b\u{fc}cher\u{2260}.\u{378}", "IDNA"),
            ("<>", "never refused"),
            ("[192.0.2.256]", "[192.0.2.1]"),
            ("[192.0.2.1", "[192.0.2.1]"),
            ("[]", "[192.0.2.1]"),
            ("192.0.2.1", "[[list]]"),
            ("2001:db8::1", "[[list]]"),
            ("*", "star"),
            ("a.*.example", "star"),
            ("!example.org", "no holes"),
            (".", "example.org"),
            ("", "example.org"),
            ("a..b", "example.org"),
            ("a b", "example.org"),
        ] {
            assert!(parse_entry(text).unwrap_err().remedy.contains(remedy), "{text}: {:?}", parse_entry(text));
        }
        assert!(parse_entry(&format!("{}.example", "a".repeat(64))).is_err());
        assert!(parse_entry(&["a"; 128].join(".")).is_err());
        assert!(parse_entry(&["a"; 127].join(".")).is_ok());
    }
}
