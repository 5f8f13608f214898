//! Clauses about the passes that maintain a store, and about heartbeats of servers.

use runner_core::task::{QueueName, Run, TaskState, recovery_delay};

use super::shared::{LEASE, archive, names, queue, retry, secs, task, verdict};
use super::{Clause, Fresh};
use crate::{ArchiveBounds, Repaired, ServerInfo, ServerStatus, Verdict, Working};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        forward_moves_the_earliest_first,
        forward_moves_no_more_than_its_limit_and_says_that_there_is_more,
        forward_returns_when_the_next_task_is_due,
        forward_does_not_touch_other_queues,
        a_task_whose_worker_fell_silent_is_tried_again,
        a_task_whose_worker_fell_silent_is_archived_when_no_retry_is_left,
        recover_takes_no_more_than_its_limit,
        a_lease_that_is_extended_is_not_recovered,
        completed_tasks_are_deleted_when_their_retention_ends,
        the_archive_is_trimmed_by_age,
        the_archive_is_trimmed_by_size_oldest_first,
        an_archive_with_other_bounds_keeps_that_much_and_counts_what_is_deleted,
        a_server_is_listed_with_what_it_works_on,
        the_queues_of_a_server_are_known,
        a_silent_server_is_forgotten,
        passes_over_unknown_queues_do_nothing,
        a_repair_finds_nothing_in_a_consistent_store,
    ]
}

async fn forward_moves_the_earliest_first(fresh: Fresh) {
    let later = |name: &str, n| task(name).run(Run::In(secs(n)));
    fresh
        .put([later("c", 30), later("a", 10), later("d", 40), later("b", 20)])
        .await;
    assert_eq!(fresh.list(TaskState::Scheduled).await, ["a", "b", "c", "d"]);
    fresh.clock.advance(secs(30));
    assert_eq!(fresh.forward().await, 3);
    fresh.put([task("e")]).await;
    assert_eq!(fresh.claim_ids(9).await, ["a", "b", "c", "e"]);
    assert_eq!(fresh.list(TaskState::Scheduled).await, ["d"]);
    fresh.is_sound().await;
}

async fn forward_moves_no_more_than_its_limit_and_says_that_there_is_more(fresh: Fresh) {
    let later = (0..5).map(|n| task(&format!("{n}")).run(Run::In(secs(n))));
    fresh.put(later.collect::<Vec<_>>()).await;
    fresh.clock.advance(secs(10));
    let queues = [QueueName::default()];
    let first = fresh.broker.forward(&queues, 3).await.unwrap();
    assert_eq!((first.moved, first.more), (3, true));
    let second = fresh.broker.forward(&queues, 3).await.unwrap();
    assert_eq!((second.moved, second.more), (1, false));
    assert_eq!(fresh.claim_ids(9).await, ["0", "1", "2", "3", "4"]);
    fresh.is_sound().await;
}

async fn forward_returns_when_the_next_task_is_due(fresh: Fresh) {
    let queues = [QueueName::default(), queue("low")];
    let due = async || fresh.broker.forward(&queues, 10).await.unwrap().next_due;
    let at = |n| fresh.now().checked_add(secs(n)).ok();
    assert_eq!(due().await, None);
    fresh.put([task("a").run(Run::In(secs(50)))]).await;
    assert_eq!(due().await, at(50));
    fresh.put([task("b").run(Run::In(secs(40))).queue(queue("low"))]).await;
    assert_eq!(due().await, at(40));
    fresh.put([task("c")]).await;
    fresh.end(&fresh.claim_one().await, retry(30, "no")).await;
    assert_eq!(due().await, at(30));
    fresh.is_sound().await;
}

async fn forward_does_not_touch_other_queues(fresh: Fresh) {
    let low = queue("low");
    fresh.put([task("a").run(Run::In(secs(1))).queue(low.clone())]).await;
    fresh.clock.advance(secs(5));
    assert_eq!(fresh.forward().await, 0);
    assert_eq!(fresh.broker.forward(&[low], 10).await.unwrap().moved, 1);
    fresh.is_sound().await;
}

