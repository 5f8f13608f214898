//! For each scenario of the original library, the clauses of the contract that require the same of every broker.
//!
//! The scenarios are replayed against Redis only; without such a clause, the embedded broker could lose the behaviour
//! unnoticed.

use std::collections::BTreeSet;

use runner_queue::contract;

use crate::kit;

/// Scenario, clauses. If there are none, the reason is beside it.
const COUNTERPARTS: &[(&str, &[&str])] = &[
    ("archive", &["an_archived_task_keeps_its_error_and_counts_as_failed"]),
    ("archive_trim_size", &["the_archive_is_trimmed_by_size_oldest_first"]),
    (
        "batch_enqueue",
        &[
            "an_invalid_task_is_refused_and_its_neighbours_are_not",
            "an_id_is_taken_once_in_a_queue_and_again_in_another",
        ],
    ),
    ("cancelation", &["a_cancellation_reaches_every_listener"]),
    (
        "complete_with_retention",
        &["a_done_task_with_retention_is_kept_with_its_result"],
    ),
    ("done", &["a_done_task_is_gone_and_counted"]),
    // The end of the 64-bit numbers, which only a counter that another program set can reach.
    ("done_total_wraps", &[]),
    ("enqueue", &["tasks_are_claimed_in_the_order_they_were_enqueued"]),
    (
        "enqueue_unique",
        &[
            "a_uniqueness_lock_refuses_the_same_type_and_payload_in_the_same_queue",
            "a_refused_task_leaves_no_uniqueness_lock",
        ],
    ),
    (
        "forward_250",
        &[
            "forward_moves_the_earliest_first",
            "forward_moves_no_more_than_its_limit_and_says_that_there_is_more",
        ],
    ),
    (
        "group",
        &[
            "a_group_is_ripe_when_it_has_its_largest_size",
            "a_stale_set_returns_to_its_group_in_its_old_order",
            "dropping_a_set_deletes_its_tasks_and_counts_nothing",
        ],
    ),
    ("group_retry", &["a_failed_task_of_a_group_returns_to_it"]),
    (
        "inspector_archive_task",
        &["every_action_of_an_operator_is_the_move_of_the_table"],
    ),
    (
        "inspector_delete_all",
        &["deleting_a_list_releases_the_locks_and_archiving_it_does_not"],
    ),
    (
        "inspector_delete_task",
        &["archiving_a_task_keeps_its_lock_and_deleting_it_does_not"],
    ),
    (
        "inspector_lists",
        &[
            "a_list_is_read_page_by_page",
            "timed_lists_are_in_the_order_of_their_times",
        ],
    ),
    (
        "inspector_remove_queue",
        &[
            "a_queue_with_tasks_is_removed_by_force_only",
            "nothing_of_a_removed_queue_is_left",
        ],
    ),
    (
        "inspector_run_all",
        &[
            "a_list_is_run_in_its_order",
            "every_action_on_a_list_is_the_move_of_the_table",
        ],
    ),
    (
        "inspector_run_task",
        &["a_task_that_is_run_now_goes_behind_those_that_wait"],
    ),
    ("inspector_task_info", &["what_a_producer_states_is_what_a_worker_gets"]),
    (
        "lease",
        &[
            "a_lease_that_is_extended_is_not_recovered",
            "only_our_own_leases_are_extended",
        ],
    ),
    (
        "queue_info",
        &[
            "queues_are_listed_by_name_with_a_count_for_every_state",
            "the_latency_of_a_queue_is_that_of_its_oldest_pending_task",
        ],
    ),
    ("requeue", &["a_task_handed_back_is_next_and_unchanged"]),
    (
        "retry",
        &[
            "a_failed_task_waits_for_its_retry_and_carries_the_error",
            "a_retry_without_a_failure_counts_nothing",
        ],
    ),
    ("schedule", &["a_delayed_task_waits_for_its_time"]),
    ("schedule_with_group", &["a_delayed_task_of_a_group_runs_alone"]),
    ("scheduler_state", &["what_a_schedule_enqueued_is_listed_newest_first"]),
    (
        "server_state",
        &[
            "a_server_is_listed_with_what_it_works_on",
            "a_silent_server_is_forgotten",
        ],
    ),
];

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![needs(): every_scenario_has_its_twin_among_the_clauses]
}

async fn every_scenario_has_its_twin_among_the_clauses() {
    let named: Vec<&str> = COUNTERPARTS.iter().map(|(scenario, _)| *scenario).collect();
    let scenarios: Vec<&str> = super::TABLE.iter().map(|(scenario, _)| *scenario).collect();
    assert_eq!(named, scenarios);
    let clauses: BTreeSet<&str> = contract::all().iter().map(|clause| clause.name).collect();
    let counterparts = COUNTERPARTS.iter().flat_map(|(_, counterparts)| *counterparts);
    let missing: Vec<&&str> = counterparts
        .filter(|counterpart| !clauses.contains(*counterpart))
        .collect();
    assert!(missing.is_empty(), "no such clauses: {missing:#?}");
}
