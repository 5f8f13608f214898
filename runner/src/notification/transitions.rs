//! What the last runs of a function say: a first failure, a recovery. Pure.

use std::time::Duration;

use jiff::Timestamp;
use runner_core::notification::NotifyOn;
use runner_core::schedule::ScheduleId;
use runner_core::task::AttemptOutcome;
use runner_queue::RunRecord;

use super::identity::joined;

/// How long after a run it is still reported, for the time in which no instance was up.
const STILL_NEWS: Duration = Duration::from_secs(3600);

/// What a run was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Went {
    Well,
    /// It failed, and is tried again.
    Trying,
    Badly,
}

fn went(run: &RunRecord) -> Option<Went> {
    match run.outcome {
        AttemptOutcome::Success => Some(Went::Well),
        AttemptOutcome::Retry => Some(Went::Trying),
        AttemptOutcome::Lost if run.retry_left => Some(Went::Trying),
        AttemptOutcome::Archived | AttemptOutcome::Lost => Some(Went::Badly),
        // They say nothing about the function.
        AttemptOutcome::Cancelled
        | AttemptOutcome::Snoozed
        | AttemptOutcome::Revoked
        | AttemptOutcome::Requeued
        | AttemptOutcome::NoHandler
        | AttemptOutcome::Unknown => None,
    }
}

/// A run that is worth a notification.
#[derive(Debug)]
pub(super) struct Transition<'a> {
    pub(super) on: NotifyOn,
    pub(super) run: &'a RunRecord,
    /// Identifies the failure: of a recovery the one that is over.
    pub(super) failure: String,
    /// A recovery from attempts that failed before this one of the same task, and not from a failure for good.
    pub(super) retried: bool,
}

/// Identifies a run that failed; a task that an operator runs again may fail again.
fn failure_of(run: &RunRecord) -> String {
    let ended = run.ended_at.as_millisecond().to_string();
    joined([run.queue.as_str(), run.task.as_str(), &ended])
}

/// The failure in which a function is now; `runs` are newest first.
pub(super) fn present_failure(runs: &[&RunRecord]) -> Option<String> {
    let newest = runs.iter().find_map(|run| Some((went(run)?, *run)));
    newest
        .filter(|(how, _)| *how == Went::Badly)
        .map(|(_, run)| failure_of(run))
}

/// The lines of runs in which one follows another: of each schedule, together with those of no schedule. A function that one schedule
/// runs well and another one badly must not recover from the failures of the other.
pub(super) fn lines(runs: &[RunRecord]) -> Vec<(Option<&ScheduleId>, Vec<&RunRecord>)> {
    let mut schedules: Vec<Option<&ScheduleId>> = runs.iter().map(|run| run.schedule.as_ref()).collect();
    schedules.sort_unstable();
    schedules.dedup();
    if schedules.len() > 1 {
        schedules.retain(Option::is_some);
    }
    let line = |schedule: Option<&ScheduleId>| {
        let own = |run: &&RunRecord| run.schedule.is_none() || run.schedule.as_ref() == schedule;
        runs.iter().filter(own).collect()
    };
    schedules
        .into_iter()
        .map(|schedule| (schedule, line(schedule)))
        .collect()
}

/// What the runs of a line, newest first, say. `whole`: nothing ran before them. `failure`: the one in which it was at the last
/// look; of a function that runs very often its record may be gone.
pub(super) fn transitions<'a>(
    runs: &[&'a RunRecord],
    whole: bool,
    failure: Option<&str>,
    now: Timestamp,
) -> Vec<Transition<'a>> {
    let decisive: Vec<(Went, &'a RunRecord)> = runs.iter().filter_map(|run| Some((went(run)?, *run))).collect();
    let mut found = Vec::new();
    for (place, (how, run)) in decisive.iter().enumerate() {
        let age = now.duration_since(run.ended_at);
        if Duration::try_from(age).is_ok_and(|age| age > STILL_NEWS) {
            continue;
        }
        let transition = |on, failure, retried| Transition {
            on,
            run,
            failure,
            retried,
        };
        match (how, decisive.get(place + 1)) {
            (Went::Well, Some((Went::Badly, before))) => {
                found.push(transition(NotifyOn::Recovery, failure_of(before), false));
            }
            // Its record takes the place of those of the attempts that failed.
            (Went::Well, before) if run.attempt > 1 && failure.is_none() && succeeded(before, whole) => {
                found.push(transition(NotifyOn::Recovery, failure_of(run), true));
            }
            // The later attempts at a task follow one that failed.
            (Went::Trying, before) if run.attempt == 1 && succeeded(before, whole) => {
                found.push(transition(NotifyOn::FirstFailure, failure_of(run), false));
            }
            _ => {}
        }
    }
    let all_well = !decisive.is_empty() && decisive.iter().all(|(how, _)| *how == Went::Well);
    if let (true, Some(failure), Some((_, run))) = (all_well, failure, decisive.last()) {
        found.push(Transition {
            on: NotifyOn::Recovery,
            run,
            failure: failure.to_owned(),
            retried: false,
        });
    }
    found
}

