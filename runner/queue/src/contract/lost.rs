//! Clauses about runs whose end nobody reported: what is remembered of them, and when a task is put aside for them.

use runner_core::task::{QueueName, State};

use super::keep::server;
use super::settle::attempts;
use super::shared::{LEASE, id, retry, secs, task};
use super::{Clause, Fresh};
use crate::{Action, LEASE_EXPIRED, LOST, Recovered, Verdict};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        a_lost_run_is_remembered_with_when_and_by_whom,
        a_run_that_is_lost_before_the_first_heartbeat_is_known_too,
        a_task_whose_runs_are_lost_again_and_again_is_poison,
        without_a_bound_no_task_is_poison,
        a_reported_end_begins_the_count_of_lost_runs_anew,
        a_poisonous_task_that_is_run_again_counts_anew,
        a_last_retry_counts_before_poison_does,
    ]
}

/// Long enough for every delay after a lost run here.
const LATER: u64 = 3600;

/// Claims the one pending task and lets nobody report of it.
async fn lose(fresh: &Fresh, poison_after: u32) -> Recovered {
    fresh.claim_one().await;
    fresh.clock.advance(LEASE);
    let queues = [QueueName::default()];
    let mut found = fresh.broker.recover(&queues, secs(0), 10, poison_after).await.unwrap();
    assert_eq!(found.len(), 1);
    fresh.clock.advance(secs(LATER));
    fresh.forward().await;
    found.remove(0)
}

async fn a_lost_run_is_remembered_with_when_and_by_whom(fresh: Fresh) {
    fresh.put([task("a"), task("b")]).await;
    // Nobody has said who claims yet.
    let begun = fresh.now();
    fresh.claim_one().await;
    let info = server("s1", &fresh);
    fresh.broker.heartbeat(&info, &[], secs(3600)).await.unwrap();
    fresh.clock.advance(secs(1));
    fresh.claim_one().await;
    fresh.clock.advance(LEASE);
    let queues = [QueueName::default()];
    assert_eq!(fresh.broker.recover(&queues, secs(0), 10, 3).await.unwrap().len(), 2);
    for (name, server) in [("a", None), ("b", Some("host:42"))] {
        let found = fresh.broker.attempts(&QueueName::default(), &id(name)).await.unwrap();
        assert_eq!(found.len(), 1, "{name}");
        let lost = &found[0];
        assert_eq!((lost.number, lost.outcome.as_str()), (1, LOST));
        assert_eq!(lost.error.as_deref(), Some(LEASE_EXPIRED));
        assert_eq!((lost.ended_at, &lost.log), (fresh.now(), &None));
        if let Some(server) = server {
            assert_eq!(lost.server, server);
            assert_eq!(lost.started_at, begun.checked_add(secs(1)).unwrap());
        }
    }
    fresh.broker.leave(&info).await.unwrap();
    fresh.is_sound().await;
}

async fn a_run_that_is_lost_before_the_first_heartbeat_is_known_too(fresh: Fresh) {
    fresh.put([task("a")]).await;
    fresh.broker.claims_as("host", 7);
    let begun = fresh.now();
    lose(&fresh, 3).await;
    let found = attempts(&fresh).await;
    assert_eq!((found[0].server.as_str(), found[0].started_at), ("host:7", begun));
    fresh.is_sound().await;
}

async fn a_task_whose_runs_are_lost_again_and_again_is_poison(fresh: Fresh) {
    fresh.put([task("a")]).await;
    for lost in [1, 2] {
        let one = lose(&fresh, 3).await;
        assert_eq!((one.state, one.lost, one.poison), (State::Retry, lost, false));
    }
    let last = lose(&fresh, 3).await;
    assert_eq!((last.state, last.lost, last.poison), (State::Archived, 3, true));
    let info = fresh.see("a").await;
    assert_eq!(info.state, State::Archived);
    let error = &info.record.last_error;
    assert!(error.starts_with("poison: 3 runs"), "{error}");
    assert!(error.ends_with(LEASE_EXPIRED), "{error}");
    assert_eq!(info.record.retried, 2, "archiving uses up no retry");
    let known = attempts(&fresh).await;
    assert_eq!(known.len(), 3);
    assert!(known.iter().all(|attempt| attempt.outcome == LOST), "{known:?}");
    fresh.is_sound().await;
}

async fn without_a_bound_no_task_is_poison(fresh: Fresh) {
    fresh.put([task("a")]).await;
    for lost in 1..=6 {
        let one = lose(&fresh, 0).await;
        assert_eq!((one.state, one.lost, one.poison), (State::Retry, lost, false));
    }
    fresh.is_sound().await;
}

async fn a_reported_end_begins_the_count_of_lost_runs_anew(fresh: Fresh) {
    fresh.put([task("a")]).await;
    for verdict in [retry(1, "no"), Verdict::HandBack] {
        assert_eq!(lose(&fresh, 3).await.lost, 1);
        assert_eq!(lose(&fresh, 3).await.lost, 2);
        fresh.end(&fresh.claim_one().await, verdict).await;
        fresh.clock.advance(secs(1));
        fresh.forward().await;
    }
    let again = lose(&fresh, 3).await;
    assert_eq!((again.state, again.lost), (State::Retry, 1));
    fresh.is_sound().await;
}

async fn a_poisonous_task_that_is_run_again_counts_anew(fresh: Fresh) {
    fresh.put([task("a")]).await;
    assert!(lose(&fresh, 1).await.poison);
    let queue = QueueName::default();
    fresh.broker.act(&queue, &id("a"), Action::Run).await.unwrap();
    let again = lose(&fresh, 2).await;
    assert_eq!((again.state, again.lost, again.poison), (State::Retry, 1, false));
    fresh.is_sound().await;
}

async fn a_last_retry_counts_before_poison_does(fresh: Fresh) {
    fresh.put([task("a").max_retry(1)]).await;
    assert_eq!(lose(&fresh, 3).await.state, State::Retry);
    let last = lose(&fresh, 3).await;
    assert_eq!((last.state, last.lost, last.poison), (State::Archived, 2, false));
    assert_eq!(fresh.see("a").await.record.last_error, LEASE_EXPIRED);
    fresh.is_sound().await;
}
