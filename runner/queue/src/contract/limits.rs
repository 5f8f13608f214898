//! Clauses about limits: how many run at a time, how often one starts, in which order, and who waits.

use std::time::Duration;

use runner_core::limit::{LimitKey, LimitRule, Limits, OnLimit, StartRate, TaskLimit};
use runner_core::task::{QueueName, Task, TaskState};

use super::shared::{archive, id, names, queue, retry, secs, verdict};
use super::{Clause, Fresh};
use crate::{Action, Claim, KnownTypes, Verdict};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        a_limit_lets_no_more_run_than_it_says,
        a_task_that_waits_for_a_limit_is_scheduled_and_says_so,
        each_value_of_a_key_has_its_own_room,
        those_that_wait_go_on_in_their_order_and_first,
        a_new_task_does_not_overtake_those_that_wait,
        a_claim_brings_what_is_behind_many_that_must_wait,
        a_lost_run_makes_room,
        a_waiting_task_that_is_deleted_holds_up_none,
        a_waiting_task_that_an_operator_runs_keeps_to_the_limit,
        all_limits_of_a_task_are_checked_before_any_counts_it,
        limits_of_a_queue_and_of_a_prefix_hold_together,
        a_limit_among_tasks_of_unknown_types_holds,
        many_that_go_on_among_tasks_of_unknown_types_are_claimed_at_once,
        a_task_whose_turn_it_is_and_that_no_worker_serves_lets_others_pass,
        a_call_that_lets_many_wait_ends_early_and_says_so,
        a_paused_queue_lets_none_go_on,
        without_limits_all_are_claimed_and_leave_nothing,
        a_rate_lets_a_burst_start_and_then_one_at_a_time,
        a_sequence_is_kept_across_retries,
        the_next_of_a_sequence_starts_when_a_task_has_failed_for_good,
        a_limit_that_skips_marks_the_claim,
        a_removed_queue_forgets_its_limits,
        limits_in_use_say_how_many_run_and_wait,
        tasks_that_wait_at_two_limits_all_start,
        a_faster_rate_is_in_force_at_once,
        a_waiting_task_that_was_deleted_waits_no_more_under_its_id,
    ]
}

fn concurrency(most: u32) -> TaskLimit {
    TaskLimit::new(LimitRule::Concurrency(most))
}

fn by_key(limit: TaskLimit) -> TaskLimit {
    TaskLimit {
        key: Some(LimitKey::new("payload.k").unwrap()),
        ..limit
    }
}

fn rate(count: u32, per: Duration, burst: u32) -> TaskLimit {
    TaskLimit::new(LimitRule::Rate(StartRate { count, per, burst }))
}

/// A task of the limited type.
fn limited(name: &str) -> Task {
    Task::new("limited").id(id(name))
}

/// The same, with a key.
fn keyed(name: &str, key: &str) -> Task {
    limited(name).payload(format!("{{\"k\": \"{key}\"}}").into_bytes())
}

impl Fresh {
    fn limits(&self, limits: impl IntoIterator<Item = TaskLimit>) {
        let mut all = Limits::default();
        for limit in limits {
            all.add("limited", limit);
        }
        self.broker.claims_limits(&all);
    }

    async fn done(&self, claims: &[Claim]) {
        for claim in claims {
            self.end(claim, Verdict::Done).await;
        }
    }
}

async fn a_limit_lets_no_more_run_than_it_says(fresh: Fresh) {
    fresh.limits([concurrency(2)]);
    fresh.put(["a", "b", "c", "d"].map(limited)).await;
    fresh.put([Task::new("free").id(id("f"))]).await;
    let first = fresh.claim(9).await;
    assert_eq!(names(&first), ["a", "b", "f"]);
    assert!(fresh.claim(9).await.is_empty());
    fresh.end(&first[0], Verdict::Done).await;
    assert_eq!(fresh.claim_ids(9).await, ["c"]);
    assert!(fresh.claim(9).await.is_empty());
    // Both halves in one call.
    let queues = [QueueName::default()];
    let done = [verdict(&first[1], Verdict::Done)];
    let both = fresh.broker.exchange(&done, &queues, 9, secs(30)).await.unwrap();
    assert_eq!(names(&both.claims.unwrap()), ["d"]);
    fresh.is_sound().await;
}

