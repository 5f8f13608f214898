//! Taking back tasks whose workers fell silent, and what these tasks are suspected of then.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use runner_core::schedule::stable_hash;
use runner_core::task::{QueueName, RunOutcome, State, TaskId, recovery_delay};

use super::cells::Row;
use super::dead::Held;
use super::link::SqlError;
use super::readers::Readers;
use super::rows::{self, RECORD, column, instant, span};
use super::servers::Presence;
use super::store::{built, sql};
use super::writer::{Tx, Write};
use super::{moves, runs, settle};
use crate::seam::trace_of;
use crate::{
    Absolved, Attempt, Claim, LEASE_EXPIRED, LONGEST_LEASE, Recovered, TaskRecord, after_crash, longest_run, poison,
};

/// Columns read after those of [`RECORD`]: when and by whom it was claimed, how many crashes were counted before, whether
/// the run was alone in its process, when its lease ended.
const RUN: &str = "t.claimed_at, t.claimed_by, t.lost, t.alone_run IS t.run, t.at";

/// Where they begin.
const RUN_FROM: usize = 16;

/// Takes back tasks whose lease ran out.
pub(super) struct Recover {
    pub(super) presence: Arc<Presence>,
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
        // The wait for the file may have been long: what this process holds is extended first.
        if self.presence.is_behind() {
            return Ok(Vec::new());
        }
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
                recovered.extend(self.recover_one(tx, queue, row).await?);
            }
        }
        Ok(recovered)
    }
}

/// Takes back tasks whose processes are known to be dead.
pub(super) struct RecoverDead {
    pub(super) presence: Arc<Presence>,
    pub(super) held: Vec<Held>,
    pub(super) poison_after: u32,
}

#[async_trait]
impl Write for RecoverDead {
    type Output = Vec<Recovered>;
    const DOING: &'static str = "recover tasks of dead workers";

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<Self::Output, SqlError> {
        let one = Recover {
            presence: Arc::clone(&self.presence),
            queues: Vec::new(),
            grace: Duration::ZERO,
            limit: 1,
            poison_after: self.poison_after,
        };
        let mut recovered = Vec::new();
        for (seq, run) in &self.held {
            let found = built(format!(
                "SELECT {RECORD}, {RUN}, t.queue FROM tasks t WHERE t.seq = ?1 AND t.run = ?2 AND t.state = 'active'"
            ));
            let found = found.bind(*seq).bind(*run).fetch_optional(&mut *tx.conn).await?;
            let Some(row) = found else { continue };
            if let Ok(queue) = QueueName::new(row.try_get::<String>(RUN_FROM + 5)?) {
                recovered.extend(one.recover_one(tx, &queue, &row).await?);
            }
        }
        Ok(recovered)
    }
}

