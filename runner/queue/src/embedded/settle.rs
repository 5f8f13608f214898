//! Ends and extends claims. Both first check whether the claim still holds.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use runner_core::task::{QueueName, TaskState};
use rusqlite::params;

use super::connection::Statements as _;
use super::error::SqlError;
use super::rows::{column, instant, span, to_json};
use super::writer::Tx;
use super::{gates, moves, receipts, runs};
use crate::seam::{Ends, Trace, keeps_what_is_revoked};
use crate::{Claim, Settled, Settlement, Verdict};

/// Claims that one statement looks up, largest first; with few sizes all of them stay prepared.
const CHUNKS: [usize; 3] = [64, 8, 1];

/// The row of each claim that still holds: same task, same run, still active.
fn rows_of(tx: &Tx<'_>, claims: &[&Claim]) -> Result<Vec<Option<i64>>, SqlError> {
    let mut found = Vec::with_capacity(claims.len());
    let mut rest = claims;
    for size in CHUNKS {
        while rest.len() >= size {
            let (chunk, after) = rest.split_at(size);
            look_up(tx, chunk, &mut found)?;
            rest = after;
        }
    }
    Ok(found)
}

fn look_up(tx: &Tx<'_>, chunk: &[&Claim], found: &mut Vec<Option<i64>>) -> Result<(), SqlError> {
    let places = vec!["(?, ?, ?, ?)"; chunk.len()].join(", ");
    let text = format!(
        "WITH w (n, queue, id, run) AS (VALUES {places}) \
         SELECT w.n, t.seq FROM w CROSS JOIN tasks t ON t.queue = w.queue AND t.id = w.id \
         WHERE t.run = w.run AND t.state = 'active'"
    );
    let mut statement = tx.conn.prepare_cached(&text)?;
    let mut place = 0;
    for (n, claim) in (found.len()..).zip(chunk) {
        let (queue, id) = (claim.task().queue.as_str(), claim.task().id.as_str());
        for value in params![column(n as u64), queue, id, column(claim.run())] {
            place += 1;
            statement.raw_bind_parameter(place, value)?;
        }
    }
    found.resize(found.len() + chunk.len(), None);
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next()? {
        let n = usize::try_from(row.get::<_, i64>(0)?).unwrap_or(usize::MAX);
        if let Some(place) = found.get_mut(n) {
            *place = Some(row.get(1)?);
        }
    }
    Ok(())
}

/// Ends claims with their verdicts.
pub(super) fn settle(tx: &mut Tx<'_>, ends: &Ends<'_>) -> Result<Vec<Settled>, SqlError> {
    let settlements = &ends.settlements;
    let claims: Vec<&Claim> = settlements.iter().map(|s| &s.claim).collect();
    let held = rows_of(tx, &claims)?;
    let mut seen = HashSet::new();
    let mut batch = Batch::default();
    let mut answers = Vec::with_capacity(settlements.len());
    for (place, (settlement, seq)) in settlements.iter().zip(held).enumerate() {
        // All rows were looked up before any claim ended, so a claim that is settled twice here must be caught here.
        let Some(seq) = seq.filter(|seq| seen.insert(*seq)) else {
            answers.push(Settled::Stale);
            continue;
        };
        end(tx, settlement, ends.trace(settlement), seq, &mut batch)?;
        receipts::enqueue(tx, ends.after(place))?;
        answers.push(Settled::Accepted);
    }
    for (queue, seqs) in batch.gone {
        moves::delete(tx, &queue, TaskState::Active, &seqs)?;
    }
    for (queue, seqs) in batch.handed_back {
        moves::to_front(tx, &queue, TaskState::Active, &seqs)?;
    }
    if !batch.reported.is_empty() {
        moves::clear_suspicion(tx, &batch.reported)?;
    }
    if gates::any(tx)? {
        let ended = settlements.iter().zip(&answers);
        let ended = ended.filter(|(_, answer)| **answer == Settled::Accepted);
        gates::leave(
            tx,
            ended.map(|(s, _)| (&s.claim.task().queue, s.claim.task().id.as_str(), stays(&s.verdict))),
        )?;
    }
    Ok(answers)
}

/// Whether a task has not ended for good.
fn stays(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Retry { .. } | Verdict::HandBack | Verdict::Snooze { .. } => true,
        Verdict::Done | Verdict::Archive { .. } | Verdict::Revoke => false,
    }
}

/// Rows that share one statement.
#[derive(Default)]
struct Batch {
    gone: BTreeMap<QueueName, Vec<i64>>,
    handed_back: BTreeMap<QueueName, Vec<i64>>,
    /// Tasks that live on and whose run reported its end: the suspicion against them is cleared.
    reported: Vec<i64>,
}

