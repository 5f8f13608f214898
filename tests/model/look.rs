//! Queries of the dashboard in the model.

use std::collections::BTreeMap;
use std::time::Duration;

use runner_core::task::{QueueName, TaskId, TaskState};
use runner_queue::{DayCount, MAX_HISTORY_DAYS, QueueInfo, TaskInfo, TaskPage};

use super::world::{Entry, World};

/// The tasks of a queue in one state, in order.
pub type List = (QueueName, TaskState, Vec<TaskInfo>);

/// Active locks: queue and key, and the holder of each.
pub type Locks = BTreeMap<(String, String), String>;

impl World {
    /// All lists that are not empty.
    pub fn lists(&self) -> Vec<List> {
        let mut lists = Vec::new();
        for name in self.queues.keys() {
            for state in TaskState::ALL {
                let ids = self.shown(name, state);
                if !ids.is_empty() {
                    let tasks = ids.iter().filter_map(|id| self.info(name, id));
                    lists.push((name.clone(), state, tasks.collect()));
                }
            }
        }
        lists
    }

    pub fn queue_infos(&self) -> Vec<QueueInfo> {
        let known = self.queues.iter().filter(|(_, queue)| queue.known);
        known.map(|(name, _)| self.queue_info(name)).collect()
    }

    fn queue_info(&self, name: &QueueName) -> QueueInfo {
        let queue = &self.queues[name];
        let mut counts: BTreeMap<TaskState, u64> = TaskState::ALL.map(|state| (state, 0)).into();
        for entry in queue.tasks.values() {
            *counts.entry(entry.state).or_default() += 1;
        }
        let oldest = queue.pending.front().and_then(|id| queue.tasks[id].pending_since);
        let today = queue.days.get(&self.today()).copied().unwrap_or_default();
        QueueInfo {
            name: name.clone(),
            counts,
            paused: queue.paused,
            latency: oldest.map_or(Duration::ZERO, |since| {
                Duration::try_from(self.now.duration_since(since)).unwrap()
            }),
            processed_today: today.0,
            failed_today: today.1,
            processed: queue.counted.0,
            failed: queue.counted.1,
        }
    }

    /// Ids in a list as shown: ended tasks newest first.
    fn shown(&self, name: &QueueName, state: TaskState) -> Vec<TaskId> {
        let mut ids = self.list(name, state);
        if matches!(state, TaskState::Archived | TaskState::Completed) {
            ids.reverse();
        }
        ids
    }

    pub fn page(&self, name: &QueueName, state: TaskState, number: usize, size: usize) -> TaskPage {
        let ids = self.shown(name, state);
        let shown = ids.iter().skip((number - 1) * size).take(size);
        TaskPage {
            tasks: shown.filter_map(|id| self.info(name, id)).collect(),
            unreadable: Vec::new(),
            total: ids.len() as u64,
        }
    }

    pub fn info(&self, name: &QueueName, id: &TaskId) -> Option<TaskInfo> {
        let entry = self.peek(name, id)?;
        let at = |states: &[TaskState]| states.contains(&entry.state).then_some(entry.at);
        Some(TaskInfo {
            record: entry.record.clone(),
            state: entry.state,
            next_run: at(&[TaskState::Scheduled, TaskState::Retry]),
            pending_since: entry.pending_since,
            lease_until: at(&[TaskState::Active]),
            filed_at: at(&[TaskState::Archived, TaskState::Completed]),
            result: entry.result.clone(),
            payload_bytes: entry.record.payload.len() as u64,
            result_bytes: entry.result.as_ref().map_or(0, |result| result.len() as u64),
            waiting_for: entry.waiting_for.clone(),
        })
    }

    pub fn find(&self, id: &TaskId) -> Vec<QueueName> {
        let having = self.queues.iter().filter(|(_, queue)| queue.tasks.contains_key(id));
        having.map(|(name, _)| name.clone()).collect()
    }

    pub fn history(&self, name: &QueueName, days: usize) -> Vec<DayCount> {
        let counted = self.queues.get(name).map(|queue| &queue.days);
        let mut history = Vec::new();
        let mut day = self.today();
        for _ in 0..days.clamp(1, MAX_HISTORY_DAYS) {
            let sums = counted.and_then(|days| days.get(&day)).copied().unwrap_or_default();
            history.push(DayCount {
                day,
                processed: sums.0,
                failed: sums.1,
            });
            day = day.yesterday().unwrap();
        }
        history
    }

    pub fn locks(&self) -> Locks {
        let mut locks = BTreeMap::new();
        for (name, queue) in &self.queues {
            for (key, lock) in &queue.locks {
                locks.insert((name.to_string(), key.clone()), lock.holder.to_string());
            }
        }
        locks
    }

    /// The n-th task of a queue by arrival, if it has that many.
    pub fn nth(&self, name: &QueueName, nth: usize) -> Option<TaskId> {
        let mut entries: Vec<&Entry> = self.queues.get(name)?.tasks.values().collect();
        entries.sort_by_key(|e| e.arrival);
        entries.get(nth).map(|e| e.record.id.clone())
    }
}
