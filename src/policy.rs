//! The policy file: TOML text to plain data. Does no I/O, and reports all mistakes at once.
//!
//! The document is read with the span-keeping, error-recovering parser of the `toml` crate and walked by hand:
//! deserializing into structs would stop at the first mistake.

use crate::diagnostic::{Diagnostic, Fault, position, quote};
use crate::domain::{Folded, fold};
use crate::reply::Reply;
use crate::verdict::MAX_LIST_NAME;
use arrayvec::ArrayString;
use std::ops::Range;
use std::sync::Arc;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Longest policy file, in bytes. Long lists belong into files of their own.
pub(crate) const MAX_POLICY: usize = 16 << 20;
/// Most lists in one policy.
pub(crate) const MAX_LISTS: usize = 1000;

/// Name of a list.
pub(crate) type ListName = ArrayString<MAX_LIST_NAME>;

/// A policy as it is written.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    pub hostname: Folded,
    /// The reply to everybody; `None` in mode open.
    pub mode: Option<Reply>,
    /// Whether loopback addresses belong to the never-block set.
    pub loopback: bool,
    /// Further networks of the never-block set.
    pub never_block: Vec<Item>,
    pub lists: Vec<AddressList>,
    pub domains: Vec<DomainList>,
}

/// A `[[list]]`.
#[derive(Debug)]
pub(crate) struct AddressList {
    pub name: ListName,
    pub source: Source,
    /// The reply of a block list; `None` for an allow list.
    pub reply: Option<Reply>,
}

/// A `[[domains]]`.
#[derive(Debug)]
pub(crate) struct DomainList {
    pub name: ListName,
    pub source: Source,
    pub reply: Option<Reply>,
}

/// Where the entries of a list stand.
#[derive(Debug)]
pub(crate) enum Source {
    Inline(Vec<Item>),
    File(Item),
}

/// A string of the policy file, and its place.
#[derive(Debug)]
pub(crate) struct Item {
    pub text: String,
    pub line: u32,
    pub column: u32,
}

/// Reads a policy. Where something is wrong the rest is read all the same, with a harmless value in its place.
pub(crate) fn parse(text: &str, file: &Arc<str>) -> (Policy, Vec<Diagnostic>) {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader { text, file, diagnostics: Vec::new(), broken: !errors.is_empty() };
    for error in errors {
        let cause = format!("not TOML: {}", error.message().replace('\n', ", "));
        reader.report(error.span().unwrap_or(0..0), Fault::new(cause, "see https://toml.io; text needs quotation marks"));
    }
    let policy = reader.policy(Fields::of(document));
    (policy, reader.diagnostics)
}

struct Reader<'t> {
    text: &'t str,
    file: &'t Arc<str>,
    diagnostics: Vec<Diagnostic>,
    /// The document is not TOML; what is missing in it may stand in the part that was not understood.
    broken: bool,
}

/// A table whose keys are taken out one by one; what is left at the end is unknown.
struct Fields<'i> {
    span: Range<usize>,
    table: DeTable<'i>,
}

impl<'i> Fields<'i> {
    fn of(table: Spanned<DeTable<'i>>) -> Fields<'i> {
        Fields { span: table.span(), table: table.into_inner() }
    }

    fn take(&mut self, key: &str) -> Option<Spanned<DeValue<'i>>> {
        self.table.remove(key)
    }
}

