//! The rules about senders and recipients: `[[senders]]`, `[[recipients]]`, `[relay]`, `[authentication]`.

use super::fields::{Fields, Reader, Value, one_of};
use super::{Conduct, EXEMPT, Exempt, GUARDS, Guards, Item, ListName, Policy, SOURCE, Source};
use crate::diagnostic::{Fault, quote};
use crate::facts::AuthResult;
use crate::reply::Reply;

/// A `[[domains]]`, a `[[senders]]` or a `[[recipients]]`.
#[derive(Debug)]
pub(crate) struct NameList {
    pub name: ListName,
    pub source: Source,
    pub conduct: Conduct,
    /// Of which lists its recipients have opted out.
    pub opt_out: Exempt,
}

/// `[relay]`: for whom mail is taken to be passed on.
#[derive(Debug, Default)]
pub(crate) struct Relay {
    /// Domains whose mailboxes are here; `None` if the policy does not say.
    pub local: Option<Vec<Item>>,
    /// Domains that mail is passed on to, whoever sends it.
    pub relay: Option<Vec<Item>>,
    /// Networks whose clients may write to everybody.
    pub trusted: Vec<Item>,
    /// Local parts that name a way on are taken from everybody.
    pub routing: bool,
    pub reply: Option<Reply>,
}

/// `[authentication]`: what becomes of messages by what SPF, DKIM, DMARC and reverse DNS came to.
#[derive(Debug, Default)]
pub(crate) struct Authentication {
    pub rules: Vec<AuthRule>,
    /// The reply where more than one check has failed.
    pub several: Option<Reply>,
    /// It is only watched: what it would refuse is counted.
    pub shadow: bool,
    /// Who is passed over.
    pub exempt: Exempt,
}

/// What becomes of messages of which one check came to one result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuthRule {
    /// The key of the policy.
    pub key: &'static str,
    pub check: Check,
    pub result: AuthResult,
    pub reply: Reply,
}

/// An authentication check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    Spf,
    Dkim,
    Dmarc,
    Rdns,
}

const MAILBOXES: &str = "[\"user@example.org\", \".example.net\"]";
const DOMAINS: &str = "[\"example.org\", \".example.net\"]";
/// Whom rules about senders and recipients, and authentication, can pass over.
pub(super) const EXEMPT_RCPT: [(&str, Exempt); 5] =
    [EXEMPT[0], EXEMPT[1], EXEMPT[2], ("trusted", Exempt::TRUSTED), ("allowed", Exempt::ALLOWED)];

/// A `[[recipients]]` whose opt-outs are not yet known to be lists.
pub(super) struct RecipientList {
    list: NameList,
    opt_out: Vec<Item>,
}

/// A key of `[authentication]`: what it is about, and the replies that its words stand for.
struct AuthKey {
    key: &'static str,
    check: Check,
    result: AuthResult,
    reject: Option<&'static str>,
    defer: Option<&'static str>,
}

const fn auth_key(key: &'static str, check: Check, result: AuthResult, reject: &'static str) -> AuthKey {
    AuthKey { key, check, result, reject: Some(reject), defer: None }
}

const fn defer_key(key: &'static str, check: Check, defer: &'static str) -> AuthKey {
    AuthKey { key, check, result: AuthResult::Temperror, reject: None, defer: Some(defer) }
}

/// In the order in which they decide, if none of them refuses for good.
const AUTH_KEYS: [AuthKey; 9] = [
    auth_key("spf_fail", Check::Spf, AuthResult::Fail, "spf-fail"),
    auth_key("spf_softfail", Check::Spf, AuthResult::Softfail, "spf-fail"),
    AuthKey { defer: Some("spf-temperror"), ..auth_key("spf_permerror", Check::Spf, AuthResult::Permerror, "spf-permerror") },
    defer_key("spf_temperror", Check::Spf, "spf-temperror"),
    auth_key("dkim_fail", Check::Dkim, AuthResult::Fail, "dkim-fail"),
    auth_key("dmarc_fail", Check::Dmarc, AuthResult::Fail, "dmarc-fail"),
    defer_key("dmarc_temperror", Check::Dmarc, "dmarc-temperror"),
    auth_key("rdns_fail", Check::Rdns, AuthResult::Fail, "rdns-fail"),
    defer_key("rdns_temperror", Check::Rdns, "rdns-temperror"),
];

