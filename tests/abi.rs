//! The ABI holds still: the functions that the shared library exports, the layout of the structures, the types that the
//! functions take. Each is compared with a file in tests/abi/. `BLESS=1 cargo test --test abi` writes those files anew, and the
//! number of functions in CHANGELOG.md; it takes no function away that has been released.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::unnecessary_cast,
    clippy::cast_lossless,
    reason = "what goes wrong here ends the test, with a message"
)]

use mxgate::capi::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::mem::offset_of;
use std::path::Path;
use std::process::{Command, Output};
use support::library;

mod support;

const LAYOUT: &str = "tests/abi/layout.txt";
const TYPES: &str = "tests/abi/libmxgate.abi";
const PRIVATE: &str = "tests/abi/private.ini";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn bless() -> bool {
    std::env::var_os("BLESS").is_some()
}

/// Compares the lines that there are with those of a committed file, or writes the file. Their order follows the header.
fn compare(path: &str, now: &str) {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let is = lines(now);
    if bless() && lines(&fs::read_to_string(root().join(path)).unwrap_or_default()) != is {
        fs::write(root().join(path), now).unwrap();
    }
    let was = lines(&read(path));
    let (gone, come): (Vec<_>, Vec<_>) = (was.difference(&is).collect(), is.difference(&was).collect());
    assert!(was == is, "{path} is not what there is: run BLESS=1 cargo test --test abi\nwas: {gone:#?}\nis: {come:#?}");
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The lines of the header that are no comment.
fn declarations() -> String {
    let header = read("include/mxgate.h");
    let mut code = String::new();
    let mut comment = false;
    for line in header.lines() {
        comment |= line.trim_start().starts_with("/*");
        if !comment {
            writeln!(code, "{line}").unwrap();
        }
        comment &= !line.ends_with("*/");
    }
    code
}

/// The functions that the header declares.
fn declared() -> BTreeSet<String> {
    let before_parenthesis = |line: &str| line.split_once('(').map(|(before, _)| before.rsplit([' ', '*']).next().unwrap().to_owned());
    declarations().lines().filter_map(before_parenthesis).filter(|name| name.starts_with("mxgate_")).collect()
}

/// Whether the change log says that a version is out.
fn released(version: &str) -> bool {
    !read("CHANGELOG.md").contains(&format!("\n## {version} (not released)\n"))
}

fn soname() -> String {
    format!("libmxgate.so.{MXGATE_ABI}")
}

/// The list of symbols as it has to be: as committed, with the version that brought each function.
fn symbols() -> String {
    let mut since = BTreeMap::new();
    let functions = declared();
    let committed = library::symbols();
    // Another ABI begins anew.
    for (name, version) in committed.get(&soname()).into_iter().flatten() {
        assert!(
            functions.contains(name) || !released(version),
            "{name}() was released with version {version}; it stays while MXGATE_ABI is {MXGATE_ABI}"
        );
        since.insert(name.as_str(), version.as_str());
    }
    let mut list = format!("{} libmxgate{MXGATE_ABI} #MINVER#\n", soname());
    for name in &functions {
        let version = since.get(name.as_str()).copied().unwrap_or_else(|| {
            let version = env!("CARGO_PKG_VERSION");
            assert!(!released(version), "{name}() needs a new version: {version} has been released without it");
            version
        });
        writeln!(list, " {name}@Base {version}").unwrap();
    }
    list
}

#[test]
fn the_library_exports_the_functions_of_the_header_and_nothing_else() {
    if !support::available(&["nm", "readelf"]) {
        return;
    }
    compare(library::SYMBOLS, &symbols());
    let library = library::directory().join("libmxgate.so");
    let exports = run(Command::new("nm").args(["-D", "--defined-only"]).arg(&library));
    let exported: BTreeSet<String> = text(&exports.stdout).lines().map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect();
    assert_eq!(exported, declared());
    assert!(exported.len() <= 32, "{exported:?}");
    let dynamic = run(Command::new("readelf").args(["-d", "-W"]).arg(&library));
    let dynamic = text(&dynamic.stdout);
    assert!(dynamic.contains(&format!("Library soname: [{}]", soname())), "{dynamic}");
    assert!(dynamic.lines().any(|line| line.contains("FLAGS_1") && line.contains("NODELETE")), "{dynamic}");
}

#[test]
fn the_change_log_says_how_many_functions_there_are() {
    let line = format!("ABI {MXGATE_ABI}, {} functions (`{}`).", declared().len(), soname());
    let log = read("CHANGELOG.md");
    let (_, newest) = log.split_once("\n## ").unwrap();
    let newest = newest.split("\n## ").next().unwrap();
    let stated = newest.lines().find(|line| line.starts_with("ABI ")).unwrap_or("nothing about the ABI");
    if bless() {
        fs::write(root().join("CHANGELOG.md"), log.replacen(stated, &line, 1)).unwrap();
    } else {
        assert_eq!(stated, line, "CHANGELOG.md: run BLESS=1 cargo test --test abi");
    }
    for (soname, functions) in library::symbols() {
        let number = functions.values().filter(|version| released(version)).count();
        let claim = format!(", {number} functions (`{soname}`).");
        assert!(number == 0 || log.contains(&claim), "CHANGELOG.md: no version has \"{claim}\", as {} says", library::SYMBOLS);
    }
}

/// Sizes and offsets as Rust has them, and values.
fn layout_in_rust() -> BTreeSet<String> {
    fn size<T, F>(_: fn(&T) -> &F) -> usize {
        size_of::<F>()
    }
    // Rust has no name for it that could be used here.
    let mut lines = BTreeSet::from(["MXGATE_NUL -1".to_owned()]);
    macro_rules! structures {
        ($($name:ident { $($field:ident)* })*) => { $(
            lines.insert(format!("{} {}", stringify!($name), size_of::<$name>()));
            $( lines.insert(format!(
                "{}.{} {} {}", stringify!($name), stringify!($field), offset_of!($name, $field), size(|it: &$name| &it.$field)
            )); )*
        )* };
    }
    macro_rules! constants {
        ($($name:ident)*) => { $( lines.insert(format!("{} {}", stringify!($name), $name as i64)); )* };
    }
    structures! {
        mxgate_facts {
            address_size flags address now spf dkim dmarc rdns port reserved helo helo_length sender sender_length recipient
            recipient_length
        }
        mxgate_counters { generation failed_loads networks domains bans checks rejected deferred would_refuse }
        mxgate_verdict {
            code hangup decider reserved1 line reserved2 generation reserved3 status list shadow entry reason host text
        }
    }
    constants! {
        MXGATE_ABI MXGATE_VERSION_NUMBER
        MXGATE_ACCEPT MXGATE_REJECT MXGATE_EINVAL MXGATE_ESYNTAX MXGATE_EIO MXGATE_ELIMIT MXGATE_EBUG
        MXGATE_FACTS MXGATE_VERDICT MXGATE_COUNTERS
        MXGATE_MODE_OF_POLICY MXGATE_MODE_OPEN MXGATE_MODE_MAINTENANCE MXGATE_MODE_DRAINING MXGATE_MODE_OVERLOADED MXGATE_MODE_NO_MAIL
        MXGATE_TEXT MXGATE_JSON
        MXGATE_AUTHENTICATED MXGATE_TLS MXGATE_TRUSTED
        MXGATE_RESULT_UNKNOWN MXGATE_RESULT_PASS MXGATE_RESULT_NONE MXGATE_RESULT_NEUTRAL MXGATE_RESULT_SOFTFAIL MXGATE_RESULT_FAIL
        MXGATE_RESULT_TEMPERROR MXGATE_RESULT_PERMERROR MXGATE_RESULT_POLICY
        MXGATE_LOG_ERROR MXGATE_LOG_WARNING MXGATE_LOG_INFO
        MXGATE_BY_NOTHING MXGATE_BY_MODE MXGATE_BY_NEVER_BLOCK MXGATE_BY_ALLOW MXGATE_BY_BLOCK MXGATE_BY_DOMAIN MXGATE_BY_SENDER
        MXGATE_BY_RELAY MXGATE_BY_RECIPIENT MXGATE_BY_AUTHENTICATION MXGATE_BY_BAN MXGATE_BY_LIMIT
        MXGATE_AT_CONNECT MXGATE_AT_HELO MXGATE_AT_MAIL MXGATE_AT_RCPT
        MXGATE_FOR_CLIENT MXGATE_FOR_MILTER MXGATE_FOR_POSTFIX MXGATE_FOR_EXIM MXGATE_FOR_OPENSMTPD
    }
    lines
}

/// A C program that prints the same lines about everything that the header has.
fn layout_program() -> String {
    let mut program = String::from("#include <mxgate.h>\n#include <stdio.h>\nint main(void)\n{\n");
    let mut structure = None;
    // "#define MXGATE_TEXT 0", "typedef struct mxgate_facts {", "uint8_t address[16];", "const char *helo;"
    for line in declarations().lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match (words[..].first(), structure) {
            (Some(&"#define"), _) if words.len() > 2 => {
                let name = words[1];
                writeln!(program, "printf(\"{name} %ld\\n\", (long){name});").unwrap();
            }
            (Some(&"typedef"), _) if words.last() == Some(&"{") => {
                let name = words[2];
                writeln!(program, "printf(\"{name} %lu\\n\", (unsigned long)sizeof({name}));").unwrap();
                structure = Some(name);
            }
            (Some(&"}"), _) => structure = None,
            (Some(_), Some(name)) => {
                let field = words.last().unwrap().trim_start_matches('*').split([';', '[']).next().unwrap();
                let (offset, size) = (format!("offsetof({name}, {field})"), format!("sizeof((({name} *)0)->{field})"));
                writeln!(program, "printf(\"{name}.{field} %lu %lu\\n\", (unsigned long){offset}, (unsigned long){size});").unwrap();
            }
            _ => {}
        }
    }
    program + "return 0;\n}\n"
}

