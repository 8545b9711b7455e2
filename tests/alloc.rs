//! A decision allocates nothing: a counting allocator watches the Rust API, the C ABI, the policy service and the limits.

#![allow(
    clippy::unwrap_used,
    clippy::multiple_unsafe_ops_per_block,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "what goes wrong here ends the test, with a message"
)]
#![allow(unsafe_code, reason = "an allocator, and calls of the C ABI")]

use arrayvec::ArrayString;
use mxgate::capi;
use mxgate::limits::{Limits, Rate, Settings};
use mxgate::policy_service::Session;
use mxgate::policy_service::codec::Request;
use mxgate::{AuthResult, Facts, Gate, Mode};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::Write;
use std::net::{IpAddr, Ipv6Addr};

struct Counting;

thread_local! {
    /// Calls of the allocator by this thread; the test harness has threads of its own.
    static CALLS: Cell<usize> = const { Cell::new(0) };
    /// Bytes that this thread has taken, without those that it has given back.
    static BYTES: Cell<isize> = const { Cell::new(0) };
}

fn count(taken: usize, given_back: usize) {
    CALLS.with(|calls| calls.set(calls.get() + 1));
    BYTES.with(|bytes| bytes.set(bytes.get() + taken as isize - given_back as isize));
}

// SAFETY: hands everything to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the contract is the same.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: the contract is the same.
        unsafe { System.dealloc(block, layout) }
    }
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, layout.size());
        // SAFETY: the contract is the same.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const POLICY: &str = r#"
hostname = "mx.example.org"
[[list]]
name = "good"
allow = true
entries = ["203.0.113.0/24 partner"]
[[list]]
name = "bad"
entries = ["192.0.2.0/24 sent spam", "2001:db8::/32"]
reply = "550 5.7.1 Client {ip} {list} {reason} {domain} {hostname}"
[[domains]]
name = "parked"
entries = [".parked.example", "bücher.example"]
[[senders]]
name = "watched"
enforce = false
entries = [".spam.example"]
[[senders]]
name = "spam"
entries = ["user@spam.example", "spam.example", "noreply@", "!a@spam.example", "müller.example"]
reply = "550 5.7.1 {sender} is listed by {list}"
[[recipients]]
name = "inside"
kind = "internal-only"
entries = ["all@example.org", "staff@"]
[[recipients]]
name = "open"
opt_out = ["bad", "spam"]
entries = ["open@example.org"]
[relay]
local = [".example.org", "bücher.example"]
relay = [".parked.example"]
trusted = ["198.51.100.128/25"]
[authentication]
spf_fail = "reject"
rdns_fail = "reject"
rdns_temperror = "defer"
"#;

fn allocations(question: impl FnOnce()) -> usize {
    let before = CALLS.with(Cell::get);
    question();
    CALLS.with(Cell::get) - before
}

