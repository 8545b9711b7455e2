//! The text of the file that has the bans: a record a line, each with its checksum (CRC-32, eight hexadecimal digits) before
//! it, so that administrators can read it and damage is found. Times are UTC, `-` is no end, the reason is the rest.
//!
//! ```text
//! 3d28211d format 1
//! 24057c41 ban 192.0.2.0/24 2026-11-21T09:30:00Z 2026-11-22T09:30:00Z sent spam
//! 7c7cad7a ban 2001:db8::/32 2026-11-21T09:31:00Z -
//! 113849c8 unban 192.0.2.0/24
//! ```
//!
//! The file begins with all bans as they were when it was written, and what changed since is appended. The last record of a
//! network counts. What stands behind the last line feed was being written when the daemon or the machine stopped.

use ipnet::IpNet;
use jiff::Timestamp;
use mxgate::Ban;
use std::collections::BTreeMap;
use std::fmt;
use std::str;

/// The format that is written here.
const FORMAT: u32 = 1;
/// How many damaged lines are named one by one.
const NAMED: usize = 10;
/// The latest time that can be written: the end of the year 9999.
const LATEST: u64 = 253_402_207_200;

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// How the file is to be read.
    Format(u32),
    /// A network is banned.
    Ban(Ban),
    /// It is not any more.
    Unban(IpNet),
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Record::Format(number) => write!(f, "format {number}"),
            Record::Ban(Ban { network, reason, since, until }) => {
                write!(f, "ban {network} {} ", time(*since))?;
                if *until == 0 {
                    f.write_str("-")?
                } else {
                    write!(f, "{}", time(*until))?
                }
                if reason.is_empty() { Ok(()) } else { write!(f, " {reason}") }
            }
            Record::Unban(network) => write!(f, "unban {network}"),
        }
    }
}

fn time(at: u64) -> Timestamp {
    i64::try_from(at.min(LATEST)).ok().and_then(|at| Timestamp::from_second(at).ok()).unwrap_or(Timestamp::MAX)
}

fn parse_time(text: &str) -> Option<u64> {
    u64::try_from(text.parse::<Timestamp>().ok()?.as_second()).ok()
}

impl Record {
    fn parse(text: &str) -> Option<Record> {
        let (kind, rest) = text.split_once(' ')?;
        match kind {
            "format" => rest.parse().ok().map(Record::Format),
            "unban" => rest.parse().ok().map(Record::Unban),
            "ban" => {
                let mut words = rest.splitn(4, ' ');
                let (network, since, until) = (words.next()?.parse().ok()?, parse_time(words.next()?)?, words.next()?);
                let until = if until == "-" { 0 } else { parse_time(until)? };
                Some(Record::Ban(Ban { network, reason: words.next().unwrap_or_default().into(), since, until }))
            }
            _ => None,
        }
    }
}

/// Records as lines.
pub(crate) fn lines<'a>(records: impl IntoIterator<Item = &'a Record>) -> Vec<u8> {
    let mut lines = Vec::new();
    for record in records {
        let text = record.to_string();
        lines.extend_from_slice(format!("{:08x} {text}\n", crc32fast::hash(text.as_bytes())).as_bytes());
    }
    lines
}

/// A whole file: the format and all bans.
pub(crate) fn whole(bans: Vec<Ban>) -> Vec<u8> {
    let mut text = lines([&Record::Format(FORMAT)]);
    for ban in bans {
        text.append(&mut lines([&Record::Ban(ban)]));
    }
    text
}

/// Reads a line without its line feed; `None` if it is damaged.
fn parse_line(line: &[u8]) -> Option<Record> {
    let (sum, text) = line.split_at_checked(8)?;
    let text = text.strip_prefix(b" ")?;
    if format!("{:08x}", crc32fast::hash(text)).as_bytes() != sum {
        return None;
    }
    Record::parse(str::from_utf8(text).ok()?)
}

/// What a file came to.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// The bans, those that have ended among them.
    pub(crate) bans: BTreeMap<IpNet, Ban>,
    /// How many records it has.
    pub(crate) records: usize,
    /// Lines that are damaged, from 1: how many, and the first of them.
    pub(crate) damaged: usize,
    pub(crate) damaged_lines: Vec<usize>,
    /// Whether its end was being written when the daemon or the machine stopped.
    pub(crate) torn: bool,
}

impl Contents {
    /// Reads a file. The error is the number of a format that is not known here.
    pub(crate) fn read(bytes: &[u8]) -> Result<Contents, u32> {
        let mut contents = Contents::default();
        for (before, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let number = before + 1;
            if let Some(line) = line.strip_suffix(b"\n") {
                match parse_line(line) {
                    Some(record) => contents.take(record)?,
                    None => {
                        contents.damage(number);
                        // Where it is the line feed that is damaged there are two records.
                        for (first, second) in ends(line).filter_map(|at| Some((line.get(..at)?, line.get(at + 1..)?))) {
                            if let (Some(first), Some(second)) = (parse_line(first), parse_line(second)) {
                                contents.take(first)?;
                                contents.take(second)?;
                                break;
                            }
                        }
                    }
                }
            } else if let Some(record) = line.split_last().and_then(|(_, line)| parse_line(line)) {
                contents.damage(number);
                contents.take(record)?;
            } else {
                contents.torn = true;
            }
        }
        Ok(contents)
    }

