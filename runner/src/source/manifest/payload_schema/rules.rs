//! What a schema may contain, and what checking a payload by it may cost at most.
//!
//! A payload comes from anywhere, so its check must end soon whatever it contains. Work multiplies where several parts of a
//! schema look at one value, and again at each level where the schema comes back to itself: two such parts double it with
//! every level of a payload. So the work for one value is added up for each depth, before any payload is seen, and payloads
//! that are nested more deeply than the work allows are refused.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::words::{self, UnknownKeyword};
use super::{RuleFault, shown};

/// The drafts that `$schema` may name besides the default.
pub(super) const OTHERS: [&str; 2] = [
    "http://json-schema.org/draft-07/schema",
    "https://json-schema.org/draft/2019-09/schema",
];

/// The draft where nothing is said.
const DEFAULT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Parts of one schema.
const MAX_PARTS: usize = 2000;

/// Patterns of one schema, and the longest one.
const MAX_PATTERNS: usize = 100;
const MAX_PATTERN: usize = 1000;

/// Parts that look at one value, with those that look at what it is in.
const MAX_WORK: f64 = 10_000.0;

/// Calls inside of calls: a thread has a stack of 2 MiB, of which a call takes less than 2 KiB.
const MAX_HEIGHT: u32 = 500;

/// The JSON library reads no deeper payload.
const DEEPEST: usize = 128;

/// Where a keyword holds other schemas, and whose value they look at.
enum Holds {
    /// One, for the same value.
    Same,
    /// One, for what is inside of the value.
    Inside,
    /// A list, for the same value.
    SameList,
    /// One for each element of a list.
    InsideList,
    /// By name, for the same value.
    SameMap,
    /// By name, of which one at most looks at a member.
    InsideMap,
    /// By pattern, all of which may look at a member.
    PatternMap,
    /// By name, for nothing by themselves.
    Definitions,
}

const KEYWORDS: [(&str, Holds); 21] = [
    ("$defs", Holds::Definitions),
    ("additionalItems", Holds::Inside),
    ("additionalProperties", Holds::Inside),
    ("allOf", Holds::SameList),
    ("anyOf", Holds::SameList),
    ("contains", Holds::Inside),
    ("definitions", Holds::Definitions),
    ("dependencies", Holds::SameMap),
    ("dependentSchemas", Holds::SameMap),
    ("else", Holds::Same),
    ("if", Holds::Same),
    ("items", Holds::Inside),
    ("not", Holds::Same),
    ("oneOf", Holds::SameList),
    ("patternProperties", Holds::PatternMap),
    ("prefixItems", Holds::InsideList),
    ("properties", Holds::InsideMap),
    ("propertyNames", Holds::Inside),
    ("then", Holds::Same),
    ("unevaluatedItems", Holds::Inside),
    ("unevaluatedProperties", Holds::Inside),
];

/// Keywords whose target depends on what is being checked, so that their cost cannot be added up.
const DYNAMIC: [&str; 3] = ["$dynamicRef", "$recursiveRef", "$recursiveAnchor"];

/// One schema inside of the whole.
#[derive(Default)]
struct Part {
    at: String,
    /// Parts that look at the same value.
    same: Vec<usize>,
    /// Groups of parts that look at a value inside; of each group one at most.
    inside: Vec<Vec<usize>>,
    reference: Option<String>,
}

/// Unknown keywords of one schema that are reported.
const MAX_UNKNOWN: usize = 20;

/// Checks a schema; how deeply a payload may be nested, and the keywords that are unknown.
pub(super) fn look(schema: &Json) -> Result<(usize, Vec<UnknownKeyword>), RuleFault> {
    let mut walk = Walk::default();
    walk.part(schema, String::new())?;
    let Walk {
        mut parts,
        places,
        unknown,
        ..
    } = walk;
    for part in &mut parts {
        if let Some(reference) = &part.reference {
            part.same.push(target(reference, &part.at, &places)?);
        }
    }
    let order = inner_first(&parts)?;
    let depth = deepest(&parts, &order).ok_or_else(|| {
        let text = "too many parts of the schema look at one value, so a check would take too long";
        fault("", text.to_owned(), Some("write fewer schemas into each other"))
    })?;
    Ok((depth, unknown))
}

