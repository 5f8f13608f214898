//! Values in Redis that should not be there, or that are missing.

use std::time::Duration;

use runner_core::task::{Run, Task, TaskId, TaskState};
use runner_queue::{
    Action, Actions as _, ArchiveBounds, Claims as _, Groups as _, InspectQueues as _, MAX_RESULTS_KEPT,
    MAX_STEP_RESULT, NewWorkflow, Producer as _, Settled, StepEnd, Upkeep as _, Verdict, WorkflowPlan, WorkflowStep,
    Workflows as _,
};

use super::{LEASE, ask, claim, end, ids, is_sound, open, put, queue, state_of};
use crate::kit;

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(Redis): a_ghost_is_dropped_and_its_neighbours_are_claimed,
            a_value_that_is_not_a_task_is_not_touched_and_its_neighbours_are_claimed,
            an_unreadable_task_is_archived_and_its_neighbours_are_claimed,
            an_unreadable_task_does_not_stop_the_recovery_of_others,
            an_active_task_without_a_lease_is_recovered,
            a_key_of_the_wrong_type_is_named_as_corrupt, a_list_of_the_wrong_type_is_moved_out_of_the_way,
            a_lost_group_name_is_restored, notes_of_deleted_tasks_are_all_dropped,
            all_results_of_a_workflow_whose_kept_bytes_are_not_counted_are_kept;
    ]
}

async fn a_ghost_is_dropped_and_its_neighbours_are_claimed() {
    let (broker, mut link, _db) = open().await;
    put(&broker, &["a", "b", "c", "d"]).await;
    let _: i64 = ask(&mut link, &["DEL", "asynq:{default}:t:a", "asynq:{default}:t:c"]).await;
    // The trace that a Go server leaves of a ghost: a hash with only a state.
    let _: i64 = ask(&mut link, &["HSET", "asynq:{default}:t:c", "state", "active"]).await;
    assert_eq!(ids(&claim(&broker, 2).await), ["b", "d"]);
    is_sound(&broker).await;
}

async fn a_value_that_is_not_a_task_is_not_touched_and_its_neighbours_are_claimed() {
    let (broker, mut link, _db) = open().await;
    put(&broker, &["a", "b"]).await;
    let _: i64 = ask(&mut link, &["DEL", "asynq:{default}:t:a"]).await;
    let _: () = ask(&mut link, &["SET", "asynq:{default}:t:a", "not a task"]).await;
    let _: i64 = ask(&mut link, &["ZADD", "asynq:{default}:retry", "1", "a"]).await;
    assert_eq!(ids(&claim(&broker, 2).await), ["b"]);
    put(&broker, &["c"]).await;
    let _: i64 = ask(&mut link, &["LREM", "asynq:{default}:pending", "0", "c"]).await;
    let _: i64 = ask(&mut link, &["ZADD", "asynq:{default}:retry", "1", "c"]).await;
    assert_eq!(broker.forward(&[queue()], 10).await.unwrap().moved, 1);
    assert_eq!(ids(&claim(&broker, 2).await), ["c"]);
    let left: String = ask(&mut link, &["GET", "asynq:{default}:t:a"]).await;
    assert_eq!(left, "not a task");
}

async fn an_unreadable_task_is_archived_and_its_neighbours_are_claimed() {
    let (broker, mut link, _db) = open().await;
    put(&broker, &["a", "b", "c"]).await;
    let _: i64 = ask(&mut link, &["HSET", "asynq:{default}:t:b", "msg", "\u{1}\u{1}junk"]).await;
    assert_eq!(ids(&claim(&broker, 3).await), ["a", "c"]);
    assert_eq!(state_of(&mut link, "b").await, "archived");
    is_sound(&broker).await;
    // An operator can still delete it.
    broker
        .act(&queue(), &TaskId::new("b").unwrap(), Action::Delete)
        .await
        .unwrap();
    is_sound(&broker).await;
}

