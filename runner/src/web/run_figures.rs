//! Figures of functions and schedules for a scraper: how the last run of each function went, when the next occurrence of
//! each schedule is, and the problems of the manifests and rows by code. Read from the broker, so that every instance
//! says the same and a restart forgets nothing; cached, whatever the number of scrapers.
//!
//! Not here: what this process counts (`metrics`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use runner_core::schedule::{Definition, Plan, ScheduleId, jitter_of};
use runner_core::task::{AttemptOutcome, QueueName, TaskId};
use runner_queue::{Broker, BrokerResult, MAX_RUNS_KEPT, RunRecord, Standing};
use tokio::time::{Instant, timeout};

use crate::metrics::label as escaped;
use crate::source::Catalog;

/// How long an answer is valid.
const GOOD_FOR: Duration = Duration::from_secs(5);
/// How long the broker may take; a scrape gets the previous figures instead of waiting longer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Functions with figures, by name: about 60 kB of text. The others are counted.
const FUNCTIONS: usize = 200;
/// Schedules with figures, by id: about 60 kB of text. The others are counted.
const SCHEDULES: usize = 200;
/// Functions whose records are searched for a success at a time: each takes the broker a hundred reads.
const SEARCHED: usize = 10;
/// Calls at once, which take two round trips each.
const AT_ONCE: usize = 64;

/// How long figures are shown that could not be read again.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// The last answer, and the successes that were found so far.
#[derive(Default)]
pub(super) struct RunFigures {
    last: Mutex<Option<(Instant, Arc<str>)>>,
    successes: Mutex<BTreeMap<String, LastSuccess>>,
    reading: tokio::sync::Mutex<()>,
}

/// The last success of a function among the runs up to the newest one.
struct LastSuccess {
    /// Task and attempt.
    newest: (TaskId, u32),
    /// `None`: the records that exist have none.
    at: Option<Timestamp>,
}

/// How a function's last run went.
struct LastRun {
    record: RunRecord,
    /// `None`: not searched for yet. `Some(None)`: no run that is remembered succeeded.
    success: Option<Option<Timestamp>>,
}

impl RunFigures {
    /// The figures as OpenMetrics text. While one caller reads, others get the previous answer.
    pub(super) async fn text(&self, broker: &dyn Broker, catalog: &Catalog, now: Timestamp) -> Arc<str> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, text)) = &last
            && at.elapsed() < GOOD_FOR
        {
            return Arc::clone(text);
        }
        // Old figures would hide what other instances say.
        let last = last.filter(|(at, _)| at.elapsed() < KEPT_FOR);
        let last = last.map_or_else(|| Arc::from(""), |(_, text)| text);
        let Ok(_reading) = self.reading.try_lock() else {
            return last;
        };
        let Ok(Ok(text)) = timeout(PATIENCE, self.read(broker, catalog, now)).await else {
            return last;
        };
        let text: Arc<str> = Arc::from(text);
        let answer = (Instant::now(), Arc::clone(&text));
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        text
    }

    async fn read(&self, broker: &dyn Broker, catalog: &Catalog, now: Timestamp) -> BrokerResult<String> {
        let plan = catalog.plan();
        let functions = queues_of_functions(catalog, &plan);
        let runs = self.last_runs(broker, &functions).await?;
        let mut text = String::new();
        function_figures(&mut text, &runs, functions.len().saturating_sub(FUNCTIONS));
        let ids: Vec<ScheduleId> = enabled(&plan).take(SCHEDULES).map(|one| one.id.clone()).collect();
        let standings = broker.standings(&ids).await?;
        let known: Vec<(&Definition, &Standing)> = enabled(&plan)
            .zip(&standings)
            .filter_map(|(definition, standing)| Some((definition, standing.as_ref()?)))
            .collect();
        let omitted = enabled(&plan).count().saturating_sub(SCHEDULES);
        schedule_figures(&mut text, &known, omitted, now);
        problem_figures(&mut text, &plan);
        Ok(text)
    }

    /// The last run of each function that has one, by name.
    async fn last_runs(
        &self,
        broker: &dyn Broker,
        functions: &BTreeMap<String, BTreeSet<QueueName>>,
    ) -> BrokerResult<BTreeMap<String, LastRun>> {
        let asked: Vec<_> = functions
            .iter()
            .take(FUNCTIONS)
            .map(|(name, queues)| last_run(broker, name.clone(), queues.iter().cloned().collect()))
            .collect();
        let mut answers = stream::iter(asked).buffered(AT_ONCE);
        let (mut found, mut searched) = (BTreeMap::new(), 0);
        while let Some(answer) = answers.next().await {
            let Some((name, queues, record)) = answer? else {
                continue;
            };
            let success = match (record.outcome, self.success_before(&name, &record)) {
                (AttemptOutcome::Success, _) => Some(Some(record.ended_at)),
                (_, Some(known)) => Some(known),
                (_, None) if searched < SEARCHED => {
                    searched += 1;
                    Some(last_success(&broker.runs(&name, &queues, MAX_RUNS_KEPT).await?))
                }
                // Searched for at a later scrape.
                (_, None) => None,
            };
            if let Some(at) = success {
                self.note_success(&name, &record, at);
            }
            found.insert(name, LastRun { record, success });
        }
        let mut successes = self.successes.lock().unwrap_or_else(PoisonError::into_inner);
        successes.retain(|name, _| functions.contains_key(name));
        Ok(found)
    }

    /// The last success before this run; `None` if it is to be searched for, because other runs may have ended since.
    fn success_before(&self, function: &str, record: &RunRecord) -> Option<Option<Timestamp>> {
        let successes = self.successes.lock().unwrap_or_else(PoisonError::into_inner);
        let known = successes.get(function)?;
        (known.newest == (record.task.clone(), record.attempt)).then_some(known.at)
    }

    fn note_success(&self, function: &str, record: &RunRecord, at: Option<Timestamp>) {
        let newest = (record.task.clone(), record.attempt);
        let mut successes = self.successes.lock().unwrap_or_else(PoisonError::into_inner);
        successes.insert(function.to_owned(), LastSuccess { newest, at });
    }
}

