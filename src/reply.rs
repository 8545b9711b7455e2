//! SMTP replies: the named ones, literal ones, and the placeholders in them.
//!
//! A reply is checked once, when the policy is loaded. After that no value can break it: whatever comes
//! into a placeholder is cut and stripped, so that one well-formed line reaches the client (RFC 5321
//! section 4.2, RFC 2034 section 4, RFC 3463).

use crate::diagnostic::{Fault, quote};
use crate::image::{Reader, Stored, Writer};
use crate::line::{Line, Padded};
use arrayvec::ArrayString;

/// Longest text of a reply, without code and enhanced status code, in octets. With `521 5.999.999 ` before
/// it and CR LF behind it a reply stays below the 512 octets of RFC 5321 section 4.5.3.1.5.
pub const MAX_TEXT: usize = 399;
/// Longest value of one placeholder, in octets.
pub const MAX_VALUE: usize = 255;
/// What a client reads where filling in the placeholders left nothing: a reply never lacks its text
/// (CVE-2026-43964: one that does crashes some versions of Postfix).
const NO_TEXT: &str = "Service unavailable";

/// An enhanced status code such as `5.7.1` (RFC 3463).
pub type Status = ArrayString<9>;
/// A text ready for the wire: printable ASCII, one line.
pub type Text = ArrayString<MAX_TEXT>;

/// A reply as the policy states it, placeholders not yet filled in.
///
/// Its text is taken apart once, when it is read: a client who is refused costs a few copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Reply code, 400 to 559.
    pub code: u16,
    /// Enhanced status code of the same class.
    pub status: Status,
    /// Whether the connection is to be closed after the reply.
    pub hang_up: bool,
    /// The status once more.
    shown_status: Padded<16>,
    parts: Vec<Part>,
}

/// A part of a text, and what is to be filled in behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    /// Printable ASCII.
    text: Padded<ROOM_OF_PART>,
    then: Option<Placeholder>,
}

/// Room for the text of a part, with a NUL, so that a part is a cache line.
const ROOM_OF_PART: usize = 62;
const _: () = assert!(size_of::<Part>() == 64);

/// What the text of a reply leaves to be filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Placeholder {
    /// `{ip}`
    Ip,
    /// `{list}`
    List,
    /// `{reason}`
    Reason,
    /// `{domain}`
    Domain,
    /// `{helo}`
    Helo,
    /// `{sender}`
    Sender,
    /// `{hostname}`
    Hostname,
    /// `{id}`
    Id,
    /// `{retry}`
    Retry,
}

/// What the placeholders of a reply stand for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Values<'a> {
    /// `{ip}`: the client's address.
    pub ip: &'a str,
    /// `{list}`: name of the list that decided.
    pub list: &'a str,
    /// `{reason}`: what the list says about the entry.
    pub reason: &'a str,
    /// `{domain}`: domain of the recipient.
    pub domain: &'a str,
    /// `{helo}`: what the client calls itself.
    pub helo: &'a str,
    /// `{sender}`: address of the sender.
    pub sender: &'a str,
    /// `{hostname}`: name of this host.
    pub hostname: &'a str,
    /// `{id}`: name of the question.
    pub id: &'a str,
    /// `{retry}`: when to come back, such as `in 95 seconds` or `later`.
    pub retry: &'a str,
}

/// Names of the placeholders, for messages.
const PLACEHOLDERS: &str = "{ip}, {list}, {reason}, {domain}, {helo}, {sender}, {hostname}, {id}, {retry}";
/// The placeholder of which only a reply that puts off knows anything.
pub(crate) const RETRY: &str = "{retry}";

impl Placeholder {
    const ALL: [(&str, Placeholder); 9] = [
        ("ip", Placeholder::Ip),
        ("list", Placeholder::List),
        ("reason", Placeholder::Reason),
        ("domain", Placeholder::Domain),
        ("helo", Placeholder::Helo),
        ("sender", Placeholder::Sender),
        ("hostname", Placeholder::Hostname),
        ("id", Placeholder::Id),
        ("retry", Placeholder::Retry),
    ];

