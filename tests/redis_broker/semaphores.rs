//! Semaphores of asynq's package `x/rate` beyond one queue, and with what others write into them.
//!
//! Not here: what every broker must do (the contract).

use redis::aio::MultiplexedConnection;
use runner_core::limit::{LimitRule, Limits, SharedSemaphore, TaskLimit};
use runner_core::task::{QueueName, Task, TaskId};
use runner_queue::redis::{Password, RedisBroker};
use runner_queue::{Claims as _, InspectQueues as _, InspectTasks as _, Producer as _, Upkeep as _, Verdict};

use super::{LEASE, ask, claim, end, ids, is_sound, open, queue, settings, state_of};
use crate::kit::{self, RedisServer, eventually_within};

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(Redis): a_semaphore_counts_in_all_queues,
            a_task_that_go_took_over_takes_a_place_again,
            a_semaphore_that_cannot_be_read_lets_none_start,
            something_else_in_the_place_of_a_semaphore_is_moved_away;
    ]
}

const KEY: &str = "asynq:sema:api";

fn semaphore(most: u32) -> Limits {
    let mut limits = Limits::default();
    let api = SharedSemaphore::new("api", most).unwrap();
    limits.add("email:send", TaskLimit::new(LimitRule::Semaphore(api)));
    limits
}

async fn put(broker: &RedisBroker, at: &QueueName, names: &[&str]) {
    let task = |name: &&str| {
        Task::new("email:send")
            .id(TaskId::new(*name).unwrap())
            .queue(at.clone())
    };
    let tasks: Vec<Task> = names.iter().map(task).collect();
    for answer in broker.enqueue(&tasks).await.unwrap() {
        answer.unwrap();
    }
}

async fn members(link: &mut MultiplexedConnection) -> Vec<String> {
    ask(link, &["ZRANGE", KEY, "0", "-1"]).await
}

async fn a_semaphore_counts_in_all_queues() {
    let (broker, mut link, _db) = open().await;
    broker.claims_limits(&semaphore(2));
    let low: QueueName = "low".parse().unwrap();
    put(&broker, &queue(), &["a", "b"]).await;
    put(&broker, &low, &["c", "d"]).await;
    let queues = [queue(), low.clone()];
    let claims = broker.claim(&queues, 9, LEASE).await.unwrap();
    assert_eq!(ids(&claims), ["a", "b"]);
    assert_eq!(members(&mut link).await, ["a", "b"]);
    for at in &queues {
        let used = broker.limits_in_use(at).await.unwrap();
        let expected = if *at == low { 2 } else { 0 };
        assert!(
            used.iter().all(|limit| (limit.running, limit.waiting) == (2, expected)),
            "{used:?}"
        );
    }
    // The other queue learns of an end by its next look.
    assert_eq!(
        end(&broker, &claims[0], Verdict::Done).await,
        runner_queue::Settled::Accepted
    );
    eventually_within(std::time::Duration::from_secs(20), "the place is taken", async || {
        broker.forward(&queues, 99).await.unwrap();
        let next = broker.claim(&queues, 9, LEASE).await.unwrap();
        if ids(&next) == ["c"] {
            Ok(())
        } else {
            Err(format!("{next:?}"))
        }
    })
    .await;
    assert_eq!(members(&mut link).await, ["b", "c"]);
    is_sound(&broker).await;
}

async fn a_task_that_go_took_over_takes_a_place_again() {
    let (broker, mut link, _db) = open().await;
    broker.claims_limits(&semaphore(1));
    put(&broker, &queue(), &["a"]).await;
    claim(&broker, 9).await;
    // A recoverer in Go makes it pending silently, and its place has run out.
    let _: i64 = ask(&mut link, &["LREM", "asynq:{default}:active", "0", "a"]).await;
    let _: i64 = ask(&mut link, &["ZREM", "asynq:{default}:lease", "a"]).await;
    let _: i64 = ask(&mut link, &["HSET", "asynq:{default}:t:a", "state", "pending"]).await;
    let _: i64 = ask(&mut link, &["LPUSH", "asynq:{default}:pending", "a"]).await;
    let _: i64 = ask(&mut link, &["ZREM", KEY, "a"]).await;
    let _: i64 = ask(&mut link, &["ZADD", KEY, "99999999999", "go"]).await;
    assert!(claim(&broker, 9).await.is_empty(), "the only place is taken");
    let _: i64 = ask(&mut link, &["ZREM", KEY, "go"]).await;
    eventually_within(std::time::Duration::from_secs(20), "it is claimed", async || {
        broker.forward(&[queue()], 99).await.unwrap();
        let next = claim(&broker, 9).await;
        if ids(&next) == ["a"] {
            Ok(())
        } else {
            Err(format!("{next:?}"))
        }
    })
    .await;
    assert_eq!(members(&mut link).await, ["a"]);
    is_sound(&broker).await;
}

async fn a_semaphore_that_cannot_be_read_lets_none_start() {
    let server = RedisServer::start(&[]);
    let db = server.fresh_db();
    let broker = RedisBroker::connect(settings(db.port, db.number)).await.unwrap();
    let mut link = db.connect().await;
    put(&broker, &queue(), &["a", "b"]).await;
    let rights = ["~asynq:{*", "~asynq:queues", "~runner:*", "&*", "+@all"];
    let user = [&["ACL", "SETUSER", "app", "on", ">word"][..], &rights].concat();
    let _: () = ask(&mut link, &user).await;
    let bounded = RedisBroker::connect(runner_queue::redis::RedisSettings {
        username: Some("app".to_owned()),
        password: Some(Password::new("word")),
        ..settings(db.port, db.number)
    })
    .await
    .unwrap();
    bounded.claims_limits(&semaphore(5));
    assert!(claim(&bounded, 9).await.is_empty());
    assert_eq!(state_of(&mut link, "a").await, "scheduled");
    let info = bounded
        .task(&queue(), &TaskId::new("a").unwrap())
        .await
        .unwrap()
        .unwrap();
    let what = "limit semaphore api: it cannot be read here, place 1 of 2";
    assert_eq!(info.waiting_for.as_deref(), Some(what));
    is_sound(&broker).await;
}

async fn something_else_in_the_place_of_a_semaphore_is_moved_away() {
    let (broker, mut link, _db) = open().await;
    broker.claims_limits(&semaphore(1));
    let _: () = ask(&mut link, &["SET", KEY, "x"]).await;
    put(&broker, &queue(), &["a", "b"]).await;
    let claims = claim(&broker, 9).await;
    assert_eq!(ids(&claims), ["a"]);
    assert_eq!(members(&mut link).await, ["a"]);
    let _: () = ask(&mut link, &["SET", KEY, "x"]).await;
    end(&broker, &claims[0], Verdict::Done).await;
    assert_eq!(ids(&claim(&broker, 9).await), ["b"]);
    is_sound(&broker).await;
}
