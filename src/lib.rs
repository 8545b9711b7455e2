//! SMTP policy engine: decides at CONNECT and at RCPT whether a client goes on or gets a 521 (this host or domain
//! takes no mail), a 421 (come back later) or a 5.7.1 (refused by policy), from address lists, allow lists and
//! per-domain no-mail rules held in memory.
//!
//! The modules stand in the order of the flow; each depends only on those above it.
//!
//! ```
//! use mxgate::{Facts, Gate};
//!
//! let gate = Gate::new();
//! gate.load_text(
//!     r#"
//!     hostname = "mx.example.org"
//!     [[list]]
//!     name = "local"
//!     entries = ["192.0.2.0/24 sent spam"]
//!     "#,
//!     "policy",
//! )?;
//! let verdict = gate.check_connect(&Facts::of_client("192.0.2.7".parse()?));
//! let reply = verdict.rejection.map(|rejection| rejection.reply().to_string());
//! assert_eq!(reply.as_deref(), Some("550 5.7.1 Service unavailable; client [192.0.2.7] blocked using local"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod diagnostic;
mod flat;
mod memory;
#[cfg(feature = "capi")]
mod reserve;

mod address;
pub mod domain;
mod idn;
mod line;
pub mod prefix;
pub mod reply;
mod retry;

pub mod facts;
pub mod id;
pub mod mailbox;
mod mode;
mod stage;
pub mod verdict;
pub mod wire;

mod barrier;
pub mod limits;
mod published;
mod seat;
mod tally;
mod turn;

mod list;
pub mod networks;
mod policy;

mod contents;
mod guards;

mod covering;
mod resolve;
mod rules;

mod automatic;
pub mod ban_file;
mod bans;
mod bytes;
mod compile;
mod decision;
mod disk;
mod hits;
mod image;
mod ruleset;
mod source;

pub mod convert;
pub mod lint;
mod shown;

pub mod diff;
pub mod explain;
pub mod overview;

pub mod gate;
pub mod status;

pub mod capi;

mod conversation;
pub mod milter;
pub mod policy_service;

pub use bans::Ban;
pub use compile::Files;
pub use covering::List;
pub use explain::Explanation;
pub use facts::{AuthResult, Facts};
pub use gate::{Counts, Gate, LoadError};
pub use mode::Mode;
pub use policy::{Escalation, Overload, Subnet, parse_duration};
pub use ruleset::{Ruleset, Stages};
pub use stage::Stage;
pub use verdict::{Decider, Entry, Rejection, Verdict};
