//! `mxgate status`: the state of the daemon at a glance, as an SMTP reply 211 or as JSON; what is wrong with it first.

use crate::commands::Done;
use crate::rules::Rules;
use mxgate::status::Status;

/// The state of a daemon. Its lines end as lines of a terminal do.
pub(crate) fn status(rules: &Rules) -> Done {
    let (status, alarms) = (Status::of(&rules.gate), rules.alarms());
    let text = format!("{status}\n").replace("\r\n", "\n");
    let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let told: String = alarms.iter().map(|alarm| format!("211-Alarm: {alarm}\n")).collect();
    let mut result = status.to_json();
    if let Some(result) = result.as_object_mut() {
        result.insert("alarms".into(), alarms.into());
    }
    Done { result, text: format!("{first}\n{told}{rest}") }
}
