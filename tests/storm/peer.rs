//! The other end of the daemon: a mail server that checks what it reads, thousands of them in one thread.

use mxgate::milter::codec::{Command, Connect, Macros, Options};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpSocket, UnixStream};
use tokio::runtime;
use tokio::time::timeout;

/// Time for an answer. The daemon has far less; what takes longer has been lost.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the daemon listens.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Unix(PathBuf),
    Tcp(u16),
}

pub(crate) trait Wire: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Wire for T {}

/// Runs what many peers do in this thread, side by side.
pub(crate) fn block_on<T>(all: impl Future<Output = T>) -> T {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, all)
}

/// A connection. Over TCP it comes from one of many addresses, for else there would be no free port soon.
pub(crate) async fn connect(target: &Target, number: usize) -> io::Result<Box<dyn Wire>> {
    Ok(match target {
        Target::Unix(path) => Box::new(UnixStream::connect(path).await?),
        Target::Tcp(port) => {
            let from = Ipv4Addr::from_bits(0x7f00_0002 + u32::try_from(number % 200).unwrap());
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::from((from, 0)))?;
            let stream = socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, *port))).await?;
            stream.set_nodelay(true)?;
            Box::new(stream)
        }
    })
}

/// Packets as bytes.
pub(crate) fn bytes(packets: &[Command<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    packets.iter().for_each(|packet| packet.encode(&mut bytes));
    bytes
}

/// What Postfix offers.
pub(crate) fn offer() -> Command<'static> {
    Command::OptNeg(Options { version: 6, actions: 0x1ff, protocol: 0x1f_ffff })
}

pub(crate) fn client(address: &str) -> Command<'_> {
    let family = if address.contains(':') { b'6' } else { b'4' };
    Command::Connect(Connect { host: b"client.example", family, port: 4321, address: address.as_bytes() })
}

/// A recipient, with its macros.
pub(crate) fn rcpt() -> [Command<'static>; 2] {
    [Command::Macro(b'R', Macros(b"{rcpt_mailer}\0smtp\0{rcpt_addr}\0user@example.org\0")), Command::Rcpt(b"<user@example.org>")]
}

/// A mail server with one connection.
pub(crate) struct MailServer {
    stream: BufReader<Box<dyn Wire>>,
}

impl MailServer {
    /// Connects and negotiates.
    pub(crate) async fn begin(target: &Target, number: usize) -> io::Result<MailServer> {
        MailServer::on(connect(target, number).await?).await
    }

    pub(crate) async fn on(stream: Box<dyn Wire>) -> io::Result<MailServer> {
        let mut server = MailServer { stream: BufReader::with_capacity(512, stream) };
        server.send(&[offer()]).await?;
        match server.answer().await? {
            (b'O', _) => Ok(server),
            other => Err(io::Error::other(format!("{other:?} in place of options"))),
        }
    }

    pub(crate) async fn send(&mut self, packets: &[Command<'_>]) -> io::Result<()> {
        self.stream.write_all(&bytes(packets)).await
    }

    /// The next answer: its command byte, and its text.
    pub(crate) async fn answer(&mut self) -> io::Result<(u8, String)> {
        let read = async {
            let mut packet = vec![0; usize::try_from(self.stream.read_u32().await?).unwrap().min(4096)];
            self.stream.read_exact(&mut packet).await?;
            let (kind, text) = packet.split_first().ok_or(io::ErrorKind::InvalidData)?;
            Ok((*kind, String::from_utf8_lossy(text.strip_suffix(b"\0").unwrap_or(text)).into_owned()))
        };
        timeout(PATIENCE, read).await.map_err(|_| io::Error::other("no answer"))?
    }

    /// The reply to a recipient of a client; empty if it is accepted.
    pub(crate) async fn ask(&mut self, address: &str) -> io::Result<String> {
        let [macros, rcpt] = rcpt();
        let mail = Command::Macro(b'M', Macros(b"{mail_addr}\0sender@example.net\0"));
        self.send(&[Command::QuitNewConnection, client(address), mail, macros, rcpt]).await?;
        match self.answer().await? {
            (b'c', text) if text.is_empty() => Ok(text),
            (b'y', text) if !text.is_empty() => Ok(text),
            other => Err(io::Error::other(format!("{other:?} in place of a verdict"))),
        }
    }

    /// Ends as mail servers do, and waits until the daemon has closed too.
    pub(crate) async fn quit(mut self) -> io::Result<()> {
        self.send(&[Command::Abort, Command::Quit]).await?;
        match timeout(PATIENCE, self.stream.read_u8()).await {
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            other => Err(io::Error::other(format!("{other:?} in place of the end"))),
        }
    }
}
