//! The seam's `InspectTasks`: questions about tasks.
//!
//! Not here: tasks of groups (`group`).

use async_trait::async_trait;
use runner_core::task::{QueueName, Task, TaskId, TaskState};
use rusqlite::{Connection, params};

use super::EmbeddedBroker;
use super::connection::Statements as _;
use super::error::SqlError;
use super::gates;
use super::put::lock_key;
use super::rows::{self, INFO, RECORD, column, count, micros};
use crate::{
    Attempt, BrokerResult, GLANCE_BYTES, HEAD_BYTES, InspectTasks, MAX_ATTEMPTS_KEPT, Page, RawTask, TaskInfo, TaskPage,
};

/// The largest page.
const LARGEST_PAGE: usize = 1_000;

/// Offset and size of a page.
pub(super) fn bounds(page: Page) -> (i64, i64) {
    let size = page.size.clamp(1, LARGEST_PAGE);
    let skip = page.number.saturating_sub(1).saturating_mul(size);
    (column(skip as u64), column(size as u64))
}

#[async_trait]
impl InspectTasks for EmbeddedBroker {
    async fn tasks(&self, queue: &QueueName, state: TaskState, at: Page) -> BrokerResult<TaskPage> {
        let queue = queue.clone();
        let query = move |conn: &Connection| page(conn, &queue, state, bounds(at));
        self.readers.query("list tasks", query).await
    }

    async fn task(&self, queue: &QueueName, id: &TaskId) -> BrokerResult<Option<TaskInfo>> {
        let (queue, id) = (queue.clone(), id.clone());
        let query = move |conn: &Connection| task(conn, &queue, &id);
        self.readers.query("read a task", query).await
    }

    async fn glance(&self, queue: &QueueName, id: &TaskId) -> BrokerResult<Option<TaskInfo>> {
        let (queue, id) = (queue.clone(), id.clone());
        let query = move |conn: &Connection| glance(conn, &queue, &id);
        self.readers.query("read a task", query).await
    }

    async fn raw_task(&self, queue: &QueueName, id: &[u8]) -> BrokerResult<Option<RawTask>> {
        let (queue, id) = (queue.clone(), id.to_vec());
        let query = move |conn: &Connection| raw_task(conn, &queue, &id);
        self.readers.query("look at a task", query).await
    }

    async fn find(&self, id: &TaskId) -> BrokerResult<Vec<QueueName>> {
        let id = id.clone();
        let query = move |conn: &Connection| find(conn, &id);
        self.readers.query("find a task", query).await
    }

    async fn lock_holder(&self, task: &Task) -> BrokerResult<Option<TaskId>> {
        let (task, now) = (task.clone(), micros(self.clock.now()));
        let query = move |conn: &Connection| lock_holder(conn, &task, now);
        self.readers.query("look at a uniqueness lock", query).await
    }

    async fn attempts(&self, queue: &QueueName, id: &TaskId) -> BrokerResult<Vec<Attempt>> {
        let (queue, id) = (queue.clone(), id.clone());
        let query = move |conn: &Connection| attempts(conn, &queue, &id);
        self.readers.query("read attempts", query).await
    }
}

/// One page of the tasks of a state, selected by `(skip, size)`.
pub(super) fn page(
    conn: &Connection,
    queue: &QueueName,
    state: TaskState,
    (skip, size): (i64, i64),
) -> Result<TaskPage, SqlError> {
    // The list is sorted by the end of the lease; pages show active tasks in the order of their claims.
    let order = match state {
        TaskState::Active => "t.run",
        TaskState::Archived | TaskState::Completed => "t.at DESC, t.seq DESC",
        _ => "t.at, t.seq",
    };
    let text = format!(
        "SELECT {} FROM tasks t WHERE t.queue = ?1 AND {} ORDER BY {order} LIMIT ?2 OFFSET ?3",
        rows::columns_cut_to(HEAD_BYTES),
        rows::on_list(state)
    );
    let found = conn.all(&text, params![queue.as_str(), size, skip], rows::listed)?;
    let total = conn.first(
        &format!("SELECT {state} FROM queues WHERE name = ?"),
        [queue.as_str()],
        |row| Ok(row.get(0)?),
    )?;
    Ok(rows::page_of(found, total.map_or(0, count)))
}

