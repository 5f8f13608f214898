//! Clauses about tasks that follow others: enqueued in the step in which the one before ends, once, also into another queue.

use std::sync::Arc;
use std::time::Duration;

use runner_core::task::{QueueName, TRACESTATE, Task, TaskState, TraceContext};

use super::shared::{LEASE, archive, id, queue, retry, secs, task, verdict};
use super::{Clause, Fresh};
use crate::{Action, Delivery, EndedTask, FollowUps, Settled, TaskEnd, Verdict};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        a_task_that_ends_is_followed_by_another,
        what_follows_is_there_when_the_same_call_claims,
        what_follows_may_wait_in_a_group,
        what_follows_belongs_to_the_trace_of_the_task,
        a_repeated_verdict_is_followed_once,
        a_task_that_continues_is_not_followed,
        a_failure_is_followed_once_it_is_for_good,
        a_lost_task_without_retries_is_followed,
        what_follows_waits_in_a_queue_of_its_own,
        thousands_that_follow_into_another_queue_all_arrive,
        a_task_that_is_run_again_is_followed_again,
        what_no_store_would_take_keeps_no_verdict_from_being_written,
    ]
}

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Tasks of type `test:first` are followed by one named after task, run and end; those of `test:grouped` by one that waits in a
/// group, those of `test:odd` by one that is invalid.
struct Next(QueueName);

impl FollowUps for Next {
    fn any(&self) -> bool {
        true
    }

    fn follow(&self, kind: &str) -> bool {
        ["test:first", "test:grouped", "test:odd"].contains(&kind)
    }

    fn after(&self, ended: &EndedTask<'_>) -> Vec<Delivery> {
        let kind = if ended.task.kind == "test:odd" { " " } else { "next" };
        let name = format!("{}-{}-{}", ended.task.id, ended.run, ended.end.as_str());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let said = format!("{:?} {:?}", ended.result.map(text), ended.error);
        let mut next = Task::new(kind).id(id(&name)).queue(self.0.clone());
        if ended.task.kind == "test:grouped" {
            next = next.group("g");
        }
        vec![Delivery {
            task: next.payload(said).header("k", "v"),
            remember: DAY,
        }]
    }
}

impl Fresh {
    /// Lets tasks be followed by others in this queue, and claims a task that is.
    async fn followed(&self, next: &QueueName) -> crate::Claim {
        self.broker.follow_by(Arc::new(Next(next.clone())));
        self.put([task("first").retention(secs(60))]).await;
        self.claim_one().await
    }

    /// The tasks that follow and wait in this queue.
    async fn next(&self, queue: &QueueName) -> Vec<crate::Claim> {
        self.broker.move_followers().await.unwrap();
        let mut claims = self.broker.claim(std::slice::from_ref(queue), 9, LEASE).await.unwrap();
        claims.retain(|claim| claim.task().kind == "next");
        claims
    }
}

fn name_of(claim: &crate::Claim, end: TaskEnd) -> String {
    format!("{}-{}-{}", claim.task().id, claim.run(), end.as_str())
}

async fn what_follows_belongs_to_the_trace_of_the_task(fresh: Fresh) {
    let next = queue("next");
    fresh.broker.follow_by(Arc::new(Next(next.clone())));
    let parent = TraceContext::root(true);
    fresh
        .put([task("first").traced(&parent.to_string(), Some("v=1"))])
        .await;
    let claim = fresh.claim_one().await;
    let attempt = parent.attempt(claim.task().id.as_str(), claim.run());
    fresh.broker.settle(&[verdict(&claim, Verdict::Done)]).await.unwrap();
    let follower = fresh.next(&next).await.remove(0);
    let headers = &follower.task().headers;
    assert_eq!(
        TraceContext::of(headers),
        Some(attempt),
        "within the attempt that ended it"
    );
    assert_eq!((headers[TRACESTATE].as_str(), headers["k"].as_str()), ("v=1", "v"));
}

