//! Queries for inconsistencies in the file; a sound file yields none.
//!
//! Reads every row: never call it while serving a request.

use runner_core::task::TaskState;
use rusqlite::Connection;

use super::connection::Statements as _;
use super::error::SqlError;
use super::rows::on_list;

/// Each query returns one text per inconsistency; `?1` is the current time.
const QUESTIONS: [&str; 11] = [
    "SELECT 'task ' || id || ' is in the unknown queue ' || queue FROM tasks \
     WHERE queue NOT IN (SELECT name FROM queues)",
    "SELECT 'task ' || id || ' is active but was never claimed' FROM tasks WHERE state = 'active' AND run = 0",
    "SELECT 'task ' || id || ' is ' || state || ' but waits for ' || waiting_for FROM tasks \
     WHERE waiting_for IS NOT NULL AND state <> 'scheduled'",
    "SELECT 'attempt ' || seq || ' has no task' FROM attempts WHERE task NOT IN (SELECT seq FROM tasks)",
    "SELECT 'task ' || id || ' is aggregating without a group' FROM tasks \
     WHERE state = 'aggregating' AND (group_name IS NULL OR grouped = 0)",
    "SELECT 'task ' || t.id || ' is ' || t.state || ' and in the set ' || coalesce(s.id, t.staged) FROM tasks t \
     LEFT JOIN staged_sets s ON s.seq = t.staged WHERE t.staged IS NOT NULL AND (t.state <> 'aggregating' \
     OR s.queue IS NOT t.queue OR s.group_name IS NOT t.group_name)",
    "SELECT 'the set ' || id || ' of group ' || group_name || ' has no task' FROM staged_sets \
     WHERE seq NOT IN (SELECT staged FROM tasks WHERE staged IS NOT NULL)",
    "SELECT 'pending tasks of ' || queue || ' share position ' || at FROM tasks WHERE state = 'pending' \
     GROUP BY queue, at HAVING count(*) > 1",
    "SELECT 'queue ' || name || ' has failed more often than it processed' FROM queues WHERE failed > processed",
    "SELECT 'lock ' || l.key || ' of ' || l.task_id || ' has no task that is to run' FROM locks l \
     LEFT JOIN tasks t ON t.queue = l.queue AND t.id = l.task_id \
     WHERE l.expires_at > ?1 AND l.outlives = 0 AND (t.unique_key IS NOT l.key OR t.state = 'completed')",
    "SELECT integrity_check FROM pragma_integrity_check WHERE integrity_check <> 'ok'",
];

pub(super) fn audit(conn: &Connection, now: i64) -> Result<Vec<String>, SqlError> {
    let counts = TaskState::ALL.map(|state| {
        format!(
            "SELECT 'queue ' || name || ' counts ' || {state} || ' {state}, it has ' || n FROM \
             (SELECT name, {state}, (SELECT count(*) FROM tasks WHERE queue = name AND {}) n \
              FROM queues) WHERE {state} <> n",
            on_list(state)
        )
    });
    // One statement, so that all queries see the same snapshot.
    let questions: Vec<&str> = QUESTIONS.into_iter().chain(counts.iter().map(String::as_str)).collect();
    conn.values(&questions.join(" UNION ALL "), [now])
}
