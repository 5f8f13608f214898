//! An entry as a task: its identity and its payload, by the rules of its trigger.

use bytes::Bytes;
use runner_core::task::{TRACEPARENT, TRACESTATE, TaskId, check_json};
use runner_core::template::{Values, inside};
use runner_core::trigger::{BodyFormat, RedisStreamTrigger, TriggerDefinition};
use runner_queue::Delivery;
use runner_queue::redis::StreamEntry;
use serde_json::{Map, Value};

use crate::trigger::identity::{bounded, made};

/// The task of an entry, or why there is none.
pub(super) fn to_delivery(
    trigger: &TriggerDefinition,
    spec: &RedisStreamTrigger,
    entry: &StreamEntry,
) -> Result<Delivery, String> {
    let Some(fields) = &entry.fields else {
        return Err(format!(
            "the entry {} was deleted or trimmed before it was taken",
            entry.id
        ));
    };
    let length: usize = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
    if length > spec.max_bytes {
        return Err(format!(
            "the entry has {length} bytes, and max_bytes is {}",
            spec.max_bytes
        ));
    }
    let values = EntryValues { spec, entry, fields };
    let dedupe = spec.dedupe.as_ref().map(|template| template.text(&values));
    let dedupe = dedupe.transpose().map_err(|why| format!("dedupe: {why}"))?;
    let mut task = trigger.task.clone();
    task.payload = match &spec.payload {
        Some(template) => {
            let value = template.value(&values).map_err(|why| format!("payload: {why}"))?;
            Some(made(&value)?)
        }
        None => body(spec, fields)?,
    };
    if let Some(fault) = trigger.payload_fault(task.payload.as_deref()) {
        return Err(fault.to_string());
    }
    // Ids of entries are unique within their stream only. An empty value identifies nothing.
    let identity = match dedupe.filter(|value| !value.is_empty()) {
        Some(value) => format!("msg-{}", bounded(&value)),
        None => format!("entry-{}", bounded(&format!("{}/{}", spec.stream, entry.id))),
    };
    let id = format!("{}@{identity}", trigger.id);
    task.id = Some(TaskId::new(id).map_err(|why| why.to_string())?);
    let text = |name: &str| {
        let (_, value) = fields.iter().find(|(known, _)| known == name)?;
        std::str::from_utf8(value).ok()
    };
    if let Some(parent) = text(TRACEPARENT) {
        task = task.traced(parent, text(TRACESTATE));
    }
    let remember = spec.remember;
    Ok(Delivery { task, remember })
}

/// The one field that is the body, or all of them as an object.
fn body(spec: &RedisStreamTrigger, fields: &[(String, Vec<u8>)]) -> Result<Option<Bytes>, String> {
    let Some(name) = &spec.field else {
        return made(&object(fields)).map(Some);
    };
    let Some((_, value)) = fields.iter().find(|(known, _)| known == name) else {
        return Err(format!("the entry has no field {name:?}"));
    };
    if spec.format == BodyFormat::Json && !value.is_empty() {
        check_json(value).map_err(|why| format!("the field {name:?} is not JSON: {why}"))?;
    }
    Ok((!value.is_empty()).then(|| Bytes::from(value.clone())))
}

/// All fields as an object of texts.
pub(super) fn object(fields: &[(String, Vec<u8>)]) -> Value {
    let members = fields.iter().map(|(name, value)| (name.clone(), text(value)));
    Value::Object(members.collect::<Map<_, _>>())
}

fn text(value: &[u8]) -> Value {
    String::from_utf8_lossy(value).into_owned().into()
}

/// The values that templates name.
struct EntryValues<'a> {
    spec: &'a RedisStreamTrigger,
    entry: &'a StreamEntry,
    fields: &'a [(String, Vec<u8>)],
}

