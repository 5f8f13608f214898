//! How claims end, and how they are kept alive: both begin by asking whether the claim is still ours.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use runner_core::task::{QueueName, State};

use super::link::SqlError;
use super::rows::{column, instant, span, to_json};
use super::store::{built, sql};
use super::writer::{Tx, Write};
use super::{moves, recover, runs};
use crate::seam::trace_of;
use crate::{Attempt, Claim, MAX_ATTEMPTS_KEPT, Settled, Settlement, Verdict};

/// Claims that one statement looks up, largest first.
const CHUNKS: [usize; 3] = [64, 8, 1];

/// The row of each claim that is still ours: same task, same run, still active.
async fn held(tx: &mut Tx<'_>, claims: &[&Claim]) -> Result<Vec<Option<i64>>, SqlError> {
    let mut found = vec![None; claims.len()];
    let mut from = 0;
    for size in CHUNKS {
        while claims.len() - from >= size {
            let places = vec!["(?, ?, ?, ?)"; size].join(", ");
            let mut query = built(format!(
                "WITH w (n, queue, id, run) AS (VALUES {places}) \
                 SELECT w.n, t.seq FROM w CROSS JOIN tasks t ON t.queue = w.queue AND t.id = w.id \
                 WHERE t.run = w.run AND t.state = 'active'"
            ));
            for (n, claim) in claims.iter().enumerate().skip(from).take(size) {
                query = query
                    .bind(column(n as u64))
                    .bind(claim.task().queue.as_str().to_owned())
                    .bind(claim.task().id.as_str().to_owned())
                    .bind(column(claim.run()));
            }
            for row in query.fetch_all(&mut *tx.conn).await? {
                let n = usize::try_from(row.try_get::<i64>(0)?).unwrap_or(usize::MAX);
                if let Some(place) = found.get_mut(n) {
                    *place = Some(row.try_get(1)?);
                }
            }
            from += size;
        }
    }
    Ok(found)
}

/// Ends claims.
pub(super) struct Settle(pub(super) Vec<Settlement>);

#[async_trait]
impl Write for Settle {
    type Output = Vec<Settled>;
    const DOING: &'static str = "settle claims";

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<Self::Output, SqlError> {
        let claims: Vec<&Claim> = self.0.iter().map(|s| &s.claim).collect();
        let held = held(tx, &claims).await?;
        let mut seen = HashSet::new();
        let mut together = Together::default();
        let mut answers = Vec::with_capacity(self.0.len());
        for (settlement, seq) in self.0.iter().zip(held) {
            let Some(seq) = seq.filter(|seq| seen.insert(*seq)) else {
                answers.push(Settled::Stale);
                continue;
            };
            end(tx, settlement, seq, &mut together).await?;
            answers.push(Settled::Accepted);
        }
        for (queue, seqs) in together.gone {
            moves::delete(tx, &queue, State::Active, &seqs).await?;
        }
        for (queue, seqs) in together.handed_back {
            moves::to_front(tx, &queue, State::Active, &seqs).await?;
        }
        if !together.reported.is_empty() {
            recover::clear(tx, &together.reported).await?;
        }
        Ok(answers)
    }
}

/// Rows that go the same way and cost one statement together.
#[derive(Default)]
struct Together {
    gone: BTreeMap<QueueName, Vec<i64>>,
    handed_back: BTreeMap<QueueName, Vec<i64>>,
    /// Tasks that go on and whose run ended by itself: they are suspected of nothing any more.
    reported: Vec<i64>,
}