#[derive(Default)]
struct Walk {
    parts: Vec<Part>,
    /// Parts by their pointers.
    places: BTreeMap<String, usize>,
    patterns: usize,
    /// At most [`MAX_UNKNOWN`].
    unknown: Vec<UnknownKeyword>,
}

impl Walk {
    fn part(&mut self, schema: &Json, at: String) -> Result<usize, RuleFault> {
        let number = self.parts.len();
        if number == MAX_PARTS {
            return Err(fault(&at, format!("the schema has more than {MAX_PARTS} parts"), None));
        }
        self.places.insert(at.clone(), number);
        self.parts.push(Part {
            at: at.clone(),
            ..Part::default()
        });
        if let Json::Object(members) = schema {
            self.words(members, &at)?;
            let mut part = self.members(members, &at)?;
            part.reference = members.get("$ref").and_then(Json::as_str).map(str::to_owned);
            self.parts[number] = part;
        }
        Ok(number)
    }

    /// Keywords that hold no schema.
    fn words(&mut self, members: &Map<String, Json>, at: &str) -> Result<(), RuleFault> {
        let inner = !at.is_empty();
        let unknown = words::unknown(members, KEYWORDS.iter().map(|(name, _)| *name));
        let unknown = unknown.map(|(key, meant)| UnknownKeyword {
            at: format!("{at}/{}", escaped(key)),
            meant,
        });
        let room = MAX_UNKNOWN - self.unknown.len();
        self.unknown.extend(unknown.take(room));
        if let Some((below, name, meant)) = members.get("type").and_then(words::wrong_type) {
            let text = format!("unknown type \"{}\"; the types are {}", shown(name), words::types());
            return Err(fault(&format!("{at}/type{below}"), text, meant));
        }
        for name in DYNAMIC {
            if members.contains_key(name) {
                let text = "its target depends on what is checked, which is not supported".to_owned();
                return Err(fault(&format!("{at}/{name}"), text, Some("write $ref")));
            }
        }
        for name in ["$id", "$schema"] {
            if inner && members.contains_key(name) {
                let text = "only the schema as a whole may have it".to_owned();
                return Err(fault(&format!("{at}/{name}"), text, None));
            }
        }
        if let Some(draft) = members.get("$schema") {
            let known = |draft: &str| draft == DEFAULT || OTHERS.contains(&draft);
            if !draft.as_str().is_some_and(|draft| known(draft.trim_end_matches('#'))) {
                let text = format!(
                    "unknown; this runner reads {DEFAULT} (the default), {}, {}",
                    OTHERS[0], OTHERS[1]
                );
                return Err(fault(&format!("{at}/$schema"), text, None));
            }
        }
        if members.get("format").and_then(Json::as_str) == Some("regex") {
            let text = "compiling patterns of payloads is not supported".to_owned();
            return Err(fault(&format!("{at}/format"), text, None));
        }
        if let Some(pattern) = members.get("pattern").and_then(Json::as_str) {
            self.pattern(pattern, &format!("{at}/pattern"))?;
        }
        Ok(())
    }

    fn pattern(&mut self, pattern: &str, at: &str) -> Result<(), RuleFault> {
        self.patterns += 1;
        if self.patterns > MAX_PATTERNS {
            return Err(fault(
                at,
                format!("the schema has more than {MAX_PATTERNS} patterns"),
                None,
            ));
        }
        if pattern.len() > MAX_PATTERN {
            let text = format!("the pattern has more than {MAX_PATTERN} bytes");
            return Err(fault(at, text, None));
        }
        Ok(())
    }

    fn members(&mut self, members: &Map<String, Json>, at: &str) -> Result<Part, RuleFault> {
        let mut part = Part {
            at: at.to_owned(),
            ..Part::default()
        };
        for (key, value) in members {
            let Some((_, holds)) = KEYWORDS.iter().find(|(name, _)| name == key) else {
                continue;
            };
            let at = format!("{at}/{}", escaped(key));
            let numbers = self.held(holds, value, &at)?;
            match holds {
                Holds::Same | Holds::SameList | Holds::SameMap => part.same.extend(numbers),
                Holds::InsideList | Holds::InsideMap => part.inside.push(numbers),
                // As a list, `items` gives each element its own.
                Holds::Inside if value.is_array() => part.inside.push(numbers),
                Holds::Inside | Holds::PatternMap => part.inside.extend(numbers.into_iter().map(|n| vec![n])),
                Holds::Definitions => {}
            }
        }
        Ok(part)
    }

