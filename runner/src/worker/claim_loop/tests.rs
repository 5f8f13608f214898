//! The claim loop: what happens to claims that arrive with a stop, or with verdicts that were refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use runner_core::task::{QueueName, Task, TaskState};
use runner_queue::{BrokerError, Claim, Claims as _, Exchanged, Settled, Verdict};
use runner_sdk::{Ctx, Outcome, Registry};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::call_result::{CallResult, VerdictBatch};
use super::outbox::EndedAttempt;
use super::*;
use crate::worker::DEFAULT_LEASE;
use crate::worker::tests::Scene;

fn claim_loop_of(ctx: &Arc<WorkerContext>) -> ClaimLoop {
    ClaimLoop::new(ctx.clone(), CancellationToken::new().drop_guard())
}

/// An answer to a call that wanted to end `sent` and claim as many.
fn back(sent: VerdictBatch, settled: Settled, claims: Vec<Claim>) -> CallResult {
    let settled = Ok(vec![settled; sent.len()]);
    CallResult {
        asked: sent.len(),
        notifications: false,
        reserved: 0,
        began: Instant::now(),
        answer: Ok(Exchanged {
            settled,
            claims: Ok(claims),
            more: false,
        }),
        given_up: Vec::new(),
        queues: None,
        sent,
    }
}

#[tokio::test]
async fn a_claim_without_a_slot_is_kept_alive_and_handed_back() {
    let scene = Scene::new().await;
    let ctx = scene.ctx(Registry::new().on("a", |_: Ctx| std::future::pending::<()>()), 1);
    for _ in 0..2 {
        scene.put(Task::new("a")).await;
    }
    let claimed = scene.broker.claim(&ctx.queue_names(), 2, DEFAULT_LEASE).await;
    let mut claims = claimed.unwrap();
    let (late, first) = (claims.pop().unwrap(), claims.pop().unwrap());
    let mut claim_loop = claim_loop_of(&ctx);
    claim_loop.hand_back(vec![first], Instant::now());
    let sent = claim_loop.next_batch();
    claim_loop.take_answer(back(sent, Settled::Unknown, vec![late.clone()]));
    assert_eq!(ctx.in_flight.len(), 2, "the heartbeat sees both");
    let waiting: Vec<_> = claim_loop
        .verdicts
        .iter()
        .map(|(_, s)| (s.claim.run(), &s.verdict))
        .collect();
    assert!(waiting.contains(&(late.run(), &Verdict::HandBack)), "{waiting:?}");
    assert_eq!(
        claim_loop.room_for(2),
        0,
        "verdicts that fail once more keep their slots"
    );
    // The next call gets through: now there is one slot, not two.
    claim_loop.pause.timer = None;
    let sent = claim_loop.next_batch();
    claim_loop.take_answer(back(sent, Settled::Accepted, Vec::new()));
    claim_loop.queues.may_have_tasks = true;
    assert_eq!((ctx.in_flight.len(), claim_loop.room_for(0)), (0, 1));
}

#[tokio::test]
async fn the_loop_calls_what_returns_at_once_itself_and_nothing_else() {
    let scene = Scene::new().await;
    let registry = Registry::new()
        .on("quick", |_: Ctx| async {})
        .on("fails", |cx: Ctx| async move {
            assert!(cx.id().as_str().is_empty(), "at once");
        })
        .on("waits", |_: Ctx| std::future::pending::<()>());
    let ctx = scene.ctx(registry, 3);
    for kind in ["quick", "waits", "fails"] {
        scene.put(Task::new(kind)).await;
    }
    let claims = scene.broker.claim(&ctx.queue_names(), 3, DEFAULT_LEASE).await.unwrap();
    let mut claim_loop = claim_loop_of(&ctx);
    for kind in ["quick", "waits", "fails"] {
        claim_loop.inline_types.learn(kind);
    }
    // The loop calls handlers for a millisecond only, which a busy machine may take from it.
    tokio::time::pause();
    claim_loop.start(claims, Instant::now());
    // Nothing else has run on this thread meanwhile.
    let verdicts: Vec<_> = claim_loop.verdicts.iter().map(|(_, s)| &s.verdict).collect();
    assert!(
        matches!(verdicts[..], [Verdict::Done, Verdict::Retry { .. }]),
        "{verdicts:?}"
    );
    assert!(
        !claim_loop.inline_types.is_at_once("waits"),
        "it is spawned from now on"
    );
    assert_eq!((claim_loop.slots.taken, ctx.in_flight.len()), (3, 3));
}

