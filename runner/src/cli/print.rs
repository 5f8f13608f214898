//! What commands print: aligned tables for people, JSON for programs. Knows no task and no schedule.
//!
//! The only place besides the log that writes to standard output and standard error: no text that is printed here
//! can control the terminal, wherever it comes from.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, IsTerminal as _, Write};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

pub use crate::objects::{JsonField, instant, pause_words, payload};
use crate::text::signs;

/// Columns; a longer cell is cut so that a row stays a row.
const WIDEST_CELL: usize = 60;

/// Columns of a table that name something another command takes: their cells are whole, or they could not be pasted.
const WHOLE: [&str; 8] = ["ID", "NAME", "TASK", "RUN", "TYPE", "QUEUE", "GROUP", "HOST"];

/// Columns of a row's last cell, which shifts no other: the important part of a reason or an error may be at its end.
const WIDEST_LAST: usize = 240;

/// Columns of a value that has a line to itself.
const WIDEST_VALUE: usize = 4096;

/// Standard output cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
pub struct Unwritten(#[from] io::Error);

impl Unwritten {
    /// Whether the reader closed the pipe, as `head` does.
    #[must_use]
    pub fn is_closed_pipe(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }
}

/// Writes lines to standard output at once. A closed pipe is an error that ends the command silently.
///
/// # Errors
///
/// When standard output cannot be written.
pub fn text(text: &str) -> Result<(), Unwritten> {
    write(&signs::lines(text))
}

/// Writes one line to standard output, whatever is in it.
///
/// # Errors
///
/// When standard output cannot be written.
pub fn line(line: &str) -> Result<(), Unwritten> {
    write(&(signs::line(line) + "\n"))
}

/// Writes JSON, indented, with a newline.
///
/// # Errors
///
/// When standard output cannot be written.
pub fn json(value: &impl Serialize) -> Result<(), Unwritten> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
    write(&(signs::json(&text) + "\n"))
}

/// Writes the line that says what a command has changed. If standard output cannot be written, it goes to standard
/// error: a user who believes that nothing was done does it twice.
///
/// # Errors
///
/// When standard output cannot be written.
pub fn done(line: &str) -> Result<(), Unwritten> {
    self::line(line).inspect_err(|_| note(&format!("done: {line}")))
}

/// The same as JSON.
///
/// # Errors
///
/// When standard output cannot be written.
pub fn done_as_json(value: &Value) -> Result<(), Unwritten> {
    json(value).inspect_err(|_| note(&format!("done: {value}")))
}

fn write(text: &str) -> Result<(), Unwritten> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Whether a person can type and read: standard input and standard output are a terminal.
#[must_use]
pub fn is_terminal() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Prints a note on standard error. There is no other way to report that this fails.
pub fn note(line: &str) {
    complain(&(signs::line(line) + "\n")).unwrap_or(());
}

/// The same with several lines, each of which was made by [`Finding`] or has no text from elsewhere.
pub fn notes(text: &str) {
    complain(&(signs::lines(text) + "\n")).unwrap_or(());
}

/// Prints a question on standard error; the caller reads the answer.
///
/// # Errors
///
/// When standard error cannot be written.
pub fn ask(question: &str) -> io::Result<()> {
    complain(&signs::line(question))
}

fn complain(text: &str) -> io::Result<()> {
    let mut err = io::stderr().lock();
    err.write_all(text.as_bytes())?;
    err.flush()
}

/// A problem as one to four lines: `place: CODE message`, the source line with its carets, the hint.
pub struct Finding<'a> {
    /// File, line and column, or a row.
    pub place: &'a str,
    /// Stable.
    pub code: &'a str,
    /// The message.
    pub message: &'a str,
    /// The source line and its carets.
    pub excerpt: Option<&'a str>,
    /// How to correct it.
    pub hint: Option<&'a str>,
}

impl Finding<'_> {
    /// Its lines without the last line feed. No part of it can look like a line of its own.
    #[must_use]
    pub fn lines(&self) -> String {
        let (place, message) = (signs::line(self.place), signs::line(self.message));
        let mut out = format!("{place}: {} {message}", self.code);
        if let Some(excerpt) = self.excerpt {
            out += "\n";
            out += excerpt;
        }
        if let Some(hint) = self.hint {
            out += "\n  help: ";
            out += &signs::line(hint);
        }
        out
    }
}

