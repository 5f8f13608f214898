//! Work on several queues or other parts, of which some may fail.

use redis::Value;
use runner_core::chain::chain;
use runner_core::task::QueueName;

use crate::{BrokerError, BrokerResult};

/// Failures of some of several queues or parts: in a cluster the other servers still answer.
#[derive(Default)]
pub(in crate::redis) struct PartialFailure(Option<BrokerError>);

impl PartialFailure {
    /// No queue could be asked.
    pub(in crate::redis) fn failed(&mut self, error: BrokerError) {
        self.0 = Some(error);
    }

    /// The result for one queue, if there is one.
    pub(in crate::redis) fn part<T>(&mut self, queue: &QueueName, result: BrokerResult<T>) -> Option<T> {
        result
            .map_err(|error| {
                let why = chain(&error);
                // A wrong login affects all queues: the caller reports it, once.
                if error.is_transient() || matches!(error, BrokerError::Denied { .. }) {
                    tracing::debug!(queue = %queue, error = %why, "continuing with the other queues");
                } else {
                    tracing::warn!(queue = %queue, error = %why, "continuing with the other queues");
                }
                self.0 = Some(error);
            })
            .ok()
    }

    /// The result of a command that belongs to no queue, if there is one.
    pub(in crate::redis) fn answer<T>(&mut self, result: BrokerResult<T>) -> Option<T> {
        result
            .map_err(|error| {
                if error.is_transient() {
                    tracing::debug!(%error, "skipping this server; continuing with the others");
                } else {
                    tracing::warn!(%error, "skipping this server; continuing with the others");
                }
                self.0 = Some(error);
            })
            .ok()
    }

    /// The last error, unless another part answered.
    pub(in crate::redis) fn unless(self, answered: bool) -> BrokerResult<()> {
        match self.0 {
            Some(error) if !answered => Err(error),
            Some(error @ BrokerError::Denied { .. }) => {
                tracing::warn!(error = %chain(&error), "a queue is skipped; continuing with the others");
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// `None` for a key of the wrong type: the next script that writes there repairs it.
pub(in crate::redis) fn or_nothing(answer: BrokerResult<Value>) -> BrokerResult<Value> {
    match answer {
        Err(BrokerError::Corrupt { doing, what }) => {
            tracing::warn!(doing, what, "a key of the wrong type is read as empty");
            Ok(Value::Nil)
        }
        answer => answer,
    }
}
