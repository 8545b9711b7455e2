//! The C ABI, and all `unsafe` of the library. `include/mxgate.h` is made from this file by cbindgen, so its
//! documentation is written for readers of C.
//!
//! Rules of every function here: pointers are looked at before they are used; a structure that may grow travels
//! with its size; what the caller gets is a plain value of its own; a panic is caught and becomes
//! [`MXGATE_EBUG`]; after an error the verdict says "accept".

#![expect(unsafe_code, reason = "raw pointers are what a C ABI is about; no other file of the library has any")]
#![expect(non_camel_case_types, reason = "names as C programmers expect them")]
#![expect(clippy::missing_safety_doc, reason = "the contract of each function is said in C words, because the text is the header's")]

use crate::diagnostic::{Diagnostic, Kind, render};
use crate::domain::{Folded, MAX_NAME};
use crate::facts::{AuthResult, Facts};
use crate::gate::{Gate, LoadError};
use crate::mailbox::MAX_MAILBOX;
use crate::prefix::parse_address;
use crate::reply::{MAX_TEXT, MAX_VALUE, Status, Text};
use crate::verdict::{Decider, MAX_LIST_NAME, Rejection, Verdict};
use std::ffi::OsStr;
use std::fmt::{self, Write};
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::ptr;

use libc::{c_char, c_int};

/// Number of this ABI, also the number in the SONAME (libmxgate.so.1). Functions
/// are added under the same number; nothing is changed or taken away under it.
pub const MXGATE_ABI: u32 = 1;

/// Release of this header: 0xMMmmpp.
pub const MXGATE_VERSION_NUMBER: u32 = 0x000100;

/// No objection: let the client go on.
pub const MXGATE_ACCEPT: c_int = 0;

/// Objection: send the reply of the verdict.
pub const MXGATE_REJECT: c_int = 1;

/// A pointer is NULL, or a length or the size of a structure is impossible.
pub const MXGATE_EINVAL: c_int = -1;

/// The policy or a list is not right; the message says where, why, and what to
/// write instead.
pub const MXGATE_ESYNTAX: c_int = -2;

/// A file cannot be read; the message says which.
pub const MXGATE_EIO: c_int = -3;

/// A limit is reached; the message says which.
pub const MXGATE_ELIMIT: c_int = -4;

/// A bug in the library was caught; the gate goes on. Please report it.
pub const MXGATE_EBUG: c_int = -5;

/// The client has authenticated (SMTP AUTH, RFC 4954). A flag of mxgate_facts.
pub const MXGATE_AUTHENTICATED: u32 = 1;

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

/// Not checked, or not known. Values of spf, dkim, dmarc and rdns in mxgate_facts,
/// by the names of RFC 8601 section 2.7.
pub const MXGATE_RESULT_UNKNOWN: u8 = 0;

/// It passed.
pub const MXGATE_RESULT_PASS: u8 = 1;

/// There was nothing to check: no record, no signature.
pub const MXGATE_RESULT_NONE: u8 = 2;

/// The domain says nothing about it.
pub const MXGATE_RESULT_NEUTRAL: u8 = 3;

/// Probably not authorised (SPF).
pub const MXGATE_RESULT_SOFTFAIL: u8 = 4;

/// It failed.
pub const MXGATE_RESULT_FAIL: u8 = 5;

/// It could not be checked now.
pub const MXGATE_RESULT_TEMPERROR: u8 = 6;

/// It cannot be checked: a record is wrong.
pub const MXGATE_RESULT_PERMERROR: u8 = 7;

/// Sound, but not acceptable to the checker (DKIM).
pub const MXGATE_RESULT_POLICY: u8 = 8;

/// The reply is sent to a command: "550 5.7.1 text". A form of mxgate_reply().
pub const MXGATE_TO_COMMAND: c_int = 0;

/// The reply is sent as the greeting: "554 host text". A greeting has no
/// enhanced status code (RFC 2034 section 3), starts with the name of the host
/// (RFC 5321 section 4.3.1), and is a 421, a 521 (RFC 7504) or a 554.
pub const MXGATE_AS_GREETING: c_int = 1;

