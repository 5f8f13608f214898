//! The pitfalls of asynq's format: for each, the tests that show that we avoid it.
//!
//! A pitfall is something that a reader of the format gets wrong once. The table names tests by their functions,
//! wherever they are; tests without a better place are here. Not here: the content of Redis after each operation
//! (`golden`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use redis::aio::MultiplexedConnection;
use runner_core::clock::ManualClock;
use runner_core::task::{QueueName, Run, Task, TaskId, TaskState};
use runner_queue::contract::START;
use runner_queue::redis::{RedisBroker, RedisSettings};
use runner_queue::{
    Claim, Claims as _, InspectQueues as _, InspectTasks as _, Page, Producer as _, Settled, Settlement, Upkeep as _,
    Verdict,
};

use crate::kit::{self, RedisDb};
use crate::tidy::text::{files, read};

/// The pitfall, and the tests that show that we avoid it.
const TRAPS: [(&str, &[&str]); 25] = [
    (
        "new ids come in on the left and go out on the right; what is handed back comes in on the right",
        &[
            "tasks_are_claimed_in_the_order_they_were_enqueued",
            "a_task_handed_back_is_next_and_unchanged",
            "requeue",
        ],
    ),
    (
        "an id without a hash stays active forever",
        &[
            "a_ghost_is_dropped_and_its_neighbours_are_claimed",
            "damage_is_found_and_repaired",
        ],
    ),
    (
        "a message that cannot be decoded stops the recovery of all others",
        &[
            "an_unreadable_task_is_archived_and_its_neighbours_are_claimed",
            "an_unreadable_task_does_not_stop_the_recovery_of_others",
            "an_error_of_any_length_is_kept_in_part_and_ends_between_characters",
        ],
    ),
    (
        "pending_since counts nanoseconds, all else whole seconds; spans are cut off, instants rounded down",
        &[
            "spans_are_cut_to_whole_seconds",
            "enqueue",
            "halves_joined_are_the_message_that_go_would_write",
        ],
    ),
    (
        "no timeout and no deadline is read as half an hour",
        &[
            "a_task_without_limits_gets_thirty_minutes",
            "a_timeout_of_less_than_a_second_is_none_and_gets_no_default",
            "a_deadline_alone_leaves_the_timeout_open_and_the_epoch_is_none",
        ],
    ),
    (
        "never is the year 1, not 1970",
        &["an_instant_lies_as_go_writes_it", "scheduler_state"],
    ),
    (
        "no payload and an empty payload have different locks",
        &["a_missing_payload_leaves_the_hash_out_and_an_empty_one_does_not"],
    ),
    (
        "the lock of a delayed task lives for the delay, too, less what has passed",
        &[
            "the_lock_of_a_delayed_task_counts_from_when_it_is_to_run",
            "enqueue_unique",
        ],
    ),
    (
        "a refused task leaves its lock behind",
        &["a_refused_task_leaves_no_uniqueness_lock"],
    ),
    (
        "a result written after the end of a task is a hash that takes its id forever",
        &["a_result_for_a_task_that_is_gone_leaves_nothing"],
    ),
    (
        "some deletions release locks and some do not",
        &[
            "deleting_a_list_releases_the_locks_and_archiving_it_does_not",
            "dropping_a_set_releases_no_lock",
            "inspector_delete_all",
        ],
    ),
    (
        "a delayed task of a group runs alone, a failed one goes back to the group",
        &[
            "a_delayed_task_of_a_group_runs_alone",
            "a_failed_task_of_a_group_returns_to_it",
            "schedule_with_group",
            "group_retry",
        ],
    ),
    (
        "the archive keeps 9999 tasks, and trims before it writes",
        &["archive_trim_size", "the_archive_is_trimmed_by_size_oldest_first"],
    ),
    (
        "what counts as a retry, as processed, as failed",
        &[
            "a_retry_without_a_failure_counts_nothing",
            "an_archived_task_keeps_its_error_and_counts_as_failed",
            "retry",
            "archive",
            "done",
        ],
    ),
    (
        "the instant itself is due",
        &[
            "a_delayed_task_waits_for_its_time",
            "completed_tasks_are_deleted_when_their_retention_ends",
            "a_task_whose_worker_fell_silent_is_tried_again",
        ],
    ),
    (
        "losing a race is not an error",
        &[
            "a_verdict_on_a_task_that_is_not_active_is_stale",
            "a_settle_that_is_sent_twice_is_stale_the_second_time",
        ],
    ),
    (
        "who lost the lease must not write, nor bring the lease back",
        &[
            "a_late_verdict_changes_nothing_after_the_lease_was_recovered",
            "a_late_verdict_is_refused_even_when_go_has_the_task",
            "only_our_own_leases_are_extended",
        ],
    ),
    (
        "a cancelled task is not a deleted one, and an active task cannot be deleted",
        &[
            "a_cancelled_attempt_fails_as_in_go_and_is_retried_while_retries_are_left",
            "every_action_of_an_operator_is_the_move_of_the_table",
        ],
    ),
    (
        "two schedulers enqueue twice",
        &[
            "twenty_commits_of_one_occurrence_at_once_make_one_task",
            "scheduler_state",
        ],
    ),
    (
        "a task that was handed back or run has no pending_since",
        &[
            "the_latency_of_a_queue_is_that_of_its_oldest_pending_task",
            "inspector_run_task",
        ],
    ),
    (
        "a client remembers that it listed a queue that was removed since",
        &["a_queue_that_was_taken_off_the_list_is_listed_again"],
    ),
    (
        "staged tasks are on no list, and no operator can touch them",
        &[
            "staged_tasks_are_on_no_list_and_in_no_count",
            "a_staged_task_is_found_but_no_operator_can_touch_it",
            "group",
        ],
    ),
    (
        "days are those of UTC, and their counters get their end once",
        &["counters_restart_with_the_utc_day", "done"],
    ),
    (
        "the names of groups are a hint",
        &[
            "group_retry",
            "a_set_left_behind_by_go_returns_to_its_group",
            "a_group_whose_name_is_missing_is_named_by_the_next_move",
        ],
    ),
    (
        "equal scores are in the order of the bytes of the ids",
        &["tasks_due_at_once_are_forwarded_in_the_order_of_the_bytes_of_their_ids"],
    ),
];

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): every_trap_has_tests_that_exist;
        needs(Redis): a_result_for_a_task_that_is_gone_leaves_nothing,
            a_queue_that_was_taken_off_the_list_is_listed_again,
            a_group_whose_name_is_missing_is_named_by_the_next_move,
            tasks_due_at_once_are_forwarded_in_the_order_of_the_bytes_of_their_ids;
    ]
}

