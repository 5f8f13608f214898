//! Reads `enqueue`: another task. Options that it shares with functions have the same names and bounds.

use std::time::Duration;

use runner_core::function::{EnqueuePayload, EnqueueSpec, FunctionKind, JsonOfTemplates};

use super::{MAX_TASK_TYPE, template};
use crate::source::manifest::options::read_task_options;
use crate::source::manifest::payload::ManifestPayload;
use crate::text::yaml::Value;
use crate::text::{Field, Fields, Report, quoted};

/// The code of what cannot be used.
const CODE: &str = "E350";

/// What may stand under it.
const FIELDS: [&str; 11] = [
    "type",
    "payload",
    "queue",
    "retry",
    "timeout",
    "retention",
    "delay",
    "deadline",
    "unique",
    "group",
    "headers",
];

/// Those that stand nowhere else.
pub(super) const OWN: &[&str] = &["delay", "deadline", "group"];

const SECOND: Duration = Duration::from_secs(1);

/// A year: what is planned for longer is a schedule.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Headers of one task; each travels with it.
const MAX_HEADERS: usize = 50;

pub(super) fn read(field: &Field<'_>, report: &mut Report<'_>) -> Option<FunctionKind> {
    if let Value::Text(_) = field.node.value {
        let spec = EnqueueSpec::new(read_type(field, report)?);
        return Some(FunctionKind::Enqueue(Box::new(spec)));
    }
    let map = Fields::read(field.node, &field.path, &FIELDS, report)?;
    let kind = match map.get("type", report) {
        Some(f) => read_type(f, report),
        None => {
            if map.peek("type").is_none() {
                report.error(CODE, map.mark, "enqueue.type is required");
            }
            None
        }
    };
    let mut spec = EnqueueSpec::new(kind.unwrap_or_default());
    spec.options = read_task_options(&map, report);
    if let Some(f) = map.get("payload", report) {
        spec.payload = read_payload(f, CODE, report);
    }
    for (name, span) in [("delay", &mut spec.delay), ("deadline", &mut spec.deadline)] {
        if let Some(f) = map.get(name, report) {
            *span = f.seconds(CODE, SECOND..=LONGEST, report);
        }
    }
    if let Some(f) = map.get("group", report) {
        spec.group = template::read(f, CODE, report);
        if let Some(delay) = map.peek("delay") {
            let text = format!(
                "{} has no effect on a task that joins a group; remove one of the two",
                delay.path
            );
            report.error(CODE, delay.key, text);
        }
    }
    if let Some(f) = map.get("headers", report) {
        read_headers(f, &mut spec, report);
    }
    Some(FunctionKind::Enqueue(Box::new(spec)))
}

/// What is sent: `payload`, `none`, a text, or JSON.
pub(super) fn read_payload(field: &Field<'_>, code: &str, report: &mut Report<'_>) -> EnqueuePayload {
    match &field.node.value {
        Value::Text(text) if text == "payload" => EnqueuePayload::OfRun,
        Value::Text(text) if text == "none" => EnqueuePayload::None,
        Value::Map(_) | Value::List(_) => read_json(field, report).map_or(EnqueuePayload::None, EnqueuePayload::Json),
        _ => template::read(field, code, report).map_or(EnqueuePayload::None, EnqueuePayload::Text),
    }
}

fn read_json(field: &Field<'_>, report: &mut Report<'_>) -> Option<JsonOfTemplates> {
    let written = ManifestPayload::read(field.node, &field.path, report)?.to_json();
    match JsonOfTemplates::new(serde_json::from_str(&written).ok()?) {
        Ok(json) => Some(json),
        Err(fault) => {
            report.error(
                "E150",
                field.node.mark,
                format!("template error in {}: {fault}", field.path),
            );
            None
        }
    }
}

fn read_headers(field: &Field<'_>, spec: &mut EnqueueSpec, report: &mut Report<'_>) {
    let all = field.text_map(CODE, report).unwrap_or_default();
    if all.len() > MAX_HEADERS {
        let text = format!("{} has more than {MAX_HEADERS} members", field.path);
        report.error(CODE, field.node.mark, text);
    }
    for (name, text) in all {
        let path = format!("{}.{name}", field.path);
        if name.starts_with("runner-") {
            let text = format!("{path}: names that begin with \"runner-\" are the runner's own");
            report.error(CODE, field.node.mark, text);
        }
        if let Some(template) = template::parse(&text, &path, field.node.mark, report) {
            spec.headers.insert(name, template);
        }
    }
}

/// A type is fixed text: no payload chooses which code runs.
fn read_type(field: &Field<'_>, report: &mut Report<'_>) -> Option<String> {
    let kind = field.text(CODE, report)?.trim();
    let wrong = if kind.contains("{{") {
        "must not contain templates"
    } else if kind.chars().count() > MAX_TASK_TYPE || kind.chars().any(char::is_control) {
        "must be at most 100 characters on one line"
    } else {
        return Some(kind.to_owned());
    };
    report.error(
        CODE,
        field.node.mark,
        format!("{} {} {wrong}", field.path, quoted(kind)),
    );
    None
}
