//! The questions.

use super::strings::bytes;
use super::{
    MAX_ARGUMENT, accept, call, client_and_recipient, copy_facts, gate_of, mxgate_facts, mxgate_gate, mxgate_verdict, only_client, refuse,
    refuse_place, store, store_accept,
};
use super::{MXGATE_ACCEPT, MXGATE_EINVAL};
use crate::facts::Facts;
use crate::gate::{Gate, Outcome};
use crate::prefix::parse_address;
use crate::ruleset::Ask;
use libc::{c_char, c_int};
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

/// Reads an IP address as text of length bytes (or MXGATE_NUL): "192.0.2.1",
/// "2001:db8::1", "IPv6:2001:db8::1", each also in brackets. Stores it at address,
/// which has room for 16 bytes, in network order; an IPv4-mapped IPv6 address as
/// IPv4.
///
/// Returns 4 or 16, the number of bytes stored; 0 if it is not an address.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mxgate_address(text: *const c_char, length: usize, address: *mut u8) -> usize {
    let size = call(|| {
        // SAFETY: the caller gives that many bytes, or a NUL-terminated string, or NULL.
        let text = unsafe { bytes(text, length, MAX_ARGUMENT) }??;
        let parsed = std::str::from_utf8(text).ok().and_then(parse_address)?;
        if address.is_null() {
            return None;
        }
        let store = |octets: &[u8]| {
            // SAFETY: not NULL, and the caller gives 16 bytes; an address has 4 or 16.
            unsafe { ptr::copy_nonoverlapping(octets.as_ptr(), address, octets.len()) };
            c_int::try_from(octets.len()).ok()
        };
        match parsed {
            IpAddr::V4(v4) => store(&v4.octets()),
            IpAddr::V6(v6) => store(&v6.octets()),
        }
    });
    usize::try_from(size).unwrap_or(0)
}

/// Checks a client that has just connected: its address and flags, by bans and
/// lists.
///
/// facts_size is sizeof(struct mxgate_facts). A program built with an older
/// header gives a smaller one, whose missing fields are not known; fields that
/// this library does not have must be zero.
///
/// Returns MXGATE_ACCEPT, MXGATE_REJECT or an error (MXGATE_EINVAL,
/// MXGATE_EBUG). After an error the verdict says "accept", so that a caller who
/// ignores errors loses no mail.
///
/// Any number of threads may check at once, and while another one loads.
/// Allocates nothing, opens nothing, waits for no load. (But for one thing: a name
/// in Unicode of which one label expands to hundreds of characters or has dozens of
/// combining marks on one letter, as no name that exists has, takes memory for that
/// long.)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mxgate_check_connect(
    gate: *const mxgate_gate,
    facts: *const mxgate_facts,
    facts_size: usize,
    verdict: *mut mxgate_verdict,
) -> c_int {
    // SAFETY: the contract is the same.
    let result = unsafe { connect_quickly(gate, facts, facts_size, verdict) };
    // SAFETY: the contract is the same.
    result.unwrap_or_else(|| unsafe { check(gate, facts, facts_size, verdict, connect) })
}

/// Checks a sender: the client as mxgate_check_connect() does, then the rules about
/// senders, and about SPF and reverse DNS as far as the facts have them. For hosts
/// that refuse at MAIL. Who refuses here cannot let mail to postmaster pass, which
/// mxgate_check_rcpt() does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mxgate_check_mail(
    gate: *const mxgate_gate,
    facts: *const mxgate_facts,
    facts_size: usize,
    verdict: *mut mxgate_verdict,
) -> c_int {
    // SAFETY: the contract is the same.
    unsafe { check(gate, facts, facts_size, verdict, mail) }
}

