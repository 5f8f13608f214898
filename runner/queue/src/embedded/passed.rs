//! Which types this broker claims, and where in each queue tasks of other types lie that it passes over.
//!
//! Such tasks keep their place at the head of their queue, for a process that knows them. Up to where they reach is
//! remembered from claim to claim, so that a claim does not look at all of them again. Whether the last of them is still
//! where it was is checked each time; what is handed back to the head has a place before the first one.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use runner_core::task::QueueName;

use super::cells::Row;
use super::link::{Query, SqlError};
use super::readers::Readers;
use super::rows::column;
use super::store::{built, sql};
use super::writer::Tx;
use crate::KnownTypes;

/// Rows that a claim looks at in a queue in which some were passed over: about a millisecond.
const LOOKS: usize = 1_000;

/// The least that is looked at in one statement.
const FEW: usize = 64;

/// The tasks of unknown types at the head of a queue.
#[derive(Debug, Clone)]
pub(super) struct Stretch {
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

/// The state of all queues.
#[derive(Default)]
pub(super) struct Passed(Mutex<Memory>);

/// A row as far as a look needs it.
struct Seen {
    seq: i64,
    place: i64,
    since: Option<i64>,
    known: bool,
}

impl Passed {
    /// Claims are for these types from now on. The queues in which some were passed over.
    pub(super) fn know(&self, types: &KnownTypes) -> Vec<String> {
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

    pub(super) fn stretch(&self, queue: &QueueName) -> Option<Stretch> {
        self.lock().stretches.get(queue).cloned()
    }

    fn learn(&self, types: &KnownTypes, queue: &QueueName, stretch: Option<Stretch>) {
        let mut memory = self.lock();
        // Other types may be known since.
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
    pub(super) async fn pick(
        &self,
        tx: &mut Tx<'_>,
        types: &KnownTypes,
        queue: &QueueName,
        most: usize,
    ) -> Result<Vec<i64>, SqlError> {
        let mut stretch = match self.stretch(queue) {
            Some(stretch) if still(tx, queue, &stretch).await? => Some(stretch),
            _ => None,
        };
        let mut picked = Vec::new();
        if let Some(known) = &stretch {
            let mut moved = known.clone();
            let handed_back = look(tx, types, queue, Part::Before(known.first), LOOKS).await?;
            let many = handed_back.len() == LOOKS;
            for seen in handed_back {
                match seen.known {
                    true => picked.push(seen.seq),
                    false => moved.first = moved.first.min(seen.place),
                }
            }
            if picked.len() >= most {
                // What is left of them is looked at by the next claim.
                picked.truncate(most);
                return Ok(picked);
            }
            stretch = (!many).then_some(moved);
        }
        let mut part = stretch.as_ref().map_or(Part::All, |s| Part::After(s.last, s.row));
        let mut left = LOOKS;
        while picked.len() < most && left > 0 {
            let count = (2 * (most - picked.len())).max(FEW).min(left);
            let found = look(tx, types, queue, part, count).await?;
            let end = found.len() < count;
            left -= found.len();
            part = found.last().map_or(part, |seen| Part::After(seen.place, seen.seq));
            for seen in found {
                if picked.len() == most {
                    break;
                }
                if seen.known {
                    picked.push(seen.seq);
                    continue;
                }
                stretch = Some(Stretch {
                    first: stretch.map_or(seen.place, |s| s.first),
                    last: seen.place,
                    row: seen.seq,
                    since: seen.since,
                });
            }
            if end {
                break;
            }
        }
        self.learn(types, queue, stretch);
        Ok(picked)
    }

    /// Whether a queue has a pending task that may be claimed, as far as is known. Reads only.
    pub(super) async fn claimable(&self, readers: &Readers, queue: &QueueName) -> Result<bool, SqlError> {
        let stretch = match self.stretch(queue) {
            Some(stretch) if stands(queue, &stretch).fetch_one(readers).await?.try_get(0)? => stretch,
            _ => {
                let query = sql("SELECT EXISTS (SELECT 1 FROM tasks WHERE queue = ? AND state = 'pending')");
                let row = query.bind(queue.as_str().to_owned()).fetch_one(readers).await?;
                return row.try_get(0);
            }
        };
        let query = sql(
            "SELECT EXISTS (SELECT 1 FROM tasks WHERE queue = ?1 AND state = 'pending' AND at < ?2) \
                 OR EXISTS (SELECT 1 FROM tasks WHERE queue = ?1 AND state = 'pending' AND (at, seq) > (?3, ?4))",
        );
        let query = query.bind(queue.as_str().to_owned()).bind(stretch.first);
        let row = query.bind(stretch.last).bind(stretch.row).fetch_one(readers).await?;
        row.try_get(0)
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
async fn look(
    tx: &mut Tx<'_>,
    types: &KnownTypes,
    queue: &QueueName,
    part: Part,
    most: usize,
) -> Result<Vec<Seen>, SqlError> {
    const OF: &str = "SELECT seq, at, pending_since, kind FROM tasks WHERE queue = ?1 AND state = 'pending'";
    const FIRST: &str = "ORDER BY at, seq LIMIT ?2";
    let query = match part {
        Part::All => built(format!("{OF} {FIRST}")),
        Part::Before(_) => built(format!("{OF} AND at < ?3 {FIRST}")),
        Part::After(..) => built(format!("{OF} AND (at, seq) > (?3, ?4) {FIRST}")),
    };
    let query = query.bind(queue.as_str().to_owned()).bind(column(most as u64));
    let query = match part {
        Part::All => query,
        Part::Before(place) => query.bind(place),
        Part::After(place, row) => query.bind(place).bind(row),
    };
    let found = query.fetch_all(&mut *tx.conn).await?;
    let seen = |row: &Row| {
        Ok(Seen {
            seq: row.try_get(0)?,
            place: row.try_get(1)?,
            since: row.try_get(2)?,
            // A type that cannot be read is nobody's: such a task is put aside by whoever claims it.
            known: row.try_get::<String>(3).map_or(true, |kind| types.has(&kind)),
        })
    };
    found.iter().map(seen).collect()
}

/// Whether the last task of the stretch has not been taken since.
async fn still(tx: &mut Tx<'_>, queue: &QueueName, stretch: &Stretch) -> Result<bool, SqlError> {
    stands(queue, stretch).fetch_one(&mut *tx.conn).await?.try_get(0)
}

fn stands(queue: &QueueName, stretch: &Stretch) -> Query {
    sql(
        "SELECT EXISTS (SELECT 1 FROM tasks WHERE seq = ? AND queue = ? AND state = 'pending' AND at = ? \
         AND pending_since IS ?)",
    )
    .bind(stretch.row)
    .bind(queue.as_str().to_owned())
    .bind(stretch.last)
    .bind(stretch.since)
}