async fn a_task_that_ends_is_followed_by_another(fresh: Fresh) {
    let own = QueueName::default();
    let claim = fresh.followed(&own).await;
    let mut done = verdict(&claim, Verdict::Done);
    done.result = Some((&b"42"[..]).into());
    assert_eq!(fresh.broker.settle(&[done]).await.unwrap(), [Settled::Accepted]);
    let next = fresh.next(&own).await;
    assert_eq!(next.len(), 1);
    let record = next[0].task();
    assert_eq!(record.id.as_str(), name_of(&claim, TaskEnd::Succeeded));
    assert_eq!(&record.payload[..], b"Some(\"42\") None");
    assert_eq!(record.headers["k"], "v");
    // The next one is followed by nothing.
    fresh.end(&next[0], Verdict::Done).await;
    assert!(fresh.next(&own).await.is_empty());
    assert_eq!(fresh.counted().await, (2, 0));
    fresh.is_sound().await;
}

async fn what_follows_is_there_when_the_same_call_claims(fresh: Fresh) {
    let own = QueueName::default();
    let claim = fresh.followed(&own).await;
    let done = [verdict(&claim, Verdict::Done)];
    let exchanged = fresh
        .broker
        .exchange(&done, std::slice::from_ref(&own), 5, LEASE)
        .await
        .unwrap();
    assert_eq!(exchanged.settled.unwrap(), [Settled::Accepted]);
    let mut claims = exchanged.claims.unwrap();
    // A cluster settles and claims side by side.
    claims.extend(fresh.next(&own).await);
    assert_eq!(claims.len(), 1);
    assert_eq!(claims[0].task().kind, "next");
    fresh.is_sound().await;
}

async fn what_follows_may_wait_in_a_group(fresh: Fresh) {
    let own = QueueName::default();
    fresh.broker.follow_by(Arc::new(Next(own.clone())));
    let grouped = Task::new("test:grouped").id(id("first"));
    fresh.put([grouped]).await;
    let claim = fresh.claim_one().await;
    fresh.end(&claim, Verdict::Done).await;
    assert!(fresh.next(&own).await.is_empty());
    let name = name_of(&claim, TaskEnd::Succeeded);
    let waiting = fresh.look(&name).await.unwrap();
    assert_eq!(waiting.state, TaskState::Aggregating);
    assert_eq!(waiting.record.group.as_deref(), Some("g"));
    fresh.is_sound().await;
}

async fn a_repeated_verdict_is_followed_once(fresh: Fresh) {
    let own = QueueName::default();
    let claim = fresh.followed(&own).await;
    let done = verdict(&claim, Verdict::Done);
    let twice = [done.clone(), done.clone()];
    let answers = fresh.broker.settle(&twice).await.unwrap();
    assert_eq!(answers, [Settled::Accepted, Settled::Stale]);
    assert_eq!(fresh.broker.settle(&[done]).await.unwrap(), [Settled::Stale]);
    assert_eq!(fresh.next(&own).await.len(), 1);
    fresh.is_sound().await;
}

async fn a_task_that_continues_is_not_followed(fresh: Fresh) {
    let own = QueueName::default();
    let claim = fresh.followed(&own).await;
    fresh.end(&claim, Verdict::HandBack).await;
    let claim = fresh.claim_one().await;
    let snooze = Verdict::Snooze {
        delay: secs(1),
        waiting_for: None,
    };
    fresh.end(&claim, snooze).await;
    fresh.clock.advance(secs(2));
    assert_eq!(fresh.forward().await, 1);
    fresh.end(&fresh.claim_one().await, retry(1, "x")).await;
    assert!(fresh.next(&own).await.is_empty());
    fresh.is_sound().await;
}

async fn a_failure_is_followed_once_it_is_for_good(fresh: Fresh) {
    let own = QueueName::default();
    let claim = fresh.followed(&own).await;
    fresh.end(&claim, archive("no disk")).await;
    let next = fresh.next(&own).await;
    assert_eq!(next.len(), 1);
    assert_eq!(next[0].task().id.as_str(), name_of(&claim, TaskEnd::Failed));
    assert_eq!(&next[0].task().payload[..], b"None Some(\"no disk\")");
    fresh.is_sound().await;
}

