//! Configuration of Redis: a server that may evict tasks is refused at start, and noticed when it becomes one.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use runner_queue::Broker as _;
use runner_queue::redis::{RedisBroker, RedisSettings, RedisTarget};
use tokio::time::Instant;

use crate::kit::{self, RedisDb, RedisServer, Runner, Site};

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(Redis): a_server_that_may_evict_is_not_started_on_unless_that_is_allowed,
            missing_tls_files_are_a_settings_error, a_changed_eviction_policy_is_noticed_and_so_is_its_end,
            a_denied_login_is_reported_by_readyz_and_in_the_log, a_flushed_server_is_reported_and_work_continues;
        needs(Cluster): one_node_that_may_evict_is_enough;
    ]
}

async fn set_policy(link: &mut MultiplexedConnection, policy: &str) {
    let _: () = redis::cmd("CONFIG")
        .arg(&["SET", "maxmemory-policy", policy])
        .query_async(link)
        .await
        .unwrap();
}

async fn broker_check(runner: &Runner) -> (u16, serde_json::Value) {
    let reply = runner.http.get("/readyz").await;
    let checks = reply.json()["checks"].clone();
    let broker = checks
        .as_array()
        .unwrap()
        .iter()
        .find(|check| check["name"] == "broker");
    (reply.status, broker.unwrap().clone())
}

async fn metric(runner: &Runner, line: &str) -> bool {
    runner.http.get("/metrics").await.body.lines().any(|l| l == line)
}

async fn a_server_that_may_evict_is_not_started_on_unless_that_is_allowed() {
    let server = RedisServer::start(&["--maxmemory-policy", "allkeys-lru"]);
    let db = server.fresh_db();
    let site = Site::new(&db.yaml());
    let runner = site.launch();
    let log = runner.child.pid();
    let status = runner.ended().await;
    assert_eq!(status.code(), Some(78), "process {log}");
    let said = std::fs::read_dir(&site.dir)
        .unwrap()
        .filter_map(|entry| std::fs::read_to_string(entry.unwrap().path()).ok())
        .collect::<String>();
    for part in ["broker_evicts", "allkeys-lru", "noeviction", "redis.allow_eviction"] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    // An operator may allow it, and gets a warning at start.
    site.write("config.yaml", &format!("{}  allow_eviction: true\n", db.yaml()));
    let runner = site.start().await;
    assert!(runner.log().contains("broker_evicts"), "{}", runner.log());
    let page = runner.http.get("/queue").await.body;
    assert!(
        !page.contains("broker_evicts"),
        "an allowed policy is not a problem: {page}"
    );
    // A server without persistence is reported too, once.
    assert_eq!(
        runner.log().matches("broker_not_durable").count(),
        1,
        "{}",
        runner.log()
    );
    assert!(runner.stop().await.success());
}

async fn missing_tls_files_are_a_settings_error() {
    let site = Site::new("redis: {host: \"127.0.0.1:1\", tls: {ca_file: /no/ca.pem}}\n");
    for command in [&["ls", "queues"][..], &["run", "-c", "config.yaml"]] {
        let ended = site.cli(command).await;
        assert_eq!(ended.status.code(), Some(78), "{command:?}: {}", ended.stderr);
        assert!(ended.stderr.contains("cannot read /no/ca.pem"), "{}", ended.stderr);
    }
}

async fn a_changed_eviction_policy_is_noticed_and_so_is_its_end() {
    let server = RedisServer::start(&["--appendonly", "yes"]);
    let db: RedisDb = server.fresh_db();
    let mut link = db.connect().await;
    let runner = Site::new(&db.yaml()).start().await;
    assert!(!runner.log().contains("broker_not_durable"), "{}", runner.log());
    assert_eq!(broker_check(&runner).await.1["note"], serde_json::Value::Null);
    let changed = Instant::now();
    set_policy(&mut link, "volatile-ttl").await;
    let limit = Duration::from_secs(30);
    kit::eventually_within(limit, "the policy is counted", || async {
        let shown = metric(&runner, "runner_broker_unsafe_policy 1").await;
        shown.then_some(()).ok_or("the gauge is still 0")
    })
    .await;
    let detected = changed.elapsed();
    let (status, check) = broker_check(&runner).await;
    assert_eq!(status, 200, "it still works");
    assert!(check["note"].as_str().unwrap().contains("volatile-ttl"), "{check}");
    assert!(runner.log().contains("broker_evicts"), "{}", runner.log());
    let page = runner.http.get("/queue").await.body;
    assert!(
        page.contains("broker_evicts") && page.contains("volatile-ttl"),
        "{page}"
    );
    set_policy(&mut link, "noeviction").await;
    kit::eventually_within(limit, "the end is shown too", || async {
        let shown = metric(&runner, "runner_broker_unsafe_policy 0").await;
        shown.then_some(()).ok_or("the gauge is still 1")
    })
    .await;
    println!("FT id=F15 result=pass refused=1 detect_s={:.1}", detected.as_secs_f64());
    assert!(runner.stop().await.success());
}

