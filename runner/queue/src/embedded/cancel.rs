//! Requests to stop an attempt: written into the file, found there by the process that runs it.

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

/// How often another process's requests are looked for.
const CANCEL_LOOK: Duration = Duration::from_secs(1);

/// How long a request lies in the file, microseconds: long enough for every process to see it.
const CANCEL_KEPT: i64 = 60 * 1_000_000;

/// Requests on their way to one listener; a listener that is behind sees the rest at its next look.
const CANCEL_WAITING: usize = 256;

/// A request with its number in the file; `None` if it cannot be read.
type Numbered = (i64, Option<StopRequest>);

/// Asks for the end of an attempt.
pub(super) fn request(tx: &Tx<'_>, request: &StopRequest) -> Result<(), SqlError> {
    tx.conn.exec(
        "DELETE FROM cancellations WHERE at < ?",
        [tx.now.saturating_sub(CANCEL_KEPT)],
    )?;
    let StopRequest { id, queue, for_good } = request;
    tx.conn.exec(
        "INSERT INTO cancellations (task_id, at, queue, error) VALUES (?, ?, ?, ?)",
        params![id.as_str(), tx.now, queue.as_ref().map(QueueName::as_str), for_good],
    )?;
    Ok(())
}

/// Requests from now on, until the listener is gone.
pub(super) async fn listen(readers: Readers, wakeups: Arc<Wakeups>) -> BrokerResult<mpsc::Receiver<StopRequest>> {
    const DOING: &str = "listen for cancellations";
    let seen = readers.ask(DOING, last_number).await?;
    let (sender, receiver) = mpsc::channel(CANCEL_WAITING);
    let look = move |seen| {
        let readers = readers.clone();
        async move { readers.ask(DOING, move |conn| after(conn, seen)).await }
    };
    tokio::spawn(async move { follow(look, &wakeups, &sender, seen).await });
    Ok(receiver)
}

/// The last number ever given, also when the requests are gone by now.
fn last_number(conn: &Connection) -> Result<i64, SqlError> {
    if let Some(last) = conn.value("SELECT max(seq) FROM cancellations", [])? {
        return Ok(last);
    }
    let given = "SELECT max(seq) FROM sqlite_sequence WHERE name = 'cancellations'";
    Ok(conn.value::<Option<i64>>(given, [])?.unwrap_or(0))
}

/// What was asked for after this number.
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

/// Passes ids on. A look that fails is made again from the same place, so that nothing asked for meanwhile is missed.
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
        // Before the look: a request that is written while it runs wakes the next round.
        woken.as_mut().enable();
        let found = look(seen).await;
        match &found {
            Err(error) if !fails => tracing::warn!(%error, "cancellations cannot be read; they wait"),
            _ => {}
        }
        fails = found.is_err();
        for (number, request) in found.unwrap_or_default() {
            // Also of one that cannot be read, which would be looked at for ever otherwise.
            seen = number;
            if let Some(request) = request
                && sender.send(request).await.is_err()
            {
                return;
            }
        }
        tokio::select! {
            // Woken or not, the next look finds out.
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
    async fn what_is_asked_for_while_the_file_cannot_be_read_is_heard_later() {
        let (sender, mut heard) = mpsc::channel(8);
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
        assert_eq!(heard.recv().await, Some(cancel()));
        drop(heard);
        listener.await.unwrap();
    }
}