/// What mxgate_sizeof() can tell the size of: struct mxgate_facts.
pub const MXGATE_FACTS: c_int = 1;

/// What mxgate_sizeof() can tell the size of: struct mxgate_verdict.
pub const MXGATE_VERDICT: c_int = 2;

/// A length that means "the string ends at its NUL".
const MXGATE_NUL: usize = usize::MAX;

/// Longest sender, recipient or address that is looked at, in bytes. RFC 5321 section 4.5.3.1 allows 512.
const MAX_ARGUMENT: usize = 1 << 16;
/// Longest path of a file, in bytes (PATH_MAX of Linux).
const MAX_PATH: usize = 4096;

/// A gate holds the rules. Threads may share it: each function says how.
#[derive(Debug)]
pub struct mxgate {
    gate: Gate,
}

/// What is known about a client and its message. Set all of it to zero first
/// ("= {0}" in C, "= mxgate_facts()" in C++), then what is known: zero means
/// "not known", and no rule about it matches.
/// Later releases may add fields at its end; that is why it travels with its
/// size.
#[repr(C)]
#[derive(Debug)]
pub struct mxgate_facts {
    /// Size of the client's address: 4 or 16 bytes; 0 if it is not known.
    pub address_size: u32,
    /// MXGATE_AUTHENTICATED or 0.
    pub flags: u32,
    /// Address of the client in network order, as in struct in_addr (the first
    /// 4 bytes) or struct in6_addr. ::ffff:a.b.c.d counts as a.b.c.d.
    pub address: [u8; 16],
    /// Seconds since 1970-01-01 UTC, by which entries of lists expire; 0 for the
    /// clock of the system, which is then read only if an entry depends on it.
    pub now: u64,
    /// What checking SPF came to (RFC 7208): MXGATE_RESULT_...
    pub spf: u8,
    /// What checking DKIM came to (RFC 6376): MXGATE_RESULT_PASS if any signature
    /// passes. Whoever knows it after DATA only asks again then.
    pub dkim: u8,
    /// What checking DMARC came to: MXGATE_RESULT_FAIL where the owner of the domain
    /// asks for it to be refused, so not if the owner only watches (p=none).
    pub dmarc: u8,
    /// Whether the client's name leads back to its address: MXGATE_RESULT_... (iprev,
    /// RFC 8601 section 2.7.3).
    pub rdns: u8,
    /// 0; kept for later use.
    pub reserved: u32,
    /// Argument of MAIL, with or without "<>"; NULL if not known. "<>", or an empty
    /// string, is the empty sender of bounces, which no rule about senders refuses.
    pub sender: *const c_char,
    /// Its length in bytes (at most 65536), or MXGATE_NUL.
    pub sender_length: usize,
    /// Argument of RCPT, with or without "<>"; NULL if not known. A mail server that
    /// resolves addresses ("user%other.example@example.org") gives what it will
    /// deliver to: that is what the relay rule has to know. Names may be UTF-8 (RFC
    /// 6531): U-labels are the same as their A-labels.
    pub recipient: *const c_char,
    /// Its length in bytes (at most 65536), or MXGATE_NUL.
    pub recipient_length: usize,
}

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
);

const _: () = assert!(
    AuthResult::Unknown as u8 == MXGATE_RESULT_UNKNOWN
        && AuthResult::Pass as u8 == MXGATE_RESULT_PASS
        && AuthResult::None as u8 == MXGATE_RESULT_NONE
        && AuthResult::Neutral as u8 == MXGATE_RESULT_NEUTRAL
        && AuthResult::Softfail as u8 == MXGATE_RESULT_SOFTFAIL
        && AuthResult::Fail as u8 == MXGATE_RESULT_FAIL
        && AuthResult::Temperror as u8 == MXGATE_RESULT_TEMPERROR
        && AuthResult::Permerror as u8 == MXGATE_RESULT_PERMERROR
        && AuthResult::Policy as u8 == MXGATE_RESULT_POLICY
);

