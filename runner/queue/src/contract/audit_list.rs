//! Clauses about the list of what people and programs did.

use super::{Clause, Fresh};
use crate::{AuditEntry, MAX_AUDIT_ADDED, MAX_AUDIT_ENTRIES, MAX_AUDIT_PAGE};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        audit_entries_are_listed_newest_first_part_by_part,
        the_oldest_audit_entries_are_dropped,
    ]
}

fn entry(n: usize) -> AuditEntry {
    AuditEntry {
        by: "ann".to_owned(),
        action: "queue.pause".to_owned(),
        target: format!("空 {n}"),
        note: n.is_multiple_of(2).then(|| "new disks".to_owned()),
        outcome: "done".to_owned(),
        ..AuditEntry::default()
    }
}

async fn audit_entries_are_listed_newest_first_part_by_part(fresh: Fresh) {
    let broker = &fresh.broker;
    let empty = broker.audit_entries(None, 10).await.unwrap();
    assert!(empty.entries.is_empty() && empty.next.is_none());
    broker.add_audit_entries(&[]).await.unwrap();
    let written: Vec<AuditEntry> = (0..7).map(entry).collect();
    broker.add_audit_entries(&written[..3]).await.unwrap();
    broker.add_audit_entries(&written[3..]).await.unwrap();
    let (mut read, mut place) = (Vec::new(), None);
    loop {
        let page = broker.audit_entries(place.as_deref(), 3).await.unwrap();
        assert!(page.entries.len() <= 3);
        read.extend(page.entries.into_iter().map(|(_, entry)| entry));
        place = page.next;
        if place.is_none() {
            break;
        }
    }
    assert_eq!(read, written.into_iter().rev().collect::<Vec<_>>());
    for odd in ["x", "", "0-0", "-", "1-x", "('"] {
        let page = broker.audit_entries(Some(odd), 3).await.unwrap();
        assert_eq!(page.entries, [], "{odd}");
    }
    fresh.is_sound().await;
}

async fn the_oldest_audit_entries_are_dropped(fresh: Fresh) {
    let broker = &fresh.broker;
    let all = MAX_AUDIT_ENTRIES + MAX_AUDIT_ADDED;
    let written: Vec<AuditEntry> = (0..all).map(entry).collect();
    for some in written.chunks(MAX_AUDIT_ADDED) {
        broker.add_audit_entries(some).await.unwrap();
    }
    let (mut count, mut place, mut oldest) = (0, None, None);
    loop {
        let page = broker.audit_entries(place.as_deref(), usize::MAX).await.unwrap();
        assert!(page.entries.len() <= MAX_AUDIT_PAGE);
        count += page.entries.len();
        oldest = page.entries.last().map(|(_, entry)| entry.clone()).or(oldest);
        place = page.next;
        if place.is_none() {
            break;
        }
    }
    assert_eq!(count, MAX_AUDIT_ENTRIES);
    assert_eq!(oldest, written.get(MAX_AUDIT_ADDED).cloned());
    fresh.is_sound().await;
}
