//! A compiled image answers as the policy does that it was made of: the corpus, a policy with rules of every kind, and what
//! is said about the rules. Then what becomes of images that are replaced, cannot be written, or are none.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what goes wrong here ends the test, with a message")]

use flate2::Compression;
use flate2::write::GzEncoder;
use mxgate::diff::diff;
use mxgate::lint::lint;
use mxgate::overview::overview;
use mxgate::wire::Profile;
use mxgate::{AuthResult, Facts, Gate, Stage};
use std::fs::{self, Permissions};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use support::corpus::{self, Answer};

mod support;

/// A gate with the rules of a policy or of an image that is checked.
fn loaded(path: &Path) -> Gate {
    let gate = Gate::new();
    gate.load_file(path).unwrap_or_else(|error| panic!("{error}"));
    gate
}

/// A gate with the rules of an image that is taken as it is.
fn opened(path: &Path) -> Gate {
    let gate = Gate::new();
    assert_eq!(gate.open_image(path).unwrap_or_else(|error| panic!("{error}")), []);
    gate
}

fn write(gate: &Gate, path: &Path) -> u64 {
    gate.write_image(path).unwrap_or_else(|fault| panic!("{}; {}", fault.cause, fault.remedy))
}

/// What a load that fails says.
fn error(loaded: Result<impl Sized, mxgate::LoadError>) -> String {
    loaded.err().unwrap().to_string()
}

/// The answers to one question at every stage, with all their fields.
fn answers(gate: &Gate, facts: &Facts<'_>) -> String {
    format!("{:#?}", [gate.check_connect(facts), gate.check_early(facts), gate.check_mail(facts), gate.check_rcpt(facts)])
}

/// Why they are so.
fn why(gate: &Gate, facts: &Facts<'_>) -> String {
    [Stage::Connect, Stage::Rcpt].map(|stage| gate.explain(facts, stage).to_string()).concat()
}

#[test]
fn the_corpus() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("policy.mxg");
    for group in corpus::groups() {
        let policy = loaded(&group.policy);
        write(&policy, &image);
        for gate in [loaded(&image), opened(&image)] {
            assert!(diff(&policy.ruleset(), &gate.ruleset()).is_same());
            for case in &group.cases {
                assert_eq!(Answer::of(&case.ask(&gate)), case.answer, "{}", case.place);
                assert_eq!(answers(&gate, &case.facts()), answers(&policy, &case.facts()), "{}", case.place);
                assert_eq!(why(&gate, &case.facts()), why(&policy, &case.facts()), "{}", case.place);
            }
        }
    }
}

/// Rules of every kind that a list can have.
const POLICY: &str = r#"
hostname = "mx.example.org"
never_block.networks = ["198.51.100.0/28"]
[[list]]
name = "partners"
allow = true
entries = ["203.0.113.0/25 our partners", "!203.0.113.7", "2001:db8:a::/48"]
[[list]]
name = "ends"
file = "ends.txt"
ttl = "2h"
[[list]]
name = "watched"
enforce = false
entries = ["192.0.2.0/24 seen", "2001:db8::/33", "198.51.100.0/24"]
[[list]]
name = "early"
at = "connect"
reply = { connect = "drop", rcpt = "550 5.7.1 Client {ip} is on {list} for {reason}" }
entries = ["192.0.2.64/26 100% {sure}"]
contact = "https://example.org/refused"
[[list]]
name = "strict"
exempt = []
delisting = "write to postmaster@example.org"
entries = ["192.0.2.0/28", "!192.0.2.5", "2001:db8:0:1::7", "::ffff:203.0.113.0/122"]
[[list]]
name = "cidr"
format = "postfix-cidr"
file = "cidr.txt"
[[list]]
name = "packed"
file = "packed.txt.gz"
[[list]]
name = "others"
file = ["zstd.txt.zst", "packed.txt.gz"]
[[domains]]
name = "parked"
entries = ["parked.example", "*.web.example", ".both.example", "[192.0.2.9]", "[IPv6:2001:db8::9]", "bücher.example"]
[[domains]]
name = "table"
format = "postfix-access"
file = "access.txt"
[[senders]]
name = "spammers"
entries = ["user@example.net", ".example.com", "!friend@example.com", "newsletter@"]
[[senders]]
name = "null"
kind = "null-mx"
entries = ["null.example"]
[[recipients]]
name = "staff"
kind = "internal-only"
entries = ["all@example.org"]
[[recipients]]
name = "sales"
opt_out = ["early", "cidr", "spammers"]
entries = ["sales@example.org"]
[relay]
local = [".example.org", "parked.example", ".web.example", ".both.example", "table.example", "[192.0.2.9]"]
relay = ["example.com"]
trusted = ["203.0.113.128/25", "!203.0.113.200"]
[authentication]
spf_fail = "reject"
dmarc_fail = "reject"
[limits]
concurrent = 65535
"#;

