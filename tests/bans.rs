//! `mxgate ban`, `unban`, `bans`, `mode` and `status` with a real daemon, and bans that outlive it: restarts, kill -9 at
//! random moments, damaged files, a disk that is full.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what goes wrong here ends the test, with a message")]

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use support::daemon::Daemon;
use support::monitoring;
use support::session::rcpt;
use support::shown::Shown;
use support::{PATIENCE, available, root, wait_for};
use tempfile::TempDir;

mod support;

const PROGRAM: &str = env!("CARGO_BIN_EXE_mxgate");
const POLICY: &str = "hostname = \"mx.example.org\"\nnever_block.networks = [\"198.51.100.25\"]\n\
                      [bans]\nreply = \"550 5.7.1 banned: {reason}\"\n";

/// A place in which daemons are started one after the other.
struct Place {
    directory: TempDir,
}

/// A daemon there.
struct Server<'a> {
    place: &'a Place,
    daemon: Daemon,
}

impl Place {
    fn new() -> Place {
        let place = Place { directory: tempfile::tempdir().unwrap() };
        fs::write(place.path("mxgate.toml"), POLICY).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn shown(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn journal(&self) -> PathBuf {
        self.path("state").join("bans.journal")
    }

    fn serve(&self, more: &[&str]) -> Vec<String> {
        let mut arguments: Vec<String> = ["serve", "--config"].map(Into::into).into();
        arguments.extend([self.shown("mxgate.toml"), "--listen".into(), format!("unix:{}", self.shown("milter.sock"))]);
        arguments.extend(["--control".into(), self.shown("control.sock")]);
        arguments.extend(more.iter().map(ToString::to_string));
        arguments
    }

    /// A daemon that keeps its bans.
    fn start(&self) -> Server<'_> {
        self.start_by(PROGRAM, &[], &["--state", &self.shown("state")])
    }

    /// Starts it through another program, which gets the daemon's command line after its own arguments.
    fn start_by(&self, program: &str, before: &[&str], more: &[&str]) -> Server<'_> {
        let _ = fs::remove_file(self.path("log"));
        let arguments = before.iter().map(ToString::to_string).chain(self.serve(more));
        let server = Server { place: self, daemon: Daemon::start(Path::new(program), arguments, &self.path("log")) };
        server.wait_for_line("control socket at unix:");
        server
    }

    fn ask(&self, arguments: &[&str]) -> Shown {
        let mut command = Command::new(PROGRAM);
        command.arg(arguments[0]).arg("--control").arg(self.path("control.sock")).args(&arguments[1..]).output().unwrap().into()
    }

    fn rcpt(&self, address: &str) -> String {
        rcpt(&self.path("milter.sock"), address)
    }

    /// Network, end and reason of the bans in force.
    fn bans(&self) -> Vec<(String, Option<String>, String)> {
        let shown = self.ask(&["bans", "--json"]);
        assert_eq!(shown.status, Some(0), "{shown:?}");
        let text = |ban: &Value, key: &str| ban[key].as_str().map(str::to_owned);
        let bans = shown.json();
        bans.as_array()
            .unwrap()
            .iter()
            .map(|ban| (text(ban, "network").unwrap(), text(ban, "until"), text(ban, "reason").unwrap()))
            .collect()
    }

    fn networks(&self) -> Vec<String> {
        self.bans().into_iter().map(|(network, ..)| network).collect()
    }

    /// What monitoring reads.
    fn health(&self) -> String {
        monitoring::read(&self.path("metrics.sock"), "/health")
    }

    /// A file for `--file`.
    fn file(&self, text: &str) -> String {
        fs::write(self.path("file"), text).unwrap();
        self.shown("file")
    }
}

