//! Clients whom Postfix refuses at CONNECT: by a table of its own (`cidr:`, cidr_table(5)), and by asking the policy service.

use crate::behind_postfix::{CLIENTS, Client, rate};
use crate::measure::{median, quick};
use crate::sets;
use crate::support::postfix::{self, Postfix};
use crate::support::server::Server;
use crate::support::{available, root};
use crate::{MILLION, lines, open_to_all};
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

/// Rates with tables of Postfix's and with the policy service.
pub(crate) fn compare(directory: &Path) {
    if !root() || !available(&postfix::TOOLS) {
        return;
    }
    let mut random = sets::random(53);
    open_to_all(directory);
    let mut servers = Vec::new();
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
            let restriction = format!("check_client_access cidr:{}", table.display());
            servers.push((format!("cidr: table of {size}"), None, asking(&restriction)));
        }
        let file = directory.join(format!("{size}.txt"));
        fs::write(&file, list).unwrap();
        let policy = format!(
            "hostname = \"mx.example.org\"\n[never_block]\nloopback = false\n[[list]]\nname = \"local\"\nfile = \"{}\"\n",
            file.display()
        );
        let service = Server::policy_service(Path::new(env!("CARGO_BIN_EXE_mxgate")), &policy);
        let restriction = format!("check_policy_service {}", service.address());
        servers.push((format!("policy service, list of {size}"), Some(service), asking(&restriction)));
    }
    let (rounds, time) = if quick() { (3, Duration::from_secs(2)) } else { (7, Duration::from_secs(4)) };
    let mut rates = vec![Vec::new(); servers.len()];
    for _ in 0..rounds {
        for ((_, _, postfix), rates) in servers.iter().zip(&mut rates) {
            rates.push(rate(postfix.smtp(), refused, time).1);
        }
    }
    println!("\n### Refused by Postfix at CONNECT, {CLIENTS} clients\n");
    println!("| by | clients a second | to the first |\n|---|--:|--:|");
    let first = median(rates[0].clone());
    for ((name, ..), rates) in servers.iter().zip(rates) {
        let rate = median(rates);
        println!("| {name} | {rate:.0} | {:.2} |", rate / first);
    }
}

fn asking(restriction: &str) -> Postfix {
    Postfix::start(&[("smtpd_client_restrictions", restriction), ("smtpd_delay_reject", "no")])
}