const _: () = assert!(size_of::<mxgate_facts>() == 40 + 4 * size_of::<usize>(), "no holes");

/// Size of mxgate_facts when the ABI was made; no caller has a smaller one.
const FIRST_FACTS_SIZE: usize = size_of::<mxgate_facts>();

/// Number of the ABI of the library that is loaded. Compare with MXGATE_ABI.
#[unsafe(no_mangle)]
pub extern "C" fn mxgate_abi() -> u32 {
    MXGATE_ABI
}

/// Release of the library that is loaded, such as "0.1.0". Never NULL; not to
/// be freed.
#[unsafe(no_mangle)]
pub extern "C" fn mxgate_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Size in bytes of a structure (MXGATE_FACTS, MXGATE_VERDICT) in the library
/// that is loaded; 0 if it has no such structure.
#[unsafe(no_mangle)]
pub extern "C" fn mxgate_sizeof(what: c_int) -> usize {
    match what {
        MXGATE_FACTS => size_of::<mxgate_facts>(),
        MXGATE_VERDICT => size_of::<mxgate_verdict>(),
        _ => 0,
    }
}

/// One line about a result such as MXGATE_EIO. Never NULL; not to be freed.
#[unsafe(no_mangle)]
pub extern "C" fn mxgate_strerror(result: c_int) -> *const c_char {
    let text = match result {
        MXGATE_ACCEPT => c"no objection",
        MXGATE_REJECT => c"objection: send the reply of the verdict",
        MXGATE_EINVAL => c"a pointer is NULL, or a length or the size of a structure is impossible",
        MXGATE_ESYNTAX => c"the policy or a list is not right",
        MXGATE_EIO => c"a file cannot be read",
        MXGATE_ELIMIT => c"a limit is reached",
        MXGATE_EBUG => c"a bug in the library was caught",
        _ => c"not a result of this library",
    };
    text.as_ptr()
}

/// Makes a gate without rules, which accepts everything. NULL if that fails.
/// Free it with mxgate_free().
#[unsafe(no_mangle)]
pub extern "C" fn mxgate_new() -> *mut mxgate {
    catch_unwind(|| Box::into_raw(Box::new(mxgate { gate: Gate::new() }))).unwrap_or(ptr::null_mut())
}

/// Frees a gate. No thread may be using it. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mxgate_free(gate: *mut mxgate) {
    if !gate.is_null() {
        call(|| {
            // SAFETY: not NULL, so it came from mxgate_new(), and the caller says that nobody uses it any more.
            drop(unsafe { Box::from_raw(gate) });
            Some(MXGATE_ACCEPT)
        });
    }
}

/// Puts the rules of a policy file, and of the lists that it names, in the place
/// of the rules in force. Checks in other threads go on meanwhile, by the old
/// rules or by the new, never by a mixture; loads come one after the other. If
/// anything is wrong the old rules stay.
///
/// message receives all mistakes, each as "file:line:column: cause; remedy", or
/// warnings of a load that succeeded, or ""; NUL-terminated, cut to message_size
/// bytes. It may be NULL if message_size is 0.
///
/// Returns 0, MXGATE_EINVAL, MXGATE_ESYNTAX, MXGATE_EIO, MXGATE_ELIMIT or
/// MXGATE_EBUG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mxgate_load_file(gate: *mut mxgate, path: *const c_char, message: *mut c_char, message_size: usize) -> c_int {
    // SAFETY: the caller gives message_size bytes at message.
    let message = unsafe { Output::new(message, message_size) };
    call(|| {
        // SAFETY: the caller gives a gate or NULL.
        let gate = unsafe { gate_of(gate) }?;
        // SAFETY: the caller gives a NUL-terminated string or NULL.
        let path = unsafe { bytes(path, MXGATE_NUL, MAX_PATH) }??;
        report(gate.load_file(Path::new(OsStr::from_bytes(path))), message?)
    })
}

