//! What a client really reads: mail servers rewrite what a plugin answers, each in its own way.
//!
//! The facts are a table (`table.rs`), each cell marked as seen on the wire or not. For the control plane: it allocates.
//!
//! ```
//! use mxgate::reply::{Reply, Values};
//! use mxgate::{Rejection, Stage, wire};
//!
//! let reply = Reply::parse("521 5.7.1 Go away").map_err(|fault| fault.cause)?;
//! let rejection = Rejection::of(&reply, &Values { hostname: "mx.example.org", ..Values::default() });
//! let wire = wire::on_wire(wire::Profile::Postfix, Stage::Connect, &rejection, &wire::Envelope::EXAMPLE);
//! assert_eq!(wire.line.as_deref(), Some("554 mx.example.org ESMTP not accepting connections"));
//! assert_eq!(wire.at_mail.as_deref(), Some("521 5.7.1 Go away"));
//! # Ok::<(), String>(())
//! ```

mod table;

use crate::stage::Stage;
use crate::verdict::Rejection;
use std::fmt;
use table::{GREETING, OURS, Row};

/// How long a line of a reply may be before Exim breaks it.
const EXIM_LINE: usize = 75;

/// A mail server and the way in which it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Postfix, by its milter client.
    Postfix,
    /// Postfix, by `check_policy_service` or an access table, with `smtpd_delay_reject = no` and one restriction list for
    /// each stage.
    PostfixPolicy,
    /// Sendmail, by its milter client.
    Sendmail,
    /// Exim, by `${dlfunc...}` in an ACL: `drop` if the reply is to hang up, else `deny`; `defer` for a 4xx.
    Exim,
    /// OpenSMTPD, by a filter: `disconnect` if the reply is to hang up, else `reject`.
    OpenSmtpd,
    /// A host that calls the library and sends the reply itself.
    Abi,
}

/// Whether the client can go on in the same session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// It stays open.
    Kept,
    /// The mail server closes it behind the reply.
    Closed,
}

/// When the client reads the text of the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At the stage at which it is given.
    Now,
    /// Only as the answer to MAIL.
    AtMail,
    /// Not at all.
    Never,
}

/// What a mail server may put before the text of a reply.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// Name and address of the client, as Postfix writes them: `unknown[192.0.2.1]`.
    pub client: &'a str,
    /// Argument of HELO or EHLO.
    pub helo: &'a str,
    /// Sender, without angle brackets.
    pub sender: &'a str,
    /// Recipient, without angle brackets.
    pub recipient: &'a str,
}

/// What becomes of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wire {
    /// The line that the client reads at the stage; `None` if that is the 220 or 250 that everybody gets.
    pub line: Option<String>,
    /// What MAIL is then answered with; `None` if the stage has settled it.
    pub at_mail: Option<String>,
    /// When the client reads the text.
    pub when: When,
    /// What the mail server puts between the status and the text; empty if nothing.
    pub before: String,
    /// Whether the connection outlives it (after MAIL, if that is where the reply comes).
    pub connection: Connection,
    /// What the client does not get as the reply asks for: short sentences without a full stop.
    pub degradations: Vec<String>,
    /// What else there is to know; nothing that the reply asks for is lost by it.
    pub remarks: Vec<String>,
    /// Whether this was seen on the wire, with this code. Else it was read in source code, or follows from how other
    /// codes were treated.
    pub measured: bool,
}

impl Profile {
    /// All of them.
    pub const ALL: [Profile; 6] =
        [Profile::Postfix, Profile::PostfixPolicy, Profile::Sendmail, Profile::Exim, Profile::OpenSmtpd, Profile::Abi];

