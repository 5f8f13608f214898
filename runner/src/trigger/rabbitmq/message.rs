//! A message as a task: its identity and its payload, by the rules of its trigger.

use std::cell::OnceCell;
use std::time::Duration;

use bytes::Bytes;
use lapin::message::Delivery as Message;
use lapin::types::{AMQPValue, FieldTable};
use runner_core::task::{TRACEPARENT, TRACESTATE, TaskId, check_json};
use runner_core::template::{Values, inside};
use runner_core::trigger::{BodyFormat, RabbitMqTrigger, TriggerDefinition};
use runner_queue::Delivery;
use serde_json::{Map, Value};

use crate::trigger::identity::{bounded, made};

/// How long a message without an identity is known, for calls that are repeated because their outcome is unknown: the task of
/// the first call may be done and gone by then.
const UNNAMED: Duration = Duration::from_secs(600);

/// Levels of tables in headers that templates can see; deeper ones are left out.
const MAX_LEVELS: usize = 16;

/// Why no task can be made of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadReason(pub(super) String);

/// The task of a message. Takes the body out of it, if that is the payload.
pub(super) fn to_delivery(
    trigger: &TriggerDefinition,
    spec: &RabbitMqTrigger,
    message: &mut Message,
) -> Result<Delivery, BadReason> {
    let length = message.data.len();
    if length > spec.max_bytes {
        let most = spec.max_bytes;
        return Err(BadReason(format!(
            "the body has {length} bytes, and max_bytes is {most}"
        )));
    }
    if spec.format == BodyFormat::Json && length > 0 {
        check_json(&message.data).map_err(|why| BadReason(format!("the body is not JSON: {why}")))?;
    }
    let (identity, payload) = {
        let values = MessageValues::of(message);
        let identity = match &spec.dedupe {
            Some(template) => Some(
                template
                    .text(&values)
                    .map_err(|why| BadReason(format!("dedupe: {why}")))?,
            ),
            None => message.properties.message_id().as_ref().map(ToString::to_string),
        };
        let payload = match &spec.payload {
            Some(template) => {
                let value = template
                    .value(&values)
                    .map_err(|why| BadReason(format!("payload: {why}")))?;
                Some(made(&value).map_err(BadReason)?)
            }
            None => None,
        };
        (identity.filter(|identity| !identity.is_empty()), payload)
    };
    let of_task = payload.as_deref().or((length > 0).then_some(&message.data[..]));
    if let Some(fault) = trigger.payload_fault(of_task) {
        return Err(BadReason(fault.to_string()));
    }
    let mut task = trigger.task.clone();
    task.payload = match payload {
        Some(made) => Some(made),
        None => (length > 0).then(|| Bytes::from(std::mem::take(&mut message.data))),
    };
    let (id, remember) = match identity {
        Some(identity) => (format!("{}@msg-{}", trigger.id, bounded(&identity)), spec.remember),
        None => (
            format!("{}@{}", trigger.id, TaskId::random()),
            spec.remember.min(UNNAMED),
        ),
    };
    task.id = Some(TaskId::new(id).map_err(|why| BadReason(why.to_string()))?);
    if let Some(parent) = header_text(message, TRACEPARENT) {
        task = task.traced(&parent, header_text(message, TRACESTATE).as_deref());
    }
    Ok(Delivery { task, remember })
}

/// A header that is a text.
fn header_text(message: &Message, name: &str) -> Option<String> {
    let table = message.properties.headers().as_ref()?;
    match table.inner().get(name)? {
        AMQPValue::ShortString(value) => Some(value.to_string()),
        AMQPValue::LongString(value) => std::str::from_utf8(value.as_bytes()).ok().map(str::to_owned),
        AMQPValue::ByteArray(value) => std::str::from_utf8(value.as_slice()).ok().map(str::to_owned),
        _ => None,
    }
}

/// The values that templates name.
struct MessageValues<'a> {
    message: &'a Message,
    body: OnceCell<Option<Value>>,
    headers: OnceCell<Value>,
}

impl<'a> MessageValues<'a> {
    fn of(message: &'a Message) -> Self {
        Self {
            message,
            body: OnceCell::new(),
            headers: OnceCell::new(),
        }
    }

    fn body(&self) -> Option<&Value> {
        self.body
            .get_or_init(|| serde_json::from_slice(&self.message.data).ok())
            .as_ref()
    }

    fn headers(&self) -> &Value {
        let table = self.message.properties.headers();
        self.headers
            .get_or_init(|| table.as_ref().map_or(Value::Null, |table| object(table, 0)))
    }
}

