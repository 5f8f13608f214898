//! The wait of an idle worker: woken at once by writes of this process, soon by those of others.
//!
//! Not here: what is woken, and when (`wakeups`, `writer`).

use std::sync::Arc;
use std::time::Duration;

use runner_core::task::QueueName;
use rusqlite::Connection;
use tokio::sync::broadcast;
use tokio::time::Instant;

use super::connection::Statements as _;
use super::error::SqlError;
use super::readers::Readers;
use super::rows;
use super::type_filter::ClaimFilter;
use super::wakeups::{SLOWEST_LOOK, Wakeups};
use crate::BrokerResult;

/// How often a waiter glances at whether the file was written: what a task of another process waits at most for an idle
/// worker, mostly. A glance asks the file system, not the store: about a microsecond.
const GLANCE: Duration = Duration::from_millis(20);

/// Waits until one of the queues has something to claim, no longer than this.
pub(super) async fn wait_for_work(
    readers: &Readers,
    wakeups: &Wakeups,
    filter: &Arc<ClaimFilter>,
    queues: &[QueueName],
    at_most: Duration,
) {
    let end = Instant::now() + at_most;
    // Listen before looking, so that what is enqueued in between is not missed.
    let mut woken = wakeups.listen();
    loop {
        // Before the look: what is written after it changes this, and ends the wait below.
        let written = readers.last_write();
        // When the file cannot be read, waiting is all that can be done here; the claim reports the error.
        if is_claimable(readers, filter, queues).await.unwrap_or(false) {
            return;
        }
        // Glance at the file's time until it changes, is due for a real look, or this process has written.
        let look = end.min(Instant::now() + SLOWEST_LOOK);
        while Instant::now() < look && readers.last_write() == written {
            let glance = look.min(Instant::now() + GLANCE);
            if tokio::time::timeout_at(glance, one_of(&mut woken, queues))
                .await
                .is_ok()
            {
                return;
            }
        }
        if Instant::now() >= end {
            return;
        }
    }
}

/// Returns when one of the queues was named, or when some wake-ups were missed.
async fn one_of(woken: &mut broadcast::Receiver<Arc<[String]>>, queues: &[QueueName]) {
    // An error means that wake-ups were lost: one of them may have been for these queues.
    while let Ok(heard) = woken.recv().await {
        if queues
            .iter()
            .any(|queue| heard.iter().any(|name| name == queue.as_str()))
        {
            return;
        }
    }
}

async fn is_claimable(readers: &Readers, filter: &Arc<ClaimFilter>, queues: &[QueueName]) -> BrokerResult<bool> {
    let (filter, queues) = (Arc::clone(filter), queues.to_vec());
    let look = move |conn: &Connection| has_claimable(conn, &filter, &queues);
    readers.ask("look for tasks to claim", look).await
}

/// Asked of the tasks, as a claim does: a sum that is off would wake the claim again and again.
fn has_claimable(conn: &Connection, filter: &ClaimFilter, queues: &[QueueName]) -> Result<bool, SqlError> {
    let with_pending = conn.all(
        "SELECT q.name FROM json_each(?) j CROSS JOIN queues q ON q.name = j.value \
         WHERE q.paused_at IS NULL AND EXISTS \
             (SELECT 1 FROM tasks t WHERE t.queue = q.name AND t.state = 'pending')",
        [rows::to_json(&queues)?],
        |row| rows::queue_name(row, 0),
    )?;
    for queue in &with_pending {
        if filter.is_claimable(conn, queue)? {
            return Ok(true);
        }
    }
    Ok(false)
}
