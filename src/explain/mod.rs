//! Why a question is answered as it is: every list that covers the client or the recipient's domain, who of them decides
//! and why, and what would be answered without it. For the control plane: it looks at every entry, and allocates.
//!
//! The verdict is the one that the tables give. What is said about it is worked out from the definition of the order of
//! decision, list by list, without the tables.
//!
//! ```
//! use mxgate::{Facts, Gate, Stage};
//!
//! let gate = Gate::new();
//! gate.load_text("hostname = \"mx.example.org\"\n[[list]]\nname = \"local\"\nentries = [\"192.0.2.0/24\"]\n", "policy")?;
//! let explanation = gate.explain(&Facts::of_client("192.0.2.7".parse()?), Stage::Connect);
//! assert_eq!(explanation.why, "the only list that covers it");
//! println!("{explanation}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod covering;
mod show;

use crate::compile::seconds;
use crate::covering::List;
use crate::decision::{self, Answer, By, Decision};
use crate::domain::{Folded, Place};
use crate::facts::Facts;
use crate::list::Seconds;
use crate::mailbox::Mailbox;
use crate::policy::Exempt;
use crate::reply::clean;
use crate::ruleset::{Ask, Live, Question, Ruleset};
use crate::shown;
use crate::stage::Stage;
use crate::verdict::{Decider, Verdict};
use crate::wire::{Connection, Envelope, Profile, on_wire};
use covering::{Judged, Own, first};
use std::net::IpAddr;
use std::time::SystemTime;

/// Why a question is answered as it is.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Address of the client.
    pub client: Option<IpAddr>,
    /// Its port; 0 if it is not known.
    pub port: u16,
    /// What it calls itself, made harmless.
    pub helo: Option<String>,
    /// Whether its session is encrypted.
    pub tls: bool,
    /// Domain of the recipient; `None` if there is none, or if the question is about a connection.
    pub domain: Option<String>,
    /// What the question is about: [`Stage::Rcpt`] for a recipient, [`Stage::Mail`] for a sender, else the connection.
    pub stage: Stage,
    /// The time of the question.
    pub now: u64,
    /// The answer.
    pub verdict: Verdict,
    /// Why it is that one.
    pub why: String,
    /// The lists that cover the client or the domain, in the order in which they decide.
    pub lists: Vec<Covering>,
    /// The answer if the list that decides, or the mode, were not there; `None` if nothing decides.
    pub without: Option<Verdict>,
    /// What clients of each mail server that refuses read.
    pub wire: Vec<Read>,
}

/// A list that has entries about the client or the domain, holes among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Covering {
    /// Its name in the policy.
    pub name: String,
    /// What it is: `allow list`, `watched block list`, ...
    pub kind: String,
    /// What it says to the question.
    pub standing: Standing,
    /// The same in words.
    pub because: String,
    /// When it was made, as far as that is known.
    pub made: Option<u64>,
    /// What it has about the client or the domain: the entry that speaks for it first.
    pub entries: Vec<Matching>,
}

/// What a list says to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It decides.
    Decides,
    /// It lets the client go on, and another rule decides about the recipient.
    Accepts,
    /// It is only watched, and would refuse.
    Watched,
    /// It covers the question, but something before it decides.
    NotAsked,
    /// It does not concern this client or recipient.
    PassedOver,
    /// A hole keeps it from covering the question.
    Hole,
    /// All that it has about the question has expired.
    Expired,
}

/// An entry that covers the client or the domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matching {
    /// The entry, as a list has it.
    pub entry: String,
    /// Whether it is a hole.
    pub hole: bool,
    /// The file in which it stands; empty if it is built in.
    pub file: String,
    /// Its line there; 0 if it is built in.
    pub line: u32,
    /// What the list says about it.
    pub reason: String,
    /// When it ceases, or has ceased, to count.
    pub expires: Option<u64>,
    /// Why it does not speak for its list; `None` for the one that does.
    pub beaten: Option<&'static str>,
}

