//! The seam's `Actions`: on one task, on the first tasks of a list, on the claims from a queue.

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use runner_core::task::{QueueName, TaskId, TaskState, check_payload};
use rusqlite::params;

use super::connection::Statements as _;
use super::error::SqlError;
use super::moves::TaskList;
use super::writer::Tx;
use super::{EmbeddedBroker, gates, group, moves, remove, rows};
use crate::{Acted, Action, ActionError, Actions, BrokerError, BrokerResult, MAX_ACTED, RemoveError};

/// Why an action on one task was refused.
pub(super) enum Obstacle {
    Absent,
    TaskState(TaskState),
}

impl Obstacle {
    /// The seam's error for it.
    pub(super) fn of(self, queue: &QueueName, id: &TaskId, done: &'static str) -> ActionError {
        let id = id.clone();
        match self {
            Self::Absent => ActionError::NotFound(id, queue.clone()),
            Self::TaskState(state) => ActionError::WrongState { id, state, done },
        }
    }
}

/// An operator's action on one task.
pub(super) fn act(
    tx: &mut Tx<'_>,
    queue: &QueueName,
    id: &TaskId,
    action: Action,
) -> Result<Result<(), Obstacle>, SqlError> {
    let found = tx.conn.first(
        "SELECT seq, state, unique_key, staged IS NOT NULL FROM tasks WHERE queue = ? AND id = ?",
        [queue.as_str(), id.as_str()],
        |row| {
            let key: Option<String> = row.get(2)?;
            Ok((row.get::<_, i64>(0)?, rows::state(row, 1)?, key, row.get::<_, bool>(3)?))
        },
    )?;
    let Some((seq, state, key, staged)) = found else {
        return Ok(Err(Obstacle::Absent));
    };
    // A task in a staged set belongs to the process that aggregates it.
    if action.check(state).is_err() || staged {
        return Ok(Err(Obstacle::TaskState(state)));
    }
    match action {
        Action::Run => {
            moves::forget_results(tx, &[seq])?;
            moves::to_back(tx, queue, state, &[seq])?;
        }
        Action::Archive => moves::archive(tx, queue, state, &[seq])?,
        Action::Delete => {
            moves::unlock(tx, queue, key.as_deref(), id.as_str())?;
            moves::delete(tx, queue, state, &[seq])?;
        }
    }
    // One that is run by hand keeps its places.
    if action != Action::Run && gates::any(tx)? {
        gates::leave(tx, [(queue, id.as_str(), false)])?;
    }
    Ok(Ok(()))
}

/// An operator's action on the first tasks of a list, or of one group. The caller has checked that the move is legal.
pub(super) fn act_on_list(
    tx: &mut Tx<'_>,
    queue: &QueueName,
    state: TaskState,
    group: Option<&str>,
    action: Action,
) -> Result<Acted, SqlError> {
    let found = match group {
        Some(group) => group::first(tx, queue, group, MAX_ACTED + 1)?,
        None => moves::first(tx, queue, state, MAX_ACTED + 1)?,
    };
    act_on_found(tx, queue, state, action, found, MAX_ACTED)
}

/// An operator's action on rows of a list, of which one more was read than are acted on, to know whether there is more without
/// counting the list.
fn act_on_found(
    tx: &mut Tx<'_>,
    queue: &QueueName,
    state: TaskState,
    action: Action,
    mut found: Vec<TaskList>,
    most: usize,
) -> Result<Acted, SqlError> {
    let more = found.len() > most;
    found.truncate(most);
    match action {
        Action::Run => {
            let seqs = moves::seqs(&found);
            moves::forget_results(tx, &seqs)?;
            moves::to_back(tx, queue, state, &seqs)?;
        }
        Action::Archive => moves::archive(tx, queue, state, &moves::seqs(&found))?,
        Action::Delete => moves::erase(tx, queue, state, &found)?,
    }
    if action != Action::Run && gates::any(tx)? {
        gates::leave(tx, found.iter().filter_map(|row| Some((queue, row.id()?, false))))?;
    }
    let tasks = found.len() as u64;
    Ok(Acted { tasks, more })
}

/// Replaces the payload of a scheduled task.
pub(super) fn edit(
    tx: &Tx<'_>,
    queue: &QueueName,
    id: &TaskId,
    payload: &[u8],
) -> Result<Result<(), Obstacle>, SqlError> {
    let found = tx.conn.first(
        "SELECT seq, state FROM tasks WHERE queue = ? AND id = ?",
        [queue.as_str(), id.as_str()],
        |row| Ok((row.get::<_, i64>(0)?, rows::state(row, 1)?)),
    )?;
    let Some((seq, state)) = found else {
        return Ok(Err(Obstacle::Absent));
    };
    if state != TaskState::Scheduled {
        return Ok(Err(Obstacle::TaskState(state)));
    }
    tx.conn
        .exec("UPDATE tasks SET payload = ? WHERE seq = ?", params![payload, seq])?;
    Ok(Ok(()))
}

