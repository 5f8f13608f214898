//! Workflows: a row each, and one for each step. Those that are over for longer than they are kept are deleted when another
//! one is stored.

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, Row, params};

use super::EmbeddedBroker;
use super::connection::Statements as _;
use super::error::SqlError;
use super::rows::{column, instant, span, to_json};
use super::writer::Tx;
use crate::{
    BrokerResult, MAX_RESULTS_KEPT, NewWorkflow, StepEnd, WORKFLOWS_KEPT_FOR, WorkflowHead, WorkflowPlace,
    WorkflowState, WorkflowStepView, Workflows, kept_result, stored_error,
};

const READ: &str = "read workflows";

/// Old ones that are deleted with one call.
const PRUNED: i64 = 10;

const HEAD: &str = "id, plan, state, sent, epoch, called, done, failed, error, created_at, changed_at";

fn keep(tx: &Tx<'_>, new: &NewWorkflow) -> Result<bool, SqlError> {
    prune(tx, &new.id)?;
    let kept = tx.conn.exec(
        "INSERT INTO workflows (id, plan, state, created_at, changed_at) VALUES (?1, ?2, 'running', ?3, ?3) \
         ON CONFLICT (id) DO NOTHING",
        params![new.id, to_json(&new.stored_plan())?, tx.now],
    )?;
    if kept == 0 {
        return Ok(false);
    }
    for (number, (step, payload)) in new.steps.iter().enumerate() {
        tx.conn.exec(
            "INSERT OR REPLACE INTO workflow_steps (workflow, number, step, payload) VALUES (?, ?, ?, ?)",
            params![new.id, column(number as u64), to_json(step)?, &payload[..]],
        )?;
    }
    Ok(true)
}

/// Deletes some old workflows, and the one that has the id which is needed if it is old.
fn prune(tx: &Tx<'_>, needed: &str) -> Result<(), SqlError> {
    const OLD: &str = "SELECT id FROM workflows WHERE changed_at < ?1 AND state IN ('done', 'failed', 'cancelled')";
    let before = tx.now.saturating_sub(span(WORKFLOWS_KEPT_FOR));
    let own: Vec<String> = tx.conn.values(&format!("{OLD} AND id = ?2"), params![before, needed])?;
    let oldest = format!("{OLD} ORDER BY changed_at LIMIT ?2");
    let old: Vec<String> = tx.conn.values(&oldest, params![before, PRUNED])?;
    for id in own.into_iter().chain(old) {
        tx.conn.exec("DELETE FROM workflow_steps WHERE workflow = ?", [&id])?;
        tx.conn.exec("DELETE FROM workflows WHERE id = ?", [&id])?;
    }
    Ok(())
}

fn read(conn: &Connection, id: &str) -> Result<Option<WorkflowHead>, SqlError> {
    let found = conn.first(&format!("SELECT {HEAD} FROM workflows WHERE id = ?"), [id], head_of)?;
    Ok(found.flatten())
}

/// Nothing for a row that cannot be read.
fn head_of(row: &Row<'_>) -> Result<Option<WorkflowHead>, SqlError> {
    let text = |place: usize| row.get::<_, String>(place).unwrap_or_default();
    let number = |place: usize| u32::try_from(row.get::<_, i64>(place).unwrap_or_default()).unwrap_or_default();
    let Ok(plan) = serde_json::from_str(&text(1)) else {
        return Ok(None);
    };
    let Some(state) = WorkflowState::parse(&text(2)) else {
        return Ok(None);
    };
    Ok(Some(WorkflowHead {
        id: text(0),
        plan,
        place: WorkflowPlace {
            state,
            sent: number(3),
            epoch: number(4),
            called: number(5),
        },
        done: number(6),
        failed: number(7),
        error: text(8),
        created_at: instant(row.get(9).unwrap_or_default()),
        changed_at: instant(row.get(10).unwrap_or_default()),
    }))
}

