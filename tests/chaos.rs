//! Three instances on one Redis, killed and frozen in turn: every occurrence gets exactly one decision.
//!
//! The short form runs with the other tests; `RUNNER_LONG=1` runs it for a minute. The decisions are counted in Redis, not
//! by the program.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use crate::kit::{self, RedisDb, Runner, Site, eventually_within};

const INSTANCES: usize = 3;
const SCHEDULES: usize = 20;

/// How long a frozen instance is frozen.
const FROZEN: Duration = Duration::from_secs(3);

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): the_count_detects_errors;
        needs(Redis): every_occurrence_gets_one_decision_whichever_instance_dies;
    ]
}

async fn every_occurrence_gets_one_decision_whichever_instance_dies() {
    let long = std::env::var_os("RUNNER_LONG").is_some();
    let (length, kill_every) = if long { (60, 5) } else { (12, 4) };
    let db = kit::redis().fresh_db();
    let site = Site::new(&db.yaml());
    for number in 0..SCHEDULES {
        let manifest = format!(
            "name: s{number:02}\nschedule: {{cron: \"* * * * * *\", overlap: allow, catch_up: {{policy: all, window: 5m}}}}\n\
             handler: echo\nretention: 1h\n"
        );
        site.write(&format!("manifests/s{number:02}.yaml"), &manifest);
    }
    let mut instances: Vec<Runner> = Vec::new();
    for _ in 0..INSTANCES {
        instances.push(site.start().await);
    }
    decided_from(&db, 0).await;
    let began = seconds(&db).await + 1;

    disturb(
        &site,
        &mut instances,
        Duration::from_secs(length),
        Duration::from_secs(kill_every),
    )
    .await;
    let ended = seconds(&db).await - 1;
    // The live instances decide what the others left.
    decided_from(&db, ended).await;
    for instance in instances {
        assert!(instance.stop().await.success());
    }
    judge(&db, began, ended).await;
}

/// Kills an instance and starts another in its place, repeatedly; freezes one in between.
async fn disturb(site: &Site, instances: &mut [Runner], length: Duration, kill_every: Duration) {
    let began = Instant::now();
    let (mut round, mut kills, mut freezes) = (0, 0, 0);
    while began.elapsed() + kill_every < length {
        round += 1;
        let victim = round % INSTANCES;
        sleep_until(began + kill_every * u32::try_from(round).unwrap()).await;
        instances[victim].kill9();
        instances[victim] = site.launch();
        kills += 1;
        let frozen = &instances[(victim + 1) % INSTANCES];
        frozen.signal(Signal::SIGSTOP);
        tokio::time::sleep(FROZEN).await;
        frozen.signal(Signal::SIGCONT);
        freezes += 1;
    }
    sleep_until(began + length).await;
    for instance in instances.iter() {
        instance.ready().await;
    }
    println!("chaos: {INSTANCES} instances, {SCHEDULES} schedules every second, {kills} killed, {freezes} frozen");
}

/// The server's clock, in whole seconds.
async fn seconds(db: &RedisDb) -> i64 {
    let (seconds, _): (i64, i64) = redis::cmd("TIME").query_async(&mut db.connect().await).await.unwrap();
    seconds
}

/// A decision as stored in Redis.
#[derive(Debug)]
struct Decision {
    nominal: i64,
    kind: String,
    count: u64,
    task: Option<String>,
    decided_ms: i64,
}

/// All decisions, by schedule.
async fn decisions(db: &RedisDb) -> BTreeMap<String, Vec<Decision>> {
    let mut redis = db.connect().await;
    let mut all = BTreeMap::new();
    for number in 0..SCHEDULES {
        let id = format!("m:s{number:02}:default");
        let records: Vec<String> = redis::cmd("LRANGE")
            .arg(format!("runner:fires:{id}"))
            .arg(0)
            .arg(-1)
            .query_async(&mut redis)
            .await
            .unwrap();
        let read = |text: &String| {
            let value: Value = serde_json::from_str(text).unwrap();
            Decision {
                nominal: value["n"].as_i64().unwrap(),
                kind: value["k"].as_str().unwrap().to_owned(),
                count: value["c"].as_u64().unwrap(),
                task: value["t"].as_str().map(str::to_owned),
                decided_ms: value["d"].as_str().unwrap().parse::<i64>().unwrap() / 1_000_000,
            }
        };
        all.insert(id, records.iter().map(read).collect::<Vec<_>>());
    }
    all
}

