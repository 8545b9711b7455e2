//! `mxgate trace`: follows the clients of a network, and shows each answer as it is given: who is refused, and who is let in.
//!
//! The daemon hands answers over in a queue of fixed length, which sessions do not wait for: what finds it full is counted
//! instead. Whoever traces nobody pays for one look at a number.

use crate::ask::{Daemon, unreachable};
use crate::check::{ERROR, say};
use crate::commands::{Done, Request, parse_answer};
use crate::refusal::Refused;
use clap::Args;
use ipnet::IpNet;
use mxgate::milter::Refusal;
use mxgate::prefix::parse_network;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// So many answers wait to be written.
const QUEUE: usize = 1024;
/// So long somebody is followed at most.
const MOST_SECONDS: u64 = 3600;

/// What the last line tells.
const END: &str = "end";

/// Whom to follow.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Address or network of the clients
    #[arg(value_name = "ADDRESS", value_parser = network)]
    network: IpNet,
    /// How long
    #[arg(long = "for", value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=MOST_SECONDS))]
    seconds: u64,
    #[command(flatten)]
    daemon: Daemon,
    /// For programs: a JSON object a line
    #[arg(long)]
    json: bool,
}

/// Asks, and prints what comes until the end.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let request = Request::Trace { network: arguments.network.to_string(), seconds: arguments.seconds };
    let followed =
        UnixStream::connect(arguments.daemon.control()).and_then(|mut stream| stream.write_all(&request.to_line()).and(Ok(stream)));
    let stream = match followed {
        Ok(stream) => stream,
        Err(error) => {
            say(&format!("{}\n", unreachable(arguments.daemon.control(), &request, &error)));
            return ExitCode::from(ERROR);
        }
    };
    let mut ended = Err("the daemon has ended, or is no daemon of mxgate\n".to_owned());
    for line in BufReader::new(stream).split(b'\n') {
        let Some(answer) = line.ok().and_then(|line| parse_answer(&line)) else { break };
        ended = answer.and_then(|done| {
            let shown = if arguments.json { format!("{}\n", done.result) } else { done.text };
            let mut out = io::stdout().lock();
            out.write_all(shown.as_bytes()).and_then(|()| out.flush()).map_err(|_| String::new())?;
            if done.result.get("event").and_then(Value::as_str) == Some(END) { Ok(()) } else { Err("the daemon has ended\n".into()) }
        });
        if ended.is_ok() {
            break;
        }
    }
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&error);
            ExitCode::from(ERROR)
        }
    }
}

/// Reads whom to follow.
pub(crate) fn network(text: &str) -> Result<IpNet, String> {
    parse_network(text).map_err(|fault| fault.to_string())
}

/// The first line.
pub(crate) fn begun(network: IpNet) -> Done {
    Done { result: json!({ "event": "follow", "network": network.to_string() }), text: format!("following {network}\n") }
}

/// The line of an answer.
pub(crate) fn answered(answer: &Refused) -> Done {
    Done { result: answer.to_json(), text: format!("{} {answer}\n", answer.time()) }
}

/// The last line.
pub(crate) fn over(lost: u64) -> Done {
    let text = if lost > 0 { format!("{lost} answers were given faster than they could be shown\n") } else { String::new() };
    Done { result: json!({ "event": END, "lost": lost }), text }
}

/// Whom administrators follow now.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    number: AtomicUsize,
    each: Mutex<Vec<Trace>>,
}

/// Whom one of them follows.
#[derive(Debug)]
struct Trace {
    network: IpNet,
    queue: Sender<Refused>,
    lost: Arc<AtomicU64>,
}

/// The other end of a trace. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Follower {
    traces: Arc<Traces>,
    /// The answers, as they are given.
    pub(crate) queue: Receiver<Refused>,
    lost: Arc<AtomicU64>,
    /// For how long.
    pub(crate) time: Duration,
}

impl Traces {
    /// Whether anybody is followed.
    pub(crate) fn any(&self) -> bool {
        self.number.load(Ordering::Relaxed) > 0
    }

    /// Follows a network from now on.
    pub(crate) fn follow(self: &Arc<Self>, network: IpNet, seconds: u64) -> Follower {
        let (sender, queue) = channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let mut each = self.each.lock();
        each.push(Trace { network, queue: sender, lost: Arc::clone(&lost) });
        self.number.store(each.len(), Ordering::Relaxed);
        Follower { traces: Arc::clone(self), queue, lost, time: Duration::from_secs(seconds.clamp(1, MOST_SECONDS)) }
    }

    /// An answer was given; `make` says what there is to tell of it.
    pub(crate) fn tell(&self, answer: &Refusal<'_>, make: impl Fn() -> Refused) {
        let Some(client) = answer.client.map(|client| IpAddr::to_canonical(&client)) else { return };
        for trace in self.each.lock().iter().filter(|trace| trace.network.contains(&client)) {
            match trace.queue.try_reserve() {
                Ok(place) => place.send(make()),
                Err(_) => drop(trace.lost.fetch_add(1, Ordering::Relaxed)),
            }
        }
    }
}

impl Follower {
    /// How many answers found the queue full.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.queue.close();
        let mut each = self.traces.each.lock();
        each.retain(|trace| !trace.queue.is_closed());
        self.traces.number.store(each.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use mxgate::id::parse;
    use mxgate::{Facts, Verdict};

    fn answered(traces: &Traces, client: &str) {
        let client: Option<IpAddr> = client.parse().ok();
        let (facts, verdict) = (Facts { address: client, ..Facts::default() }, Verdict::accept(1));
        let answer = Refusal { client, sender: None, recipient: None, reply: "", verdict: &verdict, facts: &facts };
        traces.tell(&answer, || Refused::of(&answer, parse("K7Q2M4X0").unwrap(), Timestamp::UNIX_EPOCH));
    }

    #[test]
    fn a_queue_that_nobody_empties_holds_up_nobody() {
        let traces = Arc::new(Traces::default());
        assert!(!traces.any());
        let mut slow = traces.follow(network("192.0.2.0/24").unwrap(), 0);
        let mut other = traces.follow(network("2001:db8::1").unwrap(), u64::MAX);
        assert_eq!((slow.time.as_secs(), other.time.as_secs()), (1, MOST_SECONDS));
        for _ in 0..QUEUE + 7 {
            answered(&traces, "::ffff:192.0.2.7");
            answered(&traces, "unknown");
        }
        answered(&traces, "2001:db8::1");
        answered(&traces, "2001:db8::2");
        assert_eq!((slow.lost(), other.lost()), (7, 0));
        let line = slow.queue.try_recv().unwrap().to_string();
        assert_eq!(line, "accept: CONNECT from unknown[192.0.2.7]: no rule; list=- line=0 generation=1 id=K7Q2M4X0");
        assert!(other.queue.try_recv().is_ok() && other.queue.try_recv().is_err());
        drop(slow);
        assert!(traces.any());
        drop(other);
        assert!(!traces.any() && traces.each.lock().is_empty());
    }
}
