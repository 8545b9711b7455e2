//! Spamhaus DROP as JSON lines: one object a line. The listing becomes the reason; the last object tells how many records
//! there are, so that a download that broke off is noticed.
//!
//! ```text
//! {"cidr":"192.0.2.0/24","sblid":"SBL256894","rir":"apnic"}
//! {"cidr":"2001:db8::/32","sblid":"SBL303641","rir":"ripencc"}
//! {"type":"metadata","timestamp":1790072042,"size":104461,"records":2,"copyright":"(c) 2026 The Spamhaus Project SLU"}
//! ```

use super::detect::{Looks, Sample};
use super::drop::earlier;
use super::json::{Counted, Member, Object, Place, Scalar, first_name, report};
use super::lines::each_line;
use super::{Action, Field, Reading, Record, Sink, Statement, Subject};
use crate::diagnostic::Fault;
use crate::prefix::parse_network;
use serde_core::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use std::fmt;
use std::io::{self, BufRead};

/// The members that matter.
const NAMES: [&str; 6] = ["cidr", "sblid", "asn", "type", "timestamp", "records"];

/// Reads a list.
pub(super) fn read(input: &mut dyn BufRead, _: &Reading, sink: &mut dyn Sink) -> io::Result<Statement> {
    let mut list = List { statement: Statement { complete: Some(false), ..Statement::default() }, numbers: 0, first: (1, 1), sink };
    let mut outcome = Ok(());
    each_line(input, |number, text| match text {
        Ok(text) if text.trim_ascii().is_empty() => {}
        Ok(text) => {
            let (mut bytes, place) = (text, Place::start(number));
            let mut json = serde_json::Deserializer::from_reader(Counted::new(&mut bytes, &place));
            match (Line { place: &place }).deserialize(&mut json).and_then(|object| json.end().map(|()| object)) {
                Ok(object) => list.take(&object),
                Err(error) => {
                    if let Err(error) = report(error, number.saturating_sub(1), list.sink) {
                        outcome = Err(error);
                    }
                }
            }
        }
        Err(fault) => list.sink.fault(number, 1, fault),
    })?;
    outcome?;
    Ok(list.finish())
}

/// The list in the making.
struct List<'a> {
    statement: Statement,
    /// How many AS numbers there are, and where the first is.
    numbers: u64,
    first: (u32, u32),
    sink: &'a mut dyn Sink,
}

impl List<'_> {
    fn take(&mut self, object: &Object<6>) {
        let [cidr, sblid, asn, kind, timestamp, records] = object.members();
        if kind.value == Scalar::Text("metadata".into()) {
            return self.metadata(object, timestamp, records);
        }
        // More lists may follow in the same file, each with its metadata.
        self.statement.complete = Some(false);
        if cidr.value == Scalar::Null && asn.value != Scalar::Null {
            if self.numbers == 0 {
                self.first = (object.line, object.column);
            }
            self.numbers += 1;
            return;
        }
        let missing = || Fault::new("the object has no \"cidr\"", "give a DROP list, such as drop_v4.json");
        let (line, column) = if cidr.line == 0 { (object.line, object.column) } else { (cidr.line, cidr.column) };
        let network = match cidr.text("cidr") {
            Ok("") => Err(missing()),
            text => text.and_then(parse_network),
        };
        match (network, sblid.text("sblid")) {
            (Ok(network), Ok(reason)) => {
                let (subject, reason) = (Subject::Network(network), reason.as_bytes());
                self.sink.record(Record { line, column, subject, field: Field::Any, action: Action::Cover, reason, expires: None });
            }
            (Err(fault), _) => self.sink.fault(line, column, fault),
            (Ok(_), Err(fault)) => self.sink.fault(sblid.line, sblid.column, fault),
        }
    }

    fn metadata(&mut self, object: &Object<6>, timestamp: &Member, records: &Member) {
        let statement = &mut self.statement;
        statement.complete = Some(true);
        if let Scalar::Number(seconds) = timestamp.value {
            statement.made = earlier(statement.made, Some(seconds));
        }
        match records.value {
            Scalar::Number(number) => statement.entries = Some(statement.entries.unwrap_or(0).saturating_add(number)),
            Scalar::Null | Scalar::Text(_) | Scalar::Flag(_) | Scalar::Other => {
                let fault = Fault::new("the metadata do not say how many records there are", "it is unknown whether this list is complete");
                self.sink.warn(object.line, object.column, fault);
            }
        }
    }

    fn finish(mut self) -> Statement {
        if self.numbers > 0 {
            let cause = format!("{} entries are AS numbers, which are no addresses, and are left out", self.numbers);
            self.sink.warn(self.first.0, self.first.1, Fault::new(cause, "give drop_v4.json or drop_v6.json"));
            // The number of records that is promised counts them too.
            self.statement.entries = self.statement.entries.map(|entries| entries.saturating_sub(self.numbers));
        }
        self.statement
    }
}

/// Reads the object of a line.
struct Line<'a> {
    place: &'a Place,
}

impl<'de> DeserializeSeed<'de> for Line<'_> {
    type Value = Object<6>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Object<6>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Line<'_> {
    type Value = Object<6>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one object a line")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut rest: A) -> Result<Object<6>, A::Error> {
        let mut object = Object::begin(NAMES, self.place);
        while let Some(name) = rest.next_key::<String>()? {
            object.take(&name, self.place, &mut rest)?;
        }
        Ok(object)
    }
}

/// Whether a text is of this format: it begins with an object of this kind.
pub(super) fn looks(sample: &Sample<'_>) -> Looks {
    let known = first_name(sample.text()).is_some_and(|name| [b"cidr".as_slice(), b"asn", b"sblid", b"type"].contains(&name));
    if known { Looks::Yes } else { Looks::No }
}
