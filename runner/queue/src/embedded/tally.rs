//! Sums up a transaction: how many tasks moved between states, what was counted, where lists end.
//!
//! Held in memory until just before the commit, so that a batch costs one row per queue instead of one per task.

use std::collections::BTreeMap;

use runner_core::task::TaskState;
use rusqlite::{Connection, params};

use super::connection::Statements as _;
use super::error::SqlError;

/// Microseconds of a UTC day.
pub(super) const DAY: i64 = 24 * 3600 * 1_000_000;

/// A larger number is corrupt: adding to it would leave the range of integers, and the statement would fail forever.
/// The statements below spell it out.
pub(super) const LARGEST: i64 = 4_000_000_000_000_000_000;

const ADD_SUMS: &str = "INSERT INTO queues (name, pending, active, scheduled, retry, archived, completed, aggregating, \
         processed, failed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET \
         pending = max(min(pending, 4000000000000000000), -4000000000000000000) + excluded.pending, \
         active = max(min(active, 4000000000000000000), -4000000000000000000) + excluded.active, \
         scheduled = max(min(scheduled, 4000000000000000000), -4000000000000000000) + excluded.scheduled, \
         retry = max(min(retry, 4000000000000000000), -4000000000000000000) + excluded.retry, \
         archived = max(min(archived, 4000000000000000000), -4000000000000000000) + excluded.archived, \
         completed = max(min(completed, 4000000000000000000), -4000000000000000000) + excluded.completed, \
         aggregating = max(min(aggregating, 4000000000000000000), -4000000000000000000) + excluded.aggregating, \
         processed = max(min(processed, 4000000000000000000), -4000000000000000000) + excluded.processed, \
         failed = max(min(failed, 4000000000000000000), -4000000000000000000) + excluded.failed";

/// Both ends of the pending list of a queue: the next free position in front and behind.
#[derive(Debug, Clone, Copy)]
struct Ends {
    front: i64,
    back: i64,
}

#[derive(Debug, Default)]
struct Sums {
    moved: [i64; TaskState::ALL.len()],
    processed: i64,
    failed: i64,
    ends: Option<Ends>,
    wakes: bool,
}

/// Sums of one transaction, by queue.
#[derive(Debug, Default)]
pub(super) struct Tally {
    queues: BTreeMap<String, Sums>,
    delayed: bool,
}

/// What waiters learn once the transaction is committed.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Queues in which something may be claimable.
    pub(super) work: Vec<String>,
    /// Something is due later.
    pub(super) delayed: bool,
}

impl Tally {
    /// `n` tasks moved from `from` to `to`; `None` is "not in the store". Moving none does not create the queue.
    pub(super) fn moved(&mut self, queue: &str, from: Option<TaskState>, to: Option<TaskState>, n: i64) {
        if n == 0 {
            return;
        }
        let sums = self.of(queue);
        if let Some(from) = from {
            sums.moved[place(from)] -= n;
        }
        if let Some(to) = to {
            sums.moved[place(to)] += n;
        }
        // Collected here rather than where tasks are written, so that no way to become pending is forgotten.
        sums.wakes |= to == Some(TaskState::Pending);
        self.delayed |= matches!(to, Some(TaskState::Scheduled | TaskState::Retry));
    }

    /// An attempt ended and counts.
    pub(super) fn processed(&mut self, queue: &str, failed: bool) {
        let sums = self.of(queue);
        sums.processed += 1;
        sums.failed += i64::from(failed);
    }

    /// The change that this transaction has made so far to the number of tasks in a state.
    pub(super) fn moves(&self, queue: &str, state: TaskState) -> i64 {
        self.queues.get(queue).map_or(0, |sums| sums.moved[place(state)])
    }

    /// Creates the queue if it does not exist, even without a task.
    pub(super) fn ensure_queue(&mut self, queue: &str) {
        self.of(queue);
    }

    /// Drops the sums of a removed queue.
    pub(super) fn forget(&mut self, queue: &str) {
        self.queues.remove(queue);
    }

    /// Makes waiters for the queue look again.
    pub(super) fn wake(&mut self, queue: &str) {
        self.of(queue).wakes = true;
    }

    /// The wake-ups to send after the commit.
    pub(super) fn news(&self) -> News {
        let awake = self.queues.iter().filter(|(_, sums)| sums.wakes);
        News {
            work: awake.map(|(queue, _)| queue.clone()).collect(),
            delayed: self.delayed,
        }
    }

    /// The first of `n` new positions behind all pending tasks of the queue.
    pub(super) fn back(&mut self, conn: &Connection, queue: &str, n: i64) -> Result<i64, SqlError> {
        let ends = self.ends(conn, queue)?;
        let first = ends.back;
        // Moved at once: the next change of the same transaction must get other positions, although none is written
        // yet.
        ends.back = first.saturating_add(n);
        Ok(first)
    }

    /// The first of `n` new positions before all pending tasks of the queue.
    pub(super) fn front(&mut self, conn: &Connection, queue: &str, n: i64) -> Result<i64, SqlError> {
        let ends = self.ends(conn, queue)?;
        ends.front = ends.front.saturating_sub(n);
        Ok(ends.front.saturating_add(1))
    }

