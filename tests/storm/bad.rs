//! Peers that are not mail servers, or not good ones: slow, silent, deaf, greedy, wrong. Each is bad for as long as the daemon
//! lets it.

use crate::malformed::sessions;
use crate::peer::{Target, bytes, client, connect, offer, rcpt};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time;

/// How a bad peer is bad.
#[derive(Clone, Debug)]
pub(crate) enum Bad {
    /// Says this and then nothing; whether the daemon ends it at once.
    Says(Vec<u8>, bool),
    /// A byte a second.
    Slow,
    /// Asks and asks, and never reads.
    Deaf,
    /// Asks and asks, and reads all answers: a daemon that hears it to its end never hears anybody else.
    Greedy,
    /// One of those that chance makes: said, and then what is read is looked at.
    Malformed(Vec<u8>),
}

/// The longest that the daemon waits for anything but an idle mail server, and a little.
pub(crate) const LONGEST: Duration = Duration::from_secs(32);

impl Bad {
    /// Is bad until the daemon ends it, or until `end`: whether the daemon has ended it, and how long the daemon bore it. For a
    /// deaf one that time begins when the daemon takes nothing more.
    pub(crate) async fn go(self, target: &Target, number: usize, end: Instant) -> (bool, Duration) {
        let mut start = Instant::now();
        let (mut read, mut write) = tokio::io::split(connect(target, number).await.unwrap());
        let mut heard = Vec::new();
        let until = time::Instant::from_std(end);
        let closed = match self {
            Bad::Says(said, _) => {
                // It may have closed before it had read all.
                let _ = write.write_all(&said).await;
                time::timeout_at(until, read.read_to_end(&mut heard)).await.is_ok()
            }
            Bad::Slow => {
                let mut packets = bytes(&[offer(), client("192.0.2.7"), rcpt()[1]]).into_iter().cycle();
                loop {
                    if write.write_all(&[packets.next().unwrap()]).await.is_err() {
                        break true;
                    }
                    if Instant::now() > end {
                        break false;
                    }
                    time::sleep(Duration::from_secs(1)).await;
                }
            }
            Bad::Deaf => {
                let said = bytes(&[offer(), client("192.0.2.7")]);
                let flood = bytes(&rcpt()).repeat(100);
                write.write_all(&said).await.unwrap();
                loop {
                    match time::timeout_at(until, write.write(&flood)).await {
                        Ok(Ok(_)) => start = Instant::now(),
                        ended => break ended.is_ok(),
                    }
                }
            }
            Bad::Greedy => {
                let said = bytes(&[offer(), client("198.51.100.7")]);
                let flood = bytes(&rcpt()).repeat(1000);
                write.write_all(&said).await.unwrap();
                let mut answers = vec![0; 1 << 16];
                let asks = async { while write.write_all(&flood).await.is_ok() {} };
                let reads = async { while read.read(&mut answers).await.is_ok_and(|length| length > 0) {} };
                time::timeout_at(until, async { tokio::join!(asks, reads) }).await.is_ok()
            }
            Bad::Malformed(said) => {
                let _ = write.write_all(&said).await;
                let _ = write.shutdown().await;
                let closed = time::timeout_at(until, read.read_to_end(&mut heard)).await.is_ok();
                well_formed(&heard, &said);
                closed
            }
        };
        (closed, start.elapsed())
    }
}

/// What the daemon has said to a bad peer is packets, and no others than to good ones.
fn well_formed(mut heard: &[u8], said: &[u8]) {
    while let Some((length, rest)) = heard.split_first_chunk::<4>() {
        let (packet, rest) =
            rest.split_at_checked(u32::from_be_bytes(*length) as usize).unwrap_or_else(|| panic!("{}", heard.escape_ascii()));
        let right = match packet {
            [b'O', options @ ..] => options.len() >= 12,
            [b'c'] => true,
            [b'y', reply @ ..] => {
                reply.starts_with(b"550 5.7.1 Service unavailable; client [192.0.2.") && reply.ends_with(b"using local\0")
            }
            _ => false,
        };
        assert!(right, "{} to {}", packet.escape_ascii(), said.escape_ascii());
        heard = rest;
    }
    // Nothing is left: a daemon that resets the connection may have cut the last one off.
}

/// One of each kind, and more of some.
pub(crate) fn bad_ones() -> Vec<Bad> {
    let begun = |packet: &[u8]| [&bytes(&[offer()])[..], packet].concat();
    let question = bytes(&[rcpt()[1]]);
    let mut bad = Vec::new();
    for at_once in [
        b"\xff\xff\xff\xff".to_vec(),
        b"\x7f\xff\xff\xffO".to_vec(),
        b"\x40\0\0\0O".to_vec(),
        b"\0\0\0\0".to_vec(),
        b"GET / HTTP/1.1\r\nHost: mx.example.org\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(),
        b"EHLO client.example.org\r\n".to_vec(),
        begun(b"\xff\xff\xff\xff"),
        begun(b"\0\0\0\x01!"),
        begun(&bytes(&[offer()])),
        bytes(&[client("192.0.2.7"), offer()]),
        question.clone(),
    ] {
        bad.push(Bad::Says(at_once, true));
    }
    for half in
        [vec![], vec![0], vec![0, 0, 0, 13, b'O', 0], begun(&question[..question.len() - 1]), begun(&[0, 1, 0, 0, b'B']), begun(b"\0\0")]
    {
        bad.push(Bad::Says(half, false));
    }
    bad.extend([Bad::Slow, Bad::Slow, Bad::Slow, Bad::Slow, Bad::Deaf, Bad::Deaf, Bad::Deaf, Bad::Deaf]);
    bad.push(Bad::Greedy);
    bad.extend(sessions(84).into_iter().map(Bad::Malformed));
    bad
}

/// Connects and closes at once, as monitors do, and port scanners.
pub(crate) async fn flood(target: Target, end: Instant) -> usize {
    let mut count = 0;
    while Instant::now() < end {
        for _ in 0..10 {
            count += 1;
            drop(connect(&target, count).await.unwrap());
        }
        time::sleep(Duration::from_millis(10)).await;
    }
    count
}
