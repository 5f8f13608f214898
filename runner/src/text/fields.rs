//! The fields of one YAML map: each known, given once, and of the expected type.
//!
//! Readers report and return `None`; reading does not stop at the first error.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::checks::{self, Mismatch, must_be};
use super::report::Report;
use super::yaml::{Mark, Node, Value};
use super::{nearest, one_of, quoted};

/// One field of a map.
#[derive(Debug, Clone)]
pub struct Field<'a> {
    /// From the top of the document: `schedule.cron`.
    pub path: String,
    /// The place of the key.
    pub key: Mark,
    /// Its value.
    pub node: &'a Node,
}

/// The fields of a map.
#[derive(Debug)]
pub struct Fields<'a> {
    /// Where the map begins.
    pub mark: Mark,
    entries: Vec<(&'a str, Field<'a>)>,
}

impl<'a> Fields<'a> {
    /// Reads a map whose keys must be among `known`; reports every key that is not, and every duplicate.
    ///
    /// Unknown keys are left out, so that one misspelling gives one error. `None` if it is not a map at all.
    pub fn read(node: &'a Node, path: &str, known: &[&str], report: &mut Report<'_>) -> Option<Self> {
        let mut fields = Self::all(node, path, report)?;
        fields.refuse_unknown(path, known, report);
        fields.entries.retain(|(name, _)| known.contains(name));
        Some(fields)
    }

    /// Reads a map with any keys, each once; [`Self::refuse_unknown`] checks them when all known keys are known.
    pub fn all(node: &'a Node, path: &str, report: &mut Report<'_>) -> Option<Self> {
        let codes = report.codes();
        let Value::Map(map) = &node.value else {
            let what = if path.is_empty() { "the document" } else { path };
            let text = must_be(what, "a map", &report.found(&node.value));
            report.error(codes.shape, node.mark, text);
            return None;
        };
        let mut entries: Vec<(&str, Field<'_>)> = Vec::with_capacity(map.len());
        for (key, value) in map {
            let Value::Text(name) = &key.value else {
                let text = must_be("a key", "a string", &report.found(&key.value));
                report.error(codes.key, key.mark, text);
                continue;
            };
            if let Some((_, first)) = entries.iter().find(|(n, _)| n == name) {
                duplicate(name, first.key, key.mark, report);
                continue;
            }
            let path = match path {
                "" => name.clone(),
                path => format!("{path}.{name}"),
            };
            let (key, node) = (key.mark, value);
            entries.push((name, Field { path, key, node }));
        }
        Some(Self {
            mark: node.mark,
            entries,
        })
    }

    /// A map of one field, which was written without its key.
    #[must_use]
    pub fn of_one(name: &'a str, path: &str, key: Mark, node: &'a Node) -> Self {
        let path = format!("{path}.{name}");
        Self {
            mark: node.mark,
            entries: vec![(name, Field { path, key, node })],
        }
    }

    /// Reports every key that is not among `known`.
    pub fn refuse_unknown(&self, path: &str, known: &[&str], report: &mut Report<'_>) {
        for (name, field) in &self.entries {
            if !known.contains(name) {
                unknown(name, path, field.key, known, report);
            }
        }
    }

    /// The field, if it exists; an empty one is reported and counts as absent.
    pub fn get(&self, name: &str, report: &mut Report<'_>) -> Option<&Field<'a>> {
        let field = self.peek(name)?;
        if field.node.value == Value::Null {
            let text = format!("{} is empty; give it a value or remove it", field.path);
            report.error(report.codes().empty, field.key, text);
            return None;
        }
        Some(field)
    }

    /// All of them, by name, as they are written.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &Field<'a>)> {
        self.entries.iter().map(|(name, field)| (*name, field))
    }

    /// The field, if it exists, empty or not.
    #[must_use]
    pub fn peek(&self, name: &str) -> Option<&Field<'a>> {
        self.entries.iter().find(|(n, _)| *n == name).map(|(_, f)| f)
    }
}

fn duplicate(name: &str, first: Mark, mark: Mark, report: &mut Report<'_>) {
    let text = format!("duplicate key {} (first in line {})", quoted(name), first.line);
    report.error(report.codes().duplicate, mark, text);
}

fn unknown(name: &str, path: &str, mark: Mark, known: &[&str], report: &mut Report<'_>) {
    let place = if path.is_empty() {
        String::new()
    } else {
        format!(" in {path}")
    };
    let text = format!("unknown key {}{place}", quoted(name));
    let likely = || nearest(name, known.iter().copied()).map(checks::meant);
    let hint = report.elsewhere(name, path).or_else(likely);
    let hint = hint.unwrap_or_else(|| {
        // A section that two readers look into names its keys twice.
        let mut once: Vec<&str> = Vec::with_capacity(known.len());
        for key in known {
            if !once.contains(key) {
                once.push(key);
            }
        }
        format!("known here: {}", once.join(", "))
    });
    report.error(report.codes().unknown, mark, text).hint = Some(hint);
}

