//! The seam's `Entries`: schedules shown to asynq's own tools, entries and their history. No decision of this program
//! depends on them.

use std::time::Duration;

use async_trait::async_trait;
use prost::Message as _;
use redis::Value;
use runner_core::duration;
use runner_core::schedule::ScheduleId;
use runner_core::task::{DEFAULT_MAX_RETRY, QueueName, Task, TaskId};

use crate::redis::RedisBroker;
use crate::redis::format::scripts::Script;
use crate::redis::format::wire::{self, EntryMessage, Instant};
use crate::redis::format::{convert, keys, reply};
use crate::redis::ops::partial::or_nothing;
use crate::redis::ops::task_views::bounds;
use crate::{
    BrokerResult, Committed, DecisionKind, EnqueueEvent, EnqueueEventPage, Entries, EntryView, ForeignEntry,
    MAX_FOREIGN_ENTRIES, Page,
};

/// Events that asynq's tools keep for each entry, less the one about to be added.
const EVENTS_BEFORE: isize = 999;
/// Schedulers whose entries are listed at most.
const MAX_SCHEDULERS: usize = 100;

#[async_trait]
impl Entries for RedisBroker {
    async fn publish_entries(&self, instance: &str, entries: &[EntryView], ttl: Duration) -> BrokerResult<()> {
        let key = keys::scheduler(instance);
        let ttl = convert::whole_seconds(ttl).max(1);
        let mut trip = self.conn.trip("show the schedules to other tools").await?;
        // The list of schedulers and the entries of this one: in a cluster they are in different slots, so three calls.
        trip.script(Script::AddMembers, &[keys::SCHEDULERS]).arg(ttl).arg(&key);
        // Read only to remove instances that have ended.
        trip.script(Script::LiveMembers, &[keys::SCHEDULERS]).arg(1);
        trip.script(Script::PublishEntries, &[&key]).arg(ttl);
        for entry in entries {
            trip.arg(message_of(entry).encode_to_vec());
        }
        trip.send().await.map(drop)
    }

    async fn foreign_entries(&self) -> BrokerResult<Vec<ForeignEntry>> {
        const DOING: &str = "list the entries of other schedulers";
        let mut trip = self.conn.trip(DOING).await?;
        trip.script(Script::LiveMembers, &[keys::SCHEDULERS])
            .arg(MAX_SCHEDULERS);
        let members = reply::list(trip.one().await?);
        let lists: Vec<String> = members.into_iter().filter_map(reply::text).collect();
        if lists.is_empty() {
            return Ok(Vec::new());
        }
        let mut trip = self.conn.trip(DOING).await?;
        for key in &lists {
            trip.command("LRANGE").arg(key).arg(0).arg(MAX_FOREIGN_ENTRIES - 1);
        }
        let mut entries = Vec::new();
        for (key, answer) in lists.iter().zip(trip.each().await?) {
            // A list that vanished, has another type or is on an unreachable node is left out, as in asynq's own tools.
            let rows = answer.map(reply::list).unwrap_or_default().into_iter();
            let decoded = rows.filter_map(|row| EntryMessage::decode(&reply::bytes(row)?[..]).ok());
            let scheduler = keys::scheduler_of(key);
            entries.extend(decoded.filter_map(|message| foreign(scheduler, message)));
        }
        entries.sort_by(|a, b| (a.next.is_none(), a.next, &a.id).cmp(&(b.next.is_none(), b.next, &b.id)));
        entries.truncate(MAX_FOREIGN_ENTRIES);
        Ok(entries)
    }