async fn end(tx: &mut Tx<'_>, settlement: &Settlement, seq: i64, together: &mut Together) -> Result<(), SqlError> {
    let record = settlement.claim.task();
    let (queue, lock) = (&record.queue, record.unique_key.as_deref());
    if let Some(trace) = trace_of(record, settlement.attempt.as_ref(), settlement.result.as_deref()) {
        runs::leave(tx, queue, &record.id, &trace).await?;
    }
    match &settlement.verdict {
        Verdict::Revoke => {
            tx.tally.processed(queue.as_str(), false);
            moves::unlock(tx, queue, lock, record.id.as_str()).await?;
            together.gone.entry(queue.clone()).or_default().push(seq);
            return Ok(());
        }
        Verdict::Done => {
            tx.tally.processed(queue.as_str(), false);
            moves::unlock(tx, queue, lock, record.id.as_str()).await?;
            if record.retention < Duration::from_secs(1) {
                together.gone.entry(queue.clone()).or_default().push(seq);
                return Ok(());
            }
            complete(tx, settlement, seq).await?;
        }
        Verdict::Retry { after, error, counts } => {
            let due = tx.now.saturating_add(span(*after));
            moves::to_retry(tx, queue, seq, due, error, *counts).await?;
            keep_result(tx, settlement, seq).await?;
        }
        Verdict::Archive { error } => {
            moves::to_archive(tx, queue, seq, error).await?;
            keep_result(tx, settlement, seq).await?;
        }
        Verdict::HandBack => {
            let list = together.handed_back.entry(queue.clone()).or_default();
            list.push(seq);
        }
        Verdict::Snooze { delay, waiting_for } => {
            let due = tx.now.saturating_add(span(*delay));
            sql("UPDATE tasks SET state = 'scheduled', at = ?, waiting_for = ? WHERE seq = ?")
                .bind(due)
                .bind(waiting_for.clone())
                .bind(seq)
                .execute(&mut *tx.conn)
                .await?;
            let (from, to) = (Some(State::Active), Some(State::Scheduled));
            tx.tally.moved(queue.as_str(), from, to, 1);
        }
    }
    let was_run = !matches!(
        settlement.verdict,
        Verdict::HandBack
            | Verdict::Snooze {
                waiting_for: Some(_),
                ..
            }
    );
    if was_run {
        together.reported.push(seq);
    }
    match &settlement.attempt {
        Some(attempt) => remember(tx, seq, attempt).await,
        None => Ok(()),
    }
}

/// No bytes are no result.
fn result_of(settlement: &Settlement) -> Option<Bytes> {
    settlement.result.clone().filter(|result| !result.is_empty())
}

/// What a failed attempt had of a result.
async fn keep_result(tx: &mut Tx<'_>, settlement: &Settlement, seq: i64) -> Result<(), SqlError> {
    if let Some(result) = result_of(settlement) {
        sql("UPDATE tasks SET result = ? WHERE seq = ?")
            .bind(result)
            .bind(seq)
            .execute(&mut *tx.conn)
            .await?;
    }
    Ok(())
}

async fn complete(tx: &mut Tx<'_>, settlement: &Settlement, seq: i64) -> Result<(), SqlError> {
    let record = settlement.claim.task();
    sql("UPDATE tasks SET state = 'completed', at = ?1, completed_at = ?2, result = coalesce(?3, result) WHERE seq = ?4")
        .bind(tx.now.saturating_add(span(record.retention)))
        .bind(tx.now)
        .bind(result_of(settlement))
        .bind(seq)
        .execute(&mut *tx.conn)
        .await?;
    let (from, to) = (Some(State::Active), Some(State::Completed));
    tx.tally.moved(record.queue.as_str(), from, to, 1);
    Ok(())
}

/// Adds to what is remembered of a task's attempts.
pub(super) async fn remember(tx: &mut Tx<'_>, seq: i64, attempt: &Attempt) -> Result<(), SqlError> {
    sql("INSERT INTO attempts (task, body) VALUES (?, ?)")
        .bind(seq)
        .bind(to_json(attempt)?)
        .execute(&mut *tx.conn)
        .await?;
    sql("DELETE FROM attempts WHERE task = ?1 AND seq <= \
         (SELECT seq FROM attempts WHERE task = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2)")
    .bind(seq)
    .bind(column(MAX_ATTEMPTS_KEPT as u64))
    .execute(&mut *tx.conn)
    .await?;
    Ok(())
}

/// Keeps claims alive.
pub(super) struct Extend {
    pub(super) claims: Vec<Claim>,
    pub(super) lease: Duration,
}

#[async_trait]
impl Write for Extend {
    type Output = Vec<Option<Timestamp>>;
    const DOING: &'static str = "extend leases";
    /// Leases are over when the power is.
    const DURABLE: bool = false;

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<Self::Output, SqlError> {
        let until = tx.now.saturating_add(span(self.lease));
        let claims: Vec<&Claim> = self.claims.iter().collect();
        let held = held(tx, &claims).await?;
        let ours: Vec<i64> = held.iter().copied().flatten().collect();
        if !ours.is_empty() {
            sql("UPDATE tasks SET at = ? WHERE seq IN (SELECT value FROM json_each(?))")
                .bind(until)
                .bind(to_json(&ours)?)
                .execute(&mut *tx.conn)
                .await?;
        }
        let ends = held.into_iter().map(|seq| seq.map(|_| instant(until)));
        Ok(ends.collect())
    }
}
