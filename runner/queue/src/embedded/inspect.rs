//! What the dashboard and the command line ask. What they do is in `act` and `remove`.

use std::collections::HashSet;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use runner_core::schedule::ScheduleId;
use runner_core::task::{QueueName, State, Task, TaskId, check_payload};

use super::cells::Row;
use super::link::SqlError;
use super::produce::lock_key;
use super::readers::Readers;
use super::rows::{self, INFO, RECORD, column, count, micros};
use super::signals::Cancel;
use super::store::{built, error, sql};
use super::tally::DAY;
use super::{EmbeddedBroker, act, group, history, remove};
use crate::{
    Acted, Action, ActionError, Attempt, BrokerError, BrokerResult, DayCount, EnqueueEventPage, GLANCE_BYTES,
    GroupPage, HEAD_BYTES, Inspector, Lists, MAX_ATTEMPTS_KEPT, MAX_HISTORY_DAYS, MAX_PENDING_LOOK, MAX_PENDING_TYPES,
    Page, PendingType, QueueInfo, RawTask, RemoveError, ServerView, StopRequest, TaskInfo, TaskPage,
};

/// The largest page.
const LARGEST_PAGE: usize = 1_000;

/// Where a page begins, counted from 0, and its size.
fn bounds(page: Page) -> (i64, i64) {
    let size = page.size.clamp(1, LARGEST_PAGE);
    let skip = page.number.saturating_sub(1).saturating_mul(size);
    (column(skip as u64), column(size as u64))
}

/// All queues, or those whose names are in `only`, a JSON array.
async fn queues(readers: &Readers, now: i64, only: Option<String>) -> Result<Vec<QueueInfo>, SqlError> {
    let found = sql(
        "SELECT q.name, q.pending, q.active, q.scheduled, q.retry, q.archived, q.completed, q.aggregating, \
             q.processed, q.failed, q.paused_at IS NOT NULL, \
             coalesce(d.processed, 0), coalesce(d.failed, 0), \
             (SELECT pending_since FROM tasks WHERE queue = q.name AND state = 'pending' \
              ORDER BY at, seq LIMIT 1) \
         FROM queues q LEFT JOIN day_counts d ON d.day = ?1 AND d.queue = q.name \
         WHERE ?2 IS NULL OR q.name IN (SELECT value FROM json_each(?2)) ORDER BY q.name",
    )
    .bind(now.div_euclid(DAY))
    .bind(only)
    .fetch_all(readers)
    .await?;
    let mut queues = Vec::with_capacity(found.len());
    for row in &found {
        let number = |place: usize| row.try_get::<i64>(place).map(count);
        let since: Option<i64> = row.try_get(13)?;
        let mut counts = std::collections::BTreeMap::new();
        for (place, state) in State::ALL.into_iter().enumerate() {
            counts.insert(state, number(place + 1)?);
        }
        // A name that is blank was never enqueued to by us; leave it out rather than fail the page.
        let Some(name) = row.try_get::<String>(0).ok().and_then(|name| QueueName::new(name).ok()) else {
            continue;
        };
        queues.push(QueueInfo {
            name,
            counts,
            processed: number(8)?,
            failed: number(9)?,
            paused: row.try_get(10)?,
            processed_today: number(11)?,
            failed_today: number(12)?,
            latency: since.map_or(Duration::ZERO, |since| {
                Duration::from_micros(count(now.saturating_sub(since)))
            }),
        });
    }
    Ok(queues)
}

async fn names(readers: &Readers) -> Result<Vec<QueueName>, SqlError> {
    let found = sql("SELECT name FROM queues ORDER BY name").fetch_all(readers).await?;
    let names = found
        .iter()
        .map(|row| Ok(QueueName::new(row.try_get::<String>(0)?).ok()));
    Ok(names
        .collect::<Result<Vec<_>, SqlError>>()?
        .into_iter()
        .flatten()
        .collect())
}

