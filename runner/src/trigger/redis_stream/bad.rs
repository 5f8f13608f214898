//! Entries of which no task can be made: where they go, so that they hold up no other.

use std::borrow::Cow;

use runner_core::trigger::BadMessage;
use runner_queue::redis::{RedisClient, StreamEntry};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::entry::object;
use super::fault;
use super::listening::StreamTriggerTask;
use crate::trigger::kept::{self, BadEvent};

/// Dead entries of a stream that are kept, the oldest go first.
const DEAD_KEPT: u64 = 100_000;

/// Bytes of the fields beside the body that are kept.
const MAX_FIELDS: usize = 16 * 1024;

impl StreamTriggerTask {
    /// Does with a bad entry what the trigger says; why it is bad, `None`: `stop` came first, and it may not be acknowledged. One
    /// that the stream of dead entries does not take is kept in the broker: it must not hold up the others.
    pub(super) async fn settle_bad(
        &self,
        entry: &StreamEntry,
        why: String,
        client: &RedisClient,
        stop: &CancellationToken,
    ) -> Option<String> {
        let fields = entry.fields.as_deref().unwrap_or_default();
        match self.spec.bad_entries {
            BadMessage::Drop => Some(why),
            BadMessage::DeadLetter => {
                let mut all: Vec<(&str, &[u8])> =
                    fields.iter().map(|(name, value)| (name.as_str(), &**value)).collect();
                all.push(("runner-entry", entry.id.as_bytes()));
                all.push(("runner-why", why.as_bytes()));
                let dead = &self.spec.dead_stream;
                let Err(error) = client.append(dead, Some(DEAD_KEPT), &all).await else {
                    return Some(why);
                };
                let fault = fault::no_dead_letter(dead, &error);
                let (trigger, code, help) = (self.trigger.id.as_str(), fault.code, fault.hint);
                tracing::warn!(trigger, code, error = %fault.why, help, "a bad entry is kept in the broker");
                let why = format!("{why}; {} ({code})", fault.why);
                self.keep(entry, &why, stop).await.then_some(why)
            }
            BadMessage::Keep => self.keep(entry, &why, stop).await.then_some(why),
        }
    }

    /// Keeps a bad entry in the broker; false: `stop` came first.
    async fn keep(&self, entry: &StreamEntry, why: &str, stop: &CancellationToken) -> bool {
        let fields = entry.fields.as_deref().unwrap_or_default();
        let is_body = |name: &String| self.spec.field.as_ref() == Some(name);
        let (body, facts) = match fields.iter().find(|(name, _)| is_body(name)) {
            Some((_, body)) => {
                let others: Vec<_> = fields.iter().filter(|(name, _)| !is_body(name)).cloned().collect();
                let text = object(&others).to_string();
                let most = text.len().min(MAX_FIELDS);
                let others = String::from_utf8_lossy(&text.as_bytes()[..most]).into_owned();
                let facts = json!({"stream": self.spec.stream, "entry": entry.id, "fields": others});
                (Cow::Borrowed(&body[..]), facts)
            }
            None => {
                let facts = json!({"stream": self.spec.stream, "entry": entry.id});
                (Cow::Owned(object(fields).to_string().into_bytes()), facts)
            }
        };
        let event = BadEvent {
            why,
            body: &body,
            facts,
        };
        kept::keep(&self.shared.intake, &self.shared.instance, &self.trigger, &event, stop).await
    }

    /// Counts a bad entry, once: when it will not come again.
    pub(super) fn report_bad(&self, entry: &StreamEntry, why: &str) {
        tracing::warn!(
            trigger = self.trigger.id.as_str(),
            code = "trigger_bad_message",
            entry = entry.id,
            error = %why,
            help = "on_bad_entry of the trigger says what to do with it",
            "an entry cannot become a task"
        );
        self.shared.board.bad(&self.trigger, why);
    }
}
