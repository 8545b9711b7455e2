//! Limits against a model that has all the memory and time it wants: the same answers, one by one, with a clock that jumps;
//! where memory is short, or threads race, the differences are those that are declared.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "what goes wrong here ends the test, with a message"
)]

use mxgate::limits::{Counters, Exceeded, Limits, Rate, Settings};
use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Barrier;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::thread;

const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3600 * SECOND;
/// Further than this a clock is set back, not slow.
const SET_BACK: i128 = 60 * SECOND as i128;
const STEPS: usize = if cfg!(debug_assertions) { 400_000 } else { 10_000_000 };

/// A generator with the seed that `MXGATE_SEED` says, else always the same.
fn random() -> TestRng {
    let seed = std::env::var("MXGATE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1_u64);
    println!("MXGATE_SEED={seed}; another one asks other questions");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)
}

fn rate(text: &str) -> Option<Rate> {
    Some(Rate::parse(text).unwrap())
}

fn counters(limits: &Limits, which: &str, now: u64) -> Counters {
    limits.counters(now).find(|counters| counters.which == which).unwrap()
}

/// A leaky bucket as one would build it: what is in it, in nanoseconds of leaking, below nothing if it has been empty for
/// some time. Whole numbers that cannot overflow.
#[derive(Clone, Copy)]
struct Bucket {
    level: i128,
    at: u64,
}

impl Bucket {
    fn new(now: u64) -> Bucket {
        Bucket { level: 0, at: now }
    }

    /// Lets it leak; how long until there is room for one more.
    fn wait(&mut self, interval: i128, burst: i128, now: u64) -> i128 {
        self.level -= i128::from(now) - i128::from(self.at);
        self.at = now;
        if self.level > burst * interval + SET_BACK {
            self.level = burst * interval;
        }
        (self.level - (burst - 1) * interval).max(0)
    }

    fn add(&mut self, interval: i128) {
        self.level = self.level.max(0) + interval;
    }

    /// It was added, and taken out again.
    fn touch(&mut self) {
        self.level = self.level.max(0);
    }
}

/// A rate, and a bucket for everybody whom it is about.
struct Model<K> {
    which: &'static str,
    interval: i128,
    burst: i128,
    buckets: HashMap<K, Bucket>,
}

impl<K: Copy + Eq + std::hash::Hash> Model<K> {
    fn new(which: &'static str, count: u64, period: u64, burst: u64) -> Model<K> {
        let interval = i128::from((period * SECOND).div_ceil(count));
        Model { which, interval, burst: burst.into(), buckets: HashMap::new() }
    }

    fn ask(&mut self, who: K, now: u64) -> Option<Exceeded> {
        let wait = self.buckets.entry(who).or_insert(Bucket::new(now)).wait(self.interval, self.burst, now);
        let retry_after_seconds = (wait as u64).div_ceil(SECOND);
        (wait > 0).then_some(Exceeded { which: self.which, retry_after_seconds })
    }

    fn charge(&mut self, who: K) {
        let interval = self.interval;
        self.buckets.get_mut(&who).unwrap().add(interval);
    }

    fn touch(&mut self, who: K) {
        self.buckets.get_mut(&who).unwrap().touch();
    }
}

/// The hours in which open sessions began, and the last one in which that changed.
#[derive(Clone, Default)]
struct Sessions {
    hour: u64,
    began: VecDeque<u64>,
}

impl Sessions {
    fn at(&self, now: u64) -> Sessions {
        let mut then = self.clone();
        let hour = now / HOUR;
        if hour + 1 < self.hour {
            then.began.clear();
        }
        if hour + 1 != self.hour {
            then.hour = hour;
        }
        while then.began.front().is_some_and(|began| began + 1 < then.hour) {
            then.began.pop_front();
        }
        then
    }

    fn begin(self) -> Sessions {
        let mut began = self.began;
        began.push_back(self.hour);
        Sessions { began, ..self }
    }

    fn end(mut self) -> Sessions {
        self.began.pop_front();
        self
    }
}

/// Mostly on, by as much as matters to the rates below; now and then far on, a little back, or far back.
fn turn(clock: u64, random: &mut TestRng) -> u64 {
    let span = random.next_u64();
    match random.next_u32() % 1000 {
        0..600 => clock + span % (200 * SECOND / 1000),
        600..900 => clock,
        900..990 => clock + span % (20 * SECOND),
        990..994 => clock + span % (3 * HOUR),
        994..999 => clock.saturating_sub(span % (2 * SECOND)),
        _ => clock.saturating_sub(span % (3 * HOUR)),
    }
}

