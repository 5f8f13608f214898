//! The call of a handler: a future whose panic, also while it is dropped, ends only the attempt.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use futures_util::future::CatchUnwind;
use runner_sdk::{BoxFuture, Ctx, HandlerMatch, Outcome};

use super::verdict::HandlerEnd;
use crate::background::panic_text;

type CaughtHandler = CatchUnwind<AssertUnwindSafe<BoxFuture<'static, Outcome>>>;

/// A handler's future; none once it was dropped.
pub(super) struct HandlerCall(Option<CaughtHandler>);

impl HandlerCall {
    pub(super) fn new(found: HandlerMatch, cx: Ctx) -> Self {
        // In a block of its own: what a handler does before it returns its future may panic as well, and must do so in
        // `poll`.
        let call: BoxFuture<'static, Outcome> = Box::pin(async move { found.call(cx).await });
        Self(Some(AssertUnwindSafe(call).catch_unwind()))
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<HandlerEnd> {
        let Some(handler) = &mut self.0 else {
            return Poll::Ready(HandlerEnd::Dropped);
        };
        handler.poll_unpin(cx).map(|ended| match ended {
            Ok(outcome) => HandlerEnd::Returned(outcome),
            Err(panic) => HandlerEnd::Panicked(panic_text(panic.as_ref())),
        })
    }

    /// Returns once the handler has ended. Dropping this wait does not stop the handler.
    pub(super) async fn end(&mut self) -> HandlerEnd {
        poll_fn(|cx| self.poll(cx)).await
    }

    pub(super) fn drop_handler(&mut self) {
        let handler = self.0.take();
        if std::panic::catch_unwind(AssertUnwindSafe(|| drop(handler))).is_err() {
            tracing::error!("a handler panicked while it was dropped");
        }
    }
}

impl Drop for HandlerCall {
    fn drop(&mut self) {
        self.drop_handler();
    }
}
