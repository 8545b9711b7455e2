//! The gate: the rules in force, what changes beside them (bans, the mode), and the answers.
//!
//! All that decides stands in one value, which checks read without a lock and changes replace whole: a ruleset, bans and a
//! mode that are in force together were so at one time. It is correct in the children of a process too, also if that was
//! forked in the middle of a load (see `published.rs` and `turn.rs`).

mod load;
mod prepared;
mod quick;

pub use load::LoadError;
pub(crate) use prepared::{Common, Head, Prepared, PreparedLists, VERY_SHORT};
pub(crate) use quick::{Outcome, Refusal, RefusedPlace};

use crate::bans::{Ban, Bans};
use crate::compile::{compile, seconds};
use crate::decision::{Answer, verdict};
use crate::diagnostic::Fault;
use crate::disk::{Disk, Given, Seen};
use crate::explain::{Explanation, explain};
use crate::facts::Facts;
use crate::hits::Lanes;
use crate::limits::{Counters, Exceeded, Limits};
use crate::list::Seconds;
use crate::memory::Watch;
use crate::mode::Mode;
use crate::policy::Policy;
use crate::published::Published;
use crate::ruleset::{Ask, Live, Ruleset, Stages};
use crate::seat::Seat;
use crate::source::Source;
use crate::stage::Stage;
use crate::tally::Tally;
use crate::turn::Turn;
use crate::verdict::Verdict;
use ipnet::IpNet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// How long a change waits for checks that are under way, in order to free what they read. They take microseconds; one
/// that takes longer was put to sleep by the system, and what it reads is freed at the next change.
const PATIENCE: Duration = Duration::from_millis(50);

/// Answers questions from memory. Any number of threads may ask while others load.
#[derive(Debug)]
pub struct Gate {
    in_force: Published<InForce>,
    /// Changes come one after the other.
    turn: Turn,
    tallies: Tallies,
    /// Whom loads tell how far they have got.
    progress: fn(&str, u64),
}

/// All that decides.
#[derive(Clone, Debug)]
struct InForce {
    ruleset: Arc<Ruleset>,
    bans: Arc<Bans>,
    /// The mode, if it is not that of the policy.
    mode: Option<Mode>,
    /// The host has found itself overloaded.
    overloaded: bool,
    /// Whether nothing but lists can refuse a client that has just connected; see `quick.rs`.
    is_quiet: bool,
    /// Whether nothing but lists of clients and of domains can refuse a recipient.
    has_only_places: bool,
    /// What limits have counted.
    limits: Arc<Limits>,
    /// When the clock began by which they count.
    began: Instant,
    origin: Arc<Origin>,
}

/// Where the rules came from.
#[derive(Clone, Debug, Default)]
struct Origin {
    policy: Source,
    /// The text of the policy, and how messages name it.
    text: Arc<str>,
    name: Arc<str>,
    is_image: bool,
    given: Given,
    /// What was read, and what it was like.
    seen: Vec<Seen>,
    /// When, for those who ask how old the rules are.
    loaded: Seconds,
}

/// What is counted. Accepted questions are those that nothing else counts.
#[derive(Debug, Default)]
struct Tallies {
    rejected: Tally,
    deferred: Tally,
    watched: Tally,
    /// Of lists.
    lanes: Arc<Lanes>,
    failed_loads: AtomicU64,
}

/// What a gate has done and has in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Loads that succeeded: the number of the ruleset in force.
    pub generation: u64,
    /// Loads that did not.
    pub failed_loads: u64,
    /// Networks that the lists of the policy have.
    pub networks: u64,
    /// Names that its lists of domains have.
    pub domains: u64,
    /// Bans that have not ended.
    pub bans: u64,
    /// Questions.
    pub checks: u64,
    /// Of them answered with a 5xx.
    pub rejected: u64,
    /// Of them answered with a 4xx.
    pub deferred: u64,
    /// Of them accepted although a list that is only watched would have refused.
    pub would_refuse: u64,
}

impl Default for Gate {
    fn default() -> Gate {
        Gate::new()
    }
}