#[test]
fn structures_and_constants_are_laid_out_as_committed_in_c_and_in_rust() {
    if !support::available(&["cc"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (source, program) = (directory.path().join("layout.c"), directory.path().join("layout"));
    fs::write(&source, layout_program()).unwrap();
    let made = run(Command::new("cc").arg("-I").arg(root().join("include")).arg("-o").arg(&program).arg(&source));
    assert!(made.status.success(), "{}", text(&made.stderr));
    let output = run(&mut Command::new(&program));
    let in_c = text(&output.stdout);
    let (c, rust): (BTreeSet<String>, _) = (in_c.lines().map(str::to_owned).collect(), layout_in_rust());
    let differences: Vec<_> = c.symmetric_difference(&rust).collect();
    assert!(differences.is_empty(), "C and Rust do not agree, or tests/abi.rs lacks a name: {differences:#?}");
    // The file is for 64 bits.
    if cfg!(target_pointer_width = "64") {
        compare(LAYOUT, in_c);
    }
}

/// The types of all functions and structures, as abidw reads them from the debugging information of the library: without what
/// is behind the pointers of the ABI, and without what changes from one build to the next.
fn types() -> String {
    let directory = library::with_types();
    let output = run(Command::new("abidw")
        .args(["--no-corpus-path", "--no-comp-dir-path", "--no-show-locs", "--no-elf-needed", "--drop-private-types", "--suppressions"])
        .arg(root().join(PRIVATE))
        .arg(directory.join("libmxgate.so")));
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let mut kept: Vec<&str> = Vec::new();
    for line in text(&output.stdout).lines() {
        // Most compilation units have no part in the ABI.
        if line == "  </abi-instr>" && kept.last().is_some_and(|line| line.starts_with("  <abi-instr ")) {
            kept.pop();
        } else {
            kept.push(line);
        }
    }
    let mut types = String::new();
    for line in kept {
        let (before, rest) = line.split_once(" path='src/lib.rs/").unwrap_or((line, ""));
        let after = rest.split_once('\'').map_or("", |(_, after)| after);
        writeln!(types, "{before}{after}").unwrap();
    }
    types
}

/// What abidiff says about two descriptions; `None` for no difference.
fn difference(old: &Path, new: &Path) -> Option<String> {
    let output = run(Command::new("abidiff").arg("--suppressions").arg(root().join(PRIVATE)).args([old, new]));
    // Bits: 1 an error, 2 bad usage, 4 a change, 8 an incompatible one.
    let status = output.status.code().unwrap();
    assert!(status & 3 == 0, "{output:?}");
    (status != 0).then(|| text(&output.stdout).to_owned())
}

#[test]
fn functions_take_and_return_what_they_did() {
    // The description is that of one architecture: char has a sign there.
    if cfg!(not(target_arch = "x86_64")) || !support::available(&["abidw", "abidiff"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (committed, now) = (root().join(TYPES), directory.path().join("now.abi"));
    let types = types();
    fs::write(&now, &types).unwrap();
    if bless() && (!committed.exists() || difference(&committed, &now).is_some()) {
        fs::write(&committed, &types).unwrap();
    }
    if let Some(report) = difference(&committed, &now) {
        panic!(
            "the ABI has changed: {report}\nFunctions may be added, and fields at the end of structures that travel with their size: run \
            BLESS=1 cargo test --test abi"
        );
    }
}

/// The comparison above can fail: changed descriptions are told from the committed one.
#[test]
fn each_kind_of_change_is_seen() {
    if bless() || !support::available(&["abidiff"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (committed, changed) = (root().join(TYPES), directory.path().join("changed.abi"));
    let types = read(TYPES);
    let tag = |part: &str| types.lines().find(|line| line.contains(part)).unwrap_or_else(|| panic!("no {part}"));
    let attribute = |part: &str, name: &str| {
        let (_, after) = tag(part).split_once(&format!("{name}='")).unwrap();
        format!("{name}='{}'", after.split('\'').next().unwrap())
    };
    let id = |part: &str| attribute(part, "type-id");
    let edited = |part: &str, from: &str, to: &str| types.replacen(tag(part), &tag(part).replace(from, to), 1);
    let without = |part: &str| types.replacen(&format!("{}\n", tag(part)), "", 1);
    for (what, named, description) in [
        ("a function less", "mxgate_free", without("elf-symbol name='mxgate_free'")),
        ("a parameter less", "mxgate_ban", without("name='seconds'")),
        ("a parameter of another size", "mxgate_ban", edited("name='seconds'", &id("name='seconds'"), &id("name='port'"))),
        ("a field of another size", "mxgate_verdict", edited("name='code'", &id("name='code'"), &id("name='line'"))),
        ("a field at another place", "mxgate_verdict", edited("layout-offset-in-bits='7552'", "7552", "7560")),
        ("a structure of another size", "mxgate_verdict", edited("'mxgate_verdict'", "10752", "10816")),
    ] {
        assert_ne!(types, description, "{what}");
        fs::write(&changed, description).unwrap();
        let report = difference(&committed, &changed).unwrap_or_else(|| panic!("{what} is not seen"));
        assert!(report.contains(named), "{what}: {report}");
    }
    // Not part of the ABI: what a gate is inside.
    let gate = "class-decl name='mxgate_gate' ";
    let size = attribute(gate, "size-in-bits");
    fs::write(&changed, edited(gate, &size, "size-in-bits='64'")).unwrap();
    assert_eq!(difference(&committed, &changed), None);
}
