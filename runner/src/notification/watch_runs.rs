//! The part of a look that reads the records of runs: first failures, recoveries, successes that are missing, runs that come too soon.

use jiff::Timestamp;
use runner_core::notification::{Notification, NotifyOn};
use runner_core::schedule::ScheduleId;
use runner_queue::RunRecord;

use super::expected;
use super::look::{Look, kept_successes};
use super::successes::{SuccessLook, SuccessState};
use super::transitions::{self, Transition};
use super::watch::NotificationWatch;
use super::watched::{ExpectedSuccess, NoticedEvent, WatchedFunction};

/// How many runs of a function are looked at; each comes with its output.
const LAST_RUNS: usize = 10;

/// Of how many schedules of a function there are runs among these.
const MOST_LINES: usize = 5;

impl NotificationWatch {
    pub(super) async fn look_at_runs(&self, function: &WatchedFunction, look: &mut Look) {
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
        let lines = transitions::lines(&runs);
        // A schedule that runs rarely may have no run among these: whether it fails is known from before.
        let has_runs = |name: &str| {
            let mut with_runs = lines
                .iter()
                .map(|(schedule, _)| schedule.map_or("", ScheduleId::as_str));
            with_runs.any(|schedule| schedule == name)
        };
        let unseen = self
            .failing
            .iter()
            .filter(|(line, _)| line.0 == *name && !has_runs(&line.1));
        look.failing
            .extend(unseen.map(|(line, failure)| (line.clone(), failure.clone())));
        for (schedule, runs_of_line) in lines {
            let line = (name.clone(), schedule.map(ToString::to_string).unwrap_or_default());
            let before = self.failing.get(&line).map(String::as_str);
            let all = transitions::transitions(&runs_of_line, runs.len() < limit, before, now).into_iter();
            look.found
                .extend(all.map(|transition| of_run(function, transition, now)));
            let failure = transitions::present_failure(&runs_of_line);
            look.failing.extend(failure.map(|failure| (line, failure)));
        }
        look.found.extend(too_often(function, &runs, now));
        for expected in function.successes() {
            self.look_at_successes(function, &expected, &runs, look).await;
        }
    }

    /// Whether the last success is too long ago.
    async fn look_at_successes(
        &self,
        function: &WatchedFunction,
        expected: &ExpectedSuccess,
        runs: &[RunRecord],
        look: &mut Look,
    ) {
        let name = &function.function.name;
        let line = (name.clone(), expected.schedule.clone().unwrap_or_default());
        let now = self.parts.clock.now();
        let mut known = self.successes.get(&line).cloned().unwrap_or_default();
        let state = match &known.state {
            Some(state) => state.clone(),
            None => {
                let asked = kept_successes(&*self.parts.broker, &line);
                let Some(kept) = look.failures.ask(asked).await else {
                    return;
                };
                known.stored.clone_from(&kept);
                kept.unwrap_or_else(|| SuccessState::new(now))
            }
        };
        let own: Vec<&RunRecord> = runs.iter().filter(|run| expected.concerns(run)).collect();
        let SuccessLook { state, found } = state.look((name, &line.1), &own, expected.within, now);
        look.found.extend(found.into_iter().map(|(mut notification, what)| {
            notification.function = Some(name.clone());
            notification.schedule.clone_from(&expected.schedule);
            NoticedEvent {
                notification,
                what,
                channels: expected.channels.clone(),
            }
        }));
        let news = state.is_news(known.stored.as_ref(), expected.within);
        known.state = Some(state);
        look.successes.insert(line, (known, news));
    }
}

/// Runs that began too soon after the one before.
fn too_often(function: &WatchedFunction, runs: &[RunRecord], now: Timestamp) -> Vec<NoticedEvent> {
    let name = &function.function.name;
    let of_function = function.rules(None).expect.min_interval;
    let all = [(of_function, runs.iter().collect())];
    // Schedules that state another interval.
    let lines = transitions::lines(runs).into_iter().map(|(schedule, line)| {
        let own = function.rules(schedule.map(ScheduleId::as_str)).expect.min_interval;
        (own.filter(|_| own != of_function), line)
    });
    let bounded = all.into_iter().chain(lines);
    let found = bounded.flat_map(|(least, line): (_, Vec<&RunRecord>)| {
        least.map_or_else(Vec::new, |least| expected::too_often(name, &line, least, now))
    });
    let event = |(mut notification, what, run): (Notification, String, &RunRecord)| {
        notification.function = Some(name.clone());
        notification.schedule = run.schedule.as_ref().map(ToString::to_string);
        let channels = function.channels(NotifyOn::TooOften, notification.schedule.as_deref());
        NoticedEvent {
            notification,
            what,
            channels,
        }
    };
    found.map(event).collect()
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