/// Checks one recipient, and the client with it. Otherwise as
/// mxgate_check_connect(). Ask again for each recipient.
///
/// Authenticated clients, and the recipients postmaster (RFC 5321 section 4.5.1)
/// and abuse (RFC 2142), are exempt from rules about addresses and senders, never
/// from rules about domains that take no mail.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mxgate_check_rcpt(
    gate: *const mxgate_gate,
    facts: *const mxgate_facts,
    facts_size: usize,
    verdict: *mut mxgate_verdict,
) -> c_int {
    // SAFETY: the contract is the same.
    let result = unsafe { rcpt_quickly(gate, facts, facts_size, verdict) };
    // SAFETY: the contract is the same.
    result.unwrap_or_else(|| unsafe { check(gate, facts, facts_size, verdict, rcpt) })
}

/// Ends a session that mxgate_check_connect() has let in, with the same facts: for the limit of concurrent sessions
/// (concurrent, among the limits of a policy). Once for each. A session that is never ended is forgotten after an hour or two.
///
/// Returns 0, MXGATE_EINVAL or MXGATE_EBUG. Otherwise as mxgate_check_connect().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mxgate_end_session(gate: *const mxgate_gate, facts: *const mxgate_facts, facts_size: usize) -> c_int {
    call(|| {
        // SAFETY: the caller gives a gate or NULL.
        let gate = unsafe { gate_of(gate) }?;
        // SAFETY: the caller gives `facts_size` bytes or NULL.
        let known = unsafe { copy_facts(facts, facts_size) }?;
        // SAFETY: the caller filled in strings of those lengths.
        gate.end_session(&unsafe { known.facts() }?);
        Some(MXGATE_ACCEPT)
    })
}

/// As `check` about a client that has just connected, if there is a quick answer.
///
/// # Safety
/// As of `check`.
#[inline(always)]
unsafe fn connect_quickly(
    gate: *const mxgate_gate,
    facts: *const mxgate_facts,
    size: usize,
    verdict: *mut mxgate_verdict,
) -> Option<c_int> {
    // SAFETY: the caller gives `size` bytes or NULL.
    let client = unsafe { only_client(facts, size) }?;
    let answer = |gate: &Gate, verdict: &mut mxgate_verdict| match client {
        IpAddr::V4(client) => gate.ask_quickly_v4(client.to_bits(), |outcome| match outcome {
            Outcome::Unlisted(generation) => accept(verdict, generation),
            Outcome::Refused(refusal) => refuse(verdict, &refusal),
        }),
        IpAddr::V6(client) => gate.ask_quickly_v6(client).map(|generation| accept(verdict, generation)),
    };
    // SAFETY: the contract is the same.
    unsafe { quickly(gate, verdict, answer) }
}

/// As `check` about a recipient, if there is a quick answer.
///
/// # Safety
/// As of `check`.
#[inline(always)]
unsafe fn rcpt_quickly(gate: *const mxgate_gate, facts: *const mxgate_facts, size: usize, verdict: *mut mxgate_verdict) -> Option<c_int> {
    // SAFETY: the caller gives `size` bytes or NULL, and strings of those lengths.
    let (client, recipient) = unsafe { client_and_recipient(facts, size) }?;
    let answer = |gate: &Gate, verdict: &mut mxgate_verdict| {
        gate.ask_quickly_rcpt(client, recipient, |outcome| match outcome {
            Outcome::Unlisted(generation) => accept(verdict, generation),
            Outcome::Refused(refusal) => refuse_place(verdict, &refusal),
        })
    };
    // SAFETY: the contract is the same.
    unsafe { quickly(gate, verdict, answer) }
}

/// A quick answer, if there is one.
///
/// # Safety
/// `gate` is NULL or a gate; `verdict` is NULL or points to a verdict.
#[inline(always)]
unsafe fn quickly(
    gate: *const mxgate_gate,
    verdict: *mut mxgate_verdict,
    answer: impl FnOnce(&Gate, &mut mxgate_verdict) -> Option<c_int>,
) -> Option<c_int> {
    // SAFETY: the caller says so. Plain numbers: whatever the memory holds is a valid value.
    let verdict = unsafe { verdict.as_mut() }?;
    // SAFETY: the caller says so.
    let gate = unsafe { gate_of(gate) }?;
    // Whatever a panic may have left in the verdict, `check` begins it anew.
    catch_unwind(AssertUnwindSafe(|| answer(gate, verdict))).ok()?
}

