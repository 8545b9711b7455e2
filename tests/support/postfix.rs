//! A private Postfix: own configuration, queue and log below one temporary directory, loopback ports of its own, and a
//! mail sink (the program `smtp-sink` of the Postfix package) that takes all mail. It runs beside the Postfix of the
//! system without touching it. Needs root, because Postfix does.
//!
//! Postfix itself refuses nothing here, whoever the client and the recipient are, so every refusal that a client reads
//! is the work of what the test has plugged in.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::{panicking, sleep};
use std::time::{Duration, Instant, SystemTime};

use tempfile::TempDir;

use super::daemon::Daemon;
use super::find;

/// The programs that [`Postfix::start`] needs, for [`super::available`].
pub const TOOLS: [&str; 6] = ["postconf", "smtp-sink", "setsid", "getent", "id", "kill"];

/// How long Postfix may take to answer after its start.
const START: Duration = Duration::from_secs(10);

/// How long one question whether it answers may take. A connection to a server that fails to start is left hanging.
const PROBE: Duration = Duration::from_secs(1);

/// How often to start again when another program takes a port between our choosing and Postfix's binding it.
const ATTEMPTS: usize = 5;

/// A running Postfix. Dropping it stops Postfix and the sink, and removes the directory; if that happens in a panic, the
/// log is shown first.
#[derive(Debug)]
pub struct Postfix {
    // The order matters: what is declared first is dropped first.
    master: Daemon,
    sink: Daemon,
    dir: TempDir,
    port: u16,
    ipv6: bool,
}

impl Postfix {
    /// Starts an instance and waits until it answers. `options` are main.cf parameters, added to ours or replacing
    /// them. Panics, with the log, if Postfix does not answer within ten seconds.
    pub fn start(options: &[(&str, &str)]) -> Postfix {
        for _ in 0..ATTEMPTS {
            if let Some(postfix) = Postfix::attempt(options) {
                return postfix;
            }
        }
        panic!("no free port for Postfix in {ATTEMPTS} attempts");
    }

