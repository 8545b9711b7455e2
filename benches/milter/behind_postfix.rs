//! Real Postfix, one for each milter and one without: SMTP sessions of an envelope alone, and whole messages of 1 kB.

use crate::measure::{median, quick};
use crate::opponents::{Opponent, processor_time};
use crate::support::postfix::{self, Postfix};
use crate::support::{available, root};
use crate::{open_to_all, postfix_name};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Clients side by side.
pub(crate) const CLIENTS: usize = 16;

/// An SMTP client.
pub(crate) struct Client {
    heard: BufReader<TcpStream>,
    line: String,
}

impl Client {
    pub(crate) fn connect(server: SocketAddr) -> Client {
        let stream = TcpStream::connect(server).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Client { heard: BufReader::new(stream), line: String::new() }
    }

    pub(crate) fn say(&mut self, text: &str) {
        self.heard.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// Reads a reply, which has to have that code.
    pub(crate) fn expect(&mut self, code: &str) {
        loop {
            self.line.clear();
            self.heard.read_line(&mut self.line).unwrap();
            assert!(self.line.starts_with(code), "{} instead of {code}", self.line);
            if self.line.as_bytes()[3] == b' ' {
                break;
            }
        }
    }

    fn envelope(server: SocketAddr) -> Client {
        let mut client = Client::connect(server);
        client.expect("220");
        for command in ["EHLO client.example.org\r\n", "MAIL FROM:<user@example.org>\r\n", "RCPT TO:<other@example.org>\r\n"] {
            client.say(command);
            client.expect("250");
        }
        client
    }

    pub(crate) fn quit(mut self) {
        self.say("QUIT\r\n");
        self.expect("221");
    }
}

/// An envelope, and then the client thinks better of it.
fn envelope(server: SocketAddr) {
    Client::envelope(server).quit();
}

fn message(server: SocketAddr) {
    let mut client = Client::envelope(server);
    client.say("DATA\r\n");
    client.expect("354");
    let body = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n".repeat(16);
    client.say(&format!("Subject: test\r\n\r\n{body}.\r\n"));
    client.expect("250");
    client.quit();
}

/// Sessions one after the other by each client: how many, and how many a second.
pub(crate) fn rate(server: SocketAddr, session: fn(SocketAddr), time: Duration) -> (u32, f64) {
    let start = Instant::now();
    let client = || {
        let mut count = 0;
        while start.elapsed() < time {
            session(server);
            count += 1;
        }
        count
    };
    let count = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum::<u32>()
    });
    (count, f64::from(count) / start.elapsed().as_secs_f64())
}

/// Rates with each milter beside that without one.
pub(crate) fn compare(all: &[Opponent], directory: &Path) {
    if !root() || !available(&postfix::TOOLS) {
        return;
    }
    open_to_all(directory);
    // Messages stay in the queue: else those of one turn would be delivered during the next, which is another server's.
    let hold = ("smtpd_end_of_data_restrictions", "check_sender_access static:HOLD");
    let mut servers = vec![("no milter".to_owned(), None, Postfix::start(&[hold]))];
    for opponent in all {
        for (kind, (milter, target)) in [("unix", &opponent.unix), ("tcp", &opponent.tcp)] {
            let settings = [("smtpd_milters", &*postfix_name(target)), ("milter_default_action", "tempfail"), hold];
            servers.push((format!("{}, {kind}", opponent.name), Some(milter), Postfix::start(&settings)));
        }
    }
    let (rounds, time) = if quick() { (3, Duration::from_secs(2)) } else { (7, Duration::from_secs(4)) };
    for (session, name) in [(envelope as fn(SocketAddr), "EHLO, MAIL, RCPT, QUIT"), (message, "whole messages of 1 kB")] {
        println!("\n### Behind Postfix, {CLIENTS} clients: {name}\n");
        println!("| milter | sessions a second | of those without | \u{b5}s of the milter a session |\n|---|--:|--:|--:|");
        let mut rates = vec![(Vec::new(), Vec::new()); servers.len()];
        for round in 0..rounds {
            // Each begins once, and comes behind another one.
            let turn = servers.iter().zip(0..).cycle().skip(round).take(servers.len());
            for ((_, milter, postfix), at) in turn {
                let (rates, used) = &mut rates[at];
                let before = milter.map_or(0.0, processor_time);
                let (count, rate) = rate(postfix.smtp(), session, time);
                rates.push(rate);
                used.push((milter.map_or(0.0, processor_time) - before) * 1e6 / f64::from(count));
            }
        }
        let without = median(rates[0].0.clone());
        for ((name, ..), (rates, used)) in servers.iter().zip(rates) {
            let rate = median(rates);
            println!("| {name} | {rate:.0} | {:.2} | {:.0} |", rate / without, median(used));
        }
    }
}
