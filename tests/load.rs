//! Loading: what is wrong is named, all of it, and the rules in force stay until a load is right.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "what goes wrong here ends the test, with a message"
)]

use mxgate::diagnostic::{Kind, render};
use mxgate::{Facts, Files, Gate};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, BufRead};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Files in memory.
#[derive(Default)]
struct Memory(HashMap<&'static str, String>);

impl Files for Memory {
    fn display(&self, name: &str) -> String {
        name.into()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn BufRead + '_>> {
        let text = self.0.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(text.as_bytes()))
    }
}

fn policy(entries: &str) -> String {
    format!("hostname = \"mx.example.org\"\n[[list]]\nname = \"a\"\n{entries}\n")
}

fn refused(gate: &Gate, address: &str) -> bool {
    !gate.check_connect(&Facts::of_client(address.parse().unwrap())).is_accept()
}

/// Policies in tests/messages and what is said about them; BLESS=1 writes the .ref files anew.
#[test]
fn messages_are_as_written_down() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/messages");
    for name in ["policy", "not-toml", "lists"] {
        let gate = Gate::new();
        let error = gate.load_file(&directory.join(name).with_extension("toml")).expect_err("the policy is wrong");
        assert_eq!(gate.ruleset().generation(), 0);
        let shown = render(&error.diagnostics).replace(&format!("{}/", directory.display()), "");
        let reference = directory.join(name).with_extension("ref");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&reference, &shown).unwrap();
        }
        assert_eq!(
            shown,
            std::fs::read_to_string(&reference).unwrap_or_default(),
            "{name}: run BLESS=1 cargo test --test load if this is right"
        );
    }
}

#[test]
fn a_mistake_in_one_line_of_a_list_keeps_the_old_rules_and_names_the_line() {
    let gate = Gate::new();
    gate.load_text(&policy("entries = [\"192.0.2.1\"]"), "p").unwrap();
    let list: String =
        (0..1000).map(|n| if n == 776 { "198.51.100.1/24\n".into() } else { format!("198.51.{}.{}\n", n / 256, n % 256) }).collect();
    let files = Memory(HashMap::from([("feed", list)]));
    let error = gate.load(&policy("file = \"feed\""), &"p".into(), &files).unwrap_err();
    assert_eq!(error.kind(), Kind::Syntax);
    let message =
        "feed:777:1: non-null host bits in \"198.51.100.1/24\"; write 198.51.100.0/24 for the network or 198.51.100.1 for the host";
    assert_eq!(error.to_string(), message);
    assert!(refused(&gate, "192.0.2.1") && !refused(&gate, "198.51.0.1"));
    assert_eq!(gate.ruleset().generation(), 1);
}

#[test]
fn a_missing_file_keeps_the_old_rules_and_names_the_place_that_names_it() {
    let gate = Gate::new();
    gate.load_text(&policy("entries = [\"192.0.2.1\"]"), "p").unwrap();
    let error = gate.load(&policy("file = \"gone\""), &"p".into(), &Memory::default()).unwrap_err();
    assert_eq!(error.kind(), Kind::Io);
    assert!(error.to_string().starts_with("p:4:8: cannot read gone: "), "{error}");
    assert!(refused(&gate, "192.0.2.1"));
    let error = gate.load_file(Path::new("/nonexistent/mxgate.toml")).unwrap_err();
    assert_eq!(error.kind(), Kind::Io);
    assert!(refused(&gate, "192.0.2.1"));
}

