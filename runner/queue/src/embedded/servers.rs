//! The seam's `Presence`: worker processes report that they are alive, and are forgotten when they stop.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, params};
use tokio::time::Instant;

use super::EmbeddedBroker;
use super::connection::Statements as _;
use super::error::SqlError;
use super::rows::{json, micros, span, to_json};
use super::writer::Tx;
use crate::{BrokerResult, Claims as _, Presence, ServerInfo, ServerView, Working};

#[async_trait]
impl Presence for EmbeddedBroker {
    async fn heartbeat(&self, server: &ServerInfo, working: &[Working], ttl: Duration) -> BrokerResult<()> {
        self.claims_as(&server.host, server.pid);
        let (server, working) = (server.clone(), working.to_vec());
        let change = move |tx: &mut Tx<'_>| heartbeat(tx, &server, &working, ttl);
        self.writer
            .write_unsynced("report that this server is alive", change)
            .await?;
        // Only after the write: a heartbeat that failed proves nothing about the leases.
        self.last_heartbeat.heartbeat_sent();
        Ok(())
    }

    async fn is_alone(&self, server: &ServerInfo) -> BrokerResult<bool> {
        let server = server.clone();
        let query = move |conn: &Connection| others(conn, &server);
        Ok(!self.readers.query("look for other servers", query).await?)
    }

    fn lists_first(&self) -> bool {
        true
    }

    async fn leave(&self, server: &ServerInfo) -> BrokerResult<()> {
        let server = server.clone();
        let change = move |tx: &mut Tx<'_>| leave(tx, &server);
        self.writer.write("remove this server from the list", change).await
    }

    async fn servers(&self) -> BrokerResult<Vec<ServerView>> {
        let now = micros(self.clock.now());
        let query = move |conn: &Connection| list(conn, now);
        self.readers.query("list servers", query).await
    }
}

fn key(server: &ServerInfo) -> String {
    format!("{}:{}:{}", server.host, server.pid, server.id)
}

/// When this process last sent a heartbeat, and how long its claims last. Leases are extended before each heartbeat, so
/// none of its own can end within half a lease after one.
#[derive(Debug, Default)]
pub(super) struct LastHeartbeat(Mutex<(Option<Instant>, Duration)>);

impl LastHeartbeat {
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

    pub(super) fn heartbeat_sent(&self) {
        self.lock().0 = Some(Instant::now());
    }

    /// Whether it may hold claims that it could not extend lately, after a time in which writes failed.
    pub(super) fn is_behind(&self) -> bool {
        let (sent, lease) = *self.lock();
        sent.is_some_and(|sent| !lease.is_zero() && sent.elapsed() > lease / 2)
    }
}

/// Records that a server is alive, which queues it serves and what it works on.
pub(super) fn heartbeat(
    tx: &mut Tx<'_>,
    server: &ServerInfo,
    working: &[Working],
    ttl: Duration,
) -> Result<(), SqlError> {
    // A pattern is not a queue.
    for queue in server.queues.keys().filter(|name| !name.contains('*')) {
        tx.tally.ensure_queue(queue);
    }
    // A server that fell silent is not a neighbour any more: see `others`.
    tx.conn.exec("DELETE FROM servers WHERE expires_at <= ?", [tx.now])?;
    tx.conn.exec(
        "INSERT OR REPLACE INTO servers (key, info, working, expires_at) VALUES (?, ?, ?, ?)",
        params![
            key(server),
            to_json(server)?,
            to_json(&working)?,
            tx.now.saturating_add(span(ttl))
        ],
    )?;
    Ok(())
}

/// Removes a server from the list.
pub(super) fn leave(tx: &Tx<'_>, server: &ServerInfo) -> Result<(), SqlError> {
    tx.conn.exec("DELETE FROM servers WHERE key = ?", [key(server)])?;
    Ok(())
}

/// Whether another server is listed, even one that fell silent since the last write.
pub(super) fn others(conn: &Connection, server: &ServerInfo) -> Result<bool, SqlError> {
    conn.value("SELECT EXISTS (SELECT 1 FROM servers WHERE key <> ?)", [key(server)])
}

/// Live servers; an unreadable one is left out.
pub(super) fn list(conn: &Connection, now: i64) -> Result<Vec<ServerView>, SqlError> {
    let found = conn.all(
        "SELECT info, working FROM servers WHERE expires_at > ? ORDER BY key",
        [now],
        |row| {
            let (info, working): (String, String) = (row.get(0)?, row.get(1)?);
            match (json(&info), json(&working)) {
                (Ok(info), Ok(working)) => Ok(Some(ServerView { info, working })),
                _ => {
                    tracing::warn!("a server's row cannot be read; left out");
                    Ok(None)
                }
            }
        },
    )?;
    Ok(found.into_iter().flatten().collect())
}
