//! Removes a queue with everything in it, a bounded number of tasks per call.

use runner_core::task::{QueueName, TaskState};
use rusqlite::params;

use super::connection::Statements as _;
use super::error::SqlError;
use super::rows::{count, span};
use super::writer::Tx;
use super::{moves, staged};
use crate::{Acted, MAX_ACTED, REMOVE_GRACE, RemoveError};

/// The work of one call.
pub(super) fn remove_queue(
    tx: &mut Tx<'_>,
    queue: &QueueName,
    force: bool,
) -> Result<Result<Acted, RemoveError>, SqlError> {
    // Asked again in each call: a task that is claimed or enqueued between two calls must not be deleted unnoticed.
    if let Some(obstacle) = obstacle(tx, queue, force)? {
        return Ok(Err(obstacle));
    }
    // Staged tasks are on no list, so the loop below would miss them.
    let mut tasks = staged::remove(tx, queue, MAX_ACTED)?;
    for state in TaskState::ALL {
        if tasks < MAX_ACTED {
            let found = moves::first(tx, queue, state, MAX_ACTED - tasks)?;
            moves::erase(tx, queue, state, &found)?;
            tasks += found.len();
        }
        if tasks == MAX_ACTED {
            // Tasks that are about to be deleted must not be claimed.
            tx.conn.exec(
                "UPDATE queues SET paused_at = coalesce(paused_at, ?) WHERE name = ?",
                params![tx.now, queue.as_str()],
            )?;
            let tasks = tasks as u64;
            return Ok(Ok(Acted { tasks, more: true }));
        }
    }
    // Last, with the name: until then a removal that was interrupted finds the queue and continues.
    forget(tx, queue)?;
    let tasks = tasks as u64;
    Ok(Ok(Acted { tasks, more: false }))
}

/// Why the queue cannot be removed. Decided from the tasks, because the sums of this transaction are not written yet. Tasks
/// are counted only for an answer that ends the removal.
fn obstacle(tx: &Tx<'_>, queue: &QueueName, force: bool) -> Result<Option<RemoveError>, SqlError> {
    let (known, any, held): (bool, bool, i64) = tx.conn.one(
        "SELECT EXISTS (SELECT 1 FROM queues WHERE name = ?1), \
                EXISTS (SELECT 1 FROM tasks WHERE queue = ?1), \
                (SELECT count(*) FROM tasks WHERE queue = ?1 AND state = 'active' AND at > ?2)",
        params![queue.as_str(), tx.now.saturating_sub(span(REMOVE_GRACE))],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    let queue = queue.clone();
    Ok(if held > 0 {
        let tasks = count(held);
        Some(RemoveError::Active { queue, tasks })
    } else if any && !force {
        let all = "SELECT count(*) FROM tasks WHERE queue = ?";
        let tasks = count(tx.conn.value(all, [queue.as_str()])?);
        Some(RemoveError::NotEmpty { queue, tasks })
    } else if !known && !any {
        Some(RemoveError::Unknown(queue))
    } else {
        None
    })
}

/// Deletes everything except tasks.
fn forget(tx: &mut Tx<'_>, queue: &QueueName) -> Result<(), SqlError> {
    for statement in [
        "DELETE FROM locks WHERE queue = ?",
        "DELETE FROM day_counts WHERE queue = ?",
        "DELETE FROM gates WHERE queue = ?",
        "DELETE FROM gated WHERE queue = ?",
        "DELETE FROM queues WHERE name = ?",
    ] {
        tx.conn.exec(statement, [queue.as_str()])?;
    }
    // The deletions above changed the sums, which would create the row of the queue again.
    tx.tally.forget(queue.as_str());
    Ok(())
}