async fn a_task_that_waits_for_a_limit_is_scheduled_and_says_so(fresh: Fresh) {
    fresh.limits([by_key(concurrency(1))]);
    fresh.put([keyed("a", "x"), keyed("b", "x"), keyed("c", "x")]).await;
    let first = fresh.claim(9).await;
    assert_eq!(names(&first), ["a"]);
    assert_eq!(fresh.list(TaskState::Scheduled).await, ["b", "c"]);
    let waits = fresh.see("b").await;
    assert_eq!(waits.record.retried, 0);
    let what = "limit concurrency limited, key x: 1 of 1 run, place 1 of 2";
    assert_eq!(waits.waiting_for.as_deref(), Some(what));
    // It is not released like one that waits for a handler.
    let queues = [QueueName::default()];
    let released = fresh.broker.release_waiting(&queues, &["limited".to_owned()]).await;
    assert_eq!(released.unwrap(), 0);
    fresh.done(&first).await;
    assert_eq!(fresh.state("b").await, Some(TaskState::Pending));
    assert_eq!(fresh.see("b").await.waiting_for, None);
    fresh.is_sound().await;
}

async fn each_value_of_a_key_has_its_own_room(fresh: Fresh) {
    fresh.limits([by_key(concurrency(1))]);
    let long = "k".repeat(1000);
    fresh
        .put([
            keyed("a", "x"),
            keyed("b", "x"),
            keyed("c", "y"),
            keyed("d", &long),
            keyed("e", &long),
        ])
        .await;
    // Without a key there, and unreadable: together.
    fresh.put([limited("f"), limited("g").payload(&b"[1"[..])]).await;
    let number = |name: &str, n: &str| limited(name).payload(format!("{{\"k\": {n}}}").into_bytes());
    fresh
        .put([number("h", "7"), keyed("i", "7"), number("j", "true")])
        .await;
    assert_eq!(fresh.claim_ids(99).await, ["a", "c", "d", "f", "h", "j"]);
    fresh.is_sound().await;
}

async fn those_that_wait_go_on_in_their_order_and_first(fresh: Fresh) {
    fresh.limits([concurrency(2)]);
    fresh.put(["a", "b", "c", "d", "e"].map(limited)).await;
    let first = fresh.claim(9).await;
    fresh.put([Task::new("free").id(id("f"))]).await;
    let ends: Vec<_> = first.iter().map(|claim| verdict(claim, Verdict::Done)).collect();
    fresh.broker.settle(&ends).await.unwrap();
    assert_eq!(fresh.list(TaskState::Pending).await, ["c", "d", "f"]);
    assert_eq!(fresh.list(TaskState::Scheduled).await, ["e"]);
    assert_eq!(fresh.claim_ids(9).await, ["c", "d", "f"]);
    fresh.is_sound().await;
}

async fn a_new_task_does_not_overtake_those_that_wait(fresh: Fresh) {
    fresh.limits([concurrency(1)]);
    fresh.put(["a", "b"].map(limited)).await;
    let first = fresh.claim(9).await;
    fresh.put([limited("new")]).await;
    // The one that waits comes back to the queue behind the new one, as other programs put it.
    let run = fresh.broker.act(&queue("default"), &id("b"), Action::Run).await;
    run.unwrap();
    fresh.done(&first).await;
    assert_eq!(fresh.claim_ids(1).await, ["b"]);
    assert_eq!(fresh.state("new").await, Some(TaskState::Scheduled));
    fresh.is_sound().await;
}

