//! F14: the broker's memory is full. Nothing new is accepted, everything existing drains.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use runner_core::task::Task;
use runner_queue::{Actions as _, BrokerError, Presence as _, Producer as _};

use super::{broker, contradictions, drained, handlers, id, put, queue};
use crate::kit::{self, Fault, RedisServer, Site, eventually_within};

/// Longer than a lease: it lives by extensions.
const HELD: Duration = Duration::from_secs(5);

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![needs(Redis): f14_a_full_broker_drains]
}

async fn f14_a_full_broker_drains() {
    let tasks = if kit::long() { 20_000 } else { 3_000 };
    let server = RedisServer::start(&["--maxmemory-policy", "noeviction"]);
    let db = server.fresh_db();
    let site = handlers::at(Site::new(&format!(
        "{}roles: [worker, web]\nworker: {{concurrency: 20, lease: 3s}}\n",
        db.yaml()
    )));
    let worker = site.start().await;
    let broker = broker(&db);
    let mut link = db.connect().await;
    let hold = Task::new("test:hold")
        .id(id("held"))
        .payload(HELD.as_millis().to_string());
    put(&broker, vec![hold]).await;
    eventually_within(Duration::from_secs(10), "the long one has begun", async || {
        let events = handlers::events(&site);
        if events.is_empty() {
            Err(worker.child.tail())
        } else {
            Ok(())
        }
    })
    .await;
    broker.pause_queue(&queue()).await.unwrap();
    put(&broker, (0..tasks).map(|_| Task::new("test:quick")).collect()).await;
    let () = redis::cmd("CONFIG")
        .arg(&["SET", "maxmemory", "1"])
        .query_async(&mut link)
        .await
        .unwrap();
    broker.resume_queue(&queue()).await.unwrap();

    let (refused, accepted) = (AtomicUsize::new(0), AtomicUsize::new(0));
    eventually_within(Duration::from_secs(150), "everything has run", async || {
        match broker.enqueue(&[Task::new("test:quick")]).await {
            Err(BrokerError::Full { .. }) => drop(refused.fetch_add(1, Ordering::SeqCst)),
            _ => drop(accepted.fetch_add(1, Ordering::SeqCst)),
        }
        let ended = handlers::events(&site).iter().filter(|e| e.what == "end").count();
        if ended > tasks {
            Ok(())
        } else {
            Err(format!("{ended} of {tasks}\n{}", worker.child.tail()))
        }
    })
    .await;
    drained(&broker, Duration::from_secs(20)).await;
    let events = handlers::events(&site);
    let count = |what: &str| events.iter().filter(|e| e.what == what).count();
    let alive = broker.servers().await.unwrap().len();
    let () = redis::cmd("CONFIG")
        .arg(&["SET", "maxmemory", "0"])
        .query_async(&mut link)
        .await
        .unwrap();
    put(&broker, vec![Task::new("test:quick")]).await;
    drained(&broker, Duration::from_secs(20)).await;
    let wrong = contradictions(&broker).await;
    let (refused, accepted) = (refused.into_inner(), accepted.into_inner());
    let mut fault = Fault::new("F14");
    fault
        .require("drained", count("end") - 1, count("end") == tasks + 1)
        .require("enqueue_refused", refused, refused > 0 && accepted == 0)
        .require("reruns", count("begin") - tasks - 1, count("begin") == tasks + 1)
        .require("lease_lost", count("stop"), count("stop") == 0)
        .require("servers_listed", alive, alive == 1)
        .require("contradictions", wrong.len(), wrong.is_empty());
    assert!(worker.stop().await.success());
    fault.end(|| format!("{wrong:#?}"));
}