fn end(tx: &Tx<'_>, id: &str, epoch: u32, ends: &[(u32, StepEnd)]) -> Result<Option<WorkflowHead>, SqlError> {
    let Some(mut head) = read(tx.conn, id)? else {
        return Ok(None);
    };
    let counts = head.place.epoch == epoch;
    let mut kept = kept_bytes(tx, id)?;
    // Of a plan of an earlier version all may be taken, and all are kept.
    let room = if head.plan.taken.is_some() {
        MAX_RESULTS_KEPT
    } else {
        u64::MAX
    };
    for (number, end) in ends {
        if !counts && matches!(end, StepEnd::Failed(_)) {
            continue;
        }
        let (word, said, from) = match end {
            StepEnd::Done(result) => ("done", kept_result(Some(result.clone())), "failed"),
            StepEnd::Failed(error) => ("failed", Bytes::copy_from_slice(stored_error(error).as_bytes()), ""),
        };
        let before: Option<Option<String>> = tx.conn.first(
            "SELECT ended FROM workflow_steps WHERE workflow = ? AND number = ?",
            params![id, number],
            |row| Ok(row.get(0).unwrap_or_default()),
        )?;
        // No such step, or an end that counts already.
        if before
            .as_ref()
            .is_none_or(|ended| ended.as_deref().is_some_and(|ended| ended != from))
        {
            continue;
        }
        let size = match end {
            StepEnd::Done(_) => said.len() as u64,
            StepEnd::Failed(_) => 0,
        };
        // No text at all says that the result was left out.
        let fits = size == 0 || kept.saturating_add(size) <= room;
        kept += if fits { size } else { 0 };
        tx.conn.exec(
            "UPDATE workflow_steps SET ended = ?, said = ? WHERE workflow = ? AND number = ?",
            params![word, fits.then_some(&said[..]), id, number],
        )?;
        match end {
            StepEnd::Done(_) => {
                head.done = head.done.saturating_add(1);
                head.failed -= u32::from(before.flatten().is_some() && head.failed > 0);
            }
            StepEnd::Failed(error) => {
                head.failed = head.failed.saturating_add(1);
                head.error = stored_error(error).to_owned();
            }
        }
    }
    if head.place.state == WorkflowState::Running && head.failed > 0 {
        head.place.state = WorkflowState::Failed;
    } else if head.place.state == WorkflowState::Failed && head.failed == 0 {
        head.place.state = WorkflowState::Running;
        head.place.epoch = head.place.epoch.saturating_add(1);
    }
    keep_bytes(tx, id, kept)?;
    write(tx, head).map(Some)
}

/// How many bytes of results are kept of a workflow.
fn kept_bytes(tx: &Tx<'_>, id: &str) -> Result<u64, SqlError> {
    let found = tx.conn.first("SELECT kept FROM workflows WHERE id = ?", [id], |row| {
        Ok(row.get::<_, i64>(0).unwrap_or_default())
    })?;
    Ok(u64::try_from(found.unwrap_or_default()).unwrap_or_default())
}

fn keep_bytes(tx: &Tx<'_>, id: &str, kept: u64) -> Result<(), SqlError> {
    let change = "UPDATE workflows SET kept = ? WHERE id = ?";
    tx.conn.exec(change, params![column(kept), id]).map(drop)
}

fn forget(tx: &Tx<'_>, id: &str, from: u32, most: u32) -> Result<(), SqlError> {
    const RESULTS: &str = "workflow = ?1 AND number >= ?2 AND number < ?2 + ?3 AND ended = 'done' AND said <> x''";
    let sum = format!("SELECT sum(length(said)) FROM workflow_steps WHERE {RESULTS}");
    let bytes = tx.conn.first(&sum, params![id, from, most], |row| {
        Ok(row.get::<_, Option<i64>>(0).unwrap_or_default())
    })?;
    let Some(bytes) = bytes.flatten() else { return Ok(()) };
    let forget = format!("UPDATE workflow_steps SET said = x'' WHERE {RESULTS}");
    tx.conn.exec(&forget, params![id, from, most])?;
    let kept = kept_bytes(tx, id)?;
    keep_bytes(tx, id, kept.saturating_sub(u64::try_from(bytes).unwrap_or_default()))
}

