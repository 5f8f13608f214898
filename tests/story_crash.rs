//! Workers that die and workers that are stopped: nothing is lost, and finished tasks do not run again.

use std::collections::HashSet;
use std::time::Duration;

use nix::sys::signal::Signal;
use runner_core::task::Task;
use runner_queue::Producer;
use runner_queue::redis::{RedisBroker, RedisSettings};
use tokio::time::Instant;

use crate::kit::{self, RedisDb, Runner, Site, eventually_within};

/// Tasks at once.
const SLOTS: usize = 10;

/// Tasks that run when their worker is killed. After a crash they restart one at a time.
const KILLED: usize = 5;

/// Half of the default, to keep the test short; a machine that stalls for less loses no lease.
const LEASE: &str = "15s";

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![needs(Redis): a_killed_workers_tasks_all_run_again, a_stopped_worker_loses_nothing_and_repeats_nothing]
}

/// A function that records its task, waits for the file `go`, and records that it is done.
const GATED: &str = "name: gated
exec:
  shell: true
  cwd: \"$DIR\"
  command: \"echo $RUNNER_TASK_ID >> begun; until [ -e go ]; do sleep 0.05; done; echo $RUNNER_TASK_ID >> done\"
";

fn site(db: &RedisDb) -> Site {
    let site = Site::new(&format!(
        "{}worker: {{concurrency: {SLOTS}, lease: {LEASE}, shutdown_timeout: 20s}}\n",
        db.yaml()
    ));
    let manifest = GATED.replace("$DIR", &site.dir.display().to_string());
    site.write("manifests/gated.yaml", &manifest);
    site
}

async fn enqueue(db: &RedisDb, count: usize) {
    let broker = RedisBroker::lazy(&RedisSettings {
        database: i64::from(db.number),
        ..RedisSettings::at(format!("127.0.0.1:{}", db.port))
    })
    .expect("a broker");
    let tasks: Vec<Task> = (0..count).map(|_| Task::new("fn:gated")).collect();
    for batch in tasks.chunks(500) {
        for answer in broker.enqueue(batch).await.expect("Redis answers") {
            answer.expect("the task is accepted");
        }
    }
}

fn lines(site: &Site, file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(site.dir.join(file)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Waits until the file has this many lines.
async fn until(site: &Site, runner: &Runner, file: &str, count: usize, deadline: Duration) -> Vec<String> {
    eventually_within(deadline, &format!("{count} lines in {file}"), async || {
        let found = lines(site, file);
        if found.len() >= count {
            Ok(found)
        } else {
            Err(format!("{}\n{}", found.len(), runner.child.tail()))
        }
    })
    .await
}

async fn a_killed_workers_tasks_all_run_again() {
    let db = kit::redis().fresh_db();
    let site = site(&db);
    let first = site.start().await;
    enqueue(&db, KILLED).await;
    let begun = until(&site, &first, "begun", KILLED, Duration::from_secs(20)).await;

    first.kill9();
    let killed = Instant::now();
    let second = site.start().await;
    // First a lease ends; then come recovery and the delay of a first retry.
    let again = until(&site, &second, "begun", 2 * KILLED, Duration::from_secs(150)).await;
    println!(
        "story_crash: killed with {KILLED} running; all of them run again after {:.1?}",
        killed.elapsed()
    );
    let (before, after): (HashSet<_>, HashSet<_>) = (begun.iter().collect(), again[KILLED..].iter().collect());
    assert_eq!(before, after, "each of them runs again, once");

    site.write("go", "");
    eventually_within(Duration::from_secs(20), "all of them are done", async || {
        let done: HashSet<String> = lines(&site, "done").into_iter().collect();
        if done.len() == KILLED {
            Ok(())
        } else {
            Err(format!("{done:?}\n{}", second.child.tail()))
        }
    })
    .await;
    assert!(second.stop().await.success());
}

async fn a_stopped_worker_loses_nothing_and_repeats_nothing() {
    const PENDING: usize = 1_000;
    let db = kit::redis().fresh_db();
    let site = site(&db);
    let first = site.start().await;
    enqueue(&db, SLOTS).await;
    until(&site, &first, "begun", SLOTS, Duration::from_secs(20)).await;
    enqueue(&db, PENDING).await;

    first.signal(Signal::SIGTERM);
    // It stops answering, or reports that it is not ready.
    eventually_within(Duration::from_secs(10), "it is stopping", async || {
        match first.http.try_get("/readyz").await {
            Ok(reply) if reply.status == 200 => Err("still ready".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    site.write("go", "");
    assert!(first.ended().await.success());
    let (begun, done) = (lines(&site, "begun"), lines(&site, "done"));
    assert_eq!(
        (begun.len(), done.len()),
        (SLOTS, SLOTS),
        "what ran has ended, and nothing else began"
    );

    let resumed = Instant::now();
    let second = site.start().await;
    let done = until(&site, &second, "done", SLOTS + PENDING, Duration::from_secs(90)).await;
    println!(
        "story_crash: {PENDING} pending tasks were run by the next worker in {:.1?}",
        resumed.elapsed()
    );
    assert!(second.stop().await.success());
    let (begun, each) = (lines(&site, "begun"), done.iter().collect::<HashSet<_>>());
    assert_eq!(each.len(), SLOTS + PENDING, "none is lost");
    assert_eq!(
        (begun.len(), lines(&site, "done").len()),
        (SLOTS + PENDING, SLOTS + PENDING),
        "none is run twice"
    );
}
