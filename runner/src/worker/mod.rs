//! The roles that run tasks. Each is one loop in one file or folder: the claim loop settles and claims tasks and runs
//! their handlers, the heartbeat extends leases, the watchdog stops handlers whose lease is lost, the forwarder,
//! recoverer, janitor and repairer maintain the broker, the canceller listens.
//!
//! Knows brokers only through the seam and handlers only through the registry; reads no settings itself.

mod aggregator;
#[cfg(test)]
mod aggregator_tests;
mod attempt;
mod before_run;
mod canceller;
mod claim_loop;
mod claimed_limits;
mod claimed_types;
mod context;
mod forwarder;
mod group_failures;
mod handler_call;
mod heartbeat;
mod in_flight;
mod instance;
mod janitor;
mod listed;
mod live;
mod live_reporter;
mod orders;
#[cfg(test)]
mod outage_tests;
mod queue_discovery;
mod quiet;
mod recoverer;
mod releaser;
mod repairer;
#[cfg(test)]
mod run_log_tests;
mod served_queues;
mod services;
mod settings;
mod sign_of_life;
mod staged_group;
#[cfg(test)]
mod stop_tests;
mod survived;
#[cfg(test)]
mod tests;
mod type_runs;
mod unclaimed;
mod verdict;
mod watchdog;

use std::sync::Arc;
use std::time::Duration;

use runner_queue::ServerStatus;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::background;
pub use before_run::BeforeRun;
use context::WorkerContext;
pub use context::WorkerParts;
pub use instance::Instance;
pub use quiet::Quiet;
#[cfg(test)]
use settings::DEFAULT_LEASE;
pub use settings::{ChangeableSettings, SHORTEST_LEASE, WorkerSettings};
pub use sign_of_life::{LastSign, lost_workers};

/// How long the claim loop may take to notice that a drain begins.
const CLOSING: Duration = Duration::from_secs(1);

/// How long all steps of a drain may take that follow the wait for running handlers. A service manager waits for
/// the shutdown timeout and five seconds; the last half second is for what cannot be stopped.
pub const LAST_STEPS: Duration = Duration::from_millis(4500);

/// Of these, how long a stopped handler may take to return before it is dropped; less after a second signal.
const STOPPED_HANDLERS: Duration = Duration::from_secs(3);
const HURRIED_HANDLERS: Duration = Duration::from_millis(500);

/// By then verdicts are written, roles have ended, and this server is off the list.
const LAST_VERDICTS: Duration = Duration::from_millis(3500);
const LAST_TURNS: Duration = Duration::from_millis(3800);
const LEAVING: Duration = Duration::from_millis(4000);

/// A running worker. Dropping it does not stop it; [`Worker::drain`] does.
pub struct Worker {
    ctx: Arc<WorkerContext>,
    intake: CancellationToken,
    /// Cancelled once the claim loop starts no further handler.
    closed: CancellationToken,
    upkeep: CancellationToken,
    claim_loop: tokio::task::JoinHandle<()>,
    /// Sets of groups that are being aggregated.
    sets: TaskTracker,
    roles: TaskTracker,
}

impl Worker {
    /// Those of its settings that may change.
    #[must_use]
    pub fn changeable_settings(&self) -> ChangeableSettings {
        self.ctx.changeable.clone()
    }

