//! Reads `redis_stream`: a stream whose entries run the function.

use std::time::Duration;

use runner_core::trigger::{
    BadMessage, BodyFormat, DEFAULT_BATCH, DEFAULT_CONNECTION, DEFAULT_REMEMBER, DEFAULT_TAKE_OVER, ENTRY_VALUES,
    MAX_BODY, RedisStreamTrigger, StreamStart, TriggerKind,
};

use super::TriggerContext;
use super::template::EventValues;
use crate::text::{Field, Fields, Report, nearest, quoted};

/// The code of what cannot be used.
const CODE: &str = "E147";

/// What templates can name.
const VALUES: EventValues = EventValues {
    root: "entry",
    event: "an entry",
    names: &ENTRY_VALUES,
    maps: &["fields", "json"],
};

/// The longest key or name of a group.
const MAX_NAME: usize = 500;

/// Entries at once: the server answers with all of them in one piece.
const MAX_BATCH: u32 = 1_000;

const SECOND: Duration = Duration::from_secs(1);

const FIELDS: &[&str] = &[
    "connection",
    "stream",
    "group",
    "from",
    "create",
    "batch",
    "take_over",
    "dedupe",
    "remember",
    "field",
    "body",
    "payload",
    "max_bytes",
    "on_bad_entry",
    "dead_stream",
];

pub(super) fn read(field: &Field<'_>, context: &TriggerContext<'_>, report: &mut Report<'_>) -> Option<TriggerKind> {
    let map = Fields::read(field.node, &field.path, FIELDS, report)?;
    let stream = name(&map, "stream", report);
    if map.peek("stream").is_none() {
        report.error(CODE, map.mark, format!("{}.stream is required", field.path));
    }
    let connection = read_connection(&map, context, report);
    let group = name(&map, "group", report);
    let from = map
        .get("from", report)
        .and_then(|f| f.word(CODE, &StreamStart::WORDS, report));
    let create = map.get("create", report).and_then(|f| f.flag(CODE, report));
    let batch = map
        .get("batch", report)
        .and_then(|f| f.whole(CODE, 1..=MAX_BATCH, report));
    let take_over = map
        .get("take_over", report)
        .and_then(|f| f.seconds(CODE, SECOND * 5..=SECOND * 86_400, report));
    let dedupe = map.get("dedupe", report).and_then(|f| VALUES.text(f, report));
    let remember = map
        .get("remember", report)
        .and_then(|f| f.seconds(CODE, SECOND..=SECOND * 30 * 86_400, report));
    let body_field = map.get("field", report).and_then(|f| f.text(CODE, report));
    let formats = [("json", BodyFormat::Json), ("bytes", BodyFormat::Bytes)];
    let format = map.get("body", report).and_then(|f| f.word(CODE, &formats, report));
    if let (Some(f), None) = (map.peek("body"), map.peek("field")) {
        let text = format!(
            "{} says what the field named by field must be, and there is none",
            f.path
        );
        report.error(CODE, f.key, text);
    }
    let payload = map
        .get("payload", report)
        .and_then(|f| VALUES.payload(f, context.payload, report));
    let max_bytes = map
        .get("max_bytes", report)
        .and_then(|f| f.whole(CODE, 1..=64 << 20, report));
    let bad = map
        .get("on_bad_entry", report)
        .and_then(|f| f.word(CODE, &BadMessage::WORDS, report));
    let bad_entries = bad.unwrap_or(BadMessage::Keep);
    let dead = name(&map, "dead_stream", report);
    if let (Some(f), true) = (map.peek("dead_stream"), bad_entries != BadMessage::DeadLetter) {
        report.error(CODE, f.key, format!("{} goes with on_bad_entry: dead_letter", f.path));
    }
    let stream = stream?;
    Some(TriggerKind::RedisStream(RedisStreamTrigger {
        connection,
        dead_stream: dead.unwrap_or_else(|| format!("{stream}.dead")),
        stream,
        group,
        from: from.unwrap_or_default(),
        create: create.unwrap_or_default(),
        batch: batch.unwrap_or(DEFAULT_BATCH),
        take_over: take_over.unwrap_or(DEFAULT_TAKE_OVER),
        dedupe,
        remember: remember.unwrap_or(DEFAULT_REMEMBER),
        field: body_field.map(str::to_owned),
        format: format.unwrap_or_default(),
        payload,
        max_bytes: max_bytes.map_or(MAX_BODY, |n| n as usize),
        bad_entries,
    }))
}

/// A connection that the settings do not name is a warning: another instance may have it.
fn read_connection(map: &Fields<'_>, context: &TriggerContext<'_>, report: &mut Report<'_>) -> String {
    let field = map.get("connection", report);
    let named = field.and_then(|f| f.text(CODE, report)).unwrap_or(DEFAULT_CONNECTION);
    let known = &context.context.redis;
    if !known.iter().any(|name| name == named) {
        let mark = field.map_or(map.mark, |f| f.node.mark);
        let text = format!(
            "connection {} is not defined under redis_connections of the settings; this trigger does not listen here",
            quoted(named)
        );
        let likely = nearest(named, known.iter().map(String::as_str)).map(|name| format!("did you mean \"{name}\"?"));
        let hint = likely.unwrap_or_else(|| match known.as_slice() {
            [] => "redis_connections: {main: \"${env:MESSAGES_REDIS_URL}\"} in config.yaml".to_owned(),
            known => format!("known there: {}", known.join(", ")),
        });
        report.warning("W217", mark, text).hint = Some(hint);
    }
    named.to_owned()
}

fn name(map: &Fields<'_>, key: &str, report: &mut Report<'_>) -> Option<String> {
    let field = map.get(key, report)?;
    let text = field.text(CODE, report)?;
    if text.len() <= MAX_NAME && !text.chars().any(char::is_control) {
        return Some(text.to_owned());
    }
    let message = format!("{} must be at most {MAX_NAME} bytes on one line", field.path);
    report.error(CODE, field.node.mark, message);
    None
}
