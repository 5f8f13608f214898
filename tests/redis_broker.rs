//! The Redis broker when Redis misbehaves, another program interferes, or many callers call at once.
//!
//! Not here: what every broker must do (the contract), and the stored data (`golden`).

mod damage;
mod go;
mod leftovers;
mod many_types;
mod produce;
mod semaphores;
mod server;
mod staged;
mod types;
mod unread;
mod wait;

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use runner_core::task::{QueueName, Task, TaskId};
use runner_queue::redis::{RedisBroker, RedisSettings};
use runner_queue::{Claim, Claims as _, Producer as _, Settled, Settlement, Verdict};

use crate::kit::{self, RedisDb};

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    [
        damage::tests(),
        go::tests(),
        leftovers::tests(),
        many_types::tests(),
        produce::tests(),
        semaphores::tests(),
        server::tests(),
        staged::tests(),
        types::tests(),
        unread::tests(),
        wait::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

const LEASE: Duration = Duration::from_secs(30);

fn settings(port: u16, database: u32) -> RedisSettings {
    RedisSettings {
        database: i64::from(database),
        ..RedisSettings::at(format!("127.0.0.1:{port}"))
    }
}

async fn open() -> (RedisBroker, MultiplexedConnection, RedisDb) {
    let db = kit::redis().fresh_db();
    let broker = RedisBroker::connect(settings(db.port, db.number)).await.unwrap();
    let link = db.connect().await;
    (broker, link, db)
}

fn queue() -> QueueName {
    QueueName::default()
}

fn named(id: &str) -> Task {
    Task::new("email:send").id(TaskId::new(id).unwrap())
}

async fn put(broker: &RedisBroker, ids: &[&str]) {
    let tasks: Vec<Task> = ids.iter().map(|id| named(id)).collect();
    for result in broker.enqueue(&tasks).await.unwrap() {
        result.unwrap();
    }
}

async fn claim(broker: &RedisBroker, max: usize) -> Vec<Claim> {
    broker.claim(&[queue()], max, LEASE).await.unwrap()
}

fn ids(claims: &[Claim]) -> Vec<&str> {
    claims.iter().map(|claim| claim.task().id.as_str()).collect()
}

fn ending(claim: &Claim, verdict: Verdict) -> Settlement {
    Settlement {
        claim: claim.clone(),
        verdict,
        result: None,
        attempt: None,
    }
}

async fn end(broker: &RedisBroker, claim: &Claim, verdict: Verdict) -> Settled {
    broker.settle(&[ending(claim, verdict)]).await.unwrap()[0]
}

async fn ask<T: redis::FromRedisValue>(link: &mut MultiplexedConnection, words: &[&str]) -> T {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query_async(link).await.unwrap()
}

async fn state_of(link: &mut MultiplexedConnection, id: &str) -> String {
    ask(link, &["HGET", &format!("asynq:{{default}}:t:{id}"), "state"]).await
}

async fn is_sound(broker: &RedisBroker) {
    assert_eq!(broker.audit().await.unwrap(), Vec::<String>::new());
}
