//! Files of networks to ban, or whose bans to lift: a network a line, and what stands after it is the reason. The lines are
//! those of plain lists, without holes and ranges.
//!
//! ```text
//! # from the log of 2026-11-21
//! 192.0.2.0/24    sent spam
//! 2001:db8::/48   ; tries passwords
//! ```

use crate::diagnostic::{Diagnostic, Fault};
use crate::list::lines::each_line;
use crate::list::plain::{Line, parse_line};
use crate::prefix::parse_network;
use ipnet::IpNet;
use std::io::{self, BufRead};
use std::sync::Arc;

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The network.
    pub network: IpNet,
    /// What stands after it; may be empty.
    pub reason: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in bytes, from 1.
    pub column: u32,
}

/// Reads a file; `name` is how messages name it. Returns all networks and all mistakes.
///
/// # Errors
/// If the input cannot be read.
pub fn read(input: &mut dyn BufRead, name: &Arc<str>) -> io::Result<(Vec<Listed>, Vec<Diagnostic>)> {
    let (mut listed, mut mistakes) = (Vec::new(), Vec::new());
    each_line(input, |number, text| match text.and_then(parse_line) {
        Ok(None) => {}
        Ok(Some(line)) => match network(&line) {
            Ok(network) => {
                let reason = String::from_utf8_lossy(line.reason).into_owned();
                listed.push(Listed { network, reason, line: number, column: line.column });
            }
            Err(fault) => mistakes.push(fault.at(name, number, line.column)),
        },
        Err(fault) => mistakes.push(fault.at(name, number, 1)),
    })?;
    Ok((listed, mistakes))
}

fn network(line: &Line<'_>) -> Result<IpNet, Fault> {
    if line.hole {
        return Err(Fault::new("bans have no holes", "ban the networks around it, or put it into an allow list"));
    }
    parse_network(line.entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> (Vec<String>, Vec<String>) {
        let (listed, mistakes) = read(&mut text.as_bytes(), &"f".into()).unwrap();
        let show = |Listed { network, reason, line, column }: &Listed| format!("{line}:{column} {network} {reason}");
        (listed.iter().map(show).collect(), mistakes.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn lines_with_and_without_reasons() {
        let text = "\u{feff}# why\n\n  192.0.2.0/24  sent spam \r\n2001:db8::1 ; caf\u{e9}\n192.0.2.7";
        let (listed, mistakes) = read_text(text);
        assert_eq!(listed, ["3:3 192.0.2.0/24 sent spam", "4:1 2001:db8::1/128 caf\u{e9}", "5:1 192.0.2.7/32 "]);
        assert_eq!((mistakes, read_text("")), (Vec::new(), (Vec::new(), Vec::new())));
    }

    #[test]
    fn all_mistakes_are_told_with_their_places() {
        let (listed, mistakes) = read_text("192.0.2.1/24\n 10/8\n!192.0.2.7\n192.0.2.8\n192.0.2.1-192.0.2.9\nexample.org\n0.0.0.0/0\n");
        assert_eq!(listed, ["4:1 192.0.2.8/32 "]);
        let begin = ["f:1:1: ", "f:2:2: ", "f:3:2: bans have no holes; ", "f:5:1: ", "f:6:1: ", "f:7:1: "];
        assert_eq!(mistakes.len(), begin.len(), "{mistakes:#?}");
        for (mistake, begin) in mistakes.iter().zip(begin) {
            assert!(mistake.starts_with(begin) && mistake.contains("; "), "{mistake}");
        }
    }
}