async fn a_claim_brings_what_is_behind_many_that_must_wait(fresh: Fresh) {
    fresh.limits([concurrency(1)]);
    let name = |n: usize| format!("t{n:04}");
    for part in 0..3 {
        fresh.put((0..500).map(|n| limited(&name(part * 500 + n)))).await;
    }
    fresh.put([Task::new("free").id(id("f"))]).await;
    let claims = fresh.claim(2).await;
    assert_eq!(names(&claims), [name(0), "f".to_owned()]);
    assert_eq!(fresh.glance().await.counts[&TaskState::Scheduled], 1499);
    fresh.done(&claims).await;
    assert_eq!(fresh.claim_ids(9).await, [name(1)]);
    // Much later they are looked at again, and keep their order.
    fresh.clock.advance(secs(3600));
    fresh
        .broker
        .recover(&[QueueName::default()], secs(0), 9, 9)
        .await
        .unwrap();
    while fresh.broker.forward(&[QueueName::default()], 500).await.unwrap().moved > 0 {}
    let next = fresh.claim(9).await;
    assert_eq!(names(&next), [name(2)]);
    fresh.is_sound().await;
}

async fn a_lost_run_makes_room(fresh: Fresh) {
    fresh.limits([concurrency(1)]);
    fresh.put(["a", "b"].map(limited)).await;
    assert_eq!(fresh.claim_ids(9).await, ["a"]);
    fresh.clock.advance(secs(31));
    let found = fresh
        .broker
        .recover(&[QueueName::default()], secs(0), 9, 9)
        .await
        .unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(fresh.claim_ids(9).await, ["b"]);
    fresh.is_sound().await;
}

async fn a_waiting_task_that_is_deleted_holds_up_none(fresh: Fresh) {
    fresh.limits([concurrency(1)]);
    fresh.put(["a", "b", "c", "d"].map(limited)).await;
    let first = fresh.claim(9).await;
    fresh
        .broker
        .act(&queue("default"), &id("b"), Action::Delete)
        .await
        .unwrap();
    fresh.done(&first).await;
    let second = fresh.claim(9).await;
    assert_eq!(names(&second), ["c"]);
    fresh
        .broker
        .act(&queue("default"), &id("d"), Action::Archive)
        .await
        .unwrap();
    fresh.done(&second).await;
    fresh.put([limited("e")]).await;
    assert_eq!(fresh.claim_ids(9).await, ["e"]);
    fresh.is_sound().await;
}

async fn a_waiting_task_that_an_operator_runs_keeps_to_the_limit(fresh: Fresh) {
    fresh.limits([concurrency(1)]);
    fresh.put(["a", "b", "c"].map(limited)).await;
    let first = fresh.claim(9).await;
    fresh
        .broker
        .act(&queue("default"), &id("c"), Action::Run)
        .await
        .unwrap();
    assert!(fresh.claim(9).await.is_empty());
    fresh.done(&first).await;
    assert_eq!(fresh.claim_ids(9).await, ["b"]);
    fresh.is_sound().await;
}

async fn all_limits_of_a_task_are_checked_before_any_counts_it(fresh: Fresh) {
    let mut limits = Limits::default();
    limits.add("limited", concurrency(1));
    limits.add_of_queue(QueueName::default(), concurrency(2));
    fresh.broker.claims_limits(&limits);
    fresh.put(["a", "b"].map(limited)).await;
    let free = |name: &str| Task::new("free").id(id(name));
    fresh.put([free("f"), free("g")]).await;
    // `b` does not count in the queue while it waits for the other limit.
    let first = fresh.claim(9).await;
    assert_eq!(names(&first), ["a", "f"]);
    fresh.end(&first[0], Verdict::Done).await;
    let mut rest = fresh.claim_ids(9).await;
    assert_eq!(rest.len(), 1);
    fresh.end(&first[1], Verdict::Done).await;
    rest.extend(fresh.claim_ids(9).await);
    rest.sort();
    assert_eq!(rest, ["b", "g"]);
    fresh.is_sound().await;
}

