//! Clauses about how claims end. Those that are not ours any more are in `stale`.

use std::time::Duration;

use bytes::Bytes;
use runner_core::task::{AttemptOutcome, QueueName, TaskState};

use super::shared::{archive, id, retry, secs, task, verdict};
use super::{Clause, Fresh};
use crate::{Action, Attempt, MAX_ATTEMPTS_KEPT, Settled, Verdict};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        a_done_task_is_gone_and_counted,
        a_done_task_with_retention_is_kept_with_its_result,
        what_a_failed_attempt_had_of_a_result_is_kept,
        a_failed_task_waits_for_its_retry_and_carries_the_error,
        a_retry_without_a_failure_counts_nothing,
        a_wait_is_at_most_a_second_longer_than_promised_and_never_shorter,
        an_archived_task_keeps_its_error_and_counts_as_failed,
        a_task_handed_back_is_next_and_unchanged,
        tasks_handed_back_together_come_before_all_others,
        a_revoked_task_is_gone_even_with_a_retention,
        a_snoozed_task_uses_up_no_retry_and_says_what_it_waits_for,
        waiting_tasks_are_released_by_the_type_of_a_new_handler,
        a_delayed_task_is_not_released_as_if_it_waited,
        attempts_are_remembered_oldest_first_and_bounded,
        an_exchange_ends_claims_before_it_takes_new_ones,
        either_half_of_an_exchange_may_be_empty,
    ]
}

async fn a_done_task_is_gone_and_counted(fresh: Fresh) {
    fresh.put([task("a"), task("b")]).await;
    fresh.end(&fresh.claim_one().await, Verdict::Done).await;
    assert!(fresh.look("a").await.is_none());
    assert_eq!(fresh.counted().await, (1, 0));
    fresh.end(&fresh.claim_one().await, Verdict::Done).await;
    assert_eq!(fresh.counted().await, (2, 0));
    assert_eq!(fresh.glance().await.size(), 0);
    fresh.is_sound().await;
}

async fn what_a_failed_attempt_had_of_a_result_is_kept(fresh: Fresh) {
    fresh.put([task("a").retention(secs(60))]).await;
    let result = async |name: &str| fresh.see(name).await.result;
    for (nth, had) in [Some("half"), None, Some("more"), Some("")].into_iter().enumerate() {
        let mut failed = verdict(&fresh.claim_one().await, retry(1, "x"));
        failed.result = had.map(|had| Bytes::from_static(had.as_bytes()));
        assert_eq!(fresh.broker.settle(&[failed]).await.unwrap(), [Settled::Accepted]);
        let kept = if nth < 2 { "half" } else { "more" };
        assert_eq!(result("a").await.as_deref(), Some(kept.as_bytes()));
        fresh.clock.advance(secs(2));
        assert_eq!(fresh.forward().await, 1);
        assert_eq!(result("a").await.as_deref(), Some(kept.as_bytes()));
    }
    let mut failed = verdict(&fresh.claim_one().await, archive("x"));
    failed.result = Some(Bytes::from_static(b"last"));
    assert_eq!(fresh.broker.settle(&[failed]).await.unwrap(), [Settled::Accepted]);
    assert_eq!(result("a").await.as_deref(), Some(&b"last"[..]));
    let default = QueueName::default();
    fresh.broker.act(&default, &id("a"), Action::Run).await.unwrap();
    assert_eq!(result("a").await, None);
    fresh.is_sound().await;
}

async fn a_done_task_with_retention_is_kept_with_its_result(fresh: Fresh) {
    fresh
        .put([task("a").retention(secs(60)), task("b").retention(secs(60))])
        .await;
    let mut done = verdict(&fresh.claim_one().await, Verdict::Done);
    done.result = Some(Bytes::from_static(&[0, 255, b'x']));
    assert_eq!(fresh.broker.settle(&[done]).await.unwrap(), [Settled::Accepted]);
    fresh.end(&fresh.claim_one().await, Verdict::Done).await;
    let info = fresh.see("a").await;
    assert_eq!(info.state, TaskState::Completed);
    assert_eq!(info.result.as_deref(), Some(&[0, 255, b'x'][..]));
    assert_eq!(info.record.completed_at, Some(fresh.now()));
    assert_eq!(info.filed_at, fresh.now().checked_add(secs(60)).ok());
    assert_eq!(info.lease_until, None);
    assert_eq!(fresh.see("b").await.result, None);
    assert_eq!(fresh.counted().await, (2, 0));
    fresh.is_sound().await;
}

