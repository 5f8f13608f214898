//! Worker processes: they say that they live, and are forgotten when they do not.

use std::time::Duration;

use async_trait::async_trait;

use super::link::SqlError;
use super::readers::Readers;
use super::rows::{json, span, to_json};
use super::store::sql;
use super::writer::{Tx, Write};
use crate::{ServerInfo, ServerView, Working};

fn key(server: &ServerInfo) -> String {
    format!("{}:{}:{}", server.host, server.pid, server.id)
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
