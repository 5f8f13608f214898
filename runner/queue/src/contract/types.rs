//! Clauses about claims of some task types only: what stays, in which order, and that it hides nothing behind it.

use runner_core::task::{QueueName, Task, TaskState};

use super::shared::{LEASE, id, names, queue, secs, task, verdict};
use super::{Clause, Fresh};
use crate::{KnownTypes, ServerInfo, ServerStatus, UNCLAIMED_AFTER, Unclaimed, Verdict, Working, unclaimed};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        a_task_of_an_unknown_type_stays_where_it_is,
        names_prefixes_and_exceptions_are_listed_apart,
        long_lists_of_names_and_exceptions_count_like_short_ones,
        many_unknown_tasks_hide_no_known_one_behind_them,
        a_known_task_that_is_handed_back_before_unknown_ones_is_found,
        unknown_tasks_stop_no_other_queue_and_no_settlement,
        unknown_tasks_do_not_wake_a_worker,
        the_types_of_the_oldest_pending_tasks_are_listed,
        a_type_that_no_worker_takes_is_listed_after_a_minute,
    ]
}

const NONE: [&str; 0] = [];

/// A task of a type that is unknown here.
fn foreign(name: &str) -> Task {
    Task::new(format!("go:{name}")).id(id(name))
}

impl Fresh {
    fn knows(&self, patterns: &[&str]) {
        let types = KnownTypes::new(patterns.iter().copied(), NONE);
        self.broker.claims_types(&types);
    }
}

async fn a_task_of_an_unknown_type_stays_where_it_is(fresh: Fresh) {
    fresh
        .put([
            foreign("x"),
            task("a"),
            foreign("y"),
            task("b"),
            task("c"),
            foreign("z"),
        ])
        .await;
    let before = fresh.see("x").await;
    fresh.clock.advance(secs(5));
    fresh.knows(&["test:*"]);
    let between = fresh.claim(2).await;
    assert_eq!(names(&between), ["a", "b"]);
    assert!(
        between.iter().all(|claim| claim.waited() == Some(secs(5))),
        "{between:?}"
    );
    assert_eq!(fresh.claim_ids(9).await, ["c"]);
    assert!(fresh.claim(9).await.is_empty());
    assert_eq!(fresh.see("x").await, before);
    assert_eq!(fresh.glance().await.counts[&TaskState::Pending], 3);
    fresh.put([foreign("late"), task("d")]).await;
    assert_eq!(fresh.claim_ids(9).await, ["d"]);
    fresh.broker.claims_types(&KnownTypes::all());
    assert_eq!(fresh.claim_ids(9).await, ["x", "y", "z", "late"]);
    fresh.is_sound().await;
}

async fn names_prefixes_and_exceptions_are_listed_apart(fresh: Fresh) {
    let kinds = ["a", "ab", "b", "b:1", "b:2", "\u{e9}", "c"];
    let tasks = kinds.map(|kind| Task::new(kind).id(id(kind)));
    fresh.put(tasks).await;
    let types = KnownTypes::new(["a", "b:*", "\u{e9}"], ["b:2"]);
    fresh.broker.claims_types(&types);
    assert_eq!(fresh.claim_ids(9).await, ["a", "b:1", "\u{e9}"]);
    fresh.knows(&["b:*"]);
    assert_eq!(fresh.claim_ids(9).await, ["b:2"]);
    fresh.knows(&[]);
    assert!(fresh.claim(9).await.is_empty());
    fresh.knows(&["c", "ab", "b"]);
    assert_eq!(fresh.claim_ids(9).await, ["ab", "b", "c"]);
    fresh.is_sound().await;
}