async fn every_trap_has_tests_that_exist() {
    let mut functions = BTreeSet::new();
    for path in files("", &[".rs"]) {
        for line in read(&path).lines() {
            let named = line
                .trim_start()
                .trim_start_matches("pub ")
                .trim_start_matches("async ");
            if let Some((name, _)) = named.strip_prefix("fn ").and_then(|rest| rest.split_once('(')) {
                functions.insert(name.to_owned());
            }
        }
    }
    for (trap, tests) in TRAPS {
        assert!(!tests.is_empty(), "no test shows: {trap}");
        let missing: Vec<_> = tests.iter().filter(|test| !functions.contains(**test)).collect();
        assert!(missing.is_empty(), "{trap}: no such tests: {missing:?}");
    }
}

const LEASE: Duration = Duration::from_secs(30);

async fn open() -> (RedisBroker, MultiplexedConnection, RedisDb) {
    let db = kit::redis().fresh_db();
    let settings = RedisSettings {
        database: i64::from(db.number),
        ..RedisSettings::at(format!("127.0.0.1:{}", db.port))
    };
    let broker = RedisBroker::connect(settings).await.unwrap();
    let link = db.connect().await;
    (broker, link, db)
}

async fn ask<T: redis::FromRedisValue>(link: &mut MultiplexedConnection, words: &[&str]) -> T {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query_async(link).await.unwrap()
}

