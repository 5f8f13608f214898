//! How commands end under adverse conditions: a signal, a closed error output, an id that matches two tasks or none.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use runner_core::clock::SystemClock;
use runner_core::task::QueueName;
use runner_queue::embedded::EmbeddedBroker;
use runner_queue::{Claims as _, Signals as _};
use serde_json::json;

use crate::cli::{fails, json, prints};
use crate::kit::{self, Child, Site, eventually_within};

/// How long a measurement may take to begin, and to end after a signal.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): an_interrupted_measurement_leaves_nothing_behind, a_closed_error_output_causes_no_panic,
            a_finished_action_is_reported_when_the_output_is_unwritable,
            only_an_active_task_can_be_cancelled, an_ambiguous_cancellation_is_refused;
        needs(Redis): an_interrupted_measurement_in_redis_leaves_nothing_behind;
    ]
}

async fn an_interrupted_measurement_leaves_nothing_behind() {
    stopped(&Site::new(""), Signal::SIGINT, 130).await;
}

async fn an_interrupted_measurement_in_redis_leaves_nothing_behind() {
    let db = kit::redis().fresh_db();
    stopped(&Site::new(&db.yaml()), Signal::SIGTERM, 143).await;
}

/// Stops a measurement while the bare store holds tasks.
async fn stopped(site: &Site, signal: Signal, code: i32) {
    let log = site.dir.join("bench.log");
    let program = env!("CARGO_BIN_EXE_runner");
    let bench = Child::start(program, None, Signal::SIGKILL, &log, |command| {
        let rate = ["bench", "steady", "--ceiling", "--tasks", "10000000"];
        command.args(rate).current_dir(&site.dir);
    });
    eventually_within(PATIENCE, "a task is active", async || {
        let queues = json(site, &["ls", "queues", "--json"]).await;
        let mut all = queues.as_array().into_iter().flatten();
        let active = all.any(|queue| queue["counts"]["active"].as_u64() > Some(0));
        if active {
            Ok(())
        } else {
            Err(format!("{queues}\n{}", bench.tail()))
        }
    })
    .await;
    bench.signal(signal);
    let status = tokio::task::spawn_blocking(move || (bench.wait(PATIENCE), bench.log())).await;
    let (status, log) = status.expect("its end");
    assert_eq!(status.code(), Some(code), "{log}");
    assert_eq!(json(site, &["ls", "queues", "--json"]).await, json!([]), "{log}");
}