impl Server<'_> {
    fn log(&self) -> String {
        fs::read_to_string(self.place.path("log")).unwrap_or_default()
    }

    fn wait_for_line(&self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(line) = self.log().lines().find(|line| line.contains(text)) {
                return line.to_owned();
            }
            assert!(Instant::now() < end, "no line with {text:?} in the log:\n{}", self.log());
            sleep(Duration::from_millis(5));
        }
    }

    fn stop(self) {
        self.daemon.signal("TERM");
        wait_for("the daemon ends", || (!self.daemon.running()).then_some(()));
    }
}

fn done(out: &str) -> Shown {
    Shown { out: out.into(), error: String::new(), status: Some(0) }
}

#[test]
fn a_ban_is_what_the_client_reads_and_a_restart_keeps_it() {
    let place = Place::new();
    let server = place.start();
    assert_eq!(place.rcpt("192.0.2.7"), "");
    let shown = place.ask(&["ban", "192.0.2.0/24", "--for", "24h", "--reason", "sent spam"]);
    assert!(shown.out.starts_with("192.0.2.0/24 is banned until 2") && shown.out.ends_with("Z\n"), "{shown:?}");
    assert_eq!((shown.error.as_str(), shown.status), ("", Some(0)));
    assert_eq!(place.rcpt("192.0.2.7"), "550 5.7.1 banned: sent spam");
    assert_eq!(
        place.ask(&["ban", "2001:db8::/48", "::ffff:203.0.113.7", "--reason", "b\u{f6}se\n250 Ok"]),
        done("2 networks are banned\n")
    );
    assert_eq!(place.rcpt("2001:db8::25"), "550 5.7.1 banned: b??se 250 Ok");
    let before = place.bans();
    let networks = ["192.0.2.0/24", "203.0.113.7/32", "2001:db8::/48"];
    assert_eq!(before.iter().map(|(network, ..)| network.as_str()).collect::<Vec<_>>(), networks);
    assert_eq!((before[0].2.as_str(), &before[1].1), ("sent spam", &None));
    server.wait_for_line("info: 192.0.2.0/24 is banned until 2");
    server.wait_for_line("info: control: ban asked for by user ");
    let table = place.ask(&["bans", "--within", "192.0.0.0/16"]).out;
    assert!(table.starts_with("NETWORK       SINCE ") && table.lines().count() == 2 && table.ends_with("  sent spam\n"), "{table}");

    server.stop();
    let server = place.start();
    server.wait_for_line("info: 3 bans of ");
    assert_eq!(place.bans(), before);
    assert_eq!(place.rcpt("192.0.2.7"), "550 5.7.1 banned: sent spam");

    let shown = place.ask(&["unban", "192.0.2.0/24", "192.0.2.7", "2001:db8::25"]);
    let said = "192.0.2.0/24 is no longer banned\n192.0.2.7/32 was not banned\n\
                2001:db8::25/128 was not banned; the ban of 2001:db8::/48 covers it\n";
    assert_eq!((shown.out.as_str(), shown.status), (said, Some(1)));
    assert_eq!(place.rcpt("192.0.2.7"), "");
    server.stop();
    let _server = place.start();
    assert_eq!(place.networks(), ["203.0.113.7/32", "2001:db8::/48"]);
    assert_eq!(place.rcpt("192.0.2.7"), "");
    assert_eq!(place.ask(&["unban", "2001:db8::/48", "203.0.113.7"]), done("2 networks are no longer banned\n"));
    assert_eq!(place.networks(), [""; 0]);
}

