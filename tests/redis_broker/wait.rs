//! Waiting for work: what ends it, and what does not.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use runner_queue::{Actions as _, Signals as _};
use tokio::time::{Instant, timeout};

use super::{ask, claim, ids, is_sound, open, put, queue};
use crate::kit;

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(Redis): a_push_by_another_program_wakes_a_waiting_worker,
            waiting_neither_takes_nor_moves_anything,
            a_paused_queue_wakes_no_waiter,
            an_abandoned_wait_does_no_harm;
    ]
}

async fn a_push_by_another_program_wakes_a_waiting_worker() {
    let (broker, mut link, _db) = open().await;
    let queues = ["low".parse().unwrap(), queue()];
    let waiting = broker.wait_for_work(&queues, Duration::from_secs(60));
    let pushing = async {
        blocked_clients(&mut link, 2).await;
        put(&broker, &["a"]).await;
    };
    timeout(Duration::from_secs(20), futures_util::future::join(waiting, pushing))
        .await
        .expect("the wait ends with the push");
    // A second wait returns at once: there is something to claim.
    timeout(
        Duration::from_secs(20),
        broker.wait_for_work(&queues, Duration::from_secs(60)),
    )
    .await
    .expect("nothing to wait for");
}

/// Waits until this many connections to the database are blocked.
async fn blocked_clients(link: &mut MultiplexedConnection, wanted: usize) {
    let info: String = ask(link, &["CLIENT", "INFO"]).await;
    let database = info.split(' ').find(|word| word.starts_with("db=")).unwrap().to_owned();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let clients: String = ask(link, &["CLIENT", "LIST"]).await;
        let blocked = |line: &&str| {
            let mut words = line.split(' ');
            words.any(|word| word == database) && line.contains("cmd=blmove") && line.contains("flags=b")
        };
        if clients.lines().filter(blocked).count() >= wanted {
            return;
        }
        assert!(Instant::now() < deadline, "no client blocks: {clients}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn waiting_neither_takes_nor_moves_anything() {
    let (broker, mut link, _db) = open().await;
    let queues = [queue()];
    let waiting = broker.wait_for_work(&queues, Duration::from_secs(60));
    let pushing = async {
        blocked_clients(&mut link, 1).await;
        put(&broker, &["a", "b", "c"]).await;
    };
    futures_util::future::join(waiting, pushing).await;
    assert_eq!(ids(&claim(&broker, 3).await), ["a", "b", "c"]);
    is_sound(&broker).await;
}

async fn a_paused_queue_wakes_no_waiter() {
    let (broker, _link, _db) = open().await;
    put(&broker, &["a"]).await;
    assert!(broker.pause_queue(&queue()).await.unwrap());
    let queues = [queue()];
    let short = Duration::from_millis(300);
    let begun = Instant::now();
    broker.wait_for_work(&queues, short).await;
    assert!(begun.elapsed() >= short, "a paused queue is nothing to wake up for");
    let resuming = async { assert!(broker.resume_queue(&queue()).await.unwrap()) };
    let waiting = broker.wait_for_work(&queues, Duration::from_secs(60));
    timeout(Duration::from_secs(20), futures_util::future::join(waiting, resuming))
        .await
        .expect("the end of a pause is noticed");
    assert_eq!(claim(&broker, 1).await.len(), 1);
}

async fn an_abandoned_wait_does_no_harm() {
    let (broker, mut link, _db) = open().await;
    let queues = [queue()];
    for _ in 0..5 {
        let waiting = broker.wait_for_work(&queues, Duration::from_secs(60));
        let abandoned = timeout(Duration::from_millis(20), waiting).await;
        assert!(abandoned.is_err());
    }
    blocked_clients(&mut link, 1).await;
    put(&broker, &["a", "b"]).await;
    assert_eq!(ids(&claim(&broker, 5).await), ["a", "b"]);
    is_sound(&broker).await;
}
