//! What the daemon says of refusals: lines that fail2ban reads, no flood of them, JSON, and names under which `mxgate explain
//! --id` finds them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what goes wrong here ends the test, with a message")]

use asking::Server;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::process::{ChildStdout, Command, Output, Stdio};
use support::{available, wait_for};

#[path = "support/asking.rs"]
mod asking;
mod support;

const POLICY: &str = "hostname = \"mx.example.org\"\n[[list]]\nname = \"local\"\nreply = \"554 5.7.1 Go away, [{ip}]; {id}\"\n\
                      entries = [\"192.0.2.0/24 sent spam\", \"2001:db8::/32\"]\n[relay]\nlocal = [\"example.org\"]\n";
const SERVE_ALL: &[&str] = &["--log-lines", "1000000"];

fn out(output: &Output) -> String {
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The name that ends a reply or a log line.
fn id(line: &str) -> String {
    let id = line.rsplit([' ', '=']).next().unwrap();
    assert!(id.len() == 8 && id.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()), "{line}");
    id.to_owned()
}

#[test]
fn fail2ban_knows_whom_to_ban() {
    if !available(&["fail2ban-regex"]) {
        return;
    }
    let server = Server::start(POLICY, SERVE_ALL);
    let ask = |client: &str, recipient: &str| server.connect(client).rcpt(recipient.as_bytes());
    for client in ["192.0.2.7", "192.0.2.8", "2001:db8::9"] {
        assert!(ask(client, "<user@example.org>").starts_with(&format!("554 5.7.1 Go away, [{client}]; ")));
    }
    assert!(ask("198.51.100.1", "<user@example.net>").starts_with("550 5.7.1 Relaying denied"));
    // It is not to be had by what it writes.
    assert!(!ask("198.51.100.2", "<x]: 554 5.7.1 Service unavailable; from [203.0.113.1]@example.net>").is_empty());
    assert!(!ask("198.51.100.3", "<a@b>\r\nNOQUEUE: reject: RCPT from unknown[203.0.113.2]: 554 5.7.1 Service unavailable;@c>").is_empty());
    assert_eq!(ask("198.51.100.4", "<user@example.org>"), "");
    let refusals = |log: &str| log.lines().filter(|line| line.starts_with("NOQUEUE: reject: ")).count();
    let log = wait_for("all are told", || Some(server.log()).filter(|log| refusals(log) >= 6));
    assert_eq!(refusals(&log), 6, "{log}");
    // As syslog writes them.
    let syslog: String = log.lines().map(|line| format!("Nov 21 23:50:25 mx mxgate[123]: {line}\n")).collect();
    fs::write(server.path("syslog"), syslog).unwrap();
    let mut found = Command::new("fail2ban-regex");
    found.args(["--out", "ip"]).arg(server.path("syslog")).arg("postfix[_daemon=mxgate]");
    let found = out(&found.output().unwrap());
    let banned: Vec<&str> = found.lines().collect();
    assert_eq!(banned, ["192.0.2.7", "192.0.2.8", "2001:db8::9", "198.51.100.1", "198.51.100.2", "198.51.100.3"], "{log}");
}

#[test]
fn a_flood_is_summed_up_and_the_total_stays_true() {
    let server = Server::start(POLICY, &["--log-lines", "3"]);
    let mut flood = server.connect("192.0.2.7");
    for _ in 0..535 {
        assert!(flood.rcpt(b"<user@example.org>").starts_with("554 "));
    }
    for host in 1..=5 {
        assert!(server.connect(&format!("2001:db8::{host}")).rcpt(b"<user@example.org>").starts_with("554 "));
    }
    drop(flood);
    server.daemon.signal("TERM");
    wait_for("the daemon ends", || (!server.daemon.running()).then_some(()));
    let log = server.log();
    let told = |client: &str| log.lines().filter(|line| line.starts_with(&format!("NOQUEUE: reject: RCPT from unknown[{client}"))).count();
    assert_eq!((told("192.0.2.7]"), told("2001:db8::")), (3, 3), "{log}");
    assert!(log.contains("\n532 more refusals of 192.0.2.7 in 60 s\n2 more refusals of 2001:db8::/64 in 60 s\n"), "{log}");
}

