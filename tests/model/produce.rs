//! What the model makes of tasks that are enqueued.

use runner_core::task::{Run, Task, TaskId, TaskState};
use runner_queue::{Enqueued, Refusal, TaskRecord};

use super::op::PAYLOADS;
use super::world::{Entry, Lock, World, later};

impl World {
    /// Enqueues each on its own. Ids that the broker drew are taken from its answers.
    pub fn enqueue(&mut self, tasks: &[Task], answers: &[Result<Enqueued, Refusal>]) -> Vec<Result<Enqueued, Refusal>> {
        let drawn = |n: usize| answers.get(n).and_then(|a| a.as_ref().ok()).map(|e| e.id.clone());
        let mut expected = Vec::with_capacity(tasks.len());
        for (n, task) in tasks.iter().enumerate() {
            let id = task.id.clone().or_else(|| drawn(n));
            expected.push(self.enqueue_one(task, id.unwrap_or_else(TaskId::random)));
        }
        // Tasks that nothing can refuse are written together, behind the others of their call.
        for (task, answer) in tasks.iter().zip(&expected) {
            if let (None, None, Ok(accepted)) = (&task.id, &task.unique, answer) {
                self.arrivals += 1;
                self.entry(&task.queue, &accepted.id).arrival = self.arrivals;
            }
        }
        expected
    }

    fn enqueue_one(&mut self, task: &Task, id: TaskId) -> Result<Enqueued, Refusal> {
        task.check()?;
        let now = self.now;
        let key = task.unique.map(|_| lock_key(task));
        let queue = self.queue(&task.queue);
        if key.as_ref().is_some_and(|key| queue.locks.contains_key(key)) {
            return Err(Refusal::Duplicate);
        }
        if queue.tasks.contains_key(&id) {
            return Err(Refusal::IdTaken);
        }
        queue.known = true;
        let due = match task.run {
            Run::Now => now,
            Run::At(at) => at.max(now),
            Run::In(delay) => later(now, delay),
        };
        let state = match &task.group {
            _ if due > now => TaskState::Scheduled,
            Some(_) => TaskState::Aggregating,
            None => TaskState::Pending,
        };
        if let (Some(key), Some(unique)) = (&key, task.unique) {
            let lock = Lock {
                holder: id.clone(),
                until: later(due, unique.ttl),
            };
            queue.locks.insert(key.clone(), lock);
        }
        if state == TaskState::Pending {
            queue.pending.push_back(id.clone());
        }
        self.arrivals += 1;
        let entry = Entry {
            record: record_of(task, id.clone(), key),
            state,
            at: due,
            pending_since: (state == TaskState::Pending).then_some(now),
            result: None,
            waiting_for: None,
            run: 0,
            claimed: 0,
            arrival: self.arrivals,
            attempts: Vec::new(),
            claimed_at: now,
            lost: 0,
            grouped: state == TaskState::Aggregating,
        };
        self.queue(&task.queue).tasks.insert(id.clone(), entry);
        Ok(Enqueued {
            id,
            queue: task.queue.clone(),
            state,
            run_at: (state != TaskState::Aggregating).then_some(due),
        })
    }
}

/// The lock's name within its queue.
fn lock_key(task: &Task) -> String {
    let payload = task.payload.as_deref();
    let known = PAYLOADS.iter().find(|(text, _)| text.map(str::as_bytes) == payload);
    format!("unique:{}:{}", task.kind, known.expect("a payload of the list").1)
}

fn record_of(task: &Task, id: TaskId, unique_key: Option<String>) -> TaskRecord {
    let bare = task.timeout.is_none() && task.deadline.is_none();
    TaskRecord {
        id,
        kind: task.kind.clone(),
        payload: task.payload.clone().unwrap_or_default(),
        queue: task.queue.clone(),
        max_retry: task.max_retry,
        retried: 0,
        timeout: if bare {
            runner_core::task::DEFAULT_TIMEOUT
        } else {
            task.timeout.unwrap_or_default()
        },
        deadline: task.deadline,
        retention: task.retention,
        unique_key,
        group: task.group.clone(),
        headers: task.headers.clone(),
        last_error: String::new(),
        last_failed_at: None,
        completed_at: None,
    }
}
