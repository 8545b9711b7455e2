//! The tables of names against the definition: random lists of domains and mailboxes, random questions.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what goes wrong here ends the test, with a message")]

use mxgate::{Facts, Gate, Stage};
use proptest::prelude::*;
use std::fmt::Write as _;

/// Few labels, so that names meet each other.
fn domain() -> impl Strategy<Value = String> {
    let label = prop::sample::select(vec!["a", "b", "ab", "xn--bcher-kva"]);
    prop::collection::vec(label, 1..4).prop_map(|labels| labels.join("."))
}

#[derive(Clone, Debug)]
enum Kind {
    Exact,
    Below,
    Both,
    Mailbox(&'static str),
    Local(&'static str),
}

#[derive(Clone, Debug)]
struct Rule {
    hole: bool,
    kind: Kind,
    domain: String,
}

fn rule(mailboxes: bool) -> impl Strategy<Value = Rule> {
    let forms = [Kind::Exact, Kind::Below, Kind::Both];
    let all = [&forms[..], &[Kind::Mailbox("u"), Kind::Mailbox("v"), Kind::Local("u"), Kind::Local("v")]].concat();
    let kind = prop::sample::select(if mailboxes { all } else { forms.to_vec() });
    (prop::bool::weighted(0.3), kind, domain()).prop_map(|(hole, kind, domain)| Rule { hole, kind, domain })
}

impl Rule {
    fn text(&self) -> String {
        let Rule { kind, domain, .. } = self;
        let hole = if self.hole { "!" } else { "" };
        match kind {
            Kind::Exact => format!("{hole}{domain}"),
            Kind::Below => format!("{hole}*.{domain}"),
            Kind::Both => format!("{hole}.{domain}"),
            Kind::Mailbox(local) => format!("{hole}{local}@{domain}"),
            Kind::Local(local) => format!("{hole}{local}@"),
        }
    }

    /// How well it fits a mailbox, if it does: the mailbox itself, the domain by its length, the local part.
    fn fit(&self, local: &str, domain: &str) -> Option<(u8, usize, u8)> {
        let below = domain.ends_with(&format!(".{}", self.domain));
        let same = domain == self.domain;
        let (fits, fit) = match self.kind {
            Kind::Mailbox(wanted) => (same && local == wanted, (3, 0, 0)),
            Kind::Exact => (same, (2, self.domain.len(), 1)),
            Kind::Below => (below, (2, self.domain.len(), 0)),
            Kind::Both => (same || below, (2, self.domain.len(), 0)),
            Kind::Local(wanted) => (local == wanted, (1, 0, 0)),
        };
        fits.then_some(fit)
    }
}

/// The definition: the first list whose best-fitting entry is not a hole; of entries that fit alike a hole, else the
/// first. The list and the line in it.
fn expected(lists: &[Vec<Rule>], local: &str, domain: &str) -> Option<(usize, u32)> {
    lists.iter().enumerate().find_map(|(number, list)| {
        let fitting = (1..).zip(list).filter_map(|(line, rule)| Some((rule.fit(local, domain)?, rule.hole, std::cmp::Reverse(line))));
        let (_, hole, line) = fitting.max()?;
        (!hole).then_some((number, line.0))
    })
}

fn policy(section: &str, lists: &[Vec<Rule>], passed: &[bool]) -> String {
    let mut policy = "hostname = \"mx.example.org\"\n".to_owned();
    for (number, list) in lists.iter().enumerate() {
        writeln!(policy, "[[{section}]]\nname = \"l{number}\"\nentries = [{}]", quoted(list)).unwrap();
        if section == "senders" {
            writeln!(policy, "exempt = [{}]", if passed[number] { "\"authenticated\"" } else { "" }).unwrap();
        }
    }
    policy
}

fn quoted(list: &[Rule]) -> String {
    list.iter().map(|rule| format!("\n\"{}\"", rule.text())).collect::<Vec<_>>().join(",")
}

/// The line in a list, from 1, of a line of the policy.
fn line_in_list(policy: &str, line: u32) -> u32 {
    let before: Vec<&str> = policy.lines().take(usize::try_from(line).unwrap() - 1).collect();
    u32::try_from(before.iter().rev().take_while(|line| !line.starts_with("entries")).count() + 1).unwrap()
}

fn answer(gate: &Gate, policy: &str, facts: &Facts<'_>) -> Option<(usize, u32)> {
    let verdict = gate.check_rcpt(facts);
    assert_eq!(verdict.list.is_empty(), verdict.is_accept());
    let number = verdict.list.strip_prefix('l')?.parse().unwrap();
    Some((number, line_in_list(policy, verdict.line)))
}

/// What is said about an answer is worked out without the tables: the same list decides, and without it the next one.
fn explained(gate: &Gate, policy: &str, facts: &Facts<'_>, lists: &[Vec<Rule>], local: &str, domain: &str) {
    let explanation = gate.explain(facts, Stage::Rcpt);
    let verdict = gate.check_rcpt(facts);
    let winner = explanation.winner().map(|list| (list.name.clone(), list.entries[0].line));
    assert_eq!(winner, (!verdict.list.is_empty()).then(|| (verdict.list.to_string(), verdict.line)), "{explanation} {policy}");
    let Some(without) = explanation.without else { return };
    let number: usize = verdict.list.strip_prefix('l').unwrap().parse().unwrap();
    let others: Vec<_> = lists.iter().enumerate().map(|(at, list)| if at == number { Vec::new() } else { list.clone() }).collect();
    let next = expected(&others, local, domain).map(|(number, _)| format!("l{number}")).unwrap_or_default();
    assert_eq!(without.list.as_str(), next, "{policy}");
}

proptest! {
    #[test]
    fn domains_are_found_as_defined(
        lists in prop::collection::vec(prop::collection::vec(rule(false), 1..8), 1..4),
        questions in prop::collection::vec(domain(), 1..30),
    ) {
        let policy = policy("domains", &lists, &[]);
        let policy = &policy;
        let gate = Gate::new();
        let loaded = gate.load_text(policy, "p");
        prop_assert!(loaded.is_ok(), "{loaded:?} {policy}");
        for domain in questions {
            let want = expected(&lists, "u", &domain);
            // U-labels, case and a trailing dot make no difference.
            for written in [domain.clone(), format!("{}.", domain.to_uppercase()), domain.replace("xn--bcher-kva", "B\u{fc}cher")] {
                let recipient = format!("<u@{written}>");
                let facts = Facts { recipient: Some(recipient.as_bytes()), ..Facts::default() };
                prop_assert_eq!(answer(&gate, policy, &facts), want, "{} in {}", recipient, policy);
                explained(&gate, policy, &facts, &lists, "u", &domain);
            }
        }
    }

    #[test]
    fn senders_are_found_as_defined(
        lists in prop::collection::vec(prop::collection::vec(rule(true), 1..8), 1..5),
        passed in prop::collection::vec(any::<bool>(), 5),
        questions in prop::collection::vec((prop::sample::select(vec!["u", "v", "w"]), domain()), 1..30),
    ) {
        let policy = policy("senders", &lists, &passed);
        let policy = &policy;
        let gate = Gate::new();
        let loaded = gate.load_text(policy, "p");
        prop_assert!(loaded.is_ok(), "{loaded:?} {policy}");
        for (local, domain) in questions {
            let sender = format!("<{}@{domain}>", local.to_uppercase());
            let facts = Facts { sender: Some(sender.as_bytes()), recipient: Some(b"<user@example.org>"), ..Facts::default() };
            prop_assert_eq!(answer(&gate, policy, &facts), expected(&lists, local, &domain), "{} in {}", sender, policy);
            explained(&gate, policy, &facts, &lists, local, &domain);
            // Without the lists that pass over clients who have authenticated.
            let others: Vec<_> = lists.iter().zip(&passed).map(|(list, passed)| if *passed { Vec::new() } else { list.clone() }).collect();
            let facts = Facts { authenticated: true, ..facts };
            prop_assert_eq!(answer(&gate, policy, &facts), expected(&others, local, &domain), "{} in {}", sender, policy);
        }
    }
}