#[test]
fn the_journal_reads_priorities() {
    // As systemd says that standard error is the journal, whatever it is.
    let shell = "JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec \"$@\"";
    let server = Server::start_by("/bin/sh", &["-c", shell, "sh", asking::PROGRAM], POLICY, &[]);
    server.connect("192.0.2.7").rcpt(b"<user@example.org>");
    server.wait_for_line("<6>NOQUEUE: reject: RCPT from unknown[192.0.2.7]: ");
    fs::write(server.path("mxgate.toml"), "hostname = 3\n").unwrap();
    assert!(!server.ask(&["reload"]).status.success());
    server.wait_for_line("<3>the policy was not loaded; ");
    // Whoever passes the variable on to another standard error has not said so.
    let shell = "JOURNAL_STREAM=1:2 exec \"$@\"";
    let server = Server::start_by("/bin/sh", &["-c", shell, "sh", asking::PROGRAM], POLICY, &[]);
    assert!(server.wait_for_line("rules of load 1 in force").starts_with("info: "));
}

#[test]
fn json_has_a_key_for_each_part() {
    let server = Server::start(POLICY, &["--log-format", "json", "--log-lines", "1"]);
    let mut session = server.connect("192.0.2.7");
    let reply = session.rcpt(b"<\"a\x1b\x7f\\\xff\"@example.org>");
    session.rcpt(b"<user@example.org>");
    drop(session);
    server.daemon.signal("TERM");
    wait_for("the daemon ends", || (!server.daemon.running()).then_some(()));
    let log = server.log();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{log}"))).collect();
    assert!(lines.iter().all(|line| line["time"].as_str().unwrap().ends_with('Z') && line["level"] == "info"), "{log}");
    let of = |event: &str| lines.iter().filter(|line| line["event"] == event).cloned().collect::<Vec<Value>>();
    let [mut refusal] = of("refusal").try_into().unwrap();
    refusal["time"] = Value::Null;
    let expected = json!({
        "time": null, "level": "info", "event": "refusal", "id": id(&reply), "stage": "rcpt", "client": "192.0.2.7", "helo": null,
        "sender": null, "recipient": "\"a??\\?\"@example.org", "authenticated": false, "code": 554, "status": "5.7.1", "reply": reply,
        "decider": "block list", "list": "local", "entry": "192.0.2.0/24", "line": 5, "reason": "sent spam", "generation": 1,
    });
    assert_eq!(refusal, expected);
    let [summary] = of("summary").try_into().unwrap();
    assert_eq!((&summary["client"], &summary["refusals"], &summary["seconds"]), (&json!("192.0.2.7"), &json!(1), &json!(60)));
    assert!(of("message").iter().any(|line| line["message"].as_str().unwrap().starts_with("rules of load 1 in force")), "{log}");
}

