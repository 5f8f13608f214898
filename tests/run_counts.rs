//! Runs counted over time by a running program: those of a process that ends, and those of workers in Go.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use redis::aio::MultiplexedConnection;
use runner_queue::redis::{RedisBroker, RedisSettings};
use runner_queue::{Presence as _, ServerInfo, ServerStatus};

use crate::kit::{self, RedisServer, Site};

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): what_a_process_has_counted_outlives_it;
        needs(Redis): runs_of_workers_in_go_are_counted
    ]
}

async fn what_a_process_has_counted_outlives_it() {
    let site = Site::new("roles: [scheduler, worker, web]\n");
    let runner = site.start().await;
    for _ in 0..3 {
        site.cli(["enqueue", "echo", "--payload", "1"]).await.ok();
    }
    kit::eventually("three runs have ended", async || {
        let page = runner.http.get("/queue").await.body;
        page.contains("3 processed").then_some(()).ok_or(page)
    })
    .await;
    // Sooner than it adds counts by itself.
    assert!(runner.stop().await.success());
    let runner = site.start().await;
    let page = runner.http.get("/queue").await.body;
    assert!(page.contains("</span>3 done</li>"), "{page}");
}

async fn runs_of_workers_in_go_are_counted() {
    let server = RedisServer::start(&[]);
    let db = server.fresh_db();
    let site = Site::new(&format!("{}roles: [scheduler, web]\n", db.yaml()));
    let runner = site.start().await;
    let mut settings = RedisSettings::at(format!("127.0.0.1:{}", db.port));
    settings.database = i64::from(db.number);
    let broker = RedisBroker::connect(settings).await.expect("a broker");
    let in_go = ServerInfo {
        host: "go".to_owned(),
        pid: 7,
        id: "go-7".to_owned(),
        concurrency: 10,
        queues: BTreeMap::from([("low".to_owned(), 1)]),
        strict_priority: false,
        status: ServerStatus::Active,
        started_at: Timestamp::UNIX_EPOCH,
        active: 0,
        handlers: Vec::new(),
    };
    broker
        .heartbeat(&in_go, &[], Duration::from_secs(600))
        .await
        .expect("a heartbeat");
    let mut link = db.connect().await;
    kit::eventually_within(Duration::from_secs(120), "its runs are on the page", async || {
        add(&mut link.clone(), "processed", 4).await;
        add(&mut link.clone(), "failed", 1).await;
        let page = runner.http.get("/queue").await.body;
        let row = page
            .split("<tr")
            .find(|row| row.contains("data-key=\"low\""))
            .unwrap_or("");
        row.contains("In the last hour").then_some(()).ok_or(row.to_owned())
    })
    .await;
    let processed = add(&mut link, "processed", 0).await;
    let page = runner.http.get("/queue").await.body;
    let (_, rest) = page
        .split_once("<span class=\"key bad\"></span>")
        .expect("the number of failed runs");
    let failed: u64 = rest.split(' ').next().unwrap_or_default().parse().expect("a number");
    assert!(failed > 0 && failed <= processed / 4, "{failed} of {processed}");
}

/// What a worker in Go does when a run ends.
async fn add(link: &mut MultiplexedConnection, counter: &str, n: u64) -> u64 {
    let mut command = redis::cmd("INCRBY");
    let sum = command.arg(format!("asynq:{{low}}:{counter}")).arg(n);
    sum.query_async(link).await.expect("a sum")
}