async fn last_run(
    broker: &dyn Broker,
    function: String,
    queues: Vec<QueueName>,
) -> BrokerResult<Option<(String, Vec<QueueName>, RunRecord)>> {
    let last = broker.runs(&function, &queues, 1).await?.into_iter().next();
    Ok(last.map(|record| (function, queues, record)))
}

fn last_success(runs: &[RunRecord]) -> Option<Timestamp> {
    let success = runs.iter().find(|run| run.outcome == AttemptOutcome::Success)?;
    Some(success.ended_at)
}

fn enabled(plan: &Plan) -> impl Iterator<Item = &Definition> {
    plan.schedules.values().filter(|definition| definition.enabled)
}

/// Each function with the queues in which its runs may be: its own, and those of its schedules.
fn queues_of_functions(catalog: &Catalog, plan: &Plan) -> BTreeMap<String, BTreeSet<QueueName>> {
    let mut queues: BTreeMap<String, BTreeSet<QueueName>> = BTreeMap::new();
    for (function, _) in catalog.functions() {
        let own = function.task_options().queue.unwrap_or_default();
        queues.entry(function.name.clone()).or_default().insert(own);
    }
    for definition in plan.schedules.values() {
        if let Some(name) = definition.function() {
            let queue = definition.task.queue.clone();
            queues.entry(name.to_owned()).or_default().insert(queue);
        }
    }
    queues
}

/// Writes the samples of one gauge.
fn gauge<'a>(out: &mut String, name: &str, help: &str, label: &str, samples: impl Iterator<Item = (&'a str, f64)>) {
    // Writing to a String cannot fail.
    let _infallible = write!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n");
    for (of, value) in samples {
        let _infallible = writeln!(out, "{name}{{{label}=\"{}\"}} {value}", escaped(of));
    }
}

fn omitted(out: &mut String, name: &str, help: &str, count: usize) {
    let _infallible = write!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {count}\n");
}

#[allow(clippy::cast_precision_loss)] // milliseconds of this millennium are exact
fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

fn function_figures(out: &mut String, runs: &BTreeMap<String, LastRun>, left_out: usize) {
    let each = || runs.iter().map(|(name, run)| (name.as_str(), run));
    gauge(
        out,
        "runner_function_last_run_timestamp_seconds",
        "When the last attempt at a run of the function ended.",
        "function",
        each().map(|(name, run)| (name, seconds(run.record.ended_at))),
    );
    gauge(
        out,
        "runner_function_last_run_succeeded",
        "1 if it succeeded, 0 if it failed for good; no sample while it is to be tried again, or if it was cancelled.",
        "function",
        each().filter_map(|(name, run)| match run.record.outcome {
            AttemptOutcome::Success | AttemptOutcome::Revoked => Some((name, 1.0)),
            AttemptOutcome::Archived | AttemptOutcome::Lost => Some((name, 0.0)),
            _ => None,
        }),
    );
    gauge(
        out,
        "runner_function_last_run_duration_seconds",
        "How long it took.",
        "function",
        each().map(|(name, run)| (name, run.record.took().as_secs_f64())),
    );
    gauge(
        out,
        "runner_function_last_success_timestamp_seconds",
        "When a run of the function last succeeded; 0 if none of those that are remembered did.",
        "function",
        each().filter_map(|(name, run)| Some((name, run.success?.map_or(0.0, seconds)))),
    );
    omitted(
        out,
        "runner_functions_omitted",
        "Functions without figures because there are more than 200.",
        left_out,
    );
}

