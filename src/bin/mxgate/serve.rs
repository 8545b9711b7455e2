//! `mxgate serve`: the milter daemon. It moves bytes between sockets and sessions, keeps the deadlines that a
//! session without a clock cannot keep, and loads the policy again when it is told to.
//!
//! All connections share one thread: a decision takes about a microsecond, and waking another thread more than that.

use crate::control;
use crate::escalation::{self, Offenders};
use crate::listen::{Address, Listener, Stream, parse_path};
use crate::overload;
use crate::rules::Rules;
use crate::state;
use mxgate::Gate;
use mxgate::milter::{Progress, ProtocolError, Refusal, Session};
use mxgate::reply::clean;
use std::fmt::{self, Write as _};
use std::future::ready;
use std::io::{self, ErrorKind, Write as _};
use std::mem;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{self, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// Where the daemon listens if nothing is said.
const DEFAULT_ADDRESS: &str = "inet:8899@127.0.0.1";

/// Most connections at one time. Further ones wait in the queues of the listeners.
const MAX_CONNECTIONS: u32 = 10_000;
/// Time from the connection to the end of the option negotiation, which mail servers begin at once.
const NEGOTIATION_TIME: Duration = Duration::from_secs(10);
/// Time for a packet that has begun.
const PACKET_TIME: Duration = Duration::from_secs(30);
/// Time for an answer that the peer does not read.
const WRITE_TIME: Duration = Duration::from_secs(30);
/// Time without a packet. SMTP clients may take 5 minutes for a command and 10 for a message (RFC 5321 section 4.5.3.2).
const IDLE_TIME: Duration = Duration::from_secs(3600);
/// Time that open sessions get after SIGTERM.
const DRAIN_TIME: Duration = Duration::from_secs(5);
/// Pause after a connection could not be accepted, most often because there are no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Most bytes that are read at once. The packets of an envelope have some hundred.
const READ_SIZE: usize = 4096;
/// Capacity that the buffer for answers keeps.
const ANSWERS_KEPT: usize = 1024;

/// Exit status if the daemon could not start: the policy has mistakes, or there is no socket to listen on.
const CANNOT_START: u8 = 2;

/// Arguments of `mxgate serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The policy file; without it a built-in example is in force.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen: unix:/path, inet:host:port, or inet:port@host as Sendmail writes it. May be repeated.
    #[arg(short, long, value_name = "ADDRESS", default_value = DEFAULT_ADDRESS)]
    listen: Vec<Address>,
    /// Permissions of unix sockets, in octal. Who may write to the socket may ask.
    #[arg(long, value_name = "MODE", default_value = "0660", value_parser = parse_mode)]
    socket_mode: u32,
    /// Directory in which bans are kept, for this daemon alone. Without it they end with the daemon.
    #[arg(long, value_name = "DIRECTORY")]
    state: Option<PathBuf>,
    /// Control socket for `mxgate ban`, `status`, `reload` and others: unix:/path. Without it there is none.
    #[arg(long, value_name = "PATH", value_parser = parse_path)]
    control: Option<PathBuf>,
    /// Permissions of the control socket, in octal. Who may write to it may ask, and change the rules in force.
    #[arg(long, value_name = "MODE", default_value = "0600", value_parser = parse_mode, requires = "control")]
    control_mode: u32,
}

fn parse_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("not a mode; write three octal digits such as 660".into()),
    }
}

/// Serves until SIGTERM or SIGINT.
pub(crate) fn run(arguments: Arguments) -> ExitCode {
    log_to_stderr();
    let served = runtime().and_then(|runtime| {
        let served = runtime.block_on(serve(arguments));
        // A load that is under way is not waited for.
        runtime.shutdown_background();
        served
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            say(&message);
            ExitCode::from(CANNOT_START)
        }
    }
}

/// Log lines on standard error, from level info on unless `RUST_LOG` says otherwise. Time and name of the program are
/// what systemd or syslog put before them.
fn log_to_stderr() {
    let mut builder = env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"));
    builder.format(|out, record| writeln!(out, "{}: {}", record.level().as_str().to_ascii_lowercase(), record.args()));
    // Fails if there is a logger already, and then that one will do.
    let _ = builder.try_init();
}

fn runtime() -> Result<Runtime, String> {
    runtime::Builder::new_current_thread().enable_all().build().map_err(|error| format!("cannot start: {error}"))
}

/// Writes to standard error, without what the log puts before a line. If nobody reads it that is no reason to stop.
fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

