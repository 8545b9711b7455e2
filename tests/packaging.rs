//! The C library as others install and link it: `make install`, pkg-config, CMake, static programs, a program with a second
//! library in Rust, cargo-c, and musl.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "what goes wrong here ends the test, with a message"
)]

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use support::library;

mod support;

const EXAMPLE: &str = "examples/check.c";
const POLICY: &str = "hostname = \"mx.example.org\"\n[[list]]\nname = \"local\"\nentries = [\"192.0.2.0/24 sent spam\"]\n";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a program in the root of the package, and returns what it writes to its standard output and standard error.
fn run(command: &mut Command) -> (String, String) {
    let output = command.current_dir(root()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{stdout}{stderr}", output.status);
    (stdout, stderr)
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

/// Asks the example about a listed client; `libraries` is where the shared libraries are.
fn answers(program: &Path, libraries: &[&Path]) {
    let policy = program.with_extension("toml");
    fs::write(&policy, POLICY).unwrap();
    let output =
        Command::new(program).arg(&policy).arg("192.0.2.7").env("LD_LIBRARY_PATH", env::join_paths(libraries).unwrap()).output().unwrap();
    let reply = "550 5.7.1 Service unavailable; client [192.0.2.7] blocked using local\nlocal, entry 192.0.2.0/24, line 4: sent spam\n";
    assert_eq!(String::from_utf8_lossy(&output.stdout), reply, "{output:?}");
    assert_eq!((output.status.code(), output.stderr.len()), (Some(1), 0), "{output:?}");
}

/// The dynamic section and the program headers, as readelf shows them.
fn linkage(program: &Path) -> String {
    run(Command::new("readelf").args(["-d", "-l", "-W"]).arg(program)).0
}

fn make(target: &str, variables: &[String]) {
    // The directory is the one in which the other tests have built the shared library.
    let library = library::directory().parent().unwrap();
    run(Command::new("make").arg(target).arg(format!("LIBRARY={}", library.display())).args(variables).env_remove("MAKEFLAGS"));
}

/// The files below a directory, links with what they point to.
fn files(directory: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(directory).unwrap().display().to_string();
            match fs::read_link(&path) {
                Ok(to) => drop(found.insert(format!("{name} -> {}", to.display()))),
                Err(_) if path.is_dir() => open.push(path),
                Err(_) => drop(found.insert(name)),
            }
        }
    }
    found
}

/// What `make install` made, once for all tests of this file.
fn installed() -> &'static Path {
    static PREFIX: OnceLock<PathBuf> = OnceLock::new();
    PREFIX.get_or_init(|| {
        let prefix = Path::new(env!("CARGO_TARGET_TMPDIR")).join("prefix");
        if prefix.exists() {
            fs::remove_dir_all(&prefix).unwrap();
        }
        make("install", &[format!("PREFIX={}", prefix.display())]);
        prefix
    })
}

/// What pkg-config says about the library, words that an option belongs to together.
fn pkg_config(prefix: &Path, arguments: &[&str]) -> Vec<String> {
    let directory = prefix.join("lib/pkgconfig");
    let (flags, _) = run(Command::new("pkg-config").args(arguments).arg("mxgate").env("PKG_CONFIG_LIBDIR", directory));
    words(&flags).into_iter().map(str::to_owned).collect()
}

/// Compiles the example, or what else there is, with what pkg-config says and nothing else.
fn compile(compiler: &[&str], source: &Path, flags: &[String], program: PathBuf) -> PathBuf {
    let (_, said) = run(Command::new(compiler[0]).args(&compiler[1..]).arg(source).args(flags).arg("-o").arg(&program));
    assert_eq!(said, "");
    program
}

