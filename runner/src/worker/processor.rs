//! Claims as many tasks as there are free slots and starts a handler for each.

use std::sync::Arc;
use std::time::Duration;

use runner_core::schedule::stable_hash;
use runner_queue::{Claim, Settlement};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Shop;
use super::attempt;
use super::order::Order;

/// How many tasks one call claims at most: about a millisecond of the store's time.
const CLAIM_BATCH: usize = 256;

/// The longest wait for a wake-up while all queues are empty.
const IDLE: Duration = Duration::from_secs(1);

/// Pause after a failed claim, doubled up to the longest.
const BACKOFF: Duration = Duration::from_millis(50);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

/// Runs until `stop`, then returns once every handler that was started has ended.
#[allow(clippy::disallowed_methods)] // a named back-off that a stop ends
pub(super) async fn run(
    shop: Arc<Shop>,
    settlements: mpsc::Sender<(Settlement, OwnedSemaphorePermit)>,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(shop.settings.concurrency));
    let running = TaskTracker::new();
    let mut order = Order::new(
        &shop.settings.queues,
        shop.settings.strict_priority,
        stable_hash(&[&shop.settings.id]),
    );
    let mut failures = 0u32;
    loop {
        let Some(mut permits) = free_slots(&slots, &stop).await else {
            break;
        };
        let queues = order.next();
        match shop.broker.claim(&queues, permits.len(), shop.settings.lease).await {
            Ok(claims) => {
                failures = 0;
                shop.broker_answered();
                let empty = claims.is_empty();
                for claim in claims {
                    let Some(permit) = permits.pop() else { break };
                    start(&shop, claim, permit, &settlements, &running);
                }
                drop(permits);
                if empty {
                    tokio::select! {
                        () = shop.broker.wait_for_work(&queues, IDLE) => (),
                        () = stop.cancelled() => break,
                    }
                }
            }
            Err(error) => {
                drop(permits);
                shop.broker_failed("claim tasks", &error);
                let pause = BACKOFF.saturating_mul(1 << failures.min(7)).min(LONGEST_BACKOFF);
                failures = failures.saturating_add(1);
                tokio::select! {
                    () = tokio::time::sleep(pause) => (),
                    () = stop.cancelled() => break,
                }
            }
        }
    }
    running.close();
    running.wait().await;
}

/// Waits for at least one free slot and takes all that are free; `None` when stopped.
async fn free_slots(slots: &Arc<Semaphore>, stop: &CancellationToken) -> Option<Vec<OwnedSemaphorePermit>> {
    let first = tokio::select! {
        biased;
        () = stop.cancelled() => return None,
        permit = slots.clone().acquire_owned() => permit.ok()?,
    };
    let mut permits = vec![first];
    while permits.len() < CLAIM_BATCH {
        match slots.clone().try_acquire_owned() {
            Ok(permit) => permits.push(permit),
            Err(_) => break,
        }
    }
    Some(permits)
}

/// Starts the handler of one claim. The slot is free again once the verdict is written.
fn start(
    shop: &Arc<Shop>,
    claim: Claim,
    permit: OwnedSemaphorePermit,
    settlements: &mpsc::Sender<(Settlement, OwnedSemaphorePermit)>,
    running: &TaskTracker,
) {
    let (shop, settlements) = (shop.clone(), settlements.clone());
    running.spawn(async move {
        match attempt::run(&shop, &claim).await {
            Some(settlement) => {
                // The settler outlives every sender.
                if settlements.send((settlement, permit)).await.is_err() {
                    tracing::error!("the settler is gone; the task will be recovered when its lease ends");
                    shop.board.remove(&claim);
                }
            }
            None => shop.board.remove(&claim),
        }
    });
}
