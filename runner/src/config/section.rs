//! One map of the file, read key by key: each read converts, checks bounds and reports problems.
//!
//! A key is known once it was read; [`Section::finish`] reports the others. Reading does not stop at the first error,
//! so that all of them are reported at once.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::environment::{Environment, interpolate};
use super::forms;
use super::reader::{JsonVariable, Located, Reader, SettingPlace};
use super::secret::Secret;
use crate::text::checks::{self, must_be};
use crate::text::yaml::{Mark, Node, Value};
use crate::text::{Field, Fields, quoted};

/// A map, or the absence of one: reads of an absent section find only overrides.
pub struct Section<'a> {
    reader: &'a Reader<'a>,
    path: String,
    fields: Option<Fields<'a>>,
    written: bool,
    at: Mark,
    /// The variable that holds all of it, instead of the file.
    held: Option<&'a JsonVariable>,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    /// The whole file.
    #[must_use]
    pub fn root(reader: &'a Reader<'a>, node: &'a Node) -> Self {
        Self::of(reader, String::new(), Some(node), None)
    }

    fn of(reader: &'a Reader<'a>, path: String, node: Option<&'a Node>, held: Option<&'a JsonVariable>) -> Self {
        let read = |node: &&Node| node.value != Value::Null;
        let fields = node.filter(read).and_then(|node| {
            let mut report = reader.report.borrow_mut();
            report.about(held.map(JsonVariable::name), |report| Fields::all(node, &path, report))
        });
        Self {
            reader,
            path,
            fields,
            written: node.is_some(),
            at: node.map_or(Mark::START, |node| node.mark),
            held,
            asked: RefCell::default(),
        }
    }

    /// The shared state.
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
        let variable = |held: &JsonVariable| SettingPlace::Variable(held.name().to_owned());
        self.held.map_or(SettingPlace::File(at), variable)
    }

    /// The text that contains its values.
    fn text_of(&self, node: &Node) -> Option<String> {
        node.written(self.held.map_or_else(|| self.reader.text, JsonVariable::text))
    }

    /// Whether the file has this section, even an empty one.
    #[must_use]
    pub fn written(&self) -> bool {
        self.written
    }

    /// The section under `key`.
    #[must_use]
    pub fn section(&self, key: &'static str) -> Section<'a> {
        let node = self.entry(key, true).map(|field| field.node);
        Section::of(self.reader, self.path_of(key), node, self.held)
    }

    /// The elements of the list of maps under `key`, which is `users` or `tokens`; an override is the same list as JSON.
    #[must_use]
    pub fn sections(&self, key: &'static str) -> Vec<Section<'a>> {
        let entry = self.entry(key, true);
        let list = match key {
            "tokens" => &self.reader.tokens,
            _ => &self.reader.users,
        };
        let held = list.get_or_init(|| self.tree(key)).as_ref();
        let (node, held) = match held {
            Some(held) => (Some(held.node()), Some(held)),
            None => (entry.map(|field| field.node), self.held),
        };
        let path = self.path_of(key);
        match node.map(|node| (node, &node.value)) {
            None | Some((_, Value::Null)) => Vec::new(),
            Some((_, Value::List(nodes))) => {
                let nodes = nodes.iter().enumerate();
                nodes
                    .map(|(i, node)| Section::of(self.reader, format!("{path}[{i}]"), Some(node), held))
                    .collect()
            }
            Some((node, _)) => {
                let mut report = self.reader.report.borrow_mut();
                report.about(held.map(JsonVariable::name), |report| {
                    let message = must_be(&path, "a list of maps", &report.found(&node.value));
                    report.error("CFG_TYPE", node.mark, message);
                });
                Vec::new()
            }
        }
    }

    /// The sections under the free names of the map at `key`, in its order. A name with a single value has a section whose
    /// key `short` is that value.
    #[must_use]
    pub fn named(&self, key: &'static str, short: &'static str) -> Vec<(String, Section<'a>)> {
        let path = self.path_of(key);
        let node = self.entry(key, true).map(|field| field.node);
        if let Some(found) = self.variable(key) {
            let message = format!("{path} is a map of names, which no variable can hold");
            let hint = format!("write the map into the file, and ${{env:NAME}} as {short}");
            self.reader.error_hint("CFG_TYPE", &found.place, message, hint);
        }
        let entries = match node.map(|node| (node, &node.value)) {
            None | Some((_, Value::Null)) => return Vec::new(),
            Some((_, Value::Map(entries))) => entries,
            Some((node, _)) => {
                self.wrong(key, node, "a map of names");
                return Vec::new();
            }
        };
        let mut sections: Vec<(String, Section<'a>)> = Vec::new();
        for (name, node) in entries {
            let Some(text) = self.text_of(name).filter(|text| !text.trim().is_empty()) else {
                self.wrong(key, name, "a map of names");
                continue;
            };
            if sections.iter().any(|(known, _)| *known == text) {
                let message = format!("duplicate key {} in {path}", quoted(&text));
                self.reader.error("CFG_SYNTAX", &self.placed(name.mark), message);
                continue;
            }
            let path = format!("{path}.{text}");
            let mut section = Section::of(self.reader, path.clone(), None, self.held);
            (section.at, section.written) = (node.mark, true);
            section.fields = match &node.value {
                Value::Null => None,
                Value::Map(_) => {
                    let mut report = self.reader.report.borrow_mut();
                    Fields::all(node, &path, &mut report)
                }
                _ => Some(Fields::of_one(short, &path, name.mark, node)),
            };
            sections.push((text, section));
        }
        sections
    }

    /// The variable of `key` as JSON.
    fn tree(&self, key: &str) -> Option<JsonVariable> {
        let mut found = self.variable(key)?;
        // A reference to all of it; references within are resolved in place.
        if found.value.trim_start().starts_with("${") {
            found = self.resolved(&found.value, found.place)?;
        }
        let SettingPlace::Variable(name) = &found.place else {
            return None;
        };
        let node = forms::tree(&found.value).map_err(|why| {
            let hint = r#"a list of maps as JSON: [{"name": "ann", …}]"#;
            self.malformed(key, &found.place, &why, hint);
        });
        Some(JsonVariable::new(name.clone(), found.value, node.ok()?))
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

    /// Notes that `key` exists and whether its value may be shown, and finds it in the file.
    fn entry(&self, key: &'static str, may_show: bool) -> Option<&Field<'a>> {
        self.asked.borrow_mut().push(key);
        // A key that is secret in one section is shown in none.
        let mut keys = self.reader.keys.borrow_mut();
        let shown = keys.entry(key).or_insert(may_show);
        *shown &= may_show;
        self.field(key)
    }

    fn field(&self, key: &str) -> Option<&Field<'a>> {
        self.fields.as_ref()?.peek(key)
    }

    /// What the file has under `key`, for a reader of its own.
    #[must_use]
    pub fn node(&self, key: &'static str) -> Option<&'a Node> {
        self.entry(key, false).map(|field| field.node)
    }

    /// Whether `key` was read.
    #[must_use]
    pub fn has_read(&self, key: &str) -> bool {
        self.asked.borrow().contains(&key)
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
            // A blank path stays blank, to be refused.
            SettingPlace::File(_) if !value.trim().is_empty() => self.beside(&value),
            SettingPlace::File(_) => PathBuf::from(value),
            SettingPlace::Variable(_) => PathBuf::from(value),
        };
        Some(Located { value, place })
    }

    /// A path as if it were in the file.
    #[must_use]
    pub fn beside(&self, path: impl AsRef<Path>) -> PathBuf {
        self.reader.environment.base().join(path)
    }

    fn scalar(&self, key: &'static str, may_show: bool) -> Option<Located<String>> {
        let field = self.entry(key, may_show);
        if let Some(found) = self.variable(key) {
            return self.resolved(&found.value, found.place);
        }
        let node = field?.node;
        match (&node.value, self.text_of(node)) {
            (Value::Null, _) => None,
            (_, Some(text)) => self.resolved(&text, self.placed(node.mark)),
            (_, None) => {
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

    /// The directory that paths in references start from: in the file its directory, in a variable the working
    /// directory.
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
        let written = self.field(key).and_then(|field| self.text_of(field.node));
        if let Some(text) = written
            && !text.is_empty()
            && !text.contains("${")
            && !(key == "url" && is_without_login(&text))
            && self.held.is_none()
        {
            self.reader.secrets.set(true);
        }
        self.reference(key, false)
    }

    /// A secret that is read again where it is used. For a command that may never use it, a broken reference
    /// is not reported here but where the secret is used.
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
            // Read anyway, so that its key is known.
            Some(late) => self.reader.without_findings(|| self.secret(key)).or(Some(late)),
            None => self.secret(key),
        }
    }

    /// The override of `key`, or else the text in the file, with its references.
    fn as_written(&self, key: &str) -> Option<Located<String>> {
        self.variable(key).or_else(|| {
            let node = self.field(key)?.node;
            Some(Located {
                value: self.text_of(node)?,
                place: self.placed(node.mark),
            })
        })
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
        let number = found.value.trim().parse::<N>().ok();
        number.filter(|number| bounds.contains(number)).or_else(|| {
            let expected = checks::whole_number(&bounds);
            let message = must_be(&self.path_of(key), &expected, &quoted(&found.value));
            self.reader.error("CFG_RANGE", &found.place, message);
            None
        })
    }

    /// A duration such as `10s`, `1h30m`, within bounds.
    #[must_use]
    pub fn duration(&self, key: &'static str, bounds: RangeInclusive<Duration>) -> Option<Duration> {
        let found = self.text(key)?;
        let checked = checks::span(&self.path_of(key), found.value.trim(), &bounds);
        self.reader.checked("CFG_RANGE", &found.place, checked)
    }

    /// One of a few words, in any case of letters.
    #[must_use]
    pub fn choice<T: Copy>(&self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let found = self.text(key)?;
        let checked = checks::choice_in_any_case(&self.path_of(key), found.value.trim(), words);
        self.reader.checked("CFG_VALUE", &found.place, checked)
    }

    /// A list of texts; an override separates them by commas, or is a list as JSON.
    #[must_use]
    pub fn list(&self, key: &'static str) -> Option<Vec<Located<String>>> {
        let field = self.entry(key, true);
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
        let node = field?.node;
        let items = match &node.value {
            Value::Null => return None,
            Value::List(items) => items,
            _ => {
                self.wrong(key, node, "a list");
                return None;
            }
        };
        let mut texts = Vec::new();
        for item in items {
            match self.text_of(item) {
                Some(text) => texts.extend(self.resolved(&text, self.placed(item.mark))),
                None => self.wrong(key, item, "a list of single values"),
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

    /// Names with numbers; an override writes `a=6,b=3`, or a map as JSON.
    #[must_use]
    pub fn weights(&self, key: &'static str, bounds: RangeInclusive<u32>) -> Option<Vec<(Located<String>, u32)>> {
        let mut weights = Vec::new();
        for (name, weight) in self.pairs(key)? {
            match weight.parse::<u32>() {
                Ok(number) if bounds.contains(&number) => weights.push((name, number)),
                _ => {
                    let what = format!("the weight of {} in {}", quoted(&name.value), self.path_of(key));
                    let message = must_be(&what, &checks::whole_number(&bounds), &quoted(&weight));
                    self.reader.error("CFG_RANGE", &name.place, message);
                }
            }
        }
        Some(weights)
    }

    fn pairs(&self, key: &'static str) -> Option<Vec<(Located<String>, String)>> {
        const NAMES: &str = "a map of names to numbers";
        let field = self.entry(key, true);
        if let Some(found) = self.variable(key) {
            let Located { value, place } = self.resolved(&found.value, found.place)?;
            let read = forms::weights(&value)
                .map_err(|why| self.malformed(key, &place, &why, r#"write a=6,b=3 or {"a":6,"b":3}"#))
                .ok()?;
            let found = |value| Located {
                value,
                place: place.clone(),
            };
            return Some(read.into_iter().map(|(name, weight)| (found(name), weight)).collect());
        }
        let node = field?.node;
        let Value::Map(entries) = &node.value else {
            self.wrong(key, node, NAMES);
            return None;
        };
        let mut pairs: Vec<(Located<String>, String)> = Vec::new();
        for (name, weight) in entries {
            let (Some(value), Some(number)) = (self.text_of(name), self.text_of(weight)) else {
                self.wrong(key, weight, NAMES);
                continue;
            };
            let place = self.placed(name.mark);
            if pairs.iter().any(|(known, _)| known.value == value) {
                let message = format!("duplicate key {} in {}", quoted(&value), self.path_of(key));
                self.reader.error("CFG_SYNTAX", &place, message);
            }
            pairs.push((Located { value, place }, number));
        }
        Some(pairs)
    }

    /// Free names with texts that must not be shown, each to be read again where it is used; an override is the same map as
    /// JSON.
    #[must_use]
    pub fn secrets(&self, key: &'static str) -> Vec<(Located<String>, Secret)> {
        let field = self.entry(key, false);
        let held = self.tree(key);
        let node = match (&held, field) {
            (Some(held), _) => held.node(),
            (None, Some(field)) if field.node.value != Value::Null => field.node,
            (None, _) => return Vec::new(),
        };
        let placed = |mark| {
            held.as_ref().map_or_else(
                || self.placed(mark),
                |held| SettingPlace::Variable(held.name().to_owned()),
            )
        };
        let Value::Map(entries) = &node.value else {
            let message = must_be(&self.path_of(key), "a map of names to texts", node.value.shape());
            self.reader.error("CFG_TYPE", &placed(node.mark), message);
            return Vec::new();
        };
        let text = held.as_ref().map_or(self.reader.text, JsonVariable::text);
        let mut secrets: Vec<(Located<String>, Secret)> = Vec::new();
        for (name, value) in entries {
            let place = placed(name.mark);
            let (Some(name), Some(written)) = (name.written(text), value.written(text)) else {
                let message = must_be(&self.path_of(key), "a map of names to texts", value.value.shape());
                self.reader.error("CFG_TYPE", &place, message);
                continue;
            };
            if secrets.iter().any(|(known, _)| known.value == name) {
                let message = format!("duplicate key {} in {}", quoted(&name), self.path_of(key));
                self.reader.error("CFG_SYNTAX", &place, message);
            }
            let secret = match written.contains("${") {
                false => Some(Secret::new(written)),
                true => {
                    let environment = self.environment_of(&place);
                    // A command may never use it, and a missing file is reported where it does.
                    let now = match interpolate(&written, &environment) {
                        Ok(now) => Some(now),
                        Err(_) if self.reader.for_command => Some(String::new()),
                        Err(message) => {
                            let hint = "write ${env:NAME} or ${file:PATH}, or $${ for a plain ${";
                            self.reader.error_hint("CFG_REFERENCE", &place, message, hint);
                            None
                        }
                    };
                    now.map(|now| Secret::of_reference(now, &written, &environment))
                }
            };
            secrets.extend(secret.map(|secret| (Located { value: name, place }, secret)));
        }
        secrets
    }

    /// Accepts a key of the Go service that has no effect here, with a note that says so.
    pub fn legacy(&self, key: &'static str, note: &str) {
        let written = self.entry(key, true).map(|field| self.placed(field.key));
        let variable = self.variable(key).map(|found| found.place);
        for place in written.into_iter().chain(variable) {
            let message = format!("{} is accepted and has no effect: {note}", self.path_of(key));
            self.reader.warning("CFG_LEGACY", &place, message, None);
        }
    }

    /// The place of `key` in the file, if it is there.
    #[must_use]
    pub fn place_of(&self, key: &str) -> Option<SettingPlace> {
        self.field(key).map(|field| self.placed(field.key))
    }

    /// Reports every key that was not read.
    pub fn finish(self) {
        if let Some(fields) = &self.fields {
            let asked = self.asked.take();
            let mut report = self.reader.report.borrow_mut();
            report.about(self.held.map(JsonVariable::name), |report| {
                fields.refuse_unknown(&self.path, &asked, report);
            });
        }
    }

    fn wrong(&self, key: &str, node: &Node, expected: &str) {
        let message = must_be(&self.path_of(key), expected, node.value.shape());
        self.reader.error("CFG_TYPE", &self.placed(node.mark), message);
    }
}

/// Whether a URL has no user, and so holds no password.
fn is_without_login(url: &str) -> bool {
    !url.contains('@') && !url.to_lowercase().contains("password")
}
