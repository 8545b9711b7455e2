//! Link arguments of the shared library, and nothing else: writes no file.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    if matches!(variable("CARGO_CFG_TARGET_OS").as_str(), "linux" | "freebsd" | "openbsd" | "netbsd") {
        // The number is MXGATE_ABI of include/mxgate.h.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libmxgate.so.1");
        // Thread-local destructors of Rust's library run when a thread ends; if dlclose() had unmapped
        // them by then, the host would crash (rust-lang/rust#91979).
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
    // For -sys crates: DEP_MXGATE_INCLUDE.
    println!("cargo::metadata=include={}/include", variable("CARGO_MANIFEST_DIR"));
}
