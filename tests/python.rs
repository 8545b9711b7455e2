//! The Python package, as it stands in the tree and as a wheel: its doctests, its tests (tests/python/), the corpus, its
//! types, and a mail server written with it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "what goes wrong here ends the test, with a message"
)]

use mxgate::AuthResult;
use serde_json::{Value, json};
use std::fs;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use support::corpus::{self, Answer, CHECKS, Case};
use support::example::Example;
use support::library;
use support::smtp::Client;

mod support;

/// Runs the doctests of the installed package, all of them, and says how many there are.
const DOCTESTS: &str = "\
import doctest, importlib, pkgutil, mxgate
names = [module.name for module in pkgutil.iter_modules(mxgate.__path__) if module.name != '__main__']
results = [doctest.testmod(importlib.import_module('mxgate.' + name)) for name in names]
assert not sum(result.failed for result in results)
print(sum(result.attempted for result in results))
";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}:\n{}{}", text(&output.stdout), text(&output.stderr));
    output
}

/// Python with the package of the tree, the library as it is released, and warnings that are errors.
fn python(interpreter: &Path) -> Command {
    let mut command = Command::new(interpreter);
    command
        .args(["-B", "-W", "error"])
        .env("PYTHONPATH", root().join("examples/python"))
        .env("MXGATE_LIBRARY", library::directory().join("libmxgate.so"))
        .current_dir(root().join("tests/python"));
    command
}

/// A Python that has all these modules: the one in `PATH`, or the system's, which the packages of a distribution are for.
fn with_modules(modules: &str) -> Option<PathBuf> {
    let pythons = [support::find("python3"), Some("/usr/bin/python3".into())];
    let imports = |python: &PathBuf| {
        Command::new(python).args(["-c", &format!("import {modules}")]).output().is_ok_and(|output| output.status.success())
    };
    let found = pythons.into_iter().flatten().find(imports);
    if found.is_none() {
        support::skip(&format!("no Python has the modules {modules}"));
    }
    found
}

/// Runs a file of tests and checks that there were some.
fn unittest(command: &mut Command, file: &str) {
    let output = run(command.args(["-m", "unittest", file]));
    let ran = text(&output.stderr).lines().find_map(|line| line.strip_prefix("Ran ")?.split(' ').next()?.parse::<u32>().ok());
    assert!(ran.is_some_and(|count| count >= 3), "{output:?}");
}

fn check_doctests(command: &mut Command) {
    let output = run(command.args(["-c", DOCTESTS]));
    assert!(text(&output.stdout).trim().parse::<u32>().unwrap() >= 30, "{output:?}");
}

#[test]
fn doctests() {
    let Some(interpreter) = with_modules("ctypes") else { return };
    check_doctests(&mut python(&interpreter));
}

#[test]
fn the_header() {
    let Some(interpreter) = with_modules("ctypes") else { return };
    unittest(&mut python(&interpreter), "test_header");
}

#[test]
fn values_and_errors() {
    let Some(interpreter) = with_modules("ctypes") else { return };
    let directory = tempfile::tempdir().unwrap();
    let (image, gate) = (directory.path().join("policy.mxg"), mxgate::Gate::new());
    gate.load_text("hostname = \"mx.example.org\"\n[[list]]\nname = \"local\"\nentries = [\"192.0.2.0/24\"]\n", "policy").unwrap();
    gate.write_image(&image).unwrap();
    unittest(python(&interpreter).env("MXGATE_TEST_IMAGE", &image), "test_package");
}

#[test]
fn threads_and_processes() {
    let Some(interpreter) = with_modules("ctypes") else { return };
    // What is freed is overwritten, so that using it is noticed.
    unittest(python(&interpreter).env("MALLOC_PERTURB_", "165"), "test_threads");
}

