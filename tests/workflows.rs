//! Workflows with processes that die, and by the command line: the whole program, on Redis and on a file.
//!
//! Not here: what ends count and what follows from them (the contract). A thousand steps: set `RUNNER_LONG=1`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use runner::{Client, Step, Task, Workflow};
use runner_core::clock::SystemClock;
use runner_queue::Broker;
use runner_queue::embedded::EmbeddedBroker;
use runner_queue::redis::{RedisBroker, RedisSettings};

use crate::kit::{self, Harm, Proxy, RedisDb, Runner, Site, eventually_within};

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(Redis):
            kills_on_redis_neither_lose_nor_double_a_step,
            a_failed_step_is_shown_and_run_again,
            an_end_whose_write_fails_is_written_again;
        needs():
            kills_in_a_file_neither_lose_nor_double_a_step,
            a_workflow_is_cancelled_as_a_whole,
            what_ends_while_a_runner_stops_is_written;
    ]
}

const PATIENCE: Duration = Duration::from_secs(300);

/// Records which step ran; what is called at the end; fails until the file `ok` exists; runs until `go` exists.
const FUNCTIONS: &str = "name: step
retry: 9
exec: {shell: true, cwd: \"$DIR\", command: \"echo $RUNNER_TASK_ID >> done; echo '{\\\"ok\\\": 1}'\", result: stdout}
---
name: finished
exec: {shell: true, cwd: \"$DIR\", command: \"echo $RUNNER_TASK_ID >> finished\"}
---
name: alarm
exec: {shell: true, cwd: \"$DIR\", command: \"echo $RUNNER_TASK_ID >> alarms\"}
---
name: fragile
retry: 0
exec: {shell: true, cwd: \"$DIR\", command: \"test -e ok\"}
---
name: needless
exec: {shell: true, cwd: \"$DIR\", command: \"echo $RUNNER_TASK_ID >> begun; exit 99\"}
---
name: slow
exec: {shell: true, cwd: \"$DIR\", command: \"echo begun >> begun; until [ -e go ]; do sleep 0.05; done; echo end >> ended\"}
---
name: merge
exec: {shell: true, cwd: \"$DIR\", command: \"cat >> merged\"}
";

fn site(broker: &str) -> Site {
    let site = Site::new(&format!(
        "{broker}worker: {{concurrency: 8, lease: 5s, shutdown_timeout: 10s}}\n"
    ));
    let text = FUNCTIONS.replace("$DIR", &site.dir.display().to_string());
    site.write("manifests/all.yaml", &text);
    site
}

/// A client of this database.
pub fn on_redis(db: &RedisDb) -> Client {
    let settings = RedisSettings {
        database: i64::from(db.number),
        ..RedisSettings::at(format!("127.0.0.1:{}", db.port))
    };
    Client::over(Arc::new(RedisBroker::lazy(&settings).expect("a broker")))
}

async fn in_file(site: &Site) -> (Client, Arc<EmbeddedBroker>) {
    let path = site.dir.join("data/runner.db");
    let broker = EmbeddedBroker::open(path, Arc::new(SystemClock)).await;
    let broker = Arc::new(broker.expect("the file"));
    (Client::over(broker.clone()), broker)
}

fn lines(site: &Site, file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(site.dir.join(file)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Stages of one step and of many in turn. Returns how many steps each has.
fn sizes(pairs: usize, many: usize) -> Vec<usize> {
    (0..pairs).flat_map(|_| [1, many]).collect()
}

fn chain_of_groups(sizes: &[usize]) -> Workflow {
    let step = || Task::new("fn:step").max_retry(9);
    let stages = sizes.iter().fold(Workflow::new("kills").id("w"), |workflow, size| {
        workflow.then_all((0..*size).map(|_| step()))
    });
    stages
        .on_done(Task::new("fn:finished"))
        .on_failed(Task::new("fn:alarm"))
}

async fn until_run(site: &Site, runners: &[Runner], count: usize) {
    eventually_within(PATIENCE, &format!("{count} steps have run"), async || {
        let done: std::collections::BTreeSet<String> = lines(site, "done").into_iter().collect();
        match done.len() {
            n if n >= count => Ok(()),
            n => Err(format!("{n}\n{}", runners[0].child.tail())),
        }
    })
    .await;
}

/// Kills a process whenever another part of the steps has run, and judges what the functions wrote.
async fn run_and_kill(id: &'static str, site: &Site, sizes: &[usize], processes: usize, kills: usize) {
    let count: usize = sizes.iter().sum();
    let mut runners = Vec::new();
    for _ in 0..processes {
        runners.push(site.start().await);
    }
    for kill in 1..=kills {
        until_run(site, &runners, count * kill / (kills + 1)).await;
        runners.remove(0).kill9();
        runners.push(site.start().await);
    }
    until_run(site, &runners, count).await;
    eventually_within(PATIENCE, "the workflow is done", async || {
        match lines(site, "finished").len() {
            0 => Err(runners[0].child.tail()),
            _ => Ok(()),
        }
    })
    .await;
    let shown = site.cli(["workflow", "show", "w", "--json"]).await.json();
    for runner in runners {
        assert!(runner.stop().await.success());
    }
    let mut places: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (place, line) in lines(site, "done").iter().enumerate() {
        let number = line
            .strip_prefix("workflow:w:")
            .expect("a step")
            .parse()
            .expect("a number");
        places.entry(number).or_default().push(place);
    }
    let (mut first, mut overlaps, mut last_end) = (0, 0, None);
    for size in sizes {
        let of_stage = || (first..first + size).flat_map(|number| places.get(&number).into_iter().flatten());
        let (begin, end) = (of_stage().min().copied(), of_stage().max().copied());
        overlaps += usize::from(last_end.is_some() && begin <= last_end);
        last_end = end;
        first += size;
    }
    let again = lines(site, "done").len() - places.len();
    let mut fault = kit::Fault::new(id);
    fault
        .figure("processes", processes)
        .figure("kills", kills)
        .figure("ran_again", again)
        .require("steps", places.len(), places.len() == count)
        .require("done", &shown["done"], shown["done"] == count)
        .require("state", &shown["state"], shown["state"] == "done")
        .require("stages_too_early", overlaps, overlaps == 0)
        .require(
            "callbacks",
            lines(site, "finished").len(),
            lines(site, "finished").len() == 1,
        )
        .require("alarms", lines(site, "alarms").len(), lines(site, "alarms").is_empty());
    fault.end(|| shown.to_string());
}

async fn kills_on_redis_neither_lose_nor_double_a_step() {
    let long = std::env::var_os("RUNNER_LONG").is_some();
    let (pairs, many, processes, kills) = if long { (10, 99, 4, 12) } else { (5, 19, 2, 2) };
    let db = kit::redis().fresh_db();
    let site = site(&db.yaml());
    let sizes = sizes(pairs, many);
    on_redis(&db)
        .workflow(chain_of_groups(&sizes))
        .await
        .expect("a workflow");
    run_and_kill("W1", &site, &sizes, processes, kills).await;
}

async fn kills_in_a_file_neither_lose_nor_double_a_step() {
    let site = site("");
    let sizes = sizes(3, 9);
    let (client, broker) = in_file(&site).await;
    client.workflow(chain_of_groups(&sizes)).await.expect("a workflow");
    broker.close().await;
    drop((client, broker));
    run_and_kill("W2", &site, &sizes, 2, 2).await;
}

async fn a_failed_step_is_shown_and_run_again() {
    let db = kit::redis().fresh_db();
    let site = site(&db.yaml());
    let client = on_redis(&db);
    let workflow = Workflow::new("import")
        .id("i-1")
        .then_all(["fn:step", "fn:fragile"].map(|kind| Task::new(kind).max_retry(0)))
        .then(Step::new(Task::new("fn:merge").payload(r#"{"day":"mon"}"#)).results("parts"))
        .on_done(Task::new("fn:finished"))
        .on_failed(Task::new("fn:alarm"));
    let handle = client.workflow(workflow).await.expect("a workflow");
    let taken = client.workflow(Workflow::new("x").id("i-1").then(Task::new("a"))).await;
    assert_eq!(taken.unwrap_err().code(), "workflow_id_taken");
    let runner = site.start().await;
    let head = handle.wait(PATIENCE).await.unwrap().expect("a workflow");
    assert_eq!((head.place.state.as_str(), head.failed), ("failed", 1));
    let shown = site.cli(["workflow", "show", "i-1"]).await.ok().stdout;
    assert!(shown.contains("failed") && shown.contains("workflow:i-1:1"), "{shown}");
    let listed = site.cli(["workflow", "ls", "--open"]).await.ok().stdout;
    assert!(listed.contains("i-1"), "{listed}");
    eventually_within(PATIENCE, "the alarm", async || match lines(&site, "alarms").len() {
        1 => Ok(()),
        n => Err(n),
    })
    .await;
    site.write("ok", "");
    site.cli(["workflow", "retry", "i-1"]).await.ok();
    let head = handle.wait(PATIENCE).await.unwrap().expect("a workflow");
    assert_eq!((head.place.state.as_str(), head.done, head.failed), ("done", 3, 0));
    let merged: serde_json::Value = serde_json::from_str(&lines(&site, "merged").concat()).expect("JSON");
    assert_eq!(merged["parts"][0]["ok"], 1, "{merged}");
    assert_eq!(merged["day"], "mon");
    let refused = site.cli(["workflow", "retry", "i-1"]).await;
    assert!(refused.stderr.contains("no failed steps"), "{refused:?}");
    assert!(runner.stop().await.success());
}

async fn a_workflow_is_cancelled_as_a_whole() {
    let site = site("");
    let (client, broker) = in_file(&site).await;
    let slow = || Task::new("fn:slow");
    let workflow = Workflow::new("long")
        .id("l")
        .then_all([slow(), slow()])
        .then(Task::new("fn:step"));
    let handle = client.workflow(workflow).await.expect("a workflow");
    let runner = site.start().await;
    eventually_within(PATIENCE, "both run", async || match lines(&site, "begun").len() {
        2 => Ok(()),
        n => Err(n),
    })
    .await;
    let answer = site.cli(["workflow", "cancel", "l"]).await.ok().stdout;
    assert!(answer.starts_with("cancelling"), "{answer}");
    eventually_within(PATIENCE, "nothing runs", async || {
        let active = site.cli(["ls", "tasks", "--state", "active", "--json"]).await;
        match active.stdout.trim() {
            "[]" => Ok(()),
            other => Err(other.to_owned()),
        }
    })
    .await;
    let head = handle.wait(PATIENCE).await.unwrap().expect("a workflow");
    assert_eq!(head.place.state.as_str(), "cancelled");
    assert!(lines(&site, "ended").is_empty() && lines(&site, "done").is_empty());
    assert!(runner.stop().await.success());
    broker.close().await;
}

async fn what_ends_while_a_runner_stops_is_written() {
    let site = site("");
    let (client, broker) = in_file(&site).await;
    let workflow = Workflow::new("stop").id("s").then(Task::new("fn:slow"));
    client.workflow(workflow).await.expect("a workflow");
    let runner = site.start().await;
    eventually_within(PATIENCE, "the step runs", async || match lines(&site, "begun").len() {
        1 => Ok(()),
        n => Err(n),
    })
    .await;
    runner.signal(Signal::SIGTERM);
    eventually_within(PATIENCE, "the runner drains", async || match runner.log() {
        log if log.contains("draining") => Ok(()),
        log => Err(log),
    })
    .await;
    site.write("go", "");
    assert!(runner.ended().await.success());
    let shown = site.cli(["workflow", "show", "s", "--json"]).await.json();
    assert_eq!((&shown["done"], &shown["state"]), (&1.into(), &"done".into()));
    broker.close().await;
}

async fn an_end_whose_write_fails_is_written_again() {
    let db = kit::redis().fresh_db();
    let proxy = Proxy::start(
        db.port,
        "local counts = epoch == tonumber(ARGV[4])",
        "runner:{workflow",
        |nth| match nth {
            1 => Some(Harm::NotSent),
            2 => Some(Harm::Cut),
            3 => Some(Harm::AnswerLost),
            _ => None,
        },
    )
    .await;
    let site = site(&format!(
        "redis: {{url: 'redis://127.0.0.1:{}/{}'}}\n",
        proxy.port, db.number
    ));
    let workflow = Workflow::new("cut")
        .id("c")
        .then(Task::new("fn:needless"))
        .then(Task::new("fn:needless"))
        .on_done(Task::new("fn:finished"))
        .on_failed(Task::new("fn:alarm"));
    let handle = on_redis(&db).workflow(workflow).await.expect("a workflow");
    let runner = site.start().await;
    let head = handle.wait(PATIENCE).await.unwrap().expect("a workflow");
    assert_eq!((head.place.state.as_str(), head.done, head.place.epoch), ("done", 2, 0));
    assert_eq!(proxy.counts().1, 3);
    let metrics = runner.http.get("/metrics").await.body;
    let failed = "runner_workflows_ended_total{outcome=\"failed\"} 0";
    assert!(metrics.contains(failed), "{metrics}");
    assert!(runner.stop().await.success());
    assert_eq!((lines(&site, "begun").len(), lines(&site, "finished").len()), (2, 1));
    assert!(lines(&site, "alarms").is_empty());
}
