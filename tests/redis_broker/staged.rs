//! Staged sets that are damaged, left behind by Go, or on a full server.

use std::time::Duration;

use runner_core::task::{Task, TaskState};
use runner_queue::redis::RedisBroker;
use runner_queue::{
    Broker as _, BrokerError, GroupRule, Groups as _, InspectQueues as _, InspectTasks as _, Page, Producer as _,
};

use super::{ask, is_sound, named, open, queue, settings, state_of};
use crate::kit::{self, RedisServer};

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(Redis): staged_tasks_that_cannot_be_read_do_not_hold_up_their_set,
            a_set_left_behind_by_go_returns_to_its_group,
            a_full_server_still_stages_drops_and_reclaims, very_many_groups_are_not_all_looked_at;
    ]
}

/// Ripe as soon as it has a task, with at most this many per set.
fn eager(size: usize) -> GroupRule {
    GroupRule {
        grace: Duration::from_secs(60),
        max_delay: None,
        max_size: Some(size),
    }
}

async fn put_grouped(broker: &RedisBroker, ids: &[&str]) {
    let tasks: Vec<Task> = ids.iter().map(|id| named(id).group("g")).collect();
    for result in broker.enqueue(&tasks).await.unwrap() {
        result.unwrap();
    }
}

async fn staged(broker: &RedisBroker, size: usize) -> (runner_queue::StagedSet, Vec<String>) {
    let set = broker.stage(&queue(), "g", &eager(size)).await.unwrap().expect("ripe");
    let tasks = broker.read_staged(&set).await.unwrap();
    (set, tasks.into_iter().map(|task| task.id.to_string()).collect())
}

async fn staged_tasks_that_cannot_be_read_do_not_hold_up_their_set() {
    let (broker, mut link, _db) = open().await;
    put_grouped(&broker, &["a", "damaged", "b", "ghost", "c"]).await;
    let _: i64 = ask(&mut link, &["HSET", "asynq:{default}:t:damaged", "msg", "\u{ff}"]).await;
    let _: i64 = ask(&mut link, &["DEL", "asynq:{default}:t:ghost"]).await;
    let (set, ids) = staged(&broker, 5).await;
    assert_eq!(ids, ["a", "b", "c"]);
    assert_eq!(state_of(&mut link, "damaged").await, "archived");
    is_sound(&broker).await;
    assert_eq!(broker.drop_staged(&set).await.unwrap(), 3);
    is_sound(&broker).await;
    // A set without any readable task is deleted.
    put_grouped(&broker, &["x"]).await;
    let _: i64 = ask(&mut link, &["HSET", "asynq:{default}:t:x", "msg", "\u{ff}"]).await;
    assert!(staged(&broker, 1).await.1.is_empty());
    is_sound(&broker).await;
}

async fn a_set_left_behind_by_go_returns_to_its_group() {
    let (broker, mut link, _db) = open().await;
    put_grouped(&broker, &["a", "b"]).await;
    // The state after asynq stages a group and dies; the group has no name any more.
    let set = "asynq:{default}:g:g:6b7a1f0e-0000-4000-8000-000000000000";
    let _: () = ask(&mut link, &["RENAME", "asynq:{default}:g:g", set]).await;
    let _: i64 = ask(&mut link, &["SREM", "asynq:{default}:groups", "g"]).await;
    let deadline = (broker.now().await.unwrap().as_second() + 120).to_string();
    let _: i64 = ask(&mut link, &["ZADD", "asynq:{default}:aggregation_sets", &deadline, set]).await;
    // An entry that is not a set of this queue is removed from the list, and not touched otherwise.
    for odd in ["asynq:{low}:g:g:1", "asynq:{default}:pending", ""] {
        let _: i64 = ask(&mut link, &["ZADD", "asynq:{default}:aggregation_sets", "1", odd]).await;
    }
    assert!(
        broker
            .reclaim(&[queue()], Duration::ZERO, 100)
            .await
            .unwrap()
            .is_empty()
    );
    let _: i64 = ask(&mut link, &["ZADD", "asynq:{default}:aggregation_sets", "1", set]).await;
    let back = broker.reclaim(&[queue()], Duration::ZERO, 100).await.unwrap();
    assert_eq!((back[0].group.as_str(), back[0].tasks), ("g", 2));
    is_sound(&broker).await;
    assert_eq!(staged(&broker, 2).await.1, ["a", "b"]);
    is_sound(&broker).await;
}

async fn a_full_server_still_stages_drops_and_reclaims() {
    let server = RedisServer::start(&[]);
    let db = server.fresh_db();
    let broker = RedisBroker::connect(settings(db.port, db.number)).await.unwrap();
    let mut link = db.connect().await;
    put_grouped(&broker, &["a", "b", "c", "d"]).await;
    let _: () = ask(&mut link, &["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    let _: () = ask(&mut link, &["CONFIG", "SET", "maxmemory", "1"]).await;
    let full = broker.enqueue(&[named("f")]).await;
    assert!(matches!(full, Err(BrokerError::Full { .. })), "{full:?}");
    let (set, ids) = staged(&broker, 2).await;
    assert_eq!(ids, ["a", "b"]);
    assert_eq!(broker.drop_staged(&set).await.unwrap(), 2);
    let (set, ids) = staged(&broker, 2).await;
    assert_eq!(ids, ["c", "d"]);
    let sets = "asynq:{default}:aggregation_sets";
    let key = format!("asynq:{{default}}:g:g:{}", set.id);
    let _: () = ask(&mut link, &["CONFIG", "SET", "maxmemory", "0"]).await;
    let _: i64 = ask(&mut link, &["ZADD", sets, "1", &key]).await;
    let _: () = ask(&mut link, &["CONFIG", "SET", "maxmemory", "1"]).await;
    let back = broker.reclaim(&[queue()], Duration::ZERO, 100).await.unwrap();
    assert_eq!(back[0].tasks, 2);
    let _: () = ask(&mut link, &["CONFIG", "SET", "maxmemory", "0"]).await;
    is_sound(&broker).await;
}

async fn very_many_groups_are_not_all_looked_at() {
    let (broker, mut link, _db) = open().await;
    let tasks = (0..3000).map(|n| named(&format!("t{n}")).group(format!("g{n}")));
    let answers = broker.enqueue(&tasks.collect::<Vec<_>>()).await.unwrap();
    assert!(answers.iter().all(Result::is_ok));
    let some = 1000..2000;
    let page = Page { number: 3, size: 100 };
    let groups = broker.groups(&queue(), page).await.unwrap();
    assert!(
        some.contains(&groups.total) && groups.groups.len() == 100,
        "{}",
        groups.total
    );
    let tasks = broker.tasks(&queue(), TaskState::Aggregating, page).await.unwrap();
    assert!(
        some.contains(&tasks.total) && tasks.tasks.len() == 100,
        "{}",
        tasks.total
    );
    // None of them is empty, so each is known to have a task.
    let info = broker.queues().await.unwrap().remove(0);
    assert_eq!(info.counts[&TaskState::Aggregating], 3000);
    // The estimate includes all of them.
    let one: u64 = ask(&mut link, &["MEMORY", "USAGE", "asynq:{default}:t:t7"]).await;
    let all = broker.memory(&queue()).await.unwrap();
    assert!(all > one * 2000, "{all} for 3000 of {one}");
}
