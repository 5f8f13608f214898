//! The broker under test: opened once, emptied between runs, looked at from behind.
//!
//! Emptying goes past the broker, so that a run costs no new file and no new connection. Looking from behind is for
//! locks alone, which the seam shows by their effect only.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use redis::aio::MultiplexedConnection;
use runner_core::clock::{Clock as _, ManualClock};
use runner_core::task::QueueName;
use runner_queue::contract::START;
use runner_queue::embedded::EmbeddedBroker;
use runner_queue::redis::{RedisBroker, RedisSettings};
use runner_queue::{Broker, Claims as _};
use sqlx::{Connection as _, Row as _, SqliteConnection};

use super::dialect::Dialect;
use super::look::Locks;
use super::work::SERVER;

/// How long the way past the broker waits for Redis on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// All locks with their holders.
const LOCKS: &str = "local found = {} \
    for _, key in ipairs(redis.call('KEYS', 'asynq:*}:unique:*')) do \
      found[#found + 1] = key \
      found[#found + 1] = redis.call('GET', key) \
    end \
    return found";

/// A broker over a store of its own.
pub struct Subject {
    pub dialect: Dialect,
    pub broker: Arc<dyn Broker>,
    pub clock: Arc<ManualClock>,
    store: Store,
}

enum Store {
    Redis {
        broker: Arc<RedisBroker>,
        link: MultiplexedConnection,
    },
    Embedded {
        broker: Arc<EmbeddedBroker>,
        link: SqliteConnection,
        now: Arc<ManualClock>,
        _directory: tempfile::TempDir,
    },
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_second(START).unwrap()))
}

impl Subject {
    /// Over a database that nobody else uses.
    pub async fn redis(port: u16, database: i64) -> Self {
        let clock = clock();
        let settings = RedisSettings {
            database,
            ..RedisSettings::at(format!("127.0.0.1:{port}"))
        };
        let broker = RedisBroker::connect(settings).await.unwrap();
        let broker = Arc::new(broker.with_clock(clock.clone()));
        let client = redis::Client::open(format!("redis://127.0.0.1:{port}/{database}")).unwrap();
        let patient = redis::AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
        let link = client
            .get_multiplexed_async_connection_with_config(&patient)
            .await
            .unwrap();
        broker.claims_as(SERVER.0, SERVER.1);
        Self {
            dialect: Dialect::Redis,
            broker: broker.clone(),
            clock,
            store: Store::Redis { broker, link },
        }
    }

    /// Over a new file; in memory where the system has such a directory, since no sync is under test.
    pub async fn embedded() -> Self {
        let clock = clock();
        let directory = tempfile::tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir())
            .unwrap();
        let path = directory.path().join("runner.db");
        let broker = Arc::new(EmbeddedBroker::open(&path, clock.clone()).await.unwrap());
        let link = SqliteConnection::connect(path.to_str().unwrap()).await.unwrap();
        broker.claims_as(SERVER.0, SERVER.1);
        Self {
            dialect: Dialect::Embedded,
            broker: broker.clone(),
            clock: clock.clone(),
            store: Store::Embedded {
                broker,
                link,
                now: clock,
                _directory: directory,
            },
        }
    }

    /// Empties the store and sets the clock to the beginning.
    pub async fn begin(&mut self) {
        self.clock.set(Timestamp::from_second(START).unwrap());
        match &mut self.store {
            Store::Redis { link, .. } => redis::cmd("FLUSHDB").query_async::<()>(link).await.unwrap(),
            Store::Embedded { link, .. } => {
                sqlx::raw_sql(
                    "BEGIN IMMEDIATE; DELETE FROM queues; DELETE FROM tasks; DELETE FROM locks; \
                     DELETE FROM attempts; DELETE FROM day_counts; COMMIT",
                )
                .execute(link)
                .await
                .unwrap();
            }
        }
    }

    /// A number that changes whenever the store does.
    pub async fn version(&mut self) -> u64 {
        match &mut self.store {
            Store::Redis { link, .. } => {
                let info: redis::InfoDict = redis::cmd("INFO").arg("persistence").query_async(link).await.unwrap();
                info.get("rdb_changes_since_last_save").unwrap()
            }
            Store::Embedded { link, .. } => {
                let row = sqlx::query("PRAGMA data_version").fetch_one(link).await.unwrap();
                row.get::<i64, _>(0).unsigned_abs()
            }
        }
    }

    /// Contradictions in the store, by its own audit.
    pub async fn audit(&self) -> Vec<String> {
        match &self.store {
            Store::Redis { broker, .. } => broker.audit().await.unwrap(),
            Store::Embedded { broker, .. } => broker.audit().await.unwrap(),
        }
    }

    /// Locks that hold: queue and key, and who holds each.
    pub async fn locks(&mut self) -> Locks {
        match &mut self.store {
            Store::Redis { link, .. } => {
                let found: Vec<String> = redis::cmd("EVAL").arg(LOCKS).arg(0).query_async(link).await.unwrap();
                let named = found.chunks(2).map(|pair| (split(&pair[0]), pair[1].clone()));
                named.collect()
            }
            Store::Embedded { link, now, .. } => {
                let rows = sqlx::query("SELECT queue, key, task_id FROM locks WHERE expires_at > ?")
                    .bind(now.now().as_microsecond())
                    .fetch_all(link)
                    .await
                    .unwrap();
                let named = rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2)));
                named.collect()
            }
        }
    }

    /// Lets a lock lapse. Redis watches over them by its own clock, so there the key is taken away instead; that it
    /// has an end, and the right one, is checked when it is taken.
    pub async fn lapse(&mut self, queue: &QueueName, key: &str) {
        if let Store::Redis { link, .. } = &mut self.store {
            let key = format!("asynq:{{{queue}}}:{key}");
            redis::cmd("DEL").arg(key).query_async::<()>(link).await.unwrap();
        }
    }

    /// Seconds until a lock lapses, as the store has it; `None` if it is held for ever or not at all.
    pub async fn left(&mut self, queue: &QueueName, key: &str) -> Option<i64> {
        match &mut self.store {
            Store::Redis { link, .. } => {
                let key = format!("asynq:{{{queue}}}:{key}");
                let millis: i64 = redis::cmd("PTTL").arg(key).query_async(link).await.unwrap();
                (millis >= 0).then(|| (millis + 999) / 1000)
            }
            Store::Embedded { link, now, .. } => {
                let row = sqlx::query("SELECT expires_at FROM locks WHERE queue = ? AND key = ?")
                    .bind(queue.as_str())
                    .bind(key)
                    .fetch_optional(link)
                    .await
                    .unwrap();
                row.map(|row| (row.get::<i64, _>(0) - now.now().as_microsecond()) / 1_000_000)
            }
        }
    }
}

/// The queue and the rest of a Redis key.
fn split(key: &str) -> (String, String) {
    let (queue, rest) = key.strip_prefix("asynq:{").and_then(|k| k.rsplit_once("}:")).unwrap();
    (queue.to_owned(), rest.to_owned())
}