impl<'a> Field<'a> {
    /// Reports that the value is not what is expected; always `None`.
    pub fn mismatch<T>(&self, code: &str, expected: &str, report: &mut Report<'_>) -> Option<T> {
        let text = must_be(&self.path, expected, &report.found(&self.node.value));
        report.error(code, self.node.mark, text);
        None
    }

    /// The value of a check, or its error.
    fn checked<T>(&self, code: &str, checked: Result<T, Mismatch>, report: &mut Report<'_>) -> Option<T> {
        let report_it = |wrong: Mismatch| report.error(code, self.node.mark, wrong.message).hint = wrong.hint;
        checked.map_err(report_it).ok()
    }

    /// A string that is not blank.
    pub fn text(&self, code: &str, report: &mut Report<'_>) -> Option<&'a str> {
        match &self.node.value {
            Value::Text(text) if text.trim().is_empty() => {
                let message = format!("{} must not be empty", self.path);
                report.error(code, self.node.mark, message);
                None
            }
            Value::Text(text) => Some(text),
            Value::Int(_) | Value::Float(_) | Value::Bool(_) => {
                self.mismatch::<()>(code, "a string", report);
                report.hint_last("put it in quotes");
                None
            }
            _ => self.mismatch(code, "a string", report),
        }
    }

    /// `true` or `false`.
    pub fn flag(&self, code: &str, report: &mut Report<'_>) -> Option<bool> {
        match self.node.value {
            Value::Bool(flag) => Some(flag),
            _ => self.mismatch(code, "true or false", report),
        }
    }

    /// A whole number within bounds.
    pub fn whole(&self, code: &str, bounds: RangeInclusive<u32>, report: &mut Report<'_>) -> Option<u32> {
        let number = match self.node.value {
            Value::Int(i) => u32::try_from(i).ok().filter(|n| bounds.contains(n)),
            _ => None,
        };
        number.or_else(|| self.mismatch(code, &checks::whole_number(&bounds), report))
    }

    /// A duration such as `90s`, `1h30m`, `7d`, within bounds, in whole seconds.
    pub fn seconds(&self, code: &str, bounds: RangeInclusive<Duration>, report: &mut Report<'_>) -> Option<Duration> {
        let text = match &self.node.value {
            Value::Text(text) => text.trim(),
            Value::Int(i) if *i > 0 => {
                let text = format!("{} needs a unit, found number {i}", self.path);
                report.error(code, self.node.mark, text).hint = Some(format!("write {i}s"));
                return None;
            }
            _ => return self.mismatch(code, "a duration such as 90s, 1h30m or 7d", report),
        };
        let span = self.checked(code, checks::span(&self.path, text, &bounds), report)?;
        if span.subsec_nanos() != 0 {
            let message = must_be(&self.path, "whole seconds", &quoted(text));
            report.error(code, self.node.mark, message);
            return None;
        }
        Some(span)
    }

    /// One of a few words.
    pub fn word<T: Copy>(&self, code: &str, words: &[(&str, T)], report: &mut Report<'_>) -> Option<T> {
        match &self.node.value {
            Value::Text(text) => self.checked(code, checks::choice(&self.path, text, words), report),
            _ => {
                let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
                self.mismatch(code, &one_of(&names), report)
            }
        }
    }

    /// A list of strings; a number or a flag in it must be quoted.
    pub fn texts(&self, code: &str, report: &mut Report<'_>) -> Option<Vec<String>> {
        let Value::List(items) = &self.node.value else {
            return self.mismatch(code, "a list of strings", report);
        };
        let before = report.errors();
        let mut texts = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            if let Value::Text(text) = &item.value {
                texts.push(text.clone());
                continue;
            }
            let text = format!(
                "{}[{index}] must be a string, found {}",
                self.path,
                item.value.describe()
            );
            report.error(code, item.mark, text).hint = Some("put it in quotes".to_owned());
        }
        (report.errors() == before).then_some(texts)
    }

    /// A map from strings to strings.
    pub fn text_map(&self, code: &str, report: &mut Report<'_>) -> Option<BTreeMap<String, String>> {
        let Value::Map(map) = &self.node.value else {
            return self.mismatch(code, "a map of strings", report);
        };
        let before = report.errors();
        let mut texts: BTreeMap<String, String> = BTreeMap::new();
        let mut seen: Vec<(&str, Mark)> = Vec::new();
        for (key, value) in map {
            match (&key.value, &value.value) {
                (Value::Text(k), Value::Text(v)) => {
                    if let Some((_, first)) = seen.iter().find(|(name, _)| name == k) {
                        duplicate(k, *first, key.mark, report);
                    }
                    seen.push((k, key.mark));
                    texts.insert(k.clone(), v.clone());
                }
                (Value::Text(k), other) => {
                    let text = format!("{}.{k} must be a string, found {}", self.path, other.describe());
                    report.error(code, value.mark, text).hint = Some("put it in quotes".to_owned());
                }
                (other, _) => {
                    let text = format!("a key of {} must be a string, found {}", self.path, other.describe());
                    report.error(code, key.mark, text).hint = Some("put it in quotes".to_owned());
                }
            }
        }
        (report.errors() == before).then_some(texts)
    }
}
