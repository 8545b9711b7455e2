//! What a visitor is shown first: a real Postfix with mxgate as its milter, and clients from several loopback addresses
//! that are refused or not. `make demo` prints the transcripts, tests/postfix.rs asserts them.

use super::postfix::Postfix;
use super::server::Server;
use super::smtp::Client;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

/// The policy of the scenario. Its clients are all on loopback, which no list could refuse otherwise.
pub const POLICY: &str = r#"hostname = "mx.example.org"

[never_block]
loopback = false

[[list]]
name = "partners"
allow = true
entries = ["127.0.0.21"]

[[list]]
name = "local"
entries = ["127.0.0.16/28 sent spam"]

[[list]]
name = "botnets"
reply = "drop"
entries = ["127.0.0.32/28"]

[[domains]]
name = "parked"
entries = ["parked.example"]

[[domains]]
name = "null-mx"
kind = "null-mx"
entries = [".nomx.example"]
"#;

/// One SMTP session.
#[derive(Debug)]
pub struct Scene {
    pub title: &'static str,
    pub transcript: String,
}

/// All sessions, and the messages that arrived.
#[derive(Debug)]
pub struct Outcome {
    pub scenes: Vec<Scene>,
    pub delivered: Vec<String>,
    pub server_log: String,
}

/// Client, title, recipients.
const SCENES: [(u8, &str, &[&str]); 7] = [
    (10, "A clean client: accepted and delivered", &["user@example.org"]),
    (20, "A listed client: 550 5.7.1, the connection stays", &["user@example.org"]),
    (20, "A listed client writes to postmaster, who stays reachable", &["postmaster@example.org"]),
    (21, "An allow list wins over the list before", &["user@example.org"]),
    (40, "A client listed with reply = \"drop\": 521 and the connection is closed", &["user@example.org"]),
    (10, "A domain with null MX: 556, the other recipient gets the message", &["user@www.nomx.example", "user@example.org"]),
    (10, "A domain that takes no mail: 521 (after which Postfix hangs up)", &["user@parked.example"]),
];

/// Plays the scenario with the command at `program`.
pub fn play(program: &Path) -> Outcome {
    let server = Server::start(program, POLICY);
    let postfix = Postfix::start(&[("smtpd_milters", &server.address()), ("milter_default_action", "tempfail")]);
    let mut scenes: Vec<Scene> = SCENES
        .iter()
        .map(|(client, title, recipients)| Scene {
            title,
            transcript: session(&postfix, Ipv4Addr::new(127, 0, 0, *client).into(), recipients),
        })
        .collect();
    server.reload(&POLICY.replace("hostname", "mode = \"maintenance\"\nhostname"));
    let title = "Maintenance (mode = \"maintenance\" and SIGHUP): 421 to everybody";
    scenes.push(Scene { title, transcript: session(&postfix, Ipv4Addr::new(127, 0, 0, 10).into(), &["user@example.org"]) });
    let accepted = scenes.iter().filter(|scene| scene.transcript.contains("queued as")).count();
    let delivered = postfix.wait_delivered(accepted, Duration::from_secs(20));
    Outcome { scenes, delivered, server_log: server.log() }
}

/// One session; the message is sent if any recipient is accepted.
fn session(postfix: &Postfix, from: IpAddr, recipients: &[&str]) -> String {
    let mut client = Client::connect(from, postfix.smtp()).unwrap();
    client.greeting();
    client.command("HELO client.example");
    client.command("MAIL FROM:<sender@example.com>");
    let replies: Vec<u16> = recipients.iter().map(|recipient| client.command(&format!("RCPT TO:<{recipient}>")).code).collect();
    if replies.iter().any(|code| matches!(code, 421 | 521)) {
        client.closed();
        return client.transcript().to_owned();
    }
    if replies.contains(&250) {
        client.data("From: sender@example.com\nSubject: hello\n\nHello.\n");
    }
    client.command("QUIT");
    client.closed();
    client.transcript().to_owned()
}