    /// The name that commands and messages use.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Postfix => "postfix",
            Profile::PostfixPolicy => "postfix-policy",
            Profile::Sendmail => "sendmail",
            Profile::Exim => "exim",
            Profile::OpenSmtpd => "opensmtpd",
            Profile::Abi => "abi",
        }
    }

    /// The profile of that name.
    pub fn named(name: &str) -> Option<Profile> {
        Profile::ALL.into_iter().find(|profile| profile.name() == name)
    }

    /// The program that speaks to the client.
    fn server(self) -> &'static str {
        match self {
            Profile::Postfix | Profile::PostfixPolicy => "Postfix",
            Profile::Sendmail => "Sendmail",
            Profile::Exim => "Exim",
            Profile::OpenSmtpd => "OpenSMTPD",
            Profile::Abi => "the host",
        }
    }

    /// The enhanced status code that the client reads. Postfix corrects one about an address (x.1.x) where no address of
    /// that kind is refused by its restrictions, and does not know all of them (`smtpd_dsn_fix`).
    fn status(self, stage: Stage, status: &str) -> String {
        let (Profile::PostfixPolicy, Some((class, detail))) = (self, status.split_once(".1.")) else { return status.into() };
        let fixed = match (stage, detail) {
            (Stage::Connect | Stage::Helo, _) => "0.0",
            (Stage::Mail, "1" | "3" | "4" | "6" | "7") => "1.7",
            (Stage::Mail, "2" | "8") => "1.8",
            (Stage::Mail, _) => "1.0",
            (Stage::Rcpt, "1" | "2" | "3" | "4" | "5" | "6") => return status.into(),
            (Stage::Rcpt, "7") => "1.3",
            (Stage::Rcpt, "8") => "1.2",
            (Stage::Rcpt, _) => "1.0",
        };
        format!("{class}.{fixed}")
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Envelope<'static> {
    /// Values that stand for any others (RFC 5737, RFC 2606).
    pub const EXAMPLE: Envelope<'static> =
        Envelope { client: "unknown[192.0.2.1]", helo: "client.example", sender: "sender@example.com", recipient: "user@example.org" };
}

/// What a client of that mail server reads if this reply is given at that stage.
pub fn on_wire(profile: Profile, stage: Stage, rejection: &Rejection, envelope: &Envelope<'_>) -> Wire {
    let code = rejection.code;
    let row = table::rows(profile).iter().find(|row| row.stages.contains(&stage) && row.codes.contains(code));
    // Every code of every class has a row, which a test makes sure of.
    let row = row.unwrap_or(&Row {
        stages: &[],
        codes: table::Codes::All,
        line: OURS,
        at_mail: table::NOTHING,
        closes: table::Closes::AsAsked,
        tried: table::Codes::None,
    });
    let fill = |template: &str| fill(template, profile, stage, rejection, envelope);
    let (line, at_mail) = (fill(row.line), fill(row.at_mail));
    let when = match (carries_text(row.line), carries_text(row.at_mail)) {
        (true, _) => When::Now,
        (false, true) => When::AtMail,
        (false, false) => When::Never,
    };
    let ours = if when == When::Now { row.line } else { row.at_mail };
    let before = ours.strip_prefix("{code} {status} ").and_then(|rest| rest.strip_suffix("{text}")).unwrap_or("");
    let closed = row.closes.after(code, rejection.hang_up);
    let mut wire = Wire {
        line,
        at_mail,
        when,
        before: fill(before).map(|text| text.trim_end().to_owned()).unwrap_or_default(),
        connection: if closed { Connection::Closed } else { Connection::Kept },
        degradations: Vec::new(),
        remarks: Vec::new(),
        measured: row.tried.contains(code),
    };
    wire.judge_text(profile, stage, rejection, row);
    wire.judge_connection(profile, stage, rejection.hang_up);
    wire
}

