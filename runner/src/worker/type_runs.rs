//! Says in the store which types this process has recorded runs of, and of which it only counts them, for pages and commands.
//!
//! Not here: measuring and deciding (`RecordedTypes`), and the records.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_queue::{TYPE_RUNS_KIND, TypeRuns};

use super::context::WorkerContext;
use crate::background::BackgroundLoop;

/// As long as rates are measured: a change is seen after this.
const EVERY: Duration = Duration::from_secs(5);

/// How long it is known of a process that has ended which types it ran.
const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// How often an unchanged document is written again, so that it lasts as long as the process.
const RENEWED_EVERY: u32 = 720;

pub(super) struct TypeRunsReporter {
    ctx: Arc<WorkerContext>,
    written: Vec<TypeRuns>,
    turns: u32,
}

impl TypeRunsReporter {
    pub(super) fn new(ctx: Arc<WorkerContext>) -> Self {
        Self {
            ctx,
            written: Vec::new(),
            turns: 0,
        }
    }
}

#[async_trait]
impl BackgroundLoop for TypeRunsReporter {
    fn name(&self) -> &'static str {
        "runs of types"
    }

    fn every(&self) -> Duration {
        EVERY
    }

    async fn turn(&mut self) -> Option<Duration> {
        let ctx = &self.ctx;
        let known = ctx.recorded.look(ctx.clock.now());
        self.turns = self.turns.saturating_add(1);
        let has_nothing_to_say = known.is_empty() && self.written.is_empty();
        if has_nothing_to_say || known == self.written && self.turns < RENEWED_EVERY {
            return None;
        }
        let body = serde_json::to_vec(&known).unwrap_or_default();
        let name = ctx.server_name();
        match ctx.broker.keep_document(TYPE_RUNS_KIND, &name, body, KEPT_FOR).await {
            Ok(()) => (self.written, self.turns) = (known, 0),
            Err(error) => ctx.broker_failed("say which types are recorded", &error),
        }
        None
    }
}
