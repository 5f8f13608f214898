//! What RabbitMQ may do to publishers and triggers: alarms, messages that are no tasks, TLS. The whole program beside servers
//! of its own.

use std::fmt::Write as _;
use std::time::Duration;

use lapin::BasicProperties;
use lapin::options::{BasicGetOptions, BasicNackOptions, ExchangeDeclareOptions, QueueBindOptions};
use lapin::types::FieldTable;
use serde_json::Value;
use tokio::time::Instant;

use crate::kit::tls::Authority;
use crate::kit::{self, RabbitChannel, RabbitServer, Runner, Site, eventually_within, queue_name, rabbitmq};

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(RabbitMq): an_alarm_stops_publishers_and_nothing_else, messages_that_are_no_tasks_go_to_the_dead_letters,
            triggers_functions_and_events_speak_tls;
    ]
}

/// Longer than a confirm may take and the longest pause after it.
const PATIENCE: Duration = Duration::from_secs(120);

const EXCHANGE: &str = "announced";

/// A queue named like the exchange that gets everything of it.
async fn bound(client: &RabbitChannel) {
    client.queue(EXCHANGE, FieldTable::default()).await;
    let options = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let topic = lapin::ExchangeKind::Topic;
    let (name, nothing) = (EXCHANGE.into(), FieldTable::default());
    let made = client.channel.exchange_declare(name, topic, options, nothing);
    made.await.expect("an exchange");
    let options = QueueBindOptions::default();
    let bound = client.channel.queue_bind(
        EXCHANGE.into(),
        EXCHANGE.into(),
        "#".into(),
        options,
        FieldTable::default(),
    );
    bound.await.expect("a binding");
}

/// Ids of the messages that have arrived, once those of `wanted` have.
async fn arrived(client: &RabbitChannel, runner: &Runner, wanted: &[&str]) -> Vec<String> {
    let all = std::sync::Mutex::new(Vec::new());
    eventually_within(PATIENCE, "messages", async || {
        let options = BasicGetOptions { no_ack: true };
        while let Ok(Some(message)) = client.channel.basic_get(EXCHANGE.into(), options).await {
            let delivery = message.delivery;
            let event: Value = serde_json::from_slice(&delivery.data).unwrap_or_default();
            let of_task = event["task"]["id"].as_str().map(str::to_owned);
            let of_message = delivery.properties.message_id().as_ref().map(ToString::to_string);
            all.lock().unwrap().extend(of_task.or(of_message));
        }
        let found = all.lock().unwrap();
        match wanted.iter().all(|id| found.iter().any(|found| found == id)) {
            true => Ok(()),
            false => Err(format!("{found:?}\n{}", runner.child.tail())),
        }
    })
    .await;
    all.into_inner().unwrap()
}

/// Waits until the text of a task has these words.
async fn until_task(site: &Site, runner: &Runner, id: &str, words: &str) -> String {
    eventually_within(PATIENCE, words, async || {
        let shown = site.cli(["task", "show", id, "--json"]).await;
        match shown.stdout.contains(words) {
            true => Ok(shown.stdout),
            false => Err(format!("{}{}\n{}", shown.stdout, shown.stderr, runner.child.tail())),
        }
    })
    .await
}

async fn enqueue(site: &Site, kind: &str, id: &str) {
    let words = ["enqueue", kind, "--id", id, "--payload", "{}", "--retention", "1h"];
    site.cli(words).await.ok();
}

/// How many tasks of its queue are completed.
async fn completed(site: &Site) -> u64 {
    let queues = site.cli(["ls", "queues", "--json"]).await.json();
    queues[0]["counts"]["completed"].as_u64().unwrap_or_default()
}

async fn until_completed(site: &Site, runner: &Runner, count: u64) {
    eventually_within(PATIENCE, "the tasks are done", async || match completed(site).await {
        found if found >= count => Ok(()),
        found => Err(format!("{found} of {count}\n{}", runner.child.tail())),
    })
    .await;
}

const PUBLISHES: &str = "name: announce\nretention: 1h\nretry: 20\n\
                         publish: {connection: main, exchange: announced, routing_key: x}\n";

