//! Scenarios of the inspector: queries, and an operator's actions.

use std::time::Duration;

use runner_core::task::{Run, TaskState};
use runner_queue::{
    Action, ActionError, Actions as _, Groups as _, InspectQueues as _, InspectTasks as _, Page, Producer as _,
};

use super::replay::{Replay, default_queue, email, id, task_key};
use super::store::{Bytes, ask};
use crate::kit;

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(Redis): inspector_run_task, inspector_archive_task, inspector_delete_task, inspector_task_info,
            inspector_lists, queue_info;
    ]
}

/// The states in the order of the vectors' steps.
const STATES: [TaskState; 7] = [
    TaskState::Pending,
    TaskState::Active,
    TaskState::Scheduled,
    TaskState::Retry,
    TaskState::Archived,
    TaskState::Completed,
    TaskState::Aggregating,
];

/// Acts on a task in every state; the seam must refuse exactly where the vector has an error.
async fn act_on_each(scenario: &str, action: Action, words: &str) {
    let mut replay = Replay::open(scenario).await;
    replay.set_up("(set-up) one task in every state").await;
    let mut run = Vec::new();
    for state in STATES {
        let task = format!("t-{state}");
        let refused = !replay.step(&format!("{words} {task}"))["error"].is_null();
        let outcome = replay.broker.act(&default_queue(), &id(&task), action).await;
        match &outcome {
            Ok(()) => run.push(task.clone()),
            Err(ActionError::WrongState { state: found, .. }) => assert_eq!(*found, state),
            Err(other) => panic!("{task}: {other}"),
        }
        assert_eq!(outcome.is_err(), refused, "{task}: {outcome:?}");
        assert_eq!(state_allows(state, action), !refused, "the table of moves, {state}");
        replay
            .same_but(|store| {
                // Ours sets `pending_since` of a task that is run; asynq leaves the old value.
                for task in run.iter().filter(|_| action == Action::Run) {
                    let since = Bytes::from("1893553452678901234");
                    store.hash(&task_key(task)).insert(Bytes::from("pending_since"), since);
                }
            })
            .await;
    }
    replay.step(&format!("{words} t-missing"));
    let missing = replay.broker.act(&default_queue(), &id("t-missing"), action).await;
    assert!(matches!(missing, Err(ActionError::NotFound(..))), "{missing:?}");
    let nowhere = "nope".parse().unwrap();
    let missing = replay.broker.act(&nowhere, &id("t-pending"), action).await;
    assert!(matches!(missing, Err(ActionError::NotFound(..))), "{missing:?}");
}

fn state_allows(state: TaskState, action: Action) -> bool {
    use runner_core::task::Event;
    let event = match action {
        Action::Run => Event::RunNow,
        Action::Archive => Event::Archive,
        Action::Delete => Event::Delete,
    };
    state.after(event).is_ok()
}

async fn inspector_run_task() {
    act_on_each("inspector_run_task", Action::Run, "run task").await;
}

async fn inspector_archive_task() {
    act_on_each("inspector_archive_task", Action::Archive, "archive task").await;
}

async fn inspector_delete_task() {
    act_on_each("inspector_delete_task", Action::Delete, "delete task").await;
}

async fn inspector_task_info() {
    let mut replay = Replay::open("inspector_task_info").await;
    replay.set_up("(set-up) one task in every state").await;
    for state in STATES {
        let task = format!("t-{state}");
        let result = replay.step(&format!("get task info {task}"))["result"].clone();
        let info = replay.broker.task(&default_queue(), &id(&task)).await.unwrap().unwrap();
        assert_eq!(info.state, state);
        assert_eq!(info.record.id.as_str(), task);
        let message = &result["message"];
        assert_eq!(message["error_msg"], info.record.last_error);
        assert_eq!(message["retried"], info.record.retried);
        assert_eq!(message["retention"], info.record.retention.as_secs());
        let next = &result["next_process_at"]["unix_seconds"];
        if matches!(state, TaskState::Scheduled | TaskState::Retry) {
            assert_eq!(next.as_i64(), info.next_run.map(jiff::Timestamp::as_second));
        } else {
            assert_eq!(info.next_run, None);
        }
        assert_eq!(info.lease_until.is_some(), state == TaskState::Active);
        let filed = matches!(state, TaskState::Archived | TaskState::Completed);
        assert_eq!(info.filed_at.is_some(), filed);
        assert_eq!(info.pending_since.is_some(), state == TaskState::Pending);
    }
    replay.step("get task info t-missing");
    let missing = replay.broker.task(&default_queue(), &id("t-missing")).await;
    assert_eq!(missing.unwrap(), None);
}