    /// The address at which Postfix takes mail.
    pub fn smtp(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// The same for IPv6, on a host that has `::1`.
    pub fn smtp6(&self) -> Option<SocketAddr> {
        self.ipv6.then(|| SocketAddr::from((Ipv6Addr::LOCALHOST, self.port)))
    }

    /// The whole mail log.
    pub fn log(&self) -> String {
        read(&self.dir().join("maillog"))
    }

    /// Waits until the log contains this text, and returns whether it does; the log lags a little behind the replies.
    pub fn wait_log(&self, text: &str, timeout: Duration) -> bool {
        wait(timeout, || self.log().contains(text))
    }

    /// The messages that the sink has received completely, oldest first: `X-Client-Addr:`, `X-Mail-Args:`,
    /// `X-Rcpt-Args:` and other headers about the envelope, then the message, with LF line ends.
    ///
    /// Delivery happens after the client has read its 250. To show that something was *not* delivered, send a last good
    /// message, and wait for that one.
    pub fn delivered(&self) -> Vec<String> {
        let files: Vec<PathBuf> = fs::read_dir(self.dir().join("sink"))
            .expect("cannot read the directory of the sink")
            .map(|file| file.expect("cannot read the directory of the sink").path())
            .collect();
        // The sink closes the file when the message has ended, so those that it has open are incomplete. They are listed
        // last: one that it has begun meanwhile is not among the files then.
        let open: Vec<PathBuf> = fs::read_dir(format!("/proc/{}/fd", self.sink.pid()))
            .map(|files| files.filter_map(|file| fs::read_link(file.ok()?.path()).ok()).collect())
            .unwrap_or_default();
        let complete = files.into_iter().filter(|file| !open.contains(file));
        let mut files: Vec<_> = complete.map(|file| (file.metadata().and_then(|metadata| metadata.modified()).ok(), file)).collect();
        files.sort();
        files.into_iter().map(|(_, file)| read(&file)).collect()
    }

    /// Waits until the sink has at least `n` messages, and returns them all. Panics, with the log, if the time is over
    /// before that.
    pub fn wait_delivered(&self, n: usize, timeout: Duration) -> Vec<String> {
        let mut delivered = Vec::new();
        let enough = wait(timeout, || {
            delivered = self.delivered();
            delivered.len() >= n
        });
        assert!(enough, "{} of {n} messages delivered after {timeout:?}; the mail log:\n{}", delivered.len(), self.log());
        delivered
    }

    /// The temporary directory, which Postfix's own user may enter. It has the subdirectories `config` (main.cf,
    /// master.cf), `queue`, `data` and `sink`, and the files `maillog` and `output`; there is room for more.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Makes the daemons read main.cf again, after the test has changed it.
    pub fn reload(&self) {
        self.master.signal("HUP");
    }

    /// One try; `None` if a port was taken.
    fn attempt(options: &[(&str, &str)]) -> Option<Postfix> {
        let (port, ipv6) = free_port();
        let (sink_port, _) = free_port();
        let dir = tempfile::Builder::new().prefix("mxgate-postfix-").tempdir().expect("no temporary directory");
        let path = dir.path();
        make_directories(path);
        write_main_cf(path, ipv6, sink_port, options);
        write_master_cf(path, port, ipv6);

        let master_program = PathBuf::from(parameter(path, "daemon_directory")).join("master");
        let smtp_sink = find("smtp-sink").expect("smtp-sink is not installed");
        let output = path.join("output");
        let dump = path.join("sink").join("%s.");
        let dump = dump.to_str().expect("the temporary directory has an odd name");
        let address = format!("127.0.0.1:{sink_port}");
        // As root, smtp-sink insists on another user (-u). 100 is the length of its queue of connections.
        // By its host name we know our sink from any other server that may have got the port.
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let arguments = ["-4", "-u", "postfix", "-h", &name, "-d", dump, &address, "100"];
        let sink = Daemon::start(&smtp_sink, arguments, &output);
        let config = path.join("config");
        let master = Daemon::start(&master_program, [OsStr::new("-c"), config.as_os_str()], &output);
        let postfix = Postfix { master, sink, dir, port, ipv6 };

        let mut ready = false;
        wait(START, || {
            ready = postfix.answers() && sink_answers(sink_port, &name);
            ready || postfix.complaints().contains("fatal: ")
        });
        if !ready && postfix.complaints().contains("Address already in use") {
            return None;
        }
        assert!(ready, "Postfix does not answer; its output and log:\n{}", postfix.complaints());
        Some(postfix)
    }

    /// Does an SMTP server answer 220? The question goes to a second server at a UNIX-domain socket, to which no milter
    /// and no restriction applies, so that what is under test does not see this client. The master opens all its
    /// sockets before it runs the first server, so the other ones can be connected to by then.
    fn answers(&self) -> bool {
        UnixStream::connect(self.dir().join("queue/public/probe"))
            .is_ok_and(|stream| stream.set_read_timeout(Some(PROBE)).is_ok() && first_line(stream).starts_with("220 "))
    }

    /// What Postfix and the sink wrote to standard output, standard error and the log.
    fn complaints(&self) -> String {
        read(&self.dir().join("output")) + &self.log()
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        if panicking() {
            super::say(&format!("the mail log of Postfix:\n{}", self.log()));
        }
    }
}

/// Does our sink answer at this port?
fn sink_answers(port: u16, name: &str) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .is_ok_and(|stream| stream.set_read_timeout(Some(PROBE)).is_ok() && first_line(stream).starts_with(&format!("220 {name} ")))
}

/// The first line that a server sends; empty if there is none.
fn first_line(stream: impl Read) -> String {
    let mut line = String::new();
    let _ = BufReader::new(stream).read_line(&mut line);
    line
}

