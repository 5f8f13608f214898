//! Documents: one row each. Those whose time is over go when another one is written.

use std::time::Duration;

use async_trait::async_trait;

use super::EmbeddedBroker;
use super::link::SqlError;
use super::rows::{column, micros, span};
use super::store::{error, sql};
use super::writer::{Tx, Write};
use crate::{BrokerResult, Documents, MAX_DOCUMENTS};

const READ: &str = "read documents";

/// Writes a document, or keeps the one that is there for longer; whether there is one.
struct Keep {
    kind: &'static str,
    name: String,
    body: Option<Vec<u8>>,
    ttl: Duration,
}

#[async_trait]
impl Write for Keep {
    type Output = bool;
    const DOING: &'static str = "keep a document";
    const DURABLE: bool = false;

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<bool, SqlError> {
        sql("DELETE FROM documents WHERE expires_at <= ?")
            .bind(tx.now)
            .execute(&mut *tx.conn)
            .await?;
        let ends = tx.now.saturating_add(span(self.ttl));
        let query = match &self.body {
            Some(body) => sql("INSERT OR REPLACE INTO documents (kind, name, body, expires_at) VALUES (?, ?, ?, ?)")
                .bind(self.kind)
                .bind(self.name.clone())
                .bind(body.clone())
                .bind(ends),
            None => sql("UPDATE documents SET expires_at = ? WHERE kind = ? AND name = ?")
                .bind(ends)
                .bind(self.kind)
                .bind(self.name.clone()),
        };
        Ok(query.execute(&mut *tx.conn).await?.rows_affected() > 0)
    }
}

struct Forget {
    kind: &'static str,
    name: String,
}

#[async_trait]
impl Write for Forget {
    type Output = ();
    const DOING: &'static str = "drop a document";
    const DURABLE: bool = false;

    async fn apply(&mut self, tx: &mut Tx<'_>) -> Result<(), SqlError> {
        sql("DELETE FROM documents WHERE kind = ? AND name = ?")
            .bind(self.kind)
            .bind(self.name.clone())
            .execute(&mut *tx.conn)
            .await?;
        Ok(())
    }
}

#[async_trait]
impl Documents for EmbeddedBroker {
    async fn keep_document(&self, kind: &'static str, name: &str, body: Vec<u8>, ttl: Duration) -> BrokerResult<()> {
        let (name, body) = (name.to_owned(), Some(body));
        self.writer.write(Keep { kind, name, body, ttl }).await.map(drop)
    }

    async fn renew_document(&self, kind: &'static str, name: &str, ttl: Duration) -> BrokerResult<bool> {
        let (name, body) = (name.to_owned(), None);
        self.writer.write(Keep { kind, name, body, ttl }).await
    }

    async fn document(&self, kind: &'static str, name: &str) -> BrokerResult<Option<Vec<u8>>> {
        let found = sql("SELECT body FROM documents WHERE kind = ? AND name = ? AND expires_at > ?")
            .bind(kind)
            .bind(name.to_owned())
            .bind(micros(self.clock.now()))
            .fetch_optional(self.readers())
            .await
            .map_err(|e| error(READ, e))?;
        let body = found.map(|row| row.try_get::<Vec<u8>>(0));
        body.transpose().map_err(|e| error(READ, e))
    }

    async fn documents(&self, kind: &'static str) -> BrokerResult<Vec<(String, Vec<u8>)>> {
        let found = sql("SELECT name, body FROM documents WHERE kind = ? AND expires_at > ? \
             ORDER BY expires_at DESC LIMIT ?")
        .bind(kind)
        .bind(micros(self.clock.now()))
        .bind(column(MAX_DOCUMENTS as u64))
        .fetch_all(self.readers())
        .await
        .map_err(|e| error(READ, e))?;
        let one = |row: &super::cells::Row| Ok((row.try_get::<String>(0)?, row.try_get::<Vec<u8>>(1)?));
        found
            .iter()
            .map(one)
            .collect::<Result<_, _>>()
            .map_err(|e| error(READ, e))
    }

    async fn drop_document(&self, kind: &'static str, name: &str) -> BrokerResult<()> {
        let name = name.to_owned();
        self.writer.write(Forget { kind, name }).await
    }
}
