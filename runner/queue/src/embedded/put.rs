//! Writes new tasks: state and position, the uniqueness lock, one row or many at once.
//!
//! Used by producers and, within their own transactions, by the scheduler's commit and by receipts. Not here: the
//! operations of the seam, which are in `produce`.

use md5::{Digest, Md5};
use runner_core::task::{OnConflict, Run, Task, TaskId, TaskState, Unique, UniqueScope};
use rusqlite::params;
use uuid::{Builder, Uuid};

use super::connection::Statements as _;
use super::error::SqlError;
use super::rows::{column, count, instant, micros, span, to_json};
use super::writer::Tx;
use super::{gates, moves, rows};
use crate::{Enqueued, Refusal};

/// Rows inserted by one statement, largest first. One statement per row would cost a batch a third more time; with few
/// sizes all of them stay prepared.
const CHUNKS: [usize; 3] = [64, 8, 1];

const COLUMNS: &str = "queue, id, kind, payload, state, at, pending_since, max_retry, timeout_s, deadline_s, \
     retention_s, unique_key, group_name, grouped, headers";
const PLACES: &str = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

/// A task with everything decided except its position.
struct Placed<'a> {
    task: &'a Task,
    id: TaskId,
    state: TaskState,
    at: i64,
    lock: Option<String>,
}

impl Placed<'_> {
    fn accepted(&self, now: i64) -> Enqueued {
        Enqueued {
            id: self.id.clone(),
            queue: self.task.queue.clone(),
            state: self.state,
            run_at: match self.state {
                TaskState::Aggregating => None,
                TaskState::Scheduled => Some(instant(self.at)),
                _ => Some(instant(now)),
            },
        }
    }
}

/// Enqueues a batch.
pub(super) fn enqueue(tx: &mut Tx<'_>, tasks: &[Task]) -> Result<Vec<Result<Enqueued, Refusal>>, SqlError> {
    let mut answers = Vec::with_capacity(tasks.len());
    let mut plain = Vec::with_capacity(tasks.len());
    for task in tasks {
        if let Err(e) = task.check() {
            answers.push(Err(e.into()));
        } else if task.id.is_none() && task.unique.is_none() {
            // Nothing can make these fail: they are inserted together at the end.
            let placed = place(tx, task)?;
            answers.push(Ok(placed.accepted(tx.now)));
            plain.push(placed);
        } else {
            answers.push(enqueue_one(tx, task)?);
        }
    }
    insert(tx, &plain)?;
    Ok(answers)
}

/// Enqueues one checked task inside a transaction; a refused task leaves nothing behind.
pub(super) fn enqueue_one(tx: &mut Tx<'_>, task: &Task) -> Result<Result<Enqueued, Refusal>, SqlError> {
    if let Some(unique) = &task.unique {
        let key = lock_key(task);
        if let Some(holder) = holder(tx, task.queue.as_str(), &key)?
            && let Some(answer) = conflict(tx, task, unique, &holder)?
        {
            return Ok(answer);
        }
    }
    if let Some(id) = &task.id
        && exists(tx, task.queue.as_str(), id)?
    {
        return Ok(Err(Refusal::IdTaken));
    }
    let placed = place(tx, task)?;
    write_placed(tx, placed)
}

/// Takes the lock of a task and inserts it.
fn write_placed(tx: &Tx<'_>, placed: Placed<'_>) -> Result<Result<Enqueued, Refusal>, SqlError> {
    if placed.lock.is_some() {
        take_lock(tx, placed.task, &placed.id, placed.state, placed.at)?;
    }
    // At once, not with the plain ones: a later task of this batch may have the same id or lock.
    let accepted = placed.accepted(tx.now);
    insert(tx, &[placed])?;
    Ok(Ok(accepted))
}

