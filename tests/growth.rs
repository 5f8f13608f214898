//! The cost of a large store: the rate of a drain beside many other tasks, and everything falling due or dying at once.
//!
//! Not a measurement of the machine (that is `runner bench`): rates are compared with those of an empty store.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use runner_core::clock::ManualClock;
use runner_core::task::{QueueName, Run, Task};
use runner_queue::redis::{RedisBroker, RedisSettings};
use runner_queue::{Claim, Claims as _, Producer as _, Settlement, Upkeep as _, Verdict};
use tokio::time::Instant;

use crate::kit::{self, Fault, Need, RedisServer};

/// The long form takes about two minutes.
const LIMIT: Duration = Duration::from_secs(900);

const LEASE: Duration = Duration::from_secs(30);

/// Tasks per call, as for a worker with that many slots.
const CALL: usize = 64;

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    let name = "growth::a_large_store_is_drained_like_a_small_one";
    vec![kit::trial_within(
        LIMIT,
        name,
        &[Need::Redis],
        a_large_store_is_drained_like_a_small_one,
    )]
}

/// Number of drains, of which the median counts.
const ROUNDS: usize = 5;

struct Sizes {
    pending: usize,
    later: usize,
    leased: usize,
    timed: usize,
}

async fn a_large_store_is_drained_like_a_small_one() {
    let sizes = if kit::long() {
        Sizes {
            pending: 1_000_000,
            later: 100_000,
            leased: 100_000,
            timed: 100_000,
        }
    } else {
        Sizes {
            pending: 30_000,
            later: 10_000,
            leased: 10_000,
            timed: 10_000,
        }
    };
    let server = RedisServer::start(&["--slowlog-log-slower-than", "10000", "--slowlog-max-len", "10000"]);
    let db = server.fresh_db();
    let settings = RedisSettings {
        database: i64::from(db.number),
        ..RedisSettings::at(format!("127.0.0.1:{}", db.port))
    };
    let clock = Arc::new(ManualClock::at(Timestamp::from_second(1_893_553_445).unwrap()));
    let broker = RedisBroker::connect(settings).await.unwrap().with_clock(clock.clone());
    let mut fault = Fault::new("GROWTH");

    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        put(&broker, sizes.timed, &Task::new("grow")).await;
        rates.push(drain(&broker, sizes.timed).await);
    }
    let alone = median(rates);
    let later = Task::new("grow").run(Run::In(Duration::from_secs(3600)));
    put(&broker, sizes.later, &later).await;
    put(&broker, sizes.pending + ROUNDS * sizes.timed, &Task::new("grow")).await;
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        rates.push(drain(&broker, sizes.timed).await);
    }
    let beside = median(rates);
    fault.figure("alone", alone.round()).figure("beside", beside.round());
    // In the short form a busy machine may distort any rate.
    fault.require(
        "ratio",
        format!("{:.2}", beside / alone),
        !kit::long() || beside / alone > 0.9,
    );

    clock.advance(Duration::from_secs(7200));
    let (due, took) = forward(&broker).await;
    fault
        .require("due", due, due == sizes.later)
        .figure("due_ms", took.as_millis());

    let held = claim(&broker, sizes.leased).await;
    clock.advance(LEASE + Duration::from_secs(60));
    let (recovered, took) = recover(&broker).await;
    fault
        .require("recovered", recovered, recovered == held)
        .figure("recovered_ms", took.as_millis());

    let slow: u64 = redis::cmd("SLOWLOG")
        .arg("LEN")
        .query_async(&mut db.connect().await)
        .await
        .unwrap();
    fault.require("scripts_over_10_ms", slow, !kit::long() || slow == 0);
    fault.end(String::new);
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn queues() -> [QueueName; 1] {
    [QueueName::default()]
}

async fn put(broker: &RedisBroker, count: usize, like: &Task) {
    for from in (0..count).step_by(2048) {
        let tasks = vec![like.clone(); 2048.min(count - from)];
        for answer in broker.enqueue(&tasks).await.unwrap() {
            answer.unwrap();
        }
    }
}

/// Tasks a second, each claimed and settled.
async fn drain(broker: &RedisBroker, count: usize) -> f64 {
    let (began, mut claimed) = (Instant::now(), 0);
    let mut ends: Vec<Settlement> = Vec::new();
    while claimed < count || !ends.is_empty() {
        let wanted = CALL.min(count - claimed);
        let back = broker.exchange(&ends, &queues(), wanted, LEASE).await.unwrap();
        back.settled.unwrap();
        let claims = back.claims.unwrap();
        assert_eq!(claims.len(), wanted, "the queue ran dry");
        claimed += claims.len();
        ends = claims.into_iter().map(done).collect();
    }
    count as f64 / began.elapsed().as_secs_f64()
}

fn done(claim: Claim) -> Settlement {
    Settlement {
        claim,
        verdict: Verdict::Done,
        result: None,
        attempt: None,
    }
}

async fn claim(broker: &RedisBroker, count: usize) -> usize {
    let mut held = 0;
    while held < count {
        let claims = broker.claim(&queues(), 256.min(count - held), LEASE).await.unwrap();
        assert!(!claims.is_empty(), "the queue ran dry");
        held += claims.len();
    }
    held
}

async fn forward(broker: &RedisBroker) -> (usize, Duration) {
    let (began, mut moved) = (Instant::now(), 0);
    loop {
        let pass = broker.forward(&queues(), 500).await.unwrap();
        moved += pass.moved;
        if !pass.more {
            return (moved, began.elapsed());
        }
    }
}

async fn recover(broker: &RedisBroker) -> (usize, Duration) {
    let (began, mut recovered) = (Instant::now(), 0);
    loop {
        let pass = broker.recover(&queues(), Duration::from_secs(5), 100, 0).await.unwrap();
        if pass.is_empty() {
            return (recovered, began.elapsed());
        }
        recovered += pass.len();
    }
}
