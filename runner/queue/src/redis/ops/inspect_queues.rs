//! The seam's `InspectQueues`: questions about queues.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use redis::Value;
use runner_core::task::{QueueName, TaskState};

use crate::redis::RedisBroker;
use crate::redis::format::scripts::Script;
use crate::redis::format::{keys, reply};
use crate::redis::net::conn::RoundTrip;
use crate::redis::net::fault;
use crate::redis::ops::partial::PartialFailure;
use crate::redis::ops::task_views::nanoseconds;
use crate::{
    BrokerResult, DayCount, InspectQueues, LimitInUse, MAX_HISTORY_DAYS, MAX_PENDING_LOOK, MAX_PENDING_TYPES,
    PendingType, QueueInfo,
};

/// What is done, in errors.
const LOOKING: &str = "look at the queues";

/// Queues that one call of the script looks at. The server runs about ten calls before it serves other clients, which is what
/// it reads of a connection at once.
const LOOKED_AT: usize = 25;

/// Groups that such a call reads. A queue with more than what is left gets a call of its own.
const GROUPS: usize = 250;

/// Calls of one queue each, with up to about a thousand groups, that travel together: a few milliseconds of the server.
const LARGE: usize = 8;

#[async_trait]
impl InspectQueues for RedisBroker {
    async fn queues(&self) -> BrokerResult<Vec<QueueInfo>> {
        self.infos_of(self.all_names().await?, false).await
    }

    async fn queue_names(&self) -> BrokerResult<Vec<QueueName>> {
        Ok(self.all_names().await?.into_iter().collect())
    }

    async fn queues_of(&self, names: &[QueueName]) -> BrokerResult<Vec<QueueInfo>> {
        self.infos_of(names.iter().cloned(), true).await
    }

    async fn history(&self, queue: &QueueName, days: usize) -> BrokerResult<Vec<DayCount>> {
        let mut trip = self.pages.trip("read what a queue processed").await?;
        trip.script(Script::History, &[keys::part(queue.as_str(), "processed")])
            .arg(keys::queue(queue.as_str()))
            .arg(days.clamp(1, MAX_HISTORY_DAYS));
        let mut row = reply::list(trip.one().await?).into_iter();
        let mut history = Vec::new();
        while let (Some(day), Some(processed), Some(failed)) = (row.next(), row.next(), row.next()) {
            if let Some(day) = reply::text(day).and_then(|day| day.parse().ok()) {
                history.push(DayCount {
                    day,
                    processed: reply::count(processed),
                    failed: reply::count(failed),
                });
            }
        }
        Ok(history)
    }

    async fn memory(&self, queue: &QueueName) -> BrokerResult<u64> {
        let mut trip = self.pages.trip("estimate the size of a queue").await?;
        trip.script(Script::Memory, &[keys::part(queue.as_str(), "pending")])
            .arg(keys::queue(queue.as_str()));
        trip.one().await.map(reply::count)
    }

    async fn pending_types(&self, queue: &QueueName, look: usize) -> BrokerResult<Vec<PendingType>> {
        let mut trip = self.pages.trip("look at the types of pending tasks").await?;
        trip.script(Script::PendingTypes, &[keys::part(queue.as_str(), "pending")])
            .arg(keys::queue(queue.as_str()))
            .arg(look.clamp(1, MAX_PENDING_LOOK))
            .arg(MAX_PENDING_TYPES);
        let mut rows = reply::list(trip.one().await?).into_iter();
        let mut types = Vec::new();
        while let (Some(kind), Some(count), Some(oldest)) = (rows.next(), rows.next(), rows.next()) {
            // A type that is not UTF-8 is left out; the worker that claims such a task archives it.
            if let Some(kind) = reply::text(kind) {
                types.push(PendingType {
                    kind,
                    count: reply::count(count),
                    oldest: nanoseconds(oldest),
                });
            }
        }
        Ok(types)
    }

    async fn limits_in_use(&self, queue: &QueueName) -> BrokerResult<Vec<LimitInUse>> {
        self.gates_in_use(queue).await
    }
}

