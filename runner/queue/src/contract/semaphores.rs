//! Semaphores that programs in Go share: who counts, and for how long.
//!
//! Not here: other limits (`limits`), and what only Redis has, such as several queues with one semaphore.

use std::time::Duration;

use runner_core::limit::{LimitKey, LimitRule, Limits, OnLimit, SharedSemaphore, StartRate, TaskLimit};
use runner_core::task::{QueueName, Task, TaskState};

use super::shared::{LEASE, id, names, retry, secs};
use super::{Clause, Fresh};
use crate::{Claim, Verdict};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        types_that_name_one_semaphore_share_its_places,
        a_semaphore_counts_what_programs_in_go_hold,
        a_task_holds_a_place_until_its_claim_ends,
        a_place_lasts_as_long_as_its_lease,
        a_place_of_a_dead_program_is_free_when_its_time_is_over,
        a_lost_run_gives_its_place_back,
        a_semaphore_with_a_key_has_a_scope_for_each_value,
        a_full_semaphore_is_looked_at_again_soon,
        a_semaphore_that_skips_marks_the_claim,
        a_semaphore_stands_beside_other_limits,
        two_limits_with_one_key_share_its_places,
        a_task_whose_last_try_in_go_died_waits_not_for_its_own_place,
        a_semaphore_that_only_this_queue_uses_is_not_looked_at_often,
        a_removed_queue_gives_its_places_back,
    ]
}

/// In the slot of the queue, should there be any slots.
const SCOPE: &str = "{default}:api";

fn semaphore(scope: &str, most: u32) -> TaskLimit {
    TaskLimit::new(LimitRule::Semaphore(SharedSemaphore::new(scope, most).unwrap()))
}

fn of(kind: &str, name: &str) -> Task {
    Task::new(kind).id(id(name))
}

impl Fresh {
    fn semaphore(&self, limit: TaskLimit) {
        let mut limits = Limits::default();
        limits.add("a", limit.clone());
        limits.add("b", limit);
        self.broker.claims_limits(&limits);
    }

    /// Asks the store beside the broker.
    async fn ask(&self, words: &[&str]) -> Vec<String> {
        let words = words.iter().map(|&word| word.to_owned()).collect();
        self.beside.as_ref().expect("it was asked for")(words).await
    }

    /// The members of a semaphore, and for how many seconds each lasts.
    async fn members(&self, scope: &str) -> Vec<(String, i64)> {
        let key = format!("asynq:sema:{scope}");
        let answer = self.ask(&["ZRANGE", &key, "0", "-1", "WITHSCORES"]).await;
        let now = self.now().as_second();
        let pairs = answer.chunks_exact(2);
        pairs
            .map(|pair| (pair[0].clone(), pair[1].parse::<i64>().unwrap() - now))
            .collect()
    }

    /// Takes a place as a program in Go does, for this many seconds.
    async fn go_takes(&self, scope: &str, name: &str, for_secs: i64) {
        let until = (self.now().as_second() + for_secs).to_string();
        self.ask(&["ZADD", &format!("asynq:sema:{scope}"), &until, name]).await;
    }

    async fn go_leaves(&self, scope: &str, name: &str) {
        self.ask(&["ZREM", &format!("asynq:sema:{scope}"), name]).await;
    }

    /// What a wait of this length brings: waiters that may go on, and those that are claimed now.
    async fn later(&self, millis: u64) -> Vec<String> {
        self.clock.advance(std::time::Duration::from_millis(millis));
        self.forward().await;
        self.claim_ids(9).await
    }
}

