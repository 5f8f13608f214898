//! Reads `rabbitmq`: a queue whose messages run the function.

use std::time::Duration;

use runner_core::trigger::{
    BadMessage, Binding, BodyFormat, DEFAULT_CONNECTION, DEFAULT_PREFETCH, DEFAULT_REMEMBER, DeclareQueue,
    ExchangeType, MAX_BODY, MESSAGE_VALUES, RabbitMqTrigger, TriggerKind,
};

use super::TriggerContext;
use super::template::{self, EventValues};
use crate::text::{Field, Fields, Report, nearest, quoted};

/// The code of what cannot be used.
const CODE: &str = "E143";

/// What templates can name.
const VALUES: EventValues = EventValues {
    root: "message",
    event: "a message",
    names: &MESSAGE_VALUES,
    maps: &["body", "headers"],
};

/// The longest name of a queue, an exchange or a routing key: RabbitMQ's bound is 255, and a queue that is created gets one
/// for dead letters, with five bytes more.
const MAX_NAME: usize = 250;

/// Bindings of one queue; more of them want a pattern.
const MAX_KEYS: usize = 100;

const FIELDS: &[&str] = &[
    "connection",
    "queue",
    "declare",
    "single_active_consumer",
    "bind",
    "prefetch",
    "dedupe",
    "remember",
    "body",
    "payload",
    "max_bytes",
    "on_bad_message",
];

pub(super) fn read(field: &Field<'_>, context: &TriggerContext<'_>, report: &mut Report<'_>) -> Option<TriggerKind> {
    let map = Fields::read(field.node, &field.path, FIELDS, report)?;
    let queue = match map.get("queue", report) {
        Some(f) => name(f, report),
        None if map.peek("queue").is_none() => {
            report.error(CODE, map.mark, format!("{}.queue is required", field.path));
            None
        }
        None => None,
    };
    let connection = read_connection(&map, context, report);
    let declare = read_declare(&map, report);
    let bind = map.get("bind", report).and_then(|f| read_binding(f, report));
    let prefetch = map
        .get("prefetch", report)
        .and_then(|f| f.whole(CODE, 1..=u32::from(u16::MAX), report));
    let dedupe = map.get("dedupe", report).and_then(|f| VALUES.text(f, report));
    let remember = map
        .get("remember", report)
        .and_then(|f| f.seconds(CODE, Duration::from_secs(1)..=Duration::from_secs(30 * 86_400), report));
    let formats = [("json", BodyFormat::Json), ("bytes", BodyFormat::Bytes)];
    let format = map.get("body", report).and_then(|f| f.word(CODE, &formats, report));
    let format = format.unwrap_or_default();
    let payload = map
        .get("payload", report)
        .and_then(|f| VALUES.payload(f, context.payload, report));
    if format == BodyFormat::Bytes && payload.as_ref().is_some_and(|payload| template::names(payload, "body")) {
        let text = format!(
            "{}.payload names message.body, which {}.body: bytes does not read as JSON",
            field.path, field.path
        );
        report.error(CODE, map.mark, text).hint = Some("remove one of the two".to_owned());
    }
    let max_bytes = map
        .get("max_bytes", report)
        .and_then(|f| f.whole(CODE, 1..=64 << 20, report));
    let default = match declare {
        DeclareQueue::Passive => BadMessage::Keep,
        DeclareQueue::Create { .. } => BadMessage::DeadLetter,
    };
    let bad = map
        .get("on_bad_message", report)
        .and_then(|f| f.word(CODE, &BadMessage::WORDS, report));
    Some(TriggerKind::RabbitMq(RabbitMqTrigger {
        connection,
        queue: queue?,
        declare,
        bind,
        prefetch: prefetch.and_then(|n| u16::try_from(n).ok()).unwrap_or(DEFAULT_PREFETCH),
        dedupe,
        remember: remember.unwrap_or(DEFAULT_REMEMBER),
        format,
        payload,
        max_bytes: max_bytes.map_or(MAX_BODY, |n| n as usize),
        bad_messages: bad.unwrap_or(default),
    }))
}

