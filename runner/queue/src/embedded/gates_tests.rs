//! Guarantees about gates in the file: their one order, wrong clocks, what a claim let pass, damaged rows. What each broker
//! guarantees about limits is in the contract.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use runner_core::clock::ManualClock;
use runner_core::limit::{LimitRule, Limits, StartRate, TaskLimit};
use runner_core::task::{Task, TaskId};
use tempfile::TempDir;

use super::tests::{clock, meddle, open_with, sound};
use super::*;
use crate::{Action, Actions as _, Claim, Claims as _, Producer, Settlement, Upkeep as _, Verdict};

fn concurrency(most: u32) -> TaskLimit {
    TaskLimit::new(LimitRule::Concurrency(most))
}

fn rate(count: u32, per: Duration) -> TaskLimit {
    let burst = 1;
    TaskLimit::new(LimitRule::Rate(StartRate { count, per, burst }))
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn ids(claims: &[Claim]) -> Vec<&str> {
    claims.iter().map(|claim| claim.task().id.as_str()).collect()
}

fn done(claim: &Claim) -> Settlement {
    Settlement {
        claim: claim.clone(),
        verdict: Verdict::Done,
        result: None,
        attempt: None,
    }
}

/// A broker with a clock, on a queue with tasks of the types `limited` and `free`.
struct Place {
    broker: EmbeddedBroker,
    clock: Arc<ManualClock>,
    _directory: TempDir,
}

impl Place {
    async fn open() -> Self {
        let (directory, clock) = (tempfile::tempdir().unwrap(), clock());
        let broker = open_with(&directory, clock.clone()).await;
        Self {
            broker,
            clock,
            _directory: directory,
        }
    }

    /// Sets the limits of the type `limited` and of the queue.
    fn limits(&self, of_type: Option<TaskLimit>, of_queue: Option<TaskLimit>) {
        let mut all = Limits::default();
        if let Some(limit) = of_type {
            all.add("limited", limit);
        }
        if let Some(limit) = of_queue {
            all.add_of_queue(QueueName::default(), limit);
        }
        self.broker.claims_limits(&all);
    }

    async fn put(&self, kind: &str, names: &[&str]) {
        let tasks: Vec<_> = names
            .iter()
            .map(|name| Task::new(kind).id(TaskId::new(*name).unwrap()))
            .collect();
        for answer in self.broker.enqueue(&tasks).await.unwrap() {
            answer.unwrap();
        }
    }

    async fn claim(&self, most: usize) -> Vec<Claim> {
        self.broker
            .claim(&[QueueName::default()], most, secs(30))
            .await
            .unwrap()
    }

    async fn done(&self, claims: &[Claim]) {
        let ends: Vec<_> = claims.iter().map(done).collect();
        self.broker.settle(&ends).await.unwrap();
    }

    async fn act(&self, name: &str, action: Action) {
        let id = TaskId::new(name).unwrap();
        self.broker.act(&QueueName::default(), &id, action).await.unwrap();
    }
}

#[tokio::test]
async fn two_limits_whose_gates_both_have_waiters_drain_in_one_order() {
    let place = Place::open().await;
    place.limits(Some(concurrency(1)), None);
    place.put("limited", &["x", "a", "b", "c"]).await;
    let of_type = place.claim(9).await;
    assert_eq!(ids(&of_type), ["x"]);
    place.limits(None, Some(concurrency(1)));
    place.put("free", &["y"]).await;
    place.put("limited", &["d", "e", "f"]).await;
    let of_queue = place.claim(9).await;
    assert_eq!(ids(&of_queue), ["y"]);
    place.limits(Some(concurrency(1)), Some(concurrency(1)));
    place.done(&[of_type, of_queue].concat()).await;
    for name in ["a", "b", "c", "d", "e", "f"] {
        let claims = place.claim(9).await;
        assert_eq!(ids(&claims), [name]);
        place.done(&claims).await;
    }
    sound(&place.broker).await;
}

#[tokio::test]
async fn a_rate_and_a_number_at_a_time_drain_together() {
    let place = Place::open().await;
    place.limits(Some(concurrency(2)), Some(rate(1, secs(10))));
    let names: Vec<String> = (10..40).map(|n| format!("t{n}")).collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let (mut running, mut started) = (Vec::new(), Vec::new());
    for part in all.chunks(5) {
        place.put("limited", part).await;
        running.extend(place.claim(9).await);
    }
    for step in 0..200 {
        assert!(running.len() <= 2, "{:?}", ids(&running));
        if step % 3 == 0 && !running.is_empty() {
            let ended = running.remove(0);
            started.push(ended.task().id.as_str().to_owned());
            place.done(&[ended]).await;
        }
        place.clock.advance(secs(7));
        place.broker.extend(&running, secs(30)).await.unwrap();
        place.broker.forward(&[QueueName::default()], 99).await.unwrap();
        running.extend(place.claim(9).await);
    }
    assert_eq!(started, names);
    sound(&place.broker).await;
}

#[tokio::test]
async fn a_raised_rate_is_in_force_at_once() {
    let place = Place::open().await;
    place.limits(Some(rate(1, secs(3600))), None);
    place.put("limited", &["a", "b"]).await;
    assert_eq!(ids(&place.claim(9).await), ["a"]);
    place.limits(Some(rate(1, secs(10))), None);
    place.put("limited", &["c"]).await;
    assert!(place.claim(9).await.is_empty());
    for name in ["b", "c"] {
        place.clock.advance(secs(10));
        assert_eq!(ids(&place.claim(9).await), [name]);
    }
    sound(&place.broker).await;
}

#[tokio::test]
async fn a_rate_that_was_used_by_a_clock_ahead_continues() {
    let place = Place::open().await;
    place.limits(Some(rate(1, secs(10))), None);
    place.put("limited", &["a", "b", "c"]).await;
    assert_eq!(ids(&place.claim(9).await), ["a"]);
    meddle(
        &place.broker,
        "UPDATE gates SET used_up = used_up + 36000000000 WHERE rule = 'rate'",
    );
    for expected in [&[][..], &["b"], &["c"]] {
        place.clock.advance(secs(10));
        assert_eq!(ids(&place.claim(9).await), expected);
    }
    sound(&place.broker).await;
}

#[tokio::test]
async fn what_a_claim_lets_pass_holds_its_place_in_the_same_claim() {
    let place = Place::open().await;
    place.limits(None, Some(concurrency(1)));
    place.put("free", &["x"]).await;
    place.put("limited", &["a", "b"]).await;
    place.put("free", &["f"]).await;
    let first = place.claim(9).await;
    assert_eq!(ids(&first), ["x"]);
    place.limits(Some(concurrency(1)), Some(concurrency(1)));
    place.done(&first).await;
    // `b` waits for the other limit from now on, and leaves this gate while `a` is not active yet.
    place.act("b", Action::Run).await;
    place.act("f", Action::Run).await;
    assert_eq!(ids(&place.claim(9).await), ["a"]);
    sound(&place.broker).await;
}

#[tokio::test]
async fn a_deleted_task_leaves_its_gates_at_once() {
    let place = Place::open().await;
    place.limits(Some(TaskLimit::new(LimitRule::Sequence)), None);
    place.put("limited", &["a", "b", "c", "d"]).await;
    let first = place.claim(9).await;
    assert_eq!(ids(&first), ["a"]);
    let retry = Verdict::Retry {
        after: secs(600),
        error: "not yet".to_owned(),
        counts: true,
    };
    let verdict = Settlement {
        verdict: retry,
        ..done(&first[0])
    };
    place.broker.settle(&[verdict]).await.unwrap();
    place.act("b", Action::Delete).await;
    place.act("a", Action::Delete).await;
    assert_eq!(ids(&place.claim(9).await), ["c"]);
    // One of the same name is a new one.
    place.put("limited", &["b"]).await;
    place.act("d", Action::Delete).await;
    assert!(place.claim(9).await.is_empty());
    sound(&place.broker).await;
}

#[tokio::test]
async fn many_waiters_that_are_gone_hold_up_none() {
    let place = Place::open().await;
    place.limits(Some(concurrency(1)), None);
    let names: Vec<String> = (0..1500).map(|n| format!("t{n:04}")).collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    for part in all.chunks(500) {
        place.put("limited", part).await;
    }
    let mut first = place.claim(1).await;
    assert_eq!(ids(&first), ["t0000"]);
    assert!(place.claim(1).await.is_empty());
    meddle(
        &place.broker,
        "DELETE FROM tasks WHERE id BETWEEN 't0001' AND 't1400'; \
           UPDATE queues SET scheduled = (SELECT count(*) FROM tasks WHERE state = 'scheduled'), \
           pending = (SELECT count(*) FROM tasks WHERE state = 'pending')",
    );
    place.done(&first).await;
    first = place.claim(1).await;
    assert_eq!(ids(&first), ["t1401"]);
    sound(&place.broker).await;
}
