//! Events of which no task could be made, kept in the broker: the last ones of each trigger and host.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use runner_core::task::TaskId;
use runner_core::trigger::TriggerDefinition;
use runner_queue::{Broker, BrokerResult, Delivery};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Intake;
use super::kept_names::{self, KEPT_FOR, KIND};

/// Bytes of a body that are kept.
const MAX_BODY: usize = 64 * 1024;

/// For how long its run by hand is known, so that a button that is pressed twice runs it once.
const RUN_ONCE: Duration = Duration::from_secs(600);

/// Between two attempts to keep one.
const PAUSE: Duration = Duration::from_secs(2);

/// What is kept of an event.
pub(super) struct BadEvent<'a> {
    /// Why no task could be made of it.
    pub(super) why: &'a str,
    /// Its content.
    pub(super) body: &'a [u8],
    /// An object with what its kind knows of it.
    pub(super) facts: Value,
}

/// Keeps an event until the broker has it; false: `stop` came first.
pub(super) async fn keep(
    intake: &Intake,
    instance: &str,
    trigger: &TriggerDefinition,
    event: &BadEvent<'_>,
    stop: &CancellationToken,
) -> bool {
    let (broker, id) = (intake.broker(), trigger.id.as_str());
    let host = instance.split(':').next().unwrap_or_default();
    // When it was kept is worth a call, and not the message.
    let at = broker.now().await.ok();
    let body = document(trigger, event, at);
    let mut place = None;
    loop {
        let kept = async {
            let place = match place {
                Some(place) => place,
                None => *place.insert(intake.next_places().take(broker, id, host).await?),
            };
            let name = kept_names::name(id, host, place);
            broker.keep_document(KIND, &name, body.clone(), KEPT_FOR).await
        };
        match kept.await {
            Ok(()) => return true,
            Err(error) => intake.failed("keep a message that cannot become a task", &error),
        }
        if timeout(PAUSE, stop.cancelled()).await.is_ok() {
            return false;
        }
    }
}

/// An event that is kept.
#[derive(Debug, Clone)]
pub struct SavedMessage {
    /// The name under which it is kept; a later one of its trigger may take it over.
    pub name: String,
    /// Identifies it among all that have or had this name: 16 hexadecimal digits.
    pub stamp: String,
    /// All that is kept of it, with `trigger`, `why`, `at`, `bytes`, `body` or `body_base64`, and what its kind knows.
    pub document: Map<String, Value>,
}

impl SavedMessage {
    fn read(name: String, document: &[u8]) -> Option<Self> {
        let digest = Sha256::digest(document);
        let stamp = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let document = serde_json::from_slice(document).ok()?;
        Some(Self { name, stamp, document })
    }

    fn text(&self, key: &str) -> &str {
        self.document.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// The id of its trigger.
    #[must_use]
    pub fn trigger(&self) -> &str {
        self.text("trigger")
    }

    /// Why no task could be made of it.
    #[must_use]
    pub fn why(&self) -> &str {
        self.text("why")
    }

    /// When it was kept, if the broker could say.
    #[must_use]
    pub fn at(&self) -> Option<Timestamp> {
        self.text("at").parse().ok()
    }

    /// The bytes of its body, of which the first 65,536 are kept.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.document.get("bytes").and_then(Value::as_u64).unwrap_or_default()
    }

    /// What is kept of its body.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        match self.document.get("body").and_then(Value::as_str) {
            Some(body) => body.as_bytes().to_vec(),
            None => STANDARD.decode(self.text("body_base64")).unwrap_or_default(),
        }
    }

    /// What its kind knows of it, such as queue and headers: names and values.
    pub fn facts(&self) -> impl Iterator<Item = (&str, &Value)> {
        let own = self.document.iter().filter(|(key, value)| {
            !["trigger", "why", "at", "bytes", "body", "body_base64"].contains(&key.as_str()) && !value.is_null()
        });
        own.map(|(key, value)| (key.as_str(), value))
    }

    /// The task that runs the function of its trigger with its body, whatever the trigger says about bodies.
    ///
    /// # Errors
    ///
    /// Why there is none: its body is not kept completely, or the function does not accept it.
    pub fn delivery(&self, trigger: &TriggerDefinition) -> Result<Delivery, String> {
        let (body, all) = (self.body(), self.bytes());
        if (body.len() as u64) < all {
            return Err(format!("only the first {} of its {all} bytes are kept", body.len()));
        }
        let mut task = trigger.task.clone();
        if let Some(fault) = trigger.payload_fault(Some(&body)) {
            return Err(fault.to_string());
        }
        if !body.is_empty() {
            task.payload = Some(body.into());
        }
        let id = format!("{}@kept-{}", trigger.id, self.stamp);
        task.id = Some(TaskId::new(id).map_err(|why| why.to_string())?);
        let remember = RUN_ONCE;
        Ok(Delivery { task, remember })
    }

    /// Removes it from those that are kept.
    ///
    /// # Errors
    ///
    /// Those of the broker.
    pub async fn forget(&self, broker: &dyn Broker) -> BrokerResult<()> {
        broker.drop_document(KIND, &self.name).await
    }
}