const CIDR: &str =
    "192.0.2.128/25 521 5.7.1 Go away\n192.0.2.130 OK\n192.0.2.96/27 DUNNO\n192.0.2.0/24 450 4.7.1 Later\n2001:db8::/32 REJECT\n";
const ACCESS: &str = "table.example 521 5.3.2 takes no mail\nwww.table.example OK\n.other.example REJECT\n";
const ENDS: &str = "198.51.100.64/26 tries passwords\n192.0.2.200\n";

/// Writes the policy and its lists. The entries of one of them end an hour after `now`.
fn write_policy(directory: &Path) -> (PathBuf, u64) {
    let put = |name: &str, bytes: &[u8]| fs::write(directory.join(name), bytes).unwrap();
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    let (mut plain, mut zstd) = (String::new(), String::new());
    for number in 0..3000 {
        plain += &format!("198.18.{}.{} number {number}\n", number / 250, number % 250);
        zstd += &format!("2001:db8:{number:x}::/48 as it is\n198.19.{}.{}/31\n", number / 125, number % 125 * 2);
    }
    packed.write_all(plain.as_bytes()).unwrap();
    put("packed.txt.gz", &packed.finish().unwrap());
    put("zstd.txt.zst", &ruzstd::encoding::compress_to_vec(zstd.as_bytes(), ruzstd::encoding::CompressionLevel::Fastest));
    put("cidr.txt", CIDR.as_bytes());
    put("access.txt", ACCESS.as_bytes());
    put("ends.txt", ENDS.as_bytes());
    put("policy.toml", POLICY.as_bytes());
    let now = SystemTime::now() - Duration::from_secs(3600);
    fs::File::options().append(true).open(directory.join("ends.txt")).unwrap().set_modified(now).unwrap();
    (directory.join("policy.toml"), now.duration_since(UNIX_EPOCH).unwrap().as_secs() + 3600)
}