    fn named(name: &str) -> Option<Placeholder> {
        Placeholder::ALL.iter().find(|row| row.0 == name).map(|row| row.1)
    }

    fn name(self) -> &'static str {
        Placeholder::ALL.iter().find(|row| row.1 == self).map_or("", |row| row.0)
    }
}

impl<'a> Values<'a> {
    fn get(&self, placeholder: Placeholder) -> &'a str {
        match placeholder {
            Placeholder::Ip => self.ip,
            Placeholder::List => self.list,
            Placeholder::Reason => self.reason,
            Placeholder::Domain => self.domain,
            Placeholder::Helo => self.helo,
            Placeholder::Sender => self.sender,
            Placeholder::Hostname => self.hostname,
            Placeholder::Id => self.id,
            Placeholder::Retry => self.retry,
        }
    }
}

/// The replies that a policy can name: name, reply, hang up.
const NAMED: [(&str, &str, bool); 22] = [
    ("policy", "550 5.7.1 Service unavailable; client [{ip}] blocked using {list}", false),
    ("drop", "521 5.7.1 Service unavailable; client [{ip}] blocked using {list}", true),
    ("no-mail", "521 5.3.2 {domain} does not accept mail", false),
    ("null-mx", "556 5.1.10 {domain} does not accept mail", false),
    ("sender-blocked", "550 5.7.1 Sender address rejected: blocked using {list}", false),
    ("sender-null-mx", "550 5.7.27 Sender address has null MX", false),
    ("relay-denied", "550 5.7.1 Relaying denied", false),
    ("internal-only", "550 5.7.1 Recipient address rejected: takes mail from authorized senders only", false),
    // The texts of RFC 7372 section 3, and of RFC 7489 section 10.3. For what may pass at the next attempt these know the
    // code 451 alone: the status is that of the refusal, as Postfix has it for reverse DNS.
    ("spf-fail", "550 5.7.23 SPF validation failed", false),
    ("spf-temperror", "451 4.7.24 SPF validation error", false),
    ("spf-permerror", "550 5.7.24 SPF validation error", false),
    ("dkim-fail", "550 5.7.20 No passing DKIM signature found", false),
    ("dmarc-fail", "550 5.7.1 Email rejected per DMARC policy", false),
    ("dmarc-temperror", "451 4.7.1 DMARC validation error", false),
    ("rdns-fail", "550 5.7.25 Reverse DNS validation failed", false),
    ("rdns-temperror", "451 4.7.25 Reverse DNS validation error", false),
    ("several-fail", "550 5.7.26 Multiple authentication checks failed", false),
    ("maintenance", "421 4.3.2 {hostname} Service not available, maintenance; try again {retry}", true),
    ("draining", "421 4.3.2 {hostname} Service not available, shutting down; try again {retry}", true),
    ("overloaded", "421 4.3.2 {hostname} Service not available, overloaded; try again {retry}", true),
    ("throttle", "421 4.7.0 Too much traffic from [{ip}]; try again {retry}", true),
    ("throttle-soft", "450 4.7.1 Too much mail from [{ip}]; try again {retry}", false),
];

/// What a client reads while this host takes no mail at all (RFC 7504 section 3).
const HOST_NO_MAIL: (&str, bool) = ("521 5.3.2 {hostname} does not accept mail", true);

impl Reply {
    /// Reads the name of a reply (`policy`, `drop`, ...) or a literal one (`550 5.7.1 Not here, {ip}`).
    /// A literal reply hangs up if its code is 421 or 521, as Postfix does by itself.
    pub fn parse(text: &str) -> Result<Reply, Fault> {
        if let Some(reply) = Reply::named(text) {
            return Ok(reply);
        }
        if !text.starts_with(|c: char| c.is_ascii_digit()) {
            let names: Vec<&str> = NAMED.iter().map(|(name, ..)| *name).collect();
            return Err(Fault::new(
                format!("there is no reply named {}", quote(text.as_bytes())),
                format!("write one of {}, or a whole reply such as \"550 5.7.1 Not here\"", names.join(", ")),
            ));
        }
        let (code, status, text) = split(text).ok_or_else(|| {
            Fault::new(
                format!("{} is not a reply", quote(text.as_bytes())),
                "write a code (4xx or 5xx), an enhanced status code of the same class and a text, such as \"550 5.7.1 Not here\"",
            )
        })?;
        check_text(code, text)?;
        Ok(Reply::new(code, status, matches!(code, 421 | 521), text))
    }

