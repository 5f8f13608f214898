//! The loop that notices what no single step of the store shows: it looks at runs and schedules from time to time, and enqueues
//! notifications whose ids follow from what it found, so that it may find the same again on any instance.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use runner_core::clock::Clock;
use runner_core::function::Functions;
use runner_core::notification::{Notification, NotifyOn, NotifyRules};
use runner_core::schedule::{Definition, Plan, SCHEDULE_HEADER, headers_in_id};
use runner_core::task::TaskState;
use runner_queue::{Broker, BrokerError, BrokerResult, Decision, Delivery};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::failures::rules_of;
use super::transitions::{self, Transition};
use super::watched::{NoticedEvent, WatchedFunction, watched};
use super::{NotificationSettings, expected};
use crate::background::{self, BackgroundLoop};
use crate::health::Health;

/// How often is looked.
const EVERY: Duration = Duration::from_secs(2);

/// The time for each function that is looked at: with very many of them the looks become rarer.
const EACH: Duration = Duration::from_millis(10);

/// How many runs of a function are looked at; each comes with its output.
const LAST_RUNS: usize = 10;

/// Of how many schedules of a function there are runs among these.
const MOST_LINES: usize = 5;

/// After so many failed calls in a row a look asks nothing more.
const MOST_FAILURES: u32 = 3;

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
    /// The failures in which functions were when they were last looked at.
    failing: BTreeMap<Line, String>,
}

/// A function, and one of its schedules, or nothing.
type Line = (String, String);

/// What a look has found.
#[derive(Default)]
struct Look {
    found: Vec<NoticedEvent>,
    failing: BTreeMap<Line, String>,
    failures: LookFailures,
}

/// The calls of a look that failed: one of them must not end the look for all that comes after it.
#[derive(Default)]
struct LookFailures {
    first: Option<BrokerError>,
    in_a_row: u32,
}

impl LookFailures {
    /// Makes a call unless too many have failed in a row: each may take as long as a call to a store that is gone.
    async fn ask<T>(&mut self, call: impl Future<Output = BrokerResult<T>>) -> Option<T> {
        if self.in_a_row >= MOST_FAILURES {
            return None;
        }
        match call.await {
            Ok(answer) => {
                self.in_a_row = 0;
                Some(answer)
            }
            Err(error) => {
                self.in_a_row += 1;
                self.first.get_or_insert(error);
                None
            }
        }
    }
}

impl NotificationWatch {
    async fn look(&self, watched: &[WatchedFunction]) -> Look {
        let mut look = Look::default();
        for function in watched {
            if function.hears(&[NotifyOn::FirstFailure, NotifyOn::Recovery]) {
                self.look_at_runs(function, &mut look).await;
            }
        }
        self.look_at_schedules(&mut look).await;
        self.look_at_attempts(watched, &mut look).await;
        look.found.retain(|finding| !finding.channels.is_empty());
        look
    }

    async fn look_at_runs(&self, function: &WatchedFunction, look: &mut Look) {
        let name = &function.function.name;
        // Several schedules share the records of their function.
        let limit = LAST_RUNS * function.schedules.len().clamp(1, MOST_LINES);
        let queues = function.queues();
        let Some(runs) = look.failures.ask(self.parts.broker.runs(name, &queues, limit)).await else {
            // What is not known now has not changed.
            let before = self.failing.iter().filter(|((function, _), _)| function == name);
            look.failing
                .extend(before.map(|(line, failure)| (line.clone(), failure.clone())));
            return;
        };
        let now = self.parts.clock.now();
        for (schedule, runs_of_line) in transitions::lines(&runs) {
            let line = (name.clone(), schedule.map(ToString::to_string).unwrap_or_default());
            let before = self.failing.get(&line).map(String::as_str);
            let all = transitions::transitions(&runs_of_line, runs.len() < limit, before, now).into_iter();
            look.found
                .extend(all.map(|transition| of_run(function, transition, now)));
            let failure = transitions::present_failure(&runs_of_line);
            look.failing.extend(failure.map(|failure| (line, failure)));
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
            for decision in decisions.iter().filter(|d| expected::may_be_late(d, within, now)) {
                if look.failures.ask(self.waits(decision)).await == Some(true) {
                    look.found
                        .push(of_schedule(expected::late(name, decision, within, now)));
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
    let Transition {
        on,
        run,
        failure,
        retried,
    } = transition;
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
    let mut channels = function.channels(on, schedule.as_deref());
    if retried {
        // Only those who heard of the failure hear that it is over.
        let heard = function.channels(NotifyOn::FirstFailure, schedule.as_deref());
        channels.retain(|channel| heard.contains(channel));
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failed_call_does_not_end_a_look_and_many_in_a_row_do() {
        let failed = || async {
            Err::<u8, _>(BrokerError::Unreachable {
                doing: "look",
                source: "gone".into(),
            })
        };
        let mut failures = LookFailures::default();
        for _ in 0..2 {
            assert_eq!(failures.ask(failed()).await, None);
            assert_eq!(failures.ask(async { Ok(1) }).await, Some(1));
        }
        for _ in 0..MOST_FAILURES {
            assert_eq!(failures.ask(failed()).await, None);
        }
        assert_eq!(failures.ask(async { Ok(1) }).await, None);
        assert!(failures.first.is_some());
    }
}
