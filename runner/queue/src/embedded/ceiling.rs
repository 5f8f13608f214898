//! What one SQLite file can do at best on this disk: the rows and sums that a task needs, by statements prepared
//! once, one connection, a sync for each transaction, and no program around them.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use runner_core::task::Task;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use uuid::Uuid;

use super::EmbeddedBroker;
use crate::{BrokerError, BrokerResult, Ceiling, Producer as _, StoreUsage};

/// How long a statement waits for another connection that is writing.
const BUSY: Duration = Duration::from_secs(5);

/// The end of a lease; never looked at here.
const LEASE: i64 = i64::MAX / 2;

const DOING: &str = "measure what its file can do at best";

/// One queue of one file, over a connection of its own.
pub struct EmbeddedCeiling {
    file: Arc<Mutex<File>>,
    other: EmbeddedBroker,
}

impl std::fmt::Debug for EmbeddedCeiling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedCeiling").finish_non_exhaustive()
    }
}

impl EmbeddedBroker {
    /// Prepares to measure what the file can do at best with tasks like this one, on its queue.
    ///
    /// # Errors
    ///
    /// When the file cannot be used.
    pub async fn ceiling(&self, like: &Task) -> BrokerResult<EmbeddedCeiling> {
        let file = File::open(&self.path, like.clone()).map_err(failed)?;
        Ok(EmbeddedCeiling {
            file: Arc::new(Mutex::new(file)),
            other: Self::open(&self.path, Arc::clone(&self.clock)).await?,
        })
    }
}

fn failed(cause: rusqlite::Error) -> BrokerError {
    BrokerError::Unreachable {
        doing: DOING,
        source: Box::new(cause),
    }
}

impl EmbeddedCeiling {
    /// Runs on a thread of its own, as everything does that waits for a disk.
    async fn run(&self, work: impl FnOnce(&mut File) -> rusqlite::Result<()> + Send + 'static) -> BrokerResult<()> {
        let file = Arc::clone(&self.file);
        let done = tokio::task::spawn_blocking(move || {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut file)
        });
        let gone = |cause| BrokerError::Unreachable {
            doing: DOING,
            source: Box::new(cause),
        };
        done.await.map_err(gone)?.map_err(failed)
    }
}

#[async_trait]
impl Ceiling for EmbeddedCeiling {
    fn batches(&self) -> &'static [usize] {
        &[64, 512]
    }

    async fn enqueue(&self, tasks: usize, batch: usize) -> BrokerResult<()> {
        self.run(move |file| {
            for from in (0..tasks).step_by(batch) {
                file.transact(|file, tx| file.put(tx, batch.min(tasks - from)))?;
            }
            Ok(())
        })
        .await
    }

    async fn enqueue_singly(&self, tasks: usize) -> BrokerResult<()> {
        self.enqueue(tasks, 1).await
    }

    async fn drain(&self, tasks: usize, batch: usize) -> BrokerResult<()> {
        self.run(move |file| {
            let (mut held, mut claimed) = (Vec::new(), 0);
            while claimed < tasks || !held.is_empty() {
                let wanted = batch.min(tasks - claimed);
                held = file.transact(|file, tx| {
                    file.settle(tx, &held)?;
                    file.claim(tx, wanted)
                })?;
                claimed += held.len();
            }
            Ok(())
        })
        .await
    }

    /// One file has one writer: what is at once elsewhere shares a transaction here.
    async fn steady(&self, tasks: usize, batch: usize) -> BrokerResult<()> {
        self.run(move |file| {
            let (mut held, mut put, mut claimed) = (Vec::new(), 0, 0);
            while claimed < tasks || !held.is_empty() {
                let (more, wanted) = (batch.min(tasks - put), batch.min(tasks - claimed));
                held = file.transact(|file, tx| {
                    file.put(tx, more)?;
                    file.settle(tx, &held)?;
                    file.claim(tx, wanted)
                })?;
                put += more;
                claimed += held.len();
            }
            Ok(())
        })
        .await
    }

    /// Another broker on the same file is another program to the first one.
    async fn push(&self, task: &Task) -> BrokerResult<()> {
        let answers = self.other.enqueue(std::slice::from_ref(task)).await?;
        match answers.into_iter().next() {
            Some(Err(refusal)) => Err(BrokerError::Refused {
                doing: DOING,
                source: Box::new(refusal),
            }),
            _ => Ok(()),
        }
    }

    async fn usage(&self) -> BrokerResult<Option<StoreUsage>> {
        Ok(None)
    }
}

/// The connection and what its statements are given.
struct File {
    link: Option<Connection>,
    like: Task,
    made: u64,
}

