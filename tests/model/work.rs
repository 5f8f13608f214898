//! Operations of workers in the model.

use std::collections::BTreeMap;
use std::time::Duration;

use runner_core::schedule::stable_hash;
use runner_core::task::{AttemptOutcome, QueueName, TaskId, TaskState, recovery_delay};
use runner_queue::{
    ArchiveBounds, Attempt, Claim, Forwarded, LEASE_EXPIRED, Recovered, Settled, Settlement, Swept, TaskRecord, Verdict,
};

use super::op::HANDLERS;
use super::world::{World, later};

/// The server recorded with claims.
pub const SERVER: (&str, u32) = ("host", 1);

/// The expected claim; its run must only be higher than all before.
#[derive(Debug, PartialEq, Eq)]
pub struct Taken {
    pub record: TaskRecord,
    pub lease_until: jiff::Timestamp,
}

/// An empty result does not replace the previous one.
fn keep_result(result: &mut Option<bytes::Bytes>, settlement: &Settlement) {
    if let Some(new) = settlement.result.clone().filter(|r| !r.is_empty()) {
        *result = Some(new);
    }
}

impl World {
    pub fn claim(&mut self, queues: &[QueueName], max: usize, lease: Duration) -> Vec<Taken> {
        let until = later(self.now, lease);
        let mut taken = Vec::new();
        for name in queues {
            if self.queue(name).paused {
                continue;
            }
            while taken.len() < max {
                let Some(id) = self.queue(name).pending.pop_front() else {
                    break;
                };
                self.shift(name, &id, TaskState::Active, until);
                let now = self.now;
                let nth = self.queue(name).claims + 1;
                self.queue(name).claims = nth;
                let entry = self.entry(name, &id);
                entry.claimed = nth;
                entry.claimed_at = now;
                let record = entry.record.clone();
                let lease_until = until;
                taken.push(Taken { record, lease_until });
            }
        }
        taken
    }

    /// One call made these claims; their numbers are above those of all earlier calls.
    pub fn note_runs(&mut self, claims: &[Claim]) -> Result<(), String> {
        for claim in claims {
            let task = claim.task();
            if claim.run() <= self.queue(&task.queue).last_run {
                return Err(format!("run {} of {} is not above all before", claim.run(), task.id));
            }
            self.entry(&task.queue, &task.id).run = claim.run();
        }
        for claim in claims {
            self.queue(&claim.task().queue).last_run = claim.run();
        }
        Ok(())
    }

    /// Whether the holder still has its claim.
    pub fn holds(&self, name: &QueueName, id: &TaskId, run: u64) -> bool {
        self.peek(name, id)
            .is_some_and(|e| e.state == TaskState::Active && e.run == run)
    }

    pub fn settle(&mut self, settlements: &[Settlement]) -> Vec<Settled> {
        let mut back: BTreeMap<QueueName, Vec<TaskId>> = BTreeMap::new();
        let mut answers = Vec::with_capacity(settlements.len());
        for settlement in settlements {
            let (claim, task) = (&settlement.claim, settlement.claim.task());
            let given_back = back.get(&task.queue).is_some_and(|ids| ids.contains(&task.id));
            if given_back || !self.holds(&task.queue, &task.id, claim.run()) {
                answers.push(Settled::Stale);
                continue;
            }
            if settlement.verdict == Verdict::HandBack {
                back.entry(task.queue.clone()).or_default().push(task.id.clone());
            } else {
                self.end(&task.queue, &task.id, settlement);
            }
            let was_run = !matches!(
                settlement.verdict,
                Verdict::HandBack
                    | Verdict::Snooze {
                        waiting_for: Some(_),
                        ..
                    }
            );
            if was_run && self.peek(&task.queue, &task.id).is_some() {
                self.entry(&task.queue, &task.id).lost = 0;
            }
            if let Some(attempt) = &settlement.attempt {
                self.remember(&task.queue, &task.id, attempt.clone());
            }
            answers.push(Settled::Accepted);
        }
        // Before all others, in the given order.
        for (name, ids) in back {
            for id in ids.into_iter().rev() {
                self.shift(&name, &id, TaskState::Pending, self.now);
                let since = self.dialect.times_returned_tasks().then_some(self.now);
                self.entry(&name, &id).pending_since = since;
                self.queue(&name).pending.push_front(id);
            }
        }
        answers
    }

    fn end(&mut self, name: &QueueName, id: &TaskId, settlement: &Settlement) {
        let now = self.now;
        match &settlement.verdict {
            Verdict::Revoke => {
                self.count(name, false);
                self.delete(name, id);
            }
            Verdict::Done => {
                self.count(name, false);
                let keep = self.entry(name, id).record.retention;
                if keep < Duration::from_secs(1) {
                    return self.delete(name, id);
                }
                self.unlock(name, id);
                self.shift(name, id, TaskState::Completed, later(now, keep));
                let entry = self.entry(name, id);
                entry.record.completed_at = Some(now);
                keep_result(&mut entry.result, settlement);
            }
            Verdict::Retry { after, error, counts } => {
                keep_result(&mut self.entry(name, id).result, settlement);
                self.fail(name, id, Some(*after), error, *counts);
            }
            Verdict::Archive { error } => {
                keep_result(&mut self.entry(name, id).result, settlement);
                self.fail(name, id, None, error, false);
            }
            Verdict::Snooze { delay, waiting_for } => {
                self.shift(name, id, TaskState::Scheduled, later(now, *delay));
                self.entry(name, id).waiting_for = waiting_for.clone();
            }
            Verdict::HandBack => unreachable!("handed back together"),
        }
    }

