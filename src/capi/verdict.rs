//! What a check came to: `struct mxgate_verdict`, and the reply that it means.

use super::strings::{Output, bytes_of, put, put_padded, string_in, write_line, written};
use super::{MXGATE_ACCEPT, MXGATE_REJECT};
use crate::address::ShownV4;
use crate::contents::Entry;
use crate::decision::{Answer, By};
use crate::domain::{Folded, Form, MAX_NAME};
use crate::gate::{Common, Head, Prepared, Refusal, RefusedPlace, VERY_SHORT};
use crate::line::{SHORT, write_at, write_text_at};
use crate::mailbox::MAX_MAILBOX;
use crate::networks::EntryId;
use crate::reply::{MAX_TEXT, MAX_VALUE, Status, Text};
use crate::stage::Stage;
use crate::verdict::{Decider, MAX_LIST_NAME, Rejection};
use arrayvec::ArrayString;
use libc::{c_char, c_int};
use std::fmt::Write;

/// What decided: no rule matched. Values of mxgate_verdict.decider; later
/// releases may add some.
pub const MXGATE_BY_NOTHING: u16 = 0;

/// What decided: the mode (maintenance, draining, overloaded, no-mail).
pub const MXGATE_BY_MODE: u16 = 1;

/// What decided: the never-block set.
pub const MXGATE_BY_NEVER_BLOCK: u16 = 2;

/// What decided: an allow list.
pub const MXGATE_BY_ALLOW: u16 = 3;

/// What decided: a block list.
pub const MXGATE_BY_BLOCK: u16 = 4;

/// What decided: a rule about the recipient's domain.
pub const MXGATE_BY_DOMAIN: u16 = 5;

/// What decided: a rule about the sender.
pub const MXGATE_BY_SENDER: u16 = 6;

/// What decided: the relay rule.
pub const MXGATE_BY_RELAY: u16 = 7;

/// What decided: a rule about the recipient.
pub const MXGATE_BY_RECIPIENT: u16 = 8;

/// What decided: what SPF, DKIM, DMARC and reverse DNS came to.
pub const MXGATE_BY_AUTHENTICATION: u16 = 9;

/// What decided: a ban.
pub const MXGATE_BY_BAN: u16 = 10;

/// What decided: a limit.
pub const MXGATE_BY_LIMIT: u16 = 11;

/// The stage of a session (RFC 5321 section 4.1.4): the client has connected and
/// waits for the greeting. An argument of mxgate_reply() and mxgate_explain().
pub const MXGATE_AT_CONNECT: c_int = 0;

/// The stage of HELO or EHLO.
pub const MXGATE_AT_HELO: c_int = 1;

/// The stage of MAIL.
pub const MXGATE_AT_MAIL: c_int = 2;

/// The stage of RCPT.
pub const MXGATE_AT_RCPT: c_int = 3;

/// A reply for an SMTP client, by a host that sends it itself. To a command
/// "550 5.7.1 text". At CONNECT it is the greeting, "554 host text": without an
/// enhanced status code (RFC 2034 section 3), with the name of the host first (RFC
/// 5321 section 4.3.1), and with the code 421, 521 (RFC 7504) or 554.
pub const MXGATE_FOR_CLIENT: c_int = 0;

/// A reply for a mail server behind libmilter, "550 5.7.1 text" at each stage: code,
/// enhanced status code and text are the arguments of smfi_setreply(). A percent
/// sign is doubled, as that function wants it.
pub const MXGATE_FOR_MILTER: c_int = 1;

/// A reply for Postfix, as the action of a policy service or an access table
/// (access(5)): "550 5.7.1 text" at each stage.
pub const MXGATE_FOR_POSTFIX: c_int = 2;

/// A reply for Exim, as the message of an ACL: as the client is to read it.
pub const MXGATE_FOR_EXIM: c_int = 3;

/// A reply for OpenSMTPD, as the decision of a filter (smtpd-filters(7)):
/// "reject|550 5.7.1 text", or "disconnect|421 4.3.2 text" to hang up.
pub const MXGATE_FOR_OPENSMTPD: c_int = 4;

