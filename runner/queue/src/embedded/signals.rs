//! The seam's `Signals`: waits for writes, and requests to end attempts.
//!
//! Not here: how each is waited for (`wait`, `cancel`, `wakeups`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_core::task::{QueueName, TaskId};
use tokio::sync::mpsc;

use super::writer::Tx;
use super::{EmbeddedBroker, cancel, wait};
use crate::{BrokerResult, Signals, StopRequest};

impl EmbeddedBroker {
    async fn request_stop(&self, request: StopRequest) -> BrokerResult<()> {
        let change = move |tx: &mut Tx<'_>| cancel::request(tx, &request);
        self.writer.write("ask for a cancellation", change).await?;
        self.wakeups.cancelled();
        Ok(())
    }
}

#[async_trait]
impl Signals for EmbeddedBroker {
    async fn wait_for_work(&self, queues: &[QueueName], at_most: Duration) {
        wait::wait_for_work(&self.readers, &self.wakeups, &self.type_filter, queues, at_most).await;
    }

    async fn wait_for_delayed(&self, at_most: Duration) {
        self.wakeups.wait_for_delayed(at_most).await;
    }

    async fn cancellations(&self) -> BrokerResult<mpsc::Receiver<StopRequest>> {
        cancel::listen(self.readers.clone(), Arc::clone(&self.wakeups)).await
    }

    async fn cancel(&self, id: &TaskId) -> BrokerResult<()> {
        self.request_stop(StopRequest::cancel(id.clone())).await
    }

    async fn stop(&self, queue: &QueueName, id: &TaskId, error: &str) -> BrokerResult<()> {
        let request = StopRequest::for_good(queue.clone(), id.clone(), error.to_owned());
        self.request_stop(request).await
    }
}
