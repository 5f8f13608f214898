//! One mapping of the file, read key by key: each read converts, checks bounds and reports what is wrong.
//!
//! A key is known because somebody asked for it; [`Section::finish`] reports the others. Nothing stops at the
//! first fault, so a person sees all of them at once.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use runner_core::duration;

use super::document::{Entry, SettingNode, SettingValue};
use super::environment::{Environment, interpolate};
use super::forms;
use super::reader::{Located, Reader, SettingPlace};
use super::secret::Secret;
use crate::text::nearest;
use crate::text::yaml::Mark;

/// A mapping, or the absence of one: reads of an absent section find only overrides.
pub struct Section<'a> {
    reader: &'a Reader<'a>,
    path: String,
    entries: Option<&'a [Entry]>,
    at: Mark,
    /// The variable that holds all of it, instead of the file.
    held_by: Option<&'a str>,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    /// The whole file.
    #[must_use]
    pub fn root(reader: &'a Reader<'a>, node: &'a SettingNode) -> Self {
        Self::of(reader, String::new(), Some(node), None)
    }

    fn of(reader: &'a Reader<'a>, path: String, node: Option<&'a SettingNode>, held_by: Option<&'a str>) -> Self {
        let at = node.map_or(Mark::START, |n| n.at);
        let entries: Option<&'a [Entry]> = match node.map(|n| &n.value) {
            None => None,
            Some(SettingValue::Null) => Some(&[]),
            Some(SettingValue::Map(entries)) => Some(entries),
            Some(other) => {
                let what = if path.is_empty() { "the file" } else { &path };
                let message = format!("{what} must be a mapping, not {}", shape(other));
                reader.error("CFG_TYPE", &placed(held_by, at), message);
                Some(&[])
            }
        };
        Self {
            reader,
            path,
            entries,
            at,
            held_by,
            asked: RefCell::default(),
        }
    }

    /// What is shared.
    #[must_use]
    pub fn reader(&self) -> &'a Reader<'a> {
        self.reader
    }

    /// Where the section begins.
    #[must_use]
    pub fn place(&self) -> SettingPlace {
        self.placed(self.at)
    }

    fn placed(&self, at: Mark) -> SettingPlace {
        placed(self.held_by, at)
    }

    /// Whether the file has this section, even an empty one.
    #[must_use]
    pub fn written(&self) -> bool {
        self.entries.is_some()
    }

    /// The section under `key`.
    #[must_use]
    pub fn section(&self, key: &'static str) -> Section<'a> {
        let node = self.entry(key, true).map(|e| &e.node);
        Section::of(self.reader, self.path_of(key), node, self.held_by)
    }

    /// The elements of the list of mappings under `key`; an override is the same list as JSON.
    #[must_use]
    pub fn sections(&self, key: &'static str) -> Vec<Section<'a>> {
        let entry = self.entry(key, true);
        let reader = self.reader;
        let held = reader.list.get_or_init(|| self.tree(key)).as_ref();
        let (node, held_by) = match held {
            Some((name, node)) => (Some(node), Some(name.as_str())),
            None => (entry.map(|e| &e.node), self.held_by),
        };
        match node {
            None => Vec::new(),
            Some(SettingNode {
                value: SettingValue::Null,
                ..
            }) => Vec::new(),
            Some(SettingNode {
                value: SettingValue::List(nodes),
                ..
            }) => nodes
                .iter()
                .enumerate()
                .map(|(i, n)| Section::of(reader, format!("{}[{i}]", self.path_of(key)), Some(n), held_by))
                .collect(),
            Some(SettingNode { value, at }) => {
                let message = format!("{} must be a list of mappings, not {}", self.path_of(key), shape(value));
                reader.error("CFG_TYPE", &placed(held_by, *at), message);
                Vec::new()
            }
        }
    }

    /// What the variable of `key` says as JSON.
    fn tree(&self, key: &str) -> Option<(String, SettingNode)> {
        let mut found = self.variable(key)?;
        // A reference to all of it; those within are resolved where they stand.
        if found.value.trim_start().starts_with("${") {
            found = self.resolved(&found.value, found.place)?;
        }
        let SettingPlace::Variable(name) = &found.place else {
            return None;
        };
        match forms::tree(&found.value) {
            Ok(node) => Some((name.clone(), node)),
            Err(why) => {
                self.malformed(
                    key,
                    &found.place,
                    &why,
                    r#"a list of mappings as JSON: [{"name": "ann", …}]"#,
                );
                None
            }
        }
    }

    fn malformed(&self, key: &str, place: &SettingPlace, why: &str, hint: &str) {
        let message = format!("{} {why}", self.path_of(key));
        self.reader.error_hint("CFG_SYNTAX", place, message, hint);
    }

    /// The dotted path of `key`.
    #[must_use]
    pub fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// Takes note that `key` exists and whether its value may be shown, and finds it in the file.
    fn entry(&self, key: &'static str, may_show: bool) -> Option<&'a Entry> {
        self.asked.borrow_mut().push(key);
        // A key that holds a secret in one section is not shown in any.
        let mut keys = self.reader.keys.borrow_mut();
        let shown = keys.entry(key).or_insert(may_show);
        *shown &= may_show;
        self.entries?.iter().find(|e| e.key == key)
    }

    /// The scalar under `key`: the override, or else the file's with references resolved.
    #[must_use]
    pub fn text(&self, key: &'static str) -> Option<Located<String>> {
        self.scalar(key, true)
    }

    /// The path under `key`; one of the file that is relative begins at the directory of the file, one of a variable
    /// at the working directory.
    #[must_use]
    pub fn path(&self, key: &'static str) -> Option<Located<PathBuf>> {
        let Located { value, place } = self.text(key)?;
        let value = match place {
            // What is blank stays so, to be refused.
            SettingPlace::File(_) if !value.trim().is_empty() => self.beside(&value),
            SettingPlace::File(_) => PathBuf::from(value),
            SettingPlace::Variable(_) => PathBuf::from(value),
        };
        Some(Located { value, place })
    }

    /// A path as if it stood in the file.
    #[must_use]
    pub fn beside(&self, path: impl AsRef<Path>) -> PathBuf {
        self.reader.environment.base().join(path)
    }

    fn scalar(&self, key: &'static str, may_show: bool) -> Option<Located<String>> {
        let entry = self.entry(key, may_show);
        if let Some(found) = self.variable(key) {
            return self.resolved(&found.value, found.place);
        }
        let node = &entry?.node;
        match &node.value {
            SettingValue::Null => None,
            SettingValue::Text(text) => self.resolved(text, self.placed(node.at)),
            _ => {
                self.wrong(key, node, "a single value");
                None
            }
        }
    }

    /// The override of `key` as it is written, if there is one.
    #[must_use]
    pub fn variable(&self, key: &str) -> Option<Located<String>> {
        // Elements of lists have no variables of their own.
        if self.path.contains('[') {
            return None;
        }
        let path = self.path_of(key);
        let found = self.reader.environment.override_of(&path);
        self.reader.paths.borrow_mut().push(path);
        let (name, value) = found?;
        Some(Located {
            value: value.to_owned(),
            place: SettingPlace::Variable(name),
        })
    }

    /// What paths in references begin at: in the file its directory, in a variable the working directory.
    fn environment_of(&self, place: &SettingPlace) -> Cow<'a, Environment> {
        match place {
            SettingPlace::File(_) => Cow::Borrowed(self.reader.environment),
            SettingPlace::Variable(_) => Cow::Owned(self.reader.environment.beside(PathBuf::new())),
        }
    }

    fn resolved(&self, text: &str, place: SettingPlace) -> Option<Located<String>> {
        if !text.contains("${") {
            let value = text.to_owned();
            return Some(Located { value, place });
        }
        match interpolate(text, &self.environment_of(&place)) {
            Ok(value) => Some(Located { value, place }),
            Err(message) => {
                let hint = "write ${env:NAME} or ${file:PATH}, or $${ for a plain ${";
                self.reader.error_hint("CFG_REFERENCE", &place, message, hint);
                None
            }
        }
    }

    /// Text that must not be shown.
    #[must_use]
    pub fn secret(&self, key: &'static str) -> Option<Located<Secret>> {
        let written = self.entries.and_then(|es| es.iter().find(|e| e.key == key));
        if let Some(SettingValue::Text(text)) = written.map(|e| &e.node.value)
            && !text.is_empty()
            && !text.contains("${")
            && !(key == "url" && is_without_login(text))
            && self.held_by.is_none()
        {
            self.reader.secrets.set(true);
        }
        self.reference(key, false)
    }

    /// A secret that is read again where it is used. For a command that may never use it a reference that leads nowhere
    /// is no finding: whoever uses it is told.
    #[must_use]
    pub fn late_secret(&self, key: &'static str) -> Option<Located<Secret>> {
        if !self.reader.for_command {
            return self.secret(key);
        }
        let late = self.as_written(key).and_then(|Located { value, place }| {
            let environment = self.environment_of(&place);
            interpolate(&value, &environment).is_err().then(|| Located {
                value: Secret::of_reference(String::new(), &value, &environment),
                place,
            })
        });
        match late {
            // Asked for nevertheless, so that its key is known.
            Some(late) => self.reader.without_findings(|| self.secret(key)).or(Some(late)),
            None => self.secret(key),
        }
    }

    /// The override of `key`, or else the text in the file, with its references.
    fn as_written(&self, key: &str) -> Option<Located<String>> {
        if let Some(found) = self.variable(key) {
            return Some(found);
        }
        let node = &self.entries?.iter().find(|e| e.key == key)?.node;
        match &node.value {
            SettingValue::Text(text) => Some(Located {
                value: text.clone(),
                place: self.placed(node.at),
            }),
            _ => None,
        }
    }

    /// Text that may refer to files, to be read again when it is used.
    #[must_use]
    pub fn reference(&self, key: &'static str, may_show: bool) -> Option<Located<Secret>> {
        let Located { value, place } = self.scalar(key, may_show)?;
        let written = self.as_written(key).map(|found| found.value);
        let value = match written.filter(|text| text.contains("${")) {
            Some(written) => Secret::of_reference(value, &written, &self.environment_of(&place)),
            None => Secret::new(value),
        };
        Some(Located { value, place })
    }

    /// `true` or `false`; `on`, `off`, `yes`, `no` are refused, because YAML's versions disagree on them.
    #[must_use]
    pub fn flag(&self, key: &'static str) -> Option<bool> {
        self.choice(key, &[("true", true), ("false", false)])
    }

    /// A whole number within bounds.
    #[must_use]
    pub fn number<N: FromStr + PartialOrd + Display>(&self, key: &'static str, bounds: RangeInclusive<N>) -> Option<N> {
        let found = self.text(key)?;
        match found.value.trim().parse::<N>() {
            Ok(number) if bounds.contains(&number) => Some(number),
            _ => {
                let message = format!(
                    "{} must be a whole number from {} to {}, not {:?}",
                    self.path_of(key),
                    bounds.start(),
                    bounds.end(),
                    found.value
                );
                self.reader.error("CFG_RANGE", &found.place, message);
                None
            }
        }
    }

    /// A duration such as `10s`, `1h30m`, within bounds.
    #[must_use]
    pub fn duration(&self, key: &'static str, bounds: RangeInclusive<Duration>) -> Option<Duration> {
        let found = self.text(key)?;
        let message = match duration::parse(found.value.trim()) {
            Ok(length) if bounds.contains(&length) => return Some(length),
            Ok(_) => format!(
                "{} must be from {} to {}, not {}",
                self.path_of(key),
                duration::format(*bounds.start()),
                duration::format(*bounds.end()),
                found.value
            ),
            Err(error) => format!("{} is not a duration: {error}", self.path_of(key)),
        };
        self.reader
            .error_hint("CFG_RANGE", &found.place, message, "for example 10s, 5m, 1h30m");
        None
    }

    /// One of a few words, in any case of letters.
    #[must_use]
    pub fn choice<T: Copy>(&self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let found = self.text(key)?;
        let wanted = found.value.trim().to_lowercase();
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == wanted) {
            return Some(*value);
        }
        let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let message = format!(
            "{} must be one of {}, not {:?}",
            self.path_of(key),
            all.join(", "),
            found.value
        );
        self.reader.error("CFG_VALUE", &found.place, message);
        None
    }

    /// A list of texts; an override separates them by commas, or is a list as JSON.
    #[must_use]
    pub fn list(&self, key: &'static str) -> Option<Vec<Located<String>>> {
        let entry = self.entry(key, true);
        if let Some(found) = self.variable(key) {
            let Located { value, place } = self.resolved(&found.value, found.place)?;
            let texts = forms::list(&value)
                .map_err(|why| self.malformed(key, &place, &why, r#"write a,b or ["a","b"]"#))
                .ok()?;
            let found = |value| Located {
                value,
                place: place.clone(),
            };
            return Some(texts.into_iter().map(found).collect());
        }
        let node = &entry?.node;
        let items = match &node.value {
            SettingValue::Null => return None,
            SettingValue::List(items) => items,
            _ => {
                self.wrong(key, node, "a list");
                return None;
            }
        };
        let mut texts = Vec::new();
        for item in items {
            match &item.value {
                SettingValue::Text(text) => texts.extend(self.resolved(text, self.placed(item.at))),
                _ => self.wrong(key, item, "a list of single values"),
            }
        }
        Some(texts)
    }

    /// The same without their places.
    #[must_use]
    pub fn texts(&self, key: &'static str) -> Option<Vec<String>> {
        let found = self.list(key)?;
        Some(found.into_iter().map(|text| text.value).collect())
    }

    /// Names with numbers; an override writes `a=6,b=3`, or a mapping as JSON.
    #[must_use]
    pub fn weights(&self, key: &'static str, bounds: RangeInclusive<u32>) -> Option<Vec<(Located<String>, u32)>> {
        let entry = self.entry(key, true);
        let mut pairs: Vec<(Located<String>, String)> = Vec::new();
        if let Some(found) = self.variable(key) {
            let Located { value, place } = self.resolved(&found.value, found.place)?;
            let read = forms::weights(&value)
                .map_err(|why| self.malformed(key, &place, &why, r#"write a=6,b=3 or {"a":6,"b":3}"#))
                .ok()?;
            let found = |value| Located {
                value,
                place: place.clone(),
            };
            pairs.extend(read.into_iter().map(|(name, weight)| (found(name), weight)));
        } else {
            let node = &entry?.node;
            let SettingValue::Map(entries) = &node.value else {
                self.wrong(key, node, "a mapping of names to numbers");
                return None;
            };
            for entry in entries {
                let place = self.placed(entry.at);
                let value = entry.key.clone();
                match &entry.node.value {
                    SettingValue::Text(text) => pairs.push((Located { value, place }, text.clone())),
                    _ => self.wrong(key, &entry.node, "a mapping of names to numbers"),
                }
            }
        }
        let mut weights = Vec::new();
        for (name, weight) in pairs {
            match weight.parse::<u32>() {
                Ok(number) if bounds.contains(&number) => weights.push((name, number)),
                _ => self.reader.error(
                    "CFG_RANGE",
                    &name.place,
                    format!(
                        "the weight of {:?} in {} must be a whole number from {} to {}, not {weight:?}",
                        name.value,
                        self.path_of(key),
                        bounds.start(),
                        bounds.end()
                    ),
                ),
            }
        }
        Some(weights)
    }

    /// Accepts a key of the Go service that has no effect here, with a note that says so.
    pub fn legacy(&self, key: &'static str, note: &str) {
        let written = self.entry(key, true).map(|entry| self.placed(entry.at));
        let variable = self.variable(key).map(|found| found.place);
        for place in written.into_iter().chain(variable) {
            let message = format!("{} is accepted and has no effect: {note}", self.path_of(key));
            self.reader.warning("CFG_LEGACY", &place, message, None);
        }
    }

    /// Where `key` stands in the file, if it does.
    #[must_use]
    pub fn place_of(&self, key: &str) -> Option<SettingPlace> {
        let entry = self.entries?.iter().find(|e| e.key == key)?;
        Some(self.placed(entry.at))
    }

    /// Reports every key that nobody asked for.
    pub fn finish(self) {
        let asked = self.asked.take();
        for entry in self.entries.unwrap_or_default() {
            if asked.contains(&entry.key.as_str()) {
                continue;
            }
            let place = self.placed(entry.at);
            let within = if self.path.is_empty() {
                String::new()
            } else {
                format!(" in {}", self.path)
            };
            let message = format!("unknown key {:?}{within}", entry.key);
            let hint = match nearest(&entry.key, asked.iter().copied()) {
                Some(meant) => format!("did you mean {meant:?}?"),
                None => format!("known here: {}", asked.join(", ")),
            };
            self.reader.error_hint("CFG_UNKNOWN", &place, message, hint);
        }
    }

    fn wrong(&self, key: &str, node: &SettingNode, expected: &str) {
        let message = format!("{} must be {expected}, not {}", self.path_of(key), shape(&node.value));
        self.reader.error("CFG_TYPE", &self.placed(node.at), message);
    }
}

fn placed(held_by: Option<&str>, at: Mark) -> SettingPlace {
    held_by.map_or(SettingPlace::File(at), |name| SettingPlace::Variable(name.to_owned()))
}

fn shape(value: &SettingValue) -> &'static str {
    match value {
        SettingValue::Null => "nothing",
        SettingValue::Text(_) => "a single value",
        SettingValue::List(_) => "a list",
        SettingValue::Map(_) => "a mapping",
    }
}

/// Whether a URL names nobody, and so holds no password.
fn is_without_login(url: &str) -> bool {
    !url.contains('@') && !url.to_lowercase().contains("password")
}
