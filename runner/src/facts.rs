//! Asks the broker for the facts that `diagnose` judges: one look for pages and commands.

use std::collections::BTreeSet;

use runner_core::schedule::{Definition, Plan};
use runner_core::task::{QueueName, TaskId, priority_of};
use runner_queue::{
    Broker, BrokerError, BrokerResult, Decision, MAX_RUNS_KEPT, RunRecord, ServerView, Standing, StepEnd, WorkflowHead,
    WorkflowStepView, add_seen_runs, runs_of_type,
};

use crate::diagnose::{BrokerFacts, Reason, ScheduleFacts, TaskFacts, why_damaged, why_schedule, why_task};
use crate::health::{BrokerFault, fault_now};
use crate::queue_pause;

/// Queues of higher priority that are read: about a millisecond of the store.
const HIGHER_QUEUES: usize = 50;

/// Decisions to pass to [`of_schedule`]: enough to find the last one about an occurrence, and a correction of the
/// cursor.
pub const DECISIONS: usize = 100;

/// What is known of the servers and of this queue now.
///
/// # Errors
///
/// Those of the broker.
pub async fn of_queue(broker: &dyn Broker, queue: &QueueName) -> BrokerResult<BrokerFacts> {
    of_queues(broker, std::slice::from_ref(queue)).await
}

/// The same of several queues.
///
/// # Errors
///
/// Those of the broker.
pub async fn of_queues(broker: &dyn Broker, queues: &[QueueName]) -> BrokerResult<BrokerFacts> {
    let (now, servers) = tokio::try_join!(broker.now(), broker.servers())?;
    let mut names: BTreeSet<QueueName> = queues.iter().cloned().collect();
    let above: Vec<(&QueueName, &ServerView)> = queues.iter().flat_map(|queue| strict(&servers, queue)).collect();
    if !above.is_empty() {
        // A pattern is replaced by the queues that match.
        let known = broker.queue_names().await?;
        let before = known
            .into_iter()
            .filter(|other| above.iter().any(|(queue, server)| comes_before(server, other, queue)));
        names.extend(before.take(HIGHER_QUEUES));
    }
    let names: Vec<QueueName> = names.into_iter().collect();
    let queues = broker.queues_of(&names).await?;
    Ok(BrokerFacts {
        now,
        pauses: queue_pause::of_paused(broker, &queues).await?,
        queues,
        servers: Some(servers),
        ..BrokerFacts::default()
    })
}

/// Why the broker takes no tasks for this queue now: for commands, which do not watch it.
///
/// # Errors
///
/// If it does not answer at all.
pub async fn fault_of(broker: &dyn Broker, queue: &QueueName) -> BrokerResult<Option<BrokerFault>> {
    let now = broker.now().await?;
    Ok(fault_now(broker, std::slice::from_ref(queue), now).await)
}

/// The same as [`of_queue`], and whether the broker takes writes now.
///
/// # Errors
///
/// Those of the broker.
pub async fn of_queue_now(broker: &dyn Broker, queue: &QueueName) -> BrokerResult<BrokerFacts> {
    let facts = of_queue(broker, queue).await?;
    let fault = fault_now(broker, std::slice::from_ref(queue), facts.now).await;
    Ok(BrokerFacts { fault, ..facts })
}

/// Why this task waits, or what ended it, as a command sees it; `None` if it does not exist.
///
/// # Errors
///
/// Those of the broker.
pub async fn of_task(broker: &dyn Broker, queue: &QueueName, id: &TaskId) -> BrokerResult<Option<Vec<Reason>>> {
    let stored = async { tokio::try_join!(broker.glance(queue, id), broker.attempts(queue, id)) };
    let (task, attempts) = match stored.await {
        Err(BrokerError::Corrupt { what, .. }) => return Ok(Some(vec![why_damaged(queue, id, &what)])),
        stored => stored?,
    };
    let Some(task) = task else { return Ok(None) };
    let facts = of_queue_now(broker, queue).await?;
    Ok(Some(why_task(&TaskFacts::stored(&task, &attempts), &facts)))
}

/// The problem of a schedule that calls a function which no manifest defines.
const NO_FUNCTION: &str = "W212";

/// Why this schedule of a plan does not fire, or its last task does not run. `decisions`: newest first.
///
/// # Errors
///
/// Those of the broker.
pub async fn of_schedule(
    broker: &dyn Broker,
    plan: &Plan,
    definition: &Definition,
    standing: Option<&Standing>,
    decisions: &[Decision],
    fault: Option<BrokerFault>,
) -> BrokerResult<Vec<Reason>> {
    let queue = &definition.task.queue;
    let facts = of_queue(broker, queue).await?;
    let facts = BrokerFacts { fault, ..facts };
    let last = match standing.and_then(|standing| standing.last.as_ref()) {
        Some((_, id)) => async { tokio::try_join!(broker.glance(queue, id), broker.attempts(queue, id)) }.await,
        None => Ok(Default::default()),
    };
    let (task, attempts) = match last {
        // A damaged task does not keep its schedule from firing.
        Err(BrokerError::Corrupt { .. }) => Default::default(),
        last => last?,
    };
    let last = task.map(|task| (TaskFacts::stored(&task, &attempts), task.record.last_error));
    let facts_of_schedule = ScheduleFacts {
        definition,
        standing,
        decisions,
        superseded: plan.superseded.contains(&definition.id),
        no_function: plan
            .problems_of(&definition.id)
            .any(|problem| problem.code == NO_FUNCTION),
        last_task: last.as_ref().map(|(task, error)| (task, error.as_str())),
    };
    Ok(why_schedule(&facts_of_schedule, &facts))
}

