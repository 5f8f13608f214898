//! Which types this broker claims, and where in each queue the tasks of other types are that it skips.
//!
//! Skipped tasks keep their place at the head of their queue, for a process that knows their types. The extent of the
//! skipped stretch is remembered between claims, so that a claim need not read it again. Each claim verifies that the last
//! task of the stretch is still in place; a task that is handed back to the head gets a place before the first one.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use runner_core::task::QueueName;
use rusqlite::{Connection, Row, params};

use super::connection::Statements as _;
use super::error::SqlError;
use super::rows::column;
use crate::KnownTypes;

/// Rows that a claim reads in a queue with skipped tasks: about a millisecond.
const LOOKS: usize = 1_000;

/// The minimum number of rows read by one statement.
const FEW: usize = 64;

/// A stretch of tasks of unknown types at the head of a queue.
#[derive(Debug, Clone)]
struct Stretch {
    /// Place of the first one.
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

/// The known types, and the stretches of all queues. The lock is never held while a statement runs: a claim stores what it
/// found only if the types are still the same as when it began.
#[derive(Default)]
pub(super) struct ClaimFilter(Mutex<Memory>);

/// The columns of a row that a look needs.
struct Candidate {
    seq: i64,
    place: i64,
    since: Option<i64>,
    known: bool,
}

impl ClaimFilter {
    /// Sets the types to claim. Returns the queues with skipped tasks, which may be claimable now.
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

    /// Whether earlier claims skipped tasks at the head of this queue.
    pub(super) fn skips_some(&self, queue: &QueueName) -> bool {
        self.lock().stretches.contains_key(queue)
    }

    fn stretch(&self, queue: &QueueName) -> Option<Stretch> {
        self.lock().stretches.get(queue).cloned()
    }

    fn remember(&self, types: &KnownTypes, queue: &QueueName, stretch: Option<Stretch>) {
        let mut memory = self.lock();
        // With other types by now, the stretch may contain tasks that are known.
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

    /// The rows of the first tasks of known types, in order. Reads a bounded number of others.
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
        // First the tasks handed back to the head, before all that earlier claims skipped.
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
                // The stretch is unchanged: the next claim looks here again and finds the rest.
                picked.truncate(most);
                return Ok(picked);
            }
            // With more tasks handed back than one look reads, the stretch has a gap in front: forget it.
            stretch = (!many).then_some(moved);
        }
        // Then the tasks behind the stretch; all of them without a stretch.
        let mut part = stretch.as_ref().map_or(Part::All, |s| Part::After(s.last, s.row));
        let mut left = LOOKS;
        while picked.len() < most && left > 0 {
            let count = (2 * (most - picked.len())).max(FEW).min(left);
            let found = look(conn, types, queue, part, count)?;
            let end = found.len() < count;
            left -= found.len();
            part = found.last().map_or(part, |last| Part::After(last.place, last.seq));
            for task in found {
                // The stretch must end before the first task that is left behind, or later claims would skip it.
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

    /// Whether a queue has a pending task that may be claimed, judging by its stretch.
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

/// The first of these tasks, in order.
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
            // An unreadable type counts as known, so that a claim archives the task.
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

/// Whether the last task of the stretch is still in place. `pending_since` catches one that left and came back.
fn is_intact(conn: &Connection, queue: &QueueName, stretch: &Stretch) -> Result<bool, SqlError> {
    conn.value(
        "SELECT EXISTS (SELECT 1 FROM tasks WHERE seq = ? AND queue = ? AND state = 'pending' AND at = ? \
         AND pending_since IS ?)",
        params![stretch.row, queue.as_str(), stretch.last, stretch.since],
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn types(names: &[&str]) -> KnownTypes {
        let none: [&str; 0] = [];
        KnownTypes::new(names.iter().copied(), none)
    }

    fn stretch() -> Option<Stretch> {
        Some(Stretch {
            first: 1,
            last: 5,
            row: 9,
            since: None,
        })
    }

    #[test]
    fn new_types_forget_what_was_skipped_and_the_same_ones_do_not() {
        let (filter, queue) = (ClaimFilter::default(), QueueName::new("low").unwrap());
        assert!(filter.set_types(&types(&["a"])).is_empty(), "nothing was skipped yet");
        filter.remember(&types(&["a"]), &queue, stretch());
        assert!(filter.skips_some(&queue));
        assert!(filter.set_types(&types(&["a"])).is_empty());
        assert!(filter.skips_some(&queue));
        assert_eq!(
            filter.set_types(&types(&["a", "b"])),
            ["low"],
            "its tasks may be known by now"
        );
        assert!(!filter.skips_some(&queue));
    }

    #[test]
    fn what_a_claim_found_under_older_types_is_not_remembered() {
        let (filter, queue) = (ClaimFilter::default(), QueueName::default());
        filter.set_types(&types(&["b"]));
        filter.remember(&types(&["a"]), &queue, stretch());
        assert!(!filter.skips_some(&queue));
        filter.remember(&types(&["b"]), &queue, stretch());
        assert!(filter.skips_some(&queue));
        filter.remember(&types(&["b"]), &queue, None);
        assert!(!filter.skips_some(&queue));
    }
}
