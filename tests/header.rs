//! include/mxgate.h is what cbindgen makes of src/capi/; it compiles in every language mode, and mxgate.hpp from C++17 on.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "what goes wrong here ends the test, with a message"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

mod support;

const HEADER: &str = "include/mxgate.h";

#[test]
fn the_committed_header_is_the_generated_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).unwrap();
    let mut made = Vec::new();
    // The other files of the directory are found from there.
    cbindgen::Builder::new().with_config(config).with_src(root.join("src/capi/mod.rs")).generate().unwrap().write(&mut made);
    let made = String::from_utf8(made).unwrap();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(root.join(HEADER), &made).unwrap();
    }
    let committed = std::fs::read_to_string(root.join(HEADER)).unwrap();
    assert!(made == committed, "{HEADER} is not up to date: run BLESS=1 cargo test --test header");
}

#[test]
fn the_version_in_the_header_is_that_of_the_package() {
    let number = |name: &str| name.parse::<u32>().unwrap();
    let version = number(env!("CARGO_PKG_VERSION_MAJOR")) << 16
        | number(env!("CARGO_PKG_VERSION_MINOR")) << 8
        | number(env!("CARGO_PKG_VERSION_PATCH"));
    assert_eq!(mxgate::capi::MXGATE_VERSION_NUMBER, version);
}

#[test]
fn the_header_compiles_in_every_language_mode_with_two_compilers() {
    if !support::available(&["gcc", "g++", "clang", "clang++"]) {
        return;
    }
    let strict = ["-Wall", "-Wextra", "-pedantic", "-Wconversion", "-Werror", "-fsyntax-only"];
    let c = ["c89", "c99", "c11", "c17", "c2x"];
    let cpp = ["c++98", "c++11", "c++14", "c++17", "c++20", "c++2b"];
    let dir = tempfile::tempdir().unwrap();
    let functions: Vec<String> = support::library::symbols().into_values().flat_map(BTreeMap::into_keys).collect();
    assert!(!functions.is_empty());
    for (compilers, standards, suffix, cast, warnings) in [
        (["gcc", "clang"], &c[..], "c", "(function)NAME", &["-Wstrict-prototypes", "-Wmissing-prototypes"][..]),
        (["g++", "clang++"], &cpp[..], "cc", "reinterpret_cast<function>(NAME)", &["-Wold-style-cast"][..]),
    ] {
        // Included twice, a value of each structure, and the address of each function.
        let source = dir.path().join(format!("twice.{suffix}"));
        let addresses: Vec<String> = functions.iter().map(|name| cast.replace("NAME", name)).collect();
        let text = format!(
            "#include \"mxgate.h\"\n#include \"mxgate.h\"\n\
             extern struct mxgate_facts facts; struct mxgate_facts facts;\n\
             extern struct mxgate_counters counters; struct mxgate_counters counters;\n\
             extern struct mxgate_verdict verdict; struct mxgate_verdict verdict;\n\
             typedef void (*function)(void);\n\
             extern const function functions[];\n\
             const function functions[] = {{\n{}\n}};\n",
            addresses.join(",\n")
        );
        std::fs::write(&source, text).unwrap();
        for compiler in compilers {
            for standard in standards {
                let output = Command::new(compiler)
                    .arg(format!("-std={standard}"))
                    .args(strict)
                    .args(warnings)
                    .args(["-I", "include"])
                    .arg(&source)
                    .current_dir(env!("CARGO_MANIFEST_DIR"))
                    .output()
                    .unwrap();
                assert!(output.status.success(), "{compiler} -std={standard}:\n{}", String::from_utf8_lossy(&output.stderr));
            }
        }
    }
}

#[test]
fn the_wrapper_for_cpp_compiles_from_cpp17_on_with_two_compilers() {
    if !support::available(&["g++", "clang++"]) {
        return;
    }
    // After the header for C, twice, and in a program that uses all of it.
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("twice.cc");
    std::fs::write(&source, "#include \"mxgate.h\"\n#include \"mxgate.hpp\"\n#include \"../tests/c/wrapper.cpp\"\n").unwrap();
    for compiler in ["g++", "clang++"] {
        for standard in ["c++17", "c++20", "c++2b"] {
            let output = Command::new(compiler)
                .arg(format!("-std={standard}"))
                .args(["-Wall", "-Wextra", "-pedantic", "-Wconversion", "-Wsign-conversion", "-Wshadow", "-Wold-style-cast"])
                .args(["-Wnon-virtual-dtor", "-Werror", "-fsyntax-only", "-I", "include"])
                .arg(&source)
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .output()
                .unwrap();
            assert!(output.status.success(), "{compiler} -std={standard}:\n{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}