async fn inspector_lists() {
    let mut replay = Replay::open("inspector_lists").await;
    for n in 0..5 {
        replay.enqueue(email(&format!("p{n}"))).await.unwrap();
    }
    let tasks: Vec<_> = (0..5)
        .map(|n| email(&format!("s{n}")).run(Run::In(Duration::from_secs(60 * (10 - n)))))
        .collect();
    replay.broker.enqueue(&tasks).await.unwrap();
    for number in 1..=4 {
        same_page(
            &mut replay,
            "enqueued p0..p4",
            TaskState::Pending,
            Page { number, size: 2 },
            5,
        )
        .await;
    }
    for (step, number) in [("scheduled s0", 1), ("page 1", 2)] {
        same_page(&mut replay, step, TaskState::Scheduled, Page { number, size: 3 }, 5).await;
    }
    for _ in 0..2 {
        replay.claim().await;
    }
    same_page(&mut replay, "after dequeuing", TaskState::Active, Page::default(), 2).await;
    replay.step("hash of p2 deleted");
    let _: i64 = ask(&mut replay.link, &["DEL", &task_key("p2")]).await;
    // asynq shows an empty task here.
    let page = replay
        .broker
        .tasks(&default_queue(), TaskState::Pending, Page::default())
        .await
        .unwrap();
    assert_eq!((page.tasks.len(), page.total), (2, 3));
    // The next claim drops the ghost and takes the next task.
    assert_eq!(replay.claim().await.task().id.as_str(), "p3");
    assert_eq!(replay.broker.audit().await.unwrap(), Vec::<String>::new());
}

async fn same_page(replay: &mut Replay, step: &str, state: TaskState, page: Page, total: u64) {
    let expected = replay.step(step)["result"].clone();
    let found = replay.broker.tasks(&default_queue(), state, page).await.unwrap();
    let ids: Vec<&str> = found.tasks.iter().map(|task| task.record.id.as_str()).collect();
    assert_eq!(expected, serde_json::json!(ids), "{step}");
    assert_eq!(found.total, total);
}

async fn queue_info() {
    let mut replay = Replay::open("queue_info").await;
    let result = replay.step("queue info 7s later")["result"].clone();
    replay.step("queue info of an unknown queue");
    let days = replay.step("history of 3 days")["result"].clone();
    replay.step("history of 0 days");
    let groups = replay.step("group stats")["result"].clone();
    replay.set_up("dump").await;
    let found = replay.broker.groups(&default_queue(), Page::default()).await.unwrap();
    let found: Vec<_> = found
        .groups
        .iter()
        .map(|g| serde_json::json!({"Group": g.name, "Size": g.tasks}))
        .collect();
    assert_eq!(groups, serde_json::json!(found));
    let history = replay.broker.history(&default_queue(), 3).await.unwrap();
    assert_eq!(days.as_array().map(Vec::len), Some(history.len()));
    for (expected, found) in days.as_array().unwrap().iter().zip(history) {
        assert!(expected["Time"].as_str().unwrap().starts_with(&found.day.to_string()));
        assert_eq!(expected["Processed"], found.processed);
        assert_eq!(expected["Failed"], found.failed);
    }
    let info = replay.broker.queues().await.unwrap().remove(0);
    assert_eq!(result["Queue"], info.name.as_str());
    assert_eq!(result["Size"], info.size());
    for state in STATES {
        let word = state.as_str();
        let name = format!("{}{}", word[..1].to_uppercase(), &word[1..]);
        assert_eq!(result[&name], info.counts[&state], "{name}");
    }
    assert_eq!(result["Paused"], info.paused);
    assert_eq!(result["Processed"], info.processed_today);
    assert_eq!(result["Failed"], info.failed_today);
    assert_eq!(result["ProcessedTotal"], info.processed);
    assert_eq!(result["FailedTotal"], info.failed);
    assert_eq!(result["Latency"], u64::try_from(info.latency.as_nanos()).unwrap());
}
