//! Documents: one row each. Expired ones are deleted when another one is written.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::EmbeddedBroker;
use super::connection::Statements as _;
use super::error::SqlError;
use super::rows::{column, instant, micros, span};
use super::writer::Tx;
use crate::{BrokerResult, DocumentName, Documents, MAX_DOCUMENT_NAMES, MAX_DOCUMENTS};

const KEEP: &str = "keep a document";
const READ: &str = "read documents";

/// Writes a document, or with no body renews the existing one. Returns whether it exists.
fn keep(tx: &Tx<'_>, kind: &str, name: &str, body: Option<&[u8]>, ttl: Duration) -> Result<bool, SqlError> {
    // First: an expired document must not be renewed.
    tx.conn.exec("DELETE FROM documents WHERE expires_at <= ?", [tx.now])?;
    let ends = tx.now.saturating_add(span(ttl));
    let changed = match body {
        Some(body) => tx.conn.exec(
            "INSERT OR REPLACE INTO documents (kind, name, body, expires_at) VALUES (?, ?, ?, ?)",
            params![kind, name, body, ends],
        )?,
        None => tx.conn.exec(
            "UPDATE documents SET expires_at = ? WHERE kind = ? AND name = ?",
            params![ends, kind, name],
        )?,
    };
    Ok(changed > 0)
}

#[async_trait]
impl Documents for EmbeddedBroker {
    async fn keep_document(&self, kind: &'static str, name: &str, body: Vec<u8>, ttl: Duration) -> BrokerResult<()> {
        let name = name.to_owned();
        let change = move |tx: &mut Tx<'_>| keep(tx, kind, &name, Some(&body), ttl);
        self.writer.write_unsynced(KEEP, change).await.map(drop)
    }

    async fn renew_document(&self, kind: &'static str, name: &str, ttl: Duration) -> BrokerResult<bool> {
        let name = name.to_owned();
        let change = move |tx: &mut Tx<'_>| keep(tx, kind, &name, None, ttl);
        self.writer.write_unsynced(KEEP, change).await
    }

    async fn document(&self, kind: &'static str, name: &str) -> BrokerResult<Option<Vec<u8>>> {
        let (name, now) = (name.to_owned(), micros(self.clock.now()));
        let read = move |conn: &Connection| {
            conn.first(
                "SELECT body FROM documents WHERE kind = ? AND name = ? AND expires_at > ?",
                params![kind, name, now],
                |row| Ok(row.get(0)?),
            )
        };
        self.readers.query(READ, read).await
    }

    async fn documents(&self, kind: &'static str) -> BrokerResult<Vec<(String, Vec<u8>)>> {
        let now = micros(self.clock.now());
        let read = move |conn: &Connection| {
            conn.all(
                "SELECT name, body FROM documents WHERE kind = ? AND expires_at > ? \
                 ORDER BY expires_at DESC LIMIT ?",
                params![kind, now, column(MAX_DOCUMENTS as u64)],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
        };
        self.readers.query(READ, read).await
    }

    async fn document_names(&self, kind: &'static str, after: Timestamp) -> BrokerResult<Vec<DocumentName>> {
        let after = micros(after.max(self.clock.now()));
        let read = move |conn: &Connection| {
            conn.all(
                "SELECT name, expires_at FROM documents WHERE kind = ? AND expires_at > ? \
                 ORDER BY expires_at DESC, name LIMIT ?",
                params![kind, after, column(MAX_DOCUMENT_NAMES as u64)],
                |row| {
                    let (name, expires) = (row.get(0)?, instant(row.get(1)?));
                    Ok(DocumentName { name, expires })
                },
            )
        };
        self.readers.query(READ, read).await
    }

    async fn documents_named(&self, kind: &'static str, names: &[String]) -> BrokerResult<Vec<(String, Vec<u8>)>> {
        let names = names[..names.len().min(MAX_DOCUMENTS)].to_vec();
        let now = micros(self.clock.now());
        let read = move |conn: &Connection| {
            let mut found = Vec::new();
            for name in names {
                let body = conn.first(
                    "SELECT body FROM documents WHERE kind = ? AND name = ? AND expires_at > ?",
                    params![kind, &name, now],
                    |row| Ok(row.get(0)?),
                )?;
                found.extend(body.map(|body| (name, body)));
            }
            Ok(found)
        };
        self.readers.query(READ, read).await
    }

    async fn drop_document(&self, kind: &'static str, name: &str) -> BrokerResult<()> {
        let name = name.to_owned();
        let change = move |tx: &mut Tx<'_>| {
            let text = "DELETE FROM documents WHERE kind = ? AND name = ?";
            tx.conn.exec(text, [kind, &name]).map(drop)
        };
        self.writer.write_unsynced("drop a document", change).await
    }
}
