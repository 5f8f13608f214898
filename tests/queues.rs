//! Queues served by a pattern: later ones and very many; and that lists of very many queues stay short.

use runner_core::task::Task;
use runner_queue::redis::{RedisBroker, RedisSettings};
use runner_queue::{InspectQueues as _, Producer as _};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::kit::{self, RedisServer, Site};

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): a_pattern_serves_queues_that_come_later;
        needs(Redis): very_many_queues_are_served_over_redis, lists_query_only_the_queues_that_they_show,
            a_look_at_queues_reads_a_bounded_number_of_groups_at_once
    ]
}

/// State of the task with this id, in any queue.
async fn state(site: &Site, queue: &str, id: &str) -> Result<(), String> {
    let shown = site.cli(["task", "show", id, "--queue", queue, "--json"]).await;
    let task: Value = serde_json::from_str(&shown.stdout).map_err(|_| shown.stderr)?;
    match task["state"].as_str() {
        Some("completed") => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

async fn enqueue(site: &Site, queue: &str, id: &str) -> kit::Finished {
    let order = [
        "enqueue",
        "echo",
        "--queue",
        queue,
        "--id",
        id,
        "--payload",
        "1",
        "--retention",
        "1h",
    ];
    site.cli(order).await.ok()
}

async fn a_pattern_serves_queues_that_come_later() {
    let site = Site::new("worker: {queues: {\"tenant-*\": 2, default: 1}}\n");
    let runner = site.start().await;
    let warned = enqueue(&site, "tenant-7", "a").await;
    assert!(!warned.stderr.contains("W211"), "{}", warned.stderr);
    kit::eventually("the task of a new queue ran", async || {
        state(&site, "tenant-7", "a").await
    })
    .await;
    let warned = enqueue(&site, "other", "b").await;
    assert!(
        warned.stderr.contains("W211 No live server serves the queue other"),
        "{}",
        warned.stderr
    );
    let servers = site.cli(["ls", "servers", "--json"]).await.json();
    assert_eq!(servers[0]["info"]["queues"]["tenant-*"], 2, "{servers}");
    let queues = site.cli(["ls", "queues"]).await.ok().stdout;
    assert!(!queues.contains('*'), "a pattern is not a queue: {queues}");
    let page = runner.http.get("/queue/queues/tenant-7/pending").await.body;
    assert!(!page.contains("No live server takes tasks"), "{page}");
    let page = runner.http.get("/queue/servers").await.body;
    assert!(page.contains("tenant-*"), "{page}");
}

/// More than are queried in one call.
const MANY: usize = 300;

async fn very_many_queues_are_served_over_redis() {
    let db = kit::redis().fresh_db();
    let site = Site::new(&format!("{}worker: {{queues: {{\"*\": 1}}}}\n", db.yaml()));
    let runner = site.start().await;
    for n in 0..3 {
        enqueue(&site, &format!("first-{n}"), "a").await;
    }
    let mut settings = RedisSettings::at(format!("127.0.0.1:{}", db.port));
    settings.database = i64::from(db.number);
    let broker = RedisBroker::connect(settings).await.expect("a broker");
    let tasks: Vec<_> = (0..MANY)
        .map(|n| {
            let queue = format!("tenant-{n}");
            Task::new("echo").queue(queue).payload("1")
        })
        .collect();
    for answer in broker.enqueue(&tasks).await.expect("an answer") {
        answer.expect("a task");
    }
    kit::eventually("every task ran", async || {
        let infos = broker.queues().await.map_err(|e| e.to_string())?;
        let done: u64 = infos.iter().map(|q| q.processed).sum();
        match done == MANY as u64 + 3 {
            true => Ok(()),
            false => Err(format!("{done} of {} queues' tasks\n{}", infos.len(), runner.log())),
        }
    })
    .await;
}

/// Queues in the store, and the maximum number of scripts that a list may call.
const VERY_MANY: usize = 2_000;
const CALLS: u64 = 70;

/// Queues whose figures are all added up on the first page.
const SUMMED: usize = 500;

/// Bytes of a list.
const LONGEST: usize = 200_000;

async fn lists_query_only_the_queues_that_they_show() {
    // A separate server, whose calls are counted.
    let server = RedisServer::start(&[]);
    let db = server.fresh_db();
    let site = Site::new(&format!("{}roles: [web]\n", db.yaml()));
    let mut settings = RedisSettings::at(format!("127.0.0.1:{}", db.port));
    settings.database = i64::from(db.number);
    let broker = RedisBroker::connect(settings).await.expect("a broker");
    let queue = |n: usize| format!("tenant-{n:04}");
    let tasks: Vec<_> = (0..VERY_MANY).map(|n| Task::new("echo").queue(queue(n))).collect();
    let enqueue = async |tasks: &[Task]| {
        for answer in broker.enqueue(tasks).await.expect("an answer") {
            answer.expect("a task");
        }
    };
    enqueue(&tasks[..SUMMED]).await;
    let runner = site.start().await;
    let link = db.connect().await;
    let calls = async || -> u64 {
        let info = redis::cmd("INFO")
            .arg("commandstats")
            .query_async(&mut link.clone())
            .await;
        let info: String = info.expect("figures");
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
        let count = line.and_then(|line| line.split(',').next()).unwrap_or("0");
        count.parse().expect("a number")
    };
    let before = calls().await;
    let page = runner.http.get("/queue").await;
    let called = calls().await - before;
    assert!(page.status == 200 && called < CALLS / 2, "{called} calls");
    enqueue(&tasks[SUMMED..]).await;
    for path in ["/queue", "/queue?page=30", "/queue?queues=tenant-19", "/metrics"] {
        let before = calls().await;
        let page = runner.http.get(path).await;
        let called = calls().await - before;
        assert_eq!(page.status, 200);
        assert!(
            page.body.len() < LONGEST && called < CALLS,
            "{path}: {} bytes, {called} calls",
            page.body.len()
        );
    }
    for json in [&[][..], &["--json"]] {
        let before = calls().await;
        let list = site.cli([&["ls", "queues"], json].concat()).await.ok();
        let called = calls().await - before;
        assert!(
            list.stdout.len() < LONGEST && called < CALLS,
            "{} bytes, {called} calls",
            list.stdout.len()
        );
        assert!(list.stdout.contains("tenant-0299") && !list.stdout.contains("tenant-0300"));
        let warned = "page 1 of 7, 300 of 2000 queues; --page 2 has the next";
        assert!(list.stderr.contains(warned), "{}", list.stderr);
    }
    let some = ["ls", "queues", "--match", "*-19*", "--size", "40", "--page", "3"];
    let some = site.cli(some).await.ok();
    assert!(
        some.stdout.contains("tenant-1999") && !some.stdout.contains("tenant-1959"),
        "{}",
        some.stdout
    );
    assert!(some.stderr.contains("page 3 of 3, 20 of 100 queues"), "{}", some.stderr);
    let all = site.cli(["ls", "queues", "--json", "--size", "10000"]).await;
    assert!(all.stderr.is_empty(), "{}", all.stderr);
    assert_eq!(all.json().as_array().map(Vec::len), Some(VERY_MANY));
}

/// Queues, groups of each, and one with more than a call reads; and the most groups that one call may read.
const WITH_GROUPS: usize = 30;
const GROUPS: usize = 60;
const LARGE: usize = 400;
const AT_ONCE: usize = 250;

async fn a_look_at_queues_reads_a_bounded_number_of_groups_at_once() {
    let server = RedisServer::start(&[]);
    let db = server.fresh_db();
    let mut settings = RedisSettings::at(format!("127.0.0.1:{}", db.port));
    settings.database = i64::from(db.number);
    let broker = RedisBroker::connect(settings).await.expect("a broker");
    let queue = |n: usize| format!("tenant-{n:02}");
    let groups_of = |n: usize| if n == 7 { LARGE } else { GROUPS };
    for n in 0..WITH_GROUPS {
        let task = |group| Task::new("echo").queue(queue(n)).group(format!("g{group}"));
        let tasks: Vec<_> = (0..groups_of(n)).map(task).collect();
        for answer in broker.enqueue(&tasks).await.expect("an answer") {
            answer.expect("a task");
        }
    }
    let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", db.port)).await.expect("a link"));
    stream.get_mut().write_all(b"MONITOR\r\n").await.expect("sent");
    let mut lines = stream.lines();
    let mut line = async || lines.next_line().await.expect("a line").expect("a line");
    assert_eq!(line().await, "+OK");
    let infos = broker.queues().await.expect("figures");
    let found: Vec<_> = infos.iter().map(|info| (info.name.to_string(), info.size())).collect();
    let all: Vec<_> = (0..WITH_GROUPS).map(|n| (queue(n), groups_of(n) as u64)).collect();
    assert_eq!(found, all);
    let _: String = redis::cmd("ECHO")
        .arg("the end")
        .query_async(&mut db.connect().await)
        .await
        .expect("an answer");
    let mut reads: Vec<usize> = Vec::new();
    loop {
        let line = line().await;
        match () {
            () if line.contains("\"the end\"") => break,
            () if line.contains("\"EVALSHA\"") => reads.push(0),
            () if line.contains("\"ZCARD\"") && line.contains("}:g:") => *reads.last_mut().expect("a call") += 1,
            () => {}
        }
    }
    assert_eq!(
        reads.iter().sum::<usize>(),
        (WITH_GROUPS - 1) * GROUPS + LARGE,
        "{reads:?}"
    );
    let over = reads.iter().filter(|n| **n > AT_ONCE).count();
    assert_eq!(over, 1, "only a call for one queue: {reads:?}");
}
