//! Where the daemon listens: addresses as Postfix and as Sendmail write them, and the sockets behind them.

use crate::stream::watch;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, SockAddr, Socket, Type};
use std::fmt;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{UnixStream, lookup_host};

/// Connections that wait to be accepted. Where a unix socket has no more room a mail server fails at once.
const BACKLOG: i32 = 1024;

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// `unix:/path` or `local:/path`.
    Unix(PathBuf),
    /// `inet:host:port` (Postfix), `inet:port@host` (Sendmail), and the same with `inet6`.
    Inet {
        /// Name or address, without brackets.
        host: String,
        port: u16,
        /// Listen on an IPv6 address of the host.
        six: bool,
    },
}

/// What to write instead of an address that is none.
const FORMS: &str = "write unix:/path, inet:host:port or inet:port@host";

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        let (kind, rest) = text.split_once(':').ok_or_else(|| format!("it does not say what kind of socket; {FORMS}"))?;
        match kind.to_ascii_lowercase().as_str() {
            "unix" | "local" if rest.is_empty() => Err(format!("the path is missing; {FORMS}")),
            "unix" | "local" => Ok(Address::Unix(rest.into())),
            "inet" => parse_inet(kind, rest, false),
            "inet6" => parse_inet(kind, rest, true),
            _ => Err(format!("there is no kind of socket named \"{}\"; {FORMS}", kind.escape_debug())),
        }
    }
}

fn parse_inet(kind: &str, text: &str, six: bool) -> Result<Address, String> {
    let (local, any) = if six { ("::1", "::") } else { ("127.0.0.1", "0.0.0.0") };
    // Sendmail's way first: a host has no `@`, but an IPv6 address has colons.
    let (host, port) = match text.split_once('@') {
        Some((port, host)) => (host, port),
        None => text.rsplit_once(':').ok_or_else(|| {
            let port = if text.parse::<u16>().is_ok() { text } else { "8899" };
            format!("it names no host or no port; write {kind}:{port}@{local} for this host only or {kind}:{port}@{any} for all")
        })?,
    };
    let bare = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
    if bare.is_none() && host.contains(':') && !text.contains('@') {
        return Err(format!("an IPv6 address needs brackets; write {kind}:[{local}]:{port}", local = host.trim_matches(['[', ']'])));
    }
    let host = bare.unwrap_or(host);
    if host.is_empty() {
        return Err(format!("the host is missing; write {kind}:{port}@{local} for this host only or {kind}:{port}@{any} for all"));
    }
    let port =
        port.parse().map_err(|_| format!("\"{}\" is not a port; write a number such as {kind}:8899@{local}", port.escape_debug()))?;
    let six = six || host.parse::<Ipv6Addr>().is_ok();
    if six && host.parse::<Ipv4Addr>().is_ok() {
        return Err(format!("{host} is not an IPv6 address; write inet:{port}@{host}"));
    }
    Ok(Address::Inet { host: host.into(), port, six })
}

/// Reads where a control socket is: `unix:/path`, or the path alone.
pub(crate) fn parse_path(text: &str) -> Result<PathBuf, String> {
    if text.starts_with(['/', '.']) {
        return Ok(text.into());
    }
    match text.parse() {
        Ok(Address::Unix(path)) => Ok(path),
        Ok(Address::Inet { .. }) => Err("a control socket is a file, whose permissions say who may ask; write unix:/path".into()),
        Err(_) => Err("not the path of a socket; write unix:/path".into()),
    }
}

/// As Postfix writes it in `smtpd_milters`.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Inet { host, port, .. } if host.contains(':') => write!(f, "inet:[{host}]:{port}"),
            Address::Inet { host, port, .. } => write!(f, "inet:{host}:{port}"),
        }
    }
}

/// A socket that listens.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: AsyncFd<Socket>,
    is_unix: bool,
    origin: Origin,
}

/// Who has opened a socket, and sees to its end.
#[derive(Debug)]
enum Origin {
    /// We have; a unix socket has a file.
    Bound(Option<SocketFile>),
    /// Whoever started us, and keeps it open when we have ended.
    HandedOver,
}

/// The file of a unix socket.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode: by these we know it again.
    identity: (u64, u64),
}