async fn a_task_whose_worker_fell_silent_is_tried_again(fresh: Fresh) {
    let queues = [QueueName::default()];
    fresh.put([task("a").max_retry(1)]).await;
    fresh.claim_one().await;
    let recover = async || fresh.broker.recover(&queues, secs(30), 10, 0).await.unwrap();
    fresh.clock.advance(LEASE + secs(29));
    assert!(recover().await.is_empty(), "the grace is not over");
    fresh.clock.advance(secs(1));
    let recovered = recover().await;
    assert_eq!(recovered.len(), 1);
    let one = &recovered[0];
    let (id, kind) = (one.id.as_str(), one.kind.as_str());
    assert_eq!((id, kind, one.state), ("a", "test:a", TaskState::Retry));
    assert_eq!(one.queue, QueueName::default());
    let info = fresh.see("a").await;
    assert_eq!((info.state, info.record.retried), (TaskState::Retry, 1));
    assert_eq!(info.record.last_error, "asynq: task lease expired");
    assert_eq!(info.record.last_failed_at, Some(fresh.now()));
    let soon = fresh.now().checked_add(recovery_delay(0, 0)).unwrap();
    assert_eq!(info.next_run, Some(soon), "the lease was delay enough");
    assert_eq!(fresh.counted().await, (1, 1));
    assert!(recover().await.is_empty());
    fresh.is_sound().await;
}

async fn a_task_whose_worker_fell_silent_is_archived_when_no_retry_is_left(fresh: Fresh) {
    let queues = [QueueName::default()];
    fresh.put([task("a").max_retry(0)]).await;
    fresh.claim_one().await;
    fresh.clock.advance(LEASE);
    let recovered = fresh.broker.recover(&queues, secs(0), 10, 0).await.unwrap();
    assert_eq!(recovered[0].state, TaskState::Archived);
    let info = fresh.see("a").await;
    assert_eq!((info.state, info.record.retried), (TaskState::Archived, 0));
    assert_eq!(info.record.last_error, "asynq: task lease expired");
    assert_eq!(fresh.counted().await, (1, 1));
    fresh.is_sound().await;
}

async fn recover_takes_no_more_than_its_limit(fresh: Fresh) {
    let queues = [QueueName::default(), queue("low")];
    fresh.put((0..4).map(|n| task(&format!("{n}")))).await;
    fresh
        .put((4..8).map(|n| task(&format!("{n}")).queue(queue("low"))))
        .await;
    assert_eq!(fresh.broker.claim(&queues, 9, LEASE).await.unwrap().len(), 8);
    fresh.clock.advance(secs(60));
    let mut seen = Vec::new();
    for expected in [3, 3, 2, 0] {
        let recovered = fresh.broker.recover(&queues, secs(0), 3, 0).await.unwrap();
        assert_eq!(recovered.len(), expected);
        seen.extend(recovered.into_iter().map(|r| r.id));
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 8);
    fresh.is_sound().await;
}

async fn a_lease_that_is_extended_is_not_recovered(fresh: Fresh) {
    let queues = [QueueName::default()];
    fresh.put([task("a"), task("b")]).await;
    let claims = fresh.claim(2).await;
    fresh.clock.advance(secs(20));
    fresh.broker.extend(&claims[..1], LEASE).await.unwrap();
    fresh.clock.advance(secs(20));
    let recovered = fresh.broker.recover(&queues, secs(0), 10, 0).await.unwrap();
    assert_eq!(recovered.len(), 1);
    assert_eq!(recovered[0].id.as_str(), "b");
    fresh.end(&claims[0], Verdict::Done).await;
    fresh.is_sound().await;
}

async fn completed_tasks_are_deleted_when_their_retention_ends(fresh: Fresh) {
    let queues = [QueueName::default()];
    let kept = |n: u64| task(&format!("{n}")).retention(secs(n));
    fresh.put([kept(10), kept(20), kept(30), kept(40)]).await;
    for claim in fresh.claim(9).await {
        fresh.end(&claim, Verdict::Done).await;
    }
    fresh.clock.advance(secs(9));
    assert_eq!(
        fresh
            .broker
            .sweep(&queues, 100, ArchiveBounds::default())
            .await
            .unwrap()
            .expired,
        0
    );
    fresh.clock.advance(secs(21));
    let first = fresh.broker.sweep(&queues, 2, ArchiveBounds::default()).await.unwrap();
    assert_eq!((first.expired, first.more), (2, true));
    let second = fresh.broker.sweep(&queues, 2, ArchiveBounds::default()).await.unwrap();
    assert_eq!((second.expired, second.more), (1, false));
    assert_eq!(fresh.list(TaskState::Completed).await, ["40"]);
    fresh.is_sound().await;
}

