//! What each format can hold. What it cannot hold is refused or, if that is allowed, left out and counted.

use crate::list::Format;
use crate::list::rbldnsd::Kind;
use std::fmt;

/// What a format can hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holds {
    pub format: Format,
    pub v4: bool,
    pub v6: bool,
    /// Both families in one file.
    pub mixed: bool,
    pub names: Names,
    /// `user@example.org` and `user@`, beside names.
    pub mailboxes: bool,
    /// Entries inside of others mean what they say. Where they do not, the list is written as the set of addresses that
    /// it comes to, without holes and without entries inside of others.
    pub nested: bool,
    pub holes: bool,
    /// The first entry that covers an address decides, so that the most specific ones come first.
    pub first_match: bool,
    /// Prefixes end at octets or groups alone.
    pub whole_octets: bool,
    pub reasons: bool,
    pub replies: bool,
    pub expiry: bool,
    /// Every entry has a score, and no other reason.
    pub scores: bool,
}

/// Which names a format can hold. One that holds some holds holes among them, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// None.
    None,
    /// `.example.org` and `*.example.org`.
    WithThoseBelow,
    /// `example.org` alone, too.
    All,
}

const SET: Holds = Holds {
    format: Format::Plain,
    v4: true,
    v6: true,
    mixed: true,
    names: Names::None,
    mailboxes: false,
    nested: false,
    holes: false,
    first_match: false,
    whole_octets: false,
    reasons: true,
    replies: false,
    expiry: false,
    scores: false,
};
const RBLDNSD: Holds = Holds { nested: true, holes: true, mixed: false, ..SET };
const ACCESS: Holds = Holds {
    names: Names::WithThoseBelow,
    mailboxes: true,
    nested: true,
    holes: true,
    // Of two entries for one key the more specific one counts.
    first_match: true,
    whole_octets: true,
    replies: true,
    ..SET
};

/// The formats that can be written. An rbldnsd-ip6tset holds one length of prefix and one reason: an ip6trie does better.
pub(super) const ALL: [Holds; 17] = [
    Holds { names: Names::All, mailboxes: true, nested: true, holes: true, ..SET },
    Holds { format: Format::Drop, ..SET },
    Holds { format: Format::DropJson, ..SET },
    Holds { format: Format::Firehol, mixed: false, ..SET },
    Holds { format: Format::Dshield, v6: false, mixed: false, ..SET },
    Holds { format: Format::P2p, v6: false, mixed: false, ..SET },
    Holds { format: Format::Scored, nested: true, scores: true, ..SET },
    Holds { format: Format::CrowdsecCsv, nested: true, expiry: true, ..SET },
    Holds { format: Format::CrowdsecJson, nested: true, expiry: true, ..SET },
    Holds { format: Format::Iplsearch, nested: true, first_match: true, ..SET },
    Holds { format: Format::Rbldnsd(Kind::Ip4Set), v6: false, ..RBLDNSD },
    Holds { format: Format::Rbldnsd(Kind::Ip4Trie), v6: false, ..RBLDNSD },
    Holds { format: Format::Rbldnsd(Kind::Ip6Trie), v4: false, ..RBLDNSD },
    Holds { format: Format::Rbldnsd(Kind::Dnset), v4: false, v6: false, names: Names::All, ..RBLDNSD },
    Holds { format: Format::PostfixCidr, nested: true, holes: true, first_match: true, replies: true, ..SET },
    Holds { format: Format::PostfixAccess, ..ACCESS },
    Holds { format: Format::SendmailAccess, reasons: false, ..ACCESS },
];

impl Holds {
    /// What a format can hold; `None` if it cannot be written.
    pub(super) fn of(format: Format) -> Option<&'static Holds> {
        ALL.iter().find(|holds| holds.format == format)
    }

    /// Whether this reason of an entry comes back as it is.
    pub(super) fn reason(&self, reason: &str) -> bool {
        match self.format {
            _ if reason.is_empty() => true,
            // The score is the reason; what is none is told of as such.
            _ if self.scores => true,
            // Further signs of a comment are taken for part of the first.
            Format::Plain | Format::Drop | Format::Firehol => !reason.starts_with(['#', ';']),
            // The name comes first, and the line would be a comment.
            Format::P2p => !reason.starts_with('#'),
            Format::DropJson
            | Format::Dshield
            | Format::Scored
            | Format::CrowdsecCsv
            | Format::CrowdsecJson
            | Format::Iplsearch
            | Format::Rbldnsd(_)
            | Format::PostfixCidr
            | Format::PostfixAccess
            | Format::SendmailAccess => self.reasons,
        }
    }
}

impl fmt::Display for Holds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let families = match (self.v4, self.v6, self.mixed) {
            (true, true, true) => "IPv4, IPv6",
            (true, true, false) => "IPv4 or IPv6",
            (true, false, _) => "IPv4",
            (false, true, _) => "IPv6",
            (false, false, _) => "",
        };
        let names = match self.names {
            Names::None => "",
            Names::WithThoseBelow => "names with all below them",
            Names::All => "names",
        };
        let some = |text, wanted| if wanted { text } else { "" };
        let parts = [
            families,
            names,
            some("mailboxes", self.mailboxes),
            some("holes", self.holes),
            some("reasons", self.reasons && !self.scores),
            some("scores", self.scores),
            some("replies", self.replies),
            some("expiry", self.expiry),
        ];
        f.write_str(&parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", "))
    }
}