fn take_lock(tx: &Tx<'_>, task: &Task, id: &TaskId, state: TaskState, at: i64) -> Result<(), SqlError> {
    let Some(unique) = &task.unique else { return Ok(()) };
    let from = if state == TaskState::Scheduled { at } else { tx.now };
    tx.conn.exec(
        "INSERT OR REPLACE INTO locks (queue, key, task_id, expires_at) VALUES (?, ?, ?, ?)",
        params![
            task.queue.as_str(),
            lock_key(task),
            id.as_str(),
            from.saturating_add(span(unique.ttl))
        ],
    )?;
    Ok(())
}

/// The name of a task's lock, in asynq's form: type and MD5 of the payload, nothing for "no payload"; or of a key.
pub(super) fn lock_key(task: &Task) -> String {
    let (bytes, mark) = task.lock_content();
    let digest = bytes.as_deref().map(Md5::digest).unwrap_or_default();
    let hash: String = match bytes {
        Some(_) => digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        None => String::new(),
    };
    format!("unique:{}:{hash}{mark}", task.kind)
}

/// The task that holds a lock. One that cannot be read holds it nevertheless; no task has an empty id.
fn holder(tx: &Tx<'_>, queue: &str, key: &str) -> Result<Option<String>, SqlError> {
    tx.conn.first(
        "SELECT task_id FROM locks WHERE queue = ? AND key = ? AND expires_at > ?",
        params![queue, key, tx.now],
        |row| Ok(row.get(0).unwrap_or_default()),
    )
}

/// What happens to a task whose lock is held; `None` if the lock does not count.
fn conflict(
    tx: &mut Tx<'_>,
    task: &Task,
    unique: &Unique,
    holder: &str,
) -> Result<Option<Result<Enqueued, Refusal>>, SqlError> {
    let found = tx.conn.first(
        "SELECT seq, state FROM tasks WHERE queue = ? AND id = ? AND staged IS NULL",
        [task.queue.as_str(), holder],
        // A state that cannot be read is none in which a task waits.
        |row| Ok(rows::state(row, 1).ok().zip(row.get::<_, i64>(0).ok())),
    )?;
    let waiting = found.flatten().map(|(state, seq)| (seq, state)).filter(|(_, state)| {
        matches!(
            state,
            TaskState::Pending | TaskState::Scheduled | TaskState::Retry | TaskState::Aggregating
        )
    });
    // A task in a group has no time that could change.
    let reschedules = waiting.filter(|(_, state)| *state != TaskState::Aggregating);
    let id = TaskId::new(holder).map_err(|e| SqlError::Encode(Box::new(e)));
    match (unique.on_conflict, waiting, reschedules) {
        (OnConflict::Replace, Some((seq, state)), _) => {
            moves::delete(tx, &task.queue, state, &[seq])?;
            if gates::any(tx)? {
                // Another payload may have another key, so it keeps no place in an order.
                gates::leave(tx, [(&task.queue, holder, false)])?;
            }
            let placed = Placed {
                id: id?,
                ..place(tx, task)?
            };
            write_placed(tx, placed).map(Some)
        }
        (OnConflict::Reschedule, _, Some((seq, state))) => reschedule(tx, task, id?, (seq, state)).map(Ok).map(Some),
        (_, None, _) if unique.scope == UniqueScope::Pending => Ok(None),
        _ => Ok(Some(Err(Refusal::Duplicate))),
    }
}

/// Gives a task that waits the time of another one.
fn reschedule(tx: &mut Tx<'_>, task: &Task, id: TaskId, (seq, from): (i64, TaskState)) -> Result<Enqueued, SqlError> {
    let queue = &task.queue;
    if gates::any(tx)? {
        gates::leave(tx, [(queue, id.as_str(), true)])?;
    }
    let (state, at) = match due(tx, task.run) {
        Some(at) => {
            tx.conn.exec(
                "UPDATE tasks SET state = 'scheduled', at = ?, waiting_for = NULL WHERE seq = ?",
                params![at, seq],
            )?;
            tx.tally
                .moved(queue.as_str(), Some(from), Some(TaskState::Scheduled), 1);
            (TaskState::Scheduled, at)
        }
        None => {
            moves::to_back(tx, queue, from, &[seq])?;
            (TaskState::Pending, tx.now)
        }
    };
    take_lock(tx, task, &id, state, at)?;
    Ok(Enqueued {
        id,
        queue: queue.clone(),
        state,
        run_at: Some(instant(at)),
    })
}

