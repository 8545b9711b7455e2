//! The shared library as it is released, and C programs that use it.

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
            .args(["rustc", "--quiet", "--release", "--lib", "--crate-type", "cdylib", "--no-default-features", "--target-dir"])
            .arg(&target)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .unwrap();
        assert!(status.success(), "the release library does not build");
        target.join("release")
    })
}

/// Compiles a C program against the header and the library; `source` counts from the root of the package. A link
/// named like the SONAME stands beside the program.
pub fn compile(source: &str, flags: &[&str], to: &Path) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = to.join(Path::new(source).file_stem().unwrap());
    let soname = to.join("libmxgate.so.1");
    if !soname.exists() {
        std::os::unix::fs::symlink(directory().join("libmxgate.so"), &soname).unwrap();
    }
    let output = Command::new(env::var_os("CC").unwrap_or_else(|| "cc".into()))
        .args(["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Wconversion", "-Werror", "-O1", "-g"])
        .args(flags)
        .arg("-I")
        .arg(root.join("include"))
        .arg("-o")
        .arg(&program)
        .arg(root.join(source))
        .arg("-L")
        .arg(directory())
        .arg("-lmxgate")
        .arg(format!("-Wl,-rpath,{}", to.display()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{source}:\n{}", String::from_utf8_lossy(&output.stderr));
    program
}
