//! Worker processes: they say that they live, and are forgotten when they do not.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::link::SqlError;
use super::readers::Readers;
use super::rows::{json, span, to_json};
use super::store::sql;
use super::writer::{Tx, Write};
use crate::{ServerInfo, ServerView, Working};

fn key(server: &ServerInfo) -> String {
    format!("{}:{}:{}", server.host, server.pid, server.id)
}

/// What this process said of itself last, and how long its claims last: what it holds is extended before each word of
/// life, so for half a lease after one none of its own leases can be over.
#[derive(Debug, Default)]
pub(super) struct Presence(Mutex<(Option<Instant>, Duration)>);

impl Presence {
    fn lock(&self) -> MutexGuard<'_, (Option<Instant>, Duration)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn claims_for(&self, lease: Duration) {
        self.lock().1 = lease;
    }

    /// How long its claims last; zero if it has made none.
    pub(super) fn lease(&self) -> Duration {
        self.lock().1
    }

    pub(super) fn told(&self) {
        self.lock().0 = Some(Instant::now());
    }

    /// Whether it may hold claims that it could not extend lately: after a time in which nothing could be written.
    pub(super) fn is_behind(&self) -> bool {
        let (told, lease) = *self.lock();
        told.is_some_and(|told| !lease.is_zero() && told.elapsed() > lease / 2)
    }
}

/// A word of life.
pub(super) struct Heartbeat {
    pub(super) server: ServerInfo,
    pub(super) working: Vec<Working>,
    pub(super) ttl: Duration,
}

#[async_trait]
impl Write for Heartbeat {
    type Output = ();
    const DOING: &'static str = "tell that this server lives";
    const DURABLE: bool = false;

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<(), SqlError> {
        // A name that stands for several queues is none itself.
        for queue in self.server.queues.keys().filter(|name| !name.contains('*')) {
            tx.tally.known(queue);
        }
        // A server that fell silent does not count as a neighbour: see `others`.
        sql("DELETE FROM servers WHERE expires_at <= ?")
            .bind(tx.now)
            .execute(&mut *tx.conn)
            .await?;
        sql("INSERT OR REPLACE INTO servers (key, info, working, expires_at) VALUES (?, ?, ?, ?)")
            .bind(key(&self.server))
            .bind(to_json(&self.server)?)
            .bind(to_json(&self.working)?)
            .bind(tx.now.saturating_add(span(self.ttl)))
            .execute(&mut *tx.conn)
            .await?;
        Ok(())
    }
}

/// The last word.
pub(super) struct Leave(pub(super) ServerInfo);

#[async_trait]
impl Write for Leave {
    type Output = ();
    const DOING: &'static str = "take this server off the list";

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<(), SqlError> {
        sql("DELETE FROM servers WHERE key = ?")
            .bind(key(&self.0))
            .execute(&mut *tx.conn)
            .await?;
        Ok(())
    }
}

/// Whether another server is listed than this one, even one that fell silent since anybody could write.
pub(super) async fn others(readers: &Readers, server: &ServerInfo) -> Result<bool, SqlError> {
    let row = sql("SELECT EXISTS (SELECT 1 FROM servers WHERE key <> ?)")
        .bind(key(server))
        .fetch_one(readers)
        .await?;
    row.try_get(0)
}

/// Live servers; one that cannot be read is left out.
pub(super) async fn list(readers: &Readers, now: i64) -> Result<Vec<ServerView>, SqlError> {
    let found = sql("SELECT info, working FROM servers WHERE expires_at > ? ORDER BY key")
        .bind(now)
        .fetch_all(readers)
        .await?;
    let mut servers = Vec::with_capacity(found.len());
    for row in &found {
        let (info, working): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        match (json(info), json(working)) {
            (Ok(info), Ok(working)) => servers.push(ServerView { info, working }),
            _ => tracing::warn!("a server's row cannot be read; left out"),
        }
    }
    Ok(servers)
}
