//! Why a task was not enqueued.

use std::sync::Arc;

use runner_queue::{BrokerError, Refusal};

/// Why a task was not enqueued.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum EnqueueError {
    /// The task is invalid, or a duplicate. Nothing of it is in the broker, and trying again does not help.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The broker could not be asked. For `Unreachable` it is unknown whether the task was taken. Shared, because it may
    /// concern many tasks.
    #[error("{0}")]
    Broker(#[source] Arc<BrokerError>),
    /// The broker broke its contract.
    #[error("the broker gave no answer for the task")]
    NoAnswer,
}

impl EnqueueError {
    /// Whether another task with the same id, or with the same queue, type and payload under a uniqueness lock, is already
    /// in the broker: often no failure.
    #[must_use]
    pub fn is_duplicate(&self) -> bool {
        matches!(
            self,
            Self::Refused(Refusal::Duplicate | Refusal::IdTaken | Refusal::Received)
        )
    }
}

impl From<BrokerError> for EnqueueError {
    fn from(error: BrokerError) -> Self {
        Self::Broker(Arc::new(error))
    }
}
