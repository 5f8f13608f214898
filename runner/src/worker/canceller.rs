//! Listens for cancellations and stops the handlers they name.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::context::WorkerContext;

/// Pause before listening again after the broker went away.
const AGAIN: Duration = Duration::from_secs(1);

#[allow(clippy::disallowed_methods)] // a named back-off that a stop ends
pub(super) async fn run(ctx: Arc<WorkerContext>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = listen(&ctx) => (),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(AGAIN) => (),
        }
    }
}

async fn listen(ctx: &WorkerContext) {
    match ctx.broker.cancellations().await {
        Ok(mut requests) => {
            while let Some(request) = requests.recv().await {
                if ctx.in_flight.stop_wanted(&request) == 0 {
                    continue;
                }
                let id = &request.id;
                match &request.for_good {
                    Some(reason) => tracing::info!(task_id = %id, words = reason, "ended for good on request"),
                    None => tracing::info!(task_id = %id, "cancelled on request"),
                }
            }
        }
        Err(error) => ctx.broker_failed("listen for cancellations", &error),
    }
}
