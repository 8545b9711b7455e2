//! The mailbox in a MAIL or RCPT argument: `<local@domain>` as clients write it (RFC 5321 section 4.1.2).
//!
//! Nothing is guessed: what is not an address has neither local part nor domain, and no rule matches it. Whether
//! its syntax is acceptable is the mail server's business.

use crate::bytes::last;
use crate::domain::{Folded, Place, Shape, fold_in, fold_literal};
use arrayvec::ArrayString;
use std::str;

/// Longest mailbox that a list can name, in bytes: 64 for the local part and 255 for the domain are more than the 256
/// that a path may have (RFC 5321 section 4.5.3.1.3).
pub const MAX_MAILBOX: usize = 255;

/// A mailbox as lists name it: see [`Mailbox::name`].
pub(crate) type Name = ArrayString<MAX_MAILBOX>;

/// A mailbox taken apart; borrowed from the argument.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mailbox<'a> {
    /// The local part, quotation marks included.
    pub local: &'a [u8],
    /// The domain as written; `None` if there is none (`<postmaster>`) or if it is an address literal.
    pub domain: Option<&'a [u8]>,
    /// The address literal as written, brackets included.
    pub literal: Option<&'a [u8]>,
    /// The domain, if it is in the form of the tables as it stands.
    folded: Option<Place<'a>>,
}

impl<'a> Mailbox<'a> {
    /// Reads `<local@domain>` with or without brackets, source route (`@a,@b:`) and quoted local part.
    // Inline: its parts are handed on in registers then.
    #[inline(always)]
    pub fn parse(argument: &'a [u8]) -> Mailbox<'a> {
        let address = bare_address(argument);
        Mailbox::of_name(address).unwrap_or_else(|| Mailbox::of_address(address))
    }

    #[inline(always)]
    fn of_name(address: &'a [u8]) -> Option<Mailbox<'a>> {
        let (local, domain) = split_name(address)?;
        Some(Mailbox { local, domain: Some(domain.as_bytes()), literal: None, folded: Some(domain) })
    }

    #[inline(never)]
    fn of_address(address: &'a [u8]) -> Mailbox<'a> {
        let address = without_route(address);
        match last_at(address) {
            Some((local, domain)) => {
                // Servers drop white space at its end, and then deliver there.
                let domain = domain.trim_ascii();
                let literal = domain.starts_with(b"[");
                let name = !literal && !domain.is_empty();
                Mailbox { local, domain: name.then_some(domain), literal: literal.then_some(domain), folded: None }
            }
            None => Mailbox { local: address, domain: None, literal: None, folded: None },
        }
    }

    /// Whether this is `postmaster` (RFC 5321 section 4.5.1), in any case, quoted or not.
    pub fn is_postmaster(&self) -> bool {
        self.is(b"postmaster")
    }

    /// Whether this is `abuse` (RFC 2142 section 2), in any case, quoted or not.
    pub fn is_abuse(&self) -> bool {
        self.is(b"abuse")
    }

    /// Where the mailbox is: its domain or address literal in the form of the tables.
    pub fn place(&self) -> Option<Folded> {
        let mut place = Folded::new();
        let found = self.place_in(&mut place)?;
        str::from_utf8(found.as_bytes()).ok().and_then(|found| Folded::from(found).ok())
    }

    /// As [`Mailbox::place`]: as it stands in the argument if it is in that form already, else in a place of the caller's.
    #[inline(always)]
    pub(crate) fn place_in<'b>(&self, place: &'b mut Folded) -> Option<Place<'b>>
    where
        'a: 'b,
    {
        if self.folded.is_some() { self.folded } else { self.place_of_other(place) }
    }

    #[inline(never)]
    fn place_of_other<'b>(&self, place: &'b mut Folded) -> Option<Place<'b>>
    where
        'a: 'b,
    {
        match (self.domain, self.literal) {
            (Some(domain), _) => fold_in(domain, place),
            (None, literal) => {
                *place = fold_literal(literal?)?;
                Some(place.as_bytes())
            }
        }
        .map(Place::from)
    }

    /// Whether the local part names a way on (`user%other.example`, `other.example!user`, `user@other.example`), which
    /// some mail servers follow.
    pub fn is_routed(&self) -> bool {
        self.local.iter().any(|byte| matches!(byte, b'%' | b'!' | b'@'))
    }

    /// The mailbox as lists name it: the local part without its quotation marks (RFC 5321 section 4.1.2: quoted or
    /// not, it is the same) and in lower case (in practice case does not matter, and RFC 2505 section 2 wants rules to
    /// ignore it), `@`, and the place. `None` if no list can name it.
    pub(crate) fn name(&self, place: &[u8]) -> Option<Name> {
        let mut name = Name::new();
        for byte in self.bare() {
            if !matches!(byte, b' '..=b'~') {
                return None;
            }
            name.try_push(char::from(byte.to_ascii_lowercase())).ok()?;
        }
        if name.is_empty() {
            return None;
        }
        name.try_push('@').ok()?;
        name.try_push_str(str::from_utf8(place).ok()?).ok()?;
        Some(name)
    }

    #[inline(always)]
    fn is(&self, name: &[u8]) -> bool {
        if self.local.starts_with(b"\"") { self.is_quoted(name) } else { self.local.len() == name.len() && self.is_bare(name) }
    }

    #[inline(never)]
    fn is_quoted(&self, name: &[u8]) -> bool {
        self.bare().map(|byte| byte.to_ascii_lowercase()).eq(name.iter().copied())
    }

    #[inline(never)]
    fn is_bare(&self, name: &[u8]) -> bool {
        self.local.eq_ignore_ascii_case(name)
    }

    /// The local part without quotation marks, and the backslashes in them.
    fn bare(&self) -> impl Iterator<Item = u8> {
        let inner = self.local.strip_prefix(b"\"").and_then(|inner| inner.strip_suffix(b"\""));
        let (quoted, local) = (inner.is_some(), inner.unwrap_or(self.local));
        let mut bytes = local.iter().copied();
        std::iter::from_fn(move || match bytes.next() {
            Some(b'\\') if quoted => bytes.next(),
            byte => byte,
        })
    }
}

/// The domain in a MAIL or RCPT argument, if the address is as nearly all are.
#[inline(always)]
pub(crate) fn usual_domain(argument: &[u8]) -> Option<Place<'_>> {
    split_name(bare_address(argument)).map(|(_, domain)| domain)
}