/// A file that breaks off in the middle of being read.
#[test]
fn a_read_error_in_the_middle_of_a_list_keeps_the_old_rules() {
    struct Broken;
    impl Files for Broken {
        fn display(&self, name: &str) -> String {
            name.into()
        }
        fn open(&self, _: &str) -> io::Result<Box<dyn BufRead + '_>> {
            struct Fails;
            impl io::Read for Fails {
                fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                    Err(io::Error::other("disk on fire"))
                }
            }
            Ok(Box::new(io::BufReader::new(io::Read::chain(&b"192.0.2.9\n192.0."[..], Fails))))
        }
    }
    let gate = Gate::new();
    gate.load_text(&policy("entries = [\"192.0.2.1\"]"), "p").unwrap();
    let error = gate.load(&policy("file = \"feed\""), &"p".into(), &Broken).unwrap_err();
    assert!(error.to_string().contains("disk on fire"), "{error}");
    assert!(refused(&gate, "192.0.2.1") && !refused(&gate, "192.0.2.9"));
}

#[test]
fn an_empty_list_is_a_warning() {
    let gate = Gate::new();
    let files = Memory(HashMap::from([("feed", "# nothing\n".into())]));
    let warnings = gate.load(&policy("file = \"feed\""), &"p".into(), &files).unwrap();
    assert_eq!(render(&warnings), "feed:1:1: warning: the list has no entry; check that the file is complete\n");
    assert_eq!(gate.ruleset().generation(), 1);
}

#[test]
fn a_million_lines_load() {
    let list: String = (0..1_000_000_u32).fold(String::new(), |mut list, n| {
        // Spread over the address space, one in four a /24, each with a reason.
        let address =
            std::net::Ipv4Addr::from_bits((n.wrapping_mul(2_654_435_761) | 0x0100_0000) & if n.is_multiple_of(4) { !0xff } else { !0 });
        let length = if n.is_multiple_of(4) { "/24" } else { "" };
        writeln!(list, "{address}{length} entry {n}").unwrap();
        list
    });
    let files = Memory(HashMap::from([("feed", list)]));
    let gate = Gate::new();
    let start = Instant::now();
    let whole_world = format!("never_block = {{ loopback = false, link_local = false, private = false }}\n{}", policy("file = \"feed\""));
    assert_eq!(gate.load(&whole_world, &"p".into(), &files).unwrap(), []);
    println!("a million lines load in {} ms in this build; `cargo bench --bench load` measures it", start.elapsed().as_millis());
    assert!(gate.ruleset().network_count() >= 1_000_000);
    for n in (0..1_000_000_u32).step_by(9973) {
        let address =
            std::net::Ipv4Addr::from_bits((n.wrapping_mul(2_654_435_761) | 0x0100_0000) & if n.is_multiple_of(4) { !0xff } else { !0 });
        assert!(refused(&gate, &address.to_string()), "{address}");
    }
    assert!(!refused(&gate, "0.0.0.1"));
}

#[test]
fn checks_go_on_during_loads_and_see_one_whole_ruleset() {
    // Odd loads block one network and name it in the reply, even ones the other: a mixture would show.
    let gate = Arc::new(Gate::new());
    let text = |n: u64| {
        let network = if n % 2 == 1 { "192.0.2.0/25" } else { "192.0.2.128/25" };
        format!(
            "hostname = \"g{n}.example.org\"\n[[list]]\nname = \"l{n}\"\nentries = [\"{network}\"]\nreply = \"550 5.7.1 At {{hostname}}\"\n"
        )
    };
    gate.load_text(&text(1), "p").unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let (mut checks, mut last) = (0_u64, 0);
                    while !done.load(Ordering::Relaxed) {
                        let low = gate.check_connect(&Facts::of_client("192.0.2.1".parse().unwrap()));
                        let n = low.generation;
                        assert!(n >= last, "generations go backwards");
                        last = n;
                        assert_eq!(low.rejection.is_some(), n % 2 == 1);
                        if let Some(rejection) = low.rejection {
                            assert_eq!((low.list.as_str(), rejection.text.as_str()), (&*format!("l{n}"), &*format!("At g{n}.example.org")));
                        }
                        checks += 1;
                    }
                    checks
                })
            })
            .collect();
        for n in 2..=500 {
            gate.load_text(&text(n), "p").unwrap();
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.join().unwrap() > 500);
        }
    });
}
