//! The socket of a mail server's connection. The system tells of what can be read, and not that there is room for an answer, as
//! there nearly always is: it would wake the daemon for each connection and whenever a peer has taken an answer.

use socket2::Socket;
use std::io::{self, ErrorKind, Read as _};
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

#[derive(Debug)]
pub(crate) struct Stream {
    socket: AsyncFd<Socket>,
    is_tcp: bool,
    /// Nothing has been read. Mail servers speak first, and at once.
    is_new: bool,
}

/// Has the system tell when a socket is ready.
#[allow(unsafe_code, reason = "tokio cannot know that a socket keeps its number")]
pub(crate) fn watch(socket: Socket, interest: Interest) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: a socket owns its descriptor, always says the same, and closes it when it is dropped, which is when nobody watches it
    // any more.
    Ok(unsafe { AsyncFd::register_with_interest(socket, interest) }?)
}

impl Stream {
    /// Of a connection that does not wait for bytes.
    pub(crate) fn new(socket: Socket, is_tcp: bool) -> io::Result<Stream> {
        Ok(Stream { socket: watch(socket, Interest::READABLE)?, is_tcp, is_new: true })
    }

    /// Reads once; 0 at the end. Where the buffer was not filled it knows, without asking the system, that there is no more.
    pub(crate) fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if std::mem::take(&mut self.is_new)
            && let Ok(length) = self.socket.get_ref().read(buffer)
        {
            return Poll::Ready(Ok(length));
        }
        loop {
            let mut ready = ready!(self.socket.poll_read_ready(context))?;
            match ready.try_io(|socket| socket.get_ref().read(buffer)) {
                Ok(Err(error)) if error.kind() == ErrorKind::Interrupted => {}
                Ok(heard) => {
                    if heard.as_ref().is_ok_and(|length| *length < buffer.len()) {
                        ready.clear_ready();
                    }
                    return Poll::Ready(heard);
                }
                Err(_) => {}
            }
        }
    }

    /// Writes all of it, and waits for room if there is none.
    pub(crate) async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        let mut room = None;
        while !bytes.is_empty() {
            match self.socket.get_ref().send_with_flags(bytes, libc::MSG_NOSIGNAL) {
                Ok(length) => bytes = bytes.get(length..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let room = match &room {
                        Some(room) => room,
                        None => room.insert(watch(self.socket.get_ref().try_clone()?, Interest::WRITABLE)?),
                    };
                    room.writable().await?.clear_ready();
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Has what was read acknowledged at once. Where nothing is answered the system waits up to 40 ms for an answer to do it with,
    /// and a peer that writes in small pieces keeps back the next one until then (RFC 896; RFC 1122 section 4.2.3.2). Only
    /// Linux can; elsewhere, and if it fails, it is only slower.
    pub(crate) fn acknowledge(&self) {
        #[cfg(target_os = "linux")]
        if self.is_tcp
            && let Err(error) = self.socket.get_ref().set_tcp_quickack(true)
        {
            log::debug!("cannot acknowledge at once: {error}");
        }
    }
}
