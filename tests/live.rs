//! What changes beside the rules: bans, modes, lists that the host gives, files that change; and what a gate tells of it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what goes wrong here ends the test, with a message")]

use mxgate::status::Status;
use mxgate::{Decider, Facts, Gate, Mode, Stage, Verdict};
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const POLICY: &str = r#"
hostname = "mx.example.org"
[never_block]
networks = ["203.0.113.0/28"]
[[list]]
name = "partners"
allow = true
entries = ["198.51.100.0/28"]
[[list]]
name = "local"
entries = ["192.0.2.0/24 sent spam"]
[[list]]
name = "watched"
enforce = false
entries = ["198.51.100.64/28"]
[[senders]]
name = "spammers"
entries = ["user@example.net"]
"#;

fn gate(policy: &str) -> Gate {
    let gate = Gate::new();
    assert_eq!(gate.load_text(policy, "policy").map_err(|error| error.to_string()), Ok(vec![]));
    gate
}

fn client(address: &str) -> Facts<'static> {
    Facts::of_client(address.parse().unwrap())
}

fn reply(verdict: &Verdict) -> String {
    verdict.rejection.map_or_else(|| "accept".into(), |rejection| rejection.reply().to_string())
}

fn ban(gate: &Gate, network: &str, seconds: u64) -> Result<(), String> {
    let duration = (seconds > 0).then(|| Duration::from_secs(seconds));
    gate.ban(network.parse().unwrap(), duration, "tried passwords").map(drop).map_err(|fault| format!("{}; {}", fault.cause, fault.remedy))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn a_ban_comes_after_the_allow_lists_and_before_the_block_lists() {
    let gate = gate(&POLICY.replace("[never_block]", "[bans]\nreply = \"550 5.7.1 Banned: {reason}\"\n[never_block]"));
    ban(&gate, "198.51.100.0/24", 3600).unwrap();
    ban(&gate, "203.0.113.0/24", 3600).unwrap();
    ban(&gate, "192.0.2.9/32", 3600).unwrap();
    for (address, answer, decider) in [
        ("198.51.100.20", "550 5.7.1 Banned: tried passwords", Decider::Ban),
        ("198.51.100.1", "accept", Decider::Allow),
        ("203.0.113.1", "accept", Decider::NeverBlock),
        ("203.0.113.20", "550 5.7.1 Banned: tried passwords", Decider::Ban),
        ("::ffff:192.0.2.9", "550 5.7.1 Banned: tried passwords", Decider::Ban),
        ("192.0.2.8", "550 5.7.1 Service unavailable; client [192.0.2.8] blocked using local", Decider::Block),
        ("2001:db8::1", "accept", Decider::Nothing),
    ] {
        let asked = Facts { recipient: Some(b"user@example.org"), ..client(address) };
        for verdict in [gate.check_connect(&asked), gate.check_mail(&asked), gate.check_rcpt(&asked)] {
            assert_eq!((reply(&verdict).as_str(), verdict.decider), (answer, decider), "{address}");
        }
    }
    let verdict = gate.check_connect(&client("192.0.2.9"));
    assert_eq!(
        (verdict.list.as_str(), verdict.entry.to_string(), verdict.reason.as_str()),
        ("bans", "192.0.2.9".into(), "tried passwords")
    );
    // The list did not come to word.
    let hits = gate.ruleset().list("local").unwrap().hits();
    gate.check_connect(&client("192.0.2.9"));
    assert_eq!(gate.ruleset().list("local").unwrap().hits(), hits);
    // Whom lists pass over bans pass over too.
    let banned = Facts { recipient: Some(b"postmaster@example.org"), ..client("198.51.100.20") };
    assert_eq!(reply(&gate.check_rcpt(&banned)), "accept");
    assert_eq!(reply(&gate.check_connect(&Facts { authenticated: true, ..banned })), "accept");
    // Bans outlive loads.
    gate.load_text(POLICY, "policy").unwrap();
    assert_eq!(reply(&gate.check_connect(&banned)), "550 5.7.1 Service unavailable; client [198.51.100.20] blocked using bans");
    assert!(gate.unban("198.51.100.0/24".parse().unwrap()) && !gate.unban("198.51.100.0/24".parse().unwrap()));
    assert_eq!(reply(&gate.check_connect(&banned)), "accept");
    let left: Vec<String> = gate.bans().iter().map(|ban| ban.network.to_string()).collect();
    assert_eq!(left, ["192.0.2.9/32", "203.0.113.0/24"]);
}

#[test]
fn a_ban_ends_by_itself() {
    let gate = gate(POLICY);
    ban(&gate, "198.51.100.0/24", 600).unwrap();
    ban(&gate, "198.51.100.7/32", 0).unwrap();
    let at = |address: &str, seconds: u64| gate.check_connect(&Facts { now: Some(now() + seconds), ..client(address) }).decider;
    assert_eq!(
        (at("198.51.100.20", 500), at("198.51.100.20", 601), at("198.51.100.7", 601)),
        (Decider::Ban, Decider::Nothing, Decider::Allow)
    );
    assert_eq!(at("198.51.100.129", 601), Decider::Nothing);
    ban(&gate, "198.51.100.129/32", 0).unwrap();
    assert_eq!(at("198.51.100.129", u64::from(u32::MAX)), Decider::Ban);
    // A second ban of the same network replaces the first.
    ban(&gate, "198.51.100.129/32", 10).unwrap();
    assert_eq!((at("198.51.100.129", 11), at("198.51.100.129", 601)), (Decider::Ban, Decider::Nothing), "the larger one still counts");
}

#[test]
fn what_may_not_be_banned() {
    let gate = gate(POLICY);
    for (network, said) in [
        ("128.0.0.0/1", "128.0.0.0/1 is wider than /8; ban smaller networks, or set widest_v4 or widest_v6 in [guards]"),
        ("2001::/16", "2001::/16 is wider than /19; ban smaller networks, or set widest_v4 or widest_v6 in [guards]"),
        (
            "127.0.0.1/32",
            "127.0.0.1/32 is in the never-block set, which nothing refuses; ban another network, or take it out of [never_block]",
        ),
        (
            "203.0.113.8/29",
            "203.0.113.8/29 is in the never-block set, which nothing refuses; ban another network, or take it out of [never_block]",
        ),
        (
            "192.168.3.0/24",
            "192.168.3.0/24 is a private network, which nothing refuses; ban another network, or take it out of [never_block]",
        ),
        (
            "::ffff:127.0.0.0/104",
            "127.0.0.0/8 is in the never-block set, which nothing refuses; ban another network, or take it out of [never_block]",
        ),
    ] {
        assert_eq!(ban(&gate, network, 60), Err(said.to_owned()));
    }
    assert_eq!(gate.bans(), []);
}

#[test]
fn a_mode_that_is_set_goes_before_that_of_the_policy_and_over_loads() {
    let gate = gate(POLICY);
    // What is told differs from client to client, and stays for a minute.
    let client = |address| Facts { now: Some(1_795_312_800), ..client(address) };
    let answer = |gate: &Gate| reply(&gate.check_connect(&client("203.0.113.1")));
    assert_eq!((gate.mode(), answer(&gate).as_str()), (Mode::Open, "accept"));
    for (mode, expected) in [
        (Mode::Maintenance, "421 4.3.2 mx.example.org Service not available, maintenance; try again later"),
        (Mode::Draining, "421 4.3.2 mx.example.org Service not available, shutting down; try again in "),
        (Mode::Overloaded, "421 4.3.2 mx.example.org Service not available, overloaded; try again in "),
        (Mode::NoMail, "521 5.3.2 mx.example.org does not accept mail"),
    ] {
        gate.set_mode(Some(mode));
        gate.load_text(POLICY, "policy").unwrap();
        assert_eq!(gate.mode(), mode);
        let answer = answer(&gate);
        assert!(answer.starts_with(expected), "{answer}");
        let explanation = gate.explain(&client("203.0.113.1"), Stage::Connect);
        assert_eq!(reply(&explanation.verdict), answer);
    }
    gate.load_text(&format!("mode = \"maintenance\"{POLICY}"), "policy").unwrap();
    gate.set_mode(Some(Mode::Open));
    assert_eq!((gate.mode(), answer(&gate).as_str()), (Mode::Open, "accept"));
    gate.set_mode(None);
    assert_eq!(gate.mode(), Mode::Maintenance);
}

#[test]
fn at_mail_the_sender_decides_after_the_client() {
    let gate = gate(POLICY);
    for (address, sender, authenticated, answer) in [
        ("198.51.100.40", &b"<user@example.net>"[..], false, "550 5.7.1 Sender address rejected: blocked using spammers"),
        ("198.51.100.40", b"<other@example.net>", false, "accept"),
        ("198.51.100.40", b"<>", false, "accept"),
        ("198.51.100.40", b"user@example.net", true, "accept"),
        ("192.0.2.7", b"<>", false, "550 5.7.1 Service unavailable; client [192.0.2.7] blocked using local"),
        ("203.0.113.1", b"user@example.net", false, "accept"),
    ] {
        let facts = Facts { sender: Some(sender), authenticated, ..client(address) };
        assert_eq!(reply(&gate.check_mail(&facts)), answer, "{address} {}", sender.escape_ascii());
        // The recipient is not known yet.
        let explanation = gate.explain(&Facts { recipient: Some(b"postmaster@example.org"), ..facts }, Stage::Mail);
        assert_eq!((reply(&explanation.verdict).as_str(), explanation.stage), (answer, Stage::Mail));
        assert_eq!(
            explanation.lists.iter().any(|list| list.name == "spammers"),
            sender.ends_with(b"user@example.net>") || sender == b"user@example.net"
        );
    }
}

#[test]
fn trusted_clients_relay_and_what_they_call_themselves_fits_into_a_reply() {
    let gate = gate(
        "hostname = \"mx.example.org\"\n[relay]\nlocal = [\"example.org\"]\n\
         [[list]]\nname = \"local\"\nreply = \"550 5.7.1 Not {helo} again\"\nentries = [\"192.0.2.0/24\"]\n",
    );
    let asked = Facts { recipient: Some(b"user@example.com"), ..client("198.51.100.40") };
    assert_eq!(reply(&gate.check_rcpt(&asked)), "550 5.7.1 Relaying denied");
    assert_eq!(reply(&gate.check_rcpt(&Facts { trusted: true, ..asked })), "accept");
    let named = Facts { helo: Some(b"a\r\n250 %n \xff"), ..client("192.0.2.1") };
    assert_eq!(reply(&gate.check_connect(&named)), "550 5.7.1 Not a  250 ?n ? again");
    assert_eq!(reply(&gate.check_connect(&client("192.0.2.1"))), "550 5.7.1 Not unknown again");
}

#[test]
fn an_explanation_knows_bans() {
    let gate = gate(POLICY);
    ban(&gate, "192.0.2.0/25", 3600).unwrap();
    let explanation = gate.explain(&client("192.0.2.7"), Stage::Connect);
    assert_eq!(explanation.verdict.decider, Decider::Ban);
    let without = explanation.without.unwrap();
    assert_eq!(reply(&without), "550 5.7.1 Service unavailable; client [192.0.2.7] blocked using local");
    assert_eq!(explanation.why, "a ban, which comes before the block lists");
}

/// A list that the host gives instead of the policy's files.
#[test]
fn a_list_from_memory() {
    let directory = tempfile::tempdir().unwrap();
    let (policy, list) = (directory.path().join("mxgate.toml"), directory.path().join("feed.txt"));
    fs::write(&list, "192.0.2.0/24\n").unwrap();
    fs::write(
        &policy,
        "hostname = \"mx.example.org\"\n[[list]]\nname = \"feed\"\nfile = \"feed.txt\"\n[[list]]\nname = \"own\"\nentries = []\n",
    )
    .unwrap();
    let gate = Gate::new();
    gate.load_file(&policy).unwrap();
    let listed = |address: &str| gate.check_connect(&client(address)).list.to_string();
    assert_eq!((listed("192.0.2.7").as_str(), listed("198.51.100.7").as_str()), ("feed", ""));
    // In another format, and over inline entries too.
    assert_eq!(gate.set_list("feed", Some(b"; Spamhaus DROP List\n198.51.100.0/24 ; SBL1\n; EOF\n")).unwrap(), []);
    gate.set_list("own", Some(b"203.0.113.0/24 ours\n")).unwrap();
    assert_eq!((listed("192.0.2.7").as_str(), listed("198.51.100.7").as_str(), listed("203.0.113.7").as_str()), ("", "feed", "own"));
    let verdict = gate.check_connect(&client("198.51.100.7"));
    assert_eq!((verdict.reason.as_str(), verdict.line), ("SBL1", 2));
    // It stays over loads, and a mistake changes nothing.
    gate.load_file(&policy).unwrap();
    assert_eq!(listed("198.51.100.7"), "feed");
    let warnings =
        gate.set_list("feed", Some(b"192.0.2.300\n")).map(|warnings| warnings.iter().map(ToString::to_string).collect::<Vec<_>>());
    let said = warnings.map_or_else(|error| error.to_string(), |warnings| warnings.join("\n"));
    assert!(said.contains("feed:1:1:") && said.contains("192.0.2.300"), "{said}");
    assert_eq!(listed("198.51.100.7"), "feed");
    let error = gate.set_list("nothing", Some(b"")).unwrap_err().to_string();
    assert!(error.contains("the rules in force have no list \"nothing\"; name one of feed, own"), "{error}");
    gate.set_list("feed", None).unwrap();
    assert_eq!((listed("192.0.2.7").as_str(), listed("198.51.100.7").as_str()), ("feed", ""));
}

fn write(path: &Path, text: &str) {
    // As everybody should: aside, then renamed.
    fs::write(path.with_extension("new"), text).unwrap();
    fs::rename(path.with_extension("new"), path).unwrap();
}

#[test]
fn files_that_change_are_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let gate = Gate::new();
    fs::create_dir(path("lists.d")).unwrap();
    fs::write(path("lists.d/a.netset"), "192.0.2.0/24\n").unwrap();
    let policy = "hostname = \"mx.example.org\"\n[[list]]\nname = \"feed\"\nfile = \"lists.d/*.netset\"\n";
    fs::write(path("mxgate.toml"), policy).unwrap();
    assert!(gate.refresh().unwrap().is_none(), "nothing is loaded yet");
    gate.load_file(&path("mxgate.toml")).unwrap();
    let listed = |address: &str| !gate.check_connect(&client(address)).is_accept();
    let changed = || gate.refresh().map(|loaded| loaded.is_some()).map_err(|error| error.to_string());
    assert_eq!((changed(), changed(), listed("192.0.2.1")), (Ok(false), Ok(false), true));
    // The same file with other words, another file, a file less, the policy itself.
    write(&path("lists.d/a.netset"), "192.0.2.0/25\n");
    assert_eq!((changed(), changed(), listed("192.0.2.1"), listed("192.0.2.200")), (Ok(true), Ok(false), true, false));
    write(&path("lists.d/b.netset"), "198.51.100.0/24\n");
    assert_eq!((changed(), changed(), listed("198.51.100.1")), (Ok(true), Ok(false), true));
    fs::remove_file(path("lists.d/a.netset")).unwrap();
    assert_eq!((changed(), changed(), listed("192.0.2.1")), (Ok(true), Ok(false), false));
    write(&path("mxgate.toml"), &format!("{policy}reply = \"drop\"\n"));
    assert_eq!((changed(), reply(&gate.check_connect(&client("198.51.100.1"))).starts_with("521 5.7.1")), (Ok(true), true));
    // A mistake is reported once; the rules stay; its correction is noticed.
    write(&path("mxgate.toml"), &format!("{policy}nonsense = 1\n"));
    assert!(changed().unwrap_err().contains("mxgate.toml:5:1: \"nonsense\" is not a key"));
    assert_eq!((changed(), listed("198.51.100.1")), (Ok(false), true));
    assert_eq!((gate.counts().failed_loads, gate.counts().generation), (1, 5));
    fs::remove_file(path("mxgate.toml")).unwrap();
    assert!(changed().unwrap_err().contains("cannot read the policy"));
    write(&path("mxgate.toml"), policy);
    assert_eq!((changed(), changed()), (Ok(true), Ok(false)));
}

