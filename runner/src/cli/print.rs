//! What commands print: aligned tables for people, JSON for programs. Knows no task and no schedule.

use std::collections::BTreeMap;
use std::io::{self, Write};

use bytes::Bytes;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// Columns; a longer cell is cut so that a row stays a row.
const WIDEST_CELL: usize = 60;

/// Writes to standard output at once. A closed pipe is an error that ends the command without a word.
///
/// # Errors
///
/// When standard output cannot be written.
pub fn text(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Says a line beside the result, on standard error. When nobody reads that there is nobody to tell.
pub fn note(line: &str) {
    let mut err = io::stderr().lock();
    writeln!(err, "{line}").and_then(|()| err.flush()).unwrap_or(());
}

/// Writes JSON, indented, with a newline.
///
/// # Errors
///
/// When standard output cannot be written.
pub fn json(value: &impl Serialize) -> io::Result<()> {
    text(&(serde_json::to_string_pretty(value)? + "\n"))
}

/// An object that may hold foreign JSON as it was written, its keys in the order of the alphabet.
#[derive(Debug, Serialize)]
pub struct Object(BTreeMap<String, Field>);

/// A value of an [`Object`].
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Field {
    /// Ours.
    Value(Value),
    /// Foreign: numbers keep their digits and keys their order.
    Raw(Box<RawValue>),
}

impl Object {
    /// The pairs of an object; of anything else nothing.
    #[must_use]
    pub fn of(value: Value) -> Self {
        let pairs = match value {
            Value::Object(pairs) => pairs
                .into_iter()
                .map(|(key, value)| (key, Field::Value(value)))
                .collect(),
            _ => BTreeMap::new(),
        };
        Self(pairs)
    }

    /// With one more pair.
    #[must_use]
    pub fn with(mut self, key: &str, field: Field) -> Self {
        self.0.insert(key.to_owned(), field);
        self
    }

    /// Its pairs.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &Field)> {
        self.0.iter().map(|(key, field)| (key.as_str(), field))
    }
}

/// Rows under a heading, in columns as wide as their widest cell.
#[must_use]
pub fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let clean: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|c| cell(c)).collect()).collect();
    let mut widths: Vec<usize> = heading.iter().map(|h| width(h)).collect();
    for row in &clean {
        for (column, cell) in widths.iter_mut().zip(row) {
            *column = (*column).max(width(cell));
        }
    }
    let mut out = String::new();
    let heading: Vec<String> = heading.iter().map(|h| (*h).to_owned()).collect();
    for row in std::iter::once(&heading).chain(&clean) {
        let mut line = String::new();
        for (cell, column) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.push_str(&" ".repeat(column - width(cell) + 2));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// A cell without anything that could move the cursor, cut to [`WIDEST_CELL`].
fn cell(text: &str) -> String {
    let mut out = String::new();
    let mut used = 0;
    for c in text.trim_end().chars() {
        let c = if c.is_control() { ' ' } else { c };
        used += columns(c);
        if used > WIDEST_CELL {
            out.push('…');
            break;
        }
        out.push(c);
    }
    if out.is_empty() { "-".to_owned() } else { out }
}

fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

/// Terminals show East Asian characters in two columns.
fn columns(c: char) -> usize {
    match u32::from(c) {
        0x1100..=0x115F | 0x2E80..=0xA4CF | 0xAC00..=0xD7A3 | 0xF900..=0xFAFF | 0xFE30..=0xFE4F => 2,
        0xFF00..=0xFF60 | 0xFFE0..=0xFFE6 | 0x1F300..=0x1FAFF | 0x20000..=0x3FFFD => 2,
        _ => 1,
    }
}

/// An instant as RFC 3339 with the offset of the zone.
#[must_use]
pub fn instant(at: Timestamp, zone: &TimeZone) -> String {
    let zoned = at.to_zoned(zone.clone());
    if zoned.subsec_nanosecond() == 0 {
        zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    } else {
        zoned.strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()
    }
}

/// The same, or `null`.
#[must_use]
pub fn maybe(at: Option<Timestamp>, zone: &TimeZone) -> Value {
    at.map_or(Value::Null, |at| json!(instant(at, zone)))
}

/// Payload as what it is: JSON as it was written, text, or else base64 in an object.
#[must_use]
pub fn payload(bytes: &Bytes) -> Field {
    use base64::Engine;
    if bytes.is_empty() {
        return Field::Value(Value::Null);
    }
    if let Ok(raw) = serde_json::from_slice::<Box<RawValue>>(bytes) {
        return Field::Raw(raw);
    }
    Field::Value(match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({"base64": base64::engine::general_purpose::STANDARD.encode(bytes)}),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn columns_line_up_and_nothing_steers_the_terminal() {
        let rows = vec![
            vec!["每日".to_owned(), "1".to_owned()],
            vec!["a\x1b[31m\n".to_owned(), String::new()],
        ];
        assert_eq!(table(&["NAME", "N"], &rows), "NAME    N\n每日    1\na [31m  -\n");
    }

    #[test]
    fn payloads_of_any_kind_are_shown() {
        let shown = |bytes: &'static [u8]| {
            let object = Object::of(json!({"n": 1})).with("p", payload(&Bytes::from_static(bytes)));
            serde_json::to_string(&object).unwrap()
        };
        assert_eq!(
            shown(br#"{"b":12345678901234567890123, "a":1.0}"#),
            r#"{"n":1,"p":{"b":12345678901234567890123, "a":1.0}}"#
        );
        assert_eq!(shown(b"plain"), r#"{"n":1,"p":"plain"}"#);
        assert_eq!(shown(b"\xff"), r#"{"n":1,"p":{"base64":"/w=="}}"#);
        assert_eq!(shown(b""), r#"{"n":1,"p":null}"#);
    }
}