impl Reader<'_> {
    fn report(&mut self, span: Range<usize>, fault: Fault) {
        let (line, column) = position(self.text, span.start);
        self.diagnostics.push(fault.at(self.file, line, column));
    }

    /// Reports the keys that nobody took.
    fn finish(&mut self, fields: Fields<'_>, what: &str, known: &str) {
        for key in fields.table.keys() {
            let cause = format!("{} is not a key of {what}", quote(key.get_ref().as_bytes()));
            self.report(key.span(), Fault::new(cause, format!("use {known}")));
        }
    }

    fn wrong_type(&mut self, value: &Spanned<DeValue<'_>>, key: &str, example: &str) {
        let cause = format!("{key} is of type {}", value.get_ref().type_str());
        self.report(value.span(), Fault::new(cause, format!("write {key} = {example}")));
    }

    fn string(&mut self, value: Option<Spanned<DeValue<'_>>>, key: &str, example: &str) -> Option<Item> {
        let value = value?;
        match value.get_ref().as_str() {
            Some(text) => Some(self.item(text, value.span())),
            None => {
                self.wrong_type(&value, key, example);
                None
            }
        }
    }

    fn item(&self, text: &str, span: Range<usize>) -> Item {
        let (line, column) = position(self.text, span.start);
        Item { text: text.into(), line, column }
    }

    fn boolean(&mut self, value: Option<Spanned<DeValue<'_>>>, key: &str, default: bool) -> bool {
        let Some(value) = value else { return default };
        value.get_ref().as_bool().unwrap_or_else(|| {
            self.wrong_type(&value, key, "true or false");
            default
        })
    }

    fn strings(&mut self, value: Spanned<DeValue<'_>>, key: &str, example: &str) -> Vec<Item> {
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(&value, key, example);
            return Vec::new();
        };
        let mut items = Vec::with_capacity(array.len());
        for element in array.iter() {
            match element.get_ref().as_str() {
                Some(text) => items.push(self.item(text, element.span())),
                None => self.wrong_type(element, key, example),
            }
        }
        items
    }

    /// The tables of an array of tables, `[[key]]`.
    fn tables<'i>(&mut self, value: Option<Spanned<DeValue<'i>>>, key: &str) -> Vec<Fields<'i>> {
        let Some(value) = value else { return Vec::new() };
        let span = value.span();
        let wrong = Fault::new(format!("{key} is of type {}", value.get_ref().type_str()), format!("write [[{key}]] above its keys"));
        let DeValue::Array(array) = value.into_inner() else {
            self.report(span, wrong);
            return Vec::new();
        };
        let mut tables = Vec::with_capacity(array.len());
        for element in array {
            let span = element.span();
            if let DeValue::Table(table) = element.into_inner() {
                tables.push(Fields { span, table });
            } else {
                self.report(span, wrong.clone());
            }
        }
        if let Some(first) = tables.get(MAX_LISTS) {
            let too_many = Fault::limit(format!("there are {} [[{key}]]", tables.len()), format!("put them into at most {MAX_LISTS}"));
            self.report(first.span.clone(), too_many);
            tables.truncate(MAX_LISTS);
        }
        tables
    }

    fn policy(&mut self, mut top: Fields<'_>) -> Policy {
        let hostname = self.hostname(&mut top);
        let mode = self.mode(&mut top);
        let (loopback, never_block) = self.never_block(&mut top);
        let mut names = Vec::new();
        let lists = self.tables(top.take("list"), "list").into_iter().map(|fields| self.address_list(fields, &mut names)).collect();
        let domains = self.tables(top.take("domains"), "domains").into_iter().map(|fields| self.domain_list(fields, &mut names)).collect();
        self.finish(top, "the policy", "hostname, mode, [never_block], [[list]], [[domains]]");
        Policy { hostname, mode, loopback, never_block, lists, domains }
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
            let fault =
                Fault::new(format!("{} is not a host name", quote(item.text.as_bytes())), format!("write a domain name such as {EXAMPLE}"));
            self.diagnostics.push(fault.at(self.file, item.line, item.column));
            Folded::new()
        })
    }

    fn mode(&mut self, top: &mut Fields<'_>) -> Option<Reply> {
        let item = self.string(top.take("mode"), "mode", "\"open\"")?;
        match item.text.as_str() {
            "open" => None,
            "maintenance" | "draining" | "overloaded" => Reply::named(&item.text),
            "no-mail" => Reply::host_no_mail(),
            _ => {
                let fault = Fault::new(
                    format!("there is no mode {}", quote(item.text.as_bytes())),
                    "write open, maintenance, draining, overloaded or no-mail",
                );
                self.diagnostics.push(fault.at(self.file, item.line, item.column));
                None
            }
        }
    }

    fn never_block(&mut self, top: &mut Fields<'_>) -> (bool, Vec<Item>) {
        const KEYS: &str = "networks, loopback";
        let Some(value) = top.take("never_block") else { return (true, Vec::new()) };
        let span = value.span();
        let wrong = Fault::new(format!("never_block is of type {}", value.get_ref().type_str()), "write [never_block] above its keys");
        let DeValue::Table(table) = value.into_inner() else {
            self.report(span, wrong);
            return (true, Vec::new());
        };
        let mut fields = Fields { span, table };
        let loopback = self.boolean(fields.take("loopback"), "loopback", true);
        let networks = fields.take("networks").map(|value| self.strings(value, "networks", "[\"192.0.2.0/24\"]")).unwrap_or_default();
        self.finish(fields, "[never_block]", KEYS);
        (loopback, networks)
    }

    fn address_list(&mut self, mut fields: Fields<'_>, names: &mut Vec<ListName>) -> AddressList {
        let name = self.name(&mut fields, "list", names);
        let allow = self.boolean(fields.take("allow"), "allow", false);
        let source = self.source(&mut fields, "list", "[\"192.0.2.0/24\"]");
        let given = fields.take("reply");
        let reply = if allow {
            if let Some(value) = given {
                self.report(value.span(), Fault::new("an allow list refuses nobody", "leave out reply, or leave out allow"));
            }
            None
        } else {
            self.reply(given).or_else(|| Reply::named("policy"))
        };
        self.finish(fields, "[[list]]", "name, allow, entries, file, reply");
        AddressList { name, source, reply }
    }

    fn domain_list(&mut self, mut fields: Fields<'_>, names: &mut Vec<ListName>) -> DomainList {
        let name = self.name(&mut fields, "domains", names);
        let source = self.source(&mut fields, "domains", "[\"example.org\"]");
        let kind = self.string(fields.take("kind"), "kind", "\"no-mail\"");
        let kind = match kind.as_ref().map(|item| item.text.as_str()) {
            Some(kind @ ("no-mail" | "null-mx")) => kind,
            None => "no-mail",
            Some(other) => {
                let fault = Fault::new(format!("there is no kind {}", quote(other.as_bytes())), "write no-mail or null-mx");
                self.diagnostics.extend(kind.as_ref().map(|item| fault.at(self.file, item.line, item.column)));
                "no-mail"
            }
        };
        // A reply about one recipient leaves the connection to the others.
        let given = fields.take("reply");
        let reply = self.reply(given).or_else(|| Reply::named(kind)).map(Reply::without_hang_up);
        self.finish(fields, "[[domains]]", "name, entries, file, kind, reply");
        DomainList { name, source, reply }
    }

    /// The name of a list, which no other list has.
    fn name(&mut self, fields: &mut Fields<'_>, key: &str, names: &mut Vec<ListName>) -> ListName {
        let example = "\"example\"";
        let value = fields.take("name");
        let missing = value.is_none();
        let Some(item) = self.string(value, "name", example) else {
            if missing && !self.broken {
                self.report(fields.span.clone(), Fault::new(format!("[[{key}]] has no name"), format!("write name = {example}")));
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
        self.diagnostics.push(fault.at(self.file, item.line, item.column));
        ListName::new()
    }

    fn source(&mut self, fields: &mut Fields<'_>, key: &str, example: &str) -> Source {
        let file_key = fields.take("file");
        match (fields.take("entries"), file_key) {
            (Some(entries), None) => Source::Inline(self.strings(entries, "entries", example)),
            (None, Some(file)) => match self.string(Some(file), "file", "\"lists/example.txt\"") {
                Some(item) => Source::File(item),
                None => Source::Inline(Vec::new()),
            },
            (Some(_), Some(file)) => {
                self.report(file.span(), Fault::new("the list has both entries and a file", "make it two lists"));
                Source::Inline(Vec::new())
            }
            (None, None) => {
                if !self.broken {
                    let remedy = format!("write entries = {example} or file = \"lists/example.txt\"");
                    self.report(fields.span.clone(), Fault::new(format!("[[{key}]] has no entries"), remedy));
                }
                Source::Inline(Vec::new())
            }
        }
    }

    fn reply(&mut self, value: Option<Spanned<DeValue<'_>>>) -> Option<Reply> {
        let item = self.string(value, "reply", "\"policy\" or \"550 5.7.1 Not here\"")?;
        match Reply::parse(&item.text) {
            Ok(reply) => Some(reply),
            Err(fault) => {
                self.diagnostics.push(fault.at(self.file, item.line, item.column));
                None
            }
        }
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
        assert_eq!(policy.mode, Reply::named("maintenance"));
        assert!(policy.loopback);
        assert_eq!(policy.lists[0].reply, None);
        assert_eq!(policy.lists[1].reply, Reply::named("drop"));
        assert_eq!(policy.domains[0].reply, Reply::named("null-mx"));
        assert!(matches!(&policy.lists[0].source, Source::Inline(items) if items[0].text == "192.0.2.1" && items[0].line == 9));
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
            "p:6:1: \"wide\" is not a key of [never_block]; use networks, loopback",
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
