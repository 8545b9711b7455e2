//! A feed that is broken, cut off, emptied or wrong never refuses anybody who was not refused before: guards, last good
//! versions, expiry, and lists that are only watched or pass somebody over.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what goes wrong here ends the test, with a message")]

use memory::{Memory, NOW};
use mxgate::diagnostic::render;
use mxgate::{AuthResult, Decider, Facts, Gate};
use std::fmt::Write as _;

#[path = "support/memory.rs"]
mod memory;

fn with(name: &str, text: impl AsRef<[u8]>) -> Memory {
    let memory = Memory::new();
    memory.put(name, text);
    memory
}

fn policy(keys: &str) -> String {
    format!("hostname = \"mx.example.org\"\n[[list]]\nname = \"feed\"\nfile = \"feed\"\n{keys}\n")
}

fn list(count: u32) -> String {
    (0..count).fold(String::new(), |mut list, n| {
        writeln!(list, "198.51.{}.{}", n / 256, n % 256).unwrap();
        list
    })
}

fn at(address: &str, now: u64) -> Facts<'static> {
    Facts { now: Some(now), ..Facts::of_client(address.parse().unwrap()) }
}

fn refused(gate: &Gate, address: &str) -> bool {
    !gate.check_connect(&at(address, NOW)).is_accept()
}

/// What is said of a load that went well.
fn load(gate: &Gate, policy: &str, files: &Memory) -> String {
    render(&gate.load(policy, &"p".into(), files).unwrap_or_else(|error| panic!("{error}")))
}

#[test]
fn a_list_that_fails_stays_in_force_as_it_was_and_the_others_are_loaded() {
    let gate = Gate::new();
    let files = with("feed", list(200));
    files.put("other", "192.0.2.1\n");
    let both = policy("must_not_match = [\"203.0.113.9\"]\nmax_age = \"7d\"\nmin_entries = 10\nmax_entries = 5000")
        + "[[list]]\nname = \"other\"\nfile = \"other\"\n";
    assert_eq!(load(&gate, &both, &files), "");
    for (number, (text, cause)) in [
        ("".into(), "feed:1:1: warning: the list has 0 entries; give at least 10, or change min_entries"),
        ("# nothing\n".into(), "feed:1:1: warning: the list has shrunk from 200 entries to 0; check it"),
        ("<html><body>502 Bad Gateway</body></html>\n".into(), "feed:1:1: warning: the file is a web page or XML, not a list"),
        ("0.0.0.0/0\n".into(), "feed:1:1: warning: \"0.0.0.0/0\" covers every address"),
        (format!("{}12.0.0.0/6\n", list(200)), "feed:201:1: warning: 12.0.0.0/6 is wider than the limit"),
        (format!("{}2000::/3\n", list(200)), "feed:201:1: warning: 2000::/3 is wider than the limit"),
        (format!("{}203.0.113.0/24\n", list(200)), "feed:201:1: warning: the list covers 203.0.113.9, which it must not"),
        (list(99), "feed:1:1: warning: the list has shrunk from 200 entries to 99"),
        (list(2001), "feed:1:1: warning: the list has grown from 200 entries to 2001"),
        (list(5001), "feed:1:1: warning: the list has 5001 entries; give at most 5000"),
        (format!("{}198.51.100\n", list(200)), "feed:201:1: warning: \"198.51.100\" is not an IP address"),
        (format!("{}\0\0\n", list(200)), "feed:201:1: warning: \"\\0\\0\" is not an IP address"),
        (format!("{}{}\n", list(200), "1".repeat(1 << 20)), "feed:201:1: warning: the line is longer than 4096 bytes"),
    ]
    .into_iter()
    .enumerate()
    {
        files.put("feed", text);
        files.put("other", format!("192.0.2.{}\n", number + 2));
        let said = load(&gate, &both, &files);
        assert!(said.contains(cause), "{cause} in {said}");
        assert!(said.contains("p:4:8: warning: the list feed is not loaded and stays in force as it was"), "{said}");
        // The old list is in force, the other list is the new one, and nobody else is refused.
        assert!(refused(&gate, "198.51.0.199") && !refused(&gate, "198.51.0.200") && !refused(&gate, "203.0.113.9"), "{cause}");
        assert!(refused(&gate, &format!("192.0.2.{}", number + 2)) && !refused(&gate, &format!("192.0.2.{}", number + 1)), "{cause}");
    }
    files.put("feed", list(300));
    assert_eq!(load(&gate, &both, &files), "");
    assert!(refused(&gate, "198.51.1.43"));
    files.modified.set(NOW - 8 * 86_400);
    assert!(load(&gate, &both, &files).contains("feed:1:1: warning: the list is 8 d old"));
    files.remove("feed");
    assert!(load(&gate, &both, &files).contains("p:4:8: warning: cannot read feed: "));
    assert!(refused(&gate, "198.51.1.43"));
}

