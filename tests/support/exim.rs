//! A private Exim with `examples/exim_dlfunc.c` in the ACLs of `examples/exim.conf`.

use super::daemon::Daemon;
use super::host::{Stage, adapted, free_addresses, started};
use super::library;
use std::net::{Ipv4Addr, SocketAddr};

/// The program, for [`super::host::ready`].
pub const EXIM: &str = "exim4-daemon-heavy/usr/sbin/exim4";

/// Clients from these addresses speak the PROXY protocol. Those from the second are not asked about at CONNECT.
pub const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 98);
pub const RCPT_ONLY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 99);

/// Where everything is, and what a test needs: no TLS, no limits, a greeting without the time, anything that can be an
/// address. Messages stay in the queue.
const SETTINGS: &str = "
spool_directory = {stage}/spool
log_file_path = {stage}/spool/%slog
pid_file_path = {stage}/spool/pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
hosts_proxy = 127.0.0.98/31
queue_only = true
keep_environment =
host_lookup =
tls_advertise_hosts =
smtp_banner = $primary_hostname ESMTP
smtp_max_synprot_errors = 1000
allow_domain_literals = true
recipient_unqualified_hosts = *
sender_unqualified_hosts = *

";

/// Everybody may log in.
const AUTHENTICATORS: &str = "
begin authenticators

plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = true
";

/// A running Exim. Dropping it stops it.
#[derive(Debug)]
pub struct Exim {
    _daemon: Daemon,
    address: SocketAddr,
    stage: Stage,
}

impl Exim {
    /// Starts it with this policy in the file `policy` of the stage, or with that file of the stage if the text ends in
    /// `.toml`, and changes to `exim.conf`.
    pub fn start(policy: &str, changes: &[(&str, &str)]) -> Exim {
        started(|| Exim::attempt(policy, changes))
    }

    fn attempt(policy: &str, changes: &[(&str, &str)]) -> Option<Exim> {
        let (stage, [address]) = (Stage::new(), free_addresses());
        let file = if policy.ends_with(".toml") { policy } else { "policy" };
        if file == "policy" {
            stage.write(file, policy);
        }
        stage.directory_of("Debian-exim", "spool");
        let shim = library::compile("examples/exim_dlfunc.c", &["-shared", "-fPIC"], &stage.path(""));
        let (shim, policy) = (shim.display().to_string(), stage.path(file).display().to_string());
        let mut all = vec![
            ("/usr/local/lib/mxgate-exim.so", &*shim),
            ("/etc/mxgate/mxgate.toml", &*policy),
            ("our_domains = example.org", "our_domains = *"),
            ("= acl_check_connect", "= ${if eq{$proxy_local_address}{127.0.0.99}{accept}{acl_check_connect}}"),
        ];
        all.extend(changes);
        let settings = SETTINGS.replace("{stage}", &stage.path("").display().to_string()).replace("{port}", &address.port().to_string());
        stage.write("exim.conf", &(settings + &adapted("exim.conf", &all) + AUTHENTICATORS));
        let daemon = stage.start(EXIM, ["-bdf".as_ref(), "-C".as_ref(), stage.path("exim.conf").as_os_str()]);
        let ready = stage.wait(&daemon, &["output", "spool/mainlog"], |said| said.contains("daemon started"));
        ready.then_some(Exim { _daemon: daemon, address, stage })
    }

    /// Where it takes mail.
    pub fn smtp(&self) -> SocketAddr {
        self.address
    }

    /// The main log so far.
    pub fn log(&self) -> String {
        self.stage.read("spool/mainlog")
    }

    /// Puts another policy in the place of the first.
    pub fn write_policy(&self, text: &str) {
        self.stage.write("policy", text);
    }
}
