//! Groups in the whole program: tasks of the command line are aggregated, on both brokers, even if the aggregating
//! instance is killed midway.
//!
//! The program is `examples/digest.rs`, which `cargo test` builds beside `runner`. Its aggregator reads a file; a pipe
//! in place of the file blocks it there.

use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use runner_core::clock::SystemClock;
use runner_core::task::{QueueName, Task};
use runner_queue::embedded::EmbeddedBroker;
use runner_queue::redis::{RedisBroker, RedisSettings};
use runner_queue::{Broker, GroupRule};
use serde_json::{Value, json};

use crate::kit::{self, Child, RedisDb, Site};

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): grouped_tasks_become_one, a_killed_aggregators_tasks_become_one_later,
            tasks_that_became_one_but_were_not_deleted_become_one_again;
        needs(Redis): grouped_tasks_become_one_in_redis, a_killed_aggregators_tasks_become_one_later_in_redis,
            tasks_that_became_one_but_were_not_deleted_become_one_again_in_redis,
            tasks_become_one_once_though_no_replica_confirms_it;
    ]
}

/// Long enough for a turn of each background loop on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory to run in, and its Redis if it has one.
struct Scene {
    site: Site,
    db: Option<RedisDb>,
}

impl Scene {
    fn embedded() -> Self {
        Self::new(None)
    }

    fn redis() -> Self {
        Self::new(Some(kit::redis().fresh_db()))
    }

    fn new(db: Option<RedisDb>) -> Self {
        let broker = db.as_ref().map(RedisDb::yaml).unwrap_or_default();
        Self::configured(&broker, db)
    }

    fn configured(broker: &str, db: Option<RedisDb>) -> Self {
        let site = Site::new(&format!(
            "{broker}server: {{addr: 127.0.0.1:0}}\nworker: {{group_grace_period: 1s}}\n"
        ));
        Self { site, db }
    }

    fn file(&self) -> PathBuf {
        self.site.dir.join("data/runner.db")
    }

    /// The store, opened as by another process of the same program.
    async fn broker(&self) -> Arc<dyn Broker> {
        match &self.db {
            Some(db) => {
                let settings = RedisSettings {
                    database: i64::from(db.number),
                    ..RedisSettings::at(format!("127.0.0.1:{}", db.port))
                };
                Arc::new(RedisBroker::connect(settings).await.unwrap())
            }
            None => Arc::new(EmbeddedBroker::open(self.file(), Arc::new(SystemClock)).await.unwrap()),
        }
    }

    /// Lets the deadlines of all staged sets pass; returns how many sets there are.
    async fn age_sets(&self) -> usize {
        let Some(db) = &self.db else {
            let file = kit::SqlDb::file(&self.file());
            file.execute("UPDATE staged_sets SET deadline = 0").await;
            return file.column("SELECT id FROM staged_sets").await.len();
        };
        let mut link = db.connect().await;
        let key = "asynq:{default}:aggregation_sets";
        let sets: Vec<String> = redis::cmd("ZRANGE")
            .arg(key)
            .arg(0)
            .arg(-1)
            .query_async(&mut link)
            .await
            .unwrap();
        for set in &sets {
            let _: i64 = redis::cmd("ZADD")
                .arg(key)
                .arg(1)
                .arg(set)
                .query_async(&mut link)
                .await
                .unwrap();
        }
        sets.len()
    }

    async fn note(&self, to: &str, note: &str) {
        let (group, payload) = (format!("digest:{to}"), json!(note).to_string());
        let enqueue = ["enqueue", "note", "--group", &group, "--payload", &payload];
        self.site.cli(enqueue).await.ok();
    }

    fn start(&self) -> Child {
        let beside = PathBuf::from(env!("CARGO_BIN_EXE_runner"));
        let program = beside.with_file_name("examples").join("digest").display().to_string();
        Child::start(&program, None, Signal::SIGKILL, &self.site.dir.join("log"), |command| {
            command.args(["-c", "config.yaml"]).current_dir(&self.site.dir);
        })
    }

    async fn groups(&self) -> Value {
        self.site.cli(["queue", "groups", "default", "--json"]).await.json()
    }

    /// The outputs of the digests, sorted, once there are `count` of them.
    async fn digests(&self, child: &Child, count: usize) -> Vec<String> {
        let list = ["ls", "tasks", "--state", "completed", "--json"];
        let look = async || {
            let tasks = self.site.cli(list).await.json();
            let results = tasks.as_array().unwrap().iter().map(|task| &task["result"]);
            let mut outputs: Vec<String> = results
                .map(|r| r.as_str().map_or_else(|| r.to_string(), str::to_owned))
                .collect();
            outputs.sort();
            if outputs.len() == count {
                return Ok(outputs);
            }
            Err(format!("{outputs:?}\n{}", child.tail()))
        };
        kit::eventually_within(PATIENCE, "the digests are sent", look).await
    }
}

async fn stop(child: Child) {
    child.signal(Signal::SIGTERM);
    assert!(child.wait(Duration::from_secs(30)).success(), "{}", child.tail());
}