impl Reader<'_> {
    pub(super) fn sender_list(&mut self, mut fields: Fields<'_>, guards: &Guards, names: &mut Vec<ListName>) -> NameList {
        let name = self.name(&mut fields, "senders", names);
        if let Some(value) = fields.take("allow") {
            let fault = Fault::new(
                "a sender cannot be allowed: anybody can write any sender into a message",
                "leave it out, and allow the address of the client in a [[list]]",
            );
            self.report(value.span(), fault);
        }
        let source = self.source(&mut fields, "senders", MAILBOXES, guards);
        let kinds = [("block", "sender-blocked"), ("null-mx", "sender-null-mx")];
        let kind = self.choice(fields.take("kind"), "kind", &kinds).unwrap_or("sender-blocked");
        let conduct = self.name_conduct(&mut fields, kind, Exempt::DEFAULT);
        self.finish(fields, "[[senders]]", &format!("name, {SOURCE}, kind, reply, enforce, exempt, {GUARDS}"));
        NameList { name, source, conduct, opt_out: Exempt::default() }
    }

    pub(super) fn recipient_list(&mut self, mut fields: Fields<'_>, guards: &Guards, names: &mut Vec<ListName>) -> RecipientList {
        let name = self.name(&mut fields, "recipients", names);
        let source = self.source(&mut fields, "recipients", MAILBOXES, guards);
        let kind = self.choice(fields.take("kind"), "kind", &[("internal-only", "internal-only")]);
        let opt_out = self.strings(fields.take("opt_out"), "opt_out", "[\"name of a list\"]");
        let mut conduct = Conduct::default();
        if let Some(kind) = kind {
            conduct = self.name_conduct(&mut fields, kind, Exempt::DEFAULT.and(Exempt::TRUSTED));
            // A reply about one recipient leaves the connection to the others.
            conduct.reply = conduct.reply.map(Reply::without_hang_up);
        } else if opt_out.is_none() && !self.broken {
            let fault = Fault::new("[[recipients]] does nothing", "write kind = \"internal-only\" or opt_out = [\"name of a list\"]");
            self.report(fields.span.clone(), fault);
        }
        let known = if kind.is_some() { "kind, opt_out, reply, enforce, exempt" } else { "kind, opt_out" };
        self.finish(fields, "[[recipients]]", &format!("name, {SOURCE}, {known}, {GUARDS}"));
        RecipientList { list: NameList { name, source, conduct, opt_out: Exempt::default() }, opt_out: opt_out.unwrap_or_default() }
    }

    fn name_conduct(&mut self, fields: &mut Fields<'_>, reply: &str, exempt: Exempt) -> Conduct {
        let given = fields.take("reply");
        Conduct {
            reply: self.reply(given).or_else(|| Reply::named(reply)),
            shadow: !self.boolean(fields.take("enforce"), "enforce", true),
            exempt: self.exempt(fields, &EXEMPT_RCPT, exempt),
            ..Conduct::default()
        }
    }

    /// Gives each list that a recipient opts out of a bit of its own: it passes over whom has that bit.
    pub(super) fn opt_outs(&mut self, recipients: Vec<RecipientList>, policy: &mut Policy) -> Vec<NameList> {
        let mut known: Vec<ListName> = Vec::new();
        let mut lists = Vec::with_capacity(recipients.len());
        for RecipientList { mut list, opt_out } in recipients {
            for item in opt_out {
                let at = known.iter().position(|name| name.as_str() == item.text).unwrap_or(known.len());
                let Some(bit) = Exempt::opted_out(at) else {
                    let cause = format!("recipients opt out of more than {} lists", Exempt::MAX_OPT_OUTS);
                    self.report_at(&item, Fault::limit(cause, "make one list of several"));
                    return lists;
                };
                match policy.opt_out(&item.text) {
                    Ok((name, conduct)) => {
                        conduct.exempt = conduct.exempt.and(bit);
                        if at == known.len() {
                            known.push(name);
                        }
                        list.opt_out = list.opt_out.and(bit);
                    }
                    Err(fault) => self.report_at(&item, fault),
                }
            }
            lists.push(list);
        }
        lists
    }

    pub(super) fn relay(&mut self, top: &mut Fields<'_>) -> Relay {
        let Some(mut fields) = self.table(top.take("relay"), "relay") else { return Relay::default() };
        let given = fields.take("reply");
        let relay = Relay {
            local: self.strings(fields.take("local"), "local", DOMAINS),
            relay: self.strings(fields.take("relay"), "relay", DOMAINS),
            trusted: self.strings(fields.take("trusted"), "trusted", "[\"192.0.2.0/24\"]").unwrap_or_default(),
            routing: self.boolean(fields.take("routing"), "routing", false),
            reply: self.reply(given).or_else(|| Reply::named("relay-denied")).map(Reply::without_hang_up),
        };
        self.finish(fields, "[relay]", "local, relay, trusted, routing, reply");
        relay
    }

    pub(super) fn authentication(&mut self, top: &mut Fields<'_>) -> Authentication {
        let Some(mut fields) = self.table(top.take("authentication"), "authentication") else { return Authentication::default() };
        let mut rules = Vec::new();
        for AuthKey { key, check, result, reject, defer } in AUTH_KEYS {
            let words = [reject.map(|reply| ("reject", reply)), defer.map(|reply| ("defer", reply))];
            let words: Vec<_> = words.into_iter().flatten().collect();
            if let Some(reply) = self.auth_reply(fields.take(key), key, &words) {
                rules.push(AuthRule { key, check, result, reply });
            }
        }
        let several = match fields.take("several_fail") {
            None => Reply::named("several-fail"),
            given => self.auth_reply(given, "several_fail", &[("reject", "several-fail")]),
        };
        let shadow = !self.boolean(fields.take("enforce"), "enforce", true);
        let exempt = Exempt::DEFAULT.and(Exempt::TRUSTED).and(Exempt::ALLOWED);
        let exempt = self.exempt(&mut fields, &EXEMPT_RCPT, exempt);
        let keys: Vec<&str> = AUTH_KEYS.iter().map(|key| key.key).collect();
        self.finish(fields, "[authentication]", &format!("{}, several_fail, enforce, exempt", keys.join(", ")));
        Authentication { rules, several, shadow, exempt }
    }

    /// What one result becomes: `ignore`, a word that stands for a reply, or a whole reply.
    fn auth_reply(&mut self, value: Option<Value<'_>>, key: &str, words: &[(&str, &str)]) -> Option<Reply> {
        let item = self.string(value, key, "\"ignore\"")?;
        if item.text == "ignore" {
            return None;
        }
        if let Some((_, reply)) = words.iter().find(|(word, _)| *word == item.text) {
            return Reply::named(reply);
        }
        let fault = if item.text.starts_with(|c: char| c.is_ascii_digit()) {
            match Reply::parse(&item.text) {
                // The next attempt may pass.
                Ok(reply) if reply.code >= 500 && !words.iter().any(|(word, _)| *word == "reject") => {
                    Fault::new(format!("{key} is no reason to refuse for good"), "write a reply with a code from 400 to 499")
                }
                Ok(reply) => return Some(reply),
                Err(fault) => fault,
            }
        } else {
            let names: Vec<&str> = ["ignore"].into_iter().chain(words.iter().map(|(word, _)| *word)).collect();
            let cause = format!("there is no {key} {}", quote(item.text.as_bytes()));
            Fault::new(cause, format!("write {}, or a whole reply", one_of(&names)))
        };
        self.report_at(&item, fault);
        None
    }
}

