//! The Debian package: what is in it, that what it brings starts, and its life on a clean Debian beside Postfix, from the
//! installation until it is purged.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what goes wrong here ends the test, with a message")]

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;
use support::daemon::Daemon;
use support::over_smtp::{check_transcript, transcript};
use support::{PATIENCE, wait_for};

mod support;

/// Runs a program; what it writes to standard output.
fn run(command: &mut Command) -> String {
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = || [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said)).concat();
    assert!(output.status.success(), "{command:?}: {}", said());
    String::from_utf8(output.stdout).unwrap()
}

/// What [`package`] needs.
const BUILD: [&str; 4] = ["make", "cargo-deb", "dpkg-deb", "dpkg-shlibdeps"];

/// The package, made once for all tests of this file, with the command as it is tested in the place of one that takes minutes
/// to build.
fn package() -> &'static Path {
    static PACKAGE: OnceLock<PathBuf> = OnceLock::new();
    PACKAGE.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("debian_package");
        if target.exists() {
            fs::remove_dir_all(&target).unwrap();
        }
        fs::create_dir_all(target.join("release")).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_mxgate"), target.join("release/mxgate")).unwrap();
        let mut make = Command::new("make");
        make.args(["deb", "PACKAGES=", "BUILD_COMMAND=true", "DEB_OPTIONS=--fast"]);
        run(make.env("CARGO_TARGET_DIR", &target).env_remove("MAKEFLAGS"));
        let mut made = fs::read_dir(target.join("debian")).unwrap().map(|entry| entry.unwrap().path());
        made.find(|path| path.extension() == Some("deb".as_ref())).unwrap()
    })
}