/// Waits until every schedule is decided up to this second.
async fn decided_from(db: &RedisDb, second: i64) {
    eventually_within(Duration::from_secs(30), "every schedule is decided", async || {
        let all = decisions(db).await;
        let late: Vec<&String> = all
            .iter()
            .filter(|(_, list)| !list.iter().any(|d| d.nominal >= second))
            .map(|(id, _)| id)
            .collect();
        if late.is_empty() {
            Ok(())
        } else {
            Err(format!("not yet: {late:?}"))
        }
    })
    .await;
}

/// The decisions about the occurrences of some seconds.
#[derive(Debug, Default, PartialEq)]
struct Count {
    fired: usize,
    duplicated: usize,
    missed: usize,
    other: Vec<String>,
    lateness_ms: Vec<i64>,
}

impl Count {
    /// Adds the decisions of one schedule, of which there should be one for each second.
    fn add(&mut self, list: &[Decision], seconds: RangeInclusive<i64>) {
        let mut each: HashMap<i64, usize> = HashMap::new();
        for decision in list.iter().filter(|decision| seconds.contains(&decision.nominal)) {
            *each.entry(decision.nominal).or_default() += 1;
            if decision.kind == "fired" && decision.count == 1 {
                self.fired += 1;
                self.lateness_ms.push(decision.decided_ms - decision.nominal * 1000);
            } else {
                self.other.push(format!("{decision:?}"));
            }
        }
        self.duplicated += each.values().filter(|count| **count > 1).count();
        self.missed += seconds.filter(|second| !each.contains_key(second)).count();
    }

    /// The lateness that this share of the fires does not exceed.
    fn late(&self, percent: usize) -> i64 {
        let mut sorted = self.lateness_ms.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        sorted.get(last * percent / 100).copied().unwrap_or_default()
    }
}

async fn judge(db: &RedisDb, began: i64, ended: i64) {
    let expected = usize::try_from(ended - began + 1).unwrap() * SCHEDULES;
    let decisions = decisions(db).await;
    let mut count = Count::default();
    for list in decisions.values() {
        count.add(list, began..=ended);
    }
    println!(
        "chaos: expected {expected}, fired {}, duplicated {}, missed {}, lateness p50 {} ms, p99 {} ms, most {} ms",
        count.fired,
        count.duplicated,
        count.missed,
        count.late(50),
        count.late(99),
        count.late(100)
    );
    assert_eq!((count.duplicated, count.missed, &count.other), (0, 0, &Vec::new()));
    assert_eq!(count.fired, expected);

    // Each decision has its task, and each task a decision.
    let decided: BTreeSet<String> = decisions.values().flatten().filter_map(|d| d.task.clone()).collect();
    let prefix = "asynq:{default}:t:";
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg(format!("{prefix}*"))
        .query_async(&mut db.connect().await)
        .await
        .unwrap();
    let there: BTreeSet<String> = keys.iter().map(|key| key[prefix.len()..].to_owned()).collect();
    assert_eq!(decided, there);
}

async fn the_count_detects_errors() {
    let fired = |nominal| Decision {
        nominal,
        kind: "fired".to_owned(),
        count: 1,
        task: None,
        decided_ms: nominal * 1000 + 7,
    };
    let counted = |list: &[Decision]| {
        let mut count = Count::default();
        count.add(list, 10..=12);
        (count.fired, count.duplicated, count.missed, count.other.len())
    };
    assert_eq!(counted(&[fired(10), fired(11), fired(12), fired(13)]), (3, 0, 0, 0));
    assert_eq!(counted(&[fired(10), fired(12)]), (2, 0, 1, 0));
    assert_eq!(counted(&[fired(10), fired(11), fired(11), fired(12)]), (4, 1, 0, 0));
    let skipped = Decision {
        kind: "skipped".to_owned(),
        ..fired(11)
    };
    assert_eq!(counted(&[fired(10), skipped, fired(12)]), (2, 0, 0, 1));
}
