//! Replays what the original library did, operation by operation, and compares the whole of Redis.
//!
//! The vectors in `tests/data/asynq-vectors/ops` contain the content of Redis after each operation of asynq. Each scenario
//! that the seam can express is replayed through our broker with the same clock. Our broker may add the hash field `run`
//! and keys under `runner:`; every other difference is stated in the scenario, with its reason. After each comparison the
//! broker's own audit must pass. Not here: single messages and key names, which are compared inside the broker's room.

mod bulk;
mod counterparts;
mod produce;
mod replay;
mod schedule;
mod state;
mod store;
mod work;

use std::collections::BTreeSet;

use crate::kit;

/// Every scenario of the vectors, and its coverage here.
const TABLE: &[(&str, &str)] = &[
    ("archive", "covered"),
    (
        "archive_trim_size",
        "covered; ours deletes the tasks of trimmed ids in both forms",
    ),
    ("batch_enqueue", "covered"),
    ("cancelation", "covered"),
    (
        "complete_with_retention",
        "covered; a result is written with the verdict, not before",
    ),
    ("done", "covered"),
    ("done_total_wraps", "covered"),
    ("enqueue", "covered"),
    (
        "enqueue_unique",
        "covered; ours leaves no lock behind when the id is taken",
    ),
    ("forward_250", "covered"),
    ("group", "covered; the random id of the staged set is ours"),
    (
        "group_retry",
        "covered; ours names the group again, and knows since when a task that was run is pending",
    ),
    ("inspector_archive_task", "covered"),
    (
        "inspector_delete_all",
        "covered; ours releases the locks of pending and grouped tasks too",
    ),
    ("inspector_delete_task", "covered"),
    (
        "inspector_lists",
        "covered; a task that cannot be read is left out instead of shown empty",
    ),
    (
        "inspector_remove_queue",
        "covered; ours leaves nothing behind, and takes no queue with completed or grouped tasks for empty",
    ),
    (
        "inspector_run_all",
        "covered; ours knows since when a task that was run is pending",
    ),
    (
        "inspector_run_task",
        "covered; ours knows since when a task that was run is pending",
    ),
    ("inspector_task_info", "covered"),
    ("lease", "covered; leases that ran out are not listed but taken back"),
    ("queue_info", "covered"),
    ("requeue", "covered"),
    ("retry", "covered"),
    ("schedule", "covered"),
    ("schedule_with_group", "covered"),
    (
        "scheduler_state",
        "covered for entries and events; ours never clears them before they expire",
    ),
    (
        "server_state",
        "covered; ours tells no payloads, and lists queues and removes dead workers on the way",
    ),
];

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    let mut tests = kit::trials![needs(): the_table_names_every_scenario];
    tests.extend(produce::tests());
    tests.extend(work::tests());
    tests.extend(state::tests());
    tests.extend(schedule::tests());
    tests.extend(bulk::tests());
    tests.extend(counterparts::tests());
    tests
}

async fn the_table_names_every_scenario() {
    let files: BTreeSet<String> = std::fs::read_dir(replay::vectors())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let table: BTreeSet<String> = TABLE.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(table, files);
    let replayed: BTreeSet<String> = [
        produce::tests(),
        work::tests(),
        state::tests(),
        schedule::tests(),
        bulk::tests(),
    ]
    .iter()
    .flatten()
    .map(|trial| trial.name().rsplit("::").next().unwrap().to_owned())
    .collect();
    for (name, fate) in TABLE {
        let covered = fate.starts_with("covered");
        assert_eq!(replayed.contains(*name), covered, "{name}: {fate}");
    }
}
