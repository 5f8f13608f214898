//! Runs that left no record but whose tasks are still there: completed ones while their retention lasts, and archived ones.
//! So what workers in Go have run is seen as far as it can be.
//!
//! Not here: records, which outlive their tasks (`runs`).

use runner_core::task::{AttemptOutcome, QueueName, TaskState, TraceContext};

use super::{Broker, BrokerResult, MAX_RUN_ERROR_BYTES, Page, RunRecord, TaskInfo};

/// Tasks of a queue and state that are searched, the newest.
const SEARCHED: Page = Page { number: 1, size: 200 };

/// Adds the tasks of a type that have ended and of which `runs`, all that have a record, has none; newest first, at most
/// `limit` in all. When such a run began and on which worker is not known: its worker is empty, and it begins when it ends.
///
/// # Errors
///
/// Those of the broker.
pub async fn add_seen_runs(
    broker: &dyn Broker,
    kind: &str,
    queues: &[QueueName],
    limit: usize,
    runs: &mut Vec<RunRecord>,
) -> BrokerResult<()> {
    let known: Vec<_> = runs.iter().map(|run| (run.queue.clone(), run.task.clone())).collect();
    let is_known = |info: &TaskInfo| {
        known
            .iter()
            .any(|(queue, id)| *queue == info.record.queue && *id == info.record.id)
    };
    for queue in queues {
        for state in [TaskState::Completed, TaskState::Archived] {
            let found = broker.tasks(queue, state, SEARCHED).await?.tasks.into_iter();
            let ended = found.filter(|info| info.record.kind == kind && !is_known(info));
            runs.extend(ended.filter_map(|info| seen(info, kind)));
        }
    }
    runs.sort_by_key(|run| std::cmp::Reverse(run.ended_at));
    runs.truncate(limit);
    Ok(())
}

/// `None` for a task that nothing has run, as one that an operator archived.
fn seen(info: TaskInfo, kind: &str) -> Option<RunRecord> {
    let record = info.record;
    let (ended_at, outcome) = match info.state {
        TaskState::Completed => (record.completed_at?, AttemptOutcome::Success),
        _ => (record.last_failed_at?, AttemptOutcome::Archived),
    };
    let (trigger, event) = record.started_by();
    let end = record.last_error.floor_char_boundary(MAX_RUN_ERROR_BYTES);
    Some(RunRecord {
        function: super::runs_of_type(kind),
        schedule: None,
        trigger,
        event,
        planned: None,
        attempt: record.retried.saturating_add(1),
        started_at: ended_at,
        ended_at,
        outcome,
        worker: String::new(),
        error: (outcome == AttemptOutcome::Archived).then(|| record.last_error[..end].to_owned()),
        output: None,
        output_cut: false,
        retry_left: false,
        trace: TraceContext::of(&record.headers).map(|trace| trace.trace_id().to_string()),
        task: record.id,
        queue: record.queue,
    })
}
