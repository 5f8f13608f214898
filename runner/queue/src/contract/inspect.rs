//! Clauses about what the dashboard asks: queues, pages, single tasks.

use std::time::Duration;

use bytes::Bytes;
use runner_core::task::{QueueName, Run, TaskState};

use super::shared::{LEASE, archive, id, queue, retry, secs, task, verdict};
use super::{Clause, Fresh};
use crate::{ActionError, GLANCE_BYTES, HEAD_BYTES, Lists, Page, Settled, Settlement, Verdict};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        an_empty_store_has_no_queues,
        the_broker_has_a_clock_and_a_name,
        queues_are_listed_by_name_with_a_count_for_every_state,
        the_latency_of_a_queue_is_that_of_its_oldest_pending_task,
        counters_restart_with_the_utc_day,
        a_list_is_read_page_by_page,
        what_is_over_is_listed_newest_first_page_by_page,
        timed_lists_are_in_the_order_of_their_times,
        a_task_is_found_in_every_queue_that_has_one_of_its_id,
        a_pending_task_says_since_when,
        unusual_names_are_kept_byte_for_byte,
        lists_have_the_beginning_of_large_payloads_and_results,
        what_is_stored_under_an_id_can_be_read_and_deleted,
        some_queues_are_read_without_the_others,
        queues_that_have_something_on_a_list_are_found_among_many,
    ]
}

async fn an_empty_store_has_no_queues(fresh: Fresh) {
    assert!(fresh.broker.queues().await.unwrap().is_empty());
    let page = fresh
        .broker
        .tasks(&queue("default"), TaskState::Pending, Page::default())
        .await
        .unwrap();
    assert_eq!((page.total, page.tasks.len()), (0, 0));
    assert!(fresh.look("a").await.is_none());
    assert!(fresh.broker.servers().await.unwrap().is_empty());
    fresh.is_sound().await;
}

async fn the_broker_has_a_clock_and_a_name(fresh: Fresh) {
    let now = fresh.broker.now().await.unwrap();
    assert_eq!(now, fresh.now());
    assert!(!fresh.broker.describe().is_empty());
    fresh.is_sound().await;
}

async fn queues_are_listed_by_name_with_a_count_for_every_state(fresh: Fresh) {
    fresh
        .put([task("x").queue(queue("zeta")), task("y").queue(queue("alpha"))])
        .await;
    fresh
        .put([task("a"), task("b"), task("c"), task("d").run(Run::In(secs(9)))])
        .await;
    let claims = fresh.claim(2).await;
    fresh.end(&claims[0], retry(9, "no")).await;
    let queues = fresh.broker.queues().await.unwrap();
    let found: Vec<_> = queues.iter().map(|q| q.name.as_str()).collect();
    assert_eq!(found, ["alpha", "default", "zeta"]);
    let counts = &queues[1].counts;
    assert_eq!(counts.len(), TaskState::ALL.len());
    for state in TaskState::ALL {
        let listed = fresh.list(state).await.len() as u64;
        if state != TaskState::Aggregating {
            assert_eq!(counts[&state], listed, "{state}");
        }
    }
    assert_eq!(queues[1].size(), 4);
    fresh.is_sound().await;
}

async fn the_latency_of_a_queue_is_that_of_its_oldest_pending_task(fresh: Fresh) {
    fresh.put([task("a")]).await;
    fresh.clock.advance(secs(10));
    fresh.put([task("b")]).await;
    fresh.clock.advance(secs(5));
    assert_eq!(fresh.glance().await.latency, secs(15));
    let claims = fresh.claim(1).await;
    assert_eq!(fresh.glance().await.latency, secs(5));
    fresh.end(&claims[0], Verdict::Done).await;
    fresh.claim(1).await;
    assert_eq!(fresh.glance().await.latency, Duration::ZERO);
    fresh.is_sound().await;
}