/// Steps of a workflow that are shown at most; failed ones come first.
const STEPS_SHOWN: usize = 50;

/// Steps of a workflow that are read in one call.
const STEPS_READ: u32 = 500;

/// The steps of a workflow that have failed, then the first that were enqueued and have not ended; at most fifty.
///
/// # Errors
///
/// Those of the broker.
pub async fn unfinished_steps(broker: &dyn Broker, head: &WorkflowHead) -> BrokerResult<Vec<WorkflowStepView>> {
    let (mut failed, mut open) = (Vec::new(), Vec::new());
    let sent = head.plan.steps_of(head.place.sent);
    // A step may have failed while its stage was being enqueued.
    let (mut from, to) = (0, head.plan.steps_of(head.place.sent.saturating_add(1)));
    while from < to && failed.len() < STEPS_SHOWN {
        for step in broker.workflow_steps(&head.id, from, STEPS_READ.min(to - from)).await? {
            let list = match step.end {
                Some(StepEnd::Done(_)) => continue,
                Some(StepEnd::Failed(_)) => &mut failed,
                None if step.number < sent => &mut open,
                None => continue,
            };
            if list.len() < STEPS_SHOWN {
                list.push(step);
            }
        }
        from += STEPS_READ;
    }
    failed.append(&mut open);
    failed.truncate(STEPS_SHOWN);
    Ok(failed)
}

/// Before a name that is only that of a task type.
pub const TYPE: &str = "type:";

/// The runs of a function that are kept, newest first; of a task type, which is returned too, if no function of this name has any,
/// or if the name is [`TYPE`] and the type.
///
/// # Errors
///
/// Those of the broker.
pub async fn runs_named(
    broker: &dyn Broker,
    name: &str,
    queues: &[QueueName],
) -> BrokerResult<(Vec<RunRecord>, Option<String>)> {
    let only_type = name.strip_prefix(TYPE);
    if only_type.is_none() {
        let runs = broker.runs(name, queues, MAX_RUNS_KEPT).await?;
        if !runs.is_empty() {
            return Ok((runs, None));
        }
    }
    let kind = only_type.unwrap_or(name);
    let mut runs = broker.runs(&runs_of_type(kind), queues, MAX_RUNS_KEPT).await?;
    add_seen_runs(broker, kind, queues, MAX_RUNS_KEPT, &mut runs).await?;
    Ok((runs, Some(kind.to_owned())))
}

/// This queue with each server that serves it and takes tasks of others first.
fn strict<'a>(
    servers: &'a [ServerView],
    queue: &'a QueueName,
) -> impl Iterator<Item = (&'a QueueName, &'a ServerView)> {
    let others_first = |server: &&ServerView| {
        let own = priority_of(queue, named(server));
        server.info.strict_priority && own.is_some() && named(server).any(|(_, n)| Some(n) > own)
    };
    servers.iter().filter(others_first).map(move |server| (queue, server))
}

/// Whether a server of strict priority takes the tasks of `other` first.
fn comes_before(server: &ServerView, other: &QueueName, queue: &QueueName) -> bool {
    priority_of(other, named(server)) > priority_of(queue, named(server))
}

/// The queues and patterns that a server names, with their priorities.
fn named(server: &ServerView) -> impl Iterator<Item = (&str, u32)> {
    server.info.queues.iter().map(|(name, n)| (name.as_str(), *n))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use jiff::Timestamp;
    use runner_queue::{ServerInfo, ServerStatus};

    use super::*;

    #[test]
    fn queues_named_by_a_pattern_come_first_as_well() {
        let queue = |name: &str| QueueName::new(name).unwrap();
        let server = ServerView {
            info: ServerInfo {
                host: "host".to_owned(),
                pid: 7,
                id: "id".to_owned(),
                concurrency: 2,
                queues: BTreeMap::from([("vip-*".to_owned(), 10), ("low".to_owned(), 1)]),
                strict_priority: true,
                status: ServerStatus::Active,
                started_at: Timestamp::UNIX_EPOCH,
                active: 1,
                handlers: Vec::new(),
            },
            working: Vec::new(),
        };
        assert!(comes_before(&server, &queue("vip-a"), &queue("low")));
        assert!(!comes_before(&server, &queue("other"), &queue("low")));
        let servers = [server];
        let asked = |name: &str| strict(&servers, &queue(name)).count();
        assert_eq!((asked("low"), asked("vip-a"), asked("other")), (1, 0, 0));
    }
}
