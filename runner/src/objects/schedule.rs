//! A schedule as an object: what defines it, its pause, its next and last occurrences; also one that cannot be read, and an
//! entry of a Go scheduler. The decisions about its occurrences.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use runner_core::schedule::{Definition, Plan};
use runner_queue::{Decision, ForeignEntry, Pause, Standing};
use serde::Serialize;
use serde_json::Value;

use super::reason::word;
use super::{JsonField, ProblemObject, ReasonObject, WrittenInstant, instant, payload};
use crate::source::{LAST_GOOD, Rejected};

/// A schedule. Of one that cannot be read little is known, and its problems say why.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "web", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "web", schema(as = Schedule))]
pub struct ScheduleObject {
    /// `m:<function>:<schedule>`, `db:<row>`, `code:<name>`; of a Go scheduler's entry what that calls it.
    pub id: Option<String>,
    /// For people.
    pub name: String,
    /// For people; may be empty.
    pub description: String,
    /// `manifest`, `table`, `code` or `go`.
    pub source: String,
    /// The file, the row, or the scheduler.
    pub origin: String,
    /// When it occurs: a cron expression or `@every …`.
    pub spec: Option<String>,
    /// The zone that it is in.
    pub timezone: Option<String>,
    /// The type of its tasks.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Their queue.
    pub queue: Option<String>,
    /// What is done while a run of it has not ended: `skip`, `allow` or `queue`.
    pub overlap: Option<String>,
    /// Whether its definition enables it.
    pub enabled: bool,
    /// Whether it is paused.
    pub paused: bool,
    /// Since when, by whom, until when and why, in words.
    pub paused_by: Option<String>,
    /// The next occurrences that will be decided.
    pub next: Vec<WrittenInstant>,
    /// The last occurrence that was enqueued.
    pub last: Option<FiredObject>,
    /// The last run by hand, if it is newer than that.
    pub last_by_hand: Option<ByHandObject>,
    /// What is wrong with it.
    pub problems: Vec<ProblemObject>,
    /// The payload of its tasks.
    pub payload: JsonField,
    /// Options of an entry of a Go scheduler, as asynq writes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "web", schema(nullable = false))]
    pub options: Option<Vec<String>>,
}

/// An occurrence that was enqueued.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "web", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "web", schema(as = FiredOccurrence))]
pub struct FiredObject {
    /// Its planned instant.
    pub nominal: WrittenInstant,
    /// Its task.
    pub task: Option<String>,
}

/// A run by hand.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "web", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "web", schema(as = RunByHand))]
pub struct ByHandObject {
    /// When.
    pub at: WrittenInstant,
    /// Its task.
    pub task: Option<String>,
    /// By whom.
    pub by: String,
}

/// A schedule, its state in a word, and why it does not fire.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "web", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "web", schema(as = ScheduleDetails))]
pub struct ScheduleDetailsObject {
    /// The schedule.
    #[serde(flatten)]
    pub schedule: ScheduleObject,
    /// `on`, `warned`, `last good`, `paused`, `disabled`, `broken` or `go`.
    pub state: String,
    /// Why it does not fire, or its last task does not run; most important first.
    pub reasons: Vec<ReasonObject>,
}

/// The decision about an occurrence, or a run by hand.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "web", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "web", schema(as = Decision))]
pub struct DecisionObject {
    /// The schedule.
    pub schedule: String,
    /// The planned instant; of several occurrences the newest one.
    pub nominal: WrittenInstant,
    /// `fired`, `skipped`, `missed`, `paused`, `manual` or `corrected`.
    pub decision: String,
    /// How many occurrences it covers.
    pub count: u32,
    /// Why, in a word or a sentence.
    pub reason: String,
    /// The task that was enqueued, or that blocked it.
    pub task: Option<String>,
    /// Its queue.
    pub queue: Option<String>,
    /// When it was decided.
    pub decided_at: WrittenInstant,
    /// By whom.
    pub instance: String,
    /// How the enqueued task ended, if it has.
    pub outcome: Option<String>,
    /// When its last attempt began.
    pub started_at: Option<WrittenInstant>,
    /// When that ended.
    pub ended_at: Option<WrittenInstant>,
}

/// What is known of a schedule besides its definition.
#[derive(Debug, Clone, Copy, Default)]
pub struct ScheduleFactsNow<'a> {
    /// Its state in the broker.
    pub standing: Option<&'a Standing>,
    /// The last run by hand, if it is newer than the last fire.
    pub by_hand: Option<&'a Decision>,
}

impl ScheduleObject {
    /// One in force, with this number of future occurrences. Its instants have the offset of its own zone.
    #[must_use]
    pub fn of(plan: &Plan, d: &Definition, facts: ScheduleFactsNow<'_>, now: Timestamp, next: usize) -> Self {
        let zone = &d.timing.zone;
        let standing = facts.standing;
        let coming = match standing {
            Some(standing) => standing.upcoming(&d.timing, now, next),
            None => d.timing.upcoming(now, next),
        };
        let paused = standing.and_then(|standing| standing.paused.as_ref());
        let last = standing.and_then(|standing| standing.last.as_ref());
        let of_task = d.task.payload.as_ref();
        Self {
            id: Some(d.id.to_string()),
            name: d.name.clone(),
            description: d.description.clone(),
            source: word(&d.origin.source),
            origin: d.origin.place.clone(),
            spec: Some(d.timing.text.clone()),
            timezone: Some(d.timing.zone_name.clone()),
            kind: Some(d.task.kind.clone()),
            queue: Some(d.task.queue.to_string()),
            overlap: Some(word(&d.overlap)),
            enabled: d.enabled,
            paused: paused.is_some(),
            paused_by: paused.map(|pause| pause_words(pause, zone)),
            next: coming.into_iter().map(|at| WrittenInstant::of(at, zone)).collect(),
            last: last.map(|(at, task)| FiredObject {
                nominal: WrittenInstant::of(*at, zone),
                task: Some(task.to_string()),
            }),
            last_by_hand: facts.by_hand.map(|run| ByHandObject {
                at: WrittenInstant::of(run.nominal, zone),
                task: run.task.as_ref().map(ToString::to_string),
                by: run.instance.clone(),
            }),
            problems: plan.problems_of(&d.id).map(ProblemObject::of).collect(),
            payload: of_task.map_or(JsonField::Value(Value::Null), payload),
            options: None,
        }
    }

