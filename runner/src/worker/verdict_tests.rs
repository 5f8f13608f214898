//! Verdicts: every way in which a handler ends, with every reason for which it may have been stopped.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use runner_core::clock::ManualClock;
use runner_core::task::{QueueName, Task, TaskId, TaskState};
use runner_sdk::Registry;
use runner_sdk::testing::TestQueue;

use super::*;

fn task(retried: u32, max_retry: u32) -> TaskRecord {
    TaskRecord {
        id: TaskId::new("id").unwrap(),
        kind: "a".into(),
        payload: Bytes::new(),
        queue: QueueName::default(),
        max_retry,
        retried,
        timeout: Duration::ZERO,
        deadline: None,
        retention: Duration::ZERO,
        unique_key: None,
        group: None,
        headers: BTreeMap::new(),
        last_error: String::new(),
        last_failed_at: None,
        completed_at: None,
    }
}

fn stopped(reason: Option<StopReason>) -> Stop {
    let stop = Stop::new();
    match reason {
        Some(StopReason::Ended) => stop.end("by me".into()),
        Some(reason) => stop.stop(reason),
        None => (),
    }
    stop
}

fn verdict(task: &TaskRecord, end: HandlerEnd, stop: &Stop) -> AttemptEnd {
    let clock = ManualClock::at(jiff::Timestamp::UNIX_EPOCH);
    verdict_of(task, end, stop, Backoff::Asynq, &clock)
}

/// The verdict as one word, with the outcome and the error.
fn in_words(end: AttemptEnd) -> (&'static str, AttemptOutcome, Option<String>) {
    let word = match &end.verdict {
        Verdict::Done => "done",
        Verdict::Retry {
            counts: true, error, ..
        } => {
            assert_eq!(Some(error), end.error.as_ref());
            "retry"
        }
        Verdict::Retry { .. } => "free retry",
        Verdict::Archive { error } => {
            assert_eq!(Some(error), end.error.as_ref());
            "archive"
        }
        Verdict::HandBack => "hand back",
        Verdict::Snooze { .. } => "snooze",
        Verdict::Revoke => "revoke",
    };
    (word, end.outcome, end.error)
}

const REASONS: [Option<StopReason>; 7] = [
    None,
    Some(StopReason::Cancelled),
    Some(StopReason::Ended),
    Some(StopReason::Deadline),
    Some(StopReason::Stalled),
    Some(StopReason::Shutdown),
    Some(StopReason::LeaseLost),
];

#[test]
fn a_success_and_a_revocation_count_whatever_stopped_the_handler() {
    for reason in REASONS {
        let result = Some(Bytes::from_static(b"42"));
        let end = HandlerEnd::Returned(Outcome::Success(result.clone()));
        let end = verdict(&task(0, 0), end, &stopped(reason));
        assert_eq!((&end.verdict, end.outcome), (&Verdict::Done, AttemptOutcome::Success));
        assert_eq!((end.result, end.error), (result, None), "{reason:?}");
        let end = HandlerEnd::Returned(Outcome::Revoke("why".into()));
        let end = in_words(verdict(&task(0, 0), end, &stopped(reason)));
        assert_eq!(
            end,
            ("revoke", AttemptOutcome::Revoked, Some("why".into())),
            "{reason:?}"
        );
    }
}

#[test]
fn a_failure_means_what_stopped_the_handler_and_otherwise_what_it_returned() {
    use AttemptOutcome::{Archived, Cancelled, Requeued, Retry};
    let failed = || HandlerEnd::Returned(Outcome::Skip("bad".into()));
    let expected = [
        (None, "archive", Archived, Some("bad")),
        (Some(StopReason::Cancelled), "retry", Cancelled, Some(CANCELED)),
        (Some(StopReason::Ended), "archive", Cancelled, Some("by me")),
        (
            Some(StopReason::Deadline),
            "retry",
            Retry,
            Some("context deadline exceeded: bad"),
        ),
        (
            Some(StopReason::Stalled),
            "retry",
            Retry,
            Some("stalled: no sign of life for as long as its handler allows: bad"),
        ),
        (Some(StopReason::Shutdown), "hand back", Requeued, None),
        (Some(StopReason::LeaseLost), "archive", Archived, Some("bad")),
    ];
    for (reason, word, outcome, error) in expected {
        let end = in_words(verdict(&task(0, 3), failed(), &stopped(reason)));
        assert_eq!(end, (word, outcome, error.map(str::to_owned)), "{reason:?}");
    }
}

#[test]
fn an_end_for_good_counts_also_when_the_handler_was_stopped_for_another_reason_before() {
    for first in [StopReason::Deadline, StopReason::Shutdown, StopReason::Cancelled] {
        let stop = stopped(Some(first));
        stop.end("by me".into());
        let end = in_words(verdict(&task(0, 3), HandlerEnd::Dropped, &stop));
        assert_eq!(
            end,
            ("archive", AttemptOutcome::Cancelled, Some("by me".into())),
            "{first:?}"
        );
    }
}

