//! The dashboard's questions. An operator's actions are in `act`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use redis::Value;
use runner_core::schedule::ScheduleId;
use runner_core::task::{QueueName, Task, TaskId, TaskState};

use crate::redis::RedisBroker;
use crate::redis::format::scripts::Script;
use crate::redis::format::{keys, reply};
use crate::redis::net::fault;
use crate::redis::ops::partial::PartialFailure;
use crate::redis::ops::task_views::nanoseconds;
use crate::{
    Acted, Action, ActionError, Attempt, BrokerResult, DayCount, EnqueueEventPage, ForeignEntry, GroupPage, Inspector,
    Lists, MAX_ATTEMPTS_KEPT, MAX_HISTORY_DAYS, MAX_PENDING_LOOK, MAX_PENDING_TYPES, Page, PendingType, QueueInfo,
    RawTask, RemoveError, ServerView, StopRequest, TaskInfo, TaskPage,
};

/// The largest page.
const MAX_PAGE: usize = 1000;

/// Where a page begins, counted from 0, and its size.
pub(in crate::redis) fn bounds(page: Page) -> (usize, usize) {
    let size = page.size.clamp(1, MAX_PAGE);
    (page.number.saturating_sub(1).saturating_mul(size).min(1 << 40), size)
}

#[async_trait]
impl Inspector for RedisBroker {
    async fn queues(&self) -> BrokerResult<Vec<QueueInfo>> {
        self.infos_of(self.all_names().await?, false).await
    }

    async fn queue_names(&self) -> BrokerResult<Vec<QueueName>> {
        Ok(self.all_names().await?.into_iter().collect())
    }

    async fn queues_of(&self, names: &[QueueName]) -> BrokerResult<Vec<QueueInfo>> {
        self.infos_of(names.iter().cloned(), true).await
    }

    async fn tasks(&self, queue: &QueueName, state: TaskState, page: Page) -> BrokerResult<TaskPage> {
        self.page_of(queue, state, None, page).await
    }

    async fn groups(&self, queue: &QueueName, page: Page) -> BrokerResult<GroupPage> {
        self.page_of_groups(queue, page).await
    }

    async fn group_tasks(&self, queue: &QueueName, group: &str, page: Page) -> BrokerResult<TaskPage> {
        self.page_of(queue, TaskState::Aggregating, Some(group), page).await
    }

    async fn task(&self, queue: &QueueName, id: &TaskId) -> BrokerResult<Option<TaskInfo>> {
        self.look_at_task(queue, id, true).await
    }

    async fn glance(&self, queue: &QueueName, id: &TaskId) -> BrokerResult<Option<TaskInfo>> {
        self.look_at_task(queue, id, false).await
    }

    async fn raw_task(&self, queue: &QueueName, id: &[u8]) -> BrokerResult<Option<RawTask>> {
        self.look_at_raw(queue, id).await
    }

    async fn delete_raw(&self, queue: &QueueName, id: &[u8]) -> Result<(), ActionError> {
        self.delete_what_lies(queue, id).await
    }

    async fn find(&self, id: &TaskId) -> BrokerResult<Vec<QueueName>> {
        let names = self.all_names().await?;
        let mut trip = self.pages.trip("look for a task").await?;
        for name in &names {
            trip.command("HEXISTS")
                .arg(keys::task(name.as_str(), id.as_str()))
                .arg("msg");
        }
        let (mut found, mut trouble) = (Vec::new(), PartialFailure::default());
        for (name, answer) in names.into_iter().zip(trip.each().await?) {
            if trouble.part(&name, answer) == Some(Value::Int(1)) {
                found.push(name);
            }
        }
        trouble.unless(!found.is_empty())?;
        Ok(found)
    }

    async fn lock_holder(&self, task: &Task) -> BrokerResult<Option<TaskId>> {
        let key = keys::unique(task.queue.as_str(), &task.kind, task.payload.as_deref());
        let mut trip = self.pages.trip("look at a uniqueness lock").await?;
        trip.command("GET").arg(key);
        let holder = reply::text(trip.one().await?);
        Ok(holder.and_then(|id| TaskId::new(id).ok()))
    }

