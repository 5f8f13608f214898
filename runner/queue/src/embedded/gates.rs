//! Limits: whether a task may be claimed now, and who may continue when there is room again.
//!
//! Not here: what a limit is (`core::limit`), and taking tasks (`claim`).

use std::collections::{BTreeSet, HashSet};

use jiff::Timestamp;
use md5::{Digest as _, Md5};
use runner_core::limit::{LimitRule, Limits, OnLimit, ScopedLimit};
use runner_core::task::{QueueName, TaskState};
use rusqlite::{Connection, params};

use super::connection::Statements as _;
use super::error::SqlError;
use super::moves;
use super::rows::{column, instant};
use super::writer::Tx;
use crate::TaskRecord;

/// A full gate is looked at again after this many microseconds, should its holders end unnoticed.
const LOOK_AGAIN: i64 = 10_000_000;

/// How long a task waits at most until it is looked at again, should nothing else do that, in microseconds.
const WAITS: i64 = 60_000_000;

/// The waits of many tasks end one after another within this many milliseconds.
const SPREAD: i64 = 600_000;

/// A task that may go on and is not claimed within this many microseconds loses its place: no worker serves its type now.
const UNCLAIMED: i64 = 60_000_000;

/// Tasks that one look lets go on.
const MOVED: i64 = 100;

/// The answer of a look that found only waiters that are gone, and ended before the last.
const ENDED_EARLY: i64 = -1;

/// Gates looked at in one call.
const GATES: usize = 100;

/// Keys that are longer go by their digest, as do those with control characters.
const LONGEST_KEY: usize = 128;

/// What the limits say to a task.
pub(super) enum Admission {
    /// It may be claimed, and has passed its gates.
    Passed,
    /// It waits for its turn and is scheduled now.
    Waits,
    /// It is not to be run, because of this limit.
    Refused(String),
}

/// A gate, as its row says.
struct Gate {
    queue: QueueName,
    name: String,
    rule: LimitRule,
    most: i64,
    pause: i64,
    used_up: i64,
}

impl Gate {
    /// How many may pass now, and when to look again, in microseconds.
    fn free(&mut self, tx: &Tx<'_>, let_in: &HashSet<String>) -> Result<(i64, i64), SqlError> {
        if let LimitRule::Rate(_) = self.rule {
            let (pause, lead) = (self.pause.max(1), self.most.saturating_mul(self.pause.max(1)));
            let latest = tx.now.saturating_add(lead);
            if self.used_up > latest {
                // Written with a wrong clock, or for a lower rate. In the row too: otherwise each look would begin there again.
                tx.conn.exec(
                    "UPDATE gates SET used_up = ? WHERE queue = ? AND gate = ?",
                    params![latest, self.queue.as_str(), self.name],
                )?;
            }
            self.used_up = self.used_up.clamp(tx.now, latest);
            let free = (tx.now + lead - self.used_up) / pause;
            return Ok((free, self.used_up + (free + 1) * pause - lead));
        }
        let held: i64 = tx.conn.value(
            "SELECT count(*) FROM gated WHERE queue = ? AND gate = ? AND holds = 1",
            [self.queue.as_str(), &self.name],
        )?;
        let dropped = if held >= self.most {
            self.drop_ended(tx, let_in)?
        } else {
            0
        };
        Ok(((self.most - held + dropped).max(0), tx.now.saturating_add(LOOK_AGAIN)))
    }

    /// Drops holders that are none any more. Returns how many.
    fn drop_ended(&self, tx: &Tx<'_>, let_in: &HashSet<String>) -> Result<i64, SqlError> {
        let in_order = self.rule == LimitRule::Sequence;
        let ended: Vec<String> = tx.conn.values(
            "SELECT g.id FROM gated g WHERE g.queue = ?1 AND g.gate = ?2 AND g.holds = 1 AND NOT EXISTS \
             (SELECT 1 FROM tasks t WHERE t.queue = g.queue AND t.id = g.id AND (t.state = 'active' \
              OR ?3 AND t.state IN ('pending', 'scheduled', 'retry'))) LIMIT 1000",
            params![self.queue.as_str(), self.name, in_order],
        )?;
        let mut dropped = 0;
        // Those that passed in this transaction are not active yet.
        for id in ended.iter().filter(|id| !let_in.contains(*id)) {
            drop_row(tx, &self.queue, id, &self.name)?;
            dropped += 1;
        }
        Ok(dropped)
    }