#[test]
fn bans_end_by_themselves_also_while_there_is_no_daemon() {
    let place = Place::new();
    let server = place.start();
    let banned = Instant::now();
    assert_eq!(place.ask(&["ban", "192.0.2.7", "--for", "2s"]).status, Some(0));
    assert_eq!(place.ask(&["ban", "192.0.2.9", "--for", "1h"]).status, Some(0));
    assert!(place.rcpt("192.0.2.7").starts_with("550 ") || banned.elapsed() > Duration::from_secs(2));
    wait_for("the ban ends", || place.rcpt("192.0.2.7").is_empty().then_some(()));
    assert!(banned.elapsed() > Duration::from_secs(1), "not sooner");
    assert_eq!(place.networks(), ["192.0.2.9/32"]);
    assert_eq!(place.ask(&["ban", "192.0.2.7", "--for", "1s"]).status, Some(0));
    server.stop();
    sleep(Duration::from_secs(1));
    let server = place.start();
    server.wait_for_line("info: 1 bans of ");
    assert_eq!((place.networks(), place.rcpt("192.0.2.7")), (vec!["192.0.2.9/32".to_owned()], String::new()));
    for wrong in ["0h", "1 day", "-1h", "999999w"] {
        let shown = place.ask(&["ban", "192.0.2.7", &format!("--for={wrong}")]);
        assert!(shown.status == Some(2) && shown.error.contains("; "), "{shown:?}");
    }
}

#[test]
fn a_file_is_taken_as_a_whole_or_not_at_all() {
    let place = Place::new();
    let server = place.start();
    // Wrong as text, wrong by the policy, and wrong on the command line: all at once.
    let file = place.file("# why\n192.0.2.1/24\n 198.51.100.25 ours\n!192.0.2.7\n203.0.113.0/24 right\n127.0.0.0/8\n10/8\n");
    let shown = place.ask(&["ban", "192.0.2.300", "--file", &file]);
    let mut lines: Vec<&str> = shown.error.lines().collect();
    assert!(lines.remove(0).starts_with("\"192.0.2.300\" "), "{shown:?}");
    lines.sort_unstable();
    let places: Vec<&str> = lines.iter().map(|line| line.strip_prefix(&file).unwrap().split_once(": ").unwrap().0).collect();
    assert_eq!(places, [":2:1", ":3:2", ":4:2", ":6:1", ":7:1"], "{shown:?}");
    assert!(lines.iter().all(|line| line.contains("; ")), "{shown:?}");
    assert_eq!((shown.status, place.networks()), (Some(2), vec![]));

    // More than fits into a request; the mistake is in the last of them.
    let line = |n: u32| format!("{} reason {n}\n", std::net::Ipv4Addr::from(0xc633_0000 + n));
    let many: String = (0..20_000).map(line).collect();
    let shown = place.ask(&["ban", "--file", &place.file(&format!("{many}127.0.0.1\n"))]);
    assert!(shown.error.starts_with(&format!("{file}:20001:1: 127.0.0.1/32 is in the never-block set")), "{shown:?}");
    assert_eq!((shown.status, place.networks().len()), (Some(2), 0));
    assert_eq!(place.ask(&["ban", "--for", "7d", "--file", &place.file(&many)]).status, Some(0));
    assert_eq!(place.networks().len(), 20_000);
    assert_eq!(place.rcpt("198.51.1.1"), "550 5.7.1 banned: reason 257");
    server.stop();
    let server = place.start();
    assert_eq!(place.networks().len(), 20_000);
    assert_eq!(place.rcpt("198.51.1.1"), "550 5.7.1 banned: reason 257");
    // From standard input, some of them; --reason is for lines without one.
    let few: String = (1000..20_000).map(line).collect();
    let mut child = Command::new(PROGRAM);
    child.args(["unban", "--file", "-", "--control"]).arg(place.path("control.sock")).stdin(File::open(place.file(&few)).unwrap());
    assert_eq!(Shown::from(child.output().unwrap()), done("19000 networks are no longer banned\n"));
    assert_eq!(place.ask(&["ban", "--reason", "other", "--file", &place.file("192.0.2.7\n192.0.2.8 own\n")]).status, Some(0));
    assert_eq!((place.rcpt("192.0.2.7").as_str(), place.rcpt("192.0.2.8").as_str()), ("550 5.7.1 banned: other", "550 5.7.1 banned: own"));
    server.stop();
    let _server = place.start();
    assert_eq!(place.networks().len(), 1002);
    assert_eq!(place.ask(&["ban", "--file", &place.file("# nobody\n")]), done("0 networks are banned\n"));
    let shown = place.ask(&["ban", "--file", &place.shown("nothing")]);
    assert!(shown.error.starts_with("cannot read ") && shown.status == Some(2), "{shown:?}");
    assert_eq!(place.ask(&["ban"]).status, Some(2));
}

