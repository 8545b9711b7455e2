//! Mail servers that Debian does not install beside Postfix: `make hosts` unpacks them below `target/hosts`. Each runs in a
//! mount namespace of its own, in which there are the users that it wants, its directories are empty ones in memory, and no
//! name server answers. The system does not notice. Needs root.

use super::daemon::Daemon;
use super::{available, find, library, root, skip};
use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a mail server may take to start.
const START: Duration = Duration::from_secs(20);

/// How often to start again when a port is taken.
const ATTEMPTS: usize = 5;

/// The users of the Debian packages, with numbers that no system gives away by itself. Groups have the same.
const USERS: [(&str, u32); 5] =
    [("Debian-exim", 64_901), ("opensmtpd", 64_902), ("opensmtpq", 64_903), ("smmta", 64_904), ("smmsp", 64_905)];

/// Arguments: the directory of the stage, then the command line of the program.
const NAMESPACE: &str = r#"
set -e
stage=$1
shift
for file in passwd group resolv.conf hosts; do
    if [ -e /etc/$file ] && [ -e "$stage/$file" ]; then mount --bind "$stage/$file" /etc/$file; fi
done
if [ -e "$stage/hostname" ]; then hostname -F "$stage/hostname"; fi
for directory in /var/lib /var/spool /run; do mount -t tmpfs -o mode=755 tmpfs $directory; done
mkdir -p /var/lib/opensmtpd/empty /var/spool/smtpd
chmod 711 /var/spool/smtpd
exec "$@"
"#;

/// Can this program of a package be run here? If not, says why and returns false; as [`available`].
pub fn ready(program: &str) -> bool {
    if !(available(&["unshare", "setsid", "cc"]) && root()) {
        return false;
    }
    if !path(program).is_file() {
        return skip(&format!("{program} is not unpacked (make hosts)"));
    }
    let allowed = Command::new("unshare").args(["-m", "-u", "true"]).output().is_ok_and(|output| output.status.success());
    allowed || skip("mount namespaces are not allowed here")
}

fn path(program: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/hosts").join(program)
}

/// A directory for one mail server, which the server's own user may enter, and what it finds in its namespace.
#[derive(Debug)]
pub struct Stage {
    directory: TempDir,
}

impl Stage {
    /// With the shared library (as a copy: its user may not be able to go where the library was built) and the corpus.
    pub fn new() -> Stage {
        let directory = tempfile::Builder::new().prefix("mxgate-host-").tempdir().unwrap();
        let stage = Stage { directory };
        fs::set_permissions(stage.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        let users = USERS.map(|(name, id)| format!("{name}:x:{id}:{id}::/nonexistent:/usr/sbin/nologin\n")).concat();
        let groups = USERS.map(|(name, id)| format!("{name}:x:{id}:\n")).concat();
        // Ours come first: the first line with a name counts.
        stage.write("passwd", &(users + &fs::read_to_string("/etc/passwd").unwrap()));
        stage.write("group", &(groups + &fs::read_to_string("/etc/group").unwrap()));
        stage.write("resolv.conf", "nameserver 127.0.0.1\n");
        fs::copy(library::directory().join("libmxgate.so"), stage.path("libmxgate.so.1")).unwrap();
        fs::create_dir(stage.path("cases")).unwrap();
        for file in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), stage.path("cases").join(file.file_name())).unwrap();
        }
        stage
    }

    /// A file of the stage.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file of the stage.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// What is in a file of the stage; empty if there is no such file (yet).
    pub fn read(&self, name: &str) -> String {
        fs::read(self.path(name)).map(|octets| String::from_utf8_lossy(&octets).into_owned()).unwrap_or_default()
    }

    /// Makes a directory that belongs to one of [`USERS`].
    pub fn directory_of(&self, user: &str, name: &str) {
        let id = USERS.iter().find(|(known, _)| *known == user).unwrap().1;
        fs::create_dir(self.path(name)).unwrap();
        chown(self.path(name), Some(id), Some(id)).unwrap();
    }

    /// Starts a program of a package; its output goes to the file `output` of the stage.
    pub fn start<I>(&self, program: &str, arguments: I) -> Daemon
    where
        I: IntoIterator<Item: AsRef<OsStr>>,
    {
        let mut line: Vec<PathBuf> = ["-m", "-u", "/bin/sh", "-c", NAMESPACE, "namespace"].map(PathBuf::from).into();
        line.extend([self.path(""), path(program)]);
        line.extend(arguments.into_iter().map(|argument| PathBuf::from(argument.as_ref())));
        Daemon::start(&find("unshare").unwrap(), line, &self.path("output"))
    }

    /// Waits until the server is ready, which it may say in these files. False if another program took one of its ports
    /// between our choosing and its binding it.
    pub fn wait(&self, daemon: &Daemon, logs: &[&str], ready: impl Fn(&str) -> bool) -> bool {
        let end = Instant::now() + START;
        loop {
            let running = daemon.running();
            let said: String = logs.iter().map(|log| self.read(log)).collect();
            if said.contains("Address already in use") {
                return false;
            }
            if ready(&said) {
                return true;
            }
            assert!(running && Instant::now() < end, "the mail server does not answer:\n{said}");
            sleep(Duration::from_millis(10));
        }
    }
}

/// An example with changes, each in a place that is there once.
pub fn adapted(example: &str, changes: &[(&str, &str)]) -> String {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(example)).unwrap();
    changes.iter().fold(text, |text, (from, to)| {
        assert_eq!(text.matches(from).count(), 1, "{example}: {from}");
        text.replace(from, to)
    })
}

/// Starts a mail server by this function, again and again while it finds its ports taken.
pub fn started<T>(start: impl Fn() -> Option<T>) -> T {
    (0..ATTEMPTS).find_map(|_| start()).unwrap_or_else(|| panic!("no free port in {ATTEMPTS} attempts"))
}

/// Addresses of this host with different ports that are free.
pub fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    let listeners = [(); N].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    listeners.map(|listener| listener.local_addr().unwrap())
}
