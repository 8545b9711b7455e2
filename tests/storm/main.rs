//! The daemon under storms: ten thousand sessions at once while its policy is loaded again and again, a great many one after
//! the other, restarts, and bad peers beside good ones. `MXGATE_STORM=full` for the full size, which takes half an hour;
//! `MXGATE_PROGRAM` names a daemon other than that of the tests, an optimised one. Loopback only.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what goes wrong here ends the test, with a message")]

use bad::{Bad, LONGEST, bad_ones, flood};
use generations::{Generation, address, network};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use peer::{MailServer, Target, block_on, connect};
use proptest::prelude::Rng as _;
use random::random;
use server::{Listen, Server};
use std::cell::Cell;
use std::io::ErrorKind;
use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};
use support::{available, say, skip};
use tokio::task::spawn_local;
use tokio::time;

mod bad;
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
/// So many rulesets are in memory during a load: the old one and the new one.
const MOST_RULESETS: u64 = 2;
/// Memory beside that of rulesets, in KiB: sessions, and what a ruleset is made of.
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

/// How often the policy is loaded at full size; `MXGATE_LOADS` for less.
fn full_loads() -> u32 {
    std::env::var("MXGATE_LOADS").map_or(1000, |loads| loads.parse().unwrap())
}

/// Lets this program open so many connections; false if it may not, and neither may the daemon.
fn may_open(files: usize) -> bool {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let needed = u64::try_from(files + 200).unwrap();
    soft >= needed || setrlimit(Resource::RLIMIT_NOFILE, needed, hard).is_ok() || skip(&format!("no more than {hard} files may be open"))
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
    if !available(&["bash", "mkfifo"]) || !may_open(CONNECTIONS) {
        return;
    }
    let (networks, loads, time) = size((100_000, u32::MAX, Duration::from_secs(8)), (1_000_000, full_loads(), Duration::MAX));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    [Generation::A, Generation::B].iter().for_each(|generation| generation.write_list(path, networks));
    let server = Server::start(path, "hostname = \"mx.example.org\"\n", Listen::Port);
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
    let (most, after) = (server.memory("VmHWM"), server.memory("VmRSS"));
    say(&format!(
        "storm: empty {empty} KiB, one ruleset {ruleset} KiB, at most {most} KiB, {after} KiB after all loads; {each} bytes a connection"
    ));
    assert!(most <= MOST_RULESETS * ruleset + SLACK, "{most} KiB at most, one ruleset {ruleset} KiB");
    assert!(after <= empty + ruleset + SLACK / 2, "{after} KiB are left of loads that are over, one ruleset {ruleset} KiB");
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
    if !available(&["bash", "mkfifo"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), POLICY, Listen::Port);
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

/// One session that begins whenever the daemon can be reached, as a mail server tries it, and then must come to its end. How
/// often it could not be reached.
async fn whole_session(target: &Target, pause: Duration) -> u32 {
    let mut refused = 0;
    let stream = loop {
        match connect(target, 0).await {
            Ok(stream) => break stream,
            // Nobody listens just now.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                refused += 1;
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
    refused
}

/// Forty mail servers with a session after the other, until they are told to stop: how many sessions there were, and how many
/// connections nobody took.
async fn mail_servers(target: &Target, stop: &AtomicBool) -> (u32, u32) {
    let stopped = Rc::new(Cell::new(false));
    // Short ones, and long ones that a stop finds amid.
    let tasks: Vec<_> = (0..40)
        .map(|lane| {
            let (target, stopped, pause) = (target.clone(), Rc::clone(&stopped), Duration::from_millis(lane % 4 * 150));
            spawn_local(async move {
                let (mut sessions, mut refused) = (0, 0);
                while !stopped.get() {
                    refused += whole_session(&target, pause).await;
                    sessions += 1;
                }
                (sessions, refused)
            })
        })
        .collect();
    while !stop.load(Ordering::Acquire) && !tasks.iter().any(|task| task.is_finished()) {
        time::sleep(Duration::from_millis(5)).await;
    }
    stopped.set(true);
    let mut counts = (0, 0);
    for task in tasks {
        let (sessions, refused) = task.await.unwrap();
        counts = (counts.0 + sessions, counts.1 + refused);
    }
    counts
}

#[test]
fn restarts_cost_no_session() {
    restart(false);
}

#[test]
fn restarts_refuse_no_connection_if_sockets_are_handed_over() {
    restart(true);
}

fn restart(handed_over: bool) {
    let _alone = alone();
    if !available(&["bash", "mkfifo"]) {
        return;
    }
    let restarts = size(10, 50);
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("milter.sock");
    let handed = handed_over.then(|| UnixListener::bind(&socket).unwrap());
    let start = || {
        let listen = handed.as_ref().map_or(Listen::Socket(&socket), |listener| Listen::HandedOver(listener, &socket));
        Server::start(directory.path(), POLICY, listen)
    };
    let mut server = start();
    let (stop, target) = (AtomicBool::new(false), server.target.clone());
    scope(|scope| {
        let peers = scope.spawn(|| block_on(mail_servers(&target, &stop)));
        let mut away = Duration::ZERO;
        for _ in 0..restarts {
            sleep(Duration::from_millis(200));
            assert!(!peers.is_finished(), "a session was dropped");
            let stopping = Instant::now();
            server.signal("TERM");
            if !handed_over {
                server.wait("hides its socket", || !socket.exists());
            }
            // The old one goes on with its sessions meanwhile.
            let next = start();
            away = away.max(stopping.elapsed());
            std::mem::replace(&mut server, next).ended(stopping);
        }
        stop.store(true, Ordering::Release);
        let (sessions, refused) = peers.join().unwrap();
        let how = if handed_over { "with the socket handed over" } else { "with a new socket each time" };
        say(&format!(
            "storm: {restarts} restarts {how}, {sessions} sessions, none cut; {refused} connections that nobody took, for at most {} ms",
            away.as_millis()
        ));
        assert!(sessions > restarts && (refused == 0 || !handed_over), "{refused} connections that nobody took");
    });
}

#[test]
fn bad_peers_do_not_hold_up_good_ones() {
    let _alone = alone();
    if !available(&["bash", "mkfifo"]) {
        return;
    }
    let (times, lasting) = size((1, Duration::from_secs(12)), (20, 2 * LONGEST));
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), POLICY, Listen::Port);
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
                let (ended, time) = task.await.unwrap();
                cut += u32::from(ended);
                let right = match &bad {
                    Bad::Says(_, true) | Bad::Malformed(_) => ended && time < Duration::from_secs(5),
                    // Perhaps not yet: their deadlines have tests of their own.
                    Bad::Says(_, false) | Bad::Slow | Bad::Deaf => time < LONGEST,
                    // It breaks no rule.
                    Bad::Greedy => true,
                };
                assert!(right, "{bad:?} after {time:?}, ended: {ended}");
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