async fn counters_restart_with_the_utc_day(fresh: Fresh) {
    fresh.put([task("a"), task("b")]).await;
    fresh.end(&fresh.claim_one().await, Verdict::Done).await;
    fresh.clock.advance(secs(24 * 3600));
    let glance = fresh.glance().await;
    assert_eq!((glance.processed, glance.processed_today), (1, 0));
    fresh.end(&fresh.claim_one().await, retry(5, "no")).await;
    let glance = fresh.glance().await;
    assert_eq!((glance.processed, glance.failed), (2, 1));
    assert_eq!((glance.processed_today, glance.failed_today), (1, 1));
    fresh.is_sound().await;
}

async fn some_queues_are_read_without_the_others(fresh: Fresh) {
    let tasks = ["c", "a", "b"].map(|name| task(name).queue(queue(name)));
    fresh.put(tasks).await;
    let names = fresh.broker.queue_names().await.unwrap();
    assert_eq!(names, ["a", "b", "c"].map(queue));
    let asked = [queue("c"), queue("never used"), queue("a")];
    let found = fresh.broker.queues_of(&asked).await.unwrap();
    let all = fresh.broker.queues().await.unwrap();
    assert_eq!(found, [all[2].clone(), all[0].clone()]);
    assert!(fresh.broker.queues_of(&[]).await.unwrap().is_empty());
    fresh.is_sound().await;
}

async fn queues_that_have_something_on_a_list_are_found_among_many(fresh: Fresh) {
    let of = |name: &str| task(name).queue(queue(name)).retention(secs(60));
    fresh
        .put([of("pending"), of("active"), of("ended"), of("retried")])
        .await;
    fresh
        .put([of("delayed").run(Run::In(secs(60))), of("grouped").group("g")])
        .await;
    for name in ["active", "ended", "retried"] {
        let claims = fresh.broker.claim(&[queue(name)], 1, LEASE).await.unwrap();
        match name {
            "ended" => fresh.end(&claims[0], Verdict::Done).await,
            "retried" => fresh.end(&claims[0], retry(60, "no")).await,
            _ => (),
        }
    }
    let names = ["pending", "active", "ended", "retried", "delayed", "grouped", "unknown"];
    let asked = names.map(queue);
    for (lists, expected) in [
        (Lists::Pending, &["pending"][..]),
        (Lists::Active, &["active"]),
        (Lists::Ended, &["ended"]),
        (Lists::Delayed, &["retried", "delayed"]),
        (Lists::Grouped, &["grouped"]),
        (Lists::Any, &names[..6]),
    ] {
        let found = fresh.broker.narrow(&asked, lists).await.unwrap();
        let found: Vec<&str> = found.iter().map(QueueName::as_str).collect();
        assert_eq!(found, expected, "{lists:?}");
    }
    assert!(fresh.broker.narrow(&[], Lists::Any).await.unwrap().is_empty());
    fresh.is_sound().await;
}

