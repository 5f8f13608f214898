//! Functions that follow others: the whole program, on the embedded broker and on Redis.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use crate::kit::{self, Site, eventually_within};

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): a_function_follows_another_and_both_pages_say_so,
            circles_are_named_and_the_rest_runs, any_failure_starts_the_function_that_reports_it,
            kills_in_a_file_neither_lose_nor_double_what_follows;
        needs(Redis): kills_on_redis_neither_lose_nor_double_what_follows;
    ]
}

const PATIENCE: Duration = Duration::from_secs(60);

const MANIFEST: &str = "name: import
exec: {command: [echo, '{\"rows\": 3}'], result: stdout}
retention: 1h
---
name: report
exec: [cat]
retention: 1h
triggers:
  - id: imported
    after: {function: import, payload: {rows: '{{ after.result.rows }}', by: '{{ after.id }}', day: '{{ after.payload.day }}'}}
---
name: alarm
exec: [cat]
retention: 1h
queue: low
triggers:
  - {id: failed, after: {function: broken, on: failure, payload: {why: '{{ after.error }}', outcome: '{{ after.outcome }}'}}}
---
name: broken
exec: ['false']
retry: 0
";

/// The task whose id begins with this text, once it has completed.
async fn completed(site: &Site, queue: &str, begins: &str) -> Value {
    eventually_within(PATIENCE, begins, async || {
        let listed = site
            .cli(["ls", "tasks", "--queue", queue, "--state", "completed", "--json"])
            .await;
        let all: Value = serde_json::from_str(&listed.stdout).unwrap_or_default();
        let found = all.as_array().cloned().unwrap_or_default().into_iter();
        let mut own = found.filter(|task| task["id"].as_str().is_some_and(|id| id.starts_with(begins)));
        own.next().ok_or_else(|| format!("{listed:?}"))
    })
    .await
}

async fn shown(site: &Site, id: &str, queue: &str) -> Value {
    site.cli(["task", "show", id, "--queue", queue, "--json"]).await.json()
}

async fn a_function_follows_another_and_both_pages_say_so() {
    let site = Site::new("worker: {queues: {default: 1, low: 1}}\n");
    site.write("manifests/a.yaml", MANIFEST);
    let runner = site.start().await;
    let arguments = ["enqueue", "fn:import", "--payload", r#"{"day":"mon"}"#, "--id", "i-1"];
    site.cli(arguments).await.ok();
    let task = completed(&site, "default", "report:imported@after-default-i-1-").await;
    let id = task["id"].as_str().unwrap().to_owned();
    let task = shown(&site, &id, "default").await;
    let payload: Value =
        serde_json::from_str(task["payload"].as_str().unwrap_or_default()).unwrap_or(task["payload"].clone());
    assert_eq!(
        payload,
        serde_json::json!({"rows": 3, "by": "i-1", "day": "mon"}),
        "{task}"
    );
    assert_eq!(task["headers"]["runner-after"], "default/i-1");
    assert_eq!(
        (&task["trigger"], &task["event"]),
        (&"after".into(), &"import".into()),
        "{task}"
    );
    let listed = site.cli(["runs", "report"]).await.ok().stdout;
    assert!(listed.contains("  after import  "), "{listed}");
    let page = runner
        .http
        .get(&format!("/queue/tasks/default/{}", id.replace(':', "%3A")))
        .await
        .body;
    assert!(page.contains("after <code>import</code>"), "{page}");
    // Each names the other.
    let before = shown(&site, "i-1", "default").await.to_string();
    assert!(
        before.contains(&format!("started fn:report {id} in queue default")),
        "{before}"
    );
    let page = runner.http.get(&format!("/queue/tasks/default/{id}")).await.body;
    assert!(
        page.contains("Started after") && page.contains("/queue/tasks/default/i-1"),
        "{page}"
    );

    site.cli(["enqueue", "fn:broken", "--id", "b-1"]).await.ok();
    let task = completed(&site, "low", "alarm:failed@after-default-b-1-").await;
    let task = shown(&site, task["id"].as_str().unwrap(), "low").await.to_string();
    assert!(task.contains("failure") && task.contains("exit"), "{task}");

    let triggers = site.cli(["ls", "triggers"]).await.ok().stdout;
    assert!(
        triggers.contains("success of import") && triggers.contains("failure of broken"),
        "{triggers}"
    );
    assert!(runner.stop().await.success());
}

async fn any_failure_starts_the_function_that_reports_it() {
    let site = Site::new("");
    let text = "name: tell\nexec: [cat]\nretention: 1h\ntriggers:\n  - id: any\n    after:\n      function: '*'\n      \
                on: failure\n      payload: {text: '{{ after.function }}: {{ after.error }}'}\n---\nname: one\nexec: ['false']\n\
                retry: 0\n---\nname: two\nexec: [sh, -c, 'exit 3']\nretry: 0\n---\nname: fine\nexec: ['true']\n";
    site.write("manifests/a.yaml", text);
    let runner = site.start().await;
    for function in ["fn:fine", "fn:one", "fn:two"] {
        let id = function.replace("fn:", "t-");
        site.cli(["enqueue", function, "--id", &id]).await.ok();
    }
    for (task, said) in [("one", "one: exit code 1"), ("two", "two: exit code 3")] {
        let report = completed(&site, "default", &format!("tell:any@after-default-t-{task}-")).await;
        let report = shown(&site, report["id"].as_str().unwrap(), "default")
            .await
            .to_string();
        assert!(report.contains(said), "{report}");
    }
    let all = site.cli(["ls", "tasks", "--type", "fn:tell", "--json"]).await.json();
    assert_eq!(all.as_array().map(Vec::len), Some(2), "{all:#}");
    assert!(runner.stop().await.success());
}

async fn circles_are_named_and_the_rest_runs() {
    let site = Site::new("");
    let follows = |name: &str, other: &str| {
        format!("name: {name}\nhandler: {name}\ntriggers: [{{id: x, after: {{function: {other}}}}}]\n")
    };
    for (name, other) in [("a", "c"), ("b", "a"), ("c", "b"), ("d", "a"), ("e", "gone")] {
        site.write(&format!("manifests/{name}.yaml"), &follows(name, other));
    }
    let checked = site.cli(["check", "--offline"]).await;
    assert_eq!(checked.status.code(), Some(65), "{checked:?}");
    let text = "manifests/a.yaml:3: E148 functions start each other in a circle: c, then a, then b, then c; not in force: a:x, b:x, c:x";
    assert!(checked.stdout.contains(text), "{}", checked.stdout);
    assert_eq!(checked.stdout.matches("E148").count(), 1, "{}", checked.stdout);
    assert!(
        checked.stdout.contains("W218 e:x follows the function \"gone\""),
        "{}",
        checked.stdout
    );
    let listed = site.cli(["ls", "triggers", "--json"]).await.json();
    let ids: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|t| t["id"].as_str())
        .collect();
    assert_eq!(ids, ["d:x", "e:x"]);
    // A file by itself may follow functions of the others.
    let one = site.cli(["check", "--offline", "manifests/d.yaml"]).await.ok();
    assert!(!one.stdout.contains("W218"), "{}", one.stdout);
    // The log has the circle once, and its end.
    let runner = site.start().await;
    logged(&runner, "E148").await;
    site.write("manifests/c.yaml", "name: c\nhandler: c\nschedule: '@daily'\n");
    let log = logged(&runner, "a problem is gone").await;
    assert_eq!(log.matches("not in force: a:x").count(), 2, "{log}");
    assert!(runner.stop().await.success());
}

