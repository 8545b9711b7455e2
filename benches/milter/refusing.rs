//! Clients whom Postfix refuses at CONNECT: by a table of its own (`cidr:`, cidr_table(5)), by asking the policy service, and by
//! asking a service that says the same to all.

use crate::behind_postfix::{CLIENTS, Client, rate};
use crate::mail_server::Target;
use crate::measure::{median, quick};
use crate::opponents::{self, processor_time};
use crate::sets;
use crate::support::daemon::Daemon;
use crate::support::postfix::{self, Postfix};
use crate::support::{available, root};
use crate::{MILLION, lines, open_to_all, postfix_name};
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// Of the networks beside that of the client.
const SIZES: [usize; 3] = [1_000, 100_000, MILLION];

/// The clients' network, which no other in the lists is in.
const CLIENTS_ARE_IN: &str = "127.0.0.0/8";

/// By 554, the reply of a table, or 550.
fn refused(server: SocketAddr) {
    let mut client = Client::connect(server);
    client.expect("55");
    client.quit();
}

/// What decides, and a Postfix that asks it.
struct Row {
    name: String,
    /// `None` for a table.
    service: Option<Daemon>,
    postfix: Postfix,
    rates: Vec<f64>,
    used: Vec<f64>,
}

impl Row {
    fn new(name: String, service: Option<Daemon>, restriction: &str) -> Row {
        let postfix = Postfix::start(&[("smtpd_client_restrictions", restriction), ("smtpd_delay_reject", "no")]);
        Row { name, service, postfix, rates: Vec::new(), used: Vec::new() }
    }

    fn asking(name: String, service: Daemon, target: &Target) -> Row {
        Row::new(name, Some(service), &format!("check_policy_service {}", postfix_name(target)))
    }
}

/// Rates with tables of Postfix's and with the policy service.
pub(crate) fn compare(directory: &Path) {
    if !root() || !available(&postfix::TOOLS) {
        return;
    }
    let mut random = sets::random(53);
    open_to_all(directory);
    let mut rows = Vec::new();
    for size in SIZES {
        let list = format!("{CLIENTS_ARE_IN}\n{}", lines(&sets::v4("made up", size, &mut random)));
        if size < MILLION {
            let table = directory.join(format!("{size}.cidr"));
            // What decides stands last: as many lines are read for all clients who are let in.
            let text = list.lines().rev().fold(String::new(), |mut text, network| {
                writeln!(text, "{network} REJECT").unwrap();
                text
            });
            fs::write(&table, text).unwrap();
            rows.push(Row::new(format!("cidr: table of {size}"), None, &format!("check_client_access cidr:{}", table.display())));
        }
        let file = directory.join(format!("{size}.txt"));
        fs::write(&file, list).unwrap();
        let policy = directory.join(format!("{size}.toml"));
        let text = "hostname = \"mx.example.org\"\n[never_block]\nloopback = false\n[[list]]\nname = \"local\"\n";
        fs::write(&policy, format!("{text}file = \"{}\"\n", file.display())).unwrap();
        let target = opponents::free_path(directory);
        let arguments = ["serve", "--config", policy.to_str().unwrap(), "--policy-service", &opponents::address(&target)];
        let arguments = arguments.map(str::to_owned).to_vec();
        let service = opponents::start_one(Path::new(env!("CARGO_BIN_EXE_mxgate")), arguments, directory, &target);
        rows.push(Row::asking(format!("policy service, list of {size}"), service, &target));
    }
    let target = opponents::free_path(directory);
    let floor = opponents::start_one(&opponents::built("floor", directory), vec![opponents::address(&target)], directory, &target);
    rows.push(Row::asking("the floor: a loop in C".to_owned(), floor, &target));
    let (rounds, time) = if quick() { (3, Duration::from_secs(2)) } else { (7, Duration::from_secs(4)) };
    for _ in 0..rounds {
        for Row { service, postfix, rates, used, .. } in &mut rows {
            let service_time = || service.as_ref().map_or(0.0, processor_time);
            let before = service_time();
            let (count, rate) = rate(postfix.smtp(), refused, time);
            rates.push(rate);
            used.push((service_time() - before) * 1e6 / f64::from(count));
        }
    }
    println!("\n### Refused by Postfix at CONNECT, {CLIENTS} clients\n");
    println!("| by | clients a second | to the first | \u{b5}s of the service a client |\n|---|--:|--:|--:|");
    let first = median(rows[0].rates.clone());
    for Row { name, rates, used, .. } in rows {
        let rate = median(rates);
        println!("| {name} | {rate:.0} | {:.2} | {:.0} |", rate / first, median(used));
    }
}