/// The address without white space around it and without brackets.
#[inline(always)]
fn bare_address(argument: &[u8]) -> &[u8] {
    if let [b'<', address @ .., b'>'] = argument {
        return address;
    }
    let argument = argument.trim_ascii();
    argument.strip_prefix(b"<").and_then(|inner| inner.strip_suffix(b">")).unwrap_or(argument)
}

/// Takes apart what nearly all addresses are: a local part without quotation marks, and a domain as tables have it.
#[inline(always)]
fn split_name(address: &[u8]) -> Option<(&[u8], Place<'_>)> {
    let shape = Shape::of(address).filter(|shape| shape.quotes == 0)?;
    let at = shape.ats.checked_ilog2().filter(|at| *at > 0)? as usize;
    let (local, domain) = (address.get(..at)?, address.get(at + 1..)?);
    let behind = shape.behind(at + 1);
    if !behind.is_small_name(domain.len()) || local.starts_with(b"@") {
        return None;
    }
    Some((local, Place::with_dots(domain, behind.dots)))
}

/// Drops a source route, `@one,@two:` (RFC 5321 appendix C: to be ignored).
fn without_route(address: &[u8]) -> &[u8] {
    if !address.starts_with(b"@") {
        return address;
    }
    // An IPv6 literal in the route has colons of its own; the last colon before the local part ends the route,
    // and a local part with a colon must be quoted.
    let unquoted = address.iter().position(|b| *b == b'"').unwrap_or(address.len());
    let (route, _) = address.split_at(unquoted);
    match route.iter().rposition(|b| *b == b':').and_then(|at| address.get(at + 1..)) {
        Some(rest) => rest,
        None => address,
    }
}

/// Splits at the last `@` that is outside quotation marks.
fn last_at(address: &[u8]) -> Option<(&[u8], &[u8])> {
    let split = |at| address.split_at_checked(at).and_then(|(local, at_domain)| Some((local, at_domain.get(1..)?)));
    let (local, domain) = split(last(b'@', address)?)?;
    if last(b'"', local).is_some() { split(last_unquoted_at(address)?) } else { Some((local, domain)) }
}

