//! Every format against its samples in `tests/lists/FORMAT/`: what a reader makes of `NAME.EXT` is what `NAME.EXT.ref` says.
//! `BLESS=1` writes the references anew; then each one wants a look.
//!
//! The name of a sample says how it is read: `domains-*` and `mailboxes-*` what it is about, `*-threshold-5` the least score,
//! `undetected-*` that the format is not to be told from the text alone.

use super::rbldnsd::Kind;
use super::{About, Action, ENTRY, Field, Format, Reading, Record, Sink, Statement, Subject, compressed, detect};
use crate::diagnostic::{Diagnostic, Fault};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The time of all samples: 2026-09-21 14:13:20 UTC.
const NOW: u64 = 1_790_000_000;

/// Writes down what a reader finds.
struct Dump {
    file: Arc<str>,
    text: String,
}

fn show(subject: &Subject<'_>) -> String {
    match subject {
        Subject::Network(network) => network.to_string(),
        Subject::Range(first, last) => format!("{first}-{last}"),
        Subject::Domain(form, name) => format!("{}{name}", form.prefix()),
        Subject::Mailbox(text) => (*text).into(),
    }
}

impl Sink for Dump {
    fn record(&mut self, record: Record<'_>) {
        let Record { line, column, subject, field, action, reason, expires } = record;
        write!(self.text, "{line}:{column} {}", show(&subject)).unwrap();
        if field != Field::Any {
            write!(self.text, " {field:?}").unwrap();
        }
        match action {
            Action::Cover => {}
            Action::Hole => self.text.push_str(" hole"),
            Action::Reply(reply) => write!(self.text, " reply {reply:?}").unwrap(),
        }
        if !reason.is_empty() {
            write!(self.text, " \"{}\"", reason.escape_ascii()).unwrap();
        }
        if let Some(expires) = expires {
            write!(self.text, " expires {expires}").unwrap();
        }
        self.text.push('\n');
    }

    fn record_around(&mut self, record: Record<'_>) {
        let reason = record.reason.split(|byte| *byte == ENTRY).collect::<Vec<_>>().join(&b"{entry}"[..]);
        self.record(Record { reason: &reason, ..record });
    }

    fn delete(&mut self, subject: Subject<'_>) {
        writeln!(self.text, "delete {}", show(&subject)).unwrap();
    }

    fn fault(&mut self, line: u32, column: u32, fault: Fault) {
        writeln!(self.text, "{}", fault.at(&self.file, line, column)).unwrap();
    }

    fn warn(&mut self, line: u32, column: u32, fault: Fault) {
        writeln!(self.text, "{}", Diagnostic::warning(fault.at(&self.file, line, column))).unwrap();
    }
}

/// How a sample is read, by its name.
fn reading(name: &str) -> Reading {
    let about = match name.split('-').next() {
        Some("domains") => About::Domains,
        Some("mailboxes") => About::Mailboxes,
        _ => About::Addresses,
    };
    let threshold = name.split_once("-threshold-").and_then(|(_, rest)| rest.split('.').next()).map(|number| number.parse().unwrap());
    Reading { about, now: NOW, threshold }
}

pub(super) fn dump(format: Format, name: &str, input: &mut dyn BufRead) -> String {
    let mut dump = Dump { file: name.into(), text: String::new() };
    match format.read(input, &reading(name), &mut dump) {
        Ok(statement) if statement == Statement::default() => {}
        Ok(Statement { entries, made, expires, complete, widest_v4, ordered }) => {
            dump.text.push_str("states");
            for (name, number) in [("entries", entries), ("made", made), ("expires", expires), ("widest_v4", widest_v4.map(u64::from))] {
                if let Some(number) = number {
                    write!(dump.text, " {name} {number}").unwrap();
                }
            }
            if let Some(complete) = complete {
                write!(dump.text, " complete {complete}").unwrap();
            }
            if ordered {
                dump.text.push_str(" ordered");
            }
            dump.text.push('\n');
        }
        Err(error) => writeln!(dump.text, "input: {error}").unwrap(),
    }
    dump.text
}