#[test]
fn a_list_cut_at_every_tenth_is_refused_or_a_part_of_the_whole() {
    let whole = list(1000);
    for tenth in 0..10 {
        let gate = Gate::new();
        let files = with("feed", &whole);
        load(&gate, &policy("must_match = [\"198.51.3.231\"]"), &files);
        files.put("feed", &whole[..whole.len() * tenth / 10]);
        load(&gate, &policy("must_match = [\"198.51.3.231\"]"), &files);
        for address in ["198.51.0.0", "198.51.3.231"] {
            assert!(refused(&gate, address), "{tenth}: {address}");
        }
        assert!(!refused(&gate, "198.51.3.232") && !refused(&gate, "192.0.2.1"), "{tenth}");
    }
}

#[test]
fn without_a_version_in_force_a_broken_list_makes_the_load_fail() {
    let gate = Gate::new();
    let files = with("feed", "198.51.100.1\nnonsense\n");
    let error = gate.load(&policy(""), &"p".into(), &files).unwrap_err();
    assert!(error.to_string().starts_with("feed:2:1: \"nonsense\" is not an IP address"), "{error}");
    assert_eq!(gate.ruleset().generation(), 0);
}

#[test]
fn never_block_and_private_addresses_are_named_and_stay_reachable() {
    let gate = Gate::new();
    let files = with("feed", "10.0.0.0/8\n127.0.0.1\n198.51.100.0/24\nfe80::/64\nfd00::1\n192.168.0.0/16\n");
    let said = load(&gate, &format!("never_block.networks = [\"198.51.100.7\"]\n{}", policy("")), &files);
    assert!(said.contains("feed:2:1: warning: 2 entries of the list feed cover never-block addresses, which it cannot refuse: 127.0.0.1/32, 198.51.100.0/24;"), "{said}");
    assert!(said.contains("feed:1:1: warning: 4 entries of the list feed cover private addresses, which it cannot refuse: 10.0.0.0/8, fe80::/64, fd00::1/128, ...;"), "{said}");
    for address in ["10.1.2.3", "127.0.0.1", "198.51.100.7", "fe80::1", "fd00::1", "192.168.1.1"] {
        assert!(!refused(&gate, address), "{address}");
    }
    assert!(refused(&gate, "198.51.100.8"));
    load(&gate, &format!("never_block.private = false\n{}", policy("")), &files);
    assert!(refused(&gate, "10.1.2.3") && refused(&gate, "fd00::1") && !refused(&gate, "fe80::1") && !refused(&gate, "127.0.0.1"));
}

#[test]
fn entries_of_a_list_with_a_ttl_expire_and_the_next_list_decides() {
    let gate = Gate::new();
    let files = with("feed", "192.0.2.0/24 from the feed\n");
    files.modified.set(NOW - 3600);
    let text = policy("ttl = \"2h\"") + "[[list]]\nname = \"next\"\nentries = [\"192.0.2.0/25 from the next\"]\n";
    load(&gate, &text, &files);
    for (address, now, list) in [
        ("192.0.2.1", NOW, "feed"),
        ("192.0.2.1", NOW + 3599, "feed"),
        ("192.0.2.1", NOW + 3600, "next"),
        ("192.0.2.200", NOW + 3599, "feed"),
        ("192.0.2.200", NOW + 3600, ""),
    ] {
        let verdict = gate.check_connect(&at(address, now));
        assert_eq!((verdict.list.as_str(), verdict.is_accept()), (list, list.is_empty()), "{address} {now}");
    }
    // Expired at the start, and by the clock of the system if the question has none.
    files.modified.set(0);
    load(&gate, &text, &files);
    let verdict = gate.check_connect(&Facts::of_client("192.0.2.1".parse().unwrap()));
    assert_eq!(verdict.list.as_str(), "next");
    // The same for an allow list and for domains.
    files.modified.set(NOW);
    files.put("names", "parked.example\n");
    let text = policy("allow = true\nttl = \"1h\"")
        + "[[list]]\nname = \"next\"\nentries = [\"192.0.2.0/24\"]\n"
        + "[[domains]]\nname = \"parked\"\nfile = \"names\"\nttl = \"1h\"\n[[domains]]\nname = \"later\"\nkind = \"null-mx\"\nentries = [\".example\"]\n";
    load(&gate, &text, &files);
    let ask = |now, recipient: &'static str| {
        let verdict = gate.check_rcpt(&Facts { recipient: Some(recipient.as_bytes()), ..at("192.0.2.1", now) });
        (verdict.decider, verdict.list.to_string())
    };
    assert_eq!(ask(NOW, "a@example.org"), (Decider::Allow, "feed".into()));
    assert_eq!(ask(NOW + 3600, "a@example.org"), (Decider::Block, "next".into()));
    assert_eq!(ask(NOW, "a@parked.example"), (Decider::Domain, "parked".into()));
    assert_eq!(ask(NOW + 3600, "postmaster@parked.example"), (Decider::Domain, "later".into()));
}