#[cold]
fn last_unquoted_at(address: &[u8]) -> Option<usize> {
    let (mut quoted, mut escaped, mut last) = (false, false, None);
    for (at, byte) in address.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'@' if !quoted => last = Some(at),
            _ => {}
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn mailboxes_as_clients_write_them() {
        for (argument, local, domain) in [
            ("<user@example.org>", "user", Some("example.org")),
            ("user@example.org", "user", Some("example.org")),
            ("<user@ example.org >", "user", Some("example.org")),
            ("<User+tag@Example.ORG.>", "User+tag", Some("Example.ORG.")),
            ("<@a.example,@b.example:user@example.org>", "user", Some("example.org")),
            ("<@[IPv6:2001:db8::1]:user@example.org>", "user", Some("example.org")),
            ("<\"a@b\"@example.org>", "\"a@b\"", Some("example.org")),
            ("<\"a\\\"@b\"@example.org>", "\"a\\\"@b\"", Some("example.org")),
            ("<a@b@example.org>", "a@b", Some("example.org")),
            ("<user@[192.0.2.1]>", "user", None),
            ("<user@>", "user", None),
            ("<Postmaster>", "Postmaster", None),
            ("<>", "", None),
            ("", "", None),
            ("@", "", None),
            ("<@a", "<", Some("a")),
        ] {
            let found = Mailbox::parse(argument.as_bytes());
            assert_eq!((found.local, found.domain), (local.as_bytes(), domain.map(str::as_bytes)), "{argument}");
            assert_eq!(found.literal.is_some(), argument.contains("r@["), "{argument}");
        }
    }

    proptest! {
        #[test]
        fn both_ways_to_take_an_address_apart_agree(address in prop_oneof!["[a-zA-Z@.\" \\[:-]{0,70}", "[a-z%+]{1,40}@[a-zA-Z0-9.-]{1,40}"]) {
            let slow = Mailbox::of_address(address.as_bytes());
            if let Some(quick) = Mailbox::of_name(address.as_bytes()) {
                prop_assert_eq!(Mailbox { folded: None, ..quick }, slow);
                prop_assert_eq!(quick.place(), slow.place());
                prop_assert!(quick.place().is_some_and(|place| Some(place.as_bytes()) == quick.domain));
            }
        }
    }

    #[test]
    fn one_mailbox_has_one_name() {
        for (argument, name) in [
            ("<User@Example.ORG.>", Some("user@example.org")),
            ("<\"user\"@example.org>", Some("user@example.org")),
            ("<\"u\\ser\"@example.org>", Some("user@example.org")),
            ("<\"a b\"@example.org>", Some("a b@example.org")),
            ("<u\\ser@example.org>", Some("u\\ser@example.org")),
            ("<user@b\u{fc}cher.example>", Some("user@xn--bcher-kva.example")),
            ("<user@[192.0.2.1]>", Some("user@[192.0.2.1]")),
            ("<user@[IPv6:2001:DB8:0::1]>", Some("user@[IPv6:2001:db8::1]")),
            ("<user@[x-tag:y]>", None),
            ("<j\u{fc}rgen@example.org>", None),
            ("<a\x01@example.org>", None),
            ("<@example.org>", None),
            ("<>", None),
        ] {
            let mailbox = Mailbox::parse(argument.as_bytes());
            assert_eq!(mailbox.place().and_then(|place| mailbox.name(place.as_bytes())).as_deref(), name, "{argument}");
        }
        let long = format!("<{}@example.org>", "x".repeat(MAX_MAILBOX));
        assert_eq!(Mailbox::parse(long.as_bytes()).name(b"example.org"), None);
        for (argument, routed) in [("<a%b@c>", true), ("<a!b@c>", true), ("<a@b@c>", true), ("<\"a@b\"@c>", true), ("<a+b=c@d>", false)] {
            assert_eq!(Mailbox::parse(argument.as_bytes()).is_routed(), routed, "{argument}");
        }
    }

    #[test]
    fn postmaster_and_abuse() {
        for yes in
            ["<postmaster>", "<PostMaster@example.org>", "abuse@example.org", "<\"postmaster\"@example.org>", "<\"abus\\e\"@example.org>"]
        {
            assert!(Mailbox::parse(yes.as_bytes()).is_postmaster() != Mailbox::parse(yes.as_bytes()).is_abuse(), "{yes}");
        }
        for no in ["<postmaster1@example.org>", "<a@postmaster>", "<>", "<post@master>", "<\"abuse\\\"@example.org>"] {
            assert!(!Mailbox::parse(no.as_bytes()).is_postmaster() && !Mailbox::parse(no.as_bytes()).is_abuse(), "{no}");
        }
    }
}
