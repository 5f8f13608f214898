//! A row as its editor shows it: the payload without its options, the zone by itself. No I/O.
//!
//! What is not changed stays as it is written in the table, to the byte.

use runner_core::schedule::{Origin, Problem, Source};
use runner_core::task::from_json;
use sha2::{Digest as _, Sha256};

use super::store::RowValues;
use crate::source::table::payload::JsonText;
use crate::source::table::row::{OPTIONS_KEY, place};
use crate::source::table::store::{Cell, TableRow, Unread};
use crate::source::table::switch::is_on;
use crate::text::hex;

/// The option that has a field of its own.
const ZONE_KEY: &str = "timezone";

/// What can be edited of a row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowFields {
    /// The label.
    pub name: String,
    /// The task type.
    pub kind: String,
    /// The cron expression.
    pub spec: String,
    /// The zone by its IANA name; empty: none.
    pub zone: String,
    /// The payload without options; empty: none.
    pub payload: String,
    /// The options besides the zone as a JSON object; empty: none.
    pub options: String,
    /// On or off.
    pub enabled: bool,
}

/// A part of a row that a problem is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowField {
    /// The label.
    Name,
    /// The task type.
    Kind,
    /// The cron expression.
    Spec,
    /// The zone.
    Zone,
    /// The payload.
    Payload,
    /// The options.
    Options,
    /// On or off.
    Status,
    /// The row as a whole.
    Row,
}

impl RowField {
    /// The field that a problem of a row is about, by its code.
    #[must_use]
    pub fn of(problem: &Problem) -> Self {
        let column = |name: &str| problem.message.starts_with(&format!("column {name} "));
        match problem.code.as_str() {
            "D106" | "D116" if column("name") => Self::Name,
            "D106" | "D116" if column("type") => Self::Kind,
            "D106" | "D116" if column("spec") => Self::Spec,
            "D106" | "D116" if column("payload") => Self::Payload,
            "D119" => Self::Name,
            "D101" | "W210" | "W212" | "W213" => Self::Kind,
            "D102" => Self::Spec,
            "E210" | "E211" => Self::Zone,
            "D103" | "D105" | "D118" | "E154" | "W251" | "W253" | "W254" => Self::Payload,
            "D120" => Self::Options,
            "W252" => Self::Status,
            code if code.starts_with("E20") || code.starts_with("W23") => Self::Spec,
            code if code.starts_with("E1") || code.starts_with("E2") || code.starts_with("E3") => Self::Options,
            _ => Self::Row,
        }
    }

    /// Its name in forms and in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Kind => "type",
            Self::Spec => "spec",
            Self::Zone => "zone",
            Self::Payload => "payload",
            Self::Options => "options",
            Self::Status => "status",
            Self::Row => "row",
        }
    }
}

impl RowFields {
    /// The fields of a row. A payload that is not text, or too long to be read, is empty; see [`is_text`].
    #[must_use]
    pub fn of(row: &TableRow) -> Self {
        let text = |cell: &Cell| {
            cell.as_ref()
                .ok()
                .and_then(Option::as_deref)
                .unwrap_or_default()
                .to_owned()
        };
        let column = row.payload.as_ref().ok().and_then(Option::as_deref).unwrap_or_default();
        let column = std::str::from_utf8(column).unwrap_or_default();
        let (payload, zone, options) =
            split(column).unwrap_or_else(|| (column.to_owned(), String::new(), String::new()));
        Self {
            name: text(&row.name),
            kind: text(&row.kind),
            spec: text(&row.spec),
            zone,
            payload,
            options,
            enabled: is_on(&row.status),
        }
    }

    /// The columns that differ from those of `before`; of a new row all.
    ///
    /// # Errors
    ///
    /// Payload, zone and options cannot be in one column.
    pub fn values(&self, before: Option<&TableRow>) -> Result<RowValues, Vec<Problem>> {
        let old = before.map(Self::of);
        let changed = |of: fn(&Self) -> &String| {
            let new = of(self);
            old.as_ref().is_none_or(|old| !same(of(old), new)).then(|| new.clone())
        };
        let same_column = old.as_ref().is_some_and(|old| {
            same(&old.payload, &self.payload) && old.zone == self.zone.trim() && same(&old.options, &self.options)
        });
        let payload = match same_column {
            true => None,
            false => Some(self.column()?).map(|text| Some(text).filter(|text| !text.is_empty())),
        };
        Ok(RowValues {
            name: changed(|fields| &fields.name),
            kind: changed(|fields| &fields.kind),
            spec: changed(|fields| &fields.spec),
            payload,
            status: old
                .is_none_or(|old| old.enabled != self.enabled)
                .then_some(self.enabled),
        })
    }

