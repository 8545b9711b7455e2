//! The policy file: TOML text to plain data. Does no I/O, and reports all mistakes at once.
//!
//! The document is read with the span-keeping, error-recovering parser of the `toml` crate and walked by hand:
//! deserializing into structs would stop at the first mistake.

mod escalation;
mod fields;
mod limits;
mod lists;
mod maintenance;
mod overload;
mod rules;

use crate::diagnostic::{Diagnostic, Fault, Lines, quote};
use crate::domain::{Folded, fold};
use crate::list::{Format, Seconds};
use crate::mode::Mode;
use crate::reply::Reply;
use crate::verdict::MAX_LIST_NAME;
use arrayvec::ArrayString;
pub use escalation::{Escalation, Subnet};
pub use fields::parse_duration;
use fields::{Fields, Reader};
pub(crate) use limits::Limits;
use lists::{EXEMPT, GUARDS, SOURCE};
pub(crate) use maintenance::Maintenance;
pub use overload::Overload;
pub(crate) use rules::{AuthRule, Authentication, Check, NameList, Relay};
use std::net::IpAddr;
use std::sync::Arc;
use toml::de::DeTable;

/// Longest policy file, in bytes. Long lists belong into files of their own.
pub(crate) const MAX_POLICY: usize = 16 << 20;
/// Most lists of one kind in one policy.
const MAX_LISTS: usize = 1000;

/// Name of the never-block set as a list.
pub(crate) const NEVER_BLOCK: &str = "never-block";
/// Name of the private and link-local addresses as a list.
pub(crate) const PRIVATE: &str = "private";
/// Names of lists that are there without being written.
pub(crate) const RESERVED: [&str; 3] = [NEVER_BLOCK, PRIVATE, BANS];
/// What verdicts call the bans, as if they were a list.
pub(crate) const BANS: &str = "bans";

/// Name of a list.
pub(crate) type ListName = ArrayString<MAX_LIST_NAME>;

/// A policy as it is written.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    pub hostname: Folded,
    pub mode: Mode,
    pub never_block: NeverBlock,
    pub bans: BanRule,
    pub lists: Vec<AddressList>,
    pub domains: Vec<NameList>,
    pub senders: Vec<NameList>,
    pub recipients: Vec<NameList>,
    pub relay: Relay,
    pub authentication: Authentication,
    pub limits: Limits,
    pub escalation: Option<Escalation>,
    pub overload: Option<Overload>,
    pub maintenance: Maintenance,
}

/// `[never_block]`: what no list can refuse.
#[derive(Debug, Default)]
pub(crate) struct NeverBlock {
    pub loopback: bool,
    pub link_local: bool,
    pub private: bool,
    pub networks: Vec<Item>,
}

/// `[bans]`: how clients are refused that are banned at run time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct BanRule {
    /// `None` before there is a policy: then nobody is refused.
    pub reply: Option<Reply>,
    pub exempt: Exempt,
    /// Shortest prefixes that can be banned: those of `[guards]`.
    pub widest_v4: u8,
    pub widest_v6: u8,
}

/// A `[[list]]`.
#[derive(Debug)]
pub(crate) struct AddressList {
    pub name: ListName,
    pub source: Source,
    /// It refuses nobody, and wins over all that do.
    pub allow: bool,
    pub conduct: Conduct,
}

/// How a list decides.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conduct {
    /// The reply to a recipient; `None` for an allow list.
    pub reply: Option<Reply>,
    /// The reply to a connection, if it is another one.
    pub connect_reply: Option<Reply>,
    /// The stage at which the verdict is given; `None` for any, and for a milter RCPT.
    pub at: Option<At>,
    /// It is only watched: what it would refuse is counted.
    pub shadow: bool,
    /// Who is passed over.
    pub exempt: Exempt,
    /// Where a refused client learns more.
    pub contact: Option<String>,
    /// How an entry is removed from the list.
    pub delisting: Option<String>,
}

/// A stage at which a verdict is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    Connect,
    Rcpt,
}

/// Who is passed over by a list. A set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exempt(u128);

