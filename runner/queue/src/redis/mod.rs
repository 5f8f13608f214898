//! The Redis broker, in the exact format of asynq: Go programs share the same Redis and notice nothing.
//!
//! What lies where is said by `keys` and `wire`; every change of a task is one script, so that it happens as a
//! whole. Our own data lies under `runner:`, apart from three fields of the task's hash, which others ignore: `run`
//! fences late workers and says who claimed it and when (only while it is ours), `lost` counts its runs that ended
//! without a report, `att` says that attempts are on record. Needs Redis 6.2 or newer. Nothing of Redis leaves this room.
//!
//! One server, or a cluster. Each script keeps to the keys of one queue, or to those of all schedules, and so to one
//! slot of a cluster, but for two that only one server runs: claims from several queues a call, which `apart` makes
//! queue by queue in a cluster, and commits of schedules, which `steps` divides there.

mod act;
mod asynq_entries;
#[cfg(feature = "contract")]
mod audit;
mod batcher;
mod caveats;
#[cfg(feature = "ceiling")]
mod ceiling;
mod claim;
mod cluster;
mod cluster_commit;
mod confirm;
mod conn;
mod convert;
mod dial;
mod documents;
mod epoch;
mod fault;
mod group;
mod holders;
mod inspect;
mod keys;
mod link;
mod login;
mod maintenance;
mod manual;
mod node;
mod partial;
mod passed_over;
mod per_queue;
mod probe;
mod produce;
mod reconnect;
mod recover;
mod repair;
mod reply;
mod runs;
mod schedule;
mod scripts;
mod sentinel;
mod servers;
mod settings;
mod settle;
mod signals;
mod slots;
mod task_views;
mod tls;
mod type_filter;
mod url;
#[cfg(test)]
mod vectors;
mod wire;
mod work;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use jiff::Timestamp;
use runner_core::clock::Clock;
use runner_core::task::QueueName;
use tokio::sync::{Mutex, Notify};

use self::batcher::Batcher;
use self::confirm::Confirm;
use self::conn::Conn;
use self::epoch::Epoch;
use self::maintenance::NoteCursor;
use self::passed_over::PassedOver;
use self::repair::{RepairCursor, UnreportedRepairs};
use self::signals::PushWatches;
use self::task_views::LargeTasks;
use crate::{Broker, BrokerResult};

#[cfg(feature = "ceiling")]
pub use self::ceiling::RedisCeiling;
#[cfg(feature = "contract")]
pub use self::cluster_commit::{Cut, PausedCommits};
#[cfg(feature = "contract")]
pub use self::scripts::script_names;
pub use self::settings::{Password, RedisSentinels, RedisSettings, RedisTarget, RedisTls};
pub use self::url::percent_decoded;

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
    /// The server that claims are noted for, once it has been told.
    claimant: OnceLock<String>,
    /// How long its claims last; zero before the first one.
    lease_ms: AtomicU64,
    passed: PassedOver,
    stop_channel: String,
    allow_eviction: bool,
    mended: UnreportedRepairs,
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
            lease_ms: AtomicU64::new(0),
            passed: PassedOver::default(),
            stop_channel: keys::stop(settings.database),
            mended: UnreportedRepairs::default(),
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
}