    /// The reply that the default table has under a name.
    pub fn named(name: &str) -> Option<Reply> {
        NAMED.iter().find(|row| row.0 == name).and_then(|row| Reply::default_reply(row.1, row.2))
    }

    /// The reply of a host that takes no mail at all.
    pub(crate) fn host_no_mail() -> Option<Reply> {
        Reply::default_reply(HOST_NO_MAIL.0, HOST_NO_MAIL.1)
    }

    fn default_reply(literal: &str, hang_up: bool) -> Option<Reply> {
        let (code, status, text) = split(literal)?;
        Some(Reply::new(code, status, hang_up, text))
    }

    /// Takes a text apart that has passed its check.
    fn new(code: u16, status: Status, hang_up: bool, text: &str) -> Reply {
        let mut reply = Reply { code, status, hang_up, shown_status: Padded::of(status.as_bytes()), parts: Vec::new() };
        for (nth, part) in text.split(['{', '}']).enumerate() {
            match Placeholder::named(part).filter(|_| nth % 2 == 1) {
                Some(placeholder) => reply.push_placeholder(placeholder),
                None => reply.push_text(part.as_bytes()),
            }
        }
        reply
    }

    fn push_text(&mut self, text: &[u8]) {
        for byte in text {
            match self.parts.last_mut().filter(|last| last.then.is_none() && !last.text.is_full()) {
                Some(last) => last.text.push(*byte),
                None => self.parts.push(Part { text: Padded::of(&[*byte]), then: None }),
            }
        }
    }

    fn push_placeholder(&mut self, placeholder: Placeholder) {
        match self.parts.last_mut().filter(|last| last.then.is_none()) {
            Some(last) => last.then = Some(placeholder),
            None => self.parts.push(Part { text: Padded::new(), then: Some(placeholder) }),
        }
    }

    /// The text with its placeholders.
    fn text(&self) -> String {
        let placeholder = |part: &Part| part.then.map_or_else(String::new, |it| format!("{{{}}}", it.name()));
        self.parts.iter().map(|part| String::from_utf8_lossy(part.text.as_bytes()).into_owned() + &placeholder(part)).collect()
    }

    /// The same reply for a list of that name on that host: only what the question says is left to be filled in.
    pub(crate) fn settled(&self, list: &str, hostname: &str) -> Reply {
        let mut settled = Reply { parts: Vec::new(), ..*self };
        for part in &self.parts {
            settled.push_text(part.text.as_bytes());
            match part.then {
                Some(Placeholder::List) => settled.push_text(clean(list.as_bytes()).as_bytes()),
                Some(Placeholder::Hostname) => settled.push_text(clean(hostname.as_bytes()).as_bytes()),
                Some(other) => settled.push_placeholder(other),
                None => {}
            }
        }
        settled
    }

    /// The reply as a policy states it, `550 5.7.1 text`, with its placeholders.
    pub(crate) fn literal(&self) -> String {
        format!("{} {} {}", self.code, self.status, self.text())
    }

    /// Adds where a refused client learns more.
    pub(crate) fn add_contact(&mut self, contact: &str) -> Result<(), Fault> {
        let text = format!("{}; {contact}", self.text());
        check_text(self.code, &text)?;
        *self = Reply::new(self.code, self.status, self.hang_up, &text);
        Ok(())
    }

    /// The same reply, keeping the connection: for a reply that is about one recipient.
    pub(crate) fn without_hang_up(self) -> Reply {
        Reply { hang_up: self.code == 421, ..self }
    }

