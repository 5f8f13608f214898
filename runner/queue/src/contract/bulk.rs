//! Clauses about actions on whole lists, and about another payload for a scheduled task.

use runner_core::clock::Clock as _;
use runner_core::task::{InvalidTask, MAX_PAYLOAD, QueueName, Run, Task, TaskState};

use super::shared::{archive, id, queue, retry, secs, task};
use super::states::{bring, clear};
use super::{Clause, Fresh};
use crate::{Acted, Action, ActionError, MAX_ACTED, Refusal, Verdict};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        every_action_on_a_list_is_the_move_of_the_table,
        an_action_on_a_list_does_not_touch_other_lists_and_queues,
        an_action_on_an_empty_list_does_nothing,
        a_list_is_run_in_its_order,
        a_long_list_is_processed_call_by_call,
        all_groups_of_a_queue_are_acted_on,
        only_tasks_that_were_there_before_are_acted_on,
        some_tasks_are_acted_on_if_they_are_in_the_state,
        deleting_a_list_releases_the_locks_and_archiving_it_does_not,
        tasks_of_a_list_that_is_run_wait_for_nothing_any_more,
        a_scheduled_task_gets_another_payload_and_keeps_all_else,
        only_a_scheduled_task_gets_another_payload,
        a_payload_that_no_task_may_have_is_refused,
    ]
}

async fn act_all(fresh: &Fresh, state: TaskState, action: Action) -> Result<Acted, ActionError> {
    fresh.broker.act_all(&QueueName::default(), state, action).await
}

fn acted(tasks: u64) -> Acted {
    Acted { tasks, more: false }
}

