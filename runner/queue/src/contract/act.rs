//! Clauses about an operator's actions beyond the table of moves: places, locks, answers.

use runner_core::task::{QueueName, Run, Task, TaskState};

use super::shared::{archive, id, queue, secs, task, verdict};
use super::{Clause, Fresh};
use crate::{Action, ActionError, Refusal, Settled, Settlement, Verdict};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        a_task_that_is_run_now_goes_behind_those_that_wait,
        an_archived_task_that_is_run_again_keeps_its_history,
        a_completed_task_that_is_run_again_has_no_result_any_more,
        an_action_on_an_unknown_task_says_so,
        archiving_a_task_keeps_its_lock_and_deleting_it_does_not,
        a_waiting_task_that_an_operator_moves_waits_no_more,
    ]
}

async fn act(fresh: &Fresh, name: &str, action: Action) -> Result<(), ActionError> {
    fresh.broker.act(&QueueName::default(), &id(name), action).await
}

async fn a_task_that_is_run_now_goes_behind_those_that_wait(fresh: Fresh) {
    fresh
        .put([task("late").run(Run::In(secs(3600))), task("a"), task("b")])
        .await;
    act(&fresh, "late", Action::Run).await.unwrap();
    assert_eq!(fresh.claim_ids(9).await, ["a", "b", "late"]);
    fresh.is_sound().await;
}

async fn an_archived_task_that_is_run_again_keeps_its_history(fresh: Fresh) {
    fresh.put([task("a").max_retry(2)]).await;
    fresh.end(&fresh.claim_one().await, archive("hopeless")).await;
    act(&fresh, "a", Action::Run).await.unwrap();
    let claim = fresh.claim_one().await;
    assert_eq!(claim.task().last_error, "hopeless");
    assert_eq!(claim.task().retried, 0);
    fresh.end(&claim, Verdict::Done).await;
    fresh.is_sound().await;
}

async fn a_completed_task_that_is_run_again_has_no_result_any_more(fresh: Fresh) {
    let (alone, all) = (["archived", "completed"], ["a", "b"]);
    let names = || alone.iter().chain(&all).copied();
    fresh.put(names().map(|name| task(name).retention(secs(600)))).await;
    for claim in fresh.claim(4).await {
        let first = Settlement {
            result: Some("of the first run".into()),
            ..verdict(&claim, Verdict::Done)
        };
        assert_eq!(fresh.broker.settle(&[first]).await.unwrap(), [Settled::Accepted]);
    }
    act(&fresh, "archived", Action::Archive).await.unwrap();
    for name in names() {
        assert_eq!(fresh.see(name).await.result.as_deref(), Some(&b"of the first run"[..]));
    }
    for name in alone {
        act(&fresh, name, Action::Run).await.unwrap();
    }
    let queue = QueueName::default();
    let run = fresh.broker.act_all(&queue, TaskState::Completed, Action::Run).await;
    assert_eq!(run.unwrap().tasks, 2);
    for name in names() {
        assert_eq!(fresh.see(name).await.result, None, "{name} waits");
    }
    for claim in fresh.claim(4).await {
        fresh.end(&claim, Verdict::Done).await;
    }
    for name in names() {
        let info = fresh.see(name).await;
        assert_eq!((info.state, info.result), (TaskState::Completed, None), "{name}");
    }
    fresh.is_sound().await;
}

async fn an_action_on_an_unknown_task_says_so(fresh: Fresh) {
    fresh.put([task("a")]).await;
    for action in [Action::Run, Action::Archive, Action::Delete] {
        let absent = act(&fresh, "b", action).await;
        assert!(matches!(absent, Err(ActionError::NotFound(..))), "{absent:?}");
        let elsewhere = fresh.broker.act(&queue("low"), &id("a"), action).await;
        assert!(matches!(elsewhere, Err(ActionError::NotFound(..))), "{elsewhere:?}");
    }
    assert_eq!(fresh.state("a").await, Some(TaskState::Pending));
    fresh.is_sound().await;
}

async fn archiving_a_task_keeps_its_lock_and_deleting_it_does_not(fresh: Fresh) {
    let locked = |name: &str| Task::new("u").id(id(name)).unique(secs(600));
    fresh.put([locked("a")]).await;
    act(&fresh, "a", Action::Archive).await.unwrap();
    assert_eq!(fresh.try_put(locked("b")).await, Err(Refusal::Duplicate));
    act(&fresh, "a", Action::Delete).await.unwrap();
    fresh.put([locked("b")]).await;
    fresh.is_sound().await;
}

async fn a_waiting_task_that_an_operator_moves_waits_no_more(fresh: Fresh) {
    fresh.put([task("a"), task("b")]).await;
    for claim in fresh.claim(2).await {
        let how = Verdict::Snooze {
            delay: secs(3600),
            waiting_for: Some("a handler".to_owned()),
        };
        fresh.end(&claim, how).await;
    }
    act(&fresh, "a", Action::Run).await.unwrap();
    act(&fresh, "b", Action::Archive).await.unwrap();
    assert_eq!(fresh.see("a").await.waiting_for, None);
    assert_eq!(fresh.see("b").await.waiting_for, None);
    let queues = [QueueName::default()];
    let all = ["*".to_owned()];
    assert_eq!(fresh.broker.release_waiting(&queues, &all).await.unwrap(), 0);
    fresh.is_sound().await;
}