/// What clients of a mail server read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// The mail server.
    pub profile: Profile,
    /// When the mail server gets the answer.
    pub stage: Stage,
    /// What the client reads then; `None` if it is answered like any other.
    pub line: Option<String>,
    /// What the client reads as the answer to MAIL, if that is not settled before.
    pub at_mail: Option<String>,
    /// Whether the connection is closed behind it.
    pub closed: bool,
    /// What is lost of the reply that the policy asks for.
    pub lost: Vec<String>,
}

/// Explains the answer to a question. It does not count as a hit of any list.
pub(crate) fn explain(ruleset: &Ruleset, live: &Live<'_>, facts: &Facts<'_>, stage: Stage) -> Explanation {
    let now = facts.now.unwrap_or_else(|| seconds(SystemTime::now()));
    let facts = &Facts { now: Some(now), recipient: facts.recipient.filter(|_| stage == Stage::Rcpt), ..*facts };
    let mut place = Folded::new();
    let asked = Asked::new(ruleset, live, facts, stage, now, &mut place);
    let verdict = ruleset.ask(asked.ask, facts, live, None, decision::verdict);
    let decides = asked.decides(&verdict);
    let left_out = match decides {
        Some(judged) => Some(LeftOut::List(judged.list)),
        None if verdict.decider == Decider::Mode => Some(LeftOut::Nothing),
        None => {
            let rule = matches!(verdict.decider, Decider::Relay | Decider::Authentication | Decider::Ban);
            rule.then_some(LeftOut::Rule(verdict.decider))
        }
    };
    let answer = |decision| decision::verdict(&Answer { ruleset, question: &asked.question, decision });
    let without = left_out.map(|left_out| answer(asked.evaluate(left_out)));
    let all = asked.addresses.iter().chain(&asked.names);
    Explanation {
        client: facts.address.map(|address| address.to_canonical()),
        port: facts.port,
        helo: facts.helo.map(|helo| clean(helo).to_string()),
        tls: facts.tls,
        domain: asked.question.place.map(|place| String::from_utf8_lossy(&place).into_owned()),
        stage: asked.stage,
        now,
        why: asked.why(&verdict, decides),
        lists: all.map(|judged| asked.covering(judged, &verdict, decides)).collect(),
        wire: read(&verdict, facts, &asked),
        without,
        verdict,
    }
}

/// What is left out to see what would be answered without it.
#[derive(Clone, Copy)]
enum LeftOut<'a> {
    /// The mode, which is no list.
    Nothing,
    List(&'a List),
    /// The relay rule, the one about authentication, or the bans.
    Rule(Decider),
}

impl LeftOut<'_> {
    fn list(&self) -> Option<&List> {
        if let LeftOut::List(list) = self { Some(list) } else { None }
    }

    fn is(&self, decider: Decider) -> bool {
        matches!(self, LeftOut::Rule(rule) if *rule == decider)
    }
}

/// A question, and what the lists have about it.
struct Asked<'a> {
    ruleset: &'a Ruleset,
    live: &'a Live<'a>,
    stage: Stage,
    ask: Ask,
    facts: &'a Facts<'a>,
    question: Question<'a>,
    now: Seconds,
    addresses: Vec<Judged<'a>>,
    /// The lists about domains, recipients and senders, as they stand when the address is let in as it is.
    names: Vec<Judged<'a>>,
}

