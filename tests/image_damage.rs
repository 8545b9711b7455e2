//! Damaged images. Checked as a whole, each of them is refused. Taken as it is, one is refused or does no harm: no panic, no
//! reply that is not well-formed, and nobody is refused whom no entry has of a list that refuses. One that somebody makes
//! shorter while it is open ends the process with SIGBUS.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "what goes wrong here ends the test, with a message"
)]

use mxgate::overview::overview;
use mxgate::{Facts, Gate, Stage, Verdict};
use proptest::prelude::Rng as _;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

#[path = "support/random.rs"]
mod random;

/// What an image is damaged of. Entries that end have ended.
const POLICY: &str = r#"
hostname = "mx.example.org"
never_block.networks = ["198.51.100.0/28"]
[[list]]
name = "partners"
allow = true
entries = ["203.0.113.0/25", "2001:db8:a::/48"]
[[list]]
name = "ends"
file = "ends.txt"
ttl = "1h"
[[list]]
name = "watched"
enforce = false
entries = ["192.0.3.0/24", "2001:db8::/33"]
[[list]]
name = "local"
reply = "550 5.7.1 Client {ip} is on {list}: {reason}"
entries = ["192.0.2.0/24 sent spam", "!192.0.2.7", "192.0.2.64/26 more", "203.0.113.0/24", "198.51.100.0/24", "2001:db8::/32 x"]
[[list]]
name = "table"
file = "cidr.txt"
[[domains]]
name = "parked"
entries = ["parked.example", "*.web.example", ".both.example", "[192.0.2.9]"]
[[domains]]
name = "access"
file = "access.txt"
[[senders]]
name = "spammers"
entries = ["user@example.net", ".example.com", "!friend@example.com", "newsletter@"]
[[recipients]]
name = "staff"
kind = "internal-only"
entries = ["all@example.org"]
[[recipients]]
name = "sales"
opt_out = ["local", "spammers"]
entries = ["sales@example.org"]
[relay]
local = [".example.org", "parked.example", ".web.example", ".both.example", ".table.example", "[192.0.2.9]"]
trusted = ["203.0.113.128/25"]
"#;

/// What may make damage refuse more than before: whatever lets somebody pass whom a list has.
const WITHOUT: [(&str, &str); 7] = [
    ("never_block.networks = [\"198.51.100.0/28\"]\n", ""),
    ("entries = [\"203.0.113.0/25\", \"2001:db8:a::/48\"]", "entries = [\"8.8.8.8\"]"),
    ("ttl = \"1h\"\n", ""),
    ("\"!192.0.2.7\", ", ""),
    ("\"!friend@example.com\", ", ""),
    ("opt_out = [\"local\", \"spammers\"]\n", "kind = \"internal-only\"\n"),
    ("cidr.txt", "all.txt"),
];

/// An image, and what to compare it with.
struct Image {
    directory: TempDir,
    bytes: Vec<u8>,
    /// Its rules, undamaged.
    rules: Gate,
    /// Those that refuse whomever a list has.
    widest: Gate,
}