async fn a_failed_task_waits_for_its_retry_and_carries_the_error(fresh: Fresh) {
    fresh.put([task("a").max_retry(3)]).await;
    fresh.end(&fresh.claim_one().await, retry(20, "first")).await;
    let info = fresh.see("a").await;
    assert_eq!((info.state, info.record.retried), (TaskState::Retry, 1));
    assert_eq!(info.record.last_error, "first");
    assert_eq!(info.record.last_failed_at, Some(fresh.now()));
    assert_eq!(info.next_run, fresh.now().checked_add(secs(20)).ok());
    assert_eq!(fresh.counted().await, (1, 1));
    fresh.clock.advance(secs(19));
    assert_eq!(fresh.forward().await, 0);
    fresh.clock.advance(secs(1));
    assert_eq!(fresh.forward().await, 1);
    let again = fresh.claim_one().await;
    assert_eq!(again.task().retried, 1);
    assert_eq!(again.task().last_error, "first");
    fresh.end(&again, Verdict::Done).await;
    assert_eq!(fresh.counted().await, (2, 1));
    fresh.is_sound().await;
}

async fn a_retry_without_a_failure_counts_nothing(fresh: Fresh) {
    fresh.put([task("a")]).await;
    let how = Verdict::Retry {
        after: secs(5),
        error: "busy".to_owned(),
        counts: false,
    };
    fresh.end(&fresh.claim_one().await, how).await;
    let info = fresh.see("a").await;
    assert_eq!((info.state, info.record.retried), (TaskState::Retry, 0));
    assert_eq!(info.record.last_error, "busy");
    assert_eq!(fresh.counted().await, (0, 0));
    fresh.is_sound().await;
}

async fn a_wait_is_at_most_a_second_longer_than_promised_and_never_shorter(fresh: Fresh) {
    fresh.put([task("a"), task("b")]).await;
    fresh.clock.advance(Duration::from_millis(400));
    fresh.end(&fresh.claim_one().await, retry(2, "busy")).await;
    fresh.end(&fresh.claim_one().await, snooze(2, None)).await;
    for name in ["a", "b"] {
        let wait = fresh.see(name).await.next_run.unwrap().duration_since(fresh.now());
        assert!((2000..=3000).contains(&wait.as_millis()), "{name}: {wait:?}");
    }
    fresh.is_sound().await;
}

async fn an_archived_task_keeps_its_error_and_counts_as_failed(fresh: Fresh) {
    fresh.put([task("a")]).await;
    fresh.end(&fresh.claim_one().await, archive("hopeless")).await;
    let info = fresh.see("a").await;
    assert_eq!((info.state, info.record.retried), (TaskState::Archived, 0));
    assert_eq!(info.record.last_error, "hopeless");
    assert_eq!(info.record.last_failed_at, Some(fresh.now()));
    assert_eq!(info.filed_at, Some(fresh.now()));
    assert_eq!(fresh.counted().await, (1, 1));
    fresh.is_sound().await;
}

async fn a_task_handed_back_is_next_and_unchanged(fresh: Fresh) {
    fresh.put([task("a"), task("b"), task("c")]).await;
    let claims = fresh.claim(2).await;
    fresh.end(&claims[1], Verdict::HandBack).await;
    fresh.end(&claims[0], Verdict::HandBack).await;
    assert_eq!(fresh.list(TaskState::Pending).await, ["a", "b", "c"]);
    let info = fresh.see("a").await;
    assert_eq!((info.record.retried, info.record.last_error.as_str()), (0, ""));
    assert_eq!(fresh.counted().await, (0, 0));
    assert_eq!(fresh.claim_ids(9).await, ["a", "b", "c"]);
    fresh.is_sound().await;
}

