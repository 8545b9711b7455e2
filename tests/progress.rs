//! How far a load has got is shown at a terminal when it takes long, and nowhere else. The lists come through a FIFO that is
//! fed slowly, the terminal is one of script(1).

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "what goes wrong here ends the test, with a message")]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

mod support;

const MXGATE: &str = env!("CARGO_BIN_EXE_mxgate");
const WIPE: &str = "\r\u{1b}[K";

/// Runs a command in a directory with a policy whose list is a FIFO, into which lines come for so long.
fn with_slow_list(mut command: Command, time: Duration) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let policy = "hostname = \"mx.example.org\"\n[[list]]\nname = \"slow\"\nfile = \"list.txt\"\n";
    fs::write(directory.path().join("mxgate.toml"), policy).unwrap();
    let fifo = directory.path().join("list.txt");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    thread::scope(|scope| {
        scope.spawn(|| feed(&fifo, time));
        command.current_dir(directory.path()).output().unwrap()
    })
}

/// A thousand lines in ten parts.
fn feed(fifo: &Path, time: Duration) {
    let mut fifo = OpenOptions::new().write(true).open(fifo).unwrap();
    for part in 0..10 {
        let lines: String = (0..100).map(|line| format!("198.18.{part}.{line}\n")).collect();
        fifo.write_all(lines.as_bytes()).unwrap();
        thread::sleep(time / 10);
    }
}

fn at_terminal(command: &str) -> Command {
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &format!("{MXGATE} {command}"), "/dev/null"]);
    script
}

const CHECK: &str = "check --config mxgate.toml --ip 198.18.9.99";

#[test]
fn a_slow_load_is_shown_at_a_terminal_and_wiped() {
    if !support::available(&["script", "mkfifo"]) {
        return;
    }
    let shown = |command: &str, time| String::from_utf8(with_slow_list(at_terminal(command), time).stdout).unwrap();
    let slow = shown(CHECK, Duration::from_secs(2));
    let (before, after) = slow.rsplit_once(WIPE).unwrap_or_else(|| panic!("nothing was shown: {slow:?}"));
    assert!(after.starts_with("verdict:  reject"), "{slow:?}");
    let lines: Vec<&str> = before.split(WIPE).collect();
    assert!(lines.len() > 1 && lines.first() == Some(&""), "{slow:?}");
    assert!(lines.iter().skip(1).all(|line| line.starts_with("reading slow: ") && line.ends_with("00 lines")), "{slow:?}");
    // Of what comes in the first second nothing is shown.
    assert!(!slow.contains("slow: 100 lines"), "{slow:?}");

    let converted = shown("convert list.txt --to plain", Duration::from_secs(2));
    let (before, after) = converted.rsplit_once(WIPE).unwrap_or_else(|| panic!("nothing was shown: {converted:?}"));
    assert!(before.contains("reading list.txt: ") && after.starts_with("198.18.0.0\r\n198.18.0.1\r\n"), "{converted:?}");

    let quick = shown(CHECK, Duration::from_millis(100));
    assert!(quick.starts_with("verdict:  reject"), "{quick:?}");
}

#[test]
fn nothing_is_shown_where_there_is_no_terminal() {
    if !support::available(&["mkfifo"]) {
        return;
    }
    let mut command = Command::new(MXGATE);
    command.args(CHECK.split(' '));
    let output = with_slow_list(command, Duration::from_millis(1500));
    assert_eq!((String::from_utf8_lossy(&output.stderr).as_ref(), output.status.code()), ("", Some(1)));
}
