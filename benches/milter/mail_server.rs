//! A mail server, as a milter sees it: each session is a connection of its own with one message of one recipient, which ends
//! before DATA. It leaves out what the milter does not want and waits for the answers that the milter sends, as Postfix does.

use mxgate::milter::codec::{
    Command, Connect, Macros, Options, Packets, SMFIP_NOCONNECT, SMFIP_NOHELO, SMFIP_NOMAIL, SMFIP_NR_CONN, SMFIP_NR_MAIL, SMFIR_CONTINUE,
};
use std::cell::Cell;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, UnixStream};
use tokio::runtime;
use tokio::task::LocalSet;

/// SMFIP_NORCPT, SMFIP_NR_HELO, SMFIP_NR_RCPT: what mxgate never asks for.
const NORCPT: u32 = 0x8;
const NR_HELO: u32 = 0x2000;
const NR_RCPT: u32 = 0x8000;
/// What Postfix 3.7 offers.
const OFFER: Options = Options { version: 6, actions: 0x1ff, protocol: 0x1f_ffff };

/// So many addresses the mail server has.
const SOURCES: usize = 60_000;

/// Where a milter listens.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Unix(PathBuf),
    Tcp(u16),
}

/// What came of it.
pub(crate) struct Load {
    pub sessions: u32,
    pub refused: u32,
    pub seconds: f64,
}

/// So many sessions side by side, one after the other, for so long. Each has the next client.
pub(crate) fn run(target: &Target, connections: u16, time: Duration, clients: &Rc<[u32]>) -> Load {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let start = Instant::now();
    let counted = Rc::new(Counted::default());
    let all = LocalSet::new();
    let tasks: Vec<_> = (0..connections)
        .map(|_| {
            let (target, clients, counted) = (target.clone(), Rc::clone(clients), Rc::clone(&counted));
            all.spawn_local(async move {
                let (mut heard, mut said) = (vec![0; 4096], Vec::new());
                while start.elapsed() < time {
                    let number = counted.next.replace(counted.next.get() + 1);
                    let client = clients[number % clients.len()];
                    let answer = ask(&target, number, client, &mut heard, &mut said).await.unwrap();
                    counted.sessions.set(counted.sessions.get() + 1);
                    counted.refused.set(counted.refused.get() + u32::from(answer != SMFIR_CONTINUE));
                }
            })
        })
        .collect();
    all.block_on(&runtime, async {
        for task in tasks {
            task.await.unwrap();
        }
    });
    Load { sessions: counted.sessions.get(), refused: counted.refused.get(), seconds: start.elapsed().as_secs_f64() }
}

#[derive(Default)]
struct Counted {
    sessions: Cell<u32>,
    refused: Cell<u32>,
    /// Which client comes next.
    next: Cell<usize>,
}

async fn ask(target: &Target, number: usize, client: u32, heard: &mut [u8], said: &mut Vec<u8>) -> io::Result<u8> {
    match target {
        Target::Unix(path) => session(UnixStream::connect(path).await?, client, heard, said).await,
        Target::Tcp(port) => {
            // From many addresses: a port that was used is not free for a minute, and to look for one that is takes long.
            let socket = TcpSocket::new_v4()?;
            socket.bind((Ipv4Addr::from_bits(0x7f01_0000 + (number % SOURCES) as u32), 0).into())?;
            let stream = socket.connect((Ipv4Addr::LOCALHOST, *port).into()).await?;
            stream.set_nodelay(true)?;
            session(stream, client, heard, said).await
        }
    }
}

/// One session; the answer to RCPT.
async fn session(mut stream: impl AsyncRead + AsyncWrite + Unpin, client: u32, heard: &mut [u8], said: &mut Vec<u8>) -> io::Result<u8> {
    let mut milter = Milter { stream: &mut stream, packets: Packets::default(), heard, at: 0, end: 0, said };
    milter.say(&Command::OptNeg(OFFER));
    let agreed = milter.answer().await?.1;
    let wants = |bit: u32| agreed & bit == 0;
    if wants(SMFIP_NOCONNECT) {
        let address = Ipv4Addr::from_bits(client).to_string();
        milter.say(&Command::Macro(b'C', Macros(b"j\0mx.example.org\0{daemon_name}\0mx.example.org\0v\0Postfix 3.7\0")));
        milter.say(&Command::Connect(Connect { host: b"client.example.org", family: b'4', port: 4321, address: address.as_bytes() }));
        if wants(SMFIP_NR_CONN) {
            milter.answer().await?;
        }
    }
    if wants(SMFIP_NOHELO) {
        milter.say(&Command::Macro(b'H', Macros(b"")));
        milter.say(&Command::Helo(b"client.example.org"));
        if wants(NR_HELO) {
            milter.answer().await?;
        }
    }
    milter.say(&Command::Macro(b'M', Macros(b"{mail_mailer}\0smtp\0{mail_host}\0example.org\0{mail_addr}\0user@example.org\0")));
    if wants(SMFIP_NOMAIL) {
        milter.say(&Command::Mail(b"<user@example.org>"));
        if wants(SMFIP_NR_MAIL) {
            milter.answer().await?;
        }
    }
    let mut answer = SMFIR_CONTINUE;
    if wants(NORCPT) {
        milter.say(&Command::Macro(b'R', Macros(b"{rcpt_mailer}\0smtp\0{rcpt_host}\0example.org\0{rcpt_addr}\0other@example.org\0")));
        milter.say(&Command::Rcpt(b"<other@example.org>"));
        if wants(NR_RCPT) {
            answer = milter.answer().await?.0;
        }
    }
    milter.say(&Command::Abort);
    milter.say(&Command::Quit);
    milter.send().await?;
    Ok(answer)
}

/// The other end of a session.
struct Milter<'a, S> {
    stream: &'a mut S,
    packets: Packets,
    heard: &'a mut [u8],
    /// Which of what was heard has not been looked at.
    at: usize,
    end: usize,
    said: &'a mut Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Milter<'_, S> {
    fn say(&mut self, command: &Command<'_>) {
        command.encode(self.said);
    }

    async fn send(&mut self) -> io::Result<()> {
        self.stream.write_all(self.said).await?;
        self.said.clear();
        Ok(())
    }

    /// Sends what was said and waits for an answer: its first byte, and what is left out of the protocol if it says so.
    async fn answer(&mut self) -> io::Result<(u8, u32)> {
        self.send().await?;
        loop {
            let (used, packet) = self.packets.next(&self.heard[self.at..self.end]).map_err(io::Error::other)?;
            self.at += used;
            if let Some(packet) = packet {
                let protocol = packet.get(9..13).and_then(|bytes| Some(u32::from_be_bytes(bytes.try_into().ok()?)));
                return Ok((packet[0], protocol.unwrap_or(0)));
            }
            self.end = self.stream.read(self.heard).await?;
            self.at = 0;
            if self.end == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}