async fn tasks_handed_back_together_come_before_all_others(fresh: Fresh) {
    fresh.put((0..20).map(|n| task(&format!("{n:02}")))).await;
    let claims = fresh.claim(12).await;
    let all: Vec<_> = claims.iter().map(|c| verdict(c, Verdict::HandBack)).collect();
    let answers = fresh.broker.settle(&all).await.unwrap();
    assert_eq!(answers, [Settled::Accepted; 12]);
    let mut first = fresh.claim_ids(12).await;
    first.sort();
    let expected: Vec<_> = (0..12).map(|n| format!("{n:02}")).collect();
    assert_eq!(first, expected);
    fresh.is_sound().await;
}

async fn a_revoked_task_is_gone_even_with_a_retention(fresh: Fresh) {
    fresh.put([task("a").retention(secs(60))]).await;
    fresh.end(&fresh.claim_one().await, Verdict::Revoke).await;
    assert!(fresh.look("a").await.is_none());
    assert_eq!(fresh.counted().await, (1, 0));
    fresh.is_sound().await;
}

pub(super) fn snooze(delay: u64, waiting_for: Option<&str>) -> Verdict {
    Verdict::Snooze {
        delay: secs(delay),
        waiting_for: waiting_for.map(str::to_owned),
    }
}

async fn a_snoozed_task_uses_up_no_retry_and_says_what_it_waits_for(fresh: Fresh) {
    fresh.put([task("a"), task("b")]).await;
    fresh.end(&fresh.claim_one().await, snooze(30, Some("a handler"))).await;
    fresh.end(&fresh.claim_one().await, snooze(30, None)).await;
    let info = fresh.see("a").await;
    assert_eq!((info.state, info.record.retried), (TaskState::Scheduled, 0));
    assert_eq!(info.next_run, fresh.now().checked_add(secs(30)).ok());
    assert_eq!(info.waiting_for.as_deref(), Some("a handler"));
    assert_eq!(info.record.last_error, "");
    assert_eq!(fresh.see("b").await.waiting_for, None);
    assert_eq!(fresh.counted().await, (0, 0));
    fresh.clock.advance(secs(30));
    assert_eq!(fresh.forward().await, 2);
    assert_eq!(fresh.see("a").await.waiting_for, None);
    assert_eq!(fresh.claim(9).await.len(), 2);
    fresh.is_sound().await;
}

async fn waiting_tasks_are_released_by_the_type_of_a_new_handler(fresh: Fresh) {
    let kinds = ["mail:send", "mail:bulk", "mailbox", "sms:send", "report"];
    fresh.put(kinds.map(|kind| task(kind).id(id(kind)))).await;
    for claim in fresh.claim(9).await {
        let why = format!("a handler for {}", claim.task().kind);
        fresh.end(&claim, snooze(3600, Some(&why))).await;
    }
    let queues = [QueueName::default()];
    let release = async |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|n| format!("test:{n}")).collect();
        fresh.broker.release_waiting(&queues, &names).await.unwrap()
    };
    assert_eq!(release(&["nothing", "mail", "sms:*x"]).await, 0);
    assert_eq!(release(&["sms:send"]).await, 1);
    assert_eq!(fresh.list(TaskState::Pending).await, ["sms:send"]);
    assert_eq!(fresh.see("sms:send").await.waiting_for, None);
    assert_eq!(release(&["mail:*"]).await, 2);
    assert_eq!(fresh.state("mailbox").await, Some(TaskState::Scheduled));
    assert_eq!(fresh.state("report").await, Some(TaskState::Scheduled));
    assert_eq!(release(&["report", "*"]).await, 2);
    assert_eq!(release(&["*"]).await, 0);
    assert_eq!(fresh.claim(9).await.len(), 5);
    fresh.is_sound().await;
}

async fn a_delayed_task_is_not_released_as_if_it_waited(fresh: Fresh) {
    use runner_core::task::Run;
    fresh.put([task("a").run(Run::In(secs(60))), task("b")]).await;
    fresh.end(&fresh.claim_one().await, snooze(60, None)).await;
    let queues = [QueueName::default()];
    let names = ["*".to_owned(), "test:a".to_owned(), "test:b".to_owned()];
    assert_eq!(fresh.broker.release_waiting(&queues, &names).await.unwrap(), 0);
    assert_eq!(fresh.list(TaskState::Scheduled).await, ["a", "b"]);
    fresh.is_sound().await;
}