/// The events with these names that are still kept, in their order, of which at most [`MAX_DOCUMENTS`](runner_queue::MAX_DOCUMENTS) are read.
///
/// # Errors
///
/// Those of the broker.
pub async fn messages_named(broker: &dyn Broker, names: &[String]) -> BrokerResult<Vec<SavedMessage>> {
    let all = broker.documents_named(KIND, names).await?.into_iter();
    Ok(all.filter_map(|(name, body)| SavedMessage::read(name, &body)).collect())
}

/// The event with this name and stamp, if it is still kept.
///
/// # Errors
///
/// Those of the broker.
pub async fn kept_message(broker: &dyn Broker, name: &str, stamp: &str) -> BrokerResult<Option<SavedMessage>> {
    let found = broker.document(KIND, name).await?;
    let found = found.and_then(|document| SavedMessage::read(name.to_owned(), &document));
    Ok(found.filter(|message| message.stamp == stamp))
}

fn document(trigger: &TriggerDefinition, event: &BadEvent<'_>, at: Option<Timestamp>) -> Vec<u8> {
    let body = &event.body[..event.body.len().min(MAX_BODY)];
    let text = std::str::from_utf8(body).ok();
    let mut document = json!({
        "trigger": trigger.id.as_str(),
        "why": event.why,
        "at": at,
        "bytes": event.body.len(),
        "body": text,
        "body_base64": text.is_none().then(|| STANDARD.encode(body)),
    });
    if let (Value::Object(all), Value::Object(facts)) = (&mut document, &event.facts) {
        all.extend(facts.clone());
    }
    document.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use runner_core::function::{PayloadCheck, PayloadSchema, SchemaFault};
    use runner_core::schedule::{Origin, Source};
    use runner_core::task::Task;
    use runner_core::trigger::{TriggerId, TriggerKind};

    use super::*;

    fn trigger() -> TriggerDefinition {
        TriggerDefinition {
            id: TriggerId::new("orders", "new"),
            function: "orders".to_owned(),
            origin: Origin {
                source: Source::Manifest,
                place: "a.yaml:1:1".to_owned(),
            },
            enabled: true,
            kind: TriggerKind::Start,
            task: Task::new("fn:orders").payload("{}"),
            payload_schema: None,
        }
    }

    fn kept(body: &[u8]) -> SavedMessage {
        let facts = json!({"queue": "q", "message_id": null});
        let event = BadEvent {
            why: "no JSON",
            body,
            facts,
        };
        let document = document(&trigger(), &event, Some(Timestamp::UNIX_EPOCH));
        SavedMessage::read("orders:new@h#0".to_owned(), &document).unwrap()
    }

    #[test]
    fn what_is_kept_is_read_back() {
        for body in [&b"no json"[..], b"\xff\x00", b""] {
            let message = kept(body);
            assert_eq!((message.body().as_slice(), message.bytes()), (body, body.len() as u64));
            assert_eq!((message.trigger(), message.why()), ("orders:new", "no JSON"));
            assert_eq!(message.at(), Some(Timestamp::UNIX_EPOCH));
            let facts: Vec<(&str, &Value)> = message.facts().collect();
            assert_eq!(facts, [("queue", &json!("q"))]);
        }
        assert_ne!(kept(b"a").stamp, kept(b"b").stamp);
    }

    #[test]
    fn its_task_has_its_body_if_that_is_complete_and_fits() {
        let delivery = kept(b"no json").delivery(&trigger()).unwrap();
        assert_eq!(delivery.task.payload.as_deref(), Some(&b"no json"[..]));
        let id = delivery.task.id.unwrap();
        assert!(id.as_str().starts_with("orders:new@kept-"), "{id}");
        let empty = kept(b"").delivery(&trigger()).unwrap();
        assert_eq!(empty.task.payload.as_deref(), Some(&b"{}"[..]));
        let long = kept(&[b'x'; MAX_BODY + 1]).delivery(&trigger());
        assert_eq!(long.unwrap_err(), "only the first 65536 of its 65537 bytes are kept");
        let strict = TriggerDefinition {
            payload_schema: Some(PayloadSchema::new("false", Arc::new(Nothing))),
            ..trigger()
        };
        let refused = kept(b"[]").delivery(&strict).unwrap_err();
        assert!(refused.contains("nothing fits"), "{refused}");
    }

    #[derive(Debug)]
    struct Nothing;

    impl PayloadCheck for Nothing {
        fn fault(&self, _: &[u8]) -> Option<SchemaFault> {
            Some(SchemaFault {
                path: "/".to_owned(),
                why: "nothing fits".to_owned(),
            })
        }
    }
}