/// When a task is due, if that is later than now.
fn due(tx: &Tx<'_>, run: Run) -> Option<i64> {
    let at = match run {
        Run::Now => return None,
        Run::At(instant) => micros(instant),
        Run::In(delay) => tx.now.saturating_add(span(delay)),
    };
    (at > tx.now).then_some(at)
}

fn exists(tx: &Tx<'_>, queue: &str, id: &TaskId) -> Result<bool, SqlError> {
    tx.conn.value(
        "SELECT EXISTS (SELECT 1 FROM tasks WHERE queue = ? AND id = ?)",
        [queue, id.as_str()],
    )
}

/// A unique id that sorts by time: tasks enqueued together are neighbours in the index of ids, so a batch changes a few of
/// its pages instead of one per task.
fn new_id(now: i64) -> Result<TaskId, SqlError> {
    let millis = count(now).div_euclid(1_000);
    let mut random = [0; 10];
    random.copy_from_slice(&Uuid::new_v4().as_bytes()[6..]);
    // The version and variant bits of a random UUID are where this one has its own.
    let id = Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
    TaskId::new(id.to_string()).map_err(|e| SqlError::Encode(Box::new(e)))
}

/// Decides state and position, and adds the task to the sums.
fn place<'a>(tx: &mut Tx<'_>, task: &'a Task) -> Result<Placed<'a>, SqlError> {
    let later = due(tx, task.run);
    let queue = task.queue.as_str();
    let (state, at) = match (later, &task.group) {
        (Some(at), _) => (TaskState::Scheduled, at),
        (None, Some(_)) => (TaskState::Aggregating, tx.now),
        (None, None) => (TaskState::Pending, tx.tally.back(tx.conn, queue, 1)?),
    };
    tx.tally.moved(queue, None, Some(state), 1);
    Ok(Placed {
        task,
        id: task.id.clone().map_or_else(|| new_id(tx.now), Ok)?,
        state,
        at,
        lock: task.unique.as_ref().map(|_| lock_key(task)),
    })
}

fn insert(tx: &Tx<'_>, placed: &[Placed<'_>]) -> Result<(), SqlError> {
    let mut rest = placed;
    for size in CHUNKS {
        while rest.len() >= size {
            let (chunk, after) = rest.split_at(size);
            insert_chunk(tx, chunk)?;
            rest = after;
        }
    }
    Ok(())
}

fn insert_chunk(tx: &Tx<'_>, chunk: &[Placed<'_>]) -> Result<(), SqlError> {
    let places = vec![PLACES; chunk.len()].join(", ");
    let text = format!("INSERT INTO tasks ({COLUMNS}) VALUES {places}");
    let mut statement = tx.conn.prepare_cached(&text)?;
    let mut place = 0;
    for row in chunk {
        let task = row.task;
        let (timeout, deadline) = task.stored_limits();
        let headers = match task.headers.is_empty() {
            true => None,
            false => Some(to_json(&task.headers)?),
        };
        for value in params![
            task.queue.as_str(),
            row.id.as_str(),
            task.kind,
            task.payload.as_deref().unwrap_or_default(),
            row.state.as_str(),
            row.at,
            (row.state == TaskState::Pending).then_some(tx.now),
            task.max_retry,
            column(timeout),
            deadline,
            column(task.retention.as_secs()),
            row.lock,
            task.group,
            row.state == TaskState::Aggregating,
            headers,
        ] {
            place += 1;
            statement.raw_bind_parameter(place, value)?;
        }
    }
    statement.raw_execute()?;
    Ok(())
}
