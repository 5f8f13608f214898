//! Which instance leads, and which instances have which schedules.

use std::time::Duration;

use async_trait::async_trait;
use runner_core::schedule::ScheduleId;

use super::BrokerResult;

/// The longest time for which an instance can hold schedules or leadership. What lasts longer was written while the
/// clock was wrong and counts as over.
pub const HOLD_AT_MOST: Duration = Duration::from_secs(300);

/// How long the schedules of an instance that ended properly count as its own: enough for a restart.
pub const HOLD_AFTER_END: Duration = Duration::from_secs(10);

/// A schedule that an instance has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Identity.
    pub id: ScheduleId,
    /// `Definition::revision`.
    pub revision: String,
    /// Names the source that it was read from, across restarts.
    pub scope: String,
}

/// Which instance leads, and which schedules each instance has.
#[async_trait]
pub trait Holders: Send + Sync {
    /// Tries to become or stay the leader for `ttl`, at most [`HOLD_AT_MOST`]. Only for efficiency: correctness needs
    /// no leader.
    async fn lead(&self, instance: &str, ttl: Duration) -> BrokerResult<bool>;

    /// Gives leadership up, if `instance` has it, and removes its schedules from the list for other tools.
    /// Its holds count for [`HOLD_AFTER_END`] more.
    async fn resign(&self, instance: &str) -> BrokerResult<()>;

    /// Records that `instance` has these schedules, besides those it named before, for `ttl` from now on (at most
    /// [`HOLD_AT_MOST`]). False if its time was over: then only these count, and it must name all of them again.
    async fn hold(&self, instance: &str, held: &[Held], ttl: Duration) -> BrokerResult<bool>;

    /// Withdraws schedules of one scope that `instance` no longer has. Returns those that were withdrawn. They begin at
    /// the present when they are registered again. One that another live instance has stays as it is.
    async fn withdraw(&self, instance: &str, scope: &str, ids: &[ScheduleId]) -> BrokerResult<Vec<ScheduleId>>;

    /// Schedules that any instance ever had from this scope and that were not withdrawn since.
    async fn held_from(&self, scope: &str) -> BrokerResult<Vec<ScheduleId>>;
}
