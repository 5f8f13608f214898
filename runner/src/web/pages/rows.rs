//! Rows that several pages share: decisions, problems, counts by state, pages of a list.

use jiff::Timestamp;
use runner_core::schedule::{Plan, Problem, Severity, Source};
use runner_core::task::{FUNCTION_PREFIX, QueueName, TaskState};
use runner_queue::{Caveat, Corrections, Decision, QueueInfo};
use serde::Serialize;

use super::run::Ending;
use crate::diagnose::CORRECTION_SHOWN;
use crate::health::BrokerFault;
use crate::trigger::{FaultReport, SavedOfTrigger, TriggerReport};
use crate::web::decision_reason::DecisionReason;
use crate::web::format::{self, IN_A_LIST, InstantText, Locale};
use crate::web::page_error::PageError;
use crate::web::urls;

/// The number of tasks of a queue in one state.
#[derive(Debug, Serialize)]
pub struct StateCount {
    state: &'static str,
    n: u64,
    url: String,
}

/// The counts of a queue in the usual order, each with the address of its list.
#[must_use]
pub fn counts(queue: &QueueInfo) -> Vec<StateCount> {
    TaskState::ALL
        .into_iter()
        .map(|state| StateCount {
            state: state.as_str(),
            n: queue.counts.get(&state).copied().unwrap_or_default(),
            url: urls::tasks(queue.name.as_str(), state.as_str()),
        })
        .collect()
}

/// A recorded decision.
#[derive(Debug, Serialize)]
pub struct DecisionRow {
    schedule: String,
    schedule_url: String,
    nominal: InstantText,
    decided: InstantText,
    kind: &'static str,
    reason: DecisionReason,
    task: Option<String>,
    task_url: Option<String>,
    /// The state of the task, if it was looked up and still exists.
    task_state: Option<&'static str>,
    /// How the task ended, if known.
    end: Option<Ending>,
    count: u32,
    late: String,
    instance: String,
}

impl DecisionRow {
    /// `queue` is where the schedule's tasks go now, if known.
    #[must_use]
    pub fn new(locale: &Locale, decision: &Decision, queue: Option<&str>) -> Self {
        let late = decision.decided_at.duration_since(decision.nominal);
        Self {
            schedule: decision.schedule.to_string(),
            schedule_url: urls::schedule(decision.schedule.as_str()),
            nominal: locale.moment(decision.nominal),
            decided: locale.moment(decision.decided_at),
            kind: decision.kind.as_str(),
            reason: DecisionReason::new(locale, decision),
            task: decision.task.as_ref().map(ToString::to_string),
            task_url: task_url(decision, queue),
            task_state: None,
            end: decision.end.as_ref().map(|end| Ending::new(locale, end)),
            count: decision.count,
            late: locale.span(late.unsigned_abs()),
            instance: decision.instance.clone(),
        }
    }

    /// Adds the current state of its task.
    #[must_use]
    pub fn with_state(self, state: Option<TaskState>) -> Self {
        Self {
            task_state: state.map(TaskState::as_str),
            ..self
        }
    }
}

/// The page of the task, if it will have one: tasks of this schedule leave a record when they are gone; the holder of a
/// uniqueness lock may be any task.
fn task_url(decision: &Decision, queue: Option<&str>) -> Option<String> {
    let task = decision.task.as_ref()?;
    let of_schedule = task
        .as_str()
        .strip_prefix(decision.schedule.as_str())
        .is_some_and(|rest| rest.starts_with('@'));
    let queue = decision.queue.as_ref().map(QueueName::as_str).or(queue)?;
    of_schedule.then(|| urls::task(queue, task.as_str()))
}

/// Cursors that were ahead of the broker's clock and were set to the present.
#[derive(Debug, Serialize)]
pub struct ClockRow {
    at: InstantText,
    ahead: String,
    n: u64,
}

impl ClockRow {
    /// The last correction, for one day.
    #[must_use]
    pub fn of(locale: &Locale, corrections: Option<&Corrections>) -> Option<Self> {
        let last = corrections.filter(|c| is_recent(locale, c.at))?;
        Some(Self {
            at: locale.moment(last.at),
            ahead: locale.span(last.ahead),
            n: last.schedules,
        })
    }
}

fn is_recent(locale: &Locale, at: Timestamp) -> bool {
    locale.now.duration_since(at) < CORRECTION_SHOWN
}