#[test]
fn what_is_installed_is_where_packagers_expect_it() {
    if !support::available(&["make", "ld", "objcopy"]) {
        return;
    }
    installed(); // builds
    let directory = tempfile::tempdir().unwrap();
    let to = directory.path().display();
    // The second time nothing is left to build, so that root needs no cargo.
    let places = [format!("DESTDIR={to}"), "PREFIX=/usr".into(), "LIBDIR=/usr/lib/x86_64-linux-gnu".into(), "CARGO_LIBRARY=false".into()];
    make("install", &places);
    let library = "usr/lib/x86_64-linux-gnu";
    let expected = [
        "usr/include/mxgate.h".to_owned(),
        "usr/include/mxgate.hpp".to_owned(),
        format!("{library}/cmake/mxgate/mxgate-config-version.cmake"),
        format!("{library}/cmake/mxgate/mxgate-config.cmake"),
        format!("{library}/libmxgate.a"),
        format!("{library}/libmxgate.so -> libmxgate.so.1"),
        format!("{library}/libmxgate.so.1"),
        format!("{library}/pkgconfig/mxgate.pc"),
    ];
    assert_eq!(files(directory.path()), expected.iter().cloned().collect());
    for made in expected.iter().filter(|name| name.contains("/cmake/") || name.contains("/pkgconfig/")) {
        let text = fs::read_to_string(directory.path().join(made)).unwrap();
        assert!(!text.contains('@') && !text.contains(&to.to_string()), "{made}: {text}");
    }
    let description = fs::read_to_string(directory.path().join(&expected[7])).unwrap();
    for line in ["libdir=/usr/lib/x86_64-linux-gnu", "includedir=/usr/include", concat!("Version: ", env!("CARGO_PKG_VERSION"))] {
        assert!(description.lines().any(|is| is == line), "{line}: {description}");
    }
}

#[test]
fn programs_are_linked_with_what_pkg_config_says() {
    if !support::available(&["make", "ld", "objcopy", "pkg-config", "cc", "clang", "c++", "readelf"]) {
        return;
    }
    let (prefix, directory) = (installed(), tempfile::tempdir().unwrap());
    let (library, to) = (prefix.join("lib"), |name: &str| directory.path().join(name));
    let shared = pkg_config(prefix, &["--cflags", "--libs"]);
    for (compiler, source) in
        [(["cc", "-std=c89"], EXAMPLE), (["clang", "-std=c99"], EXAMPLE), (["c++", "-std=c++17"], "examples/check.cpp")]
    {
        let program = compile(&compiler, Path::new(source), &shared, to("shared"));
        assert!(linkage(&program).contains("[libmxgate.so.1]"));
        answers(&program, &[&library]);
    }
    // All of it static, and the library alone.
    let with_private = pkg_config(prefix, &["--static", "--cflags", "--libs"]);
    for (kind, name) in [("-static", "static"), ("-static-pie", "static-pie")] {
        let program = compile(&["cc", kind], Path::new(EXAMPLE), &with_private, to(name));
        assert!(!linkage(&program).contains("NEEDED"), "{kind}");
        answers(&program, &[]);
    }
    let archive = library.join("libmxgate.a").display().to_string();
    let flags: Vec<String> = with_private.iter().map(|flag| if flag == "-lmxgate" { archive.clone() } else { flag.clone() }).collect();
    let program = compile(&["cc"], Path::new(EXAMPLE), &flags, to("archive"));
    assert!(!linkage(&program).contains("libmxgate"));
    answers(&program, &[]);
}

#[test]
fn a_program_has_two_static_libraries_in_rust() {
    if !support::available(&["make", "ld", "objcopy", "pkg-config", "cc", "nm"]) {
        return;
    }
    let (prefix, directory) = (installed(), tempfile::tempdir().unwrap());
    let archive = prefix.join("lib/libmxgate.a");
    let (symbols, _) = run(Command::new("nm").args(["-g", "--defined-only"]).arg(&archive));
    let global: BTreeSet<&str> = symbols.lines().filter_map(|line| line.split(' ').nth(2)).collect();
    let functions: Vec<String> = library::symbols().into_values().flat_map(|functions| functions.into_keys()).collect();
    assert_eq!(global, functions.iter().map(String::as_str).collect());

    // Link-time optimisation is what makes two libraries of rustc collide.
    let (source, other) = (directory.path().join("other.rs"), directory.path().join("libother.a"));
    let text = "#[unsafe(no_mangle)] pub extern \"C\" fn other(n: i32) -> i32 {\n\
                std::panic::catch_unwind(|| std::hint::black_box(&[1, 2, 3][..])[n as usize]).unwrap_or(-1)\n}\n";
    fs::write(&source, text).unwrap();
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let (_, said) = run(Command::new(rustc)
        .args(["--edition=2024", "--crate-type=staticlib", "-Copt-level=1", "-Clto=fat", "-Cpanic=unwind", "--print=native-static-libs"])
        .arg("-o")
        .arg(&other)
        .arg(&source));

    // What rustc says a static library needs is what pkg-config says, but for what each compiler adds by itself.
    let (_, needed) = said.split_once("native-static-libs: ").unwrap();
    let needed: BTreeSet<&str> =
        words(needed.lines().next().unwrap()).into_iter().filter(|flag| !matches!(*flag, "-lc" | "-lgcc_s")).collect();
    let flags = pkg_config(prefix, &["--static", "--cflags", "--libs"]);
    let said: BTreeSet<&str> = flags.iter().map(String::as_str).filter(|flag| flag.starts_with("-l") && *flag != "-lmxgate").collect();
    assert_eq!(said, needed);

    let source = directory.path().join("two.c");
    let text = "#include <mxgate.h>\nint other(int n);\n\
                int main(void)\n{\n    mxgate_gate *gate = mxgate_new();\n    int good = gate != NULL && other(1) == 2 && other(9) == -1;\n\
                mxgate_free(gate);\n    return !good;\n}\n";
    fs::write(&source, text).unwrap();
    let (ours, theirs) = (archive.display().to_string(), other.display().to_string());
    for archives in [[&ours, &theirs], [&theirs, &ours]] {
        let flags: Vec<String> = archives.into_iter().chain(flags.iter().filter(|flag| *flag != "-lmxgate")).cloned().collect();
        run(&mut Command::new(compile(&["cc"], &source, &flags, directory.path().join("two"))));
    }
}

