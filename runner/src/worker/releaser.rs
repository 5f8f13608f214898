//! Passes the types that this worker claims, their limits, and which of them have their runs recorded, to its broker when they change, has new
//! types announced at once, and releases tasks that an older version of this program postponed because it had no handler for them.
//!
//! A role of its own, because those tasks may be many: the heartbeat must not wait for it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_queue::{BrokerResult, Lists};

use super::context::WorkerContext;
use crate::background::BackgroundLoop;

/// How soon a task of a function that was just added is claimed.
const EVERY: Duration = Duration::from_millis(500);

pub(super) struct Releaser {
    ctx: Arc<WorkerContext>,
    /// The handlers for which tasks were released last; nothing is done until there are others.
    released_for: Vec<String>,
}

impl Releaser {
    pub(super) fn new(ctx: Arc<WorkerContext>) -> Self {
        let released_for = Vec::new();
        Self { ctx, released_for }
    }

    /// Visits all queues once.
    async fn pass(&self, handlers: &[String]) -> BrokerResult<usize> {
        let mut released = 0;
        for queues in self.ctx.queues_with(Lists::Delayed).await? {
            released += self.ctx.broker.release_waiting(&queues, handlers).await?;
        }
        Ok(released)
    }
}

#[async_trait]
impl BackgroundLoop for Releaser {
    fn name(&self) -> &'static str {
        "releaser"
    }

    fn every(&self) -> Duration {
        EVERY
    }

    async fn turn(&mut self) -> Option<Duration> {
        // Before the types: a limit of a new function must hold for its first task.
        self.ctx.look_at_limits();
        self.ctx.recorded.set(&self.ctx.changeable.now().recorded_types);
        if let Some(types) = self.ctx.known.look(&self.ctx.handlers) {
            self.ctx.broker.claims_types(&types);
            self.ctx.announce.notify_one();
        }
        let handlers = self.ctx.handlers.names();
        if handlers == self.released_for {
            return None;
        }
        let ctx = &self.ctx;
        match self.pass(&handlers).await {
            Ok(released) => {
                if released > 0 {
                    tracing::info!(released, "tasks that waited for a handler were released");
                }
                // Only now: after a failure the same handlers are tried again.
                self.released_for = handlers;
            }
            Err(error) => ctx.broker_failed("release waiting tasks", &error),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Mutex;

    use futures_util::FutureExt as _;
    use runner_queue::Presence as _;
    use runner_sdk::Registry;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::worker::heartbeat::Heartbeat;
    use crate::worker::tests::Scene;

    async fn nothing() {}

    #[tokio::test]
    async fn a_new_function_is_announced_at_once() {
        let scene = Scene::new().await;
        let functions = Arc::new(Mutex::new(vec!["a".to_owned()]));
        let named = functions.clone();
        let names = move || named.lock().unwrap().clone();
        let registry = Registry::new().on_prefix_listed("fn:", |_| true, names, nothing);
        let ctx = scene.ctx(registry, 1);
        let mut releaser = Releaser::new(ctx.clone());
        let mut woken = async || {
            releaser.turn().await;
            ctx.announce.notified().now_or_never().is_some()
        };
        assert!(woken().await);
        assert!(!woken().await, "nothing is new");
        functions.lock().unwrap().push("b".to_owned());
        assert!(woken().await);
        Heartbeat::new(ctx.clone(), CancellationToken::new()).turn().await;
        let servers = scene.broker.servers().await.unwrap();
        assert_eq!(servers[0].info.handlers, ["fn:a", "fn:b"]);
    }
}