async fn limits_of_a_queue_and_of_a_prefix_hold_together(fresh: Fresh) {
    let mut limits = Limits::default();
    limits.add("mail:*", concurrency(1));
    limits.add_of_queue(queue("low"), concurrency(1));
    fresh.broker.claims_limits(&limits);
    let of = |kind: &str, name: &str, at: &str| Task::new(kind).id(id(name)).queue(queue(at));
    fresh
        .put([
            of("mail:a", "a", "default"),
            of("mail:b", "b", "default"),
            of("mail:c", "c", "low"),
            of("x", "d", "low"),
        ])
        .await;
    let queues = [QueueName::default(), queue("low")];
    let claims = fresh.broker.claim(&queues, 9, secs(30)).await.unwrap();
    assert_eq!(names(&claims), ["a", "c"]);
    fresh.is_sound().await;
}

async fn a_limit_among_tasks_of_unknown_types_holds(fresh: Fresh) {
    fresh.limits([concurrency(1)]);
    let none: [&str; 0] = [];
    fresh.broker.claims_types(&KnownTypes::new(["limited"], none));
    let foreign = |name: &str| Task::new("foreign").id(id(name));
    fresh
        .put([foreign("x"), limited("a"), foreign("y"), limited("b"), limited("c")])
        .await;
    let first = fresh.claim(9).await;
    assert_eq!(names(&first), ["a"]);
    assert_eq!(fresh.list(TaskState::Pending).await, ["x", "y"]);
    fresh.done(&first).await;
    let second = fresh.claim(9).await;
    assert_eq!(names(&second), ["b"]);
    fresh.done(&second).await;
    assert_eq!(fresh.claim_ids(9).await, ["c"]);
    fresh.broker.claims_types(&KnownTypes::all());
    assert_eq!(fresh.claim_ids(9).await, ["x", "y"]);
    fresh.is_sound().await;
}

async fn many_that_go_on_among_tasks_of_unknown_types_are_claimed_at_once(fresh: Fresh) {
    fresh.limits([concurrency(30)]);
    let none: [&str; 0] = [];
    fresh.broker.claims_types(&KnownTypes::new(["limited"], none));
    fresh.put([Task::new("foreign").id(id("x"))]).await;
    fresh.put((0..60).map(|n| limited(&format!("t{n:02}")))).await;
    let first = fresh.claim(99).await;
    assert_eq!(first.len(), 30);
    assert!(fresh.claim(99).await.is_empty());
    fresh.done(&first).await;
    assert_eq!(fresh.claim(99).await.len(), 30);
    fresh.is_sound().await;
}

async fn a_task_whose_turn_it_is_and_that_no_worker_serves_lets_others_pass(fresh: Fresh) {
    let mut limits = Limits::default();
    limits.add_of_queue(QueueName::default(), concurrency(1));
    fresh.broker.claims_limits(&limits);
    fresh
        .put([
            limited("a"),
            Task::new("foreign").id(id("x")),
            limited("b"),
            limited("c"),
        ])
        .await;
    let first = fresh.claim(9).await;
    assert_eq!(names(&first), ["a"]);
    let none: [&str; 0] = [];
    fresh.broker.claims_types(&KnownTypes::new(["limited"], none));
    fresh.done(&first).await;
    assert!(fresh.claim(9).await.is_empty(), "it is the turn of x");
    fresh.clock.advance(secs(61));
    fresh.forward().await;
    let second = fresh.claim(9).await;
    assert_eq!(names(&second), ["b"]);
    fresh.done(&second).await;
    assert_eq!(fresh.claim_ids(9).await, ["c"]);
    fresh.is_sound().await;
}

