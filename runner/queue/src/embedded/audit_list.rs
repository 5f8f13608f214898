//! The seam's `AuditList`: a row for each entry, whose numbers are the places.

use async_trait::async_trait;
use rusqlite::{Connection, params};

use super::EmbeddedBroker;
use super::connection::Statements as _;
use super::rows::column;
use super::writer::Tx;
use crate::{AuditEntry, AuditList, AuditPage, BrokerResult, MAX_AUDIT_ADDED, MAX_AUDIT_ENTRIES, MAX_AUDIT_PAGE};

#[async_trait]
impl AuditList for EmbeddedBroker {
    async fn add_audit_entries(&self, entries: &[AuditEntry]) -> BrokerResult<()> {
        let some = entries.iter().take(MAX_AUDIT_ADDED);
        let texts: Vec<String> = some
            .map(|entry| serde_json::to_string(entry).unwrap_or_default())
            .collect();
        if texts.is_empty() {
            return Ok(());
        }
        let change = move |tx: &mut Tx<'_>| {
            for text in &texts {
                tx.conn.exec("INSERT INTO audit_entries (entry) VALUES (?)", [text])?;
            }
            tx.conn.exec(
                "DELETE FROM audit_entries WHERE seq <= (SELECT max(seq) FROM audit_entries) - ?",
                [column(MAX_AUDIT_ENTRIES as u64)],
            )?;
            Ok(())
        };
        self.writer.write("add to the audit list", change).await
    }

    async fn audit_entries(&self, before: Option<&str>, limit: usize) -> BrokerResult<AuditPage> {
        let limit = limit.clamp(1, MAX_AUDIT_PAGE);
        let before = match before.map(str::parse::<i64>) {
            None => i64::MAX,
            Some(Ok(place)) => place,
            Some(Err(_)) => return Ok(AuditPage::default()),
        };
        let read = move |conn: &Connection| {
            conn.all(
                "SELECT seq, entry FROM audit_entries WHERE seq < ? ORDER BY seq DESC LIMIT ?",
                params![before, column(limit as u64)],
                |row| {
                    Ok((
                        row.get::<_, i64>(0)?,
                        row.get_ref(1)?.as_bytes().unwrap_or_default().to_vec(),
                    ))
                },
            )
        };
        let rows: Vec<(i64, Vec<u8>)> = self.readers.query("read the audit list", read).await?;
        let last = rows.last().map(|(seq, _)| seq.to_string());
        let full = rows.len() == limit;
        let entries = rows.into_iter().filter_map(|(seq, text)| {
            let entry = serde_json::from_slice(&text).ok()?;
            Some((seq.to_string(), entry))
        });
        Ok(AuditPage {
            entries: entries.collect(),
            next: last.filter(|_| full),
        })
    }
}
