//! A YAML file as a tree in which every key and value knows its place.
//!
//! Knows the syntax and its bounds, no setting. Scalars stay as they were written: `012` is those three
//! characters until a setting asks for a number, so that no password loses a zero.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, MergeKeyPolicy, Options, Spanned};

use super::excerpt::{Keys, excerpt};
use super::problem::Problem;

/// Bytes; a hundred times the size of a long configuration.
pub const MAX_BYTES: u64 = 1024 * 1024;

/// Levels of nesting; the deepest setting lies at five.
const MAX_DEPTH: usize = 16;

/// Keys and values in one file.
const MAX_NODES: usize = 10_000;

/// Where something stands; both count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Line.
    pub line: u64,
    /// Column, in characters.
    pub column: u64,
}

/// A value and its place.
#[derive(Debug, Clone)]
pub struct Node {
    /// What it is.
    pub value: Value,
    /// Where it begins.
    pub at: Mark,
}

/// The four shapes of a value.
#[derive(Debug, Clone)]
pub enum Value {
    /// Nothing was written, or `null`, or `~`.
    Null,
    /// A scalar as written, without quotes.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping in the order of the file.
    Map(Vec<Entry>),
}

/// One key of a mapping.
#[derive(Debug, Clone)]
pub struct Entry {
    /// As written.
    pub key: String,
    /// Where the key begins.
    pub at: Mark,
    /// Its value.
    pub node: Node,
}

/// Reads `text`; `name` is the file's name for people.
///
/// # Errors
///
/// The one place where the text stops being YAML (`CFG_SYNTAX`), or the bound that it exceeds.
pub fn parse(name: &str, text: &str) -> Result<Node, Problem> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let empty = text.lines().all(|l| {
        let l = l.trim();
        l.is_empty() || l.starts_with('#') || l == "---"
    });
    if empty {
        return Ok(Node {
            value: Value::Null,
            at: Mark { line: 1, column: 1 },
        });
    }
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options()) {
        Ok(raw) => Ok(raw_node(raw, text)),
        Err(error) => Err(syntax(name, text, &error)),
    }
}

fn options() -> Options {
    let mut options = Options::default();
    let mut budget = options.budget.take().unwrap_or_default();
    budget.max_depth = MAX_DEPTH;
    budget.max_nodes = MAX_NODES;
    budget.max_events = 4 * MAX_NODES;
    budget.max_aliases = 100;
    budget.max_anchors = 100;
    budget.max_documents = 1;
    options.budget = Some(budget);
    options.duplicate_keys = DuplicateKeyPolicy::Error;
    options.merge_keys = MergeKeyPolicy::Error;
    options.strict_booleans = true;
    options.reject_unsupported_tags = true;
    options.with_snippet = false;
    options
}

fn syntax(name: &str, text: &str, error: &serde_saphyr::Error) -> Problem {
    let location = error.location().filter(|l| l.line() > 0);
    let place = match location {
        Some(at) => format!("{name}:{}:{}", at.line(), at.column()),
        None => name.to_owned(),
    };
    // The parser appends its own idea of the place; ours stands in front already.
    let said = error.without_snippet().to_string();
    let said = said.split(" at line ").next().unwrap_or(&said);
    let said = said.split("\n").next().unwrap_or(said).trim().to_owned();
    let mut problem = Problem::error("CFG_SYNTAX", place, format!("not valid YAML: {said}"));
    problem.excerpt = location.and_then(|at| excerpt(text, at.line(), at.column(), &Keys::new()));
    problem
}

/// A value as the parser hands it over, before scalars are cut from the source.
enum Raw {
    Null,
    /// A plain scalar that looks like a number or a boolean; the fallback if the source cannot be cut.
    Plain(String),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

fn raw_node(raw: Spanned<Raw>, text: &str) -> Node {
    let at = Mark {
        line: raw.referenced.line(),
        column: raw.referenced.column(),
    };
    let value = match raw.value {
        Raw::Null => Value::Null,
        Raw::Text(text) => Value::Text(text),
        Raw::Plain(fallback) => Value::Text(cut(text, raw.defined.span()).unwrap_or(fallback)),
        Raw::List(items) => Value::List(items.into_iter().map(|n| raw_node(n, text)).collect()),
        Raw::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, node)| Entry {
                    at: Mark {
                        line: key.referenced.line(),
                        column: key.referenced.column(),
                    },
                    key: key.value,
                    node: raw_node(node, text),
                })
                .collect(),
        ),
    };
    Node { value, at }
}