/// The directories with the owners and permissions that Postfix wants.
fn make_directories(path: &Path) {
    let postfix: u32 = ask("id", &["-u", "postfix"]).parse().expect("there is no user postfix");
    let postdrop: u32 =
        ask("getent", &["group", "postdrop"]).split(':').nth(2).and_then(|number| number.parse().ok()).expect("there is no group postdrop");
    let make = |name: &str, mode: u32, user: Option<u32>, group: Option<u32>| {
        let directory = path.join(name);
        fs::create_dir_all(&directory).expect("cannot create a directory");
        // First the owner, because a change of owner may clear bits of the mode.
        chown(&directory, user, group).expect("cannot give a directory to the user postfix");
        set_mode(&directory, mode);
    };
    set_mode(path, 0o755); // it is 0700 now, and Postfix's daemons could not pass through
    make("config", 0o755, None, None);
    make("data", 0o700, Some(postfix), None);
    make("sink", 0o755, Some(postfix), None);
    make("queue", 0o755, None, None);
    make("queue/pid", 0o755, None, None);
    for name in ["active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved"] {
        make(&format!("queue/{name}"), 0o700, Some(postfix), None);
    }
    make("queue/trace", 0o700, Some(postfix), None);
    make("queue/public", 0o710, Some(postfix), Some(postdrop));
    make("queue/maildrop", 0o1730, Some(postfix), Some(postdrop));
}

/// main.cf: our parameters, then those of the test. A parameter is written once, or Postfix would warn about it.
fn write_main_cf(path: &Path, ipv6: bool, sink_port: u16, options: &[(&str, &str)]) {
    let at = |name: &str| path.join(name).to_str().expect("the temporary directory has an odd name").to_owned();
    let (queue, data, maillog, everything) = (at("queue"), at("data"), at("maillog"), at(""));
    let relayhost = format!("[127.0.0.1]:{sink_port}");
    let mut parameters = BTreeMap::from([
        ("compatibility_level", "3.6"),
        ("myhostname", "mx.example.org"),
        ("myorigin", "$myhostname"),
        // All of it in our directory.
        ("queue_directory", &queue),
        ("data_directory", &data),
        ("maillog_file", &maillog),
        ("maillog_file_prefixes", &everything),
        // Loopback only, no DNS.
        ("inet_interfaces", "loopback-only"),
        ("inet_protocols", if ipv6 { "all" } else { "ipv4" }),
        ("smtp_dns_support_level", "disabled"),
        ("smtp_host_lookup", "native"),
        ("smtpd_peername_lookup", "no"),
        ("append_dot_mydomain", "no"),
        // All mail goes to the sink, from whomever, for whomever.
        ("mydestination", ""),
        ("mynetworks", ""),
        ("relayhost", &relayhost),
        ("local_transport", "error:no local delivery"),
        ("local_recipient_maps", ""),
        ("alias_maps", ""),
        ("alias_database", ""),
        // Not just "permit": Postfix does not start without one restriction that refuses, be it out of reach.
        ("smtpd_relay_restrictions", "check_client_access static:ok, reject"),
        ("smtpd_recipient_restrictions", ""),
        ("smtpd_authorized_xclient_hosts", "127.0.0.0/8, [::1]/128"),
        // No TLS on either side.
        ("smtpd_tls_security_level", "none"),
        ("smtp_tls_security_level", "none"),
        // No delays and no limits: a test makes more errors, faster, than an honest client.
        ("smtpd_error_sleep_time", "0"),
        ("smtpd_soft_error_limit", "10000"),
        ("smtpd_hard_error_limit", "10000"),
        ("smtpd_junk_command_limit", "10000"),
        ("smtpd_client_connection_count_limit", "0"),
        ("smtpd_client_connection_rate_limit", "0"),
        ("in_flow_delay", "0"),
        ("smtp_destination_concurrency_limit", "20"),
    ]);
    parameters.extend(options.iter().copied());
    let lines: String = parameters.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
    fs::write(path.join("config/main.cf"), lines).expect("cannot write main.cf");
    // Postfix waits up to two seconds for a fresh main.cf "to cool down", lest somebody is still writing to it.
    let main_cf = fs::File::options().append(true).open(path.join("config/main.cf")).expect("cannot open main.cf");
    main_cf.set_modified(SystemTime::now() - Duration::from_secs(60)).expect("cannot set the time of main.cf");
}