/// Client, sender, recipient, whether SPF and reverse DNS failed, and the code that is answered.
const QUESTIONS: [(&str, &str, &str, bool, u16); 24] = [
    ("198.51.100.1", "", "", false, 0),
    ("203.0.113.1", "", "", false, 0),
    ("192.0.2.1", "", "", false, 550),
    ("2001:db8::1", "", "", false, 550),
    ("198.51.100.1", "<>", "<user@example.org>", false, 0),
    ("192.0.2.1", "<>", "<user@example.org>", false, 550),
    ("198.51.100.1", "<>", "<user@WWW.parked.example.>", false, 521),
    ("192.0.2.1", "<>", "<@a.example:\"post\\master\"@parked.example>", false, 521),
    ("198.51.100.1", "<User@spam.example>", "<user@example.org>", false, 550),
    ("198.51.100.1", "<b@spam.example>", "<user@example.org>", false, 550),
    ("198.51.100.1", "<a@spam.example>", "<user@example.org>", false, 0),
    ("198.51.100.1", "<\"no\\reply\"@any.example>", "<user@example.org>", false, 550),
    ("198.51.100.1", "<b@[IPv6:2001:db8::1]>", "<user@example.org>", false, 0),
    ("198.51.100.1", "<b@m\u{fc}ller.example>", "<user@example.org>", false, 550),
    ("198.51.100.1", "<b@xn--mller-kva.example>", "<user@example.org>", false, 550),
    (
        "198.51.100.1",
        "<b@\u{4f8b}\u{3048}.\u{30c6}\u{30b9}\u{30c8}.\u{5d0}.\u{fc}.\u{fc}.\u{fc}.\u{fc}.\u{fc}.\u{fc}.\u{fc}>",
        "<user@example.org>",
        false,
        0,
    ),
    ("198.51.100.1", "<>", "<user@bu\u{308}CHER.example>", false, 521),
    ("192.0.2.1", "<b@spam.example>", "<open@example.org>", false, 0),
    ("198.51.100.1", "<>", "<staff@example.org>", false, 550),
    ("198.51.100.129", "<>", "<staff@example.org>", false, 0),
    ("198.51.100.1", "<>", "<user@other.example>", false, 550),
    ("198.51.100.129", "<>", "<user@other.example>", false, 0),
    ("198.51.100.1", "<>", "<user%other.example@example.org>", false, 550),
    ("198.51.100.1", "<>", "<user@example.org>", true, 550),
];

fn policies() -> [(String, bool); 2] {
    [(POLICY.to_owned(), false), (format!("mode = \"maintenance\"\n{POLICY}"), true)]
}

#[test]
fn the_counter_counts() {
    assert!(allocations(|| drop(std::hint::black_box(vec![1]))) >= 2);
}

#[test]
fn the_rust_api_allocates_nothing() {
    for (policy, maintenance) in policies() {
        let gate = Gate::new();
        gate.load_text(&policy, "p").unwrap();
        for (client, sender, recipient, fails, code) in QUESTIONS {
            let (sender, recipient_bytes) = (Some(sender.as_bytes()), Some(recipient.as_bytes()));
            let result = if fails { AuthResult::Fail } else { AuthResult::Unknown };
            let client_facts = Facts::of_client(client.parse().unwrap());
            let facts = Facts { sender, recipient: recipient_bytes, spf: result, rdns: result, ..client_facts };
            let mut given = 0;
            let calls = allocations(|| {
                let verdict = if recipient.is_empty() { gate.check_connect(&facts) } else { gate.check_rcpt(&facts) };
                if let Some(rejection) = verdict.rejection {
                    given = rejection.code;
                    std::hint::black_box((rejection.reply(), rejection.greeting()));
                }
            });
            assert_eq!((calls, given), (0, if maintenance { 421 } else { code }), "{client} {recipient} {facts:?}");
        }
    }
}

/// A reason that is one text around the entries of a list, filled in when it is asked for.
#[test]
fn reasons_around_entries_allocate_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("list", ":127.0.0.2:see https://example.org/?ip=$, $\n192.0.2.7\n198.51.100.0/25\n203.0.113.1-203.0.113.2\n192.0.2.8 \x01 $$\n");
    write("six", format!("$1 {}\n:127.0.0.2:$1$ end\n2001:db8:1:2\n", "x".repeat(248)).as_str());
    write("names", ":127.0.0.2:$ is parked\n.parked.example\n*.example.net 50% of $ \x01\n");
    let list = |kind: &str, name: &str| format!("[[{kind}]]\nname = \"{name}\"\nfile = \"{name}\"\nreply = \"550 5.7.1 {{reason}}\"\n");
    let policy = list("list", "list") + &list("list", "six") + &list("domains", "names");
    write("p", &format!("hostname = \"mx.example.org\"\n{policy}"));
    let gate = Gate::new();
    gate.load_file(&directory.path().join("p")).unwrap();
    for (client, recipient, reason) in [
        ("192.0.2.7", "", "see https://example.org/?ip=192.0.2.7, 192.0.2.7"),
        ("198.51.100.9", "", "see https://example.org/?ip=198.51.100.0/25, 198.51.100.0/25"),
        ("203.0.113.2", "", "see https://example.org/?ip=203.0.113.2, 203.0.113.2"),
        // A sign that stands for nothing is cleaned away.
        ("192.0.2.8", "", "? $"),
        // Cut where any reason is cut.
        ("2001:db8:1:2::7", "", &format!("{}2001:db", "x".repeat(248))),
        ("192.0.2.9", "<user@www.parked.example>", "parked.example is parked"),
        ("192.0.2.9", "<user@www.example.net>", "50? of example.net ?"),
    ] {
        let recipient = (!recipient.is_empty()).then_some(recipient.as_bytes());
        let facts = Facts { recipient, ..Facts::of_client(client.parse().unwrap()) };
        let mut verdict = None;
        let calls = allocations(|| verdict = Some(if recipient.is_none() { gate.check_connect(&facts) } else { gate.check_rcpt(&facts) }));
        let verdict = verdict.unwrap();
        assert_eq!((calls, verdict.reason.as_str()), (0, reason), "{client}");
        assert_eq!(verdict.rejection.unwrap().text.as_str(), reason);
    }
}