/// As mxgate_load_file(), from a text of length bytes (or MXGATE_NUL). Relative
/// names of files in it count from the current directory. Messages name the text
/// "policy".
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mxgate_load_text(
    gate: *mut mxgate,
    text: *const c_char,
    length: usize,
    message: *mut c_char,
    message_size: usize,
) -> c_int {
    // SAFETY: the caller gives message_size bytes at message.
    let message = unsafe { Output::new(message, message_size) };
    call(|| {
        // SAFETY: the caller gives a gate or NULL.
        let gate = unsafe { gate_of(gate) }?;
        // SAFETY: the caller gives that many bytes, or a NUL-terminated string, or NULL.
        let text = unsafe { bytes(text, length, usize::MAX >> 1) }??;
        report(gate.load_bytes(text, "policy"), message?)
    })
}

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

/// Checks a client that has just connected: its address and flags.
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
    gate: *const mxgate,
    facts: *const mxgate_facts,
    facts_size: usize,
    verdict: *mut mxgate_verdict,
) -> c_int {
    // SAFETY: the contract is the same.
    unsafe { check(gate, facts, facts_size, verdict, Gate::check_connect) }
}

/// Checks one recipient, and the client with it. Otherwise as
/// mxgate_check_connect(). Ask again for each recipient.
///
/// Authenticated clients, and the recipients postmaster (RFC 5321 section 4.5.1)
/// and abuse (RFC 2142), are exempt from rules about addresses and senders, never
/// from rules about domains that take no mail.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mxgate_check_rcpt(
    gate: *const mxgate,
    facts: *const mxgate_facts,
    facts_size: usize,
    verdict: *mut mxgate_verdict,
) -> c_int {
    // SAFETY: the contract is the same.
    unsafe { check(gate, facts, facts_size, verdict, Gate::check_rcpt) }
}

/// Writes the reply of a verdict without CR LF; NUL-terminated, cut to size
/// bytes; 512 bytes hold any. form is MXGATE_TO_COMMAND ("550 5.7.1 text") or
/// MXGATE_AS_GREETING ("554 host text"). buffer may be NULL if size is 0.
///
/// Returns the full length, as snprintf() does: at most 510. 0, and "", if the
/// verdict has no objection, or is NULL or damaged.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mxgate_reply(verdict: *const mxgate_verdict, form: c_int, buffer: *mut c_char, size: usize) -> usize {
    // SAFETY: the caller gives size bytes at buffer.
    let buffer = unsafe { Output::new(buffer, size) };
    let length = call(|| {
        // SAFETY: the caller gives a verdict or NULL; it is read as plain bytes and numbers, which all are valid.
        let rejection = rejection_of(unsafe { verdict.as_ref() }?)?;
        let line = match form {
            MXGATE_TO_COMMAND => rejection.reply(),
            MXGATE_AS_GREETING => rejection.greeting(),
            _ => return None,
        };
        if let Some(mut buffer) = buffer {
            buffer.write_str(&line).ok()?;
        }
        c_int::try_from(line.len()).ok()
    });
    usize::try_from(length).unwrap_or(0)
}

/// Runs the body of a function: `None` (a bad argument) becomes `MXGATE_EINVAL`, a panic `MXGATE_EBUG`.
fn call(body: impl FnOnce() -> Option<c_int>) -> c_int {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(result) => result.unwrap_or(MXGATE_EINVAL),
        Err(_) => MXGATE_EBUG,
    }
}

/// # Safety
/// `gate` is NULL or came from `mxgate_new()` and has not been freed.
unsafe fn gate_of<'a>(gate: *const mxgate) -> Option<&'a Gate> {
    // SAFETY: as the caller says. Shared references suffice: the gate locks inside.
    unsafe { gate.as_ref() }.map(|gate| &gate.gate)
}