async fn serve(arguments: Arguments) -> Result<(), String> {
    let Arguments { config, listen, socket_mode, state, control, control_mode } = arguments;
    // Before the load, which may take a while: a signal then must neither be lost nor kill.
    let listen_for = |kind| signal(kind).map_err(|error| format!("cannot receive signals: {error}"));
    let hangup = listen_for(SignalKind::hangup())?;
    let mut stop = Stop { terminate: listen_for(SignalKind::terminate())?, interrupt: listen_for(SignalKind::interrupt())? };

    let is_example = config.is_none();
    let mut rules = Rules::new(config);
    if let Some(directory) = state {
        rules = rules.with_state(&directory)?;
    }
    let rules = Arc::new(rules);
    rules.load().map_err(|error| error.to_string())?;
    let control = control.map(Address::Unix);
    let mut listeners = Vec::new();
    for (address, mode) in listen.iter().map(|address| (address, socket_mode)).chain(control.iter().map(|path| (path, control_mode))) {
        match Listener::bind(address, mode).await {
            Ok(listener) => listeners.push(listener),
            Err(message) => {
                listeners.iter().for_each(Listener::hide);
                return Err(message);
            }
        }
    }
    let control = control.and_then(|_| listeners.pop());
    let addresses: Vec<Address> = listeners.iter().filter_map(|listener| listener.address().ok()).collect();
    if is_example {
        log::warn!("no --config is given: the built-in example policy is in force");
        if let Some(address) = addresses.first().cloned() {
            say(&format!("For Postfix, in main.cf:\n    smtpd_milters = {}\n    milter_default_action = accept", reachable(address)));
        }
    }

    let (offenders, to_ban) = Offenders::new(Arc::clone(&rules));
    let offenders = Arc::new(offenders);
    tokio::spawn(escalation::carry_out(Arc::clone(&rules), to_ban));
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS as usize));
    let (stopping, stopped) = watch::channel(false);
    let mut accepting = Vec::new();
    for (listener, address) in listeners.into_iter().zip(&addresses) {
        log::info!("listening on {address}");
        let (gate, offenders, connections) = (Arc::clone(&rules.gate), Arc::clone(&offenders), Arc::clone(&connections));
        let port = Port { listener, address: address.clone(), gate, offenders, connections };
        accepting.push(tokio::spawn(port.accept(stopped.clone())));
    }
    if let Some(listener) = control {
        accepting.push(tokio::spawn(control::accept(listener, Arc::clone(&rules), stopped.clone())));
    }
    tokio::spawn(state::retry(Arc::clone(&rules)));
    // Each listener has the permit for the connection that it waits for.
    let (counted, waiting) = (Arc::clone(&connections), addresses.len());
    let open = move || (MAX_CONNECTIONS as usize).saturating_sub(counted.available_permits() + waiting);
    tokio::spawn(overload::watch(Arc::clone(&rules), open));
    tokio::spawn(reload(rules, hangup));

    stop.requested().await;
    let _ = stopping.send(true);
    for task in accepting {
        let _ = task.await;
    }
    drain(&connections, &mut stop).await;
    Ok(())
}

/// The two signals that mean the same.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    async fn requested(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Waits until all connections are closed, but not for long: a mail server keeps one as long as its client stays.
async fn drain(connections: &Semaphore, stop: &mut Stop) {
    let open = (MAX_CONNECTIONS as usize).saturating_sub(connections.available_permits());
    log::info!("stopping; {open} connections are open");
    tokio::select! {
        _ = timeout(DRAIN_TIME, connections.acquire_many(MAX_CONNECTIONS)) => {}
        () = stop.requested() => {}
    }
}

/// How a mail server on this host reaches a listener.
fn reachable(mut address: Address) -> Address {
    if let Address::Inet { host, six, .. } = &mut address
        && matches!(host.as_str(), "0.0.0.0" | "::")
    {
        *host = if *six { "::1" } else { "127.0.0.1" }.into();
    }
    address
}

/// Loads the policy at each SIGHUP, beside the sessions, which go on meanwhile.
async fn reload(rules: Arc<Rules>, mut hangup: Signal) {
    while hangup.recv().await.is_some() {
        let rules = Arc::clone(&rules);
        // What has become of it stands in the log.
        if spawn_blocking(move || rules.reload()).await.is_err() {
            log::error!("the load came to a sudden end; the rules before it stay in force");
        }
    }
}

