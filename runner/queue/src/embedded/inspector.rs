//! The seam's `Inspector`: each call asks or writes what its subject's file says.

use async_trait::async_trait;
use bytes::Bytes;
use runner_core::schedule::ScheduleId;
use runner_core::task::{QueueName, Task, TaskId, TaskState, check_payload};
use rusqlite::Connection;

use super::rows::{column, micros};
use super::writer::Tx;
use super::{EmbeddedBroker, act, cancel, group, history, inspect, remove, servers};
use crate::{
    Acted, Action, ActionError, Attempt, BrokerError, BrokerResult, DayCount, EnqueueEventPage, GroupPage, Inspector,
    MAX_HISTORY_DAYS, MAX_PENDING_LOOK, Page, PendingType, QueueInfo, RawTask, RemoveError, ServerView, StopRequest,
    TaskInfo, TaskPage,
};

/// The largest page.
const LARGEST_PAGE: usize = 1_000;

/// Where a page begins, counted from 0, and its size.
fn bounds(page: Page) -> (i64, i64) {
    let size = page.size.clamp(1, LARGEST_PAGE);
    let skip = page.number.saturating_sub(1).saturating_mul(size);
    (column(skip as u64), column(size as u64))
}

impl EmbeddedBroker {
    async fn act_on_list(
        &self,
        queue: &QueueName,
        state: TaskState,
        group: Option<String>,
        action: Action,
    ) -> Result<Acted, ActionError> {
        action.check(state)?;
        let queue = queue.clone();
        let change = move |tx: &mut Tx<'_>| act::act_on_list(tx, &queue, state, group.as_deref(), action);
        let done = self.writer.write("carry out an operator's action on a list", change);
        Ok(done.await?)
    }

    async fn request_stop(&self, request: StopRequest) -> BrokerResult<()> {
        let change = move |tx: &mut Tx<'_>| cancel::request(tx, &request);
        self.writer.write("ask for a cancellation", change).await?;
        self.signals.cancelled();
        Ok(())
    }
}

#[async_trait]
impl Inspector for EmbeddedBroker {
    async fn queues(&self) -> BrokerResult<Vec<QueueInfo>> {
        let now = micros(self.clock.now());
        let ask = move |conn: &Connection| inspect::queues(conn, now, None);
        self.readers.ask("list queues", ask).await
    }

    async fn queue_names(&self) -> BrokerResult<Vec<QueueName>> {
        self.readers.ask("list queues", inspect::queue_names).await
    }

    async fn queues_of(&self, wanted: &[QueueName]) -> BrokerResult<Vec<QueueInfo>> {
        let (now, names) = (micros(self.clock.now()), wanted.to_vec());
        let ask = move |conn: &Connection| inspect::queues(conn, now, Some(&names));
        let mut found = self.readers.ask("look at queues", ask).await?;
        found.sort_by_key(|info| wanted.iter().position(|name| *name == info.name));
        Ok(found)
    }

    async fn tasks(&self, queue: &QueueName, state: TaskState, at: Page) -> BrokerResult<TaskPage> {
        let queue = queue.clone();
        let ask = move |conn: &Connection| inspect::page(conn, &queue, state, bounds(at));
        self.readers.ask("list tasks", ask).await
    }

    async fn groups(&self, queue: &QueueName, at: Page) -> BrokerResult<GroupPage> {
        let queue = queue.clone();
        let ask = move |conn: &Connection| group::page(conn, &queue, bounds(at));
        self.readers.ask("list groups", ask).await
    }

    async fn group_tasks(&self, queue: &QueueName, group: &str, at: Page) -> BrokerResult<TaskPage> {
        let (queue, group) = (queue.clone(), group.to_owned());
        let ask = move |conn: &Connection| group::tasks(conn, &queue, &group, bounds(at));
        self.readers.ask("list the tasks of a group", ask).await
    }

    async fn task(&self, queue: &QueueName, id: &TaskId) -> BrokerResult<Option<TaskInfo>> {
        let (queue, id) = (queue.clone(), id.clone());
        let ask = move |conn: &Connection| inspect::task(conn, &queue, &id);
        self.readers.ask("read a task", ask).await
    }

    async fn glance(&self, queue: &QueueName, id: &TaskId) -> BrokerResult<Option<TaskInfo>> {
        let (queue, id) = (queue.clone(), id.clone());
        let ask = move |conn: &Connection| inspect::glance(conn, &queue, &id);
        self.readers.ask("read a task", ask).await
    }

    async fn raw_task(&self, queue: &QueueName, id: &[u8]) -> BrokerResult<Option<RawTask>> {
        let (queue, id) = (queue.clone(), id.to_vec());
        let ask = move |conn: &Connection| inspect::raw_task(conn, &queue, &id);
        self.readers.ask("look at a task", ask).await
    }

    async fn delete_raw(&self, queue: &QueueName, id: &[u8]) -> Result<(), ActionError> {
        // Every writer writes text, so there is no task whose id is something else.
        let text = String::from_utf8_lossy(id).into_owned();
        let id = TaskId::new(text).map_err(|e| BrokerError::Corrupt {
            doing: "delete a task",
            what: e.to_string(),
        })?;
        self.act(queue, &id, Action::Delete).await
    }

