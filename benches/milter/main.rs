//! `make bench-milter`: the daemon beside filters that do nothing, under the same load of milter sessions, and behind a real
//! Postfix; and as its policy service, beside a table of its own. `MXGATE_BENCH=quick` for a short run; `-- sessions`, `-- postfix`
//! or `-- refusing` for a part.
//!
//! What counts is the processor time of the milter a session: the generator and the milter share the cores, so that the
//! rate says as much about the generator. All take turns; printed are medians.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    clippy::panic,
    reason = "a benchmark"
)]

use mail_server::Target;
use measure::{median, quick};
use opponents::{Opponent, processor_time};
use sets::Mix;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

mod behind_postfix;
mod mail_server;
#[path = "../support/measure.rs"]
mod measure;
mod opponents;
mod refusing;
#[path = "../support/sets.rs"]
mod sets;
#[path = "../../tests/support/mod.rs"]
mod support;

/// Sessions side by side.
const CONNECTIONS: [u16; 3] = [1, 16, 256];
const MILLION: usize = 1_000_000;

/// Medians of one milter on one kind of socket.
struct Row {
    microseconds: f64,
    rate: f64,
}

fn main() {
    let mut random = sets::random(52);
    measure::machine();
    let directory = tempfile::Builder::new().prefix("mxgate-bench-").tempdir().unwrap();
    let directory = directory.path();
    let set = sets::v4("made up", MILLION, &mut random);
    std::fs::write(directory.join("list.txt"), lines(&set)).unwrap();
    let policy = directory.join("mxgate.toml");
    std::fs::write(&policy, "hostname = \"mx.example.org\"\n[[list]]\nname = \"local\"\nfile = \"list.txt\"\n").unwrap();
    // Clients that are not listed, so that all let all of them go on.
    let table = mxgate::networks::NetworkTable::of(&set.ours());
    let clients: Vec<u32> = set.addresses(1 << 16, Mix::Any, &mut random).into_iter().filter(|client| table.v4(*client) == 0).collect();
    let all = opponents::start(directory, &policy);
    // `cargo bench --bench milter -- sessions`, or more of them; cargo adds an option of its own.
    let parts: Vec<String> = std::env::args().skip(1).filter(|part| !part.starts_with('-')).collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|wanted| wanted == part);
    if wanted("sessions") {
        raw(&all, &clients.into());
    }
    if wanted("postfix") {
        behind_postfix::compare(&all, directory);
    }
    if wanted("refusing") {
        refusing::compare(directory);
    }
}

/// A network a line.
pub(crate) fn lines(set: &sets::Set<u32>) -> String {
    set.networks.iter().fold(String::new(), |mut lines, (start, length)| {
        writeln!(lines, "{}/{length}", Ipv4Addr::from_bits(*start)).unwrap();
        lines
    })
}

/// Milter sessions without a mail server.
fn raw(all: &[Opponent], clients: &Rc<[u32]>) {
    let (rounds, time) = if quick() { (3, Duration::from_millis(500)) } else { (5, Duration::from_secs(2)) };
    println!("\n### Milter sessions\n");
    println!(
        "| socket, sessions side by side | milter | \u{b5}s of the processor a session | to mxgate | sessions a second |\n|---|---|--:|--:|--:|"
    );
    for kind in ["unix", "tcp"] {
        for connections in CONNECTIONS {
            let mut times = vec![(Vec::new(), Vec::new()); all.len()];
            for _ in 0..rounds {
                for (opponent, (used, rates)) in all.iter().zip(&mut times) {
                    let (daemon, target) = if kind == "unix" { &opponent.unix } else { &opponent.tcp };
                    let before = processor_time(daemon);
                    let load = mail_server::run(target, connections, time, clients);
                    assert_eq!(load.refused, 0, "{} refuses", opponent.name);
                    used.push((processor_time(daemon) - before) * 1e6 / f64::from(load.sessions));
                    rates.push(f64::from(load.sessions) / load.seconds);
                }
            }
            let rows: Vec<Row> = times.into_iter().map(|(used, rates)| Row { microseconds: median(used), rate: median(rates) }).collect();
            for (opponent, row) in all.iter().zip(&rows) {
                let ratio = row.microseconds / rows[0].microseconds;
                println!("| {kind}, {connections} | {} | {:.1} | {ratio:.2} | {:.0} |", opponent.name, row.microseconds, row.rate);
            }
        }
    }
}

/// As Postfix writes it in smtpd_milters.
pub(crate) fn postfix_name(target: &Target) -> String {
    match target {
        Target::Unix(path) => format!("unix:{}", path.display()),
        Target::Tcp(port) => format!("inet:127.0.0.1:{port}"),
    }
}

/// A directory that Postfix may enter.
pub(crate) fn open_to_all(directory: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).unwrap();
}