    /// An attempt failed: retried after a while, or never. Only the former counts as a retry, if it counts.
    fn fail(&mut self, name: &QueueName, id: &TaskId, after: Option<Duration>, error: &str, counts: bool) {
        let now = self.now;
        let entry = self.entry(name, id);
        error.clone_into(&mut entry.record.last_error);
        entry.record.last_failed_at = Some(now);
        entry.record.retried += u32::from(counts);
        match after {
            Some(after) => self.shift(name, id, TaskState::Retry, later(now, after)),
            None => self.put_in_archive(name, id),
        }
        if counts || after.is_none() {
            self.count(name, true);
        }
    }

    /// Returns for each claim whether it was extended.
    pub fn extend(&mut self, claims: &[runner_queue::Claim], lease: Duration) -> Vec<Option<jiff::Timestamp>> {
        let until = later(self.now, lease);
        let ends = claims.iter().map(|claim| {
            let task = claim.task();
            let held = self.holds(&task.queue, &task.id, claim.run());
            held.then(|| self.entry(&task.queue, &task.id).at = until)
                .map(|()| until)
        });
        ends.collect()
    }

    /// With `more` the next due time is irrelevant: the next pass comes at once.
    pub fn forward(&mut self, queues: &[QueueName], limit: usize) -> Forwarded {
        let mut pass = Forwarded::default();
        for name in queues {
            for state in [TaskState::Scheduled, TaskState::Retry] {
                let due = self.due(name, state, self.now);
                pass.more |= due.len() > limit;
                for id in due.iter().take(limit) {
                    pass.moved += 1;
                    if self.entry(name, id).grouped {
                        self.shift(name, id, TaskState::Aggregating, self.now);
                    } else {
                        self.put_back(name, id);
                    }
                }
                let left = self.queue(name).tasks.values().filter(|e| e.state == state);
                let next = left.map(|e| e.at).min();
                pass.next_due = [pass.next_due, next].into_iter().flatten().min();
            }
        }
        pass
    }

    pub fn recover(
        &mut self,
        queues: &[QueueName],
        grace: Duration,
        limit: usize,
        poison_after: u32,
    ) -> Vec<Recovered> {
        let cutoff = self.now.checked_sub(grace).unwrap();
        let mut recovered = Vec::new();
        for name in queues {
            for id in self.due(name, TaskState::Active, cutoff) {
                if recovered.len() == limit {
                    return recovered;
                }
                recovered.push(self.recover_one(name, &id, poison_after));
            }
        }
        recovered
    }

    fn recover_one(&mut self, name: &QueueName, id: &TaskId, poison_after: u32) -> Recovered {
        let entry = self.entry(name, id);
        let record = entry.record.clone();
        // None of these runs is recorded as alone, so none is proof, and the count stops one short of the limit.
        let lost = match poison_after {
            0 => entry.lost + 1,
            most => (entry.lost + 1).min(most - 1).max(1),
        };
        let again = record.retries_left();
        entry.lost = if again { lost } else { 0 };
        let error = LEASE_EXPIRED.to_owned();
        let attempt = Attempt {
            number: record.retried + 1,
            started_at: entry.claimed_at,
            ended_at: self.now,
            outcome: AttemptOutcome::Lost,
            error: Some(LEASE_EXPIRED.to_owned()),
            server: format!("{}:{}", SERVER.0, SERVER.1),
            log: None,
        };
        let after = again.then(|| recovery_delay(record.retried, stable_hash(&[record.id.as_str()])));
        self.fail(name, id, after, &error, again);
        self.remember(name, id, attempt);
        Recovered {
            queue: name.clone(),
            id: id.clone(),
            kind: record.kind,
            state: if again { TaskState::Retry } else { TaskState::Archived },
            lost,
            poison: false,
        }
    }

    pub fn sweep(&mut self, queues: &[QueueName], limit: usize, archive: ArchiveBounds) -> Swept {
        let mut pass = Swept::default();
        for name in queues {
            let mut ended = self.due(name, TaskState::Completed, self.now);
            ended.truncate(limit);
            for id in &ended {
                self.delete(name, id);
            }
            let expired = ended.len();
            let room = if self.dialect.sweeps_under_one_limit() {
                limit - expired
            } else {
                limit
            };
            self.queue(name).archive = archive;
            let trimmed = self.trim(name, room);
            pass.expired += expired;
            pass.trimmed += std::mem::take(&mut self.queue(name).trimmed);
            pass.more |= expired == limit || trimmed == room;
        }
        pass
    }

    /// Released ids of each queue. The broker chooses the order in which they come back.
    pub fn release(&mut self, queues: &[QueueName], handlers: &[usize]) -> Vec<(QueueName, Vec<TaskId>)> {
        let matches = |kind: &str| {
            handlers.iter().any(|n| match HANDLERS[*n].strip_suffix('*') {
                Some(prefix) => kind.starts_with(prefix),
                None => kind == HANDLERS[*n],
            })
        };
        let mut all = Vec::new();
        for name in queues {
            let waiting = self.queue(name).tasks.values();
            let waiting = waiting.filter(|e| e.waiting_for.is_some() && matches(&e.record.kind));
            let ids: Vec<TaskId> = waiting.map(|e| e.record.id.clone()).collect();
            for id in &ids {
                self.put_back(name, id);
            }
            all.push((name.clone(), ids));
        }
        all
    }
}