impl Image {
    fn new() -> Image {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("ends.txt"), "198.51.100.64/26 tries passwords\n192.0.4.0/24\n2001:db9::/32\n").unwrap();
        File::options().append(true).open(at("ends.txt")).unwrap().set_modified(UNIX_EPOCH).unwrap();
        fs::write(at("cidr.txt"), "192.0.5.128/25 521 5.7.1 Go away\n192.0.5.5 OK\n192.0.5.0/24 450 4.7.1 Later\n2001:dba::/32 REJECT\n")
            .unwrap();
        fs::write(at("all.txt"), "192.0.5.0/24 REJECT\n2001:dba::/32 REJECT\n").unwrap();
        fs::write(at("access.txt"), "table.example 521 5.3.2 takes no mail\nwww.table.example OK\n").unwrap();
        fs::write(at("mxgate.toml"), POLICY).unwrap();
        let widest = WITHOUT.iter().fold(POLICY.to_owned(), |policy, (from, to)| {
            assert!(policy.contains(from), "{from}");
            policy.replace(from, to)
        });
        fs::write(at("widest.toml"), widest.replace("access.txt", "all-names.txt")).unwrap();
        fs::write(at("all-names.txt"), "table.example REJECT\n").unwrap();
        let load = |name: &str| {
            let gate = Gate::new();
            gate.load_file(&at(name)).unwrap_or_else(|error| panic!("{error}"));
            gate
        };
        let (rules, widest) = (load("mxgate.toml"), load("widest.toml"));
        rules.write_image(&at("policy.mxg")).unwrap();
        let bytes = fs::read(at("policy.mxg")).unwrap();
        Image { directory, bytes, rules, widest }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("damaged.mxg")
    }

    /// The file that is damaged. Nobody has it open meanwhile.
    fn file(&self) -> File {
        fs::write(self.path(), &self.bytes).unwrap();
        File::options().write(true).open(self.path()).unwrap()
    }

    /// A number of the header or the index.
    fn number(&self, at: usize) -> usize {
        u64::from_ne_bytes(self.bytes[at..at + 8].try_into().unwrap()) as usize
    }

    /// Where the index is.
    fn index(&self) -> std::ops::Range<usize> {
        self.number(24)..self.number(24) + self.number(32)
    }

    /// Where the table of the upper halves of IPv4 addresses is: most of the file, and nearly all of it alike.
    fn root(&self) -> std::ops::Range<usize> {
        let end = self.index().start;
        let is_root = |(start, count): &(usize, usize)| *count == 1 << 16 && start + (4 << 16) < end;
        let (root, _) = self.places().map(|at| self.place(at)).find(is_root).unwrap();
        root..root + (4 << 16)
    }

    /// Where the index seems to say where an array begins, and how long it is. Texts stand between them.
    fn places(&self) -> impl Iterator<Item = usize> {
        let index = self.index();
        let is_place = move |at: &usize| {
            let (start, count) = self.place(*at);
            start >= 64 && start % 64 == 0 && (1..=1 << 16).contains(&count) && start + count <= index.start
        };
        (self.index().start..self.index().end - 16).filter(is_place)
    }

    fn place(&self, at: usize) -> (usize, usize) {
        (self.number(at), self.number(at + 8))
    }
}

/// Questions about every rule, and about what stands beside it.
fn questions() -> Vec<Facts<'static>> {
    const CLIENTS: &str = "127.0.0.1 ::1 10.1.2.3 192.0.1.255 192.0.2.0 192.0.2.7 192.0.2.8 192.0.2.63 192.0.2.64 192.0.2.127 192.0.2.255 192.0.3.1 \
        192.0.4.1 192.0.5.5 192.0.5.6 192.0.5.200 192.0.6.1 198.51.100.1 198.51.100.16 198.51.100.64 198.51.101.1 203.0.112.255 203.0.113.1 \
        203.0.113.127 203.0.113.128 203.0.113.255 203.0.114.0 8.8.8.8 0.0.0.0 255.255.255.255 2001:db7:ffff::1 2001:db8::1 2001:db8:a::1 \
        2001:db8:a:ffff::1 2001:db8:b::1 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff 2001:db9::1 2001:dba::1 2001:dbb::1 2000:: ffff::1 ::2 \
        fe80::1 fd00::1";
    const RECIPIENTS: &str = "parked.example a.parked.example web.example a.web.example a.b.web.example both.example a.both.example xboth.example \
        [192.0.2.9] [192.0.2.8] table.example www.table.example a.www.table.example example example.org sub.example.org";
    const SENDERS: [&[u8]; 9] = [
        b"<>",
        b"<user@example.net>",
        b"<other@example.net>",
        b"<a@example.com>",
        b"<a@b.example.com>",
        b"<friend@example.com>",
        b"<newsletter@x.example>",
        b"<newsletters@x.example>",
        b"<a@xexample.com>",
    ];
    let now = Some(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs());
    let recipients: Vec<&'static [u8]> =
        RECIPIENTS.split_whitespace().map(|domain| &*format!("<user@{domain}>").into_bytes().leak()).collect();
    let client = |text: &str| Facts { now, ..Facts::of_client(text.parse::<IpAddr>().unwrap()) };
    let mut questions: Vec<Facts<'static>> = CLIENTS.split_whitespace().map(client).collect();
    let clean = client("9.9.9.9");
    questions.extend(recipients.iter().map(|recipient| Facts { recipient: Some(*recipient), ..clean }));
    questions.extend(SENDERS.iter().map(|sender| Facts { sender: Some(*sender), recipient: Some(b"<user@example.org>"), ..clean }));
    for address in ["192.0.2.1", "9.9.9.9", "203.0.113.200"] {
        for recipient in [&b"all@example.org"[..], b"sales@example.org", b"postmaster@example.org", b"all@sub.example.org"] {
            questions.push(Facts { recipient: Some(recipient), sender: Some(b"<a@example.com>"), ..client(address) });
        }
    }
    questions
}