#[test]
fn cmake_finds_the_library() {
    if !support::available(&["make", "ld", "objcopy", "cmake", "cc", "readelf"]) {
        return;
    }
    let (prefix, directory) = (installed(), tempfile::tempdir().unwrap());
    let source = root().join(EXAMPLE).display().to_string();
    let project = format!(
        "cmake_minimum_required(VERSION 3.13)\nproject(consumer C)\nfind_package(mxgate 0.1 REQUIRED)\n\
         add_executable(shared {source})\ntarget_link_libraries(shared mxgate::mxgate)\n\
         add_executable(static {source})\ntarget_link_libraries(static mxgate::static)\n"
    );
    fs::write(directory.path().join("CMakeLists.txt"), project).unwrap();
    let build = directory.path().join("build");
    let prefix_path = format!("-DCMAKE_PREFIX_PATH={}", prefix.display());
    run(Command::new("cmake").arg("-S").arg(directory.path()).arg("-B").arg(&build).arg(prefix_path).env_remove("MAKEFLAGS"));
    run(Command::new("cmake").arg("--build").arg(&build).env_remove("MAKEFLAGS"));
    for (name, shared) in [("shared", true), ("static", false)] {
        assert_eq!(linkage(&build.join(name)).contains("[libmxgate.so.1]"), shared);
        answers(&build.join(name), &[]);
    }
    // A release that there is not yet is not found.
    let project = "cmake_minimum_required(VERSION 3.13)\nproject(consumer C)\nfind_package(mxgate 99 REQUIRED)\n";
    fs::write(directory.path().join("CMakeLists.txt"), project).unwrap();
    let refused = Command::new("cmake").arg("-S").arg(directory.path()).arg("-B").arg(&build).output().unwrap();
    assert!(!refused.status.success());
}

