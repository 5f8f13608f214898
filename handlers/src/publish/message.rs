//! The message of a task: its templates filled, and what a server could not take refused before it is asked.

use runner_core::function::{EnqueuePayload, FunctionTemplateFault, PublishSpec, PublishTarget, TemplateScope};
use runner_core::task::TRACEPARENT;
use runner_sdk::{Bytes, Ctx, TaskError, check_json};
use sha2::{Digest as _, Sha256};

use super::{Addressed, OutgoingMessage};
use crate::scope;

/// Bytes of a routing key and of an id that AMQP can carry.
const MAX_SHORT: usize = 255;

/// Bytes of all headers: they must fit into one frame of 128 KiB.
const MAX_HEADERS: usize = 64 * 1024;

const JSON: &str = "application/json";

/// Fills the templates.
pub(super) fn write(spec: &PublishSpec, function: &str, cx: &Ctx) -> Result<OutgoingMessage, TaskError> {
    let scope = scope::of(cx, function);
    // What a payload makes impossible stays so.
    filled(spec, &scope, cx).map_err(|why| TaskError::skip(format!("publish: {why}")))
}

fn filled(spec: &PublishSpec, scope: &TemplateScope, cx: &Ctx) -> Result<OutgoingMessage, String> {
    let (body, content_type) = body(spec, scope, cx).map_err(|fault| fault.to_string())?;
    let mut headers = Vec::with_capacity(spec.headers.len());
    let mut bytes = 0;
    for (name, text) in &spec.headers {
        let value = text.fill(scope).map_err(|fault| format!("headers.{name}: {fault}"))?;
        bytes += name.len() + value.len();
        headers.push((name.clone(), value));
    }
    if bytes > MAX_HEADERS {
        return Err(format!("the headers have {bytes} bytes; at most {MAX_HEADERS}"));
    }
    if matches!(spec.target, PublishTarget::Exchange(_)) && !spec.headers.contains_key(TRACEPARENT) {
        // So that who receives the message continues the trace of this attempt.
        let trace = cx.trace().map(|trace| (TRACEPARENT.to_owned(), trace.to_string()));
        headers.extend(trace);
    }
    let to = match &spec.target {
        PublishTarget::Exchange(target) => {
            let key = target.routing_key.fill(scope);
            let routing_key = key.map_err(|fault| format!("routing_key: {fault}"))?;
            if routing_key.len() > MAX_SHORT {
                let length = routing_key.len();
                return Err(format!("the routing key has {length} bytes; at most {MAX_SHORT}"));
            }
            Addressed::Exchange {
                exchange: target.exchange.clone(),
                routing_key,
                content_type: target.content_type.clone().unwrap_or_else(|| content_type.to_owned()),
                persistent: target.persistent,
                mandatory: target.mandatory,
            }
        }
        PublishTarget::Channel { channel } => Addressed::Channel(channel.clone()),
        PublishTarget::Stream { stream, max_len } => Addressed::Stream {
            stream: stream.clone(),
            max_len: *max_len,
        },
    };
    Ok(OutgoingMessage {
        id: id(cx.id().as_str()),
        to,
        headers,
        body,
    })
}

/// The body and its type.
fn body(spec: &PublishSpec, scope: &TemplateScope, cx: &Ctx) -> Result<(Bytes, &'static str), FunctionTemplateFault> {
    Ok(match &spec.body {
        EnqueuePayload::OfRun => {
            let payload = cx.payload().clone();
            let json = !payload.is_empty() && check_json(&payload).is_ok();
            (payload, if json { JSON } else { "application/octet-stream" })
        }
        EnqueuePayload::None => (Bytes::new(), "application/octet-stream"),
        EnqueuePayload::Text(text) => (text.fill(scope)?.into(), "text/plain; charset=utf-8"),
        EnqueuePayload::Json(json) => (json.value(scope)?.to_string().into(), JSON),
    })
}

/// The id of the task, or its SHA-256 if it is too long for a message.
fn id(task: &str) -> String {
    if task.len() <= MAX_SHORT {
        return task.to_owned();
    }
    let digest = Sha256::digest(task.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_no_message_can_have_is_hashed() {
        assert_eq!(id("orders@1"), "orders@1");
        assert_eq!(id(&"x".repeat(256)).len(), 64);
    }
}