impl Policy {
    /// The list that recipients opt out of.
    fn opt_out(&mut self, name: &str) -> Result<(ListName, &mut Conduct), Fault> {
        let quoted = quote(name.as_bytes());
        if self.domains.iter().any(|list| list.name.as_str() == name) {
            let fault =
                Fault::new(format!("nobody can opt out of {quoted}: there is no mailbox to reach"), "take the domain off that list");
            return Err(fault);
        }
        let mut lists = self.lists.iter_mut().map(|list| (list.name, list.allow, &mut list.conduct));
        let mut senders = self.senders.iter_mut().map(|list| (list.name, false, &mut list.conduct));
        let found = lists.find(|(found, ..)| found.as_str() == name).or_else(|| senders.find(|(found, ..)| found.as_str() == name));
        match found {
            Some((_, true, _)) => Err(Fault::new(format!("{quoted} is an allow list, which refuses nobody"), "name block lists")),
            Some((name, false, conduct)) => Ok((name, conduct)),
            None => Err(Fault::new(format!("there is no list named {quoted}"), "write the name of a [[list]] or a [[senders]]")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    fn messages(text: &str) -> Vec<String> {
        let (_, diagnostics) = parse(&format!("hostname = \"h\"\n{text}"), &"p".into());
        diagnostics.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn mistakes_are_shown_with_their_remedy() {
        for (text, part) in [
            ("[[senders]]\nname=\"s\"\nentries=[]\nallow=true", "p:5:7: a sender cannot be allowed: anybody can write any sender"),
            ("[[senders]]\nname=\"s\"\nentries=[]\nkind=\"x\"", "p:5:6: there is no kind \"x\"; write block or null-mx"),
            ("[[senders]]\nname=\"s\"\nentries=[]\nat=\"rcpt\"", "p:5:1: \"at\" is not a key of [[senders]]; use name, entries"),
            (
                "[[senders]]\nname=\"s\"\nentries=[]\nexempt=[\"x\"]",
                "\"x\" cannot be exempt; write authenticated, postmaster, abuse, trusted or allowed",
            ),
            ("[[recipients]]\nname=\"r\"\nentries=[]", "p:2:1: [[recipients]] does nothing; write kind = \"internal-only\" or opt_out"),
            ("[[recipients]]\nname=\"r\"\nentries=[]\nopt_out=[]\nreply=\"drop\"", "\"reply\" is not a key of [[recipients]]"),
            (
                "[[recipients]]\nname=\"r\"\nentries=[]\nopt_out=[\"x\"]",
                "p:5:10: there is no list named \"x\"; write the name of a [[list]]",
            ),
            (
                "[[list]]\nname=\"a\"\nallow=true\nentries=[]\n[[recipients]]\nname=\"r\"\nentries=[]\nopt_out=[\"a\"]",
                "\"a\" is an allow list",
            ),
            ("[[domains]]\nname=\"a\"\nentries=[]\n[[recipients]]\nname=\"r\"\nentries=[]\nopt_out=[\"a\"]", "nobody can opt out of \"a\""),
            ("[relay]\nlocals=[]", "\"locals\" is not a key of [relay]; use local, relay, trusted, routing, reply"),
            ("[relay]\nlocal=\"example.org\"", "local is of type string; write local = [\"example.org\", \".example.net\"]"),
            ("[authentication]\nspf_fail=\"defer\"", "there is no spf_fail \"defer\"; write ignore or reject, or a whole reply"),
            ("[authentication]\nspf_permerror=\"x\"", "there is no spf_permerror \"x\"; write ignore, reject or defer, or a whole reply"),
            (
                "[authentication]\nspf_temperror=\"550 5.7.24 no\"",
                "spf_temperror is no reason to refuse for good; write a reply with a code from 400",
            ),
            (
                "[authentication]\ndmarc_temperror=\"reject\"",
                "there is no dmarc_temperror \"reject\"; write ignore or defer, or a whole reply",
            ),
            ("[authentication]\nrdns_temperror=\"550 5.7.25 no\"", "rdns_temperror is no reason to refuse for good"),
            ("[authentication]\nenforce=\"no\"", "enforce is of type string; write enforce = true or false"),
            ("[authentication]\nspf_fail=\"550 no\"", "\"550 no\" is not a reply"),
            ("[authentication]\nspf=\"fail\"", "\"spf\" is not a key of [authentication]; use spf_fail, spf_softfail,"),
        ] {
            let shown = messages(text);
            assert!(shown.len() == 1 && shown[0].contains(part), "{part} in {shown:#?}");
        }
        let lists = |count| (0..count).map(|n| format!("[[list]]\nname=\"l{n}\"\nentries=[]\n")).collect::<String>();
        let names = |count| (0..count).map(|n| format!("\"l{n}\", \"l{n}\",")).collect::<String>();
        let policy = |count| format!("{}[[recipients]]\nname=\"r\"\nentries=[]\nopt_out=[{}]", lists(count), names(count));
        assert_eq!(messages(&policy(120)), [""; 0]);
        assert!(messages(&policy(121))[0].contains("opt out of more than 120 lists"));
    }
}
