//! What the processes that keep a store have used: for measurements.

use std::time::Duration;

/// What the processes that keep the store have used since they began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreUsage {
    /// Their processor time, in user and system mode together.
    pub cpu: Duration,
    /// Commands that they have carried out, this question included.
    pub commands: u64,
}
