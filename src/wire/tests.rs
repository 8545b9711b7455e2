//! The table says something about every case, and about the well-known ones what is known. `tests/wire.rs` compares it
//! with a real Postfix.

use super::*;
use crate::reply::{Reply, Text, Values};

fn rejection(reply: &str) -> Rejection {
    Rejection::of(&Reply::parse(reply).unwrap(), &Values { hostname: "mx.example.org", ..Values::default() })
}

fn wire(profile: Profile, stage: Stage, reply: &str) -> Wire {
    on_wire(profile, stage, &rejection(reply), &Envelope::EXAMPLE)
}

#[test]
fn there_is_a_row_for_every_code_at_every_stage_and_none_in_vain() {
    for profile in Profile::ALL {
        assert_eq!(Profile::named(profile.name()), Some(profile));
        let mut used = vec![false; table::rows(profile).len()];
        for (stage, code) in Stage::ALL.into_iter().flat_map(|stage| (400..560).map(move |code| (stage, code))) {
            let row = table::rows(profile).iter().position(|row| row.stages.contains(&stage) && row.codes.contains(code));
            used[row.unwrap_or_else(|| panic!("{profile} {stage} {code}"))] = true;
        }
        assert!(used.iter().all(|used| *used), "{profile}: {used:?}");
    }
}

#[test]
fn what_is_known() {
    use Connection::{Closed, Kept};
    use Profile::{Abi, Exim, OpenSmtpd, Postfix, PostfixPolicy, Sendmail};
    use Stage::{Connect, Helo, Mail, Rcpt};
    for (profile, stage, reply, line, at_mail, connection) in [
        (Postfix, Connect, "550 5.7.1 No", "554 mx.example.org ESMTP not accepting connections", "550 5.7.1 No", Kept),
        (Postfix, Connect, "521 5.7.1 No", "554 mx.example.org ESMTP not accepting connections", "521 5.7.1 No", Closed),
        (Postfix, Connect, "421 4.7.0 No", "421 mx.example.org Service unavailable - try again later", "", Closed),
        (Postfix, Connect, "450 4.7.1 No", "", "450 4.7.1 No", Kept),
        (Postfix, Helo, "421 4.7.0 No", "421 4.7.0 No", "", Closed),
        (Postfix, Helo, "521 5.7.1 No", "", "521 5.7.1 No", Closed),
        (Postfix, Rcpt, "521 5.7.1 No", "521 5.7.1 No", "", Closed),
        (Postfix, Rcpt, "556 5.1.10 No", "556 5.1.10 No", "", Kept),
        (PostfixPolicy, Connect, "521 5.3.2 No", "521 5.3.2 <unknown[192.0.2.1]>: Client host rejected: No", "", Closed),
        (PostfixPolicy, Rcpt, "556 5.1.10 No", "556 5.1.0 <user@example.org>: Recipient address rejected: No", "", Kept),
        (Sendmail, Connect, "550 5.7.1 No", "554 mx.example.org ESMTP not accepting messages", "550 5.0.0 Command rejected", Kept),
        (Sendmail, Connect, "421 4.3.2 No", "421 4.7.0 mx.example.org closing connection", "", Closed),
        (Sendmail, Connect, "450 4.7.1 No", "", "451 4.3.2 Please try again later", Kept),
        (Sendmail, Mail, "553 5.7.1 No", "553 5.7.1 <sender@example.com>... No", "", Kept),
        (Sendmail, Rcpt, "550 5.7.1 No", "550 5.7.1 <user@example.org>... No", "", Kept),
        (Sendmail, Rcpt, "521 5.7.1 No", "521 5.7.1 No", "", Kept),
        (Sendmail, Rcpt, "421 4.7.0 No", "421 4.7.0 No", "", Closed),
        (Exim, Connect, "521 5.3.2 No", "521 mx.example.org No", "", Closed),
        (Exim, Rcpt, "521 5.7.1 No", "521 5.7.1 No", "", Closed),
        (Exim, Rcpt, "421 4.7.0 No", "421 4.7.0 No", "", Kept),
        (OpenSmtpd, Rcpt, "421 4.7.0 No", "421 4.7.0 No", "", Closed),
        (OpenSmtpd, Connect, "550 5.7.1 No", "554 mx.example.org No", "", Kept),
        (Abi, Connect, "550 5.7.1 No", "554 mx.example.org No", "", Kept),
        (Abi, Rcpt, "521 5.7.1 No", "521 5.7.1 No", "", Closed),
    ] {
        let wire = wire(profile, stage, reply);
        let read = (wire.line.as_deref().unwrap_or(""), wire.at_mail.as_deref().unwrap_or(""), wire.connection);
        assert_eq!(read, (line, at_mail, connection), "{profile} {stage} {reply}");
    }
}