async fn a_call_that_lets_many_wait_ends_early_and_says_so(fresh: Fresh) {
    fresh.limits([concurrency(2)]);
    for part in 0..3 {
        fresh
            .put((0..500).map(|n| limited(&format!("t{:04}", part * 500 + n))))
            .await;
    }
    fresh.put([Task::new("free").id(id("f"))]).await;
    let queues = [QueueName::default()];
    let first = fresh.broker.exchange(&[], &queues, 9, secs(30)).await.unwrap();
    assert!(first.more, "so that what it claimed does not wait for the rest");
    assert_eq!(names(&first.claims.unwrap()), ["t0000", "t0001"]);
    for _ in 0..20 {
        let next = fresh.broker.exchange(&[], &queues, 9, secs(30)).await.unwrap();
        let more = next.more;
        if let [free] = &next.claims.unwrap()[..] {
            assert_eq!(free.task().id.as_str(), "f");
            assert!(!more);
            return fresh.is_sound().await;
        }
        assert!(more);
    }
    panic!("it does not come to what is behind them");
}

async fn a_paused_queue_lets_none_go_on(fresh: Fresh) {
    fresh.limits([concurrency(1)]);
    fresh.put(["a", "b"].map(limited)).await;
    let first = fresh.claim(9).await;
    fresh.broker.pause_queue(&QueueName::default()).await.unwrap();
    fresh.done(&first).await;
    assert!(fresh.claim(9).await.is_empty());
    fresh.broker.resume_queue(&QueueName::default()).await.unwrap();
    assert_eq!(fresh.claim_ids(9).await, ["b"]);
    fresh.is_sound().await;
}

async fn without_limits_all_are_claimed_and_leave_nothing(fresh: Fresh) {
    fresh.limits([concurrency(1)]);
    fresh.put(["a", "b", "c"].map(limited)).await;
    let first = fresh.claim(9).await;
    fresh.limits([]);
    fresh.put([limited("d")]).await;
    let second = fresh.claim(9).await;
    assert_eq!(names(&second), ["d"]);
    fresh.done(&first).await;
    fresh.done(&second).await;
    let third = fresh.claim(9).await;
    assert_eq!(names(&third), ["b"]);
    fresh.done(&third).await;
    fresh.clock.advance(secs(11));
    fresh.forward().await;
    assert_eq!(fresh.claim_ids(9).await, ["c"]);
    fresh.is_sound().await;
}

async fn a_rate_lets_a_burst_start_and_then_one_at_a_time(fresh: Fresh) {
    fresh.limits([rate(1, secs(10), 2)]);
    fresh.put(["a", "b", "c", "d", "e"].map(limited)).await;
    let first = fresh.claim(9).await;
    assert_eq!(names(&first), ["a", "b"]);
    fresh.done(&first).await;
    assert!(fresh.claim(9).await.is_empty(), "an end makes no room for a rate");
    assert_eq!(fresh.next_look().await, Some(secs(10)));
    fresh.clock.advance(Duration::from_millis(9_999));
    assert!(fresh.claim(9).await.is_empty());
    fresh.clock.advance(Duration::from_millis(1));
    fresh.forward().await;
    assert_eq!(fresh.list(TaskState::Pending).await, ["c"]);
    assert_eq!(fresh.claim_ids(9).await, ["c"]);
    // A claim looks itself, and a quiet time brings no more than the burst.
    fresh.clock.advance(secs(10));
    assert_eq!(fresh.claim_ids(9).await, ["d"]);
    fresh.clock.advance(secs(50));
    fresh.put(["f", "g", "h"].map(limited)).await;
    assert_eq!(fresh.claim_ids(9).await, ["e", "f"]);
    fresh.is_sound().await;
}

