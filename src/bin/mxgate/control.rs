//! The daemon's end of the control socket: reads requests a line each, and writes an answer for each. Who may connect is
//! what the permissions of the socket say.
//!
//! What is no line of at most 1 MiB in time is answered by an error, and that is the end of that connection only. The
//! commands run beside the sessions, on threads that may take their time.

use crate::commands::{Answer, answer};
use crate::listen::Listener;
use crate::rules::Rules;
use crate::trace::{self, Follower};
use std::fmt;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::UCred;
use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

/// Most connections at one time. One more is told so and closed: administrators are few, and waiting would tell them less.
const MAX_CONNECTIONS: usize = 16;
/// Longest request, without its line feed.
const MAX_REQUEST: u64 = 1024 * 1024;
/// Time for a request, from the connection or the answer before it.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// Time for an answer that the client does not read.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// Pause after a connection could not be accepted, most often because there are no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections until it is told to stop. No error ends it.
pub(crate) async fn accept(listener: Listener, rules: Arc<Rules>, mut stopped: watch::Receiver<bool>) {
    if let Ok(address) = listener.address() {
        log::info!("control socket at {address}");
    }
    let free = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.changed() => break,
        };
        match accepted {
            Ok(socket) => {
                failing = false;
                match Arc::clone(&free).try_acquire_owned() {
                    Ok(permit) => {
                        let rules = Arc::clone(&rules);
                        tokio::spawn(async move {
                            match UnixStream::from_std(socket.into()) {
                                Ok(stream) => converse(stream, rules).await,
                                Err(error) => log::debug!("control: cannot serve a connection: {error}"),
                            }
                            drop(permit);
                        });
                    }
                    Err(_) => {
                        let refusal = Answer::refusal(&format!("{MAX_CONNECTIONS} connections are open already; try again in a moment"));
                        // It fits into the buffer of a new connection.
                        let _ = socket.send(&refusal.line);
                    }
                }
            }
            Err(error) => {
                if !failing {
                    log::error!("control: cannot accept connections, trying again: {error}");
                    failing = true;
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    listener.hide();
}

/// One connection, from the first request to the last.
async fn converse(stream: UnixStream, rules: Arc<Rules>) {
    let asker = Asker(stream.peer_cred().ok());
    let mut stream = BufReader::new(stream);
    loop {
        let answer = match hear(&mut stream).await {
            Ok(Some(line)) => {
                let rules = Arc::clone(&rules);
                let answered = spawn_blocking(move || answer(&rules, &line, &asker)).await;
                answered.unwrap_or_else(|_| Answer::refusal("the command came to a sudden end; see the log of the daemon"))
            }
            Ok(None) => return,
            Err(error) => Answer::refusal(&error),
        };
        let written = timeout(ANSWER_TIME, stream.write_all(&answer.line)).await;
        if answer.last || !matches!(written, Ok(Ok(()))) {
            return;
        }
        if let Some(follower) = answer.follow
            && !follow(&mut stream, follower).await
        {
            return;
        }
    }
}

/// Tells each answer that those who are followed have, until the time is over or the client says anything. Says whether it
/// listens.
async fn follow(stream: &mut BufReader<UnixStream>, mut follower: Follower) -> bool {
    let mut over = pin!(sleep(follower.time));
    loop {
        let answer = tokio::select! {
            answer = follower.queue.recv() => answer,
            () = &mut over => None,
            _ = stream.fill_buf() => None,
        };
        let done = answer.as_ref().map_or_else(|| trace::over(follower.lost()), trace::answered);
        let written = timeout(ANSWER_TIME, stream.write_all(&done.to_line())).await;
        if answer.is_none() || !matches!(written, Ok(Ok(()))) {
            return matches!(written, Ok(Ok(())));
        }
    }
}

/// The next request; `None` if there comes none.
async fn hear(stream: &mut BufReader<UnixStream>) -> Result<Option<Vec<u8>>, String> {
    let mut line = Vec::new();
    let mut input = stream.take(MAX_REQUEST + 1);
    let Ok(read) = timeout(REQUEST_TIME, input.read_until(b'\n', &mut line)).await else {
        return Err(format!("no request came within {} s; send a JSON object and a line feed", REQUEST_TIME.as_secs()));
    };
    read.map_err(|error: io::Error| format!("the request cannot be read: {error}; send it again"))?;
    match (line.pop(), line.len() as u64) {
        (None, _) => Ok(None),
        (Some(b'\n'), _) => Ok(Some(line)),
        (Some(_), MAX_REQUEST) => Err(format!("the request is longer than {MAX_REQUEST} bytes; send less at once")),
        (Some(_), _) => Err("the request has no end; end it with a line feed".into()),
    }
}

/// Who asks, as the system says.
#[derive(Clone, Copy, Debug)]
struct Asker(Option<UCred>);

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(credentials) = self.0 else { return f.write_str("somebody unknown") };
        write!(f, "user {}", credentials.uid())?;
        credentials.pid().map_or(Ok(()), |pid| write!(f, ", process {pid}"))
    }
}