impl Values for EntryValues<'_> {
    fn value(&self, path: &[String]) -> Option<Value> {
        let [root, name, rest @ ..] = path else { return None };
        if root != "entry" {
            return None;
        }
        let field = |wanted: &String| {
            self.fields
                .iter()
                .find(|(known, _)| known == wanted)
                .map(|(_, value)| value)
        };
        match (name.as_str(), rest) {
            ("id", []) => Some(self.entry.id.clone().into()),
            ("stream", []) => Some(self.spec.stream.clone().into()),
            ("fields", []) => Some(object(self.fields)),
            ("fields", [name]) => field(name).map(|value| text(value)),
            ("json", [name, inner @ ..]) => inside(&serde_json::from_slice(field(name)?).ok()?, inner),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use runner_core::schedule::{Origin, Source};
    use runner_core::task::Task;
    use runner_core::template::{JsonTemplate, Template};
    use runner_core::trigger::{
        BadMessage, DEFAULT_BATCH, DEFAULT_REMEMBER, DEFAULT_TAKE_OVER, MAX_BODY, StreamStart, TriggerId, TriggerKind,
    };
    use serde_json::json;

    use super::*;

    fn spec() -> RedisStreamTrigger {
        RedisStreamTrigger {
            connection: "main".to_owned(),
            stream: "orders".to_owned(),
            group: None,
            from: StreamStart::First,
            create: false,
            batch: DEFAULT_BATCH,
            take_over: DEFAULT_TAKE_OVER,
            dedupe: None,
            remember: DEFAULT_REMEMBER,
            field: None,
            format: BodyFormat::Json,
            payload: None,
            max_bytes: MAX_BODY,
            bad_entries: BadMessage::Keep,
            dead_stream: "orders.dead".to_owned(),
        }
    }

    fn made_of(spec: RedisStreamTrigger, fields: &[(&str, &str)]) -> Result<Delivery, String> {
        let fields = fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()));
        let entry = StreamEntry {
            id: "7-0".to_owned(),
            fields: Some(fields.collect()),
        };
        let trigger = TriggerDefinition {
            id: TriggerId::new("orders", "new"),
            function: "orders".to_owned(),
            origin: Origin {
                source: Source::Manifest,
                place: "a.yaml:1:1".to_owned(),
            },
            enabled: true,
            kind: TriggerKind::RedisStream(spec.clone()),
            payload_schema: None,
            task: Task::new("fn:orders"),
        };
        to_delivery(&trigger, &spec, &entry)
    }

    fn id_of(delivery: &Delivery) -> &str {
        delivery.task.id.as_ref().unwrap().as_str()
    }

    #[test]
    fn stream_and_id_identify_the_task_and_all_fields_are_its_payload() {
        let delivery = made_of(spec(), &[("a", "1"), ("b", "x")]).unwrap();
        assert_eq!(id_of(&delivery), "orders:new@entry-orders/7-0");
        assert_eq!(delivery.task.payload.as_deref(), Some(&br#"{"a":"1","b":"x"}"#[..]));
    }

    #[test]
    fn one_field_may_be_the_body_and_templates_reach_into_it() {
        let payload =
            JsonTemplate::new(json!({"n": "{{ entry.json.body.n }}", "by": "{{ entry.fields.by }}"})).unwrap();
        let templated = RedisStreamTrigger {
            payload: Some(payload),
            dedupe: Some(Template::parse("{{ entry.fields.id }}").unwrap()),
            ..spec()
        };
        let fields = [("id", "m-1"), ("body", r#"{"n":7}"#), ("by", "ann")];
        let delivery = made_of(templated.clone(), &fields).unwrap();
        assert_eq!(id_of(&delivery), "orders:new@msg-m-1");
        assert_eq!(delivery.task.payload.as_deref(), Some(&br#"{"by":"ann","n":7}"#[..]));
        let empty = made_of(templated, &[("id", ""), ("body", r#"{"n":7}"#), ("by", "")]).unwrap();
        assert_eq!(
            id_of(&empty),
            "orders:new@entry-orders/7-0",
            "an empty value identifies nothing"
        );
        let field = Some("body".to_owned());
        let delivery = made_of(RedisStreamTrigger { field, ..spec() }, &fields).unwrap();
        assert_eq!(delivery.task.payload.as_deref(), Some(&br#"{"n":7}"#[..]));
    }

    #[test]
    fn a_field_may_name_the_trace_that_the_entry_belongs_to() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let delivery = made_of(spec(), &[("a", "1"), ("traceparent", parent), ("tracestate", "v=1")]).unwrap();
        assert_eq!(delivery.task.headers["traceparent"], parent);
        assert_eq!(delivery.task.headers["tracestate"], "v=1");
        let none = made_of(spec(), &[("a", "1"), ("traceparent", "x")]).unwrap();
        assert!(none.task.headers.is_empty());
    }

    #[test]
    fn what_makes_no_task_says_why() {
        let field = |name: &str| RedisStreamTrigger {
            field: Some(name.to_owned()),
            ..spec()
        };
        for (spec, expected) in [
            (field("none"), "the entry has no field \"none\""),
            (field("a"), "the field \"a\" is not JSON"),
            (RedisStreamTrigger { max_bytes: 2, ..spec() }, "the entry has 5 bytes"),
        ] {
            let why = made_of(spec, &[("a", "no {")]).unwrap_err();
            assert!(why.starts_with(expected), "{why}");
        }
    }
}