/// A task by the bytes of its id, readable or not.
pub(super) fn raw_task(conn: &Connection, queue: &QueueName, id: &[u8]) -> Result<Option<RawTask>, SqlError> {
    let text = format!(
        "SELECT {} FROM tasks t WHERE t.queue = ? AND t.id = CAST(? AS TEXT)",
        rows::columns_cut_to(GLANCE_BYTES)
    );
    let found = conn.first(&text, params![queue.as_str(), id], rows::listed)?;
    Ok(found.map(|task| match task {
        Ok(info) => RawTask {
            id: id.to_vec(),
            state: Some(info.state),
            why: None,
            head: info.record.payload,
            bytes: info.payload_bytes,
        },
        Err(raw) => raw,
    }))
}

pub(super) fn task(conn: &Connection, queue: &QueueName, id: &TaskId) -> Result<Option<TaskInfo>, SqlError> {
    one(conn, queue, id, &format!("{RECORD}, {INFO}"))
}

/// A task with the beginning of its payload and result.
pub(super) fn glance(conn: &Connection, queue: &QueueName, id: &TaskId) -> Result<Option<TaskInfo>, SqlError> {
    one(conn, queue, id, &rows::columns_cut_to(GLANCE_BYTES))
}

fn one(conn: &Connection, queue: &QueueName, id: &TaskId, columns: &str) -> Result<Option<TaskInfo>, SqlError> {
    let text = format!("SELECT {columns} FROM tasks t WHERE t.queue = ? AND t.id = ?");
    let mut found = conn.first(&text, [queue.as_str(), id.as_str()], rows::info)?;
    if let Some(what) = found.as_mut().and_then(|task| task.waiting_for.as_mut())
        && what.starts_with("limit ")
        && let Some(place) = gates::place(conn, queue, id.as_str())?
    {
        what.push_str(&place);
    }
    Ok(found)
}

/// The queues with a task of this id.
pub(super) fn find(conn: &Connection, id: &TaskId) -> Result<Vec<QueueName>, SqlError> {
    let found = conn.all(
        "SELECT q.name FROM queues q CROSS JOIN tasks t ON t.queue = q.name AND t.id = ? ORDER BY q.name",
        [id.as_str()],
        |row| Ok(rows::queue_name(row, 0).ok()),
    )?;
    Ok(found.into_iter().flatten().collect())
}

pub(super) fn lock_holder(conn: &Connection, task: &Task, now: i64) -> Result<Option<TaskId>, SqlError> {
    let holder: Option<String> = conn.first(
        "SELECT task_id FROM locks WHERE queue = ? AND key = ? AND expires_at > ?",
        params![task.queue.as_str(), lock_key(task), now],
        |row| Ok(row.get(0)?),
    )?;
    Ok(holder.and_then(|id| TaskId::new(id).ok()))
}

/// Unreadable ones are left out, as with Redis.
pub(super) fn attempts(conn: &Connection, queue: &QueueName, id: &TaskId) -> Result<Vec<Attempt>, SqlError> {
    let found = conn.all(
        "SELECT a.body FROM tasks t CROSS JOIN attempts a ON a.task = t.seq \
         WHERE t.queue = ? AND t.id = ? ORDER BY a.seq LIMIT ?",
        params![queue.as_str(), id.as_str(), column(MAX_ATTEMPTS_KEPT as u64)],
        |row| Ok(row.get::<_, String>(0).ok()),
    )?;
    let bodies = found.iter().flatten();
    Ok(bodies.filter_map(|body| rows::json(body).ok()).collect())
}
