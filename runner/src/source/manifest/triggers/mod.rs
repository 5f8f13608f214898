//! The `triggers` of a function: a list of maps, each with an id and one kind, which has a file here that reads its keys.

mod after;
mod file;
mod rabbitmq;
mod redis_stream;
mod template;
mod webhook;

#[cfg(test)]
mod tests;

use runner_core::schedule::ScheduleId;
use runner_core::trigger::{TriggerId, TriggerKind};

use super::payload::ManifestPayload;
use super::places::is_name;
use super::schedule::ScheduleContext;
use crate::text::yaml::{Mark, Node, Value};
use crate::text::{Field, Fields, Report, one_of, quoted};

/// Triggers of one function; each costs a consumer.
const MAX_TRIGGERS: usize = 20;

/// The longest id.
const MAX_ID: usize = 40;

/// One trigger, read.
pub struct ReadTrigger {
    /// Identity over all manifests.
    pub id: TriggerId,
    /// Where it begins.
    pub mark: Mark,
    /// What it listens to.
    pub kind: TriggerKind,
}

/// What a reader of a kind is given besides its field.
pub struct TriggerContext<'a> {
    /// What holds where a text says nothing else.
    pub context: &'a ScheduleContext,
    /// The payload of the function.
    pub payload: Option<&'a ManifestPayload>,
}

impl<'a> TriggerContext<'a> {
    /// Of this context and payload.
    pub fn new(context: &'a ScheduleContext, payload: Option<&'a ManifestPayload>) -> Self {
        Self { context, payload }
    }
}

type Read = fn(&Field<'_>, &TriggerContext<'_>, &mut Report<'_>) -> Option<TriggerKind>;

/// The kinds of triggers by their keys.
const KINDS: &[(&str, Read)] = &[
    ("rabbitmq", rabbitmq::read),
    ("redis_stream", redis_stream::read),
    ("webhook", webhook::read),
    ("after", after::read),
    ("file", file::read),
];

/// Reads every trigger of the function called `function`; `schedules` are the ids that are taken.
pub fn read_triggers(
    field: &Field<'_>,
    function: &str,
    schedules: &[ScheduleId],
    context: &TriggerContext<'_>,
    report: &mut Report<'_>,
) -> Vec<ReadTrigger> {
    let items = match &field.node.value {
        Value::List(items) if (1..=MAX_TRIGGERS).contains(&items.len()) => items,
        _ => {
            let expected =
                format!("a list of 1-{MAX_TRIGGERS} maps, such as [{{id: orders, rabbitmq: {{queue: orders}}}}]");
            field.mismatch::<()>("E142", &expected, report);
            return Vec::new();
        }
    };
    let mut all: Vec<ReadTrigger> = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let path = format!("{}[{index}]", field.path);
        let Some((id, kind)) = read_one(item, &path, context, report) else {
            continue;
        };
        let schedule = ScheduleId::manifest(function, &id);
        let id = TriggerId::new(function, &id);
        if schedules.contains(&schedule) || all.iter().any(|other| other.id == id) {
            let text =
                format!("the id of {path} is used twice; schedules and triggers of a function need ids of their own");
            report.error("E140", item.mark, text);
            continue;
        }
        all.push(ReadTrigger {
            id,
            mark: item.mark,
            kind,
        });
    }
    all
}

fn read_one(
    node: &Node,
    path: &str,
    context: &TriggerContext<'_>,
    report: &mut Report<'_>,
) -> Option<(String, TriggerKind)> {
    let kinds: Vec<&str> = KINDS.iter().map(|(key, _)| *key).collect();
    let known = [&["id"][..], &kinds].concat();
    let fields = Fields::read(node, path, &known, report)?;
    let id = read_id(&fields, path, report);
    let given: Vec<_> = KINDS.iter().filter(|(key, _)| fields.peek(key).is_some()).collect();
    let kind = match given.as_slice() {
        [(key, read)] => fields.get(key, report).and_then(|field| read(field, context, report)),
        [] => {
            let text = format!("{path} listens to nothing: add {}", one_of(&kinds));
            report.error("E142", fields.mark, text);
            None
        }
        [(first, _), (second, _), ..] => {
            let text = format!("{path} has both {first} and {second}; keep one, and write two triggers for both");
            report.error("E142", fields.mark, text);
            None
        }
    };
    Some((id?, kind?))
}

fn read_id(fields: &Fields<'_>, path: &str, report: &mut Report<'_>) -> Option<String> {
    let Some(field) = fields.get("id", report) else {
        if fields.peek("id").is_none() {
            let text = format!("{path} needs an id, which its tasks and receipts are named after");
            report.error("E142", fields.mark, text).hint = Some("id: orders".to_owned());
        }
        return None;
    };
    let id = field.text("E142", report)?;
    if is_name(id, MAX_ID) {
        return Some(id.to_owned());
    }
    let text = format!(
        "{} {} may use a-z, 0-9, \".\", \"_\", \"-\", at most {MAX_ID}",
        field.path,
        quoted(id)
    );
    report.error("E142", field.node.mark, text);
    None
}
