//! The broker under test: opened once, emptied between runs, inspected directly.
//!
//! Emptying bypasses the broker, so that a run needs no new file and no new connection. Direct inspection is only for locks,
//! which the seam shows only by their effect.

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

/// How long direct commands wait for Redis on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// All locks with their holders.
const LOCKS: &str = "local found = {} \
    for _, key in ipairs(redis.call('KEYS', 'asynq:*}:unique:*')) do \
      found[#found + 1] = key \
      found[#found + 1] = redis.call('GET', key) \
    end \
    return found";

/// A broker with its own store.
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
    /// On a database of its own.
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

    /// On a new file; in memory if the system has such a directory, because no sync is under test.
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

    /// Empties the store and resets the clock.
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

    /// Inconsistencies in the store, from its own audit.
    pub async fn audit(&self) -> Vec<String> {
        match &self.store {
            Store::Redis { broker, .. } => broker.audit().await.unwrap(),
            Store::Embedded { broker, .. } => broker.audit().await.unwrap(),
        }
    }

    /// Active locks: queue and key, and the holder of each.
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

    /// Lets a lock expire. Redis expires locks by its own clock, so there the key is deleted instead; its expiry is checked when
    /// the lock is taken.
    pub async fn lapse(&mut self, queue: &QueueName, key: &str) {
        if let Store::Redis { link, .. } = &mut self.store {
            let key = format!("asynq:{{{queue}}}:{key}");
            redis::cmd("DEL").arg(key).query_async::<()>(link).await.unwrap();
        }
    }

    /// Seconds until a lock expires; `None` if it never does or does not exist.
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