    /// The same reply with 421, after which the connection is closed: for a reply that puts off.
    pub(crate) fn hanging_up(&self) -> Reply {
        Reply { code: 421, hang_up: true, ..self.clone() }
    }

    /// The status, to be copied as a whole.
    pub(crate) fn shown_status(&self) -> &Padded<16> {
        &self.shown_status
    }

    /// The text with its placeholders filled in: printable ASCII, never empty, at most [`MAX_TEXT`] octets.
    pub fn fill(&self, values: &Values<'_>) -> Text {
        let mut place = [0; MAX_TEXT];
        let mut line = Line::new(&mut place);
        self.fill_in(&mut line, |placeholder, line| line.push_harmless(values.get(placeholder).as_bytes()));
        line.text()
    }

    /// The text before and behind a placeholder, if that is all that is to be filled in, once.
    pub(crate) fn around(&self, placeholder: Placeholder) -> Option<(&[u8], &[u8])> {
        match &self.parts[..] {
            [Part { text: before, then: Some(then) }, Part { text: behind, then: None }] if *then == placeholder => {
                Some((before.as_bytes(), behind.as_bytes()))
            }
            _ => None,
        }
    }

    /// As [`Reply::fill`], into an empty line that has room for [`MAX_TEXT`] octets; `value` appends what a placeholder
    /// stands for, made harmless.
    pub(crate) fn fill_in(&self, line: &mut Line<'_>, mut value: impl FnMut(Placeholder, &mut Line<'_>)) {
        for part in &self.parts {
            line.push_padded(&part.text);
            if let Some(placeholder) = part.then {
                value(placeholder, line);
            }
        }
        if line.as_bytes().iter().all(|byte| *byte == b' ') {
            line.clear();
            line.push(NO_TEXT.as_bytes());
        }
    }
}

impl Stored for Reply {
    fn store(&self, image: &mut Writer) {
        image.text(&self.literal());
        image.number(self.hang_up.into());
    }

    fn restore(image: &mut Reader) -> Option<Reply> {
        let (reply, hang_up) = (Reply::parse(&image.text()?).ok()?, image.number()? != 0);
        Some(Reply { hang_up, ..reply })
    }
}

/// Takes `550 5.7.1 text` apart, if it is that: both codes well-formed and of the same class.
fn split(reply: &str) -> Option<(u16, Status, &str)> {
    let (code, rest) = reply.split_once(' ')?;
    let (status, text) = rest.split_once(' ')?;
    // RFC 5321 section 4.2: Reply-code = %x32-35 %x30-35 %x30-39.
    let code = match code.as_bytes() {
        [b'4' | b'5', b'0'..=b'5', b'0'..=b'9'] => code.parse().ok()?,
        _ => return None,
    };
    // RFC 3463 section 2: class, subject and detail, without leading zeros.
    let mut parts = status.split('.');
    let class = parts.next()?;
    let number =
        |part: &str| matches!(part.len(), 1..=3) && part.bytes().all(|b| b.is_ascii_digit()) && (part == "0" || !part.starts_with('0'));
    let same_class = class.len() == 1 && reply.starts_with(class);
    if !same_class || !number(parts.next()?) || !number(parts.next()?) || parts.next().is_some() {
        return None;
    }
    Some((code, Status::from(status).ok()?, text))
}

