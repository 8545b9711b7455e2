//! CrowdSec decisions as CSV. The first row names the columns, as `cscli decisions import` takes them or as
//! `cscli decisions list -o raw` writes them.
//!
//! ```text
//! duration,scope,value,reason
//! 24h,ip,192.0.2.1,manual
//! 22h20m11.9s,range,198.51.100.0/24,"crowdsecurity/ssh-bf, seen twice"
//! ```
//!
//! ```text
//! id,source,ip,reason,action,country,as,events_count,expiration,simulated,alert_id
//! 1,cscli,Ip:192.0.2.1,manual,ban,,,1,3h59m57s,false,1
//! ```

use super::crowdsec::{Decision, Decisions};
use super::detect::{Looks, Sample};
use super::lines::each_line;
use super::{Reading, Sink, Statement};
use crate::diagnostic::{Fault, quote};
use std::io::{self, BufRead};

/// Reads a list.
pub(super) fn read(input: &mut dyn BufRead, reading: &Reading, sink: &mut dyn Sink) -> io::Result<Statement> {
    let mut decisions = Decisions::new(reading, sink);
    let mut header: Option<Result<Header, ()>> = None;
    each_line(input, |number, text| {
        let text = match text {
            Ok(text) if text.trim_ascii().is_empty() || text.starts_with(b"#") => return,
            Ok(text) => text,
            Err(fault) => return decisions.sink.fault(number, 1, fault),
        };
        let (column, fault) = match (fields(text), &header) {
            // Without names no row means anything: one fault for all of them.
            (_, Some(Err(()))) => return,
            (Ok(fields), Some(Ok(header))) if fields.len() == header.width => return header.take(number, &fields, &mut decisions),
            (Ok(fields), Some(Ok(header))) => {
                let cause = format!("the row has {} fields, not {}", fields.len(), header.width);
                (1, Fault::new(cause, "give as many fields as the first row has; text with commas needs quotation marks"))
            }
            (Ok(fields), None) => match Header::parse(&fields) {
                Ok(found) => {
                    header = Some(Ok(found));
                    return;
                }
                Err(fault) => {
                    header = Some(Err(()));
                    (1, fault)
                }
            },
            (Err((column, fault)), _) => {
                header.get_or_insert(Err(()));
                (column, fault)
            }
        };
        decisions.sink.fault(number, column, fault);
    })?;
    decisions.finish();
    Ok(Statement::default())
}

/// A field of a row, and its column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Cell {
    text: String,
    column: u32,
}

/// Takes a row apart, as RFC 4180 has it.
fn fields(line: &[u8]) -> Result<Vec<Cell>, (u32, Fault)> {
    let place = |rest: &str| u32::try_from(line.len() - rest.len() + 1).unwrap_or(u32::MAX);
    let mut rest = str::from_utf8(line).map_err(|_| (1, Fault::new("the row is not UTF-8 text", "give CSV as CrowdSec writes it")))?;
    let mut fields = Vec::new();
    loop {
        let column = place(rest);
        let text = if let Some(quoted) = rest.strip_prefix('"') {
            let mut text = String::new();
            rest = quoted;
            loop {
                let Some((part, tail)) = rest.split_once('"') else {
                    return Err((column, Fault::new("the quotation mark is not closed", "close it on the same line")));
                };
                text.push_str(part);
                rest = tail;
                let Some(tail) = rest.strip_prefix('"') else { break };
                text.push('"');
                rest = tail;
            }
            if !(rest.is_empty() || rest.starts_with(',')) {
                return Err((place(rest), Fault::new("text stands after a quotation mark", "write a quotation mark inside a field twice")));
            }
            text
        } else {
            let (text, tail) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
            rest = tail;
            text.trim().into()
        };
        fields.push(Cell { text, column });
        match rest.strip_prefix(',') {
            Some(tail) => rest = tail,
            None => return Ok(fields),
        }
    }
}

/// Which field is what.
#[derive(Debug)]
struct Header {
    width: usize,
    value: usize,
    /// The value has its scope before it, `Ip:192.0.2.1`.
    tagged: bool,
    duration: usize,
    scope: Option<usize>,
    kind: Option<usize>,
    scenario: Option<usize>,
    simulated: Option<usize>,
}

impl Header {
    fn parse(fields: &[Cell]) -> Result<Header, Fault> {
        let find = |names: &[&str]| fields.iter().position(|field| names.iter().any(|name| field.text.eq_ignore_ascii_case(name)));
        let remedy = "begin with the names of the columns: duration,scope,value";
        let twice =
            fields.iter().enumerate().find(|(at, field)| fields.iter().take(*at).any(|other| other.text.eq_ignore_ascii_case(&field.text)));
        if let Some((_, field)) = twice {
            return Err(Fault::new(format!("the column {} stands twice", quote(field.text.as_bytes())), remedy));
        }
        let (value, tagged) = match (find(&["value"]), find(&["ip"])) {
            (Some(value), _) => (value, false),
            (None, Some(value)) => (value, true),
            (None, None) => return Err(Fault::new("no column is named \"value\"", remedy)),
        };
        let duration = find(&["duration", "expiration"]).ok_or_else(|| Fault::new("no column is named \"duration\"", remedy))?;
        let (scope, kind) = (find(&["scope"]), find(&["type", "action"]));
        let (scenario, simulated) = (find(&["scenario", "reason"]), find(&["simulated"]));
        Ok(Header { width: fields.len(), value, tagged, duration, scope, kind, scenario, simulated })
    }

    fn take(&self, line: u32, fields: &[Cell], decisions: &mut Decisions<'_>) {
        let text = |at: Option<usize>| at.and_then(|at| fields.get(at)).map_or("", |field| field.text.as_str());
        let column = fields.get(self.value).map_or(1, |field| field.column);
        let value = text(Some(self.value));
        let (scope, value) = match value.split_once(':') {
            Some(pair) if self.tagged => pair,
            _ => (text(self.scope), value),
        };
        decisions.add(&Decision {
            line,
            column,
            duration: text(Some(self.duration)),
            scope,
            value,
            kind: text(self.kind),
            scenario: text(self.scenario),
            simulated: text(self.simulated).eq_ignore_ascii_case("true"),
        });
    }
}

/// Whether a text is of this format: its first row names the columns.
pub(super) fn looks(sample: &Sample<'_>) -> Looks {
    let header = sample.entries().next().and_then(|line| fields(line).ok()).is_some_and(|fields| Header::parse(&fields).is_ok());
    if header { Looks::Yes } else { Looks::No }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows() {
        let split = |text: &str| {
            fields(text.as_bytes()).map(|fields| fields.into_iter().map(|f| format!("{}@{}", f.text, f.column)).collect::<Vec<_>>())
        };
        assert_eq!(split("a, b,").unwrap(), ["a@1", "b@3", "@6"]);
        assert_eq!(split(r#""a,""b""",c"#).unwrap(), [r#"a,"b"@1"#, "c@11"]);
        assert_eq!(split(r#""""#).unwrap(), ["@1"]);
        for (text, at) in [("\"a", 1), ("b,\"a\"\"", 3), ("\"a\"b", 4)] {
            assert_eq!(split(text).unwrap_err().0, at, "{text}");
        }
        assert!(fields(b"\xff").is_err());
    }
}