#[allow(clippy::too_many_lines)] // one story from beginning to end
async fn an_alarm_stops_publishers_and_nothing_else() {
    let server = RabbitServer::start();
    let client = server.channel().await;
    bound(&client).await;
    client.queue("orders", FieldTable::default()).await;
    for n in 0..20 {
        client.publish("orders", Some(&format!("m-{n}")), b"{}").await;
    }
    let events = format!("events:\n  rabbitmq: {{connection: main, exchange: {EXCHANGE}}}\n  types: ['task.*']\n");
    let site = Site::new(&(server.yaml() + &events));
    site.write("manifests/announce.yaml", PUBLISHES);
    let runner = site.start().await;
    enqueue(&site, "fn:announce", "before").await;
    arrived(&client, &runner, &["before"]).await;
    let mut fault = kit::Fault::new("F38");
    for (n, (alarm, end)) in [
        (
            ["set_vm_memory_high_watermark", "0"],
            ["set_vm_memory_high_watermark", "0.4"],
        ),
        (["set_disk_free_limit", "900000GB"], ["set_disk_free_limit", "50MB"]),
    ]
    .into_iter()
    .enumerate()
    {
        server.control(&alarm);
        let began = Instant::now();
        // The first message after the alarm makes the server say so.
        let probe = format!("blocked-{n}");
        enqueue(&site, "fn:announce", &probe).await;
        let task = until_task(&site, &runner, &probe, "amqp_blocked").await;
        assert!(task.contains("its memory or disk alarm is on"), "{task}");
        fault.figure(&format!("noticed_ms_{n}"), began.elapsed().as_millis());
        if n == 0 {
            // Triggers go on, and so do handlers and everything else.
            let text = "name: orders\nhandler: echo\nretention: 1h\n\
                        triggers:\n  - id: new\n    rabbitmq: {queue: orders}\n";
            site.write("manifests/orders.yaml", text);
        }
        let done = completed(&site).await;
        let began = Instant::now();
        for task in 0..10 {
            enqueue(&site, "echo", &format!("e-{n}-{task}")).await;
        }
        until_completed(&site, &runner, done + 10 + if n == 0 { 20 } else { 0 }).await;
        fault.figure(&format!("others_ms_{n}"), began.elapsed().as_millis());
        assert_eq!(runner.http.get("/readyz").await.status, 200);
        eventually_within(PATIENCE, "the first page says it", async || {
            let page = runner.http.get("/queue").await.body;
            (page.contains("events_not_sent") && page.contains("memory or disk alarm"))
                .then_some(())
                .ok_or(page)
        })
        .await;
        server.control(&end);
        let began = Instant::now();
        let last = format!("e-{n}-9");
        arrived(&client, &runner, &[&probe, &last]).await;
        until_task(&site, &runner, &probe, "\"completed\"").await;
        fault.figure(&format!("again_ms_{n}"), began.elapsed().as_millis());
        eventually_within(PATIENCE, "the problem is gone", async || {
            let page = runner.http.get("/queue").await.body;
            (!page.contains("events_not_sent")).then_some(()).ok_or(page)
        })
        .await;
    }
    let metrics = runner.http.get("/metrics").await.body;
    let dropped = metrics
        .lines()
        .find_map(|line| line.strip_prefix("runner_events_total{outcome=\"dropped\"} "));
    let dropped: u64 = dropped.unwrap_or("0").parse().expect("a number");
    fault.require("dropped", dropped, dropped == 0);
    let waiting = client.ready("orders").await;
    fault.require("unacknowledged", waiting, waiting == 0);
    fault.end(|| runner.child.tail());
    assert!(runner.stop().await.success());
}

#[allow(clippy::too_many_lines)] // one story from beginning to end
async fn messages_that_are_no_tasks_go_to_the_dead_letters() {
    let (server, queue) = (rabbitmq(), queue_name("poison"));
    let client = server.channel().await;
    let site = Site::new(&server.yaml());
    let manifest = |enabled: bool| {
        format!(
            "name: orders\nhandler: echo\nretention: 1h\nenabled: {enabled}\ntriggers:\n  - id: new\n    \
             rabbitmq: {{queue: {queue}, declare: create, dedupe: '{{{{ message.headers.id }}}}'}}\n"
        )
    };
    site.write("manifests/orders.yaml", &manifest(true));
    let runner = site.start().await;
    let state = async |wanted: &str| {
        eventually_within(PATIENCE, wanted, async || {
            let listed = site.cli(["ls", "triggers", "--json"]).await.json();
            let state = &listed[0]["instances"][0];
            (state["state"] == wanted)
                .then(|| state.clone())
                .ok_or_else(|| state.to_string())
        })
        .await
    };
    state("listening").await;
    let named = |id: &str| {
        let mut headers = FieldTable::default();
        headers.insert("id".into(), lapin::types::AMQPValue::LongString(id.into()));
        BasicProperties::default().with_headers(headers)
    };
    assert!(client.send("", &queue, named("a"), b"no json").await);
    assert!(client.send("", &queue, named("b"), &vec![b' '; 64 << 20]).await);
    assert!(client.send("", &queue, BasicProperties::default(), b"{}").await);
    assert!(client.send("", &queue, named("good"), b"{}").await);
    until_completed(&site, &runner, 1).await;
    let dead_queue = format!("{queue}.dead");
    let dead = async |count: u32| {
        eventually_within(PATIENCE, "dead messages", async || {
            match client.ready(&dead_queue).await {
                found if found == count => Ok(()),
                found => Err(found),
            }
        })
        .await;
    };
    dead(3).await;
    let log = runner.log();
    for why in [
        "the body is not JSON",
        "the body has 67108864 bytes, and max_bytes is 1048576",
        "dedupe: message.headers.id has no value",
    ] {
        assert!(log.contains(why), "{why:?} is not in {log}");
    }
    // One that comes back again and again: none of our consumers settles it.
    site.write("manifests/orders.yaml", &manifest(false));
    state("disabled").await;
    eventually_within(PATIENCE, "the consumer is gone", async || {
        match client.consumers(&queue).await {
            0 => Ok(()),
            count => Err(count),
        }
    })
    .await;
    assert!(client.send("", &queue, named("returns"), b"{}").await);
    let mut returned = 0;
    while let Ok(Some(message)) = client
        .channel
        .basic_get(queue.as_str().into(), BasicGetOptions::default())
        .await
    {
        returned += 1;
        assert!(returned <= 50, "it comes back forever");
        let options = BasicNackOptions {
            requeue: true,
            ..BasicNackOptions::default()
        };
        message
            .delivery
            .acker
            .nack(options)
            .await
            .expect("a message that is given back");
        eventually_within(PATIENCE, "it is back, or dead", async || {
            match client.ready(&queue).await + client.ready(&dead_queue).await {
                4 => Ok(()),
                count => Err(count),
            }
        })
        .await;
    }
    dead(4).await;
    site.write("manifests/orders.yaml", &manifest(true));
    state("listening").await;
    assert!(client.send("", &queue, named("last"), b"{}").await);
    until_completed(&site, &runner, 2).await;
    let left = client.ready(&queue).await;
    let mut fault = kit::Fault::new("F39");
    fault
        .figure("dlq", 4)
        .figure("returned", returned)
        .require("stalled", left, left == 0);
    fault.end(|| runner.child.tail());
    assert!(runner.stop().await.success());
}

