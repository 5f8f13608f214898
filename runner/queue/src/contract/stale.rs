//! Clauses about claims that are not ours any more, and about large batches of verdicts.

use bytes::Bytes;
use runner_core::task::{AttemptOutcome, QueueName, TaskState};

use super::settle::{attempt, attempts, delete, snooze};
use super::shared::{LEASE, archive, retry, secs, task, verdict};
use super::{Clause, Fresh};
use crate::{Claim, Settled, Settlement, Verdict};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        a_settle_that_is_sent_twice_is_stale_the_second_time,
        the_same_claim_twice_in_one_settle_ends_once,
        a_late_verdict_changes_nothing_once_another_worker_has_the_task,
        a_late_verdict_changes_nothing_after_the_lease_was_recovered,
        a_repeated_settle_does_not_end_the_next_task_of_the_same_id,
        only_our_own_leases_are_extended,
        a_large_batch_is_settled_each_on_its_own,
    ]
}

/// One of each verdict, for a claim that is not ours any more.
fn verdicts() -> Vec<Verdict> {
    let done = Verdict::Done;
    vec![
        done,
        retry(1, "late"),
        archive("late"),
        Verdict::HandBack,
        snooze(1, Some("late")),
        Verdict::Revoke,
    ]
}

async fn a_settle_that_is_sent_twice_is_stale_the_second_time(fresh: Fresh) {
    for how in verdicts() {
        fresh.put([task("a").retention(secs(60)), task("other")]).await;
        let claims = fresh.claim(2).await;
        let ours = &claims[0];
        fresh.end(ours, how.clone()).await;
        let (state, counted) = (fresh.look("a").await, fresh.counted().await);
        assert_eq!(fresh.settle(ours, how.clone()).await, Settled::Stale);
        assert_eq!(fresh.look("a").await, state);
        assert_eq!(fresh.counted().await, counted);
        // In one call too, and its neighbour is not touched by it.
        let both = [verdict(ours, how.clone()), verdict(&claims[1], Verdict::Revoke)];
        let answers = fresh.broker.settle(&both).await.unwrap();
        assert_eq!(answers, [Settled::Stale, Settled::Accepted], "{how:?}");
        if fresh.look("a").await.is_some() {
            delete(&fresh, "a").await;
        }
    }
    fresh.is_sound().await;
}

async fn the_same_claim_twice_in_one_settle_ends_once(fresh: Fresh) {
    fresh.put([task("a")]).await;
    let claim = fresh.claim_one().await;
    let twice = [verdict(&claim, Verdict::Done), verdict(&claim, retry(1, "no"))];
    let answers = fresh.broker.settle(&twice).await.unwrap();
    assert_eq!(answers, [Settled::Accepted, Settled::Stale]);
    assert!(fresh.look("a").await.is_none());
    assert_eq!(fresh.counted().await, (1, 0));
    fresh.is_sound().await;
}

/// Claims `a`, lets the lease run out and be recovered, and claims it again: both claims.
async fn lose(fresh: &Fresh) -> (Claim, Claim) {
    fresh.put([task("a").retention(secs(60))]).await;
    let late = fresh.claim_one().await;
    fresh.clock.advance(LEASE + secs(1));
    let queues = [QueueName::default()];
    let recovered = fresh.broker.recover(&queues, secs(0), 10, 0).await.unwrap();
    assert_eq!(recovered.len(), 1);
    fresh.clock.advance(secs(120));
    assert_eq!(fresh.forward().await, 1);
    (late, fresh.claim_one().await)
}

async fn a_late_verdict_changes_nothing_once_another_worker_has_the_task(fresh: Fresh) {
    for how in verdicts() {
        let (late, ours) = lose(&fresh).await;
        let (state, counted) = (fresh.look("a").await, fresh.counted().await);
        let mut settlement = verdict(&late, how.clone());
        settlement.result = Some(Bytes::from_static(b"late"));
        settlement.attempt = Some(attempt(&fresh, 1));
        let answers = fresh.broker.settle(&[settlement]).await.unwrap();
        assert_eq!(answers, [Settled::Stale], "{how:?}");
        assert_eq!(fresh.look("a").await, state);
        assert_eq!(fresh.counted().await, counted);
        let known = attempts(&fresh).await;
        assert_eq!((known.len(), known[0].outcome), (1, AttemptOutcome::Lost));
        fresh.end(&ours, Verdict::Done).await;
        assert_eq!(fresh.see("a").await.result, None);
        delete(&fresh, "a").await;
    }
    fresh.is_sound().await;
}