/// Checks the text of a literal reply.
fn check_text(code: u16, text: &str) -> Result<(), Fault> {
    if text.trim().is_empty() {
        return Err(Fault::new("the reply has no text", "say after the codes why the mail is not taken"));
    }
    if text.starts_with(|c: char| c.is_ascii_digit()) || text.starts_with("{ip}") {
        return Err(Fault::new(
            "the text of the reply starts with a digit, which some servers take for a code",
            "start with a word, such as \"Client [{ip}] refused\"",
        ));
    }
    if let Some(bad) = text.chars().find(|c| !matches!(c, ' '..='~')) {
        return Err(Fault::new(
            format!("the reply contains {}, which SMTP does not carry", quote(bad.to_string().as_bytes())),
            "use printable ASCII only (RFC 5321 section 4.2)",
        ));
    }
    if text.len() > MAX_TEXT {
        return Err(Fault::new(format!("the text of the reply has {} octets", text.len()), format!("write at most {MAX_TEXT}")));
    }
    if code >= 500 && text.contains(RETRY) {
        return Err(Fault::new(
            format!("the reply is for good, and says with {RETRY} when to come back"),
            "leave that out, or write a code from 400 to 499",
        ));
    }
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (_, from) = rest.split_at(at);
        let name = from.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        match name {
            Some((name, after)) if Placeholder::named(name).is_some() => rest = after,
            _ => {
                return Err(Fault::new(
                    format!("{} is not a placeholder", quote(from.as_bytes())),
                    format!("use {PLACEHOLDERS}, and no other braces"),
                ));
            }
        }
    }
    Ok(())
}

