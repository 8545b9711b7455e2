//! What the JSON formats share: members of an object by their names, and places in a stream.

use super::Sink;
use crate::diagnostic::Fault;
use serde_core::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use std::cell::Cell;
use std::fmt;
use std::io::{self, BufRead, Cursor, Read};

/// Most bytes from one member that matters to the next: a string without an end must not fill the memory.
const MAX_GAP: usize = 16 << 20;

/// Where a reader is.
#[derive(Debug)]
pub(super) struct Place {
    line: Cell<u32>,
    /// Bytes of the line that are read.
    column: Cell<u32>,
    gap: Cell<usize>,
}

impl Place {
    /// The place before the first byte of a line.
    pub(super) fn start(line: u32) -> Place {
        Place { line: Cell::new(line), column: Cell::new(0), gap: Cell::new(0) }
    }

    /// Line and column of what was read last and is that long.
    fn back(&self, length: usize) -> (u32, u32) {
        self.gap.set(0);
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        (self.line.get(), self.column.get().saturating_sub(length).saturating_add(1))
    }
}

/// A reader that counts. `serde_json` reads byte by byte, and nothing ahead of a string or an object, so the place is exact.
#[derive(Debug)]
pub(super) struct Counted<'a, R> {
    input: R,
    place: &'a Place,
}

impl<'a, R: BufRead> Counted<'a, R> {
    pub(super) fn new(input: R, place: &'a Place) -> Counted<'a, R> {
        Counted { input, place }
    }
}

impl<R: BufRead> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (Some(to), Some(byte)) = (buffer.first_mut(), self.input.fill_buf()?.first().copied()) else { return Ok(0) };
        self.input.consume(1);
        *to = byte;
        let Place { line, column, gap } = self.place;
        if byte == b'\n' {
            line.set(line.get().saturating_add(1));
            column.set(0);
        } else {
            column.set(column.get().saturating_add(1));
        }
        gap.set(gap.get().saturating_add(1));
        if gap.get() > MAX_GAP {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("one JSON value is longer than {MAX_GAP} bytes")));
        }
        Ok(1)
    }
}

/// The input without a byte-order mark, which JSON does not allow.
pub(super) fn without_mark<'a>(input: &'a mut dyn BufRead) -> io::Result<impl BufRead + 'a> {
    let mut head = Vec::new();
    Read::take(&mut *input, 3).read_to_end(&mut head)?;
    if head == b"\xef\xbb\xbf" {
        head.clear();
    }
    Ok(Cursor::new(head).chain(input))
}

/// A value that is not taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Scalar {
    /// Missing, or `null`.
    #[default]
    Null,
    Text(String),
    Number(u64),
    Flag(bool),
    /// An array, an object, another number.
    Other,
}

/// A member of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Member {
    pub value: Scalar,
    /// Where its value stands; that of a number is the place after it.
    pub line: u32,
    pub column: u32,
}

impl Member {
    /// The text; empty if there is none. `Err` if it is something else.
    pub(super) fn text(&self, name: &str) -> Result<&str, Fault> {
        match &self.value {
            Scalar::Null => Ok(""),
            Scalar::Text(text) => Ok(text),
            Scalar::Number(_) | Scalar::Flag(_) | Scalar::Other => {
                Err(Fault::new(format!("\"{name}\" is not a text"), format!("write \"{name}\": \"...\"")))
            }
        }
    }
}

/// Reads a value, and where it stands.
pub(super) struct Value<'a>(pub &'a Place);

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = Member;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Member, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Value<'_> {
    fn found(&self, value: Scalar, length: usize) -> Member {
        let (line, column) = self.0.back(length);
        Member { value, line, column }
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = Member;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Member, E> {
        Ok(self.found(Scalar::Text(text.into()), text.len() + 2))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Member, E> {
        Ok(self.found(Scalar::Number(number), 0))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Member, E> {
        Ok(self.found(Scalar::Other, 0))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Member, E> {
        Ok(self.found(Scalar::Other, 0))
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Member, E> {
        Ok(self.found(Scalar::Flag(flag), 0))
    }

    fn visit_unit<E>(self) -> Result<Member, E> {
        Ok(self.found(Scalar::Null, 0))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Member, A::Error> {
        let found = self.found(Scalar::Other, 1);
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Member, A::Error> {
        let found = self.found(Scalar::Other, 1);
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(found)
    }
}

/// An object of which some members matter; a member that stands twice is refused.
#[derive(Debug)]
pub(super) struct Object<const N: usize> {
    names: [&'static str; N],
    members: [Member; N],
    /// Where it begins.
    pub line: u32,
    pub column: u32,
}

impl<const N: usize> Object<N> {
    /// An object whose opening brace was just read.
    pub(super) fn begin(names: [&'static str; N], place: &Place) -> Object<N> {
        let (line, column) = place.back(1);
        Object { names, members: std::array::from_fn(|_| Member::default()), line, column }
    }

    /// Reads the value of a member, or passes over it.
    pub(super) fn take<'de, A: MapAccess<'de>>(&mut self, name: &str, place: &Place, rest: &mut A) -> Result<(), A::Error> {
        place.back(0);
        match self.names.iter().zip(&mut self.members).find(|(known, _)| **known == name) {
            Some((_, member)) if *member != Member::default() => Err(A::Error::custom(format!("\"{name}\" stands twice"))),
            Some((_, member)) => {
                *member = rest.next_value_seed(Value(place))?;
                Ok(())
            }
            None => rest.next_value::<IgnoredAny>().map(|_| ()),
        }
    }

    /// The members, in the order of their names.
    pub(super) fn members(&self) -> &[Member; N] {
        &self.members
    }
}

/// Hands over what `serde_json` found wrong. An error of the input is passed on.
pub(super) fn report(error: serde_json::Error, line_before: u32, sink: &mut dyn Sink) -> io::Result<()> {
    let remedy = match error.classify() {
        Category::Io => return Err(error.into()),
        Category::Eof => "check that the download is complete",
        Category::Syntax => "give the list as the program writes it: this is not JSON",
        Category::Data => "give the list as the program writes it",
    };
    let (line, column) = (u32::try_from(error.line()).unwrap_or(u32::MAX), u32::try_from(error.column()).unwrap_or(u32::MAX));
    let text = error.to_string();
    // serde_json adds the place, which is shown already.
    let cause = text.rsplit_once(" at line ").map_or(text.as_str(), |(cause, _)| cause);
    sink.fault(line.saturating_add(line_before).max(1), column.max(1), Fault::new(cause.replace('\n', " "), remedy));
    Ok(())
}

/// The name of the first member of a text that begins with an object, for detection.
pub(super) fn first_name(text: &[u8]) -> Option<&[u8]> {
    text.trim_ascii_start().strip_prefix(b"{")?.trim_ascii_start().strip_prefix(b"\"")?.split(|b| *b == b'"').next()
}