/// Those of the queues that have anything on these lists.
pub(super) async fn having(readers: &Readers, queues: &[QueueName], lists: Lists) -> Result<Vec<QueueName>, SqlError> {
    let sum = match lists {
        Lists::Pending => "pending",
        Lists::Delayed => "scheduled + retry",
        Lists::Active => "active",
        Lists::Ended => "completed + archived",
        // Sets that are being put together are in no sum.
        Lists::Grouped => "aggregating + EXISTS (SELECT 1 FROM staged_sets s WHERE s.queue = q.name)",
        Lists::Any => {
            "pending + scheduled + retry + active + completed + archived + aggregating + \
             EXISTS (SELECT 1 FROM staged_sets s WHERE s.queue = q.name)"
        }
    };
    let found = built(format!("SELECT q.name FROM queues q WHERE {sum} > 0"))
        .fetch_all(readers)
        .await?;
    let having: Result<HashSet<&str>, SqlError> = found.iter().map(|row| row.try_get(0)).collect();
    let having = having?;
    Ok(queues
        .iter()
        .filter(|queue| having.contains(queue.as_str()))
        .cloned()
        .collect())
}

async fn page(readers: &Readers, queue: &QueueName, state: State, page: Page) -> Result<TaskPage, SqlError> {
    let (skip, size) = bounds(page);
    // Active tasks lie in the order of the ends of their leases, and are shown as they were claimed.
    let order = match state {
        State::Active => "t.run",
        State::Archived | State::Completed => "t.at DESC, t.seq DESC",
        _ => "t.at, t.seq",
    };
    let found = built(format!(
        "SELECT {} FROM tasks t WHERE t.queue = ?1 AND {} ORDER BY {order} LIMIT ?2 OFFSET ?3",
        rows::shown(HEAD_BYTES),
        rows::on_list(state)
    ))
    .bind(queue.as_str().to_owned())
    .bind(size)
    .bind(skip)
    .fetch_all(readers)
    .await?;
    let row = built(format!("SELECT {state} FROM queues WHERE name = ?"))
        .bind(queue.as_str().to_owned())
        .fetch_optional(readers)
        .await?;
    let total: i64 = row.map_or(Ok(0), |row| row.try_get(0))?;
    Ok(page_of(&found, count(total)))
}

/// The tasks of a page, those that can be read and the others.
pub(super) fn page_of(found: &[Row], total: u64) -> TaskPage {
    let (mut tasks, mut unreadable) = (Vec::with_capacity(found.len()), Vec::new());
    for row in found {
        match rows::info(row) {
            Ok(info) => tasks.push(info),
            Err(why) => unreadable.push(rows::raw(row, &why)),
        }
    }
    TaskPage {
        tasks,
        unreadable,
        total,
    }
}

async fn raw(readers: &Readers, queue: &QueueName, id: &[u8]) -> Result<Option<RawTask>, SqlError> {
    let row = built(format!(
        "SELECT {} FROM tasks t WHERE t.queue = ? AND t.id = CAST(? AS TEXT)",
        rows::shown(GLANCE_BYTES)
    ))
    .bind(queue.as_str().to_owned())
    .bind(id.to_vec())
    .fetch_optional(readers)
    .await?;
    Ok(row.map(|row| match rows::info(&row) {
        Ok(info) => RawTask {
            id: id.to_vec(),
            state: Some(info.state),
            why: None,
            head: info.record.payload,
            bytes: info.payload_bytes,
        },
        Err(why) => rows::raw(&row, &why),
    }))
}

async fn one(readers: &Readers, queue: &QueueName, id: &TaskId, columns: &str) -> Result<Option<TaskInfo>, SqlError> {
    let row = built(format!("SELECT {columns} FROM tasks t WHERE t.queue = ? AND t.id = ?"))
        .bind(queue.as_str().to_owned())
        .bind(id.as_str().to_owned())
        .fetch_optional(readers)
        .await?;
    row.as_ref().map(rows::info).transpose()
}

async fn find(readers: &Readers, id: &TaskId) -> Result<Vec<QueueName>, SqlError> {
    let found = sql("SELECT q.name FROM queues q CROSS JOIN tasks t ON t.queue = q.name AND t.id = ? ORDER BY q.name")
        .bind(id.as_str().to_owned())
        .fetch_all(readers)
        .await?;
    let names = found
        .iter()
        .filter_map(|row| rows::queue_name(row.try_get(0).ok()?).ok());
    Ok(names.collect())
}

async fn lock_holder(readers: &Readers, task: &Task, now: i64) -> Result<Option<TaskId>, SqlError> {
    let row = sql("SELECT task_id FROM locks WHERE queue = ? AND key = ? AND expires_at > ?")
        .bind(task.queue.as_str().to_owned())
        .bind(lock_key(task))
        .bind(now)
        .fetch_optional(readers)
        .await?;
    let holder = row.map(|row| row.try_get::<String>(0)).transpose()?;
    Ok(holder.and_then(|id| TaskId::new(id).ok()))
}

