//! Clauses about the options of a task: what is refused, what is cut off, which defaults apply.
//!
//! They are asynq's, for both brokers, so that a task means the same wherever it waits.

use jiff::Timestamp;
use runner_core::task::{DEFAULT_TIMEOUT, InvalidTask, QueueName, Task, TaskId, TaskState};

use std::time::Duration;

use super::shared::{archive, id, retry, secs, task};
use super::{Clause, Fresh};
use crate::{MAX_ERROR_BYTES, Refusal, Verdict};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        spans_are_cut_to_whole_seconds,
        a_timeout_of_less_than_a_second_is_none_and_gets_no_default,
        a_deadline_alone_leaves_the_timeout_open_and_the_epoch_is_none,
        a_retention_of_less_than_a_second_keeps_nothing,
        what_is_blank_in_any_script_is_refused,
        a_lock_of_less_than_a_second_is_refused_and_one_of_a_second_is_not,
        an_error_of_any_length_is_kept_in_part_and_ends_between_characters,
    ]
}

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

async fn spans_are_cut_to_whole_seconds(fresh: Fresh) {
    let mut cut = task("a").timeout(millis(1_999)).retention(millis(2_999));
    cut.deadline = fresh.now().checked_add(millis(60_999)).ok();
    fresh.put([cut]).await;
    let claim = fresh.claim_one().await;
    let got = claim.task();
    assert_eq!((got.timeout, got.retention), (secs(1), secs(2)));
    assert_eq!(got.deadline, fresh.now().checked_add(secs(60)).ok());
    fresh.end(&claim, Verdict::Done).await;
    let kept = fresh.see("a").await.filed_at;
    assert_eq!(kept, fresh.now().checked_add(secs(2)).ok());
    fresh.is_sound().await;
}

async fn a_timeout_of_less_than_a_second_is_none_and_gets_no_default(fresh: Fresh) {
    fresh
        .put([task("a").timeout(millis(500)), task("b").timeout(secs(0))])
        .await;
    let limits = async |name: &str| fresh.see(name).await.record.timeout;
    assert_eq!(limits("a").await, secs(0));
    assert_eq!(limits("b").await, DEFAULT_TIMEOUT, "zero is as if it was not given");
    fresh.is_sound().await;
}

async fn a_deadline_alone_leaves_the_timeout_open_and_the_epoch_is_none(fresh: Fresh) {
    let until = |name: &str, deadline: Timestamp| {
        let mut task = task(name);
        task.deadline = Some(deadline);
        task
    };
    fresh
        .put([until("a", fresh.now()), until("b", Timestamp::UNIX_EPOCH)])
        .await;
    let (a, b) = (fresh.see("a").await.record, fresh.see("b").await.record);
    assert_eq!((a.timeout, a.deadline), (secs(0), Some(fresh.now())));
    assert_eq!((b.timeout, b.deadline), (DEFAULT_TIMEOUT, None));
    fresh.is_sound().await;
}

async fn a_retention_of_less_than_a_second_keeps_nothing(fresh: Fresh) {
    fresh.put([task("a").retention(millis(999))]).await;
    fresh.end(&fresh.claim_one().await, Verdict::Done).await;
    assert!(fresh.look("a").await.is_none());
    fresh.is_sound().await;
}

async fn what_is_blank_in_any_script_is_refused(fresh: Fresh) {
    // Blanks of Unicode: no-break, ideographic, line separator.
    for blank in ["", " ", "\t\n", "\u{a0}", "\u{3000}", "\u{2028}\u{205f}"] {
        assert!(
            QueueName::new(blank).is_err() && TaskId::new(blank).is_err(),
            "{blank:?}"
        );
        let untyped = fresh.try_put(Task::new(blank)).await;
        assert_eq!(untyped, Err(Refusal::Invalid(InvalidTask::BlankType)), "{blank:?}");
        let mut ungrouped = task("a");
        ungrouped.group = Some(blank.to_owned());
        let ungrouped = fresh.try_put(ungrouped).await;
        assert_eq!(ungrouped, Err(Refusal::Invalid(InvalidTask::BlankGroup)), "{blank:?}");
    }
    assert!(
        fresh.broker.queues().await.unwrap().is_empty(),
        "a refused task names no queue"
    );
    // A text that looks empty but is not white space is a name.
    fresh.put([Task::new("\u{200b}").id(id("\u{200b}"))]).await;
    fresh.is_sound().await;
}

async fn a_lock_of_less_than_a_second_is_refused_and_one_of_a_second_is_not(fresh: Fresh) {
    let short = fresh.try_put(task("a").unique(millis(999))).await;
    assert_eq!(short, Err(Refusal::Invalid(InvalidTask::UniqueTooShort(millis(999)))));
    assert!(fresh.try_put(task("a").unique(secs(1))).await.is_ok());
    fresh.is_sound().await;
}

async fn an_error_of_any_length_is_kept_in_part_and_ends_between_characters(fresh: Fresh) {
    // Three bytes each, so that the bound falls into one.
    let long = "\u{20ac}".repeat(MAX_ERROR_BYTES);
    fresh.put([task("a"), task("b")]).await;
    fresh.end(&fresh.claim_one().await, retry(1, &long)).await;
    fresh.end(&fresh.claim_one().await, archive(&long)).await;
    for name in ["a", "b"] {
        let kept = fresh.see(name).await.record.last_error;
        assert!(long.starts_with(&kept), "{name}");
        assert!(
            kept.len() <= MAX_ERROR_BYTES && kept.len() + 3 > MAX_ERROR_BYTES,
            "{}",
            kept.len()
        );
    }
    assert_eq!(fresh.state("b").await, Some(TaskState::Archived));
    fresh.is_sound().await;
}
