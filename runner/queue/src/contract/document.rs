//! Clauses about the documents that instances keep for each other.

use super::shared::secs;
use super::{Clause, Fresh};
use crate::MAX_DOCUMENTS;

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        a_document_is_kept_replaced_renewed_and_dropped,
        documents_are_listed_by_kind,
        names_of_documents_are_listed_and_read_by_page,
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

async fn names_of_documents_are_listed_and_read_by_page(fresh: Fresh) {
    let broker = &fresh.broker;
    let now = broker.now().await.unwrap();
    assert_eq!(broker.document_names("bad", now).await.unwrap(), []);
    assert_eq!(broker.documents_named("bad", &["a".to_owned()]).await.unwrap(), []);
    // More than one answer of `documents` has; each lasts a minute longer than the one before.
    for n in 0..70_u64 {
        let (name, body) = (format!("b:{{}}*{n}"), n.to_string().into_bytes());
        broker
            .keep_document("bad", &name, body, secs(60 * (n + 2)))
            .await
            .unwrap();
    }
    broker
        .keep_document("other", "c", b"0".to_vec(), secs(60))
        .await
        .unwrap();
    let all = broker.document_names("bad", now).await.unwrap();
    let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
    assert_eq!((names.len(), names[0], names[69]), (70, "b:{}*69", "b:{}*0"));
    let longest = all[0].expires.duration_since(now).as_secs();
    assert!((71 * 60 - 1..=71 * 60 + 60).contains(&longest), "{longest} s");
    // Those of the last ten minutes, as it were.
    let late = broker.document_names("bad", now + secs(60 * 62 - 30)).await.unwrap();
    assert_eq!(late.len(), 10, "{late:?}");
    let wanted = ["b:{}*3", "none", "c", "b:{}*69", "b:{}*0"].map(str::to_owned);
    let found = broker.documents_named("bad", &wanted).await.unwrap();
    let expected = [("b:{}*3", "3"), ("b:{}*69", "69"), ("b:{}*0", "0")];
    assert_eq!(
        found,
        expected.map(|(name, body)| (name.to_owned(), body.as_bytes().to_vec()))
    );
    let everything: Vec<String> = all.into_iter().map(|one| one.name).collect();
    assert_eq!(
        broker.documents_named("bad", &everything).await.unwrap().len(),
        MAX_DOCUMENTS
    );
    broker.drop_document("bad", "b:{}*3").await.unwrap();
    assert_eq!(broker.document_names("bad", now).await.unwrap().len(), 69);
    assert_eq!(broker.documents_named("bad", &wanted).await.unwrap().len(), 2);
    fresh.is_sound().await;
}
