//! Settings that change while the program runs: what is put in force, what waits for a restart, and a file with errors.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::kit::{self, Runner, Site, eventually};

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): a_changed_file_is_put_in_force_or_named, a_file_with_errors_changes_nothing,
            limits_of_queues_change_while_it_runs, a_program_without_a_file_has_nothing_to_read
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

/// Two of three tasks wait until the limit is taken away.
async fn limits_of_queues_change_while_it_runs() {
    let settings = |limit: &str| format!("worker: {{concurrency: 5, shutdown_timeout: 1s{limit}}}\n");
    let site = Site::new(&settings(", limits: {default: 1}"));
    let runner = site.start().await;
    for id in ["a", "b", "c"] {
        site.cli(["enqueue", "sleep", "--payload", r#"{"seconds":60}"#, "--id", id])
            .await
            .ok();
    }
    let running = async |wanted: u64| {
        eventually("the number of running tasks", async || {
            let servers = site.cli(["ls", "servers", "--json"]).await.json();
            match &servers[0]["info"]["active"] {
                found if *found == json!(wanted) => Ok(()),
                found => Err(found.to_string()),
            }
        })
        .await;
    };
    running(1).await;
    site.write("config.yaml", &settings(", limits: {default: 2}"));
    runner.signal(Signal::SIGHUP);
    logged(&runner, "changed settings are in force keys=worker.limits.default").await;
    running(2).await;
    site.write("config.yaml", &settings(", archive_max: 9"));
    logged(
        &runner,
        "changed settings are in force keys=\"worker.archive_max worker.limits.default\"",
    )
    .await;
    running(3).await;
    runner.stop().await;
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
