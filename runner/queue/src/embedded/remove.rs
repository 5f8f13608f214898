//! Removing a queue with everything of it, a bounded number of tasks a call.

use async_trait::async_trait;
use runner_core::task::{QueueName, State};

use super::link::SqlError;
use super::rows::{count, span};
use super::store::sql;
use super::writer::{Tx, Write};
use super::{act, staged};
use crate::{Acted, MAX_ACTED, REMOVE_GRACE, RemoveError};

/// One call's part of it.
pub(super) struct Remove {
    pub(super) queue: QueueName,
    pub(super) force: bool,
}

#[async_trait]
impl Write for Remove {
    type Output = Result<Acted, RemoveError>;
    const DOING: &'static str = "remove a queue";

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<Self::Output, SqlError> {
        if let Some(obstacle) = self.obstacle(tx).await? {
            return Ok(Err(obstacle));
        }
        let mut tasks = staged::remove(tx, &self.queue, MAX_ACTED).await?;
        for state in State::ALL {
            if tasks < MAX_ACTED {
                let found = act::first(tx, &self.queue, state, MAX_ACTED - tasks).await?;
                act::erase(tx, &self.queue, state, &found).await?;
                tasks += found.len();
            }
            if tasks == MAX_ACTED {
                // Nobody shall claim what is about to go.
                sql("UPDATE queues SET paused_at = coalesce(paused_at, ?) WHERE name = ?")
                    .bind(tx.now)
                    .bind(self.queue.as_str().to_owned())
                    .execute(&mut *tx.conn)
                    .await?;
                let tasks = tasks as u64;
                return Ok(Ok(Acted { tasks, more: true }));
            }
        }
        self.forget(tx).await?;
        let tasks = tasks as u64;
        Ok(Ok(Acted { tasks, more: false }))
    }
}

impl Remove {
    /// Why the queue has to stay. Told from the tasks: the sums of this transaction are not written down yet. All of
    /// them are counted only for an answer that ends the removal.
    async fn obstacle(&self, tx: &mut Tx<'_>) -> Result<Option<RemoveError>, SqlError> {
        let queue = self.queue.clone();
        let row = sql("SELECT EXISTS (SELECT 1 FROM queues WHERE name = ?1), \
                    EXISTS (SELECT 1 FROM tasks WHERE queue = ?1), \
                    (SELECT count(*) FROM tasks WHERE queue = ?1 AND state = 'active' AND at > ?2)")
        .bind(queue.as_str().to_owned())
        .bind(tx.now.saturating_sub(span(REMOVE_GRACE)))
        .fetch_one(&mut *tx.conn)
        .await?;
        let (known, any): (bool, bool) = (row.try_get(0)?, row.try_get(1)?);
        let held: i64 = row.try_get(2)?;
        Ok(if held > 0 {
            let tasks = count(held);
            Some(RemoveError::Active { queue, tasks })
        } else if any && !self.force {
            let tasks = self.size(tx).await?;
            Some(RemoveError::NotEmpty { queue, tasks })
        } else if !known && !any {
            Some(RemoveError::Unknown(queue))
        } else {
            None
        })
    }

    async fn size(&self, tx: &mut Tx<'_>) -> Result<u64, SqlError> {
        let row = sql("SELECT count(*) FROM tasks WHERE queue = ?")
            .bind(self.queue.as_str().to_owned())
            .fetch_one(&mut *tx.conn)
            .await?;
        Ok(count(row.try_get(0)?))
    }

    /// Everything that is not a task.
    async fn forget(&self, tx: &mut Tx<'_>) -> Result<(), SqlError> {
        for statement in [
            "DELETE FROM locks WHERE queue = ?",
            "DELETE FROM day_counts WHERE queue = ?",
            "DELETE FROM queues WHERE name = ?",
        ] {
            sql(statement)
                .bind(self.queue.as_str().to_owned())
                .execute(&mut *tx.conn)
                .await?;
        }
        tx.tally.forget(self.queue.as_str());
        Ok(())
    }
}
