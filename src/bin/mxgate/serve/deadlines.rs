//! Tests of the deadlines, with a clock that runs ahead whenever nobody has anything to do: the whole daemon, real sockets,
//! and peers that take their time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what goes wrong here ends the test, with a message")]

use super::{Arguments, serve};
use clap::Parser;
use mxgate::milter::codec::{Command, Connect, Options};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};

/// The clock goes forward in steps, for it does so as well when bytes are on their way.
const STEP: Duration = Duration::from_millis(200);
/// The deadlines, as the documentation has them.
const NEGOTIATION_TIME: Duration = Duration::from_secs(10);
const PACKET_TIME: Duration = Duration::from_secs(30);
const WRITE_TIME: Duration = Duration::from_secs(30);
const IDLE_TIME: Duration = Duration::from_secs(3600);
/// How exactly a deadline is kept here.
const ALLOWANCE: Duration = Duration::from_secs(1);

#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    arguments: Arguments,
}

struct Daemon {
    socket: PathBuf,
    _directory: TempDir,
}

impl Daemon {
    /// On a unix socket, with a policy that refuses 192.0.2.0/24.
    async fn start() -> Daemon {
        let directory = tempfile::tempdir().unwrap();
        let (policy, socket) = (directory.path().join("mxgate.toml"), directory.path().join("milter.sock"));
        let list = "[[list]]\nname = \"local\"\nentries = [\"192.0.2.0/24\"]\n";
        std::fs::write(&policy, format!("hostname = \"mx.example.org\"\n{list}")).unwrap();
        let (policy, listen) = (policy.display().to_string(), format!("unix:{}", socket.display()));
        let CommandLine { arguments } = CommandLine::parse_from(["serve", "--config", &policy, "--listen", &listen]);
        tokio::spawn(async move { serve(arguments).await.unwrap() });
        tokio::spawn(async {
            loop {
                sleep(STEP).await;
            }
        });
        while UnixStream::connect(&socket).await.is_err() {
            sleep(STEP).await;
        }
        Daemon { socket, _directory: directory }
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.socket).await.unwrap()
    }

    /// A mail server of whose client the address is known, so that it can ask for recipients.
    async fn begin(&self) -> UnixStream {
        let mut stream = self.connect().await;
        let mut bytes = offer();
        Command::Connect(Connect { host: b"client.example", family: b'4', port: 4321, address: b"192.0.2.7" }).encode(&mut bytes);
        stream.write_all(&bytes).await.unwrap();
        assert_eq!(answer(&mut stream).await, b'O');
        stream
    }
}

fn offer() -> Vec<u8> {
    let mut bytes = Vec::new();
    Command::OptNeg(Options { version: 6, actions: 0x1ff, protocol: 0x1f_ffff }).encode(&mut bytes);
    bytes
}

fn rcpt() -> Vec<u8> {
    let mut bytes = Vec::new();
    Command::Rcpt(b"<user@example.org>").encode(&mut bytes);
    bytes
}

/// The command byte of the next answer.
async fn answer(stream: &mut UnixStream) -> u8 {
    let length = stream.read_u32().await.unwrap();
    let mut packet = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut packet).await.unwrap();
    *packet.first().unwrap()
}

/// How long after `since` the daemon closes the connection.
async fn closed(stream: &mut UnixStream, since: Instant) -> Duration {
    match timeout(2 * IDLE_TIME, stream.read(&mut [0; 64])).await.unwrap() {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("{other:?}"),
    }
    since.elapsed()
}

/// Sends these bytes, again and again, one a second. How long it takes until the daemon closes the connection.
async fn drip(mut stream: UnixStream, bytes: &[u8]) -> Duration {
    let start = Instant::now();
    for byte in bytes.iter().cycle() {
        if stream.write_all(&[*byte]).await.is_err() {
            break;
        }
        sleep(Duration::from_secs(1)).await;
        assert!(start.elapsed() < IDLE_TIME, "nobody puts an end to it");
    }
    start.elapsed()
}

#[track_caller]
fn assert_about(took: Duration, deadline: Duration) {
    // A peer that sends a byte a second notices a second later.
    let latest = deadline + Duration::from_secs(1) + ALLOWANCE;
    assert!(took + ALLOWANCE >= deadline && took <= latest, "{took:?} in place of {deadline:?}");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_negotiate_has_ten_seconds() {
    let daemon = Daemon::start().await;
    let start = Instant::now();
    assert_about(closed(&mut daemon.connect().await, start).await, NEGOTIATION_TIME);
    // A byte now and then does not make it longer.
    assert_about(drip(daemon.connect().await, &offer()).await, NEGOTIATION_TIME);
    // Half an offer.
    let (start, mut half) = (Instant::now(), daemon.connect().await);
    half.write_all(offer().get(..9).unwrap()).await.unwrap();
    assert_about(closed(&mut half, start).await, NEGOTIATION_TIME);
}

#[tokio::test(start_paused = true)]
async fn a_packet_that_has_begun_has_half_a_minute() {
    let daemon = Daemon::start().await;
    // All of the length, half of it, and all but the last byte; then silence.
    for sent in [4, 2, rcpt().len() - 1] {
        let (mut stream, start) = (daemon.begin().await, Instant::now());
        stream.write_all(rcpt().get(..sent).unwrap()).await.unwrap();
        assert_about(closed(&mut stream, start).await, PACKET_TIME);
    }
    // A long packet, one byte a second.
    assert_about(drip(daemon.begin().await, &[&[0, 0, 255, 255, b'B'][..], &[b'x'; 1000]].concat()).await, PACKET_TIME);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_has_half_a_minute() {
    let daemon = Daemon::start().await;
    let mut deaf = daemon.begin().await;
    let flood = rcpt().repeat(100);
    // Until the daemon has no room for answers, and therefore takes no more questions.
    while let Ok(written) = timeout(Duration::from_secs(5), deaf.write_all(&flood)).await {
        written.unwrap();
    }
    let start = Instant::now();
    assert!(deaf.write_all(&flood).await.is_err());
    assert_about(start.elapsed() + Duration::from_secs(5), WRITE_TIME);
}

#[tokio::test(start_paused = true)]
async fn an_idle_mail_server_has_an_hour_from_its_last_packet() {
    let daemon = Daemon::start().await;
    let mut stream = daemon.begin().await;
    for _ in 0..3 {
        sleep(IDLE_TIME - Duration::from_secs(60)).await;
        stream.write_all(&rcpt()).await.unwrap();
        assert_eq!(answer(&mut stream).await, b'y');
    }
    let start = Instant::now();
    assert_about(closed(&mut stream, start).await, IDLE_TIME);
}