async fn the_archive_is_trimmed_by_age(fresh: Fresh) {
    let queues = [QueueName::default()];
    let lasting = secs(200 * 24 * 3600);
    fresh.put([task("old").unique(lasting), task("new")]).await;
    fresh.end(&fresh.claim_one().await, archive("no")).await;
    fresh.clock.advance(secs(2 * 24 * 3600));
    fresh.end(&fresh.claim_one().await, archive("no")).await;
    fresh.clock.advance(secs(89 * 24 * 3600));
    let swept = fresh
        .broker
        .sweep(&queues, 100, ArchiveBounds::default())
        .await
        .unwrap();
    assert_eq!((swept.trimmed, swept.more), (1, false));
    assert!(fresh.look("old").await.is_none());
    assert_eq!(fresh.list(TaskState::Archived).await, ["new"]);
    // Nothing of it is left, not even its lock.
    fresh.put([task("old").unique(lasting)]).await;
    fresh.is_sound().await;
}

async fn the_archive_is_trimmed_by_size_oldest_first(fresh: Fresh) {
    let queues = [QueueName::default()];
    for batch in 0..41 {
        let some = (0..250).map(|n| task(&format!("{:05}", batch * 250 + n)).max_retry(0));
        fresh.put(some).await;
        let claims = fresh.claim(250).await;
        let all: Vec<_> = claims.iter().map(|c| verdict(c, archive("no"))).collect();
        fresh.broker.settle(&all).await.unwrap();
        fresh.clock.advance(secs(1));
    }
    let mut passes = 0;
    while fresh
        .broker
        .sweep(&queues, 100, ArchiveBounds::default())
        .await
        .unwrap()
        .more
    {
        passes += 1;
        assert!(passes < 20, "the trimming never ends");
    }
    let kept = fresh.glance().await.counts[&TaskState::Archived];
    assert!((9_000..=9_999).contains(&kept), "{kept} are kept");
    assert!(fresh.look("00000").await.is_none(), "the oldest is still there");
    assert!(fresh.look("10249").await.is_some(), "the newest is gone");
    fresh.is_sound().await;
}

pub(super) fn server(name: &str, fresh: &Fresh) -> ServerInfo {
    ServerInfo {
        host: "host".to_owned(),
        pid: 42,
        id: name.to_owned(),
        concurrency: 10,
        queues: [("default".to_owned(), 3), ("low".to_owned(), 1)].into(),
        strict_priority: true,
        status: ServerStatus::Active,
        started_at: fresh.now(),
        active: 1,
        handlers: vec!["mail:*".to_owned(), "report".to_owned()],
    }
}

async fn a_server_is_listed_with_what_it_works_on(fresh: Fresh) {
    let info = server("s1", &fresh);
    let working = Working {
        id: super::shared::id("a"),
        kind: "test:a".to_owned(),
        queue: QueueName::default(),
        started_at: fresh.now(),
        deadline: fresh.now().checked_add(secs(1800)).unwrap(),
    };
    fresh
        .broker
        .heartbeat(&info, std::slice::from_ref(&working), secs(10))
        .await
        .unwrap();
    let other = server("s2", &fresh);
    fresh.broker.heartbeat(&other, &[], secs(10)).await.unwrap();
    let mut servers = fresh.broker.servers().await.unwrap();
    servers.sort_by(|a, b| a.info.id.cmp(&b.info.id));
    assert_eq!(servers.len(), 2);
    assert_eq!(servers[0].info, info);
    assert_eq!(servers[0].working, [working]);
    assert!(servers[1].working.is_empty());
    // The next heartbeat replaces the last one.
    fresh.broker.heartbeat(&info, &[], secs(10)).await.unwrap();
    fresh.broker.leave(&other).await.unwrap();
    let servers = fresh.broker.servers().await.unwrap();
    assert_eq!(servers.len(), 1);
    assert!(servers[0].working.is_empty());
    fresh.is_sound().await;
}

async fn the_queues_of_a_server_are_known(fresh: Fresh) {
    let info = server("s1", &fresh);
    fresh.broker.heartbeat(&info, &[], secs(10)).await.unwrap();
    let queues = fresh.broker.queues().await.unwrap();
    let found: Vec<_> = queues.iter().map(|q| q.name.as_str()).collect();
    assert_eq!(found, ["default", "low"]);
    fresh.broker.leave(&info).await.unwrap();
    fresh.is_sound().await;
}