async fn types_that_name_one_semaphore_share_its_places(fresh: Fresh) {
    fresh.semaphore(semaphore(SCOPE, 2));
    fresh
        .put([
            of("a", "a1"),
            of("b", "b1"),
            of("a", "a2"),
            of("c", "c1"),
            of("b", "b2"),
        ])
        .await;
    let first = fresh.claim(9).await;
    assert_eq!(names(&first), ["a1", "b1", "c1"]);
    let waits = fresh.see("a2").await;
    let what = "limit semaphore {default}:api: 2 of 2 run, place 1 of 2";
    assert_eq!((waits.record.retried, waits.waiting_for.as_deref()), (0, Some(what)));
    let used = fresh.broker.limits_in_use(&QueueName::default()).await.unwrap();
    let used: Vec<_> = used.iter().map(|l| (&*l.name, l.most, l.running, l.waiting)).collect();
    assert_eq!(used, [("semaphore {default}:api", Some(2), 2, 2)]);
    fresh.end(&first[1], Verdict::Done).await;
    assert_eq!(fresh.claim_ids(9).await, ["a2"]);
    fresh.end(&first[0], Verdict::HandBack).await;
    assert_eq!(fresh.claim_ids(1).await, ["b2"], "it came first");
    fresh.is_sound().await;
}

async fn a_semaphore_counts_what_programs_in_go_hold(fresh: Fresh) {
    if fresh.beside.is_none() {
        return fresh.is_sound().await;
    }
    fresh.semaphore(semaphore(SCOPE, 2));
    fresh.go_takes(SCOPE, "go1", 600).await;
    fresh.put(["a1", "a2", "a3"].map(|name| of("a", name))).await;
    let first = fresh.claim(9).await;
    assert_eq!(names(&first), ["a1"]);
    assert_eq!(fresh.list(TaskState::Scheduled).await, ["a2", "a3"]);
    let what = "limit semaphore {default}:api: 2 of 2 run, place 1 of 2";
    assert_eq!(fresh.see("a2").await.waiting_for.as_deref(), Some(what));
    // A place that Go takes first is not ours.
    fresh.end(&first[0], Verdict::Done).await;
    fresh.go_takes(SCOPE, "go2", 600).await;
    assert!(fresh.claim(9).await.is_empty());
    assert_eq!(fresh.later(100).await, [""; 0]);
    fresh.go_leaves(SCOPE, "go1").await;
    assert_eq!(fresh.later(100).await, ["a2"]);
    fresh.go_leaves(SCOPE, "go2").await;
    assert_eq!(fresh.later(100).await, ["a3"]);
    fresh.is_sound().await;
}

async fn a_task_holds_a_place_until_its_claim_ends(fresh: Fresh) {
    if fresh.beside.is_none() {
        return fresh.is_sound().await;
    }
    fresh.semaphore(semaphore(SCOPE, 9));
    let ways = [
        Verdict::Done,
        retry(600, "no"),
        Verdict::Archive { error: "no".to_owned() },
        Verdict::HandBack,
        Verdict::Revoke,
    ];
    for (nth, way) in ways.into_iter().enumerate() {
        let name = format!("a{nth}");
        fresh.put([of("a", &name)]).await;
        let claims = fresh.claim(9).await;
        let held = fresh.members(SCOPE).await;
        let ours: Vec<&str> = held.iter().map(|(member, _)| member.as_str()).collect();
        assert_eq!(ours, [&name], "{way:?}");
        assert!(held[0].1 >= 30, "{held:?}");
        let back = way == Verdict::HandBack;
        fresh.end(&claims[0], way).await;
        assert_eq!(fresh.members(SCOPE).await, []);
        if back {
            let again = fresh.claim_one().await;
            fresh.end(&again, Verdict::Done).await;
        }
    }
    fresh.is_sound().await;
}

async fn a_place_lasts_as_long_as_its_lease(fresh: Fresh) {
    if fresh.beside.is_none() {
        return fresh.is_sound().await;
    }
    fresh.semaphore(semaphore(SCOPE, 1));
    fresh.put(["a1", "a2"].map(|name| of("a", name))).await;
    let mut claim: Vec<Claim> = fresh.claim(9).await;
    assert_eq!(names(&claim), ["a1"]);
    for _ in 0..20 {
        fresh.clock.advance(secs(20));
        let until = fresh.broker.extend(&claim, LEASE).await.unwrap()[0];
        assert!(until.is_some());
        assert!(fresh.members(SCOPE).await[0].1 >= 30);
        assert_eq!(fresh.later(0).await, [""; 0]);
    }
    // It was dropped by a program whose clock is far ahead: it is there again.
    fresh.go_leaves(SCOPE, "a1").await;
    fresh.broker.extend(&claim, LEASE).await.unwrap();
    assert_eq!(fresh.members(SCOPE).await.len(), 1);
    fresh.end(&claim.remove(0), Verdict::Done).await;
    assert_eq!(fresh.claim_ids(9).await, ["a2"]);
    fresh.is_sound().await;
}