    /// Starts every role of a worker. The broker need not be reachable yet.
    pub fn start(parts: WorkerParts) -> Self {
        // All before the first claim: a run that is lost before the first heartbeat must have a server, a task of an unknown
        // type must not be claimed, and a limit must hold from the start.
        parts.broker.claims_as(&parts.instance.host, parts.instance.pid);
        let ctx = Arc::new(WorkerContext::new(parts));
        ctx.look_at_limits();
        ctx.broker.record_types(ctx.recorded.clone());
        if let Some(types) = ctx.known.look(&ctx.handlers) {
            ctx.broker.claims_types(&types);
        }
        ctx.instance.quiet.set_starting(true);
        let (intake, upkeep) = (CancellationToken::new(), CancellationToken::new());
        // The claim loop holds the guard: `closed` is cancelled when it starts no further handler, and also when it
        // panics.
        let closed = CancellationToken::new();
        let guard = closed.clone().drop_guard();
        let claim_loop = tokio::spawn(claim_loop::run(ctx.clone(), intake.clone(), guard));
        let roles = TaskTracker::new();
        let spawn_woken = |role: Box<dyn background::BackgroundLoop>| {
            let (ctx, upkeep) = (ctx.clone(), upkeep.clone());
            roles.spawn(async move { background::run(role, &ctx.delayed, &upkeep).await });
        };
        spawn_woken(Box::new(forwarder::Forwarder(ctx.clone())));
        let idle = Arc::new(Notify::new());
        let spawn = |role: Box<dyn background::BackgroundLoop>| {
            let (idle, upkeep) = (idle.clone(), upkeep.clone());
            roles.spawn(async move { background::run(role, &idle, &upkeep).await });
        };
        spawn(Box::new(orders::Orders::new(ctx.clone())));
        let alive = heartbeat::Heartbeat::new(ctx.clone(), intake.clone());
        let (announcing, ending) = (ctx.clone(), upkeep.clone());
        roles.spawn(async move { background::run(alive, &announcing.announce, &ending).await });
        spawn(Box::new(watchdog::Watchdog::new(ctx.clone())));
        spawn(Box::new(releaser::Releaser::new(ctx.clone())));
        spawn(Box::new(recoverer::Recoverer::new(ctx.clone())));
        spawn(Box::new(janitor::Janitor(ctx.clone())));
        spawn(Box::new(repairer::Repairer(ctx.clone())));
        spawn(Box::new(live_reporter::LiveReporter(ctx.clone())));
        spawn(Box::new(sign_of_life::SignOfLife(ctx.clone())));
        spawn(Box::new(unclaimed::UnclaimedReporter::new(ctx.clone())));
        spawn(Box::new(type_runs::TypeRunsReporter::new(ctx.clone())));
        if ctx.served.has_patterns() {
            spawn(Box::new(queue_discovery::QueueDiscovery::new(ctx.clone())));
        }
        let sets = TaskTracker::new();
        if ctx.handlers.aggregates() {
            // Stops with the intake, not with the other roles: a set that it takes later could not be aggregated in
            // time.
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

    /// Returns once nothing is in flight: no handler runs, and the verdicts of all that ran are written.
    pub async fn at_rest(&self) {
        self.ctx.in_flight.emptied().await;
    }

    /// Returns when the claim loop has ended without a drain: it panicked.
    pub async fn broken(&self) {
        self.closed.cancelled().await;
    }

    /// Stops taking tasks, waits for the running ones up to the shutdown timeout (or until `hurry`), hands the rest
    /// back without using up a retry, and takes this server off the list. Returns the time by which everything else
    /// that ends with it must be over.
    #[allow(clippy::disallowed_methods)] // the limit of the wait, beside what else may end it
    pub async fn drain(self, hurry: CancellationToken) -> Instant {
        let began = Instant::now();
        self.intake.cancel();
        self.sets.close();
        // Only then everything that will run is in flight: the wait for an empty table must not end before.
        if timeout(CLOSING, self.closed.cancelled()).await.is_err() {
            tracing::error!("the intake did not close in time");
        }
        let running = self.ctx.in_flight.len();
        let patience = self.ctx.changeable.now().shutdown_timeout;
        tracing::info!(running, timeout = ?patience, "draining");
        tokio::select! {
            _ = async { tokio::join!(self.ctx.in_flight.emptied(), self.sets.wait()) } => (),
            () = hurry.cancelled() => tracing::warn!("second signal to stop: handing back what still runs"),
            () = tokio::time::sleep_until(began + patience) => {
                tracing::warn!(
                    running = self.ctx.in_flight.len(), sets = self.sets.len(),
                    "shutdown timeout: handing back what still runs"
                );
            }
        }
        // From here on every step has a deadline, whatever the broker does.
        let over = Instant::now();
        self.ctx.in_flight.stop_all(runner_sdk::StopReason::Shutdown);
        let grace = if hurry.is_cancelled() {
            HURRIED_HANDLERS
        } else {
            STOPPED_HANDLERS
        };
        if timeout(grace, self.ctx.in_flight.emptied()).await.is_err() {
            self.ctx.in_flight.abandon_all();
        }
        if timeout_at(over + LAST_VERDICTS, self.claim_loop).await.is_err() {
            tracing::error!(
                "some handlers did not stop in time, or their verdicts could not be written; their tasks run again \
                 when their leases end"
            );
        }
        // Only after the last verdict: until then the heartbeat extends the leases of what still runs.
        self.upkeep.cancel();
        self.roles.close();
        if timeout_at(over + LAST_TURNS, self.roles.wait()).await.is_err() {
            tracing::warn!("background roles did not stop in time");
        }
        let info = self.ctx.info(ServerStatus::Closed);
        let leave = async { tokio::try_join!(self.ctx.broker.leave(&info), sign_of_life::SignOfLife::end(&self.ctx)) };
        if let Ok(Err(error)) = timeout_at(over + LEAVING, leave).await {
            tracing::debug!(error = %runner_core::chain::chain(&error), "could not leave the list of servers");
        }
        tracing::info!("drained");
        over + LAST_STEPS
    }
}
