//! Wake-ups and cancellations: within the process at once, from other processes by looking at the file.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_core::task::QueueName;
use tokio::sync::{Notify, broadcast, mpsc};
use tokio::time::Instant;

use super::cells::Row;
use super::link::SqlError;
use super::passed::Passed;
use super::readers::Readers;
use super::rows;
use super::store::sql;
use super::writer::{Tx, Write};
use crate::StopRequest;

/// How often one who waits glances at whether anybody wrote: what a task of another process waits at most for an idle
/// worker, mostly. A glance asks the file system, not the store: about a microsecond.
const GLANCE: Duration = Duration::from_millis(20);

/// The longest time between two looks into the store: a glance may overlook what was written in the same tick of the file
/// system's clock.
const SLOWEST_LOOK: Duration = Duration::from_secs(1);

/// How often another process's cancellations are looked for.
const CANCEL_LOOK: Duration = Duration::from_secs(1);

/// How long a request to cancel lies in the file, microseconds: long enough for every process to see it.
const CANCEL_KEPT: i64 = 60 * 1_000_000;

/// Cancellations on their way to one listener; a listener that is behind sees the rest at its next look.
const CANCEL_WAITING: usize = 256;

/// Wake-ups on their way to one waiter; one that is behind looks for itself.
const WAKES_WAITING: usize = 64;

/// What is heard within this process.
#[derive(Debug)]
pub(super) struct Signals {
    /// Queues that may have become claimable.
    work: broadcast::Sender<Arc<[String]>>,
    cancel: Notify,
    delayed: Notify,
}

impl Default for Signals {
    fn default() -> Self {
        Self {
            work: broadcast::Sender::new(WAKES_WAITING),
            cancel: Notify::new(),
            delayed: Notify::new(),
        }
    }
}

impl Signals {
    /// These queues may have something to claim.
    pub(super) fn wake(&self, queues: Vec<String>) {
        if !queues.is_empty() {
            // Often nobody waits.
            self.work.send(queues.into()).map(drop).unwrap_or(());
        }
    }

    /// A task that is due later was written.
    pub(super) fn delayed(&self) {
        self.delayed.notify_waiters();
    }

    /// Waits for such a task of this process, and no longer than others may take to be seen.
    pub(super) async fn wait_for_delayed(&self, at_most: Duration) {
        // Its end by time is as good an answer.
        drop(tokio::time::timeout(at_most.min(SLOWEST_LOOK), self.delayed.notified()).await);
    }

    /// A cancellation lies in the file.
    pub(super) fn cancelled(&self) {
        self.cancel.notify_waiters();
    }
}