    /// Whether fewer tasks wait before this one than there is room for. All wait before one that has no turn.
    fn fits(&self, tx: &Tx<'_>, turn: Option<i64>, free: i64) -> Result<bool, SqlError> {
        let (queue, free) = (self.queue.as_str(), free.max(0));
        // Two texts, so that both are answered by the index.
        let before: i64 = match turn {
            Some(turn) => tx.conn.value(
                "SELECT count(*) FROM (SELECT 1 FROM gated WHERE queue = ? AND gate = ? AND holds = 0 \
                 AND turn < ? LIMIT ?)",
                params![queue, self.name, turn, free],
            )?,
            None => tx.conn.value(
                "SELECT count(*) FROM (SELECT 1 FROM gated WHERE queue = ? AND gate = ? AND holds = 0 LIMIT ?)",
                params![queue, self.name, free],
            )?,
        };
        Ok(before < free)
    }

    /// Whether a task may pass. `turn`: its turn, if it waits here or elsewhere.
    fn lets_pass(&mut self, tx: &mut Tx<'_>, turn: Option<i64>, let_in: &HashSet<String>) -> Result<bool, SqlError> {
        let (free, _) = self.free(tx, let_in)?;
        if self.fits(tx, turn, free)? {
            return Ok(true);
        }
        // Some of those before it may be gone; the others are to come.
        Ok(free > 0 && go_on(tx, &self.queue, &self.name, free)? < free && self.fits(tx, turn, free)?)
    }

    fn pass(&self, tx: &Tx<'_>, id: &str) -> Result<(), SqlError> {
        let queue = self.queue.as_str();
        if let LimitRule::Rate(_) = self.rule {
            let used_up = self.used_up.max(tx.now).saturating_add(self.pause);
            tx.conn.exec(
                // The look forgets it, should nothing else happen here.
                "UPDATE gates SET used_up = ?1, look_at = coalesce(look_at, ?1) WHERE queue = ?2 AND gate = ?3",
                params![used_up, queue, self.name],
            )?;
            return drop_row(tx, &self.queue, id, &self.name);
        }
        tx.conn.exec(
            "INSERT INTO gated (queue, id, gate, holds, turn) VALUES (?, ?, ?, 1, ?) \
             ON CONFLICT (queue, id, gate) DO UPDATE SET holds = 1, turn = excluded.turn",
            params![queue, id, self.name, tx.now],
        )?;
        Ok(())
    }

    /// Makes a task wait here. Returns about how many wait before it.
    fn wait(&mut self, tx: &Tx<'_>, id: &str, turn: i64, let_in: &HashSet<String>) -> Result<i64, SqlError> {
        let queue = self.queue.as_str();
        let first: Option<i64> = tx.conn.first(
            "SELECT turn FROM gated WHERE queue = ? AND gate = ? AND holds = 0 ORDER BY turn LIMIT 1",
            [queue, &self.name],
            |row| Ok(row.get(0)?),
        )?;
        tx.conn.exec(
            "INSERT INTO gated (queue, id, gate, holds, turn) VALUES (?, ?, ?, 0, ?) ON CONFLICT DO NOTHING",
            params![queue, id, self.name, turn],
        )?;
        let (_, again) = self.free(tx, let_in)?;
        let queue = self.queue.as_str();
        tx.conn.exec(
            "UPDATE gates SET look_at = min(coalesce(look_at, ?1), ?1) WHERE queue = ?2 AND gate = ?3",
            params![again, queue, self.name],
        )?;
        Ok(first.map_or(0, |first| turn.saturating_sub(first).clamp(0, SPREAD)))
    }
}

/// The next turn of a queue. A task takes one when it first has to wait and keeps it at whichever gate it waits, so that all gates
/// of a queue have one order: with an order of their own, the first of one gate could wait behind the first of another forever.
/// The counter is a row that is no gate: it has no name and no look.
fn next_turn(tx: &Tx<'_>, queue: &QueueName) -> Result<i64, SqlError> {
    let next = tx.conn.first(
        // A larger number is corrupt: adding to it would leave the range of integers.
        "UPDATE gates SET used_up = min(used_up, 4000000000000000000) + 1 WHERE queue = ? AND gate = '' RETURNING used_up",
        [queue.as_str()],
        |row| Ok(row.get(0)?),
    )?;
    if let Some(next) = next {
        return Ok(next);
    }
    // After those that an older program made wait.
    tx.conn.value(
        "INSERT INTO gates (queue, gate, rule, most, used_up) VALUES (?1, '', 'turns', 0, (SELECT 1 + \
         coalesce(max(min(turn, 4000000000000000000)), 0) FROM gated WHERE queue = ?1 AND holds = 0)) RETURNING used_up",
        [queue.as_str()],
    )
}

