//! The local syslog daemon: a datagram for each line, as RFC 3164 has them and as syslog(3) sends them, in the facility of mail
//! servers.
//!
//! By hand, because syslog(3) drops without a word what it cannot deliver, and the crate of that name writes the time of UTC,
//! which local daemons take for that of the host. Here a line waits until the socket is there again.

use crate::log_queue::Line;
use jiff::tz::TimeZone;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process;

/// Where the local daemon listens, whichever it is.
pub(crate) const SOCKET: &str = "/dev/log";
/// The name under which the daemon logs.
const TAG: &str = "mxgate";
/// The facility of mail servers.
const MAIL: u8 = 2;
/// Longest text of a message: 8 KiB are what daemons take if nothing else is set up, with what stands before the text.
const MAX_TEXT: usize = 8000;

/// The way to it.
#[derive(Debug)]
pub(crate) struct Syslog {
    path: PathBuf,
    socket: Option<UnixDatagram>,
    /// Messages have the time of the host's zone, and do not say which that is.
    zone: TimeZone,
}

impl Syslog {
    /// Nobody is asked yet whether there is a daemon.
    pub(crate) fn new(path: PathBuf) -> Syslog {
        Syslog { path, socket: None, zone: TimeZone::system() }
    }

    /// Sends a line; each of its parts if there are line feeds in it. Waits as long as the daemon has no room for it. A socket
    /// that is gone is looked for once: a daemon that was started again has another one.
    pub(crate) fn send(&mut self, line: &Line, severity: u8, text: &str) -> io::Result<()> {
        let time = line.time.to_zoned(self.zone.clone()).strftime("%b %e %H:%M:%S").to_string();
        for part in text.lines() {
            let message = format!("<{}>{time} {TAG}[{}]: {}", MAIL << 3 | severity, process::id(), cut(part));
            let sent = self.socket.as_ref().map(|socket| socket.send(message.as_bytes()));
            if !matches!(sent, Some(Ok(_))) {
                self.socket = None;
                let socket = UnixDatagram::unbound()?;
                socket.connect(&self.path)?;
                socket.send(message.as_bytes())?;
                self.socket = Some(socket);
            }
        }
        Ok(())
    }

    /// How messages name it.
    pub(crate) fn name(&self) -> String {
        self.path.display().to_string()
    }
}

/// As much of a text as there is room for.
fn cut(text: &str) -> &str {
    let end = (0..=MAX_TEXT.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use log::Level;

    /// A line of 2026-11-02 04:05:06 UTC.
    fn line() -> Line {
        let time = Timestamp::from_second(1_793_592_306).unwrap();
        Line { time, level: Level::Info, is_whole: true, text: String::new() }
    }

    #[test]
    fn a_message_as_local_daemons_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut syslog = Syslog { path: path.clone(), socket: None, zone: TimeZone::fixed(jiff::tz::offset(1)) };
        assert_eq!(syslog.send(&line(), 6, "text").unwrap_err().kind(), io::ErrorKind::NotFound);
        let daemon = UnixDatagram::bind(&path).unwrap();
        let received = |daemon: &UnixDatagram| {
            let mut message = vec![0; 70_000];
            let length = daemon.recv(&mut message).unwrap();
            String::from_utf8(message[..length].to_vec()).unwrap()
        };
        let before = format!("Nov  2 05:05:06 mxgate[{}]: ", process::id());
        syslog.send(&line(), 6, "text").unwrap();
        assert_eq!(received(&daemon), format!("<22>{before}text"));
        syslog.send(&line(), 3, "a\nb\n").unwrap();
        assert_eq!([received(&daemon), received(&daemon)], ["a", "b"].map(|part| format!("<19>{before}{part}")));
        syslog.send(&line(), 4, &format!("x{}", "\u{e9}".repeat(200_000))).unwrap();
        assert_eq!(received(&daemon), format!("<20>{before}x{}", "\u{e9}".repeat(MAX_TEXT / 2 - 1)));
        // Another daemon in its place.
        drop(daemon);
        std::fs::remove_file(&path).unwrap();
        assert!(syslog.send(&line(), 6, "text").is_err());
        let daemon = UnixDatagram::bind(&path).unwrap();
        syslog.send(&line(), 6, "text").unwrap();
        assert_eq!(received(&daemon), format!("<22>{before}text"));
    }
}
