//! Enqueues tasks each id once: a receipt outlives the task.
//!
//! Not here: how a task is written; `put` does that within the same transaction.

use runner_core::task::{Task, TaskId};
use rusqlite::params;

use super::connection::Statements as _;
use super::error::SqlError;
use super::put::enqueue_one;
use super::rows::span;
use super::writer::Tx;
use crate::{Delivery, Enqueued, Refusal};

/// Enqueues a batch.
pub(super) fn enqueue(tx: &mut Tx<'_>, deliveries: &[Delivery]) -> Result<Vec<Result<Enqueued, Refusal>>, SqlError> {
    deliveries.iter().map(|delivery| deliver(tx, delivery)).collect()
}

fn deliver(tx: &mut Tx<'_>, delivery: &Delivery) -> Result<Result<Enqueued, Refusal>, SqlError> {
    let task = &delivery.task;
    if let Err(invalid) = task.check() {
        return Ok(Err(invalid.into()));
    }
    let Some(id) = task.id.as_ref() else {
        return enqueue_one(tx, task);
    };
    if !issue(tx, task, id, delivery)? {
        return Ok(Err(Refusal::Received));
    }
    let answer = enqueue_one(tx, task)?;
    if answer.is_err() {
        tx.conn.exec(
            "DELETE FROM receipts WHERE queue = ? AND id = ?",
            params![task.queue.as_str(), id.as_str()],
        )?;
    }
    Ok(answer)
}

/// Writes a receipt; whether there was none.
fn issue(tx: &Tx<'_>, task: &Task, id: &TaskId, delivery: &Delivery) -> Result<bool, SqlError> {
    let until = tx.now.saturating_add(span(delivery.remember));
    let written = tx.conn.exec(
        "INSERT INTO receipts (queue, id, expires_at) VALUES (?1, ?2, ?3) \
         ON CONFLICT (queue, id) DO UPDATE SET expires_at = ?3 WHERE expires_at <= ?4",
        params![task.queue.as_str(), id.as_str(), until, tx.now],
    )?;
    Ok(written > 0)
}
