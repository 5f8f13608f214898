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

/// How often a waiter checks whether the file was written, which is about the longest that a task of another process
/// waits for an idle worker. A check calls the file system, not the store: about a microsecond.
const GLANCE: Duration = Duration::from_millis(20);

/// Waits until one of the queues has something to claim, at most this long.
pub(super) async fn wait_for_work(
    readers: &Readers,
    wakeups: &Wakeups,
    filter: &Arc<ClaimFilter>,
    queues: &[QueueName],
    at_most: Duration,
) {
    let end = Instant::now() + at_most;
    // Subscribe before looking, so that a task enqueued in between is not missed.
    let mut woken = wakeups.listen();
    loop {
        // Taken before the look: a later write changes this value and ends the wait below.
        let written = readers.last_write();
        // If the file is unreadable, only wait; the claim reports the error.
        if is_claimable(readers, filter, queues).await.unwrap_or(false) {
            return;
        }
        // Check the file's time until it changes, a real look is due, or this process has written.
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

/// Returns when one of the queues was announced, or when announcements were missed.
async fn one_of(woken: &mut broadcast::Receiver<Arc<[String]>>, queues: &[QueueName]) {
    // An error means missed announcements: one of them may have been for these queues.
    while let Ok(names) = woken.recv().await {
        if queues
            .iter()
            .any(|queue| names.iter().any(|name| name == queue.as_str()))
        {
            return;
        }
    }
}

async fn is_claimable(readers: &Readers, filter: &Arc<ClaimFilter>, queues: &[QueueName]) -> BrokerResult<bool> {
    let (filter, queues) = (Arc::clone(filter), queues.to_vec());
    let look = move |conn: &Connection| has_claimable(conn, &filter, &queues);
    readers.query("look for tasks to claim", look).await
}

/// Reads the tasks, as a claim does, instead of the sums: a wrong sum would wake the claim repeatedly.
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
