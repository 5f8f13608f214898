//! Clauses about runs whose end was never reported: what is recorded, and when a task is archived because of them.

use runner_core::task::{AttemptOutcome, QueueName, TaskState};

use super::settle::attempts;
use super::shared::{LEASE, id, retry, secs, task};
use super::upkeep::server;
use super::{Clause, Fresh};
use crate::{Absolved, Action, Claim, LEASE_EXPIRED, Recovered, Verdict};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        a_lost_run_is_remembered_with_when_and_by_whom,
        a_run_that_is_lost_before_the_first_heartbeat_is_known_too,
        a_task_whose_worker_dies_repeatedly_is_poison,
        a_crash_beside_others_makes_nothing_poison,
        without_a_bound_no_task_is_poison,
        a_claim_says_what_its_task_is_suspected_of,
        a_reported_end_clears_a_suspect,
        what_was_not_run_stays_a_suspect,
        the_crashes_of_a_poison_task_that_is_run_again_start_at_zero,
        a_last_retry_counts_before_poison_does,
        a_run_whose_process_is_alive_is_not_a_crash,
        only_the_last_crash_is_taken_back,
        a_lost_claim_cannot_be_noted_as_alone,
        tasks_that_were_lost_together_return_at_different_times,
    ]
}

/// Long enough for every delay after a lost run here.
const LATER: u64 = 3600;

/// Leaves this run without a report.
async fn lose_run(fresh: &Fresh, poison_after: u32) -> Recovered {
    fresh.clock.advance(LEASE);
    let queues = [QueueName::default()];
    let mut found = fresh.broker.recover(&queues, secs(0), 10, poison_after).await.unwrap();
    assert_eq!(found.len(), 1);
    fresh.clock.advance(secs(LATER));
    fresh.forward().await;
    found.remove(0)
}

/// Claims the one pending task and never reports its end.
async fn lose(fresh: &Fresh, poison_after: u32) -> Recovered {
    fresh.claim_one().await;
    lose_run(fresh, poison_after).await
}

/// The same for a run that has its process to itself.
async fn lose_alone(fresh: &Fresh, poison_after: u32) -> Recovered {
    let claim = fresh.claim_one().await;
    assert!(fresh.broker.run_alone(&claim, true).await.unwrap());
    lose_run(fresh, poison_after).await
}

async fn absolve(fresh: &Fresh, claim: &Claim) -> Absolved {
    let answers = fresh.broker.absolve(std::slice::from_ref(claim)).await.unwrap();
    assert_eq!(answers.len(), 1);
    answers[0]
}

