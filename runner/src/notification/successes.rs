//! How long ago a function last succeeded: reported once when that is longer than expected, and once when it succeeds again. From what
//! is known to notifications; asks nothing itself.
//!
//! What is known outlives the process: records of runs go, and a report must not be repeated by the next start.

use std::time::Duration;

use jiff::Timestamp;
use runner_core::notification::{Notification, NotifyOn};
use runner_core::task::AttemptOutcome;
use runner_queue::RunRecord;
use serde::{Deserialize, Serialize};

use super::identity::joined;

/// The part of the expected time after which a later success is written down.
const WRITE_AFTER: u32 = 10;

/// What is known of the successes of a function, or of one of its schedules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SuccessState {
    /// Since when it is expected to succeed.
    since: Timestamp,
    /// The last success.
    last: Option<Timestamp>,
    /// The instant since which no success was seen, when that was reported.
    overdue: Option<Timestamp>,
}

/// What a look has found.
pub(super) struct SuccessLook {
    /// What is known from now on.
    pub(super) state: SuccessState,
    /// The notifications, each with what identifies it.
    pub(super) found: Vec<(Notification, String)>,
}

impl SuccessState {
    /// Of what is expected from now on.
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            since: now,
            last: None,
            overdue: None,
        }
    }

    fn base(&self) -> Timestamp {
        self.last.unwrap_or(self.since)
    }

    /// Whether this should be written down, after `stored` was. Not each success: a function may run each second.
    pub(super) fn is_news(&self, stored: Option<&Self>, within: Duration) -> bool {
        let Some(stored) = stored else { return true };
        let later = Duration::try_from(self.base().duration_since(stored.base())).unwrap_or_default();
        self.overdue != stored.overdue || later > within / WRITE_AFTER
    }

    /// Looks at runs. `line`: the name of the schedule if it is about one, else empty.
    pub(super) fn look(
        &self,
        (name, line): (&str, &str),
        runs: &[&RunRecord],
        within: Duration,
        now: Timestamp,
    ) -> SuccessLook {
        let good = runs.iter().filter(|run| run.outcome == AttemptOutcome::Success);
        let newest = good.max_by_key(|run| run.ended_at);
        let mut state = self.clone();
        state.last = state.last.max(newest.map(|run| run.ended_at));
        let base = state.base();
        let what = |base: Timestamp| joined([name, line, &base.as_millisecond().to_string()]);
        let mut found = Vec::new();
        if let Some(overdue) = self.overdue.filter(|overdue| base > *overdue) {
            // Failures for good have recoveries as well.
            let what = joined(["success", &what(overdue)]);
            found.push((again(name, overdue, newest, now), what));
            state.overdue = None;
        }
        let silent = Duration::try_from(now.duration_since(base)).unwrap_or_default();
        // Reported before: what reported it has been written down since.
        if silent > within && self.overdue != Some(base) {
            found.push((missing(name, state.last, within, now), what(base)));
            state.overdue = Some(base);
        }
        SuccessLook { state, found }
    }
}

fn missing(name: &str, last: Option<Timestamp>, within: Duration, now: Timestamp) -> Notification {
    let within = runner_core::duration::format(within);
    let title = format!("{name} has not succeeded within {within}");
    let mut notification = Notification::new("", NotifyOn::Overdue, now, title);
    let last = last.map_or_else(
        || "no success is known".to_owned(),
        |at| format!("last success at {at:.0}"),
    );
    notification.text = format!("{}: {last}", notification.title);
    notification
}

fn again(name: &str, since: Timestamp, run: Option<&&RunRecord>, now: Timestamp) -> Notification {
    let mut notification = Notification::new("", NotifyOn::Recovery, now, format!("{name} succeeds again"));
    notification.text = format!("{}: it had not since {since:.0}", notification.title);
    if let Some(run) = run {
        notification.task = Some(run.task.to_string());
        notification.queue = Some(run.queue.to_string());
        notification.text = format!("{}\ntask {} in queue {}", notification.text, run.task, run.queue);
    }
    notification
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::transitions::tests::run;
    use super::*;

    const WITHIN: Duration = Duration::from_secs(100);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn look(state: &SuccessState, runs: &[RunRecord], now: i64) -> (SuccessState, Vec<(NotifyOn, String)>) {
        let runs: Vec<&RunRecord> = runs.iter().collect();
        let SuccessLook { state, found } = state.look(("f", ""), &runs, WITHIN, at(now));
        (state, found.into_iter().map(|(one, what)| (one.event, what)).collect())
    }

    #[test]
    fn silence_is_reported_once_and_so_is_its_end() {
        let state = SuccessState::new(at(0));
        assert_eq!(look(&state, &[], 100).1, []);
        let (state, found) = look(&state, &[run(50, AttemptOutcome::Archived)], 101);
        assert_eq!(found, [(NotifyOn::Overdue, "f~~0".to_owned())]);
        let (state, found) = look(&state, &[], 500);
        assert_eq!(found, [], "once");
        let (state, found) = look(&state, &[run(600, AttemptOutcome::Success)], 601);
        assert_eq!(found, [(NotifyOn::Recovery, "success~f=t=t0".to_owned())]);
        assert_eq!(look(&state, &[run(600, AttemptOutcome::Success)], 700).1, []);
        let found = look(&state, &[run(600, AttemptOutcome::Success)], 701).1;
        assert_eq!(found, [(NotifyOn::Overdue, "f~~600000".to_owned())]);
    }

    #[test]
    fn a_success_counts_when_its_record_is_gone_and_after_a_restart() {
        let (state, _) = look(&SuccessState::new(at(0)), &[run(90, AttemptOutcome::Success)], 91);
        let kept = serde_json::to_vec(&state).unwrap();
        let state: SuccessState = serde_json::from_slice(&kept).unwrap();
        assert_eq!(look(&state, &[run(150, AttemptOutcome::Archived)], 190).1, []);
        assert_eq!(look(&state, &[], 191).1.len(), 1);
    }

    #[test]
    fn a_function_that_runs_often_is_not_written_down_each_time() {
        let (stored, _) = look(&SuccessState::new(at(0)), &[run(50, AttemptOutcome::Success)], 51);
        let (later, _) = look(&stored, &[run(60, AttemptOutcome::Success)], 61);
        assert!(later.is_news(None, WITHIN) && !later.is_news(Some(&stored), WITHIN));
        let (later, _) = look(&later, &[run(61, AttemptOutcome::Success)], 62);
        assert!(later.is_news(Some(&stored), WITHIN));
        let (silent, _) = look(&stored, &[], 300);
        assert!(silent.is_news(Some(&stored), WITHIN));
    }
}
