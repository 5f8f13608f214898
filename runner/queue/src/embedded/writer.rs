//! The only thread that writes: whatever queues up while a transaction commits goes into the next one.
//!
//! A transaction costs one sync of the disk however much it holds, so under load the sync is shared, and a
//! single write does not wait for others. Not here: the writes themselves; each is a function in its subject's file.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use runner_core::clock::Clock;
use rusqlite::{Connection, ErrorCode};
use tokio::sync::{mpsc, oneshot};

use super::connection::{self, Statements as _};
use super::error::{SqlError, shared_error};
use super::file_size::WalGuard;
use super::health::FileHealth;
use super::rows::micros;
use super::tally::{News, Tally};
use super::turn::{self, WriteTurns};
use super::wakeups::Wakeups;
use crate::{BrokerError, BrokerResult};

/// Writes that may queue up; further callers wait for room.
const WAITING: usize = 1024;

/// Writes in one transaction: enough to make the sync cheap, few enough to commit within milliseconds.
const GROUP: usize = 256;

/// The context of a write: the open transaction, the instant at which it began, and its sums.
pub(super) struct Tx<'a> {
    /// The connection inside the transaction.
    pub(super) conn: &'a Connection,
    /// The broker's clock when the transaction began, microseconds.
    pub(super) now: i64,
    /// Counts and list ends that the transaction changes.
    pub(super) tally: Tally,
    /// Records deleted to respect limits.
    pub(super) trimmed: u64,
}

/// The handle of the writer thread, which ends when the last handle is dropped.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    queue: mpsc::Sender<Message>,
}

/// Requests to the thread.
enum Message {
    Write(Box<dyn QueuedChange>),
    /// Merges the log into the file and ends.
    Close(oneshot::Sender<()>),
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(
        conn: Connection,
        path: PathBuf,
        health: Arc<FileHealth>,
        clock: Arc<dyn Clock>,
        wakeups: Arc<Wakeups>,
        trimmed: Arc<AtomicU64>,
    ) -> std::io::Result<Self> {
        let (queue, messages) = mpsc::channel(WAITING);
        conn.busy_handler(Some(turn::wait_for_lock))
            .map_err(std::io::Error::other)?;
        let thread = WriterThread {
            conn,
            log: WalGuard::of(&path),
            turns: WriteTurns::of(&path),
            path,
            health,
            clock,
            wakeups,
            trimmed,
            syncs: true,
        };
        std::thread::Builder::new()
            .name("queue-writer".to_owned())
            .spawn(move || thread.run(messages))?;
        Ok(Self { queue })
    }

    /// Ends the thread, with everything in the one file and no log beside it.
    pub(super) async fn close(&self) {
        let (reply, done) = oneshot::channel();
        if self.queue.send(Message::Close(reply)).await.is_ok() {
            // A closed channel also means that the thread has ended.
            drop(done.await);
        }
    }

    /// Submits a change and waits until it is on the disk. `doing` completes "trying to".
    ///
    /// `change` must be all or nothing. It may run twice, and may panic: when another change in the transaction fails,
    /// all of them are retried one by one.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        doing: &'static str,
        change: impl FnMut(&mut Tx<'_>) -> Result<T, SqlError> + Send + 'static,
    ) -> BrokerResult<T> {
        self.submit(doing, true, change).await
    }

    /// The same without waiting for the disk: for changes that a power cut may undo without harm, such as a claim whose
    /// worker dies with the power.
    pub(super) async fn write_unsynced<T: Send + 'static>(
        &self,
        doing: &'static str,
        change: impl FnMut(&mut Tx<'_>) -> Result<T, SqlError> + Send + 'static,
    ) -> BrokerResult<T> {
        self.submit(doing, false, change).await
    }

