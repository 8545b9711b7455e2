//! What happens to feeds on their way: each kind of damage is refused with the old list still in force, or does no harm.
//! In no case is a clean address refused, and in no case do listed addresses go free.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what goes wrong here ends the test, with a message")]

use flate2::Compression;
use flate2::write::GzEncoder;
use mxgate::diagnostic::render;
use mxgate::{Facts, Files, Gate};
use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::{self, BufRead, Write as _};

/// One file in memory.
struct One(RefCell<Vec<u8>>);

impl Files for One {
    fn display(&self, name: &str) -> String {
        name.into()
    }

    fn open(&self, _: &str) -> io::Result<Box<dyn BufRead + '_>> {
        Ok(Box::new(io::Cursor::new(self.0.borrow().clone())))
    }
}

/// What becomes of a damaged list.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    /// It is refused, and the one before stays in force.
    Kept,
    /// It is taken: the damage does no harm.
    Taken,
}
use Outcome::{Kept, Taken};

const ENTRIES: u32 = 400;
/// The first and the last entry of the undamaged list.
const LISTED: [&str; 2] = ["198.51.0.0", "198.51.1.143"];
/// Addresses that no damage may make listed.
const CLEAN: [&str; 6] = ["192.0.2.1", "203.0.113.9", "198.51.1.144", "8.8.8.8", "10.0.0.1", "2001:db8::1"];

fn lines() -> Vec<String> {
    (0..ENTRIES).map(|n| format!("198.51.{}.{}", n / 256, n % 256)).collect()
}

fn plain() -> String {
    lines().join("\n") + "\n"
}

fn drop_text() -> String {
    let entries = lines().iter().fold(String::new(), |mut text, line| {
        writeln!(text, "{line}/32 ; SBL1").unwrap();
        text
    });
    format!("; Spamhaus DROP List 2026/11/20\n; Last-Modified: Fri, 20 Nov 2026 10:00:00 GMT\n{entries}; EOF\n")
}

fn drop_json() -> String {
    let entries = lines().iter().fold(String::new(), |mut text, line| {
        writeln!(text, "{{\"cidr\":\"{line}/32\",\"sblid\":\"SBL1\",\"rir\":\"arin\"}}").unwrap();
        text
    });
    format!("{entries}{{\"type\":\"metadata\",\"timestamp\":1790072042,\"size\":1,\"records\":{ENTRIES}}}\n")
}