fn schedule_figures(out: &mut String, schedules: &[(&Definition, &Standing)], left_out: usize, now: Timestamp) {
    let each = || {
        schedules
            .iter()
            .map(|(one, standing)| (one.id.as_str(), *one, *standing))
    };
    gauge(
        out,
        "runner_schedule_next_timestamp_seconds",
        "The next occurrence of the schedule, without its jitter; none while it is paused.",
        "schedule",
        each().filter_map(|(id, one, standing)| {
            let next = standing.next(&one.timing, now).filter(|_| standing.paused.is_none());
            Some((id, seconds(next?)))
        }),
    );
    gauge(
        out,
        "runner_schedule_last_fire_timestamp_seconds",
        "The occurrence for which the schedule last enqueued a task.",
        "schedule",
        each().filter_map(|(id, _, standing)| Some((id, seconds(standing.last.as_ref()?.0)))),
    );
    gauge(
        out,
        "runner_schedule_overdue_seconds",
        "For how long the oldest occurrence of the schedule has waited for a decision.",
        "schedule",
        each().map(|(id, one, standing)| (id, overdue(one, standing, now))),
    );
    gauge(
        out,
        "runner_schedule_paused",
        "Whether an operator paused the schedule.",
        "schedule",
        each().map(|(id, _, standing)| (id, f64::from(u8::from(standing.paused.is_some())))),
    );
    omitted(
        out,
        "runner_schedules_omitted",
        "Schedules without figures because there are more than 200.",
        left_out,
    );
}

fn overdue(definition: &Definition, standing: &Standing, now: Timestamp) -> f64 {
    if standing.paused.is_some() {
        return 0.0;
    }
    let oldest = standing.ahead.next(&definition.timing, standing.cursor);
    let waited = oldest.map(|at| now.duration_since(at).as_secs_f64() - jitter_of(definition, at).as_secs_f64());
    waited.unwrap_or_default().max(0.0)
}

fn problem_figures(out: &mut String, plan: &Plan) {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for problem in &plan.problems {
        *counts.entry(problem.code.as_str()).or_default() += 1;
    }
    gauge(
        out,
        "runner_problems",
        "Problems of manifests, rows and schedules in code, by code: E for errors, W for warnings.",
        "code",
        counts.iter().map(|(code, count)| (*code, f64::from(*count))),
    );
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use runner_core::task::TaskId;
    use runner_queue::Trigger;

    use super::*;

    fn run(outcome: AttemptOutcome, ended: i64) -> RunRecord {
        RunRecord {
            task: TaskId::new("1").unwrap(),
            queue: QueueName::default(),
            function: "backup".to_owned(),
            schedule: None,
            trigger: Trigger::Enqueue,
            event: None,
            planned: None,
            attempt: 1,
            started_at: Timestamp::from_second(ended - 2).unwrap(),
            ended_at: Timestamp::from_second(ended).unwrap(),
            outcome,
            worker: "host:1".to_owned(),
            trace: None,
            error: None,
            output: None,
            output_cut: false,
            retry_left: false,
        }
    }

    #[test]
    fn a_success_is_searched_for_again_when_further_runs_have_ended() {
        let figures = RunFigures::default();
        let first = run(AttemptOutcome::Archived, 100);
        assert_eq!(figures.success_before("backup", &first), None);
        figures.note_success("backup", &first, None);
        assert_eq!(figures.success_before("backup", &first), Some(None));
        let later = RunRecord {
            task: TaskId::new("3").unwrap(),
            ..run(AttemptOutcome::Archived, 300)
        };
        assert_eq!(
            figures.success_before("backup", &later),
            None,
            "one between them may have succeeded"
        );
    }

    #[test]
    fn a_run_that_is_tried_again_has_neither_succeeded_nor_failed() {
        let of = |outcome| LastRun {
            record: run(outcome, 300),
            success: Some(None),
        };
        let runs = BTreeMap::from([
            ("again".to_owned(), of(AttemptOutcome::Retry)),
            ("lost".to_owned(), of(AttemptOutcome::Lost)),
        ]);
        let mut text = String::new();
        function_figures(&mut text, &runs, 0);
        assert!(!text.contains(r#"last_run_succeeded{function="again"}"#), "{text}");
        assert!(text.contains(r#"last_run_succeeded{function="lost"} 0"#), "{text}");
        assert!(
            text.contains(r#"last_success_timestamp_seconds{function="again"} 0"#),
            "{text}"
        );
    }

    #[test]
    fn a_failed_run_leaves_the_last_success_in_place() {
        let record = run(AttemptOutcome::Archived, 300);
        let success = Some(last_success(&[record.clone(), run(AttemptOutcome::Success, 100)]));
        let runs = BTreeMap::from([("ba\"ckup".to_owned(), LastRun { record, success })]);
        let mut text = String::new();
        function_figures(&mut text, &runs, 3);
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let expected = [
            r#"runner_function_last_run_timestamp_seconds{function="ba\"ckup"} 300"#,
            r#"runner_function_last_run_succeeded{function="ba\"ckup"} 0"#,
            r#"runner_function_last_run_duration_seconds{function="ba\"ckup"} 2"#,
            r#"runner_function_last_success_timestamp_seconds{function="ba\"ckup"} 100"#,
            "runner_functions_omitted 3",
        ];
        assert_eq!(samples, expected);
    }
}