impl<'a> Asked<'a> {
    fn new(ruleset: &'a Ruleset, live: &'a Live<'a>, facts: &'a Facts<'a>, stage: Stage, now: Seconds, place: &'a mut Folded) -> Asked<'a> {
        // Nothing is asked at HELO.
        let stage = if stage == Stage::Helo { Stage::Connect } else { stage };
        let ask = match stage {
            Stage::Rcpt => Ask::Rcpt,
            Stage::Mail => Ask::Mail,
            Stage::Connect | Stage::Helo => Ask::Connect,
        };
        let mut question = ruleset.question(ask, facts);
        question.place = question.recipient.place_in(place);
        let addresses = facts.address.map_or_else(Vec::new, |address| {
            let judged = |list| Judged::address(list, address.to_canonical(), question.situation, now);
            ruleset.lists.iter().filter_map(judged).collect()
        });
        let mut asked = Asked { ruleset, live, stage, ask, facts, question, now, addresses, names: Vec::new() };
        if asked.is_named() {
            let by_address = first(&asked.addresses, None).0.map_or(Decider::Nothing, |(list, _)| list.role);
            ruleset.let_in(&mut asked.question, by_address);
            asked.names = asked.names(asked.question.situation);
        }
        asked
    }

    /// Whether the rules about names are asked.
    fn is_named(&self) -> bool {
        !self.question.connect
    }

    /// What the lists about domains, recipients and senders have about the question, in the order in which they decide.
    fn names(&self, situation: Exempt) -> Vec<Judged<'a>> {
        let sender = Mailbox::parse(self.facts.sender.unwrap_or_default());
        let sender_place = sender.place();
        let judged = |list: &'a List| {
            let recipient = Some(&self.question.recipient).filter(|_| list.role == Decider::Recipient);
            let of_sender = list.role == Decider::Sender;
            let (mailbox, place) = if of_sender {
                (Some(&sender), sender_place.as_ref().map(|place| place.as_bytes()))
            } else {
                (recipient, self.question.place.map(Place::as_bytes))
            };
            Judged::name(list, mailbox, place, situation, self.now)
        };
        self.ruleset.name_lists().filter_map(judged).collect()
    }

    /// The answer by the order of decision, as if the mode were open and something were not there.
    fn evaluate(&self, left_out: LeftOut<'_>) -> Decision<'a> {
        let Asked { ruleset, facts, question, .. } = *self;
        let (decided, watched) = first(&self.addresses, left_out.list());
        let mut decision = decided.map_or_else(Decision::default, |(list, entry)| Decision::by_entry(list, entry, question.connect));
        decision.shadow = watched.map_or("", |list| &list.name);
        let decider = decision.decider();
        if !matches!(decider, Decider::NeverBlock | Decider::Allow)
            && !left_out.is(Decider::Ban)
            && let Some(by_ban) = ruleset.by_ban(&question, self.live)
        {
            return by_ban;
        }
        if !self.is_named() || decider == Decider::NeverBlock || !decision.is_accept() {
            return decision;
        }
        // As it would have been let in, not as it was.
        let mut place = Folded::new();
        let mut question = ruleset.question(self.ask, facts);
        question.place = question.recipient.place_in(&mut place);
        ruleset.let_in(&mut question, decider);
        let relay = ruleset.relay.refuses(&question.recipient, question.place, question.situation, facts);
        if let Some(reply) = relay.filter(|_| facts.recipient.is_some() && !left_out.is(Decider::Relay)) {
            return Decision { shadow: decision.shadow, ..Decision::refusal(By::Relay, reply) };
        }
        let names = self.names(question.situation);
        let (decided, watched) = first(&names, left_out.list());
        if let Some(list) = watched.filter(|_| decision.shadow.is_empty()) {
            decision.shadow = &list.name;
        }
        let refusal = match decided {
            Some((list, entry)) => Some(Decision::by_entry(list, entry, false)),
            None if left_out.is(Decider::Authentication) => None,
            None => ruleset.by_authentication(&question, &mut decision.shadow),
        };
        Decision { shadow: decision.shadow, ..refusal.unwrap_or(decision) }
    }

    /// The list that a verdict names.
    fn decides(&self, verdict: &Verdict) -> Option<&Judged<'a>> {
        // A list of the policy may have the name of one that is built in.
        let named = |judged: &&Judged<'_>| judged.list.name == verdict.list && judged.list.role == verdict.decider;
        let mut lists = self.addresses.iter().chain(&self.names);
        lists.find(|judged| named(judged) && judged.own == Own::Covers && !judged.list.conduct.shadow)
    }

    /// What a list says to the question that got this verdict.
    fn standing(&self, judged: &Judged<'_>, verdict: &Verdict, decides: Option<&Judged<'_>>) -> Standing {
        match judged.own {
            Own::Exempt => Standing::PassedOver,
            Own::Hole => Standing::Hole,
            Own::Expired => Standing::Expired,
            Own::Covers if decides.is_some_and(|decides| std::ptr::eq(decides, judged)) => Standing::Decides,
            Own::Covers if verdict.decider == Decider::Mode => Standing::NotAsked,
            Own::Covers if self.before(judged).is_some() => Standing::NotAsked,
            Own::Covers if judged.list.conduct.shadow => Standing::Watched,
            Own::Covers if judged.list.role == Decider::Allow => Standing::Accepts,
            Own::Covers => Standing::NotAsked,
        }
    }

    /// The list that decides about the address, or about the domain, before this one can.
    fn before(&self, judged: &Judged<'_>) -> Option<&Judged<'a>> {
        let of_names = !matches!(judged.list.role, Decider::NeverBlock | Decider::Allow | Decider::Block);
        let lists = if of_names { &self.names } else { &self.addresses };
        let mut before = lists.iter().take_while(|other| !std::ptr::eq(*other, judged));
        before.find(|other| other.own == Own::Covers && !other.list.conduct.shadow)
    }

    fn covering(&self, judged: &Judged<'_>, verdict: &Verdict, decides: Option<&Judged<'_>>) -> Covering {
        let (list, standing) = (judged.list, self.standing(judged, verdict, decides));
        let because = match standing {
            Standing::Decides => "decides".into(),
            Standing::Accepts => "lets the client go on; recipient and sender are asked about all the same".into(),
            Standing::Watched => "would refuse, but is only watched".into(),
            Standing::PassedOver => format!("passed over: {}", exemptions(list.conduct.exempt, self.question.situation)),
            Standing::Hole => "a hole: this list does not cover it".into(),
            Standing::Expired => "expired".into(),
            Standing::NotAsked if verdict.decider == Decider::Mode => "not asked: the mode answers everybody".into(),
            Standing::NotAsked => {
                format!("not asked: {} decides before it", self.before(judged).map_or(verdict.list, |before| before.list.name))
            }
        };
        let entries = judged.entries.iter().map(|&(entry, beaten)| Matching {
            entry: shown::entry(&list.contents, entry),
            hole: entry.is_hole(),
            file: if list.contents.line(entry) == 0 { String::new() } else { list.contents.file(entry).into() },
            line: list.contents.line(entry),
            reason: list.contents.reason(entry).to_string(),
            expires: list.contents.expires(entry),
            beaten: beaten.map(covering::Beaten::name),
        });
        let entries = entries.collect();
        Covering { name: list.name.to_string(), kind: shown::kind(list), standing, because, made: list.contents.made, entries }
    }

    fn why(&self, verdict: &Verdict, decides: Option<&Judged<'_>>) -> String {
        let all = || self.addresses.iter().chain(&self.names);
        let Some(by) = decides else {
            let why = if verdict.decider == Decider::Mode {
                "the mode answers everybody, before any list is asked"
            } else if verdict.decider == Decider::Ban {
                "a ban, which comes before the block lists"
            } else if verdict.decider == Decider::Relay {
                "the recipient's domain is neither local nor relayed for, and the client is not trusted"
            } else if verdict.decider == Decider::Authentication {
                "the rule about what authentication checks came to"
            } else if all().next().is_none() {
                "no list covers it"
            } else {
                "no list that covers it counts here"
            };
            return why.into();
        };
        let before = all().take_while(|judged| !std::ptr::eq(*judged, by)).any(|judged| judged.list.role == by.list.role);
        let why = if verdict.decider == Decider::NeverBlock {
            "the never-block set wins over all lists"
        } else if verdict.decider == Decider::Allow && all().any(|judged| judged.list.role == Decider::Block) {
            "allow lists win over block lists, whatever the prefix lengths"
        } else if verdict.decider == Decider::Domain && !self.addresses.is_empty() {
            "recipient domains are asked about when the address is let in"
        } else if matches!(verdict.decider, Decider::Recipient | Decider::Sender) && !self.addresses.is_empty() {
            "recipients and senders are asked about when the address is let in"
        } else if all().count() == 1 {
            "the only list that covers it"
        } else if before {
            "the first list that covers it and counts here"
        } else {
            "the first list in the policy that covers it"
        };
        match by.entries.iter().find_map(|(_, beaten)| *beaten).filter(|beaten| *beaten != covering::Beaten::Expired) {
            Some(beaten) => format!("{why}; {}", beaten.winner()),
            None => why.into(),
        }
    }
}