/// Questions to it: all kinds of clients, senders and recipients together.
fn each_question(now: u64, mut ask: impl FnMut(&Facts<'_>)) {
    let clients = "127.0.0.1 198.51.100.1 203.0.113.1 203.0.113.7 203.0.113.100 203.0.113.129 203.0.113.200 198.51.100.70 192.0.2.200 \
        192.0.2.1 192.0.2.5 192.0.2.70 192.0.2.100 192.0.2.130 192.0.2.131 198.18.3.7 198.18.3.251 198.19.4.4 10.1.2.3 192.0.3.1 \
        ::1 ::ffff:192.0.2.70 2001:db8:a::1 2001:db8:0:1::7 2001:db8:0:1::8 2001:db8:9:9::9 2001:db8:ffff::1 2001:db9::1";
    let clients: Vec<Option<IpAddr>> = clients.split_whitespace().map(|text| Some(text.parse().unwrap())).chain([None]).collect();
    let senders = ["<>", "<user@example.net>", "<a@b.example.com>", "<friend@example.com>", "<newsletter@x.example>", "<a@null.example>"];
    let recipients = "all@example.org sales@example.org postmaster@example.org user@parked.example user@a.web.example user@both.example \
        user@[192.0.2.9] user@[IPv6:2001:db8::9] user@bücher.example user@table.example user@www.table.example user@a.other.example \
        user@example.com user@elsewhere.example user%elsewhere.example@example.org";
    let recipients: Vec<&[u8]> = recipients.split_whitespace().map(str::as_bytes).collect();
    for (number, address) in clients.into_iter().enumerate() {
        for (other, recipient) in recipients.iter().enumerate() {
            let sender = Some(senders[(number + other) % senders.len()].as_bytes());
            let (authenticated, trusted) = (other % 5 == 4, number % 7 == 6);
            let spf = if (number + other) % 4 == 3 { AuthResult::Fail } else { AuthResult::Pass };
            for now in [Some(now), Some(now + 7200)] {
                ask(&Facts { address, sender, recipient: Some(*recipient), authenticated, trusted, spf, now, ..Facts::default() });
            }
        }
    }
}

#[test]
fn rules_of_every_kind() {
    let directory = tempfile::tempdir().unwrap();
    let (policy, now) = write_policy(directory.path());
    let (image, again) = (directory.path().join("policy.mxg"), directory.path().join("again.mxg"));
    let policy = loaded(&policy);
    let length = write(&policy, &image);
    assert_eq!(fs::metadata(&image).unwrap().len(), length);
    // An image of an image is the same image.
    write(&opened(&image), &again);
    assert!(fs::read(&image).unwrap() == fs::read(&again).unwrap());

    let gates = [loaded(&image), opened(&image), opened(&again)];
    let (mut asked, mut refused) = (0, 0);
    each_question(now, |facts| {
        let expected = answers(&policy, facts);
        for gate in &gates {
            assert_eq!(answers(gate, facts), expected, "{facts:?}");
            if asked % 11 == 0 {
                assert_eq!(why(gate, facts), why(&policy, facts), "{facts:?}");
            }
        }
        asked += 1;
        refused += u32::from(!policy.check_rcpt(facts).is_accept());
    });
    assert!(asked > 800 && refused > 200 && refused < asked, "{refused} of {asked}");

    // Replies of single lines.
    let facts = |client: &str, recipient| Facts { recipient, ..Facts::of_client(client.parse().unwrap()) };
    for gate in [&policy].into_iter().chain(&gates) {
        let by_line = gate.check_connect(&facts("192.0.2.131", None)).rejection.unwrap();
        assert_eq!((by_line.reply().as_str(), by_line.hang_up), ("521 5.7.1 Go away", true));
        let by_name = gate.check_rcpt(&facts("192.0.3.1", Some(b"user@table.example"))).rejection.unwrap();
        assert_eq!(by_name.reply().as_str(), "521 5.3.2 takes no mail");
        let of_list = gate.check_rcpt(&facts("192.0.3.1", Some(b"user@parked.example"))).rejection.unwrap();
        assert_eq!((of_list.code, of_list.hang_up), (521, false));
    }

    // What is said about the rules: the lists, what changes, what clients will read.
    let at = UNIX_EPOCH + Duration::from_secs(now);
    for gate in &gates {
        let (old, new) = (policy.ruleset(), gate.ruleset());
        let rows = |gate: &Gate| overview(&gate.ruleset(), at).rows.into_iter().map(|row| mxgate::overview::Row { hits: 0, ..row });
        assert!(rows(gate).eq(rows(&policy)), "{:#?}", rows(gate).zip(rows(&policy)).find(|(one, other)| one != other));
        assert!(diff(&old, &new).is_same() && diff(&new, &old).is_same(), "{}", diff(&old, &new));
        let lint = |gate: &Gate| lint(&gate.ruleset(), &Profile::ALL).iter().map(ToString::to_string).collect::<String>();
        assert_eq!(lint(gate), lint(&policy));
        assert_eq!(gate.stages(), policy.stages());
        let counts = |gate: &Gate| (gate.counts().networks, gate.counts().domains);
        assert_eq!(counts(gate), counts(&policy));
    }
}

/// Bans, modes and hits are of the gate, whatever its rules came from.
#[test]
fn what_changes_beside_the_rules_stays() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("policy.mxg");
    let (policy, _) = write_policy(directory.path());
    let gate = loaded(&policy);
    let facts = Facts::of_client("192.0.2.1".parse().unwrap());
    assert!(!gate.check_connect(&facts).is_accept());
    gate.ban("192.0.2.240/28".parse().unwrap(), None, "tries passwords").unwrap();
    write(&gate, &image);
    gate.open_image(&image).unwrap();
    assert_eq!(gate.check_connect(&Facts::of_client("192.0.2.241".parse().unwrap())).list.as_str(), "bans");
    assert!(!gate.check_connect(&facts).is_accept());
    assert_eq!((gate.ruleset().list("strict").unwrap().hits(), gate.counts().generation, gate.counts().bans), (2, 2, 1));
    // The never-block set is still there, too.
    assert!(gate.ban("198.51.100.0/30".parse().unwrap(), None, "").is_err());
}

