//! The one thread that writes: whatever queued up while a transaction committed goes into the next one.
//!
//! A transaction costs one sync of the disk however much it holds, so under load the sync is shared, and a
//! single write waits for nobody. Not here: what the writes are; each is a type of its own, by subject.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use runner_core::clock::Clock;
use tokio::sync::{mpsc, oneshot};

use super::condition::Condition;
use super::link::{Link, SqlError, sql};
use super::rows::micros;
use super::signals::Signals;
use super::store::shared_error;
use super::tally::{News, Tally};
use super::upkeep::Log;
use crate::{BrokerError, BrokerResult};

/// Writes that may wait; a caller beyond it waits for room.
const WAITING: usize = 1024;

/// Writes in one transaction: enough to make the sync cheap, few enough to commit within milliseconds.
const GROUP: usize = 256;

/// What a write works with: the open transaction, the instant at which it began, and the sums to be kept.
pub(super) struct Tx<'a> {
    /// The connection inside the transaction.
    pub(super) conn: &'a mut Link,
    /// The broker's clock when the transaction began, microseconds.
    pub(super) now: i64,
    /// Counts and ends of lists that the transaction changes.
    pub(super) tally: Tally,
    /// Records that it deletes because there is a bound on their number.
    pub(super) trimmed: u64,
}

/// One change of the store, all or nothing.
///
/// `apply` may run twice, and may panic: when a neighbour in the transaction fails, all of them are tried again alone.
#[async_trait]
pub(super) trait Write: Send + 'static {
    /// What the caller gets once it is committed.
    type Output: Send;
    /// What it does, to be read after "trying to".
    const DOING: &'static str;
    /// Whether it must be on the disk before the caller hears of it. What a power cut may undo without harm, such as
    /// a claim whose worker is gone with the power, does without the sync.
    const DURABLE: bool = true;

    /// Makes the change within the transaction.
    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<Self::Output, SqlError>;
}

/// The way to the writer. The writer ends when the last of these is gone.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    queue: mpsc::Sender<Asked>,
}

/// What the thread is asked to do.
enum Asked {
    Write(Box<dyn Order>),
    /// Puts everything into the one file and ends.
    Close(oneshot::Sender<()>),
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(
        link: Link,
        path: PathBuf,
        condition: Arc<Condition>,
        clock: Arc<dyn Clock>,
        signals: Arc<Signals>,
        trimmed: Arc<AtomicU64>,
    ) -> std::io::Result<Self> {
        let (queue, asked) = mpsc::channel(WAITING);
        // Statements hold up this thread; only the wait for orders is a wait of the runtime.
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let desk = Desk {
            link,
            log: Log::of(&path),
            path,
            condition,
            clock,
            signals,
            trimmed,
            syncs: true,
        };
        std::thread::Builder::new()
            .name("queue-writer".to_owned())
            .spawn(move || runtime.block_on(desk.write_all(asked)))?;
        Ok(Self { queue })
    }

    /// Ends the thread, with everything in the one file and nothing beside it.
    pub(super) async fn close(&self) {
        let (reply, done) = oneshot::channel();
        if self.queue.send(Asked::Close(reply)).await.is_ok() {
            // Without an answer it has ended all the same.
            drop(done.await);
        }
    }

