//! Functions that publish: the whole program beside real servers.

use std::time::Duration;

use lapin::options::{BasicGetOptions, ExchangeDeclareOptions, QueueBindOptions};
use lapin::types::FieldTable;
use redis::AsyncCommands as _;
use serde_json::Value;

use crate::kit::{self, RabbitServer, Runner, Site, eventually_within, queue_name, rabbitmq};

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(RabbitMq): a_message_is_confirmed_and_has_the_id_of_its_task, a_message_is_published_when_its_server_is_back;
        needs(Redis): channels_and_streams_of_redis_get_messages;
    ]
}

const PATIENCE: Duration = Duration::from_secs(90);

/// The task of this id, once it fits.
async fn until_task(site: &Site, runner: &Runner, id: &str, fits: impl Fn(&Value) -> bool) -> Value {
    eventually_within(PATIENCE, "the state of a task", async || {
        let shown = site.cli(["task", "show", id, "--json"]).await;
        let task: Value = serde_json::from_str(&shown.stdout).unwrap_or_default();
        match fits(&task) {
            true => Ok(task),
            false => Err(format!("{task}\n{}{}", shown.stderr, runner.child.tail())),
        }
    })
    .await
}

async fn enqueue(site: &Site, function: &str, id: &str, payload: &str) {
    let kind = format!("fn:{function}");
    let words = ["enqueue", &kind, "--id", id, "--payload", payload, "--retention", "1h"];
    site.cli(words).await.ok();
}

fn completed(task: &Value) -> bool {
    task["state"] == "completed"
}

/// Whether an attempt ended with this code.
fn failed_by(code: &'static str) -> impl Fn(&Value) -> bool {
    move |task| task.to_string().contains(code)
}

const MANIFEST: &str = r#"
name: announce
publish:
  exchange: EXCHANGE
  routing_key: "order.{{ payload.kind }}"
  headers: {tenant: "{{ payload.tenant }}"}
---
name: to-none
publish: {exchange: EXCHANGE, routing_key: nowhere}
retry: 0
---
name: let-go
publish: {exchange: EXCHANGE, routing_key: nowhere, mandatory: false}
---
name: missing
publish: {exchange: no-such-exchange, routing_key: x}
retry: 0
"#;

