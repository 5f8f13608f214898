//! The life of the scheduler: its two loops from the first look at other instances to the handover of leadership.

use std::sync::Arc;
use std::time::Duration;

use runner_core::chain::chain;
use runner_core::clock::Clock;
use runner_core::schedule::Plan;
use runner_queue::Broker;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Differences, InstanceScope, Peers, Scheduler};
use crate::background;
use crate::events::Events;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::telemetry::Telemetry;

/// How long the first look at other instances may delay the scheduler.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// How long the last calls to the broker may take together. The caller that stops the scheduler waits this long.
pub const LAST_REQUESTS: Duration = Duration::from_secs(3);

/// What a scheduler works with.
pub struct SchedulerParts {
    /// Where cursors are, and where tasks go.
    pub broker: Arc<dyn Broker>,
    /// The schedules in force.
    pub plan: watch::Receiver<Arc<Plan>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where decisions are counted.
    pub metrics: Arc<Metrics>,
    /// Where failures of the broker are reported.
    pub health: Arc<Health>,
    /// Gets decisions about occurrences that were missed.
    pub events: Events,
    /// Takes the spans of fires.
    pub telemetry: Telemetry,
    /// `host:pid:random`, unique among all instances.
    pub instance: String,
    /// What this instance has in common with the one that is started in its place.
    pub scope: InstanceScope,
}

/// Runs until `stop`. `on_differences` gets what differs from other instances, whenever that was looked at.
pub async fn run(
    parts: SchedulerParts,
    on_differences: impl Fn(Differences) + Send + Sync + 'static,
    stop: CancellationToken,
) {
    let SchedulerParts {
        broker,
        plan,
        clock,
        metrics,
        health,
        events,
        telemetry,
        instance,
        scope,
    } = parts;
    let mut peers = Peers::new(broker.clone(), plan.clone(), instance.clone(), on_differences);
    let mut changes = plan.clone();
    let scheduler = Scheduler::new(broker.clone(), plan, clock, metrics, health, instance.clone(), scope);
    let scheduler = scheduler.reporting_to(events, telemetry);
    // Before anything is registered: what another instance has in a newer version is left to it.
    if !matches!(timeout(FIRST_LOOK, peers.look()).await, Ok(Ok(()))) {
        tracing::debug!("other instances could not be looked at yet");
    }
    // One each: a notification wakes one loop only.
    let (wake_scheduler, wake_peers) = (Notify::new(), Notify::new());
    let wake = async {
        while changes.changed().await.is_ok() {
            wake_scheduler.notify_one();
            wake_peers.notify_one();
        }
        // No source is left to change the plan; the loops continue with it.
        std::future::pending::<()>().await;
    };
    let loops = async {
        tokio::join!(
            background::run(scheduler, &wake_scheduler, &stop),
            background::run(peers, &wake_peers, &stop)
        );
    };
    tokio::select! {
        () = loops => (),
        () = wake => (),
    }
    leave(&*broker, &instance).await;
}

/// Has others take over now instead of after the lease of leadership and the life of this instance's documents.
async fn leave(broker: &dyn Broker, instance: &str) {
    let calls = async {
        if let Err(error) = Peers::leave(broker, instance).await {
            tracing::debug!(error = %chain(&error), "others will forget this instance later");
        }
        if let Err(error) = broker.resign(instance).await {
            tracing::debug!(error = %chain(&error), "could not hand leadership on");
        }
    };
    if timeout(LAST_REQUESTS, calls).await.is_err() {
        tracing::debug!("the broker did not answer the last calls in time; others will take over later");
    }
}