#[test]
fn connections_and_sessions_are_let_through_as_by_the_model() {
    let mut random = random();
    for (count, unit, period, burst) in [(100, "min", 60, 20), (7, "s", 1, 3), (6, "min", 60, 1), (1000, "h", 3600, 1000)] {
        let (most, clients) = (4, 30);
        let connections = rate(&format!("{count}/{unit}, burst {burst}"));
        let settings = Settings { connections, concurrent: Some(most), ..Settings::default() };
        let limits = Limits::new(&settings, None).unwrap();
        let mut model = Model::new("connections", count, period, burst);
        let mut sessions: HashMap<u64, Sessions> = HashMap::new();
        let mut came_to: HashMap<&str, usize> = HashMap::new();
        let mut clock = 5 * HOUR;
        for step in 0..STEPS / 8 {
            clock = turn(clock, &mut random);
            let client = random.next_u64() % clients;
            let address = IpAddr::V4(Ipv4Addr::from_bits(0xc000_0200 + client as u32));
            if random.next_u32() % 100 < 45 {
                // Some ends are never told, some are told twice.
                limits.end(address, clock);
                sessions.entry(client).and_modify(|open| *open = open.at(clock).end());
                continue;
            }
            let open = sessions.get(&client).map(|open| open.at(clock)).unwrap_or_default();
            let full = open.began.len() >= usize::from(most);
            let expected = model.ask(client, clock);
            let expected = expected.or(full.then_some(Exceeded { which: "concurrent", retry_after_seconds: 0 }));
            assert_eq!(limits.connect(address, clock), expected, "step {step}");
            *came_to.entry(expected.map_or("let through", |exceeded| exceeded.which)).or_default() += 1;
            if expected.is_some_and(|exceeded| exceeded.which == "concurrent") {
                model.touch(client);
            }
            if expected.is_none() {
                model.charge(client);
                sessions.insert(client, open.at(clock).begin());
            }
        }
        for limit in limits.counters(clock) {
            assert_eq!((limit.evicted, limit.uncounted), (0, 0), "{limit:?}");
            assert_eq!(limit.refused, came_to[limit.which] as u64);
        }
        println!("{count}/{unit}: {came_to:?}");
        assert!(came_to["let through"] > STEPS / 100 && came_to.len() == 3, "{came_to:?}");
    }
}

#[test]
fn recipients_are_let_through_as_by_the_model() {
    let mut random = random();
    let settings = Settings {
        recipients: rate("300/min, burst 10"),
        sender_domain: rate("50/s, burst 7"),
        recipient_domain: rate("3/s"),
        ..Settings::default()
    };
    let limits = Limits::new(&settings, None).unwrap();
    let mut of_client = Model::new("recipients", 300, 60, 10);
    let mut of_sender = Model::new("sender_domain", 50, 1, 7);
    let mut of_domain = Model::new("recipient_domain", 3, 1, 3);
    let domains: Vec<String> = (0..20).map(|number| format!("d{number}.example")).collect();
    let mut came_to: HashMap<&str, usize> = HashMap::new();
    let mut clock = HOUR;
    for step in 0..STEPS / 2 {
        if step % 10 == 0 {
            clock = turn(clock, &mut random);
        }
        let mut one_of = |many: u64| Some(random.next_u64() % (many + 1)).filter(|one| *one < many);
        // Something may be unknown, and then has no limit.
        let (client, sender, recipient) = (one_of(15), one_of(5), one_of(20));
        let models = [(&mut of_client, client), (&mut of_sender, sender), (&mut of_domain, recipient)];
        let mut models: Vec<_> = models.into_iter().filter_map(|(model, who)| Some((model, who?))).collect();
        let first = models.iter_mut().enumerate().find_map(|(place, (model, who))| Some((place, model.ask(*who, clock)?)));
        match first {
            None => models.iter_mut().for_each(|(model, who)| model.charge(*who)),
            Some((place, _)) => models.iter_mut().take(place).for_each(|(model, who)| model.touch(*who)),
        }
        let exceeded = first.map(|(_, exceeded)| exceeded);
        let address = client.map(|client| IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(client) << 64)));
        let name = |number: Option<u64>| number.map(|number| domains[number as usize].as_str());
        assert_eq!(limits.recipient(address, name(sender), name(recipient), clock), exceeded, "step {step}");
        *came_to.entry(exceeded.map_or("let through", |exceeded| exceeded.which)).or_default() += 1;
    }
    println!("{came_to:?}");
    assert!(came_to.len() == 4 && came_to.values().all(|count| *count > STEPS / 200), "{came_to:?}");
    for limit in limits.counters(clock) {
        assert_eq!((limit.evicted, limit.uncounted, limit.refused), (0, 0, came_to[limit.which] as u64), "{limit:?}");
    }
}