impl Gate {
    /// A gate without rules: it accepts everything.
    pub fn new() -> Gate {
        Gate::with_progress(|_, _| {})
    }

    /// A gate without rules whose loads of files tell how far they have got: the name of the list that is being read, and
    /// how many of its lines have been; some thousand lines at a time.
    pub fn with_progress(progress: fn(&str, u64)) -> Gate {
        let (ruleset, _) = compile(Policy::default(), &"".into(), &Disk::new(Path::new(""), &Given::new(), progress), None, None);
        let (limits, began) = (Arc::new(Limits::none()), Instant::now());
        let in_force = InForce {
            ruleset: Arc::new(ruleset),
            bans: Arc::default(),
            mode: None,
            overloaded: false,
            is_quiet: false,
            has_only_places: false,
            limits,
            began,
            origin: Arc::default(),
        };
        Gate { in_force: Published::new(in_force), turn: Turn::default(), tallies: Tallies::default(), progress }
    }

    /// Refuses a network from now on, for as long as is said, or until it is lifted. A ban of that very network is
    /// replaced. Bans come after the never-block set and the allow lists, and before the block lists.
    ///
    /// # Errors
    /// As [`Gate::may_ban`], and if there are too many bans.
    pub fn ban(&self, network: IpNet, duration: Option<Duration>, why: &str) -> Result<Ban, Fault> {
        let ban = Ban::new(self.may_ban(network)?, duration, why);
        self.put_bans([ban.clone()])?;
        Ok(ban)
    }

    /// The network as a ban of it would have it, if there may be one by the rules in force.
    ///
    /// # Errors
    /// If the network is wider than `[guards]` allows, or the never-block set has it.
    pub fn may_ban(&self, network: IpNet) -> Result<IpNet, Fault> {
        self.in_force().ruleset.may_ban(network)
    }

    /// Puts bans in force as they are, such as those of an earlier process: all of them or none. Bans of the same networks
    /// are replaced. Whether the policy allows them is not asked: what it never blocks is not refused because of a ban.
    ///
    /// # Errors
    /// If there are too many bans.
    pub fn put_bans(&self, bans: impl IntoIterator<Item = Ban>) -> Result<(), Fault> {
        let _turn = self.turn.take();
        let in_force = self.in_force();
        let watch = Watch::begin();
        let bans = Arc::new(in_force.bans.with(bans, seconds(SystemTime::now()))?);
        watch.check()?;
        self.publish(InForce { bans, ..in_force });
        Ok(())
    }

    /// Lifts the ban of a network. Says whether there was one.
    pub fn unban(&self, network: IpNet) -> bool {
        let _turn = self.turn.take();
        let in_force = self.in_force();
        let lifted = in_force.bans.without(&crate::prefix::unmap(network.trunc()), seconds(SystemTime::now()));
        let was = lifted.is_some();
        if let Some(bans) = lifted {
            self.publish(InForce { bans: Arc::new(bans), ..in_force });
        }
        was
    }

    /// The bans that have not ended, by network.
    pub fn bans(&self) -> Vec<Ban> {
        let now = seconds(SystemTime::now());
        let bans = self.in_force().bans;
        let mut bans: Vec<Ban> = bans.iter().filter(|ban| !ban.is_over(now)).cloned().collect();
        bans.sort_by_key(|ban| ban.network);
        bans
    }

    /// How many bans that have not ended are such ones.
    pub fn count_bans(&self, counts: impl Fn(&Ban) -> bool) -> usize {
        let now = seconds(SystemTime::now());
        self.in_force().bans.iter().filter(|ban| !ban.is_over(now) && counts(ban)).count()
    }

    /// Puts a mode in force, whatever the policy says; `None` leaves it to the policy again. It stays over loads.
    pub fn set_mode(&self, mode: Option<Mode>) {
        let _turn = self.turn.take();
        self.publish(InForce { mode, ..self.in_force() });
    }

