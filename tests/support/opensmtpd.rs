//! A private OpenSMTPD with `examples/opensmtpd_filter.c` as the filter of `examples/smtpd.conf`.

use super::daemon::Daemon;
use super::host::{Stage, adapted, free_addresses, started};
use super::library;
use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The program, for [`super::host::ready`].
pub const SMTPD: &str = "opensmtpd/usr/sbin/smtpd";

/// How long one question whether it answers may take.
const PROBE: Duration = Duration::from_secs(1);

/// A running OpenSMTPD. Dropping it stops it.
#[derive(Debug)]
pub struct OpenSmtpd {
    daemon: Daemon,
    address: SocketAddr,
    proxied: SocketAddr,
    stage: Stage,
}

impl OpenSmtpd {
    /// Starts it with this policy, or with that file of the stage if the text ends in `.toml`. Messages stay in the queue:
    /// nobody listens where it should hand them on to.
    pub fn start(policy: &str) -> OpenSmtpd {
        started(|| OpenSmtpd::attempt(policy))
    }

    fn attempt(policy: &str) -> Option<OpenSmtpd> {
        let (stage, [address, proxied]) = (Stage::new(), free_addresses());
        let file = if policy.ends_with(".toml") { policy } else { "policy" };
        if file == "policy" {
            stage.write(file, policy);
        }
        let filter = library::compile("examples/opensmtpd_filter.c", &[], &stage.path(""));
        let (filter, policy) = (filter.display().to_string(), stage.path(file).display().to_string());
        let listen = |address: SocketAddr, option| {
            format!("listen on 127.0.0.1 port {} {option} hostname mx.example.org filter \"mxgate\"", address.port())
        };
        let listeners = format!("{}\n{}", listen(address, ""), listen(proxied, "proxy-v2"));
        let changes = [
            ("/usr/local/libexec/filter-mxgate", &*filter),
            ("/etc/mxgate/mxgate.toml", &*policy),
            ("listen on 0.0.0.0 hostname mx.example.org filter \"mxgate\"", &*listeners),
            ("smtp://192.0.2.25", "smtp://127.0.0.1:9"),
            ("for domain \"example.org\"", "for any"),
        ];
        stage.write("smtpd.conf", &adapted("smtpd.conf", &changes));
        let daemon = stage.start(SMTPD, ["-d".as_ref(), "-f".as_ref(), stage.path("smtpd.conf").as_os_str()]);
        // Any greeting will do: it comes when the filter has answered. That it was this server, and not one that took the
        // port, stands in its output.
        let ready = stage.wait(&daemon, &["output"], |said| {
            let greeted = TcpStream::connect(address).is_ok_and(|mut stream| {
                stream.set_read_timeout(Some(PROBE)).is_ok() && stream.read(&mut [0]).is_ok_and(|length| length == 1)
            });
            greeted && said.contains("connected address=127.0.0.1 ")
        });
        ready.then_some(OpenSmtpd { daemon, address, proxied, stage })
    }

    /// Where it takes mail.
    pub fn smtp(&self) -> SocketAddr {
        self.address
    }

    /// Where it takes mail from clients that speak the PROXY protocol.
    pub fn proxied(&self) -> SocketAddr {
        self.proxied
    }

    /// What it has said so far, the filter included.
    pub fn log(&self) -> String {
        self.stage.read("output")
    }

    /// Does it still run?
    pub fn running(&self) -> bool {
        self.daemon.running()
    }
}
