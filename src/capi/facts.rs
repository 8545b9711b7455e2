//! What the caller knows: `struct mxgate_facts`.

use super::strings::bytes;
use crate::facts::{AuthResult, Facts};
use libc::c_char;
use std::net::IpAddr;

/// The client has authenticated (SMTP AUTH, RFC 4954). A flag of mxgate_facts.
pub const MXGATE_AUTHENTICATED: u32 = 1;

/// The session is encrypted (STARTTLS, RFC 3207). A flag of mxgate_facts. Only
/// explanations show it.
pub const MXGATE_TLS: u32 = 2;

/// The mail server trusts the client to send mail to everybody, as a policy does
/// by its section relay, trusted. A flag of mxgate_facts.
pub const MXGATE_TRUSTED: u32 = 4;

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

/// Longest sender, recipient or address that is looked at, in bytes. RFC 5321 section 4.5.3.1 allows 512.
pub(super) const MAX_ARGUMENT: usize = 1 << 16;

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
    /// MXGATE_AUTHENTICATED, MXGATE_TLS, MXGATE_TRUSTED, or 0.
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
    /// Port of the client; 0 if not known. Only explanations show it.
    pub port: u16,
    /// 0; kept for later use.
    pub reserved: u16,
    /// Argument of HELO or EHLO: {helo} in replies; NULL if not known.
    pub helo: *const c_char,
    /// Its length in bytes (at most 65536), or MXGATE_NUL.
    pub helo_length: usize,
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

const _: () = assert!(size_of::<mxgate_facts>() == 40 + 6 * size_of::<usize>(), "no holes");

/// Size of mxgate_facts when the ABI was made; no caller has a smaller one. Who adds a field has to copy what the caller has
/// over zeros.
const FIRST_FACTS_SIZE: usize = size_of::<mxgate_facts>();

/// Copies what the caller knows into a structure of our size.
///
/// # Safety
/// `facts` is NULL or points to `size` bytes.
pub(super) unsafe fn copy_facts(facts: *const mxgate_facts, size: usize) -> Option<mxgate_facts> {
    /// No structure of a later release is larger; a larger size is a mistake.
    const MAX_FACTS_SIZE: usize = 4096;
    if facts.is_null() || !(FIRST_FACTS_SIZE..=MAX_FACTS_SIZE).contains(&size) {
        return None;
    }
    // SAFETY: the caller says so, and the size is checked.
    let given = unsafe { std::slice::from_raw_parts(facts.cast::<u8>(), size) };
    let (_, unknown) = given.split_at_checked(size_of::<mxgate_facts>())?;
    if unknown.iter().any(|byte| *byte != 0) {
        return None;
    }
    // SAFETY: it has those bytes, of which every pattern is a valid value of the fields; it may be unaligned.
    Some(unsafe { facts.read_unaligned() })
}

/// The client, if the caller knows nothing else that a rule about addresses could ask for; `None` too if anything is wrong.
///
/// # Safety
/// `facts` is NULL or points to `size` bytes.
#[inline(always)]
pub(super) unsafe fn only_client(facts: *const mxgate_facts, size: usize) -> Option<IpAddr> {
    if facts.is_null() || size != size_of::<mxgate_facts>() {
        return None;
    }
    // SAFETY: it has those bytes, of which every pattern is a valid value of the fields; it may be unaligned.
    let given = unsafe { facts.read_unaligned() };
    // All together, for one comparison.
    let strings = [given.helo, given.sender, given.recipient].map(<*const c_char>::addr);
    let lengths = given.helo_length | given.sender_length | given.recipient_length;
    let results = u32::from_ne_bytes([given.spf, given.dkim, given.dmarc, given.rdns]);
    let others = given.flags | u32::from(given.reserved) | results;
    if strings.iter().fold(lengths, |all, address| all | address) != 0 || others != 0 {
        return None;
    }
    given.client()?
}

/// The client and the recipient, if the caller says of the rest nothing but names of lengths that are given, and nothing is wrong;
/// `None` otherwise. The rest may count all the same for a rule that has something against the recipient.
///
/// # Safety
/// `facts` is NULL or points to `size` bytes, and `recipient` to a string of the length beside it.
#[inline(always)]
pub(super) unsafe fn client_and_recipient<'a>(facts: *const mxgate_facts, size: usize) -> Option<(Option<IpAddr>, &'a [u8])> {
    if facts.is_null() || size != size_of::<mxgate_facts>() {
        return None;
    }
    // SAFETY: it has those bytes, of which every pattern is a valid value of the fields; it may be unaligned.
    let given = unsafe { facts.read_unaligned() };
    let results = u32::from_ne_bytes([given.spf, given.dkim, given.dmarc, given.rdns]);
    let are_long = (given.helo_length | given.sender_length | given.recipient_length) >= MAX_ARGUMENT;
    let has_no_text = |text: *const c_char, length| text.is_null() && length != 0;
    let is_wrong = has_no_text(given.helo, given.helo_length) || has_no_text(given.sender, given.sender_length);
    if given.flags | u32::from(given.reserved) | results != 0 || are_long || is_wrong {
        return None;
    }
    // SAFETY: the caller says so.
    Some((given.client()?, unsafe { bytes(given.recipient, given.recipient_length, MAX_ARGUMENT) }??))
}

impl mxgate_facts {
    /// The address of the client, if it is known; `None` if it has an impossible size.
    #[inline(always)]
    fn client(&self) -> Option<Option<IpAddr>> {
        Some(match self.address_size {
            0 => None,
            4 => self.address.first_chunk::<4>().map(|octets| IpAddr::from(*octets)),
            16 => Some(IpAddr::from(self.address)),
            _ => return None,
        })
    }

    /// # Safety
    /// `helo`, `sender` and `recipient` are NULL or point to strings of the lengths beside them.
    // Always, because what is handed on in memory and read at once in other sizes costs more than all of this.
    #[inline(always)]
    pub(super) unsafe fn facts<'a>(&self) -> Option<Facts<'a>> {
        let address = self.client()?;
        if self.flags & !(MXGATE_AUTHENTICATED | MXGATE_TLS | MXGATE_TRUSTED) != 0 || self.reserved != 0 {
            return None;
        }
        Some(Facts {
            address,
            // SAFETY: as the caller says.
            sender: unsafe { bytes(self.sender, self.sender_length, MAX_ARGUMENT) }?,
            // SAFETY: as the caller says.
            recipient: unsafe { bytes(self.recipient, self.recipient_length, MAX_ARGUMENT) }?,
            port: self.port,
            // SAFETY: as the caller says.
            helo: unsafe { bytes(self.helo, self.helo_length, MAX_ARGUMENT) }?,
            authenticated: self.flags & MXGATE_AUTHENTICATED != 0,
            tls: self.flags & MXGATE_TLS != 0,
            trusted: self.flags & MXGATE_TRUSTED != 0,
            spf: AuthResult::of_number(self.spf)?,
            dkim: AuthResult::of_number(self.dkim)?,
            dmarc: AuthResult::of_number(self.dmarc)?,
            rdns: AuthResult::of_number(self.rdns)?,
            id: None,
            now: (self.now != 0).then_some(self.now),
        })
    }
}
