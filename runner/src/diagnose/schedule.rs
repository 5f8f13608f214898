//! Why a schedule does not fire, or its task does not run.

use jiff::{SignedDuration, Timestamp};
use runner_core::schedule::{Definition, Problem, Severity, Timing, When};
use runner_core::task::{FUNCTION_PREFIX, TaskState};
use runner_queue::{Decision, DecisionKind, Standing};

use super::ReasonCode;
use super::reason::{Reason, in_order, is_late};
use super::servers::BrokerFacts;
use super::task::{TaskFacts, why_task};

/// How long a correction of the cursor counts: the occurrences that it left out would have fired within days.
pub const CORRECTION_SHOWN: SignedDuration = SignedDuration::from_hours(24);

/// How a broker begins the reason of an occurrence whose task it did not take: another task holds its lock, or no store
/// would take it.
const UNIQUE: &str = "unique: ";
const INVALID: &str = "invalid: ";

/// How long before and after a clock change it is shown: until the day is over that it makes longer or shorter.
const CHANGE_SHOWN: SignedDuration = SignedDuration::from_hours(24);

/// What is known of a schedule in force.
#[derive(Debug, Clone, Copy)]
pub struct ScheduleFacts<'a> {
    /// Its definition.
    pub definition: &'a Definition,
    /// Its state; `None` before a scheduler has registered it.
    pub standing: Option<&'a Standing>,
    /// Its decisions, newest first.
    pub decisions: &'a [Decision],
    /// Whether another instance has the version that counts.
    pub superseded: bool,
    /// Whether a function that it calls is defined nowhere.
    pub no_function: bool,
    /// The task of its last fire, if that is still in the store, with its last error.
    pub last_task: Option<(&'a TaskFacts, &'a str)>,
}

/// Why a schedule does not fire, and why its last task does not run; the most important reason first.
#[must_use]
pub fn why_schedule(facts: &ScheduleFacts<'_>, broker: &BrokerFacts) -> Vec<Reason> {
    let definition = facts.definition;
    let mut found: Vec<Reason> = broker.refuses().into_iter().collect();
    let pause = facts.standing.and_then(|standing| standing.paused.as_ref());
    if let Some(pause) = pause {
        found.push(about(definition, ReasonCode::Paused).with("by", pause.by.as_str()));
    }
    if !definition.enabled {
        found.push(about(definition, ReasonCode::Disabled).with("place", definition.origin.place.as_str()));
    } else {
        if facts.superseded {
            found.push(about(definition, ReasonCode::OtherVersion));
        } else if pause.is_none() {
            found.extend(not_fired(facts, broker));
        }
        found.extend(not_run(facts, broker));
    }
    found.extend(corrected(facts, broker.now));
    found.extend(decided(facts));
    let last = last_task(facts, broker, &found);
    let mut found = in_order(found);
    // Together, so that it is clear what these reasons are about.
    let place = match last.iter().any(Reason::is_warning) {
        true => found.iter().take_while(|reason| reason.is_warning()).count(),
        false => found.len(),
    };
    found.splice(place..place, last);
    found
}

/// About a schedule whose row or file has errors.
#[must_use]
pub fn why_broken(place: &str, problems: &[Problem]) -> Reason {
    let first = problems.iter().find(|p| p.severity == Severity::Error);
    let reason = Reason::new(ReasonCode::DefinitionBroken).with("place", place);
    reason.with("problem", first.or(problems.first()).map_or_else(String::new, in_short))
}

/// About an id that no schedule in force has: by its place if that was rejected, else by an error about the id itself.
/// `None` if there is no error.
pub fn why_not_in_force<'a>(
    rejected: Option<(&str, &[Problem])>,
    mut problems: impl Iterator<Item = &'a Problem>,
) -> Option<Reason> {
    if let Some((place, problems)) = rejected {
        return Some(why_broken(place, problems));
    }
    let first = problems.find(|p| p.severity == Severity::Error)?;
    let reason = Reason::new(ReasonCode::NotInForce).with("place", first.place.as_str());
    Some(reason.with("problem", in_short(first)))
}

fn in_short(problem: &Problem) -> String {
    format!("{} {}", problem.code, problem.message)
}

/// About a schedule of which only decisions are left.
#[must_use]
pub fn why_absent() -> Reason {
    Reason::new(ReasonCode::Absent)
}

/// About an entry of a Go scheduler.
#[must_use]
pub fn why_foreign(scheduler: &str) -> Reason {
    Reason::new(ReasonCode::Foreign).with("scheduler", scheduler)
}

fn about(definition: &Definition, code: ReasonCode) -> Reason {
    Reason::new(code).with("schedule", definition.id.as_str())
}