fn named(id: &str) -> Task {
    Task::new("email:send").id(TaskId::new(id).unwrap())
}

async fn put(broker: &RedisBroker, tasks: &[Task]) {
    for answer in broker.enqueue(tasks).await.unwrap() {
        answer.unwrap();
    }
}

async fn claim(broker: &RedisBroker) -> Vec<Claim> {
    broker.claim(&[QueueName::default()], 9, LEASE).await.unwrap()
}

async fn is_sound(broker: &RedisBroker) {
    assert_eq!(broker.audit().await.unwrap(), Vec::<String>::new());
}

async fn a_result_for_a_task_that_is_gone_leaves_nothing() {
    let (broker, mut link, _db) = open().await;
    put(&broker, &[named("a").retention(Duration::from_secs(60))]).await;
    let claims = claim(&broker).await;
    // Another program deleted everything of it meanwhile.
    let _: i64 = ask(&mut link, &["DEL", "asynq:{default}:t:a"]).await;
    let _: i64 = ask(&mut link, &["LREM", "asynq:{default}:active", "0", "a"]).await;
    let _: i64 = ask(&mut link, &["ZREM", "asynq:{default}:lease", "a"]).await;
    let late = Settlement {
        claim: claims[0].clone(),
        verdict: Verdict::Done,
        result: Some("late".into()),
        attempt: None,
    };
    assert_eq!(broker.settle(&[late]).await.unwrap(), [Settled::Stale]);
    assert_eq!(ask::<i64>(&mut link, &["EXISTS", "asynq:{default}:t:a"]).await, 0);
    put(&broker, &[named("a")]).await;
    is_sound(&broker).await;
}

async fn a_queue_that_was_taken_off_the_list_is_listed_again() {
    let (broker, mut link, _db) = open().await;
    put(&broker, &[named("a")]).await;
    assert_eq!(ask::<i64>(&mut link, &["SREM", "asynq:queues", "default"]).await, 1);
    put(&broker, &[named("b")]).await;
    let queues = broker.queues().await.unwrap();
    assert_eq!(
        queues.iter().map(|q| q.counts[&TaskState::Pending]).collect::<Vec<_>>(),
        [2]
    );
    is_sound(&broker).await;
}

async fn a_group_whose_name_is_missing_is_named_by_the_next_move() {
    let (broker, mut link, _db) = open().await;
    let mut task = named("a");
    task.group = Some("g".to_owned());
    put(&broker, &[task.clone()]).await;
    let _: i64 = ask(&mut link, &["DEL", "asynq:{default}:groups"]).await;
    task.id = TaskId::new("b").ok();
    put(&broker, &[task]).await;
    let page = Page::default();
    let waiting = broker
        .tasks(&QueueName::default(), TaskState::Aggregating, page)
        .await
        .unwrap();
    assert_eq!(waiting.tasks.len(), 2, "the set is the truth");
    is_sound(&broker).await;
}

async fn tasks_due_at_once_are_forwarded_in_the_order_of_the_bytes_of_their_ids() {
    let (broker, _link, _db) = open().await;
    let clock = Arc::new(ManualClock::at(Timestamp::from_second(START).unwrap()));
    let broker = broker.with_clock(clock.clone());
    let ids = ["b", "é", "a", "B", "10", "9"];
    let delay = Duration::from_secs(10);
    put(&broker, &ids.map(|id| named(id).run(Run::In(delay)))).await;
    clock.advance(delay);
    let pass = broker.forward(&[QueueName::default()], 100).await.unwrap();
    assert_eq!(pass.moved, ids.len());
    let claims = claim(&broker).await;
    let order: Vec<&str> = claims.iter().map(|claim| claim.task().id.as_str()).collect();
    let mut sorted = ids;
    sorted.sort_unstable();
    assert_eq!(order, sorted);
    is_sound(&broker).await;
}
