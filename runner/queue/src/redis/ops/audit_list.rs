//! The seam's `AuditList`: a stream, whose ids are the places. Redis keeps its length.

use async_trait::async_trait;

use crate::redis::RedisBroker;
use crate::redis::format::{keys, reply};
use crate::{AuditEntry, AuditList, AuditPage, BrokerResult, MAX_AUDIT_ADDED, MAX_AUDIT_ENTRIES, MAX_AUDIT_PAGE};

/// The one field of an entry.
const FIELD: &str = "entry";

#[async_trait]
impl AuditList for RedisBroker {
    async fn add_audit_entries(&self, entries: &[AuditEntry]) -> BrokerResult<()> {
        let entries = &entries[..entries.len().min(MAX_AUDIT_ADDED)];
        if entries.is_empty() {
            return Ok(());
        }
        let mut trip = self.conn.trip("add to the audit list").await?;
        for entry in entries {
            let text = serde_json::to_string(entry).unwrap_or_default();
            trip.command("XADD")
                .arg(keys::AUDIT)
                .arg("MAXLEN")
                .arg(MAX_AUDIT_ENTRIES)
                .arg("*")
                .arg(FIELD)
                .arg(text);
        }
        trip.each().await?.into_iter().try_for_each(|answer| answer.map(drop))
    }

    async fn audit_entries(&self, before: Option<&str>, limit: usize) -> BrokerResult<AuditPage> {
        let limit = limit.clamp(1, MAX_AUDIT_PAGE);
        let end = match before {
            None => "+".to_owned(),
            Some(place) if is_id(place) => format!("({place}"),
            Some(_) => return Ok(AuditPage::default()),
        };
        let mut trip = self.conn.trip("read the audit list").await?;
        trip.command("XREVRANGE")
            .arg(keys::AUDIT)
            .arg(end)
            .arg("-")
            .arg("COUNT")
            .arg(limit);
        let rows = reply::list(trip.one().await?);
        let full = rows.len() == limit;
        let (mut page, mut last) = (AuditPage::default(), None);
        for row in rows {
            let mut row = reply::list(row).into_iter();
            let (id, fields) = (row.next().and_then(reply::text), row.next());
            let Some(id) = id else { continue };
            last = Some(id.clone());
            let text = fields.map(reply::list).unwrap_or_default().into_iter().nth(1);
            let entry = text.and_then(reply::bytes).map(|text| serde_json::from_slice(&text));
            if let Some(Ok(entry)) = entry {
                page.entries.push((id, entry));
            }
        }
        page.next = last.filter(|_| full);
        Ok(page)
    }
}

/// Whether a text is an id of a stream: two numbers, not both zero, before which nothing can be.
fn is_id(text: &str) -> bool {
    let number = |text: &str| text.parse::<u64>().ok();
    let both = text.split_once('-').and_then(|(ms, n)| Some((number(ms)?, number(n)?)));
    both.is_some_and(|both| both != (0, 0))
}
