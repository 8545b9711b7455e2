//! The rules at RCPT about names: lists of domains, senders and recipients, relaying, authentication.

pub(crate) mod authentication;
pub(crate) mod names;
pub(crate) mod relay;
