//! The manual pages. man/mxgate.toml.5 is what becomes of man/settings.toml, a table of all settings; the table is held against
//! the parser of policies. (man/mxgate.1 is made in src/bin/mxgate/manual.rs, of the command line.)

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what goes wrong here ends the test, with a message")]

use clap_mangen::roff::{Roff, bold, roman};
use mxgate::Gate;
use mxgate::reply::{Reply, Values};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use toml::de::{DeTable, DeValue};

mod support;

const PAGE: &str = "man/mxgate.toml.5";
const TABLE: &str = include_str!("../man/settings.toml");

struct Section {
    /// As the policy writes it; empty for what stands before all others.
    name: String,
    about: String,
    keys: Vec<Key>,
    /// Keys that mean what they mean in another section.
    same: Vec<(String, Vec<String>)>,
}

struct Key {
    name: String,
    value: String,
    default: String,
    about: String,
}

fn text(table: &DeTable<'_>, key: &str) -> String {
    table.get(key).and_then(|value| value.get_ref().as_str()).unwrap_or_else(|| panic!("{key} is missing in {table:?}")).to_owned()
}

fn elements<'a, 'i>(table: &'a DeTable<'i>, key: &str) -> Vec<&'a DeValue<'i>> {
    table
        .get(key)
        .and_then(|value| value.get_ref().as_array())
        .map(|array| array.iter().map(|it| it.get_ref()).collect())
        .unwrap_or_default()
}

fn sections() -> Vec<Section> {
    let table = DeTable::parse(TABLE).unwrap();
    let section = |value: &DeValue<'_>| {
        let table = value.as_table().unwrap();
        let keys = elements(table, "key").into_iter().map(|key| {
            let key = key.as_table().unwrap();
            Key { name: text(key, "name"), value: text(key, "value"), default: text(key, "default"), about: text(key, "about") }
        });
        let same = elements(table, "same").into_iter().map(|same| {
            let same = same.as_table().unwrap();
            (text(same, "section"), elements(same, "keys").into_iter().map(|key| key.as_str().unwrap().to_owned()).collect())
        });
        Section { name: text(table, "name"), about: text(table, "about"), keys: keys.collect(), same: same.collect() }
    };
    elements(table.get_ref(), "section").into_iter().map(section).collect()
}

/// The replies that have a name: what the parser says of one that there is not is the list of those.
fn replies() -> Vec<(String, String)> {
    let remedy = Reply::parse("unknown").unwrap_err().remedy;
    let names = remedy.strip_prefix("write one of ").unwrap().split_once(", or ").unwrap().0;
    let left = Values {
        ip: "{ip}",
        list: "{list}",
        reason: "{reason}",
        domain: "{domain}",
        helo: "{helo}",
        sender: "{sender}",
        hostname: "{hostname}",
        id: "{id}",
        retry: "{retry}",
    };
    let reply = |name: &str| {
        let reply = Reply::named(name).unwrap();
        let end = if reply.hang_up { ", and the connection is closed" } else { "" };
        (name.to_owned(), format!("{} {} {}{end}", reply.code, reply.status, reply.fill(&left)))
    };
    names.split(", ").map(reply).collect()
}

fn page(sections: &[Section]) -> String {
    let mut page = Roff::new();
    let source = format!("mxgate {}", env!("CARGO_PKG_VERSION"));
    page.control("TH", ["mxgate.toml", "5", "", &source, "mxgate manual"]);
    page.control("SH", ["NAME"]).text([roman("mxgate.toml - the policy of mxgate")]);
    page.control("SH", ["DESCRIPTION"]);
    for paragraph in [
        "A policy is a TOML file (https://toml.io). mxgate lint --config FILE shows all that is wrong with it, with line and column, and \
         what clients will read; systemctl reload mxgate, mxgate reload or SIGHUP bring it into force. A policy with a mistake \
         changes nothing.",
        "Time spans are a number and s, m, h, d or w. Names of domains are in any case, in Unicode or in ASCII.",
    ] {
        page.control("PP", []).text([roman(paragraph)]);
    }
    page.control("SH", ["SETTINGS"]);
    for section in sections {
        if !section.name.is_empty() {
            page.control("SS", [&*section.name]);
        }
        page.text([roman(&section.about)]);
        for Key { name, value, default, about } in &section.keys {
            page.control("TP", []).text([bold(name), roman(format!(" = {value}"))]);
            let without = default.strip_prefix("required").map_or(format!("Default: {default}."), |unless| format!("Required{unless}."));
            page.text([roman(format!("{about} {without}"))]);
        }
        for (other, keys) in &section.same {
            page.control("TP", []).text([bold(keys.join(", "))]).text([roman(format!("As in {other}."))]);
        }
    }
    page.control("SH", ["REPLIES"]);
    page.text([roman(
        "A reply is one of these names, or whole: a code, an enhanced status code of the same class and a text, such as \"550 5.7.1 Not \
         here, {ip}\". What is filled in: {ip}, {list}, {reason} of the entry, {domain} of the recipient, {helo}, {sender}, {hostname}, {id} by which mxgate explain --id finds a refusal of the daemon, {retry} in replies of 4xx. \
         After 421 and 521 the connection is closed, where nothing else is said.",
    )]);
    page.control("PP", []).text([roman(
        "{retry} is when to come back, such as \"in 95 seconds\": for limits after what the limit needs, for maintenance at its end; for \
         overload, and for draining that was set while the daemon runs, after a minute. Where nobody knows, as with lists, it is \
         \"later\". To the time is added, for each client and each minute another, up to half of it, or up to 10 seconds if that is \
         more, but never over 15 minutes, so that those who were turned away together do not come back together. It is a word to people \
         and programs that heed it: SMTP has no field for it, and senders come back by their own schedule (RFC 5321 sections 4.2.1 \
         and 4.5.4.1).",
    )]);
    for (name, reply) in replies() {
        page.control("TP", []).text([bold(name)]).text([roman(reply)]);
    }
    page.control("SH", ["SEE ALSO"]).text([bold("mxgate"), roman("(1)")]);
    page.to_roff()
}

