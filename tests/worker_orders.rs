//! `runner worker`: workers obey orders while they run, also those that start on a paused host.

use serde_json::{Value, json};

use crate::kit::{self, Runner, Site, eventually};

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): a_worker_in_a_file_is_paused_and_resized;
        needs(Redis): a_worker_over_redis_is_paused_and_resized, one_worker_of_two_is_paused
    ]
}

async fn a_worker_in_a_file_is_paused_and_resized() {
    obeys(&Site::new("worker: {concurrency: 3}\n")).await;
}

async fn a_worker_over_redis_is_paused_and_resized() {
    let db = kit::redis().fresh_db();
    obeys(&Site::new(&format!("{}worker: {{concurrency: 3}}\n", db.yaml()))).await;
}

async fn servers(site: &Site) -> Vec<Value> {
    let listed = site.cli(["ls", "servers", "--json"]).await.json();
    let listed = listed.as_array().cloned().unwrap_or_default();
    listed.iter().map(|one| one["info"].clone()).collect()
}

/// The state of the only task of this id; `null` once it is gone.
async fn state(site: &Site, id: &str) -> Value {
    let shown = site.cli(["task", "show", id, "--json"]).await;
    match shown.status.success() {
        true => shown.json()["state"].clone(),
        false => Value::Null,
    }
}

async fn runs(site: &Site, id: &str) {
    eventually("the task has run", async || match state(site, id).await {
        Value::String(state) if state == "completed" => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
}

async fn enqueue(site: &Site, id: &str) {
    let task = ["enqueue", "echo", "--payload", "1", "--retention", "1h", "--id", id];
    site.cli(task).await.ok();
}

async fn obeys(site: &Site) {
    let runner = site.start().await;
    let host = servers(site).await[0]["host"].as_str().unwrap().to_owned();
    let name = format!("{host}:{}", runner.child.pid());
    let unknown = site.cli(["worker", "pause", "elsewhere:1"]).await;
    assert!(
        unknown.stderr.contains(&name) && !unknown.status.success(),
        "{}",
        unknown.stderr
    );

    let said = site.cli(["worker", "pause", &name]).await.ok().stdout;
    assert_eq!(said, format!("{name} paused, no task is running\n"));
    enqueue(site, "held").await;
    let said = site
        .cli(["worker", "set", &name, "--concurrency", "7"])
        .await
        .ok()
        .stdout;
    assert_eq!(said, format!("{name} paused, no task is running\n"));
    assert_eq!(servers(site).await[0]["concurrency"], json!(7));
    assert_eq!(state(site, "held").await, "pending");
    assert_eq!(runner.http.get("/readyz").await.status, 200, "its pages go on");
    let shown = site.cli(["worker", "show", &name]).await.ok().stdout;
    assert!(
        shown.contains("paused       yes") && shown.contains("concurrency  7"),
        "{shown}"
    );

    let said = site.cli(["worker", "resume", &name]).await.ok().stdout;
    assert_eq!(said, format!("{name} takes tasks, 7 at once\n"));
    runs(site, "held").await;
    let said = site
        .cli(["worker", "set", &name, "--concurrency", "default"])
        .await
        .ok()
        .stdout;
    assert_eq!(said, format!("{name} takes tasks, 3 at once\n"));

    // The host is drained: also a worker that starts there takes nothing.
    // One that was paused and resumed by itself before is no exception.
    let said = site.cli(["worker", "pause", "--host", &host]).await.ok().stdout;
    assert_eq!(said, format!("{name} paused, no task is running\n"));
    runner.stop().await;
    enqueue(site, "drained").await;
    let runner = site.start().await;
    eventually("the new worker says that it is paused", async || {
        let listed = servers(site).await;
        let new = listed.iter().find(|one| one["pid"] == json!(runner.child.pid()));
        match new.is_some_and(|one| one["status"] == "stopped") {
            true => Ok(()),
            false => Err(format!("{listed:?}")),
        }
    })
    .await;
    assert_eq!(state(site, "drained").await, "pending");
    site.cli(["worker", "resume", "--host", &host]).await.ok();
    runs(site, "drained").await;
    runner.stop().await;
}

async fn one_worker_of_two_is_paused() {
    let db = kit::redis().fresh_db();
    let sites = [Site::new(&db.yaml()), Site::new(&db.yaml())];
    let (paused, other): (Runner, Runner) = (sites[0].start().await, sites[1].start().await);
    let host = servers(&sites[0]).await[0]["host"].as_str().unwrap().to_owned();
    let name = |runner: &Runner| format!("{host}:{}", runner.child.pid());
    sites[0].cli(["worker", "pause", &name(&paused)]).await.ok();
    for n in 0..20 {
        enqueue(&sites[1], &format!("t{n}")).await;
    }
    for n in 0..20 {
        runs(&sites[1], &format!("t{n}")).await;
        let shown = sites[1].cli(["task", "show", &format!("t{n}"), "--json"]).await.json();
        assert_eq!(shown["attempts"][0]["server"], json!(name(&other)), "{shown}");
    }
    paused.stop().await;
    other.stop().await;
}
