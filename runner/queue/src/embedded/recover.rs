//! Taking back tasks whose workers fell silent.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use runner_core::task::{QueueName, State, TaskId, recovery_delay};

use super::cells::Row;
use super::link::SqlError;
use super::readers::Readers;
use super::rows::{self, RECORD, column, instant, span};
use super::store::{built, sql};
use super::writer::{Tx, Write};
use super::{moves, settle};
use crate::{Attempt, LEASE_EXPIRED, LONGEST_LEASE, LOST, Recovered, TaskRecord, poison};

/// Columns read after those of [`RECORD`]: when and by whom it was claimed, how many runs were lost before.
const RUN: &str = "t.claimed_at, t.claimed_by, t.lost";

/// Where they begin.
const RUN_FROM: usize = 16;

/// Takes back tasks whose lease ran out.
pub(super) struct Recover {
    pub(super) queues: Vec<QueueName>,
    pub(super) grace: Duration,
    pub(super) limit: usize,
    pub(super) poison_after: u32,
}

#[async_trait]
impl Write for Recover {
    type Output = Vec<Recovered>;
    const DOING: &'static str = "recover tasks of silent workers";

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<Self::Output, SqlError> {
        let cutoff = tx.now.saturating_sub(span(self.grace));
        let mut recovered = Vec::new();
        for queue in &self.queues {
            cut_leases(tx, queue).await?;
            let room = self.limit.saturating_sub(recovered.len());
            let found = built(format!(
                "SELECT {RECORD}, {RUN} FROM tasks t WHERE t.queue = ?1 AND t.state = 'active' AND t.at <= ?2 \
                 ORDER BY t.at, t.seq LIMIT ?3"
            ))
            .bind(queue.as_str().to_owned())
            .bind(cutoff)
            .bind(column(room as u64))
            .fetch_all(&mut *tx.conn)
            .await?;
            for row in &found {
                recovered.extend(recover_one(tx, queue, row, self.poison_after).await?);
            }
        }
        Ok(recovered)
    }
}

/// A lease that is longer than any was written while the clock was wrong. A live worker writes it anew; that of a dead
/// one must not last until then.
async fn cut_leases(tx: &mut Tx<'_>, queue: &QueueName) -> Result<(), SqlError> {
    sql("UPDATE tasks SET at = ?1 WHERE queue = ?2 AND state = 'active' AND at > ?1")
        .bind(tx.now.saturating_add(span(LONGEST_LEASE)))
        .bind(queue.as_str().to_owned())
        .execute(&mut *tx.conn)
        .await?;
    Ok(())
}

/// When the first lease on a task of these queues ends.
pub(super) async fn next_lease_end(readers: &Readers, queues: &[QueueName]) -> Result<Option<Timestamp>, SqlError> {
    let row = sql(
        "SELECT min((SELECT t.at FROM tasks t WHERE t.queue = j.value AND t.state = 'active' ORDER BY t.at LIMIT 1)) \
         FROM json_each(?) j",
    )
    .bind(rows::to_json(&queues)?)
    .fetch_one(readers)
    .await?;
    let first = row.try_get::<Option<i64>>(0)?;
    Ok(first.map(instant))
}

async fn recover_one(
    tx: &mut Tx<'_>,
    queue: &QueueName,
    row: &Row,
    poison_after: u32,
) -> Result<Option<Recovered>, SqlError> {
    let seq: i64 = row.try_get(0)?;
    let record = match rows::record(row) {
        Ok(stored) => stored.record,
        Err(why) => {
            moves::archive_unreadable(tx, queue, seq, State::Active, &why).await?;
            // What cannot be read may be the id itself.
            let id = row.try_get::<String>(2).ok().and_then(|id| TaskId::new(id).ok());
            return Ok(id.map(|id| Recovered {
                queue: queue.clone(),
                id,
                kind: String::new(),
                state: State::Archived,
                lost: 0,
                poison: false,
            }));
        }
    };
    let before: i64 = row.try_get(RUN_FROM + 2).unwrap_or(0);
    let lost = u32::try_from(before.max(0)).unwrap_or(u32::MAX).saturating_add(1);
    let poisonous = poison_after != 0 && lost >= poison_after;
    let state = if poisonous {
        moves::to_archive(tx, queue, seq, &poison(lost)).await?;
        State::Archived
    } else if record.retries_left() {
        // Any random number will do; a random id is one.
        let random = uuid::Uuid::new_v4().as_u64_pair().1;
        let due = tx.now.saturating_add(span(recovery_delay(record.retried, random)));
        moves::to_retry(tx, queue, seq, due, LEASE_EXPIRED, true).await?;
        State::Retry
    } else {
        moves::to_archive(tx, queue, seq, LEASE_EXPIRED).await?;
        State::Archived
    };
    sql("UPDATE tasks SET lost = ? WHERE seq = ?")
        .bind(if state == State::Retry { i64::from(lost) } else { 0 })
        .bind(seq)
        .execute(&mut *tx.conn)
        .await?;
    let attempt = attempt(&record, row, tx.now);
    settle::remember(tx, seq, &attempt).await?;
    Ok(Some(Recovered {
        queue: queue.clone(),
        id: record.id,
        kind: record.kind,
        state,
        lost,
        poison: poisonous,
    }))
}

/// What is remembered of the run: nobody is left to tell more. What cannot be read counts as unknown.
fn attempt(record: &TaskRecord, row: &Row, now: i64) -> Attempt {
    let claimed_at: Option<i64> = row.try_get(RUN_FROM).unwrap_or_default();
    let claimed_by: Option<String> = row.try_get(RUN_FROM + 1).unwrap_or_default();
    Attempt {
        number: record.retried.saturating_add(1),
        started_at: instant(claimed_at.unwrap_or(now)),
        ended_at: instant(now),
        outcome: LOST.to_owned(),
        error: Some(LEASE_EXPIRED.to_owned()),
        server: claimed_by.unwrap_or_default(),
        log: None,
    }
}
