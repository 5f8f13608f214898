//! The claim loop sends verdicts to the broker and claims as many tasks as there are free slots, in one call, and
//! starts a handler for each.
//!
//! While a call is under way the next verdicts gather, so batches grow by themselves under load, and a single task
//! waits for nothing. To read it, begin with `state`: what the loop holds, and through which phases a slot goes. Then
//! the steps:
//!
//! | step | file | does |
//! |---|---|---|
//! | collect | here | moves verdicts of attempts that ended from the outbox into the queue of verdicts |
//! | suspects | `suspect_steps` | starts, postpones or releases a task that may kill this process |
//! | unanswered | `unanswered_steps` | after a call without an answer: asks which tasks it claimed, before any other call |
//! | call | `call` | sends verdicts and asks for tasks; waits for a wake-up when the queues are empty |
//! | answer | `answer` | frees the slots of what was written, keeps what was not, pauses after a failure |
//! | start | `start` | gives each claim a slot and starts its handler, mostly by `spawn` |
//!
//! Parts with rules of their own: `inline` (calls quick handlers in the loop; a reader can skip it), `settle_each`
//! (verdicts that the broker refuses), `spare` (slots of notifications), `suspects` (which suspect starts, and when), `queue_order`, `pause`. Not here:
//! what a handler is given and what its end means (`attempt`, `verdict`), and keeping leases (`heartbeat`).

mod answer;
mod call;
mod call_result;
mod inline;
mod inline_types;
mod outbox;
mod pause;
mod queue_order;
mod queues;
mod settle_each;
mod spare;
mod spare_steps;
mod spawn;
mod start;
mod state;
mod suspect_steps;
mod suspects;
#[cfg(test)]
mod tests;
mod unanswered;
mod unanswered_steps;

use std::sync::Arc;
use std::task::Poll;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::worker::context::WorkerContext;
use state::ClaimLoop;

/// Runs until `stop`, then returns once every handler that was started has ended and its verdict is written.
/// `intake` is dropped as soon as no further handler will start, or this breaks down.
pub(super) async fn run(ctx: Arc<WorkerContext>, stop: CancellationToken, intake: DropGuard) {
    let mut quiet = ctx.instance.quiet.listen();
    let mut concurrency = ctx.listen_concurrency();
    let mut state = ClaimLoop::new(ctx, intake);
    let shared = state.shared.clone();
    loop {
        // In this order: what ended frees the way for a suspect, and what that step decides goes with the next call.
        state.collect();
        state.step_suspects();
        state.make_calls();
        if state.is_done() {
            break;
        }
        // Each branch processes one event; its consequences are decided in the steps above.
        tokio::select! {
            // The stop comes first: claims of a call that returns at the same time must not start.
            biased;
            () = stop.cancelled(), if state.is_open() => state.close(),
            Some(result) = state.calls.next(), if !state.calls.is_empty() => {
                state.take_answer(result);
                // Handlers that were just started mostly end within one round of the runtime: then one call carries all
                // their verdicts. With a second call under way this would only delay them.
                if state.calls.is_empty() {
                    let_others_run().await;
                }
            }
            claims = until_done(&mut state.unanswered.question) => state.take_unanswered(claims),
            () = shared.outbox.changed() => match state.most_calls {
                1 => let_others_run().await,
                _ => tokio::task::yield_now().await,
            },
            // The switch lives as long as the settings. When the quiet time ends there may be much to claim.
            Ok(()) = quiet.changed() => {
                state.queues.may_have_tasks = true;
                state.spare.may_have_tasks = true;
            }
            Ok(()) = concurrency.changed() => state.resize(*concurrency.borrow_and_update()),
            () = until_done(&mut state.wake_up) => {
                state.queues.may_have_tasks = true;
            }
            () = until_done(&mut state.spare.wake_up) => state.spare.may_have_tasks = true,
            () = until_done(&mut state.pause.timer) => (),
            () = until_done(&mut state.spare.pause.timer) => (),
            () = shared.worker.served.changed.notified() => state.renew_queues(),
            () = until_done(&mut state.suspects.timer) => (),
            () = until_done(&mut state.suspects.passing) => state.suspect_passed(),
        }
    }
}

impl ClaimLoop {
    /// Collects the attempts that ended.
    fn collect(&mut self) {
        let mut lost = Vec::new();
        for ended in self.shared.outbox.take() {
            match ended.settlement {
                Some(settlement) => {
                    if ended.at_once {
                        self.inline_types.learn(&settlement.claim.task().kind);
                    }
                    self.end(ended.slot, settlement);
                }
                None => lost.push(ended.slot),
            }
        }
        self.give_up(lost);
    }
}

/// Goes to the end of the runtime's queue of tasks that are ready. Unlike the runtime's own yield this does not wait
/// until a thread has nothing else to do.
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

/// Waits for the future and removes it; forever when there is none. Dropping this wait loses nothing: the future stays
/// where it is.
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