    async fn find(&self, id: &TaskId) -> BrokerResult<Vec<QueueName>> {
        let id = id.clone();
        let ask = move |conn: &Connection| inspect::find(conn, &id);
        self.readers.ask("find a task", ask).await
    }

    async fn lock_holder(&self, task: &Task) -> BrokerResult<Option<TaskId>> {
        let (task, now) = (task.clone(), micros(self.clock.now()));
        let ask = move |conn: &Connection| inspect::lock_holder(conn, &task, now);
        self.readers.ask("look at a uniqueness lock", ask).await
    }

    async fn attempts(&self, queue: &QueueName, id: &TaskId) -> BrokerResult<Vec<Attempt>> {
        let (queue, id) = (queue.clone(), id.clone());
        let ask = move |conn: &Connection| inspect::attempts(conn, &queue, &id);
        self.readers.ask("read attempts", ask).await
    }

    async fn history(&self, queue: &QueueName, days: usize) -> BrokerResult<Vec<DayCount>> {
        let (queue, now) = (queue.clone(), micros(self.clock.now()));
        let days = days.clamp(1, MAX_HISTORY_DAYS);
        let ask = move |conn: &Connection| history::days(conn, &queue, days, now);
        self.readers.ask("read what a queue processed", ask).await
    }

    async fn memory(&self, queue: &QueueName) -> BrokerResult<u64> {
        let queue = queue.clone();
        let ask = move |conn: &Connection| history::memory(conn, &queue);
        self.readers.ask("estimate the size of a queue", ask).await
    }

    async fn enqueue_events(&self, schedule: &ScheduleId, at: Page) -> BrokerResult<EnqueueEventPage> {
        let schedule = schedule.clone();
        let ask = move |conn: &Connection| history::enqueue_events(conn, &schedule, bounds(at));
        self.readers.ask("read what a schedule enqueued", ask).await
    }

    async fn act(&self, queue: &QueueName, id: &TaskId, action: Action) -> Result<(), ActionError> {
        let (of, task) = (queue.clone(), id.clone());
        let change = move |tx: &mut Tx<'_>| act::act(tx, &of, &task, action);
        let done = self.writer.write("carry out an operator's action", change).await?;
        done.map_err(|obstacle| obstacle.of(queue, id, action.done()))
    }

    async fn act_all(&self, queue: &QueueName, state: TaskState, action: Action) -> Result<Acted, ActionError> {
        self.act_on_list(queue, state, None, action).await
    }

    async fn act_group(&self, queue: &QueueName, group: &str, action: Action) -> Result<Acted, ActionError> {
        let group = Some(group.to_owned());
        self.act_on_list(queue, TaskState::Aggregating, group, action).await
    }

    async fn update_payload(&self, queue: &QueueName, id: &TaskId, payload: Bytes) -> Result<(), ActionError> {
        check_payload(&payload)?;
        let (of, task) = (queue.clone(), id.clone());
        let change = move |tx: &mut Tx<'_>| act::edit(tx, &of, &task, &payload);
        let done = self.writer.write("change the payload of a task", change).await?;
        done.map_err(|obstacle| obstacle.of(queue, id, "edited"))
    }

    async fn remove_queue(&self, queue: &QueueName, force: bool) -> Result<Acted, RemoveError> {
        let queue = queue.clone();
        let change = move |tx: &mut Tx<'_>| remove::remove_queue(tx, &queue, force);
        self.writer.write("remove a queue", change).await?
    }

    async fn cancel(&self, id: &TaskId) -> BrokerResult<()> {
        self.request_stop(StopRequest::cancel(id.clone())).await
    }

    async fn stop(&self, queue: &QueueName, id: &TaskId, error: &str) -> BrokerResult<()> {
        let request = StopRequest::for_good(queue.clone(), id.clone(), error.to_owned());
        self.request_stop(request).await
    }

    async fn pause_queue(&self, queue: &QueueName) -> BrokerResult<bool> {
        let queue = queue.clone();
        let change = move |tx: &mut Tx<'_>| act::pause_queue(tx, &queue, true);
        self.writer.write("pause or resume a queue", change).await
    }

    async fn resume_queue(&self, queue: &QueueName) -> BrokerResult<bool> {
        let queue = queue.clone();
        let change = move |tx: &mut Tx<'_>| act::pause_queue(tx, &queue, false);
        self.writer.write("pause or resume a queue", change).await
    }

    async fn pending_types(&self, queue: &QueueName, look: usize) -> BrokerResult<Vec<PendingType>> {
        let (queue, look) = (queue.clone(), look.clamp(1, MAX_PENDING_LOOK));
        let ask = move |conn: &Connection| inspect::pending_types(conn, &queue, look);
        self.readers.ask("look at the types of pending tasks", ask).await
    }

    async fn servers(&self) -> BrokerResult<Vec<ServerView>> {
        let now = micros(self.clock.now());
        let ask = move |conn: &Connection| servers::list(conn, now);
        self.readers.ask("list servers", ask).await
    }
}