/// The code of the note on a function that no schedule runs; normal for functions that are run by hand.
const BY_HAND: &str = "W201";

/// The problems of a plan, errors first, and separately the notes on functions that only run by hand.
#[must_use]
pub fn by_weight(plan: &Plan) -> (Vec<&Problem>, Vec<&Problem>) {
    let (by_hand, mut problems): (Vec<_>, Vec<_>) = plan.problems.iter().partition(|p| p.code == BY_HAND);
    problems.sort_by_key(|p| std::cmp::Reverse(p.severity));
    (problems, by_hand)
}

/// Something wrong with a definition.
#[derive(Debug, Serialize)]
pub struct ProblemRow {
    severity: &'static str,
    code: String,
    /// The code, if the word list explains it.
    said: Option<&'static str>,
    message: String,
    source: &'static str,
    place: String,
    /// The schedule or trigger that it is about, and its page.
    about: Option<String>,
    about_url: Option<String>,
    /// How many, if its sentence says so.
    n: usize,
    /// The page of the function that it is about as a whole.
    function_url: Option<String>,
    excerpt: Option<String>,
    hint: Option<String>,
    /// Whether the word list explains this code, in both languages.
    translated: bool,
}

/// Problems of the broker that the word list explains.
const TRANSLATED: [&str; 1] = ["broker_state_lost"];

/// The code of messages that could not become tasks, as in the log.
const BAD_MESSAGES: &str = "trigger_bad_message";

impl ProblemRow {
    /// Maximum characters of a message or an excerpt.
    const LONGEST: usize = 2000;

    /// A problem as a page shows it.
    #[must_use]
    pub fn new(problem: &Problem) -> Self {
        let id = problem.schedule.as_ref();
        Self {
            severity: match problem.severity {
                Severity::Warning => "warning",
                Severity::Error => "error",
            },
            code: problem.code.clone(),
            said: None,
            message: format::cut(&problem.message, Self::LONGEST),
            source: problem.source.map_or("", Source::as_str),
            place: problem.place.clone(),
            about: id.map(ToString::to_string),
            about_url: id.map(|id| urls::schedule(id.as_str())),
            n: 1,
            function_url: problem
                .function
                .as_ref()
                .and_then(|kind| kind.strip_prefix(FUNCTION_PREFIX))
                .map(urls::function),
            excerpt: problem.excerpt.as_deref().map(|e| format::cut(e, Self::LONGEST)),
            hint: problem.hint.as_deref().map(|h| format::cut(h, Self::LONGEST)),
            translated: false,
        }
    }
}

impl ProblemRow {
    /// Whether they have the same code and weight.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        (&self.code, self.severity) == (&other.code, other.severity)
    }

    /// Whether it is an error rather than a warning.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == "error"
    }

    /// The problem that the broker at `place` refuses writes.
    #[must_use]
    pub fn of_fault(fault: BrokerFault, place: String) -> Self {
        Self {
            severity: "error",
            code: fault.code.to_owned(),
            said: Some(fault.code),
            message: format::cut(&fault.why, Self::LONGEST),
            source: "broker",
            place,
            about: None,
            about_url: None,
            n: 1,
            function_url: None,
            excerpt: None,
            hint: None,
            translated: false,
        }
    }

    /// The problem that a trigger does not listen on this instance.
    #[must_use]
    pub fn of_trigger(instance: &str, report: &TriggerReport, fault: &FaultReport) -> Self {
        let message = format!("{} does not listen to {}: {}", report.id, report.what, fault.why);
        Self {
            severity: "error",
            code: format::cut(&fault.code, IN_A_LIST),
            said: None,
            message: format::cut(&message, Self::LONGEST),
            source: "trigger",
            place: format::cut(instance, IN_A_LIST),
            about: None,
            about_url: None,
            n: 1,
            function_url: None,
            excerpt: None,
            hint: Some(format::cut(&fault.hint, Self::LONGEST)).filter(|hint| !hint.is_empty()),
            translated: false,
        }
    }

    /// The problem that messages of a trigger could not become tasks lately.
    #[must_use]
    pub fn of_bad_messages(kept: &SavedOfTrigger) -> Self {
        Self {
            severity: "warning",
            code: BAD_MESSAGES.to_owned(),
            said: None,
            message: String::new(),
            source: "trigger",
            place: String::new(),
            about: Some(format::cut(&kept.trigger, IN_A_LIST)),
            about_url: Some(urls::bad_messages(Some(&kept.trigger))),
            n: kept.count,
            function_url: None,
            excerpt: None,
            hint: None,
            translated: true,
        }
    }

    /// A caveat about the configuration of the broker at `place`.
    #[must_use]
    pub fn of_broker(caveat: &Caveat, place: String) -> Self {
        Self {
            severity: if caveat.grave { "error" } else { "warning" },
            code: caveat.code.to_owned(),
            said: None,
            message: caveat.message.clone(),
            source: "broker",
            place,
            about: None,
            about_url: None,
            n: 1,
            function_url: None,
            excerpt: None,
            hint: Some(caveat.hint.to_owned()),
            translated: TRANSLATED.contains(&caveat.code),
        }
    }

    /// What keeps lifecycle events from being sent.
    #[must_use]
    pub fn of_events(caveat: &Caveat) -> Self {
        Self {
            said: Some(caveat.code),
            source: "events",
            ..Self::of_broker(caveat, "events.rabbitmq".to_owned())
        }
    }
}