/// The outcome of a check: a plain value of 1344 bytes, for ever. It needs no
/// preparation and no freeing, and stays good after a load and after the gate.
/// All strings in it end with NUL.
#[repr(C)]
#[derive(Debug)]
pub struct mxgate_verdict {
    /// Reply code: 0 for no objection, else 421, 450, 521, 550, 556, ...
    pub code: u16,
    /// Not 0: close the connection after the reply.
    pub hangup: u16,
    /// What decided: MXGATE_BY_...
    pub decider: u16,
    /// 0; kept for later use.
    pub reserved1: u16,
    /// Line of the entry that decided, in the file of its list; 0 if none did.
    pub line: u32,
    /// 0; kept for later use.
    pub reserved2: u32,
    /// Number of the load whose rules decided; 0 before the first.
    pub generation: u64,
    /// 0; kept for later use.
    pub reserved3: u64,
    /// Enhanced status code (RFC 3463) such as "5.7.1"; "" for no objection.
    pub status: [c_char; 16],
    /// Name of the list that decided; "" if none did.
    pub list: [c_char; 64],
    /// Name of the first list that would have refused if it were enforced
    /// (enforce = false), or "authentication" for that rule; "" if none.
    pub shadow: [c_char; 64],
    /// Entry that decided, such as "192.0.2.0/24", "*.example.org" or
    /// "user@example.org"; or "". Names are in their ASCII form.
    pub entry: [c_char; 256],
    /// What the list says about that entry, or which checks failed ("spf=fail");
    /// may be "".
    pub reason: [c_char; 256],
    /// Name of this host, with which a greeting starts; "" for no objection.
    pub host: [c_char; 256],
    /// Text of the reply: one line of printable ASCII; "" for no objection.
    pub text: [c_char; 400],
}

const _: () = assert!(size_of::<mxgate_verdict>() == 1344, "the ABI is frozen");
const _: () = assert!(
    size_of::<Status>() <= 16 && MAX_LIST_NAME < 64 && MAX_NAME + 2 < 256 && MAX_MAILBOX < 256 && MAX_VALUE < 256 && MAX_TEXT < 400
);

const _: () = assert!(
    Decider::Nothing as u16 == MXGATE_BY_NOTHING
        && Decider::Mode as u16 == MXGATE_BY_MODE
        && Decider::NeverBlock as u16 == MXGATE_BY_NEVER_BLOCK
        && Decider::Allow as u16 == MXGATE_BY_ALLOW
        && Decider::Block as u16 == MXGATE_BY_BLOCK
        && Decider::Domain as u16 == MXGATE_BY_DOMAIN
        && Decider::Sender as u16 == MXGATE_BY_SENDER
        && Decider::Relay as u16 == MXGATE_BY_RELAY
        && Decider::Recipient as u16 == MXGATE_BY_RECIPIENT
        && Decider::Authentication as u16 == MXGATE_BY_AUTHENTICATION
        && Decider::Ban as u16 == MXGATE_BY_BAN
        && Decider::Limit as u16 == MXGATE_BY_LIMIT
);

/// Writes the reply of a verdict without CR LF; NUL-terminated, cut to size
/// bytes; 1024 bytes hold any, 512 any for MXGATE_FOR_CLIENT. stage is
/// MXGATE_AT_..., host is who reads it: MXGATE_FOR_... buffer may be NULL if size
/// is 0.
///
/// Returns the full length, as snprintf() does. 0, and "", if the verdict has no
/// objection, is NULL or damaged, or stage or host is not one of those.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mxgate_reply(
    verdict: *const mxgate_verdict,
    stage: c_int,
    host: c_int,
    buffer: *mut c_char,
    size: usize,
) -> usize {
    // SAFETY: the caller gives size bytes at buffer.
    let buffer = unsafe { Output::new(buffer, size) };
    written(buffer, || {
        // SAFETY: the caller gives a verdict or NULL; it is read as plain bytes and numbers, which all are valid.
        let rejection = rejection_of(unsafe { verdict.as_ref() }?)?;
        let stage = stage_of(stage)?;
        // Without allocating: a reply is written for each refused client. Nothing below can fail, all of it fits.
        let mut line = Line::new();
        match host {
            MXGATE_FOR_CLIENT | MXGATE_FOR_EXIM if stage == Stage::Connect => write!(line, "{}", rejection.greeting()).ok()?,
            MXGATE_FOR_CLIENT | MXGATE_FOR_EXIM | MXGATE_FOR_POSTFIX => write!(line, "{}", rejection.reply()).ok()?,
            MXGATE_FOR_MILTER => {
                for (nth, part) in rejection.reply().split('%').enumerate() {
                    write!(line, "{}{part}", if nth == 0 { "" } else { "%%" }).ok()?;
                }
            }
            MXGATE_FOR_OPENSMTPD => {
                let decision = if rejection.hang_up { "disconnect" } else { "reject" };
                let reply = if stage == Stage::Connect { rejection.greeting() } else { rejection.reply() };
                write!(line, "{decision}|{reply}").ok()?;
            }
            _ => return None,
        }
        Some(line)
    })
}

