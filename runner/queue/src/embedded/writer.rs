//! The one task that writes: whatever queued up while a transaction committed goes into the next one.
//!
//! A transaction costs one sync of the disk however much it holds, so under load the sync is shared, and a
//! single write waits for nobody. Not here: what the writes are; each is a type of its own, by subject.

use std::sync::Arc;

use async_trait::async_trait;
use runner_core::clock::Clock;
use sqlx::pool::PoolConnection;
use sqlx::{Sqlite, SqliteConnection, SqlitePool};
use tokio::sync::{mpsc, oneshot};

use super::rows::micros;
use super::signals::Signals;
use super::store::{shared_error, sql};
use super::tally::Tally;
use crate::{BrokerError, BrokerResult};

/// Writes that may wait; a caller beyond it waits for room.
const WAITING: usize = 1024;

/// Writes in one transaction: enough to make the sync cheap, few enough to commit within milliseconds.
const GROUP: usize = 256;

/// What a write works with: the open transaction, the instant at which it began, and the sums to be kept.
pub(super) struct Tx<'a> {
    /// The connection inside the transaction.
    pub(super) conn: &'a mut SqliteConnection,
    /// The broker's clock when the transaction began, microseconds.
    pub(super) now: i64,
    /// Counts and ends of lists that the transaction changes.
    pub(super) tally: Tally,
}

/// One change of the store, all or nothing.
///
/// `apply` may run twice: when a neighbour in the transaction fails, all of them are tried again alone.
#[async_trait]
pub(super) trait Write: Send + 'static {
    /// What the caller gets once it is committed.
    type Output: Send;
    /// What it does, to be read after "trying to".
    const DOING: &'static str;

    /// Makes the change within the transaction.
    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<Self::Output, sqlx::Error>;
}

/// The way to the writer. The writer ends when the last of these is gone.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    queue: mpsc::Sender<Box<dyn Order>>,
}

impl Writer {
    pub(super) fn start(pool: SqlitePool, clock: Arc<dyn Clock>, signals: Arc<Signals>) -> Self {
        let (queue, orders) = mpsc::channel(WAITING);
        tokio::spawn(write_all(pool, clock, signals, orders));
        Self { queue }
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
        self.queue.send(Box::new(order)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

/// A write of any type, on its way.
#[async_trait]
trait Order: Send {
    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<(), sqlx::Error>;
    fn given_up(&self) -> bool;
    fn finish(self: Box<Self>, failure: Option<&Arc<sqlx::Error>>);
}

struct Waiting<W: Write> {
    what: W,
    output: Option<W::Output>,
    reply: oneshot::Sender<BrokerResult<W::Output>>,
}

#[async_trait]
impl<W: Write> Order for Waiting<W> {
    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<(), sqlx::Error> {
        self.output = Some(self.what.apply(tx).await?);
        Ok(())
    }

    fn given_up(&self) -> bool {
        self.reply.is_closed()
    }

    fn finish(self: Box<Self>, failure: Option<&Arc<sqlx::Error>>) {
        let answer = match (failure, self.output) {
            (None, Some(output)) => Ok(output),
            (Some(cause), _) => Err(shared_error(W::DOING, cause)),
            (None, None) => Err(shared_error(W::DOING, &Arc::new(sqlx::Error::WorkerCrashed))),
        };
        // The caller may have stopped waiting; the change stands all the same.
        drop(self.reply.send(answer));
    }
}

/// Where a group failed: in one of its orders, or as a whole.
enum Failure {
    Order(sqlx::Error),
    Group(sqlx::Error),
}

async fn write_all(
    pool: SqlitePool,
    clock: Arc<dyn Clock>,
    signals: Arc<Signals>,
    mut orders: mpsc::Receiver<Box<dyn Order>>,
) {
    let mut group = Vec::with_capacity(GROUP);
    while orders.recv_many(&mut group, GROUP).await > 0 {
        group.retain(|order| !order.given_up());
        match commit(&pool, &*clock, &signals, &mut group).await {
            Ok(()) => finish(group.drain(..), None),
            Err(Failure::Order(_)) if group.len() > 1 => {
                for order in group.drain(..) {
                    let mut alone = [order];
                    let cause = match commit(&pool, &*clock, &signals, &mut alone).await {
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
    pool.close().await;
}

fn finish(orders: impl IntoIterator<Item = Box<dyn Order>>, failure: Option<&Arc<sqlx::Error>>) {
    for order in orders {
        order.finish(failure);
    }
}

async fn commit(
    pool: &SqlitePool,
    clock: &dyn Clock,
    signals: &Signals,
    group: &mut [Box<dyn Order>],
) -> Result<(), Failure> {
    if group.is_empty() {
        return Ok(());
    }
    let mut conn = pool.acquire().await.map_err(Failure::Group)?;
    let done = transact(&mut conn, clock, group).await;
    if done.is_err() {
        undo(conn).await;
    }
    if done? {
        signals.wake();
    }
    Ok(())
}

/// Begin, apply, commit; whether anything became claimable.
///
/// The words are sent as they are: SQLite ends a transaction by itself when the disk is full, and a wrapper
/// that counts begins and ends would then count wrong for ever.
async fn transact(
    conn: &mut SqliteConnection,
    clock: &dyn Clock,
    group: &mut [Box<dyn Order>],
) -> Result<bool, Failure> {
    say(conn, "BEGIN IMMEDIATE").await?;
    let now = micros(clock.now());
    let tally = Tally::default();
    let mut tx = Tx { conn, now, tally };
    for order in group.iter_mut() {
        order.apply(&mut tx).await.map_err(Failure::Order)?;
    }
    let Tx { conn, tally, .. } = tx;
    let wakes = tally.wakes();
    tally.keep(conn, now).await.map_err(Failure::Group)?;
    say(conn, "COMMIT").await?;
    Ok(wakes)
}

async fn say(conn: &mut SqliteConnection, word: &'static str) -> Result<(), Failure> {
    let said = sql(word).execute(conn).await;
    said.map(drop).map_err(Failure::Group)
}

/// Takes back what a failed transaction did. That SQLite has none to take back any more is no failure; a
/// connection that does not answer is closed, and the pool opens another one.
async fn undo(mut conn: PoolConnection<Sqlite>) {
    match sql("ROLLBACK").execute(&mut *conn).await {
        Ok(_) | Err(sqlx::Error::Database(_)) => {}
        Err(cause) => {
            tracing::warn!(error = %cause, "the connection that writes is given up");
            if let Err(error) = conn.close().await {
                tracing::warn!(%error, "it did not close in order");
            }
        }
    }
}