impl Exempt {
    /// A client that has authenticated.
    pub(crate) const AUTHENTICATED: Exempt = Exempt(1);
    /// Mail to postmaster.
    pub(crate) const POSTMASTER: Exempt = Exempt(2);
    /// Mail to abuse.
    pub(crate) const ABUSE: Exempt = Exempt(4);
    /// A connection, of a list that counts at RCPT only.
    pub(crate) const CONNECTION: Exempt = Exempt(8);
    /// A client that an allow list names.
    pub(crate) const ALLOWED: Exempt = Exempt(16);
    /// A client in a trusted network.
    pub(crate) const TRUSTED: Exempt = Exempt(32);
    /// A connection to a mail server that could ask at RCPT; all but lists that count at CONNECT by name.
    pub(crate) const EARLY: Exempt = Exempt(64);
    /// The default of a list of addresses or senders.
    pub(crate) const DEFAULT: Exempt = Exempt(7);
    /// The first bit that belongs to one list: mail to recipients that have opted out of it.
    const OPT_OUT: usize = 8;
    /// Most lists that recipients can opt out of.
    pub(crate) const MAX_OPT_OUTS: usize = 128 - Exempt::OPT_OUT;

    /// Mail to recipients that have opted out of the list with that number; `None` if there are too many.
    pub(crate) fn opted_out(list: usize) -> Option<Exempt> {
        let shift = u32::try_from(list + Exempt::OPT_OUT).ok()?;
        1_u128.checked_shl(shift).map(Exempt)
    }

    /// Whether the two have something in common.
    pub(crate) fn meets(self, other: Exempt) -> bool {
        self.0 & other.0 != 0
    }

    /// Both together.
    pub(crate) fn and(self, other: Exempt) -> Exempt {
        Exempt(self.0 | other.0)
    }

    /// Without the bits that belong to one list each.
    pub(crate) fn of_all_lists(self) -> Exempt {
        Exempt(self.0 & ((1 << Exempt::OPT_OUT) - 1))
    }

    /// Whether all of this belongs to the other.
    pub(crate) fn is_within(self, other: Exempt) -> bool {
        self.0 & !other.0 == 0
    }
}

/// Where the entries of a list stand, how they are read, and what is demanded of them.
#[derive(Debug)]
pub(crate) struct Source {
    pub place: Place,
    pub format: Option<Format>,
    pub threshold: Option<u64>,
    /// How long an entry counts after its list was made.
    pub ttl: Option<Seconds>,
    pub guards: Guards,
}

/// Where the entries of a list stand.
#[derive(Debug)]
pub(crate) enum Place {
    Inline(Vec<Item>),
    /// Files, directories, patterns.
    Files(Vec<Item>),
}

/// What is demanded of a list before it comes into force.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Guards {
    /// Shortest IPv4 prefix.
    pub widest_v4: u8,
    /// Shortest IPv6 prefix.
    pub widest_v6: u8,
    pub min_entries: u64,
    pub max_entries: u64,
    /// How many times smaller than the list in force it may be.
    pub max_shrink: f64,
    /// How many times larger than the list in force it may be.
    pub max_grow: f64,
    /// How old it may be.
    pub max_age: Option<Seconds>,
    pub must_match: Vec<IpAddr>,
    pub must_not_match: Vec<IpAddr>,
}

impl Default for Guards {
    fn default() -> Guards {
        Guards {
            widest_v4: 8,
            widest_v6: 19,
            min_entries: 0,
            max_entries: u64::MAX,
            max_shrink: 2.0,
            max_grow: 10.0,
            max_age: None,
            must_match: Vec::new(),
            must_not_match: Vec::new(),
        }
    }
}

/// A string of the policy file, and its place.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub text: String,
    pub line: u32,
    pub column: u32,
}

/// Reads a policy. Where something is wrong the rest is read all the same, with a harmless value in its place.
pub(crate) fn parse(text: &str, file: &Arc<str>) -> (Policy, Vec<Diagnostic>) {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader { lines: Lines::of(text), file, diagnostics: Vec::new(), broken: !errors.is_empty() };
    for error in errors {
        let cause = format!("not TOML: {}", error.message().replace('\n', ", "));
        reader.report(error.span().unwrap_or(0..0), Fault::new(cause, "see https://toml.io; text needs quotation marks"));
    }
    let policy = reader.policy(Fields::of(document));
    (policy, reader.diagnostics)
}

