//! Going through several queues, or other parts, where one may be in trouble.

use runner_core::task::QueueName;

use crate::{BrokerError, BrokerResult};

/// What went wrong with some of several queues or parts: in a cluster the servers of the others go on.
#[derive(Default)]
pub(super) struct Trouble(Option<BrokerError>);

impl Trouble {
    /// What came of one queue, if anything did.
    pub(super) fn part<T>(&mut self, queue: &QueueName, result: BrokerResult<T>) -> Option<T> {
        result
            .map_err(|error| {
                if error.is_transient() {
                    tracing::debug!(queue = %queue, %error, "the other queues are looked after all the same");
                } else {
                    tracing::warn!(queue = %queue, %error, "the other queues are looked after all the same");
                }
                self.0 = Some(error);
            })
            .ok()
    }

    /// What came of one command that is about no queue, if anything did.
    pub(super) fn answer<T>(&mut self, result: BrokerResult<T>) -> Option<T> {
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
    pub(super) fn unless(self, told: bool) -> BrokerResult<()> {
        match self.0 {
            Some(error) if !told => Err(error),
            _ => Ok(()),
        }
    }
}