/// What a settlement names: id and number of the claim.
type Held = (String, i64);

impl File {
    fn open(path: &Path, like: Task) -> rusqlite::Result<Self> {
        let link = Connection::open(path)?;
        link.pragma_update(None, "synchronous", "FULL")?;
        link.busy_timeout(BUSY)?;
        Ok(Self {
            link: Some(link),
            like,
            made: 0,
        })
    }

    fn transact<T>(
        &mut self,
        work: impl FnOnce(&mut Self, &Transaction<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        // Taken out for the time, because the rest of `self` changes meanwhile.
        let mut link = self.link.take().ok_or(rusqlite::Error::InvalidQuery)?;
        let done = link
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .and_then(|tx| {
                let value = work(self, &tx)?;
                tx.commit()?;
                Ok(value)
            });
        self.link = Some(link);
        done
    }

    fn put(&mut self, tx: &Transaction<'_>, tasks: usize) -> rusqlite::Result<()> {
        let queue = self.like.queue.as_str();
        let (timeout, deadline) = self.like.stored_limits();
        let mut insert = tx.prepare_cached(
            "INSERT INTO tasks (queue, id, kind, payload, state, at, pending_since, max_retry, timeout_s, \
                 deadline_s, retention_s) VALUES (?, ?, ?, ?, 'pending', ?, ?, ?, ?, ?, 0)",
        )?;
        for _ in 0..tasks {
            self.made += 1;
            let id = Uuid::from_u64_pair(self.made.wrapping_mul(0x9e37_79b9_7f4a_7c15), self.made);
            insert.execute(params![
                queue,
                &*id.hyphenated().encode_lower(&mut Uuid::encode_buffer()),
                self.like.kind,
                self.like.payload.as_deref().unwrap_or_default(),
                self.made.cast_signed(),
                LEASE,
                self.like.max_retry,
                timeout.cast_signed(),
                deadline,
            ])?;
        }
        sums(tx, queue, [count(tasks), 0, 0])
    }

    fn claim(&self, tx: &Transaction<'_>, wanted: usize) -> rusqlite::Result<Vec<Held>> {
        let queue = self.like.queue.as_str();
        let mut first = tx.prepare_cached(
            "SELECT seq, run, id, kind, payload, max_retry, retried, timeout_s, deadline_s, retention_s, \
                 unique_key, group_name, headers FROM tasks \
             WHERE queue = ?1 AND state = 'pending' ORDER BY at, seq LIMIT ?2",
        )?;
        let (mut held, mut seqs) = (Vec::with_capacity(wanted), Vec::<i64>::with_capacity(wanted));
        let mut rows = first.query(params![queue, count(wanted)])?;
        while let Some(row) = rows.next()? {
            // A claim hands all of a task over.
            let (_kind, _payload): (String, Vec<u8>) = (row.get(3)?, row.get(4)?);
            seqs.push(row.get(0)?);
            held.push((row.get(2)?, row.get::<_, i64>(1)? + 1));
        }
        let mut claim = tx.prepare_cached(
            "UPDATE tasks SET state = 'active', at = ?1, run = ?2, pending_since = NULL WHERE seq = ?3",
        )?;
        for (seq, (_, run)) in seqs.iter().zip(&held) {
            claim.execute(params![LEASE, run, seq])?;
        }
        let n = count(held.len());
        sums(tx, queue, [-n, n, 0])?;
        Ok(held)
    }

    fn settle(&self, tx: &Transaction<'_>, held: &[Held]) -> rusqlite::Result<()> {
        let queue = self.like.queue.as_str();
        let mut done =
            tx.prepare_cached("DELETE FROM tasks WHERE queue = ? AND id = ? AND run = ? AND state = 'active'")?;
        for (id, run) in held {
            done.execute(params![queue, id, run])?;
        }
        let n = count(held.len());
        sums(tx, queue, [0, -n, n])?;
        tx.prepare_cached(
            "INSERT INTO day_counts (day, queue, processed, failed) VALUES (0, ?1, ?2, 0) \
             ON CONFLICT (day, queue) DO UPDATE SET processed = processed + excluded.processed",
        )?
        .execute(params![queue, n])?;
        Ok(())
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Adds to the counts of pending, active and processed tasks.
fn sums(tx: &Transaction<'_>, queue: &str, [pending, active, processed]: [i64; 3]) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "INSERT INTO queues (name, pending, active, processed) VALUES (?, ?, ?, ?) \
         ON CONFLICT (name) DO UPDATE SET pending = pending + excluded.pending, \
             active = active + excluded.active, processed = processed + excluded.processed",
    )?
    .execute(params![queue, pending, active, processed])?;
    Ok(())
}