async fn lists_have_the_beginning_of_large_payloads_and_results(fresh: Fresh) {
    let large = |n: usize| Bytes::from(vec![b'x'; n]);
    for (name, n) in [("small", 10), ("medium", 5_000), ("large", 300_000), ("huge", 9 << 20)] {
        fresh
            .put([task(name).payload(large(n)).retention(secs(60)).header("h", "v")])
            .await;
    }
    let page = Page { number: 1, size: 10 };
    let listed = fresh
        .broker
        .tasks(&queue("default"), TaskState::Pending, page)
        .await
        .unwrap();
    assert_eq!((listed.total, listed.tasks.len() + listed.unreadable.len()), (4, 4));
    for info in &listed.tasks {
        let whole = fresh.see(info.record.id.as_str()).await;
        let all = whole.record.payload.clone();
        assert_eq!(
            (info.payload_bytes, whole.payload_bytes),
            (all.len() as u64, all.len() as u64)
        );
        assert_eq!(info.record.payload, all.slice(..all.len().min(HEAD_BYTES)));
        let mut same = info.record.clone();
        same.payload = all.clone();
        assert_eq!(same, whole.record, "nothing else is cut");
        let glance = fresh
            .broker
            .glance(&queue("default"), &info.record.id)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(glance.payload_bytes, all.len() as u64);
        assert_eq!(glance.record.payload, all.slice(..all.len().min(GLANCE_BYTES)));
    }
    assert!(listed.tasks.iter().any(|info| info.record.id.as_str() == "large"));
    let claim = fresh.claim_one().await;
    let settlement = Settlement {
        result: Some(large(10_000)),
        ..verdict(&claim, Verdict::Done)
    };
    assert_eq!(fresh.broker.settle(&[settlement]).await.unwrap(), [Settled::Accepted]);
    let listed = fresh
        .broker
        .tasks(&queue("default"), TaskState::Completed, page)
        .await
        .unwrap();
    let (info, whole) = (&listed.tasks[0], fresh.see("small").await);
    assert_eq!(info.result.as_ref().map(Bytes::len), Some(HEAD_BYTES));
    assert_eq!((info.result_bytes, whole.result_bytes), (10_000, 10_000));
    assert_eq!(whole.result.map(|result| result.len()), Some(10_000));
    fresh.is_sound().await;
}

async fn what_is_stored_under_an_id_can_be_read_and_deleted(fresh: Fresh) {
    fresh.put([task("a").payload("{}"), task("b")]).await;
    let name = queue("default");
    let raw = fresh.broker.raw_task(&name, b"a").await.unwrap().unwrap();
    assert_eq!(
        (raw.state, raw.why, &raw.id[..]),
        (Some(TaskState::Pending), None, &b"a"[..])
    );
    assert!(raw.head.windows(2).any(|bytes| bytes == b"{}"), "{:?}", raw.head);
    assert_eq!(fresh.broker.raw_task(&name, b"\xff").await.unwrap(), None);
    fresh.broker.delete_raw(&name, b"a").await.unwrap();
    assert_eq!(fresh.list(TaskState::Pending).await, ["b"]);
    let gone = fresh.broker.delete_raw(&name, b"a").await.unwrap_err();
    assert!(matches!(gone, ActionError::NotFound(..)), "{gone}");
    fresh.is_sound().await;
}

