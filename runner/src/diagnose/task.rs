//! Why a task waits, or what ended it.

use jiff::Timestamp;
use runner_core::task::{AttemptOutcome, QueueName, Run, Task, TaskId, TaskState};
use runner_queue::{Attempt, POISON_PREFIX, RunRecord, TaskInfo, Working};

use super::ReasonCode;
use super::reason::{Reason, in_order, is_late};
use super::servers::{BrokerFacts, is_served, name_of};

/// What is known of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskFacts {
    /// Its id; `None` before it is enqueued.
    pub id: Option<TaskId>,
    /// Its type.
    pub kind: String,
    /// Its queue.
    pub queue: QueueName,
    /// Its state.
    pub state: TaskState,
    /// When it runs next: scheduled and retry.
    pub next_run: Option<Timestamp>,
    /// The instant after which no attempt may run.
    pub deadline: Option<Timestamp>,
    /// When its lease ends: active.
    pub lease_until: Option<Timestamp>,
    /// When it will be deleted: completed.
    pub kept_until: Option<Timestamp>,
    /// What it waits for, as noted by a worker.
    pub waiting_for: Option<String>,
    /// Its group.
    pub group: Option<String>,
    /// Retries used.
    pub retried: u32,
    /// Retries allowed.
    pub max_retry: u32,
    /// How the last attempt on record ended.
    pub last_outcome: Option<AttemptOutcome>,
    /// When that attempt began.
    pub last_started_at: Option<Timestamp>,
    /// When it failed last, on any worker.
    pub last_failed_at: Option<Timestamp>,
    /// The error of the last failure; may be empty.
    pub last_error: String,
}

impl TaskFacts {
    /// Of a task in the store, with its attempts from oldest to newest.
    #[must_use]
    pub fn stored(task: &TaskInfo, attempts: &[Attempt]) -> Self {
        let record = &task.record;
        Self {
            id: Some(record.id.clone()),
            kind: record.kind.clone(),
            queue: record.queue.clone(),
            state: task.state,
            next_run: task.next_run,
            deadline: record.deadline,
            lease_until: task.lease_until,
            kept_until: task.filed_at.filter(|_| task.state == TaskState::Completed),
            waiting_for: task.waiting_for.clone(),
            group: record.group.clone(),
            retried: record.retried,
            max_retry: record.max_retry,
            last_outcome: attempts.last().map(|attempt| attempt.outcome),
            last_started_at: attempts.last().map(|attempt| attempt.started_at),
            last_failed_at: record.last_failed_at,
            last_error: record.last_error.clone(),
        }
    }

    /// Of a task that would be enqueued now.
    #[must_use]
    pub fn to_enqueue(task: &Task, now: Timestamp) -> Self {
        let due = match task.run {
            Run::Now => None,
            Run::At(at) => Some(at),
            Run::In(delay) => Some(now.checked_add(delay).unwrap_or(Timestamp::MAX)),
        };
        let next_run = due.filter(|due| *due > now);
        Self {
            id: task.id.clone(),
            kind: task.kind.clone(),
            queue: task.queue.clone(),
            state: match (next_run, &task.group) {
                (Some(_), _) => TaskState::Scheduled,
                (None, Some(_)) => TaskState::Aggregating,
                (None, None) => TaskState::Pending,
            },
            next_run,
            deadline: task.deadline,
            lease_until: None,
            kept_until: None,
            waiting_for: None,
            group: task.group.clone(),
            retried: 0,
            max_retry: task.max_retry,
            last_outcome: None,
            last_started_at: None,
            last_failed_at: None,
            last_error: String::new(),
        }
    }

    fn reason(&self, code: ReasonCode) -> Reason {
        let reason = Reason::new(code).with("queue", self.queue.as_str());
        match &self.id {
            Some(id) => reason.with("task", id.as_str()),
            None => reason,
        }
    }

    /// Why no attempt of this task can run, now or when it is due.
    #[must_use]
    pub fn never_runs(&self, now: Timestamp) -> Option<Reason> {
        let deadline = self.deadline?;
        let due = self.next_run.filter(|due| *due > now);
        if deadline <= now {
            return Some(self.reason(ReasonCode::DeadlinePassed).with("deadline", deadline));
        }
        let due = due.filter(|due| deadline <= *due)?;
        let reason = self.reason(ReasonCode::DeadlineFirst).with("deadline", deadline);
        Some(reason.with("due", due))
    }
}

/// Why a task stays where it is; the most important reason first.
#[must_use]
pub fn why_task(task: &TaskFacts, broker: &BrokerFacts) -> Vec<Reason> {
    in_order(match task.state {
        TaskState::Pending | TaskState::Scheduled | TaskState::Retry | TaskState::Aggregating => waits(task, broker),
        TaskState::Active => broker.refuses().into_iter().chain(runs(task, broker)).collect(),
        TaskState::Archived => vec![archived(task)],
        TaskState::Completed => {
            let until = task
                .kept_until
                .map(|at| task.reason(ReasonCode::Done).with("until", at));
            until.into_iter().collect()
        }
    })
}

/// About a task in the store that cannot be decoded.
#[must_use]
pub fn why_damaged(queue: &QueueName, id: &TaskId, why: &str) -> Reason {
    let reason = Reason::new(ReasonCode::Damaged).with("queue", queue.as_str());
    reason.with("task", id.as_str()).with("why", why)
}

