//! F13: the broker is unreachable for longer than a lease, repeatedly. Nothing crashed, so nothing is poison.

use std::time::Duration;

use nix::sys::signal::Signal;
use runner_core::task::{AttemptOutcome, Task, TaskState};
use runner_queue::InspectTasks as _;

use super::{broker, handlers, id, put, queue};
use crate::kit::{self, Fault, RedisServer, Site, eventually_within};

/// Long enough for the handler to be stopped and the lease to end.
const AWAY: Duration = Duration::from_secs(5);

const OUTAGES: u32 = 3;

/// Until a lost attempt runs again: the rest of the lease, and a growing delay.
const BACK: Duration = Duration::from_secs(60);

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![needs(Redis): f13_outages_make_no_task_poison]
}

async fn f13_outages_make_no_task_poison() {
    let server = RedisServer::start(&[]);
    let db = server.fresh_db();
    let site = handlers::at(Site::new(&format!(
        "{}roles: [worker, web]\nworker: {{concurrency: 2, lease: 3s, poison_after: 2}}\n",
        db.yaml()
    )));
    let worker = site.start().await;
    let broker = broker(&db);
    // The first attempt takes this long, all others a quarter of it.
    put(
        &broker,
        vec![Task::new("test:hold").id(id("long")).payload("60000".to_owned())],
    )
    .await;
    for attempt in 1..=OUTAGES {
        eventually_within(BACK, "the task runs", async || {
            let begun = |e: &handlers::Event| e.what == "begin" && e.attempt == attempt;
            match handlers::events(&site).iter().any(begun) {
                true => Ok(()),
                false => Err(worker.child.tail()),
            }
        })
        .await;
        server.child().signal(Signal::SIGSTOP);
        tokio::time::sleep(AWAY).await;
        server.child().signal(Signal::SIGCONT);
    }
    let metric = format!("runner_tasks_lost_alive_total{{queue=\"default\"}} {OUTAGES}");
    eventually_within(BACK, "the worker says that it lives", async || {
        let metrics = worker.http.get("/metrics").await.body;
        match metrics.contains(&metric) {
            true => Ok(()),
            false => Err(worker.child.tail()),
        }
    })
    .await;
    let info = broker.task(&queue(), &id("long")).await.unwrap().unwrap();
    let attempts = broker.attempts(&queue(), &id("long")).await.unwrap();
    let lost = attempts
        .iter()
        .filter(|attempt| attempt.outcome == AttemptOutcome::Lost)
        .count();
    let mut fault = Fault::new("F13");
    fault
        .figure("outages", OUTAGES)
        .require("lost_runs", lost, lost == OUTAGES as usize)
        .require("state", info.state, info.state != TaskState::Archived);
    assert!(worker.stop().await.success());
    fault.end(|| info.record.last_error.clone());
}