    async fn enqueue_events(&self, schedule: &ScheduleId, page: Page) -> BrokerResult<EnqueueEventPage> {
        // Also what a Go scheduler enqueued, under the id of its entry.
        let key = keys::history(schedule.as_str());
        let (skip, size) = bounds(page);
        let mut trip = self.conn.trip("read what a schedule enqueued").await?;
        trip.command("ZCARD").arg(&key);
        trip.command("ZREVRANGE").arg(&key).arg(skip).arg(skip + size - 1);
        let answers: BrokerResult<Vec<Value>> = trip.each().await?.into_iter().map(or_nothing).collect();
        let mut answers = answers?.into_iter();
        let total = answers.next().map_or(0, reply::count);
        let rows = answers.next().map(reply::list).unwrap_or_default().into_iter();
        let events = rows.filter_map(|row| {
            let event = wire::EnqueueEventMessage::decode(&reply::bytes(row)?[..]).ok()?;
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
}

impl RedisBroker {
    /// Removes the entries of this scheduler from the list of other tools, when it ends.
    pub(in crate::redis) async fn hide_entries(&self, instance: &str) -> BrokerResult<()> {
        let key = keys::scheduler(instance);
        let mut trip = self
            .conn
            .trip("remove the schedules from the list of other tools")
            .await?;
        // The name first: a reader in between must not find a listed scheduler without entries.
        trip.command("ZREM").arg(keys::SCHEDULERS).arg(&key);
        trip.command("DEL").arg(&key);
        let answers: BrokerResult<Vec<Value>> = trip.each().await?.into_iter().map(or_nothing).collect();
        answers.map(drop)
    }

    /// Best effort: the decisions are valid whether or not other tools see them.
    pub(in crate::redis) async fn show_fires(&self, committed: &[Committed]) {
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
                let event = wire::EnqueueEventMessage {
                    task_id: task.to_string(),
                    enqueue_time: Some(decision.decided_at.into()),
                };
                // Trimmed before the addition, as asynq does: its tools show as many events for either program.
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
        task_type: entry.task.kind.clone(),
        task_payload: entry.task.payload.clone().unwrap_or_default(),
        enqueue_options: options_of(&entry.task),
        next_enqueue_time: Some(Instant::or_never(entry.next)),
        prev_enqueue_time: Some(Instant::or_never(entry.last)),
    }
}

/// The options of a task as asynq's schedulers list them: those that differ from the default.
fn options_of(task: &Task) -> Vec<String> {
    let mut options = Vec::new();
    if task.queue != QueueName::default() {
        options.push(format!("Queue({})", quoted(task.queue.as_str())));
    }
    if task.max_retry != DEFAULT_MAX_RETRY {
        options.push(format!("MaxRetry({})", task.max_retry));
    }
    if let Some(timeout) = task.timeout {
        options.push(format!("Timeout({})", duration::format(timeout)));
    }
    if let Some(unique) = &task.unique {
        options.push(format!("Unique({})", duration::format(unique.ttl)));
    }
    if !task.retention.is_zero() {
        options.push(format!("Retention({})", duration::format(task.retention)));
    }
    if let Some(group) = &task.group {
        options.push(format!("Group({})", quoted(group)));
    }
    options
}

/// An entry of another program's scheduler. Entries of this program are recognised by their ids, which Go draws at
/// random.
fn foreign(scheduler: &str, message: EntryMessage) -> Option<ForeignEntry> {
    if ["m:", "db:", "code:"]
        .iter()
        .any(|prefix| message.id.starts_with(prefix))
    {
        return None;
    }
    let (zone, spec) = zone_and_spec(&message.spec);
    Some(ForeignEntry {
        scheduler: scheduler.to_owned(),
        zone: zone.to_owned(),
        spec: spec.to_owned(),
        id: ScheduleId::from_text(message.id.as_str()),
        kind: message.task_type,
        payload: message.task_payload,
        options: message.enqueue_options,
        next: message.next_enqueue_time.and_then(Instant::unless_never),
        last: message.prev_enqueue_time.and_then(Instant::unless_never),
    })
}

/// `CRON_TZ=Asia/Shanghai 0 2 * * *` → zone and rule; the zone is empty where none is named.
fn zone_and_spec(spec: &str) -> (&str, &str) {
    let named = spec.strip_prefix("CRON_TZ=").or_else(|| spec.strip_prefix("TZ="));
    named.and_then(|rest| rest.split_once(' ')).unwrap_or(("", spec))
}

/// Text between double quotes as Go writes it, which asynq's tools read back.
pub(in crate::redis) fn quoted(text: &str) -> String {
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

    #[test]
    fn options_are_those_that_differ_from_the_default() {
        assert_eq!(options_of(&Task::new("t")), Vec::<String>::new());
        let task = Task::new("t")
            .queue(QueueName::new("low").unwrap())
            .max_retry(3)
            .timeout(Duration::from_secs(90))
            .retention(Duration::from_secs(3600))
            .unique(Duration::from_secs(600));
        assert_eq!(
            options_of(&task),
            [
                r#"Queue("low")"#,
                "MaxRetry(3)",
                "Timeout(1m30s)",
                "Unique(10m0s)",
                "Retention(1h0m0s)"
            ]
        );
    }

    #[test]
    fn the_zone_of_a_rule_is_its_prefix() {
        assert_eq!(
            zone_and_spec("CRON_TZ=Asia/Shanghai 0 2 * * *"),
            ("Asia/Shanghai", "0 2 * * *")
        );
        assert_eq!(zone_and_spec("TZ=UTC @daily"), ("UTC", "@daily"));
        assert_eq!(zone_and_spec("@every 30s"), ("", "@every 30s"));
        assert_eq!(zone_and_spec("CRON_TZ="), ("", "CRON_TZ="));
    }
}