async fn a_place_of_a_dead_program_is_free_when_its_time_is_over(fresh: Fresh) {
    if fresh.beside.is_none() {
        return fresh.is_sound().await;
    }
    fresh.semaphore(semaphore(SCOPE, 1));
    fresh.go_takes(SCOPE, "go1", 60).await;
    fresh.put([of("a", "a1")]).await;
    assert!(fresh.claim(9).await.is_empty());
    // Go counts it in its last second too.
    assert_eq!(fresh.later(60_000).await, [""; 0]);
    assert_eq!(fresh.later(1_000).await, ["a1"]);
    fresh.is_sound().await;
}

async fn a_lost_run_gives_its_place_back(fresh: Fresh) {
    fresh.semaphore(semaphore(SCOPE, 1));
    fresh.put(["a1", "a2"].map(|name| of("a", name))).await;
    assert_eq!(fresh.claim_ids(9).await, ["a1"]);
    fresh.clock.advance(secs(31));
    let queues = [QueueName::default()];
    let found = fresh.broker.recover(&queues, secs(0), 9, 9).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(fresh.claim_ids(9).await, ["a2"]);
    fresh.is_sound().await;
}

async fn a_semaphore_with_a_key_has_a_scope_for_each_value(fresh: Fresh) {
    let limit = TaskLimit {
        key: Some(LimitKey::new("payload.k").unwrap()),
        ..semaphore(SCOPE, 1)
    };
    fresh.semaphore(limit);
    let keyed = |name: &str, key: &str| of("a", name).payload(format!("{{\"k\":\"{key}\"}}").into_bytes());
    fresh
        .put([keyed("a1", "x"), keyed("a2", "x"), keyed("a3", "y"), of("a", "a4")])
        .await;
    let claims = fresh.claim(9).await;
    assert_eq!(names(&claims), ["a1", "a3", "a4"]);
    if fresh.beside.is_some() {
        for (scope, member) in [("{default}:api:x", "a1"), ("{default}:api:y", "a3"), (SCOPE, "a4")] {
            assert_eq!(fresh.members(scope).await[0].0, member);
        }
    }
    fresh.is_sound().await;
}

async fn a_full_semaphore_is_looked_at_again_soon(fresh: Fresh) {
    if fresh.beside.is_none() {
        return fresh.is_sound().await;
    }
    fresh.semaphore(semaphore(SCOPE, 1));
    fresh.go_takes(SCOPE, "go1", 600).await;
    fresh.put([of("a", "a1")]).await;
    assert!(fresh.claim(9).await.is_empty());
    let next = fresh.next_look().await.unwrap();
    assert!(next <= Duration::from_millis(100), "{next:?}");
    fresh.is_sound().await;
}

async fn a_semaphore_stands_beside_other_limits(fresh: Fresh) {
    let mut limits = Limits::default();
    let rate = StartRate {
        count: 1,
        per: secs(600),
        burst: 1,
    };
    limits.add("a", semaphore(SCOPE, 2));
    limits.add("a", TaskLimit::new(LimitRule::Rate(rate)));
    limits.add_of_queue(QueueName::default(), semaphore(SCOPE, 9));
    fresh.broker.claims_limits(&limits);
    fresh
        .put([of("a", "a1"), of("a", "a2"), of("c", "c1"), of("c", "c2")])
        .await;
    let claims = fresh.claim(9).await;
    assert_eq!(
        names(&claims),
        ["a1", "c1"],
        "the lowest number counts, and a task takes one place"
    );
    let waits = fresh.see("a2").await.waiting_for.unwrap();
    assert!(waits.starts_with("limit rate a: place 1 of 1"), "{waits}");
    let waits = fresh.see("c2").await.waiting_for.unwrap();
    assert!(
        waits.starts_with("limit semaphore {default}:api: 2 of 2 run"),
        "{waits}"
    );
    fresh.end(&claims[1], Verdict::Done).await;
    assert_eq!(fresh.claim_ids(9).await, ["c2"]);
    fresh.is_sound().await;
}