/// Asks a gate; nobody is refused whom the widest rules accept, and what is said is well-formed.
fn ask(gate: &Gate, questions: &[Facts<'_>], may_refuse: impl Fn(usize) -> bool) {
    for (number, facts) in questions.iter().enumerate() {
        let verdict = answer(gate, facts);
        let Some(rejection) = verdict.rejection else { continue };
        assert!(may_refuse(number), "{facts:?}: {verdict:?}");
        for line in [rejection.reply(), rejection.greeting()] {
            assert!(line.len() <= 510 && line.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{line:?}");
        }
    }
}

fn answer(gate: &Gate, facts: &Facts<'_>) -> Verdict {
    if facts.recipient.is_some() { gate.check_rcpt(facts) } else { gate.check_connect(facts) }
}

/// What else looks at the rules: slowly, and at all of them.
fn look(gate: &Gate, rules: &Gate, facts: &Facts<'_>) {
    let said = gate.explain(facts, Stage::Rcpt).to_string() + &overview(&gate.ruleset(), SystemTime::now()).to_string();
    let changes = mxgate::diff::diff(&rules.ruleset(), &gate.ruleset()).to_string()
        + &mxgate::diff::diff(&gate.ruleset(), &rules.ruleset()).to_string();
    assert!(!said.is_empty() && changes.len() < 1 << 24);
    let _ = gate.ban("192.0.2.0/30".parse().unwrap(), None, "");
}

/// Puts what is wrong into words.
fn about<T>(case: impl FnOnce() -> String, check: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(check)).unwrap_or_else(|_| panic!("{}", case()))
}

/// Opens damaged images and asks them.
struct Examiner<'a> {
    image: &'a Image,
    gate: Gate,
    questions: Vec<Facts<'static>>,
    may_refuse: Vec<bool>,
    examined: u32,
    opened: u32,
}

impl<'a> Examiner<'a> {
    fn new(image: &'a Image) -> Examiner<'a> {
        let questions = questions();
        let refuses = |gate: &Gate| questions.iter().map(|facts| !answer(gate, facts).is_accept()).collect::<Vec<bool>>();
        let (may_refuse, refused) = (refuses(&image.widest), refuses(&image.rules));
        let count = |refused: &[bool]| refused.iter().filter(|refused| **refused).count();
        assert!(refused.iter().zip(&may_refuse).all(|(refused, may)| may | !refused));
        let (some, more, all) = (count(&refused), count(&may_refuse), questions.len());
        assert!(some > 20 && more > some && more + 20 < all, "{some} {more} {all}");
        Examiner { image, gate: Gate::new(), questions, may_refuse, examined: 0, opened: 0 }
    }

    /// Nobody is refused whom no list has.
    fn examine(&mut self, case: impl Fn() -> String) {
        let Examiner { image, gate, questions, may_refuse, .. } = self;
        self.examined += 1;
        about(case, || {
            if let Err(error) = gate.open_image(&image.path()) {
                assert!(error.to_string().contains(" image"), "{error}");
                return;
            }
            self.opened += 1;
            ask(gate, questions, |number| may_refuse[number]);
            if self.opened.is_multiple_of(16) {
                look(gate, &image.rules, &questions[self.opened as usize / 16 % questions.len()]);
            }
        });
    }
}

impl Examiner<'_> {
    /// With all its checksums it is not loaded.
    fn check_refused(&self, case: impl Fn() -> String) {
        let loaded = about(&case, || self.gate.load_file(&self.image.path()));
        let said = loaded.err().unwrap_or_else(|| panic!("{} is loaded", case())).to_string();
        // Without its mark it is not known for an image.
        let clear = ["the image ", "the policy is not UTF-8 text"].iter().any(|word| said.contains(word));
        assert!(clear && said.contains("; "), "{}: {said}", case());
    }
}

