//! Payloads that do not fit `payload_schema`: refused at each door, with their path. The whole program, on the embedded broker.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use crate::kit::{self, Site, eventually_within};

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): a_payload_that_does_not_fit_is_refused_at_every_door,
            a_task_that_got_past_the_doors_is_archived_before_it_runs,
            the_schema_of_one_function_counts_for_others_of_its_handler;
    ]
}

const PATIENCE: Duration = Duration::from_secs(30);

const TOKEN: &str = "a token of sixteen bytes or more";

const SCHEMA: &str = "payload_schema: {type: object, required: [n], properties: {n: {type: integer}}}\n";

/// What all doors say about `{"n": "hunter2"}`.
const FAULT: &str = "the payload does not fit payload_schema: /n: this value is not of type \"integer\"";

const BAD: &str = r#"{"n":"hunter2"}"#;

async fn a_payload_that_does_not_fit_is_refused_at_every_door() {
    let site = Site::new("");
    site.write("token", TOKEN);
    let orders = format!(
        "name: orders\nexec: ['true']\nretention: 1h\n{SCHEMA}triggers: [{{id: in, webhook: {{token: '${{file:token}}'}}}}]\n"
    );
    let relay = "name: relay\nretry: 3\nretention: 1h\nenqueue: {type: 'fn:orders', payload: {n: '{{ payload.n }}'}}\n";
    site.write("manifests/a.yaml", &format!("{orders}---\n{relay}"));
    site.write(
        "manifests/bad.yaml",
        &format!("name: bad\n{SCHEMA}schedule: '@daily'\npayload: {{n: x}}\nexec: ['true']\n"),
    );

    let checked = site.cli(["check", "--offline"]).await;
    assert_eq!(checked.status.code(), Some(65), "{checked:?}");
    let place = checked.stdout.contains("manifests/bad.yaml:4:10: E154");
    assert!(place && checked.stdout.contains(FAULT), "{}", checked.stdout);
    assert!(!checked.stdout.contains("hunter2"));

    let enqueued = site.cli(["enqueue", "fn:orders", "--payload", BAD]).await;
    assert_eq!(enqueued.status.code(), Some(65), "{enqueued:?}");
    assert!(
        enqueued.stderr.contains(FAULT) && !enqueued.stderr.contains("hunter2"),
        "{enqueued:?}"
    );
    let good = site
        .cli(["enqueue", "fn:orders", "--payload", r#"{"n":1}"#, "--in", "1h"])
        .await
        .ok();
    let updated = site.cli(["task", "update", good.stdout.trim(), "--payload", BAD]).await;
    assert_eq!(updated.status.code(), Some(65), "{updated:?}");

    site.cli(["migrate"]).await.ok();
    let insert = format!(
        "INSERT INTO sys_crontab (name, type, spec, payload, status) VALUES ('r', 'fn:orders', '@daily', '{BAD}', 1)"
    );
    kit::SqlDb::file(&site.dir.join("data/runner.db"))
        .execute(&insert)
        .await;
    let checked = site.cli(["check"]).await;
    let place = format!("sys_crontab id 1: E154 db:1 does not fire: {FAULT}");
    assert!(checked.stdout.contains(&place), "{}", checked.stdout);

    let runner = site.start().await;
    let shown = site.cli(["ls", "schedules", "--json"]).await.json().to_string();
    assert!(shown.contains("E154"), "{shown}");
    assert_eq!(
        runner.log().matches("E154 db:1 does not fire").count(),
        1,
        "{}",
        runner.log()
    );
    let request = runner.http.request(Method::POST, "/hooks/orders").bearer_auth(TOKEN);
    let reply = runner.http.send(request.body(BAD)).await.unwrap();
    assert_eq!((reply.status, reply.json()["message"].as_str()), (422, Some(FAULT)));
    let relayed = site.cli(["enqueue", "fn:relay", "--payload", BAD]).await.ok();
    let error = ended(&site, relayed.stdout.trim()).await;
    assert!(error.contains(FAULT), "{error}");
    assert!(runner.stop().await.success());
}

/// The error of a task that must be archived after its first attempt.
async fn ended(site: &Site, id: &str) -> String {
    eventually_within(PATIENCE, "the task is archived", async || {
        let task = site.cli(["task", "show", id, "--json"]).await.json();
        match task["state"].as_str() {
            Some("archived") => {
                assert_eq!(task["attempts"].as_array().map(Vec::len), Some(1), "{task}");
                Ok(task["last_error"].as_str().unwrap_or_default().to_owned())
            }
            _ => Err(task.to_string()),
        }
    })
    .await
}

async fn a_task_that_got_past_the_doors_is_archived_before_it_runs() {
    let site = Site::new("");
    let function = "name: orders\nexec: [touch, ../ran]\nretry: 5\n";
    let handler = "name: echoes\nhandler: echo\nretry: 5\n";
    let both = |schema: &str| format!("{function}{schema}---\n{handler}{schema}");
    site.write("manifests/a.yaml", &both(""));
    let mut ids = Vec::new();
    for kind in ["fn:orders", "echo"] {
        ids.push(
            site.cli(["enqueue", kind, "--payload", BAD])
                .await
                .ok()
                .stdout
                .trim()
                .to_owned(),
        );
    }
    site.write("manifests/a.yaml", &both(SCHEMA));
    let runner = site.start().await;
    for id in ids {
        assert_eq!(ended(&site, &id).await, FAULT);
    }
    // A schema that is edited counts from then on.
    site.write(
        "manifests/a.yaml",
        &both("payload_schema: {type: object, properties: {n: {type: string}}}\n"),
    );
    eventually_within(PATIENCE, "the new schema is in force", async || {
        let id = site
            .cli(["enqueue", "echo", "--payload", BAD, "--retention", "1h"])
            .await
            .ok()
            .stdout;
        let task = eventually_within(PATIENCE, "the task has ended", async || {
            let task: Value = site.cli(["task", "show", id.trim(), "--json"]).await.json();
            match task["state"].as_str() {
                Some("completed" | "archived") => Ok(task),
                _ => Err(task.to_string()),
            }
        });
        match task.await["state"].as_str() {
            Some("completed") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert!(runner.stop().await.success());
}

async fn the_schema_of_one_function_counts_for_others_of_its_handler() {
    let site = Site::new("");
    site.write("manifests/a.yaml", &format!("name: one\nhandler: echo\n{SCHEMA}"));
    site.write(
        "manifests/b.yaml",
        &format!("name: two\nhandler: echo\nschedule: '@daily'\npayload: {BAD}\n"),
    );
    let checked = site.cli(["check", "--json"]).await;
    assert_eq!(checked.status.code(), Some(65), "{}", checked.stdout);
    let found: Value = serde_json::from_str(&checked.stdout).unwrap();
    let codes: Vec<&str> = found
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|f| f["code"].as_str())
        .collect();
    assert!(codes.contains(&"E154"), "{found:#}");
}
