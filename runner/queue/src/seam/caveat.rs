//! Risks to tasks although every call to a store succeeds.

/// One such risk, for logs, metrics and pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caveat {
    /// Stable: `broker_evicts`, `broker_not_durable`, `broker_state_lost`.
    pub code: &'static str,
    /// What it is and what it puts at risk, in one sentence; never a secret.
    pub message: String,
    /// How to remove it.
    pub hint: &'static str,
    /// Whether a program should refuse to start on such a store; not if the settings allow it.
    pub grave: bool,
}