impl RedisBroker {
    /// `known`: only queues on the list of queues.
    async fn infos_of(&self, names: impl IntoIterator<Item = QueueName>, known: bool) -> BrokerResult<Vec<QueueInfo>> {
        let names: Vec<QueueName> = names.into_iter().collect();
        let known = known && !names.is_empty();
        let mut trip = self.pages.trip(LOOKING).await?;
        if known {
            trip.command("SMISMEMBER").arg(keys::QUEUES);
            // Membership in the same trip: a queue that was removed must not be listed because its script finds empty keys.
            for name in &names {
                trip.arg(name.as_str());
            }
        }
        // In a cluster each is in a slot of its own.
        let (together, groups) = match trip.is_apart() {
            true => (1, None),
            false => (LOOKED_AT, Some(GROUPS)),
        };
        for some in names.chunks(together) {
            add_look(&mut trip, some, groups);
        }
        let mut answers = trip.each().await?.into_iter();
        let listed = match known {
            true => reply::list(answers.next().ok_or_else(|| fault::odd_answer(LOOKING))??),
            false => Vec::new(),
        };
        let is_listed = |place: &usize| !known || listed.get(*place) == Some(&Value::Int(1));
        let mut failures = PartialFailure::default();
        let (mut rows, mut looked) = (vec![None; names.len()], false);
        for ((some, place), answer) in names.chunks(together).zip((0..).step_by(together)).zip(answers) {
            let Some(answer) = failures.part(&some[0], answer) else {
                continue;
            };
            looked = true;
            for (row, answer) in rows[place..].iter_mut().zip(reply::list(answer)) {
                *row = Some(answer);
            }
        }
        let left = (0..names.len())
            .filter(is_listed)
            .filter(|at| is_empty(rows[*at].as_ref()));
        let left: Vec<usize> = left.collect();
        self.look_at_large(&names, &left, &mut rows, &mut failures).await?;
        failures.unless(looked)?;
        let rows = names.into_iter().zip(rows).enumerate();
        let listed = rows.filter(|(place, _)| is_listed(place));
        Ok(listed
            .filter_map(|(_, (name, row))| Some(queue_info((name, row?))))
            .collect())
    }

    /// Asks again for the rows of queues with very many groups, a few at a time so that the server serves others in between.
    async fn look_at_large(
        &self,
        names: &[QueueName],
        places: &[usize],
        rows: &mut [Option<Value>],
        failures: &mut PartialFailure,
    ) -> BrokerResult<()> {
        for some in places.chunks(LARGE) {
            let mut trip = self.pages.trip(LOOKING).await?;
            for place in some {
                add_look(&mut trip, std::slice::from_ref(&names[*place]), None);
            }
            for (place, answer) in some.iter().zip(trip.each().await?) {
                let answer = failures.part(&names[*place], answer);
                rows[*place] = answer.and_then(|answer| reply::list(answer).into_iter().next());
            }
        }
        Ok(())
    }

    pub(in crate::redis) async fn all_names(&self) -> BrokerResult<BTreeSet<QueueName>> {
        let mut trip = self.pages.trip("list the queues").await?;
        trip.command("SMEMBERS").arg(keys::QUEUES);
        let names = reply::list(trip.one().await?).into_iter();
        Ok(names
            .filter_map(|name| QueueName::new(reply::text(name)?).ok())
            .collect())
    }
}

/// See `queues.lua`. `groups`: how many the call may read in all.
fn add_look(trip: &mut RoundTrip<'_>, names: &[QueueName], groups: Option<usize>) {
    let lists: Vec<String> = names.iter().map(|name| keys::part(name.as_str(), "pending")).collect();
    trip.script(Script::Queues, &lists)
        .arg(groups.map(|most| most.to_string()).unwrap_or_default());
    for name in names {
        trip.arg(keys::queue(name.as_str()));
    }
}

/// Whether the script did not look at the queue of this row.
fn is_empty(row: Option<&Value>) -> bool {
    matches!(row, Some(Value::Array(values)) if values.is_empty())
}

/// See `queues.lua`.
fn queue_info((name, answer): (QueueName, Value)) -> QueueInfo {
    let mut row = reply::list(answer).into_iter();
    let mut next = || row.next().unwrap_or_default();
    let now = reply::instant(next(), next());
    // The order in which the script counts them.
    let states = [
        TaskState::Pending,
        TaskState::Active,
        TaskState::Scheduled,
        TaskState::Retry,
        TaskState::Archived,
        TaskState::Completed,
        TaskState::Aggregating,
    ];
    let counts: BTreeMap<TaskState, u64> = states.map(|state| (state, reply::count(next()))).into();
    let paused = reply::count(next()) > 0;
    let oldest = nanoseconds(next());
    let latency = now.zip(oldest).map_or(Duration::ZERO, |(now, since)| {
        Duration::try_from(now.duration_since(since)).unwrap_or_default()
    });
    QueueInfo {
        name,
        counts,
        paused,
        latency,
        processed_today: reply::count(next()),
        failed_today: reply::count(next()),
        processed: reply::count(next()),
        failed: reply::count(next()),
    }
}
