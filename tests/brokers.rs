//! The contract suite against both brokers, each test over an empty store of its own.

use std::sync::Arc;

use jiff::Timestamp;
use runner_core::clock::ManualClock;
use runner_queue::contract::{self, Fresh, START};
use runner_queue::embedded::EmbeddedBroker;
use runner_queue::redis::{RedisBroker, RedisSettings};

use crate::kit;

/// The tests of this module: each clause for each broker.
pub fn tests() -> Vec<kit::Trial> {
    let embedded = contract::all().into_iter().map(|clause| {
        let name = format!("brokers::embedded::{}", clause.name);
        kit::trial(name, &[], move || async move {
            (clause.keep)(fresh_embedded().await).await;
        })
    });
    let redis = contract::all().into_iter().map(|clause| {
        let name = format!("brokers::redis::{}", clause.name);
        kit::trial(name, &[kit::Need::Redis], move || async move {
            (clause.keep)(fresh_redis().await).await;
        })
    });
    embedded.chain(redis).collect()
}

async fn fresh_redis() -> Fresh {
    let db = kit::redis().fresh_db();
    let clock = clock();
    let settings = RedisSettings {
        database: i64::from(db.number),
        ..RedisSettings::at(format!("127.0.0.1:{}", db.port))
    };
    let broker = RedisBroker::connect(settings).await.unwrap();
    let broker = Arc::new(broker.with_clock(clock.clone()));
    let audited = Arc::clone(&broker);
    Fresh {
        broker,
        clock,
        audit: Box::new(move || {
            let broker = Arc::clone(&audited);
            Box::pin(async move { broker.audit().await })
        }),
        real_time_ttl: true,
        held: Box::new(db),
    }
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_second(START).unwrap()))
}

async fn fresh_embedded() -> Fresh {
    let directory = tempfile::tempdir().unwrap();
    let clock = clock();
    let path = directory.path().join("data/runner.db");
    let broker = EmbeddedBroker::open(path, clock.clone()).await.unwrap();
    let broker = Arc::new(broker);
    let audited = Arc::clone(&broker);
    Fresh {
        broker,
        clock,
        audit: Box::new(move || {
            let broker = Arc::clone(&audited);
            Box::pin(async move { broker.audit().await })
        }),
        real_time_ttl: false,
        held: Box::new(directory),
    }
}