async fn a_silent_server_is_forgotten(fresh: Fresh) {
    let (silent, alive) = (server("silent", &fresh), server("alive", &fresh));
    fresh.broker.heartbeat(&silent, &[], secs(2)).await.unwrap();
    fresh.broker.heartbeat(&alive, &[], secs(3600)).await.unwrap();
    let forgotten = async || {
        let servers = fresh.broker.servers().await.unwrap();
        assert!(servers.iter().any(|s| s.info.id == "alive"));
        servers.len() == 1
    };
    fresh.lapse(secs(2), forgotten).await;
    fresh.is_sound().await;
}

async fn passes_over_unknown_queues_do_nothing(fresh: Fresh) {
    let queues = [queue("never used")];
    assert_eq!(fresh.broker.forward(&queues, 10).await.unwrap().moved, 0);
    assert!(fresh.broker.recover(&queues, secs(0), 10, 0).await.unwrap().is_empty());
    let swept = fresh.broker.sweep(&queues, 10, ArchiveBounds::default()).await.unwrap();
    assert_eq!((swept.expired, swept.trimmed, swept.more), (0, 0, false));
    let claims = fresh.broker.claim(&queues, 10, LEASE).await.unwrap();
    assert!(names(&claims).is_empty());
    fresh.is_sound().await;
}

async fn a_repair_finds_nothing_in_a_consistent_store(fresh: Fresh) {
    let queues = [QueueName::default()];
    let repair = async || fresh.broker.repair(&queues, 100).await.unwrap();
    assert_eq!(repair().await, Repaired::default(), "an empty store");
    fresh.put((0..300).map(|n| task(&format!("p{n}")))).await;
    fresh
        .put((0..9).map(|n| task(&format!("s{n}")).run(Run::In(secs(60)))))
        .await;
    let claims = fresh.claim(60).await;
    let ends = [Verdict::Done, retry(9, "no"), archive("no"), Verdict::HandBack];
    let some: Vec<_> = claims[..40]
        .iter()
        .zip(ends.iter().cycle())
        .map(|(claim, how)| verdict(claim, how.clone()))
        .collect();
    fresh.broker.settle(&some).await.unwrap();
    fresh.put([task("kept").retention(secs(60))]).await;
    let counts = fresh.glance().await.counts;
    // More than once round.
    for _ in 0..8 {
        assert_eq!(repair().await, Repaired::default());
    }
    assert_eq!(fresh.glance().await.counts, counts);
    let others = claims[40..]
        .iter()
        .map(|c| verdict(c, Verdict::Done))
        .collect::<Vec<_>>();
    fresh.broker.settle(&others).await.unwrap();
    assert_eq!(repair().await, Repaired::default());
    fresh.is_sound().await;
}

async fn an_archive_with_other_bounds_keeps_that_much_and_counts_what_is_deleted(fresh: Fresh) {
    let queues = [QueueName::default()];
    let mut deleted = 0;
    let fail = async |from: usize, n: usize| {
        fresh.put((from..from + n).map(|n| task(&format!("{n:03}")))).await;
        let all: Vec<_> = fresh.claim(n).await.iter().map(|c| verdict(c, archive("no"))).collect();
        fresh.broker.settle(&all).await.unwrap();
        fresh.clock.advance(secs(1));
    };
    let few = ArchiveBounds {
        most: 5,
        keep: secs(3600),
    };
    deleted += fresh.broker.sweep(&queues, 100, few).await.unwrap().trimmed;
    fail(0, 5).await;
    deleted += fresh.broker.sweep(&queues, 100, few).await.unwrap().trimmed;
    assert_eq!(deleted, 0);
    fail(5, 3).await;
    fail(8, 3).await;
    deleted += fresh.broker.sweep(&queues, 100, few).await.unwrap().trimmed;
    assert_eq!(deleted, 6, "counted whichever call deleted them");
    assert_eq!(
        fresh.list(TaskState::Archived).await,
        ["010", "009", "008", "007", "006"]
    );
    // More room again, and a shorter time.
    let brief = ArchiveBounds {
        most: 50,
        keep: secs(60),
    };
    fresh.broker.sweep(&queues, 100, brief).await.unwrap();
    fail(11, 9).await;
    assert_eq!(fresh.glance().await.counts[&TaskState::Archived], 14);
    fresh.clock.advance(secs(58));
    let swept = fresh.broker.sweep(&queues, 100, brief).await.unwrap();
    assert_eq!((swept.trimmed, swept.more), (5, false));
    assert_eq!(fresh.glance().await.counts[&TaskState::Archived], 9);
    fresh.is_sound().await;
}