/// The bytes of a string: `None` if its length is impossible, `Some(None)` for NULL.
///
/// # Safety
/// `text` is NULL or points to `length` bytes, or to a NUL-terminated string if `length` is `MXGATE_NUL`.
unsafe fn bytes<'a>(text: *const c_char, length: usize, limit: usize) -> Option<Option<&'a [u8]>> {
    if text.is_null() {
        // A length without bytes is a mistake; no length, or "ends at its NUL", is just nothing.
        return matches!(length, 0 | MXGATE_NUL).then_some(None);
    }
    let length = match length {
        // SAFETY: the caller says that it is NUL-terminated.
        MXGATE_NUL => unsafe { libc::strnlen(text, limit.saturating_add(1)) },
        _ => length,
    };
    // SAFETY: the caller says so; the limit keeps the length below isize::MAX.
    (length <= limit).then(|| Some(unsafe { std::slice::from_raw_parts(text.cast(), length) }))
}

/// # Safety
/// `gate` is NULL or a gate; `facts` is NULL or points to `size` bytes; `verdict` is NULL or points to a verdict.
unsafe fn check(
    gate: *const mxgate,
    facts: *const mxgate_facts,
    size: usize,
    verdict: *mut mxgate_verdict,
    decide: fn(&Gate, &Facts<'_>) -> Verdict,
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
        Some(store(verdict, &decide(gate, &facts)))
    });
    if result < 0 {
        store_accept(verdict);
    }
    result
}

/// Copies what the caller knows into a structure of our size.
///
/// # Safety
/// `facts` is NULL or points to `size` bytes.
unsafe fn copy_facts(facts: *const mxgate_facts, size: usize) -> Option<mxgate_facts> {
    /// No structure of a later release is larger; a larger size is a mistake.
    const MAX_FACTS_SIZE: usize = 4096;
    if facts.is_null() || !(FIRST_FACTS_SIZE..=MAX_FACTS_SIZE).contains(&size) {
        return None;
    }
    // SAFETY: the caller says so, and the size is checked.
    let given = unsafe { std::slice::from_raw_parts(facts.cast::<u8>(), size) };
    let (_, unknown) = given.split_at_checked(size_of::<mxgate_facts>()).unwrap_or((given, &[]));
    if unknown.iter().any(|byte| *byte != 0) {
        return None;
    }
    let mut known = mxgate_facts {
        address_size: 0,
        flags: 0,
        address: [0; 16],
        now: 0,
        spf: 0,
        dkim: 0,
        dmarc: 0,
        rdns: 0,
        reserved: 0,
        sender: ptr::null(),
        sender_length: 0,
        recipient: ptr::null(),
        recipient_length: 0,
    };
    // SAFETY: both have that many bytes, they do not overlap, and every bit pattern is a valid value of the
    // fields. Byte by byte, because the caller's structure may be unaligned.
    unsafe { ptr::copy_nonoverlapping(given.as_ptr(), (&raw mut known).cast(), size.min(size_of::<mxgate_facts>())) };
    Some(known)
}

impl mxgate_facts {
    /// # Safety
    /// `sender` and `recipient` are NULL or point to strings of the lengths beside them.
    unsafe fn facts<'a>(&self) -> Option<Facts<'a>> {
        let address = match self.address_size {
            0 => None,
            4 => self.address.first_chunk::<4>().map(|octets| IpAddr::from(*octets)),
            16 => Some(IpAddr::from(self.address)),
            _ => return None,
        };
        if self.flags & !MXGATE_AUTHENTICATED != 0 || self.reserved != 0 {
            return None;
        }
        Some(Facts {
            address,
            // SAFETY: as the caller says.
            sender: unsafe { bytes(self.sender, self.sender_length, MAX_ARGUMENT) }?,
            // SAFETY: as the caller says.
            recipient: unsafe { bytes(self.recipient, self.recipient_length, MAX_ARGUMENT) }?,
            authenticated: self.flags & MXGATE_AUTHENTICATED != 0,
            spf: AuthResult::of_number(self.spf)?,
            dkim: AuthResult::of_number(self.dkim)?,
            dmarc: AuthResult::of_number(self.dmarc)?,
            rdns: AuthResult::of_number(self.rdns)?,
            now: (self.now != 0).then_some(self.now),
        })
    }
}