#[test]
fn one_byte_is_wrong() {
    let image = Image::new();
    let (file, root) = (image.file(), image.root());
    let mut examiner = Examiner::new(&image);
    let mut random = random::random(50);
    for (at, byte) in image.bytes.iter().enumerate() {
        // Most of the root is like what stands before: of that only some.
        let word = at & !3;
        let alike = root.contains(&at) && image.bytes[word - 4..word] == image.bytes[word..word + 4];
        if alike && !random.next_u32().is_multiple_of(1024) {
            continue;
        }
        let wrong = byte ^ [1 << (random.next_u32() % 8), 1 + (random.next_u32() % 255) as u8][at % 2];
        file.write_all_at(&[wrong], at as u64).unwrap();
        let case = || format!("byte {at}, {byte:#x}, is {wrong:#x}");
        // The checksum of the body takes long without optimisation.
        if !(64..image.index().start).contains(&at) || at % 8 == 0 {
            examiner.check_refused(case);
        }
        examiner.examine(case);
        file.write_all_at(&[*byte], at as u64).unwrap();
    }
    Gate::new().load_file(&image.path()).unwrap();
    println!("{} bytes, {} opened", examiner.examined, examiner.opened);
    assert!(examiner.opened > 2000 && examiner.examined > examiner.opened + 3000);
}

#[test]
fn many_bytes_are_wrong() {
    let image = Image::new();
    let (mut random, root, body) = (random::random(51), image.root(), 64..image.index().start);
    let mut examiner = Examiner::new(&image);
    let mut below = |limit: usize| random.next_u64() as usize % limit;
    for round in 0..600 {
        let mut bytes = image.bytes.clone();
        for _ in 0..1 + below(60) {
            // Half of them where there is something else than the root.
            let mut at = body.start + below(body.len());
            if root.contains(&at) && below(8) != 0 {
                at = root.end + below(body.end - root.end);
            }
            match below(6) {
                0..3 => bytes[at] = below(256) as u8,
                3 => bytes[at] ^= 1 << below(8),
                // A block that was not written, and one that came to the wrong place.
                4 => {
                    let end = (at + (1 << below(12))).min(body.end);
                    bytes[at..end].fill(0);
                }
                _ => {
                    let length = (1 << below(9)).min(body.end - at);
                    let from = body.start + below(body.len() - length);
                    bytes.copy_within(from..from + length, at);
                }
            }
        }
        fs::write(image.path(), &bytes).unwrap();
        if bytes != image.bytes && round % 8 == 0 {
            examiner.check_refused(|| format!("round {round}"));
        }
        examiner.examine(|| format!("round {round}"));
    }
    assert_eq!(examiner.opened, 600, "the header is whole");
}

#[test]
fn a_part_is_missing_or_there_is_more() {
    let image = Image::new();
    let (file, length) = (image.file(), image.bytes.len());
    let mut examiner = Examiner::new(&image);
    for cut in (0..length).rev().filter(|cut| *cut < 600 || *cut > length - 600 || cut % 61 == 0) {
        file.set_len(cut as u64).unwrap();
        let case = || format!("cut to {cut}");
        let said = about(case, || examiner.gate.load_file(&image.path())).unwrap_err().to_string();
        // Without its mark it is not known for an image.
        assert!(cut < 8 || said.contains("the image is damaged"), "{cut}: {said}");
        examiner.examine(case);
    }
    for more in [1, 7, 64, 4096, 100_000] {
        fs::write(image.path(), [&image.bytes[..], &vec![0xa5; more]].concat()).unwrap();
        examiner.check_refused(|| format!("{more} more"));
        examiner.examine(|| format!("{more} more"));
    }
    assert_eq!(examiner.opened, 0);
}

/// Makes the checksums of a header good, so that what comes behind them is reached. The layout stands in src/image/mod.rs.
fn repair(bytes: &mut [u8], body: u32) {
    let number = |bytes: &[u8], at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
    let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
    let (at, length) = (number(bytes, 24), number(bytes, 32));
    let index = bytes.get(place(at)..place(at.saturating_add(length))).map_or(0, crc32fast::hash);
    bytes[40..44].copy_from_slice(&body.to_ne_bytes());
    bytes[44..48].copy_from_slice(&index.to_ne_bytes());
    bytes[48..52].fill(0);
    let header = crc32fast::hash(&bytes[..64]);
    bytes[48..52].copy_from_slice(&header.to_ne_bytes());
}

/// Opens images that somebody made on purpose, with good checksums. He may write any policy; but nothing panics.
struct Attack<'a> {
    image: &'a Image,
    file: File,
    bytes: Vec<u8>,
    body: u32,
    gate: Gate,
    questions: Vec<Facts<'static>>,
    opened: u32,
}