    /// Whether the host has found itself overloaded: then all are told so (421) but those that the never-block set or an
    /// allow list has. It counts while the mode is open because the policy says so, not because of [`Gate::set_mode`].
    pub fn set_overloaded(&self, overloaded: bool) {
        let _turn = self.turn.take();
        self.publish(InForce { overloaded, ..self.in_force() });
    }

    /// The mode in force.
    pub fn mode(&self) -> Mode {
        self.in_force.look().decide(|ruleset, live| ruleset.mode_now(live))
    }

    /// Whether the mode in force has come by itself: it is neither that of the policy, nor has somebody set it.
    pub fn is_mode_automatic(&self) -> bool {
        let in_force = self.in_force();
        in_force.mode.is_none() && in_force.decide(|ruleset, live| ruleset.mode_now(live)) != in_force.ruleset.mode()
    }

    /// Decides about a client that has just connected.
    pub fn check_connect(&self, facts: &Facts<'_>) -> Verdict {
        self.ask(Ask::Connect, facts, verdict)
    }

    /// As [`Gate::check_connect`], for a mail server that does not tell when the session ends: [`Gate::end_session`] is not
    /// called, and the limit of concurrent sessions does not count it.
    pub(crate) fn check_arrival(&self, facts: &Facts<'_>) -> Verdict {
        self.ask(Ask::Arrival, facts, verdict)
    }

    /// Decides about a client that has just connected by those lists alone that ask for it (`at = "connect"`).
    pub fn check_early(&self, facts: &Facts<'_>) -> Verdict {
        self.ask(Ask::Early, facts, verdict)
    }

    /// Decides about a sender, the client's address included.
    pub fn check_mail(&self, facts: &Facts<'_>) -> Verdict {
        self.ask(Ask::Mail, facts, verdict)
    }

    /// Decides about one recipient, the client's address included.
    pub fn check_rcpt(&self, facts: &Facts<'_>) -> Verdict {
        self.ask(Ask::Rcpt, facts, verdict)
    }