/// Says "accept": all numbers zero, all strings empty. The rest of the strings is not touched.
fn store_accept(verdict: &mut mxgate_verdict) {
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
        Output(string).finish();
    }
}

/// Stores a verdict over an "accept".
fn store(verdict: &mut mxgate_verdict, decided: &Verdict) -> c_int {
    verdict.decider = decided.decider as u16;
    verdict.line = decided.line;
    verdict.generation = decided.generation;
    put(&mut verdict.list, &decided.list);
    put(&mut verdict.shadow, &decided.shadow);
    put(&mut verdict.entry, &decided.entry);
    put(&mut verdict.reason, &decided.reason);
    let Some(rejection) = &decided.rejection else { return MXGATE_ACCEPT };
    verdict.code = rejection.code;
    verdict.hangup = rejection.hang_up.into();
    put(&mut verdict.status, &rejection.status);
    put(&mut verdict.host, &rejection.host);
    put(&mut verdict.text, &rejection.text);
    MXGATE_REJECT
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

/// The string in an array, if it ends with NUL.
fn string_in(array: &[c_char]) -> Option<&str> {
    let end = array.iter().position(|byte| *byte == 0)?;
    // SAFETY: c_char and u8 have the same size and alignment, and the bytes belong to the array.
    let bytes = unsafe { std::slice::from_raw_parts(array.as_ptr().cast(), end) };
    std::str::from_utf8(bytes).ok()
}

/// Stores a text as a string. All that a verdict holds fits.
fn put(array: &mut [c_char], text: &impl fmt::Display) {
    let mut output = Output(array);
    // Output cuts, it never fails.
    let _ = write!(output, "{text}");
}

/// Hands over the outcome of a load.
fn report(outcome: Result<Vec<Diagnostic>, LoadError>, mut message: Output<'_>) -> Option<c_int> {
    let (result, diagnostics) = match outcome {
        Ok(warnings) => (MXGATE_ACCEPT, warnings),
        Err(error) => {
            let result = match error.kind() {
                Kind::Syntax => MXGATE_ESYNTAX,
                Kind::Io => MXGATE_EIO,
                Kind::Limit => MXGATE_ELIMIT,
            };
            (result, error.diagnostics)
        }
    };
    message.write_str(render(&diagnostics).trim_end()).ok()?;
    Some(result)
}

/// A buffer of the caller's that takes text, always NUL-terminated; what does not fit is dropped. Holds what is
/// still free, so that text can come in pieces.
struct Output<'a>(&'a mut [c_char]);

impl<'a> Output<'a> {
    /// An empty string in the caller's buffer; `None` for NULL with a size.
    ///
    /// # Safety
    /// `buffer` is NULL or points to `size` bytes that nothing else refers to.
    unsafe fn new(buffer: *mut c_char, size: usize) -> Option<Output<'a>> {
        if buffer.is_null() || size == 0 {
            return (size == 0).then_some(Output(&mut []));
        }
        // No text of ours is longer, and the size is then one that a slice may have.
        let size = size.min(1 << 30);
        // SAFETY: the caller says so. The bytes need not be initialised by it: they are written, never read.
        let output = Output(unsafe { std::slice::from_raw_parts_mut(buffer, size) });
        Some(output.finish())
    }

    /// Ends the string here.
    fn finish(self) -> Output<'a> {
        if let Some(first) = self.0.first_mut() {
            *first = 0;
        }
        self
    }
}

impl Write for Output<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.0.len().saturating_sub(1);
        let fitting = text.as_bytes().get(..room).unwrap_or(text.as_bytes());
        let (to, rest) = std::mem::take(&mut self.0).split_at_mut(fitting.len());
        for (to, from) in to.iter_mut().zip(fitting) {
            *to = c_char::from_ne_bytes([*from]);
        }
        if let Some(first) = rest.first_mut() {
            *first = 0;
        }
        self.0 = rest;
        Ok(())
    }
}
