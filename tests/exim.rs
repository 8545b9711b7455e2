//! A real Exim with `examples/exim_dlfunc.c` and `examples/exim.conf`: what the client reads.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "what goes wrong here ends the test, with a message"
)]

use mxgate::wire::Profile;
use support::exim::{EXIM, Exim, PROXY, RCPT_ONLY};
use support::host::ready;
use support::over_smtp::{CLOSED, Host, ask_all, check_transcript, client, policy, transcript};
use support::smtp::Client;

mod support;

/// Up to RCPT, for everybody who gets that far.
const BEGIN: &str = "S: 220 mx.example.org ESMTP
C: HELO client.example
S: 250 mx.example.org Hello client.example [{client}]
C: MAIL FROM:<sender@example.com>
S: 250 OK
";
const SENT: &str = "C: DATA
S: 354 Enter message, ending with \".\" on a line by itself
C: From: sender@example.com
C: Subject: hello
C: 
C: Hello.
C: .
S: 250 OK id=ID
C: QUIT
S: 221 mx.example.org closing connection
*** server closed the connection
";
const QUIT: &str = "C: QUIT
S: 221 mx.example.org closing connection
*** server closed the connection
";

/// One session, and how it went.
fn check(exim: &Exim, last: u8, recipients: &[&str], replies: &[&str], end: &str) {
    check_transcript(client(last), exim.smtp(), BEGIN, recipients, replies, end);
}

#[test]
fn what_clients_read() {
    if !ready(EXIM) {
        return;
    }
    let exim = Exim::start(&policy(), &[]);
    let (user, parked, nomx) = ("user@example.org", "user@parked.example", "user@www.nomx.example");
    let listed = "550 5.7.1 Service unavailable; client [127.0.0.20] blocked using local";
    let no_mail = "521 5.3.2 parked.example does not accept mail";
    let null_mx = "556 5.1.10 www.nomx.example does not accept mail";
    check(&exim, 10, &[user], &["250 Accepted"], SENT);
    check(&exim, 20, &[user, "postmaster@example.org"], &[listed, "250 Accepted"], SENT);
    check(&exim, 20, &[user], &[listed], QUIT);
    check(&exim, 21, &[user], &["250 Accepted"], SENT);
    // A refusal about one recipient leaves the connection to the others, whatever its code.
    check(&exim, 10, &[parked, nomx, user], &[no_mail, null_mx, "250 Accepted"], SENT);
    check(&exim, 50, &[user], &["450 4.7.1 Too much mail from [127.0.0.50]; try again later"], QUIT);
    // At CONNECT. Exim breaks what is longer than 75 characters.
    let read = transcript(client(40), exim.smtp(), &[user]);
    let greeting = "S: 521-mx.example.org Service unavailable; client [127.0.0.40] blocked using\nS: 521 botnets\n";
    assert_eq!(read, format!("{greeting}{CLOSED}"));
    let read = transcript(client(60), exim.smtp(), &[user]);
    assert_eq!(read, format!("S: 421 mx.example.org Too much traffic from [127.0.0.60]; try again later\n{CLOSED}"));
    // The same at RCPT, where a 421 cannot hang up.
    check(&exim, 70, &[user], &["521 5.7.1 Service unavailable; client [127.0.0.70] blocked using late"], CLOSED);
    check(&exim, 80, &[user], &["421 4.7.0 Too much traffic from [127.0.0.80]; try again later"], QUIT);
    let log = exim.log();
    assert!(log.contains("rejected connection in \"connect\" ACL: 521 mx.example.org Service unavailable"), "{log}");
    assert!(log.contains("temporarily rejected RCPT <user@example.org>: 421 4.7.0 Too much traffic"), "{log}");
    assert!(!log.contains("mxgate: "), "nothing is wrong with the policy: {log}");
}

#[test]
fn clients_that_log_in_are_let_through() {
    if !ready(EXIM) {
        return;
    }
    let exim = Exim::start(&policy(), &[]);
    let mut session = Client::connect(client(20), exim.smtp()).unwrap();
    session.greeting();
    session.command("EHLO client.example");
    session.command("MAIL FROM:<sender@example.com>");
    assert_eq!(session.command("RCPT TO:<user@example.org>").code, 550);
    session.command("RSET");
    assert_eq!(session.command("AUTH PLAIN AHVzZXIAc2VjcmV0").code, 235);
    session.command("MAIL FROM:<sender@example.com>");
    assert_eq!(session.command("RCPT TO:<user@example.org>").to_string(), "250 Accepted");
    // Nobody is exempt from rules about domains that take no mail.
    assert_eq!(session.command("RCPT TO:<user@parked.example>").code, 521);
}

