//! Clauses about the documents that instances keep for each other.

use super::shared::secs;
use super::{Clause, Fresh};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        a_document_is_kept_replaced_renewed_and_dropped,
        documents_are_listed_by_kind,
    ]
}

async fn a_document_is_kept_replaced_renewed_and_dropped(fresh: Fresh) {
    let broker = &fresh.broker;
    assert_eq!(broker.document("rows", "a").await.unwrap(), None);
    assert!(!broker.renew_document("rows", "a", secs(60)).await.unwrap());
    let body = vec![0, 255, b'\n', b'x'];
    broker.keep_document("rows", "a", body.clone(), secs(60)).await.unwrap();
    assert_eq!(broker.document("rows", "a").await.unwrap(), Some(body));
    broker
        .keep_document("rows", "a", b"second".to_vec(), secs(60))
        .await
        .unwrap();
    assert!(broker.renew_document("rows", "a", secs(3600)).await.unwrap());
    assert_eq!(broker.document("rows", "a").await.unwrap(), Some(b"second".to_vec()));
    broker.drop_document("rows", "a").await.unwrap();
    broker.drop_document("rows", "a").await.unwrap();
    assert_eq!(broker.document("rows", "a").await.unwrap(), None);
    fresh.is_sound().await;
}

async fn documents_are_listed_by_kind(fresh: Fresh) {
    let broker = &fresh.broker;
    assert_eq!(broker.documents("sets").await.unwrap(), []);
    for (kind, name, body) in [("sets", "a", "1"), ("sets", "b:{}*", "2"), ("rows", "a", "3")] {
        broker.keep_document(kind, name, body.into(), secs(60)).await.unwrap();
    }
    let mut all = broker.documents("sets").await.unwrap();
    all.sort();
    let expected = [("a".to_owned(), b"1".to_vec()), ("b:{}*".to_owned(), b"2".to_vec())];
    assert_eq!(all, expected);
    if !fresh.real_time_ttl {
        fresh.clock.advance(secs(61));
        assert_eq!(broker.documents("sets").await.unwrap(), []);
        assert!(!broker.renew_document("sets", "a", secs(60)).await.unwrap());
    }
    fresh.is_sound().await;
}