#[allow(clippy::too_many_lines)] // one story from beginning to end
async fn triggers_functions_and_events_speak_tls() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let own = ours.sign("localhost", 2100);
    let (server, port) = RabbitServer::start_tls(&ours, &own);
    let client = server.channel().await;
    bound(&client).await;
    client.queue("orders", FieldTable::default()).await;
    client.publish("orders", Some("m-1"), b"{}").await;
    let (user, old) = (ours.sign("guest", 2100), ours.sign("localhost", 2021));
    let mut yaml = "rabbitmq:\n  connections:\n".to_owned();
    let presented = format!(", cert_file: {}, key_file: {}", user.cert.display(), user.key.display());
    for (name, host, authority, more) in [
        ("main", "localhost", &ours, presented.as_str()),
        ("late", "localhost", &ours, &presented),
        ("stranger", "localhost", &theirs, &presented),
        ("misnamed", "127.0.0.1", &ours, &presented),
        ("bare", "localhost", &ours, ""),
    ] {
        let ca = authority.file();
        writeln!(
            yaml,
            "    {name}: {{url: 'amqps://guest:guest@{host}:{port}/%2f', tls: {{ca_file: {}{more}}}}}",
            ca.display()
        )
        .expect("text");
    }
    let site = Site::new(&format!(
        "{yaml}events:\n  rabbitmq: {{connection: main, exchange: {EXCHANGE}}}\n  types: ['task.*']\n"
    ));
    let mut manifests = PUBLISHES.to_owned();
    for name in ["main", "stranger", "misnamed", "bare"] {
        let _ = write!(
            manifests,
            "---\nname: of-{name}\nhandler: echo\nretention: 1h\ntriggers:\n  - id: new\n    \
             rabbitmq: {{connection: {name}, queue: orders}}\n"
        );
    }
    for name in ["late", "stranger"] {
        let _ = write!(
            manifests,
            "---\nname: to-{name}\nretry: 0\npublish: {{connection: {name}, exchange: announced, routing_key: x}}\n"
        );
    }
    site.write("manifests/tls.yaml", &manifests);
    let runner = site.start().await;
    until_completed(&site, &runner, 1).await;
    enqueue(&site, "fn:announce", "p-1").await;
    arrived(&client, &runner, &["p-1", "of-main:new@msg-m-1"]).await;
    for (name, why) in [
        ("stranger", "signed by an authority that is not trusted here"),
        ("misnamed", "127.0.0.1"),
        ("bare", "the server asks for a client certificate"),
    ] {
        let id = format!("of-{name}:new");
        eventually_within(PATIENCE, why, async || {
            let listed = site.cli(["ls", "triggers", "--json"]).await.json();
            let all = listed.as_array().cloned().unwrap_or_default();
            let own = all.iter().find(|trigger| trigger["id"] == id.as_str());
            let fault = own.map(|own| own["instances"][0]["fault"].clone()).unwrap_or_default();
            let fits = fault["code"] == "amqp_tls" && fault["why"].as_str().is_some_and(|text| text.contains(why));
            fits.then_some(()).ok_or_else(|| fault.to_string())
        })
        .await;
    }
    enqueue(&site, "fn:to-stranger", "p-2").await;
    until_task(&site, &runner, "p-2", "amqp_tls").await;
    // The server's certificate ends while it runs: it reads its files again.
    std::fs::copy(&old.cert, &own.cert).expect("a certificate");
    std::fs::copy(&old.key, &own.key).expect("a key");
    server.control(&["eval", "ssl:clear_pem_cache()."]);
    enqueue(&site, "fn:to-late", "p-3").await;
    let task = until_task(&site, &runner, "p-3", "amqp_tls").await;
    assert!(task.contains("expired"), "{task}");
    assert!(!runner.log().contains("guest:guest"), "no password is in the log");
    assert!(runner.stop().await.success());
}
