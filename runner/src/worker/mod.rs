//! The roles that run tasks. Each is one loop in one file or folder: the claim loop settles and claims tasks and runs
//! their handlers, the heartbeat extends leases, the watchdog stops handlers whose lease is lost, the forwarder,
//! recoverer, janitor and repairer maintain the broker, the canceller listens.
//!
//! Knows brokers only through the seam and handlers only through the registry; reads no settings itself.

mod aggregator;
#[cfg(test)]
mod aggregator_tests;
mod attempt;
mod canceller;
mod claim_loop;
mod claimed_types;
mod forwarder;
mod group_failures;
mod handler_call;
mod heartbeat;
mod in_flight;
mod instance;
mod janitor;
mod listed;
#[cfg(test)]
mod outage_tests;
mod queue_discovery;
mod quiet;
mod recoverer;
mod releaser;
mod repairer;
mod served_queues;
mod settings;
#[cfg(test)]
mod stop_tests;
mod survived;
#[cfg(test)]
mod tests;
mod unclaimed;
mod verdict;
mod watchdog;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use runner_core::clock::Clock;
use runner_core::task::QueueName;
use runner_queue::{Broker, BrokerError, ServerInfo, ServerStatus};
use runner_sdk::Handlers;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::background;
use crate::health::Health;
use crate::metrics::{Metrics, Successes};
use in_flight::InFlight;
pub use instance::Instance;
pub use quiet::Quiet;
#[cfg(test)]
use settings::DEFAULT_LEASE;
pub use settings::{SHORTEST_LEASE, WorkerSettings};

/// How long the claim loop may take to notice that a drain begins.
const CLOSING: Duration = Duration::from_secs(1);

/// Everything that follows the wait for running handlers is over so long after it, one step after the other: whoever
/// stops the process waits for the shutdown timeout and five seconds, the last half of one for what cannot be stopped.
pub const LAST_STEPS: Duration = Duration::from_millis(4500);

/// Of these, when stopped handlers are dropped that did not return, also if someone is in a hurry.
const LAST_WORDS: Duration = Duration::from_secs(3);
const HURRIED_WORDS: Duration = Duration::from_millis(500);

/// By when verdicts are written, roles have ended, and this server is off the list.
const LAST_VERDICTS: Duration = Duration::from_millis(3500);
const LAST_TURNS: Duration = Duration::from_millis(3800);
const LEAVING: Duration = Duration::from_millis(4000);

/// What the worker's files share.
struct WorkerContext {
    broker: Arc<dyn Broker>,
    handlers: Handlers,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    /// Of each queue that is served.
    successes: HashMap<QueueName, Successes>,
    served: served_queues::ServedQueues,
    settings: WorkerSettings,
    instance: Instance,
    in_flight: InFlight,
    /// Wakes the forwarder when a delay was just written.
    delayed: Notify,
    started_at: jiff::Timestamp,
    known: claimed_types::ClaimedTypes,
    survived: survived::Survived,
    listed: listed::Listed,
}

impl WorkerContext {
    fn new(
        broker: Arc<dyn Broker>,
        handlers: Handlers,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        health: Arc<Health>,
        settings: WorkerSettings,
        instance: Instance,
    ) -> Self {
        let started_at = clock.now();
        Self {
            broker,
            handlers,
            clock,
            successes: settings
                .queues
                .keys()
                .filter(|queue| !queue.as_str().contains('*'))
                .map(|queue| (queue.clone(), metrics.successes(queue.as_str())))
                .collect(),
            metrics,
            health,
            served: served_queues::ServedQueues::new(&settings.queues),
            settings,
            instance,
            in_flight: InFlight::default(),
            delayed: Notify::new(),
            started_at,
            known: claimed_types::ClaimedTypes::default(),
            survived: survived::Survived::default(),
            listed: listed::Listed::default(),
        }
    }

    #[cfg(test)]
    fn queue_names(&self) -> Vec<QueueName> {
        self.settings.queues.keys().cloned().collect()
    }

    fn server_name(&self) -> String {
        self.instance.name()
    }

    /// Counted always, logged once.
    fn broker_failed(&self, doing: &'static str, error: &BrokerError) {
        self.health.failed(doing, error);
    }

    fn info(&self, status: ServerStatus) -> ServerInfo {
        let (settings, instance) = (&self.settings, &self.instance);
        ServerInfo {
            host: instance.host.clone(),
            pid: instance.pid,
            id: instance.id.clone(),
            concurrency: u32::try_from(settings.concurrency).unwrap_or(u32::MAX),
            queues: settings
                .queues
                .iter()
                .map(|(name, priority)| (name.to_string(), *priority))
                .collect(),
            strict_priority: settings.strict_priority,
            status,
            started_at: self.started_at,
            active: u32::try_from(self.in_flight.len()).unwrap_or(u32::MAX),
            handlers: self.handlers.names(),
        }
    }
}

/// A running worker. Dropping it does not stop it; [`Worker::drain`] does.
pub struct Worker {
    ctx: Arc<WorkerContext>,
    intake: CancellationToken,
    /// Cancelled once the claim loop starts no further handler.
    closed: CancellationToken,
    upkeep: CancellationToken,
    claim_loop: tokio::task::JoinHandle<()>,
    /// Sets of groups that are being put together.
    sets: TaskTracker,
    roles: TaskTracker,
}