    fn take(&mut self, record: Record) -> Result<(), u32> {
        self.records += 1;
        match record {
            Record::Format(FORMAT) => {}
            Record::Format(number) => return Err(number),
            Record::Ban(ban) => {
                self.bans.insert(ban.network, ban);
            }
            Record::Unban(network) => {
                self.bans.remove(&network);
            }
        }
        Ok(())
    }

    fn damage(&mut self, line: usize) {
        self.damaged += 1;
        if self.damaged_lines.len() < NAMED {
            self.damaged_lines.push(line);
        }
    }
}

/// Where in a line a record could end with another one behind it: no line of ours is longer than two of the longest.
fn ends(line: &[u8]) -> impl Iterator<Item = usize> {
    let length = if line.len() > 2048 { 0 } else { line.len() };
    0..length
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ban(network: &str, until: u64, reason: &str) -> Ban {
        Ban { network: network.parse().unwrap(), reason: reason.into(), since: 1_800_000_000, until }
    }

    fn sample() -> Vec<Record> {
        vec![
            Record::Format(1),
            Record::Ban(ban("192.0.2.0/24", 1_800_086_400, "sent spam; 2 times")),
            Record::Ban(ban("2001:db8::/32", 0, "")),
            Record::Unban("198.51.100.7/32".parse().unwrap()),
            Record::Ban(ban("203.0.113.7/32", 0, " x ")),
        ]
    }

    #[test]
    fn what_is_written_is_read() {
        let text = lines(&sample());
        assert_eq!(
            str::from_utf8(&text).unwrap().lines().map(|line| &line[9..]).collect::<Vec<_>>(),
            [
                "format 1",
                "ban 192.0.2.0/24 2027-01-15T08:00:00Z 2027-01-16T08:00:00Z sent spam; 2 times",
                "ban 2001:db8::/32 2027-01-15T08:00:00Z -",
                "unban 198.51.100.7/32",
                "ban 203.0.113.7/32 2027-01-15T08:00:00Z -  x ",
            ]
        );
        let read: Vec<Record> = text.split(|b| *b == b'\n').filter_map(parse_line).collect();
        assert_eq!(read, sample());
        let contents = Contents::read(&text).unwrap();
        assert_eq!((contents.records, contents.damaged, contents.torn, contents.bans.len()), (5, 0, false, 3));
        assert_eq!(parse_time(&time(u64::MAX).to_string()), Some(LATEST));
    }

    #[test]
    fn the_last_record_of_a_network_counts() {
        let network = "192.0.2.0/24";
        let (first, second) = (Record::Ban(ban(network, 5, "one")), Record::Ban(ban(network, 9, "two")));
        let unban = Record::Unban(network.parse().unwrap());
        let last =
            |records: &[&Record]| Contents::read(&lines(records.iter().copied())).unwrap().bans.into_values().next().map(|ban| ban.until);
        assert_eq!(last(&[&first, &second]), Some(9));
        assert_eq!(last(&[&second, &unban, &first]), Some(5));
        assert_eq!(last(&[&first, &second, &unban]), None);
    }

    #[test]
    fn a_later_format_is_left_alone() {
        assert_eq!(Contents::read(&lines([&Record::Format(2)])).unwrap_err(), 2);
    }

    #[test]
    fn a_torn_end_is_no_damage_and_costs_nothing_that_was_whole() {
        let text = lines(&sample());
        let ends: Vec<usize> = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1).collect();
        for length in 0..=text.len() {
            let contents = Contents::read(&text[..length]).unwrap();
            let whole = ends.iter().filter(|end| **end <= length).count();
            assert_eq!((contents.records, contents.damaged), (whole, 0), "{length}");
            assert_eq!(contents.torn, length != 0 && !ends.contains(&length), "{length}");
        }
    }

    /// Whatever becomes of one byte, it is found, and costs no record but the one in which it stands.
    #[test]
    fn each_byte_damaged_in_turn_costs_one_record_at_most() {
        let (records, text) = (sample(), lines(&sample()));
        for at in 0..text.len() {
            let line = text[..at].iter().filter(|byte| **byte == b'\n').count();
            for byte in (0..=u8::MAX).filter(|byte| *byte != text[at]) {
                let mut damaged = text.clone();
                damaged[at] = byte;
                let contents = Contents::read(&damaged).unwrap();
                assert!(contents.damaged > 0 && contents.damaged_lines[0] == line + 1, "{at} {byte}: {contents:?}");
                let expected = if text[at] == b'\n' { records.len() } else { records.len() - 1 };
                assert_eq!(contents.records, expected, "{at} {byte}: {contents:?}");
                for (number, record) in records.iter().enumerate() {
                    if let (Record::Ban(ban), true) = (record, number != line || text[at] == b'\n') {
                        assert_eq!(contents.bans.get(&ban.network), Some(ban), "{at} {byte}");
                    }
                }
            }
        }
    }
}