async fn attempts(readers: &Readers, queue: &QueueName, id: &TaskId) -> Result<Vec<Attempt>, SqlError> {
    let found = sql("SELECT a.body FROM tasks t CROSS JOIN attempts a ON a.task = t.seq \
         WHERE t.queue = ? AND t.id = ? ORDER BY a.seq LIMIT ?")
    .bind(queue.as_str().to_owned())
    .bind(id.as_str().to_owned())
    .bind(column(MAX_ATTEMPTS_KEPT as u64))
    .fetch_all(readers)
    .await?;
    // One that cannot be read is left out, as over Redis.
    Ok(found
        .iter()
        .filter_map(|row| rows::json(row.try_get(0).ok()?).ok())
        .collect())
}

async fn pending_types(readers: &Readers, queue: &QueueName, look: usize) -> Result<Vec<PendingType>, SqlError> {
    let found = sql("SELECT kind, count(*), min(pending_since) FROM \
             (SELECT kind, pending_since FROM tasks WHERE queue = ? AND state = 'pending' ORDER BY at, seq LIMIT ?) \
         GROUP BY kind LIMIT ?")
    .bind(queue.as_str().to_owned())
    .bind(column(look as u64))
    .bind(column(MAX_PENDING_TYPES as u64))
    .fetch_all(readers)
    .await?;
    let of = |row: &Row| {
        Ok(PendingType {
            kind: row.try_get(0)?,
            count: rows::count(row.try_get(1)?),
            oldest: row.try_get::<Option<i64>>(2)?.map(rows::instant),
        })
    };
    found.iter().map(of).collect()
}

#[async_trait]
impl Inspector for EmbeddedBroker {
    async fn queues(&self) -> BrokerResult<Vec<QueueInfo>> {
        queues(self.readers(), micros(self.clock.now()), None)
            .await
            .map_err(|e| error("list queues", e))
    }

    async fn queue_names(&self) -> BrokerResult<Vec<QueueName>> {
        names(self.readers()).await.map_err(|e| error("list queues", e))
    }

    async fn queues_of(&self, wanted: &[QueueName]) -> BrokerResult<Vec<QueueInfo>> {
        let asked = async {
            let only = rows::to_json(&wanted)?;
            queues(self.readers(), micros(self.clock.now()), Some(only)).await
        };
        let mut found = asked.await.map_err(|e| error("look at queues", e))?;
        found.sort_by_key(|info| wanted.iter().position(|name| *name == info.name));
        Ok(found)
    }

    async fn tasks(&self, queue: &QueueName, state: State, at: Page) -> BrokerResult<TaskPage> {
        page(self.readers(), queue, state, at)
            .await
            .map_err(|e| error("list tasks", e))
    }

    async fn groups(&self, queue: &QueueName, at: Page) -> BrokerResult<GroupPage> {
        group::page(self.readers(), queue, bounds(at))
            .await
            .map_err(|e| error("list groups", e))
    }

    async fn group_tasks(&self, queue: &QueueName, group: &str, at: Page) -> BrokerResult<TaskPage> {
        group::tasks(self.readers(), queue, group, bounds(at))
            .await
            .map_err(|e| error("list the tasks of a group", e))
    }

    async fn task(&self, queue: &QueueName, id: &TaskId) -> BrokerResult<Option<TaskInfo>> {
        one(self.readers(), queue, id, &format!("{RECORD}, {INFO}"))
            .await
            .map_err(|e| error("read a task", e))
    }

    async fn glance(&self, queue: &QueueName, id: &TaskId) -> BrokerResult<Option<TaskInfo>> {
        one(self.readers(), queue, id, &rows::shown(GLANCE_BYTES))
            .await
            .map_err(|e| error("read a task", e))
    }

    async fn raw_task(&self, queue: &QueueName, id: &[u8]) -> BrokerResult<Option<RawTask>> {
        raw(self.readers(), queue, id)
            .await
            .map_err(|e| error("look at a task", e))
    }

    async fn delete_raw(&self, queue: &QueueName, id: &[u8]) -> Result<(), ActionError> {
        // Every writer writes text, so there is no task whose id is something else.
        let shown = String::from_utf8_lossy(id).into_owned();
        let id = TaskId::new(shown).map_err(|e| BrokerError::Corrupt {
            doing: "delete a task",
            what: e.to_string(),
        })?;
        self.act(queue, &id, Action::Delete).await
    }

    async fn find(&self, id: &TaskId) -> BrokerResult<Vec<QueueName>> {
        find(self.readers(), id).await.map_err(|e| error("find a task", e))
    }