/// Who is passed over, in words.
fn exemptions(exempt: Exempt, situation: Exempt) -> String {
    let words = [
        (Exempt::AUTHENTICATED, "the client has authenticated"),
        (Exempt::POSTMASTER, "mail to postmaster"),
        (Exempt::ABUSE, "mail to abuse"),
        (Exempt::CONNECTION, "it counts at RCPT only"),
        (Exempt::ALLOWED, "the client is on an allow list"),
        (Exempt::TRUSTED, "the client is trusted to relay"),
    ];
    let words: Vec<&str> = words.iter().filter(|(bit, _)| exempt.meets(*bit) && situation.meets(*bit)).map(|(_, word)| *word).collect();
    words.join(", ")
}

/// What clients of each mail server read. A milter answers at CONNECT for the lists that ask for it, before it knows whether
/// the client will authenticate, and else at RCPT, with the reply for that stage. What SPF and the like came to it is not told.
fn read(verdict: &Verdict, facts: &Facts<'_>, asked: &Asked<'_>) -> Vec<Read> {
    let bare = |argument: Option<&[u8]>, unknown: &str| {
        let text = argument.map_or_else(|| unknown.into(), |argument| clean(argument).to_string());
        text.strip_prefix('<').and_then(|inner| inner.strip_suffix('>')).map(str::to_owned).unwrap_or(text)
    };
    let client = facts.address.map_or_else(|| "unknown".into(), |address| format!("unknown[{}]", address.to_canonical()));
    let (sender, recipient) = (bare(facts.sender, "sender"), bare(facts.recipient, "recipient"));
    let envelope = Envelope { client: &client, helo: "helo", sender: &sender, recipient: &recipient };
    let told = Facts { address: facts.address, now: facts.now, ..Facts::default() };
    let ask = |ask, facts: &Facts<'_>| asked.ruleset.ask(ask, facts, asked.live, None, decision::verdict);
    let at_connect = ask(Ask::Early, &told);
    let envelope_too = Facts { sender: facts.sender, recipient: facts.recipient, authenticated: facts.authenticated, ..told };
    let at_rcpt = ask(Ask::Rcpt, &envelope_too);
    let by_milter = if at_connect.is_accept() { (Stage::Rcpt, &at_rcpt) } else { (Stage::Connect, &at_connect) };
    let read = Profile::ALL.into_iter().filter_map(|profile| {
        let (stage, verdict) = match profile {
            Profile::Postfix | Profile::Sendmail => by_milter,
            Profile::PostfixPolicy | Profile::Exim | Profile::OpenSmtpd | Profile::Abi => (asked.stage, verdict),
        };
        let wire = on_wire(profile, stage, verdict.rejection.as_ref()?, &envelope);
        let closed = wire.connection == Connection::Closed;
        Some(Read { profile, stage, line: wire.line, at_mail: wire.at_mail, closed, lost: wire.degradations })
    });
    read.collect()
}
