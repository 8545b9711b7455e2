//! Entries as the formats write them.

use super::holds::Holds;
use super::plan::{Item, Subject};
use crate::contents::{self, Collector, Entry, Wanted};
use crate::domain::Form;
use crate::list::literal::split_status;
use crate::list::{Format, Reading, Seconds, Statement, postfix_access, sendmail_access};
use ipnet::IpNet;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::fmt::{self, Display};
use std::io::{self, Write};
use std::net::IpAddr;

/// A time span that every reader takes for ever: a hundred years.
const FOR_EVER: Seconds = 100 * 365 * 86_400;

/// What the head and the foot of a list say.
#[derive(Clone, Copy, Debug)]
pub(super) struct About {
    /// What the entries are about.
    pub wanted: Wanted,
    /// Entries.
    pub entries: u64,
    /// IPv4 entries.
    pub v4: u64,
    /// Addresses, of which none is counted twice if entries do not nest.
    pub addresses: u128,
    /// What the list says about itself.
    pub statement: Statement,
    pub now: Seconds,
}

/// Writes a list.
pub(super) struct Writer<'w> {
    holds: &'static Holds,
    about: About,
    out: &'w mut dyn Write,
    /// Nothing was written after the head yet.
    first: bool,
}

impl<'w> Writer<'w> {
    /// Writes the head of a list.
    pub(super) fn begin(holds: &'static Holds, about: About, out: &'w mut dyn Write) -> io::Result<Writer<'w>> {
        let Statement { made, expires, .. } = about.statement;
        // A list does not get younger by being written anew. Of one that does not say its age this is the first day.
        let date = made.unwrap_or(about.now);
        match holds.format {
            Format::Drop => {
                writeln!(out, "; Last-Modified: {}", Date(date, HTTP))?;
                if let Some(expires) = expires {
                    writeln!(out, "; Expires: {}", Date(expires, HTTP))?;
                }
            }
            Format::Firehol => {
                let (family, counted) = (if about.v4 > 0 { "ipv4" } else { "ipv6" }, about.addresses);
                writeln!(out, "# {family} hash:net ipset")?;
                writeln!(out, "# This File Date  : {}", Date(date, "%a %b %e %H:%M:%S UTC %Y"))?;
                writeln!(out, "# Entries         : {} subnets, {counted} unique IPs", about.entries)?;
            }
            Format::Dshield => {
                writeln!(out, "#    updated: {}", Date(date, "%Y-%m-%dT%H:%M:%S"))?;
                writeln!(out, "Start\tEnd\tNetmask\tAttacks\tName\tCountry\temail")?;
            }
            Format::CrowdsecCsv => writeln!(out, "duration,scope,value,reason")?,
            Format::CrowdsecJson => write!(out, "[")?,
            Format::Rbldnsd(_) => {
                let date = |time: Option<Seconds>| time.map_or_else(|| "0".into(), |time| Date(time, "%Y:%m:%d:%H:%M:%S").to_string());
                match (made, expires) {
                    (None, None) => {}
                    (_, None) => writeln!(out, "$TIMESTAMP {}", date(made))?,
                    (_, Some(_)) => writeln!(out, "$TIMESTAMP {} {}", date(made), date(expires))?,
                }
                writeln!(out, ":127.0.0.2:")?;
            }
            Format::Plain
            | Format::DropJson
            | Format::P2p
            | Format::Scored
            | Format::Iplsearch
            | Format::PostfixCidr
            | Format::PostfixAccess
            | Format::SendmailAccess => {}
        }
        Ok(Writer { holds, about, out, first: true })
    }

    /// Writes an entry, without what the format does not hold.
    pub(super) fn item(&mut self, item: &Item<'_>) -> io::Result<()> {
        let (format, out) = (self.holds.format, &mut *self.out);
        let reason = if self.holds.reason(&item.reason) { item.reason.as_str() } else { "" };
        let hole = if item.hole { "!" } else { "" };
        let key = Key { subject: item.subject, bare: !matches!(format, Format::Drop | Format::DropJson) };
        let after = |sign: &'static str| if reason.is_empty() { "" } else { sign };
        match format {
            // The sign, so that no reason is taken for something else.
            Format::Plain | Format::Firehol => writeln!(out, "{hole}{key}{}{reason}", after(" # ")),
            Format::Drop => writeln!(out, "{key}{}{reason}", after(" ; ")),
            Format::DropJson if reason.is_empty() => writeln!(out, "{{\"cidr\":\"{key}\"}}"),
            Format::DropJson => writeln!(out, "{{\"cidr\":\"{key}\",\"sblid\":{}}}", Json(reason)),
            Format::Dshield => {
                let (first, last, length) = bounds(item.subject);
                writeln!(out, "{first}\t{last}\t{length}\t0\t{reason}\t\t")
            }
            Format::P2p => {
                let (first, last, _) = bounds(item.subject);
                writeln!(out, "{reason}:{first}-{last}")
            }
            Format::Scored => writeln!(out, "{key}\t{}", score(reason).unwrap_or("")),
            Format::CrowdsecCsv => {
                let (duration, scope) = (self.duration(item), scope(item.subject));
                writeln!(self.out, "{duration}s,{scope},{key},{}", Csv(reason))
            }
            Format::CrowdsecJson => {
                let (duration, scope, comma) = (self.duration(item), scope(item.subject), if self.first { "" } else { "," });
                self.first = false;
                write!(
                    self.out,
                    "{comma}\n{{\"duration\":\"{duration}s\",\"scope\":\"{scope}\",\"type\":\"ban\",\"value\":\"{key}\",\"scenario\":{}}}",
                    Json(reason)
                )
            }
            // Without quotation marks an IPv6 key would end at its first colon.
            Format::Iplsearch if key.is_v6() => writeln!(out, "\"{key}\":{}{reason}", after(" ")),
            Format::Iplsearch => writeln!(out, "{key}:{}{reason}", after(" ")),
            Format::Rbldnsd(_) if item.hole || reason.is_empty() => writeln!(out, "{hole}{key}"),
            Format::Rbldnsd(_) => {
                // A dollar sign stands for the entry, and an equals sign at the start does without the text around all texts.
                let escaped = reason.replace('$', "$$");
                let equals = if reason.starts_with('=') { "=" } else { "" };
                writeln!(out, "{key} :127.0.0.2:{equals}{escaped}")
            }
            Format::PostfixCidr => writeln!(out, "{key}\t{}", PostfixAction { item, reason }),
            Format::PostfixAccess => match access_key(format, item.subject, self.about.wanted) {
                Some(key) => writeln!(out, "{key}\t{}", PostfixAction { item, reason }),
                None => Err(io::ErrorKind::Unsupported.into()),
            },
            Format::SendmailAccess => match (access_key(format, item.subject, self.about.wanted), item.reply) {
                (None, _) => Err(io::ErrorKind::Unsupported.into()),
                (Some(key), _) if item.hole => writeln!(out, "{key}\tSKIP"),
                (Some(key), None) => writeln!(out, "{key}\tREJECT"),
                (Some(key), Some(reply)) => {
                    let (literal, status) = (reply.literal(), reply.status);
                    let text = literal.splitn(3, ' ').nth(2).unwrap_or("");
                    writeln!(out, "{key}\tERROR:{status}:\"{} {text}\"", reply.code)
                }
            },
        }
    }

    /// Whether the line of a mailbox is read as that mailbox: it may have signs that mean something else there.
    pub(super) fn reads_back(holds: &'static Holds, about: About, item: &Item<'_>, mailbox: &str) -> bool {
        let (mut line, mut diagnostics) = (Vec::new(), Vec::new());
        let mut writer = Writer { holds, about, out: &mut line, first: true };
        let written = writer.item(item).is_ok();
        let mut collector = Collector::new(about.wanted, about.now, 1, &mut diagnostics);
        collector.begin_file("".into());
        let reading = Reading { about: about.wanted.about(), now: about.now, threshold: None };
        let read = holds.format.read(&mut line.as_slice(), &reading, &mut collector).is_ok();
        let contents = collector.finish(Statement::default(), None);
        let same =
            |entry: Entry| entry.is_hole() == item.hole && contents.about(entry) == Some(contents::About::Mailbox(mailbox.as_bytes()));
        written && read && diagnostics.is_empty() && contents.entries.iter().next().is_some_and(same)
    }

    /// How long an entry lasts, in seconds. One that is over is not handed over.
    fn duration(&self, item: &Item<'_>) -> Seconds {
        item.expires.map_or(FOR_EVER, |at| at.saturating_sub(self.about.now))
    }

    /// Writes the foot of a list.
    pub(super) fn end(self) -> io::Result<()> {
        match self.holds.format {
            Format::Drop => writeln!(self.out, "; EOF"),
            Format::DropJson => {
                let made = self.about.statement.made.unwrap_or(self.about.now);
                writeln!(self.out, "{{\"type\":\"metadata\",\"timestamp\":{made},\"records\":{}}}", self.about.entries)
            }
            Format::CrowdsecJson => writeln!(self.out, "\n]"),
            Format::Plain
            | Format::Firehol
            | Format::Dshield
            | Format::P2p
            | Format::Scored
            | Format::CrowdsecCsv
            | Format::Iplsearch
            | Format::Rbldnsd(_)
            | Format::PostfixCidr
            | Format::PostfixAccess
            | Format::SendmailAccess => Ok(()),
        }
    }
}

