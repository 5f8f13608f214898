//! Scenarios of producers: enqueueing, locks, scheduling, groups.

use std::time::Duration;

use runner_core::task::{Run, TaskId};
use runner_queue::{
    Action, ActionError, Actions as _, Claims as _, GroupRule, Groups as _, InspectQueues as _, InspectTasks as _,
    Producer as _, Refusal, StagedSet, Upkeep as _, Verdict,
};
use serde_json::Value;

use super::replay::{ID1, ID2, ID3, LEASE, Replay, default_queue, email, id, task_key};
use super::store::{Bytes, Content, Store, ask};
use crate::kit;

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(Redis): enqueue, enqueue_unique, batch_enqueue, schedule, schedule_with_group, forward_250,
            group, group_retry;
    ]
}

fn later(task: runner_core::task::Task, millis: u64) -> runner_core::task::Task {
    task.run(Run::In(Duration::from_millis(millis)))
}

async fn enqueue() {
    let mut replay = Replay::open("enqueue").await;
    replay.step("enqueue id1");
    replay.enqueue(email(ID1)).await.unwrap();
    replay.same().await;
    replay.step("enqueue id1 again");
    assert_eq!(replay.enqueue(email(ID1)).await, Err(Refusal::IdTaken));
    replay.same().await;
    replay.step("enqueue id2");
    replay.enqueue(email(ID2)).await.unwrap();
    replay.same().await;
    replay.step("dequeue from default");
    let claim = replay.claim().await;
    assert_eq!(claim.task().id.as_str(), ID1);
    assert_eq!(claim.lease_until().as_second(), 1_893_553_476);
    replay.same().await;
    replay.step("dequeue from empty,default");
    let queues = ["empty".parse().unwrap(), default_queue()];
    let claims = replay.broker.claim(&queues, 5, LEASE).await.unwrap();
    assert_eq!(claims.len(), 1);
    assert_eq!(claims[0].task().id.as_str(), ID2);
    replay.same().await;
    replay.step("dequeue with nothing left");
    assert!(replay.broker.claim(&queues, 5, LEASE).await.unwrap().is_empty());
    replay.same().await;
}

async fn enqueue_unique() {
    let mut replay = Replay::open("enqueue_unique").await;
    let lasting = Duration::from_millis(5_400_900);
    replay.step("enqueue unique id1");
    replay.enqueue(email(ID1).unique(lasting)).await.unwrap();
    replay.same().await;
    replay.step("enqueue unique id2");
    let second = replay.enqueue(email(ID2).unique(lasting)).await;
    assert_eq!(second, Err(Refusal::Duplicate));
    replay.same().await;
    replay.step("enqueue unique with another payload");
    let other = email(ID1).payload("other").unique(lasting);
    assert_eq!(replay.enqueue(other).await, Err(Refusal::IdTaken));
    // asynq leaves the lock of a refused task until it expires, and refuses equal tasks until then.
    let without_lock = |store: &mut Store| {
        let locks: Vec<String> = store
            .0
            .keys()
            .filter(|key| key.contains("}:unique:"))
            .cloned()
            .collect();
        let left = locks
            .iter()
            .filter(|key| !key.ends_with("1181f89307fa271072c095747d5813cc"));
        assert!(left.map(|key| store.0.remove(key)).count() <= 1);
    };
    replay.same_but(without_lock).await;
    replay.step("dequeue");
    let claim = replay.claim().await;
    replay.same_but(without_lock).await;
    replay.step("done (unique)");
    replay.settle(&claim, Verdict::Done).await;
    replay.same_but(without_lock).await;
}

async fn batch_enqueue() {
    let mut replay = Replay::open("batch_enqueue").await;
    replay.step("id1 exists; batch");
    replay.enqueue(email(ID1)).await.unwrap();
    let batch = [email(ID1), email(ID2), later(email(ID3), 3_600_000)];
    let results = replay.broker.enqueue(&batch).await.unwrap();
    assert_eq!(results[0], Err(Refusal::IdTaken));
    assert!(results[1].is_ok() && results[2].is_ok());
    replay.same().await;
}

async fn schedule() {
    let mut replay = Replay::open("schedule").await;
    replay.step("schedule id1 at +10.7s");
    replay.enqueue(later(email(ID1), 10_700)).await.unwrap();
    replay.same().await;
    replay.step("schedule id1 again");
    assert_eq!(replay.enqueue(later(email(ID1), 10_700)).await, Err(Refusal::IdTaken));
    replay.same().await;
    replay.step("schedule unique id2 at +20s");
    let unique = email(ID2).payload("two").unique(Duration::from_secs(60));
    replay.enqueue(later(unique, 20_000)).await.unwrap();
    replay.same().await;
    for (step, moved) in [("forward now", 0), ("forward at +11s", 1), ("forward at +20s", 1)] {
        replay.step(step);
        let pass = replay.broker.forward(&[default_queue()], 1000).await.unwrap();
        assert_eq!((pass.moved, pass.more), (moved, false), "{step}");
        replay.same().await;
    }
}

async fn schedule_with_group() {
    let mut replay = Replay::open("schedule_with_group").await;
    replay.step("schedule id1");
    replay.enqueue(later(email(ID1), 5_000).group("g1")).await.unwrap();
    replay.same().await;
    replay.step("forward");
    replay.broker.forward(&[default_queue()], 1000).await.unwrap();
    replay.same().await;
}

