//! One connection of a mail server: it moves bytes between the socket and the session, and keeps the deadlines that a session
//! without a clock cannot keep.

use crate::escalation::Offenders;
use crate::metrics::Traffic;
use crate::protocol::{Conversation, Protocol};
use crate::stream::Stream;
use mxgate::Gate;
use mxgate::milter::{Progress, Refusal};
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};

/// Time from the connection to the end of the option negotiation or the first request, which mail servers begin at once.
const NEGOTIATION_TIME: Duration = Duration::from_secs(10);
/// Time for a packet or request that has begun.
const PACKET_TIME: Duration = Duration::from_secs(30);
/// Time for an answer that the peer does not read.
const WRITE_TIME: Duration = Duration::from_secs(30);
/// Time without a packet. SMTP clients may take 5 minutes for a command and 10 for a message (RFC 5321 section 4.5.3.2).
const IDLE_TIME: Duration = Duration::from_secs(3600);
/// Most bytes that are read at once. The packets of an envelope have some hundred.
const READ_SIZE: usize = 4096;
/// Room for the answers to an envelope.
const ANSWERS_AT_FIRST: usize = 64;
/// Capacity that the buffer for answers keeps.
const ANSWERS_KEPT: usize = 1024;

thread_local! {
    /// What was read last. One for all connections, as nothing of it is kept: each would need one of its own while it is idle.
    static HEARD: RefCell<[u8; READ_SIZE]> = const { RefCell::new([0; READ_SIZE]) };
}

/// Who is told of answers.
pub(crate) struct Told {
    pub traffic: Traffic,
    pub offenders: Arc<Offenders>,
}

impl Told {
    fn answer(&self, answer: &Refusal<'_>) {
        self.traffic.refusals.answered(answer);
        if !answer.reply.is_empty() {
            self.offenders.note(answer);
        }
    }
}

/// One connection, from the first byte to the last. Says why it was ended if it was not the peer who ended it.
pub(crate) async fn converse(
    stream: &mut Stream,
    protocol: Protocol,
    gate: &Gate,
    told: &Told,
    stopped: watch::Receiver<bool>,
) -> Result<(), String> {
    let mut session = Conversation::new(protocol, gate, &told.traffic.refusals.ids);
    let ended = exchange(stream, &mut session, gate, told, stopped).await;
    session.end(gate);
    ended
}

/// Questions and answers, as long as both sides go on.
async fn exchange(
    stream: &mut Stream,
    session: &mut Conversation,
    gate: &Gate,
    told: &Told,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), String> {
    let mut answers = Vec::with_capacity(ANSWERS_AT_FIRST);
    // One of each for the whole connection: to begin to wait anew costs more than to go on.
    let mut deadline = pin!(sleep(NEGOTIATION_TIME));
    let mut stop = pin!(stopped.changed());
    let mut amid = false;
    loop {
        let may_be_closed = session.may_be_closed();
        let hearing = poll_fn(|context| HEARD.with_borrow_mut(|buffer| hear(buffer, context, stream, session, gate, told, &mut answers)));
        let (heard, more) = tokio::select! {
            biased; // what has come is answered before a stop
            heard = hearing => heard.map_err(show)?,
            () = &mut deadline => return Err("it took too long".into()),
            _ = &mut stop, if may_be_closed => return Ok(()),
        };
        let answered = !answers.is_empty();
        let written = timeout(WRITE_TIME, stream.write(&answers)).await;
        written.map_err(|_| "it does not read its answers")?.map_err(show)?;
        answers.clear();
        answers.shrink_to(ANSWERS_KEPT);
        if heard? == Progress::Closed {
            return Ok(());
        }
        if !answered {
            stream.acknowledge();
        }
        if more {
            // Whoever always has more to say must not keep all others waiting.
            yield_now().await;
        }
        // The time for a packet, or for the negotiation, does not begin anew with each byte of it.
        let was_amid = mem::replace(&mut amid, session.is_amid());
        if session.has_begun() && (answered || !(was_amid && amid)) {
            deadline.as_mut().reset(Instant::now() + if amid { PACKET_TIME } else { IDLE_TIME });
        }
    }
}

/// Reads once, lets the session answer, and says too whether there may be more to read.
fn hear(
    buffer: &mut [u8],
    context: &mut Context<'_>,
    stream: &mut Stream,
    session: &mut Conversation,
    gate: &Gate,
    told: &Told,
    answers: &mut Vec<u8>,
) -> Poll<io::Result<(Result<Progress, String>, bool)>> {
    let length = ready!(stream.poll_read(context, buffer))?;
    let input = buffer.get(..length).unwrap_or_default();
    if input.is_empty() {
        // Not an error without SMFIC_QUIT either: Postfix closes when it has heard enough.
        return Poll::Ready(Ok((Ok(Progress::Closed), false)));
    }
    session.tell_all(told.traffic.refusals.traces.any());
    let begun = Instant::now();
    let heard = session.feed(gate, input, answers, &mut |answer| told.answer(answer));
    if !answers.is_empty() {
        told.traffic.answers.observe(begun.elapsed().as_secs_f64());
    }
    Poll::Ready(Ok((heard, length == READ_SIZE)))
}

fn show(error: io::Error) -> String {
    error.to_string()
}