async fn a_lost_task_without_retries_is_followed(fresh: Fresh) {
    let own = QueueName::default();
    fresh.broker.follow_by(Arc::new(Next(own.clone())));
    fresh.put([task("first").max_retry(0)]).await;
    let claim = fresh.claim_one().await;
    fresh.clock.advance(LEASE + secs(40));
    let recovered = fresh
        .broker
        .recover(std::slice::from_ref(&own), secs(5), 9, 0)
        .await
        .unwrap();
    assert_eq!(recovered.len(), 1);
    assert_eq!(recovered[0].state, TaskState::Archived);
    let next = fresh.next(&own).await;
    assert_eq!(next.len(), 1);
    assert_eq!(next[0].task().id.as_str(), name_of(&claim, TaskEnd::Failed));
    // The worker was only slow; its verdict comes too late.
    let late = fresh.broker.settle(&[verdict(&claim, Verdict::Done)]).await.unwrap();
    assert_eq!(late, [Settled::Stale]);
    assert!(fresh.next(&own).await.is_empty());
    fresh.is_sound().await;
}

async fn thousands_that_follow_into_another_queue_all_arrive(fresh: Fresh) {
    /// More than one look at a hash of a cluster can find.
    const MANY: usize = 5_000;
    let other = queue("other");
    fresh.broker.follow_by(Arc::new(Next(other.clone())));
    fresh.put((0..MANY).map(|_| Task::new("test:first"))).await;
    for _ in 0..MANY / 100 {
        let claims = fresh.claim(100).await;
        let done: Vec<_> = claims.iter().map(|claim| verdict(claim, Verdict::Done)).collect();
        assert_eq!(fresh.broker.settle(&done).await.unwrap(), vec![Settled::Accepted; 100]);
    }
    fresh.broker.move_followers().await.unwrap();
    let counts = fresh.broker.queues_of(std::slice::from_ref(&other)).await.unwrap();
    assert_eq!(counts[0].counts[&TaskState::Pending], MANY as u64);
    assert_eq!(fresh.broker.move_followers().await.unwrap(), 0);
}

async fn what_follows_waits_in_a_queue_of_its_own(fresh: Fresh) {
    // In a cluster it is in another slot.
    let other = queue("next");
    fresh.broker.follow_by(Arc::new(Next(other.clone())));
    for name in ["first", "again"] {
        let first = Task::new("test:first").id(id(name));
        fresh.put([first]).await;
        let claim = fresh.claim_one().await;
        fresh.end(&claim, Verdict::Done).await;
        let next = fresh.next(&other).await;
        assert_eq!(next.len(), 1, "{name}");
        assert_eq!(next[0].task().id.as_str(), name_of(&claim, TaskEnd::Succeeded));
        fresh.end(&next[0], Verdict::Done).await;
        assert!(fresh.next(&other).await.is_empty());
    }
    assert!(fresh.broker.queue_names().await.unwrap().contains(&other));
    fresh.is_sound().await;
}

async fn a_task_that_is_run_again_is_followed_again(fresh: Fresh) {
    let own = QueueName::default();
    let first = fresh.followed(&own).await;
    fresh.end(&first, archive("x")).await;
    assert_eq!(fresh.next(&own).await.len(), 1);
    fresh.broker.act(&own, &id("first"), Action::Run).await.unwrap();
    let second = fresh.claim_one().await;
    assert!(second.run() > first.run());
    fresh.end(&second, Verdict::Done).await;
    let next = fresh.next(&own).await;
    assert_eq!(next[0].task().id.as_str(), name_of(&second, TaskEnd::Succeeded));
    fresh.is_sound().await;
}

async fn what_no_store_would_take_keeps_no_verdict_from_being_written(fresh: Fresh) {
    let own = QueueName::default();
    fresh.broker.follow_by(Arc::new(Next(own.clone())));
    fresh.put([task("odd")]).await;
    fresh.end(&fresh.claim_one().await, Verdict::Done).await;
    assert!(fresh.look("odd").await.is_none());
    assert!(fresh.broker.claim(&[own], 9, LEASE).await.unwrap().is_empty());
    fresh.is_sound().await;
}
