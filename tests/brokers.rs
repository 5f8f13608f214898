//! The contract suite against both brokers, each test over an empty store of its own.

use std::sync::Arc;

use jiff::Timestamp;
use runner_core::clock::ManualClock;
use runner_queue::contract::{self, Fresh, START};
use runner_queue::embedded::EmbeddedBroker;

use crate::kit;

/// The tests of this module: each clause for each broker.
pub fn tests() -> Vec<kit::Trial> {
    let embedded = contract::all().into_iter().map(|clause| {
        let name = format!("brokers::embedded::{}", clause.name);
        kit::trial(name, &[], move || async move {
            (clause.keep)(fresh_embedded().await).await;
        })
    });
    embedded.collect()
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
