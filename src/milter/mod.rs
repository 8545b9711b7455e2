//! The milter protocol (Sendmail's mail filter protocol, versions 2 to 6): how Postfix and Sendmail ask.
//!
//! No I/O happens here. [`codec`] turns bytes into packets and back, [`session`] is the conversation with one mail
//! server: bytes in, bytes out. A driver such as `mxgate serve` moves the bytes.
//!
//! The verdict is given at RCPT, even if the client's address alone decides. At CONNECT the mail servers replace
//! the code and the text of a milter by their own (Postfix: `554 ... not accepting connections`), and neither the
//! recipient nor whether the client has authenticated is known yet, so that `postmaster` could not stay reachable.

pub mod codec;
pub mod session;

pub use crate::conversation::{Progress, Refusal};
pub use session::{ProtocolError, Session};

#[cfg(test)]
mod tests;