/// A listener, and what its connections need.
struct Port {
    listener: Listener,
    address: Address,
    gate: Arc<Gate>,
    offenders: Arc<Offenders>,
    connections: Arc<Semaphore>,
}

impl Port {
    /// Accepts connections until it is told to stop. No error ends it.
    async fn accept(self, mut stopped: watch::Receiver<bool>) {
        let (mut failing, mut full) = (false, false);
        loop {
            let accepted = tokio::select! {
                accepted = self.next(&mut full) => accepted,
                _ = stopped.changed() => break,
            };
            match accepted {
                Ok((stream, permit)) => {
                    if failing {
                        log::info!("{}: accepting connections again", self.address);
                        failing = false;
                    }
                    self.spawn(stream, permit);
                }
                // The peer has given up while it waited: an everyday matter.
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::InvalidInput) => {
                    log::debug!("{}: {error}", self.address);
                }
                Err(error) => {
                    if !failing {
                        log::error!("{}: cannot accept connections, trying again: {error}", self.address);
                        failing = true;
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        self.listener.hide();
        // Who connected before the socket was gone must not be turned away.
        loop {
            tokio::select! {
                biased;
                accepted = self.next(&mut full) => match accepted {
                    Ok((stream, permit)) => self.spawn(stream, permit),
                    Err(_) => break,
                },
                () = ready(()) => break,
            }
        }
    }

    /// The next connection, as soon as there may be one more. `full` says whether the log knows that there may not.
    async fn next(&self, full: &mut bool) -> io::Result<(Stream, OwnedSemaphorePermit)> {
        let available = self.connections.available_permits();
        if available == 0 && !*full {
            log::warn!("{}: {MAX_CONNECTIONS} connections are open; further ones wait", self.address);
            *full = true;
        } else if available > (MAX_CONNECTIONS / 10) as usize {
            // Not at the first free one, or else a daemon at its limit would write a line for each connection.
            *full = false;
        }
        let permit = Arc::clone(&self.connections).acquire_owned().await.map_err(io::Error::other)?;
        Ok((self.listener.accept().await?, permit))
    }

    fn spawn(&self, stream: Stream, permit: OwnedSemaphorePermit) {
        let (gate, offenders, address) = (Arc::clone(&self.gate), Arc::clone(&self.offenders), self.address.clone());
        tokio::spawn(async move {
            // Whoever connects without being a mail server, a port scanner or a monitor, is no news.
            match converse(&stream, &gate, &offenders).await {
                Ok(()) => log::debug!("{address}: connection closed"),
                Err(cause) => log::debug!("{address}: connection dropped: {cause}"),
            }
            drop(permit);
        });
    }
}

/// Whom refusals are told.
type Refused<'a> = &'a mut (dyn FnMut(&Refusal<'_>) + Send);

/// One connection, from the first byte to the last. Says why it was ended if it was not the peer who ended it.
async fn converse(stream: &Stream, gate: &Gate, offenders: &Offenders) -> Result<(), String> {
    let mut session = Session::new(gate.stages());
    let mut refused = |refusal: &Refusal<'_>| {
        log::info!("{}", Line(refusal));
        offenders.note(refusal);
    };
    let ended = exchange(stream, &mut session, gate, &mut refused).await;
    session.end(gate);
    ended
}

/// Packets and answers, as long as both sides go on.
async fn exchange(stream: &Stream, session: &mut Session, gate: &Gate, refused: Refused<'_>) -> Result<(), String> {
    let mut answers = Vec::new();
    let mut deadline = Instant::now() + NEGOTIATION_TIME;
    let mut amid = false;
    loop {
        timeout_at(deadline, stream.readable()).await.map_err(|_| "it took too long")?.map_err(show)?;
        let heard = match hear(stream, session, gate, &mut answers, refused) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            heard => heard.map_err(show)?,
        };
        let answered = !answers.is_empty();
        write(stream, &answers).await?;
        answers.clear();
        answers.shrink_to(ANSWERS_KEPT);
        if heard.map_err(|error| error.to_string())? == Progress::Closed {
            return Ok(());
        }
        // The time for a packet, or for the negotiation, does not begin anew with each byte of it.
        let was_amid = mem::replace(&mut amid, session.is_amid_packet());
        if session.is_negotiated() && (answered || !(was_amid && amid)) {
            deadline = Instant::now() + if amid { PACKET_TIME } else { IDLE_TIME };
        }
    }
}

/// Reads once, and lets the session answer. Not `async`, so that the buffer is on the stack instead of in the memory of
/// each idle connection.
fn hear(
    stream: &Stream,
    session: &mut Session,
    gate: &Gate,
    answers: &mut Vec<u8>,
    refused: Refused<'_>,
) -> io::Result<Result<Progress, ProtocolError>> {
    let mut buffer = [0; READ_SIZE];
    let length = stream.try_read(&mut buffer)?;
    if length == 0 {
        // Not an error without SMFIC_QUIT either: Postfix closes when it has heard enough.
        return Ok(Ok(Progress::Closed));
    }
    let input = buffer.get(..length).unwrap_or_default();
    Ok(session.feed(gate, input, answers, refused))
}

async fn write(stream: &Stream, mut bytes: &[u8]) -> Result<(), String> {
    let deadline = Instant::now() + WRITE_TIME;
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Ok(length) => bytes = bytes.get(length..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                timeout_at(deadline, stream.writable()).await.map_err(|_| "it does not read its answers")?.map_err(show)?;
            }
            Err(error) => return Err(show(error)),
        }
    }
    Ok(())
}

fn show(error: io::Error) -> String {
    error.to_string()
}

/// The line in the log for a recipient that was refused, as Postfix writes it.
struct Line<'a>(&'a Refusal<'a>);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusal { client, sender, recipient, reply, verdict, .. } = *self.0;
        write!(f, "reject: {} from [", if recipient.is_some() { "RCPT" } else { "CONNECT" })?;
        match client {
            Some(address) => write!(f, "{address}")?,
            None => f.write_str("unknown")?,
        }
        write!(f, "]: {reply};")?;
        if let Some(sender) = sender {
            write!(f, " from=<{}>", Mailbox(sender))?;
        }
        let list = if verdict.list.is_empty() { "-" } else { &verdict.list };
        if let Some(recipient) = recipient {
            write!(f, " to=<{}>", Mailbox(recipient))?;
        }
        write!(f, " list={list} line={} generation={}", verdict.line, verdict.generation)
    }
}

