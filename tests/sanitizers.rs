//! C programs with the library under sanitizers, both sides instrumented: AddressSanitizer and UndefinedBehaviorSanitizer
//! for what careless programs and many threads do, ThreadSanitizer for checks during loads.
//!
//! The library is built with the sanitizers of rustc, which stable compilers hide behind a variable.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "what goes wrong here ends the test, with a message")]

use std::path::{Path, PathBuf};
use std::process::Command;
use support::library;

mod support;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds the shared library with a sanitizer, and returns the directory that it is in.
fn instrumented(sanitizer: &str, flags: &[&str]) -> PathBuf {
    let directory = library::target_directory().join(format!("sanitizer-{sanitizer}"));
    let output = Command::new(env!("CARGO"))
        .args(["rustc", "--quiet", "--lib", "--crate-type", "cdylib", "--no-default-features", "--features", "capi"])
        .args(["--target", TARGET, "--config", "profile.dev.opt-level=1"])
        .args(flags)
        .arg("--target-dir")
        .arg(&directory)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", format!("-Zsanitizer={sanitizer}"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    directory.join(TARGET).join("debug")
}

/// Runs a program, which has to be silent but for what it prints itself.
fn run(program: &Path, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .env("ASAN_OPTIONS", "detect_leaks=1:detect_stack_use_after_return=1")
        .env("UBSAN_OPTIONS", "halt_on_error=1")
        .env("TSAN_OPTIONS", "halt_on_error=1")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.is_empty(), "{program:?} {}: {stderr}", output.status);
}

/// The memory of a library that is read after it was freed is what a sanitizer has to see: a program that does so on purpose
/// must not be silent, or else all other silence means nothing.
#[test]
fn addresses_and_undefined_behaviour() {
    if !support::available(&["gcc"]) {
        return;
    }
    let (library, directory) = (instrumented("address", &[]), tempfile::tempdir().unwrap());
    let flags = ["-pthread", "-std=gnu99", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
    let compile =
        |source: &str, more: &[&str]| library::compile_against(&library, "gcc", source, &[&flags[..], more].concat(), directory.path());
    run(&compile("tests/c/abuse.c", &[]), &[]);
    run(&compile("tests/c/storm.c", &[]), &["3", "40000", "30"]);
    // Not tests/c/forks.c: the allocator of AddressSanitizer itself does not outlive a fork() beside other threads.
    let freed = compile("tests/c/freed.c", &[]);
    let output = Command::new(freed).output().unwrap();
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("heap-use-after-free"), "{output:?}");
}

#[test]
fn threads() {
    let sysroot = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())).args(["--print", "sysroot"]).output().unwrap();
    let sysroot = PathBuf::from(String::from_utf8(sysroot.stdout).unwrap().trim());
    let source = sysroot.join("lib/rustlib/src/rust/library/Cargo.lock");
    if !support::available(&["gcc"]) || !source.exists() && !support::missing("the component rust-src (rustup component add rust-src)") {
        return;
    }
    let (library, directory) = (instrumented("thread", &["-Zbuild-std"]), tempfile::tempdir().unwrap());
    // The run-time library of rustc, because that of gcc lacks functions which it calls.
    let runtime = sysroot.join("lib/rustlib").join(TARGET).join("lib/librustc-stable_rt.tsan.a");
    let runtime = runtime.to_str().unwrap();
    let flags = ["-pthread", "-std=gnu99", "-fsanitize=thread", "-nodefaultlibs", "-rdynamic"];
    let libraries =
        ["-Wl,--whole-archive", runtime, "-Wl,--no-whole-archive", "-lstdc++", "-lresolv", "-lm", "-ldl", "-lc", "-lgcc_s", "-lgcc"];
    let compile = |source: &str| library::compile_against(&library, "gcc", source, &[&flags[..], &libraries].concat(), directory.path());
    run(&compile("tests/c/storm.c"), &["3", "100000", "60"]);
    let output = Command::new(compile("tests/c/race.c")).output().unwrap();
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("data race"), "{output:?}");
}