#[test]
fn without_retries_left_every_failure_archives_and_a_cancellation_stays_one() {
    let last = task(3, 3);
    let ends = [
        HandlerEnd::Returned(Outcome::Retry("bad".into())),
        HandlerEnd::Returned(Outcome::RetryAfter {
            after: Duration::from_secs(9),
            error: "bad".into(),
        }),
        HandlerEnd::Panicked("bad".into()),
        HandlerEnd::Dropped,
    ];
    for end in ends {
        assert_eq!(in_words(verdict(&last, end, &Stop::new())).0, "archive");
    }
    let stop = stopped(Some(StopReason::Cancelled));
    let end = in_words(verdict(&last, HandlerEnd::Dropped, &stop));
    assert_eq!(end, ("archive", AttemptOutcome::Cancelled, Some(CANCELED.into())));
}

#[test]
fn a_handler_that_did_not_return_says_why_in_its_error() {
    let error = |end| in_words(verdict(&task(0, 3), end, &Stop::new()));
    let retry = |text: &str| ("retry", AttemptOutcome::Retry, Some(text.to_owned()));
    assert_eq!(error(HandlerEnd::Panicked("oh".into())), retry("panic: oh"));
    assert_eq!(error(HandlerEnd::Dropped), retry("context deadline exceeded"));
    // Retrying cannot help a task whose deadline has passed, though it has retries left.
    let (word, outcome, text) = error(HandlerEnd::TooLate);
    assert_eq!((word, outcome), ("archive", AttemptOutcome::Archived));
    assert!(text.unwrap().contains("before it began"));
}

#[test]
fn delays_are_the_ones_that_were_stated_or_those_of_the_function() {
    let after = |outcome| match verdict(&task(0, 3), HandlerEnd::Returned(outcome), &Stop::new()).verdict {
        Verdict::Retry { after, .. } => after,
        Verdict::Snooze {
            delay,
            waiting_for: None,
        } => delay,
        verdict => panic!("{verdict:?}"),
    };
    let stated = |seconds| {
        after(Outcome::RetryAfter {
            after: Duration::from_secs(seconds),
            error: String::new(),
        })
    };
    assert_eq!((stated(9), stated(0)), (Duration::from_secs(9), Duration::from_secs(1)));
    let delay = Duration::from_secs(5);
    assert_eq!(after(Outcome::Snooze { delay }), delay);
    let first = after(Outcome::Retry(String::new()));
    assert_eq!(
        first,
        after(Outcome::Retry(String::new())),
        "the same task at the same instant"
    );
    assert!(first > Duration::ZERO);
}

/// The queue for tests of handlers is another implementation of what follows from an outcome.
#[tokio::test]
async fn the_queue_in_memory_comes_to_the_same_ends() {
    let minute = Duration::from_secs(60);
    let outcomes = [
        Outcome::done(),
        Outcome::Retry("bad".into()),
        Outcome::RetryAfter {
            after: minute,
            error: "bad".into(),
        },
        Outcome::Skip("bad".into()),
        Outcome::Snooze { delay: minute },
        Outcome::Revoke("not needed".into()),
    ];
    let start = jiff::Timestamp::UNIX_EPOCH;
    for (outcome, retries) in outcomes
        .into_iter()
        .flat_map(|outcome| [(outcome.clone(), 0), (outcome, 3)])
    {
        let returned = outcome.clone();
        let registry = Registry::new().on("a", move || std::future::ready(returned.clone()));
        let queue = TestQueue::at(start, registry).unwrap();
        let id = queue.enqueue(Task::new("a").retry(retries)).unwrap();
        queue.run_due().await;
        let found = queue.task(&id).map(|task| (task.state, task.due));
        let what = format!("{outcome:?}, {retries} retries");
        let end = verdict(&task(0, retries), HandlerEnd::Returned(outcome), &Stop::new());
        let expected = match end.verdict {
            Verdict::Done => Some((TaskState::Completed, None)),
            Verdict::Retry { after, .. } => {
                // Here without the random part.
                let due = found.and_then(|(_, due)| due).unwrap();
                assert!(due > start && due <= start + after, "{what}: {due}");
                Some((TaskState::Retry, Some(due)))
            }
            Verdict::Archive { .. } => Some((TaskState::Archived, None)),
            Verdict::HandBack => Some((TaskState::Pending, Some(start))),
            Verdict::Snooze { delay, .. } => Some((TaskState::Scheduled, Some(start + delay))),
            Verdict::Revoke => None,
        };
        assert_eq!(found, expected, "{what}");
    }
}
