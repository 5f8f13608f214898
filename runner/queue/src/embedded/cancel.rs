//! Requests to stop an attempt: written to the file, read from there by the process that runs the attempt.

use std::sync::Arc;
use std::time::Duration;

use runner_core::task::QueueName;
use rusqlite::{Connection, Row, params};
use tokio::sync::mpsc;

use super::connection::Statements as _;
use super::error::SqlError;
use super::readers::Readers;
use super::rows;
use super::wakeups::Wakeups;
use super::writer::Tx;
use crate::{BrokerResult, StopRequest};

/// How often the file is checked for requests of other processes.
const CANCEL_LOOK: Duration = Duration::from_secs(1);

/// How long a request stays in the file, in microseconds: long enough for every process to read it.
const CANCEL_TTL: i64 = 60 * 1_000_000;

/// Requests buffered for one listener; a slow listener reads the rest at its next look.
const CANCEL_WAITING: usize = 256;

/// A request and its number in the file; `None` if the request is unreadable.
type Numbered = (i64, Option<StopRequest>);

/// Requests the end of an attempt.
pub(super) fn request(tx: &Tx<'_>, request: &StopRequest) -> Result<(), SqlError> {
    tx.conn.exec(
        "DELETE FROM cancellations WHERE at < ?",
        [tx.now.saturating_sub(CANCEL_TTL)],
    )?;
    let StopRequest { id, queue, for_good } = request;
    tx.conn.exec(
        "INSERT INTO cancellations (task_id, at, queue, error) VALUES (?, ?, ?, ?)",
        params![id.as_str(), tx.now, queue.as_ref().map(QueueName::as_str), for_good],
    )?;
    Ok(())
}

/// Returns all requests written from now on, until the receiver is dropped.
pub(super) async fn listen(readers: Readers, wakeups: Arc<Wakeups>) -> BrokerResult<mpsc::Receiver<StopRequest>> {
    const DOING: &str = "listen for cancellations";
    let seen = readers.query(DOING, last_number).await?;
    let (sender, receiver) = mpsc::channel(CANCEL_WAITING);
    let look = move |seen| {
        let readers = readers.clone();
        async move { readers.query(DOING, move |conn| after(conn, seen)).await }
    };
    tokio::spawn(async move { follow(look, &wakeups, &sender, seen).await });
    Ok(receiver)
}

/// The highest number ever assigned, even if its request has been deleted.
fn last_number(conn: &Connection) -> Result<i64, SqlError> {
    if let Some(last) = conn.value("SELECT max(seq) FROM cancellations", [])? {
        return Ok(last);
    }
    let given = "SELECT max(seq) FROM sqlite_sequence WHERE name = 'cancellations'";
    Ok(conn.value::<Option<i64>>(given, [])?.unwrap_or(0))
}

/// The requests after this number.
fn after(conn: &Connection, seen: i64) -> Result<Vec<Numbered>, SqlError> {
    conn.all(
        "SELECT seq, task_id, queue, error FROM cancellations WHERE seq > ? ORDER BY seq LIMIT 256",
        [seen],
        |row| Ok((row.get(0)?, stop_request(row).ok())),
    )
}

fn stop_request(row: &Row<'_>) -> Result<StopRequest, SqlError> {
    let of_queue = row.get::<_, Option<String>>(2)?.is_some();
    Ok(StopRequest {
        id: rows::task_id(row, 1)?,
        queue: of_queue.then(|| rows::queue_name(row, 2)).transpose()?,
        for_good: row.get(3)?,
    })
}

/// Passes requests on. A failed look is repeated from the same number, so that no request is missed meanwhile.
async fn follow<Look>(
    mut look: impl FnMut(i64) -> Look,
    wakeups: &Wakeups,
    sender: &mpsc::Sender<StopRequest>,
    mut seen: i64,
) where
    Look: Future<Output = BrokerResult<Vec<Numbered>>>,
{
    let mut fails = false;
    loop {
        let mut woken = std::pin::pin!(wakeups.next_cancel());
        // Register before the look: a request written during the look then wakes the next round.
        woken.as_mut().enable();
        let found = look(seen).await;
        match &found {
            Err(error) if !fails => tracing::warn!(%error, "cancellations cannot be read; they wait"),
            _ => {}
        }
        fails = found.is_err();
        for (number, request) in found.unwrap_or_default() {
            // Advance past unreadable requests too, or they would be read again forever.
            seen = number;
            if let Some(request) = request
                && sender.send(request).await.is_err()
            {
                return;
            }
        }
        tokio::select! {
            // Either way the next look reads what is new.
            _ = tokio::time::timeout(CANCEL_LOOK, woken) => {}
            () = sender.closed() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use runner_core::task::TaskId;

    use super::super::error::broker_error;
    use super::*;

    fn cancel() -> StopRequest {
        StopRequest::cancel(TaskId::new("a").unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_made_while_the_file_is_unreadable_arrives_later() {
        let (sender, mut received) = mpsc::channel(8);
        let mut looks = 0;
        let look = move |seen| {
            looks += 1;
            let failed = looks <= 2;
            async move {
                if failed {
                    return Err(broker_error("look", SqlError::Unavailable("a test")));
                }
                let asked = (seen < 7).then(|| (7, Some(cancel())));
                Ok(asked.into_iter().collect())
            }
        };
        let listener = tokio::spawn(async move { follow(look, &Wakeups::default(), &sender, 6).await });
        assert_eq!(received.recv().await, Some(cancel()));
        drop(received);
        listener.await.unwrap();
    }
}