    fn ends(&mut self, conn: &Connection, queue: &str) -> Result<&mut Ends, SqlError> {
        let sums = self.of(queue);
        // Read once per transaction: no one else writes meanwhile, and the transaction's own tasks are counted from
        // here on.
        if sums.ends.is_none() {
            let (first, last): (Option<i64>, Option<i64>) = conn.one(
                // Positions beyond LARGEST are corrupt; starting from one would overflow.
                "SELECT (SELECT min(at) FROM tasks WHERE queue = ?1 AND state = 'pending' AND at > -?2), \
                        (SELECT max(at) FROM tasks WHERE queue = ?1 AND state = 'pending' AND at < ?2)",
                params![queue, LARGEST],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )?;
            sums.ends = Some(Ends {
                front: first.unwrap_or(0).saturating_sub(1),
                back: last.unwrap_or(-1).saturating_add(1),
            });
        }
        sums.ends.as_mut().ok_or(SqlError::RowNotFound)
    }

    /// Writes the sums; must be the last step before the commit.
    pub(super) fn write(self, conn: &Connection, now: i64) -> Result<(), SqlError> {
        // Differences, not totals: a total would need a count of the queue, and a wrong stored sum would be made final.
        // `max(min(…))` keeps a corrupt sum within the range in which adding cannot overflow.
        for (queue, sums) in self.queues {
            let [pending, active, scheduled, retry, archived, completed, aggregating] = sums.moved;
            conn.exec(
                ADD_SUMS,
                params![
                    queue,
                    pending,
                    active,
                    scheduled,
                    retry,
                    archived,
                    completed,
                    aggregating,
                    sums.processed,
                    sums.failed,
                ],
            )?;
            if sums.processed > 0 {
                conn.exec(
                    "INSERT INTO day_counts (day, queue, processed, failed) VALUES (?, ?, ?, ?) \
                     ON CONFLICT (day, queue) DO UPDATE SET \
                         processed = max(min(processed, 4000000000000000000), 0) + excluded.processed, \
                         failed = max(min(failed, 4000000000000000000), 0) + excluded.failed",
                    params![now.div_euclid(DAY), queue, sums.processed, sums.failed],
                )?;
            }
        }
        Ok(())
    }

    fn of(&mut self, queue: &str) -> &mut Sums {
        // Usually the queue is present: only the first call allocates its name.
        if !self.queues.contains_key(queue) {
            self.queues.insert(queue.to_owned(), Sums::default());
        }
        self.queues.entry(queue.to_owned()).or_default()
    }
}

/// The position of a state in [`TaskState::ALL`], which is also the order of the columns.
fn place(state: TaskState) -> usize {
    TaskState::ALL.iter().position(|s| *s == state).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn file() -> Connection {
        let conn = Connection::open_in_memory().unwrap();
        let made = include_str!("../../migrations/sqlite/0001_broker.sql");
        conn.execute_batch(made).unwrap();
        conn
    }

    #[test]
    fn a_transaction_writes_one_row_for_each_queue() {
        let conn = file();
        for _ in 0..2 {
            let mut tally = Tally::default();
            for _ in 0..3 {
                tally.moved("a", None, Some(TaskState::Pending), 1);
                tally.moved("a", Some(TaskState::Pending), Some(TaskState::Active), 1);
                tally.processed("a", false);
            }
            tally.moved("a", Some(TaskState::Active), None, 2);
            tally.processed("a", true);
            assert_eq!(tally.moves("a", TaskState::Active), 1);
            assert_eq!(tally.moves("b", TaskState::Active), 0);
            tally.moved("b", None, Some(TaskState::Scheduled), 1);
            tally.moved("c", None, Some(TaskState::Pending), 0);
            let news = tally.news();
            assert_eq!((news.work, news.delayed), (vec!["a".to_owned()], true));
            tally.write(&conn, 5 * DAY + 1).unwrap();
        }
        let text = "SELECT name, pending, active, scheduled, processed, failed FROM queues ORDER BY name";
        let found: Vec<(String, [i64; 5])> = conn
            .all(text, [], |row| {
                let sums = [row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?];
                Ok((row.get(0)?, sums))
            })
            .unwrap();
        let of = |name: &str, sums| (name.to_owned(), sums);
        assert_eq!(found, [of("a", [0, 2, 0, 8, 2]), of("b", [0, 0, 2, 0, 0])]);
        let day: Vec<i64> = conn.values("SELECT day FROM day_counts", []).unwrap();
        assert_eq!(day, [5]);
    }

    #[test]
    fn new_positions_lie_before_and_behind_those_of_pending_tasks_and_never_meet() {
        let conn = file();
        let mut tally = Tally::default();
        assert_eq!(tally.back(&conn, "a", 2).unwrap(), 0);
        assert_eq!(tally.front(&conn, "a", 2).unwrap(), -2);
        assert_eq!(tally.back(&conn, "a", 1).unwrap(), 2);
        assert_eq!(tally.front(&conn, "a", 1).unwrap(), -3);
        let insert = "INSERT INTO tasks (queue, id, kind, payload, state, at, max_retry, timeout_s, deadline_s, retention_s) \
             VALUES ('a', ?, 't', x'', 'pending', ?, 1, 1, 0, 0)";
        for (id, at) in [("1", 7), ("2", 9), ("odd", i64::MAX)] {
            conn.exec(insert, params![id, at]).unwrap();
        }
        let mut tally = Tally::default();
        assert_eq!(
            tally.back(&conn, "a", 1).unwrap(),
            10,
            "a position written by mistake does not count"
        );
        assert_eq!(tally.front(&conn, "a", 1).unwrap(), 6);
    }

    #[test]
    fn a_queue_that_is_forgotten_leaves_no_row() {
        let conn = file();
        let mut tally = Tally::default();
        tally.ensure_queue("a");
        tally.moved("b", None, Some(TaskState::Pending), 1);
        tally.forget("b");
        tally.write(&conn, 0).unwrap();
        let names: Vec<String> = conn.values("SELECT name FROM queues", []).unwrap();
        assert_eq!(names, ["a"]);
    }
}
