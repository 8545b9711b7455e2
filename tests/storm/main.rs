//! The daemon under storms: ten thousand sessions at once while its policy is loaded again and again, a great many one after
//! the other, restarts, and bad peers beside good ones. `MXGATE_STORM=full` for the full size, which takes half an hour;
//! `MXGATE_PROGRAM` names a daemon other than that of the tests, an optimised one. Loopback only.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what goes wrong here ends the test, with a message")]

use generations::{Generation, address, network};
use malformed::sessions;
use peer::{MailServer, Target, block_on, bytes, client, connect, offer, rcpt};
use proptest::prelude::Rng as _;
use random::random;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use server::Server;
use std::cell::Cell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};
use support::{available, say, skip};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::spawn_local;
use tokio::time;

mod generations;
mod malformed;
mod peer;
#[path = "../support/random.rs"]
mod random;
mod server;
#[path = "../support/mod.rs"]
mod support;

/// As many as the daemon takes at one time.
const CONNECTIONS: usize = 10_000;
/// Memory beside that of two rulesets, in KiB.
const SLACK: u64 = 64 << 10;
const POLICY: &str = "hostname = \"mx.example.org\"\n[[list]]\nname = \"local\"\nentries = [\"192.0.2.0/24\"]\n";
const BLOCKED: &str = "550 5.7.1 Service unavailable; client [192.0.2.7] blocked using local";

/// One storm after the other: they measure time and memory.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The one size or the other.
fn size<T>(usual: T, full: T) -> T {
    if std::env::var("MXGATE_STORM").is_ok_and(|size| size == "full") { full } else { usual }
}

/// Lets this program open so many connections; false if it may not, and neither may the daemon.
fn may_open(files: usize) -> bool {
    let limit = getrlimit(Resource::Nofile);
    let needed = u64::try_from(files + 200).unwrap();
    if limit.current.is_none_or(|soft| soft >= needed) {
        return true;
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(needed), ..limit }).is_ok()
        || skip(&format!("no more than {:?} files may be open", limit.maximum))
}

/// Counts of what many peers have seen.
#[derive(Default)]
struct Seen {
    answers: AtomicU64,
    refused: AtomicU64,
}

impl Seen {
    fn note(&self, reply: &str) {
        self.answers.fetch_add(1, Ordering::Relaxed);
        self.refused.fetch_add(u64::from(!reply.is_empty()), Ordering::Relaxed);
    }
}

