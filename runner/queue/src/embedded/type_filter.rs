//! Which types this broker claims, and where in each queue tasks of other types lie that it skips.
//!
//! Skipped tasks keep their place at the head of their queue, for a process that knows them. How far they reach is
//! remembered from claim to claim, so that a claim does not look at all of them again. Whether the last of them is still
//! where it was is checked each time; a task that is handed back to the head has a place before the first one.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use runner_core::task::QueueName;
use rusqlite::{Connection, Row, params};

use super::connection::Statements as _;
use super::error::SqlError;
use super::rows::column;
use crate::KnownTypes;

/// Rows that a claim looks at in a queue in which some were skipped: about a millisecond.
const LOOKS: usize = 1_000;

/// The least that is looked at in one statement.
const FEW: usize = 64;

/// The tasks of unknown types at the head of a queue.
#[derive(Debug, Clone)]
struct Stretch {
    /// The place of the first one.
    first: i64,
    /// The last one: its place, its row, and when it became pending.
    last: i64,
    row: i64,
    since: Option<i64>,
}

#[derive(Default)]
struct Memory {
    types: KnownTypes,
    stretches: HashMap<QueueName, Stretch>,
}

/// The known types, and what is remembered of all queues. The lock is never held while a statement runs: what a claim
/// found out is written back only if the types are the same as when it began.
#[derive(Default)]
pub(super) struct ClaimFilter(Mutex<Memory>);

/// A row as far as a look needs it.
struct Candidate {
    seq: i64,
    place: i64,
    since: Option<i64>,
    known: bool,
}

impl ClaimFilter {
    /// Claims are for these types from now on. Returns the queues in which some were skipped: they may be claimable now.
    pub(super) fn set_types(&self, types: &KnownTypes) -> Vec<String> {
        let mut memory = self.lock();
        if memory.types == *types {
            return Vec::new();
        }
        memory.types = types.clone();
        memory.stretches.drain().map(|(queue, _)| queue.to_string()).collect()
    }

    pub(super) fn types(&self) -> KnownTypes {
        self.lock().types.clone()
    }

    /// Whether some at the head of this queue were skipped by earlier claims.
    pub(super) fn skips_some(&self, queue: &QueueName) -> bool {
        self.lock().stretches.contains_key(queue)
    }

    fn stretch(&self, queue: &QueueName) -> Option<Stretch> {
        self.lock().stretches.get(queue).cloned()
    }

