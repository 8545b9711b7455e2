//! `mxgate status`: the state of the daemon at a glance, as an SMTP reply 211 or as JSON.

use crate::commands::Done;
use mxgate::Gate;
use mxgate::status::Status;

/// The state of a gate. Its lines end as lines of a terminal do.
pub(crate) fn status(gate: &Gate) -> Done {
    let status = Status::of(gate);
    Done { result: status.to_json(), text: format!("{status}\n").replace("\r\n", "\n") }
}
