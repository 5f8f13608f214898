//! Going through several queues, or other parts, where one may be in trouble.

use redis::Value;
use runner_core::chain::chain;
use runner_core::task::QueueName;

use crate::{BrokerError, BrokerResult};

/// What went wrong with some of several queues or parts: in a cluster the servers of the others go on.
#[derive(Default)]
pub(in crate::redis) struct PartialFailure(Option<BrokerError>);

impl PartialFailure {
    /// Nothing could be asked.
    pub(in crate::redis) fn failed(&mut self, error: BrokerError) {
        self.0 = Some(error);
    }

    /// What came of one queue, if anything did.
    pub(in crate::redis) fn part<T>(&mut self, queue: &QueueName, result: BrokerResult<T>) -> Option<T> {
        result
            .map_err(|error| {
                let why = chain(&error);
                // A wrong login is that of all queues: the caller tells of it, and once.
                if error.is_transient() || matches!(error, BrokerError::Denied { .. }) {
                    tracing::debug!(queue = %queue, error = %why, "the other queues are looked after all the same");
                } else {
                    tracing::warn!(queue = %queue, error = %why, "the other queues are looked after all the same");
                }
                self.0 = Some(error);
            })
            .ok()
    }

    /// What came of one command that is about no queue, if anything did.
    pub(in crate::redis) fn answer<T>(&mut self, result: BrokerResult<T>) -> Option<T> {
        result
            .map_err(|error| {
                if error.is_transient() {
                    tracing::debug!(%error, "what other servers have to do with it is done all the same");
                } else {
                    tracing::warn!(%error, "what other servers have to do with it is done all the same");
                }
                self.0 = Some(error);
            })
            .ok()
    }

    /// The last error, unless the others have something to tell.
    pub(in crate::redis) fn unless(self, told: bool) -> BrokerResult<()> {
        match self.0 {
            Some(error) if !told => Err(error),
            Some(error @ BrokerError::Denied { .. }) => {
                tracing::warn!(error = %chain(&error), "a queue is not looked after; the others are");
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Nothing, where a key of the wrong type says nothing: whoever writes there next deals with it.
pub(in crate::redis) fn or_nothing(answer: BrokerResult<Value>) -> BrokerResult<Value> {
    match answer {
        Err(BrokerError::Corrupt { doing, what }) => {
            tracing::warn!(doing, what, "a key of the wrong type reads as nothing");
            Ok(Value::Nil)
        }
        answer => answer,
    }
}