fn end(
    tx: &mut Tx<'_>,
    settlement: &Settlement,
    trace: Option<Trace>,
    seq: i64,
    batch: &mut Batch,
) -> Result<(), SqlError> {
    let record = settlement.claim.task();
    let (queue, lock) = (&record.queue, record.unique_key.as_deref());
    if let Some(trace) = trace {
        runs::record_end(tx, queue, &record.id, &trace)?;
    }
    match &settlement.verdict {
        Verdict::Revoke if !keeps_what_is_revoked(record) => {
            tx.tally.processed(queue.as_str(), false);
            moves::unlock(tx, queue, lock, record.id.as_str())?;
            batch.gone.entry(queue.clone()).or_default().push(seq);
            return Ok(());
        }
        Verdict::Done | Verdict::Revoke => {
            tx.tally.processed(queue.as_str(), false);
            moves::unlock(tx, queue, lock, record.id.as_str())?;
            if record.retention < Duration::from_secs(1) {
                batch.gone.entry(queue.clone()).or_default().push(seq);
                return Ok(());
            }
            complete(tx, settlement, seq)?;
        }
        Verdict::Retry { after, error, counts } => {
            let due = tx.now.saturating_add(span(*after));
            moves::to_retry(tx, queue, seq, due, error, *counts)?;
            keep_result(tx, settlement, seq)?;
        }
        Verdict::Archive { error } => {
            moves::to_archive(tx, queue, seq, error)?;
            keep_result(tx, settlement, seq)?;
        }
        Verdict::HandBack => {
            let list = batch.handed_back.entry(queue.clone()).or_default();
            list.push(seq);
        }
        Verdict::Snooze { delay, waiting_for } => {
            tx.conn.exec(
                "UPDATE tasks SET state = 'scheduled', at = ?, waiting_for = ? WHERE seq = ?",
                params![tx.now.saturating_add(span(*delay)), waiting_for, seq],
            )?;
            let (from, to) = (Some(TaskState::Active), Some(TaskState::Scheduled));
            tx.tally.moved(queue.as_str(), from, to, 1);
        }
    }
    // Handing back or waiting for a handler is not a run, so it proves nothing about crashes.
    let was_run = !matches!(
        settlement.verdict,
        Verdict::HandBack
            | Verdict::Snooze {
                waiting_for: Some(_),
                ..
            }
    );
    if was_run {
        batch.reported.push(seq);
    }
    match &settlement.attempt {
        Some(attempt) => runs::record_attempt(tx, seq, attempt),
        None => Ok(()),
    }
}

/// An empty result counts as none.
fn result_of(settlement: &Settlement) -> Option<&[u8]> {
    settlement.result.as_deref().filter(|result| !result.is_empty())
}

/// Stores the result of an attempt that failed.
fn keep_result(tx: &Tx<'_>, settlement: &Settlement, seq: i64) -> Result<(), SqlError> {
    if let Some(result) = result_of(settlement) {
        tx.conn
            .exec("UPDATE tasks SET result = ? WHERE seq = ?", params![result, seq])?;
    }
    Ok(())
}

fn complete(tx: &mut Tx<'_>, settlement: &Settlement, seq: i64) -> Result<(), SqlError> {
    let record = settlement.claim.task();
    tx.conn.exec(
        "UPDATE tasks SET state = 'completed', at = ?1, completed_at = ?2, result = coalesce(?3, result) WHERE seq = ?4",
        params![
            tx.now.saturating_add(span(record.retention)),
            tx.now,
            result_of(settlement),
            seq
        ],
    )?;
    let (from, to) = (Some(TaskState::Active), Some(TaskState::Completed));
    tx.tally.moved(record.queue.as_str(), from, to, 1);
    Ok(())
}

/// Extends claims. Returns the new end of each, or `None` if it does not hold any more.
pub(super) fn extend(tx: &Tx<'_>, claims: &[Claim], lease: Duration) -> Result<Vec<Option<Timestamp>>, SqlError> {
    let until = tx.now.saturating_add(span(lease));
    let claims: Vec<&Claim> = claims.iter().collect();
    let held = rows_of(tx, &claims)?;
    let ours: Vec<i64> = held.iter().copied().flatten().collect();
    if !ours.is_empty() {
        tx.conn.exec(
            "UPDATE tasks SET at = ? WHERE seq IN (SELECT value FROM json_each(?))",
            params![until, to_json(&ours)?],
        )?;
    }
    let ends = held.into_iter().map(|seq| seq.map(|_| instant(until)));
    Ok(ends.collect())
}
