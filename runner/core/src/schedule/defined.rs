//! What a definition says of its schedule, under the names that commands and pages use. Not its state, and not its payload.

use serde_json::{Value, json};

use super::Definition;

type Read = fn(&Definition) -> Value;

/// Each name with its value, in the order in which people read them.
const DEFINED: [(&str, Read); 11] = [
    ("id", |d| json!(d.id)),
    ("name", |d| json!(d.name)),
    ("description", |d| json!(d.description)),
    ("source", |d| json!(d.origin.source)),
    ("origin", |d| json!(d.origin.place)),
    ("spec", |d| json!(d.timing.text)),
    ("timezone", |d| json!(d.timing.zone_name)),
    ("type", |d| json!(d.task.kind)),
    ("queue", |d| json!(d.task.queue)),
    ("enabled", |d| json!(d.enabled)),
    ("overlap", |d| json!(d.overlap)),
];

/// The names alone, for a schedule that cannot be read.
pub fn defined_names() -> impl Iterator<Item = &'static str> {
    DEFINED.iter().map(|(name, _)| *name)
}

impl Definition {
    /// What it says of its schedule: names and values.
    pub fn pairs(&self) -> impl Iterator<Item = (&'static str, Value)> {
        DEFINED.iter().map(move |(name, read)| (*name, read(self)))
    }
}
