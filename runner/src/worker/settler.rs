//! Ends claims in batches, and keeps what could not be written until it can or the lease is over.
//!
//! While one call is under way the next settlements gather, so batches grow by themselves under load and a
//! single task leaves at once when there is none. What is kept is data, never a closure.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use runner_queue::{Settled, Settlement, Verdict};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinHandle;

use super::Shop;

/// How many settlements one call carries.
const BATCH: usize = 256;

/// How many may wait for the settler; handlers wait beyond that.
const WAITING: usize = 4096;

/// Pause between two tries to write what failed.
const AGAIN: Duration = Duration::from_millis(500);

type Ended = (Settlement, OwnedSemaphorePermit);

/// The settler's task and the way into it.
pub(super) struct Settler {
    sender: mpsc::Sender<Ended>,
    task: JoinHandle<()>,
}

impl Settler {
    pub(super) fn start(shop: Arc<Shop>) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        Self {
            sender,
            task: tokio::spawn(run(shop, receiver)),
        }
    }

    pub(super) fn sender(&self) -> mpsc::Sender<Ended> {
        self.sender.clone()
    }

    /// Writes what is left, for at most `patience`.
    pub(super) async fn finish(self, patience: Duration) {
        drop(self.sender);
        if tokio::time::timeout(patience, self.task).await.is_err() {
            tracing::error!("some verdicts could not be written; their tasks run again when their leases end");
        }
    }
}

#[allow(clippy::disallowed_methods)] // a named back-off; leases end before it matters
async fn run(shop: Arc<Shop>, mut ended: mpsc::Receiver<Ended>) {
    let mut kept: VecDeque<Ended> = VecDeque::new();
    let mut open = true;
    while open || !kept.is_empty() {
        let mut batch: Vec<Ended> = kept.drain(..).collect();
        if batch.is_empty() {
            open = ended.recv_many(&mut batch, BATCH).await > 0;
        } else {
            while batch.len() < BATCH {
                let Ok(one) = ended.try_recv() else { break };
                batch.push(one);
            }
        }
        if !batch.is_empty() && !settle(&shop, batch, &mut kept).await {
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// Whether the broker took the batch; what it did not take is kept while its lease may still hold.
async fn settle(shop: &Shop, batch: Vec<Ended>, kept: &mut VecDeque<Ended>) -> bool {
    let mut written = true;
    for chunk in chunks(batch) {
        let (settlements, permits): (Vec<_>, Vec<_>) = chunk.into_iter().unzip();
        match shop.broker.settle(&settlements).await {
            Ok(answers) => {
                shop.broker_answered();
                if settlements
                    .iter()
                    .any(|s| matches!(s.verdict, Verdict::Retry { .. } | Verdict::Snooze { .. }))
                {
                    shop.delayed.notify_one();
                }
                for ((settlement, answer), permit) in settlements.iter().zip(answers).zip(permits) {
                    if answer == Settled::Stale {
                        let task = settlement.claim.task();
                        tracing::warn!(task_id = %task.id, task_type = %task.kind, "verdict came too late; the task is no longer held here");
                    }
                    shop.board.remove(&settlement.claim);
                    drop(permit);
                }
            }
            Err(error) => {
                shop.broker_failed("write verdicts", &error);
                written = false;
                for (settlement, permit) in settlements.into_iter().zip(permits) {
                    if shop.clock.now() < settlement.claim.lease_until()
                        || shop.board.holds(&settlement.claim, shop.settings.lease)
                    {
                        kept.push_back((settlement, permit));
                    } else {
                        let task = settlement.claim.task();
                        tracing::error!(task_id = %task.id, task_type = %task.kind, "verdict given up: the lease is over; the task runs again");
                        shop.board.remove(&settlement.claim);
                    }
                }
            }
        }
    }
    written
}

fn chunks(batch: Vec<Ended>) -> Vec<Vec<Ended>> {
    let mut out = Vec::with_capacity(batch.len().div_ceil(BATCH));
    let mut rest = batch.into_iter().peekable();
    while rest.peek().is_some() {
        out.push(rest.by_ref().take(BATCH).collect());
    }
    out
}