fn reopen(tx: &Tx<'_>, id: &str, failed: &[u32]) -> Result<Option<WorkflowHead>, SqlError> {
    let Some(mut head) = read(tx.conn, id)? else {
        return Ok(None);
    };
    if head.place.state != WorkflowState::Failed {
        return Ok(Some(head));
    }
    for number in failed {
        let forgotten = tx.conn.exec(
            "UPDATE workflow_steps SET ended = NULL, said = NULL WHERE workflow = ? AND number = ? AND ended = 'failed'",
            params![id, number],
        )?;
        head.failed = head.failed.saturating_sub(u32::try_from(forgotten).unwrap_or(0));
    }
    if head.failed == 0 {
        head.place.state = WorkflowState::Running;
    }
    head.place.epoch = head.place.epoch.saturating_add(1);
    write(tx, head).map(Some)
}

fn write(tx: &Tx<'_>, mut head: WorkflowHead) -> Result<WorkflowHead, SqlError> {
    let place = head.place;
    tx.conn.exec(
        "UPDATE workflows SET state = ?, epoch = ?, done = ?, failed = ?, error = ?, changed_at = ? WHERE id = ?",
        params![
            place.state.as_str(),
            place.epoch,
            head.done,
            head.failed,
            head.error,
            tx.now,
            head.id
        ],
    )?;
    head.changed_at = instant(tx.now);
    Ok(head)
}

fn move_to(tx: &Tx<'_>, id: &str, from: WorkflowPlace, to: WorkflowPlace) -> Result<bool, SqlError> {
    let moved = tx.conn.exec(
        "UPDATE workflows SET state = ?, sent = ?, epoch = ?, called = ?, changed_at = ? \
         WHERE id = ? AND state = ? AND sent = ? AND epoch = ? AND called = ?",
        params![
            to.state.as_str(),
            to.sent,
            to.epoch,
            to.called,
            tx.now,
            id,
            from.state.as_str(),
            from.sent,
            from.epoch,
            from.called
        ],
    )?;
    Ok(moved > 0)
}

fn view_of(row: &Row<'_>) -> Result<Option<WorkflowStepView>, SqlError> {
    let Ok(step) = serde_json::from_str(&row.get::<_, String>(1).unwrap_or_default()) else {
        return Ok(None);
    };
    let said: Option<Vec<u8>> = row.get(3).unwrap_or_default();
    let ended: Option<String> = row.get(2).unwrap_or_default();
    let left_out = said.is_none() && ended.as_deref() == Some("done");
    let said = said.unwrap_or_default();
    Ok(Some(WorkflowStepView {
        number: u32::try_from(row.get::<_, i64>(0).unwrap_or_default()).unwrap_or_default(),
        step,
        left_out,
        end: ended.and_then(|word| match word.as_str() {
            "done" => Some(StepEnd::Done(said.into())),
            "failed" => Some(StepEnd::Failed(String::from_utf8_lossy(&said).into_owned())),
            _ => None,
        }),
    }))
}

#[async_trait]
impl Workflows for EmbeddedBroker {
    async fn keep_workflow(&self, new: &NewWorkflow) -> BrokerResult<bool> {
        let new = new.clone();
        let change = move |tx: &mut Tx<'_>| keep(tx, &new);
        self.writer.write("keep a workflow", change).await
    }

    async fn workflow(&self, id: &str) -> BrokerResult<Option<WorkflowHead>> {
        let id = id.to_owned();
        self.readers.query(READ, move |conn: &Connection| read(conn, &id)).await
    }

    async fn workflow_ids(&self, open: bool, skip: usize, most: usize) -> BrokerResult<Vec<String>> {
        let only = if open {
            "WHERE state NOT IN ('done', 'cancelled')"
        } else {
            ""
        };
        let text = format!("SELECT id FROM workflows {only} ORDER BY created_at DESC, id LIMIT ? OFFSET ?");
        let (most, skip) = (column(most as u64), column(skip as u64));
        let read = move |conn: &Connection| conn.all(&text, [most, skip], |row| Ok(row.get(0).unwrap_or_default()));
        self.readers.query(READ, read).await
    }