#[test]
fn the_committed_page_is_the_one_that_is_made() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let made = page(&sections());
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &made).unwrap();
    }
    assert!(fs::read_to_string(path).unwrap_or_default() == made, "{PAGE} is not up to date: run make manual");
}

/// A policy with this line in that section, and what else the section cannot do without.
fn policy(section: &str, line: &str) -> String {
    let has = |key: &str| line.starts_with(&format!("{key} ="));
    let mut lines = Vec::new();
    lines.extend((!has("hostname")).then_some("hostname = \"mx.example.org\""));
    // What this is about.
    lines.extend((section == "[maintenance]" && has("until")).then_some("mode = \"maintenance\""));
    lines.push(section);
    if section.starts_with("[[") {
        lines.extend((!has("name")).then_some("name = \"x\""));
        lines.extend((!has("entries") && !has("file")).then_some("entries = []"));
    }
    match section {
        "[[recipients]]" if !has("kind") => lines.push("kind = \"internal-only\""),
        "[limits]" if !has("concurrent") => lines.push("concurrent = 9"),
        "[escalation]" if has("ban") => lines.push("refusals = \"9/h\""),
        "[escalation]" if has("refusals") => lines.push("ban = \"1h\""),
        "[escalation]" => lines.push("refusals = \"9/h\"\nban = \"1h\""),
        "[overload]" if !has("connections") => lines.push("connections = 9"),
        _ => {}
    }
    lines.push(line);
    lines.join("\n") + "\n"
}

/// What is wrong with a policy, but for files that are not there and warnings.
fn mistakes(policy: &str) -> Vec<String> {
    let Err(error) = Gate::new().load_text(policy, "p") else { return Vec::new() };
    let errors = error.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).map(ToString::to_string);
    errors.filter(|error| !error.contains("no file matches")).collect()
}

/// The keys that the parser has in a section: what it says of an unknown key.
fn known(section: &str) -> BTreeSet<String> {
    let error = Gate::new().load_text(&policy(section, "unknown = 1"), "p").unwrap_err();
    let unknown = error.diagnostics.iter().find(|diagnostic| diagnostic.fault.cause.starts_with("\"unknown\"")).unwrap();
    unknown.fault.remedy.strip_prefix("use ").unwrap().split(", ").map(str::to_owned).collect()
}

#[test]
fn the_page_and_the_parser_know_the_same_settings() {
    let sections = sections();
    let (tables, top): (BTreeSet<_>, BTreeSet<_>) = known("").into_iter().partition(|key| key.starts_with('['));
    let mut all = BTreeSet::new();
    for section in &sections {
        let mut keys: BTreeSet<String> = section.keys.iter().map(|key| key.name.clone()).collect();
        for (other, same) in &section.same {
            let other = sections.iter().find(|section| section.name == *other).unwrap();
            for key in same {
                assert!(other.keys.iter().any(|it| it.name == *key), "{key} of {} is not in {}", section.name, other.name);
                assert!(keys.insert(key.clone()), "{key} of {} is there twice", section.name);
            }
        }
        let of_parser = if section.name.is_empty() { top.clone() } else { known(&section.name) };
        assert_eq!(keys, of_parser, "keys of {}: left in man/settings.toml, right in src/policy", section.name);
        all.extend(keys);
    }
    let named: BTreeSet<String> = sections.iter().map(|section| section.name.clone()).filter(|name| !name.is_empty()).collect();
    assert_eq!(named, tables, "sections: left in man/settings.toml, right in src/policy");

    // What the parser says that it knows could itself lag behind what it reads. Some are keys of a table in braces.
    let stages = ["connect", "rcpt", "clients"].map(str::to_owned);
    for file in ["mod.rs", "lists.rs", "rules.rs", "limits.rs", "maintenance.rs", "escalation.rs", "overload.rs"] {
        let source = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/policy").join(file)).unwrap();
        for key in source.split("take(\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            let table = tables.iter().any(|table| table.trim_matches(['[', ']']) == key);
            assert!(table || all.contains(key) || stages.contains(&key.to_owned()), "src/policy/{file} reads {key}");
        }
    }
}

#[test]
fn examples_load_and_so_do_defaults() {
    for section in sections() {
        for Key { name, value, default, .. } in &section.keys {
            assert_eq!(mistakes(&policy(&section.name, &format!("{name} = {value}"))), [""; 0], "{} of {}", name, section.name);
            if default.starts_with(['"', '[']) || default.parse::<f64>().is_ok() || matches!(&**default, "true" | "false") {
                assert_eq!(mistakes(&policy(&section.name, &format!("{name} = {default}"))), [""; 0], "{name} of {}", section.name);
            }
            // The keys of the reference are those of the page.
            let reference = include_str!("../examples/mxgate.toml");
            let there = reference.lines().any(|line| line.trim_start_matches("# ").starts_with(&format!("{name} = ")));
            assert!(there, "examples/mxgate.toml lacks {name}");
        }
    }
}

#[test]
fn the_pages_are_shown_without_a_complaint() {
    if !support::available(&["groff"]) {
        return;
    }
    for page in ["man/mxgate.1", PAGE] {
        let shown = Command::new("groff").args(["-man", "-Tutf8", "-ww", page]).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
        assert!(shown.status.success() && shown.stderr.is_empty(), "{page}: {}", String::from_utf8_lossy(&shown.stderr));
        assert!(shown.stdout.len() > 5000, "{page}");
    }
}