impl Values for MessageValues<'_> {
    fn value(&self, path: &[String]) -> Option<Value> {
        let [root, name, rest @ ..] = path else { return None };
        if root != "message" {
            return None;
        }
        let of = &self.message.properties;
        let text = |text: &dyn ToString| Some(Value::String(text.to_string()));
        match name.as_str() {
            "body" => inside(self.body()?, rest),
            "headers" => inside(self.headers(), rest),
            "routing_key" => text(&self.message.routing_key),
            "exchange" => text(&self.message.exchange),
            "redelivered" => Some(Value::Bool(self.message.redelivered)),
            "message_id" => of.message_id().as_ref().and_then(|value| text(value)),
            "correlation_id" => of.correlation_id().as_ref().and_then(|value| text(value)),
            "content_type" => of.content_type().as_ref().and_then(|value| text(value)),
            "type" => of.kind().as_ref().and_then(|value| text(value)),
            "app_id" => of.app_id().as_ref().and_then(|value| text(value)),
            "reply_to" => of.reply_to().as_ref().and_then(|value| text(value)),
            "timestamp" => of.timestamp().map(Value::from),
            "priority" => of.priority().map(Value::from),
            _ => None,
        }
    }
}

/// What is kept of a bad message beside its body, each under the name that templates have for it.
pub(super) fn facts(message: &Message) -> Value {
    let values = MessageValues::of(message);
    let known = [
        "message_id",
        "exchange",
        "routing_key",
        "redelivered",
        "correlation_id",
        "content_type",
        "type",
        "app_id",
        "reply_to",
        "timestamp",
        "priority",
        "headers",
    ];
    let value = |name: &str| values.value(&["message".to_owned(), name.to_owned()]);
    let members = known
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), bounded_fact(value(name)?))));
    Value::Object(members.collect())
}

/// Bytes of headers that are kept.
const MAX_HEADERS: usize = 16 * 1024;

fn bounded_fact(value: Value) -> Value {
    let length = value.to_string().len();
    match length <= MAX_HEADERS {
        true => value,
        false => format!("not kept: {length} bytes").into(),
    }
}

fn object(table: &FieldTable, level: usize) -> Value {
    if level == MAX_LEVELS {
        return Value::Null;
    }
    let members = table
        .inner()
        .iter()
        .map(|(name, value)| (name.to_string(), json(value, level + 1)));
    Value::Object(members.collect::<Map<_, _>>())
}

