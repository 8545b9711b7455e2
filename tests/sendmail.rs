//! A real Sendmail with `mxgate serve` as its milter, set up as the README says: what clients read, word by word, and what
//! ends up in the queue. The sessions stand in tests/wire/sendmail-daemon.txt; BLESS=1 writes them anew.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what goes wrong here ends the test, with a message")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use support::over_smtp::{client, policy, transcript};
use support::sendmail::{self, Sendmail};
use support::server::Server;

mod support;

const SESSIONS: &str = "tests/wire/sendmail-daemon.txt";

/// Client, and the recipients of its message.
const CLIENTS: [(&str, u8, &[&str]); 10] = [
    ("nobody refuses", 10, &["user@example.org"]),
    ("a list refuses, and postmaster stays reachable", 20, &["user@example.org", "postmaster@example.org", "postmaster"]),
    ("an allow list wins", 21, &["user@example.org"]),
    ("521: Sendmail does not hang up", 40, &["user@example.org", "other@example.org"]),
    ("a list with reply = \"throttle-soft\"", 50, &["user@example.org"]),
    ("421: Sendmail hangs up", 60, &["user@example.org"]),
    ("a domain that takes no mail, and another recipient", 10, &["user@parked.example", "user@example.org"]),
    ("a domain with null MX", 10, &["user@www.nomx.example"]),
    ("what the recipient resolves to counts", 10, &["@relay.example:user@parked.example", "\"user\"@PARKED.example."]),
    ("an address literal", 20, &["user@[192.0.2.1]"]),
];

/// How the README says it, with the address of this daemon.
fn documented(server: &Server) -> String {
    let readme = fs::read_to_string("README.md").unwrap();
    let begin = readme.find("INPUT_MAIL_FILTER(").unwrap();
    let length = readme[begin..].find("')").unwrap() + 2;
    let line = &readme[begin..begin + length];
    assert!(line.contains("inet:8899@127.0.0.1"), "{line}");
    let port = server.address().rsplit_once(':').unwrap().1.to_owned();
    line.replace("inet:8899@", &format!("inet:{port}@")) + "dnl"
}

#[test]
fn what_clients_read() {
    if !sendmail::ready() {
        return;
    }
    let server = Server::start(Path::new(env!("CARGO_BIN_EXE_mxgate")), &policy());
    let sendmail = Sendmail::start(&documented(&server));
    let mut sessions = String::new();
    for (title, last, recipients) in CLIENTS {
        let session = transcript(client(last), sendmail.smtp(), recipients);
        writeln!(sessions, "=== {title}\n{session}").unwrap();
    }
    // Somebody else's load, or the end of work: everybody comes back later.
    server.reload(&format!("mode = \"maintenance\"\n{}", policy()));
    writeln!(sessions, "=== maintenance\n{}", transcript(client(10), sendmail.smtp(), &["user@example.org"])).unwrap();
    let mut queued = sendmail.queued();
    queued.sort();
    writeln!(sessions, "=== the queue\n{}", queued.join("\n")).unwrap();
    // Sendmail numbers its messages.
    let numbered = |word: &str| word.len() == 14 && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let shown: Vec<_> = sessions.split(' ').map(|word| if numbered(word) { "ID" } else { word }).collect();
    let shown = shown.join(" ");
    if std::env::var_os("BLESS").is_some() {
        fs::write(SESSIONS, &shown).unwrap();
    }
    assert_eq!(fs::read_to_string(SESSIONS).unwrap_or_default(), shown, "BLESS=1 cargo test --test sendmail writes it anew");
}

/// Without `F=` mail passes while the daemon is not there, as the README says.
#[test]
fn without_the_daemon_mail_passes() {
    if !sendmail::ready() {
        return;
    }
    let server = Server::start(Path::new(env!("CARGO_BIN_EXE_mxgate")), &policy());
    let sendmail = Sendmail::start(&documented(&server));
    let refused = transcript(client(20), sendmail.smtp(), &["user@example.org"]);
    assert!(refused.contains("\nS: 550 5.7.1 "), "{refused}");
    drop(server);
    let passed = transcript(client(20), sendmail.smtp(), &["user@example.org"]);
    assert!(!passed.contains("S: 5") && !passed.contains("S: 4"), "{passed}");
    assert_eq!(sendmail.queued(), ["user@example.org"]);
}