#[test]
fn without_a_directory_bans_live_in_memory_and_the_answer_says_so() {
    let place = Place::new();
    let server = place.start_by(PROGRAM, &[], &[]);
    let said = "192.0.2.7/32 is banned\nin memory only, until the daemon ends: it was started without --state\n";
    assert_eq!(place.ask(&["ban", "192.0.2.7"]), done(said));
    assert!(place.rcpt("192.0.2.7").starts_with("550 "));
    server.stop();
    let _server = place.start_by(PROGRAM, &[], &[]);
    assert_eq!((place.rcpt("192.0.2.7"), place.networks()), (String::new(), vec![]));
}

#[test]
fn the_mode_and_the_state() {
    let place = Place::new();
    let server = place.start();
    assert_eq!(place.ask(&["mode"]), done("the mode is open\n"));
    assert_eq!(place.ask(&["mode", "maintenance"]), done("the mode is maintenance (that of the policy is open)\n"));
    assert!(place.rcpt("192.0.2.7").starts_with("421 "));
    assert_eq!(place.ask(&["reload"]).status, Some(0));
    assert!(place.rcpt("192.0.2.7").starts_with("421 "), "a load does not end it");
    assert_eq!(place.ask(&["mode", "no-mail"]).status, Some(0));
    assert!(place.rcpt("192.0.2.7").starts_with("521 "));
    server.wait_for_line("info: control: mode asked for by user ");
    let shown = place.ask(&["mode", "off"]);
    assert!(shown.error.contains("write one of open, maintenance, draining, overloaded, no-mail or policy"), "{shown:?}");
    assert_eq!(shown.status, Some(2));

    assert_eq!(place.ask(&["ban", "192.0.2.7"]).status, Some(0));
    let shown = place.ask(&["status"]);
    let lines: Vec<&str> = shown.out.lines().collect();
    assert!(lines[0].starts_with("211-mx.example.org mxgate ") && lines[0].ends_with(", mode no-mail"), "{shown:?}");
    assert!(lines[1].starts_with("211-Rules of load 2, 2") && lines[2] == "211-0 networks, 0 domains, 1 bans; 0 loads failed", "{shown:?}");
    assert_eq!((lines.last(), shown.out.contains('\r'), shown.status), (Some(&"211 End of status"), false, Some(0)));
    let status = place.ask(&["status", "--json"]).json();
    assert_eq!((&status["mode"], &status["bans"], &status["generation"]), (&json!("no-mail"), &json!(1), &json!(2)));

    assert_eq!(place.ask(&["mode", "policy"]), done("the mode is open\n"));
    assert!(place.rcpt("192.0.2.8").is_empty());
    assert_eq!(place.ask(&["mode", "draining"]).status, Some(0));
    server.stop();
    let _server = place.start();
    assert_eq!(place.ask(&["mode"]), done("the mode is open\n"), "it ended with the daemon");
    assert!(place.rcpt("192.0.2.8").is_empty());
}

