//! Resources used by the processes of a store: for measurements.

use std::time::Duration;

/// Resources used by the processes of the store since their start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreUsage {
    /// Their processor time, in user and system mode together.
    pub cpu: Duration,
    /// Commands that they have carried out, this question included.
    pub commands: u64,
}
