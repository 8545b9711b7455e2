//! What the mail server knows when it asks.

use std::net::IpAddr;

/// The facts of one question. What is unknown stays at its default and no rule about it matches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// Address of the client. `::ffff:a.b.c.d` counts as `a.b.c.d`.
    pub address: Option<IpAddr>,
    /// Argument of MAIL, with or without angle brackets. Bytes from a stranger.
    pub sender: Option<&'a [u8]>,
    /// Argument of RCPT, with or without angle brackets. Bytes from a stranger.
    pub recipient: Option<&'a [u8]>,
    /// The client has authenticated (SMTP AUTH, RFC 4954): rules about its address do not apply.
    pub authenticated: bool,
    /// Seconds since 1970-01-01 UTC, by which entries expire; `None` for the clock of the system.
    pub now: Option<u64>,
}

impl Facts<'_> {
    /// Facts of which only the client's address is known.
    pub fn of_client(address: IpAddr) -> Facts<'static> {
        Facts { address: Some(address), ..Facts::default() }
    }
}