#[test]
fn lists_of_an_image_cannot_be_given() {
    let directory = tempfile::tempdir().unwrap();
    let (image, policy) = (directory.path().join("policy.mxg"), directory.path().join("mxgate.toml"));
    fs::write(&policy, "hostname = \"mx.example.org\"\n[[list]]\nname = \"local\"\nentries = [\"192.0.2.0/24\"]\n").unwrap();
    let gate = loaded(&policy);
    // What was given is in the image.
    gate.set_list("local", Some(b"198.51.100.0/24 given")).unwrap();
    write(&gate, &image);
    let accepts = |gate: &Gate, client: &str| gate.check_connect(&Facts::of_client(client.parse().unwrap())).is_accept();
    let said = format!("{}:1:1: the list local was given to this gate, and an image has its own; take it back first", policy.display());
    assert_eq!((error(gate.open_image(&image)), error(gate.load_file(&image))), (said.clone(), said));
    assert!(!accepts(&gate, "198.51.100.1"));
    gate.set_list("local", None).unwrap();
    gate.open_image(&image).unwrap();
    assert!(!accepts(&gate, "198.51.100.1") && accepts(&gate, "192.0.2.1"));
    let said = "local:1:1: the rules in force are an image, whose lists stay as they are; load the policy itself, or make the image \
                again with that list";
    assert_eq!(error(gate.set_list("local", Some(b"203.0.113.0/24"))), said);
    assert_eq!(error(gate.set_list("local", None)), said);
    assert!(error(gate.set_list("other", None)).contains("no list \"other\"; name one of local"));
    // Back to a policy.
    gate.load_file(&policy).unwrap();
    gate.set_list("local", Some(b"203.0.113.0/24")).unwrap();
    assert!(!accepts(&gate, "203.0.113.1"));
}