/// The log, once it has this text.
async fn logged(runner: &kit::Runner, text: &str) -> String {
    eventually_within(PATIENCE, text, async || {
        let log = runner.log();
        log.contains(text).then_some(log.clone()).ok_or(log)
    })
    .await
}

async fn kills_in_a_file_neither_lose_nor_double_what_follows() {
    kills_neither_lose_nor_double("").await;
}

async fn kills_on_redis_neither_lose_nor_double_what_follows() {
    let db = kit::redis().fresh_db();
    kills_neither_lose_nor_double(&db.yaml()).await;
}

/// Tasks of a first function, each followed by one, while the program is killed again and again.
async fn kills_neither_lose_nor_double(broker: &str) {
    const TASKS: usize = 120;
    let site = Site::new(&format!(
        "{broker}worker: {{concurrency: 2, lease: 3s, poison_after: 0}}\n"
    ));
    let text = "name: first\nexec: [sh, -c, 'exit 0']\nretry: 50\n---\nname: next\nhandler: echo\nretry: 50\nretention: 1h\ntriggers: [{id: x, after: {function: first}}]\n";
    site.write("manifests/a.yaml", text);
    for n in 0..TASKS {
        site.cli(["enqueue", "fn:first", "--id", &format!("t{n}")]).await.ok();
    }
    let mut kills = 0;
    loop {
        let runner = site.start().await;
        let before = distinct(&site).await;
        let now = eventually_within(PATIENCE, "it continues", async || {
            let now = distinct(&site).await;
            if now >= TASKS || now > before {
                return Ok(now);
            }
            Err(format!("{now} of {TASKS}\n{}", runner.child.tail()))
        })
        .await;
        // Even if it has begun to do more: each start does at least one.
        runner.child.kill9();
        kills += 1;
        if now >= TASKS {
            break;
        }
    }
    let mut all = followed(&site).await;
    all.sort();
    let before = all.len();
    all.dedup();
    let missing: Vec<String> = (0..TASKS)
        .map(|n| format!("t{n}"))
        .filter(|id| !all.contains(id))
        .collect();
    assert_eq!((before, missing), (TASKS, Vec::new()), "after {kills} kills");
}

/// How many first tasks are followed; a task that moves while this looks may be listed twice.
async fn distinct(site: &Site) -> usize {
    let all: BTreeSet<String> = followed(site).await.into_iter().collect();
    all.len()
}

/// The first tasks that are followed by one, in any state.
async fn followed(site: &Site) -> Vec<String> {
    let mut all = Vec::new();
    for state in ["pending", "active", "scheduled", "retry", "archived", "completed"] {
        let listed = site
            .cli(["ls", "tasks", "--state", state, "--size", "1000", "--json"])
            .await;
        let rows: Value = listed.json();
        for row in rows.as_array().into_iter().flatten() {
            let id = row["id"].as_str().unwrap_or_default();
            if let Some(name) = id.strip_prefix("next:x@after-default-") {
                let (name, _run) = name.rsplit_once('-').unwrap_or_default();
                all.push(name.to_owned());
            }
        }
    }
    all
}
