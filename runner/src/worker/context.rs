//! What the roles of a worker share: the broker, the handlers, and the tables that several of them read.
//!
//! Knows no role. The file of each table says which roles change it.

use std::collections::HashMap;
use std::sync::Arc;

use runner_core::clock::Clock;
use runner_core::function::Functions;
use runner_core::task::QueueName;
use runner_queue::{Broker, BrokerError, BrokerResult, Lists, RecordedTypes, ServerInfo, ServerStatus};
use runner_sdk::Handlers;
use tokio::sync::{Notify, watch};

use super::before_run::BeforeRun;
use super::claimed_limits::ClaimedLimits;
use super::claimed_types::ClaimedTypes;
use super::in_flight::InFlight;
use super::instance::Instance;
use super::listed::Listed;
use super::live::LiveRuns;
use super::served_queues::ServedQueues;
use super::services::BrokerServices;
use super::settings::{ChangeableSettings, WorkerSettings};
use super::survived::Survived;
use crate::events::Events;
use crate::health::Health;
use crate::metrics::{Metrics, Successes};
use crate::telemetry::Telemetry;
use crate::workflow::SettledSteps;

/// Queues in one call of maintenance (due tasks, leases, retention); each costs the store some microseconds.
const CHUNK: usize = 500;

/// What a worker works with.
pub struct WorkerParts {
    /// Where tasks are claimed and settled.
    pub broker: Arc<dyn Broker>,
    /// What runs them.
    pub handlers: Handlers,
    /// Says which payloads are accepted.
    pub functions: Functions,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where runs are counted.
    pub metrics: Arc<Metrics>,
    /// Where failures of the broker are reported.
    pub health: Arc<Health>,
    /// Gets what happens to tasks.
    pub events: Events,
    /// Takes the spans of attempts.
    pub telemetry: Telemetry,
    /// Ends of tasks that belong to workflows.
    pub workflows: SettledSteps,
    /// What tasks wait for before they run, where anything.
    pub before_run: Option<Arc<dyn BeforeRun>>,
    /// Queues, concurrency and the like.
    pub settings: WorkerSettings,
    /// This process among the others.
    pub instance: Instance,
}

/// What the roles share.
pub(super) struct WorkerContext {
    pub broker: Arc<dyn Broker>,
    pub handlers: Handlers,
    pub functions: Functions,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
    pub events: Events,
    pub telemetry: Telemetry,
    /// Ends of tasks that belong to workflows.
    pub workflows: SettledSteps,
    pub before_run: Option<Arc<dyn BeforeRun>>,
    /// Counters of successes, for each queue that is named in the settings: the hot path looks up no label.
    pub successes: HashMap<QueueName, Successes>,
    pub served: ServedQueues,
    pub settings: WorkerSettings,
    pub instance: Instance,
    /// Those of the settings that may be read again.
    pub(super) changeable: ChangeableSettings,
    /// How many tasks run at once: the setting, or what an operator ordered.
    concurrency: watch::Sender<usize>,
    /// The tasks that this worker holds.
    pub in_flight: InFlight,
    /// Wakes the heartbeat when this worker has other handlers than it has announced.
    pub announce: Notify,
    /// Wakes the forwarder when a delayed task was just written.
    pub delayed: Notify,
    pub started_at: jiff::Timestamp,
    /// What handlers may ask for.
    pub services: Arc<BrokerServices>,
    /// Types that are claimed.
    pub known: ClaimedTypes,
    /// Limits that are kept.
    pub limits: ClaimedLimits,
    /// Types whose runs are recorded beside those of functions; [`Self::changeable`] may name others.
    pub recorded: Arc<RecordedTypes>,
    /// Lost runs to report.
    pub survived: Survived,
    /// Since when other workers can see this one.
    pub listed: Listed,
    /// The runs that go on, for those who watch them.
    pub live: LiveRuns,
}

impl WorkerContext {
    /// Gives the broker the limits that its claims keep, if they have changed.
    pub(super) fn look_at_limits(&self) {
        let stated = self.changeable.now().limits.clone();
        if let Some(limits) = self.limits.look(&self.functions, &[&stated, self.handlers.limits()]) {
            self.broker.claims_limits(&limits);
        }
    }

    pub(super) fn new(parts: WorkerParts) -> Self {
        let WorkerParts {
            broker,
            handlers,
            functions,
            clock,
            metrics,
            health,
            events,
            telemetry,
            workflows,
            before_run,
            settings,
            instance,
        } = parts;
        let started_at = clock.now();
        Self {
            services: Arc::new(BrokerServices {
                broker: broker.clone(),
                functions: functions.clone(),
                telemetry: telemetry.clone(),
            }),
            functions,
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
            events,
            telemetry,
            workflows,
            before_run,
            served: ServedQueues::new(&settings.queues).with_notifications(settings.notification_slots),
            changeable: ChangeableSettings::new(&settings),
            concurrency: watch::Sender::new(settings.concurrency),
            recorded: Arc::new(RecordedTypes::new(settings.recorded_types.clone())),
            settings,
            instance,
            in_flight: InFlight::default(),
            announce: Notify::new(),
            delayed: Notify::new(),
            started_at,
            limits: ClaimedLimits::default(),
            known: ClaimedTypes::default(),
            survived: Survived::default(),
            listed: Listed::default(),
            live: LiveRuns::default(),
        }
    }

    #[cfg(test)]
    pub(super) fn queue_names(&self) -> Vec<QueueName> {
        self.settings.queues.keys().cloned().collect()
    }

    /// How many tasks run at once.
    pub(super) fn concurrency(&self) -> usize {
        *self.concurrency.borrow()
    }

    /// Sets how many tasks run at once, or takes the setting. Returns whether that changes anything.
    pub(super) fn set_concurrency(&self, ordered: Option<usize>) -> bool {
        let wanted = ordered.unwrap_or_else(|| self.changeable.now().concurrency);
        self.concurrency
            .send_if_modified(|current| std::mem::replace(current, wanted) != wanted)
    }

    /// Waits for changes from now on.
    pub(super) fn listen_concurrency(&self) -> watch::Receiver<usize> {
        self.concurrency.subscribe()
    }

    /// Who ran an attempt, as it is stored with it.
    pub(super) fn server_name(&self) -> String {
        self.instance.name()
    }

    /// Reports a failed call: each is counted, the first of a row is logged.
    pub(super) fn broker_failed(&self, doing: &'static str, error: &BrokerError) {
        self.health.failed(doing, error);
    }

    /// What this worker reports in its heartbeat.
    pub(super) fn info(&self, status: ServerStatus) -> ServerInfo {
        let (settings, instance) = (&self.settings, &self.instance);
        ServerInfo {
            host: instance.host.clone(),
            pid: instance.pid,
            id: instance.id.clone(),
            concurrency: u32::try_from(self.concurrency()).unwrap_or(u32::MAX),
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

    /// The queues for a pass of maintenance, in portions for one call each: of very many queues only those that have
    /// anything on these lists.
    pub(super) async fn queues_with(&self, lists: Lists) -> BrokerResult<Vec<Vec<QueueName>>> {
        let all: Vec<QueueName> = self.served.all().iter().map(|(queue, _)| queue.clone()).collect();
        if self.served.are_few() {
            return Ok(vec![all]);
        }
        let mut found = Vec::new();
        for chunk in all.chunks(CHUNK) {
            found.extend(self.broker.narrow(chunk, lists).await?);
        }
        Ok(found.chunks(CHUNK).map(<[QueueName]>::to_vec).collect())
    }
}
