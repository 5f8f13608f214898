//! The upper bound for one SQLite file on this disk: only the rows and sums that a task needs, prepared statements, one
//! connection, one sync per transaction.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use runner_core::clock::Clock;
use runner_core::task::Task;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use uuid::{Builder, Uuid};

use super::EmbeddedBroker;
use super::rows::micros;
use crate::{BrokerError, BrokerResult, Ceiling};

/// How long a statement waits for the lock of another connection.
const BUSY: Duration = Duration::from_secs(5);

/// Lease of a claim in microseconds; the measurement never waits for its end. After an aborted measurement its tasks are
/// recovered once it is over.
const LEASE: i64 = 2 * 1_000_000;

const DOING: &str = "measure what its file can do at best";

/// One queue of one file, on a separate connection.
pub struct EmbeddedCeiling {
    file: Arc<Mutex<File>>,
}

impl std::fmt::Debug for EmbeddedCeiling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedCeiling").finish_non_exhaustive()
    }
}

impl EmbeddedBroker {
    /// Prepares a measurement with tasks like this one, on its queue.
    ///
    /// # Errors
    ///
    /// If the file cannot be used.
    pub async fn ceiling(&self, like: &Task) -> BrokerResult<EmbeddedCeiling> {
        let file = File::open(&self.path, like.clone(), Arc::clone(&self.clock)).map_err(failed)?;
        Ok(EmbeddedCeiling {
            file: Arc::new(Mutex::new(file)),
        })
    }
}

fn failed(cause: rusqlite::Error) -> BrokerError {
    BrokerError::Unreachable {
        doing: DOING,
        source: Box::new(cause),
    }
}

/// Stops the working thread when its caller is gone.
struct StopFlag(Arc<AtomicBool>);

impl Drop for StopFlag {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl EmbeddedCeiling {
    /// Runs on a blocking thread. Ends after the current transaction when the caller gives up.
    async fn run(&self, work: impl FnOnce(&mut File) -> rusqlite::Result<()> + Send + 'static) -> BrokerResult<()> {
        let file = Arc::clone(&self.file);
        let asked = StopFlag(Arc::default());
        let given_up = Arc::clone(&asked.0);
        let done = tokio::task::spawn_blocking(move || {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            file.given_up = given_up;
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
    /// The larger size is what the writer commits at once when several producers send batches.
    fn batches(&self) -> &'static [usize] {
        &[64, 1024]
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
                claimed += progress(&held, wanted)?;
            }
            Ok(())
        })
        .await
    }

    /// One file has one writer: operations that run in parallel elsewhere share a transaction here.
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
                claimed += progress(&held, wanted)?;
            }
            Ok(())
        })
        .await
    }
}

/// The connection and the parameters of its statements.
pub(super) struct File {
    link: Option<Connection>,
    like: Task,
    clock: Arc<dyn Clock>,
    made: u64,
    given_up: Arc<AtomicBool>,
}

/// What a settlement needs: id and run of the claim.
pub(super) type CeilingClaim = (String, i64);

impl File {
    pub(super) fn open(path: &Path, like: Task, clock: Arc<dyn Clock>) -> rusqlite::Result<Self> {
        let link = Connection::open(path)?;
        link.pragma_update(None, "synchronous", "FULL")?;
        link.busy_timeout(BUSY)?;
        Ok(Self {
            link: Some(link),
            like,
            clock,
            made: 0,
            given_up: Arc::default(),
        })
    }

    pub(super) fn transact<T>(
        &mut self,
        work: impl FnOnce(&mut Self, &Transaction<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        if self.given_up.load(Ordering::Relaxed) {
            let stopped = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_INTERRUPT);
            return Err(rusqlite::Error::SqliteFailure(stopped, None));
        }
        // Taken out while the rest of `self` changes.
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

    fn now(&self) -> i64 {
        micros(self.clock.now())
    }

    /// As long as a real id, and sorted by time like one.
    fn id(&self, now: i64) -> Uuid {
        let mut number = [0; 10];
        number[2..].copy_from_slice(&self.made.to_be_bytes());
        let millis = u64::try_from(now.div_euclid(1_000)).unwrap_or(0);
        Builder::from_unix_timestamp_millis(millis, &number).into_uuid()
    }

    pub(super) fn put(&mut self, tx: &Transaction<'_>, tasks: usize) -> rusqlite::Result<()> {
        let now = self.now();
        let queue = self.like.queue.as_str();
        let (timeout, deadline) = self.like.stored_limits();
        let mut insert = tx.prepare_cached(
            "INSERT INTO tasks (queue, id, kind, payload, state, at, pending_since, max_retry, timeout_s, \
                 deadline_s, retention_s) VALUES (?, ?, ?, ?, 'pending', ?, ?, ?, ?, ?, 0)",
        )?;
        for _ in 0..tasks {
            self.made += 1;
            insert.execute(params![
                queue,
                &*self.id(now).hyphenated().encode_lower(&mut Uuid::encode_buffer()),
                self.like.kind,
                self.like.payload.as_deref().unwrap_or_default(),
                self.made.cast_signed(),
                now,
                self.like.max_retry,
                timeout.cast_signed(),
                deadline,
            ])?;
        }
        sums(tx, queue, [count(tasks), 0, 0])
    }

    pub(super) fn claim(&self, tx: &Transaction<'_>, wanted: usize) -> rusqlite::Result<Vec<CeilingClaim>> {
        let queue = self.like.queue.as_str();
        let mut first = tx.prepare_cached(
            "SELECT seq, run, id, kind, payload, max_retry, retried, timeout_s, deadline_s, retention_s, \
                 unique_key, group_name, headers FROM tasks \
             WHERE queue = ?1 AND state = 'pending' ORDER BY at, seq LIMIT ?2",
        )?;
        let (mut held, mut seqs) = (Vec::with_capacity(wanted), Vec::<i64>::with_capacity(wanted));
        let mut rows = first.query(params![queue, count(wanted)])?;
        while let Some(row) = rows.next()? {
            // A claim returns the whole task.
            let (_kind, _payload): (String, Vec<u8>) = (row.get(3)?, row.get(4)?);
            seqs.push(row.get(0)?);
            held.push((row.get(2)?, row.get::<_, i64>(1)? + 1));
        }
        let mut claim = tx.prepare_cached(
            "UPDATE tasks SET state = 'active', at = ?1, run = ?2, pending_since = NULL WHERE seq = ?3",
        )?;
        let until = self.now().saturating_add(LEASE);
        for (seq, (_, run)) in seqs.iter().zip(&held) {
            claim.execute(params![until, run, seq])?;
        }
        let n = count(held.len());
        sums(tx, queue, [-n, n, 0])?;
        Ok(held)
    }

    fn settle(&self, tx: &Transaction<'_>, held: &[CeilingClaim]) -> rusqlite::Result<()> {
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

/// The number of claimed tasks; an error for none, because then another process took them and waiting for them would
/// never end.
fn progress(held: &[CeilingClaim], wanted: usize) -> rusqlite::Result<usize> {
    if held.is_empty() && wanted > 0 {
        return Err(rusqlite::Error::QueryReturnedNoRows);
    }
    Ok(held.len())
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
