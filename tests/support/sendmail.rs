//! A private Sendmail with a milter. It delivers nothing: messages stay in its queue.

use super::daemon::Daemon;
use super::host::{self, Stage, free_addresses, started};
use super::{available, skip};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program, for [`host::ready`], and what its configuration is made of.
const SENDMAIL: &str = "sendmail-bin/usr/libexec/sendmail/sendmail";
const MACROS: &str = "target/hosts/sendmail-cf/usr/share/sendmail/cf";

/// Everything of it in the stage, no DNS, no limits, a greeting without the time, anything that can be an address.
const CONFIGURATION: &str = "divert(0)dnl
define(`_CF_DIR_', `{macros}/')dnl
include(`{macros}/m4/cf.m4')dnl
OSTYPE(`linux')dnl
define(`confDOMAIN_NAME', `mx.example.org')dnl
define(`QUEUE_DIR', `{stage}/queue')dnl
define(`confPID_FILE', `{stage}/pid')dnl
define(`STATUS_FILE', `{stage}/statistics')dnl
define(`ALIAS_FILE', `')dnl
define(`confCW_FILE', `-o /dev/null')dnl
define(`confSERVICE_SWITCH_FILE', `{stage}/service.switch')dnl
define(`confDELIVERY_MODE', `queueonly')dnl
define(`confSMTP_LOGIN_MSG', `$j Sendmail')dnl
define(`confTO_IDENT', `0')dnl
define(`confBAD_RCPT_THROTTLE', `0')dnl
define(`confMAX_DAEMON_CHILDREN', `0')dnl
FEATURE(`no_default_msa')dnl
FEATURE(`promiscuous_relay')dnl
FEATURE(`accept_unresolvable_domains')dnl
FEATURE(`accept_unqualified_senders')dnl
FEATURE(`nocanonify')dnl
DAEMON_OPTIONS(`Port={port}, Addr=127.0.0.1, Name=MTA')dnl
{milter}
MAILER(`smtp')dnl
";

/// Can it be run here? If not, says why and returns false.
pub fn ready() -> bool {
    let unpacked = || {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(MACROS).join("m4/cf.m4").is_file() || skip("sendmail-cf is not unpacked (make hosts)")
    };
    host::ready(SENDMAIL) && available(&["m4", "hostname"]) && unpacked()
}

/// A running Sendmail. Dropping it stops it.
#[derive(Debug)]
pub struct Sendmail {
    _daemon: Daemon,
    address: SocketAddr,
    stage: Stage,
}

impl Sendmail {
    /// Starts it with these lines of m4 about its milter.
    pub fn start(milter: &str) -> Sendmail {
        started(|| Sendmail::attempt(milter))
    }

    fn attempt(milter: &str) -> Option<Sendmail> {
        let (stage, [address]) = (Stage::new(), free_addresses());
        let root = stage.path("").display().to_string();
        let root = root.trim_end_matches('/');
        fs::create_dir(stage.path("queue")).unwrap();
        fs::set_permissions(stage.path("queue"), fs::Permissions::from_mode(0o700)).unwrap();
        // Without a name that has a dot Sendmail waits a minute for one.
        stage.write("hosts", "127.0.0.1 mx.example.org localhost\n");
        stage.write("hostname", "mx.example.org\n");
        stage.write("service.switch", "hosts files\naliases files\npasswd files\n");
        let macros = Path::new(env!("CARGO_MANIFEST_DIR")).join(MACROS);
        let configuration = CONFIGURATION
            .replace("{macros}", &macros.display().to_string())
            .replace("{stage}", root)
            .replace("{port}", &address.port().to_string())
            .replace("{milter}", milter);
        stage.write("sendmail.mc", &configuration);
        let made = Command::new("m4").arg(stage.path("sendmail.mc")).output().unwrap();
        assert!(made.status.success(), "m4: {}", String::from_utf8_lossy(&made.stderr));
        stage.write("sendmail.cf", &String::from_utf8(made.stdout).unwrap());
        let file = stage.path("sendmail.cf");
        let log = stage.path("traffic");
        let daemon = stage.start(SENDMAIL, ["-bD".as_ref(), "-C".as_ref(), file.as_os_str(), "-X".as_ref(), log.as_os_str()]);
        let ready = stage.wait(&daemon, &["output"], |_| TcpStream::connect(address).is_ok());
        ready.then_some(Sendmail { _daemon: daemon, address, stage })
    }

    /// Where it takes mail.
    pub fn smtp(&self) -> SocketAddr {
        self.address
    }

    /// The recipients of each message in its queue.
    pub fn queued(&self) -> Vec<String> {
        let files = fs::read_dir(self.stage.path("queue")).unwrap().map(|file| file.unwrap().path());
        let is_control = |file: &PathBuf| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("qf"));
        let recipients = |file: PathBuf| {
            let text = fs::read(file).unwrap();
            let text = String::from_utf8_lossy(&text);
            let recipients = text.lines().filter_map(|line| line.strip_prefix('R').and_then(|line| line.split_once(':')));
            recipients.map(|(_, recipient)| recipient.trim_matches(['<', '>']).to_owned()).collect::<Vec<_>>().join(" ")
        };
        files.filter(is_control).map(recipients).collect()
    }
}
