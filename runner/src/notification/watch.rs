//! The loop that notices what no single step of the store shows: it looks at runs and schedules from time to time, and enqueues
//! notifications whose ids follow from what it found, so that it may find the same again on any instance.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use runner_core::clock::Clock;
use runner_core::function::{Function, Functions};
use runner_core::notification::{Notification, NotifyOn, NotifyRules};
use runner_core::schedule::{Definition, Plan};
use runner_core::task::QueueName;
use runner_queue::{Broker, BrokerResult, Delivery};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::NotificationSettings;
use super::identity::to_delivery;
use super::transitions::{Transition, present_failure, transitions};
use crate::background::{self, BackgroundLoop};
use crate::health::Health;

/// How often is looked.
const EVERY: Duration = Duration::from_secs(2);

/// The time for each function that is looked at: with very many of them the looks become rarer.
const EACH: Duration = Duration::from_millis(10);

/// How many runs of a function are looked at; each comes with its output.
const LAST_RUNS: usize = 10;

/// What the loop works with.
pub struct NotificationWatchParts {
    /// Where it looks, and enqueues.
    pub broker: Arc<dyn Broker>,
    /// The functions.
    pub functions: Functions,
    /// The schedules.
    pub plan: watch::Receiver<Arc<Plan>>,
    /// Who hears of what.
    pub settings: NotificationSettings,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where failures of the broker are reported.
    pub health: Arc<Health>,
}

/// Looks until `stop`, if there are channels.
pub fn watch(parts: NotificationWatchParts, stop: CancellationToken) {
    if parts.settings.channels.is_empty() {
        return;
    }
    let role = NotificationWatch {
        parts,
        sent: BTreeSet::new(),
        failing: BTreeMap::new(),
    };
    tokio::spawn(async move { background::run(role, &Notify::new(), &stop).await });
}

struct NotificationWatch {
    parts: NotificationWatchParts,
    /// The ids that the last look found, which the broker has.
    sent: BTreeSet<String>,
    /// The failures in which functions were when they were last looked at, by name.
    failing: BTreeMap<String, String>,
}

/// What a look has found.
#[derive(Default)]
struct Look {
    found: Vec<NoticedEvent>,
    failing: BTreeMap<String, String>,
}

/// A function with what its schedules say.
pub(super) struct WatchedFunction {
    pub(super) function: Arc<Function>,
    pub(super) schedules: Vec<Definition>,
    default: NotifyRules,
}

impl WatchedFunction {
    /// Whether any channel hears of one of these.
    pub(super) fn hears(&self, any: &[NotifyOn]) -> bool {
        let own = std::iter::once(&self.function.notify).chain(self.schedules.iter().map(|s| &s.notify));
        let mut all = own.map(|rules| rules.or(&self.default));
        all.any(|rules| any.iter().any(|on| !rules.channels(*on).is_empty()))
    }

    /// The channels that hear of this event of a task of a schedule, or of no schedule.
    pub(super) fn channels(&self, on: NotifyOn, schedule: Option<&str>) -> Vec<String> {
        let found = self.schedules.iter().find(|own| Some(own.id.as_str()) == schedule);
        let rules = found.map_or(&self.function.notify, |own| &own.notify);
        rules.or(&self.default).channels(on).to_vec()
    }

    /// The queues that its tasks are in.
    pub(super) fn queues(&self) -> Vec<QueueName> {
        let own = self.function.task_options().queue.unwrap_or_default();
        let all = self.schedules.iter().map(|schedule| schedule.task.queue.clone());
        all.chain([own]).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// One thing that was found, for some channels.
pub(super) struct NoticedEvent {
    pub(super) notification: Notification,
    /// Identifies it among all that happens under this event.
    pub(super) what: String,
    pub(super) channels: Vec<String>,
}

impl NoticedEvent {
    fn deliveries(&self) -> impl Iterator<Item = Delivery> + '_ {
        self.channels.iter().filter_map(|channel| {
            let own = Notification {
                channel: channel.clone(),
                ..self.notification.clone()
            };
            to_delivery(&own, &self.what)
        })
    }
}

impl NotificationWatch {
    fn watched(&self) -> Vec<WatchedFunction> {
        let plan = Arc::clone(&self.parts.plan.borrow());
        let mut schedules: BTreeMap<&str, Vec<Definition>> = BTreeMap::new();
        for definition in plan.schedules.values() {
            if let Some(function) = definition.function() {
                schedules.entry(function).or_default().push(definition.clone());
            }
        }
        let all = self.parts.functions.all();
        let watched = all.values().map(|function| WatchedFunction {
            schedules: schedules.remove(function.name.as_str()).unwrap_or_default(),
            function: Arc::clone(function),
            default: self.parts.settings.default.clone(),
        });
        watched.collect()
    }

