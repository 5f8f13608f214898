//! The table of moves, walked: each legal move is made by the broker, each illegal one is refused.

use runner_core::task::{Event, QueueName, Run, Task, TaskState};

use super::shared::{LEASE, archive, id, retry, secs, task, verdict};
use super::{Clause, Fresh};
use crate::{Action, ActionError, ArchiveBounds, Settled, Verdict};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        every_action_of_an_operator_is_the_move_of_the_table,
        only_due_tasks_become_pending,
        only_pending_tasks_are_claimed,
        only_completed_tasks_expire,
        every_verdict_on_an_active_task_is_the_move_of_the_table,
        a_verdict_on_a_task_that_is_not_active_is_stale,
    ]
}

/// Brings a task named like its state into that state; everything else that was made on the way is settled.
pub(super) async fn bring(fresh: &Fresh, state: TaskState, name: &str) {
    let task = || -> Task { task(name).retention(secs(3600)).max_retry(1) };
    let queue = QueueName::default();
    match state {
        TaskState::Pending => fresh.put([task()]).await,
        TaskState::Scheduled => fresh.put([task().run(Run::In(secs(3600)))]).await,
        TaskState::Aggregating => {
            let mut grouped = task();
            grouped.group = Some("g".to_owned());
            fresh.put([grouped]).await;
        }
        TaskState::Active => {
            fresh.put([task()]).await;
            let claims = fresh.broker.claim(&[queue], 1, LEASE).await.unwrap();
            assert_eq!(claims.len(), 1);
        }
        TaskState::Retry | TaskState::Archived | TaskState::Completed => {
            fresh.put([task()]).await;
            let claims = fresh.broker.claim(&[queue], 1, LEASE).await.unwrap();
            let how = match state {
                TaskState::Retry => retry(3600, "no"),
                TaskState::Archived => archive("no"),
                _ => Verdict::Done,
            };
            fresh.end(&claims[0], how).await;
        }
    }
    assert_eq!(fresh.state(name).await, Some(state), "could not bring it about");
}

async fn every_action_of_an_operator_is_the_move_of_the_table(fresh: Fresh) {
    let queue = QueueName::default();
    let actions = [
        (Action::Run, Event::RunNow),
        (Action::Archive, Event::Archive),
        (Action::Delete, Event::Delete),
    ];
    for from in TaskState::ALL {
        for (action, event) in actions {
            let name = format!("{from}-{action:?}");
            bring(&fresh, from, &name).await;
            let counted = fresh.counted().await;
            let done = fresh.broker.act(&queue, &id(&name), action).await;
            match from.after(event) {
                Ok(next) => {
                    done.unwrap_or_else(|e| panic!("{from} {action:?}: {e}"));
                    assert_eq!(fresh.state(&name).await, next, "{from} {action:?}");
                }
                Err(_) => {
                    let refused = matches!(done, Err(ActionError::WrongState { state, .. }) if state == from);
                    assert!(refused, "{from} {action:?} was not refused: {done:?}");
                    assert_eq!(fresh.state(&name).await, Some(from));
                }
            }
            assert_eq!(fresh.counted().await, counted, "an action counts as no attempt");
            clear(&fresh, &name).await;
        }
    }
    fresh.is_sound().await;
}

/// Gets a task out of the way, whatever its state.
pub(super) async fn clear(fresh: &Fresh, name: &str) {
    let queue = QueueName::default();
    if fresh.state(name).await == Some(TaskState::Active) {
        fresh.clock.advance(LEASE);
        let queues = [queue.clone()];
        let recovered = fresh.broker.recover(&queues, secs(0), 10, 0).await.unwrap();
        assert_eq!(recovered.len(), 1);
    }
    if fresh.look(name).await.is_some() {
        fresh.broker.act(&queue, &id(name), Action::Delete).await.unwrap();
    }
}

async fn only_due_tasks_become_pending(fresh: Fresh) {
    for from in TaskState::ALL {
        let name = from.as_str();
        bring(&fresh, from, name).await;
        fresh.clock.advance(secs(3600));
        let moved = fresh.forward().await;
        match from.after(Event::Due) {
            Ok(next) => {
                assert_eq!(moved, 1, "{from}");
                assert_eq!(fresh.state(name).await, next);
            }
            Err(_) => {
                assert_eq!(moved, 0, "{from}");
                assert_eq!(fresh.state(name).await, Some(from));
            }
        }
        clear(&fresh, name).await;
    }
    fresh.is_sound().await;
}

async fn only_pending_tasks_are_claimed(fresh: Fresh) {
    for from in TaskState::ALL {
        let name = from.as_str();
        bring(&fresh, from, name).await;
        let claimed = fresh.claim(9).await.len();
        let next = from.after(Event::Claimed);
        assert_eq!(claimed == 1, next.is_ok(), "{from}");
        assert_eq!(fresh.state(name).await, next.unwrap_or(Some(from)));
        clear(&fresh, name).await;
    }
    fresh.is_sound().await;
}

async fn only_completed_tasks_expire(fresh: Fresh) {
    let queues = [QueueName::default()];
    for from in TaskState::ALL {
        let name = from.as_str();
        bring(&fresh, from, name).await;
        fresh.clock.advance(secs(3600));
        let swept = fresh
            .broker
            .sweep(&queues, 100, ArchiveBounds::default())
            .await
            .unwrap();
        let next = from.after(Event::Expired);
        assert_eq!(swept.expired == 1, next.is_ok(), "{from}");
        assert_eq!(fresh.state(name).await, next.unwrap_or(Some(from)));
        clear(&fresh, name).await;
    }
    fresh.is_sound().await;
}

async fn every_verdict_on_an_active_task_is_the_move_of_the_table(fresh: Fresh) {
    let snooze = Verdict::Snooze {
        delay: secs(1),
        waiting_for: None,
    };
    let moves = [
        (Verdict::Done, secs(60), Event::Succeeded { keep: true }),
        (Verdict::Done, secs(0), Event::Succeeded { keep: false }),
        (retry(1, "no"), secs(0), Event::Failed { retries_left: true }),
        (archive("no"), secs(0), Event::Failed { retries_left: false }),
        (Verdict::HandBack, secs(0), Event::HandedBack),
        (snooze, secs(0), Event::Snoozed),
    ];
    for (n, (how, retention, event)) in moves.into_iter().enumerate() {
        let name = format!("{n}");
        fresh.put([task(&name).retention(retention)]).await;
        let claim = fresh.claim_one().await;
        fresh.end(&claim, how.clone()).await;
        let next = TaskState::Active.after(event).unwrap();
        assert_eq!(fresh.state(&name).await, next, "{how:?}");
        clear(&fresh, &name).await;
    }
    fresh.is_sound().await;
}

async fn a_verdict_on_a_task_that_is_not_active_is_stale(fresh: Fresh) {
    let queue = QueueName::default();
    // A claim of a task that an operator deleted since; another one has its id now.
    for from in TaskState::ALL.into_iter().filter(|s| *s != TaskState::Active) {
        let name = from.as_str();
        fresh.put([task(name)]).await;
        let claim = fresh.claim_one().await;
        fresh.end(&claim, archive("no")).await;
        fresh.broker.act(&queue, &id(name), Action::Delete).await.unwrap();
        bring(&fresh, from, name).await;
        let late = verdict(&claim, Verdict::Done);
        assert_eq!(fresh.broker.settle(&[late]).await.unwrap(), [Settled::Stale]);
        assert_eq!(fresh.state(name).await, Some(from));
        clear(&fresh, name).await;
    }
    fresh.is_sound().await;
}
