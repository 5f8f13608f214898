//! Entries that Go schedulers write into a shared Redis: listed by the program, never fired, never changed. And the entries
//! that the program publishes for them.

use redis::aio::MultiplexedConnection;

use crate::kit::{self, RedisDb, Site, eventually};

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![needs(Redis): entries_of_a_go_scheduler_are_listed, published_entries_end_with_the_program;]
}

const ENTRY: &str = "5d2a1c9e-7a64-4a36-9f0e-0c4f5b8a9d11";
const SCHEDULER: &str = "host-a:4711:0c8e6a52-1111-4222-8333-944445555666";

/// A field of protobuf whose value has a length, below 128.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let length = u8::try_from(value.len()).unwrap();
    assert!(length < 128);
    [&[number << 3 | 2, length], value].concat()
}

/// A timestamp of whole seconds.
fn instant(mut seconds: u64) -> Vec<u8> {
    let mut out = vec![0x08];
    while seconds >= 0x80 {
        out.push((seconds & 0x7f) as u8 | 0x80);
        seconds >>= 7;
    }
    out.push(seconds as u8);
    out
}

/// Writes what a Go scheduler writes at each heartbeat.
async fn heartbeat(link: &mut MultiplexedConnection) {
    let never = [0x08, 0x80, 0x92, 0xb8, 0xc3, 0x98, 0xfe, 0xff, 0xff, 0xff, 0x01];
    let entry = [
        field(1, ENTRY.as_bytes()),
        field(2, b"CRON_TZ=Asia/Shanghai 0 2 * * *"),
        field(3, b"report:nightly"),
        field(4, b"{}"),
        field(5, b"Queue(\"low\")"),
        field(5, b"MaxRetry(3)"),
        // 2100-01-01T00:00:00Z
        field(6, &instant(4_102_444_800)),
        field(7, &never),
    ]
    .concat();
    let key = format!("asynq:schedulers:{{{SCHEDULER}}}");
    let event = [field(1, b"task-1"), field(2, &instant(1_765_841_152))].concat();
    redis::pipe()
        .zadd("asynq:schedulers", &key, 4_102_444_800_u64)
        .lpush(&key, entry)
        .zadd(format!("asynq:scheduler_history:{ENTRY}"), event, 1_765_841_152_u64)
        .exec_async(link)
        .await
        .unwrap();
}

fn site(db: &RedisDb) -> Site {
    let site = Site::new(&format!(
        "{}server: {{timezone: UTC}}\nworker: {{queues: {{low: 1}}}}\n",
        db.yaml()
    ));
    let manifest = "name: own\nschedule: {cron: \"0 3 1 1 *\", timezone: Europe/Berlin}\nexec: [\"true\"]\nretry: 3\ntimeout: 90s\nretention: 1h\nqueue: low\n";
    site.write("manifests/own.yaml", manifest);
    site
}

async fn entries_of_a_go_scheduler_are_listed() {
    let db = kit::redis().fresh_db();
    heartbeat(&mut db.connect().await).await;
    let site = site(&db);
    site.write(
        "manifests/lost.yaml",
        "name: lost\nschedule: '@daily'\nexec: [date]\nqueue: nowhere\n",
    );
    let runner = site.start().await;
    eventually("the list says which queue no live server serves", async || {
        let list = site.cli(["ls", "schedules", "--json"]).await.ok().stdout;
        let list: serde_json::Value = serde_json::from_str(&list).unwrap();
        let lost = list.as_array().unwrap().iter().find(|s| s["id"] == "m:lost:default");
        let problems = lost.unwrap()["problems"].to_string();
        problems.contains("W211").then_some(()).ok_or(problems)
    })
    .await;
    let list = site.cli(["ls", "schedules", "--json"]).await;
    let list: serde_json::Value = serde_json::from_str(&list.stdout).unwrap();
    let entry = list.as_array().unwrap().iter().find(|s| s["source"] == "go").unwrap();
    assert_eq!(entry["id"], ENTRY);
    assert_eq!(entry["origin"], SCHEDULER);
    assert_eq!(
        (&entry["spec"], &entry["timezone"]),
        (&"0 2 * * *".into(), &"Asia/Shanghai".into())
    );
    assert_eq!(
        (&entry["type"], &entry["queue"]),
        (&"report:nightly".into(), &"low".into())
    );
    assert_eq!(entry["options"], serde_json::json!(["Queue(\"low\")", "MaxRetry(3)"]));
    assert_eq!(entry["next"], serde_json::json!(["2100-01-01T00:00:00+00:00"]));
    assert_eq!(entry["last"], serde_json::Value::Null);
    let page = runner.http.get("/queue/schedules?source=go").await.body;
    for part in [ENTRY, "report:nightly", "Asia/Shanghai", SCHEDULER, "MaxRetry(3)"] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    assert!(!page.contains("m:own:default"), "only those of Go were asked for");
    let page = runner.http.get(&format!("/queue/schedules/{ENTRY}")).await;
    assert_eq!(page.status, 200);
    for part in ["task-1", "2025-12-15 23:25:52", "0 2 * * *"] {
        assert!(page.body.contains(part), "{part} is not in {}", page.body);
    }
    assert!(!page.body.contains("No source defines"), "{}", page.body);
    let shown = site.cli(["schedule", "show", ENTRY]).await.ok().stdout;
    for part in [
        SCHEDULER,
        "0 2 * * *",
        "Asia/Shanghai",
        "MaxRetry(3)",
        "2025-12-15T23:25:52+00:00",
        "task-1",
    ] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    let shown = site.cli(["schedule", "show", ENTRY, "--json"]).await.ok().stdout;
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let enqueued = serde_json::json!([{"at": "2025-12-15T23:25:52+00:00", "task": "task-1"}]);
    assert_eq!((&shown["source"], &shown["enqueued"]), (&"go".into(), &enqueued));
    for verb in ["pause", "run", "resume"] {
        let refused = site.cli(["schedule", verb, ENTRY]).await;
        assert_eq!(refused.status.code(), Some(1), "{verb}: {refused:?}");
        assert!(refused.stderr.contains("is changed there only"), "{verb}: {refused:?}");
    }
    assert_eq!(runner.http.get("/queue/schedules/unknown-entry").await.status, 404);
}

async fn published_entries_end_with_the_program() {
    let db = kit::redis().fresh_db();
    let mut link = db.connect().await;
    let runner = site(&db).start().await;
    let shown: Vec<Vec<u8>> = eventually("the entry is shown", async || {
        let mut link = db.connect().await;
        let mut listed = redis::cmd("ZRANGE");
        listed.arg("asynq:schedulers").arg(0).arg(-1);
        let keys: Vec<String> = listed.query_async(&mut link).await.unwrap();
        let key = keys.first().ok_or("no scheduler is listed")?;
        let list = redis::cmd("LRANGE")
            .arg(key)
            .arg(0)
            .arg(-1)
            .query_async(&mut link)
            .await;
        Ok::<_, &str>(list.unwrap())
    })
    .await;
    let text = String::from_utf8_lossy(&shown[0]).into_owned();
    for part in [
        "CRON_TZ=Europe/Berlin 0 3 1 1 *",
        "Queue(\"low\")",
        "MaxRetry(3)",
        "Timeout(1m30s)",
        "Retention(1h0m0s)",
    ] {
        assert!(text.contains(part), "{part} is not in {text:?}");
    }
    runner.stop().await;
    let left: u64 = redis::cmd("ZCARD")
        .arg("asynq:schedulers")
        .query_async(&mut link)
        .await
        .unwrap();
    assert_eq!(left, 0);
}