async fn two_limits_with_one_key_share_its_places(fresh: Fresh) {
    if fresh.beside.is_none() {
        return fresh.is_sound().await;
    }
    let mut limits = Limits::default();
    let key = Some(LimitKey::new("payload.k").unwrap());
    limits.add(
        "a",
        TaskLimit {
            key,
            ..semaphore(SCOPE, 3)
        },
    );
    limits.add("b", semaphore("{default}:api:x", 3));
    fresh.broker.claims_limits(&limits);
    let keyed = |name: &str| of("a", name).payload(&b"{\"k\":\"x\"}"[..]);
    fresh
        .put([keyed("a1"), of("b", "b1"), keyed("a2"), of("b", "b2"), keyed("a3")])
        .await;
    assert_eq!(fresh.claim_ids(9).await, ["a1", "b1", "a2"]);
    fresh.is_sound().await;
}

async fn a_task_whose_last_try_in_go_died_waits_not_for_its_own_place(fresh: Fresh) {
    if fresh.beside.is_none() {
        return fresh.is_sound().await;
    }
    fresh.semaphore(semaphore(SCOPE, 1));
    fresh.go_takes(SCOPE, "a1", 1800).await;
    fresh.put([of("a", "a1"), of("a", "a2")]).await;
    let claims = fresh.claim(9).await;
    assert_eq!(names(&claims), ["a1"]);
    fresh.end(&claims[0], Verdict::Done).await;
    assert_eq!(fresh.claim_ids(9).await, ["a2"]);
    fresh.is_sound().await;
}

async fn a_semaphore_that_only_this_queue_uses_is_not_looked_at_often(fresh: Fresh) {
    fresh.semaphore(semaphore(SCOPE, 1));
    fresh.put([of("a", "a1"), of("a", "a2")]).await;
    assert_eq!(fresh.claim_ids(9).await, ["a1"]);
    let next = fresh.next_look().await.unwrap();
    assert!(next >= secs(10), "{next:?}");
    fresh.is_sound().await;
}

async fn a_removed_queue_gives_its_places_back(fresh: Fresh) {
    if fresh.beside.is_none() {
        return fresh.is_sound().await;
    }
    fresh.semaphore(semaphore(SCOPE, 1));
    fresh.put([of("a", "a1")]).await;
    assert_eq!(fresh.claim_ids(9).await, ["a1"]);
    fresh.clock.advance(secs(40));
    fresh.broker.remove_queue(&QueueName::default(), true).await.unwrap();
    assert_eq!(fresh.members(SCOPE).await, []);
    fresh.is_sound().await;
}

async fn a_semaphore_that_skips_marks_the_claim(fresh: Fresh) {
    let limit = TaskLimit {
        on_limit: OnLimit::Skip,
        ..semaphore(SCOPE, 1)
    };
    fresh.semaphore(limit);
    fresh.put(["a1", "a2"].map(|name| of("a", name))).await;
    let claims = fresh.claim(9).await;
    let marked: Vec<_> = claims.iter().map(Claim::refused_by).collect();
    assert_eq!(marked, [None, Some("semaphore {default}:api")]);
    fresh.end(&claims[1], Verdict::Revoke).await;
    if fresh.beside.is_some() {
        assert_eq!(fresh.members(SCOPE).await.len(), 1, "its end makes no room");
    }
    fresh.is_sound().await;
}
