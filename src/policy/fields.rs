//! TOML values to Rust values. What is of the wrong type or unknown is reported, and something harmless stands in for
//! it, so that all mistakes of a policy are found at once.

use super::Item;
use crate::diagnostic::{Diagnostic, Fault, Lines, quote};
use crate::list::Seconds;
use std::ops::Range;
use std::sync::Arc;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value and its place.
pub(super) type Value<'i> = Spanned<DeValue<'i>>;

/// Reads values and collects what is wrong with them.
pub(super) struct Reader<'t> {
    /// The lines of the policy.
    pub lines: Lines,
    pub file: &'t Arc<str>,
    pub diagnostics: Vec<Diagnostic>,
    /// The document is not TOML; what is missing in it may stand in the part that was not understood.
    pub broken: bool,
}

/// A table whose keys are taken out one by one; what is left at the end is unknown.
pub(super) struct Fields<'i> {
    pub span: Range<usize>,
    table: DeTable<'i>,
}

impl<'i> Fields<'i> {
    pub(super) fn of(table: Spanned<DeTable<'i>>) -> Fields<'i> {
        Fields { span: table.span(), table: table.into_inner() }
    }

    pub(super) fn take(&mut self, key: &str) -> Option<Value<'i>> {
        self.table.remove(key)
    }
}

