//! The settings file as a tree: what a YAML text says, with scalars as they were written.
//!
//! `012` is those three characters until a setting asks for a number, so that no password loses a zero. It
//! knows no setting; the syntax and its bounds are those of [`yaml`].

use super::excerpt::{Keys, excerpt};
use super::problem::SettingProblem;
use crate::text::yaml::{self, Mark};
use crate::text::{line_of, quoted};

/// A value and its place.
#[derive(Debug, Clone)]
pub struct SettingNode {
    /// What it is.
    pub value: SettingValue,
    /// Where it begins.
    pub at: Mark,
}

/// The four shapes of a value.
#[derive(Debug, Clone)]
pub enum SettingValue {
    /// Nothing was written, or `null`, or `~`.
    Null,
    /// A scalar as written, without quotes.
    Text(String),
    /// A sequence.
    List(Vec<SettingNode>),
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
    pub node: SettingNode,
}

/// Reads `text`; `name` is the file's name for people.
///
/// # Errors
///
/// The one place where the text stops being a settings file (`CFG_SYNTAX`), or the bound that it exceeds.
pub fn parse(name: &str, text: &str) -> Result<SettingNode, SettingProblem> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let fault = |mark, message: String| refused(name, text, mark, message);
    let mut documents = yaml::parse(text).map_err(|f| fault(f.mark, f.message))?.into_iter();
    let root = match documents.next() {
        Some(node) => shaped(node, text).map_err(|(mark, message)| fault(Some(mark), message))?,
        None => SettingNode {
            value: SettingValue::Null,
            at: Mark::START,
        },
    };
    match documents.next() {
        Some(second) => Err(fault(
            Some(second.mark),
            "a second document; settings are one".to_owned(),
        )),
        None => Ok(root),
    }
}

fn refused(name: &str, text: &str, mark: Option<Mark>, message: String) -> SettingProblem {
    let mark = mark.filter(|at| at.line > 0);
    let place = match mark {
        Some(at) => format!("{name}:{}:{}", at.line, at.column),
        None => name.to_owned(),
    };
    let mut problem = SettingProblem::error("CFG_SYNTAX", place, message);
    // No key is known yet, so nothing is known to hold no secret.
    problem.excerpt = mark.and_then(|at| excerpt(text, at, &Keys::new()));
    problem
}

/// The value with its scalars as they stand in `text`.
fn shaped(node: yaml::Node, text: &str) -> Result<SettingNode, (Mark, String)> {
    let at = node.mark;
    let value = match node.value {
        yaml::Value::Null => SettingValue::Null,
        yaml::Value::List(items) => {
            let items = items.into_iter().map(|item| shaped(item, text));
            SettingValue::List(items.collect::<Result<_, _>>()?)
        }
        yaml::Value::Map(pairs) => SettingValue::Map(entries(pairs, text)?),
        scalar => SettingValue::Text(written(scalar, at, text)),
    };
    Ok(SettingNode { value, at })
}

fn entries(pairs: Vec<(yaml::Node, yaml::Node)>, text: &str) -> Result<Vec<Entry>, (Mark, String)> {
    let mut entries: Vec<Entry> = Vec::with_capacity(pairs.len());
    for (key, value) in pairs {
        let at = key.mark;
        let key = match key.value {
            yaml::Value::Null | yaml::Value::List(_) | yaml::Value::Map(_) => {
                return Err((at, format!("a key must be a word, found {}", key.value.describe())));
            }
            scalar => written(scalar, at, text),
        };
        if let Some(first) = entries.iter().find(|entry| entry.key == key) {
            let message = format!("duplicate key {} (first in line {})", quoted(&key), first.at.line);
            return Err((at, message));
        }
        let node = shaped(value, text)?;
        entries.push(Entry { key, at, node });
    }
    Ok(entries)
}

/// A scalar's own characters: a number or a flag is cut from the source, unless other things stand there too.
fn written(scalar: yaml::Value, at: Mark, text: &str) -> String {
    let read = match scalar {
        yaml::Value::Text(text) => return text,
        yaml::Value::Bool(flag) => flag.to_string(),
        yaml::Value::Int(number) => number.to_string(),
        yaml::Value::Float(number) => number.to_string(),
        yaml::Value::Null | yaml::Value::List(_) | yaml::Value::Map(_) => String::new(),
    };
    let line = line_of(text, at).unwrap_or_default();
    let cut: String = line.chars().skip(at.column.saturating_sub(1)).take(at.len).collect();
    let cut = cut.trim();
    let clean = !cut.is_empty() && !cut.contains(|c: char| c.is_whitespace() || "&!*\"'".contains(c));
    if clean { cut.to_owned() } else { read }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn map(node: &SettingNode) -> &[Entry] {
        match &node.value {
            SettingValue::Map(entries) => entries,
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
                SettingValue::Text(t) => t.as_str(),
                SettingValue::Null => "(null)",
                _ => "?",
            })
            .collect();
        assert_eq!(texts, ["012", "no", "1e3", "true", "x y", "(null)", ":8080"]);
        assert_eq!((inner[1].at.line, inner[1].at.column), (3, 3));
        assert_eq!((inner[1].node.at.line, inner[1].node.at.column), (3, 8));
    }

    #[test]
    fn what_is_not_yaml_is_refused_with_its_place() {
        for (text, line) in [
            ("a: [1, 2\nb: 3\n", "2"),
            ("a: 1\na: 2\n", "2"),
            ("a:\n\tb: 2\n", "2"),
            ("a: 1\n? [b]\n: 2\n", "2"),
            ("a: 1\n---\nb: 2\n", "3"),
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
        assert!(matches!(
            parse("t", "# nothing\n---\n").unwrap().value,
            SettingValue::Null
        ));
    }

    #[test]
    fn bombs_are_refused() {
        let deep = "[".repeat(100_000);
        assert!(parse("t", &deep).is_err());
        let wide = "- 1\n".repeat(yaml::MAX_NODES + 1);
        assert!(parse("t", &wide).is_err());
    }
}