#[test]
fn what_is_too_much_is_put_off() {
    let gate = gate(
        "hostname = \"mx.example.org\"\n[limits]\nconnections = \"4/h\"\nconcurrent = 2\nsender_domain = \"2/h\"\nreply = \"throttle\"\n\
         [never_block]\nnetworks = [\"203.0.113.0/24\"]\n\
         [[list]]\nname = \"partners\"\nallow = true\nentries = [\"198.51.100.128/25\"]\n\
         [[list]]\nname = \"local\"\nentries = [\"192.0.2.0/24\"]\n",
    );
    const MUCH: &str = "421 4.7.0 Too much traffic from [198.51.100.1]; try again in ";
    let connect = |address: &str| gate.check_connect(&client(address));
    assert_eq!([reply(&connect("198.51.100.1")), reply(&connect("198.51.100.1"))], ["accept", "accept"]);
    let verdict = connect("::ffff:198.51.100.1");
    assert!(reply(&verdict).starts_with(MUCH), "{verdict:?}");
    assert_eq!((verdict.decider, verdict.reason.as_str()), (Decider::Limit, "concurrent"));
    assert!(verdict.rejection.unwrap().hang_up);
    // An explanation charges nothing, nor does a refused connection.
    gate.explain(&client("198.51.100.1"), Stage::Connect);
    gate.end_session(&client("198.51.100.1"));
    assert_eq!((reply(&connect("198.51.100.1")).as_str(), connect("198.51.100.1").reason.as_str()), ("accept", "concurrent"));
    gate.end_session(&client("198.51.100.1"));
    assert_eq!((reply(&connect("198.51.100.1")).as_str(), connect("198.51.100.1").reason.as_str()), ("accept", "connections"));
    // Who is let in whatever he does, who is exempt, and who is refused for good are not counted.
    for address in ["203.0.113.1", "198.51.100.200", "192.0.2.1"] {
        let deciders = [0; 9].map(|_| connect(address).decider);
        assert!(deciders.iter().all(|decider| *decider == deciders[0] && *decider != Decider::Limit), "{address}");
    }
    let trusted = [0; 9].map(|_| reply(&gate.check_connect(&Facts { trusted: true, ..client("198.51.100.9") })));
    assert!(trusted.iter().all(|reply| reply == "accept"));
    // Recipients by the domain of the sender, whoever brings them; the empty sender has none.
    let rcpt = |address: &str, sender: &'static [u8], authenticated| {
        gate.check_rcpt(&Facts { sender: Some(sender), recipient: Some(b"user@example.org"), authenticated, ..client(address) })
    };
    let asked = [("198.51.100.2", "a@example.com"), ("198.51.100.3", "<b@EXAMPLE.com>"), ("198.51.100.4", "c@example.com")];
    let reasons = asked.map(|(address, sender)| rcpt(address, sender.as_bytes(), false).reason.to_string());
    assert_eq!(reasons, ["", "", "sender_domain"]);
    assert_eq!(rcpt("198.51.100.4", b"c@example.com", true).decider, Decider::Nothing);
    assert_eq!(rcpt("198.51.100.4", b"<>", false).decider, Decider::Nothing);
    // A load keeps what was counted.
    let policy = "hostname = \"mx.example.org\"\n[limits]\nconnections = \"4/h\"\nconcurrent = 2\nsender_domain = \"2/h\"\nreply = \"450 4.7.1 Later\"\n";
    gate.load_text(policy, "p").unwrap();
    assert_eq!(reply(&connect("198.51.100.1")), "450 4.7.1 Later");
    gate.load_text("hostname = \"mx.example.org\"\n", "p").unwrap();
    assert_eq!(reply(&connect("198.51.100.1")), "accept");
}

