//! What this Redis can do at best: raw scripts that loop over a batch, messages made once, nothing decoded.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use prost::Message as _;
use redis::{Cmd, RedisError, Value};
use runner_core::task::{Task, TaskId};
use uuid::Uuid;

use crate::redis::RedisBroker;
use crate::redis::format::{convert, keys, reply};
use crate::redis::net::dial::{Connection, DialError};
use crate::redis::net::fault;
use crate::{BrokerResult, Ceiling};

/// Batches of one connection under way at once when enqueueing.
const IN_FLIGHT: usize = 4;

/// The lease of a claim; a measurement ends long before it. If one is interrupted, its tasks are
/// unclaimed after this time.
const LEASE_MS: u64 = 2_000;

const DOING: &str = "measure what it can do at best";

const PUT: &str = concat!(
    include_str!("../format/scripts/clock.lua"),
    include_str!("../format/scripts/ceiling_put.lua")
);
const TAKE: &str = concat!(
    include_str!("../format/scripts/clock.lua"),
    include_str!("../format/scripts/count.lua"),
    include_str!("../format/scripts/ceiling_take.lua")
);

/// One queue of one server, over two connections.
pub struct RedisCeiling {
    producer: Connection,
    consumer: Connection,
    put: Arc<str>,
    take: Arc<str>,
    queue: String,
    pending: String,
    message: Arc<[u8]>,
    ids: AtomicU64,
}

impl std::fmt::Debug for RedisCeiling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisCeiling")
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}

impl RedisBroker {
    /// Prepares to measure what the server can do at best with tasks like this one, on its queue.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached or refuses us.
    pub async fn ceiling(&self, like: &Task) -> BrokerResult<RedisCeiling> {
        let dialed = |error: DialError| fault::of(error, DOING);
        let failed = |error: RedisError| fault::of(error, DOING);
        let dialer = self.conn.dialer();
        let pending = keys::part(like.queue.as_str(), "pending");
        let mut producer = dialer.dedicated(&pending).await.map_err(dialed)?;
        let consumer = dialer.dedicated(&pending).await.map_err(dialed)?;
        let mut known = redis::cmd("SADD");
        known.arg(keys::QUEUES).arg(like.queue.as_str());
        known.exec_async(&mut producer).await.map_err(failed)?;
        Ok(RedisCeiling {
            put: load(&mut producer, PUT).await.map_err(failed)?,
            take: load(&mut producer, TAKE).await.map_err(failed)?,
            queue: keys::queue(like.queue.as_str()),
            pending,
            message: convert::message_of(like, &TaskId::random()).encode_to_vec().into(),
            ids: AtomicU64::new(0),
            producer,
            consumer,
        })
    }
}

async fn load(link: &mut Connection, script: &str) -> Result<Arc<str>, RedisError> {
    let hash: String = redis::cmd("SCRIPT").arg("LOAD").arg(script).query_async(link).await?;
    Ok(hash.into())
}

impl RedisCeiling {
    fn call(&self, script: &str) -> Cmd {
        let mut call = redis::cmd("EVALSHA");
        // The clock is the server's.
        call.arg(script)
            .arg(1)
            .arg(&self.pending)
            .arg("")
            .arg("")
            .arg(&self.queue);
        call
    }

    /// As long as a real id, and distributed like one.
    fn id(&self) -> String {
        let number = self.ids.fetch_add(1, Ordering::Relaxed);
        let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Uuid::from_u64_pair(spread, number).hyphenated().to_string()
    }

    async fn put(&self, tasks: usize) -> Result<(), RedisError> {
        let mut call = self.call(&self.put);
        for _ in 0..tasks {
            call.arg(self.id()).arg(&self.message[..]);
        }
        call.exec_async(&mut self.producer.clone()).await
    }

    async fn put_all(&self, tasks: usize, batch: usize, in_flight: usize) -> Result<(), RedisError> {
        let sizes = (0..tasks).step_by(batch).map(|from| batch.min(tasks - from));
        stream::iter(sizes)
            .map(|size| self.put(size))
            .buffer_unordered(in_flight)
            .try_collect()
            .await
    }

    async fn take_all(&self, tasks: usize, batch: usize) -> Result<(), RedisError> {
        let mut link = self.consumer.clone();
        let (mut claimed, mut held) = (0, Vec::<Value>::new());
        while claimed < tasks || !held.is_empty() {
            let mut call = self.call(&self.take);
            call.arg(batch.min(tasks - claimed)).arg(LEASE_MS);
            for id in held.drain(..) {
                call.arg(reply::bytes(id).unwrap_or_default());
            }
            held = reply::list(call.query_async(&mut link).await?);
            let mut odd = false;
            held.retain(|_| {
                odd = !odd;
                odd
            });
            claimed += held.len();
        }
        Ok(())
    }
}

#[async_trait]
impl Ceiling for RedisCeiling {
    fn batches(&self) -> &'static [usize] {
        &[64, 256]
    }

    async fn enqueue(&self, tasks: usize, batch: usize) -> BrokerResult<()> {
        let put = self.put_all(tasks, batch, IN_FLIGHT).await;
        put.map_err(|error| fault::of(error, DOING))
    }

    async fn enqueue_singly(&self, tasks: usize) -> BrokerResult<()> {
        let put = self.put_all(tasks, 1, 1).await;
        put.map_err(|error| fault::of(error, DOING))
    }

    async fn drain(&self, tasks: usize, batch: usize) -> BrokerResult<()> {
        let took = self.take_all(tasks, batch).await;
        took.map_err(|error| fault::of(error, DOING))
    }

    async fn steady(&self, tasks: usize, batch: usize) -> BrokerResult<()> {
        let (put, take) = (self.put_all(tasks, batch, IN_FLIGHT), self.take_all(tasks, batch));
        let both = futures_util::future::try_join(put, take).await;
        both.map(drop).map_err(|error| fault::of(error, DOING))
    }
}
