//! What is doubtful about a task that is put on a queue by hand, and why it was refused: beyond what the broker says.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use runner_core::function::{FunctionKind, Functions};
use runner_core::task::{FUNCTION_PREFIX, QueueName, Run, Task, TaskId, priority_of};
use runner_queue::{Broker, Refusal};
use runner_sdk::Registry;

use crate::source::{self, Rejected};
use crate::text::nearest;

/// Why a task of this type may wait for ever, as far as can be told here.
pub(super) fn of_type(functions: &Functions, rejected: &[Rejected], kind: &str) -> Option<String> {
    if let Some(name) = kind.strip_prefix(FUNCTION_PREFIX) {
        let broken = rejected.iter().find(|r| r.name == name);
        return match (functions.get(name).map(|f| f.kind.clone()), broken) {
            (None, Some(broken)) => Some(format!(
                "{} has errors, so queue, retry, timeout and retention of the function {name:?} are not known here",
                broken.origin.place
            )),
            (None, None) => {
                let names = functions.names();
                let meant = meant(name, names.iter().map(String::as_str), FUNCTION_PREFIX);
                Some(format!(
                    "no manifest here defines the function {name:?}; the task waits for one{meant}"
                ))
            }
            (Some(FunctionKind::Handler { kind }), _) => Some(format!(
                "the function {name:?} is run by the handler {kind:?}; did you mean {kind}?"
            )),
            (Some(_), _) => None,
        };
    }
    let built_in = handlers::register(Registry::new()).build().is_ok_and(|h| h.knows(kind));
    let function = functions.get(kind).filter(|f| f.task_type() != kind && !built_in)?;
    Some(format!(
        "{kind:?} is the name of a function; did you mean {}?",
        function.task_type()
    ))
}

/// Why the function that is called can do nothing with the payload.
pub(super) fn of_payload(functions: &Functions, task: &Task) -> Option<String> {
    let name = task.kind.strip_prefix(FUNCTION_PREFIX)?;
    source::doubt_of_payload(name, &functions.get(name)?.kind, task.payload.as_deref()?)
}

/// Why a task of this queue may wait for ever. `own`: the queues of the worker of these settings.
pub(super) async fn of_queue(broker: &dyn Broker, own: &BTreeMap<QueueName, u32>, queue: &QueueName) -> Option<String> {
    // Who may not ask does without.
    let servers = broker.servers().await.ok()?;
    let mut served: BTreeSet<String> = servers.iter().flat_map(|s| s.info.queues.keys().cloned()).collect();
    if servers.is_empty() {
        served.extend(own.keys().map(ToString::to_string));
        served.extend(broker.queue_names().await.ok()?.iter().map(ToString::to_string));
    }
    let named = served.iter().map(|name| (name.as_str(), 1));
    if priority_of(queue, named).is_some() {
        return None;
    }
    let meant = meant(queue.as_str(), served.iter().map(String::as_str), "");
    Some(if servers.is_empty() {
        format!(
            "the queue {queue} is new, and `worker.queues` does not name it; its tasks wait for a server that does{meant}"
        )
    } else {
        format!("no running server serves the queue {queue}; its tasks wait for one{meant}")
    })
}

fn meant<'a>(word: &str, known: impl IntoIterator<Item = &'a str>, prefix: &str) -> String {
    nearest(word, known).map_or_else(String::new, |near| format!("; did you mean {prefix}{near}?"))
}

/// Why no attempt of this task could ever run.
pub(super) fn of_deadline(task: &Task, now: Timestamp) -> Option<String> {
    let deadline = task.deadline?;
    let begins = match task.run {
        Run::Now => now,
        Run::At(at) => at.max(now),
        Run::In(delay) => now.checked_add(delay).unwrap_or(Timestamp::MAX),
    };
    if deadline <= now {
        Some(format!("the deadline {deadline} has passed: no attempt could run"))
    } else if deadline <= begins {
        Some(format!(
            "the deadline {deadline} comes before the task is to run ({begins})"
        ))
    } else {
        None
    }
}

/// The refusal, and which task stands in the way.
pub(super) async fn refusal(broker: &dyn Broker, task: &Task, refusal: &Refusal) -> String {
    let other = match refusal {
        Refusal::Duplicate => broker.lock_holder(task).await.ok().flatten(),
        Refusal::IdTaken => task.id.clone(),
        Refusal::Invalid(_) => None,
    };
    let Some(other) = other else {
        return refusal.to_string();
    };
    let state = state(broker, task, &other).await;
    match refusal {
        Refusal::Duplicate => format!(
            "{refusal}: {other} in queue {} ({state}) holds the lock of this type and payload",
            task.queue
        ),
        _ => format!("{refusal}: {other} in queue {} ({state})", task.queue),
    }
}

async fn state(broker: &dyn Broker, task: &Task, id: &TaskId) -> String {
    match broker.task(&task.queue, id).await {
        Ok(Some(info)) => info.state.to_string(),
        Ok(None) => "gone; a lock that it left stays until its time is over".to_owned(),
        Err(_) => "in a state that cannot be read".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_task_that_could_never_run_is_doubted() {
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        let mut task = Task::new("a");
        assert_eq!(of_deadline(&task, now), None);
        task.deadline = Some(now);
        assert!(of_deadline(&task, now).is_some_and(|why| why.contains("has passed")));
        task.deadline = "2026-11-22T11:00:00Z".parse().ok();
        assert_eq!(of_deadline(&task, now), None);
        task.run = Run::In(std::time::Duration::from_secs(7200));
        assert!(of_deadline(&task, now).is_some_and(|why| why.contains("comes before")));
    }
}