/// An object with sorted keys that may contain JSON from elsewhere unchanged.
#[derive(Debug, Serialize)]
pub struct Object(BTreeMap<String, JsonField>);

impl FromIterator<(&'static str, Value)> for Object {
    fn from_iter<I: IntoIterator<Item = (&'static str, Value)>>(pairs: I) -> Self {
        let pairs = pairs.into_iter();
        Self(
            pairs
                .map(|(key, value)| (key.to_owned(), JsonField::Value(value)))
                .collect(),
        )
    }
}

impl Object {
    /// The pairs of an object in which payloads and results are JSON from elsewhere.
    #[must_use]
    pub fn of_serialized(value: &impl Serialize) -> Self {
        const FROM_ELSEWHERE: [&str; 2] = ["payload", "result"];
        let text = serde_json::to_string(value).unwrap_or_default();
        let pairs: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&text).unwrap_or_default();
        let field = |(key, raw): (String, Box<RawValue>)| {
            // A text is shown as text, so that only other JSON is taken as it is written.
            let other = !raw.get().starts_with('"') && raw.get() != "null";
            let field = match other && FROM_ELSEWHERE.contains(&key.as_str()) {
                true => JsonField::Raw(raw),
                false => JsonField::Value(serde_json::from_str(raw.get()).unwrap_or_default()),
            };
            (key, field)
        };
        Self(pairs.into_iter().map(field).collect())
    }

    /// The pairs of an object; none of any other value.
    #[must_use]
    pub fn of(value: Value) -> Self {
        let pairs = match value {
            Value::Object(pairs) => pairs
                .into_iter()
                .map(|(key, value)| (key, JsonField::Value(value)))
                .collect(),
            _ => BTreeMap::new(),
        };
        Self(pairs)
    }

    /// With the pairs of another object; of two of one name the later one counts.
    #[must_use]
    pub fn and(mut self, value: Value) -> Self {
        self.0.append(&mut Self::of(value).0);
        self
    }

    /// With one more pair.
    #[must_use]
    pub fn with(mut self, key: &str, field: JsonField) -> Self {
        self.0.insert(key.to_owned(), field);
        self
    }

    /// Its pairs.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &JsonField)> {
        self.0.iter().map(|(key, field)| (key.as_str(), field))
    }
}

/// Rows under a heading, in columns as wide as their widest cell.
#[must_use]
pub fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    columns_of(heading, rows, WIDEST_LAST)
}

/// The details of one item, one name and value a line, under `heading`: its kind and its name.
#[must_use]
pub fn facts(heading: [&str; 2], rows: &[Vec<String>]) -> String {
    columns_of(&heading, rows, WIDEST_VALUE)
}

/// Text of several lines under a heading, indented, so that none of them can look like one of this program's.
#[must_use]
pub fn block(heading: &str, text: &str) -> String {
    let mut out = format!("\n{heading}\n");
    for line in text.trim_end().lines() {
        out.push_str(format!("  {line}").trim_end());
        out.push('\n');
    }
    out
}