#[test]
fn ten_thousand_sessions_while_the_policy_is_loaded_again_and_again() {
    let _alone = alone();
    if !available(&["mkfifo"]) || !may_open(CONNECTIONS) {
        return;
    }
    let (networks, loads, time) = size((100_000, u32::MAX, Duration::from_secs(8)), (1_000_000, 1000, Duration::MAX));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    [Generation::A, Generation::B].iter().for_each(|generation| generation.write_list(path, networks));
    let server = Server::start(path, "hostname = \"mx.example.org\"\n", None);
    let empty = server.memory("VmRSS");
    server.reload(path, &Generation::A.policy());
    let ruleset = server.memory("VmRSS") - empty;

    // Whose rules are in force, whether others are being loaded, and how many loads there have been.
    let (stop, seen, open) = (AtomicBool::new(false), Seen::default(), AtomicU32::new(0));
    let in_force = Mutex::new((Generation::A, false, 0));
    let before = server.memory("VmRSS");
    let each = scope(|scope| {
        let peers = scope.spawn(|| {
            block_on(async {
                // Some hundred at a time, as many as wait in the queue of a socket.
                let mut mail_servers = Vec::new();
                for batch in 0..CONNECTIONS / 500 {
                    let begun: Vec<_> = (0..500)
                        .map(|number| (server.target.clone(), batch * 500 + number))
                        .map(|(target, number)| spawn_local(async move { MailServer::begin(&target, number).await }))
                        .collect();
                    for one in begun {
                        mail_servers.push(one.await.unwrap().unwrap());
                    }
                }
                open.store(u32::try_from(mail_servers.len()).unwrap(), Ordering::Release);
                let (mut numbers, all) = (random(10), Rc::new(Cell::new(0)));
                // All ask, and only then do all wait; again and again.
                while !stop.load(Ordering::Acquire) {
                    let settled = *in_force.lock().unwrap();
                    let asked: Vec<_> = mail_servers
                        .drain(..)
                        .map(|mut mail_server| {
                            let number = network(numbers.next_u32(), networks);
                            spawn_local(async move {
                                let reply = mail_server.ask(&address(number).to_string()).await.unwrap();
                                (mail_server, number, reply)
                            })
                        })
                        .collect();
                    let mut heard = Vec::new();
                    for one in asked {
                        let (mail_server, number, reply) = one.await.unwrap();
                        mail_servers.push(mail_server);
                        heard.push((number, reply));
                    }
                    // If nothing was loaded meanwhile it is one generation for all.
                    let same = settled == *in_force.lock().unwrap() && !settled.1;
                    for (number, reply) in heard {
                        seen.note(&reply);
                        let right = [settled.0, settled.0.other()].into_iter().take(if same { 1 } else { 2 });
                        assert!(right.clone().any(|generation| reply == generation.reply(number)), "{reply:?} for {number} in {settled:?}");
                    }
                    all.set(all.get() + 1);
                }
                for mail_server in mail_servers {
                    mail_server.quit().await.unwrap();
                }
                all.get()
            })
        });
        let running = || !peers.is_finished();
        server.wait("takes all connections", || open.load(Ordering::Acquire) > 0 || !running());
        let each = (server.memory("VmRSS").saturating_sub(before) << 10) / u64::try_from(CONNECTIONS).unwrap();
        let (start, mut loaded) = (Instant::now(), 0);
        while running() && loaded < loads && start.elapsed() < time {
            let next = in_force.lock().unwrap().0.other();
            in_force.lock().unwrap().1 = true;
            server.reload(path, &next.policy());
            loaded += 1;
            *in_force.lock().unwrap() = (next, false, loaded);
            // A moment in which it is known what is right.
            sleep(size(Duration::from_millis(500), Duration::from_millis(50)));
        }
        stop.store(true, Ordering::Release);
        let rounds = peers.join().unwrap();
        let (answers, refused) = (seen.answers.load(Ordering::Relaxed), seen.refused.load(Ordering::Relaxed));
        say(&format!(
            "storm: {CONNECTIONS} sessions at once, {loaded} loads of {networks} networks in {:.0} s: {answers} answers in {rounds} rounds, \
             {refused} of them refusals, none wrong",
            start.elapsed().as_secs_f64()
        ));
        assert!(loaded >= 2 && refused > 0 && refused < answers);
        each
    });
    let most = server.memory("VmHWM");
    say(&format!("storm: empty {empty} KiB, one ruleset {ruleset} KiB, at most {most} KiB; {each} bytes a connection"));
    assert!(most <= 2 * ruleset + SLACK, "{most} KiB is more than two rulesets of {ruleset} KiB and {SLACK} KiB");
    // That it is full is all that there is to complain about.
    let expected = |line: &String| line.starts_with("info: ") || line.contains("10000 connections are open; further ones wait");
    assert!(server.log().iter().all(expected), "{:#?}", server.log());
}

