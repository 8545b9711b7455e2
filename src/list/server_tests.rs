//! The readers of the tables of mail and DNSBL servers: what they are told apart by, a real Postfix, and random input.

use super::rbldnsd::Kind;
use super::tests::{dump, of_server, samples_of};
use super::{Format, Record, Sink, Subject, postfix_access, postfix_cidr, sendmail_access};
use crate::diagnostic::Fault;
use proptest::prelude::*;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};

/// The same list with other line ends, a byte-order mark, and no line end at its end, reads the same.
#[test]
fn line_ends_do_not_matter() {
    for (format, list, name) in samples_of(of_server) {
        let text = fs::read(&list).unwrap();
        let text = String::from_utf8_lossy(&text).replace("\r\n", "\n");
        let text = text.trim_start_matches('\u{feff}');
        let want = dump(format, &name, &mut text.as_bytes());
        let windows = format!("\u{feff}{}", text.trim_end_matches('\n').replace('\n', "\r\n"));
        assert_eq!(dump(format, &name, &mut windows.as_bytes()), want, "{}", list.display());
    }
}

#[test]
fn detection() {
    let found = |head: &str| -> Vec<&str> {
        let head = head.as_bytes();
        let all = [
            ("ip4set", Kind::Ip4Set.looks(head)),
            ("ip4trie", Kind::Ip4Trie.looks(head)),
            ("ip6tset", Kind::Ip6Tset.looks(head)),
            ("ip6trie", Kind::Ip6Trie.looks(head)),
            ("dnset", Kind::Dnset.looks(head)),
            ("cidr", postfix_cidr::looks(head)),
            ("sendmail", sendmail_access::looks(head)),
            ("access", postfix_access::looks(head)),
        ];
        all.into_iter().filter(|row| row.1).map(|row| row.0).collect()
    };
    for (head, want) in [
        ("", ""),
        ("192.0.2.1\n192.0.2.0/24 spam\n", ""),
        ("192.0.2.1 rejected yesterday\n", ""),
        ("192.0.2.1\t10\n192.0.2.2\t450\n", ""),
        ("192.0.2.0/24 ; SBL1\n", ""),
        ("example.org\n*.example.net\n", ""),
        ("# $SOA is a word\n192.0.2.1\n", ""),
        ("2001:db8::1\n2001:db8::/32\n", ""),
        ("::1\n", ""),
        ("$TTL 3600\n@ IN SOA a b 1 2 3 4 5\n", ""),
        (":127.0.0.2:spam\n192.0.2.1\n", "ip4set"),
        ("$SOA 1 a b 1 2 3 4 5\n!192.0.2.1\n", "ip4set"),
        ("#$NS 1 a b\n:2:x\n2001:db8::/32\n", "ip6trie"),
        (":127.0.0.2:$ listed\n.example.org\n", "dnset"),
        ("192.0.2.1 OK\n192.0.2.0/24 REJECT\n", "cidr"),
        ("192.0.2.0/24\tpermit\n# x\n198.51.100.0/24\tpermit\n", "cidr"),
        ("if 192.0.2.0/24\n192.0.2.1 OK\n", "cidr"),
        ("!192.0.2.0/24 550 5.7.1 no\n  more\n", "cidr"),
        ("192.0.2.0/24 REJECT\n198.51.100.0/24 REJ", "cidr"),
        ("192.0.2 REJECT\n", "access"),
        ("example.org REJECT spam\nuser@ OK\n", "access"),
        ("Connect:192.0.2 REJECT\n", "sendmail"),
        ("example.org ERROR:5.7.1:\"550 no\"\n", "sendmail"),
        ("From:spam@example.org\tDISCARD\n", "sendmail"),
    ] {
        assert_eq!(found(head).join(" "), want, "{head}");
    }
}

proptest! {
    /// Pieces of the formats, put together at random, come closer to what a reader takes than bytes do.
    #[test]
    fn random_pieces_never_panic(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..80)) {
        let text = pieces.concat();
        for (_, format) in Format::ALL.iter().filter(|(_, format)| of_server(*format)) {
            dump(*format, "x", &mut text.as_bytes());
        }
    }
}

const PIECES: &[&str] = &[
    "\n",
    "\n",
    " ",
    "\t",
    ":",
    "::",
    "!",
    "$",
    "$$",
    "$1",
    "$=",
    "-",
    "/",
    ".",
    "@",
    "#",
    ";",
    "0",
    "1",
    "24",
    "32",
    "128",
    "255",
    "256",
    "192.0.2",
    "10",
    "2001:db8",
    "ffff",
    "example.org",
    "*.",
    "if ",
    "endif",
    "REJECT",
    "OK",
    "550 ",
    "5.7.1 ",
    "ERROR:",
    "\"",
    "Connect:",
    "To:",
    "IPv6:",
    "$TIMESTAMP ",
    "$MAXRANGE4 ",
    "$DATASET ",
    "dnset ",
    "2026:01:31",
    "+5d",
    "\u{e9}",
    "{",
    "<>",
    "[",
    "]",
    "\0",
];