impl Recover {
    async fn recover_one(&self, tx: &mut Tx<'_>, queue: &QueueName, row: &Row) -> Result<Option<Recovered>, SqlError> {
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
        let alone: bool = row.try_get(RUN_FROM + 3).unwrap_or(false);
        let before = u32::try_from(before.max(0)).unwrap_or(u32::MAX);
        let (lost, poisonous) = after_crash(before, alone, self.poison_after);
        let state = if poisonous {
            moves::to_archive(tx, queue, seq, &poison(lost)).await?;
            State::Archived
        } else if record.retries_left() {
            let random = stable_hash(&[record.id.as_str()]);
            let due = tx.now.saturating_add(span(recovery_delay(record.retried, random)));
            moves::to_retry(tx, queue, seq, due, LEASE_EXPIRED, true).await?;
            State::Retry
        } else {
            moves::to_archive(tx, queue, seq, LEASE_EXPIRED).await?;
            State::Archived
        };
        let attempt = attempt(&record, row, tx.now);
        if state == State::Retry {
            let until = instant(row.try_get(RUN_FROM + 4)?);
            let ran = longest_run(attempt.started_at, until, self.presence.lease(), attempt.ended_at);
            sql(
                "UPDATE tasks SET lost = ?1, lost_before = ?2, crash_run = run, ran_ms = ?3, alone_run = NULL \
                 WHERE seq = ?4",
            )
            .bind(i64::from(lost))
            .bind(i64::from(before))
            .bind(column(u64::try_from(ran.as_millis()).unwrap_or(u64::MAX)))
            .bind(seq)
            .execute(&mut *tx.conn)
            .await?;
        } else {
            clear(tx, &[seq]).await?;
        }
        settle::remember(tx, seq, &attempt).await?;
        if let Some(trace) = trace_of(&record, Some(&attempt), None) {
            runs::leave(tx, queue, &record.id, &trace).await?;
        }
        Ok(Some(Recovered {
            queue: queue.clone(),
            id: record.id,
            kind: record.kind,
            state,
            lost,
            poison: poisonous,
        }))
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

/// What is remembered of the run: nobody is left to tell more. What cannot be read counts as unknown.
fn attempt(record: &TaskRecord, row: &Row, now: i64) -> Attempt {
    let claimed_at: Option<i64> = row.try_get(RUN_FROM).unwrap_or_default();
    let claimed_by: Option<String> = row.try_get(RUN_FROM + 1).unwrap_or_default();
    Attempt {
        number: record.retried.saturating_add(1),
        started_at: instant(claimed_at.unwrap_or(now)),
        ended_at: instant(now),
        outcome: RunOutcome::Lost,
        error: Some(LEASE_EXPIRED.to_owned()),
        server: claimed_by.unwrap_or_default(),
        log: None,
    }
}

/// These tasks are suspected of nothing from now on.
pub(super) async fn clear(tx: &mut Tx<'_>, seqs: &[i64]) -> Result<(), SqlError> {
    sql(
        "UPDATE tasks SET lost = 0, lost_before = 0, crash_run = NULL, ran_ms = 0, alone_run = NULL \
         WHERE lost > 0 AND seq IN (SELECT value FROM json_each(?))",
    )
    .bind(rows::to_json(&seqs)?)
    .execute(&mut *tx.conn)
    .await?;
    Ok(())
}

/// Notes whether a run is the only one in work in its process.
pub(super) struct Alone {
    pub(super) claim: Claim,
    pub(super) alone: bool,
}

#[async_trait]
impl Write for Alone {
    type Output = bool;
    const DOING: &'static str = "note whether a run is alone";
    /// The run ends with the power, and is no crash then.
    const DURABLE: bool = false;

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<bool, SqlError> {
        let noted = sql("UPDATE tasks SET alone_run = iif(?1, run, NULL) \
             WHERE queue = ?2 AND id = ?3 AND run = ?4 AND state = 'active'")
        .bind(i64::from(self.alone))
        .bind(self.claim.task().queue.as_str().to_owned())
        .bind(self.claim.task().id.as_str().to_owned())
        .bind(column(self.claim.run()))
        .execute(&mut *tx.conn)
        .await?;
        Ok(noted.rows_affected() > 0)
    }
}

/// Takes back what was counted as crashes of runs whose process lives.
pub(super) struct Absolve(pub(super) Vec<Claim>);

#[async_trait]
impl Write for Absolve {
    type Output = Vec<Absolved>;
    const DOING: &'static str = "report that a worker lives";

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<Self::Output, SqlError> {
        let mut answers = Vec::with_capacity(self.0.len());
        for claim in &self.0 {
            let (queue, id) = (claim.task().queue.as_str(), claim.task().id.as_str());
            let corrected = sql(
                "UPDATE tasks SET lost = lost_before, crash_run = NULL, ran_ms = iif(lost_before > 0, ran_ms, 0) \
                 WHERE queue = ?1 AND id = ?2 AND crash_run = ?3",
            )
            .bind(queue.to_owned())
            .bind(id.to_owned())
            .bind(column(claim.run()))
            .execute(&mut *tx.conn)
            .await?;
            if corrected.rows_affected() > 0 {
                answers.push(Absolved::Corrected);
                continue;
            }
            let held = sql("SELECT 1 FROM tasks WHERE queue = ?1 AND id = ?2 AND run = ?3 AND state = 'active'")
                .bind(queue.to_owned())
                .bind(id.to_owned())
                .bind(column(claim.run()))
                .fetch_optional(&mut *tx.conn)
                .await?;
            answers.push(held.map_or(Absolved::Gone, |_| Absolved::Held));
        }
        Ok(answers)
    }
}
