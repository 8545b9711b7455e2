//! What the mail server knows when it asks.

use std::net::IpAddr;

/// The facts of one question. What is unknown stays at its default and no rule about it matches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// Address of the client. `::ffff:a.b.c.d` counts as `a.b.c.d`.
    pub address: Option<IpAddr>,
    /// Port of the client; 0 if it is not known. Only explanations show it.
    pub port: u16,
    /// Argument of HELO or EHLO: the placeholder `{helo}` of replies. Bytes from a stranger.
    pub helo: Option<&'a [u8]>,
    /// Argument of MAIL, with or without angle brackets; `<>` is the empty sender of bounces, which no rule about
    /// senders refuses. Bytes from a stranger.
    pub sender: Option<&'a [u8]>,
    /// Argument of RCPT, with or without angle brackets; the address that the mail server will deliver to, if it
    /// resolves `user%other.example@example.org` or the like. Bytes from a stranger.
    pub recipient: Option<&'a [u8]>,
    /// The client has authenticated (SMTP AUTH, RFC 4954): rules about its address do not apply.
    pub authenticated: bool,
    /// The session is encrypted (STARTTLS, RFC 3207). Only explanations show it.
    pub tls: bool,
    /// The mail server trusts the client, as those that the policy names in `[relay]`.
    pub trusted: bool,
    /// What checking SPF came to (RFC 7208).
    pub spf: AuthResult,
    /// What checking DKIM came to (RFC 6376): `Pass` if any signature passes.
    pub dkim: AuthResult,
    /// What checking DMARC came to: `Fail` where the domain's owner asks for it to be refused.
    pub dmarc: AuthResult,
    /// Whether the client's name leads back to its address (`iprev`, RFC 8601 section 2.7.3).
    pub rdns: AuthResult,
    /// Under which name the question is found again: the placeholder `{id}` of replies. See [`Ids`](crate::id::Ids).
    pub id: Option<&'a str>,
    /// Seconds since 1970-01-01 UTC, by which entries expire; `None` for the clock of the system.
    pub now: Option<u64>,
}

impl Facts<'_> {
    /// Facts of which only the client's address is known.
    pub fn of_client(address: IpAddr) -> Facts<'static> {
        Facts { address: Some(address), ..Facts::default() }
    }
}

/// What an authentication check came to, by the names of RFC 8601 section 2.7. The numbers are those of the C ABI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum AuthResult {
    /// Not checked, or not known to the mail server.
    #[default]
    Unknown = 0,
    /// It passed.
    Pass = 1,
    /// There was nothing to check: no record, no signature.
    None = 2,
    /// The domain says nothing about it.
    Neutral = 3,
    /// Probably not authorised (SPF).
    Softfail = 4,
    /// It failed.
    Fail = 5,
    /// It could not be checked now.
    Temperror = 6,
    /// It cannot be checked: a record is wrong.
    Permerror = 7,
    /// Sound, but not acceptable to the checker (DKIM).
    Policy = 8,
}

impl AuthResult {
    /// All results that a mail server can give, with their names.
    pub const NAMED: [(&str, AuthResult); 8] = [
        ("pass", AuthResult::Pass),
        ("none", AuthResult::None),
        ("neutral", AuthResult::Neutral),
        ("softfail", AuthResult::Softfail),
        ("fail", AuthResult::Fail),
        ("temperror", AuthResult::Temperror),
        ("permerror", AuthResult::Permerror),
        ("policy", AuthResult::Policy),
    ];

    /// The result with that number.
    pub(crate) fn of_number(number: u8) -> Option<AuthResult> {
        Some(match number {
            0 => AuthResult::Unknown,
            1 => AuthResult::Pass,
            2 => AuthResult::None,
            3 => AuthResult::Neutral,
            4 => AuthResult::Softfail,
            5 => AuthResult::Fail,
            6 => AuthResult::Temperror,
            7 => AuthResult::Permerror,
            8 => AuthResult::Policy,
            _ => return None,
        })
    }

    /// Its name in RFC 8601.
    pub fn name(self) -> &'static str {
        AuthResult::NAMED.iter().find(|(_, result)| *result == self).map_or("unknown", |(name, _)| name)
    }
}
