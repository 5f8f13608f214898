//! Trace context: one trace from a caller through tasks, attempts and what functions enqueue, without a receiver of spans.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use crate::kit::{self, Site, eventually_within};

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): a_trace_goes_from_the_caller_to_every_function, an_occurrence_begins_a_trace;
    ]
}

const PATIENCE: Duration = Duration::from_secs(30);

const TOKEN: &str = "a token of sixteen bytes or more";

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

const MANIFESTS: &str = "name: first
enqueue: {type: 'fn:second', retention: 1h}
retention: 1h
triggers:
  - id: in
    webhook: {token: '${file:token}'}
---
name: second
exec:
  command: ['sh', '-c', 'echo $TRACEPARENT; PROGRAM -c config.yaml enqueue echo --id third --retention 1h']
  cwd: SITE
retention: 1h
---
name: fourth
exec: {command: ['sh', '-c', 'echo $TRACEPARENT'], result: stdout}
retention: 1h
triggers:
  - id: next
    after: {function: second}
";

/// The completed task of a type.
async fn completed(site: &Site, kind: &str, log: impl Fn() -> String) -> Value {
    eventually_within(PATIENCE, kind, async || {
        let listed = site.cli(["ls", "tasks", "--state", "completed", "--json"]).await.json();
        let own = listed
            .as_array()
            .into_iter()
            .flatten()
            .find(|task| task["type"] == kind);
        let id = own.and_then(|task| task["id"].as_str()).ok_or_else(&log)?;
        Ok::<_, String>(site.cli(["task", "show", id, "--json"]).await.json())
    })
    .await
}

/// The span in a `traceparent` of the trace.
fn span(text: &str) -> String {
    let parts: Vec<&str> = text.trim().split('-').collect();
    assert_eq!((parts.len(), parts[1]), (4, TRACE), "{text}");
    parts[2].to_owned()
}

async fn a_trace_goes_from_the_caller_to_every_function() {
    let site = Site::new("");
    site.write("token", TOKEN);
    let manifests = MANIFESTS.replace("PROGRAM", env!("CARGO_BIN_EXE_runner"));
    let manifests = manifests.replace("SITE", &site.dir.display().to_string());
    site.write("manifests/all.yaml", &manifests);
    let runner = site.start().await;
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let call = runner
        .http
        .request(Method::POST, "/hooks/first")
        .bearer_auth(TOKEN)
        .body("{}");
    let call = call.header("traceparent", &parent).header("tracestate", "vendor=1");
    assert_eq!(runner.http.send(call).await.unwrap().status, 202);
    let first = completed(&site, "fn:first", || runner.log()).await;
    assert_eq!(
        (&first["headers"]["traceparent"], &first["trace_id"]),
        (&parent.as_str().into(), &TRACE.into())
    );
    let second = completed(&site, "fn:second", || runner.log()).await;
    assert_eq!(second["headers"]["tracestate"], "vendor=1");
    let enqueued_in = span(second["headers"]["traceparent"].as_str().unwrap());
    assert_ne!(enqueued_in, "00f067aa0ba902b7", "within the attempt, not beside it");
    let log = second["attempts"][0]["log"].as_str().unwrap();
    let line = log.lines().find(|line| line.contains(TRACE)).unwrap();
    let attempt = span(line.rsplit(' ').next().unwrap());
    assert_ne!(attempt, enqueued_in);
    // What a command enqueued by the program, and what follows: within the attempt that did it.
    let third = site.cli(["task", "show", "third", "--json"]).await.json();
    let fourth = completed(&site, "fn:fourth", || runner.log()).await;
    for later in [&third, &fourth] {
        assert_eq!(span(later["headers"]["traceparent"].as_str().unwrap()), attempt);
    }
    let runs = site.cli(["runs", "fourth", "--json"]).await.json();
    assert_eq!(runs[0]["trace_id"], TRACE);
    let page = runner
        .http
        .get(&format!("/queue/tasks/default/{}", fourth["id"].as_str().unwrap()))
        .await;
    assert!(page.body.contains(TRACE), "{}", page.body);
    let lines = runner
        .log()
        .lines()
        .filter(|line| line.contains(&format!("trace_id={TRACE}")))
        .count();
    assert!(lines >= 4, "{}", runner.log());
    assert!(runner.stop().await.success());
}

async fn an_occurrence_begins_a_trace() {
    let site = Site::new("");
    let text = "name: tick\nexec: {command: ['sh', '-c', 'echo $TRACEPARENT'], result: stdout}\nretention: 1h\nschedule: '@every 1s'\n";
    site.write("manifests/tick.yaml", text);
    let runner = site.start().await;
    let all = eventually_within(PATIENCE, "three runs", async || {
        let runs = site.cli(["runs", "tick", "--json"]).await.json();
        let traces: Vec<String> = runs
            .as_array()
            .into_iter()
            .flatten()
            .map(|run| run["trace_id"].as_str().unwrap_or_default().to_owned())
            .collect();
        if traces.len() >= 3 {
            Ok(traces)
        } else {
            Err(runner.log())
        }
    })
    .await;
    let mut different = all.clone();
    different.sort();
    different.dedup();
    assert_eq!(different.len(), all.len(), "each has its own: {all:?}");
    assert!(all.iter().all(|trace| trace.len() == 32), "{all:?}");
    assert!(runner.stop().await.success());
}
