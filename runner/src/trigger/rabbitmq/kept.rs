//! Messages of which no task could be made, kept in the broker: the last ones of each trigger and host.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lapin::message::Delivery as Message;
use runner_core::trigger::TriggerDefinition;
use serde_json::json;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Shared;

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

/// Keeps a message until the broker has it; false: `stop` came first.
pub(super) async fn keep(
    shared: &Shared,
    trigger: &TriggerDefinition,
    message: &Message,
    why: &str,
    stop: &CancellationToken,
) -> bool {
    let host = shared.instance.split(':').next().unwrap_or_default();
    let name = format!("{}@{host}#{}", trigger.id, next_place(&trigger.id.to_string()));
    let body = document(trigger, message, why);
    loop {
        let kept = shared
            .intake
            .broker()
            .keep_document(KIND, &name, body.clone(), KEPT_FOR)
            .await;
        match kept {
            Ok(()) => return true,
            Err(error) => shared.intake.failed("keep a message that cannot become a task", &error),
        }
        if timeout(PAUSE, stop.cancelled()).await.is_ok() {
            return false;
        }
    }
}

fn document(trigger: &TriggerDefinition, message: &Message, why: &str) -> Vec<u8> {
    let body = &message.data[..message.data.len().min(MAX_BODY)];
    let text = std::str::from_utf8(body).ok();
    let document = json!({
        "trigger": trigger.id.as_str(),
        "why": why,
        "message_id": message.properties.message_id().as_ref().map(ToString::to_string),
        "exchange": message.exchange.to_string(),
        "routing_key": message.routing_key.to_string(),
        "bytes": message.data.len(),
        "body": text,
        "body_base64": text.is_none().then(|| STANDARD.encode(body)),
    });
    document.to_string().into_bytes()
}