fn json(value: &AMQPValue, level: usize) -> Value {
    match value {
        AMQPValue::Boolean(value) => (*value).into(),
        AMQPValue::ShortShortInt(value) => (*value).into(),
        AMQPValue::ShortShortUInt(value) => (*value).into(),
        AMQPValue::ShortInt(value) => (*value).into(),
        AMQPValue::ShortUInt(value) => (*value).into(),
        AMQPValue::LongInt(value) => (*value).into(),
        AMQPValue::LongUInt(value) => (*value).into(),
        AMQPValue::LongLongInt(value) => (*value).into(),
        AMQPValue::Timestamp(value) => (*value).into(),
        AMQPValue::Float(value) => (*value).into(),
        AMQPValue::Double(value) => (*value).into(),
        AMQPValue::ShortString(value) => value.to_string().into(),
        AMQPValue::LongString(value) => String::from_utf8_lossy(value.as_bytes()).into_owned().into(),
        AMQPValue::ByteArray(value) => String::from_utf8_lossy(value.as_slice()).into_owned().into(),
        AMQPValue::FieldArray(values) if level < MAX_LEVELS => {
            values.as_slice().iter().map(|value| json(value, level + 1)).collect()
        }
        AMQPValue::FieldTable(table) => object(table, level),
        AMQPValue::DecimalValue(_) | AMQPValue::FieldArray(_) | AMQPValue::Void => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use lapin::BasicProperties;
    use runner_core::schedule::{Origin, Source};
    use runner_core::task::Task;
    use runner_core::template::{JsonTemplate, Template};
    use runner_core::trigger::{
        BadMessage, DEFAULT_PREFETCH, DEFAULT_REMEMBER, DeclareQueue, MAX_BODY, TriggerId, TriggerKind,
    };
    use serde_json::json;

    use super::*;

    fn spec() -> RabbitMqTrigger {
        RabbitMqTrigger {
            connection: "main".to_owned(),
            queue: "q".to_owned(),
            declare: DeclareQueue::Passive,
            bind: None,
            prefetch: DEFAULT_PREFETCH,
            dedupe: None,
            remember: DEFAULT_REMEMBER,
            format: BodyFormat::Json,
            payload: None,
            max_bytes: MAX_BODY,
            bad_messages: BadMessage::Keep,
        }
    }

    fn made_of(spec: RabbitMqTrigger, properties: BasicProperties, body: &[u8]) -> Result<Delivery, BadReason> {
        let mut message = Message::mock(1, "ex".into(), "order.created".into(), false, body.to_vec());
        message.properties = properties;
        let trigger = TriggerDefinition {
            id: TriggerId::new("orders", "new"),
            function: "orders".to_owned(),
            origin: Origin {
                source: Source::Manifest,
                place: "a.yaml:1:1".to_owned(),
            },
            enabled: true,
            kind: TriggerKind::RabbitMq(spec.clone()),
            task: Task::new("fn:orders"),
            payload_schema: None,
        };
        to_delivery(&trigger, &spec, &mut message)
    }

    fn named(id: &str) -> BasicProperties {
        BasicProperties::default().with_message_id(id.into())
    }

    fn id_of(delivery: &Delivery) -> &str {
        delivery.task.id.as_ref().unwrap().as_str()
    }

    #[test]
    fn the_message_id_identifies_the_task_and_the_body_is_its_payload() {
        let delivery = made_of(spec(), named("m-1"), br#"{"n":1}"#).unwrap();
        assert_eq!(id_of(&delivery), "orders:new@msg-m-1");
        assert_eq!(delivery.remember, DEFAULT_REMEMBER);
        assert_eq!(delivery.task.payload.as_deref(), Some(&br#"{"n":1}"#[..]));
    }

    #[test]
    fn a_message_without_an_id_gets_a_random_one_that_is_remembered_for_repeated_calls() {
        let made = || made_of(spec(), BasicProperties::default(), b"").unwrap();
        let (first, second) = (made(), made());
        assert!(id_of(&first).starts_with("orders:new@") && id_of(&first) != id_of(&second));
        assert_eq!((first.remember, first.task.payload), (UNNAMED, None));
    }

    #[test]
    fn templates_make_identity_and_payload() {
        let payload =
            json!({"n": "{{ message.body.n }}", "key": "{{ message.routing_key }}", "t": "{{ message.headers.t.0 }}"});
        let mut headers = FieldTable::default();
        let list = vec![AMQPValue::LongString("x".into())];
        headers.insert("t".into(), AMQPValue::FieldArray(list.into()));
        let delivery = made_of(
            RabbitMqTrigger {
                dedupe: Some(Template::parse("{{ message.exchange }}/{{ message.body.n }}").unwrap()),
                payload: Some(JsonTemplate::new(payload).unwrap()),
                ..spec()
            },
            BasicProperties::default().with_headers(headers),
            br#"{"n":7}"#,
        );
        let delivery = delivery.unwrap();
        assert_eq!(id_of(&delivery), "orders:new@msg-ex/7");
        let payload: Value = serde_json::from_slice(delivery.task.payload.as_deref().unwrap()).unwrap();
        assert_eq!(payload, json!({"n": 7, "key": "order.created", "t": "x"}));
    }

    #[test]
    fn the_task_belongs_to_the_trace_of_the_message() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let mut headers = FieldTable::default();
        headers.insert("traceparent".into(), AMQPValue::LongString(parent.into()));
        headers.insert("tracestate".into(), AMQPValue::LongInt(7));
        let delivery = made_of(spec(), BasicProperties::default().with_headers(headers), b"{}").unwrap();
        assert_eq!(delivery.task.headers["traceparent"], parent);
        assert_eq!(delivery.task.headers.len(), 1);
    }

    #[test]
    fn what_is_no_task_says_why() {
        let why = |spec, body: &[u8]| made_of(spec, BasicProperties::default(), body).unwrap_err().0;
        assert!(why(spec(), b"no json").starts_with("the body is not JSON: "));
        let short = RabbitMqTrigger { max_bytes: 3, ..spec() };
        assert_eq!(why(short, b"1234"), "the body has 4 bytes, and max_bytes is 3");
        let dedupe = RabbitMqTrigger {
            dedupe: Some(Template::parse("{{ message.body.id }}").unwrap()),
            ..spec()
        };
        assert_eq!(why(dedupe, b"{}"), "dedupe: message.body.id has no value");
        let bytes = RabbitMqTrigger {
            format: BodyFormat::Bytes,
            ..spec()
        };
        assert!(made_of(bytes, BasicProperties::default(), b"\xff").is_ok());
    }

    #[test]
    fn a_long_or_odd_identity_is_replaced_by_its_hash() {
        for id in ["x".repeat(201), "a\nb".to_owned()] {
            let delivery = made_of(spec(), named(&id), b"1").unwrap();
            let hash = id_of(&delivery).strip_prefix("orders:new@msg-").unwrap().to_owned();
            assert!(
                hash.len() == 64 && hash.chars().all(|c| c.is_ascii_hexdigit()),
                "{hash}"
            );
        }
    }
}
