//! Scenarios of the inspector on whole lists and queues.

use runner_core::task::TaskState;
use runner_queue::{Acted, Action, Actions as _, InspectQueues as _, RemoveError};

use super::replay::{ID1, Replay, default_queue, email, task_key};
use super::store::{Bytes, Content, Entry, Store, ask};
use crate::kit;

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(Redis): inspector_run_all, inspector_delete_all, inspector_remove_queue;
    ]
}

/// The instant of these scenarios, as a task stores its `pending_since`.
const NOW: &str = "1893553445678901234";

fn entry(content: Content) -> Entry {
    Entry {
        content,
        ends_at: None,
        ends_in: None,
    }
}

async fn act_all(replay: &Replay, state: TaskState, action: Action) -> Acted {
    let acted = replay.broker.act_all(&default_queue(), state, action).await.unwrap();
    assert!(!acted.more, "{state}");
    acted
}

async fn act_group(replay: &Replay, group: &str, action: Action) -> Acted {
    let acted = replay.broker.act_group(&default_queue(), group, action).await.unwrap();
    assert!(!acted.more, "{group}");
    acted
}

/// The state before the two scheduled tasks were run: the vector has only the state afterwards.
fn before_they_ran(store: &mut Store) {
    let scheduled = ["t-scheduled2", "t-scheduled"];
    for task in scheduled {
        let state = (Bytes::from("state"), Bytes::from("scheduled"));
        store.hash(&task_key(task)).extend([state]);
    }
    let rows = scheduled.iter().zip(["1893555245", "1893557045"]);
    let rows = rows.map(|(task, score)| (Bytes::from(*task), score.to_owned()));
    let pending = entry(Content::List(vec![Bytes::from("t-pending")]));
    store.0.insert("asynq:{default}:pending".to_owned(), pending);
    let set = entry(Content::Sorted(rows.collect()));
    store.0.insert("asynq:{default}:scheduled".to_owned(), set);
}

async fn inspector_run_all() {
    let mut replay = Replay::open("inspector_run_all").await;
    replay.step("(set-up) one task in every state and t-scheduled2");
    let mut run: Vec<&str> = Vec::new();
    for (step, state, tasks) in [
        (
            "run all scheduled",
            TaskState::Scheduled,
            &["t-scheduled", "t-scheduled2"][..],
        ),
        ("run all retry", TaskState::Retry, &["t-retry"]),
        ("run all archived", TaskState::Archived, &["t-archived"]),
        ("run all aggregating g1", TaskState::Aggregating, &["t-aggregating"]),
    ] {
        let result = replay.step(step)["result"].clone();
        if state == TaskState::Scheduled {
            let mut before = replay.expected();
            before_they_ran(&mut before);
            before.write(&mut replay.link).await;
        }
        let acted = match state {
            TaskState::Aggregating => act_group(&replay, "g1", Action::Run).await,
            _ => act_all(&replay, state, Action::Run).await,
        };
        assert_eq!(result, acted.tasks, "{step}");
        run.extend(tasks);
        // Ours sets `pending_since` of a task that is run; asynq leaves the old value.
        replay
            .same_but(|store| {
                for task in &run {
                    let since = (Bytes::from("pending_since"), Bytes::from(NOW));
                    store.hash(&task_key(task)).extend([since]);
                }
            })
            .await;
    }
    let result = replay.step("run all aggregating of an unknown group")["result"].clone();
    assert_eq!(result, act_group(&replay, "unknown", Action::Run).await.tasks);
}