/// The position in a list, and its neighbours.
#[derive(Debug, Serialize)]
pub struct Pager {
    number: usize,
    last: usize,
    total: u64,
    first_row: u64,
    last_row: u64,
    first_url: Option<String>,
    before_url: Option<String>,
    after_url: Option<String>,
    last_url: Option<String>,
}

/// The highest page number that a query may have.
pub const LAST_PAGE: usize = 1_000_000;

impl Pager {
    /// `address` makes the address of a page from its number.
    #[must_use]
    pub fn new(number: usize, size: usize, total: u64, address: impl Fn(usize) -> String) -> Self {
        let size_64 = u64::try_from(size.max(1)).unwrap_or(u64::MAX);
        let last = usize::try_from(total.div_ceil(size_64)).unwrap_or(LAST_PAGE);
        let last = last.clamp(1, LAST_PAGE);
        let skipped = u64::try_from(number - 1).unwrap_or(u64::MAX).saturating_mul(size_64);
        Self {
            number,
            last,
            total,
            first_row: skipped.saturating_add(1).min(total),
            last_row: skipped.saturating_add(size_64).min(total),
            first_url: (number > 2).then(|| address(1)),
            before_url: (number > 1).then(|| address((number - 1).min(last))),
            after_url: (number < last).then(|| address(number + 1)),
            last_url: (number + 1 < last).then(|| address(last)),
        }
    }
}

/// The page number of a query, 1 by default.
///
/// # Errors
///
/// [`PageError::BadQuery`] unless it is a whole number from 1 to [`LAST_PAGE`].
pub fn page_number(text: Option<&str>) -> Result<usize, PageError> {
    let Some(text) = text else { return Ok(1) };
    text.parse()
        .ok()
        .filter(|n| (1..=LAST_PAGE).contains(n))
        .ok_or_else(|| PageError::BadQuery("page", "1-1000000".to_owned()))
}

/// The rows per page of a query.
///
/// # Errors
///
/// [`PageError::BadQuery`] unless it is a whole number from 1 to 100.
pub fn page_size(text: Option<&str>, usual: usize) -> Result<usize, PageError> {
    let Some(text) = text else { return Ok(usual) };
    text.parse()
        .ok()
        .filter(|n| (1..=100).contains(n))
        .ok_or_else(|| PageError::BadQuery("size", "1-100".to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_pager_knows_its_bounds() {
        let pager = |number, total| Pager::new(number, 25, total, |n| n.to_string());
        let first = pager(1, 51);
        assert_eq!((first.last, first.first_row, first.last_row), (3, 1, 25));
        assert_eq!(first.after_url.as_deref(), Some("2"));
        assert!(first.before_url.is_none());
        let beyond = pager(9, 51);
        assert_eq!(beyond.before_url.as_deref(), Some("3"));
        assert!(beyond.after_url.is_none());
        assert_eq!(pager(1, 0).last, 1);
    }

    #[test]
    fn page_numbers_are_bounded() {
        assert_eq!(page_number(None).unwrap(), 1);
        for bad in ["0", "-1", "1000001", "abc", ""] {
            assert!(page_number(Some(bad)).is_err(), "{bad}");
        }
        assert!(page_size(Some("101"), 25).is_err());
    }
}
