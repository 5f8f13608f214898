//! Reads `publish`: a message for RabbitMQ or Redis. Whether the settings have its connection is judged by those who send it.

use std::collections::BTreeMap;

use runner_core::function::{
    EnqueuePayload, ExchangeTarget, FunctionKind, FunctionTemplate, PublishSpec, PublishTarget,
};
use runner_core::trigger::DEFAULT_CONNECTION;

use super::{enqueue, template};
use crate::text::yaml::Value;
use crate::text::{Field, Fields, Report, quoted};

/// The code of what cannot be used.
const CODE: &str = "E360";

/// Keys of a message for RabbitMQ only.
const OF_RABBITMQ: [&str; 5] = ["exchange", "routing_key", "content_type", "persistent", "mandatory"];

const FIELDS: [&str; 9] = [
    "connection",
    "redis",
    "body",
    "headers",
    "exchange",
    "routing_key",
    "content_type",
    "persistent",
    "mandatory",
];

/// Those that stand nowhere else.
pub(super) const OWN: &[&str] = &["exchange", "routing_key", "persistent", "mandatory"];

/// The longest name of an exchange, a header, a routing key: RabbitMQ's bound.
const MAX_NAME: usize = 255;

/// The longest key of a stream or name of a channel.
const MAX_KEY: usize = 512;

/// Headers of one message.
const MAX_HEADERS: usize = 50;

/// Fields of an entry that every one has.
const OF_ENTRY: [&str; 2] = ["id", "body"];

pub(super) fn read(field: &Field<'_>, report: &mut Report<'_>) -> Option<FunctionKind> {
    let map = Fields::read(field.node, &field.path, &FIELDS, report)?;
    let connection = map.get("connection", report).and_then(|f| fixed(f, MAX_NAME, report));
    let target = match map.get("redis", report) {
        Some(redis) => {
            for key in OF_RABBITMQ.iter().filter_map(|key| map.peek(key)) {
                let text = format!("{} does not go with publish.redis; remove one of the two", key.path);
                report.error(CODE, key.key, text);
            }
            read_redis(redis, report)
        }
        None => read_exchange(&map, report).map(PublishTarget::Exchange),
    };
    let body = map.get("body", report);
    let body = body.map_or(EnqueuePayload::OfRun, |f| enqueue::read_payload(f, CODE, report));
    let in_entry = matches!(target, Some(PublishTarget::Stream { .. }));
    let headers = match (map.get("headers", report), &target) {
        (Some(f), Some(PublishTarget::Channel { .. })) => {
            let text = format!("{} does not go with a channel, whose messages are a body only", f.path);
            report.error(CODE, f.key, text);
            BTreeMap::new()
        }
        (Some(f), _) => read_headers(f, in_entry, report),
        (None, _) => BTreeMap::new(),
    };
    Some(FunctionKind::Publish(Box::new(PublishSpec {
        connection: connection.unwrap_or_else(|| DEFAULT_CONNECTION.to_owned()),
        target: target?,
        headers,
        body,
    })))
}

fn read_exchange(map: &Fields<'_>, report: &mut Report<'_>) -> Option<ExchangeTarget> {
    let exchange = match map.get("exchange", report) {
        Some(f) => fixed_or_empty(f, MAX_NAME, report),
        None if map.peek("exchange").is_some() => None,
        None => {
            let text = "publish goes nowhere: add exchange, or redis with channel or stream";
            report.error(CODE, map.mark, text).hint = Some("exchange: \"\" with a queue as routing_key".to_owned());
            None
        }
    };
    let routing_key = match map.get("routing_key", report) {
        // A fanout exchange needs none, so an empty one is fine.
        Some(f) if is_empty(f) => Some(FunctionTemplate::default()),
        Some(f) => template::read(f, CODE, report),
        None => Some(FunctionTemplate::default()),
    };
    let by_queue = exchange.as_deref() == Some("");
    if by_queue && map.peek("routing_key").is_none() {
        let text = "publish.routing_key is required: the default exchange takes the name of a queue there";
        report.error(CODE, map.mark, text);
    }
    let content_type = map.get("content_type", report).and_then(|f| fixed(f, MAX_NAME, report));
    let mut flag = |name| map.get(name, report).and_then(|f| f.flag(CODE, report));
    let (persistent, mandatory) = (flag("persistent"), flag("mandatory"));
    Some(ExchangeTarget {
        exchange: exchange?,
        routing_key: routing_key?,
        content_type,
        persistent: persistent.unwrap_or(true),
        mandatory: mandatory.unwrap_or(true),
    })
}

fn read_redis(field: &Field<'_>, report: &mut Report<'_>) -> Option<PublishTarget> {
    let map = Fields::read(field.node, &field.path, &["channel", "stream", "max_len"], report)?;
    let channel = map.get("channel", report).and_then(|f| fixed(f, MAX_KEY, report));
    let stream = map.get("stream", report).and_then(|f| fixed(f, MAX_KEY, report));
    let max_len = map
        .get("max_len", report)
        .and_then(|f| f.whole(CODE, 1..=u32::MAX, report));
    match (map.peek("channel"), map.peek("stream")) {
        (Some(_), None) => {
            if let Some(f) = map.peek("max_len") {
                report.error(
                    CODE,
                    f.key,
                    format!("{} is for a stream; a channel keeps nothing", f.path),
                );
            }
            Some(PublishTarget::Channel { channel: channel? })
        }
        (None, Some(_)) => Some(PublishTarget::Stream {
            stream: stream?,
            max_len,
        }),
        _ => {
            let text = format!("{} must have either channel or stream", field.path);
            report.error(CODE, map.mark, text);
            None
        }
    }
}

fn read_headers(field: &Field<'_>, in_entry: bool, report: &mut Report<'_>) -> BTreeMap<String, FunctionTemplate> {
    let all = field.text_map(CODE, report).unwrap_or_default();
    if all.len() > MAX_HEADERS {
        let text = format!("{} has more than {MAX_HEADERS} members", field.path);
        report.error(CODE, field.node.mark, text);
    }
    let mut headers = BTreeMap::new();
    for (name, text) in all {
        let path = format!("{}.{name}", field.path);
        if name.is_empty() || name.len() > MAX_NAME {
            let text = format!("a name in {} must have 1-{MAX_NAME} bytes", field.path);
            report.error(CODE, field.node.mark, text);
        }
        if in_entry && OF_ENTRY.contains(&name.as_str()) {
            let text = format!("{path}: every entry has a field of that name already");
            report.error(CODE, field.node.mark, text);
        }
        if let Some(template) = template::parse(&text, &path, field.node.mark, report) {
            headers.insert(name, template);
        }
    }
    headers
}

/// A text that no payload changes.
fn fixed(field: &Field<'_>, most: usize, report: &mut Report<'_>) -> Option<String> {
    field.text(CODE, report)?;
    fixed_or_empty(field, most, report)
}

fn fixed_or_empty(field: &Field<'_>, most: usize, report: &mut Report<'_>) -> Option<String> {
    let text = match is_empty(field) {
        true => "",
        false => field.text(CODE, report)?,
    };
    let wrong = if text.contains("{{") {
        "must not contain templates".to_owned()
    } else if text.len() > most || text.chars().any(char::is_control) {
        format!("must be at most {most} bytes on one line")
    } else {
        return Some(text.to_owned());
    };
    let text = format!("{} {} {wrong}", field.path, quoted(text));
    report.error(CODE, field.node.mark, text);
    None
}

fn is_empty(field: &Field<'_>) -> bool {
    matches!(&field.node.value, Value::Text(text) if text.is_empty())
}