/// Numbers that look random, the same in every run (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    /// An address of a corner of the number space, so that networks collide and nest.
    fn address(&mut self) -> IpAddr {
        let [a, b] = [0; 2].map(|_| u16::try_from(self.below(256)).unwrap());
        let [low, high] = [a, b].map(|n| u8::try_from(n).unwrap());
        match self.below(8) {
            0 => [0, 0, 0, low % 2].into(),
            1 => [255, 255, 255, 254 + low % 2].into(),
            2 => [high, low, 0, 0].into(),
            3 | 4 => [192, 0, 2, low].into(),
            5 => [0x2001, 0xdb8, 0, 0, 0, 0, 0, a].into(),
            6 => [0x2001, 0xdb8, a, b, 0, 0, 0, 0].into(),
            _ => [u16::MAX - (b % 2), a, 0, 0, 0, 0, 0, b % 2].into(),
        }
    }

    fn pattern(&mut self, with_any: bool) -> String {
        let address = self.address();
        let full: u8 = if address.is_ipv4() { 32 } else { 128 };
        let length = match self.below(12) {
            0 if with_any => 0,
            1 | 2 => full,
            3 => 1 + u8::try_from(self.below(u64::from(full))).unwrap(),
            4..=6 => full / 2 + u8::try_from(self.below(u64::from(full / 2))).unwrap(),
            _ => full - u8::try_from(self.below(8)).unwrap(),
        };
        let network = ipnet::IpNet::new(address, length).unwrap().trunc();
        let text = match self.below(4) {
            0 if length == full => network.addr().to_string(),
            1 => format!("[{}]/{length}", network.addr()),
            _ => network.to_string(),
        };
        format!("{}{text}", ["", "", "", "!", "! "][usize::try_from(self.below(5)).unwrap()])
    }

    /// A table in which every result ends in the number of its line.
    fn table(&mut self) -> String {
        let mut table = String::new();
        let mut depth = 0;
        let mut line = 0;
        for _ in 0..4 + self.below(30) {
            line += 1;
            match self.below(6) {
                0 => {
                    depth += 1;
                    writeln!(table, "{} {}", ["if", "IF", "If"][usize::try_from(self.below(3)).unwrap()], self.pattern(true)).unwrap();
                }
                1 if depth > 0 => {
                    depth -= 1;
                    table.push_str("endif\n");
                }
                2 => {
                    writeln!(table, "{}\n  OK {line}", self.pattern(true)).unwrap();
                    line += 1;
                }
                _ => {
                    let pattern = self.pattern(false);
                    writeln!(table, "{pattern} {} {line}", ["REJECT", "550 no", "dunno"][usize::try_from(self.below(3)).unwrap()]).unwrap();
                }
            }
        }
        table + &"ENDIF\n".repeat(depth)
    }
}

/// Keeps the records of addresses, in order.
#[derive(Default)]
struct Ordered(Vec<(u32, IpAddr, IpAddr)>, String);

impl Sink for Ordered {
    fn record(&mut self, record: Record<'_>) {
        match record.subject {
            Subject::Network(network) => self.0.push((record.line, network.network(), network.broadcast())),
            Subject::Range(first, last) => self.0.push((record.line, first, last)),
            Subject::Domain(..) | Subject::Mailbox(_) => writeln!(self.1, "{record:?}").unwrap(),
        }
    }
    fn delete(&mut self, _: Subject<'_>) {}
    fn fault(&mut self, line: u32, column: u32, fault: Fault) {
        writeln!(self.1, "{line}:{column}: {fault:?}").unwrap();
    }
    fn warn(&mut self, _: u32, _: u32, _: Fault) {}
}

/// Random tables, asked through postmap(1): its answers are the truth.
#[test]
fn cidr_tables_answer_as_postfix_does() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("main.cf"), "").unwrap();
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut answers = 0;
    for _ in 0..300 {
        let table = numbers.table();
        let addresses: Vec<IpAddr> = (0..300).map(|_| numbers.address()).collect();
        let file = folder.path().join("table");
        fs::write(&file, &table).unwrap();
        let questions: String = addresses.iter().map(|address| format!("{address}\n")).collect();
        let Some(output) = postmap(folder.path(), &file, &questions) else { return };

        let mut sink = Ordered::default();
        let statement = postfix_cidr::read(&mut table.as_bytes(), &mut sink).unwrap();
        assert!(statement.ordered);
        assert_eq!(sink.1, "", "{table}");
        let mut got = String::new();
        for address in &addresses {
            let first = sink.0.iter().find(|(_, first, last)| first.is_ipv4() == address.is_ipv4() && first <= address && address <= last);
            if let Some((line, ..)) = first {
                writeln!(got, "{address} {line}").unwrap();
            }
        }
        let mut want = String::new();
        for line in output.lines() {
            let (address, result) = line.split_once('\t').unwrap();
            writeln!(want, "{address} {}", result.rsplit(' ').next().unwrap()).unwrap();
            answers += 1;
        }
        assert_eq!(got, want, "{table}");
    }
    assert!(answers > 10_000, "the tables cover too little: {answers}");
}

fn postmap(folder: &Path, table: &Path, questions: &str) -> Option<String> {
    let mut command = Command::new("postmap");
    command.arg("-c").arg(folder).args(["-q", "-"]).arg(format!("cidr:{}", table.display()));
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin")).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "postmap: {error}");
            writeln!(std::io::stderr(), "SKIPPED: cidr tables are not compared with Postfix: postmap: {error}").unwrap();
            return None;
        }
    };
    // The answers of 300 questions fit into a pipe.
    child.stdin.take().unwrap().write_all(questions.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(errors, "", "{}", fs::read_to_string(table).unwrap());
    Some(String::from_utf8(output.stdout).unwrap())
}
