//! Triggers of Redis streams: the whole program beside real servers.

use std::collections::BTreeSet;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use runner_queue::redis::{RedisClient, RedisSettings};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::kit::tls::Authority;
use crate::kit::{self, RedisDb, RedisServer, Runner, Site, eventually_within};

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(Redis): each_entry_becomes_one_task, bad_entries_hold_up_no_other, a_bad_entry_is_run_from_its_page, a_restart_overwrites_no_bad_entry, a_group_that_is_gone_is_not_made_again, consumers_that_are_gone_are_forgotten,
            a_dead_stream_that_takes_nothing_holds_up_no_entry, entries_that_were_deleted_before_they_were_acknowledged_are_bad_ones,
            a_batch_that_is_too_large_for_the_line_gets_smaller,
            no_entry_is_lost_or_doubled_when_the_program_is_killed;
        needs(Cluster): a_stream_of_a_cluster_is_read;
        needs(RedisTls): a_stream_is_written_and_read_over_tls;
    ]
}

/// Longer than the longest pause between two attempts, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

const GROUP: &str = "runner:orders:new";

/// A function that keeps its tasks, with a trigger on the stream `orders`.
fn manifest(more: &str) -> String {
    let head =
        "name: orders\nhandler: echo\nretention: 1h\ntriggers:\n  - id: new\n    redis_stream:\n      stream: orders\n";
    format!("{head}{more}")
}

fn site(db: &RedisDb, more: &str) -> Site {
    let site = Site::new(&format!("redis_connections:\n  main: {}\n", db.url()));
    site.write("manifests/orders.yaml", &manifest(more));
    site
}