/// About a task that is not stored any more, from the record of its last run.
#[must_use]
pub fn why_gone(record: &RunRecord) -> Reason {
    use AttemptOutcome::{Archived, Cancelled, Lost, NoHandler, Requeued, Retry, Revoked, Snoozed, Success, Unknown};
    let code = match record.outcome {
        Retry | Snoozed | Requeued | NoHandler => ReasonCode::Deleted,
        Archived => ReasonCode::LeftArchive,
        // After a cancellation and a lost run the task may have been retried or archived.
        Success | Revoked | Cancelled | Lost | Unknown => ReasonCode::Gone,
    };
    let reason = Reason::new(code).with("outcome", record.outcome);
    reason.with("at", record.ended_at)
}

/// What blocks a task that has not started.
fn waits(task: &TaskFacts, broker: &BrokerFacts) -> Vec<Reason> {
    let mut found: Vec<Reason> = broker.refuses().into_iter().collect();
    if let Some(what) = &task.waiting_for {
        found.push(match what.strip_prefix("limit ") {
            Some(limit) => task.reason(ReasonCode::WaitsForLimit).with("limit", limit),
            None => task.reason(ReasonCode::WaitsFor).with("what", what.as_str()),
        });
    }
    found.extend(broker.paused(&task.queue));
    let not_taken = broker.not_taken(&task.queue, &task.kind);
    // What it waits for says more than that no server has a handler. A task of a group never runs under its own type.
    let any_type = task.waiting_for.is_some() || task.group.is_some();
    found.extend(not_taken.filter(|reason| !(any_type && reason.code == ReasonCode::TypeNotHandled)));
    found.extend(task.never_runs(broker.now));
    found.extend(in_time(task, broker));
    if task.state == TaskState::Aggregating {
        let group = task.group.as_deref().unwrap_or_default();
        found.push(task.reason(ReasonCode::InGroup).with("group", group));
    }
    if found.is_empty() {
        found.extend(broker.not_yet_taken(&task.queue, &task.kind));
    }
    found
}

/// What a scheduled task or one that waits for its retry waits for.
fn in_time(task: &TaskFacts, broker: &BrokerFacts) -> Option<Reason> {
    let at = task.next_run?;
    let code = match task.state {
        // Nothing is moved while the broker takes no writes.
        _ if is_late(at, broker.now) && broker.fault.is_some() => return None,
        _ if is_late(at, broker.now) && served(task, broker) => ReasonCode::NotMoved,
        _ if is_late(at, broker.now) => ReasonCode::Overdue,
        // One that waits for something else is postponed until the next try: that instant means nothing.
        TaskState::Scheduled if task.waiting_for.is_some() => return None,
        TaskState::Scheduled => ReasonCode::Due,
        TaskState::Retry => ReasonCode::RetryDue,
        _ => return None,
    };
    let reason = task.reason(code).with("at", at);
    Some(reason.with("retried", task.retried).with("max", task.max_retry))
}

/// Whether a live server serves its queue, or may do so: one that does also moves and recovers its tasks.
fn served(task: &TaskFacts, broker: &BrokerFacts) -> bool {
    let servers = broker.servers.as_deref();
    servers.is_none_or(|servers| is_served(servers, task.queue.as_str()))
}

/// Who runs a task, or that its worker fell silent.
fn runs(task: &TaskFacts, broker: &BrokerFacts) -> Option<Reason> {
    let until = task.lease_until.unwrap_or(broker.now);
    if until < broker.now {
        let code = match served(task, broker) {
            true => ReasonCode::LeaseOver,
            false => ReasonCode::LeaseOverAlone,
        };
        // No lease can be extended while the broker takes no writes: that does not concern the worker.
        let reason = broker.fault.is_none().then(|| task.reason(code));
        return reason.map(|reason| reason.with("until", until));
    }
    let is_it = |working: &&Working| task.id.as_ref() == Some(&working.id) && task.queue == working.queue;
    let servers = broker.servers.iter().flatten();
    let mut found = servers.filter_map(|server| Some((server, server.working.iter().find(is_it)?)));
    Some(match found.next() {
        Some((server, working)) => {
            let reason = task.reason(ReasonCode::Running).with("server", name_of(server));
            reason.with("since", working.started_at)
        }
        None => task.reason(ReasonCode::Claimed).with("until", until),
    })
}

/// What ended a task that is in the archive.
fn archived(task: &TaskFacts) -> Reason {
    use AttemptOutcome::{Archived, Cancelled, Lost};
    let failed = match task.last_outcome {
        Some(outcome) => matches!(outcome, Archived | Lost),
        // Go workers keep no record of attempts.
        None => task.last_failed_at.is_some(),
    };
    let too_late = task.deadline.filter(|deadline| Some(*deadline) <= task.last_started_at);
    let code = match task.last_outcome {
        Some(Cancelled) => ReasonCode::Stopped,
        _ if !failed => ReasonCode::Archived,
        // Before the retries: each crash uses one up.
        _ if task.last_error.starts_with(POISON_PREFIX) => ReasonCode::Poison,
        Some(Archived) if too_late.is_some() => ReasonCode::DeadlinePassed,
        _ if task.max_retry == 0 => ReasonCode::NoRetry,
        _ if task.retried >= task.max_retry => ReasonCode::RetriesUsedUp,
        Some(Archived) => ReasonCode::NoFurtherAttempt,
        _ => ReasonCode::Archived,
    };
    let reason = task.reason(code).with("max", task.max_retry);
    match too_late {
        Some(deadline) => reason.with("deadline", deadline),
        None => reason,
    }
}
