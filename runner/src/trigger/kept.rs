//! Events of which no task could be made, kept in the broker: the last ones of each trigger and host.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use runner_core::trigger::TriggerDefinition;
use runner_queue::{Broker, BrokerResult};
use serde_json::{Map, Value, json};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Intake;

/// The kind of their documents.
const KIND: &str = "bad-messages";

/// How many are kept of a trigger; the oldest make way.
const KEPT: u64 = 32;

/// Bytes of a body that are kept.
const MAX_BODY: usize = 64 * 1024;

/// For how long.
const KEPT_FOR: Duration = Duration::from_secs(30 * 86_400);

/// Between two attempts to keep one.
const PAUSE: Duration = Duration::from_secs(2);

/// How many were kept of each trigger since the process began: the place of the next one.
static COUNTS: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

fn next_place(trigger: &str) -> u64 {
    let mut counts = COUNTS.lock().unwrap_or_else(PoisonError::into_inner);
    let count = counts.entry(trigger.to_owned()).or_default();
    let place = *count % KEPT;
    *count += 1;
    place
}

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
    let host = instance.split(':').next().unwrap_or_default();
    let name = format!("{}@{host}#{}", trigger.id, next_place(&trigger.id.to_string()));
    // When it was kept is worth a call, and not the message.
    let at = intake.broker().now().await.ok();
    let body = document(trigger, event, at);
    loop {
        let kept = intake.broker().keep_document(KIND, &name, body.clone(), KEPT_FOR).await;
        match kept {
            Ok(()) => return true,
            Err(error) => intake.failed("keep a message that cannot become a task", &error),
        }
        if timeout(PAUSE, stop.cancelled()).await.is_ok() {
            return false;
        }
    }
}

/// Events that are kept, the newest first, as far as the broker lists documents: each an object, with the name under which it
/// is kept.
///
/// # Errors
///
/// Those of the broker.
pub async fn kept_messages(broker: &dyn Broker) -> BrokerResult<Vec<(String, Map<String, Value>)>> {
    let all = broker.documents(KIND).await?.into_iter();
    let read = |(name, body): (String, Vec<u8>)| match serde_json::from_slice(&body) {
        Ok(Value::Object(message)) => Some((name, message)),
        _ => None,
    };
    Ok(all.filter_map(read).collect())
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