async fn long_lists_of_names_and_exceptions_count_like_short_ones(fresh: Fresh) {
    let (default, low) = (QueueName::default(), queue("low"));
    let known = |n: u32| Task::new(format!("test:{n}")).id(id(&format!("j{n}")));
    let covered = |n: u32| Task::new(format!("p:{n}")).id(id(&format!("p{n}"))).queue(low.clone());
    fresh.put([known(7), foreign("x"), known(2_999), known(3_000)]).await;
    fresh.put([covered(5), covered(999), covered(1_000)]).await;
    let known_names = (0..3_000).map(|n| format!("test:{n}")).chain(["p:*".to_owned()]);
    let types = KnownTypes::new(known_names.clone(), (0..1_000).map(|n| format!("p:{n}")));
    fresh.broker.claims_types(&types);
    let order = [default.clone(), low.clone()];
    let mut claims = fresh.broker.claim(&order, 9, LEASE).await.unwrap();
    claims.sort_by(|a, b| a.task().id.as_str().cmp(b.task().id.as_str()));
    assert_eq!(names(&claims), ["j2999", "j7", "p1000"]);
    // One exception less: the names stay the same.
    fresh
        .broker
        .claims_types(&KnownTypes::new(known_names, (0..999).map(|n| format!("p:{n}"))));
    let ends: Vec<_> = claims[..2].iter().map(|claim| verdict(claim, Verdict::Done)).collect();
    let back = fresh.broker.exchange(&ends, &order, 9, LEASE).await.unwrap();
    assert_eq!(back.settled.unwrap(), [crate::Settled::Accepted; 2]);
    assert_eq!(names(&back.claims.unwrap()), ["p999"]);
    fresh.knows(&["*"]);
    let rest = fresh.broker.claim(&order, 9, LEASE).await.unwrap();
    assert_eq!(names(&rest), ["x", "j3000", "p5"]);
    fresh.is_sound().await;
}

async fn many_unknown_tasks_hide_no_known_one_behind_them(fresh: Fresh) {
    const MANY: usize = 2_500;
    let many: Vec<Task> = (0..MANY).map(|n| foreign(&format!("x{n}"))).collect();
    fresh.put(many).await;
    fresh.put([task("a"), foreign("y"), task("b")]).await;
    fresh.knows(&["test:*"]);
    let mut found = Vec::new();
    let mut calls = 0;
    while found.len() < 2 {
        calls += 1;
        assert!(calls < 10, "found {found:?} after {calls} calls");
        found.extend(fresh.claim_ids(1).await);
    }
    assert_eq!(found, ["a", "b"]);
    assert!(fresh.claim(1).await.is_empty());
    // The tasks before it are known by now.
    fresh.put([task("c"), task("d")]).await;
    assert_eq!(fresh.claim_ids(1).await, ["c"]);
    assert_eq!(fresh.claim_ids(9).await, ["d"]);
    fresh.knows(&["go:x2499", "go:y"]);
    let mut found = Vec::new();
    for _ in 0..10 {
        found.extend(fresh.claim_ids(9).await);
    }
    assert_eq!(found, ["x2499", "y"]);
    fresh.broker.claims_types(&KnownTypes::all());
    assert_eq!(fresh.claim_ids(2).await, ["x0", "x1"]);
    fresh.is_sound().await;
}

async fn a_known_task_that_is_handed_back_before_unknown_ones_is_found(fresh: Fresh) {
    fresh.put([foreign("x"), task("a"), task("b"), foreign("y")]).await;
    fresh.knows(&["test:*"]);
    let claims = fresh.claim(9).await;
    assert_eq!(names(&claims), ["a", "b"]);
    assert!(fresh.claim(9).await.is_empty());
    for claim in claims.iter().rev() {
        fresh.end(claim, Verdict::HandBack).await;
    }
    assert_eq!(fresh.claim_ids(1).await, ["a"]);
    assert_eq!(fresh.claim_ids(9).await, ["b"]);
    assert!(fresh.claim(9).await.is_empty());
    fresh.is_sound().await;
}

async fn unknown_tasks_stop_no_other_queue_and_no_settlement(fresh: Fresh) {
    let (default, low) = (QueueName::default(), queue("low"));
    fresh.put([foreign("x"), foreign("y"), task("a")]).await;
    fresh
        .put([foreign("z").queue(low.clone()), task("b").queue(low.clone())])
        .await;
    fresh.knows(&["test:*"]);
    let order = [default, low];
    let claims = fresh.broker.claim(&order, 9, LEASE).await.unwrap();
    assert_eq!(names(&claims), ["a", "b"]);
    fresh.put([task("c"), task("d").queue(order[1].clone())]).await;
    let ends: Vec<_> = claims.iter().map(|claim| verdict(claim, Verdict::Done)).collect();
    for half in ends.chunks(1) {
        let back = fresh.broker.exchange(half, &order, 1, LEASE).await.unwrap();
        assert_eq!(back.settled.unwrap(), [crate::Settled::Accepted]);
        assert_eq!(back.claims.unwrap().len(), 1);
    }
    assert_eq!(fresh.state("c").await, Some(TaskState::Active));
    assert_eq!(fresh.glance().await.counts[&TaskState::Pending], 2);
    fresh.is_sound().await;
}