impl Wire {
    /// Says what happens to code, status and text.
    fn judge_text(&mut self, profile: Profile, stage: Stage, rejection: &Rejection, row: &Row) {
        let server = profile.server();
        if !rejection.status.starts_with(|class: char| class.to_digit(10) == Some(u32::from(rejection.code / 100))) {
            self.degradations.push("code and enhanced status code are of different classes: servers throw such a reply away".into());
            self.measured = false;
        }
        let instead = match (&self.line, stage) {
            (Some(line), Stage::Connect) => format!("the greeting is \"{line}\""),
            (Some(line), _) => format!("{server} says \"{line}\""),
            (None, Stage::Connect) => "the client is greeted like any other".into(),
            (None, _) => format!("{} is answered like any other", stage.name().to_ascii_uppercase()),
        };
        match (self.when, &self.at_mail) {
            (When::Now, _) => {}
            (When::AtMail, _) => self.degradations.push(format!("{instead}; the reply comes at MAIL")),
            (When::Never, Some(at_mail)) => self.degradations.push(format!("{instead}; MAIL is answered \"{at_mail}\"; the text is lost")),
            (When::Never, None) => self.degradations.push(format!("{instead}; the text is lost")),
        }
        let status = profile.status(stage, &rejection.status);
        if status != rejection.status.as_str() {
            self.degradations.push(format!("{server} turns the status {} into {status}", rejection.status));
        }
        if profile == Profile::Exim && self.line.as_ref().is_some_and(|line| line.len() > EXIM_LINE) {
            self.remarks.push(format!("Exim sends it in several lines, broken at blanks, since it has more than {EXIM_LINE} characters"));
        }
        if stage == Stage::Connect && row.line.contains("{status}") {
            self.remarks.push("a greeting should not have an enhanced status code (RFC 2034 section 3)".into());
        }
    }

    /// Says what happens to the connection.
    fn judge_connection(&mut self, profile: Profile, stage: Stage, asked: bool) {
        let server = profile.server();
        match (self.connection, asked, stage) {
            (Connection::Kept, false, _) => {}
            (Connection::Kept, true, _) => {
                let why = match profile {
                    Profile::Sendmail => ": Sendmail hangs up after a 421 only",
                    Profile::Exim => ": Exim hangs up after a 5xx only",
                    Profile::Postfix | Profile::PostfixPolicy => ": Postfix hangs up after a 421 or a 521 only",
                    Profile::OpenSmtpd | Profile::Abi => "",
                };
                self.degradations.push(format!("the connection stays open{why}"));
            }
            (Connection::Closed, true, Stage::Rcpt) => {
                self.remarks.push(format!("{server} hangs up after it: other recipients of the message wait for the client's retry"));
            }
            (Connection::Closed, false, Stage::Rcpt) => self.degradations.push(format!(
                "{server} hangs up after it, which the reply does not ask for: other recipients of the message wait for the client's retry"
            )),
            (Connection::Closed, _, _) => self.remarks.push(format!("{server} hangs up after it")),
        }
    }
}

/// Whether a template brings our text to the client.
fn carries_text(template: &str) -> bool {
    template.contains("{text}") || template == GREETING
}

/// A template with its values; `None` if it is empty.
fn fill(template: &str, profile: Profile, stage: Stage, rejection: &Rejection, envelope: &Envelope<'_>) -> Option<String> {
    if template == GREETING {
        return Some(rejection.greeting().to_string());
    }
    // What comes from outside is filled in last, so that braces in it stay what they are.
    let mut filled = template.replace("{code}", &rejection.code.to_string()).replace("{status}", &profile.status(stage, &rejection.status));
    let (head, tail) = match filled.split_once("{text}") {
        Some((head, tail)) => (head.to_owned(), format!("{}{tail}", rejection.text)),
        None => (filled, String::new()),
    };
    filled = head;
    for (name, value) in [
        ("{host}", rejection.host.as_str()),
        ("{client}", envelope.client),
        ("{helo}", envelope.helo),
        ("{sender}", envelope.sender),
        ("{recipient}", envelope.recipient),
    ] {
        // A row has one of these at most.
        if filled.contains(name) {
            filled = filled.replace(name, value);
            break;
        }
    }
    filled.push_str(&tail);
    (!filled.is_empty()).then_some(filled)
}

#[cfg(test)]
mod tests;