async fn inspector_delete_all() {
    let mut replay = Replay::open("inspector_delete_all").await;
    replay.set_up("(set-up) one task in every state").await;
    // asynq keeps the locks of pending and of grouped tasks until they expire, and refuses equal tasks until then. Ours releases
    // the lock of every deleted task.
    let mut released = Vec::new();
    for (step, state, holder) in [
        ("delete all pending", TaskState::Pending, Some("t-pending")),
        ("delete all scheduled", TaskState::Scheduled, None),
        ("delete all retry", TaskState::Retry, None),
        ("delete all archived", TaskState::Archived, None),
        ("delete all completed", TaskState::Completed, None),
        ("delete all aggregating g1", TaskState::Aggregating, Some("u-group")),
    ] {
        let result = replay.step(step)["result"].clone();
        let acted = match state {
            TaskState::Aggregating => act_group(&replay, "g1", Action::Delete).await,
            _ => act_all(&replay, state, Action::Delete).await,
        };
        assert_eq!(result, acted.tasks, "{step}");
        released.extend(holder.map(|task| Content::Text(Bytes::from(task))));
        replay
            .same_but(|store| {
                let before = store.0.len();
                store
                    .0
                    .retain(|key, entry| !key.contains(":unique:") || !released.contains(&entry.content));
                assert_eq!(before - store.0.len(), released.len(), "the locks that asynq leaves");
            })
            .await;
    }
}

/// What a Go worker does when `t-active` is done.
async fn done_elsewhere(replay: &mut Replay) {
    for words in [
        &["LREM", "asynq:{default}:active", "0", "t-active"][..],
        &["ZREM", "asynq:{default}:lease", "t-active"],
        &["DEL", "asynq:{default}:t:t-active"],
        &["INCR", "asynq:{default}:processed"],
        &["INCR", "asynq:{default}:processed:2030-01-02"],
    ] {
        let _: i64 = ask(&mut replay.link, words).await;
    }
}

async fn inspector_remove_queue() {
    let mut replay = Replay::open("inspector_remove_queue").await;
    let queue = default_queue();
    replay.set_up("(set-up) one task in every state, paused").await;
    let before = replay.expected();
    // asynq says "not empty" here; ours names the active task first.
    for (step, force) in [
        ("remove queue without force: not empty", false),
        ("remove queue with force while a task is active", true),
    ] {
        replay.step(step);
        let refused = replay.broker.remove_queue(&queue, force).await;
        assert!(
            matches!(refused, Err(RemoveError::Active { tasks: 1, .. })),
            "{refused:?}"
        );
        let after = Store::of_server(&mut replay.link).await;
        assert_eq!(before.differences(&after), Vec::<String>::new(), "{step}");
    }
    replay.step("done t-active");
    done_elsewhere(&mut replay).await;
    replay.step("remove queue with force: what is left behind");
    let removed = replay.broker.remove_queue(&queue, true).await.unwrap();
    assert_eq!((removed.tasks, removed.more), (6, false));
    // asynq leaves completed and grouped tasks, locks, counters and the pause. Ours leaves nothing.
    replay.same_but(|store| store.0.clear()).await;
    let own: Vec<String> = ask(&mut replay.link, &["KEYS", "*"]).await;
    assert!(own.is_empty(), "{own:?}");
    replay.step("remove queue again");
    let again = replay.broker.remove_queue(&queue, true).await;
    assert!(matches!(again, Err(RemoveError::Unknown(_))), "{again:?}");

    replay.step("fresh db with one aggregating task only");
    let mut before = replay.expected();
    before.add_set("asynq:queues", &["default"]);
    before.write(&mut replay.link).await;
    // asynq considers it empty, and the task becomes invisible.
    let refused = replay.broker.remove_queue(&queue, false).await;
    assert!(
        matches!(refused, Err(RemoveError::NotEmpty { tasks: 1, .. })),
        "{refused:?}"
    );
    assert_eq!(replay.broker.remove_queue(&queue, true).await.unwrap().tasks, 1);
    for step in [
        "enqueue by the same client process",
        "another process removes the queue; enqueue again",
    ] {
        replay.step(step);
        replay.enqueue(email(ID1)).await.unwrap();
        replay.step("queues");
        // A Go client lists a queue once and then never again; ours each time.
        assert_eq!(replay.broker.queues().await.unwrap().len(), 1);
        let _: () = ask(&mut replay.link, &["FLUSHDB"]).await;
    }
}