async fn a_message_is_confirmed_and_has_the_id_of_its_task() {
    let (server, queue) = (rabbitmq(), queue_name("published"));
    let (client, exchange) = (server.channel().await, format!("{queue}-exchange"));
    client.queue(&queue, FieldTable::default()).await;
    declare(&client.channel, &exchange, &queue).await;
    let site = Site::new(&server.yaml());
    site.write("manifests/publish.yaml", &MANIFEST.replace("EXCHANGE", &exchange));
    let runner = site.start().await;
    enqueue(&site, "announce", "a-1", r#"{"kind":"new","tenant":"blue"}"#).await;
    until_task(&site, &runner, "a-1", completed).await;
    let got = client
        .channel
        .basic_get(queue.as_str().into(), BasicGetOptions { no_ack: true });
    let message = got.await.expect("an answer").expect("a message").delivery;
    assert_eq!(message.data, br#"{"kind":"new","tenant":"blue"}"#);
    assert_eq!(message.routing_key.as_str(), "order.new");
    let of = &message.properties;
    let id = of.message_id().as_ref().map(ToString::to_string);
    assert_eq!(id.as_deref(), Some("a-1"));
    assert_eq!(of.delivery_mode(), &Some(2), "it is persistent");
    let blue = lapin::types::AMQPValue::LongString("blue".into());
    let headers = of.headers().as_ref().expect("headers");
    assert_eq!(headers.inner().get("tenant"), Some(&blue));
    let kind = of.content_type().as_ref().map(ToString::to_string);
    assert_eq!(kind.as_deref(), Some("application/json"));
    // The failures of others are theirs alone.
    enqueue(&site, "to-none", "b-1", r#"{"hidden":"hunter2"}"#).await;
    enqueue(&site, "missing", "c-1", "{}").await;
    enqueue(&site, "let-go", "d-1", "{}").await;
    until_task(&site, &runner, "b-1", failed_by("amqp_unroutable")).await;
    until_task(&site, &runner, "c-1", failed_by("amqp_not_found")).await;
    until_task(&site, &runner, "d-1", completed).await;
    let long = format!(r#"{{"kind":"{}","tenant":"x"}}"#, "k".repeat(300));
    enqueue(&site, "announce", "e-1", &long).await;
    let task = until_task(&site, &runner, "e-1", |task| task["state"] == "archived").await;
    assert!(task.to_string().contains("the routing key has 306 bytes"), "{task}");
    let log = runner.log();
    assert!(!log.contains("hunter2"), "no payload is in the log");
    // The client library writes a returned message with its body as numbers.
    assert!(!log.contains("Server returned us a message"), "{log}");
    assert!(runner.stop().await.success());
}

async fn declare(channel: &lapin::Channel, exchange: &str, queue: &str) {
    let options = ExchangeDeclareOptions::default();
    let made = channel.exchange_declare(
        exchange.into(),
        lapin::ExchangeKind::Topic,
        options,
        FieldTable::default(),
    );
    made.await.expect("an exchange");
    let (queue, exchange) = (queue.into(), exchange.into());
    let bound = channel.queue_bind(
        queue,
        exchange,
        "order.*".into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    bound.await.expect("a binding");
}

async fn a_message_is_published_when_its_server_is_back() {
    let mut server = RabbitServer::start();
    let queue = queue_name("outage");
    server.control(&["eval", "application:set_env(rabbit, max_message_size, 2000)."]);
    let client = server.channel().await;
    client.queue(&queue, FieldTable::default()).await;
    drop(client);
    let site = Site::new(&server.yaml());
    let text = format!("name: send\npublish: {{exchange: '', routing_key: {queue}}}\nretry: 20\n");
    site.write("manifests/send.yaml", &text);
    let runner = site.start().await;
    enqueue(&site, "send", "first", "{}").await;
    until_task(&site, &runner, "first", completed).await;
    let large = format!("\"{}\"", "x".repeat(3000));
    enqueue(&site, "send", "large", &large).await;
    let task = until_task(&site, &runner, "large", |task| task["state"] == "archived").await;
    assert!(task.to_string().contains("amqp_too_large"), "{task}");
    server.kill9();
    enqueue(&site, "send", "second", "{}").await;
    until_task(&site, &runner, "second", |task| task["state"] == "retry").await;
    server.start_again();
    until_task(&site, &runner, "second", completed).await;
    assert_eq!(server.channel().await.ready(&queue).await, 2);
    assert!(runner.stop().await.success());
}

async fn channels_and_streams_of_redis_get_messages() {
    let db = kit::redis().fresh_db();
    let site = Site::new(&format!("redis_connections:\n  main: {}\n", db.url()));
    let text = "name: note\npublish:\n  redis: {stream: notes, max_len: 1000}\n  headers: {by: '{{ payload.by }}'}\n  \
                body: {n: '{{ payload.n }}'}\n---\nname: shout\npublish: {redis: {channel: news}}\n---\n\
                name: elsewhere\npublish: {connection: other, redis: {channel: news}}\n---\n\
                name: wrong\npublish: {redis: {stream: text}}\nretry: 0\n";
    site.write("manifests/publish.yaml", text);
    let mut link = db.connect().await;
    let _: () = link.set("text", "no stream").await.expect("a text");
    let checked = site.cli(["check"]).await;
    let said = format!("{}{}", checked.stdout, checked.stderr);
    assert!(said.contains("E361") && said.contains("redis_connections"), "{said}");
    let runner = site.start().await;
    enqueue(&site, "note", "n-1", r#"{"by":"ann","n":7}"#).await;
    enqueue(&site, "shout", "s-1", "\"hello\"").await;
    enqueue(&site, "wrong", "w-1", "{}").await;
    enqueue(&site, "elsewhere", "x-1", "{}").await;
    until_task(&site, &runner, "n-1", completed).await;
    let task = until_task(&site, &runner, "s-1", completed).await;
    assert!(task.to_string().contains("0 listeners"), "{task}");
    until_task(&site, &runner, "w-1", failed_by("redis_wrong_type")).await;
    let entries: Vec<(String, Vec<String>)> = redis::cmd("XRANGE")
        .arg(&["notes", "-", "+"])
        .query_async(&mut link)
        .await
        .expect("entries");
    let fields: Vec<&str> = entries[0].1.iter().map(String::as_str).collect();
    assert_eq!(fields, ["id", "n-1", "body", r#"{"n":7}"#, "by", "ann"]);
    let task = until_task(&site, &runner, "x-1", |task| task["state"] == "pending").await;
    assert_eq!(
        task["retried"].as_u64().unwrap_or_default(),
        0,
        "it waits for another worker"
    );
    assert!(runner.stop().await.success());
}