impl Attack<'_> {
    /// With other numbers at places in the header or the index.
    fn with(&mut self, numbers: &[(usize, u64)]) -> bool {
        for (at, number) in numbers {
            self.bytes[*at..at + 8].copy_from_slice(&number.to_ne_bytes());
        }
        repair(&mut self.bytes, self.body);
        let index = self.image.index();
        for part in [0..64, index.clone()] {
            self.file.write_all_at(&self.bytes[part.clone()], part.start as u64).unwrap();
            self.bytes[part.clone()].copy_from_slice(&self.image.bytes[part]);
        }
        let opened = about(
            || format!("{numbers:x?}"),
            || {
                let opened =
                    [self.gate.load_file(&self.image.path()), self.gate.open_image(&self.image.path())].map(|loaded| loaded.is_ok());
                ask(&self.gate, &self.questions, |_| true);
                if opened[0] && self.opened.is_multiple_of(8) {
                    look(&self.gate, &self.image.rules, &self.questions[self.opened as usize / 8 % self.questions.len()]);
                }
                assert_eq!(opened[0], opened[1]);
                opened[0]
            },
        );
        self.opened += u32::from(opened);
        opened
    }
}

/// The most memory that this process has had, in KiB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn numbers_of_the_index_are_wrong_on_purpose() {
    let image = Image::new();
    let (index, length, mut random) = (image.index(), image.bytes.len() as u64, random::random(52));
    let body = crc32fast::hash(&image.bytes[64..index.start]);
    // One in three of the questions.
    let questions = questions().into_iter().step_by(3).collect();
    let (file, bytes, gate) = (image.file(), image.bytes.clone(), Gate::new());
    let mut attack = Attack { image: &image, file, bytes, body, gate, questions, opened: 0 };
    assert!(attack.with(&[]));
    let before = peak();
    // Those of the header.
    for at in [24, 32] {
        for value in [0, 1, 63, 64, length - 8, length, length + 1, 1 << 28, 1 << 40, 1 << 60, u64::MAX - 7, u64::MAX] {
            assert!(!attack.with(&[(at, value)]), "{at} {value:#x}");
        }
    }
    // A number of the index may stand anywhere, because texts stand between them.
    for at in index.start..index.end - 8 {
        let values =
            [1 << 60, u64::MAX, length, length - 1, 0, 1, 65, 1 << 32, u64::from(random.next_u32()), 1 << (random.next_u32() % 64)];
        attack.with(&[(at, values[random.next_u32() as usize % values.len()])]);
    }
    // Arrays that lie on others, in the header, in the index, askew, or are too long.
    let places: Vec<usize> = image.places().collect();
    assert!(places.len() > 30, "{}", places.len());
    for at in &places {
        for _ in 0..12 {
            let other = image.place(places[random.next_u32() as usize % places.len()]);
            let count = [other.1, image.place(*at).1, other.1 * 2, 1 << 20, 3][random.next_u32() as usize % 5];
            let start = [other.0, other.0, other.0 + 64, 0, index.start, other.0 + 1, image.bytes.len()][random.next_u32() as usize % 7];
            attack.with(&[(*at, start as u64), (at + 8, count as u64)]);
        }
    }
    println!("{} opened, {} KiB more", attack.opened, peak() - before);
    assert!(attack.opened > 100);
    assert!(peak() - before < 256 << 10, "{} KiB more", peak() - before);
}

/// The child of the test below.
const CHILD: &str = "MXGATE_TEST_IMAGE";

#[test]
fn an_image_that_is_made_shorter_while_it_is_open_ends_the_process() {
    if let Some(path) = std::env::var_os(CHILD) {
        let gate = Gate::new();
        gate.open_image(Path::new(&path)).unwrap();
        println!("open");
        std::io::stdin().read_line(&mut String::new()).unwrap();
        for facts in questions() {
            answer(&gate, &facts);
        }
        println!("alive");
        return;
    }
    let image = Image::new();
    let file = image.file();
    let mut outcomes = Vec::new();
    for cut in [None, Some(64)] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "an_image_that_is_made_shorter_while_it_is_open_ends_the_process", "--nocapture", "--test-threads=1"])
            .env(CHILD, image.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert!(said.any(|line| line.ends_with("open")), "{:?}", child.wait());
        if let Some(length) = cut {
            file.set_len(length).unwrap();
        }
        child.stdin.take().unwrap().write_all(b"\n").unwrap();
        let alive = said.any(|line| line.ends_with("alive"));
        outcomes.push((alive, child.wait().unwrap().signal()));
    }
    assert_eq!(outcomes, [(true, None), (false, Some(libc::SIGBUS))]);
}