fn columns_of(heading: &[&str], rows: &[Vec<String>], widest_last: usize) -> String {
    let last = heading.len().saturating_sub(1);
    let clean = |row: &Vec<String>| -> Vec<String> {
        let widest = |at| match heading.get(at) {
            Some(name) if WHOLE.contains(name) => WIDEST_VALUE,
            _ if at == last => widest_last,
            _ => WIDEST_CELL,
        };
        row.iter()
            .enumerate()
            .map(|(at, text)| cell(text, widest(at)))
            .collect()
    };
    let clean: Vec<Vec<String>> = rows.iter().map(clean).collect();
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

/// A cell without control characters, cut to `widest` columns.
fn cell(text: &str, widest: usize) -> String {
    let mut out = String::new();
    let mut used = 0;
    for c in signs::line(text.trim_end()).chars() {
        used += columns(c);
        if used > widest {
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

/// An instant as RFC 3339 with the offset of the zone, or `null`.
#[must_use]
pub fn maybe(at: Option<Timestamp>, zone: &TimeZone) -> Value {
    at.map_or(Value::Null, |at| json!(instant(at, zone)))
}

/// How long something took, to the millisecond.
#[must_use]
pub fn took(length: Duration) -> String {
    let millis = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    runner_core::duration::format(Duration::from_millis(millis))
}

/// A value in which each instant under one of these keys is written as by [`instant`].
#[must_use]
pub fn with_moments(value: Value, keys: &[&str], zone: &TimeZone) -> Value {
    match value {
        Value::Array(list) => list.into_iter().map(|one| with_moments(one, keys, zone)).collect(),
        Value::Object(map) => {
            let of = |(key, value): (String, Value)| {
                let moment = value.as_str().filter(|_| keys.contains(&key.as_str()));
                let value = match moment.and_then(|text| text.parse().ok()) {
                    Some(at) => json!(instant(at, zone)),
                    None => with_moments(value, keys, zone),
                };
                (key, value)
            };
            Value::Object(map.into_iter().map(of).collect())
        }
        other => other,
    }
}

/// This many tasks, in words.
pub(super) fn task_count(tasks: u64) -> String {
    counted(tasks, "task")
}

/// A number and what it counts.
pub(super) fn counted<N: fmt::Display + PartialEq + From<u8>>(count: N, word: &str) -> String {
    let plural = if count == N::from(1) { "" } else { "s" };
    format!("{count} {word}{plural}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn moments_are_written_in_the_zone_under_the_keys_that_are_named() {
        let zone = TimeZone::fixed(jiff::tz::offset(8));
        let value =
            json!({"a": [{"at": "2026-01-01T00:00:00.123456789Z", "id": "2026-01-01T00:00:00Z"}], "at": "soon"});
        let expected =
            json!({"a": [{"at": "2026-01-01T08:00:00.123+08:00", "id": "2026-01-01T00:00:00Z"}], "at": "soon"});
        assert_eq!(with_moments(value, &["at"], &zone), expected);
    }

    #[test]
    fn columns_line_up_and_nothing_steers_the_terminal() {
        let rows = vec![
            vec!["每日".to_owned(), "1".to_owned()],
            vec!["a\x1b[31m\n".to_owned(), String::new()],
        ];
        assert_eq!(table(&["NAME", "N"], &rows), "NAME    N\n每日    1\na␛[31m  -\n");
    }

    #[test]
    fn what_another_command_takes_is_never_cut() {
        let long = "m:monthly:default@manual-".to_owned() + &"7".repeat(WIDEST_LAST);
        for name in ["ID", "TASK", "RUN", "TYPE", "QUEUE", "GROUP"] {
            let first = table(&[name, "ERROR"], &[vec![long.clone(), "e".to_owned()]]);
            let last = table(&["AT", name], &[vec!["1".to_owned(), long.clone()]]);
            assert!(first.contains(&long) && last.contains(&long), "{name}: {first}{last}");
        }
        let text = table(&["SPEC", "ERROR"], &[vec![long.clone(), "e".to_owned()]]);
        assert!(text.contains('…') && !text.contains(&long), "{text}");
    }

    #[test]
    fn values_of_one_thing_are_whole_and_blocks_are_indented() {
        let long = "x".repeat(WIDEST_LAST + 1);
        let rows = [vec!["error".to_owned(), long.clone()]];
        assert_eq!(facts(["TASK", "a"], &rows), format!("TASK   a\nerror  {long}\n"));
        assert!(table(&["TASK", "a"], &rows).ends_with(&format!("{}…\n", "x".repeat(WIDEST_LAST))));
        assert_eq!(block("OUTPUT", "a\n\n b\n\n"), "\nOUTPUT\n  a\n\n   b\n");
    }

    #[test]
    fn a_part_of_a_finding_cannot_look_like_a_line() {
        let finding = Finding {
            place: "a\nb.yaml:1",
            code: "E100",
            message: "x\ny",
            excerpt: Some("  1 | z\n    | ^"),
            hint: Some("p\u{1b}q"),
        };
        assert_eq!(finding.lines(), "a␊b.yaml:1: E100 x␊y\n  1 | z\n    | ^\n  help: p␛q");
    }
}