    async fn attempts(&self, queue: &QueueName, id: &TaskId) -> BrokerResult<Vec<Attempt>> {
        let mut trip = self.pages.trip("read the attempts of a task").await?;
        let fields = (1..=MAX_ATTEMPTS_KEPT).map(|nth| format!("att:{nth}"));
        trip.command("HMGET")
            .arg(keys::task(queue.as_str(), id.as_str()))
            .arg("att")
            .arg(fields.collect::<Vec<_>>());
        let mut answer = reply::list(trip.one().await?).into_iter();
        let count = answer.next().map_or(0, reply::count);
        let mut lines: Vec<Value> = answer.filter(|line| *line != Value::Nil).collect();
        // They are written in turn: the oldest one comes where the next one will go.
        let kept = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        if count > kept && kept > 0 {
            lines.rotate_left(usize::try_from(count % kept).unwrap_or(0));
        }
        Ok(lines
            .into_iter()
            .filter_map(|json| serde_json::from_slice(&reply::bytes(json)?).ok())
            .collect())
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

    async fn foreign_entries(&self) -> BrokerResult<Vec<ForeignEntry>> {
        self.list_foreign_entries().await
    }

    async fn enqueue_events(&self, schedule: &ScheduleId, page: Page) -> BrokerResult<EnqueueEventPage> {
        self.shown_fires(schedule, page).await
    }

    async fn act(&self, queue: &QueueName, id: &TaskId, action: Action) -> Result<(), ActionError> {
        self.act_on(queue, id, action).await
    }

    async fn act_all(&self, queue: &QueueName, state: TaskState, action: Action) -> Result<Acted, ActionError> {
        self.act_on_list(queue, state, None, action).await
    }

    async fn act_group(&self, queue: &QueueName, group: &str, action: Action) -> Result<Acted, ActionError> {
        self.act_on_list(queue, TaskState::Aggregating, Some(group), action)
            .await
    }

    async fn update_payload(&self, queue: &QueueName, id: &TaskId, payload: Bytes) -> Result<(), ActionError> {
        self.edit_payload(queue, id, payload).await
    }

    async fn remove_queue(&self, queue: &QueueName, force: bool) -> Result<Acted, RemoveError> {
        self.remove_part(queue, force).await
    }

    async fn cancel(&self, id: &TaskId) -> BrokerResult<()> {
        let mut trip = self.conn.trip("ask for a task to be cancelled").await?;
        trip.command("PUBLISH").arg(keys::CANCEL).arg(id.as_str());
        trip.one().await.map(drop)
    }

    async fn stop(&self, queue: &QueueName, id: &TaskId, error: &str) -> BrokerResult<()> {
        const DOING: &str = "ask for a task to be ended";
        let request = StopRequest::for_good(queue.clone(), id.clone(), error.to_owned());
        let request = serde_json::to_vec(&request).map_err(|error| crate::BrokerError::Corrupt {
            doing: DOING,
            what: error.to_string(),
        })?;
        let mut trip = self.conn.trip(DOING).await?;
        trip.command("PUBLISH").arg(&self.stop_channel).arg(request);
        trip.one().await.map(drop)
    }

    async fn pause_queue(&self, queue: &QueueName) -> BrokerResult<bool> {
        let mut trip = self.conn.trip("pause a queue").await?;
        trip.script(Script::Pause, &[keys::part(queue.as_str(), "paused")]);
        Ok(reply::number(trip.one().await?) == Some(1))
    }

    async fn resume_queue(&self, queue: &QueueName) -> BrokerResult<bool> {
        let mut trip = self.conn.trip("resume a queue").await?;
        trip.command("DEL").arg(keys::part(queue.as_str(), "paused"));
        Ok(reply::number(trip.one().await?) == Some(1))
    }

    async fn servers(&self) -> BrokerResult<Vec<ServerView>> {
        self.list_servers().await
    }

    async fn pending_types(&self, queue: &QueueName, look: usize) -> BrokerResult<Vec<PendingType>> {
        let mut trip = self.pages.trip("look at the types of pending tasks").await?;
        trip.script(Script::Kinds, &[keys::part(queue.as_str(), "pending")])
            .arg(keys::queue(queue.as_str()))
            .arg(look.clamp(1, MAX_PENDING_LOOK))
            .arg(MAX_PENDING_TYPES);
        let mut rows = reply::list(trip.one().await?).into_iter();
        let mut types = Vec::new();
        while let (Some(kind), Some(count), Some(oldest)) = (rows.next(), rows.next(), rows.next()) {
            // What is not UTF-8 is no type; such a task is put aside by whoever claims it.
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
}

impl RedisBroker {
    /// `known`: leaves out queues that are not on the list of queues.
    async fn infos_of(&self, names: impl IntoIterator<Item = QueueName>, known: bool) -> BrokerResult<Vec<QueueInfo>> {
        let names: Vec<QueueName> = names.into_iter().collect();
        let mut trip = self.pages.trip("look at the queues").await?;
        if known && !names.is_empty() {
            trip.command("SMISMEMBER").arg(keys::QUEUES);
            for name in &names {
                trip.arg(name.as_str());
            }
        }
        for name in &names {
            trip.script(Script::Info, &[keys::part(name.as_str(), "pending")])
                .arg(keys::queue(name.as_str()));
        }
        let mut answers = trip.each().await?.into_iter();
        let listed = match known && !names.is_empty() {
            true => reply::list(
                answers
                    .next()
                    .ok_or_else(|| fault::odd_answer("look at the queues"))??,
            ),
            false => Vec::new(),
        };
        let is_listed = |place: usize| !known || listed.get(place) == Some(&Value::Int(1));
        let mut trouble = PartialFailure::default();
        let (mut infos, mut looked) = (Vec::with_capacity(names.len()), false);
        for (place, (name, answer)) in names.into_iter().zip(answers).enumerate() {
            if let Some(answer) = trouble.part(&name, answer) {
                looked = true;
                infos.extend(is_listed(place).then(|| queue_info((name, answer))));
            }
        }
        trouble.unless(looked)?;
        Ok(infos)
    }

    /// Those of the queues that have anything on these lists.
    pub(in crate::redis) async fn having(&self, queues: &[QueueName], lists: Lists) -> BrokerResult<Vec<QueueName>> {
        let parts: &[&str] = match lists {
            Lists::Pending => &["pending"],
            Lists::Delayed => &["scheduled", "retry"],
            Lists::Active => &["active", "lease"],
            Lists::Ended => &["completed", "archived"],
            Lists::Grouped => &["groups", "aggregation_sets"],
            Lists::Any => &[
                "pending",
                "scheduled",
                "retry",
                "active",
                "lease",
                "completed",
                "archived",
                "groups",
                "aggregation_sets",
            ],
        };
        // What a pass over these lists also looks after: it must go although the lists are empty.
        let beside: &[fn(&str) -> String] = match lists {
            Lists::Ended => &[keys::waiting],
            Lists::Any => &[keys::waiting, keys::claims],
            _ => &[],
        };
        let mut trip = self.conn.trip("look which queues have tasks").await?;
        for queue in queues {
            trip.command("EXISTS");
            for part in parts {
                trip.arg(keys::part(queue.as_str(), part));
            }
            for key in beside {
                trip.arg(key(queue.as_str()));
            }
        }
        let (mut having, mut trouble, mut looked) = (Vec::new(), PartialFailure::default(), false);
        for (queue, answer) in queues.iter().zip(trip.each().await?) {
            if let Some(there) = trouble.part(queue, answer) {
                looked = true;
                having.extend((reply::count(there) > 0).then(|| queue.clone()));
            }
        }
        trouble.unless(looked)?;
        Ok(having)
    }

    async fn all_names(&self) -> BrokerResult<BTreeSet<QueueName>> {
        let mut trip = self.pages.trip("list the queues").await?;
        trip.command("SMEMBERS").arg(keys::QUEUES);
        let names = reply::list(trip.one().await?).into_iter();
        Ok(names
            .filter_map(|name| QueueName::new(reply::text(name)?).ok())
            .collect())
    }
}

/// See `info.lua`.
fn queue_info((name, answer): (QueueName, Value)) -> QueueInfo {
    let mut row = reply::list(answer).into_iter();
    let mut next = || row.next().unwrap_or_default();
    let now = reply::instant(next(), next());
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