/// In any span at most the burst, and what the rate gives in the span: not only by a model of the algorithm, but by that.
#[test]
fn no_span_of_time_has_too_many() {
    let mut random = random();
    for (text, count, period, burst) in [("7/s, burst 3", 7, 1, 3), ("999/min", 999, 60, 999), ("86399/d, burst 5", 86_399, 86_400, 5)] {
        let limits = Limits::new(&Settings { connections: rate(text), ..Settings::default() }, None).unwrap();
        let mut passed = Vec::new();
        let mut clock = 0;
        for _ in 0..STEPS / 100 {
            clock += random.next_u64() % (period * SECOND / count);
            if limits.connect("192.0.2.1".parse().unwrap(), clock).is_none() {
                passed.push(clock);
            }
        }
        for span in [1, 2, 3, 5, 10, 100, 1000, 10_000] {
            for pair in passed.windows(span + 1) {
                let elapsed = u128::from(pair[span] - pair[0]);
                let allowed = u128::from(burst) + elapsed * u128::from(count) / u128::from(period * SECOND);
                assert!(allowed > span as u128, "{text}: {} in {elapsed} ns", span + 1);
            }
        }
        // And no fewer than there may be, but for what rounding to nanoseconds takes away.
        let most = burst + (u128::from(clock) * u128::from(count) / u128::from(period * SECOND)) as u64;
        assert!(passed.len() as u64 * 1000 >= most * 999, "{text}: {} of {most}", passed.len());
    }
}

#[test]
fn where_memory_is_short_only_the_forgotten_get_more() {
    let mut random = random();
    let burst = 5;
    let settings = Settings { connections: rate("60/min, burst 5"), memory: 4096, ..Settings::default() };
    let limits = Limits::new(&settings, None).unwrap();
    let mut model = Model::new("connections", 60, 60, burst);
    let (mut clock, mut too_many, mut refused) = (HOUR, 0, 0);
    for _ in 0..STEPS / 10 {
        clock += random.next_u64() % (SECOND / 500);
        // Twice as many clients as there is room for; some come more often than others.
        let client = (random.next_u64() % 512).min(random.next_u64() % 512);
        let expected = model.ask(client, clock);
        let given = limits.connect(Ipv4Addr::from_bits(0xc633_0000 + client as u32).into(), clock);
        match (given, expected) {
            (None, expected) => {
                too_many += u64::from(expected.is_some());
                model.charge(client);
            }
            (Some(_), expected) => {
                refused += 1;
                assert!(expected.is_some(), "refused, though nothing was forgotten that would count against it");
            }
        }
    }
    let Counters { capacity, used, evicted, uncounted, .. } = counters(&limits, "connections", clock);
    println!("{too_many} too many, {refused} refused, {evicted} forgotten; {used} of {capacity} in use");
    assert!(evicted > 100 && refused > 100, "{evicted} {refused}");
    assert!(too_many <= evicted * burst && uncounted == 0, "{too_many} too many, {evicted} forgotten");
}

const THREADS: usize = 4;

