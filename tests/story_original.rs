//! An unchanged configuration and table of the Go service that this program can replace.
//!
//! The file names the hosts `redis:6379` and `mysql:3306`; here these names resolve to the test's servers.

use std::time::Duration;

use serde_json::Value;

use crate::kit::{self, Forward, Names, Site, SqlDb, eventually, eventually_within};

const CONFIG: &str = include_str!("data/config/bingo-scheduler.yaml");
const TABLE: &str = include_str!("data/config/sys_crontab.sql");

/// Addresses that only this test uses, with the ports of the file.
const REDIS: &str = "127.77.0.2";
const MYSQL: &str = "127.77.0.3";

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![needs(Redis, MariaDb, Cc): the_configuration_and_the_table_work_unchanged]
}

async fn the_configuration_and_the_table_work_unchanged() {
    // The file names database 1 and the database `bingo`; no other test uses either.
    let table = kit::mariadb().create_db("bingo").await;
    table.execute(TABLE).await;
    let _redis = Forward::start(&format!("{REDIS}:6379"), kit::redis().port).await;
    let _mysql = Forward::start(&format!("{MYSQL}:3306"), kit::mariadb().port).await;
    let mut site = Site::new(CONFIG);
    site.env.extend(Names::new(&[("redis", REDIS), ("mysql", MYSQL)]).env());
    let runner = site.start().await;

    let row = listed(&site, "每日数据统计").await;
    let next = row["next"][0].as_str().unwrap_or_default();
    assert!(
        next.ends_with("T01:00:00+08:00"),
        "one in the morning in Shanghai, not {next}: {row}"
    );
    assert_eq!(row["type"], "task:daily-stats", "{row}");

    exactly_one_task_at_the_next_minute(&site, &table).await;
    assert!(runner.stop().await.success());
}

/// The schedule of this name, once the program lists it.
async fn listed(site: &Site, name: &str) -> Value {
    eventually(&format!("{name} is listed"), async || {
        let listing = site.cli(["ls", "schedules", "-c", "config.yaml", "--json"]).await;
        let schedules: Value =
            serde_json::from_str(&listing.stdout).map_err(|error| format!("{error}: {listing:?}"))?;
        let found = schedules
            .as_array()
            .into_iter()
            .flatten()
            .find(|schedule| schedule["name"] == name);
        found.cloned().ok_or_else(|| format!("{schedules}"))
    })
    .await
}

async fn exactly_one_task_at_the_next_minute(site: &Site, table: &SqlDb) {
    let db = kit::RedisDb {
        port: kit::redis().port,
        number: 1,
    };
    let mut redis = db.connect().await;
    table.execute("UPDATE sys_crontab SET spec = '* * * * *'").await;
    // No handler here, as if a Go worker elsewhere had it: the task stays in Redis.
    let (ids, decided) = eventually_within(Duration::from_secs(90), "a task at the next minute", async || {
        let fires: Vec<String> = redis::cmd("LRANGE")
            .arg("runner:fires:db:1")
            .arg(0)
            .arg(-1)
            .query_async(&mut redis.clone())
            .await
            .map_err(|e| e.to_string())?;
        let ids: Vec<String> = redis::cmd("KEYS")
            .arg("asynq:{default}:t:*")
            .query_async(&mut redis.clone())
            .await
            .map_err(|e| e.to_string())?;
        if fires.is_empty() {
            Err(format!("no decision, tasks {ids:?}"))
        } else {
            Ok((ids, fires))
        }
    })
    .await;
    assert_eq!(decided.len(), 1, "{decided:?}");
    assert_eq!(ids.len(), 1, "{ids:?}");
    let decision: Value = serde_json::from_str(&decided[0]).unwrap();
    assert_eq!(decision["k"], "fired", "{decision}");
    assert_eq!(decision["n"].as_i64().map(|at| at % 60), Some(0), "{decision}");

    let stored: Vec<u8> = redis::cmd("HGET")
        .arg(&ids[0])
        .arg("msg")
        .query_async(&mut redis)
        .await
        .unwrap();
    let payload = br#"{"date":"today"}"#;
    assert!(
        stored.windows(payload.len()).any(|part| part == payload),
        "{}",
        String::from_utf8_lossy(&stored)
    );
    let id = ids[0].rsplit(":t:").next().unwrap();
    let shown = site
        .cli(["task", "show", id, "-c", "config.yaml", "--json"])
        .await
        .json();
    assert_eq!(shown["payload"].to_string(), r#"{"date":"today"}"#, "{shown}");
}