impl SocketFile {
    /// Removes the file, unless another program has put its own there.
    fn remove(&self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::warn!("cannot remove the socket {}: {error}", self.path.display());
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

impl Listener {
    /// Starts to listen. The error says what is wrong and what to do.
    pub(crate) async fn bind(address: &Address, mode: u32) -> Result<Listener, String> {
        match address {
            Address::Unix(path) => bind_unix(path, mode).await,
            Address::Inet { host, port, six } => bind_inet(host, *port, *six).await,
        }
        .map_err(|error| format!("cannot listen on {address}: {error}"))
    }

    /// A socket that listens already. The error says what it is instead.
    pub(crate) fn handed_over(descriptor: OwnedFd) -> Result<Listener, String> {
        let socket = Socket::from(descriptor);
        if !socket.is_listener().map_err(|error| format!("not a socket: {error}"))? {
            return Err("a socket that does not listen".into());
        }
        let local = socket.local_addr().map_err(|error| error.to_string())?;
        if !local.is_unix() && local.as_socket().is_none() {
            return Err("neither a unix nor an internet socket".into());
        }
        Listener::new(socket, Origin::HandedOver).map_err(|error| error.to_string())
    }

    fn new(socket: Socket, origin: Origin) -> io::Result<Listener> {
        let is_unix = socket.local_addr()?.is_unix();
        socket.set_nonblocking(true)?;
        if !is_unix {
            // For its connections: a mail server waits for each answer; that must not wait for the next packet to go with.
            socket.set_tcp_nodelay(true)?;
        }
        Ok(Listener { socket: watch(socket, Interest::READABLE)?, is_unix, origin })
    }

    /// The address with what was chosen for it: the IP address of a name, a free port instead of port 0.
    pub(crate) fn address(&self) -> io::Result<Address> {
        let local = self.socket.get_ref().local_addr()?;
        match (local.as_socket(), &self.origin) {
            (Some(address), _) => Ok(Address::Inet { host: address.ip().to_string(), port: address.port(), six: address.is_ipv6() }),
            (None, Origin::Bound(Some(file))) => Ok(Address::Unix(std::path::absolute(&file.path)?)),
            (None, _) => Ok(Address::Unix(local.as_pathname().unwrap_or(Path::new("(a socket without a file)")).into())),
        }
    }

    /// Whether whoever started us has opened it. Then clients may wait in its queue: the next daemon serves them.
    pub(crate) fn is_handed_over(&self) -> bool {
        matches!(self.origin, Origin::HandedOver)
    }

    pub(crate) fn is_unix(&self) -> bool {
        self.is_unix
    }

    /// The next connection, which does not wait for bytes.
    pub(crate) async fn accept(&self) -> io::Result<Socket> {
        let accept = |listener: &Socket| {
            #[cfg(target_os = "linux")]
            let socket = listener.accept4(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC)?.0;
            #[cfg(not(target_os = "linux"))]
            let socket = listener.accept()?.0;
            #[cfg(not(target_os = "linux"))]
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        loop {
            let mut ready = self.socket.readable().await?;
            match ready.try_io(|listener| accept(listener.get_ref())) {
                Ok(Err(error)) if error.kind() == ErrorKind::Interrupted => {}
                Ok(accepted) => {
                    if accepted.is_ok() && !self.has_more() {
                        ready.clear_ready();
                    }
                    return accepted;
                }
                Err(_) => {}
            }
        }
    }

    /// Whether somebody else waits. It costs much less than to accept where nobody does, for which the system makes a socket first.
    fn has_more(&self) -> bool {
        let mut asked = [PollFd::new(self.socket.get_ref().as_fd(), PollFlags::POLLIN)];
        poll(&mut asked, PollTimeout::ZERO) != Ok(0)
    }

    /// Gives the file of a socket that we have opened to another user and group.
    pub(crate) fn give_to(&self, user: u32, group: u32) -> Result<(), String> {
        let Origin::Bound(Some(file)) = &self.origin else { return Ok(()) };
        chown(&file.path, Some(user), Some(group)).map_err(|error| format!("cannot change the owner of {}: {error}", file.path.display()))
    }

    /// Takes a socket that we have opened out of the file system, so that nobody new finds it. Who waits already can still
    /// be accepted.
    pub(crate) fn hide(&self) {
        if let Origin::Bound(Some(file)) = &self.origin {
            file.remove();
        }
    }
}

async fn bind_inet(host: &str, port: u16, six: bool) -> Result<Listener, String> {
    let found: Vec<SocketAddr> = match host.parse::<IpAddr>() {
        Ok(address) => vec![(address, port).into()],
        Err(_) => lookup_host((host, port)).await.map_err(|error| format!("{error}; write an IP address"))?.collect(),
    };
    let family = if six { "IPv6" } else { "IPv4" };
    let address = found.iter().find(|address| address.is_ipv6() == six).ok_or_else(|| format!("the host has no {family} address"))?;
    let listen = || {
        let socket = Socket::new(if six { Domain::IPV6 } else { Domain::IPV4 }, Type::STREAM, None)?;
        // Connections of the daemon before us that are closing must not keep us from starting.
        socket.set_reuse_address(true)?;
        socket.bind(&(*address).into())?;
        socket.listen(BACKLOG)?;
        Listener::new(socket, Origin::Bound(None))
    };
    let remedies = [
        (ErrorKind::AddrInUse, "is another daemon running? Stop it or choose another port"),
        (ErrorKind::AddrNotAvailable, "choose an address of this host"),
        (ErrorKind::PermissionDenied, "choose a port above 1023"),
    ];
    listen().map_err(|error| with_remedy(&error, &remedies))
}

async fn bind_unix(path: &Path, mode: u32) -> Result<Listener, String> {
    remove_stale(path).await?;
    let listen = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // Linux creates the file with the mode of the socket less the umask: so it is never wider than asked for.
        // Elsewhere this may do nothing, but nobody can connect before `listen` anyway.
        let handle = File::from(socket.as_fd().try_clone_to_owned()?);
        let narrowed = handle.set_permissions(Permissions::from_mode(mode));
        if cfg!(target_os = "linux") {
            narrowed?;
        }
        socket.bind(&SockAddr::unix(path)?)?;
        let identity = identity(path)?;
        // Gives back what the umask took off.
        fs::set_permissions(path, Permissions::from_mode(mode))?;
        let file = SocketFile { path: path.into(), identity };
        socket.listen(BACKLOG)?;
        Listener::new(socket, Origin::Bound(Some(file)))
    };
    let remedies = [
        (ErrorKind::NotFound, "create its directory"),
        (ErrorKind::PermissionDenied, "the daemon's user must be able to write to its directory"),
        (ErrorKind::InvalidInput, "choose a shorter path, of at most 107 bytes"),
    ];
    listen().map_err(|error| with_remedy(&error, &remedies))
}

/// What the system says, and what to do about it.
fn with_remedy(error: &io::Error, remedies: &[(ErrorKind, &str)]) -> String {
    match remedies.iter().find(|(kind, _)| *kind == error.kind()) {
        Some((_, remedy)) => format!("{error}; {remedy}"),
        None => error.to_string(),
    }
}

/// Removes the socket that a daemon left behind, and nothing else.
async fn remove_stale(path: &Path) -> Result<(), String> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err("there is a file that is not a socket; move it away or choose another path".into());
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| format!("a socket that nobody serves is there and cannot be removed: {error}"))
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(format!("somebody else's socket is there: {error}")),
        // Its queue is full, and so it has an owner.
        Ok(_) | Err(_) => Err("another daemon listens there; stop it or choose another path".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_both_ways() {
        for (text, shown) in [
            ("unix:/run/mxgate/milter.sock", "unix:/run/mxgate/milter.sock"),
            ("local:/run/mxgate/milter.sock", "unix:/run/mxgate/milter.sock"),
            ("unix:private/mxgate", "unix:private/mxgate"),
            ("inet:8899@127.0.0.1", "inet:127.0.0.1:8899"),
            ("inet:127.0.0.1:8899", "inet:127.0.0.1:8899"),
            ("INET:8899@localhost", "inet:localhost:8899"),
            ("inet:localhost:0", "inet:localhost:0"),
            ("inet6:8899@::1", "inet:[::1]:8899"),
            ("inet6:8899@[::1]", "inet:[::1]:8899"),
            ("inet6:[::1]:8899", "inet:[::1]:8899"),
            ("inet:[::1]:8899", "inet:[::1]:8899"),
            ("inet:8899@::1", "inet:[::1]:8899"),
            ("inet6:localhost:8899", "inet:localhost:8899"),
        ] {
            assert_eq!(text.parse::<Address>().map(|address| address.to_string()), Ok(shown.into()), "{text}");
        }
    }

    #[test]
    fn control_sockets_are_files() {
        for (text, path) in [("unix:/run/c.sock", "/run/c.sock"), ("/run/c.sock", "/run/c.sock"), ("./c", "./c"), ("local:c", "c")] {
            assert_eq!(parse_path(text), Ok(path.into()));
        }
        for wrong in ["", "c", "unix:", "inet:8899@127.0.0.1", "tcp:1"] {
            assert!(parse_path(wrong).unwrap_err().ends_with("; write unix:/path"), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_remedy() {
        for (text, cause, remedy) in [
            ("", "what kind of socket", "unix:/path"),
            ("/run/x", "what kind of socket", "unix:/path"),
            ("tcp:127.0.0.1:8899", "no kind of socket named \"tcp\"", "inet:host:port"),
            ("unix:", "path is missing", "unix:/path"),
            ("inet:", "no host", "inet:8899@127.0.0.1"),
            ("inet:8899", "no host", "inet:8899@127.0.0.1 for this host only or inet:8899@0.0.0.0 for all"),
            ("inet6:8899", "no host", "inet6:8899@::1 for this host only or inet6:8899@:: for all"),
            ("inet:8899@", "host is missing", "inet:8899@127.0.0.1"),
            ("inet::8899", "host is missing", "inet:8899@127.0.0.1"),
            ("inet:::1:8899", "needs brackets", "inet:[::1]:8899"),
            ("inet:localhost:smtp", "\"smtp\" is not a port", "inet:8899@127.0.0.1"),
            ("inet:70000@localhost", "\"70000\" is not a port", "a number"),
            ("inet:127.0.0.1@8899", "\"127.0.0.1\" is not a port", "inet:8899@127.0.0.1"),
            ("inet6:8899@127.0.0.1", "not an IPv6 address", "inet:8899@127.0.0.1"),
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.contains(cause), "{text}: {error}");
            assert!(error.split_once("; ").unwrap().1.contains(remedy), "{text}: {error}");
        }
    }
}