/// The longest reply of all is one for libmilter that consists of percent signs.
type Line = ArrayString<1024>;

/// The stage with that number.
pub(super) fn stage_of(number: c_int) -> Option<Stage> {
    Some(match number {
        MXGATE_AT_CONNECT => Stage::Connect,
        MXGATE_AT_HELO => Stage::Helo,
        MXGATE_AT_MAIL => Stage::Mail,
        MXGATE_AT_RCPT => Stage::Rcpt,
        _ => return None,
    })
}

/// Says "accept": all numbers zero, all strings empty. The rest of the strings is not touched.
pub(super) fn store_accept(verdict: &mut mxgate_verdict) {
    let mxgate_verdict {
        code,
        hangup,
        decider,
        reserved1,
        line,
        reserved2,
        generation,
        reserved3,
        status,
        list,
        shadow,
        entry,
        reason,
        host,
        text,
    } = verdict;
    for number in [code, hangup, decider, reserved1] {
        *number = 0;
    }
    (*line, *reserved2, *generation, *reserved3) = (0, 0, 0, 0);
    for string in [&mut status[..], &mut list[..], &mut shadow[..], &mut entry[..], &mut reason[..], &mut host[..], &mut text[..]] {
        Output::of(string).finish();
    }
}

/// Stores that rules have accepted, and nothing decided.
pub(super) fn accept(verdict: &mut mxgate_verdict, generation: u64) -> c_int {
    store_accept(verdict);
    verdict.generation = generation;
    MXGATE_ACCEPT
}

/// Stores a refusal: all numbers, and all strings.
#[inline(always)]
pub(super) fn refuse(verdict: &mut mxgate_verdict, refusal: &Refusal<'_>) -> c_int {
    let Refusal { common, prepared, number, length, client } = *refusal;
    let client = ShownV4::of(client);
    if prepared.is_usual {
        put_texts::<VERY_SHORT>(verdict, refusal, &client);
        put_head(verdict, &common.head, prepared.line(number));
    } else {
        put_unusual(verdict, *refusal);
    }
    client.write_network(bytes_of(&mut verdict.entry), length);
    MXGATE_REJECT
}

/// Stores the refusal of a recipient by its domain: all numbers, and all strings.
#[inline(always)]
pub(super) fn refuse_place(verdict: &mut mxgate_verdict, refusal: &RefusedPlace<'_>) -> c_int {
    let RefusedPlace { common, prepared, number, form, name, place } = *refusal;
    if prepared.is_usual {
        put_names::<VERY_SHORT>(verdict, common, prepared);
        put_place::<VERY_SHORT>(verdict, common, prepared, place);
        put_head(verdict, &common.head, prepared.line(number));
    } else {
        put_unusual_place(verdict, *refusal);
    }
    let entry = bytes_of(&mut verdict.entry);
    // Nearly all stand for themselves: the processor guesses that, and knows where the name goes before it knows the form.
    let name_at = if form == Form::Exact { 0 } else { write_text_at(entry, 0, form.prefix().as_bytes()) };
    let end = write_text_at(entry, name_at, name);
    write_at(entry, end, &[0]);
    MXGATE_REJECT
}

/// Stores all that is no text, and that no list is only watched.
#[inline(always)]
fn put_head(verdict: &mut mxgate_verdict, head: &Head, line: u32) {
    [verdict.code, verdict.hangup] = [head.code, head.hang_up];
    [verdict.decider, verdict.reserved1] = head.decider;
    [verdict.line, verdict.reserved2] = [line, 0];
    [verdict.generation, verdict.reserved3] = head.generation;
    put_padded(&mut verdict.status, &head.status);
    Output::of(&mut verdict.shadow).finish();
}

/// Stores the texts of a refusal: those that are ready all have room in so many bytes.
#[inline(always)]
fn put_texts<const ROOM: usize>(verdict: &mut mxgate_verdict, refusal: &Refusal<'_>, client: &ShownV4) {
    let Refusal { common, prepared, .. } = refusal;
    put_names::<ROOM>(verdict, common, prepared);
    let text = bytes_of(&mut verdict.text);
    let address_at = common.before.write::<ROOM, _>(text, 0);
    let behind_at = client.write(text, address_at);
    prepared.behind.write::<ROOM, _>(text, behind_at);
}

/// Stores the text of a refusal by a domain.
#[inline(always)]
fn put_place<const ROOM: usize>(verdict: &mut mxgate_verdict, common: &Common, prepared: &Prepared, place: &[u8]) {
    let text = bytes_of(&mut verdict.text);
    let place_at = common.before.write::<ROOM, _>(text, 0);
    let behind_at = write_text_at(text, place_at, place);
    prepared.behind.write::<ROOM, _>(text, behind_at);
}