async fn every_action_on_a_list_is_the_move_of_the_table(fresh: Fresh) {
    for from in TaskState::ALL {
        for action in [Action::Run, Action::Archive, Action::Delete] {
            let name = format!("{from}-{action:?}");
            bring(&fresh, from, &name).await;
            let counted = fresh.counted().await;
            let done = act_all(&fresh, from, action).await;
            match from.after(action.event()) {
                Ok(next) => {
                    assert_eq!(done.unwrap(), acted(1), "{from} {action:?}");
                    assert_eq!(fresh.state(&name).await, next, "{from} {action:?}");
                }
                Err(_) => {
                    let refused = matches!(done, Err(ActionError::Never { state, .. }) if state == from);
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

async fn an_action_on_a_list_does_not_touch_other_lists_and_queues(fresh: Fresh) {
    let later = |name: &str| task(name).run(Run::In(secs(60)));
    fresh
        .put([later("a"), later("b"), task("c"), later("d").queue(queue("low"))])
        .await;
    assert_eq!(
        act_all(&fresh, TaskState::Scheduled, Action::Delete).await.unwrap(),
        acted(2)
    );
    assert_eq!(fresh.state("c").await, Some(TaskState::Pending));
    let low = fresh.broker.task(&queue("low"), &id("d")).await.unwrap();
    assert_eq!(low.map(|info| info.state), Some(TaskState::Scheduled));
    assert!(fresh.look("a").await.is_none() && fresh.look("b").await.is_none());
    fresh.is_sound().await;
}

async fn an_action_on_an_empty_list_does_nothing(fresh: Fresh) {
    let nowhere = fresh
        .broker
        .act_all(&queue("never used"), TaskState::Retry, Action::Run)
        .await;
    assert_eq!(nowhere.unwrap(), acted(0));
    fresh.put([task("a")]).await;
    for (state, action) in [
        (TaskState::Retry, Action::Run),
        (TaskState::Scheduled, Action::Archive),
        (TaskState::Completed, Action::Delete),
        (TaskState::Aggregating, Action::Delete),
    ] {
        assert_eq!(act_all(&fresh, state, action).await.unwrap(), acted(0), "{state}");
    }
    assert_eq!(fresh.list(TaskState::Pending).await, ["a"]);
    fresh.is_sound().await;
}

async fn a_list_is_run_in_its_order(fresh: Fresh) {
    let due = |name: &str, n| task(name).run(Run::In(secs(n)));
    fresh
        .put([task("first"), due("c", 30), due("a", 10), due("b", 20)])
        .await;
    assert_eq!(
        act_all(&fresh, TaskState::Scheduled, Action::Run).await.unwrap(),
        acted(3)
    );
    assert_eq!(fresh.see("a").await.pending_since, Some(fresh.now()));
    assert_eq!(fresh.claim_ids(9).await, ["first", "a", "b", "c"]);
    fresh.is_sound().await;
}

async fn a_long_list_is_processed_call_by_call(fresh: Fresh) {
    let most = MAX_ACTED as u64;
    let many = (0..MAX_ACTED + 5).map(|n| task(&format!("{n:05}")).max_retry(0));
    fresh.put(many).await;
    for action in [Action::Archive, Action::Run, Action::Delete] {
        let state = match action {
            Action::Run => TaskState::Archived,
            Action::Archive | Action::Delete => TaskState::Pending,
        };
        let first = act_all(&fresh, state, action).await.unwrap();
        assert_eq!((first.tasks, first.more), (most, true), "{action:?}");
        assert_eq!(act_all(&fresh, state, action).await.unwrap(), acted(5), "{action:?}");
    }
    assert_eq!(fresh.glance().await.size(), 0);
    fresh.is_sound().await;
}

async fn all_groups_of_a_queue_are_acted_on(fresh: Fresh) {
    let grouped = |name: &str, group: &str| task(name).group(group);
    let all = || [grouped("a", "x"), grouped("b", "y"), grouped("c", "x")];
    fresh.put(all()).await;
    let count = async || fresh.glance().await.counts[&TaskState::Aggregating];
    assert_eq!(count().await, 3);
    assert_eq!(
        act_all(&fresh, TaskState::Aggregating, Action::Delete).await.unwrap(),
        acted(3)
    );
    assert_eq!(count().await, 0);
    fresh.put(all()).await;
    assert_eq!(
        act_all(&fresh, TaskState::Aggregating, Action::Run).await.unwrap(),
        acted(3)
    );
    assert_eq!(fresh.list(TaskState::Pending).await.len(), 3);
    fresh.is_sound().await;
}

async fn deleting_a_list_releases_the_locks_and_archiving_it_does_not(fresh: Fresh) {
    let locked = |name: &str| Task::new("u").id(id(name)).unique(secs(600));
    let scheduled = |name: &str| locked(name).run(Run::In(secs(60)));
    fresh.put([locked("a")]).await;
    act_all(&fresh, TaskState::Pending, Action::Archive).await.unwrap();
    assert_eq!(fresh.try_put(locked("b")).await, Err(Refusal::Duplicate));
    act_all(&fresh, TaskState::Archived, Action::Delete).await.unwrap();
    fresh.put([locked("b")]).await;
    act_all(&fresh, TaskState::Pending, Action::Delete).await.unwrap();
    fresh.put([scheduled("c")]).await;
    act_all(&fresh, TaskState::Scheduled, Action::Delete).await.unwrap();
    fresh.put([locked("d").group("g")]).await;
    act_all(&fresh, TaskState::Aggregating, Action::Delete).await.unwrap();
    fresh.put([locked("e")]).await;
    fresh.end(&fresh.claim_one().await, retry(60, "no")).await;
    act_all(&fresh, TaskState::Retry, Action::Delete).await.unwrap();
    fresh.put([locked("f")]).await;
    fresh.is_sound().await;
}

async fn tasks_of_a_list_that_is_run_wait_for_nothing_any_more(fresh: Fresh) {
    fresh.put([task("a"), task("b")]).await;
    for claim in fresh.claim(2).await {
        let how = Verdict::Snooze {
            delay: secs(3600),
            waiting_for: Some("a handler".to_owned()),
        };
        fresh.end(&claim, how).await;
    }
    assert_eq!(
        act_all(&fresh, TaskState::Scheduled, Action::Run).await.unwrap(),
        acted(2)
    );
    assert_eq!(fresh.see("a").await.waiting_for, None);
    fresh.is_sound().await;
}

async fn a_scheduled_task_gets_another_payload_and_keeps_all_else(fresh: Fresh) {
    let queue = QueueName::default();
    let mine = || Task::new("u").payload("old").unique(secs(600)).run(Run::In(secs(60)));
    fresh.put([mine().id(id("a")).max_retry(7).header("k", "v")]).await;
    let before = fresh.see("a").await;
    let edit = fresh.broker.update_payload(&queue, &id("a"), "new".into()).await;
    edit.unwrap();
    let mut after = fresh.see("a").await;
    assert_eq!(after.record.payload, "new");
    after.record.payload = before.record.payload.clone();
    assert_eq!(after, before);
    // The lock is still that of the old payload, and still its own.
    assert_eq!(fresh.try_put(mine()).await, Err(Refusal::Duplicate));
    fresh.broker.act(&queue, &id("a"), Action::Delete).await.unwrap();
    fresh.put([mine()]).await;
    fresh.is_sound().await;
}

async fn only_a_scheduled_task_gets_another_payload(fresh: Fresh) {
    let queue = QueueName::default();
    for state in TaskState::ALL {
        let name = state.as_str();
        bring(&fresh, state, name).await;
        let before = fresh.see(name).await.record.payload;
        let edit = fresh.broker.update_payload(&queue, &id(name), "new".into()).await;
        if state == TaskState::Scheduled {
            edit.unwrap();
        } else {
            let refused = matches!(edit, Err(ActionError::WrongState { state: found, .. }) if found == state);
            assert!(refused, "{state}: {edit:?}");
            assert_eq!(fresh.see(name).await.record.payload, before);
        }
        clear(&fresh, name).await;
    }
    let absent = fresh.broker.update_payload(&queue, &id("absent"), "new".into()).await;
    assert!(matches!(absent, Err(ActionError::NotFound(..))), "{absent:?}");
    fresh.put([task("b")]).await;
    fresh.end(&fresh.claim_one().await, archive("no")).await;
    fresh.is_sound().await;
}

async fn a_payload_that_no_task_may_have_is_refused(fresh: Fresh) {
    // Zeroed memory that is never touched costs nothing.
    let long = || vec![0; MAX_PAYLOAD + 1];
    let expected = InvalidTask::PayloadTooLong(MAX_PAYLOAD + 1);
    let enqueued = fresh.try_put(task("a").payload(long())).await;
    assert_eq!(enqueued, Err(Refusal::Invalid(expected.clone())));
    fresh.put([task("b").payload("old").run(Run::In(secs(60)))]).await;
    let queue = QueueName::default();
    let edited = fresh.broker.update_payload(&queue, &id("b"), long().into()).await;
    assert!(
        matches!(&edited, Err(ActionError::Invalid(why)) if *why == expected),
        "{edited:?}"
    );
    assert_eq!(fresh.see("b").await.record.payload, "old");
    fresh.is_sound().await;
}

async fn only_tasks_that_were_there_before_are_acted_on(fresh: Fresh) {
    let broker = &fresh.broker;
    let queue = QueueName::default();
    for from in [TaskState::Pending, TaskState::Archived] {
        let name = |n: usize| format!("{from}-{n}");
        for n in 0..3 {
            bring(&fresh, from, &name(n)).await;
        }
        fresh.clock.advance(secs(1));
        let before = fresh.clock.now();
        fresh.clock.advance(secs(1));
        bring(&fresh, from, &name(3)).await;
        let act = async |most| {
            let done = broker.act_before(&queue, from, Action::Delete, before, most).await;
            done.unwrap()
        };
        assert_eq!(act(2).await, Acted { tasks: 2, more: true }, "{from}");
        assert_eq!(act(2).await, acted(1), "{from}");
        assert_eq!(act(2).await, acted(0), "{from}");
        assert_eq!(
            fresh.list(from).await,
            [name(3)],
            "{from}: a later one stays on its list"
        );
        assert_eq!(fresh.state(&name(3)).await, Some(from));
        clear(&fresh, &name(3)).await;
    }
    // Other lists are taken in their order.
    for name in ["a", "b"] {
        fresh.put([task(name).run(Run::In(secs(60)))]).await;
    }
    let done = broker
        .act_before(&queue, TaskState::Scheduled, Action::Run, fresh.clock.now(), 1)
        .await
        .unwrap();
    assert_eq!(done, Acted { tasks: 1, more: true });
    let never = broker
        .act_before(&queue, TaskState::Active, Action::Run, fresh.clock.now(), 1)
        .await;
    assert!(matches!(never, Err(ActionError::Never { .. })), "{never:?}");
    fresh.is_sound().await;
}

async fn some_tasks_are_acted_on_if_they_are_in_the_state(fresh: Fresh) {
    let broker = &fresh.broker;
    let queue = QueueName::default();
    for from in TaskState::ALL {
        for action in [Action::Run, Action::Archive, Action::Delete] {
            let names = ["x", "y", "z"].map(|n| format!("{from}-{action:?}-{n}"));
            for name in &names[..2] {
                bring(&fresh, from, name).await;
            }
            let ids = [id(&names[0]), id("missing"), id(&names[2])];
            let done = broker.act_each(&queue, &ids, from, action).await;
            match from.after(action.event()) {
                Ok(next) => {
                    assert_eq!(done.unwrap(), 1, "{from} {action:?}");
                    assert_eq!(fresh.state(&names[0]).await, next, "{from} {action:?}");
                    let other = [TaskState::Retry, TaskState::Scheduled]
                        .into_iter()
                        .find(|state| *state != from);
                    let elsewhere = broker.act_each(&queue, &[id(&names[1])], other.unwrap(), action).await;
                    assert_eq!(elsewhere.unwrap(), 0, "it is in another state");
                }
                Err(_) => assert!(matches!(done, Err(ActionError::Never { .. })), "{done:?}"),
            }
            assert_eq!(fresh.state(&names[1]).await, Some(from), "one that was not named");
            if from == TaskState::Active {
                fresh.clock.advance(secs(30));
                fresh
                    .broker
                    .recover(std::slice::from_ref(&queue), secs(0), 10, 0)
                    .await
                    .unwrap();
            }
            for name in &names[..2] {
                clear(&fresh, name).await;
            }
        }
    }
    fresh.is_sound().await;
}