/// Runs the same in several threads that begin at the same moment; what each comes to.
fn together<R: Send>(work: impl Fn(usize) -> R + Sync) -> Vec<R> {
    let start = Barrier::new(THREADS);
    let run = |number| {
        start.wait();
        work(number)
    };
    let run = &run;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|number| scope.spawn(move || run(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn threads_get_no_more_together_than_one_alone() {
    let burst = 100;
    let settings = Settings { connections: rate("1/d, burst 100"), ..Settings::default() };
    let limits = Limits::new(&settings, None).unwrap();
    let clients = STEPS as u64 / 4000;
    // All of them go through the same clients in the same order, so that every place in the table is raced for.
    let granted = together(|_| {
        let mut granted = vec![0; clients as usize];
        for client in 0..clients {
            let address = IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(client) << 64));
            for _ in 0..burst {
                granted[client as usize] += usize::from(limits.connect(address, HOUR).is_none());
            }
        }
        granted
    });
    for client in 0..clients as usize {
        let sum: usize = granted.iter().map(|granted| granted[client]).sum();
        assert!((burst..=burst + THREADS).contains(&sum), "client {client}: {sum}");
    }
    assert_eq!(counters(&limits, "connections", HOUR).evicted, 0);
}

#[test]
fn threads_have_no_more_sessions_open_together_than_one_alone() {
    let most = 10;
    let settings = Settings { concurrent: Some(most), ..Settings::default() };
    let limits = Limits::new(&settings, None).unwrap();
    let (client, open, highest) = ("192.0.2.1".parse().unwrap(), AtomicUsize::new(0), AtomicUsize::new(0));
    // Whoever has a place in the table already is counted exactly.
    assert_eq!(limits.connect(client, HOUR), None);
    limits.end(client, HOUR);
    let refused: usize = together(|_| {
        let (mut mine, mut refused) = (0, 0);
        for step in 0..STEPS / 40 {
            // In turns up to more than there may be, and down to none.
            if step % 16 < 8 {
                if limits.connect(client, HOUR).is_none() {
                    mine += 1;
                    // Counted after it began and before it ends, so never too high.
                    highest.fetch_max(open.fetch_add(1, SeqCst) + 1, SeqCst);
                } else {
                    refused += 1;
                }
            } else if mine > 0 {
                mine -= 1;
                open.fetch_sub(1, SeqCst);
                limits.end(client, HOUR);
            }
        }
        (0..mine).for_each(|_| limits.end(client, HOUR));
        refused
    })
    .into_iter()
    .sum();
    println!("at most {highest:?} open, {refused} refused");
    assert!(highest.into_inner() <= usize::from(most) && refused > 0);
    let counters = counters(&limits, "concurrent", HOUR);
    assert_eq!((counters.used, counters.refused, counters.uncounted), (0, refused as u64, 0));
}

/// Memory for eight clients, of which thirty come at once: every place changes hands all the time.
#[test]
fn threads_that_fight_for_places_lose_no_more_than_is_declared() {
    let (burst, clients) = (3, 30);
    let settings = Settings { recipients: rate("1/d, burst 3"), memory: 128, ..Settings::default() };
    let limits = Limits::new(&settings, None).unwrap();
    let tries = STEPS / 40;
    let granted: usize = together(|thread| {
        let ask = |step: usize| {
            let client = Ipv4Addr::from_bits(0xc000_0200 + (step * (thread + 1) % clients) as u32);
            limits.recipient(Some(client.into()), None, None, HOUR).is_none()
        };
        (0..tries).filter(|step| ask(*step)).count()
    })
    .into_iter()
    .sum();
    let Counters { used, refused, evicted, uncounted, .. } = counters(&limits, "recipients", HOUR);
    println!("{granted} let through, {refused} refused, {evicted} forgotten, {uncounted} not counted");
    assert_eq!(granted as u64 + refused, (tries * THREADS) as u64);
    assert_eq!((used, uncounted), (8, 0));
    // What was let through is in the table or was forgotten, but for one that each thread may lose with each that is forgotten.
    assert!(granted as u64 <= (evicted + 8) * burst + evicted * THREADS as u64, "{granted} {evicted}");
}

/// A process that forks while its threads are anywhere in the table: the child goes on at once.
#[test]
#[allow(unsafe_code, reason = "fork() and its like")]
fn a_fork_leaves_nothing_behind_that_one_would_wait_for() {
    let settings = Settings { connections: rate("1000/s"), concurrent: Some(50), memory: 1024, ..Settings::default() };
    let limits = Limits::new(&settings, None).unwrap();
    let stop = AtomicBool::new(false);
    let ask = |number: u32| {
        let address = IpAddr::V4(Ipv4Addr::from_bits(0xc000_0200 + number % 50));
        if limits.connect(address, u64::from(number) * 1000).is_none() {
            limits.end(address, u64::from(number) * 1000);
        }
    };
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..u32::MAX).take_while(|_| !stop.load(SeqCst)).for_each(ask));
        }
        let mut statuses = Vec::new();
        for _ in 0..100 {
            // SAFETY: the child does nothing but read and write memory that it has, and leaves.
            let child = unsafe { libc::fork() };
            if child == 0 {
                (0..1000).for_each(ask);
                // SAFETY: leaves without running anything that the threads of the parent may have been in.
                unsafe { libc::_exit(42) };
            }
            assert!(child > 0);
            let mut status = 0;
            // A child that waits would be waited for until the test is ended from outside.
            // SAFETY: the place is valid, and the process is a child of this one.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            statuses.push(status);
        }
        stop.store(true, SeqCst);
        assert!(statuses.iter().all(|status| libc::WIFEXITED(*status) && libc::WEXITSTATUS(*status) == 42), "{statuses:?}");
    });
}
