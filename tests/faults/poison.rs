//! F16: tasks that kill their worker. Each may do so three times, and the others lose at most one attempt per crash, however
//! long they run.

use std::collections::HashMap;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use runner_core::clock::SystemClock;
use runner_core::task::{Task, TaskState};
use runner_queue::embedded::EmbeddedBroker;
use runner_queue::{Broker, InspectQueues as _, InspectTasks as _};

use super::{broker, contradictions, handlers, id, put, queue};
use crate::kit::{self, Fault, Runner, Site};

const WORKERS: usize = 3;

/// Address space of a worker in bytes: enough for all tasks except the one that exhausts it.
const MEMORY: &str = "--as=2147483648";

/// Upper bound for the whole test.
const LIMIT: Duration = Duration::from_secs(120);

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(Redis):
            f16_poison_is_archived_after_three_crashes,
            f16_long_neighbours_of_poison_over_redis_on_one_worker,
            f16_long_neighbours_of_poison_over_redis_on_three_workers;
        needs():
            f16_long_neighbours_of_poison_in_a_file_on_one_worker,
            f16_long_neighbours_of_poison_in_a_file_on_three_workers
    ]
}

#[allow(clippy::too_many_lines)] // one story from beginning to end
async fn f16_poison_is_archived_after_three_crashes() {
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
        if total == 2 && counts[&TaskState::Archived] == 2 {
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
    stop(workers).await;
    fault.end(|| format!("{wrong:#?}"));
}

/// How long a neighbour takes: longer than a poison task needs to kill its worker, even in its second attempt.
const NEIGHBOUR_MS: u64 = 4_000;

async fn f16_long_neighbours_of_poison_over_redis_on_one_worker() {
    let db = kit::redis().fresh_db();
    neighbours("F16r1", Arc::new(broker(&db)), &db.yaml(), None, (1, 1)).await;
}

async fn f16_long_neighbours_of_poison_over_redis_on_three_workers() {
    let db = kit::redis().fresh_db();
    neighbours("F16r3", Arc::new(broker(&db)), &db.yaml(), None, (3, 2)).await;
}

async fn f16_long_neighbours_of_poison_in_a_file_on_one_worker() {
    let (site, broker) = file().await;
    neighbours("F16e1", broker, "", Some(site), (1, 1)).await;
}

async fn f16_long_neighbours_of_poison_in_a_file_on_three_workers() {
    let (site, broker) = file().await;
    neighbours("F16e3", broker, "", Some(site), (3, 2)).await;
}

/// A site whose file is opened here too.
async fn file() -> (Site, Arc<dyn Broker>) {
    let site = Site::new("");
    std::fs::create_dir_all(site.dir.join("data")).unwrap();
    let broker = EmbeddedBroker::open(site.dir.join("data/runner.db"), Arc::new(SystemClock)).await;
    (site, Arc::new(broker.unwrap()))
}

/// Long tasks beside poison ones, all running at once, on workers that are restarted when they die.
async fn neighbours(
    name: &'static str,
    broker: Arc<dyn Broker>,
    yaml: &str,
    site: Option<Site>,
    (workers, culprits): (usize, usize),
) {
    let innocent = 4 * workers + 2;
    let config = format!(
        "{yaml}roles: [worker, web]\nworker: {{concurrency: {}, lease: 3s}}\n",
        8
    );
    let site = match site {
        Some(site) => {
            site.write("config.yaml", &config);
            site
        }
        None => Site::new(&config),
    };
    let site = handlers::at(site);
    let mut fleet: Vec<Runner> = (0..workers).map(|_| site.launch()).collect();
    for worker in &fleet {
        worker.ready().await;
    }
    let retention = Duration::from_secs(3600);
    let long = |n: usize| {
        let task = Task::new("test:hold").id(id(&format!("long{n}")));
        task.payload(NEIGHBOUR_MS.to_string()).retention(retention)
    };
    let mut tasks: Vec<Task> = (0..innocent).map(long).collect();
    for n in 0..culprits {
        tasks.insert(n * 4 + 3, Task::new("test:abort").id(id(&format!("poison{n}"))));
    }
    for answer in broker.enqueue(&tasks).await.unwrap() {
        answer.unwrap();
    }
    let began = Instant::now();
    let crashes = until_all_ended(&site, &*broker, &mut fleet, tasks.len() as u64).await;
    let (mut archived, mut extra, mut named) = (0, 0, 0);
    for task in &tasks {
        let task_id = task.id.clone().unwrap();
        let info = broker.task(&queue(), &task_id).await.unwrap().unwrap();
        if task_id.as_str().starts_with("poison") {
            let attempts = broker.attempts(&queue(), &task_id).await.unwrap();
            named += usize::from(info.record.last_error.starts_with("poison: 3 runs") && attempts.len() == 3);
        } else {
            archived += usize::from(info.state == TaskState::Archived);
            extra = extra.max(info.record.retried);
        }
    }
    let mut fault = Fault::new(name);
    fault
        .figure("workers", workers)
        .figure("bystanders", innocent)
        // Two of them in one process kill it together.
        .require("crashes", crashes, (3..=3 * culprits).contains(&crashes))
        .require("bystanders_archived", archived, archived == 0)
        .require("extra_attempts_max", extra, extra as usize <= crashes)
        .require("culprits_named", named, named == culprits)
        .figure("took_ms", began.elapsed().as_millis());
    stop(fleet).await;
    fault.end(|| format!("{:?}", handlers::events(&site)));
}

/// Stops the workers. One may have died after the last look, or may still be writing the trace of the crash that took its lease.
async fn stop(workers: Vec<Runner>) {
    for worker in workers {
        let status = match worker.child.ended() {
            Some(status) => status,
            None => worker.stop().await,
        };
        assert!(
            status.success() || status.signal() == Some(Signal::SIGABRT as i32),
            "{status}"
        );
    }
}

/// Restarts workers until a number of tasks have ended. Returns how often one died.
async fn until_all_ended(site: &Site, broker: &dyn Broker, fleet: &mut [Runner], tasks: u64) -> usize {
    let (began, mut crashes) = (Instant::now(), 0);
    loop {
        for worker in fleet.iter_mut() {
            if worker.child.ended().is_some() {
                crashes += 1;
                *worker = site.launch();
            }
        }
        let queues = broker.queues().await.unwrap();
        let counts = queues.into_iter().find(|q| q.name == queue()).map(|q| q.counts);
        let counts = counts.unwrap_or_default();
        let of = |state| counts.get(&state).copied().unwrap_or(0);
        if of(TaskState::Completed) + of(TaskState::Archived) == tasks {
            return crashes;
        }
        assert!(began.elapsed() < LIMIT, "{counts:?}\n{}", fleet[0].child.tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