/// Formats of mail and DNSBL servers.
pub(super) fn of_server(format: Format) -> bool {
    matches!(format, Format::Rbldnsd(_) | Format::PostfixCidr | Format::PostfixAccess | Format::SendmailAccess)
}

/// All samples: format, file, its name.
fn samples() -> Vec<(Format, PathBuf, String)> {
    samples_of(|_| true)
}

pub(super) fn samples_of(wanted: impl Fn(Format) -> bool) -> Vec<(Format, PathBuf, String)> {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lists");
    let mut samples = Vec::new();
    for (name, format) in Format::ALL.iter().filter(|(_, format)| wanted(*format)) {
        let mut files: Vec<PathBuf> = fs::read_dir(base.join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in files.into_iter().filter(|file| file.extension().is_some_and(|extension| extension != "ref")) {
            let name = file.file_name().unwrap().to_str().unwrap().to_owned();
            samples.push((*format, file, name));
        }
    }
    samples
}

fn open(file: &Path) -> Box<dyn BufRead> {
    compressed::open(Box::new(BufReader::new(File::open(file).unwrap()))).unwrap()
}

#[test]
fn samples_are_read_as_their_references_say() {
    let bless = std::env::var_os("BLESS").is_some();
    let mut wrong = Vec::new();
    for (format, file, name) in samples() {
        let found = dump(format, &name, &mut open(&file));
        let reference = file.with_file_name(format!("{name}.ref"));
        if bless {
            fs::write(&reference, &found).unwrap();
        }
        let want = fs::read_to_string(&reference).unwrap_or_default();
        if found != want {
            wrong.push(format!("{}:\n--- wanted\n{want}--- found\n{found}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Samples of each format: so many that are accepted, each of another shape, and so many mistakes, each another one.
const ENOUGH: usize = 8;

/// A text without its numbers and words, so that lines of the same shape are the same.
fn shape(text: &str) -> String {
    let kind = |c: char| {
        if c.is_ascii_digit() {
            '9'
        } else if c.is_alphabetic() {
            'a'
        } else {
            c
        }
    };
    let mut shape: Vec<char> = text.chars().map(kind).collect();
    shape.dedup_by(|one, other| one == other && matches!(one, '9' | 'a'));
    shape.into_iter().collect()
}

/// What is wrong and what to do about it, without what it is about: quotations and numbers.
fn mistake(message: &str) -> String {
    let unquoted: Vec<&str> = message.split('"').step_by(2).collect();
    let words = unquoted.join("\"\"");
    let words = words.split(' ').map(|word| if word.contains(|c: char| c.is_ascii_digit()) { "9" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn every_format_has_enough_samples() {
    let mut table = String::new();
    let mut enough = true;
    for (format_name, format) in Format::ALL {
        let (mut accepted, mut refused) = (BTreeSet::new(), BTreeSet::new());
        for (_, file, name) in samples_of(|one| one == *format) {
            let mut text = Vec::new();
            open(&file).read_to_end(&mut text).unwrap();
            let lines: Vec<String> = text.split(|byte| *byte == b'\n').map(|line| String::from_utf8_lossy(line).into_owned()).collect();
            let reference = fs::read_to_string(file.with_file_name(format!("{name}.ref"))).unwrap();
            for found in reference.lines() {
                let fault = found.strip_prefix(&format!("{name}:")).and_then(|rest| rest.splitn(3, ':').nth(2));
                if let Some(message) = fault.map(str::trim).filter(|message| !message.starts_with("warning: ")) {
                    refused.insert(mistake(message));
                }
                let record =
                    found.split_once(' ').and_then(|(place, record)| Some((place.split_once(':')?.0.parse::<usize>().ok()?, record)));
                if let Some((line, record)) = record {
                    accepted.insert(shape(&format!("{} {record}", lines[line - 1])));
                }
            }
        }
        writeln!(table, "{format_name}: {} accepted, {} refused", accepted.len(), refused.len()).unwrap();
        enough &= accepted.len() >= ENOUGH && refused.len() >= ENOUGH;
    }
    assert!(enough, "fewer than {ENOUGH} samples of a format:\n{table}");
}

/// Two of rbldnsd's kinds look like two others.
fn same_kind(one: Format, other: Format) -> bool {
    matches!((one, other), (Format::Rbldnsd(_), Format::Rbldnsd(_)))
}

#[test]
fn samples_are_detected_as_what_they_are() {
    let mut detected = Vec::new();
    for (format, file, name) in samples_of(|format| !of_server(format)) {
        let (found, _) = detect::detect(open(&file), reading(&name).about).unwrap();
        if name.contains("undetected") {
            assert_ne!(found, Ok(format), "{}", file.display());
        } else {
            assert_eq!(found, Ok(format), "{}", file.display());
            detected.push(format);
        }
    }
    for (format, file, _) in samples_of(of_server) {
        // Some of them are too short to tell; then they are read as plain and refused line by line, or the policy says.
        let (found, _) = detect::detect(open(&file), About::Addresses).unwrap();
        assert!(
            found.as_ref().map_or(true, |found| *found == format || *found == Format::Plain || same_kind(*found, format)),
            "{}: {found:?}",
            file.display()
        );
        detected.extend(found.ok().filter(|found| *found == format));
    }
    let told_apart = |format: &Format| !matches!(format, Format::Rbldnsd(Kind::Ip4Trie | Kind::Ip6Tset));
    for (name, format) in Format::ALL.iter().filter(|(_, format)| told_apart(format)) {
        assert!(detected.contains(format), "no sample of {name} is detected");
    }
}

/// A disk that fails.
struct Failing;

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("the disk fails"))
    }
}

#[test]
fn errors_of_the_input_are_passed_on() {
    for (format, file, name) in samples() {
        // Wherever it fails, also where a list could end.
        let mut text = Vec::new();
        open(&file).read_to_end(&mut text).unwrap();
        let mut input = BufReader::new(text.chain(Failing));
        let mut sink = Dump { file: "".into(), text: String::new() };
        match format.read(&mut input, &reading(&name), &mut sink) {
            Err(error) => assert_eq!(error.to_string(), "the disk fails", "{}", file.display()),
            // What is not JSON is not read to its end.
            Ok(_) => assert!(format == Format::CrowdsecJson && sink.text.contains("; give"), "{}: {}", file.display(), sink.text),
        }
    }
}

#[test]
fn every_format_has_a_name() {
    for (name, format) in Format::ALL {
        assert_eq!((Format::named(name), format.name()), (Some(*format), *name));
    }
    assert_eq!(Format::named("excel"), None);
}

/// Reads bytes as every format, and as what they are detected to be.
fn read_all(bytes: &[u8]) {
    for name in ["x", "domains-x", "mailboxes-x", "x-threshold-5.txt"] {
        for (_, format) in Format::ALL {
            dump(*format, name, &mut &*bytes);
        }
        let _ = detect::format_of(bytes, false, reading(name).about);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        read_all(&bytes);
    }

    #[test]
    fn random_text_never_panics(text in "[\\[\\]{}\":,;#!*/ \\t\\n\\r0-9a-f.\\-]{0,300}") {
        read_all(text.as_bytes());
    }

    #[test]
    fn mutated_samples_never_panic(which: prop::sample::Index, edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..8)) {
        let samples = samples();
        let mut bytes = fs::read(&which.get(&samples).1).unwrap();
        for (at, byte, kind) in edits {
            let at = at.index(bytes.len() + 1);
            match kind {
                0 => bytes.insert(at, byte),
                1 => drop(bytes.drain(at..(at + usize::from(byte) % 8).min(bytes.len()))),
                2 => bytes.truncate(at),
                _ => if let Some(old) = bytes.get_mut(at) { *old = byte },
            }
        }
        read_all(&bytes);
    }
}