/// A text from a list or a stranger, fit for a reply and for a log line.
pub fn clean(value: &[u8]) -> ArrayString<MAX_VALUE> {
    let mut place = [0; MAX_VALUE];
    let mut line = Line::new(&mut place);
    line.push_harmless(value);
    line.text()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;

    /// What every filled-in reply must be, whatever it was filled with.
    fn well_formed(line: &str) -> bool {
        let Some((code, status, text)) = split(line) else { return false };
        (400..560).contains(&code)
            && !status.is_empty()
            && !text.trim().is_empty()
            && line.len() <= 510
            && line.bytes().all(|b| matches!(b, b' '..=b'~'))
    }

    #[test]
    fn default_replies_are_well_formed_and_pass_the_check_of_literal_ones() {
        let values = Values {
            helo: "",
            ip: "192.0.2.7",
            list: "example",
            reason: "spam",
            domain: "example.org",
            sender: "a@s.example",
            hostname: "mx.example.org",
            id: "K7Q2M4X0",
            retry: "in 95 seconds",
        };
        for (name, literal, hang_up) in NAMED.into_iter().chain([("", HOST_NO_MAIL.0, HOST_NO_MAIL.1)]) {
            let reply = Reply::default_reply(literal, hang_up).unwrap();
            let line = format!("{} {} {}", reply.code, reply.status, reply.fill(&values));
            assert!(well_formed(&line), "{name}: {line}");
            assert_eq!(Reply::parse(literal).map(|r| r.text()), Ok(reply.text()), "{name}");
            assert_eq!(reply.literal(), literal);
        }
        assert_eq!(Reply::parse("policy").unwrap().fill(&values).as_str(), "Service unavailable; client [192.0.2.7] blocked using example");
    }

    #[test]
    fn literal_replies() {
        let reply = Reply::parse("554 5.7.1 No; {reason} 100% ({ip})").unwrap();
        assert_eq!((reply.code, reply.status.as_str(), reply.hang_up), (554, "5.7.1", false));
        assert_eq!(
            reply.fill(&Values { ip: "192.0.2.1", reason: "50% off", ..Values::default() }).as_str(),
            "No; 50? off 100% (192.0.2.1)"
        );
        assert!(Reply::parse("421 4.7.0 slow down").unwrap().hang_up);
        for (text, cause) in [
            ("polizy", "no reply named"),
            ("550", "not a reply"),
            ("550 5.7.1", "not a reply"),
            ("550 5.7.1 ", "no text"),
            ("550 4.7.1 no", "not a reply"),
            ("250 2.0.0 ok", "not a reply"),
            ("560 5.7.1 no", "not a reply"),
            ("550 5.7 no", "not a reply"),
            ("550 5.7.1.1 no", "not a reply"),
            ("550 5.7000.1 no", "not a reply"),
            ("550 5.07.1 no", "not a reply"),
            ("550-5.7.1 no", "not a reply"),
            ("550 no", "not a reply"),
            ("550 5.7.1 1st", "starts with a digit"),
            ("550 5.7.1 {ip} no", "starts with a digit"),
            ("550 5.7.1 n\u{f6}", "SMTP does not carry"),
            ("550 5.7.1 a\r\n250 ok", "SMTP does not carry"),
            ("550 5.7.1 {who}", "not a placeholder"),
            ("550 5.7.1 {ip", "not a placeholder"),
            ("550 5.7.1 ip}", "not a placeholder"),
            ("550 5.7.1 Come back {retry}", "the reply is for good"),
        ] {
            assert!(Reply::parse(text).unwrap_err().cause.contains(cause), "{text}: {:?}", Reply::parse(text));
        }
        assert!(Reply::parse(&format!("550 5.7.1 {}", "x".repeat(MAX_TEXT))).is_ok());
        assert!(Reply::parse(&format!("550 5.7.1 {}", "x".repeat(MAX_TEXT + 1))).unwrap_err().cause.contains("octets"));
    }

    #[test]
    fn no_value_breaks_the_line() {
        let reply = Reply::parse("550 5.7.1 {reason}{domain}{list}{sender}").unwrap();
        let long = "x".repeat(2000);
        for value in ["", " ", "a\r\n250 2.1.5 Ok", "%s%n%%", "\0", "\u{fc}\u{20ac}", "\x1b[31m", "{ip}", &long, "4.2.2 x"] {
            let line = format!(
                "550 5.7.1 {}",
                reply.fill(&Values { reason: value, domain: value, list: value, sender: value, ..Values::default() })
            );
            assert!(well_formed(&line), "{value:?}: {line:?}");
            assert!(!line.contains('%'), "{line}");
        }
    }

    /// What a text is with its placeholders filled in, byte by byte by the definition.
    fn filled_in(text: &str, values: &Values<'_>) -> String {
        let harmless = |value: &str| -> String {
            let byte = |byte: u8| match byte {
                b'\t' | b'\n' | b'\r' => ' ',
                b' '..=b'~' if byte != b'%' => char::from(byte),
                _ => '?',
            };
            value.bytes().take(MAX_VALUE).map(byte).collect()
        };
        let (mut filled, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').unwrap();
            filled = filled + before + &harmless(values.get(Placeholder::named(name).unwrap()));
            rest = after;
        }
        filled += rest;
        filled.truncate(MAX_TEXT);
        if filled.trim().is_empty() { NO_TEXT.into() } else { filled }
    }

    #[test]
    fn a_text_that_was_taken_apart_is_filled_in_as_by_the_definition() {
        let mut runner = TestRunner::default();
        let literal = || "[ -$&-z|~]{0,30}".prop_map(|text| text.replace(['{', '}'], ""));
        let placeholder = proptest::sample::select(&Placeholder::ALL[..]).prop_map(|(name, _)| format!("{{{name}}}"));
        let text = (literal(), proptest::collection::vec((placeholder, literal()), 0..5));
        let value = || prop_oneof!["[ -~]{0,40}", " {0,300}", "\\PC{0,300}", any::<String>()];
        let values = proptest::array::uniform9(value());
        let checked = runner.run(&(text, values), |((first, parts), values)| {
            let text = parts.into_iter().fold(first, |text, (placeholder, literal)| text + &placeholder + &literal);
            let [ip, list, reason, domain, helo, sender, hostname, id, retry] = &values;
            let values = Values { ip, list, reason, domain, helo, sender, hostname, id, retry };
            let reply = Reply::new(550, Status::from("5.7.1").unwrap(), false, &text);
            prop_assert_eq!(reply.text(), text.clone());
            let filled = reply.fill(&values);
            prop_assert_eq!(filled.as_str(), filled_in(&text, &values));
            Ok(())
        });
        checked.unwrap();
    }

    #[test]
    fn clean_keeps_what_is_harmless() {
        assert_eq!(clean(b"SBL123 https://example.org/?q=1").as_str(), "SBL123 https://example.org/?q=1");
        assert_eq!(clean(b"a\tb\xff\x00%").as_str(), "a b???");
    }
}