    /// The schemas that a keyword holds.
    fn held(&mut self, holds: &Holds, value: &Json, at: &str) -> Result<Vec<usize>, RuleFault> {
        match (holds, value) {
            (Holds::PatternMap, Json::Object(all)) => {
                for pattern in all.keys() {
                    self.pattern(pattern, &format!("{at}/{}", escaped(pattern)))?;
                }
            }
            // `dependencies` may list names, and other keywords may hold what the validator refuses.
            (Holds::Same | Holds::Inside, Json::Object(_) | Json::Bool(_)) => {
                return Ok(vec![self.part(value, at.to_owned())?]);
            }
            _ => {}
        }
        let is_schema = |value: &Json| value.is_object() || value.is_boolean();
        let inner: Vec<(String, &Json)> = match value {
            Json::Object(all) => all.iter().map(|(name, inner)| (escaped(name), inner)).collect(),
            Json::Array(all) => all
                .iter()
                .enumerate()
                .map(|(n, inner)| (n.to_string(), inner))
                .collect(),
            _ => Vec::new(),
        };
        let inner = inner.into_iter().filter(|(_, inner)| is_schema(inner));
        inner
            .map(|(name, inner)| self.part(inner, format!("{at}/{name}")))
            .collect()
    }
}

fn fault(at: &str, why: String, hint: Option<&'static str>) -> RuleFault {
    RuleFault {
        at: at.to_owned(),
        why,
        hint,
    }
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// Only inside of the schema: nothing is fetched, from no file and no address.
fn target(reference: &str, at: &str, places: &BTreeMap<String, usize>) -> Result<usize, RuleFault> {
    let at = format!("{at}/$ref");
    let Some(pointer) = reference
        .strip_prefix('#')
        .filter(|p| p.is_empty() || p.starts_with('/'))
    else {
        let text = "only places in the same schema can be named; nothing is read from files or addresses".to_owned();
        return Err(fault(&at, text, Some("\"#/$defs/NAME\", with NAME under $defs")));
    };
    let found = places.get(pointer).copied();
    found.ok_or_else(|| fault(&at, "there is no schema at this place".to_owned(), None))
}

/// The parts in an order in which those that look at the same value come before the part that they belong to.
fn inner_first(parts: &[Part]) -> Result<Vec<usize>, RuleFault> {
    #[derive(Clone, Copy, PartialEq)]
    enum VisitState {
        No,
        Open,
        Done,
    }
    let mut seen = vec![VisitState::No; parts.len()];
    let mut order = Vec::with_capacity(parts.len());
    for start in 0..parts.len() {
        let mut stack = vec![(start, 0)];
        while let Some((number, next)) = stack.pop() {
            if next == 0 && seen[number] != VisitState::No {
                continue;
            }
            seen[number] = VisitState::Open;
            let Some(&inner) = parts[number].same.get(next) else {
                seen[number] = VisitState::Done;
                order.push(number);
                continue;
            };
            if seen[inner] == VisitState::Open {
                let text = "the schema comes back to this place without going deeper into the payload, so a check would never end";
                return Err(fault(&parts[inner].at, text.to_owned(), None));
            }
            stack.push((number, next + 1));
            stack.push((inner, 0));
        }
    }
    Ok(order)
}

/// How deeply a payload may be nested, so that the work for each of its values stays below the bound. `None`: not at all.
fn deepest(parts: &[Part], order: &[usize]) -> Option<usize> {
    let mut below = vec![(0.0_f64, 0_u32); parts.len()];
    for depth in 0..=DEEPEST {
        let mut at = vec![(0.0_f64, 0_u32); parts.len()];
        for &number in order {
            let (mut work, mut height) = (1.0, 0);
            for &inner in &parts[number].same {
                work += at[inner].0;
                height = height.max(at[inner].1);
            }
            for group in &parts[number].inside {
                let most = group.iter().map(|&inner| below[inner].0).fold(0.0, f64::max);
                work += most;
                height = group.iter().map(|&inner| below[inner].1).fold(height, u32::max);
            }
            at[number] = (work, height.saturating_add(1));
        }
        let (work, height) = at.first().copied().unwrap_or_default();
        if work > MAX_WORK || height > MAX_HEIGHT {
            return depth.checked_sub(1);
        }
        below = at;
    }
    Some(DEEPEST)
}