/// Sessions one after the other, each a connection of its own, on so many connections at a time.
async fn in_turn(target: &Target, sessions: usize) {
    let left = Rc::new(Cell::new(sessions));
    let tasks: Vec<_> = (0..16_usize)
        .map(|lane| {
            let (target, left) = (target.clone(), Rc::clone(&left));
            spawn_local(async move {
                while left.get() > 0 {
                    left.set(left.get() - 1);
                    let mut mail_server = MailServer::begin(&target, left.get() * 16 + lane).await.unwrap();
                    assert_eq!(mail_server.ask("192.0.2.7").await.unwrap(), BLOCKED);
                    assert_eq!(mail_server.ask("198.51.100.7").await.unwrap(), "");
                    mail_server.quit().await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[test]
fn nothing_is_left_of_sessions_that_are_over() {
    let _alone = alone();
    if !available(&["mkfifo"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), POLICY, None);
    let idle = server.files();
    block_on(in_turn(&server.target, 2000));
    server.wait_for_files(idle);
    let before = server.memory("VmRSS");
    let (sessions, start) = (size(20_000, 100_000), Instant::now());
    block_on(in_turn(&server.target, sessions));
    let took = start.elapsed().as_secs_f64();
    server.wait_for_files(idle);
    let after = server.memory("VmRSS");
    say(&format!("storm: {sessions} sessions in {took:.1} s: {idle} files open before and after, {before} KiB before, {after} KiB after"));
    assert!(after <= before + 2048, "{before} KiB before, {after} KiB after");
}

/// One session that begins whenever the daemon can be reached, as a mail server tries it, and then must come to its end.
async fn whole_session(target: &Target, number: usize, pause: Duration) {
    let stream = loop {
        match connect(target, number).await {
            Ok(stream) => break stream,
            // Nobody listens just now, or the queue is full.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::WouldBlock) => {
                time::sleep(Duration::from_millis(2)).await;
            }
            Err(error) => panic!("{error}"),
        }
    };
    let mut mail_server = MailServer::on(stream).await.unwrap();
    for _ in 0..3 {
        assert_eq!(mail_server.ask("192.0.2.7").await.unwrap(), BLOCKED);
        time::sleep(pause).await;
        assert_eq!(mail_server.ask("198.51.100.7").await.unwrap(), "");
    }
    mail_server.quit().await.unwrap();
}

#[test]
fn restarts_cost_no_session() {
    let _alone = alone();
    if !available(&["mkfifo"]) {
        return;
    }
    let restarts = size(10, 50);
    let directory = tempfile::tempdir().unwrap();
    let start = || Server::start(directory.path(), POLICY, Some("milter.sock"));
    let mut server = start();
    let (stop, sessions) = (AtomicBool::new(false), AtomicU32::new(0));
    let target = server.target.clone();
    let Target::Unix(socket) = &target else { panic!("{target:?}") };
    scope(|scope| {
        let peers = scope.spawn(|| {
            block_on(async {
                let stopped = Rc::new(Cell::new(false));
                // Short ones, and long ones that a stop finds amid.
                let tasks: Vec<_> = (0..40)
                    .map(|lane| {
                        let (target, stopped, pause) = (target.clone(), Rc::clone(&stopped), Duration::from_millis(lane % 4 * 150));
                        spawn_local(async move {
                            let mut count = 0;
                            while !stopped.get() {
                                whole_session(&target, 0, pause).await;
                                count += 1;
                            }
                            count
                        })
                    })
                    .collect();
                while !stop.load(Ordering::Acquire) && !tasks.iter().any(|task| task.is_finished()) {
                    time::sleep(Duration::from_millis(5)).await;
                }
                stopped.set(true);
                for task in tasks {
                    sessions.fetch_add(task.await.unwrap(), Ordering::Relaxed);
                }
            });
        });
        let mut away = Duration::ZERO;
        for _ in 0..restarts {
            sleep(Duration::from_millis(200));
            assert!(!peers.is_finished(), "a session was dropped");
            let stopping = Instant::now();
            server.signal("TERM");
            server.wait("hides its socket", || !socket.exists());
            // The old one goes on with its sessions meanwhile.
            let next = start();
            away = away.max(stopping.elapsed());
            std::mem::replace(&mut server, next).ended(stopping);
        }
        stop.store(true, Ordering::Release);
        peers.join().unwrap();
        let sessions = sessions.load(Ordering::Relaxed);
        say(&format!("storm: {restarts} restarts, {sessions} sessions, none cut; nobody listened for at most {} ms", away.as_millis()));
        assert!(sessions > restarts);
    });
}

/// How a bad peer is bad.
#[derive(Clone, Debug)]
enum Bad {
    /// Says this and then nothing; whether the daemon ends it at once.
    Says(Vec<u8>, bool),
    /// A byte a second.
    Slow,
    /// Asks and asks, and never reads.
    Deaf,
    /// Asks and asks, and reads all answers: a daemon that hears it to its end never hears anybody else.
    Greedy,
    /// One of those that chance makes: said, and then what is read is looked at.
    Malformed(Vec<u8>),
}

/// The longest that the daemon waits for anything but an idle mail server, and a little.
const LONGEST: Duration = Duration::from_secs(32);

impl Bad {
    /// Is bad until the daemon ends it, or until `end`. Returns whether the daemon ended it, and when.
    async fn go(self, target: &Target, number: usize, end: Instant) -> Option<Duration> {
        let start = Instant::now();
        let (mut read, mut write) = tokio::io::split(connect(target, number).await.unwrap());
        let mut heard = Vec::new();
        let until = time::Instant::from_std(end);
        let closed = match self {
            Bad::Says(said, _) => {
                // It may have closed before it had read all.
                let _ = write.write_all(&said).await;
                time::timeout_at(until, read.read_to_end(&mut heard)).await.is_ok()
            }
            Bad::Slow => {
                let mut packets = bytes(&[offer(), client("192.0.2.7"), rcpt()[1]]).into_iter().cycle();
                loop {
                    if write.write_all(&[packets.next().unwrap()]).await.is_err() {
                        break true;
                    }
                    if Instant::now() > end {
                        break false;
                    }
                    time::sleep(Duration::from_secs(1)).await;
                }
            }
            Bad::Deaf => {
                let said = bytes(&[offer(), client("192.0.2.7")]);
                let flood = bytes(&rcpt()).repeat(100);
                write.write_all(&said).await.unwrap();
                time::timeout_at(until, async { while write.write_all(&flood).await.is_ok() {} }).await.is_ok()
            }
            Bad::Greedy => {
                let said = bytes(&[offer(), client("198.51.100.7")]);
                let flood = bytes(&rcpt()).repeat(1000);
                write.write_all(&said).await.unwrap();
                let mut answers = vec![0; 1 << 16];
                let asks = async { while write.write_all(&flood).await.is_ok() {} };
                let reads = async { while read.read(&mut answers).await.is_ok_and(|length| length > 0) {} };
                time::timeout_at(until, async { tokio::join!(asks, reads) }).await.is_ok()
            }
            Bad::Malformed(said) => {
                let _ = write.write_all(&said).await;
                let _ = write.shutdown().await;
                let closed = time::timeout_at(until, read.read_to_end(&mut heard)).await.is_ok();
                well_formed(&heard, &said);
                closed
            }
        };
        closed.then(|| start.elapsed())
    }
}

/// What the daemon has said to a bad peer is packets, and no others than to good ones.
fn well_formed(mut heard: &[u8], said: &[u8]) {
    while let Some((length, rest)) = heard.split_first_chunk::<4>() {
        let (packet, rest) =
            rest.split_at_checked(u32::from_be_bytes(*length) as usize).unwrap_or_else(|| panic!("{}", heard.escape_ascii()));
        let right = match packet {
            [b'O', options @ ..] => options.len() >= 12,
            [b'c'] => true,
            [b'y', reply @ ..] => {
                reply.starts_with(b"550 5.7.1 Service unavailable; client [192.0.2.") && reply.ends_with(b"using local\0")
            }
            _ => false,
        };
        assert!(right, "{} to {}", packet.escape_ascii(), said.escape_ascii());
        heard = rest;
    }
    // Nothing is left: a daemon that resets the connection may have cut the last one off.
}

fn bad_ones() -> Vec<Bad> {
    let begun = |packet: &[u8]| [&bytes(&[offer()])[..], packet].concat();
    let question = bytes(&[rcpt()[1]]);
    let mut bad = Vec::new();
    for at_once in [
        b"\xff\xff\xff\xff".to_vec(),
        b"\x7f\xff\xff\xffO".to_vec(),
        b"\x40\0\0\0O".to_vec(),
        b"\0\0\0\0".to_vec(),
        b"GET / HTTP/1.1\r\nHost: mx.example.org\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(),
        b"EHLO client.example.org\r\n".to_vec(),
        begun(b"\xff\xff\xff\xff"),
        begun(b"\0\0\0\x01!"),
        begun(&bytes(&[offer()])),
        bytes(&[client("192.0.2.7"), offer()]),
        question.clone(),
    ] {
        bad.push(Bad::Says(at_once, true));
    }
    for half in
        [vec![], vec![0], vec![0, 0, 0, 13, b'O', 0], begun(&question[..question.len() - 1]), begun(&[0, 1, 0, 0, b'B']), begun(b"\0\0")]
    {
        bad.push(Bad::Says(half, false));
    }
    bad.extend([Bad::Slow, Bad::Slow, Bad::Slow, Bad::Slow, Bad::Deaf, Bad::Deaf, Bad::Deaf, Bad::Deaf]);
    bad.push(Bad::Greedy);
    bad.extend(sessions(84).into_iter().map(Bad::Malformed));
    bad
}

#[test]
fn bad_peers_do_not_hold_up_good_ones() {
    let _alone = alone();
    if !available(&["mkfifo"]) {
        return;
    }
    let (times, lasting) = size((1, Duration::from_secs(12)), (20, LONGEST + Duration::from_secs(3)));
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), POLICY, None);
    if !may_open(times * bad_ones().len() + 1000) {
        return;
    }
    let (idle, empty, end) = (server.files(), server.memory("VmRSS"), Instant::now() + lasting);
    let (seen, slowest) = (Seen::default(), AtomicU64::new(0));
    let (bad, flooded, cut) = scope(|scope| {
        // In a thread of their own, so that it is the daemon who is timed and not the bad ones.
        let good = scope.spawn(|| block_on(good_sessions(&server.target, end, &seen, &slowest)));
        let counts = block_on(async {
            let flood = spawn_local(flood(server.target.clone(), end));
            let (mut tasks, mut cut) = (Vec::new(), 0);
            for (number, bad) in (0..times).flat_map(|_| bad_ones()).enumerate() {
                let target = server.target.clone();
                tasks.push((bad.clone(), spawn_local(async move { bad.go(&target, number, end).await })));
                // Not all at once: they are to disturb for long.
                time::sleep(Duration::from_millis(2)).await;
            }
            let count = tasks.len();
            for (bad, task) in tasks {
                let ended = task.await.unwrap();
                cut += u32::from(ended.is_some());
                match (&bad, ended) {
                    (Bad::Says(_, true) | Bad::Malformed(_), Some(time)) if time < Duration::from_secs(5) => {}
                    (Bad::Says(_, false) | Bad::Slow | Bad::Deaf, Some(time)) if time < LONGEST => {}
                    // It breaks no rule.
                    (Bad::Greedy, None) => {}
                    // Not yet: their deadlines have tests of their own.
                    (Bad::Says(_, false) | Bad::Slow | Bad::Deaf, None) if lasting < LONGEST => {}
                    _ => panic!("{bad:?} ended after {ended:?}"),
                }
            }
            (count, flood.await.unwrap(), cut)
        });
        good.join().unwrap();
        counts
    });
    server.wait_for_files(idle);
    let (answers, slowest, most) = (seen.answers.load(Ordering::Relaxed), slowest.load(Ordering::Relaxed), server.memory("VmHWM"));
    say(&format!(
        "storm: {bad} bad peers, {cut} of them cut off by the daemon, and {flooded} that connect and close; {answers} good answers, \
         the slowest after {slowest} ms; {empty} KiB before, {most} KiB at most"
    ));
    assert!(answers > 1000 && slowest < 1000, "{answers} answers, the slowest after {slowest} ms");
    assert!(most <= empty + (16 << 10), "{empty} KiB before, {most} KiB at most");
    assert!(server.log().iter().all(|line| line.starts_with("info: ")), "{:#?}", server.log());
}

/// Twenty mail servers; some stay, some come anew for each question.
async fn good_sessions(target: &Target, end: Instant, seen: &Seen, slowest: &AtomicU64) {
    let answers: Rc<Cell<(u64, u64)>> = Rc::default();
    let tasks: Vec<_> = (0..20_usize)
        .map(|number| {
            let (target, answers) = (target.clone(), Rc::clone(&answers));
            spawn_local(async move {
                let mut stays = MailServer::begin(&target, number).await.unwrap();
                while Instant::now() < end {
                    let start = Instant::now();
                    if number % 2 == 0 {
                        stays.quit().await.unwrap();
                        stays = MailServer::begin(&target, number).await.unwrap();
                    }
                    assert_eq!(stays.ask("192.0.2.7").await.unwrap(), BLOCKED);
                    let millis = u64::try_from(start.elapsed().as_millis()).unwrap();
                    assert_eq!(stays.ask("198.51.100.7").await.unwrap(), "");
                    answers.set((answers.get().0 + 2, answers.get().1.max(millis)));
                    time::sleep(Duration::from_millis(5)).await;
                }
                stays.quit().await.unwrap();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    seen.answers.store(answers.get().0, Ordering::Relaxed);
    slowest.store(answers.get().1, Ordering::Relaxed);
}

/// Connects and closes at once, as monitors do, and port scanners.
async fn flood(target: Target, end: Instant) -> usize {
    let mut count = 0;
    while Instant::now() < end {
        for _ in 0..10 {
            count += 1;
            drop(connect(&target, count).await.unwrap());
        }
        time::sleep(Duration::from_millis(10)).await;
    }
    count
}