async fn become_one(scene: Scene) {
    for (to, note) in [("ada", "a"), ("ada", "b"), ("bob", "x"), ("ada", "c")] {
        scene.note(to, note).await;
    }
    let expected = json!([{"name": "digest:ada", "tasks": 3}, {"name": "digest:bob", "tasks": 1}]);
    assert_eq!(scene.groups().await, expected);
    let of_ada = ["ls", "tasks", "--group", "digest:ada", "--json"];
    let listed = scene.site.cli(of_ada).await.json();
    let payloads: Vec<&Value> = listed.as_array().unwrap().iter().map(|task| &task["payload"]).collect();
    assert_eq!(payloads.len(), 3, "{listed}");
    assert!(
        listed[0]["state"] == "aggregating" && listed[0]["group"] == "digest:ada",
        "{listed}"
    );

    let child = scene.start();
    let outputs = scene.digests(&child, 2).await;
    let notes = outputs[0]
        .strip_prefix("hello ada: ")
        .unwrap_or_else(|| panic!("{outputs:?}"));
    // Those that joined in the same second are ordered by id.
    let mut notes: Vec<&str> = notes.split(", ").collect();
    notes.sort_unstable();
    assert_eq!((notes, outputs[1].as_str()), (vec!["a", "b", "c"], "hello bob: x"));
    assert_eq!(scene.groups().await, json!([]));
    assert!(
        child.log().contains("the tasks of a group were combined into one"),
        "{}",
        child.tail()
    );
    stop(child).await;
}

async fn grouped_tasks_become_one() {
    become_one(Scene::embedded()).await;
}

async fn grouped_tasks_become_one_in_redis() {
    become_one(Scene::redis()).await;
}

async fn killed_on_the_way(scene: Scene) {
    let pipe = scene.site.dir.join("greeting.txt");
    let made = tokio::process::Command::new("mkfifo").arg(&pipe).status().await;
    assert!(made.unwrap().success());
    scene.note("ada", "a").await;
    let first = scene.start();
    // A pipe can be opened for writing without blocking only while a reader has it open.
    let writer = kit::eventually_within(PATIENCE, "the tasks are being put together", async || {
        let mut options = std::fs::File::options();
        let opened = options.write(true).custom_flags(nix::libc::O_NONBLOCK).open(&pipe);
        opened.map_err(|error| format!("{error}\n{}", first.tail()))
    })
    .await;
    assert_eq!(scene.groups().await, json!([]), "they are invisible");
    first.kill9();
    drop(writer);
    std::fs::remove_file(&pipe).unwrap();
    scene.note("ada", "b").await;
    assert_eq!(scene.age_sets().await, 1);

    let second = scene.start();
    let outputs = scene.digests(&second, 1).await;
    // The note of the dead instance is the older one, unless both were made within a second.
    assert!(
        ["hello ada: a, b", "hello ada: b, a"].contains(&outputs[0].as_str()),
        "{outputs:?}"
    );
    assert!(second.log().contains("returned to their group"), "{}", second.tail());
    stop(second).await;
    assert_eq!(scene.age_sets().await, 0);
}

async fn a_killed_aggregators_tasks_become_one_later() {
    killed_on_the_way(Scene::embedded()).await;
}

async fn a_killed_aggregators_tasks_become_one_later_in_redis() {
    killed_on_the_way(Scene::redis()).await;
}

/// The state left by an instance that is killed between its two steps.
async fn enqueued_but_not_dropped(scene: Scene) {
    scene.note("ada", "a").await;
    let broker = scene.broker().await;
    let rule = GroupRule {
        max_size: Some(1),
        ..GroupRule::default()
    };
    let set = broker.stage(&QueueName::default(), "digest:ada", &rule).await.unwrap();
    let tasks = broker.read_staged(&set.expect("ripe")).await.unwrap();
    assert_eq!(tasks.len(), 1);
    let digest = json!({"to": "ada", "greeting": "hello", "notes": ["a"]});
    let digest = Task::new("digest").json(&digest).unwrap().retention(PATIENCE * 10);
    broker.enqueue(&[digest]).await.unwrap().remove(0).unwrap();
    assert_eq!(scene.age_sets().await, 1);

    let child = scene.start();
    let outputs = scene.digests(&child, 2).await;
    assert_eq!(
        outputs,
        ["hello ada: a", "hello ada: a"],
        "at least once, and here twice"
    );
    stop(child).await;
    assert_eq!(scene.age_sets().await, 0);
}

async fn tasks_that_became_one_but_were_not_deleted_become_one_again() {
    enqueued_but_not_dropped(Scene::embedded()).await;
}

async fn tasks_that_became_one_but_were_not_deleted_become_one_again_in_redis() {
    enqueued_but_not_dropped(Scene::redis()).await;
}

async fn tasks_become_one_once_though_no_replica_confirms_it() {
    let db = kit::redis().fresh_db();
    let scene = Scene::configured(&format!("{}  durability: replicated\n", db.yaml()), Some(db));
    let note = json!("a").to_string();
    let task = Task::new("note").payload(note).group("digest:ada");
    scene.broker().await.enqueue(&[task]).await.unwrap().remove(0).unwrap();
    let child = scene.start();
    assert_eq!(scene.digests(&child, 1).await, ["hello ada: a"]);
    kit::eventually_within(PATIENCE, "the set is dropped", async || match scene.age_sets().await {
        0 => Ok(()),
        sets => Err(format!("{sets} sets\n{}", child.tail())),
    })
    .await;
    assert!(
        child.log().contains("only 0 of 1 replicas confirmed"),
        "{}",
        child.tail()
    );
    stop(child).await;
    assert_eq!(scene.groups().await, json!([]), "nothing returned");
}