/// master.cf: the services as they come with Postfix, without those for local delivery, and nothing in a chroot.
fn write_master_cf(path: &Path, port: u16, ipv6: bool) {
    let mut services = format!("127.0.0.1:{port} inet n - n - - smtpd\n");
    if ipv6 {
        services.push_str(&format!("[::1]:{port} inet n - n - - smtpd\n"));
    }
    services.push_str(
        "
probe      unix  n - n - - smtpd
  -o smtpd_milters=
  -o smtpd_client_restrictions=
  -o smtpd_delay_reject=yes
  -o smtpd_upstream_proxy_protocol=
pickup     unix  n - n 60    1 pickup
cleanup    unix  n - n -     0 cleanup
qmgr       unix  n - n 300   1 qmgr
tlsmgr     unix  - - n 1000? 1 tlsmgr
rewrite    unix  - - n -     - trivial-rewrite
bounce     unix  - - n -     0 bounce
defer      unix  - - n -     0 bounce
trace      unix  - - n -     0 bounce
verify     unix  - - n -     1 verify
flush      unix  n - n 1000? 0 flush
proxymap   unix  - - n -     - proxymap
proxywrite unix  - - n -     1 proxymap
smtp       unix  - - n -     - smtp
relay      unix  - - n -     - smtp
showq      unix  n - n -     - showq
error      unix  - - n -     - error
retry      unix  - - n -     - error
discard    unix  - - n -     - discard
anvil      unix  - - n -     1 anvil
scache     unix  - - n -     1 scache
postlog    unix-dgram n - n - 1 postlogd
",
    );
    fs::write(path.join("config/master.cf"), services).expect("cannot write master.cf");
}

/// A port that is free at 127.0.0.1, and at `::1` if this host has that; and whether it has. Another program may take it
/// before Postfix does: then we try again with another one.
fn free_port() -> (u16, bool) {
    let bind = |address: IpAddr, port| TcpListener::bind((address, port));
    let ipv6 = bind(Ipv6Addr::LOCALHOST.into(), 0).is_ok();
    loop {
        let listener = bind(Ipv4Addr::LOCALHOST.into(), 0).expect("no free port");
        let port = listener.local_addr().expect("a listener has an address").port();
        if !ipv6 || bind(Ipv6Addr::LOCALHOST.into(), port).is_ok() {
            return (port, ipv6);
        }
    }
}

/// The value of a parameter, as Postfix sees it.
fn parameter(path: &Path, name: &str) -> String {
    let config = path.join("config");
    ask("postconf", &["-c", config.to_str().expect("the temporary directory has an odd name"), "-hx", name])
}

/// The output of a program, without the line end.
fn ask(tool: &str, arguments: &[&str]) -> String {
    let program = find(tool).unwrap_or_else(|| panic!("{tool} is not installed"));
    let answer = Command::new(program).args(arguments).output().expect("cannot run a program that is there");
    assert!(answer.status.success(), "{tool} failed: {}", String::from_utf8_lossy(&answer.stderr));
    String::from_utf8_lossy(answer.stdout.trim_ascii()).into_owned()
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("cannot set permissions");
}

/// The contents of a file; empty if there is none (yet).
fn read(file: &Path) -> String {
    fs::read(file).map(|octets| String::from_utf8_lossy(&octets).into_owned()).unwrap_or_default()
}

/// Asks again and again until the answer is yes, or the time is over; at least once. The answer.
fn wait(timeout: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + timeout;
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        sleep(Duration::from_millis(20));
    }
}