    async fn workflow_count(&self) -> BrokerResult<u64> {
        let count = |conn: &Connection| {
            let found = conn.first("SELECT count(*) FROM workflows", [], |row| Ok(row.get::<_, i64>(0)?))?;
            Ok(u64::try_from(found.unwrap_or_default()).unwrap_or_default())
        };
        self.readers.query(READ, count).await
    }

    async fn workflow_states(&self, most: usize) -> BrokerResult<Vec<WorkflowState>> {
        let most = column(most as u64);
        let read = move |conn: &Connection| {
            conn.all(
                "SELECT state FROM workflows WHERE state NOT IN ('done', 'cancelled') ORDER BY created_at DESC LIMIT ?",
                [most],
                |row| Ok(WorkflowState::parse(&row.get::<_, String>(0).unwrap_or_default())),
            )
        };
        let states: Vec<Option<WorkflowState>> = self.readers.query(READ, read).await?;
        Ok(states.into_iter().flatten().collect())
    }

    async fn workflow_steps(&self, id: &str, from: u32, most: u32) -> BrokerResult<Vec<WorkflowStepView>> {
        let id = id.to_owned();
        let read = move |conn: &Connection| {
            conn.all(
                "SELECT number, step, ended, said FROM workflow_steps WHERE workflow = ?1 AND number >= ?2 \
                 AND number < ?2 + ?3 ORDER BY number",
                params![id, from, most],
                view_of,
            )
        };
        let found: Vec<Option<WorkflowStepView>> = self.readers.query(READ, read).await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn workflow_payloads(&self, id: &str, from: u32, most: u32) -> BrokerResult<Vec<Bytes>> {
        let id = id.to_owned();
        let read =
            move |conn: &Connection| {
                conn.all(
                "SELECT number, payload FROM workflow_steps WHERE workflow = ?1 AND number >= ?2 AND number < ?2 + ?3 \
                 ORDER BY number",
                params![id, from, most],
                |row| Ok((row.get::<_, i64>(0).unwrap_or_default(), row.get::<_, Vec<u8>>(1).unwrap_or_default())),
            )
            };
        let found: Vec<(i64, Vec<u8>)> = self.readers.query(READ, read).await?;
        let mut payloads = Vec::new();
        for (number, payload) in found {
            // One that is missing does not shift the others.
            payloads.resize(
                usize::try_from(number - i64::from(from)).unwrap_or_default(),
                Bytes::new(),
            );
            payloads.push(payload.into());
        }
        Ok(payloads)
    }

    async fn end_steps(&self, id: &str, epoch: u32, ends: &[(u32, StepEnd)]) -> BrokerResult<Option<WorkflowHead>> {
        let (id, ends) = (id.to_owned(), ends.to_vec());
        let change = move |tx: &mut Tx<'_>| end(tx, &id, epoch, &ends);
        self.writer.write("end steps of a workflow", change).await
    }

    async fn forget_results(&self, id: &str, from: u32, most: u32) -> BrokerResult<()> {
        let id = id.to_owned();
        let change = move |tx: &mut Tx<'_>| forget(tx, &id, from, most);
        self.writer.write("forget results of a workflow", change).await
    }

    async fn reopen_workflow(&self, id: &str, failed: &[u32]) -> BrokerResult<Option<WorkflowHead>> {
        let (id, failed) = (id.to_owned(), failed.to_vec());
        let change = move |tx: &mut Tx<'_>| reopen(tx, &id, &failed);
        self.writer.write("run steps of a workflow again", change).await
    }

    async fn move_workflow(&self, id: &str, from: WorkflowPlace, to: WorkflowPlace) -> BrokerResult<bool> {
        let id = id.to_owned();
        let change = move |tx: &mut Tx<'_>| move_to(tx, &id, from, to);
        self.writer.write("move a workflow", change).await
    }
}
