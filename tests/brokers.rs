//! The contract suite on both brokers, Redis as one server and as a cluster; each test has its own empty store.

use std::any::Any;
use std::sync::Arc;

use jiff::Timestamp;
use runner_core::clock::ManualClock;
use runner_queue::contract::{self, Beside, Fresh, START};
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
    fresh(settings, beside(vec![db.url()]), Box::new(db)).await
}

async fn fresh_cluster() -> Fresh {
    let turn = kit::cluster().await;
    let settings = RedisSettings::of(RedisTarget::Cluster(turn.addresses()));
    let nodes = turn.addresses().into_iter().map(|node| format!("redis://{node}/"));
    fresh(settings, beside(nodes.collect()), Box::new(turn)).await
}

/// Asks the first of these servers that has the key.
fn beside(servers: Vec<String>) -> Beside {
    Box::new(move |words| {
        let servers = servers.clone();
        Box::pin(async move {
            for server in servers {
                let mut link = kit::link_to(&server).await.unwrap();
                let mut command = redis::cmd(&words[0]);
                let answer = command.arg(&words[1..]).query_async(&mut link).await;
                match answer {
                    Ok(redis::Value::Array(_)) => return redis::from_redis_value(answer.unwrap()).unwrap(),
                    Ok(_) => return Vec::new(),
                    Err(error) => assert_eq!(error.kind(), redis::ServerErrorKind::Moved.into(), "{error}"),
                }
            }
            panic!("no server has the key of {words:?}")
        })
    })
}

async fn fresh(settings: RedisSettings, beside: Beside, held: Box<dyn Any + Send>) -> Fresh {
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
        beside: Some(beside),
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
        beside: None,
        held: Box::new(directory),
    }
}
