//! A raw milter session with the daemon, as a mail server would begin it.

use super::PATIENCE;
use mxgate::milter::codec::{Command, Connect, Options};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// What a client of this address reads at RCPT; empty if it is let in.
pub fn rcpt(socket: &Path, address: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let family = if address.contains(':') { b'6' } else { b'4' };
    let mut packets = Vec::new();
    Command::OptNeg(Options { version: 6, actions: 0x1ff, protocol: 0x1f_ffff }).encode(&mut packets);
    Command::Connect(Connect { host: b"client.example", family, port: 4321, address: address.as_bytes() }).encode(&mut packets);
    Command::Rcpt(b"<user@example.org>").encode(&mut packets);
    stream.write_all(&packets).unwrap();
    let mut answer = || {
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        let mut packet = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
        stream.read_exact(&mut packet).unwrap();
        packet
    };
    assert_eq!(answer()[0], b'O');
    let packet = answer();
    assert!(matches!((packet[0], packet.len()), (b'c', 1) | (b'y', 2..)), "{}", packet.escape_ascii());
    String::from_utf8_lossy(&packet[1..]).trim_end_matches('\0').to_owned()
}
