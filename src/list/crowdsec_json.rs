//! CrowdSec decisions as JSON: an array of decisions (`GET /v1/decisions`, the input of `cscli decisions import`), an array
//! of alerts with decisions in them (`cscli decisions list -o json`), or what came and what went
//! (`GET /v1/decisions/stream`). Several documents may follow each other, as they were polled.
//!
//! ```text
//! {"new":[{"duration":"22h20m11.9s","origin":"CAPI","scenario":"crowdsecurity/ssh-bf","scope":"ip","type":"ban",
//!          "value":"192.0.2.1"}],
//!  "deleted":[{"duration":"-18897h25m52.8s","scope":"Range","type":"ban","value":"198.51.100.0/24"}]}
//! ```

use super::crowdsec::{Decision, Decisions};
use super::detect::{Looks, Sample};
use super::json::{Counted, Object, Place, Scalar, first_name, report, without_mark};
use super::{Reading, Sink, Statement};
use crate::diagnostic::{Fault, quote};
use ipnet::IpNet;
use serde_core::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::collections::HashSet;
use std::fmt;
use std::io::{self, BufRead, BufReader};

/// The members of a decision that matter.
const NAMES: [&str; 6] = ["duration", "scope", "value", "type", "scenario", "simulated"];

/// Reads a list.
pub(super) fn read(input: &mut dyn BufRead, reading: &Reading, sink: &mut dyn Sink) -> io::Result<Statement> {
    let place = Place::start(1);
    let input = BufReader::new(without_mark(input)?);
    let mut json = serde_json::Deserializer::from_reader(Counted::new(input, &place));
    let mut decisions = Decisions::new(reading, sink);
    let outcome = loop {
        let mut walk = Walk { place: &place, decisions: &mut decisions, fresh: HashSet::new() };
        if let Err(error) = (Part { walk: &mut walk, level: Level::Document }).deserialize(&mut json) {
            break report(error, 0, decisions.sink);
        }
        match json.end() {
            Ok(()) => break Ok(()),
            Err(error) if error.is_io() => break Err(error.into()),
            // Another document follows, or something that is not one.
            Err(_) => {}
        }
    };
    decisions.finish();
    outcome.map(|()| Statement::default())
}

/// What is known while a document is read.
struct Walk<'a, 'b> {
    place: &'a Place,
    decisions: &'a mut Decisions<'b>,
    /// What the document adds. CrowdSec writes `new` before `deleted`, and means that `deleted` happens before.
    fresh: HashSet<IpNet>,
}

/// What may stand at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    /// An array of decisions or alerts, `null`, or an object with `new` and `deleted`.
    Document,
    /// The decisions of an alert.
    Alert,
    /// `new`.
    New,
    /// `deleted`.
    Deleted,
}

/// An array of decisions, or a whole document.
struct Part<'a, 'b, 'c> {
    walk: &'a mut Walk<'b, 'c>,
    level: Level,
}

impl<'de> DeserializeSeed<'de> for Part<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Part<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of decisions")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Item { walk: self.walk, level: self.level })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut rest: A) -> Result<(), A::Error> {
        if self.level != Level::Document {
            return Err(A::Error::custom("decisions must stand in an array"));
        }
        let object = Object::begin(["message"], self.walk.place);
        let (mut object, mut known) = (object, false);
        while let Some(name) = rest.next_key::<String>()? {
            let level = match name.as_str() {
                "new" => Level::New,
                "deleted" => Level::Deleted,
                _ => {
                    object.take(&name, self.walk.place, &mut rest)?;
                    continue;
                }
            };
            known = true;
            rest.next_value_seed(Part { walk: self.walk, level })?;
        }
        if !known {
            // The answer to a wrong key is such an object.
            let [message] = object.members();
            let cause = match &message.value {
                Scalar::Text(text) => format!("the document has no decisions but the message {}", quote(text.as_bytes())),
                Scalar::Null | Scalar::Number(_) | Scalar::Flag(_) | Scalar::Other => "the document has no decisions".into(),
            };
            let fault = Fault::new(cause, "give the answer of /v1/decisions or /v1/decisions/stream; the download may have failed");
            self.walk.decisions.sink.fault(object.line, object.column, fault);
        }
        Ok(())
    }
}

/// A decision, or an alert.
struct Item<'a, 'b, 'c> {
    walk: &'a mut Walk<'b, 'c>,
    level: Level,
}

impl<'de> DeserializeSeed<'de> for Item<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Item<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a decision, which is an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut rest: A) -> Result<(), A::Error> {
        let Item { walk, level } = self;
        let mut object = Object::begin(NAMES, walk.place);
        let mut alert = false;
        while let Some(name) = rest.next_key::<String>()? {
            if name == "decisions" && level == Level::Document {
                alert = true;
                rest.next_value_seed(Part { walk, level: Level::Alert })?;
            } else {
                object.take(&name, walk.place, &mut rest)?;
            }
        }
        if !alert {
            walk.take(&object, level);
        }
        Ok(())
    }
}

impl Walk<'_, '_> {
    fn take(&mut self, object: &Object<6>, level: Level) {
        let members = object.members();
        let mut texts = [""; 6];
        // The last one is a flag.
        for ((text, member), name) in texts.iter_mut().zip(members).zip(NAMES).take(5) {
            match member.text(name) {
                Ok(found) => *text = found,
                Err(fault) => return self.decisions.sink.fault(member.line, member.column, fault),
            }
        }
        let [duration, scope, value, kind, scenario, _] = texts;
        let [.., written, _, _, simulated] = members;
        let (line, column) = if written.line == 0 { (object.line, object.column) } else { (written.line, written.column) };
        let simulated = simulated.value == Scalar::Flag(true);
        let decision = Decision { line, column, duration, scope, value, kind, scenario, simulated };
        match level {
            Level::Deleted => self.decisions.delete(&decision, |network| self.fresh.contains(network)),
            Level::New => self.fresh.extend(self.decisions.add(&decision)),
            Level::Document | Level::Alert => {
                self.decisions.add(&decision);
            }
        }
    }
}

/// Whether a text is of this format: an array of objects, or an object that begins with one of its names.
pub(super) fn looks(sample: &Sample<'_>) -> Looks {
    let text = sample.text().trim_ascii();
    let array = text.strip_prefix(b"[").map(<[u8]>::trim_ascii_start).is_some_and(|rest| rest.starts_with(b"{") || rest.starts_with(b"]"));
    let stream = first_name(text).is_some_and(|name| matches!(name, b"new" | b"deleted"));
    // There are no decisions; a domain may be called that, too.
    let nothing = text == b"null" && sample.about() == super::About::Addresses;
    if array || stream || nothing { Looks::Yes } else { Looks::No }
}
