//! Metrics and health over HTTP, as an HTTP client reads them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what goes wrong here ends the test, with a message")]

use asking::Server;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use support::{PATIENCE, available, find, wait_for};

#[path = "support/asking.rs"]
mod asking;
mod support;

const POLICY: &str = "hostname = \"mx.example.org\"\n[[list]]\nname = \"local\"\nentries = [\"192.0.2.0/24\", \"203.0.113.0/25\"]\n\
                      [[list]]\nname = \"watched\"\nenforce = false\nentries = [\"198.51.100.0/24\", \"203.0.113.0/24\"]\n\
                      [limits]\nconnections = \"100/day\"\n";

/// Reads a URL three times over one connection with an HTTP client: status, content type, body.
const CLIENT: &str = "import http.client, sys
connection = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]), timeout=20)
for _ in range(3):
    connection.request(sys.argv[2], sys.argv[3])
    response = connection.getresponse()
    body = response.read().decode()
print(response.status, response.getheader('content-type'))
print(body, end='')
";

fn start(policy: &str) -> (Server, String) {
    let server = Server::start(policy, &["--metrics", "inet:127.0.0.1:0"]);
    let line = server.wait_for_line("metrics and health at inet:127.0.0.1:");
    (server, line.rsplit_once(':').unwrap().1.to_owned())
}

/// What an HTTP client reads: the status with the content type, and the body.
fn read(port: &str, method: &str, path: &str) -> (String, String) {
    let read = Command::new("python3").args(["-c", CLIENT, port, method, path]).output().unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let text = String::from_utf8(read.stdout).unwrap();
    let (head, body) = text.split_once('\n').unwrap();
    (head.to_owned(), body.to_owned())
}

fn metrics(port: &str) -> String {
    let (head, body) = read(port, "GET", "/metrics");
    assert_eq!(head, "200 application/openmetrics-text; version=1.0.0; charset=utf-8");
    body
}

/// The value of a series.
fn value(metrics: &str, series: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in\n{metrics}")).parse().unwrap()
}

#[test]
fn numbers_are_those_of_what_happened() {
    if !available(&["python3"]) {
        return;
    }
    let (server, port) = start(POLICY);
    let before = metrics(&port);
    assert_eq!(value(&before, "mxgate_decisions_total{verdict=\"reject\"}"), 0.0);
    assert_eq!(value(&before, "mxgate_answer_seconds_count"), 0.0);
    let mut blocked = server.connect("192.0.2.7");
    for _ in 0..13 {
        assert!(blocked.rcpt(b"<user@example.org>").starts_with("550 "));
    }
    let mut watched = server.connect("198.51.100.7");
    assert_eq!(watched.rcpt(b"<user@example.org>"), "");
    assert_eq!(server.connect("203.0.113.200").rcpt(b"<user@example.org>"), "");
    let listener = format!("mxgate_sessions{{listener=\"unix:{}\"}}", server.path("milter.sock").display());
    let after = wait_for("the third session is over", || Some(metrics(&port)).filter(|text| value(text, &listener) == 2.0));
    for (series, expected) in [
        ("mxgate_build_info{version=\"0.1.0\"}", 1.0),
        ("mxgate_rules_generation", 1.0),
        ("mxgate_rules_current", 1.0),
        ("mxgate_loads_failed_total", 0.0),
        ("mxgate_networks", 4.0),
        ("mxgate_decisions_total{verdict=\"reject\"}", 13.0),
        ("mxgate_decisions_total{verdict=\"defer\"}", 0.0),
        ("mxgate_would_refuse_total", 2.0),
        ("mxgate_refusals_total{stage=\"rcpt\"}", 13.0),
        ("mxgate_refusals_total{stage=\"connect\"}", 0.0),
        ("mxgate_refusals_logged_total", 10.0),
        ("mxgate_refusals_suppressed_total", 3.0),
        ("mxgate_list_entries{list=\"local\",kind=\"block list\"}", 2.0),
        ("mxgate_list_hits_total{list=\"local\",kind=\"block list\"}", 13.0),
        ("mxgate_list_would_refuse_total{list=\"watched\",kind=\"watched block list\"}", 2.0),
        ("mxgate_list_unique_ratio{list=\"local\",family=\"ipv4\"}", 1.0),
        ("mxgate_list_unique_ratio{list=\"watched\",family=\"ipv4\"}", 0.75),
        ("mxgate_limit_entries{limit=\"connections\"}", 3.0),
        ("mxgate_limit_refused_total{limit=\"connections\"}", 0.0),
        // Three negotiations and fifteen recipients; of a CONNECT nobody waits for an answer.
        ("mxgate_answer_seconds_count", 18.0),
    ] {
        assert_eq!(value(&after, series), expected, "{series} in\n{after}");
    }
    assert!(value(&after, "mxgate_decisions_total{verdict=\"accept\"}") >= 2.0);
    let loaded = value(&after, "mxgate_rules_loaded_timestamp_seconds");
    assert!(loaded > 1.7e9 && loaded >= value(&after, "mxgate_list_loaded_timestamp_seconds{list=\"local\",kind=\"block list\"}"));
    assert!(after.ends_with("# EOF\n") && after.contains("# TYPE mxgate_decisions counter\n"), "{after}");
    if let Some(promtool) = find("promtool") {
        fs::write(server.path("metrics"), after.trim_end_matches("# EOF\n")).unwrap();
        let checked = Command::new(promtool).args(["check", "metrics"]).stdin(fs::File::open(server.path("metrics")).unwrap()).output();
        let checked = checked.unwrap();
        assert!(!String::from_utf8_lossy(&checked.stderr).contains("error while linting"), "{checked:?}");
    }
}

