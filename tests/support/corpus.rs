//! The corpus: policies, questions and answers, the same for every interface. `tests/cases/README.md` explains the format.

use mxgate::{AuthResult, Decider, Facts, Gate, Verdict};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// A policy and the questions to it.
#[derive(Debug)]
pub struct Group {
    pub policy: PathBuf,
    pub cases: Vec<Case>,
}

/// A question and its answer.
#[derive(Debug)]
pub struct Case {
    /// File and line, for messages.
    pub place: String,
    pub authenticated: bool,
    pub sender: Option<Vec<u8>>,
    /// What SPF, DKIM, DMARC and reverse DNS came to.
    pub results: [AuthResult; 4],
    pub client: Option<IpAddr>,
    pub recipient: Option<Vec<u8>>,
    /// What is to be answered.
    pub answer: Answer,
}

/// An answer in a form in which all interfaces can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The reply to a command; `None` for accept.
    pub reply: Option<String>,
    pub hang_up: bool,
    /// Kind of rule, list, entry and line.
    pub decided: String,
}

/// The authentication checks, in the order of [`Case::results`].
pub const CHECKS: [&str; 4] = ["spf", "dkim", "dmarc", "rdns"];

/// Reads the whole corpus.
pub fn groups() -> Vec<Group> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut files: Vec<PathBuf> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "case"));
    files.sort();
    let groups: Vec<Group> = files.iter().map(|file| Group { policy: file.with_extension("toml"), cases: read(file) }).collect();
    let count: usize = groups.iter().map(|group| group.cases.len()).sum();
    assert!(count >= 250, "only {count} cases were found");
    groups
}

fn read(file: &Path) -> Vec<Case> {
    let text = fs::read_to_string(file).unwrap();
    let lines = text.lines().zip(1..).filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
    lines.map(|(line, number)| case(line, format!("{}:{number}", file.display()))).collect()
}

fn case(line: &str, place: String) -> Case {
    let (question, answer) = line.split_once("=>").unwrap_or_else(|| panic!("{place}: no => in {line:?}"));
    let (reply, decided) = answer.rsplit_once('|').unwrap_or_else(|| panic!("{place}: no | in {line:?}"));
    let mut words: Vec<&str> = question.split_whitespace().collect();
    let (mut authenticated, mut sender, mut results) = (false, None, [AuthResult::Unknown; 4]);
    while let Some(word) = words.first() {
        match word.split_once('=') {
            None if *word == "auth" => authenticated = true,
            Some(("from", argument)) => sender = Some(unescape(argument)),
            Some((check, result)) if CHECKS.contains(&check) => {
                let at = CHECKS.iter().position(|name| *name == check).unwrap();
                let found = AuthResult::NAMED.iter().find(|(name, _)| *name == result);
                results[at] = found.unwrap_or_else(|| panic!("{place}: {word}")).1;
            }
            _ => break,
        }
        words.remove(0);
    }
    assert!(matches!(words.len(), 1 | 2), "{place}: {question:?}");
    let client = (words[0] != "-").then(|| words[0].parse().unwrap_or_else(|_| panic!("{place}: {:?} is no address", words[0])));
    let (reply, hang_up) = match reply.trim().strip_suffix(" [hang up]") {
        Some(reply) => (reply, true),
        None => (reply.trim(), false),
    };
    let reply = (reply != "accept").then(|| reply.to_owned());
    let recipient = words.get(1).map(|text| unescape(text));
    Case { place, authenticated, sender, results, client, recipient, answer: Answer { reply, hang_up, decided: decided.trim().to_owned() } }
}

/// Turns `\r`, `\n`, `\0`, `\s` (space), `\\` and `\xNN` into bytes.
fn unescape(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text.bytes());
    while let Some(byte) = rest.next() {
        let escaped = if byte == b'\\' { rest.next() } else { None };
        bytes.push(match escaped {
            None => byte,
            Some(b'r') => b'\r',
            Some(b'n') => b'\n',
            Some(b'0') => 0,
            Some(b's') => b' ',
            Some(b'x') => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            Some(other) => other,
        });
    }
    bytes
}

impl Case {
    /// The question as facts.
    pub fn facts(&self) -> Facts<'_> {
        let [spf, dkim, dmarc, rdns] = self.results;
        Facts {
            address: self.client,
            sender: self.sender.as_deref(),
            recipient: self.recipient.as_deref(),
            authenticated: self.authenticated,
            spf,
            dkim,
            dmarc,
            rdns,
            ..Facts::default()
        }
    }

    /// Whether a milter can be asked this: mail servers do not tell it what authentication came to.
    pub fn suits_a_milter(&self) -> bool {
        self.results == [AuthResult::Unknown; 4]
    }

    /// What the gate answers.
    pub fn ask(&self, gate: &Gate) -> Verdict {
        if self.recipient.is_some() { gate.check_rcpt(&self.facts()) } else { gate.check_connect(&self.facts()) }
    }
}

impl Answer {
    /// An answer from its parts.
    pub fn new(reply: Option<String>, hang_up: bool, decider: u16, list: &str, entry: &str, line: &str) -> Answer {
        const KINDS: [&str; 10] =
            ["nothing", "mode", "never-block", "allow", "block", "domain", "sender", "relay", "recipient", "authentication"];
        let kind = KINDS[usize::from(decider)];
        let decided = if list.is_empty() { kind.to_owned() } else { format!("{kind} {list} {entry} {line}") };
        Answer { reply, hang_up, decided }
    }

    /// A verdict of the Rust API.
    pub fn of(verdict: &Verdict) -> Answer {
        let Verdict { rejection, decider, list, entry, line, .. } = verdict;
        let reply = rejection.map(|rejection| rejection.reply().to_string());
        let hang_up = rejection.is_some_and(|rejection| rejection.hang_up);
        assert_eq!(rejection.is_none(), matches!(decider, Decider::Nothing | Decider::NeverBlock | Decider::Allow));
        Answer::new(reply, hang_up, *decider as u16, list, &entry.to_string(), &line.to_string())
    }
}
