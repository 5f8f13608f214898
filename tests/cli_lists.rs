//! Commands about whole lists and queues: `task … --all`, `task update`, `queue rm`, `queue history`, the next fires in `ls
//! schedules`, and that `bench` leaves nothing behind.

use std::sync::Arc;

use jiff::{Timestamp, ToSpan as _};
use runner_core::clock::ManualClock;
use runner_core::schedule::ScheduleId;
use runner_core::task::Task;
use runner_queue::embedded::EmbeddedBroker;
use runner_queue::{Broker as _, Producer as _, Registration, Schedules as _};
use serde_json::json;

use crate::cli::{fails, json, prints};
use crate::kit::{self, Site};

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): a_whole_list_is_acted_on, a_whole_list_is_acted_on_only_when_it_is_meant, a_payload_is_replaced,
            one_group_is_acted_on, a_queue_is_removed, the_history_of_a_queue_is_printed, a_measurement_leaves_nothing_behind,
            decided_and_paused_occurrences_do_not_come_next, what_commands_did_is_listed, an_unclaimed_type_is_listed;
        needs(Redis): lists_and_queues_in_redis;
    ]
}

async fn a_whole_list_is_acted_on() {
    acts_on_lists(&Site::new("")).await;
}

async fn lists_and_queues_in_redis() {
    let db = kit::redis().fresh_db();
    let site = Site::new(&db.yaml());
    acts_on_lists(&site).await;
    removes(&site).await;
    groups(&site).await;
}

async fn what_commands_did_is_listed() {
    let site = Site::new("");
    prints(&site, &["enqueue", "t", "--queue", "low", "--id", "a"]).await;
    prints(&site, &["queue", "pause", "low"]).await;
    prints(&site, &["task", "delete", "a"]).await;
    let all = json(&site, &["ls", "audit", "--json"]).await;
    let actions: Vec<&str> = all
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|e| e["action"].as_str())
        .collect();
    assert_eq!(actions, ["task.delete", "queue.pause"], "{all}");
    let some = prints(&site, &["ls", "audit", "--target", "LOW", "--action", "queue."]).await;
    assert!(some.contains("queue.pause") && !some.contains("task.delete"), "{some}");
    assert!(some.contains("is paused"), "{some}");
}

async fn counts(site: &Site, state: &str) -> serde_json::Value {
    let queues = json(site, &["ls", "queues", "--json"]).await;
    let low = queues.as_array().expect("queues").iter().find(|q| q["name"] == "low");
    low.expect("the queue")["counts"][state].clone()
}

async fn acts_on_lists(site: &Site) {
    for id in ["a", "b", "c"] {
        prints(site, &["enqueue", "t", "--queue", "low", "--id", id]).await;
    }
    let all = ["--all", "--queue", "low", "--yes", "--state"];
    let act = |verb: &'static str, state: &'static str| [&["task", verb][..], &all[..], &[state][..]].concat();
    assert_eq!(prints(site, &act("archive", "pending")).await, "3 tasks archived\n");
    prints(site, &["task", "delete", "b"]).await;
    let done = json(site, &[&act("run", "archived")[..], &["--json"]].concat()).await;
    let expected = json!({"queue": "low", "state": "archived", "done": "run", "tasks": 2});
    assert_eq!(done, expected);
    assert_eq!(counts(site, "pending").await, json!(2));
    assert_eq!(prints(site, &act("delete", "scheduled")).await, "0 tasks deleted\n");
    assert_eq!(prints(site, &act("delete", "pending")).await, "2 tasks deleted\n");
    assert_eq!(counts(site, "pending").await, json!(0));
}

