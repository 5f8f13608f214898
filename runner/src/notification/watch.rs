//! The loop that notices what no single step of the store shows: it looks at runs and schedules from time to time, and enqueues
//! notifications whose ids follow from what it found, so that it may find the same again on any instance.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_core::clock::Clock;
use runner_core::function::Functions;
use runner_core::notification::{Notification, NotifyOn, NotifyRules};
use runner_core::schedule::{Definition, Plan, SCHEDULE_HEADER, ScheduleId, headers_in_id};
use runner_core::task::TaskState;
use runner_queue::{Broker, BrokerResult, Decision, Delivery};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::failures::rules_of;
use super::link::add_link;
use super::look::{KnownSuccesses, Line, Look, keep_successes};
use super::problems::{KnownProblems, SourceProblem};
use super::watched::{NoticedEvent, WatchedFunction, watched};
use super::{NotificationSettings, expected};
use crate::background::{self, BackgroundLoop};
use crate::health::Health;

/// How often is looked.
const EVERY: Duration = Duration::from_secs(2);

/// The time for each function that is looked at: with very many of them the looks become rarer.
const EACH: Duration = Duration::from_millis(10);

/// What the records of runs tell.
const OF_RUNS: &[NotifyOn] = &[
    NotifyOn::FirstFailure,
    NotifyOn::Recovery,
    NotifyOn::Overdue,
    NotifyOn::TooOften,
];

/// Schedules of one question.
const MOST_STANDINGS: usize = 500;

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
    /// The present problems of sources; must answer at once.
    pub problems: Box<dyn Fn() -> Vec<SourceProblem> + Send + Sync>,
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
        successes: BTreeMap::new(),
        problems: KnownProblems::default(),
    };
    tokio::spawn(async move { background::run(role, &Notify::new(), &stop).await });
}

pub(super) struct NotificationWatch {
    pub(super) parts: NotificationWatchParts,
    /// The ids that the last look found, which the broker has.
    sent: BTreeSet<String>,
    /// The failures in which functions were when they were last looked at.
    pub(super) failing: BTreeMap<Line, String>,
    /// What is known of successes, by function and schedule.
    pub(super) successes: BTreeMap<Line, KnownSuccesses>,
    problems: KnownProblems,
}

impl NotificationWatch {
    async fn look(&mut self, watched: &[WatchedFunction]) -> Look {
        let mut look = Look::default();
        self.look_at_problems(&mut look);
        for function in watched {
            if function.hears(OF_RUNS) {
                self.look_at_runs(function, &mut look).await;
            }
        }
        self.look_at_schedules(&mut look).await;
        self.look_at_pauses(&mut look).await;
        self.look_at_attempts(watched, &mut look).await;
        look.found.retain(|finding| !finding.channels.is_empty());
        look
    }

    fn look_at_problems(&mut self, look: &mut Look) {
        let channels = self.parts.settings.default.channels(NotifyOn::Problem).to_vec();
        if channels.is_empty() {
            return;
        }
        let found = self.problems.look((self.parts.problems)(), self.parts.clock.now());
        look.found
            .extend(found.into_iter().map(|(notification, what)| NoticedEvent {
                notification,
                what,
                channels: channels.clone(),
            }));
    }

    /// How long schedules are paused.
    async fn look_at_pauses(&self, look: &mut Look) {
        let (plan, functions) = (Arc::clone(&self.parts.plan.borrow()), self.parts.functions.all());
        let bounded = plan.schedules.values().filter_map(|definition| {
            let rules = rules_of(definition, &functions).or(&self.parts.settings.default);
            let most = rules.expect.paused_within?;
            (!rules.channels(NotifyOn::Paused).is_empty()).then_some((definition, rules, most))
        });
        let bounded: Vec<_> = bounded.collect();
        for some in bounded.chunks(MOST_STANDINGS) {
            let ids: Vec<ScheduleId> = some.iter().map(|(definition, ..)| definition.id.clone()).collect();
            let Some(standings) = look.failures.ask(self.parts.broker.standings(&ids)).await else {
                return;
            };
            let now = self.parts.clock.now();
            for ((definition, rules, most), standing) in some.iter().zip(standings) {
                let name = definition.function().unwrap_or(&definition.name);
                let pause = standing.and_then(|standing| standing.paused);
                let made = pause.and_then(|pause| expected::paused((name, &definition.id), &pause, *most, now));
                look.found
                    .extend(made.map(|made| of_definition(definition, rules, made)));
            }
        }
    }

    /// What was decided about the occurrences of each schedule, of any source.
    async fn look_at_schedules(&self, look: &mut Look) {
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
            let asked = self.parts.broker.decisions(Some(&definition.id), LAST_DECISIONS);
            let Some(decisions) = look.failures.ask(asked).await else {
                continue;
            };
            let now = self.parts.clock.now();
            let name = definition.function().unwrap_or(&definition.name);
            let of_schedule = |made: (Notification, String)| of_definition(definition, &rules, made);
            let missed = decisions
                .iter()
                .filter_map(|decision| expected::missed(name, decision, now));
            look.found.extend(missed.map(of_schedule));
            let Some(within) = within else { continue };
            for decision in &decisions {
                if let Some(made) = expected::enqueued_late(name, decision, within, now) {
                    look.found.push(of_schedule(made));
                } else if expected::may_be_late(decision, within, now)
                    && look.failures.ask(self.waits(decision)).await == Some(true)
                {
                    let made = expected::late(name, decision, within, now);
                    look.found.push(of_schedule(made));
                }
            }
        }
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
    async fn look_at_attempts(&self, watched: &[WatchedFunction], look: &mut Look) {
        let bounded: Vec<&WatchedFunction> = watched.iter().filter(|function| function.is_bounded()).collect();
        if bounded.is_empty() {
            return;
        }
        let Some(servers) = look.failures.ask(self.parts.broker.servers()).await else {
            return;
        };
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
                look.found.push(NoticedEvent {
                    notification,
                    what,
                    channels,
                });
            }
        }
    }

    /// Enqueues what the last look did not find.
    async fn report(&mut self, mut look: Look) -> BrokerResult<()> {
        for event in &mut look.found {
            add_link(&mut event.notification, self.parts.settings.dashboard.as_deref());
        }
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
        // After the report: what is written down as reported must have been enqueued.
        for (line, (mut known, news)) in look.successes {
            if news && let Some(state) = &known.state {
                keep_successes(&*self.parts.broker, &line, state).await?;
                let first = known.stored.is_none();
                known.stored = Some(state.clone());
                if first {
                    // Read back with the next look: another instance may have written it at the same moment, with another instant.
                    known.state = None;
                }
            }
            self.successes.insert(line, known);
        }
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

#[async_trait]
impl BackgroundLoop for NotificationWatch {
    fn name(&self) -> &'static str {
        "notifications"
    }

    fn every(&self) -> Duration {
        Duration::from_secs(60)
    }

    async fn turn(&mut self) -> Option<Duration> {
        let (plan, functions) = (Arc::clone(&self.parts.plan.borrow()), self.parts.functions.all());
        let watched = watched(&functions, &plan, &self.parts.settings.default);
        let mut look = self.look(&watched).await;
        let failed = look.failures.first.take();
        let failed = failed.or(self.report(look).await.err());
        if let Some(error) = failed {
            self.parts.health.failed("look for what is to be reported", &error);
        }
        let many = u32::try_from(watched.len()).unwrap_or(u32::MAX);
        Some(EVERY.max(EACH * many))
    }
}
