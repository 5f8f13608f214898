//! Schedules shown to asynq's own tools: entries and their history. No decision of ours is made from what lies here.

use std::time::Duration;

use prost::Message as _;
use runner_core::schedule::ScheduleId;
use runner_core::task::{QueueName, TaskId};

use super::inspect::bounds;
use super::scripts::Script;
use super::wire::{self, EntryMessage, Instant};
use super::{RedisBroker, convert, keys, reply};
use crate::{BrokerResult, Committed, DecisionKind, EnqueueEvent, EnqueueEventPage, EntryView, Page};

/// Events that asynq's tools keep for each entry, less the one about to be added.
const EVENTS_BEFORE: isize = 999;

impl RedisBroker {
    pub(super) async fn show_entries(&self, instance: &str, entries: &[EntryView], ttl: Duration) -> BrokerResult<()> {
        let key = keys::scheduler(instance);
        let ttl = convert::whole_seconds(ttl).max(1);
        let mut trip = self.conn.trip("show the schedules to other tools").await?;
        trip.script(Script::Beat, &[keys::SCHEDULERS]).arg(ttl).arg(&key);
        // Read only to have instances that are gone removed.
        trip.script(Script::Listed, &[keys::SCHEDULERS]).arg(1);
        trip.script(Script::Entries, &[&key]).arg(ttl);
        for entry in entries {
            trip.arg(message_of(entry).encode_to_vec());
        }
        trip.send().await.map(drop)
    }

    /// What other tools are told that a schedule enqueued; also that of a Go scheduler, under the id of its entry.
    pub(super) async fn shown_fires(&self, schedule: &ScheduleId, page: Page) -> BrokerResult<EnqueueEventPage> {
        let key = keys::history(schedule.as_str());
        let (skip, size) = bounds(page);
        let mut trip = self.conn.trip("read what a schedule enqueued").await?;
        trip.command("ZCARD").arg(&key);
        trip.command("ZREVRANGE").arg(&key).arg(skip).arg(skip + size - 1);
        let mut answers = trip.send().await?.into_iter();
        let total = answers.next().map_or(0, reply::count);
        let rows = answers.next().map(reply::list).unwrap_or_default().into_iter();
        let events = rows.filter_map(|row| {
            let event = wire::EnqueueEvent::decode(&reply::bytes(row)?[..]).ok()?;
            Some(EnqueueEvent {
                task: TaskId::new(event.task_id).ok()?,
                at: event.enqueue_time?.timestamp(),
            })
        });
        Ok(EnqueueEventPage {
            events: events.collect(),
            total,
        })
    }

    /// Best effort: the decisions stand whether or not other tools get to see them.
    pub(super) async fn show_fires(&self, committed: &[Committed]) {
        let fired = committed
            .iter()
            .flat_map(|outcome| match outcome {
                Committed::Done(decisions) | Committed::Completed(_, decisions) => &decisions[..],
                _ => &[],
            })
            .filter(|decision| decision.kind == DecisionKind::Fired);
        let shown = async {
            let mut trip = self.conn.trip("show fires to other tools").await?;
            for decision in fired {
                let Some(task) = &decision.task else { continue };
                let key = keys::history(decision.schedule.as_str());
                let event = wire::EnqueueEvent {
                    task_id: task.to_string(),
                    enqueue_time: Some(decision.decided_at.into()),
                };
                trip.command("ZREMRANGEBYRANK").arg(&key).arg(0).arg(-1 - EVENTS_BEFORE);
                trip.command("ZADD")
                    .arg(&key)
                    .arg(decision.decided_at.as_second())
                    .arg(event.encode_to_vec());
            }
            trip.send().await
        };
        if let Err(error) = shown.await {
            tracing::debug!(%error, "other tools will not see these fires");
        }
    }
}

fn message_of(entry: &EntryView) -> EntryMessage {
    EntryMessage {
        id: entry.id.to_string(),
        spec: entry.spec.clone(),
        task_type: entry.kind.clone(),
        task_payload: entry.payload.clone(),
        // As asynq's schedulers do, only what differs from the default is told.
        enqueue_options: Some(&entry.queue)
            .filter(|queue| *queue != QueueName::default().as_str())
            .map(|queue| format!("Queue({})", quoted(queue)))
            .into_iter()
            .collect(),
        next_enqueue_time: Some(Instant::or_never(entry.next)),
        prev_enqueue_time: Some(Instant::or_never(entry.last)),
    }
}

/// Text between double quotes as Go writes it, which asynq's tools read back.
pub(super) fn quoted(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if c.is_ascii_control() => {
                let _infallible = write!(out, "\\x{:02x}", u32::from(c));
            }
            c if c.is_control() => {
                let _infallible = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_as_go_does() {
        assert_eq!(quoted("low"), r#""low""#);
        assert_eq!(quoted("a\"b\\c\n\u{1}é"), r#""a\"b\\c\n\x01é""#);
    }
}