/// The number in a reason such as `score 7`.
pub(super) fn score(reason: &str) -> Option<&str> {
    reason.strip_prefix("score ").filter(|number| number.parse::<u64>().is_ok_and(|score| score.to_string() == *number))
}

/// The key of an access table, if there is one that the server finds: our reader knows.
pub(super) fn access_key(format: Format, subject: Subject<'_>, wanted: Wanted) -> Option<String> {
    let postfix = format == Format::PostfixAccess;
    let tag = match wanted {
        _ if postfix => "",
        Wanted::Addresses => "Connect:",
        Wanted::Senders => "From:",
        Wanted::Domains | Wanted::Recipients => "To:",
    };
    let key = match subject {
        Subject::Network(IpNet::V4(net)) => {
            let octets = net.network().octets();
            let count = usize::from(net.prefix_len().div_ceil(8));
            octets.iter().take(count).map(u8::to_string).collect::<Vec<_>>().join(".")
        }
        // Postfix asks with the short form of an address, Sendmail with the long one.
        Subject::Network(IpNet::V6(net)) if postfix && net.prefix_len() == 128 => net.addr().to_string(),
        Subject::Network(IpNet::V6(net)) => {
            let count = usize::from(net.prefix_len().div_ceil(16));
            let groups = net.network().segments().iter().take(count).map(|group| format!("{group:x}")).collect::<Vec<_>>().join(":");
            if postfix { groups } else { format!("IPv6:{groups}") }
        }
        Subject::Name(form, name) => {
            return match form {
                Form::Exact => None,
                Form::Both => Some(format!("{tag}{name}")),
                Form::Below => Some(format!("{tag}.{name}")),
            };
        }
        Subject::Mailbox(mailbox) => return Some(format!("{tag}{mailbox}")),
        Subject::Range(..) => return None,
    };
    let read = if postfix { postfix_access::key(key.as_bytes()) } else { sendmail_access::subject(&key) };
    let same = matches!((read, subject), (Ok(crate::list::Subject::Network(read)), Subject::Network(meant)) if read == meant);
    same.then(|| format!("{tag}{key}"))
}

