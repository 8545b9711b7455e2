//! `cargo bench --bench decisions`: whole answers through the C ABI beside the bare look-up in their tables, and what
//! becomes of them while lists are loaded. `MXGATE_BENCH=quick` for a short run.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "a benchmark"
)]
#![allow(unsafe_code, reason = "calls of the C ABI")]

use hashbrown::HashMap;
use libc::c_int;
use measure::{latency, median, processor_time, quick, throughput};
use mxgate::Gate;
use mxgate::capi::{self, mxgate_facts, mxgate_gate, mxgate_verdict};
use mxgate::networks::NetworkTable;
use proptest::test_runner::TestRng;
use sets::{Mix, Set, below};
use std::ffi::CString;
use std::fmt::Write as _;
use std::hint::black_box;
use std::mem::offset_of;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

#[path = "support/measure.rs"]
mod measure;
#[path = "support/sets.rs"]
mod sets;

const MILLION: usize = 1_000_000;
const QUESTIONS: usize = 1 << 18;

fn rounds() -> usize {
    if quick() { 3 } else { 9 }
}

type Check = unsafe extern "C" fn(*const mxgate_gate, *const mxgate_facts, usize, *mut mxgate_verdict) -> c_int;

/// A gate as a program in C has it.
struct Host {
    gate: *mut mxgate_gate,
    /// So that no call is compiled into its caller, as none is in C.
    connect: Check,
    rcpt: Check,
}

// SAFETY: gates may be shared by threads.
unsafe impl Sync for Host {}

impl Host {
    fn new(policy: &Path) -> Host {
        let host =
            Host { gate: capi::mxgate_new(), connect: black_box(capi::mxgate_check_connect), rcpt: black_box(capi::mxgate_check_rcpt) };
        host.load(policy);
        host
    }

    fn load(&self, policy: &Path) {
        let path = CString::new(policy.to_str().unwrap()).unwrap();
        let mut message = [0; 4096];
        // SAFETY: a gate, a string that ends with NUL, and a buffer of that size.
        let result = unsafe { capi::mxgate_load_file(self.gate, path.as_ptr(), message.as_mut_ptr(), message.len()) };
        let message: String = message.iter().take_while(|byte| **byte != 0).map(|byte| char::from(byte.cast_unsigned())).collect();
        assert_eq!(result, 0, "{message}");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // SAFETY: it came from mxgate_new(), and nobody uses it any more.
        unsafe { capi::mxgate_free(self.gate) };
    }
}

/// One who asks: what a worker of a mail server keeps. The answers are 0 for "accept", else 1 and the line of the entry: whoever
/// waits for an answer waits for what was found, not only for what a processor guesses.
struct Asker<'a> {
    host: &'a Host,
    facts: mxgate_facts,
    verdict: mxgate_verdict,
}

impl<'a> Asker<'a> {
    fn new(host: &'a Host) -> Asker<'a> {
        // SAFETY: all-zero is a valid value of these plain structures.
        let (mut facts, verdict): (mxgate_facts, mxgate_verdict) = unsafe { std::mem::zeroed() };
        facts.address_size = 4;
        Asker { host, facts, verdict }
    }

    fn connect(&mut self, address: u32) -> u32 {
        self.facts.address[..4].copy_from_slice(&address.to_be_bytes());
        self.ask(self.host.connect)
    }

    fn rcpt(&mut self, recipient: &str) -> u32 {
        self.facts.recipient = recipient.as_ptr().cast();
        self.facts.recipient_length = recipient.len();
        self.ask(self.host.rcpt)
    }

    fn ask(&mut self, check: Check) -> u32 {
        // SAFETY: a gate, and structures of this release; a recipient lives as long as the call, and has that length.
        let result = unsafe { check(self.host.gate, &raw const self.facts, size_of::<mxgate_facts>(), &raw mut self.verdict) };
        result.cast_unsigned() + self.verdict.line
    }
}

/// Writes a policy with these networks in some lists: those of each /16 in one, so that the same ones win as in one list.
fn networks_policy(directory: &Path, name: &str, set: &Set<u32>, lists: usize) -> std::path::PathBuf {
    let mut policy = "hostname = \"mx.example.org\"\n".to_owned();
    for list in 0..lists {
        let in_list = set.networks.iter().filter(|(start, _)| (start >> 16) as usize % lists == list);
        let lines = in_list.fold(String::new(), |mut lines, (start, length)| {
            writeln!(lines, "{}/{length} sent spam", std::net::Ipv4Addr::from_bits(*start)).unwrap();
            lines
        });
        let file = format!("{name}-{list}.txt");
        std::fs::write(directory.join(&file), lines).unwrap();
        writeln!(policy, "[[list]]\nname = \"list-{list}\"\nfile = \"{file}\"").unwrap();
    }
    let path = directory.join(format!("{name}.toml"));
    std::fs::write(&path, policy).unwrap();
    path
}

/// What no refusal can do without: its text, as the check writes it, put together from pieces that are ready, each where a
/// verdict has it. No rules, no other cases, no counting.
struct Floor {
    verdict: [u8; size_of::<mxgate_verdict>()],
    /// All octets as text with a dot behind, and how many bytes each has.
    octets: Vec<([u8; 4], usize)>,
}

impl Floor {
    fn new() -> Floor {
        let octet = |octet: u8| {
            let (text, mut place) = (format!("{octet}."), [0; 4]);
            place[..text.len()].copy_from_slice(text.as_bytes());
            (place, text.len())
        };
        Floor { verdict: [0; size_of::<mxgate_verdict>()], octets: (0..=255).map(octet).collect() }
    }

