//! The commands of the control socket, as both ends know them: a line with a request in, a line with the answer out. No
//! I/O of its own, but for what a command is there for.
//!
//! ```text
//! {"command":"explain","ip":"192.0.2.7","rcpt":"user@example.org"}
//! {"ok":true,"result":{"client":"192.0.2.7",...},"text":"verdict:  reject\n..."}
//! {"ok":false,"error":"what is wrong; what to do instead"}
//! ```
//!
//! `result` is for programs, and what `--json` shows; `text` is the same for people. A new command is a variant of
//! [`Request`], which both ends read and write by it, and an arm in each function that looks at all of them.

use crate::ban::{Wanted, ban};
use crate::bans::{Which, bans};
use crate::explain::{explain, explain_again};
use crate::lists::lists;
use crate::mode::{Wish, mode};
use crate::question::Question;
use crate::rules::Rules;
use crate::status::status;
use crate::top::top;
use crate::trace::{self, Follower};
use crate::unban::{Unwanted, unban};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fmt;

/// What can be asked. Keys that a command does not know are refused: they might have been meant to narrow it down.
#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "command", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Request {
    /// Whether the daemon answers.
    Ping {},
    /// The lists in force, with hits.
    Lists {},
    /// Why the rules in force answer as they do.
    Explain(Question),
    /// What was refused under a name, and why it would be again.
    Refusal {
        /// As the log and the reply have it.
        id: String,
    },
    /// What there was most of.
    Top {},
    /// Each answer that clients of a network have, as it is given: a line each, and one at the end.
    Trace {
        /// Address or network.
        network: String,
        /// How long.
        seconds: u64,
    },
    /// Load the policy again.
    Reload {},
    /// Refuse networks.
    Ban(Wanted),
    /// Lift bans.
    Unban(Unwanted),
    /// The bans that have not ended.
    Bans(Which),
    /// Show the mode, or set it.
    Mode(Wish),
    /// The state at a glance.
    Status {},
}

/// What came of a request.
#[derive(Debug, PartialEq)]
pub(crate) struct Done {
    /// For programs.
    pub(crate) result: Value,
    /// For people: whole lines.
    pub(crate) text: String,
}

/// The answer to a line.
#[derive(Debug)]
pub(crate) struct Answer {
    /// With its line feed.
    pub(crate) line: Vec<u8>,
    /// Whether the connection ends with it.
    pub(crate) last: bool,
    /// Whom to follow after it.
    pub(crate) follow: Option<Follower>,
}

impl Request {
    /// The request as a line.
    pub(crate) fn to_line(&self) -> Vec<u8> {
        line(&json!(self))
    }

    /// What the log says of a command that changes something.
    fn change(&self) -> Option<&'static str> {
        match self {
            Request::Ping {}
            | Request::Lists {}
            | Request::Explain(_)
            | Request::Bans(_)
            | Request::Status {}
            | Request::Refusal { .. }
            | Request::Top {}
            | Request::Trace { .. } => None,
            Request::Reload {} => Some("reload"),
            Request::Ban(wanted) => wanted.is_change().then_some("ban"),
            Request::Unban(_) => Some("unban"),
            Request::Mode(wish) => wish.is_change().then_some("mode"),
        }
    }

    fn carry_out(&self, rules: &Rules) -> Result<Done, String> {
        match self {
            Request::Ping {} => Ok(Done { result: json!({ "generation": rules.gate.ruleset().generation() }), text: String::new() }),
            Request::Lists {} => Ok(lists(&rules.gate, true)),
            Request::Explain(question) => Ok(explain(&rules.gate, question)),
            Request::Refusal { id } => explain_again(rules, id),
            Request::Top {} => Ok(top(rules)),
            Request::Trace { network, .. } => trace::network(network).map(trace::begun),
            Request::Reload {} => rules.reload().map(|loaded| Done { result: loaded.to_json(), text: loaded.to_string() }),
            Request::Ban(wanted) => ban(rules, wanted),
            Request::Unban(unwanted) => unban(rules, unwanted),
            Request::Bans(which) => Ok(bans(&rules.gate, which)),
            Request::Mode(wish) => Ok(mode(&rules.gate, wish)),
            Request::Status {} => Ok(status(rules)),
        }
    }
}

impl Done {
    /// What the daemon answers.
    pub(crate) fn to_line(&self) -> Vec<u8> {
        line(&json!({ "ok": true, "result": self.result, "text": self.text }))
    }

    /// What a subcommand prints.
    pub(crate) fn show(self, json: bool) -> String {
        if json { format!("{:#}\n", self.result) } else { self.text }
    }
}

impl Answer {
    /// An error that ends the connection.
    pub(crate) fn refusal(error: &str) -> Answer {
        Answer { line: line(&json!({ "ok": false, "error": error })), last: true, follow: None }
    }
}