/// cargo-c takes minutes to install, so that it is not asked for: `make install` is what has to work, and this one is run where
/// cargo-c is.
#[test]
fn cargo_c_installs_the_same_library() {
    if support::find("cargo-cinstall").is_none() {
        return support::say("not run: cargo-c is not installed (cargo install cargo-c)");
    }
    if !support::available(&["pkg-config", "cc", "readelf"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let prefix = directory.path().join("prefix");
    run(Command::new(env!("CARGO"))
        .args(["cinstall", "--locked", "--release", "--no-default-features", "--libdir=lib"])
        .arg(format!("--prefix={}", prefix.display()))
        .arg("--target-dir")
        .arg(library::target_directory().join("cargo-c")));
    let found = files(&prefix);
    for name in ["include/mxgate.h", "include/mxgate.hpp", "lib/libmxgate.a", "lib/pkgconfig/mxgate.pc"] {
        assert!(found.contains(name), "{name}: {found:?}");
    }
    let library = prefix.join("lib");
    assert_eq!(fs::read(prefix.join("include/mxgate.h")).unwrap(), fs::read(root().join("include/mxgate.h")).unwrap());
    assert!(linkage(&library.join("libmxgate.so")).contains("soname: [libmxgate.so.1]"));
    let shared = pkg_config(&prefix, &["--cflags", "--libs"]);
    answers(&compile(&["cc"], Path::new(EXAMPLE), &shared, directory.path().join("shared")), &[&library]);
}

/// A target of the C library musl, if the compiler has it.
struct Musl {
    target: String,
    /// Where the compiler has its own copy of the unwinder.
    unwinder: PathBuf,
}

impl Musl {
    fn find() -> Option<Musl> {
        let target = format!("{}-unknown-linux-musl", env::consts::ARCH);
        let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let (directory, _) = run(Command::new(rustc).args(["--print", "target-libdir", "--target", &target]));
        let unwinder = Path::new(directory.trim()).join("self-contained/libunwind.a");
        let found = unwinder.exists() || support::missing(&format!("the target {target} (rustup target add {target})"));
        (found && support::available(&["musl-gcc", "readelf"])).then_some(Musl { target, unwinder })
    }

    /// Builds something for the target, and returns the directory that it is in. Without optimisation, which is not what musl
    /// has to do with.
    fn build(&self, arguments: &[&str], flags: &str, linker: Option<&str>) -> PathBuf {
        let directory = library::target_directory().join(if linker.is_some() { "musl-shared" } else { "musl-static" });
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(arguments).args(["--quiet", "--locked", "--target", &self.target, "--target-dir"]).arg(&directory);
        cargo.args(["--config", "profile.dev.debug=0", "--config", "profile.dev.incremental=false"]).env("RUSTFLAGS", flags);
        if let Some(linker) = linker {
            cargo.arg("--config").arg(format!("target.{}.linker='{linker}'", self.target));
        }
        run(&mut cargo);
        directory.join(&self.target).join("debug")
    }
}

#[test]
fn musl_has_a_static_command_and_a_static_library() {
    let Some(musl) = Musl::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    // At once, because that takes half the time.
    let built = musl.build(&["build", "--lib", "--bin", "mxgate", "--features", "capi"], "", None);
    let policy = directory.path().join("mxgate.toml");
    fs::write(&policy, POLICY).unwrap();
    let mxgate = built.join("mxgate");
    let output = Command::new(&mxgate).args(["check", "--ip", "192.0.2.7", "--config"]).arg(&policy).output().unwrap();
    assert!(output.status.code() == Some(1) && String::from_utf8_lossy(&output.stdout).contains("entry 192.0.2.0/24"), "{output:?}");
    // Debian's unwinder is made for glibc; that of the compiler comes first.
    let libraries = [built.join("libmxgate.a"), musl.unwinder].map(|library| library.display().to_string());
    let flags = [&["-Iinclude".to_owned()], &libraries[..]].concat();
    let program = compile(&["musl-gcc", "-static"], Path::new(EXAMPLE), &flags, directory.path().join("check"));
    answers(&program, &[]);
    for program in [&mxgate, &program] {
        assert!(!linkage(program).contains("NEEDED") && !linkage(program).contains("INTERP"), "{program:?}");
    }
}

#[test]
fn musl_has_a_shared_library() {
    let Some(musl) = Musl::find() else { return };
    // A system with musl has libgcc_s; Debian has that of glibc, so that one is made of the compiler's unwinder.
    let system = Path::new(env!("CARGO_TARGET_TMPDIR")).join("musl");
    fs::create_dir_all(&system).unwrap();
    run(Command::new("musl-gcc")
        .args(["-shared", "-Wl,-soname,libgcc_s.so.1", "-Wl,--whole-archive"])
        .arg(&musl.unwinder)
        .arg("-Wl,--no-whole-archive")
        .arg("-o")
        .arg(system.join("libgcc_s.so.1")));
    fs::copy(system.join("libgcc_s.so.1"), system.join("libgcc_s.so")).unwrap();
    let flags = format!("-C target-feature=-crt-static -C link-arg=-L{}", system.display());
    let arguments = ["rustc", "--lib", "--crate-type", "cdylib", "--no-default-features", "--features", "capi"];
    let built = musl.build(&arguments, &flags, Some("musl-gcc"));

    let directory = tempfile::tempdir().unwrap();
    fs::copy(built.join("libmxgate.so"), directory.path().join("libmxgate.so.1")).unwrap();
    let libraries = [directory.path().join("libmxgate.so.1"), system.join("libgcc_s.so.1")].map(|library| library.display().to_string());
    let flags = [&["-Iinclude".to_owned()], &libraries[..]].concat();
    let program = compile(&["musl-gcc"], Path::new(EXAMPLE), &flags, directory.path().join("check"));
    let needed = linkage(&program);
    assert!(needed.contains("[libmxgate.so.1]") && needed.contains("ld-musl-"), "{needed}");
    assert!(!linkage(&built.join("libmxgate.so")).contains("[libc.so.6]"));
    answers(&program, &[directory.path(), &system]);
}
