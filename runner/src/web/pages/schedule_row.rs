//! The row of a schedule in lists: its rule, its next occurrence, its last runs. Not here: the lists.

use jiff::Timestamp;
use runner_core::cron::Expression;
use runner_core::schedule::{Definition, Plan, Severity, When};
use runner_queue::{Decision, DecisionKind, Standing};
use serde::Serialize;

use super::run::Ending;
use crate::diagnose::failed_in_a_row;
use crate::web::format::{self, IN_A_LIST, InstantText, Locale};
use crate::web::run_strip::RunStrip;
use crate::web::urls;

/// One schedule.
#[derive(Debug, Serialize)]
pub(crate) struct ScheduleRow {
    id: String,
    url: String,
    name: String,
    source: &'static str,
    place: String,
    expression: String,
    words: String,
    zone: String,
    kind: String,
    queue: String,
    enabled: bool,
    paused: bool,
    next: Option<InstantText>,
    last: Option<InstantText>,
    last_task_url: Option<String>,
    /// How the last task ended, if it has and that is known.
    last_end: Option<Ending>,
    /// The last runs, if there were any and they were asked for.
    strip: Option<RunStrip>,
    /// Failures since the last run that ended otherwise.
    failed_in_a_row: usize,
    /// `error`, `warning` or empty.
    trouble: &'static str,
}

impl ScheduleRow {
    pub(crate) fn new(locale: &Locale, plan: &Plan, definition: &Definition, standing: Option<&Standing>) -> Self {
        let paused = standing.is_some_and(|s| s.paused.is_some());
        let runs = definition.enabled && !paused;
        let next = next_of(definition, standing, locale.now).filter(|_| runs);
        let last = standing.and_then(|s| s.last.as_ref());
        Self {
            id: definition.id.to_string(),
            url: urls::schedule(definition.id.as_str()),
            name: format::cut(&definition.name, IN_A_LIST),
            source: definition.origin.source.as_str(),
            place: definition.origin.place.clone(),
            expression: format::cut(&definition.timing.text, IN_A_LIST),
            words: in_words(locale, definition),
            zone: definition.timing.zone_name.clone(),
            kind: format::cut(&definition.task.kind, IN_A_LIST),
            queue: definition.task.queue.to_string(),
            enabled: definition.enabled,
            paused,
            next: next.map(|at| locale.moment_in(at, &definition.timing.zone)),
            last: last.map(|(at, _)| locale.moment_in(*at, &definition.timing.zone)),
            last_task_url: last.map(|(_, id)| urls::task(definition.task.queue.as_str(), id.as_str())),
            last_end: None,
            strip: None,
            failed_in_a_row: 0,
            trouble: match plan.problems_of(&definition.id).map(|p| p.severity).max() {
                Some(Severity::Error) => "error",
                Some(Severity::Warning) => "warning",
                None => "",
            },
        }
    }
}

impl ScheduleRow {
    /// Adds what its decisions say, newest first: the last run, by hand or not, how it ended, and those before it.
    pub(crate) fn with_decisions(self, locale: &Locale, definition: &Definition, decisions: &[Decision]) -> Self {
        let row = Self {
            strip: RunStrip::new(decisions),
            failed_in_a_row: failed_in_a_row(decisions),
            ..self
        };
        let ran = |d: &&Decision| matches!(d.kind, DecisionKind::Fired | DecisionKind::Manual);
        let last = decisions
            .iter()
            .find(ran)
            .and_then(|run| Some((run, run.task.as_ref()?)));
        let Some((run, task)) = last else {
            return row;
        };
        let queue = run.queue.as_ref().unwrap_or(&definition.task.queue);
        Self {
            last: Some(locale.moment_in(run.nominal, &definition.timing.zone)),
            last_task_url: Some(urls::task(queue.as_str(), task.as_str())),
            last_end: run.end.as_ref().map(|end| Ending::new(locale, end)),
            ..row
        }
    }
}

/// The next occurrence that will be decided.
fn next_of(definition: &Definition, standing: Option<&Standing>, now: Timestamp) -> Option<Timestamp> {
    match standing {
        Some(standing) => standing.next(&definition.timing, now),
        None => definition.timing.next(now),
    }
}

/// The rule in a sentence.
pub(crate) fn in_words(locale: &Locale, definition: &Definition) -> String {
    let language = locale.lang.of_expressions();
    match &definition.timing.when {
        When::Cron(expressions) => {
            let all: Vec<String> = expressions.iter().map(|e| e.describe(language)).collect();
            all.join("; ")
        }
        When::Every { every, .. } => Expression::parse(&format!("@every {}s", every.as_secs()))
            .map(|e| e.describe(language))
            .unwrap_or_default(),
        When::At(instants) => instants
            .iter()
            .take(3)
            .map(|at| locale.moment_in(*at, &definition.timing.zone).short)
            .collect::<Vec<_>>()
            .join(", "),
    }
}