/// Carries out what a line asks for. A line that is no request is the last one of its connection.
pub(crate) fn answer(rules: &Rules, line: &[u8], asker: &dyn fmt::Display) -> Answer {
    let request: Request = match serde_json::from_slice(line) {
        Ok(request) => request,
        Err(error) => return Answer::refusal(&format!("not a request: {error}; write one such as {{\"command\":\"ping\"}}")),
    };
    if let Some(change) = request.change() {
        log::info!("control: {change} asked for by {asker}");
    }
    let network = if let Request::Trace { network, seconds } = &request { trace::network(network).ok().zip(Some(*seconds)) } else { None };
    let follow = network.map(|(network, seconds)| rules.refusals.traces.follow(network, seconds));
    let line = match request.carry_out(rules) {
        Ok(done) => done.to_line(),
        Err(error) => self::line(&json!({ "ok": false, "error": error })),
    };
    Answer { line, last: false, follow }
}

/// JSON on one line: line feeds inside of it are escaped.
fn line(value: &Value) -> Vec<u8> {
    format!("{value}\n").into_bytes()
}

/// Reads an answer without its line feed: what came of the request, or the error; `None` if it is no answer.
pub(crate) fn parse_answer(line: &[u8]) -> Option<Result<Done, String>> {
    let mut answer: Value = serde_json::from_slice(line).ok()?;
    let text = |key| answer.get(key)?.as_str().map(str::to_owned);
    if answer.get("ok")?.as_bool()? {
        let text = text("text")?;
        Some(Ok(Done { result: answer.get_mut("result")?.take(), text }))
    } else {
        text("error").map(Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    fn built_in() -> Rules {
        let rules = Rules::new(None);
        rules.load().unwrap();
        rules
    }

    fn ask(rules: &Rules, line: impl AsRef<[u8]>) -> (Value, bool) {
        let answer = answer(rules, line.as_ref(), &"the test");
        let (end, text) = answer.line.split_last().unwrap();
        assert!(*end == b'\n' && !text.contains(&b'\n'), "one line: {}", text.escape_ascii());
        (serde_json::from_slice(text).unwrap(), answer.last)
    }

    #[test]
    fn requests_as_a_client_writes_them() {
        let rules = built_in();
        let line = answer(&rules, br#"{"command":"ping"}"#, &"the test").line;
        assert_eq!(String::from_utf8(line).unwrap(), "{\"ok\":true,\"result\":{\"generation\":1},\"text\":\"\"}\n");

        let (lists, last) = ask(&rules, " {\"command\" : \"lists\"}\r");
        assert_eq!((&lists["ok"], &lists["result"][0]["hits"], last), (&json!(true), &json!(0), false));
        assert!(lists["text"].as_str().unwrap().starts_with("NAME "), "{lists}");

        let (explained, _) = ask(&rules, r#"{"command":"explain","ip":"[192.0.2.7]"}"#);
        assert_eq!(explained["result"]["winner"]["list"], "local");
        let rcpt = r#"{"command":"explain","ip":"192.0.2.7","from":"","rcpt":"postmaster@example.org","authenticated":true,"spf":"fail"}"#;
        assert_eq!(ask(&rules, rcpt).0["result"]["verdict"]["accept"], json!(true));
    }

    #[test]
    fn what_is_no_request_is_told_what_to_send_and_ends_the_connection() {
        let rules = built_in();
        let deep = [b"{\"more\":".to_vec(), vec![b'['; 60_000]].concat();
        for (line, cause) in [
            (&b""[..], "EOF"),
            (b"GET / HTTP/1.0\r", "expected value"),
            (b"\xff\0\x1b[2J", "expected value"),
            (b"{\"command\":\"ping\"", "EOF"),
            (b"{\"command\":\"ping\"} {\"command\":\"ping\"}", "trailing characters"),
            (b"[]", "missing field `command`"),
            (b"{}", "missing field `command`"),
            (b"{\"command\":7}", "invalid type"),
            (b"{\"command\":\"ping\",\"command\":\"reload\"}", "duplicate field `command`"),
            (
                b"{\"command\":\"halt\"}",
                "unknown variant `halt`, expected one of `ping`, `lists`, `explain`, `refusal`, `top`, `trace`, `reload`, `ban`, ",
            ),
            (b"{\"command\":\"reload\",\"list\":\"local\"}", "unknown field `list`"),
            (b"{\"command\":\"explain\"}", "missing field `ip`"),
            (b"{\"command\":\"refusal\"}", "missing field `id`"),
            (b"{\"command\":\"trace\",\"network\":\"192.0.2.7\",\"seconds\":-1}", "invalid value"),
            (b"{\"command\":\"explain\",\"ip\":\"192.0.2.256\"}", "not an IP address; write one such as"),
            (b"{\"command\":\"explain\",\"ip\":\"192.0.2.7\",\"spf\":\"good\"}", "not a result; write one of pass,"),
            (b"{\"command\":\"explain\",\"ip\":\"192.0.2.7\",\"stage\":1}", "unknown field `stage`"),
            (b"{\"command\":\"ban\",\"bans\":[{\"network\":\"192.0.2.7\",\"why\":\"\"}]}", "unknown field `why`"),
            (b"{\"command\":\"ban\",\"bans\":[],\"for\":\"1 day\"}", "\"1 day\" is not a time span; write a number and s, m, h"),
            (b"{\"command\":\"bans\",\"within\":\"10/8\"}", "; write "),
            (b"{\"command\":\"mode\",\"mode\":\"off\"}", "not a mode; write one of open, maintenance,"),
            (&deep, "recursion limit"),
        ] {
            let (answer, last) = ask(&rules, line);
            let error = answer["error"].as_str().unwrap();
            assert!(answer["ok"] == json!(false) && last, "{answer}");
            assert!(error.contains(cause) && error.ends_with("; write one such as {\"command\":\"ping\"}"), "{error}");
        }
        assert_eq!(rules.gate.ruleset().generation(), 1);
    }

    #[test]
    fn both_ends_speak_the_same() {
        let rules = built_in();
        let question =
            serde_json::from_str(r#"{"ip":"2001:db8::1","rcpt":"a\nb@example.org","authenticated":true,"dmarc":"fail"}"#).unwrap();
        let read = |line: &str| serde_json::from_str(line).unwrap();
        for request in [
            Request::Ping {},
            Request::Lists {},
            Request::Explain(question),
            Request::Top {},
            Request::Trace { network: "192.0.2.0/24".into(), seconds: 1 },
            Request::Reload {},
            read(r#"{"command":"ban","bans":[{"network":"192.0.2.7","reason":"a\u0000b"}],"for":"24h"}"#),
            read(r#"{"command":"ban","bans":[{"network":"192.0.2.8","place":[3,1]}],"file":"f","check":true}"#),
            read(r#"{"command":"unban","networks":["192.0.2.7"]}"#),
            read(r#"{"command":"bans","within":"192.0.2.0/24"}"#),
            read(r#"{"command":"mode","mode":"policy"}"#),
            Request::Status {},
        ] {
            let sent = request.to_line();
            let read: Request = serde_json::from_slice(&sent).unwrap();
            assert_eq!(read.to_line(), sent);
            let Answer { line, last, .. } = answer(&rules, &sent, &"the test");
            let heard = parse_answer(&line).unwrap();
            if matches!(request, Request::Reload {}) {
                // The built-in policy is in no file.
                assert!(heard.unwrap_err().ends_with("; start the daemon with --config FILE"));
            } else {
                assert!(heard.is_ok());
            }
            assert!(!last, "a command that fails ends nothing");
        }
        for no_answer in ["", "{}", "7", "{\"ok\":1}", "{\"ok\":true}", "{\"ok\":true,\"text\":\"\"}", "{\"ok\":false,\"error\":7}"] {
            assert_eq!(parse_answer(no_answer.as_bytes()), None, "{no_answer}");
        }
    }

    #[test]
    fn a_reload_tells_what_differs_or_what_is_wrong() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("p.toml");
        let policy = "hostname = \"mx.example.org\"\n[[list]]\nname = \"local\"\nentries = [\"192.0.2.0/24\"]\n";
        fs::write(&path, policy).unwrap();
        let rules = Rules::new(Some(path.clone()));
        rules.load().unwrap();
        let reload = |policy: &str| {
            fs::write(&path, policy).unwrap();
            let (answer, last) = ask(&rules, r#"{"command":"reload"}"#);
            assert!(!last);
            answer
        };
        let same = reload(policy);
        assert_eq!((&same["result"]["generation"], &same["result"]["changes"]), (&json!(2), &json!([])));
        assert_eq!(same["text"], "rules of load 2 in force: 1 networks, 0 domain entries, 0 warnings\n");

        let refused = reload("hostname = 3\nmode = \"x\"\n");
        let (file, error) = (path.display(), refused["error"].as_str().unwrap());
        assert!(error.contains(&format!("{file}:1:12: ")) && error.contains(&format!("{file}:2:8: ")), "{error}");
        assert!(error.ends_with("\nthe policy was not loaded; the rules of load 2 stay in force"), "{error}");

        let other = policy
            .replace("\"192.0.2.0/24\"", "\"192.0.2.0/24\", \"198.51.100.0/25\"")
            .replace("[[list]]", "mode = \"draining\"\n[[list]]");
        let changed = reload(&other);
        assert_eq!(changed["result"]["changes"], json!(["mode changed", "list local: +1 -0 (2 entries)"]));
        assert!(changed["text"].as_str().unwrap().ends_with("0 warnings\nmode changed\nlist local: +1 -0 (2 entries)\n"), "{changed}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]
        #[test]
        fn any_bytes_get_one_line(
            bytes in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..200),
                "\\{(\"(command|ip|rcpt|spf|networks|bans|within|mode)\" ?: ?(\"(ping|lists|explain|ban|unban|bans|mode|status|open|192.0.2.7|\\\\u00e9|pass)\"|[0-9\\[{]{1,3}),?){0,4}\\}".prop_map(String::into_bytes),
            ],
        ) {
            let (answer, last) = ask(&built_in(), &bytes);
            prop_assert_eq!(answer["ok"].as_bool().unwrap(), !last);
            prop_assert!(answer["ok"] == json!(true) || answer["error"].as_str().unwrap().contains("; "));
        }
    }
}