#[test]
fn types() {
    let (true, Some(interpreter)) = (support::available(&["mypy"]), with_modules("aiosmtpd")) else { return };
    let cache = tempfile::tempdir().unwrap();
    let mypy = |arguments: &[&str]| {
        let mut command = Command::new("mypy");
        command.arg("--strict").arg("--cache-dir").arg(cache.path()).arg("--python-executable").arg(&interpreter);
        run(command.args(arguments).current_dir(root().join("examples/python")));
    };
    mypy(&["mxgate", "aiosmtpd_server.py"]);
    mypy(&["--python-version", "3.11", "build_wheel.py"]);
    // It is there to find mistakes, and does.
    fs::write(cache.path().join("wrong.py"), "import mxgate\nmxgate.Facts(ip=1)\n").unwrap();
    let output = Command::new("mypy")
        .arg("--strict")
        .arg("--cache-dir")
        .arg(cache.path())
        .arg(cache.path().join("wrong.py"))
        .env("MYPYPATH", root().join("examples/python"))
        .output()
        .unwrap();
    assert!(text(&output.stdout).contains("Argument \"ip\" to \"Facts\" has incompatible type \"int\""), "{output:?}");
}

#[test]
fn the_corpus() {
    let Some(interpreter) = with_modules("ctypes") else { return };
    for group in corpus::groups() {
        let questions = group.cases.iter().fold(String::new(), |questions, case| format!("{questions}{}\n", question(case)));
        let mut child = python(&interpreter).arg("ask.py").arg(&group.policy).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let writer = std::thread::spawn(move || stdin.write_all(questions.as_bytes()).unwrap());
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        assert!(output.status.success(), "{}: {:?}", group.policy.display(), output.status);
        let answers: Vec<Value> = text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(answers.len(), group.cases.len());
        for (case, answer) in group.cases.iter().zip(&answers) {
            check_answer(case, answer);
        }
    }
}

fn question(case: &Case) -> Value {
    let hex = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    let mut question = json!({
        "client": case.client,
        "authenticated": case.authenticated,
        "sender": hex(&case.sender),
        "recipient": hex(&case.recipient),
    });
    for (check, result) in CHECKS.into_iter().zip(case.results) {
        question[check] = if result == AuthResult::Unknown { "unknown" } else { result.name() }.into();
    }
    question
}

fn check_answer(case: &Case, answer: &Value) {
    let string = |name: &str| answer[name].as_str().unwrap();
    let number = |name: &str| answer[name].as_u64().unwrap();
    let reply = string("reply");
    let given = Answer::new(
        (number("code") != 0).then(|| reply.to_owned()),
        answer["hangup"].as_bool().unwrap(),
        number("decider") as u16,
        string("list"),
        string("entry"),
        &number("line").to_string(),
    );
    assert_eq!(given, case.answer, "{}", case.place);
    assert_eq!(number("generation"), 1, "{}", case.place);
    assert_eq!((reply.is_empty(), string("greeting").is_empty()), (number("code") == 0, number("code") == 0), "{}", case.place);
}

const SERVER_POLICY: &str = r#"hostname = "mx.example.org"
never_block.loopback = false
limits = { concurrent = 3, exempt = [] }
[[list]]
name = "botnets"
reply = "drop"
entries = ["127.0.0.32/28"]
[[list]]
name = "busy"
reply = "421 4.3.2 Come back tomorrow"
entries = ["127.0.0.48/28"]
[[list]]
name = "local"
entries = ["127.0.0.16/28 sent spam"]
[[senders]]
name = "spammers"
reply = "550 5.7.1 {helo} may not send as {sender}"
entries = ["spammer@example.com"]
[[domains]]
name = "later"
reply = "421 4.3.2 Come back tomorrow"
entries = ["later.example"]
[[domains]]
name = "parked"
entries = ["parked.example"]
"#;

#[test]
fn a_mail_server_for_asyncio() {
    let Some(interpreter) = with_modules("aiosmtpd") else { return };
    // As python() has it.
    let environment = [
        format!("PYTHONPATH={}", root().join("examples/python").display()),
        format!("MXGATE_LIBRARY={}", library::directory().join("libmxgate.so").display()),
    ];
    let script = root().join("examples/python/aiosmtpd_server.py");
    let server = Example::start(&support::find("env").unwrap(), SERVER_POLICY, |port, policy| {
        let command = [interpreter.display().to_string(), "-B".into(), "-Werror".into(), script.display().to_string()];
        environment.into_iter().chain(command).chain([policy.into(), "127.0.0.1".into(), port.to_string()]).collect()
    });
    unittest(python(&interpreter).env("PORT", server.address().port().to_string()), "test_server");

    let greeting = || {
        let mut client = Client::connect(Ipv4Addr::new(127, 0, 0, 70).into(), server.address()).unwrap();
        client.greeting().to_string()
    };
    server.change(&format!("{SERVER_POLICY}nonsense = 1\n"), "\"nonsense\" is not a key of [[domains]]");
    assert!(greeting().starts_with("220 "), "the rules in force stay");
    server.change(&SERVER_POLICY.replace("127.0.0.32/28", "127.0.0.64/28"), "the policy has changed");
    assert_eq!(greeting(), "521 mx.example.org Service unavailable; client [127.0.0.70] blocked using botnets");
    assert!(!server.log().contains("Traceback"), "{}", server.log());
}

