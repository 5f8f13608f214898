//! YAML text as a tree in which every value has a position. The only file that uses the YAML library.
//!
//! Strict: YAML 1.2 booleans, no merge keys, no unknown tags, and a budget for size, depth and aliases, so
//! that even a hostile text costs at most a few milliseconds. It does not know the purpose of a text.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Error, Location, Options, Spanned};

pub use super::mark::Mark;

/// The largest text that is parsed, in bytes; far more than anyone writes by hand.
pub const MAX_BYTES: usize = 256 * 1024;

/// The deepest nesting of lists and maps.
pub const MAX_DEPTH: usize = 32;

/// The most values in one text, after aliases are expanded.
pub const MAX_NODES: usize = 10_000;

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where its text begins; for an alias, where its anchor is.
    pub mark: Mark,
    /// What it is.
    pub value: Value,
}

/// A YAML value, by the core schema of YAML 1.2.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// `true` or `false`; `yes` and `on` are texts.
    Bool(bool),
    /// Any whole number that fits.
    Int(i128),
    /// Any other finite number.
    Float(f64),
    /// Any other scalar.
    Text(String),
    /// In the order written.
    List(Vec<Node>),
    /// In the order written, including duplicate keys.
    Map(Vec<(Node, Node)>),
}

impl Value {
    /// Its kind, without the content.
    #[must_use]
    pub fn shape(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
            Self::Bool(_) | Self::Int(_) | Self::Float(_) | Self::Text(_) => "a single value",
        }
    }

    /// Its description, to be read after "found".
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Bool(b) => b.to_string(),
            Self::Int(i) => format!("number {i}"),
            Self::Float(f) => format!("number {f}"),
            Self::Text(t) => super::quoted(t),
            Self::Null | Self::List(_) | Self::Map(_) => self.shape().to_owned(),
        }
    }
}

impl Node {
    /// A scalar's own characters in `text`, from which it was parsed: `012` keeps its zero, so that no password loses
    /// one. `None` if it is not a scalar.
    #[must_use]
    pub fn written(&self, text: &str) -> Option<String> {
        let read = match &self.value {
            Value::Text(text) => return Some(text.clone()),
            Value::Bool(flag) => flag.to_string(),
            Value::Int(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Null | Value::List(_) | Value::Map(_) => return None,
        };
        let line = super::mark::line_of(text, self.mark).unwrap_or_default();
        let after = line.chars().skip(self.mark.column.saturating_sub(1));
        let cut: String = after.take(self.mark.len).collect();
        let cut = cut.trim();
        // An alias or a tag has other text at this place.
        let clean = !cut.is_empty() && !cut.contains(|c: char| c.is_whitespace() || "&!*\"'".contains(c));
        Some(if clean { cut.to_owned() } else { read })
    }
}

/// Why a text is not accepted YAML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where, when that is known.
    pub mark: Option<Mark>,
    /// What kind of fault.
    pub kind: FaultKind,
    /// In one sentence.
    pub message: String,
}

/// The kinds of faults, each with a code of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// Not YAML; a file that is still being written looks like this.
    Syntax,
    /// Too large, too deep, too many aliases.
    Limit,
    /// A feature of YAML that is refused: merge keys, tags, numbers that are not finite.
    Refused,
}

/// All documents of a text; empty ones are left out.
///
/// # Errors
///
/// The first [`Fault`]: the library cannot continue after one.
pub fn parse(text: &str) -> Result<Vec<Node>, Fault> {
    if text.len() > MAX_BYTES {
        let message = format!("{} bytes; at most {MAX_BYTES} are read", text.len());
        return Err(Fault {
            mark: None,
            kind: FaultKind::Limit,
            message,
        });
    }
    let text = without_mark(text);
    serde_saphyr::from_multiple_with_options::<Node>(text, options()).map_err(|e| fault(&e))
}