    fn remember(&self, types: &KnownTypes, queue: &QueueName, stretch: Option<Stretch>) {
        let mut memory = self.lock();
        // Other types may have become known meanwhile.
        if memory.types != *types {
            return;
        }
        match stretch {
            Some(stretch) => memory.stretches.insert(queue.clone(), stretch),
            None => memory.stretches.remove(queue),
        };
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rows of the first tasks of known types, in order. Looks at a bounded number of others.
    pub(super) fn pick(
        &self,
        conn: &Connection,
        types: &KnownTypes,
        queue: &QueueName,
        most: usize,
    ) -> Result<Vec<i64>, SqlError> {
        let mut stretch = match self.stretch(queue) {
            Some(stretch) if is_intact(conn, queue, &stretch)? => Some(stretch),
            _ => None,
        };
        let mut picked = Vec::new();
        // First what was handed back to the head, before all that earlier claims skipped.
        if let Some(known) = &stretch {
            let mut moved = known.clone();
            let handed_back = look(conn, types, queue, Part::Before(known.first), LOOKS)?;
            let many = handed_back.len() == LOOKS;
            for task in handed_back {
                match task.known {
                    true => picked.push(task.seq),
                    false => moved.first = moved.first.min(task.place),
                }
            }
            if picked.len() >= most {
                // What is left of them is looked at by the next claim.
                picked.truncate(most);
                return Ok(picked);
            }
            stretch = (!many).then_some(moved);
        }
        // Then what lies behind the skipped ones; all of it if nothing is known of them.
        let mut part = stretch.as_ref().map_or(Part::All, |s| Part::After(s.last, s.row));
        let mut left = LOOKS;
        while picked.len() < most && left > 0 {
            let count = (2 * (most - picked.len())).max(FEW).min(left);
            let found = look(conn, types, queue, part, count)?;
            let end = found.len() < count;
            left -= found.len();
            part = found.last().map_or(part, |last| Part::After(last.place, last.seq));
            for task in found {
                // What follows the last one that is taken was not looked at, as far as later claims know.
                if picked.len() == most {
                    break;
                }
                if task.known {
                    picked.push(task.seq);
                    continue;
                }
                stretch = Some(Stretch {
                    first: stretch.map_or(task.place, |s| s.first),
                    last: task.place,
                    row: task.seq,
                    since: task.since,
                });
            }
            if end {
                break;
            }
        }
        self.remember(types, queue, stretch);
        Ok(picked)
    }

    /// Whether a queue has a pending task that may be claimed, as far as is known.
    pub(super) fn is_claimable(&self, conn: &Connection, queue: &QueueName) -> Result<bool, SqlError> {
        match self.stretch(queue) {
            Some(stretch) if is_intact(conn, queue, &stretch)? => conn.value(
                "SELECT EXISTS (SELECT 1 FROM tasks WHERE queue = ?1 AND state = 'pending' AND at < ?2) \
                     OR EXISTS (SELECT 1 FROM tasks WHERE queue = ?1 AND state = 'pending' AND (at, seq) > (?3, ?4))",
                params![queue.as_str(), stretch.first, stretch.last, stretch.row],
            ),
            _ => conn.value(
                "SELECT EXISTS (SELECT 1 FROM tasks WHERE queue = ? AND state = 'pending')",
                [queue.as_str()],
            ),
        }
    }
}

/// Which pending tasks of a queue to look at.
#[derive(Clone, Copy)]
enum Part {
    All,
    Before(i64),
    After(i64, i64),
}

/// The first of them, in order.
fn look(
    conn: &Connection,
    types: &KnownTypes,
    queue: &QueueName,
    part: Part,
    most: usize,
) -> Result<Vec<Candidate>, SqlError> {
    let (queue, most) = (queue.as_str(), column(most as u64));
    let read = |row: &Row<'_>| {
        Ok(Candidate {
            seq: row.get(0)?,
            place: row.get(1)?,
            since: row.get(2)?,
            // A type that cannot be read counts as known: a claim archives such a task.
            known: row.get_ref(3)?.as_str().map_or(true, |kind| types.has(kind)),
        })
    };
    match part {
        Part::All => conn.all(
            "SELECT seq, at, pending_since, kind FROM tasks WHERE queue = ?1 AND state = 'pending' \
             ORDER BY at, seq LIMIT ?2",
            params![queue, most],
            read,
        ),
        Part::Before(place) => conn.all(
            "SELECT seq, at, pending_since, kind FROM tasks WHERE queue = ?1 AND state = 'pending' AND at < ?3 \
             ORDER BY at, seq LIMIT ?2",
            params![queue, most, place],
            read,
        ),
        Part::After(place, row) => conn.all(
            "SELECT seq, at, pending_since, kind FROM tasks WHERE queue = ?1 AND state = 'pending' \
             AND (at, seq) > (?3, ?4) ORDER BY at, seq LIMIT ?2",
            params![queue, most, place, row],
            read,
        ),
    }
}

/// Whether the last task of the stretch has not been taken since.
fn is_intact(conn: &Connection, queue: &QueueName, stretch: &Stretch) -> Result<bool, SqlError> {
    conn.value(
        "SELECT EXISTS (SELECT 1 FROM tasks WHERE seq = ? AND queue = ? AND state = 'pending' AND at = ? \
         AND pending_since IS ?)",
        params![stretch.row, queue.as_str(), stretch.last, stretch.since],
    )
}
