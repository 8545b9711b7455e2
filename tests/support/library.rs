//! The shared library as it is released, and C programs that use it.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Builds the release library, one crate type at a time (with several cargo silently leaves out link-time
/// optimisation), and returns the directory that holds `libmxgate.so`.
pub fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        // Below the directory that this program was built in. (The demo, which is no integration test, is not told.)
        let Some(scratch) = option_env!("CARGO_TARGET_TMPDIR") else { panic!("only integration tests build the library") };
        let target = Path::new(scratch).join("../library");
        let status = Command::new(env!("CARGO"))
            .args(["rustc", "--quiet", "--release", "--lib", "--crate-type", "cdylib", "--no-default-features", "--features", "capi"])
            .arg("--target-dir")
            .arg(&target)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .unwrap();
        assert!(status.success(), "the release library does not build");
        target.join("release")
    })
}

/// The functions of the library in the form of deb-symbols(5), so that Debian packages can use it.
pub const SYMBOLS: &str = "tests/abi/symbols.txt";

/// For each SONAME the functions, each with the version that brought it.
pub fn symbols() -> BTreeMap<String, BTreeMap<String, String>> {
    let list = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(SYMBOLS)).unwrap_or_default();
    let mut symbols: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut soname = "";
    for line in list.lines() {
        match line.strip_prefix(' ').and_then(|line| line.split_once("@Base ")) {
            Some((name, version)) => symbols.entry(soname.into()).or_default().insert(name.into(), version.into()),
            None => {
                soname = line.split(' ').next().unwrap();
                None
            }
        };
    }
    symbols
}

/// Builds the shared library with the types of its functions as debugging information, and returns the directory that it is in.
/// Without optimisation: types do not depend on it.
pub fn with_types() -> PathBuf {
    let target = target_directory().join("types");
    let output = Command::new(env!("CARGO"))
        .args(["rustc", "--quiet", "--lib", "--crate-type", "cdylib", "--no-default-features", "--features", "capi", "--target-dir"])
        .arg(&target)
        .args(["--config", "profile.dev.debug=0", "--config", "profile.dev.incremental=false"])
        .args(["--", "-C", "debuginfo=2", "-C", "strip=none", "-C", "codegen-units=1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    target.join("debug")
}

/// The directory that this program was built in, so that all builds stay in one place: above debug/deps or debug/examples.
pub fn target_directory() -> PathBuf {
    let program = env::current_exe().unwrap();
    program.ancestors().nth(3).unwrap().to_path_buf()
}

/// Compiles a C program against the header and the release library; `source` counts from the root of the package. A link
/// named like the SONAME stands beside the program.
pub fn compile(source: &str, flags: &[&str], to: &Path) -> PathBuf {
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".into());
    compile_against(directory(), &compiler, source, flags, to)
}

/// As [`compile`], for a C++ program.
pub fn compile_cpp(source: &str, to: &Path) -> PathBuf {
    let compiler = env::var("CXX").unwrap_or_else(|_| "c++".into());
    compile_against(directory(), &compiler, source, &["-Wold-style-cast"], to)
}

/// As [`compile`], with a compiler against the library in a directory. A warning is an error.
pub fn compile_against(library: &Path, compiler: &str, source: &str, flags: &[&str], to: &Path) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = to.join(Path::new(source).file_stem().unwrap());
    let soname = to.join("libmxgate.so.1");
    if !soname.exists() {
        std::os::unix::fs::symlink(library.join("libmxgate.so"), &soname).unwrap();
    }
    let output = Command::new(compiler)
        .arg(if source.ends_with(".cpp") { "-std=c++17" } else { "-std=c99" })
        .args(["-Wall", "-Wextra", "-pedantic", "-Wconversion", "-Wshadow", "-Werror", "-O1", "-g"])
        .arg("-I")
        .arg(root.join("include"))
        .arg("-o")
        .arg(&program)
        .arg(root.join(source))
        .args(flags) // after the source, because there may be libraries among them
        .arg("-L")
        .arg(library)
        .arg("-lmxgate")
        .arg(format!("-Wl,-rpath,{}", to.display()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{compiler} {source}:\n{}", String::from_utf8_lossy(&output.stderr));
    program
}