async fn a_closed_error_output_causes_no_panic() {
    let site = Site::new("");
    site.write("manifests/broken.yaml", "kind: [\n");
    for (arguments, expected) in [
        (&["task", "show", "nope"][..], 1),
        (&["ls", "schedules"], 0),
        (&["next", "@every 1m"], 0),
        (&["enqueue", "t", "--password", "x"], 2),
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let status = Command::new(env!("CARGO_BIN_EXE_runner"))
            .args(arguments)
            .current_dir(&site.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(writer)
            .status()
            .expect("the program");
        assert_eq!(status.code(), Some(expected), "{arguments:?}");
    }
}

/// Standard error and exit code of a command whose standard output is unwritable.
fn unwritable(site: &Site, arguments: &[&str]) -> (String, Option<i32>) {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
    let finished = Command::new(env!("CARGO_BIN_EXE_runner"))
        .args(arguments)
        .current_dir(&site.dir)
        .stdin(Stdio::null())
        .stdout(full.expect("a full device"))
        .output()
        .expect("the program");
    let error = String::from_utf8_lossy(&finished.stderr).into_owned();
    (error, finished.status.code())
}

async fn a_finished_action_is_reported_when_the_output_is_unwritable() {
    let site = Site::new("");
    site.write("manifests/a.yaml", "name: a\nschedule: '@yearly'\nexec: ['true']\n");
    for (arguments, done) in [
        (&["migrate"][..], "sys_crontab"),
        (&["init", "new"], "wrote new/manifests/hello.yaml"),
        (&["enqueue", "t", "--id", "t1", "--in", "1h"], "done: t1\n"),
        (
            &["task", "update", "t1", "--payload", "1"],
            "done: t1 has another payload\n",
        ),
        (&["task", "run", "t1"], "done: t1 is on its queue\n"),
        (&["task", "archive", "t1"], "done: t1 is archived\n"),
        (
            &[
                "task", "run", "--all", "--queue", "default", "--state", "archived", "--yes",
            ],
            "done: 1 task put on the queue\n",
        ),
        (
            &[
                "task", "delete", "--all", "--queue", "default", "--state", "pending", "--yes", "--json",
            ],
            r#""tasks":1"#,
        ),
        (&["schedule", "pause", "a"], "done: m:a:default is paused\n"),
        (&["schedule", "resume", "a"], "done: m:a:default is resumed from now on"),
        (&["schedule", "run", "a"], "done: m:a:default@"),
        (&["queue", "pause", "default"], "done: default is paused\n"),
        (&["queue", "resume", "default"], "done: default is resumed\n"),
        (&["backup", "copy.db"], "done: copy.db: "),
        (
            &["queue", "rm", "default", "--force", "--json"],
            r#"done: {"queue":"default""#,
        ),
    ] {
        let (error, code) = unwritable(&site, arguments);
        assert_eq!(code, Some(74), "{arguments:?}: {error}");
        assert!(error.contains(done), "{arguments:?}: {error}");
        assert!(
            error.contains("error: cannot write to standard output: "),
            "{arguments:?}: {error}"
        );
    }
    assert!(site.dir.join("new/config.yaml").exists() && site.dir.join("copy.db").exists());
    let (error, code) = unwritable(&site, &["ls", "queues"]);
    assert_eq!((code, error.contains("done")), (Some(74), false), "{error}");
}

async fn only_an_active_task_can_be_cancelled() {
    let site = Site::new("");
    prints(&site, &["enqueue", "t", "--id", "a", "--queue", "low"]).await;
    for verb in ["cancel", "stop"] {
        let error = fails(&site, &["task", verb, "a"], 1).await;
        assert!(
            error.contains("a is pending") && error.contains("task archive"),
            "{error}"
        );
    }
    for missing in [
        &["task", "cancel", "b", "--queue", "low"][..],
        &["task", "cancel", "a", "--queue", "high"],
    ] {
        let error = fails(&site, missing, 1).await;
        assert!(error.contains("no task"), "{error}");
    }
}

async fn an_ambiguous_cancellation_is_refused() {
    let site = Site::new("");
    let queues = ["low", "high"].map(|name| QueueName::new(name).expect("a name"));
    for queue in &queues {
        prints(&site, &["enqueue", "t", "--id", "a", "--queue", queue.as_str()]).await;
    }
    let path: PathBuf = site.dir.join("data/runner.db");
    let worker = EmbeddedBroker::open(path, Arc::new(SystemClock))
        .await
        .expect("the store");
    let claim = async |queue: &QueueName| {
        let claims = worker.claim(std::slice::from_ref(queue), 1, PATIENCE).await;
        assert_eq!(claims.expect("claims").len(), 1);
    };
    claim(&queues[0]).await;
    let asked = prints(&site, &["task", "cancel", "a", "--queue", "low"]).await;
    assert!(asked.contains("asked to end this attempt"), "{asked}");
    let mut heard = worker.cancellations().await.expect("a listener");
    let stop = ["task", "stop", "a", "--queue", "low", "--reason", "wrong month"];
    assert!(prints(&site, &stop).await.contains("asked to stop for good"));
    let wanted = heard.recv().await.expect("a request");
    assert_eq!((wanted.id.as_str(), wanted.queue.as_ref()), ("a", Some(&queues[0])));
    let words = wanted.for_good.expect("for good");
    assert!(
        words.starts_with("stopped by ") && words.ends_with(": wrong month"),
        "{words}"
    );
    claim(&queues[1]).await;
    let error = fails(&site, &["task", "cancel", "a", "--queue", "low"], 1).await;
    assert!(error.contains("queue high too"), "{error}");
}
