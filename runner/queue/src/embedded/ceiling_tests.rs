//! Measurements of the bare store write tasks like the broker's own and leave nothing behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use runner_core::clock::Clock as _;
use runner_core::task::Task;

use super::rows::micros;
use super::tests::{clock, open_with, sound};
use super::*;
use crate::{Ceiling as _, InspectQueues as _};

const DEADLINE: Duration = Duration::from_secs(20);

/// Tasks of one measurement, one transaction each: more than can be synced within any deadline of these tests.
const ENDLESS: usize = 10_000_000;

async fn ids(broker: &EmbeddedBroker) -> Vec<String> {
    let query = |conn: &Connection| conn.values("SELECT id FROM tasks ORDER BY seq", []);
    broker.readers.query("list ids", query).await.unwrap()
}

#[tokio::test]
async fn its_tasks_are_like_those_of_the_broker() {
    let directory = tempfile::tempdir().unwrap();
    let clock = clock();
    let broker = open_with(&directory, clock.clone()).await;
    let bare = broker.ceiling(&Task::new("a")).await.unwrap();
    for _ in 0..2 {
        bare.enqueue(300, 128).await.unwrap();
        clock.advance(Duration::from_millis(1));
    }
    let ids = ids(&broker).await;
    assert_eq!(ids.len(), 600);
    assert!(ids.is_sorted_by(|a, b| a < b), "they come in the order of their ids");
    sound(&broker).await;
    bare.drain(600, 128).await.unwrap();
    assert_eq!(broker.queues().await.unwrap()[0].processed, 600);
    sound(&broker).await;
}

#[tokio::test]
async fn a_drain_ends_when_tasks_are_missing() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open_with(&directory, clock()).await;
    let bare = broker.ceiling(&Task::new("a")).await.unwrap();
    bare.enqueue(10, 10).await.unwrap();
    let drain = tokio::time::timeout(DEADLINE, bare.drain(20, 4)).await;
    assert!(drain.expect("it ends").is_err());
    sound(&broker).await;
}

#[tokio::test]
async fn leases_of_an_aborted_measurement_are_short() {
    let directory = tempfile::tempdir().unwrap();
    let clock = clock();
    let broker = open_with(&directory, clock.clone()).await;
    let mut file = ceiling::File::open(broker.path(), Task::new("a"), clock.clone()).unwrap();
    file.transact(|file, tx| {
        file.put(tx, 3)?;
        file.claim(tx, 2)
    })
    .unwrap();
    let query = |conn: &Connection| conn.value::<i64>("SELECT max(at) FROM tasks WHERE state = 'active'", []);
    let end = broker.readers.query("look at the lease", query).await.unwrap();
    assert!(end > micros(clock.now()));
    clock.advance(Duration::from_secs(60));
    assert!(end < micros(clock.now()));
    sound(&broker).await;
}

#[tokio::test]
async fn it_stops_when_the_caller_gives_up() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open_with(&directory, clock()).await;
    let bare = broker.ceiling(&Task::new("a")).await.unwrap();
    let endless = tokio::time::timeout(Duration::from_millis(20), bare.enqueue_singly(ENDLESS));
    assert!(endless.await.is_err());
    // The next measurement has to wait for this one's thread.
    let next = tokio::time::timeout(DEADLINE, bare.enqueue(1, 1)).await;
    next.expect("the first one ends").unwrap();
    assert!(ids(&broker).await.len() < ENDLESS);
    sound(&broker).await;
}