/// First and last address, and the length of the prefix.
fn bounds(subject: Subject<'_>) -> (IpAddr, IpAddr, u8) {
    match subject {
        Subject::Network(network) => (network.network(), network.broadcast(), network.prefix_len()),
        Subject::Range(first, last) => (first, last, 0),
        Subject::Name(..) | Subject::Mailbox(_) => (IpAddr::from([0; 4]), IpAddr::from([0; 4]), 0),
    }
}

fn scope(subject: Subject<'_>) -> &'static str {
    match subject {
        Subject::Network(network) if network.prefix_len() == network.max_prefix_len() => "ip",
        Subject::Network(_) | Subject::Range(..) | Subject::Name(..) | Subject::Mailbox(_) => "range",
    }
}

/// What an entry is about, as most formats write it.
struct Key<'a> {
    subject: Subject<'a>,
    /// A host has no length of a prefix.
    bare: bool,
}

impl Key<'_> {
    fn is_v6(&self) -> bool {
        matches!(self.subject, Subject::Network(IpNet::V6(_)))
    }
}

impl Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.subject {
            Subject::Network(network) if self.bare && network.prefix_len() == network.max_prefix_len() => write!(f, "{}", network.addr()),
            Subject::Network(network) => write!(f, "{network}"),
            Subject::Range(first, last) => write!(f, "{first}-{last}"),
            Subject::Name(form, name) => write!(f, "{}{name}", form.prefix()),
            Subject::Mailbox(mailbox) => f.write_str(mailbox),
        }
    }
}

/// The right side of a rule of Postfix.
struct PostfixAction<'a> {
    item: &'a Item<'a>,
    reason: &'a str,
}

impl Display for PostfixAction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.item.reply {
            _ if self.item.hole => f.write_str("DUNNO"),
            Some(reply) => f.write_str(&reply.literal()),
            None if self.reason.is_empty() => f.write_str("REJECT"),
            // Else Postfix takes the first word of the reason for the code.
            None if split_status(self.reason).0.is_some() => write!(f, "REJECT 5.7.1 {}", self.reason),
            None => write!(f, "REJECT {}", self.reason),
        }
    }
}

/// A string of JSON. Reasons are printable ASCII.
struct Json<'a>(&'a str);

impl Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.replace('\\', "\\\\").replace('"', "\\\""))
    }
}

/// A field of CSV.
struct Csv<'a>(&'a str);

impl Display for Csv<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains([',', '"']) { write!(f, "\"{}\"", self.0.replace('"', "\"\"")) } else { f.write_str(self.0) }
    }
}

/// RFC 9110 section 5.6.7.
const HTTP: &str = "%a, %d %b %Y %H:%M:%S GMT";

/// A time in UTC, in this form.
struct Date(Seconds, &'static str);

impl Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = i64::try_from(self.0).ok().and_then(|seconds| Timestamp::from_second(seconds).ok()).unwrap_or(Timestamp::MAX);
        write!(f, "{}", TimeZone::UTC.to_datetime(time).strftime(self.1))
    }
}
