//! When to come back, with a real daemon: who comes too early is told to wait longer and is hung up on, who waits gets in.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what goes wrong here ends the test, with a message")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};
use support::daemon::Daemon;
use support::session::rcpt;
use support::wait_for;

mod support;

const PROGRAM: &str = env!("CARGO_BIN_EXE_mxgate");
/// After one connection the next is let in 30 seconds later. Long enough for a slow machine to be too early.
const POLICY: &str = r#"
hostname = "mx.example.org"
[limits]
connections = "2/min, burst 1"
reply = "450 4.7.1 Slow down, come back {retry}; {reason}"
"#;
/// Refusals that come sooner after the first one belong to it, so that nobody is blamed for connections opened together.
const TOGETHER: Duration = Duration::from_secs(6);

/// The code of a reply, the seconds that it says, and its reason.
fn parts(reply: &str) -> (&str, u64, &str) {
    let (status, rest) = reply.split_once(" Slow down, come back in ").unwrap_or_else(|| panic!("{reply:?}"));
    let (seconds, reason) = rest.split_once(" seconds; ").unwrap_or_else(|| panic!("{reply:?}"));
    (status, seconds.parse().unwrap(), reason)
}

#[test]
fn who_comes_back_too_early_waits_longer_and_who_waits_gets_in() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("mxgate.toml"), POLICY).unwrap();
    let (policy, listen) = (path("mxgate.toml").display().to_string(), format!("unix:{}", path("milter.sock").display()));
    let control = format!("unix:{}", path("control.sock").display());
    let arguments = ["serve", "--config", &policy, "--listen", &listen, "--control", &control];
    let _daemon = Daemon::start(Path::new(PROGRAM), arguments, &path("log"));
    let log = || fs::read_to_string(path("log")).unwrap_or_default();
    wait_for("the daemon listens", || log().contains("milter: listening on").then_some(()));
    let ask = |client: &str| rcpt(&path("milter.sock"), client);

    let (early, patient) = ("198.51.100.1", "198.51.100.2");
    assert_eq!([ask(early), ask(patient)], ["", ""]);
    let (begun, refused) = (Instant::now(), [ask(early), ask(patient)]);
    let [(status, first, reason), (_, told, _)] = [parts(&refused[0]), parts(&refused[1])];
    assert!((25..=45).contains(&first) && (25..=45).contains(&told), "{refused:?}");
    assert_eq!((status, reason), ("450 4.7.1", "connections"));
    // Who has not had the time to heed it.
    let together = ask(early);
    let (status, at_once, reason) = parts(&together);
    assert!(
        begun.elapsed() >= Duration::from_secs(5) || (status, reason) == ("450 4.7.1", "connections") && at_once <= first,
        "{together}"
    );

    sleep(TOGETHER);
    let again = ask(early);
    let (status, second, reason) = parts(&again);
    assert_eq!((status, reason), ("421 4.7.1", "connections, again too soon"), "after {:?}", begun.elapsed());
    assert!(second >= 2 * first, "{again} after {first}");
    sleep(TOGETHER);
    let (third_reply, elapsed) = (ask(early), begun.elapsed());
    assert!(!third_reply.is_empty(), "let in after {elapsed:?}");
    assert!(third_reply.starts_with("421 4.7.1") && parts(&third_reply).1 >= 2 * second, "{third_reply} after {second}");

    // Clients are told apart.
    assert_eq!(ask("198.51.100.3"), "");
    sleep(Duration::from_secs(told).saturating_sub(begun.elapsed()) + Duration::from_secs(1));
    assert_eq!(ask(patient), "", "{} after {:?}", refused[1], begun.elapsed());
    // The next one too many is the first again.
    let next = ask(patient);
    assert!(parts(&next).0 == "450 4.7.1" && parts(&next).1 <= 45, "{next}");

    // Why it was the stronger one is found by its name in the log.
    let log = log();
    let line = log.lines().find(|line| line.contains(": 421 4.7.1 ")).unwrap_or_else(|| panic!("{log}"));
    let id = line.split_once(" id=").unwrap().1;
    let output = Command::new(PROGRAM).args(["explain", "--control", &control, "--id", id]).output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains(&format!("\ntold:     {again}\nby:       limit connections, again too soon\n")), "{shown}");
}