    fn refuse(&mut self, address: u32, line: u32) -> u32 {
        self.verdict[offset_of!(mxgate_verdict, line)..][..4].copy_from_slice(&line.to_ne_bytes());
        for (at, text) in [
            (offset_of!(mxgate_verdict, status), &b"5.7.1\0"[..]),
            (offset_of!(mxgate_verdict, list), b"list-0\0"),
            (offset_of!(mxgate_verdict, reason), b"sent spam\0"),
            (offset_of!(mxgate_verdict, host), b"mx.example.org\0"),
            (offset_of!(mxgate_verdict, text), b"Service unavailable; client ["),
        ] {
            self.verdict[at..][..text.len()].copy_from_slice(text);
        }
        let end = self.address(offset_of!(mxgate_verdict, entry), address);
        self.verdict[end] = 0;
        let end = self.address(offset_of!(mxgate_verdict, text) + 29, address);
        self.verdict[end..][..24].copy_from_slice(b"] blocked using list-0\0\0");
        black_box(&mut self.verdict);
        line
    }

    /// Writes an address and says where it ends.
    fn address(&mut self, mut at: usize, address: u32) -> usize {
        for octet in address.to_be_bytes() {
            let (text, length) = self.octets[usize::from(octet)];
            self.verdict[at..][..4].copy_from_slice(&text);
            at += length;
        }
        at - 1
    }
}

/// mxgate_check_connect() with one list and with ten, beside the look-up that it makes.
fn connect(set: &Set<u32>, one: &Host, ten: &Host, random: &mut TestRng) {
    let table = NetworkTable::of(&set.ours());
    let (mut of_one, mut of_ten) = (Asker::new(one), Asker::new(ten));
    // Half inside; the rest nearly all outside. What no list can refuse (private networks) is left out.
    let (mut rejected, mut accepted) = (Vec::new(), Vec::new());
    for address in set.addresses(4 * QUESTIONS, Mix::Half, random) {
        let (a, b) = (of_one.connect(address), of_ten.connect(address));
        assert_eq!(a == 0, b == 0, "one list or ten, the answer is the same");
        let of_it = if a == 0 { &mut accepted } else { &mut rejected };
        if of_it.len() < QUESTIONS && (a != 0) == (table.v4(address) != 0) {
            of_it.push(address);
        }
    }
    let mut floor = Floor::new();
    for address in &rejected {
        of_one.connect(*address);
        floor.refuse(*address, 1);
        let text = &floor.verdict[offset_of!(mxgate_verdict, text)..];
        assert!(of_one.verdict.text.iter().zip(text).take_while(|(one, _)| **one != 0).all(|(one, other)| one.cast_unsigned() == *other));
    }
    println!("\n### mxgate_check_connect(), {} networks\n", set.networks.len());
    println!(
        "| ns | bare look-up | and its text | in one list | more | in ten lists | more | ten to one |\n|---|--:|--:|--:|--:|--:|--:|--:|"
    );
    let mut text = |address: u32| match table.v4(address) {
        0 => 0,
        line => floor.refuse(address, line),
    };
    for (name, addresses) in [("accept", &accepted), ("reject", &rejected)] {
        assert_eq!(addresses.len(), QUESTIONS);
        let mut times = [(); 4].map(|()| [(); 2].map(|()| Vec::new()));
        for _ in 0..rounds() {
            let [bare, floor, in_one, in_ten] = &mut times;
            asked(bare, addresses, |address| table.v4(address));
            asked(floor, addresses, &mut text);
            asked(in_one, addresses, |address| of_one.connect(address));
            asked(in_ten, addresses, |address| of_ten.connect(address));
        }
        let times = times.map(|times| times.map(median));
        for (at, way) in ["throughput", "latency"].into_iter().enumerate() {
            let [bare, text, one, ten] = times.map(|times| times[at]);
            let (more, ten_more, ratio) = (one - bare, ten - bare, ten / one);
            println!("| {name}, {way} | {bare:.1} | {text:.1} | {one:.1} | {more:.1} | {ten:.1} | {ten_more:.1} | {ratio:.2} |");
        }
    }
}

/// Asks all, in each of both ways. Once before, so that each finds its own memory as near as there is room for it, whatever the
/// one before it has read.
fn asked(times: &mut [Vec<f64>; 2], addresses: &[u32], mut get: impl FnMut(u32) -> u32) {
    throughput(addresses, &mut get);
    times[0].push(throughput(addresses, &mut get));
    times[1].push(latency(addresses, &mut get));
}

/// mxgate_check_rcpt() beside a hash table that is asked for the name, then for what is behind each dot.
fn rcpt(directory: &Path, random: &mut TestRng) {
    let name = |number: usize| format!("mail{number}.customer{}.example", number % 7919);
    let policy = directory.join("domains.toml");
    let lines = (0..MILLION).fold(String::new(), |lines, number| lines + &name(number) + "\n");
    std::fs::write(directory.join("domains.txt"), lines).unwrap();
    let text = "hostname = \"mx.example.org\"\n[[domains]]\nname = \"parked\"\nfile = \"domains.txt\"\nkind = \"no-mail\"\n";
    std::fs::write(&policy, text).unwrap();
    let host = Host::new(&policy);
    let mut asker = Asker::new(&host);
    asker.connect(0xc633_6401); // 198.51.100.1
    let names: Vec<String> = (0..MILLION).map(name).collect();
    let table: HashMap<&str, u32> = names.iter().map(String::as_str).zip(1..).collect();
    let probe = |recipient: &str| {
        let mut domain = &recipient[6..recipient.len() - 1];
        loop {
            if let Some(value) = table.get(domain) {
                return *value;
            }
            match domain.split_once('.') {
                Some((_, rest)) => domain = rest,
                None => return 0,
            }
        }
    };
    println!("\n### mxgate_check_rcpt(), {MILLION} domains of three labels\n");
    println!("| ns | hash table, label by label | whole check | times |\n|---|--:|--:|--:|");
    for (kind, first) in [("not listed", MILLION), ("listed", 0)] {
        let recipients: Vec<String> = (0..QUESTIONS).map(|_| format!("<user@{}>", name(first + below(MILLION, random)))).collect();
        let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
        for recipient in &recipients {
            assert_eq!(asker.rcpt(recipient) != 0, probe(recipient) != 0, "{recipient}");
        }
        let mut times = [(); 4].map(|()| Vec::new());
        for _ in 0..rounds() {
            times[0].push(throughput(&recipients, probe));
            times[1].push(throughput(&recipients, |recipient| asker.rcpt(recipient)));
            times[2].push(latency(&recipients, probe));
            times[3].push(latency(&recipients, |recipient| asker.rcpt(recipient)));
        }
        let times = times.map(median);
        for (way, of) in [("throughput", &times[..2]), ("latency", &times[2..])] {
            println!("| {kind}, {way} | {:.1} | {:.1} | {:.2} |", of[0], of[1], of[1] / of[0]);
        }
    }
}

/// Millions of checks a second, of the clock and of the processor time of this thread.
fn rate(host: &Host, addresses: &[u32], stop: &AtomicBool) -> (f64, f64) {
    let mut asker = Asker::new(host);
    let (start, start_used) = (Instant::now(), processor_time());
    let (mut count, mut rejected) = (0, 0_u32);
    for part in addresses.chunks(1024).cycle() {
        for address in part {
            rejected = rejected.wrapping_add(asker.connect(*address));
        }
        count += part.len();
        if stop.load(Relaxed) {
            break;
        }
    }
    black_box(rejected);
    (count as f64 / start.elapsed().as_secs_f64() / 1e6, count as f64 / (processor_time() - start_used) / 1e6)
}

/// Two readers, while a list of a million networks is replaced every second by another file that answers alike.
fn reloads(host: &Host, policies: [&Path; 2], addresses: &[u32]) {
    let readers = |count: usize, seconds: f64, reload: bool| -> (f64, f64) {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let threads: Vec<_> = (0..count).map(|_| scope.spawn(|| rate(host, addresses, &stop))).collect();
            let start = Instant::now();
            let mut next = start;
            let mut loads = policies.iter().cycle();
            while start.elapsed().as_secs_f64() < seconds {
                if reload {
                    host.load(loads.next().unwrap());
                }
                next += Duration::from_secs(1);
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            stop.store(true, Relaxed);
            let rates: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
            let slowest = |of: fn(&(f64, f64)) -> f64| rates.iter().map(of).fold(f64::INFINITY, f64::min);
            (slowest(|rate| rate.0), slowest(|rate| rate.1))
        })
    };
    let mut rates = [(); 3].map(|()| (Vec::new(), Vec::new()));
    for _ in 0..if quick() { 1 } else { 3 } {
        for (rates, (count, seconds, reload)) in rates.iter_mut().zip([(1, 2.0, false), (2, 2.0, false), (2, 5.0, true)]) {
            let (clock, processor) = readers(count, seconds, reload);
            rates.0.push(clock);
            rates.1.push(processor);
        }
    }
    let load = median((0..5).map(|n| measure::time(|| host.load(policies[n % 2])).1).collect());
    let rates = rates.map(|(clock, processor)| (median(clock), median(processor)));
    println!("\n### Readers and reloads of {MILLION} networks, each of {:.0} ms\n", load * 1e3);
    println!("The slower of the threads. By processor time the threads' own cost; by the clock they share the cores with the load, too.\n");
    println!("| million checks a second a thread | by processor time | | by the clock | |\n|---|--:|--:|--:|--:|");
    for (name, (clock, processor)) in ["one thread", "two threads", "two threads, a reload a second"].iter().zip(rates) {
        let part = |rate: f64, of: f64| format!("{:.0}%", rate / of * 100.0);
        println!("| {name} | {processor:.1} | {} | {clock:.1} | {} |", part(processor, rates[0].1), part(clock, rates[0].0));
    }
}