// Each asks a gate, and writes the answer where the caller wants it, and nowhere before. A function of its own for each stage, so
// that there is code for each, which does not have to look what is asked.

fn connect(gate: &Gate, facts: &Facts<'_>, verdict: &mut mxgate_verdict) -> c_int {
    gate.ask(Ask::Connect, facts, |answer| store(verdict, answer))
}

fn mail(gate: &Gate, facts: &Facts<'_>, verdict: &mut mxgate_verdict) -> c_int {
    gate.ask(Ask::Mail, facts, |answer| store(verdict, answer))
}

fn rcpt(gate: &Gate, facts: &Facts<'_>, verdict: &mut mxgate_verdict) -> c_int {
    gate.ask(Ask::Rcpt, facts, |answer| store(verdict, answer))
}

/// # Safety
/// `gate` is NULL or a gate; `facts` is NULL or points to `size` bytes; `verdict` is NULL or points to a verdict.
unsafe fn check(
    gate: *const mxgate_gate,
    facts: *const mxgate_facts,
    size: usize,
    verdict: *mut mxgate_verdict,
    decide: impl FnOnce(&Gate, &Facts<'_>, &mut mxgate_verdict) -> c_int,
) -> c_int {
    // SAFETY: the caller gives a verdict or NULL. Plain numbers: whatever the memory holds is a valid value.
    let Some(verdict) = (unsafe { verdict.as_mut() }) else { return MXGATE_EINVAL };
    // Before anything else is looked at, so that the caller finds "accept" after any error.
    store_accept(verdict);
    let result = call(|| {
        // SAFETY: the caller gives a gate or NULL.
        let gate = unsafe { gate_of(gate) }?;
        // SAFETY: the caller gives `size` bytes or NULL.
        let known = unsafe { copy_facts(facts, size) }?;
        // SAFETY: the caller filled in strings of those lengths.
        let facts = unsafe { known.facts() }?;
        Some(decide(gate, &facts, verdict))
    });
    if result < 0 {
        store_accept(verdict);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capi::{MXGATE_EBUG, mxgate_free, mxgate_load_text, mxgate_new};
    use std::mem::MaybeUninit;

    /// No call from C makes the library panic; here the decision itself does.
    #[test]
    fn a_panic_is_caught_says_accept_and_the_gate_goes_on() {
        let gate = mxgate_new();
        let policy = c"hostname = 'h'\n[[list]]\nname = 'l'\nentries = ['192.0.2.0/24']\n";
        // SAFETY: a gate, and a string that ends with NUL.
        assert_eq!(unsafe { mxgate_load_text(gate, policy.as_ptr(), usize::MAX, ptr::null_mut(), 0) }, 0);
        // SAFETY: zero is a valid value of all fields.
        let mut facts = unsafe { MaybeUninit::<mxgate_facts>::zeroed().assume_init() };
        (facts.address_size, facts.address[0], facts.address[2]) = (4, 192, 2);
        // SAFETY: likewise.
        let mut verdict = unsafe { MaybeUninit::<mxgate_verdict>::zeroed().assume_init() };
        let mut ask = |decide: fn(&Gate, &Facts<'_>, &mut mxgate_verdict) -> c_int| {
            // SAFETY: all three are what they have to be.
            let result = unsafe { check(gate, &raw const facts, size_of::<mxgate_facts>(), &raw mut verdict, decide) };
            (result, verdict.code, verdict.generation)
        };
        assert_eq!(ask(connect), (1, 550, 1));
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let caught = ask(|gate, facts, verdict| {
            connect(gate, facts, verdict);
            panic!("a bug")
        });
        std::panic::set_hook(before);
        assert_eq!(caught, (MXGATE_EBUG, 0, 0));
        assert_eq!(ask(connect), (1, 550, 1));
        // SAFETY: nobody uses it any more.
        unsafe { mxgate_free(gate) };
    }
}
