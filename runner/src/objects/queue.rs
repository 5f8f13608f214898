//! A queue as an object: its state, its counts, and types in it that no worker takes.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use runner_queue::{Pause, QueueInfo, Unclaimed};
use serde::Serialize;

use super::WrittenInstant;

/// A queue.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "web", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "web", schema(as = Queue))]
pub struct QueueObject {
    /// Its name.
    pub name: String,
    /// Whether workers take no tasks from it.
    pub paused: bool,
    /// Who paused it, since when, why and until when; `null` if that is not known.
    pub pause: Option<QueuePauseObject>,
    /// Tasks in all states.
    pub size: u64,
    /// Tasks by state: `pending`, `active`, `scheduled`, `retry`, `archived`, `completed`, `aggregating`.
    pub counts: BTreeMap<String, u64>,
    /// How long its oldest pending task has waited.
    pub latency_seconds: f64,
    /// Tasks processed today (UTC), failures included.
    pub processed_today: u64,
    /// Failures today (UTC).
    pub failed_today: u64,
    /// Tasks processed ever, failures included.
    pub processed: u64,
    /// Failures ever.
    pub failed: u64,
    /// Types of tasks that have waited for more than a minute and that no worker takes.
    pub unclaimed: Vec<UnclaimedObject>,
}

/// The pause of a queue.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "web", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "web", schema(as = QueuePauseInfo))]
pub struct QueuePauseObject {
    /// Since when.
    pub at: Option<WrittenInstant>,
    /// Who paused it.
    pub by: String,
    /// Why.
    pub note: Option<String>,
    /// When it is resumed; `null`: a person does that.
    pub until: Option<WrittenInstant>,
}

/// A type that no worker takes.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "web", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "web", schema(as = UnclaimedType))]
pub struct UnclaimedObject {
    /// The task type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Tasks of it, among the oldest thousand of the queue.
    pub count: u64,
    /// Since when the oldest of them has waited.
    pub oldest: WrittenInstant,
}

impl QueueObject {
    /// The same with what is known of its pause.
    #[must_use]
    pub fn paused_as(self, pause: Option<&Pause>, zone: &TimeZone) -> Self {
        let pause = pause.map(|pause| QueuePauseObject {
            at: WrittenInstant::maybe(pause.at, zone),
            by: pause.by.clone(),
            note: pause.note.clone(),
            until: WrittenInstant::maybe(pause.until, zone),
        });
        Self { pause, ..self }
    }

    /// From what the broker says; `unclaimed` may have those of other queues.
    #[must_use]
    pub fn of(queue: &QueueInfo, unclaimed: &[Unclaimed], zone: &TimeZone) -> Self {
        let of = unclaimed.iter().filter(|one| one.queue == queue.name);
        let counts = queue.counts.iter();
        Self {
            name: queue.name.to_string(),
            paused: queue.paused,
            pause: None,
            size: queue.size(),
            counts: counts.map(|(state, count)| (state.to_string(), *count)).collect(),
            latency_seconds: queue.latency.as_secs_f64(),
            processed_today: queue.processed_today,
            failed_today: queue.failed_today,
            processed: queue.processed,
            failed: queue.failed,
            unclaimed: of
                .map(|one| UnclaimedObject {
                    kind: one.kind.clone(),
                    count: one.count,
                    oldest: WrittenInstant::of(one.oldest, zone),
                })
                .collect(),
        }
    }
}
