//! Ten million clients of IPv6, each of them a /64 of its own, through a gate with limits: the memory stays what the policy
//! says, nobody is refused who has done nothing, and who has done too much before is refused still.
//!
//! The ordinary test run has a million clients, `make checks` ten million. A program of its own, because the memory of the
//! whole process is what is measured.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "what goes wrong here ends the test, with a message")]

use mxgate::{Facts, Gate};
use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

const CLIENTS: u32 = if cfg!(debug_assertions) { 1_000_000 } else { 10_000_000 };
/// What the policy allows, in KiB: of each of two tables, enough for 491,520 clients, and of that of those who were refused.
const MEMORY: usize = 16 << 10;
/// What everything else of a load may take, in KiB: the policy, its document, what the allocator keeps of both.
const BESIDE: usize = 1 << 10;
const POLICY: &str = "hostname = \"mx.example.org\"\n[limits]\nmemory = \"16 MiB\"\nconnections = \"4/h\"\nconcurrent = 3\n";

/// The memory of this process that is in use, in KiB, counted page by page.
fn resident() -> usize {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap();
    line.trim_end_matches("kB").trim().parse().unwrap()
}

/// The code of the reply to a client that connects; `None` if it is let in.
fn connect(gate: &Gate, address: IpAddr) -> Option<u16> {
    gate.check_connect(&Facts::of_client(address)).rejection.map(|rejection| rejection.code)
}

#[test]
fn ten_million_clients_take_no_more_memory_than_the_policy_says() {
    let gate = Gate::new();
    let before = resident();
    gate.load_text(POLICY, "p").unwrap();
    let loaded = resident();
    assert!(loaded - before <= MEMORY + BESIDE, "{before} KiB before the load, {loaded} after it");

    // One has used up its rate, one has all the sessions open that it may have.
    let (often, busy): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "2001:db9::1".parse().unwrap());
    let end = |address| gate.end_session(&Facts::of_client(address));
    for _ in 0..4 {
        assert_eq!(connect(&gate, often), None);
        end(often);
    }
    assert_eq!(connect(&gate, often), Some(421));
    for expected in [None, None, None, Some(421)] {
        assert_eq!(connect(&gate, busy), expected);
    }

    // Nor do they end their sessions.
    let begun = Instant::now();
    let refused = (0..CLIENTS).filter(|client| {
        let address = Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(*client) << 64 | 1);
        connect(&gate, address.into()).is_some()
    });
    assert_eq!(refused.count(), 0, "clients that came once were refused");
    let (elapsed, after) = (begun.elapsed(), resident());
    println!("{CLIENTS} clients in {elapsed:?}; {before} KiB before the load, {loaded} after it, {after} after them");
    assert!(after <= before + MEMORY + BESIDE, "{before} KiB before the load, {loaded} after it, {after} after {CLIENTS} clients");

    // Those that owe most are the last to be forgotten, and open sessions are not.
    assert_eq!((connect(&gate, often), connect(&gate, busy)), (Some(421), Some(421)));
    end(busy);
    assert_eq!(connect(&gate, "2001:db9::ffff".parse().unwrap()), None);
    // A client that comes only now is limited as any: there is no room for its sessions, but for its rate there is.
    let late = "2001:db9:0:1::1".parse().unwrap();
    for expected in [None, None, None, None, Some(421), Some(421)] {
        assert_eq!(connect(&gate, late), expected);
        // One in a hundred finds room all the same.
        end(late);
    }
}