#[test]
fn the_dates_in_a_list_count_before_those_of_its_file() {
    let gate = Gate::new();
    // 2027-01-15 08:00:00 UTC is NOW; the list was made an hour before and is to be replaced an hour ago.
    let drop = |expires| {
        format!("; Spamhaus DROP List\n; Last-Modified: Fri, 15 Jan 2027 07:00:00 GMT\n; Expires: {expires}\n192.0.2.0/24 ; SBL1\n; EOF\n")
    };
    let files = with("feed", drop("Fri, 15 Jan 2027 07:00:00 GMT"));
    let said = load(&gate, &policy("ttl = \"2h\""), &files);
    assert!(said.contains("feed:1:1: warning: by its own words the list was to be replaced 60 min ago"), "{said}");
    let refused = |now| !gate.check_connect(&at("192.0.2.1", now)).is_accept();
    assert!(refused(NOW + 3599) && !refused(NOW + 3600));
    files.put("feed", drop("Fri, 15 Jan 2027 09:00:00 GMT"));
    assert_eq!(load(&gate, &policy("max_age = \"2h\""), &files), "");
    assert!(load(&gate, &policy("max_age = \"30m\""), &files).contains("feed:1:1: warning: the list is 60 min old"));
}

#[test]
fn a_list_that_is_only_watched_refuses_nobody_and_is_named() {
    let gate = Gate::new();
    let files = with("feed", "192.0.2.0/24\n");
    load(&gate, &(policy("enforce = false") + "[[list]]\nname = \"next\"\nentries = [\"192.0.2.0/25\"]\n"), &files);
    for (address, decided, shadow) in [("192.0.2.1", "next", "feed"), ("192.0.2.200", "", "feed"), ("192.0.3.1", "", "")] {
        let verdict = gate.check_connect(&at(address, NOW));
        assert_eq!((verdict.list.as_str(), verdict.shadow.as_str()), (decided, shadow), "{address}");
        assert_eq!(verdict.is_accept(), decided.is_empty());
    }
}

#[test]
fn authentication_that_is_only_watched_refuses_nobody_is_named_and_counted() {
    let gate = Gate::new();
    let files = with("feed", "192.0.2.0/24\n");
    let watched = |enforce| policy("enforce = false") + &format!("[authentication]\nspf_fail = \"reject\"\nenforce = {enforce}\n");
    load(&gate, &watched(false), &files);
    let ask = |address, spf, authenticated| {
        let facts = Facts { recipient: Some(b"a@example.org"), spf, authenticated, ..at(address, NOW) };
        let verdict = gate.check_rcpt(&facts);
        let explained = gate.explain(&facts, mxgate::Stage::Rcpt).verdict;
        assert_eq!(format!("{explained:?}"), format!("{verdict:?}"));
        (verdict.is_accept(), verdict.decider, verdict.shadow.to_string())
    };
    let hits = || gate.ruleset().authentication_hits();
    let accept = |shadow: &str| (true, Decider::Nothing, shadow.to_owned());
    assert_eq!(ask("198.51.100.1", AuthResult::Fail, false), accept("authentication"));
    assert_eq!((ask("198.51.100.1", AuthResult::Pass, false), hits()), (accept(""), 1));
    // Who is passed over is no hit.
    assert_eq!((ask("198.51.100.1", AuthResult::Fail, true), hits()), (accept(""), 1));
    // A list that is only watched comes first, and both count.
    assert_eq!((ask("192.0.2.1", AuthResult::Fail, false), hits()), (accept("feed"), 2));
    load(&gate, &watched(true), &files);
    assert_eq!((ask("192.0.2.1", AuthResult::Fail, false), hits()), ((false, Decider::Authentication, "feed".into()), 3));
}

#[test]
fn who_is_passed_over_by_which_list() {
    let gate = Gate::new();
    let files = with("feed", "192.0.2.0/24\n");
    let next = "[[list]]\nname = \"hard\"\nexempt = [\"abuse\"]\nat = \"rcpt\"\nentries = [\"192.0.2.0/24\"]\nreply = { connect = \"421 4.7.0 Later\", rcpt = \"550 5.7.1 Never\" }\n";
    load(&gate, &(policy("") + next), &files);
    let ask = |recipient: &'static str, authenticated| {
        let facts = Facts { recipient: Some(recipient.as_bytes()), authenticated, ..at("192.0.2.1", NOW) };
        gate.check_rcpt(&facts).list.to_string()
    };
    assert_eq!(ask("a@example.org", false), "feed");
    assert_eq!(ask("a@example.org", true), "hard");
    assert_eq!(ask("postmaster@example.org", false), "hard");
    assert_eq!(ask("abuse@example.org", false), "");
    assert_eq!(ask("abuse@example.org", true), "");
    // At CONNECT the second list does not count.
    let connect = |authenticated| gate.check_connect(&Facts { authenticated, ..at("192.0.2.1", NOW) }).list.to_string();
    assert_eq!((connect(false), connect(true)), ("feed".into(), "".into()));
}

