//! Three instances on one Redis and many schedules due at the same instant: each fires once, and soon, even right after the
//! death of the leader.
//!
//! The short form checks completeness and prints the lateness; `RUNNER_LONG=1` runs as many schedules as a large
//! installation, checks the lateness against the promised limits, and counts the commands of idle instances.

use std::collections::BTreeSet;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::kit::{self, RedisDb, RedisServer, Runner, Site, eventually_within, long};

const INSTANCES: usize = 3;

/// Schedules in one file.
const IN_A_FILE: usize = 50;

/// How long deciding all of them may take, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// Limit for the lateness of 99 of 100 fires, in milliseconds: with a leader, and after its death.
const LED: i64 = 1_000;
const AFTER_DEATH: i64 = 1_500;

/// Commands a second that an idle instance with all roles may send, including those inside scripts.
const IDLE: f64 = 15.0;

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![needs(Redis): many_schedules_of_one_instant_fire_once_and_soon_after_a_leader_change;]
}

async fn many_schedules_of_one_instant_fire_once_and_soon_after_a_leader_change() {
    let (schedules, every) = if long() { (5_000, 60) } else { (200, 5) };
    let server = RedisServer::start(&[]);
    let db = server.fresh_db();
    let mut redis = db.connect().await;
    let site = site(&db, schedules, every);
    let mut instances: Vec<Runner> = Vec::new();
    for _ in 0..INSTANCES {
        instances.push(site.start().await);
    }
    // From the first decided instant on, all are registered.
    let first = next_instant(&mut redis, every).await;
    let led = decided(&mut redis, first + every, schedules).await;
    if long() {
        count_commands(&mut redis).await;
    }
    let killed = kill_leader_before(&mut redis, &instances, every).await;
    let after = decided(&mut redis, killed, schedules).await;
    for (what, late, most) in [("led", led, LED), ("leader killed", after, AFTER_DEATH)] {
        let at = |percent: usize| late[(late.len() - 1) * percent / 100];
        println!(
            "fleet: {schedules} schedules of one instant, {what}: late p50 {} ms, p99 {} ms, most {} ms",
            at(50),
            at(99),
            at(100)
        );
        assert!(
            !long() || at(99) <= most,
            "{what}: p99 {} ms, {most} ms at most",
            at(99)
        );
    }
}

fn site(db: &RedisDb, schedules: usize, every: i64) -> Site {
    let site = Site::new(&format!("{}log: {{level: warn}}\n", db.yaml()));
    let cron = if every == 60 {
        "* * * * *".to_owned()
    } else {
        format!("*/{every} * * * * *")
    };
    for file in 0..schedules / IN_A_FILE {
        let entry = |n| {
            format!("  - {{id: s{n:02}, cron: \"{cron}\", overlap: allow, catch_up: {{policy: all, window: 10m}}}}\n")
        };
        let entries: String = (0..IN_A_FILE).map(entry).collect();
        let manifest = format!("name: f{file:03}\nhandler: echo\nschedule:\n{entries}");
        site.write(&format!("manifests/f{file:03}.yaml"), &manifest);
    }
    site
}

/// The next due instant of the schedules, by the server's clock.
async fn next_instant(redis: &mut MultiplexedConnection, every: i64) -> i64 {
    let (seconds, _): (i64, i64) = redis::cmd("TIME").query_async(redis).await.unwrap();
    (seconds / every + 1) * every
}

/// Waits until each schedule has its decision about this instant: all fired, once each. Returns the lateness, ascending.
async fn decided(redis: &mut MultiplexedConnection, instant: i64, schedules: usize) -> Vec<i64> {
    let link = redis.clone();
    let patience = PATIENCE + Duration::from_secs(120);
    let found = eventually_within(patience, "every schedule is decided", async || {
        let records: Vec<(String, Vec<String>)> = redis::cmd("XRANGE")
            .arg("runner:fires")
            .arg((instant - 1) * 1000)
            .arg("+")
            .query_async(&mut link.clone())
            .await
            .map_err(|error| error.to_string())?;
        let read = |text: &String| serde_json::from_str::<Value>(text).unwrap();
        let all = records.iter().map(|(_, fields)| read(&fields[1]));
        let all: Vec<Value> = all.filter(|decision| decision["n"] == instant).collect();
        if all.len() < schedules {
            return Err(format!("{} of {schedules}", all.len()));
        }
        Ok(all)
    })
    .await;
    let names: BTreeSet<&str> = found.iter().map(|d| d["s"].as_str().unwrap()).collect();
    assert_eq!((found.len(), names.len()), (schedules, schedules), "one decision each");
    assert!(found.iter().all(|d| d["k"] == "fired"), "all fired");
    let late = |d: &Value| d["d"].as_str().unwrap().parse::<i64>().unwrap() / 1_000_000 - instant * 1000;
    let mut late: Vec<i64> = found.iter().map(late).collect();
    late.sort_unstable();
    late
}

/// Kills the leader shortly before an instant that it would have decided. Returns that instant.
async fn kill_leader_before(redis: &mut MultiplexedConnection, instances: &[Runner], every: i64) -> i64 {
    let instant = next_instant(redis, every).await;
    loop {
        let (seconds, micros): (i64, i64) = redis::cmd("TIME").query_async(redis).await.unwrap();
        if seconds * 1000 + micros / 1000 >= instant * 1000 - 400 {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    let link = redis.clone();
    let pid = eventually_within(PATIENCE, "an instance leads", async || {
        let asked = redis::cmd("GET")
            .arg("runner:leader")
            .query_async(&mut link.clone())
            .await;
        let leader: Option<String> = asked.map_err(|error| error.to_string())?;
        let pid = leader
            .as_deref()
            .and_then(|leader| leader.split(':').nth(1)?.parse::<i32>().ok());
        pid.ok_or_else(|| "none does".to_owned())
    })
    .await;
    let leader = instances.iter().find(|instance| instance.child.pid() == pid);
    leader.expect("the leader is one of the instances").kill9();
    instant
}

/// Commands a second of one instance while nothing is due.
async fn count_commands(redis: &mut MultiplexedConnection) {
    let idle_from = next_instant(redis, 60).await - 40;
    let link = redis.clone();
    eventually_within(Duration::from_secs(120), "nothing is due", async || {
        let (seconds, _): (i64, i64) = redis::cmd("TIME").query_async(&mut link.clone()).await.unwrap();
        if seconds >= idle_from { Ok(()) } else { Err(seconds) }
    })
    .await;
    let count = async |redis: &mut MultiplexedConnection| -> i64 {
        let stats: String = redis::cmd("INFO").arg("commandstats").query_async(redis).await.unwrap();
        let calls = |line: &str| line.split_once("calls=")?.1.split(',').next()?.parse::<i64>().ok();
        stats.lines().filter_map(calls).sum()
    };
    let (began, before) = (Instant::now(), count(redis).await);
    sleep(Duration::from_secs(20)).await;
    let calls = (count(redis).await - before) as f64 / began.elapsed().as_secs_f64() / INSTANCES as f64;
    println!("fleet: an idle instance sends {calls:.1} commands a second, those of its scripts included");
    assert!(calls <= IDLE, "{calls} commands a second");
}
