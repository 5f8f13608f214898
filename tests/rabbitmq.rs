//! Triggers of RabbitMQ: the whole program beside a real server.

use std::time::Duration;

use lapin::BasicProperties;
use lapin::options::QueueDeleteOptions;
use lapin::types::FieldTable;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::kit::{self, RabbitServer, Runner, Site, eventually_within, queue_name, rabbitmq};

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(RabbitMq): each_message_becomes_one_task, a_bad_message_holds_up_no_other,
            an_edit_starts_changes_and_stops_triggers, a_trigger_returns_when_its_queue_or_server_does,
            no_message_is_lost_or_doubled_when_both_are_killed, a_frozen_server_is_reported_and_nothing_is_lost;
    ]
}

/// Longer than the longest pause between two attempts, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// A function that keeps its tasks, with a trigger on this queue.
fn manifest(queue: &str, more: &str) -> String {
    format!(
        "name: orders\nhandler: echo\nretention: 1h\ntriggers:\n  - id: new\n    rabbitmq:\n      queue: {queue}\n{more}"
    )
}

/// The finished tasks, sorted by id.
async fn finished(site: &Site) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for page in 1.. {
        let page = page.to_string();
        let query = [
            "ls",
            "tasks",
            "--state",
            "completed",
            "--size",
            "1000",
            "--json",
            "--page",
            &page,
        ];
        let listed = site.cli(query).await.json();
        let tasks = listed.as_array().cloned().unwrap_or_default();
        all.extend(tasks.iter().filter_map(|task| task["id"].as_str().map(str::to_owned)));
        if tasks.len() < 1000 {
            break;
        }
    }
    all.sort();
    all
}

/// The finished tasks, once there are this many.
async fn until_finished(site: &Site, runner: &Runner, count: usize) -> Vec<String> {
    eventually_within(PATIENCE * 2, "the tasks are finished", async || {
        let queues = site.cli(["ls", "queues", "--json"]).await.json();
        match queues[0]["counts"]["completed"].as_u64().unwrap_or_default() {
            found if found >= count as u64 => Ok(()),
            found => Err(format!("{found} of {count}\n{}", runner.child.tail())),
        }
    })
    .await;
    let all = finished(site).await;
    assert_eq!(all.len(), count, "{all:?}");
    all
}

/// What `runner ls triggers` says of the trigger, once it fits.
async fn until_state(site: &Site, runner: &Runner, fits: impl Fn(&Value) -> bool) -> Value {
    eventually_within(PATIENCE, "the state of the trigger", async || {
        let listed = site.cli(["ls", "triggers", "--json"]).await.json();
        match &listed[0]["instances"][0] {
            state if fits(state) => Ok(state.clone()),
            state => Err(format!("{state}\n{}", runner.child.tail())),
        }
    })
    .await
}