#[tokio::test]
async fn a_type_is_called_by_the_loop_once_it_was_seen_to_return_at_once() {
    let scene = Scene::new().await;
    let ctx = scene.ctx(Registry::new().on("quick", |_: Ctx| async {}), 1);
    scene.put(Task::new("quick")).await;
    let claims = scene.broker.claim(&ctx.queue_names(), 1, DEFAULT_LEASE).await.unwrap();
    let mut claim_loop = claim_loop_of(&ctx);
    claim_loop.start(claims, Instant::now());
    assert!(claim_loop.verdicts.is_empty(), "it was spawned");
    let outbox = &claim_loop.shared.outbox;
    outbox.changed().await;
    let ended = outbox.take().remove(0);
    outbox.put(EndedAttempt { at_once: true, ..ended });
    claim_loop.collect();
    assert!(claim_loop.inline_types.is_at_once("quick"));
    assert_eq!(claim_loop.verdicts.len(), 1);
}

/// Lets the broker's thread answer all requests so far, while nothing of this runtime runs.
fn broker_answers(scene: &Scene) {
    std::thread::scope(|threads| {
        let elsewhere = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let other = Task::new("other").queue(QueueName::new("elsewhere").unwrap());
            runtime.unwrap().block_on(scene.put(other));
        };
        threads.spawn(elsewhere).join().unwrap();
    });
}

#[tokio::test]
async fn no_claim_that_comes_together_with_the_stop_is_overlooked() {
    let scene = Scene::new().await;
    let id = scene.put(Task::new("late")).await;
    // A select chooses at random.
    for _ in 0..30 {
        let registry = Registry::new().on("late", |cx: Ctx| async move {
            cx.cancelled().await;
            Outcome::Retry("stopped".into())
        });
        let worker = scene.worker_with(registry, 4, Duration::ZERO);
        tokio::task::yield_now().await;
        broker_answers(&scene);
        worker.drain(CancellationToken::new()).await;
        let info = scene.look(&id).await.unwrap();
        assert_eq!((info.state, info.record.retried), (TaskState::Pending, 0));
    }
}

/// A worker with one slot and a store that refuses to make a task of type `bad` any of these states.
async fn refusing(states: &str) -> (Scene, crate::worker::Worker) {
    let scene = Scene::new().await;
    let trigger = format!(
        "CREATE TRIGGER refuse BEFORE UPDATE ON tasks WHEN new.kind = 'bad' AND new.state IN ({states}) \
         BEGIN SELECT raise(ABORT, 'not this one'); END"
    );
    drop(scene.sql(&trigger).await);
    let registry = Registry::new()
        .on("bad", |_: Ctx| async {})
        .on("good", |_: Ctx| async {});
    let worker = scene.worker_with(registry, 1, Duration::ZERO);
    (scene, worker)
}

fn retained(kind: &str) -> Task {
    Task::new(kind).retention(Duration::from_secs(60))
}

#[tokio::test]
async fn a_verdict_that_is_always_refused_holds_up_nothing() {
    let (scene, worker) = refusing("'completed'").await;
    let (bad, good) = (scene.put(retained("bad")).await, scene.put(retained("good")).await);
    scene.until_state(&good, TaskState::Completed).await;
    let info = scene.until_state(&bad, TaskState::Archived).await;
    assert!(
        info.record.last_error.contains("not this one"),
        "{}",
        info.record.last_error
    );
    let events = worker.ctx.events.clone();
    worker.drain(CancellationToken::new()).await;
    let mut kinds = events.recorded();
    kinds.sort_unstable();
    assert_eq!(
        kinds,
        ["task.archived", "task.succeeded"],
        "events say what was written"
    );
}