#[test]
fn the_c_abi_allocates_nothing() {
    for (policy, maintenance) in policies() {
        let gate = capi::mxgate_new();
        // SAFETY: all pointers are valid for the lengths beside them.
        let loaded = unsafe { capi::mxgate_load_text(gate, policy.as_ptr().cast(), policy.len(), std::ptr::null_mut(), 0) };
        assert_eq!(loaded, 0);
        for (client, sender, recipient, fails, code) in QUESTIONS {
            // SAFETY: all-zero is a valid value of these plain structures.
            let (mut facts, mut verdict): (capi::mxgate_facts, capi::mxgate_verdict) = unsafe { std::mem::zeroed() };
            let mut reply = [0; 512];
            let calls = allocations(|| {
                let check = if recipient.is_empty() { capi::mxgate_check_connect } else { capi::mxgate_check_rcpt };
                // SAFETY: all pointers are valid for the lengths beside them.
                unsafe {
                    let size = capi::mxgate_address(client.as_ptr().cast(), client.len(), facts.address.as_mut_ptr());
                    facts.address_size = u32::try_from(size).unwrap();
                    facts.sender = sender.as_ptr().cast();
                    facts.sender_length = sender.len();
                    facts.spf = if fails { capi::MXGATE_RESULT_FAIL } else { 0 };
                    facts.rdns = facts.spf;
                    facts.recipient = recipient.as_ptr().cast();
                    facts.recipient_length = recipient.len();
                    check(gate, &raw const facts, size_of_val(&facts), &raw mut verdict);
                    capi::mxgate_reply(&raw const verdict, capi::MXGATE_AT_RCPT, capi::MXGATE_FOR_CLIENT, reply.as_mut_ptr(), reply.len());
                }
            });
            assert_eq!((calls, verdict.code), (0, if maintenance { 421 } else { code }), "{client} {sender} {recipient}");
        }
        // SAFETY: it came from mxgate_new() and nobody uses it.
        unsafe { capi::mxgate_free(gate) };
    }
}