/// A mailbox from a stranger, without what could end the field that it stands in.
struct Mailbox<'a>(&'a [u8]);

impl fmt::Display for Mailbox<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = self.0.strip_prefix(b"<").and_then(|inner| inner.strip_suffix(b">")).unwrap_or(self.0);
        for shown in clean(bare).chars() {
            f.write_char(if matches!(shown, '<' | '>' | ' ') { '?' } else { shown })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mxgate::Facts;

    #[test]
    fn a_refusal_is_one_line_whatever_the_client_wrote() {
        let rules = Rules::new(None);
        rules.load().unwrap();
        let gate = rules.gate;
        let client = "192.0.2.7".parse().ok();
        let verdict = gate.check_rcpt(&Facts { address: client, ..Facts::default() });
        let reply = verdict.rejection.unwrap().reply();
        let (sender, recipient): (Option<&[u8]>, Option<&[u8]>) = (Some(b"<a@s.example>"), Some(b"<b@example.org>"));
        let mut refusal = Refusal { client, sender, recipient, authenticated: false, reply: &reply, verdict: &verdict };
        assert_eq!(
            Line(&refusal).to_string(),
            format!(
                "reject: RCPT from [192.0.2.7]: 550 5.7.1 Service unavailable; client [192.0.2.7] blocked using local; \
                 from=<a@s.example> to=<b@example.org> list=local line={} generation=1",
                verdict.line
            )
        );
        refusal.sender = Some(b"<>");
        refusal.recipient = Some(b"\xff\r\nreject: RCPT from [1.2.3.4]> to=<x \x1b[31m%n");
        assert!(
            Line(&refusal).to_string().contains(" from=<> to=<???reject:?RCPT?from?[1.2.3.4]??to=?x??[31m?n> list="),
            "{}",
            Line(&refusal)
        );
        (refusal.client, refusal.sender) = (None, None);
        assert!(Line(&refusal).to_string().starts_with("reject: RCPT from [unknown]: 550"));
        assert!(!Line(&refusal).to_string().contains("from=<"));
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!((parse_mode("0660"), parse_mode("600")), (Ok(0o660), Ok(0o600)));
        for wrong in ["", "rw", "0888", "7777", "-1"] {
            assert!(parse_mode(wrong).unwrap_err().contains("octal"), "{wrong}");
        }
    }
}
