//! What operators do: to one task, to the first tasks of a list, to the claims from a queue.

use async_trait::async_trait;
use bytes::Bytes;
use runner_core::task::{QueueName, State, TaskId};

use super::cells::Row;
use super::link::SqlError;
use super::rows::{self, column};
use super::store::{built, sql};
use super::writer::{Tx, Write};
use super::{group, moves};
use crate::{Acted, Action, ActionError, MAX_ACTED};

/// An operator's action on one task.
pub(super) struct Act {
    pub(super) queue: QueueName,
    pub(super) id: TaskId,
    pub(super) action: Action,
}

/// What stood in the way of an action on one task.
pub(super) enum Obstacle {
    Absent,
    State(State),
}

impl Obstacle {
    /// The same in the words of the seam.
    pub(super) fn of(self, queue: &QueueName, id: &TaskId, done: &'static str) -> ActionError {
        let id = id.clone();
        match self {
            Self::Absent => ActionError::NotFound(id, queue.clone()),
            Self::State(state) => ActionError::WrongState { id, state, done },
        }
    }
}

#[async_trait]
impl Write for Act {
    type Output = Result<(), Obstacle>;
    const DOING: &'static str = "carry out an operator's action";

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<Self::Output, SqlError> {
        let row = sql("SELECT seq, state, unique_key, staged IS NOT NULL FROM tasks WHERE queue = ? AND id = ?")
            .bind(self.queue.as_str().to_owned())
            .bind(self.id.as_str().to_owned())
            .fetch_optional(&mut *tx.conn)
            .await?;
        let Some(row) = row else {
            return Ok(Err(Obstacle::Absent));
        };
        let (seq, key): (i64, Option<String>) = (row.try_get(0)?, row.try_get(2)?);
        let state = rows::state(row.try_get(1)?)?;
        // One that is being put together with others belongs to whoever does that.
        if self.action.check(state).is_err() || row.try_get(3)? {
            return Ok(Err(Obstacle::State(state)));
        }
        match self.action {
            Action::Run => {
                moves::forget_results(tx, &[seq]).await?;
                moves::to_back(tx, &self.queue, state, &[seq]).await?;
            }
            Action::Archive => moves::put_aside(tx, &self.queue, state, &[seq]).await?,
            Action::Delete => {
                moves::unlock(tx, &self.queue, key.as_deref(), self.id.as_str()).await?;
                moves::delete(tx, &self.queue, state, &[seq]).await?;
            }
        }
        Ok(Ok(()))
    }
}

/// An operator's action on the first tasks of a list; the table of moves allows it.
pub(super) struct ActAll {
    pub(super) queue: QueueName,
    pub(super) state: State,
    /// Of this group alone.
    pub(super) group: Option<String>,
    pub(super) action: Action,
}

#[async_trait]
impl Write for ActAll {
    type Output = Acted;
    const DOING: &'static str = "carry out an operator's action on a list";

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<Acted, SqlError> {
        let (queue, state) = (&self.queue, self.state);
        let mut found = match &self.group {
            Some(group) => group::first(tx, queue, group, MAX_ACTED + 1).await?,
            None => first(tx, queue, state, MAX_ACTED + 1).await?,
        };
        let more = found.len() > MAX_ACTED;
        found.truncate(MAX_ACTED);
        match self.action {
            Action::Run => {
                let seqs = seqs(&found)?;
                moves::forget_results(tx, &seqs).await?;
                moves::to_back(tx, queue, state, &seqs).await?;
            }
            Action::Archive => moves::put_aside(tx, queue, state, &seqs(&found)?).await?,
            Action::Delete => erase(tx, queue, state, &found).await?,
        }
        let tasks = found.len() as u64;
        Ok(Acted { tasks, more })
    }
}

/// The first rows of a list, as number, id and lock.
pub(super) async fn first(tx: &mut Tx<'_>, queue: &QueueName, state: State, most: usize) -> Result<Vec<Row>, SqlError> {
    built(format!(
        "SELECT seq, id, unique_key FROM tasks WHERE queue = ? AND {} ORDER BY at, seq LIMIT ?",
        rows::on_list(state)
    ))
    .bind(queue.as_str().to_owned())
    .bind(column(most as u64))
    .fetch_all(&mut *tx.conn)
    .await
}

fn seqs(found: &[Row]) -> Result<Vec<i64>, SqlError> {
    found.iter().map(|row| row.try_get(0)).collect()
}

/// Deletes rows read as number, id and lock, and releases their locks. A row whose id or lock cannot be read goes too;
/// what it may have locked is free in time.
pub(super) async fn erase(tx: &mut Tx<'_>, queue: &QueueName, from: State, found: &[Row]) -> Result<(), SqlError> {
    for row in found {
        if let (Ok(id), Ok(key)) = (row.try_get::<&str>(1), row.try_get::<Option<&str>>(2)) {
            moves::unlock(tx, queue, key, id).await?;
        }
    }
    moves::delete(tx, queue, from, &seqs(found)?).await
}

/// Another payload for a scheduled task.
pub(super) struct Edit {
    pub(super) queue: QueueName,
    pub(super) id: TaskId,
    pub(super) payload: Bytes,
}

#[async_trait]
impl Write for Edit {
    type Output = Result<(), Obstacle>;
    const DOING: &'static str = "change the payload of a task";

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<Self::Output, SqlError> {
        let row = sql("SELECT seq, state FROM tasks WHERE queue = ? AND id = ?")
            .bind(self.queue.as_str().to_owned())
            .bind(self.id.as_str().to_owned())
            .fetch_optional(&mut *tx.conn)
            .await?;
        let Some(row) = row else {
            return Ok(Err(Obstacle::Absent));
        };
        let state = rows::state(row.try_get(1)?)?;
        if state != State::Scheduled {
            return Ok(Err(Obstacle::State(state)));
        }
        sql("UPDATE tasks SET payload = ? WHERE seq = ?")
            .bind(self.payload.to_vec())
            .bind(row.try_get::<i64>(0)?)
            .execute(&mut *tx.conn)
            .await?;
        Ok(Ok(()))
    }
}

/// Stops claims from a queue or lets them go on; whether that changed anything.
pub(super) struct PauseQueue {
    pub(super) queue: QueueName,
    pub(super) paused: bool,
}

#[async_trait]
impl Write for PauseQueue {
    type Output = bool;
    const DOING: &'static str = "pause or resume a queue";

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<bool, SqlError> {
        let query = if self.paused {
            sql(
                "INSERT INTO queues (name, paused_at) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE \
                 SET paused_at = excluded.paused_at WHERE paused_at IS NULL",
            )
            .bind(self.queue.as_str().to_owned())
            .bind(tx.now)
        } else {
            sql("UPDATE queues SET paused_at = NULL WHERE name = ? AND paused_at IS NOT NULL")
                .bind(self.queue.as_str().to_owned())
        };
        let changed = query.execute(&mut *tx.conn).await?.rows_affected() > 0;
        if changed && !self.paused {
            tx.tally.wake(self.queue.as_str());
        }
        Ok(changed)
    }
}