/// A connection that the settings do not name is a warning: another instance may have it.
fn read_connection(map: &Fields<'_>, context: &TriggerContext<'_>, report: &mut Report<'_>) -> String {
    let field = map.get("connection", report);
    let named = field.and_then(|f| f.text(CODE, report)).unwrap_or(DEFAULT_CONNECTION);
    let known = &context.context.rabbitmq;
    if !known.iter().any(|name| name == named) {
        let mark = field.map_or(map.mark, |f| f.node.mark);
        let text = format!(
            "connection {} is not defined under rabbitmq.connections of the settings; this trigger does not listen here",
            quoted(named)
        );
        let likely = nearest(named, known.iter().map(String::as_str)).map(|name| format!("did you mean \"{name}\"?"));
        let hint = likely.unwrap_or_else(|| match known.as_slice() {
            [] => "rabbitmq: {connections: {main: \"${env:AMQP_URL}\"}} in config.yaml".to_owned(),
            known => format!("known there: {}", known.join(", ")),
        });
        report.warning("W216", mark, text).hint = Some(hint);
    }
    named.to_owned()
}

fn read_declare(map: &Fields<'_>, report: &mut Report<'_>) -> DeclareQueue {
    let create = map
        .get("declare", report)
        .and_then(|f| f.word(CODE, &[("passive", false), ("create", true)], report));
    let single = map.get("single_active_consumer", report);
    let single_active_consumer = single.and_then(|f| f.flag(CODE, report)).unwrap_or_default();
    if create == Some(true) {
        return DeclareQueue::Create { single_active_consumer };
    }
    if let (true, Some(field)) = (single_active_consumer, single) {
        let text = format!(
            "{} is a property of the queue, which its owner sets with declare: passive",
            field.path
        );
        report.error(CODE, field.node.mark, text).hint = Some("write declare: create, or remove it".to_owned());
    }
    DeclareQueue::Passive
}

fn read_binding(field: &Field<'_>, report: &mut Report<'_>) -> Option<Binding> {
    let map = Fields::read(field.node, &field.path, &["exchange", "type", "routing_keys"], report)?;
    let exchange = match map.get("exchange", report) {
        Some(f) => name(f, report),
        None => {
            report.error(CODE, map.mark, format!("{}.exchange is required", field.path));
            None
        }
    };
    let kind = map
        .get("type", report)
        .and_then(|f| f.word(CODE, &ExchangeType::WORDS, report));
    let kind = kind.unwrap_or_default();
    let keys = map.get("routing_keys", report).and_then(|f| {
        let keys = f.texts(CODE, report)?;
        if keys.is_empty() || keys.len() > MAX_KEYS || keys.iter().any(|key| key.len() > MAX_NAME) {
            let text = format!("{} must list 1-{MAX_KEYS} keys of at most {MAX_NAME} bytes", f.path);
            report.error(CODE, f.node.mark, text);
        }
        Some(keys)
    });
    let routing_keys = match (keys, kind) {
        (Some(keys), _) => keys,
        (None, ExchangeType::Fanout) => vec![String::new()],
        (None, ExchangeType::Topic) => vec!["#".to_owned()],
        (None, ExchangeType::Direct) => {
            report.error(
                CODE,
                map.mark,
                format!("{}.routing_keys is required for a direct exchange", field.path),
            );
            Vec::new()
        }
    };
    Some(Binding {
        exchange: exchange?,
        kind,
        routing_keys,
    })
}

fn name(field: &Field<'_>, report: &mut Report<'_>) -> Option<String> {
    let text = field.text(CODE, report)?;
    if text.len() <= MAX_NAME && !text.chars().any(char::is_control) {
        return Some(text.to_owned());
    }
    let message = format!("{} must be at most {MAX_NAME} bytes on one line", field.path);
    report.error(CODE, field.node.mark, message);
    None
}
