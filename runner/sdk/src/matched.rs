//! A handler as the registry keeps it and the worker calls it: without its type, with its options.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::{Backoff, BoxFuture, Ctx, Outcome};

/// Runs a task.
pub(crate) type Call = Arc<dyn Fn(Ctx) -> BoxFuture<'static, Outcome> + Send + Sync>;

/// A matching handler.
#[derive(Clone)]
pub struct HandlerMatch {
    pub(crate) call: Call,
    pub(crate) backoff: Backoff,
    pub(crate) timeout: Option<Duration>,
    pub(crate) silence: Option<Duration>,
}

impl HandlerMatch {
    /// A handler without options.
    pub(crate) fn new(call: Call) -> Self {
        Self {
            call,
            backoff: Backoff::default(),
            timeout: None,
            silence: None,
        }
    }

    /// Runs the task. Does not catch panics; the caller does.
    #[must_use]
    pub fn call(&self, cx: Ctx) -> BoxFuture<'static, Outcome> {
        (self.call)(cx)
    }

    /// The time limit of its attempts, beside that of the task.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// How long its attempts may go on without a sign of life.
    #[must_use]
    pub fn silence(&self) -> Option<Duration> {
        self.silence
    }

    /// The retry delays of its failed tasks.
    #[must_use]
    pub fn backoff(&self) -> Backoff {
        self.backoff
    }
}

impl fmt::Debug for HandlerMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Found")
    }
}