#[inline(always)]
fn put_names<const ROOM: usize>(verdict: &mut mxgate_verdict, common: &Common, prepared: &Prepared) {
    prepared.list.write::<ROOM, _>(bytes_of(&mut verdict.list), 0);
    common.host.write::<ROOM, _>(bytes_of(&mut verdict.host), 0);
    prepared.reason.write::<ROOM, _>(bytes_of(&mut verdict.reason), 0);
}

/// Stores any reply, texts of any length, and the reason that the entry has for itself.
// The refusal by value, so that otherwise it need not be put together in memory.
#[cold]
fn put_unusual(verdict: &mut mxgate_verdict, refusal: Refusal<'_>) {
    let Refusal { prepared, number, length, client, .. } = refusal;
    put_texts::<SHORT>(verdict, &refusal, &ShownV4::of(client));
    put_origin(verdict, prepared, number, || Some(prepared.v4_entry(number, length)));
}

/// As [`put_unusual`] about a recipient.
#[cold]
fn put_unusual_place(verdict: &mut mxgate_verdict, refusal: RefusedPlace<'_>) {
    let RefusedPlace { common, prepared, number, place, .. } = refusal;
    put_names::<SHORT>(verdict, common, prepared);
    put_place::<SHORT>(verdict, common, prepared, place);
    put_origin(verdict, prepared, number, || prepared.entry(number));
}

/// Stores all that is no text, with the line of the entry, and the reason if it has one for itself.
fn put_origin(verdict: &mut mxgate_verdict, prepared: &Prepared, number: EntryId, entry: impl FnOnce() -> Option<Entry>) {
    let mut line_number = prepared.line(number);
    if !prepared.tells_origin
        && let Some(entry) = entry()
    {
        line_number = prepared.contents.line(entry);
        write_line(&mut verdict.reason, |line| {
            prepared.contents.write_reason(entry, line);
        });
    }
    put_head(verdict, &prepared.head, line_number);
}

/// Stores an answer over an "accept".
pub(super) fn store(verdict: &mut mxgate_verdict, answer: &Answer<'_>) -> c_int {
    let Answer { ruleset, decision, .. } = answer;
    verdict.generation = ruleset.generation();
    put(&mut verdict.shadow, decision.shadow);
    if decision.by.is_nothing() {
        return MXGATE_ACCEPT;
    }
    // Nearly all that decides is an entry of a list: that case has code of its own, without looking at each field what decided.
    if let By::Entry(list, entry) = decision.by {
        verdict.decider = list.role as u16;
        verdict.line = list.contents.line(entry);
        write_line(&mut verdict.entry, |line| answer.write_entry_of(list, entry, line));
        put_padded(&mut verdict.list, &list.shown_name);
        write_line(&mut verdict.reason, |line| {
            list.contents.write_reason(entry, line);
        });
    } else {
        store_other(verdict, answer);
    }
    let Some(reply) = decision.reply else { return MXGATE_ACCEPT };
    verdict.code = reply.code;
    verdict.hangup = reply.hang_up.into();
    put_padded(&mut verdict.status, reply.shown_status());
    put(&mut verdict.host, ruleset.hostname());
    write_line(&mut verdict.text, |line| answer.write_text(reply, line));
    MXGATE_REJECT
}

/// Stores what decided if it is not an entry of a list.
#[inline(never)]
fn store_other(verdict: &mut mxgate_verdict, answer: &Answer<'_>) {
    verdict.decider = answer.decision.decider() as u16;
    write_line(&mut verdict.entry, |line| answer.write_entry(line));
    put(&mut verdict.list, answer.decision.list());
    write_line(&mut verdict.reason, |line| {
        answer.write_reason(line);
    });
}

/// The objection in a verdict that came back from the caller, if it is whole.
fn rejection_of(verdict: &mxgate_verdict) -> Option<Rejection> {
    let line = |string: &str| string.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let (status, host, text) = (string_in(&verdict.status)?, string_in(&verdict.host)?, string_in(&verdict.text)?);
    if !(400..560).contains(&verdict.code) || ![status, host, text].into_iter().all(line) || text.trim().is_empty() {
        return None;
    }
    Some(Rejection {
        code: verdict.code,
        status: Status::from(status).ok()?,
        hang_up: verdict.hangup != 0,
        text: Text::from(text).ok()?,
        host: Folded::from(host).ok()?,
    })
}
