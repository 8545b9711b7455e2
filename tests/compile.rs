//! `mxgate compile`, and the other commands on the image that it writes: they say what they say of its policy.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what goes wrong here ends the test, with a message")]

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};
use support::daemon::Daemon;
use support::wait_for;
use tempfile::TempDir;

mod support;

const PROGRAM: &str = env!("CARGO_BIN_EXE_mxgate");
const POLICY: &str = r#"hostname = "mx.example.org"
[[list]]
name = "local"
file = "list.txt"
ttl = "4w"
[[list]]
name = "watched"
enforce = false
entries = ["198.51.100.0/24", "10.0.0.0/8"]
[[domains]]
name = "parked"
entries = ["parked.example", ".web.example"]
"#;

fn mxgate(arguments: &[&str], directory: &Path) -> Output {
    Command::new(PROGRAM).args(arguments).current_dir(directory).output().unwrap()
}

/// Standard output, standard error, and the exit status.
fn said(arguments: &[&str], directory: &Path) -> (String, String, Option<i32>) {
    let output = mxgate(arguments, directory);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code())
}

/// A directory with a policy, its list, and an image of both.
fn compiled() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("list.txt"), "192.0.2.0/24 sent spam\n!192.0.2.7\n2001:db8::/32\n").unwrap();
    // So old that its age and its end are said in days.
    let list = File::options().append(true).open(directory.path().join("list.txt")).unwrap();
    list.set_modified(SystemTime::now() - Duration::from_secs(84 * 3600)).unwrap();
    fs::write(directory.path().join("mxgate.toml"), POLICY).unwrap();
    let (stdout, stderr, status) = said(&["compile", "mxgate.toml", "-o", "policy.mxg"], directory.path());
    let length = fs::metadata(directory.path().join("policy.mxg")).unwrap().len();
    assert_eq!((stdout, status), (format!("policy.mxg: {length} bytes, 5 networks, 2 domain entries\n"), Some(0)), "{stderr}");
    // Warnings are shown as by every command that reads a policy.
    assert!(stderr.starts_with("mxgate.toml:9:1: warning: 1 entry of the list watched covers private addresses"), "{stderr}");
    directory
}

#[test]
fn other_commands_say_of_the_image_what_they_say_of_the_policy() {
    let directory = compiled();
    // The list itself is not read any more.
    let without = tempfile::tempdir().unwrap();
    fs::copy(directory.path().join("policy.mxg"), without.path().join("policy.mxg")).unwrap();
    for (command, status) in [
        (&["check", "--ip", "192.0.2.1"][..], 1),
        (&["check", "--ip", "192.0.2.7"], 0),
        (&["check", "--ip", "198.51.100.1", "--rcpt", "user@www.web.example"], 1),
        (&["explain", "--ip", "192.0.2.1"], 1),
        (&["explain", "--ip", "198.51.100.1", "--rcpt", "user@parked.example"], 1),
        (&["lists"], 0),
        (&["lint", "--mta", "postfix"], 1),
    ] {
        let of = |config: &str, directory: &TempDir| said(&[command, &["--config", config]].concat(), directory.path());
        let (policy, image) = (of("mxgate.toml", &directory), of("policy.mxg", &without));
        assert_eq!((&image.0, &image.1[..]), (&policy.0, ""), "{command:?}");
        assert!(!image.0.is_empty());
        // Warnings, which make the status of lint, were shown when the image was made.
        let expected = if command[0] == "lint" { [Some(0), Some(1)] } else { [Some(status); 2] };
        assert!(expected.contains(&image.2) && policy.2 == Some(status), "{command:?}: {image:?} {policy:?}");
    }
    assert_eq!(said(&["diff", "mxgate.toml", "policy.mxg"], directory.path()).2, Some(0));
    // An image of the image.
    let (stdout, stderr, status) = said(&["compile", "policy.mxg", "--output", "again.mxg"], without.path());
    assert!(stdout.starts_with("again.mxg: ") && stderr.is_empty() && status == Some(0), "{stdout}{stderr}");
    let read = |name: &str| fs::read(without.path().join(name)).unwrap();
    assert!(read("again.mxg") == read("policy.mxg"));
}

#[test]
fn what_is_wrong_is_said_and_nothing_is_written() {
    let directory = compiled();
    let good = fs::read(directory.path().join("policy.mxg")).unwrap();
    fs::write(directory.path().join("bad.toml"), "hostname = 1\nmode = \"x\"\n").unwrap();
    let remedy = "check the directory, its room, and who may write there";
    for (arguments, shown) in [
        (
            &["compile", "bad.toml", "-o", "policy.mxg"][..],
            "bad.toml:1:12: hostname is of type integer; write hostname = \"mx.example.org\"\n\
             bad.toml:2:8: there is no mode \"x\"; write open, maintenance, draining, overloaded or no-mail\n"
                .to_owned(),
        ),
        (
            &["compile", "policy.mxg", "-o", "missing/policy.mxg"],
            format!("cannot write missing/policy.mxg: No such file or directory (os error 2); {remedy}\n"),
        ),
        (
            &["compile", "policy.mxg", "-o", "mxgate.toml"],
            "mxgate.toml is there already, and it is no image; name another file for the image, or remove this one first\n".into(),
        ),
    ] {
        assert_eq!(said(arguments, directory.path()), (String::new(), shown, Some(2)), "{arguments:?}");
    }
    for arguments in [&["compile", "mxgate.toml"][..], &["compile"], &["compile", "no-such-file", "-o", "x.mxg"]] {
        let (stdout, stderr, status) = said(arguments, directory.path());
        assert!(stdout.is_empty() && !stderr.is_empty() && status == Some(2), "{arguments:?}: {stderr}");
    }
    assert_eq!(fs::read_to_string(directory.path().join("mxgate.toml")).unwrap(), POLICY);
    assert!(fs::read(directory.path().join("policy.mxg")).unwrap() == good);
    let mut names: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["bad.toml", "list.txt", "mxgate.toml", "policy.mxg"]);
}

#[test]
fn the_daemon_serves_an_image_and_takes_a_new_one() {
    let directory = compiled();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let (milter, control) = (format!("unix:{}", at("milter.sock")), format!("unix:{}", at("control.sock")));
    let config = at("policy.mxg");
    let arguments = ["serve", "--config", &config, "--listen", &milter, "--control", &control];
    let _daemon = Daemon::start(Path::new(PROGRAM), arguments, Path::new(&at("log")));
    let log = || fs::read_to_string(at("log")).unwrap_or_default();
    wait_for("the daemon listens", || log().contains("control socket at unix:").then_some(()));
    let socket = at("control.sock");
    let explain = |client| said(&["explain", "--control", &socket, "--ip", client], directory.path());
    assert!(explain("192.0.2.1").0.contains("sent spam") && explain("192.0.2.1").2 == Some(1), "{:?}", explain("192.0.2.1"));
    fs::write(at("list.txt"), "203.0.113.0/24 sent more\n").unwrap();
    assert_eq!(said(&["compile", "mxgate.toml", "-o", "policy.mxg"], directory.path()).2, Some(0));
    assert_eq!(explain("192.0.2.1").2, Some(1), "the old one until it is told");
    let (stdout, stderr, status) = said(&["reload", "--control", &socket], directory.path());
    assert!(stdout.contains("list local: +1 -3") && status == Some(0), "{stdout}{stderr}");
    assert_eq!((explain("192.0.2.1").2, explain("203.0.113.1").2), (Some(0), Some(1)));
}