#[test]
fn what_is_lost_is_said_and_what_is_not_lost_is_no_degradation() {
    let degradations = |profile, stage, reply| wire(profile, stage, reply).degradations.join(" | ");
    let none = "";
    for (profile, stage, reply, expected) in [
        (Profile::Postfix, Stage::Rcpt, "550 5.7.1 No", none),
        (Profile::Postfix, Stage::Rcpt, "521 5.7.1 No", none),
        (Profile::Sendmail, Stage::Rcpt, "550 5.7.1 No", none),
        (Profile::Sendmail, Stage::Rcpt, "521 5.7.1 No", "the connection stays open: Sendmail hangs up after a 421 only"),
        (Profile::Postfix, Stage::Helo, "550 5.7.1 No", "HELO is answered like any other; the reply comes at MAIL"),
        (
            Profile::Sendmail,
            Stage::Connect,
            "450 4.7.1 No",
            "the client is greeted like any other; MAIL is answered \"451 4.3.2 Please try again later\"; the text is lost",
        ),
        (Profile::PostfixPolicy, Stage::Connect, "550 5.7.1 No", none),
        (Profile::PostfixPolicy, Stage::Rcpt, "556 5.1.10 No", "Postfix turns the status 5.1.10 into 5.1.0"),
        (Profile::Abi, Stage::Connect, "450 4.7.1 No", none),
    ] {
        assert_eq!(degradations(profile, stage, reply), expected, "{profile} {stage} {reply}");
    }
    // A reply about one recipient ends the session of them all.
    let mut about_one = rejection("521 5.3.2 No");
    about_one.hang_up = false;
    let wire = on_wire(Profile::Postfix, Stage::Rcpt, &about_one, &Envelope::EXAMPLE);
    assert!(wire.degradations[0].contains("does not ask for: other recipients"), "{wire:?}");
    let mut mixed = rejection("550 5.7.1 No");
    mixed.code = 450;
    assert!(on_wire(Profile::Postfix, Stage::Rcpt, &mixed, &Envelope::EXAMPLE).degradations[0].contains("different classes"));
}

#[test]
fn exim_breaks_long_lines() {
    let reply = |length: usize| format!("550 5.7.1 {}", "x".repeat(length - 10));
    for (profile, length, broken) in [(Profile::Exim, 75, false), (Profile::Exim, 76, true), (Profile::OpenSmtpd, 200, false)] {
        let remarks = wire(profile, Stage::Rcpt, &reply(length)).remarks.join(" | ");
        assert_eq!(remarks.contains("in several lines"), broken, "{profile} {length}: {remarks}");
    }
}

#[test]
fn what_stands_before_the_text() {
    assert_eq!(wire(Profile::Sendmail, Stage::Rcpt, "550 5.7.1 No").before, "<user@example.org>...");
    assert_eq!(wire(Profile::PostfixPolicy, Stage::Helo, "550 5.7.1 No").before, "<client.example>: Helo command rejected:");
    assert_eq!(wire(Profile::Postfix, Stage::Connect, "550 5.7.1 No").before, "");
}

#[test]
fn what_was_not_seen_says_so() {
    assert!(wire(Profile::Postfix, Stage::Rcpt, "450 4.7.1 No").measured);
    assert!(!wire(Profile::Postfix, Stage::Rcpt, "552 5.7.1 No").measured);
    assert!(wire(Profile::Sendmail, Stage::Connect, "450 4.7.1 No").measured);
    assert!(!wire(Profile::Sendmail, Stage::Connect, "552 5.7.1 No").measured);
    assert!(wire(Profile::Exim, Stage::Connect, "521 5.3.2 No").measured);
    assert!(!wire(Profile::Exim, Stage::Mail, "550 5.7.1 No").measured);
    assert!(wire(Profile::OpenSmtpd, Stage::Rcpt, "550 5.7.1 No").measured);
    assert!(!wire(Profile::OpenSmtpd, Stage::Helo, "550 5.7.1 No").measured);
    assert!(wire(Profile::Abi, Stage::Rcpt, "550 5.7.1 No").measured);
}

#[test]
fn braces_in_a_value_stay_what_they_are() {
    let envelope = Envelope { recipient: "{text}{code}@example.org", ..Envelope::EXAMPLE };
    let odd = Rejection { text: Text::from("No {host}{status}").unwrap(), ..rejection("550 5.7.1 No") };
    let wire = on_wire(Profile::Sendmail, Stage::Rcpt, &odd, &envelope);
    assert_eq!(wire.line.unwrap(), "550 5.7.1 <{text}{code}@example.org>... No {host}{status}");
}
