//! Makes tasks pending again: those that are due, and those that waited for a handler.

use std::collections::HashSet;

use runner_core::task::{QueueName, TaskState, TypePattern};
use rusqlite::params;

use super::connection::Statements as _;
use super::error::SqlError;
use super::rows::{column, instant};
use super::writer::Tx;
use super::{gates, moves};
use crate::Forwarded;

/// The lists of tasks that become due, each with the statement that reads its head.
const DELAYED: [(TaskState, &str); 2] = [
    (
        TaskState::Scheduled,
        "SELECT seq, at, grouped FROM tasks WHERE queue = ? AND state = 'scheduled' ORDER BY at, seq LIMIT ?",
    ),
    (
        TaskState::Retry,
        "SELECT seq, at, grouped FROM tasks WHERE queue = ? AND state = 'retry' ORDER BY at, seq LIMIT ?",
    ),
];

/// Moves due tasks to pending, or back to their groups; at most `limit` of each list.
pub(super) fn forward(tx: &mut Tx<'_>, queues: &[QueueName], limit: usize) -> Result<Forwarded, SqlError> {
    let mut done = Forwarded::default();
    for queue in queues {
        for (state, head) in DELAYED {
            // One more than are moved: its time is the next due time, or shows that there is more to do.
            let most = column(limit as u64).saturating_add(1);
            let found: Vec<(i64, i64, bool)> = tx.conn.all(head, params![queue.as_str(), most], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?;
            let (mut ready, mut grouped) = (Vec::new(), Vec::new());
            for (seq, at, in_group) in found {
                if at > tx.now {
                    let at = instant(at);
                    done.next_due = Some(done.next_due.map_or(at, |next| next.min(at)));
                    break;
                }
                if ready.len() + grouped.len() == limit {
                    done.more = true;
                    break;
                }
                let list = if in_group { &mut grouped } else { &mut ready };
                list.push(seq);
            }
            done.moved += ready.len() + grouped.len();
            moves::to_back(tx, queue, state, &ready)?;
            moves::to_group(tx, queue, state, &grouped)?;
        }
        let (next, more) = gates::look_at_due(tx, queue, &HashSet::new())?;
        done.more |= more;
        done.next_due = [done.next_due, next].into_iter().flatten().min();
    }
    Ok(done)
}

/// The range of types that a handler's name matches, inclusive: one name, or all with that prefix.
pub(super) fn range(handler: &str) -> (String, String) {
    match TypePattern::parse(handler) {
        TypePattern::Prefix(prefix) => (prefix.to_owned(), format!("{prefix}{}", char::MAX)),
        TypePattern::Name(name) => (name.to_owned(), name.to_owned()),
    }
}

/// Makes tasks pending that wait for a handler of a type in these ranges; at most `limit`. If it returns `limit`, the
/// caller calls again.
pub(super) fn release_waiting(
    tx: &mut Tx<'_>,
    queues: &[QueueName],
    ranges: &[(String, String)],
    limit: usize,
) -> Result<usize, SqlError> {
    let mut released = 0;
    for queue in queues {
        for (first, last) in ranges {
            let room = column(limit.saturating_sub(released) as u64);
            let mut seqs: Vec<i64> = tx.conn.values(
                "SELECT seq FROM tasks WHERE queue = ? AND waiting_for IS NOT NULL \
                 AND kind BETWEEN ? AND ? AND state = 'scheduled' LIMIT ?",
                params![queue.as_str(), first, last, room],
            )?;
            // The statement has no order; by row they keep the order in which they were enqueued.
            seqs.sort_unstable();
            released += seqs.len();
            moves::to_back(tx, queue, TaskState::Scheduled, &seqs)?;
        }
    }
    Ok(released)
}