/// Once its buffers are warm.
#[test]
fn the_policy_service_allocates_nothing() {
    let gate = Gate::new();
    gate.load_text(&format!("{POLICY}[limits]\nconnections = \"1000000/h\"\nrecipients = \"1000000/h\"\n"), "p").unwrap();
    for (client, sender, recipient, fails, code) in QUESTIONS {
        // Postfix does not tell whether a name leads elsewhere or DNS gave no answer.
        let code = if fails && code != 0 { 451 } else { code };
        let (sender, recipient) = (sender.trim_matches(['<', '>']), recipient.trim_matches(['<', '>']));
        let mut bytes = Vec::new();
        Request {
            protocol_state: Some(if recipient.is_empty() { b"CONNECT" } else { b"RCPT" }),
            client_address: Some(client.as_bytes()),
            client_port: Some(b"4321"),
            client_name: Some(b"unknown"),
            reverse_client_name: Some(if fails { b"client.example" } else { b"unknown" }),
            helo_name: Some(b"client.example"),
            sender: Some(sender.as_bytes()),
            recipient: Some(recipient.as_bytes()),
            instance: Some(b"1"),
            ..Request::default()
        }
        .encode(&mut bytes);
        let (mut session, mut answers, mut refused) = (Session::new(), Vec::new(), 0);
        let mut ask = |cut: usize| {
            answers.clear();
            for piece in [&bytes[..cut], &bytes[cut..]] {
                session.feed(&gate, piece, &mut answers, &mut |_| refused += 1).unwrap();
            }
        };
        ask(0);
        assert_eq!(allocations(|| (0..20).for_each(&mut ask)), 0, "{client} {recipient}");
        let action = if code == 0 { "action=DUNNO\n".into() } else { format!("action={code} ") };
        assert!(answers.starts_with(action.as_bytes()), "{client} {recipient}: {}", answers.escape_ascii());
        assert_eq!(refused, if code == 0 { 0 } else { 21 });
    }
}

/// Who is put off is told when to come back, by limits and by modes.
#[test]
fn to_put_off_allocates_nothing() {
    let gate = Gate::new();
    gate.load_text("hostname = \"mx.example.org\"\n[limits]\nconnections = \"1/h\"\nreply = \"throttle-soft\"\n", "p").unwrap();
    let ask = |code: u16, text: &str| {
        for client in 1..=200_u8 {
            let verdict = gate.check_connect(&Facts::of_client(IpAddr::from([198, 51, 100, client])));
            let rejection = verdict.rejection.unwrap();
            assert!(rejection.code == code && rejection.text.contains(text) && rejection.text.contains("in "));
        }
    };
    for client in 1..=200_u8 {
        assert!(gate.check_connect(&Facts::of_client(IpAddr::from([198, 51, 100, client]))).is_accept());
    }
    ask(450, "seconds");
    assert_eq!(allocations(|| ask(450, "seconds")), 0);
    gate.set_mode(Some(Mode::Draining));
    assert_eq!(allocations(|| ask(421, "seconds")), 0);
}

/// Whoever comes: ten million clients, each with a sender domain and a recipient domain of its own.
#[test]
fn limits_take_the_memory_that_they_are_given_and_no_more() {
    let clients: u64 = if cfg!(debug_assertions) { 1_000_000 } else { 10_000_000 };
    let memory = 16 << 20;
    let rate = Some(Rate::parse("100/min, burst 20").unwrap());
    let settings = Settings {
        memory,
        connections: rate,
        concurrent: Some(20),
        recipients: rate,
        sender_domain: rate,
        recipient_domain: rate,
        ..Settings::default()
    };
    let before = BYTES.get();
    let limits = Limits::new(&settings, None).unwrap();
    let taken = BYTES.get() - before;
    let room = memory as isize;
    assert!((room - 4096..room + 4096).contains(&taken), "{taken}");
    let mut refused = 0;
    let calls = allocations(|| {
        for client in 0..clients {
            let address = IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(client) << 64));
            let (mut sender, mut recipient) = (ArrayString::<32>::new(), ArrayString::<32>::new());
            write!(sender, "s{client}.example").unwrap();
            write!(recipient, "r{client}.example").unwrap();
            refused += u32::from(limits.connect(address, client * 1000).is_some());
            refused += u32::from(limits.recipient(Some(address), Some(&sender), Some(&recipient), client * 1000).is_some());
        }
    });
    assert_eq!((calls, BYTES.get() - before, refused), (0, taken, 0));
    for counters in limits.counters(clients * 1000) {
        // Of the places nearly all are in use, and what found none was let through.
        assert!(counters.used * 100 > counters.capacity * 99, "{counters:?}");
        assert!(counters.evicted + counters.uncounted > clients / 2, "{counters:?}");
    }
    drop(limits);
    assert_eq!(BYTES.get(), before);
}
