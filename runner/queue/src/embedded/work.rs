//! Claims, and the passes that keep lists in order: forward, release.
//!
//! How a claim ends is in `settle`, what happens when its worker falls silent in `recover`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_core::task::{QueueName, State};

use super::cells::Row;
use super::link::SqlError;
use super::moves;
use super::passed::Passed;
use super::rows::{self, RECORD, column, instant, span};
use super::settle::Settle;
use super::store::{built, sql};
use super::writer::{Tx, Write};
use crate::{Claim, Forwarded, Settled, Suspicion};

/// Where a claim's columns of suspicion begin, behind those of [`RECORD`].
const SUSPICION_FROM: usize = 16;

/// Takes up to `max` tasks.
pub(super) struct TakeClaims {
    pub(super) queues: Vec<QueueName>,
    pub(super) max: usize,
    pub(super) lease: Duration,
    /// The server that asks, if it is known.
    pub(super) by: Option<String>,
    /// Which types are known, and what is passed over.
    pub(super) passed: Arc<Passed>,
}

#[async_trait]
impl Write for TakeClaims {
    type Output = Vec<Claim>;
    const DOING: &'static str = "claim tasks";
    /// A power cut ends the worker together with its claims: the tasks wait again then.
    const DURABLE: bool = false;

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<Self::Output, SqlError> {
        let until = tx.now.saturating_add(span(self.lease));
        let mut claims = Vec::new();
        for queue in &self.queues {
            let room = self.max.saturating_sub(claims.len());
            if room == 0 {
                break;
            }
            let found = self.find(tx, queue, room).await?;
            take(tx, queue, &found, (until, self.by.as_deref()), &mut claims).await?;
        }
        Ok(claims)
    }
}

impl TakeClaims {
    /// The first tasks of known types. As long as all are known there is one statement, which reads whole rows.
    async fn find(&self, tx: &mut Tx<'_>, queue: &QueueName, room: usize) -> Result<Vec<Row>, SqlError> {
        let types = self.passed.types();
        if self.passed.stretch(queue).is_none() {
            let found = built(format!(
                "SELECT {RECORD}, t.lost, t.ran_ms FROM tasks t WHERE t.queue = ?1 AND t.state = 'pending' AND NOT EXISTS \
                     (SELECT 1 FROM queues WHERE name = ?1 AND paused_at IS NOT NULL) \
                 ORDER BY t.at, t.seq LIMIT ?2"
            ))
            .bind(queue.as_str().to_owned())
            .bind(column(room as u64))
            .fetch_all(&mut *tx.conn)
            .await?;
            let unknown = |row: &Row| rows::kind(row).is_some_and(|kind| !types.has(kind));
            if types.is_all() || !found.iter().any(unknown) {
                return Ok(found);
            }
        }
        if is_paused(tx, queue).await? {
            return Ok(Vec::new());
        }
        let picked = self.passed.pick(tx, &types, queue, room).await?;
        if picked.is_empty() {
            return Ok(Vec::new());
        }
        built(format!(
            "SELECT {RECORD}, t.lost, t.ran_ms FROM tasks t WHERE t.seq IN (SELECT value FROM json_each(?)) ORDER BY t.at, t.seq"
        ))
        .bind(rows::to_json(&picked)?)
        .fetch_all(&mut *tx.conn)
        .await
    }
}

async fn is_paused(tx: &mut Tx<'_>, queue: &QueueName) -> Result<bool, SqlError> {
    sql("SELECT EXISTS (SELECT 1 FROM queues WHERE name = ? AND paused_at IS NOT NULL)")
        .bind(queue.as_str().to_owned())
        .fetch_one(&mut *tx.conn)
        .await?
        .try_get(0)
}

/// Ends claims and takes new ones.
pub(super) struct Exchange {
    pub(super) settle: Settle,
    pub(super) take: TakeClaims,
}

#[async_trait]
impl Write for Exchange {
    type Output = (Vec<Settled>, Vec<Claim>);
    const DOING: &'static str = "settle and claim tasks";

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<Self::Output, SqlError> {
        Ok((self.settle.apply(tx).await?, self.take.apply(tx).await?))
    }
}

/// Makes claims of rows that can be read and archives the others. The lease: until when, and whose.
async fn take(
    tx: &mut Tx<'_>,
    queue: &QueueName,
    found: &[Row],
    (until, by): (i64, Option<&str>),
    claims: &mut Vec<Claim>,
) -> Result<(), SqlError> {
    if found.is_empty() {
        return Ok(());
    }
    let first = first_run(tx, queue, column(found.len() as u64)).await?;
    let mut taken = Vec::with_capacity(found.len());
    for row in found {
        match rows::record(row) {
            Ok(stored) => {
                let run = rows::count(first).saturating_add(taken.len() as u64);
                taken.push(stored.seq);
                claims.push(Claim::new(stored.record, run, instant(until)).suspected(suspicion(row)));
            }
            Err(why) => {
                let seq: i64 = row.try_get(0)?;
                moves::archive_unreadable(tx, queue, seq, State::Pending, &why).await?;
            }
        }
    }
    sql(
        "UPDATE tasks SET state = 'active', at = ?1, run = ?2 + j.key, pending_since = NULL, \
             waiting_for = NULL, claimed_by = ?4, claimed_at = ?5 FROM json_each(?3) j WHERE tasks.seq = j.value",
    )
    .bind(until)
    .bind(first)
    .bind(rows::to_json(&taken)?)
    .bind(by.map(str::to_owned))
    .bind(tx.now)
    .execute(&mut *tx.conn)
    .await?;
    let n = column(taken.len() as u64);
    let (from, to) = (Some(State::Pending), Some(State::Active));
    tx.tally.moved(queue.as_str(), from, to, n);
    Ok(())
}

