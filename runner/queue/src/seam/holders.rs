//! Which instance leads, and which instances have which schedules.

use std::time::Duration;

use async_trait::async_trait;
use runner_core::schedule::ScheduleId;

use super::BrokerResult;

/// The longest time for which an instance says that it has schedules, or leads. What lasts longer was written while the
/// clock was wrong and counts as over.
pub const HOLD_AT_MOST: Duration = Duration::from_secs(300);

/// How long the schedules of an instance that ended in good order count as its own: until it is started again.
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

/// What instances say to each other about schedules.
#[async_trait]
pub trait Holders {
    /// Tries to be or stay the leader for `ttl`, at most [`HOLD_AT_MOST`]. Only for efficiency: nothing depends on there being one.
    async fn lead(&self, instance: &str, ttl: Duration) -> BrokerResult<bool>;

    /// Gives leadership up, if `instance` has it, and takes its schedules off the list that other tools are shown.
    /// What it holds counts for [`HOLD_AFTER_END`] more.
    async fn resign(&self, instance: &str) -> BrokerResult<()>;

    /// Says that `instance` has these schedules, beside those it said before, for `ttl` from now on (at most
    /// [`HOLD_AT_MOST`]). False if its time was over: then only these count, and it must say all of them.
    async fn hold(&self, instance: &str, held: &[Held], ttl: Duration) -> BrokerResult<bool>;

    /// Withdraws schedules that `instance` has no longer, all of one scope; those that were. They begin at the present
    /// when they are registered again. Nothing happens to one that another instance has whose time is not over.
    async fn withdraw(&self, instance: &str, scope: &str, ids: &[ScheduleId]) -> BrokerResult<Vec<ScheduleId>>;

    /// Schedules that any instance ever had from this scope and that were not withdrawn since.
    async fn held_from(&self, scope: &str) -> BrokerResult<Vec<ScheduleId>>;
}
