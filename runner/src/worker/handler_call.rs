//! The call of a handler: a future whose panic, also while it is dropped, ends only the attempt.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::task::{Context, Poll, ready};

use futures_util::FutureExt as _;
use futures_util::future::CatchUnwind;
use runner_sdk::{BoxFuture, Ctx, HandlerMatch, Outcome};

use super::verdict::HandlerEnd;
use crate::background::panic_text;
use crate::log::task_span;
use crate::telemetry::Telemetry;

type CaughtHandler = CatchUnwind<AssertUnwindSafe<BoxFuture<'static, Outcome>>>;

/// A handler's future, and the span of its task, in which it is polled and dropped.
pub(super) struct HandlerCall {
    /// None once it was dropped.
    running: Option<CaughtHandler>,
    span: tracing::Span,
}

impl HandlerCall {
    /// `before` is waited for first; if it fails, the handler is not called and the task is archived.
    pub(super) fn new(
        found: HandlerMatch,
        cx: Ctx,
        before: Option<BoxFuture<'static, Result<(), String>>>,
        telemetry: &Telemetry,
    ) -> Self {
        let span = task_span(&cx, telemetry);
        // In a block of its own: what a handler does before it returns its future may panic as well, and must do so in
        // `poll`.
        let call: BoxFuture<'static, Outcome> = match before {
            None => Box::pin(async move { found.call(cx).await }),
            Some(before) => Box::pin(async move {
                match before.await {
                    Ok(()) => found.call(cx).await,
                    Err(why) => Outcome::Skip(why),
                }
            }),
        };
        Self {
            running: Some(AssertUnwindSafe(call).catch_unwind()),
            span,
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<HandlerEnd> {
        let Self { running, span } = self;
        let Some(handler) = running else {
            return Poll::Ready(HandlerEnd::Dropped);
        };
        // Entered once for the last poll and the drop: most handlers are polled once, and entering costs as much as they do.
        let _within = span.enter();
        let ended = ready!(handler.poll_unpin(cx));
        drop_caught(running.take());
        Poll::Ready(match ended {
            Ok(outcome) => HandlerEnd::Returned(outcome),
            Err(panic) => HandlerEnd::Panicked(panic_text(panic.as_ref())),
        })
    }

    /// Returns once the handler has ended. Dropping this wait does not stop the handler.
    pub(super) async fn end(&mut self) -> HandlerEnd {
        poll_fn(|cx| self.poll(cx)).await
    }

    pub(super) fn drop_handler(&mut self) {
        if let Some(handler) = self.running.take() {
            let _within = self.span.enter();
            drop_caught(Some(handler));
        }
    }
}

fn drop_caught(handler: Option<CaughtHandler>) {
    if std::panic::catch_unwind(AssertUnwindSafe(|| drop(handler))).is_err() {
        tracing::error!("a handler panicked while it was dropped");
    }
}

impl Drop for HandlerCall {
    fn drop(&mut self) {
        self.drop_handler();
    }
}