fn drop_row(tx: &Tx<'_>, queue: &QueueName, id: &str, gate: &str) -> Result<(), SqlError> {
    tx.conn.exec(
        "DELETE FROM gated WHERE queue = ? AND id = ? AND gate = ?",
        [queue.as_str(), id, gate],
    )?;
    Ok(())
}

/// The name of the gate at which this limit judges a task.
fn gate_name(scoped: &ScopedLimit, task: &TaskRecord) -> String {
    let mut name = scoped.name();
    let key = scoped.limit.key.as_ref().map(|key| key.value(&task.payload));
    if let Some(mut key) = key.filter(|key| !key.is_empty()) {
        if key.len() > LONGEST_KEY || key.contains(char::is_control) {
            key = Md5::digest(key.as_bytes())
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
        }
        name.push('\t');
        name.push_str(&key);
    }
    name
}

/// The gate at which this limit judges a task, with the rule as it is now.
fn gate_of(tx: &Tx<'_>, scoped: &ScopedLimit, task: &TaskRecord) -> Result<Gate, SqlError> {
    let (most, pause) = match &scoped.limit.rule {
        LimitRule::Concurrency(most) => (i64::from(*most), 0),
        // No other program shares the file; the settings and manifests refuse it.
        LimitRule::Semaphore(semaphore) => (i64::from(semaphore.most()), 0),
        LimitRule::Sequence => (1, 0),
        LimitRule::Rate(rate) => {
            #[allow(clippy::cast_possible_truncation)] // saturates; at most 30 days
            let pause = (rate.interval_ms() * 1000.0).round() as i64;
            (i64::from(rate.at_once()), pause.max(1))
        }
    };
    let (queue, name) = (task.queue.clone(), gate_name(scoped, task));
    let used_up = tx.conn.value(
        "INSERT INTO gates (queue, gate, rule, most, pause) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT (queue, gate) DO UPDATE SET rule = ?3, most = ?4, pause = ?5 RETURNING used_up",
        params![queue.as_str(), name, scoped.limit.word(), most, pause],
    )?;
    Ok(Gate {
        queue,
        name,
        rule: scoped.limit.rule.clone(),
        most,
        pause,
        used_up,
    })
}