    /// Decides, counts, and hands over the answer to be written to where it is wanted.
    pub(crate) fn ask<T>(&self, ask: Ask, facts: &Facts<'_>, write: impl FnOnce(&Answer<'_>) -> T) -> T {
        let in_force = self.in_force.read();
        let seat = in_force.seat();
        in_force.decide(|ruleset, live| ruleset.ask(ask, facts, live, Some(seat), self.counting(seat, write)))
    }

    /// Decides about what has been let through before: nothing is charged for it again, and it is no hit.
    pub(crate) fn ask_again(&self, ask: Ask, facts: &Facts<'_>) -> Verdict {
        let in_force = self.in_force.read();
        let seat = in_force.seat();
        in_force.decide(|ruleset, live| ruleset.ask(ask, facts, live, None, self.counting(seat, verdict)))
    }

    /// Ends a session that [`Gate::check_connect`] has let in, for the limit of concurrent sessions. Once for each; the
    /// same facts.
    pub fn end_session(&self, facts: &Facts<'_>) {
        self.in_force.look().decide(|ruleset, live| ruleset.end_session(facts, live));
    }

    /// Counts a connection for the limits without deciding about it by lists. Names the limit that it exceeds; else
    /// [`Gate::end_session`] ends it.
    pub(crate) fn begin_session(&self, facts: &Facts<'_>) -> Option<Exceeded> {
        self.in_force.look().decide(|ruleset, live| ruleset.begin_session(facts, live, Limits::connect))
    }

    /// Counts a connection for the limits as [`Gate::check_arrival`] does, without deciding about it by lists. Names the limit
    /// that it exceeds.
    pub(crate) fn arrive(&self, facts: &Facts<'_>) -> Option<Exceeded> {
        self.in_force.look().decide(|ruleset, live| ruleset.begin_session(facts, live, Limits::arrive))
    }

    /// The refusal of a recipient whose client exceeds a limit, unless limits do not apply to who asks.
    pub(crate) fn check_held(&self, facts: &Facts<'_>, exceeded: Exceeded) -> Option<Verdict> {
        let in_force = self.in_force.read();
        let seat = in_force.seat();
        in_force.decide(|ruleset, live| ruleset.by_held_limit(facts, exceeded, live, self.counting(seat, verdict)))
    }

    fn counting<T>(&self, seat: Seat, write: impl FnOnce(&Answer<'_>) -> T) -> impl FnOnce(&Answer<'_>) -> T {
        move |answer| {
            let written = write(answer);
            match answer.decision.reply {
                Some(reply) => self.tallies.refused(reply.code, seat),
                None if !answer.decision.shadow.is_empty() => self.tallies.watched.add(seat),
                None => {}
            }
            written
        }
    }

    /// Says why a question is answered as it is. For the control plane: it looks at every entry.
    pub fn explain(&self, facts: &Facts<'_>, stage: Stage) -> Explanation {
        self.in_force().decide(|ruleset, live| explain(ruleset, live, facts, stage))
    }

    /// What a mail server has to tell for the rules in force to work.
    pub fn stages(&self) -> Stages {
        self.in_force.look().decide(|ruleset, live| ruleset.stages(live))
    }

    /// The ruleset in force, for questions about the rules themselves.
    pub fn ruleset(&self) -> Arc<Ruleset> {
        Arc::clone(&self.in_force.look().ruleset)
    }

    /// Whether clients are to be banned that are refused again and again (`[escalation]`). Made to be asked at each refusal.
    pub fn escalates(&self) -> bool {
        self.in_force.look().ruleset.escalation().is_some()
    }

    /// What the gate has done and has in force. Each number is right by itself; checks go on meanwhile.
    pub fn counts(&self) -> Counts {
        let InForce { ruleset, bans, .. } = self.in_force();
        let now = seconds(SystemTime::now());
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        Counts {
            generation: ruleset.generation(),
            failed_loads: self.tallies.failed_loads.load(Ordering::Relaxed),
            networks: number(ruleset.network_count()),
            domains: number(ruleset.domain_count()),
            bans: number(bans.iter().filter(|ban| !ban.is_over(now)).count()),
            checks: self.in_force.readings(),
            rejected: self.tallies.rejected.sum(),
            deferred: self.tallies.deferred.sum(),
            would_refuse: self.tallies.watched.sum(),
        }
    }

    /// What the limits in force have come to. For the control plane: it looks at every entry.
    pub fn limit_counters(&self) -> Vec<Counters> {
        let InForce { limits, began, .. } = self.in_force();
        limits.counters(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX)).collect()
    }

    /// When the rules in force were loaded: seconds since 1970-01-01 UTC; 0 before the first load.
    pub(crate) fn loaded(&self) -> u64 {
        self.in_force.look().origin.loaded
    }

    fn in_force(&self) -> InForce {
        InForce::clone(&self.in_force.look())
    }

    /// Puts another state in force. The caller has the turn.
    fn publish(&self, mut fresh: InForce) {
        fresh.is_quiet = fresh.decide(|ruleset, live| ruleset.is_quiet(live));
        fresh.has_only_places = fresh.is_quiet && fresh.ruleset.has_only_places();
        let begun = Instant::now();
        self.in_force.replace(fresh, || {
            thread::yield_now();
            begun.elapsed() < PATIENCE
        });
    }
}

impl Tallies {
    // Two functions, so that the processor guesses which counter it is, and goes on: it would wait for the reply to know.
    #[inline(always)]
    fn refused(&self, code: u16, seat: Seat) {
        if code >= 500 { self.rejected.add(seat) } else { self.deferred(seat) }
    }

    #[inline(never)]
    fn deferred(&self, seat: Seat) {
        self.deferred.add(seat);
    }
}

impl InForce {
    fn decide<T>(&self, ask: impl FnOnce(&Ruleset, &Live<'_>) -> T) -> T {
        let InForce { ruleset, bans, mode, overloaded, limits, began, .. } = self;
        let (bans, limits, began) = (Some(&**bans), Some(&**limits), Some(*began));
        ask(ruleset, &Live { mode: *mode, overloaded: *overloaded, bans, limits, began })
    }
}