async fn each_message_becomes_one_task() {
    let (server, queue) = (rabbitmq(), queue_name("orders"));
    let client = server.channel().await;
    client.queue(&queue, FieldTable::default()).await;
    client.publish(&queue, Some("a"), br#"{"n":1}"#).await;
    let site = Site::new(&server.yaml());
    site.write("manifests/orders.yaml", &manifest(&queue, ""));
    let runner = site.start().await;
    client.publish(&queue, Some("b"), br#"{"n":2}"#).await;
    client.publish(&queue, Some("a"), br#"{"n":3}"#).await;
    client.publish(&queue, None, br#"{"n":4}"#).await;
    let all = until_finished(&site, &runner, 3).await;
    let (named, unnamed): (Vec<&String>, Vec<&String>) = all.iter().partition(|id| id.contains("@msg-"));
    assert_eq!(named, ["orders:new@msg-a", "orders:new@msg-b"]);
    assert!(unnamed[0].starts_with("orders:new@"), "{unnamed:?}");
    let task = site.cli(["task", "show", "orders:new@msg-a", "--json"]).await.json();
    assert_eq!(
        (&task["trigger"], &task["event"]),
        (&"rabbitmq".into(), &queue.as_str().into()),
        "{task}"
    );
    let state = until_state(&site, &runner, |state| state["repeated"] == 1).await;
    assert_eq!((&state["state"], &state["enqueued"]), (&"listening".into(), &3.into()));
    let page = runner.http.get("/queue").await.body;
    assert!(page.contains("orders:new"), "the first page shows triggers");
    let metrics = runner.http.get("/metrics").await.body;
    let line = r#"runner_trigger_messages_total{trigger="orders:new",outcome="enqueued"} 3"#;
    assert!(metrics.contains(line), "{metrics}");
    assert!(runner.stop().await.success());
    assert_eq!(client.ready(&queue).await, 0, "all are acknowledged");
}

async fn a_bad_message_holds_up_no_other() {
    let (server, queue) = (rabbitmq(), queue_name("bad"));
    let client = server.channel().await;
    let site = Site::new(&server.yaml());
    let more = "      declare: create\n      dedupe: '{{ message.headers.id }}'\n";
    site.write("manifests/orders.yaml", &manifest(&queue, more));
    let runner = site.start().await;
    until_state(&site, &runner, |state| state["state"] == "listening").await;
    let mut headers = FieldTable::default();
    headers.insert("id".into(), lapin::types::AMQPValue::LongString("h".into()));
    let good = || BasicProperties::default().with_headers(headers.clone());
    assert!(client.send("", &queue, good(), b"no json").await);
    assert!(client.send("", &queue, BasicProperties::default(), b"{}").await);
    assert!(client.send("", &queue, good(), b"{}").await);
    let all = until_finished(&site, &runner, 1).await;
    assert_eq!(all, ["orders:new@msg-h"]);
    let state = until_state(&site, &runner, |state| state["bad"] == 2).await;
    let why = state["last_bad"][1].as_str().unwrap_or_default().to_owned();
    assert_eq!(why, "dedupe: message.headers.id has no value");
    eventually_within(PATIENCE, "both are dead", async || {
        match client.ready(&format!("{queue}.dead")).await {
            2 => Ok(()),
            other => Err(format!("{other} dead")),
        }
    })
    .await;
    // A queue of another program: kept here and acknowledged.
    let other = queue_name("kept");
    client.queue(&other, FieldTable::default()).await;
    site.write("manifests/orders.yaml", &manifest(&other, ""));
    let named = good()
        .with_message_id("x".into())
        .with_content_type("text/plain".into());
    assert!(client.send("", &other, named, b"no json").await);
    client.publish(&other, Some("y"), b"{}").await;
    until_finished(&site, &runner, 2).await;
    let kept = site.cli(["ls", "bad-messages", "orders:new", "--json"]).await.json();
    assert_eq!(
        (&kept[0]["body"], kept[0]["bytes"].as_u64()),
        (&"no json".into(), Some(7)),
        "{kept}"
    );
    assert_eq!(
        (
            &kept[0]["headers"]["id"],
            &kept[0]["content_type"],
            &kept[0]["message_id"]
        ),
        (&"h".into(), &"text/plain".into(), &"x".into()),
        "{kept}"
    );
    let page = runner.http.get("/queue/bad-messages?trigger=orders:new").await.body;
    assert!(
        page.contains("no json") && page.contains("the body is not JSON"),
        "{page}"
    );
    let first = runner.http.get("/queue").await.body;
    assert!(first.contains("/queue/bad-messages?trigger=orders%3Anew"), "{first}");
    let listed = site.cli(["ls", "bad-messages"]).await.ok().stdout;
    assert!(
        listed.contains("orders:new") && listed.contains("the body is not JSON"),
        "{listed}"
    );
    assert!(!listed.contains("no json"), "the content may be secret: {listed}");
    let none = site.cli(["ls", "bad-messages", "other:new", "--json"]).await.json();
    assert_eq!(none, Value::Array(Vec::new()));
    assert!(runner.stop().await.success());
    assert_eq!(client.ready(&other).await, 0, "the bad one is acknowledged");
}

async fn an_edit_starts_changes_and_stops_triggers() {
    let server = rabbitmq();
    let queues = [queue_name("edit"), queue_name("edit")];
    let client = server.channel().await;
    for queue in &queues {
        client.queue(queue, FieldTable::default()).await;
        client.publish(queue, Some(queue), b"{}").await;
    }
    let site = Site::new(&server.yaml());
    let runner = site.start().await;
    site.write("manifests/orders.yaml", &manifest(&queues[0], ""));
    until_finished(&site, &runner, 1).await;
    site.write("manifests/orders.yaml", &manifest(&queues[1], "      prefetch: 3\n"));
    until_finished(&site, &runner, 2).await;
    // The first queue has no consumer any more, and neither has the second once its function is disabled.
    client.publish(&queues[0], Some("late"), b"{}").await;
    site.write(
        "manifests/orders.yaml",
        &(manifest(&queues[1], "") + "enabled: false\n"),
    );
    until_state(&site, &runner, |state| state["state"] == "disabled").await;
    eventually_within(PATIENCE, "the consumer has stopped", async || {
        match client.consumers(&queues[1]).await {
            0 => Ok(()),
            count => Err(count),
        }
    })
    .await;
    client.publish(&queues[1], Some("late"), b"{}").await;
    assert_eq!(client.ready(&queues[0]).await, 1);
    assert_eq!(client.ready(&queues[1]).await, 1);
    site.write("manifests/orders.yaml", &manifest(&queues[1], ""));
    until_finished(&site, &runner, 3).await;
    site.remove("manifests/orders.yaml");
    assert!(runner.stop().await.success());
    assert_eq!(client.ready(&queues[0]).await, 1, "nothing is lost with its trigger");
}

async fn a_trigger_returns_when_its_queue_or_server_does() {
    let mut server = RabbitServer::start();
    let queue = queue_name("returns");
    let client = server.channel().await;
    client.queue(&queue, FieldTable::default()).await;
    let site = Site::new(&server.yaml());
    site.write("manifests/orders.yaml", &manifest(&queue, ""));
    let runner = site.start().await;
    until_state(&site, &runner, |state| state["state"] == "listening").await;
    let deleted = client
        .channel
        .queue_delete(queue.as_str().into(), QueueDeleteOptions::default());
    deleted.await.expect("a queue that can be deleted");
    let fault = until_state(&site, &runner, |state| state["fault"].is_object()).await;
    let code = fault["fault"]["code"].as_str().unwrap_or_default().to_owned();
    assert!(
        ["amqp_consumer_cancelled", "amqp_not_found"].contains(&code.as_str()),
        "{fault}"
    );
    client.queue(&queue, FieldTable::default()).await;
    until_state(&site, &runner, |state| state["state"] == "listening").await;
    client.publish(&queue, Some("a"), b"{}").await;
    until_finished(&site, &runner, 1).await;
    drop(client);
    server.kill9();
    until_state(&site, &runner, |state| state["state"] == "failing").await;
    assert_eq!(
        runner.http.get("/readyz").await.status,
        200,
        "everything else continues"
    );
    server.start_again();
    until_state(&site, &runner, |state| state["state"] == "listening").await;
    server.channel().await.publish(&queue, Some("b"), b"{}").await;
    until_finished(&site, &runner, 2).await;
    assert!(runner.stop().await.success());
}

async fn no_message_is_lost_or_doubled_when_both_are_killed() {
    let (messages, kills) = if kit::long() { (10_000, 8) } else { (1_000, 2) };
    let mut server = RabbitServer::start();
    let queue = queue_name("killed");
    let client = server.channel().await;
    client.queue(&queue, FieldTable::default()).await;
    let publish = (0..messages).map(|n| {
        let (client, queue) = (&client, &queue);
        async move { client.publish(queue, Some(&format!("m-{n:05}")), b"{}").await }
    });
    futures_of(publish).await;
    drop(client);
    let mut site = Site::new(&server.yaml());
    // Few at a time, so that the kills come in between; a task leaves nothing but its receipt.
    let text = manifest(&queue, "      prefetch: 20\n").replace("retention: 1h\n", "");
    site.write("manifests/orders.yaml", &text);
    site.env = vec![("RUNNER_ROLES".to_owned(), "worker,web".to_owned())];
    let worker = site.start().await;
    site.env = vec![("RUNNER_ROLES".to_owned(), "scheduler".to_owned())];
    let mut runner = site.launch();
    let processed = async || {
        let queues = site.cli(["ls", "queues", "--json"]).await.json();
        let number = |what: &str| queues[0][what].as_u64().unwrap_or_default();
        (number("processed"), number("size"))
    };
    for kill in 0..kills {
        let so_far = processed().await.0;
        eventually_within(PATIENCE, "messages become tasks", async || match processed().await.0 {
            more if more > so_far || more >= messages => Ok(()),
            same => Err(format!("still {same}\n{}", runner.child.tail())),
        })
        .await;
        if kill % 2 == 0 {
            runner.kill9();
            runner = site.launch();
        } else {
            server.kill9();
            server.start_again();
        }
    }
    let client = server.channel().await;
    eventually_within(PATIENCE * 2, "all messages are tasks, and those are done", async || {
        let (left, (done, waiting)) = (client.ready(&queue).await, processed().await);
        let over = left == 0 && waiting == 0 && done >= messages;
        over.then_some(())
            .ok_or_else(|| format!("{left} left, {done} done, {waiting} wait\n{}", runner.child.tail()))
    })
    .await;
    assert!(runner.stop().await.success());
    let (done, left) = (processed().await.0, client.ready(&queue).await);
    let mut fault = kit::Fault::new("F37");
    fault
        .figure("messages", messages)
        .figure("kills", kills)
        .figure("tasks", done);
    let (doubled, lost) = (done.saturating_sub(messages), messages.saturating_sub(done));
    fault
        .require("duplicates", doubled, doubled == 0)
        .require("lost", lost, lost == 0);
    fault.require("unacknowledged", left, left == 0);
    fault.end(|| worker.child.tail());
}

async fn a_frozen_server_is_reported_and_nothing_is_lost() {
    let server = RabbitServer::start();
    let queue = queue_name("frozen");
    let client = server.channel().await;
    client.queue(&queue, FieldTable::default()).await;
    let site = Site::new(&server.yaml());
    site.write("manifests/orders.yaml", &manifest(&queue, "      prefetch: 5\n"));
    let runner = site.start().await;
    until_state(&site, &runner, |state| state["state"] == "listening").await;
    let publish = (0..300).map(|n| {
        let (client, queue) = (&client, &queue);
        async move { client.publish(queue, Some(&format!("m-{n:03}")), b"{}").await }
    });
    futures_of(publish).await;
    drop(client);
    server.child().signal(Signal::SIGSTOP);
    let silent = |state: &Value| state["state"] == "failing" && state["fault"]["code"] == "amqp_no_answer";
    until_state(&site, &runner, silent).await;
    assert_eq!(
        runner.http.get("/readyz").await.status,
        200,
        "everything else continues"
    );
    server.child().signal(Signal::SIGCONT);
    until_finished(&site, &runner, 300).await;
    until_state(&site, &runner, |state| state["state"] == "listening").await;
    assert_eq!(server.channel().await.ready(&queue).await, 0);
    assert!(runner.stop().await.success());
}

/// Runs all of them at once.
async fn futures_of(all: impl Iterator<Item = impl Future<Output = ()>>) {
    futures_util::future::join_all(all).await;
}