    /// Hands a change over and waits until it is on the disk.
    pub(super) async fn write<W: Write>(&self, what: W) -> BrokerResult<W::Output> {
        let gone = || BrokerError::Unreachable {
            doing: W::DOING,
            source: "the writer of the file has ended".into(),
        };
        let (reply, answer) = oneshot::channel();
        let order = Waiting {
            what,
            output: None,
            reply,
        };
        self.queue
            .send(Asked::Write(Box::new(order)))
            .await
            .map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

/// A write of any type, on its way.
#[async_trait]
trait Order: Send {
    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<(), SqlError>;
    fn given_up(&self) -> bool;
    fn is_durable(&self) -> bool;
    fn finish(self: Box<Self>, failure: Option<&Arc<SqlError>>);
}

struct Waiting<W: Write> {
    what: W,
    output: Option<W::Output>,
    reply: oneshot::Sender<BrokerResult<W::Output>>,
}

#[async_trait]
impl<W: Write> Order for Waiting<W> {
    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<(), SqlError> {
        self.output = Some(self.what.apply(tx).await?);
        Ok(())
    }

    fn given_up(&self) -> bool {
        self.reply.is_closed()
    }

    fn is_durable(&self) -> bool {
        W::DURABLE
    }

    fn finish(self: Box<Self>, failure: Option<&Arc<SqlError>>) {
        let answer = match (failure, self.output) {
            (None, Some(output)) => Ok(output),
            (Some(cause), _) => Err(shared_error(W::DOING, cause)),
            (None, None) => Err(shared_error(
                W::DOING,
                &Arc::new(SqlError::Gone("the writer forgot an answer")),
            )),
        };
        // The caller may have stopped waiting; the change stands all the same.
        drop(self.reply.send(answer));
    }
}

/// Where a group failed: in one of its orders, or as a whole.
enum Failure {
    Order(SqlError),
    Group(SqlError),
}

impl Failure {
    /// Whether the disk was full.
    fn is_full(&self) -> bool {
        let (Self::Order(error) | Self::Group(error)) = self;
        matches!(error, SqlError::Sqlite(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull))
    }
}

/// What the thread works with.
struct Desk {
    link: Link,
    path: PathBuf,
    log: Log,
    condition: Arc<Condition>,
    clock: Arc<dyn Clock>,
    signals: Arc<Signals>,
    /// Records that were deleted because there is a bound on their number, until somebody asks.
    trimmed: Arc<AtomicU64>,
    /// Whether the connection syncs at each commit.
    syncs: bool,
}

impl Desk {
    async fn write_all(mut self, mut asked: mpsc::Receiver<Asked>) {
        let (mut some, mut group) = (Vec::with_capacity(GROUP), Vec::with_capacity(GROUP));
        let mut closing = None;
        while closing.is_none() && asked.recv_many(&mut some, GROUP).await > 0 {
            for asked in some.drain(..) {
                match asked {
                    Asked::Write(order) if !order.given_up() => group.push(order),
                    Asked::Write(_) => {}
                    Asked::Close(reply) => closing = Some(reply),
                }
            }
            self.write(&mut group).await;
            self.log.look(&self.link);
        }
        drop(asked);
        if let Some(reply) = closing {
            if let Err(error) = self.link.ask(&sql("PRAGMA wal_checkpoint(TRUNCATE)")) {
                tracing::warn!(%error, "the file could not be tidied; what is beside it belongs to it");
            }
            drop(self);
            // Whoever asked may have stopped waiting.
            reply.send(()).unwrap_or(());
        }
    }

    async fn write(&mut self, group: &mut Vec<Box<dyn Order>>) {
        let mut done = self.commit(group).await;
        if done.as_ref().is_err_and(Failure::is_full) && self.log.cut(&self.link) {
            // What was in the log lay on the disk twice; there may be room now.
            done = self.commit(group).await;
        }
        match done {
            Ok(()) => finish(group.drain(..), None),
            Err(Failure::Order(_)) if group.len() > 1 => {
                for order in group.drain(..) {
                    let mut alone = [order];
                    let cause = match self.commit(&mut alone).await {
                        Ok(()) => None,
                        Err(Failure::Order(e) | Failure::Group(e)) => Some(Arc::new(e)),
                    };
                    finish(alone, cause.as_ref());
                }
            }
            Err(Failure::Order(e) | Failure::Group(e)) => {
                finish(group.drain(..), Some(&Arc::new(e)));
            }
        }
    }

    async fn commit(&mut self, group: &mut [Box<dyn Order>]) -> Result<(), Failure> {
        if group.is_empty() {
            return Ok(());
        }
        self.condition.in_place().map_err(Failure::Group)?;
        self.sync_if(group.iter().any(|order| order.is_durable()))?;
        let done = AssertUnwindSafe(self.transact(group)).catch_unwind().await;
        let done = done.unwrap_or(Err(Failure::Order(SqlError::Panicked)));
        if let Err(Failure::Order(error) | Failure::Group(error)) = &done {
            self.condition.met(error);
            self.undo();
        }
        let news = done?;
        self.condition.wrote();
        self.signals.wake(news.work);
        if news.delayed {
            self.signals.delayed();
        }
        Ok(())
    }

    fn sync_if(&mut self, durable: bool) -> Result<(), Failure> {
        if self.syncs != durable {
            self.say(if durable {
                "PRAGMA synchronous = FULL"
            } else {
                "PRAGMA synchronous = NORMAL"
            })?;
            self.syncs = durable;
        }
        Ok(())
    }

    /// Begin, apply, commit; what others want to hear of.
    ///
    /// The words are sent as they are: SQLite ends a transaction by itself when the disk is full, and a wrapper
    /// that counts begins and ends would then count wrong for ever.
    async fn transact(&mut self, group: &mut [Box<dyn Order>]) -> Result<News, Failure> {
        self.say("BEGIN IMMEDIATE")?;
        let now = micros(self.clock.now());
        let (conn, tally) = (&mut self.link, Tally::default());
        let mut tx = Tx {
            conn,
            now,
            tally,
            trimmed: 0,
        };
        for order in group.iter_mut() {
            order.apply(&mut tx).await.map_err(Failure::Order)?;
        }
        let Tx {
            conn, tally, trimmed, ..
        } = tx;
        let news = tally.news();
        tally.keep(conn, now).await.map_err(Failure::Group)?;
        self.say("COMMIT")?;
        self.trimmed.fetch_add(trimmed, Ordering::Relaxed);
        Ok(news)
    }

    fn say(&self, word: &'static str) -> Result<(), Failure> {
        self.link.ask(&sql(word)).map(drop).map_err(Failure::Group)
    }

    /// Takes back what a failed transaction did, unless SQLite has done so already. A connection that cannot is
    /// given up for another one.
    fn undo(&mut self) {
        if !self.link.is_in_transaction() || self.say("ROLLBACK").is_ok() {
            return;
        }
        tracing::warn!("the connection that writes is given up");
        match Link::open(&self.path) {
            Ok(link) => (self.link, self.syncs) = (link, true),
            Err(error) => tracing::warn!(%error, "there is no other one yet"),
        }
    }
}

fn finish(orders: impl IntoIterator<Item = Box<dyn Order>>, failure: Option<&Arc<SqlError>>) {
    for order in orders {
        order.finish(failure);
    }
}
