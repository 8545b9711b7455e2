//! The lists of a policy: `[[list]]` and `[[domains]]`, where their entries stand, their guards, and what they answer.

use super::fields::{Fields, Reader, Value, one_of};
use super::{AddressList, At, Conduct, Exempt, Guards, ListName, NameList, Place, Source};
use crate::diagnostic::{Fault, quote};
use crate::list::Format;
use crate::prefix::parse_address;
use crate::reply::{RETRY, Reply};
use crate::verdict::MAX_LIST_NAME;
use std::net::IpAddr;

/// An example of a list name.
const NAME: &str = "\"example\"";
pub(super) const GUARDS: &str = "widest_v4, widest_v6, min_entries, max_entries, max_shrink, max_grow, max_age, must_match, must_not_match";
pub(super) const SOURCE: &str = "entries, file, format, threshold, ttl";
/// Whom a list of addresses can pass over.
pub(super) const EXEMPT: [(&str, Exempt); 3] =
    [("authenticated", Exempt::AUTHENTICATED), ("postmaster", Exempt::POSTMASTER), ("abuse", Exempt::ABUSE)];

impl Reader<'_> {
    pub(super) fn address_list(&mut self, mut fields: Fields<'_>, guards: &Guards, names: &mut Vec<ListName>) -> AddressList {
        let name = self.name(&mut fields, "list", names);
        let allow = self.boolean(fields.take("allow"), "allow", false);
        let source = self.source(&mut fields, "list", "[\"192.0.2.0/24\"]", guards);
        let conduct = if allow {
            if let Some(value) = fields.take("reply") {
                self.report(value.span(), Fault::new("an allow list refuses nobody", "leave out reply, or leave out allow"));
            }
            Conduct::default()
        } else {
            self.conduct(&mut fields)
        };
        let known = format!("name, allow, {SOURCE}, reply, at, enforce, exempt, contact, delisting, {GUARDS}");
        self.finish(fields, "[[list]]", &known);
        AddressList { name, source, allow, conduct }
    }

    pub(super) fn conduct(&mut self, fields: &mut Fields<'_>) -> Conduct {
        let contact = self.string(fields.take("contact"), "contact", "\"https://example.org/refused\"");
        let delisting = self.string(fields.take("delisting"), "delisting", "\"write to postmaster@example.org\"");
        let (mut connect_reply, given) = (None, fields.take("reply"));
        let reply = match given {
            Some(value) if value.get_ref().is_table() => {
                let mut stages = self.table(Some(value), "reply");
                let mut at = |stage| stages.as_mut().and_then(|stages| stages.take(stage));
                let (connect, rcpt) = (at("connect"), at("rcpt"));
                connect_reply = self.reply(connect);
                let rcpt = self.reply(rcpt);
                if let Some(stages) = stages {
                    self.finish(stages, "reply", "connect, rcpt");
                }
                rcpt.or_else(|| connect_reply.clone())
            }
            given => self.reply(given),
        };
        let mut reply = reply.or_else(|| Reply::named("policy"));
        if let (Some(contact), Some(reply)) = (&contact, &mut reply)
            && let Err(fault) = reply.add_contact(&contact.text)
        {
            self.report_at(contact, fault);
        }
        let at = self.choice(fields.take("at"), "at", &[("connect", At::Connect), ("rcpt", At::Rcpt)]);
        Conduct {
            reply,
            connect_reply,
            at,
            shadow: !self.boolean(fields.take("enforce"), "enforce", true),
            exempt: self.exempt(fields, &EXEMPT, Exempt::DEFAULT).and(match at {
                None => Exempt::EARLY,
                Some(At::Connect) => Exempt::default(),
                Some(At::Rcpt) => Exempt::EARLY.and(Exempt::CONNECTION),
            }),
            contact: contact.map(|item| item.text),
            delisting: delisting.map(|item| item.text),
        }
    }

    /// Who is passed over: some of these words.
    pub(super) fn exempt(&mut self, fields: &mut Fields<'_>, words: &[(&str, Exempt)], default: Exempt) -> Exempt {
        let Some(items) = self.strings(fields.take("exempt"), "exempt", "[\"authenticated\", \"postmaster\", \"abuse\"]") else {
            return default;
        };
        items.iter().fold(Exempt::default(), |exempt, item| match words.iter().find(|(word, _)| *word == item.text) {
            Some((_, bit)) => exempt.and(*bit),
            None => {
                let cause = format!("{} cannot be exempt", quote(item.text.as_bytes()));
                let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                self.report_at(item, Fault::new(cause, format!("write {}", one_of(&words))));
                exempt
            }
        })
    }

    pub(super) fn domain_list(&mut self, mut fields: Fields<'_>, guards: &Guards, names: &mut Vec<ListName>) -> NameList {
        let name = self.name(&mut fields, "domains", names);
        let source = self.source(&mut fields, "domains", "[\"example.org\"]", guards);
        let kind = self.choice(fields.take("kind"), "kind", &[("no-mail", "no-mail"), ("null-mx", "null-mx")]).unwrap_or("no-mail");
        // A reply about one recipient leaves the connection to the others.
        let given = fields.take("reply");
        let reply = self.reply(given).or_else(|| Reply::named(kind)).map(Reply::without_hang_up);
        self.finish(fields, "[[domains]]", &format!("name, {SOURCE}, kind, reply, {GUARDS}"));
        NameList { name, source, conduct: Conduct { reply, ..Conduct::default() }, opt_out: Exempt::default() }
    }

    /// The name of a list, which no other list has.
    pub(super) fn name(&mut self, fields: &mut Fields<'_>, key: &str, names: &mut Vec<ListName>) -> ListName {
        let value = fields.take("name");
        let missing = value.is_none();
        let Some(item) = self.string(value, "name", NAME) else {
            if missing && !self.broken {
                self.report(fields.span.clone(), Fault::new(format!("[[{key}]] has no name"), format!("write name = {NAME}")));
            }
            return ListName::new();
        };
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let quoted = quote(item.text.as_bytes());
        let fault = match ListName::from(&item.text) {
            Ok(name) if !name.is_empty() && name.bytes().all(plain) => {
                if !names.contains(&name) {
                    names.push(name);
                    return name;
                }
                Fault::new(format!("there is another list named {quoted}"), "give each list a name of its own")
            }
            _ => Fault::new(
                format!("{quoted} is not a list name"),
                format!("write up to {MAX_LIST_NAME} letters, digits, dots, hyphens and underscores"),
            ),
        };
        self.report_at(&item, fault);
        ListName::new()
    }

    pub(super) fn source(&mut self, fields: &mut Fields<'_>, key: &str, example: &str, defaults: &Guards) -> Source {
        const FILE: &str = "\"lists/example.txt\"";
        let (entries, file) = (fields.take("entries"), fields.take("file"));
        let stands_here = entries.is_some() && file.is_none();
        let place = match (entries, file) {
            (Some(entries), None) => Place::Inline(self.strings(Some(entries), "entries", example).unwrap_or_default()),
            (None, Some(file)) => match self.string_or_strings(Some(file), "file", FILE) {
                Some(items) => Place::Files(items),
                None => Place::Inline(Vec::new()),
            },
            (Some(_), Some(file)) => {
                self.report(file.span(), Fault::new("the list has both entries and a file", "make it two lists"));
                Place::Inline(Vec::new())
            }
            (None, None) => {
                if !self.broken {
                    let remedy = format!("write entries = {example} or file = {FILE}");
                    self.report(fields.span.clone(), Fault::new(format!("[[{key}]] has no entries"), remedy));
                }
                Place::Inline(Vec::new())
            }
        };
        let [format, value, ttl] = ["format", "threshold", "ttl"].map(|key| {
            let value = fields.take(key)?;
            if stands_here {
                let cause = format!("{key} is about files, and says nothing about entries that stand in the policy");
                self.warn(value.span(), Fault::new(cause, "leave it out, or put the entries into a file"));
            }
            Some(value)
        });
        let format = self.choice(format, "format", Format::ALL);
        if let (Some(value), Some(format)) = (&value, format.filter(|format| *format != Format::Scored)) {
            let cause = format!("a list of the format {} has no scores", format.name());
            self.report(value.span(), Fault::new(cause, "leave out threshold, or write format = \"scored\""));
        }
        let threshold = self.integer(value, "threshold", 0..=u64::MAX);
        Source { place, format, threshold, ttl: self.duration(ttl, "ttl"), guards: self.guards(fields, defaults) }
    }

    pub(super) fn guards(&mut self, fields: &mut Fields<'_>, defaults: &Guards) -> Guards {
        let bits = |number: Option<u64>, default| number.and_then(|bits| u8::try_from(bits).ok()).unwrap_or(default);
        let widest_v4 = self.integer(fields.take("widest_v4"), "widest_v4", 1..=32);
        let widest_v6 = self.integer(fields.take("widest_v6"), "widest_v6", 1..=128);
        Guards {
            widest_v4: bits(widest_v4, defaults.widest_v4),
            widest_v6: bits(widest_v6, defaults.widest_v6),
            min_entries: self.integer(fields.take("min_entries"), "min_entries", 0..=u64::MAX).unwrap_or(defaults.min_entries),
            max_entries: self.integer(fields.take("max_entries"), "max_entries", 0..=u64::MAX).unwrap_or(defaults.max_entries),
            max_shrink: self.factor(fields.take("max_shrink"), "max_shrink").unwrap_or(defaults.max_shrink),
            max_grow: self.factor(fields.take("max_grow"), "max_grow").unwrap_or(defaults.max_grow),
            max_age: self.duration(fields.take("max_age"), "max_age").or(defaults.max_age),
            must_match: self.addresses(fields.take("must_match"), "must_match").unwrap_or_else(|| defaults.must_match.clone()),
            must_not_match: self
                .addresses(fields.take("must_not_match"), "must_not_match")
                .unwrap_or_else(|| defaults.must_not_match.clone()),
        }
    }

    fn addresses(&mut self, value: Option<Value<'_>>, key: &str) -> Option<Vec<IpAddr>> {
        let items = self.strings(value, key, "[\"192.0.2.1\"]")?;
        let mut addresses = Vec::with_capacity(items.len());
        for item in items {
            match parse_address(&item.text) {
                Some(address) => addresses.push(address),
                None => {
                    let fault = Fault::new(format!("{} is not an IP address", quote(item.text.as_bytes())), "write one such as 192.0.2.1");
                    self.report_at(&item, fault);
                }
            }
        }
        Some(addresses)
    }

    /// A reply of something that does not know when it will be over.
    pub(super) fn reply(&mut self, value: Option<Value<'_>>) -> Option<Reply> {
        let place = value.as_ref().map(Value::span);
        let literal = value.as_ref().and_then(|value| value.get_ref().as_str()).is_some_and(|text| text.contains(RETRY));
        let reply = self.reply_that_knows(value)?;
        if literal {
            let cause = format!("{RETRY} is known of limits and modes alone; here clients read \"later\"");
            self.warn(place.unwrap_or_default(), Fault::new(cause, "write that, or when they are to come back"));
        }
        Some(reply)
    }

    /// A reply, of a limit or a mode too.
    pub(super) fn reply_that_knows(&mut self, value: Option<Value<'_>>) -> Option<Reply> {
        let item = self.string(value, "reply", "\"policy\" or \"550 5.7.1 Not here\"")?;
        match Reply::parse(&item.text) {
            Ok(reply) => Some(reply),
            Err(fault) => {
                self.report_at(&item, fault);
                None
            }
        }
    }
}