#[test]
fn an_image_is_replaced_as_a_whole() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("policy.mxg");
    let text = |network: &str| format!("hostname = \"mx.example.org\"\n[[list]]\nname = \"local\"\nentries = [\"{network} why\"]\n");
    let writer = Gate::new();
    writer.load_text(&text("192.0.2.0/24"), "policy").unwrap();
    write(&writer, &image);
    let (checked, taken) = (loaded(&image), opened(&image));
    let listed = |gate: &Gate| {
        ["192.0.2.1", "198.51.100.1"].map(|client| gate.check_connect(&Facts::of_client(client.parse().unwrap())).reason.to_string())
    };
    for gate in [&checked, &taken] {
        assert_eq!(listed(gate), ["why", ""]);
        assert_eq!(gate.refresh().unwrap(), None);
    }
    writer.load_text(&text("198.51.100.0/24"), "policy").unwrap();
    write(&writer, &image);
    for gate in [&checked, &taken] {
        assert_eq!(listed(gate), ["why", ""], "who has the old one open keeps it");
        assert_eq!(gate.refresh().unwrap(), Some(vec![]));
        assert_eq!(listed(gate), ["", "why"]);
        assert_eq!(gate.refresh().unwrap(), None);
    }
    // One that is wrong is reported once, and the old rules stay.
    let mut bytes = fs::read(&image).unwrap();
    bytes.pop();
    fs::remove_file(&image).unwrap();
    fs::write(&image, &bytes).unwrap();
    for gate in [&checked, &taken] {
        assert!(error(gate.refresh()).contains("the image is damaged: it has"));
        assert_eq!(gate.refresh().unwrap(), None);
        assert_eq!(listed(gate), ["", "why"]);
    }
    // One that is away, and comes back. Many write at once: each of them a whole image.
    fs::remove_file(&image).unwrap();
    assert!(error(taken.refresh()).contains("cannot read the image: No such file"));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    write(&writer, &image);
                    assert_eq!(listed(&loaded(&image)), ["", "why"]);
                }
            });
        }
    });
    assert_eq!(taken.refresh().unwrap(), Some(vec![]));
    assert_eq!(names(directory.path()), ["policy.mxg"]);
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_cannot_be_written_leaves_the_old_one_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let gate = Gate::new();
    let told = |path: &Path| gate.write_image(path).map_err(|fault| format!("{}; {}", fault.cause, fault.remedy)).unwrap_err();
    assert_eq!(told(&at("policy.mxg")), "no rules are in force; load a policy first");
    gate.load_text("hostname = \"mx.example.org\"\n", "policy").unwrap();

    let no_image = |path: &Path| {
        format!("{} is there already, and it is no image; name another file for the image, or remove this one first", path.display())
    };
    fs::create_dir(at("directory")).unwrap();
    fs::write(at("mxgate.toml"), "hostname = \"mx.example.org\"\n").unwrap();
    for path in [at("directory"), at("mxgate.toml"), directory.path().join("."), "/dev/null".into()] {
        assert_eq!(told(&path), no_image(&path));
    }
    assert_eq!(fs::read_to_string(at("mxgate.toml")).unwrap(), "hostname = \"mx.example.org\"\n");
    let remedy = "check the directory, its room, and who may write there";
    let path = at("missing/policy.mxg");
    assert_eq!(told(&path), format!("cannot write {}: No such file or directory (os error 2); {remedy}", path.display()));
    // An empty file, as mktemp makes it, is room for one.
    fs::write(at("policy.mxg"), "").unwrap();
    write(&gate, &at("policy.mxg"));
    assert_eq!(names(directory.path()), ["directory", "mxgate.toml", "policy.mxg"]);

    // The room ends in the middle: a file system without any, as there is on every Linux.
    let full = Path::new("/dev/full");
    assert_eq!(told(full), no_image(full));
    // Root may write everywhere but into what is no directory for files.
    let path = Path::new("/proc/self/policy.mxg");
    assert!(told(path).starts_with("cannot write /proc/self/policy.mxg: "), "{}", told(path));
    fs::set_permissions(directory.path(), Permissions::from_mode(0o500)).unwrap();
    let is_root = fs::write(at("test"), "").is_ok();
    if is_root {
        fs::remove_file(at("test")).unwrap();
    } else {
        let path = at("policy.mxg");
        assert_eq!(told(&path), format!("cannot write {}: Permission denied (os error 13); {remedy}", path.display()));
    }
    fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).unwrap();
    assert_eq!(names(directory.path()), ["directory", "mxgate.toml", "policy.mxg"]);
    loaded(&at("policy.mxg"));
}