async fn a_list_is_read_page_by_page(fresh: Fresh) {
    fresh.put((0..7).map(|n| task(&format!("{n}")))).await;
    let read = async |number| {
        let page = Page { number, size: 3 };
        let page = fresh
            .broker
            .tasks(&queue("default"), TaskState::Pending, page)
            .await
            .unwrap();
        assert_eq!(page.total, 7);
        let ids = page.tasks.into_iter();
        ids.map(|info| info.record.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(read(1).await, ["0", "1", "2"]);
    assert_eq!(read(2).await, ["3", "4", "5"]);
    assert_eq!(read(3).await, ["6"]);
    assert!(read(4).await.is_empty());
    fresh.is_sound().await;
}

async fn what_is_over_is_listed_newest_first_page_by_page(fresh: Fresh) {
    fresh
        .put((0..5).map(|n| task(&format!("{n}")).retention(secs(60))))
        .await;
    for claim in fresh.claim(5).await {
        fresh.clock.advance(secs(1));
        fresh.end(&claim, Verdict::Done).await;
    }
    fresh.put((5..10).map(|n| task(&format!("{n}")))).await;
    for claim in fresh.claim(5).await {
        fresh.clock.advance(secs(1));
        fresh.end(&claim, archive("no")).await;
    }
    for (state, pages) in [
        (TaskState::Completed, ["43", "21", "0"]),
        (TaskState::Archived, ["98", "76", "5"]),
    ] {
        for (number, expected) in (1..).zip(pages) {
            let page = Page { number, size: 2 };
            let page = fresh.broker.tasks(&queue("default"), state, page).await.unwrap();
            let ids: String = page.tasks.iter().map(|info| info.record.id.as_str()).collect();
            assert_eq!((ids.as_str(), page.total), (expected, 5), "{state} {number}");
        }
    }
    // Tasks that ended at the same instant have a fixed order, too.
    fresh
        .put((10..16).map(|n| task(&format!("{n}")).retention(secs(600))))
        .await;
    for claim in fresh.claim(6).await {
        fresh.end(&claim, Verdict::Done).await;
    }
    let all = fresh.list(TaskState::Completed).await;
    for (nth, expected) in all.chunks(4).enumerate() {
        let page = Page {
            number: nth + 1,
            size: 4,
        };
        let page = fresh
            .broker
            .tasks(&queue("default"), TaskState::Completed, page)
            .await
            .unwrap();
        let ids: Vec<&str> = page.tasks.iter().map(|info| info.record.id.as_str()).collect();
        assert_eq!(ids, expected);
    }
    fresh.is_sound().await;
}

async fn timed_lists_are_in_the_order_of_their_times(fresh: Fresh) {
    let kept = |name: &str, n| task(name).retention(secs(n));
    fresh.put([kept("b", 20), kept("a", 10), kept("c", 30)]).await;
    let claims = fresh.claim(3).await;
    for (claim, after) in claims.iter().zip([20, 10, 30]) {
        fresh.end(claim, retry(after, "no")).await;
    }
    assert_eq!(fresh.list(TaskState::Retry).await, ["a", "b", "c"]);
    fresh.clock.advance(secs(30));
    fresh.forward().await;
    for claim in fresh.claim(3).await {
        fresh.end(&claim, Verdict::Done).await;
    }
    assert_eq!(fresh.list(TaskState::Completed).await, ["c", "b", "a"]);
    fresh.is_sound().await;
}

async fn a_task_is_found_in_every_queue_that_has_one_of_its_id(fresh: Fresh) {
    let (low, high) = (queue("low"), queue("high"));
    fresh
        .put([task("a").queue(low.clone()), task("a").queue(high.clone()), task("b")])
        .await;
    let mut found = fresh.broker.find(&id("a")).await.unwrap();
    found.sort();
    assert_eq!(found, [high, low]);
    assert_eq!(fresh.broker.find(&id("b")).await.unwrap(), [QueueName::default()]);
    assert!(fresh.broker.find(&id("c")).await.unwrap().is_empty());
    fresh.is_sound().await;
}

async fn a_pending_task_says_since_when(fresh: Fresh) {
    fresh.put([task("a").run(Run::In(secs(5)))]).await;
    assert_eq!(fresh.see("a").await.pending_since, None);
    fresh.clock.advance(secs(7));
    fresh.forward().await;
    assert_eq!(fresh.see("a").await.pending_since, Some(fresh.now()));
    fresh.is_sound().await;
}

async fn unusual_names_are_kept_byte_for_byte(fresh: Fresh) {
    let odd = [
        " spaces ",
        "ünï→🦀",
        "a:b:c",
        "100%",
        "'quoted\"",
        "back\\slash",
        "{braces}",
        "new\nline",
    ];
    for name in odd {
        let strange = queue(name);
        fresh.put([task(name).queue(strange.clone()).unique(secs(60))]).await;
        assert!(
            fresh.broker.task(&strange, &id(name)).await.unwrap().is_some(),
            "{name:?}"
        );
        let claims = fresh
            .broker
            .claim(std::slice::from_ref(&strange), 9, LEASE)
            .await
            .unwrap();
        assert_eq!(claims.len(), 1, "{name:?}");
        assert_eq!(claims[0].task().id.as_str(), name);
        assert_eq!(claims[0].task().queue, strange);
        fresh.end(&claims[0], Verdict::Done).await;
    }
    assert_eq!(fresh.broker.queues().await.unwrap().len(), odd.len());
    fresh.is_sound().await;
}
