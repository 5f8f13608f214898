//! Faults, one test for each: what is broken on purpose, and the guarantees that must hold nevertheless.
//!
//! Each prints one line `FT id=… result=…` with its figures. The short forms run with the other tests, the long ones
//! with `RUNNER_LONG=1`.

mod acks;
mod damage;
mod frozen;
mod full;
mod handlers;
mod outages;
mod poison;
mod rows;
mod spoiled;

use std::time::Duration;

use runner_core::task::{QueueName, Task, TaskId};
use runner_queue::redis::{RedisBroker, RedisSettings};
use runner_queue::{InspectQueues as _, Producer as _};

use crate::kit::{self, RedisDb, eventually_within};

pub use handlers::program;

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    [
        acks::tests(),
        damage::tests(),
        frozen::tests(),
        full::tests(),
        outages::tests(),
        poison::tests(),
        rows::tests(),
        spoiled::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn queue() -> QueueName {
    QueueName::default()
}

fn id(name: &str) -> TaskId {
    TaskId::new(name).unwrap()
}

fn broker(db: &RedisDb) -> RedisBroker {
    let settings = RedisSettings {
        database: i64::from(db.number),
        ..RedisSettings::at(format!("127.0.0.1:{}", db.port))
    };
    RedisBroker::lazy(&settings).unwrap()
}

async fn put(broker: &RedisBroker, tasks: Vec<Task>) {
    for some in tasks.chunks(500) {
        for answer in broker.enqueue(some).await.unwrap() {
            answer.unwrap();
        }
    }
}

/// Waits until no task of the queue is pending, active, scheduled or waiting for a retry.
async fn drained(broker: &RedisBroker, within: Duration) {
    use runner_core::task::TaskState;
    eventually_within(within, "the queue is drained", async || {
        let queues = broker.queues().await.map_err(|error| error.to_string())?;
        let found = queues.into_iter().find(|q| q.name == queue());
        let counts = found.map(|q| q.counts).unwrap_or_default();
        let open = [
            TaskState::Pending,
            TaskState::Active,
            TaskState::Scheduled,
            TaskState::Retry,
        ];
        let left: u64 = open.iter().filter_map(|state| counts.get(state)).sum();
        if left == 0 { Ok(()) } else { Err(format!("{counts:?}")) }
    })
    .await;
}

/// The inconsistencies in the store.
async fn contradictions(broker: &RedisBroker) -> Vec<String> {
    broker.audit().await.unwrap()
}
