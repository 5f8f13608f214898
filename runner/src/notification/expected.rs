//! What is not as expected: occurrences that were missed, tasks that do not start, attempts that take long. From what the
//! store says to notifications; asks nothing itself.

use std::time::Duration;

use jiff::Timestamp;
use runner_core::notification::{Notification, NotifyOn};
use runner_core::schedule::ScheduleId;
use runner_queue::{Decision, DecisionKind, Pause, RunRecord, Working};

use super::identity::joined;

/// How long something is still reported, for the time in which no instance was up.
const STILL_NEWS: Duration = Duration::from_secs(3600);

fn since(at: Timestamp, now: Timestamp) -> Option<Duration> {
    Duration::try_from(now.duration_since(at)).ok()
}

/// A decision that says that occurrences were missed: its notification, and what identifies it.
pub(super) fn missed(name: &str, decision: &Decision, now: Timestamp) -> Option<(Notification, String)> {
    let news = since(decision.decided_at, now).is_none_or(|age| age <= STILL_NEWS);
    if decision.kind != DecisionKind::Missed || !news {
        return None;
    }
    let count = decision.count.max(1);
    let title = match count {
        1 => format!("{name} was missed"),
        count => format!("{name} was missed {count} times"),
    };
    let mut notification = Notification::new("", NotifyOn::Missed, now, title);
    let (title, last, why) = (&notification.title, decision.nominal, &decision.reason);
    notification.text = format!("{title}, last at {last}: {why}\nschedule {}", decision.schedule);
    Some((notification, occurrence(decision)))
}

/// The occurrence of a decision whose task may be late: it was due for longer than `within`, and nothing is known of its end.
pub(super) fn may_be_late(decision: &Decision, within: Duration, now: Timestamp) -> bool {
    let late = since(decision.nominal, now).is_some_and(|age| age > within && age <= within + STILL_NEWS);
    decision.kind == DecisionKind::Fired && decision.end.is_none() && late
}

/// The notification of an occurrence whose task was enqueued only after it had to start, however it went on: every instance was
/// down, or the store could not be reached.
pub(super) fn enqueued_late(
    name: &str,
    decision: &Decision,
    within: Duration,
    now: Timestamp,
) -> Option<(Notification, String)> {
    let news = since(decision.decided_at, now).is_none_or(|age| age <= STILL_NEWS);
    let by = since(decision.nominal, decision.decided_at).filter(|by| *by > within)?;
    if decision.kind != DecisionKind::Fired || !news {
        return None;
    }
    let title = format!("{name} started late");
    let by = runner_core::duration::format(Duration::from_secs(by.as_secs()));
    let text = format!(
        "{title}: its task was enqueued {by} after {}, {} were allowed\nschedule {}",
        decision.nominal,
        runner_core::duration::format(within),
        decision.schedule
    );
    Some(of_occurrence(NotifyOn::Late, title, text, decision, now))
}

/// The notification of a task that has not started.
pub(super) fn late(name: &str, decision: &Decision, within: Duration, now: Timestamp) -> (Notification, String) {
    let within = runner_core::duration::format(within);
    let planned = decision.nominal;
    let text = format!(
        "{name} has not started within {within} of {planned}\nschedule {}",
        decision.schedule
    );
    of_occurrence(NotifyOn::Late, format!("{name} has not started"), text, decision, now)
}

fn of_occurrence(
    event: NotifyOn,
    title: String,
    text: String,
    decision: &Decision,
    now: Timestamp,
) -> (Notification, String) {
    let mut notification = Notification::new("", event, now, title);
    notification.text = text;
    notification.task = decision.task.as_ref().map(ToString::to_string);
    notification.queue = decision.queue.as_ref().map(ToString::to_string);
    (notification, occurrence(decision))
}

fn occurrence(decision: &Decision) -> String {
    joined([decision.schedule.as_str(), &decision.nominal.as_second().to_string()])
}

/// The notification of an attempt that takes longer than `most`.
pub(super) fn too_long(name: &str, run: &Working, most: Duration, now: Timestamp) -> Option<(Notification, String)> {
    let takes = since(run.started_at, now).filter(|takes| *takes > most)?;
    let title = format!("{name} takes longer than {}", runner_core::duration::format(most));
    let mut notification = Notification::new("", NotifyOn::TooLong, now, title);
    let (title, minutes) = (&notification.title, takes.as_secs() / 60);
    notification.text = format!(
        "{title}: {minutes} minutes so far, and it continues\ntask {} in queue {}",
        run.id, run.queue
    );
    notification.task = Some(run.id.to_string());
    notification.queue = Some(run.queue.to_string());
    let started = run.started_at.as_second().to_string();
    let what = joined([run.queue.as_str(), run.id.as_str(), &started]);
    Some((notification, what))
}