async fn an_unreadable_task_does_not_stop_the_recovery_of_others() {
    let (broker, mut link, _db) = open().await;
    put(&broker, &["a", "b", "c"]).await;
    let claims = claim(&broker, 3).await;
    for id in ["a", "b"] {
        let _: i64 = ask(&mut link, &["ZADD", "asynq:{default}:lease", "1", id]).await;
    }
    let _: i64 = ask(&mut link, &["HSET", "asynq:{default}:t:a", "msg", "\u{ff}"]).await;
    let mut found = broker.recover(&[queue()], Duration::ZERO, 10, 0).await.unwrap();
    found.sort_by(|x, y| x.id.cmp(&y.id));
    let found: Vec<_> = found
        .iter()
        .map(|r| (r.id.as_str(), r.kind.as_str(), r.state))
        .collect();
    assert_eq!(
        found,
        [("a", "", TaskState::Archived), ("b", "email:send", TaskState::Retry)]
    );
    assert_eq!(end(&broker, &claims[2], Verdict::Done).await, Settled::Accepted);
    is_sound(&broker).await;
}

async fn an_active_task_without_a_lease_is_recovered() {
    let (broker, mut link, _db) = open().await;
    put(&broker, &["a"]).await;
    let claims = claim(&broker, 1).await;
    let _: i64 = ask(&mut link, &["DEL", "asynq:{default}:lease"]).await;
    assert_eq!(
        broker.audit().await.unwrap().len(),
        1,
        "the audit sees that the lease is missing"
    );
    // A claim that still holds keeps its lease.
    assert!(broker.extend(&claims, LEASE).await.unwrap()[0].is_some());
    is_sound(&broker).await;
    // Otherwise it gets a lease that ends now, and is recovered like any other.
    let _: i64 = ask(&mut link, &["DEL", "asynq:{default}:lease"]).await;
    let found = broker.recover(&[queue()], Duration::ZERO, 10, 0).await.unwrap();
    assert_eq!(found.len(), 1);
    is_sound(&broker).await;
}

async fn a_key_of_the_wrong_type_is_named_as_corrupt() {
    let (broker, mut link, _db) = open().await;
    let _: () = ask(&mut link, &["SET", "asynq:queues", "x"]).await;
    let error = broker.queues().await.unwrap_err();
    assert_eq!(error.code(), "broker_corrupt", "{error:?}");
    // The next write repairs it.
    put(&broker, &["a"]).await;
    assert_eq!(broker.queues().await.unwrap().len(), 1);
}

async fn a_list_of_the_wrong_type_is_moved_out_of_the_way() {
    let (broker, mut link, _db) = open().await;
    put(&broker, &["a"]).await;
    let _: i64 = ask(&mut link, &["DEL", "asynq:{default}:pending"]).await;
    let _: i64 = ask(&mut link, &["ZADD", "asynq:{default}:pending", "1", "x"]).await;
    assert_eq!(ids(&claim(&broker, 1).await), Vec::<&str>::new());
    let displaced_key = "runner:displaced:asynq:{default}:pending";
    let displaced: Vec<String> = ask(&mut link, &["ZRANGE", displaced_key, "0", "-1"]).await;
    assert_eq!(displaced, ["x"]);
    let seconds: i64 = ask(&mut link, &["TTL", displaced_key]).await;
    assert!((600_000..=604_800).contains(&seconds), "{seconds}");
    // It is reported once.
    broker.recover(&[queue()], LEASE, 10, 0).await.unwrap();
    let repaired = broker.repair(&[queue()], 1000).await.unwrap();
    assert_eq!((repaired.quarantined, repaired.orphans), (1, 1), "{repaired:?}");
    broker.recover(&[queue()], LEASE, 10, 0).await.unwrap();
    assert_eq!(broker.repair(&[queue()], 1000).await.unwrap().total(), 0);
    assert_eq!(ids(&claim(&broker, 1).await), ["a"]);
}