#[tokio::test]
async fn a_task_that_cannot_end_at_all_is_left_to_its_lease() {
    let (scene, worker) = refusing("'completed', 'archived'").await;
    let (bad, good) = (scene.put(retained("bad")).await, scene.put(retained("good")).await);
    scene.until_state(&good, TaskState::Completed).await;
    assert_eq!(scene.look(&bad).await.unwrap().state, TaskState::Active);
    worker.ctx.in_flight.emptied().await;
    worker.drain(CancellationToken::new()).await;
}

/// A claim that came as the answer to the question.
async fn one_claim(scene: &Scene, ctx: &Arc<WorkerContext>) -> Vec<Claim> {
    scene.put(Task::new("a")).await;
    scene.broker.claim(&ctx.queue_names(), 1, DEFAULT_LEASE).await.unwrap()
}

#[tokio::test]
async fn claims_of_a_lost_answer_start_unless_the_worker_stops() {
    let scene = Scene::new().await;
    let ctx = scene.ctx(Registry::new().on("a", |_: Ctx| std::future::pending::<()>()), 2);
    let mut claim_loop = claim_loop_of(&ctx);
    claim_loop.unanswered.may_exist = true;
    claim_loop.take_unanswered((Instant::now(), Ok(one_claim(&scene, &ctx).await)));
    assert!(!claim_loop.unanswered.may_exist);
    assert_eq!((claim_loop.slots.taken, claim_loop.verdicts.len()), (1, 0), "it runs");

    claim_loop.close();
    claim_loop.take_unanswered((Instant::now(), Ok(one_claim(&scene, &ctx).await)));
    let verdicts: Vec<_> = claim_loop.verdicts.iter().map(|(_, s)| &s.verdict).collect();
    assert_eq!(verdicts, [&Verdict::HandBack]);
}

#[tokio::test]
async fn nothing_is_sent_and_nothing_ends_while_claims_may_be_unknown() {
    let scene = Scene::new().await;
    let ctx = scene.ctx(Registry::new(), 1);
    let mut claim_loop = claim_loop_of(&ctx);
    claim_loop.unanswered.may_exist = true;
    claim_loop.pause.failed(false);
    claim_loop.make_calls();
    assert!(
        claim_loop.calls.is_empty() && claim_loop.unanswered.question.is_none(),
        "it pauses"
    );
    claim_loop.close();
    assert!(!claim_loop.is_done());
    claim_loop.make_calls();
    assert!(
        claim_loop.unanswered.question.is_some(),
        "a worker that stops asks at once"
    );

    // The broker is unreachable: the worker does not wait for it.
    claim_loop.unanswered.question = None;
    let doing = "look";
    let away = runner_queue::BrokerError::Unreachable {
        doing,
        source: "away".into(),
    };
    claim_loop.take_unanswered((Instant::now(), Err(away)));
    assert!(claim_loop.is_done());
}

#[tokio::test]
async fn a_queue_of_notifications_that_is_away_or_full_holds_up_no_task() {
    let scene = Scene::new().await;
    let registry = Registry::new().on("a", |_: Ctx| std::future::pending::<()>());
    let ctx = scene.ctx_with_notifications(registry, 2);
    let mut claim_loop = claim_loop_of(&ctx);
    let away = || {
        let source = "its server is away".into();
        Err(BrokerError::Unreachable {
            doing: "claim tasks",
            source,
        })
    };
    let answer = |claims| CallResult {
        notifications: true,
        answer: Ok(Exchanged {
            settled: Ok(Vec::new()),
            claims,
            more: false,
        }),
        ..back(VerdictBatch::default(), Settled::Accepted, Vec::new())
    };
    claim_loop.take_answer(answer(away()));
    assert!(claim_loop.spare.pause.is_on() && !claim_loop.pause.is_on());
    claim_loop.make_calls();
    assert_eq!((claim_loop.calls.len(), claim_loop.spare.is_calling), (1, false));
    // Once its pause is over, beside the call for tasks, of which there is one at a time.
    claim_loop.spare.pause.timer = None;
    claim_loop.make_calls();
    assert_eq!((claim_loop.calls.len(), claim_loop.spare.is_calling), (2, true));
    claim_loop.make_calls();
    assert_eq!(claim_loop.calls.len(), 2);
}