#[test]
fn a_wheel_has_everything_in_it() {
    let Some(interpreter) = with_modules("tomllib, venv, ensurepip") else { return };
    if !support::available(&["readelf"]) {
        return;
    }
    let library = library::directory().join("libmxgate.so");
    let directory = tempfile::tempdir().unwrap();
    let build = |to: &str| {
        let script = root().join("examples/python/build_wheel.py");
        let output = run(Command::new(&interpreter).args(["-B", "-W", "error"]).arg(script).arg(directory.path().join(to)).arg(&library));
        PathBuf::from(text(&output.stdout).trim())
    };
    let wheel = build("one");
    assert_eq!(fs::read(&wheel).unwrap(), fs::read(build("two")).unwrap(), "the same input gives the same bytes");
    assert!(wheel.to_str().unwrap().ends_with(&format!("-py3-none-{}.whl", platform(&library))), "{wheel:?}");

    // Nothing from outside: no index, no package of the tree, no library but the one inside.
    let venv = directory.path().join("venv");
    run(Command::new(&interpreter).args(["-m", "venv"]).arg(&venv));
    let inside = || {
        let mut command = Command::new(venv.join("bin/python"));
        command.env_remove("PYTHONPATH").env_remove("MXGATE_LIBRARY").current_dir(directory.path());
        command
    };
    run(inside().args(["-m", "pip", "install", "--quiet", "--no-index", "--disable-pip-version-check"]).arg(&wheel));
    check_doctests(&mut inside());
    let check = "import mxgate; print(mxgate.__file__, mxgate.__version__, *[l for l in open('/proc/self/maps') if 'libmxgate' in l])";
    let output = run(inside().args(["-c", check]));
    let said = text(&output.stdout);
    assert!(said.starts_with(venv.to_str().unwrap()) && said.contains(concat!(" ", env!("CARGO_PKG_VERSION"))), "{said}");
    assert!(said.contains("site-packages/mxgate/libmxgate.so.1"), "{said}");

    let policy = directory.path().join("mxgate.toml");
    fs::write(&policy, SERVER_POLICY).unwrap();
    let output = inside().args(["-m", "mxgate"]).arg(&policy).arg("127.0.0.20").output().unwrap();
    let refused =
        "550 5.7.1 Service unavailable; client [127.0.0.20] blocked using local\nlocal, entry 127.0.0.16/28, line 14: sent spam\n";
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), refused), "{output:?}");
    let listed = run(inside().args(["-m", "pip", "--disable-pip-version-check", "show", "--files", "mxgate"]));
    for part in ["mxgate/py.typed", "licenses/LICENSE-MIT", concat!("Version: ", env!("CARGO_PKG_VERSION"))] {
        assert!(text(&listed.stdout).contains(part), "{}", text(&listed.stdout));
    }
}

/// Where a library runs, as a wheel says it (PEP 600), from what readelf says.
fn platform(library: &Path) -> String {
    let output = run(Command::new("readelf").args(["-h", "-d", "-V", "-W"]).arg(library));
    let said = text(&output.stdout);
    let needed: Vec<&str> = said.lines().filter_map(|line| line.split_once("Shared library: [")?.1.strip_suffix(']')).collect();
    let allowed = |name: &&str| ["libc.so.6", "libgcc_s.so.1", "libm.so.6"].contains(name) || name.starts_with("ld-linux");
    assert!(needed.contains(&"libc.so.6") && needed.iter().all(allowed), "PEP 600 has no others: {needed:?}");
    let versions = said.split("Name: GLIBC_2.").skip(1).filter_map(|rest| rest.split([' ', '.']).next()?.parse::<u32>().ok());
    format!("manylinux_2_{}_{}", versions.max().unwrap(), std::env::consts::ARCH)
}