    async fn look(&self, watched: &[WatchedFunction]) -> BrokerResult<Look> {
        let mut look = Look::default();
        for function in watched {
            if function.hears(&[NotifyOn::FirstFailure, NotifyOn::Recovery]) {
                let name = &function.function.name;
                let runs = self.parts.broker.runs(name, &function.queues(), LAST_RUNS).await?;
                let now = self.parts.clock.now();
                let before = self.failing.get(name).map(String::as_str);
                let all = transitions(&runs, before, now).into_iter();
                look.found
                    .extend(all.map(|transition| of_run(function, transition, now)));
                look.failing
                    .extend(present_failure(&runs).map(|failure| (name.clone(), failure)));
            }
        }
        look.found.retain(|finding| !finding.channels.is_empty());
        Ok(look)
    }

    /// Enqueues what the last look did not find.
    async fn report(&mut self, look: Look) -> BrokerResult<()> {
        let all = look.found.iter().flat_map(NoticedEvent::deliveries);
        let all: BTreeMap<String, Delivery> = all
            .filter_map(|delivery| Some((delivery.task.id.as_ref()?.to_string(), delivery)))
            .collect();
        let new = all.iter().filter(|(id, _)| !self.sent.contains(*id));
        let new: Vec<Delivery> = new.map(|(_, delivery)| delivery.clone()).collect();
        if !new.is_empty() {
            // A refusal says that another instance, or an earlier look, was first.
            self.parts.broker.enqueue_once(&new).await?;
        }
        self.sent = all.into_keys().collect();
        self.failing = look.failing;
        Ok(())
    }
}

fn of_run(function: &WatchedFunction, transition: Transition<'_>, now: Timestamp) -> NoticedEvent {
    let Transition { on, run, failure } = transition;
    let name = &function.function.name;
    let schedule = run.schedule.as_ref().map(ToString::to_string);
    let title = match on {
        NotifyOn::Recovery => format!("{name} has recovered"),
        _ => format!("{name} failed and is tried again"),
    };
    let mut notification = Notification::new("", on, now, title);
    if let Some(error) = run.error.as_deref().filter(|_| on == NotifyOn::FirstFailure) {
        notification = notification.error(error);
    }
    let why = notification
        .error
        .as_ref()
        .map_or_else(String::new, |error| format!(": {error}"));
    notification.text = format!("{}{why}\ntask {} in queue {}", notification.title, run.task, run.queue);
    notification.function = Some(name.clone());
    notification.task = Some(run.task.to_string());
    notification.queue = Some(run.queue.to_string());
    let channels = function.channels(on, schedule.as_deref());
    notification.schedule = schedule;
    NoticedEvent {
        notification,
        what: failure,
        channels,
    }
}

#[async_trait]
impl BackgroundLoop for NotificationWatch {
    fn name(&self) -> &'static str {
        "notifications"
    }

    fn every(&self) -> Duration {
        Duration::from_secs(60)
    }

    async fn turn(&mut self) -> Option<Duration> {
        let watched = self.watched();
        let done = match self.look(&watched).await {
            Ok(look) => self.report(look).await,
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            self.parts.health.failed("look for what is to be reported", &error);
        }
        let many = u32::try_from(watched.len()).unwrap_or(u32::MAX);
        Some(EVERY.max(EACH * many))
    }
}