/// Waits until one of the queues has something to claim, at most so long.
pub(super) async fn wait_for_work(
    readers: &Readers,
    signals: &Signals,
    passed: &Passed,
    queues: &[QueueName],
    at_most: Duration,
) {
    let end = Instant::now() + at_most;
    // Listen before looking, so that what is enqueued in between is not overheard.
    let mut woken = signals.work.subscribe();
    loop {
        let written = readers.last_write();
        // When the file cannot be read, waiting is all that can be done here; the claim reports the error.
        if claimable(readers, passed, queues).await.unwrap_or(false) {
            return;
        }
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

/// Returns when one of the queues was heard of, or when some wake-ups were missed.
async fn one_of(woken: &mut broadcast::Receiver<Arc<[String]>>, queues: &[QueueName]) {
    while let Ok(heard) = woken.recv().await {
        if queues
            .iter()
            .any(|queue| heard.iter().any(|name| name == queue.as_str()))
        {
            return;
        }
    }
}

/// Asked of the tasks, as a claim does: a sum that is off would wake the claim again and again.
async fn claimable(readers: &Readers, passed: &Passed, queues: &[QueueName]) -> Result<bool, SqlError> {
    let found = sql(
        "SELECT q.name FROM json_each(?) j CROSS JOIN queues q ON q.name = j.value \
         WHERE q.paused_at IS NULL AND EXISTS \
             (SELECT 1 FROM tasks t WHERE t.queue = q.name AND t.state = 'pending')",
    )
    .bind(rows::to_json(&queues)?)
    .fetch_all(readers)
    .await?;
    for row in found {
        if passed.claimable(readers, &rows::queue_name(row.try_get(0)?)?).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Asks for the end of an attempt.
pub(super) struct Cancel(pub(super) StopRequest);

#[async_trait]
impl Write for Cancel {
    type Output = ();
    const DOING: &'static str = "ask for a cancellation";

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<(), SqlError> {
        sql("DELETE FROM cancellations WHERE at < ?")
            .bind(tx.now.saturating_sub(CANCEL_KEPT))
            .execute(&mut *tx.conn)
            .await?;
        let StopRequest { id, queue, for_good } = &self.0;
        sql("INSERT INTO cancellations (task_id, at, queue, error) VALUES (?, ?, ?, ?)")
            .bind(id.as_str().to_owned())
            .bind(tx.now)
            .bind(queue.as_ref().map(|queue| queue.as_str().to_owned()))
            .bind(for_good.clone())
            .execute(&mut *tx.conn)
            .await?;
        Ok(())
    }
}

/// Requests from now on, until the listener is gone.
pub(super) async fn cancellations(
    readers: Readers,
    signals: Arc<Signals>,
) -> Result<mpsc::Receiver<StopRequest>, SqlError> {
    let row = sql("SELECT max(seq) FROM cancellations").fetch_one(&readers).await?;
    let seen = row.try_get::<Option<i64>>(0)?;
    let seen = match seen {
        Some(seen) => seen,
        None => last_number(&readers).await?,
    };
    let (sender, receiver) = mpsc::channel(CANCEL_WAITING);
    let look = move |seen| look(readers.clone(), seen);
    tokio::spawn(async move { follow(look, &signals, &sender, seen).await });
    Ok(receiver)
}

/// The last number ever given, for a list that is empty by now.
async fn last_number(readers: &Readers) -> Result<i64, SqlError> {
    let row = sql("SELECT max(seq) FROM sqlite_sequence WHERE name = 'cancellations'")
        .fetch_one(readers)
        .await?;
    Ok(row.try_get::<Option<i64>>(0)?.unwrap_or(0))
}

/// What was asked for after this number; what cannot be read is dropped.
async fn look(readers: Readers, seen: i64) -> Result<Vec<(i64, Option<StopRequest>)>, SqlError> {
    let found = sql("SELECT seq, task_id, queue, error FROM cancellations WHERE seq > ? ORDER BY seq LIMIT 256")
        .bind(seen)
        .fetch_all(&readers)
        .await?;
    let request = |row: &Row| {
        Some(StopRequest {
            id: rows::task_id(row.try_get(1).ok()?).ok()?,
            queue: match row.try_get::<Option<String>>(2).ok()? {
                Some(queue) => Some(rows::queue_name(queue).ok()?),
                None => None,
            },
            for_good: row.try_get(3).ok()?,
        })
    };
    found.iter().map(|row| Ok((row.try_get(0)?, request(row)))).collect()
}

/// Passes ids on. A look that fails is made again from the same place, so that nothing asked for meanwhile is missed.
async fn follow<Look>(
    mut look: impl FnMut(i64) -> Look,
    signals: &Signals,
    sender: &mpsc::Sender<StopRequest>,
    mut seen: i64,
) where
    Look: Future<Output = Result<Vec<(i64, Option<StopRequest>)>, SqlError>>,
{
    let mut fails = false;
    loop {
        let mut woken = std::pin::pin!(signals.cancel.notified());
        woken.as_mut().enable();
        let found = look(seen).await;
        match &found {
            Err(error) if !fails => tracing::warn!(%error, "cancellations cannot be read; they wait"),
            _ => {}
        }
        fails = found.is_err();
        for (number, request) in found.unwrap_or_default() {
            seen = number;
            if let Some(request) = request
                && sender.send(request).await.is_err()
            {
                return;
            }
        }
        tokio::select! {
            // Woken or not, the next look tells.
            _ = tokio::time::timeout(CANCEL_LOOK, woken) => {}
            () = sender.closed() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use runner_core::task::TaskId;

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
                    return Err(SqlError::Gone("a test"));
                }
                let asked = (seen < 7).then(|| (7, Some(cancel())));
                Ok(asked.into_iter().collect())
            }
        };
        let listener = tokio::spawn(async move { follow(look, &Signals::default(), &sender, 6).await });
        assert_eq!(heard.recv().await, Some(cancel()));
        drop(heard);
        listener.await.unwrap();
    }
}