impl Worker {
    /// Starts every role of a worker. The broker need not be reachable yet.
    pub fn start(
        broker: Arc<dyn Broker>,
        handlers: Handlers,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        health: Arc<Health>,
        settings: WorkerSettings,
        instance: Instance,
    ) -> Self {
        // Before the first claim: a run that is lost before the first heartbeat has a server and a beginning too.
        broker.claims_as(&instance.host, instance.pid);
        let context = WorkerContext::new(broker, handlers, clock, metrics, health, settings, instance);
        let ctx = Arc::new(context);
        if let Some(types) = ctx.known.look(&ctx.handlers) {
            ctx.broker.claims_types(&types);
        }
        let (intake, upkeep) = (CancellationToken::new(), CancellationToken::new());
        let closed = CancellationToken::new();
        let guard = closed.clone().drop_guard();
        let claim_loop = tokio::spawn(claim_loop::run(ctx.clone(), intake.clone(), guard));
        let roles = TaskTracker::new();
        let keep = |role: Box<dyn background::BackgroundLoop>| {
            let (ctx, upkeep) = (ctx.clone(), upkeep.clone());
            roles.spawn(async move { background::run(role, &ctx.delayed, &upkeep).await });
        };
        keep(Box::new(forwarder::Forwarder(ctx.clone())));
        let idle = Arc::new(Notify::new());
        let keep_unwoken = |role: Box<dyn background::BackgroundLoop>| {
            let (idle, upkeep) = (idle.clone(), upkeep.clone());
            roles.spawn(async move { background::run(role, &idle, &upkeep).await });
        };
        keep_unwoken(Box::new(heartbeat::Heartbeat::new(ctx.clone(), intake.clone())));
        keep_unwoken(Box::new(watchdog::Watchdog::new(ctx.clone())));
        keep_unwoken(Box::new(releaser::Releaser::new(ctx.clone())));
        keep_unwoken(Box::new(recoverer::Recoverer::new(ctx.clone())));
        keep_unwoken(Box::new(janitor::Janitor(ctx.clone())));
        keep_unwoken(Box::new(repairer::Repairer(ctx.clone())));
        keep_unwoken(Box::new(unclaimed::UnclaimedReporter::new(ctx.clone())));
        if ctx.served.has_patterns() {
            keep_unwoken(Box::new(queue_discovery::QueueDiscovery::new(ctx.clone())));
        }
        let sets = TaskTracker::new();
        if ctx.handlers.aggregates() {
            let aggregator = aggregator::GroupAggregator::new(ctx.clone(), intake.clone(), sets.clone());
            let intake = intake.clone();
            roles.spawn(async move { background::run(aggregator, &Notify::new(), &intake).await });
        }
        roles.spawn(forwarder::listen(ctx.clone(), upkeep.clone()));
        roles.spawn(canceller::run(ctx.clone(), upkeep.clone()));
        Self {
            ctx,
            intake,
            closed,
            upkeep,
            claim_loop,
            sets,
            roles,
        }
    }

    /// Returns once nothing is in work: no handler runs, and the verdicts of all that ran are written.
    pub async fn at_rest(&self) {
        self.ctx.in_flight.emptied().await;
    }

    /// Returns when no task is taken any more although nobody asked for that: something in here broke down.
    pub async fn broken(&self) {
        self.closed.cancelled().await;
    }

    /// Stops taking tasks, waits for the running ones up to the shutdown timeout (or until `hurry`), hands
    /// the rest back without using up a retry, and takes this server off the list. Until when everything else that
    /// ends with it has to be over.
    #[allow(clippy::disallowed_methods)] // the limit of the wait, beside what else may end it
    pub async fn drain(self, hurry: CancellationToken) -> Instant {
        let told = Instant::now();
        self.intake.cancel();
        self.sets.close();
        // Only then is everything in flight that will run: the wait for an empty table must not end before.
        if timeout(CLOSING, self.closed.cancelled()).await.is_err() {
            tracing::error!("the intake did not close in time");
        }
        let running = self.ctx.in_flight.len();
        tracing::info!(running, timeout = ?self.ctx.settings.shutdown_timeout, "draining");
        tokio::select! {
            _ = async { tokio::join!(self.ctx.in_flight.emptied(), self.sets.wait()) } => (),
            () = hurry.cancelled() => tracing::warn!("told twice to stop: handing back what still runs"),
            () = tokio::time::sleep_until(told + self.ctx.settings.shutdown_timeout) => {
                tracing::warn!(
                    running = self.ctx.in_flight.len(), sets = self.sets.len(),
                    "shutdown timeout: handing back what still runs"
                );
            }
        }
        let over = Instant::now();
        self.ctx.in_flight.stop_all(runner_sdk::StopReason::Shutdown);
        let words = if hurry.is_cancelled() {
            HURRIED_WORDS
        } else {
            LAST_WORDS
        };
        if timeout(words, self.ctx.in_flight.emptied()).await.is_err() {
            self.ctx.in_flight.abandon_all();
        }
        if timeout_at(over + LAST_VERDICTS, self.claim_loop).await.is_err() {
            tracing::error!(
                "some handlers did not stop in time, or their verdicts could not be written; their tasks run again \
                 when their leases end"
            );
        }
        self.upkeep.cancel();
        self.roles.close();
        if timeout_at(over + LAST_TURNS, self.roles.wait()).await.is_err() {
            tracing::warn!("background roles did not stop in time");
        }
        let info = self.ctx.info(ServerStatus::Closed);
        if let Ok(Err(error)) = timeout_at(over + LEAVING, self.ctx.broker.leave(&info)).await {
            tracing::debug!(error = %runner_core::chain::chain(&error), "could not leave the list of servers");
        }
        tracing::info!("drained");
        over + LAST_STEPS
    }
}