#[test]
fn replies_by_stage_and_a_contact() {
    let gate = Gate::new();
    let files = with("feed", "192.0.2.0/24\n");
    let reply = "reply = { connect = \"421 4.7.0 Later\", rcpt = \"550 5.7.1 Never, {reason}\" }\ncontact = \"https://example.org/why\"";
    load(&gate, &policy(reply), &files);
    let facts = Facts { recipient: Some(b"a@example.org"), ..at("192.0.2.1", NOW) };
    let shown = |verdict: mxgate::Verdict| verdict.rejection.unwrap().reply().to_string();
    assert_eq!(shown(gate.check_connect(&facts)), "421 4.7.0 Later");
    assert_eq!(shown(gate.check_rcpt(&facts)), "550 5.7.1 Never, no reason given; https://example.org/why");
    load(&gate, &policy("contact = \"https://example.org/why\""), &files);
    assert_eq!(
        shown(gate.check_rcpt(&facts)),
        "550 5.7.1 Service unavailable; client [192.0.2.1] blocked using feed; https://example.org/why"
    );
}

#[test]
fn lists_of_senders_and_recipients_are_read_kept_and_expire_like_others() {
    let policy = r#"
        hostname = "mx.example.org"
        [guards]
        must_match = ["192.0.2.1"]
        [[list]]
        name = "feed"
        file = "feed"
        ttl = "2d"
        [[senders]]
        name = "watched"
        enforce = false
        file = "senders"
        [[senders]]
        name = "senders"
        file = "senders"
        ttl = "1d"
        reply = "450 4.7.1 Later: {reason}"
        [[senders]]
        name = "after"
        entries = [".spam.example"]
        [[recipients]]
        name = "open"
        opt_out = ["feed", "after"]
        file = "open"
        ttl = "1d"
    "#;
    let files = with("feed", "192.0.2.1\n");
    files.put("senders", "spam.example bulk mail\n!good@spam.example\nb\u{fc}cher.example\n");
    files.put("open", "open@example.org\n");
    let gate = Gate::new();
    assert_eq!(render(&gate.load(policy, &"p".into(), &files).unwrap()), "");
    let ask = |client, sender: &str, recipient: &str, now| {
        let facts = Facts { sender: Some(sender.as_bytes()), recipient: Some(recipient.as_bytes()), ..at(client, now) };
        let verdict = gate.check_rcpt(&facts);
        (verdict.list.to_string(), verdict.shadow.to_string(), verdict.line)
    };
    let answer = |list: &str, shadow: &str, line| (list.to_owned(), shadow.to_owned(), line);
    let (day, user, open) = (86_400, "<user@example.org>", "<open@example.org>");
    assert_eq!(ask("198.51.100.1", "<a@spam.example>", user, NOW), answer("senders", "watched", 1));
    assert_eq!(ask("198.51.100.1", "<good@spam.example>", user, NOW), answer("after", "", 20));
    assert_eq!(ask("198.51.100.1", "<a@b\u{fc}cher.example>", user, NOW), answer("senders", "watched", 3));
    assert_eq!(ask("198.51.100.1", "<a@spam.example>", open, NOW), answer("senders", "watched", 1));
    assert_eq!(ask("198.51.100.1", "<good@spam.example>", open, NOW), answer("", "", 0));
    // A day later the list of senders is over, and who had opted out has not.
    assert_eq!(ask("198.51.100.1", "<a@spam.example>", user, NOW + day), answer("after", "watched", 20));
    assert_eq!(ask("192.0.2.1", "<>", open, NOW + day - 1), answer("", "", 0));
    assert_eq!(ask("192.0.2.1", "<>", open, NOW + day), answer("feed", "", 1));
    // A broken list stays in force as it was.
    files.put("senders", "spam.example\n<html>\n");
    let warnings = render(&gate.load(policy, &"p".into(), &files).unwrap());
    assert!(warnings.contains("the list senders is not loaded and stays in force as it was"), "{warnings}");
    assert_eq!(ask("198.51.100.1", "<a@b\u{fc}cher.example>", user, NOW), answer("senders", "watched", 3));
}