async fn a_whole_list_is_acted_on_only_when_it_is_meant() {
    let site = Site::new("");
    prints(&site, &["enqueue", "t", "--queue", "low", "--id", "a"]).await;
    let list = ["--all", "--queue", "low", "--state"];
    let delete = |more: &[&'static str]| [&["task", "delete"][..], more].concat();
    // Without a terminal there is no confirmation.
    let error = fails(&site, &[&delete(&list)[..], &["pending"]].concat(), 2).await;
    assert!(error.contains("--yes"), "{error}");
    // An unsupported list is refused before anything is opened.
    let error = fails(&site, &[&delete(&list)[..], &["active", "--yes"]].concat(), 2).await;
    assert!(error.contains("active cannot be deleted"), "{error}");
    fails(&site, &delete(&["--all", "--yes", "--state", "pending"]), 2).await;
    fails(&site, &delete(&["--all", "--yes", "--queue", "low"]), 2).await;
    fails(
        &site,
        &delete(&["a", "--all", "--queue", "low", "--state", "pending"]),
        2,
    )
    .await;
    fails(&site, &delete(&["a", "--yes"]), 2).await;
    fails(&site, &delete(&[]), 2).await;
    let unknown = ["--all", "--queue", "nope", "--state", "pending", "--yes"];
    let error = fails(&site, &delete(&unknown), 1).await;
    assert!(error.contains("no queue nope"), "{error}");
    assert_eq!(counts(&site, "pending").await, json!(1));
}

async fn one_group_is_acted_on() {
    groups(&Site::new("")).await;
}

async fn groups(site: &Site) {
    for (id, group) in [("a", "x"), ("b", "y"), ("c", "x")] {
        prints(site, &["enqueue", "t", "--id", id, "--group", group]).await;
    }
    let listed = prints(site, &["queue", "groups", "default"]).await;
    assert!(listed.starts_with("GROUP  TASKS\nx      2\ny      1\n"), "{listed:?}");
    let tasks = json(site, &["ls", "tasks", "--group", "x", "--json"]).await;
    let ids: Vec<_> = tasks.as_array().unwrap().iter().map(|task| &task["id"]).collect();
    assert_eq!(ids, ["a", "c"]);
    let all = ["--all", "--queue", "default", "--yes", "--group"];
    let act = |verb: &'static str, group: &'static str| [&["task", verb][..], &all[..], &[group][..]].concat();
    let done = json(site, &[&act("run", "x")[..], &["--json"]].concat()).await;
    let expected = json!({"queue": "default", "state": "aggregating", "group": "x", "done": "run", "tasks": 2});
    assert_eq!(done, expected);
    assert_eq!(prints(site, &act("archive", "y")).await, "1 task archived\n");
    assert_eq!(prints(site, &act("delete", "unknown")).await, "0 tasks deleted\n");
    assert_eq!(json(site, &["queue", "groups", "default", "--json"]).await, json!([]));
    fails(site, &[&act("run", "x")[..], &["--state", "aggregating"]].concat(), 2).await;
    fails(site, &["ls", "tasks", "--group", "x", "--state", "pending"], 2).await;
    fails(site, &["queue", "groups", "nope"], 1).await;
}

async fn a_payload_is_replaced() {
    let site = Site::new("");
    let old = ["--payload", r#"{"n":1}"#];
    prints(
        &site,
        &[&["enqueue", "t", "--id", "a", "--in", "1h"][..], &old].concat(),
    )
    .await;
    prints(&site, &["task", "update", "a", "--payload", r#"{"n":2}"#]).await;
    let task = json(&site, &["task", "show", "a", "--json"]).await;
    assert_eq!(
        (&task["payload"], &task["state"]),
        (&json!({"n": 2}), &json!("scheduled"))
    );
    fails(&site, &["task", "update", "a", "--payload", "{"], 65).await;
    fails(&site, &["task", "update", "a"], 2).await;
    fails(&site, &["task", "update", "a", "--raw"], 2).await;
    fails(
        &site,
        &["task", "update", "a", "--payload", "1", "--payload-file", "p"],
        2,
    )
    .await;
    std::fs::write(site.dir.join("p"), b"\x81\xa1a\x01\n").expect("a file");
    let error = fails(&site, &["task", "update", "a", "--payload-file", "p"], 65).await;
    assert!(
        error.contains("p: the payload is not JSON") && error.contains("--raw"),
        "{error}"
    );
    prints(&site, &["task", "update", "a", "--payload-file", "p", "--raw"]).await;
    let task = json(&site, &["task", "show", "a", "--json"]).await;
    assert_eq!(task["payload"], json!({"base64": "gaFhAQo="}));
    fails(&site, &["task", "update", "b", "--payload", "1"], 1).await;
    prints(&site, &["task", "run", "a"]).await;
    let error = fails(&site, &["task", "update", "a", "--payload", "3"], 1).await;
    assert!(error.contains("pending") && error.contains("edited"), "{error}");
}

async fn a_queue_is_removed() {
    removes(&Site::new("")).await;
}

async fn removes(site: &Site) {
    for id in ["a", "b"] {
        prints(site, &["enqueue", "t", "--queue", "low", "--id", id]).await;
    }
    let error = fails(site, &["queue", "rm", "low"], 1).await;
    assert!(error.contains("2 tasks") && error.contains("--force"), "{error}");
    assert_eq!(counts(site, "pending").await, json!(2));
    let line = prints(site, &["queue", "rm", "low", "--force"]).await;
    assert_eq!(line, "low is removed, with 2 tasks\n");
    assert_eq!(json(site, &["ls", "queues", "--json"]).await, json!([]));
    let error = fails(site, &["queue", "rm", "low", "--force"], 1).await;
    assert!(error.contains("no queue low"), "{error}");
    prints(site, &["enqueue", "t", "--queue", "low", "--id", "a"]).await;
    let removed = json(site, &["queue", "rm", "low", "--force", "--json"]).await;
    assert_eq!(removed, json!({"queue": "low", "tasks": 1}));
}

async fn the_history_of_a_queue_is_printed() {
    let site = Site::new("");
    prints(&site, &["enqueue", "t"]).await;
    let days = json(&site, &["queue", "history", "default", "--days", "3", "--json"]).await;
    assert_eq!(days.as_array().map(Vec::len), Some(3), "{days}");
    assert_eq!((&days[2]["processed"], &days[2]["failed"]), (&json!(0), &json!(0)));
    let text = prints(&site, &["queue", "history", "default"]).await;
    assert_eq!(text.lines().count(), 8, "{text}");
    for days in ["0", "91"] {
        fails(&site, &["queue", "history", "default", "--days", days], 2).await;
    }
    fails(&site, &["queue", "history", "nope"], 1).await;
}

async fn a_measurement_leaves_nothing_behind() {
    let site = Site::new("");
    let figures = json(&site, &["bench", "latency", "--tasks", "100", "--json"]).await;
    assert_eq!(
        figures.as_array().map(Vec::len),
        Some(2),
        "too few for a p99: {figures}"
    );
    assert_eq!(figures[0]["samples"], 20, "{figures}");
    assert_eq!(json(&site, &["ls", "queues", "--json"]).await, json!([]));
    let compared = [
        "bench",
        "enqueue",
        "--ceiling",
        "--rounds",
        "1",
        "--tasks",
        "100",
        "--json",
    ];
    let figures = json(&site, &compared).await;
    assert_eq!(figures.as_array().map(Vec::len), Some(2), "{figures}");
    for figure in figures.as_array().into_iter().flatten() {
        let number = |field: &str| figure[field].as_f64().unwrap_or(0.0);
        assert!(number("value") > 0.0 && number("ceiling") > 0.0, "{figure}");
        assert!(
            (number("ratio") - number("value") / number("ceiling")).abs() < 1e-6,
            "{figure}"
        );
    }
    assert_eq!(json(&site, &["ls", "queues", "--json"]).await, json!([]));
}

/// Registers the schedule at this instant of the broker's clock: every occurrence up to there counts as decided.
async fn decide_up_to(site: &Site, id: &ScheduleId, cursor: Timestamp) -> EmbeddedBroker {
    let clock = Arc::new(ManualClock::at(cursor));
    let broker = EmbeddedBroker::open(site.dir.join("data/runner.db"), clock)
        .await
        .expect("the store");
    let registration = Registration {
        id: id.clone(),
        revision: "1".to_owned(),
    };
    broker.register(&[registration]).await.expect("it is known");
    broker
}

async fn decided_and_paused_occurrences_do_not_come_next() {
    let site = Site::new("");
    for name in ["often", "wrong"] {
        site.write(
            &format!("manifests/{name}.yaml"),
            &format!("name: {name}\nschedule: \"* * * * * *\"\nhandler: t\n"),
        );
    }
    prints(&site, &["migrate"]).await;
    let id = ScheduleId::from_text("m:often:default".to_owned());
    let wrong = ScheduleId::from_text("m:wrong:default".to_owned());
    let began = Timestamp::now();
    decide_up_to(&site, &wrong, began + 10.hours()).await.close().await;
    // As far ahead as a plausible cursor may be, less a margin for the test.
    let cursor = began + 50.seconds();
    let broker = decide_up_to(&site, &id, cursor).await;
    let listed = json(&site, &["ls", "schedules", "--json", "--next", "1"]).await;
    let next = |id: &ScheduleId| -> Timestamp {
        let schedules = listed.as_array().expect("schedules");
        let found = schedules.iter().find(|s| s["id"] == json!(id)).expect("the schedule");
        let at = found["next"][0].as_str().expect("an instant");
        at.parse().expect("an instant")
    };
    assert!(next(&id) > cursor, "{listed}");
    assert!(
        next(&wrong) < began + 10.hours(),
        "a cursor from a wrong clock does not count: {listed}"
    );
    broker
        .pause_schedule(&id, &runner_queue::Pause::by("me"))
        .await
        .expect("it is paused");
    let table = prints(&site, &["ls", "schedules"]).await;
    let row = table.lines().nth(1).expect("a row");
    let cells: Vec<&str> = row.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
    assert_eq!(cells[cells.len() - 3..], ["paused", "-", "-"], "{table}");
}

async fn an_unclaimed_type_is_listed() {
    let site = Site::new("");
    prints(&site, &["enqueue", "echo"]).await;
    let text = prints(&site, &["ls", "queues"]).await;
    assert!(!text.contains("No worker takes"), "{text}");
    let long_ago: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
    let clock = Arc::new(ManualClock::at(long_ago));
    let broker = EmbeddedBroker::open(site.dir.join("data/runner.db"), clock)
        .await
        .unwrap();
    let odd = Task::new("task:odd").queue("low");
    broker.enqueue(&[odd]).await.unwrap().remove(0).unwrap();
    broker.close().await;
    let text = prints(&site, &["ls", "queues"]).await;
    assert!(text.contains("No worker takes these"), "{text}");
    assert!(text.contains("task:odd  low    1"), "{text}");
    let queues = json(&site, &["ls", "queues", "--json"]).await;
    let low = queues.as_array().unwrap().iter().find(|q| q["name"] == "low").unwrap();
    assert_eq!(low["unclaimed"][0]["type"], "task:odd");
    assert_eq!(low["unclaimed"][0]["count"], 1);
}