async fn a_lost_run_is_remembered_with_when_and_by_whom(fresh: Fresh) {
    fresh.put([task("a"), task("b")]).await;
    // No claimant is set yet.
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
        assert_eq!((lost.number, lost.outcome), (1, AttemptOutcome::Lost));
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

async fn a_task_whose_worker_dies_repeatedly_is_poison(fresh: Fresh) {
    fresh.put([task("a")]).await;
    for lost in [1, 2] {
        let one = lose(&fresh, 3).await;
        assert_eq!((one.state, one.lost, one.poison), (TaskState::Retry, lost, false));
    }
    let last = lose_alone(&fresh, 3).await;
    assert_eq!((last.state, last.lost, last.poison), (TaskState::Archived, 3, true));
    let info = fresh.see("a").await;
    assert_eq!(info.state, TaskState::Archived);
    let error = &info.record.last_error;
    assert!(error.starts_with("poison: 3 runs"), "{error}");
    assert!(error.ends_with(LEASE_EXPIRED), "{error}");
    assert_eq!(info.record.retried, 2, "archiving uses up no retry");
    let known = attempts(&fresh).await;
    assert_eq!(known.len(), 3);
    assert!(
        known.iter().all(|attempt| attempt.outcome == AttemptOutcome::Lost),
        "{known:?}"
    );
    fresh.is_sound().await;
}

async fn a_crash_beside_others_makes_nothing_poison(fresh: Fresh) {
    fresh.put([task("a")]).await;
    for lost in [1, 2, 2, 2] {
        let one = lose(&fresh, 3).await;
        assert_eq!((one.state, one.lost, one.poison), (TaskState::Retry, lost, false));
    }
    // Nor one from which others were let in.
    let claim = fresh.claim_one().await;
    for alone in [true, false] {
        assert!(fresh.broker.run_alone(&claim, alone).await.unwrap());
    }
    assert!(!lose_run(&fresh, 3).await.poison);
    // A note about one run does not apply to the next.
    let claim = fresh.claim_one().await;
    assert!(fresh.broker.run_alone(&claim, true).await.unwrap());
    fresh.end(&claim, Verdict::HandBack).await;
    assert!(!lose(&fresh, 3).await.poison);
    fresh.is_sound().await;
}

async fn without_a_bound_no_task_is_poison(fresh: Fresh) {
    fresh.put([task("a")]).await;
    for lost in 1..=6 {
        let one = lose(&fresh, 0).await;
        assert_eq!((one.state, one.lost, one.poison), (TaskState::Retry, lost, false));
    }
    fresh.is_sound().await;
}

async fn a_claim_says_what_its_task_is_suspected_of(fresh: Fresh) {
    fresh.put([task("a")]).await;
    fresh.broker.claims_as("host", 7);
    let first = fresh.claim_one().await;
    assert_eq!(first.suspicion(), None);
    lose_run(&fresh, 3).await;
    fresh.put([task("b")]).await;
    let claims = fresh.claim(2).await;
    let known: Vec<_> = claims.iter().map(|c| c.task().id.as_str()).collect();
    assert_eq!(known, ["a", "b"]);
    assert_eq!(claims[1].suspicion(), None);
    let suspicion = claims[0].suspicion().unwrap();
    assert_eq!(suspicion.crashes, 1);
    // Its lease was never extended, so the worker died within the sixth of it after which that is done. Ends of leases
    // may be kept in whole seconds.
    let range = LEASE / 6..=LEASE / 6 + secs(1);
    assert!(range.contains(&suspicion.ran), "{suspicion:?}");
    fresh.end(&claims[1], Verdict::Done).await;
    // The second run lives for longer.
    fresh.clock.advance(LEASE / 2);
    assert!(fresh.broker.extend(&claims[..1], LEASE).await.unwrap()[0].is_some());
    assert_eq!(lose_run(&fresh, 3).await.lost, 2);
    let suspicion = fresh.claim_one().await.suspicion().unwrap();
    assert_eq!(suspicion.crashes, 2);
    let range = LEASE / 2 + LEASE / 6..=LEASE / 2 + LEASE / 6 + secs(1);
    assert!(range.contains(&suspicion.ran), "{suspicion:?}");
    fresh.is_sound().await;
}

async fn a_reported_end_clears_a_suspect(fresh: Fresh) {
    fresh.put([task("a").retention(secs(60))]).await;
    let snooze = Verdict::Snooze {
        delay: secs(1),
        waiting_for: None,
    };
    for verdict in [retry(1, "no"), snooze] {
        assert_eq!(lose(&fresh, 3).await.lost, 1);
        assert_eq!(lose(&fresh, 3).await.lost, 2);
        fresh.end(&fresh.claim_one().await, verdict).await;
        fresh.clock.advance(secs(1));
        fresh.forward().await;
    }
    let clean = fresh.claim_one().await;
    assert_eq!(clean.suspicion(), None);
    let again = lose_run(&fresh, 3).await;
    assert_eq!((again.state, again.lost), (TaskState::Retry, 1));
    // Of one that is done nothing remains for the next task of its id.
    fresh.end(&fresh.claim_one().await, Verdict::Done).await;
    let queue = QueueName::default();
    fresh.broker.act(&queue, &id("a"), Action::Delete).await.unwrap();
    fresh.put([task("a")]).await;
    assert_eq!(fresh.claim_one().await.suspicion(), None);
    fresh.is_sound().await;
}

async fn what_was_not_run_stays_a_suspect(fresh: Fresh) {
    fresh.put([task("a")]).await;
    lose(&fresh, 3).await;
    let put_off = Verdict::Snooze {
        delay: secs(1),
        waiting_for: Some("its turn".to_owned()),
    };
    for verdict in [Verdict::HandBack, put_off] {
        let claim = fresh.claim_one().await;
        fresh.end(&claim, verdict).await;
        fresh.clock.advance(secs(1));
        fresh.forward().await;
    }
    let claim = fresh.claim_one().await;
    assert_eq!(claim.suspicion().map(|s| s.crashes), Some(1));
    assert_eq!(claim.task().retried, 1, "waiting uses up no retry");
    fresh.is_sound().await;
}

async fn a_run_whose_process_is_alive_is_not_a_crash(fresh: Fresh) {
    fresh.put([task("a")]).await;
    // However often the store is unreachable, and whatever was noted of the run.
    for _ in 0..4 {
        let claim = fresh.claim_one().await;
        assert_eq!(claim.suspicion(), None);
        assert!(fresh.broker.run_alone(&claim, true).await.unwrap());
        assert_eq!(
            absolve(&fresh, &claim).await,
            Absolved::Held,
            "it was not taken back yet"
        );
        let lost = lose_run(&fresh, 3).await;
        assert_eq!((lost.state, lost.lost, lost.poison), (TaskState::Retry, 1, false));
        assert_eq!(absolve(&fresh, &claim).await, Absolved::Corrected);
        assert_eq!(absolve(&fresh, &claim).await, Absolved::Gone, "it is taken back once");
    }
    let claim = fresh.claim_one().await;
    fresh.end(&claim, Verdict::Done).await;
    assert_eq!(absolve(&fresh, &claim).await, Absolved::Gone);
    fresh.is_sound().await;
}

async fn only_the_last_crash_is_taken_back(fresh: Fresh) {
    fresh.put([task("a")]).await;
    let first = fresh.claim_one().await;
    lose_run(&fresh, 3).await;
    let second = fresh.claim_one().await;
    lose_run(&fresh, 3).await;
    assert_eq!(absolve(&fresh, &first).await, Absolved::Gone);
    assert_eq!(absolve(&fresh, &second).await, Absolved::Corrected);
    let third = fresh.claim_one().await;
    assert_eq!(third.suspicion().map(|s| s.crashes), Some(1));
    fresh.is_sound().await;
}

async fn a_lost_claim_cannot_be_noted_as_alone(fresh: Fresh) {
    fresh.put([task("a")]).await;
    let late = fresh.claim_one().await;
    lose_run(&fresh, 1).await;
    assert!(!fresh.broker.run_alone(&late, true).await.unwrap());
    let ours = fresh.claim_one().await;
    assert!(!fresh.broker.run_alone(&late, true).await.unwrap());
    assert!(!lose_run(&fresh, 1).await.poison);
    assert!(!fresh.broker.run_alone(&ours, true).await.unwrap());
    fresh.is_sound().await;
}

async fn tasks_that_were_lost_together_return_at_different_times(fresh: Fresh) {
    let names: Vec<String> = (0..40).map(|n| format!("t{n}")).collect();
    fresh.put(names.iter().map(|name| task(name))).await;
    assert_eq!(fresh.claim(40).await.len(), 40);
    fresh.clock.advance(LEASE);
    let queues = [QueueName::default()];
    assert_eq!(fresh.broker.recover(&queues, secs(0), 100, 3).await.unwrap().len(), 40);
    let mut most = 0;
    for _ in 0..5 {
        fresh.clock.advance(secs(1));
        most = most.max(fresh.forward().await);
    }
    assert!(most < 30, "{most} of 40 in one second");
    assert_eq!(
        fresh.list(TaskState::Pending).await.len(),
        40,
        "nor do they wait for long"
    );
    fresh.is_sound().await;
}

async fn the_crashes_of_a_poison_task_that_is_run_again_start_at_zero(fresh: Fresh) {
    fresh.put([task("a")]).await;
    assert!(lose_alone(&fresh, 1).await.poison);
    let queue = QueueName::default();
    fresh.broker.act(&queue, &id("a"), Action::Run).await.unwrap();
    let again = lose(&fresh, 2).await;
    assert_eq!((again.state, again.lost, again.poison), (TaskState::Retry, 1, false));
    fresh.is_sound().await;
}

async fn a_last_retry_counts_before_poison_does(fresh: Fresh) {
    fresh.put([task("a").max_retry(1)]).await;
    assert_eq!(lose(&fresh, 3).await.state, TaskState::Retry);
    let last = lose(&fresh, 3).await;
    assert_eq!((last.state, last.lost, last.poison), (TaskState::Archived, 2, false));
    assert_eq!(fresh.see("a").await.record.last_error, LEASE_EXPIRED);
    fresh.is_sound().await;
}