/// Judges a pending task of a queue. One that waits is scheduled afterwards. `let_in`: the ids that passed in this transaction.
pub(super) fn admit(
    tx: &mut Tx<'_>,
    limits: &Limits,
    task: &TaskRecord,
    seq: i64,
    let_in: &mut HashSet<String>,
) -> Result<Admission, SqlError> {
    let list = limits.of(&task.queue, &task.kind);
    if list.is_empty() {
        return Ok(Admission::Passed);
    }
    let id = task.id.as_str();
    let known: Vec<(String, bool, i64)> = tx.conn.all(
        "SELECT gate, holds, turn FROM gated WHERE queue = ? AND id = ?",
        [task.queue.as_str(), id],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    let turn = known
        .iter()
        .filter(|(_, holds, _)| !holds)
        .map(|(.., turn)| *turn)
        .min();
    let mut ready = Vec::new();
    for scoped in list {
        let mut gate = gate_of(tx, scoped, task)?;
        if known.iter().any(|(name, holds, _)| *holds && *name == gate.name) {
            continue;
        }
        if !gate.lets_pass(tx, turn, let_in)? {
            leave_others(tx, task, &known, Some(&gate.name), let_in)?;
            if scoped.limit.on_limit == OnLimit::Skip {
                drop_row(tx, &gate.queue, id, &gate.name)?;
                return Ok(Admission::Refused(gate.name.replace('\t', ", key ")));
            }
            let turn = turn.map_or_else(|| next_turn(tx, &gate.queue), Ok)?;
            let ahead = gate.wait(tx, id, turn, let_in)?;
            schedule(tx, task, seq, ahead)?;
            return Ok(Admission::Waits);
        }
        // An order is kept while a task waits at the others.
        if gate.rule == LimitRule::Sequence {
            gate.pass(tx, id)?;
        } else {
            ready.push(gate);
        }
    }
    for gate in ready {
        gate.pass(tx, id)?;
    }
    let_in.insert(id.to_owned());
    leave_others(tx, task, &known, None, let_in)?;
    Ok(Admission::Passed)
}

/// Where a task waited and does not wait any more, others may go on.
fn leave_others(
    tx: &mut Tx<'_>,
    task: &TaskRecord,
    known: &[(String, bool, i64)],
    but: Option<&str>,
    let_in: &HashSet<String>,
) -> Result<(), SqlError> {
    for (gate, holds, _) in known {
        if *holds || Some(gate.as_str()) == but {
            continue;
        }
        let left = tx.conn.exec(
            "DELETE FROM gated WHERE queue = ? AND id = ? AND gate = ? AND holds = 0",
            [task.queue.as_str(), task.id.as_str(), gate],
        )?;
        if left > 0 {
            look_at(tx, &task.queue, gate, let_in)?;
        }
    }
    Ok(())
}

fn schedule(tx: &mut Tx<'_>, task: &TaskRecord, seq: i64, ahead: i64) -> Result<(), SqlError> {
    // Not all at one time: each that is looked at in vain costs a move.
    let at = tx.now.saturating_add(WAITS).saturating_add(ahead.saturating_mul(1000));
    tx.conn.exec(
        "UPDATE tasks SET state = 'scheduled', at = ?, pending_since = NULL WHERE seq = ?",
        [at, seq],
    )?;
    let (from, to) = (Some(TaskState::Pending), Some(TaskState::Scheduled));
    tx.tally.moved(task.queue.as_str(), from, to, 1);
    Ok(())
}

/// Lets the first waiters go on: those that are scheduled come to the front of the queue. Returns how many there are, at most as
/// many as asked for. They stay waiters until they pass, so that none is overtaken.
fn go_on(tx: &mut Tx<'_>, queue: &QueueName, gate: &str, most: i64) -> Result<i64, SqlError> {
    let (most, mut passed_by) = (most.min(MOVED), 0);
    for _ in 0..10 {
        // An order is not changed, even for a type that no worker serves.
        let since = if gate.starts_with("sequence") {
            i64::MIN
        } else {
            tx.now - UNCLAIMED
        };
        let first: Vec<(String, Option<i64>, Option<String>)> = tx.conn.all(
            "SELECT g.id, t.seq, iif(t.state = 'pending' AND t.pending_since < ?4, 'unclaimed', t.state) \
             FROM gated g LEFT JOIN tasks t ON t.queue = g.queue AND t.id = g.id \
             WHERE g.queue = ?1 AND g.gate = ?2 AND g.holds = 0 ORDER BY g.turn LIMIT ?3",
            params![queue.as_str(), gate, MOVED, since],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )?;
        let (mut front, mut there, mut gone) = (Vec::new(), 0, false);
        for (id, seq, state) in first {
            if there == most {
                break;
            }
            match (state.as_deref(), seq) {
                (Some("unclaimed"), _) if passed_by < MOVED => {
                    passed_by += 1;
                    let turn = next_turn(tx, queue)?;
                    tx.conn.exec(
                        "UPDATE gated SET turn = ? WHERE queue = ? AND id = ? AND holds = 0",
                        params![turn, queue.as_str(), id],
                    )?;
                    gone = true;
                }
                (Some("scheduled"), Some(seq)) => {
                    front.push(seq);
                    there += 1;
                }
                (Some("pending" | "unclaimed"), _) => there += 1,
                _ => {
                    drop_row(tx, queue, &id, gate)?;
                    gone = true;
                }
            }
        }
        moves::to_front(tx, queue, TaskState::Scheduled, &front)?;
        if !gone || there == most {
            return Ok(there);
        }
    }
    Ok(ENDED_EARLY)
}

/// Lets waiters go on as far as there is room, and notes when to look again. Forgets a gate that nothing uses.
fn look_at(tx: &mut Tx<'_>, queue: &QueueName, name: &str, let_in: &HashSet<String>) -> Result<(), SqlError> {
    let waits = "SELECT EXISTS (SELECT 1 FROM gated WHERE queue = ? AND gate = ? AND holds = 0)";
    let row: Option<(String, i64, i64, i64)> = tx.conn.first(
        "SELECT rule, most, pause, used_up FROM gates WHERE queue = ? AND gate = ?",
        [queue.as_str(), name],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
    )?;
    let Some((rule, most, pause, used_up)) = row else {
        // Its rule was removed: those that wait there are judged again when they are claimed.
        go_on(tx, queue, name, MOVED)?;
        return Ok(());
    };
    let rule = match rule.as_str() {
        "rate" => LimitRule::Rate(runner_core::limit::StartRate {
            count: 1,
            per: std::time::Duration::from_secs(1),
            burst: 1,
        }),
        "sequence" => LimitRule::Sequence,
        _ => LimitRule::Concurrency(u32::try_from(most).unwrap_or(u32::MAX)),
    };
    let mut gate = Gate {
        queue: queue.clone(),
        name: name.to_owned(),
        rule,
        most,
        pause,
        used_up,
    };
    let (free, again) = gate.free(tx, let_in)?;
    // There are more to drop before one that is to come.
    let early = free > 0 && go_on(tx, queue, name, free)? == ENDED_EARLY;
    let again = if early { tx.now } else { again };
    let waits: bool = tx.conn.value(waits, [queue.as_str(), name])?;
    let look_at = waits.then_some(again);
    tx.conn.exec(
        "UPDATE gates SET look_at = ? WHERE queue = ? AND gate = ?",
        params![look_at, queue.as_str(), name],
    )?;
    // A rate stays until what it let pass does not count any more.
    tx.conn.exec(
        "DELETE FROM gates WHERE queue = ?1 AND gate = ?2 AND used_up <= ?3 \
         AND NOT EXISTS (SELECT 1 FROM gated WHERE queue = ?1 AND gate = ?2)",
        params![queue.as_str(), name, tx.now],
    )?;
    Ok(())
}

/// How full the gate is at which a task waits, and its place there, in words.
pub(super) fn place(conn: &Connection, queue: &QueueName, id: &str) -> Result<Option<String>, SqlError> {
    let text = "SELECT ':' || iif(a.rule = 'rate', '', ' ' || (SELECT count(*) FROM gated g WHERE g.queue = w.queue \
                    AND g.gate = w.gate AND g.holds = 1) || ' of ' || a.most || ' run,') \
                || ' place ' || (SELECT count(*) FROM gated g WHERE g.queue = w.queue AND g.gate = w.gate \
                    AND g.holds = 0 AND g.turn <= w.turn) \
                || ' of ' || (SELECT count(*) FROM gated g WHERE g.queue = w.queue AND g.gate = w.gate AND g.holds = 0) \
                FROM gated w JOIN gates a ON a.queue = w.queue AND a.gate = w.gate \
                WHERE w.queue = ? AND w.id = ? AND w.holds = 0";
    conn.first(text, [queue.as_str(), id], |row| row.get(0).map_err(Into::into))
}

/// Whether tasks hold gates or wait at them. Mostly none do, and nothing else is to be done when a claim ends.
pub(super) fn any(tx: &Tx<'_>) -> Result<bool, SqlError> {
    tx.conn.value("SELECT EXISTS (SELECT 1 FROM gated)", [])
}

/// Tasks whose claims have ended, each with its queue and whether it has not ended for good, leave the gates that they hold. Those
/// that have not keep their place in an order. Afterwards waiters continue.
pub(super) fn leave<'a>(
    tx: &mut Tx<'_>,
    ended: impl IntoIterator<Item = (&'a QueueName, &'a str, bool)>,
) -> Result<(), SqlError> {
    let mut left = BTreeSet::new();
    for (queue, id, stays) in ended {
        let gates: Vec<String> = tx.conn.values(
            "DELETE FROM gated WHERE queue = ?1 AND id = ?2 AND NOT (?3 AND holds = 1 AND gate >= 'sequence' \
             AND gate < 'sequencf') RETURNING gate",
            params![queue.as_str(), id, stays],
        )?;
        left.extend(gates.into_iter().map(|gate| (queue, gate)));
    }
    for (queue, gate) in left {
        look_at(tx, queue, &gate, &HashSet::new())?;
    }
    Ok(())
}

/// Looks at the gates whose time has come. `let_in`: the ids that passed in this transaction. Returns when to look next, and
/// whether there are more that are due.
pub(super) fn look_at_due(
    tx: &mut Tx<'_>,
    queue: &QueueName,
    let_in: &HashSet<String>,
) -> Result<(Option<Timestamp>, bool), SqlError> {
    let due: Vec<String> = tx.conn.values(
        "SELECT gate FROM gates WHERE queue = ? AND look_at <= ? ORDER BY look_at LIMIT ?",
        params![queue.as_str(), tx.now, column(GATES as u64)],
    )?;
    for gate in &due {
        look_at(tx, queue, gate, let_in)?;
    }
    let next: Option<i64> = tx.conn.value(
        "SELECT min(look_at) FROM gates WHERE queue = ? AND look_at IS NOT NULL",
        [queue.as_str()],
    )?;
    Ok((next.map(instant), due.len() == GATES))
}