async fn a_sequence_is_kept_across_retries(fresh: Fresh) {
    fresh.limits([by_key(TaskLimit::new(LimitRule::Sequence))]);
    fresh
        .put([keyed("a", "x"), keyed("b", "x"), keyed("c", "y"), keyed("d", "x")])
        .await;
    let first = fresh.claim(9).await;
    assert_eq!(names(&first), ["a", "c"]);
    fresh.end(&first[0], retry(60, "not yet")).await;
    assert!(fresh.claim(9).await.is_empty());
    fresh.clock.advance(secs(60));
    fresh.forward().await;
    let again = fresh.claim(9).await;
    assert_eq!(names(&again), ["a"]);
    fresh.end(&again[0], Verdict::HandBack).await;
    let again = fresh.claim(9).await;
    assert_eq!(names(&again), ["a"]);
    let delay = secs(5);
    let waiting_for = None;
    fresh.end(&again[0], Verdict::Snooze { delay, waiting_for }).await;
    assert!(fresh.claim(9).await.is_empty());
    fresh.clock.advance(secs(5));
    fresh.forward().await;
    let again = fresh.claim(9).await;
    assert_eq!(names(&again), ["a"]);
    fresh.done(&again).await;
    let next = fresh.claim(9).await;
    assert_eq!(names(&next), ["b"]);
    // A lost run keeps its place too.
    fresh.clock.advance(secs(31));
    fresh
        .broker
        .recover(&[QueueName::default()], secs(0), 9, 9)
        .await
        .unwrap();
    assert!(fresh.claim(9).await.is_empty());
    fresh.is_sound().await;
}

async fn the_next_of_a_sequence_starts_when_a_task_has_failed_for_good(fresh: Fresh) {
    fresh.limits([TaskLimit::new(LimitRule::Sequence)]);
    fresh.put(["a", "b", "c"].map(limited)).await;
    let first = fresh.claim(9).await;
    fresh.end(&first[0], archive("no")).await;
    let second = fresh.claim(9).await;
    assert_eq!(names(&second), ["b"]);
    fresh.end(&second[0], retry(600, "not yet")).await;
    fresh
        .broker
        .act(&queue("default"), &id("b"), Action::Archive)
        .await
        .unwrap();
    assert_eq!(fresh.claim_ids(9).await, ["c"]);
    fresh.is_sound().await;
}

async fn a_limit_that_skips_marks_the_claim(fresh: Fresh) {
    let limit = TaskLimit {
        on_limit: OnLimit::Skip,
        ..by_key(concurrency(1))
    };
    fresh.limits([limit]);
    fresh.put([keyed("a", "x"), keyed("b", "x"), keyed("c", "y")]).await;
    let claims = fresh.claim(9).await;
    let marked: Vec<_> = claims.iter().map(|c| (c.task().id.as_str(), c.refused_by())).collect();
    let refused = Some("concurrency limited, key x");
    assert_eq!(marked, [("a", None), ("b", refused), ("c", None)]);
    fresh.end(&claims[1], Verdict::Revoke).await;
    fresh.put([keyed("d", "x")]).await;
    let again = fresh.claim(9).await;
    assert_eq!(again[0].refused_by(), refused, "its end makes no room");
    fresh.end(&claims[0], Verdict::Done).await;
    fresh.put([keyed("e", "x")]).await;
    assert_eq!(fresh.claim(9).await[0].refused_by(), None);
    fresh.is_sound().await;
}

async fn a_removed_queue_forgets_its_limits(fresh: Fresh) {
    fresh.limits([concurrency(1)]);
    fresh.put(["a", "b"].map(limited)).await;
    let first = fresh.claim(9).await;
    fresh.done(&first).await;
    fresh.broker.remove_queue(&QueueName::default(), true).await.unwrap();
    fresh.put(["b", "c"].map(limited)).await;
    assert_eq!(fresh.claim_ids(9).await, ["b"]);
    fresh.is_sound().await;
}

