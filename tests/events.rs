//! Lifecycle events: the whole program beside a real server.

use std::time::Duration;

use lapin::options::{BasicGetOptions, ExchangeDeclareOptions, QueueBindOptions};
use lapin::types::FieldTable;
use serde_json::Value;

use crate::kit::{self, RabbitServer, Runner, Site, eventually_within, queue_name, rabbitmq};

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(RabbitMq): events_say_what_happened_and_no_payload, events_wait_for_their_server_and_end_with_the_program,
            one_that_is_refused_does_not_stand_before_the_others;
    ]
}

const PATIENCE: Duration = Duration::from_secs(90);

/// Settings that send events to this exchange.
fn config(server: &RabbitServer, exchange: &str, more: &str) -> String {
    let events = format!("events:\n  rabbitmq: {{connection: main, exchange: {exchange}}}\n");
    format!("{}{events}{more}", server.yaml())
}

/// A queue that gets everything of an exchange.
async fn bound(server: &RabbitServer, exchange: &str) -> kit::RabbitChannel {
    let client = server.channel().await;
    client.queue(exchange, FieldTable::default()).await;
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let topic = lapin::ExchangeKind::Topic;
    let made = client
        .channel
        .exchange_declare(exchange.into(), topic, durable, FieldTable::default());
    made.await.expect("an exchange");
    let bound = client.channel.queue_bind(
        exchange.into(),
        exchange.into(),
        "#".into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    bound.await.expect("a binding");
    client
}

/// Events of the queue until there are this many.
async fn received(client: &kit::RabbitChannel, queue: &str, runner: &Runner, count: usize) -> Vec<Value> {
    let all = std::sync::Mutex::new(Vec::new());
    eventually_within(PATIENCE, "events", async || {
        let options = BasicGetOptions { no_ack: true };
        while let Ok(Some(message)) = client.channel.basic_get(queue.into(), options).await {
            let event: Value = serde_json::from_slice(&message.delivery.data).expect("JSON");
            assert_eq!(event["type"], message.delivery.routing_key.as_str());
            all.lock().unwrap().push(event);
        }
        match all.lock().unwrap().len() {
            found if found >= count => Ok(()),
            found => Err(format!("{found} of {count}\n{}", runner.child.tail())),
        }
    })
    .await;
    all.into_inner().unwrap()
}

async fn events_say_what_happened_and_no_payload() {
    let (server, exchange) = (rabbitmq(), queue_name("events"));
    let client = bound(server, &exchange).await;
    let site = Site::new(&config(server, &exchange, ""));
    site.write(
        "manifests/good.yaml",
        "name: fail\nexec: {command: ['false']}\nretry: 0\n",
    );
    site.write("manifests/bad.yaml", "name: bad\n");
    let runner = site.start().await;
    let secret = r#"{"password":"hunter2"}"#;
    site.cli(["enqueue", "echo", "--id", "e-1", "--payload", secret])
        .await
        .ok();
    site.cli(["enqueue", "fn:fail", "--id", "f-1", "--payload", secret])
        .await
        .ok();
    let all = received(&client, &exchange, &runner, 3).await;
    let of = |kind: &str| {
        all.iter()
            .find(|event| event["type"] == kind)
            .unwrap_or_else(|| panic!("{kind}: {all:?}"))
    };
    assert_eq!(of("task.succeeded")["task"]["id"], "e-1");
    assert_eq!(of("task.archived")["task"]["type"], "fn:fail");
    assert_eq!(of("task.archived")["task"]["attempt"], 1);
    let rejected = of("manifest.rejected");
    assert_eq!(
        (&rejected["manifest"]["name"], &rejected["version"]),
        (&"bad".into(), &1.into())
    );
    assert!(!format!("{all:?}").contains("hunter2"), "no payload is in an event");
    assert!(runner.stop().await.success());
}

async fn events_wait_for_their_server_and_end_with_the_program() {
    let mut server = RabbitServer::start();
    let exchange = queue_name("outage");
    drop(bound(&server, &exchange).await);
    server.kill9();
    let site = Site::new(&config(&server, &exchange, "  types: ['task.*']\n"));
    let runner = site.start().await;
    site.cli(["enqueue", "echo", "--id", "first", "--payload", "1"])
        .await
        .ok();
    eventually_within(PATIENCE, "the problem is in the log", async || {
        let log = runner.log();
        log.contains("events_not_sent").then_some(()).ok_or(log)
    })
    .await;
    server.start_again();
    let client = server.channel().await;
    let all = received(&client, &exchange, &runner, 1).await;
    assert_eq!(all[0]["task"]["id"], "first");
    // What is in the outbox at a stop is sent.
    let go = site.dir.join("go");
    let waits = format!(
        "name: waits\nexec: {{command: [sh, -c, 'until [ -e {} ]; do sleep 0.1; done']}}\n",
        go.display()
    );
    site.write("manifests/waits.yaml", &waits);
    eventually_within(PATIENCE, "the function is there", async || {
        let enqueued = site.cli(["enqueue", "fn:waits", "--id", "last"]).await;
        enqueued.status.success().then_some(()).ok_or(enqueued.stderr)
    })
    .await;
    eventually_within(PATIENCE, "the task runs", async || {
        let shown = site.cli(["task", "show", "last", "--json"]).await.stdout;
        shown.contains("active").then_some(()).ok_or(shown)
    })
    .await;
    runner.signal(nix::sys::signal::Signal::SIGTERM);
    // It ends after the signal, however busy the machine is.
    site.write("go", "");
    assert!(runner.ended().await.success());
    let options = BasicGetOptions { no_ack: true };
    let got = client.channel.basic_get(exchange.as_str().into(), options).await;
    let message = got.expect("an answer").expect("the last event").delivery;
    let event: Value = serde_json::from_slice(&message.data).expect("JSON");
    assert_eq!(
        (&event["type"], &event["task"]["id"]),
        (&"task.succeeded".into(), &"last".into())
    );
}

async fn one_that_is_refused_does_not_stand_before_the_others() {
    let (server, exchange) = (rabbitmq(), queue_name("refused"));
    let client = bound(server, &exchange).await;
    // It takes one message and refuses the next.
    let full = format!("{exchange}-full");
    let mut bounds = FieldTable::default();
    bounds.insert("x-max-length".into(), lapin::types::AMQPValue::LongInt(1));
    bounds.insert(
        "x-overflow".into(),
        lapin::types::AMQPValue::LongString("reject-publish".into()),
    );
    client.queue(&full, bounds).await;
    let key = "task.archived".into();
    let options = QueueBindOptions::default();
    let bound = client.channel.queue_bind(
        full.as_str().into(),
        exchange.as_str().into(),
        key,
        options,
        FieldTable::default(),
    );
    bound.await.expect("a binding");
    let site = Site::new(&config(server, &exchange, ""));
    site.write(
        "manifests/fail.yaml",
        "name: fail\nexec: {command: ['false']}\nretry: 0\n",
    );
    let runner = site.start().await;
    for id in ["f-1", "f-2"] {
        site.cli(["enqueue", "fn:fail", "--id", id]).await.ok();
        eventually_within(PATIENCE, "the task is archived", async || {
            let shown = site.cli(["task", "show", id, "--json"]).await.stdout;
            shown.contains("archived").then_some(()).ok_or(shown)
        })
        .await;
    }
    eventually_within(PATIENCE, "the refusal is in the log", async || {
        let log = runner.log();
        log.contains("amqp_nacked").then_some(()).ok_or(log)
    })
    .await;
    site.cli(["enqueue", "echo", "--id", "e-1", "--payload", "1"])
        .await
        .ok();
    let succeeded = |event: &Value| event["type"] == "task.succeeded";
    let mut all = Vec::new();
    // It was sent beside the one that is refused; those before it may be copies of that one.
    while !all.iter().any(succeeded) {
        all.extend(received(&client, &exchange, &runner, 1).await);
    }
    // Room for the one that was refused.
    let options = BasicGetOptions { no_ack: true };
    eventually_within(PATIENCE, "it is sent when the queue has room", async || {
        let got = client.channel.basic_get(full.as_str().into(), options).await;
        let message = got.expect("an answer").ok_or_else(|| runner.child.tail())?;
        let event: Value = serde_json::from_slice(&message.delivery.data).expect("JSON");
        match event["task"]["id"] == "f-2" {
            true => Ok(()),
            false => Err("the first one".to_owned()),
        }
    })
    .await;
    assert!(runner.stop().await.success());
    while let Ok(Some(message)) = client.channel.basic_get(exchange.as_str().into(), options).await {
        all.push(serde_json::from_slice(&message.delivery.data).expect("JSON"));
    }
    let count = all.iter().filter(|event| succeeded(event)).count();
    assert_eq!(count, 1, "a confirmed event is not sent again: {all:?}");
}