#[test]
fn counts_and_status() {
    let gate = gate(POLICY);
    ban(&gate, "203.0.113.128/25", 60).unwrap();
    for address in ["192.0.2.1", "192.0.2.2", "198.51.100.65", "198.51.100.200", "203.0.113.129"] {
        gate.check_connect(&client(address));
    }
    gate.set_mode(Some(Mode::Overloaded));
    gate.check_rcpt(&client("198.51.100.200"));
    gate.explain(&client("192.0.2.1"), Stage::Connect);
    gate.load_text("nonsense", "p").unwrap_err();
    let counts = gate.counts();
    assert_eq!((counts.checks, counts.rejected, counts.deferred, counts.would_refuse), (6, 3, 1, 1));
    assert_eq!((counts.generation, counts.failed_loads, counts.networks, counts.domains, counts.bans), (1, 1, 3, 0, 1));
    let status = Status::of(&gate).to_string();
    let lines: Vec<&str> = status.split("\r\n").collect();
    let (last, before) = lines.split_last().unwrap();
    assert_eq!(lines[0], concat!("211-mx.example.org mxgate ", env!("CARGO_PKG_VERSION"), ", mode overloaded"));
    assert!(lines[1].starts_with("211-Rules of load 1, 20"), "{status}");
    assert_eq!(lines[2], "211-3 networks, 0 domains, 1 bans; 1 loads failed");
    assert_eq!(lines[3], "211-6 checks: 3 rejected, 1 deferred, 1 would have been refused");
    assert_eq!(lines[5], "211-block list local: 1 entries, 2 hits");
    assert_eq!(lines[6], "211-watched block list watched: 1 entries, 1 hits");
    assert_eq!(*last, "211 End of status");
    assert!(before.iter().all(|line| line.starts_with("211-") && line.len() <= 510 && line.is_ascii()));
    let json = Status::of(&gate).to_json();
    assert_eq!((json["mode"].as_str(), json["bans"].as_u64(), json["lists"][1]["hits"].as_u64()), (Some("overloaded"), Some(1), Some(2)));
    assert!(Status::of(&Gate::new()).to_string().contains("No rules are loaded"));
}