#[test]
fn a_directory_is_for_one_daemon() {
    let place = Place::new();
    let server = place.start();
    let second = |state: &Path| -> Shown {
        let listen = format!("unix:{}", place.shown("second.sock"));
        Command::new(PROGRAM).args(["serve", "--listen", &listen, "--state"]).arg(state).output().unwrap().into()
    };
    let state = place.path("state");
    let shown = second(&state);
    assert!(shown.error.contains(&format!("another daemon keeps its bans in {}; stop it, or choose", state.display())), "{shown:?}");
    assert_eq!(shown.status, Some(2));
    let shown = second(&place.path("mxgate.toml"));
    assert!(shown.error.starts_with("cannot keep bans in ") && shown.error.contains("; name a directory"), "{shown:?}");
    let shown = second(&place.path("missing/state"));
    assert!(shown.error.starts_with("cannot keep bans in ") && shown.status == Some(2), "{shown:?}");
    server.stop();

    fs::write(place.journal(), "4bfd1dd8 format 2\n").unwrap();
    let sum = crc32fast::hash(b"format 2");
    let later = format!("{sum:08x} format 2\n");
    fs::write(place.journal(), &later).unwrap();
    let shown = second(&state);
    assert!(shown.error.contains("bans.journal:1:1: the format 2 is not known; start the release"), "{shown:?}");
    assert_eq!((shown.status, fs::read_to_string(place.journal()).unwrap()), (Some(2), later));
}

#[test]
fn what_is_torn_is_cut_off_and_what_is_damaged_is_told_and_kept() {
    let place = Place::new();
    let server = place.start();
    for network in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
        assert_eq!(place.ask(&["ban", network, "--reason", "sent spam"]).status, Some(0));
    }
    server.stop();
    let whole = fs::read(place.journal()).unwrap();
    OpenOptions::new().append(true).open(place.journal()).unwrap().write_all(b"12345678 ban 192.0.2.4/32 20").unwrap();
    let server = place.start();
    server.wait_for_line("info: 3 bans of ");
    assert!(!server.log().contains("error: "), "{}", server.log());
    server.wait_for_line("bans.journal: what was being written when");
    server.stop();
    assert_eq!(fs::read(place.journal()).unwrap(), whole);

    let mut damaged = whole.clone();
    let at = whole.len() * 2 / 3;
    damaged[at] ^= 0x20;
    let line = damaged[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
    fs::write(place.journal(), &damaged).unwrap();
    let server = place.start();
    server.wait_for_line("info: 2 bans of ");
    let said = server.wait_for_line(&format!("error: {}:{line}:1: the record is damaged", place.journal().display()));
    assert!(said.contains("; look at it"), "{said}");
    let kept = place.path("state").join("bans.journal.damaged.1");
    assert_eq!(fs::read(&kept).unwrap(), damaged);
    assert!(server.log().contains(&format!("kept as {}", kept.display())), "{}", server.log());
    assert_eq!(place.ask(&["ban", "192.0.2.9"]).status, Some(0));
    server.stop();
    let server = place.start();
    server.wait_for_line("info: 3 bans of ");
    assert!(!server.log().contains("error: "), "told once: {}", server.log());
}