#[test]
fn health_says_what_is_wrong() {
    if !available(&["python3"]) {
        return;
    }
    let (server, port) = start(POLICY);
    assert_eq!(read(&port, "GET", "/health"), ("200 text/plain; charset=utf-8".into(), "ok\n".into()));
    fs::write(server.path("mxgate.toml"), "hostname = 3\n").unwrap();
    assert!(!server.ask(&["reload"]).status.success());
    let (head, body) = read(&port, "GET", "/health");
    assert!(
        head.starts_with("200 ") && body.starts_with("degraded: the last load failed, and the rules of load 1 stay in force; "),
        "{body}"
    );
    let text = metrics(&port);
    assert_eq!((value(&text, "mxgate_rules_current"), value(&text, "mxgate_loads_failed_total")), (0.0, 1.0));
    fs::write(server.path("mxgate.toml"), POLICY).unwrap();
    assert!(server.ask(&["reload"]).status.success());
    assert_eq!(read(&port, "GET", "/health").1, "ok\n");
    assert!(read(&port, "GET", "/").0.starts_with("404 "));
    assert!(read(&port, "POST", "/metrics").0.starts_with("405 "));
    assert_eq!(read(&port, "HEAD", "/health"), ("200 text/plain; charset=utf-8".into(), String::new()));

    // While a session is open the daemon stays a little longer, and says so.
    let session = server.connect("192.0.2.7");
    server.daemon.signal("TERM");
    wait_for("it says that it is stopping", || read(&port, "GET", "/health").0.starts_with("503 ").then_some(()));
    drop(session);
    wait_for("the daemon ends", || (!server.daemon.running()).then_some(()));
}

#[test]
fn what_is_no_request_disturbs_nobody() {
    let (server, port) = start(POLICY);
    let port: u16 = port.parse().unwrap();
    let connect = || {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let long = [b"GET /", &[b'a'; 100_000][..], b" HTTP/1.1\r\n\r\n"].concat();
    for garbage in [&b"\0\0\0\x0dO\0\0\0\x06"[..], b"EHLO client.example\r\n\r\n", b"GET /metrics HTTP/9.9\r\n\r\n", &long] {
        let mut stream = connect();
        let _ = stream.write_all(garbage);
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        assert!(!said.starts_with(b"HTTP/1.1 2"), "{}", said.escape_ascii());
    }
    // Who says nothing keeps a place, and others wait; a mail server does not.
    let silent: Vec<TcpStream> = (0..40).map(|_| connect()).collect();
    assert!(server.connect("192.0.2.7").rcpt(b"<user@example.org>").starts_with("550 "));
    drop(silent);
    let mut stream = connect();
    stream.write_all(b"GET /health HTTP/1.0\r\n\r\n").unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("HTTP/1.0 200 OK\r\n") && said.ends_with("\r\n\r\nok\n"), "{said}");
}

#[test]
fn other_hosts_read_only_if_the_administrator_says_so() {
    let run = |more: &[&str]| {
        let program = env!("CARGO_BIN_EXE_mxgate");
        Command::new(program).args(["serve", "--listen", "inet:127.0.0.1:0", "--metrics", "inet:0.0.0.0:0"]).args(more).spawn().unwrap()
    };
    let mut refused = run(&[]);
    let status = wait_for("the daemon gives up", || refused.try_wait().unwrap());
    assert_eq!(status.code(), Some(2));
    let server = Server::start(POLICY, &["--metrics", "inet:0.0.0.0:0", "--metrics-any"]);
    server.wait_for_line("metrics and health at inet:0.0.0.0:");
}
