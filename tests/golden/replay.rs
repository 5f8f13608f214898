//! Steps through one scenario: its steps, its clock, our broker beside it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use redis::aio::MultiplexedConnection;
use runner_core::clock::ManualClock;
use runner_core::task::{QueueName, Task, TaskId};
use runner_queue::redis::{RedisBroker, RedisSettings};
use runner_queue::{Claim, Claims as _, Producer as _, Refusal, Settled, Settlement, Verdict};
use serde_json::Value;

use super::store::Store;
use crate::kit;

/// The two ids in most scenarios.
pub const ID1: &str = "11111111-1111-4111-8111-111111111111";
pub const ID2: &str = "22222222-2222-4222-8222-222222222222";
pub const ID3: &str = "33333333-3333-4333-8333-333333333333";

/// asynq's fixed lease.
pub const LEASE: Duration = Duration::from_secs(30);

/// Where the scenarios are.
pub fn vectors() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/asynq-vectors/ops"))
}

/// A running scenario.
pub struct Replay {
    steps: Vec<Value>,
    at: usize,
    pub broker: RedisBroker,
    pub clock: Arc<ManualClock>,
    pub link: MultiplexedConnection,
}

impl Replay {
    /// Opens a scenario on an empty database; its clock is set to the first step.
    pub async fn open(scenario: &str) -> Self {
        let path = vectors().join(format!("{scenario}.json"));
        let text = std::fs::read_to_string(&path).expect("a scenario");
        let mut whole: Value = serde_json::from_str(&text).expect("JSON");
        let Value::Array(steps) = whole["steps"].take() else {
            panic!("{scenario} has no steps");
        };
        let db = kit::redis().fresh_db();
        let clock = Arc::new(ManualClock::at(clock_of(&steps[0])));
        let settings = RedisSettings {
            database: i64::from(db.number),
            ..RedisSettings::at(format!("127.0.0.1:{}", db.port))
        };
        let broker = RedisBroker::connect(settings).await.unwrap().with_clock(clock.clone());
        Self {
            steps,
            at: 0,
            broker,
            clock,
            link: db.connect().await,
        }
    }

    /// Goes to the next step, which begins with these words, and sets the clock to its time.
    pub fn step(&mut self, operation: &str) -> &Value {
        let step = self.steps.get(self.at).expect("another step");
        let words = step["operation"].as_str().unwrap();
        assert!(
            words.starts_with(operation),
            "the next step is {words:?}, not {operation:?}"
        );
        self.clock.set(clock_of(step));
        self.at += 1;
        step
    }

    /// The vector's data of the current step.
    pub fn expected(&self) -> Store {
        let step = &self.steps[self.at - 1];
        Store::of_vector(&step["redis_after"])
    }

    /// Fills the database with the vector's content of this step.
    pub async fn set_up(&mut self, operation: &str) {
        self.step(operation);
        self.expected().write(&mut self.link).await;
    }

    /// Compares the whole content with the vector's content of this step.
    pub async fn same(&mut self) {
        self.same_but(|_| ()).await;
    }

    /// The same, after changing the expected content: an intended difference, with its reason beside the call.
    pub async fn same_but(&mut self, change: impl FnOnce(&mut Store)) {
        let mut expected = self.expected();
        change(&mut expected);
        let found = Store::of_server(&mut self.link).await;
        let differences = expected.differences(&found);
        let operation = self.steps[self.at - 1]["operation"].clone();
        assert!(differences.is_empty(), "after {operation}:\n{}", differences.join("\n"));
        assert_eq!(
            self.broker.audit().await.unwrap(),
            Vec::<String>::new(),
            "after {operation}"
        );
    }

    /// Enqueues one task.
    pub async fn enqueue(&self, task: Task) -> Result<(), Refusal> {
        let mut results = self.broker.enqueue(&[task]).await.unwrap();
        results.pop().unwrap().map(drop)
    }

    /// Claims one task from the queue called `default`.
    pub async fn claim(&self) -> Claim {
        let mut claims = self.broker.claim(&[QueueName::default()], 1, LEASE).await.unwrap();
        claims.pop().expect("a task")
    }

    /// Ends a claim.
    pub async fn settle(&self, claim: &Claim, verdict: Verdict) -> Settled {
        self.settle_with(claim, verdict, None).await
    }

    /// Ends a claim with a result.
    pub async fn settle_with(&self, claim: &Claim, verdict: Verdict, result: Option<&str>) -> Settled {
        let settlement = Settlement {
            claim: claim.clone(),
            verdict,
            result: result.map(|text| text.to_owned().into()),
            attempt: None,
        };
        self.broker.settle(&[settlement]).await.unwrap()[0]
    }
}

fn clock_of(step: &Value) -> Timestamp {
    step["clock"]["rfc3339"]
        .as_str()
        .expect("a clock")
        .parse()
        .expect("an instant")
}

/// The task of most scenarios.
pub fn email(id: &str) -> Task {
    Task::new("email:send").payload(r#"{"user_id":42}"#).id(self::id(id))
}

pub fn id(text: &str) -> TaskId {
    TaskId::new(text).unwrap()
}

pub fn default_queue() -> QueueName {
    QueueName::default()
}

/// The key of a task of the queue called `default`.
pub fn task_key(id: &str) -> String {
    format!("asynq:{{default}}:t:{id}")
}