fn firehol() -> String {
    format!("# example\n# This File Date  : Fri Nov 20 17:18:59 UTC 2026\n# Entries         : {ENTRIES} unique IPs\n{}", plain())
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn utf16(text: &str) -> Vec<u8> {
    [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect()
}

fn with_line(line: &str) -> String {
    format!("{}{line}\n", plain())
}

/// All kinds of damage, by name.
fn damages() -> Vec<(String, Vec<u8>, Outcome)> {
    let mut all: Vec<(String, Vec<u8>, Outcome)> = Vec::new();
    let mut add = |name: &str, bytes: Vec<u8>, outcome| all.push((name.into(), bytes, outcome));
    // Cut off in the middle: formats that say how long they are notice every cut.
    for (format, text) in [("drop", drop_text()), ("drop-json", drop_json()), ("firehol", firehol()), ("plain", plain())] {
        for tenth in 0..10 {
            // A plain list that has lost less than half of itself could be a shorter list: the canary notices.
            add(&format!("{format} cut at {tenth}/10"), text.as_bytes()[..text.len() * tenth / 10].to_vec(), Kept);
        }
        add(&format!("{format}, whole"), text.clone().into_bytes(), Taken);
        add(&format!("{format} packed"), gzip(&text), Taken);
        add(&format!("{format} without its last line end"), text.trim_end().into(), Taken);
        add(&format!("{format} with CR LF"), text.replace('\n', "\r\n").into_bytes(), Taken);
        add(&format!("{format} with a byte-order mark"), format!("\u{feff}{text}").into_bytes(), Taken);
        add(&format!("{format} in UTF-16"), utf16(&text), Kept);
    }
    let (packed, text) = (gzip(&plain()), plain());
    add("packed, cut off", packed[..packed.len() / 2].to_vec(), Kept);
    add("packed, without its checksum", packed[..packed.len() - 8].to_vec(), Kept);
    let mut flipped = packed.clone();
    flipped[packed.len() / 2] ^= 0x10;
    add("packed, one bit wrong", flipped, Kept);
    add("packed twice", gzip(&String::from_utf8_lossy(&packed)), Kept);
    add("zstd in name only", b"\x28\xb5\x2f\xfdnonsense".to_vec(), Kept);
    add("nothing", Vec::new(), Kept);
    add("comments alone", b"# removed\n; EOF\n".to_vec(), Kept);
    add("a web page", b"<!DOCTYPE html><html><body>Please log in</body></html>".to_vec(), Kept);
    add("an XML error", b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>".to_vec(), Kept);
    add("a JSON error", b"{\"error\":\"rate limit\"}".to_vec(), Kept);
    add("a text error", b"502 Bad Gateway\n".to_vec(), Kept);
    add("a PDF document", b"%PDF-1.7\n\x01\x02".to_vec(), Kept);
    add("a ZIP archive", b"PK\x03\x04rest".to_vec(), Kept);
    add("binary", (0..=255).cycle().take(4096).collect(), Kept);
    add("zeros", vec![0; 4096], Kept);
    add("twice the same", format!("{text}{text}").into_bytes(), Taken);
    add("a million duplicates", "198.51.0.0\n".repeat(1_000_000).into_bytes(), Kept);
    add("backwards", lines().into_iter().rev().collect::<Vec<_>>().join("\n").into_bytes(), Taken);
    add("half of it", lines()[..200].join("\n").into_bytes(), Kept);
    add("one entry", b"198.51.0.0\n".to_vec(), Kept);
    add("the other family", (0..ENTRIES).map(|n| format!("2001:db8:1::{n:x}\n")).collect::<String>().into_bytes(), Kept);
    add("all on one line", lines().join(" ").into_bytes(), Kept);
    add("glued together", lines().concat().into_bytes(), Kept);
    add("separated by commas", lines().join(",").into_bytes(), Kept);
    add("with bare CR", text.replace('\n', "\r").into_bytes(), Kept);
    add("a line of a megabyte", with_line(&"1".repeat(1 << 20)).into_bytes(), Kept);
    add("NUL bytes between the lines", text.replace('\n', "\n\0").into_bytes(), Kept);
    add("a private network", with_line("10.0.0.0/8").into_bytes(), Taken);
    for line in [
        "0.0.0.0/0",
        "::/0",
        "0.0.0.0/1",
        "128.0.0.0/1",
        "8.0.0.0/7",
        "2000::/3",
        "0.0.0.0-255.255.255.255",
        "::-ffff::",
        "*",
        "any",
        "default",
        "198.51.100",
        "198.51.100.0/",
        "198.51.100.0/x",
        "198.51.100.0/33",
        "198.51.100.0/-1",
        "198.51.100.0/024",
        "198.51.100.1/24",
        "198.51.100.0/255.255.255.0",
        "198.51.100.0/0.0.0.255",
        "198.51.100.0/255.0.255.0",
        "0198.51.100.1",
        "0xc6336401",
        "3325256705",
        "198.51.100.256",
        "198.51.100.1.2",
        "198.51.100.1:25",
        "[198.51.100.1]",
        "198.51.100.9-198.51.100.1",
        "198.51.100.1-2001:db8::1",
        "198.51.100.0-255",
        "fe80::1%eth0",
        "2001:db8::g",
        "2001:db8::1::2",
        "2001:db8:::1",
        "2001:db8::/129",
        "spam.example.org",
        "deny from 198.51.100.1",
        "203.0.113.9",
    ] {
        add(&format!("with the line {line}"), with_line(line).into_bytes(), Kept);
    }
    all
}

#[test]
fn each_kind_of_damage_is_refused_or_does_no_harm() {
    let damages = damages();
    assert!(damages.len() >= 60, "{}", damages.len());
    let policy = format!(
        "hostname = \"mx.example.org\"\n[[list]]\nname = \"feed\"\nfile = \"feed\"\nmust_match = [\"{}\"]\nmust_not_match = [\"203.0.113.9\"]\n",
        LISTED[1]
    );
    for (name, bytes, outcome) in damages {
        let gate = Gate::new();
        let files = One(RefCell::new(plain().into_bytes()));
        gate.load(&policy, &"p".into(), &files).unwrap();
        *files.0.borrow_mut() = bytes;
        let said = render(&gate.load(&policy, &"p".into(), &files).unwrap_or_else(|error| panic!("{name}: {error}")));
        let kept = said.contains("the list feed is not loaded and stays in force as it was");
        assert_eq!(if kept { Kept } else { Taken }, outcome, "{name}: {said}");
        let refused = |address: &str| !gate.check_connect(&Facts::of_client(address.parse().unwrap())).is_accept();
        for address in LISTED {
            assert!(refused(address), "{name}: {address} is not refused: {said}");
        }
        for address in CLEAN {
            assert!(!refused(address), "{name}: {address} is refused: {said}");
        }
    }
}
