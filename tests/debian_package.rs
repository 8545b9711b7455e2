//! The Debian package: what is in it, what becomes of an administrator's changes, and that what it brings starts.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what goes wrong here ends the test, with a message")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use support::daemon::Daemon;
use support::wait_for;

mod support;

/// Runs a program; what it writes to standard output.
fn run(command: &mut Command) -> String {
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_package_brings_all_of_it_and_starts() {
    if !support::available(&["make", "cargo-deb", "dpkg-deb", "dpkg-shlibdeps", "zcat"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (target, root) = (directory.path().join("target"), directory.path().join("root"));
    // The command as it is tested, in the place of one that takes minutes to build.
    fs::create_dir_all(target.join("release")).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_mxgate"), target.join("release/mxgate")).unwrap();
    let mut make = Command::new("make");
    make.args(["deb", "PACKAGES=", "BUILD_COMMAND=true", "DEB_OPTIONS=--fast"]).env("CARGO_TARGET_DIR", &target).env_remove("MAKEFLAGS");
    run(&mut make);
    let package = fs::read_dir(target.join("debian"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension() == Some("deb".as_ref()));
    let package = package.unwrap();
    run(Command::new("dpkg-deb").arg("-x").args([&package, &root]));
    run(Command::new("dpkg-deb").arg("-e").args([&package, &root.join("DEBIAN")]));

    for (path, mode) in [
        ("usr/bin/mxgate", 0o755),
        ("etc/mxgate/mxgate.toml", 0o644),
        ("usr/lib/systemd/system/mxgate.service", 0o644),
        ("usr/lib/systemd/system/mxgate-milter.socket", 0o644),
        ("usr/share/bash-completion/completions/mxgate", 0o644),
        ("usr/share/zsh/vendor-completions/_mxgate", 0o644),
        ("usr/share/fish/vendor_completions.d/mxgate.fish", 0o644),
        ("usr/share/doc/mxgate/copyright", 0o644),
        ("usr/share/doc/mxgate/examples/mxgate.toml", 0o644),
    ] {
        let metadata = fs::metadata(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(metadata.permissions().mode() & 0o777 == mode && metadata.len() > 0, "{path}: {metadata:?}");
    }
    for page in ["man1/mxgate.1", "man5/mxgate.toml.5"] {
        let packed = run(Command::new("zcat").arg(root.join("usr/share/man").join(page).with_extension(if page.ends_with('1') {
            "1.gz"
        } else {
            "5.gz"
        })));
        let name = page.split_once('/').unwrap().1;
        assert_eq!(packed, fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("man").join(name)).unwrap());
    }
    assert_eq!(fs::read_to_string(root.join("DEBIAN/conffiles")).unwrap(), "/etc/mxgate/mxgate.toml\n");
    let scripts = fs::read_to_string(root.join("DEBIAN/postinst")).unwrap();
    for unit in ["mxgate.service", "mxgate-milter.socket"] {
        assert!(scripts.contains(&format!("deb-systemd-helper enable {unit}")), "{scripts}");
    }
    // An upgrade restarts the daemon, and leaves its socket open.
    let restarted: Vec<&str> = scripts.lines().filter(|line| line.contains("deb-systemd-invoke") && line.contains("restart")).collect();
    assert!(!restarted.concat().contains(".socket"), "{scripts}");
    assert_eq!(fs::read_dir(root.join("usr/lib/systemd/system")).unwrap().count(), 2);
    assert!(fs::read_to_string(root.join("DEBIAN/control")).unwrap().contains("\nDepends: libc6 "));

    let socket = directory.path().join("milter.sock");
    let listen = format!("unix:{}", socket.display());
    let config = root.join("etc/mxgate/mxgate.toml").display().to_string();
    let daemon =
        Daemon::start(&root.join("usr/bin/mxgate"), ["serve", "--config", &config, "--listen", &listen], &directory.path().join("log"));
    wait_for("it listens", || UnixStream::connect(&socket).ok());
    wait_for("its rules are in force", || {
        fs::read_to_string(directory.path().join("log")).ok().filter(|log| log.contains("rules of load 1 in force: 0 networks"))
    });
    assert!(daemon.running());
}