impl Reader<'_> {
    /// Reports a mistake.
    pub(super) fn report(&mut self, span: Range<usize>, fault: Fault) {
        let (line, column) = self.lines.position(span.start);
        self.diagnostics.push(fault.at(self.file, line, column));
    }

    /// Warns of what is no mistake, but hardly meant.
    pub(super) fn warn(&mut self, span: Range<usize>, fault: Fault) {
        let (line, column) = self.lines.position(span.start);
        self.diagnostics.push(fault.at(self.file, line, column).warning());
    }

    /// Reports a mistake in a string.
    pub(super) fn report_at(&mut self, item: &Item, fault: Fault) {
        self.diagnostics.push(fault.at(self.file, item.line, item.column));
    }

    /// Reports the keys that nobody took.
    pub(super) fn finish(&mut self, fields: Fields<'_>, what: &str, known: &str) {
        for key in fields.table.keys() {
            let cause = format!("{} is not a key of {what}", quote(key.get_ref().as_bytes()));
            self.report(key.span(), Fault::new(cause, format!("use {known}")));
        }
    }

    fn wrong_type(&mut self, value: &Value<'_>, key: &str, example: &str) {
        let cause = format!("{key} is of type {}", value.get_ref().type_str());
        self.report(value.span(), Fault::new(cause, format!("write {key} = {example}")));
    }

    pub(super) fn string(&mut self, value: Option<Value<'_>>, key: &str, example: &str) -> Option<Item> {
        let value = value?;
        match value.get_ref().as_str() {
            Some(text) => Some(self.item(text, value.span())),
            None => {
                self.wrong_type(&value, key, example);
                None
            }
        }
    }

    fn item(&self, text: &str, span: Range<usize>) -> Item {
        let (line, column) = self.lines.position(span.start);
        Item { text: text.into(), line, column }
    }

    pub(super) fn boolean(&mut self, value: Option<Value<'_>>, key: &str, default: bool) -> bool {
        let Some(value) = value else { return default };
        value.get_ref().as_bool().unwrap_or_else(|| {
            self.wrong_type(&value, key, "true or false");
            default
        })
    }

    /// A whole number in a range.
    pub(super) fn integer(&mut self, value: Option<Value<'_>>, key: &str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let value = value?;
        let number = value.get_ref().as_integer().and_then(|integer| u64::from_str_radix(integer.as_str(), integer.radix()).ok());
        if number.is_none_or(|number| !range.contains(&number)) {
            let example = format!("a whole number from {} to {}", range.start(), range.end());
            self.report(value.span(), Fault::new(format!("{key} is not in its range"), format!("write {key} = {example}")));
            return None;
        }
        number
    }

    /// A factor, 1 or more.
    pub(super) fn factor(&mut self, value: Option<Value<'_>>, key: &str) -> Option<f64> {
        let value = value?;
        let integer = value.get_ref().as_integer().filter(|integer| integer.radix() == 10).map(|integer| integer.as_str());
        let text = integer.or(value.get_ref().as_float().map(|float| float.as_str())).unwrap_or("");
        let factor = text.parse::<f64>().ok().filter(|factor| *factor >= 1.0);
        if factor.is_none() {
            self.report(
                value.span(),
                Fault::new(format!("{key} is not a factor"), format!("write a number from 1 on, such as {key} = 2.5")),
            );
        }
        factor
    }

    /// A time span such as `"36h"` or `"7d"`.
    pub(super) fn duration(&mut self, value: Option<Value<'_>>, key: &str) -> Option<Seconds> {
        let item = self.string(value, key, "\"7d\"")?;
        match parse_duration(&item.text) {
            Ok(seconds) => Some(seconds),
            Err(fault) => {
                self.report_at(&item, fault);
                None
            }
        }
    }

    /// One of several words.
    pub(super) fn choice<T: Copy>(&mut self, value: Option<Value<'_>>, key: &str, words: &[(&str, T)]) -> Option<T> {
        let example = format!("\"{}\"", words.first().map_or("", |(word, _)| word));
        let item = self.string(value, key, &example)?;
        let found = words.iter().find(|(word, _)| *word == item.text).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let fault = Fault::new(format!("there is no {key} {}", quote(item.text.as_bytes())), format!("write {}", one_of(&names)));
            self.report_at(&item, fault);
        }
        found
    }

    pub(super) fn strings(&mut self, value: Option<Value<'_>>, key: &str, example: &str) -> Option<Vec<Item>> {
        let value = value?;
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(&value, key, example);
            return None;
        };
        let mut items = Vec::with_capacity(array.len());
        for element in array.iter() {
            match element.get_ref().as_str() {
                Some(text) => items.push(self.item(text, element.span())),
                None => self.wrong_type(element, key, example),
            }
        }
        Some(items)
    }

    /// A string, or several.
    pub(super) fn string_or_strings(&mut self, value: Option<Value<'_>>, key: &str, example: &str) -> Option<Vec<Item>> {
        match value {
            Some(value) if value.get_ref().is_array() => self.strings(Some(value), key, example),
            value => self.string(value, key, example).map(|item| vec![item]),
        }
    }

    /// A table, `[key]`.
    pub(super) fn table<'i>(&mut self, value: Option<Value<'i>>, key: &str) -> Option<Fields<'i>> {
        let value = value?;
        let span = value.span();
        let wrong = Fault::new(format!("{key} is of type {}", value.get_ref().type_str()), format!("write [{key}] above its keys"));
        if let DeValue::Table(table) = value.into_inner() {
            return Some(Fields { span, table });
        }
        self.report(span, wrong);
        None
    }

    /// The tables of an array of tables, `[[key]]`.
    pub(super) fn tables<'i>(&mut self, value: Option<Value<'i>>, key: &str, most: usize) -> Vec<Fields<'i>> {
        let Some(value) = value else { return Vec::new() };
        let span = value.span();
        let wrong = Fault::new(format!("{key} is of type {}", value.get_ref().type_str()), format!("write [[{key}]] above its keys"));
        let DeValue::Array(array) = value.into_inner() else {
            self.report(span, wrong);
            return Vec::new();
        };
        let mut tables = Vec::with_capacity(array.len());
        for element in array {
            let span = element.span();
            if let DeValue::Table(table) = element.into_inner() {
                tables.push(Fields { span, table });
            } else {
                self.report(span, wrong.clone());
            }
        }
        if let Some(first) = tables.get(most) {
            let fault = Fault::limit(format!("there are {} [[{key}]]", tables.len()), format!("put them into at most {most}"));
            self.report(first.span.clone(), fault);
            tables.truncate(most);
        }
        tables
    }
}

/// "a, b or c".
pub(super) fn one_of(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).into(),
        [before @ .., last] => format!("{} or {last}", before.join(", ")),
    }
}

/// Reads a time span as policies have it: `90s`, `15m`, `36h`, `7d`, `2w`, in seconds.
///
/// # Errors
/// If it is none, or 0.
pub fn parse_duration(text: &str) -> Result<u64, Fault> {
    span(text).ok_or_else(|| {
        Fault::new(format!("{} is not a time span", quote(text.as_bytes())), "write a number and s, m, h, d or w, such as \"36h\"")
    })
}

fn span(text: &str) -> Option<Seconds> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return None,
    };
    let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    number.parse::<Seconds>().ok().filter(|n| digits && *n > 0)?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("36h", 129_600), ("7d", 604_800), ("2w", 1_209_600)] {
            assert_eq!(parse_duration(text), Ok(seconds), "{text}");
        }
        for text in ["", "s", "7", "0d", "-1d", "+1d", "1.5h", "7 d", "7D", "99999999999999999w", "1h30m", "\u{ff17}d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