#[test]
fn what_is_no_image_is_named_for_what_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let gate = Gate::new();
    gate.load_text("hostname = \"mx.example.org\"\n", "policy").unwrap();
    write(&gate, &at("policy.mxg"));
    let good = fs::read(at("policy.mxg")).unwrap();
    let put = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        fs::write(at(name), bytes).unwrap();
        at(name)
    };
    let again = "make it again from its policy: mxgate compile";
    let none = "the file is no image of a policy; name one that mxgate compile has written";
    let length = good.len();
    for (path, said) in [
        (put("empty", &|bytes| bytes.clear()), none.to_owned()),
        (put("policy.toml", &|bytes| *bytes = b"hostname = \"mx.example.org\"\n".to_vec()), none.to_owned()),
        (put("text", &|bytes| drop(bytes.splice(6..8, *b"\n"))), none.to_owned()),
        (put("short", &|bytes| bytes.truncate(63)), format!("the image is damaged: it ends in its header; {again}")),
        (
            put("shorter", &|bytes| bytes.truncate(length - 1)),
            format!("the image is damaged: it has {} bytes of {length}; {again}", length - 1),
        ),
        (put("longer", &|bytes| bytes.push(0)), format!("the image is damaged: it has {} bytes of {length}; {again}", length + 1)),
        (
            put("newer", &|bytes| bytes[8..12].copy_from_slice(&9_u32.to_ne_bytes())),
            "the image has format 9, and this release reads format 8; make it again with this release: mxgate compile".into(),
        ),
        (
            put("foreign", &|bytes| [8, 12].into_iter().for_each(|at| bytes[at..at + 4].reverse())),
            "the image was made on a processor of the other byte order; make it on this one: mxgate compile".into(),
        ),
        (put("header", &|bytes| bytes[60] = 1), format!("the image is damaged: the checksum of its header is wrong; {again}")),
        (put("index", &|bytes| bytes[length - 1] ^= 1), format!("the image is damaged: the checksum of its index is wrong; {again}")),
        (at("missing"), "cannot read the image: No such file or directory (os error 2); check the path and who may read the file".into()),
        (directory.path().into(), "cannot read the image: Is a directory (os error 21); check the path and who may read the file".into()),
    ] {
        assert_eq!(error(gate.open_image(&path)), format!("{}:1:1: {said}", path.display()));
        // What has the mark of an image is one, however it is loaded.
        if said != none && path.is_file() {
            assert_eq!(error(gate.load_file(&path)), format!("{}:1:1: {said}", path.display()));
        }
    }
    let body = put("body", &|bytes| bytes[64] ^= 1);
    assert_eq!(
        error(gate.load_file(&body)),
        format!("{}:1:1: the image is damaged: the checksum of its body is wrong; {again}", body.display())
    );
    let secret = put("secret", &|_| {});
    fs::set_permissions(&secret, Permissions::from_mode(0o000)).unwrap();
    if fs::read(&secret).is_err() {
        let said = "cannot read the image: Permission denied (os error 13); check the path and who may read the file";
        assert_eq!(error(gate.open_image(&secret)), format!("{}:1:1: {said}", secret.display()));
    }
    assert_eq!(gate.counts().generation, 1);
}

/// In the order of a millisecond, without the time that it takes to read the lists. Generous: other tests run meanwhile.
#[test]
fn opening_takes_no_time_in_proportion_to_the_lists() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("policy.mxg");
    let list: String = (0..200_000_u32).map(|number| format!("{}\n", std::net::Ipv4Addr::from_bits(0x0b00_0000 + number * 977))).collect();
    fs::write(directory.path().join("list.txt"), list).unwrap();
    fs::write(directory.path().join("mxgate.toml"), "hostname = \"mx\"\n[[list]]\nname = \"many\"\nfile = \"list.txt\"\n").unwrap();
    let begun = Instant::now();
    let policy = loaded(&directory.path().join("mxgate.toml"));
    let load = begun.elapsed();
    write(&policy, &image);
    let times = (0..9).map(|_| {
        let begun = Instant::now();
        opened(&image);
        begun.elapsed()
    });
    let open = times.min().unwrap();
    assert!(open * 20 < load, "{open:?} to open, {load:?} to load");
}
