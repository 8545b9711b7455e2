//! `mxgate serve`: the daemon, a milter and a policy service. It opens the sockets, accepts connections, loads the policy again
//! when it is told to, and comes to an orderly end.
//!
//! All connections share one thread: a decision takes about a microsecond, and waking another thread more than that.

use crate::connection::{self, Told};
use crate::control;
use crate::descriptors;
use crate::escalation::{self, Offenders};
use crate::handover::{self, Sockets};
use crate::heap;
use crate::http;
use crate::listen::{Address, Listener, parse_path};
use crate::logger::{self, Format, Place, say};
use crate::manager;
use crate::metrics::Metrics;
use crate::overload;
use crate::privileges::User;
use crate::protocol::Protocol;
use crate::refusals::{self, Refusals};
use crate::rules::Rules;
use crate::state;
use crate::stream::Stream;
use mxgate::Gate;
use std::future::ready;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::runtime::{self, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

/// Where the daemon listens if nothing is said.
const DEFAULT_ADDRESS: &str = "inet:8899@127.0.0.1";

/// Most connections at one time. Further ones wait in the queues of the listeners.
const MAX_CONNECTIONS: u32 = 10_000;
/// Pause after a connection could not be accepted, most often because there are no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Pause between the end of a socket and the last look at who waits there.
const LAST_PAUSE: Duration = Duration::from_millis(10);
/// Exit status if the daemon could not start: the policy has mistakes, or there is no socket to listen on.
const CANNOT_START: u8 = 2;

/// Arguments of `mxgate serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The policy file; without it a built-in example is in force.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen as a milter: unix:/path, inet:host:port, or inet:port@host as Sendmail writes it. May be repeated. Without
    /// it, and without --policy-service, the sockets that systemd hands over, or else inet:8899@127.0.0.1.
    #[arg(short, long, value_name = "ADDRESS")]
    listen: Vec<Address>,
    /// Where to listen as a policy service of Postfix (check_policy_service): addresses as above. May be repeated.
    #[arg(long, value_name = "ADDRESS")]
    policy_service: Vec<Address>,
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
    /// Become this user, NAME or NAME:GROUP, when the sockets are open; policy and lists are read as this user. Needs
    /// root.
    #[arg(long, value_name = "NAME")]
    user: Option<User>,
    /// How long open sessions may go on after SIGTERM.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(..=3600))]
    drain: u64,
    /// The form of log lines.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    log_format: Format,
    /// Where log lines go: stderr, syslog (the daemon of this host, at /dev/log), or syslog:/path for another socket of it.
    #[arg(long, value_name = "PLACE", default_value = "stderr", value_parser = logger::parse_place)]
    log_to: Place,
    /// Refusals of one client (an IPv6 /64) that get a line of their own in a minute. The others are summed up in one.
    #[arg(long, value_name = "NUMBER", default_value_t = refusals::LINES)]
    log_lines: u32,
    /// Where metrics (/metrics) and health (/health) are read over HTTP. An address of this host alone, or a unix socket.
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<Address>,
    /// Metrics may be read from other hosts: there is no password.
    #[arg(long, requires = "metrics")]
    metrics_any: bool,
}

fn parse_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("not a mode; write three octal digits such as 660".into()),
    }
}

/// Serves until SIGTERM or SIGINT.
pub(crate) fn run(arguments: Arguments) -> ExitCode {
    heap::give_back_large_arrays();
    let place = arguments.log_to.clone();
    let logged = logger::start(arguments.log_format, place.clone());
    let served = logged.and_then(|()| runtime()).and_then(|runtime| {
        let served = runtime.block_on(serve(arguments));
        // A load that is under way is not waited for.
        runtime.shutdown_background();
        served
    });
    match served {
        Ok(()) => {
            logger::finish();
            ExitCode::SUCCESS
        }
        Err(message) => {
            logger::give_up(&message, &place);
            ExitCode::from(CANNOT_START)
        }
    }
}

fn runtime() -> Result<Runtime, String> {
    runtime::Builder::new_current_thread().enable_all().build().map_err(|error| format!("cannot start: {error}"))
}