/// The notifications of runs that began sooner than `least` after the one before. Retries do not count: their delay is another one.
pub(super) fn too_often<'a>(
    name: &str,
    runs: &[&'a RunRecord],
    least: Duration,
    now: Timestamp,
) -> Vec<(Notification, String, &'a RunRecord)> {
    let mut firsts: Vec<&'a RunRecord> = runs.iter().filter(|run| run.attempt == 1).copied().collect();
    firsts.sort_by_key(|run| run.started_at);
    let pairs = firsts.windows(2).filter_map(|pair| match pair {
        [before, run] => Some((*before, *run)),
        _ => None,
    });
    let soon = pairs.filter(|(before, run)| {
        let news = since(run.started_at, now).is_none_or(|age| age <= STILL_NEWS);
        news && since(before.started_at, run.started_at).is_some_and(|apart| apart < least)
    });
    let made = soon.map(|(before, run)| {
        let title = format!("{name} ran again within {}", runner_core::duration::format(least));
        let mut notification = Notification::new("", NotifyOn::TooOften, now, title);
        notification.text = format!(
            "{}: at {:.0}, and before at {:.0}\ntask {} in queue {}",
            notification.title, run.started_at, before.started_at, run.task, run.queue
        );
        notification.task = Some(run.task.to_string());
        notification.queue = Some(run.queue.to_string());
        let started = run.started_at.as_millisecond().to_string();
        let what = joined([run.queue.as_str(), run.task.as_str(), &started]);
        (notification, what, run)
    });
    made.collect()
}

/// The notification of a schedule that is paused for longer than `most`.
pub(super) fn paused(
    (name, schedule): (&str, &ScheduleId),
    pause: &Pause,
    most: Duration,
    now: Timestamp,
) -> Option<(Notification, String)> {
    let at = pause.at.filter(|at| since(*at, now).is_some_and(|long| long > most))?;
    let title = format!(
        "{name} is paused for longer than {}",
        runner_core::duration::format(most)
    );
    let mut notification = Notification::new("", NotifyOn::Paused, now, title);
    notification.text = format!("{}: {pause}\nschedule {schedule}", notification.title);
    let what = joined([schedule.as_str(), &at.as_second().to_string()]);
    Some((notification, what))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use runner_core::task::{AttemptOutcome, QueueName, TaskId};

    use super::super::transitions::tests::run;
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn decision(kind: DecisionKind) -> Decision {
        Decision {
            schedule: ScheduleId::code("a"),
            nominal: at(1000),
            kind,
            reason: "too late".to_owned(),
            task: None,
            queue: None,
            end: None,
            count: 3,
            decided_at: at(5000),
            instance: String::new(),
        }
    }

    #[test]
    fn missed_occurrences_are_news_for_an_hour_after_the_decision() {
        let (notification, what) = missed("a", &decision(DecisionKind::Missed), at(5010)).unwrap();
        assert_eq!(
            (notification.title.as_str(), what.as_str()),
            ("a was missed 3 times", "code:a~1000")
        );
        assert!(missed("a", &decision(DecisionKind::Missed), at(8601)).is_none());
        assert!(missed("a", &decision(DecisionKind::Fired), at(5010)).is_none());
    }

    #[test]
    fn only_what_was_fired_and_has_not_ended_may_be_late() {
        let within = Duration::from_secs(60);
        let fired = decision(DecisionKind::Fired);
        assert!(!may_be_late(&fired, within, at(1060)));
        assert!(may_be_late(&fired, within, at(1061)));
        assert!(!may_be_late(&decision(DecisionKind::Skipped), within, at(1061)));
        assert_eq!(late("a", &fired, within, at(1061)).1, "code:a~1000");
    }

    #[test]
    fn what_was_enqueued_too_late_is_late_even_if_it_has_ended() {
        let fired = decision(DecisionKind::Fired);
        let within = Duration::from_secs(60);
        let (notification, what) = enqueued_late("a", &fired, within, at(5001)).unwrap();
        assert_eq!((notification.event, what.as_str()), (NotifyOn::Late, "code:a~1000"));
        assert!(notification.text.contains("1h6m40s after"), "{}", notification.text);
        assert!(enqueued_late("a", &fired, Duration::from_secs(4000), at(5001)).is_none());
        assert!(enqueued_late("a", &fired, within, at(8601)).is_none(), "old news");
        assert!(enqueued_late("a", &decision(DecisionKind::Skipped), within, at(5001)).is_none());
    }

    #[test]
    fn runs_that_begin_too_soon_are_reported_and_retries_are_not() {
        let retry = RunRecord {
            attempt: 2,
            ..run(105, AttemptOutcome::Retry)
        };
        let runs = [
            run(200, AttemptOutcome::Success),
            retry,
            run(100, AttemptOutcome::Success),
        ];
        let runs: Vec<&RunRecord> = runs.iter().collect();
        let found = |least| too_often("f", &runs, Duration::from_secs(least), at(300)).len();
        assert_eq!((found(100), found(101)), (0, 1));
        assert!(too_often("f", &runs, Duration::from_secs(101), at(3801)).is_empty());
    }

    #[test]
    fn a_pause_is_reported_by_its_beginning() {
        let pause = Pause {
            at: Some(at(100)),
            ..Pause::by("ann")
        };
        let schedule = ScheduleId::from_text("m:f:a");
        let found = |now| paused(("f", &schedule), &pause, Duration::from_secs(60), at(now));
        assert!(found(160).is_none());
        let (notification, what) = found(161).unwrap();
        assert_eq!(what, "m:f:a~100");
        assert!(notification.text.contains("by ann"), "{}", notification.text);
    }

    #[test]
    fn an_attempt_is_reported_while_it_continues() {
        let run = Working {
            id: TaskId::new("t").unwrap(),
            kind: "fn:a".to_owned(),
            queue: QueueName::default(),
            started_at: at(100),
            deadline: at(9999),
        };
        let most = Duration::from_secs(900);
        assert!(too_long("a", &run, most, at(1000)).is_none());
        let (notification, what) = too_long("a", &run, most, at(1001)).unwrap();
        assert!(notification.text.contains("15 minutes so far"), "{}", notification.text);
        assert_eq!(what, "default~t~100");
    }
}
