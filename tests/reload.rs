//! Settings that change while the program runs: what is put in force, what waits for a restart, and a file with errors.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::kit::{self, Runner, Site, eventually, eventually_within};

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): a_changed_file_is_put_in_force_or_named, a_file_with_errors_changes_nothing,
            limits_of_queues_change_while_it_runs, recorded_types_change_while_it_runs, a_program_without_a_file_has_nothing_to_read
    ]
}

const BEFORE: &str = "\
log: {level: info}
worker: {concurrency: 3}
auth: {users: [{name: ada, password: first-pass-word, role: admin}]}
";

const AFTER: &str = "\
log: {level: debug}
worker: {concurrency: 5, lease: 40s}
auth: {users: [{name: ada, password: other-pass-word, role: admin}]}
";

async fn logged(runner: &Runner, words: &str) {
    eventually(words, async || match runner.log().contains(words) {
        true => Ok(()),
        false => Err(runner.child.tail()),
    })
    .await;
}

async fn has_slots(site: &Site, number: u64) {
    eventually("the number of slots", async || {
        let servers = site.cli(["ls", "servers", "--json"]).await.json();
        match &servers[0]["info"]["concurrency"] {
            found if *found == json!(number) => Ok(()),
            found => Err(found.to_string()),
        }
    })
    .await;
}

async fn a_changed_file_is_put_in_force_or_named() {
    let site = Site::new(BEFORE);
    let runner = site.start().await;
    // A worker announces itself a moment after its pages answer.
    has_slots(&site, 3).await;
    assert!(!runner.log().contains(" DEBUG "), "{}", runner.log());

    // No signal: the file is looked at.
    site.write("config.yaml", AFTER);
    logged(
        &runner,
        "changed settings are in force keys=\"auth.users log.level worker.concurrency\"",
    )
    .await;
    logged(&runner, "changed settings wait for a restart keys=worker.lease").await;
    logged(&runner, " DEBUG ").await;
    has_slots(&site, 5).await;

    // What waits is named again; what is in force is not.
    runner.signal(Signal::SIGHUP);
    eventually("it is named once more", async || {
        let log = runner.log();
        let (in_force, waiting) = ("settings are in force", "wait for a restart keys=worker.lease");
        match (log.matches(in_force).count(), log.matches(waiting).count()) {
            (1, 2) => Ok(()),
            other => Err(format!("{other:?}\n{log}")),
        }
    })
    .await;
    let log = runner.log();
    assert!(!log.contains("pass-word"), "{log}");
    assert!(runner.stop().await.success());
}

async fn a_file_with_errors_changes_nothing() {
    let site = Site::new(BEFORE);
    let runner = site.start().await;
    site.write("config.yaml", "worker: {concurrency: 0}\nlog: {levle: debug}\n");
    logged(&runner, "the next start will fail").await;
    let log = runner.log();
    assert!(
        log.contains("code=CFG_UNKNOWN") && log.contains("worker.concurrency"),
        "{log}"
    );
    assert!(
        !site.cli(["ls", "servers"]).await.status.success(),
        "commands refuse the file"
    );

    site.write("config.yaml", &BEFORE.replace("concurrency: 3", "concurrency: 4"));
    logged(&runner, "changed settings are in force keys=worker.concurrency").await;
    has_slots(&site, 4).await;
    assert!(runner.stop().await.success());
}

/// Enqueues tasks until this many run: one that waits already may be looked at only then.
async fn run_at_once(site: &Site, wanted: std::ops::RangeInclusive<u64>) {
    // A worker says every few seconds how many it runs.
    eventually_within(Duration::from_secs(30), "the number of running tasks", async || {
        site.cli(["enqueue", "sleep", "--payload", r#"{"seconds":60}"#])
            .await
            .ok();
        let servers = site.cli(["ls", "servers", "--json"]).await.json();
        match servers[0]["info"]["active"].as_u64() {
            Some(found) if wanted.contains(&found) => Ok(()),
            found => Err(format!("{found:?}")),
        }
    })
    .await;
}

async fn limits_of_queues_change_while_it_runs() {
    let settings = |more: &str| format!("worker: {{concurrency: 5, shutdown_timeout: 1s{more}}}\n");
    let site = Site::new(&settings(", limits: {default: 1}"));
    let runner = site.start().await;
    run_at_once(&site, 1..=1).await;
    site.write("config.yaml", &settings(", limits: {default: 2}"));
    runner.signal(Signal::SIGHUP);
    logged(&runner, "changed settings are in force keys=worker.limits.default").await;
    run_at_once(&site, 2..=2).await;
    // No signal: the file is looked at.
    site.write("config.yaml", &settings(", archive_max: 9"));
    let both = "changed settings are in force keys=\"worker.archive_max worker.limits.default\"";
    logged(&runner, both).await;
    run_at_once(&site, 3..=5).await;
    runner.stop().await;
}

/// Runs one task of this type, which leaves nothing but a record, until there is one.
async fn is_recorded(site: &Site, kind: &str) {
    eventually("a run is recorded", async || {
        site.cli(["enqueue", kind, "--payload", "{}"]).await.ok();
        let runs = site.cli(["runs", &format!("type:{kind}"), "--json"]).await;
        match runs.status.success() && runs.stdout.contains("\"outcome\"") {
            true => Ok(()),
            false => Err(runs.stderr + &runs.stdout),
        }
    })
    .await;
}

async fn recorded_types_change_while_it_runs() {
    let site = Site::new("worker: {record_runs: [other]}\n");
    let runner = site.start().await;
    site.write("config.yaml", "worker: {record_runs: [echo]}\n");
    runner.signal(Signal::SIGHUP);
    logged(&runner, "changed settings are in force keys=worker.record_runs").await;
    is_recorded(&site, "echo").await;
    // No signal: the file is looked at.
    site.write("config.yaml", "{}\n");
    eventually("the second change", async || {
        let log = runner.log();
        match log
            .matches("changed settings are in force keys=worker.record_runs")
            .count()
        {
            2 => Ok(()),
            _ => Err(log),
        }
    })
    .await;
    assert!(runner.stop().await.success());
}

async fn a_program_without_a_file_has_nothing_to_read() {
    let site = Site::new("");
    site.remove("config.yaml");
    let runner = site.launch_by(&["sh", "-c", "shift 3; exec \"$0\" run"]);
    runner.ready().await;
    runner.signal(Signal::SIGHUP);
    logged(&runner, "there is no configuration file to read again").await;
    assert!(runner.stop().await.success());
}