    /// One that cannot be read.
    #[must_use]
    pub fn rejected(rejected: &Rejected) -> Self {
        Self {
            id: rejected.id.as_ref().map(ToString::to_string),
            name: rejected.name.clone(),
            description: String::new(),
            source: word(&rejected.origin.source),
            origin: rejected.origin.place.clone(),
            spec: None,
            timezone: None,
            kind: None,
            queue: None,
            overlap: None,
            enabled: false,
            paused: false,
            paused_by: None,
            next: Vec::new(),
            last: None,
            last_by_hand: None,
            problems: rejected.problems.iter().map(ProblemObject::of).collect(),
            payload: JsonField::Value(Value::Null),
            options: None,
        }
    }

    /// An entry of a Go scheduler.
    #[must_use]
    pub fn foreign(entry: &ForeignEntry, zone: &TimeZone) -> Self {
        Self {
            id: Some(entry.id.to_string()),
            name: String::new(),
            description: String::new(),
            source: "go".to_owned(),
            origin: entry.scheduler.clone(),
            spec: Some(entry.spec.clone()),
            timezone: Some(entry.zone.clone()),
            kind: Some(entry.kind.clone()),
            queue: Some(entry.queue().to_owned()),
            overlap: None,
            enabled: true,
            paused: false,
            paused_by: None,
            next: entry.next.into_iter().map(|at| WrittenInstant::of(at, zone)).collect(),
            last: entry.last.map(|at| FiredObject {
                nominal: WrittenInstant::of(at, zone),
                task: None,
            }),
            last_by_hand: None,
            problems: Vec::new(),
            payload: payload(&entry.payload),
            options: Some(entry.options.clone()),
        }
    }
}

impl DecisionObject {
    /// From what is on record.
    #[must_use]
    pub fn of(decision: &Decision, zone: &TimeZone) -> Self {
        let end = decision.end.as_ref();
        Self {
            schedule: decision.schedule.to_string(),
            nominal: WrittenInstant::of(decision.nominal, zone),
            decision: decision.kind.as_str().to_owned(),
            count: decision.count,
            reason: decision.reason.clone(),
            task: decision.task.as_ref().map(ToString::to_string),
            queue: decision.queue.as_ref().map(ToString::to_string),
            decided_at: WrittenInstant::of(decision.decided_at, zone),
            instance: decision.instance.clone(),
            outcome: end.map(|end| word(&end.outcome)),
            started_at: end.map(|end| WrittenInstant::of(end.started_at, zone)),
            ended_at: end.map(|end| WrittenInstant::of(end.ended_at, zone)),
        }
    }
}

/// Whether it is in force, in a word or two.
#[must_use]
pub fn schedule_state(plan: &Plan, d: &Definition, standing: Option<&Standing>) -> &'static str {
    match (d.enabled, standing.is_some_and(|s| s.paused.is_some())) {
        (false, _) => "disabled",
        (true, true) => "paused",
        (true, false) if plan.problems_of(&d.id).any(|p| p.code == LAST_GOOD) => "last good",
        (true, false) if plan.problems_of(&d.id).next().is_some() => "warned",
        (true, false) => "on",
    }
}

/// Since when it is paused, by whom, until when and why.
#[must_use]
pub fn pause_words(pause: &Pause, zone: &TimeZone) -> String {
    let at = |at| instant(at, zone);
    let since = pause
        .at
        .map_or_else(String::new, |since| format!("since {} ", at(since)));
    let until = pause
        .until
        .map_or_else(String::new, |until| format!(", until {}", at(until)));
    let note = pause
        .note
        .as_deref()
        .map_or_else(String::new, |note| format!(": {note}"));
    format!("{since}by {}{until}{note}", pause.by)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use runner_core::cron::DstRule;
    use runner_core::schedule::{Origin, ScheduleId, Timing};
    use runner_core::task::Task;

    use super::*;

    /// A name that a definition has for people must be in the object for programs, with the same value.
    #[test]
    fn the_object_says_what_the_definition_says() {
        let zone = TimeZone::fixed(jiff::tz::offset(8));
        let timing = Timing::parse("a", "0 2 * * *", "UTC", &zone, DstRule::default()).unwrap();
        let d = Definition::new(
            ScheduleId::code("a"),
            "a name",
            Origin::code(),
            timing,
            Task::new("task:a"),
        );
        let facts = ScheduleFactsNow::default();
        let object = ScheduleObject::of(&Plan::default(), &d, facts, Timestamp::UNIX_EPOCH, 2);
        let object = serde_json::to_value(object).unwrap();
        for (name, value) in d.pairs() {
            assert_eq!(object[name], value, "{name}");
        }
        assert_eq!(object["next"][0], "1970-01-02T02:00:00+08:00");
    }
}
