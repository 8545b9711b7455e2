//! What an administrator does with a gate and asks of it: bans, modes, explanations, status, counters.

use super::strings::{Output, bytes, change, written};
use super::{MAX_ARGUMENT, MXGATE_ACCEPT, call, copy_facts, gate_of, mxgate_facts, mxgate_gate, result_of, stage_of};
use crate::diagnostic::Fault;
use crate::gate::{Counts, Gate};
use crate::mode::Mode;
use crate::prefix::parse_network;
use crate::status::Status;
use ipnet::IpNet;
use libc::{c_char, c_int};
use std::fmt::Write;
use std::ptr;
use std::time::Duration;

/// The mode that the policy asks for. An argument of mxgate_set_mode().
pub const MXGATE_MODE_OF_POLICY: c_int = 0;

/// Mode: the rules decide.
pub const MXGATE_MODE_OPEN: c_int = 1;

/// Mode: 421 to everybody, because of maintenance.
pub const MXGATE_MODE_MAINTENANCE: c_int = 2;

/// Mode: 421 to everybody, because the server is shutting down.
pub const MXGATE_MODE_DRAINING: c_int = 3;

/// Mode: 421 to everybody, because the server has too much to do.
pub const MXGATE_MODE_OVERLOADED: c_int = 4;

/// Mode: 521 to everybody, because this host takes no mail (RFC 7504).
pub const MXGATE_MODE_NO_MAIL: c_int = 5;

/// Text for people. A format of mxgate_explain() and mxgate_status().
pub const MXGATE_TEXT: c_int = 0;

/// JSON (RFC 8259) for programs.
pub const MXGATE_JSON: c_int = 1;

/// What a gate has done and has in force. Later releases may add fields at its end;
/// that is why it travels with its size.
#[repr(C)]
#[derive(Debug, Default)]
pub struct mxgate_counters {
    /// Loads that succeeded: the number of the rules in force.
    pub generation: u64,
    /// Loads that did not.
    pub failed_loads: u64,
    /// Networks that the lists of the policy have.
    pub networks: u64,
    /// Names that its lists of domains have.
    pub domains: u64,
    /// Bans that have not ended.
    pub bans: u64,
    /// Checks since mxgate_new().
    pub checks: u64,
    /// Checks that were answered with a 5xx.
    pub rejected: u64,
    /// Checks that were answered with a 4xx.
    pub deferred: u64,
    /// Checks that were accepted although a list would have refused if it were
    /// enforced (enforce = false).
    pub would_refuse: u64,
}

impl From<Counts> for mxgate_counters {
    fn from(counts: Counts) -> mxgate_counters {
        let Counts { generation, failed_loads, networks, domains, bans, checks, rejected, deferred, would_refuse } = counts;
        mxgate_counters { generation, failed_loads, networks, domains, bans, checks, rejected, deferred, would_refuse }
    }
}

/// Refuses a network from now on: "192.0.2.0/24", "2001:db8::/48", or one host, as
/// a text of length bytes (or MXGATE_NUL). It ends by itself after that many
/// seconds; 0: not before mxgate_unban(). reason, of reason_length bytes (or
/// MXGATE_NUL), is {reason} in replies; it may be NULL. A ban of that very network
/// is replaced. Bans come after the never-block set and the allow lists, and before
/// the block lists; they stay over loads, and end with the gate.
///
/// message receives what was wrong, as in mxgate_load_file().
///
/// Returns 0, MXGATE_EINVAL, MXGATE_ESYNTAX (not a network, wider than the guards
/// of the policy allow, or in the never-block set), MXGATE_ELIMIT or MXGATE_EBUG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mxgate_ban(
    gate: *mut mxgate_gate,
    network: *const c_char,
    length: usize,
    seconds: u64,
    reason: *const c_char,
    reason_length: usize,
    message: *mut c_char,
    message_size: usize,
) -> c_int {
    let body = |gate: &Gate, message: Output<'_>| {
        // SAFETY: the caller gives that many bytes, or a NUL-terminated string, or NULL.
        let network = unsafe { bytes(network, length, MAX_ARGUMENT) }??;
        // SAFETY: likewise.
        let reason = unsafe { bytes(reason, reason_length, MAX_ARGUMENT) }?.unwrap_or_default();
        let duration = (seconds != 0).then(|| Duration::from_secs(seconds));
        let banned = network_of(network).and_then(|network| gate.ban(network, duration, &String::from_utf8_lossy(reason)));
        said(banned.map(|ban| log::info!("{} is banned: {}", ban.network, ban.reason)).map(|()| MXGATE_ACCEPT), message)
    };
    // SAFETY: the caller gives a gate or NULL, and message_size bytes at message.
    unsafe { change(gate, message, message_size, body) }
}

/// Lifts the ban of a network, named as in mxgate_ban().
///
/// Returns 1 if there was one, 0 if not, MXGATE_EINVAL, MXGATE_ESYNTAX or MXGATE_EBUG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mxgate_unban(
    gate: *mut mxgate_gate,
    network: *const c_char,
    length: usize,
    message: *mut c_char,
    message_size: usize,
) -> c_int {
    let body = |gate: &Gate, message: Output<'_>| {
        // SAFETY: the caller gives that many bytes, or a NUL-terminated string, or NULL.
        let network = unsafe { bytes(network, length, MAX_ARGUMENT) }??;
        let lifted = network_of(network).map(|network| {
            let lifted = gate.unban(network);
            if lifted {
                log::info!("{network} is no longer banned");
            }
            c_int::from(lifted)
        });
        said(lifted, message)
    };
    // SAFETY: the caller gives a gate or NULL, and message_size bytes at message.
    unsafe { change(gate, message, message_size, body) }
}