async fn ask<T: redis::FromRedisValue>(link: &mut MultiplexedConnection, words: &[&str]) -> T {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command
        .query_async(link)
        .await
        .unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

/// How many tasks were done, and how many there are.
async fn counts(site: &Site) -> (u64, u64) {
    let queues = site.cli(["ls", "queues", "--json"]).await.json();
    let number = |what: &str| queues[0][what].as_u64().unwrap_or_default();
    (number("processed"), number("size"))
}

async fn until_done(site: &Site, runner: &Runner, count: u64) {
    eventually_within(PATIENCE * 2, "the tasks are done", async || {
        match counts(site).await.0 {
            found if found >= count => Ok(()),
            found => Err(format!("{found} of {count}\n{}", runner.child.tail())),
        }
    })
    .await;
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

/// Entries that were given out and not acknowledged.
async fn pending(link: &mut MultiplexedConnection, group: &str) -> u64 {
    let (count, ..): (u64, redis::Value, redis::Value, redis::Value) = ask(link, &["XPENDING", "orders", group]).await;
    count
}

async fn each_entry_becomes_one_task() {
    let db = kit::redis().fresh_db();
    let mut link = db.connect().await;
    let _: String = ask(&mut link, &["XADD", "orders", "1-1", "n", "1"]).await;
    let site = site(&db, "      dedupe: '{{ entry.fields.n }}'\n");
    let runner = site.start().await;
    until_done(&site, &runner, 1).await;
    for n in ["2", "1", "3"] {
        let _: String = ask(&mut link, &["XADD", "orders", "*", "n", n]).await;
    }
    until_done(&site, &runner, 3).await;
    let state = until_state(&site, &runner, |state| state["repeated"] == 1).await;
    assert_eq!((&state["state"], &state["enqueued"]), (&"listening".into(), &3.into()));
    let task = site.cli(["task", "show", "orders:new@msg-2", "--json"]).await.json();
    assert!(task.to_string().contains(r#"{\"n\":\"2\"}"#), "{task}");
    assert_eq!(
        (&task["trigger"], &task["event"]),
        (&"redis_stream".into(), &"orders".into()),
        "{task}"
    );
    let metrics = runner.http.get("/metrics").await.body;
    let line = r#"runner_trigger_messages_total{trigger="orders:new",outcome="enqueued"} 3"#;
    assert!(metrics.contains(line), "{metrics}");
    assert!(
        runner.http.get("/queue").await.body.contains("orders:new"),
        "the first page shows it"
    );
    assert_eq!(pending(&mut link, GROUP).await, 0);
    assert!(runner.stop().await.success());
    let consumers: Vec<redis::Value> = ask(&mut link, &["XINFO", "CONSUMERS", "orders", GROUP]).await;
    assert!(
        consumers.is_empty(),
        "a consumer that holds nothing leaves: {consumers:?}"
    );
}

/// Consumers of the group of the stream `orders`, by name.
async fn consumers(link: &mut MultiplexedConnection) -> Vec<String> {
    let all: Vec<std::collections::HashMap<String, redis::Value>> =
        ask(link, &["XINFO", "CONSUMERS", "orders", GROUP]).await;
    let name = |one: &std::collections::HashMap<String, redis::Value>| redis::from_redis_value(one["name"].clone());
    all.iter().map(|one| name(one).expect("a name")).collect()
}

async fn bad_entries_hold_up_no_other() {
    let db = kit::redis().fresh_db();
    let mut link = db.connect().await;
    let site = site(
        &db,
        "      field: body\n      create: true\n      on_bad_entry: dead_letter\n",
    );
    let runner = site.start().await;
    until_state(&site, &runner, |state| state["state"] == "listening").await;
    let first: String = ask(&mut link, &["XADD", "orders", "*", "body", "no json"]).await;
    let _: String = ask(&mut link, &["XADD", "orders", "*", "other", "{}"]).await;
    let _: String = ask(&mut link, &["XADD", "orders", "*", "body", "{}"]).await;
    until_done(&site, &runner, 1).await;
    let state = until_state(&site, &runner, |state| state["bad"] == 2).await;
    assert_eq!(state["last_bad"][1], "the entry has no field \"body\"");
    let dead: Vec<(String, Vec<String>)> = ask(&mut link, &["XRANGE", "orders.dead", "-", "+"]).await;
    assert_eq!(dead[0].1[..4], ["body", "no json", "runner-entry", first.as_str()]);
    // Kept here, and acknowledged.
    site.write("manifests/orders.yaml", &manifest("      field: body\n"));
    let _: String = ask(&mut link, &["XADD", "orders", "*", "other", "x"]).await;
    until_state(&site, &runner, |state| state["bad"] == 3).await;
    let _: String = ask(&mut link, &["XADD", "orders", "*", "body", "{}"]).await;
    until_done(&site, &runner, 2).await;
    assert!(runner.stop().await.success());
    assert_eq!(pending(&mut link, GROUP).await, 0);
}

async fn a_group_that_is_gone_is_not_made_again() {
    let db = kit::redis().fresh_db();
    let mut link = db.connect().await;
    let site = site(&db, "      from: new\n");
    let runner = site.start().await;
    let code = |code: &'static str| move |state: &Value| state["fault"]["code"] == code;
    let waiting = until_state(&site, &runner, code("redis_stream_missing")).await;
    assert_eq!(
        waiting["state"], "waiting",
        "nothing has written it yet, which is no fault"
    );
    let page = runner.http.get("/queue").await.body;
    assert!(
        page.contains("Waiting") && !page.contains("does not listen to"),
        "{page}"
    );
    let doctor = site.cli(["doctor"]).await.stdout;
    assert!(!doctor.contains("redis_stream_missing"), "{doctor}");
    assert_eq!(
        runner.http.get("/readyz").await.status,
        200,
        "everything else continues"
    );
    // It makes the stream, and is a new one although it comes before the group.
    let before: String = ask(&mut link, &["XADD", "orders", "*", "n", "0"]).await;
    until_done(&site, &runner, 1).await;
    assert!(runner.stop().await.success());
    let runner = site.start().await;
    until_state(&site, &runner, |state| state["state"] == "listening").await;
    let _: u64 = ask(&mut link, &["XGROUP", "DESTROY", "orders", GROUP]).await;
    let gone = until_state(&site, &runner, code("redis_group_gone")).await;
    let command = format!("XGROUP CREATE orders {GROUP} {before} MKSTREAM");
    assert!(
        gone["fault"]["why"].as_str().is_some_and(|why| why.ends_with(&command)),
        "{gone}"
    );
    let _: String = ask(&mut link, &["XADD", "orders", "*", "n", "1"]).await;
    // Neither does a restart make it.
    assert!(runner.stop().await.success());
    let runner = site.start().await;
    until_state(&site, &runner, code("redis_group_gone")).await;
    let words: Vec<&str> = command.split(' ').collect();
    let _: String = ask(&mut link, &words).await;
    until_done(&site, &runner, 2).await;
    assert_eq!(pending(&mut link, GROUP).await, 0);
    assert!(runner.stop().await.success());
}

async fn a_bad_entry_is_run_from_its_page() {
    let (db, broker) = (kit::redis().fresh_db(), kit::redis().fresh_db());
    let mut link = db.connect().await;
    let yaml = format!(
        "redis_connections:\n  main: {}\nredis:\n  url: {}\n",
        db.url(),
        broker.url()
    );
    let site = Site::new(&yaml);
    site.write(
        "manifests/orders.yaml",
        &manifest("      field: body\n      create: true\n"),
    );
    let runner = site.start().await;
    until_state(&site, &runner, |state| state["state"] == "listening").await;
    let _: String = ask(&mut link, &["XADD", "orders", "*", "body", "no json", "by", "li"]).await;
    until_state(&site, &runner, |state| state["bad"] == 1).await;
    let kept = site.cli(["ls", "bad-messages", "--json"]).await.json();
    assert_eq!(
        (&kept[0]["body"], &kept[0]["fields"], &kept[0]["stream"]),
        (&"no json".into(), &r#"{"by":"li"}"#.into(), &"orders".into()),
        "{kept}"
    );
    let list = runner.http.get("/queue/bad-messages").await.body;
    let (_, rest) = list.split_once("class=\"id\" href=\"").expect("a row");
    let page = rest.split('"').next().unwrap_or_default();
    let text = runner.http.get(page).await.body;
    let (_, rest) = text.split_once("name=\"token\" value=\"").expect("a form");
    let token = rest.split('"').next().unwrap_or_default();
    let form = [("token", token), ("back", page)];
    let run = runner.http.post_form(&format!("{page}/run"), &form).await;
    assert_eq!(run.status, 303, "{}", run.body);
    assert!(
        run.header("location").contains("/orders%3Anew%40kept-"),
        "{}",
        run.header("location")
    );
    until_done(&site, &runner, 1).await;
    let left = site.cli(["ls", "bad-messages", "--json"]).await.json();
    assert_eq!(left, Value::Array(Vec::new()));
    assert!(runner.stop().await.success());
}

async fn a_restart_overwrites_no_bad_entry() {
    let (db, broker) = (kit::redis().fresh_db(), kit::redis().fresh_db());
    let mut link = db.connect().await;
    let yaml = format!(
        "redis_connections:\n  main: {}\nredis:\n  url: {}\n",
        db.url(),
        broker.url()
    );
    let site = Site::new(&yaml);
    site.write(
        "manifests/orders.yaml",
        &manifest("      field: body\n      create: true\n"),
    );
    // 40 in all, of which 32 are kept: the oldest make way, whenever the program was started.
    for (start, sent) in [20, 10, 10].into_iter().enumerate() {
        let runner = site.start().await;
        until_state(&site, &runner, |state| state["state"] == "listening").await;
        for n in 0..sent {
            let body = format!("start {start} entry {n}");
            let _: String = ask(&mut link, &["XADD", "orders", "*", "body", &body]).await;
        }
        until_state(&site, &runner, |state| state["bad"] == sent).await;
        assert!(runner.stop().await.success());
    }
    let kept = site.cli(["ls", "bad-messages", "--limit", "99", "--json"]).await.json();
    let bodies = kept
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["body"].as_str().unwrap().to_owned());
    let bodies: std::collections::BTreeSet<String> = bodies.collect();
    assert_eq!(bodies.len(), 32, "{bodies:?}");
    for (start, from, to) in [(0, 8, 20), (1, 0, 10), (2, 0, 10)] {
        for n in from..to {
            assert!(
                bodies.contains(&format!("start {start} entry {n}")),
                "{start} {n}: {bodies:?}"
            );
        }
    }
    let cut = site.cli(["ls", "bad-messages", "--limit", "5"]).await.ok();
    assert_eq!(cut.stdout.matches("orders:new@").count(), 5, "{}", cut.stdout);
    assert!(cut.stderr.contains("the newest 5 of 32 are listed"), "{}", cut.stderr);
}

async fn a_dead_stream_that_takes_nothing_holds_up_no_entry() {
    let db = kit::redis().fresh_db();
    let mut link = db.connect().await;
    let _: String = ask(&mut link, &["SET", "orders.dead", "no stream"]).await;
    for fields in [["other", "{}"], ["body", "{}"]] {
        let _: String = ask(&mut link, &["XADD", "orders", "*", fields[0], fields[1]]).await;
    }
    let site = site(
        &db,
        "      field: body\n      on_bad_entry: dead_letter\n      batch: 1\n",
    );
    let runner = site.start().await;
    until_done(&site, &runner, 1).await;
    let state = until_state(&site, &runner, |state| state["bad"] == 1).await;
    let why = state["last_bad"][1].as_str().unwrap_or_default();
    assert!(
        why.contains("redis_dead_letter") && why.contains("orders.dead"),
        "{why}"
    );
    assert_eq!(state["state"], "listening");
    assert_eq!(pending(&mut link, GROUP).await, 0);
    assert!(runner.stop().await.success());
}

async fn entries_that_were_deleted_before_they_were_acknowledged_are_bad_ones() {
    let db = kit::redis().fresh_db();
    let mut link = db.connect().await;
    let id: String = ask(&mut link, &["XADD", "orders", "*", "n", "1"]).await;
    let _: String = ask(&mut link, &["XGROUP", "CREATE", "orders", GROUP, "0"]).await;
    let read = ["XREADGROUP", "GROUP", GROUP, "dead", "STREAMS", "orders", ">"];
    let _: redis::Value = ask(&mut link, &read).await;
    let _: u64 = ask(&mut link, &["XDEL", "orders", &id]).await;
    let site = site(&db, "      take_over: 5s\n");
    let runner = site.start().await;
    let state = until_state(&site, &runner, |state| state["bad"] == 1).await;
    let why = state["last_bad"][1].as_str().unwrap_or_default();
    assert!(why.contains(&id) && why.contains("was deleted"), "{why}");
    assert_eq!(pending(&mut link, GROUP).await, 0);
    assert!(runner.stop().await.success());
}

/// A way to a server that carries this many bytes of answers in a tenth of a second; its port.
async fn slow_line(server: u16, bytes: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("its address").port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (mut from, mut to) = client.into_split();
            let upstream = TcpStream::connect(("127.0.0.1", server)).await.expect("the server");
            let (mut answers, mut questions) = upstream.into_split();
            tokio::spawn(async move { drop(tokio::io::copy(&mut from, &mut questions).await) });
            tokio::spawn(async move {
                let (mut tick, mut part) = (tokio::time::interval(Duration::from_millis(100)), vec![0; bytes]);
                while let Ok(length @ 1..) = answers.read(&mut part).await {
                    if to.write_all(&part[..length]).await.is_err() {
                        break;
                    }
                    tick.tick().await;
                }
            });
        }
    });
    port
}

async fn a_batch_that_is_too_large_for_the_line_gets_smaller() {
    let server = RedisServer::start(&[]);
    let port = slow_line(server.port, 16 << 10).await;
    let settings = RedisSettings::from_url(&format!("redis://127.0.0.1:{}", server.port)).expect("settings");
    let client = RedisClient::lazy(&settings).expect("a client");
    // Two and a half megabytes: fifteen seconds.
    let body = vec![b'x'; 250_000];
    for _ in 0..10 {
        client.append("orders", None, &[("n", &body)]).await.expect("an entry");
    }
    let site = Site::new(&format!("redis_connections:\n  main: redis://127.0.0.1:{port}\n"));
    site.write("manifests/orders.yaml", &manifest("      batch: 10\n"));
    let runner = site.start().await;
    until_done(&site, &runner, 10).await;
    assert!(runner.stop().await.success());
}

async fn consumers_that_are_gone_are_forgotten() {
    let db = kit::redis().fresh_db();
    let mut link = db.connect().await;
    let _: String = ask(&mut link, &["XADD", "orders", "*", "n", "1"]).await;
    let _: String = ask(&mut link, &["XGROUP", "CREATE", "orders", GROUP, "0"]).await;
    let read = ["XREADGROUP", "GROUP", GROUP, "runner:holds", "STREAMS", "orders", ">"];
    let _: redis::Value = ask(&mut link, &read).await;
    for name in ["runner:gone", "other"] {
        let _: u64 = ask(&mut link, &["XGROUP", "CREATECONSUMER", "orders", GROUP, name]).await;
    }
    let settings = RedisSettings::from_url(&db.url()).expect("settings");
    let client = RedisClient::lazy(&settings).expect("a client");
    let mut reader = client.reader("orders", GROUP, "x").await.expect("a connection");
    let silent = Duration::from_secs(3600);
    assert_eq!(
        reader.forget("runner:", silent).await,
        Ok(0),
        "they were heard of just now"
    );
    eventually_within(PATIENCE, "one is forgotten", async || {
        match reader_forgets(&client).await {
            1 => Ok(()),
            other => Err(other),
        }
    })
    .await;
    assert_eq!(consumers(&mut link).await, ["other", "runner:holds"]);
}

async fn reader_forgets(client: &RedisClient) -> u64 {
    let mut reader = client.reader("orders", GROUP, "x").await.expect("a connection");
    reader.forget("runner:", Duration::ZERO).await.expect("an answer")
}

async fn no_entry_is_lost_or_doubled_when_the_program_is_killed() {
    let (entries, kills) = (10_000, if kit::long() { 12 } else { 4 });
    let db = kit::redis().fresh_db();
    let mut link = db.connect().await;
    let mut pipe = redis::pipe();
    for n in 0..entries {
        pipe.cmd("XADD").arg("orders").arg("*").arg("n").arg(n).ignore();
    }
    let () = pipe.query_async(&mut link).await.expect("entries");
    // Few at a time, so that the kills come in between.
    let mut site = site(&db, "");
    site.write(
        "manifests/orders.yaml",
        &manifest("      batch: 50\n      take_over: 5s\n"),
    );
    site.env = vec![("RUNNER_ROLES".to_owned(), "worker,web".to_owned())];
    let worker = site.start().await;
    site.env = vec![("RUNNER_ROLES".to_owned(), "scheduler".to_owned())];
    let mut runner = site.launch();
    for _ in 0..kills {
        let so_far = counts(&site).await.0;
        eventually_within(PATIENCE, "entries become tasks", async || match counts(&site).await.0 {
            more if more > so_far || more >= entries => Ok(()),
            same => Err(format!("still {same}\n{}", runner.child.tail())),
        })
        .await;
        runner.kill9();
        runner = site.launch();
    }
    eventually_within(PATIENCE * 2, "all entries are tasks, and those are done", async || {
        let (left, (done, waiting)) = (pending(&mut link.clone(), GROUP).await, counts(&site).await);
        // Those that are done stay for an hour.
        let over = left == 0 && waiting == done && done >= entries;
        over.then_some(())
            .ok_or_else(|| format!("{left} left, {done} done, {waiting} wait\n{}", runner.child.tail()))
    })
    .await;
    assert!(runner.stop().await.success());
    assert_same_ids(&site, &mut link).await;
    let (done, left) = (counts(&site).await.0, pending(&mut link, GROUP).await);
    let mut fault = kit::Fault::new("F37-streams");
    fault
        .figure("entries", entries)
        .figure("kills", kills)
        .figure("tasks", done);
    let (doubled, lost) = (done.saturating_sub(entries), entries.saturating_sub(done));
    fault
        .require("duplicates", doubled, doubled == 0)
        .require("lost", lost, lost == 0);
    fault.require("unacknowledged", left, left == 0);
    fault.end(|| worker.child.tail());
}

/// Each entry of the stream has its task, and there is no other one.
async fn assert_same_ids(site: &Site, link: &mut MultiplexedConnection) {
    let entries: Vec<(String, Vec<String>)> = ask(link, &["XRANGE", "orders", "-", "+"]).await;
    let expected: BTreeSet<String> = entries
        .iter()
        .map(|(id, _)| format!("orders:new@entry-orders/{id}"))
        .collect();
    let mut found = BTreeSet::new();
    for page in 1.. {
        let page = page.to_string();
        let words = [
            "ls",
            "tasks",
            "--state",
            "completed",
            "--size",
            "1000",
            "--page",
            &page,
            "--json",
        ];
        let listed = site.cli(words).await.json();
        let tasks = listed.as_array().expect("a list");
        if tasks.is_empty() {
            break;
        }
        found.extend(
            tasks
                .iter()
                .map(|task| task["id"].as_str().unwrap_or_default().to_owned()),
        );
    }
    let missing: Vec<_> = expected.difference(&found).take(5).collect();
    let foreign: Vec<_> = found.difference(&expected).take(5).collect();
    assert!(
        missing.is_empty() && foreign.is_empty(),
        "missing {missing:?}, foreign {foreign:?}"
    );
}

async fn a_stream_of_a_cluster_is_read() {
    let cluster = kit::cluster().await;
    let addresses = cluster.addresses().join(", ");
    let site = Site::new(&format!(
        "redis_connections:\n  main: {{cluster: {{addresses: [{addresses}]}}}}\n"
    ));
    site.write("manifests/orders.yaml", &manifest("      create: true\n"));
    let runner = site.start().await;
    until_state(&site, &runner, |state| state["state"] == "listening").await;
    for n in ["1", "2"] {
        let owner = &cluster.nodes[cluster.owner("orders").await];
        let _: String = owner.ask(&["XADD", "orders", "*", "n", n]).await;
    }
    until_done(&site, &runner, 2).await;
    assert!(runner.stop().await.success());
}

async fn a_stream_is_written_and_read_over_tls() {
    let authority = Authority::new();
    let pair = authority.sign("localhost", 2090);
    let port = kit::free_port().to_string();
    let text = |path: &std::path::Path| path.display().to_string();
    let (cert, key, ca) = (text(&pair.cert), text(&pair.key), text(&authority.file()));
    let files = [
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
    ];
    let server = RedisServer::start(&[&["--tls-port", &port, "--tls-auth-clients", "no"][..], &files].concat());
    let of = |ca: &str| {
        let tls = format!("tls: {{ca_file: {ca}}}");
        format!("redis_connections:\n  main: {{url: 'rediss://localhost:{port}', {tls}}}\n")
    };
    // The file comes late, as one of a mounted secret does.
    let late = authority.file().with_file_name("late.pem");
    let site = Site::new(&of(&text(&late)));
    site.write(
        "manifests/orders.yaml",
        &manifest("      create: true\n      field: body\n"),
    );
    site.write(
        "manifests/send.yaml",
        "name: send\npublish: {redis: {stream: orders}}\n",
    );
    let runner = site.start().await;
    until_state(&site, &runner, |state| state["fault"]["code"] == "redis_refused").await;
    std::fs::copy(&ca, &late).expect("the file");
    until_state(&site, &runner, |state| state["state"] == "listening").await;
    site.cli(["enqueue", "fn:send", "--payload", r#"{"n":1}"#]).await.ok();
    until_done(&site, &runner, 2).await;
    assert!(runner.stop().await.success());
    // Nothing falls back to plain text, and a server that is not trusted gets nothing.
    let other = Authority::new();
    site.write("config.yaml", &of(&text(&other.file())));
    let runner = site.start().await;
    until_state(&site, &runner, |state| state["fault"]["code"] == "redis_refused").await;
    assert!(runner.stop().await.success());
    drop(server);
}
