//! Sockets that are open when the daemon starts: systemd listens, and hands them over (sd_listen_fds(3)). They stay open
//! while the daemon restarts, and clients wait in their queues, so that no connection is refused.

use crate::listen::Listener;
use crate::protocol::Protocol;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// The sockets of the daemon, by what they are for.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    /// Those for mail servers, and how these speak there.
    pub(crate) mail_servers: Vec<(Listener, Protocol)>,
    pub(crate) control: Vec<Listener>,
    /// For monitoring; never handed over.
    pub(crate) metrics: Option<Listener>,
}

impl Sockets {
    pub(crate) fn all(&self) -> impl Iterator<Item = &Listener> {
        self.mail_servers.iter().map(|(listener, _)| listener).chain(&self.control).chain(&self.metrics)
    }
}

/// The sockets that were handed over: `control` is the control socket, `policy-service` for Postfix to ask at, and whatever has
/// another name (`FileDescriptorName=`) is for milter clients. To be called once.
pub(crate) fn take() -> Result<Sockets, String> {
    let handed_over = sd_notify::listen_fds_with_names()
        .map_err(|error| format!("cannot take the sockets that were handed over: {error}; see LISTEN_FDS in sd_listen_fds(3)"))?;
    let mut sockets = Sockets::default();
    for (descriptor, name) in handed_over {
        let listener = Listener::handed_over(own(descriptor))
            .map_err(|what| format!("what was handed over as \"{}\" is {what}; write ListenStream= in its unit", name.escape_debug()))?;
        match name.as_str() {
            "control" if !listener.is_unix() => {
                return Err("the control socket that was handed over is not a file, whose permissions say who may ask; write \
                            ListenStream=/path in its unit"
                    .into());
            }
            "control" => sockets.control.push(listener),
            "policy-service" => sockets.mail_servers.push((listener, Protocol::PolicyService)),
            _ => sockets.mail_servers.push((listener, Protocol::Milter)),
        }
    }
    Ok(sockets)
}

#[allow(unsafe_code, reason = "a number from the environment becomes a file descriptor")]
fn own(descriptor: RawFd) -> OwnedFd {
    // SAFETY: the descriptor is open, as `listen_fds_with_names` has found, and was before this process opened its first:
    // nothing else in it owns the number.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}
