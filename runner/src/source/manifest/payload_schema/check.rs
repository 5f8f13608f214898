//! Checks payloads by a compiled schema. What it says never contains a value of the payload, which may be a secret.

use jsonschema::{Draft, PatternOptions, ValidationError, Validator};
use runner_core::function::{PayloadCheck, SchemaFault};
use serde_json::Value as Json;
use tokio::runtime::RuntimeFlavor;

use super::RuleFault;
use super::rules::OTHERS;

/// The size of one compiled pattern, and of what is kept while it is matched. Patterns are matched in linear time: no payload
/// can make one run on and on.
const PATTERN_BYTES: usize = 256 * 1024;
const MATCHER_BYTES: usize = 1024 * 1024;

/// The longest payload that is checked, in bytes: the work of a check grows with it, and workers check before they start a
/// handler.
const MAX_PAYLOAD_CHECKED: usize = 16 * 1024 * 1024;

/// A longer payload is checked beside the runtime: its check takes milliseconds, for which no other task may wait.
const QUICK_PAYLOAD: usize = 64 * 1024;

/// The longest text about a fault, and the longest path, in characters: both may contain names from the payload.
const MAX_WHY: usize = 300;

/// A compiled schema.
pub(super) struct CompiledSchema {
    validator: Validator,
    /// How deeply a payload may be nested.
    depth: usize,
}

impl CompiledSchema {
    pub(super) fn new(schema: &Json, depth: usize) -> Result<Self, RuleFault> {
        let patterns = PatternOptions::regex()
            .size_limit(PATTERN_BYTES)
            .dfa_size_limit(MATCHER_BYTES);
        let draft = match schema.get("$schema").and_then(Json::as_str) {
            Some(other) if other.starts_with(OTHERS[0]) => Draft::Draft7,
            Some(other) if other.starts_with(OTHERS[1]) => Draft::Draft201909,
            _ => Draft::Draft202012,
        };
        let built = jsonschema::options()
            .with_draft(draft)
            .with_pattern_options(patterns)
            .should_validate_formats(true)
            .should_ignore_unknown_formats(false)
            .build(schema);
        let validator = built.map_err(|error| of_schema(&error))?;
        Ok(Self { validator, depth })
    }
}

fn of_schema(error: &ValidationError<'_>) -> RuleFault {
    RuleFault {
        at: error.instance_path().as_str().to_owned(),
        why: shortened(&error.to_string()),
        hint: None,
    }
}

impl PayloadCheck for CompiledSchema {
    fn fault(&self, payload: &[u8]) -> Option<SchemaFault> {
        let large = payload.len() > QUICK_PAYLOAD;
        let flavor = tokio::runtime::Handle::try_current().map(|runtime| runtime.runtime_flavor());
        // Other tasks of this thread go on elsewhere. A runtime of one thread has no other place for them.
        match large && flavor.is_ok_and(|flavor| flavor == RuntimeFlavor::MultiThread) {
            true => tokio::task::block_in_place(|| self.check(payload)),
            false => self.check(payload),
        }
    }
}

impl CompiledSchema {
    fn check(&self, payload: &[u8]) -> Option<SchemaFault> {
        let whole = |why: String| {
            Some(SchemaFault {
                path: String::new(),
                why,
            })
        };
        if payload.len() > MAX_PAYLOAD_CHECKED {
            return whole(format!("it is longer than {} MiB", MAX_PAYLOAD_CHECKED >> 20));
        }
        let value = match payload {
            [] => Json::Null,
            text => match serde_json::from_slice(text) {
                Ok(value) => value,
                Err(why) => return whole(format!("it is not JSON: {why}")),
            },
        };
        if is_deeper(&value, self.depth) {
            return whole(format!(
                "it is nested deeper than {} levels, which would take too long to check by this schema",
                self.depth
            ));
        }
        // The first fault only: a payload may have millions.
        let first = self.validator.validate(&value).err()?;
        let why = match payload {
            [] => "there is none, which counts as null".to_owned(),
            _ => shortened(&first.masked_with("this value").to_string()),
        };
        Some(SchemaFault {
            path: shortened(first.instance_path().as_str()),
            why,
        })
    }
}

/// Whether a value has more than this many levels inside of it.
fn is_deeper(value: &Json, levels: usize) -> bool {
    let inside = |value: &Json| levels == 0 || is_deeper(value, levels - 1);
    match value {
        Json::Array(items) => items.iter().any(inside),
        Json::Object(members) => members.values().any(inside),
        _ => false,
    }
}

/// On one line, and short.
fn shortened(text: &str) -> String {
    let mut all = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
    let mut short: String = all.by_ref().take(MAX_WHY).collect();
    if all.next().is_some() {
        short.push('…');
    }
    short
}