async fn the_types_of_the_oldest_pending_tasks_are_listed(fresh: Fresh) {
    let default = QueueName::default();
    assert_eq!(fresh.broker.pending_types(&default, 10).await.unwrap(), []);
    let first = fresh.now();
    fresh.put([Task::new("a"), Task::new("b")]).await;
    fresh.clock.advance(secs(5));
    fresh.put([Task::new("a"), Task::new("a"), Task::new("c")]).await;
    let mut types = fresh.broker.pending_types(&default, 4).await.unwrap();
    types.sort_by(|x, y| x.kind.cmp(&y.kind));
    let listed: Vec<_> = types.iter().map(|t| (t.kind.as_str(), t.count, t.oldest)).collect();
    assert_eq!(listed, [("a", 3, Some(first)), ("b", 1, Some(first))]);
    fresh.is_sound().await;
}

/// A server of the queue `default`.
fn server(pid: u32, handlers: &[&str], now: jiff::Timestamp) -> ServerInfo {
    ServerInfo {
        host: "host".to_owned(),
        pid,
        id: "id".to_owned(),
        concurrency: 4,
        queues: [("default".to_owned(), 1)].into(),
        strict_priority: false,
        status: ServerStatus::Active,
        started_at: now,
        active: 0,
        handlers: handlers.iter().map(|&kind| kind.to_owned()).collect(),
    }
}

async fn a_type_that_no_worker_takes_is_listed_after_a_minute(fresh: Fresh) {
    let ttl = secs(3600);
    let (ours, go) = (server(1, &["test:*"], fresh.now()), server(2, &[], fresh.now()));
    let since = fresh.now();
    fresh.put([Task::new("odd"), task("a"), Task::new("odd")]).await;
    fresh.put([task("b").queue(queue("low"))]).await;
    let look = async |fresh: &Fresh| {
        let queues = fresh.broker.queues().await.unwrap();
        let found = unclaimed(&*fresh.broker, &queues).await.unwrap();
        let listed = |u: Unclaimed| (u.queue.to_string(), u.kind, u.count, u.oldest);
        found.types.into_iter().map(listed).collect::<Vec<_>>()
    };
    fresh.broker.heartbeat(&ours, &[], ttl).await.unwrap();
    fresh.clock.advance(UNCLAIMED_AFTER - secs(1));
    assert_eq!(look(&fresh).await, []);
    fresh.clock.advance(secs(1));
    let odd = ("default".to_owned(), "odd".to_owned(), 2, since);
    let low = ("low".to_owned(), "test:b".to_owned(), 1, since);
    let mut listed = look(&fresh).await;
    listed.sort();
    assert_eq!(listed, [odd, low.clone()]);
    // A Go worker does not list its types; that it works on one of them is enough.
    let working = Working {
        id: id("other"),
        kind: "odd".to_owned(),
        queue: QueueName::default(),
        started_at: fresh.now(),
        deadline: fresh.now(),
    };
    fresh.broker.heartbeat(&go, &[working], ttl).await.unwrap();
    assert_eq!(look(&fresh).await, [low]);
    fresh.broker.pause_queue(&queue("low")).await.unwrap();
    assert_eq!(look(&fresh).await, []);
    fresh.is_sound().await;
}

async fn unknown_tasks_do_not_wake_a_worker(fresh: Fresh) {
    let queues = [QueueName::default()];
    fresh.put([foreign("x"), foreign("y")]).await;
    fresh.knows(&["test:*"]);
    assert!(fresh.claim(9).await.is_empty());
    let short = std::time::Duration::from_millis(300);
    let began = tokio::time::Instant::now();
    fresh.broker.wait_for_work(&queues, short).await;
    assert!(began.elapsed() >= short, "woken after {:?}", began.elapsed());
    let broker = fresh.broker.clone();
    let waiting = tokio::spawn(async move {
        let began = tokio::time::Instant::now();
        broker.wait_for_work(&[QueueName::default()], secs(30)).await;
        began.elapsed()
    });
    fresh.put([task("a")]).await;
    let waited = waiting.await.unwrap();
    assert!(waited < secs(10), "waited {waited:?} for a task that was there");
    assert_eq!(fresh.claim_ids(9).await, ["a"]);
    fresh.is_sound().await;
}