/// Pauses or resumes a queue. Returns whether that changed anything.
pub(super) fn pause_queue(tx: &mut Tx<'_>, queue: &QueueName, paused: bool) -> Result<bool, SqlError> {
    let changed = match paused {
        true => tx.conn.exec(
            "INSERT INTO queues (name, paused_at) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE \
             SET paused_at = excluded.paused_at WHERE paused_at IS NULL",
            params![queue.as_str(), tx.now],
        )?,
        false => tx.conn.exec(
            "UPDATE queues SET paused_at = NULL WHERE name = ? AND paused_at IS NOT NULL",
            [queue.as_str()],
        )?,
    };
    if changed > 0 && !paused {
        // Nothing became pending, but workers that found the queue paused wait for a wake-up.
        tx.tally.wake(queue.as_str());
    }
    Ok(changed > 0)
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
        let change = move |tx: &mut Tx<'_>| act_on_list(tx, &queue, state, group.as_deref(), action);
        let done = self.writer.write("carry out an operator's action on a list", change);
        Ok(done.await?)
    }
}

#[async_trait]
impl Actions for EmbeddedBroker {
    async fn act(&self, queue: &QueueName, id: &TaskId, action: Action) -> Result<(), ActionError> {
        let (of, task) = (queue.clone(), id.clone());
        let change = move |tx: &mut Tx<'_>| act(tx, &of, &task, action);
        let done = self.writer.write("carry out an operator's action", change).await?;
        done.map_err(|obstacle| obstacle.of(queue, id, action.done()))
    }

    async fn act_all(&self, queue: &QueueName, state: TaskState, action: Action) -> Result<Acted, ActionError> {
        self.act_on_list(queue, state, None, action).await
    }

    async fn act_before(
        &self,
        queue: &QueueName,
        state: TaskState,
        action: Action,
        before: Timestamp,
        most: usize,
    ) -> Result<Acted, ActionError> {
        action.check(state)?;
        let (queue, most) = (queue.clone(), most.clamp(1, MAX_ACTED));
        let before = rows::micros(before);
        let change = move |tx: &mut Tx<'_>| {
            let found = moves::first_before(tx, &queue, state, before, most + 1)?;
            act_on_found(tx, &queue, state, action, found, most)
        };
        let done = self.writer.write("carry out an operator's action on a list", change);
        Ok(done.await?)
    }

    async fn act_each(
        &self,
        queue: &QueueName,
        ids: &[TaskId],
        state: TaskState,
        action: Action,
    ) -> Result<u64, ActionError> {
        action.check(state)?;
        let queue = queue.clone();
        let ids: Vec<String> = ids.iter().take(MAX_ACTED).map(ToString::to_string).collect();
        let change = move |tx: &mut Tx<'_>| {
            let found = moves::named(tx, &queue, state, &ids)?;
            act_on_found(tx, &queue, state, action, found, MAX_ACTED)
        };
        let done = self
            .writer
            .write("carry out an operator's action on some tasks", change);
        Ok(done.await?.tasks)
    }

    async fn act_group(&self, queue: &QueueName, group: &str, action: Action) -> Result<Acted, ActionError> {
        let group = Some(group.to_owned());
        self.act_on_list(queue, TaskState::Aggregating, group, action).await
    }

    async fn update_payload(&self, queue: &QueueName, id: &TaskId, payload: Bytes) -> Result<(), ActionError> {
        check_payload(&payload)?;
        let (of, task) = (queue.clone(), id.clone());
        let change = move |tx: &mut Tx<'_>| edit(tx, &of, &task, &payload);
        let done = self.writer.write("change the payload of a task", change).await?;
        done.map_err(|obstacle| obstacle.of(queue, id, "edited"))
    }

    async fn delete_raw(&self, queue: &QueueName, id: &[u8]) -> Result<(), ActionError> {
        // Every writer writes text, so no task has an id of another type.
        let text = String::from_utf8_lossy(id).into_owned();
        let id = TaskId::new(text).map_err(|e| BrokerError::Corrupt {
            doing: "delete a task",
            what: e.to_string(),
        })?;
        self.act(queue, &id, Action::Delete).await
    }

    async fn remove_queue(&self, queue: &QueueName, force: bool) -> Result<Acted, RemoveError> {
        let queue = queue.clone();
        let change = move |tx: &mut Tx<'_>| remove::remove_queue(tx, &queue, force);
        self.writer.write("remove a queue", change).await?
    }

    async fn pause_queue(&self, queue: &QueueName) -> BrokerResult<bool> {
        let queue = queue.clone();
        let change = move |tx: &mut Tx<'_>| pause_queue(tx, &queue, true);
        self.writer.write("pause or resume a queue", change).await
    }

    async fn resume_queue(&self, queue: &QueueName) -> BrokerResult<bool> {
        let queue = queue.clone();
        let change = move |tx: &mut Tx<'_>| pause_queue(tx, &queue, false);
        self.writer.write("pause or resume a queue", change).await
    }
}