    async fn submit<T: Send + 'static>(
        &self,
        doing: &'static str,
        durable: bool,
        change: impl FnMut(&mut Tx<'_>) -> Result<T, SqlError> + Send + 'static,
    ) -> BrokerResult<T> {
        let gone = || BrokerError::Unreachable {
            doing,
            source: "the writer of the file has ended".into(),
        };
        let (reply, answer) = oneshot::channel();
        let change = Change {
            doing,
            durable,
            change,
            output: None,
            reply,
        };
        // A full channel makes callers wait here: the queue of writes, and with it the memory, is bounded.
        let message = Message::Write(Box::new(change));
        self.queue.send(message).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

/// A change of any type, in the queue.
trait QueuedChange: Send {
    fn apply(&mut self, tx: &mut Tx<'_>) -> Result<(), SqlError>;
    fn is_abandoned(&self) -> bool;
    fn is_durable(&self) -> bool;
    fn finish(self: Box<Self>, failure: Option<&Arc<SqlError>>);
}

struct Change<T, F> {
    doing: &'static str,
    durable: bool,
    change: F,
    /// From the last time that it was applied.
    output: Option<T>,
    reply: oneshot::Sender<BrokerResult<T>>,
}

impl<T: Send, F: FnMut(&mut Tx<'_>) -> Result<T, SqlError> + Send> QueuedChange for Change<T, F> {
    fn apply(&mut self, tx: &mut Tx<'_>) -> Result<(), SqlError> {
        self.output = Some((self.change)(tx)?);
        Ok(())
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn is_durable(&self) -> bool {
        self.durable
    }

    fn finish(self: Box<Self>, failure: Option<&Arc<SqlError>>) {
        let answer = match (failure, self.output) {
            (None, Some(output)) => Ok(output),
            (Some(cause), _) => Err(shared_error(self.doing, cause)),
            (None, None) => Err(shared_error(
                self.doing,
                &Arc::new(SqlError::Unavailable("the writer forgot an answer")),
            )),
        };
        // The caller may have stopped waiting; the change is committed anyway.
        drop(self.reply.send(answer));
    }
}

/// Where a group failed: in one of its changes, or as a whole.
enum Failure {
    Change(SqlError),
    Group(SqlError),
}

impl Failure {
    fn is_full(&self) -> bool {
        let (Self::Change(error) | Self::Group(error)) = self;
        error.code() == Some(ErrorCode::DiskFull)
    }
}

/// The state of the thread. Only this thread holds the writing connection, so nothing in here needs a lock.
struct WriterThread {
    conn: Connection,
    path: PathBuf,
    log: WalGuard,
    turns: WriteTurns,
    health: Arc<FileHealth>,
    clock: Arc<dyn Clock>,
    wakeups: Arc<Wakeups>,
    /// Records deleted to respect limits, not yet reported.
    trimmed: Arc<AtomicU64>,
    /// Whether the connection syncs at each commit.
    syncs: bool,
}

impl WriterThread {
    /// Group commit. While one transaction is written and synced, callers keep queueing; everything queued by then, up
    /// to [`GROUP`], becomes the next transaction. A single write is never delayed to wait for others.
    ///
    /// Changes are applied in the order in which they arrived, and a caller is answered only after its transaction
    /// committed: an answer never announces what a crash could undo, except for writes that asked for no sync.
    fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        let (mut some, mut group) = (Vec::with_capacity(GROUP), Vec::with_capacity(GROUP));
        let mut closing = None;
        while closing.is_none() && messages.blocking_recv_many(&mut some, GROUP) > 0 {
            for message in some.drain(..) {
                match message {
                    // Its caller is gone: skipping it is as good as losing the race, and saves the work.
                    Message::Write(change) if !change.is_abandoned() => group.push(change),
                    Message::Write(_) => {}
                    Message::Close(reply) => closing = Some(reply),
                }
            }
            self.write(&mut group);
            self.log.check(&self.conn);
        }
        // Later callers get an error at once, instead of waiting for an answer.
        drop(messages);
        if let Some(reply) = closing {
            if let Err(error) = self.conn.value::<i64>("PRAGMA wal_checkpoint(TRUNCATE)", []) {
                tracing::warn!(%error, "the write-ahead log could not be merged into the file; keep both");
            }
            // Closes the connection before the answer: the caller may copy or remove the file then.
            drop(self);
            // The caller may have stopped waiting.
            reply.send(()).unwrap_or(());
        }
    }

    /// Commits a group and answers its callers. If one of several changes fails, the whole transaction is rolled back
    /// and each change gets its own transaction, so that it fails or succeeds by itself.
    fn write(&mut self, group: &mut Vec<Box<dyn QueuedChange>>) {
        let mut done = self.commit(group);
        if done.as_ref().is_err_and(Failure::is_full) && self.log.truncate(&self.conn) {
            // The content of the log was on the disk twice; there may be room now.
            done = self.commit(group);
        }
        match done {
            Ok(()) => finish(group.drain(..), None),
            Err(Failure::Change(_)) if group.len() > 1 => {
                for change in group.drain(..) {
                    let mut single = [change];
                    let cause = match self.commit(&mut single) {
                        Ok(()) => None,
                        Err(Failure::Change(e) | Failure::Group(e)) => Some(Arc::new(e)),
                    };
                    finish(single, cause.as_ref());
                }
            }
            Err(Failure::Change(e) | Failure::Group(e)) => {
                finish(group.drain(..), Some(&Arc::new(e)));
            }
        }
    }

    /// One transaction for all changes of the group. On failure nothing of it is left, and the connection is outside a
    /// transaction again. Waiters are woken only after the commit: woken earlier they would look and find nothing.
    fn commit(&mut self, group: &mut [Box<dyn QueuedChange>]) -> Result<(), Failure> {
        if group.is_empty() {
            return Ok(());
        }
        // Before every transaction: a commit into a file that was moved or deleted would be lost.
        self.health.check_in_place().map_err(Failure::Group)?;
        // One that needs the disk makes the whole transaction sync; the others lose nothing by that.
        self.sync_if(group.iter().any(|change| change.is_durable()))?;
        // Unwind safe: after a panic the transaction is rolled back and the changes are not used again.
        let done = catch_unwind(AssertUnwindSafe(|| self.transact(group)));
        let done = done.unwrap_or(Err(Failure::Change(SqlError::Panicked)));
        if let Err(Failure::Change(error) | Failure::Group(error)) = &done {
            self.health.note_error(error);
            self.undo();
        }
        let news = done?;
        self.health.note_write();
        self.wakeups.wake(news.work);
        if news.delayed {
            self.wakeups.delayed();
        }
        Ok(())
    }

    fn sync_if(&mut self, durable: bool) -> Result<(), Failure> {
        if self.syncs != durable {
            self.exec(if durable {
                "PRAGMA synchronous = FULL"
            } else {
                "PRAGMA synchronous = NORMAL"
            })?;
            self.syncs = durable;
        }
        Ok(())
    }

    /// Begin, apply, commit. Returns the wake-ups to send.
    ///
    /// Plain statements instead of a transaction wrapper: SQLite itself ends a transaction when the disk is full, and a
    /// wrapper that counts begins and ends would be wrong from then on.
    fn transact(&mut self, group: &mut [Box<dyn QueuedChange>]) -> Result<News, Failure> {
        // Immediate: the write lock is taken now or not at all. A transaction that reads first and upgrades later could
        // find that another process has written in between, and would have to start over.
        let turn = self.turns.take();
        let begun = self.conn.exec("BEGIN IMMEDIATE", []);
        // Not longer: the next process takes its turn while this one writes, and no process can skip it.
        drop(turn);
        begun.map_err(Failure::Group)?;
        let mut tx = Tx {
            conn: &self.conn,
            // One instant for all changes of the transaction: they become visible together.
            now: micros(self.clock.now()),
            tally: Tally::default(),
            trimmed: 0,
        };
        for change in group.iter_mut() {
            change.apply(&mut tx).map_err(Failure::Change)?;
        }
        // The sums come last: only now are all moves known.
        let news = tx.tally.news();
        tx.tally.write(tx.conn, tx.now).map_err(Failure::Group)?;
        self.exec("COMMIT")?;
        // Only after the commit, so that rolled back deletions are not reported.
        self.trimmed.fetch_add(tx.trimmed, Ordering::Relaxed);
        Ok(news)
    }

    fn exec(&self, text: &str) -> Result<(), Failure> {
        self.conn.exec(text, []).map(drop).map_err(Failure::Group)
    }

    /// Rolls back a failed transaction, unless SQLite has done so already. If that fails, the connection is unusable
    /// and is replaced.
    fn undo(&mut self) {
        if self.conn.is_autocommit() || self.exec("ROLLBACK").is_ok() {
            return;
        }
        tracing::warn!("rolling back failed; opening a new connection for writes");
        match connection::open(&self.path) {
            Ok(conn) => {
                // Fails only on a connection that is closed.
                conn.busy_handler(Some(turn::wait_for_lock)).unwrap_or(());
                (self.conn, self.syncs) = (conn, true);
            }
            Err(error) => tracing::warn!(%error, "no new connection for writes yet"),
        }
    }
}

fn finish(changes: impl IntoIterator<Item = Box<dyn QueuedChange>>, failure: Option<&Arc<SqlError>>) {
    for change in changes {
        change.finish(failure);
    }
}
