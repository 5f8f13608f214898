//! Words of a schema that may be misspelt: keywords, of which JSON Schema ignores those that it does not know, and names of types.
//!
//! Not here: what keywords cost (`rules`), and whether their values are right, which the validator says.

use serde_json::{Map, Value as Json};

use crate::text::nearest;

/// Keywords of the drafts that are read, besides those that hold schemas.
const PLAIN: [&str; 42] = [
    "$anchor",
    "$comment",
    "$dynamicAnchor",
    "$dynamicRef",
    "$id",
    "$recursiveAnchor",
    "$recursiveRef",
    "$ref",
    "$schema",
    "$vocabulary",
    "const",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
    "default",
    "dependentRequired",
    "deprecated",
    "description",
    "enum",
    "examples",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "maxContains",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minContains",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "pattern",
    "readOnly",
    "required",
    "title",
    "type",
    "uniqueItems",
    "writeOnly",
    "$defs",
];

/// The types of JSON Schema.
const TYPES: [&str; 7] = ["array", "boolean", "integer", "null", "number", "object", "string"];

/// Names of types of other languages, and what they are called here.
const OTHER_NAMES: [(&str, &str); 12] = [
    ("bool", "boolean"),
    ("char", "string"),
    ("dict", "object"),
    ("double", "number"),
    ("float", "number"),
    ("hash", "object"),
    ("int", "integer"),
    ("list", "array"),
    ("long", "integer"),
    ("map", "object"),
    ("nil", "null"),
    ("text", "string"),
];

/// A keyword that no draft has; nothing is checked by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnknownKeyword {
    /// Where, as a JSON pointer.
    pub(super) at: String,
    /// The one that may be meant.
    pub(super) meant: Option<&'static str>,
}

/// The unknown keywords of one schema. Those that begin with `x-` are extensions.
pub(super) fn unknown<'a>(
    members: &'a Map<String, Json>,
    holding: impl Iterator<Item = &'static str> + Clone + 'a,
) -> impl Iterator<Item = (&'a String, Option<&'static str>)> + 'a {
    let known = move || PLAIN.into_iter().chain(holding.clone());
    let odd = members.keys().filter({
        let known = known.clone();
        move |key| !key.starts_with("x-") && known().all(|word| word != key.as_str())
    });
    odd.map(move |key| (key, nearest(key, known())))
}

/// The first name under `type` that is none, where it is below that keyword, and the one that may be meant.
pub(super) fn wrong_type(value: &Json) -> Option<(String, &str, Option<&'static str>)> {
    let names: Vec<(String, &Json)> = match value {
        Json::Array(all) => all.iter().enumerate().map(|(n, one)| (format!("/{n}"), one)).collect(),
        one => vec![(String::new(), one)],
    };
    let named = names.into_iter().filter_map(|(at, one)| Some((at, one.as_str()?)));
    let mut wrong = named.filter(|(_, name)| !TYPES.contains(name));
    let (at, name) = wrong.next()?;
    let other = OTHER_NAMES.iter().find(|(other, _)| name.eq_ignore_ascii_case(other));
    let meant = other.map(|(_, meant)| *meant).or_else(|| nearest(name, TYPES));
    Some((at, name, meant))
}

/// The types, for messages.
pub(super) fn types() -> String {
    TYPES.join(", ")
}