    async fn lock_holder(&self, task: &Task) -> BrokerResult<Option<TaskId>> {
        lock_holder(self.readers(), task, micros(self.clock.now()))
            .await
            .map_err(|e| error("look at a uniqueness lock", e))
    }

    async fn attempts(&self, queue: &QueueName, id: &TaskId) -> BrokerResult<Vec<Attempt>> {
        attempts(self.readers(), queue, id)
            .await
            .map_err(|e| error("read attempts", e))
    }

    async fn history(&self, queue: &QueueName, days: usize) -> BrokerResult<Vec<DayCount>> {
        let now = micros(self.clock.now());
        history::days(self.readers(), queue, days.clamp(1, MAX_HISTORY_DAYS), now)
            .await
            .map_err(|e| error("read what a queue processed", e))
    }

    async fn memory(&self, queue: &QueueName) -> BrokerResult<u64> {
        history::memory(self.readers(), queue)
            .await
            .map_err(|e| error("estimate the size of a queue", e))
    }

    async fn enqueue_events(&self, schedule: &ScheduleId, at: Page) -> BrokerResult<EnqueueEventPage> {
        history::enqueue_events(self.readers(), schedule, bounds(at))
            .await
            .map_err(|e| error("read what a schedule enqueued", e))
    }

    async fn act(&self, queue: &QueueName, id: &TaskId, action: Action) -> Result<(), ActionError> {
        let act = act::Act {
            queue: queue.clone(),
            id: id.clone(),
            action,
        };
        let done = self.writer.write(act).await?;
        done.map_err(|obstacle| obstacle.of(queue, id, action.done()))
    }

    async fn act_all(&self, queue: &QueueName, state: State, action: Action) -> Result<Acted, ActionError> {
        action.check(state)?;
        let (queue, group) = (queue.clone(), None);
        let act = act::ActAll {
            queue,
            state,
            group,
            action,
        };
        Ok(self.writer.write(act).await?)
    }

    async fn act_group(&self, queue: &QueueName, group: &str, action: Action) -> Result<Acted, ActionError> {
        let state = State::Aggregating;
        action.check(state)?;
        let (queue, group) = (queue.clone(), Some(group.to_owned()));
        let act = act::ActAll {
            queue,
            state,
            group,
            action,
        };
        Ok(self.writer.write(act).await?)
    }

    async fn update_payload(&self, queue: &QueueName, id: &TaskId, payload: Bytes) -> Result<(), ActionError> {
        check_payload(&payload)?;
        let edit = act::Edit {
            queue: queue.clone(),
            id: id.clone(),
            payload,
        };
        let done = self.writer.write(edit).await?;
        done.map_err(|obstacle| obstacle.of(queue, id, "edited"))
    }

    async fn remove_queue(&self, queue: &QueueName, force: bool) -> Result<Acted, RemoveError> {
        let queue = queue.clone();
        self.writer.write(remove::Remove { queue, force }).await?
    }

    async fn cancel(&self, id: &TaskId) -> BrokerResult<()> {
        self.writer.write(Cancel(StopRequest::cancel(id.clone()))).await?;
        self.signals.cancelled();
        Ok(())
    }

    async fn stop(&self, queue: &QueueName, id: &TaskId, error: &str) -> BrokerResult<()> {
        let request = StopRequest::for_good(queue.clone(), id.clone(), error.to_owned());
        self.writer.write(Cancel(request)).await?;
        self.signals.cancelled();
        Ok(())
    }

    async fn pause_queue(&self, queue: &QueueName) -> BrokerResult<bool> {
        let (queue, paused) = (queue.clone(), true);
        self.writer.write(act::PauseQueue { queue, paused }).await
    }

    async fn resume_queue(&self, queue: &QueueName) -> BrokerResult<bool> {
        let (queue, paused) = (queue.clone(), false);
        self.writer.write(act::PauseQueue { queue, paused }).await
    }

    async fn pending_types(&self, queue: &QueueName, look: usize) -> BrokerResult<Vec<PendingType>> {
        pending_types(self.readers(), queue, look.clamp(1, MAX_PENDING_LOOK))
            .await
            .map_err(|e| error("look at the types of pending tasks", e))
    }

    async fn servers(&self) -> BrokerResult<Vec<ServerView>> {
        super::servers::list(self.readers(), micros(self.clock.now()))
            .await
            .map_err(|e| error("list servers", e))
    }
}