async fn a_late_verdict_changes_nothing_after_the_lease_was_recovered(fresh: Fresh) {
    fresh.put([task("a"), task("gone").max_retry(0)]).await;
    let claims = fresh.claim(2).await;
    fresh.clock.advance(LEASE + secs(1));
    let queues = [QueueName::default()];
    fresh.broker.recover(&queues, secs(0), 10, 0).await.unwrap();
    delete(&fresh, "gone").await;
    let before = fresh.look("a").await;
    for how in verdicts() {
        let both = claims.iter().map(|c| verdict(c, how.clone())).collect::<Vec<_>>();
        assert_eq!(fresh.broker.settle(&both).await.unwrap(), [Settled::Stale; 2]);
    }
    assert_eq!(fresh.look("a").await, before);
    assert!(fresh.look("gone").await.is_none());
    fresh.is_sound().await;
}

async fn a_repeated_settle_does_not_end_the_next_task_of_the_same_id(fresh: Fresh) {
    fresh.put([task("a")]).await;
    let first = fresh.claim_one().await;
    fresh.end(&first, Verdict::Done).await;
    fresh.put([task("a")]).await;
    let second = fresh.claim_one().await;
    assert_ne!(first.run(), second.run());
    assert_eq!(fresh.settle(&first, Verdict::Done).await, Settled::Stale);
    assert_eq!(fresh.broker.extend(&[first], LEASE).await.unwrap(), [None]);
    fresh.end(&second, Verdict::Done).await;
    fresh.is_sound().await;
}

async fn only_our_own_leases_are_extended(fresh: Fresh) {
    fresh.put([task("a"), task("b"), task("c")]).await;
    let claims = fresh.claim(3).await;
    fresh.end(&claims[1], Verdict::HandBack).await;
    fresh.end(&claims[2], Verdict::Done).await;
    let again = fresh.claim_one().await;
    fresh.clock.advance(secs(20));
    let ends = fresh.broker.extend(&claims, LEASE).await.unwrap();
    let until = fresh.now().checked_add(LEASE).ok();
    assert_eq!(ends, [until, None, None]);
    assert_eq!(fresh.see("a").await.lease_until, until);
    assert_eq!(fresh.see("b").await.lease_until, Some(again.lease_until()));
    assert!(fresh.look("c").await.is_none());
    fresh.clock.advance(secs(20));
    let queues = [QueueName::default()];
    let recovered = fresh.broker.recover(&queues, secs(0), 10, 0).await.unwrap();
    assert_eq!(recovered.len(), 1, "only b's lease has run out");
    assert_eq!(fresh.broker.extend(&[again], LEASE).await.unwrap(), [None]);
    assert!(fresh.broker.extend(&[], LEASE).await.unwrap().is_empty());
    fresh.is_sound().await;
}

async fn a_large_batch_is_settled_each_on_its_own(fresh: Fresh) {
    fresh.put((0..300).map(|n| task(&format!("{n}")))).await;
    let claims = fresh.claim(300).await;
    let hows = verdicts();
    let all: Vec<Settlement> = claims
        .iter()
        .zip(hows.iter().cycle())
        .map(|(c, how)| verdict(c, how.clone()))
        .collect();
    let answers = fresh.broker.settle(&all).await.unwrap();
    assert_eq!(answers, vec![Settled::Accepted; 300]);
    let counts = fresh.glance().await.counts;
    let expected = [
        (TaskState::Pending, 50),
        (TaskState::Active, 0),
        (TaskState::Scheduled, 50),
        (TaskState::Retry, 50),
    ];
    for (state, n) in expected {
        assert_eq!(counts[&state], n, "{state}");
    }
    assert_eq!(counts[&TaskState::Archived], 50);
    assert_eq!(fresh.counted().await, (200, 100));
    assert_eq!(fresh.broker.settle(&all).await.unwrap(), vec![Settled::Stale; 300]);
    fresh.is_sound().await;
}
