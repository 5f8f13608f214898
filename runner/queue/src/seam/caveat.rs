//! What endangers tasks although every call to a store succeeds.

/// One such thing, for logs, metrics and pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caveat {
    /// Stable: `broker_evicts`, `broker_not_durable`, `broker_state_lost`.
    pub code: &'static str,
    /// What it is and what it puts at risk, in one sentence; never a secret.
    pub message: String,
    /// What would be right.
    pub hint: &'static str,
    /// Whether a program had better not start on such a store. What was allowed on purpose is not grave.
    pub grave: bool,
}