/// A directory of 64 KiB in a mount namespace of the daemon.
#[test]
fn where_the_disk_is_full_bans_hold_in_memory_until_there_is_room() {
    if !root() || !available(&["unshare", "mount"]) {
        return;
    }
    let place = Place::new();
    let state = place.shown("state");
    fs::create_dir(&state).unwrap();
    let script = "mount -t tmpfs -o size=64k tmpfs \"$1\" && shift && exec \"$@\"";
    let before = ["--mount", "--propagation", "private", "sh", "-c", script, "sh", &state, PROGRAM];
    let metrics = format!("unix:{}", place.shown("metrics.sock"));
    let server = place.start_by("unshare", &before, &["--state", &state, "--metrics", &metrics]);
    // The state at a glance, for people and programs, and what monitoring reads.
    let alarms = || {
        let status = place.ask(&["status", "--json"]).json();
        (place.ask(&["status"]).out.lines().nth(1).unwrap().to_owned(), status["alarms"].clone(), place.health())
    };
    // The directory as the daemon sees it.
    let inside = PathBuf::from(format!("/proc/{}/root{state}", server.daemon.pid()));
    let on_disk = |network: &str| fs::read_to_string(inside.join("bans.journal")).unwrap().contains(&format!(" ban {network}/32 "));
    assert_eq!(place.ask(&["ban", "192.0.2.1"]), done("192.0.2.1/32 is banned\n"));
    assert!(on_disk("192.0.2.1"), "the mount is seen from here");
    let fill = || {
        let mut filler = File::create(inside.join("filler")).unwrap();
        while filler.write_all(&[0; 512]).is_ok() {}
    };
    // More than fits behind the end of the file in its last page.
    let many: String = (0..200).map(|host| format!("198.51.100.{host} sent spam, and more of it the day after\n")).collect();
    let many = place.file(&many.replace("198.51.100.25 ", "203.0.113.25 "));
    fill();
    let shown = place.ask(&["ban", "--file", &many]);
    let said = format!(
        "200 networks are banned\nnot on disk: cannot write {state}/bans.journal: No space left on device (os error 28); free some space there\n"
    );
    assert_eq!((shown.out, shown.status), (said, Some(1)));
    let line = server.wait_for_line(&format!("error: cannot write {state}/bans.journal: No space left on device"));
    assert!(line.ends_with("; free some space there; bans hold in memory, and it is tried again every 5 s"), "{line}");
    let alarm = line.strip_prefix("error: ").unwrap();
    assert_eq!(alarms(), (format!("211-Alarm: {alarm}"), json!([alarm]), format!("degraded: {alarm}\n")));
    assert!(place.rcpt("198.51.100.7").starts_with("550 "), "it holds");
    assert!(place.rcpt("192.0.2.1").starts_with("550 ") && on_disk("192.0.2.1"), "what was there is there");
    let shown = place.ask(&["unban", "192.0.2.1"]);
    assert!(shown.status == Some(1) && shown.out.starts_with("192.0.2.1/32 is no longer banned\nnot on disk: "), "{shown:?}");

    // The next change finds room.
    fs::remove_file(inside.join("filler")).unwrap();
    assert_eq!(place.ask(&["ban", "192.0.2.2"]), done("192.0.2.2/32 is banned\n"));
    assert!(on_disk("192.0.2.2") && on_disk("198.51.100.7") && !on_disk("192.0.2.1"));
    server.wait_for_line("info: all bans are on disk again");
    let (second, in_json, health) = alarms();
    assert!(second.starts_with("211-Rules of load 1, ") && in_json == json!([]) && health == "ok\n", "{second} {in_json} {health}");

    // Or the daemon does, by itself.
    fill();
    assert_eq!(place.ask(&["unban", "--file", &many]).status, Some(1));
    let freed = Instant::now();
    fs::remove_file(inside.join("filler")).unwrap();
    wait_for("it is tried again", || (!on_disk("198.51.100.7") && on_disk("192.0.2.2")).then_some(()));
    assert!(freed.elapsed() < Duration::from_secs(8), "{:?}", freed.elapsed());
    wait_for("it is told each time", || (server.log().matches("all bans are on disk again").count() == 2).then_some(()));
}

/// A daemon that is killed when this goes.
struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a network may be after a kill: banned with this number as its reason, or not.
type Outcome = Option<u64>;

