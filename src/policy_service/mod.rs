//! Postfix's policy service (SMTP access policy delegation, SMTPD_POLICY_README): how `check_policy_service` asks.
//!
//! No I/O happens here. [`codec`] turns bytes into requests and verdicts into answers, [`session`] is the conversation with one
//! process of the mail server: bytes in, bytes out. A driver such as `mxgate serve` moves the bytes.
//!
//! It is asked where the restriction stands that names it, and its text reaches the client at each stage. So it is the only
//! way to a greeting of our own in Postfix: `smtpd_client_restrictions` with `smtpd_delay_reject = no`.

pub mod codec;
pub mod session;

pub use crate::conversation::{Progress, Refusal};
pub use codec::ProtocolError;
pub use session::Session;

#[cfg(test)]
mod tests;