/// The document of a text that has at most one; `None` if it is empty.
///
/// # Errors
///
/// Where the second one begins.
pub fn only(documents: Vec<Node>) -> Result<Node, Mark> {
    let mut documents = documents.into_iter();
    let first = documents.next().unwrap_or(Node {
        mark: Mark::START,
        value: Value::Null,
    });
    documents.next().map_or(Ok(first), |second| Err(second.mark))
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_events: 4 * MAX_NODES,
            max_nodes: MAX_NODES,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_documents: 1_000,
            max_recorded_anchor_events: MAX_NODES,
            max_total_scalar_bytes: 4 * MAX_BYTES,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_NODES,
            max_replay_stack_depth: 8,
        },
        emit_comments: false,
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::Error,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        strict_booleans: true,
        reject_unsupported_tags: true,
        non_finite_float_policy: NonFiniteFloatPolicy::Reject,
        with_snippet: false,
    }
}

fn fault(error: &Error) -> Fault {
    // In an alias the error is wrapped; the cause is inside.
    let inner = match error {
        Error::AliasError { error, .. } => error,
        error => error,
    };
    let (kind, message) = match inner {
        Error::Budget { breach, .. } => (FaultKind::Limit, breach_words(breach)),
        Error::AliasReplayLimitExceeded { .. } => (FaultKind::Limit, too_many_nodes()),
        Error::AliasReplayStackDepthExceeded { .. } => {
            (FaultKind::Limit, "aliases of aliases are nested too deep".to_owned())
        }
        Error::RecursiveReferencesRequireWeakTypes { .. } => (
            FaultKind::Limit,
            "an alias inside the value that it refers to".to_owned(),
        ),
        Error::MergeKeyNotAllowed { .. } => (
            FaultKind::Refused,
            "merge keys (<<) are not supported; write the keys out".to_owned(),
        ),
        Error::NonFiniteFloat { value, .. } => (FaultKind::Refused, format!("number {value} is not finite")),
        other => syntax_words(other),
    };
    Fault {
        mark: error.location().map(mark),
        kind,
        message,
    }
}

fn too_many_nodes() -> String {
    format!("aliases expand to more than {MAX_NODES} values")
}

fn breach_words(breach: &BudgetBreach) -> String {
    match breach {
        BudgetBreach::Depth { .. } => format!("nesting deeper than {MAX_DEPTH}"),
        BudgetBreach::Documents { .. } => "too many documents in one file".to_owned(),
        BudgetBreach::Aliases { .. } | BudgetBreach::Anchors { .. } => "too many aliases".to_owned(),
        BudgetBreach::RecordedAnchorEvents { .. } => too_many_nodes(),
        _ => format!("more than {MAX_NODES} values"),
    }
}

/// The library's message without the place, which is shown separately.
fn syntax_words(error: &Error) -> (FaultKind, String) {
    let whole = error.to_string();
    let words = whole.split(" at line ").next().unwrap_or(&whole).trim();
    let refused = words.starts_with("unsupported tag") || words.starts_with("number too large");
    if words.contains("recursion limit") {
        return (FaultKind::Limit, format!("nesting deeper than {MAX_DEPTH}"));
    }
    if refused {
        return (FaultKind::Refused, words.to_owned());
    }
    (FaultKind::Syntax, format!("not valid YAML: {words}"))
}

fn mark(location: Location) -> Mark {
    let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    Mark {
        line: number(location.line()),
        column: number(location.column()),
        len: number(location.span().len()),
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self {
            mark: mark(spanned.defined),
            value: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }
    fn visit_bool<E>(self, b: bool) -> Result<Value, E> {
        Ok(Value::Bool(b))
    }
    fn visit_i64<E>(self, i: i64) -> Result<Value, E> {
        Ok(Value::Int(i.into()))
    }
    fn visit_u64<E>(self, i: u64) -> Result<Value, E> {
        Ok(Value::Int(i.into()))
    }
    fn visit_i128<E>(self, i: i128) -> Result<Value, E> {
        Ok(Value::Int(i))
    }
    fn visit_u128<E: serde::de::Error>(self, i: u128) -> Result<Value, E> {
        i128::try_from(i)
            .map(Value::Int)
            .map_err(|_| E::custom("number too large"))
    }
    fn visit_f64<E>(self, f: f64) -> Result<Value, E> {
        Ok(Value::Float(f))
    }
    fn visit_str<E>(self, s: &str) -> Result<Value, E> {
        Ok(Value::Text(s.to_owned()))
    }
    fn visit_string<E>(self, s: String) -> Result<Value, E> {
        Ok(Value::Text(s))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Value::Map(entries))
    }
}

/// The text without a byte order mark, because the YAML library counts columns without it.
#[must_use]
pub fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}
