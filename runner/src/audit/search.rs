//! Searches the audit list: the whole of it is bounded, so it is read part by part until enough is found.

use jiff::Timestamp;
use runner_queue::{AuditEntry, AuditPage, Broker, BrokerResult, MAX_AUDIT_ENTRIES, MAX_AUDIT_PAGE};

/// What is looked for; what is empty is not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// A part of who did it, in any case of letters.
    pub by: String,
    /// What the action begins with, such as `queue.`.
    pub action: String,
    /// A part of the target, in any case of letters.
    pub target: String,
    /// Only at or after this instant.
    pub from: Option<Timestamp>,
    /// Only before this one.
    pub to: Option<Timestamp>,
}

impl AuditFilter {
    /// Whether every entry fits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn fits(&self, entry: &AuditEntry) -> bool {
        let has = |text: &str, part: &str| part.is_empty() || text.to_lowercase().contains(&part.to_lowercase());
        has(&entry.by, &self.by)
            && entry.action.starts_with(&self.action)
            && has(&entry.target, &self.target)
            && self.from.is_none_or(|from| entry.at >= from)
            && self.to.is_none_or(|to| entry.at < to)
    }
}

/// The newest entries that fit and are older than the one at a place, at most `limit`.
///
/// # Errors
///
/// Those of the broker.
pub async fn search(
    broker: &dyn Broker,
    filter: &AuditFilter,
    before: Option<&str>,
    limit: usize,
) -> BrokerResult<AuditPage> {
    let portion = if filter.is_empty() { limit } else { MAX_AUDIT_PAGE }.clamp(1, MAX_AUDIT_PAGE);
    let (mut found, mut place) = (AuditPage::default(), before.map(str::to_owned));
    for _ in 0..=MAX_AUDIT_ENTRIES / portion {
        let part = broker.audit_entries(place.as_deref(), portion).await?;
        for (at, entry) in part.entries {
            if !filter.fits(&entry) {
                continue;
            }
            if found.entries.len() == limit {
                found.next = found.entries.last().map(|(place, _)| place.clone());
                return Ok(found);
            }
            found.entries.push((at, entry));
        }
        place = part.next;
        if place.is_none() {
            break;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use runner_queue::AuditList as _;
    use runner_queue::embedded::EmbeddedBroker;
    use std::sync::Arc;

    #[tokio::test]
    async fn entries_are_found_by_who_what_and_when_part_by_part() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(runner_core::clock::SystemClock);
        let broker = EmbeddedBroker::open(&dir.path().join("a.db"), clock).await.unwrap();
        let entries: Vec<AuditEntry> = (0..60)
            .map(|n: i64| AuditEntry {
                at: Timestamp::from_second(n).unwrap(),
                by: if n % 2 == 0 { "Ann" } else { "bob" }.to_owned(),
                action: if n % 3 == 0 { "queue.pause" } else { "task.run" }.to_owned(),
                target: format!("q/{n}"),
                ..AuditEntry::default()
            })
            .collect();
        broker.add_audit_entries(&entries).await.unwrap();
        let filter = AuditFilter {
            by: "ann".to_owned(),
            action: "queue.".to_owned(),
            from: Timestamp::from_second(12).ok(),
            to: Timestamp::from_second(54).ok(),
            ..AuditFilter::default()
        };
        let first = search(&broker, &filter, None, 4).await.unwrap();
        let targets = |page: &AuditPage| page.entries.iter().map(|(_, e)| e.target.clone()).collect::<Vec<_>>();
        assert_eq!(targets(&first), ["q/48", "q/42", "q/36", "q/30"]);
        let rest = search(&broker, &filter, first.next.as_deref(), 4).await.unwrap();
        assert_eq!(
            (targets(&rest), rest.next),
            (vec!["q/24".into(), "q/18".into(), "q/12".into()], None)
        );
        let all = search(&broker, &AuditFilter::default(), None, 1000).await.unwrap();
        assert_eq!((all.entries.len(), all.next), (60, None));
    }
}