#[test]
fn the_package_brings_all_of_it_and_starts() {
    if !support::available(&BUILD) || !support::available(&["zcat"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    run(Command::new("dpkg-deb").arg("-x").args([package(), &root]));
    run(Command::new("dpkg-deb").arg("-e").args([package(), &root.join("DEBIAN")]));

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

/// Set where the next test runs in namespaces of its own: the directory that it may use, with the package in it.
const INSIDE: &str = "MXGATE_TEST_INSIDE";
const NAMESPACES: [&str; 7] = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--"];

/// The whole test is one process tree with its own mounts, and a network that has nothing but a loopback interface. However
/// it ends, all of that ends with it, and neither ports nor addresses of this machine are touched.
#[test]
fn on_a_clean_debian_it_refuses_through_postfix_until_it_is_gone() {
    if let Some(directory) = std::env::var_os(INSIDE) {
        return life(&Debian::new(Path::new(&directory)));
    }
    let made = || Path::new("target/debian-root").exists() || support::skip("target/debian-root is not there (as root: make debian-root)");
    let unshared = || {
        let trial = Command::new(NAMESPACES[0]).args(&NAMESPACES[1..]).arg("true").output();
        trial.is_ok_and(|trial| trial.status.success()) || support::skip("namespaces are not allowed here (unshare)")
    };
    if !support::root() || !support::available(&BUILD) || !support::available(&["setpriv", "unshare", "ip"]) || !made() || !unshared() {
        return;
    }
    let release = fs::read_to_string("target/debian-root/etc/os-release").unwrap();
    if !release.contains("VERSION_ID=\"12\"") {
        support::say(&format!("the package is not installed on Debian 12, but, for this machine's C library, on\n{release}"));
    }
    let directory = tempfile::tempdir().unwrap();
    fs::copy(package(), directory.path().join("mxgate.deb")).unwrap();
    fs::create_dir(directory.path().join("stage")).unwrap();
    let name = "on_a_clean_debian_it_refuses_through_postfix_until_it_is_gone";
    let mut inside = Command::new("setpriv");
    inside.args(["--pdeathsig", "KILL"]).args(NAMESPACES).arg(std::env::current_exe().unwrap());
    let said = run(inside.args(["--exact", name, "--nocapture"]).env(INSIDE, directory.path()));
    assert!(said.contains("1 passed"), "{said}");
}

const SERVICE: &str = "mxgate.service";
const SOCKET: &str = "mxgate-milter.socket";
/// The first of those from which systemd chooses (DynamicUser=).
const USER: u32 = 61_184;
/// As systemd hands over a socket.
const HAND_OVER: &str = "exec 3<&0 </dev/null; export LISTEN_PID=$$; exec \"$@\"";

const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 25);
const LISTED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const BANNED: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
const OTHER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const RECIPIENT: &str = "root@mx.example.org";

/// A clean Debian; what is written to it stays in memory.
struct Debian {
    root: PathBuf,
    package: PathBuf,
}

impl Debian {
    fn new(directory: &Path) -> Debian {
        let stage = directory.join("stage");
        let clean = fs::canonicalize("target/debian-root").unwrap();
        let [upper, work, root] = ["upper", "work", "root"].map(|name| stage.join(name));
        run(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&stage));
        for directory in [&upper, &work, &root] {
            fs::create_dir(directory).unwrap();
        }
        let layers = format!("lowerdir={},upperdir={},workdir={}", clean.display(), upper.display(), work.display());
        run(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &layers]).arg(&root));
        run(Command::new("mount").args(["-t", "proc", "proc"]).arg(root.join("proc")));
        run(Command::new("ip").args(["link", "set", "lo", "up"]));
        for address in [SERVER, LISTED, BANNED, OTHER] {
            run(Command::new("ip").args(["address", "add", &format!("{address}/32"), "dev", "lo"]));
        }
        Debian { root, package: directory.join("mxgate.deb") }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    /// Runs a command line in it, as its root; what that writes to standard output.
    fn run(&self, line: &str) -> String {
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let mut command = Command::new("chroot");
        command.arg(&self.root).args(["/bin/sh", "-c", line]).env_clear();
        run(command.env("PATH", path).env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C.UTF-8"))
    }

    /// Everything that is in it.
    fn files(&self) -> BTreeSet<String> {
        self.run("find / -xdev").lines().map(str::to_owned).collect()
    }

    /// A setting of a unit that is installed.
    fn setting(&self, unit: &str, key: &str) -> String {
        let text = self.read(&format!("/usr/lib/systemd/system/{unit}"));
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        value.unwrap_or_else(|| panic!("{unit} has no {key}")).to_owned()
    }

    /// Starts the daemon as its units say. There is no systemd that would; how it is confined besides, other tests check.
    fn serve(&self) -> Child {
        let listener = TcpListener::bind(self.setting(SOCKET, "ListenStream")).unwrap();
        assert_eq!(self.setting(SERVICE, "DynamicUser"), "yes");
        for (below, key) in [("/run", "RuntimeDirectory"), ("/var/lib", "StateDirectory")] {
            let directory = self.path(below).join(self.setting(SERVICE, key));
            fs::create_dir_all(&directory).unwrap();
            chown(&directory, Some(USER), Some(USER)).unwrap();
        }
        let notify = self.path("/run/notify");
        let _ = fs::remove_file(&notify);
        let manager = UnixDatagram::bind(&notify).unwrap();
        fs::set_permissions(&notify, fs::Permissions::from_mode(0o777)).unwrap();
        manager.set_read_timeout(Some(PATIENCE)).unwrap();

        let user = [format!("--reuid={USER}"), format!("--regid={USER}")];
        let mut command = Command::new("/bin/sh");
        command.args(["-c", HAND_OVER, "sh"]).arg(support::find("chroot").unwrap()).arg(&self.root).arg("/usr/bin/setpriv").args(user);
        command.args(["--clear-groups", "--no-new-privs", "--bounding-set=-all", "--"]);
        command.args(self.setting(SERVICE, "ExecStart").split_whitespace()).env_clear();
        command
            .env("LISTEN_FDS", "1")
            .env("LISTEN_FDNAMES", self.setting(SOCKET, "FileDescriptorName"))
            .env("NOTIFY_SOCKET", "/run/notify");
        let daemon = command.stdin(OwnedFd::from(listener)).spawn().unwrap();
        let mut message = [0; 1000];
        let length = manager.recv(&mut message).unwrap_or_else(|error| panic!("it does not say that it is ready: {error}"));
        assert!(message[..length].starts_with(b"READY=1\n"), "{}", String::from_utf8_lossy(&message[..length]));
        daemon
    }

    fn stop(&self, mut daemon: Child) {
        run(Command::new("kill").args(["-s", "TERM", &daemon.id().to_string()]));
        let status = wait_for("the daemon ends", || daemon.try_wait().unwrap());
        assert!(status.success(), "{status}");
        fs::remove_dir(self.path("/run").join(self.setting(SERVICE, "RuntimeDirectory"))).unwrap();
    }

    /// What the README of the package says that main.cf has to have.
    fn documented(&self) -> Vec<String> {
        let readme = self.read("/usr/share/doc/mxgate/README.md");
        let (_, section) = readme.split_once("\n## Postfix\n").unwrap();
        let example = section.lines().skip_while(|line| !line.starts_with("    ")).take_while(|line| line.starts_with("    "));
        let settings = example.filter(|line| line.contains(" = ")).map(|line| line.split('#').next().unwrap().trim().to_owned());
        settings.collect()
    }
}

/// The log of a test that failed is shown before it is gone.
impl Drop for Debian {
    fn drop(&mut self) {
        if std::thread::panicking() {
            support::say(&self.read("/var/log/mail.log"));
        }
    }
}

/// The client reads this at RCPT, and the connection stays.
fn refused(client: Ipv4Addr, reply: &str) {
    let begin = "S: 220 mx.example.org ESMTP Postfix (Debian/GNU)\nC: HELO client.example\nS: 250 mx.example.org\n\
                 C: MAIL FROM:<sender@example.com>\nS: 250 2.1.0 Ok\n";
    let end = "C: QUIT\nS: 221 2.0.0 Bye\n*** server closed the connection\n";
    check_transcript(IpAddr::V4(client), SocketAddr::from((SERVER, 25)), begin, &[RECIPIENT], &[reply], end);
}

fn accepted(client: Ipv4Addr) {
    let session = transcript(IpAddr::V4(client), SocketAddr::from((SERVER, 25)), &[RECIPIENT]);
    let message = format!("C: RCPT TO:<{RECIPIENT}>\nS: 250 2.1.5 Ok\nC: DATA\n");
    assert!(session.contains(&message) && session.contains("queued as"), "{session}");
}

fn life(debian: &Debian) {
    fs::copy(&debian.package, debian.path("/mxgate.deb")).unwrap();
    let before = debian.files();
    // There is no network: what it depends on is part of every Debian.
    debian.run("apt-get install -y -o Dpkg::Use-Pty=0 /mxgate.deb");
    for wanted in [format!("multi-user.target.wants/{SERVICE}"), format!("sockets.target.wants/{SOCKET}")] {
        assert!(debian.path("/etc/systemd/system").join(&wanted).is_symlink(), "{wanted}");
    }

    let documented = debian.documented();
    assert_eq!(documented.len(), 2, "{documented:?}");
    debian.run(&format!("postconf -e '{}' '{}'", documented[0], documented[1]));
    debian.run("postconf -e myhostname=mx.example.org maillog_file=/var/log/mail.log && service postfix start");
    let daemon = debian.serve();
    // The policy that it comes with refuses nobody.
    accepted(LISTED);
    let policy = debian.read("/etc/mxgate/mxgate.toml") + "\n[[list]]\nname = \"local\"\nentries = [\"192.0.2.0/24 sent spam\"]\n";
    fs::write(debian.path("/etc/mxgate/mxgate.toml"), &policy).unwrap();
    debian.run(&debian.setting(SERVICE, "ExecReload"));
    debian.run(&format!("mxgate ban {BANNED} --for 24h --reason 'sent spam'"));
    let refuses = || {
        refused(LISTED, "550 5.7.1 Service unavailable; client [192.0.2.7] blocked using local");
        refused(BANNED, "550 5.7.1 Service unavailable; client [203.0.113.9] blocked using bans");
        accepted(OTHER);
    };
    refuses();
    debian.stop(daemon);
    let daemon = debian.serve();
    refuses();
    wait_for("three messages arrive", || (debian.read("/var/mail/root").matches("Subject: hello").count() == 3).then_some(()));
    debian.stop(daemon);

    // Over an upgrade the policy stays as its administrator wrote it, and so do the bans.
    debian.run("dpkg -i /mxgate.deb");
    assert_eq!(debian.read("/etc/mxgate/mxgate.toml"), policy);
    let daemon = debian.serve();
    refuses();
    debian.stop(daemon);
    // Where systemd keeps the state of a user that comes and goes; it gives access to it by mounts.
    debian.run("mkdir -p /var/lib/private && mv /var/lib/mxgate /var/lib/private/ && ln -s private/mxgate /var/lib/mxgate");
    debian.run("service postfix stop && apt-get remove -y -o Dpkg::Use-Pty=0 mxgate");
    assert_eq!(debian.read("/etc/mxgate/mxgate.toml"), policy);
    assert!(!debian.path("/usr/bin/mxgate").exists() && debian.path("/var/lib/mxgate/bans.journal").exists());
    debian.run("apt-get purge -y -o Dpkg::Use-Pty=0 mxgate");
    // What changes below /run and /var has to do with mail and with apt; nothing of that is ours.
    let left = debian.files();
    let ours = |path: &&String| path.contains("mxgate") || !path.starts_with("/run/") && !path.starts_with("/var/");
    let left: Vec<_> = left.difference(&before).filter(ours).collect();
    assert!(left.is_empty(), "{left:?}");
}
