//! Logs which task types no worker claims.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_core::task::QueueName;
use runner_queue::{BrokerResult, Lists, Unclaimed, unclaimed};
use tokio::time::Instant;

use super::context::WorkerContext;
use crate::background::BackgroundLoop;

/// A type counts as unclaimed once a task of it has waited for a minute.
const EVERY: Duration = Duration::from_secs(60);

/// How long a type of a queue is not logged again.
const LOGGED_AGAIN: Duration = Duration::from_secs(600);

/// How many of them are remembered; beyond that all are forgotten and logged once more.
const REMEMBERED: usize = 1_000;

pub(super) struct UnclaimedReporter {
    ctx: Arc<WorkerContext>,
    logged: HashMap<(QueueName, String), Instant>,
}

impl UnclaimedReporter {
    pub(super) fn new(ctx: Arc<WorkerContext>) -> Self {
        let logged = HashMap::new();
        Self { ctx, logged }
    }

    async fn look(&self) -> BrokerResult<Vec<Unclaimed>> {
        let broker = &*self.ctx.broker;
        let mut queues = Vec::new();
        for some in self.ctx.queues_with(Lists::Pending).await? {
            queues.extend(broker.queues_of(&some).await?);
        }
        Ok(unclaimed(broker, &queues).await?.types)
    }

    fn is_news(&mut self, found: &Unclaimed) -> bool {
        let name = (found.queue.clone(), found.kind.clone());
        if self.logged.get(&name).is_some_and(|at| at.elapsed() < LOGGED_AGAIN) {
            return false;
        }
        if self.logged.len() >= REMEMBERED {
            self.logged.clear();
        }
        self.logged.insert(name, Instant::now());
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
                    "no worker takes tasks of this type; start one that has a handler for it, or delete them (logged every ten minutes)"
                );
            }
        }
        None
    }
}