async fn limits_in_use_say_how_many_run_and_wait(fresh: Fresh) {
    assert_eq!(fresh.broker.limits_in_use(&QueueName::default()).await.unwrap(), []);
    fresh.limits([by_key(concurrency(1)), rate(1, secs(3600), 5)]);
    fresh
        .put([keyed("a", "x"), keyed("b", "x"), keyed("c", "x"), keyed("d", "y")])
        .await;
    let claims = fresh.claim(10).await;
    assert_eq!(claims.len(), 2);
    let found = fresh.broker.limits_in_use(&QueueName::default()).await.unwrap();
    let line = |one: &crate::LimitInUse| (one.name.clone(), one.key.clone(), one.most, one.running, one.waiting);
    // A store may keep a rate at which no task waits.
    let found: Vec<_> = found.iter().filter(|one| one.most.is_some()).map(line).collect();
    let concurrency = |key: &str, waiting| {
        let name = "concurrency limited".to_owned();
        (name, Some(key.to_owned()), Some(1), 1, waiting)
    };
    assert_eq!(found, [concurrency("x", 2), concurrency("y", 0)]);
    fresh.done(&claims).await;
}

/// With an order of its own at each limit, tasks would keep going from the head of one to the end of the other.
async fn tasks_that_wait_at_two_limits_all_start(fresh: Fresh) {
    let mut limits = Limits::default();
    limits.add("limited", concurrency(1));
    limits.add_of_queue(QueueName::default(), concurrency(1));
    fresh.broker.claims_limits(&limits);
    let (mut left, mut running) = (0, Vec::new());
    for round in 0..6 {
        let name = |kind: &str, n: usize| format!("{kind}-{round}-{n}");
        fresh.put([limited(&name("l", 1)), limited(&name("l", 2))]).await;
        fresh.put([Task::new("free").id(id(&name("f", 1)))]).await;
        fresh.put([limited(&name("l", 3))]).await;
        left += 4;
        running.extend(fresh.claim(9).await);
        assert!(running.len() <= 1, "{}", running.len());
        fresh.done(&running).await;
        left -= running.len();
        running = fresh.claim(9).await;
    }
    for _ in 0..100 {
        fresh.done(&running).await;
        left -= running.len();
        fresh.clock.advance(secs(1));
        fresh.forward().await;
        running = fresh.claim(9).await;
        assert!(running.len() <= 1, "{}", running.len());
    }
    assert_eq!(left, 0, "still waiting: {:?}", fresh.list(TaskState::Scheduled).await);
    fresh.is_sound().await;
}

async fn a_faster_rate_is_in_force_at_once(fresh: Fresh) {
    fresh.limits([rate(1, secs(3600), 1)]);
    fresh.put(["a", "b", "c"].map(limited)).await;
    assert_eq!(fresh.claim_ids(9).await, ["a"]);
    fresh.limits([rate(1, secs(1), 1)]);
    let mut started = Vec::new();
    // A second for each, and what the gate was looked at for by its old rule.
    for round in 0..4 {
        fresh.clock.advance(secs(1));
        fresh.put([limited(&format!("new-{round}"))]).await;
        fresh.forward().await;
        started.extend(fresh.claim_ids(9).await);
    }
    assert!(started.len() >= 2 && started[..2] == ["b", "c"], "{started:?}");
    fresh.is_sound().await;
}

async fn a_waiting_task_that_was_deleted_waits_no_more_under_its_id(fresh: Fresh) {
    fresh.limits([concurrency(1)]);
    fresh.put(["a", "b", "c"].map(limited)).await;
    let first = fresh.claim(9).await;
    assert_eq!(names(&first), ["a"]);
    let deleted = fresh.broker.act(&QueueName::default(), &id("b"), Action::Delete).await;
    deleted.unwrap();
    let tomorrow = limited("b").delay(secs(86_400));
    fresh.put([tomorrow]).await;
    fresh.done(&first).await;
    assert_eq!(fresh.claim_ids(9).await, ["c"]);
    assert_eq!(fresh.list(TaskState::Scheduled).await, ["b"]);
    fresh.is_sound().await;
}
