//! Clauses about tasks that are accepted once: a receipt of the id outlives the task.

use std::time::Duration;

use runner_core::task::{InvalidTask, Run, Task, TaskState};

use super::shared::{id, queue, secs, task};
use super::{Clause, Fresh};
use crate::{Delivery, Enqueued, Refusal, Verdict};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        an_id_is_accepted_once_although_its_task_is_gone,
        a_receipt_is_for_one_id_in_one_queue,
        the_same_id_twice_in_one_call_is_accepted_once,
        a_receipt_lapses_after_its_time,
        a_refused_task_leaves_no_receipt,
        a_task_without_an_id_leaves_no_receipt,
        an_id_without_a_time_is_refused_while_its_task_is_there,
        tasks_that_are_accepted_once_keep_their_order_and_options,
    ]
}

const DAY: Duration = Duration::from_secs(24 * 3600);

fn once(task: Task) -> Delivery {
    Delivery { task, remember: DAY }
}

async fn deliver(fresh: &Fresh, tasks: impl IntoIterator<Item = Delivery>) -> Vec<Result<Enqueued, Refusal>> {
    let all: Vec<Delivery> = tasks.into_iter().collect();
    let answers = fresh.broker.enqueue_once(&all).await.unwrap();
    assert_eq!(answers.len(), all.len());
    answers
}

async fn an_id_is_accepted_once_although_its_task_is_gone(fresh: Fresh) {
    let first = deliver(&fresh, [once(task("a"))]).await.remove(0).unwrap();
    assert_eq!((first.id.clone(), first.state), (id("a"), TaskState::Pending));
    assert_eq!(first.run_at, Some(fresh.now()));
    assert_eq!(deliver(&fresh, [once(task("a"))]).await, [Err(Refusal::Received)]);
    let claim = fresh.claim_one().await;
    fresh.end(&claim, Verdict::Done).await;
    assert!(fresh.look("a").await.is_none());
    assert_eq!(deliver(&fresh, [once(task("a"))]).await, [Err(Refusal::Received)]);
    assert!(fresh.claim(9).await.is_empty());
    // Producers that do not ask for it are not concerned.
    fresh.put([task("a")]).await;
    fresh.is_sound().await;
}

async fn a_receipt_is_for_one_id_in_one_queue(fresh: Fresh) {
    deliver(&fresh, [once(task("a"))]).await;
    let answers = deliver(&fresh, [once(task("a").queue(queue("low"))), once(task("b"))]).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    fresh.is_sound().await;
}

async fn the_same_id_twice_in_one_call_is_accepted_once(fresh: Fresh) {
    let answers = deliver(&fresh, [once(task("a")), once(task("b")), once(task("a"))]).await;
    assert!(answers[0].is_ok() && answers[1].is_ok());
    assert_eq!(answers[2], Err(Refusal::Received));
    assert_eq!(fresh.list(TaskState::Pending).await, ["a", "b"]);
    assert!(deliver(&fresh, []).await.is_empty());
    fresh.is_sound().await;
}

async fn a_receipt_lapses_after_its_time(fresh: Fresh) {
    let brief = || Delivery {
        task: task("a"),
        remember: secs(2),
    };
    deliver(&fresh, [brief()]).await;
    let claim = fresh.claim_one().await;
    fresh.end(&claim, Verdict::Done).await;
    let again = async || match deliver(&fresh, [brief()]).await.remove(0) {
        Ok(_) => true,
        Err(refusal) => {
            assert_eq!(refusal, Refusal::Received);
            false
        }
    };
    fresh.lapse(secs(2), again).await;
    fresh.is_sound().await;
}

async fn a_refused_task_leaves_no_receipt(fresh: Fresh) {
    let locked = |name: &str| Task::new("u").id(id(name)).unique(secs(600));
    fresh.put([task("taken"), locked("holder")]).await;
    let blank = Task::new(" ").id(id("blank"));
    let refused = deliver(&fresh, [once(task("taken")), once(locked("locked")), once(blank)]).await;
    let expected = [Refusal::IdTaken, Refusal::Duplicate, InvalidTask::BlankType.into()];
    assert_eq!(refused, expected.map(Err));
    for claim in fresh.claim(2).await {
        fresh.end(&claim, Verdict::Done).await;
    }
    let tasks = [once(task("taken")), once(locked("locked")), once(task("blank"))];
    let answers = deliver(&fresh, tasks).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    fresh.is_sound().await;
}

async fn a_task_without_an_id_leaves_no_receipt(fresh: Fresh) {
    let answers = deliver(&fresh, [once(Task::new("a")), once(Task::new("a"))]).await;
    let ids: Vec<_> = answers.into_iter().map(|answer| answer.unwrap().id).collect();
    assert_ne!(ids[0], ids[1]);
    fresh.is_sound().await;
}

async fn an_id_without_a_time_is_refused_while_its_task_is_there(fresh: Fresh) {
    let plain = || Delivery {
        task: task("a"),
        remember: Duration::ZERO,
    };
    deliver(&fresh, [plain()]).await;
    assert_eq!(deliver(&fresh, [plain()]).await, [Err(Refusal::IdTaken)]);
    let claim = fresh.claim_one().await;
    fresh.end(&claim, Verdict::Done).await;
    assert!(deliver(&fresh, [plain()]).await[0].is_ok());
    fresh.is_sound().await;
}

async fn tasks_that_are_accepted_once_keep_their_order_and_options(fresh: Fresh) {
    let names: Vec<String> = (0..300).map(|n| format!("{n:03}")).collect();
    let tasks = names.iter().map(|name| once(task(name).payload("p").header("k", "v")));
    let answers = deliver(&fresh, tasks).await;
    assert!(answers.iter().all(Result::is_ok));
    let later = once(task("later").run(Run::In(secs(60))));
    let answer = deliver(&fresh, [later]).await.remove(0).unwrap();
    assert_eq!(answer.state, TaskState::Scheduled);
    let claim = fresh.claim_one().await;
    assert_eq!(claim.task().id, id("000"));
    assert_eq!(&claim.task().payload[..], b"p");
    assert_eq!(claim.task().headers["k"], "v");
    assert_eq!(fresh.claim_ids(300).await, names[1..]);
    fresh.is_sound().await;
}