async fn forward_250() {
    let mut replay = Replay::open("forward_250").await;
    let due = replay.clock.clone();
    let tasks: Vec<_> = (0..250)
        .map(|n| {
            let at = runner_core::clock::Clock::now(&*due);
            email(&format!("id-{n:03}")).run(Run::At(at))
        })
        .collect();
    // The vector begins when they are due; they were scheduled before.
    let before = runner_core::clock::Clock::now(&*due) - Duration::from_secs(5);
    replay.clock.set(before);
    replay.broker.enqueue(&tasks).await.unwrap();
    let result = replay.step("one forward call moves all 250")["result"].clone();
    let first = replay.broker.forward(&[default_queue()], 100).await.unwrap();
    assert_eq!((first.moved, first.more), (100, true));
    let rest = replay.broker.forward(&[default_queue()], 1000).await.unwrap();
    assert_eq!((rest.moved, rest.more, rest.next_due), (150, false, None));
    let pending: Vec<String> = ask(&mut replay.link, &["LRANGE", "asynq:{default}:pending", "0", "-1"]).await;
    assert_eq!(result["pending_len"], pending.len());
    assert_eq!(result["leftmost"], pending[0]);
    assert_eq!(result["rightmost"], pending[249]);
}

/// A check of the group `g1` as in the scenario.
async fn check(replay: &Replay, max_size: usize) -> Option<StagedSet> {
    let rule = GroupRule {
        grace: Duration::from_secs(60),
        max_delay: None,
        max_size: Some(max_size),
    };
    replay.broker.stage(&default_queue(), "g1", &rule).await.unwrap()
}

/// The expected content, with our id of the staged set instead of the vector's.
fn our_set(set: &StagedSet, theirs: &Value, store: &mut Store) {
    let key = |id: &str| format!("asynq:{{default}}:g:g1:{id}");
    let (theirs, ours) = (key(theirs.as_str().unwrap()), key(&set.id));
    let entry = store.0.remove(&theirs).expect("the staged set");
    store.0.insert(ours.clone(), entry);
    let sets = store.0.get_mut("asynq:{default}:aggregation_sets").unwrap();
    sets.content = Content::Sorted(vec![(Bytes::from(ours.as_str()), "1893553569".to_owned())]);
}

async fn group() {
    let mut replay = Replay::open("group").await;
    let grouped = |id| email(id).group("g1");
    replay.step("add id1 to g1");
    replay.enqueue(grouped(ID1)).await.unwrap();
    replay.same().await;
    replay.step("add id1 again");
    assert_eq!(replay.enqueue(grouped(ID1)).await, Err(Refusal::IdTaken));
    replay.step("add unique id2");
    let unique = |id| grouped(id).payload("two").unique(Duration::from_secs(3600));
    replay.enqueue(unique(ID2)).await.unwrap();
    replay.same().await;
    replay.step("add unique id3");
    assert_eq!(replay.enqueue(unique(ID3)).await, Err(Refusal::Duplicate));
    replay.step("add id3");
    replay.enqueue(grouped(ID3)).await.unwrap();
    let names = replay.step("list groups")["result"].clone();
    let found = replay.broker.group_names(&default_queue(), None).await.unwrap();
    assert_eq!((names, found.next), (serde_json::json!(found.names), None));
    replay.step("aggregation check grace 60s, no max delay, max size 5");
    assert_eq!(check(&replay, 5).await, None);
    let theirs = replay.step("aggregation check grace 60s, no max delay, max size 2")["result"].clone();
    let set = check(&replay, 2).await.expect("ripe");
    replay.same_but(|store| our_set(&set, &theirs, store)).await;
    let result = replay.step("read aggregation set")["result"].clone();
    assert_eq!(result["deadline"]["unix_seconds"], set.deadline.as_second());
    let read = replay.broker.read_staged(&set).await.unwrap();
    let ids: Vec<&str> = read.iter().map(|task| task.id.as_str()).collect();
    let messages = result["messages"].as_array().unwrap();
    let expected: Vec<&str> = messages.iter().map(|m| m["id"].as_str().unwrap()).collect();
    assert_eq!(ids, expected);
    for (step, action) in [("run task id1", Action::Run), ("delete task id1", Action::Delete)] {
        replay.step(step);
        let refused = replay.broker.act(&default_queue(), &id(ID1), action).await;
        assert!(
            matches!(refused, Err(ActionError::WrongState { .. })),
            "{step}: {refused:?}"
        );
    }
    replay.step("queue info");
    let info = replay.broker.queues().await.unwrap();
    assert_eq!(info[0].size(), 1);
    replay.step("delete aggregation set");
    assert_eq!(replay.broker.drop_staged(&set).await.unwrap(), 2);
    replay.same().await;
}

async fn group_retry() {
    let mut replay = Replay::open("group_retry").await;
    replay.set_up("(set-up) id1 in g1").await;
    replay.step("run task id1");
    replay
        .broker
        .act(&default_queue(), &id(ID1), Action::Run)
        .await
        .unwrap();
    // Ours also sets `pending_since`, so that the queue's latency is not shown as zero.
    replay
        .same_but(|store| {
            let since = Bytes::from("1893553445678901234");
            store.hash(&task_key(ID1)).insert(Bytes::from("pending_since"), since);
        })
        .await;
    replay.step("dequeue");
    let claim = replay.claim().await;
    replay.same().await;
    replay.step("retry in 15s");
    // asynq truncates the end of the wait to whole seconds, ours rounds it up: the same instant, on a whole second.
    let verdict = Verdict::Retry {
        after: Duration::from_secs(15) - Duration::from_nanos(678_901_234),
        error: "boom".to_owned(),
        counts: true,
    };
    replay.settle(&claim, verdict).await;
    replay.step("forward");
    replay.broker.forward(&[default_queue()], 1000).await.unwrap();
    // asynq leaves the group unnamed, so it is not aggregated until another task joins.
    replay
        .same_but(|store| store.add_set("asynq:{default}:groups", &["g1"]))
        .await;
    assert_eq!(replay.broker.find(&TaskId::new(ID1).unwrap()).await.unwrap().len(), 1);
}
