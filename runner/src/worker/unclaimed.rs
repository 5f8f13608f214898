//! Says in the log which task types no worker takes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_core::task::QueueName;
use runner_queue::{BrokerResult, Lists, Unclaimed, unclaimed};
use tokio::time::Instant;

use super::WorkerContext;
use crate::background::BackgroundLoop;

/// As soon as it can be said: that is after a task has waited for a minute.
const EVERY: Duration = Duration::from_secs(60);

/// How long a type of a queue is not told of again.
const TOLD_AGAIN: Duration = Duration::from_secs(600);

/// How many of them are remembered; beyond that all are forgotten and told of once more.
const REMEMBERED: usize = 1_000;

pub(super) struct UnclaimedReporter {
    ctx: Arc<WorkerContext>,
    told: HashMap<(QueueName, String), Instant>,
}

impl UnclaimedReporter {
    pub(super) fn new(ctx: Arc<WorkerContext>) -> Self {
        let told = HashMap::new();
        Self { ctx, told }
    }

    async fn look(&self) -> BrokerResult<Vec<Unclaimed>> {
        let broker = &*self.ctx.broker;
        let mut queues = Vec::new();
        for some in self.ctx.queues_with(Lists::Pending).await? {
            queues.extend(broker.queues_of(&some).await?);
        }
        unclaimed(broker, &queues).await
    }

    fn is_news(&mut self, found: &Unclaimed) -> bool {
        let name = (found.queue.clone(), found.kind.clone());
        if self.told.get(&name).is_some_and(|at| at.elapsed() < TOLD_AGAIN) {
            return false;
        }
        if self.told.len() >= REMEMBERED {
            self.told.clear();
        }
        self.told.insert(name, Instant::now());
        true
    }
}

#[async_trait]
impl BackgroundLoop for UnclaimedReporter {
    fn name(&self) -> &'static str {
        "watcher"
    }

    fn every(&self) -> Duration {
        EVERY
    }

    async fn turn(&mut self) -> Option<Duration> {
        let found = match self.look().await {
            Ok(found) => found,
            Err(error) => {
                self.ctx.broker_failed("look for tasks that no worker takes", &error);
                return None;
            }
        };
        for one in found {
            if self.is_news(&one) {
                tracing::warn!(
                    task_type = %one.kind, queue = %one.queue, tasks = one.count, oldest = %one.oldest,
                    "no worker takes tasks of this type; start one that has a handler for it, or delete them (told every ten minutes)"
                );
            }
        }
        None
    }
}