/// What the columns after those of [`RECORD`] tell.
fn suspicion(row: &Row) -> Option<Suspicion> {
    let crashes: i64 = row.try_get(SUSPICION_FROM).ok()?;
    let ran: i64 = row.try_get(SUSPICION_FROM + 1).unwrap_or(0);
    (crashes > 0).then(|| Suspicion {
        crashes: u32::try_from(crashes).unwrap_or(u32::MAX),
        ran: Duration::from_millis(rows::count(ran)),
    })
}

/// The first of `n` numbers that no claim from the queue has had. A count that begins goes on from the time, above
/// those of a queue of this name that was removed.
async fn first_run(tx: &mut Tx<'_>, queue: &QueueName, n: i64) -> Result<i64, SqlError> {
    let row = sql(
        "INSERT INTO queues (name, claims) VALUES (?1, ?2 + ?3) ON CONFLICT (name) DO UPDATE \
         SET claims = CASE WHEN claims > 0 AND claims < 4000000000000000000 THEN claims ELSE ?3 END + ?2 \
         RETURNING claims - ?2 + 1",
    )
    .bind(queue.as_str().to_owned())
    .bind(n)
    .bind(tx.now)
    .fetch_one(&mut *tx.conn)
    .await?;
    row.try_get(0)
}

/// Moves due tasks to pending, or back to their groups.
pub(super) struct Forward {
    pub(super) queues: Vec<QueueName>,
    pub(super) limit: usize,
}

#[async_trait]
impl Write for Forward {
    type Output = Forwarded;
    const DOING: &'static str = "forward due tasks";

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<Self::Output, SqlError> {
        let mut done = Forwarded::default();
        for queue in &self.queues {
            for (state, due) in [
                (
                    State::Scheduled,
                    "SELECT seq, at, grouped FROM tasks WHERE queue = ? AND state = 'scheduled' ORDER BY at, seq LIMIT ?",
                ),
                (
                    State::Retry,
                    "SELECT seq, at, grouped FROM tasks WHERE queue = ? AND state = 'retry' ORDER BY at, seq LIMIT ?",
                ),
            ] {
                let found = sql(due)
                    .bind(queue.as_str().to_owned())
                    .bind(column(self.limit as u64).saturating_add(1))
                    .fetch_all(&mut *tx.conn)
                    .await?;
                let (mut ready, mut grouped) = (Vec::new(), Vec::new());
                for row in &found {
                    let (seq, at): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
                    if at > tx.now {
                        let at = instant(at);
                        done.next_due = Some(done.next_due.map_or(at, |next| next.min(at)));
                        break;
                    }
                    if ready.len() + grouped.len() == self.limit {
                        done.more = true;
                        break;
                    }
                    let list = if row.try_get(2)? { &mut grouped } else { &mut ready };
                    list.push(seq);
                }
                done.moved += ready.len() + grouped.len();
                moves::to_back(tx, queue, state, &ready).await?;
                moves::to_group(tx, queue, state, &grouped).await?;
            }
        }
        Ok(done)
    }
}

/// Puts waiting tasks back on their queues.
pub(super) struct ReleaseWaiting {
    pub(super) queues: Vec<QueueName>,
    /// First and last type of each range, both included.
    pub(super) ranges: Vec<(String, String)>,
    /// At most so many; the caller asks again when all of them were used up.
    pub(super) limit: usize,
}

/// The range of types that a handler's name stands for: one name, or all that begin like it.
pub(super) fn range(handler: &str) -> (String, String) {
    match handler.strip_suffix('*') {
        Some(prefix) => (prefix.to_owned(), format!("{prefix}{}", char::MAX)),
        None => (handler.to_owned(), handler.to_owned()),
    }
}

#[async_trait]
impl Write for ReleaseWaiting {
    type Output = usize;
    const DOING: &'static str = "release waiting tasks";

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<Self::Output, SqlError> {
        let mut released = 0;
        for queue in &self.queues {
            for (first, last) in &self.ranges {
                let found = sql("SELECT seq FROM tasks WHERE queue = ? AND waiting_for IS NOT NULL \
                     AND kind BETWEEN ? AND ? AND state = 'scheduled' LIMIT ?")
                .bind(queue.as_str().to_owned())
                .bind(first.clone())
                .bind(last.clone())
                .bind(column(self.limit.saturating_sub(released) as u64))
                .fetch_all(&mut *tx.conn)
                .await?;
                let mut seqs = found
                    .iter()
                    .map(|row| row.try_get::<i64>(0))
                    .collect::<Result<Vec<_>, _>>()?;
                seqs.sort_unstable();
                released += seqs.len();
                moves::to_back(tx, queue, State::Scheduled, &seqs).await?;
            }
        }
        Ok(released)
    }
}
