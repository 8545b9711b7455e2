//! What a command has written, and how it ended.

use serde_json::Value;
use std::process::Output;

/// What a command has written, and its exit status.
#[derive(Debug, PartialEq)]
pub struct Shown {
    pub out: String,
    pub error: String,
    pub status: Option<i32>,
}

impl From<Output> for Shown {
    fn from(output: Output) -> Shown {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Shown { out: text(output.stdout), error: text(output.stderr), status: output.status.code() }
    }
}

impl Shown {
    /// What `--json` has written.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}
