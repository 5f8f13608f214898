//! F16: tasks that take their worker with them. Each may do so three times, and the others hardly notice.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use runner_core::task::{State, Task};
use runner_queue::Inspector as _;

use super::{broker, contradictions, handlers, id, put, queue};
use crate::kit::{self, Fault, Runner, Site};

const WORKERS: usize = 3;

/// Address space of a worker, bytes: enough for all but the one that eats it.
const MEMORY: &str = "--as=2147483648";

/// The end of it all.
const LIMIT: Duration = Duration::from_secs(120);

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![needs(Redis): f16_poison_is_put_aside_after_three_crashes]
}

#[allow(clippy::too_many_lines)] // one story from its beginning to its end
async fn f16_poison_is_put_aside_after_three_crashes() {
    let normal = if kit::long() { 1_000 } else { 300 };
    let db = kit::redis().fresh_db();
    let site = handlers::at(Site::new(&format!(
        "{}roles: [worker, web]\nworker: {{concurrency: 4, lease: 3s}}\n",
        db.yaml()
    )));
    let launch = || site.launch_by(&["prlimit", MEMORY]);
    let mut workers: Vec<Runner> = (0..WORKERS).map(|_| launch()).collect();
    for worker in &workers {
        worker.ready().await;
    }
    let broker = broker(&db);
    let mut tasks: Vec<Task> = (0..normal)
        .map(|n| Task::new("test:quick").id(id(&format!("n{n}"))))
        .collect();
    tasks.insert(normal / 3, Task::new("test:abort").id(id("abort")));
    tasks.insert(normal / 2, Task::new("test:hog").id(id("hog")));
    put(&broker, tasks).await;

    let began = Instant::now();
    let mut restarts = 0;
    let archived = loop {
        for worker in &mut workers {
            if worker.child.ended().is_some() {
                restarts += 1;
                *worker = launch();
            }
        }
        let queues = broker.queues().await.unwrap();
        let counts = queues
            .into_iter()
            .find(|q| q.name == queue())
            .map(|q| q.counts)
            .unwrap();
        let total: u64 = counts.values().sum();
        if total == 2 && counts[&State::Archived] == 2 {
            break 2;
        }
        assert!(began.elapsed() < LIMIT, "{counts:?}\n{}", workers[0].child.tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let (mut runs, mut ended): (HashMap<String, usize>, usize) = (HashMap::new(), 0);
    for event in handlers::events(&site) {
        if event.what == "begin" {
            *runs.entry(event.id).or_default() += 1;
        } else {
            ended += 1;
        }
    }
    let crashes = [runs.remove("abort").unwrap_or(0), runs.remove("hog").unwrap_or(0)];
    let collateral = runs.values().max().copied().unwrap_or(0).saturating_sub(1);
    let mut named = 0;
    for name in ["abort", "hog"] {
        let task = broker.task(&queue(), &id(name)).await.unwrap().unwrap();
        let attempts = broker.attempts(&queue(), &id(name)).await.unwrap();
        named += usize::from(task.record.last_error.starts_with("poison: 3 runs") && attempts.len() == 3);
    }
    let wrong = contradictions(&broker).await;
    let mut fault = Fault::new("F16");
    fault
        .require("crashes_abort", crashes[0], crashes[0] == 3)
        .require("crashes_oom", crashes[1], crashes[1] == 3)
        .figure("restarts", restarts)
        .require("archived", archived, named == 2)
        .require("normal_done", runs.len(), runs.len() == normal && ended >= normal)
        .require("collateral_max", collateral, collateral <= 1)
        .figure("took_ms", began.elapsed().as_millis())
        .require("contradictions", wrong.len(), wrong.is_empty());
    for worker in workers {
        assert!(worker.stop().await.success());
    }
    fault.end(|| format!("{wrong:#?}"));
}
