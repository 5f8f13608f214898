//! Reads `payload_schema`: the JSON Schema of a function's payload, compiled once for each version of its manifest.
//!
//! What a schema may contain and what it may cost is decided in `rules`, checking a payload in `check`.

mod check;
mod rules;
mod words;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use runner_core::function::PayloadSchema;
use serde_json::Value as Json;

use self::check::CompiledSchema;
use self::words::UnknownKeyword;
use super::payload::ManifestPayload;
use crate::text::yaml::{Mark, Node, Value};
use crate::text::{Field, Report};

/// The code of a schema that cannot be used.
const CODE: &str = "E153";

/// The code of a keyword that no draft has.
const UNKNOWN: &str = "W219";

/// Characters of a name of the schema in a message, at most.
const MAX_NAME: usize = 60;

/// The largest schema, in bytes of JSON: every process compiles and keeps it.
const MAX_SCHEMA_BYTES: usize = 64 * 1024;

/// What is wrong with a schema, and where: a JSON pointer into it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct RuleFault {
    at: String,
    why: String,
    hint: Option<&'static str>,
}

/// Reads and compiles a schema.
pub fn read_payload_schema(field: &Field<'_>, report: &mut Report<'_>) -> Option<PayloadSchema> {
    if !matches!(field.node.value, Value::Map(_)) {
        let expected = "a JSON Schema as a map, such as {type: object, required: [id]}";
        return field.mismatch(CODE, expected, report);
    }
    let text = ManifestPayload::read(field.node, &field.path, report)?.to_json();
    if text.len() > MAX_SCHEMA_BYTES {
        let (size, path) = (text.len(), &field.path);
        let text = format!("{path} is {size} bytes of JSON; at most {MAX_SCHEMA_BYTES} are allowed");
        report.error(CODE, field.node.mark, text);
        return None;
    }
    match compile(&text) {
        Ok((schema, unknown)) => {
            for keyword in unknown {
                let at = shown(&dotted(&keyword.at));
                let message = format!(
                    "{}{at}: JSON Schema has no such keyword, so nothing is checked by it",
                    field.path
                );
                let hint = keyword.meant.map(|meant| format!("did you mean {meant}?"));
                let other = "take it out; names of your own begin with \"x-\"".to_owned();
                report.warning(UNKNOWN, mark_at(field.node, &keyword.at), message).hint = Some(hint.unwrap_or(other));
            }
            Some(PayloadSchema::new(text, Arc::new(schema)))
        }
        Err(fault) => {
            let mark = mark_at(field.node, &fault.at);
            let text = format!("{}{}: {}", field.path, dotted(&fault.at), fault.why);
            report.error(CODE, mark, text).hint = fault.hint.map(str::to_owned);
            None
        }
    }
}

fn compile(text: &str) -> Result<(CompiledSchema, Vec<UnknownKeyword>), RuleFault> {
    let schema: Json = serde_json::from_str(text).map_err(|why| RuleFault {
        at: String::new(),
        why: why.to_string(),
        hint: None,
    })?;
    let (depth, unknown) = rules::look(&schema)?;
    Ok((CompiledSchema::new(&schema, depth)?, unknown))
}

/// The end of a name or a path, which says more than its beginning.
fn shown(text: &str) -> String {
    match text.char_indices().rev().nth(MAX_NAME) {
        Some((at, one)) => format!("…{}", &text[at + one.len_utf8()..]),
        None => text.to_owned(),
    }
}

/// The names of a JSON pointer.
fn names(pointer: &str) -> impl Iterator<Item = String> {
    let names = pointer.split('/').skip(1);
    names.map(|name| name.replace("~1", "/").replace("~0", "~"))
}

/// A JSON pointer as paths are written elsewhere.
fn dotted(pointer: &str) -> String {
    names(pointer).map(|name| format!(".{name}")).collect()
}

/// The place of what a pointer names, as far as it leads.
fn mark_at(node: &Node, pointer: &str) -> Mark {
    let mut node = node;
    let mut mark = node.mark;
    for name in names(pointer) {
        let inner = match &node.value {
            Value::Map(members) => members
                .iter()
                .find(|(key, _)| matches!(&key.value, Value::Text(text) if *text == name))
                .map(|(key, value)| (key.mark, value)),
            Value::List(items) => {
                let item = name.parse::<usize>().ok().and_then(|index| items.get(index));
                item.map(|item| (item.mark, item))
            }
            _ => None,
        };
        let Some((place, inner)) = inner else { break };
        (node, mark) = (inner, place);
    }
    mark
}