/// Whether the run before was a success, or there was none.
fn succeeded(before: Option<&(Went, &RunRecord)>, whole: bool) -> bool {
    before.map_or(whole, |(how, _)| *how == Went::Well)
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use runner_core::task::{QueueName, TaskId};
    use runner_queue::Trigger;

    use super::*;

    /// A run of this second.
    pub(in super::super) fn run(n: i64, outcome: AttemptOutcome) -> RunRecord {
        let at = Timestamp::from_second(n).unwrap();
        RunRecord {
            task: TaskId::new(format!("t{n}")).unwrap(),
            queue: QueueName::default(),
            function: "f".to_owned(),
            schedule: None,
            trigger: Trigger::Enqueue,
            planned: None,
            attempt: 1,
            started_at: at,
            ended_at: at,
            outcome,
            worker: String::new(),
            trace: None,
            error: None,
            output: None,
            event: None,
            output_cut: false,
            retry_left: false,
        }
    }

    /// What is found in runs in the order in which they happened.
    fn found(outcomes: &[AttemptOutcome]) -> Vec<(NotifyOn, String)> {
        let runs = outcomes.iter().enumerate();
        let mut runs: Vec<RunRecord> = runs.map(|(n, outcome)| run(n as i64, *outcome)).collect();
        runs.reverse();
        let now = Timestamp::from_second(100).unwrap();
        let runs: Vec<&RunRecord> = runs.iter().collect();
        let found = transitions(&runs, true, None, now).into_iter();
        found.map(|found| (found.on, found.run.task.to_string())).collect()
    }

    #[test]
    fn a_recovery_follows_a_failure_for_good_whatever_is_in_between() {
        use AttemptOutcome::{Archived, Cancelled, Lost, Success};
        assert_eq!(
            found(&[Archived, Success, Success]),
            [(NotifyOn::Recovery, "t1".to_owned())]
        );
        assert_eq!(
            found(&[Lost, Cancelled, Success]),
            [(NotifyOn::Recovery, "t2".to_owned())]
        );
        assert_eq!(found(&[Success, Success]), []);
        assert_eq!(found(&[Archived, Archived]), []);
    }

    #[test]
    fn a_lost_attempt_whose_task_is_tried_again_is_no_failure_for_good() {
        let lost = RunRecord {
            retry_left: true,
            ..run(1, AttemptOutcome::Lost)
        };
        assert_eq!(present_failure(&[&lost]), None);
        let good = run(2, AttemptOutcome::Success);
        let runs = [&good, &lost];
        let now = Timestamp::from_second(10).unwrap();
        let on: Vec<NotifyOn> = transitions(&runs, true, None, now).iter().map(|t| t.on).collect();
        assert_eq!(on, [NotifyOn::FirstFailure]);
    }

    #[test]
    fn a_first_failure_follows_a_success_or_nothing() {
        use AttemptOutcome::{Archived, Retry, Success};
        assert_eq!(found(&[Retry]), [(NotifyOn::FirstFailure, "t0".to_owned())]);
        assert_eq!(found(&[Success, Retry]), [(NotifyOn::FirstFailure, "t1".to_owned())]);
        assert_eq!(found(&[Archived, Retry]), []);
        assert_eq!(found(&[Retry, Retry]).len(), 1);
    }

    #[test]
    fn of_a_task_with_a_reused_id_each_first_failure_is_another_one() {
        let (mut one, mut other) = (run(1, AttemptOutcome::Retry), run(60, AttemptOutcome::Retry));
        other.task = one.task.clone();
        let id = |run: &RunRecord| {
            let all = transitions(&[run], true, None, Timestamp::from_second(100).unwrap());
            all.first().map(|found| found.failure.clone())
        };
        assert_ne!(id(&one), id(&other));
        one.attempt = 2;
        assert_eq!(id(&one), None, "the attempt before has failed");
    }

    #[test]
    fn nothing_is_known_of_what_was_before_runs_that_are_cut_off() {
        let one = run(1, AttemptOutcome::Retry);
        let (runs, now) = ([&one], Timestamp::from_second(10).unwrap());
        assert_eq!(transitions(&runs, true, None, now).len(), 1);
        assert_eq!(transitions(&runs, false, None, now).len(), 0);
    }

    #[test]
    fn a_success_after_attempts_that_failed_is_a_recovery_of_its_own_kind() {
        let good = RunRecord {
            attempt: 2,
            ..run(2, AttemptOutcome::Success)
        };
        let (before, now) = (run(1, AttemptOutcome::Success), Timestamp::from_second(10).unwrap());
        let [found] = transitions(&[&good, &before], true, None, now).try_into().unwrap();
        assert!(found.on == NotifyOn::Recovery && found.retried);
        let failure = transitions(&[&good, &before], true, Some("x"), now);
        assert!(failure.iter().all(|found| !found.retried), "that one is over as well");
        assert!(transitions(&[&good], false, None, now).is_empty());
    }

    #[test]
    fn schedules_of_one_function_do_not_recover_from_the_failures_of_each_other() {
        use AttemptOutcome::{Archived, Success};
        let of = |n, outcome, schedule: Option<&str>| RunRecord {
            schedule: schedule.map(ScheduleId::from_text),
            ..run(n, outcome)
        };
        let now = Timestamp::from_second(10).unwrap();
        let count = |runs: &[RunRecord]| {
            let all = lines(runs);
            let found = all.iter().flat_map(|(_, line)| transitions(line, true, None, now));
            found
                .map(|found| found.failure)
                .collect::<std::collections::BTreeSet<_>>()
                .len()
        };
        let (nightly, hourly) = (Some("m:f:nightly"), Some("m:f:hourly"));
        let two = [of(3, Success, hourly), of(2, Archived, nightly), of(1, Success, hourly)];
        assert_eq!(count(&two), 0);
        let own = [
            of(3, Success, nightly),
            of(2, Success, hourly),
            of(1, Archived, nightly),
        ];
        assert_eq!(count(&own), 1);
        let by_hand = [of(3, Success, None), of(2, Archived, nightly), of(1, Success, hourly)];
        assert_eq!(count(&by_hand), 1, "a person made it run");
        assert_eq!(count(&[of(2, Success, None), of(1, Archived, None)]), 1);
    }

    #[test]
    fn what_happened_long_ago_is_no_news() {
        let one = run(10, AttemptOutcome::Retry);
        let runs = [&one];
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        assert_eq!(transitions(&runs, true, None, at(3610)).len(), 1);
        assert_eq!(transitions(&runs, true, None, at(3611)).len(), 0);
    }

    #[test]
    fn a_recovery_is_known_by_the_failure_that_is_over_even_if_its_record_is_gone() {
        use AttemptOutcome::{Archived, Success};
        let (bad, good) = (run(1, Archived), run(2, Success));
        let now = Timestamp::from_second(10).unwrap();
        let failure = present_failure(&[&bad]).unwrap();
        let both = [&good, &bad];
        assert_eq!(transitions(&both, true, Some(&failure), now).len(), 1);
        assert_eq!(transitions(&both, true, None, now)[0].failure, failure);
        let rest = [&good];
        assert_eq!(transitions(&rest, true, Some(&failure), now)[0].failure, failure);
        assert_eq!(
            (transitions(&rest, true, None, now).len(), present_failure(&rest)),
            (0, None)
        );
    }
}