/// Puts a mode in force, MXGATE_MODE_..., whatever the policy says. It stays over
/// loads until it is MXGATE_MODE_OF_POLICY.
///
/// Returns 0, MXGATE_EINVAL or MXGATE_EBUG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mxgate_set_mode(gate: *mut mxgate_gate, mode: c_int) -> c_int {
    call(|| {
        // SAFETY: the caller gives a gate or NULL.
        let gate = unsafe { gate_of(gate) }?;
        let mode = match mode {
            MXGATE_MODE_OF_POLICY => None,
            MXGATE_MODE_OPEN => Some(Mode::Open),
            MXGATE_MODE_MAINTENANCE => Some(Mode::Maintenance),
            MXGATE_MODE_DRAINING => Some(Mode::Draining),
            MXGATE_MODE_OVERLOADED => Some(Mode::Overloaded),
            MXGATE_MODE_NO_MAIL => Some(Mode::NoMail),
            _ => return None,
        };
        gate.set_mode(mode);
        log::info!("the mode is {}", gate.mode());
        Some(MXGATE_ACCEPT)
    })
}

/// Says why a question is answered as it is: every list that covers it, the winner
/// first, what would be answered without the winner, and what clients of each mail
/// server read. stage is MXGATE_AT_CONNECT, _MAIL or _RCPT (HELO counts as CONNECT); facts and facts_size
/// are those of a check; format is MXGATE_TEXT or MXGATE_JSON. It is not counted as
/// a check. Allocates; not for each client.
///
/// Writes to buffer, NUL-terminated, cut to size; buffer may be NULL if size is 0.
/// Returns the full length, as snprintf() does; 0 if an argument is impossible.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mxgate_explain(
    gate: *const mxgate_gate,
    stage: c_int,
    facts: *const mxgate_facts,
    facts_size: usize,
    format: c_int,
    buffer: *mut c_char,
    size: usize,
) -> usize {
    // SAFETY: the caller gives size bytes at buffer.
    let buffer = unsafe { Output::new(buffer, size) };
    written(buffer, || {
        // SAFETY: the caller gives a gate or NULL.
        let gate = unsafe { gate_of(gate) }?;
        // SAFETY: the caller gives `facts_size` bytes or NULL.
        let known = unsafe { copy_facts(facts, facts_size) }?;
        // SAFETY: the caller filled in strings of those lengths.
        let facts = unsafe { known.facts() }?;
        let explanation = gate.explain(&facts, stage_of(stage)?);
        formatted(format, || explanation.to_string(), || explanation.to_json())
    })
}

/// Writes the state of the gate: mode, rules, lists, counters. As text (format
/// MXGATE_TEXT) it is an SMTP reply 211 of several lines (RFC 5321 section 4.2.1),
/// with CR LF between them and none behind the last; or as MXGATE_JSON. Otherwise as
/// mxgate_explain().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mxgate_status(gate: *const mxgate_gate, format: c_int, buffer: *mut c_char, size: usize) -> usize {
    // SAFETY: the caller gives size bytes at buffer.
    let buffer = unsafe { Output::new(buffer, size) };
    written(buffer, || {
        // SAFETY: the caller gives a gate or NULL.
        let status = Status::of(unsafe { gate_of(gate) }?);
        formatted(format, || status.to_string(), || status.to_json())
    })
}

/// Reads the counters. size is sizeof(struct mxgate_counters): a program built with an
/// older header gets the fields that it knows, one built with a newer header gets 0 in
/// those that this library does not have. Each number is right by itself; checks go on
/// meanwhile.
///
/// Returns 0, MXGATE_EINVAL or MXGATE_EBUG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mxgate_count(gate: *const mxgate_gate, counters: *mut mxgate_counters, size: usize) -> c_int {
    /// Size of the structure when the ABI was made, and more than it will ever have.
    const SIZES: std::ops::RangeInclusive<usize> = 9 * size_of::<u64>()..=4096;
    call(|| {
        if counters.is_null() || !SIZES.contains(&size) {
            return None;
        }
        // SAFETY: not NULL, and the caller gives that many bytes.
        unsafe { ptr::write_bytes(counters.cast::<u8>(), 0, size) };
        // SAFETY: the caller gives a gate or NULL.
        let counts = mxgate_counters::from(Gate::counts(unsafe { gate_of(gate) }?));
        let known = size.min(size_of::<mxgate_counters>());
        // SAFETY: both have that many bytes. Byte by byte, because the caller's structure may be unaligned.
        unsafe { ptr::copy_nonoverlapping((&raw const counts).cast::<u8>(), counters.cast(), known) };
        Some(MXGATE_ACCEPT)
    })
}

fn network_of(text: &[u8]) -> Result<IpNet, Fault> {
    parse_network(&String::from_utf8_lossy(text))
}

/// Hands over what came of a change, and what was wrong.
fn said(outcome: Result<c_int, Fault>, mut message: Output<'_>) -> Option<c_int> {
    match outcome {
        Ok(result) => Some(result),
        Err(fault) => {
            write!(message, "{}; {}", fault.cause, fault.remedy).ok()?;
            Some(result_of(fault.kind))
        }
    }
}

fn formatted(format: c_int, text: impl FnOnce() -> String, json: impl FnOnce() -> serde_json::Value) -> Option<String> {
    match format {
        MXGATE_TEXT => Some(text()),
        MXGATE_JSON => Some(format!("{:#}", json())),
        _ => None,
    }
}
