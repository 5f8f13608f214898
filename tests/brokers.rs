//! The contract suite on both brokers, Redis as one server and as a cluster; each test has its own empty store.

use std::any::Any;
use std::sync::Arc;

use jiff::Timestamp;
use runner_core::clock::ManualClock;
use runner_queue::contract::{self, Fresh, START};
use runner_queue::embedded::EmbeddedBroker;
use runner_queue::redis::{RedisBroker, RedisSettings, RedisTarget};

use crate::kit;

/// One test for each clause and broker.
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
    let cluster = contract::all().into_iter().map(|clause| {
        let name = format!("brokers::cluster::{}", clause.name);
        kit::trial(name, &[kit::Need::Cluster], move || async move {
            (clause.keep)(fresh_cluster().await).await;
        })
    });
    embedded.chain(redis).chain(cluster).collect()
}

async fn fresh_redis() -> Fresh {
    let db = kit::redis().fresh_db();
    let settings = RedisSettings {
        database: i64::from(db.number),
        ..RedisSettings::at(format!("127.0.0.1:{}", db.port))
    };
    fresh(settings, Box::new(db)).await
}

async fn fresh_cluster() -> Fresh {
    let turn = kit::cluster().await;
    fresh(
        RedisSettings::of(RedisTarget::Cluster(turn.addresses())),
        Box::new(turn),
    )
    .await
}

async fn fresh(settings: RedisSettings, held: Box<dyn Any + Send>) -> Fresh {
    let clock = clock();
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
        held,
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