    /// The text of the column `payload`.
    fn column(&self) -> Result<String, Vec<Problem>> {
        let (payload, zone, options) = (self.payload.trim(), self.zone.trim(), self.options.trim());
        if zone.is_empty() && options.is_empty() {
            return Ok(if payload.is_empty() {
                String::new()
            } else {
                self.payload.clone()
            });
        }
        let options = self.all_options(zone, options)?;
        if payload.is_empty() {
            return Ok(format!("{{\"{OPTIONS_KEY}\":{options}}}"));
        }
        let members = match from_json::<JsonText<'_>>(payload.as_bytes()) {
            Ok(JsonText::Object(members)) => members,
            Ok(JsonText::Other) | Err(_) => {
                let text = "a time zone and options are written into the payload, so it must be a JSON object or empty";
                return Err(vec![problem("D118", text)]);
            }
        };
        if members.iter().any(|(key, _)| key == OPTIONS_KEY) {
            let text = format!("the payload has a key {OPTIONS_KEY} already; write its content as options");
            return Err(vec![problem("D118", text)]);
        }
        let comma = if members.is_empty() { "" } else { ", " };
        let open = payload.strip_suffix('}').unwrap_or(payload).trim_end();
        Ok(format!("{open}{comma}\"{OPTIONS_KEY}\": {options}}}"))
    }

    /// The options with the zone among them.
    fn all_options(&self, zone: &str, options: &str) -> Result<String, Vec<Problem>> {
        let options = if options.is_empty() { "{}" } else { options };
        let members = match from_json::<JsonText<'_>>(options.as_bytes()) {
            Ok(JsonText::Object(members)) => members,
            Ok(JsonText::Other) => return Err(vec![problem("D120", "options must be a JSON object")]),
            Err(error) => return Err(vec![problem("D120", format!("options are not valid JSON: {error}"))]),
        };
        let mut written = Vec::new();
        if !zone.is_empty() {
            if members.iter().any(|(key, _)| key == ZONE_KEY) {
                let text = "the time zone is a field of its own and among the options; keep one";
                return Err(vec![problem("D120", text)]);
            }
            written.push(format!("\"{ZONE_KEY}\": {}", serde_json::Value::from(zone)));
        }
        let others = members.iter();
        written
            .extend(others.map(|(key, value)| format!("{}: {}", serde_json::Value::from(key.as_str()), value.get())));
        Ok(format!("{{{}}}", written.join(", ")))
    }
}

/// Whether two texts differ at most in how their lines end: forms of browsers send two characters for each end.
fn same(one: &str, other: &str) -> bool {
    one == other || one.replace("\r\n", "\n") == other.replace("\r\n", "\n")
}

/// Payload, zone and options of a column, if it has options.
fn split(column: &str) -> Option<(String, String, String)> {
    let Ok(JsonText::Object(members)) = from_json::<JsonText<'_>>(column.as_bytes()) else {
        return None;
    };
    let of_options = members.iter().filter(|(key, _)| key == OPTIONS_KEY);
    let [(_, options)] = of_options.collect::<Vec<_>>()[..] else {
        return None;
    };
    let Ok(JsonText::Object(options)) = from_json::<JsonText<'_>>(options.get().as_bytes()) else {
        return None;
    };
    let written = |members: Vec<&(String, &serde_json::value::RawValue)>| {
        let member = |(key, value): &&(String, &serde_json::value::RawValue)| {
            format!("{}: {}", serde_json::Value::from(key.as_str()), value.get())
        };
        let members: Vec<String> = members.iter().map(member).collect();
        match members.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", members.join(", ")),
        }
    };
    let zone = options.iter().filter(|(key, _)| key == ZONE_KEY);
    let zone = match zone.collect::<Vec<_>>()[..] {
        [] => String::new(),
        [(_, zone)] => serde_json::from_str(zone.get()).ok()?,
        _ => return None,
    };
    let payload = written(members.iter().filter(|(key, _)| key != OPTIONS_KEY).collect());
    let options = written(options.iter().filter(|(key, _)| key != ZONE_KEY).collect());
    Some((payload, zone, options))
}

/// A problem of fields that cannot become a row.
pub fn problem(code: &str, text: impl Into<String>) -> Problem {
    let origin = Origin {
        source: Source::Table,
        place: place(""),
    };
    Problem::error(code, text, origin)
}

/// Whether the payload of a row can be shown and edited as text.
#[must_use]
pub fn is_text(row: &TableRow) -> bool {
    let bytes = row
        .payload
        .as_ref()
        .map(|payload| payload.as_deref().unwrap_or_default());
    bytes.is_ok_and(|bytes| std::str::from_utf8(bytes).is_ok())
}

/// A text that changes whenever anything changes that is read of a row: 128 bits as hexadecimal digits.
#[must_use]
pub fn version(row: &TableRow) -> String {
    let mut hash = Sha256::new();
    let mut add = |part: &[u8], form: u8| {
        hash.update([form]);
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    };
    add(row.id.as_bytes(), 0);
    for cell in [&row.name, &row.kind, &row.spec, &row.status] {
        match cell {
            Ok(Some(text)) => add(text.as_bytes(), 0),
            Ok(None) => add(b"", 1),
            Err(unread) => add(unread_text(unread).as_bytes(), 2),
        }
    }
    match &row.payload {
        Ok(Some(bytes)) => add(bytes, 0),
        Ok(None) => add(b"", 1),
        Err(unread) => add(unread_text(unread).as_bytes(), 2),
    }
    let digest = hash.finalize();
    hex(digest.get(..16).unwrap_or_default())
}

fn unread_text(unread: &Unread) -> String {
    unread.to_string()
}