async fn one_node_that_may_evict_is_enough() {
    let cluster = kit::cluster().await;
    let settings = RedisSettings::of(RedisTarget::Cluster(cluster.addresses()));
    let broker = RedisBroker::connect(settings).await.unwrap();
    let codes = async || -> Vec<&'static str> {
        let found = broker.caveats().await.unwrap();
        found.iter().map(|caveat| caveat.code).collect()
    };
    assert!(!codes().await.contains(&"broker_evicts"));
    let set = async |policy: &str| {
        let _: () = cluster.nodes[2]
            .ask(&["CONFIG", "SET", "maxmemory-policy", policy])
            .await;
    };
    set("volatile-lru").await;
    let shown = codes().await;
    set("noeviction").await;
    assert!(shown.contains(&"broker_evicts"), "{shown:?}");
    assert!(!codes().await.contains(&"broker_evicts"));
}

async fn a_denied_login_is_reported_by_readyz_and_in_the_log() {
    let server = RedisServer::start(&["--requirepass", "of-the-operator"]);
    let site = Site::new(&format!(
        "redis: {{host: \"127.0.0.1:{}\", password: hunter2}}\n",
        server.port
    ));
    let runner = site.launch();
    kit::eventually_within(Duration::from_secs(20), "the reason is said", || async {
        let reply = runner
            .http
            .try_get("/readyz")
            .await
            .map_err(|error| error.to_string())?;
        let said = reply.status == 503 && reply.body.contains("broker_auth") && runner.log().contains("WRONGPASS");
        said.then_some(())
            .ok_or(format!("{}: {}\n{}", reply.status, reply.body, runner.log()))
    })
    .await;
    assert!(!runner.log().contains("hunter2"), "{}", runner.log());
    // With the right password it continues without a restart.
    let url = format!("redis://:of-the-operator@127.0.0.1:{}", server.port);
    let mut link = kit::link_to(&url).await.unwrap();
    let _: () = redis::cmd("CONFIG")
        .arg(&["SET", "requirepass", "hunter2"])
        .query_async(&mut link)
        .await
        .unwrap();
    runner.ready().await;
    assert!(runner.stop().await.success());
}

async fn a_flushed_server_is_reported_and_work_continues() {
    let server = RedisServer::start(&["--appendonly", "yes"]);
    let db: RedisDb = server.fresh_db();
    let mut link = db.connect().await;
    let site = Site::new(&db.yaml());
    site.write(
        "manifests/tick.yaml",
        "name: tick\nschedule: '@every 1s'\nhandler: echo\n",
    );
    let runner = site.start().await;
    let limit = Duration::from_secs(40);
    let fired = async || -> u64 {
        let text = runner.http.get("/metrics").await.body;
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix("runner_fires_total{decision=\"fired\"} "));
        line.map_or(0, |n| n.parse().unwrap())
    };
    kit::eventually_within(limit, "the mark is there", || async {
        let mut link = link.clone();
        let mark: Option<String> = redis::cmd("GET")
            .arg("runner:epoch")
            .query_async(&mut link)
            .await
            .unwrap();
        mark.ok_or("no mark yet")
    })
    .await;
    let () = redis::cmd("FLUSHDB").query_async(&mut link).await.unwrap();
    kit::eventually_within(limit, "the loss is counted", || async {
        let shown = metric(&runner, "runner_broker_state_lost_total 1").await;
        shown.then_some(()).ok_or("nothing was lost yet")
    })
    .await;
    let (status, check) = broker_check(&runner).await;
    assert_eq!(status, 200, "it works");
    assert!(check["note"].as_str().unwrap().contains("broker_state_lost"), "{check}");
    let log = runner.log();
    let line = log.lines().find(|line| line.contains("broker_state_lost"));
    assert!(line.is_some_and(|line| line.contains("ERROR")), "{log}");
    for (lang, words) in [("en", "state vanished"), ("zh", "已全部丢失")] {
        let page = runner.http.request(reqwest::Method::GET, "/queue");
        let page = runner.http.send(page.header("accept-language", lang)).await;
        let page = page.unwrap().body;
        assert!(
            page.contains("broker_state_lost") && page.contains(words),
            "{lang}: {page}"
        );
    }
    let before = fired().await;
    kit::eventually_within(limit, "schedules fire again", async || {
        let now = fired().await;
        (now > before)
            .then_some(())
            .ok_or(format!("{now} fires, {before} before\n{}", runner.child.tail()))
    })
    .await;
    assert_eq!(
        runner.log().matches("broker_state_lost").count(),
        1,
        "it is reported once"
    );
    assert!(runner.stop().await.success());
}
