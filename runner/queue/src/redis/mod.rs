//! The Redis broker, in the exact format of asynq: Go programs share the same Redis and notice nothing.
//!
//! `format` is the content of Redis, `net` the connections, `ops` the operations; each knows only those before it. `client` and
//! `stream_reader` are no broker: channels and streams of any Redis, over the same connections.
//!
//! `format::keys` and `format::wire` say what is stored where; every change of a task is one script, so that it is
//! atomic. The data of this program is under `runner:`, apart from three fields of the task's hash, which others
//! ignore: `run` fences late workers and says who claimed it and when (only while it is ours), `lost` counts its runs
//! that ended without a report, `att` says that attempts are on record. Needs Redis 6.2 or newer. Nothing of Redis
//! leaves this room.
//!
//! One server, or a cluster. Each script keeps to the keys of one queue, or to those of all schedules, and so to one
//! slot of a cluster, but for two that only one server runs: claims from several queues a call, which `ops::per_queue`
//! makes queue by queue in a cluster, and commits of schedules, which `ops::cluster_commit` divides there.

mod client;
mod format;
mod net;
mod ops;
mod stream_reader;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use jiff::Timestamp;
use runner_core::clock::Clock;
use runner_core::task::QueueName;
use tokio::sync::{Mutex, Notify};

use self::format::{keys, reply};
use self::net::confirm::Confirm;
use self::net::conn::Conn;
use self::net::fault;
use self::ops::batcher::Batcher;
use self::ops::epoch::Epoch;
use self::ops::gates::KnownLimits;
use self::ops::passed_over::PassedOver;
use self::ops::repair::{RepairCursor, UnreportedRepairs};
use self::ops::signals::PushWatches;
use self::ops::task_views::LargeTasks;
use self::ops::unanswered::UnansweredCalls;
use self::ops::upkeep::NoteCursor;
use crate::seam::Given;
use crate::{Broker, BrokerResult};

pub use self::client::{RedisClient, RedisClientError};
#[cfg(feature = "contract")]
pub use self::format::scripts::script_names;
pub use self::net::settings::{Password, RedisSentinels, RedisSettings, RedisTarget, RedisTls};
pub use self::net::url::percent_decoded;
#[cfg(feature = "ceiling")]
pub use self::ops::ceiling::RedisCeiling;
#[cfg(feature = "contract")]
pub use self::ops::cluster_commit::{Cut, PausedCommits};
pub use self::stream_reader::{GroupStart, StreamEntry, StreamReader, TakenOver};

/// A broker over one Redis server.
pub struct RedisBroker {
    conn: Arc<Conn>,
    /// What people look at travels here: it must not delay claims and leases.
    pages: Conn,
    looks: LargeTasks,
    gather: Batcher,
    place: String,
    watches: PushWatches,
    /// Falls when a task that is due later was written.
    delayed: Arc<Notify>,
    /// Who its claims are noted for: host and process id, and a sign that tells it from a namesake. Set once.
    claimant: OnceLock<String>,
    unanswered: UnansweredCalls,
    /// Which tasks follow others, and which types have records of their runs.
    given: Given,
    /// How long its claims last; zero before the first one.
    lease_ms: AtomicU64,
    passed: PassedOver,
    /// The limits that its claims keep.
    limits: KnownLimits,
    stop_channel: String,
    allow_eviction: bool,
    repairs: UnreportedRepairs,
    rounds: Mutex<RepairCursor>,
    notes: NoteCursor,
    epoch: Epoch,
}

impl RedisBroker {
    /// A broker that connects at its first call; the server need not be up yet.
    ///
    /// While the server cannot be reached each call returns [`crate::BrokerError::Unreachable`] at once, and
    /// connecting is tried again with growing pauses of at most 5 s.
    ///
    /// # Errors
    ///
    /// [`crate::BrokerError::Refused`] if the settings name no server.
    pub fn lazy(settings: &RedisSettings) -> BrokerResult<Self> {
        let conn = Arc::new(Conn::new(settings)?);
        Ok(Self {
            gather: Batcher::new(Arc::clone(&conn), Confirm::of(settings)?),
            conn,
            pages: Conn::new(settings)?,
            looks: LargeTasks::default(),
            place: format!("redis {}", settings.place()),
            watches: PushWatches::default(),
            allow_eviction: settings.allow_eviction,
            delayed: Arc::default(),
            claimant: OnceLock::new(),
            unanswered: UnansweredCalls::default(),
            given: Given::default(),
            lease_ms: AtomicU64::new(0),
            passed: PassedOver::default(),
            limits: KnownLimits::default(),
            stop_channel: keys::stop(settings.database),
            repairs: UnreportedRepairs::default(),
            rounds: Mutex::default(),
            notes: NoteCursor::default(),
            epoch: Epoch::default(),
        })
    }

    /// The same, but returns only when the server has answered.
    ///
    /// # Errors
    ///
    /// [`crate::BrokerError::Unreachable`] if it does not answer, [`crate::BrokerError::Refused`] if it turns us away.
    pub async fn connect(settings: RedisSettings) -> BrokerResult<Self> {
        let broker = Self::lazy(&settings)?;
        broker.now().await?;
        Ok(broker)
    }

    /// Lets `clock` tell the time instead of the server. Ends of keys (locks, servers' descriptions) still run by
    /// the server's clock.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        self.gather.set_clock(&clock);
        self.pages.set_clock(Arc::clone(&clock));
        self.conn.set_clock(clock);
        self
    }
}

impl std::fmt::Debug for RedisBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisBroker")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Broker for RedisBroker {
    fn describe(&self) -> String {
        self.place.clone()
    }

    async fn now(&self) -> BrokerResult<Timestamp> {
        const DOING: &str = "ask for the time";
        let mut trip = self.conn.trip(DOING).await?;
        trip.command("TIME");
        let mut answer = reply::list(trip.one().await?).into_iter();
        if let Some(clock) = self.conn.clock() {
            return Ok(clock.now());
        }
        let seconds = answer.next().and_then(reply::number);
        let micros = answer.next().and_then(reply::number);
        seconds
            .zip(micros)
            .and_then(|(s, us)| Timestamp::new(s, i32::try_from(us.checked_mul(1000)?).ok()?).ok())
            .ok_or_else(|| fault::odd_answer(DOING))
    }

    async fn probe(&self, queues: &[QueueName]) -> BrokerResult<()> {
        self.look_whether_it_takes_writes(queues).await
    }

    async fn caveats(&self) -> BrokerResult<Vec<crate::Caveat>> {
        let mut found = self.look_at_setup().await?;
        found.extend(self.look_for_loss().await?);
        Ok(found)
    }

    async fn usage(&self) -> BrokerResult<Option<crate::StoreUsage>> {
        self.usage_of_servers().await.map(Some)
    }
}
