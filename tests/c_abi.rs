//! The shared library as C, C++ and Python programs meet it: the examples, and what becomes of careless calls.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "what goes wrong here ends the test, with a message"
)]

use std::path::Path;
use std::process::{Command, Output};
use support::library;

mod support;

const POLICY: &str = r#"
hostname = "mx.example.org"
[[list]]
name = "local"
entries = ["192.0.2.0/24 sent spam"]
[[domains]]
name = "parked"
entries = ["parked.example"]
"#;

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

#[test]
fn careless_calls_give_an_error_and_accept() {
    if !support::available(&["cc", "valgrind"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let program = library::compile("tests/c/abuse.c", &[], directory.path());
    let output = run(&mut Command::new(&program));
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    let valgrind = run(Command::new("valgrind")
        .args(["--quiet", "--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite"])
        .arg(&program));
    assert!(valgrind.status.success(), "{}", text(&valgrind.stderr));
}

#[test]
fn the_wrapper_for_cpp_keeps_its_promises() {
    if !support::available(&["c++", "valgrind"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let program = library::compile_cpp("tests/c/wrapper.cpp", directory.path());
    let output = run(&mut Command::new(&program));
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    // The program has an operator delete of its own, to which valgrind has no operator new.
    let valgrind = run(Command::new("valgrind")
        .args(["--quiet", "--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite", "--show-mismatched-frees=no"])
        .arg(&program));
    assert!(valgrind.status.success(), "{}", text(&valgrind.stderr));
}

/// Runs an example over questions whose answers are known.
fn check_example(ask: impl Fn(&Path, &[&str]) -> Output) {
    let directory = tempfile::tempdir().unwrap();
    let policy = directory.path().join("mxgate.toml");
    std::fs::write(&policy, POLICY).unwrap();
    let listed = "550 5.7.1 Service unavailable; client [192.0.2.7] blocked using local\nlocal, entry 192.0.2.0/24, line 5: sent spam\n";
    let parked = "521 5.3.2 parked.example does not accept mail\nparked, entry parked.example, line 8: \n";
    for (question, status, answer) in [
        (&["198.51.100.1"][..], 0, "accept\n"),
        (&["198.51.100.1", "<user@example.org>"], 0, "accept\n"),
        (&["192.0.2.7"], 1, listed),
        (&["::ffff:192.0.2.7", "user@example.org"], 1, listed),
        (&["198.51.100.1", "<user@parked.example>"], 1, parked),
    ] {
        let output = ask(&policy, question);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(status), answer), "{question:?} {output:?}");
        assert_eq!(text(&output.stderr), "");
    }
    for question in [&["nonsense"][..], &[], &["192.0.2.7", "a", "b"]] {
        let output = ask(&policy, question);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{output:?}");
    }
    std::fs::write(&policy, format!("{POLICY}nonsense = 1\n")).unwrap();
    let output = ask(&policy, &["192.0.2.7"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("mxgate.toml:9:1: \"nonsense\" is not a key of [[domains]]; use name, entries"), "{output:?}");
}

#[test]
fn the_example_in_c() {
    if !support::available(&["cc"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let program = library::compile("examples/check.c", &["-std=c89"], directory.path());
    check_example(|policy, question| run(Command::new(&program).arg(policy).args(question)));
}

#[test]
fn the_example_in_cpp() {
    if !support::available(&["c++"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let program = library::compile_cpp("examples/check.cpp", directory.path());
    check_example(|policy, question| run(Command::new(&program).arg(policy).args(question)));
}

#[test]
fn the_examples_in_c_compile_without_a_warning() {
    if !support::available(&["gcc", "clang"]) {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (compiler, example) in
        ["gcc", "clang"].iter().flat_map(|cc| ["check", "milter", "greeter", "exim_dlfunc", "opensmtpd_filter"].map(|name| (cc, name)))
    {
        let output = run(Command::new(compiler)
            .args(["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Wconversion", "-Werror", "-O2", "-c", "-o", "/dev/null", "-I"])
            .arg(root.join("include"))
            .arg(root.join("examples").join(example).with_extension("c")));
        assert!(output.status.success(), "{compiler} {example}.c:\n{}", text(&output.stderr));
    }
}

#[test]
fn the_example_in_python() {
    if !support::available(&["python3"]) {
        return;
    }
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/python");
    check_example(|policy, question| {
        run(Command::new("python3")
            .args(["-B", "-W", "error", "-m", "mxgate"])
            .arg(policy)
            .args(question)
            .env("PYTHONPATH", &package)
            .env("MXGATE_LIBRARY", library::directory().join("libmxgate.so")))
    });
}
