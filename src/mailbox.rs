//! The mailbox in a MAIL or RCPT argument: `<local@domain>` as clients write it (RFC 5321 section 4.1.2).
//!
//! Nothing is guessed: what is not an address has neither local part nor domain, and no rule matches it. Whether
//! its syntax is acceptable is the mail server's business.

/// A mailbox taken apart; borrowed from the argument.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mailbox<'a> {
    /// The local part, quotation marks included.
    pub local: &'a [u8],
    /// The domain as written; `None` if there is none (`<postmaster>`) or if it is an address literal.
    pub domain: Option<&'a [u8]>,
}

impl<'a> Mailbox<'a> {
    /// Reads `<local@domain>` with or without brackets, source route (`@a,@b:`) and quoted local part.
    pub fn parse(argument: &'a [u8]) -> Mailbox<'a> {
        let argument = argument.trim_ascii();
        let address = argument.strip_prefix(b"<").and_then(|inner| inner.strip_suffix(b">")).unwrap_or(argument);
        let address = without_route(address);
        match last_at(address) {
            Some((local, domain)) => {
                // Servers drop white space at its end, and then deliver there.
                let domain = domain.trim_ascii();
                let literal = domain.is_empty() || domain.starts_with(b"[");
                Mailbox { local, domain: (!literal).then_some(domain) }
            }
            None => Mailbox { local: address, domain: None },
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

    fn is(&self, name: &[u8]) -> bool {
        let local = self.local.strip_prefix(b"\"").and_then(|inner| inner.strip_suffix(b"\"")).unwrap_or(self.local);
        local.eq_ignore_ascii_case(name)
    }
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
    let (local, at_domain) = address.split_at_checked(last?)?;
    Some((local, at_domain.get(1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let want = Mailbox { local: local.as_bytes(), domain: domain.map(str::as_bytes) };
            assert_eq!(Mailbox::parse(argument.as_bytes()), want, "{argument}");
        }
    }

    #[test]
    fn postmaster_and_abuse() {
        for yes in ["<postmaster>", "<PostMaster@example.org>", "abuse@example.org", "<\"postmaster\"@example.org>"] {
            assert!(Mailbox::parse(yes.as_bytes()).is_postmaster() != Mailbox::parse(yes.as_bytes()).is_abuse(), "{yes}");
        }
        for no in ["<postmaster1@example.org>", "<a@postmaster>", "<>", "<post@master>", "<\"abuse\\\"@example.org>"] {
            assert!(!Mailbox::parse(no.as_bytes()).is_postmaster() && !Mailbox::parse(no.as_bytes()).is_abuse(), "{no}");
        }
    }
}