/// Kills for half a minute, or as often as `MXGATE_KILLS` says.
#[test]
fn kill_9_at_random_moments_loses_no_acknowledged_ban() {
    let wanted: Option<u32> = std::env::var("MXGATE_KILLS").ok().map(|text| text.parse().unwrap());
    let end = Instant::now() + Duration::from_secs(30);
    let place = Place::new();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let host = |number: u64| format!("192.0.{}.{}/32", number % 4 + 2, number / 4 % 128);
    // What was acknowledged of each network, and what was asked for since.
    let mut acknowledged: BTreeMap<String, Outcome> = BTreeMap::new();
    let (mut pending, mut number): (Vec<(String, Outcome)>, _) = (Vec::new(), 0);
    let (mut kills, mut early, mut answers, mut in_flight) = (0, 0, 0_u64, 0_u64);
    while wanted.map_or(Instant::now() < end, |wanted| kills < wanted) {
        kills += 1;
        let log = File::create(place.path("log")).unwrap();
        let mut daemon = Command::new(PROGRAM);
        daemon.args(place.serve(&["--state", &place.shown("state")])).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut victim = Victim(daemon.spawn().unwrap());
        // One in eight while it starts, which is when it reads the file, and sometimes writes it anew.
        if next(8) == 0 {
            early += 1;
            sleep(Duration::from_micros(next(30_000)));
            victim.0.kill().unwrap();
            continue;
        }
        let stream = wait_for("the daemon answers", || UnixStream::connect(place.path("control.sock")).ok());
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut writer = stream;
        let mut answer = || -> Option<Value> {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|_| line.ends_with('\n'))?;
            Some(serde_json::from_str(&line).unwrap())
        };
        writer.write_all(b"{\"command\":\"bans\"}\n").unwrap();
        let found = answer().unwrap();
        let found: BTreeMap<String, u64> = found["result"]
            .as_array()
            .unwrap()
            .iter()
            .map(|ban| (ban["network"].as_str().unwrap().to_owned(), ban["reason"].as_str().unwrap().parse().unwrap()))
            .collect();
        let networks = acknowledged.keys().chain(found.keys()).chain(pending.iter().map(|(network, _)| network));
        for network in networks {
            let now = found.get(network).copied();
            let sure = acknowledged.get(network).copied().flatten();
            let meant = pending.iter().any(|(other, outcome)| other == network && *outcome == now);
            assert!(now == sure || meant, "kill {kills}: {network} is {now:?}, was {sure:?}");
        }
        let said = fs::read_to_string(place.path("log")).unwrap();
        assert!(!said.contains("error: ") && !said.contains("damaged"), "kill {kills}: {said}");
        acknowledged = found.into_iter().map(|(network, number)| (network, Some(number))).collect();
        pending.clear();

        // One network, or two hundred at once, or one less. Several requests are under way when the daemon is killed.
        let mut asked = Vec::new();
        for _ in 0..60 {
            number += 1;
            let first = next(512);
            let (request, outcomes): (Value, Vec<(String, Outcome)>) = match next(8) {
                0 | 1 => (json!({"command": "unban", "networks": [host(first)]}), vec![(host(first), None)]),
                kind => {
                    let count = if kind == 2 { 200 } else { 1 };
                    let networks = || (first..first + count).map(host);
                    let bans: Vec<Value> = networks().map(|network| json!({"network": network, "reason": number.to_string()})).collect();
                    (json!({"command": "ban", "bans": bans, "for": "24h"}), networks().map(|network| (network, Some(number))).collect())
                }
            };
            asked.push((format!("{request}\n"), outcomes));
        }
        let delay = Duration::from_micros(next(25_000));
        let text: String = asked.iter().map(|(line, _)| line.as_str()).collect();
        let mut heard = 0;
        std::thread::scope(|scope| {
            // The daemon may be gone before it has read all of it.
            scope.spawn(move || writer.write_all(text.as_bytes()));
            scope.spawn(|| {
                sleep(delay);
                victim.0.kill().unwrap();
            });
            for (_, outcomes) in &asked {
                let Some(answer) = answer() else {
                    in_flight += 1;
                    break;
                };
                assert_eq!((&answer["ok"], &answer["result"]["kept"]), (&json!(true), &json!("on-disk")), "{answer}");
                heard += 1;
                answers += 1;
                acknowledged.extend(outcomes.iter().cloned());
            }
        });
        // What comes after the last answer may be there or not.
        pending = asked.into_iter().skip(heard).flat_map(|(_, outcomes)| outcomes).collect();
    }
    assert!(answers > u64::from(kills) && in_flight > 0, "{kills} kills, {answers} answers, {in_flight} in flight");
    support::say(&format!(
        "{kills} kills ({early} while it started, {in_flight} amid requests): {answers} requests acknowledged, none of them lost, no file unreadable"
    ));
}