/// Whether it fires in time, and when it fires next.
fn not_fired(facts: &ScheduleFacts<'_>, broker: &BrokerFacts) -> Vec<Reason> {
    let definition = facts.definition;
    let Some(standing) = facts.standing else {
        return vec![about(definition, ReasonCode::NotRegistered)];
    };
    let undecided = standing.ahead.next(&definition.timing, standing.cursor);
    let undecided = undecided.filter(|at| is_late(*at, broker.now));
    // No scheduler can decide while the broker takes no writes.
    let undecided = undecided.filter(|_| broker.fault.is_none());
    let late = undecided.map(|at| about(definition, ReasonCode::NoScheduler).with("at", at));
    let next = match standing.next(&definition.timing, broker.now) {
        Some(at) => about(definition, ReasonCode::NotDue).with("at", at),
        None => about(definition, ReasonCode::NoneLeft).with("spec", definition.timing.text.as_str()),
    };
    let undecided = facts.decisions.is_empty() && standing.last.is_none() && late.is_none();
    let undecided = undecided.then(|| about(definition, ReasonCode::NotDecidedYet));
    let change = clock_change(&definition.timing, broker.now);
    late.into_iter().chain([next]).chain(undecided).chain(change).collect()
}

/// The change of the zone's clock that is near, if the schedule goes by local times.
fn clock_change(timing: &Timing, now: Timestamp) -> Option<Reason> {
    if !matches!(timing.when, When::Cron(_)) {
        return None;
    }
    let from = now.checked_sub(CHANGE_SHOWN).ok()?;
    let to = now.checked_add(CHANGE_SHOWN).ok()?;
    let offset = |at: Timestamp| timing.zone.to_offset(at);
    // A transition may only rename the zone.
    let changes = |at: &Timestamp| {
        at.checked_sub(SignedDuration::from_secs(1))
            .is_ok_and(|b| offset(b) != offset(*at))
    };
    let mut near = timing
        .zone
        .following(from)
        .map(|change| change.timestamp())
        .take_while(|at| *at <= to);
    let at = near.find(changes)?;
    Some(
        Reason::new(ReasonCode::ClockChange)
            .with("zone", timing.zone_name.as_str())
            .with("at", at),
    )
}

/// Why a task of it would wait.
fn not_run(facts: &ScheduleFacts<'_>, broker: &BrokerFacts) -> Vec<Reason> {
    let task = &facts.definition.task;
    let function = task.kind.strip_prefix(FUNCTION_PREFIX).filter(|_| facts.no_function);
    let no_function = function.map(|name| Reason::new(ReasonCode::NoFunction).with("function", name));
    let not_taken = broker.not_taken(&task.queue, &task.kind);
    let known = |reason: &Reason| reason.code == ReasonCode::TypeNotHandled && no_function.is_some();
    let not_taken = not_taken.filter(|reason| !known(reason));
    let paused = broker.paused(&task.queue);
    [no_function, paused, not_taken].into_iter().flatten().collect()
}

/// The decision about the last occurrence, if it did not fire.
fn decided(facts: &ScheduleFacts<'_>) -> Option<Reason> {
    let of_occurrence = |d: &&Decision| !matches!(d.kind, DecisionKind::Manual | DecisionKind::Corrected);
    let last = facts.decisions.iter().find(of_occurrence)?;
    let code = match last.kind {
        DecisionKind::Missed => ReasonCode::LastMissed,
        DecisionKind::Skipped if last.reason.starts_with(UNIQUE) => ReasonCode::LastLocked,
        DecisionKind::Skipped if last.reason.starts_with(INVALID) => ReasonCode::LastRefused,
        DecisionKind::Skipped => ReasonCode::LastSkipped,
        DecisionKind::Paused => ReasonCode::LastPaused,
        DecisionKind::Fired | DecisionKind::Manual | DecisionKind::Corrected => return None,
    };
    let reason = about(facts.definition, code).with("at", last.nominal);
    Some(reason.with("why", last.reason.as_str()))
}

/// That the broker's clock was ahead in the last day.
fn corrected(facts: &ScheduleFacts<'_>, now: Timestamp) -> Option<Reason> {
    let mut decisions = facts.decisions.iter();
    let at = decisions.find(|d| d.kind == DecisionKind::Corrected)?.decided_at;
    let recent = now.duration_since(at) < CORRECTION_SHOWN;
    recent.then(|| about(facts.definition, ReasonCode::Corrected).with("at", at))
}

/// The state of the task of the last fire, and why it waits; without reasons that the schedule already has.
fn last_task(facts: &ScheduleFacts<'_>, broker: &BrokerFacts, known: &[Reason]) -> Vec<Reason> {
    let last = facts.standing.and_then(|standing| standing.last.as_ref());
    let (Some((at, id)), Some((task, error))) = (last, facts.last_task) else {
        return Vec::new();
    };
    let named = |code| {
        about(facts.definition, code)
            .with("task", id.as_str())
            .with("state", task.state)
    };
    let mut found = vec![match task.state {
        TaskState::Retry => named(ReasonCode::LastTaskRetried).with("error", error),
        TaskState::Archived => named(ReasonCode::LastTaskArchived).with("error", error),
        _ => named(ReasonCode::LastTask).with("at", *at),
    }];
    let is_new = |reason: &Reason| known.iter().all(|other| other.code != reason.code);
    // Reasons that pass by themselves are for the page of the task.
    let why = why_task(task, broker).into_iter().filter(Reason::is_warning);
    found.extend(why.filter(is_new));
    found
}
