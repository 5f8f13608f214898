//! Takes what ended to the broker and as many new tasks as there are free slots back, in one call, and starts a
//! handler for each.
//!
//! While a call is under way the next results gather, so batches grow by themselves under load, and a single task
//! leaves at once when there is none. A slot is free again once its verdict is written. What could not be written
//! is kept, as data, until it can or its lease is over.

use std::sync::Arc;
use std::task::Poll;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::WorkerContext;
use super::claim_loop::ClaimLoop;

/// Runs until `stop`, then returns once every handler that was started has ended and its verdict is written.
/// `intake` falls as soon as no further handler is started, or this breaks down.
pub(super) async fn run(ctx: Arc<WorkerContext>, stop: CancellationToken, intake: DropGuard) {
    let mut quiet = ctx.instance.quiet.listen();
    let mut claim_loop = ClaimLoop::new(ctx, intake);
    loop {
        claim_loop.collect();
        claim_loop.go_on_with_suspects();
        claim_loop.call();
        if claim_loop.is_done() {
            break;
        }
        let ctx = claim_loop.ctx.clone();
        tokio::select! {
            // The stop comes first: what is claimed by a call that comes back together with it is not started.
            biased;
            () = stop.cancelled(), if claim_loop.is_open() => claim_loop.close(),
            // Those that were started together mostly end together: they get their turn, and then go together.
            Some(back) = claim_loop.calls.next(), if !claim_loop.calls.is_empty() => {
                claim_loop.take(back);
                if claim_loop.calls.is_empty() {
                    let_others_run().await;
                }
            }
            found = until_done(&mut claim_loop.asking) => claim_loop.take_unanswered(found),
            () = ctx.ended.changed() => match claim_loop.most_calls {
                1 => let_others_run().await,
                _ => tokio::task::yield_now().await,
            },
            // The switch lives as long as the settings. When the quiet time ends there may be much to do.
            Ok(()) = quiet.changed() => claim_loop.hungry = true,
            () = until_done(&mut claim_loop.waking) => claim_loop.hungry = true,
            () = until_done(&mut claim_loop.pause) => (),
            () = ctx.served.changed.notified() => claim_loop.renew(),
            () = until_done(&mut claim_loop.suspects.timer) => (),
            () = until_done(&mut claim_loop.suspects.passing) => claim_loop.suspect_passed(),
        }
    }
}

/// Goes to the end of the queue of what is ready to run. Unlike the runtime's own yield this does not wait until a
/// thread has nothing else to do.
async fn let_others_run() {
    let mut waited = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Waits for a future that is there, once; for ever when there is none.
async fn until_done<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(running) => {
            let done = running.await;
            *future = None;
            done
        }
        None => std::future::pending().await,
    }
}