#[test]
fn what_a_client_was_told_is_found_again() {
    let server = Server::start(POLICY, &[]);
    let reply = server.connect("192.0.2.7").rcpt(b"<User@example.org>");
    let name = id(&reply);
    assert_eq!(reply, format!("554 5.7.1 Go away, [192.0.2.7]; {name}"));
    assert_eq!(id(&server.wait_for_line("NOQUEUE: ")), name, "the log has the same");
    let shown = server.ask(&["explain", "--id", &name.to_lowercase()]);
    let text = out(&shown);
    assert_eq!(shown.status.code(), Some(1));
    assert!(text.starts_with(&format!("refused:  {name}, 2")) && text.contains(&format!("\ntold:     {reply}\n")), "{text}");
    assert!(text.contains("\nasked:    client [192.0.2.7], recipient <User@example.org>\n"), "{text}");
    assert!(text.contains("\nBy the rules in force now, load 1:\nverdict:  reject\nreply:    554 5.7.1 Go away"), "{text}");

    // By other rules it would go on now.
    fs::write(server.path("mxgate.toml"), POLICY.replace("192.0.2.0/24", "203.0.113.0/24")).unwrap();
    assert!(server.ask(&["reload"]).status.success());
    let shown = server.ask(&["explain", "--id", &name, "--json"]);
    let found: Value = serde_json::from_str(&out(&shown)).unwrap();
    assert_eq!(shown.status.code(), Some(0), "{found}");
    assert_eq!(
        (&found["verdict"]["accept"], &found["refusal"]["reply"], &found["refusal"]["generation"]),
        (&json!(true), &json!(reply), &json!(1))
    );

    for (arguments, cause) in [
        (["explain", "--id", "00000000"], "no refusal 00000000 is remembered; "),
        (["explain", "--id", "unknown!"], "not the name of a refusal; write the eight letters and digits behind id= in the log"),
    ] {
        let refused = server.ask(&arguments);
        assert!(String::from_utf8_lossy(&refused.stderr).starts_with(cause), "{refused:?}");
        assert_eq!(refused.status.code(), Some(2));
    }
    for wrong in [&["explain"][..], &["explain", "--id", &name, "--ip", "192.0.2.7"]] {
        assert_eq!(server.ask(wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn top_shows_whom_and_by_what() {
    let server = Server::start(POLICY, &[]);
    for (client, recipient, number) in
        [("192.0.2.7", "<user@example.org>", 20), ("2001:db8::1", "<user@example.org>", 3), ("198.51.100.1", "<user@example.net>", 7)]
    {
        let mut session = server.connect(client);
        (0..number).for_each(|_| assert!(!session.rcpt(recipient.as_bytes()).is_empty()));
    }
    let text = out(&server.ask(&["top"]));
    let (since, tables) = text.split_once('\n').unwrap();
    assert!(since.starts_with("since 2"), "{text}");
    assert_eq!(
        tables,
        "\n   REFUSED  CLIENT\n        20  192.0.2.7\n         7  198.51.100.1\n         3  2001:db8::/64\n\
         \n   REFUSED  BY\n        23  block list local\n         7  relay rule\n\n      HITS  LIST\n        23  local, block list\n"
    );
    let json: Value = serde_json::from_str(&out(&server.ask(&["top", "--json"]))).unwrap();
    assert_eq!(json["clients"][0], json!({ "client": "192.0.2.7", "refusals": 20, "doubtful": 0 }));
    assert_eq!(json["rules"][1], json!({ "rule": "relay rule", "refusals": 7, "doubtful": 0 }));
    assert_eq!(json["lists"], json!([{ "list": "local", "kind": "block list", "hits": 23 }]));
}

#[test]
fn trace_follows_clients() {
    let server = Server::start(POLICY, &["--log-lines", "0"]);
    let follow = |arguments: &[&str]| {
        let mut command = Command::new(asking::PROGRAM);
        command.arg("trace").args(arguments).arg("--control").arg(server.path("control.sock"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut tracing = [follow(&["198.51.100.0/24", "--for", "3", "--json"]), follow(&["2001:db8::/32", "--for", "3"])];
    let mut lines = tracing.each_mut().map(|child| BufReader::new(child.stdout.take().unwrap()).lines());
    let [json_lines, text_lines] = &mut lines;
    let json_line = |lines: &mut Lines<BufReader<ChildStdout>>| -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(json_line(json_lines), json!({ "event": "follow", "network": "198.51.100.0/24" }));
    let mut session = server.connect("198.51.100.7");
    assert_eq!(session.rcpt(b"<user@example.org>"), "");
    assert!(session.rcpt(b"<user@example.net>").starts_with("550 5.7.1 Relaying"));
    server.connect("203.0.113.7").rcpt(b"<user@example.net>");
    let accepted = json_line(json_lines);
    assert_eq!((&accepted["event"], &accepted["client"], &accepted["reply"]), (&json!("acceptance"), &json!("198.51.100.7"), &Value::Null));
    let refused = json_line(json_lines);
    assert_eq!((&refused["event"], &refused["recipient"], &refused["code"]), (&json!("refusal"), &json!("user@example.net"), &json!(550)));
    assert_eq!(text_lines.next().unwrap().unwrap(), "following 2001:db8::/32");
    server.connect("2001:db8::7").rcpt(b"<user@example.org>");
    let refused = text_lines.next().unwrap().unwrap();
    assert!(refused.contains("Z NOQUEUE: reject: RCPT from unknown[2001:db8::7]: 554 5.7.1 "), "{refused:?}");
    assert_eq!(json_line(json_lines), json!({ "event": "end", "lost": 0 }));
    assert!(json_lines.next().is_none());
    drop(lines);
    for mut child in tracing {
        let _ = child.wait();
    }
    assert!(!server.log().contains("reject"), "the log tells nobody with --log-lines 0: {}", server.log());

    for (arguments, cause) in [
        (["192.0.2.7/24", "--for", "3"], "write 192.0.2.0/24 for the network"),
        (["192.0.2.0/24", "--for", "9999"], "9999 is not in 1..=3600"),
    ] {
        let wrong = follow(&arguments).wait_with_output().unwrap();
        assert!(String::from_utf8_lossy(&wrong.stderr).contains(cause) && wrong.status.code() == Some(2), "{wrong:?}");
    }
}

#[test]
fn the_latest_are_kept_and_no_client_pushes_the_others_out() {
    let server = Server::start(POLICY, &[]);
    let first = id(&server.connect("192.0.2.1").rcpt(b"<user@example.org>"));
    let mut flood = server.connect("192.0.2.2");
    for _ in 0..5000 {
        flood.rcpt(b"<user@example.org>");
    }
    assert!(out(&server.ask(&["explain", "--id", &first])).contains("client [192.0.2.1]"));
}
