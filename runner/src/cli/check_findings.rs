//! What `runner check` prints of one problem, as JSON.

use jiff::Timestamp;
use runner_core::cron::TIMING_LINTS;
use runner_core::schedule::{Definition, Problem, Served, not_served};
use serde_json::{Value, json};

use crate::config::Settings;
use crate::source::{Checked, by_hand_not_served};

pub(super) fn finding(
    severity: &str,
    code: &str,
    place: &str,
    message: &str,
    excerpt: Option<&str>,
    hint: Option<&str>,
) -> Value {
    json!({
        "severity": severity, "code": code, "place": place, "message": message, "excerpt": excerpt, "hint": hint,
    })
}

pub(super) fn of_problem(p: &Problem) -> Value {
    let severity = if p.is_error() { "error" } else { "warning" };
    let (excerpt, hint) = (p.excerpt.as_deref(), p.hint.as_deref());
    finding(severity, &p.code, &p.place, &p.message, excerpt, hint)
}

/// A warning about when a schedule fires, with its next occurrences.
pub(super) fn with_next(mut finding: Value, problem: &Problem, definitions: &[Definition], now: Timestamp) -> Value {
    /// Enough to show a pattern.
    const NEXT: usize = 4;
    let doubted = TIMING_LINTS.contains(&problem.code.as_str());
    let about = |d: &&Definition| doubted && problem.schedule.as_ref() == Some(&d.id);
    if let Some(definition) = definitions.iter().find(about) {
        let timing = &definition.timing;
        let next = timing
            .upcoming(now, NEXT)
            .into_iter()
            .map(|at| at.to_zoned(timing.zone.clone()));
        finding["next"] = next
            .map(|at| at.strftime("%a %Y-%m-%d %H:%M:%S %Z").to_string())
            .collect();
    }
    finding
}

/// Schedules whose tasks the worker of these settings would not claim.
pub(super) fn unserved<'a>(settings: &Settings, definitions: impl IntoIterator<Item = &'a Definition>) -> Vec<Value> {
    let warnings = served(settings).map(|served| not_served(definitions, &served));
    warnings.iter().flatten().map(of_problem).collect()
}

/// The same for functions without a schedule.
pub(super) fn by_hand_unserved(settings: &Settings, checked: &Checked) -> Vec<Value> {
    let warnings = served(settings).map(|served| by_hand_not_served(&checked.functions, &checked.problems, &served));
    warnings.iter().flatten().map(of_problem).collect()
}

/// The queues that the worker of these settings claims from, if they have one.
fn served(settings: &Settings) -> Option<Served> {
    let queues = || settings.worker.queues.keys().map(ToString::to_string).collect();
    settings.roles.worker.then(|| Served::Here(queues()))
}