impl Reader<'_> {
    fn policy(&mut self, mut top: Fields<'_>) -> Policy {
        let hostname = self.hostname(&mut top);
        let mode = self.mode(&mut top);
        let maintenance = self.maintenance(&mut top, mode);
        let never_block = self.never_block(&mut top);
        let mut guards = Guards::default();
        if let Some(mut fields) = self.table(top.take("guards"), "guards") {
            guards = self.guards(&mut fields, &guards);
            self.finish(fields, "[guards]", GUARDS);
        }
        let bans = self.bans(&mut top, &guards);
        let mut names: Vec<ListName> = RESERVED.iter().flat_map(|name| ListName::from(name)).collect();
        let lists = self.tables(top.take("list"), "list", MAX_LISTS);
        let lists = lists.into_iter().map(|fields| self.address_list(fields, &guards, &mut names)).collect();
        // No list of names covers an address.
        let guards = Guards { must_match: Vec::new(), ..guards };
        let domains = self.tables(top.take("domains"), "domains", MAX_LISTS);
        let domains = domains.into_iter().map(|fields| self.domain_list(fields, &guards, &mut names)).collect();
        let senders = self.tables(top.take("senders"), "senders", MAX_LISTS);
        let senders = senders.into_iter().map(|fields| self.sender_list(fields, &guards, &mut names)).collect();
        let recipients = self.tables(top.take("recipients"), "recipients", MAX_LISTS);
        let recipients: Vec<_> = recipients.into_iter().map(|fields| self.recipient_list(fields, &guards, &mut names)).collect();
        let relay = self.relay(&mut top);
        let authentication = self.authentication(&mut top);
        let limits = self.limits(&mut top);
        let escalation = self.escalation(&mut top, &guards);
        let overload = self.overload(&mut top);
        let known = "hostname, mode, [maintenance], [never_block], [guards], [bans], [limits], [escalation], [overload], [relay], \
                     [authentication], [[list]], [[domains]], [[senders]], [[recipients]]";
        self.finish(top, "the policy", known);
        let mut policy =
            Policy { hostname, mode, never_block, bans, lists, domains, senders, relay, authentication, limits, ..Policy::default() };
        (policy.escalation, policy.overload, policy.maintenance) = (escalation, overload, maintenance);
        policy.recipients = self.opt_outs(recipients, &mut policy);
        policy
    }

    fn hostname(&mut self, top: &mut Fields<'_>) -> Folded {
        const EXAMPLE: &str = "\"mx.example.org\"";
        let given = top.take("hostname");
        if given.is_none() && !self.broken {
            let remedy = format!("write hostname = {EXAMPLE}, the name in the greeting of this server");
            self.report(0..0, Fault::new("hostname is missing", remedy));
        }
        let Some(item) = self.string(given, "hostname", EXAMPLE) else { return Folded::new() };
        fold(item.text.as_bytes()).unwrap_or_else(|| {
            let cause = format!("{} is not a host name", quote(item.text.as_bytes()));
            self.report_at(&item, Fault::new(cause, format!("write a domain name such as {EXAMPLE}")));
            Folded::new()
        })
    }

    fn mode(&mut self, top: &mut Fields<'_>) -> Mode {
        self.choice(top.take("mode"), "mode", &Mode::ALL.map(|mode| (mode.name(), mode))).unwrap_or_default()
    }

    fn bans(&mut self, top: &mut Fields<'_>, guards: &Guards) -> BanRule {
        let Guards { widest_v4, widest_v6, .. } = *guards;
        let mut bans = BanRule { reply: Reply::named("policy"), exempt: Exempt::DEFAULT, widest_v4, widest_v6 };
        if let Some(mut fields) = self.table(top.take("bans"), "bans") {
            let given = fields.take("reply");
            bans.reply = self.reply(given).or(bans.reply);
            bans.exempt = self.exempt(&mut fields, &EXEMPT, bans.exempt);
            self.finish(fields, "[bans]", "reply, exempt");
        }
        bans
    }

    fn never_block(&mut self, top: &mut Fields<'_>) -> NeverBlock {
        let everything = NeverBlock { loopback: true, link_local: true, private: true, networks: Vec::new() };
        let Some(mut fields) = self.table(top.take("never_block"), "never_block") else { return everything };
        let never_block = NeverBlock {
            loopback: self.boolean(fields.take("loopback"), "loopback", true),
            link_local: self.boolean(fields.take("link_local"), "link_local", true),
            private: self.boolean(fields.take("private"), "private", true),
            networks: self.strings(fields.take("networks"), "networks", "[\"192.0.2.0/24\"]").unwrap_or_default(),
        };
        self.finish(fields, "[never_block]", "networks, loopback, link_local, private");
        never_block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(text: &str) -> Vec<String> {
        parse(text, &"p".into()).1.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_whole_policy() {
        let (policy, diagnostics) = parse(
            r#"
            hostname = "MX.example.org"
            mode = "maintenance"
            [never_block]
            networks = ["198.51.100.0/24"]
            [[list]]
            name = "partners"
            allow = true
            entries = ["192.0.2.1"]
            [[list]]
            name = "feed"
            file = "feed.txt"
            reply = "drop"
            [[domains]]
            name = "parked"
            kind = "null-mx"
            entries = [".example.net"]
            "#,
            &"p".into(),
        );
        assert_eq!(diagnostics, []);
        assert_eq!(policy.hostname.as_str(), "mx.example.org");
        assert_eq!(policy.mode, Mode::Maintenance);
        assert!(policy.never_block.loopback && policy.never_block.private);
        assert!(policy.lists[0].allow && policy.lists[0].conduct.reply.is_none());
        assert_eq!(policy.lists[1].conduct.reply, Reply::named("drop"));
        assert_eq!(policy.domains[0].conduct.reply, Reply::named("null-mx"));
        assert!(matches!(&policy.lists[0].source.place, Place::Inline(items) if items[0].text == "192.0.2.1" && items[0].line == 9));
    }

    #[test]
    fn all_mistakes_at_once() {
        let text = r#"
mode = "shut"
speed = 1
[never_block]
loopback = "no"
wide = true
[[list]]
allow = true
entries = ["192.0.2.1", 7]
reply = "drop"
[[list]]
name = "a b"
file = 3
[[list]]
name = "a"
[[domains]]
name = "a"
entries = []
file = "x"
kind = "parked"
reply = "521 hello"
"#;
        let shown = messages(text);
        for part in [
            "p:1:1: hostname is missing; write hostname = \"mx.example.org\"",
            "p:2:8: there is no mode \"shut\"; write open, maintenance",
            "p:3:1: \"speed\" is not a key of the policy; use hostname, mode,",
            "p:5:12: loopback is of type string; write loopback = true or false",
            "p:6:1: \"wide\" is not a key of [never_block]; use networks, loopback, link_local, private",
            "p:7:1: [[list]] has no name",
            "p:9:25: entries is of type integer",
            "p:10:9: an allow list refuses nobody",
            "p:12:8: \"a b\" is not a list name",
            "p:13:8: file is of type integer",
            "p:14:1: [[list]] has no entries",
            "p:17:8: there is another list named \"a\"",
            "p:19:8: the list has both entries and a file",
            "p:20:8: there is no kind \"parked\"; write no-mail or null-mx",
            "p:21:9: \"521 hello\" is not a reply",
        ] {
            assert!(shown.iter().any(|line| line.starts_with(part)), "{part} in {shown:#?}");
        }
        assert_eq!(shown.len(), 15, "{shown:#?}");
    }

    #[test]
    fn broken_toml_is_shown_with_the_mistakes_that_were_understood() {
        let shown = messages("hostname = mx.example.org\nmode = \"shut\"\n[[list\nname = \"x\"\n");
        assert!(shown.iter().any(|line| line.starts_with("p:1:12: not TOML: ")), "{shown:#?}");
        assert!(shown.iter().any(|line| line.starts_with("p:2:8: there is no mode")), "{shown:#?}");
        assert!(shown.iter().any(|line| line.starts_with("p:3:")), "{shown:#?}");
        assert!(!shown.iter().any(|line| line.contains("missing")), "{shown:#?}");
        assert!(messages("list = 3\ndomains = [1]\nnever_block = 2\nhostname = \"h\"").len() == 3);
    }
}