pub(super) fn attempt(fresh: &Fresh, number: u32) -> Attempt {
    Attempt {
        number,
        started_at: fresh.now(),
        ended_at: fresh.now(),
        outcome: AttemptOutcome::Retry,
        error: Some("no".to_owned()),
        server: "host:1".to_owned(),
        log: Some("line\n".to_owned()),
    }
}

pub(super) async fn attempts(fresh: &Fresh) -> Vec<Attempt> {
    let (queue, id) = (QueueName::default(), id("a"));
    fresh.broker.attempts(&queue, &id).await.unwrap()
}

async fn attempts_are_remembered_oldest_first_and_bounded(fresh: Fresh) {
    fresh.put([task("a").max_retry(100)]).await;
    let most = u32::try_from(MAX_ATTEMPTS_KEPT).unwrap();
    for number in 1..=most + 3 {
        let mut settlement = verdict(&fresh.claim_one().await, retry(1, "no"));
        settlement.attempt = Some(attempt(&fresh, number));
        fresh.broker.settle(&[settlement]).await.unwrap();
        fresh.clock.advance(secs(1));
        fresh.forward().await;
        if number == 2 {
            let first = attempts(&fresh).await;
            assert_eq!(first.len(), 2);
            assert_eq!(first[1].error.as_deref(), Some("no"));
            assert_eq!(first[1].log.as_deref(), Some("line\n"));
        }
    }
    let numbers: Vec<u32> = attempts(&fresh).await.iter().map(|a| a.number).collect();
    assert_eq!(numbers, (4..=most + 3).collect::<Vec<_>>());
    delete(&fresh, "a").await;
    assert!(attempts(&fresh).await.is_empty());
    fresh.is_sound().await;
}

pub(super) async fn delete(fresh: &Fresh, name: &str) {
    let (queue, id) = (QueueName::default(), id(name));
    fresh.broker.act(&queue, &id, Action::Delete).await.unwrap();
}

async fn an_exchange_ends_claims_before_it_takes_new_ones(fresh: Fresh) {
    fresh.put([task("a"), task("b"), task("c")]).await;
    let claims = fresh.claim(2).await;
    let ends = [
        verdict(&claims[0], Verdict::Done),
        verdict(&claims[1], Verdict::HandBack),
    ];
    let queues = [QueueName::default()];
    let done = fresh.broker.exchange(&ends, &queues, 5, secs(30)).await.unwrap();
    assert_eq!(done.settled.unwrap(), [Settled::Accepted, Settled::Accepted]);
    let taken = done.claims.unwrap();
    let ids: Vec<_> = taken.iter().map(|c| c.task().id.as_str()).collect();
    assert_eq!(ids, ["b", "c"], "what was handed back is next");
    let again = fresh.broker.exchange(&ends, &queues, 1, secs(30)).await.unwrap();
    assert_eq!(again.settled.unwrap(), [Settled::Stale, Settled::Stale]);
    assert!(again.claims.unwrap().is_empty());
    assert_eq!(fresh.counted().await, (1, 0));
    fresh.is_sound().await;
}

async fn either_half_of_an_exchange_may_be_empty(fresh: Fresh) {
    fresh.put([task("a"), task("b")]).await;
    let queues = [QueueName::default()];
    let taken = fresh.broker.exchange(&[], &queues, 1, secs(30)).await.unwrap();
    assert!(taken.settled.unwrap().is_empty());
    let claims = taken.claims.unwrap();
    assert_eq!(claims.len(), 1);
    let ended = fresh
        .broker
        .exchange(&[verdict(&claims[0], Verdict::Done)], &queues, 0, secs(30))
        .await
        .unwrap();
    assert_eq!(ended.settled.unwrap(), [Settled::Accepted]);
    assert!(ended.claims.unwrap().is_empty(), "none was asked for");
    assert_eq!(fresh.glance().await.counts[&TaskState::Pending], 1);
    fresh.is_sound().await;
}
