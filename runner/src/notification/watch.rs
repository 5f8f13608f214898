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
use runner_core::schedule::{Definition, Plan, SCHEDULE_HEADER, headers_in_id};
use runner_core::task::{QueueName, TaskState};
use runner_queue::{Broker, BrokerResult, Decision, Delivery};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::failures::rules_of;
use super::identity::to_delivery;
use super::transitions::{Transition, present_failure, transitions};
use super::{NotificationSettings, expected};
use crate::background::{self, BackgroundLoop};
use crate::health::Health;

/// How often is looked.
const EVERY: Duration = Duration::from_secs(2);

/// The time for each function that is looked at: with very many of them the looks become rarer.
const EACH: Duration = Duration::from_millis(10);

/// How many runs of a function are looked at; each comes with its output.
const LAST_RUNS: usize = 10;

/// How many decisions of a schedule are looked at.
const LAST_DECISIONS: usize = 100;

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

    /// Whether the duration of its attempts is bounded.
    fn is_bounded(&self) -> bool {
        let own = std::iter::once(&self.function.notify).chain(self.schedules.iter().map(|s| &s.notify));
        let mut all = own.map(|rules| rules.expect.max_duration);
        all.any(|most| most.is_some()) && self.hears(&[NotifyOn::TooLong])
    }

    /// The rules of a task of a schedule, or of no schedule.
    fn rules(&self, schedule: Option<&str>) -> NotifyRules {
        let found = self.schedules.iter().find(|own| Some(own.id.as_str()) == schedule);
        let rules = match found {
            Some(own) => own.notify.or(&self.function.notify),
            None => self.function.notify.clone(),
        };
        rules.or(&self.default)
    }

    /// The channels that hear of this event of such a task.
    pub(super) fn channels(&self, on: NotifyOn, schedule: Option<&str>) -> Vec<String> {
        self.rules(schedule).channels(on).to_vec()
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
                let all = transitions(&runs, runs.len() < LAST_RUNS, before, now).into_iter();
                look.found
                    .extend(all.map(|transition| of_run(function, transition, now)));
                look.failing
                    .extend(present_failure(&runs).map(|failure| (name.clone(), failure)));
            }
        }
        self.look_at_schedules(&mut look.found).await?;
        self.look_at_attempts(watched, &mut look.found).await?;
        look.found.retain(|finding| !finding.channels.is_empty());
        Ok(look)
    }

    /// What was decided about the occurrences of each schedule, of any source.
    async fn look_at_schedules(&self, found: &mut Vec<NoticedEvent>) -> BrokerResult<()> {
        let (plan, functions) = (Arc::clone(&self.parts.plan.borrow()), self.parts.functions.all());
        for definition in plan.schedules.values() {
            let rules = rules_of(definition, &functions).or(&self.parts.settings.default);
            let within = rules
                .expect
                .start_within
                .filter(|_| !rules.channels(NotifyOn::Late).is_empty());
            if rules.channels(NotifyOn::Missed).is_empty() && within.is_none() {
                continue;
            }
            let decisions = self
                .parts
                .broker
                .decisions(Some(&definition.id), LAST_DECISIONS)
                .await?;
            let now = self.parts.clock.now();
            let name = definition.function().unwrap_or(&definition.name);
            let of_schedule = |made: (Notification, String)| of_definition(definition, &rules, made);
            let missed = decisions
                .iter()
                .filter_map(|decision| expected::missed(name, decision, now));
            found.extend(missed.map(of_schedule));
            let Some(within) = within else { continue };
            for decision in decisions.iter().filter(|d| expected::may_be_late(d, within, now)) {
                if self.waits(decision).await? {
                    found.push(of_schedule(expected::late(name, decision, within, now)));
                }
            }
        }
        Ok(())
    }

    /// Whether the task of a decision has not started yet. One that is not there any more has.
    async fn waits(&self, decision: &Decision) -> BrokerResult<bool> {
        let (Some(queue), Some(task)) = (&decision.queue, &decision.task) else {
            return Ok(false);
        };
        let found = self.parts.broker.glance(queue, task).await?;
        Ok(found.is_some_and(|task| matches!(task.state, TaskState::Pending | TaskState::Scheduled)))
    }

    /// What the workers are running.
    async fn look_at_attempts(&self, watched: &[WatchedFunction], found: &mut Vec<NoticedEvent>) -> BrokerResult<()> {
        let bounded: Vec<&WatchedFunction> = watched.iter().filter(|function| function.is_bounded()).collect();
        if bounded.is_empty() {
            return Ok(());
        }
        let servers = self.parts.broker.servers().await?;
        let now = self.parts.clock.now();
        for run in servers.iter().flat_map(|server| &server.working) {
            let kind = |function: &&&WatchedFunction| function.function.task_type() == run.kind;
            let Some(function) = bounded.iter().find(kind) else {
                continue;
            };
            let schedule = headers_in_id(&run.id).remove(SCHEDULE_HEADER);
            let rules = function.rules(schedule.as_deref());
            let Some(most) = rules.expect.max_duration else {
                continue;
            };
            if let Some((mut notification, what)) = expected::too_long(&function.function.name, run, most, now) {
                notification.function = Some(function.function.name.clone());
                notification.schedule = schedule;
                let channels = rules.channels(NotifyOn::TooLong).to_vec();
                found.push(NoticedEvent {
                    notification,
                    what,
                    channels,
                });
            }
        }
        Ok(())
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

fn of_definition(definition: &Definition, rules: &NotifyRules, made: (Notification, String)) -> NoticedEvent {
    let (mut notification, what) = made;
    notification.schedule = Some(definition.id.to_string());
    notification.function = definition.function().map(str::to_owned);
    let channels = rules.channels(notification.event).to_vec();
    NoticedEvent {
        notification,
        what,
        channels,
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