/// The characters of a plain scalar, if the span holds nothing else.
fn cut(text: &str, span: serde_saphyr::Span) -> Option<String> {
    let from = usize::try_from(span.byte_offset()?).ok()?;
    let len = usize::try_from(span.byte_len()?).ok()?;
    let cut = text.get(from..from.checked_add(len)?)?.trim();
    let clean = !cut.is_empty() && !cut.contains(|c: char| c.is_whitespace() || "&!*\"'".contains(c));
    clean.then(|| cut.to_owned())
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E: de::Error>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }
    fn visit_none<E: de::Error>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Raw, D::Error> {
        Raw::deserialize(d)
    }
    fn visit_bool<E: de::Error>(self, v: bool) -> Result<Raw, E> {
        Ok(Raw::Plain(v.to_string()))
    }
    fn visit_i64<E: de::Error>(self, v: i64) -> Result<Raw, E> {
        Ok(Raw::Plain(v.to_string()))
    }
    fn visit_u64<E: de::Error>(self, v: u64) -> Result<Raw, E> {
        Ok(Raw::Plain(v.to_string()))
    }
    fn visit_i128<E: de::Error>(self, v: i128) -> Result<Raw, E> {
        Ok(Raw::Plain(v.to_string()))
    }
    fn visit_u128<E: de::Error>(self, v: u128) -> Result<Raw, E> {
        Ok(Raw::Plain(v.to_string()))
    }
    fn visit_f64<E: de::Error>(self, v: f64) -> Result<Raw, E> {
        Ok(Raw::Plain(v.to_string()))
    }
    fn visit_str<E: de::Error>(self, v: &str) -> Result<Raw, E> {
        Ok(Raw::Text(v.to_owned()))
    }
    fn visit_string<E: de::Error>(self, v: String) -> Result<Raw, E> {
        Ok(Raw::Text(v))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn map(node: &Node) -> &[Entry] {
        match &node.value {
            Value::Map(entries) => entries,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn scalars_stay_as_written_and_know_their_place() {
        let text = "a:\n  zero: 012\n  off: no\n  big: 1e3\n  yes: true\n  q: \"x y\"\n  none:\n  addr: :8080\n";
        let root = parse("t", text).unwrap();
        let inner = map(&map(&root)[0].node);
        let texts: Vec<_> = inner
            .iter()
            .map(|e| match &e.node.value {
                Value::Text(t) => t.as_str(),
                Value::Null => "(null)",
                _ => "?",
            })
            .collect();
        assert_eq!(texts, ["012", "no", "1e3", "true", "x y", "(null)", ":8080"]);
        assert_eq!(inner[1].at, Mark { line: 3, column: 3 });
        assert_eq!(inner[1].node.at, Mark { line: 3, column: 8 });
    }

    #[test]
    fn what_is_not_yaml_is_refused_with_its_place() {
        for (text, line) in [
            ("a: [1, 2\nb: 3\n", "2"),
            ("a: 1\na: 2\n", "2"),
            ("a:\n\tb: 2\n", "2"),
            ("a: 1\n---\nb: 2\n", "2"),
            ("a: &x 1\n<<: *y\n", "2"),
            ("a: !!python/object x\n", "1"),
        ] {
            let problem = parse("c.yaml", text).unwrap_err();
            assert_eq!(problem.code, "CFG_SYNTAX", "{text}");
            assert_eq!(problem.place.split(':').nth(1), Some(line), "{problem}");
        }
    }

    #[test]
    fn an_empty_file_is_an_empty_document() {
        assert!(matches!(parse("t", "# nothing\n---\n").unwrap().value, Value::Null));
    }

    #[test]
    fn bombs_are_refused() {
        let deep = "[".repeat(100_000);
        assert!(parse("t", &deep).is_err());
        let wide = "- 1\n".repeat(MAX_NODES + 1);
        assert!(parse("t", &wide).is_err());
    }
}