async fn a_lost_group_name_is_restored() {
    let (broker, mut link, _db) = open().await;
    let tasks: Vec<Task> = ["a", "b"]
        .map(|payload| Task::new("x").payload(payload).group("g"))
        .into();
    assert!(broker.enqueue(&tasks).await.unwrap().iter().all(Result::is_ok));
    put(&broker, &["p"]).await;
    // The state left by Go's servers when they forward a task to its group, or recover one.
    let _: i64 = ask(&mut link, &["SREM", "asynq:{default}:groups", "g"]).await;
    assert_eq!(
        broker.group_names(&queue(), None).await.unwrap().names,
        Vec::<String>::new()
    );
    let repaired = broker.repair(&[queue()], 1000).await.unwrap();
    assert_eq!((repaired.misplaced, repaired.total()), (1, 1), "{repaired:?}");
    assert_eq!(broker.group_names(&queue(), None).await.unwrap().names, ["g"]);
    assert_eq!(broker.repair(&[queue()], 1000).await.unwrap().total(), 0);
    assert_eq!(ids(&claim(&broker, 9).await), ["p"]);
    is_sound(&broker).await;
}

async fn notes_of_deleted_tasks_are_all_dropped() {
    let (broker, mut link, _db) = open().await;
    let later = Task::new("x").id(TaskId::new("later").unwrap());
    let later = later.run(Run::In(Duration::from_secs(3600)));
    broker.enqueue(&[later]).await.unwrap().remove(0).unwrap();
    // More than one call reads; one of them is not stale.
    let notes: Vec<String> = (0..3000)
        .map(|n| format!("gone{n}"))
        .chain(["later".to_owned()])
        .collect();
    for part in notes.chunks(1000) {
        let mut words = vec!["HSET", "runner:{default}:waiting"];
        words.extend(part.iter().flat_map(|id| [id.as_str(), "x"]));
        let _: i64 = ask(&mut link, &words).await;
    }
    for _ in 0..100 {
        broker.sweep(&[queue()], 100, ArchiveBounds::default()).await.unwrap();
    }
    let left: Vec<String> = ask(&mut link, &["HKEYS", "runner:{default}:waiting"]).await;
    assert_eq!(left, ["later"]);
}

/// An earlier version counted none, and did not say which results are handed on.
async fn all_results_of_a_workflow_whose_kept_bytes_are_not_counted_are_kept() {
    let (broker, mut link, _db) = open().await;
    let fitting = u32::try_from(MAX_RESULTS_KEPT).unwrap() / u32::try_from(MAX_STEP_RESULT).unwrap();
    let steps = fitting + 10;
    let result = vec![b'x'; MAX_STEP_RESULT];
    let ends: Vec<_> = (0..steps)
        .map(|number| (number, StepEnd::Done(result.clone().into())))
        .collect();
    for (id, counted) in [("new", true), ("old", false)] {
        let step = WorkflowStep::of(&Task::new("s"), None);
        let new = NewWorkflow {
            id: id.to_owned(),
            plan: WorkflowPlan {
                name: id.to_owned(),
                stages: vec![steps],
                ..WorkflowPlan::default()
            },
            steps: vec![(step, Vec::new().into()); steps as usize],
        };
        assert!(broker.keep_workflow(&new).await.unwrap());
        if !counted {
            let key = format!("runner:{{workflow:{id}}}:workflow");
            let gone: i64 = ask(&mut link, &["HDEL", &key, "kept"]).await;
            assert_eq!(gone, 1);
        }
        for some in ends.chunks(50) {
            broker.end_steps(id, 0, some).await.unwrap();
        }
        assert_eq!(broker.workflow(id).await.unwrap().unwrap().done, steps);
        let found = broker.workflow_steps(id, 0, steps).await.unwrap();
        let left_out = found.iter().filter(|step| step.left_out).count();
        assert_eq!(left_out, if counted { 10 } else { 0 }, "{id}");
    }
}