async fn serve(arguments: Arguments) -> Result<(), String> {
    let Arguments { config, mut listen, policy_service, socket_mode, state, control, control_mode, user, drain: patience, .. } = arguments;
    let Arguments { log_format, log_lines, metrics, metrics_any, .. } = arguments;
    descriptors::allow_for(MAX_CONNECTIONS);
    // Before the load, which may take a while: a signal then must neither be lost nor kill.
    let listen_for = |kind| signal(kind).map_err(|error| format!("cannot receive signals: {error}"));
    let hangup = listen_for(SignalKind::hangup())?;
    let mut stop = Stop { terminate: listen_for(SignalKind::terminate())?, interrupt: listen_for(SignalKind::interrupt())? };

    let is_example = config.is_none();
    let mut rules = Rules::new(config);
    rules.refusals = Arc::new(Refusals::new(log_format, log_lines));
    let mut open = handover::take()?;
    if listen.is_empty() && policy_service.is_empty() && open.mail_servers.is_empty() {
        listen.push(DEFAULT_ADDRESS.parse()?);
    }
    // The sockets first: they may need privileges that the load must not have. Who connects meanwhile waits.
    let started = async {
        let milter = listen.iter().map(|address| (address, Protocol::Milter));
        for (address, protocol) in milter.chain(policy_service.iter().map(|address| (address, Protocol::PolicyService))) {
            open.mail_servers.push((Listener::bind(address, socket_mode).await?, protocol));
        }
        if let Some(address) = &metrics {
            open.metrics = Some(http::bind(address, socket_mode, metrics_any).await?);
        }
        if let Some(path) = control {
            open.control.push(Listener::bind(&Address::Unix(path), control_mode).await?);
        }
        if let Some(user) = user {
            open.all().try_for_each(|listener| listener.give_to(user.uid(), user.gid()))?;
            user.take_over()?;
        }
        if let Some(directory) = state {
            rules = rules.with_state(&directory)?;
        }
        rules.load().map_err(|error| error.to_string())?;
        Ok(rules)
    };
    let rules: Result<Rules, String> = started.await;
    let rules = Arc::new(rules.inspect_err(|_| open.all().for_each(Listener::hide))?);
    let addresses: Vec<Address> = open.mail_servers.iter().filter_map(|(listener, _)| listener.address().ok()).collect();
    let milter = open.mail_servers.iter().find(|(_, protocol)| *protocol == Protocol::Milter);
    let milter = milter.and_then(|(listener, _)| listener.address().ok());
    if is_example {
        log::warn!("no --config is given: the built-in example policy is in force");
        if let Some(address) = milter {
            logger::finish();
            say(&format!("For Postfix, in main.cf:\n    smtpd_milters = {}\n    milter_default_action = accept", reachable(address)));
        }
    }

    let (offenders, to_ban) = Offenders::new(Arc::clone(&rules));
    let offenders = Arc::new(offenders);
    tokio::spawn(escalation::carry_out(Arc::clone(&rules), to_ban));
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS as usize));
    let metrics = Arc::new(Metrics::new(Arc::clone(&rules)));
    let (stopping, stopped) = watch::channel(false);
    let mut accepting = Vec::new();
    let Sockets { mail_servers, control, metrics: monitored } = open;
    for ((listener, protocol), address) in mail_servers.into_iter().zip(&addresses) {
        log::info!("{protocol}: listening on {address}");
        let told = Told { traffic: metrics.traffic(&address.to_string()), offenders: Arc::clone(&offenders) };
        let service = Arc::new(Service { protocol, address: address.clone(), gate: Arc::clone(&rules.gate), told });
        let port = Port { listener, service, connections: Arc::clone(&connections) };
        accepting.push(tokio::spawn(port.accept(stopped.clone())));
    }
    for listener in control {
        accepting.push(tokio::spawn(control::accept(listener, Arc::clone(&rules), stopped.clone())));
    }
    let (over, sessions_over) = oneshot::channel();
    let monitored = monitored.map(|listener| tokio::spawn(http::accept(listener, Arc::clone(&metrics), sessions_over)));
    let refusals = Arc::clone(&rules.refusals);
    tokio::spawn(Arc::clone(&refusals).sum_up_each_minute());
    tokio::spawn(state::retry(Arc::clone(&rules)));
    tokio::spawn(reload(Arc::clone(&rules), hangup));
    // Each listener holds a permit for the connection that it waits for.
    let (permits, idle) = (Arc::clone(&connections), addresses.len());
    let open = move || (MAX_CONNECTIONS as usize).saturating_sub(permits.available_permits() + idle);
    tokio::spawn(overload::watch(Arc::clone(&rules), open.clone()));
    tokio::spawn(manager::inform(Arc::clone(&rules.gate), open));

    stop.requested().await;
    manager::stopping();
    metrics.stopping.store(true, Ordering::Relaxed);
    let _ = stopping.send(true);
    for task in accepting {
        let _ = task.await;
    }
    drain(&connections, Duration::from_secs(patience), &mut stop).await;
    refusals.sum_up();
    let _ = over.send(());
    if let Some(task) = monitored {
        let _ = task.await;
    }
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
async fn drain(connections: &Semaphore, patience: Duration, stop: &mut Stop) {
    let open = (MAX_CONNECTIONS as usize).saturating_sub(connections.available_permits());
    log::info!("stopping; {open} connections are open");
    tokio::select! {
        _ = timeout(patience, connections.acquire_many(MAX_CONNECTIONS)) => {}
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

/// A listener, and what becomes of its connections.
struct Port {
    listener: Listener,
    service: Arc<Service>,
    connections: Arc<Semaphore>,
}

/// What the connections of a listener need.
struct Service {
    protocol: Protocol,
    address: Address,
    gate: Arc<Gate>,
    told: Told,
}

impl Port {
    /// Accepts connections until it is told to stop. No error ends it.
    async fn accept(self, mut stopped: watch::Receiver<bool>) {
        let (mut failing, mut full) = (false, false);
        let address = &self.service.address;
        // A copy for each connection, which has not seen that the daemon stops.
        let stopping = stopped.clone();
        loop {
            let accepted = tokio::select! {
                accepted = self.next(&mut full) => accepted,
                _ = stopped.changed() => break,
            };
            match accepted {
                Ok((stream, permit)) => {
                    if failing {
                        log::info!("{address}: accepting connections again");
                        failing = false;
                    }
                    self.spawn(stream, permit, stopping.clone());
                }
                // The peer has given up while it waited: an everyday matter.
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::InvalidInput) => {
                    log::debug!("{address}: {error}");
                }
                Err(error) => {
                    if !failing {
                        log::error!("{address}: cannot accept connections, trying again: {error}");
                        failing = true;
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        if self.listener.is_handed_over() {
            return;
        }
        self.listener.hide();
        // They are known only when the system has been asked again; and a connection may be on its way there.
        sleep(LAST_PAUSE).await;
        // Who connected before the socket was gone must not be turned away.
        loop {
            tokio::select! {
                biased;
                accepted = self.next(&mut full) => match accepted {
                    Ok((stream, permit)) => self.spawn(stream, permit, stopping.clone()),
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
            log::warn!("{}: {MAX_CONNECTIONS} connections are open; further ones wait", self.service.address);
            *full = true;
        } else if available > (MAX_CONNECTIONS / 10) as usize {
            // Not at the first free one, or else a daemon at its limit would write a line for each connection.
            *full = false;
        }
        let permit = Arc::clone(&self.connections).acquire_owned().await.map_err(io::Error::other)?;
        Ok((Stream::new(self.listener.accept().await?, !self.listener.is_unix())?, permit))
    }

    fn spawn(&self, mut stream: Stream, permit: OwnedSemaphorePermit, stopped: watch::Receiver<bool>) {
        let service = Arc::clone(&self.service);
        tokio::spawn(async move {
            let Service { protocol, address, gate, told } = &*service;
            told.traffic.sessions.inc();
            // Whoever connects without being a mail server, a port scanner or a monitor, is no news.
            match connection::converse(&mut stream, *protocol, gate, told, stopped).await {
                Ok(()) => log::debug!("{address}: connection closed"),
                Err(cause) => log::debug!("{address}: connection dropped: {cause}"),
            }
            told.traffic.sessions.dec();
            drop(permit);
        });
    }
}

#[cfg(test)]
mod deadlines;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal() {
        assert_eq!((parse_mode("0660"), parse_mode("600")), (Ok(0o660), Ok(0o600)));
        for wrong in ["", "rw", "0888", "7777", "-1"] {
            assert!(parse_mode(wrong).unwrap_err().contains("octal"), "{wrong}");
        }
    }
}
