//! What producers ask of the embedded broker. Not here: how tasks are written (`put`) and how repeated calls are
//! recognized (`receipts`).

use async_trait::async_trait;
use runner_core::task::Task;

use super::EmbeddedBroker;
use super::writer::Tx;
use super::{put, receipts};
use crate::{BrokerResult, Delivery, Enqueued, Producer, Refusal};

#[async_trait]
impl Producer for EmbeddedBroker {
    async fn enqueue(&self, tasks: &[Task]) -> BrokerResult<Vec<Result<Enqueued, Refusal>>> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        let tasks = tasks.to_vec();
        let change = move |tx: &mut Tx<'_>| put::enqueue(tx, &tasks);
        self.writer.write("enqueue tasks", change).await
    }

    async fn enqueue_once(&self, deliveries: &[Delivery]) -> BrokerResult<Vec<Result<Enqueued, Refusal>>> {
        if deliveries.is_empty() {
            return Ok(Vec::new());
        }
        let deliveries = deliveries.to_vec();
        let change = move |tx: &mut Tx<'_>| receipts::enqueue(tx, &deliveries);
        self.writer.write("enqueue tasks once", change).await
    }
}