/// A policy, and the image of it: what a process waits for that starts.
fn images(directory: &Path, policy: &Path) {
    let image = directory.join("policy.mxg");
    let gate = Gate::new();
    gate.load_file(policy).unwrap();
    let length = gate.write_image(&image).unwrap();
    drop(gate);
    let mut times = [(); 3].map(|()| Vec::new());
    for _ in 0..rounds() {
        let gates = [(); 3].map(|()| Gate::new());
        times[0].push(measure::time(|| gates[0].load_file(policy).unwrap()).1);
        times[1].push(measure::time(|| gates[1].load_file(&image).unwrap()).1);
        times[2].push(measure::time(|| gates[2].open_image(&image).unwrap()).1);
    }
    let [load, whole, open] = times.map(|times| median(times) * 1e3);
    println!("\n## Images\n\n### {MILLION} networks in one list, an image of {length} bytes\n");
    println!("| | ms |\n|---|--:|");
    println!(
        "| load the policy | {load:.1} |\n| load its image: mxgate_load_file() | {whole:.2} |\n| open it: mxgate_open_image() | {open:.3} |"
    );
}

fn main() {
    measure::machine();
    let mut random = sets::random(51);
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let set = sets::v4("made up", MILLION, &mut random);
    let one = networks_policy(directory, "one", &set, 1);
    let ten = networks_policy(directory, "ten", &set, 10);
    let (of_one, of_ten) = (Host::new(&one), Host::new(&ten));
    connect(&set, &of_one, &of_ten, &mut random);
    drop(of_ten);
    rcpt(directory, &mut random);
    // Another file with the same networks: all of it is read again, and the checks stay the same work.
    let other = networks_policy(directory, "other", &set, 1);
    reloads(&of_one, [&other, &one], &set.addresses(QUESTIONS, Mix::Half, &mut random));
    drop(of_one);
    images(directory, &one);
}