#[test]
fn modes_speak_in_the_greeting() {
    if !ready(EXIM) {
        return;
    }
    for (mode, greeting) in [
        ("no-mail", "521 mx.example.org does not accept mail"),
        ("maintenance", "421 mx.example.org Service not available, maintenance; try again later"),
    ] {
        let exim = Exim::start(&format!("mode = \"{mode}\"\n{}", policy()), &[]);
        assert_eq!(transcript(client(10), exim.smtp(), &["user@example.org"]), format!("S: {greeting}\n{CLOSED}"));
    }
}

/// The daemon loads the policy, and the processes that it starts have it from there.
#[test]
fn the_policy_is_loaded_once() {
    if !ready(EXIM) {
        return;
    }
    let exim = Exim::start(&policy(), &[]);
    assert_eq!(transcript(client(40), exim.smtp(), &[]).lines().next().unwrap().get(..6), Some("S: 521"));
    exim.write_policy("nonsense = 1\n");
    assert_eq!(transcript(client(40), exim.smtp(), &[]).lines().next().unwrap().get(..6), Some("S: 521"));
    // Without the option each process loads it for itself.
    let option = "smtp_accept_max_per_host = ${if eq{${dlfunc{MXGATE_LIBRARY}{mxgate_exim_load}{MXGATE_POLICY}}}{}{20}{20}}";
    let exim = Exim::start(&policy(), &[(option, "")]);
    assert_eq!(transcript(client(40), exim.smtp(), &[]).lines().next().unwrap().get(..6), Some("S: 521"));
    exim.write_policy("nonsense = 1\n");
    check(&exim, 40, &["user@example.org"], &["250 Accepted"], SENT);
}

#[test]
fn mail_goes_on_whatever_is_wrong() {
    if !ready(EXIM) {
        return;
    }
    let broken = format!("{}nonsense = 1\n[[list]]\nname = \"x\"\nfile = \"missing.txt\"\n", policy());
    let exim = Exim::start(&broken, &[]);
    check(&exim, 40, &["user@example.org", "user@parked.example"], &["250 Accepted", "250 Accepted"], SENT);
    // All mistakes in one line of the log.
    let log = exim.log();
    let line = log.lines().find(|line| line.contains(" mxgate: ")).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("\"nonsense\" is not a key of [[list]]; ") && line.contains("missing.txt"), "{line}");
    let exim = Exim::start(&policy(), &[("MXGATE_POLICY = ", "MXGATE_POLICY = /nonexistent")]);
    check(&exim, 40, &["user@example.org"], &["250 Accepted"], SENT);
    assert!(exim.log().contains(" mxgate: /nonexistent/"), "{}", exim.log());
    assert!(exim.log().contains("cannot read the policy: No such file or directory"), "{}", exim.log());
    // Calls with nothing in them, and nothing loaded.
    let rcpt = "{$sender_host_address}{$sender_host_authenticated}\\\n                                     \
                {$sender_address}{${quote_local_part:$local_part}@$domain}}";
    let exim = Exim::start(&policy(), &[("{mxgate_exim_connect}{$sender_host_address}", "{mxgate_exim_connect}"), (rcpt, "}")]);
    check(&exim, 40, &["user@example.org"], &["250 Accepted"], SENT);
}

/// Every question of the corpus that can be asked through SMTP.
#[test]
fn the_corpus_through_the_wire() {
    if !ready(EXIM) {
        return;
    }
    let tally = ask_all(|group, ask| {
        let exim = Exim::start(&format!("cases/{}", group.policy.file_name().unwrap().display()), &[]);
        ask(Host { profile: Profile::Exim, proxied: exim.smtp(), proxy: PROXY.into(), rcpt_only: Some(RCPT_ONLY.into()) });
    });
    println!("questions to Exim: {tally:#?}");
    assert!(tally.at_connect >= 25 && tally.at_rcpt >= 220, "{tally:#?}");
}
